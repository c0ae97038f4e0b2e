/* Format facts, and quantizing with checked arguments. The arithmetic is in formats/. */
#include "core/format.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/status.h"
#include "formats/formats.h"

static const qd_format_info infos[] = {
#define QD_FORMAT(ID, name, block, bytes, gguf, kind) \
    {#name, (block), (bytes), (gguf), QD_KIND_##kind, 8.0 * (bytes) / (block)},
#include "qdot/qdot_formats.def"
};

const qd_format_info *qd_format_get(qd_format f) {
    return (unsigned)f < QD_FORMAT_COUNT ? &infos[f] : NULL;
}

qd_format qd_format_from_gguf(uint32_t gguf_type) {
    for (int f = 0; f < QD_FORMAT_COUNT; f++) {
        if (infos[f].gguf_type >= 0 && (uint32_t)infos[f].gguf_type == gguf_type) return (qd_format)f;
    }
    return QD_FORMAT_COUNT;
}

qd_status qd_format_find(const char *name, qd_format *out) {
    char known[512] = "";
    size_t used = 0;
    if (!name || !out) return qd_fail(QD_ERR_ARGUMENT, "format: pass a name and a place for the result, not NULL");
    for (int f = 0; f < QD_FORMAT_COUNT; f++) {
        if (strcmp(name, infos[f].name) == 0) {
            *out = (qd_format)f;
            return QD_OK;
        }
        const int n = snprintf(known + used, sizeof known - used, " %s", infos[f].name);
        if (n > 0 && (size_t)n < sizeof known - used) used += (size_t)n;
    }
    known[used] = '\0';
    return qd_fail(QD_ERR_ARGUMENT, "unknown format \"%.64s\"; known are:%s", name, known);
}

/* Blocks must be whole; packed codes fill up their last byte. */
static bool whole_blocks(const qd_format_info *info, int64_t cols) {
    return info->kind != QD_KIND_BLOCKED || cols % info->block == 0;
}

size_t qd_format_row_bytes(qd_format f, int64_t cols) {
    const qd_format_info *info = qd_format_get(f);
    size_t bytes;
    if (!info || cols < 0 || !whole_blocks(info, cols)) return 0;
    return __builtin_mul_overflow(cols / info->block + (cols % info->block != 0), info->bytes, &bytes) ? 0 : bytes;
}

/* True when rows × row_bytes is the size that an object can have. */
static bool fits(int64_t rows, size_t row_bytes) {
    ptrdiff_t bytes;
    return !__builtin_mul_overflow(rows, row_bytes, &bytes);
}

/* Checks the arguments that both directions share; `what` starts the message. */
static qd_status check_arguments(const char *what, qd_format f, const void *src, int64_t rows, int64_t cols,
                                 const void *dst) {
    const qd_format_info *info = qd_format_get(f);
    if (!info) return qd_fail(QD_ERR_ARGUMENT, "%s: %d is no format; see qd_format_find", what, (int)f);
    if (!qd_codec_get(f)) {
        return qd_fail(QD_ERR_UNSUPPORTED, "%s: %s holds plain integers, which mean themselves; copy them instead",
                       what, info->name);
    }
    if (rows < 0 || cols < 0) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: %lld rows of %lld columns; neither may be negative", what, (long long)rows,
                       (long long)cols);
    }
    if (!whole_blocks(info, cols)) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: %lld columns are no whole number of %s blocks; pad to a multiple of %d",
                       what, (long long)cols, info->name, info->block);
    }
    if (rows == 0 || cols == 0) return QD_OK;
    const size_t row_bytes = qd_format_row_bytes(f, cols);
    const size_t row_floats = qd_format_row_bytes(QD_FORMAT_F32, cols);
    if (row_bytes == 0 || row_floats == 0 || !fits(rows, row_bytes) || !fits(rows, row_floats)) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: %lld rows of %lld columns are more bytes than memory can hold", what,
                       (long long)rows, (long long)cols);
    }
    if (!src || !dst) return qd_fail(QD_ERR_ARGUMENT, "%s: %s is NULL", what, src ? "dst" : "src");
    return QD_OK;
}

/* A non-finite value would spoil its whole block in a file. A8 takes it as the devices do. */
static bool needs_finite(qd_format f) {
    return infos[f].kind == QD_KIND_BLOCKED && infos[f].gguf_type >= 0;
}

static qd_status check_finite(qd_format f, const float *src, int64_t rows, int64_t cols) {
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t col = 0; col < cols; col++) {
            const float x = src[row * cols + col];
            if (isfinite(x)) continue;
            return qd_fail(QD_ERR_ARGUMENT,
                           "quantize: %s cannot hold the %s at row %lld, column %lld; replace it, or use f16 or bf16",
                           infos[f].name, isnan(x) ? "NaN" : "infinity", (long long)row, (long long)col);
        }
    }
    return QD_OK;
}

static qd_status check_importance(const float *importance, int64_t cols) {
    for (int64_t col = 0; importance && col < cols; col++) {
        if (isfinite(importance[col]) && importance[col] >= 0) continue;
        return qd_fail(QD_ERR_ARGUMENT,
                       "quantize: the importance of column %lld is %g; it must be finite and at least 0",
                       (long long)col, (double)importance[col]);
    }
    return QD_OK;
}

qd_status qd_quantize_weighted(qd_format f, const float *src, int64_t rows, int64_t cols, const float *importance,
                               void *dst) {
    qd_status status;
    QD_TRY(check_arguments("quantize", f, src, rows, cols, dst));
    if (cols == 0) return QD_OK; /* however many rows */
    QD_TRY(check_importance(importance, cols));
    if (needs_finite(f)) QD_TRY(check_finite(f, src, rows, cols));
    const size_t row_bytes = qd_format_row_bytes(f, cols);
    for (int64_t row = 0; row < rows; row++)
        qd_codec_get(f)->quantize_row(src + row * cols, importance, (char *)dst + (size_t)row * row_bytes, cols);
error:
    return status;
}

qd_status qd_quantize(qd_format f, const float *src, int64_t rows, int64_t cols, void *dst) {
    return qd_quantize_weighted(f, src, rows, cols, NULL, dst);
}

qd_status qd_dequantize(qd_format f, const void *src, int64_t rows, int64_t cols, float *dst) {
    qd_status status;
    QD_TRY(check_arguments("dequantize", f, src, rows, cols, dst));
    if (cols == 0) return QD_OK; /* however many rows */
    const size_t row_bytes = qd_format_row_bytes(f, cols);
    for (int64_t row = 0; row < rows; row++) {
        qd_codec_get(f)->dequantize_row((const char *)src + (size_t)row * row_bytes, dst + row * cols, cols);
    }
error:
    return status;
}
