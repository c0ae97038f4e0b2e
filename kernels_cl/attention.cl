/* Causal attention of new rows over the caches: y = softmax(scale · q·Kᵀ) · V for each head.
 *
 *   q        F32 [rows, heads · head_dim], y F32 or (-DQD_Y_A8) A8 of that shape; head_dim a multiple of 16 (A8: 32)
 *   kcache, vcache  F32, or (-DQD_KV_I8) codes with their scales: see kv.h
 *   position int32; row r sees keys 0 … position + r
 *   scratch  `positions` floats for each work-item
 *
 *   unit u = (r, head)        scores: 16 positions at once, a vector over positions; 16 partial sums over d
 *                             output: 16 dimensions at once, a vector over d; 16 partial sums over positions
 *
 *     K: run of 16 positions        V:      d0 … d15  d16 …
 *        d0  [p0 … p15] · q[0]          p0  [ … ] · e[0]
 *        d1  [p0 … p15] · q[1]          p1  [ … ] · e[1] */
#include "kv.h"

/* Sum of 16 partial sums that are vectors: p[i] += p[i + 8], then 4, 2, 1. */
static inline float16 tree(float16 *p) {
    for (int half_lanes = 8; half_lanes > 0; half_lanes /= 2) {
        for (int i = 0; i < half_lanes; i++)
            p[i] += p[i + half_lanes];
    }
    return p[0];
}

/* KEYS: element d of the 16 keys of a run. VALUES: 16 elements of a value. */
#ifdef QD_KV_I8
#define KEYS(run, d, scales) (convert_float16(vload16(d, run)) * (scales))
#define SCALES(run, head_dim) vload16(0, (__global const float *)((run) + (long)(head_dim)*16))
#define VALUES(v, scale) (convert_float16(vload16(0, v)) * (scale))
#define SCALE(v, head_dim) (*(__global const float *)((v) + (head_dim)))
#else
#define KEYS(run, d, scales) vload16(d, run)
#define SCALES(run, head_dim) 1.0f
#define VALUES(v, scale) vload16(0, v)
#define SCALE(v, head_dim) 1.0f
#endif

/* Dot products of q with the 16 keys of one run. */
static inline float16 dots(__global const float *q, __global const qd_kv *run, const int head_dim) {
    const float16 scales = SCALES(run, head_dim);
    float16 p[16];
    for (int i = 0; i < 16; i++)
        p[i] = 0.0f;
    for (int d = 0; d < head_dim; d += 16) {
        for (int i = 0; i < 16; i++)
            p[i] += q[d + i] * KEYS(run, d + i, scales);
    }
    return tree(p);
}

/* e_j · v_j, dimensions d … d + 15 of it. */
static inline float16 weighed(__global const float *e, __global const qd_kv *v, const int head_dim, const int d,
                              const int j) {
    __global const qd_kv *row = v + (long)j * QD_KV_COLUMNS(head_dim);
    return e[j] * VALUES(row + d, SCALE(row, head_dim));
}

/* Dimensions d … d + 15 of Σ_j e_j · v_j over n positions. */
static inline float16 weigh(__global const float *e, __global const qd_kv *v, const int head_dim, const int d,
                            const int n) {
    float16 p[16];
    for (int i = 0; i < 16; i++)
        p[i] = 0.0f;
    int j = 0;
    for (; j + 16 <= n; j += 16) {
        for (int i = 0; i < 16; i++)
            p[i] += weighed(e, v, head_dim, d, j + i);
    }
    for (int i = 0; i < 16; i++) {
        if (j + i < n) p[i] += weighed(e, v, head_dim, d, j + i);
    }
    return tree(p);
}

__kernel void attention(QD_IN(q), QD_IN(kcache), QD_IN(vcache), QD_IN(position), QD_OUT(y), __global uchar *scratch,
                        const int heads, const int kv_heads, const int head_dim, const float scale, const int positions,
                        const int rows QD_WORK) {
    const int start = *QD_ROW(int, position, 0);
    const int columns = QD_KV_COLUMNS(head_dim);
    __global float *e = (__global float *)scratch + QD_ITEM * (ulong)positions;
    QD_FOR_UNITS(u, (ulong)rows * heads) {
        const int r = (int)(u / heads);
        const int h = (int)(u % heads);
        const int n = clamp(start + r + 1, 1, positions);
        const long kv_first = (long)(h / (heads / kv_heads)) * positions * columns;
        __global const float *query = QD_ROW(float, q, r) + h * head_dim;
        __global const qd_kv *keys = QD_ROW(qd_kv, kcache, 0) + kv_first;
        __global const qd_kv *values = QD_ROW(qd_kv, vcache, 0) + kv_first;
        __global uchar *out = QD_ROW_OUT(uchar, y, r);

        float16 m16 = 0.0f;
        for (int j = 0; j < n; j += 16) {
            const float16 s = scale * dots(query, keys + (long)j * columns, head_dim);
            vstore16(s, 0, e + j);
            if (j == 0) m16 = s.s0; /* as the definition: a NaN stays only in the first place */
            m16 = (QD_LANE_IDS < n - j) && (s > m16) ? s : m16;
        }
        const float m = qd_lanes_max(m16);

        float16 p = 0.0f;
        for (int j = 0; j < n; j += 16) {
            const float16 w = qd_exp16(vload16(0, e + j) - m);
            const float16 inside = (QD_LANE_IDS < n - j) ? w : (float16)0.0f;
            vstore16(inside, 0, e + j);
            p += inside;
        }
        const float inverse = 1.0f / qd_lanes_sum(p);
        for (int j = 0; j < n; j += 16)
            vstore16(vload16(0, e + j) * inverse, 0, e + j);

        for (int d = 0; d < head_dim; d += 32) {
            const int n_dim = head_dim - d;
            const float16 lo = weigh(e, values, head_dim, d, n);
            const float16 hi = n_dim > 16 ? weigh(e, values, head_dim, d + 16, n) : (float16)0.0f;
            QD_STORE_32(out, h * head_dim + d, (h + 1) * head_dim, lo, hi);
        }
    }
}
