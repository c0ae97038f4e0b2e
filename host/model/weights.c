#include "model/weights.h"

#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "model/gguf.h"
#include "model/lora.h"

qd_status qd_model_keep(qd_model *m, qd_tensor *t) {
    if (m->n_constants == m->constants_cap) {
        const int larger = m->constants_cap ? 2 * m->constants_cap : 64;
        qd_tensor **grown = qd_realloc(m->constants, (size_t)larger * sizeof *grown);
        if (!grown) {
            qd_tensor_free(t);
            return QD_ERR_MEMORY;
        }
        m->constants = grown;
        m->constants_cap = larger;
    }
    m->constants[m->n_constants++] = t;
    return QD_OK;
}

static qd_status constant(qd_model *m, const qd_tensor_desc *d, const void *data, qd_tensor **out) {
    const qd_status status = qd_tensor_constant(m->context, d, data, out);
    m->known_tensors++;
    return status ? status : qd_model_keep(m, *out);
}

static qd_status wrong_shape(const char *name, int64_t rows, int64_t cols) {
    return qd_fail(QD_ERR_FILE, "tensor %s has another shape than the model's dimensions ask for (%lld × %lld)", name,
                   (long long)(rows ? rows : 1), (long long)cols);
}

static qd_status find_coded(qd_model *m, const char *name, const qd_gguf_coded *found, bool integers, qd_weight *w) {
    if (found->rows != w->rows || found->cols != w->cols) return wrong_shape(name, w->rows, w->cols);
    qd_gguf_outliers outliers; /* the matrix is whole without them */
    const qd_status checked = qd_gguf_find_outliers(m->file, name, w->rows, w->cols, &outliers);
    if (checked) return checked;
    if (outliers.count) m->known_tensors += 2;
    if (integers && qd_int8_suits(&found->coding)) {
        m->int8_matrices++;
        m->known_tensors += 2;
        return qd_int8_find(m, name, found, &w->int8);
    }
    const qd_tensor_desc rows =
        qd_desc(QD_FORMAT_U8, w->rows, (int64_t)qd_coding_row_bytes(&found->coding, w->cols), 0, 0);
    const qd_tensor_desc side = qd_desc(QD_FORMAT_F32, found->side_count, 0, 0, 0);
    w->coding = found->coding;
    const qd_status status = constant(m, &rows, found->data, &w->t);
    return status ? status : constant(m, &side, found->side, &w->side);
}

static qd_status find(qd_model *m, const char *name, int64_t rows, int64_t cols, bool integers, qd_weight *out) {
    qd_gguf_tensor t;
    qd_gguf_coded found;
    bool coded = false;
    qd_status status = QD_OK;
    *out = (qd_weight){.rows = rows, .cols = cols};
    m->info.parameters += (double)(rows ? rows : 1) * (double)cols;
    if (rows) QD_TRY(qd_lora_find(m, name, out));
    if (rows) QD_TRY(qd_gguf_find_coded(m->file, name, &coded, &found));
    if (coded) return find_coded(m, name, &found, integers, out);
    QD_TRY(qd_gguf_tensor_find(m->file, name, &t));
    if (t.desc.format == QD_FORMAT_COUNT) {
        return qd_fail(QD_ERR_UNSUPPORTED, "tensor %s has the GGUF type %u, which this qdot does not know", name,
                       t.gguf_type);
    }
    const qd_tensor_desc want = rows ? qd_desc(t.desc.format, rows, cols, 0, 0) : qd_desc(t.desc.format, cols, 0, 0, 0);
    if (t.desc.rank != want.rank || memcmp(t.desc.shape, want.shape, (size_t)want.rank * sizeof want.shape[0]))
        return wrong_shape(name, rows, cols);
    status = constant(m, &t.desc, t.data, &out->t);
error:
    return status;
}

qd_status qd_weight_find(qd_model *m, const char *name, int64_t rows, int64_t cols, qd_weight *out) {
    return find(m, name, rows, cols, false, out);
}

qd_status qd_weight_find_layer(qd_model *m, const char *name, int64_t rows, int64_t cols, qd_weight *out) {
    return find(m, name, rows, cols, m->activations == QD_FORMAT_I8, out);
}

static qd_format format_of(const qd_weight *w) {
    return qd_tensor_describe(w->t)->format;
}

qd_format qd_weights_want(const qd_model *m, const qd_weight w[], int n) {
    for (int i = 0; i < n; i++) {
        if (w[i].int8.codes) return QD_FORMAT_F32;
        const bool codes = w[i].side ? w[i].cols % 16 == 0 : qd_format_get(format_of(&w[i]))->kind == QD_KIND_BLOCKED;
        if (!codes) return QD_FORMAT_F32;
    }
    return m->activations == QD_FORMAT_I8 ? QD_FORMAT_A8 : m->activations;
}

qd_format qd_weights_input(const qd_model *m, const qd_weight w[], int n) {
    return qd_lora_reads(w, n) ? QD_FORMAT_F32 : qd_weights_want(m, w, n);
}

static qd_attrs attrs_of(const qd_weight *w) {
    return (qd_attrs){.coded = {w->coding, w->cols}};
}

qd_status qd_weight_rows(qd_graph *g, const qd_weight *w, qd_tensor *ids, qd_tensor *y) {
    const qd_attrs attrs = attrs_of(w);
    if (w->side) return qd_graph_add(g, QD_OP_GET_ROWS_CODED, &attrs, (qd_tensor *[]){w->t, w->side, ids}, 3, &y, 1);
    return qd_graph_add(g, QD_OP_GET_ROWS, NULL, (qd_tensor *[]){w->t, ids}, 2, &y, 1);
}

qd_status qd_weight_multiply(qd_graph *g, const qd_weight *w, qd_tensor *x, qd_tensor *addend, qd_tensor *y) {
    const qd_attrs attrs = attrs_of(w);
    if (w->int8.codes) return qd_int8_multiply(g, &w->int8, x, addend, y);
    if (w->side) {
        return qd_graph_add(g, QD_OP_MATMUL_CODED, &attrs, (qd_tensor *[]){w->t, w->side, x, addend}, addend ? 4 : 3,
                            &y, 1);
    }
    return qd_graph_add(g, QD_OP_MATMUL, NULL, (qd_tensor *[]){w->t, x, addend}, addend ? 3 : 2, &y, 1);
}

/* Whether two matrices can be one operator. */
static bool alike(const qd_weight *a, const qd_weight *b) {
    if (a->side || b->side) return false;
    if (!a->int8.codes || !b->int8.codes) return !a->int8.codes && !b->int8.codes && format_of(a) == format_of(b);
    return a->int8.group == b->int8.group && qd_int8_same_input(&a->int8, &b->int8);
}

/* y = x · w[0]ᵀ, x · w[1]ᵀ … side by side in the columns of y: one operator when they have one format. */
static qd_status multiply_all(qd_model *m, qd_graph *g, const qd_weight w[], int n, qd_tensor *x, qd_tensor *y) {
    enum { MOST = 8 };
    qd_status status = QD_OK;
    qd_tensor *parts[MOST];
    const qd_int8 *int8[MOST];
    bool same = n <= MOST;
    for (int i = 0; i < n && same; i++) {
        same = alike(&w[i], &w[0]);
        parts[i] = w[i].t;
        int8[i] = &w[i].int8;
    }
    if (same) {
        qd_weight stack = {.cols = w[0].cols};
        if (w[0].int8.codes) {
            QD_TRY(qd_int8_stack(m, int8, n, &stack.int8));
        } else {
            QD_TRY(qd_tensor_stack(m->context, parts, n, &stack.t));
            QD_TRY(qd_model_keep(m, stack.t));
        }
        return qd_weight_multiply(g, &stack, x, NULL, y);
    }
    int64_t column = 0;
    for (int i = 0; i < n; i++) {
        qd_tensor *view;
        QD_TRY(qd_graph_view(g, y, column, w[i].rows, &view));
        QD_TRY(qd_weight_multiply(g, &w[i], x, NULL, view));
        column += w[i].rows;
    }
error:
    return status;
}

qd_status qd_weights_apply(qd_model *m, qd_graph *g, const qd_weight w[], int n, qd_tensor *x, qd_tensor *addend,
                           qd_tensor *y) {
    const qd_format want = qd_weights_want(m, w, n);
    qd_tensor *read = x;
    qd_status status = QD_OK;
    if (qd_tensor_describe(x)->format != want) {
        qd_tensor_desc d = *qd_tensor_describe(x);
        d.format = want;
        QD_TRY(qd_graph_tensor(g, &d, &read));
        QD_TRY(qd_graph_add(g, QD_OP_QUANTIZE, NULL, &x, 1, &read, 1));
    }
    if (n == 1) {
        QD_TRY(qd_weight_multiply(g, w, read, addend, y));
    } else {
        QD_TRY(multiply_all(m, g, w, n, read, y));
    }
    QD_TRY(qd_lora_add(g, w, n, x, y));
error:
    return status;
}
