#include "ops.h"

#include <math.h>
#include <string.h>

#define QEP_OP(domain, name, first, last, kind, match, lower) \
    {domain, name, first, last, kind, qep_match_##match, qep_lower_##lower},
const qep_op qep_ops[] = {
#include "ops.def"
    {0}};

bool qep_one_qlinear(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    if (!qep_operands(m, u, 1)) return false;
    u->in[0] = (qep_operand){qep_in(n, 0), qep_in(n, 1), qep_in(n, 2), 0, 0};
    u->y = (qep_operand){n->out[0], qep_in(n, 3), qep_in(n, 4), 0, 0};
    return qep_types(m, u->in[0].value, "x", QEP_CODES8) && qep_types(m, u->y.value, "the result", QEP_CODES8) &&
           qep_quantization(m, u, &u->in[0], "x", 1) && qep_quantization(m, u, &u->y, "the result", 1);
}

qd_status qep_multipliers(qep_build *b, const qep_unit *u, int slot, float x_scale, int w_scale, float y_scale,
                          qd_tensor **out) {
    static const float one = 1;
    const int64_t n = w_scale < 0 ? 1 : qep_count(qep_shape_of(b, w_scale));
    const qd_tensor_desc d = qd_desc(QD_FORMAT_I32, n, 2, 0, 0);
    void *data;
    const qd_status status = qep_make(b, u, slot, &d, &data, out);
    if (status || !data) return status;
    const float *scales = w_scale < 0 ? &one : qep_floats(b, w_scale);
    if (!scales) return QD_ERR_MEMORY;
    return qd_requantize_table(QD_ROUND_FLOAT, x_scale, scales, n, y_scale, data);
}

bool qep_check_multipliers(qep_match *m, const qep_unit *u, float factor) {
    const qep_value *v = m->g->values, *x = &v[u->in[0].scale], *w = &v[u->in[1].scale], *y = &v[u->y.scale];
    if (!x->data || !w->data || !y->data) return true;
    const float x_scale = factor * (float)qep_number(x->type, x->data, 0),
                y_scale = (float)qep_number(y->type, y->data, 0);
    for (int64_t i = 0; i < qep_count(&w->shape); i++) {
        const float w_scale = (float)qep_number(w->type, w->data, i);
        int32_t row[2];
        if (!qd_requantize_table(QD_ROUND_FLOAT, x_scale, &w_scale, 1, y_scale, row)) continue;
        return qep_refuse(m, "no float holds the factor of its sums, %g * %g / %g", (double)x_scale, (double)w_scale,
                          (double)y_scale);
    }
    return true;
}

bool qep_check_ratio(qep_match *m, const qep_unit *u, const qep_operand *x) {
    enum { MOST = 4 * 256 };
    const qep_value *a = &m->g->values[x->scale], *y = &m->g->values[u->y.scale];
    if (!a->data || !y->data) return true;
    const float of_a = (float)qep_number(a->type, a->data, 0), of_y = (float)qep_number(y->type, y->data, 0);
    if (isfinite(of_a / of_y * MOST)) return true;
    return qep_refuse(m, "no float holds codes times the factor %g / %g", (double)of_a, (double)of_y);
}

qd_format qep_result_format(const qep_build *b, const qep_unit *u) {
    return qep_format(qep_of(b)->values[u->y.value].type);
}

bool qep_bias_fits(qep_match *m, const qep_operand *x, const qep_operand *w, const qep_operand *bias) {
    const qep_value *v = m->g->values, *xs = &v[x->scale], *ws = &v[w->scale], *bs = &v[bias->scale];
    if (!qep_constant(m->g, bias->value)) return qep_refuse(m, "the bias is no constant");
    if (!qep_types(m, bias->value, "the bias", QEP_I32)) return false;
    const int64_t n = qep_count(&bs->shape), channels = qep_count(&ws->shape);
    if (!xs->data || !ws->data || !bs->data)
        return qep_refuse(m, "the scale of the bias, or of what it joins, is no constant");
    if (n != 1 && channels != 1 && n != channels) return qep_broken(m, "the bias has %lld scales", (long long)n);
    for (int64_t i = 0; i < (n > channels ? n : channels); i++) {
        const double want = qep_number(xs->type, xs->data, 0) * qep_number(ws->type, ws->data, channels > 1 ? i : 0);
        const double is = qep_number(bs->type, bs->data, n > 1 ? i : 0);
        if (fabs(is - want) > 1e-3 * want) {
            return qep_refuse(m, "the scale of the bias is %g where that of the sums is %g", is, want);
        }
    }
    for (int64_t i = 0; bias->zero >= 0 && i < qep_count(&v[bias->zero].shape); i++) {
        if (!v[bias->zero].data || qep_number(v[bias->zero].type, v[bias->zero].data, i) != 0) {
            return qep_refuse(m, "the bias has a zero point");
        }
    }
    return true;
}

bool qep_each_column(const qep_graph *g, int value, int64_t columns) {
    const qep_shape *s = &g->values[value].shape;
    return qep_elements(g, value) == columns && s->rank > 0 && s->dims[s->rank - 1] == columns;
}

void qep_transpose8(const int8_t *from, int64_t rows, int64_t cols, int8_t *to) {
    enum { TILE = 64 };
    for (int64_t i = 0; i < rows; i += TILE) {
        for (int64_t j = 0; j < cols; j++) {
            const int64_t end = i + TILE < rows ? i + TILE : rows;
            for (int64_t k = i; k < end; k++)
                to[j * rows + k] = from[k * cols + j];
        }
    }
}

bool qep_broadcast(const qep_shape *a, const qep_shape *b, qep_shape *out) {
    out->rank = a->rank > b->rank ? a->rank : b->rank;
    for (int i = 0; i < out->rank; i++) {
        const int in_a = i - (out->rank - a->rank), in_b = i - (out->rank - b->rank);
        const int64_t x = in_a < 0 ? 1 : a->dims[in_a], y = in_b < 0 ? 1 : b->dims[in_b];
        if (x != y && x != 1 && y != 1) return false;
        out->dims[i] = x == 1 ? y : x;
    }
    return true;
}

int qep_axis(int64_t axis, int rank) {
    if (axis < 0) axis += rank;
    return axis >= 0 && axis < rank ? (int)axis : -1;
}

void qep_around(const qep_shape *s, int axis, int64_t out[3]) {
    out[0] = qep_span(s, 0, axis);
    out[1] = s->dims[axis];
    out[2] = qep_span(s, axis + 1, s->rank);
}

/* Limits of Relu or Clip after a function. */
static void limit_codes(qd_requant r, qd_format f, void *table) {
    for (int i = 0; i < 256; i++) {
        const int code = f == QD_FORMAT_I8 ? ((int8_t *)table)[i] : ((uint8_t *)table)[i];
        const int limited = code < r.min ? r.min : code > r.max ? r.max : code;
        ((uint8_t *)table)[i] = (uint8_t)limited;
    }
}

qd_status qep_apply(qep_build *b, const qep_unit *u, int slot, qd_function f, double alpha, qd_tensor *in, qd_quant x,
                    qd_tensor *out, qd_quant y) {
    if (!in || !out) return QD_OK;
    const qd_format x_format = qd_tensor_describe(in)->format, y_format = qd_tensor_describe(out)->format;
    const qd_tensor_desc d = qd_desc(y_format, 256, 0, 0, 0);
    qd_tensor *operands[2] = {in};
    void *data;
    qd_status status = qep_make(b, u, slot, &d, &data, &operands[1]);
    if (!status && data) status = qd_table_fill(f, alpha, x_format, x, y_format, y, data);
    if (!status && data && u->limited) limit_codes(qep_requant(b, u, y_format), y_format, data);
    return status ? status : qep_add(b, QD_OP_TABLE, NULL, operands, 2, out);
}

bool qep_fold(qep_shape *a, qep_shape *b, qep_shape *y) {
    qep_shape fa = {0}, fb = {0}, fy = {0};
    int last = -1; /* how the operands stood in the dimension before: 3 both, 1 only a, 2 only b; -1: none yet */
    for (int i = 0; i < y->rank; i++) {
        const int in_a = i - (y->rank - a->rank), in_b = i - (y->rank - b->rank);
        const int64_t x = in_a < 0 ? 1 : a->dims[in_a], z = in_b < 0 ? 1 : b->dims[in_b], n = y->dims[i];
        if (n == 1) continue;
        const int how = (x == n) + 2 * (z == n);
        if (how != last) {
            if (fy.rank == QD_MAX_RANK) return false;
            fa.dims[fy.rank] = fb.dims[fy.rank] = fy.dims[fy.rank] = 1;
            fy.rank++;
        }
        last = how;
        fa.dims[fy.rank - 1] *= x;
        fb.dims[fy.rank - 1] *= z;
        fy.dims[fy.rank - 1] *= n;
    }
    if (!fy.rank) fa.dims[0] = fb.dims[0] = fy.dims[fy.rank++] = 1;
    fa.rank = fb.rank = fy.rank;
    *a = fa;
    *b = fb;
    *y = fy;
    return true;
}

qd_status qep_permute(qep_build *b, int value, const qep_shape *from, int rank, const int *order, const int64_t *dims,
                      qd_tensor *out) {
    const qd_tensor_desc d = qep_desc(qep_format_of(b, value), rank, dims);
    const int64_t bytes = qd_format_get(d.format)->bytes;
    int64_t steps[QD_MAX_RANK];
    qd_tensor *window;
    for (int i = 0; i < rank; i++)
        steps[i] = order[i] < 0 ? 0 : bytes * qep_span(from, order[i] + 1, from->rank);
    if (!out) return QD_OK;
    const qd_status status = qep_window(b, value, &d, steps, &window);
    return status ? status : qep_add(b, QD_OP_COPY, NULL, &window, 1, out);
}
