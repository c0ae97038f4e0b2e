/* Constants on parts: a tensor's `resident` is a list of those that stand for it, or for some of its rows. */
#include <stdlib.h>
#include <string.h>

#include "split/split.h"

typedef struct stand_in {
    struct stand_in *next;
    const split_part *on;
    int64_t first;
    qd_tensor tensor; /* borrows the host's bytes, but for what qd_constant_bytes made of pieces */
} stand_in;

/* Bytes of an index of the first dimension. */
static size_t step_of(const qd_tensor *t) {
    size_t rows = 1;
    for (int i = 1; i + 1 < t->desc.rank; i++)
        rows *= (size_t)t->desc.shape[i];
    return t->desc.rank == 1 ? qd_format_row_bytes(t->desc.format, 1) : rows * t->stride;
}

/* Points it at the bytes of `t` from its first row on. */
static void borrow(stand_in *s, const qd_tensor *t) {
    if (!t->pieces) {
        s->tensor.constant = (const char *)t->constant + (size_t)s->first * step_of(t);
        return;
    }
    const int64_t end = s->first + s->tensor.desc.shape[0];
    int64_t row = 0; /* of the stack, where the piece begins */
    int n = 0;
    for (int i = 0; i < t->n_pieces; row += t->pieces[i++].rows) {
        const int64_t from = s->first > row ? s->first : row;
        const int64_t to = end < row + t->pieces[i].rows ? end : row + t->pieces[i].rows;
        if (from >= to) continue;
        s->tensor.pieces[n++] =
            (qd_piece){(const char *)t->pieces[i].data + (size_t)(from - row) * t->stride, to - from};
    }
    s->tensor.n_pieces = n;
}

static void free_stand_in(stand_in *s) {
    if (s->tensor.pieces) free((void *)(uintptr_t)s->tensor.constant);
    free(s->tensor.pieces);
    free(s);
}

qd_status split_constant(const split_part *on, qd_tensor *t, int64_t first, int64_t count, qd_tensor **out) {
    for (stand_in *s = t->resident; s; s = s->next) {
        if (s->on != on || s->first != first || s->tensor.desc.shape[0] != count) continue;
        *out = &s->tensor;
        return QD_OK;
    }
    stand_in *s = qd_alloc_zero(1, sizeof *s);
    if (!s) return QD_ERR_MEMORY;
    s->on = on;
    s->first = first;
    s->tensor = *t;
    s->tensor.resident = NULL;
    s->tensor.desc.shape[0] = count;
    if (t->pieces) {
        s->tensor.constant = NULL;
        s->tensor.pieces = qd_alloc((size_t)t->n_pieces * sizeof *t->pieces);
        if (!s->tensor.pieces) {
            free(s);
            return QD_ERR_MEMORY;
        }
    }
    borrow(s, t);
    s->next = t->resident;
    t->resident = s;
    *out = &s->tensor;
    return QD_OK;
}

void split_forget(void *device, qd_tensor *t) {
    (void)device;
    while (t->resident) {
        stand_in *s = t->resident;
        t->resident = s->next;
        if (s->on->backend->forget) s->on->backend->forget(s->on->device, &s->tensor);
        free_stand_in(s);
    }
}

qd_status split_refresh(void *device, qd_tensor *t) {
    (void)device;
    for (stand_in *s = t->resident; s; s = s->next) {
        borrow(s, t);
        unsigned char *all = s->tensor.pieces ? (unsigned char *)(uintptr_t)s->tensor.constant : NULL;
        for (int i = 0; all && i < s->tensor.n_pieces; i++) { /* once copied together, they stay where they are */
            const size_t bytes = (size_t)s->tensor.pieces[i].rows * t->stride;
            memcpy(all, s->tensor.pieces[i].data, bytes);
            all += bytes;
        }
        const qd_status status = s->on->backend->refresh ? s->on->backend->refresh(s->on->device, &s->tensor) : QD_OK;
        if (status) return status;
    }
    return QD_OK;
}
