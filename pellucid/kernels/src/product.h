/* Matrix products: section 2.1, product sum.

   What decides the bits: terms in ascending order, in chains of BLOCK fused multiply-adds from +0,
   the sums of blocks added in ascending order. What does not: tiles, panels, parts, the order in
   which outputs are computed. All that follows arranges the second so that the first runs at the
   speed of the vector units. A is never padded along k: fma(0, 1, -0) is +0, so a padded term
   would change the sign of a zero. */

INLINE long minimum(long a, long b) { return a < b ? a : b; }
INLINE long ceil_div(long a, long b) { return (a + b - 1) / b; } /* a / b, rounded up. */

#define PIECE 64 /* Terms; a block is four of them. */

/* Memory that is prefetched while a block is computed, because it is read later: in each piece of
   the block from from[piece] on, pace[piece] floats for a term; at more than 16 / STEPS some lines
   are left to be read when needed. */
struct ahead {
    const float *from[BLOCK / PIECE];
    long pace[BLOCK / PIECE];
};

#define NEAR 8  /* Rows of a B that is not packed are asked for so many before they are read. */
#define STEPS 2 /* Terms a turn of the loop: what is not arithmetic costs half as much. */

/* One term: sum = fma(a[r], b[column], sum), where a[r] is base[r / 3][r % 3 * row + at]. */
INLINE void chain_step(int rows, const float *const *base, long row, long at, const float *b,
                       long b_step, v16 sum[TILE_ROWS][TILE_VECTORS]) {
    v16 column[TILE_VECTORS];
    _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++) {
        column[v] = v_load(b + 16 * v);
        if (b_step != TILE_COLUMNS) __builtin_prefetch(b + NEAR * b_step + 16 * v);
    }
    _Pragma("GCC unroll 16") for (int r = 0; r < rows; r++) {
        v16 x = v_set(base[r / 3][r % 3 * row + at]);
        _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++) {
            sum[r][v] = v_fma(x, column[v], sum[r][v]);
        }
    }
}

/* One chain over n terms for each of `rows` rows and TILE_COLUMNS columns, going on from what sum
   holds: sum = fma(a[r][k], b[k][column], sum). `rows` is a constant wherever this is inlined, so
   that sum stays in registers. Every third row has an address of its own, kept from the compiler,
   which would make one of them and more distances than there are registers for. */
INLINE void chain_rows(int rows, const float *a, long row, long step, const float *b, long b_step,
                       long n, const struct ahead *ahead, v16 sum[TILE_ROWS][TILE_VECTORS]) {
    const float *base[(TILE_ROWS + 2) / 3];
    _Pragma("GCC unroll 16") for (int r = 0; r < rows; r += 3) {
        base[r / 3] = a + r * row;
        __asm__("" : "+r"(base[r / 3]));
    }
    for (long begin = 0; begin < n; begin += PIECE) {
        long k = begin, end = minimum(begin + PIECE, n),
             pace = ahead ? ahead->pace[begin / PIECE] : 0;
        const float *later = ahead ? ahead->from[begin / PIECE] : b;
        for (; k + STEPS <= end; k += STEPS, b += STEPS * b_step, later += STEPS * pace) {
            __builtin_prefetch(later, 0, 2);
            _Pragma("GCC unroll 4") for (int i = 0; i < STEPS; i++)
                chain_step(rows, base, row, i * step, b + i * b_step, b_step, sum);
            _Pragma("GCC unroll 16") for (int r = 0; r < rows; r += 3) base[r / 3] += STEPS * step;
        }
        for (; k < end; k++, b += b_step) {
            chain_step(rows, base, row, 0, b, b_step, sum);
            _Pragma("GCC unroll 16") for (int r = 0; r < rows; r += 3) base[r / 3] += step;
        }
    }
}

#define EACH_SUM                                                                                   \
    _Pragma("GCC unroll 16") for (int r = 0; r < rows; r++)                                        \
        _Pragma("GCC unroll 4") for (int v = 0; v < TILE_VECTORS; v++)

/* Chains that go on from acc, TILE_ROWS × TILE_COLUMNS, and are put back there. */
INLINE void go_on_rows(int rows, const float *a, long row, long step, const float *b, long n,
                       float *acc) {
    v16 sum[TILE_ROWS][TILE_VECTORS];
    EACH_SUM sum[r][v] = v_load(acc + r * TILE_COLUMNS + 16 * v);
    chain_rows(rows, a, row, step, b, TILE_COLUMNS, n, NULL, sum);
    EACH_SUM v_store(acc + r * TILE_COLUMNS + 16 * v, sum[r][v]);
}

/* A block: c = total + chains from +0, or the chains alone where total is NULL; both have rows
   c_row apart. */
INLINE void block_rows(int rows, const float *a, long row, long step, const float *b, long b_step,
                       long n, const struct ahead *ahead, const float *total, float *c,
                       long c_row) {
    v16 sum[TILE_ROWS][TILE_VECTORS];
    EACH_SUM sum[r][v] = v_zero();
    chain_rows(rows, a, row, step, b, b_step, n, ahead, sum);
    if (total) EACH_SUM sum[r][v] = v_add(v_load(total + r * c_row + 16 * v), sum[r][v]);
    EACH_SUM v_store(c + r * c_row + 16 * v, sum[r][v]);
}

#if TILE_ROWS == 4
#define EACH_COUNT CASE(1) CASE(2) CASE(3) CASE(4)
#elif TILE_ROWS == 6
#define EACH_COUNT CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#elif TILE_ROWS == 12
/* clang-format off */
#define EACH_COUNT                                                                                 \
    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)                                                \
    CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12)
/* clang-format on */
#endif

static void go_on(int rows, const float *a, long row, long step, const float *b, long n,
                  float *acc) {
    switch (rows) {
#define CASE(count)                                                                                \
    case count: go_on_rows(count, a, row, step, b, n, acc); break;
        EACH_COUNT
#undef CASE
    }
}

/* The terms of a row of A beside each other, and B packed. */
static void block(int rows, const float *a, long row, const float *b, long n,
                  const struct ahead *ahead, const float *total, float *c, long c_row) {
    switch (rows) {
#define CASE(count)                                                                                \
    case count: block_rows(count, a, row, 1, b, TILE_COLUMNS, n, ahead, total, c, c_row); break;
        EACH_COUNT
#undef CASE
    }
}

/* A packed, and B where it lies. */
static void block_across(int rows, const float *a, const float *b, long b_step, long n,
                         const struct ahead *ahead, const float *total, float *c, long c_row) {
    switch (rows) {
#define CASE(count)                                                                                \
    case count: block_rows(count, a, 1, TILE_ROWS, b, b_step, n, ahead, total, c, c_row); break;
        EACH_COUNT
#undef CASE
    }
}

/* At the right edge of C, where fewer than TILE_COLUMNS columns are left: c = total + block, or the
   block alone. */
static void add_edge(int rows, long columns, const float *block, const float *total, float *c,
                     long c_row) {
    for (int r = 0; r < rows; r++)
        for (long j = 0; j < columns; j++) {
            float sum = block[r * TILE_COLUMNS + j];
            c[r * c_row + j] = total ? total[r * c_row + j] + sum : sum;
        }
}

/* c = total + x, or x alone where total is NULL: one row of a multiple of 16. */
INLINE void add_row(const float *x, const float *total, float *c, long n) {
    for (long j = 0; j < n; j += 16)
        v_store(c + j, total ? v_add(v_load(total + j), v_load(x + j)) : v_load(x + j));
}

/* B as panels of TILE_COLUMNS columns: block by block, panel by panel, k by k. Columns past N are
   zero and are never stored to C; nothing is added along k. */
struct packed {
    const float *b;
    long b_row, b_col, N, K, panels;
    float *out;
};

/* Where block `block` of a panel begins. All blocks but the last are whole. */
INLINE float *panel_of(const struct packed *p, long block, long panel) {
    long first = block * BLOCK, length = minimum(BLOCK, p->K - first);
    return p->out + (first * p->panels + panel * length) * TILE_COLUMNS;
}

typedef float v4 __attribute__((vector_size(16)));
typedef int32_t v4i __attribute__((vector_size(16)));
#ifdef __clang__
#define MIX4(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
#define MIX4(a, b, i, j, k, l) __builtin_shuffle(a, b, (v4i){i, j, k, l})
#endif

INLINE v4 load4(const float *p) {
    v4 x;
    memcpy(&x, p, sizeof x);
    return x;
}

/* out[k][j] = b[j][k] for four of either; rows of b are b_row apart, those of out out_row. */
INLINE void turn4(const float *b, long b_row, float *out, long out_row) {
    v4 x0 = load4(b), x1 = load4(b + b_row), x2 = load4(b + 2 * b_row), x3 = load4(b + 3 * b_row);
    v4 low01 = MIX4(x0, x1, 0, 4, 1, 5), high01 = MIX4(x0, x1, 2, 6, 3, 7);
    v4 low23 = MIX4(x2, x3, 0, 4, 1, 5), high23 = MIX4(x2, x3, 2, 6, 3, 7);
    v4 turned[4] = {MIX4(low01, low23, 0, 1, 4, 5), MIX4(low01, low23, 2, 3, 6, 7),
                    MIX4(high01, high23, 0, 1, 4, 5), MIX4(high01, high23, 2, 3, 6, 7)};
    for (int k = 0; k < 4; k++) memcpy(out + k * out_row, &turned[k], sizeof turned[k]);
}

/* A panel of n terms: row k is b[k][0], b[k][1], …, up to `columns` of them; the others of `width`
   are zero. */
INLINE void pack_panel(int width, const float *b, long b_row, long b_col, long n, long columns,
                       float *out) {
    if (columns == width && b_col == 1) {
        for (long k = 0; k < n; k++, b += b_row, out += width)
            memcpy(out, b, (size_t)width * sizeof *out);
        return;
    }
    if (columns < width) memset(out, 0, (size_t)(n * width) * sizeof *out);
    long fours = b_row == 1 ? columns / 4 * 4 : 0, terms = n / 4 * 4;
    /* In squares, so that both sides stay in the first cache. */
    for (long begin = 0; begin < n; begin += 16) {
        long end = minimum(begin + 16, n), turned = minimum(end, terms);
        for (long j = 0; j < fours; j += 4) {
            for (long k = begin; k < turned; k += 4)
                turn4(b + j * b_col + k, b_col, out + k * width + j, width);
            for (long k = turned; k < end; k++)
                for (long i = j; i < j + 4; i++) out[k * width + i] = b[k + i * b_col];
        }
        for (long j = fours; j < columns; j++)
            for (long k = begin; k < end; k++) out[k * width + j] = b[k * b_row + j * b_col];
    }
}

#define PANELS_AT_ONCE (128 / TILE_COLUMNS) /* Some whole cache lines. */
#define AHEAD 16 /* Rows that lie across memory are asked for so many before they are read. */

/* Some neighbouring panels of one block: a row of B is read once, along the row. */
static void pack_task(void *arguments, long index, int worker) {
    (void)worker;
    const struct packed *p = arguments;
    long tasks = ceil_div(p->panels, PANELS_AT_ONCE);
    long block = index / tasks, begin = index % tasks * PANELS_AT_ONCE;
    long end = minimum(begin + PANELS_AT_ONCE, p->panels);
    long first = block * BLOCK, n = minimum(BLOCK, p->K - first);
    const float *b = p->b + first * p->b_row;
    if (p->b_col == 1) {
        long whole = end * TILE_COLUMNS <= p->N ? end : end - 1;
        float *out = panel_of(p, block, begin);
        const float *row = b + begin * TILE_COLUMNS;
        for (long k = 0; k < n; k++, row += p->b_row) {
            for (long j = 0; j < (whole - begin) * TILE_COLUMNS; j += 16)
                __builtin_prefetch(row + AHEAD * p->b_row + j);
            for (long panel = 0; panel < whole - begin; panel++)
                memcpy(out + (panel * n + k) * TILE_COLUMNS, row + panel * TILE_COLUMNS,
                       TILE_COLUMNS * sizeof *out);
        }
        begin = whole;
    }
    for (long panel = begin; panel < end; panel++) {
        long column = panel * TILE_COLUMNS, columns = minimum(TILE_COLUMNS, p->N - column);
        pack_panel(TILE_COLUMNS, b + column * p->b_col, p->b_row, p->b_col, n, columns,
                   panel_of(p, block, panel));
    }
}

/* Returns 0, or 1 where memory ran out. */
static int pack(struct packed *p, long N, long K, const float *b, long b_row, long b_col,
                enum buffer where) {
    *p = (struct packed){b, b_row, b_col, N, K, ceil_div(N, TILE_COLUMNS), NULL};
    p->out = buffer_get(where, (size_t)p->panels * TILE_COLUMNS * (size_t)K * sizeof(float));
    if (!p->out) return 1;
    pool_run(pack_task, p, ceil_div(K, BLOCK) * ceil_div(p->panels, PANELS_AT_ONCE));
    return 0;
}

/* C in parts, a task each: `down` times `along`, of about as many tiles. No bit depends on it. */
struct grid {
    long M, N, down, along;
    int half; /* Tiles wholly above the diagonal are left out: C is symmetric (gram.h). */
};

/* Parts are made lower until they have FEW_ROWS, then narrower until they have FEW_COLUMNS. */
#define FEW_ROWS 96
#define FEW_COLUMNS 64

/* Parts of at most so many rows and columns. Where C is large enough, at least so many a thread,
   since then who is held up costs the others little; and as many for every thread. */
static struct grid divide(long M, long N, long rows, long columns, long a_thread) {
    struct grid g = {M, N, ceil_div(M, rows), ceil_div(N, columns), 0};
    while (g.down * g.along < a_thread * pool_threads()) {
        long high = ceil_div(M, g.down), wide = ceil_div(N, g.along);
        if (high > FEW_ROWS || (wide <= FEW_COLUMNS && high > TILE_ROWS)) {
            g.down++;
        } else if (wide > FEW_COLUMNS) {
            g.along++;
        } else {
            break;
        }
    }
    long down = g.down;
    while (down * g.along % pool_threads()) down++;
    if (down <= ceil_div(M, TILE_ROWS)) g.down = down;
    return g;
}

struct range {
    long top, bottom, left, right;
};

/* Where part `index` of `parts` begins. */
INLINE long part(long index, long parts, long size, long tile) {
    return minimum(index * ceil_div(size, tile) / parts * tile, size);
}

/* Part by part downwards: neighbours share panels of B. */
INLINE struct range range_of(const struct grid *g, long index) {
    long row = index % g->down, column = index / g->down;
    return (struct range){
        part(row, g->down, g->M, TILE_ROWS), part(row + 1, g->down, g->M, TILE_ROWS),
        part(column, g->along, g->N, TILE_COLUMNS), part(column + 1, g->along, g->N, TILE_COLUMNS)};
}

/* The first row of a part, counted from its top, whose tile at a column is wanted: further down the
   more it lies right. */
INLINE long first_row(const struct grid *g, struct range own, long column) {
    return g->half && column > own.top ? (column - own.top) / TILE_ROWS * TILE_ROWS : 0;
}

struct multiply {
    struct grid grid;
    const float *a;
    long a_row;
    const struct packed *b;
    /* The blocks are added to start: NULL, C itself, or another matrix of its shape. */
    const float *start;
    float *c;
    long c_row;
    float *work;
};

#define ROWS_AT_ONCE 48
#define COLUMNS_AT_ONCE 1024
#define COPY_ROW (BLOCK + 16) /* Not a multiple of a page: rows fall into different cache sets. */
#define FAR_APART 1024 /* Rows so many floats apart are packed: they would share cache sets. */

/* A's rows `first` … as the inner loop reads them; *row is their distance. */
static const float *a_block(const struct multiply *p, long first, long rows, long k, long n,
                            float *work, long *row) {
    const float *a = p->a + first * p->a_row + k;
    *row = p->a_row;
    if (p->a_row < FAR_APART) return a;
    for (long r = 0; r < rows; r++)
        memcpy(work + r * COPY_ROW, a + r * p->a_row, (size_t)n * sizeof *a);
    *row = COPY_ROW;
    return work;
}

/* Ask for the rows of A that come next, while this tile is at work: at most TILE_ROWS of them. */
INLINE void fetch_rows(const float *a, long row, long n, long rows) {
    for (long i = 0; i < rows && i < TILE_ROWS; i++)
        for (long k = 0; k < n; k += 16) __builtin_prefetch(a + i * row + k);
}

INLINE void fetch_tile(const float *c, long c_row, long rows) {
    for (long i = 0; i < rows; i++)
        for (long j = 0; j < TILE_COLUMNS; j += 16) __builtin_prefetch(c + i * c_row + j, 1);
}

/* The tiles that share a panel of B ask for the next one among them; this one from row r of them
   on. */
INLINE struct ahead panel_ahead(const float *next, long n, long r, long rows) {
    long pace = rows < TILE_ROWS ? TILE_COLUMNS : TILE_ROWS * TILE_COLUMNS / rows;
    struct ahead ahead;
    for (long i = 0; i < BLOCK / PIECE; i++) {
        ahead.from[i] = next + r * n * TILE_COLUMNS / rows + i * PIECE * pace;
        ahead.pace[i] = pace;
    }
    return ahead;
}

static void multiply_task(void *arguments, long index, int worker) {
    const struct multiply *p = arguments;
    struct range own = range_of(&p->grid, index);
    long rows = own.bottom - own.top;
    float *work = p->work + (size_t)worker * ROWS_AT_ONCE * COPY_ROW;
    float edge[TILE_ROWS * TILE_COLUMNS] __attribute__((aligned(64)));
    for (long k = 0; k < p->b->K; k += BLOCK) {
        long n = minimum(BLOCK, p->b->K - k), row;
        const float *a = a_block(p, own.top, rows, k, n, work, &row);
        for (long column = own.left; column < own.right; column += TILE_COLUMNS) {
            long begin = first_row(&p->grid, own, column);
            if (begin >= rows) break;
            const float *b = panel_of(p->b, k / BLOCK, column / TILE_COLUMNS);
            long then = column + TILE_COLUMNS < own.right ? column + TILE_COLUMNS : own.left;
            const float *next = panel_of(p->b, k / BLOCK + (then == own.left), then / TILE_COLUMNS);
            for (long r = begin; r < rows; r += TILE_ROWS) {
                int count = (int)minimum(TILE_ROWS, rows - r);
                const float *tile = a + r * row;
                float *c = p->c + (own.top + r) * p->c_row + column;
                const float *total = k ? c : p->start ? p->start + (c - p->c) : NULL;
                struct ahead ahead = panel_ahead(next, n, r, rows);
                fetch_tile(c, p->c_row, count);
                if (column == own.left)
                    fetch_rows(tile + TILE_ROWS * row, row, n, rows - r - count);
                if (own.right - column >= TILE_COLUMNS) {
                    block(count, tile, row, b, n, &ahead, total, c, p->c_row);
                } else {
                    block(count, tile, row, b, n, &ahead, NULL, edge, TILE_COLUMNS);
                    add_edge(count, own.right - column, edge, total, c, p->c_row);
                }
            }
        }
    }
}

/* C = start + A·B, with B packed and the terms of a row of A beside each other. Returns 0, or 1
   where memory ran out. */
static int multiply(long M, const float *a, long a_row, const struct packed *b, const float *start,
                    float *c, long c_row, int half) {
    struct multiply p = {
        divide(M, b->N, ROWS_AT_ONCE, COLUMNS_AT_ONCE, 8), a, a_row, b, start, c, c_row, NULL};
    p.grid.half = half;
    p.work =
        buffer_get(BUFFER_WORK, (size_t)pool_threads() * ROWS_AT_ONCE * COPY_ROW * sizeof(float));
    if (!p.work) return 1;
    pool_run(multiply_task, &p, p.grid.down * p.grid.along);
    return 0;
}

/* A product whose A is transposed, as a weight's gradient is: many terms, and little besides. Every
   task packs its own rows of A, a block at a time, and reads B where it lies: what one core writes
   and another reads is slow to come by. Meanwhile it asks for the rows of both that the next block
   reads, along the rows, so that few pages are touched. */
struct across {
    struct grid grid;
    long K;
    const float *a;
    long a_col;
    const float *b;
    long b_row, b_col;
    const float *start;
    float *c, *work;
};

#define ACROSS_ROWS 264 /* That a task packs: 264 KiB. Whole tiles of any instruction set. */
#define ACROSS_COLUMNS 704
/* Floats: rows of A, and a panel of B. */
#define ACROSS_WORK ((ACROSS_ROWS + TILE_COLUMNS) * BLOCK)

/* Tile `tile` of `tiles` asks for its share of the next block's rows, A's and B's in turn. */
INLINE struct ahead rows_ahead(const struct across *p, const float *a, const float *b,
                               struct range own, long tile, long tiles) {
    struct ahead ahead;
    for (long i = 0; i < BLOCK / PIECE; i++) {
        long row = 2 * BLOCK * (tile * (BLOCK / PIECE) + i) / (tiles * (BLOCK / PIECE));
        ahead.from[i] = row % 2 ? a + row / 2 * p->a_col : b + row / 2 * p->b_row;
        ahead.pace[i] = ceil_div(row % 2 ? own.bottom - own.top : own.right - own.left, PIECE);
    }
    return ahead;
}

static void across_task(void *arguments, long index, int worker) {
    const struct across *p = arguments;
    struct range own = range_of(&p->grid, index);
    long rows = own.bottom - own.top, columns = own.right - own.left;
    long tiles = ceil_div(rows, TILE_ROWS) * ceil_div(columns, TILE_COLUMNS);
    if (first_row(&p->grid, own, own.left) >= rows) return;
    float *panels = p->work + (size_t)worker * ACROSS_WORK, *panel = panels + ACROSS_ROWS * BLOCK;
    float edge[TILE_ROWS * TILE_COLUMNS] __attribute__((aligned(64)));
    for (long k = 0; k < p->K; k += BLOCK) {
        long n = minimum(BLOCK, p->K - k), tile = 0;
        const float *a = p->a + k * p->a_col + own.top,
                    *b = p->b + k * p->b_row + own.left * p->b_col;
        for (long r = 0; r < rows; r += TILE_ROWS)
            pack_panel(TILE_ROWS, a + r, p->a_col, 1, n, minimum(TILE_ROWS, rows - r),
                       panels + r * n);
        for (long j = 0; j < columns; j += TILE_COLUMNS) {
            long begin = first_row(&p->grid, own, own.left + j);
            if (begin >= rows) break;
            long some = minimum(TILE_COLUMNS, columns - j), b_step = p->b_row;
            const float *from = b + j * p->b_col;
            if (some < TILE_COLUMNS || p->b_col != 1 || p->b_row >= FAR_APART) {
                pack_panel(TILE_COLUMNS, from, p->b_row, p->b_col, n, some, panel);
                from = panel, b_step = TILE_COLUMNS;
            }
            for (long r = begin; r < rows; r += TILE_ROWS) {
                int count = (int)minimum(TILE_ROWS, rows - r);
                float *c = p->c + (own.top + r) * p->grid.N + own.left + j;
                const float *total = k ? c : p->start ? p->start + (c - p->c) : NULL;
                struct ahead ahead =
                    rows_ahead(p, a + BLOCK * p->a_col, b + BLOCK * p->b_row, own, tile++, tiles);
                fetch_tile(c, p->grid.N, count);
                if (some == TILE_COLUMNS) {
                    block_across(count, panels + r * n, from, b_step, n, &ahead, total, c,
                                 p->grid.N);
                } else {
                    block_across(count, panels + r * n, from, b_step, n, &ahead, NULL, edge,
                                 TILE_COLUMNS);
                    add_edge(count, some, edge, total, c, p->grid.N);
                }
            }
        }
    }
}

/* C = start + A·B, where A's element (m, k) is a[m + k * a_col]. Returns 0, or 1 where memory ran
   out. */
static int multiply_across(long M, long N, long K, const float *a, long a_col, const float *b,
                           long b_row, long b_col, const float *start, float *c, int half) {
    /* More parts for a half, because its parts take unlike times. */
    struct grid grid = divide(M, N, ACROSS_ROWS, ACROSS_COLUMNS, half ? 4 : 1);
    struct across p = {grid, K, a, a_col, b, b_row, b_col, start, c, NULL};
    p.grid.half = half;
    p.work = buffer_get(BUFFER_WORK, (size_t)pool_threads() * ACROSS_WORK * sizeof(float));
    if (!p.work) return 1;
    pool_run(across_task, &p, p.grid.down * p.grid.along);
    return 0;
}

#define TERMS (8 * BLOCK)

/* B is packed so many terms at a time: it is then read from a near cache, and takes little memory,
   TERMS · N floats. */
static int product_or_half(long M, long N, long K, const float *a, long a_row, long a_col,
                           const float *b, long b_row, long b_col, const float *start, float *c,
                           int half) {
    if (a_col != 1) return multiply_across(M, N, K, a, a_col, b, b_row, b_col, start, c, half);
    struct packed packed;
    for (long k = 0; k < K; k += TERMS) {
        long n = minimum(TERMS, K - k);
        if (pack(&packed, N, n, b + k * b_row, b_row, b_col, BUFFER_B)) return 1;
        if (multiply(M, a + k, a_row, &packed, k ? c : start, c, N, half)) return 1;
    }
    return 0;
}

static int product(long M, long N, long K, const float *a, long a_row, long a_col, const float *b,
                   long b_row, long b_col, const float *start, float *c) {
    return product_or_half(M, N, K, a, a_row, a_col, b, b_row, b_col, start, c, 0);
}
