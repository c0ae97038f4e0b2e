/* Causal attention for x86 CPUs: QD_QUERIES queries of one key/value head share every load of K and V.
 *
 *   Operands and formats as in attention.cl; options -DQD_AVX512_VNNI or -DQD_AVX2 (see simd.h), -DQD_Y_A8, -DQD_KV_I8.
 *   scratch  QD_ATTENTION_TEAM times head_dim + QD_ATTENTION_ROW(positions) floats for each work-item
 *
 *   unit u = (key/value head, block of queries)     query i of a key/value head that serves g heads is row i / g, its
 *                                                   head i % g; so the number of keys seen never falls with i
 *
 *     Blocks have QD_QUERIES queries, what is left QD_FEWER, and at last one. A work-item takes a contiguous range of
 *     units, so that a processor reads few keys and values; blocks that see few and blocks that see many take turns.
 *
 *   scores   a vector over QD_V positions for each query. The 16 partial sums, over d = lane, lane + 16 …, are made one
 *            after the other in the order in which the tree adds them, so that a few registers hold them:
 *              ((0 + 8) + (4 + 12)) + ((2 + 10) + (6 + 14))  +  ((1 + 9) + (5 + 13)) + ((3 + 11) + (7 + 15))
 *   output   QD_VECTORS vectors over d for each query, the partial sums over j in that order too. Step s makes lane
 *            bitreverse(s); the sum of 2^m lanes waits in level m, as in counting in binary:
 *              s 0: lane 0 → level 0    1: level 0 + lane 8 → level 1    2: lane 4 → level 0
 *              s 3: level 1 + (level 0 + lane 12) → level 2    … */
#include "kv.h"
#include "qdot_params.h"
#include "x86/simd.h"

/* Queries that share loads, at most QD_ATTENTION_TEAM. */
#ifndef QD_QUERIES
#if QD_V == 16
#define QD_QUERIES 8
#else
#define QD_QUERIES 4
#endif
#endif

/* Where fewer are left. */
#define QD_FEWER (QD_QUERIES < 4 ? QD_QUERIES : 4)

/* Vectors over d that are summed at once for each query: together they are to fit the registers, 32 or 16. */
#define QD_VECTORS 2

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

/* Scores in memory. Of vstore16 PoCL makes three stores. */
typedef qd_vf qd_vf_scores __attribute__((aligned(4)));
typedef float16 float16_scores __attribute__((aligned(4)));
#define STORE_SCORES(type, v, p) (*(__global type *)(p) = (v))

/* A head of keys and values, and the queries that read it. */
typedef struct head {
    __global const uchar *q; /* row 0 */
    ulong q_stride;
    __global uchar *y;
    ulong y_stride;
    __global const qd_kv *k, *v;
    int column; /* where the queries begin in a row */
    int start;  /* position of row 0 */
    int group;  /* queries in a row */
    int positions;
    float scale;
} head;

/* Keys that query i sees. */
QD_ALWAYS int seen_by(const head *h, const int i) {
    return clamp(h->start + i / h->group + 1, 1, h->positions);
}

/* Queries side by side. */
typedef struct queries {
    __global const float *q;       /* element d of query t at [d * count + t] */
    __global float *e[QD_QUERIES]; /* scores, then weights */
    int seen[QD_QUERIES];
} queries;

/* Partial sum `lane` of the dot products with QD_V keys; k points into a run of 16 positions. That it does not begin
 * with +0 can only change the sign of a zero score, which exp does not see. */
QD_ALWAYS void dot_lane(const queries *in, __global const qd_kv *k, const qd_vf scales, const int dim, const int lane,
                        const int count, qd_vf *p) {
    const qd_vf first = KEYS(k, lane, scales);
    QD_UNROLL_ALL(t, count) {
        p[t] = in->q[lane * count + t] * first;
    }
    for (int d = lane + 16; d < dim; d += 16) {
        const qd_vf v = KEYS(k, d, scales);
        QD_UNROLL_ALL(t, count) {
            p[t] += in->q[d * count + t] * v;
        }
    }
}

/* (lane + lane+8) + (lane+4 + lane+12) */
QD_ALWAYS void dot_quad(const queries *in, __global const qd_kv *k, const qd_vf scales, const int dim, const int lane,
                        const int count, qd_vf *p) {
    qd_vf a[QD_QUERIES], b[QD_QUERIES];
    dot_lane(in, k, scales, dim, lane, count, p);
    dot_lane(in, k, scales, dim, lane + 8, count, a);
    QD_UNROLL_ALL(t, count) {
        p[t] += a[t];
    }
    dot_lane(in, k, scales, dim, lane + 4, count, a);
    dot_lane(in, k, scales, dim, lane + 12, count, b);
    QD_UNROLL_ALL(t, count) {
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
    QD_UNROLL_ALL(t, count) {
        p[t] += a[t];
    }
    dot_quad(in, k, scales, dim, 1, count, a);
    dot_quad(in, k, scales, dim, 3, count, b);
    QD_UNROLL_ALL(t, count) {
        p[t] += a[t] + b[t];
    }
}

/* Turns n scores into their weights, exp(score - max) / the sum of those. */
static inline void soften(__global float *e, const int n) {
    const int whole = n & ~15;
    const int16 inside = QD_LANE_IDS < n - whole; /* of what is left behind whole vectors */
    float16 m16 = e[0];
    for (int j = 0; j < whole; j += 16) {
        const float16 s = vload16(0, e + j);
        m16 = s > m16 ? s : m16;
    }
    if (whole < n) {
        const float16 s = vload16(0, e + whole);
        m16 = inside && (s > m16) ? s : m16;
    }
    const float m = qd_lanes_max(m16);
    float16 p = 0.0f;
    for (int j = 0; j < whole; j += 16) {
        const float16 w = qd_exp16(vload16(0, e + j) - m);
        STORE_SCORES(float16_scores, w, e + j);
        p += w;
    }
    if (whole < n) {
        const float16 w = qd_exp16(vload16(0, e + whole) - m);
        STORE_SCORES(float16_scores, w, e + whole);
        p += inside ? w : (float16)0.0f;
    }
    const float inverse = 1.0f / qd_lanes_sum(p);
    for (int j = 0; j < n; j += 16)
        STORE_SCORES(float16_scores, vload16(0, e + j) * inverse, e + j);
}

/* Adds e_j · v_j to p: `vectors` vectors from element `from` on for each query, or for those that see j. */
QD_ALWAYS void weigh_value(const queries *in, __global const qd_kv *v, const int dim, const int from, const int j,
                           const int count, const int vectors, const bool all, qd_vf (*p)[QD_VECTORS]) {
    __global const qd_kv *row = v + (long)j * QD_KV_COLUMNS(dim);
    QD_UNROLL_ALL(i, vectors) {
        const qd_vf value = VALUES(row + from + i * QD_V, SCALE(row, dim));
        QD_UNROLL_ALL(t, count) {
            if (all || j < in->seen[t]) p[t][i] += in->e[t][j] * value;
        }
    }
}

/* Σ_j e_j · v_j for `vectors` vectors from element `from` on, to out[t]. */
QD_ALWAYS void weigh(const queries *in, __global const qd_kv *v, const int dim, const int from, const int count,
                     const int vectors, float (*out)[HELD]) {
    qd_vf level[5][QD_QUERIES][QD_VECTORS];
    for (int s = 0; s < 16; s++) {
        const int lane = ((s & 1) << 3) | ((s & 2) << 1) | ((s & 4) >> 1) | (s >> 3);
        qd_vf p[QD_QUERIES][QD_VECTORS];
        QD_UNROLL_ALL(t, count) {
            QD_UNROLL_ALL(i, vectors) {
                p[t][i] = 0.0f;
            }
        }
        int j = lane, m = 0;
        for (; j < in->seen[0]; j += 16)
            weigh_value(in, v, dim, from, j, count, vectors, true, p);
        /* Later queries see fewer than 16 keys more, so at most one of this lane. */
        if (j < in->seen[count - 1]) weigh_value(in, v, dim, from, j, count, vectors, false, p);
        for (; (s >> m) & 1; m++) {
            QD_UNROLL_ALL(t, count) {
                QD_UNROLL_ALL(i, vectors) {
                    p[t][i] = level[m][t][i] + p[t][i];
                }
            }
        }
        QD_UNROLL_ALL(t, count) {
            QD_UNROLL_ALL(i, vectors) {
                level[m][t][i] = p[t][i];
            }
        }
    }
    QD_UNROLL_ALL(t, count) {
        QD_UNROLL_ALL(i, vectors) {
            qd_v_store(level[4][t][i], i, out[t]);
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

/* Attention of queries first … first + count - 1; count and, for the sake of its loops, dim may be constants. */
QD_ALWAYS void attend(const head *h, const int dim, const int first, const int count, __global float *scratch) {
    __global float *e = scratch + count * dim;
    queries in;
    in.q = scratch;
    QD_UNROLL_ALL(t, count) {
        const int r = (first + t) / h->group, column = h->column + (first + t) % h->group * dim;
        __global const float *q = (__global const float *)(h->q + (ulong)r * h->q_stride) + column;
        if (count == 1) in.q = q;
        for (int d = 0; d < dim && count > 1; d++)
            scratch[d * count + t] = q[d];
        in.e[t] = QD_OPAQUE(e + (long)t * QD_ATTENTION_ROW(h->positions));
        in.seen[t] = seen_by(h, first + t);
    }
    for (int j = 0; j < in.seen[count - 1]; j += QD_V) {
        qd_vf p[QD_QUERIES];
        dots(&in, h->k + (long)(j & ~15) * QD_KV_COLUMNS(dim), j & 15, dim, count, p);
        QD_UNROLL_ALL(t, count) {
            STORE_SCORES(qd_vf_scores, h->scale * p[t], in.e[t] + j);
        }
    }
    for (int t = 0; t < count; t++)
        soften(e + (long)t * QD_ATTENTION_ROW(h->positions), seen_by(h, first + t));
    for (int d = 0; d < dim; d += HELD) {
        float out[QD_QUERIES][HELD];
        const int n = min(HELD, dim - d);
        int c = 0;
        if (count == 1) {
            for (; c < n; c += QD_V)
                qd_v_store(weigh_one(e, h->v, dim, d + c, in.seen[0]), 0, out[0] + c);
        } else {
            for (; c + QD_VECTORS * QD_V <= n; c += QD_VECTORS * QD_V)
                weigh(&in, h->v, dim, d + c, count, QD_VECTORS, (float(*)[HELD])(out[0] + c));
            for (; c < n; c += 16)
                weigh(&in, h->v, dim, d + c, count, 16 / QD_V, (float(*)[HELD])(out[0] + c));
        }
        for (int t = 0; t < count; t++) {
            __global uchar *y = h->y + (ulong)((first + t) / h->group) * h->y_stride;
            const int column = h->column + (first + t) % h->group * dim + d;
            for (int i = 0; i < n; i += 32) {
                QD_STORE_32(y, column + i, column + n, vload16(0, out[t] + i), vload16(0, out[t] + i + 16));
            }
        }
    }
}

__kernel void attention(QD_IN(q), QD_IN(kcache), QD_IN(vcache), QD_IN(position), QD_OUT(y), __global uchar *scratch,
                        const int heads, const int kv_heads, const int head_dim, const float scale, const int positions,
                        const int rows QD_WORK) {
    const int group = heads / kv_heads, total = rows * group;
    /* Blocks of each size, and where they begin. */
    const int whole = total / QD_QUERIES, fewer_from = whole * QD_QUERIES;
    const int fewer = (total - fewer_from) / QD_FEWER, one_from = fewer_from + fewer * QD_FEWER;
    const int blocks = whole + fewer + total - one_from;
    int dim = head_dim; /* QD_OPAQUE, or what depends on it would be kept for all units, in memory */
    const ulong units = (ulong)kv_heads * blocks;
    const ulong room = QD_ATTENTION_TEAM * (ulong)(head_dim + QD_ATTENTION_ROW(positions));
    __global float *mine = (__global float *)scratch + QD_ITEM * room;
    head h = {.q = QD_ROW(uchar, q, 0),
              .q_stride = q_stride,
              .y = QD_ROW_OUT(uchar, y, 0),
              .y_stride = y_stride,
              .start = *QD_ROW(int, position, 0),
              .group = group,
              .positions = positions,
              .scale = scale};
    for (ulong u = units * QD_ITEM / QD_ITEMS; u < units * (QD_ITEM + 1) / QD_ITEMS; u++) {
        const int kv_head = (int)(u / blocks), i = (int)(u % blocks), b = i % 2 ? blocks - 1 - i / 2 : i / 2;
        const long kv_first = (long)kv_head * positions * QD_KV_COLUMNS(head_dim);
        h.k = QD_ROW(qd_kv, kcache, 0) + kv_first;
        h.v = QD_ROW(qd_kv, vcache, 0) + kv_first;
        h.column = kv_head * group * head_dim;
        if (b < whole && head_dim == 64) {
            attend(&h, 64, b * QD_QUERIES, QD_QUERIES, mine);
        } else if (b < whole) {
            attend(&h, QD_OPAQUE(dim), b * QD_QUERIES, QD_QUERIES, mine);
        } else if (QD_FEWER < QD_QUERIES && b < whole + fewer) {
            attend(&h, QD_OPAQUE(dim), fewer_from + (b - whole) * QD_FEWER, QD_FEWER, mine);
        } else {
            attend(&h, QD_OPAQUE(dim), one_from + b - whole - fewer, 1, mine);
        }
    }
}
