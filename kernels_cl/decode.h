/* Bit layouts of weights in a GGUF file. A program has one weight format, chosen by -DQD_W_<FORMAT>.
 *
 * For every format:
 *   qd_w_row_bytes(cols)    bytes of a row as in a GGUF file
 *   qd_w_values(row, k, n)  elements k … k+15 dequantized (k a multiple of 16), lanes from n on zero
 * For the blocked formats (Q8_0, Q4_0, Q4_1), b being a block's first byte:
 *   QD_W_BYTES              bytes per block of 32
 *   qd_w_codes(b, &lo, &hi) the signed codes of elements 0 … 15 and 16 … 31
 *   qd_w_scale(b), qd_w_min(b)
 *
 * Rows are read byte by byte: blocks of 18, 20 or 34 bytes have no alignment. */
#ifndef QD_DECODE_H
#define QD_DECODE_H

#include "common.h"

#if defined(QD_W_Q8_0)
#define QD_W_BYTES 34
#elif defined(QD_W_Q4_0)
#define QD_W_BYTES 18
#elif defined(QD_W_Q4_1)
#define QD_W_BYTES 20
#elif defined(QD_W_F32)
#define QD_W_SIZE 4
#elif defined(QD_W_F16) || defined(QD_W_BF16)
#define QD_W_SIZE 2
#else
#error "decode.h: define one of QD_W_F32, QD_W_F16, QD_W_BF16, QD_W_Q8_0, QD_W_Q4_0, QD_W_Q4_1"
#endif

static inline ulong qd_w_row_bytes(const int cols) {
#ifdef QD_W_BYTES
    return (ulong)(cols / 32) * QD_W_BYTES;
#else
    return (ulong)cols * QD_W_SIZE;
#endif
}

#ifdef QD_W_BYTES

static inline float qd_w_half(__global const uchar *p) {
    return qd_half_to_float((ushort)(p[0] | (p[1] << 8)));
}

static inline float qd_w_scale(__global const uchar *b) {
    return qd_w_half(b);
}

#if defined(QD_W_Q8_0)
static inline void qd_w_codes(__global const uchar *b, char16 *lo, char16 *hi) {
    *lo = vload16(0, (__global const char *)(b + 2));
    *hi = vload16(0, (__global const char *)(b + 18));
}
#else
/* Low nibbles are elements 0 … 15, high nibbles 16 … 31. */
static inline void qd_w_codes(__global const uchar *b, char16 *lo, char16 *hi) {
    const uchar16 q = vload16(0, b + QD_W_BYTES - 16);
    *lo = as_char16(q & (uchar16)15);
    *hi = as_char16(q >> (uchar16)4);
#ifdef QD_W_Q4_0
    *lo -= (char16)8;
    *hi -= (char16)8;
#endif
}
#endif

#ifdef QD_W_Q4_1
static inline float qd_w_min(__global const uchar *b) {
    return qd_w_half(b + 2);
}
#endif

static inline float16 qd_w_values(__global const uchar *row, const int k, const int n) {
    __global const uchar *b = row + (ulong)(k / 32) * QD_W_BYTES;
    char16 lo, hi;
    qd_w_codes(b, &lo, &hi);
    const float16 q = convert_float16((k & 16) ? hi : lo);
#ifdef QD_W_Q4_1
    return qd_w_scale(b) * q + qd_w_min(b);
#else
    return qd_w_scale(b) * q;
#endif
}

#elif defined(QD_W_F32)

static inline float16 qd_w_values(__global const uchar *row, const int k, const int n) {
    return qd_load16((__global const float *)row + k, n);
}

#else

static inline float16 qd_w_values(__global const uchar *row, const int k, const int n) {
    __global const ushort *x = (__global const ushort *)row + k;
    ushort16 h;
    if (n >= 16) {
        h = vload16(0, x);
    } else {
        ushort lanes[16];
        for (int i = 0; i < 16; i++)
            lanes[i] = i < n ? x[i] : (ushort)0;
        h = vload16(0, lanes);
    }
    const uint16 u = convert_uint16(h);
#ifdef QD_W_BF16
    return as_float16(u << (uint16)16);
#else
    /* qd_half_to_float on 16 lanes. */
    const uint16 sign = (u & 0x8000u) << (uint16)16;
    const uint16 magnitude = u & 0x7fffu;
    const uint16 wide = magnitude << (uint16)13;
    const uint16 tiny = as_uint16(convert_float16(as_int16(magnitude)) * 5.9604644775390625e-8f);
    const uint16 finite = magnitude >= 0x0400u ? wide + 0x38000000u : tiny;
    return as_float16(sign | (magnitude >= 0x7c00u ? wide | 0x7f800000u : finite));
#endif
}

#endif

#endif
