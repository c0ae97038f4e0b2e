/* Reading coded rows, from the definition in FORMATS.md. */
#include "formats/coding.h"

#include <string.h>

#include "core/status.h"
#include "qdot/qdot_num.h"

/* `bits` bits of a row of packed codes, the first in the low bits. */
static uint32_t bits_at(const uint8_t *packed, int64_t i, int bits) {
    uint32_t v = 0;
    for (int b = 0; b < bits; b++) {
        const int64_t at = i * bits + b;
        v |= (uint32_t)(packed[at / 8] >> at % 8 & 1) << b;
    }
    return v;
}

static float float_at(const uint8_t *bytes, int64_t i) {
    float v;
    memcpy(&v, bytes + 4 * i, sizeof v);
    return v;
}

static uint16_t half_at(const uint8_t *bytes, int64_t i) {
    return (uint16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8);
}

int32_t qd_coded_code(const qd_coded_row *r, int64_t i) {
    const int bits = r->p->bits;
    const int32_t v = (int32_t)bits_at(r->bytes + r->p->codes_at, i, bits);
    return r->p->is_signed && v >> (bits - 1) ? v - (1 << bits) : v;
}

float qd_coded_scale(const qd_coded_row *r, int64_t g) {
    const qd_coded_params *p = r->p;
    const uint8_t *scales = r->bytes + p->scales_at;
    switch (p->scale) {
        case QD_SCALE_AS_F32:
            return float_at(scales, g);
        case QD_SCALE_AS_F16:
            return qd_half_to_float(half_at(scales, g));
        case QD_SCALE_AS_BF16:
            return qd_bf16_to_float(half_at(scales, g));
        case QD_SCALE_AS_E4M3:
            return qd_f8e4m3_to_float(scales[g]) * r->side[p->tensor_at];
        case QD_SCALE_AS_E8M0:
            return qd_e8m0_to_float(scales[g]);
        case QD_SCALE_AS_NESTED: {
            const float *map = r->side + p->nested_at, *second = map + 257;
            return map[scales[g]] * second[(r->index * p->groups + g) / 256] + map[256];
        }
        case QD_SCALE_AS_TENSOR:
            return r->side[p->tensor_at];
        default:
            return 1;
    }
}

int32_t qd_coded_zero(const qd_coded_row *r, int64_t g) {
    const qd_coded_params *p = r->p;
    if (p->zeros_at != QD_ABSENT) return (int32_t)bits_at(r->bytes + p->zeros_at, g, p->bits);
    if (p->scale != QD_SCALE_AS_TENSOR || p->is_signed || p->kind != QD_CODED_UNIFORM) return 0;
    return qd_to_code(0, qd_round_even_i32(r->side[p->tensor_at + 1]), 0, 255);
}

float qd_coded_value(const qd_coded_row *r, int32_t code, int64_t i) {
    const qd_coded_params *p = r->p;
    switch (p->kind) {
        case QD_CODED_TABLE:
            return p->table_at == QD_ABSENT ? float_at(r->bytes, code) : r->side[p->table_at + code];
        case QD_CODED_SHIFT: {
            const int32_t top = 1 << (p->bits - 1), e = code & (top - 1);
            const float magnitude = e ? qd_as_f32((uint32_t)(127 + e - (top - 1)) << 23) : 0;
            return code & top ? -magnitude : magnitude;
        }
        case QD_CODED_PRODUCT:
            return r->side[p->table_at + ((i / p->length / p->share << p->bits) + code) * p->length + i % p->length];
        default:
            return (float)code;
    }
}

void qd_coded_values(const qd_coded_row *r, float *out) {
    const qd_coded_params *p = r->p;
    const int64_t length = p->kind == QD_CODED_PRODUCT ? p->length : 1;
    for (int64_t g = 0; g < p->groups; g++) {
        const float scale = qd_coded_scale(r, g);
        const int32_t zero = qd_coded_zero(r, g);
        for (int64_t i = g * p->group; i < (g + 1) * p->group && i < p->k; i++) {
            const int32_t code = qd_coded_code(r, i / length);
            out[i] = qd_coded_value(r, code - zero, i) * scale;
        }
    }
}

qd_status qd_coding_dequantize(const qd_coding *c, const void *src, const float *side, int64_t rows, int64_t cols,
                               int64_t first, int64_t count, float *dst) {
    qd_coded_params p;
    qd_status status = QD_OK;
    QD_TRY(qd_coding_layout(c, rows, cols, &p));
    if (first < 0 || count < 0 || first > rows || count > rows - first)
        return qd_fail(QD_ERR_ARGUMENT, "coding: rows %lld to %lld of %lld", (long long)first,
                       (long long)(first + count), (long long)rows);
    if (count && (!src || !side || !dst)) return qd_fail(QD_ERR_ARGUMENT, "coding: no pointer may be NULL");
    const size_t row_bytes = qd_coding_row_bytes(c, cols);
    for (int64_t r = 0; r < count; r++) {
        const qd_coded_row row = {&p, (const uint8_t *)src + (size_t)r * row_bytes, side, first + r};
        qd_coded_values(&row, dst + r * cols);
    }
error:
    return status;
}
