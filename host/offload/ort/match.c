#include "match.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops.h"

/* ---- Reasons ------------------------------------------------------------------------------------------------ */

bool qep_refuse(qep_match *m, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(m->reason, sizeof m->reason, format, args);
    va_end(args);
    return false;
}

bool qep_broken(qep_match *m, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(m->reason, sizeof m->reason, format, args);
    va_end(args);
    m->broken = true;
    return false;
}

/* ---- Parts of a unit ---------------------------------------------------------------------------------------- */

bool qep_operands(qep_match *m, qep_unit *u, int n) {
    u->in = qep_take(m->arena, (size_t)n, sizeof *u->in);
    if (!u->in) return qep_refuse(m, "out of memory");
    u->n_in = n;
    for (int i = 0; i < n; i++)
        u->in[i] = (qep_operand){.value = -1, .scale = -1, .zero = -1};
    return true;
}

bool qep_include(qep_match *m, qep_unit *u, int node) {
    for (int i = 0; i < u->n_members; i++) {
        if (u->members[i] == node) return true;
    }
    /* Grown in steps of 8; what is left behind goes with the arena. */
    if (u->n_members % 8 == 0) {
        int *more = qep_take(m->arena, (size_t)u->n_members + 8, sizeof *more);
        if (!more) return qep_refuse(m, "out of memory");
        if (u->n_members) memcpy(more, u->members, (size_t)u->n_members * sizeof *more);
        u->members = more;
    }
    u->members[u->n_members++] = node;
    return true;
}

/* ---- Checks of values --------------------------------------------------------------------------------------- */

static unsigned type_bit(ONNXTensorElementDataType t) {
    switch ((int)t) {
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8:
            return QEP_U8;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8:
            return QEP_I8;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32:
            return QEP_I32;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
            return QEP_F32;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16:
            return QEP_F16;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
            return QEP_I64;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT4:
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT4:
            return QEP_4BIT;
        case QEP_TYPE_INT2:
        case QEP_TYPE_UINT2:
            return QEP_2BIT;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16:
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16:
            return QEP_16BIT;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E4M3FN:
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E5M2:
        case QEP_TYPE_FLOAT4E2M1:
            return QEP_SMALL;
        default:
            return 0;
    }
}

bool qep_types(qep_match *m, int value, const char *what, unsigned mask) {
    if (value < 0) return qep_broken(m, "%s is missing", what);
    const ONNXTensorElementDataType t = m->g->values[value].type;
    if (type_bit(t) & mask) return true;
    return qep_refuse(m, "%s is %s", what, qep_type_name(t));
}

bool qep_constant(const qep_graph *g, int value) {
    return value >= 0 && g->values[value].data;
}

bool qep_known(const qep_graph *g, int value) {
    return value >= 0 && g->values[value].producer < 0;
}

int64_t qep_elements(const qep_graph *g, int value) {
    const qep_shape *s = &g->values[value].shape;
    if (s->rank < 0) return -1;
    for (int i = 0; i < s->rank; i++) {
        if (s->dims[i] < 0) return -1;
    }
    return qep_count(s);
}

bool qep_parameter(qep_match *m, qep_unit *u, int value, const char *what, int64_t any) {
    if (value < 0) return true;
    if (!qep_known(m->g, value)) return qep_refuse(m, "%s is computed by the model; it must be a constant", what);
    const int64_t n = qep_elements(m->g, value);
    if (n < 0) return qep_refuse(m, "%s has a shape that is not known", what);
    if (any >= 0 && n != 1 && n != any) return qep_refuse(m, "%s has %lld elements", what, (long long)n);
    if (!qep_constant(m->g, value)) u->varies = true;
    return true;
}

/* Numbers of a constant scale must be positive and finite. */
static bool check_scale(qep_match *m, int value, const char *what) {
    const qep_value *v = &m->g->values[value];
    const int64_t n = v->data ? qep_count(&v->shape) : 0;
    for (int64_t i = 0; i < n; i++) {
        const double s = qep_number(v->type, v->data, i);
        if (!(s > 0) || !isfinite(s)) {
            return qep_broken(m, "the scale of %s is %g; it must be positive and finite", what, s);
        }
    }
    return true;
}

static bool check_zero(qep_match *m, int zero, int codes, const char *what) {
    if (zero < 0) return true;
    const ONNXTensorElementDataType has = m->g->values[zero].type, want = m->g->values[codes].type;
    if (has == want) return true;
    return qep_broken(m, "the zero point of %s is %s where the codes are %s", what, qep_type_name(has),
                      qep_type_name(want));
}

bool qep_quantization(qep_match *m, qep_unit *u, const qep_operand *o, const char *what, int64_t any) {
    char name[64];
    if (o->scale < 0) return qep_broken(m, "the scale of %s is missing", what);
    snprintf(name, sizeof name, "the scale of %s", what);
    if (!qep_types(m, o->scale, name, QEP_F32 | QEP_F16) || !qep_parameter(m, u, o->scale, name, any)) return false;
    snprintf(name, sizeof name, "the zero point of %s", what);
    if (!qep_parameter(m, u, o->zero, name, any)) return false;
    return check_scale(m, o->scale, what) && check_zero(m, o->zero, o->value, what);
}

bool qep_rank(qep_match *m, int value, const char *what, int least, int most) {
    const int rank = m->g->values[value].shape.rank;
    if (rank >= least && rank <= most) return true;
    if (rank == 0) return qep_refuse(m, "%s has an unknown number of dimensions", what);
    return qep_refuse(m, "%s has %d dimensions", what, rank);
}

/* ---- Patterns of DequantizeLinear and QuantizeLinear -------------------------------------------------------- */

bool qep_is(const qep_graph *g, int node, const char *op) {
    return node >= 0 && strcmp(g->nodes[node].op, op) == 0 && !*g->nodes[node].domain;
}

bool qep_has_row(const qep_graph *g, int node, const char *op) {
    if (node < 0 || strcmp(g->nodes[node].op, op) != 0) return false;
    const qep_node *n = &g->nodes[node];
    for (const qep_op *row = qep_ops; row->name; row++) {
        if (!strcmp(row->name, op) && !strcmp(row->domain, n->domain) && n->version >= row->first &&
            n->version <= row->last)
            return true;
    }
    return false;
}

int qep_only_reader(const qep_graph *g, int value) {
    if (value < 0) return -1;
    const qep_value *v = &g->values[value];
    return v->uses == 1 && !v->is_output ? v->reader : -1;
}

bool qep_look_behind_any(qep_match *m, qep_unit *u, int value, const char *what, qep_operand *o) {
    if (value < 0) return qep_broken(m, "%s is missing", what);
    const int node = m->g->values[value].producer;
    if (!qep_has_row(m->g, node, "DequantizeLinear")) return qep_refuse(m, "%s is not made by DequantizeLinear", what);
    const qep_node *n = &m->g->nodes[node];
    *o = (qep_operand){.value = qep_in(n, 0),
                       .scale = qep_in(n, 1),
                       .zero = qep_in(n, 2),
                       .axis = qep_attr_int(n, "axis", 1),
                       .block = qep_attr_int(n, "block_size", 0)};
    if (o->value < 0) return qep_broken(m, "%s has no codes", what);
    return qep_quantization(m, u, o, what, -1) && qep_include(m, u, node);
}

bool qep_look_behind(qep_match *m, qep_unit *u, int value, const char *what, qep_operand *o) {
    if (!qep_look_behind_any(m, u, value, what, o)) return false;
    if (qep_elements(m->g, o->scale) != 1) return qep_refuse(m, "%s has more than one scale", what);
    return qep_types(m, o->value, what, QEP_CODES8);
}

bool qep_limits(const qep_graph *g, int node, float *low, float *high) {
    const qep_node *n = &g->nodes[node];
    *low = -INFINITY;
    *high = INFINITY;
    if (qep_is(g, node, "Relu")) {
        *low = 0;
        return true;
    }
    if (!qep_is(g, node, "Clip")) return false;
    if (n->version < 11) {
        *low = qep_attr_float(n, "min", -INFINITY);
        *high = qep_attr_float(n, "max", INFINITY);
    } else {
        for (int i = 1; i <= 2; i++) {
            const int v = qep_in(n, i);
            if (v < 0) continue;
            if (!qep_constant(g, v) || qep_elements(g, v) != 1) return false;
            *(i == 1 ? low : high) = (float)qep_number(g->values[v].type, g->values[v].data, 0);
        }
    }
    return *low <= *high;
}

int32_t qep_limit_code(float limit, qd_quant y, qd_format f) {
    const int32_t least = f == QD_FORMAT_I8 ? -128 : 0, most = f == QD_FORMAT_I8 ? 127 : 255;
    if (isnan(limit)) return least;
    const double code = (double)nearbyintf(limit / y.scale) + y.zero_point;
    return code <= least ? least : code >= most ? most : (int32_t)code;
}

bool qep_check_limits(qep_match *m, const qep_unit *u) {
    const qep_value *values = m->g->values, *scale = &values[u->y.scale];
    const qep_value *zero = u->y.zero < 0 ? NULL : &values[u->y.zero];
    if (!u->limited || !scale->data || (zero && !zero->data)) return true;
    const qd_quant y = {(float)qep_number(scale->type, scale->data, 0),
                        zero ? (int32_t)qep_number(zero->type, zero->data, 0) : 0};
    const qd_format f = qep_format(values[u->y.value].type);
    if (qep_limit_code(u->low, y, f) || qep_limit_code(u->high, y, f)) return true;
    return qep_refuse(m, "limits that leave only the code 0");
}

bool qep_look_ahead(qep_match *m, qep_unit *u, int y) {
    const qep_graph *g = m->g;
    int node = qep_only_reader(g, y);
    float low, high;
    if (node >= 0 && qep_limits(g, node, &low, &high)) {
        u->limited = true;
        u->low = low;
        u->high = high;
        if (!qep_include(m, u, node)) return false;
        y = g->nodes[node].out[0];
        node = qep_only_reader(g, y);
    }
    if (!qep_has_row(g, node, "QuantizeLinear") || qep_in(&g->nodes[node], 0) != y) {
        return qep_refuse(m, "its float result is not read by one QuantizeLinear alone");
    }
    const qep_node *n = &g->nodes[node];
    u->y = (qep_operand){.value = n->out[0], .scale = qep_in(n, 1), .zero = qep_in(n, 2)};
    return qep_quantization(m, u, &u->y, "the result", 1) && qep_types(m, u->y.value, "the result", QEP_CODES8) &&
           qep_check_limits(m, u) && qep_include(m, u, node);
}

/* ---- Units -------------------------------------------------------------------------------------------------- */

/* Tries all rows of an operator; the unit that fits is appended. */
static bool match_node(qep_match *m, int node, qep_unit *u) {
    const qep_node *n = &m->g->nodes[node];
    bool named = false;
    m->broken = false;
    m->reason[0] = 0;
    if (n->n_out < 1 || n->out[0] < 0) return qep_refuse(m, "it has no result");
    for (const qep_op *op = qep_ops; op->name; op++) {
        if (strcmp(op->name, n->op) != 0 || strcmp(op->domain, n->domain) != 0) continue;
        named = true;
        if (n->version < op->first || n->version > op->last) {
            qep_refuse(m, "version %d of the operator is not known (%d … %d are)", n->version, op->first, op->last);
            continue;
        }
        *u = (qep_unit){.op = op, .node = node, .y = {-1, -1, -1, 0, 0}, .more = {-1, -1}};
        if (!qep_include(m, u, node)) return false;
        if (!op->match(m, node, u)) {
            if (m->broken) return false;
            continue;
        }
        return true;
    }
    return named ? false : qep_refuse(m, "no such operator here");
}

/* True when a node that is no DequantizeLinear belongs to another unit already. */
static bool overlaps(const qep_match *m, const qep_unit *u) {
    for (int i = 0; i < u->n_members; i++) {
        if (m->unit_of[u->members[i]] >= 0 && !qep_has_row(m->g, u->members[i], "DequantizeLinear")) return true;
    }
    return false;
}

/* Patterns first, so that their inner nodes are not taken one by one: units of several nodes, then of one. */
static bool find_pass(qep_match *m, qep_units *u, bool patterns) {
    for (int i = 0; i < m->g->n_nodes; i++) {
        qep_unit unit;
        if (m->unit_of[i] >= 0) continue;
        const bool found = match_node(m, i, &unit);
        if (!found || (unit.n_members > 1) != patterns || overlaps(m, &unit)) {
            if (patterns) continue;
            if (found) qep_refuse(m, "part of it belongs to another pattern");
            const size_t length = strlen(m->reason) + 1;
            char *reason = qep_take(&u->arena, length, 1);
            if (!reason) return false;
            u->reason[i] = memcpy(reason, m->reason, length);
            u->broken[i] = m->broken;
            continue;
        }
        for (int j = 0; j < unit.n_members; j++) {
            /* A DequantizeLinear that patterns look behind is a unit by itself, too, for others that read it. */
            if (patterns && unit.members[j] != unit.node && qep_has_row(m->g, unit.members[j], "DequantizeLinear"))
                continue;
            m->unit_of[unit.members[j]] = u->count;
        }
        u->list[u->count++] = unit;
    }
    return true;
}

OrtStatus *qep_units_find(const qep_host *h, const qep_graph *g, qep_units **out) {
    qep_units *u = calloc(1, sizeof *u);
    const size_t n = (size_t)g->n_nodes;
    if (u) {
        u->list = qep_take(&u->arena, n, sizeof *u->list);
        u->unit_of = qep_take(&u->arena, n, sizeof *u->unit_of);
        u->reason = qep_take(&u->arena, n, sizeof *u->reason);
        u->broken = qep_take(&u->arena, n, sizeof *u->broken);
    }
    if (!u || !u->list || !u->unit_of || !u->reason || !u->broken) {
        qep_units_free(u);
        return qep_error(h, ORT_FAIL, "out of memory");
    }
    qep_match m = {.g = g, .arena = &u->arena, .unit_of = u->unit_of};
    for (size_t i = 0; i < n; i++)
        u->unit_of[i] = -1;
    if (!find_pass(&m, u, true) || !find_pass(&m, u, false)) {
        qep_units_free(u);
        return qep_error(h, ORT_FAIL, "out of memory");
    }
    *out = u;
    return NULL;
}

void qep_units_free(qep_units *u) {
    if (!u) return;
    qep_arena_free(&u->arena);
    free(u);
}
