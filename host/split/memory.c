#include <stdlib.h>
#include <string.h>

#include "split/split.h"

qd_status split_alloc(void *device, size_t bytes, qd_buffer **out) {
    (void)device;
    qd_buffer *b = qd_alloc_zero(1, sizeof *b);
    if (!b) return QD_ERR_MEMORY;
    b->segments_cap = 8;
    b->segments = qd_alloc((size_t)b->segments_cap * sizeof *b->segments);
    if (!b->segments) {
        free(b);
        return QD_ERR_MEMORY;
    }
    b->bytes = bytes;
    b->home = -1;
    b->segments[0] = (split_segment){bytes, ~0u};
    b->n_segments = 1;
    *out = b;
    return QD_OK;
}

void split_release(void *device, qd_buffer *b) {
    split_device *d = device;
    if (!b) return;
    for (int i = 0; i < d->n_parts; i++) {
        if (b->copies[i]) d->parts[i].backend->release(d->parts[i].device, b->copies[i]);
    }
    free(b->segments);
    free(b);
}

qd_status split_copy_of(split_device *d, qd_buffer *b, int part, qd_buffer **out) {
    const split_part *p = &d->parts[part];
    const qd_status status = b->copies[part] ? QD_OK : p->backend->alloc(p->device, b->bytes, &b->copies[part]);
    *out = b->copies[part];
    return status;
}

void *split_staging(split_device *d, size_t bytes) {
    if (bytes <= d->staging_bytes) return d->staging;
    void *larger = qd_realloc(d->staging, bytes);
    if (!larger) return NULL;
    d->staging = larger;
    d->staging_bytes = bytes;
    return larger;
}

/* ---- Segments ----------------------------------------------------------------------------------------------- */

/* The segment that holds this byte; n_segments: the end. */
static int segment_at(const qd_buffer *b, size_t at) {
    int i = 0;
    while (i < b->n_segments && b->segments[i].end <= at)
        i++;
    return i;
}

/* Makes a segment begin at this byte; there is room. */
static void cut_at(qd_buffer *b, size_t at) {
    const int i = segment_at(b, at);
    if (i == b->n_segments || at == 0 || (i > 0 && b->segments[i - 1].end == at)) return;
    memmove(&b->segments[i + 1], &b->segments[i], (size_t)(b->n_segments - i) * sizeof *b->segments);
    b->n_segments++;
    b->segments[i].end = at;
}

/* Gives the bytes [from, to) to exactly the parts in `have`, or to them too. */
static qd_status give(qd_buffer *b, size_t from, size_t to, unsigned have, bool too) {
    if (from >= to) return QD_OK;
    if (b->n_segments + 2 > b->segments_cap) {
        const int larger = 2 * b->segments_cap;
        split_segment *grown = qd_realloc(b->segments, (size_t)larger * sizeof *grown);
        if (!grown) return QD_ERR_MEMORY;
        b->segments = grown;
        b->segments_cap = larger;
    }
    cut_at(b, from);
    cut_at(b, to);
    for (int i = segment_at(b, from); i < b->n_segments && b->segments[i].end <= to; i++)
        b->segments[i].have = too ? b->segments[i].have | have : have;
    int kept = 0;
    for (int i = 0; i < b->n_segments; i++) {
        if (kept && b->segments[kept - 1].have == b->segments[i].have) kept--;
        b->segments[kept++] = b->segments[i];
    }
    b->n_segments = kept;
    return QD_OK;
}

qd_status split_claim(qd_buffer *b, size_t offset, size_t bytes, int part) {
    return give(b, offset, offset + bytes, 1u << part, false);
}

/* ---- Transfers ---------------------------------------------------------------------------------------------- */

/* Reads from whoever has the bytes; the end of what is alike goes to *to. */
static qd_status read_segment(split_device *d, qd_buffer *b, size_t from, size_t *to, void *dst) {
    const split_segment *s = &b->segments[segment_at(b, from)];
    int owner = 0;
    while (!(s->have >> owner & 1u))
        owner++;
    if (s->end < *to) *to = s->end;
    qd_buffer *copy;
    const qd_status status = split_copy_of(d, b, owner, &copy);
    return status ? status : d->parts[owner].backend->read(d->parts[owner].device, copy, from, dst, *to - from);
}

qd_status split_bring(split_device *d, qd_buffer *b, size_t offset, size_t bytes, int part) {
    const split_part *p = &d->parts[part];
    qd_status status = QD_OK;
    qd_buffer *copy;
    QD_TRY(split_copy_of(d, b, part, &copy));
    for (size_t at = offset, to; at < offset + bytes; at = to) {
        const split_segment *s = &b->segments[segment_at(b, at)];
        to = s->end < offset + bytes ? s->end : offset + bytes;
        if (s->have >> part & 1u) continue;
        void *staging = split_staging(d, to - at);
        if (!staging) return QD_ERR_MEMORY;
        QD_TRY(read_segment(d, b, at, &to, staging));
        QD_TRY(p->backend->write(p->device, copy, at, staging, to - at));
        QD_TRY(give(b, at, to, 1u << part, true));
    }
error:
    return status;
}

/* To every part that has a copy: what the host writes, tokens and positions, most of them need. */
qd_status split_write(void *device, qd_buffer *b, size_t offset, const void *src, size_t bytes) {
    split_device *d = device;
    qd_status status = QD_OK;
    unsigned have = 0;
    for (int i = 0; i < d->n_parts; i++) {
        if (!b->copies[i]) continue;
        QD_TRY(d->parts[i].backend->write(d->parts[i].device, b->copies[i], offset, src, bytes));
        have |= 1u << i;
    }
    if (!have) { /* nobody yet: where its first operator will be is not known */
        qd_buffer *copy;
        QD_TRY(split_copy_of(d, b, 0, &copy));
        QD_TRY(d->parts[0].backend->write(d->parts[0].device, copy, offset, src, bytes));
        have = 1;
    }
    return give(b, offset, offset + bytes, have, false);
error:
    return status;
}

qd_status split_read(void *device, qd_buffer *b, size_t offset, void *dst, size_t bytes) {
    split_device *d = device;
    for (size_t at = offset, to; at < offset + bytes; at = to) {
        to = offset + bytes;
        const qd_status status = read_segment(d, b, at, &to, (char *)dst + (at - offset));
        if (status) return status;
    }
    return QD_OK;
}
