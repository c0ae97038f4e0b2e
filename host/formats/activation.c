/* A8: int8 activations with a float scale and the sum of the codes. Devices compute the same bytes, see FORMATS.md. */
#include <string.h>

#include "formats/formats.h"
#include "qdot/qdot_blocks.h"
#include "qdot/qdot_num.h"

#define BLOCK 16

void qd_quantize_row_a8(const float *x, void *dst, int64_t n) {
    unsigned char *out = dst;
    for (int64_t i = 0; i < n; i += BLOCK, x += BLOCK, out += sizeof(qd_block_a8)) {
        qd_block_a8 b;
        float max = 0.0f;
        for (int j = 0; j < BLOCK; j++) {
            const float a = qd_fabs(x[j]);
            max = a > max ? a : max; /* skips NaN, and so do the devices */
        }
        const float inverse = qd_a8_inverse(max);
        int sum = 0;
        for (int j = 0; j < BLOCK; j++) {
            const qd_i32 code = qd_a8_code(x[j], inverse);
            b.q[j] = (qd_i8)code;
            sum += code;
        }
        b.d = qd_a8_scale(max);
        b.sum = (float)sum;
        memcpy(out, &b, sizeof b);
    }
}

void qd_dequantize_row_a8(const void *src, float *x, int64_t n) {
    const unsigned char *in = src;
    for (int64_t i = 0; i < n; i += BLOCK, x += BLOCK, in += sizeof(qd_block_a8)) {
        qd_block_a8 b;
        memcpy(&b, in, sizeof b);
        for (int j = 0; j < BLOCK; j++) {
            x[j] = b.d * (float)b.q[j];
        }
    }
}
