/* Rotary position embedding: each pair (a, b) of a head's elements is turned by the angle of its position.
 *
 *   x, y     F32 [rows, heads · head_dim]; y may be x
 *   table    F32 [positions, dims]: cos of pair i at [2i], sin at [2i + 1]
 *   position int32: row r is at position + r; or (each) int32 [rows]
 *
 *   unit u = (r, head)    pair i:  neox 0: elements 2i, 2i+1     neox 1: elements i, i + dims/2
 *   The elements from dims on stay. Pairs go 8 at a time (neox 0) or 16 at a time (neox 1), the rest one by one. */
#include "common.h"

static inline void rotate_adjacent(__global const float *x, __global const float *turn, __global float *y,
                                   const int dim) {
    int i = 0;
    for (; i + 16 <= dim; i += 16) {
        const float16 v = vload16(0, x + i);
        const float16 t = vload16(0, turn + i);
        const float8 a = v.even, b = QD_ODD(float8, v), c = t.even, s = QD_ODD(float8, t);
        const float8 even = a * c - b * s, odd = a * s + b * c;
        vstore16(QD_ZIP16(float16, even, odd), 0, y + i);
    }
    for (; i < dim; i += 2) {
        const float a = x[i], b = x[i + 1];
        y[i] = a * turn[i] - b * turn[i + 1];
        y[i + 1] = a * turn[i + 1] + b * turn[i];
    }
}

static inline void rotate_halves(__global const float *x, __global const float *turn, __global float *y,
                                 const int dim) {
    const int half_dim = dim / 2;
    int i = 0;
    for (; i + 16 <= half_dim; i += 16) {
        const float16 a = vload16(0, x + i);
        const float16 b = vload16(0, x + i + half_dim);
        const float16 t0 = vload16(0, turn + 2 * i);
        const float16 t1 = vload16(0, turn + 2 * i + 16);
        const float16 c = QD_EVENS(float16, t0, t1);
        const float16 s = QD_ODDS(float16, t0, t1);
        vstore16(a * c - b * s, 0, y + i);
        vstore16(a * s + b * c, 0, y + i + half_dim);
    }
    for (; i < half_dim; i++) {
        const float a = x[i], b = x[i + half_dim];
        y[i] = a * turn[2 * i] - b * turn[2 * i + 1];
        y[i + half_dim] = a * turn[2 * i + 1] + b * turn[2 * i];
    }
}

__kernel void rope(QD_IN(x), QD_IN(table), QD_IN(position), QD_OUT(y), const int heads, const int head_dim,
                   const int dims, const int neox, const int positions, const int each, const int rows QD_WORK) {
    __global const int *start = QD_ROW(int, position, 0);
    QD_FOR_UNITS(u, (ulong)rows * heads) {
        const int r = (int)(u / heads);
        const int first = (int)(u % heads) * head_dim;
        const long at = each ? start[r] : (long)start[0] + r;
        __global const float *turn = QD_ROW(float, table, clamp(at, 0L, (long)positions - 1));
        __global const float *in = QD_ROW(float, x, r) + first;
        __global float *out = QD_ROW_OUT(float, y, r) + first;
        if (neox) {
            rotate_halves(in, turn, out, dims);
        } else {
            rotate_adjacent(in, turn, out, dims);
        }
        for (int i = dims; i < head_dim; i++)
            out[i] = in[i];
    }
}
