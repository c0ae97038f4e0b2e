/* Matrices that read the same activations (queries, keys and values; gate and up) as one: their rows are stacked, and
 * the result stands inside the graph, where those that come next read their columns. */
#include <stdlib.h>

#include "emit.h"

/* The node that a tensor has all bytes of, in another shape. */
static const struct ggml_tensor *reshaped(const struct ggml_tensor *t) {
    const bool whole = (t->op == GGML_OP_RESHAPE || t->op == GGML_OP_VIEW) && t->view_src &&
                       t->data == t->view_src->data && ggml_nelements(t) == ggml_nelements(t->view_src) &&
                       ggml_is_contiguous(t);
    return whole ? t->view_src : t;
}

qd_tensor *qg_columns(const qg_builder *b, const struct ggml_tensor *t) {
    const struct ggml_tensor *node = reshaped(t);
    for (int i = 0; i < b->n_inner; i++) {
        if (b->inner[i].tensor == node) return b->inner[i].columns;
    }
    return NULL;
}

/* True when node `c` reads `s`, which is `t` in some shape, as rows of t's columns, and asks qg_columns for them. */
static bool reads_rows(const struct ggml_tensor *c, const struct ggml_tensor *s, const struct ggml_tensor *t) {
    const int64_t rows = ggml_nrows(t), columns = t->ne[0];
    switch (c->op) {
        case GGML_OP_ROPE:
            return c->src[0] == s && s->ne[0] * s->ne[1] == columns && s->ne[2] == rows && s->ne[3] == 1;
        case GGML_OP_SET_ROWS:
            return c->src[0] == s && c->src[2] != s && s->ne[0] == columns && s->ne[1] == rows;
        case GGML_OP_GLU:
            return c->src[1] && s->ne[0] == columns;
        default:
            return false;
    }
}

/* True when every use of node `at` is by reads_rows, directly or through one reshape. */
static bool only_rows_read(const qg_builder *b, int at) {
    const struct ggml_tensor *t = b->graph->nodes[at];
    int left = ggml_node_get_use_count(b->graph, at);
    if (left < 1 || !ggml_node_has_n_uses(b->graph, at, left)) return false;
    for (int i = at + 1; i < b->graph->n_nodes && left; i++) {
        const struct ggml_tensor *c = b->graph->nodes[i];
        const bool again = c != t && reshaped(c) == t;
        if (again && c->flags & GGML_TENSOR_FLAG_OUTPUT) return false;
        if (again) left += ggml_node_get_use_count(b->graph, i);
        for (int j = 0; j < GGML_MAX_SRC; j++) {
            if (!c->src[j] || reshaped(c->src[j]) != t) continue;
            if (!again && !reads_rows(c, c->src[j], t)) return false;
            left--;
        }
    }
    return left == 0;
}

/* True when node `at` may stand in a stack with node `t`, which may be itself. */
static bool joins(const qg_builder *b, int at, const struct ggml_tensor *t) {
    const struct ggml_tensor *n = b->graph->nodes[at], *w = n->src[0];
    return n->op == GGML_OP_MUL_MAT && n->src[1] == t->src[1] && w->type == t->src[0]->type && w->ne[2] == 1 &&
           w->ne[3] == 1 && qg_is_constant(b, w, QG_WEIGHTS) && qg_buffer_of(w) == qg_buffer_of(t->src[0]) &&
           qg_reads_a8(b, n) == qg_reads_a8(b, t) && only_rows_read(b, at);
}

/* True when a node puts its result over x, by a copy into it: what comes later reads other values. */
static bool overwrites(const struct ggml_tensor *n, const struct ggml_tensor *x) {
    const char *from = n->data, *to = from + ggml_nbytes(n), *x_from = x->data, *x_to = x_from + ggml_nbytes(x);
    const bool computes = n->op != GGML_OP_NONE && n->op != GGML_OP_RESHAPE && n->op != GGML_OP_VIEW &&
                          n->op != GGML_OP_PERMUTE && n->op != GGML_OP_TRANSPOSE;
    return computes && from < x_to && x_from < to;
}

static qd_status keep(qg_builder *b, const struct ggml_tensor *t, qd_tensor *columns) {
    if (b->n_inner == b->inner_cap) {
        const int larger = b->inner_cap ? 2 * b->inner_cap : 64;
        qg_inner *grown = realloc(b->inner, (size_t)larger * sizeof *grown);
        if (!grown) return QD_ERR_MEMORY;
        b->inner = grown;
        b->inner_cap = larger;
    }
    b->inner[b->n_inner++] = (qg_inner){t, columns};
    return QD_OK;
}

qd_status qg_stack(qg_builder *b, const struct ggml_tensor *t, bool *done) {
    const struct ggml_tensor *member[QG_PARTS];
    int n = 0;
    int64_t columns = 0;
    *done = qg_columns(b, t) != NULL;
    if (*done || !joins(b, b->at, t)) return QD_OK;
    for (int i = b->at; i < b->graph->n_nodes && n < QG_PARTS; i++) {
        if (overwrites(b->graph->nodes[i], t->src[1])) break;
        if (!joins(b, i, t)) continue;
        member[n++] = b->graph->nodes[i];
        columns += b->graph->nodes[i]->ne[0];
    }
    if (n < 2) return QD_OK;
    *done = true;
    const void *data[QG_PARTS];
    qd_tensor_desc desc[QG_PARTS];
    for (int i = 0; i < n; i++) {
        const struct ggml_tensor *w = member[i]->src[0];
        data[i] = w->data;
        desc[i] = qd_desc(qg_format(w->type), w->ne[1], w->ne[0], 0, 0);
    }
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, ggml_nrows(t), columns, 0, 0);
    qd_tensor *in[2], *y, *part;
    qd_status status = qg_buffer_stack(qg_buffer_of(t->src[0]), data, desc, n, &in[0]);
    if (!status) {
        status = qg_reads_a8(b, t) ? qg_quantize(b, t->src[1], &in[1]) : qg_in_rows(b, t->src[1], QG_VALUE, &in[1]);
    }
    if (!status) status = qg_temporary(b, &d, &y);
    if (!status) status = qg_add(b, QD_OP_MATMUL, NULL, in, 2, y);
    columns = 0;
    for (int i = 0; !status && i < n; i++) {
        status = qg_columns_of(b, y, columns, member[i]->ne[0], &part);
        if (!status) status = keep(b, member[i], part);
        columns += member[i]->ne[0];
    }
    return status;
}
