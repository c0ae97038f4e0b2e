/* CONV_INT for weights of 8 bits that do not change, NHWC, one group, see gemm_int.h: a position is a pixel of y, and
 * its codes are those of x below the window, line by line, as the weights of a channel lie. Operands as in
 * ../conv_int.cl.
 *
 *   window   [ky = 0: kx 0 … X-1, all channels of each][ky = 1: …] …      K = Y · X · C
 *
 * Beyond the image is the zero point, which adds nothing. */
#include "x86/gemm_int.h"

typedef struct images {
    __global const uchar *x;
    long size; /* codes of all */
    int channels;
    uchar beyond;
    qd_window_params window;
} images;

/* n times the same byte; up to 15 more may be written. */
static inline void fill_bytes(uchar *to, const int n, const uchar value) {
    for (int i = 0; i < n; i += 16)
        vstore16((uchar16)value, 0, to + i);
}

static inline void gemm_fill(const void *source, const ulong position, const int k, const int n, const uchar flip,
                             uchar *to) {
    const images *s = source;
    const qd_window_params *v = &s->window;
    const uchar beyond = s->beyond ^ flip;
    const int out_w = v->out_w, out_h = v->out_h, C = s->channels;
    const ulong line_of_y = position / out_w;
    const int w = (int)(position % out_w) * v->stride_w - v->left;
    const int h = (int)(line_of_y % out_h) * v->stride_h - v->top;
    const long image = (long)(line_of_y / out_h) * v->in_h;
    /* Neighbouring columns are one run. */
    const int together = v->dilation_w == 1 ? v->kernel_w : 1, run = together * C, runs = v->kernel_w / together;
    for (int at = 0; at < n;) {
        const int index = (k + at) / run, from = (k + at) % run, end = min(run, from + n - at);
        const int y = h + index / runs * v->dilation_h, x = w + index % runs * v->dilation_w;
        int low = clamp(-x, 0, together) * C, high = clamp(v->in_w - x, 0, together) * C;
        if (y < 0 || y >= v->in_h) low = high = run;
        low = clamp(low, from, end);
        high = clamp(high, low, end);
        if (low > from) fill_bytes(to + at, low - from, beyond);
        if (high > low) {
            const long code = ((image + y) * v->in_w + x) * C + low;
            gemm_copy(to + at + low - from, s->x + code, high - low, code + high - low + 15 <= s->size, flip);
        }
        if (end > high) fill_bytes(to + at + high - from, end - high, beyond);
        at += end - from;
    }
}

__kernel void conv_int(QD_IN(w), QD_IN(x), QD_IN(w_zero), QD_IN(x_zero), QD_IN(bias), QD_IN(requant), QD_OUT(y),
                       const qd_conv_int_params p, const int rows) {
    const qd_window_params v = p.window;
    images source;
    gemm g;
    g.w = QD_ROW(uchar, w, 0);
    g.w_zeros = QD_ROW(uchar, w_zero, 0);
    g.x_zeros = QD_ROW(uchar, x_zero, 0);
    g.requant = QD_ROW(uchar, requant, 0);
    g.bias = QD_ROW(int, bias, 0);
    g.w_zero = p.w_zero;
    g.x_zero = p.x_zero;
    g.has_bias = p.bias;
    g.w_code = p.w_code;
    g.x_code = p.x_code;
    g.k = v.kernel_h * v.kernel_w * v.channels;
    g.wide = 0;
    g.first = 0;
    g.count = v.out_channels;
    g.y = p.y;
    source.x = QD_ROW(uchar, x, 0);
    source.size = (long)rows * v.in_h * v.in_w * v.channels;
    source.channels = v.channels;
    source.beyond = (uchar)qd_zero_at(g.x_zeros, p.x_zero, 0, p.x_code);
    source.window = v;
    gemm_all(&g, &source, (ulong)rows * v.out_h * v.out_w, QD_ROW_OUT(uchar, y, 0),
             (ulong)v.out_channels * (QD_CODE_BITS(p.y.code) / 8));
}
