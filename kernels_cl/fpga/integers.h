/* Units on integer codes: what goes through the pipes, what the array adds up, and the end.
 *
 * Codes go through the array as they are: zero points are accounted for at the end, since
 * Σ(w-zw)(x-zx) = Σwx - zx·Σw - zw·Σx + K·zw·zx, and the multipliers need 8 bits only. Unsigned codes of 8 bits are read as
 * signed ones, 128 less, and so are their zero points. */
#ifndef QD_INTEGERS_H
#define QD_INTEGERS_H

#include "fpga/turns.h"

typedef struct column_word {
    char16 lane[QD_LANES];
} column_word;

typedef struct sums_word { /* of a column in a turn */
    int product[QD_PE], w[QD_PE];
    int x;
} sums_word;

typedef struct result_word {
    int of[QD_PE];
} result_word;

/* Depths. All pipes lead forwards, and each stage puts and takes in the order of the turns: a full pipe only makes its
 * writer wait. weights, columns: the reader sends what the array takes, cycle by cycle; 64 words, 1 KiB of each row, hide
 * the latency of a burst. orders: one ahead. sums: a turn's, which `finish` leaves while it does the last one's. results:
 * two turns', for which memory takes bursts. */
#define QD_PIPES                                          \
    QD_PIPE(order_word, orders, 2, 1)                     \
    QD_PIPE(weight_word, weights, 64, QD_WORDS)           \
    QD_PIPE(column_word, columns, 64, QD_TOKENS *QD_WORDS) \
    QD_PIPE(sums_word, sums, QD_TOKENS, QD_TOKENS)        \
    QD_PIPE(result_word, results, 2 * QD_TOKENS, QD_TOKENS)
#include "fpga/pipe.h"

/* ---- Array -------------------------------------------------------------------------------------------------- */

/* Adds word i of a column: QD_PE · QD_VEC multipliers, adder trees, and registers that add in a cycle. */
static inline void add_word(sums_word *sum, const weight_word *w, const column_word *x, const int i) {
    int x_sum = 0;
#pragma unroll
    for (int l = 0; l < QD_LANES; l++)
        x_sum += qd_int_sum(convert_int16(x->lane[l]));
    sum->x = (i ? sum->x : 0) + x_sum;
#pragma unroll
    for (int p = 0; p < QD_PE; p++) {
        int product = 0, w_sum = 0;
#pragma unroll
        for (int l = 0; l < QD_LANES; l++) {
            const int16 row = convert_int16(w->row[p][l]);
            product += qd_int_sum(row * convert_int16(x->lane[l]));
            w_sum += qd_int_sum(row);
        }
        sum->product[p] = (i ? sum->product[p] : 0) + product;
        sum->w[p] = (i ? sum->w[p] : 0) + w_sum;
    }
}
#define QD_SUM_IS_READY(i, words) ((i) + 1 == (words))

/* ---- Reading ------------------------------------------------------------------------------------------------ */

/* What is added to codes when they are read, and so to their zero points. */
static inline int flip_of(const int code) {
    return code == QD_CODE(8, 0) ? -128 : 0;
}

/* Codes of 4 bits are looked up in a codebook of 16 values; a format whose codes mean other values is another row. */
static inline int codebook_of(const int code) {
    return QD_CODE_SIGNED(code);
}
__constant char QD_NAME(_codebooks)[2][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1},
};

/* Code i of a row, signed. */
static inline char read_code(__global const uchar *row, const long i, const int code) {
    if (QD_CODE_BITS(code) == 8) return (char)(row[i] ^ (uchar)flip_of(code));
    return QD_NAME(_codebooks)[codebook_of(code)][row[i / 2] >> i % 2 * 4 & 15];
}

/* Codes k … k+15 of a row of k_end; 0 beyond the end. */
static inline char16 read_codes(__global const uchar *row, const int k, const int k_end, const int code) {
    const bool whole = QD_CODE_BITS(code) == 8 && k + 16 <= k_end;
    if (whole) return as_char16(vload16(0, row + k) ^ (uchar16)(uchar)flip_of(code));
    char lanes[16];
#pragma unroll
    for (int i = 0; i < 16; i++)
        lanes[i] = k + i < k_end ? read_code(row, k + i, code) : (char)0;
    return vload16(0, lanes);
}

/* ---- Finish ------------------------------------------------------------------------------------------------- */

/* Of the channels and columns under way: 64 bits, because any K is legal where sums are asked to be wide. */
typedef struct totals {
    long product[QD_TOKENS][QD_PE], w[QD_TOKENS][QD_PE], x[QD_TOKENS];
} totals;

/* What the end needs; the channels of a turn are those from `first` + out on, its columns those from `column`. */
typedef struct ending {
    __global const uchar *w_zeros, *x_zeros, *requants;
    __global const int *biases; /* or 0 */
    int w_share, x_share, w_code, x_code;
    long k;
    bool saturates; /* sums that do not fit 32 bits; else they wrap */
    qd_output y;
} ending;

/* Takes a turn's sums; the last of its channels and columns gives their codes. */
static inline void finish_turn(const turn *s, const bool last, const int first, const int column, totals *all,
                               const ending *e QD_JOINTS) {
    for (int t = 0; t < s->columns; t++) {
        const sums_word sum = QD_GET(sums);
        const long xz = qd_zero_at(e->x_zeros, e->x_share, column + t, e->x_code) + flip_of(e->x_code);
        const long x = (s->word ? all->x[t] : 0) + sum.x;
        result_word result;
        all->x[t] = x;
#pragma unroll
        for (int p = 0; p < QD_PE; p++) {
            const int o = first + min(p, s->outs - 1);
            const long product = (s->word ? all->product[t][p] : 0) + sum.product[p];
            const long w = (s->word ? all->w[t][p] : 0) + sum.w[p];
            all->product[t][p] = product;
            all->w[t][p] = w;
            if (!last) continue;
            const long wz = qd_zero_at(e->w_zeros, e->w_share, o, e->w_code) + flip_of(e->w_code);
            const long total = product - xz * w - wz * x + e->k * wz * xz;
            uint code = e->saturates ? (uint)qd_saturate_i32(total) : (uint)total;
            if (e->biases) code += (uint)e->biases[o];
            result.of[p] = qd_finish(&e->y, e->requants, o, (int)code);
        }
        if (last) QD_PUT(results, result);
    }
}

#endif
