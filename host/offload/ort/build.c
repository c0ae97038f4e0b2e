/* What lower functions call. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "builder.h"

const qep_graph *qep_of(const qep_build *b) {
    return b->g;
}

const qep_node *qep_node_of(const qep_build *b, const qep_unit *u) {
    return &b->g->nodes[u->node];
}

qd_status qep_fail(qep_build *b, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(b->message, sizeof b->message, format, args);
    va_end(args);
    return QD_ERR_UNSUPPORTED;
}

static qd_status no_memory(qep_build *b) {
    qep_fail(b, "out of memory");
    return QD_ERR_MEMORY;
}

/* ---- Values ------------------------------------------------------------------------------------------------- */

const qep_shape *qep_shape_of(const qep_build *b, int value) {
    return b->g->values[value].data ? &b->g->values[value].shape : &b->slots[value].shape;
}

qd_format qep_format_of(const qep_build *b, int value) {
    return b->slots[value].tensor ? b->slots[value].format : qep_format(b->g->values[value].type);
}

qd_tensor_desc qep_desc(qd_format f, int rank, const int64_t *dims) {
    qd_tensor_desc d = {.format = f, .rank = rank ? rank : 1, .shape = {1}};
    for (int i = 0; i < rank && i < QD_MAX_RANK; i++)
        d.shape[i] = dims[i];
    return d;
}

static bool has_elements(const qd_tensor_desc *d) {
    for (int i = 0; i < d->rank; i++) {
        if (d->shape[i] == 0) return false;
    }
    return true;
}

static bool same_desc(const qd_tensor_desc *a, const qd_tensor_desc *b) {
    return a->format == b->format && a->rank == b->rank &&
           !memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape);
}

/* A constant as an operand: packed codes need rows of whole bytes, as the host packs over their ends. */
static qd_status constant_input(qep_build *b, int value, const qd_tensor_desc *d, qd_tensor **out) {
    if (qd_desc_bytes(d) != b->g->values[value].bytes) {
        return qep_fail(b, "the constant '%.80s' has not the shape or packing that is needed",
                        b->g->values[value].name);
    }
    const qd_status status = qd_tensor_constant(b->context, d, b->g->values[value].data, out);
    return status ? status : qep_own(b, *out);
}

qd_status qep_input(qep_build *b, int value, int rank, const int64_t *dims, qd_tensor **out) {
    qep_slot *s = &b->slots[value];
    *out = NULL;
    if (rank > QD_MAX_RANK) return qep_fail(b, "a tensor of %d dimensions", rank);
    const qd_tensor_desc d = qep_desc(qep_format_of(b, value), rank, dims);
    if (b->g->values[value].data) return constant_input(b, value, &d, out);
    if (!has_elements(&d)) return QD_OK;
    if (!s->tensor && s->is_input) {
        const qd_status status = qep_feed_add(b, value, false, &s->tensor);
        if (status) return status;
        s->format = d.format;
    }
    if (!s->tensor) return qep_fail(b, "the value '%.80s' was not computed", b->g->values[value].name);
    *out = s->tensor;
    if (same_desc(qd_tensor_describe(s->tensor), &d)) return QD_OK;
    return qd_graph_reshape(b->graph, s->tensor, &d, out);
}

qd_status qep_output(qep_build *b, int value, const qep_shape *shape, qd_format f, int rank, const int64_t *dims,
                     qd_tensor **out) {
    qep_slot *s = &b->slots[value];
    const qd_tensor_desc d = qep_desc(f, rank, dims);
    *out = NULL;
    if (rank > QD_MAX_RANK) return qep_fail(b, "a result of %d dimensions", rank);
    for (int i = 0; i < shape->rank; i++) {
        if (shape->dims[i] < 0)
            return qep_fail(b, "a result of %lld elements in a dimension", (long long)shape->dims[i]);
    }
    s->shape = *shape;
    s->known = true;
    s->format = f;
    if (!has_elements(&d)) return QD_OK;
    qd_status status;
    if (b->part && b->part->own_memory[value]) {
        status = qd_tensor_create(b->context, &d, out);
        if (!status) status = qep_own(b, *out);
    } else {
        status = qd_graph_tensor(b->graph, &d, out);
    }
    if (!status) s->tensor = *out;
    return status;
}

qd_status qep_between(qep_build *b, qd_format f, int rank, const int64_t *dims, qd_tensor **out) {
    const qd_tensor_desc d = qep_desc(f, rank, dims);
    return qd_graph_tensor(b->graph, &d, out);
}

qd_status qep_view(qep_build *b, qd_tensor *t, int rank, const int64_t *dims, qd_tensor **out) {
    const qd_tensor_desc d = qep_desc(qd_tensor_describe(t)->format, rank, dims);
    return qd_graph_reshape(b->graph, t, &d, out);
}

qd_status qep_alias(qep_build *b, int to, int from, const qep_shape *shape) {
    const int64_t count = qep_count(shape);
    qd_tensor *t;
    if (count != qep_count(qep_shape_of(b, from))) {
        return qep_fail(b, "%lld elements cannot become %lld", (long long)qep_count(qep_shape_of(b, from)),
                        (long long)count);
    }
    qep_slot *s = &b->slots[from];
    qd_status status = QD_OK;
    if (!s->tensor && count) {
        const int rank = s->shape.rank <= QD_MAX_RANK ? s->shape.rank : 1;
        status = qep_input(b, from, rank, s->shape.rank <= QD_MAX_RANK ? s->shape.dims : &count, &t);
    }
    b->slots[to] = (qep_slot){.shape = *shape, .known = true, .tensor = s->tensor, .format = s->format};
    return status;
}

qd_status qep_window(qep_build *b, int value, const qd_tensor_desc *d, const int64_t *steps, qd_tensor **out) {
    const qep_shape *s = qep_shape_of(b, value);
    const int64_t count = qep_count(s);
    qd_tensor *t;
    qd_status status = qep_input(b, value, 1, &count, &t);
    if (status) return status;
    /* The memory itself, not a view of it in one dimension. */
    t = b->slots[value].tensor;
    if (!b->part) { /* the shape is what a trial looks at */
        return qd_graph_tensor(b->graph, d, out);
    }
    status = qd_tensor_window(t, 0, d, steps, out);
    return status ? status : qep_own(b, *out);
}

qd_status qep_add3(qep_build *b, qd_op op, const qd_attrs *attrs, qd_tensor *const in[], int n_in,
                   qd_tensor *const out[], int n_out) {
    if (!out[0]) return QD_OK; /* no elements */
    return qd_graph_add(b->graph, op, attrs, in, n_in, out, n_out);
}

qd_status qep_add(qep_build *b, qd_op op, const qd_attrs *attrs, qd_tensor *const in[], int n_in, qd_tensor *out) {
    return qep_add3(b, op, attrs, in, n_in, &out, 1);
}

/* ---- Constants ---------------------------------------------------------------------------------------------- */

static qd_status make(qep_build *b, const qep_unit *u, int slot, const qd_tensor_desc *d, const void *borrowed,
                      void **data, qd_tensor **out) {
    static const char nothing[1];
    if (data) *data = NULL;
    if (!b->part) { /* a trial: nobody looks at the bytes */
        const qd_status status = qd_tensor_constant(b->context, d, borrowed ? borrowed : nothing, out);
        return status ? status : qep_own(b, *out);
    }
    qep_constants *all = u->varies ? b->program->own : b->part->constants;
    const int at = (int)(u - b->part->units->list) * QEP_SLOTS + slot;
    *out = all->slots[at].tensor;
    if (*out) return QD_OK;
    void *bytes = NULL;
    if (!borrowed) {
        bytes = calloc(1, qd_desc_bytes(d) ? qd_desc_bytes(d) : 1);
        if (!bytes) return no_memory(b);
        *data = bytes;
    }
    const qd_status status = qd_tensor_constant(b->context, d, borrowed ? borrowed : bytes, out);
    if (status) {
        free(bytes);
        if (data) *data = NULL;
        return status;
    }
    all->slots[at].tensor = *out;
    all->slots[at].data = bytes;
    return QD_OK;
}

qd_status qep_make(qep_build *b, const qep_unit *u, int slot, const qd_tensor_desc *d, void **data, qd_tensor **out) {
    return make(b, u, slot, d, NULL, data, out);
}

qd_status qep_borrow(qep_build *b, const qep_unit *u, int slot, const qd_tensor_desc *d, const void *data,
                     qd_tensor **out) {
    return make(b, u, slot, d, data, NULL, out);
}

qep_constants *qep_constants_create(int units) {
    qep_constants *c = calloc(1, sizeof *c);
    if (!c) return NULL;
    c->units = units;
    c->slots = calloc((size_t)units * QEP_SLOTS + 1, sizeof *c->slots);
    if (c->slots) return c;
    free(c);
    return NULL;
}

void qep_constants_free(qep_constants *c) {
    if (!c) return;
    for (int i = 0; i < c->units * QEP_SLOTS; i++) {
        qd_tensor_free(c->slots[i].tensor);
        free(c->slots[i].data);
    }
    free(c->slots);
    free(c);
}

/* ---- Known values on the host ------------------------------------------------------------------------------- */

/* Bytes of a constant, or of an input, which then is held; *data is NULL in a trial. */
static qd_status look(qep_build *b, int value, const void **data) {
    const qep_value *v = &b->g->values[value];
    *data = v->data;
    if (*data || !b->part) return QD_OK;
    *data = b->given[value];
    qep_program *p = b->program;
    for (int i = 0; i < p->n_held; i++) {
        if (p->held[i].value == value) return QD_OK;
    }
    const size_t bytes = qep_type_bytes(v->type, qep_count(qep_shape_of(b, value)));
    if (p->n_held == b->max_held || (!*data && bytes)) return qep_fail(b, "'%.80s' is no input", v->name);
    void *copy = qep_take(&p->arena, bytes, 1);
    if (!copy) return no_memory(b);
    if (bytes) memcpy(copy, *data, bytes);
    p->held[p->n_held++] = (qep_held){.value = value, .bytes = bytes, .data = copy};
    return QD_OK;
}

const float *qep_floats(qep_build *b, int value) {
    const int64_t n = qep_count(qep_shape_of(b, value));
    const void *data;
    float *out = qep_take(&b->program->arena, (size_t)(n > 0 ? n : 1), sizeof *out);
    if (!out || look(b, value, &data)) {
        if (!b->message[0]) qep_fail(b, "out of memory");
        return NULL;
    }
    for (int64_t i = 0; i < n; i++)
        out[i] = data ? (float)qep_number(b->g->values[value].type, data, i) : 1;
    return out;
}

const int32_t *qep_ints(qep_build *b, int value) {
    const int64_t n = qep_count(qep_shape_of(b, value));
    const void *data;
    int32_t *out = qep_take(&b->program->arena, (size_t)(n > 0 ? n : 1), sizeof *out);
    if (!out || look(b, value, &data)) {
        if (!b->message[0]) qep_fail(b, "out of memory");
        return NULL;
    }
    for (int64_t i = 0; i < n; i++) {
        const double x = data ? qep_number(b->g->values[value].type, data, i) : 1;
        out[i] = (int32_t)fmax(INT32_MIN, fmin(INT32_MAX, x)); /* INT64_MAX as an end of a range */
    }
    return out;
}

const void *qep_bytes(qep_build *b, int value) {
    const void *data;
    return look(b, value, &data) ? NULL : data;
}

double qep_number_of(qep_build *b, int value, int64_t i, double otherwise) {
    const void *data;
    if (value < 0) return otherwise;
    if (look(b, value, &data)) return otherwise; /* the message stands, and fails the unit */
    return data ? qep_number(b->g->values[value].type, data, i) : 1;
}

qd_quant qep_quant(qep_build *b, const qep_operand *o) {
    return (qd_quant){(float)qep_number_of(b, o->scale, 0, 1), (int32_t)qep_number_of(b, o->zero, 0, 0)};
}

/* A constant of which all are 0: to operators of the library as if there were none, which spares them work. */
static bool is_nothing(const qep_value *v) {
    const int64_t n = v->data ? qep_count(&v->shape) : 0;
    int64_t i = 0;
    while (i < n && qep_number(v->type, v->data, i) == 0)
        i++;
    return n && i == n;
}

qd_status qep_zero(qep_build *b, const qep_unit *u, int slot, int value, int rank, const int64_t *dims,
                   qd_tensor **out) {
    *out = NULL;
    if (value < 0) return QD_OK;
    const qd_tensor_desc d = qep_desc(QD_FORMAT_I32, rank, dims);
    const qep_slot *s = &b->slots[value];
    if (b->g->values[value].data) {
        void *data;
        const qep_value *v = &b->g->values[value];
        if (qep_count(&v->shape) * (int64_t)sizeof(int32_t) != (int64_t)qd_desc_bytes(&d))
            return qep_fail(b, "%lld zero points where others are needed", (long long)qep_count(&v->shape));
        if (is_nothing(v)) return QD_OK;
        const qd_status status = qep_make(b, u, slot, &d, &data, out);
        if (status || !data) return status;
        for (int64_t i = 0; i < qep_count(&v->shape); i++)
            ((int32_t *)data)[i] = (int32_t)qep_number(v->type, v->data, i);
        return QD_OK;
    }
    qd_tensor *t = s->tensor;
    if (s->is_input) {
        const qd_status status = qep_feed_add(b, value, true, &t);
        if (status) return status;
    } else if (!t || s->format != QD_FORMAT_I32) {
        return qep_fail(b, "the zero point '%.80s' is computed in a way that is not known", b->g->values[value].name);
    }
    *out = t;
    if (same_desc(qd_tensor_describe(t), &d)) return QD_OK;
    return qd_graph_reshape(b->graph, t, &d, out);
}

qd_requant qep_requant(qep_build *b, const qep_unit *u, qd_format f) {
    const qd_quant y = qep_quant(b, &u->y);
    qd_requant r = {.rounding = QD_ROUND_FLOAT, .zero_point = y.zero_point};
    if (!u->limited) return r;
    r.min = qep_limit_code(u->low, y, f);
    r.max = qep_limit_code(u->high, y, f);
    /* Both 0 mean no limits to the library. Of constant parameters, qep_check_limits knows that before. */
    if (!r.min && !r.max) qep_fail(b, "limits that leave only the code 0");
    return r;
}
