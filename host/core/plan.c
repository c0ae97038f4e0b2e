#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "core/operands.h"

struct qd_plan {
    qd_context *context;
    qd_node node;
};

/* ---- The fallback: the reference computes a node on host copies --------------------------------------------- */

/* Bytes of a node's operand in host memory, rows dense. */
static size_t operand_bytes(const qd_tensor *t, int64_t rows) {
    qd_tensor_desc d = t->desc;
    if (d.shape[0] == QD_ROWS) d.shape[0] = rows;
    return qd_desc_bytes(&d);
}

/* Copies an operand between the device and dense host memory, row by row where the device's rows are apart. */
static qd_status transfer(qd_context *c, const qd_tensor *t, void *host, size_t bytes, bool to_device) {
    const size_t row = qd_format_row_bytes(t->desc.format, qd_columns(t));
    const size_t piece = t->stride == row ? bytes : row;
    size_t at = t->offset;
    for (size_t done = 0; done < bytes; done += piece, at += t->stride) {
        char *p = (char *)host + done;
        const qd_status s = to_device ? c->backend->write(c->device, t->buffer, at, p, piece)
                                      : c->backend->read(c->device, t->buffer, at, p, piece);
        if (s) return s;
    }
    return QD_OK;
}

static qd_status fallback_run(qd_context *c, const qd_node *n, int64_t rows) {
    qd_operand operands[QD_MAX_IN + QD_MAX_OUT] = {{0}};
    void *copies[QD_MAX_IN + QD_MAX_OUT] = {0};
    qd_status status = QD_OK;
    for (int i = 0; i < QD_MAX_IN + QD_MAX_OUT; i++) {
        qd_tensor *t = i < QD_MAX_IN ? n->in[i] : n->out[i - QD_MAX_IN];
        if (!t) continue;
        operands[i].stride = qd_format_row_bytes(t->desc.format, qd_columns(t));
        if (qd_is_constant(t)) {
            const void *bytes;
            QD_TRY(qd_constant_bytes(t, &bytes));
            operands[i].data = (void *)(uintptr_t)bytes; /* inputs are only read */
            continue;
        }
        const size_t bytes = operand_bytes(t, rows);
        copies[i] = qd_alloc(bytes);
        if (!copies[i]) {
            status = QD_ERR_MEMORY;
            goto error;
        }
        operands[i].data = copies[i];
        QD_TRY(transfer(c, t, copies[i], bytes, false)); /* outputs too: an operator may write only a part of them */
    }
    QD_TRY(qd_backend_ref.compute(n, operands, operands + QD_MAX_IN, rows));
    for (int i = 0; i < QD_MAX_OUT; i++) {
        if (n->out[i]) QD_TRY(transfer(c, n->out[i], copies[QD_MAX_IN + i], operand_bytes(n->out[i], rows), true));
    }
error:
    for (int i = 0; i < QD_MAX_IN + QD_MAX_OUT; i++)
        free(copies[i]);
    return status;
}

/* ---- Nodes -------------------------------------------------------------------------------------------------- */

/* A kernel may only meet operands that have bytes on its own device. The tensors of a qd_case belong to no context. */
static qd_status check_memory(const qd_context *c, const qd_node *n) {
    qd_op_spec spec;
    qd_op_spec_read(n->op, &spec);
    for (int i = 0; i < QD_MAX_IN + QD_MAX_OUT; i++) {
        const qd_tensor *t = i < QD_MAX_IN ? n->in[i] : n->out[i - QD_MAX_IN];
        if (!t) continue;
        const char *op = qd_op_get(n->op)->name;
        const char *name = i < QD_MAX_IN ? spec.in[i].name : spec.out[i - QD_MAX_IN].name;
        if (t->context && t->context != c) {
            return qd_fail(QD_ERR_ARGUMENT, "%s: %s belongs to another context", op, name);
        }
        if (!t->buffer && !qd_is_constant(t)) {
            return qd_fail(QD_ERR_ARGUMENT,
                           "%s: %s has no memory: it is of a graph that is not compiled, or a view of such a tensor "
                           "that qd_graph_view did not make",
                           op, name);
        }
    }
    return QD_OK;
}

qd_status qd_node_prepare(qd_context *c, qd_node *n) {
    qd_status status = check_memory(c, n);
    if (status) return status;
    if (!n->max_rows) { /* never enqueued: no kernel has to cope with sizes of 0 */
        n->variant = "reference";
        return QD_OK;
    }
    status = c->backend->prepare(c->device, n);
    if (status != QD_ERR_UNSUPPORTED) return status;
    n->fallback = true;
    n->variant = "reference";
    if (!(c->fallbacks_logged >> n->op & 1)) {
        c->fallbacks_logged |= (int64_t)1 << n->op;
        qd_log(c, "%s runs on the reference: %s", qd_op_get(n->op)->name, qd_last_message());
    }
    return QD_OK;
}

void qd_node_retire(qd_context *c, qd_node *n) {
    if (n->kernel && c->backend->retire) c->backend->retire(c->device, n);
    n->kernel = NULL;
}

qd_status qd_node_enqueue(qd_context *c, qd_node *n, int64_t rows, qd_node *const wait[], int n_wait) {
    const int64_t r = n->dynamic ? rows : n->max_rows;
    if (!r) return QD_OK;
    return n->fallback ? fallback_run(c, n, r) : c->backend->enqueue(c->device, n, r, wait, n_wait);
}

/* ---- Plans -------------------------------------------------------------------------------------------------- */

qd_status qd_plan_create(qd_context *c, qd_op op, const qd_attrs *attrs, qd_tensor *const in[], int n_in,
                         qd_tensor *const out[], int n_out, qd_plan **result) {
    if (!c || !result) return qd_fail(QD_ERR_ARGUMENT, "qd_plan_create: context and result must not be NULL");
    qd_plan *p = qd_alloc_zero(1, sizeof *p);
    if (!p) return QD_ERR_MEMORY;
    qd_status status = QD_OK;
    p->context = c;
    QD_TRY(qd_node_init(&p->node, op, attrs, in, n_in, out, n_out, NULL));
    QD_TRY(qd_node_prepare(c, &p->node));
    *result = p;
    return QD_OK;
error:
    free(p);
    return status;
}

qd_status qd_plan_run(qd_plan *p) {
    if (!p) return qd_fail(QD_ERR_ARGUMENT, "qd_plan_run: the plan is NULL");
    qd_context *c = p->context;
    qd_status status = QD_OK;
    if (!p->node.max_rows) return QD_OK;
    if (c->backend->begin) QD_TRY(c->backend->begin(c->device));
    QD_TRY(qd_node_enqueue(c, &p->node, p->node.max_rows, NULL, 0));
    if (c->backend->submit) QD_TRY(c->backend->submit(c->device));
error:
    return status;
}

void qd_plan_free(qd_plan *p) {
    if (!p) return;
    qd_node_retire(p->context, &p->node);
    free(p);
}

const char *qd_plan_variant(const qd_plan *p) {
    return p->node.variant;
}
