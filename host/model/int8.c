#include "model/int8.h"

#include <math.h>
#include <string.h>

#include "core/status.h"
#include "formats/coding.h"
#include "model/weights.h"
#include "qdot/qdot_num.h"

bool qd_int8_suits(const qd_coding *c) {
    return c->kind == QD_CODING_UNIFORM && c->bits == 8 && !c->asymmetric;
}

/* A constant of the model whose bytes the model keeps, too. */
static qd_status keep_constant(qd_model *m, const qd_tensor_desc *d, void **bytes, qd_tensor **out) {
    *bytes = qd_model_alloc(m, qd_desc_bytes(d));
    if (!*bytes) return QD_ERR_MEMORY;
    const qd_status status = qd_tensor_constant(m->context, d, *bytes, out);
    return status ? status : qd_model_keep(m, *out);
}

/* The scale and the zero point that a calibration gave for what the matrix reads. */
static qd_status find_input(qd_model *m, const char *name, qd_int8 *w) {
    static const qd_tensor_desc floats = {QD_FORMAT_F32, 1, {1}}, integers = {QD_FORMAT_I32, 1, {1}};
    void *scale, *zero;
    bool found;
    qd_status status = QD_OK;
    QD_TRY(qd_gguf_find_input(m->file, name, &found, &w->scale, &w->zero));
    if (!found) {
        return qd_fail(QD_ERR_UNSUPPORTED,
                       "the model has no scale for what %s reads, as static activations need; store them with `qdot "
                       "quantize IN OUT --format int8 --calibration STATS` (STATS: qdot calibrate), or use row",
                       name);
    }
    QD_TRY(keep_constant(m, &floats, &scale, &w->x_scale));
    QD_TRY(keep_constant(m, &integers, &zero, &w->x_zero));
    memcpy(scale, &w->scale, sizeof w->scale);
    memcpy(zero, &w->zero, sizeof w->zero);
error:
    return status;
}

/* Constants for the columns that stay floats. */
static qd_status find_outliers(qd_model *m, const char *name, qd_int8 *w) {
    void *kept, *select;
    qd_status status = QD_OK;
    QD_TRY(qd_gguf_find_outliers(m->file, name, w->rows, w->cols, &w->set));
    if (!w->set.count) return QD_OK;
    const qd_tensor_desc kept_desc = qd_desc(QD_FORMAT_F32, w->cols, 0, 0, 0);
    const qd_tensor_desc select_desc = qd_desc(QD_FORMAT_F16, w->set.count, w->cols, 0, 0);
    const qd_tensor_desc weights = qd_desc(QD_FORMAT_F16, w->rows, w->set.count, 0, 0);
    QD_TRY(keep_constant(m, &kept_desc, &kept, &w->kept));
    QD_TRY(keep_constant(m, &select_desc, &select, &w->select));
    for (int64_t k = 0; k < w->cols; k++)
        ((float *)kept)[k] = 1;
    memset(select, 0, qd_desc_bytes(&select_desc));
    for (int64_t i = 0; i < w->set.count; i++) {
        ((float *)kept)[w->set.columns[i]] = 0;
        ((uint16_t *)select)[i * w->cols + w->set.columns[i]] = qd_float_to_half(1);
    }
    QD_TRY(qd_tensor_constant(m->context, &weights, w->set.weights, &w->outliers));
    QD_TRY(qd_model_keep(m, w->outliers));
error:
    return status;
}

qd_status qd_int8_find(qd_model *m, const char *name, const qd_gguf_coded *coded, qd_int8 *out) {
    const size_t row_bytes = qd_coding_row_bytes(&coded->coding, coded->cols);
    qd_coded_params p;
    void *codes, *scales;
    qd_status status = QD_OK;
    QD_TRY(qd_coding_layout(&coded->coding, coded->rows, coded->cols, &p));
    *out = (qd_int8){.rows = coded->rows, .cols = coded->cols, .group = p.group};
    const qd_tensor_desc code_desc = qd_desc(QD_FORMAT_I8, coded->rows, coded->cols, 0, 0);
    const qd_tensor_desc scale_desc = qd_desc(QD_FORMAT_F32, coded->rows, p.groups, 0, 0);
    QD_TRY(keep_constant(m, &code_desc, &codes, &out->codes));
    QD_TRY(keep_constant(m, &scale_desc, &scales, &out->scales));
    for (int64_t r = 0; r < coded->rows; r++) {
        const uint8_t *bytes = (const uint8_t *)coded->data + (size_t)r * row_bytes;
        const qd_coded_row row = {&p, bytes, coded->side, r};
        memcpy((int8_t *)codes + r * coded->cols, bytes + p.codes_at, (size_t)coded->cols);
        for (int64_t g = 0; g < p.groups; g++)
            ((float *)scales)[r * p.groups + g] = qd_coded_scale(&row, g);
    }
    QD_TRY(m->calibrated ? find_input(m, name, out) : find_outliers(m, name, out));
error:
    return status;
}

bool qd_int8_same_input(const qd_int8 *a, const qd_int8 *b) {
    const bool fixed = a->x_scale != NULL;
    if (a->cols != b->cols || fixed != (b->x_scale != NULL) || a->set.count != b->set.count) return false;
    if (a->set.count && memcmp(a->set.columns, b->set.columns, (size_t)a->set.count * sizeof *a->set.columns)) {
        return false;
    }
    return !fixed || (!memcmp(&a->scale, &b->scale, sizeof a->scale) && a->zero == b->zero);
}

qd_status qd_int8_stack(qd_model *m, const qd_int8 *const w[], int n, qd_int8 *out) {
    enum { MOST = 8 };
    qd_tensor *codes[MOST], *scales[MOST], *outliers[MOST];
    qd_status status = QD_OK;
    if (n < 1 || n > MOST) return qd_fail(QD_ERR_LIMIT, "a stack of %d matrices; 1 … %d are known", n, MOST);
    *out = *w[0];
    out->rows = 0;
    for (int i = 0; i < n; i++) {
        codes[i] = w[i]->codes;
        scales[i] = w[i]->scales;
        outliers[i] = w[i]->outliers;
        out->rows += w[i]->rows;
    }
    QD_TRY(qd_tensor_stack(m->context, codes, n, &out->codes));
    QD_TRY(qd_model_keep(m, out->codes));
    QD_TRY(qd_tensor_stack(m->context, scales, n, &out->scales));
    QD_TRY(qd_model_keep(m, out->scales));
    if (!out->set.count) return QD_OK;
    QD_TRY(qd_tensor_stack(m->context, outliers, n, &out->outliers));
    QD_TRY(qd_model_keep(m, out->outliers));
error:
    return status;
}

/* ---- Graph -------------------------------------------------------------------------------------------------- */

/* x as codes, with the scales and zero points that the product takes. */
typedef struct quantized {
    qd_tensor *codes, *scale, *zero; /* zero: NULL where it is 0 */
} quantized;

static qd_status new_tensor(qd_graph *g, qd_format f, int64_t cols, qd_tensor **out) {
    const qd_tensor_desc d = qd_desc(f, QD_ROWS, cols, 0, 0);
    return qd_graph_tensor(g, &d, out);
}

static qd_status quantize(qd_graph *g, const qd_int8 *w, qd_tensor *x, quantized *out) {
    qd_status status = QD_OK;
    *out = (quantized){.scale = w->x_scale};
    QD_TRY(new_tensor(g, QD_FORMAT_I8, w->cols, &out->codes));
    if (w->x_scale) {
        qd_attrs attrs = {0};
        if (w->zero) {
            out->zero = w->x_zero;
        } else { /* as many codes on both sides of 0 */
            attrs.quantize_linear.min = -127;
            attrs.quantize_linear.max = 127;
        }
        return qd_graph_add(g, QD_OP_QUANTIZE_LINEAR, &attrs, (qd_tensor *[]){x, w->x_scale, out->zero},
                            out->zero ? 3 : 2, &out->codes, 1);
    }
    const qd_attrs attrs = {.dynamic_quantize = {.symmetric = true}};
    qd_tensor *zeros; /* all 0 */
    QD_TRY(new_tensor(g, QD_FORMAT_F32, 0, &out->scale));
    QD_TRY(new_tensor(g, QD_FORMAT_I32, 0, &zeros));
    return qd_graph_add(g, QD_OP_DYNAMIC_QUANTIZE, &attrs, &x, 1, (qd_tensor *[]){out->codes, out->scale, zeros}, 3);
error:
    return status;
}

/* *inside: x with zeros at the outlier columns; *rest: x there. The sum of 1 · x and zeros is x itself. */
static qd_status split(qd_graph *g, const qd_int8 *w, qd_tensor *x, qd_tensor **inside, qd_tensor **rest) {
    const qd_attrs times = {.elementwise = {.function = QD_UNARY_IDENTITY, .scale = 1, .combine = QD_COMBINE_MUL}};
    qd_status status = QD_OK;
    QD_TRY(new_tensor(g, QD_FORMAT_F32, w->cols, inside));
    QD_TRY(qd_graph_add(g, QD_OP_ELEMENTWISE, &times, (qd_tensor *[]){x, w->kept}, 2, inside, 1));
    QD_TRY(new_tensor(g, QD_FORMAT_F32, w->set.count, rest));
    QD_TRY(qd_graph_add(g, QD_OP_MATMUL, NULL, (qd_tensor *[]){w->select, x}, 2, rest, 1));
error:
    return status;
}

qd_status qd_int8_multiply(qd_graph *g, const qd_int8 *w, qd_tensor *x, qd_tensor *addend, qd_tensor *y) {
    const qd_attrs attrs = {.matmul_group = {.group = w->group}};
    const bool outliers = w->set.count > 0;
    quantized q;
    qd_tensor *inside = x, *rest, *product = y, *sum = y;
    qd_status status = QD_OK;
    if (outliers) QD_TRY(split(g, w, x, &inside, &rest));
    QD_TRY(quantize(g, w, inside, &q));
    if (addend) QD_TRY(new_tensor(g, QD_FORMAT_F32, w->rows, &sum));
    product = sum;
    if (outliers) QD_TRY(new_tensor(g, QD_FORMAT_F32, w->rows, &product));
    QD_TRY(qd_graph_add(g, QD_OP_MATMUL_GROUP, &attrs,
                        (qd_tensor *[]){w->codes, w->scales, q.codes, NULL, q.scale, q.zero}, q.zero ? 6 : 5, &product,
                        1));
    if (outliers) QD_TRY(qd_graph_add(g, QD_OP_MATMUL, NULL, (qd_tensor *[]){w->outliers, rest, product}, 3, &sum, 1));
    if (addend) QD_TRY(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){sum, addend}, 2, &y, 1));
error:
    return status;
}
