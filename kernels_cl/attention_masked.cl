/* Attention with a mask over keys and values of any float format, or Q8_0.
 *
 *   q F32 [rows, H, T, D], k [B, G, P, D], v [B, G, P, E] where B divides rows, mask F32 or F16 [B*, H*, T or more, P]
 *   where B* divides rows and H* divides H, slopes F32 [H], y F32 [rows, T, H, E]; any strides
 *   scratch  QD_ATTENTION_TEAM times P floats, P rounded up to a multiple of 16, for each work-item
 *
 *   unit u = (index of rows, key/value head g, team)
 *     Query i of g is token i / (H/G) of head g · H/G + i % (H/G). A team is some consecutive queries; they share the
 *     floats that keys and values are turned into, 16 positions and 16 · HELD elements at a time.
 *
 *   scores   16 positions at once: cap(scale · q·k) + slope · mask, products in 16 partial sums over d, added by the
 *            tree. -inf: left out; a block of 16 that all queries leave out is not read
 *   weights  as SOFTMAX makes them, of a query's blocks from the first to the last that is not left out as a whole
 *   output   16 partial sums over positions, added by the tree, but for weights of 0. The partial sums are made one
 *            after the other, in the order in which the tree adds them, as in x86/attention.cl:
 *              lane 0, of blocks 0 … 15   [p0 p16 … p240] · v
 *                      of blocks 16 … 31  [p256 …       ] · v
 *              lane 8, of blocks 0 … 15   [p8 p24 … p248] · v   … */
#include "strides.h"
#include "values.h"

/* Queries in a team. */
#if QD_CPU
#define QD_QUERIES QD_ATTENTION_TEAM
#else
#define QD_QUERIES 1
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
    __global float *e;          /* scores, then weights */
    float slope;
    float16 max;
    float16 s;      /* of the block: what the mask adds, or -inf */
    int here;       /* some position of the block is not left out */
    int begin, end; /* blocks of which something is not left out lie in begin … end - 1, */
    int whole;      /* and in begin … whole - 1 no weight is 0 */
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

/* Turns the products with the 16 keys of a block into scores. */
static inline void score(const qd_attention_masked_params *p, query *x, const float16 products, const int block) {
    float16 s = p->scale * products;
    if (p->softcap != 0.0f) s = cap16(s, p->softcap);
    s = x->s == -INFINITY ? x->s : s + x->s;
    vstore16(s, block, x->e);
    if (all(s == -INFINITY)) return;
    x->max = s > x->max ? s : x->max;
    x->begin = min(x->begin, block);
    x->end = block + 1;
}

/* Turns the scores into weights. */
static inline void soften(query *x) {
    const float max = qd_lanes_max(x->max);
    float16 sum16 = 0.0f;
    for (int b = x->begin; b < x->end; b++) {
        const float16 s = vload16(b, x->e);
        const float16 weight = s == -INFINITY ? (float16)0.0f : qd_exp16(s - max);
        vstore16(weight, b, x->e);
        sum16 += weight;
    }
    const float inverse = 1.0f / qd_lanes_sum(sum16); /* of 1 or more, but where there are no blocks */
    x->whole = x->begin;
    for (int b = x->begin; b < x->end; b++) {
        const float16 weight = vload16(b, x->e) * inverse;
        vstore16(weight, b, x->e);
        if (x->whole == b && all(weight != 0.0f)) x->whole++;
    }
}

/* Adds the weighted values of one lane of `count` blocks from `first` on to one vector of a partial sum, and to four.
 */
static inline void add1(const query *x, const int first, const int lane, const int count, const float16 *held,
                        float16 *y) {
    __global const float *e = x->e + 16 * first + lane;
    const int end = min(count, x->end - first);
    float16 s = *y;
    for (int i = max(0, x->begin - first); i < end; i++) {
        if (e[16 * i] != 0.0f) s += e[16 * i] * held[HELD * i];
    }
    *y = s;
}
static inline void add4(const query *x, const int first, const int lane, const int count, const float16 *held,
                        float16 *y) {
    __global const float *e = x->e + 16 * first + lane;
    const int end = min(count, x->end - first), whole = min(end, x->whole - first);
    float16 s0 = y[0], s1 = y[1], s2 = y[2], s3 = y[3];
    int i = max(0, x->begin - first);
    for (; i < whole; i++) {
        const float16 *v = held + HELD * i;
        const float w = e[16 * i];
        s0 += w * v[0], s1 += w * v[1];
        s2 += w * v[2], s3 += w * v[3];
    }
    for (; i < end; i++) {
        const float16 *v = held + HELD * i;
        const float w = e[16 * i];
        if (w == 0.0f) continue;
        s0 += w * v[0], s1 += w * v[1];
        s2 += w * v[2], s3 += w * v[3];
    }
    y[0] = s0, y[1] = s1, y[2] = s2, y[3] = s3;
}

/* A query before its first block. */
static inline void begin(query *x, __global const uchar *q, const long step, const int D, float16 *values) {
    x->max = -INFINITY;
    x->begin = INT_MAX;
    x->end = 0;
    for (int d = 0; d < D; d += 16)
        values[d / 16] = QD_LANE_IDS < D - d ? qd_load_strided(q + d * step, step, D - d) : (float16)0.0f;
}

/* Where a team's operands are, and what it works with. */
typedef struct team {
    query of[QD_QUERIES];
    int count;
    __global const uchar *k, *v;       /* of position 0 */
    float16 values[QD_QUERIES * MOST]; /* the queries, `vectors` each */
    int vectors;
    float16 held[16 * HELD];
} team;

static inline void scores(const qd_attention_masked_params *p, team *t) {
    const int D = p->q.n[3], P = p->k.n[2];
    float16 products[QD_QUERIES * 16];
    for (int j = 0; j < P; j += 16) {
        const int positions = min(16, P - j);
        int here = 0;
        for (int i = 0; i < t->count; i++) {
            query *x = &t->of[i];
            if (i && x->mask == x[-1].mask && x->slope == x[-1].slope) { /* heads of one token */
                x->s = x[-1].s;
                x->here = x[-1].here;
            } else {
                look(p, x, j, positions);
            }
            here |= x->here;
            vstore16(-INFINITY, j / 16, x->e);
        }
        if (!here) continue;
        for (int i = 0; i < 16 * t->count; i++)
            products[i] = 0.0f;
        for (int d = 0; d < t->vectors; d += HELD) {
            hold_any(p->k_format, t->k + j * p->k.step[2], p->k.step[2], p->k.step[3], positions, 16 * d, D, t->held);
            for (int i = 0; i < t->count; i++) {
                const float16 *x = t->values + i * t->vectors + d;
                if (!t->of[i].here) continue;
                if (t->vectors - d >= HELD) dots4(x, t->held, products + 16 * i);
                for (int c = 0; d + c < t->vectors && t->vectors - d < HELD; c++)
                    dots1(x[c], t->held + c, products + 16 * i);
            }
        }
        for (int i = 0; i < t->count; i++) {
            if (t->of[i].here) score(p, &t->of[i], qd_lanes_sums(products + 16 * i), j / 16);
        }
    }
}

/* Partial sum `lane` of `vectors` vectors over e from vector d on, HELD for each query. */
static inline void lane_sums(const qd_attention_masked_params *p, team *t, const int lane, const int d,
                             const int vectors, float16 *sums) {
    const int E = p->y.n[3], P = p->k.n[2];
    int from = INT_MAX, to = 0;
    for (int i = 0; i < t->count; i++) {
        from = min(from, t->of[i].begin);
        to = max(to, t->of[i].end);
    }
    for (int i = 0; i < HELD * t->count; i++)
        sums[i] = 0.0f;
    for (int b = from; b < to; b += 16) {
        const int j = 16 * b + lane;
        const int count = min(16, min(to - b, (P - j + 15) / 16));
        hold_any(p->v_format, t->v + j * p->v.step[2], 16 * p->v.step[2], p->v.step[3], count, 16 * d, E, t->held);
        for (int i = 0; i < t->count; i++) {
            if (vectors == HELD) {
                add4(&t->of[i], b, lane, count, t->held, sums + HELD * i);
                continue;
            }
            for (int c = 0; c < vectors; c++)
                add1(&t->of[i], b, lane, count, t->held + c, sums + HELD * i + c);
        }
    }
}

/* Results of `vectors` vectors over e from vector d on. The sum of 2^m lanes waits in level m, as in counting in
 * binary: see x86/attention.cl. */
static inline void output(const qd_attention_masked_params *p, team *t, const int d, const int vectors,
                          __global uchar *const *y) {
    float16 level[5 * HELD * QD_QUERIES];
    const int all = HELD * t->count, step = HELD * QD_QUERIES;
    for (int s = 0; s < 16; s++) {
        const int lane = ((s & 1) << 3) | ((s & 2) << 1) | ((s & 4) >> 1) | (s >> 3);
        float16 sums[HELD * QD_QUERIES];
        lane_sums(p, t, lane, d, vectors, sums);
        int m = 0;
        for (; (s >> m) & 1; m++) {
            for (int i = 0; i < all; i++)
                sums[i] = level[m * step + i] + sums[i];
        }
        for (int i = 0; i < all; i++)
            level[m * step + i] = sums[i];
    }
    for (int i = 0; i < t->count; i++) {
        for (int c = 0; c < vectors; c++) {
            const float16 v = level[4 * step + HELD * i + c];
            qd_store_strided(v == v ? v : (float16)qd_one_nan(NAN), y[i] + 16 * (d + c) * p->y.step[3], p->y.step[3],
                             p->y.n[3] - 16 * (d + c));
        }
    }
}

__kernel void attention_masked(QD_IN(q), QD_IN(k), QD_IN(v), QD_IN(mask), QD_IN(slopes), QD_OUT(y),
                               const qd_attention_masked_params p, __global uchar *scratch, const int rows QD_WORK) {
    const int D = p.q.n[3], vectors = (p.y.n[3] + 15) / 16;
    const ulong room = ((ulong)p.k.n[2] + 15) / 16 * 16;
    __global float *e = (__global float *)scratch + QD_ITEM * room * QD_QUERIES;
    const int group = p.q.n[1] / p.k.n[1], queries = p.q.n[2] * group;
    const ulong kv_heads = (ulong)rows * p.k.n[1];
    int size = QD_QUERIES;
    while (size > 1 && kv_heads * ((queries + size - 1) / size) < QD_ITEMS / ITEMS_PER_UNIT)
        size--;
    const int teams = (queries + size - 1) / size;
    if (QD_ITEM >= kv_heads * teams) return;
    team t;
    t.vectors = (D + 15) / 16;
    for (int i = 0; i < 16 * HELD; i++)
        t.held[i] =
            0.0f; /* of the last block there may be fewer than 16 positions; the others are read, and not used */
    QD_FOR_UNITS(u, kv_heads * teams) {
        const int first = (int)(u % teams) * size;
        const int g = (int)(u / teams % p.k.n[1]), b = (int)(u / teams / p.k.n[1]);
        __global uchar *of_y[QD_QUERIES];
        t.count = min(size, queries - first);
        t.k = k + k_at + qd_at(&p.k, b / p.kv_repeat, g, 0);
        t.v = v + v_at + qd_at(&p.v, b / p.kv_repeat, g, 0);
        for (int i = 0; i < t.count; i++) {
            const int token = (first + i) / group, h = g * group + (first + i) % group;
            query *x = &t.of[i];
            x->mask = mask + mask_at + qd_at(&p.mask, b % p.mask.n[0], h % p.mask.n[1], token);
            x->slope = p.slopes ? *(__global const float *)(slopes + slopes_at + h * p.slopes_step) : 1.0f;
            x->e = e + i * room;
            of_y[i] = y + y_at + qd_at(&p.y, b, token, h);
            begin(x, q + q_at + qd_at(&p.q, b, h, token), p.q.step[3], D, t.values + i * t.vectors);
        }
        scores(&p, &t);
        for (int i = 0; i < t.count; i++)
            soften(&t.of[i]);
        for (int d = 0; d < vectors; d += HELD)
            output(&p, &t, d, min(HELD, vectors - d), of_y);
    }
}
