/* The oracle: every operator in the shortest readable C, from its definition. Shapes are in qdot_ops.def. */
#ifndef QDOT_REF_H
#define QDOT_REF_H

#include "core/status.h"
#include "qdot/qdot_backend.h"
#include "qdot/qdot_num.h"

/** One function for each operator, qd_ref_NAME: computes `rows` rows of node n on host operands. */
#define QD_OP(ID, name, min_in, max_in, n_out, rules, operands) \
    qd_status qd_ref_##name(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows);
#include "qdot/qdot_ops.def"

/** Row r of an operand. */
static inline void *qd_row(qd_operand o, int64_t r) {
    return (char *)o.data + o.stride * (size_t)r;
}

/** Code i of a row of codes (QD_CODE of qdot_params.h), packed or not. */
int32_t qd_ref_code(const void *row, int64_t i, int32_t code);
/** Stores code i; packed neighbours stay as they are. */
void qd_ref_put_code(void *row, int64_t i, int32_t code, int32_t value);
/** Zero point i of an operand that is absent (0), shared or one each; limited to the codes that there are. */
int32_t qd_ref_zero(const qd_operand *zeros, int32_t share, int64_t i, int32_t code);
/** The end of an integer operator: a sum, with its bias, as a code of y. `requant`: the operand; `channel`: its row. */
int32_t qd_ref_finish(const qd_output *y, const qd_operand *requant, int64_t channel, int32_t sum);
/** ADD_INT: a + b, which are without their zero points, in the scale of y, as a whole number. */
int32_t qd_ref_sum(const qd_binary_params *p, int32_t a, int32_t b);

/** Index (a, b, c) of the first three dimensions of an operand that may have any strides. */
void *qd_ref_at(qd_operand o, const qd_strides *s, int64_t a, int64_t b, int64_t c);
/** Element k of a row of a QD_NUMBERS_… format; elements, or blocks, are `step` bytes apart. */
float qd_ref_value(const void *row, int32_t format, int64_t step, int64_t k);

/** Sum of 16 partial sums, by the fixed tree: lane i takes lane i+8, then i+4, i+2, i+1. */
float qd_ref_tree(float p[QD_LANES]);

/** Writes a row of floats as the format of t (F32 or A8). */
qd_status qd_ref_put_row(const qd_tensor *t, const float *row, void *dst);

#endif
