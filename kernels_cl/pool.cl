/* y = largest or mean code of a window; what the attributes mean is in host/core/rules/pool.c.
 *
 *   x, y: images of codes of 8 bits, elements by the strides of qd_window_params
 *
 *   NHWC: unit u = (image, line, column of y, QD_CHANNELS channels), 16 of them in a vector
 *   NCHW: unit u = (image, channel, line of y, QD_COLUMNS columns) */
#include "codes.h"

#if QD_CPU
#define QD_CHANNELS 64
#define QD_COLUMNS 64
#else
#define QD_CHANNELS 16
#define QD_COLUMNS 8
#endif

/* Nearest integer of a / b, b > 0, halves up. */
static inline long half_up(const long a, const long b) {
    const long twice = 2 * a + b;
    return twice / (2 * b) - (twice % (2 * b) < 0 ? 1 : 0);
}

static inline int mean(const qd_pool_params *p, const int sum, const int count) {
    if (p->mode == QD_MODE_FLOAT) {
        const float factor = p->x_scale / (p->y_scale * (float)count);
        return qd_to_code(qd_round_even_i32((float)sum * factor), p->y_zero, p->min, p->max);
    }
    if (p->mode == QD_MODE_FIXED) return clamp((int)half_up(sum, count) + p->y_zero, p->min, p->max);
    const int codes = sum + count * p->x_zero; /* halves away from zero */
    return clamp((codes < 0 ? codes - count / 2 : codes + count / 2) / count, p->min, p->max);
}

static inline int mean_of_floats(const qd_pool_params *p, const float sum, const int count) {
    const float mean = sum / (float)count / p->y_scale;
    return qd_to_code(qd_round_even_i32(mean + (float)p->y_zero), 0, p->min, p->max);
}

/* Taps [first, last) of `taps`, `dilation` apart from `start`, that lie in [0, size). */
static inline int2 taps_inside(const int start, const int taps, const int dilation, const int size) {
    const int first = start < 0 ? (dilation - 1 - start) / dilation : 0;
    const int last = start < size ? min(taps, (size - 1 - start) / dilation + 1) : 0;
    return (int2)(first, max(first, last));
}

/* Where a window is: its first line and column, the taps inside the image, and how many positions count. */
typedef struct window {
    int line, column, count;
    int2 lines, columns;
} window;

static inline window window_at(const qd_pool_params *p, const int h, const int w) {
    const qd_window_params *v = &p->window;
    window r;
    r.line = h * v->stride_h - v->top;
    r.column = w * v->stride_w - v->left;
    r.lines = taps_inside(r.line, v->kernel_h, v->dilation_h, v->in_h);
    r.columns = taps_inside(r.column, v->kernel_w, v->dilation_w, v->in_w);
    if (p->count_padding) {
        r.count = min(v->kernel_h, (p->padded_h - 1 - r.line) / v->dilation_h + 1) *
                  min(v->kernel_w, (p->padded_w - 1 - r.column) / v->dilation_w + 1);
    } else {
        r.count = (r.lines.y - r.lines.x) * (r.columns.y - r.columns.x);
    }
    return r;
}

static void pool_channels(const qd_pool_params *p, __global const uchar *x, __global uchar *y, const window *at,
                          const int c) {
    const qd_window_params *v = &p->window;
    int16 sum = (int16)0;
    float16 floats = (float16)0.0f;
    short16 most = (short16)(short)p->min;
    for (int ky = at->lines.x; ky < at->lines.y; ky++) {
        for (int kx = at->columns.x; kx < at->columns.y; kx++) {
            __global const uchar *pixel =
                x + (long)(at->line + ky * v->dilation_h) * v->x_h + (long)(at->column + kx * v->dilation_w) * v->x_w;
            const short16 codes = qd_codes16(pixel, c, v->channels, p->x_code, 0);
            if (p->float_sum) {
                floats += p->x_scale * convert_float16(codes - (short16)(short)p->x_zero);
            } else if (p->average) {
                sum += convert_int16(codes - (short16)(short)p->x_zero);
            } else {
                most = max(most, codes);
            }
        }
    }
    int sums[16];
    float float_sums[16];
    short maxima[16];
    vstore16(sum, 0, sums);
    vstore16(floats, 0, float_sums);
    vstore16(most, 0, maxima);
    for (int i = 0; i < 16 && c + i < v->channels; i++)
        y[c + i] = (uchar)(p->float_sum ? mean_of_floats(p, float_sums[i], at->count)
                           : p->average ? mean(p, sums[i], at->count)
                                        : min((int)maxima[i], p->max));
}

static int pool_one(const qd_pool_params *p, __global const uchar *x, const window *at) {
    const qd_window_params *v = &p->window;
    int sum = 0, most = p->min;
    float floats = 0.0f;
    for (int ky = at->lines.x; ky < at->lines.y; ky++) {
        __global const uchar *line = x + (long)(at->line + ky * v->dilation_h) * v->x_h;
        for (int kx = at->columns.x; kx < at->columns.y; kx++) {
            const int code = qd_code_at(line, (ulong)(at->column + kx * v->dilation_w) * v->x_w, p->x_code);
            if (p->float_sum) floats += p->x_scale * (float)(code - p->x_zero);
            if (p->average) sum += code - p->x_zero;
            most = max(most, code);
        }
    }
    if (p->float_sum) return mean_of_floats(p, floats, at->count);
    return p->average ? mean(p, sum, at->count) : min(most, p->max);
}

__kernel void pool(QD_IN(x), QD_OUT(y), const qd_pool_params p, const int rows QD_WORK) {
    const qd_window_params v = p.window;
    const ulong x_size = (ulong)v.channels * v.in_h * v.in_w, y_size = (ulong)v.channels * v.out_h * v.out_w;
    if (v.x_channel == 1 && v.y_channel == 1) {
        const int runs = (v.channels + QD_CHANNELS - 1) / QD_CHANNELS;
        QD_FOR_UNITS(u, (ulong)rows * v.out_h * v.out_w * runs) {
            const int run = (int)(u % runs);
            const ulong pixel = u / runs;
            const int w = (int)(pixel % v.out_w), h = (int)(pixel / v.out_w % v.out_h);
            const ulong r = pixel / v.out_w / v.out_h;
            const window at = window_at(&p, h, w);
            const int end = min((run + 1) * QD_CHANNELS, v.channels);
            __global uchar *to = QD_ROW_OUT(uchar, y, 0) + r * y_size + (ulong)h * v.y_h + (ulong)w * v.y_w;
            for (int c = run * QD_CHANNELS; c < end; c += 16)
                pool_channels(&p, QD_ROW(uchar, x, 0) + r * x_size, to, &at, c);
        }
    } else {
        const int runs = (v.out_w + QD_COLUMNS - 1) / QD_COLUMNS;
        QD_FOR_UNITS(u, (ulong)rows * v.channels * v.out_h * runs) {
            const int run = (int)(u % runs), h = (int)(u / runs % v.out_h);
            const int c = (int)(u / runs / v.out_h % v.channels);
            const ulong r = u / runs / v.out_h / v.channels;
            __global const uchar *from = QD_ROW(uchar, x, 0) + r * x_size + (ulong)c * v.x_channel;
            __global uchar *to = QD_ROW_OUT(uchar, y, 0) + r * y_size + (ulong)c * v.y_channel + (ulong)h * v.y_h;
            const int end = min((run + 1) * QD_COLUMNS, v.out_w);
            for (int w = run * QD_COLUMNS; w < end; w++) {
                const window at = window_at(&p, h, w);
                to[(ulong)w * v.y_w] = (uchar)pool_one(&p, from, &at);
            }
        }
    }
}
