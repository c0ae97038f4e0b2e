/* Q8_0, Q4_0, Q4_1, Q5_0, Q5_1: blocks of 32 with half scales. Without importances the bytes are those of gguf-py
 * 0.19.0, see FORMATS.md; with them, the scales are searched for. */
#include <math.h>
#include <string.h>

#include "formats/formats.h"
#include "formats/search.h"
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

/* Truncates v to 0 … top. A NaN, which comes of a block whose range overflows, gives 0. */
static qd_u8 code_of(float v, int top) {
    if (v >= (float)top) return (qd_u8)top;
    return v > 0.0f ? (qd_u8)v : 0;
}

/* Rounds halves away from zero. Only where the block's largest value is infinite or this one is NaN is v a NaN: code 0.
 */
static qd_i8 byte_of(float v) {
    return v == v ? (qd_i8)roundf(v) : (qd_i8)0;
}

/* The low four bits of the codes, and the fifth ones where there is a place for them. */
static void pack(const qd_u8 code[BLOCK], qd_u8 q[HALF_BLOCK], qd_u8 *high) {
    for (int j = 0; j < HALF_BLOCK; j++)
        q[j] = (qd_u8)((code[j] & 15) | (code[j + HALF_BLOCK] & 15) << 4);
    if (!high) return;
    memset(high, 0, BLOCK / 8);
    for (int j = 0; j < BLOCK; j++)
        high[j / 8] = (qd_u8)(high[j / 8] | code[j] >> 4 << j % 8);
}

/* Codes 16·i … 16·i+15, less `zero`. */
static void unpack(const qd_u8 q[HALF_BLOCK], const qd_u8 *high, int i, int zero, qd_i8 code[HALF_BLOCK]) {
    for (int j = 0; j < HALF_BLOCK; j++) {
        const int fifth = high ? high[2 * i + j / 8] >> j % 8 & 1 : 0;
        code[j] = (qd_i8)((q[j] >> 4 * i & 15) + 16 * fifth - zero);
    }
}

/* ---- Symmetric codes: x ≈ d · (code - zero), codes 0 … 2 · zero - 1 --------------------------------------------- */

static qd_u16 quantize_symmetric(const float *x, const float *importance, int zero, qd_u8 code[BLOCK]) {
    const int top = 2 * zero - 1;
    if (importance) {
        qd_search s;
        qd_i8 level[BLOCK];
        float d;
        const qd_levels levels = {-zero, zero - 1, NULL};
        qd_search_begin(&s, x, importance, BLOCK);
        const qd_u16 half = qd_search_half(&s, qd_search_scale(&s, 0, BLOCK, levels), &d);
        qd_search_codes(&s, 0, BLOCK, d, 0.0f, levels, level);
        for (int j = 0; j < BLOCK; j++)
            code[j] = (qd_u8)(level[j] + zero);
        return half;
    }
    /* The first value of largest magnitude, with its sign, becomes code 0. */
    float extreme = x[0];
    for (int j = 1; j < BLOCK; j++) {
        if (fabsf(x[j]) > fabsf(extreme)) extreme = x[j];
    }
    const float d = qd_one_nan(extreme / -(float)zero);
    const float inverse = inverse_of(d);
    for (int j = 0; j < BLOCK; j++)
        code[j] = code_of(x[j] * inverse + ((float)zero + 0.5f), top);
    return qd_float_to_half(d);
}

void qd_quantize_block_q4_0(const float *x, const float *importance, void *block) {
    qd_block_q4_0 *b = block;
    qd_u8 code[BLOCK];
    b->d = quantize_symmetric(x, importance, 8, code);
    pack(code, b->q, NULL);
}

void qd_sixteen_q4_0(const void *block, int i, qd_sixteen *out) {
    const qd_block_q4_0 *b = block;
    *out = (qd_sixteen){.scale = qd_half_to_float(b->d)};
    unpack(b->q, NULL, i, 8, out->code);
}

void qd_quantize_block_q5_0(const float *x, const float *importance, void *block) {
    qd_block_q5_0 *b = block;
    qd_u8 code[BLOCK];
    b->d = quantize_symmetric(x, importance, 16, code);
    pack(code, b->q, b->qh);
}

void qd_sixteen_q5_0(const void *block, int i, qd_sixteen *out) {
    const qd_block_q5_0 *b = block;
    *out = (qd_sixteen){.scale = qd_half_to_float(b->d)};
    unpack(b->q, b->qh, i, 16, out->code);
}

void qd_quantize_block_q8_0(const float *x, const float *importance, void *block) {
    (void)importance; /* the steps are too small for a search to find anything */
    qd_block_q8_0 *b = block;
    float max = 0.0f;
    for (int j = 0; j < BLOCK; j++)
        max = fmaxf(max, fabsf(x[j]));
    const float d = max / 127.0f;
    const float inverse = inverse_of(d);
    b->d = qd_float_to_half(d);
    for (int j = 0; j < BLOCK; j++)
        b->q[j] = byte_of(x[j] * inverse);
}

void qd_sixteen_q8_0(const void *block, int i, qd_sixteen *out) {
    const qd_block_q8_0 *b = block;
    *out = (qd_sixteen){.scale = qd_half_to_float(b->d)};
    memcpy(out->code, b->q + HALF_BLOCK * i, sizeof out->code);
}

/* ---- Codes with a minimum: x ≈ d · code + m, codes 0 … top ------------------------------------------------------ */

static void quantize_affine(const float *x, const float *importance, int top, qd_u16 *half, qd_u16 *half_min,
                            qd_u8 code[BLOCK]) {
    if (importance) {
        qd_search s;
        qd_i8 level[BLOCK];
        float d, m;
        qd_search_begin(&s, x, importance, BLOCK);
        *half = qd_search_half(&s, qd_search_affine(&s, 0, BLOCK, top, false, &m), &d);
        *half_min = qd_search_half(&s, m, &m);
        qd_search_codes(&s, 0, BLOCK, d, m, (qd_levels){0, top, NULL}, level);
        for (int j = 0; j < BLOCK; j++)
            code[j] = (qd_u8)level[j];
        return;
    }
    float min = x[0], max = x[0];
    for (int j = 1; j < BLOCK; j++) {
        if (x[j] < min) min = x[j];
        if (x[j] > max) max = x[j];
    }
    const float d = qd_one_nan((max - min) / (float)top);
    const float inverse = inverse_of(d);
    *half = qd_float_to_half(d);
    *half_min = qd_float_to_half(qd_one_nan(min));
    for (int j = 0; j < BLOCK; j++)
        code[j] = code_of((x[j] - min) * inverse + 0.5f, top);
}

static qd_sixteen affine(qd_u16 d, qd_u16 m) {
    return (qd_sixteen){.scale = qd_half_to_float(d), .offset = qd_half_to_float(m), .has_offset = true};
}

void qd_quantize_block_q4_1(const float *x, const float *importance, void *block) {
    qd_block_q4_1 *b = block;
    qd_u8 code[BLOCK];
    quantize_affine(x, importance, 15, &b->d, &b->m, code);
    pack(code, b->q, NULL);
}

void qd_sixteen_q4_1(const void *block, int i, qd_sixteen *out) {
    const qd_block_q4_1 *b = block;
    *out = affine(b->d, b->m);
    unpack(b->q, NULL, i, 0, out->code);
}

void qd_quantize_block_q5_1(const float *x, const float *importance, void *block) {
    qd_block_q5_1 *b = block;
    qd_u8 code[BLOCK];
    quantize_affine(x, importance, 31, &b->d, &b->m, code);
    pack(code, b->q, b->qh);
}

void qd_sixteen_q5_1(const void *block, int i, qd_sixteen *out) {
    const qd_block_q5_1 *b = block;
    *out = affine(b->d, b->m);
    unpack(b->q, b->qh, i, 0, out->code);
}
