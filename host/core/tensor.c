#include <stdlib.h>
#include <string.h>

#include "core/context.h"

qd_tensor_desc qd_desc(qd_format f, int64_t d0, int64_t d1, int64_t d2, int64_t d3) {
    qd_tensor_desc d = {f, 0, {d0, d1, d2, d3}};
    while (d.rank < QD_MAX_RANK && d.shape[d.rank] != 0)
        d.rank++;
    return d;
}

/* Number of rows (runs of the last dimension) into *rows; false when it does not fit. */
static bool count_rows(const qd_tensor_desc *d, int64_t *rows) {
    int64_t n = 1;
    for (int i = 0; i + 1 < d->rank; i++) {
        if (d->shape[i] < 0 || __builtin_mul_overflow(n, d->shape[i], &n)) return false;
    }
    *rows = n;
    return true;
}

size_t qd_desc_bytes(const qd_tensor_desc *d) {
    if (!d || d->rank < 1 || d->rank > QD_MAX_RANK || !qd_format_get(d->format)) return 0;
    int64_t rows;
    if (!count_rows(d, &rows)) return 0;
    const size_t row = qd_format_row_bytes(d->format, d->shape[d->rank - 1]);
    size_t bytes;
    if (__builtin_mul_overflow(row, (size_t)rows, &bytes) || bytes > PTRDIFF_MAX) return 0;
    return bytes;
}

qd_status qd_tensor_new(qd_context *c, const qd_tensor_desc *d, qd_tensor **out) {
    if (!c || !d || !out)
        return qd_fail(QD_ERR_ARGUMENT, "a tensor needs a context, a desc and a place for the result");
    qd_tensor_desc sized = *d; /* with one row: none at all is valid, too */
    if (sized.rank > 0 && (sized.shape[0] == QD_ROWS || (sized.rank > 1 && sized.shape[0] == 0))) sized.shape[0] = 1;
    if (qd_desc_bytes(&sized) == 0) {
        const qd_format_info *f = qd_format_get(d->format);
        if (!f) return qd_fail(QD_ERR_ARGUMENT, "tensor: unknown format %d", (int)d->format);
        return qd_fail(QD_ERR_ARGUMENT,
                       "tensor: a %s tensor of rank %d has an invalid shape (dimensions must be positive, the last a "
                       "multiple of %d, the whole below 2^63 bytes)",
                       f->name, d->rank, f->kind == QD_KIND_BLOCKED ? f->block : 1);
    }
    qd_tensor *t = qd_alloc_zero(1, sizeof *t);
    if (!t) return QD_ERR_MEMORY;
    t->context = c;
    t->desc = *d;
    t->stride = qd_format_row_bytes(d->format, d->shape[d->rank - 1]);
    t->references = 1;
    *out = t;
    return QD_OK;
}

static qd_status check_result(qd_tensor *const *out) {
    return out ? QD_OK : qd_fail(QD_ERR_ARGUMENT, "a tensor needs a place for the result");
}

qd_status qd_tensor_create(qd_context *c, const qd_tensor_desc *d, qd_tensor **out) {
    qd_tensor *t = NULL;
    qd_status status = check_result(out);
    if (status) return status;
    QD_TRY(qd_tensor_new(c, d, &t));
    if (d->shape[0] == QD_ROWS) {
        status = qd_fail(QD_ERR_ARGUMENT, "tensor: QD_ROWS is only for tensors inside a graph");
        goto error;
    }
    const size_t bytes = qd_desc_bytes(d);
    QD_TRY(c->backend->alloc(c->device, bytes ? bytes : 1, &t->buffer));
    *out = t;
    return QD_OK;
error:
    free(t);
    return status;
}

qd_status qd_tensor_constant(qd_context *c, const qd_tensor_desc *d, const void *data, qd_tensor **out) {
    if (!data) return qd_fail(QD_ERR_ARGUMENT, "a constant needs data");
    qd_tensor *t = NULL;
    qd_status status = check_result(out);
    if (status) return status;
    QD_TRY(qd_tensor_new(c, d, &t));
    if (d->shape[0] == QD_ROWS || d->shape[0] == 0) {
        status = qd_fail(QD_ERR_ARGUMENT, "a constant cannot have QD_ROWS rows, or none");
        goto error;
    }
    t->constant = data;
    *out = t;
    return QD_OK;
error:
    free(t);
    return status;
}

qd_status qd_tensor_stack(qd_context *c, qd_tensor *const parts[], int n, qd_tensor **out) {
    if (!parts || n < 1) return qd_fail(QD_ERR_ARGUMENT, "a stack needs at least one constant");
    qd_tensor_desc d = {.rank = 2};
    for (int i = 0; i < n; i++) {
        const qd_tensor *p = parts[i];
        if (!p || !p->constant || p->pieces || p->desc.rank != 2) {
            return qd_fail(QD_ERR_ARGUMENT, "stack: part %d is no two-dimensional constant", i);
        }
        if (i && (p->desc.format != d.format || qd_columns(p) != d.shape[1])) {
            return qd_fail(QD_ERR_ARGUMENT, "stack: part %d has another format or number of columns", i);
        }
        d.format = p->desc.format;
        if (__builtin_add_overflow(d.shape[0], p->desc.shape[0], &d.shape[0])) {
            return qd_fail(QD_ERR_ARGUMENT, "stack: the parts have too many rows in all");
        }
        d.shape[1] = qd_columns(p);
    }
    qd_tensor *t = NULL;
    qd_status status = check_result(out);
    if (status) return status;
    QD_TRY(qd_tensor_new(c, &d, &t));
    t->pieces = qd_alloc((size_t)n * sizeof *t->pieces);
    if (!t->pieces) {
        status = QD_ERR_MEMORY;
        goto error;
    }
    t->n_pieces = n;
    for (int i = 0; i < n; i++)
        t->pieces[i] = (qd_piece){parts[i]->constant, parts[i]->desc.shape[0]};
    *out = t;
    return QD_OK;
error:
    free(t);
    return status;
}

qd_status qd_constant_bytes(qd_tensor *t, const void **out) {
    if (!t->constant) {
        unsigned char *all = qd_alloc(qd_desc_bytes(&t->desc));
        if (!all) return QD_ERR_MEMORY;
        unsigned char *p = all;
        for (int i = 0; i < t->n_pieces; i++) {
            const size_t bytes = (size_t)t->pieces[i].rows * t->stride;
            memcpy(p, t->pieces[i].data, bytes);
            p += bytes;
        }
        t->constant = all;
    }
    *out = t->constant;
    return QD_OK;
}

/* A view of all of t; the caller changes what is different. */
static qd_status new_view(qd_tensor *t, qd_tensor **out) {
    qd_tensor *base = t->base ? t->base : t;
    qd_tensor *v = qd_alloc_zero(1, sizeof *v);
    if (!v) return QD_ERR_MEMORY;
    *v = *t;
    v->base = base;
    v->references = 1;
    v->graph = NULL;
    base->references++;
    *out = v;
    return QD_OK;
}

qd_status qd_tensor_view(qd_tensor *t, int64_t first, int64_t count, qd_tensor **out) {
    if (!t || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_tensor_view: tensor and out must not be NULL");
    if (t->desc.rank != 2 || t->desc.format != QD_FORMAT_F32 || qd_is_constant(t)) {
        return qd_fail(QD_ERR_UNSUPPORTED, "a view needs a two-dimensional f32 tensor that is no constant");
    }
    if (first < 0 || count < 1 || first > qd_columns(t) || count > qd_columns(t) - first) {
        return qd_fail(QD_ERR_ARGUMENT,
                       "view: %lld columns from column %lld on are not inside a tensor of %lld columns",
                       (long long)count, (long long)first, (long long)qd_columns(t));
    }
    if (t->reshaped)
        return qd_fail(QD_ERR_UNSUPPORTED, "view: a reshaped tensor has no columns to show; view the original");
    qd_tensor *v;
    const qd_status status = new_view(t, &v);
    if (status) return status;
    v->desc.shape[1] = count;
    v->first_byte = t->first_byte + (size_t)first * sizeof(float);
    v->offset = v->base->offset + v->first_byte;
    *out = v;
    return QD_OK;
}

qd_status qd_tensor_reshape(qd_tensor *t, const qd_tensor_desc *d, qd_tensor **out) {
    if (!t || !d || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_tensor_reshape: no argument may be NULL");
    if (qd_is_constant(t) || (t->base && !t->reshaped)) {
        return qd_fail(QD_ERR_UNSUPPORTED, "reshape: a constant and a view of columns keep their shape");
    }
    qd_tensor_desc from = t->desc, to = *d;
    const bool ranks = to.rank >= 1 && to.rank <= QD_MAX_RANK;
    /* As many rows as the run has, or none: then the shapes of one row count. */
    const bool rows =
        ranks && from.shape[0] == to.shape[0] && (to.shape[0] == QD_ROWS || (to.shape[0] == 0 && to.rank > 1));
    if (rows) from.shape[0] = to.shape[0] = 1;
    const int64_t cols = ranks ? d->shape[d->rank - 1] : 0, old_cols = qd_columns(t);
    const int block = qd_format_get(t->desc.format)->block;
    if (!ranks || to.format != from.format || !qd_desc_bytes(&to) || qd_desc_bytes(&to) != qd_desc_bytes(&from) ||
        (cols != old_cols && (cols % block || old_cols % block))) {
        return qd_fail(QD_ERR_ARGUMENT, "reshape: the shapes need the same format and the same number of elements");
    }
    qd_tensor *v;
    const qd_status status = new_view(t, &v);
    if (status) return status;
    v->desc = *d;
    v->stride = qd_format_row_bytes(d->format, cols); /* 0 of [QD_ROWS], as in qd_tensor_new */
    v->reshaped = true;
    *out = v;
    return QD_OK;
}

void qd_tensor_free(qd_tensor *t) {
    if (!t || --t->references > 0) return;
    if (t->base) {
        qd_tensor_free(t->base);
    } else {
        const qd_backend *b = t->context->backend;
        if (qd_is_constant(t) && b->forget) b->forget(t->context->device, t);
        if (t->pieces) free((void *)(uintptr_t)t->constant); /* made by qd_constant_bytes, not borrowed */
        free(t->pieces);
        /* A graph's tensors share its arena, which the graph frees. */
        if (t->buffer && !t->graph) b->release(t->context->device, t->buffer);
    }
    free(t);
}

const qd_tensor_desc *qd_tensor_describe(const qd_tensor *t) {
    return &t->desc;
}

static qd_status check_range(const qd_tensor *t, size_t offset, const void *host, size_t bytes, const char *what) {
    if (!t || (!host && bytes)) return qd_fail(QD_ERR_ARGUMENT, "tensor %s: tensor and memory must not be NULL", what);
    if (t->base || t->graph || !t->buffer) {
        return qd_fail(QD_ERR_UNSUPPORTED,
                       "tensor %s: constants, views and tensors inside a graph have no bytes of their own", what);
    }
    const size_t size = qd_desc_bytes(&t->desc);
    if (offset > size || bytes > size - offset) {
        return qd_fail(QD_ERR_ARGUMENT, "tensor %s: bytes %zu … %zu are outside a tensor of %zu bytes", what, offset,
                       offset + bytes, size);
    }
    return QD_OK;
}

qd_status qd_tensor_write(qd_tensor *t, size_t offset, const void *src, size_t bytes) {
    const qd_status status = check_range(t, offset, src, bytes, "write");
    if (status || !bytes) return status;
    return t->context->backend->write(t->context->device, t->buffer, t->offset + offset, src, bytes);
}

qd_status qd_tensor_read(qd_tensor *t, size_t offset, void *dst, size_t bytes) {
    const qd_status status = check_range(t, offset, dst, bytes, "read");
    if (status || !bytes) return status;
    return t->context->backend->read(t->context->device, t->buffer, t->offset + offset, dst, bytes);
}
