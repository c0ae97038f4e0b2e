/* IQ4_NL and IQ4_XS: codes of four bits that stand for unevenly spaced integers. */
#include <string.h>

#include "formats/formats.h"
#include "formats/search.h"
#include "qdot/qdot_blocks.h"
#include "qdot/qdot_num.h"

static const int8_t values[16] = {QD_IQ4_VALUES};
static const qd_levels levels = {0, 0, values};

static void pack(const int8_t code[32], qd_u8 q[16]) {
    for (int j = 0; j < 16; j++)
        q[j] = (qd_u8)(code[j] | code[j + 16] << 4);
}

static void unpack(const qd_u8 q[16], int i, int8_t code[16]) {
    for (int j = 0; j < 16; j++)
        code[j] = values[q[j] >> 4 * i & 15];
}

void qd_quantize_block_iq4_nl(const float *x, const float *importance, void *block) {
    qd_block_iq4_nl *b = block;
    qd_search s;
    int8_t code[32];
    float d;
    qd_search_begin(&s, x, importance, 32);
    b->d = qd_search_half(&s, qd_search_scale(&s, 0, 32, levels), &d);
    qd_search_codes(&s, 0, 32, d, 0.0f, levels, code);
    pack(code, b->q);
}

void qd_sixteen_iq4_nl(const void *block, int i, qd_sixteen *out) {
    const qd_block_iq4_nl *b = block;
    *out = (qd_sixteen){.scale = qd_half_to_float(b->d)};
    unpack(b->q, i, out->code);
}

void qd_quantize_block_iq4_xs(const float *x, const float *importance, void *block) {
    qd_block_iq4_xs *b = block;
    qd_search s;
    int scale[8];
    int8_t code[256];
    memset(b, 0, sizeof *b);
    qd_search_begin(&s, x, importance, 256);
    b->d = qd_search_scales(&s, 8, -32, 31, levels, scale, code);
    for (int g = 0; g < 8; g++) {
        const int six = scale[g] + 32;
        b->scales_low[g / 2] = (qd_u8)(b->scales_low[g / 2] | (six & 15) << g % 2 * 4);
        b->scales_high = (qd_u16)(b->scales_high | six >> 4 << 2 * g);
        pack(code + 32 * g, b->q + 16 * g);
    }
}

void qd_sixteen_iq4_xs(const void *block, int i, qd_sixteen *out) {
    const qd_block_iq4_xs *b = block;
    const int g = i / 2, low = b->scales_low[g / 2] >> g % 2 * 4 & 15, high = b->scales_high >> 2 * g & 3;
    *out = (qd_sixteen){.scale = qd_half_to_float(b->d) * (float)((low | high << 4) - 32)};
    unpack(b->q + 16 * g, i % 2, out->code);
}
