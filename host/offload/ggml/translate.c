/* From nodes of ggml to operators of the library: what every translation uses. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emit.h"

/* ---- Types and shapes --------------------------------------------------------------------------------------- */

qd_format qg_format(enum ggml_type type) {
    for (int f = 0; f < QD_FORMAT_COUNT; f++) {
        if (qd_format_get((qd_format)f)->gguf_type == (int)type) return (qd_format)f;
    }
    return QD_FORMAT_COUNT;
}

bool qg_is_blocked(enum ggml_type type) {
    const qd_format f = qg_format(type);
    return f != QD_FORMAT_COUNT && qd_format_get(f)->kind == QD_KIND_BLOCKED;
}

bool qg_uniform_rows(const struct ggml_tensor *t, int64_t *rows, int64_t *step) {
    *rows = 1;
    *step = (int64_t)ggml_row_size(t->type, t->ne[0]);
    if (t->nb[0] != ggml_type_size(t->type)) return false;
    for (int k = 1; k < GGML_MAX_DIMS; k++) {
        if (t->ne[k] == 1) continue;
        const int64_t here = (int64_t)t->nb[k];
        if (*rows == 1) {
            *step = here;
        } else if (here != *step * *rows) {
            return false;
        }
        *rows *= t->ne[k];
    }
    return true;
}

bool qg_is_leaf(const struct ggml_tensor *t) {
    while (t->view_src)
        t = t->view_src;
    return t->op == GGML_OP_NONE;
}

/* A tensor's shape with the outermost dimension first. */
static qd_tensor_desc desc_of(const struct ggml_tensor *t, int64_t steps[QD_MAX_RANK]) {
    qd_tensor_desc d = {.format = qg_format(t->type), .rank = QD_MAX_RANK};
    for (int k = 0; k < QD_MAX_RANK; k++) {
        d.shape[k] = t->ne[QD_MAX_RANK - 1 - k];
        steps[k] = (int64_t)t->nb[QD_MAX_RANK - 1 - k];
    }
    return d;
}

/* ---- What a program owns ------------------------------------------------------------------------------------ */

static qd_status grow(void *array, int used, int *capacity, size_t element) {
    if (used < *capacity) return QD_OK;
    void **p = array;
    const int larger = *capacity ? 2 * *capacity : 64;
    void *grown = realloc(*p, (size_t)larger * element);
    if (!grown) return QD_ERR_MEMORY;
    *p = grown;
    *capacity = larger;
    return QD_OK;
}

qd_status qg_own_constant(qg_builder *b, const qd_tensor_desc *desc, const void *data, size_t bytes, qd_tensor **out) {
    qg_program *p = b->program;
    if (p->n_constants == p->constants_cap) {
        const int larger = p->constants_cap ? 2 * p->constants_cap : 8;
        void **memory = realloc(p->memory, (size_t)larger * sizeof *memory);
        if (memory) p->memory = memory;
        qd_tensor **constants = realloc(p->constants, (size_t)larger * sizeof *constants);
        if (constants) p->constants = constants;
        if (!memory || !constants) return QD_ERR_MEMORY;
        p->constants_cap = larger;
    }
    void *copy = malloc(bytes);
    if (!copy) return QD_ERR_MEMORY;
    memcpy(copy, data, bytes);
    const qd_status status = qd_tensor_constant(b->device->context, desc, copy, out);
    if (status) {
        free(copy);
        return status;
    }
    p->memory[p->n_constants] = copy;
    p->constants[p->n_constants++] = *out;
    return QD_OK;
}

/* With verify the steps of a program are graphs of their own: what stands between them is no graph's. */
static bool is_stepped(const qg_builder *b) {
    return b->device->options.verify;
}

/* Takes over a tensor that stands between steps. */
static qd_status own(qg_builder *b, qd_status status, qd_tensor *const *t) {
    qg_program *p = b->program;
    if (status) return status;
    status = grow(&p->windows, p->n_windows, &p->windows_cap, sizeof *p->windows);
    if (status) {
        qd_tensor_free(*t);
    } else {
        p->windows[p->n_windows++] = (qg_operand){.tensor = *t};
    }
    return status;
}

qd_status qg_temporary(qg_builder *b, const qd_tensor_desc *desc, qd_tensor **out) {
    if (!is_stepped(b)) return qd_graph_tensor(b->program->graph, desc, out);
    return own(b, qd_tensor_create(b->device->context, desc, out), out);
}

qd_status qg_reshape(qg_builder *b, qd_tensor *t, const qd_tensor_desc *desc, qd_tensor **out) {
    if (!is_stepped(b)) return qd_graph_reshape(b->program->graph, t, desc, out);
    return own(b, qd_tensor_reshape(t, desc, out), out);
}

qd_status qg_columns_of(qg_builder *b, qd_tensor *t, int64_t first, int64_t count, qd_tensor **out) {
    if (!is_stepped(b)) return qd_graph_view(b->program->graph, t, first, count, out);
    return own(b, qd_tensor_view(t, first, count, out), out);
}

/* Bytes from the first to behind the last of a tensor with steps. */
static size_t extent(const qd_tensor_desc *d, const int64_t *steps) {
    if (!steps) return qd_desc_bytes(d);
    const qd_format_info *f = qd_format_get(d->format);
    size_t bytes = (size_t)f->bytes;
    for (int k = 0; k < d->rank; k++) {
        const int64_t n = k == d->rank - 1 ? d->shape[k] / f->block : d->shape[k];
        bytes += (size_t)(n - 1) * (size_t)steps[k];
    }
    return bytes;
}

/* ---- Inputs and results ------------------------------------------------------------------------------------- */

static qd_status buffer_of(const struct ggml_tensor *t, qg_buffer **out) {
    *out = qg_buffer_of(t);
    if (*out) return QD_OK;
    GGML_LOG_ERROR("qdot: %s lies in a buffer of another device\n", t->name);
    return QD_ERR_ARGUMENT;
}

qd_status qg_part(qg_builder *b, const struct ggml_tensor *t, size_t offset, const qd_tensor_desc *desc,
                  const int64_t *steps, qd_tensor **out) {
    qg_program *p = b->program;
    qg_buffer *buffer;
    qd_tensor *memory;
    qd_status status = buffer_of(t, &buffer);
    if (!status) status = grow(&p->windows, p->n_windows, &p->windows_cap, sizeof *p->windows);
    if (!status) status = qg_buffer_memory(buffer, &memory);
    if (status) return status;
    const size_t at = (size_t)((const char *)t->data - buffer->base) + offset;
    status = qd_tensor_window(memory, at, desc, steps, out);
    if (!status) p->windows[p->n_windows++] = (qg_operand){*out, {buffer, at, at + extent(desc, steps)}};
    return status;
}

/* Orders spans that are apart; those that meet are equal. */
static int compare_spans(const void *x, const void *y) {
    const qg_span *a = x, *b = y;
    return a->to <= b->from ? -1 : b->to <= a->from ? 1 : 0;
}

/* True when a node of the graph, earlier or later, writes bytes of the tensor. */
static bool is_written(const qg_builder *b, const struct ggml_tensor *t) {
    const char *data = t->data;
    const qg_span span = {data, data + ggml_nbytes(t)};
    return b->n_results && bsearch(&span, b->results, (size_t)b->n_results, sizeof span, compare_spans);
}

bool qg_is_constant(const qg_builder *b, const struct ggml_tensor *t, qg_use use) {
    if (!qg_is_leaf(t) || !ggml_is_contiguous(t)) return false;
    const struct ggml_tensor *root = t->view_src ? t->view_src : t;
    const qg_buffer *buffer = qg_buffer_of(t);
    if (!buffer || root->flags & GGML_TENSOR_FLAG_INPUT || is_written(b, t)) return false;
    if (buffer->handle->usage == GGML_BACKEND_BUFFER_USAGE_WEIGHTS) return true;
    /* A view is more likely one of a cache; what has blocks can be nothing else but a constant. */
    return use == QG_WEIGHTS && buffer->handle->usage != GGML_BACKEND_BUFFER_USAGE_COMPUTE &&
           (!t->view_src || qg_is_blocked(t->type));
}

qd_status qg_part_in(qg_builder *b, const struct ggml_tensor *t, qg_use use, size_t offset, const qd_tensor_desc *desc,
                     const int64_t *steps, qd_tensor **out) {
    if (!qg_is_constant(b, t, use)) return qg_part(b, t, offset, desc, steps, out);
    return qg_buffer_constant(qg_buffer_of(t), (const char *)t->data + offset, desc, out);
}

qd_status qg_in(qg_builder *b, const struct ggml_tensor *t, qg_use use, qd_tensor **out) {
    int64_t steps[QD_MAX_RANK];
    const qd_tensor_desc d = desc_of(t, steps);
    return qg_part_in(b, t, use, 0, &d, steps, out);
}

/* Copies an input into a dense tensor of f32 inside the graph. */
static qd_status dense_copy(qg_builder *b, const struct ggml_tensor *t, const qd_tensor_desc *rows, qd_tensor **out) {
    int64_t steps[QD_MAX_RANK];
    qd_tensor_desc d = desc_of(t, steps);
    qd_tensor *from, *copy;
    qd_status status = qg_part(b, t, 0, &d, steps, &from);
    d.format = QD_FORMAT_F32;
    if (!status) status = qg_temporary(b, &d, &copy);
    if (!status) status = qg_add(b, QD_OP_COPY, NULL, &from, 1, copy);
    return status ? status : qg_reshape(b, copy, rows, out);
}

qd_status qg_in_rows(qg_builder *b, const struct ggml_tensor *t, qg_use use, qd_tensor **out) {
    int64_t rows, step;
    const bool uniform = qg_uniform_rows(t, &rows, &step) && t->type == GGML_TYPE_F32;
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, uniform ? rows : ggml_nrows(t), t->ne[0], 0, 0);
    if (!uniform) return dense_copy(b, t, &d, out);
    return qg_part_in(b, t, use, 0, &d, (int64_t[]){step, sizeof(float)}, out);
}

qd_status qg_rows_at(qg_builder *b, const struct ggml_tensor *t, size_t offset, const qd_tensor_desc *rows,
                     qd_tensor **out) {
    const int64_t steps[] = {(int64_t)t->nb[1], (int64_t)t->nb[0]};
    qd_tensor *apart;
    qd_status status = qg_part(b, t, offset, rows, steps, t->nb[0] == sizeof(float) ? out : &apart);
    if (status || t->nb[0] == sizeof(float)) return status;
    status = qg_temporary(b, rows, out);
    return status ? status : qg_add(b, QD_OP_COPY, NULL, &apart, 1, *out);
}

qd_status qg_out(qg_builder *b, const struct ggml_tensor *t, qd_tensor **out) {
    int64_t steps[QD_MAX_RANK];
    const qd_tensor_desc d = desc_of(t, steps);
    return qg_part(b, t, 0, &d, steps, out);
}

qd_status qg_out_rows(qg_builder *b, const struct ggml_tensor *t, qd_tensor **out) {
    int64_t rows, step;
    if (!qg_uniform_rows(t, &rows, &step)) {
        GGML_LOG_ERROR("qdot: the rows of the result %s are not at one distance\n", t->name);
        return QD_ERR_UNSUPPORTED;
    }
    const qd_tensor_desc d = qd_desc(qg_format(t->type), rows, t->ne[0], 0, 0);
    return qg_part(b, t, 0, &d, (int64_t[]){step, (int64_t)ggml_type_size(t->type)}, out);
}

/* ---- Operators ---------------------------------------------------------------------------------------------- */

static const qg_operand *window_of(const qg_program *p, const qd_tensor *t) {
    for (int i = p->n_windows; i-- > 0;) {
        if (p->windows[i].tensor == t) return &p->windows[i];
    }
    return NULL;
}

static bool meet(const qg_range *x, const qg_range *y) {
    return x->buffer == y->buffer && x->from < y->to && y->from < x->to;
}

/* Remembers what is written, so that nothing stale is read: quantized copies here, constants after each run. */
static qd_status note_written(qg_builder *b, const qg_range *r) {
    qg_program *p = b->program;
    for (int i = 0; i < b->n_quantized; i++) {
        if (meet(&b->quantized[i].range, r)) b->quantized[i].source = NULL;
    }
    for (int i = 0; i < p->n_written; i++) { /* most follow each other, or take each other's place */
        qg_range *w = &p->written[i];
        if (w->buffer != r->buffer || w->from > r->to || r->from > w->to) continue;
        if (r->from < w->from) w->from = r->from;
        if (r->to > w->to) w->to = r->to;
        return QD_OK;
    }
    const qd_status status = grow(&p->written, p->n_written, &p->written_cap, sizeof *p->written);
    if (!status) p->written[p->n_written++] = *r;
    return status;
}

static qd_status by_way_of(qg_builder *b, qd_op op, const qd_attrs *attrs, qd_tensor *const in[], int n_in,
                           qd_tensor *out) {
    qd_tensor *temporary;
    qd_status status = qg_temporary(b, qd_tensor_describe(out), &temporary);
    if (!status) status = qd_graph_add(b->program->graph, op, attrs, in, n_in, &temporary, 1);
    return status ? status : qd_graph_add(b->program->graph, QD_OP_COPY, NULL, &temporary, 1, &out, 1);
}

qd_status qg_add(qg_builder *b, qd_op op, const qd_attrs *attrs, qd_tensor *const in[], int n_in, qd_tensor *out) {
    const qg_operand *result = window_of(b->program, out);
    if (result && !result->range.buffer) result = NULL;
    bool over = false;
    for (int i = 0; result && i < n_in; i++) {
        const qg_operand *x = in[i] ? window_of(b->program, in[i]) : NULL;
        over = over || (x && meet(&x->range, &result->range));
    }
    qd_status status = qd_graph_add(b->program->graph, op, attrs, in, n_in, &out, 1);
    if (status && over) status = by_way_of(b, op, attrs, in, n_in, out);
    return status || !result ? status : note_written(b, &result->range);
}

/* ---- Activations in A8 -------------------------------------------------------------------------------------- */

static qd_status keep_quantized(qg_builder *b, const struct ggml_tensor *source, qd_tensor *t) {
    const qd_status status = grow(&b->quantized, b->n_quantized, &b->quantized_cap, sizeof *b->quantized);
    if (status) return status;
    qg_buffer *buffer = qg_buffer_of(source);
    const size_t at = buffer ? (size_t)((const char *)source->data - buffer->base) : 0;
    b->quantized[b->n_quantized++] = (qg_quantized){source, t, {buffer, at, at + ggml_nbytes(source)}};
    return QD_OK;
}

static qd_tensor *find_quantized(const qg_builder *b, const struct ggml_tensor *source) {
    for (int i = b->n_quantized; i-- > 0;) {
        if (b->quantized[i].source == source) return b->quantized[i].tensor;
    }
    return NULL;
}

qd_status qg_quantize(qg_builder *b, const struct ggml_tensor *x, qd_tensor **out) {
    *out = find_quantized(b, x);
    if (*out) return QD_OK;
    const qd_tensor_desc d = qd_desc(QD_FORMAT_A8, ggml_nrows(x), x->ne[0], 0, 0);
    qd_tensor *rows;
    qd_status status = qg_in_rows(b, x, QG_VALUE, &rows);
    if (!status) status = qg_temporary(b, &d, out);
    if (!status) status = qg_add(b, QD_OP_QUANTIZE, NULL, &rows, 1, *out);
    return status ? status : keep_quantized(b, x, *out);
}

/* True when every use of `t` is as the activations of a MUL_MAT that reads A8. */
static bool only_as_a8(const qg_builder *b, int at, const struct ggml_tensor *t) {
    const int uses = ggml_node_get_use_count(b->graph, at);
    if (uses < 1 || !ggml_node_has_n_uses(b->graph, at, uses)) return false;
    int found = 0;
    for (int i = at + 1; i < b->graph->n_nodes && found < uses; i++) {
        const struct ggml_tensor *n = b->graph->nodes[i];
        for (int j = 0; j < GGML_MAX_SRC; j++) {
            if (n->src[j] != t) continue;
            if (n->op != GGML_OP_MUL_MAT || j != 1 || !qg_reads_a8(b, n)) return false;
            found++;
        }
    }
    return found == uses;
}

/* Where a node is that is the current one or comes after it. */
static int index_of(const qg_builder *b, const struct ggml_tensor *node) {
    int at = b->at;
    while (b->graph->nodes[at] != node)
        at++;
    return at;
}

qd_status qg_direct(qg_builder *b, const struct ggml_tensor *result, qd_tensor **out) {
    *out = NULL;
    if (!only_as_a8(b, index_of(b, result), result)) return QD_OK;
    const qd_tensor_desc d = qd_desc(QD_FORMAT_A8, ggml_nrows(result), result->ne[0], 0, 0);
    const qd_status status = qg_temporary(b, &d, out);
    return status ? status : keep_quantized(b, result, *out);
}

/* ---- The graph ---------------------------------------------------------------------------------------------- */

/* What only gives bytes another shape, or has none. */
static bool is_nothing(const struct ggml_tensor *t) {
    switch (t->op) {
        case GGML_OP_NONE:
        case GGML_OP_RESHAPE:
        case GGML_OP_VIEW:
        case GGML_OP_PERMUTE:
        case GGML_OP_TRANSPOSE:
            return true;
        default:
            return ggml_is_empty(t);
    }
}

bool qg_is_computed(const struct ggml_tensor *t) {
    return (t->flags & GGML_TENSOR_FLAG_COMPUTE) && !is_nothing(t);
}

const struct ggml_tensor *qg_fusable(const qg_builder *b, const struct ggml_tensor *t, enum ggml_op op) {
    const int at = index_of(b, t);
    int i = at + 1;
    while (i < b->graph->n_nodes && !qg_is_computed(b->graph->nodes[i]))
        i++;
    if (i >= b->graph->n_nodes || !ggml_node_has_n_uses(b->graph, at, 1)) return NULL;
    const struct ggml_tensor *n = b->graph->nodes[i];
    return n->op == op && (n->src[0] == t) != (n->src[1] == t) && ggml_are_same_shape(n, t) ? n : NULL;
}

void qg_fused(qg_builder *b, const struct ggml_tensor *node) {
    b->done[index_of(b, node)] = true;
}

typedef struct op_row {
    const char *(*refuse)(const struct ggml_tensor *t);
    qd_status (*emit)(qg_builder *b, const struct ggml_tensor *t);
} op_row;

static const op_row rows[GGML_OP_COUNT] = {
#define QG_OP(OP, name) [GGML_OP_##OP] = {qg_##name##_refuse, qg_##name##_emit},
#include "ops.def"
};

static bool reads_nothing(const struct ggml_tensor *t) {
    for (int i = 0; i < GGML_MAX_SRC; i++) {
        if (t->src[i] && ggml_is_empty(t->src[i])) return true;
    }
    return false;
}

const char *qg_refuse(const struct ggml_tensor *op) {
    if (is_nothing(op)) return NULL;
    if (op->op >= GGML_OP_COUNT || !rows[op->op].refuse) return "qdot has no such operator";
    if (reads_nothing(op) && op->op != GGML_OP_SET_ROWS && op->op != GGML_OP_CONCAT) return "an input without elements";
    return rows[op->op].refuse(op);
}

static int compare_starts(const void *x, const void *y) {
    const qg_span *a = x, *b = y;
    return a->from < b->from ? -1 : a->from > b->from;
}

/* Collects what nodes write, but for memory that only ever holds results. */
static qd_status collect_results(qg_builder *b) {
    for (int i = 0; i < b->graph->n_nodes; i++) {
        const struct ggml_tensor *t = b->graph->nodes[i];
        const qg_buffer *buffer = qg_is_computed(t) ? qg_buffer_of(t) : NULL;
        if (!buffer || buffer->handle->usage == GGML_BACKEND_BUFFER_USAGE_COMPUTE) continue;
        const qd_status status = grow(&b->results, b->n_results, &b->results_cap, sizeof *b->results);
        if (status) return status;
        const char *data = t->data;
        b->results[b->n_results++] = (qg_span){data, data + ggml_nbytes(t)};
    }
    if (!b->n_results) return QD_OK;
    qsort(b->results, (size_t)b->n_results, sizeof *b->results, compare_starts);
    int n = 1;
    for (int i = 1; i < b->n_results; i++) {
        qg_span *last = &b->results[n - 1];
        if (b->results[i].from > last->to) {
            b->results[n++] = b->results[i];
        } else if (b->results[i].to > last->to) {
            last->to = b->results[i].to;
        }
    }
    b->n_results = n;
    return QD_OK;
}

/* What follows runs as one; `t`: it is this node, NULL: all of them. */
static qd_status begin_step(qg_builder *b, const struct ggml_tensor *t) {
    qg_program *p = b->program;
    qd_status status = grow(&p->steps, p->n_steps, &p->steps_cap, sizeof *p->steps);
    if (!status) status = qd_graph_create(b->device->context, 1, &p->graph);
    if (status) return status;
    qg_step *s = &p->steps[p->n_steps++];
    *s = (qg_step){.graph = p->graph, .op = t ? ggml_op_desc(t) : ""};
    if (t) snprintf(s->node, sizeof s->node, "%s", t->name);
    return QD_OK;
}

qd_status qg_translate(qg_device *d, const struct ggml_cgraph *graph, qg_program *p) {
    qg_builder b = {.device = d, .program = p, .graph = graph};
    b.done = calloc((size_t)graph->n_nodes + 1, sizeof *b.done);
    if (!b.done) return QD_ERR_MEMORY;
    qd_status status = collect_results(&b);
    if (!status && !is_stepped(&b)) status = begin_step(&b, NULL);
    for (b.at = 0; !status && b.at < graph->n_nodes; b.at++) {
        const struct ggml_tensor *t = graph->nodes[b.at];
        if (!qg_is_computed(t)) continue;
        p->nodes++;
        if (b.done[b.at]) continue;
        const char *why = qg_refuse(t);
        if (why) {
            GGML_LOG_ERROR("qdot: %s (%s): %s\n", t->name, ggml_op_desc(t), why);
            status = QD_ERR_UNSUPPORTED;
            break;
        }
        if (is_stepped(&b)) status = begin_step(&b, t);
        if (!status) status = rows[t->op].emit(&b, t);
        if (status) GGML_LOG_ERROR("qdot: %s (%s): %s\n", t->name, ggml_op_desc(t), qd_last_message());
    }
    free(b.done);
    free(b.quantized);
    free(b.inner);
    free(b.results);
    return status;
}
