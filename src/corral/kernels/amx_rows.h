/* What products on AMX's tiles have in common. Used by amx_products.h and amx_blocks.h. */
#pragma once

namespace corral {

constexpr int ROWS = 128;                        // rows that weights are unpacked for at once
constexpr int SIDE = TILE_N, PAIR = 2 * TILE_N;  // columns of a tile, and those that are taken at once

/* Up to TILE_M rows of activations. */
template <typename TA> struct Rows {
    const TA *data;  // the block that is meant of the first row
    int stride;      // blocks from a row to the next
    int count;

    const TA &operator[](int row) const { return data[(int64_t) row * stride]; }
};

static inline __m512 halves(const ggml_half *from) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) from)); }

}  // namespace corral
