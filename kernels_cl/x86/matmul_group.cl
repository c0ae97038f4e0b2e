/* MATMUL_GROUP for weights of 8 bits that do not change, one group in a row, and codes of x, see gemm_int.h: a position
 * is a row of x, and each sum gets its channel's scale, its row's, and the bias. Operands as in ../matmul_group.cl. */
#define GEMM_STORE store_floats
#include "x86/gemm_int.h"
#include "x86/rows_of_x.h"

/* How sums become floats. */
typedef struct floats {
    __global const uchar *w_scale, *x_scale;
    __global const float *bias;
    ulong w_step, x_step; /* bytes from a channel's scale to the next, from a row's; 0: shared */
    int scales_x, has_bias;
} floats;

static void store_floats(const gemm *g, const gemm_channels *c, const gemm_block *b, const int at, const int tokens,
                         const gemm_sums *s, const int j, __global uchar *y, const ulong y_stride) {
    const floats *f = g->own;
    float lanes[QD_V], biases[QD_V];
    for (int i = 0; i < QD_V; i++) {
        const ulong channel = (ulong)(c->at + min(i, c->n - 1));
        lanes[i] = *(__global const float *)(f->w_scale + channel * f->w_step);
        biases[i] = f->has_bias ? f->bias[channel] : 0.0f;
    }
    const qd_vf scale = qd_v_load(0, lanes), bias = qd_v_load(0, biases);
    for (int t = 0; t < tokens; t++) {
        const ulong row = b->first + at + t;
        /* The sum of four parts, of which the others are 0: -0 becomes 0. */
        qd_vf v = scale * qd_v_float(gemm_sum(g, c, b, at + t, s, t, j)) + 0.0f;
        if (f->scales_x) v *= *(__global const float *)(f->x_scale + row * f->x_step);
        if (f->has_bias) v += bias;
        v = v == v ? v : (qd_vf)qd_one_nan(NAN);
        __global float *to = (__global float *)(y + row * y_stride) + c->at;
        if (c->n == QD_V) {
            qd_v_store(v, 0, to);
        } else {
            qd_v_store(v, 0, lanes);
            for (int i = 0; i < c->n; i++)
                to[i] = lanes[i];
        }
    }
}

__kernel void matmul_group(QD_IN(w), QD_IN(w_scale), QD_IN(x), QD_IN(w_zero), QD_IN(x_scale), QD_IN(x_zero),
                           QD_IN(bias), QD_OUT(y), const qd_matmul_group_params p, const int rows QD_WORK) {
    const rows_of_x source = {QD_ROW(uchar, x, 0), x_stride, p.k};
    const floats f = {.w_scale = QD_ROW(uchar, w_scale, 0),
                      .x_scale = QD_ROW(uchar, x_scale, 0),
                      .bias = QD_ROW(float, bias, 0),
                      .w_step = p.w_scale == QD_SHARED ? 0 : w_scale_stride,
                      .x_step = p.x_scale == QD_SHARED ? 0 : sizeof(float),
                      .scales_x = p.x_scale != QD_ABSENT,
                      .has_bias = p.bias != QD_ABSENT};
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
                    .shift = gemm_shift(p.w_zero, QD_ROW(int, w_zero, 0), p.w_code),
                    .y = {.requant = QD_ABSENT},
                    .own = &f};
    gemm_all(&g, &source, (ulong)rows, QD_ROW_OUT(uchar, y, 0), y_stride QD_SAME_WORK);
}
