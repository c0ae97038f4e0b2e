/* Codes in groups along a row: a scale and a zero point for each. */
#include <math.h>
#include <string.h>

#include "core/status.h"
#include "qdot/qdot.h"

static int bits_of(qd_format f) {
    return f == QD_FORMAT_U2 ? 2 : f == QD_FORMAT_U4 ? 4 : f == QD_FORMAT_U8 ? 8 : 0;
}

/* Nearest integer, halves away from zero, as a code. */
static int32_t to_code(float v, int bits) {
    const float rounded = roundf(v), most = (float)((1 << bits) - 1);
    return (int32_t)(rounded < 0 ? 0 : rounded > most ? most : rounded);
}

static void find_scale(const float *x, int64_t n, int bits, bool symmetric, float *scale, int32_t *zero) {
    float min = symmetric ? x[0] : 0, max = min;
    for (int64_t i = 0; i < n; i++) {
        min = x[i] < min ? x[i] : min;
        max = x[i] > max ? x[i] : max;
    }
    if (symmetric) {
        *scale = (fabsf(max) > fabsf(min) ? max : min) / -(float)(1 << (bits - 1));
        *zero = 1 << (bits - 1);
    } else {
        const float steps = (float)((1 << bits) - 1), range = max - min;
        *scale = isfinite(range) ? range / steps : max / steps - min / steps;
        *zero = *scale != 0 ? to_code(-min / *scale, bits) : 0;
    }
}

static void quantize_row(const float *x, int64_t cols, int64_t group, int bits, bool symmetric, unsigned char *dst,
                         float *scales, int32_t *zeros) {
    for (int64_t first = 0, g = 0; first < cols; first += group, g++) {
        const int64_t n = cols - first < group ? cols - first : group;
        find_scale(x + first, n, bits, symmetric, &scales[g], &zeros[g]);
        /* Of a scale without a reciprocal, 0 or denormal, all codes are the zero point. */
        const float inverse = isfinite(1.0f / scales[g]) ? 1.0f / scales[g] : 0;
        for (int64_t i = first; i < first + n; i++) {
            const int64_t bit = i * bits;
            dst[bit / 8] |= (unsigned char)(to_code(x[i] * inverse + (float)zeros[g], bits) << bit % 8);
        }
    }
}

qd_status qd_quantize_groups(qd_format f, bool symmetric, int64_t group, const float *src, int64_t rows, int64_t cols,
                             void *dst, float *scales, int32_t *zeros) {
    const int bits = bits_of(f);
    if (!bits) return qd_fail(QD_ERR_UNSUPPORTED, "qd_quantize_groups: codes are u2, u4 or u8");
    const size_t row = qd_format_row_bytes(f, cols);
    int64_t count;
    if (rows < 0 || cols < 1 || group < 0 || __builtin_mul_overflow(rows, cols, &count) ||
        count > PTRDIFF_MAX / (int64_t)sizeof *src) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_quantize_groups: %lld rows of %lld columns in groups of %lld",
                       (long long)rows, (long long)cols, (long long)group);
    }
    if (rows && (!src || !dst || !scales || !zeros))
        return qd_fail(QD_ERR_ARGUMENT, "qd_quantize_groups: no pointer may be NULL");
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(src[i])) {
            return qd_fail(QD_ERR_ARGUMENT, "qd_quantize_groups: the value at row %lld, column %lld is not finite",
                           (long long)(i / cols), (long long)(i % cols));
        }
    }
    const int64_t each = group && group < cols ? group : cols, groups = (cols + each - 1) / each;
    if (rows) memset(dst, 0, (size_t)rows * row);
    for (int64_t r = 0; r < rows; r++) {
        quantize_row(src + r * cols, cols, each, bits, symmetric, (unsigned char *)dst + (size_t)r * row,
                     scales + r * groups, zeros + r * groups);
    }
    return QD_OK;
}
