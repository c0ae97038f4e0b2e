/* What the rules of several operators share. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/rules/rules.h"
#include "qdot/qdot_num.h"

qd_tensor_desc qd_sized(const qd_node *n, const qd_tensor *t) {
    qd_tensor_desc d = t->desc;
    if (d.shape[0] == QD_ROWS) d.shape[0] = n->max_rows;
    return d;
}

void qd_strides_of(const qd_node *n, const qd_tensor *t, qd_strides *out) {
    const qd_tensor_desc d = qd_sized(n, t);
    const qd_format_info *f = qd_format_get(d.format);
    int64_t rows = 1;
    for (int i = 3; i >= 0; i--) {
        const int k = d.rank - 4 + i;
        const bool last = i == 3;
        out->n[i] = k < 0 ? 1 : (qd_i32)(last ? d.shape[k] / f->block : d.shape[k]);
        out->step[i] = k < 0 ? 0 : t->window || t->strided ? t->step[k] : last ? f->bytes : rows * (int64_t)t->stride;
        if (!last && k >= 0) rows *= d.shape[k];
    }
}

int64_t qd_span(const qd_tensor_desc *d, int from, int to) {
    int64_t n = 1;
    for (int i = from; i < to; i++)
        n *= d->shape[i];
    return n;
}

/* ---- Codes -------------------------------------------------------------------------------------------------- */

int32_t qd_code_of(qd_format f) {
    switch (f) {
        case QD_FORMAT_I32:
            return QD_CODE(32, 1);
        case QD_FORMAT_I16:
            return QD_CODE(16, 1);
        case QD_FORMAT_U16:
            return QD_CODE(16, 0);
        case QD_FORMAT_I8:
            return QD_CODE(8, 1);
        case QD_FORMAT_U8:
            return QD_CODE(8, 0);
        case QD_FORMAT_I4:
            return QD_CODE(4, 1);
        case QD_FORMAT_U4:
            return QD_CODE(4, 0);
        case QD_FORMAT_I2:
            return QD_CODE(2, 1);
        case QD_FORMAT_U2:
            return QD_CODE(2, 0);
        default:
            return 0;
    }
}

int32_t qd_numbers_of(qd_format f) {
    return f == QD_FORMAT_F32    ? QD_NUMBERS_F32
           : f == QD_FORMAT_F16  ? QD_NUMBERS_F16
           : f == QD_FORMAT_BF16 ? QD_NUMBERS_BF16
                                 : QD_NUMBERS_Q8_0;
}

void qd_code_range(qd_format f, int64_t *min, int64_t *max) {
    const int code = qd_code_of(f), bits = QD_CODE_BITS(code);
    *min = QD_CODE_SIGNED(code) ? -((int64_t)1 << (bits - 1)) : 0;
    *max = *min + ((int64_t)1 << bits) - 1;
}

int64_t qd_code_reach(qd_format f, bool with_zero) {
    int64_t min, max;
    qd_code_range(f, &min, &max);
    return with_zero ? max - min : max > -min ? max : -min;
}

/* ---- Checks ------------------------------------------------------------------------------------------------- */

int32_t qd_share(const qd_tensor *t) {
    return !t ? QD_ABSENT : t->desc.shape[0] == 1 ? QD_SHARED : QD_EACH;
}

qd_status qd_scale_check(const char *op, const char *name, float scale) {
    if (scale > 0 && isfinite(scale)) return QD_OK;
    return qd_fail(QD_ERR_ARGUMENT, "%s: the scale of %s is %g; it must be positive and finite", op, name,
                   (double)scale);
}

qd_status qd_zero_check(const char *op, const char *name, int32_t zero_point, qd_format f) {
    int64_t min, max;
    qd_code_range(f, &min, &max);
    if (zero_point >= min && zero_point <= max) return QD_OK;
    return qd_fail(QD_ERR_ARGUMENT, "%s: the zero point of %s is %d, which is no %s (%lld … %lld)", op, name,
                   zero_point, qd_format_get(f)->name, (long long)min, (long long)max);
}

qd_status qd_same_shape_check(const char *op, const qd_node *n) {
    const qd_tensor_desc x = qd_sized(n, n->in[0]), y = qd_sized(n, n->out[0]);
    if (x.rank == y.rank && !memcmp(x.shape, y.shape, (size_t)x.rank * sizeof *x.shape)) return QD_OK;
    return qd_fail(QD_ERR_ARGUMENT, "%s: x and y must have the same shape", op);
}

qd_status qd_count_check(const char *op, int64_t count) {
    const int64_t limit = INT32_MAX - 65536;
    if (count >= 0 && count <= limit) return QD_OK;
    return qd_fail(QD_ERR_UNSUPPORTED, "%s: a tensor, or one row of it, has more than %lld elements", op,
                   (long long)limit);
}

qd_status qd_output_check(const char *op, const qd_requant *y, qd_format format, const qd_tensor *requant,
                          qd_output *out) {
    if (!requant && format != QD_FORMAT_I32) {
        return qd_fail(QD_ERR_ARGUMENT,
                       "%s: a result of %s needs a requant operand (see qd_requantize_table); without, it is i32", op,
                       qd_format_get(format)->name);
    }
    if ((unsigned)y->rounding > QD_ROUND_FLOAT)
        return qd_fail(QD_ERR_ARGUMENT, "%s: %d is no rounding", op, (int)y->rounding);
    int64_t min, max;
    qd_code_range(format, &min, &max);
    const bool whole = !y->min && !y->max;
    if (!whole && (y->min > y->max || y->min < min || y->max > max)) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: the limits %d … %d are no range of %s codes", op, y->min, y->max,
                       qd_format_get(format)->name);
    }
    if (requant) {
        const qd_status status = qd_zero_check(op, "y", y->zero_point, format);
        if (status) return status;
    }
    *out = (qd_output){.requant = qd_share(requant),
                       .mode = (qd_i32)y->rounding,
                       .zero_point = y->zero_point,
                       .min = whole ? (qd_i32)min : y->min,
                       .max = whole ? (qd_i32)max : y->max,
                       .code = qd_code_of(format)};
    return QD_OK;
}

/* ---- Random problems ---------------------------------------------------------------------------------------- */

uint32_t qd_random_float_bits(uint64_t *stream) {
    const uint64_t r = qd_next_random(stream);
    uint32_t u = (uint32_t)r;
    if (r >> 32 & 1) u = (u & 0x807fffffu) | (uint32_t)qd_between(stream, 95, 150) << 23;
    if (r >> 33 & 1) u = (u & 0xffffe000u) + (uint32_t)qd_between(stream, 0x0ffe, 0x1002);
    return u;
}

int32_t qd_choose_code(qd_choices *c, const char *name, qd_format f) {
    int64_t min, max;
    qd_code_range(f, &min, &max);
    char style_name[32];
    snprintf(style_name, sizeof style_name, "%.15s style", name);
    switch (qd_choose(c, style_name, 0, 3)) {
        case 0:
            return 0;
        case 1:
            return (int32_t)min;
        case 2:
            return (int32_t)max;
        default:
            return (int32_t)qd_choose(c, name, min, max);
    }
}

float qd_choose_scale(qd_choices *c, const char *name) {
    char part[40];
    snprintf(part, sizeof part, "%.12s 2^", name);
    const int exponent = (int)qd_choose(c, part, -10, 2);
    snprintf(part, sizeof part, "%.12s part", name);
    const int64_t style = qd_choose(c, part, 0, 2);
    if (style == 0) return ldexpf(1.0f, exponent);
    uint64_t stream = qd_stream(c, part);
    return ldexpf(1.0f + (float)qd_between(&stream, 1, 999999) * 1e-6f, exponent);
}

qd_requant qd_choose_requant(qd_choices *c, qd_format y) {
    qd_requant r = {.rounding = (qd_rounding)qd_choose(c, "rounding", QD_ROUND_FIXED, QD_ROUND_FLOAT)};
    r.zero_point = qd_choose_code(c, "y zero", y);
    if (!qd_choose(c, "clamp", 0, 2)) return r;
    int64_t min, max;
    qd_code_range(y, &min, &max);
    r.min = (int32_t)qd_choose(c, "min", min / 2, 0);
    r.max = (int32_t)qd_choose(c, "max", 1, max / 2);
    return r;
}

void qd_fill_requant(qd_choices *c, qd_rounding rounding, int64_t n, int32_t *table) {
    const int64_t style = qd_choose(c, "multiplier style", 0, 3);
    uint64_t stream = qd_stream(c, "requant");
    for (int64_t i = 0; i < n; i++) {
        int exponent = (int)qd_between(&stream, -14, -1);
        float part = 1.0f + (float)qd_between(&stream, 0, 999999) * 1e-6f;
        if (style == 0) part = 1.0f;                                  /* powers of two: ties */
        if (style == 2) exponent = (int)qd_between(&stream, -45, 24); /* nothing left of the sum, or far too much */
        if (style == 3) part = 1.0f + (float)qd_between(&stream, -4, 4) * 0x1p-23f;
        const float multiplier = ldexpf(part, exponent);
        /* Divided by what is no power of two, it has all the bits that a mode keeps, not the 24 of a float. */
        qd_requantize_table(rounding, 1.0f, &multiplier, 1, style == 1 ? 1.1f : 1.0f, table + 2 * i);
    }
}

void qd_fill_zeros(qd_choices *c, const char *name, qd_format f, int64_t n, int32_t *zeros) {
    int64_t min, max;
    qd_code_range(f, &min, &max);
    char style_name[32];
    snprintf(style_name, sizeof style_name, "%.15s style", name);
    const int64_t style = qd_choose(c, style_name, 0, 5);
    uint64_t stream = qd_stream(c, name);
    for (int64_t i = 0; i < n; i++) {
        const int64_t any = qd_between(&stream, min, max), beyond = qd_between(&stream, min - 9, max + 9);
        const int64_t ends[] = {min, max, INT32_MIN, INT32_MAX, beyond, any};
        zeros[i] = (int32_t)(style == 0   ? 0
                             : style == 1 ? ends[i % 2]
                             : style == 2 ? ends[1 - i % 2]
                             : style == 3 ? ends[2 + i % 4] /* counts as the nearest code */
                                          : any);
    }
}

void qd_fill_bias(qd_choices *c, int64_t n, int32_t *bias) {
    const int64_t style = qd_choose(c, "bias style", 0, 2);
    uint64_t stream = qd_stream(c, "bias");
    for (int64_t i = 0; i < n; i++) {
        const int64_t any = qd_between(&stream, INT32_MIN, INT32_MAX);
        bias[i] = (int32_t)(style == 0   ? any / 1000000
                            : style == 1 ? any / 1000
                            : i % 3      ? any
                            : i % 2      ? INT32_MAX
                                         : INT32_MIN);
    }
}
