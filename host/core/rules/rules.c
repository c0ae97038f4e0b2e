#include "core/rules/rules.h"

#define QD_OP(ID, name, min_in, max_in, n_out, rules, operands) extern const qd_op_rules qd_rules_##rules;
#include "qdot/qdot_ops.def"

static const qd_op_rules *const all[QD_OP_COUNT] = {
#define QD_OP(ID, name, min_in, max_in, n_out, rules, operands) &qd_rules_##rules,
#include "qdot/qdot_ops.def"
};

const qd_op_rules *qd_rules_of(qd_op op) {
    return all[op];
}
