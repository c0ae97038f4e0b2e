/* MATMUL_INT as a pipeline of stages (pipeline.h). Columns of x are its rows.
 *
 *   w [count, K], or [rows, N, K] when each batch has its own; output channels first … first + count - 1
 *   x [rows, M, K]; w_zero, x_zero, bias, requant as in qdot_ops.def; y [rows, M, N] */
#define QD_JOB_OF_UNIT
#include "pipeline.h"
#include "tops.h"

static void columns_read(const qd_job *job, const qd_turn *s, QD_BEATS_IN(x), QD_WORDS_IN(x_zero),
                         qd_u8 columns[QD_TOKENS][QD_BEATS][QD_BURST], qd_i32 zeros[QD_TOKENS]) {
    HLS_STAGE
    const qd_i32 first = s->batch * job->extent.columns + s->column;
    for (int t = 0; t < s->columns; t++) {
        HLS_TRIPS(QD_TOKENS)
        qd_run_copy(x, x_at + (qd_u64)(first + t) * x_stride + (qd_u64)s->k, s->count, columns[t], 0);
    }
    for (int t = 0; t < QD_TOKENS; t++) {
        HLS_PIPELINE
        zeros[t] = qd_zero_read(x_zero, x_zero_at, job->x_zero, first + qd_at_most(t, s->columns - 1), job->x_code);
    }
    (void)x_zero_stride;
}

static void results_write(const qd_job *job, const qd_turn *s, const qd_i32 results[QD_TOKENS * QD_PE],
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

void matmul_int(QD_OPERANDS_OF_TOP, const int *params, const int rows) {
    QD_PORTS_OF_TOP
    qd_i32 raw[QD_PARAMS_COUNT(qd_matmul_int_params)];
    HLS_PARTITION(raw, 1)
    qd_params_read(params, QD_PARAMS_COUNT(qd_matmul_int_params), raw);
#define P(member) QD_PARAM(raw, qd_matmul_int_params, member)
    const qd_job job = {{P(batched) ? rows : 1, 1, P(batched) ? P(m) : rows * P(m), P(count), P(k)},
                        P(n),
                        P(first),
                        QD_W_CODE(P(w_code)),
                        P(x_code),
                        P(x_zero),
                        {QD_W_CODE(P(w_code)), P(w_zero), P(bias), P(y.requant)},
                        QD_OUTPUT_OF(raw, qd_matmul_int_params)};
#undef P
    pipeline(&job, QD_OPERANDS_PASSED);
}
