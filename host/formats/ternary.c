/* TQ1_0 and TQ2_0: -1, 0 and 1 times a scale. The bytes are those of gguf-py 0.19.0. */
#include <math.h>
#include <string.h>

#include "formats/formats.h"
#include "qdot/qdot_blocks.h"
#include "qdot/qdot_num.h"

enum { BLOCK = 256 };

/* Digits 0 … 2, and the scale. */
static qd_u16 digits_of(const float *x, qd_u8 digit[BLOCK]) {
    float max = 0.0f;
    for (int j = 0; j < BLOCK; j++)
        max = fabsf(x[j]) > max ? fabsf(x[j]) : max;
    const float inverse = max > 0.0f ? 1.0f / max : 0.0f;
    for (int j = 0; j < BLOCK; j++)
        digit[j] = (qd_u8)(isinf(inverse) ? 1 : 1 + (int)roundf(x[j] * inverse));
    return qd_float_to_half(max);
}

/* ---- TQ1_0 --------------------------------------------------------------------------------------------------- */

/* Where element e stands: its byte among q and high, and which of its digits it is. */
static void place_of(int e, int *byte, int *n) {
    if (e < 160) {
        *byte = e % 32, *n = e / 32;
    } else if (e < 240) {
        *byte = 32 + (e - 160) % 16, *n = (e - 160) / 16;
    } else {
        *byte = 48 + (e - 240) % 4, *n = (e - 240) / 4;
    }
}

static const int powers[5] = {1, 3, 9, 27, 81};

void qd_quantize_block_tq1_0(const float *x, const float *importance, void *block) {
    (void)importance;
    qd_block_tq1_0 *b = block;
    qd_u8 digit[BLOCK];
    int number[52] = {0}; /* of five digits, the first the highest; the last bytes have a 0 as their fifth */
    b->d = digits_of(x, digit);
    for (int e = 0; e < BLOCK; e++) {
        int byte, n;
        place_of(e, &byte, &n);
        number[byte] += digit[e] * powers[4 - n];
    }
    /* number / 243 as a fraction of 256, rounded up, so that multiplying gives the digits back. */
    for (int i = 0; i < 52; i++)
        *(i < 48 ? &b->q[i] : &b->high[i - 48]) = (qd_u8)((number[i] * 256 + 242) / 243);
}

void qd_sixteen_tq1_0(const void *block, int i, qd_sixteen *out) {
    const qd_block_tq1_0 *b = block;
    *out = (qd_sixteen){.scale = qd_half_to_float(b->d)};
    for (int j = 0; j < 16; j++) {
        int byte, n;
        place_of(16 * i + j, &byte, &n);
        const int fraction = (byte < 48 ? b->q[byte] : b->high[byte - 48]) * powers[n] & 255;
        out->code[j] = (int8_t)((fraction * 3 >> 8) - 1);
    }
}

/* ---- TQ2_0 --------------------------------------------------------------------------------------------------- */

void qd_quantize_block_tq2_0(const float *x, const float *importance, void *block) {
    (void)importance;
    qd_block_tq2_0 *b = block;
    qd_u8 digit[BLOCK];
    memset(b->q, 0, sizeof b->q);
    b->d = digits_of(x, digit);
    for (int e = 0; e < BLOCK; e++) {
        qd_u8 *byte = &b->q[e / 128 * 32 + e % 32];
        *byte = (qd_u8)(*byte | digit[e] << e % 128 / 32 * 2);
    }
}

void qd_sixteen_tq2_0(const void *block, int i, qd_sixteen *out) {
    const qd_block_tq2_0 *b = block;
    *out = (qd_sixteen){.scale = qd_half_to_float(b->d)};
    for (int j = 0; j < 16; j++) {
        const int e = 16 * i + j;
        out->code[j] = (int8_t)((b->q[e / 128 * 32 + e % 32] >> e % 128 / 32 * 2 & 3) - 1);
    }
}
