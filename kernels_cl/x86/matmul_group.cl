/* MATMUL_GROUP for codes of x and weights that do not change, see gemm_int.h: a position is a row of x, and each sum
 * gets its channel's scale, its row's, and the bias; where a row of w has several groups of codes, each group's sum its
 * scale. Groups are multiples of 8 codes then, and codes of 8 bits have no zero points. Operands as in
 * ../matmul_group.cl. */
#define GEMM_STORE store_floats
#define GEMM_GROUPED store_groups
#include "x86/gemm_int.h"
#include "x86/rows_of_w.h"
#include "x86/rows_of_x.h"

/* How sums become floats. */
typedef struct floats {
    __global const uchar *w_scale, *x_scale, *w_zero;
    __global const float *bias;
    ulong w_step, x_step, zero_step; /* bytes from a channel's scale to the next, from a row's; 0: shared */
    int scales_x, has_bias, has_zero;
    int group, groups;
} floats;

/* Stores sums with their scales as row `row` of y, in the channels c. */
QD_ALWAYS void put_floats(const floats *f, const gemm_channels *c, const ulong row, qd_vf v, __global uchar *y,
                          const ulong y_stride) {
    if (f->scales_x) v *= *(__global const float *)(f->x_scale + row * f->x_step);
    if (f->has_bias) v += qd_v_load_part(f->bias + c->at, c->n);
    v = v == v ? v : (qd_vf)qd_one_nan(NAN);
    qd_v_store_part(v, (__global float *)(y + row * y_stride) + c->at, c->n);
}

static void store_floats(const gemm *g, const gemm_channels *c, const gemm_block *b, const int at, const int tokens,
                         const gemm_sums *s, const int j, __global uchar *y, const ulong y_stride) {
    const floats *f = g->own;
    float lanes[QD_V];
    for (int i = 0; i < QD_V; i++)
        lanes[i] = *(__global const float *)(f->w_scale + (ulong)(c->at + min(i, c->n - 1)) * f->w_step);
    const qd_vf scale = qd_v_load(0, lanes);
    for (int t = 0; t < tokens; t++) {
        /* The sum of four parts, of which the others are 0: -0 becomes 0. */
        const qd_vf v = scale * qd_v_float(gemm_sum(g, c, b, at + t, s, t, j)) + 0.0f;
        put_floats(f, c, b->first + at + t, v, y, y_stride);
    }
}

/* Numbers of groups g … g+3 for each vector of a part: the scales; what packed codes have for 0. */
typedef struct quads {
    qd_vi scale[QD_VECTORS][QUAD], zero[QD_VECTORS][QUAD];
} quads;

static void load_quads(const gemm *g, const gemm_part *part, const int group, quads *q) {
    const floats *f = g->own;
    const int last = g->first + g->count - 1, none = QD_CODE_SIGNED(g->w_code) ? 1 << (QD_W_BITS - 1) : 0;
    for (int j = 0; j < part->vectors; j++) {
        const int first = part->c[j].at;
        group_words(f->w_scale, f->w_step, first, last, group, f->groups, q->scale[j]);
        if (f->has_zero) group_words(f->w_zero, f->zero_step, first, last, group, f->groups, q->zero[j]);
        QD_UNROLL(l, QUAD) {
            const qd_vi zero = f->has_zero ? q->zero[j][l] : (qd_vi)0;
            q->zero[j][l] = clamp(zero, (qd_vi)qd_code_min(g->w_code), (qd_vi)qd_code_max(g->w_code)) + none;
        }
    }
}

/* sum + the sum of n unpacked codes, of which a last group of four is filled up with -zero. */
QD_ALWAYS qd_vi add_codes(qd_vi sum, __global const uchar *w, const int n, const qd_vi zero) {
    for (int i = 0; i < n; i += 4) {
        const qd_vi codes = qd_v_load_int(0, (__global const int *)(w + 16 * (ulong)i));
        sum += qd_total4(qd_dot4_of(QD_SUM4_ZERO, (qd_vi)0x01010101, codes));
    }
    return sum + (n % 4 ? 4 - n % 4 : 0) * zero;
}

/* In the order of ../matmul_group.cl: group by group, four partial sums. */
static void store_groups(const gemm *g, const gemm_part *part, gemm_block *b, const int at, const int tokens,
                         __global uchar *y, const ulong y_stride) {
    const floats *f = g->own;
    const bool chunks = b->chunk < g->k;
    qd_vf sums[QUAD][QD_TALL][QD_VECTORS];
    for (int l = 0; l < QUAD; l++) {
        for (int t = 0; t < tokens; t++) {
            for (int j = 0; j < part->vectors; j++)
                sums[l][t][j] = 0.0f;
        }
    }
    gemm_part p = *part; /* with what belongs to one group */
    quads q;
    for (int group = 0; group < f->groups; group++) {
        const int l = group % QUAD, first = group * f->group, end = min(first + f->group, g->k);
        if (l == 0) load_quads(g, part, group, &q);
        qd_vi acc[QD_TALL][QD_VECTORS], weights[QD_VECTORS];
        for (int j = 0; j < part->vectors; j++) {
            p.c[j].zero = q.zero[j][l] * 0x01010101;
            p.c[j].start = weights[j] = (qd_vi)0;
        }
        for (int k = first; k < end; k += GEMM_STEP) {
            const int n = min(end - k, (int)GEMM_STEP), fours = (n + 3) / 4;
            __global const uchar *w[QD_VECTORS];
            if (QD_W_BITS < 8) gemm_unpack(&p, k, n, b->codes);
            for (int j = 0; j < part->vectors; j++) {
                w[j] = gemm_weights(part, b, j) + (QD_W_BITS < 8 ? 0 : 16 * (ulong)k);
                weights[j] = add_codes(weights[j], w[j], n, QD_W_BITS < 8 ? q.zero[j][l] : (qd_vi)0);
            }
            if (chunks) gemm_pack(g, b->source, b->first + at, tokens, k, n, b->room, b->pitch, b->sums + at);
            gemm_some_dots(g, &p, w, b->x + (chunks ? 0 : at * b->pitch + k), b->pitch, fours, tokens, 1, b->ahead,
                           k > first, acc, 0);
            b->ahead.at += b->ahead.step * fours;
        }
        for (int t = 0; t < tokens; t++) {
            const int zero = gemm_x_zero(g, b->first + at + t);
            for (int j = 0; j < part->vectors; j++)
                sums[l][t][j] += qd_v_as_float(q.scale[j][l]) * qd_v_float(acc[t][j] - zero * weights[j]);
        }
    }
    for (int t = 0; t < tokens; t++) {
        for (int j = 0; j < part->vectors; j++) {
            const qd_vf v = (sums[0][t][j] + sums[1][t][j]) + (sums[2][t][j] + sums[3][t][j]);
            put_floats(f, &part->c[j], b->first + at + t, v, y, y_stride);
        }
    }
}

__kernel void matmul_group(QD_IN(w), QD_IN(w_scale), QD_IN(x), QD_IN(w_zero), QD_IN(x_scale), QD_IN(x_zero),
                           QD_IN(bias), QD_OUT(y), const qd_matmul_group_params p, const int rows QD_WORK) {
    const rows_of_x source = {QD_ROW(uchar, x, 0), x_stride, p.k};
    const floats f = {.w_scale = QD_ROW(uchar, w_scale, 0),
                      .x_scale = QD_ROW(uchar, x_scale, 0),
                      .bias = QD_ROW(float, bias, 0),
                      .w_zero = QD_ROW(uchar, w_zero, 0),
                      .w_step = p.w_scale == QD_SHARED ? 0 : w_scale_stride,
                      .x_step = p.x_scale == QD_SHARED ? 0 : sizeof(float),
                      .zero_step = p.w_zero == QD_EACH ? w_zero_stride : 0,
                      .scales_x = p.x_scale != QD_ABSENT,
                      .has_bias = p.bias != QD_ABSENT,
                      .has_zero = p.w_zero != QD_ABSENT,
                      .group = p.group,
                      .groups = p.groups};
    const gemm g = {.w = w,
                    .w_zeros = QD_ROW(uchar, w_zero, 0),
                    .x_zeros = QD_ROW(uchar, x_zero, 0),
                    .w_zero = p.w_zero,
                    .x_zero = p.x_zero,
                    .has_bias = QD_ABSENT,
                    .w_code = p.w_code,
                    .x_code = p.x_code,
                    .k = p.k,
                    .first = p.first,
                    .count = p.count,
                    .group = p.groups > 1 ? p.group : 0,
                    .zero_step = f.zero_step,
                    .shift = gemm_shift(p.w_zero, QD_ROW(int, w_zero, 0), p.w_code),
                    .y = {.requant = QD_ABSENT},
                    .own = &f};
    gemm_all(&g, &source, (ulong)rows, QD_ROW_OUT(uchar, y, 0), y_stride QD_SAME_WORK);
}
