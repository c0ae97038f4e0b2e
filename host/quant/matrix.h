/* What other methods of quantizing take from matrix.c. */
#ifndef QDOT_QUANT_MATRIX_H
#define QDOT_QUANT_MATRIX_H

#include "qdot/qdot.h"

/** The loss of weights x, rows × cols, that are stored as `to` in dst and side. QD_ERR_ARGUMENT: what is stored is not
 *  finite; the message has row and column. */
qd_status qd_matrix_loss(const float *x, int64_t rows, int64_t cols, const qd_storage *to, void *dst, float *side,
                         int threads, qd_loss *loss);

/** True where each row is quantized by itself, and `side` does not depend on the weights. */
bool qd_rows_are_apart(const qd_storage *s);

#endif
