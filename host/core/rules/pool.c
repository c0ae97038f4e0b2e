/* Pooling of codes. */
#include <limits.h>
#include <math.h>

#include "core/rules/window.h"

/* Positions of a window whose codes' sum, and what rounding adds to it, fit 32 bits. */
#define MOST_POSITIONS (INT32_MAX / 256)

static qd_status check_average(const qd_node *n, qd_pool_params *p) {
    const qd_quant x = n->attrs.pool.x, y = n->attrs.pool.y;
    const qd_format f = n->in[0]->desc.format;
    qd_status status;
    if ((unsigned)n->attrs.pool.rounding > QD_ROUND_FLOAT)
        return qd_fail(QD_ERR_ARGUMENT, "pool: %d is no rounding", (int)n->attrs.pool.rounding);
    QD_TRY(qd_zero_check("pool", "x", x.zero_point, f));
    QD_TRY(qd_zero_check("pool", "y", y.zero_point, f));
    QD_TRY(qd_scale_check("pool", "x", x.scale));
    QD_TRY(qd_scale_check("pool", "y", y.scale));
    p->mode = (qd_i32)n->attrs.pool.rounding;
    p->x_zero = x.zero_point;
    p->y_zero = y.zero_point;
    p->x_scale = x.scale;
    p->y_scale = y.scale;
    p->float_sum = n->attrs.pool.float_sum;
    if (p->mode == QD_ROUND_FLOAT) {
        if (isfinite(x.scale / y.scale)) return QD_OK;
        return qd_fail(QD_ERR_ARGUMENT, "pool: the scale of x, %g, is too large for that of y, %g", (double)x.scale,
                       (double)y.scale);
    }
    if (p->float_sum) return qd_fail(QD_ERR_ARGUMENT, "pool: float_sum belongs to the rounding FLOAT");
    if (x.scale == y.scale && x.zero_point == y.zero_point) return QD_OK;
    return qd_fail(QD_ERR_UNSUPPORTED,
                   "pool: with this rounding x and y must have the same scale and zero point; use QD_ROUND_FLOAT");
error:
    return status;
}

static qd_status check(qd_node *n, const qd_symbols *s) {
    (void)s;
    qd_pool_params *p = &n->params.pool;
    n->params_bytes = sizeof *p;
    int64_t min, max;
    qd_code_range(n->in[0]->desc.format, &min, &max);
    if (n->attrs.pool.min || n->attrs.pool.max) {
        if (n->attrs.pool.min > n->attrs.pool.max || n->attrs.pool.min < min || n->attrs.pool.max > max) {
            return qd_fail(QD_ERR_ARGUMENT, "pool: the limits %d … %d are no range of %s codes", n->attrs.pool.min,
                           n->attrs.pool.max, qd_format_get(n->in[0]->desc.format)->name);
        }
        min = n->attrs.pool.min;
        max = n->attrs.pool.max;
    }
    const bool average = n->attrs.pool.average;
    *p = (qd_pool_params){.average = average,
                          .count_padding = average && n->attrs.pool.count_padding,
                          .x_code = qd_code_of(n->in[0]->desc.format),
                          .min = (qd_i32)min,
                          .max = (qd_i32)max};
    qd_window a = n->attrs.pool.window;
    qd_window_params *w = &p->window;
    qd_status status;
    QD_TRY(qd_images_check("pool", n, n->in[0], n->out[0], a.nchw, w));
    if (w->channels != w->out_channels) {
        return qd_fail(QD_ERR_ARGUMENT, "pool: x has %d channels and y has %d", w->channels, w->out_channels);
    }
    const bool flat = n->in[0]->desc.rank == 3;
    for (int i = 0; i < 2; i++) { /* what is not looked at */
        if (n->attrs.pool.global || (flat && i == 0)) a.stride[i] = a.dilation[i] = a.before[i] = a.after[i] = 0;
    }
    int64_t kernel[2] = {flat ? 1 : a.kernel[0], a.kernel[1]};
    if (n->attrs.pool.global) {
        kernel[0] = w->in_h;
        kernel[1] = w->in_w;
        if (w->out_h != 1 || w->out_w != 1)
            return qd_fail(QD_ERR_ARGUMENT, "pool: a global pool leaves one line and one column; y has %d and %d",
                           w->out_h, w->out_w);
        w->kernel_h = w->in_h;
        w->kernel_w = w->in_w;
        w->stride_h = w->stride_w = w->dilation_h = w->dilation_w = 1;
    } else {
        QD_TRY(qd_window_check("pool", &a, kernel, true, w));
    }
    p->padded_h = w->in_h + a.after[0];
    p->padded_w = w->in_w + a.after[1];
    if (!p->count_padding && !(qd_windows_touch(w->in_h, w->out_h, w->kernel_h, w->stride_h, w->dilation_h, w->top) &&
                               qd_windows_touch(w->in_w, w->out_w, w->kernel_w, w->stride_w, w->dilation_w, w->left))) {
        return qd_fail(QD_ERR_ARGUMENT,
                       "pool: a window lies wholly in the padding and has no codes; pad less than the window's size");
    }
    if ((average || !n->attrs.pool.global) && (int64_t)w->kernel_h * w->kernel_w > MOST_POSITIONS) {
        return qd_fail(QD_ERR_UNSUPPORTED, "pool: a window of %lld positions; %d are the most",
                       (long long)w->kernel_h * w->kernel_w, MOST_POSITIONS);
    }
    if (average) QD_TRY(check_average(n, p));
error:
    return status;
}

static void choose(qd_choices *c, qd_problem *p) {
    qd_window *a = &p->attrs.pool.window;
    const int big = c->size;
    const bool flat = qd_choose(c, "flat", 0, 3) == 3;
    const bool global = qd_choose(c, "global", 0, 3) == 3;
    p->attrs.pool.global = global;
    p->attrs.pool.average = qd_choose(c, "average", 0, 2) != 0;
    p->attrs.pool.count_padding = qd_choose(c, "count padding", 0, 1);
    a->nchw = qd_choose(c, "nchw", 0, 1);
    int64_t in[2], out[2];
    const bool wide = qd_choose(c, "wide", 0, 3) == 3;
    qd_choose_window(c, flat, wide ? 40 : 4 + 2 * big, 4, a, in, out);
    const bool needs_codes = !(p->attrs.pool.average && p->attrs.pool.count_padding);
    bool pads = true;
    if (needs_codes) {
        for (int i = flat; i < 2; i++) {
            pads = pads && qd_windows_touch(in[i], out[i], a->kernel[i], a->stride[i] ? a->stride[i] : 1,
                                            a->dilation[i] ? a->dilation[i] : 1, a->before[i]);
        }
    }
    for (int i = flat; i < 2; i++) {
        const int stride = a->stride[i] ? a->stride[i] : 1, dilation = a->dilation[i] ? a->dilation[i] : 1;
        const int64_t reach = dilation * (a->kernel[i] - 1) + 1;
        if (!pads) { /* the padding becomes image */
            in[i] += a->before[i] + a->after[i];
            a->before[i] = a->after[i] = 0;
        }
        /* One window more, over the end. */
        const int64_t padded = in[i] + a->before[i] + a->after[i];
        if ((padded - reach) % stride && out[i] * stride < padded && qd_choose(c, i ? "hang w" : "hang h", 0, 2) &&
            (!needs_codes || qd_windows_touch(in[i], out[i] + 1, a->kernel[i], stride, dilation, a->before[i])))
            out[i]++;
        if (!global) continue;
        out[i] = 1;
        if (qd_choose(c, "area", 0, 3)) in[i] = flat ? 15 : i ? 9 : 7;
    }
    const int64_t rows = qd_choose_size(c, "R", 3), channels = qd_choose_size(c, "channels", 120 * big);
    p->desc[0] = qd_image_desc(p->formats[0], a->nchw, flat, rows, channels, in);
    p->desc[QD_MAX_IN] = qd_image_desc(p->formats[QD_MAX_IN], a->nchw, flat, rows, channels, out);
    if (qd_choose(c, "clamp", 0, 3) == 3) {
        int64_t min, max;
        qd_code_range(p->formats[0], &min, &max);
        p->attrs.pool.min = (int32_t)qd_choose(c, "min", min, min + 100);
        p->attrs.pool.max = (int32_t)qd_choose(c, "max", min + 130, max);
    }
    const int64_t rounding = qd_choose(c, "rounding", 0, 5);
    p->attrs.pool.rounding = (qd_rounding)(rounding > 3 ? 3 : rounding);
    p->attrs.pool.x = (qd_quant){qd_choose_scale(c, "x scale"), qd_choose_code(c, "x zero", p->formats[0])};
    p->attrs.pool.y = p->attrs.pool.x;
    if (p->attrs.pool.rounding != QD_ROUND_FLOAT) return;
    p->attrs.pool.float_sum = qd_choose(c, "float sum", 0, 1) != 0;
    const int64_t other = qd_choose(c, "other y", 0, 5);
    if (!other) return;
    p->attrs.pool.y = (qd_quant){qd_choose_scale(c, "y scale"), qd_choose_code(c, "y zero", p->formats[0])};
    if (other == 1) return;
    /* Means of whole windows are halves of y's scale, but for what the floats on the way were rounded by: that decides,
     * unless a large zero point takes it off. */
    const int64_t area = global ? in[0] * in[1] : (int64_t)(flat ? 1 : a->kernel[0]) * a->kernel[1];
    p->attrs.pool.x.scale = 0.1f * (float)qd_choose(c, "tenths", 1, 40);
    p->attrs.pool.y.scale = 2.0f * p->attrs.pool.x.scale / (float)area;
    if (other < 4) p->attrs.pool.y.zero_point = (int32_t)qd_choose(c, "small zero", 0, 3);
}

/* Any codes, codes near the least or near the zero point; the usual bytes are one number only too often. */
static bool fill(qd_choices *c, const qd_problem *p, int i, void *data) {
    /* Sums that do not leave the codes, where their order is to show. */
    const bool halves = p->attrs.pool.rounding == QD_ROUND_FLOAT && qd_choose(c, "other y", 0, 5) > 1;
    const int64_t style = i ? 0 : halves ? 3 : qd_choose(c, "codes", 0, 3);
    if (!style) return false;
    int64_t min, max;
    qd_code_range(p->formats[0], &min, &max);
    int64_t low = min, high = max;
    if (style == 2) high = min + 3;
    if (style == 3) {
        const int64_t zero = p->attrs.pool.x.zero_point;
        low = zero - 3 > min ? zero - 3 : min;
        high = zero + 3 < max ? zero + 3 : max;
    }
    uint64_t stream = qd_stream(c, "codes");
    const int64_t n = qd_span(&p->desc[0], 0, p->desc[0].rank);
    for (int64_t k = 0; k < n; k++)
        ((uint8_t *)data)[k] = (uint8_t)qd_between(&stream, low, high);
    return true;
}

const qd_op_rules qd_rules_pool = {.attrs = true, .check = check, .choose = choose, .fill = fill};
