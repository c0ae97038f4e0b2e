/* Times from the device's own clock: of kernels as totals, of kernels and a card's transfers one by one for a trace. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "opencl/cl_tuning.h"

/* Rows of an operand that a run touches: those of the run where its first dimension is theirs, else all it has. Tables
 * are read at the ids, caches are written at the rows. What attention reads of the caches is left out: how far they are
 * filled is known on the device only. */
static double rows_touched(const qd_node *n, int operand, int64_t rows) {
    const qd_tensor *t = operand < QD_MAX_IN ? n->in[operand] : n->out[operand - QD_MAX_IN];
    if (n->params_bytes) { /* integer operators: all of it, or as much as there are rows in the run */
        double all = 1;
        for (int i = 0; i + 1 < t->desc.rank; i++)
            all *= i == 0 && t->desc.shape[0] == QD_ROWS ? (double)rows : (double)t->desc.shape[i];
        return all;
    }
    if (t->desc.rank == 1) return 1;
    if (t->desc.rank == 3) {
        return n->op == QD_OP_ATTENTION ? 0 : (double)t->desc.shape[0] * (double)rows;
    }
    if (operand == 0 && n->op == QD_OP_MATMUL) return (double)t->desc.shape[0];
    return (double)rows;
}

/* Bytes that an operator moves by its definition, each operand once. */
static double bytes_moved(const qd_node *n, int64_t rows) {
    double total = 0;
    for (int i = 0; i < QD_MAX_IN + QD_MAX_OUT; i++) {
        const qd_tensor *t = i < QD_MAX_IN ? n->in[i] : n->out[i - QD_MAX_IN];
        if (t) total += (double)qd_format_row_bytes(t->desc.format, qd_columns(t)) * rows_touched(n, i, rows);
    }
    return total;
}

/* Multiplications and additions; 0 where the work is not counted so. */
static double operations(const qd_node *n, int64_t rows) {
    return 2.0 * (double)rows * n->macs;
}

static uint64_t event_time(cl_event e, cl_profiling_info what) {
    cl_ulong t = 0;
    clGetEventProfilingInfo(e, what, sizeof t, &t, NULL);
    return t;
}

/* Waits for all launches, reads their times and frees their events. */
static qd_status collect(cl_device_state *d) {
    qd_status status;
    QD_TRY(cl_alive(d));
    CL_TRY(d, clFinish(d->queue), "waiting for the device");
    for (; d->trace_read < d->n_trace; d->trace_read++) {
        cl_trace_event *t = &d->trace[d->trace_read];
        t->queued = event_time(t->event, CL_PROFILING_COMMAND_QUEUED);
        t->start = event_time(t->event, CL_PROFILING_COMMAND_START);
        t->end = event_time(t->event, CL_PROFILING_COMMAND_END);
        clReleaseEvent(t->event);
        t->event = NULL;
        if (t->variant < 0) continue; /* a transfer */
        cl_proof *p = &d->proofs[t->variant];
        /* Stages of a pipeline follow each other here: their time is that from the first one's start to the last one's
         * end. */
        const cl_trace_event *first = t - t->stage;
        if (t->stage + 1 < cl_variant_stages(d, &d->variants[t->variant])) continue;
        p->calls++;
        p->seconds += (double)(t->end - first->start) * 1e-9;
        p->bytes += t->bytes;
        p->operations += t->operations;
    }
error:
    return status;
}

/* Frees the events whose times were not read. */
static void forget_events(cl_device_state *d) {
    for (; d->trace_read < d->n_trace; d->trace_read++)
        clReleaseEvent(d->trace[d->trace_read].event);
}

/* Room for so many more; without it they are left out: a gap in the profile is better than a failed run. */
static void make_room(cl_device_state *d, int count) {
    if (d->n_trace - d->trace_read >= 4096) collect(d); /* drivers slow down under many open events */
    if (d->n_trace + count <= d->trace_cap) return;
    const int larger = d->trace_cap ? 2 * d->trace_cap : 4096;
    cl_trace_event *grown = qd_realloc(d->trace, (size_t)larger * sizeof *grown);
    if (!grown) return;
    d->trace = grown;
    d->trace_cap = larger;
}

static void remember(cl_device_state *d, cl_trace_event t) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    t.given = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    if (d->n_trace < d->trace_cap) {
        d->trace[d->n_trace++] = t;
    } else {
        clReleaseEvent(t.event);
    }
}

void cl_profile_add(cl_device_state *d, int variant, int unit, int stage, const qd_node *n, int64_t rows, cl_event e) {
    if (stage == 0) make_room(d, CL_STAGES); /* all stages of a unit, or none */
    remember(d, (cl_trace_event){.variant = variant,
                                 .unit = unit,
                                 .stage = stage,
                                 .event = e,
                                 .bytes = bytes_moved(n, rows),
                                 .operations = operations(n, rows)});
}

void cl_profile_add_transfer(cl_device_state *d, bool write, size_t bytes, cl_event e) {
    make_room(d, CL_STAGES);
    remember(d,
             (cl_trace_event){.variant = write ? CL_TRACE_WRITE : CL_TRACE_READ, .event = e, .bytes = (double)bytes});
}

static int slower_first(const void *a, const void *b) {
    const double x = ((const qd_profile_row *)a)->seconds, y = ((const qd_profile_row *)b)->seconds;
    return x < y ? 1 : x > y ? -1 : 0;
}

qd_status cl_profile_report(void *device, qd_profile_row **out, int *count) {
    cl_device_state *d = device;
    const qd_status status = collect(d);
    if (status) return status;
    qd_profile_row *rows = qd_alloc_zero((size_t)d->n_variants, sizeof *rows);
    if (!rows) return QD_ERR_MEMORY;
    int n = 0;
    for (int i = 0; i < d->n_variants; i++) {
        const cl_proof *p = &d->proofs[i];
        if (!p->calls) continue;
        qd_profile_row *r = &rows[n++];
        char options[96];
        cl_own_options(d, i, options, sizeof options);
        snprintf(r->kernel, sizeof r->kernel, "%.31s%s%.31s", d->variants[i].name, options[0] ? " " : "", options);
        r->calls = p->calls;
        r->seconds = p->seconds;
        r->bytes = p->bytes;
        r->operations = p->operations;
    }
    qsort(rows, (size_t)n, sizeof *rows, slower_first);
    *out = rows;
    *count = n;
    return QD_OK;
}

void cl_profile_reset(void *device) {
    cl_device_state *d = device;
    forget_events(d);
    d->n_trace = d->trace_read = 0;
    for (int i = 0; i < d->n_variants; i++) {
        cl_proof *p = &d->proofs[i];
        p->calls = 0;
        p->seconds = p->bytes = p->operations = 0;
    }
}

void cl_profile_free(cl_device_state *d) {
    forget_events(d);
    free(d->trace);
}

/* What to add to times of the device's clock for those of the host's. No command is queued after its call returned; the
 * one that came back fastest is nearest. Unsigned: it may be negative. */
static uint64_t clock_shift(const cl_device_state *d) {
    int64_t least = INT64_MAX;
    for (int i = 0; i < d->n_trace; i++) {
        const int64_t shift = (int64_t)(d->trace[i].given - d->trace[i].queued);
        least = shift < least ? shift : least;
    }
    return (uint64_t)least;
}

/* Transfers are in a line of their own, each stage of each compute unit, too. */
static qd_trace_span span_of(const cl_device_state *d, const cl_trace_event *t, uint64_t shift) {
    qd_trace_span s = {.name = t->variant == CL_TRACE_WRITE ? "write" : "read", .part = "", .category = "transfer"};
    s.queued = t->queued + shift;
    s.start = t->start + shift;
    s.end = t->end + shift;
    s.bytes = t->bytes;
    if (t->variant < 0) return s;
    const cl_variant *v = &d->variants[t->variant];
    s.name = v->name;
    s.part = qd_fpga_stage_name(cl_variant_stages(d, v), t->stage);
    s.category = qd_op_get(v->op)->name;
    s.line = 1 + t->unit * CL_STAGES + t->stage;
    return s;
}

qd_status cl_profile_trace(void *device, qd_trace_span **spans, int *count) {
    cl_device_state *d = device;
    const qd_status status = collect(d);
    if (status || !d->n_trace) return status;
    qd_trace_span *grown = qd_realloc(*spans, ((size_t)*count + (size_t)d->n_trace) * sizeof *grown);
    if (!grown) return QD_ERR_MEMORY;
    *spans = grown;
    const uint64_t shift = clock_shift(d);
    for (int i = 0; i < d->n_trace; i++)
        grown[(*count)++] = span_of(d, &d->trace[i], shift);
    return QD_OK;
}
