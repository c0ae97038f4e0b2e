/* The operators that the plug-in knows: rows of ops.def. */
#ifndef QDOT_ORT_OPS_H
#define QDOT_ORT_OPS_H

#include "build.h"

/** Ended by a row without a name. */
extern const qep_op qep_ops[];

#define QEP_OP(domain, name, first, last, kind, match, lower)    \
    bool qep_match_##match(qep_match *m, int node, qep_unit *u); \
    qd_status qep_lower_##lower(qep_build *b, const qep_unit *u);
#include "ops.def"

/* ---- What several of them share ----------------------------------------------------------------------------- */

/** The table of multipliers x_scale · w_scale / y_scale as an operand; w_scale is a value, or -1 for 1. */
qd_status qep_multipliers(qep_build *b, const qep_unit *u, int slot, float x_scale, int w_scale, float y_scale,
                          qd_tensor **out);
/** 8-bit codes of a result, or i32 where the unit does not quantize it. */
qd_format qep_result_format(const qep_build *b, const qep_unit *u);
/** Refuses a bias (int32 codes behind a DequantizeLinear) that is no constant, or whose scale is not that of the sums
 * of x · w. */
bool qep_bias_fits(qep_match *m, const qep_operand *x, const qep_operand *w, const qep_operand *bias);
/** [rows, cols] to [cols, rows], of bytes. */
void qep_transpose8(const int8_t *from, int64_t rows, int64_t cols, int8_t *to);
/** Shape that two broadcast to, as NumPy does; false when they do not go together. */
bool qep_broadcast(const qep_shape *a, const qep_shape *b, qep_shape *out);
/** An axis that may count from the end; -1 when it is none. */
int qep_axis(int64_t axis, int rank);
/** Dimensions before, at and after an axis. */
void qep_around(const qep_shape *s, int axis, int64_t out[3]);
/** Appends TABLE with f from the meaning of x's codes to that of y's, both of 8 bits, in any shape. */
qd_status qep_apply(qep_build *b, const qep_unit *u, int slot, qd_function f, double alpha, qd_tensor *in, qd_quant x,
                    qd_tensor *out, qd_quant y);

#endif
