/* Padding of codes of 8 bits: y's index minus `before` is x's, in every dimension; outside of x, by the mode.
 *
 *   y is one row of elements with the index (i0, i1, i2, i3), i0 < rows, the others in p.out
 *   unit u = QD_RUN elements: pieces of lines of p.out[3]
 *
 *       a line of y   |v v v|x[0] … x[in - 1]|v v|        v: constant, edge, or mirrored: x[3] x[2] x[1] | x[0] x[1] …
 *                      before                               lines outside of x are constant or other lines of x */
#include "common.h"
#include "qdot_params.h"

/* Which of `size` elements stands at index i, -1: the constant. */
static inline int source(const int mode, const int i, const int size) {
    if (i >= 0 && i < size) return i;
    if (mode == QD_PAD_MODE_CONSTANT) return -1;
    if (mode == QD_PAD_MODE_EDGE) return i < 0 ? 0 : size - 1;
    return i < 0 ? -i : 2 * (size - 1) - i;
}

/* Elements i3 … i3+n-1 of a line of y; x is the line that stands there, or NULL: all constant. */
static inline void pad_line(__global const uchar *x, __global uchar *y, const qd_pad_params *p, const int i3,
                            const int n) {
    for (int i = 0; i < n; i++) {
        const int at = x ? source(p->mode, i3 + i - p->before[3], p->in[3]) : -1;
        y[i] = at < 0 ? (uchar)p->value : x[at];
    }
}

__kernel void pad(QD_IN(x), QD_OUT(y), const qd_pad_params p, const int rows QD_WORK) {
    const uint line = (uint)p.out[3], row = (uint)p.out[1] * p.out[2] * line;
    const ulong size = (ulong)rows * row;
    QD_FOR_UNITS(u, (size + QD_RUN - 1) / QD_RUN) {
        ulong e = u * QD_RUN;
        const ulong end = min(e + QD_RUN, size);
        const uint in_row = (uint)(e % row);
        int i0 = (int)(e / row), i1 = (int)(in_row / line / p.out[2]), i2 = (int)(in_row / line % p.out[2]);
        int i3 = (int)(in_row % line);
        while (e < end) {
            const int n = (int)min(end - e, (ulong)(line - i3));
            const int s0 = source(p.mode, i0 - p.before[0], p.in[0]), s1 = source(p.mode, i1 - p.before[1], p.in[1]),
                      s2 = source(p.mode, i2 - p.before[2], p.in[2]);
            const ulong at = (((ulong)s0 * p.in[1] + s1) * p.in[2] + s2) * p.in[3];
            __global const uchar *x_line = s0 < 0 || s1 < 0 || s2 < 0 ? 0 : QD_ROW(uchar, x, 0) + at;
            pad_line(x_line, QD_ROW_OUT(uchar, y, 0) + e, &p, i3, n);
            e += n;
            i3 = 0;
            if (++i2 < p.out[2]) continue;
            i2 = 0;
            if (++i1 < p.out[1]) continue;
            i1 = 0;
            i0++;
        }
    }
}
