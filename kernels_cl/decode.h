/* Bit layouts of weights in a GGUF file. A program has one weight format, chosen by -DQD_W_<FORMAT>.
 *
 * For every format:
 *   qd_w_row_bytes(cols)    bytes of a row as in a GGUF file
 *   qd_w_values(row, k, n)  elements k … k+15 dequantized (k a multiple of 16), lanes from n on zero
 * For the block formats, b being a block's first byte and i the number of sixteen elements in it:
 *   QD_W_BLOCK, QD_W_BYTES  elements and bytes of a block
 *   QD_W_HAS_OFFSET         1: elements are scale · code + offset; 0: scale · code
 *   qd_w_codes(b, i)        signed codes
 *   qd_w_scale(b, i)
 *   qd_w_offset(b, i)       where there is one
 *   qd_w_block(row, k), qd_w_part(k)   the b and the i of element k
 *   qd_w_term(…)            the products of 32 weights, see matmul_blocks.cl
 *
 * Layouts and formulas: qdot_blocks.h and FORMATS.md. Rows are read byte by byte: most blocks have no alignment. */
#ifndef QD_DECODE_H
#define QD_DECODE_H

#include "common.h"

#if defined(QD_W_Q8_0)
#define QD_W_BLOCK 32
#define QD_W_BYTES 34
#elif defined(QD_W_Q4_0) || defined(QD_W_IQ4_NL)
#define QD_W_BLOCK 32
#define QD_W_BYTES 18
#elif defined(QD_W_Q4_1)
#define QD_W_BLOCK 32
#define QD_W_BYTES 20
#elif defined(QD_W_Q5_0)
#define QD_W_BLOCK 32
#define QD_W_BYTES 22
#elif defined(QD_W_Q5_1)
#define QD_W_BLOCK 32
#define QD_W_BYTES 24
#elif defined(QD_W_MXFP4)
#define QD_W_BLOCK 32
#define QD_W_BYTES 17
#elif defined(QD_W_NVFP4)
#define QD_W_BLOCK 64
#define QD_W_BYTES 36
#elif defined(QD_W_Q2_K)
#define QD_W_BLOCK 256
#define QD_W_BYTES 84
#elif defined(QD_W_Q3_K)
#define QD_W_BLOCK 256
#define QD_W_BYTES 110
#elif defined(QD_W_Q4_K)
#define QD_W_BLOCK 256
#define QD_W_BYTES 144
#elif defined(QD_W_Q5_K)
#define QD_W_BLOCK 256
#define QD_W_BYTES 176
#elif defined(QD_W_Q6_K)
#define QD_W_BLOCK 256
#define QD_W_BYTES 210
#elif defined(QD_W_IQ4_XS)
#define QD_W_BLOCK 256
#define QD_W_BYTES 136
#elif defined(QD_W_TQ1_0)
#define QD_W_BLOCK 256
#define QD_W_BYTES 54
#elif defined(QD_W_TQ2_0)
#define QD_W_BLOCK 256
#define QD_W_BYTES 66
#elif defined(QD_W_F32)
#define QD_W_SIZE 4
#elif defined(QD_W_F16) || defined(QD_W_BF16)
#define QD_W_SIZE 2
#else
#error "decode.h: define QD_W_<FORMAT>"
#endif

#if defined(QD_W_Q4_1) || defined(QD_W_Q5_1) || defined(QD_W_Q2_K) || defined(QD_W_Q4_K) || defined(QD_W_Q5_K)
#define QD_W_HAS_OFFSET 1
#else
#define QD_W_HAS_OFFSET 0
#endif

static inline ulong qd_w_row_bytes(const int cols) {
#ifdef QD_W_BLOCK
    return (ulong)(cols / QD_W_BLOCK) * QD_W_BYTES;
#else
    return (ulong)cols * QD_W_SIZE;
#endif
}

#ifdef QD_W_BLOCK

/* ---- Parts of layouts that several formats share ---------------------------------------------------------------- */

static inline float qd_w_half(__global const uchar *p) {
    return qd_half_to_float((ushort)(p[0] | (p[1] << 8)));
}

/* The low or the high nibbles of 16 bytes. */
static inline char16 qd_w_nibbles(__global const uchar *p, const int high) {
    const uchar16 q = vload16(0, p);
    return as_char16(high ? q >> (uchar16)4 : q & (uchar16)15);
}

/* Bit `bit` of 16 bytes. */
static inline char16 qd_w_bits(__global const uchar *p, const int bit) {
    return as_char16(vload16(0, p) >> (uchar16)(uchar)bit & (uchar16)1);
}

/* Sixteen bits, the first the lowest of p[0], as lanes of 0 and 1. */
static inline char16 qd_w_mask(__global const uchar *p) {
    const ushort16 lanes = (ushort16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return convert_char16((ushort16)(ushort)(p[0] | (p[1] << 8)) >> lanes & (ushort16)1);
}

/* Codes of two bits: elements 128·h + 32·s + j at bits 2·s of byte 32·h + j. */
static inline char16 qd_w_pairs(__global const uchar *p, const int i) {
    const uchar16 q = vload16(0, p + i / 8 * 32 + (i & 1) * 16);
    return as_char16(q >> (uchar16)(uchar)(i % 8 / 2 * 2) & (uchar16)3);
}

/* Twice the values of E2M1 codes: 0, 1, 2, 3, 4, 6, 8, 12 and their negatives. */
static inline char16 qd_w_e2m1(const char16 code) {
    const char16 m = code & (char16)7;
    const char16 v = m + max(m - (char16)4, (char16)0) + (char16)2 * max(m - (char16)6, (char16)0);
    return (code & (char16)8) != (char16)0 ? -v : v;
}

#if defined(QD_W_IQ4_NL) || defined(QD_W_IQ4_XS)
/* The values of 16 codes, by their bits: no device needs a gather for it. */
static inline char16 qd_w_iq4(const char16 code) {
    const char value[16] = {QD_IQ4_VALUES};
    const char16 b0 = (code & (char16)1) != (char16)0, b1 = (code & (char16)2) != (char16)0;
    const char16 b2 = (code & (char16)4) != (char16)0, b3 = (code & (char16)8) != (char16)0;
#define QD_PAIR(v) (b0 ? (char16)value[(v) + 1] : (char16)value[v])
#define QD_FOUR(v) (b1 ? QD_PAIR((v) + 2) : QD_PAIR(v))
#define QD_EIGHT(v) (b2 ? QD_FOUR((v) + 4) : QD_FOUR(v))
    return b3 ? QD_EIGHT(8) : QD_EIGHT(0);
}
#endif

/* ---- Blocks of 32 ------------------------------------------------------------------------------------------------- */

#if defined(QD_W_Q8_0)
static inline char16 qd_w_codes(__global const uchar *b, const int i) {
    return vload16(0, (__global const char *)(b + 2 + 16 * i));
}
#elif defined(QD_W_Q4_0)
static inline char16 qd_w_codes(__global const uchar *b, const int i) {
    return qd_w_nibbles(b + 2, i) - (char16)8;
}
#elif defined(QD_W_Q4_1)
static inline char16 qd_w_codes(__global const uchar *b, const int i) {
    return qd_w_nibbles(b + 4, i);
}
#elif defined(QD_W_Q5_0)
static inline char16 qd_w_codes(__global const uchar *b, const int i) {
    return (qd_w_nibbles(b + 6, i) | qd_w_mask(b + 2 + 2 * i) << (char16)4) - (char16)16;
}
#elif defined(QD_W_Q5_1)
static inline char16 qd_w_codes(__global const uchar *b, const int i) {
    return qd_w_nibbles(b + 8, i) | qd_w_mask(b + 4 + 2 * i) << (char16)4;
}
#elif defined(QD_W_IQ4_NL)
static inline char16 qd_w_codes(__global const uchar *b, const int i) {
    return qd_w_iq4(qd_w_nibbles(b + 2, i));
}
#elif defined(QD_W_MXFP4)
static inline char16 qd_w_codes(__global const uchar *b, const int i) {
    return qd_w_e2m1(qd_w_nibbles(b + 1, i));
}
#endif

#if defined(QD_W_MXFP4)
/* 2^(e - 128), half of E8M0's value: the codes are doubled. */
static inline float qd_w_scale(__global const uchar *b, const int i) {
    return as_float(b[0] < 2 ? 0x00200000u << b[0] : (uint)(b[0] - 1) << 23);
}
#elif QD_W_BLOCK == 32
static inline float qd_w_scale(__global const uchar *b, const int i) {
    return qd_w_half(b);
}
#endif

#if defined(QD_W_Q4_1) || defined(QD_W_Q5_1)
static inline float qd_w_offset(__global const uchar *b, const int i) {
    return qd_w_half(b + 2);
}
#endif

/* ---- NVFP4: four times 16, each with a scale in E4M3 ---------------------------------------------------------------- */

#if defined(QD_W_NVFP4)
static inline char16 qd_w_codes(__global const uchar *b, const int i) {
    const uchar8 q = vload8(0, b + 4 + 8 * i);
    const uchar8 lo = q & (uchar8)15, hi = q >> (uchar8)4;
    return qd_w_e2m1(as_char16((uchar16)(lo.s0, lo.s1, lo.s2, lo.s3, lo.s4, lo.s5, lo.s6, lo.s7, hi.s0, hi.s1, hi.s2,
                                         hi.s3, hi.s4, hi.s5, hi.s6, hi.s7)));
}

/* Half of the value; the sign bit is ignored, and 0x7f is 0. */
static inline float qd_w_scale(__global const uchar *b, const int i) {
    return b[i] == 0x7f ? 0.0f : 0.5f * qd_small_to_float(b[i] & 0x7fu, 0u, 3u, 7u);
}

/* ---- Blocks of 256 ------------------------------------------------------------------------------------------------- */

#elif defined(QD_W_Q2_K)
static inline char16 qd_w_codes(__global const uchar *b, const int i) {
    return qd_w_pairs(b + 16, i);
}

static inline float qd_w_scale(__global const uchar *b, const int i) {
    return qd_w_half(b + 80) * (float)(b[i] & 15);
}

static inline float qd_w_offset(__global const uchar *b, const int i) {
    return -(qd_w_half(b + 82) * (float)(b[i] >> 4));
}
#elif defined(QD_W_Q3_K)
static inline char16 qd_w_codes(__global const uchar *b, const int i) {
    return (qd_w_pairs(b + 32, i) | qd_w_bits(b + (i & 1) * 16, i / 2) << (char16)2) - (char16)4;
}

static inline float qd_w_scale(__global const uchar *b, const int i) {
    __global const uchar *s = b + 96;
    const int low = s[i % 8] >> i / 8 * 4 & 15, high = s[8 + i % 4] >> i / 4 * 2 & 3;
    return qd_w_half(b + 108) * (float)((low | high << 4) - 32);
}
#elif defined(QD_W_Q4_K) || defined(QD_W_Q5_K)
#ifdef QD_W_Q4_K
static inline char16 qd_w_codes(__global const uchar *b, const int i) {
    return qd_w_nibbles(b + 16 + i / 4 * 32 + (i & 1) * 16, i / 2 & 1);
}
#else
static inline char16 qd_w_codes(__global const uchar *b, const int i) {
    return qd_w_nibbles(b + 48 + i / 4 * 32 + (i & 1) * 16, i / 2 & 1) |
           qd_w_bits(b + 16 + (i & 1) * 16, i / 2) << (char16)4;
}
#endif

/* Eight scales and eight minima of six bits: those of the first four stand in the low bits of bytes 0 … 3 and 4 … 7. */
static inline float qd_w_scale(__global const uchar *b, const int i) {
    __global const uchar *s = b + 4;
    const int j = i / 2;
    return qd_w_half(b) * (float)(j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4);
}

static inline float qd_w_offset(__global const uchar *b, const int i) {
    __global const uchar *s = b + 4;
    const int j = i / 2;
    return -(qd_w_half(b + 2) * (float)(j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4));
}
#elif defined(QD_W_Q6_K)
static inline char16 qd_w_codes(__global const uchar *b, const int i) {
    const int j = i & 1, quarter = i / 2 % 4;
    const char16 low = qd_w_nibbles(b + i / 8 * 64 + (quarter & 1) * 32 + j * 16, quarter / 2);
    return (low | qd_w_pairs(b + 128, i) << (char16)4) - (char16)32;
}

static inline float qd_w_scale(__global const uchar *b, const int i) {
    return qd_w_half(b + 208) * (float)((__global const char *)b)[192 + i];
}
#elif defined(QD_W_IQ4_XS)
static inline char16 qd_w_codes(__global const uchar *b, const int i) {
    return qd_w_iq4(qd_w_nibbles(b + 8 + i / 2 * 16, i & 1));
}

static inline float qd_w_scale(__global const uchar *b, const int i) {
    const int j = i / 2, low = b[4 + j / 2] >> (j & 1) * 4 & 15, high = b[2 + j / 4] >> j % 4 * 2 & 3;
    return qd_w_half(b) * (float)((low | high << 4) - 32);
}
#elif defined(QD_W_TQ1_0)
/* Digits of base three, as the upper bits of a fraction: digit n is the integer part of 3 · frac(3^n · byte / 256). */
static inline char16 qd_w_codes(__global const uchar *b, const int i) {
    const int power = i < 10 ? i / 2 : i - 10;
    uchar16 q = vload16(0, b + (i < 10 ? (i & 1) * 16 : 32));
    uchar16 three = (uchar16)(uchar)(power == 0 ? 1 : power == 1 ? 3 : power == 2 ? 9 : power == 3 ? 27 : 81);
    if (i == 15) {
        const uchar4 h = vload4(0, b + 48);
        q = (uchar16)(h.x, h.y, h.z, h.w, h.x, h.y, h.z, h.w, h.x, h.y, h.z, h.w, h.x, h.y, h.z, h.w);
        three = (uchar16)(1, 1, 1, 1, 3, 3, 3, 3, 9, 9, 9, 9, 27, 27, 27, 27);
    }
    const ushort16 digit = convert_ushort16(q * three) * (ushort16)3 >> (ushort16)8;
    return convert_char16(digit) - (char16)1;
}

static inline float qd_w_scale(__global const uchar *b, const int i) {
    return qd_w_half(b + 52);
}
#elif defined(QD_W_TQ2_0)
static inline char16 qd_w_codes(__global const uchar *b, const int i) {
    return qd_w_pairs(b, i) - (char16)1;
}

static inline float qd_w_scale(__global const uchar *b, const int i) {
    return qd_w_half(b + 64);
}
#endif

/* ---- For all of them ---------------------------------------------------------------------------------------------- */

static inline __global const uchar *qd_w_block(__global const uchar *row, const int k) {
    return row + (ulong)(k / QD_W_BLOCK) * QD_W_BYTES;
}

static inline int qd_w_part(const int k) {
    return k % QD_W_BLOCK / 16;
}

/* Scales and offsets of 32 weights. */
typedef struct qd_w_scales {
    float scale[2], offset[2];
} qd_w_scales;

static inline qd_w_scales qd_w_scales_of(__global const uchar *b, const int i) {
    qd_w_scales s;
    s.scale[0] = qd_w_scale(b, i), s.scale[1] = qd_w_scale(b, i + 1);
#if QD_W_HAS_OFFSET
    s.offset[0] = qd_w_offset(b, i), s.offset[1] = qd_w_offset(b, i + 1);
#else
    s.offset[0] = s.offset[1] = 0.0f;
#endif
    return s;
}

/* What 32 weights and the two blocks of activations that they meet add to a sum, lo and hi being the sums of their
 * products, d and sum what the two blocks hold. A block of 32 has one scale for both. */
static inline float qd_w_term_of(const qd_w_scales s, const float d_lo, const float sum_lo, const float d_hi,
                                 const float sum_hi, const int lo, const int hi) {
    const float x_lo = d_lo * (float)lo, x_hi = d_hi * (float)hi;
#if QD_W_BLOCK == 32
    const float t = s.scale[0] * (x_lo + x_hi);
#else
    const float t = s.scale[0] * x_lo + s.scale[1] * x_hi;
#endif
#if QD_W_HAS_OFFSET && QD_W_BLOCK == 32
    return t + s.offset[0] * (d_lo * sum_lo + d_hi * sum_hi);
#elif QD_W_HAS_OFFSET
    return t + (s.offset[0] * (d_lo * sum_lo) + s.offset[1] * (d_hi * sum_hi));
#else
    return t;
#endif
}

static inline float qd_w_term(const qd_w_scales s, __global const qd_block_a8 *a, const int lo, const int hi) {
    return qd_w_term_of(s, a[0].d, a[0].sum, a[1].d, a[1].sum, lo, hi);
}

static inline float16 qd_w_values(__global const uchar *row, const int k, const int n) {
    __global const uchar *b = qd_w_block(row, k);
    const int i = qd_w_part(k);
    const float16 q = convert_float16(qd_w_codes(b, i));
#if QD_W_HAS_OFFSET
    return qd_w_scale(b, i) * q + qd_w_offset(b, i);
#else
    return qd_w_scale(b, i) * q;
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
