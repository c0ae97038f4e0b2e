/* conv_int, and with QD_ADD conv_add_int.
 *
 * y = requantize(Σ (w - w_zero) · (x - x_zero) + bias) over the positions of a window and the channels of a group;
 * positions in the padding add nothing.
 *
 *   w [O, ...] of 8 or 4 bits, x, y: images of codes of 8 bits, by the strides of qd_conv_int_params;
 *   residual: as y; others as in qdot_ops.def
 *
 * Three ways through it, by what lies side by side in memory:
 *
 *   runs      NHWC. Channels of a position are neighbours; with one group and no dilation whole lines of the window
 *             are. Unit u = (image, QD_CH output channels, line of y, QD_PX columns): dot products of 16 codes.
 *
 *                 line of x   [. . . c0 c1 c2|c0 c1 c2|c0 c1 c2 . . .]      x for QD_PX windows  }  QD_PX · QD_CH sums
 *                 line of w         [kx = 0   kx = 1   kx = 2]              w for QD_CH channels }
 *
 *   channels  NHWC, one input channel in a group (depthwise). 16 of them side by side, and one of the M output channels
 *             of each: o, o + M, o + 2M, … Their weights, which are apart, are collected once for a unit u = (image, 16
 *             channels, output channel of each, line of y, QD_COLUMNS columns).
 *   columns   NCHW. 16 columns of y side by side. Unit u = (image, QD_CH output channels, line of y, 16 columns). */
#include "add_int.h"

#define QD_PX 4
#define QD_CH 4
#if QD_CPU
#define QD_COLUMNS 128
#else
#define QD_COLUMNS 8
#endif

/* Positions of a window whose weights are collected. */
#define MOST_TAPS 64

/* What all parts of the kernel need. */
typedef struct conv {
    __global const uchar *w, *x, *w_zeros, *requant;
    __global const int *bias;
    __global uchar *y;
    long w_size, x_size;      /* codes */
    long w_row, x_row, y_row; /* codes of an output channel's weights, of an image of x and y */
    int w_code;
    int x_zero;
    int per_group, out_per_group;
    int in_w, out_w, out_h; /* the window's, or all pixels as one line */
    uchar w_flip, x_flip;   /* makes codes signed */
#ifdef QD_ADD
    const qd_conv_add_int_params *add;
    __global const uchar *residual;
#endif
} conv;

/* 16 codes, made signed by `flip`, then minus `zero`. */
static inline short16 load16(__global const uchar *t, const uchar flip, const short16 zero) {
    return convert_short16(as_char16(vload16(0, t) ^ (uchar16)flip)) - zero;
}

/* The same of t + at, a tensor of `size`, in lanes lo … hi-1; 0 in the others, which may be outside of it. */
static inline short16 load_part(__global const uchar *t, const long at, const long size, const int lo, const int hi,
                                const uchar flip, const short16 zero) {
    short16 v;
    if (at >= 0 && at + 16 <= size) {
        v = load16(t + at, flip, zero);
    } else {
        uchar lanes[16];
        for (int i = 0; i < 16; i++)
            lanes[i] = i >= lo && i < hi ? t[at + i] : 0;
        v = convert_short16(as_char16(vload16(0, lanes) ^ (uchar16)flip)) - zero;
    }
    const short16 ids = convert_short16(QD_LANE_IDS);
    return v & (ids >= (short16)(short)clamp(lo, 0, 16)) & (ids < (short16)(short)clamp(hi, 0, 16));
}

/* The same, where most are inside. */
static inline short16 load(__global const uchar *t, const long at, const long size, const int lo, const int hi,
                           const uchar flip, const short16 zero) {
    if (lo <= 0 && hi >= 16) return load16(t + at, flip, zero);
    return load_part(t, at, size, lo, hi, flip, zero);
}

/* Code `at` of w, made signed. */
static inline int w_code_at(const conv *a, const long at) {
    if (QD_CODE_BITS(a->w_code) == 4) return qd_code_at(a->w, at, a->w_code);
    return (char)(a->w[at] ^ a->w_flip);
}

/* Codes at … at+15 of w, made signed, minus `zero`; 0 in lanes n and up, which may be outside of it. Packed ones begin
 * at a byte. */
static inline short16 load_w(const conv *a, const long at, const int n, const short16 zero) {
    if (QD_CODE_BITS(a->w_code) == 8) return load(a->w, at, a->w_size, 0, n, a->w_flip, zero);
    const short16 v = qd_codes16(a->w + at / 2, 0, min(n, 16), a->w_code, 0);
    return n >= 16 ? v - zero : (v - zero) & (convert_short16(QD_LANE_IDS) < (short16)(short)n);
}

/* The zero point of channel o's weights after `flip`. */
static inline int w_zero_at(const conv *a, const qd_conv_int_params *p, const int o) {
    return qd_zero_at(a->w_zeros, p->w_zero, o, p->w_code) - a->w_flip;
}

static inline void put(const conv *a, const qd_conv_int_params *p, const int o, const ulong at, const int sum) {
    const int all = p->bias == QD_ABSENT ? sum : (int)((uint)sum + (uint)a->bias[o]);
    int code = qd_finish(&p->y, a->requant, o, all);
#ifdef QD_ADD
    code = qd_add_residual(a->add, code, qd_code_at(a->residual, at, qd_residual_code(a->add)));
#endif
    qd_put_code(a->y, at, p->y.code, code);
}

/* ---- Runs --------------------------------------------------------------------------------------------------- */

/* Sums of QD_PX columns from w of line h, and channels o … o+n-1. Loops over them are unrolled, or the sums would not
 * be in registers. */
static void runs(const conv *a, const qd_conv_int_params *p, const long r, const int o, const int n, const int h,
                 const int w) {
    const qd_window_params *v = &p->window;
    const int merged = p->groups == 1 && v->dilation_w == 1 && p->w_w == a->per_group;
    const int steps = merged ? 1 : v->kernel_w, together = merged ? v->kernel_w : 1;
    const int run = together * a->per_group, group = o / a->out_per_group;
    const int pixels = min(QD_PX, a->out_w - w);
    const uchar x_flip = a->x_flip;
    const short16 x_zero = (short16)(short)a->x_zero;
    int16 sum[QD_PX][QD_CH];
    short zero[QD_CH];
    long w_row[QD_CH];
#pragma unroll
    for (int j = 0; j < QD_CH; j++) {
        const int chan = o + min(j, n - 1);
        zero[j] = (short)w_zero_at(a, p, chan);
        w_row[j] = chan * a->w_row;
#pragma unroll
        for (int t = 0; t < QD_PX; t++)
            sum[t][j] = (int16)0;
    }
    for (int ky = 0; ky < v->kernel_h; ky++) {
        const int line = h * v->stride_h - v->top + ky * v->dilation_h;
        if (line < 0 || line >= v->in_h) continue;
        for (int step = 0; step < steps; step++) {
            long at[QD_PX];
            int lo[QD_PX], hi[QD_PX];
            int inside = run; /* codes that all columns have */
#pragma unroll
            for (int t = 0; t < QD_PX; t++) {
                const int column = (w + min(t, pixels - 1)) * v->stride_w - v->left + step * v->dilation_w;
                lo[t] = clamp(-column, 0, together) * a->per_group;
                hi[t] = clamp(a->in_w - column, 0, together) * a->per_group;
                at[t] = r * a->x_row + (long)line * v->x_h + (long)column * v->x_w + (long)group * a->per_group;
                inside = lo[t] > 0 ? 0 : min(inside, hi[t]);
            }
            const long w_at = (long)ky * p->w_h + (long)step * p->w_w;
            int k = 0;
            for (; k + 16 <= inside; k += 16) {
                short16 b[QD_CH];
#pragma unroll
                for (int j = 0; j < QD_CH; j++)
                    b[j] = load_w(a, w_row[j] + w_at + k, 16, (short16)zero[j]);
#pragma unroll
                for (int t = 0; t < QD_PX; t++) {
                    const short16 x = load16(a->x + at[t] + k, x_flip, x_zero);
#pragma unroll
                    for (int j = 0; j < QD_CH; j++)
                        sum[t][j] += convert_int16(x) * convert_int16(b[j]);
                }
            }
            for (; k < run; k += 16) {
                short16 b[QD_CH];
#pragma unroll
                for (int j = 0; j < QD_CH; j++)
                    b[j] = load_w(a, w_row[j] + w_at + k, run - k, (short16)zero[j]);
#pragma unroll
                for (int t = 0; t < QD_PX; t++) {
                    const short16 x = load_part(a->x, at[t] + k, a->x_size, lo[t] - k, hi[t] - k, x_flip, x_zero);
#pragma unroll
                    for (int j = 0; j < QD_CH; j++)
                        sum[t][j] += convert_int16(x) * convert_int16(b[j]);
                }
            }
        }
    }
#pragma unroll
    for (int t = 0; t < QD_PX; t++) {
#pragma unroll
        for (int j = 0; j < QD_CH; j++) {
            if (t < pixels && j < n)
                put(a, p, o + j, r * a->y_row + (long)h * v->y_h + (long)(w + t) * v->y_w + o + j,
                    qd_int_sum(sum[t][j]));
        }
    }
}

/* ---- Channels ----------------------------------------------------------------------------------------------- */

/* Columns `first` to last-1 of line h, input channels c … c+n-1, the output channel o of each. */
static void channels(const conv *a, const qd_conv_int_params *p, const long r, const int c, const int o, const int n,
                     const int h, const int first, const int last) {
    const qd_window_params *v = &p->window;
    const int m = a->out_per_group;
    short16 weights[MOST_TAPS];
    for (int k = 0; k < v->kernel_h * v->kernel_w; k++) {
        const long at = (long)(k / v->kernel_w) * p->w_h + k % v->kernel_w * p->w_w;
        short lanes[16];
        for (int i = 0; i < 16; i++) {
            const int chan = (c + min(i, n - 1)) * m + o;
            lanes[i] = (short)(w_code_at(a, chan * a->w_row + at) - w_zero_at(a, p, chan));
        }
        weights[k] = vload16(0, lanes);
    }
    for (int w = first; w < last; w++) {
        int16 sum = (int16)0;
        for (int ky = 0; ky < v->kernel_h; ky++) {
            const int line = h * v->stride_h - v->top + ky * v->dilation_h;
            if (line < 0 || line >= v->in_h) continue;
            for (int kx = 0; kx < v->kernel_w; kx++) {
                const int column = w * v->stride_w - v->left + kx * v->dilation_w;
                if (column < 0 || column >= v->in_w) continue;
                const long at = r * a->x_row + (long)line * v->x_h + (long)column * v->x_w;
                const short16 x = load(a->x, at + c, a->x_size, 0, n, a->x_flip, a->x_zero);
                sum += convert_int16(x) * convert_int16(weights[ky * v->kernel_w + kx]);
            }
        }
        int lanes[16];
        vstore16(sum, 0, lanes);
        for (int i = 0; i < n; i++) {
            const int chan = (c + i) * m + o;
            put(a, p, chan, r * a->y_row + (long)h * v->y_h + (long)w * v->y_w + chan, lanes[i]);
        }
    }
}

/* ---- Columns ------------------------------------------------------------------------------------------------ */

/* The 16 codes at `column`, column + stride, … of a line of x that starts at `at`. */
static inline short16 load_columns(const conv *a, const long at, const int column, const int stride) {
    const int width = a->in_w;
    if (stride == 1) return load(a->x, at + column, a->x_size, -column, width - column, a->x_flip, a->x_zero);
    if (stride == 2) {
        const short16 low = load(a->x, at + column, a->x_size, -column, width - column, a->x_flip, a->x_zero);
        const int next = column + 16;
        const short16 high = load(a->x, at + next, a->x_size, -next, width - next, a->x_flip, a->x_zero);
        return QD_EVENS(short16, low, high);
    }
    short lanes[16];
    for (int i = 0; i < 16; i++) {
        const long c = column + (long)i * stride;
        lanes[i] = c >= 0 && c < width ? (short)((char)(a->x[at + c] ^ a->x_flip) - a->x_zero) : (short)0;
    }
    return vload16(0, lanes);
}

/* Sums of 16 columns from w of line h, and channels o … o+n-1, at most `tile` of them (a constant). */
static inline void columns(const conv *a, const qd_conv_int_params *p, const long r, const int o, const int n,
                           const int tile, const int h, const int w) {
    const qd_window_params *v = &p->window;
    const int group = o / a->out_per_group;
    int16 sum[QD_CH];
    int zero[QD_CH];
    long w_row[QD_CH];
    for (int j = 0; j < tile; j++) {
        const int chan = o + min(j, n - 1);
        zero[j] = w_zero_at(a, p, chan);
        w_row[j] = chan * a->w_row;
        sum[j] = (int16)0;
    }
    for (int c = 0; c < a->per_group; c++) {
        for (int ky = 0; ky < v->kernel_h; ky++) {
            const int line = h * v->stride_h - v->top + ky * v->dilation_h;
            if (line < 0 || line >= v->in_h) continue;
            const long at = r * a->x_row + (long)(group * a->per_group + c) * v->x_channel + (long)line * v->x_h;
            const long w_at = (long)c * p->w_channel + (long)ky * p->w_h;
            for (int kx = 0; kx < v->kernel_w; kx++) {
                const int16 x =
                    convert_int16(load_columns(a, at, w * v->stride_w - v->left + kx * v->dilation_w, v->stride_w));
                for (int j = 0; j < tile; j++)
                    sum[j] += x * (int16)(w_code_at(a, w_row[j] + w_at + kx) - zero[j]);
            }
        }
    }
    for (int j = 0; j < n; j++) {
        int lanes[16];
        vstore16(sum[j], 0, lanes);
        const long to = r * a->y_row + (long)(o + j) * v->y_channel + (long)h * v->y_h + w;
        for (int i = 0; i < 16 && w + i < a->out_w; i++)
            put(a, p, o + j, to + i, lanes[i]);
    }
}

/* ---- The kernel --------------------------------------------------------------------------------------------- */

#ifdef QD_ADD
__kernel void conv_add_int(QD_IN(w), QD_IN(x), QD_IN(requant), QD_IN(residual), QD_IN(w_zero), QD_IN(x_zero),
                           QD_IN(bias), QD_OUT(y), const qd_conv_add_int_params with, const int rows QD_WORK) {
    const qd_conv_int_params p = with.conv;
    conv a;
    a.add = &with;
    a.residual = QD_ROW(uchar, residual, 0);
#else
__kernel void conv_int(QD_IN(w), QD_IN(x), QD_IN(w_zero), QD_IN(x_zero), QD_IN(bias), QD_IN(requant), QD_OUT(y),
                       const qd_conv_int_params p, const int rows QD_WORK) {
    conv a;
#endif
    const qd_window_params v = p.window;
    a.w = QD_ROW(uchar, w, 0);
    a.x = QD_ROW(uchar, x, 0);
    a.w_zeros = QD_ROW(uchar, w_zero, 0);
    a.requant = QD_ROW(uchar, requant, 0);
    a.bias = QD_ROW(int, bias, 0);
    a.y = QD_ROW_OUT(uchar, y, 0);
    a.w_code = p.w_code;
    a.w_flip = p.w_code == QD_CODE(8, 0) ? 0x80 : 0;
    a.x_flip = QD_CODE_SIGNED(p.x_code) ? 0 : 0x80;
    a.x_zero = qd_zero_at(QD_ROW(uchar, x_zero, 0), p.x_zero, 0, p.x_code) - a.x_flip;
    a.per_group = v.channels / p.groups;
    a.out_per_group = v.out_channels / p.groups;
    a.w_row = p.w_row;
    a.x_row = (long)v.channels * v.in_h * v.in_w;
    a.y_row = (long)v.out_channels * v.out_h * v.out_w;
    a.w_size = v.out_channels * a.w_row;
    a.x_size = rows * a.x_row;
    /* Where result and input pixels are the same (without padding, then), all of them are one line. */
    const int flat =
        v.kernel_h * v.kernel_w == 1 && v.stride_h * v.stride_w == 1 && v.in_h == v.out_h && v.in_w == v.out_w;
    a.in_w = flat ? v.in_h * v.in_w : v.in_w;
    a.out_w = flat ? v.out_h * v.out_w : v.out_w;
    a.out_h = flat ? 1 : v.out_h;

    const int nhwc = v.x_channel == 1 && v.y_channel == 1 && p.w_channel == 1;
    if (nhwc && a.per_group == 1 && p.groups > 1 && v.kernel_h * v.kernel_w <= MOST_TAPS) {
        const int blocks = (v.channels + 15) / 16, parts = (v.out_w + QD_COLUMNS - 1) / QD_COLUMNS;
        QD_FOR_UNITS(u, (ulong)rows * blocks * a.out_per_group * v.out_h * parts) {
            const int first = (int)(u % parts) * QD_COLUMNS, h = (int)(u / parts % v.out_h);
            const ulong rest = u / parts / v.out_h;
            const int o = (int)(rest % a.out_per_group), c = (int)(rest / a.out_per_group % blocks) * 16;
            const long r = (long)(rest / a.out_per_group / blocks);
            channels(&a, &p, r, c, o, min(16, v.channels - c), h, first, min(first + QD_COLUMNS, v.out_w));
        }
        return;
    }
    const int wide = nhwc ? QD_PX : 16;
    const int tile = !nhwc && a.out_per_group < QD_CH ? 1 : QD_CH;
    const int tiles = (a.out_per_group + tile - 1) / tile, parts = (a.out_w + wide - 1) / wide;
    QD_FOR_UNITS(u, (ulong)rows * p.groups * tiles * a.out_h * parts) {
        const int w0 = (int)(u % parts) * wide, h = (int)(u / parts % a.out_h);
        const ulong rest = u / parts / a.out_h;
        const int first = (int)(rest % tiles) * tile, group = (int)(rest / tiles % p.groups);
        const int o = group * a.out_per_group + first, n = min(tile, a.out_per_group - first);
        const long r = (long)(rest / tiles / p.groups);
        if (nhwc) {
            runs(&a, &p, r, o, n, h, w0);
        } else if (tile == 1) {
            columns(&a, &p, r, o, n, 1, h, w0);
        } else {
            columns(&a, &p, r, o, n, QD_CH, h, w0);
        }
    }
}
