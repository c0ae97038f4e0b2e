/* Causal attention for x86 CPUs: QD_QUERIES queries of one key/value head share every load of K and V.
 *
 *   Operands and formats as in attention.cl; options -DQD_AVX512_VNNI or -DQD_AVX2 (see simd.h), -DQD_Y_A8, -DQD_KV_I8.
 *   scratch  `positions` floats for each work-item. A team of QD_QUERIES work-items uses its share together, and only
 *            the first of them works: ask for that many more. A run of fewer queries, as for one token, has no teams.
 *
 *   unit u = (key/value head, QD_QUERIES queries)   query i of a key/value head that serves g heads is row i / g, its
 *                                                   head i % g; so the number of keys seen never falls with i
 *
 *   scores   a vector over QD_V positions for each query. The 16 partial sums, over d = lane, lane + 16 …, are made one
 *            after the other in the order in which the tree adds them, so that a few registers hold them:
 *              ((0 + 8) + (4 + 12)) + ((2 + 10) + (6 + 14))  +  ((1 + 9) + (5 + 13)) + ((3 + 11) + (7 + 15))
 *   output   QD_VECTORS vectors over d for each query, the partial sums over j in that order too. Step s makes lane
 *            bitreverse(s); the sum of 2^m lanes waits in level m, as in counting in binary:
 *              s 0: lane 0 → level 0    1: level 0 + lane 8 → level 1    2: lane 4 → level 0
 *              s 3: level 1 + (level 0 + lane 12) → level 2    … */
#include "kv.h"
#include "x86/simd.h"

/* Queries that share loads. */
#ifndef QD_QUERIES
#define QD_QUERIES 4
#endif

/* Vectors over d that are summed at once for each query: together they are to fit the registers, 32 or 16. */
#ifndef QD_VECTORS
#if QD_V == 16
#define QD_VECTORS 4
#else
#define QD_VECTORS 2
#endif
#endif

/* Dimensions of the output that are held before they are stored. */
#define HELD 64

/* KEYS: element d of QD_V keys, from k on. VALUES: QD_V elements of a value. */
#ifdef QD_KV_I8
#define KEYS(k, d, scales) (qd_v_codes((k) + (d)*16) * (scales))
#define SCALES(run, dim, at) qd_v_load(0, (__global const float *)((run) + (long)(dim)*16) + (at))
#define VALUES(v, scale) (qd_v_codes(v) * (scale))
#define SCALE(v, dim) (*(__global const float *)((v) + (dim)))
#else
#define KEYS(k, d, scales) qd_v_load(0, (k) + (d)*16)
#define SCALES(run, dim, at) 1.0f
#define VALUES(v, scale) qd_v_load(0, v)
#define SCALE(v, dim) 1.0f
#endif

/* The queries of a unit. */
typedef struct queries {
    __global const float *q[QD_QUERIES];
    __global uchar *y[QD_QUERIES]; /* row of the output */
    int column[QD_QUERIES];        /* where the head begins in it */
    int seen[QD_QUERIES];          /* keys */
} queries;

/* Partial sum `lane` of the dot products with QD_V keys; k points into a run of 16 positions. That it does not begin
 * with +0 can only change the sign of a zero score, which exp does not see. */
QD_ALWAYS void dot_lane(const queries *in, __global const qd_kv *k, const qd_vf scales, const int dim, const int lane,
                        const int count, qd_vf *p) {
    const qd_vf first = KEYS(k, lane, scales);
    QD_UNROLL(t, count) {
        p[t] = in->q[t][lane] * first;
    }
    for (int d = lane + 16; d < dim; d += 16) {
        const qd_vf v = KEYS(k, d, scales);
        QD_UNROLL(t, count) {
            p[t] += in->q[t][d] * v;
        }
    }
}

/* (lane + lane+8) + (lane+4 + lane+12) */
QD_ALWAYS void dot_quad(const queries *in, __global const qd_kv *k, const qd_vf scales, const int dim, const int lane,
                        const int count, qd_vf *p) {
    qd_vf a[QD_QUERIES], b[QD_QUERIES];
    dot_lane(in, k, scales, dim, lane, count, p);
    dot_lane(in, k, scales, dim, lane + 8, count, a);
    QD_UNROLL(t, count) {
        p[t] += a[t];
    }
    dot_lane(in, k, scales, dim, lane + 4, count, a);
    dot_lane(in, k, scales, dim, lane + 12, count, b);
    QD_UNROLL(t, count) {
        p[t] += a[t] + b[t];
    }
}

/* With QD_V keys of a run, those from place `at` on. */
QD_ALWAYS void dots(const queries *in, __global const qd_kv *run, const int at, const int dim, const int count,
                    qd_vf *p) {
    __global const qd_kv *k = run + at;
    const qd_vf scales = SCALES(run, dim, at);
    qd_vf a[QD_QUERIES], b[QD_QUERIES];
    dot_quad(in, k, scales, dim, 0, count, p);
    dot_quad(in, k, scales, dim, 2, count, a);
    QD_UNROLL(t, count) {
        p[t] += a[t];
    }
    dot_quad(in, k, scales, dim, 1, count, a);
    dot_quad(in, k, scales, dim, 3, count, b);
    QD_UNROLL(t, count) {
        p[t] += a[t] + b[t];
    }
}

/* Turns n scores into their weights, exp(score - max) / the sum of those. */
static inline void soften(__global float *e, const int n) {
    float16 m16 = e[0];
    for (int j = 0; j < n; j += 16) {
        const float16 s = vload16(0, e + j);
        m16 = (QD_LANE_IDS < n - j) && (s > m16) ? s : m16;
    }
    const float m = qd_lanes_max(m16);
    float16 p = 0.0f;
    for (int j = 0; j < n; j += 16) {
        const float16 w = qd_exp16(vload16(0, e + j) - m);
        vstore16(w, 0, e + j);
        p += (QD_LANE_IDS < n - j) ? w : (float16)0.0f;
    }
    const float inverse = 1.0f / qd_lanes_sum(p);
    for (int j = 0; j < n; j += 16)
        vstore16(vload16(0, e + j) * inverse, 0, e + j);
}

/* Partial sum `lane` of Σ_j e_j · v_j: `vectors` vectors from element `from` on for each query. */
QD_ALWAYS void weigh_lane(const queries *in, __global const float *e, const int positions, __global const qd_kv *v,
                          const int dim, const int from, const int lane, const int vectors, qd_vf (*p)[QD_VECTORS]) {
    QD_UNROLL(t, QD_QUERIES) {
        QD_UNROLL(i, vectors) {
            p[t][i] = 0.0f;
        }
    }
    int j = lane;
    for (; j < in->seen[0]; j += 16) {
        __global const qd_kv *row = v + (long)j * QD_KV_COLUMNS(dim);
        QD_UNROLL(i, vectors) {
            const qd_vf value = VALUES(row + from + i * QD_V, SCALE(row, dim));
            QD_UNROLL(t, QD_QUERIES) {
                p[t][i] += e[(long)t * positions + j] * value;
            }
        }
    }
    /* Later queries see fewer than 16 keys more, so at most one of this lane. */
    for (int t = 1; t < QD_QUERIES; t++) {
        if (j >= in->seen[t]) continue;
        __global const qd_kv *row = v + (long)j * QD_KV_COLUMNS(dim);
        QD_UNROLL(i, vectors) {
            p[t][i] += e[(long)t * positions + j] * VALUES(row + from + i * QD_V, SCALE(row, dim));
        }
    }
}

/* Σ_j e_j · v_j for `vectors` vectors from element d + c on, to out[t][c …]. */
QD_ALWAYS void weigh(const queries *in, __global const float *e, const int positions, __global const qd_kv *v,
                     const int dim, const int d, const int vectors, float (*out)[HELD], const int c) {
    qd_vf level[5][QD_QUERIES][QD_VECTORS];
    for (int s = 0; s < 16; s++) {
        const int lane = ((s & 1) << 3) | ((s & 2) << 1) | ((s & 4) >> 1) | (s >> 3);
        qd_vf p[QD_QUERIES][QD_VECTORS];
        weigh_lane(in, e, positions, v, dim, d + c, lane, vectors, p);
        int m = 0;
        for (; (s >> m) & 1; m++) {
            QD_UNROLL(t, QD_QUERIES) {
                QD_UNROLL(i, vectors) {
                    p[t][i] = level[m][t][i] + p[t][i];
                }
            }
        }
        QD_UNROLL(t, QD_QUERIES) {
            QD_UNROLL(i, vectors) {
                level[m][t][i] = p[t][i];
            }
        }
    }
    QD_UNROLL(t, QD_QUERIES) {
        QD_UNROLL(i, vectors) {
            qd_v_store(level[4][t][i], i, out[t] + c);
        }
    }
}

/* e_j · v_j, QD_V elements from `from` on. */
QD_ALWAYS qd_vf weighed(__global const float *e, __global const qd_kv *v, const int dim, const int from, const int j) {
    __global const qd_kv *row = v + (long)j * QD_KV_COLUMNS(dim);
    return e[j] * VALUES(row + from, SCALE(row, dim));
}

/* Their sum for one query. Nothing is shared, so memory sets the pace: positions in their order, and
 * all 16 partial sums at once. */
QD_ALWAYS qd_vf weigh_one(__global const float *e, __global const qd_kv *v, const int dim, const int from,
                          const int n) {
    qd_vf p[16];
    QD_UNROLL(i, 16) {
        p[i] = 0.0f;
    }
    int j = 0;
    for (; j + 16 <= n; j += 16) {
        QD_UNROLL(i, 16) {
            p[i] += weighed(e, v, dim, from, j + i);
        }
    }
    QD_UNROLL(i, 16) {
        if (j + i < n) p[i] += weighed(e, v, dim, from, j + i);
    }
    QD_UNROLL(i, 8) {
        p[i] += p[i + 8];
    }
    QD_UNROLL(i, 4) {
        p[i] += p[i + 4];
    }
    return (p[0] + p[2]) + (p[1] + p[3]);
}

/* Attention of `count` queries, a constant at every call, over one head of keys and values; e is scratch. */
QD_ALWAYS void attend(const queries *in, __global const qd_kv *k, __global const qd_kv *v, __global float *e,
                      const int positions, const int dim, const float scale, const int count) {
    for (int j = 0; j < in->seen[count - 1]; j += QD_V) {
        qd_vf p[QD_QUERIES];
        __global const qd_kv *run = k + (long)(j & ~15) * QD_KV_COLUMNS(dim);
        dots(in, run, j & 15, dim, count, p);
        QD_UNROLL(t, count) {
            qd_v_store(scale * p[t], 0, e + (long)t * positions + j);
        }
    }
    QD_UNROLL(t, count) {
        soften(e + (long)t * positions, in->seen[t]);
    }
    for (int d = 0; d < dim; d += HELD) {
        float out[QD_QUERIES][HELD];
        const int n = min(HELD, dim - d);
        int c = 0;
        if (count == 1) {
            for (; c < n; c += QD_V) {
                qd_v_store(weigh_one(e, v, dim, d + c, in->seen[0]), 0, out[0] + c);
            }
        } else {
            for (; c + QD_VECTORS * QD_V <= n; c += QD_VECTORS * QD_V) {
                weigh(in, e, positions, v, dim, d, QD_VECTORS, out, c);
            }
            for (; c < n; c += 16)
                weigh(in, e, positions, v, dim, d, 16 / QD_V, out, c);
        }
        for (int t = 0; t < count; t++) {
            const int column = in->column[t] + d;
            for (int i = 0; i < n; i += 32) {
                QD_STORE_32(in->y[t], column + i, column + n, vload16(0, out[t] + i), vload16(0, out[t] + i + 16));
            }
        }
    }
}

__kernel void attention(QD_IN(q), QD_IN(kcache), QD_IN(vcache), QD_IN(position), QD_OUT(y), __global uchar *scratch,
                        const int heads, const int kv_heads, const int head_dim, const float scale, const int positions,
                        const int rows QD_WORK) {
    const int start = *QD_ROW(int, position, 0);
    const int group = heads / kv_heads;
    const int total = rows * group;
    const int items = (int)QD_ITEMS;
    const int block = total >= QD_QUERIES && items >= QD_QUERIES ? QD_QUERIES : 1;
    const int team = (int)QD_ITEM / block;
    const int teams = items / block;
    if ((int)QD_ITEM % block || team >= teams) return;
    __global float *e = (__global float *)scratch + (ulong)team * block * positions;
    const int blocks = (total + block - 1) / block;
    for (long u = team; u < (long)kv_heads * blocks; u += teams) {
        const int kv_head = (int)(u / blocks);
        const int first = (int)(u % blocks) * block;
        const int count = min(block, total - first);
        const long kv_first = (long)kv_head * positions * QD_KV_COLUMNS(head_dim);
        __global const qd_kv *k = QD_ROW(qd_kv, kcache, 0) + kv_first;
        __global const qd_kv *v = QD_ROW(qd_kv, vcache, 0) + kv_first;
        queries in;
        for (int t = 0; t < count; t++) {
            const int r = (first + t) / group;
            in.column[t] = (kv_head * group + (first + t) % group) * head_dim;
            in.q[t] = QD_ROW(float, q, r) + in.column[t];
            in.y[t] = QD_ROW_OUT(uchar, y, r);
            in.seen[t] = clamp(start + r + 1, 1, positions);
        }
        if (count == QD_QUERIES) {
            attend(&in, k, v, e, positions, head_dim, scale, QD_QUERIES);
        } else {
            for (int t = 0; t < count; t++) {
                const queries one = {{in.q[t]}, {in.y[t]}, {in.column[t]}, {in.seen[t]}};
                attend(&one, k, v, e, positions, head_dim, scale, 1);
            }
        }
    }
}
