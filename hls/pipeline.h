/* The pipeline of MATMUL_INT and CONV_INT: array.h's stages in their order. The includer has before
 *   #define QD_JOB_OF_UNIT   more members of qd_job
 * and after, its own two stages:
 *   columns_read    the step's columns of x, from code s->k on, and their zero points
 *   results_write   where the step's results go, if it is the last of its columns and outs */
#ifndef QD_PIPELINE_H
#define QD_PIPELINE_H

#include "array.h"

/* The parameters that the stages need. */
typedef struct qd_job {
    qd_extent extent;
    qd_i32 batch_rows; /* of w, from one batch to the next */
    qd_i32 first;      /* output channel */
    qd_i32 w_code, x_code, x_zero;
    qd_channel_shares shares;
    qd_output y;
    QD_JOB_OF_UNIT
} qd_job;

static void columns_read(const qd_job *job, const qd_turn *s, QD_BEATS_IN(x), QD_WORDS_IN(x_zero),
                         qd_u8 columns[QD_TOKENS][QD_BEATS][QD_BURST], qd_i32 zeros[QD_TOKENS]);
static void results_write(const qd_job *job, const qd_turn *s, const qd_i32 results[QD_TOKENS * QD_PE],
                          QD_BYTES_OUT(y));

#define QD_OPERANDS_OF_TOP                                                                                             \
    QD_BEATS_IN(w), QD_BEATS_IN(x), QD_WORDS_IN(w_zero), QD_WORDS_IN(x_zero), QD_WORDS_IN(bias), QD_WORDS_IN(requant), \
        QD_BYTES_OUT(y)
#define QD_OPERANDS_PASSED                                                                                          \
    w, w_at, w_stride, x, x_at, x_stride, w_zero, w_zero_at, w_zero_stride, x_zero, x_zero_at, x_zero_stride, bias, \
        bias_at, bias_stride, requant, requant_at, requant_stride, y, y_at, y_stride

/* A top's ports: bursts of 16 beats (1 KiB) of w and x, 16 of them on their way. */
#define QD_PORTS_OF_TOP      \
    HLS_IN(w, 16, 16)        \
    HLS_IN(x, 16, 16)        \
    HLS_IN(w_zero, 4, 4)     \
    HLS_IN(x_zero, 4, 4)     \
    HLS_IN(bias, 4, 4)       \
    HLS_IN(requant, 8, 4)    \
    HLS_OUT(y, 16, 16)       \
    HLS_READS(params, 32, 1) \
    HLS_SCALAR(rows)         \
    HLS_CONTROL

/* One step through all stages. `at` and `totals` are kept from one step to the next, each by one stage. */
static void step(const qd_job *job, qd_turn *at, qd_i64 totals[QD_TOKENS][QD_PE], QD_OPERANDS_OF_TOP) {
    HLS_STAGES
    qd_turn for_weights, for_columns, for_channels, for_array, for_finish, for_write;
    qd_u8 weights[QD_PE][QD_BEATS][QD_BURST], columns[QD_TOKENS][QD_BEATS][QD_BURST];
    qd_i32 zeros[QD_TOKENS], results[QD_TOKENS * QD_PE];
    qd_channel channels[QD_PE];
    qd_sums sums[QD_TOKENS];
    HLS_PARTITION(weights, 1)
    HLS_PARTITION(weights, 3)
    HLS_PARTITION(columns, 3)
    HLS_FIFO(sums, QD_TOKENS)
    HLS_FIFO(results, 16)
    qd_turn_next(&job->extent, at, &for_weights, &for_columns, &for_channels, &for_array, &for_finish, &for_write);
    qd_weights_load(&job->extent, &for_weights, job->batch_rows, job->w_code, w, w_at, w_stride, weights);
    columns_read(job, &for_columns, x, x_at, x_stride, x_zero, x_zero_at, x_zero_stride, columns, zeros);
    qd_channels_read(&job->extent, &for_channels, job->first, &job->shares, w_zero, w_zero_at, w_zero_stride, bias,
                     bias_at, bias_stride, requant, requant_at, requant_stride, channels);
    qd_array(&for_array, job->w_code, job->x_code, weights, columns, sums);
    qd_finish(&for_finish, &job->y, sums, zeros, channels, totals, results);
    results_write(job, &for_write, results, y, y_at, y_stride);
}

/* All steps; they overlap. */
static void pipeline(const qd_job *job, QD_OPERANDS_OF_TOP) {
    qd_turn at = {0, 0, 0, 0, 0, 0, 0, 0, 0};
    qd_i64 totals[QD_TOKENS][QD_PE];
    const qd_u64 steps = qd_steps(&job->extent);
    for (qd_u64 n = 0; n < steps; n++) {
        HLS_OVERLAP
        HLS_TRIPS(1024)
        step(job, &at, totals, QD_OPERANDS_PASSED);
    }
}

#endif
