/* Integer codes, and how sums become codes. */
#include "ref/ref.h"

int32_t qd_ref_code(const void *row, int64_t i, int32_t code) {
    const int bits = QD_CODE_BITS(code);
    const uint8_t *bytes = row;
    uint32_t value = 0;
    /* Bit by bit: bit b of code i is bit i · bits + b of the row. */
    for (int b = 0; b < bits; b++) {
        const int64_t at = i * bits + b;
        value |= (uint32_t)(bytes[at / 8] >> at % 8 & 1) << b;
    }
    const bool negative = QD_CODE_SIGNED(code) && value >> (bits - 1);
    return (int32_t)((int64_t)value - (negative ? (int64_t)1 << bits : 0));
}

void qd_ref_put_code(void *row, int64_t i, int32_t code, int32_t value) {
    const int bits = QD_CODE_BITS(code);
    uint8_t *bytes = row;
    for (int b = 0; b < bits; b++) {
        const int64_t at = i * bits + b;
        bytes[at / 8] = (uint8_t)((bytes[at / 8] & ~(1u << at % 8)) | ((uint32_t)value >> b & 1) << at % 8);
    }
}

int32_t qd_ref_zero(const qd_operand *zeros, int32_t share, int64_t i, int32_t code) {
    if (share == QD_ABSENT) return 0;
    const int bits = QD_CODE_BITS(code);
    const int64_t min = QD_CODE_SIGNED(code) ? -((int64_t)1 << (bits - 1)) : 0, max = min + ((int64_t)1 << bits) - 1;
    const int32_t zero = ((const int32_t *)zeros->data)[share == QD_SHARED ? 0 : i];
    return (int32_t)(zero < min ? min : zero > max ? max : zero);
}

int32_t qd_ref_finish(const qd_output *y, const qd_operand *requant, int64_t channel, int32_t sum) {
    if (y->requant == QD_ABSENT) return sum;
    const int32_t *row = qd_row(*requant, y->requant == QD_SHARED ? 0 : channel);
    return qd_to_code(qd_requantize(sum, y->mode, row[0], row[1]), y->zero_point, y->min, y->max);
}
