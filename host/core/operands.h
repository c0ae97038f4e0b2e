/* The operand column of qdot_ops.def as data: shape checks and random test cases are both made from it. */
#ifndef QDOT_CORE_OPERANDS_H
#define QDOT_CORE_OPERANDS_H

#include "qdot/qdot_backend.h"

enum { QD_OPERANDS = QD_MAX_IN + QD_MAX_OUT };

/** One dimension: a number, a symbol (a capital letter), or a product of two ("H*D"). b is 0 when there is no product,
 * a when there is no symbol. */
typedef struct qd_dim_spec {
    char a, b;
    int64_t number;
    bool may_lack;   /* "M?" */
    bool may_be_one; /* "N!" */
} qd_dim_spec;

typedef struct qd_operand_spec {
    char name[12];
    bool optional;
    bool any_shape;   /* "[...]": rank 1 … QD_MAX_RANK; the rules know more */
    uint64_t formats; /* bit mask over qd_format */
    bool same_format; /* ":=": as the first input */
    int rank;
    qd_dim_spec dim[QD_MAX_RANK];
} qd_operand_spec;

typedef struct qd_op_spec {
    int n_in, n_out;
    qd_operand_spec in[QD_MAX_IN], out[QD_MAX_OUT];
} qd_op_spec;

#define QD_UNKNOWN INT64_MIN

/** Values of the symbols, by letter, or QD_UNKNOWN. */
typedef struct qd_symbols {
    int64_t of[26];
} qd_symbols;

void qd_op_spec_read(qd_op op, qd_op_spec *out);
/** Operand i of QD_OPERANDS: inputs, then outputs from QD_MAX_IN on; NULL where there is none. */
const qd_operand_spec *qd_operand_at(const qd_op_spec *spec, int i);
void qd_symbols_clear(qd_symbols *s);
/** Value of a dimension; QD_UNKNOWN when a symbol is. */
int64_t qd_dim_value(qd_dim_spec d, const qd_symbols *s);

#endif
