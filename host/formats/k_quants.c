/* Q2_K … Q6_K: blocks of 256 in groups of 16 or 32, whose scales (and minima) are integers times a half. */
#include <string.h>

#include "formats/formats.h"
#include "formats/search.h"
#include "qdot/qdot_blocks.h"
#include "qdot/qdot_num.h"

enum { BLOCK = 256 };

/* ---- Packed codes -------------------------------------------------------------------------------------------- */

/* `bits` of 256 codes each, from bit `from` of the code on, into bytes that are 0: element n·w + j, w bytes having
 * 8/bits elements each, stands in byte w·(n·bits / 8) + j. */
static void pack(const int8_t code[BLOCK], int from, int bits, int w, qd_u8 *out) {
    const int each = 8 / bits;
    for (int e = 0; e < BLOCK; e++) {
        const int n = e / w, value = code[e] >> from & ((1 << bits) - 1);
        qd_u8 *byte = &out[n / each * w + e % w];
        *byte = (qd_u8)(*byte | value << n % each * bits);
    }
}

/* The same of elements 16·i …, added to codes at bit `to`. */
static void unpack(const qd_u8 *in, int bits, int w, int i, int to, int8_t code[16]) {
    const int each = 8 / bits, n = 16 * i / w;
    const qd_u8 *bytes = &in[n / each * w + 16 * i % w];
    for (int j = 0; j < 16; j++)
        code[j] = (int8_t)(code[j] + ((bytes[j] >> n % each * bits & ((1 << bits) - 1)) << to));
}

static void subtract(int8_t code[16], int zero) {
    for (int j = 0; j < 16; j++)
        code[j] = (int8_t)(code[j] - zero);
}

/* Sixteen scales and the codes of formats without minima, as they are stored: 0 … 2 · half - 1. Returns d. */
static qd_u16 search_codes(const float *x, const float *importance, int low, int high, int half, int scale[16],
                           int8_t code[BLOCK]) {
    qd_search s;
    qd_search_begin(&s, x, importance, BLOCK);
    const qd_u16 d = qd_search_scales(&s, 16, low, high, (qd_levels){-half, half - 1, NULL}, scale, code);
    for (int e = 0; e < BLOCK; e++)
        code[e] = (int8_t)(code[e] + half);
    return d;
}

/* ---- Q2_K ---------------------------------------------------------------------------------------------------- */

void qd_quantize_block_q2_k(const float *x, const float *importance, void *block) {
    qd_block_q2_k *b = block;
    qd_search s;
    int scale[16], min[16];
    int8_t code[BLOCK];
    qd_search_begin(&s, x, importance, BLOCK);
    qd_search_scales_mins(&s, 16, 15, 3, &b->d, &b->dmin, scale, min, code);
    for (int g = 0; g < 16; g++)
        b->scales[g] = (qd_u8)(scale[g] | min[g] << 4);
    memset(b->q, 0, sizeof b->q);
    pack(code, 0, 2, 32, b->q);
}

void qd_sixteen_q2_k(const void *block, int i, qd_sixteen *out) {
    const qd_block_q2_k *b = block;
    *out = (qd_sixteen){.scale = qd_half_to_float(b->d) * (float)(b->scales[i] & 15),
                        .offset = -(qd_half_to_float(b->dmin) * (float)(b->scales[i] >> 4)),
                        .has_offset = true};
    unpack(b->q, 2, 32, i, 0, out->code);
}

/* ---- Q3_K ---------------------------------------------------------------------------------------------------- */

void qd_quantize_block_q3_k(const float *x, const float *importance, void *block) {
    qd_block_q3_k *b = block;
    int scale[16];
    int8_t code[BLOCK];
    memset(b, 0, sizeof *b);
    b->d = search_codes(x, importance, -32, 31, 4, scale, code);
    for (int g = 0; g < 16; g++) {
        const int six = scale[g] + 32;
        b->scales[g % 8] = (qd_u8)(b->scales[g % 8] | (six & 15) << g / 8 * 4);
        b->scales[8 + g % 4] = (qd_u8)(b->scales[8 + g % 4] | six >> 4 << g / 4 * 2);
    }
    pack(code, 0, 2, 32, b->q);
    pack(code, 2, 1, 32, b->high);
}

void qd_sixteen_q3_k(const void *block, int i, qd_sixteen *out) {
    const qd_block_q3_k *b = block;
    const int low = b->scales[i % 8] >> i / 8 * 4 & 15, high = b->scales[8 + i % 4] >> i / 4 * 2 & 3;
    *out = (qd_sixteen){.scale = qd_half_to_float(b->d) * (float)((low | high << 4) - 32)};
    unpack(b->q, 2, 32, i, 0, out->code);
    unpack(b->high, 1, 32, i, 2, out->code);
    subtract(out->code, 4);
}

/* ---- Q4_K and Q5_K ------------------------------------------------------------------------------------------- */

/* Eight scales and eight minima of six bits in twelve bytes. */
static void pack_scales(const int scale[8], const int min[8], qd_u8 out[12]) {
    for (int g = 0; g < 4; g++) {
        out[g] = (qd_u8)(scale[g] | scale[g + 4] >> 4 << 6);
        out[g + 4] = (qd_u8)(min[g] | min[g + 4] >> 4 << 6);
        out[g + 8] = (qd_u8)((scale[g + 4] & 15) | (min[g + 4] & 15) << 4);
    }
}

static qd_sixteen scaled(qd_u16 d, qd_u16 dmin, const qd_u8 packed[12], int g) {
    const int scale = g < 4 ? packed[g] & 63 : (packed[g + 4] & 15) | packed[g - 4] >> 6 << 4;
    const int min = g < 4 ? packed[g + 4] & 63 : packed[g + 4] >> 4 | packed[g] >> 6 << 4;
    return (qd_sixteen){.scale = qd_half_to_float(d) * (float)scale,
                        .offset = -(qd_half_to_float(dmin) * (float)min),
                        .has_offset = true};
}

void qd_quantize_block_q4_k(const float *x, const float *importance, void *block) {
    qd_block_q4_k *b = block;
    qd_search s;
    int scale[8], min[8];
    int8_t code[BLOCK];
    qd_search_begin(&s, x, importance, BLOCK);
    qd_search_scales_mins(&s, 8, 63, 15, &b->d, &b->dmin, scale, min, code);
    pack_scales(scale, min, b->scales);
    memset(b->q, 0, sizeof b->q);
    pack(code, 0, 4, 32, b->q);
}

void qd_sixteen_q4_k(const void *block, int i, qd_sixteen *out) {
    const qd_block_q4_k *b = block;
    *out = scaled(b->d, b->dmin, b->scales, i / 2);
    unpack(b->q, 4, 32, i, 0, out->code);
}

void qd_quantize_block_q5_k(const float *x, const float *importance, void *block) {
    qd_block_q5_k *b = block;
    qd_search s;
    int scale[8], min[8];
    int8_t code[BLOCK];
    qd_search_begin(&s, x, importance, BLOCK);
    qd_search_scales_mins(&s, 8, 63, 31, &b->d, &b->dmin, scale, min, code);
    pack_scales(scale, min, b->scales);
    memset(b->high, 0, sizeof b->high);
    memset(b->q, 0, sizeof b->q);
    pack(code, 0, 4, 32, b->q);
    pack(code, 4, 1, 32, b->high);
}

void qd_sixteen_q5_k(const void *block, int i, qd_sixteen *out) {
    const qd_block_q5_k *b = block;
    *out = scaled(b->d, b->dmin, b->scales, i / 2);
    unpack(b->q, 4, 32, i, 0, out->code);
    unpack(b->high, 1, 32, i, 4, out->code);
}

/* ---- Q6_K ---------------------------------------------------------------------------------------------------- */

void qd_quantize_block_q6_k(const float *x, const float *importance, void *block) {
    qd_block_q6_k *b = block;
    int scale[16];
    int8_t code[BLOCK];
    memset(b, 0, sizeof *b);
    b->d = search_codes(x, importance, -128, 127, 32, scale, code);
    for (int g = 0; g < 16; g++)
        b->scales[g] = (qd_i8)scale[g];
    pack(code, 0, 4, 64, b->low);
    pack(code, 4, 2, 32, b->high);
}

void qd_sixteen_q6_k(const void *block, int i, qd_sixteen *out) {
    const qd_block_q6_k *b = block;
    *out = (qd_sixteen){.scale = qd_half_to_float(b->d) * (float)b->scales[i]};
    unpack(b->low, 4, 64, i, 0, out->code);
    unpack(b->high, 2, 32, i, 4, out->code);
    subtract(out->code, 32);
}
