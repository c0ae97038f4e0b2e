/* MATMUL_GROUP for rows of floats and weights that do not change, in the tiles of gemm_int.h: 16 rows of w at once, a
 * row in each lane. Operands as in ../matmul_group.cl; groups are multiples of 16 codes, or whole rows.
 *
 *   unit u = (QD_UNIT_ROWS rows of x, tile)
 *
 *      a word of codes  [row 0][row 1] … [row 15]     code k of all rows is a vector of weights, (code - zero) · scale:
 *                                                     times x[k], added to partial sum k % 16, a vector over rows, too
 *
 * Scales and zero points of four groups are put side by side at a time. One row of x: all 16 partial sums are registers
 * (AVX2: 8, in two passes). QD_TOKENS rows of x share the weights; they meet the codes of four groups in four passes of
 * 4 partial sums each. */
#include "codes.h"
#include "x86/rows_of_w.h"

/* Rows of x that share weights; there are four times as many sums at once. */
#ifndef QD_TOKENS
#define QD_TOKENS 4
#endif

/* Rows of x in one unit: as many as let them stay in the second-level cache. */
#ifndef QD_UNIT_ROWS
#define QD_UNIT_ROWS 64
#endif

/* Bytes ahead at which codes are prefetched. */
#ifndef QD_PREFETCH
#define QD_PREFETCH 4096
#endif

/* Codes of a row in a word. */
enum { EACH = 32 / QD_W_BITS };
/* Codes of 8 bits are signed in a tile. */
#define FLIP (QD_W_BITS == 8 ? (int)0x80808080 : 0)

/* What all units of a launch share. */
typedef struct launch {
    const qd_matmul_group_params *p;
    __global const uchar *scales, *zeros; /* of channel 0 */
    ulong scale_stride, zero_stride;      /* 0: one row for all channels */
    __global const float *bias;
    int none; /* what stands for 0 in a tile, unsigned */
} launch;

/* Numbers of QD_V channels for each of four groups. */
typedef struct quad {
    qd_vf scale[QUAD], zero[QUAD];
} quad;

/* Of groups g … g+3. Zero points that are integers are exact as floats. */
static void load_quad(const launch *a, const int first, const int g, quad *q) {
    const qd_matmul_group_params *p = a->p;
    const int last = p->first + p->count - 1;
    qd_vi scales[QUAD], zeros[QUAD];
    group_words(a->scales, a->scale_stride, first, last, g, p->groups, scales);
    if (p->w_zero != QD_ABSENT) group_words(a->zeros, a->zero_stride, first, last, g, p->groups, zeros);
    QD_UNROLL(l, QUAD) {
        q->scale[l] = qd_v_as_float(scales[l]);
        q->zero[l] = 0.0f;
        if (p->w_zero == QD_ABSENT) continue;
        q->zero[l] = p->w_zero_is_float
                         ? qd_v_as_float(zeros[l])
                         : qd_v_float(clamp(zeros[l], (qd_vi)qd_code_min(p->w_code), (qd_vi)qd_code_max(p->w_code)));
    }
}

/* The codes at bit `shift` of each lane, as floats; `values` are those of 0 … 15. */
QD_ALWAYS qd_vf code_values(const qd_vi word, const int shift, const qd_vf values, const int none) {
#if QD_V == 16 && QD_W_BITS < 8 && !defined(QD_PLAIN)
    qd_vf v;
    __asm__("vpermps %1, %2, %0" : "=v"(v) : "v"(values), "v"(word >> shift));
    return v;
#else
    return qd_v_float((word >> shift & (1 << QD_W_BITS) - 1) - none);
#endif
}

/* Adds codes 4 · first … of the next 16 of a group, four times `quads`, of which only the first n may be there, times
 * `tokens` rows of x. */
QD_ALWAYS void add_codes(__global const uchar *codes, __global const uchar *x, const ulong x_stride, const qd_vf scale,
                         const qd_vf zero, const qd_vf values, const int none, const int first, const int quads,
                         const int n, const int tokens, qd_vf (*s)[QD_TOKENS]) {
    QD_UNROLL_ALL(j, quads) {
        const int four = first + j; /* of 16 codes */
        if (4 * four >= n) break;
        const qd_vi word = qd_v_load_int(0, (__global const int *)(codes + 64 * (4 * four / EACH))) ^ FLIP;
        QD_UNROLL(i, 4) {
            if (4 * four + i < n) {
                const qd_vf code = code_values(word, 8 * i + 4 * four % EACH / 4 * QD_W_BITS, values, none);
                const qd_vf v = (code - zero) * scale;
                QD_UNROLL_ALL(t, tokens) {
                    s[4 * j + i][t] += v * ((__global const float *)(x + t * x_stride))[4 * four + i];
                }
            }
        }
    }
}

/* Partial sums 4 · first … 4 · (first + quads) - 1 of groups g … g+3. */
QD_ALWAYS void add_quad(const launch *a, __global const uchar *codes, __global const uchar *x, const ulong x_stride,
                        const quad *q, const qd_vf values, const int g, const int first, const int quads,
                        const int tokens, qd_vf (*sums)[QD_TOKENS]) {
    qd_vf s[16][QD_TOKENS];
    QD_UNROLL_ALL(l, 4 * quads) {
        QD_UNROLL_ALL(t, tokens) {
            s[l][t] = sums[4 * first + l][t];
        }
    }
    for (int l = 0; l < QUAD && g + l < a->p->groups; l++) {
        const qd_vf scale = q->scale[l], zero = q->zero[l];
        int k = (g + l) * a->p->group;
        const int end = min(k + a->p->group, a->p->k);
#define ADD(n)                                                                                                        \
    add_codes(codes + 64 * (ulong)(k / EACH), x + 4 * (ulong)k, x_stride, scale, zero, values, a->none, first, quads, \
              n, tokens, s)
        for (; k + 16 <= end; k += 16) {
            /* A single row is done with codes before the processor has the next ones. */
            for (int i = 0; tokens == 1 && i < 16 / EACH; i++)
                __builtin_prefetch(codes + 64 * (ulong)(k / EACH + i) + QD_PREFETCH, 0, 3);
            ADD(16);
        }
        if (k < end) ADD(end - k);
#undef ADD
    }
    QD_UNROLL_ALL(l, 4 * quads) {
        QD_UNROLL_ALL(t, tokens) {
            sums[4 * first + l][t] = s[l][t];
        }
    }
}

/* Rows of x, `tokens` of them, times QD_V channels from `first` on; y is the row of the first. */
QD_ALWAYS void times_tile(const launch *a, __global const uchar *codes, const int first, __global const uchar *x,
                          const ulong x_stride, const int tokens, __global uchar *y, const ulong y_stride) {
    const int quads = tokens == 1 ? QD_V / 4 : 1;
    qd_vf sums[16][QD_TOKENS], values;
    float lanes[QD_V];
    quad q;
    for (int i = 0; i < QD_V; i++)
        lanes[i] = (float)((i & (1 << QD_W_BITS) - 1) - a->none);
    values = qd_v_load(0, lanes);
    QD_UNROLL(l, 16) {
        QD_UNROLL_ALL(t, tokens) {
            sums[l][t] = 0.0f;
        }
    }
    for (int g = 0; g < a->p->groups; g += QUAD) {
        load_quad(a, first, g, &q);
        QD_UNROLL(i, 4 / quads) {
            add_quad(a, codes, x, x_stride, &q, values, g, i * quads, quads, tokens, sums);
        }
    }
    const int n = a->p->first + a->p->count - first;
    QD_UNROLL_ALL(t, tokens) {
        QD_UNROLL(i, 8) {
            sums[i][t] += sums[i + 8][t];
        }
        QD_UNROLL(i, 4) {
            sums[i][t] += sums[i + 4][t];
        }
        qd_vf v = (sums[0][t] + sums[2][t]) + (sums[1][t] + sums[3][t]);
        if (a->p->bias != QD_ABSENT) v += qd_v_load_part(a->bias + first, n);
        v = v == v ? v : (qd_vf)qd_one_nan(NAN);
        qd_v_store_part(v, (__global float *)(y + t * y_stride) + first, n);
    }
}

__kernel void matmul_group(QD_IN(w), QD_IN(w_scale), QD_IN(x), QD_IN(w_zero), QD_IN(x_scale), QD_IN(x_zero),
                           QD_IN(bias), QD_OUT(y), const qd_matmul_group_params p, const int rows QD_WORK) {
    const launch a = {.p = &p,
                      .scales = QD_ROW(uchar, w_scale, 0),
                      .zeros = QD_ROW(uchar, w_zero, 0),
                      .scale_stride = p.w_scale == QD_SHARED ? 0 : w_scale_stride,
                      .zero_stride = p.w_zero == QD_EACH ? w_zero_stride : 0,
                      .bias = QD_ROW(float, bias, 0),
                      .none = QD_CODE_SIGNED(p.w_code) ? 1 << (QD_W_BITS - 1) : 0};
    const ulong tile_bytes = 64 * ((ulong)(p.k + EACH - 1) / EACH) + 64;
    const int tiles = (p.count + 15) / 16;
    const ulong units = (ulong)((rows + QD_UNIT_ROWS - 1) / QD_UNIT_ROWS) * tiles;
    const ulong end = units * (QD_ITEM + 1) / QD_ITEMS;
    for (ulong u = units * QD_ITEM / QD_ITEMS; u < end; u++) {
        const int tile = (int)(u % tiles), first_row = (int)(u / tiles) * QD_UNIT_ROWS;
        const int last_row = min(first_row + QD_UNIT_ROWS, rows);
        for (int lane = 0; lane < 16 && 16 * tile + lane < p.count; lane += QD_V) {
            __global const uchar *codes = QD_ROW(uchar, w, 0) + tile * tile_bytes + 4 * lane;
            int r = first_row;
#define TIMES_TILE(tokens)                                                                                            \
    for (; r + (tokens) <= last_row; r += (tokens))                                                                   \
    times_tile(&a, codes, p.first + 16 * tile + lane, QD_ROW(uchar, x, r), x_stride, tokens, QD_ROW_OUT(uchar, y, r), \
               y_stride)
            TIMES_TILE(QD_TOKENS);
            TIMES_TILE(1);
        }
    }
}
