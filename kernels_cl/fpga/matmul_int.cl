/* MATMUL_INT as a pipeline, see turns.h. Columns of x are its rows.
 *
 *   w [count, K], or [rows, N, K] when each batch has its own; output channels first … first + count - 1
 *   x [rows, M, K]; w_zero, x_zero, bias, requant as in qdot_ops.def; y [rows, M, N] */
#ifndef QD_UNIT
#define QD_UNIT matmul_int
#endif
#include "fpga/integers.h"

typedef struct unit {
    __global const uchar *w, *x;
    __global uchar *y;
    ulong w_stride, x_stride, y_stride;
    int together; /* rows of x in a batch */
    qd_matmul_int_params p;
    ending end;
} unit;

static inline weight_word read_weights(const unit *u, const turn *s, const int i) {
    weight_word word;
#pragma unroll
    for (int q = 0; q < QD_PE; q++) {
        const ulong row = (ulong)s->batch * u->p.n + s->out + min(q, s->outs - 1);
#pragma unroll
        for (int l = 0; l < QD_LANES; l++) {
            word.row[q][l] =
                read_codes(u->w + row * u->w_stride, (s->word + i) * QD_VEC + 16 * l, u->p.k, u->p.w_code);
        }
    }
    return word;
}

static inline void read_column(const unit *u, const turn *s, const int t, const int i QD_JOINTS) {
    const ulong row = (ulong)s->batch * u->together + s->column + t;
    column_word word;
#pragma unroll
    for (int l = 0; l < QD_LANES; l++)
        word.lane[l] = read_codes(u->x + row * u->x_stride, (s->word + i) * QD_VEC + 16 * l, u->p.k, u->p.x_code);
    QD_PUT(columns, word);
}

static inline void finish(const unit *u, const turn *s, const bool last, totals *sums QD_JOINTS) {
    finish_turn(s, last, u->p.first + s->out, s->batch * u->together + s->column, sums, &u->end QD_JOINED);
}

static inline void write(const unit *u, const turn *s QD_JOINTS) {
    for (int t = 0; t < s->columns; t++) {
        const result_word result = QD_GET(results);
        __global uchar *row = u->y + ((ulong)s->batch * u->together + s->column + t) * u->y_stride;
        for (int q = 0; q < s->outs; q++)
            qd_put_code(row, u->p.first + s->out + q, u->p.y.code, result.of[q]);
    }
}

#define ARGUMENTS                                                                             \
    QD_IN(w), QD_IN(x), QD_IN(w_zero), QD_IN(x_zero), QD_IN(bias), QD_IN(requant), QD_OUT(y), \
        __global const int *params, const int rows
#define OPEN                                                                                                        \
    const qd_matmul_int_params p = *(__global const qd_matmul_int_params *)params;                                  \
    const int together = p.batched ? p.m : rows * p.m;                                                              \
    const ending end = {QD_ROW(uchar, w_zero, 0), QD_ROW(uchar, x_zero, 0), QD_ROW(uchar, requant, 0),              \
                        p.bias == QD_ABSENT ? 0 : QD_ROW(int, bias, 0), p.w_zero, p.x_zero, p.w_code, p.x_code, p.k, \
                        true, p.y};                                                                                 \
    const unit u = {QD_ROW(uchar, w, 0), QD_ROW(uchar, x, 0), QD_ROW_OUT(uchar, y, 0), w_stride, x_stride, y_stride, \
                    together, p, end};                                                                              \
    const shape all = {p.batched ? rows : 1, together, p.count, (p.k + QD_VEC - 1) / QD_VEC}
#include "fpga/unit.h"
