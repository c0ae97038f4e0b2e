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
