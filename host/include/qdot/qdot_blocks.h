/* Packed block layouts. Compiles as C, OpenCL C and HLS C; x[i] is the value of element i of a block.
 *
 * The qd_ types below are the only ones these headers use. */
#ifndef QDOT_BLOCKS_H
#define QDOT_BLOCKS_H

#ifdef __OPENCL_VERSION__
typedef char qd_i8;
typedef uchar qd_u8;
typedef short qd_i16;
typedef ushort qd_u16;
typedef int qd_i32;
typedef uint qd_u32;
typedef long qd_i64;
typedef ulong qd_u64;
typedef float qd_f32;
#define QD_SIZE_ASSERT(type, bytes)
#else
#include <stdint.h>
typedef int8_t qd_i8;
typedef uint8_t qd_u8;
typedef int16_t qd_i16;
typedef uint16_t qd_u16;
typedef int32_t qd_i32;
typedef uint32_t qd_u32;
typedef int64_t qd_i64;
typedef uint64_t qd_u64;
typedef float qd_f32;
#define QD_SIZE_ASSERT(type, bytes) typedef char type##_size_assert[sizeof(type) == (bytes) ? 1 : -1]
#endif

/** Q8_0: x[i] = d · q[i]. 32 elements, 8.5 bits each. d is a half. Source: GGUF. */
typedef struct qd_block_q8_0 {
    qd_u16 d;
    qd_i8 q[32];
} qd_block_q8_0;
QD_SIZE_ASSERT(qd_block_q8_0, 34);

/** Q4_0: x[i] = d · (code[i] - 8). 32 elements, 4.5 bits each. code[j] is the low nibble of q[j], code[j+16] the high.
 *  Source: GGUF. */
typedef struct qd_block_q4_0 {
    qd_u16 d;
    qd_u8 q[16];
} qd_block_q4_0;
QD_SIZE_ASSERT(qd_block_q4_0, 18);

/** Q4_1: x[i] = d · code[i] + m. 32 elements, 5 bits each; nibbles as in Q4_0. Source: GGUF. */
typedef struct qd_block_q4_1 {
    qd_u16 d, m;
    qd_u8 q[16];
} qd_block_q4_1;
QD_SIZE_ASSERT(qd_block_q4_1, 20);

/** Q5_0: x[i] = d · (code[i] - 16). 32 elements, 5.5 bits each. The low four bits of the codes as in Q4_0; the fifth of
 *  code[i] is bit i of qh. Source: GGUF, as all formats down to TQ2_0. */
typedef struct qd_block_q5_0 {
    qd_u16 d;
    qd_u8 qh[4], q[16];
} qd_block_q5_0;
QD_SIZE_ASSERT(qd_block_q5_0, 22);

/** Q5_1: x[i] = d · code[i] + m. 32 elements, 6 bits each; codes as in Q5_0. */
typedef struct qd_block_q5_1 {
    qd_u16 d, m;
    qd_u8 qh[4], q[16];
} qd_block_q5_1;
QD_SIZE_ASSERT(qd_block_q5_1, 24);

/** Values of the codes of IQ4_NL and IQ4_XS: finer near 0, as weights are. */
#define QD_IQ4_VALUES -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113
/** Twice the values of E2M1 codes, so that they are integers. */
#define QD_E2M1_DOUBLED 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12

/** IQ4_NL: x[i] = d · QD_IQ4_VALUES[code[i]]. 32 elements, 4.5 bits each; nibbles as in Q4_0. */
typedef struct qd_block_iq4_nl {
    qd_u16 d;
    qd_u8 q[16];
} qd_block_iq4_nl;
QD_SIZE_ASSERT(qd_block_iq4_nl, 18);

/** MXFP4: x[i] = 2^(e - 128) · QD_E2M1_DOUBLED[code[i]]. 32 elements, 4.25 bits each; nibbles as in Q4_0. Source: OCP
 *  Microscaling Formats 1.0 (2023); order and e = 255, 2^127 instead of NaN, are GGUF's. */
typedef struct qd_block_mxfp4 {
    qd_u8 e;
    qd_u8 q[16];
} qd_block_mxfp4;
QD_SIZE_ASSERT(qd_block_mxfp4, 17);

/** NVFP4: x[i] = (d[i/16] / 2) · QD_E2M1_DOUBLED[code[i]]. 64 elements, 4.5 bits each. d are E4M3 without a sign; byte
 *  8·g + j of q has elements 16·g + j (low nibble) and 16·g + j + 8. */
typedef struct qd_block_nvfp4 {
    qd_u8 d[4];
    qd_u8 q[32];
} qd_block_nvfp4;
QD_SIZE_ASSERT(qd_block_nvfp4, 36);

/* Blocks of 256. "Pairs" of bits: code[128·h + 32·s + j] is at bits 2·s of byte 32·h + j. */

/** Q2_K: x[i] = (d · (s & 15)) · code[i] - (dmin · (s >> 4)), s = scales[i/16]. 2.625 bits each; q: pairs. */
typedef struct qd_block_q2_k {
    qd_u8 scales[16], q[64];
    qd_u16 d, dmin;
} qd_block_q2_k;
QD_SIZE_ASSERT(qd_block_q2_k, 84);

/** Q3_K: x[i] = (d · (s[i/16] - 32)) · (code[i] - 4). 3.4375 bits each. q: pairs; the third bit of code[32·s + j] is bit
 *  s of high[j]. scales: 16 numbers of 6 bits, the low four of number g in byte g % 8, the low nibble first, the high two
 *  at bits 2·(g / 4) of byte 8 + g % 4. */
typedef struct qd_block_q3_k {
    qd_u8 high[32], q[64], scales[12];
    qd_u16 d;
} qd_block_q3_k;
QD_SIZE_ASSERT(qd_block_q3_k, 110);

/** Q4_K: x[i] = (d · s[i/32]) · code[i] - (dmin · m[i/32]). 4.5 bits each. code[64·h + j] is the low nibble of byte
 *  32·h + j, code[64·h + 32 + j] the high one. scales: s[0…3] are the low six bits of bytes 0 … 3, m[0…3] of 4 … 7; of
 *  the others the low four bits are bytes 8 … 11, s in the low nibble, and the high two above those six. */
typedef struct qd_block_q4_k {
    qd_u16 d, dmin;
    qd_u8 scales[12], q[128];
} qd_block_q4_k;
QD_SIZE_ASSERT(qd_block_q4_k, 144);

/** Q5_K: as Q4_K, 5.5 bits each; the fifth bit of code[32·s + j] is bit s of high[j]. */
typedef struct qd_block_q5_k {
    qd_u16 d, dmin;
    qd_u8 scales[12], high[32], q[128];
} qd_block_q5_k;
QD_SIZE_ASSERT(qd_block_q5_k, 176);

/** Q6_K: x[i] = (d · scales[i/16]) · (code[i] - 32). 6.5625 bits each. The low four bits of code[128·h + 64·n + j] are
 *  the low (n = 0) or high nibble of low[64·h + j]; high: pairs. */
typedef struct qd_block_q6_k {
    qd_u8 low[128], high[64];
    qd_i8 scales[16];
    qd_u16 d;
} qd_block_q6_k;
QD_SIZE_ASSERT(qd_block_q6_k, 210);

/** IQ4_XS: x[i] = (d · (s[i/32] - 32)) · QD_IQ4_VALUES[code[i]]. 4.25 bits each. Each 32 have 16 bytes of nibbles as in
 *  Q4_0. s: low four bits in scales_low, the low nibble first, high two at bits 2·g of scales_high. */
typedef struct qd_block_iq4_xs {
    qd_u16 d, scales_high;
    qd_u8 scales_low[4], q[128];
} qd_block_iq4_xs;
QD_SIZE_ASSERT(qd_block_iq4_xs, 136);

/** TQ1_0: x[i] = d · (code[i] - 1), codes 0 … 2. 256 elements, 1.6875 bits each. A byte is the fraction byte / 256 whose
 *  digits of base three are codes: q[j] of elements j + 32·n (j < 32) and 160 + j - 32 + 16·n (n < 5), high[j] of
 *  240 + j + 4·n (n < 4). */
typedef struct qd_block_tq1_0 {
    qd_u8 q[48], high[4];
    qd_u16 d;
} qd_block_tq1_0;
QD_SIZE_ASSERT(qd_block_tq1_0, 54);

/** TQ2_0: x[i] = d · (code[i] - 1), codes 0 … 2. 256 elements, 2.0625 bits each. q: pairs. */
typedef struct qd_block_tq2_0 {
    qd_u8 q[64];
    qd_u16 d;
} qd_block_tq2_0;
QD_SIZE_ASSERT(qd_block_tq2_0, 66);

/** A8, the activation format: x[i] = d · q[i], and sum = Σ q[i], which is exact in a float. 16 elements, 12 bits each.
 *  Half the size of the weights' blocks: on SmolLM2 it takes a third off the error that int8 activations cause.
 *  qdot's own; lives between operators, never in files. */
typedef struct qd_block_a8 {
    qd_f32 d;
    qd_f32 sum;
    qd_i8 q[16];
} qd_block_a8;
QD_SIZE_ASSERT(qd_block_a8, 24);

/** Number of partial sums in every floating-point reduction (norm, softmax, attention, float matmul). */
#define QD_LANES 16
/** Number of partial sums over the blocks of a blocked matmul. */
#define QD_BLOCK_LANES 4

#endif
