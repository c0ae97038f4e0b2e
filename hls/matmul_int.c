/* MATMUL_INT as a pipeline of stages; array.h has the array, README.md the picture. Columns of x are its rows.
 *
 *   w [count, K], or [rows, N, K] when each batch has its own; output channels first … first + count - 1
 *   x [rows, M, K]; w_zero, x_zero, bias, requant as in qdot_ops.def; y [rows, M, N] */
#include "array.h"
#include "tops.h"

/* The parameters that the stages need. */
typedef struct matmul_job {
    qd_extent extent;
    qd_i32 first, n, w_code, x_code, x_zero;
    qd_channel_shares shares;
    qd_output y;
} matmul_job;

static void read_weights(const matmul_job *job, const qd_turn *s, QD_BEATS_IN(w),
                         qd_u8 weights[QD_PE][QD_BEATS][QD_BURST]) {
    HLS_STAGE
    const int bits = QD_CODE_BITS(job->w_code), bytes = (s->count * bits + 7) / 8;
    for (int q = 0; q < s->outs; q++) {
        HLS_TRIPS(QD_PE)
        const qd_u64 row = (qd_u64)s->batch * (qd_u64)job->n + (qd_u64)(s->out + q);
        qd_run_copy(w, w_at + row * w_stride + (qd_u64)(s->k * bits / 8), bytes, weights[q], 0);
    }
}

static void read_columns(const matmul_job *job, const qd_turn *s, QD_BEATS_IN(x), QD_WORDS_IN(x_zero),
                         qd_u8 columns[QD_TOKENS][QD_BEATS][QD_BURST], qd_i32 zeros[QD_TOKENS]) {
    HLS_STAGE
    for (int t = 0; t < s->columns; t++) {
        HLS_TRIPS(QD_TOKENS)
        const qd_i32 row = s->batch * job->extent.columns + s->column + t;
        qd_run_copy(x, x_at + (qd_u64)row * x_stride + (qd_u64)s->k, s->count, columns[t], 0);
    }
    for (int t = 0; t < QD_TOKENS; t++) {
        HLS_PIPELINE
        const qd_i32 row = s->batch * job->extent.columns + s->column + qd_at_most(t, s->columns - 1);
        zeros[t] = qd_zero_read(x_zero, x_zero_at, job->x_zero, row, job->x_code);
    }
    (void)x_zero_stride;
}

static void write_rows(const matmul_job *job, const qd_turn *s, const qd_i32 results[QD_TOKENS * QD_PE],
                       QD_BYTES_OUT(y)) {
    HLS_STAGE
    const int bytes = QD_CODE_BITS(job->y.code) / 8, outs = s->last ? s->outs : 0;
    int n = 0;
    for (int t = 0; t < s->columns; t++) {
        HLS_TRIPS(QD_TOKENS)
        const qd_u64 row = y_at + (qd_u64)(s->batch * job->extent.columns + s->column + t) * y_stride;
        for (int q = 0; q < outs; q++) {
            HLS_TRIPS(QD_PE)
            qd_result_put(y, row + (qd_u64)(job->first + s->out + q) * (qd_u64)bytes, results[n++], bytes);
        }
    }
}

/* One step through all stages. `at` and `totals` are kept from one step to the next, each by one stage. */
static void step(const matmul_job *job, qd_turn *at, qd_i64 totals[QD_TOKENS][QD_PE], QD_BEATS_IN(w), QD_BEATS_IN(x),
                 QD_WORDS_IN(w_zero), QD_WORDS_IN(x_zero), QD_WORDS_IN(bias), QD_WORDS_IN(requant), QD_BYTES_OUT(y)) {
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
    read_weights(job, &for_weights, w, w_at, w_stride, weights);
    read_columns(job, &for_columns, x, x_at, x_stride, x_zero, x_zero_at, x_zero_stride, columns, zeros);
    qd_channels_read(&for_channels, job->first + for_channels.out, &job->shares, w_zero, w_zero_at, w_zero_stride, bias,
                     bias_at, bias_stride, requant, requant_at, requant_stride, channels);
    qd_array(&for_array, job->w_code, job->x_code, weights, columns, sums);
    qd_finish(&for_finish, &job->y, sums, zeros, channels, totals, results);
    write_rows(job, &for_write, results, y, y_at, y_stride);
}

void matmul_int(QD_BEATS_IN(w), QD_BEATS_IN(x), QD_WORDS_IN(w_zero), QD_WORDS_IN(x_zero), QD_WORDS_IN(bias),
                QD_WORDS_IN(requant), QD_BYTES_OUT(y), const int *params, const int rows) {
    HLS_IN(w, 16, 16)
    HLS_IN(x, 16, 16)
    HLS_IN(w_zero, 4, 4)
    HLS_IN(x_zero, 4, 4)
    HLS_IN(bias, 4, 4)
    HLS_IN(requant, 8, 4)
    HLS_OUT(y, 16, 16)
    HLS_READS(params, 32, 1)
    HLS_SCALAR(rows)
    HLS_CONTROL
    qd_i32 raw[QD_PARAMS_COUNT(qd_matmul_int_params)];
    HLS_PARTITION(raw, 1)
    qd_params_read(params, QD_PARAMS_COUNT(qd_matmul_int_params), raw);
#define P(member) QD_PARAM(raw, qd_matmul_int_params, member)
    const matmul_job job = {{P(batched) ? rows : 1, P(batched) ? P(m) : rows * P(m), P(count), P(k)},
                            P(first),
                            P(n),
                            QD_W_CODE(P(w_code)),
                            P(x_code),
                            P(x_zero),
                            {QD_W_CODE(P(w_code)), P(w_zero), P(bias), P(y.requant)},
                            QD_OUTPUT_OF(raw, qd_matmul_int_params)};
#undef P
    qd_turn at = {0, 0, 0, 0, 0, 0, 0, 0};
    qd_i64 totals[QD_TOKENS][QD_PE];
    const qd_u64 steps = qd_steps(&job.extent);
    for (qd_u64 n = 0; n < steps; n++) {
        HLS_OVERLAP
        HLS_TRIPS(1024)
        step(&job, &at, totals, w, w_at, w_stride, x, x_at, x_stride, w_zero, w_zero_at, w_zero_stride, x_zero,
             x_zero_at, x_zero_stride, bias, bias_at, bias_stride, requant, requant_at, requant_stride, y, y_at,
             y_stride);
    }
}
