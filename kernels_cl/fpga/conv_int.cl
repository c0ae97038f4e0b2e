/* CONV_INT as a pipeline, see turns.h. A batch is a group of an image; columns of x are the windows of y's pixels.
 *
 *   w [O, ...] of 8 or 4 bits, x, y: images of codes of 8 bits, by the strides of qd_conv_int_params; others as in
 *   qdot_ops.def
 *
 * A word is 16 codes of a window that lie in a line of steps, by what there is more of: channels; or, where each has its
 * own group or there are few of them, columns of the window; or both as one line, where they are neighbours in memory.
 * Codes in the padding are x's zero point, which adds nothing. */
#ifndef QD_UNIT
#define QD_UNIT conv_int
#endif
#include "fpga/integers.h"

/* How the codes of a window are cut into words: for each a, for each b, `n` codes along the line. */
typedef struct cut {
    int n, words;          /* of a line */
    int x_step, w_step;    /* elements from one code of the line to the next */
    int lines_a, lines_b;
    int w_a, w_b;          /* elements of w from one a, one b to the next */
    int by_channels;       /* a is the window's line, b its column; else: */
    int b_is_line, a_step; /* a is a channel, so many elements of x apart, b the window's line; else a is the line */
    int per_column;        /* codes of the line for each column of x; 0: it has `columns` between them */
    int columns;
} cut;

typedef struct unit {
    __global const uchar *w, *x;
    __global uchar *y;
    qd_conv_int_params p;
    cut c;
    int per_group, out_per_group;
    int x_zero;
    ending end;
} unit;

static inline cut make_cut(const qd_conv_int_params *p, const int per_group) {
    const qd_window_params *v = &p->window;
    cut c = {0};
    if (p->groups == 1 && v->dilation_w == 1 && v->x_channel == 1 && p->w_channel == 1 && p->w_w == per_group) {
        c.n = v->kernel_w * per_group;
        c.x_step = c.w_step = 1;
        c.lines_a = v->kernel_h, c.lines_b = 1;
        c.w_a = p->w_h;
        c.per_column = per_group;
    } else if (per_group >= v->kernel_w) {
        c.n = per_group;
        c.x_step = v->x_channel, c.w_step = p->w_channel;
        c.lines_a = v->kernel_h, c.lines_b = v->kernel_w;
        c.w_a = p->w_h, c.w_b = p->w_w;
        c.by_channels = 1;
    } else {
        c.n = v->kernel_w;
        c.x_step = v->dilation_w * v->x_w, c.w_step = p->w_w;
        c.lines_a = per_group, c.lines_b = v->kernel_h;
        c.w_a = p->w_channel, c.w_b = p->w_h;
        c.b_is_line = 1, c.a_step = v->x_channel;
        c.columns = v->dilation_w;
    }
    c.words = (c.n + QD_VEC - 1) / QD_VEC;
    return c;
}

/* 16 codes of t from `at` on, a step apart; those of them that are codes lo … hi-1 of the line, whose first is `first`, are
 * read; else, up to code n of it, they are `padding`, and 0 after that. */
static inline char16 read_line(__global const uchar *t, const long at, const int step, const int first, const int lo,
                               const int hi, const int n, const int code, const int padding) {
    if (step == 1 && first >= lo && first + 16 <= hi && QD_CODE_BITS(code) == 8)
        return as_char16(vload16(0, t + at) ^ (uchar16)(uchar)flip_of(code));
    char lanes[16];
#pragma unroll
    for (int l = 0; l < 16; l++) {
        const int i = first + l;
        lanes[l] = i >= n             ? (char)0
                   : i >= lo && i < hi ? read_code(t, at + (long)l * step, code)
                                       : (char)padding;
    }
    return vload16(0, lanes);
}

static inline weight_word read_weights(const unit *u, const turn *s, const int i) {
    const cut *c = &u->c;
    const int line = (s->word + i) / c->words, first = (s->word + i) % c->words * QD_VEC;
    const long at = (long)(line / c->lines_b) * c->w_a + (long)(line % c->lines_b) * c->w_b + (long)first * c->w_step;
    weight_word word;
#pragma unroll
    for (int q = 0; q < QD_PE; q++) {
        const int row = s->batch % u->p.groups * u->out_per_group + s->out + min(q, s->outs - 1);
#pragma unroll
        for (int l = 0; l < QD_LANES; l++) {
            word.row[q][l] = read_line(u->w, (long)row * u->p.w_row + at + 16 * l * c->w_step, c->w_step, first + 16 * l, 0,
                                       c->n, c->n, u->p.w_code, 0);
        }
    }
    return word;
}

static inline int ceil_divided(const int a, const int b) {
    return a > 0 ? (a + b - 1) / b : -(-a / b);
}

static inline void read_column(const unit *u, const turn *s, const int t, const int i QD_JOINTS) {
    const qd_window_params *v = &u->p.window;
    const cut *c = &u->c;
    const int line = (s->word + i) / c->words, first = (s->word + i) % c->words * QD_VEC;
    const int a = line / c->lines_b, b = line % c->lines_b;
    const int h = (s->column + t) / v->out_w * v->stride_h - v->top + (c->b_is_line ? b : a) * v->dilation_h;
    const int w = (s->column + t) % v->out_w * v->stride_w - v->left + (c->by_channels ? b * v->dilation_w : 0);
    int lo = 0, hi = c->n;
    if (h < 0 || h >= v->in_h || (c->by_channels && (w < 0 || w >= v->in_w))) {
        hi = 0;
    } else if (c->per_column) {
        lo = -w * c->per_column;
        hi = min(hi, (v->in_w - w) * c->per_column);
    } else if (c->columns) {
        lo = ceil_divided(-w, c->columns);
        hi = min(hi, ceil_divided(v->in_w - w, c->columns));
    }
    const long image = (long)(s->batch / u->p.groups) * v->channels * v->in_h * v->in_w;
    const long at = image + (long)(s->batch % u->p.groups) * u->per_group * v->x_channel + (long)a * c->a_step +
                    (long)h * v->x_h + (long)w * v->x_w + (long)first * c->x_step;
    column_word word;
#pragma unroll
    for (int l = 0; l < QD_LANES; l++) {
        word.lane[l] = read_line(u->x, at + (long)16 * l * c->x_step, c->x_step, first + 16 * l, lo, hi, c->n,
                                 u->p.x_code, u->x_zero);
    }
    QD_PUT(columns, word);
}

static inline void finish(const unit *u, const turn *s, const bool last, totals *sums QD_JOINTS) {
    finish_turn(s, last, s->batch % u->p.groups * u->out_per_group + s->out, 0, sums, &u->end QD_JOINED);
}

static inline void write(const unit *u, const turn *s QD_JOINTS) {
    const qd_window_params *v = &u->p.window;
    const long image = (long)(s->batch / u->p.groups) * v->out_channels * v->out_h * v->out_w;
    const int first = s->batch % u->p.groups * u->out_per_group + s->out;
    for (int t = 0; t < s->columns; t++) {
        const result_word result = QD_GET(results);
        const long at = image + (long)((s->column + t) / v->out_w) * v->y_h + (long)((s->column + t) % v->out_w) * v->y_w;
        for (int q = 0; q < s->outs; q++)
            qd_put_code(u->y, (ulong)(at + (long)(first + q) * v->y_channel), u->p.y.code, result.of[q]);
    }
}

#define ARGUMENTS                                                                             \
    QD_IN(w), QD_IN(x), QD_IN(w_zero), QD_IN(x_zero), QD_IN(bias), QD_IN(requant), QD_OUT(y), \
        __global const int *params, const int rows
#define OPEN                                                                                                          \
    const qd_conv_int_params p = *(__global const qd_conv_int_params *)params;                                        \
    const int per_group = p.window.channels / p.groups, out_per_group = p.window.out_channels / p.groups;             \
    const cut c = make_cut(&p, per_group);                                                                            \
    const ending end = {QD_ROW(uchar, w_zero, 0), QD_ROW(uchar, x_zero, 0), QD_ROW(uchar, requant, 0),                \
                        p.bias == QD_ABSENT ? 0 : QD_ROW(int, bias, 0), p.w_zero, p.x_zero, p.w_code, p.x_code,       \
                        (long)c.n * c.lines_a * c.lines_b, false, p.y};                                               \
    const unit u = {QD_ROW(uchar, w, 0), QD_ROW(uchar, x, 0), QD_ROW_OUT(uchar, y, 0), p, c, per_group, out_per_group, \
                    qd_zero_at(QD_ROW(uchar, x_zero, 0), p.x_zero, 0, p.x_code) + flip_of(p.x_code), end};            \
    const shape all = {rows * p.groups, p.window.out_h * p.window.out_w, out_per_group,                               \
                       c.lines_a * c.lines_b * c.words}
#include "fpga/unit.h"
