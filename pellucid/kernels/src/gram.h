/* A product by its own transpose: section 2.1. The chains of (i, j) and (j, i) are of the same
   products in the same order, so half of C is computed and the other half is its mirror image. */

struct mirror {
    long M;
    float *c;
};

#define MIRRORED 16 /* Rows a task, and columns that are read at once. */

/* Rows of C right of the diagonal, from the columns below it. */
static void mirror_task(void *arguments, long index, int worker) {
    (void)worker;
    const struct mirror *p = arguments;
    long M = p->M, top = index * MIRRORED, bottom = minimum(M, top + MIRRORED);
    float *c = p->c;
    for (long i = top; i < bottom; i++)
        for (long j = i + 1; j < minimum(M, top + MIRRORED); j++) c[i * M + j] = c[j * M + i];
    long fours = bottom - top == MIRRORED ? (M - bottom) / 4 * 4 : 0;
    for (long j = bottom; j < bottom + fours; j += 4)
        for (long i = top; i < bottom; i += 4) turn4(c + j * M + i, M, c + i * M + j, M);
    for (long i = top; i < bottom; i++)
        for (long j = bottom + fours; j < M; j++) c[i * M + j] = c[j * M + i];
}

/* C = A·Aᵀ. Returns 0, or 1 where memory ran out. */
static int gram(long M, long K, const float *a, long a_row, long a_col, float *c) {
    if (product_or_half(M, M, K, a, a_row, a_col, a, a_col, a_row, NULL, c, 1)) return 1;
    struct mirror p = {M, c};
    pool_run(mirror_task, &p, ceil_div(M, MIRRORED));
    return 0;
}
