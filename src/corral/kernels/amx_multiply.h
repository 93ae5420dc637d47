/* Within the engine's file for AMX, behind its layouts: products of more rows than one. */
#pragma once

#include "amx_blocks.h"
#include "amx_products.h"

namespace corral {

/* This thread's panels of a product whose rows stand quantized, as blocks of TA, in the work memory. multiply(rows,
   count, blocks, weights, results, stride) is given each. */
template <typename TA, typename TB, typename Multiply>
static void each_panel(const ggml_compute_params *params, ggml_tensor *dst, Multiply multiply) {
    const ggml_tensor *weights = dst->src[0];
    const int blocks = (int) (weights->ne[0] / ggml_blck_size(weights->type)), count = (int) dst->ne[1];
    const int panels = (int) (dst->ne[0] / PAIR);
    parallel_for_ggml(params, (int) (dst->ne[2] * dst->ne[3]) * panels, [&](int begin, int end) {
        for (int n = begin; n < end; n++) {
            const int matrix = n / panels, panel = n % panels;
            const char *from = (const char *) weights->data + ggml_batch_offset(weights, matrix, dst->ne[2]);
            float *to = (float *) ((char *) dst->data + ggml_batch_offset(dst, matrix, dst->ne[2])) + panel * PAIR;
            multiply((const TA *) params->wdata + (int64_t) matrix * count * blocks, count, blocks,
                     from + (int64_t) panel * 2 * blocks * get_tile_size<TB>(), to, dst->ne[0]);
        }
    });
}

template <typename TB> static void multiply_k(const ggml_compute_params *params, ggml_tensor *dst) {
    ggml_tile_config_init();
    const FullTiles here;
    Products<TB> products;
    each_panel<block_q8_K, TB>(params, dst, [&](auto... panel) { products.panel(panel...); });
}

template <typename TB, typename TA> static void multiply_blocks(const ggml_compute_params *params, ggml_tensor *dst) {
    ggml_tile_config_init();
    BlockProducts<PackedBlocks<TB>, TA> products;
    each_panel<TA, TB>(params, dst, [&](const TA *rows, int count, int blocks, const char *weights, float *to, int64_t stride) {
        products.panel(rows, count, blocks, {weights, blocks}, to, stride);
    });
}

/* false: nothing is done, ggml is as fast. */
static bool multiply(const ggml_compute_params *params, ggml_tensor *dst) {
    const ggml_type type = dst->src[0]->type;
    if (type == GGML_TYPE_Q8_0 && dst->ne[1] < TILE_M) {
        return false;  // it need not be unpacked, which pays for many rows only
    }
    switch (type) {
        case GGML_TYPE_Q4_0: multiply_blocks<block_q4_0, block_q8_0>(params, dst); return true;
        case GGML_TYPE_Q4_1: multiply_blocks<block_q4_1, block_q8_1>(params, dst); return true;
        case GGML_TYPE_Q8_0: multiply_blocks<block_q8_0, block_q8_0>(params, dst); return true;
        case GGML_TYPE_Q4_K: multiply_k<block_q4_K>(params, dst); return true;
        case GGML_TYPE_Q5_K: multiply_k<block_q5_K>(params, dst); return true;
        case GGML_TYPE_Q6_K: multiply_k<block_q6_K>(params, dst); return true;
        case GGML_TYPE_IQ4_XS: multiply_k<block_iq4_xs>(params, dst); return true;
        default: return false;
    }
}

}  // namespace corral

/* This thread's part of results[n][m] = rows[n] x weights[m], lengths and strides in blocks; false: nothing is done, it
   is not of the kind that this is for. Called by the engine's file of small products. */
bool corral_multiply_q5_0(const ggml_compute_params *params, int64_t m, int64_t n, int64_t k, const void *weights,
                          int64_t weight_stride, const void *rows, int64_t row_stride, float *results, int64_t stride) {
    static const bool ready = ggml_backend_amx_buffer_type() != nullptr;
    if (!ready || m % corral::PAIR != 0 || n < corral::FEW_ROWS || row_stride != k) {
        return false;
    }
    ggml_tile_config_init();
    corral::BlockProducts<corral::FiveBits, block_q8_0> products;
    parallel_for_ggml(params, (int) (m / corral::PAIR), [&](int begin, int end) {
        for (int64_t panel = begin; panel < end; panel++) {
            const corral::FiveBits some = {(const block_q5_0 *) weights + panel * corral::PAIR * weight_stride, weight_stride};
            products.panel((const block_q8_0 *) rows, (int) n, (int) k, some, results + panel * corral::PAIR, stride);
        }
    });
    return true;
}
