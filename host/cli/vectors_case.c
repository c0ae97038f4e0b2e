/* The steps of a case: checked inputs and attributes, tensors with packed codes, operators, and judged outputs. */
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/vectors_run.h"

/* ---- How a case ends ---------------------------------------------------------------------------------------- */

qd_status qd_vec_skip(qd_vec_run *r, const char *part, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(r->text, sizeof r->text, format, args);
    va_end(args);
    snprintf(r->part, sizeof r->part, "%s", part);
    r->skipped = true;
    return QD_ERR_UNSUPPORTED;
}

qd_status qd_vec_bad(qd_vec_run *r, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(r->text, sizeof r->text, format, args);
    va_end(args);
    r->refused = false;
    return QD_ERR_FILE;
}

qd_status qd_vec_library(qd_vec_run *r, qd_status s) {
    if (s == QD_OK) return s;
    r->refused = s == QD_ERR_ARGUMENT;
    snprintf(r->text, sizeof r->text, "%s: %.220s", qd_status_name(s), qd_last_message());
    return s;
}

/* ---- What a run owns ---------------------------------------------------------------------------------------- */

/* A tensor, or the memory behind this header. */
typedef struct qd_vec_owned {
    struct qd_vec_owned *next;
    qd_tensor *tensor;
    max_align_t memory[];
} owned;

static owned *own(qd_vec_run *r, size_t bytes) {
    owned *o = bytes < SIZE_MAX - sizeof *o ? calloc(1, sizeof *o + bytes) : NULL;
    if (!o) {
        qd_vec_bad(r, "out of memory");
        return NULL;
    }
    o->next = r->owned;
    r->owned = o;
    return o;
}

void qd_vec_release(qd_vec_run *r) {
    /* Tensors first: they may borrow memory. */
    for (const owned *o = r->owned; o; o = o->next)
        qd_tensor_free(o->tensor);
    while (r->owned) {
        owned *o = r->owned;
        r->owned = o->next;
        free(o);
    }
}

qd_status qd_vec_alloc(qd_vec_run *r, int64_t count, size_t bytes, void *out) {
    size_t total;
    if (count < 0 || __builtin_mul_overflow((size_t)count, bytes, &total))
        return qd_vec_bad(r, "a tensor is too large");
    owned *o = own(r, total);
    if (!o) return QD_ERR_MEMORY;
    void *p = o->memory;
    memcpy(out, &p, sizeof p);
    return QD_OK;
}

/* ---- Inputs and attributes ---------------------------------------------------------------------------------- */

qd_status qd_vec_need(qd_vec_run *r, const char *name, const qd_vec_tensor **out) {
    *out = qd_vec_input(r->c, name);
    return *out ? QD_OK : qd_vec_bad(r, "the manifest lacks the input %s", name);
}

qd_status qd_vec_need_f32(qd_vec_run *r, const char *name, const qd_vec_tensor **t, const float **values) {
    QD_VEC_TRY(qd_vec_need(r, name, t));
    if ((*t)->dtype != QD_VEC_F32) return qd_vec_bad(r, "%s must be f32", name);
    *values = (*t)->data;
    return QD_OK;
}

static bool whole_number(const cJSON *item, int64_t least, int64_t most, int64_t *out) {
    if (cJSON_IsBool(item)) {
        *out = cJSON_IsTrue(item);
        return true;
    }
    if (!cJSON_IsNumber(item)) return false;
    const double d = item->valuedouble;
    if (!(d >= (double)least && d <= (double)most) || d != floor(d)) return false;
    *out = (int64_t)d;
    return true;
}

qd_status qd_vec_attr(qd_vec_run *r, const char *key, int64_t otherwise, int64_t least, int64_t most, int64_t *out) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(r->c->attrs, key);
    *out = otherwise;
    if (!item || whole_number(item, least, most, out)) return QD_OK;
    return qd_vec_bad(r, "the attribute %s is no integer from %lld to %lld", key, (long long)least, (long long)most);
}

qd_status qd_vec_attr_needed(qd_vec_run *r, const char *key, int64_t least, int64_t most, int64_t *out) {
    if (!cJSON_HasObjectItem(r->c->attrs, key)) return qd_vec_bad(r, "the manifest lacks the attribute %s", key);
    return qd_vec_attr(r, key, least, least, most, out);
}

qd_status qd_vec_attr_list(qd_vec_run *r, const char *key, int n, int64_t otherwise, int64_t *out) {
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(r->c->attrs, key), *item;
    for (int i = 0; i < n; i++)
        out[i] = otherwise;
    if (!list) return QD_OK;
    bool good = cJSON_IsArray(list) && cJSON_GetArraySize(list) == n;
    int at = 0;
    cJSON_ArrayForEach(item, list) {
        good = good && whole_number(item, 0, 1 << 30, &out[at++]);
    }
    return good ? QD_OK : qd_vec_bad(r, "the attribute %s is no list of %d integers that are not negative", key, n);
}

const char *qd_vec_attr_text(const qd_vec_run *r, const char *key, const char *otherwise) {
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(r->c->attrs, key));
    return text ? text : otherwise;
}

qd_status qd_vec_floats(qd_vec_run *r, const qd_vec_tensor *t, float **out) {
    if (!qd_vec_is_float(t->dtype))
        return qd_vec_bad(r, "%.32s is %s, not floats", t->name, qd_vec_dtype_name(t->dtype));
    QD_VEC_TRY(qd_vec_alloc(r, t->count, sizeof **out, out));
    for (int64_t i = 0; i < t->count; i++)
        (*out)[i] = (float)qd_vec_float(t, i);
    return QD_OK;
}

/* Element i of a tensor of integers. */
static int64_t integer_at(qd_vec_dtype dtype, const void *data, int64_t i) {
    switch (dtype) {
        case QD_VEC_U8:
            return ((const uint8_t *)data)[i];
        case QD_VEC_I8:
            return ((const int8_t *)data)[i];
        case QD_VEC_U16:
            return ((const uint16_t *)data)[i];
        case QD_VEC_I16:
            return ((const int16_t *)data)[i];
        case QD_VEC_U32:
            return ((const uint32_t *)data)[i];
        case QD_VEC_I32:
            return ((const int32_t *)data)[i];
        default:
            return ((const int64_t *)data)[i];
    }
}

qd_status qd_vec_ints(qd_vec_run *r, const qd_vec_tensor *t, int32_t **out) {
    if (qd_vec_is_float(t->dtype))
        return qd_vec_bad(r, "%.32s is %s, not integers", t->name, qd_vec_dtype_name(t->dtype));
    QD_VEC_TRY(qd_vec_alloc(r, t->count, sizeof **out, out));
    for (int64_t i = 0; i < t->count; i++) {
        const int64_t v = integer_at(t->dtype, t->data, i);
        if (v < INT32_MIN || v > INT32_MAX) return qd_vec_bad(r, "%.32s has a value beyond 32 bits", t->name);
        (*out)[i] = (int32_t)v;
    }
    return QD_OK;
}

qd_status qd_vec_scale(qd_vec_run *r, const char *name, float *out) {
    const qd_vec_tensor *t;
    float *values;
    QD_VEC_TRY(qd_vec_need(r, name, &t));
    QD_VEC_TRY(qd_vec_floats(r, t, &values));
    if (t->count != 1) return qd_vec_bad(r, "%s has %lld values where 1 is meant", name, (long long)t->count);
    *out = values[0];
    return QD_OK;
}

qd_status qd_vec_zero(qd_vec_run *r, const char *name, int32_t *out) {
    const qd_vec_tensor *t = qd_vec_input(r->c, name);
    int32_t *values;
    *out = 0;
    if (!t) return QD_OK;
    QD_VEC_TRY(qd_vec_ints(r, t, &values));
    if (t->count != 1) return qd_vec_bad(r, "%s has %lld values where 1 is meant", name, (long long)t->count);
    *out = values[0];
    return QD_OK;
}

qd_status qd_vec_quant(qd_vec_run *r, const char *name, qd_quant *out) {
    char scale[48], zero[48];
    snprintf(scale, sizeof scale, "%.24s_scale", name);
    snprintf(zero, sizeof zero, "%.24s_zero_point", name);
    QD_VEC_TRY(qd_vec_scale(r, scale, &out->scale));
    return qd_vec_zero(r, zero, &out->zero_point);
}

/* ---- Formats and packing ------------------------------------------------------------------------------------ */

qd_status qd_vec_format(qd_vec_run *r, const qd_vec_tensor *t, qd_format *out) {
    static const struct {
        const char *logical;
        qd_vec_dtype dtype;
        qd_format format;
    } small[] = {
        {"u4", QD_VEC_U8, QD_FORMAT_U4},           {"i4", QD_VEC_I8, QD_FORMAT_I4},
        {"u2", QD_VEC_U8, QD_FORMAT_U2},           {"i2", QD_VEC_I8, QD_FORMAT_I2},
        {"u8", QD_VEC_U8, QD_FORMAT_U8},           {"i8", QD_VEC_I8, QD_FORMAT_I8},
        {"f8e4m3fn", QD_VEC_U8, QD_FORMAT_F8E4M3}, {"f8e5m2", QD_VEC_U8, QD_FORMAT_F8E5M2},
        {"f4e2m1fn", QD_VEC_U8, QD_FORMAT_F4E2M1},
    };
    static const qd_format plain[QD_VEC_DTYPE_COUNT] = {
        [QD_VEC_F64] = QD_FORMAT_COUNT, [QD_VEC_F32] = QD_FORMAT_F32,   [QD_VEC_F16] = QD_FORMAT_F16,
        [QD_VEC_BF16] = QD_FORMAT_BF16, [QD_VEC_U8] = QD_FORMAT_U8,     [QD_VEC_I8] = QD_FORMAT_I8,
        [QD_VEC_U16] = QD_FORMAT_U16,   [QD_VEC_I16] = QD_FORMAT_I16,   [QD_VEC_U32] = QD_FORMAT_COUNT,
        [QD_VEC_I32] = QD_FORMAT_I32,   [QD_VEC_I64] = QD_FORMAT_COUNT,
    };
    *out = t->logical ? QD_FORMAT_COUNT : plain[t->dtype];
    for (size_t i = 0; t->logical && i < sizeof small / sizeof small[0]; i++) {
        if (strcmp(t->logical, small[i].logical) != 0) continue;
        if (t->dtype != small[i].dtype) {
            return qd_vec_bad(r, "%.32s is %s, which does not hold %s", t->name, qd_vec_dtype_name(t->dtype),
                              t->logical);
        }
        *out = small[i].format;
    }
    if (*out != QD_FORMAT_COUNT) return QD_OK;
    const char *type = t->logical ? t->logical : qd_vec_dtype_name(t->dtype);
    return qd_vec_skip(r, type, "no tensors of %.32s yet", type);
}

qd_tensor_desc qd_vec_shape(qd_format f, int rank, const int64_t *shape) {
    qd_tensor_desc d = {.format = f, .rank = rank};
    memcpy(d.shape, shape, (size_t)rank * sizeof *shape);
    return d;
}

qd_tensor_desc qd_vec_desc(qd_format f, const qd_vec_tensor *t) {
    static const int64_t one[] = {1};
    return t->rank ? qd_vec_shape(f, t->rank < QD_MAX_RANK ? t->rank : QD_MAX_RANK, t->shape) : qd_vec_shape(f, 1, one);
}

static int64_t elements(const qd_tensor_desc *d) {
    int64_t n = 1;
    for (int i = 0; i < d->rank; i++)
        n *= d->shape[i];
    return n;
}

/* Bits of one code that stands in less than a byte; 0 for other formats. */
static int packed_bits(qd_format f) {
    const qd_format_info *info = qd_format_get(f);
    return info->kind != QD_KIND_BLOCKED && info->block > 1 ? 8 / info->block : 0;
}

/* One code per byte to packed rows. */
static qd_status pack(qd_vec_run *r, const qd_vec_tensor *t, const qd_tensor_desc *d, int bits, uint8_t *packed) {
    const int64_t cols = d->shape[d->rank - 1], rows = cols ? t->count / cols : 0;
    const size_t row_bytes = qd_format_row_bytes(d->format, cols);
    const int least = t->dtype == QD_VEC_I8 ? -(1 << (bits - 1)) : 0, most = least + (1 << bits) - 1;
    for (int64_t i = 0; i < rows * cols; i++) {
        const int code = (int)integer_at(t->dtype, t->data, i);
        if (code < least || code > most) return qd_vec_bad(r, "%.32s has a code that is no %s", t->name, t->logical);
        const int64_t bit = i % cols * bits;
        packed[(size_t)(i / cols) * row_bytes + (size_t)(bit / 8)] |=
            (uint8_t)((code & ((1 << bits) - 1)) << (bit % 8));
    }
    return QD_OK;
}

/* ---- Tensors and operators ---------------------------------------------------------------------------------- */

qd_status qd_vec_make(qd_vec_run *r, const qd_tensor_desc *d, qd_tensor **out) {
    owned *o = own(r, 0);
    if (!o) return QD_ERR_MEMORY;
    QD_VEC_TRY(qd_vec_library(r, qd_tensor_create(r->context, d, &o->tensor)));
    *out = o->tensor;
    return QD_OK;
}

qd_status qd_vec_put(qd_vec_run *r, const qd_tensor_desc *d, const void *bytes, bool constant, qd_tensor **out) {
    if (!constant) {
        QD_VEC_TRY(qd_vec_make(r, d, out));
        return qd_vec_library(r, qd_tensor_write(*out, 0, bytes, qd_desc_bytes(d)));
    }
    owned *o = own(r, 0);
    if (!o) return QD_ERR_MEMORY;
    QD_VEC_TRY(qd_vec_library(r, qd_tensor_constant(r->context, d, bytes, &o->tensor)));
    *out = o->tensor;
    return QD_OK;
}

qd_status qd_vec_load(qd_vec_run *r, const qd_vec_tensor *t, const qd_tensor_desc *d, bool constant, qd_tensor **out) {
    const int bits = packed_bits(d->format);
    if (elements(d) != t->count) return qd_vec_bad(r, "%.32s has not the shape that the case needs", t->name);
    if (!bits) {
        const size_t bytes = qd_desc_bytes(d);
        if (bytes != t->bytes) return qd_vec_bad(r, "%.32s has not the type that the case needs", t->name);
        return qd_vec_put(r, d, t->data, constant, out);
    }
    uint8_t *packed;
    QD_VEC_TRY(qd_vec_alloc(r, (int64_t)qd_desc_bytes(d), 1, &packed));
    QD_VEC_TRY(pack(r, t, d, bits, packed));
    return qd_vec_put(r, d, packed, constant, out);
}

qd_status qd_vec_put_ints(qd_vec_run *r, const int32_t *values, int64_t n, qd_tensor **out) {
    const qd_tensor_desc d = qd_vec_shape(QD_FORMAT_I32, 1, &n);
    return qd_vec_put(r, &d, values, true, out);
}

qd_status qd_vec_put_floats(qd_vec_run *r, const float *values, int64_t n, qd_tensor **out) {
    const qd_tensor_desc d = qd_vec_shape(QD_FORMAT_F32, 1, &n);
    return qd_vec_put(r, &d, values, true, out);
}

qd_status qd_vec_put_requant(qd_vec_run *r, const int32_t *table, int64_t n, qd_tensor **out) {
    const int64_t shape[] = {n, 2};
    const qd_tensor_desc d = qd_vec_shape(QD_FORMAT_I32, 2, shape);
    return qd_vec_put(r, &d, table, true, out);
}

qd_status qd_vec_load_ints(qd_vec_run *r, const char *name, qd_tensor **out) {
    const qd_vec_tensor *t = qd_vec_input(r->c, name);
    int32_t *values;
    *out = NULL;
    if (!t) return QD_OK;
    QD_VEC_TRY(qd_vec_ints(r, t, &values));
    return qd_vec_put_ints(r, values, t->count, out);
}

qd_status qd_vec_op(qd_vec_run *r, qd_op op, const qd_attrs *attrs, qd_tensor *const in[], int n_in,
                    qd_tensor *const out[], int n_out) {
    qd_plan *plan = NULL;
    qd_status s = qd_plan_create(r->context, op, attrs, in, n_in, out, n_out, &plan);
    if (s == QD_OK) s = qd_plan_run(plan);
    if (s == QD_OK) s = qd_context_finish(r->context);
    if (s == QD_OK) {
        r->ops++;
        r->fallbacks += strcmp(qd_plan_variant(plan), "reference") == 0;
    }
    qd_plan_free(plan);
    return qd_vec_library(r, s);
}

qd_status qd_vec_requant(qd_vec_run *r, qd_rounding rounding, float x_scale, const float *w_scale, int64_t n,
                         float y_scale, qd_tensor **out) {
    int32_t *table;
    QD_VEC_TRY(qd_vec_alloc(r, n, 2 * sizeof *table, &table));
    QD_VEC_TRY(qd_vec_library(r, qd_requantize_table(rounding, x_scale, w_scale, n, y_scale, table)));
    return qd_vec_put_requant(r, table, n, out);
}

/* ---- Outputs ------------------------------------------------------------------------------------------------ */

qd_status qd_vec_want(qd_vec_run *r, const char *name, const qd_vec_tensor **out) {
    *out = qd_vec_output(r->c, name);
    return *out || r->c->must_fail ? QD_OK : qd_vec_bad(r, "the manifest lacks the output %s", name);
}

/* Element i of a tensor's bytes: the integer, or the code of a small float. */
static int64_t fetch(const qd_tensor_desc *d, const void *bytes, int64_t i) {
    const int bits = packed_bits(d->format);
    if (bits) {
        const int64_t cols = d->shape[d->rank - 1], bit = i % cols * bits;
        const size_t row = qd_format_row_bytes(d->format, cols);
        const int byte = ((const uint8_t *)bytes)[(size_t)(i / cols) * row + (size_t)(bit / 8)];
        const int code = byte >> (bit % 8) & ((1 << bits) - 1), sign = 1 << (bits - 1);
        const bool is_signed = d->format == QD_FORMAT_I4 || d->format == QD_FORMAT_I2;
        return is_signed && (code & sign) ? code - 2 * sign : code;
    }
    switch (d->format) {
        case QD_FORMAT_I32:
            return integer_at(QD_VEC_I32, bytes, i);
        case QD_FORMAT_I16:
            return integer_at(QD_VEC_I16, bytes, i);
        case QD_FORMAT_U16:
            return integer_at(QD_VEC_U16, bytes, i);
        case QD_FORMAT_I8:
            return integer_at(QD_VEC_I8, bytes, i);
        default:
            return integer_at(QD_VEC_U8, bytes, i);
    }
}

/* Results of f32 may be asked for as bf16, which the host rounds them to. */
static qd_status float_values(qd_vec_run *r, const qd_tensor_desc *d, const void *bytes, int64_t n, qd_vec_dtype dtype,
                              void *values) {
    const bool half = d->format == QD_FORMAT_F16;
    if (half ? dtype == QD_VEC_F16 : dtype == QD_VEC_F32) {
        memcpy(values, bytes, qd_desc_bytes(d));
        return QD_OK;
    }
    if (half || dtype != QD_VEC_BF16) return qd_vec_bad(r, "no floats of %s are computed", qd_vec_dtype_name(dtype));
    return qd_vec_library(r, qd_quantize(QD_FORMAT_BF16, bytes, 1, n, values));
}

static bool holds_floats(qd_format f) {
    return f == QD_FORMAT_F32 || f == QD_FORMAT_F16;
}

qd_status qd_vec_values(qd_vec_run *r, qd_tensor *t, qd_vec_dtype dtype, void **values) {
    const qd_tensor_desc d = *qd_tensor_describe(t);
    const size_t size = qd_desc_bytes(&d);
    const int64_t n = elements(&d);
    void *bytes;
    if (holds_floats(d.format) != qd_vec_is_float(dtype)) {
        return qd_vec_bad(r, "an output is %s, but %s was computed", qd_vec_dtype_name(dtype),
                          qd_format_get(d.format)->name);
    }
    QD_VEC_TRY(qd_vec_alloc(r, (int64_t)size, 1, &bytes));
    QD_VEC_TRY(qd_vec_alloc(r, n, qd_vec_dtype_bytes(dtype), values));
    QD_VEC_TRY(qd_vec_library(r, qd_tensor_read(t, 0, bytes, size)));
    if (holds_floats(d.format)) return float_values(r, &d, bytes, n, dtype, *values);
    const size_t element = qd_vec_dtype_bytes(dtype);
    for (int64_t i = 0; i < n; i++) {
        const int64_t whole = fetch(&d, bytes, i);
        memcpy((char *)*values + (size_t)i * element, &whole, element); /* the low bytes */
        if (integer_at(dtype, *values, i) == whole) continue;
        return qd_vec_bad(r, "element %lld is %lld, which is no %s", (long long)i, (long long)whole,
                          qd_vec_dtype_name(dtype));
    }
    return QD_OK;
}

qd_status qd_vec_judge(qd_vec_run *r, const qd_vec_tensor *want, const void *values, size_t bytes) {
    qd_vec_result result;
    if (!want) return QD_OK; /* an error case that did not fail: said at its end */
    if (want - r->c->outputs < QD_VEC_OUTPUTS) r->compared[want - r->c->outputs] = true;
    if (qd_vec_compare(r->c, want, values, bytes, &r->options, &result) != QD_OK) {
        return qd_vec_bad(r, "%.200s", qd_vec_message());
    }
    switch (result.verdict) {
        case QD_VEC_PASS:
            return QD_OK;
        case QD_VEC_RELAXED:
            r->relaxed = true;
            if (!r->different) snprintf(r->text, sizeof r->text, "%s", result.first);
            return QD_OK;
        case QD_VEC_INFORMATIVE:
            if (want - r->c->outputs < QD_VEC_OUTPUTS) r->compared[want - r->c->outputs] = false;
            return QD_OK; /* qd_vec_quality judges it */
        default:
            if (!r->different) {
                snprintf(r->text, sizeof r->text, "%lld different: %s", (long long)result.different, result.first);
            }
            r->different = true;
            return QD_OK;
    }
}

qd_status qd_vec_quality(qd_vec_run *r, double measured) {
    double limit;
    if (qd_vec_quality_limit(r->c, &limit) != QD_OK) return qd_vec_bad(r, "%.200s", qd_vec_message());
    for (int i = 0; i < r->c->output_count && i < QD_VEC_OUTPUTS; i++) {
        const cJSON *tolerance = cJSON_GetObjectItemCaseSensitive(r->c->outputs[i].json, "tolerance");
        r->compared[i] = r->compared[i] || cJSON_HasObjectItem(tolerance, "informative");
    }
    if (measured <= limit) return QD_OK;
    if (!r->different) snprintf(r->text, sizeof r->text, "the error is %g, above %g", measured, limit);
    r->different = true;
    return QD_OK;
}

qd_status qd_vec_check(qd_vec_run *r, const qd_vec_tensor *want, qd_tensor *t) {
    void *values;
    if (!want) return QD_OK;
    QD_VEC_TRY(qd_vec_values(r, t, want->dtype, &values));
    const qd_tensor_desc d = *qd_tensor_describe(t);
    return qd_vec_judge(r, want, values, (size_t)elements(&d) * qd_vec_dtype_bytes(want->dtype));
}
