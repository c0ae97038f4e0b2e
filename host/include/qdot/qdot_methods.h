/* Methods that quantize the weights of a model so that its results stay near: GPTQ, and factors for columns by
 * SmoothQuant and AWQ. They need to know what the matrices are multiplied with: qdot_calibration.h, or the Hessians
 * below. Outputs are written on success only. Every call gives QD_ERR_ARGUMENT for sizes, pointers and values that do
 * not fit, and QD_ERR_MEMORY; no result depends on the number of threads. */
#ifndef QDOT_METHODS_H
#define QDOT_METHODS_H

#include "qdot.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- GPTQ --------------------------------------------------------------------------------------------------- */

/** Doubles of a Hessian: the upper triangle of cols × cols, row after row, each from its diagonal on:
 *  cols · (cols + 1) / 2. 0 where that is too many. */
QD_API int64_t qd_hessian_count(int64_t cols);
/** hessian += xᵀ·x for rows × cols activations, which must be finite: the message names the column of one that is not,
 *  and nothing is added. Begin with zeros. Sums of 128 rows are made in float, those of these in double.
 *  threads: 0: as many as there are processors. */
QD_API qd_status qd_hessian_add(double *hessian, int64_t cols, const float *x, int64_t rows, int threads);

typedef struct qd_gptq_options {
    bool act_order; /* columns in descending order of their mean squares; the scales of groups then are those of the
                       weights as they were */
    double damping; /* added to the diagonal, in units of its mean, at least 0; 0.01 is usual */
    int threads;    /* 0: as many as there are processors */
    bool (*progress)(void *user, double done); /* on the calling thread, done: 0 … 1; may be NULL; false cancels */
    void *user;
} qd_gptq_options;

/** True for what qd_gptq can store: codings of integers (int2 … int8, with or without zero points, groups of any size,
 *  ternary), q4_0, q4_1 and q8_0. */
QD_API bool qd_gptq_takes(const qd_storage *to);
/** Rounds w, rows × cols, column by column; what rounding a column costs is made good by the columns after it, as far
 * as the Hessian of the inputs (sum of xᵀ·x, as qd_hessian_add makes it) says that they can. The scale and the zero
 * point of each group are chosen, by the rule of the target, when its first column's turn comes; those that a target
 * shares between groups (int4-tensor, -dq, -e4m3) before the first. Columns that never had an input become 0. `options`
 * may be NULL: damping 0.01. dst, side and *loss: as in qd_matrix_quantize. Memory: 16 · cols² bytes, and twice the
 * matrix. QD_ERR_ARGUMENT: the Hessian is singular in spite of the damping, or not finite; a weight is not finite.
 *  QD_ERR_UNSUPPORTED: a target that qd_gptq_takes does not know.
 *  Source: Frantar et al., GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers (2022). */
QD_API qd_status qd_gptq(const float *w, int64_t rows, int64_t cols, const double *hessian, const qd_storage *to,
                         const qd_gptq_options *options, void *dst, float *side, qd_loss *loss);

/* ---- Factors of columns ------------------------------------------------------------------------------------- */

/* A matrix whose column j is multiplied by s[j], and whose input j is divided by it, has the same product. */

/** absmax[j] = the larger of itself and the largest magnitude of column j. Begin with zeros. */
QD_API qd_status qd_column_absmax(const qd_matrix *m, float *absmax);

/** s[j] = x_absmax[j]^alpha / w_absmax[j]^(1 - alpha), at least 1e-5; 1 where either is 0. alpha: 0 … 1. w_absmax: over
 *  all matrices that read the input.
 *  Source: Xiao et al., SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models
 * (2023). */
QD_API qd_status qd_smooth_factors(const float *x_absmax, const float *w_absmax, int64_t cols, double alpha, float *s);

typedef struct qd_awq_options {
    int points;   /* of the grid: alpha = 0, 1 / points … (points - 1) / points; 0: 20 */
    int64_t rows; /* of each matrix that the search looks at, evenly spaced; 0: all */
    bool weighed; /* quantize with the columns' importance: scales of groups are searched, too */
    int threads;  /* 0: as many as there are processors */
    bool (*progress)(void *user, double done); /* as in qd_gptq_options */
    void *user;
} qd_awq_options;

typedef struct qd_awq_result {
    double alpha;         /* the one that was chosen; 0: all factors are 1 */
    double error, before; /* the outputs' squared error with it, and with alpha 0, over the outputs' square */
} qd_awq_result;

/** Factors s[j] = mean_abs[j]^alpha, at least 1e-4, over the root of the largest times the least, for the alpha that
 *  gives the n matrices that read this input, stored as to[i], the least error sum: of all weights
 *  mean_square[j] · (quantized(w · s[j]) / s[j] - w)², which is the outputs' where inputs do not correlate. Inputs that
 *  are always 0 get the factor 1. `options` and `result` may be NULL.
 *  Source: Lin et al., AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration (2023). */
QD_API qd_status qd_awq_factors(const qd_matrix *const m[], const qd_storage *const to[], int n, const float *mean_abs,
                                const double *mean_square, const qd_awq_options *options, float *s,
                                qd_awq_result *result);

#ifdef __cplusplus
}
#endif
#endif
