/* The tops: one function for each unit, with the name and the order of arguments of the kernel in kernels_cl/fpga. An
 * operand that is absent may be anything; it is not read. `params` points at the operator's struct of qdot_params.h. */
#ifndef QD_TOPS_H
#define QD_TOPS_H

#include "ports.h"

/** MATMUL_INT (qdot_ops.def), for w of i8, u8, i4, u4 and x of i8, u8. */
void matmul_int(QD_BEATS_IN(w), QD_BEATS_IN(x), QD_WORDS_IN(w_zero), QD_WORDS_IN(x_zero), QD_WORDS_IN(bias),
                QD_WORDS_IN(requant), QD_BYTES_OUT(y), const int *params, const int rows);
/** CONV_INT, for w and x of i8, u8. */
void conv_int(QD_BEATS_IN(w), QD_BEATS_IN(x), QD_WORDS_IN(w_zero), QD_WORDS_IN(x_zero), QD_WORDS_IN(bias),
              QD_WORDS_IN(requant), QD_BYTES_OUT(y), const int *params, const int rows);

/** MATMUL of weights of one block format (-DQD_W_Q8_0, -DQD_W_Q4_0 or -DQD_W_Q4_1) by A8: w [count, K], rows as in a
 * file; addend [rows, N], or one row for all (stride 0), where has_addend is not 0; y [rows, N]. */
void matmul(const qd_beat *w, QD_BEATS_IN(x), QD_WORDS_IN(addend), QD_BYTES_OUT(y), const int has_addend,
            const int first, const int count, const int K, const int rows);

/** TABLE. */
void table(QD_BEATS_IN(x), QD_BEATS_IN(table), QD_BYTES_OUT(y), const int *params, const int rows);

#endif
