/* Other values in the place of a matrix: for who asks what one matrix does to the whole model. */
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "model/gguf.h"
#include "model/model.h"

typedef struct qd_replaced {
    const void *own; /* the file's bytes */
    void *now;       /* owned */
    struct qd_replaced *next;
} qd_replaced;

void qd_model_drop_replaced(qd_model *m) {
    while (m->replaced) {
        qd_replaced *r = m->replaced;
        m->replaced = r->next;
        free(r->now);
        free(r);
    }
}

/* A matrix may be in several constants: by itself, in a stack. */
static qd_status change(qd_model *m, const void *from, const void *to) {
    qd_status status = QD_OK;
    for (int i = 0; i < m->n_constants; i++)
        QD_TRY(qd_constant_replace(m->constants[i], from, to));
error:
    return status;
}

/* The file's bytes again. */
static qd_status restore(qd_model *m, const void *own) {
    for (qd_replaced **p = &m->replaced; *p; p = &(*p)->next) {
        qd_replaced *r = *p;
        if (r->own != own) continue;
        const qd_status status = change(m, r->now, own);
        *p = r->next;
        free(r->now);
        free(r);
        return status;
    }
    return QD_OK;
}

qd_status qd_model_replace(qd_model *m, const char *matrix, const float *values) {
    qd_gguf_tensor t;
    qd_status status = QD_OK;
    qd_replaced *r = NULL;
    if (!m || !matrix) return qd_fail(QD_ERR_ARGUMENT, "qd_model_replace: model and name must not be NULL");
    if (qd_gguf_tensor_find(m->file, matrix, &t) || t.desc.rank != 2)
        return qd_fail(QD_ERR_ARGUMENT, "the model has no matrix %s", matrix);
    const qd_format f = t.desc.format;
    if (f != QD_FORMAT_F32 && f != QD_FORMAT_F16 && f != QD_FORMAT_BF16) {
        return qd_fail(QD_ERR_UNSUPPORTED,
                       "%s is %s, and has no room for other values; take the model in f16, bf16 or f32 (qdot quantize "
                       "IN OUT --format f16)",
                       matrix, f == QD_FORMAT_COUNT ? "of an unknown type" : qd_format_get(f)->name);
    }
    QD_TRY(restore(m, t.data));
    if (!values) return QD_OK;
    r = qd_alloc_zero(1, sizeof *r);
    if (!r) return QD_ERR_MEMORY;
    r->own = t.data;
    r->now = qd_alloc(t.bytes);
    if (!r->now) {
        status = QD_ERR_MEMORY;
        goto error;
    }
    QD_TRY(qd_quantize(f, values, t.desc.shape[0], t.desc.shape[1], r->now));
    r->next = m->replaced; /* now: it must live on, wherever the change stops */
    m->replaced = r;
    return change(m, t.data, r->now);
error:
    if (r) free(r->now);
    free(r);
    return status;
}
