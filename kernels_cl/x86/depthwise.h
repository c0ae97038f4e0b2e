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
#if QD_V == 16
#define QD_PX 4
#else
#define QD_PX 1
#endif

/* What is known of the mode where code is made for it: sums with a residual are not only requantized. */
#ifdef QD_ADD
#define DEPTHWISE_MODE(d) QD_ABSENT
#else
#define DEPTHWISE_MODE(d) (d)->mode
#endif

typedef struct depthwise {
    const gemm *g;
    qd_window_params window;
    __global const uchar *x;
    long size;      /* codes of x */
    qd_vi beyond;   /* codes of pixels beyond the image */
    int channel, n; /* of the block */
    int mode;       /* see gemm_mode */
    /* In the vectors' order: of each column of the window, four lines after four; and numbers of the channels. */
    qd_vi weights[QD_DEPTHWISE_COLUMNS][4], ones[QD_DEPTHWISE_COLUMNS][4];
    qd_vi zero[4], start[4], a[4], b[4], none[4]; /* none: 0 */
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

/* Four vectors of the block's channels in the vectors' order. */
QD_ALWAYS void depthwise_order(const qd_vi *channels, qd_vi *lanes) {
    const uint4 *from = (const uint4 *)channels;
    for (int c = 0; c < QD_BLOCK_CH; c += 4)
        ((uint4 *)lanes)[depthwise_lane(c) / 4] = from[c / 4];
}

/* Everything that belongs to the channels from `channel` on. */
static void depthwise_open(depthwise *d, const int channel) {
    const gemm *g = d->g;
    const int groups = (d->window.kernel_h + 3) / 4;
    qd_vi zero[4], start[4], a[4], b[4];
    bool small = true;
    d->channel = channel;
    d->n = min(QD_BLOCK_CH, g->count - channel);
    for (int line = 0; line < groups; line++) {
        for (int kx = 0; kx < d->window.kernel_w; kx++) {
            const int at = line * d->window.kernel_w + kx;
            depthwise_column(d, 4 * line, kx, d->weights[at], d->ones[at]);
        }
    }
    for (int i = 0; i < 4; i++) {
        gemm_channels of = {.zero = (qd_vi)0, .start = (qd_vi)0, .a = (qd_vi)0, .b = (qd_vi)0};
        if (i * QD_V < d->n) gemm_open(g, channel + i * QD_V, &of);
        zero[i] = of.zero;
        start[i] = of.start;
        a[i] = of.a;
        b[i] = of.b;
        small = small && qd_v_small(g->y.mode, of.a, of.b);
    }
    depthwise_order(zero, d->zero);
    depthwise_order(start, d->start);
    depthwise_order(a, d->a);
    depthwise_order(b, d->b);
    d->mode = gemm_mode(g, small);
}

/* The block's codes at code `at` of x, of which not so many may be there. */
static qd_vi depthwise_last(const depthwise *d, const long at) {
    uchar bytes[QD_BLOCK_CH];
    for (int i = 0; i < QD_BLOCK_CH; i++)
        bytes[i] = i < d->n ? d->x[at + i] : 0;
    return *(const qd_v_anywhere *)bytes;
}

/* Four lines of a group as the window's columns need them, interleaved. */
QD_ALWAYS void depthwise_interleave(const qd_vi *line, qd_vi *x) {
    qd_vi low[2], high[2];
    QD_UNROLL(i, 2) {
        low[i] = QD_PARTWISE(punpcklbw, line[2 * i], line[2 * i + 1]);
        high[i] = QD_PARTWISE(punpckhbw, line[2 * i], line[2 * i + 1]);
    }
    x[0] = QD_PARTWISE(punpcklwd, low[0], low[1]);
    x[1] = QD_PARTWISE(punpckhwd, low[0], low[1]);
    x[2] = QD_PARTWISE(punpcklwd, high[0], high[1]);
    x[3] = QD_PARTWISE(punpckhwd, high[0], high[1]);
}

/* A column's part in the sums of QD_PX windows, `stride` columns apart. */
QD_ALWAYS void depthwise_dots(const qd_vi (*weights)[4], const qd_vi *x, const int column, const int kernel_w,
                              const int stride, const int step, qd_vi (*sums)[4]) {
    QD_UNROLL(t, QD_PX) {
        const int behind = column - t * stride, kx = step == 1 ? behind : behind / step;
        if (behind >= 0 && kx < kernel_w && kx * step == behind) {
            QD_UNROLL(q, 4) {
                sums[t][q] = qd_dot8_add(sums[t][q], weights[kx][q], x[q]);
            }
        }
    }
}

/* Where QD_PX windows begin: a line of all images', line and column of theirs. */
typedef struct depthwise_place {
    long image;
    int top, left;
} depthwise_place;

/* Sums of QD_PX windows, from `start` on. */
static void depthwise_tile(const depthwise *d, qd_vi (*weights)[4], const qd_vi *start, const depthwise_place *p,
                           qd_vi (*results)[4]) {
    const qd_window_params *v = &d->window;
    const int step = v->dilation_w, last = (QD_PX - 1) * v->stride_w + (v->kernel_w - 1) * step;
    const int inside = min(last, v->in_w - 1 - p->left);
    const qd_vi flip = (qd_vi)(int)(gemm_flip(d->g) * 0x01010101u);
    qd_vi sums[QD_PX][4];
    QD_UNROLL(t, QD_PX) {
        QD_UNROLL(q, 4) {
            sums[t][q] = start[q];
        }
    }
    for (int group = 0; 4 * group < v->kernel_h; group++) {
        long from[4];
        bool there[4], whole = true; /* lines of the window in the image; vectors in x */
        for (int i = 0; i < 4; i++) {
            const int ky = 4 * group + i, y = p->top + ky * v->dilation_h;
            there[i] = ky < v->kernel_h && y >= 0 && y < v->in_h;
            from[i] = ((p->image + y) * v->in_w + p->left) * v->channels + d->channel;
            whole = whole && (!there[i] || from[i] + (long)inside * v->channels + QD_BLOCK_CH <= d->size);
        }
        for (int column = 0; column <= last; column++) {
            const bool in_line = p->left + column >= 0 && column <= inside;
            const long skipped = (long)column * v->channels;
            qd_vi line[4], x[4];
            QD_UNROLL(i, 4) {
                line[i] = d->beyond;
                if (there[i] && in_line) {
                    const long at = from[i] + skipped;
                    line[i] = whole ? *(__global const qd_v_anywhere *)(d->x + at) : depthwise_last(d, at);
                }
                line[i] ^= flip;
            }
            depthwise_interleave(line, x);
            depthwise_dots((const qd_vi(*)[4])weights + group * v->kernel_w, x, column, v->kernel_w, v->stride_w, step,
                           sums);
        }
    }
    QD_UNROLL(t, QD_PX) {
        QD_UNROLL(q, 4) {
            results[t][q] = sums[t][q];
        }
    }
}

/* The same for windows of 3x3, not dilated, `stride` columns apart, of which all vectors are in x. */
QD_ALWAYS void depthwise_tile_3x3(const depthwise *d, const int stride, const depthwise_place *p, qd_vi (*results)[4]) {
    const qd_window_params *v = &d->window;
    const qd_vi flip = (qd_vi)(int)(gemm_flip(d->g) * 0x01010101u);
    const uchar *from[3];
    long apart[3]; /* bytes from a column to the next: 0 in a line beyond the image */
    qd_vi sums[QD_PX][4];
    QD_UNROLL(i, 3) {
        const int y = p->top + i;
        const bool there = y >= 0 && y < v->in_h;
        const long at = ((p->image + y) * v->in_w + p->left) * v->channels + d->channel;
        from[i] = there ? (const uchar *)(ulong)(d->x + at) : (const uchar *)&d->beyond;
        apart[i] = there ? v->channels : 0;
    }
    QD_UNROLL(t, QD_PX) {
        QD_UNROLL(q, 4) {
            sums[t][q] = d->start[q];
        }
    }
    QD_UNROLL(column, (QD_PX - 1) * stride + 3) {
        qd_vi line[4], x[4];
        QD_UNROLL(i, 3) {
            line[i] = d->beyond;
        }
        if ((uint)(p->left + column) < (uint)v->in_w) {
            QD_UNROLL(i, 3) {
                line[i] = *(const qd_v_anywhere *)(from[i] + column * apart[i]);
            }
        }
        QD_UNROLL(i, 3) {
            line[i] ^= flip;
        }
        line[3] = line[2]; /* whose weights are 0 */
        depthwise_interleave(line, x);
        depthwise_dots(d->weights, x, column, 3, stride, 1, sums);
    }
    QD_UNROLL(t, QD_PX) {
        QD_UNROLL(q, 4) {
            results[t][q] = sums[t][q];
        }
    }
}

static void depthwise_tile_3x3_1(const depthwise *d, const depthwise_place *p, qd_vi (*results)[4]) {
    depthwise_tile_3x3(d, 1, p, results);
}

static void depthwise_tile_3x3_2(const depthwise *d, const depthwise_place *p, qd_vi (*results)[4]) {
    depthwise_tile_3x3(d, 2, p, results);
}

/* Stores a pixel's codes, or sums, as code `at` … of y. `ones` are the sums of x' below the window, where they are
 * needed; `mode` is known where this is called. */
QD_ALWAYS void depthwise_end(const depthwise *d, const qd_vi *sums, const qd_vi *ones, const int mode,
                             __global uchar *y, const ulong at) {
    const gemm *g = d->g;
    qd_vi v[4];
    QD_UNROLL(q, 4) {
        v[q] = sums[q];
        if (mode != QD_ABSENT) {
            v[q] = qd_v_scaled(mode, v[q], d->a[q], d->b[q]);
        } else {
            if (g->shift) v[q] -= d->zero[q] * ones[q];
            if (g->y.requant != QD_ABSENT) v[q] = qd_v_finish(&g->y, v[q], d->a[q], d->b[q]);
        }
    }
    if (mode != QD_ABSENT) {
        qd_v_put(qd_v_pack(&g->end, v, 4), d->n, y + at);
        return;
    }
#ifndef QD_ADD
    if (QD_CODE_BITS(g->y.code) == 8) {
        QD_UNROLL(q, 4) {
            v[q] &= 255;
        }
        qd_v_put(QD_PARTWISE(packuswb, QD_PARTWISE(packusdw, v[0], v[1]), QD_PARTWISE(packusdw, v[2], v[3])), d->n,
                 y + at);
        return;
    }
#endif
    for (int i = 0; i < d->n; i++) {
        int code = ((const int *)v)[depthwise_lane(i)];
#ifdef QD_ADD
        code = qd_add_residual(g->add, code, qd_code_at(g->residual, at + i, qd_residual_code(g->add)));
#endif
        qd_put_code(y, at + i, g->y.code, code);
    }
}

QD_ALWAYS void depthwise_line(const depthwise *d, const ulong line, const int mode, __global uchar *y) {
    const qd_window_params *v = &d->window;
    const bool known = v->kernel_h == 3 && v->kernel_w == 3 && v->dilation_h == 1 && v->dilation_w == 1;
    const long image = (long)(line / v->out_h) * v->in_h;
    const int top = (int)(line % v->out_h) * v->stride_h - v->top;
    /* The last code below these windows: whole vectors are in x before it. */
    const long end = ((image + min(top + v->kernel_h, v->in_h)) * v->in_w - 1) * v->channels + d->channel;
    const bool whole = end + QD_BLOCK_CH <= d->size;
    for (int column = 0; column < v->out_w; column += QD_PX) {
        const depthwise_place p = {image, top, column * v->stride_w - v->left};
        qd_vi sums[QD_PX][4], ones[QD_PX][4];
        if (known && whole && v->stride_w == 1) {
            depthwise_tile_3x3_1(d, &p, sums);
        } else if (known && whole && v->stride_w == 2) {
            depthwise_tile_3x3_2(d, &p, sums);
        } else {
            depthwise_tile(d, (qd_vi(*)[4])d->weights, d->start, &p, sums);
        }
        if (d->g->shift) depthwise_tile(d, (qd_vi(*)[4])d->ones, d->none, &p, ones);
        for (int t = 0; t < QD_PX && column + t < v->out_w; t++) {
            const ulong at = (line * v->out_w + (ulong)(column + t)) * v->channels + d->channel;
            depthwise_end(d, sums[t], ones[t], mode, y, at);
        }
    }
}

/* This work-item's part of all lines of y in all blocks of channels: a contiguous one, so that it opens few blocks. */
QD_ALWAYS void depthwise_all(depthwise *d, const int rows, __global uchar *y QD_WORK) {
    const ulong lines = (ulong)rows * d->window.out_h, blocks = (d->g->count + QD_BLOCK_CH - 1) / QD_BLOCK_CH;
    const ulong last = lines * blocks * (QD_ITEM + 1) / QD_ITEMS;
    int open = -1;
    QD_UNROLL(q, 4) {
        d->none[q] = (qd_vi)0;
    }
    for (ulong u = lines * blocks * QD_ITEM / QD_ITEMS; u < last; u++) {
        const int channel = (int)(u / lines) * QD_BLOCK_CH;
        if (channel != open) depthwise_open(d, channel);
        open = channel;
        switch (DEPTHWISE_MODE(d)) {
            case QD_MODE_SMALL:
                depthwise_line(d, u % lines, QD_MODE_SMALL, y);
                break;
            case QD_MODE_FIXED:
                depthwise_line(d, u % lines, QD_MODE_FIXED, y);
                break;
            case QD_MODE_FLOAT:
                depthwise_line(d, u % lines, QD_MODE_FLOAT, y);
                break;
            case QD_MODE_GEMMLOWP:
                depthwise_line(d, u % lines, QD_MODE_GEMMLOWP, y);
                break;
            default:
                depthwise_line(d, u % lines, QD_ABSENT, y);
                break;
        }
    }
}

#endif
