/* Buffers: a pool under a budget, transfers, and constants in device layouts. */
#include <stdlib.h>
#include <string.h>

#include "opencl/cl_internal.h"

/* ---- Order --------------------------------------------------------------------------------------------------- */

/* Waits for all that was given, unless it is known to have finished. */
static qd_status wait_for_all(cl_device_state *d) {
    qd_status status = QD_OK;
    if (!d->in_flight) return QD_OK;
    CL_TRY(d, clFinish(d->queue), "waiting for the device");
    d->in_flight = 0;
error:
    return status;
}

qd_status cl_order(cl_device_state *d) {
    /* PoCL's barriers depend on every command that has not finished: the work would grow with their square. */
    enum { IN_FLIGHT = 256 };
    qd_status status = cl_alive(d);
    if (status || !d->out_of_order) return status;
    if (d->in_flight++ >= IN_FLIGHT) return wait_for_all(d);
    CL_TRY(d, clEnqueueBarrierWithWaitList(d->queue, 0, NULL, NULL), "a barrier");
error:
    return status;
}

/* ---- Pool --------------------------------------------------------------------------------------------------- */

/* Sizes are rounded up to an eighth of their power of two, so that a freed buffer fits the next like it and at most an
 * eighth is wasted. */
static size_t pool_size(size_t bytes) {
    size_t step = 256;
    while (step * 8 < bytes)
        step *= 2;
    return (bytes + step - 1) / step * step;
}

static void destroy(qd_buffer *b, bool idle) {
    if (b->last) clReleaseEvent(b->last);
    clReleaseMemObject(b->mem);
    cl_slab_free(&b->piece, idle);
    free(b);
}

void cl_pool_trim(cl_device_state *d) {
    /* The driver does not know what a chain uses, and does not own what a slab has. */
    const bool idle = !(d->chained || d->slab) || clFinish(d->queue) == CL_SUCCESS;
    d->chained = false;
    while (d->pool) {
        qd_buffer *b = d->pool;
        d->pool = b->next;
        d->pooled -= b->bytes;
        destroy(b, idle);
    }
}

/* A pooled buffer of exactly this size, in the bank, or NULL. */
static qd_buffer *take_pooled(cl_device_state *d, size_t bytes, int bank) {
    for (qd_buffer **p = &d->pool; *p; p = &(*p)->next) {
        if ((*p)->bytes != bytes || (*p)->bank != bank) continue;
        qd_buffer *b = *p;
        *p = b->next;
        d->pooled -= bytes;
        return b;
    }
    return NULL;
}

/* A buffer; `weights`: for those, which are filled once and then read from end to end. */
static qd_status take(cl_device_state *d, size_t bytes, int bank, bool weights, qd_buffer **out) {
    const size_t rounded = pool_size(bytes);
    /* Rounding up must not make a legal size too large. */
    const size_t size = rounded <= d->max_alloc ? rounded : bytes;
    if (bytes > d->max_alloc) {
        return qd_fail(QD_ERR_DEVICE_MEMORY, "%s: %zu bytes in one piece; the device allows %llu", d->info.name, bytes,
                       (unsigned long long)d->max_alloc);
    }
    const qd_status status = cl_alive(d);
    if (status) return status;
    qd_buffer *b = take_pooled(d, size, bank);
    if (!b) {
        if (d->budget && d->used + d->pooled + size > d->budget) cl_pool_trim(d);
        if (d->budget && d->used + size > d->budget) {
            return qd_fail(QD_ERR_DEVICE_MEMORY,
                           "%s: %zu more bytes would exceed the memory budget of %llu (%llu in use); raise it or use a "
                           "smaller context",
                           d->info.name, size, (unsigned long long)d->budget, (unsigned long long)d->used);
        }
        b = qd_alloc_zero(1, sizeof *b);
        if (!b) return QD_ERR_MEMORY;
        b->bytes = size;
        b->bank = bank;
        cl_int e = CL_SUCCESS;
        if (weights) b->mem = cl_slab_buffer(d, size, &b->piece);
        if (!b->mem) b->mem = cl_bank_buffer(d, bank, size, &e);
        if ((e == CL_MEM_OBJECT_ALLOCATION_FAILURE || e == CL_OUT_OF_RESOURCES) && d->pool) {
            cl_pool_trim(d);
            b->mem = cl_bank_buffer(d, bank, size, &e);
        }
        if (e != CL_SUCCESS) {
            free(b);
            /* Some drivers have only one word for what they are short of; here it is memory. */
            return cl_fail(d, e == CL_OUT_OF_RESOURCES ? CL_MEM_OBJECT_ALLOCATION_FAILURE : e, "allocating a buffer");
        }
    }
    d->used += size;
    if (d->used + d->pooled > d->peak) d->peak = d->used + d->pooled;
    *out = b;
    return QD_OK;
}

qd_status cl_buffer_take(cl_device_state *d, size_t bytes, int bank, qd_buffer **out) {
    return take(d, bytes, bank, false, out);
}

qd_status cl_buffer_alloc(void *device, size_t bytes, qd_buffer **out) {
    cl_device_state *d = device;
    qd_buffer *b;
    qd_status status = cl_buffer_take(d, bytes, cl_arena_bank(d), &b);
    if (status) return status;
    const cl_uchar zero = 0;
    QD_TRY(cl_order(d));
    cl_event cleared;
    d->in_flight++;
    CL_TRY(d, clEnqueueFillBuffer(d->queue, b->mem, &zero, 1, 0, b->bytes, 0, NULL, &cleared), "clearing a buffer");
    cl_buffer_used(d, b, cleared);
    clReleaseEvent(cleared);
    QD_TRY(cl_order(d));
    *out = b;
    return QD_OK;
error:
    cl_buffer_release(d, b);
    return status;
}

void cl_buffer_release(void *device, qd_buffer *b) {
    cl_device_state *d = device;
    if (!b) return;
    d->used -= b->bytes;
    d->pooled += b->bytes;
    b->next = d->pool;
    d->pool = b;
}

qd_status cl_scratch_reserve(cl_device_state *d, size_t bytes) {
    if (d->scratch && d->scratch->bytes >= bytes) return QD_OK;
    qd_buffer *larger;
    const qd_status status = cl_buffer_take(d, bytes, CL_ANY_BANK, &larger);
    if (status) return status;
    /* What comes from the pool is first used after the work given so far: kernels may go on with the old one. */
    cl_buffer_release(d, d->scratch);
    d->scratch = larger;
    d->scratch_number++;
    return QD_OK;
}

/* ---- Transfers ---------------------------------------------------------------------------------------------- */

void cl_pending_reap(cl_device_state *d, bool all) {
    int kept = 0;
    for (int i = 0; i < d->n_pending; i++) {
        cl_pending *p = &d->pending[i];
        cl_int state = CL_COMPLETE;
        const cl_int e =
            all ? CL_SUCCESS : clGetEventInfo(p->event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof state, &state, NULL);
        if (e != CL_SUCCESS || state > CL_COMPLETE) {
            d->pending[kept++] = *p;
            continue;
        }
        clReleaseEvent(p->event);
        free(p->staging);
    }
    d->n_pending = kept;
}

/* Keeps staging memory until its event is complete. Takes both over, also on failure: then it waits for the device. */
static qd_status keep_pending(cl_device_state *d, cl_event event, void *staging) {
    if (d->n_pending == d->pending_cap) {
        const int larger = d->pending_cap ? 2 * d->pending_cap : 16;
        cl_pending *grown = qd_realloc(d->pending, (size_t)larger * sizeof *grown);
        if (!grown) {
            clFinish(d->queue);
            clReleaseEvent(event);
            free(staging);
            return QD_ERR_MEMORY;
        }
        d->pending = grown;
        d->pending_cap = larger;
    }
    d->pending[d->n_pending++] = (cl_pending){event, staging};
    return QD_OK;
}

void cl_buffer_used(cl_device_state *d, qd_buffer *b, cl_event e) {
    if (!d->transfers || !b) return;
    if (b->last) clReleaseEvent(b->last);
    b->last = e;
    clRetainEvent(e);
}

/* Cards: transfers have a queue of their own and wait only for the last kernel that uses the buffer, so that one input
 * is written, or an output read, while the device computes with others. They are over on return, so that kernels given
 * later need not wait for them. (By their events: Intel's emulator returns from a blocking write before other queues
 * see the bytes.) */
static qd_status overlapped(cl_device_state *d, qd_buffer *b, size_t offset, const void *src, void *dst, size_t bytes) {
    qd_status status = QD_OK;
    const cl_uint n = b->last ? 1 : 0;
    const cl_event *after = n ? &b->last : NULL;
    cl_event over = NULL;
    QD_TRY(cl_alive(d));
    CL_TRY(d, clFlush(d->queue), "submitting work"); /* or that kernel may never start */
    if (src) {
        CL_TRY(d, clEnqueueWriteBuffer(d->transfers, b->mem, CL_FALSE, offset, bytes, src, n, after, &over),
               "writing a buffer");
    } else {
        CL_TRY(d, clEnqueueReadBuffer(d->transfers, b->mem, CL_FALSE, offset, bytes, dst, n, after, &over),
               "reading a buffer");
    }
    CL_TRY(d, clWaitForEvents(1, &over), "waiting for a transfer");
    if (d->options.profile && !d->canary_depth) {
        cl_profile_add_transfer(d, src != NULL, bytes, over);
        over = NULL;
    }
error:
    if (over && status) clFinish(d->transfers); /* the caller's memory is the caller's again */
    if (over) clReleaseEvent(over);
    return status;
}

/* Memory of a chain (see cl_chain.c) is the process's own: its bytes are copied while nothing is under way, without the
 * commands, for each of which a thread of the driver would have to wake. */
static char *host_bytes(const qd_buffer *b) {
    return (char *)(uintptr_t)b->address;
}

qd_status cl_buffer_write(void *device, qd_buffer *b, size_t offset, const void *src, size_t bytes) {
    /* Small writes (the token and its position) go through a copy, so that nothing waits for the device. */
    enum { STAGED = 65536 };
    cl_device_state *d = device;
    qd_status status = QD_OK;
    void *staging = NULL;
    cl_event event;
    if (d->transfers) return overlapped(d, b, offset, src, NULL, bytes);
    QD_TRY(cl_order(d));
    cl_pending_reap(d, false);
    if (b->address && (bytes > STAGED || !d->in_flight)) {
        QD_TRY(wait_for_all(d));
        memcpy(host_bytes(b) + offset, src, bytes);
        return QD_OK;
    }
    if (bytes > STAGED) {
        CL_TRY(d, clEnqueueWriteBuffer(d->queue, b->mem, CL_TRUE, offset, bytes, src, 0, NULL, NULL),
               "writing a buffer");
        return QD_OK;
    }
    staging = qd_alloc(bytes);
    if (!staging) return QD_ERR_MEMORY;
    memcpy(staging, src, bytes);
    d->in_flight++;
    CL_TRY(d, clEnqueueWriteBuffer(d->queue, b->mem, CL_FALSE, offset, bytes, staging, 0, NULL, &event),
           "writing a buffer");
    void *kept = staging;
    staging = NULL;
    QD_TRY(keep_pending(d, event, kept));
    QD_TRY(cl_order(d));
    return QD_OK;
error:
    free(staging);
    return status;
}

qd_status cl_buffer_read(void *device, qd_buffer *b, size_t offset, void *dst, size_t bytes) {
    cl_device_state *d = device;
    qd_status status = QD_OK;
    if (d->transfers) return overlapped(d, b, offset, NULL, dst, bytes);
    QD_TRY(cl_order(d));
    if (b->address) {
        QD_TRY(wait_for_all(d));
        memcpy(dst, host_bytes(b) + offset, bytes);
    } else {
        CL_TRY(d, clEnqueueReadBuffer(d->queue, b->mem, CL_TRUE, offset, bytes, dst, 0, NULL, NULL),
               "reading a buffer");
        d->in_flight = 0;
    }
    cl_pending_reap(d, false);
error:
    return status;
}

/* ---- Constants ---------------------------------------------------------------------------------------------- */

/* A constant as the matrix that a layout orders. In file order all dimensions but the last count rows; tiles are of
 * output channels, each of them a row, whatever its shape. */
static void matrix_of(const qd_tensor *t, qd_layout layout, int64_t *rows, int64_t *K) {
    const int split = layout == QD_LAYOUT_ROWS ? t->desc.rank - 1 : 1;
    *rows = *K = 1;
    for (int i = 0; i < t->desc.rank; i++)
        *(i < split ? rows : K) *= t->desc.shape[i];
}

/* Packs a part's rows, which may come from several pieces. Pieces are packed one by one where a layout's groups of rows
 * begin at their seams, else together through a copy. */
static qd_status pack_rows(qd_tensor *t, qd_layout layout, const cl_part *part, unsigned char *dst) {
    const int64_t together = qd_layout_rows(layout);
    int64_t rows, K;
    bool seams_fit = true;
    matrix_of(t, layout, &rows, &K);
    for (int i = 0; i + 1 < t->n_pieces; i++)
        seams_fit = seams_fit && t->pieces[i].rows % together == 0;
    if (t->constant || !seams_fit) {
        const void *all;
        const qd_status status = qd_constant_bytes(t, &all);
        if (status) return status;
        const size_t at = (size_t)part->first * qd_format_row_bytes(t->desc.format, K);
        qd_layout_pack(layout, t->desc.format, (const unsigned char *)all + at, part->count, K, dst);
        return QD_OK;
    }
    int64_t row = 0; /* of the stack, where the piece begins */
    for (int i = 0; i < t->n_pieces; row += t->pieces[i++].rows) {
        const int64_t from = part->first > row ? part->first : row, end = row + t->pieces[i].rows;
        const int64_t to = part->first + part->count < end ? part->first + part->count : end;
        if (from >= to) continue;
        qd_layout_pack(layout, t->desc.format,
                       (const unsigned char *)t->pieces[i].data + (size_t)(from - row) * t->stride, to - from, K, dst);
        dst += qd_layout_bytes(layout, t->desc.format, to - from, K);
    }
    return QD_OK;
}

/* Fills a part: straight into its buffer where the host can see the device's memory. */
static qd_status fill_part(cl_device_state *d, qd_tensor *t, qd_layout layout, cl_part *part, size_t bytes) {
    qd_status status = QD_OK;
    void *mapped = NULL;
    if (d->unified_memory) {
        cl_int e;
        /* The buffer may come from the pool, with commands of its last user still under way. */
        QD_TRY(cl_order(d));
        mapped = clEnqueueMapBuffer(d->queue, part->buffer->mem, CL_TRUE, CL_MAP_WRITE_INVALIDATE_REGION, 0, bytes, 0,
                                    NULL, NULL, &e);
        CL_TRY(d, e, "mapping a buffer");
        status = pack_rows(t, layout, part, mapped);
        d->in_flight++;
        CL_TRY(d, clEnqueueUnmapMemObject(d->queue, part->buffer->mem, mapped, 0, NULL, NULL), "unmapping a buffer");
        return status;
    }
    mapped = qd_alloc(bytes);
    if (!mapped) return QD_ERR_MEMORY;
    status = pack_rows(t, layout, part, mapped);
    if (!status) status = cl_buffer_write(d, part->buffer, 0, mapped, bytes);
    free(mapped);
error:
    return status;
}

static void free_weights(cl_device_state *d, cl_weights *w) {
    for (int i = 0; i < w->n_parts; i++)
        cl_buffer_release(d, w->parts[i].buffer);
    free(w->parts);
    free(w);
}

qd_status cl_weights_get(cl_device_state *d, qd_tensor *t, qd_layout layout, int bank, int pieces,
                         const cl_weights **out) {
    for (cl_weights *w = t->resident; w; w = w->next) {
        if (w->layout == layout && w->bank == bank) {
            *out = w;
            return QD_OK;
        }
    }
    const int64_t together = qd_layout_rows(layout);
    int64_t rows, K;
    matrix_of(t, layout, &rows, &K);
    const size_t group_bytes = qd_layout_bytes(layout, t->desc.format, together, K);
    if (!group_bytes) return qd_fail(QD_ERR_UNSUPPORTED, "a kernel's layout does not know the weights' format");
    const int64_t groups_fit = (int64_t)(d->max_alloc / group_bytes);
    if (groups_fit < 1) {
        return qd_fail(QD_ERR_DEVICE_MEMORY, "%s: a row of weights is larger than one allocation may be (%llu bytes)",
                       d->info.name, (unsigned long long)d->max_alloc);
    }
    int64_t rows_fit = groups_fit > rows / together ? rows : groups_fit * together;
    const int64_t share = (rows + pieces - 1) / pieces;
    if (share < rows_fit) rows_fit = (share + together - 1) / together * together;
    if (d->canary_rows && d->canary_rows < rows_fit) rows_fit = (d->canary_rows + together - 1) / together * together;
    qd_status status = QD_OK;
    cl_weights *w = qd_alloc_zero(1, sizeof *w);
    if (!w) return QD_ERR_MEMORY;
    w->layout = layout;
    w->bank = bank;
    const int64_t n_parts = rows_fit ? (rows + rows_fit - 1) / rows_fit : 0;
    w->parts = qd_alloc_zero((size_t)n_parts, sizeof *w->parts);
    if (!w->parts) {
        status = QD_ERR_MEMORY;
        goto error;
    }
    for (int64_t first = 0; first < rows; first += rows_fit) {
        cl_part *p = &w->parts[w->n_parts];
        p->first = first;
        p->count = rows - first < rows_fit ? rows - first : rows_fit;
        const size_t bytes = qd_layout_bytes(layout, t->desc.format, p->count, K);
        QD_TRY(take(d, bytes, bank, true, &p->buffer));
        w->n_parts++;
        QD_TRY(fill_part(d, t, layout, p, bytes));
    }
    w->next = t->resident;
    t->resident = w;
    *out = w;
    return QD_OK;
error:
    free_weights(d, w);
    return status;
}

void cl_weights_forget(void *device, qd_tensor *t) {
    while (t->resident) {
        cl_weights *w = t->resident;
        t->resident = w->next;
        free_weights(device, w);
    }
}

qd_status cl_weights_refresh(void *device, qd_tensor *t) {
    const int64_t K = qd_columns(t);
    qd_status status = QD_OK;
    for (cl_weights *w = t->resident; w && !status; w = w->next) {
        for (int i = 0; i < w->n_parts && !status; i++) {
            cl_part *p = &w->parts[i];
            status = fill_part(device, t, w->layout, p, qd_layout_bytes(w->layout, t->desc.format, p->count, K));
        }
    }
    return status;
}
