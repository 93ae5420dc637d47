/* Within the engine's file for AMX, behind its layouts: products of many rows with weights of K-quants.

   ggml multiplies group by group of 32 weights, or of 16, because each has its own scale: tiles are half full or less, and
   every product goes through memory to be scaled. Here a weight is multiplied by its group's scale first, which makes 13
   bits of it. These are two digits, a byte each, so a whole block of 256 is summed within the tiles, and only two
   products are left to be put together. All of this is of integers, as ggml's. */
#pragma once

#include "amx_rows.h"

namespace corral {

constexpr int DEEP = 64, LINES = QK_K / 4;       // weights in a tile's column; lines of 4 weights in a block

/* How a type's packed blocks are laid out, and how a weight is made of two digits: high x BASE + low. */
template <typename TB> struct Kind {
    static constexpr bool MINIMA = std::is_same<TB, block_q4_K>::value || std::is_same<TB, block_q5_K>::value;
    static constexpr int GROUPS = std::is_same<TB, block_q6_K>::value ? 16 : 8;
    static constexpr int DIGIT = MINIMA ? 3 : 7;  // bits of the low one; its scale's or its own
};

/* A tile's packed block of SIDE columns. */
template <typename TB> struct Packed {
    const char *block;

    const int8_t *scales() const { return (const int8_t *) block + get_quants_size<TB>(); }
    const uint8_t *minima() const { return (const uint8_t *) scales() + Kind<TB>::GROUPS * SIDE; }
    const ggml_half *factors() const { return (const ggml_half *) (minima() + (Kind<TB>::MINIMA ? 8 * SIDE : 0)); }
    const ggml_half *least() const { return factors() + (Kind<TB>::MINIMA ? SIDE : 0); }

    /* All of its weights as digits; a line is what a tile takes: 4 weights of each column. */
    void unpack(int8_t (*high)[64], int8_t (*low)[64]) const {
        constexpr int DEPTH = LINES / Kind<TB>::GROUPS;
        alignas(64) int8_t lines[8][64];
        for (int group = 0; group < Kind<TB>::GROUPS; group++) {
            const __m512i scale = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *) (scales() + group * SIDE)));
            const __m512i twice = _mm512_mask_blend_epi16(0xAAAAAAAA, scale, _mm512_slli_epi32(scale, 16));
            unpack_B<TB>(lines[0], block, group);
            for (int n = 0; n < DEPTH; n++) {
                split(_mm512_load_si512(lines[n]), twice, high[group * DEPTH + n], low[group * DEPTH + n]);
            }
        }
    }

    static void split(__m512i weights, __m512i scale, int8_t *high, int8_t *low) {
        if (Kind<TB>::MINIMA) {  // up to 31, by half a scale, up to 7: a pair of bytes at once
            _mm512_store_si512(high, _mm512_mullo_epi16(weights, _mm512_srli_epi16(scale, 3)));
            _mm512_store_si512(low, _mm512_mullo_epi16(weights, _mm512_and_si512(scale, _mm512_set1_epi16(7))));
            return;
        }
        const __m512i mask = _mm512_set1_epi16(127);
        const __m512i even = _mm512_mullo_epi16(_mm512_srai_epi16(_mm512_slli_epi16(weights, 8), 8), scale);
        const __m512i odd = _mm512_mullo_epi16(_mm512_srai_epi16(weights, 8), scale);
        constexpr __mmask64 ODD = 0xAAAAAAAAAAAAAAAA;
        const auto both = [](__m512i a, __m512i b) { return _mm512_mask_blend_epi8(ODD, a, _mm512_slli_epi16(b, 8)); };
        _mm512_store_si512(high, both(_mm512_srai_epi16(even, 7), _mm512_srai_epi16(odd, 7)));
        _mm512_store_si512(low, both(_mm512_and_si512(even, mask), _mm512_and_si512(odd, mask)));
    }
};

/* Full tiles, while one lives; then those of before. */
class FullTiles {
  public:
    FullTiles() {
        _tile_storeconfig(before);
        alignas(64) tile_config_t full = {};
        full.palette_id = 1;
        for (int n = 0; n < 8; n++) {
            full.rows[n] = 16;
            full.colsb[n] = 64;
        }
        use(&full);
    }
    ~FullTiles() { use(before); }
    FullTiles(const FullTiles &) = delete;

  private:
    alignas(64) char before[64];

    static void use(const void *shapes) {
        __asm__ volatile("" : : "r"(shapes) : "memory");  // gcc up to 12 takes it for 8 bytes
        _tile_loadconfig(shapes);
    }
};

/* Large: one is made for many panels. */
template <typename TB> class Products {
  public:
    /* A panel of PAIR columns: results[row][column] of `count` rows of `blocks` blocks each. */
    void panel(const block_q8_K *rows, int count, int blocks, const char *weights, float *results, int64_t stride) {
        for (int start = 0; start < count; start += ROWS) {
            const int number = std::min(ROWS, count - start);
            for (int block = 0; block < blocks; block++) {
                for (int side = 0; side < 2; side++) {
                    packed[side] = {weights + (int64_t) (side * blocks + block) * get_tile_size<TB>()};
                    packed[side].unpack(high[side], low[side]);
                }
                for (int row = 0; row < number; row += TILE_M) {
                    const Rows<block_q8_K> some = {rows + (int64_t) (start + row) * blocks + block, blocks, std::min(TILE_M, number - row)};
                    multiply(some);
                    put_together(some, sums + row, block == 0);
                }
            }
            for (int row = 0; row < number; row++) {
                memcpy(results + (start + row) * stride, sums[row], sizeof(sums[row]));
            }
        }
    }

  private:
    Packed<TB> packed[2];
    alignas(64) int8_t high[2][LINES][64], low[2][LINES][64];
    alignas(64) int32_t products[2][2][TILE_M][SIDE];  // of a side: of high digits, of low ones
    alignas(64) float sums[ROWS][PAIR];
    alignas(64) int8_t padded[TILE_M][QK_K] = {};  // rows, where there are fewer than a tile takes
    alignas(16) int16_t pairs[TILE_M][8];          // sums of a row's groups of 32

    // of weights that are never below zero, digits fill a byte
#define CORRAL_MULTIPLY(to, rows, weights) \
    if (Kind<TB>::MINIMA) {                 \
        _tile_dpbsud(to, rows, weights);    \
    } else {                                \
        _tile_dpbssd(to, rows, weights);    \
    }

    void multiply(const Rows<block_q8_K> &rows) {
        const int8_t *numbers = rows.data->qs;
        int64_t stride = rows.stride * sizeof(block_q8_K);
        if (rows.count < TILE_M) {
            for (int n = 0; n < rows.count; n++) {
                memcpy(padded[n], rows[n].qs, QK_K);
            }
            numbers = padded[0];
            stride = QK_K;
        }
        _tile_zero(TMM4);
        _tile_zero(TMM5);
        _tile_zero(TMM6);
        _tile_zero(TMM7);
        for (int n = 0; n < QK_K / DEEP; n++) {
            _tile_loadd(TMM0, numbers + n * DEEP, stride);
            _tile_loadd(TMM1, high[0][n * 16], 64);
            CORRAL_MULTIPLY(TMM4, TMM0, TMM1);
            _tile_loadd(TMM2, low[0][n * 16], 64);
            CORRAL_MULTIPLY(TMM5, TMM0, TMM2);
            _tile_loadd(TMM1, high[1][n * 16], 64);
            CORRAL_MULTIPLY(TMM6, TMM0, TMM1);
            _tile_loadd(TMM2, low[1][n * 16], 64);
            CORRAL_MULTIPLY(TMM7, TMM0, TMM2);
        }
        _tile_stored(TMM4, products[0][0], 64);
        _tile_stored(TMM5, products[0][1], 64);
        _tile_stored(TMM6, products[1][0], 64);
        _tile_stored(TMM7, products[1][1], 64);
    }

    void put_together(const Rows<block_q8_K> &rows, float (*sums)[PAIR], bool fresh) {
        for (int row = 0; Kind<TB>::MINIMA && row < rows.count; row++) {
            const __m128i *each = (const __m128i *) rows[row].bsums;
            _mm_store_si128((__m128i *) pairs[row], _mm_hadd_epi16(_mm_loadu_si128(each), _mm_loadu_si128(each + 1)));
        }
        for (int side = 0; side < 2; side++) {
            const __m512 factors = halves(packed[side].factors()), least = halves(packed[side].least());
            __m512i minima[4];
            for (int n = 0; Kind<TB>::MINIMA && n < 4; n++) {
                minima[n] = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *) (packed[side].minima() + n * 32)));
            }
            for (int row = 0; row < rows.count; row++) {
                const __m512i whole = _mm512_add_epi32(_mm512_slli_epi32(_mm512_load_si512(products[side][0][row]), Kind<TB>::DIGIT),
                                                       _mm512_load_si512(products[side][1][row]));
                __m512 sum = factors * _mm512_cvtepi32_ps(whole);
                if (Kind<TB>::MINIMA) {
                    __m512i minimum = _mm512_setzero_si512();
                    for (int n = 0; n < 4; n++) {
                        const __m512i pair = _mm512_set1_epi32(((const int32_t *) pairs[row])[n]);
                        minimum = _mm512_dpwssd_epi32(minimum, pair, minima[n]);
                    }
                    sum = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(minimum), least, sum);
                }
                float *place = sums[row] + side * SIDE;
                const __m512 before = fresh ? _mm512_setzero_ps() : _mm512_load_ps(place);
                const __m512 factor = _mm512_set1_ps(rows[row].d);
                _mm512_store_ps(place, _mm512_fmadd_ps(sum, factor, before));
            }
        }
    }
};

}  // namespace corral
