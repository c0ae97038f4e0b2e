/* Calibration: what the matrices of a model read while it sees a text, collected for the methods that scale, shrink or
 * round weights by it. */
#ifndef QDOT_CALIBRATION_H
#define QDOT_CALIBRATION_H

#include "qdot_quant.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Statistics of one input: rows × cols values. Owned by the calibration. */
typedef struct qd_input_stats {
    char name[64]; /* of the first matrix that reads it: "blk.3.attn_q.weight" */
    int64_t cols, rows;
    float min, max;                       /* of all values */
    float average_min, average_max;       /* of batches, averaged: 0.01 of each new one */
    float percentile_min, percentile_max; /* what holds 99.99 % of the values */
    float error_min, error_max;           /* of least squared error in 8 bits with a zero point */
    float entropy_min, entropy_max;       /* of least divergence in them */
    float *absmax;                        /* of each column */
    double *mean_abs;                     /* of each column: the mean magnitude */
    double *mean_square;                  /* of each column */
} qd_input_stats;

typedef struct qd_calibration qd_calibration;

/** For a model that was loaded with `observe`; *out is to be freed with qd_calibration_free, and does not need the
 * model any longer but in qd_calibration_add. QD_ERR_ARGUMENT: the model keeps no inputs. */
QD_API qd_status qd_calibration_create(const qd_model *m, const qd_gguf *g, qd_calibration **out);
QD_API void qd_calibration_free(qd_calibration *c);
/** Adds what the last qd_model_eval computed, of `rows` tokens, at most a chunk. QD_ERR_ARGUMENT: a value is not
 * finite; the message names the matrix that reads it, and nothing of this input counts. */
QD_API qd_status qd_calibration_add(qd_calibration *c, qd_model *m, int64_t rows);
/** Tokens seen. */
QD_API int64_t qd_calibration_tokens(const qd_calibration *c);
/** Fills in the ranges of all inputs. QD_ERR_ARGUMENT: too few tokens, fewer than `least`. */
QD_API qd_status qd_calibration_finish(qd_calibration *c, int64_t least);

/** Writes a finished one as JSON; the file is there whole or not at all. */
QD_API qd_status qd_calibration_write(const qd_calibration *c, const char *path);
/** Reads it back. QD_ERR_FILE: the file is damaged, or something else. */
QD_API qd_status qd_calibration_read(const char *path, qd_calibration **out);
/** Refuses a model that was not the one, whatever format its matrices have now: QD_ERR_ARGUMENT. The vectors, which no
 *  format changes, are its mark. */
QD_API qd_status qd_calibration_check(const qd_calibration *c, const qd_gguf *g);
/** Input i, from 0; NULL when there is none. */
QD_API const qd_input_stats *qd_calibration_input(const qd_calibration *c, int i);
/** The input that a matrix reads; NULL when none was kept. */
QD_API const qd_input_stats *qd_calibration_find(const qd_calibration *c, const char *matrix);
/** Scale and zero point for int8 codes of an input, by qd_range_scale from the range that an observer of this kind
 * found: codes -127 … 127 with the zero point 0, or asymmetric ones, -128 … 127. */
QD_API qd_status qd_calibration_scale(const qd_input_stats *s, qd_observe range, bool asymmetric, float *scale,
                                      int32_t *zero_point);

#ifdef __cplusplus
}
#endif
#endif
