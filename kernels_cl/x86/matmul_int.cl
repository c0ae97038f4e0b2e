/* MATMUL_INT for weights of 8 bits that do not change, see gemm_int.h: a position is a row of x. Operands as in
 * ../matmul_int.cl; no batches with weights of their own. */
#include "x86/gemm_int.h"

typedef struct rows_of_x {
    __global const uchar *x;
    ulong stride;
} rows_of_x;

static inline void gemm_fill(const void *source, const ulong position, const int k, const int n, const uchar flip,
                             uchar *to) {
    const rows_of_x *s = source;
    gemm_copy(to, s->x + position * s->stride + k, n, 0, flip);
}

__kernel void matmul_int(QD_IN(w), QD_IN(x), QD_IN(w_zero), QD_IN(x_zero), QD_IN(bias), QD_IN(requant), QD_OUT(y),
                         const qd_matmul_int_params p, const int rows) {
    const rows_of_x source = {QD_ROW(uchar, x, 0), x_stride};
    gemm g;
    g.w = w;
    g.w_zeros = QD_ROW(uchar, w_zero, 0);
    g.x_zeros = QD_ROW(uchar, x_zero, 0);
    g.requant = QD_ROW(uchar, requant, 0);
    g.bias = QD_ROW(int, bias, 0);
    g.w_zero = p.w_zero;
    g.x_zero = p.x_zero;
    g.has_bias = p.bias;
    g.w_code = p.w_code;
    g.x_code = p.x_code;
    g.k = p.k;
    g.wide = p.wide;
    g.first = p.first;
    g.count = p.count;
    g.y = p.y;
    gemm_all(&g, &source, (ulong)rows * p.m, QD_ROW_OUT(uchar, y, 0), y_stride);
}
