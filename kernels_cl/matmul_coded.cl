/* y = x · wᵀ (+ addend) for coded weights, whose codes are read as they are.
 *
 *   w [count, bytes], output channels first … first + count - 1; side: see qdot_params.h
 *   x F32 or A8 [rows, K], addend F32 [rows, N] or one row for all, y F32 [rows, N]
 *
 *   unit u = (QD_TOKENS rows of x, row i of w)
 *     x A8:   K → | 16 | 16 | 16 | …   each an exact int sum where codes are numbers, scaled, then added to part mod 4
 *     x F32:  K → | 16 lanes | …       products added down each lane
 *
 *   Vectors of codebooks: unit u = (row r of x, QD_VECTOR_ROWS rows of w)
 *     for each 16 vectors a table of x · (every vector of the codebook), which all rows of w then only look up */
#include "coded.h"

/* Rows of x in one unit. */
#ifndef QD_TOKENS
#define QD_TOKENS 4
#endif

/* Rows of w that share a table. */
#ifndef QD_VECTOR_ROWS
#define QD_VECTOR_ROWS 64
#endif

static inline void dot_floats(const qd_coded_params *p, const coded_row *w, __global const uchar *x,
                              const ulong x_stride, const int tokens, float *y) {
    float16 part[QD_TOKENS];
    for (int t = 0; t < QD_TOKENS; t++)
        part[t] = 0.0f;
    for (int k = 0; k < p->k; k += 16) {
        const float16 v = coded_weights(p, w, k);
        for (int t = 0; t < tokens; t++)
            part[t] += v * qd_load16((__global const float *)(x + t * x_stride) + k, p->k - k);
    }
    for (int t = 0; t < tokens; t++)
        y[t] = qd_lanes_sum(part[t]);
}

static inline void dot_blocks(const qd_coded_params *p, const coded_row *w, __global const uchar *x,
                              const ulong x_stride, const int tokens, float *y) {
    const int whole = p->kind == QD_CODED_UNIFORM || (p->kind == QD_CODED_SHIFT && p->bits <= 5);
    /* 2^-(2^(bits-1) - 2): of the integers that stand for powers of two. */
    const float unit = p->kind == QD_CODED_SHIFT ? as_float((uint)(129 - (1 << (p->bits - 1))) << 23) : 1.0f;
    float part[QD_TOKENS][4];
    for (int t = 0; t < QD_TOKENS; t++)
        part[t][0] = part[t][1] = part[t][2] = part[t][3] = 0.0f;
    for (int g = 0; g < p->groups; g++) {
        const int zero = coded_zero(p, w, g), end = min((g + 1) * p->group, p->k);
        const float scale = coded_scale(p, w, g);
        for (int k = g * p->group; k < end; k += 16) {
            const short16 code = coded_bits16(w->bytes + p->codes_at, k, p->k, p->bits);
            if (whole) {
                const short16 a = coded_whole(p, code, zero);
                for (int t = 0; t < tokens; t++) {
                    __global const qd_block_a8 *b = (__global const qd_block_a8 *)(x + t * x_stride) + k / 16;
                    const int sum = qd_dot16(a, convert_short16(vload16(0, (__global const char *)b->q)));
                    part[t][k / 16 % 4] += scale * (b->d * ((float)sum * unit));
                }
            } else {
                const float16 v = coded_values(p, w, code, zero);
                for (int t = 0; t < tokens; t++) {
                    __global const qd_block_a8 *b = (__global const qd_block_a8 *)(x + t * x_stride) + k / 16;
                    const float sum = qd_lanes_sum(v * convert_float16(vload16(0, (__global const char *)b->q)));
                    part[t][k / 16 % 4] += scale * (b->d * sum);
                }
            }
        }
    }
    for (int t = 0; t < tokens; t++)
        y[t] = (part[t][0] + part[t][1]) + (part[t][2] + part[t][3]);
}

/* Element k of a row of x. */
static inline float x_at(const qd_coded_params *p, __global const uchar *x, const int k) {
    if (!p->a8) return ((__global const float *)x)[k];
    __global const qd_block_a8 *b = (__global const qd_block_a8 *)x + k / 16;
    return b->d * (float)b->q[k % 16];
}

/* part[i][j mod 16] += x · (the vector that row i of w names in place j), for `count` rows of w. */
static inline void dot_vectors(const qd_coded_params *p, __global const uchar *w, const ulong w_stride,
                               __global const float *side, __global const uchar *x, const int count,
                               float part[QD_VECTOR_ROWS][16]) {
    float table[256];
    const int vectors = p->k / p->length;
    for (int j = 0; j < vectors; j++) {
        __global const float *book = side + p->table_at + ((ulong)(j / p->share) << p->bits) * p->length;
        float xs[8];
        for (int i = 0; i < p->length; i++)
            xs[i] = x_at(p, x, j * p->length + i);
        for (int c = 0; c < 1 << p->bits; c++, book += p->length) {
            float sum = book[0] * xs[0];
            for (int i = 1; i < p->length; i++)
                sum += book[i] * xs[i];
            table[c] = sum;
        }
        for (int i = 0; i < count; i++)
            part[i][j % 16] += table[coded_bits(w + (ulong)i * w_stride + p->codes_at, j, p->bits)];
    }
}

/* The end of each element. */
static inline float finish(const qd_coded_params *p, __global const uchar *addend, const ulong addend_stride,
                           const int r, const int column, float v) {
    if (p->addend != QD_ABSENT)
        v += ((__global const float *)(addend + (p->addend == QD_SHARED ? 0 : (ulong)r * addend_stride)))[column];
    return qd_one_nan(v);
}

#if defined(QD_AVX512_VNNI) || defined(QD_AVX2)
#include "x86/coded_integers.h"
#endif

__kernel void matmul_coded(QD_IN(w), QD_IN(side), QD_IN(x), QD_IN(addend), QD_OUT(y), const qd_coded_params p,
                           const int rows QD_WORK) {
    __global const float *shared = QD_ROW(float, side, 0);
    if (p.kind == QD_CODED_PRODUCT) {
        const int tiles = (p.count + QD_VECTOR_ROWS - 1) / QD_VECTOR_ROWS;
        QD_FOR_UNITS(u, (ulong)rows * tiles) {
            const int r = (int)(u / tiles), first = (int)(u % tiles) * QD_VECTOR_ROWS;
            const int count = min(QD_VECTOR_ROWS, p.count - first);
            float part[QD_VECTOR_ROWS][16];
            for (int i = 0; i < count; i++)
                vstore16((float16)0.0f, 0, part[i]);
            dot_vectors(&p, QD_ROW(uchar, w, first), w_stride, shared, QD_ROW(uchar, x, r), count, part);
            for (int i = 0; i < count; i++) {
                const int chan = p.first + first + i;
                const coded_row row = coded_open(&p, QD_ROW(uchar, w, first + i), shared, (ulong)chan);
                const float v = coded_scale(&p, &row, 0) * qd_lanes_sum(vload16(0, part[i]));
                QD_ROW_OUT(float, y, r)[chan] = finish(&p, QD_ROW(uchar, addend, 0), addend_stride, r, chan, v);
            }
        }
        return;
    }
#ifdef QD_CODED_INTEGERS_H
    if (table_takes(&p) || integer_takes(&p)) {
        table_launch l;
        l.w = QD_ROW(uchar, w, 0);
        l.x = QD_ROW(uchar, x, 0);
        l.addend = QD_ROW(uchar, addend, 0);
        l.side = shared;
        l.y = QD_ROW_OUT(uchar, y, 0);
        l.w_stride = w_stride;
        l.x_stride = x_stride;
        l.addend_stride = addend_stride;
        l.y_stride = y_stride;
        l.rows = rows;
        if (integer_takes(&p)) {
            integer_all(&p, &l QD_SAME_WORK);
        } else {
            table_all(&p, &l QD_SAME_WORK);
        }
        return;
    }
#endif
    const int batches = (rows + QD_TOKENS - 1) / QD_TOKENS;
    QD_FOR_UNITS(u, (ulong)batches * p.count) {
        const int i = (int)(u % p.count), chan = p.first + i;
        const int r = (int)(u / p.count) * QD_TOKENS;
        const int tokens = min(QD_TOKENS, rows - r);
        const coded_row row = coded_open(&p, QD_ROW(uchar, w, i), shared, (ulong)chan);
        float sum[QD_TOKENS];
        if (p.a8) {
            dot_blocks(&p, &row, QD_ROW(uchar, x, r), x_stride, tokens, sum);
        } else {
            dot_floats(&p, &row, QD_ROW(uchar, x, r), x_stride, tokens, sum);
        }
        for (int t = 0; t < tokens; t++)
            QD_ROW_OUT(float, y, r + t)
        [chan] = finish(&p, QD_ROW(uchar, addend, 0), addend_stride, r + t, chan, sum[t]);
    }
}
