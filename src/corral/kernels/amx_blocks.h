/* Within the engine's file for AMX, behind its layouts: products of many rows with weights in blocks of 32.

   A block's scale is no integer, so the products of each block are scaled for themselves (K-quants: amx_products.h).
   Up to BATCH blocks go at once: unpacked, multiplied and put together from memory. ggml goes block by block with Q4_0,
   Q4_1 and Q8_0, and not on AMX with Q5_0, which K-quants fall back to where a row is no multiple of 256. */
#pragma once

#include "amx_rows.h"

namespace corral {

constexpr int BATCH = 8;
constexpr int FEW_ROWS = 8;  // below, Q5_0 is as fast elsewhere

/* A pair of tiles in AMX's memory, as ggml packs them. */
template <typename TB> struct PackedBlocks {
    const char *data;
    int blocks;

    const char *at(int side, int block) const { return data + (int64_t) (side * blocks + block) * get_tile_size<TB>(); }
    const ggml_half *scales(int side, int block) const {
        return (const ggml_half *) (at(side, block) + SIDE * TILE_K / (do_unpack<TB>::value ? 2 : 1));
    }
    void unpack(int side, int block, int8_t *to) const {
        if (do_unpack<TB>::value) {
            unpack_B<TB>((packed_B_type<TB> *) to, at(side, block));
        } else {
            memcpy(to, at(side, block), SIDE * TILE_K);
        }
    }
    __m512 factors(int side, int block) const { return halves(scales(side, block)); }
    __m512 least(int side, int block) const { return halves(scales(side, block) + SIDE); }
};

/* A pair of tiles' rows of Q5_0, as they lie in a file. */
struct FiveBits {
    const block_q5_0 *data;
    int64_t stride;  // blocks from a row to the next

    void unpack(int side, int block, int8_t *to) const {
        __m256i rows[8], turned[8];
        for (int half = 0; half < 2; half++) {
            for (int n = 0; n < 8; n++) {
                const block_q5_0 &from = data[(side * SIDE + half * 8 + n) * stride + block];
                uint32_t fifth;
                memcpy(&fifth, from.qh, sizeof(fifth));
                rows[n] = _mm256_mask_sub_epi8(bytes_from_nibbles_32(from.qs), ~fifth, bytes_from_nibbles_32(from.qs), _mm256_set1_epi8(16));
            }
            transpose_8x8_32bit(rows, turned);
            for (int n = 0; n < 8; n++) {
                _mm256_store_si256((__m256i *) (to + n * 64 + half * 32), turned[n]);
            }
        }
    }
    __m512 factors(int side, int block) const {
        alignas(32) ggml_half each[SIDE];
        for (int n = 0; n < SIDE; n++) {
            each[n] = data[(side * SIDE + n) * stride + block].d;
        }
        return halves(each);
    }
    __m512 least(int, int) const { return _mm512_setzero_ps(); }
};

/* TA: the blocks of activations. Large: one is made for many panels. */
template <typename Weights, typename TA> class BlockProducts {
  public:
    /* A panel of PAIR columns: results[row][column] of `count` rows of `blocks` blocks each. */
    void panel(const TA *rows, int count, int blocks, const Weights &weights, float *results, int64_t stride) {
        for (int start = 0; start < count; start += ROWS) {
            const int number = std::min(ROWS, count - start);
            for (int first = 0; first < blocks; first += BATCH) {
                batch = std::min(BATCH, blocks - first);
                unpack(weights, first);
                for (int row = 0; row < number; row += TILE_M) {
                    const Rows<TA> some = {rows + (int64_t) (start + row) * blocks + first, blocks, std::min(TILE_M, number - row)};
                    multiply(some);
                    put_together(some, sums + row, first == 0);
                }
            }
            for (int row = 0; row < number; row++) {
                memcpy(results + (start + row) * stride, sums[row], sizeof(sums[row]));
            }
        }
    }

  private:
    static constexpr bool MINIMA = std::is_same<TA, block_q8_1>::value;
    int batch;  // blocks that are at hand
    alignas(64) int8_t lines[BATCH][2][SIDE * TILE_K];
    alignas(64) float factors[BATCH][2][SIDE], least[BATCH][2][SIDE];
    alignas(64) int32_t products[BATCH][2][TILE_M][SIDE];
    alignas(64) float sums[ROWS][PAIR];
    alignas(64) int8_t padded[TILE_M][TILE_K] = {};  // a block's rows, where there are fewer than a tile takes

    void unpack(const Weights &weights, int first) {
        for (int n = 0; n < batch; n++) {
            for (int side = 0; side < 2; side++) {
                weights.unpack(side, first + n, lines[n][side]);
                _mm512_store_ps(factors[n][side], weights.factors(side, first + n));
                if (MINIMA) {
                    _mm512_store_ps(least[n][side], weights.least(side, first + n));
                }
            }
        }
    }

    void multiply(const Rows<TA> &rows) {
        for (int n = 0; n < batch; n++) {
            _tile_zero(TMM4);
            _tile_zero(TMM5);
            _tile_loadd(TMM0, lines[n][0], 64);
            _tile_loadd(TMM1, lines[n][1], 64);
            if (rows.count == TILE_M) {
                _tile_loadd(TMM2, rows.data[n].qs, rows.stride * sizeof(TA));
            } else {
                for (int row = 0; row < rows.count; row++) {
                    memcpy(padded[row], (&rows[row])[n].qs, TILE_K);
                }
                _tile_loadd(TMM2, padded, TILE_K);
            }
            _tile_dpbssd(TMM4, TMM2, TMM0);
            _tile_dpbssd(TMM5, TMM2, TMM1);
            _tile_stored(TMM4, products[n][0], 64);
            _tile_stored(TMM5, products[n][1], 64);
        }
    }

    void put_together(const Rows<TA> &rows, float (*sums)[PAIR], bool fresh) const {
        for (int row = 0; row < rows.count; row++) {
            __m512 left = _mm512_setzero_ps(), right = left;
            for (int n = 0; n < batch; n++) {
                const TA &block = (&rows[row])[n];
                const __m512 factor = _mm512_set1_ps(GGML_CPU_FP16_TO_FP32(block.d));
                left = _mm512_fmadd_ps(product(n, 0, row) * factor, _mm512_load_ps(factors[n][0]), left);
                right = _mm512_fmadd_ps(product(n, 1, row) * factor, _mm512_load_ps(factors[n][1]), right);
                if constexpr (MINIMA) {
                    const __m512 sum = _mm512_set1_ps(GGML_CPU_FP16_TO_FP32(block.s));
                    left = _mm512_fmadd_ps(sum, _mm512_load_ps(least[n][0]), left);
                    right = _mm512_fmadd_ps(sum, _mm512_load_ps(least[n][1]), right);
                }
            }
            _mm512_store_ps(sums[row], fresh ? left : left + _mm512_load_ps(sums[row]));
            _mm512_store_ps(sums[row] + SIDE, fresh ? right : right + _mm512_load_ps(sums[row] + SIDE));
        }
    }

    __m512 product(int block, int side, int row) const { return _mm512_cvtepi32_ps(_mm512_load_si512(products[block][side][row])); }
};

}  // namespace corral
