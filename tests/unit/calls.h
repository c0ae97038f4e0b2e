/* Calls of any operator that fit, made by qd_case_make: for tests to spoil, to run elsewhere, or to cut. */
#ifndef QDOT_TEST_CALLS_H
#define QDOT_TEST_CALLS_H

#include "core/operands.h"
#include "core/rules/rules.h"
#include "unit/devices.h"

enum { OPERANDS = QD_OPERANDS };

/** Operands are numbered as in qd_operand_at: inputs, then outputs from QD_MAX_IN on. */
typedef struct call {
    qd_op op;
    qd_op_spec spec;
    qd_attrs attrs;
    int64_t rows; /* of a run */
    bool given[OPERANDS];
    qd_tensor_desc desc[OPERANDS];
    unsigned char *data[OPERANDS]; /* dense, before the run; owned */
    unsigned char *want[OPERANDS]; /* outputs after it; owned */
    size_t bytes[OPERANDS];        /* of data and want */
} call;

/** Problem `seed` of an operator; fails the test when it cannot be made. */
void make_call(call *x, qd_op op, const qd_format formats[], uint64_t seed, const qd_choice fixed[], int n_fixed);
void free_call(call *x);

/** Walks over calls of an operator: each combination of formats with several seeds, and on until every optional operand
 *  was given in one call and absent in another. */
typedef struct call_walk {
    qd_op op;
    const qd_choice *fixed; /* or NULL */
    int n_fixed;
    int least_calls; /* 0: a few */
    int combination, calls;
    uint64_t seed;
    unsigned given, absent; /* bit masks of operands */
    call call;
} call_walk;

/** The next call, or NULL; the one before is freed. */
call *next_call(call_walk *w);

/** The row of an operand in qdot_ops.def, NULL where there is none. */
static inline const qd_operand_spec *operand(const call *x, int i) {
    return qd_operand_at(&x->spec, i);
}

/** True when the operator's row says all about the shapes of this call: no operand has [...]. */
bool column_says_all(const call *x);

/** The dimension of the operator's row that the first one of a tensor stands for: 'R', …; 0 for [...], numbers, and
 *  ranks that do not fit. */
char first_symbol(const call *x, int i);

/** The operand that does not fit the shapes of those before it and the attributes, or -1: read from the operator's row,
 *  whatever its rules say. Dimensions are those of a call without QD_ROWS. */
int misfit(const call *x);

#endif
