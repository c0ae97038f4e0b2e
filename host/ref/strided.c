/* Operators whose operands may have any strides: copies, rows that ids name, functions of elements. */
#include <stdlib.h>
#include <string.h>

#include "formats/formats.h"
#include "ref/ref.h"

/* Element of an operand; `index` has four dimensions, those of t being the last ones. Indices beyond a size of t are
 * taken modulo that size. Of a format with blocks: their first byte, the last index counts blocks. */
static void *element(const qd_tensor *t, qd_operand o, const int64_t index[4]) {
    const int rank = t->desc.rank;
    int64_t at = 0, rows = 1;
    for (int k = rank - 1; k >= 0; k--) {
        const bool last = k == rank - 1;
        const qd_format_info *f = qd_format_get(t->desc.format);
        const int64_t size = last ? t->desc.shape[k] / f->block : t->desc.shape[k];
        const int64_t i = t->desc.shape[k] == QD_ROWS ? index[4 - rank + k] : index[4 - rank + k] % size;
        at += i * (t->strided ? t->step[k] : last ? f->bytes : (int64_t)o.stride * rows);
        if (!last) rows *= size;
    }
    return (char *)o.data + at;
}

/* The next index of a tensor of `rows` rows, the last dimension first; false behind the end. All 0 at the start. */
static bool next(const qd_tensor_desc *d, int64_t rows, int64_t index[4]) {
    for (int k = d->rank - 1; k >= 0; k--) {
        int64_t *i = &index[4 - d->rank + k];
        if (++*i < (k ? d->shape[k] : rows)) return true;
        *i = 0;
    }
    return false;
}

/* ---- COPY --------------------------------------------------------------------------------------------------- */

static float value_of(qd_format f, const void *x) {
    switch (f) {
        case QD_FORMAT_F16:
            return qd_half_to_float(*(const uint16_t *)x);
        case QD_FORMAT_BF16:
            return qd_bf16_to_float(*(const uint16_t *)x);
        case QD_FORMAT_I32:
            return (float)*(const int32_t *)x;
        case QD_FORMAT_I8:
            return (float)*(const int8_t *)x;
        case QD_FORMAT_U8:
            return (float)*(const uint8_t *)x;
        default:
            return *(const float *)x;
    }
}

static void store(qd_format f, float x, void *y) {
    switch (f) {
        case QD_FORMAT_F16:
            *(uint16_t *)y = qd_float_to_half(x);
            break;
        case QD_FORMAT_BF16:
            *(uint16_t *)y = qd_float_to_bf16(x);
            break;
        default:
            *(float *)y = x;
            break;
    }
}

qd_status qd_ref_copy(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_tensor *x = n->in[0], *y = n->out[0];
    int64_t index[4] = {0};
    if (!rows) return QD_OK;
    do {
        const void *from = element(x, in[0], index);
        void *to = element(y, out[0], index);
        if (x->desc.format == y->desc.format) {
            memcpy(to, from, (size_t)qd_format_get(x->desc.format)->bytes);
        } else {
            store(y->desc.format, value_of(x->desc.format, from), to);
        }
    } while (next(&y->desc, rows, index));
    return QD_OK;
}

/* ---- SET_ROWS ----------------------------------------------------------------------------------------------- */

qd_status qd_ref_set_rows(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_tensor *x = n->in[0], *y = n->out[0];
    const int64_t cols = qd_columns(x), count = y->desc.shape[y->desc.rank - 2];
    const qd_format_info *f = qd_format_get(y->desc.format);
    float *values = rows ? qd_alloc((size_t)cols * sizeof *values) : NULL;
    unsigned char *bytes = rows ? qd_alloc(qd_format_row_bytes(y->desc.format, cols)) : NULL;
    const qd_status status = rows && (!values || !bytes) ? QD_ERR_MEMORY : QD_OK;
    int64_t index[4] = {0};
    for (bool more = rows && !status; more;) {
        const int32_t id = *(const int32_t *)element(n->in[1], in[1], (int64_t[4]){0, index[0], index[1], index[2]});
        int64_t to[4] = {index[0], index[1], id, 0};
        do {
            values[index[3]] = *(const float *)element(x, in[0], index);
            more = next(&x->desc, rows, index);
        } while (index[3]);
        if (id < 0 || id >= count) continue;
        qd_codec_get(y->desc.format)->quantize_row(values, NULL, bytes, cols);
        for (; to[3] < cols / f->block; to[3]++)
            memcpy(element(y, out[0], to), bytes + to[3] * f->bytes, (size_t)f->bytes);
    }
    free(values);
    free(bytes);
    return status;
}

/* ---- ELEMENTWISE -------------------------------------------------------------------------------------------- */

QD_DEFINE_FUNCTIONS(, qd_exp, qd_f32, qd_u32, qd_as_f32, qd_as_u32)

#define K(c) c
#define EXP qd_exp
#define EXP_TO_INFINITY qd_exp_to_infinity
#define EXPM1 qd_expm1
#define TANH qd_tanh
#define ERF qd_erf
#define NORMAL qd_normal
#define NEAREST qd_whole
#define ABS qd_fabs
#define SQRT qd_sqrt

static float function(qd_unary f, float x, float alpha) {
    if (x != x) return x;
    switch (f) {
#define QD_UNARY(ID, name, means, formula) \
    case QD_UNARY_##ID:                    \
        return formula;
#include "qdot/qdot_unary.def"
        default:
            return x;
    }
}

static float combine(qd_combine c, float u, float b) {
    switch (c) {
        case QD_COMBINE_ADD:
            return u + b;
        case QD_COMBINE_SUB:
            return u - b;
        case QD_COMBINE_MUL:
            return u * b;
        default:
            return u / b;
    }
}

qd_status qd_ref_elementwise(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const float scale = n->attrs.elementwise.scale, offset = n->attrs.elementwise.offset;
    int64_t index[4] = {0};
    if (!rows) return QD_OK;
    do {
        float x = *(const float *)element(n->in[0], in[0], index);
        if (scale != 1) x = x * scale;
        if (offset != 0) x = x + offset;
        float y = function(n->attrs.elementwise.function, x, n->attrs.elementwise.alpha);
        if (n->in[1]) y = combine(n->attrs.elementwise.combine, y, *(const float *)element(n->in[1], in[1], index));
        *(float *)element(n->out[0], out[0], index) = qd_one_nan(y);
    } while (next(&n->out[0]->desc, rows, index));
    return QD_OK;
}
