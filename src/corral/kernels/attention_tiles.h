/* Attention of many rows that share keys: products of matrices. Used by attention.h.

   A row's query stands in a column, so that everything that is done to a score or a result is done to those of a vector
   of rows at once, and keys and values are taken as they lie in memory. */
#pragma once

#include <algorithm>
#include <cfloat>

#include "attention_rows.h"

namespace corral {

constexpr int COLUMNS = 64;               // rows that are taken at once
constexpr int WIDE = LANES == 16 ? 4 : 2;  // vectors in a panel, so many that their sums stay in registers
constexpr int FEW = LANES / 2;  // rows of which each goes alone faster
constexpr int PANEL = WIDE * LANES, PANELS = COLUMNS / PANEL;
constexpr ggml_fp16_t CLOSED = 0xFC00;  // minus infinity
constexpr int GROUP = 4;  // lines of the left matrix that are taken at once

/* A matrix's numbers: a line's, and how far the next of the same line is. */
struct Left {
    const float *data;
    int line, next;
};

/* GROUP lines by a panel: results[line][column] = left x right, `added` to what is there. */
template <int VECTORS> static void multiply(Left left, const float *right, int depth, float *results, bool added) {
    Lanes sums[GROUP][VECTORS];
    for (int line = 0; line < GROUP; line++) {
        for (int n = 0; n < VECTORS; n++) {
            sums[line][n] = added ? load(results + line * PANEL + n * LANES) : all(0.0f);
        }
    }
    for (int d = 0; d < depth; d++) {
        Lanes columns[VECTORS];
        for (int n = 0; n < VECTORS; n++) {
            columns[n] = load(right + d * PANEL + n * LANES);
        }
        for (int line = 0; line < GROUP; line++) {
            const Lanes factor = all(left.data[line * left.line + d * left.next]);
            for (int n = 0; n < VECTORS; n++) {
                sums[line][n] = fma(factor, columns[n], sums[line][n]);
            }
        }
    }
    for (int line = 0; line < GROUP; line++) {
        for (int n = 0; n < VECTORS; n++) {
            store(results + line * PANEL + n * LANES, sums[line][n]);
        }
    }
}

class Tiles {
  public:
    Tiles(const Attention &attention, const ggml_compute_params *params)
        : of(attention), key_width((int) of.k->ne[0]), width((int) of.v->ne[0]) {
        // as ggml lays out what it has a thread for this
        const size_t floats = COLUMNS * (2 * key_width + 2 * width + 2 * BLOCK) + 16;
        const uintptr_t place = (uintptr_t) ((float *) params->wdata + params->ith * floats);
        queries = (float *) (place + 63 & ~(uintptr_t) 63);
        results = queries + COLUMNS * key_width;
        lines = results + COLUMNS * width;
        scores = lines + BLOCK * std::max(key_width, width);
        biases = scores + COLUMNS * BLOCK;
    }

    /* Those from `first` to before `last`. */
    void go(int first, int last) {
        const int sharing = of.sharing() * (int) of.q->ne[1];
        for (int row = first; row < last; row += count) {
            first_row = row;
            count = std::min({COLUMNS, last - row, sharing - row % sharing});
            if (count < FEW) {
                Rows{of, nullptr, 0}.go(row, row + count);
            } else {
                tile();
            }
        }
    }

  private:
    const Attention &of;
    const int key_width, width;
    int first_row = 0, count = 0;             // rows of this tile
    float *queries, *results;                 // by panel: a line for each feature
    float *lines;                             // keys or values of a block, in single precision
    float *scores, *biases;                   // by panel: a line for each position
    int positions[BLOCK], seen = 0;           // of a block: those that any row looks at
    bool biased = false;
    alignas(64) float highest[COLUMNS], sums[COLUMNS];

    void tile() {
        std::fill_n(highest, COLUMNS, -INFINITY);
        std::fill_n(sums, COLUMNS, 0.0f);
        std::fill_n(results, COLUMNS * width, 0.0f);
        std::fill_n(queries, COLUMNS * key_width, 0.0f);
        for (int n = 0; n < count; n++) {
            const float *query = of.query(first_row + n);
            float *column = queries + n / PANEL * PANEL * key_width + n % PANEL;
            for (int d = 0; d < key_width; d++) {
                column[d * PANEL] = query[d] * of.factor;
            }
        }
        for (int64_t start = of.from; start < of.to; start += BLOCK) {
            look(start, (int) std::min<int64_t>(BLOCK, of.to - start));
            if (seen == 0) {
                continue;
            }
            for (int n = 0; n < seen; n += GROUP) {
                take(of.k, start, n, std::min(GROUP, seen - n));
                for (int panel = 0; panel * PANEL < count; panel++) {
                    float *block = scores + panel * PANEL * BLOCK + n * PANEL;
                    multiply(panel, {lines, key_width, 1}, queries + panel * PANEL * key_width, key_width, block, false);
                }
            }
            for (int column = 0; column < count; column += LANES) {
                weigh(column / PANEL, column % PANEL);
            }
            take(of.v, start, 0, seen);
            for (int panel = 0; panel * PANEL < count; panel++) {
                const float *weights = scores + panel * PANEL * BLOCK;
                for (int d = 0; d < width; d += GROUP) {
                    multiply(panel, {lines + d, 1, width}, weights, seen, results + panel * PANEL * width + d * PANEL, true);
                }
            }
        }
        finish();
    }

    void multiply(int panel, Left left, const float *right, int depth, float *results, bool added) const {
        switch (std::min(WIDE, (count - panel * PANEL + LANES - 1) / LANES)) {
            case 1: return corral::multiply<1>(left, right, depth, results, added);
            case 2: return corral::multiply<2>(left, right, depth, results, added);
            case 3: return corral::multiply<3>(left, right, depth, results, added);
            default: return corral::multiply<4>(left, right, depth, results, added);
        }
    }

    /* Which positions of a block are looked at, and what is added to their scores. */
    void look(int64_t start, int length) {
        ggml_fp16_t open[BLOCK] = {}, any = 0;
        const int tokens = of.mask == nullptr ? 0 : std::min<int>(count, (int) of.q->ne[1]);
        for (int n = 0; n < tokens; n++) {
            const ggml_fp16_t *bias = of.biases(first_row + n) + start;
            for (int m = 0; m < length; m++) {
                open[m] |= bias[m] ^ CLOSED;
                any |= bias[m];
            }
        }
        seen = 0;
        for (int m = 0; m < length; m++) {
            if (tokens == 0 || open[m] != 0) {
                positions[seen++] = m;
            }
        }
        biased = any != 0 && seen != 0;
        for (int n = 0; biased && n < count; n++) {
            const ggml_fp16_t *bias = of.biases(first_row + n) + start;
            float *column = biases + n / PANEL * PANEL * BLOCK + n % PANEL;
            for (int m = 0; m < seen; m++) {
                column[m * PANEL] = GGML_CPU_FP16_TO_FP32(bias[positions[m]]);
            }
        }
    }

    /* Keys or values, `t`, of a block that begins at `start`: those of `number` positions from the n-th on that is seen. */
    void take(const ggml_tensor *t, int64_t start, int n, int number) {
        const char *block = of.place(t, first_row, start);
        const int length = (int) t->ne[0];
        for (int m = 0; m < number; m++) {
            const ggml_fp16_t *from = (const ggml_fp16_t *) (block + positions[n + m] * t->nb[1]);
            for (int d = 0; d < length; d += LANES) {
                store(lines + m * length + d, halves(from + d));
            }
        }
    }

    /* From the scores of a vector of rows to weights, and what has been summed brought to their new maximum. */
    void weigh(int panel, int column) {
        float *block = scores + panel * PANEL * BLOCK + column, *added = biases + panel * PANEL * BLOCK + column;
        float *high = highest + panel * PANEL + column, *total = sums + panel * PANEL + column;
        const Lanes before = load(high);
        Lanes top = before;
        for (int n = 0; n < seen; n++) {
            Lanes score = load(block + n * PANEL);
            if (of.softcap != 0.0f) {
                score = of.softcap - 2.0f * of.softcap / (ggml_v_expf(score * 2.0f) + 1.0f);  // softcap x tanh
            }
            if (biased) {
                score = score + load(added + n * PANEL);
            }
            store(block + n * PANEL, score);
            top = larger(top, score);
        }
        store(high, top);
        const Lanes base = larger(top, all(-FLT_MAX)), factor = ggml_v_expf(before - base);
        Lanes sum = load(total) * factor;
        for (int n = 0; n < seen; n++) {
            const Lanes weight = ggml_v_expf(load(block + n * PANEL) - base);
            store(block + n * PANEL, weight);
            sum = sum + weight;
        }
        store(total, sum);
        float *line = results + panel * PANEL * width + column;
        for (int d = 0; raised(before, top) && d < width; d++) {
            store(line + d * PANEL, load(line + d * PANEL) * factor);
        }
    }

    void finish() {
        for (int n = 0; n < count; n++) {
            const int row = first_row + n;
            float factor = 1.0f;
            if (of.sinks != nullptr) {
                const float sink = ((const float *) of.sinks->data)[of.head(row)], top = std::max(sink, highest[n]);
                factor = expf(highest[n] - top);
                sums[n] = sums[n] * factor + expf(sink - top);
            }
            factor = sums[n] == 0.0f ? 0.0f : factor / sums[n];
            const float *column = results + n / PANEL * PANEL * width + n % PANEL;
            float *result = of.result(row);
            for (int d = 0; d < width; d++) {
                result[d] = column[d * PANEL] * factor;
            }
        }
    }
};

}  // namespace corral
