/* Matrix products: ONNX's MatMulInteger, QLinearMatMul and MatMulNBits, and TensorFlow Lite's FULLY_CONNECTED. */
#include <stdlib.h>
#include <string.h>

#include "cli/vectors_run.h"

/* ---- Parameters of rows, columns and batches ---------------------------------------------------------------- */

/* Values that may be one for all, one for each row (or column), or so for each batch. */
typedef struct parameter {
    const qd_vec_tensor *t; /* NULL: absent */
    const float *f;         /* scales, or */
    const int32_t *i;       /* zero points */
    int64_t each;           /* values of one batch: 1, or the number of rows or columns */
    bool per_batch;
} parameter;

/* y = a · b with NumPy's rules for shapes. */
typedef struct product {
    const qd_vec_tensor *a, *b;
    qd_format a_format, b_format;
    int rank; /* of the batch */
    int64_t batch[QD_VEC_MAX_RANK], batches, M, K, N;
    const char *b_rows; /* b as [batches of b, N, K]: its rows are weights */
    parameter a_zero, b_zero, a_scale, b_scale, y_scale;
    bool half_scales; /* all scales are f16: so is what they become */
} product;

/* The result that is computed, of an output of the case. */
typedef struct result {
    const qd_vec_tensor *want; /* NULL in a case that must fail */
    bool wrapped;              /* codes modulo their range, instead of limited to it */
    int32_t zero_point;
    char *values;
} result;

/* Index of the batch of operand t that goes with batch i of the result. */
static int64_t batch_of(const product *p, const qd_vec_tensor *t, int64_t i) {
    int64_t index = 0, step = 1;
    for (int d = p->rank - 1, at = t->rank - 3; d >= 0; d--, at--) {
        if (at >= 0 && t->shape[at] != 1) {
            index += i % p->batch[d] * step;
            step *= t->shape[at];
        }
        i /= p->batch[d];
    }
    return index;
}

/* The shape of the result; fails when the operands do not go together. */
static qd_status find_product(qd_vec_run *r, product *p) {
    const qd_vec_tensor *a = p->a, *b = p->b;
    if (a->rank < 1 || b->rank < 1) return qd_vec_bad(r, "a and b need a dimension");
    p->K = a->shape[a->rank - 1];
    p->M = a->rank > 1 ? a->shape[a->rank - 2] : 1;
    p->N = b->rank > 1 ? b->shape[b->rank - 1] : 1;
    if (b->shape[b->rank > 1 ? b->rank - 2 : 0] != p->K) return qd_vec_bad(r, "a and b differ in K");
    p->rank = (a->rank > b->rank ? a->rank : b->rank) - 2;
    if (p->rank < 0) p->rank = 0;
    p->batches = 1;
    for (int d = 0; d < p->rank; d++) {
        const int in_a = d + a->rank - 2 - p->rank, in_b = d + b->rank - 2 - p->rank;
        const int64_t from_a = in_a >= 0 ? a->shape[in_a] : 1, from_b = in_b >= 0 ? b->shape[in_b] : 1;
        if (from_a != from_b && from_a != 1 && from_b != 1) return qd_vec_bad(r, "the batches of a and b differ");
        p->batch[d] = from_a > from_b ? from_a : from_b;
        if (__builtin_mul_overflow(p->batches, p->batch[d], &p->batches)) p->batches = INT64_MAX;
    }
    if (p->batches > INT32_MAX) return qd_vec_bad(r, "the result is too large");
    return QD_OK;
}

/* b to rows of N. Codes stand in bytes. */
static qd_status transpose_b(qd_vec_run *r, product *p) {
    const int64_t batches = p->b->count / (p->K * p->N);
    const char *from = p->b->data;
    char *rows;
    QD_VEC_TRY(qd_vec_alloc(r, p->b->count, 1, &rows));
    for (int64_t i = 0; i < batches; i++) {
        for (int64_t k = 0; k < p->K; k++) {
            for (int64_t n = 0; n < p->N; n++)
                rows[(i * p->N + n) * p->K + k] = from[(i * p->K + k) * p->N + n];
        }
    }
    p->b_rows = rows;
    return QD_OK;
}

/* Reads input `name`: one value or `each` values, or so many for each batch in the dimensions before the last two. */
static qd_status read_parameter(qd_vec_run *r, const product *p, const char *name, int64_t each, bool scale,
                                parameter *out) {
    const qd_vec_tensor *t = qd_vec_input(r->c, name);
    *out = (parameter){0};
    if (!t) return scale ? qd_vec_bad(r, "the manifest lacks the input %s", name) : QD_OK;
    if (scale) {
        float *values;
        QD_VEC_TRY(qd_vec_floats(r, t, &values));
        out->f = values;
    } else {
        int32_t *values;
        QD_VEC_TRY(qd_vec_ints(r, t, &values));
        out->i = values;
    }
    int64_t batches = 1;
    for (int d = p->rank - 1, at = t->rank - 3; at >= 0; d--, at--) {
        if (t->shape[at] != 1 && (d < 0 || t->shape[at] != p->batch[d])) {
            return qd_vec_bad(r, "the batches of %s are not those of the result", name);
        }
        batches *= t->shape[at];
    }
    out->t = t;
    out->each = t->count / batches;
    out->per_batch = batches > 1;
    if (out->each != 1 && out->each != each) {
        return qd_vec_bad(r, "%s has %lld values, which is not one for each row or column", name, (long long)out->each);
    }
    return QD_OK;
}

static int64_t parameter_index(const product *p, const parameter *q, int64_t batch, int64_t i) {
    return (q->per_batch ? batch_of(p, q->t, batch) * q->each : 0) + (q->each == 1 ? 0 : i);
}

static float scale_at(const product *p, const parameter *q, int64_t batch, int64_t i) {
    return q->f[parameter_index(p, q, batch, i)];
}

/* True when it is the same in all batches and rows. */
static bool is_single(const parameter *q) {
    return !q->t || q->t->count == 1;
}

/* ---- Integer products --------------------------------------------------------------------------------------- */

/* Sums of K products may need 64 bits. */
static bool needs_wide(int64_t K) {
    return K > INT32_MAX / (255 * 255);
}

static qd_status round_to_half(qd_vec_run *r, float *values, uint16_t *half, int64_t n) {
    QD_VEC_TRY(qd_vec_library(r, qd_quantize(QD_FORMAT_F16, values, 1, n, half)));
    return qd_vec_library(r, qd_dequantize(QD_FORMAT_F16, half, 1, n, values));
}

/* The requant operand of a part. */
static qd_status load_requant(qd_vec_run *r, const product *p, int64_t batch, int64_t row, qd_tensor **out) {
    const float x = scale_at(p, &p->a_scale, batch, row), y = scale_at(p, &p->y_scale, batch, row);
    const float *w = p->b_scale.f + parameter_index(p, &p->b_scale, batch, 0);
    if (!p->half_scales) return qd_vec_requant(r, QD_ROUND_FLOAT, x, w, p->b_scale.each, y, out);
    float *ratio;
    uint16_t *half;
    const int64_t n = p->b_scale.each;
    QD_VEC_TRY(qd_vec_alloc(r, n, sizeof *ratio, &ratio));
    QD_VEC_TRY(qd_vec_alloc(r, n, sizeof *half, &half));
    for (int64_t i = 0; i < n; i++)
        ratio[i] = x * w[i];
    QD_VEC_TRY(round_to_half(r, ratio, half, n));
    for (int64_t i = 0; i < n; i++)
        ratio[i] = ratio[i] / y;
    QD_VEC_TRY(round_to_half(r, ratio, half, n));
    return qd_vec_requant(r, QD_ROUND_FLOAT, 1, ratio, n, 1, out);
}

/* x's zero points of a part, as [1], [rows], or [count, rows]. */
static qd_status load_x_zero(qd_vec_run *r, const product *p, int64_t first, int64_t count, int64_t row, int64_t rows,
                             bool batched, qd_tensor **out) {
    if (!p->a_zero.t) return QD_OK;
    if (is_single(&p->a_zero)) return qd_vec_put_ints(r, p->a_zero.i, 1, out);
    int32_t *zeros;
    QD_VEC_TRY(qd_vec_alloc(r, count * rows, sizeof *zeros, &zeros));
    for (int64_t i = 0; i < count * rows; i++)
        zeros[i] = p->a_zero.i[parameter_index(p, &p->a_zero, first + i / rows, row + i % rows)];
    const int64_t each[] = {count, rows}, all[] = {count * rows};
    const qd_tensor_desc d = batched ? qd_vec_shape(QD_FORMAT_I32, 2, each) : qd_vec_shape(QD_FORMAT_I32, 1, all);
    return qd_vec_put(r, &d, zeros, true, out);
}

/* Reads a part's result into its place. */
static qd_status keep_part(qd_vec_run *r, const product *p, qd_tensor *y, int64_t first, int64_t count, int64_t row,
                           int64_t rows, const result *to) {
    const qd_vec_dtype dtype = to->want->dtype;
    const size_t row_bytes = (size_t)p->N * qd_vec_dtype_bytes(dtype);
    void *read;
    char *part;
    QD_VEC_TRY(qd_vec_values(r, y, to->wrapped ? QD_VEC_I32 : dtype, &read));
    part = read;
    if (to->wrapped) {
        const int64_t n = count * rows * p->N;
        QD_VEC_TRY(qd_vec_alloc(r, n, 1, &part));
        for (int64_t i = 0; i < n; i++)
            part[i] = (char)(uint8_t)((const int32_t *)read)[i];
    }
    for (int64_t i = 0; i < count; i++) {
        memcpy(to->values + (size_t)((first + i) * p->M + row) * row_bytes, part + (size_t)(i * rows) * row_bytes,
               (size_t)rows * row_bytes);
    }
    return QD_OK;
}

/* Batches [first, first + count) × rows [row, row + rows) of the result; all of them share what varies by batch.
 * Without y_scale the result is the sums. */
static qd_status run_part(qd_vec_run *r, const product *p, int64_t first, int64_t count, int64_t row, int64_t rows,
                          const result *to) {
    const bool requantized = p->y_scale.t != NULL, batched = p->b->rank > 2 && count > 1;
    const int64_t x_shape[] = {batched ? count : count * rows, batched ? rows : p->K, p->K};
    const int64_t w_shape[] = {batched ? count : p->N, batched ? p->N : p->K, p->K};
    const int64_t y_shape[] = {x_shape[0], batched ? rows : p->N, p->N};
    const int rank = batched ? 3 : 2;
    qd_format y_format = QD_FORMAT_I32;
    if (requantized && to->want && !to->wrapped) QD_VEC_TRY(qd_vec_format(r, to->want, &y_format));
    const qd_tensor_desc x_desc = qd_vec_shape(p->a_format, rank, x_shape),
                         w_desc = qd_vec_shape(p->b_format, rank, w_shape),
                         y_desc = qd_vec_shape(y_format, rank, y_shape);
    char *x, *w;
    QD_VEC_TRY(qd_vec_alloc(r, count * rows, (size_t)p->K, &x));
    QD_VEC_TRY(qd_vec_alloc(r, batched ? count * p->N : p->N, (size_t)p->K, &w));
    for (int64_t i = 0; i < count; i++) {
        memcpy(x + i * rows * p->K, (const char *)p->a->data + (batch_of(p, p->a, first + i) * p->M + row) * p->K,
               (size_t)(rows * p->K));
        if (i && !batched) continue;
        memcpy(w + i * p->N * p->K, p->b_rows + batch_of(p, p->b, first + i) * p->N * p->K, (size_t)(p->N * p->K));
    }
    qd_tensor *in[6] = {0}, *y;
    QD_VEC_TRY(qd_vec_put(r, &w_desc, w, true, &in[0]));
    QD_VEC_TRY(qd_vec_put(r, &x_desc, x, false, &in[1]));
    if (p->b_zero.t) {
        QD_VEC_TRY(qd_vec_put_ints(r, p->b_zero.i + parameter_index(p, &p->b_zero, first, 0), p->b_zero.each, &in[2]));
    }
    QD_VEC_TRY(load_x_zero(r, p, first, count, row, rows, batched, &in[3]));
    qd_attrs attrs = {.matmul_int = {.wide = needs_wide(p->K)}};
    if (requantized) {
        attrs.matmul_int.y = (qd_requant){.rounding = QD_ROUND_FLOAT, .zero_point = to->zero_point};
        QD_VEC_TRY(load_requant(r, p, first, row, &in[5]));
    }
    QD_VEC_TRY(qd_vec_make(r, &y_desc, &y));
    QD_VEC_TRY(qd_vec_op(r, QD_OP_MATMUL_INT, &attrs, in, 6, &y, 1));
    return to->want ? keep_part(r, p, y, first, count, row, rows, to) : QD_OK;
}

/* As few parts as the operator allows: one, unless scales vary by row, or parameters of b by batch. */
static qd_status run_product(qd_vec_run *r, const product *p, const char *name, int32_t y_zero) {
    result to = {.wrapped = strcmp(name, "y_wrapped") == 0, .zero_point = y_zero};
    QD_VEC_TRY(qd_vec_want(r, name, &to.want));
    if (to.wrapped && to.want && qd_vec_dtype_bytes(to.want->dtype) != 1) {
        return qd_vec_bad(r, "%s holds no codes of 8 bits", name);
    }
    if (to.want) {
        int64_t count;
        if (__builtin_mul_overflow(p->batches, p->M, &count) || __builtin_mul_overflow(count, p->N, &count) ||
            count != to.want->count) {
            return qd_vec_bad(r, "%s has not the shape of a · b", name);
        }
        QD_VEC_TRY(qd_vec_alloc(r, count, qd_vec_dtype_bytes(to.want->dtype), &to.values));
    }
    const bool by_batch = p->b_zero.per_batch || p->b_scale.per_batch || p->a_scale.per_batch || p->y_scale.per_batch;
    const bool by_row = !is_single(&p->a_scale) || !is_single(&p->y_scale);
    const int64_t batches = by_batch || by_row ? 1 : p->batches, rows = by_row ? 1 : p->M;
    for (int64_t i = 0; i < p->batches; i += batches) {
        for (int64_t row = 0; row < p->M; row += rows)
            QD_VEC_TRY(run_part(r, p, i, batches, row, rows, &to));
    }
    return to.want ? qd_vec_judge(r, to.want, to.values, to.want->bytes) : QD_OK;
}

static qd_status read_product(qd_vec_run *r, product *p) {
    memset(p, 0, sizeof *p);
    QD_VEC_TRY(qd_vec_need(r, "a", &p->a));
    QD_VEC_TRY(qd_vec_need(r, "b", &p->b));
    QD_VEC_TRY(qd_vec_format(r, p->a, &p->a_format));
    QD_VEC_TRY(qd_vec_format(r, p->b, &p->b_format));
    if (qd_vec_dtype_bytes(p->a->dtype) != 1 || qd_vec_dtype_bytes(p->b->dtype) != 1 || p->a->logical ||
        p->b->logical) {
        return qd_vec_skip(r, "types", "no products of %s and %s yet", qd_vec_dtype_name(p->a->dtype),
                           qd_vec_dtype_name(p->b->dtype));
    }
    QD_VEC_TRY(find_product(r, p));
    QD_VEC_TRY(transpose_b(r, p));
    QD_VEC_TRY(read_parameter(r, p, "a_zero_point", p->M, false, &p->a_zero));
    return read_parameter(r, p, "b_zero_point", p->N, false, &p->b_zero);
}

qd_status qd_vec_matmul_integer(qd_vec_run *r) {
    product p;
    QD_VEC_TRY(read_product(r, &p));
    return run_product(r, &p, "y", 0);
}

static bool is_half(const qd_vec_run *r, const char *name) {
    const qd_vec_tensor *t = qd_vec_input(r->c, name);
    return t && t->dtype == QD_VEC_F16;
}

/* The output y_wrapped is what older releases of ONNX publish for y: codes modulo 256. */
qd_status qd_vec_qlinear_matmul(qd_vec_run *r) {
    product p;
    int32_t y_zero;
    QD_VEC_TRY(read_product(r, &p));
    QD_VEC_TRY(read_parameter(r, &p, "a_scale", p.M, true, &p.a_scale));
    QD_VEC_TRY(read_parameter(r, &p, "b_scale", p.N, true, &p.b_scale));
    QD_VEC_TRY(read_parameter(r, &p, "y_scale", p.M, true, &p.y_scale));
    QD_VEC_TRY(qd_vec_zero(r, "y_zero_point", &y_zero));
    p.half_scales = is_half(r, "a_scale") && is_half(r, "b_scale") && is_half(r, "y_scale");
    QD_VEC_TRY(run_product(r, &p, "y", y_zero));
    return qd_vec_output(r->c, "y_wrapped") ? run_product(r, &p, "y_wrapped", y_zero) : QD_OK;
}

/* ---- TensorFlow Lite ---------------------------------------------------------------------------------------- */

/* x [..., K] · w [N, K], requantized in one rounding. */
static qd_status connect(qd_vec_run *r, qd_rounding rounding, const char *name) {
    const qd_vec_tensor *x, *w, *w_scale, *y;
    qd_quant x_quant, y_quant;
    qd_format x_format, w_format, y_format = QD_FORMAT_I8;
    float *scales;
    QD_VEC_TRY(qd_vec_need(r, "x", &x));
    QD_VEC_TRY(qd_vec_need(r, "w", &w));
    QD_VEC_TRY(qd_vec_need(r, "w_scale", &w_scale));
    QD_VEC_TRY(qd_vec_want(r, name, &y));
    QD_VEC_TRY(qd_vec_quant(r, "x", &x_quant));
    QD_VEC_TRY(qd_vec_quant(r, "y", &y_quant));
    QD_VEC_TRY(qd_vec_floats(r, w_scale, &scales));
    QD_VEC_TRY(qd_vec_format(r, x, &x_format));
    QD_VEC_TRY(qd_vec_format(r, w, &w_format));
    if (y) QD_VEC_TRY(qd_vec_format(r, y, &y_format));
    if (strcmp(qd_vec_attr_text(r, "weights", "[N,K]"), "[N,K]") != 0 || w->rank != 2) {
        return qd_vec_bad(r, "the weights are not [N,K]");
    }
    const int64_t N = w->shape[0], K = w->shape[1], rows = x->count / K;
    if (rows * K != x->count || (x->rank && K % x->shape[x->rank - 1] != 0)) {
        return qd_vec_bad(r, "x and w differ in K");
    }
    const qd_tensor_desc x_desc = qd_vec_shape(x_format, 2, (const int64_t[]){rows, K}),
                         y_desc = qd_vec_shape(y_format, 2, (const int64_t[]){rows, N}),
                         w_desc = qd_vec_desc(w_format, w);
    qd_tensor *in[6] = {0}, *out;
    QD_VEC_TRY(qd_vec_load(r, w, &w_desc, true, &in[0]));
    QD_VEC_TRY(qd_vec_load(r, x, &x_desc, false, &in[1]));
    QD_VEC_TRY(qd_vec_load_ints(r, "w_zero_point", &in[2]));
    QD_VEC_TRY(qd_vec_load_ints(r, "x_zero_point", &in[3]));
    QD_VEC_TRY(qd_vec_load_ints(r, "bias", &in[4]));
    QD_VEC_TRY(qd_vec_requant(r, rounding, x_quant.scale, scales, w_scale->count, y_quant.scale, &in[5]));
    QD_VEC_TRY(qd_vec_make(r, &y_desc, &out));
    const qd_attrs attrs = {
        .matmul_int = {.y = {.rounding = rounding, .zero_point = y_quant.zero_point}, .wide = needs_wide(K)}};
    QD_VEC_TRY(qd_vec_op(r, QD_OP_MATMUL_INT, &attrs, in, 6, &out, 1));
    return qd_vec_check(r, y, out);
}

qd_status qd_vec_fully_connected(qd_vec_run *r) {
    QD_VEC_TRY(connect(r, QD_ROUND_AWAY, "y"));
    return qd_vec_output(r->c, "y_double_rounding") ? connect(r, QD_ROUND_GEMMLOWP, "y_double_rounding") : QD_OK;
}

/* ---- MatMulNBits -------------------------------------------------------------------------------------------- */

typedef struct nbits {
    int64_t K, N, bits, block, groups;
    size_t row_bytes; /* of B: whole blocks */
    qd_format format;
} nbits;

static qd_status read_nbits(qd_vec_run *r, nbits *p) {
    QD_VEC_TRY(qd_vec_attr_needed(r, "K", 1, INT32_MAX, &p->K));
    QD_VEC_TRY(qd_vec_attr_needed(r, "N", 1, INT32_MAX, &p->N));
    QD_VEC_TRY(qd_vec_attr(r, "bits", 4, 1, 8, &p->bits));
    QD_VEC_TRY(qd_vec_attr_needed(r, "block_size", 1, INT32_MAX, &p->block));
    p->groups = (p->K - 1) / p->block + 1;
    switch (p->bits) {
        case 2:
            p->format = QD_FORMAT_U2;
            break;
        case 4:
            p->format = QD_FORMAT_U4;
            break;
        case 8:
            p->format = QD_FORMAT_U8;
            break;
        default:
            return qd_vec_skip(r, "bits", "no weights of %d bits yet", (int)p->bits);
    }
    if (p->block * p->bits % 8) return qd_vec_bad(r, "a block of B is no whole number of bytes");
    p->row_bytes = (size_t)(p->groups * (p->block * p->bits / 8));
    return QD_OK;
}

/* Zero points [N, groups]: packed, one float each, or the middle of the codes. */
static qd_status load_zero_points(qd_vec_run *r, const nbits *p, qd_tensor **out) {
    const qd_vec_tensor *t = qd_vec_input(r->c, "zero_points");
    qd_tensor_desc d = qd_vec_shape(QD_FORMAT_I32, 2, (const int64_t[]){p->N, p->groups});
    if (t && t->dtype != QD_VEC_U8) {
        float *values;
        QD_VEC_TRY(qd_vec_floats(r, t, &values));
        if (t->count != p->N * p->groups) return qd_vec_bad(r, "zero_points are not one for each block");
        d.format = QD_FORMAT_F32;
        return qd_vec_put(r, &d, values, true, out);
    }
    const int64_t row_bytes = (p->groups * p->bits + 7) / 8;
    if (t && t->count != p->N * row_bytes) return qd_vec_bad(r, "zero_points are not one for each block");
    int32_t *values;
    QD_VEC_TRY(qd_vec_alloc(r, p->N * p->groups, sizeof *values, &values));
    for (int64_t n = 0; n < p->N; n++) {
        for (int64_t g = 0; g < p->groups; g++) {
            const int64_t bit = g * p->bits;
            const int byte = t ? ((const uint8_t *)t->data)[n * row_bytes + bit / 8] : 0;
            values[n * p->groups + g] = t ? byte >> (bit % 8) & ((1 << p->bits) - 1) : (int32_t)1 << (p->bits - 1);
        }
    }
    return qd_vec_put(r, &d, values, true, out);
}

qd_status qd_vec_matmul_nbits(qd_vec_run *r) {
    const qd_vec_tensor *a, *b, *scales, *bias = qd_vec_input(r->c, "bias"), *y;
    float *a_values, *scale_values, *bias_values;
    nbits p;
    if (qd_vec_input(r->c, "g_idx")) return qd_vec_skip(r, "g_idx", "no permuted groups yet");
    QD_VEC_TRY(read_nbits(r, &p));
    QD_VEC_TRY(qd_vec_need(r, "a", &a));
    QD_VEC_TRY(qd_vec_need(r, "B", &b));
    QD_VEC_TRY(qd_vec_need(r, "scales", &scales));
    QD_VEC_TRY(qd_vec_want(r, "y", &y));
    if (a->count % p.K || !a->rank || a->shape[a->rank - 1] != p.K) return qd_vec_bad(r, "a has not K columns");
    if (b->dtype != QD_VEC_U8 || b->bytes / p.row_bytes != (size_t)p.N || b->bytes % p.row_bytes) {
        return qd_vec_bad(r, "B has not the shape that K, N, bits and block_size ask for");
    }
    if (scales->count % p.groups || scales->count / p.groups != p.N) {
        return qd_vec_bad(r, "scales are not one for each block");
    }
    QD_VEC_TRY(qd_vec_floats(r, a, &a_values));
    QD_VEC_TRY(qd_vec_floats(r, scales, &scale_values));
    const int64_t rows = a->count / p.K;
    const qd_tensor_desc w_desc = qd_vec_shape(p.format, 2, (const int64_t[]){p.N, p.K}),
                         scale_desc = qd_vec_shape(QD_FORMAT_F32, 2, (const int64_t[]){p.N, p.groups}),
                         x_desc = qd_vec_shape(QD_FORMAT_F32, 2, (const int64_t[]){rows, p.K}),
                         y_desc = qd_vec_shape(QD_FORMAT_F32, 2, (const int64_t[]){rows, p.N});
    /* B's rows are in the library's order already, but end with a whole block. */
    const size_t row = qd_format_row_bytes(p.format, p.K);
    char *w;
    QD_VEC_TRY(qd_vec_alloc(r, p.N, row, &w));
    for (int64_t n = 0; n < p.N; n++)
        memcpy(w + (size_t)n * row, (const char *)b->data + (size_t)n * p.row_bytes, row);
    qd_tensor *in[7] = {0}, *out;
    QD_VEC_TRY(qd_vec_put(r, &w_desc, w, true, &in[0]));
    QD_VEC_TRY(qd_vec_put(r, &scale_desc, scale_values, true, &in[1]));
    QD_VEC_TRY(qd_vec_put(r, &x_desc, a_values, false, &in[2]));
    QD_VEC_TRY(load_zero_points(r, &p, &in[3]));
    if (bias) {
        QD_VEC_TRY(qd_vec_floats(r, bias, &bias_values));
        QD_VEC_TRY(qd_vec_put_floats(r, bias_values, bias->count, &in[6]));
    }
    QD_VEC_TRY(qd_vec_make(r, &y_desc, &out));
    const qd_attrs attrs = {.matmul_group = {.group = p.block}};
    QD_VEC_TRY(qd_vec_op(r, QD_OP_MATMUL_GROUP, &attrs, in, 7, &out, 1));
    return qd_vec_check(r, y, out);
}

/* Compares packed values with output `name`, each row of which ends with a whole block or byte. */
static qd_status judge_packed(qd_vec_run *r, const char *name, const nbits *p, const char *rows, size_t row_bytes,
                              size_t want_bytes) {
    const qd_vec_tensor *want;
    char *padded;
    QD_VEC_TRY(qd_vec_want(r, name, &want));
    QD_VEC_TRY(qd_vec_alloc(r, p->N, want_bytes, &padded));
    for (int64_t n = 0; n < p->N; n++)
        memcpy(padded + (size_t)n * want_bytes, rows + (size_t)n * row_bytes, row_bytes);
    return qd_vec_judge(r, want, padded, (size_t)p->N * want_bytes);
}

/* w [K, N] to B [N, groups, bytes], scales [N, groups] and packed zero_points. */
qd_status qd_vec_quantize_nbits(qd_vec_run *r) {
    const qd_vec_tensor *w, *want;
    int64_t symmetric;
    float *values, *rows, *scales;
    int32_t *zeros;
    char *codes, *packed;
    nbits p;
    QD_VEC_TRY(read_nbits(r, &p));
    QD_VEC_TRY(qd_vec_attr(r, "symmetric", 0, 0, 1, &symmetric));
    QD_VEC_TRY(qd_vec_need(r, "w", &w));
    QD_VEC_TRY(qd_vec_want(r, "scales", &want));
    QD_VEC_TRY(qd_vec_floats(r, w, &values));
    if (w->rank != 2 || w->shape[0] != p.K || w->shape[1] != p.N) return qd_vec_bad(r, "w is not [K, N]");
    const size_t row = qd_format_row_bytes(p.format, p.K), zero_row = (size_t)(p.groups * p.bits + 7) / 8;
    QD_VEC_TRY(qd_vec_alloc(r, w->count, sizeof *rows, &rows));
    QD_VEC_TRY(qd_vec_alloc(r, p.N * p.groups, sizeof *scales, &scales));
    QD_VEC_TRY(qd_vec_alloc(r, p.N * p.groups, sizeof *zeros, &zeros));
    QD_VEC_TRY(qd_vec_alloc(r, p.N, row, &codes));
    QD_VEC_TRY(qd_vec_alloc(r, p.N, zero_row, &packed));
    for (int64_t i = 0; i < w->count; i++)
        rows[i % p.N * p.K + i / p.N] = values[i];
    QD_VEC_TRY(
        qd_vec_library(r, qd_quantize_groups(p.format, symmetric, p.block, rows, p.N, p.K, codes, scales, zeros)));
    for (int64_t i = 0; i < p.N * p.groups; i++) {
        const int64_t bit = i % p.groups * p.bits;
        packed[i / p.groups * (int64_t)zero_row + bit / 8] |= (char)(zeros[i] << bit % 8);
    }
    QD_VEC_TRY(judge_packed(r, "B", &p, codes, row, p.row_bytes));
    QD_VEC_TRY(qd_vec_judge(r, want, scales, (size_t)(p.N * p.groups) * sizeof *scales));
    return qd_vec_output(r->c, "zero_points") ? judge_packed(r, "zero_points", &p, packed, zero_row, zero_row) : QD_OK;
}
