/* CONV_INT as a pipeline of stages: the array of array.h, whose columns are the windows of pixels of y.
 *
 *   w [O, ...] of 8 or 4 bits, x, y: images of codes of 8 bits, by the strides of qd_conv_int_params; others as in
 *   qdot_ops.def
 *
 * A column is a window's codes in the order of an output channel's weights. In x they are runs of bytes side by side:
 *
 *   NHWC   the channels of a group at each position of the window; of one group and no dilation, of a whole line of it
 *   NCHW   a line of the window, without dilation; else single codes
 *
 * so that a run of n bytes costs as many cycles as it has beats, at least one. What is in the padding is the zero
 * point, and so is what meets a code of w that only fills up a byte: neither adds anything. */
/* A run: `steps` columns of the window of `each` codes; `runs_w` of them are a line, of which kernel_h are a plane. */
#define QD_JOB_OF_UNIT                    \
    qd_window_params window;              \
    qd_i32 per_group; /* channels of x */ \
    qd_i32 each, steps, runs_w;           \
    qd_i32 real; /* codes of a run that are some: w's lines may end in others */
#include "pipeline.h"
#include "tops.h"

/* Codes `from` … from+n-1 of the run at column kx, line ky, plane c of the window at (h, w) of y: to `line`, byte `to`.
 */
static void copy_run(const qd_job *job, const qd_turn *s, const qd_i32 h, const qd_i32 w, const qd_i32 c,
                     const qd_i32 ky, const qd_i32 kx, const qd_i32 from, const qd_i32 n, const qd_beat *x,
                     const qd_u64 x_at, const qd_u8 padding, qd_u8 line[][QD_BURST], const qd_i32 to) {
    const qd_window_params *v = &job->window;
    const qd_i32 in_h = h * v->stride_h - v->top + ky * v->dilation_h,
                 in_w = w * v->stride_w - v->left + kx * v->dilation_w;
    const qd_i32 before = in_w < 0 ? qd_at_most(-in_w, job->steps) : 0; /* columns of the run left of x … */
    const qd_i32 inside = in_w < v->in_w ? qd_at_most(v->in_w - in_w, job->steps) : 0; /* … and up to its right end */
    const qd_i32 is_some = in_h >= 0 && in_h < v->in_h && kx < v->kernel_w;
    const qd_i32 low = before * job->each, high = is_some ? qd_at_most(inside * job->each, job->real) : 0;
    const qd_i32 first = from > low ? from : low, end = qd_at_most(from + n, high);
    const qd_i64 at = (qd_i64)s->batch * v->channels * v->in_h * v->in_w +
                      ((qd_i64)s->group * job->per_group + c) * v->x_channel + (qd_i64)in_h * v->x_h +
                      (qd_i64)in_w * v->x_w + first;
    if (first > from || end < from + n) qd_run_fill(line, to, n, padding);
    qd_run_copy(x, x_at + (qd_u64)at, end - first, line, to + first - from);
}

/* One window's codes k … k+count-1. */
static void read_window(const qd_job *job, const qd_turn *s, const qd_i32 h, const qd_i32 w, const qd_beat *x,
                        const qd_u64 x_at, const qd_u8 padding, qd_u8 line[QD_BEATS][QD_BURST]) {
    const qd_i32 length = job->steps * job->each, run = s->k / length;
    qd_i32 from = s->k % length, to = 0;
    qd_i32 kx = run % job->runs_w, ky = run / job->runs_w % job->window.kernel_h,
           c = run / job->runs_w / job->window.kernel_h;
    while (to < s->count) {
        HLS_TRIPS(64)
        const qd_i32 n = qd_at_most(length - from, s->count - to);
        copy_run(job, s, h, w, c, ky, kx, from, n, x, x_at, padding, line, to);
        to += n;
        from = 0;
        if (++kx == job->runs_w) {
            kx = 0;
            ky++;
        }
        if (ky == job->window.kernel_h) {
            ky = 0;
            c++;
        }
    }
}

static void columns_read(const qd_job *job, const qd_turn *s, QD_BEATS_IN(x), QD_WORDS_IN(x_zero),
                         qd_u8 columns[QD_TOKENS][QD_BEATS][QD_BURST], qd_i32 zeros[QD_TOKENS]) {
    HLS_STAGE
    const qd_i32 zero = qd_zero_read(x_zero, x_zero_at, job->x_zero, 0, job->x_code);
    const qd_u8 padding = (qd_u8)(zero + qd_code_flip(job->x_code));
    qd_i32 h = s->column / job->window.out_w, w = s->column % job->window.out_w;
    for (int t = 0; t < s->columns; t++) {
        HLS_TRIPS(QD_TOKENS)
        read_window(job, s, h, w, x, x_at, padding, columns[t]);
        if (++w == job->window.out_w) {
            w = 0;
            h++;
        }
    }
    for (int t = 0; t < QD_TOKENS; t++) {
        HLS_PIPELINE
        zeros[t] = zero;
    }
    (void)x_stride, (void)x_zero_stride;
}

static void results_write(const qd_job *job, const qd_turn *s, const qd_i32 results[QD_TOKENS * QD_PE],
                          QD_BYTES_OUT(y)) {
    HLS_STAGE
    const qd_window_params *v = &job->window;
    const int bytes = QD_CODE_BITS(job->y.code) / 8, outs = s->last ? s->outs : 0;
    const qd_i64 image = (qd_i64)s->batch * v->out_channels * v->out_h * v->out_w +
                         ((qd_i64)s->group * job->extent.outs + s->out) * v->y_channel;
    qd_i32 h = s->column / v->out_w, w = s->column % v->out_w;
    int n = 0;
    for (int t = 0; t < s->columns; t++) {
        HLS_TRIPS(QD_TOKENS)
        const qd_i64 pixel = image + (qd_i64)h * v->y_h + (qd_i64)w * v->y_w;
        for (int q = 0; q < outs; q++) {
            HLS_TRIPS(QD_PE)
            qd_result_put(y, y_at + (qd_u64)(pixel + (qd_i64)q * v->y_channel) * (qd_u64)bytes, results[n++], bytes);
        }
        if (++w == v->out_w) {
            w = 0;
            h++;
        }
    }
    (void)y_stride;
}

void conv_int(QD_OPERANDS_OF_TOP, const int *params, const int rows) {
    QD_PORTS_OF_TOP
    qd_i32 raw[QD_PARAMS_COUNT(qd_conv_int_params)];
    HLS_PARTITION(raw, 1)
    qd_params_read(params, QD_PARAMS_COUNT(qd_conv_int_params), raw);
#define P(member) QD_PARAM(raw, qd_conv_int_params, member)
#define V(member) P(window.member)
    const qd_window_params window = {V(channels),   V(in_h),       V(in_w),      V(out_channels), V(out_h),
                                     V(out_w),      V(kernel_h),   V(kernel_w),  V(stride_h),     V(stride_w),
                                     V(dilation_h), V(dilation_w), V(top),       V(left),         V(x_channel),
                                     V(x_h),        V(x_w),        V(y_channel), V(y_h),          V(y_w)};
    const qd_i32 per_group = window.channels / P(groups), codes = P(w_row);
    /* Channels of a position, and positions of a line, side by side in x as they are in w. */
    const qd_i32 nhwc = window.x_channel == 1 && P(w_channel) == 1, each = nhwc ? P(w_w) : 1;
    const qd_i32 some = nhwc ? per_group : 1; /* of each; the others fill up w's bytes, and nothing in x */
    const qd_i32 merged = some == each && window.dilation_w * window.x_w == each;
    const qd_i32 line = nhwc ? window.kernel_w : P(w_h), real = merged ? some * window.kernel_w : some;
    const qd_job job = {{rows, P(groups), window.out_h * window.out_w, window.out_channels / P(groups), codes},
                        0,
                        0,
                        P(w_code),
                        P(x_code),
                        P(x_zero),
                        {P(w_code), P(w_zero), P(bias), P(y.requant)},
                        QD_OUTPUT_OF(raw, qd_conv_int_params),
                        window,
                        per_group,
                        each,
                        merged ? line : 1,
                        merged ? 1 : line,
                        real};
#undef V
#undef P
    pipeline(&job, w, w_at, (qd_u64)(codes * QD_CODE_BITS(job.w_code) / 8), x, x_at, x_stride, w_zero, w_zero_at,
             w_zero_stride, x_zero, x_zero_at, x_zero_stride, bias, bias_at, bias_stride, requant, requant_at,
             requant_stride, y, y_at, y_stride);
    (void)w_stride;
}
