/* All operations for one instruction set: what isa_*.c compile. */

#include "kernels.h"
#include "simd.h"

#include "product.h"
#include "gram.h"
#include "rows.h"
#include "attention.h"
#include "kept.h"
#include "update.h"

const struct operations TABLE = {
    .name = TABLE_NAME,
    .tile = TILE_COLUMNS,
    .product = product,
    .gram = gram,
    .norm = norm,
    .norm_backward = norm_backward,
    .swiglu = swiglu,
    .swiglu_backward = swiglu_backward,
    .attention = attention,
    .attention_backward = attention_backward,
    .attention_kept = attention_kept,
    .loss = loss,
    .embed = embed,
    .embed_backward = embed_backward,
    .add = add,
    .axpby = axpby,
    .sum_of_squares = sum_of_squares,
    .adamw = adamw,
};
