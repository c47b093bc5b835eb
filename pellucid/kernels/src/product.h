/* Matrix products: section 2.1, product sum. */

/* One chain over n terms for each of `rows` rows and TILE_COLUMNS columns, going on from what sum holds:
   sum = fma(a[r][k], b[k][column], sum). `rows` is a constant wherever this is inlined, so that sum stays in
   registers. Meanwhile memory is asked for that is read later: from `next` on, one place `pace` floats further for
   every k. */
INLINE void chain_rows(int rows, const float *a, long row, long step, const float *b, long n, const float *next,
                       long pace, v16 sum[TILE_ROWS][TILE_VECTORS]) {
    for (long k = 0; k < n; k++) {
        __builtin_prefetch(next, 0, 2);
        next += pace;
        v16 column[TILE_VECTORS];
        _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++) column[v] = v_load(b + 16 * v);
        _Pragma("GCC unroll 16") for (int r = 0; r < rows; r++) {
            v16 x = v_set(a[r * row]);
            _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++) sum[r][v] = v_fma(x, column[v], sum[r][v]);
        }
        a += step, b += TILE_COLUMNS;
    }
}

#define EACH_SUM                                                                                                      \
    _Pragma("GCC unroll 16") for (int r = 0; r < rows; r++)                                                           \
        _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++)

/* Chains that go on from acc, TILE_ROWS × TILE_COLUMNS, and are put back there. b is at hand: nothing is asked for. */
INLINE void go_on_rows(int rows, const float *a, long row, long step, const float *b, long n, float *acc) {
    v16 sum[TILE_ROWS][TILE_VECTORS];
    EACH_SUM sum[r][v] = v_load(acc + r * TILE_COLUMNS + 16 * v);
    chain_rows(rows, a, row, step, b, n, b, 0, sum);
    EACH_SUM v_store(acc + r * TILE_COLUMNS + 16 * v, sum[r][v]);
}

/* A block: c = total + chains from +0, or the chains alone where total is NULL; both have rows c_row apart. */
INLINE void block_rows(int rows, const float *a, long row, long step, const float *b, long n, const float *next,
                       long pace, const float *total, float *c, long c_row) {
    v16 sum[TILE_ROWS][TILE_VECTORS];
    EACH_SUM sum[r][v] = v_zero();
    chain_rows(rows, a, row, step, b, n, next, pace, sum);
    if (total) EACH_SUM sum[r][v] = v_add(v_load(total + r * c_row + 16 * v), sum[r][v]);
    EACH_SUM v_store(c + r * c_row + 16 * v, sum[r][v]);
}

#if TILE_ROWS == 4
#define EACH_COUNT CASE(1) CASE(2) CASE(3) CASE(4)
#elif TILE_ROWS == 6
#define EACH_COUNT CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#elif TILE_ROWS == 12
#define EACH_COUNT                                                                                                    \
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif

static void go_on(int rows, const float *a, long row, long step, const float *b, long n, float *acc) {
    switch (rows) {
#define CASE(count)                                                                                                   \
    case count: go_on_rows(count, a, row, step, b, n, acc); break;
        EACH_COUNT
#undef CASE
    }
}

static void block(int rows, const float *a, long row, long step, const float *b, long n, const float *next, long pace,
                  const float *total, float *c, long c_row) {
    switch (rows) {
#define CASE(count)                                                                                                   \
    case count: block_rows(count, a, row, step, b, n, next, pace, total, c, c_row); break;
        EACH_COUNT
#undef CASE
    }
}

/* The same at the right edge of C, where fewer than TILE_COLUMNS columns are left. */
static void block_edge(int rows, const float *a, long row, long step, const float *b, long n, const float *next,
                       long pace, const float *total, float *c, long c_row, long columns) {
    float acc[TILE_ROWS * TILE_COLUMNS] __attribute__((aligned(64)));
    block(rows, a, row, step, b, n, next, pace, NULL, acc, TILE_COLUMNS);
    for (int r = 0; r < rows; r++)
        for (long j = 0; j < columns; j++) {
            float sum = acc[r * TILE_COLUMNS + j];
            c[r * c_row + j] = total ? total[r * c_row + j] + sum : sum;
        }
}

/* c = total + x, or x alone where total is NULL: one row of a multiple of 16. */
INLINE void add_row(const float *x, const float *total, float *c, long n) {
    for (long j = 0; j < n; j += 16) v_store(c + j, total ? v_add(v_load(total + j), v_load(x + j)) : v_load(x + j));
}

/* B as panels of `width` columns: block by block, panel by panel, k by k. Columns past N are zero and are never stored
   to C; nothing is added along k. A transposed A is packed so too, its rows as columns: panels of TILE_ROWS. */
struct packed {
    const float *b;
    long b_row, b_col, N, K, panels;
    float *out;
};

/* Where block `block` of a panel begins. All blocks but the last are whole. */
INLINE float *panel_of(const struct packed *p, int width, long block, long panel) {
    long first = block * BLOCK, length = p->K - first < BLOCK ? p->K - first : BLOCK;
    return p->out + (first * p->panels + panel * length) * width;
}

INLINE void pack_panel(int width, const float *b, long b_row, long b_col, long n, long columns, float *out) {
    if (columns == width && b_col == 1) {
        for (long k = 0; k < n; k++, b += b_row, out += width) memcpy(out, b, (size_t)width * sizeof *out);
        return;
    }
    if (columns < width) memset(out, 0, (size_t)(n * width) * sizeof *out);
    for (long k0 = 0; k0 < n; k0 += 16) /* In squares, so that both sides stay in the first cache. */
        for (long j = 0; j < columns; j++)
            for (long k = k0; k < n && k < k0 + 16; k++) out[k * width + j] = b[k * b_row + j * b_col];
}

#define PACKED_AT_ONCE 128 /* Columns: some whole cache lines. */
#define AHEAD 16           /* Rows that lie across memory are asked for so many before they are read. */

/* Some neighbouring panels of one block: a row of B is read once, along the row. `width` is a constant wherever this is
   inlined. */
INLINE void pack_some(const struct packed *p, int width, long index) {
    long some = PACKED_AT_ONCE / width, tasks = (p->panels + some - 1) / some;
    long block = index / tasks, begin = index % tasks * some, end = begin + some < p->panels ? begin + some : p->panels;
    long first = block * BLOCK, n = p->K - first < BLOCK ? p->K - first : BLOCK;
    const float *b = p->b + first * p->b_row;
    if (p->b_col == 1) {
        long whole = end * width <= p->N ? end : end - 1;
        float *out = panel_of(p, width, block, begin);
        const float *row = b + begin * width;
        for (long k = 0; k < n; k++, row += p->b_row) {
            for (long j = 0; j < (whole - begin) * width; j += 16) __builtin_prefetch(row + AHEAD * p->b_row + j);
            for (long panel = 0; panel < whole - begin; panel++)
                memcpy(out + (panel * n + k) * width, row + panel * width, (size_t)width * sizeof *out);
        }
        begin = whole;
    }
    for (long panel = begin; panel < end; panel++) {
        long column = panel * width, columns = p->N - column < width ? p->N - column : width;
        pack_panel(width, b + column * p->b_col, p->b_row, p->b_col, n, columns, panel_of(p, width, block, panel));
    }
}

static void pack_columns(void *arguments, long index, int worker) {
    (void)worker;
    pack_some(arguments, TILE_COLUMNS, index);
}

static void pack_rows(void *arguments, long index, int worker) {
    (void)worker;
    pack_some(arguments, TILE_ROWS, index);
}

/* Returns 0, or 1 where memory ran out. */
static int pack_as(struct packed *p, int width, task *run, long N, long K, const float *b, long b_row, long b_col,
                   enum buffer where) {
    *p = (struct packed){b, b_row, b_col, N, K, (N + width - 1) / width, NULL};
    p->out = buffer_get(where, (size_t)p->panels * (size_t)width * (size_t)K * sizeof(float));
    if (!p->out) return 1;
    long some = PACKED_AT_ONCE / width;
    pool_run(run, p, (K + BLOCK - 1) / BLOCK * ((p->panels + some - 1) / some));
    return 0;
}

static int pack(struct packed *p, long N, long K, const float *b, long b_row, long b_col, enum buffer where) {
    return pack_as(p, TILE_COLUMNS, pack_columns, N, K, b, b_row, b_col, where);
}

struct multiply {
    long M;
    const float *a;
    long a_row;
    const struct packed *turned; /* A transposed A's rows; NULL where A's columns lie together. */
    const struct packed *b;
    const float *start; /* What the blocks are added to: NULL, C itself, or another matrix of its shape. */
    float *c;
    long c_row;
    long tile_M, tile_N, tiles_M; /* What one task computes. No bit depends on it. */
    float *work;
};

#define ROWS_AT_ONCE 96
#define COLUMNS_AT_ONCE 512
#define FEWEST_ROWS 12
#define FEWEST_COLUMNS 64
#define TASKS_A_THREAD 8 /* At least, where the shape allows: who is held up then costs the others little. */
#define COPY_ROW (BLOCK + 16) /* Not a multiple of a page: rows fall into different cache sets. */
#define FAR_APART 1024        /* Rows so many floats apart are copied together: they would share cache sets. */

/* A's rows `first` … as the inner loop reads them; *row and *step are its strides, *group that of TILE_ROWS rows. */
static const float *a_block(const struct multiply *p, long first, long rows, long k, long n, float *work, long *row,
                            long *step, long *group) {
    if (p->turned) {
        *row = 1, *step = TILE_ROWS, *group = n * TILE_ROWS;
        return panel_of(p->turned, TILE_ROWS, k / BLOCK, first / TILE_ROWS);
    }
    const float *a = p->a + first * p->a_row + k;
    *row = p->a_row, *step = 1, *group = TILE_ROWS * p->a_row;
    if (p->a_row < FAR_APART) return a;
    for (long r = 0; r < rows; r++) memcpy(work + r * COPY_ROW, a + r * p->a_row, (size_t)n * sizeof *a);
    *row = COPY_ROW, *group = TILE_ROWS * COPY_ROW;
    return work;
}

/* Ask for the rows of A that come next, while this tile is at work: at most TILE_ROWS of them. */
INLINE void fetch_rows(const float *a, long row, long n, long rows) {
    for (long i = 0; i < rows && i < TILE_ROWS; i++)
        for (long k = 0; k < n; k += 16) __builtin_prefetch(a + i * row + k);
}

static void multiply_task(void *arguments, long index, int worker) {
    const struct multiply *p = arguments;
    long first = index % p->tiles_M * p->tile_M, rows = p->M - first < p->tile_M ? p->M - first : p->tile_M;
    long left = index / p->tiles_M * p->tile_N;
    long right = left + p->tile_N < p->b->N ? left + p->tile_N : p->b->N;
    float *work = p->work + (size_t)worker * ROWS_AT_ONCE * COPY_ROW;
    for (long k = 0; k < p->b->K; k += BLOCK) {
        long n = p->b->K - k < BLOCK ? p->b->K - k : BLOCK, row, step, group;
        const float *a = a_block(p, first, rows, k, n, work, &row, &step, &group);
        /* The tiles that share a panel of B ask for the next one among them. */
        long pace = rows < TILE_ROWS ? TILE_COLUMNS : TILE_ROWS * TILE_COLUMNS / rows;
        for (long column = left; column < right; column += TILE_COLUMNS) {
            const float *b = panel_of(p->b, TILE_COLUMNS, k / BLOCK, column / TILE_COLUMNS);
            long then = column + TILE_COLUMNS < right ? column + TILE_COLUMNS : left;
            const float *coming = panel_of(p->b, TILE_COLUMNS, k / BLOCK + (then == left), then / TILE_COLUMNS);
            for (long r = 0; r < rows; r += TILE_ROWS) {
                int count = (int)(rows - r < TILE_ROWS ? rows - r : TILE_ROWS);
                const float *own = a + r / TILE_ROWS * group;
                float *c = p->c + (first + r) * p->c_row + column;
                const float *total = k ? c : p->start ? p->start + (c - p->c) : NULL;
                for (int i = 0; i < count; i++)
                    for (int j = 0; j < TILE_COLUMNS; j += 16) __builtin_prefetch(c + i * p->c_row + j, 1);
                const float *next = coming + r * n * TILE_COLUMNS / rows;
                if (column == left && step == 1) fetch_rows(own + group, row, n, rows - r - count);
                if (right - column >= TILE_COLUMNS) {
                    block(count, own, row, step, b, n, next, pace, total, c, p->c_row);
                } else {
                    block_edge(count, own, row, step, b, n, next, pace, total, c, p->c_row, right - column);
                }
            }
        }
    }
}

/* The columns are divided first: a panel of B comes from far and serves tile_M rows. */
static void divide(struct multiply *p) {
    long tasks, N = p->b->N;
    p->tile_M = ROWS_AT_ONCE, p->tile_N = COLUMNS_AT_ONCE;
    for (;;) {
        p->tiles_M = (p->M + p->tile_M - 1) / p->tile_M;
        tasks = p->tiles_M * ((N + p->tile_N - 1) / p->tile_N);
        if (tasks >= TASKS_A_THREAD * pool_threads()) break;
        if (p->tile_N > FEWEST_COLUMNS) {
            p->tile_N /= 2;
        } else if (p->tile_M > FEWEST_ROWS) {
            p->tile_M /= 2;
        } else {
            break;
        }
    }
    pool_run(multiply_task, p, tasks);
}

#define TURNED_ROWS 768 /* Whole tiles of any instruction set. */

/* C = start + A·B, with B packed. Returns 0, or 1 where memory ran out. */
static int multiply(long M, const float *a, long a_row, long a_col, const struct packed *b, const float *start,
                    float *c, long c_row) {
    struct multiply p = {.M = M, .a = a, .a_row = a_row, .b = b, .start = start, .c = c, .c_row = c_row};
    p.work = buffer_get(BUFFER_WORK, (size_t)pool_threads() * ROWS_AT_ONCE * COPY_ROW * sizeof(float));
    if (!p.work) return 1;
    if (a_col == 1) {
        divide(&p);
        return 0;
    }
    /* A transposed A is packed too, at most TURNED_ROWS rows at a time: they are read again from a near cache. That
       takes 3 MiB in product(), and in loss() no more than a chunk of logits. */
    struct packed turned;
    p.turned = &turned;
    for (long first = 0; first < M; first += TURNED_ROWS) {
        p.M = M - first < TURNED_ROWS ? M - first : TURNED_ROWS;
        p.c = c + first * c_row;
        p.start = start ? start + first * c_row : NULL;
        if (pack_as(&turned, TILE_ROWS, pack_rows, p.M, b->K, a + first * a_row, a_col, a_row, BUFFER_A)) return 1;
        divide(&p);
    }
    return 0;
}

#define TERMS (4 * BLOCK)

/* Both sides are packed so many terms at a time: what is packed is then read from a near cache, and little memory is
   taken, TERMS · (N + TURNED_ROWS) floats. */
static int product(long M, long N, long K, const float *a, long a_row, long a_col, const float *b, long b_row,
                   long b_col, const float *start, float *c) {
    struct packed packed;
    for (long k = 0; k < K; k += TERMS) {
        long n = K - k < TERMS ? K - k : TERMS;
        if (pack(&packed, N, n, b + k * b_row, b_row, b_col, BUFFER_B)) return 1;
        if (multiply(M, a + k * a_col, a_row, a_col, &packed, k ? c : start, c, N)) return 1;
    }
    return 0;
}
