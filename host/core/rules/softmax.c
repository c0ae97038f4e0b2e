/* Softmax of codes. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "core/rules/rules.h"
#include "qdot/qdot_num.h"

/* The sum of the weights, at most 2^24 each, times 2^17 must fit 63 bits. */
#define MAX_COLS (1 << 22)
/* TensorFlow Lite sums weights of 19 bits in 31. */
#define MAX_WEIGHTED_COLS 4095

/* ---- Weights ------------------------------------------------------------------------------------------------ */

/* exp(x), -1/4 <= x < 0, by gemmlowp: numbers of 31 bits after the point; Taylor's polynomial of degree 4 around -1/8.
 */
static int32_t exp_quarter(int32_t x) {
    const int32_t at = 1895147668; /* exp(-1/8) */
    const int32_t x1 = x + (1 << 28), x2 = qd_multiply_q31(x1, x1), x3 = qd_multiply_q31(x2, x1);
    const int32_t x4 = qd_divide_rounded(qd_multiply_q31(x2, x2), 2);
    const int32_t rest = qd_divide_rounded(qd_multiply_q31(x4 + x3, 715827883) + x2, 1);
    return at + qd_multiply_q31(at, x1 + rest);
}

/* exp(x / 2^26), -2^31 < x <= 0, in 31 bits after the point: that of x's part below 1/4, then a factor exp(-2^k) for
 * each bit of the rest. */
static int32_t exp_negative(int32_t x) {
    static const int32_t factors[] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};
    const int32_t quarter = 1 << 24;
    const int32_t part = (x & (quarter - 1)) - quarter; /* -1/4 … 0, without the 0 */
    const int32_t rest = part - x;
    int32_t y = exp_quarter(part * 32);
    for (int k = 0; k < 7; k++) {
        if (rest & quarter << k) y = qd_multiply_q31(y, factors[k]);
    }
    return x ? y : INT32_MAX;
}

qd_status qd_softmax_weights(double scale, int32_t *weights) {
    if (!weights) return qd_fail(QD_ERR_ARGUMENT, "qd_softmax_weights: needs room for 256 weights");
    if (!(scale > 0x1p-26) || !isfinite(scale)) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_softmax_weights: the scale is %g; it must be finite and exceed 2^-26",
                       scale);
    }
    /* Larger ones than 2^5 change nothing: all weights but the first are 0. */
    const double multiplier = fmin(scale * 0x1p26, 0x1p31 - 1);
    int shift;
    const double part = frexp(multiplier, &shift);
    int64_t fixed = llround(part * 0x1p31);
    if (fixed == (int64_t)1 << 31) {
        fixed /= 2;
        shift++;
    }
    const int64_t reach = ((int64_t)31 << 26) >> shift; /* what is farther is taken for 0 */
    for (int i = 0; i < 256; i++)
        weights[i] =
            i > reach ? 0 : exp_negative(qd_multiply_q31((int32_t)(-i * ((int64_t)1 << shift)), (int32_t)fixed));
    return QD_OK;
}

qd_status qd_softmax_float_weights(float scale, int64_t cols, float *weights) {
    if (!weights) return qd_fail(QD_ERR_ARGUMENT, "qd_softmax_float_weights: needs room for 256 weights");
    if (!(scale > 0) || !isfinite(scale)) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_softmax_float_weights: the scale is %g; it must be positive and finite",
                       (double)scale);
    }
    if (cols < 1 || cols > MAX_COLS) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_softmax_float_weights: %lld columns; there must be 1 to %d",
                       (long long)cols, MAX_COLS);
    }
    /* The logarithm in float32, all else in float64. */
    const double shift = fmax(0, (double)logf(FLT_MAX / (float)cols) - 5) / (double)scale;
    for (int i = 0; i < 256; i++)
        weights[i] = (float)exp((shift - i) * (double)scale);
    return QD_OK;
}

/* ---- Rules -------------------------------------------------------------------------------------------------- */

/* With weights in fixed point, everything else about y is fixed. */
static qd_status check_weighted(const qd_node *n, int64_t cols) {
    const qd_quant y = n->attrs.softmax_int.y;
    int64_t min, max;
    qd_code_range(n->out[0]->desc.format, &min, &max);
    if (cols > MAX_WEIGHTED_COLS)
        return qd_fail(QD_ERR_UNSUPPORTED, "softmax_int: %lld columns; with weights at most %d", (long long)cols,
                       MAX_WEIGHTED_COLS);
    if (y.scale == 1.0f / 256.0f && y.zero_point == min) return QD_OK;
    return qd_fail(QD_ERR_UNSUPPORTED,
                   "softmax_int: with weights y has the scale 1/256 and the zero point %d, not %g and "
                   "%d",
                   (int)min, (double)y.scale, y.zero_point);
}

static qd_status check(qd_node *n, const qd_symbols *s) {
    (void)s;
    const qd_tensor_desc x = qd_sized(n, n->in[0]);
    const qd_quant y = n->attrs.softmax_int.y;
    const int64_t cols = x.shape[x.rank - 1];
    const int32_t weights = !n->in[1]                                ? QD_WEIGHTS_OWN
                            : n->in[1]->desc.format == QD_FORMAT_I32 ? QD_WEIGHTS_FIXED
                                                                     : QD_WEIGHTS_FLOAT;
    qd_status status;
    QD_TRY(qd_same_shape_check("softmax_int", n));
    if (x.rank == 1 && n->dynamic)
        return qd_fail(QD_ERR_UNSUPPORTED, "softmax_int: the rows of a run cannot be the last dimension");
    QD_TRY(qd_count_check("softmax_int", qd_span(&x, 1, x.rank)));
    if (cols > MAX_COLS) {
        return qd_fail(QD_ERR_UNSUPPORTED, "softmax_int: %lld columns, of which at most %d can be summed exactly",
                       (long long)cols, MAX_COLS);
    }
    if (weights == QD_WEIGHTS_FIXED) QD_TRY(check_weighted(n, cols));
    if (weights == QD_WEIGHTS_OWN) QD_TRY(qd_scale_check("softmax_int", "x", n->attrs.softmax_int.x_scale));
    if (n->attrs.softmax_int.wrap && weights != QD_WEIGHTS_FLOAT)
        return qd_fail(QD_ERR_UNSUPPORTED, "softmax_int: codes wrap with weights in f32 only");
    QD_TRY(qd_scale_check("softmax_int", "y", y.scale));
    QD_TRY(qd_zero_check("softmax_int", "y", y.zero_point, n->out[0]->desc.format));
    if (y.scale < 0x1p-14f || y.scale > 0x1p16f) {
        return qd_fail(QD_ERR_UNSUPPORTED, "softmax_int: the scale of y is %g; it must lie between 2^-14 and 2^16",
                       (double)y.scale);
    }
    n->params_bytes = sizeof n->params.softmax_int;
    n->params.softmax_int =
        (qd_softmax_int_params){.rows = x.rank > 1 ? (qd_i32)qd_span(&x, 1, x.rank - 1) : 0,
                                .cols = (qd_i32)cols,
                                .x_code = qd_code_of(x.format),
                                .y_code = qd_code_of(n->out[0]->desc.format),
                                .y_zero = y.zero_point,
                                .y_inverse = weights == QD_WEIGHTS_FLOAT ? (qd_i32)floorf(1 / y.scale)
                                                                         : (qd_i32)llround(65536.0 / (double)y.scale),
                                .x_scale = n->attrs.softmax_int.x_scale,
                                .weights = weights,
                                .wrap = n->attrs.softmax_int.wrap};
error:
    return status;
}

/* Rows in which the order of a sum of floats does: the greatest twice, each 2^24, and beside them ones. Three units for
 * 2^24 are 1 1/2, a tie, unless three ones or more come first: those that come later do not change the sum. */
static bool order_matters(qd_choices *c, const qd_problem *p) {
    return p->formats[1] == QD_FORMAT_F32 && p->present[1] && qd_choose(c, "order", 0, 3) == 3;
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
    *x = qd_choose_scale(c, "x scale");
    p->present[1] = qd_choose(c, "with weights", 0, 1) != 0;
    const bool floats = p->present[1] && p->formats[1] == QD_FORMAT_F32;
    if (floats) {
        p->attrs.softmax_int.wrap = qd_choose(c, "wrap", 0, 1) != 0;
        if (order_matters(c, p)) {
            *y = (qd_quant){1.0f / 3.0f, 0};
            return;
        }
    }
    if (p->present[1] && !floats) {
        int64_t min, max;
        qd_code_range(p->formats[QD_MAX_IN], &min, &max);
        *y = (qd_quant){1.0f / 256.0f, (int32_t)min};
        return;
    }
    y->zero_point = qd_choose_code(c, "y zero", p->formats[QD_MAX_IN]);
    /* Weights that are alike, of every size, or nothing beside the largest. */
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

/* Those of a scale; or any, as no scale has them, that are not too large for the sum; or floats of which one is too
 * large to be multiplied. */
static bool fill_weights(qd_choices *c, const qd_problem *p, void *weights) {
    uint64_t stream = qd_stream(c, "weights");
    const int64_t style = qd_choose(c, "weight style", 0, 3);
    const bool any = style == 2, floats = p->formats[1] == QD_FORMAT_F32;
    const double scale =
        ldexp(1.0 + (double)qd_between(&stream, 0, 999) * 1e-3, (int)qd_choose(c, "weight 2^", -12, 2));
    const int64_t cols = p->desc[0].shape[p->desc[0].rank - 1];
    if (floats ? qd_softmax_float_weights((float)scale, cols, weights) : qd_softmax_weights(scale, weights))
        return false;
    if (floats && style == 3) *(float *)weights = FLT_MAX;
    for (int i = floats ? 0 : 1; i < 256 && any; i++) {
        const int32_t number = (int32_t)qd_between(&stream, 0, INT32_MAX >> qd_between(&stream, 0, 30));
        if (floats) {
            ((float *)weights)[i] = ldexpf((float)number, 60);
        } else {
            ((int32_t *)weights)[i] = number;
        }
    }
    return true;
}

/* Codes near each other, or any. */
static void fill_codes(qd_choices *c, uint8_t *data, int64_t count, int64_t cols) {
    const bool equal = qd_choose(c, "y scale style", 0, TIES) == TIES;
    const int64_t spread = qd_choose(c, "x spread", 0, 2) ? 256 : 16;
    uint64_t stream = qd_stream(c, "x codes");
    const int64_t base = qd_between(&stream, 0, 255);
    for (int64_t e = 0; e < count; e++)
        data[e] = (uint8_t)(base + (equal ? e / cols : qd_between(&stream, 0, spread - 1)));
}

/* See order_matters. */
static void fill_in_order(qd_choices *c, uint8_t *data, int64_t count, int64_t cols) {
    uint64_t stream = qd_stream(c, "places");
    memset(data, 5, (size_t)count);
    for (int64_t row = 0; row < count; row += cols) {
        data[row + qd_between(&stream, 0, cols - 1)] = 6;
        data[row + qd_between(&stream, 0, cols - 1)] = 6;
    }
}

static bool fill(qd_choices *c, const qd_problem *p, int i, void *data) {
    const int64_t count = qd_span(&p->desc[0], 0, p->desc[0].rank), cols = p->desc[0].shape[p->desc[0].rank - 1];
    if (!order_matters(c, p)) {
        if (i == 1) return fill_weights(c, p, data);
        fill_codes(c, data, count, cols);
    } else if (i == 1) {
        for (int k = 0; k < 256; k++)
            ((float *)data)[k] = k ? 1.0f : 0x1p24f;
    } else {
        fill_in_order(c, data, count, cols);
    }
    return true;
}

const qd_op_rules qd_rules_softmax_int = {.attrs = true, .check = check, .choose = choose, .fill = fill};
