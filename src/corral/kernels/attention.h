/* Before the engine's own file of operations: attention, of keys and values in half precision.

   Where tokens are few, ggml goes through the context a position at a time: a dot product, an exponential and a sum in
   half precision for each, and for each head anew where several share their keys. Where they are many, it turns keys
   around number by number before each product, and is slowed by weights too small for full precision. Here 64 positions
   go at once and sums are of single precision: few rows as attention_rows.h has it, many as attention_tiles.h. Either
   costs a third of the time so. */
#pragma once

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include "attention_rows.h"
#include "attention_tiles.h"

namespace corral {

/* Rows `first` to `last` of the attention of `dst` over positions `from` to `to`, laid down as ggml's own function does;
   false: nothing is done, it is not of the kind that this is for. */
static bool attend(const ggml_compute_params *params, ggml_tensor *dst, int first, int last, int64_t from, int64_t to,
                   float *partials, int64_t partial_stride) {
    const ggml_tensor *q = dst->src[0], *k = dst->src[1], *v = dst->src[2], *mask = dst->src[3];
    float factor, slope, softcap;
    memcpy(&factor, (const float *) dst->op_params + 0, sizeof(float));
    memcpy(&slope, (const float *) dst->op_params + 1, sizeof(float));
    memcpy(&softcap, (const float *) dst->op_params + 2, sizeof(float));
    if (q->type != GGML_TYPE_F32 || k->type != GGML_TYPE_F16 || v->type != GGML_TYPE_F16 || slope != 0.0f ||
        k->ne[0] % LANES != 0 || v->ne[0] % LANES != 0 || v->ne[0] > MOST_WIDTH || k->ne[2] != v->ne[2] ||
        (mask != nullptr && mask->ne[2] != 1)) {
        return false;
    }
    const Attention attention = {
        q, k, v, mask, dst->src[4], dst, softcap == 0.0f ? factor : factor / softcap, softcap, from, to,
    };
    const WithoutDenormals here;
    if (partials == nullptr && q->ne[1] > 1) {
        Tiles(attention, params).go(first, last);
    } else {
        Rows{attention, partials, partial_stride}.go(first, last);
    }
    return true;
}

}  // namespace corral
#else
namespace corral {
template <typename... Any> static bool attend(Any...) { return false; }
}  // namespace corral
#endif
