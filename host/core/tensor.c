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
        t->owned = true;
    }
    *out = t->constant;
    return QD_OK;
}

qd_status qd_constant_replace(qd_tensor *t, const void *from, const void *to) {
    const qd_backend *b = t->context->backend;
    bool found = !t->pieces && t->constant == from;
    if (found) t->constant = to;
    int64_t row = 0;
    for (int i = 0; i < t->n_pieces; row += t->pieces[i++].rows) {
        if (t->pieces[i].data != from) continue;
        found = true;
        t->pieces[i].data = to;
        if (!t->constant)
            continue; /* else they were copied together, by qd_constant_bytes, which gave it away writable */
        unsigned char *all = (unsigned char *)(uintptr_t)t->constant;
        memcpy(all + (size_t)row * t->stride, to, (size_t)t->pieces[i].rows * t->stride);
    }
    return found && b->refresh ? b->refresh(t->context->device, t) : QD_OK;
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
    if (t->desc.rank != 2 || t->desc.format != QD_FORMAT_F32 || qd_is_constant(t) || t->window) {
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

/* Sets step, extent, stride, strided and repeats of a window from its desc. */
static qd_status lay_out(qd_tensor *v, const int64_t *steps) {
    const qd_tensor_desc *d = &v->desc;
    const qd_format_info *f = qd_format_get(d->format);
    const int last = d->rank - 1;
    int64_t dense = (int64_t)qd_format_row_bytes(d->format, d->shape[last]);
    /* Bytes that indices of the dimensions so far reach, the smallest steps first. */
    int64_t reach = dense, count[QD_MAX_RANK];
    v->step[last] = f->bytes;
    v->extent = (size_t)dense;
    if (steps && steps[last] != f->bytes) {
        if (f->block > 1) {
            return qd_fail(QD_ERR_ARGUMENT, "window: the last step of a %s tensor must be the %d bytes of its blocks",
                           f->name, f->bytes);
        }
        v->step[last] = steps[last];
        v->strided = d->shape[last] > 1;
    }
    for (int k = last - 1; k >= 0; k--) {
        v->step[k] = steps ? steps[k] : dense;
        dense *= d->shape[k];
    }
    for (int k = 0; k <= last; k++) {
        count[k] = d->shape[k];
        const bool whole = k == last && !v->strided; /* its bytes are in `reach` and `extent` */
        if (v->step[k] < 0) return qd_fail(QD_ERR_ARGUMENT, "window: steps cannot be negative");
        if (f->block == 1 && v->step[k] % f->bytes) {
            return qd_fail(QD_ERR_ARGUMENT, "window: steps and offset must be multiples of the %d bytes of an element",
                           f->bytes);
        }
        int64_t more;
        if (whole) continue;
        if (__builtin_mul_overflow(count[k] - 1, v->step[k], &more) || more > PTRDIFF_MAX - (int64_t)v->extent) {
            return qd_fail(QD_ERR_ARGUMENT, "window: its steps lead too far");
        }
        v->extent += (size_t)more;
    }
    if (v->strided) { /* elements by themselves, not whole rows */
        v->extent -= (size_t)((d->shape[last] - 1) * f->bytes);
        reach = f->bytes;
    } else {
        count[last] = 1;
    }
    for (;;) { /* injective: each step leads beyond what smaller ones reach */
        int next = -1;
        for (int k = 0; k <= last; k++) {
            if (count[k] > 1 && (next < 0 || v->step[k] < v->step[next])) next = k;
        }
        if (next < 0) break;
        v->repeats |= v->step[next] < reach;
        reach = (count[next] - 1) * v->step[next] + reach;
        count[next] = 1;
    }
    /* One stride leads from row to row when each dimension goes on where the next ends. */
    v->stride = qd_format_row_bytes(d->format, d->shape[last]);
    int64_t rows = 1;
    for (int k = last - 1; k >= 0; k--) {
        if (d->shape[k] == 1) continue;
        if (rows == 1) v->stride = (size_t)v->step[k];
        int64_t whole;
        v->strided |= __builtin_mul_overflow(rows, (int64_t)v->stride, &whole) || v->step[k] != whole;
        rows *= d->shape[k];
    }
    return QD_OK;
}

qd_status qd_window_of(qd_tensor *t, size_t offset, const qd_tensor_desc *d, const int64_t *steps, qd_tensor **out) {
    if (!qd_desc_bytes(d)) return qd_fail(QD_ERR_ARGUMENT, "window: the shape is invalid, or empty");
    qd_tensor *v = NULL;
    qd_status status = new_view(t, &v);
    if (status) return status;
    v->window = true;
    v->desc = *d;
    v->first_byte = offset;
    v->offset = t->offset + offset;
    QD_TRY(lay_out(v, steps));
    const qd_format_info *f = qd_format_get(d->format);
    const size_t bytes = qd_desc_bytes(&t->desc);
    if (f->block == 1 && offset % (size_t)f->bytes) {
        status = qd_fail(QD_ERR_ARGUMENT, "window: steps and offset must be multiples of the %d bytes of an element",
                         f->bytes);
        goto error;
    }
    if (offset > bytes || v->extent > bytes - offset) {
        status = qd_fail(QD_ERR_ARGUMENT, "window: %zu bytes from byte %zu on are not inside a tensor of %zu bytes",
                         v->extent, offset, bytes);
        goto error;
    }
    *out = v;
    return QD_OK;
error:
    qd_tensor_free(v);
    return status;
}

qd_status qd_tensor_window(qd_tensor *t, size_t offset, const qd_tensor_desc *d, const int64_t *steps,
                           qd_tensor **out) {
    if (!t || !d || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_tensor_window: tensor, desc and out must not be NULL");
    if (t->base || t->graph || !t->buffer) {
        return qd_fail(QD_ERR_UNSUPPORTED,
                       "window: constants, views and tensors inside a graph have no bytes of their own");
    }
    return qd_window_of(t, offset, d, steps, out);
}

/* Rows equally far apart, in columns that do not meet. */
static bool side_by_side(const qd_tensor *a, const qd_tensor *b) {
    if (!a->window || !b->window || a->strided || b->strided || a->stride != b->stride || !a->stride) return false;
    if (b->offset < a->offset) return side_by_side(b, a);
    const size_t row_a = qd_format_row_bytes(a->desc.format, qd_columns(a)),
                 row_b = qd_format_row_bytes(b->desc.format, qd_columns(b)), at = (b->offset - a->offset) % a->stride;
    return at >= row_a && at + row_b <= a->stride;
}

bool qd_tensor_overlap(const qd_tensor *a, const qd_tensor *b, int64_t rows) {
    const qd_tensor *owner_a = a->base ? a->base : a, *owner_b = b->base ? b->base : b;
    const bool whole_a = a->reshaped || a->window, whole_b = b->reshaped || b->window;
    size_t at_a = owner_a->offset, at_b = owner_b->offset, bytes_a, bytes_b;
    if (owner_a != owner_b && (!a->buffer || a->buffer != b->buffer)) return false; /* constants have none */
    if (owner_a == owner_b && !whole_a && !whole_b) {                               /* columns of one tensor */
        if (!a->base && !b->base) return true;
        at_a = a->first_byte;
        at_b = b->first_byte;
        bytes_a = (size_t)qd_columns(a) * sizeof(float);
        bytes_b = (size_t)qd_columns(b) * sizeof(float);
    } else if (owner_a == owner_b && !a->window && !b->window) {
        return true;
    } else {
        qd_tensor_desc d = owner_a->desc;
        if (d.shape[0] == QD_ROWS) d.shape[0] = rows;
        bytes_a = qd_desc_bytes(&d);
        d = owner_b->desc;
        if (d.shape[0] == QD_ROWS) d.shape[0] = rows;
        bytes_b = qd_desc_bytes(&d);
        if (a->window) at_a = a->offset, bytes_a = a->extent;
        if (b->window) at_b = b->offset, bytes_b = b->extent;
        if (side_by_side(a, b)) return false;
    }
    return at_a < at_b + bytes_b && at_b < at_a + bytes_a;
}

void qd_tensor_free(qd_tensor *t) {
    if (!t || --t->references > 0) return;
    if (t->base) {
        qd_tensor_free(t->base);
    } else {
        const qd_backend *b = t->context->backend;
        if (qd_is_constant(t) && b->forget) b->forget(t->context->device, t);
        if (t->owned) free((void *)(uintptr_t)t->constant);
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
