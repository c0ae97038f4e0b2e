/* Products of integer codes on an x86 CPU: positions (rows of x, or pixels with all that their window covers) times
 * weights in the TILE16 layout, which the host packs: tiles of 16 output channels,
 *
 *   codes  [k / 4][channel 0…15][k % 4]   unsigned: signed ones plus 128; K is filled up with 0 to whole groups of 4
 *   sums   [channel 0…15] ints            of the codes
 *
 *                      QD_VECTORS · QD_V channels
 *                   w  [................] [................]      k groups of 4 down the tile
 *   x of QD_POSITIONS  [acc] [acc] [acc]  } all in registers
 *
 * Codes of x are copied first, as signed ones, where those of a position lie side by side, so that every kind of
 * operand takes the same way. With w' = w + 128 and x' = x - 128 where these are signed and unsigned, and zero points
 * moved likewise: Σ(w - wz)(x - xz) = Σ w'x' - xz' · (Σ w' - K · wz') - wz' · Σ x'. 32-bit sums may overflow on the
 * way, but not in the end, where no more than K codes are allowed; with `wide`, sums are 64 bits from one chunk of K to
 * the next.
 *
 * The includer defines gemm_fill, and calls gemm_all. */
#ifndef QD_GEMM_INT_H
#define QD_GEMM_INT_H

#include "codes.h"
#include "x86/simd.h"

#ifdef QD_AVX512_VNNI
#define QD_POSITIONS 4
#define QD_VECTORS 4
#else
#define QD_POSITIONS 2
#define QD_VECTORS 2
#endif

/* Codes along K that are copied at once, a multiple of 16; for each position, with room for whole vectors beyond. */
#define QD_CHUNK 1024
#define QD_CHUNK_ROOM (QD_CHUNK + 16)

/* What all units of a launch share. */
typedef struct gemm {
    __global const uchar *w, *w_zeros, *x_zeros, *requant;
    __global const int *bias;
    int w_zero, x_zero, has_bias; /* as in the operators' parameters */
    int w_code, x_code;
    int k, wide;
    int first, count; /* channels: of the tensor, w holds first … first + count - 1 */
    qd_output y;
} gemm;

/* Bytes to[i] = code k + i of a position, i < n, made signed by `flip`; up to 15 bytes more may be written. */
static inline void gemm_fill(const void *source, const ulong position, const int k, const int n, const uchar flip,
                             uchar *to);

/* n bytes, of which 15 more can be read when `slack`. */
static inline void gemm_copy(uchar *to, __global const uchar *from, const int n, const int slack, const uchar flip) {
    int i = 0;
    for (; i + 16 <= n || (slack && i < n); i += 16)
        vstore16(vload16(0, from + i) ^ (uchar16)flip, 0, to + i);
    for (; i < n; i++)
        to[i] = from[i] ^ flip;
}

/* Copies the codes of some positions, with zeros up to a whole vector; sums[t] is added to. */
QD_ALWAYS void gemm_load(const void *source, const ulong position, const int tokens, const int k, const int n,
                         const uchar flip, uchar (*x)[QD_CHUNK_ROOM], long *sums) {
    for (int t = 0; t < tokens; t++) {
        int16 sum = (int16)0;
        gemm_fill(source, position + t, k, n, flip, x[t]);
        vstore16((uchar16)0, 0, x[t] + n);
        for (int i = 0; i < n; i += 16)
            sum += convert_int16(as_char16(vload16(0, x[t] + i)));
        sums[t] += qd_int_sum(sum);
    }
}

/* acc[t][j] += products of `groups` groups of four codes. */
QD_ALWAYS void gemm_dots(__global const uchar *const *w, const uchar (*x)[QD_CHUNK_ROOM], const int groups,
                         const int tokens, const int vectors, qd_vi (*acc)[QD_VECTORS]) {
    qd_vi total[QD_POSITIONS][QD_VECTORS];
    QD_UNROLL(t, tokens)
    QD_UNROLL(j, vectors) total[t][j] = acc[t][j];
    for (int g = 0; g < groups;) {
        const int end = QD_SUM8_CALLS < groups - g ? g + QD_SUM8_CALLS : groups;
        qd_sum8 sum[QD_POSITIONS][QD_VECTORS];
        QD_UNROLL(t, tokens)
        QD_UNROLL(j, vectors) sum[t][j] = QD_SUM8_ZERO;
        for (; g < end; g++) {
            qd_vi codes[QD_VECTORS];
            QD_UNROLL(j, vectors) codes[j] = qd_v_load_int(0, (__global const int *)(w[j] + 64 * (ulong)g));
            QD_UNROLL(t, tokens) {
                const int four = ((const int *)x[t])[g];
                QD_UNROLL(j, vectors) sum[t][j] = qd_dot8_of(sum[t][j], codes[j], (qd_vi)four);
            }
        }
        QD_UNROLL(t, tokens)
        QD_UNROLL(j, vectors) total[t][j] += qd_total8(sum[t][j]);
    }
    QD_UNROLL(t, tokens)
    QD_UNROLL(j, vectors) acc[t][j] = total[t][j];
}

/* What belongs to QD_V channels. */
typedef struct gemm_channels {
    int at, n;                   /* the first one, and how many there are */
    __global const uchar *codes; /* of the first group */
    qd_vi zero, weights;         /* wz', Σ w' */
    qd_vi bias, a, b;
} gemm_channels;

/* Lane i: element i · step of p, for the first n. */
QD_ALWAYS qd_vi gemm_gather(__global const int *p, const int step, const int n) {
    int lanes[QD_V];
    for (int i = 0; i < QD_V; i++)
        lanes[i] = i < n ? p[i * step] : 0;
    return qd_v_load_int(0, lanes);
}

QD_ALWAYS gemm_channels gemm_open(const gemm *g, const int channel) {
    const ulong codes = 64 * (ulong)((g->k + 3) / 4);
    gemm_channels c;
    c.codes = g->w + (ulong)(channel / 16) * (codes + 64) + (ulong)(channel % 16) * 4;
    c.at = g->first + channel;
    c.n = min(QD_V, g->count - channel);
    c.zero = (qd_vi)(QD_CODE_SIGNED(g->w_code) ? 128 : 0);
    if (g->w_zero == QD_EACH) {
        int lanes[QD_V];
        for (int i = 0; i < QD_V; i++)
            lanes[i] = i < c.n ? qd_zero_at(g->w_zeros, QD_EACH, c.at + i, g->w_code) : 0;
        c.zero += qd_v_load_int(0, lanes);
    } else {
        c.zero += (qd_vi)qd_zero_at(g->w_zeros, g->w_zero, 0, g->w_code);
    }
    c.weights = qd_v_load_int(0, (__global const int *)(c.codes + codes));
    c.bias = g->has_bias == QD_ABSENT ? (qd_vi)0 : gemm_gather(g->bias + c.at, 1, c.n);
    c.a = c.b = (qd_vi)0;
    if (g->y.requant != QD_ABSENT) {
        __global const int *row = (__global const int *)g->requant + (g->y.requant == QD_SHARED ? 0 : 2 * (ulong)c.at);
        const int step = g->y.requant == QD_SHARED ? 0 : 2;
        c.a = gemm_gather(row, step, c.n);
        c.b = gemm_gather(row + 1, step, c.n);
    }
    return c;
}

QD_ALWAYS qd_vl gemm_limit(const qd_vl x, const long min, const long max) {
    const qd_vl low = x > (qd_vl)min ? x : (qd_vl)min;
    return low < (qd_vl)max ? low : (qd_vl)max;
}

/* QD_V sums, requantized and limited: qd_to_code(qd_requantize()) lane by lane. */
QD_ALWAYS qd_vi gemm_code(const qd_output *y, const qd_vi x, const qd_vi a, const qd_vi b) {
    if (y->mode == QD_MODE_FIXED) {
        const qd_vl shift = qd_v_long(b), nudge = (qd_vl)1 << ((shift - 1) & 63);
        const qd_vl exact = (qd_v_long(x) * qd_v_long(a) + nudge) >> (shift & 63);
        const qd_vl whole = gemm_limit((shift > 0) & (shift < 63) ? exact : (qd_vl)0, INT_MIN, INT_MAX);
        return qd_v_int(gemm_limit(whole + y->zero_point, y->min, y->max));
    }
    int lanes[QD_V], first[QD_V], second[QD_V];
    qd_v_store_int(x, 0, lanes);
    qd_v_store_int(a, 0, first);
    qd_v_store_int(b, 0, second);
    for (int i = 0; i < QD_V; i++)
        lanes[i] = qd_to_code(qd_requantize(lanes[i], y->mode, first[i], second[i]), y->zero_point, y->min, y->max);
    return qd_v_load_int(0, lanes);
}

/* A sum of 64 bits without its zero points, as far as 32 bits hold it. */
static qd_vi gemm_wide_sum(const gemm *g, const gemm_channels *c, const long *sum, const int zero, const long x_sum) {
    int lanes[QD_V], zeros[QD_V], weights[QD_V];
    qd_v_store_int(c->zero, 0, zeros);
    qd_v_store_int(c->weights, 0, weights);
    for (int i = 0; i < QD_V; i++)
        lanes[i] = qd_saturate_i32(sum[i] - zero * (weights[i] - (long)g->k * zeros[i]) - zeros[i] * x_sum);
    return qd_v_load_int(0, lanes);
}

/* Stores the results of one position: `sum` is without its bias. */
QD_ALWAYS void gemm_store(const gemm *g, const gemm_channels *c, const qd_vi sum, __global uchar *y) {
    qd_vi v = sum + c->bias;
    if (g->y.requant != QD_ABSENT) v = gemm_code(&g->y, v, c->a, c->b);
    const int bytes = QD_CODE_BITS(g->y.code) == 8;
    if (c->n == QD_V && bytes) {
        qd_v_store_byte(qd_v_bytes(v), 0, y + c->at);
    } else if (c->n == QD_V) {
        qd_v_store_int(v, 0, (__global int *)y + c->at);
    } else {
        int lanes[QD_V];
        qd_v_store_int(v, 0, lanes);
        for (int i = 0; i < c->n; i++)
            qd_put_code(y, c->at + i, g->y.code, lanes[i]);
    }
}

/* Results of `tokens` positions in `vectors` vectors of channels; y is the row of the first position. */
QD_ALWAYS void gemm_tile(const gemm *g, const gemm_channels *c, const void *source, const ulong position,
                         const int tokens, const int vectors, __global uchar *y, const ulong y_stride) {
    const uchar flip = QD_CODE_SIGNED(g->x_code) ? 0 : 0x80;
    uchar x[QD_POSITIONS][QD_CHUNK_ROOM] __attribute__((aligned(16)));
    long x_sum[QD_POSITIONS] = {0}, wide[QD_POSITIONS][QD_VECTORS][QD_V];
    qd_vi acc[QD_POSITIONS][QD_VECTORS];
    QD_UNROLL(t, tokens)
    QD_UNROLL(j, vectors) acc[t][j] = (qd_vi)0;
    for (int k = 0; k < g->k; k += QD_CHUNK) {
        const int n = min(QD_CHUNK, g->k - k);
        __global const uchar *w[QD_VECTORS];
        QD_UNROLL(j, vectors)
        w[j] = c[j].codes + 16 * (ulong)k;
        gemm_load(source, position, tokens, k, n, flip, x, x_sum);
        gemm_dots(w, x, (n + 3) / 4, tokens, vectors, acc);
        if (!g->wide) continue;
        for (int t = 0; t < tokens; t++) {
            for (int j = 0; j < vectors; j++) {
                int lanes[QD_V];
                qd_v_store_int(acc[t][j], 0, lanes);
                for (int i = 0; i < QD_V; i++)
                    wide[t][j][i] = k ? wide[t][j][i] + lanes[i] : lanes[i];
                acc[t][j] = (qd_vi)0;
            }
        }
    }
    for (int t = 0; t < tokens; t++) {
        const int zero = qd_zero_at(g->x_zeros, g->x_zero, g->x_zero == QD_EACH ? position + t : 0, g->x_code) - flip;
        for (int j = 0; j < vectors; j++) {
            qd_vi sum = acc[t][j] - zero * (c[j].weights - g->k * c[j].zero) - c[j].zero * (int)x_sum[t];
            if (g->wide) sum = gemm_wide_sum(g, &c[j], wide[t][j], zero, x_sum[t]);
            gemm_store(g, &c[j], sum, y + t * y_stride);
        }
    }
}

/* Positions first … end - 1 in QD_VECTORS vectors of channels from `channel` on, or as many as there are. `source` is
 * what gemm_fill reads; y is the row of position 0. */
static void gemm_unit(const gemm *g, const void *source, const ulong first, const ulong end, int channel,
                      __global uchar *y, const ulong y_stride) {
    const int last = min(g->count, channel + QD_VECTORS * QD_V);
    gemm_channels c[QD_VECTORS];
#define GEMM_POSITIONS(vectors)                                                            \
    do {                                                                                   \
        ulong r = first;                                                                   \
        QD_UNROLL(j, vectors)                                                              \
        c[j] = gemm_open(g, channel + j * QD_V);                                           \
        for (; r + QD_POSITIONS <= end; r += QD_POSITIONS)                                 \
            gemm_tile(g, c, source, r, QD_POSITIONS, vectors, y + r * y_stride, y_stride); \
        for (; r < end; r++)                                                               \
            gemm_tile(g, c, source, r, 1, vectors, y + r * y_stride, y_stride);            \
        channel += (vectors)*QD_V;                                                         \
    } while (0)
    while (last - channel > (QD_VECTORS - 1) * QD_V)
        GEMM_POSITIONS(QD_VECTORS);
#if QD_VECTORS > 2
    while (last - channel > QD_V)
        GEMM_POSITIONS(2);
#endif
    while (channel < last)
        GEMM_POSITIONS(1);
}

/* Positions in a unit: so many share the weights while these are in the cache. */
#ifndef QD_BLOCK
#define QD_BLOCK 64
#endif

/* This work-item's part of all `positions`: a contiguous one, so that it reads one stream of weights. */
QD_ALWAYS void gemm_all(const gemm *g, const void *source, const ulong positions, __global uchar *y,
                        const ulong y_stride) {
    const int channels = QD_VECTORS * QD_V, parts = (g->count + channels - 1) / channels;
    const ulong units = (positions + QD_BLOCK - 1) / QD_BLOCK * parts;
    const ulong last = units * (get_global_id(0) + 1) / get_global_size(0);
    for (ulong u = units * get_global_id(0) / get_global_size(0); u < last; u++) {
        const ulong first = u / parts * QD_BLOCK;
        gemm_unit(g, source, first, min(first + QD_BLOCK, positions), (int)(u % parts) * channels, y, y_stride);
    }
}

#endif
