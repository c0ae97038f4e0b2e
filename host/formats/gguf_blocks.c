/* Q8_0, Q4_0, Q4_1: blocks of 32 with half scales. The bytes are those of gguf-py 0.19.0, see FORMATS.md.
 *
 * Blocks go through a local struct, because rows in a file may be unaligned. */
#include <math.h>
#include <string.h>

#include "formats/formats.h"
#include "qdot/qdot_blocks.h"
#include "qdot/qdot_num.h"

#define BLOCK 32
#define HALF_BLOCK (BLOCK / 2)

/* 1 / scale, or 0 where that is infinite. The half of such a scale is 0, so that no code changes the value: taking the
 * codes of a zero block keeps infinity out of the rounding. */
static float inverse_of(float scale) {
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    return isinf(inverse) ? 0.0f : inverse;
}

/* Truncates v to 0 … 15. A NaN, which comes of a block whose range overflows, gives 0. */
static qd_u8 nibble_of(float v) {
    if (v >= 15.0f) return 15;
    return v > 0.0f ? (qd_u8)v : 0;
}

/* Rounds halves away from zero. Only where the block's largest value is infinite or this one is NaN is v a NaN: code 0.
 */
static qd_i8 byte_of(float v) {
    return v == v ? (qd_i8)roundf(v) : (qd_i8)0;
}

static void pack_nibbles(const qd_u8 code[BLOCK], qd_u8 q[HALF_BLOCK]) {
    for (int j = 0; j < HALF_BLOCK; j++) {
        q[j] = (qd_u8)(code[j] | (code[j + HALF_BLOCK] << 4));
    }
}

void qd_quantize_row_q8_0(const float *x, void *dst, int64_t n) {
    unsigned char *out = dst;
    for (int64_t i = 0; i < n; i += BLOCK, x += BLOCK, out += sizeof(qd_block_q8_0)) {
        qd_block_q8_0 b;
        float max = 0.0f;
        for (int j = 0; j < BLOCK; j++) {
            max = fmaxf(max, fabsf(x[j]));
        }
        const float d = max / 127.0f;
        const float inverse = inverse_of(d);
        b.d = qd_float_to_half(d);
        for (int j = 0; j < BLOCK; j++) {
            b.q[j] = byte_of(x[j] * inverse);
        }
        memcpy(out, &b, sizeof b);
    }
}

void qd_dequantize_row_q8_0(const void *src, float *x, int64_t n) {
    const unsigned char *in = src;
    for (int64_t i = 0; i < n; i += BLOCK, x += BLOCK, in += sizeof(qd_block_q8_0)) {
        qd_block_q8_0 b;
        memcpy(&b, in, sizeof b);
        const float d = qd_half_to_float(b.d);
        for (int j = 0; j < BLOCK; j++) {
            x[j] = d * (float)b.q[j];
        }
    }
}

void qd_quantize_row_q4_0(const float *x, void *dst, int64_t n) {
    unsigned char *out = dst;
    for (int64_t i = 0; i < n; i += BLOCK, x += BLOCK, out += sizeof(qd_block_q4_0)) {
        qd_block_q4_0 b;
        qd_u8 code[BLOCK];
        /* The first value of largest magnitude, with its sign, becomes code 0, that is -8. */
        float extreme = x[0];
        for (int j = 1; j < BLOCK; j++) {
            if (fabsf(x[j]) > fabsf(extreme)) extreme = x[j];
        }
        const float d = qd_one_nan(extreme / -8.0f);
        const float inverse = inverse_of(d);
        b.d = qd_float_to_half(d);
        for (int j = 0; j < BLOCK; j++) {
            code[j] = nibble_of(x[j] * inverse + 8.5f);
        }
        pack_nibbles(code, b.q);
        memcpy(out, &b, sizeof b);
    }
}

void qd_dequantize_row_q4_0(const void *src, float *x, int64_t n) {
    const unsigned char *in = src;
    for (int64_t i = 0; i < n; i += BLOCK, x += BLOCK, in += sizeof(qd_block_q4_0)) {
        qd_block_q4_0 b;
        memcpy(&b, in, sizeof b);
        const float d = qd_half_to_float(b.d);
        for (int j = 0; j < HALF_BLOCK; j++) {
            x[j] = d * (float)((b.q[j] & 15) - 8);
            x[j + HALF_BLOCK] = d * (float)((b.q[j] >> 4) - 8);
        }
    }
}

void qd_quantize_row_q4_1(const float *x, void *dst, int64_t n) {
    unsigned char *out = dst;
    for (int64_t i = 0; i < n; i += BLOCK, x += BLOCK, out += sizeof(qd_block_q4_1)) {
        qd_block_q4_1 b;
        qd_u8 code[BLOCK];
        float min = x[0], max = x[0];
        for (int j = 1; j < BLOCK; j++) {
            if (x[j] < min) min = x[j];
            if (x[j] > max) max = x[j];
        }
        const float d = qd_one_nan((max - min) / 15.0f);
        const float inverse = inverse_of(d);
        b.d = qd_float_to_half(d);
        b.m = qd_float_to_half(qd_one_nan(min));
        for (int j = 0; j < BLOCK; j++) {
            code[j] = nibble_of((x[j] - min) * inverse + 0.5f);
        }
        pack_nibbles(code, b.q);
        memcpy(out, &b, sizeof b);
    }
}

void qd_dequantize_row_q4_1(const void *src, float *x, int64_t n) {
    const unsigned char *in = src;
    for (int64_t i = 0; i < n; i += BLOCK, x += BLOCK, in += sizeof(qd_block_q4_1)) {
        qd_block_q4_1 b;
        memcpy(&b, in, sizeof b);
        const float d = qd_half_to_float(b.d);
        const float m = qd_half_to_float(b.m);
        for (int j = 0; j < HALF_BLOCK; j++) {
            x[j] = d * (float)(b.q[j] & 15) + m;
            x[j + HALF_BLOCK] = d * (float)(b.q[j] >> 4) + m;
        }
    }
}
