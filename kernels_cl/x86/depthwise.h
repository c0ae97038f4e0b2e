/* CONV_INT, NHWC, where each channel has a window of its own (groups = channels), on an x86 CPU: QD_BLOCK_CH channels
 * side by side, QD_PX pixels of a line. What a column holds in four lines is interleaved once, for all pixels whose
 * window covers it:
 *
 *   line y      [c0 c1 c2 …]   }
 *   line y + 1  [c0 c1 c2 …]   }  [c0 c0 c0 c0 | c1 c1 c1 c1 | …]  · the weights of a column of the window
 *   line y + 2  [c0 c1 c2 …]   }  four bytes to a lane, of each 16 channels a quarter in each of four vectors:
 *   line y + 3  [c0 c1 c2 …]   }  vector q, lane 4 L + i: channel 16 L + 4 q + i
 *
 * Weights are in the TILE16 layout of gemm_int.h, K = kernel_h · kernel_w, and made signed, as the codes of x are made
 * unsigned: the sums and their zero points are those of gemm_int.h. Lines beyond the window meet weights of 0. */
#ifndef QD_DEPTHWISE_H
#define QD_DEPTHWISE_H

#include "x86/gemm_int.h"

#define QD_BLOCK_CH (4 * QD_V)
/* The pixels, and for X(t, q) all of a pixel's vectors. */
#ifdef QD_AVX512_VNNI
#define QD_PX 4
#define DEPTHWISE_PIXELS(X) X(0) X(1) X(2) X(3)
#else
#define QD_PX 1
#define DEPTHWISE_PIXELS(X) X(0)
#endif
#define DEPTHWISE_VECTORS(X, t) X(t, 0) X(t, 1) X(t, 2) X(t, 3)

typedef struct depthwise {
    const gemm *g;
    qd_window_params window;
    __global const uchar *x;
    long size; /* codes of x */
    int beyond;
    int channel, n; /* of the block */
    /* In the vectors' order: of each column of the window, four lines after four; and numbers of the channels. */
    qd_vi weights[QD_DEPTHWISE_COLUMNS][4], ones[QD_DEPTHWISE_COLUMNS][4];
    qd_vi zero[4], start[4], a[4], b[4];
} depthwise;

/* Where channel c of the block is among its lanes. */
QD_ALWAYS int depthwise_lane(const int c) {
    return c % 16 / 4 * QD_V + c / 16 * 4 + c % 4;
}

/* Weights of four lines of the window from `line` on, in its column kx, and 1 where there is one. */
QD_ALWAYS void depthwise_column(const depthwise *d, const int line, const int kx, qd_vi *weights, qd_vi *ones) {
    const int columns = d->window.kernel_w, lines = min(4, d->window.kernel_h - line);
    const ulong tile = 64 * (ulong)((d->g->k + 3) / 4) + 64;
    uint4 *w = (uint4 *)weights;
    for (int q = 0; q < 4; q++) {
        weights[q] = (qd_vi)0;
        ones[q] = (qd_vi)(lines < 4 ? 0x01010101 & ((1 << 8 * lines) - 1) : 0x01010101);
    }
    for (int part = 0; part < QD_V / 4 && 16 * part < d->n; part++) {
        __global const uint *codes = (__global const uint *)(d->g->w + (d->channel / 16 + part) * tile);
        uint16 four = (uint16)0;
        for (int i = 0; i < lines; i++) {
            const int k = (line + i) * columns + kx;
            four |= (vload16(k / 4, codes) >> (uint16)(k % 4 * 8) & (uint16)255) << (uint16)(8 * i);
        }
        w[part] = four.s0123;
        w[QD_V / 4 + part] = four.s4567;
        w[2 * (QD_V / 4) + part] = four.s89ab;
        w[3 * (QD_V / 4) + part] = four.scdef;
    }
}

/* Everything that belongs to the channels from `channel` on. */
static void depthwise_open(depthwise *d, const int channel) {
    const gemm *g = d->g;
    const int groups = (d->window.kernel_h + 3) / 4;
    int *zero = (int *)d->zero, *start = (int *)d->start, *a = (int *)d->a, *b = (int *)d->b;
    d->channel = channel;
    d->n = min(QD_BLOCK_CH, g->count - channel);
    for (int line = 0; line < groups; line++) {
        for (int kx = 0; kx < d->window.kernel_w; kx++) {
            const int at = line * d->window.kernel_w + kx;
            depthwise_column(d, 4 * line, kx, d->weights[at], d->ones[at]);
        }
    }
    for (int c = 0; c < QD_BLOCK_CH; c += QD_V) {
        gemm_channels of;
        int from[4][QD_V];
        if (c >= d->n) break;
        gemm_open(g, channel + c, &of);
        qd_v_store_int(of.zero, 0, from[0]);
        qd_v_store_int(of.start, 0, from[1]);
        qd_v_store_int(of.a, 0, from[2]);
        qd_v_store_int(of.b, 0, from[3]);
        for (int i = 0; i < QD_V; i++) {
            const int lane = depthwise_lane(c + i);
            zero[lane] = from[0][i];
            start[lane] = from[1][i];
            a[lane] = from[2][i];
            b[lane] = from[3][i];
        }
    }
}

/* The block's codes at code `at` of x, of which not so many may be there. */
static qd_vi depthwise_last(const depthwise *d, const long at) {
    uchar bytes[QD_BLOCK_CH];
    for (int i = 0; i < QD_BLOCK_CH; i++)
        bytes[i] = i < d->n ? d->x[at + i] : 0;
    return *(const qd_v_anywhere *)bytes;
}

/* Sums of QD_PX windows from line `top` and column `left` on. */
static void depthwise_tile(const depthwise *d, qd_vi (*weights)[4], const long image, const int top, const int left,
                           qd_vi (*sums)[4]) {
    const qd_window_params *v = &d->window;
    const int step = v->dilation_w, last = (QD_PX - 1) * v->stride_w + (v->kernel_w - 1) * step;
#define DEPTHWISE_START(t, q) qd_vi sum##t##_##q = (qd_vi)0;
#define DEPTHWISE_STARTS(t) DEPTHWISE_VECTORS(DEPTHWISE_START, t)
#define DEPTHWISE_DOT(t, q) sum##t##_##q = qd_dot8_add(sum##t##_##q, w[q], x##q);
#define DEPTHWISE_PIXEL(t)                                                                    \
    {                                                                                         \
        const int behind = column - t * v->stride_w, kx = step == 1 ? behind : behind / step; \
        if (behind >= 0 && kx < v->kernel_w && kx * step == behind) {                         \
            const qd_vi *w = weights[group * v->kernel_w + kx];                               \
            DEPTHWISE_VECTORS(DEPTHWISE_DOT, t)                                               \
        }                                                                                     \
    }
#define DEPTHWISE_END(t, q) sums[t][q] = sum##t##_##q;
#define DEPTHWISE_ENDS(t) DEPTHWISE_VECTORS(DEPTHWISE_END, t)
    DEPTHWISE_PIXELS(DEPTHWISE_STARTS)
    const qd_vi flip = (qd_vi)(int)(gemm_flip(d->g) * 0x01010101u), beyond = (qd_vi)d->beyond;
    for (int group = 0; 4 * group < v->kernel_h; group++) {
        long from[4];
        bool there[4], whole = true; /* lines of the window in the image; vectors in x */
        for (int i = 0; i < 4; i++) {
            const int ky = 4 * group + i, y = top + ky * v->dilation_h;
            there[i] = ky < v->kernel_h && y >= 0 && y < v->in_h;
            from[i] = ((image + y) * v->in_w + left) * v->channels + d->channel;
            whole = whole && (!there[i] || from[i] + (long)last * v->channels + QD_BLOCK_CH <= d->size);
        }
        for (int column = 0; column <= last; column++) {
            const bool inside = left + column >= 0 && left + column < v->in_w;
            const long skipped = (long)column * v->channels;
            qd_vi line[4], low[2], high[2];
            QD_UNROLL(i, 4) {
                line[i] = beyond;
                if (there[i] && inside) {
                    const long at = from[i] + skipped;
                    line[i] = (whole ? *(__global const qd_v_anywhere *)(d->x + at) : depthwise_last(d, at)) ^ flip;
                }
            }
            QD_UNROLL(i, 2) {
                low[i] = QD_UNPACK("lbw", line[2 * i], line[2 * i + 1]);
                high[i] = QD_UNPACK("hbw", line[2 * i], line[2 * i + 1]);
            }
            const qd_vi x0 = QD_UNPACK("lwd", low[0], low[1]), x1 = QD_UNPACK("hwd", low[0], low[1]);
            const qd_vi x2 = QD_UNPACK("lwd", high[0], high[1]), x3 = QD_UNPACK("hwd", high[0], high[1]);
            DEPTHWISE_PIXELS(DEPTHWISE_PIXEL)
        }
    }
    DEPTHWISE_PIXELS(DEPTHWISE_ENDS)
}

/* Stores the results of a pixel, which are in the vectors' order; y is that of the block's first channel. */
QD_ALWAYS void depthwise_store(const depthwise *d, const qd_vi *codes, __global uchar *y) {
    const int code = d->g->y.code;
    if (QD_CODE_BITS(code) != 8) {
        for (int i = 0; i < d->n; i++)
            qd_put_code(y, i, code, ((const int *)codes)[depthwise_lane(i)]);
        return;
    }
    const qd_vi low = QD_PACK("usdw", codes[0] & 255, codes[1] & 255);
    const qd_vi bytes = QD_PACK("uswb", low, QD_PACK("usdw", codes[2] & 255, codes[3] & 255));
    if (d->n == QD_BLOCK_CH) {
        *(__global qd_v_anywhere *)y = bytes;
        return;
    }
    int i = 0;
    for (; i + 16 <= d->n; i += 16)
        *(__global qd_16_anywhere *)(y + i) = ((const uint4 *)&bytes)[i / 16];
    for (; i < d->n; i++)
        y[i] = ((const uchar *)&bytes)[i];
}

QD_ALWAYS void depthwise_line(const depthwise *d, const ulong line, const int mode, __global uchar *y) {
    const qd_window_params *v = &d->window;
    const long image = (long)(line / v->out_h) * v->in_h;
    const int top = (int)(line % v->out_h) * v->stride_h - v->top, bytes = QD_CODE_BITS(d->g->y.code) / 8;
    qd_output end = d->g->y;
    end.mode = mode;
    for (int column = 0; column < v->out_w; column += QD_PX) {
        qd_vi sums[QD_PX][4], ones[QD_PX][4];
        depthwise_tile(d, (qd_vi(*)[4])d->weights, image, top, column * v->stride_w - v->left, sums);
        if (d->g->shift) depthwise_tile(d, (qd_vi(*)[4])d->ones, image, top, column * v->stride_w - v->left, ones);
        for (int t = 0; t < QD_PX && column + t < v->out_w; t++) {
            qd_vi codes[4];
            QD_UNROLL(q, 4) {
                codes[q] = sums[t][q] + d->start[q];
                if (d->g->shift) codes[q] -= d->zero[q] * ones[t][q];
                if (end.requant != QD_ABSENT) codes[q] = qd_v_finish(&end, codes[q], d->a[q], d->b[q]);
            }
            const ulong first = (line * v->out_w + (ulong)(column + t)) * v->channels + d->channel;
#ifdef QD_ADD
            for (int i = 0; i < d->n; i++) {
                int *code = (int *)codes + depthwise_lane(i);
                *code = qd_add_residual(d->g->add, *code,
                                        qd_code_at(d->g->residual, first + i, qd_residual_code(d->g->add)));
            }
#endif
            depthwise_store(d, codes, y + first * bytes);
        }
    }
}

/* This work-item's part of all lines of y in all blocks of channels: a contiguous one, so that it opens few blocks. */
QD_ALWAYS void depthwise_all(depthwise *d, const int rows, __global uchar *y QD_WORK) {
    const ulong lines = (ulong)rows * d->window.out_h, blocks = (d->g->count + QD_BLOCK_CH - 1) / QD_BLOCK_CH;
    const ulong last = lines * blocks * (QD_ITEM + 1) / QD_ITEMS;
    int open = -1;
    for (ulong u = lines * blocks * QD_ITEM / QD_ITEMS; u < last; u++) {
        const int channel = (int)(u / lines) * QD_BLOCK_CH;
        if (channel != open) depthwise_open(d, channel);
        open = channel;
        switch (d->g->y.mode) {
            case QD_MODE_FIXED:
                depthwise_line(d, u % lines, QD_MODE_FIXED, y);
                break;
            case QD_MODE_FLOAT:
                depthwise_line(d, u % lines, QD_MODE_FLOAT, y);
                break;
            default:
                depthwise_line(d, u % lines, d->g->y.mode, y);
                break;
        }
    }
}

#endif
