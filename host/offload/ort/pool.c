/* Pools of codes: QLinearAveragePool, QLinearGlobalAveragePool, MaxPool, and the float ones between DequantizeLinear
 * and QuantizeLinear. */
#include <string.h>

#include "ops.h"

enum { SLOT_TABLE };

static bool is_global(const qep_node *n) {
    return strstr(n->op, "Global") != NULL;
}

static bool is_average(const qep_node *n) {
    return strstr(n->op, "Average") != NULL;
}

static bool check_pool(qep_match *m, const qep_unit *u) {
    const qep_graph *g = m->g;
    const qep_node *n = &g->nodes[u->node];
    const qep_attribute *kernel = qep_attr(n, "kernel_shape");
    if (is_global(n)) return qep_rank(m, u->in[0].value, "x", 3, 4);
    if (!kernel || kernel->type != ORT_OP_ATTR_INTS) return qep_broken(m, "the attribute kernel_shape is missing");
    if (kernel->count != 1 && kernel->count != 2) return qep_refuse(m, "an image of %zu dimensions", kernel->count);
    const int rank = g->values[u->in[0].value].shape.rank;
    if (rank && (size_t)rank != kernel->count + 2) return qep_broken(m, "kernel_shape does not fit x");
    if (n->n_out > 1 && n->out[1] >= 0) return qep_refuse(m, "the positions of the maxima are asked for");
    if (qep_attr_int(n, "ceil_mode", 0) && qep_attr_int(n, "count_include_pad", 0)) {
        return qep_refuse(m, "ceil_mode with counted padding");
    }
    return qep_check_window(m, n);
}

/* A mean is rounded once: it takes no other type and no limits. */
static bool check_average(qep_match *m, const qep_unit *u) {
    const qep_graph *g = m->g;
    if (!is_average(&g->nodes[u->node])) return true;
    if (u->limited) return qep_refuse(m, "limits after an average");
    if (g->values[u->in[0].value].type == g->values[u->y.value].type) return qep_check_ratio(m, u, &u->in[0]);
    return qep_refuse(m, "an average of %s as %s", qep_type_name(g->values[u->in[0].value].type),
                      qep_type_name(g->values[u->y.value].type));
}

bool qep_match_qlinear_pool(qep_match *m, int node, qep_unit *u) {
    return qep_one_qlinear(m, node, u) && check_pool(m, u) && check_average(m, u);
}

bool qep_match_qdq_pool(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    if (!qep_operands(m, u, 1)) return false;
    return qep_look_behind(m, u, qep_in(n, 0), "x", &u->in[0]) && check_pool(m, u) && qep_look_ahead(m, u, n->out[0]) &&
           check_average(m, u);
}

/* MaxPool of codes that mean anything. */
bool qep_match_max_pool(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    if (!qep_operands(m, u, 1)) return false;
    u->in[0].value = qep_in(n, 0);
    u->y.value = n->out[0];
    return qep_types(m, u->in[0].value, "x", QEP_CODES8) && check_pool(m, u);
}

static bool same(qd_quant a, qd_quant b) {
    return a.scale == b.scale && a.zero_point == b.zero_point;
}

qd_status qep_lower_pool(qep_build *b, const qep_unit *u) {
    const qep_node *n = qep_node_of(b, u);
    const qep_shape *x = qep_shape_of(b, u->in[0].value);
    const bool nchw = !qep_attr_int(n, "channels_last", 0), average = is_average(n);
    const qd_format x_format = qep_format_of(b, u->in[0].value), y_format = qep_result_format(b, u);
    const int first = nchw ? 2 : 1;
    qep_shape shape = *x;
    qd_attrs attrs = {.pool = {.average = average,
                               .global = is_global(n),
                               .count_padding = qep_attr_int(n, "count_include_pad", 0),
                               .rounding = QD_ROUND_FLOAT,
                               .float_sum = !is_global(n)}};
    qd_tensor *in, *y, *pooled;
    qd_status status;
    if (x->rank != 3 && x->rank != 4) return qep_fail(b, "x has %d dimensions", x->rank);
    attrs.pool.window.nchw = nchw;
    if (is_global(n)) {
        for (int i = 0; i < x->rank - 2; i++)
            shape.dims[first + i] = 1;
    } else {
        qep_images m;
        const qep_attribute *kernel = qep_attr(n, "kernel_shape");
        if (kernel->count != (size_t)x->rank - 2) return qep_fail(b, "kernel_shape does not fit x");
        QD_TRY(qep_read_window(b, n, x, nchw, kernel->ints, &m));
        attrs.pool.window = m.window;
        for (int i = 0; i < m.dims; i++)
            shape.dims[first + i] = m.out[2 - m.dims + i];
    }
    /* Maxima keep their codes: a change of what they mean comes after. */
    const qd_quant from = qep_quant(b, &u->in[0]), to = qep_quant(b, &u->y);
    const bool changed = !average && u->y.scale >= 0 && (u->limited || !same(from, to) || x_format != y_format);
    attrs.pool.x = from;
    attrs.pool.y = to;
    QD_TRY(qep_input(b, u->in[0].value, x->rank, x->dims, &in));
    QD_TRY(qep_output(b, u->y.value, &shape, y_format, shape.rank, shape.dims, &y));
    if (!y) return QD_OK;
    pooled = y;
    if (changed) QD_TRY(qep_between(b, x_format, shape.rank, shape.dims, &pooled));
    QD_TRY(qep_add(b, QD_OP_POOL, &attrs, &in, 1, pooled));
    if (changed) QD_TRY(qep_apply(b, u, SLOT_TABLE, QD_FUNCTION_IDENTITY, 0, pooled, from, y, to));
error:
    return status;
}
