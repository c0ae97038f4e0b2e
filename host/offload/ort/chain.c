/* The chain that makes floats of the sums of codes, where DynamicQuantizeLinear made the codes:
 *
 *   x -> DynamicQuantizeLinear -> codes, x_scale, x_zero      codes, x_zero -> MatMulInteger or ConvInteger -> sums
 *   Mul(x_scale, w_scale) -> scales                           Add(Mul(Cast(sums), scales), bias)
 */
#include "ops.h"

enum { X, W, BIAS };

/* The other input of a Mul, Add … of which `value` is one; -1 when it is not. */
static int other_input(const qep_node *n, int value) {
    if (n->n_in != 2 || (n->in[0] != value && n->in[1] != value)) return -1;
    return n->in[n->in[0] == value];
}

/* In a part that is compiled (g->kept), DynamicQuantizeLinear may stand in another part: the scale is an input then. */
static bool is_dynamic_scale(const qep_graph *g, int value) {
    if (value < 0) return false;
    const qep_value *v = &g->values[value];
    if (v->producer < 0)
        return g->kept && !v->data && v->type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT && v->shape.rank == 0;
    const qep_node *n = &g->nodes[v->producer];
    return qep_is(g, v->producer, "DynamicQuantizeLinear") && n->n_out > 1 && n->out[1] == value;
}

/* scales = x_scale · w_scale, where the node joins the unit; or x_scale alone, for the host leaves out products with 1.
 */
static bool take_scales(qep_match *m, qep_unit *u, int scales, qep_fits *fits) {
    const qep_graph *g = m->g;
    const int node = scales < 0 ? -1 : g->values[scales].producer;
    if (is_dynamic_scale(g, scales)) {
        u->in[X].scale = scales;
        return true;
    }
    if (!qep_is(g, node, "Mul") || qep_only_reader(g, scales) < 0) return false;
    const int first = !is_dynamic_scale(g, qep_in(&g->nodes[node], 0));
    const int x_scale = qep_in(&g->nodes[node], first), w_scale = qep_in(&g->nodes[node], !first);
    if (!is_dynamic_scale(g, x_scale) || w_scale < 0 || !fits(g, u, w_scale, false)) return false;
    u->in[X].scale = x_scale;
    u->in[W].scale = w_scale;
    return qep_include(m, u, node);
}

bool qep_take_floats(qep_match *m, qep_unit *u, qep_fits *fits) {
    const qep_graph *g = m->g;
    const int members = u->n_members, cast = qep_only_reader(g, u->y.value);
    if (!qep_is(g, cast, "Cast") || qep_attr_int(&g->nodes[cast], "to", 0) != 1 /* float32 in a model's file */)
        return true;
    const int floats = g->nodes[cast].out[0], mul = qep_only_reader(g, floats);
    if (!qep_is(g, mul, "Mul")) return true;
    if (!take_scales(m, u, other_input(&g->nodes[mul], floats), fits) || !qep_include(m, u, cast) ||
        !qep_include(m, u, mul)) {
        u->n_members = members;
        u->in[X].scale = u->in[W].scale = -1;
        return true;
    }
    u->y.value = g->nodes[mul].out[0];
    const int add = qep_only_reader(g, u->y.value);
    if (!qep_is(g, add, "Add")) return true;
    const int bias = other_input(&g->nodes[add], u->y.value);
    if (bias < 0 || !fits(g, u, bias, true)) return true;
    u->in[BIAS].value = bias;
    u->y.value = g->nodes[add].out[0];
    return qep_include(m, u, add);
}
