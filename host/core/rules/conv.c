/* Convolutions of codes, and with a residual added: attributes and parameters of both begin with the former. */
#include <limits.h>

#include "core/rules/window.h"

/* Operands of CONV_INT, in its order, and the residual; and where each operator has them. */
enum { W, X, W_ZERO, X_ZERO, BIAS, REQUANT, RESIDUAL };

static const int *places_of(qd_op op) {
    static const int conv[] = {W, X, W_ZERO, X_ZERO, BIAS, REQUANT}, conv_add[] = {0, 1, 4, 5, 6, 2, 3};
    return op == QD_OP_CONV_ADD_INT ? conv_add : conv;
}

/* Sizes of w: [O,Y?,X,C/groups] or [O,C/groups,Y?,X]. */
typedef struct weights {
    int64_t channels, kernel[2], per_group;
} weights;

static weights weights_of(const qd_tensor_desc *d, bool nchw) {
    const int rank = d->rank, first = nchw ? 2 : 1;
    const bool flat = rank == 3;
    return (weights){.channels = d->shape[0],
                     .kernel = {flat ? 1 : d->shape[first], d->shape[flat ? first : first + 1]},
                     .per_group = d->shape[nchw ? 1 : rank - 1]};
}

static qd_status check_channels(const qd_node *n, const qd_symbols *s, const weights *w, const qd_window_params *p) {
    const char *op = qd_op_get(n->op)->name;
    const int asked = n->attrs.conv_int.groups, groups = asked ? asked : 1;
    const long long C = p->channels, O = p->out_channels;
    if (groups < 1 || C % groups || O % groups) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: %d groups; they must divide x's %lld and y's %lld channels", op, asked, C,
                       O);
    }
    if (w->channels != O || w->per_group != C / groups) {
        return qd_fail(QD_ERR_ARGUMENT,
                       "%s: w is for %lld channels made of %lld each; y has %lld, made of %lld in %d group%s", op,
                       (long long)w->channels, (long long)w->per_group, O, C / groups, groups, groups > 1 ? "s" : "");
    }
    const int64_t bound = s->of['O' - 'A'];
    if (bound == QD_UNKNOWN || bound == O) return QD_OK;
    return qd_fail(QD_ERR_ARGUMENT, "%s: zero points, bias or requant for %lld channels where w has %lld", op,
                   (long long)bound, O);
}

/* The residual's part: ADD_INT's parameters, of tensors that are all like y. */
static qd_status check_residual(qd_node *n, const qd_symbols *s) {
    qd_tensor *residual = n->in[places_of(n->op)[RESIDUAL]], *y = n->out[0];
    const qd_tensor_desc d = qd_sized(n, residual), of_y = qd_sized(n, y);
    bool same = d.rank == of_y.rank;
    for (int i = 0; same && i < d.rank; i++)
        same = d.shape[i] == of_y.shape[i];
    if (!same) return qd_fail(QD_ERR_ARGUMENT, "conv_add_int: the residual must have the shape of y");
    const bool first = n->attrs.conv_add_int.residual_first;
    qd_node add = {.op = QD_OP_ADD_INT, .max_rows = n->max_rows, .dynamic = n->dynamic};
    add.attrs.binary = n->attrs.conv_add_int.add;
    add.in[first] = y;
    add.in[!first] = residual;
    add.out[0] = y;
    const qd_status status = qd_rules_of(QD_OP_ADD_INT)->check(&add, s);
    n->params.conv_add_int.add = add.params.binary;
    n->params.conv_add_int.residual_first = first;
    n->params_bytes = sizeof n->params.conv_add_int;
    return status;
}

static qd_status check(qd_node *n, const qd_symbols *s) {
    const char *op = qd_op_get(n->op)->name;
    const int *places = places_of(n->op);
    const qd_tensor *w = n->in[W], *x = n->in[X], *w_zero = n->in[places[W_ZERO]], *x_zero = n->in[places[X_ZERO]];
    const qd_window *window = &n->attrs.conv_int.window;
    const bool nchw = window->nchw;
    qd_conv_int_params *p = &n->params.conv_int;
    n->params_bytes = sizeof *p;
    qd_status status;
    *p = (qd_conv_int_params){.groups = n->attrs.conv_int.groups ? n->attrs.conv_int.groups : 1,
                              .w_code = qd_code_of(w->desc.format),
                              .x_code = qd_code_of(x->desc.format),
                              .w_zero = qd_share(w_zero),
                              .x_zero = qd_share(x_zero),
                              .bias = n->in[places[BIAS]] ? QD_EACH : QD_ABSENT};
    QD_TRY(qd_images_check(op, n, x, n->out[0], nchw, &p->window));
    if (w->desc.rank != x->desc.rank) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: w has rank %d; it needs that of x, %d", op, w->desc.rank, x->desc.rank);
    }
    const weights size = weights_of(&w->desc, nchw);
    QD_TRY(check_channels(n, s, &size, &p->window));
    /* An image without height has a window without: its attributes are not looked at. */
    qd_window used = *window;
    if (x->desc.rank == 3) used.stride[0] = used.dilation[0] = used.before[0] = used.after[0] = 0;
    QD_TRY(qd_window_check(op, &used, size.kernel, false, &p->window));
    const int64_t K = qd_span(&w->desc, 1, w->desc.rank);
    const int64_t product =
        qd_code_reach(w->desc.format, w_zero != NULL) * qd_code_reach(x->desc.format, x_zero != NULL);
    if (K > INT32_MAX / product) {
        return qd_fail(QD_ERR_UNSUPPORTED,
                       "%s: sums of %lld products of up to %lld may not fit 32 bits (%lld do); split the channels", op,
                       (long long)K, (long long)product, (long long)(INT32_MAX / product));
    }
    n->macs = (double)K * (double)p->window.out_channels * (double)p->window.out_h * (double)p->window.out_w;
    /* Codes of a line of w, the last dimension, and what fills up its last byte. */
    const int64_t last = nchw ? p->window.kernel_w : size.per_group;
    const int64_t line = QD_CODE_BITS(p->w_code) == 4 ? (last + 1) / 2 * 2 : last;
    p->w_w = nchw ? 1 : (qd_i32)line;
    p->w_h = (qd_i32)(nchw ? line : p->window.kernel_w * line);
    p->w_channel = nchw ? p->window.kernel_h * p->w_h : 1;
    p->w_row = nchw ? (qd_i32)size.per_group * p->w_channel : p->window.kernel_h * p->w_h;
    QD_TRY(qd_output_check(op, &n->attrs.conv_int.y, n->out[0]->desc.format, n->in[places[REQUANT]], &p->y));
    if (n->op == QD_OP_CONV_ADD_INT) status = check_residual(n, s);
error:
    return status;
}

static void choose_residual(qd_choices *c, qd_problem *p) {
    struct qd_binary *add = &p->attrs.conv_add_int.add;
    const int place = places_of(p->op)[RESIDUAL];
    const qd_format y = p->formats[QD_MAX_IN], residual = p->formats[place];
    static const qd_rounding roundings[] = {QD_ROUND_FIXED, QD_ROUND_GEMMLOWP, QD_ROUND_FLOAT, QD_ROUND_FLOAT};
    const int64_t which = qd_choose(c, "add rounding", 0, 3);
    const bool first = p->attrs.conv_add_int.residual_first = qd_choose(c, "residual first", 0, 1);
    add->rounding = roundings[which];
    add->zero_first = which == 3;
    add->subtract = qd_choose(c, "subtract", 0, 3) == 3;
    add->a = (qd_quant){qd_choose_scale(c, "a scale"), qd_choose_code(c, "a zero", first ? residual : y)};
    add->b = (qd_quant){qd_choose_scale(c, "b scale"), qd_choose_code(c, "b zero", first ? y : residual)};
    add->y.scale =
        (add->a.scale > add->b.scale ? add->a.scale : add->b.scale) * (0.5f + qd_choose_scale(c, "sum scale"));
    add->y.zero_point = qd_choose_code(c, "sum zero", y);
    if (!qd_choose(c, "sum limits", 0, 2)) {
        int64_t min, max;
        qd_code_range(y, &min, &max);
        add->min = (int32_t)qd_choose(c, "sum min", min / 2, 0);
        add->max = (int32_t)qd_choose(c, "sum max", 1, max / 2);
    }
    p->desc[place] = p->desc[QD_MAX_IN];
    p->desc[place].format = residual;
}

/* A window as networks have them: as wide as high, on lines that are as long as those of y times the stride. */
static void take_usual_window(qd_window *a, bool flat, int kernel, int stride, int64_t in[2], const int64_t out[2]) {
    for (int i = flat; i < 2; i++) {
        a->kernel[i] = kernel;
        a->stride[i] = stride;
        a->dilation[i] = 0;
        a->before[i] = a->after[i] = kernel / 2;
        in[i] = (out[i] - 1) * stride + 1;
    }
}

static void choose(qd_choices *c, qd_problem *p) {
    qd_window *a = &p->attrs.conv_int.window;
    const bool flat = qd_choose(c, "flat", 0, 3) == 3;
    const int big = c->size;
    a->nchw = qd_choose(c, "nchw", 0, 1);
    int64_t in[2], out[2];
    /* Lines of more than 16 columns now and then: kernels take so many at once. */
    const bool wide = qd_choose(c, "wide", 0, 1);
    qd_choose_window(c, flat, wide ? 24 : 3 + 2 * big, 4, a, in, out);
    /* 1x1 and 3x3, two cases of three: kernels take them another way. */
    const int usual = (int)qd_choose(c, "usual", 0, 2);
    const bool pixel = usual == 1;
    if (usual) take_usual_window(a, flat, pixel ? 1 : 3, (int)qd_choose(c, "usual stride", 1, 2), in, out);
    const int64_t rows = qd_choose_size(c, "R", 3);
    int64_t groups = 1, per_group = 1, per_out = 1;
    switch (qd_choose(c, "group kind", 0, 4)) {
        case 0:
        case 1:
            per_group = qd_choose_size(c, "channels", 24 * big);
            if (pixel && qd_choose(c, "fours", 0, 2)) per_group = (per_group + 3) / 4 * 4;
            /* Whole vectors of residuals even in the smallest problems: they are loaded otherwise than single ones. */
            per_out = qd_choose_size(c, "channels y", (p->op == QD_OP_CONV_ADD_INT ? 20 : 9) * big);
            break;
        case 2:
            groups = qd_choose_size(c, "groups", 3);
            per_group = qd_choose_size(c, "channels", 12 * big);
            per_out = qd_choose_size(c, "channels y", 6 * big);
            break;
        default: /* depthwise, one time in four with several results for each channel */
            groups = qd_choose_size(c, "groups", 40 * big);
            per_out = qd_choose(c, "multiplier", -2, 3);
            if (per_out < 1) per_out = 1;
            break;
    }
    p->attrs.conv_int.groups = groups == 1 ? (int)qd_choose(c, "groups 0", 0, 1) : (int)groups;
    const int64_t O = groups * per_out, kernel[2] = {flat ? 1 : a->kernel[0], a->kernel[1]};
    p->s.of['O' - 'A'] = O;
    p->desc[0] = qd_image_desc(p->formats[0], a->nchw, flat, O, per_group, kernel);
    p->desc[1] = qd_image_desc(p->formats[1], a->nchw, flat, rows, groups * per_group, in);
    p->desc[QD_MAX_IN] = qd_image_desc(p->formats[QD_MAX_IN], a->nchw, flat, rows, O, out);
    p->attrs.conv_int.y = qd_choose_requant(c, p->formats[QD_MAX_IN]);
    const int *places = places_of(p->op);
    p->present[places[X_ZERO]] = qd_choose(c, "x zero", 0, 2) != 0;
    p->present[places[REQUANT]] = p->formats[QD_MAX_IN] != QD_FORMAT_I32 || qd_choose(c, "requant", 0, 1);
    if (p->op == QD_OP_CONV_ADD_INT) choose_residual(c, p);
}

static bool fill(qd_choices *c, const qd_problem *p, int i, void *data) {
    const int64_t n = qd_span(&p->desc[i], 0, p->desc[i].rank);
    const int *places = places_of(p->op);
    int operand = 0;
    while (places[operand] != i)
        operand++;
    switch (operand) {
        case W:
        case X: { /* the usual bytes are one number only too often */
            if (!qd_choose(c, i ? "x codes" : "w codes", 0, 3)) return false;
            uint64_t stream = qd_stream(c, i ? "x codes" : "w codes");
            const int64_t last = p->desc[i].shape[p->desc[i].rank - 1];
            const size_t bytes = qd_format_row_bytes(p->formats[i], last) * (size_t)(n / last);
            for (size_t k = 0; k < bytes; k++)
                ((uint8_t *)data)[k] = (uint8_t)qd_next_random(&stream);
            return true;
        }
        case W_ZERO:
            qd_fill_zeros(c, "w zeros", p->formats[0], n, data);
            return true;
        case X_ZERO:
            if (qd_choose(c, "x zero any", 0, 1)) {
                int64_t min, max;
                qd_code_range(p->formats[1], &min, &max);
                *(int32_t *)data = (int32_t)qd_choose(c, "x zero code", min, max);
                return true;
            }
            qd_fill_zeros(c, "x zeros", p->formats[1], n, data);
            return true;
        case BIAS:
            qd_fill_bias(c, n, data);
            return true;
        case REQUANT:
            qd_fill_requant(c, p->attrs.conv_int.y.rounding, n / 2, data);
            return true;
        default: {
            uint64_t stream = qd_stream(c, "residual codes");
            for (int64_t k = 0; k < n; k++)
                ((uint8_t *)data)[k] = (uint8_t)qd_next_random(&stream);
            return true;
        }
    }
}

const qd_op_rules qd_rules_conv_int = {.attrs = true, .check = check, .choose = choose, .fill = fill};
