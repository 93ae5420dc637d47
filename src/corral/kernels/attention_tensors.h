/* What an attention is made of, and where in memory. Used by attention_rows.h and attention_tiles.h. */
#pragma once

#include <cmath>
#include <cstring>

#include "ggml-cpu/vec.h"
#include "lanes.h"

namespace corral {

constexpr int BLOCK = 64;  // positions that are taken at once

/* A row is a token's head: tokens first, then heads, then sequences. */
struct Attention {
    const ggml_tensor *q, *k, *v, *mask, *sinks;
    ggml_tensor *dst;
    float factor, softcap;
    int64_t from, to;  // positions

    int64_t token(int row) const { return row % q->ne[1]; }
    int64_t head(int row) const { return row / q->ne[1] % q->ne[2]; }
    int64_t sequence(int row) const { return row / (q->ne[1] * q->ne[2]); }
    int sharing() const { return (int) (q->ne[2] / k->ne[2]); }  // heads of the same keys

    const float *query(int row) const {
        return (const float *) ((const char *) q->data + token(row) * q->nb[1] + head(row) * q->nb[2] + sequence(row) * q->nb[3]);
    }
    /* A row's keys (`t` is k) or values (v) from a position on. */
    const char *place(const ggml_tensor *t, int row, int64_t position) const {
        return (const char *) t->data + position * t->nb[1] + head(row) / (q->ne[2] / t->ne[2]) * t->nb[2] +
               sequence(row) / (q->ne[3] / t->ne[3]) * t->nb[3];
    }
    /* What is added to a row's scores, by position; nullptr: nothing. */
    const ggml_fp16_t *biases(int row) const {
        return mask == nullptr ? nullptr : (const ggml_fp16_t *)
            ((const char *) mask->data + token(row) * mask->nb[1] + sequence(row) % mask->ne[3] * mask->nb[3]);
    }
    float *result(int row) const {
        const int64_t place = sequence(row) * dst->ne[2] * dst->ne[1] + head(row) + token(row) * dst->ne[1];
        return (float *) ((char *) dst->data + place * dst->nb[1]);
    }
};

}  // namespace corral
