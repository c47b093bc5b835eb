/* Attention of the next positions of texts over keys and values that each text keeps while it
   grows: the bits of attention over its whole text. Kept are rotated keys and values in the panels
   that attention reads, so that nothing is rotated or packed twice. */

struct kept_texts {
    struct attention p;
    const struct kept_text *texts_G;
    long sees; /* Positions that a query looks at, its own included. */
};

/* Rotate the keys at the positions from … past-1 and put them where they are kept; k is the row of
   the first of them. rows_QC holds SHORT_BLOCK of them. */
static void keep_keys(const struct attention *p, const float *k, long from, long past,
                      float *rows_QC, float *keys_CP) {
    long C = p->s.width, distance = p->s.kv_heads * C;
    for (long t = from, next; t < past; t = next) {
        long begun = t % TILE_COLUMNS; /* Columns of this tile that are kept already. */
        next = minimum(past, begun ? t - begun + TILE_COLUMNS : t + SHORT_BLOCK);
        for (long i = t; i < next; i++)
            rotate(k + (i - from) * distance, p->cos + i * C / 2, p->sin + i * C / 2, C,
                   rows_QC + (i - t) * C);
        float *panel = keys_CP + (t - begun) * C;
        if (!begun) rows_into_panels(rows_QC, C, next - t, C, panel);
        for (long i = t; begun && i < next; i++)
            for (long c = 0; c < C; c++)
                panel[c * TILE_COLUMNS + i % TILE_COLUMNS] = rows_QC[(i - t) * C + c];
    }
}

static void kept_task(void *arguments, long index, int worker) {
    const struct kept_texts *all = arguments;
    const struct attention *p = &all->p;
    long C = p->s.width, H = p->s.heads, K = p->s.kv_heads, head = index % K;
    const struct kept_text *text = all->texts_G + index / K;
    long past = text->past, T = past + text->count, row = text->row;
    struct room room = room_of(p, worker, 0);
    room.keys_CP = (float *)(intptr_t)text->keys + head * text->room * C;
    room.values_TW = (float *)(intptr_t)text->values + head * text->room * room.W;
    keep_keys(p, p->k + (row * K + head) * C, past, T, room.query_QC, room.keys_CP);
    columns_into_panels(p->v + (row * K + head) * C, K * C, text->count, C, text->room,
                        room.values_TW + past * TILE_COLUMNS);
    float m_Q[SHORT_BLOCK], g_Q[SHORT_BLOCK];
    int32_t first_Q[SHORT_BLOCK];
    for (long begin = past; begin < T; begin += SHORT_BLOCK) {
        long count = minimum(SHORT_BLOCK, T - begin);
        for (long i = 0; i < count; i++)
            first_Q[i] = (int32_t)(begin + i < all->sees ? 0 : begin + i + 1 - all->sees);
        for (long h = head * (H / K); h < (head + 1) * (H / K); h++) {
            long at = ((row + begin - past) * H + h) * C;
            attend(p, &room, text->room, begin, count, first_Q, p->q + at, p->o + at, m_Q, g_Q);
        }
    }
}

/* shape: as many sequences as texts, and the length of the longest of them. */
static int attention_kept(struct attention_shape shape, long sees, const float *q, const float *k,
                          const float *v, const float *cos, const float *sin,
                          const struct kept_text *texts_G, float *o) {
    struct kept_texts all = {attention_of(shape, q, k, v, cos, sin, NULL), texts_G, sees};
    all.p.o = o;
    return attention_run(&all.p, kept_task, 0);
}
