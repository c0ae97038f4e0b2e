/* What a context's devices did, as a Chrome trace. */
#include <stdio.h>
#include <stdlib.h>

#include "core/context.h"

/* A complete event ("ph":"X") of the Trace Event Format, times in microseconds; a device is a process there. The names
 * come from kernels.def and need no escaping. */
static void write_span(FILE *f, const qd_trace_span *s, uint64_t zero) {
    fprintf(f,
            "{\"name\":\"%s%s\",\"cat\":\"%s\",\"ph\":\"X\",\"pid\":%d,\"tid\":%d,\"ts\":%.3f,\"dur\":%.3f,"
            "\"args\":{\"bytes\":%.0f,\"waited_us\":%.3f}}",
            s->name, s->part, s->category, 1 + s->device, s->line, (double)(s->start - zero) * 1e-3,
            (double)(s->end - s->start) * 1e-3, s->bytes, (double)(s->start - s->queued) * 1e-3);
}

static qd_status write_spans(const char *path, const qd_trace_span *spans, int count) {
    FILE *f = fopen(path, "w");
    if (!f) return qd_fail(QD_ERR_IO, "cannot write the trace to %s", path);
    uint64_t zero = UINT64_MAX;
    for (int i = 0; i < count; i++)
        zero = spans[i].queued < zero ? spans[i].queued : zero;
    fprintf(f, "{\"traceEvents\":[\n");
    for (int i = 0; i < count; i++) {
        write_span(f, &spans[i], zero);
        fprintf(f, "%s\n", i + 1 < count ? "," : "");
    }
    fprintf(f, "]}\n");
    const bool failed = ferror(f) != 0;
    if (fclose(f) || failed) {
        remove(path);
        return qd_fail(QD_ERR_IO, "could not write the trace to %s (disk full?)", path);
    }
    return QD_OK;
}

qd_status qd_context_trace(qd_context *c, const char *path) {
    if (!c || !path) return qd_fail(QD_ERR_ARGUMENT, "qd_context_trace: no argument may be NULL");
    if (!c->options.profile) return qd_fail(QD_ERR_ARGUMENT, "create the context with options.profile to get a trace");
    if (!c->backend->trace) return qd_fail(QD_ERR_UNSUPPORTED, "device %s records no trace", c->info.id);
    qd_trace_span *spans = NULL;
    int count = 0;
    qd_status status = c->backend->trace(c->device, &spans, &count);
    if (!status) status = write_spans(path, spans, count);
    free(spans);
    return status;
}
