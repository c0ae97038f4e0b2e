/* Number formats: qd_quantize and qd_dequantize. Their outputs are followed by bytes that nothing may write, and a call
 * that fails must leave them all. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/vectors_run.h"

#define GUARD 64
#define GUARD_BYTE 0xa5

static qd_status guarded(qd_vec_run *r, int64_t bytes, unsigned char **out) {
    QD_VEC_TRY(qd_vec_alloc(r, bytes + GUARD, 1, out));
    memset(*out, GUARD_BYTE, (size_t)bytes + GUARD);
    return QD_OK;
}

/* Fails when a byte in [from, to) is not as guarded() left it. */
static qd_status untouched(qd_vec_run *r, const unsigned char *p, size_t from, size_t to) {
    for (size_t i = from; i < to; i++) {
        if (p[i] == GUARD_BYTE) continue;
        return qd_vec_bad(
            r, r->refused ? "wrote byte %zu, although it failed" : "wrote byte %zu, which is beyond its result", i);
    }
    return QD_OK;
}

/* Finds a format by its name in a manifest, where it may stand in capitals; skips the case when there is none. */
static qd_status find_format(qd_vec_run *r, const char *name, qd_format *f) {
    char lower[24] = "";
    for (size_t i = 0; name[i] && i < sizeof lower - 1; i++)
        lower[i] = (char)tolower((unsigned char)name[i]);
    if (qd_format_find(lower, f) == QD_OK) return QD_OK;
    return qd_vec_skip(r, name, "the format %.24s is not there yet", name);
}

/* Rows and columns of a tensor: the last dimension is the columns. */
static void rows_and_columns(const qd_vec_tensor *t, int64_t *rows, int64_t *cols) {
    *cols = t->rank ? t->shape[t->rank - 1] : 1;
    *rows = *cols ? t->count / *cols : 0;
}

/* `row_bytes` bytes of each of `rows` rows to floats, compared with output `name`; *values: those floats. */
static qd_status dequantize(qd_vec_run *r, qd_format f, const void *data, int64_t rows, int64_t row_bytes,
                            const char *name, const float **values) {
    const qd_format_info *info = qd_format_get(f);
    /* The bytes of a part of a block stand for at least one element. */
    const int64_t cols = row_bytes / info->bytes * info->block + (row_bytes % info->bytes != 0);
    const int64_t bytes = rows * cols * (int64_t)sizeof(float);
    const qd_vec_tensor *want;
    unsigned char *y;
    QD_VEC_TRY(qd_vec_want(r, name, &want));
    QD_VEC_TRY(guarded(r, bytes, &y));
    const qd_status status = qd_vec_library(r, qd_dequantize(f, data, rows, cols, (float *)(void *)y));
    QD_VEC_TRY(untouched(r, y, status == QD_OK ? (size_t)bytes : 0, (size_t)bytes + GUARD));
    QD_VEC_TRY(status);
    *values = (const float *)(const void *)y;
    return qd_vec_judge(r, want, y, (size_t)bytes);
}

/* Input x to format f, compared with output `packed`; what that gives back, *values, is compared with output
 * "dequantized", where there is one. */
static qd_status quantize(qd_vec_run *r, qd_format f, const char *packed, const float **values) {
    const qd_vec_tensor *x, *want;
    int64_t rows, cols;
    unsigned char *data;
    QD_VEC_TRY(qd_vec_need(r, "x", &x));
    QD_VEC_TRY(qd_vec_want(r, packed, &want));
    if (x->dtype != QD_VEC_F32) return qd_vec_bad(r, "x must be f32");
    rows_and_columns(x, &rows, &cols);
    const qd_format_info *info = qd_format_get(f);
    const int64_t bytes = rows * (cols / info->block + 1) * info->bytes; /* enough for any remainder */
    QD_VEC_TRY(guarded(r, bytes, &data));
    const qd_status status = qd_vec_library(r, qd_quantize(f, x->data, rows, cols, data));
    const size_t used = status == QD_OK ? (size_t)rows * qd_format_row_bytes(f, cols) : 0;
    QD_VEC_TRY(untouched(r, data, used, (size_t)bytes + GUARD));
    QD_VEC_TRY(status);
    QD_VEC_TRY(qd_vec_judge(r, want, data, used));
    *values = NULL;
    if (!qd_vec_output(r->c, "dequantized")) return QD_OK;
    return dequantize(r, f, data, rows, (int64_t)qd_format_row_bytes(f, cols), "dequantized", values);
}

/* The case's format, whose block must be the manifest's. */
static qd_status case_format(qd_vec_run *r, qd_format *f) {
    int64_t block, bytes;
    if (!r->c->format) return qd_vec_bad(r, "the case names no format");
    QD_VEC_TRY(find_format(r, r->c->format, f));
    const qd_format_info *info = qd_format_get(*f);
    QD_VEC_TRY(qd_vec_attr(r, "block_size", info->block, 1, 1 << 20, &block));
    QD_VEC_TRY(qd_vec_attr(r, "type_size", info->bytes, 1, 1 << 20, &bytes));
    if (block == info->block && bytes == info->bytes) return QD_OK;
    return qd_vec_bad(r, "%s has blocks of %d elements in %d bytes, not of %lld in %lld", info->name, info->block,
                      info->bytes, (long long)block, (long long)bytes);
}

qd_status qd_vec_gguf_quantize(qd_vec_run *r) {
    const float *values;
    qd_format f;
    QD_VEC_TRY(case_format(r, &f));
    return quantize(r, f, qd_vec_output(r->c, "y") ? "y" : "data", &values);
}

/* Bytes of a search are an example: the root of the mean squared error is what has a bound. */
qd_status qd_vec_bounded_quantize(qd_vec_run *r) {
    const qd_vec_tensor *x;
    const float *values;
    qd_format f;
    QD_VEC_TRY(case_format(r, &f));
    QD_VEC_TRY(quantize(r, f, "data", &values));
    QD_VEC_TRY(qd_vec_need(r, "x", &x));
    if (!values) return QD_OK; /* an error case that did not fail */
    double sum = 0;
    for (int64_t i = 0; i < x->count; i++) {
        const double error = qd_vec_float(x, i) - (double)values[i];
        sum += error * error;
    }
    return qd_vec_quality(r, sqrt(sum / (double)x->count));
}

qd_status qd_vec_gguf_dequantize(qd_vec_run *r) {
    const qd_vec_tensor *data;
    int64_t rows, row_bytes;
    qd_format f;
    QD_VEC_TRY(case_format(r, &f));
    const float *values;
    QD_VEC_TRY(qd_vec_need(r, "data", &data));
    if (data->dtype != QD_VEC_U8) return qd_vec_bad(r, "data must be u8");
    rows_and_columns(data, &rows, &row_bytes);
    return dequantize(r, f, data->data, rows, row_bytes, "y", &values);
}

qd_status qd_vec_cast(qd_vec_run *r) {
    const char *from = qd_vec_attr_text(r, "from", NULL), *to = qd_vec_attr_text(r, "to", NULL);
    const qd_vec_tensor *x;
    qd_format f;
    if (!from || !to) return qd_vec_bad(r, "the manifest lacks the attributes from and to");
    const bool encodes = strcmp(from, "f32") == 0;
    if (!encodes && strcmp(to, "f32") != 0) return qd_vec_skip(r, "cast", "no cast of %.20s to %.20s yet", from, to);
    QD_VEC_TRY(find_format(r, encodes ? to : from, &f));
    const float *values;
    if (encodes) return quantize(r, f, "y", &values);
    QD_VEC_TRY(qd_vec_need(r, "x", &x));
    return dequantize(r, f, x->data, 1, (int64_t)x->bytes, "y", &values);
}
