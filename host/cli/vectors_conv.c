/* Windows over images: convolutions and pools of ONNX (NCHW) and TensorFlow Lite (NHWC). */
#include <string.h>

#include "cli/vectors_run.h"

/* An image of one or two dimensions in a tensor of the library. */
typedef struct image {
    int dims;              /* of the image: 1 or 2 */
    int64_t in[2], out[2]; /* sizes of the image; [0] is 1 when there is one dimension */
    int64_t kernel[2];
    qd_window window;
} image;

/* The sizes of input and output, by the position of their image in the shape. */
static qd_status find_image(qd_vec_run *r, const qd_vec_tensor *x, const qd_vec_tensor *y, bool nchw, image *m) {
    memset(m, 0, sizeof *m);
    m->dims = x->rank - 2;
    if (m->dims < 1) return qd_vec_bad(r, "%.32s is no image", x->name);
    if (m->dims > 2) return qd_vec_skip(r, "dimensions", "no images of %d dimensions yet", m->dims);
    if (y && y->rank != x->rank) return qd_vec_bad(r, "x and y differ in rank");
    m->window.nchw = nchw;
    const int first = nchw ? 2 : 1;
    for (int i = 0; i < 2; i++) {
        const int at = first + i - (2 - m->dims);
        m->in[i] = at < first ? 1 : x->shape[at];
        m->out[i] = at < first || !y ? 1 : y->shape[at];
        if (m->in[i] > INT32_MAX || m->out[i] > INT32_MAX) return qd_vec_bad(r, "the image is too large");
    }
    return QD_OK;
}

/* Puts a list of `dims` numbers to the end of a pair. */
static void set_pair(int pair[2], const int64_t *list, int dims) {
    for (int i = 0; i < dims; i++)
        pair[2 - dims + i] = (int)list[i];
}

/* Padding so that the output has in/stride elements, rounded up; the odd one goes `after` or before. */
static void pad_same(image *m, bool more_after) {
    qd_window *w = &m->window;
    for (int i = 2 - m->dims; i < 2; i++) {
        const int64_t stride = w->stride[i] ? w->stride[i] : 1, dilation = w->dilation[i] ? w->dilation[i] : 1;
        const int64_t out = (m->in[i] + stride - 1) / stride, extent = (m->kernel[i] - 1) * dilation + 1;
        int64_t pad = (out - 1) * stride + extent - m->in[i];
        if (pad < 0) pad = 0;
        if (pad > 1 << 30) pad = 1 << 30;
        w->before[i] = (int)(more_after ? pad / 2 : pad - pad / 2);
        w->after[i] = (int)(pad - w->before[i]);
    }
}

/* ---- ONNX --------------------------------------------------------------------------------------------------- */

/* strides, dilations, pads and auto_pad; the kernel must be known. */
static qd_status read_window(qd_vec_run *r, image *m) {
    int64_t list[4];
    const int n = m->dims;
    QD_VEC_TRY(qd_vec_attr_list(r, "strides", n, 1, list));
    set_pair(m->window.stride, list, n);
    QD_VEC_TRY(qd_vec_attr_list(r, "dilations", n, 1, list));
    set_pair(m->window.dilation, list, n);
    const char *automatic = qd_vec_attr_text(r, "auto_pad", "NOTSET");
    if (strcmp(automatic, "SAME_UPPER") == 0 || strcmp(automatic, "SAME_LOWER") == 0) {
        pad_same(m, strcmp(automatic, "SAME_UPPER") == 0);
        return QD_OK;
    }
    if (strcmp(automatic, "VALID") == 0) return QD_OK;
    if (strcmp(automatic, "NOTSET") != 0) return qd_vec_bad(r, "auto_pad is %.20s", automatic);
    QD_VEC_TRY(qd_vec_attr_list(r, "pads", 2 * n, 0, list));
    set_pair(m->window.before, list, n);
    set_pair(m->window.after, list + n, n);
    return QD_OK;
}

/* x and w of an ONNX convolution, its attributes, and its common operands. */
static qd_status onnx_conv(qd_vec_run *r, const qd_vec_tensor *y, qd_format y_format, qd_requant requant,
                           qd_tensor *table) {
    const qd_vec_tensor *x, *w;
    int64_t groups;
    image m;
    qd_tensor *in[6] = {0}, *out;
    qd_format x_format, w_format;
    QD_VEC_TRY(qd_vec_need(r, "x", &x));
    QD_VEC_TRY(qd_vec_need(r, "w", &w));
    QD_VEC_TRY(find_image(r, x, y, true, &m));
    if (w->rank != x->rank) return qd_vec_bad(r, "x and w differ in rank");
    for (int i = 0; i < m.dims; i++)
        m.kernel[2 - m.dims + i] = w->shape[2 + i];
    QD_VEC_TRY(read_window(r, &m));
    QD_VEC_TRY(qd_vec_attr(r, "group", 1, 1, INT32_MAX, &groups));
    QD_VEC_TRY(qd_vec_format(r, x, &x_format));
    QD_VEC_TRY(qd_vec_format(r, w, &w_format));
    const qd_tensor_desc x_desc = qd_vec_desc(x_format, x), w_desc = qd_vec_desc(w_format, w),
                         y_desc = y ? qd_vec_desc(y_format, y) : x_desc;
    QD_VEC_TRY(qd_vec_load(r, w, &w_desc, true, &in[0]));
    QD_VEC_TRY(qd_vec_load(r, x, &x_desc, false, &in[1]));
    QD_VEC_TRY(qd_vec_load_ints(r, "w_zero_point", &in[2]));
    QD_VEC_TRY(qd_vec_load_ints(r, "x_zero_point", &in[3]));
    QD_VEC_TRY(qd_vec_load_ints(r, "bias", &in[4]));
    in[5] = table;
    QD_VEC_TRY(qd_vec_make(r, &y_desc, &out));
    const qd_attrs attrs = {.conv_int = {.window = m.window, .groups = (int)groups, .y = requant}};
    QD_VEC_TRY(qd_vec_op(r, QD_OP_CONV_INT, &attrs, in, 6, &out, 1));
    return qd_vec_check(r, y, out);
}

qd_status qd_vec_conv_integer(qd_vec_run *r) {
    const qd_vec_tensor *y;
    QD_VEC_TRY(qd_vec_want(r, "y", &y));
    return onnx_conv(r, y, QD_FORMAT_I32, (qd_requant){0}, NULL);
}

qd_status qd_vec_qlinear_conv(qd_vec_run *r) {
    const qd_vec_tensor *y, *w_scale;
    qd_format y_format = QD_FORMAT_U8;
    qd_quant x_quant, y_quant;
    qd_tensor *table;
    float *scales;
    QD_VEC_TRY(qd_vec_want(r, "y", &y));
    if (y) QD_VEC_TRY(qd_vec_format(r, y, &y_format));
    QD_VEC_TRY(qd_vec_quant(r, "x", &x_quant));
    QD_VEC_TRY(qd_vec_quant(r, "y", &y_quant));
    QD_VEC_TRY(qd_vec_need(r, "w_scale", &w_scale));
    QD_VEC_TRY(qd_vec_floats(r, w_scale, &scales));
    QD_VEC_TRY(qd_vec_requant(r, QD_ROUND_FLOAT, x_quant.scale, scales, w_scale->count, y_quant.scale, &table));
    return onnx_conv(r, y, y_format, (qd_requant){.rounding = QD_ROUND_FLOAT, .zero_point = y_quant.zero_point}, table);
}

/* More padding at the end, where rounding the size up makes the last window stand out. */
static qd_status pad_for_ceil(qd_vec_run *r, image *m, bool count_padding) {
    for (int i = 2 - m->dims; i < 2; i++) {
        const qd_window *w = &m->window;
        const int64_t extent = (m->kernel[i] - 1) * w->dilation[i] + 1;
        const int64_t more = (m->out[i] - 1) * w->stride[i] + extent - m->in[i] - w->before[i] - w->after[i];
        if (more <= 0) continue;
        if (count_padding) return qd_vec_skip(r, "ceil_mode", "no counted padding beyond the image's end yet");
        if (more > 1 << 29) return qd_vec_bad(r, "y is too large for its window");
        m->window.after[i] += (int)more;
    }
    return QD_OK;
}

/* QLinearAveragePool and QLinearGlobalAveragePool. */
qd_status qd_vec_qlinear_pool(qd_vec_run *r) {
    const qd_vec_tensor *x, *y;
    const bool global = strcmp(r->c->op, "QLinearGlobalAveragePool") == 0;
    int64_t last, padding, ceil_mode, kernel[2] = {0};
    qd_format x_format, y_format = QD_FORMAT_U8;
    qd_quant x_quant, y_quant;
    qd_tensor *in, *out;
    image m;
    QD_VEC_TRY(qd_vec_need(r, "x", &x));
    QD_VEC_TRY(qd_vec_want(r, "y", &y));
    QD_VEC_TRY(qd_vec_attr(r, "channels_last", 0, 0, 1, &last));
    QD_VEC_TRY(qd_vec_attr(r, "count_include_pad", 0, 0, 1, &padding));
    QD_VEC_TRY(qd_vec_attr(r, "ceil_mode", 0, 0, 1, &ceil_mode));
    QD_VEC_TRY(qd_vec_format(r, x, &x_format));
    if (y) QD_VEC_TRY(qd_vec_format(r, y, &y_format));
    QD_VEC_TRY(qd_vec_quant(r, "x", &x_quant));
    QD_VEC_TRY(qd_vec_quant(r, "y", &y_quant));
    QD_VEC_TRY(find_image(r, x, y, !last, &m));
    if (!global) {
        if (!cJSON_HasObjectItem(r->c->attrs, "kernel_shape"))
            return qd_vec_bad(r, "the attribute kernel_shape is missing");
        QD_VEC_TRY(qd_vec_attr_list(r, "kernel_shape", m.dims, 1, kernel));
        set_pair(m.window.kernel, kernel, m.dims);
        for (int i = 0; i < m.dims; i++)
            m.kernel[2 - m.dims + i] = kernel[i];
        QD_VEC_TRY(read_window(r, &m));
        if (ceil_mode) QD_VEC_TRY(pad_for_ceil(r, &m, padding));
    }
    const qd_tensor_desc x_desc = qd_vec_desc(x_format, x), y_desc = y ? qd_vec_desc(y_format, y) : x_desc;
    QD_VEC_TRY(qd_vec_load(r, x, &x_desc, false, &in));
    QD_VEC_TRY(qd_vec_make(r, &y_desc, &out));
    const qd_attrs attrs = {.pool = {.average = true,
                                     .global = global,
                                     .count_padding = padding,
                                     .window = m.window,
                                     .rounding = QD_ROUND_FLOAT,
                                     .x = x_quant,
                                     .y = y_quant}};
    QD_VEC_TRY(qd_vec_op(r, QD_OP_POOL, &attrs, &in, 1, &out, 1));
    return qd_vec_check(r, y, out);
}

/* ---- TensorFlow Lite ---------------------------------------------------------------------------------------- */

static qd_status tflite_window(qd_vec_run *r, image *m) {
    int64_t list[2];
    if (m->dims != 2) return qd_vec_bad(r, "x is no image of two dimensions");
    QD_VEC_TRY(qd_vec_attr_list(r, "strides", 2, 1, list));
    set_pair(m->window.stride, list, 2);
    QD_VEC_TRY(qd_vec_attr_list(r, "dilations", 2, 1, list));
    set_pair(m->window.dilation, list, 2);
    const char *padding = qd_vec_attr_text(r, "padding", "VALID");
    if (strcmp(padding, "SAME") == 0) {
        pad_same(m, true);
    } else if (strcmp(padding, "VALID") != 0) {
        return qd_vec_bad(r, "padding is %.20s", padding);
    }
    return QD_OK;
}

/* Weights [1, Y, X, O] to [O, Y, X, 1]. */
static qd_status depthwise_weights(qd_vec_run *r, const qd_vec_tensor *w, qd_format f, qd_tensor **out) {
    const int64_t outputs = w->shape[3], size = w->shape[1] * w->shape[2];
    const char *from = w->data;
    char *to;
    if (w->shape[0] != 1 || qd_format_row_bytes(f, 8) != 8) return qd_vec_bad(r, "w is not [1, Y, X, O] in bytes");
    QD_VEC_TRY(qd_vec_alloc(r, w->count, 1, &to));
    for (int64_t i = 0; i < size; i++) {
        for (int64_t o = 0; o < outputs; o++)
            to[o * size + i] = from[i * outputs + o];
    }
    const qd_tensor_desc d = qd_vec_shape(f, 4, (const int64_t[]){outputs, w->shape[1], w->shape[2], 1});
    return qd_vec_put(r, &d, to, true, out);
}

/* CONV_2D and DEPTHWISE_CONV_2D. */
qd_status qd_vec_tflite_conv(qd_vec_run *r) {
    const bool depthwise = strcmp(r->c->op, "DEPTHWISE_CONV_2D") == 0;
    const qd_vec_tensor *x, *w, *w_scale, *y;
    qd_format x_format, w_format, y_format = QD_FORMAT_I8;
    qd_quant x_quant, y_quant;
    qd_tensor *in[6] = {0}, *out;
    float *scales;
    image m;
    QD_VEC_TRY(qd_vec_need(r, "x", &x));
    QD_VEC_TRY(qd_vec_need(r, "w", &w));
    QD_VEC_TRY(qd_vec_need(r, "w_scale", &w_scale));
    QD_VEC_TRY(qd_vec_want(r, "y", &y));
    QD_VEC_TRY(qd_vec_quant(r, "x", &x_quant));
    QD_VEC_TRY(qd_vec_quant(r, "y", &y_quant));
    QD_VEC_TRY(qd_vec_floats(r, w_scale, &scales));
    QD_VEC_TRY(qd_vec_format(r, x, &x_format));
    QD_VEC_TRY(qd_vec_format(r, w, &w_format));
    if (y) QD_VEC_TRY(qd_vec_format(r, y, &y_format));
    QD_VEC_TRY(find_image(r, x, y, false, &m));
    if (w->rank != 4 || x->rank != 4) return qd_vec_bad(r, "x and w need four dimensions");
    m.kernel[0] = w->shape[1];
    m.kernel[1] = w->shape[2];
    QD_VEC_TRY(tflite_window(r, &m));
    const int64_t channels = x->shape[3], groups = depthwise ? channels : channels / w->shape[3];
    if (groups < 1 || groups > INT32_MAX || (!depthwise && channels % w->shape[3])) {
        return qd_vec_bad(r, "x and w differ in their channels");
    }
    const qd_tensor_desc x_desc = qd_vec_desc(x_format, x), w_desc = qd_vec_desc(w_format, w),
                         y_desc = y ? qd_vec_desc(y_format, y) : x_desc;
    if (depthwise) {
        QD_VEC_TRY(depthwise_weights(r, w, w_format, &in[0]));
    } else {
        QD_VEC_TRY(qd_vec_load(r, w, &w_desc, true, &in[0]));
    }
    QD_VEC_TRY(qd_vec_load(r, x, &x_desc, false, &in[1]));
    QD_VEC_TRY(qd_vec_load_ints(r, "w_zero_point", &in[2]));
    QD_VEC_TRY(qd_vec_load_ints(r, "x_zero_point", &in[3]));
    QD_VEC_TRY(qd_vec_load_ints(r, "bias", &in[4]));
    QD_VEC_TRY(qd_vec_requant(r, QD_ROUND_GEMMLOWP, x_quant.scale, scales, w_scale->count, y_quant.scale, &in[5]));
    QD_VEC_TRY(qd_vec_make(r, &y_desc, &out));
    const qd_attrs attrs = {.conv_int = {.window = m.window,
                                         .groups = (int)groups,
                                         .y = {.rounding = QD_ROUND_GEMMLOWP, .zero_point = y_quant.zero_point}}};
    QD_VEC_TRY(qd_vec_op(r, QD_OP_CONV_INT, &attrs, in, 6, &out, 1));
    return qd_vec_check(r, y, out);
}

/* AVERAGE_POOL_2D: codes of x and y mean the same. */
qd_status qd_vec_tflite_pool(qd_vec_run *r) {
    const qd_vec_tensor *x, *y;
    int64_t filter[2];
    qd_format format, y_format;
    qd_tensor *in, *out;
    image m;
    QD_VEC_TRY(qd_vec_need(r, "x", &x));
    QD_VEC_TRY(qd_vec_want(r, "y", &y));
    QD_VEC_TRY(qd_vec_format(r, x, &format));
    y_format = format;
    if (y) QD_VEC_TRY(qd_vec_format(r, y, &y_format));
    QD_VEC_TRY(find_image(r, x, y, false, &m));
    if (!cJSON_HasObjectItem(r->c->attrs, "filter")) return qd_vec_bad(r, "the attribute filter is missing");
    QD_VEC_TRY(qd_vec_attr_list(r, "filter", 2, 1, filter));
    set_pair(m.window.kernel, filter, 2);
    m.kernel[0] = filter[0];
    m.kernel[1] = filter[1];
    QD_VEC_TRY(tflite_window(r, &m));
    const qd_tensor_desc x_desc = qd_vec_desc(format, x), y_desc = y ? qd_vec_desc(y_format, y) : x_desc;
    QD_VEC_TRY(qd_vec_load(r, x, &x_desc, false, &in));
    QD_VEC_TRY(qd_vec_make(r, &y_desc, &out));
    const qd_attrs attrs = {
        .pool = {.average = true, .window = m.window, .rounding = QD_ROUND_AWAY, .x = {.scale = 1}, .y = {.scale = 1}}};
    QD_VEC_TRY(qd_vec_op(r, QD_OP_POOL, &attrs, &in, 1, &out, 1));
    return qd_vec_check(r, y, out);
}
