// Proves that run.sh's machine has AVX-512 and threads: 512-bit FMA on two threads against scalar
// fma, bit for bit. With a number as its argument it also times that many millions of 512-bit FMA.
#include <immintrin.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 16, STEPS = 1000 };

struct job {
    float a[LANES], b[LANES], sum[LANES];
};

__attribute__((target("avx512f"))) static void *work(void *of) {
    struct job *job = of;
    __m512 a = _mm512_loadu_ps(job->a), b = _mm512_loadu_ps(job->b), sum = _mm512_setzero_ps();
    for (int i = 0; i < STEPS; i++) sum = _mm512_fmadd_ps(a, b, _mm512_mul_ps(sum, a));
    _mm512_storeu_ps(job->sum, sum);
    return NULL;
}

__attribute__((target("avx512f"))) static void spin(long millions) {
    __m512 sum = _mm512_set1_ps(1), a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
    for (long i = 0; i < millions * 1000000; i++) {
        sum = _mm512_fmadd_ps(sum, a, b);
        __asm__ volatile("" : "+v"(sum));
    }
}

int main(int argc, char **argv) {
    const char *wanted[] = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma", "avx2"};
    int has[] = {__builtin_cpu_supports("avx512f"),  __builtin_cpu_supports("avx512bw"),
                 __builtin_cpu_supports("avx512dq"), __builtin_cpu_supports("avx512vl"),
                 __builtin_cpu_supports("fma"),      __builtin_cpu_supports("avx2")};
    for (int i = 0; i < 6; i++) printf("%s %s\n", wanted[i], has[i] ? "yes" : "no");
    if (!has[0]) return 3;
    struct job jobs[2];
    pthread_t threads[2];
    for (int t = 0; t < 2; t++) {
        for (int lane = 0; lane < LANES; lane++) {
            jobs[t].a[lane] = 0.9f + 0.01f * (float)(lane + 3 * t);
            jobs[t].b[lane] = 1.0f / (float)(lane + 7 + t);
        }
        if (pthread_create(&threads[t], NULL, work, &jobs[t])) return 4;
    }
    for (int t = 0; t < 2; t++) {
        pthread_join(threads[t], NULL);
        for (int lane = 0; lane < LANES; lane++) {
            float sum = 0;
            for (int i = 0; i < STEPS; i++) {
                volatile float product = sum * jobs[t].a[lane];
                sum = fmaf(jobs[t].a[lane], jobs[t].b[lane], product);
            }
            if (memcmp(&sum, &jobs[t].sum[lane], sizeof sum)) {
                printf("thread %d lane %d: %a, scalar %a\n", t, lane, (double)jobs[t].sum[lane],
                       (double)sum);
                return 5;
            }
        }
    }
    puts("two threads: 512-bit FMA equals scalar fma, bit for bit");
    if (argc > 1) spin(atol(argv[1]));
    return 0;
}
