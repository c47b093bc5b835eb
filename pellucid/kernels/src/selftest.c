/* Every operation, forward and backward, on inputs from Philox: shapes that fit no tile, values
   from denormal to huge. A digest is FNV-1a over the results' bytes, little-endian on every
   machine, and every NaN taken as one. */

#include <stdlib.h>
#include <string.h>

#include "kernels.h"

#include "golden.h" /* After what it is made of. */

struct check {
    const struct operations *ops;
    const struct golden *golden;
    void (*see)(const char *name, uint64_t digest);
    const char *wrong;
    uint64_t digest, key;
    float *memory, *next, *end;
    int extreme;
};

static float *take(struct check *p, long n) {
    float *out = p->next;
    p->next += n;
    return p->next <= p->end ? out : (abort(), NULL);
}

/* Uniform values; with extremes, every eleventh is one of a few that break careless code. */
static float *input(struct check *p, long n, double scale) {
    static const float odd[] = {
        0.0f,    -0.0f, 0x1p-149f,   -0x1.8p-140f, 0x1p-126f, 0x1.fffffep+60f,
        -1e-20f, 3e25f, -0x1.0p-75f, 1.0f,         -88.0f,    0x1.000002p+0f};
    float *out = take(p, n);
    pellucid_initial(p->key++, 0, n, scale, out);
    for (long i = 7; p->extreme && i < n; i += 11) out[i] = odd[(i / 11) % 12];
    return out;
}

static int64_t *tokens(struct check *p, long n, long vocabulary) {
    int64_t *out = (int64_t *)take(p, 2 * n + 2);
    out = (int64_t *)(((uintptr_t)out + 7) & ~(uintptr_t)7);
    for (long i = 0; i < n; i++) out[i] = (i * i * 7 + i / 3) % vocabulary;
    return out;
}

static void hash(struct check *p, uint64_t bits, int bytes) {
    for (int i = 0; i < bytes; i++, bits >>= 8)
        p->digest = (p->digest ^ (bits & 0xff)) * 0x100000001b3ULL;
}

static void result(struct check *p, const float *x, long n) {
    for (long i = 0; i < n; i++) {
        uint32_t bits = 0x7fc00000;
        if (x[i] == x[i]) memcpy(&bits, x + i, 4);
        hash(p, bits, 4);
    }
}

static void result_f64(struct check *p, double x) {
    uint64_t bits = 0x7ff8000000000000ULL;
    if (x == x) memcpy(&bits, &x, 8);
    hash(p, bits, 8);
}

static void begin(struct check *p) {
    p->digest = 0xcbf29ce484222325ULL, p->key = 1, p->next = p->memory;
}

static void end(struct check *p, const char *name, int failed) {
    if (p->see) p->see(name, p->digest);
    int known = p->golden->name && !strcmp(p->golden->name, name) && p->golden->digest == p->digest;
    if (!p->wrong && (failed || !known)) p->wrong = failed ? "memory" : name;
    if (p->golden->name) p->golden++;
}

/* Every transposition, then the same accumulating. */
static int products(struct check *p, long M, long N, long K) {
    const float *a = input(p, M * K, 1.0), *b = input(p, K * N, 1.0);
    float *c = take(p, M * N);
    int failed = 0;
    for (int form = 0; form < 8; form++) {
        int a_turned = form & 1, b_turned = form & 2, accumulate = form & 4;
        failed |= p->ops->product(M, N, K, a, a_turned ? 1 : K, a_turned ? M : 1, b,
                                  b_turned ? 1 : N, b_turned ? K : 1, accumulate ? c : NULL, c);
        result(p, c, M * N);
    }
    return failed;
}

/* By rows, then by columns. */
static int grams(struct check *p, long M, long K) {
    const float *a = input(p, M * K, 1.0);
    float *c = take(p, M * M);
    int failed = p->ops->gram(M, K, a, K, 1, c);
    result(p, c, M * M);
    failed |= p->ops->gram(M, K, a, 1, M, c);
    result(p, c, M * M);
    return failed;
}

static int norms(struct check *p, long M, long D) {
    const float *x = input(p, M * D, 2.0), *w = input(p, D, 1.5), *dy = input(p, M * D, 1.0),
                *past = input(p, M * D, 1.0);
    float *y = take(p, M * D), *r = take(p, M), *dx = take(p, M * D), *dw = take(p, D);
    p->ops->norm(M, D, x, w, 1e-5f, y, r);
    result(p, y, M * D);
    int failed = p->ops->norm_backward(M, D, x, w, r, dy, NULL, dx, dw);
    result(p, dx, M * D), result(p, dw, D);
    failed |= p->ops->norm_backward(M, D, x, w, r, dy, past, dx, dw);
    result(p, dx, M * D), result(p, dw, D);
    return failed;
}

static void swiglus(struct check *p, long n) {
    const float *a = input(p, n, 20.0), *u = input(p, n, 3.0), *dh = input(p, n, 1.0);
    float *h = take(p, n), *da = take(p, n), *du = take(p, n);
    p->ops->swiglu(n, a, u, h);
    p->ops->swiglu_backward(n, a, u, dh, da, du);
    result(p, h, n), result(p, da, n), result(p, du, n);
}

static int attentions(struct check *p, struct attention_shape s, int within) {
    long rows = s.batch * s.length, queries = rows * s.heads * s.width,
         keys = rows * s.kv_heads * s.width;
    const float *q = input(p, queries, 2.0), *k = input(p, keys, 2.0), *v = input(p, keys, 1.0),
                *dout = input(p, queries, 1.0);
    float *o = take(p, queries), *dq = take(p, queries), *dk = take(p, keys), *dv = take(p, keys);
    float *m = take(p, rows * s.heads), *g = take(p, rows * s.heads);
    float *cos = take(p, s.length * s.width / 2), *sin = take(p, s.length * s.width / 2);
    int32_t *first = (int32_t *)take(p, rows);
    /* Documents of 1, 8, 27, … positions where attention keeps within. */
    for (long i = 0, start = 0; i < rows; i++) {
        long t = i % s.length;
        if (t == 0) start = 0;
        if (within && (t == 1 || t == 9 || t == 36 || t == 100 || t == 225)) start = t;
        first[i] = (int32_t)start;
    }
    pellucid_rotary(s.length, s.width, 10000.0, cos, sin);
    result(p, cos, s.length * s.width / 2), result(p, sin, s.length * s.width / 2);
    int failed = p->ops->attention(s, q, k, v, cos, sin, first, o, m, g);
    failed |= p->ops->attention_backward(s, q, k, v, cos, sin, first, o, m, g, dout, dq, dk, dv);
    result(p, o, queries), result(p, dq, queries), result(p, dk, keys), result(p, dv, keys);
    return failed;
}

/* A text in three pieces, the second of one position, beside another that comes whole with the
   first piece: shape is of one of them. */
static int kept(struct check *p, struct attention_shape s, long sees) {
    long T = s.length, Q = s.heads * s.width, N = s.kv_heads * s.width, tile = p->ops->tile,
         room = (T + tile - 1) / tile * tile, W = (s.width + tile - 1) / tile * tile;
    const float *q = input(p, 2 * T * Q, 2.0), *k = input(p, 2 * T * N, 2.0),
                *v = input(p, 2 * T * N, 1.0);
    float *o = take(p, 2 * T * Q), *cos = take(p, T * s.width / 2), *sin = take(p, T * s.width / 2);
    pellucid_rotary(T, s.width, 10000.0, cos, sin);
    struct kept_text texts[2];
    for (long i = 0; i < 2; i++)
        texts[i] = (struct kept_text){(intptr_t)take(p, s.kv_heads * room * s.width),
                                      (intptr_t)take(p, s.kv_heads * room * W),
                                      room,
                                      0,
                                      T,
                                      i * T};
    long ends[] = {T / 3, T / 3 + 1, T}, failed = 0;
    for (long i = 0, past = 0; i < 3; past = ends[i++]) {
        s.batch = i ? 1 : 2;
        texts[0].past = texts[0].row = past, texts[0].count = ends[i] - past;
        failed |= p->ops->attention_kept(s, sees, q, k, v, cos, sin, texts, o);
    }
    result(p, o, 2 * T * Q);
    return (int)failed;
}

/* As pre-training has it, one coefficient for all rows; or others for the softmax and for the
   target. */
static int losses(struct check *p, long M, long V, long D, int weighed) {
    const float *x = input(p, M * D, 2.0), *w = input(p, V * D, 1.0);
    const int64_t *targets = tokens(p, M, V);
    float *out = take(p, M), *log_sums = take(p, M), *dx = take(p, M * D), *dw = take(p, V * D);
    float *softmax = take(p, M), *onehot = take(p, M);
    for (long i = 0; i < M; i++) {
        softmax[i] = onehot[i] = 1.0f / (float)M;
        if (weighed)
            softmax[i] = (float)(i % 5) * 0.375f - 0.5f, onehot[i] = (float)(i % 3) * 0.25f;
    }
    int failed = p->ops->loss(M, V, D, x, w, targets, softmax, onehot, out, log_sums, dx, dw);
    result(p, out, M), result(p, dx, M * D), result(p, dw, V * D);
    if (weighed) result(p, log_sums, M);
    failed |= p->ops->loss(M, V, D, x, w, targets, NULL, NULL, out, log_sums, NULL, NULL);
    result(p, out, M);
    if (weighed) result(p, log_sums, M);
    return failed;
}

static int embeddings(struct check *p, long M, long V, long D) {
    const float *e = input(p, V * D, 1.0), *dx = input(p, M * D, 1.0);
    const int64_t *ids = tokens(p, M, V);
    float *x = take(p, M * D), *de = take(p, V * D);
    p->ops->embed(M, D, ids, e, x);
    int failed = p->ops->embed_backward(M, V, D, ids, dx, de);
    p->ops->add(V * D, e, de, de);
    result(p, x, M * D), result(p, de, V * D);
    return failed;
}

static int updates(struct check *p, long n) {
    struct adamw how = {3e-3, 0.9, 0.95, 1e-8, 0.1, 7, 0.75f};
    const float *g = input(p, n, 1e-2);
    float *w = input(p, n, 1.0), *m = input(p, n, 1e-3), *v = input(p, n, 1e-4);
    double before, after;
    for (long i = 0; i < n; i++) v[i] = v[i] < 0.0f ? -v[i] : v[i];
    int failed = p->ops->sum_of_squares(n, g, &before) | p->ops->adamw(n, how, w, g, m, v, &after);
    result_f64(p, before), result_f64(p, after);
    result(p, w, n), result(p, m, n), result(p, v, n);
    return failed;
}

static void combinations(struct check *p, long n) {
    const float *y = input(p, n, 3.0);
    float *x = input(p, n, 2.0);
    p->ops->axpby(n, 0.95f, x, -0.3f, y);
    result(p, x, n);
    p->ops->axpby(n, 0x1.fp-3f, x, 0.0f, NULL);
    result(p, x, n);
}

static void functions(struct check *p) {
    for (int i = 0; i < 200; i++) {
        double sine, cosine, x = 0.37 * i + 1e-3;
        pellucid_sincos(x * x * 20.0, &sine, &cosine);
        result_f64(p, sine), result_f64(p, cosine);
        result_f64(p, pellucid_ln(x)), result_f64(p, pellucid_exp(30.0 - x)),
            result_f64(p, pellucid_power(0.95, i));
    }
}

static void quick(struct check *p) {
    begin(p), end(p, "product", products(p, 7, 19, 300));
    begin(p), end(p, "norm", norms(p, 5, 37));
    begin(p), swiglus(p, 67), end(p, "swiglu", 0);
    begin(p), end(p, "attention", attentions(p, (struct attention_shape){1, 19, 4, 2, 6}, 1));
    begin(p), end(p, "loss", losses(p, 5, 37, 20, 0));
    begin(p), end(p, "embedding", embeddings(p, 9, 5, 19));
    begin(p), end(p, "update", updates(p, 133));
    begin(p), functions(p), end(p, "functions", 0);
    begin(p), combinations(p, 67), end(p, "axpby", 0);
    begin(p), end(p, "gram", grams(p, 21, 300));
    begin(p), end(p, "objective", losses(p, 5, 37, 20, 1));
    begin(p), end(p, "kept", kept(p, (struct attention_shape){1, 19, 4, 2, 6}, 7));
}

static void whole(struct check *p) {
    static const char *const names[2][16] = {
        {"product 1 1 1", "product 13 33 257", "product 97 130 513", "norm 259 37", "norm 3 512",
         "swiglu", "attention", "attention within", "attention wide", "loss", "embedding", "update",
         "axpby", "gram", "objective", "kept"},
        {"product 1 1 1 extreme", "product 13 33 257 extreme", "product 97 130 513 extreme",
         "norm 259 37 extreme", "norm 3 512 extreme", "swiglu extreme", "attention extreme",
         "attention within extreme", "attention wide extreme", "loss extreme", "embedding extreme",
         "update extreme", "axpby extreme", "gram extreme", "objective extreme", "kept extreme"}};
    for (p->extreme = 0; p->extreme < 2; p->extreme++) {
        const char *const *name = names[p->extreme];
        begin(p), end(p, *name++, products(p, 1, 1, 1));
        begin(p), end(p, *name++, products(p, 13, 33, 257));
        begin(p), end(p, *name++, products(p, 97, 130, 513));
        begin(p), end(p, *name++, norms(p, 259, 37));
        begin(p), end(p, *name++, norms(p, 3, 512));
        begin(p), swiglus(p, 16397), end(p, *name++, 0);
        begin(p), end(p, *name++, attentions(p, (struct attention_shape){1, 301, 2, 1, 24}, 0));
        begin(p), end(p, *name++, attentions(p, (struct attention_shape){2, 261, 4, 2, 6}, 1));
        begin(p), end(p, *name++, attentions(p, (struct attention_shape){1, 21, 1, 1, 260}, 0));
        begin(p), end(p, *name++, losses(p, 517, 71, 300, 0));
        begin(p), end(p, *name++, embeddings(p, 301, 40, 23));
        begin(p), end(p, *name++, updates(p, 3 * 4096 + 77));
        begin(p), combinations(p, 3 * 4096 + 77), end(p, *name++, 0);
        begin(p), end(p, *name++, grams(p, 203, 517));
        begin(p), end(p, *name++, losses(p, 517, 71, 300, 1));
        begin(p), end(p, *name++, kept(p, (struct attention_shape){1, 301, 4, 2, 24}, 270));
    }
    p->extreme = 0;
    begin(p), functions(p), end(p, "functions", 0);
}

const char *pellucid_check(const struct operations *ops, int all,
                           void (*see)(const char *name, uint64_t digest)) {
    struct check p = {.ops = ops, .golden = all ? whole_golden : quick_golden, .see = see};
    size_t floats = all ? 1 << 20 : 1 << 16;
    p.memory = malloc(floats * sizeof(float));
    if (!p.memory) return "memory";
    p.end = p.memory + floats;
    all ? whole(&p) : quick(&p);
    if (!p.wrong && p.golden->name) p.wrong = p.golden->name;
    free(p.memory);
    return p.wrong;
}
