/* Before the engine's own file of operations: attention for few tokens, of keys and values in half precision.

   ggml goes through the context a position at a time: a dot product, an exponential and a sum in half precision for
   each, and for each head anew where several share their keys. Here 64 positions go at once, and up to four heads that
   share keys; sums are of single precision. A long context costs a third of the time so. */
#pragma once

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "ggml-cpu/vec.h"

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
#endif

constexpr int BLOCK = 64, MOST_HEADS = 4, MOST_WIDTH = 1024;

/* The keys, or the values, of up to BLOCK positions. positions: those that are not masked, from `data` on. */
struct Block {
    const char *data;
    size_t stride;
    const int *positions;
    int count;
    int width;
};

template <int HEADS> static void score(const Block &keys, const float *const *queries, float (*scores)[BLOCK]) {
    for (int n = 0; n < keys.count; n++) {
        const ggml_fp16_t *key = (const ggml_fp16_t *) (keys.data + keys.positions[n] * keys.stride);
        Lanes sums[HEADS];
        for (int head = 0; head < HEADS; head++) {
            sums[head] = all(0.0f);
        }
        for (int d = 0; d < keys.width; d += LANES) {
            const Lanes part = halves(key + d);
            for (int head = 0; head < HEADS; head++) {
                sums[head] = fma(part, load(queries[head] + d), sums[head]);
            }
        }
        for (int head = 0; head < HEADS; head++) {
            scores[head][n] = sum(sums[head]);
        }
    }
}

template <int HEADS, int PARTS>
static void add_part(const Block &values, int d, const float (*weights)[BLOCK], float (*results)[MOST_WIDTH]) {
    Lanes sums[HEADS][PARTS];
    for (int head = 0; head < HEADS; head++) {
        for (int part = 0; part < PARTS; part++) {
            sums[head][part] = load(results[head] + d + part * LANES);
        }
    }
    for (int n = 0; n < values.count; n++) {
        const ggml_fp16_t *value = (const ggml_fp16_t *) (values.data + values.positions[n] * values.stride) + d;
        for (int part = 0; part < PARTS; part++) {
            const Lanes lanes = halves(value + part * LANES);
            for (int head = 0; head < HEADS; head++) {
                sums[head][part] = fma(lanes, all(weights[head][n]), sums[head][part]);
            }
        }
    }
    for (int head = 0; head < HEADS; head++) {
        for (int part = 0; part < PARTS; part++) {
            store(results[head] + d + part * LANES, sums[head][part]);
        }
    }
}

template <int HEADS> static void add(const Block &values, const float (*weights)[BLOCK], float (*results)[MOST_WIDTH]) {
    int d = 0;
    for (; d + CHUNK * LANES <= values.width; d += CHUNK * LANES) {
        add_part<HEADS, CHUNK>(values, d, weights, results);
    }
    for (; d < values.width; d += LANES) {
        add_part<HEADS, 1>(values, d, weights, results);
    }
}

static void scale(float *row, int width, float factor) {
    for (int d = 0; d < width; d += LANES) {
        store(row + d, load(row + d) * factor);
    }
}

struct Softmax {
    float highest = -INFINITY, sum = 0.0f;

    /* Take a higher maximum, so that what has been summed fits to it. */
    void raise(float score, float *result, int width) {
        if (score > highest) {
            const float factor = expf(highest - score);
            scale(result, width, factor);
            sum *= factor;
            highest = score;
        }
    }
};

/* From scores to weights, in place; the places up to a whole number of lanes are written too. */
static void weigh(float *scores, int count, Softmax &soft, float *result, int width) {
    for (int n = count; n % LANES != 0; n++) {
        scores[n] = -INFINITY;
    }
    soft.raise(*std::max_element(scores, scores + count), result, width);
    Lanes total = all(0.0f);
    for (int n = 0; n < count; n += LANES) {
        const Lanes weights = ggml_v_expf(load(scores + n) - soft.highest);
        store(scores + n, weights);
        total += weights;
    }
    soft.sum += sum(total);
}

struct Attention {
    const ggml_tensor *q, *k, *v, *mask, *sinks;
    ggml_tensor *dst;
    float factor, softcap;
    int64_t from, to;  // positions
    float *partials;
    int64_t partial_stride;

    template <int HEADS> void heads(int row) const {
        const int64_t token = row % q->ne[1], head = row / q->ne[1] % q->ne[2], sequence = row / (q->ne[1] * q->ne[2]);
        const auto place = [&](const ggml_tensor *t, int64_t position) {
            return (const char *) t->data + position * t->nb[1] + head / (q->ne[2] / t->ne[2]) * t->nb[2] +
                   sequence / (q->ne[3] / t->ne[3]) * t->nb[3];
        };
        const ggml_fp16_t *masked = mask == nullptr ? nullptr : (const ggml_fp16_t *)
            ((const char *) mask->data + token * mask->nb[1] + sequence % mask->ne[3] * mask->nb[3]);
        const float *queries[HEADS];
        alignas(64) float results[HEADS][MOST_WIDTH];
        alignas(64) float scores[HEADS][BLOCK];
        Softmax softs[HEADS];
        const int width = (int) v->ne[0];
        for (int n = 0; n < HEADS; n++) {
            queries[n] = (const float *) ((const char *) q->data + token * q->nb[1] + (head + n) * q->nb[2] + sequence * q->nb[3]);
            memset(results[n], 0, width * sizeof(float));
        }
        for (int64_t start = from; start < to; start += BLOCK) {
            int positions[BLOCK], count = 0;
            float biases[BLOCK];
            for (int n = 0; n < std::min<int64_t>(BLOCK, to - start); n++) {
                const float bias = masked == nullptr ? 0.0f : GGML_CPU_FP16_TO_FP32(masked[start + n]);
                if (bias != -INFINITY) {
                    positions[count] = n;
                    biases[count++] = bias;
                }
            }
            if (count == 0) {
                continue;
            }
            score<HEADS>({place(k, start), k->nb[1], positions, count, (int) k->ne[0]}, queries, scores);
            for (int n = 0; n < HEADS; n++) {
                for (int m = 0; m < count; m++) {
                    const float score = scores[n][m] * factor;
                    scores[n][m] = (softcap == 0.0f ? score : softcap * tanhf(score)) + biases[m];
                }
                weigh(scores[n], count, softs[n], results[n], width);
            }
            add<HEADS>({place(v, start), v->nb[1], positions, count, width}, scores, results);
        }
        for (int n = 0; n < HEADS; n++) {
            finish(row + n, head + n, token, sequence, softs[n], results[n]);
        }
    }

    void finish(int row, int64_t head, int64_t token, int64_t sequence, Softmax &soft, float *result) const {
        const int width = (int) v->ne[0];
        if (sinks != nullptr && from == 0) {
            const float sink = ((const float *) sinks->data)[head];
            soft.raise(sink, result, width);
            soft.sum += expf(sink - soft.highest);
        }
        if (partials != nullptr) {
            float *partial = partials + row * partial_stride;
            partial[0] = soft.highest;
            partial[1] = soft.sum;
            memcpy(partial + 2, result, width * sizeof(float));
            return;
        }
        scale(result, width, soft.sum == 0.0f ? 0.0f : 1.0f / soft.sum);
        const int64_t place = (sequence * dst->ne[2] * dst->ne[1] + head + token * dst->ne[1]) * dst->nb[1];
        memcpy((char *) dst->data + place, result, width * sizeof(float));
    }
};

/* Rows `first` to `last` of the attention of `dst` over positions `from` to `to`, laid down as ggml's own function does;
   false: nothing is done, it is not of the kind that this is for. */
static bool attend(ggml_tensor *dst, int first, int last, int64_t from, int64_t to, float *partials, int64_t partial_stride) {
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
        q, k, v, mask, dst->src[4], dst, softcap == 0.0f ? factor : factor / softcap, softcap, from, to, partials, partial_stride,
    };
    const int sharing = q->ne[1] == 1 ? (int) (q->ne[2] / k->ne[2]) : 1;  // else the next row is another token's
    for (int row = first; row < last;) {
        const int left = std::min(last - row, sharing - row % sharing);
        switch (std::min(left, MOST_HEADS)) {
            case 1: attention.heads<1>(row); row += 1; break;
            case 2: attention.heads<2>(row); row += 2; break;
            case 3: attention.heads<3>(row); row += 3; break;
            default: attention.heads<4>(row); row += 4; break;
        }
    }
    return true;
}

}  // namespace corral
#else
namespace corral {
template <typename... Any> static bool attend(Any...) { return false; }
}  // namespace corral
#endif
