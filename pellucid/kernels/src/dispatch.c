/* Which instruction set, and the functions that Python calls: each runs under IEEE-754's defaults,
   one at a time. */

#include <string.h>

#include "kernels.h"

#ifndef PELLUCID_SOURCES
#define PELLUCID_SOURCES "" /* Built by other means than setup.py. */
#endif

/* Digest of the sources this library was built from. Python calls functions by the sources'
   signatures: a library of older sources would read arguments that are not there. */
const char *pellucid_sources(void) { return PELLUCID_SOURCES; }

static int runs(const char *name) {
    if (!strcmp(name, "scalar") || !strcmp(name, "software")) return 1;
#if X86
    __builtin_cpu_init();
    if (!strcmp(name, "avx512"))
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx2") &&
               __builtin_cpu_supports("fma");
    if (!strcmp(name, "avx2"))
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
#if ARM
    if (!strcmp(name, "neon")) return 1;
#endif
    return 0;
}

/* NULL where this CPU, or this build, does not have it. */
const struct operations *pellucid_choose(const char *name) {
    if (!runs(name)) return NULL;
#if X86
    if (!strcmp(name, "avx512")) return &operations_avx512;
    if (!strcmp(name, "avx2")) return &operations_avx2;
    if (!strcmp(name, "scalar"))
        return __builtin_cpu_supports("fma") ? &operations_scalar : &operations_software;
#elif ARM
    if (!strcmp(name, "neon")) return &operations_neon;
    if (!strcmp(name, "scalar")) return &operations_scalar;
#endif
    return &operations_software;
}

const char *pellucid_best(void) {
    static const char *const order[] = {"avx512", "avx2", "neon"};
    for (int i = 0; i < 3; i++)
        if (runs(order[i])) return order[i];
    return "scalar";
}

static const struct operations *chosen;

/* Take an instruction set and a number of threads; returns how many threads there are, 0 for an
   unknown name. */
int pellucid_start(const char *isa, int threads) {
    const struct operations *operations = pellucid_choose(isa);
    if (!operations) return 0;
    pool_enter();
    chosen = operations;
    int got = pool_resize(threads);
    pool_leave();
    return got;
}

/* NULL, or the name of the first operation whose bits are not the golden ones. */
const char *pellucid_self_test(int whole) {
    environment before = environment_enter();
    pool_enter();
    const char *wrong = pellucid_check(chosen, whole, NULL);
    pool_leave();
    environment_leave(before);
    return wrong;
}

/* The environment is set before the lock is taken and put back after it: whoever waits for the lock
   runs no arithmetic meanwhile. One call at a time, because the pool, its buffers and `chosen` are
   one for the process. */
#define GUARDED(call)                                                                              \
    environment before = environment_enter();                                                      \
    pool_enter();                                                                                  \
    call;                                                                                          \
    pool_leave();                                                                                  \
    environment_leave(before);

int pellucid_product(long M, long N, long K, const float *a, long a_row, long a_col, const float *b,
                     long b_row, long b_col, const float *start, float *c) {
    int failed;
    GUARDED(failed = chosen->product(M, N, K, a, a_row, a_col, b, b_row, b_col, start, c))
    return failed;
}

int pellucid_gram(long M, long K, const float *a, long a_row, long a_col, float *c) {
    int failed;
    GUARDED(failed = chosen->gram(M, K, a, a_row, a_col, c))
    return failed;
}

int pellucid_norm(long M, long D, const float *x, const float *w, double epsilon, float *y,
                  float *r_M) {
    /* epsilon is rounded here and not by the caller, whose rounding mode may be another. */
    GUARDED(chosen->norm(M, D, x, w, (float)epsilon, y, r_M))
    return 0;
}

int pellucid_norm_backward(long M, long D, const float *x, const float *w, const float *r_M,
                           const float *dy, const float *past, float *dx, float *dw) {
    int failed;
    GUARDED(failed = chosen->norm_backward(M, D, x, w, r_M, dy, past, dx, dw))
    return failed;
}

int pellucid_swiglu(long n, const float *a, const float *u, float *h) {
    GUARDED(chosen->swiglu(n, a, u, h))
    return 0;
}

int pellucid_swiglu_backward(long n, const float *a, const float *u, const float *dh, float *da,
                             float *du) {
    GUARDED(chosen->swiglu_backward(n, a, u, dh, da, du))
    return 0;
}

int pellucid_attention(long B, long T, long H, long K, long C, const float *q, const float *k,
                       const float *v, const float *cos, const float *sin, const int32_t *first_BT,
                       float *o, float *m, float *g) {
    struct attention_shape shape = {B, T, H, K, C};
    int failed;
    GUARDED(failed = chosen->attention(shape, q, k, v, cos, sin, first_BT, o, m, g))
    return failed;
}

int pellucid_attention_backward(long B, long T, long H, long K, long C, const float *q,
                                const float *k, const float *v, const float *cos, const float *sin,
                                const int32_t *first_BT, const float *o, const float *m,
                                const float *g, const float *dout, float *dq, float *dk,
                                float *dv) {
    struct attention_shape shape = {B, T, H, K, C};
    int failed;
    GUARDED(failed = chosen->attention_backward(shape, q, k, v, cos, sin, first_BT, o, m, g, dout,
                                                dq, dk, dv))
    return failed;
}

/* Columns of a panel of keys or values that a text keeps. */
int pellucid_tile(void) { return (int)chosen->tile; }

/* texts_G: six int64 a text, as kept.h has them. */
int pellucid_attention_kept(long G, long T, long H, long K, long C, long sees, const float *q,
                            const float *k, const float *v, const float *cos, const float *sin,
                            const struct kept_text *texts_G, float *o) {
    struct attention_shape shape = {G, T, H, K, C};
    int failed;
    GUARDED(failed = chosen->attention_kept(shape, sees, q, k, v, cos, sin, texts_G, o))
    return failed;
}

int pellucid_loss(long M, long V, long D, const float *x, const float *w, const int64_t *targets_M,
                  const float *softmax_M, const float *onehot_M, float *losses_M, float *log_sums_M,
                  float *dx, float *dw) {
    int failed;
    GUARDED(failed = chosen->loss(M, V, D, x, w, targets_M, softmax_M, onehot_M, losses_M,
                                  log_sums_M, dx, dw))
    return failed;
}

int pellucid_embed(long M, long D, const int64_t *tokens_M, const float *e, float *x) {
    GUARDED(chosen->embed(M, D, tokens_M, e, x))
    return 0;
}

int pellucid_embed_backward(long M, long V, long D, const int64_t *tokens_M, const float *dx,
                            float *de) {
    int failed;
    GUARDED(failed = chosen->embed_backward(M, V, D, tokens_M, dx, de))
    return failed;
}

int pellucid_add(long n, const float *a, const float *b, float *out) {
    GUARDED(chosen->add(n, a, b, out))
    return 0;
}

int pellucid_axpby(long n, double a, float *x, double b, const float *y) {
    /* a and b are rounded here and not by the caller, whose rounding mode may be another. */
    GUARDED(chosen->axpby(n, (float)a, x, (float)b, y))
    return 0;
}

int pellucid_sum_of_squares(long n, const float *x, double *out) {
    int failed;
    GUARDED(failed = chosen->sum_of_squares(n, x, out))
    return failed;
}

int pellucid_adamw(long n, double lr, double beta1, double beta2, double epsilon,
                   double weight_decay, int64_t step, double clip, float *p, const float *g,
                   float *m, float *v, double *out) {
    struct adamw how = {lr, beta1, beta2, epsilon, weight_decay, step, 1.0f};
    int failed;
    GUARDED(how.clip = (float)clip; failed = chosen->adamw(n, how, p, g, m, v, out))
    return failed;
}

int pellucid_rotary_table(long T, long C, double theta, float *cos, float *sin) {
    environment before = environment_enter();
    pellucid_rotary(T, C, theta, cos, sin);
    environment_leave(before);
    return 0;
}

int pellucid_initial_values(uint64_t key, long start, long n, double std, double divisor_squared,
                            float *out) {
    environment before = environment_enter();
    double s = divisor_squared > 0.0 ? std / pellucid_sqrt(divisor_squared) : std;
    pellucid_initial(key, start, n, s * pellucid_sqrt(3.0), out);
    environment_leave(before);
    return 0;
}

/* The root of sums of squares that are added in the order given. */
double pellucid_norm_of(long n, const double *sums) {
    environment before = environment_enter();
    double total = sums[0];
    for (long i = 1; i < n; i++) total = total + sums[i];
    total = pellucid_sqrt(total);
    environment_leave(before);
    return total;
}

/* A function of f64 by its number, for objectives and tests: ln, exp, sine, cosine, power of 3. */
double pellucid_function(int which, double x, double y) {
    environment before = environment_enter();
    double sine, cosine, out;
    pellucid_sincos(which == 2 || which == 3 ? x : 0.0, &sine, &cosine);
    out = which == 0   ? pellucid_ln(x)
          : which == 1 ? pellucid_exp(x)
          : which == 2 ? sine
          : which == 3 ? cosine
                       : 0.0;
    if (which == 4) out = pellucid_power(x, (int64_t)y);
    environment_leave(before);
    return out;
}
