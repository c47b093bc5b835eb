/* What is done row by row or element by element: norm, SwiGLU, loss, embedding, addition.
   Section 2.2. */

#define ROWS_A_TASK 32
#define ELEMENTS_A_TASK 16384

/* Lane sum of products a_i·b_i. */
INLINE float lane_dot(const float *a, const float *b, long n) {
    v16 lanes = v_zero();
    long i = 0;
    for (; i + LANES <= n; i += LANES) lanes = v_fma(v_load(a + i), v_load(b + i), lanes);
    if (i < n) {
        float f[LANES];
        v_store(f, lanes);
        for (long j = 0; i + j < n; j++) f[j] = fma_one(a[i + j], b[i + j], f[j]);
        lanes = v_load(f);
    }
    return v_tree(lanes);
}

struct norm {
    long M, D;
    const float *x, *w;
    float epsilon;
    float *y, *r_M;
    const float *dy, *past;
    float *dx, *parts; /* A row of D for every block of 64 rows: that block's chains. */
};

static void norm_task(void *arguments, long index, int worker) {
    (void)worker;
    const struct norm *p = arguments;
    long D = p->D, whole = D / LANES * LANES, last = minimum(p->M, (index + 1) * ROWS_A_TASK);
    for (long i = index * ROWS_A_TASK; i < last; i++) {
        const float *x = p->x + i * D;
        float *y = p->y + i * D;
        float mean = lane_dot(x, x, D) / (float)D + p->epsilon;
        float r = 1.0f / __builtin_sqrtf(mean);
        v16 factor = v_set(r);
        for (long j = 0; j < whole; j += LANES)
            v_store(y + j, v_mul(v_mul(v_load(x + j), factor), v_load(p->w + j)));
        for (long j = whole; j < D; j++) y[j] = (x[j] * r) * p->w[j];
        p->r_M[i] = r;
    }
}

static void norm(long M, long D, const float *x, const float *w, float epsilon, float *y,
                 float *r_M) {
    struct norm p = {.M = M, .D = D, .x = x, .w = w, .epsilon = epsilon, .y = y, .r_M = r_M};
    pool_run(norm_task, &p, ceil_div(M, ROWS_A_TASK));
}

/* Sixteen columns of one row: dx, and the row's term of dw. */
INLINE void norm_backward_columns(v16 x, v16 w, v16 dy, v16 past, int has_past, v16 r, v16 c,
                                  v16 *dx, v16 *part) {
    v16 u = v_fnma(c, x, v_mul(dy, w));
    *dx = has_past ? v_fma(u, r, past) : v_mul(u, r);
    *part = v_fma(dy, v_mul(x, r), *part);
}

static void norm_backward_row(const struct norm *p, long i, float *t, float *part) {
    long D = p->D, whole = D / LANES * LANES;
    const float *x = p->x + i * D, *dy = p->dy + i * D, *past = p->past ? p->past + i * D : NULL;
    float *dx = p->dx + i * D, r = p->r_M[i];
    for (long j = 0; j < whole; j += LANES) v_store(t + j, v_mul(v_load(dy + j), v_load(p->w + j)));
    for (long j = whole; j < D; j++) t[j] = dy[j] * p->w[j];
    float c = ((lane_dot(t, x, D) * r) * r) / (float)D;
    v16 r_all = v_set(r), c_all = v_set(c), none = v_zero(), dx_j, part_j;
    for (long j = 0; j < whole; j += LANES) {
        part_j = v_load(part + j);
        norm_backward_columns(v_load(x + j), v_load(p->w + j), v_load(dy + j),
                              past ? v_load(past + j) : none, past != NULL, r_all, c_all, &dx_j,
                              &part_j);
        v_store(dx + j, dx_j), v_store(part + j, part_j);
    }
    long n = D - whole;
    if (n > 0) {
        part_j = v_load_first(part + whole, n);
        norm_backward_columns(v_load_first(x + whole, n), v_load_first(p->w + whole, n),
                              v_load_first(dy + whole, n),
                              past ? v_load_first(past + whole, n) : none, past != NULL, r_all,
                              c_all, &dx_j, &part_j);
        v_store_first(dx + whole, dx_j, n), v_store_first(part + whole, part_j, n);
    }
}

static void norm_backward_task(void *arguments, long index, int worker) {
    const struct norm *p = arguments;
    long blocks = ceil_div(p->M, SHORT_BLOCK);
    float *part = p->parts + index * p->D, *t = p->parts + (blocks + worker) * p->D;
    memset(part, 0, (size_t)p->D * sizeof *part);
    for (long i = index * SHORT_BLOCK; i < minimum(p->M, (index + 1) * SHORT_BLOCK); i++)
        norm_backward_row(p, i, t, part);
}

static int norm_backward(long M, long D, const float *x, const float *w, const float *r_M,
                         const float *dy, const float *past, float *dx, float *dw) {
    long blocks = ceil_div(M, SHORT_BLOCK);
    struct norm p = {
        .M = M, .D = D, .x = x, .w = w, .r_M = (float *)r_M, .dy = dy, .past = past, .dx = dx};
    p.parts =
        buffer_get(BUFFER_WORK, (size_t)(blocks + pool_threads()) * (size_t)D * sizeof(float));
    if (!p.parts) return 1;
    pool_run(norm_backward_task, &p, blocks);
    memcpy(dw, p.parts, (size_t)D * sizeof *dw);
    for (long block = 1; block < blocks; block++)
        for (long j = 0; j < D; j++) dw[j] = dw[j] + p.parts[block * D + j];
    return 0;
}

struct elements {
    long n;
    const float *a, *u, *dh;
    float *h, *da, *du;
};

static void swiglu_task(void *arguments, long index, int worker) {
    (void)worker;
    const struct elements *p = arguments;
    long i = index * ELEMENTS_A_TASK, last = minimum(p->n, i + ELEMENTS_A_TASK);
    for (; i + LANES <= last; i += LANES) {
        v16 a = v_load(p->a + i);
        v_store(p->h + i, v_mul(v_mul(a, v_sigmoid(a)), v_load(p->u + i)));
    }
    if (i < last) {
        v16 a = v_load_first(p->a + i, last - i), u = v_load_first(p->u + i, last - i);
        v_store_first(p->h + i, v_mul(v_mul(a, v_sigmoid(a)), u), last - i);
    }
}

static void swiglu(long n, const float *a, const float *u, float *h) {
    struct elements p = {.n = n, .a = a, .u = u, .h = h};
    pool_run(swiglu_task, &p, ceil_div(n, ELEMENTS_A_TASK));
}

INLINE void swiglu_backward_lanes(v16 a, v16 u, v16 dh, v16 *da, v16 *du) {
    v16 one = v_set(1.0f), s = v_sigmoid(a), t = v_fma(a, v_sub(one, s), one);
    *du = v_mul(dh, v_mul(a, s));
    *da = v_mul(v_mul(dh, u), v_mul(s, t));
}

static void swiglu_backward_task(void *arguments, long index, int worker) {
    (void)worker;
    const struct elements *p = arguments;
    long i = index * ELEMENTS_A_TASK, last = minimum(p->n, i + ELEMENTS_A_TASK);
    v16 da, du;
    for (; i + LANES <= last; i += LANES) {
        swiglu_backward_lanes(v_load(p->a + i), v_load(p->u + i), v_load(p->dh + i), &da, &du);
        v_store(p->da + i, da), v_store(p->du + i, du);
    }
    if (i < last) {
        long n = last - i;
        swiglu_backward_lanes(v_load_first(p->a + i, n), v_load_first(p->u + i, n),
                              v_load_first(p->dh + i, n), &da, &du);
        v_store_first(p->da + i, da, n), v_store_first(p->du + i, du, n);
    }
}

/* da may be a, and du may be u: each element is read before it is written. */
static void swiglu_backward(long n, const float *a, const float *u, const float *dh, float *da,
                            float *du) {
    struct elements p = {.n = n, .a = a, .u = u, .dh = dh, .da = da, .du = du};
    pool_run(swiglu_backward_task, &p, ceil_div(n, ELEMENTS_A_TASK));
}

static void add_task(void *arguments, long index, int worker) {
    (void)worker;
    const struct elements *p = arguments;
    long i = index * ELEMENTS_A_TASK, last = minimum(p->n, i + ELEMENTS_A_TASK);
    for (; i + LANES <= last; i += LANES)
        v_store(p->h + i, v_add(v_load(p->a + i), v_load(p->u + i)));
    for (; i < last; i++) p->h[i] = p->a[i] + p->u[i];
}

/* out may be a or b. */
static void add(long n, const float *a, const float *b, float *out) {
    struct elements p = {.n = n, .a = a, .u = b, .h = out};
    pool_run(add_task, &p, ceil_div(n, ELEMENTS_A_TASK));
}

/* The loss of a chunk of rows: their logits become their gradients in place. */
struct loss {
    long rows, V;
    float *logits, *losses, *log_sums;
    const int64_t *targets;
    /* Their coefficients, of each row; NULL where no gradient is wanted. */
    const float *softmax, *onehot;
};

static float exponentials(float *x, long n, float m) {
    v16 lanes = v_zero(), most = v_set(m);
    long j = 0;
    for (; j + LANES <= n; j += LANES) {
        v16 e = v_exp(v_sub(v_load(x + j), most));
        v_store(x + j, e);
        lanes = v_add(lanes, e);
    }
    if (j < n) {
        /* The lanes past the end add +0 to sums that are not negative, which leaves these as they
           are. */
        v16 e = v_exp(v_sub(v_load_first(x + j, n - j), most));
        v_store_first(x + j, e, n - j);
        lanes = v_add(lanes, v_load_first(x + j, n - j));
    }
    return v_tree(lanes);
}

static float largest(const float *x, long n) {
    if (n < LANES) {
        float m = x[0];
        for (long j = 1; j < n; j++) m = x[j] > m ? x[j] : m;
        return m;
    }
    v16 lanes = v_load(x);
    for (long j = LANES; j + LANES <= n; j += LANES) lanes = v_max(v_load(x + j), lanes);
    return v_largest(v_max(v_load(x + n - LANES), lanes));
}

static void loss_task(void *arguments, long index, int worker) {
    (void)worker;
    const struct loss *p = arguments;
    for (long i = index * 4; i < minimum(p->rows, index * 4 + 4); i++) {
        float *x = p->logits + i * p->V;
        long target = (long)p->targets[i];
        float m = largest(x, p->V), aim = x[target], l = exponentials(x, p->V, m);
        double log_sum = pellucid_ln((double)l);
        p->losses[i] = (float)(log_sum - ((double)aim - (double)m));
        p->log_sums[i] = (float)(log_sum + (double)m);
        if (!p->softmax) continue;
        float c = p->softmax[i] / l;
        v16 factor = v_set(c);
        long j = 0;
        for (; j + LANES <= p->V; j += LANES) v_store(x + j, v_mul(v_load(x + j), factor));
        for (; j < p->V; j++) x[j] = x[j] * c;
        x[target] = x[target] - p->onehot[i];
    }
}

/* Logits held at a time: as many blocks of 256 rows as fit, and at least one block. */
#define CHUNK_BYTES (16 << 20)

/* softmax_M and onehot_M are NULL where only the losses are wanted. dx or dw is NULL where it is
   not wanted. A chunk of rows is a whole number of blocks, because each block of rows is one block
   of the sum in dw: the size of a chunk then changes no bit. */
static int loss(long M, long V, long D, const float *x, const float *w, const int64_t *targets_M,
                const float *softmax_M, const float *onehot_M, float *losses_M, float *log_sums_M,
                float *dx, float *dw) {
    struct packed forward, backward;
    long blocks = CHUNK_BYTES / (BLOCK * V * (long)sizeof(float)),
         chunk = minimum(M, (blocks < 1 ? 1 : blocks) * BLOCK);
    float *logits = buffer_get(BUFFER_LOGITS, (size_t)chunk * (size_t)V * sizeof(float));
    if (!logits || pack(&forward, V, D, w, 1, D, BUFFER_B)) return 1;
    if (dx && pack(&backward, D, V, w, D, 1, BUFFER_B2)) return 1;
    for (long first = 0; first < M; first += chunk) {
        long rows = minimum(chunk, M - first);
        const float *own = x + first * D;
        if (multiply(rows, own, D, &forward, NULL, logits, V, 0)) return 1;
        struct loss p = {.rows = rows, .V = V, .logits = logits, .targets = targets_M + first};
        p.losses = losses_M + first, p.log_sums = log_sums_M + first;
        if (softmax_M) p.softmax = softmax_M + first, p.onehot = onehot_M + first;
        pool_run(loss_task, &p, (rows + 3) / 4);
        if (dx && multiply(rows, logits, V, &backward, NULL, dx + first * D, D, 0)) return 1;
        if (dw && multiply_across(V, D, rows, logits, V, own, D, 1, first ? dw : NULL, dw, 0))
            return 1;
    }
    return 0;
}

struct embedding {
    long M, V, D;
    const int64_t *tokens_M;
    const float *from;
    float *to;
    /* The rows of each token: rows_M[start_V[v] … start_V[v + 1]], ascending. */
    const long *start_V, *rows_M;
};

static void embed_task(void *arguments, long index, int worker) {
    (void)worker;
    const struct embedding *p = arguments;
    for (long i = index * ROWS_A_TASK; i < minimum(p->M, (index + 1) * ROWS_A_TASK); i++)
        memcpy(p->to + i * p->D, p->from + p->tokens_M[i] * p->D, (size_t)p->D * sizeof(float));
}

static void embed(long M, long D, const int64_t *tokens_M, const float *e, float *x) {
    struct embedding p = {.M = M, .D = D, .tokens_M = tokens_M, .from = e, .to = x};
    pool_run(embed_task, &p, ceil_div(M, ROWS_A_TASK));
}

static void embed_backward_task(void *arguments, long index, int worker) {
    (void)worker;
    const struct embedding *p = arguments;
    long D = p->D;
    for (long v = index * ROWS_A_TASK; v < minimum(p->V, (index + 1) * ROWS_A_TASK); v++) {
        float *sum = p->to + v * D;
        long from = p->start_V[v], past = p->start_V[v + 1];
        if (from == past) {
            memset(sum, 0, (size_t)D * sizeof *sum);
            continue;
        }
        memcpy(sum, p->from + p->rows_M[from] * D, (size_t)D * sizeof *sum);
        for (long i = from + 1; i < past; i++) {
            const float *row = p->from + p->rows_M[i] * D;
            long j = 0;
            for (; j + LANES <= D; j += LANES)
                v_store(sum + j, v_add(v_load(sum + j), v_load(row + j)));
            for (; j < D; j++) sum[j] = sum[j] + row[j];
        }
    }
}

static int embed_backward(long M, long V, long D, const int64_t *tokens_M, const float *dx,
                          float *de) {
    long *start_V = buffer_get(BUFFER_WORK, (size_t)(V + 1 + M) * sizeof *start_V),
         *rows_M = start_V + V + 1;
    if (!start_V) return 1;
    memset(start_V, 0, (size_t)(V + 1) * sizeof *start_V);
    for (long i = 0; i < M; i++) start_V[tokens_M[i]]++;
    for (long v = 0, total = 0; v <= V; v++) total += start_V[v], start_V[v] = total;
    for (long i = M - 1; i >= 0; i--) rows_M[--start_V[tokens_M[i]]] = i;
    struct embedding p = {M, V, D, tokens_M, dx, de, start_V, rows_M};
    pool_run(embed_backward_task, &p, ceil_div(V, ROWS_A_TASK));
    return 0;
}
