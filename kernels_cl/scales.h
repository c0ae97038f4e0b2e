/* The scales of QUANTIZE_LINEAR and DEQUANTIZE_LINEAR, found for runs of elements instead of one by one.
 *
 *   a tensor as [outer, axis, inner] (qd_quantize_linear_params), with the scales of
 *     the axis     s0 s0 s0 | s1 s1 s1 | …     a run is what is left of the inner elements, and of a block
 *     blocks       s0 s1 s2 | s0 s1 s2 | …     with inner elements: each has its own scale, up to the last inner one;
 *                                              so it is for an axis of single elements */
#ifndef QD_SCALES_H
#define QD_SCALES_H

#include "codes.h"

/* The scale of the next element; `left` elements have it (step 0) or those that follow it (step 1). No run is used
 * beyond its line, whose end is also that of a short last block. */
typedef struct qd_scale_run {
    ulong at, left;
    int step;
} qd_scale_run;

static inline qd_scale_run qd_find_scale(const qd_quantize_linear_params *p, const ulong element) {
    const ulong index = element / p->inner;
    const int inner = (int)(element % p->inner), a = (int)(index % p->axis), block = a / p->block;
    qd_scale_run run;
    run.at = index / p->axis * p->scale_outer + (ulong)block * p->scale_axis + (ulong)inner * p->scale_inner;
    if (p->inner == 1 && p->block == 1) {
        run.step = p->scale_axis;
        run.left = p->axis - a;
    } else {
        run.step = p->scale_inner;
        run.left = p->inner - inner;
        if (!run.step) run.left += (ulong)(p->block - a % p->block - 1) * p->inner;
    }
    return run;
}

/* Scales and zero points of n elements (at most 16) from `element` on; *run is that of the first, and moves on. */
static inline void qd_load_scales(const qd_quantize_linear_params *p, qd_scale_run *run, const ulong element,
                                  const int n, __global const float *scale, __global const uchar *zero, float16 *s,
                                  int16 *z) {
    if (run->left == 0) *run = qd_find_scale(p, element);
    if (run->left >= (ulong)n && run->step == 0) {
        *s = scale[run->at];
        *z = qd_zero_at(zero, p->zero, run->at, p->code);
        run->left -= n;
        return;
    }
    if (run->left >= 16 && n == 16) {
        *s = vload16(0, scale + run->at);
        *z = 0;
        if (p->zero != QD_ABSENT) {
            const int16 zeros = vload16(0, (__global const int *)zero + run->at);
            *z = clamp(zeros, (int16)qd_code_min(p->code), (int16)qd_code_max(p->code));
        }
        run->left -= 16;
        run->at += 16;
        return;
    }
    float scales[16];
    int zeros[16];
    for (int i = 0; i < 16; i++) {
        scales[i] = 1.0f;
        zeros[i] = 0;
        if (i >= n) continue;
        if (run->left == 0) *run = qd_find_scale(p, element + i);
        scales[i] = scale[run->at];
        zeros[i] = qd_zero_at(zero, p->zero, run->at, p->code);
        run->at += run->step;
        run->left--;
    }
    *s = vload16(0, scales);
    *z = vload16(0, zeros);
}

/* Elements of the last dimension, and how many such lines `rows` rows of the run have. */
static inline int qd_line_length(const qd_quantize_linear_params *p, const int rows) {
    return p->cols ? p->cols : rows;
}
static inline ulong qd_line_count(const qd_quantize_linear_params *p, const int rows) {
    return p->cols ? (ulong)rows * (p->size / p->cols) : rows > 0;
}

#endif
