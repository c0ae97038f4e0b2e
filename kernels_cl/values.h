/* Rows of numbers of any format that attention and matrix products read, as floats. The format is a number that the
 * host gives; where it is a constant at a call, only its case is left. */
#ifndef QD_VALUES_H
#define QD_VALUES_H

#include "common.h"
#include "qdot_params.h"

/* Element k of a row; floats only, `step` bytes apart. */
QD_ALWAYS float qd_value(const int format, __global const uchar *row, const long step, const int k) {
    __global const uchar *x = row + k * step;
    switch (format) {
        case QD_NUMBERS_F32:
            return *(__global const float *)x;
        case QD_NUMBERS_F16:
            return qd_half_to_float(*(__global const ushort *)x);
        default:
            return qd_bf16_to_float(*(__global const ushort *)x);
    }
}

/* Elements k … k+15 of a row, of which n are inside it, the others zero. Floats are `step` bytes apart. */
QD_ALWAYS float16 qd_values_part(const int format, __global const uchar *row, const long step, const int k,
                                 const int n) {
    float lanes[16];
    for (int i = 0; i < 16; i++)
        lanes[i] = i < n ? qd_value(format, row, step, k + i) : 0.0f;
    return vload16(0, lanes);
}

/* Elements k … k+15 of a row of a dense format, all of them inside it; k is a multiple of 16. */
QD_ALWAYS float16 qd_values16(const int format, __global const uchar *row, const int k) {
    switch (format) {
        case QD_NUMBERS_F32:
            return vload16(0, (__global const float *)row + k);
        case QD_NUMBERS_F16:
            return vload_half16(0, (__global const half *)row + k);
        case QD_NUMBERS_BF16:
            return as_float16(convert_uint16(vload16(0, (__global const ushort *)row + k)) << (uint16)16);
        default: { /* Q8_0 */
            __global const uchar *b = row + (ulong)(k / 32) * 34;
            const float scale = qd_half_to_float((ushort)(b[0] | (b[1] << 8)));
            return scale * convert_float16(vload16(0, (__global const char *)(b + 2 + (k & 16))));
        }
    }
}

/* Bytes of one element, or of a block. */
QD_ALWAYS long qd_numbers_bytes(const int format) {
    return format == QD_NUMBERS_F32 ? 4 : format == QD_NUMBERS_Q8_0 ? 34 : 2;
}

/* Elements k … k+15 of a row of which n are inside it, the others zero; k is a multiple of 16. */
QD_ALWAYS float16 qd_values(const int format, __global const uchar *row, const long step, const int k, const int n) {
    return n >= 16 && step == qd_numbers_bytes(format) ? qd_values16(format, row, k)
                                                       : qd_values_part(format, row, step, k, n);
}

/* Where index (a, b, c) of the first three dimensions of an operand begins. */
QD_ALWAYS long qd_at(const qd_strides *s, const int a, const int b, const int c) {
    return a * s->step[0] + b * s->step[1] + c * s->step[2];
}

#endif
