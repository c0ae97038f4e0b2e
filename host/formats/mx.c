/* MXFP4 and NVFP4: E2M1 codes with scales of 8 bits. Their values are doubled here, and so integers; the scales are
 * halved. The bytes of MXFP4 are those of gguf-py 0.19.0. */
#include <math.h>
#include <string.h>

#include "formats/formats.h"
#include "qdot/qdot_blocks.h"
#include "qdot/qdot_num.h"

static const int8_t doubled[16] = {QD_E2M1_DOUBLED};

/* The code of the value nearest to x / scale; of two, that of smaller magnitude; of zeros, the positive one. */
static int nearest(float x, float scale) {
    int best = 0;
    float least = fabsf(x);
    for (int c = 1; c < 16; c++) {
        const float error = fabsf(x - scale * (float)doubled[c]);
        if (error < least) least = error, best = c;
    }
    return best;
}

/* ---- MXFP4 --------------------------------------------------------------------------------------------------- */

static float power_of(qd_u8 e) {
    return qd_as_f32(e < 2 ? 0x00200000u << e : (qd_u32)(e - 1) << 23);
}

void qd_quantize_block_mxfp4(const float *x, const float *importance, void *block) {
    (void)importance; /* the scale is the only power of two that neither overflows nor wastes a bit */
    qd_block_mxfp4 *b = block;
    float max = 0.0f;
    for (int j = 0; j < 32; j++)
        max = fabsf(x[j]) > max ? fabsf(x[j]) : max;
    /* The logarithm rounded to a float: just below a power of two it may be that of the power. */
    const int exponent = max > 0.0f ? (int)floorf((float)log2((double)max)) + 125 : 0;
    b->e = (qd_u8)(exponent > 0 ? exponent : 0);
    const float scale = power_of(b->e);
    for (int j = 0; j < 16; j++)
        b->q[j] = (qd_u8)(nearest(x[j], scale) | nearest(x[j + 16], scale) << 4);
}

void qd_sixteen_mxfp4(const void *block, int i, qd_sixteen *out) {
    const qd_block_mxfp4 *b = block;
    *out = (qd_sixteen){.scale = power_of(b->e)};
    for (int j = 0; j < 16; j++)
        out->code[j] = doubled[b->q[j] >> 4 * i & 15];
}

/* ---- NVFP4 --------------------------------------------------------------------------------------------------- */

/* Half of the value. 0x7f is 0; the sign bit is ignored, but makes 0xff 480. */
static float e4m3_of(qd_u8 d) {
    return d == 0x7f ? 0.0f : 0.5f * qd_small_to_float(d & 0x7fu, 0, 3, 7);
}

void qd_quantize_block_nvfp4(const float *x, const float *importance, void *block) {
    enum { AROUND = 3 };
    qd_block_nvfp4 *b = block;
    for (int g = 0; g < 4; g++, x += 16) {
        float max = 0.0f, least = INFINITY;
        for (int j = 0; j < 16; j++)
            max = fabsf(x[j]) > max ? fabsf(x[j]) : max;
        /* The scale that makes the largest value a 6, and its neighbours. */
        const int middle = qd_float_to_f8e4m3(max / 6.0f);
        qd_u8 code[16];
        for (int d = middle - AROUND; d <= middle + AROUND; d++) {
            if (d < 0 || d > 0x7e) continue;
            const float scale = e4m3_of((qd_u8)d);
            qd_u8 mine[16];
            float error = 0.0f;
            for (int j = 0; j < 16; j++) {
                mine[j] = (qd_u8)nearest(x[j], scale);
                const float e = x[j] - scale * (float)doubled[mine[j]];
                error += (importance ? importance[16 * g + j] : 1.0f) * e * e;
            }
            if (error < least || d == middle - AROUND) {
                least = error;
                b->d[g] = (qd_u8)d;
                memcpy(code, mine, sizeof code);
            }
        }
        for (int j = 0; j < 8; j++)
            b->q[8 * g + j] = (qd_u8)(code[j] | code[j + 8] << 4);
    }
}

void qd_sixteen_nvfp4(const void *block, int i, qd_sixteen *out) {
    const qd_block_nvfp4 *b = block;
    *out = (qd_sixteen){.scale = e4m3_of(b->d[i])};
    for (int j = 0; j < 16; j++)
        out->code[j] = doubled[b->q[8 * i + j % 8] >> j / 8 * 4 & 15];
}
