/* One operator as a plan, with the bytes of its operands: what it gives, and what it refuses. */
#ifndef QDOT_TEST_ONE_OP_H
#define QDOT_TEST_ONE_OP_H

#include "unit/devices.h"

/** An operator's call. Operands are absent where `rank` is 0; data NULL: zeros. */
typedef struct one_op {
    qd_op op;
    qd_attrs attrs;
    qd_tensor_desc in[QD_MAX_IN], out;
    const void *data[QD_MAX_IN];
} one_op;

/** Makes the plan and runs it on an output of bytes 0x5a; reads the output back whatever happened. */
static inline qd_status one_op_run(qd_context *c, const one_op *x, void *result) {
    qd_tensor *in[QD_MAX_IN] = {0}, *out = NULL;
    const int max_in = qd_op_get(x->op)->max_in;
    for (int i = 0; i < max_in; i++) {
        if (!x->in[i].rank) continue;
        ck_ok(qd_tensor_create(c, &x->in[i], &in[i]));
        if (x->data[i]) ck_ok(qd_tensor_write(in[i], 0, x->data[i], qd_desc_bytes(&x->in[i])));
    }
    const size_t bytes = qd_desc_bytes(&x->out);
    memset(result, 0x5a, bytes);
    ck_ok(qd_tensor_create(c, &x->out, &out));
    ck_ok(qd_tensor_write(out, 0, result, bytes));
    qd_plan *plan = NULL;
    const qd_status status = qd_plan_create(c, x->op, &x->attrs, in, max_in, &out, 1, &plan);
    if (!status) ck_ok(qd_plan_run(plan));
    /* Wrong parameters would be no kernel's failure, but that of all: only the reference were left. */
    if (!status && bytes && strcmp(qd_context_device(c)->id, "ref") != 0)
        ck_assert_msg(strcmp(qd_plan_variant(plan), "reference") != 0, "%s: no kernel is proven",
                      qd_op_get(x->op)->name);
    ck_ok(qd_tensor_read(out, 0, result, bytes));
    qd_plan_free(plan);
    for (int i = 0; i < max_in; i++)
        qd_tensor_free(in[i]);
    qd_tensor_free(out);
    return status;
}

/** The result must be these bytes. */
static inline void one_op_gives(qd_context *c, const one_op *x, const void *want, const char *what) {
    const size_t bytes = qd_desc_bytes(&x->out);
    unsigned char *got = malloc(bytes + 1);
    ck_assert_ptr_nonnull(got);
    const qd_status status = one_op_run(c, x, got);
    ck_assert_msg(status == QD_OK, "%s: %s", what, qd_last_message());
    for (size_t i = 0; i < bytes; i++)
        ck_assert_msg(got[i] == ((const unsigned char *)want)[i], "%s: byte %zu is %d, not %d", what, i, got[i],
                      ((const unsigned char *)want)[i]);
    free(got);
}

/** Refused with a message that contains `part`; the output keeps its bytes. */
static inline void one_op_refused(qd_context *c, const one_op *x, qd_status want, const char *part) {
    const size_t bytes = qd_desc_bytes(&x->out);
    unsigned char *got = malloc(bytes + 1);
    ck_assert_ptr_nonnull(got);
    ck_fails(one_op_run(c, x, got), want, part);
    for (size_t i = 0; i < bytes; i++)
        ck_assert_int_eq(got[i], 0x5a);
    free(got);
}

#endif
