/* The operators that the plug-in knows: rows of ops.def. */
#ifndef QDOT_ORT_OPS_H
#define QDOT_ORT_OPS_H

#include "build.h"

/** Ended by a row without a name. */
extern const qep_op qep_ops[];

/* Several rows may name the same functions. */
#define QEP_OP(domain, name, first, last, kind, match, lower)    \
    bool qep_match_##match(qep_match *m, int node, qep_unit *u); \
    qd_status qep_lower_##lower(qep_build *b, const qep_unit *u);
#include "ops.def"

/* ---- What several of them share ----------------------------------------------------------------------------- */

/** Operands of a QLinear operator with one input: x, its scale and zero point, then those of the result; all of 8 bits,
 * each with one scale. */
bool qep_one_qlinear(qep_match *m, int node, qep_unit *u);
/** Whether a constant can be the scale of w, or the bias, of a unit with operands x, w, bias. */
typedef bool qep_fits(const qep_graph *g, const qep_unit *u, int value, bool bias);
/** Takes the nodes that make floats of a unit's sums into it, where there are such: Cast, Mul and Add (chain.c). False
 * when there is no memory. */
bool qep_take_floats(qep_match *m, qep_unit *u, qep_fits *fits);
/** The table of multipliers x_scale · w_scale / y_scale as an operand; w_scale is a value, or -1 for 1. */
qd_status qep_multipliers(qep_build *b, const qep_unit *u, int slot, float x_scale, int w_scale, float y_scale,
                          qd_tensor **out);
/** Refuses constant scales of operands 0 and 1 and of the result, of which qep_multipliers can make no table; `factor`
 * goes with that of operand 0. */
bool qep_check_multipliers(qep_match *m, const qep_unit *u, float factor);
/** Refuses constant scales of an operand and of the result between which sums of two codes would overflow. */
bool qep_check_ratio(qep_match *m, const qep_unit *u, const qep_operand *x);
/** 8-bit codes of a result, or i32 where the unit does not quantize it. */
qd_format qep_result_format(const qep_build *b, const qep_unit *u);
/** Refuses a bias (int32 codes behind a DequantizeLinear) that is no constant, or whose scale is not that of the sums
 * of x · w. */
bool qep_bias_fits(qep_match *m, const qep_operand *x, const qep_operand *w, const qep_operand *bias);
/** Whether a value is [columns], or that behind dimensions of 1. */
bool qep_each_column(const qep_graph *g, int value, int64_t columns);
/** [rows, cols] to [cols, rows], of bytes. */
void qep_transpose8(const int8_t *from, int64_t rows, int64_t cols, int8_t *to);
/** Shape that two broadcast to, as NumPy does; false when they do not go together. */
bool qep_broadcast(const qep_shape *a, const qep_shape *b, qep_shape *out);
/** An axis that may count from the end; -1 when it is none. */
int qep_axis(int64_t axis, int rank);
/** Dimensions before, at and after an axis. */
void qep_around(const qep_shape *s, int axis, int64_t out[3]);
/** A window that moves over an image [R, C, H?, W], or [R, H?, W, C]. */
typedef struct qep_images {
    int dims; /* of the image: 1 or 2 */
    qd_window window;
    int64_t in[2], kernel[2], out[2]; /* [0] is 1 where there is one dimension */
} qep_images;
/** Refuses attributes of a window that the library has not. */
bool qep_check_window(qep_match *m, const qep_node *n);
/** Reads strides, dilations, pads, auto_pad and ceil_mode for an image x; kernel has as many sizes as the image has
 * dimensions. */
qd_status qep_read_window(qep_build *b, const qep_node *n, const qep_shape *x, bool nchw, const int64_t *kernel,
                          qep_images *out);
/** Sizes that the operands of a broadcast have in common, in as few dimensions as can be; the ranks are the same then.
 * False when they are more than the library takes. */
bool qep_fold(qep_shape *a, qep_shape *b, qep_shape *y);
/** A copy of a value, which unit.windows names, in another order: dimension i of the copy is dimension order[i] of a
 *  value of up to QD_MAX_RANK dimensions, or (-1) repeats. */
qd_status qep_permute(qep_build *b, int value, const qep_shape *from, int rank, const int *order, const int64_t *dims,
                      qd_tensor *out);
/** Appends TABLE with f from the meaning of x's codes to that of y's, both of 8 bits, in any shape. */
qd_status qep_apply(qep_build *b, const qep_unit *u, int slot, qd_function f, double alpha, qd_tensor *in, qd_quant x,
                    qd_tensor *out, qd_quant y);

#endif
