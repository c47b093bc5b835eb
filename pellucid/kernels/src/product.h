/* Matrix products: section 2.1, product sum. */

/* One chain over n terms for each of `rows` rows and TILE_COLUMNS columns: acc = fma(a[r][k], b[k][column], acc).
   `rows` is a constant wherever this is inlined, so that acc stays in registers. */
INLINE void chain_rows(int rows, const float *a, long row, long step, const float *b, long n, float *acc) {
    v16 sum[TILE_ROWS][TILE_VECTORS];
    _Pragma("GCC unroll 16") for (int r = 0; r < rows; r++)
        _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++)
            sum[r][v] = v_load(acc + r * TILE_COLUMNS + 16 * v);
    for (long k = 0; k < n; k++) {
        v16 column[TILE_VECTORS];
        _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++) column[v] = v_load(b + 16 * v);
        _Pragma("GCC unroll 16") for (int r = 0; r < rows; r++) {
            v16 x = v_set(a[r * row]);
            _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++) sum[r][v] = v_fma(x, column[v], sum[r][v]);
        }
        a += step, b += TILE_COLUMNS;
    }
    _Pragma("GCC unroll 16") for (int r = 0; r < rows; r++)
        _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++)
            v_store(acc + r * TILE_COLUMNS + 16 * v, sum[r][v]);
}

/* acc is TILE_ROWS × TILE_COLUMNS and goes on from what it holds. */
static void chain(int rows, const float *a, long row, long step, const float *b, long n, float *acc) {
    switch (rows) {
#define CASE(count)                                                                                                   \
    case count: chain_rows(count, a, row, step, b, n, acc); break;
        CASE(1) CASE(2) CASE(3) CASE(4)
#if TILE_ROWS > 4
        CASE(5) CASE(6)
#endif
#if TILE_ROWS > 6
        CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
#endif
#undef CASE
    }
}

/* c = total + a block's chains, or the chains alone where total is NULL; both have rows c_row apart. */
INLINE void add_block(int rows, long columns, const float *acc, const float *total, float *c, long c_row) {
    for (int r = 0; r < rows; r++, acc += TILE_COLUMNS, c += c_row, total = total ? total + c_row : NULL)
        for (long j = 0; j < columns; j += 16) {
            v16 sum = v_load(acc + j);
            if (columns - j >= 16) {
                v_store(c + j, total ? v_add(v_load(total + j), sum) : sum);
            } else {
                long some = columns - j;
                v_store_first(c + j, total ? v_add(v_load_first(total + j, some), sum) : sum, some);
            }
        }
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

static void pack_task(void *arguments, long index, int worker) {
    (void)worker;
    const struct packed *p = arguments;
    long block = index / p->panels, panel = index % p->panels;
    long first = block * BLOCK, n = p->K - first < BLOCK ? p->K - first : BLOCK;
    long column = panel * TILE_COLUMNS, columns = p->N - column < TILE_COLUMNS ? p->N - column : TILE_COLUMNS;
    pack_panel(p->b + first * p->b_row + column * p->b_col, p->b_row, p->b_col, n, columns, panel_of(p, block, panel));
}

/* Returns 0, or 1 where memory ran out. */
static int pack(struct packed *p, long N, long K, const float *b, long b_row, long b_col, enum buffer where) {
    *p = (struct packed){b, b_row, b_col, N, K, (N + TILE_COLUMNS - 1) / TILE_COLUMNS, NULL};
    p->out = buffer_get(where, packed_floats(N, K) * sizeof(float));
    if (!p->out) return 1;
    pool_run(pack_task, p, (K + BLOCK - 1) / BLOCK * p->panels);
    return 0;
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
    int copy;                     /* Rows of A are copied together first. */
    float *work;
};

#define ROWS_AT_ONCE 96
#define COLUMNS_AT_ONCE 512
#define COPY_ROW (BLOCK + 16) /* Not a multiple of a page: rows fall into different cache sets. */

/* A's rows `first` … as the inner loop reads them; *row and *step are its strides, *group that of TILE_ROWS rows. */
static const float *a_block(const struct multiply *p, long first, long rows, long k, long n, float *work, long *row,
                            long *step, long *group) {
    const float *a = p->a + first * p->a_row + k * p->a_col;
    *row = p->a_row, *step = p->a_col, *group = TILE_ROWS * p->a_row;
    if (!p->copy) return a;
    if (p->a_col == 1) {
        for (long r = 0; r < rows; r++) memcpy(work + r * COPY_ROW, a + r * p->a_row, (size_t)n * sizeof *a);
        *row = COPY_ROW, *step = 1, *group = TILE_ROWS * COPY_ROW;
        return work;
    }
    for (long r = 0; r < rows; r += TILE_ROWS) { /* Columns of a transposed A: TILE_ROWS neighbours at a time. */
        float *out = work + r * BLOCK;
        const float *from = a + r * p->a_row;
        if (rows - r >= TILE_ROWS && p->a_row == 1) {
            for (long i = 0; i < n; i++) memcpy(out + i * TILE_ROWS, from + i * p->a_col, TILE_ROWS * sizeof *a);
        } else {
            for (long i = 0; i < n; i++)
                for (long j = 0; j < rows - r && j < TILE_ROWS; j++)
                    out[i * TILE_ROWS + j] = from[i * p->a_col + j * p->a_row];
        }
    }
    *row = 1, *step = TILE_ROWS, *group = TILE_ROWS * BLOCK;
    return work;
}

static void multiply_task(void *arguments, long index, int worker) {
    const struct multiply *p = arguments;
    long first = index % p->tiles_M * p->tile_M, rows = p->M - first < p->tile_M ? p->M - first : p->tile_M;
    long left = index / p->tiles_M * p->tile_N, K = p->b->K;
    long right = left + p->tile_N < p->b->N ? left + p->tile_N : p->b->N;
    float *work = p->work + (size_t)worker * ROWS_AT_ONCE * COPY_ROW;
    float acc[TILE_ROWS * TILE_COLUMNS] __attribute__((aligned(64)));
    for (long k = 0; k < K; k += BLOCK) {
        long n = K - k < BLOCK ? K - k : BLOCK, row, step, group;
        const float *a = a_block(p, first, rows, k, n, work, &row, &step, &group);
        for (long column = left; column < right; column += TILE_COLUMNS) {
            const float *b = panel_of(p->b, k / BLOCK, column / TILE_COLUMNS);
            long columns = right - column < TILE_COLUMNS ? right - column : TILE_COLUMNS;
            for (long r = 0; r < rows; r += TILE_ROWS) {
                int count = (int)(rows - r < TILE_ROWS ? rows - r : TILE_ROWS);
                float *c = p->c + (first + r) * p->c_row + column;
                for (int i = 0; i < count; i++) __builtin_prefetch(c + i * p->c_row, 1);
                memset(acc, 0, sizeof acc);
                chain(count, a + r / TILE_ROWS * group, row, step, b, n, acc);
                const float *total = k ? c : p->start ? p->start + (c - p->c) : NULL;
                add_block(count, columns, acc, total, c, p->c_row);
            }
        }
    }
}

/* C = start + A·B, with B packed. Returns 0, or 1 where memory ran out. */
static int multiply(long M, const float *a, long a_row, long a_col, const struct packed *b,
                    const float *start, float *c, long c_row) {
    struct multiply p = {M, a, a_row, a_col, b, start, c, c_row, ROWS_AT_ONCE, COLUMNS_AT_ONCE, 0, 0, NULL};
    p.copy = a_col != 1 || a_row >= 1024;
    long wanted = 8 * pool_threads();
    for (;;) {
        p.tiles_M = (M + p.tile_M - 1) / p.tile_M;
        long tiles_N = (b->N + p.tile_N - 1) / p.tile_N;
        if (p.tiles_M * tiles_N >= wanted || (p.tile_M <= 24 && p.tile_N <= 64)) break;
        if (p.tile_N > 64 && (p.tile_N > 128 || p.tile_M <= 48)) {
            p.tile_N /= 2;
        } else {
            p.tile_M /= 2;
        }
    }
    p.work = buffer_get(BUFFER_WORK, (size_t)pool_threads() * ROWS_AT_ONCE * COPY_ROW * sizeof(float));
    if (!p.work) return 1;
    pool_run(multiply_task, &p, p.tiles_M * ((b->N + p.tile_N - 1) / p.tile_N));
    return 0;
}

static int product(long M, long N, long K, const float *a, long a_row, long a_col, const float *b, long b_row,
                   long b_col, const float *start, float *c) {
    struct packed packed;
    if (pack(&packed, N, K, b, b_row, b_col, BUFFER_B)) return 1;
    return multiply(M, a, a_row, a_col, &packed, start, c, N);
}
