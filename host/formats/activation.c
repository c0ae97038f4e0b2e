/* A8: int8 activations with a float scale and the sum of the codes. Devices compute the same bytes, see FORMATS.md. */
#include <string.h>

#include "formats/formats.h"
#include "qdot/qdot_blocks.h"
#include "qdot/qdot_num.h"

#define BLOCK 16

void qd_quantize_block_a8(const float *x, const float *importance, void *block) {
    (void)importance;
    qd_block_a8 *b = block;
    float max = 0.0f;
    for (int j = 0; j < BLOCK; j++) {
        const float a = qd_fabs(x[j]);
        max = a > max ? a : max; /* skips NaN, and so do the devices */
    }
    const float inverse = qd_a8_inverse(max);
    int sum = 0;
    for (int j = 0; j < BLOCK; j++) {
        const qd_i32 code = qd_a8_code(x[j], inverse);
        b->q[j] = (qd_i8)code;
        sum += code;
    }
    b->d = qd_a8_scale(max);
    b->sum = (float)sum;
}

void qd_sixteen_a8(const void *block, int i, qd_sixteen *out) {
    (void)i;
    const qd_block_a8 *b = block;
    *out = (qd_sixteen){.scale = b->d};
    memcpy(out->code, b->q, sizeof out->code);
}
