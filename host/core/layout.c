/* Layout: a network whose images have channels first, [R,C,H,W] as in ONNX, becomes one that has them last, [R,H,W,C],
 * where the device's convolutions are much faster so. Results have the same bytes in the same places.
 *
 *   x ──conv──> a ──table──> b ──add──> y        x ──COPY──> x' ──conv'──> a' ──table'──> b' ──add'──> y' ──COPY──> y
 *
 * In program order: an operator that starts (a convolution) or follows (its operands have a twin, channels last) works
 * on twins; for one that does neither, a twin that it reads is copied back. What nobody reads is never copied. */
#include <stdlib.h>
#include <string.h>

#include "core/graph.h"

#define NO QD_ERR_UNSUPPORTED

/* ---- Images ------------------------------------------------------------------------------------------------- */

/* Dimension k of channels last is dimension channels_first(k) of channels first. */
static int channels_first(int k, int rank) {
    return k == 0 ? 0 : k == rank - 1 ? 1 : k + 1;
}

static qd_tensor_desc desc_last(const qd_tensor_desc *d) {
    qd_tensor_desc last = *d;
    for (int k = 0; k < d->rank; k++)
        last.shape[k] = d->shape[channels_first(k, d->rank)];
    return last;
}

static int64_t elements(const qd_tensor_desc *d) {
    int64_t n = 1;
    for (int k = 0; k < d->rank; k++)
        n *= d->shape[k];
    return n;
}

/* Both layouts are the same bytes. */
static bool is_flat(const qd_tensor_desc *d) {
    return d->shape[1] == 1 || elements(d) == d->shape[0] * d->shape[1];
}

/* What a twin can stand for: dense codes, as many images as ever. */
static bool is_image(const qd_tensor *t) {
    const qd_tensor_desc *d = &t->desc;
    return (d->rank == 3 || d->rank == 4) && d->shape[0] > 0 && !qd_is_constant(t) && (!t->base || t->reshaped) &&
           qd_format_get(d->format)->block == 1 && elements(d) > 0;
}

/* ---- Operators ---------------------------------------------------------------------------------------------- */

static bool is_convolution(const qd_node *n) {
    return n->op == QD_OP_CONV_INT || n->op == QD_OP_CONV_ADD_INT;
}

/* The operands that are images, bit by bit; 0: this operator is left as it is. */
static unsigned images_of(const qd_node *n) {
    const qd_tensor *requant = n->in[1];
    switch (n->op) {
        case QD_OP_CONV_INT:
        case QD_OP_CONV_ADD_INT: /* the residual, too */
            if (!n->attrs.conv_int.window.nchw || !qd_is_constant(n->in[0])) return 0;
            return n->op == QD_OP_CONV_INT ? 1u << 1 : 1u << 1 | 1u << 3;
        case QD_OP_POOL:
            return n->attrs.pool.window.nchw;
        case QD_OP_RESIZE:
            return n->attrs.resize.nchw;
        case QD_OP_REQUANTIZE:
            return requant->desc.shape[0] == 1;
        case QD_OP_TABLE:
        case QD_OP_PAD:
            return 1;
        case QD_OP_ADD_INT:
        case QD_OP_MUL_INT:
            return 3;
        case QD_OP_CONCAT:
            return (1u << QD_MAX_IN) - 1;
        default:
            return 0;
    }
}

/* The attributes for channels last. */
static void put_attrs(qd_node *n, int rank) {
    int64_t before[QD_MAX_RANK], after[QD_MAX_RANK];
    int axis;
    switch (n->op) {
        case QD_OP_CONV_INT:
        case QD_OP_CONV_ADD_INT:
            n->attrs.conv_int.window.nchw = false;
            break;
        case QD_OP_POOL:
            n->attrs.pool.window.nchw = false;
            break;
        case QD_OP_RESIZE:
            n->attrs.resize.nchw = false;
            break;
        case QD_OP_PAD:
            memcpy(before, n->attrs.pad.before, sizeof before);
            memcpy(after, n->attrs.pad.after, sizeof after);
            for (int k = 0; k < rank; k++) {
                n->attrs.pad.before[k] = before[channels_first(k, rank)];
                n->attrs.pad.after[k] = after[channels_first(k, rank)];
            }
            break;
        case QD_OP_CONCAT:
            axis = n->attrs.concat.axis + (n->attrs.concat.axis < 0 ? rank : 0);
            for (int k = 0; k < rank; k++) {
                if (channels_first(k, rank) == axis) n->attrs.concat.axis = k;
            }
            break;
        default:
            break;
    }
}

/* Weights [O,C,H,W] as [O,H,W,C], in memory of their own. */
static qd_status weights_last(qd_graph *g, qd_tensor *w, qd_tensor **out) {
    const qd_tensor_desc d = desc_last(&w->desc);
    const unsigned char *from;
    if (qd_format_get(d.format)->bytes != 1 || qd_format_get(d.format)->block != 1) return NO;
    qd_status status = qd_constant_bytes(w, (const void **)&from);
    if (status) return status;
    const int64_t O = d.shape[0], C = d.shape[d.rank - 1], pixels = elements(&d) / (O * C);
    unsigned char *to = qd_alloc((size_t)elements(&d));
    if (!to) return QD_ERR_MEMORY;
    for (int64_t o = 0; o < O; o++) {
        for (int64_t p = 0; p < pixels; p++) {
            for (int64_t c = 0; c < C; c++)
                to[(o * pixels + p) * C + c] = from[(o * C + c) * pixels + p];
        }
    }
    status = qd_tensor_constant(g->context, &d, to, out);
    if (status) {
        free(to);
        return status;
    }
    (*out)->owned = true;
    return qd_graph_adopt(g, *out, out);
}

/* ---- Twins -------------------------------------------------------------------------------------------------- */

typedef struct twin {
    qd_tensor *first, *last;
    bool stale; /* `first` has not the bytes yet */
} twin;

typedef struct pass {
    qd_graph *g;
    graph_node *nodes; /* the new ones */
    int n_nodes, nodes_cap;
    twin *twins;
    int n_twins, twins_cap;
} pass;

static twin *find_twin(const pass *p, const qd_tensor *first) {
    for (int i = 0; i < p->n_twins; i++) {
        if (p->twins[i].first == first) return &p->twins[i];
    }
    return NULL;
}

static qd_status put_twin(pass *p, qd_tensor *first, qd_tensor *last, bool stale) {
    twin *t = find_twin(p, first);
    if (!t) {
        const qd_status status = qd_grow((void **)&p->twins, p->n_twins, &p->twins_cap, sizeof *p->twins);
        if (status) return status;
        t = &p->twins[p->n_twins++];
    }
    *t = (twin){first, last, stale};
    return QD_OK;
}

static void drop_twin(pass *p, const qd_tensor *first) {
    twin *t = find_twin(p, first);
    if (t) *t = p->twins[--p->n_twins];
}

static qd_status put_node(pass *p, const qd_node *n) {
    const qd_status status = qd_grow((void **)&p->nodes, p->n_nodes, &p->nodes_cap, sizeof *p->nodes);
    if (!status) p->nodes[p->n_nodes++] = (graph_node){.node = *n};
    return status;
}

/* The bytes of `first`, seen with channels last. */
static qd_status see_last(pass *p, qd_tensor *first, qd_tensor **out) {
    const qd_tensor_desc d = desc_last(&first->desc);
    int64_t dense[QD_MAX_RANK], steps[QD_MAX_RANK], step = qd_format_get(d.format)->bytes;
    for (int k = d.rank - 1; k >= 0; k--) {
        dense[k] = step;
        step *= first->desc.shape[k];
    }
    for (int k = 0; k < d.rank; k++)
        steps[k] = dense[channels_first(k, d.rank)];
    qd_tensor *view;
    const qd_status status =
        is_flat(&first->desc) ? qd_tensor_reshape(first, &d, &view) : qd_window_of(first, 0, &d, steps, &view);
    return status ? status : qd_graph_adopt(p->g, view, out);
}

static qd_status put_copy(pass *p, qd_tensor *from, qd_tensor *to) {
    qd_node n;
    const qd_status status = qd_node_init(&n, QD_OP_COPY, NULL, &from, 1, &to, 1, p->g);
    if (status) return status;
    p->g->info.copies++;
    return put_node(p, &n);
}

static qd_status new_twin(pass *p, const qd_tensor *first, qd_tensor **out) {
    const qd_tensor_desc d = desc_last(&first->desc);
    qd_tensor *t;
    const qd_status status = qd_tensor_new(p->g->context, &d, &t);
    return status ? status : qd_graph_adopt(p->g, t, out);
}

/* No operator writes t, which comes from outside. */
static bool is_given(const qd_graph *g, const qd_tensor *t) {
    if (t->graph || (t->base && t->base->graph)) return false;
    for (int i = 0; i < g->n_nodes; i++) {
        for (int k = 0; k < QD_MAX_OUT; k++) {
            const qd_tensor *out = g->nodes[i].node.out[k];
            if (out && qd_tensor_overlap(out, t, g->max_rows)) return false;
        }
    }
    return true;
}

/* What an operator with channels last reads in place of `first`. */
static qd_status twin_to_read(pass *p, qd_tensor *first, qd_tensor **out) {
    const twin *t = find_twin(p, first);
    if (t) {
        *out = t->last;
        return QD_OK;
    }
    const bool keeps = qd_is_private(p->g, first) || is_given(p->g, first);
    qd_tensor *seen, *last;
    qd_status status;
    QD_TRY(see_last(p, first, &seen));
    *out = seen;
    if (is_flat(&first->desc)) return QD_OK;
    QD_TRY(new_twin(p, first, &last));
    QD_TRY(put_copy(p, seen, last));
    if (keeps) QD_TRY(put_twin(p, first, last, false));
    *out = last;
error:
    return status;
}

/* Gives `first` its bytes, where they are only in its twin. */
static qd_status put_back(pass *p, const qd_tensor *first) {
    twin *t = first ? find_twin(p, first) : NULL;
    qd_tensor *seen;
    qd_status status;
    if (!t || !t->stale) return QD_OK;
    QD_TRY(see_last(p, t->first, &seen));
    QD_TRY(put_copy(p, t->last, seen));
    t->stale = false;
error:
    return status;
}

/* ---- The pass ----------------------------------------------------------------------------------------------- */

/* Whether operand k is an image that needs channels last; else it stays as it is. */
static bool is_changed(const qd_node *n, unsigned images, int k) {
    return (images >> k & 1) && n->in[k] && is_image(n->in[k]) && n->in[k]->desc.rank == n->out[0]->desc.rank;
}

/* Whether an operator can have channels last, and should: convolutions are worth copies of images, others are not. */
static bool is_to_change(const pass *p, const qd_node *n, unsigned images) {
    bool changes = is_convolution(n);
    if (!images || !is_image(n->out[0])) return false;
    for (int k = 0; k < QD_MAX_IN; k++) {
        if (!(images >> k & 1) || !n->in[k]) continue;
        if (is_changed(n, images, k)) {
            changes |= find_twin(p, n->in[k]) != NULL;
        } else if (elements(&n->in[k]->desc) != 1) {
            return false;
        }
    }
    return changes;
}

/* NO: the operator is refused so. */
static qd_status change(pass *p, const qd_node *n, unsigned images) {
    qd_tensor *y = n->out[0], *seen = NULL;
    const bool keeps = find_twin(p, y) || qd_is_private(p->g, y);
    qd_node made = *n, checked;
    qd_status status;
    if (is_convolution(n)) QD_TRY(weights_last(p->g, n->in[0], &made.in[0]));
    for (int k = 0; k < QD_MAX_IN; k++)
        QD_TRY(is_changed(n, images, k) ? twin_to_read(p, n->in[k], &made.in[k]) : put_back(p, n->in[k]));
    if (!keeps) QD_TRY(see_last(p, y, &seen));
    made.out[0] = seen;
    if (keeps || !is_flat(&y->desc)) QD_TRY(new_twin(p, y, &made.out[0]));
    put_attrs(&made, y->desc.rank);
    QD_TRY(qd_node_init(&checked, made.op, &made.attrs, made.in, qd_op_get(made.op)->max_in, made.out, 1, p->g));
    QD_TRY(put_node(p, &checked));
    if (keeps) {
        QD_TRY(put_twin(p, y, made.out[0], true));
    } else if (seen != made.out[0]) {
        QD_TRY(put_copy(p, made.out[0], seen));
    }
error:
    return status == QD_ERR_ARGUMENT ? NO : status;
}

/* An operator as it is: it reads what it always read, and what it writes has no twin. */
static qd_status keep(pass *p, const qd_node *n) {
    qd_status status;
    for (int k = 0; k < QD_MAX_IN; k++)
        QD_TRY(put_back(p, n->in[k]));
    for (int k = 0; k < QD_MAX_OUT; k++)
        drop_twin(p, n->out[k]);
    QD_TRY(put_node(p, n));
error:
    return status;
}

qd_status qd_graph_channels_last(qd_graph *g) {
    const qd_backend *b = g->context->backend;
    pass p = {.g = g};
    qd_status status = QD_OK;
    int changed = 0;
    if (!b->channels_last || !b->channels_last(g->context->device)) return QD_OK;
    for (int i = 0; i < g->n_nodes; i++) {
        const qd_node *n = &g->nodes[i].node;
        const unsigned images = images_of(n);
        status = is_to_change(&p, n, images) ? change(&p, n, images) : NO;
        changed += !status;
        if (status == NO) status = keep(&p, n);
        QD_TRY(status);
    }
    if (changed) {
        free(g->nodes);
        g->nodes = p.nodes;
        g->n_nodes = p.n_nodes;
        g->nodes_cap = p.nodes_cap;
        p.nodes = NULL;
        qd_log(g->context, "graph: %d operators have channels last, %d copies", changed, g->info.copies);
    }
error:
    free(p.nodes);
    free(p.twins);
    return status;
}
