#include "ref/ref.h"
#define TODO(name)                                                                                           \
    qd_status qd_ref_##name(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) { \
        (void)n, (void)in, (void)out, (void)rows;                                                            \
        return qd_fail(QD_ERR_UNSUPPORTED, #name " is to be written");                                       \
    }

TODO(add_int)
    TODO(mul_int) TODO(concat) TODO(pad) TODO(table) TODO(softmax_int)
