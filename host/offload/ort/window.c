/* Windows over images, as ONNX describes them. */
#include <string.h>

#include "ops.h"

bool qep_check_window(qep_match *m, const qep_node *n) {
    static const char *const known[] = {"NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"};
    const char *automatic = qep_attr_text(n, "auto_pad", "NOTSET");
    bool found = false;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        found |= strcmp(automatic, known[i]) == 0;
    if (!found) return qep_broken(m, "auto_pad is %.20s", automatic);
    static const char *const lists[] = {"strides", "dilations", "pads", "kernel_shape"};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
        const qep_attribute *a = qep_attr(n, lists[i]);
        for (size_t k = 0; a && k < a->count; k++) {
            if (a->ints[k] < (i == 2 ? 0 : 1) || a->ints[k] > 1 << 20) {
                return qep_refuse(m, "%s has %lld", lists[i], (long long)a->ints[k]);
            }
        }
    }
    return true;
}

/* Number i of a list attribute, of which there are n. */
static qd_status number(qep_build *b, const qep_node *node, const char *name, int n, int i, int64_t otherwise,
                        int64_t *out) {
    const qep_attribute *a = qep_attr(node, name);
    *out = otherwise;
    if (!a || !a->count) return QD_OK;
    if (a->type != ORT_OP_ATTR_INTS || a->count != (size_t)n) return qep_fail(b, "%s has not %d numbers", name, n);
    *out = a->ints[i];
    return QD_OK;
}

/* Size of the result and padding along one dimension; at is its index in qd_window's pairs. */
static qd_status read_dimension(qep_build *b, const qep_node *n, qep_images *m, int i, int at) {
    const char *automatic = qep_attr_text(n, "auto_pad", "NOTSET");
    int64_t stride, dilation, before = 0, after = 0;
    qd_status status;
    QD_TRY(number(b, n, "strides", m->dims, i, 1, &stride));
    QD_TRY(number(b, n, "dilations", m->dims, i, 1, &dilation));
    const int64_t reach = dilation * (m->kernel[at] - 1) + 1, in = m->in[at];
    if (strncmp(automatic, "SAME", 4) == 0) {
        const int64_t out = (in + stride - 1) / stride, pad = (out - 1) * stride + reach - in;
        const int64_t all = pad > 0 ? pad : 0;
        before = strcmp(automatic, "SAME_UPPER") == 0 ? all / 2 : all - all / 2;
        after = all - before;
    } else if (strcmp(automatic, "NOTSET") == 0) {
        QD_TRY(number(b, n, "pads", 2 * m->dims, i, 0, &before));
        QD_TRY(number(b, n, "pads", 2 * m->dims, m->dims + i, 0, &after));
    }
    if (before > INT32_MAX || after > INT32_MAX) return qep_fail(b, "a padding of %lld", (long long)(before + after));
    const int64_t room = in + before + after - reach;
    if (room < 0)
        return qep_fail(b, "a window of %lld over %lld elements", (long long)reach, (long long)(in + before + after));
    m->out[at] = room / stride + 1;
    if (qep_attr_int(n, "ceil_mode", 0) && room % stride && m->out[at] * stride < in + before) {
        /* One window more, which stands out: padding that is not counted. */
        if (qep_attr_int(n, "count_include_pad", 0)) return qep_fail(b, "counted padding beyond the image's end");
        m->out[at]++;
        after += stride - room % stride;
    }
    m->window.stride[at] = (int)stride;
    m->window.dilation[at] = (int)dilation;
    m->window.before[at] = (int)before;
    m->window.after[at] = (int)after;
error:
    return status;
}

qd_status qep_read_window(qep_build *b, const qep_node *n, const qep_shape *x, bool nchw, const int64_t *kernel,
                          qep_images *out) {
    qep_images m = {.dims = x->rank - 2, .in = {1, 1}, .kernel = {1, 1}, .out = {1, 1}};
    m.window.nchw = nchw;
    if (m.dims != 1 && m.dims != 2) return qep_fail(b, "an image of %d dimensions", m.dims);
    for (int i = 0; i < m.dims; i++) {
        const int at = 2 - m.dims + i;
        m.in[at] = x->dims[(nchw ? 2 : 1) + i];
        m.kernel[at] = kernel[i];
        m.window.kernel[at] = (int)kernel[i];
        const qd_status status = read_dimension(b, n, &m, i, at);
        if (status) return status;
    }
    *out = m;
    return QD_OK;
}
