/* The optimizer and the norms: section 2.3. Chunks of 4096 elements; one task each. */

#define CHUNK 4096

struct update {
    long n;
    float *p;
    const float *x, *g;
    float *m, *v;
    float clip, a, z, b1, n1, b2, n2, e, y;
    double *sums;
};

INLINE double chunk_of_squares(const float *x, long n) {
    w16 lanes = w_zero();
    long i = 0;
    for (; i + LANES <= n; i += LANES) lanes = w_add_squares(lanes, v_load(x + i));
    /* A square of +0 added to a sum that is not negative leaves it as it is. */
    if (i < n) lanes = w_add_squares(lanes, v_load_first(x + i, n - i));
    return w_tree(lanes);
}

static void squares_task(void *arguments, long index, int worker) {
    (void)worker;
    const struct update *p = arguments;
    p->sums[index] = chunk_of_squares(p->x + index * CHUNK, minimum(CHUNK, p->n - index * CHUNK));
}

static int sum_of_squares(long n, const float *x, double *out) {
    long chunks = ceil_div(n, CHUNK);
    struct update p = {
        .n = n, .x = x, .sums = buffer_get(BUFFER_WORK, (size_t)chunks * sizeof(double))};
    if (!p.sums) return 1;
    pool_run(squares_task, &p, chunks);
    *out = pellucid_tree(p.sums, chunks);
    return 0;
}

struct axpby {
    long n;
    float a, b;
    float *x;
    const float *y;
};

static void axpby_task(void *arguments, long index, int worker) {
    (void)worker;
    const struct axpby *p = arguments;
    long i = index * CHUNK, last = minimum(p->n, i + CHUNK);
    v16 a = v_set(p->a), b = v_set(p->b);
    for (; i + LANES <= last; i += LANES) {
        v16 x = v_load(p->x + i);
        v_store(p->x + i, p->y ? v_fma(a, x, v_mul(b, v_load(p->y + i))) : v_mul(a, x));
    }
    if (i < last) {
        v16 x = v_load_first(p->x + i, last - i);
        x = p->y ? v_fma(a, x, v_mul(b, v_load_first(p->y + i, last - i))) : v_mul(a, x);
        v_store_first(p->x + i, x, last - i);
    }
}

/* x becomes a x + b y, or a x where y is NULL. */
static void axpby(long n, float a, float *x, float b, const float *y) {
    struct axpby p = {n, a, b, x, y};
    pool_run(axpby_task, &p, ceil_div(n, CHUNK));
}

INLINE void adamw_lanes(const struct update *u, v16 g, v16 *p, v16 *m, v16 *v) {
    v16 tiny = v_set(0x1p-100f);
    g = v_mul(g, v_set(u->clip));
    *m = v_fma(v_set(u->b1), *m, v_mul(v_set(u->n1), g));
    *m = v_less(v_abs(*m), tiny, v_zero(), *m);
    *v = v_fma(v_set(u->b2), *v, v_mul(v_set(u->n2), v_mul(g, g)));
    *v = v_less(*v, tiny, v_zero(), *v);
    v16 step = v_div(*m, v_fma(v_sqrt(*v), v_set(u->z), v_set(u->e)));
    *p = v_fnma(v_set(u->a), step, v_mul(*p, v_set(u->y)));
}

static void adamw_task(void *arguments, long index, int worker) {
    (void)worker;
    const struct update *u = arguments;
    long i = index * CHUNK, last = minimum(u->n, i + CHUNK), first = i;
    v16 p, m, v;
    for (; i + LANES <= last; i += LANES) {
        p = v_load(u->p + i), m = v_load(u->m + i), v = v_load(u->v + i);
        adamw_lanes(u, v_load(u->g + i), &p, &m, &v);
        v_store(u->p + i, p), v_store(u->m + i, m), v_store(u->v + i, v);
    }
    if (i < last) {
        long n = last - i;
        p = v_load_first(u->p + i, n), m = v_load_first(u->m + i, n), v = v_load_first(u->v + i, n);
        adamw_lanes(u, v_load_first(u->g + i, n), &p, &m, &v);
        v_store_first(u->p + i, p, n), v_store_first(u->m + i, m, n), v_store_first(u->v + i, v, n);
    }
    u->sums[index] = chunk_of_squares(u->p + first, last - first);
}

/* One pass over a tensor: clips, moves, and leaves the sum of the new weights' squares. */
static int adamw(long n, struct adamw how, float *p, const float *g, float *m, float *v,
                 double *out) {
    long chunks = ceil_div(n, CHUNK);
    double *sums = buffer_get(BUFFER_WORK, (size_t)chunks * sizeof(double));
    if (!sums) return 1;
    struct update u = {
        .n = n,
        .p = p,
        .g = g,
        .m = m,
        .v = v,
        .clip = how.clip,
        .a = (float)(how.lr / (1.0 - pellucid_power(how.beta1, how.step))),
        .z = (float)(1.0 / pellucid_sqrt(1.0 - pellucid_power(how.beta2, how.step))),
        .b1 = (float)how.beta1,
        .n1 = (float)(1.0 - how.beta1),
        .b2 = (float)how.beta2,
        .n2 = (float)(1.0 - how.beta2),
        .e = (float)how.epsilon,
        .y = (float)(1.0 - how.lr * how.weight_decay),
        .sums = sums,
    };
    pool_run(adamw_task, &u, chunks);
    *out = pellucid_tree(sums, chunks);
    return 0;
}
