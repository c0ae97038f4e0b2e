/* Quantization methods: ranges of activations, scales and zero points from them, fake quantization for training.
 * Outputs are written on success only. Every call that can fail gives QD_ERR_ARGUMENT for sizes, pointers and values
 * that do not fit, and QD_ERR_MEMORY. */
#ifndef QDOT_QUANT_H
#define QDOT_QUANT_H

#include "qdot.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Scale and zero point ----------------------------------------------------------------------------------- */

/** The codes that a range is mapped to. */
typedef struct qd_code_range {
    int32_t qmin, qmax; /* qmin < qmax, of at most 2^24 in magnitude */
    bool symmetric;     /* the range's ends are equal but for their sign */
} qd_code_range;

/** Scale and zero point of a range, by PyTorch's rule: it is widened to hold 0;
 *  affine: scale = f32(f32(max - min) / (qmax - qmin)), zero point = qmin - round(f32(min / scale)), halves to even,
 *  clamped to the codes; symmetric: scale = f32(max(-min, max) / ((qmax - qmin) / 2)), zero point 0, or for codes
 *  without negative ones (qmax - qmin + 1) / 2. The scale is at least 2^-23. Refuses ranges that are not finite, or
 * have min > max, or are too wide for a float. */
QD_API qd_status qd_range_scale(const qd_code_range *codes, float min, float max, float *scale, int32_t *zero_point);

/* ---- Observers ---------------------------------------------------------------------------------------------- */

typedef enum qd_observe {
    QD_OBSERVE_MINMAX,     /* the least and the largest value of all */
    QD_OBSERVE_AVERAGE,    /* those of each batch, averaged: m += averaging · (batch's - m) */
    QD_OBSERVE_PERCENTILE, /* what cuts off (100 - percentile) % of the values, half of them at each end */
    QD_OBSERVE_ERROR,      /* the range whose codes have the least mean squared error */
    QD_OBSERVE_ENTROPY     /* the range whose codes have the distribution that is nearest to the values': the least
                              Kullback-Leibler divergence (Migacz, 8-bit Inference with TensorRT, 2017) */
} qd_observe;

typedef struct qd_observer_options {
    qd_observe kind;
    int64_t channels;  /* 0 or 1: one range for all; more only for MINMAX and AVERAGE */
    float averaging;   /* 0: 0.01 */
    double percentile; /* above 0; 0: 99.99 */
    int bins;          /* of the histogram behind PERCENTILE, ERROR and ENTROPY, 16 … 2^20; 0: 2048 */
} qd_observer_options;

/** Collects the range of batches of values. A histogram's bins are as wide as a power of two, and become twice as wide
 *  when the values outgrow them, so that its counts are exact and do not depend on the order of the batches. */
typedef struct qd_observer qd_observer;

/** *out is to be freed with qd_observer_free. `options` may be NULL: MINMAX. */
QD_API qd_status qd_observer_create(const qd_observer_options *options, qd_observer **out);
QD_API void qd_observer_free(qd_observer *o);
/** One batch: [outer][channels][inner] values (with one channel, outer · inner values). Values that are not finite are
 *  refused, and nothing of the batch counts. */
QD_API qd_status qd_observer_update(qd_observer *o, const float *x, int64_t outer, int64_t inner);
/** Scales and zero points [channels], and the range [channels] that they are for (min, max may be NULL). `codes` also
 *  decides which range has the least error. QD_ERR_ARGUMENT before the first batch. */
QD_API qd_status qd_observer_scale(const qd_observer *o, const qd_code_range *codes, float *scale, int32_t *zero_point,
                                   float *min, float *max);

/* ---- Batch normalization ------------------------------------------------------------------------------------ */

/** y = gamma · (x - mean) / √(variance + epsilon) + beta, with a number of each for each channel. gamma and beta may be
 *  NULL: 1 and 0. */
typedef struct qd_batchnorm {
    const float *gamma, *beta, *mean, *variance;
    float epsilon;
} qd_batchnorm;

/** Puts a batch normalization into the convolution or product before it, whose floats are then quantized:
 *  w' = w · gamma / √(variance + epsilon), b' = (b - mean) · gamma / √(variance + epsilon) + beta, computed in double
 *  precision and rounded to float once. w, w_out: [channels][each], in any layout whose first dimension is the output
 *  channel; bias (may be NULL: 0), bias_out: [channels]. w_out may be w, bias_out may be bias. QD_ERR_ARGUMENT names
 * what is not finite, a variance that is negative, or 0 without an epsilon, and the channel. Source: Jacob et al.,
 *  Quantization and Training of Neural Networks (2018), 3.2. */
QD_API qd_status qd_fold_batchnorm(const qd_batchnorm *n, const float *w, const float *bias, int64_t channels,
                                   int64_t each, float *w_out, float *bias_out);

/* ---- Fake quantization -------------------------------------------------------------------------------------- */

/** A tensor [outer][channels][inner] with a scale and a zero point for each channel; per tensor: channels 1. Scales are
 *  finite, positive, and have a finite reciprocal. */
typedef struct qd_fake_quant {
    int64_t outer, channels, inner;
    int32_t qmin, qmax; /* of at most 2^24 in magnitude */
} qd_fake_quant;

/** Quantizes and dequantizes: q = round(f32(x · f32(1 / scale))) + zero_point, halves to even;
 *  y = f32((clamp(q, qmin, qmax) - zero_point) · scale), as the operator FAKE_QUANTIZE has it. mask (or NULL) is 1
 * where q is within [qmin, qmax]: there the straight-through gradient is dx = dy, elsewhere 0. A NaN stays one, and its
 * mask is 0. y may be x. Source: Jacob et al., Quantization and Training of Neural Networks (2018). */
QD_API qd_status qd_fake_quantize(const qd_fake_quant *f, const float *x, const float *scale, const int32_t *zero_point,
                                  float *y, uint8_t *mask);
/** dx = mask ? dy : 0, for n values. dx may be dy. */
QD_API qd_status qd_fake_quantize_backward(const uint8_t *mask, const float *dy, int64_t n, float *dx);

/** The same with a scale and a zero point that are learned. The zero point is a float: clamped to [qmin, qmax] and
 *  rounded, halves to even. Gives y, dx as above, and by channel the gradients
 *    dscale = grad_factor · Σ dy · ((y - x) / scale within, qmin - zero point below, qmax - zero point above);
 *    dzero_point = grad_factor · Σ dy · (0 within, -scale outside); sums in double precision.
 *  Any output may be NULL. NaN is refused. Source: Esser et al., Learned Step Size Quantization (2020); Bhalgat et al.,
 *  LSQ+ (2020). */
QD_API qd_status qd_fake_quantize_learn(const qd_fake_quant *f, const float *x, const float *scale,
                                        const float *zero_point, const float *dy, float grad_factor, float *y,
                                        float *dx, float *dscale, float *dzero_point);

#ifdef __cplusplus
}
#endif
#endif
