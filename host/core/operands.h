/* The operand column of qdot_ops.def as data: shape checks and random test cases are both made from it. */
#ifndef QDOT_CORE_OPERANDS_H
#define QDOT_CORE_OPERANDS_H

#include "qdot/qdot_backend.h"

/** One dimension: a symbol, or a product of two ("H*D"). Symbols are capital letters, or 1 for itself; b is 0 when
 *  there is no product. */
typedef struct qd_dim_spec {
    char a, b;
} qd_dim_spec;

typedef struct qd_operand_spec {
    char name[12];
    bool optional;
    uint32_t formats; /* bit mask over qd_format */
    int rank;
    qd_dim_spec dim[QD_MAX_RANK];
} qd_operand_spec;

typedef struct qd_op_spec {
    int n_in, n_out;
    qd_operand_spec in[QD_MAX_IN], out[QD_MAX_OUT];
} qd_op_spec;

/** Values of the symbols, by letter; 0 is unknown. */
typedef struct qd_symbols {
    int64_t of[26];
} qd_symbols;

void qd_op_spec_read(qd_op op, qd_op_spec *out);
/** Sets the symbols that the attributes fix (H, G, D). */
void qd_symbols_from_attrs(qd_op op, const qd_attrs *attrs, qd_symbols *s);
/** Value of a dimension; 0 when a symbol is unknown. */
int64_t qd_dim_value(qd_dim_spec d, const qd_symbols *s);
/** What the operand list cannot say: which formats go together, which multiples a kernel may rely on. */
qd_status qd_op_check(qd_op op, const qd_attrs *attrs, const qd_symbols *s, const qd_format in[],
                      const qd_format out[]);

#endif
