/* Functions of one code. */
#include <math.h>

#include "core/rules/rules.h"

/* ---- Tables ------------------------------------------------------------------------------------------------- */

static double value_of(qd_function f, double x, double alpha) {
    switch (f) {
#define QD_FUNCTION(ID, name, about_alpha, formula) \
    case QD_FUNCTION_##ID:                          \
        return formula;
#include "qdot/qdot_functions.def"
        default:
            return 0;
    }
}

/* Whether the function reads alpha. */
static bool reads_alpha(qd_function f) {
    static const char *const about[] = {
#define QD_FUNCTION(ID, name, about_alpha, formula) about_alpha,
#include "qdot/qdot_functions.def"
    };
    return about[f][0] != 0;
}

static qd_status check_side(const char *name, qd_format f, qd_quant q) {
    if (f != QD_FORMAT_I8 && f != QD_FORMAT_U8)
        return qd_fail(QD_ERR_ARGUMENT, "qd_table_fill: %s must be i8 or u8", name);
    const qd_status status = qd_scale_check("qd_table_fill", name, q.scale);
    return status ? status : qd_zero_check("qd_table_fill", name, q.zero_point, f);
}

/* No value is NaN: x and alpha are finite, and no formula subtracts infinities or multiplies one by 0. */
qd_status qd_table_fill(qd_function f, double alpha, qd_format x_format, qd_quant x, qd_format y_format, qd_quant y,
                        void *table) {
    if ((unsigned)f >= QD_FUNCTION_COUNT || !table)
        return qd_fail(QD_ERR_ARGUMENT, "qd_table_fill: needs a function, and room for 256 codes");
    if (reads_alpha(f) && !isfinite(alpha))
        return qd_fail(QD_ERR_ARGUMENT, "qd_table_fill: alpha is %g; it must be finite", alpha);
    qd_status status = check_side("x", x_format, x);
    if (!status) status = check_side("y", y_format, y);
    if (status) return status;
    int64_t x_min, x_max, min, max;
    qd_code_range(x_format, &x_min, &x_max);
    qd_code_range(y_format, &min, &max);
    for (int64_t code = x_min; code <= x_max; code++) {
        const double v = value_of(f, (double)x.scale * (double)(code - x.zero_point), alpha);
        const double rounded = rint(v / (double)y.scale) + y.zero_point;
        const double limited = rounded < (double)min ? (double)min : rounded > (double)max ? (double)max : rounded;
        ((uint8_t *)table)[code - x_min] = (uint8_t)(int)limited;
    }
    return QD_OK;
}

/* ---- TABLE -------------------------------------------------------------------------------------------------- */

static qd_status formats(qd_op op, const qd_format in[], const qd_format out[]) {
    (void)op;
    if (in[1] == out[0]) return QD_OK;
    return qd_fail(QD_ERR_UNSUPPORTED, "table: the table must hold codes of y's format");
}

static qd_status check(qd_node *n, const qd_symbols *s) {
    (void)s;
    const qd_tensor_desc *x = &n->in[0]->desc;
    n->params.table = (qd_table_params){.size = (qd_i32)qd_span(x, 1, x->rank), .x_signed = x->format == QD_FORMAT_I8};
    n->params_bytes = sizeof n->params.table;
    const qd_status status = qd_same_shape_check("table", n);
    return status ? status : qd_count_check("table", qd_span(x, 1, x->rank));
}

static void choose(qd_choices *c, qd_problem *p) {
    static const char *const names[] = {"d0", "d1", "d2", "d3"};
    qd_tensor_desc d = {0, (int)qd_choose(c, "rank", 1, QD_MAX_RANK), {0}};
    for (int i = 0; i < d.rank; i++)
        d.shape[i] = qd_choose_size(c, names[i], i + 1 < d.rank ? 4 + c->size : 90 * c->size);
    p->desc[0] = p->desc[QD_MAX_IN] = d;
}

/* Codes of which neighbours differ, so that no wrong index stays unseen. */
static bool fill(qd_choices *c, const qd_problem *p, int i, void *data) {
    (void)p;
    if (i != 1) return false;
    const int64_t step = 2 * qd_choose(c, "table step", 0, 127) + 1, first = qd_choose(c, "table first", 0, 255);
    for (int64_t k = 0; k < 256; k++)
        ((uint8_t *)data)[k] = (uint8_t)(first + k * step);
    return true;
}

const qd_op_rules qd_rules_table = {.formats = formats, .check = check, .choose = choose, .fill = fill};
