#include "model/int8.h"

#include <math.h>
#include <string.h>

#include "core/status.h"
#include "formats/coding.h"
#include "model/weights.h"

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
    if (m->calibrated) QD_TRY(find_input(m, name, out));
error:
    return status;
}

bool qd_int8_same_input(const qd_int8 *a, const qd_int8 *b) {
    const bool fixed = a->x_scale != NULL;
    if (a->cols != b->cols || fixed != (b->x_scale != NULL)) return false;
    return !fixed || (!memcmp(&a->scale, &b->scale, sizeof a->scale) && a->zero == b->zero);
}

qd_status qd_int8_stack(qd_model *m, const qd_int8 *const w[], int n, qd_int8 *out) {
    enum { MOST = 8 };
    qd_tensor *codes[MOST], *scales[MOST];
    qd_status status = QD_OK;
    if (n < 1 || n > MOST) return qd_fail(QD_ERR_LIMIT, "a stack of %d matrices; 1 … %d are known", n, MOST);
    *out = *w[0];
    out->rows = 0;
    for (int i = 0; i < n; i++) {
        codes[i] = w[i]->codes;
        scales[i] = w[i]->scales;
        out->rows += w[i]->rows;
    }
    QD_TRY(qd_tensor_stack(m->context, codes, n, &out->codes));
    QD_TRY(qd_model_keep(m, out->codes));
    QD_TRY(qd_tensor_stack(m->context, scales, n, &out->scales));
    QD_TRY(qd_model_keep(m, out->scales));
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

qd_status qd_int8_multiply(qd_graph *g, const qd_int8 *w, qd_tensor *x, qd_tensor *addend, qd_tensor *y) {
    const qd_attrs attrs = {.matmul_group = {.group = w->group}};
    quantized q;
    qd_tensor *product = y;
    qd_status status = QD_OK;
    QD_TRY(quantize(g, w, x, &q));
    if (addend) QD_TRY(new_tensor(g, QD_FORMAT_F32, w->rows, &product));
    QD_TRY(qd_graph_add(g, QD_OP_MATMUL_GROUP, &attrs,
                        (qd_tensor *[]){w->codes, w->scales, q.codes, NULL, q.scale, q.zero}, q.zero ? 6 : 5, &product,
                        1));
    if (addend) QD_TRY(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){product, addend}, 2, &y, 1));
error:
    return status;
}
