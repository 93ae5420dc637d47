/* Within the engine's own files: dot products of rows of Q5_0, two blocks at a time. C, as the file that it is for. */
#pragma once

#if defined(__AVX512VNNI__)
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/* What two blocks are multiplied by: the first eight lanes by one, the others by the other. */
static inline __m512 corral_both(float first, float second) {
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_set1_ps(first)), _mm256_set1_ps(second), 1);
}

/* Of an even number of blocks. */
static inline float corral_dot_q5_0(const block_q5_0 *weights, const block_q8_0 *row, int blocks) {
    const __m512i sixteen = _mm512_set1_epi8(16), nibble = _mm512_set1_epi8(15);
    __m512 sum = _mm512_setzero_ps();
    for (int n = 0; n < blocks; n += 2) {
        const block_q5_0 *w = weights + n;
        const block_q8_0 *r = row + n;
        uint32_t fifth[2];
        memcpy(fifth, w[0].qh, sizeof(fifth[0]));
        memcpy(fifth + 1, w[1].qh, sizeof(fifth[0]));
        const __m256i first = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *) w[0].qs));
        const __m256i second = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *) w[1].qs));
        const __m512i packed = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
        const __m512i low = _mm512_and_si512(_mm512_mask_srli_epi16(packed, 0xFF00FF00, packed, 4), nibble);
        const __m512i values = _mm512_mask_add_epi8(low, (uint64_t) fifth[1] << 32 | fifth[0], low, sixteen);
        const __m512i numbers = _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *) r[0].qs)),
                                                   _mm256_loadu_si256((const __m256i *) r[1].qs), 1);
        // values are 16 too large, so that they are never below zero
        const __m512i products = _mm512_sub_epi32(_mm512_dpbusd_epi32(_mm512_setzero_si512(), values, numbers),
                                                  _mm512_dpbusd_epi32(_mm512_setzero_si512(), sixteen, numbers));
        const __m512 factors = corral_both(GGML_CPU_FP16_TO_FP32(w[0].d) * GGML_CPU_FP16_TO_FP32(r[0].d),
                                           GGML_CPU_FP16_TO_FP32(w[1].d) * GGML_CPU_FP16_TO_FP32(r[1].d));
        sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), factors, sum);
    }
    return _mm512_reduce_add_ps(sum);
}
#endif
