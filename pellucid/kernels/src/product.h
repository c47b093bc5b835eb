/* Matrix products: section 2.1, product sum. */

/* One chain over n terms for each of `rows` rows and TILE_COLUMNS columns, going on from what sum holds:
   sum = fma(a[r][k], b[k][column], sum). `rows` is a constant wherever this is inlined, so that sum stays in
   registers. */
INLINE void chain_rows(int rows, const float *a, long row, long step, const float *b, long n,
                       v16 sum[TILE_ROWS][TILE_VECTORS]) {
    for (long k = 0; k < n; k++) {
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

/* Chains that go on from acc, TILE_ROWS × TILE_COLUMNS, and are put back there. */
INLINE void go_on_rows(int rows, const float *a, long row, long step, const float *b, long n, float *acc) {
    v16 sum[TILE_ROWS][TILE_VECTORS];
    EACH_SUM sum[r][v] = v_load(acc + r * TILE_COLUMNS + 16 * v);
    chain_rows(rows, a, row, step, b, n, sum);
    EACH_SUM v_store(acc + r * TILE_COLUMNS + 16 * v, sum[r][v]);
}

/* A block: c = total + chains from +0, or the chains alone where total is NULL; both have rows c_row apart. */
INLINE void block_rows(int rows, const float *a, long row, long step, const float *b, long n, const float *total,
                       float *c, long c_row) {
    v16 sum[TILE_ROWS][TILE_VECTORS];
    EACH_SUM sum[r][v] = v_zero();
    chain_rows(rows, a, row, step, b, n, sum);
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

static void block(int rows, const float *a, long row, long step, const float *b, long n, const float *total, float *c,
                  long c_row) {
    switch (rows) {
#define CASE(count)                                                                                                   \
    case count: block_rows(count, a, row, step, b, n, total, c, c_row); break;
        EACH_COUNT
#undef CASE
    }
}

/* The same at the right edge of C, where fewer than TILE_COLUMNS columns are left. */
static void block_edge(int rows, const float *a, long row, long step, const float *b, long n, const float *total,
                       float *c, long c_row, long columns) {
    float acc[TILE_ROWS * TILE_COLUMNS] __attribute__((aligned(64)));
    block(rows, a, row, step, b, n, NULL, acc, TILE_COLUMNS);
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

/* B as panels of TILE_COLUMNS columns: block by block, panel by panel, k by k. Columns past N are zero and are never
   stored to C; nothing is added along k. */
struct packed {
    const float *b;
    long b_row, b_col, N, K, panels;
    float *out;
};

static size_t packed_floats(long N, long K) {
    size_t panels = (size_t)(N + TILE_COLUMNS - 1) / TILE_COLUMNS;
    return panels * TILE_COLUMNS * (size_t)K;
}

/* Where block `block` of a panel begins. All blocks but the last are whole. */
INLINE float *panel_of(const struct packed *p, long block, long panel) {
    long first = block * BLOCK, length = p->K - first < BLOCK ? p->K - first : BLOCK;
    return p->out + (first * p->panels + panel * length) * TILE_COLUMNS;
}

static void pack_panel(const float *b, long b_row, long b_col, long n, long columns, float *out) {
    if (columns == TILE_COLUMNS && b_col == 1) {
        for (long k = 0; k < n; k++, b += b_row, out += TILE_COLUMNS)
            for (int j = 0; j < TILE_COLUMNS; j += 16) v_store(out + j, v_load(b + j));
        return;
    }
    if (columns < TILE_COLUMNS) memset(out, 0, (size_t)(n * TILE_COLUMNS) * sizeof *out);
    for (long k0 = 0; k0 < n; k0 += 16) /* In squares, so that both sides stay in the first cache. */
        for (long j = 0; j < columns; j++)
            for (long k = k0; k < n && k < k0 + 16; k++) out[k * TILE_COLUMNS + j] = b[k * b_row + j * b_col];
}

#define PANELS_A_TASK 4
#define AHEAD 16 /* Rows that lie across memory are asked for so many before they are read. */

/* Some neighbouring panels of one block: a row of B is read once, along the row. */
static void pack_task(void *arguments, long index, int worker) {
    (void)worker;
    const struct packed *p = arguments;
    long tasks = (p->panels + PANELS_A_TASK - 1) / PANELS_A_TASK, block = index / tasks, begin = index % tasks * PANELS_A_TASK;
    long first = block * BLOCK, n = p->K - first < BLOCK ? p->K - first : BLOCK;
    long end = begin + PANELS_A_TASK < p->panels ? begin + PANELS_A_TASK : p->panels;
    const float *b = p->b + first * p->b_row;
    if (p->b_col == 1 && end * TILE_COLUMNS <= p->N) {
        for (long k = 0; k < n; k++, b += p->b_row)
            for (long panel = begin; panel < end; panel++) {
                __builtin_prefetch(b + AHEAD * p->b_row + panel * TILE_COLUMNS);
                for (int j = 0; j < TILE_COLUMNS; j += 16)
                    v_store(panel_of(p, block, panel) + k * TILE_COLUMNS + j, v_load(b + panel * TILE_COLUMNS + j));
            }
        return;
    }
    for (long panel = begin; panel < end; panel++) {
        long column = panel * TILE_COLUMNS, columns = p->N - column < TILE_COLUMNS ? p->N - column : TILE_COLUMNS;
        pack_panel(b + column * p->b_col, p->b_row, p->b_col, n, columns, panel_of(p, block, panel));
    }
}

/* Returns 0, or 1 where memory ran out. */
static int pack(struct packed *p, long N, long K, const float *b, long b_row, long b_col, enum buffer where) {
    *p = (struct packed){b, b_row, b_col, N, K, (N + TILE_COLUMNS - 1) / TILE_COLUMNS, NULL};
    p->out = buffer_get(where, packed_floats(N, K) * sizeof(float));
    if (!p->out) return 1;
    pool_run(pack_task, p, (K + BLOCK - 1) / BLOCK * ((p->panels + PANELS_A_TASK - 1) / PANELS_A_TASK));
    return 0;
}

/* A move of whole vectors that holds TILE_ROWS floats; what it holds beyond them is overwritten by what comes after. */
#define TURN_ROWS (TILE_ROWS == 6 ? 8 : TILE_ROWS == 12 ? 16 : TILE_ROWS)

/* `groups` neighbouring groups of TILE_ROWS rows of a transposed A, each k by k. A constant where this is inlined:
   a column of A is read along itself. */
INLINE void turn_groups(int groups, const float *a, long a_col, long n, float *out) {
    const float *column = a;
    for (long k = 0; k < n; k++, column += a_col) {
        for (int j = 0; j < groups * TILE_ROWS; j += 16) __builtin_prefetch(column + AHEAD * a_col + j);
        _Pragma("GCC unroll 4") for (int g = 0; g < groups; g++)
            memcpy(out + (g * n + k) * TILE_ROWS, column + g * TILE_ROWS, TURN_ROWS * sizeof *out);
    }
    for (int g = 1; g < groups; g++) /* The last move of the group before it went over its first. */
        memcpy(out + g * n * TILE_ROWS, a + g * TILE_ROWS, TILE_ROWS * sizeof *out);
}

/* Rows of a transposed A, whose columns lie together, as groups of TILE_ROWS: where the inner loop finds them. `left`
   is how many rows there are from the first on. */
static void turn(const float *a, long a_row, long a_col, long rows, long left, long n, float *out) {
    long r = 0;
    if (a_row == 1) {
        long safe = left - (TURN_ROWS - TILE_ROWS); /* A move that begins later would read past a column's end. */
        for (; r + 4 * TILE_ROWS <= rows && r + 4 * TILE_ROWS <= safe; r += 4 * TILE_ROWS)
            turn_groups(4, a + r, a_col, n, out + r * n);
        for (; r + TILE_ROWS <= rows && r + TILE_ROWS <= safe; r += TILE_ROWS)
            turn_groups(1, a + r, a_col, n, out + r * n);
    }
    for (; r < rows; r += TILE_ROWS)
        for (long k = 0; k < n; k++)
            for (long j = 0; j < TILE_ROWS && r + j < rows; j++)
                out[r * n + k * TILE_ROWS + j] = a[k * a_col + (r + j) * a_row];
}

struct multiply {
    long M;
    const float *a;
    long a_row, a_col;
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
#define TASKS_A_THREAD 8 /* At least, where the shape allows: who is held up then costs the others little. */
#define COPY_ROW (BLOCK + 16) /* Not a multiple of a page: rows fall into different cache sets. */
#define FAR_APART 1024        /* Rows so many floats apart are copied together: they would share cache sets. */

/* A's rows `first` … as the inner loop reads them; *row and *step are its strides, *group that of TILE_ROWS rows. */
static const float *a_block(const struct multiply *p, long first, long rows, long k, long n, float *work, long *row,
                            long *step, long *group) {
    const float *a = p->a + first * p->a_row + k * p->a_col;
    if (p->a_col != 1) {
        turn(a, p->a_row, p->a_col, rows, p->M - first, n, work);
        *row = 1, *step = TILE_ROWS, *group = n * TILE_ROWS;
        return work;
    }
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
    long left = index / p->tiles_M * p->tile_N, K = p->b->K;
    long right = left + p->tile_N < p->b->N ? left + p->tile_N : p->b->N;
    float *work = p->work + (size_t)worker * ROWS_AT_ONCE * COPY_ROW;
    for (long k = 0; k < K; k += BLOCK) {
        long n = K - k < BLOCK ? K - k : BLOCK, row, step, group;
        const float *a = a_block(p, first, rows, k, n, work, &row, &step, &group);
        for (long column = left; column < right; column += TILE_COLUMNS) {
            const float *b = panel_of(p->b, k / BLOCK, column / TILE_COLUMNS);
            for (long r = 0; r < rows; r += TILE_ROWS) {
                int count = (int)(rows - r < TILE_ROWS ? rows - r : TILE_ROWS);
                const float *own = a + r / TILE_ROWS * group;
                float *c = p->c + (first + r) * p->c_row + column;
                const float *total = k ? c : p->start ? p->start + (c - p->c) : NULL;
                for (int i = 0; i < count; i++) __builtin_prefetch(c + i * p->c_row, 1);
                if (column == left && step == 1) fetch_rows(own + group, row, n, rows - r - count);
                if (right - column >= TILE_COLUMNS) {
                    block(count, own, row, step, b, n, total, c, p->c_row);
                } else {
                    block_edge(count, own, row, step, b, n, total, c, p->c_row, right - column);
                }
            }
        }
    }
}

/* C = start + A·B, with B packed. Returns 0, or 1 where memory ran out. */
static int multiply(long M, const float *a, long a_row, long a_col, const struct packed *b, const float *start,
                    float *c, long c_row) {
    struct multiply p = {.M = M, .a = a, .a_row = a_row, .a_col = a_col, .b = b, .start = start, .c = c,
                         .c_row = c_row, .tile_M = ROWS_AT_ONCE, .tile_N = COLUMNS_AT_ONCE};
    long tasks;
    /* A panel of B comes from far and serves tile_M rows, so the columns are divided first; but a transposed A would be
       turned once for each division of them. */
    long fewest_N = a_col == 1 ? 64 : COLUMNS_AT_ONCE;
    for (;;) {
        p.tiles_M = (M + p.tile_M - 1) / p.tile_M;
        tasks = p.tiles_M * ((b->N + p.tile_N - 1) / p.tile_N);
        if (tasks >= TASKS_A_THREAD * pool_threads() || (p.tile_N <= fewest_N && p.tile_M <= FEWEST_ROWS)) break;
        if (p.tile_N > fewest_N) {
            p.tile_N /= 2;
        } else {
            p.tile_M /= 2;
        }
    }
    p.work = buffer_get(BUFFER_WORK, (size_t)pool_threads() * ROWS_AT_ONCE * COPY_ROW * sizeof(float));
    if (!p.work) return 1;
    pool_run(multiply_task, &p, tasks);
    return 0;
}

static int product(long M, long N, long K, const float *a, long a_row, long a_col, const float *b, long b_row,
                   long b_col, const float *start, float *c) {
    struct packed packed;
    if (pack(&packed, N, K, b, b_row, b_col, BUFFER_B)) return 1;
    return multiply(M, a, a_row, a_col, &packed, start, c, N);
}
