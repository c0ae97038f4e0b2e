/* MATMUL of blocked weights and A8 activations as a pipeline, see turns.h. Columns of x are its rows; a lane of a word is a
 * block of x, and half a block of w (-DQD_W_<FORMAT>).
 *
 *   w [count, K], output channels first … first + count - 1; x A8 [rows, K], addend F32 [rows, N] or one row for all
 *   (stride 0), y F32 [rows, N]
 *
 * The array gives the integer sum of each lane; `finish` scales them and adds them up in the reference's order: four
 * partial sums, a block each in turn. So a float sum is needed again only after 8 words, longer than an adder takes. */
#ifndef QD_UNIT
#define QD_UNIT matmul
#endif
#include "decode.h"
#include "fpga/turns.h"

/* Tags that differ from those in integers.h: where units are linked to one binary, Intel's emulator tells the words of
 * channels apart by them. */
typedef struct block_column {
    char16 codes[QD_LANES];
    float d[QD_LANES], sum[QD_LANES];
} column_word;

/* Whole blocks of w that a word has, or begins. */
#define QD_WORD_BLOCKS ((QD_LANES + 1) / 2)
typedef struct scales_word {
    float d[QD_PE][QD_WORD_BLOCKS], min[QD_PE][QD_WORD_BLOCKS];
} scales_word;

typedef struct block_sums {
    int product[QD_PE][QD_LANES];
    float d[QD_LANES], sum[QD_LANES];
} sums_word;

typedef struct block_result {
    float of[QD_PE];
} result_word;

/* Depths: as in integers.h, but that the array gives a sum each cycle, and `finish` takes one. scales: two blocks ahead,
 * which `finish` meets later than the array's sums. */
#define QD_PIPES                                                     \
    QD_PIPE(order_word, orders, 2, 1)                                \
    QD_PIPE(weight_word, weights, 64, QD_WORDS)                      \
    QD_PIPE(column_word, columns, 64, QD_TOKENS *QD_WORDS)           \
    QD_PIPE(scales_word, scales, 2 * QD_WORDS, QD_WORDS)             \
    QD_PIPE(sums_word, sums, 2 * QD_WORDS, QD_TOKENS *QD_WORDS)      \
    QD_PIPE(result_word, results, 2 * QD_TOKENS, QD_TOKENS)
#include "fpga/pipe.h"

typedef struct unit {
    __global const uchar *w, *x, *addend;
    __global uchar *y;
    ulong x_stride, addend_stride, y_stride;
    int has_addend, first, K;
} unit;

/* The block of w that lane l of word i is in; beyond the end of K, the last one. */
static inline __global const uchar *block_of(const unit *u, const turn *s, const int i, const int l, const int q) {
    const ulong row = (ulong)(s->out + min(q, s->outs - 1));
    const int block = min(((s->word + i) * QD_LANES + l) / 2, u->K / 32 - 1);
    return u->w + row * qd_w_row_bytes(u->K) + (ulong)block * QD_W_BYTES;
}

static inline weight_word read_weights(const unit *u, const turn *s, const int i) {
    weight_word word;
#pragma unroll
    for (int q = 0; q < QD_PE; q++) {
#pragma unroll
        for (int l = 0; l < QD_LANES; l++) {
            word.row[q][l] = qd_w_codes(block_of(u, s, i, l, q), ((s->word + i) * QD_LANES + l) % 2);
        }
    }
    return word;
}

/* Whether a word has the beginning of a block: every second one has, where a word is half a block. */
static inline bool begins_block(const turn *s, const int i) {
    return (s->word + i) * QD_LANES % 2 == 0;
}

static inline void read_column(const unit *u, const turn *s, const int t, const int i QD_JOINTS) {
    __global const qd_block_a8 *row = (__global const qd_block_a8 *)(u->x + (ulong)(s->column + t) * u->x_stride);
    column_word word;
#pragma unroll
    for (int l = 0; l < QD_LANES; l++) {
        __global const qd_block_a8 *block = row + min((s->word + i) * QD_LANES + l, u->K / 16 - 1);
        word.codes[l] = vload16(0, (__global const char *)block->q);
        word.d[l] = block->d;
        word.sum[l] = block->sum;
    }
    QD_PUT(columns, word);
    if (t || !begins_block(s, i)) return;
    scales_word scale;
#pragma unroll
    for (int q = 0; q < QD_PE; q++) {
#pragma unroll
        for (int b = 0; b < QD_WORD_BLOCKS; b++) {
            scale.d[q][b] = qd_w_scale(block_of(u, s, i, 2 * b, q), 0);
#ifdef QD_W_Q4_1
            scale.min[q][b] = qd_w_offset(block_of(u, s, i, 2 * b, q), 0);
#else
            scale.min[q][b] = 0.0f;
#endif
        }
    }
    QD_PUT(scales, scale);
}

static inline void add_word(sums_word *sum, const weight_word *w, const column_word *x, const int i) {
#pragma unroll
    for (int l = 0; l < QD_LANES; l++) {
#pragma unroll
        for (int p = 0; p < QD_PE; p++)
            sum->product[p][l] = qd_int_sum(convert_int16(w->row[p][l]) * convert_int16(x->codes[l]));
        sum->d[l] = x->d[l];
        sum->sum[l] = x->sum[l];
    }
}
#define QD_SUM_IS_READY(i, words) true

typedef struct totals {
    float p[QD_TOKENS][QD_PE][QD_BLOCK_LANES];
    scales_word scales[QD_WORDS];
} totals;

static inline void finish(const unit *u, const turn *s, const bool last, totals *all QD_JOINTS) {
    for (int t = 0; t < s->columns; t++) {
        float low[QD_PE], low_min = 0.0f; /* of the block's first half */
        scales_word scale;
        for (int i = 0; i < s->words; i++) {
            const sums_word sum = QD_GET(sums);
            if (begins_block(s, i)) {
                if (!t) all->scales[i] = QD_GET(scales);
                scale = all->scales[i];
            }
#pragma unroll
            for (int l = 0; l < QD_LANES; l++) {
                const int piece = (s->word + i) * QD_LANES + l; /* a block of x */
                if (piece >= u->K / 16) break;
                const int b = l / 2, lane = piece / 2 % QD_BLOCK_LANES;
#pragma unroll
                for (int q = 0; q < QD_PE; q++) {
                    const float product = sum.d[l] * (float)sum.product[q][l];
                    if (piece % 2 == 0) {
                        low[q] = product;
                        continue;
                    }
                    const float before = piece < 2 * QD_BLOCK_LANES ? 0.0f : all->p[t][q][lane];
#ifdef QD_W_Q4_1
                    const float more =
                        scale.d[q][b] * (low[q] + product) + scale.min[q][b] * (low_min + sum.d[l] * sum.sum[l]);
#else
                    const float more = scale.d[q][b] * (low[q] + product);
#endif
                    all->p[t][q][lane] = before + more;
                }
                low_min = sum.d[l] * sum.sum[l];
            }
        }
        if (!last) continue;
        result_word result;
#pragma unroll
        for (int q = 0; q < QD_PE; q++) {
            float p[QD_BLOCK_LANES];
            for (int l = 0; l < QD_BLOCK_LANES; l++)
                p[l] = 32 * l < u->K ? all->p[t][q][l] : 0.0f;
            result.of[q] = (p[0] + p[1]) + (p[2] + p[3]);
            if (u->has_addend) {
                result.of[q] += ((__global const float *)(u->addend + (ulong)(s->column + t) * u->addend_stride))
                    [u->first + s->out + min(q, s->outs - 1)];
            }
        }
        QD_PUT(results, result);
    }
}

static inline void write(const unit *u, const turn *s QD_JOINTS) {
    for (int t = 0; t < s->columns; t++) {
        const result_word result = QD_GET(results);
        __global float *row = (__global float *)(u->y + (ulong)(s->column + t) * u->y_stride);
        for (int q = 0; q < s->outs; q++)
            row[u->first + s->out + q] = result.of[q];
    }
}

#define ARGUMENTS                                                                                          \
    __global const uchar *w, QD_IN(x), QD_IN(addend), QD_OUT(y), const int has_addend, const int first,    \
        const int count, const int K, const int rows
#define OPEN                                                                                                          \
    const unit u = {w,        QD_ROW(uchar, x, 0), QD_ROW(uchar, addend, 0), QD_ROW_OUT(uchar, y, 0), x_stride,       \
                    addend_stride, y_stride, has_addend, first, K};                                                   \
    const shape all = {1, rows, count, (K / 16 + QD_LANES - 1) / QD_LANES}
#include "fpga/unit.h"
