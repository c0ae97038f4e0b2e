/* Integer codes and the end of integer operators: what every kernel on codes shares. QD_CODE is in qdot_params.h. */
#ifndef QD_CODES_H
#define QD_CODES_H

#include "common.h"
#include "qdot_params.h"

/* Code i of a row of codes of 2 … 32 bits. */
static inline int qd_code_at(__global const uchar *row, const ulong i, const int code) {
    switch (code) {
        case QD_CODE(8, 1):
            return ((__global const char *)row)[i];
        case QD_CODE(8, 0):
            return row[i];
        case QD_CODE(4, 1):
            return (int)((uint)row[i / 2] << (i % 2 ? 24 : 28)) >> 28;
        case QD_CODE(4, 0):
            return row[i / 2] >> (i % 2 * 4) & 15;
        case QD_CODE(2, 1):
            return (int)((uint)row[i / 4] << (30 - i % 4 * 2)) >> 30;
        case QD_CODE(2, 0):
            return row[i / 4] >> (i % 4 * 2) & 3;
        case QD_CODE(16, 1):
            return ((__global const short *)row)[i];
        case QD_CODE(16, 0):
            return ((__global const ushort *)row)[i];
        default:
            return ((__global const int *)row)[i];
    }
}

/* Stores code i of 8 bits or more. */
static inline void qd_put_code(__global uchar *row, const ulong i, const int code, const int value) {
    switch (QD_CODE_BITS(code)) {
        case 8:
            row[i] = (uchar)value;
            break;
        case 16:
            ((__global ushort *)row)[i] = (ushort)value;
            break;
        default:
            ((__global int *)row)[i] = value;
            break;
    }
}

/* Least and greatest code of 2 … 32 bits. */
static inline int qd_code_min(const int code) {
    return QD_CODE_SIGNED(code) ? (int)(0u - (1u << (QD_CODE_BITS(code) - 1))) : 0;
}
static inline int qd_code_max(const int code) {
    return (int)((1u << (QD_CODE_BITS(code) - QD_CODE_SIGNED(code))) - 1u);
}

/* A zero point: absent (0), shared or one each, limited to the codes that there are. */
static inline int qd_zero_at(__global const uchar *zeros, const int share, const ulong i, const int code) {
    if (share == QD_ABSENT) return 0;
    return clamp(((__global const int *)zeros)[share == QD_SHARED ? 0 : i], qd_code_min(code), qd_code_max(code));
}

/* A sum, with its bias, as a code of y in channel c. */
static inline int qd_finish(const qd_output *y, __global const uchar *requant, const ulong c, const int sum) {
    if (y->requant == QD_ABSENT) return sum;
    __global const int *row = (__global const int *)requant + (y->requant == QD_SHARED ? 0 : 2 * c);
    return qd_to_code(qd_requantize(sum, y->mode, row[0], row[1]), y->zero_point, y->min, y->max);
}

/* Codes k … k+15 of a row of k_end codes of at most 8 bits, minus their zero point; 0 beyond the end. */
static inline short16 qd_codes16(__global const uchar *row, const int k, const int k_end, const int code,
                                 const int zero) {
    if (k + 16 > k_end) {
        short lanes[16];
        for (int i = 0; i < 16; i++)
            lanes[i] = k + i < k_end ? (short)(qd_code_at(row, k + i, code) - zero) : (short)0;
        return vload16(0, lanes);
    }
    const int bits = QD_CODE_BITS(code);
    short16 v;
    if (code == QD_CODE(8, 1)) {
        v = convert_short16(vload16(0, (__global const char *)row + k));
    } else if (bits == 8) {
        v = convert_short16(vload16(0, row + k));
    } else if (bits == 4 && k % 2 == 0) {
        const short8 two = convert_short8(vload8(0, row + k / 2));
        const short8 low = two & (short8)15, high = two >> (short8)4;
        v = QD_ZIP16(short16, low, high);
    } else if (bits == 2 && k % 4 == 0) {
        const ushort4 four = convert_ushort4(vload4(0, row + k / 4));
        const ushort16 shift = (ushort16)(0, 2, 4, 6, 0, 2, 4, 6, 0, 2, 4, 6, 0, 2, 4, 6);
        v = as_short16(four.s0000111122223333 >> shift & (ushort16)3);
    } else {
        short lanes[16];
        for (int i = 0; i < 16; i++)
            lanes[i] = (short)(qd_code_at(row, k + i, code) & ((1 << bits) - 1));
        v = vload16(0, lanes);
    }
    /* The sign of packed codes: the highest bit counts negative. */
    const short sign = (short)(QD_CODE_SIGNED(code) && bits < 8 ? 1 << (bits - 1) : 0);
    v = (v ^ (short16)sign) - (short16)sign;
    return v - (short16)(short)zero;
}

/* Exact dot product of 16. */
static inline int qd_dot16(const short16 a, const short16 b) {
    return qd_int_sum(convert_int16(a) * convert_int16(b));
}

#endif
