/* Operators: which part has which, what it needs from the others, and products that are shared out by output channels.
 */
#include <stdlib.h>
#include <string.h>

#include "ref/host.h"
#include "split/split.h"

/* An operator, or a share of it, as a part sees it. */
typedef struct piece {
    int part;
    qd_node node;
    qd_tensor tensors[QD_MAX_IN + QD_MAX_OUT];  /* what node.in[] and node.out[] point at, but for constants */
    qd_buffer *buffers[QD_MAX_IN + QD_MAX_OUT]; /* theirs here, with all parts' copies */
} piece;

/* What stands behind node->kernel. */
typedef struct split_node {
    int home;   /* the part that has all of it, or what is not shared out */
    bool fresh; /* its results have no bytes before that it could leave as they were */
    int n_pieces;
    piece *pieces[SPLIT_MOST];
} split_node;

/* ---- Plan --------------------------------------------------------------------------------------------------- */

/* What an operator costs: the weights that it reads. Those of a table of rows are hardly read. */
static double cost_of(const qd_node *n) {
    double bytes = 1;
    for (int i = 0; i < QD_MAX_IN && n->op != QD_OP_GET_ROWS && n->op != QD_OP_GET_ROWS_CODED; i++) {
        if (n->in[i] && qd_is_constant(n->in[i])) bytes += (double)qd_desc_bytes(&n->in[i]->desc);
    }
    return bytes;
}

/* Leaves some rows of its results as they are: those that no index names, or whose index is outside. */
static bool writes_part(const qd_node *n) {
    switch (n->op) {
        case QD_OP_KV_STORE:
        case QD_OP_SET_ROWS:
        case QD_OP_GET_ROWS:
        case QD_OP_GET_ROWS_CODED:
        case QD_OP_MATMUL_EXPERTS:
            return true;
        default:
            return false;
    }
}

/* The part where an operator belongs because of what it writes, or reads of others' writing, for longer than a run. */
static int home_of(const qd_node *n) {
    for (int i = 0; i < QD_MAX_IN + QD_MAX_OUT; i++) {
        const qd_tensor *t = i < QD_MAX_IN ? n->in[i] : n->out[i - QD_MAX_IN];
        if (t && !qd_is_constant(t) && t->buffer && t->buffer->home >= 0) return t->buffer->home;
    }
    return -1;
}

static const qd_tensor *owner_of(const qd_tensor *t) {
    return t && t->base ? t->base : t;
}

static void settle(const qd_node *n, int part) {
    for (int i = 0; i < QD_MAX_OUT; i++) {
        const qd_tensor *owner = owner_of(n->out[i]);
        if (owner && !owner->graph && owner->buffer->home < 0) owner->buffer->home = part;
    }
}

/* In a run of a graph, tensors of its own mean nothing until they are written: what the run before left there, maybe on
 * another part, need not be waited for. */
static bool is_fresh(qd_node *const nodes[], int i) {
    for (int k = 0; k < QD_MAX_OUT; k++) {
        const qd_tensor *t = owner_of(nodes[i]->out[k]);
        if (t && !t->graph) return false;
        for (int j = 0; t && j < i * QD_MAX_OUT; j++) {
            if (owner_of(nodes[j / QD_MAX_OUT]->out[j % QD_MAX_OUT]) == t) return false;
        }
    }
    return true;
}

static split_node *new_node(qd_node *n) {
    if (!n->kernel) n->kernel = qd_alloc_zero(1, sizeof(split_node));
    return n->kernel;
}

qd_status split_plan(void *device, qd_node *const nodes[], int n) {
    split_device *d = device;
    double all = 0, done = 0, end = d->parts[0].share;
    int part = 0;
    for (int i = 0; i < n; i++)
        all += cost_of(nodes[i]);
    for (int i = 0; i < n; i++) {
        const double cost = cost_of(nodes[i]);
        while (!d->by_rows && part + 1 < d->n_parts && done + cost / 2 > end * all)
            end += d->parts[++part].share;
        done += cost;
        split_node *x = new_node(nodes[i]);
        if (!x) return QD_ERR_MEMORY;
        const int home = home_of(nodes[i]);
        x->home = home < 0 ? part : home;
        x->fresh = writes_part(nodes[i]) && is_fresh(nodes, i);
        settle(nodes[i], x->home);
    }
    return QD_OK;
}

/* ---- Pieces ------------------------------------------------------------------------------------------------- */

/* Products with constant weights, whose output channels can be shared out: their results are columns of y. */
static bool can_share(const split_device *d, const qd_node *n) {
    enum { FEW = 64 };
    if (!d->by_rows || n->op != QD_OP_MATMUL || !qd_is_constant(n->in[0]) || n->in[0]->desc.rank != 2) return false;
    const qd_tensor *addend = n->in[2], *y = n->out[0];
    return n->in[0]->desc.shape[0] >= (int64_t)FEW * d->n_parts && y->desc.format == QD_FORMAT_F32 && !y->strided &&
           (!addend || (!addend->strided && !(qd_is_constant(addend) && addend->desc.rank > 1)));
}

/* Output channels [*first, *first + result) of n for a part: a multiple of 32, the rest to the last one. */
static int64_t channels_of(const split_device *d, int part, int64_t n, int64_t *first) {
    double before = 0;
    for (int i = 0; i < part; i++)
        before += d->parts[i].share;
    const int64_t from = (int64_t)(before * (double)n) / 32 * 32;
    const int64_t to = (int64_t)((before + d->parts[part].share) * (double)n) / 32 * 32;
    *first = from;
    return (part + 1 == d->n_parts ? n : to) - from;
}

static void free_piece(const split_device *d, piece *p) {
    if (!p) return;
    const qd_backend *b = d->parts[p->part].backend;
    if (p->node.kernel && b->retire) b->retire(d->parts[p->part].device, &p->node);
    free(p);
}

/* Operand i of a piece; `first` and `count` of all its output channels where these are shared out, else count is -1. */
static qd_status make_operand(split_device *d, piece *p, const qd_node *n, int i, int64_t first, int64_t count) {
    qd_tensor *t = i < QD_MAX_IN ? n->in[i] : n->out[i - QD_MAX_IN];
    qd_tensor **place = i < QD_MAX_IN ? &p->node.in[i] : &p->node.out[i - QD_MAX_IN];
    const bool cut = count >= 0 && i != 1;
    if (!t) return QD_OK;
    if (qd_is_constant(t))
        return split_constant(&d->parts[p->part], t, cut ? first : 0, cut ? count : t->desc.shape[0], place);
    qd_tensor *mine = &p->tensors[i];
    *mine = *t;
    if (cut) {
        mine->desc.shape[mine->desc.rank - 1] = count;
        mine->offset += (size_t)first * sizeof(float);
    }
    p->buffers[i] = t->buffer;
    *place = mine;
    return split_copy_of(d, t->buffer, p->part, &mine->buffer);
}

static qd_status make_piece(split_device *d, const qd_node *n, int part, int64_t first, int64_t count, piece **out) {
    piece *p = qd_alloc_zero(1, sizeof *p);
    if (!p) return QD_ERR_MEMORY;
    qd_status status = QD_OK;
    p->part = part;
    p->node = *n;
    p->node.kernel = NULL;
    for (int i = 0; i < QD_MAX_IN + QD_MAX_OUT; i++)
        QD_TRY(make_operand(d, p, n, i, first, count));
    QD_TRY(d->parts[part].backend->prepare(d->parts[part].device, &p->node));
    *out = p;
    return QD_OK;
error:
    free_piece(d, p);
    return status;
}

qd_status split_prepare(void *device, qd_node *n) {
    split_device *d = device;
    const bool planned = n->kernel != NULL;
    split_node *x = new_node(n);
    qd_status status = QD_OK;
    if (!x) return QD_ERR_MEMORY;
    if (!planned) {
        const int home = home_of(n);
        x->home = home >= 0 ? home : d->by_rows ? 0 : d->next++ % d->n_parts;
    }
    const bool share = can_share(d, n);
    for (int i = 0; i < (share ? d->n_parts : 1); i++) {
        int64_t first = 0, count = -1;
        if (share) count = channels_of(d, i, n->in[0]->desc.shape[0], &first);
        if (!count) continue;
        QD_TRY(make_piece(d, n, share ? i : x->home, first, count, &x->pieces[x->n_pieces]));
        x->n_pieces++;
    }
    n->variant = x->pieces[0]->node.variant;
    return QD_OK;
error:
    split_retire(d, n);
    return status;
}

void split_retire(void *device, qd_node *n) {
    const split_device *d = device;
    split_node *x = n->kernel;
    for (int i = 0; x && i < x->n_pieces; i++)
        free_piece(d, x->pieces[i]);
    free(x);
    n->kernel = NULL;
}

/* ---- Runs --------------------------------------------------------------------------------------------------- */

/* True when every byte from its first element to its last is one of an element. */
static bool is_dense(const qd_tensor *t) {
    return !t->window && !t->strided && t->stride == qd_format_row_bytes(t->desc.format, qd_columns(t));
}

/* What a piece reads, and what lies between what it writes. */
static qd_status bring_operands(split_device *d, const split_node *x, piece *p, int64_t rows) {
    for (int i = 0; i < QD_MAX_IN + QD_MAX_OUT; i++) {
        const qd_tensor *t = &p->tensors[i];
        if (!p->buffers[i]) continue;
        if (i >= QD_MAX_IN && is_dense(t) && (x->fresh || !writes_part(&p->node))) continue;
        const qd_status status = split_bring(d, p->buffers[i], t->offset, qd_host_extent(t, rows), p->part);
        if (status) return status;
    }
    return QD_OK;
}

static qd_status start_piece(split_device *d, piece *p, int64_t rows) {
    const split_part *on = &d->parts[p->part];
    qd_status status = QD_OK;
    QD_TRY(on->backend->enqueue(on->device, &p->node, rows, NULL, 0));
    for (int i = QD_MAX_IN; i < QD_MAX_IN + QD_MAX_OUT; i++) {
        const qd_tensor *t = &p->tensors[i];
        if (p->buffers[i]) QD_TRY(split_claim(p->buffers[i], t->offset, qd_host_extent(t, rows), p->part));
    }
error:
    return status;
}

/* Puts the columns that another part made into the result as part `home` has it. */
static qd_status collect(split_device *d, const piece *p, const piece *at_home, int64_t rows) {
    enum { Y = QD_MAX_IN };
    const split_part *from = &d->parts[p->part], *to = &d->parts[at_home->part];
    const qd_tensor *y = &p->tensors[Y];
    qd_buffer *target = p->buffers[Y]->copies[at_home->part];
    const size_t bytes = qd_host_extent(y, rows), line = (size_t)qd_columns(y) * sizeof(float);
    unsigned char *staging = split_staging(d, 2 * bytes), *whole = staging + bytes;
    qd_status status = QD_OK;
    if (!staging) return QD_ERR_MEMORY;
    QD_TRY(from->backend->read(from->device, y->buffer, y->offset, staging, bytes));
    if (bytes == line) return to->backend->write(to->device, target, y->offset, staging, bytes);
    QD_TRY(to->backend->read(to->device, target, y->offset, whole, bytes));
    for (size_t at = 0; at < bytes; at += y->stride)
        memcpy(whole + at, staging + at, line);
    QD_TRY(to->backend->write(to->device, target, y->offset, whole, bytes));
error:
    return status;
}

/* All parts at work at once; then the first has the whole result. */
static qd_status run_shared(split_device *d, split_node *x, int64_t rows) {
    enum { Y = QD_MAX_IN };
    piece *home = x->pieces[0];
    qd_status status = QD_OK;
    for (int i = 0; i < x->n_pieces; i++)
        QD_TRY(bring_operands(d, x, x->pieces[i], rows));
    for (int i = 0; i < x->n_pieces; i++) {
        const split_part *on = &d->parts[x->pieces[i]->part];
        QD_TRY(on->backend->enqueue(on->device, &x->pieces[i]->node, rows, NULL, 0));
        if (on->backend->submit) QD_TRY(on->backend->submit(on->device));
    }
    for (int i = 1; i < x->n_pieces; i++)
        QD_TRY(collect(d, x->pieces[i], home, rows));
    for (int i = 0; i < x->n_pieces; i++) {
        const qd_tensor *y = &x->pieces[i]->tensors[Y];
        QD_TRY(split_claim(home->buffers[Y], y->offset, qd_host_extent(y, rows), home->part));
    }
error:
    return status;
}

qd_status split_enqueue(void *device, qd_node *n, int64_t rows, qd_node *const wait[], int n_wait) {
    split_device *d = device;
    split_node *x = n->kernel;
    (void)wait, (void)n_wait;
    if (x->n_pieces > 1) return run_shared(d, x, rows);
    const qd_status status = bring_operands(d, x, x->pieces[0], rows);
    return status ? status : start_piece(d, x->pieces[0], rows);
}
