/* F32, TF32, F16, BF16, FP8, FP4: one number per element. */
#include <string.h>

#include "formats/formats.h"
#include "qdot/qdot_num.h"

void qd_quantize_row_f32(const float *x, void *dst, int64_t n) {
    memcpy(dst, x, (size_t)n * sizeof *x);
}

void qd_dequantize_row_f32(const void *src, float *x, int64_t n) {
    memcpy(x, src, (size_t)n * sizeof *x);
}

/* The float with 10 bits of mantissa: the others are rounded away, to nearest even. */
static float to_tf32(float x) {
    const qd_u32 u = qd_as_u32(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return qd_as_f32((u | 0x400000u) & ~0x1fffu);
    return qd_as_f32((u + 0xfffu + ((u >> 13) & 1u)) & ~0x1fffu);
}

void qd_quantize_row_tf32(const float *x, void *dst, int64_t n) {
    unsigned char *p = dst;
    for (int64_t i = 0; i < n; i++) {
        const float rounded = to_tf32(x[i]);
        memcpy(p + 4 * i, &rounded, sizeof rounded);
    }
}

void qd_dequantize_row_tf32(const void *src, float *x, int64_t n) {
    memcpy(x, src, (size_t)n * sizeof *x);
}

/* Both 16-bit formats: `encode` and `decode` are inlined. Bytes are copied because the packed side may be unaligned. */
static inline void encode_row(uint16_t (*encode)(float), const float *x, void *dst, int64_t n) {
    unsigned char *p = dst;
    for (int64_t i = 0; i < n; i++) {
        const uint16_t code = encode(x[i]);
        memcpy(p + 2 * i, &code, 2);
    }
}

static inline void decode_row(float (*decode)(uint16_t), const void *src, float *x, int64_t n) {
    const unsigned char *p = src;
    for (int64_t i = 0; i < n; i++) {
        uint16_t code;
        memcpy(&code, p + 2 * i, 2);
        x[i] = decode(code);
    }
}

void qd_quantize_row_f16(const float *x, void *dst, int64_t n) {
    encode_row(qd_float_to_half, x, dst, n);
}

void qd_dequantize_row_f16(const void *src, float *x, int64_t n) {
    decode_row(qd_half_to_float, src, x, n);
}

void qd_quantize_row_bf16(const float *x, void *dst, int64_t n) {
    encode_row(qd_float_to_bf16, x, dst, n);
}

void qd_dequantize_row_bf16(const void *src, float *x, int64_t n) {
    decode_row(qd_bf16_to_float, src, x, n);
}

/* ---- One byte ----------------------------------------------------------------------------------------------- */

#define BYTE_CODEC(name)                                                  \
    void qd_quantize_row_##name(const float *x, void *dst, int64_t n) {   \
        for (int64_t i = 0; i < n; i++)                                   \
            ((uint8_t *)dst)[i] = qd_float_to_##name(x[i]);               \
    }                                                                     \
    void qd_dequantize_row_##name(const void *src, float *x, int64_t n) { \
        for (int64_t i = 0; i < n; i++)                                   \
            x[i] = qd_##name##_to_float(((const uint8_t *)src)[i]);       \
    }

BYTE_CODEC(f8e4m3)
BYTE_CODEC(f8e5m2)

/* Two codes in a byte, the first in its low bits; unused bits are zero. */
void qd_quantize_row_f4e2m1(const float *x, void *dst, int64_t n) {
    uint8_t *p = dst;
    for (int64_t i = 0; i < n; i += 2) {
        const int high = i + 1 < n ? qd_float_to_f4e2m1(x[i + 1]) : 0;
        p[i / 2] = (uint8_t)(qd_float_to_f4e2m1(x[i]) | high << 4);
    }
}

void qd_dequantize_row_f4e2m1(const void *src, float *x, int64_t n) {
    const uint8_t *p = src;
    for (int64_t i = 0; i < n; i++)
        x[i] = qd_f4e2m1_to_float((uint8_t)(p[i / 2] >> i % 2 * 4 & 15));
}
