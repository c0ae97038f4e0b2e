/* MATMUL_INT for weights of 8 or 4 bits that do not change, see gemm_int.h: a position is a row of x. Operands as in
 * ../matmul_int.cl; no batches with weights of their own. */
#include "x86/gemm_int.h"
#include "x86/rows_of_x.h"

__kernel void matmul_int(QD_IN(w), QD_IN(x), QD_IN(w_zero), QD_IN(x_zero), QD_IN(bias), QD_IN(requant), QD_OUT(y),
                         const qd_matmul_int_params p, const int rows QD_WORK) {
    const rows_of_x source = {QD_ROW(uchar, x, 0), x_stride, p.k};
    gemm g = GEMM_OF(p);
    g.w = w;
    g.k = p.k;
    g.wide = p.wide;
    g.first = p.first;
    g.count = p.count;
    gemm_all(&g, &source, (ulong)rows * p.m, QD_ROW_OUT(uchar, y, 0), y_stride QD_SAME_WORK);
}
