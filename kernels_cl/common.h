/* What every kernel here shares: the dialect, the operands, and writing A8 blocks.
 *
 * Dialect: OpenCL C 1.2, any profile, no extension (64-bit integers excepted). No fast-math option, no contraction and
 * no built-in transcendental functions, so that every device gives the same bytes. Wide vectors only say which elements
 * are computed side by side: each element sees the same operations in the same order.
 *
 * Work: a kernel is a loop over its units (a row, a head, a tile …) that is right for any global size; local size 1 is
 * expected on CPU devices, where the vectors below are the registers.
 *
 * Build options: QD_CPU=1 on CPU devices; QD_Y_A8 when the result is quantized; QD_W_<FORMAT> (see decode.h). */
#ifndef QD_COMMON_H
#define QD_COMMON_H

#pragma OPENCL FP_CONTRACT OFF
/* For CPUs without AVX-512 clang says how each function of the widest vectors would be called; all are inlined. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wpsabi"
#endif
#include "lanes.h"
#include "qdot_num.h"

#ifndef QD_CPU
#define QD_CPU 0
#endif

/* Vectors are written out, and a work-item has loops over its units: compilers that would put work-items side by side
 * (Intel's) take ten times as long for it, and gain nothing. */
#ifndef QD_SIDE_BY_SIDE
#define __kernel kernel __attribute__((vec_type_hint(float16)))
#endif

/* Inlined before loops are unrolled, so that the constants among the arguments reach the loops. */
#define QD_ALWAYS static inline __attribute__((always_inline))

/* Which work-item this is, and of how many. In a step of a chain (x86/chain.cl) the kernel is a function with these as
 * its last arguments, which any work-item may call. */
#ifdef QD_STEP
#undef __kernel
#define __kernel QD_ALWAYS
#define QD_WORK , const ulong qd_item, const ulong qd_items
#define QD_SAME_WORK , qd_item, qd_items
#define QD_ITEM qd_item
#define QD_ITEMS qd_items
#else
#define QD_WORK
#define QD_SAME_WORK
#define QD_ITEM get_global_id(0)
#define QD_ITEMS get_global_size(0)
#endif

/* ---- Operands and units --------------------------------------------------------------------------------------- */

/* A tensor is a buffer, the byte offset of its first element, and the bytes between its rows. Several operands may lie
 * in one buffer, and a result may be an input: no restrict. */
#define QD_IN(name) __global const uchar *name, const ulong name##_at, const ulong name##_stride
#define QD_OUT(name) __global uchar *name, const ulong name##_at, const ulong name##_stride

/* Row r of an operand. */
#define QD_ROW(type, name, r) ((__global const type *)(name + name##_at + (ulong)(r)*name##_stride))
#define QD_ROW_OUT(type, name, r) ((__global type *)(name + name##_at + (ulong)(r)*name##_stride))

/* The loop of every kernel: this work-item's units. */
#define QD_FOR_UNITS(u, units) for (ulong u = QD_ITEM; u < (ulong)(units); u += QD_ITEMS)

/* Columns in one unit of the element-wise kernels; a multiple of 32. On a CPU long runs, so that two threads seldom
 * write to one cache line; elsewhere two A8 blocks, so that there are many work-items. */
#ifndef QD_RUN
#if QD_CPU
#define QD_RUN 512
#else
#define QD_RUN 32
#endif
#endif

/* ---- Sixteen lanes -------------------------------------------------------------------------------------------- */

QD_DEFINE_EXP(qd_exp16, float16, uint16, as_float16, as_uint16)

/* The lanes' own numbers, to mask a vector that is not full. */
#define QD_LANE_IDS ((int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))

/* Elements 0 … n-1 of x, the other lanes zero. A partial sum starts at +0 and so is never -0: adding the zeros that
 * come of this changes no bit. */
static inline float16 qd_load_part(__global const float *x, const int n) {
    float lanes[16];
    for (int i = 0; i < 16; i++)
        lanes[i] = i < n ? x[i] : 0.0f;
    return vload16(0, lanes);
}

static inline void qd_store_part(const float16 v, __global float *y, const int n) {
    float lanes[16];
    vstore16(v, 0, lanes);
    for (int i = 0; i < n && i < 16; i++)
        y[i] = lanes[i];
}

/* x[0 … 15], of which n are inside the row. */
static inline float16 qd_load16(__global const float *x, const int n) {
    return n >= 16 ? vload16(0, x) : qd_load_part(x, n);
}

static inline void qd_store16(const float16 v, __global float *y, const int n) {
    if (n >= 16) {
        vstore16(v, 0, y);
    } else {
        qd_store_part(v, y, n);
    }
}

/* ---- A8 blocks ------------------------------------------------------------------------------------------------ */

static inline float16 qd_a8_code16(const float16 x, const float inverse) {
    const float16 v = x * inverse;
    const float16 low = v <= 127.0f ? v : (float16)127.0f;
    const float16 clamped = v >= -127.0f ? low : (float16)-127.0f;
    return (clamped + 12582912.0f) - 12582912.0f;
}

/* Quantizes 16 values to one A8 block: d, the sum of the codes, 16 codes. */
static inline void qd_a8_store(const float16 x, __global uchar *block) {
    const float16 a = fabs(x);
    const float max = qd_lanes_max(a > 0.0f ? a : (float16)0.0f);
    const float16 code = qd_a8_code16(x, qd_a8_inverse(max));
    __global float *head = (__global float *)block;
    head[0] = qd_a8_scale(max);
    head[1] = qd_lanes_sum(code); /* integers: exact in any order */
    vstore16(convert_char16(code), 0, (__global char *)(block + 8));
}

/* ---- Results that are F32 or A8 ------------------------------------------------------------------------------- */

/* Stores columns c … c+31 of a row, those below cols (A8: a multiple of 16). */
#ifdef QD_Y_A8
#define QD_STORE_32(row, c, cols, lo, hi)                                   \
    do {                                                                    \
        qd_a8_store(lo, (row) + (c) / 16 * 24);                             \
        if ((cols) - (c) > 16) qd_a8_store(hi, (row) + (c) / 16 * 24 + 24); \
    } while (0)
#else
#define QD_STORE_32(row, c, cols, lo, hi)                                    \
    do {                                                                     \
        qd_store16(lo, (__global float *)(row) + (c), (cols) - (c));         \
        qd_store16(hi, (__global float *)(row) + (c) + 16, (cols)-16 - (c)); \
    } while (0)
#endif

#endif
