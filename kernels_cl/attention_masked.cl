/* Attention with a mask over keys and values of any float format, or Q8_0.
 *
 *   q F32 [rows, H, T, D], k [B, G, P, D], v [B, G, P, E] where B divides rows, mask F32 or F16 [B*, H*, T or more, P]
 *   where B* divides rows and H* divides H, slopes F32 [H], y F32 [rows, T, H, E]; any strides
 *
 *   unit u = (index of rows, key/value head g, team)
 *     Query i of g is token i / (H/G) of head g · H/G + i % (H/G). A team is some consecutive queries; they share the
 *     floats that keys and values are turned into, 16 positions and 16 · HELD elements at a time.
 *
 *   for each block of positions, 16 b … 16 b + 15, and each query
 *     scores   cap(scale · q·k) + slope · mask: products in 16 partial sums over d, added by the tree. -inf: left out;
 *              a block that is left out as a whole changes nothing
 *     maximum  of the scores so far; when it rises, sum and y are multiplied by exp(old - new)
 *     weights  exp(score - maximum), 0 where left out, added to the partial sum of the position's lane
 *     y        += weight · v, one position after the other, but for weights of 0
 *   In the end y is multiplied by 1 / sum, which the tree adds up, or by 0 where everything was left out.
 *   Sources: Milakov, Gimelshein 2018; Dao et al. 2022. */
#include "strides.h"
#include "values.h"

/* Queries in a team. */
#ifndef QD_QUERIES
#if QD_CPU
#define QD_QUERIES 8
#else
#define QD_QUERIES 1
#endif
#endif

/* Work-items for one unit, at most, where smaller teams can make more units. A CPU's work-items are several for each
 * thread. */
#if QD_CPU
#define ITEMS_PER_UNIT 4
#else
#define ITEMS_PER_UNIT 1
#endif

/* Vectors of one key or value that are held at once, and those of the longest. */
#define HELD 4
#define MOST (QD_ATTENTION_MOST / 16)

typedef struct query {
    __global const uchar *mask; /* its row */
    float slope, max;
    float16 sum;
    float16 s;        /* of the block: what the mask adds, or -inf */
    float weight[16]; /* of the block */
    int here;         /* some position of the block is not left out */
    int whole;        /* no weight of the block is 0 */
} query;

QD_DEFINE_CAP(cap16, float16, qd_exp16)

/* Elements from `first` on of `count` rows as floats, HELD vectors for each, of which those inside the n of a row are
 * set; elements beyond them are zero. */
QD_ALWAYS void hold(const int format, __global const uchar *rows, const long row_step, const int count, const int first,
                    const int n, float16 *held) {
    if (n - first >= 16 * HELD) {
        for (int i = 0; i < count; i++) {
            for (int c = 0; c < HELD; c++)
                held[HELD * i + c] = qd_values16(format, rows + i * row_step, first + 16 * c);
        }
        return;
    }
    for (int i = 0; i < count; i++) {
        for (int c = 0; first + 16 * c < n; c++) {
            held[HELD * i + c] = n - first - 16 * c >= 16
                                     ? qd_values16(format, rows + i * row_step, first + 16 * c)
                                     : qd_values_part(format, rows + i * row_step, qd_numbers_bytes(format),
                                                      first + 16 * c, n - first - 16 * c);
        }
    }
}

static inline void hold_any(const int format, __global const uchar *rows, const long row_step, const long step,
                            const int count, const int first, const int n, float16 *held) {
    if (step != qd_numbers_bytes(format)) {
        for (int i = 0; i < count; i++) {
            for (int c = 0; c < HELD && first + 16 * c < n; c++)
                held[HELD * i + c] =
                    qd_values_part(format, rows + i * row_step, step, first + 16 * c, n - first - 16 * c);
        }
    } else if (format == QD_NUMBERS_F32) {
        hold(QD_NUMBERS_F32, rows, row_step, count, first, n, held);
    } else if (format == QD_NUMBERS_F16) {
        hold(QD_NUMBERS_F16, rows, row_step, count, first, n, held);
    } else if (format == QD_NUMBERS_BF16) {
        hold(QD_NUMBERS_BF16, rows, row_step, count, first, n, held);
    } else {
        hold(QD_NUMBERS_Q8_0, rows, row_step, count, first, n, held);
    }
}

/* Adds the products of one vector of 16 keys to their partial sums, and of four. */
static inline void dots1(const float16 q, const float16 *held, float16 *p) {
    for (int i = 0; i < 16; i++)
        p[i] += q * held[HELD * i];
}
static inline void dots4(const float16 *q, const float16 *held, float16 *p) {
    const float16 q0 = q[0], q1 = q[1], q2 = q[2], q3 = q[3];
    for (int i = 0; i < 16; i++) {
        const float16 *k = held + HELD * i;
        p[i] = p[i] + q0 * k[0] + q1 * k[1] + q2 * k[2] + q3 * k[3];
    }
}

/* What the mask of `count` positions from j on adds to their scores, -inf where one is left out. */
static inline void look(const qd_attention_masked_params *p, query *x, const int j, const int count) {
    float16 s = 0.0f;
    if (p->mask_format != QD_ABSENT) {
        const long step = p->mask.step[3];
        __global const uchar *mask = x->mask;
        float16 m;
        if (count < 16 || step != qd_numbers_bytes(p->mask_format)) {
            m = qd_values_part(p->mask_format, mask, step, j, count);
        } else if (p->mask_format == QD_NUMBERS_F32) {
            m = vload16(0, (__global const float *)mask + j);
        } else {
            m = vload_half16(0, (__global const half *)mask + j);
        }
        s = m == -INFINITY ? m : x->slope * m;
    }
    x->s = QD_LANE_IDS < count ? s : (float16)-INFINITY;
    x->here = any(x->s != -INFINITY);
}

/* Turns the products with 16 keys into weights; y: the query's sums so far, `vectors` of them. */
static inline void weigh(const qd_attention_masked_params *p, query *x, const float16 products, float16 *y,
                         const int vectors) {
    float16 s = p->scale * products;
    if (p->softcap != 0.0f) s = cap16(s, p->softcap);
    s = x->s == -INFINITY ? x->s : s + x->s;
    x->here = any(s != -INFINITY);
    if (!x->here) return;
    const float max = qd_lanes_max(s);
    if (max > x->max) {
        const float less = qd_exp(x->max - max);
        x->max = max;
        x->sum *= less;
        for (int c = 0; c < vectors; c++)
            y[c] *= less;
    }
    const float16 weight = s == -INFINITY ? (float16)0.0f : qd_exp16(s - x->max);
    x->sum += weight;
    x->whole = all(weight != 0.0f);
    vstore16(weight, 0, x->weight);
}

/* Adds 16 weighted values to one vector of y, and to four. */
static inline void add1(const query *x, const float16 *held, float16 *y) {
    float16 s = *y;
    for (int i = 0; i < 16; i++) {
        if (x->whole || x->weight[i] != 0.0f) s += x->weight[i] * held[HELD * i];
    }
    *y = s;
}
static inline void add4(const query *x, const float16 *held, float16 *y) {
    float16 s0 = y[0], s1 = y[1], s2 = y[2], s3 = y[3];
    for (int i = 0; i < 16; i++) {
        const float16 *v = held + HELD * i;
        const float w = x->weight[i];
        if (!x->whole && w == 0.0f) continue;
        s0 += w * v[0];
        s1 += w * v[1];
        s2 += w * v[2];
        s3 += w * v[3];
    }
    y[0] = s0, y[1] = s1, y[2] = s2, y[3] = s3;
}

/* A query before its first block. */
static inline void begin(query *x, __global const uchar *q, const long step, const int D, float16 *values, float16 *y,
                         const int y_vectors) {
    x->max = -INFINITY;
    x->sum = 0.0f;
    for (int d = 0; d < D; d += 16)
        values[d / 16] = QD_LANE_IDS < D - d ? qd_load_strided(q + d * step, step, D - d) : (float16)0.0f;
    for (int c = 0; c < y_vectors; c++)
        y[c] = 0.0f;
}

/* Its result after the last. */
static inline void end(const query *x, const float16 *y, const int E, __global uchar *out, const long step) {
    const float sum = qd_lanes_sum(x->sum);
    const float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
    for (int e = 0; e < E; e += 16) {
        const float16 v = y[e / 16] * inverse;
        qd_store_strided(v == v ? v : (float16)qd_one_nan(NAN), out + e * step, step, E - e);
    }
}

__kernel void attention_masked(QD_IN(q), QD_IN(k), QD_IN(v), QD_IN(mask), QD_IN(slopes), QD_OUT(y),
                               const qd_attention_masked_params p, const int rows) {
    const int D = p.q.n[3], E = p.y.n[3], P = p.k.n[2];
    const int q_vectors = (D + 15) / 16, y_vectors = (E + 15) / 16;
    const int group = p.q.n[1] / p.k.n[1], queries = p.q.n[2] * group;
    const ulong kv_heads = (ulong)rows * p.k.n[1];
    int team = QD_QUERIES;
    while (team > 1 && kv_heads * ((queries + team - 1) / team) < get_global_size(0) / ITEMS_PER_UNIT)
        team--;
    const int teams = (queries + team - 1) / team;
    query of[QD_QUERIES];
    float16 values[QD_QUERIES * MOST], results[QD_QUERIES * MOST];
    float16 products[QD_QUERIES * 16], held[16 * HELD];
    for (int i = 0; i < 16 * HELD; i++)
        held[i] = 0.0f; /* of the last block there may be fewer than 16 positions; the others are read, and not used */
    QD_FOR_UNITS(u, kv_heads * teams) {
        const int first = (int)(u % teams) * team, count = min(team, queries - first);
        const int g = (int)(u / teams % p.k.n[1]), b = (int)(u / teams / p.k.n[1]);
        for (int i = 0; i < count; i++) {
            const int t = (first + i) / group, h = g * group + (first + i) % group;
            of[i].mask = mask + mask_at + qd_at(&p.mask, b % p.mask.n[0], h % p.mask.n[1], t);
            of[i].slope = p.slopes ? *(__global const float *)(slopes + slopes_at + h * p.slopes_step) : 1.0f;
            begin(&of[i], q + q_at + qd_at(&p.q, b, h, t), p.q.step[3], D, values + i * q_vectors,
                  results + i * y_vectors, y_vectors);
        }
        for (int j = 0; j < P; j += 16) {
            const int positions = min(16, P - j);
            __global const uchar *k_rows = k + k_at + qd_at(&p.k, b / p.kv_repeat, g, j);
            __global const uchar *v_rows = v + v_at + qd_at(&p.v, b / p.kv_repeat, g, j);
            int here = 0;
            for (int i = 0; i < count; i++) {
                look(&p, &of[i], j, positions);
                here |= of[i].here;
                for (int l = 0; l < 16; l++)
                    products[16 * i + l] = 0.0f;
            }
            if (!here) continue;
            for (int d = 0; d < q_vectors; d += HELD) {
                hold_any(p.k_format, k_rows, p.k.step[2], p.k.step[3], positions, 16 * d, D, held);
                for (int i = 0; i < count; i++) {
                    const float16 *x = values + i * q_vectors + d;
                    if (!of[i].here) continue;
                    if (q_vectors - d >= HELD) dots4(x, held, products + 16 * i);
                    for (int c = 0; d + c < q_vectors && q_vectors - d < HELD; c++)
                        dots1(x[c], held + c, products + 16 * i);
                }
            }
            for (int i = 0; i < count; i++) {
                if (of[i].here) weigh(&p, &of[i], qd_lanes_sums(products + 16 * i), results + i * y_vectors, y_vectors);
            }
            for (int d = 0; d < y_vectors; d += HELD) {
                hold_any(p.v_format, v_rows, p.v.step[2], p.v.step[3], positions, 16 * d, E, held);
                for (int i = 0; i < count; i++) {
                    float16 *sums = results + i * y_vectors + d;
                    if (!of[i].here) continue;
                    if (y_vectors - d >= HELD) add4(&of[i], held, sums);
                    for (int c = 0; d + c < y_vectors && y_vectors - d < HELD; c++)
                        add1(&of[i], held + c, sums + c);
                }
            }
        }
        for (int i = 0; i < count; i++) {
            const int t = (first + i) / group, h = g * group + (first + i) % group;
            end(&of[i], results + i * y_vectors, E, y + y_at + qd_at(&p.y, b, t, h), p.y.step[3]);
        }
    }
}
