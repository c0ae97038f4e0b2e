/* The layouts of bitsandbytes: 4-bit codes of blocks in flat memory, and rows of int8. */
#include <math.h>
#include <stdlib.h>

#include "core/status.h"
#include "qdot/qdot_codebook.h"
#include "qdot/qdot_num.h"
#include "qdot/qdot_packing.h"

static qd_status check(const char *what, const qd_codebook *book, int64_t block, int64_t n, const void *packed) {
    if (block < 32 || block > 4096 || (block & (block - 1)))
        return qd_fail(QD_ERR_ARGUMENT, "%s: blocks of %lld values: powers of two from 32 to 4096", what,
                       (long long)block);
    if (!book || book->bits != 4) return qd_fail(QD_ERR_ARGUMENT, "%s: a codebook of 4 bits is needed", what);
    if (n < 0 || (n > 0 && !packed)) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: %lld values, and the packed codes may not be NULL", what, (long long)n);
    }
    return QD_OK;
}

qd_status qd_quantize_4bit(const qd_codebook *book, int64_t block, const float *x, int64_t n, uint8_t *packed,
                           float *absmax) {
    qd_status status = check("qd_quantize_4bit", book, block, n, packed);
    if (status != QD_OK || n == 0) return status;
    uint8_t *codes = qd_alloc((size_t)n);
    if (!codes) return QD_ERR_MEMORY;
    status = qd_codebook_quantize(book, block, x, n, codes, absmax);
    if (status == QD_OK) status = qd_pack(QD_PACKING_HIGH_FIRST, 4, codes, n, packed);
    free(codes);
    return status;
}

qd_status qd_dequantize_4bit(const qd_codebook *book, int64_t block, const uint8_t *packed, const float *absmax,
                             int64_t n, float *y) {
    qd_status status = check("qd_dequantize_4bit", book, block, n, packed);
    if (status != QD_OK || n == 0) return status;
    uint8_t *codes = qd_alloc((size_t)n);
    if (!codes) return QD_ERR_MEMORY;
    status = qd_unpack(QD_PACKING_HIGH_FIRST, 4, packed, n, codes);
    if (status == QD_OK) status = qd_codebook_dequantize(book, block, codes, absmax, n, y);
    free(codes);
    return status;
}

/* The largest magnitude of finite values; -1 when one is not finite. */
static float largest_magnitude(const float *x, int64_t n) {
    float most = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) return -1;
        most = fmaxf(most, fabsf(x[i]));
    }
    return most;
}

qd_status qd_quantize_rowwise(const float *x, int64_t rows, int64_t cols, int8_t *codes, float *absmax) {
    int64_t count;
    if (rows < 0 || cols < 0 || __builtin_mul_overflow(rows, cols, &count) ||
        count > PTRDIFF_MAX / (int64_t)sizeof *x) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_quantize_rowwise: %lld rows of %lld columns", (long long)rows,
                       (long long)cols);
    }
    if ((rows && !absmax) || (count && (!x || !codes)))
        return qd_fail(QD_ERR_ARGUMENT, "qd_quantize_rowwise: no pointer may be NULL");
    if (largest_magnitude(x, count) < 0)
        return qd_fail(QD_ERR_ARGUMENT, "qd_quantize_rowwise: a value is not finite: replace it first");
    for (int64_t r = 0; r < rows; r++) {
        const float *row = x + r * cols;
        absmax[r] = largest_magnitude(row, cols);
        const float factor = 127 / absmax[r], inverse = isfinite(factor) ? factor : 0;
        for (int64_t i = 0; i < cols; i++)
            codes[r * cols + i] = (int8_t)qd_round_even(row[i] * inverse);
    }
    return QD_OK;
}
