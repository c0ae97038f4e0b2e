/* Softmax of codes. */
#include <math.h>

#include "core/rules/rules.h"

/* The sum of the weights, at most 2^24 each, times 2^17 must fit 63 bits. */
#define MAX_COLS (1 << 22)

static qd_status check(qd_node *n, const qd_symbols *s) {
    (void)s;
    const qd_tensor_desc x = qd_sized(n, n->in[0]);
    const qd_quant y = n->attrs.softmax_int.y;
    const int64_t cols = x.shape[x.rank - 1];
    qd_status status;
    QD_TRY(qd_same_shape_check("softmax_int", n));
    if (x.rank == 1 && n->dynamic)
        return qd_fail(QD_ERR_UNSUPPORTED, "softmax_int: the rows of a run cannot be the last dimension");
    QD_TRY(qd_count_check("softmax_int", qd_span(&x, 1, x.rank)));
    if (cols > MAX_COLS) {
        return qd_fail(QD_ERR_UNSUPPORTED, "softmax_int: %lld columns, of which at most %d can be summed exactly",
                       (long long)cols, MAX_COLS);
    }
    QD_TRY(qd_scale_check("softmax_int", "x", n->attrs.softmax_int.x_scale));
    QD_TRY(qd_scale_check("softmax_int", "y", y.scale));
    QD_TRY(qd_zero_check("softmax_int", "y", y.zero_point, n->out[0]->desc.format));
    if (y.scale < 0x1p-14f || y.scale > 0x1p16f) {
        return qd_fail(QD_ERR_UNSUPPORTED, "softmax_int: the scale of y is %g; it must lie between 2^-14 and 2^16",
                       (double)y.scale);
    }
    n->params_bytes = sizeof n->params.softmax_int;
    n->params.softmax_int = (qd_softmax_int_params){.rows = x.rank > 1 ? (qd_i32)qd_span(&x, 1, x.rank - 1) : 0,
                                                    .cols = (qd_i32)cols,
                                                    .x_code = qd_code_of(x.format),
                                                    .y_code = qd_code_of(n->out[0]->desc.format),
                                                    .y_zero = y.zero_point,
                                                    .y_inverse = (qd_i32)llround(65536.0 / (double)y.scale),
                                                    .x_scale = n->attrs.softmax_int.x_scale};
error:
    return status;
}

/* The style of y's scale in which results are ties. */
enum { TIES = 4 };

static void choose(qd_choices *c, qd_problem *p) {
    static const char *const names[] = {"d0", "d1", "d2", "d3"};
    qd_tensor_desc d = {0, (int)qd_choose(c, "rank", 1, QD_MAX_RANK), {0}};
    for (int i = 0; i < d.rank; i++)
        d.shape[i] = qd_choose_size(c, names[i], i + 1 < d.rank ? 3 + c->size : 60 * c->size);
    p->desc[0] = p->desc[QD_MAX_IN] = d;
    float *x = &p->attrs.softmax_int.x_scale;
    qd_quant *y = &p->attrs.softmax_int.y;
    y->zero_point = qd_choose_code(c, "y zero", p->formats[QD_MAX_IN]);
    /* Weights that are alike, of every size, or nothing beside the largest. */
    *x = qd_choose_scale(c, "x scale");
    if (qd_choose(c, "x scale style", 0, 7) == 7) *x = ldexpf(*x, (int)qd_choose(c, "x scale more", -140, 120));
    /* Shares in all their bits, in few, or mostly too large for a code. */
    y->scale = 1.0f / 256.0f;
    switch (qd_choose(c, "y scale style", 0, TIES)) {
        case 1:
            y->scale = qd_choose_scale(c, "y scale");
            break;
        case 2:
            y->scale = qd_choose_scale(c, "y scale") * 0x1p-4f;
            break;
        case 3:
            y->scale = ldexpf(1.0f, (int)qd_choose(c, "y power", -14, 16));
            break;
        case TIES: { /* equal shares, each an odd number of halves */
            const int64_t cols = d.shape[d.rank - 1], odd = 2 * qd_choose(c, "halves", 0, 10) + 1;
            y->scale = 2.0f / (float)(cols * odd);
            break;
        }
        default:
            break;
    }
}

/* Codes near each other, or any. */
static bool fill(qd_choices *c, const qd_problem *p, int i, void *data) {
    (void)i;
    const bool equal = qd_choose(c, "y scale style", 0, TIES) == TIES;
    const int64_t spread = qd_choose(c, "x spread", 0, 2) ? 256 : 16, cols = p->desc[0].shape[p->desc[0].rank - 1];
    uint64_t stream = qd_stream(c, "x codes");
    const int64_t base = qd_between(&stream, 0, 255);
    for (int64_t e = 0; e < qd_span(&p->desc[0], 0, p->desc[0].rank); e++)
        ((uint8_t *)data)[e] = (uint8_t)(base + (equal ? e / cols : qd_between(&stream, 0, spread - 1)));
    return true;
}

const qd_op_rules qd_rules_softmax_int = {.attrs = true, .check = check, .choose = choose, .fill = fill};
