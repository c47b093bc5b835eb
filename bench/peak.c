/* ./peak THREADS SECONDS prints the GFLOP/s of fused multiply-adds that need nothing but registers.

   Every thread keeps so many independent chains in registers that none waits for another; the
   instruction is written in assembly, so that the compiler neither moves them to memory nor leaves
   them out. */

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define TWELVE(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define TWELVE_MORE(X) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23)

#if defined(__AVX512F__)
#define BYTES 64
#define CHAINS 24
#define KEEP(i) __asm__ volatile("" : : "v"(a##i));
#define STEP(i) __asm__ volatile("vfmadd231ps %1, %2, %0" : "+v"(a##i) : "v"(x), "v"(y));
#elif defined(__FMA__)
#define BYTES 32
#define CHAINS 12
#define KEEP(i) __asm__ volatile("" : : "x"(a##i));
#define STEP(i) __asm__ volatile("vfmadd231ps %1, %2, %0" : "+x"(a##i) : "x"(x), "x"(y));
#elif defined(__aarch64__)
#define BYTES 16
#define CHAINS 24
#define KEEP(i) __asm__ volatile("" : : "w"(a##i));
#define STEP(i) __asm__ volatile("fmla %0.4s, %1.4s, %2.4s" : "+w"(a##i) : "w"(x), "w"(y));
#else
#error "no fused multiply-add that this file knows"
#endif

#if CHAINS == 24
#define EACH(X) TWELVE(X) TWELVE_MORE(X)
#else
#define EACH(X) TWELVE(X)
#endif

typedef float vector __attribute__((vector_size(BYTES)));

static pthread_barrier_t together;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#define START(i) vector a##i = x;
#define ROUNDS 100000

/* A function of its own: beside calls of others the compiler would keep the chains in memory. */
static __attribute__((noinline)) void chains(void) {
    vector x, y;
    for (unsigned i = 0; i < BYTES / sizeof(float); i++) x[i] = 1e-3f, y[i] = 1.25e-3f;
    EACH(START)
    for (int i = 0; i < ROUNDS; i++) {
        EACH(STEP) EACH(STEP) EACH(STEP) EACH(STEP)
    }
    EACH(KEEP)
}

static void *work(void *argument) {
    double *seconds = argument, done = 0, past = 0;
    pthread_barrier_wait(&together);
    double begun = now();
    while (past < *seconds) {
        chains();
        done += (double)ROUNDS * 4 * CHAINS * 2 * BYTES / sizeof(float);
        past = now() - begun;
    }
    *seconds = done / past;
    return NULL;
}

int main(int count, char **words) {
    int threads = count > 1 ? atoi(words[1]) : 1;
    double rates[256], total = 0;
    pthread_t handles[256];
    if (threads < 1 || threads > 256) return 2;
    pthread_barrier_init(&together, NULL, (unsigned)threads);
    for (int i = 0; i < threads; i++) {
        rates[i] = count > 2 ? atof(words[2]) : 0.2;
        if (pthread_create(&handles[i], NULL, work, &rates[i])) return 1;
    }
    for (int i = 0; i < threads; i++) pthread_join(handles[i], NULL), total += rates[i];
    printf("%.3f\n", total * 1e-9);
    return 0;
}
