/* Matrices of int8 codes that read int8 activations: both sides are integers, exact sums are scaled at the end. */
#ifndef QDOT_MODEL_INT8_H
#define QDOT_MODEL_INT8_H

#include "model/gguf.h"
#include "model/model.h"

typedef struct qd_int8 {
    qd_tensor *codes;            /* i8 [rows, cols]; NULL: the matrix is none of these */
    qd_tensor *scales;           /* f32 [rows, groups] */
    int64_t rows, cols, group;   /* codes along a row that share a scale */
    qd_tensor *x_scale, *x_zero; /* f32 [1], i32 [1]: of what it reads; NULL: each row of that has a scale of its own */
    float scale;                 /* … their values */
    int32_t zero;
    /* LLM.int8(): columns that are multiplied as floats; NULL and 0: none. */
    qd_tensor *kept;      /* f32 [cols]: 0 at these columns, else 1 */
    qd_tensor *select;    /* f16 [columns, cols]: row i has its 1 at column i of these */
    qd_tensor *outliers;  /* f16 [rows, columns] */
    qd_gguf_outliers set; /* in the file */
} qd_int8;

/** Whether a coding is such codes: signed ones of 8 bits. */
bool qd_int8_suits(const qd_coding *c);
/** Codes and scales of a coded matrix as constants of the model; where its activations are calibrated, also what the
 *  file has about them. QD_ERR_UNSUPPORTED when it has nothing. */
qd_status qd_int8_find(qd_model *m, const char *name, const qd_gguf_coded *coded, qd_int8 *out);
/** Whether both can read the same quantized x. */
bool qd_int8_same_input(const qd_int8 *a, const qd_int8 *b);
/** One matrix with the rows of n, which have one input and groups of one size. */
qd_status qd_int8_stack(qd_model *m, const qd_int8 *const w[], int n, qd_int8 *out);
/** y = x · wᵀ (+ addend, which may be NULL), f32: x is quantized first. With s the scale and z the zero point of a row
 *  of x, or of all: q = limit(round(x / s) + z), y = s · Σ_g w_scale[g] · Σ_{k in g} w[k] · (q[k] - z). Where there are
 *  outlier columns, x counts as 0 there, and Σ_columns outliers · x is added (Dettmers et al., LLM.int8(), 2022; the
 *  columns are those of a calibration, not of the batch). Rows do not depend on each other. */
qd_status qd_int8_multiply(qd_graph *g, const qd_int8 *w, qd_tensor *x, qd_tensor *addend, qd_tensor *y);

#endif
