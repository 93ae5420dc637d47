/* Attention of few tokens: a token's heads, those that share keys together. Used by attention.h. */
#pragma once

#include <algorithm>

#include "attention_tensors.h"

namespace corral {

constexpr int MOST_HEADS = 4, MOST_WIDTH = 1024;

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

/* Rows of one token; with `partials` the parts of a result, of which ggml makes the whole. */
struct Rows {
    const Attention &of;
    float *partials;
    int64_t partial_stride;

    template <int HEADS> void heads(int row) const {
        const ggml_fp16_t *masked = of.biases(row);
        const float *queries[HEADS];
        alignas(64) float results[HEADS][MOST_WIDTH];
        alignas(64) float scores[HEADS][BLOCK];
        Softmax softs[HEADS];
        const int width = (int) of.v->ne[0];
        for (int n = 0; n < HEADS; n++) {
            queries[n] = of.query(row + n);
            memset(results[n], 0, width * sizeof(float));
        }
        for (int64_t start = of.from; start < of.to; start += BLOCK) {
            int positions[BLOCK], count = 0;
            float biases[BLOCK];
            for (int n = 0; n < std::min<int64_t>(BLOCK, of.to - start); n++) {
                const float bias = masked == nullptr ? 0.0f : GGML_CPU_FP16_TO_FP32(masked[start + n]);
                if (bias != -INFINITY) {
                    positions[count] = n;
                    biases[count++] = bias;
                }
            }
            if (count == 0) {
                continue;
            }
            score<HEADS>({of.place(of.k, row, start), of.k->nb[1], positions, count, (int) of.k->ne[0]}, queries, scores);
            for (int n = 0; n < HEADS; n++) {
                for (int m = 0; m < count; m++) {
                    const float score = scores[n][m] * of.factor;
                    scores[n][m] = (of.softcap == 0.0f ? score : of.softcap * tanhf(score)) + biases[m];
                }
                weigh(scores[n], count, softs[n], results[n], width);
            }
            add<HEADS>({of.place(of.v, row, start), of.v->nb[1], positions, count, width}, scores, results);
        }
        for (int n = 0; n < HEADS; n++) {
            finish(row + n, softs[n], results[n]);
        }
    }

    void finish(int row, Softmax &soft, float *result) const {
        const int width = (int) of.v->ne[0];
        if (of.sinks != nullptr && of.from == 0) {
            const float sink = ((const float *) of.sinks->data)[of.head(row)];
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
        memcpy(of.result(row), result, width * sizeof(float));
    }

    /* Those from `first` to before `last`. */
    void go(int first, int last) const {
        const int sharing = of.q->ne[1] == 1 ? of.sharing() : 1;  // else the next row is another token's
        for (int row = first; row < last;) {
            const int left = std::min(last - row, sharing - row % sharing);
            switch (std::min(left, MOST_HEADS)) {
                case 1: heads<1>(row); row += 1; break;
                case 2: heads<2>(row); row += 2; break;
                case 3: heads<3>(row); row += 3; break;
                default: heads<4>(row); row += 4; break;
            }
        }
    }
};

}  // namespace corral
