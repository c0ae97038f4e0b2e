#include <stdio.h>
#include <string.h>

#include "core/context.h"
#include "core/verify.h"

qd_status qd_case_run(qd_context *c, qd_case *x, char *variant, size_t variant_size, bool *different, char *first,
                      size_t first_size) {
    qd_status status = QD_OK;
    QD_TRY(qd_case_upload(x, c->backend, c->device));
    QD_TRY(qd_node_prepare(c, &x->node));
    snprintf(variant, variant_size, "%s", x->node.variant);
    if (c->backend->begin) QD_TRY(c->backend->begin(c->device));
    QD_TRY(qd_node_enqueue(c, &x->node, x->node.max_rows, NULL, 0));
    if (c->backend->submit) QD_TRY(c->backend->submit(c->device));
    QD_TRY(qd_case_compare(x, c->backend, c->device, different, first, first_size));
error:
    qd_node_retire(c, &x->node);
    qd_case_unload(x, c->backend, c->device);
    return status;
}

void qd_formats_describe(const qd_format formats[], char *text, size_t capacity) {
    size_t n = 0;
    text[0] = 0;
    for (int i = 0; i < QD_MAX_IN + QD_MAX_OUT && n < capacity; i++) {
        if (formats[i] == QD_FORMAT_COUNT || (i < QD_MAX_IN && i > 0 && formats[i] == QD_FORMAT_I32)) continue;
        if (i == QD_MAX_IN) n += (size_t)snprintf(text + n, capacity - n, "-> ");
        if (n < capacity) n += (size_t)snprintf(text + n, capacity - n, "%s ", qd_format_get(formats[i])->name);
    }
    if (n > 0 && n < capacity) text[n - 1] = 0;
}

qd_status qd_verify(qd_context *c, uint64_t seed, int cases, bool (*row)(void *user, const qd_verify_row *r),
                    void *user, int *different) {
    if (!c || !row || !different || cases < 1) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_verify: needs a context, a row function, a result and at least one case");
    }
    int total = 0;
    for (int op = 0; op < QD_OP_COUNT; op++) {
        qd_format formats[QD_MAX_IN + QD_MAX_OUT];
        for (int combination = 0; qd_case_formats((qd_op)op, combination, formats); combination++) {
            qd_verify_row r = {.op = qd_op_get((qd_op)op)->name};
            qd_formats_describe(formats, r.formats, sizeof r.formats);
            for (int i = 0; i < cases; i++) {
                /* One case in eight is large, one in 32 larger than what kernels take at once. */
                const int size = i % 32 == 31 ? 10 : i % 8 == 7 ? 6 : 1;
                qd_case x;
                qd_status status = qd_case_make((qd_op)op, formats, seed + (uint64_t)i, size, NULL, 0, &x);
                if (status) return status;
                bool differs = false;
                char first[sizeof r.first];
                status = qd_case_run(c, &x, r.variant, sizeof r.variant, &differs, first, sizeof first);
                qd_case_free(&x);
                r.cases++;
                if (differs && !r.different++) memcpy(r.first, first, sizeof first);
                if (status) return status;
            }
            total += r.different;
            if (!row(user, &r)) return qd_fail(QD_ERR_CANCELLED, "stopped on request");
        }
    }
    *different = total;
    return QD_OK;
}
