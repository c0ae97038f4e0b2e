/* Codes of a codebook in blocks, each with a scale; scales of scales. */
#include <math.h>
#include <stdlib.h>

#include "core/status.h"
#include "qdot/qdot_codebook.h"

/* Stands for scales that are 0 or denormal, whose reciprocal is no float. */
#define LEAST_SCALE 1e-38f

int64_t qd_codebook_blocks(int64_t n, int64_t block) {
    if (n < 0 || block < 0) return -1;
    if (block == 0) return n > 0;
    return n / block + (n % block != 0);
}

/* A book made by this library, sizes and pointers that fit: `what` names the caller. */
static qd_status check(const char *what, const qd_codebook *book, int64_t block, int64_t n, bool pointers) {
    if (!book || book->choices < 1 || book->choices > QD_CODEBOOK_MOST)
        return qd_fail(QD_ERR_ARGUMENT, "%s: the codebook was not made by a function of qdot_codebook.h", what);
    if (n < 0 || block < 0 || n > PTRDIFF_MAX / (int64_t)sizeof(float))
        return qd_fail(QD_ERR_ARGUMENT, "%s: %lld values in blocks of %lld", what, (long long)n, (long long)block);
    if (n > 0 && !pointers) return qd_fail(QD_ERR_ARGUMENT, "%s: no pointer may be NULL", what);
    return QD_OK;
}

static qd_status check_finite(const char *what, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(x[i]))
            return qd_fail(QD_ERR_ARGUMENT, "%s: value %lld is not finite: replace it first", what, (long long)i);
    }
    return QD_OK;
}

static float largest_magnitude(const float *x, int64_t n) {
    float most = 0;
    for (int64_t i = 0; i < n; i++) {
        const float a = fabsf(x[i]);
        most = a > most ? a : most;
    }
    return most;
}

static float root_mean_square(const float *x, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return (float)sqrt(sum / (double)n);
}

/* The scale with which these codes have the least squared error; 0 when they all stand for 0. */
static float fitted_scale(const qd_codebook *book, const float *x, int64_t n, const uint8_t *codes) {
    double product = 0, square = 0;
    for (int64_t i = 0; i < n; i++) {
        const double v = (double)book->value[codes[i]];
        product += v * (double)x[i];
        square += v * v;
    }
    return square > 0 ? (float)(product / square) : 0;
}

static void encode(const qd_codebook *book, const float *x, int64_t n, bool is_short, float scale, uint8_t *codes) {
    const float divisor = scale > LEAST_SCALE ? scale : LEAST_SCALE;
    if (!is_short) {
        qd_codebook_encode(book, x, n, 1 / divisor, codes);
        return;
    }
    for (int64_t i = 0; i < n; i++)
        codes[i] = qd_codebook_nearest(book, x[i] / divisor);
}

static float quantize_block(const qd_codebook *book, const float *x, int64_t n, bool is_short, uint8_t *codes) {
    enum { MOST_TURNS = 16 };
    if (book->scale == QD_SCALE_ABSMAX) {
        const float scale = largest_magnitude(x, n) / book->peak;
        encode(book, x, n, is_short, scale, codes);
        return scale;
    }
    float scale = root_mean_square(x, n);
    encode(book, x, n, is_short, scale, codes);
    for (int turn = 0; book->scale == QD_SCALE_FIT && turn < MOST_TURNS; turn++) {
        const float better = fitted_scale(book, x, n, codes);
        if (better == scale) break;
        scale = better;
        if (turn + 1 < MOST_TURNS) encode(book, x, n, is_short, scale, codes);
    }
    return scale;
}

qd_status qd_codebook_quantize(const qd_codebook *book, int64_t block, const float *x, int64_t n, uint8_t *codes,
                               float *scales) {
    qd_status status = check("qd_codebook_quantize", book, block, n, x && codes && scales);
    if (status == QD_OK) status = check_finite("qd_codebook_quantize", x, n);
    const int64_t each = block ? block : n;
    for (int64_t first = 0, b = 0; status == QD_OK && first < n; first += each, b++) {
        const int64_t here = n - first < each ? n - first : each;
        scales[b] = quantize_block(book, x + first, here, here < each, codes + first);
    }
    return status;
}

qd_status qd_codebook_dequantize(const qd_codebook *book, int64_t block, const uint8_t *codes, const float *scales,
                                 int64_t n, float *y) {
    const qd_status status = check("qd_codebook_dequantize", book, block, n, codes && scales && y);
    const int64_t each = block ? block : n;
    for (int64_t first = 0, b = 0; status == QD_OK && first < n; first += each, b++)
        qd_codebook_decode(book, codes + first, n - first < each ? n - first : each, scales[b], y + first);
    return status;
}

/* ---- Scales of scales --------------------------------------------------------------------------------------- */

qd_status qd_scales_quantize(const qd_codebook *book, int64_t block, const float *scales, int64_t n, float *offset,
                             uint8_t *codes, float *scales2) {
    qd_status status = check("qd_scales_quantize", book, block, n, scales && offset && codes && scales2);
    if (status == QD_OK) status = check_finite("qd_scales_quantize", scales, n);
    if (status != QD_OK || n == 0) return status;
    float *rest = qd_alloc((size_t)n * sizeof *rest);
    if (!rest) return QD_ERR_MEMORY;
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)scales[i];
    const float mean = (float)(sum / (double)n);
    for (int64_t i = 0; i < n; i++)
        rest[i] = scales[i] - mean;
    status = qd_codebook_quantize(book, block, rest, n, codes, scales2);
    if (status == QD_OK) *offset = mean;
    free(rest);
    return status;
}

qd_status qd_scales_dequantize(const qd_codebook *book, int64_t block, float offset, const uint8_t *codes,
                               const float *scales2, int64_t n, float *scales) {
    const qd_status status = qd_codebook_dequantize(book, block, codes, scales2, n, scales);
    for (int64_t i = 0; status == QD_OK && i < n; i++)
        scales[i] += offset;
    return status;
}
