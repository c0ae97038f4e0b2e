/* CONV_INT, and with QD_ADD CONV_ADD_INT, for weights of 8 bits that do not change, NHWC, one group or as many as
 * channels, see gemm_int.h: a position is a pixel of y, and its codes are those of x below the window, line by line, as
 * the weights of a channel lie. Operands as in ../conv_int.cl.
 *
 *   window   [ky = 0: kx 0 … X-1, all channels of each][ky = 1: …] …      K = Y · X · C
 *
 * Beyond the image is the zero point, which adds nothing. Channels with windows of their own: depthwise.h. */
#include "x86/depthwise.h"

typedef struct images {
    __global const uchar *x;
    long size; /* codes of all */
    int channels;
    bool same; /* windows are the pixels of x */
    uchar beyond;
    qd_window_params window;
} images;

/* n times the same byte; up to 15 more may be written. */
static inline void fill_bytes(uchar *to, const int n, const uchar value) {
    for (int i = 0; i < n; i += 16)
        *(qd_16_anywhere *)(to + i) = (uint4)(value * 0x01010101u);
}

/* Columns first … last - 1 of line y of an image, of which some may be beyond it, from code `from` to `end` of theirs.
 */
QD_ALWAYS void fill_run(const images *s, const long image, const int y, const int x, const int together, const int from,
                        const int end, const uchar flip, uchar *to) {
    const qd_window_params *v = &s->window;
    const int C = s->channels;
    int low = from, high = end;
    if (y < 0 || y >= v->in_h) {
        low = high = end;
    } else if (x < 0 || x + together > v->in_w) {
        low = clamp(clamp(-x, 0, together) * C, from, end);
        high = clamp(clamp(v->in_w - x, 0, together) * C, low, end);
    }
    if (low > from) fill_bytes(to, low - from, s->beyond ^ flip);
    if (high > low) {
        const long code = ((image + y) * v->in_w + x) * C + low;
        gemm_copy(to + low - from, s->x + code, high - low, s->size - code, flip);
    }
    if (end > high) fill_bytes(to + high - from, end - high, s->beyond ^ flip);
}

static inline void gemm_fill(const void *source, const ulong first, const int count, const int k, const int n,
                             const uchar flip, uchar *to, const ulong pitch) {
    const images *s = source;
    const qd_window_params *v = &s->window;
    /* Neighbouring columns are one run. */
    const int together = v->dilation_w == 1 ? v->kernel_w : 1, run = together * s->channels;
    const int runs = v->kernel_w / together, start = k / run, line = start / runs * v->dilation_h;
    int column = (int)(first % v->out_w), row = (int)(first / v->out_w % v->out_h);
    long image = (long)(first / v->out_w / v->out_h) * v->in_h;
    for (int t = 0; t < count; t++, to += pitch) {
        const int left = column * v->stride_w - v->left;
        int y = row * v->stride_h - v->top + line, index = start % runs, from = k % run;
        for (int at = 0; at < n;) {
            const int end = min(run, from + n - at);
            fill_run(s, image, y, left + index * v->dilation_w, together, from, end, flip, to + at);
            at += end - from;
            from = 0;
            if (++index < runs) continue;
            index = 0;
            y += v->dilation_h;
        }
        if (++column < v->out_w) continue;
        column = 0;
        if (++row < v->out_h) continue;
        row = 0;
        image += v->in_h;
    }
}

/* Whole groups, as in rows_of_x.h. */
static inline const uchar *gemm_direct(const void *source, const ulong first, ulong *pitch) {
    const images *s = source;
    *pitch = s->channels;
    return s->same && s->channels % QD_TOGETHER == 0 ? (const uchar *)(ulong)(s->x + first * s->channels) : 0;
}

#ifdef QD_ADD
__kernel void conv_add_int(QD_IN(w), QD_IN(x), QD_IN(requant), QD_IN(residual), QD_IN(w_zero), QD_IN(x_zero),
                           QD_IN(bias), QD_OUT(y), const qd_conv_add_int_params with, const int rows QD_WORK) {
    const qd_conv_int_params p = with.conv;
    gemm g = GEMM_OF(p);
    g.add = &with;
    g.residual = QD_ROW(uchar, residual, 0);
    g.end = qd_v_end_of(0, qd_code_min(with.add.y.code), qd_code_max(with.add.y.code), with.add.y.code);
#else
__kernel void conv_int(QD_IN(w), QD_IN(x), QD_IN(w_zero), QD_IN(x_zero), QD_IN(bias), QD_IN(requant), QD_OUT(y),
                       const qd_conv_int_params p, const int rows QD_WORK) {
    gemm g = GEMM_OF(p);
#endif
    const qd_window_params v = p.window;
    g.w = QD_ROW(uchar, w, 0);
    g.k = v.kernel_h * v.kernel_w * (v.channels / p.groups);
    g.wide = 0;
    g.first = 0;
    g.count = v.out_channels;
    const long size = (long)rows * v.in_h * v.in_w * v.channels;
    const uchar beyond = (uchar)qd_zero_at(g.x_zeros, p.x_zero, 0, p.x_code);
    if (p.groups == 1) {
        const bool same = v.kernel_h * v.kernel_w == 1 && v.stride_h == 1 && v.stride_w == 1 && v.top == 0 &&
                          v.left == 0 && v.out_h == v.in_h && v.out_w == v.in_w;
        const images source = {QD_ROW(uchar, x, 0), size, v.channels, same, beyond, v};
        gemm_all(&g, &source, (ulong)rows * v.out_h * v.out_w, QD_ROW_OUT(uchar, y, 0),
                 (ulong)v.out_channels * (QD_CODE_BITS(p.y.code) / 8) QD_SAME_WORK);
    } else {
        depthwise d;
        d.g = &g;
        d.window = v;
        d.x = QD_ROW(uchar, x, 0);
        d.size = size;
        d.beyond = (qd_vi)(int)(beyond * 0x01010101u);
        depthwise_all(&d, rows, QD_ROW_OUT(uchar, y, 0) QD_SAME_WORK);
    }
}
