/* Tensors one after the other: Concat, QLinearConcat, and Concat between DequantizeLinear and QuantizeLinear. */
#include <stdlib.h>
#include <string.h>

#include "ops.h"

/* Parts of different quantization: each may need a table of its own. */
enum { MOST_TABLES = QEP_SLOTS, MOST_PARTS = 256 };

static bool check_parts(qep_match *m, const qep_unit *u) {
    const int rank = m->g->values[u->in[0].value].shape.rank;
    const qep_attribute *axis = qep_attr(&m->g->nodes[u->node], "axis");
    if (!axis || axis->type != ORT_OP_ATTR_INT) return qep_broken(m, "the attribute axis is missing");
    if (rank && qep_axis(*axis->ints, rank) < 0) return qep_broken(m, "the axis is %lld", (long long)*axis->ints);
    return true;
}

bool qep_match_qlinear_concat(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    const int parts = (n->n_in - 2) / 3;
    if (parts < 1 || parts * 3 + 2 != n->n_in) return qep_broken(m, "%d inputs", n->n_in);
    if (parts > MOST_TABLES) return qep_refuse(m, "%d parts", parts);
    if (!qep_operands(m, u, parts)) return false;
    u->y = (qep_operand){n->out[0], qep_in(n, 0), qep_in(n, 1), 0, 0};
    for (int i = 0; i < parts; i++) {
        u->in[i] = (qep_operand){qep_in(n, 2 + 3 * i), qep_in(n, 3 + 3 * i), qep_in(n, 4 + 3 * i), 0, 0};
        if (!qep_types(m, u->in[i].value, "a part", QEP_CODES8) || !qep_quantization(m, u, &u->in[i], "a part", 1))
            return false;
    }
    return qep_types(m, u->y.value, "the result", QEP_CODES8) && qep_quantization(m, u, &u->y, "the result", 1) &&
           check_parts(m, u);
}

bool qep_match_qdq_concat(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    if (n->n_in > MOST_TABLES) return qep_refuse(m, "%d parts", n->n_in);
    if (n->n_in < 1 || !qep_operands(m, u, n->n_in)) return false;
    for (int i = 0; i < n->n_in; i++) {
        if (!qep_look_behind(m, u, n->in[i], "a part", &u->in[i])) return false;
    }
    return check_parts(m, u) && qep_look_ahead(m, u, n->out[0]);
}

bool qep_match_concat(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    if (n->n_in < 1 || n->n_in > MOST_PARTS || !qep_operands(m, u, n->n_in)) return qep_refuse(m, "%d parts", n->n_in);
    u->y.value = n->out[0];
    for (int i = 0; i < n->n_in; i++) {
        u->in[i].value = n->in[i];
        if (!qep_types(m, u->in[i].value, "a part", QEP_CODES8 | QEP_F32)) return false;
    }
    return check_parts(m, u);
}

static bool same(qd_quant a, qd_quant b) {
    return a.scale == b.scale && a.zero_point == b.zero_point;
}

/* Part i as [outer, axis, inner], in the quantization of the result; NULL when it has no elements. */
static qd_status load_part(qep_build *b, const qep_unit *u, int i, int axis, qd_tensor **out) {
    const qep_operand *o = &u->in[i];
    const qd_format y_format = qep_result_format(b, u);
    int64_t dims[3];
    qep_around(qep_shape_of(b, o->value), axis, dims);
    qd_tensor *codes;
    *out = NULL;
    if (!qep_count(qep_shape_of(b, o->value))) return QD_OK;
    qd_status status = qep_input(b, o->value, 3, dims, &codes);
    *out = codes;
    if (status || u->y.scale < 0) return status;
    const qd_quant from = qep_quant(b, o), to = qep_quant(b, &u->y);
    if (same(from, to) && !u->limited && qep_format_of(b, o->value) == y_format) return QD_OK;
    status = qep_between(b, y_format, 3, dims, out);
    return status ? status : qep_apply(b, u, i, QD_FUNCTION_IDENTITY, 0, codes, from, *out, to);
}

/* Joins parts, as many at a time as the operator takes; the last step makes y. */
static qd_status join(qep_build *b, qd_tensor *parts[], int count, qd_tensor *y) {
    const qd_attrs attrs = {.concat = {.axis = 1}};
    while (count > QD_MAX_IN) {
        const qd_tensor_desc *first = qd_tensor_describe(parts[0]);
        int64_t dims[3] = {first->shape[0], 0, first->shape[2]};
        for (int i = 0; i < QD_MAX_IN; i++)
            dims[1] += qd_tensor_describe(parts[i])->shape[1];
        qd_tensor *joined;
        qd_status status = qep_between(b, first->format, 3, dims, &joined);
        if (!status) status = qep_add(b, QD_OP_CONCAT, &attrs, parts, QD_MAX_IN, joined);
        if (status) return status;
        parts[0] = joined;
        count -= QD_MAX_IN - 1;
        memmove(parts + 1, parts + QD_MAX_IN, (size_t)(count - 1) * sizeof *parts);
    }
    return qep_add(b, QD_OP_CONCAT, &attrs, parts, count, y);
}

qd_status qep_lower_concat(qep_build *b, const qep_unit *u) {
    qep_shape shape = *qep_shape_of(b, u->in[0].value);
    const int axis = qep_axis(qep_attr_int(qep_node_of(b, u), "axis", 0), shape.rank);
    qd_tensor *parts[MOST_PARTS], *y;
    int count = 0;
    qd_status status;
    if (axis < 0) return qep_fail(b, "the axis is none of the first part");
    shape.dims[axis] = 0;
    for (int i = 0; i < u->n_in; i++) {
        const qep_shape *s = qep_shape_of(b, u->in[i].value);
        bool fits = s->rank == shape.rank;
        for (int k = 0; fits && k < s->rank; k++)
            fits = k == axis || s->dims[k] == shape.dims[k];
        if (!fits) return qep_fail(b, "part %d has not the shape of the first", i);
        shape.dims[axis] += s->dims[axis];
        QD_TRY(load_part(b, u, i, axis, &parts[count]));
        if (parts[count]) count++;
    }
    int64_t dims[3];
    qep_around(&shape, axis, dims);
    QD_TRY(qep_output(b, u->y.value, &shape, qep_result_format(b, u), 3, dims, &y));
    if (y) QD_TRY(join(b, parts, count, y));
error:
    return status;
}
