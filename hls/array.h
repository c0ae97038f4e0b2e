/* The array of products that matmul_int.c and conv_int.c share, and the stages around it. README.md has the picture.
 *
 * A step is one chunk of up to QD_CHUNK codes along K, of up to QD_PE output channels, against up to QD_TOKENS columns
 * of x (rows of a matrix, pixels of an image). Codes stay as they are; zero points come in at the end, by Σ(w-zw)(x-zx)
 * = Σwx - zx·Σw - zw·Σx + n·zw·zx, so that multipliers are 8 bits wide. Unsigned codes are read as signed ones, half
 * their range less, and so are their zero points. */
#ifndef QD_ARRAY_H
#define QD_ARRAY_H

#include "pack.h"
#include "ports.h"

/* ---- Shape ------------------------------------------------------------------------------------------------------ */

/* Products of an output channel in a cycle: a power of two, at most QD_BURST. */
#ifndef QD_VEC
#define QD_VEC 16
#endif
/* Codes of a step: a burst of 16 beats, where a code is a byte. Sums of 1024 products fit 26 bits. */
#ifndef QD_CHUNK
#define QD_CHUNK 1024
#endif
#define QD_BEATS (QD_CHUNK / QD_BURST)

/* Products in a multiplier (pack.h): 1, 2, or, for weights of 4 bits, 4. QD_PE is even where it is not 1. */
#ifndef QD_PACK
#define QD_PACK 1
#endif
/* Weights have 4 bits, or 8 and, as the parameters say, 4. */
#ifndef QD_W_BITS
#define QD_W_BITS 8
#endif
#if QD_W_BITS == 4
#define QD_W_CODE(code) QD_CODE(4, QD_CODE_SIGNED(code))
#define QD_PACK_ROW(what) QD_PACK_S4_##what
#else
#define QD_W_CODE(code) (code)
#define QD_PACK_ROW(what) QD_PACK_S8_##what
#if QD_PACK == 4
#error "QD_PACK=4 is for weights of 4 bits: -DQD_W_BITS=4"
#endif
#endif
#if QD_PACK > 1 && QD_PE % 2
#error "QD_PACK pairs output channels: QD_PE must be even"
#endif
#if QD_BURST % QD_VEC || QD_CHUNK % QD_BURST || QD_CHUNK > 4096
#error "QD_VEC must divide QD_BURST, and that QD_CHUNK, at most 4096 for sums of 32 bits"
#endif

/* -DQD_CODEBOOK=v0,…,v15: weights of 4 bits name one of 16 signed bytes, and have no zero points. */
#ifdef QD_CODEBOOK
static const qd_i8 qd_codebook[16] = {QD_CODEBOOK};
#endif

/* ---- Steps ------------------------------------------------------------------------------------------------------ */

/* Sizes of a problem: batches × groups of columns × outs × codes. Groups meet columns and outs of their own. */
typedef struct qd_extent {
    qd_i32 batches, groups, columns, outs, codes;
} qd_extent;

/* What a step works on. */
typedef struct qd_turn {
    qd_i32 batch, group;
    qd_i32 column, columns; /* the first, and how many */
    qd_i32 out, outs;
    qd_i32 k, count; /* codes */
    qd_i32 last;     /* of these columns and outs */
} qd_turn;

QD_INLINE qd_u64 qd_steps(const qd_extent *e) {
    const qd_i32 columns = (e->columns + QD_TOKENS - 1) / QD_TOKENS, outs = (e->outs + QD_PE - 1) / QD_PE,
                 chunks = (e->codes + QD_CHUNK - 1) / QD_CHUNK;
    return (qd_u64)e->batches * (qd_u64)e->groups * (qd_u64)columns * (qd_u64)outs * (qd_u64)chunks;
}

/* Gives the step at `at` to all stages, to each its own copy (a channel has one reader), and moves on: K first, then
 * outs, columns, groups, batches. */
static void qd_turn_next(const qd_extent *e, qd_turn *at, qd_turn *weights, qd_turn *columns, qd_turn *channels,
                         qd_turn *array, qd_turn *finish, qd_turn *write) {
    HLS_STAGE
    qd_turn now = *at;
    now.columns = qd_at_most(QD_TOKENS, e->columns - now.column);
    now.outs = qd_at_most(QD_PE, e->outs - now.out);
    now.count = qd_at_most(QD_CHUNK, e->codes - now.k);
    now.last = now.k + now.count == e->codes;
    *weights = *columns = *channels = *array = *finish = *write = now;
    at->k += QD_CHUNK;
    if (at->k >= e->codes) {
        at->k = 0;
        at->out += QD_PE;
    }
    if (at->out >= e->outs) {
        at->out = 0;
        at->column += QD_TOKENS;
    }
    if (at->column >= e->columns) {
        at->column = 0;
        at->group++;
    }
    if (at->group >= e->groups) {
        at->group = 0;
        at->batch++;
    }
}

/* ---- Codes ------------------------------------------------------------------------------------------------------ */

/* What is taken off unsigned codes, and their zero points, to make them signed. */
QD_INLINE qd_i32 qd_code_flip(const qd_i32 code) {
    return QD_CODE_SIGNED(code) ? 0 : (qd_i32)1 << (QD_CODE_BITS(code) - 1);
}

QD_INLINE qd_i32 qd_code_clamp(const qd_i32 value, const qd_i32 code) {
    const qd_i32 half = (qd_i32)1 << (QD_CODE_BITS(code) - 1), min = QD_CODE_SIGNED(code) ? -half : 0,
                 max = min + 2 * half - 1;
    return value < min ? min : value > max ? max : value;
}

/* Zero point i of an operand: absent (0), shared or one each, limited to the codes that there are; made signed. */
QD_INLINE qd_i32 qd_zero_read(const qd_i32 *zeros, const qd_u64 at, const qd_i32 share, const qd_i32 i,
                              const qd_i32 code) {
    const qd_i32 zero = share == QD_ABSENT ? 0 : zeros[at / sizeof(qd_i32) + (qd_u64)(share == QD_SHARED ? 0 : i)];
    return qd_code_clamp(zero, code) - qd_code_flip(code);
}

/* Codes QD_VEC · word … of a line of `count` codes of 4 or 8 bits, signed; 0 beyond the end. */
QD_INLINE void qd_codes_read(qd_u8 line[][QD_BURST], const int word, const int count, const qd_i32 code,
                             qd_i8 codes[QD_VEC]) {
    const int bits = QD_CODE_BITS(code), half = 1 << (bits - 1);
    HLS_UNROLL_BEFORE
    for (int v = 0; v < QD_VEC; v++) {
        HLS_UNROLL_INSIDE
        const int k = word * QD_VEC + v, byte = bits == 4 ? k / 2 : k;
        const int whole = line[byte / QD_BURST][byte % QD_BURST];
        const int raw = bits == 8 ? whole : k % 2 ? whole >> 4 : whole & 15;
        codes[v] = (qd_i8)(k < count ? (QD_CODE_SIGNED(code) ? raw ^ half : raw) - half : 0);
    }
}

/* The same of weights. */
QD_INLINE void qd_weights_read(qd_u8 line[][QD_BURST], const int word, const int count, const qd_i32 code,
                               qd_i8 codes[QD_VEC]) {
#ifdef QD_CODEBOOK
    qd_codes_read(line, word, count, QD_CODE(4, 0), codes);
    HLS_UNROLL_BEFORE
    for (int v = 0; v < QD_VEC; v++) {
        HLS_UNROLL_INSIDE
        codes[v] = (qd_i8)(word * QD_VEC + v < count ? qd_codebook[codes[v] + 8] : 0);
    }
    (void)code;
#else
    qd_codes_read(line, word, count, QD_W_CODE(code), codes);
#endif
}

/* The step's rows of weights: those of a batch are `batch_rows` after those of the one before, those of a group `outs`.
 */
static void qd_weights_load(const qd_extent *e, const qd_turn *s, const qd_i32 batch_rows, const qd_i32 code,
                            QD_BEATS_IN(w), qd_u8 weights[QD_PE][QD_BEATS][QD_BURST]) {
    HLS_STAGE
    const int bits = QD_CODE_BITS(code), bytes = (s->count * bits + 7) / 8;
    const qd_i64 first = (qd_i64)s->batch * batch_rows + (qd_i64)s->group * e->outs + s->out;
    for (int q = 0; q < s->outs; q++) {
        HLS_TRIPS(QD_PE)
        qd_run_copy(w, w_at + (qd_u64)(first + q) * w_stride + (qd_u64)(s->k * bits / 8), bytes, weights[q], 0);
    }
}

/* ---- The array -------------------------------------------------------------------------------------------------- */

/* Of one column and one step. */
typedef struct qd_sums {
    qd_i32 product[QD_PE], w[QD_PE], x;
} qd_sums;

/* sum += products of a word: QD_PE · QD_VEC of them. */
QD_INLINE void qd_products_add(qd_i8 w[QD_PE][QD_VEC], const qd_i8 x[QD_VEC], qd_sums *sum) {
#if QD_PACK == 1
    HLS_UNROLL_BEFORE
    for (int q = 0; q < QD_PE; q++) {
        HLS_UNROLL_INSIDE
        HLS_UNROLL_BEFORE
        for (int v = 0; v < QD_VEC; v++) {
            HLS_UNROLL_INSIDE
            sum->product[q] += w[q][v] * x[v];
        }
    }
#else
    HLS_UNROLL_BEFORE
    for (int q = 0; q < QD_PE; q += 2) {
        HLS_UNROLL_INSIDE
#if QD_PACK == 4
        qd_pack_dot_four(w[q], w[q + 1], x, QD_VEC, &sum->product[q], &sum->product[q + 1]);
#else
        qd_pack_dot_two(w[q], w[q + 1], x, QD_VEC, QD_PACK_ROW(SHIFT), QD_PACK_ROW(MOST), &sum->product[q],
                        &sum->product[q + 1]);
#endif
    }
#endif
    HLS_UNROLL_BEFORE
    for (int v = 0; v < QD_VEC; v++) {
        HLS_UNROLL_INSIDE
        sum->x += x[v];
        HLS_UNROLL_BEFORE
        for (int q = 0; q < QD_PE; q++) {
            HLS_UNROLL_INSIDE
            sum->w[q] += w[q][v];
        }
    }
}

/* One loop over the words of all columns, so that the pipeline never runs dry between columns. Weights stay in the
 * step's buffer, and go through once for each column. */
static void qd_array(const qd_turn *s, const qd_i32 w_code, const qd_i32 x_code,
                     qd_u8 weights[QD_PE][QD_BEATS][QD_BURST], qd_u8 columns[QD_TOKENS][QD_BEATS][QD_BURST],
                     qd_sums sums[QD_TOKENS]) {
    HLS_STAGE
    const int words = (s->count + QD_VEC - 1) / QD_VEC;
    int t = 0, i = 0;
    qd_sums sum;
    for (int n = 0; n < s->columns * words; n++) {
        HLS_PIPELINE
        HLS_TRIPS(256)
        qd_i8 x[QD_VEC], w[QD_PE][QD_VEC];
        HLS_PARTITION(x, 0)
        HLS_PARTITION(w, 0)
        HLS_UNROLL_BEFORE
        for (int q = 0; q < QD_PE; q++) {
            HLS_UNROLL_INSIDE
            qd_weights_read(weights[q], i, s->count, w_code, w[q]);
            if (i == 0) sum.product[q] = sum.w[q] = 0;
        }
        if (i == 0) sum.x = 0;
        qd_codes_read(columns[t], i, s->count, x_code, x);
        qd_products_add(w, x, &sum);
        if (++i == words) {
            sums[t++] = sum;
            i = 0;
        }
    }
}

/* ---- After it --------------------------------------------------------------------------------------------------- */

/* The end of an output channel. */
typedef struct qd_channel {
    qd_i32 zero, bias, a, b;
} qd_channel;

/* Where the numbers of an output channel are, and how they are shared. */
typedef struct qd_channel_shares {
    qd_i32 w_code, w_zero, bias, requant;
} qd_channel_shares;

/* Numbers of the step's channels; `first` is that of the problem's first out. They are needed after its last chunk
 * only, but come in the time of the others: four words each. */
static void qd_channels_read(const qd_extent *e, const qd_turn *s, const qd_i32 first, const qd_channel_shares *shares,
                             QD_WORDS_IN(w_zero), QD_WORDS_IN(bias), QD_WORDS_IN(requant), qd_channel channels[QD_PE]) {
    HLS_STAGE
    for (int q = 0; q < QD_PE; q++) {
        HLS_PIPELINE
        const qd_i32 o = first + s->group * e->outs + s->out + qd_at_most(q, s->outs - 1);
        const qd_u64 row = requant_at + (qd_u64)(shares->requant == QD_EACH ? o : 0) * requant_stride;
        qd_channel c = {0, 0, 0, 0};
        c.zero = qd_zero_read(w_zero, w_zero_at, shares->w_zero, o, shares->w_code);
#ifdef QD_CODEBOOK
        c.zero = 0;
#endif
        if (shares->bias != QD_ABSENT) c.bias = bias[bias_at / sizeof(qd_i32) + (qd_u64)o];
        if (shares->requant != QD_ABSENT) {
            c.a = requant[row / sizeof(qd_i32)];
            c.b = requant[row / sizeof(qd_i32) + 1];
        }
        channels[q] = c;
    }
    (void)w_zero_stride, (void)bias_stride;
}

/* Adds a step's sums to the totals of its channels and columns; after the last chunk, makes codes of them. One result a
 * cycle; totals have 64 bits, because any K is legal where sums are asked to be wide. */
static void qd_finish(const qd_turn *s, const qd_output *y, const qd_sums sums[QD_TOKENS],
                      const qd_i32 zeros[QD_TOKENS], const qd_channel channels[QD_PE], qd_i64 totals[QD_TOKENS][QD_PE],
                      qd_i32 results[QD_TOKENS * QD_PE]) {
    HLS_STAGE
    int n = 0;
    for (int t = 0; t < s->columns; t++) {
        HLS_TRIPS(QD_TOKENS)
        const qd_sums sum = sums[t];
        for (int q = 0; q < s->outs; q++) {
            HLS_PIPELINE
            HLS_TRIPS(QD_PE)
            const qd_channel c = channels[q];
            const qd_i32 more = sum.product[q] - zeros[t] * sum.w[q] - c.zero * sum.x + s->count * c.zero * zeros[t];
            const qd_i64 total = (s->k ? totals[t][q] : 0) + more;
            totals[t][q] = total;
            if (s->last) {
                const qd_i32 with_bias = (qd_i32)((qd_u32)qd_saturate_i32(total) + (qd_u32)c.bias);
                results[n++] = y->requant == QD_ABSENT ? with_bias
                                                       : qd_to_code(qd_requantize(with_bias, y->mode, c.a, c.b),
                                                                    y->zero_point, y->min, y->max);
            }
        }
    }
}

/* The qd_output among an operator's parameters. */
#define QD_OUTPUT_OF(raw, type)                                                                         \
    {                                                                                                   \
        QD_PARAM(raw, type, y.requant), QD_PARAM(raw, type, y.mode), QD_PARAM(raw, type, y.zero_point), \
            QD_PARAM(raw, type, y.min), QD_PARAM(raw, type, y.max), QD_PARAM(raw, type, y.code)         \
    }

#endif
