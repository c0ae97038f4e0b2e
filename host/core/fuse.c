/* Fusion: two operators of a graph, of which the second reads what the first writes, become one that gives the same
 * bytes. A row of the table below is a pair of operators and a function that writes down the one; everything else, when
 * a pair may be fused at all, is the same for all rows. */
#include "core/graph.h"

#include <stdio.h>
#include <string.h>

#include "core/rules/rules.h"
#include "qdot/qdot_num.h"

/** Changes *made, a copy of the first node with the second one's result, into the fused node; tensors, operator and
 *  attributes only: the rest follows from them. QD_ERR_UNSUPPORTED, without a message: these two are not the same as
 * any one node. What qd_node_init then refuses is not fused either. */
typedef qd_status rewrite_fn(const qd_node *first, const qd_node *second, int input, qd_node *made);

#define NO QD_ERR_UNSUPPORTED

/* ---- The end of integer operators --------------------------------------------------------------------------- */

/* Where an operator that ends in codes has the limits of its result in its attributes; false: it is a sum. */
static bool find_limits(qd_node *n, int32_t *limits[2]) {
#define LIMITS(member)                    \
    do {                                  \
        limits[0] = &n->attrs.member.min; \
        limits[1] = &n->attrs.member.max; \
    } while (0)
    switch (n->op) {
        case QD_OP_MATMUL_INT:
            LIMITS(matmul_int.y);
            return n->in[5];
        case QD_OP_CONV_INT:
            LIMITS(conv_int.y);
            return n->in[5];
        case QD_OP_CONV_ADD_INT:
            LIMITS(conv_add_int.add);
            return true;
        case QD_OP_REQUANTIZE:
            LIMITS(requantize.y);
            return true;
        case QD_OP_QUANTIZE_LINEAR:
            LIMITS(quantize_linear);
            return true;
        case QD_OP_POOL:
            LIMITS(pool);
            return true;
        default:
            LIMITS(binary);
            return true;
    }
#undef LIMITS
}

/* sum -> REQUANTIZE: the requant operand. */
static qd_status put_requant(const qd_node *first, const qd_node *second, int input, qd_node *made) {
    (void)input;
    const bool conv = first->op == QD_OP_CONV_INT;
    qd_tensor *requant = second->in[1];
    if (first->in[5] || second->attrs.requantize.x_zero) return NO;
    /* REQUANTIZE has a row for each index of the last dimension; that is not the channel of NCHW. */
    if (conv && first->attrs.conv_int.window.nchw && requant->desc.shape[0] != 1) return NO;
    made->in[5] = requant;
    *(conv ? &made->attrs.conv_int.y : &made->attrs.matmul_int.y) = second->attrs.requantize.y;
    return QD_OK;
}

/* The codes that an operator on single codes of 8 bits makes of the least code, the one above it, and so on. */
static qd_status read_map(const qd_node *n, int32_t map[256]) {
    const void *bytes;
    const int32_t x_code = qd_code_of(n->in[0]->desc.format), y_code = qd_code_of(n->out[0]->desc.format);
    if (QD_CODE_BITS(x_code) != 8 || QD_CODE_BITS(y_code) != 8 || !qd_is_constant(n->in[1])) return NO;
    const bool table = n->op == QD_OP_TABLE;
    if (!table && n->in[1]->desc.shape[0] != 1) return NO;
    const qd_status status = qd_constant_bytes(n->in[1], &bytes);
    if (status) return status;
    const qd_requantize_params *p = &n->params.requantize;
    for (int32_t i = 0; i < 256; i++) {
        if (table) {
            map[i] = QD_CODE_SIGNED(y_code) ? ((const int8_t *)bytes)[i] : ((const uint8_t *)bytes)[i];
            continue;
        }
        const int32_t *row = bytes, x = i - (QD_CODE_SIGNED(x_code) ? 128 : 0) - p->x_zero;
        map[i] = qd_to_code(qd_requantize(x, p->y.mode, row[0], row[1]), p->y.zero_point, p->y.min, p->y.max);
    }
    return QD_OK;
}

/* CONV_INT -> ADD_INT of the same shapes: the residual. */
static qd_status put_residual(const qd_node *first, const qd_node *second, int input, qd_node *made) {
    qd_tensor *residual = second->in[1 - input];
    const qd_tensor_desc *a = &first->out[0]->desc, *b = &residual->desc;
    if (!first->in[5] || a->format != second->out[0]->desc.format || a->rank != b->rank) return NO;
    for (int i = 0; i < a->rank; i++) {
        if (a->shape[i] != b->shape[i]) return NO;
    }
    made->op = QD_OP_CONV_ADD_INT;
    memset(&made->attrs, 0, sizeof made->attrs);
    made->attrs.conv_add_int.window = first->attrs.conv_int.window;
    made->attrs.conv_add_int.groups = first->attrs.conv_int.groups;
    made->attrs.conv_add_int.y = first->attrs.conv_int.y;
    made->attrs.conv_add_int.add = second->attrs.binary;
    made->attrs.conv_add_int.residual_first = input == 1;
    qd_tensor *const in[] = {first->in[0], first->in[1], first->in[5], residual,
                             first->in[2], first->in[3], first->in[4]};
    memcpy(made->in, in, sizeof in);
    return QD_OK;
}

/* An activation that only limits the codes: a table, or a change of scale by 1. */
static qd_status put_limits(const qd_node *first, const qd_node *second, int input, qd_node *made) {
    (void)first, (void)input;
    int32_t map[256], *limits[2];
    int64_t least, greatest;
    if (!find_limits(made, limits) || second->in[0]->desc.format != second->out[0]->desc.format) return NO;
    const qd_status status = read_map(second, map);
    if (status) return status;
    qd_code_range(second->in[0]->desc.format, &least, &greatest);
    const int32_t low = map[0], high = map[255];
    for (int32_t i = 0; i < 256; i++) {
        const int32_t code = (int32_t)least + i;
        if (map[i] != (code < low ? low : code > high ? high : code)) return NO;
    }
    const bool whole = !*limits[0] && !*limits[1];
    *limits[0] = qd_to_code(whole ? (int32_t)least : *limits[0], 0, low, high);
    *limits[1] = qd_to_code(whole ? (int32_t)greatest : *limits[1], 0, low, high);
    return *limits[0] || *limits[1] ? QD_OK : NO; /* 0 and 0 would be no limits at all */
}

/* PAD -> convolution: padding of the window, whose codes are x's zero point. */
static qd_status put_padding(const qd_node *first, const qd_node *second, int input, qd_node *made) {
    const qd_tensor_desc *d = &first->in[0]->desc;
    const qd_tensor *zero = second->in[3];
    qd_window *w = &made->attrs.conv_int.window;
    int64_t least, greatest;
    int32_t code = 0;
    *made = *second;
    made->in[input] = first->in[0];
    if (first->attrs.pad.mode != QD_PAD_CONSTANT || (zero && !zero->constant)) return NO;
    qd_code_range(d->format, &least, &greatest);
    if (zero) memcpy(&code, zero->constant, sizeof code);
    if (first->attrs.pad.value != qd_to_code(code, 0, (int32_t)least, (int32_t)greatest)) return NO;
    const int columns = d->rank - (w->nchw ? 1 : 2); /* the dimension of the window's second direction */
    for (int k = 0; k < d->rank; k++) {
        const int64_t before = first->attrs.pad.before[k], after = first->attrs.pad.after[k];
        const int at = k - columns + 1;
        if (!before && !after) continue;
        if (at < 0 || at > 1 || (at == 0 && d->rank == 3)) return NO;
        if (before > 1 << 20 || after > 1 << 20) return NO; /* what a window may have: no overflow here */
        w->before[at] += (int)before;
        w->after[at] += (int)after;
    }
    return QD_OK;
}

/* ---- Floats ------------------------------------------------------------------------------------------------- */

/* MATMUL -> ADD: the addend, which is what is added last there, too. */
static qd_status put_addend(const qd_node *first, const qd_node *second, int input, qd_node *made) {
    if (first->in[2]) return NO;
    made->in[2] = second->in[1 - input];
    return QD_OK;
}

/* A product whose NaN are all the same one -> ELEMENTWISE's sum, whose are, too: the bias or addend. */
static qd_status put_bias(const qd_node *first, const qd_node *second, int input, qd_node *made) {
    const int at = first->op == QD_OP_MATMUL_GROUP ? 6 : 3;
    if (first->in[at] || !second->in[1] || second->attrs.elementwise.combine != QD_COMBINE_ADD) return NO;
    if (second->attrs.elementwise.function != QD_UNARY_IDENTITY || second->attrs.elementwise.scale != 1 ||
        second->attrs.elementwise.offset != 0)
        return NO;
    made->in[at] = second->in[1 - input];
    return QD_OK;
}

/* f32 -> QUANTIZE: the result in a8. The second one's result is all that changes. */
static qd_status put_format(const qd_node *first, const qd_node *second, int input, qd_node *made) {
    (void)first, (void)second, (void)input, (void)made;
    return QD_OK;
}

/* ---- The table ---------------------------------------------------------------------------------------------- */

typedef struct fusion {
    const char *name;
    uint64_t first; /* operators, bit by bit */
    qd_op second;
    int input; /* of the second, which is the first one's only result */
    rewrite_fn *rewrite;
} fusion;

#define OP(id) ((uint64_t)1 << QD_OP_##id)
#define ENDS_IN_CODES                                                                                              \
    (OP(MATMUL_INT) | OP(CONV_INT) | OP(REQUANTIZE) | OP(QUANTIZE_LINEAR) | OP(POOL) | OP(ADD_INT) | OP(MUL_INT) | \
     OP(CONV_ADD_INT))

static const fusion fusions[] = {
    {"requantize", OP(MATMUL_INT) | OP(CONV_INT), QD_OP_REQUANTIZE, 0, put_requant},
    {"residual", OP(CONV_INT), QD_OP_ADD_INT, 0, put_residual},
    {"residual", OP(CONV_INT), QD_OP_ADD_INT, 1, put_residual},
    {"limits", ENDS_IN_CODES, QD_OP_TABLE, 0, put_limits},
    {"limits", ENDS_IN_CODES, QD_OP_REQUANTIZE, 0, put_limits},
    {"padding", OP(PAD), QD_OP_CONV_INT, 1, put_padding},
    {"addend", OP(MATMUL), QD_OP_ADD, 0, put_addend},
    {"addend", OP(MATMUL), QD_OP_ADD, 1, put_addend},
    {"bias", OP(MATMUL_GROUP) | OP(MATMUL_CODED), QD_OP_ELEMENTWISE, 0, put_bias},
    {"bias", OP(MATMUL_GROUP) | OP(MATMUL_CODED), QD_OP_ELEMENTWISE, 1, put_bias},
    {"quantize", OP(RMS_NORM) | OP(LAYER_NORM) | OP(SWIGLU) | OP(ATTENTION), QD_OP_QUANTIZE, 0, put_format},
};
enum { FUSIONS = sizeof fusions / sizeof fusions[0] };
_Static_assert(QD_OP_COUNT <= 64, "operators as bits");

/* ---- When a pair may be fused ------------------------------------------------------------------------------- */

bool qd_is_private(const qd_graph *g, const qd_tensor *t) {
    return t && t->graph == g && !t->base && t->references == 1;
}

/* The node that writes t, where it is the only one and before `reader`, which alone reads t, once; else -1. */
static int only_writer(const qd_graph *g, const qd_tensor *t, int reader) {
    int writer = -1, reads = 0;
    for (int i = 0; i < g->n_nodes; i++) {
        const qd_node *n = &g->nodes[i].node;
        for (int k = 0; k < QD_MAX_OUT; k++) {
            if (n->out[k] != t) continue;
            if (writer >= 0 || i >= reader) return -1;
            writer = i;
        }
        for (int k = 0; k < QD_MAX_IN; k++) {
            if (n->in[k] != t) continue;
            if (i != reader || ++reads > 1) return -1;
        }
    }
    return writer;
}

/* What the first node reads is still there when the second one runs. */
static bool still_there(const qd_graph *g, int first, int second) {
    for (int i = first + 1; i < second; i++) {
        for (int k = 0; k < QD_MAX_OUT; k++) {
            const qd_tensor *out = g->nodes[i].node.out[k];
            for (int j = 0; out && j < QD_MAX_IN; j++) {
                const qd_tensor *in = g->nodes[first].node.in[j];
                if (in && qd_tensor_overlap(out, in, g->max_rows)) return false;
            }
        }
    }
    return true;
}

/* Tries one row on node `second`. The fused node takes the second one's place; *first becomes the one that is to go. */
static qd_status try_fusion(qd_graph *g, const fusion *f, int second, int *first) {
    qd_node *b = &g->nodes[second].node, made, checked;
    const qd_tensor *t = b->in[f->input];
    if (b->op != f->second || !qd_is_private(g, t)) return NO;
    const int writer = only_writer(g, t, second);
    if (writer < 0) return NO;
    const qd_node *a = &g->nodes[writer].node;
    if (!(f->first >> a->op & 1) || a->dynamic != b->dynamic || !still_there(g, writer, second)) return NO;
    made = *a;
    memcpy(made.out, b->out, sizeof made.out);
    qd_status status = f->rewrite(a, b, f->input, &made);
    if (status) return status;
    const qd_backend *backend = g->context->backend;
    if (made.op != a->op && made.op != b->op && !(backend->offers && backend->offers(g->context->device, made.op)))
        return NO;
    const qd_op_info *info = qd_op_get(made.op);
    status = qd_node_init(&checked, made.op, &made.attrs, made.in, info->max_in, made.out, info->n_out, g);
    if (status == QD_ERR_ARGUMENT) return NO; /* not together, though each by itself */
    if (status) return status;
    if (checked.dynamic != b->dynamic || checked.max_rows != b->max_rows) return NO;
    *b = checked;
    *first = writer;
    return QD_OK;
}

static void log_fusions(const qd_graph *g, const int count[FUSIONS]) {
    char text[256];
    int used = snprintf(text, sizeof text, "graph: %d of %d operators are done by others:", g->info.fused,
                        g->n_nodes + g->info.fused);
    for (int i = 0; i < FUSIONS && used < (int)sizeof text; i++) {
        if (!count[i]) continue;
        used += snprintf(text + used, sizeof text - (size_t)used, " %s %d", fusions[i].name, count[i]);
    }
    qd_log(g->context, "%s", text);
}

qd_status qd_graph_fuse(qd_graph *g) {
    int count[FUSIONS] = {0};
    for (int i = 0; i < g->n_nodes; i++) {
        for (int f = 0; f < FUSIONS; f++) {
            int gone;
            const qd_status status = try_fusion(g, &fusions[f], i, &gone);
            if (status == NO) continue;
            if (status) return status;
            g->n_nodes--;
            memmove(&g->nodes[gone], &g->nodes[gone + 1], (size_t)(g->n_nodes - gone) * sizeof *g->nodes);
            g->info.fused++;
            count[f]++;
            /* The fused node again: what it reads may now be fused, too. */
            i--;
            f = -1;
        }
    }
    if (g->info.fused) log_fusions(g, count);
    return QD_OK;
}
