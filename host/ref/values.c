/* Elements of operands that may have any strides. */
#include "ref/ref.h"

void *qd_ref_at(qd_operand o, const qd_strides *s, int64_t a, int64_t b, int64_t c) {
    return (char *)o.data + a * s->step[0] + b * s->step[1] + c * s->step[2];
}

float qd_ref_value(const void *row, int32_t format, int64_t step, int64_t k) {
    const char *p = row;
    if (format == QD_NUMBERS_Q8_0) {
        const qd_block_q8_0 *block = (const void *)(p + k / 32 * step);
        return qd_half_to_float(block->d) * (float)block->q[k % 32];
    }
    p += k * step;
    return format == QD_NUMBERS_F32   ? *(const float *)p
           : format == QD_NUMBERS_F16 ? qd_half_to_float(*(const uint16_t *)p)
                                      : qd_bf16_to_float(*(const uint16_t *)p);
}
