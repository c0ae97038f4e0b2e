/* Images and the windows that move over them. */
#include "core/rules/window.h"

#include <stdio.h>

/* Attributes, and images with their padding: positions stay inside 32 bits, products of two sizes inside 63. */
#define MOST_ATTRIBUTE (1 << 20)
#define MOST_SIZE (1 << 30)

/* ---- Images ------------------------------------------------------------------------------------------------- */

typedef struct image {
    int64_t channels, h, w;
    int64_t channel_step, h_step, w_step;
} image;

static image image_of(const qd_tensor_desc *d, bool nchw) {
    const bool flat = d->rank == 3;
    const int64_t *s = d->shape;
    image i = {.channels = nchw ? s[1] : s[d->rank - 1], .h = 1, .w = nchw ? s[d->rank - 1] : s[d->rank - 2]};
    if (!flat) i.h = nchw ? s[2] : s[1];
    i.channel_step = nchw ? i.h * i.w : 1;
    i.w_step = nchw ? 1 : i.channels;
    i.h_step = i.w * i.w_step;
    return i;
}

qd_status qd_images_check(const char *op, const qd_node *n, const qd_tensor *x, const qd_tensor *y, bool nchw,
                          qd_window_params *out) {
    const qd_tensor_desc dx = qd_sized(n, x), dy = qd_sized(n, y);
    if (dx.rank < 3 || dx.rank != dy.rank) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: x has rank %d and y %d; both need 4, %s, or 3 without the height", op,
                       dx.rank, dy.rank, nchw ? "[R,C,H,W]" : "[R,H,W,C]");
    }
    if (dx.shape[0] != dy.shape[0]) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: x has %lld images and y has %lld", op, (long long)dx.shape[0],
                       (long long)dy.shape[0]);
    }
    qd_status status = QD_OK;
    QD_TRY(qd_count_check(op, qd_span(&dx, 1, dx.rank)));
    QD_TRY(qd_count_check(op, qd_span(&dy, 1, dy.rank)));
    const image a = image_of(&dx, nchw), b = image_of(&dy, nchw);
    if (a.h > MOST_SIZE || a.w > MOST_SIZE || b.h > MOST_SIZE || b.w > MOST_SIZE) {
        return qd_fail(QD_ERR_UNSUPPORTED, "%s: an image has more than 2^30 lines or columns", op);
    }
    *out = (qd_window_params){.channels = (qd_i32)a.channels,
                              .in_h = (qd_i32)a.h,
                              .in_w = (qd_i32)a.w,
                              .out_channels = (qd_i32)b.channels,
                              .out_h = (qd_i32)b.h,
                              .out_w = (qd_i32)b.w,
                              .x_channel = (qd_i32)a.channel_step,
                              .x_h = (qd_i32)a.h_step,
                              .x_w = (qd_i32)a.w_step,
                              .y_channel = (qd_i32)b.channel_step,
                              .y_h = (qd_i32)b.h_step,
                              .y_w = (qd_i32)b.w_step};
error:
    return status;
}

qd_tensor_desc qd_image_desc(qd_format f, bool nchw, bool flat, int64_t rows, int64_t channels, const int64_t size[2]) {
    qd_tensor_desc d = {f, 0, {0}};
    d.shape[d.rank++] = rows;
    if (nchw) d.shape[d.rank++] = channels;
    if (!flat) d.shape[d.rank++] = size[0];
    d.shape[d.rank++] = size[1];
    if (!nchw) d.shape[d.rank++] = channels;
    return d;
}

/* ---- Windows ------------------------------------------------------------------------------------------------ */

/* One direction of a window. */
typedef struct axis {
    int64_t in, out, kernel, stride, dilation, before, after;
} axis;

static qd_status check_axis(const char *op, const char *name, bool last_may_hang, const axis *a) {
    const int64_t values[] = {a->kernel, a->stride, a->dilation, a->before, a->after};
    static const char *const names[] = {"kernel", "stride", "dilation", "padding before", "padding after"};
    for (int i = 0; i < 5; i++) {
        const int64_t least = i < 3;
        if (values[i] >= least && values[i] <= MOST_ATTRIBUTE) continue;
        return qd_fail(QD_ERR_ARGUMENT, "%s: the %s's %s is %lld; it must be %lld … 2^20", op, name, names[i],
                       (long long)values[i], (long long)least);
    }
    const int64_t padded = a->in + a->before + a->after, reach = a->dilation * (a->kernel - 1) + 1;
    if (padded > MOST_SIZE) return qd_fail(QD_ERR_UNSUPPORTED, "%s: the image's %s is more than 2^30", op, name);
    if (reach > padded) {
        return qd_fail(QD_ERR_ARGUMENT,
                       "%s: the window's %s is %lld, more than the %lld of the image with its padding; pad more", op,
                       name, (long long)reach, (long long)padded);
    }
    const int64_t rest = (padded - reach) % a->stride, out = (padded - reach) / a->stride + 1;
    /* A window over the end must still start inside. */
    const bool hanging = last_may_hang && rest && out * a->stride < padded;
    if (a->out == out || (hanging && a->out == out + 1)) return QD_OK;
    return qd_fail(QD_ERR_ARGUMENT, "%s: y's %s is %lld where %lld%s is needed", op, name, (long long)a->out,
                   (long long)out, hanging ? ", or one more," : "");
}

/* Direction i (0: height, 1: width) of an operator's window. */
static axis axis_of(const qd_window *a, int i, int64_t in, int64_t out, int64_t kernel) {
    return (axis){.in = in,
                  .out = out,
                  .kernel = kernel,
                  .stride = a->stride[i] ? a->stride[i] : 1,
                  .dilation = a->dilation[i] ? a->dilation[i] : 1,
                  .before = a->before[i],
                  .after = a->after[i]};
}

qd_status qd_window_check(const char *op, const qd_window *a, const int64_t kernel[2], bool last_may_hang,
                          qd_window_params *p) {
    const axis h = axis_of(a, 0, p->in_h, p->out_h, kernel[0]), w = axis_of(a, 1, p->in_w, p->out_w, kernel[1]);
    qd_status status;
    QD_TRY(check_axis(op, "height", last_may_hang, &h));
    QD_TRY(check_axis(op, "width", last_may_hang, &w));
    p->kernel_h = (qd_i32)h.kernel;
    p->kernel_w = (qd_i32)w.kernel;
    p->stride_h = (qd_i32)h.stride;
    p->stride_w = (qd_i32)w.stride;
    p->dilation_h = (qd_i32)h.dilation;
    p->dilation_w = (qd_i32)w.dilation;
    p->top = (qd_i32)h.before;
    p->left = (qd_i32)w.before;
error:
    return status;
}

bool qd_windows_touch(int64_t size, int64_t out, int64_t kernel, int64_t stride, int64_t dilation, int64_t before) {
    if ((out - 1) * stride - before >= size) return false;
    for (int64_t o = 0; o < out && o * stride < before; o++) { /* those that start in the padding */
        const int64_t start = o * stride - before, skipped = (-start + dilation - 1) / dilation;
        if (skipped >= kernel || start + skipped * dilation >= size) return false;
    }
    return true;
}

/* ---- Random problems ---------------------------------------------------------------------------------------- */

static int64_t choose_of(qd_choices *c, const char *what, int i, int64_t low, int64_t high) {
    char name[24];
    snprintf(name, sizeof name, "%.12s %c", what, i ? 'w' : 'h');
    return qd_choose(c, name, low, high);
}

void qd_choose_window(qd_choices *c, bool flat, int most_out, int most_kernel, qd_window *a, int64_t in[2],
                      int64_t out[2]) {
    in[0] = out[0] = 1;
    a->kernel[0] = 0; /* not looked at */
    for (int i = flat; i < 2; i++) {
        a->kernel[i] = (int)choose_of(c, "kernel", i, 1, most_kernel);
        a->stride[i] = (int)choose_of(c, "stride", i, 0, 3);
        a->dilation[i] = (int)choose_of(c, "dilation", i, 0, 4);
        if (a->dilation[i] > 2) a->dilation[i] = 1; /* mostly none */
        const int64_t stride = a->stride[i] ? a->stride[i] : 1, dilation = a->dilation[i] ? a->dilation[i] : 1;
        const int64_t reach = dilation * (a->kernel[i] - 1) + 1;
        if (choose_of(c, "padded", i, 0, 1)) {
            a->before[i] = (int)choose_of(c, "before", i, 0, reach);
            a->after[i] = (int)choose_of(c, "after", i, 0, reach);
        }
        const int64_t wanted = choose_of(c, "out", i, 1, most_out), rest = choose_of(c, "rest", i, 0, stride - 1);
        in[i] = (wanted - 1) * stride + reach + rest - a->before[i] - a->after[i];
        if (in[i] < 1) in[i] = 1;
        out[i] = (in[i] + a->before[i] + a->after[i] - reach) / stride + 1;
    }
}
