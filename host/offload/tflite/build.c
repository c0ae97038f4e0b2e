/* Tensors and operators of one graph: see tflite.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tflite.h"

bool tfl_fail(tfl_build *b, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(b->why, sizeof b->why, format, list);
    va_end(list);
    return false;
}

bool tfl_ok(tfl_build *b, qd_status s) {
    return s == QD_OK || tfl_fail(b, "%s", qd_last_message());
}

/* ---- Life --------------------------------------------------------------------------------------------------- */

/* Room for one more pointer in a list. */
static bool grow(tfl_build *b, void ***list, int used, int *capacity) {
    if (used < *capacity) return true;
    const int larger = *capacity ? 2 * *capacity : 16;
    void **p = realloc(*list, (size_t)larger * sizeof *p);
    if (!p) return tfl_fail(b, "out of memory");
    *list = p;
    *capacity = larger;
    return true;
}

bool tfl_build_next(tfl_build *b) {
    if (!grow(b, (void ***)&b->graphs, b->n_graphs, &b->graphs_cap)) return false;
    if (!tfl_ok(b, qd_graph_create(b->context, 1, &b->graph))) return false;
    b->graphs[b->n_graphs++] = b->graph;
    return true;
}

bool tfl_build_start(tfl_build *b, TfLiteContext *host, qd_context *context, bool trial) {
    memset(b, 0, sizeof *b);
    b->host = host;
    b->context = context;
    b->trial = trial;
    b->n_values = host->tensors_size;
    b->values = calloc(b->n_values ? b->n_values : 1, sizeof *b->values);
    if (!b->values) return tfl_fail(b, "out of memory");
    return tfl_build_next(b);
}

void tfl_build_free(tfl_build *b) {
    for (int i = 0; i < b->n_graphs; i++)
        qd_graph_free(b->graphs[i]);
    for (int i = b->n_tensors - 1; i >= 0; i--)
        qd_tensor_free(b->tensors[i]);
    for (int i = 0; i < b->n_blocks; i++)
        free(b->blocks[i]);
    free(b->graphs);
    free(b->tensors);
    free(b->blocks);
    free(b->values);
    memset(b, 0, sizeof *b);
}

/* Takes over a tensor that is not the graph's. */
static bool own(tfl_build *b, qd_tensor *t) {
    if (!grow(b, (void ***)&b->tensors, b->n_tensors, &b->tensors_cap)) {
        qd_tensor_free(t);
        return false;
    }
    b->tensors[b->n_tensors++] = t;
    return true;
}

bool tfl_memory(tfl_build *b, int64_t n, size_t size, void *out) {
    void *p = calloc(n > 0 ? (size_t)n : 1, size);
    if (!p) return tfl_fail(b, "out of memory");
    if (!grow(b, &b->blocks, b->n_blocks, &b->blocks_cap)) {
        free(p);
        return false;
    }
    b->blocks[b->n_blocks++] = p;
    memcpy(out, &p, sizeof p);
    return true;
}

/* ---- Shapes ------------------------------------------------------------------------------------------------- */

int64_t tfl_elements(const tfl_shape *s) {
    int64_t n = 1;
    for (int i = 0; i < s->rank; i++)
        n *= s->of[i];
    return n;
}

bool tfl_same_shape(const tfl_shape *a, const tfl_shape *b) {
    return a->rank == b->rank && memcmp(a->of, b->of, (size_t)a->rank * sizeof *a->of) == 0;
}

qd_tensor_desc tfl_desc(qd_format f, const tfl_shape *s) {
    qd_tensor_desc d = {.format = f, .rank = 1, .shape = {tfl_elements(s)}};
    if (s->rank < 1 || s->rank > QD_MAX_RANK) return d;
    d.rank = s->rank;
    memcpy(d.shape, s->of, (size_t)s->rank * sizeof *s->of);
    return d;
}

bool tfl_rank(tfl_build *b, const tfl_operand *x, int rank) {
    return x->shape.rank == rank || tfl_fail(b, "tensor %d (%s) has %d dimensions where %d are needed", x->number,
                                             x->host->name ? x->host->name : "", x->shape.rank, rank);
}

bool tfl_axis(tfl_build *b, int axis, int rank, int *out) {
    *out = axis < 0 ? axis + rank : axis;
    return (*out >= 0 && *out < rank) || tfl_fail(b, "axis %d of a tensor with %d dimensions", axis, rank);
}

/* The host's shape of a tensor. */
static bool read_shape(tfl_build *b, const TfLiteTensor *t, tfl_shape *s) {
    const int rank = t->dims ? t->dims->size : -1;
    if (rank < 0 || rank > TFL_MAX_RANK) return tfl_fail(b, "%d dimensions; at most %d are known", rank, TFL_MAX_RANK);
    s->rank = rank;
    int64_t n = 1;
    for (int i = 0; i < rank; i++) {
        s->of[i] = t->dims->data[i];
        if (s->of[i] < 1)
            return tfl_fail(b, "dimension %d is %d: the shape is not known, or the tensor empty", i, t->dims->data[i]);
        n *= s->of[i];
        if (n > INT32_MAX) return tfl_fail(b, "a tensor of more than 2^31 elements");
    }
    return true;
}

static qd_format format_of(TfLiteType type) {
    switch (type) {
        case kTfLiteInt8:
            return QD_FORMAT_I8;
        case kTfLiteUInt8:
            return QD_FORMAT_U8;
        case kTfLiteInt4:
            return QD_FORMAT_I4;
        case kTfLiteInt32:
            return QD_FORMAT_I32;
        case kTfLiteFloat32:
            return QD_FORMAT_F32;
        default:
            return QD_FORMAT_COUNT;
    }
}

/* ---- Operands ----------------------------------------------------------------------------------------------- */

bool tfl_counts(tfl_build *b, int least_in, int most_in, int out) {
    const tfl_node *n = b->node;
    if (n->n_in >= least_in && n->n_in <= most_in && n->n_out == out) return true;
    return tfl_fail(b, "%d inputs and %d outputs where %d to %d and %d are known", n->n_in, n->n_out, least_in, most_in,
                    out);
}

bool tfl_input_optional(tfl_build *b, int i, tfl_operand *x) {
    memset(x, 0, sizeof *x);
    x->number = i < b->node->n_in ? b->node->in[i] : -1;
    if (x->number < 0) return true;
    x->host = &b->host->tensors[x->number];
    x->format = format_of(x->host->type);
    if (x->host->is_variable) return tfl_fail(b, "input %d is a variable", i);
    if (x->host->sparsity) return tfl_fail(b, "input %d is sparse", i);
    if (x->host->allocation_type == kTfLiteMmapRo) x->bytes = x->host->data.raw;
    const tfl_value *v = &b->values[x->number];
    if (v->tensor) {
        x->shape = v->shape;
        return true;
    }
    return read_shape(b, x->host, &x->shape);
}

bool tfl_input(tfl_build *b, int i, tfl_operand *x) {
    if (!tfl_input_optional(b, i, x)) return false;
    return x->host || tfl_fail(b, "input %d is missing", i);
}

bool tfl_output(tfl_build *b, int i, tfl_operand *y) {
    memset(y, 0, sizeof *y);
    y->number = b->node->out[i];
    if (y->number < 0) return tfl_fail(b, "output %d is missing", i);
    y->host = &b->host->tensors[y->number];
    y->format = format_of(y->host->type);
    if (y->host->is_variable) return tfl_fail(b, "output %d is a variable", i);
    return true;
}

bool tfl_constant(tfl_build *b, const qd_tensor_desc *d, const void *bytes, qd_tensor **out) {
    return tfl_ok(b, qd_tensor_constant(b->context, d, bytes, out)) && own(b, *out);
}

/* Whether the host holds as many bytes for a constant as its shape says. */
static bool whole_constant(tfl_build *b, const tfl_operand *x, const qd_tensor_desc *d) {
    const int64_t n = tfl_elements(&x->shape);
    const size_t bytes = x->format == QD_FORMAT_I4 ? (size_t)(n + 1) / 2 : qd_desc_bytes(d);
    return x->host->bytes >= bytes ||
           tfl_fail(b, "constant %d has %zu bytes where its shape needs %zu", x->number, x->host->bytes, bytes);
}

/* A tensor outside the graph. */
static bool make_outside(tfl_build *b, const qd_tensor_desc *d, qd_tensor **out) {
    if (b->trial) return tfl_ok(b, qd_graph_tensor(b->graph, d, out));
    return tfl_ok(b, qd_tensor_create(b->context, d, out)) && own(b, *out);
}

bool tfl_tensor(tfl_build *b, tfl_operand *x) {
    tfl_value *v = &b->values[x->number];
    if (!v->tensor) {
        const qd_tensor_desc d = tfl_desc(x->format, &x->shape);
        if (x->format == QD_FORMAT_COUNT)
            return tfl_fail(b, "tensor %d has type %d, which is not known here", x->number, (int)x->host->type);
        if (x->bytes) {
            if (!whole_constant(b, x, &d) || !tfl_constant(b, &d, x->bytes, &v->tensor)) return false;
        } else if (!make_outside(b, &d, &v->tensor)) {
            return false;
        }
        v->shape = x->shape;
    }
    x->tensor = v->tensor;
    return true;
}

bool tfl_view(tfl_build *b, tfl_operand *x, const qd_tensor_desc *d, qd_tensor **out) {
    if (!tfl_tensor(b, x)) return false;
    const qd_tensor_desc *own_desc = qd_tensor_describe(x->tensor);
    if (own_desc->rank == d->rank && memcmp(own_desc->shape, d->shape, (size_t)d->rank * sizeof *d->shape) == 0) {
        *out = x->tensor;
        return true;
    }
    if (x->bytes) return tfl_constant(b, d, x->bytes, out);
    return tfl_ok(b, qd_graph_reshape(b->graph, x->tensor, d, out));
}

bool tfl_inner(tfl_build *b, const qd_tensor_desc *d, qd_tensor **out) {
    return tfl_ok(b, qd_graph_tensor(b->graph, d, out));
}

bool tfl_result(tfl_build *b, tfl_operand *y, const tfl_shape *shape, const qd_tensor_desc *d) {
    tfl_value *v = &b->values[y->number];
    if (v->tensor) return tfl_fail(b, "tensor %d is written twice", y->number);
    if (!(v->read_outside ? make_outside(b, d, &v->tensor) : tfl_inner(b, d, &v->tensor))) return false;
    v->shape = *shape;
    y->shape = *shape;
    y->tensor = v->tensor;
    return true;
}

bool tfl_alias(tfl_build *b, tfl_operand *x, tfl_operand *y, const tfl_shape *shape) {
    if (!tfl_tensor(b, x)) return false;
    if (tfl_elements(&x->shape) != tfl_elements(shape))
        return tfl_fail(b, "%lld elements become %lld", (long long)tfl_elements(&x->shape),
                        (long long)tfl_elements(shape));
    tfl_value *v = &b->values[y->number];
    if (!v->read_outside) {
        v->tensor = x->tensor;
        v->shape = y->shape = *shape;
        y->tensor = x->tensor;
        return true;
    }
    /* The host reads it: it needs memory of its own. */
    const qd_tensor_desc d = *qd_tensor_describe(x->tensor);
    const qd_attrs attrs = {.concat = {.axis = 0}};
    return tfl_result(b, y, shape, &d) && tfl_op(b, QD_OP_CONCAT, &attrs, &x->tensor, 1, y->tensor);
}

bool tfl_window_of(tfl_build *b, qd_tensor *t, size_t offset, const qd_tensor_desc *d, const int64_t *steps,
                   qd_tensor **out) {
    return tfl_ok(b, qd_tensor_window(t, offset, d, steps, out)) && own(b, *out);
}

bool tfl_op(tfl_build *b, qd_op op, const qd_attrs *attrs, qd_tensor *const in[], int n_in, qd_tensor *out) {
    return tfl_ok(b, qd_graph_add(b->graph, op, attrs, in, n_in, &out, 1));
}

bool tfl_integers(tfl_build *b, const tfl_operand *x, int most, int64_t *out, int *count) {
    if (!x->bytes) return tfl_fail(b, "input %d must be a constant", x->number);
    const int64_t n = tfl_elements(&x->shape);
    if (n > most)
        return tfl_fail(b, "tensor %d has %lld elements; at most %d are known", x->number, (long long)n, most);
    const size_t size = x->host->type == kTfLiteInt64 ? 8 : 4;
    if ((x->host->type != kTfLiteInt64 && x->host->type != kTfLiteInt32) || x->host->bytes < (size_t)n * size)
        return tfl_fail(b, "tensor %d must hold integers of 32 or 64 bits", x->number);
    for (int64_t i = 0; i < n; i++) {
        if (size == 8) {
            memcpy(&out[i], (const char *)x->bytes + i * 8, 8);
        } else {
            int32_t v;
            memcpy(&v, (const char *)x->bytes + i * 4, 4);
            out[i] = v;
        }
    }
    *count = (int)n;
    return true;
}
