/* Loops over tensors of any strides: see qdot_params.h.
 *
 *   line (i0, i1, i2)    all elements of the last dimension, n[3]
 *   unit u = (line, QD_RUN of its elements) */
#ifndef QD_STRIDES_H
#define QD_STRIDES_H

#include "common.h"
#include "qdot_params.h"

/* Sizes of the loops, those of a run's rows included. */
static inline uint4 qd_loop_sizes(const qd_strides *s, const int rows_at, const int rows) {
    return (uint4)((uint)s->n[0] * (rows_at == 0 ? (uint)rows : 1u), (uint)s->n[1] * (rows_at == 1 ? (uint)rows : 1u),
                   (uint)s->n[2] * (rows_at == 2 ? (uint)rows : 1u), (uint)s->n[3] * (rows_at == 3 ? (uint)rows : 1u));
}

/* Lines, times runs of a line of `size` elements. */
static inline ulong qd_loop_units(const uint4 n, const uint size) {
    return (ulong)n.x * n.y * n.z * ((size + QD_RUN - 1) / QD_RUN);
}

/* Indices (i0, i1, i2) of a line, and its first element in unit u. */
static inline uint4 qd_loop_start(const uint4 n, const uint size, const uint u) {
    const uint runs = (size + QD_RUN - 1) / QD_RUN;
    const uint line = u / runs, rest = line / n.z;
    return (uint4)(rest / n.y, rest % n.y, line % n.z, (u - line * runs) * QD_RUN);
}

static inline uint qd_modulo(const uint i, const int n) {
    return n ? i % (uint)n : i;
}

/* Where a line of the tensor that the loops are over starts. */
static inline long qd_line(const qd_strides *s, const uint4 at) {
    return (long)at.x * s->step[0] + (long)at.y * s->step[1] + (long)at.z * s->step[2];
}

/* The same of another one, which may repeat. */
static inline long qd_line_of(const qd_strides *s, const uint4 at) {
    return (long)qd_modulo(at.x, s->n[0]) * s->step[0] + (long)qd_modulo(at.y, s->n[1]) * s->step[1] +
           (long)qd_modulo(at.z, s->n[2]) * s->step[2];
}

/* Where element c of such a line is. */
static inline long qd_element_of(const qd_strides *s, const uint c) {
    return (long)qd_modulo(c, s->n[3]) * s->step[3];
}

/* Elements that can be taken at once from element c of a line on, of n: up to where it repeats. */
static inline uint qd_until_repeat(const uint c, const uint n, const int repeat) {
    return repeat ? min(n, (uint)repeat - c % (uint)repeat) : n;
}

/* n floats `step` bytes apart, at most 16; the other lanes are anything. */
static inline float16 qd_load_strided(__global const uchar *x, const long step, const uint n) {
    if (step == sizeof(float)) return qd_load16((__global const float *)x, (int)n);
    if (step == 0) return *(__global const float *)x;
    float lanes[16];
    for (uint i = 0; i < 16; i++)
        lanes[i] = i < n ? *(__global const float *)(x + i * step) : 0.0f;
    return vload16(0, lanes);
}

static inline void qd_store_strided(const float16 v, __global uchar *y, const long step, const uint n) {
    if (step == sizeof(float)) {
        qd_store16(v, (__global float *)y, (int)n);
        return;
    }
    float lanes[16];
    vstore16(v, 0, lanes);
    for (uint i = 0; i < n && i < 16; i++)
        *(__global float *)(y + i * step) = lanes[i];
}

#endif
