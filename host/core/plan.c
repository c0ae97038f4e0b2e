#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "core/operands.h"
#include "core/rules/rules.h"

/* ---- The reference on host copies: the fallback, and verifying ---------------------------------------------- */

/* True when the host's copy of an operand has the gaps that it has on the device. */
static bool keeps_gaps(const qd_node *n, const qd_tensor *t) {
    return t->window || qd_rules_of(n->op)->strided;
}

/* Bytes between rows in host memory. */
static size_t operand_stride(const qd_node *n, const qd_tensor *t) {
    return keeps_gaps(n, t) ? t->stride : qd_format_row_bytes(t->desc.format, qd_columns(t));
}

/* Bytes of a node's operand there. */
static size_t operand_bytes(const qd_node *n, const qd_tensor *t, int64_t rows) {
    qd_tensor_desc d = t->desc;
    if (t->window || t->strided) return t->extent;
    if (d.shape[0] == QD_ROWS) d.shape[0] = rows;
    const size_t row = qd_format_row_bytes(d.format, qd_columns(t)), dense = qd_desc_bytes(&d);
    if (!keeps_gaps(n, t) || !dense) return dense;
    return (dense / row - 1) * t->stride + row;
}

/* Copies an operand between the device and host memory, row by row where the device's rows are apart. */
static qd_status transfer(qd_context *c, const qd_node *n, const qd_tensor *t, void *host, size_t bytes,
                          bool to_device) {
    const size_t piece = t->stride == operand_stride(n, t) ? bytes : operand_stride(n, t);
    size_t at = t->offset;
    for (size_t done = 0; done < bytes; done += piece, at += t->stride) {
        char *p = (char *)host + done;
        const qd_status s = to_device ? c->backend->write(c->device, t->buffer, at, p, piece)
                                      : c->backend->read(c->device, t->buffer, at, p, piece);
        if (s) return s;
    }
    return QD_OK;
}

/* Host copies of a node's operands; constants are borrowed. */
typedef struct host_copies {
    qd_operand operands[QD_OPERANDS];
    void *owned[QD_OPERANDS];
    size_t bytes[QD_OPERANDS];
} host_copies;

static void copies_free(host_copies *h) {
    for (int i = 0; i < QD_OPERANDS; i++)
        free(h->owned[i]);
}

static qd_tensor *node_operand(const qd_node *n, int i) {
    return i < QD_MAX_IN ? n->in[i] : n->out[i - QD_MAX_IN];
}

/* Copies all operands as they are on the device; outputs too: an operator may write only a part of them. The caller
 * frees the copies, also after a failure. */
static qd_status copies_take(qd_context *c, const qd_node *n, int64_t rows, host_copies *h) {
    memset(h, 0, sizeof *h);
    for (int i = 0; i < QD_OPERANDS; i++) {
        qd_tensor *t = node_operand(n, i);
        if (!t) continue;
        h->operands[i].stride = operand_stride(n, t);
        qd_status status;
        if (qd_is_constant(t)) {
            const void *bytes;
            status = qd_constant_bytes(t, &bytes);
            if (status) return status;
            h->operands[i].data = (void *)(uintptr_t)bytes; /* inputs are only read */
            continue;
        }
        h->bytes[i] = operand_bytes(n, t, rows);
        h->operands[i].data = h->owned[i] = qd_alloc(h->bytes[i]);
        if (!h->owned[i]) return QD_ERR_MEMORY;
        status = transfer(c, n, t, h->owned[i], h->bytes[i], false);
        if (status) return status;
    }
    return QD_OK;
}

static qd_status fallback_run(qd_context *c, const qd_node *n, int64_t rows) {
    host_copies h;
    qd_status status = QD_OK;
    QD_TRY(copies_take(c, n, rows, &h));
    QD_TRY(qd_backend_ref.compute(n, h.operands, h.operands + QD_MAX_IN, rows));
    for (int i = QD_MAX_IN; i < QD_OPERANDS; i++) {
        if (h.owned[i]) QD_TRY(transfer(c, n, node_operand(n, i), h.owned[i], h.bytes[i], true));
    }
error:
    copies_free(&h);
    return status;
}

/* An element in words, where it is a number by itself. */
static void show(qd_format f, const unsigned char *bytes, size_t at, char *text, size_t capacity) {
    const qd_format_info *info = qd_format_get(f);
    float value;
    if (info->kind == QD_KIND_FLOAT && info->block == 1 &&
        qd_dequantize(f, bytes + at / (size_t)info->bytes * (size_t)info->bytes, 1, 1, &value) == QD_OK) {
        snprintf(text, capacity, "%.9g", (double)value);
    } else if (f == QD_FORMAT_I32) {
        int32_t number;
        memcpy(&number, bytes + at / sizeof number * sizeof number, sizeof number);
        snprintf(text, capacity, "%d", number);
    } else {
        snprintf(text, capacity, "0x%02x", bytes[at]);
    }
}

/* Compares what the device made with the reference's answer for the inputs as they were. */
static qd_status compare(qd_context *c, const qd_node *n, int64_t rows, host_copies *before) {
    qd_status status = QD_OK;
    unsigned char *got = NULL;
    QD_TRY(qd_backend_ref.compute(n, before->operands, before->operands + QD_MAX_IN, rows));
    for (int i = QD_MAX_IN; i < QD_OPERANDS; i++) {
        const qd_tensor *t = node_operand(n, i);
        const unsigned char *want = before->owned[i];
        const size_t bytes = before->bytes[i];
        if (!t) continue;
        got = qd_alloc(bytes);
        if (!got) {
            status = QD_ERR_MEMORY;
            goto error;
        }
        QD_TRY(transfer(c, n, t, got, bytes, false));
        size_t at = 0;
        while (at < bytes && got[at] == want[at])
            at++;
        if (at < bytes) {
            char is[32], should[32];
            qd_op_spec spec;
            qd_op_spec_read(n->op, &spec);
            const size_t stride = operand_stride(n, t) ? operand_stride(n, t) : bytes;
            show(t->desc.format, got, at, is, sizeof is);
            show(t->desc.format, want, at, should, sizeof should);
            status =
                qd_fail(QD_ERR_DIFFERENT, "%s (%s on %s): %s has %s in row %zu, byte %zu, where the reference has %s",
                        qd_op_get(n->op)->name, n->variant, c->info.id, spec.out[i - QD_MAX_IN].name, is, at / stride,
                        at % stride, should);
            qd_log(c, "%s", qd_last_message());
            goto error;
        }
        free(got);
        got = NULL;
    }
error:
    free(got);
    return status;
}

static qd_status verified_run(qd_context *c, qd_node *n, int64_t rows) {
    host_copies before;
    qd_status status = QD_OK;
    QD_TRY(copies_take(c, n, rows, &before));
    QD_TRY(c->backend->enqueue(c->device, n, rows, NULL, 0));
    QD_TRY(compare(c, n, rows, &before));
error:
    copies_free(&before);
    return status;
}

/* ---- Nodes -------------------------------------------------------------------------------------------------- */

qd_status qd_node_check_memory(const qd_context *c, const qd_node *n) {
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
    qd_status status = qd_node_check_memory(c, n);
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
    if (n->fallback) return fallback_run(c, n, r);
    if (c->options.verify) return verified_run(c, n, r); /* its reads wait for all earlier work */
    return c->backend->enqueue(c->device, n, r, wait, n_wait);
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
