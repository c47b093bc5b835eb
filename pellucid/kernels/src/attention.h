/* Causal attention with rotary embedding, grouped queries and document masks: section 2.2.

   A task is one sequence and one key-value head. It goes through the queries in blocks of 64 and
   holds one block's scores, never a sequence's. A row of the result depends on no other query.
   Terms that are masked are not computed into a chain: each row of a tile has the range of the
   summed index that it takes part in. */


INLINE long round_up(long n, long unit) { return ceil_div(n, unit) * unit; }

struct attention {
    struct attention_shape s;
    const float *q, *k, *v, *cos, *sin;
    const int32_t *first_BT;
    float *o, *m_BHT, *g_BHT;
    const float *dout;
    float *dq, *dk, *dv;
    float scale, *scratch;
    size_t scratch_floats;
};

/* A worker's memory. P is T rounded up to a tile, W is C rounded up to a tile. */
struct room {
    float *keys_CP, *values_TW; /* Panels: keys for scores, values for the output. */
    float *values_CP, *keys_TW; /* Panels: values for dP, keys for dq. */
    float *query_QC, *dout_QC;  /* Rows: rotated and scaled queries; gradients of the output. */
    float *query_QW, *dout_QW;  /* The same as panels. */
    /* Scores and then probabilities; dP and then dS; a result. */
    float *score_QP, *other_QP, *out_QW;
    float *dk_TW, *dv_TW;   /* Totals. */
    long P, W, row;         /* row: the distance of rows of scores. */
    int32_t *last_T;        /* The last query that sees a key. */
    unsigned char *begun_T; /* Whether a key has a total yet. */
};

static size_t room_floats(const struct attention_shape *s, int backward) {
    size_t P = (size_t)round_up(s->length, TILE_COLUMNS);
    size_t W = (size_t)round_up(s->width, TILE_COLUMNS);
    size_t C = (size_t)s->width, T = (size_t)s->length, row = P + 16;
    size_t forward = C * P + T * W + SHORT_BLOCK * (C + row + W);
    size_t more = C * P + T * W + SHORT_BLOCK * (C + 2 * W + row) + 2 * T * W + 2 * T;
    return forward + (backward ? more : 0) + 64;
}

static struct room room_of(const struct attention *p, int worker, int backward) {
    long T = p->s.length, C = p->s.width;
    struct room r = {.P = round_up(T, TILE_COLUMNS), .W = round_up(C, TILE_COLUMNS)};
    r.row = r.P + 16; /* Not a power of two: rows fall into different cache sets. */
    float *next = p->scratch + p->scratch_floats * (size_t)worker;
#define TAKE(name, count) r.name = next, next += (count)
    TAKE(keys_CP, C * r.P);
    TAKE(values_TW, T * r.W);
    TAKE(query_QC, SHORT_BLOCK * C);
    TAKE(score_QP, SHORT_BLOCK * r.row);
    TAKE(out_QW, SHORT_BLOCK * r.W);
    if (!backward) return r;
    TAKE(values_CP, C * r.P);
    TAKE(keys_TW, T * r.W);
    TAKE(dout_QC, SHORT_BLOCK * C);
    TAKE(query_QW, SHORT_BLOCK * r.W);
    TAKE(dout_QW, SHORT_BLOCK * r.W);
    TAKE(other_QP, SHORT_BLOCK * r.row);
    TAKE(dk_TW, T * r.W);
    TAKE(dv_TW, T * r.W);
#undef TAKE
    r.last_T = (int32_t *)next;
    r.begun_T = (unsigned char *)(next + T);
    return r;
}

/* Every pair turned by its angle; back is the gradient's way, by the opposite angle: sines change
   their sign, exactly. */
INLINE void turn_pairs(int back, const float *x, const float *cos, const float *sin, long width,
                       float *out) {
    long half = width / 2, i = 0;
    for (; i + LANES <= half; i += LANES) {
        v16 a = v_load(x + i), b = v_load(x + half + i), c = v_load(cos + i), s = v_load(sin + i);
        if (back) s = v_neg(s);
        v_store(out + i, v_fnma(b, s, v_mul(a, c)));
        v_store(out + half + i, v_fma(a, s, v_mul(b, c)));
    }
    for (; i < half; i++) {
        float a = x[i], b = x[half + i], s = back ? -sin[i] : sin[i];
        out[i] = fma_one(-b, s, a * cos[i]);
        out[half + i] = fma_one(a, s, b * cos[i]);
    }
}

static void rotate(const float *x, const float *cos, const float *sin, long width, float *out) {
    turn_pairs(0, x, cos, sin, width, out);
}

static void rotate_back(const float *x, const float *cos, const float *sin, long width,
                        float *out) {
    turn_pairs(1, x, cos, sin, width, out);
}

static void scale_row(float *x, float factor, long n) {
    long i = 0;
    for (; i + LANES <= n; i += LANES) v_store(x + i, v_mul(v_load(x + i), v_set(factor)));
    for (; i < n; i++) x[i] = x[i] * factor;
}

/* Rows [n][width] at a distance into panels over columns: [W / tile][length][tile], the first n of
   `length` rows; missing columns are zero. */
static void columns_into_panels(const float *x, long distance, long n, long width, long length,
                                float *out) {
    for (long j = 0; j < width; j += TILE_COLUMNS)
        pack_panel(TILE_COLUMNS, x + j, distance, 1, n, minimum(TILE_COLUMNS, width - j),
                   out + j * length);
}

/* Rows [n][width] into panels over rows: [P / tile][width][tile]. */
static void rows_into_panels(const float *x, long distance, long n, long width, float *out) {
    for (long i = 0; i < n; i += TILE_COLUMNS)
        pack_panel(TILE_COLUMNS, x + i * distance, 1, distance, width, minimum(TILE_COLUMNS, n - i),
                   out + i * width);
}

/* out[i][j] = product sum over c of rows[i][c]·panel[c][j], for all j up to `past` that some row
   from `first` on needs: row i of the block is query begin + i and needs no key after itself. */
static void scores(const float *rows, const float *panels, long count, long begin, long first,
                   long width, float *out, long out_row) {
    for (long i = 0; i < count; i += TILE_ROWS) {
        int tile = (int)minimum(TILE_ROWS, count - i);
        for (long j = first / TILE_COLUMNS * TILE_COLUMNS; j < begin + i + tile; j += TILE_COLUMNS)
            for (long c = 0; c < width; c += BLOCK) {
                float *to = out + i * out_row + j;
                block(tile, rows + i * width + c, width, panels + (j * width + c * TILE_COLUMNS),
                      minimum(BLOCK, width - c), NULL, c ? to : NULL, to, out_row);
            }
    }
}

/* The ranges of the summed index that the rows of a tile take part in, both ends included and
   ascending. */
struct ranges {
    int rows;
    long first[TILE_ROWS], last[TILE_ROWS];
};

/* The heart of "masked terms are absent": a term that a row does not see is left out of its chain,
   not multiplied by zero, which could turn -0 into +0 and a NaN elsewhere into a NaN here. Where
   all rows of the tile see a term, the fast tile takes it; at both ends rows go one by one.

   acc goes on over [from, past) where rows of `a` (strides row, step; index 0 is `from`) meet the
   panel b. */
static void chain_ranged(const struct ranges *in, const float *a, long row, long step,
                         const float *b, long from, long past, float *acc) {
    int rows = in->rows;
    long begin = from > in->first[0] ? from : in->first[0],
         end = minimum(past, in->last[rows - 1] + 1);
    long all = from > in->first[rows - 1] ? from : in->first[rows - 1],
         some = minimum(past, in->last[0] + 1);
    if (all >= some) all = some = end;
    for (long k = begin; k < end; k++) {
        if (k == all && all < some) {
            go_on(rows, a + (k - from) * step, row, step, b + (k - from) * TILE_COLUMNS, some - all,
                  acc);
            k = some - 1;
            continue;
        }
        const float *term = a + (k - from) * step, *columns = b + (k - from) * TILE_COLUMNS;
        for (int r = 0; r < rows; r++) {
            if (k < in->first[r] || in->last[r] < k) continue;
            float *own = acc + r * TILE_COLUMNS;
            for (int j = 0; j < TILE_COLUMNS; j += 16)
                v_store(own + j, v_fma(v_set(term[r * row]), v_load(columns + j), v_load(own + j)));
        }
    }
}

/* out[i][c] = product sum over the keys that query begin + i sees, from first_Q[i] on, of
   a[i][j]·panel[j][c]. */
static void over_keys(const float *a, long a_row, const float *panels, long count, long begin,
                      const int32_t *first_Q, long length, long W, float *out) {
    float acc[TILE_ROWS * TILE_COLUMNS] __attribute__((aligned(64)));
    for (long i = 0; i < count; i += TILE_ROWS) {
        struct ranges in = {.rows = (int)minimum(TILE_ROWS, count - i)};
        for (int r = 0; r < in.rows; r++) in.first[r] = first_Q[i + r], in.last[r] = begin + i + r;
        for (long c = 0; c < W; c += TILE_COLUMNS) {
            unsigned begun = 0;
            for (long k = in.first[0] / BLOCK * BLOCK; k <= in.last[in.rows - 1]; k += BLOCK) {
                memset(acc, 0, sizeof acc);
                chain_ranged(&in, a + i * a_row + k, a_row, 1,
                             panels + c * length + k * TILE_COLUMNS, k, k + BLOCK, acc);
                for (int r = 0; r < in.rows; r++) {
                    if (in.last[r] < k || in.first[r] >= k + BLOCK) continue;
                    float *to = out + (i + r) * W + c;
                    add_row(acc + r * TILE_COLUMNS, begun >> r & 1 ? to : NULL, to, TILE_COLUMNS);
                    begun |= 1u << r;
                }
            }
        }
    }
}

/* One chain a block of 64 queries and a head, added in ascending order of (head, block). `begun`
   tells an assignment from an addition: nothing is ever added to a cleared zero, which would turn
   -0 into +0.

   total[j][c] gets the block over these queries of a[query][j]·panel[query][c]: added, or assigned
   where key j has none of an earlier block or head. */
static void over_queries(const struct room *room, const float *a, const float *panels, long count,
                         long begin, long first, float *total) {
    float acc[TILE_ROWS * TILE_COLUMNS] __attribute__((aligned(64)));
    for (long j = first; j < begin + count; j += TILE_ROWS) {
        struct ranges in = {.rows = (int)minimum(TILE_ROWS, begin + count - j)};
        for (int r = 0; r < in.rows; r++) in.first[r] = j + r, in.last[r] = room->last_T[j + r];
        for (long c = 0; c < room->W; c += TILE_COLUMNS) {
            memset(acc, 0, sizeof acc);
            chain_ranged(&in, a + j, 1, room->row, panels + c * count, begin, begin + count, acc);
            for (int r = 0; r < in.rows; r++) {
                if (in.last[r] < begin) continue;
                float *to = total + (j + r) * room->W + c;
                add_row(acc + r * TILE_COLUMNS, room->begun_T[j + r] ? to : NULL, to, TILE_COLUMNS);
            }
        }
    }
}

/* No online softmax: the maximum over the whole row is known before the first exponential, so the
   result does not depend on how a row is cut.

   Scores of row i become p, its unseen neighbours in the same vectors +0; returns the lane sum. */
static float softmax_row(float *x, long first, long last, float *m) {
    long from = first / LANES * LANES, past = round_up(last + 1, LANES);
    for (long j = from; j < first; j++) x[j] = -__builtin_inff();
    for (long j = last + 1; j < past; j++) x[j] = -__builtin_inff();
    *m = largest(x + from, past - from);
    return exponentials(x + from, past - from, *m);
}

/* Rows of a head lie far apart, where no prefetcher looks: ask for the one that comes some rows
   later. */
INLINE void fetch_row(const float *x, long distance, long width) {
    for (long c = 0; c < width; c += 16) __builtin_prefetch(x + 6 * distance + c);
}

static void rotated_keys(const struct attention *p, long b, long head, float *rows_TC) {
    long T = p->s.length, C = p->s.width, distance = p->s.kv_heads * C;
    const float *k = p->k + (b * T * p->s.kv_heads + head) * C;
    for (long t = 0; t < T; t++) {
        fetch_row(k + t * distance, distance, C);
        rotate(k + t * distance, p->cos + t * C / 2, p->sin + t * C / 2, C, rows_TC + t * C);
    }
}

/* The queries of one head at the positions begin …, rotated and scaled; q is the first of them. */
static void rotated_queries(const struct attention *p, const float *q, long begin, long count,
                            float *rows_QC) {
    long C = p->s.width, distance = p->s.heads * C;
    for (long i = 0; i < count; i++) {
        long t = begin + i;
        fetch_row(q + i * distance, distance, C);
        rotate(q + i * distance, p->cos + t * C / 2, p->sin + t * C / 2, C, rows_QC + i * C);
        scale_row(rows_QC + i * C, p->scale, C);
    }
}

/* At most SHORT_BLOCK queries of one head at the positions begin …, over the panels of keys and
   values in the room, which are `length` positions long. q and o are the rows of the first query,
   and m_Q and g_Q get each query's maximum and 1 / sum. */
static void attend(const struct attention *p, const struct room *room, long length, long begin,
                   long count, const int32_t *first_Q, const float *q, float *o, float *m_Q,
                   float *g_Q) {
    long C = p->s.width;
    rotated_queries(p, q, begin, count, room->query_QC);
    scores(room->query_QC, room->keys_CP, count, begin, first_Q[0], C, room->score_QP, room->row);
    for (long i = 0; i < count; i++) {
        float sum = softmax_row(room->score_QP + i * room->row, first_Q[i], begin + i, &m_Q[i]);
        g_Q[i] = 1.0f / sum;
    }
    over_keys(room->score_QP, room->row, room->values_TW, count, begin, first_Q, length, room->W,
              room->out_QW);
    for (long i = 0; i < count; i++) {
        float *out = o + i * p->s.heads * C;
        memcpy(out, room->out_QW + i * room->W, (size_t)C * sizeof *out);
        scale_row(out, g_Q[i], C);
    }
}

static void attention_task(void *arguments, long index, int worker) {
    const struct attention *p = arguments;
    long T = p->s.length, C = p->s.width, H = p->s.heads, K = p->s.kv_heads, b = index / K,
         head = index % K;
    struct room room = room_of(p, worker, 0);
    rotated_keys(p, b, head, room.values_TW); /* Only until they are in panels. */
    rows_into_panels(room.values_TW, C, T, C, room.keys_CP);
    columns_into_panels(p->v + (b * T * K + head) * C, K * C, T, C, T, room.values_TW);
    for (long h = head * (H / K); h < (head + 1) * (H / K); h++)
        for (long begin = 0; begin < T; begin += SHORT_BLOCK) {
            long row = ((b * T + begin) * H + h) * C, place = (b * H + h) * T + begin;
            attend(p, &room, T, begin, minimum(SHORT_BLOCK, T - begin), p->first_BT + b * T + begin,
                   p->q + row, p->o + row, p->m_BHT + place, p->g_BHT + place);
        }
}

/* Scores become probabilities P, dP becomes dS. */
static void backward_rows(const struct attention *p, struct room *room, long b, long h, long begin,
                          long count) {
    long T = p->s.length, C = p->s.width, H = p->s.heads;
    const int32_t *first_T = p->first_BT + b * T;
    for (long i = 0; i < count; i++) {
        long t = begin + i, place = (b * H + h) * T + t, from = first_T[t] / LANES * LANES;
        float *x = room->score_QP + i * room->row, *y = room->other_QP + i * room->row;
        v16 m = v_set(p->m_BHT[place]), g = v_set(p->g_BHT[place]);
        v16 D = v_set(lane_dot(room->dout_QC + i * C, p->o + ((b * T + t) * H + h) * C, C));
        /* The last vector goes past the row's range. What is written there is never read. */
        for (long j = from; j <= t; j += LANES) {
            v16 P = v_mul(v_exp(v_sub(v_load(x + j), m)), g);
            v_store(x + j, P);
            v_store(y + j, v_mul(P, v_sub(v_load(y + j), D)));
        }
    }
}

static void backward_queries(const struct attention *p, struct room *room, long b, long h,
                             long begin, long count) {
    long T = p->s.length, C = p->s.width, H = p->s.heads;
    const int32_t *first_T = p->first_BT + b * T;
    const float *dout = p->dout + ((b * T + begin) * H + h) * C;
    rotated_queries(p, p->q + ((b * T + begin) * H + h) * C, begin, count, room->query_QC);
    for (long i = 0; i < count; i++) {
        fetch_row(dout + i * H * C, H * C, C);
        memcpy(room->dout_QC + i * C, dout + i * H * C, (size_t)C * sizeof(float));
    }
    columns_into_panels(room->query_QC, C, count, C, count, room->query_QW);
    columns_into_panels(room->dout_QC, C, count, C, count, room->dout_QW);
    scores(room->query_QC, room->keys_CP, count, begin, first_T[begin], C, room->score_QP,
           room->row);
    scores(room->dout_QC, room->values_CP, count, begin, first_T[begin], C, room->other_QP,
           room->row);
    backward_rows(p, room, b, h, begin, count);
    over_keys(room->other_QP, room->row, room->keys_TW, count, begin, first_T + begin, T, room->W,
              room->out_QW);
    for (long i = 0; i < count; i++) {
        long t = begin + i;
        scale_row(room->out_QW + i * room->W, p->scale, C);
        rotate_back(room->out_QW + i * room->W, p->cos + t * C / 2, p->sin + t * C / 2, C,
                    p->dq + ((b * T + t) * H + h) * C);
    }
    over_queries(room, room->other_QP, room->query_QW, count, begin, first_T[begin], room->dk_TW);
    over_queries(room, room->score_QP, room->dout_QW, count, begin, first_T[begin], room->dv_TW);
    for (long j = first_T[begin]; j < begin + count; j++)
        room->begun_T[j] |= room->last_T[j] >= begin;
}

static void attention_backward_task(void *arguments, long index, int worker) {
    const struct attention *p = arguments;
    long T = p->s.length, C = p->s.width, H = p->s.heads, K = p->s.kv_heads, b = index / K,
         head = index % K;
    const int32_t *first_T = p->first_BT + b * T;
    const float *v = p->v + (b * T * K + head) * C;
    struct room room = room_of(p, worker, 1);
    rotated_keys(p, b, head, room.dk_TW); /* Only until they are in panels. */
    rows_into_panels(room.dk_TW, C, T, C, room.keys_CP);
    columns_into_panels(room.dk_TW, C, T, C, T, room.keys_TW);
    rows_into_panels(v, K * C, T, C, room.values_CP);
    /* A key is last seen before the first query whose range begins after the key. */
    for (long t = 0, key = 0; t < T; t++)
        for (; key <= t && (t == T - 1 || first_T[t + 1] > key); key++)
            room.last_T[key] = (int32_t)t, room.begun_T[key] = 0;
    for (long h = head * (H / K); h < (head + 1) * (H / K); h++)
        for (long begin = 0; begin < T; begin += SHORT_BLOCK)
            backward_queries(p, &room, b, h, begin, minimum(SHORT_BLOCK, T - begin));
    for (long t = 0; t < T; t++) {
        float *dk = p->dk + ((b * T + t) * K + head) * C,
              *dv = p->dv + ((b * T + t) * K + head) * C;
        rotate_back(room.dk_TW + t * room.W, p->cos + t * C / 2, p->sin + t * C / 2, C, dk);
        memcpy(dv, room.dv_TW + t * room.W, (size_t)C * sizeof *dv);
    }
}

/* One task for each sequence and key-value head. */
static int attention_run(struct attention *p, task *run, int backward) {
    p->scale = (float)(1.0 / pellucid_sqrt((double)p->s.width));
    p->scratch_floats = (size_t)round_up((long)room_floats(&p->s, backward), 16);
    p->scratch =
        buffer_get(BUFFER_WORK, (size_t)pool_threads() * p->scratch_floats * sizeof(float));
    if (!p->scratch) return 1;
    pool_run(run, p, p->s.batch * p->s.kv_heads);
    return 0;
}

static struct attention attention_of(struct attention_shape shape, const float *q, const float *k,
                                     const float *v, const float *cos, const float *sin,
                                     const int32_t *first_BT) {
    return (struct attention){shape, q, k, v, cos, sin, first_BT};
}

static int attention(struct attention_shape shape, const float *q, const float *k, const float *v,
                     const float *cos, const float *sin, const int32_t *first_BT, float *o,
                     float *m_BHT, float *g_BHT) {
    struct attention p = attention_of(shape, q, k, v, cos, sin, first_BT);
    p.o = o, p.m_BHT = m_BHT, p.g_BHT = g_BHT;
    return attention_run(&p, attention_task, 0);
}

static int attention_backward(struct attention_shape shape, const float *q, const float *k,
                              const float *v, const float *cos, const float *sin,
                              const int32_t *first_BT, const float *o, const float *m_BHT,
                              const float *g_BHT, const float *dout, float *dq, float *dk,
                              float *dv) {
    struct attention p = attention_of(shape, q, k, v, cos, sin, first_BT);
    p.o = (float *)o, p.m_BHT = (float *)m_BHT, p.g_BHT = (float *)g_BHT; /* Read alone. */
    p.dout = dout, p.dq = dq, p.dk = dk, p.dv = dv;
    return attention_run(&p, attention_backward_task, 1);
}
