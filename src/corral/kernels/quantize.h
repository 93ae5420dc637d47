/* Within the engine's own files: rows of activations as blocks of 256 bytes, eight numbers at a time.

   The same blocks as ggml's quantize_row_q8_K_ref, which goes number by number. C, as the file that it is for. */
#pragma once

#include "ggml-quants.h"

#if defined(__AVX2__)
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/* The largest number by its size, with its sign: the first of several. */
static inline float corral_largest(const float *from) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 sizes = _mm256_setzero_ps();
    for (int n = 0; n < QK_K; n += 8) {
        sizes = _mm256_max_ps(_mm256_andnot_ps(sign, _mm256_loadu_ps(from + n)), sizes);
    }
    float each[8], size = 0.0f;
    _mm256_storeu_ps(each, sizes);
    for (int n = 0; n < 8; n++) {
        size = each[n] > size ? each[n] : size;
    }
    for (int n = 0; n < QK_K; n += 8) {
        const __m256 found = _mm256_cmp_ps(_mm256_andnot_ps(sign, _mm256_loadu_ps(from + n)), _mm256_set1_ps(size), _CMP_EQ_OQ);
        const int places = _mm256_movemask_ps(found);
        if (places != 0) {
            return from[n + __builtin_ctz(places)];
        }
    }
    return 0.0f;
}

/* `length` numbers, a multiple of 256. */
static inline void corral_quantize(const float *from, block_q8_K *to, int64_t length) {
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    for (; length > 0; length -= QK_K, from += QK_K, to++) {
        const float largest = corral_largest(from);
        if (largest == 0.0f) {
            memset(to, 0, sizeof(*to));
            continue;
        }
        const float factor = -127.0f / largest;
        for (int n = 0; n < QK_K; n += 32) {
            __m256i parts[4];
            for (int m = 0; m < 4; m++) {
                parts[m] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_set1_ps(factor), _mm256_loadu_ps(from + n + m * 8)));
            }
            const __m256i bytes = _mm256_permutevar8x32_epi32(
                _mm256_packs_epi16(_mm256_packs_epi32(parts[0], parts[1]), _mm256_packs_epi32(parts[2], parts[3])), order);
            _mm256_storeu_si256((__m256i *) (to->qs + n), bytes);
            uint64_t sums[4];  // of eight bytes each, every byte 128 too large
            const __m256i above = _mm256_xor_si256(bytes, _mm256_set1_epi8((char) 0x80));
            _mm256_storeu_si256((__m256i *) sums, _mm256_sad_epu8(above, _mm256_setzero_si256()));
            to->bsums[n / 16] = (int16_t) ((int) (sums[0] + sums[1]) - 16 * 128);
            to->bsums[n / 16 + 1] = (int16_t) ((int) (sums[2] + sums[3]) - 16 * 128);
        }
        to->d = 1 / factor;
    }
}
#else
static inline void corral_quantize(const float *from, block_q8_K *to, int64_t length) {
    quantize_row_q8_K_ref(from, to, length);
}
#endif
