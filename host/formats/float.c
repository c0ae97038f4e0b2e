/* F32, F16, BF16: one number per element. */
#include <string.h>

#include "formats/formats.h"
#include "qdot/qdot_num.h"

void qd_quantize_row_f32(const float *x, void *dst, int64_t n) {
    memcpy(dst, x, (size_t)n * sizeof *x);
}

void qd_dequantize_row_f32(const void *src, float *x, int64_t n) {
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
