/* Tensors one after the other: every input is a number of runs of bytes, which are copied to where they are in y.
 *
 *   run k of x:  p.bytes at row k · p.x_step of x  →  row p.y_row + k · p.y_step of y, from byte p.y_byte on
 *   (rows are those of the last dimension)
 *
 *   axis last:  y  |x0 |x1    |x2 |      before it:  y  |x0        |x1    |x2             |
 *                  |x0 |x1    |x2 |  ⋮                  |x0        |x1    |x2             |  ⋮
 *
 *   unit u = QD_RUN bytes of a run, or several runs that are shorter; each input has units of its own */
#include "common.h"
#include "qdot_params.h"

static inline void copy(__global const uchar *x, __global uchar *y, const int n) {
    int i = 0;
    for (; i + 16 <= n; i += 16)
        vstore16(vload16(0, x + i), 0, y + i);
    for (; i < n; i++)
        y[i] = x[i];
}

static inline void copy_runs(__global const uchar *x, const ulong x_stride, __global uchar *y, const ulong y_stride,
                             const qd_concat_params *p, const int i, const int rows QD_WORK) {
    const ulong runs = p->per_row ? (ulong)rows * p->runs[i] : (ulong)p->runs[i];
    const int bytes = p->bytes[i];
    const int pieces = (bytes + QD_RUN - 1) / QD_RUN;
    /* max: Intel's FPGA emulator also divides for the inputs that are absent, whose bytes are 0. */
    const int together = bytes < QD_RUN ? QD_RUN / max(bytes, 1) : 1;
    QD_FOR_UNITS(u, (runs + together - 1) / together * pieces) {
        const ulong first = u / pieces * together, end = min(first + together, runs);
        const int from = (int)(u % pieces) * QD_RUN, n = min(QD_RUN, bytes - from);
        for (ulong k = first; k < end; k++)
            copy(x + k * p->x_step[i] * x_stride + from,
                 y + (p->y_row[i] + k * p->y_step) * y_stride + p->y_byte[i] + from, n);
    }
}

#define INPUT(i)                                                                                                      \
    if (p.count > i)                                                                                                  \
    copy_runs(QD_ROW(uchar, x##i, 0), x##i##_stride, QD_ROW_OUT(uchar, y, 0), y_stride, &p, i, rows QD_SAME_WORK)

__kernel void concat(QD_IN(x0), QD_IN(x1), QD_IN(x2), QD_IN(x3), QD_IN(x4), QD_IN(x5), QD_IN(x6), QD_IN(x7), QD_OUT(y),
                     const qd_concat_params p, const int rows QD_WORK) {
    INPUT(0);
    INPUT(1);
    INPUT(2);
    INPUT(3);
    INPUT(4);
    INPUT(5);
    INPUT(6);
    INPUT(7);
}
