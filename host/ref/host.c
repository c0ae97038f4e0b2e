#include "ref/host.h"

#include <stdlib.h>
#include <string.h>

/* ---- Memory ------------------------------------------------------------------------------------------------- */

qd_status qd_host_open(const qd_context_options *options, qd_device_info *info, qd_host *out) {
    return qd_backend_ref.open("ref", options, info, &out->memory);
}

void qd_host_close(qd_host *h) {
    if (h->memory) qd_backend_ref.close(h->memory);
}

static void *memory_of(void *device) {
    return ((qd_host *)device)->memory;
}

qd_status qd_host_alloc(void *device, size_t bytes, qd_buffer **out) {
    return qd_backend_ref.alloc(memory_of(device), bytes, out);
}

void qd_host_release(void *device, qd_buffer *b) {
    qd_backend_ref.release(memory_of(device), b);
}

qd_status qd_host_write(void *device, qd_buffer *b, size_t offset, const void *src, size_t bytes) {
    return qd_backend_ref.write(memory_of(device), b, offset, src, bytes);
}

qd_status qd_host_read(void *device, qd_buffer *b, size_t offset, void *dst, size_t bytes) {
    return qd_backend_ref.read(memory_of(device), b, offset, dst, bytes);
}

qd_status qd_host_finish(void *device) {
    (void)device;
    return QD_OK;
}

void qd_host_memory(void *device, qd_memory_info *out) {
    qd_backend_ref.memory(memory_of(device), out);
}

/* ---- Operands ----------------------------------------------------------------------------------------------- */

qd_status qd_host_takes_rows(const qd_node *n) {
    for (int i = 0; i < QD_MAX_IN + QD_MAX_OUT; i++) {
        const qd_tensor *t = i < QD_MAX_IN ? n->in[i] : n->out[i - QD_MAX_IN];
        if (t && (t->window || t->strided))
            return qd_fail(QD_ERR_UNSUPPORTED, "operands of the unit are rows one after the other");
    }
    return QD_OK;
}

size_t qd_host_extent(const qd_tensor *t, int64_t rows) {
    qd_tensor_desc d = t->desc;
    if (t->window || t->strided) return t->extent;
    if (d.shape[0] == QD_ROWS) d.shape[0] = rows;
    int64_t lines = 1;
    for (int i = 0; i + 1 < d.rank; i++)
        lines *= d.shape[i];
    d.shape[0] = d.shape[d.rank - 1];
    d.rank = 1;
    return lines ? (size_t)(lines - 1) * t->stride + qd_desc_bytes(&d) : 0;
}

/* Memory of whole beats for `bytes` bytes; *owned is to be freed. */
static void *take_memory(size_t bytes, void **owned) {
    *owned = qd_alloc(bytes + 2 * QD_HOST_BEAT);
    if (!*owned) return NULL;
    const uintptr_t at = ((uintptr_t)*owned + QD_HOST_BEAT - 1) / QD_HOST_BEAT * QD_HOST_BEAT;
    const size_t whole = (bytes + QD_HOST_BEAT - 1) / QD_HOST_BEAT * QD_HOST_BEAT;
    memset((char *)at + bytes, 0, whole - bytes);
    return (void *)at;
}

static qd_status take(qd_host *h, qd_tensor *t, int64_t rows, bool beats, qd_operand *o, void **owned) {
    const void *constant = NULL;
    *o = (qd_operand){NULL, 0};
    if (!t) return QD_OK;
    o->stride = t->stride;
    if (qd_is_constant(t)) {
        const qd_status status = qd_constant_bytes(t, &constant);
        o->data = (void *)(uintptr_t)constant; /* inputs are only read */
        if (status || !beats) return status;
    }
    const size_t bytes = qd_host_extent(t, rows);
    o->data = take_memory(bytes, owned);
    if (!o->data) return QD_ERR_MEMORY;
    if (!constant) return qd_host_read(h, t->buffer, t->offset, o->data, bytes);
    memcpy(o->data, constant, bytes);
    return QD_OK;
}

qd_status qd_host_take(qd_host *h, const qd_node *n, int64_t rows, bool beats, qd_host_operands *o) {
    qd_status status = QD_OK;
    memset(o, 0, sizeof *o);
    for (int i = 0; i < QD_MAX_IN; i++)
        QD_TRY(take(h, n->in[i], rows, beats, &o->in[i], &o->owned[i]));
    for (int i = 0; i < QD_MAX_OUT; i++)
        QD_TRY(take(h, n->out[i], rows, beats, &o->out[i], &o->owned[QD_MAX_IN + i]));
error:
    return status;
}

qd_status qd_host_give(qd_host *h, const qd_node *n, int64_t rows, const qd_host_operands *o) {
    qd_status status = QD_OK;
    for (int i = 0; i < QD_MAX_OUT && !status; i++) {
        const qd_tensor *t = n->out[i];
        if (t) status = qd_host_write(h, t->buffer, t->offset, o->out[i].data, qd_host_extent(t, rows));
    }
    return status;
}

void qd_host_free(qd_host_operands *o) {
    for (int i = 0; i < QD_MAX_IN + QD_MAX_OUT; i++)
        free(o->owned[i]);
}
