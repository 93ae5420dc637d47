/* Vectors of single precision, of 8 numbers or of 16. Used by attention_tensors.h. */
#pragma once

#include <immintrin.h>

#include "ggml-impl.h"

namespace corral {

#if defined(__AVX512F__) && defined(__AVX512DQ__)
using Lanes = __m512;
constexpr int LANES = 16, CHUNK = 4;
static inline Lanes load(const float *from) { return _mm512_loadu_ps(from); }
static inline Lanes halves(const ggml_fp16_t *from) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) from)); }
static inline Lanes all(float value) { return _mm512_set1_ps(value); }
static inline Lanes fma(Lanes a, Lanes b, Lanes c) { return _mm512_fmadd_ps(a, b, c); }
static inline float sum(Lanes lanes) { return _mm512_reduce_add_ps(lanes); }
static inline void store(float *to, Lanes lanes) { _mm512_storeu_ps(to, lanes); }
static inline Lanes larger(Lanes a, Lanes b) { return _mm512_max_ps(a, b); }
static inline bool raised(Lanes before, Lanes after) { return _mm512_cmp_ps_mask(after, before, _CMP_GT_OQ) != 0; }
#else
using Lanes = __m256;
constexpr int LANES = 8, CHUNK = 2;
static inline Lanes load(const float *from) { return _mm256_loadu_ps(from); }
static inline Lanes halves(const ggml_fp16_t *from) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) from)); }
static inline Lanes all(float value) { return _mm256_set1_ps(value); }
static inline Lanes fma(Lanes a, Lanes b, Lanes c) { return _mm256_fmadd_ps(a, b, c); }
static inline float sum(Lanes lanes) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
static inline void store(float *to, Lanes lanes) { _mm256_storeu_ps(to, lanes); }
static inline Lanes larger(Lanes a, Lanes b) { return _mm256_max_ps(a, b); }
static inline bool raised(Lanes before, Lanes after) { return _mm256_movemask_ps(_mm256_cmp_ps(after, before, _CMP_GT_OQ)) != 0; }
#endif

/* While one lives, numbers too small for full precision count as zero: each costs a hundred others' time otherwise, and
   the weight of a position that is hardly looked at is one. */
class WithoutDenormals {
  public:
    WithoutDenormals() : before(_mm_getcsr()) { _mm_setcsr(before | _MM_FLUSH_ZERO_ON | 0x40); }  // 0x40: read as zero
    ~WithoutDenormals() { _mm_setcsr(before); }
    WithoutDenormals(const WithoutDenormals &) = delete;

  private:
    const unsigned before;
};

}  // namespace corral
