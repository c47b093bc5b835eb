/* The C interface of portable arithmetic, version 1. Every order is written in docs/arithmetic.md,
   section 2.

   One set of sources is compiled once for each instruction set (isa_*.c include body.h); what they
   have in common stands here. Matrices are row-major float32 without gaps unless a stride is given.
   Functions that allocate return 0, or 1 where memory ran out; their outputs are undefined in that
   case. */

#ifndef PELLUCID_KERNELS_H
#define PELLUCID_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __FAST_MATH__
#error "portable arithmetic cannot be built with -ffast-math: remove it from CFLAGS"
#endif
#include <float.h>
/* 16 is 0 but for _Float16, which nothing here uses. GCC reports it for CPUs with FP16. */
#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16
#error "portable arithmetic needs floats that round to float (FLT_EVAL_METHOD 0); x86: -mfpmath=sse"
#endif

#if defined(__x86_64__)
#define X86 1
#else
#define X86 0
#endif
#if defined(__aarch64__)
#define ARM 1
#else
#define ARM 0
#endif

#define BLOCK 256 /* A product sum is cut here: section 2.1. */
/* The same for sums over rows in a norm and over queries in attention, whose terms are of uneven
   size. */
#define SHORT_BLOCK 64
#define LANES 16

struct attention_shape {
    long batch, length, heads, kv_heads, width; /* B, T, H, K, C */
};

/* A text that grows (kept.h). What it keeps of a layer are panels, for each key-value head: keys
   [P / tile][C][tile], values [W / tile][P][tile], where W is C rounded up to a tile. */
struct kept_text {
    int64_t keys, values; /* Addresses. */
    int64_t room;         /* P: the positions that there is room for, in whole tiles. */
    int64_t past, count;  /* So many positions are kept, and so many come now. */
    int64_t row;          /* Where those begin in q, k, v and o. */
};

struct adamw {
    double lr, beta1, beta2, epsilon, weight_decay;
    int64_t step;
    float clip; /* The factor on gradients: 1, or clip / norm. */
};

/* What each instruction set provides. Shapes: M rows, N columns, K summed; T positions; V
   vocabulary; D width. */
struct operations {
    const char *name;
    long tile; /* Columns of a panel. */
    int (*product)(long M, long N, long K, const float *a, long a_row, long a_col, const float *b,
                   long b_row, long b_col, const float *start, float *c);
    int (*gram)(long M, long K, const float *a, long a_row, long a_col, float *c);
    void (*norm)(long M, long D, const float *x, const float *w, float epsilon, float *y,
                 float *r_M);
    int (*norm_backward)(long M, long D, const float *x, const float *w, const float *r_M,
                         const float *dy, const float *past, float *dx, float *dw);
    void (*swiglu)(long n, const float *a, const float *u, float *h);
    void (*swiglu_backward)(long n, const float *a, const float *u, const float *dh, float *da,
                            float *du);
    int (*attention)(struct attention_shape shape, const float *q, const float *k, const float *v,
                     const float *cos, const float *sin, const int32_t *first_BT, float *o,
                     float *m_BHT, float *g_BHT);
    int (*attention_backward)(struct attention_shape shape, const float *q, const float *k,
                              const float *v, const float *cos, const float *sin,
                              const int32_t *first_BT, const float *o, const float *m_BHT,
                              const float *g_BHT, const float *dout, float *dq, float *dk,
                              float *dv);
    int (*attention_kept)(struct attention_shape shape, long sees, const float *q, const float *k,
                          const float *v, const float *cos, const float *sin,
                          const struct kept_text *texts_G, float *o);
    int (*loss)(long M, long V, long D, const float *x, const float *w, const int64_t *targets_M,
                const float *softmax_M, const float *onehot_M, float *losses_M, float *log_sums_M,
                float *dx, float *dw);
    void (*embed)(long M, long D, const int64_t *tokens_M, const float *e, float *x);
    int (*embed_backward)(long M, long V, long D, const int64_t *tokens_M, const float *dx,
                          float *de);
    void (*add)(long n, const float *a, const float *b, float *out);
    void (*axpby)(long n, float a, float *x, float b, const float *y);
    int (*sum_of_squares)(long n, const float *x, double *out);
    int (*adamw)(long n, struct adamw how, float *p, const float *g, float *m, float *v,
                 double *sum_of_squares);
};

extern const struct operations operations_scalar, operations_software;
#if X86
extern const struct operations operations_avx2, operations_avx512, operations_fma;
#endif
#if ARM
extern const struct operations operations_neon;
#endif

/* functions.c: f64, the same for all. */
double pellucid_ln(double x);
double pellucid_exp(double x);
void pellucid_sincos(double a, double *sine, double *cosine);
double pellucid_power(double base, int64_t exponent);
double pellucid_sqrt(double x);
double pellucid_tree(double *sums, long n);
void pellucid_rotary(long length, long width, double theta, float *cos, float *sin);
void pellucid_initial(uint64_t key, long start, long n, double scale, float *out);

/* pool.c */
typedef void task(void *arguments, long index, int worker);
void pool_run(task *run, void *arguments, long count);
int pool_threads(void);
int pool_resize(int threads); /* Returns how many it has now. */
void pool_enter(void);        /* One caller at a time: the scratch memory is shared. */
void pool_leave(void);

enum buffer { BUFFER_B, BUFFER_B2, BUFFER_WORK, BUFFER_LOGITS, BUFFERS };
void *buffer_get(enum buffer which, size_t bytes); /* Grown and kept; NULL where memory ran out. */
void buffer_free_all(void);

/* environment.c: IEEE-754's defaults, whatever a library loaded before us has switched on. */
typedef uint64_t environment;
environment environment_enter(void);
void environment_leave(environment before);

/* dispatch.c */
const struct operations *pellucid_choose(const char *name);
const char *pellucid_best(void);

/* selftest.c: every operation on fixed inputs, held against golden.h. */
struct golden {
    const char *name;
    uint64_t digest;
};
/* Runs the quick or the whole set; shows each digest to `see` where it is not NULL; returns the
   name of the first that is not golden, "memory" where memory ran out, or NULL. */
const char *pellucid_check(const struct operations *ops, int whole,
                           void (*see)(const char *name, uint64_t digest));

#endif
