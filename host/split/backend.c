/* The devices layers:A,B,… and rows:A,B,… */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "split/split.h"

/* ---- The device string -------------------------------------------------------------------------------------- */

static const char usage[] =
    "write layers:DEVICE[=SHARE],DEVICE[=SHARE],… or rows:…, as in layers:opencl:0=3,opencl:1=1";

/* One device: "opencl:0", or "opencl:0=3". */
static qd_status open_part(split_device *d, char *text, const qd_context_options *options) {
    split_part *p = &d->parts[d->n_parts];
    char *share = strrchr(text, '='), *end;
    p->share = 1;
    if (share) {
        p->share = strtod(share + 1, &end);
        if (!share[1] || *end || !(p->share > 0) || p->share > 1e6)
            return qd_fail(QD_ERR_NO_DEVICE, "\"%s\" is no share of the work: %s", share + 1, usage);
        *share = 0;
    }
    p->backend = qd_backend_find(text);
    if (!p->backend || p->backend == &qd_backend_layers || p->backend == &qd_backend_rows)
        return qd_fail(QD_ERR_NO_DEVICE, "\"%s\" is no device that work can be shared with: %s", text, usage);
    const qd_status status = p->backend->open(text, options, &p->info, &p->device);
    if (!status) d->n_parts++;
    return status;
}

static void append(char *text, size_t capacity, const char *more) {
    const size_t used = strlen(text);
    snprintf(text + used, capacity - used, "%s%s", used ? " + " : "", more);
}

/* Of all of them: what each can do, the sum of what they have. */
static void describe(const split_device *d, const char *device, qd_device_info *info) {
    memset(info, 0, sizeof *info);
    snprintf(info->id, sizeof info->id, "%s", device);
    snprintf(info->kind, sizeof info->kind, "several");
    snprintf(info->driver, sizeof info->driver, "%s", qd_version());
    info->usable = true;
    for (int i = 0; i < d->n_parts; i++) {
        const qd_device_info *one = &d->parts[i].info;
        append(info->platform, sizeof info->platform, one->platform);
        append(info->name, sizeof info->name, one->name);
        append(info->version, sizeof info->version, one->version);
        info->compute_units += one->compute_units;
        info->memory_bytes += one->memory_bytes;
        if (!i || one->max_alloc_bytes < info->max_alloc_bytes) info->max_alloc_bytes = one->max_alloc_bytes;
    }
}

static void split_close(void *device) {
    split_device *d = device;
    for (int i = 0; i < d->n_parts; i++)
        d->parts[i].backend->close(d->parts[i].device);
    free(d->staging);
    free(d);
}

static qd_status split_open(const char *device, const qd_context_options *options, qd_device_info *info, void **out,
                            bool by_rows) {
    qd_context_options each = *options;
    char text[512], *rest = NULL;
    const char *list = strchr(device, ':');
    double all = 0;
    qd_status status = QD_OK;
    split_device *d = qd_alloc_zero(1, sizeof *d);
    if (!d) return QD_ERR_MEMORY;
    d->by_rows = by_rows;
    each.in_order = true; /* one operator after the other on each: there are no events between devices */
    if (!list || snprintf(text, sizeof text, "%s", list + 1) >= (int)sizeof text) text[0] = 0;
    for (char *word = strtok_r(text, ",", &rest); word; word = strtok_r(NULL, ",", &rest)) {
        if (d->n_parts == SPLIT_MOST) {
            status = qd_fail(QD_ERR_NO_DEVICE, "\"%s\" has more than %d devices", device, SPLIT_MOST);
            goto error;
        }
        QD_TRY(open_part(d, word, &each));
        all += d->parts[d->n_parts - 1].share;
    }
    if (d->n_parts < 2) {
        status = qd_fail(QD_ERR_NO_DEVICE, "\"%s\" needs two devices or more: %s", device, usage);
        goto error;
    }
    for (int i = 0; i < d->n_parts; i++)
        d->parts[i].share /= all;
    describe(d, device, info);
    *out = d;
    return QD_OK;
error:
    split_close(d);
    return status;
}

static qd_status layers_open(const char *device, const qd_context_options *options, qd_device_info *info, void **out) {
    return split_open(device, options, info, out, false);
}

static qd_status rows_open(const char *device, const qd_context_options *options, qd_device_info *info, void **out) {
    return split_open(device, options, info, out, true);
}

/* They are made by asking for them. */
static qd_status split_list(qd_device_info **devices, int *count) {
    (void)devices, (void)count;
    return QD_OK;
}

/* ---- All of them -------------------------------------------------------------------------------------------- */

static qd_status split_begin(void *device) {
    split_device *d = device;
    qd_status status = QD_OK;
    for (int i = 0; i < d->n_parts && !status; i++) {
        if (d->parts[i].backend->begin) status = d->parts[i].backend->begin(d->parts[i].device);
    }
    return status;
}

static qd_status split_submit(void *device) {
    split_device *d = device;
    qd_status status = QD_OK;
    for (int i = 0; i < d->n_parts && !status; i++) {
        if (d->parts[i].backend->submit) status = d->parts[i].backend->submit(d->parts[i].device);
    }
    return status;
}

static qd_status split_finish(void *device) {
    split_device *d = device;
    qd_status status = QD_OK;
    for (int i = 0; i < d->n_parts && !status; i++)
        status = d->parts[i].backend->finish(d->parts[i].device);
    return status;
}

static void split_memory(void *device, qd_memory_info *out) {
    split_device *d = device;
    memset(out, 0, sizeof *out);
    for (int i = 0; i < d->n_parts; i++) {
        qd_memory_info one = {0};
        if (d->parts[i].backend->memory) d->parts[i].backend->memory(d->parts[i].device, &one);
        out->used += one.used;
        out->pooled += one.pooled;
        out->peak += one.peak;
        out->budget += one.budget;
    }
}

/* Appends `n` elements of `size` bytes to *all and frees them; also frees them when there is no memory. */
static qd_status append_rows(void **all, int *count, void *more, int n, size_t size) {
    qd_status status = QD_OK;
    void *grown = n ? qd_realloc(*all, (size_t)(*count + n) * size) : *all;
    if (n && !grown) {
        status = QD_ERR_MEMORY;
    } else if (n) {
        memcpy((char *)grown + (size_t)*count * size, more, (size_t)n * size);
        *all = grown;
        *count += n;
    }
    free(more);
    return status;
}

static qd_status split_kernels(void *device, qd_kernel_info **out, int *count) {
    split_device *d = device;
    qd_status status = QD_OK;
    void *all = NULL;
    int total = 0;
    for (int i = 0; i < d->n_parts; i++) {
        qd_kernel_info *rows = NULL;
        int n = 0;
        if (d->parts[i].backend->kernels) QD_TRY(d->parts[i].backend->kernels(d->parts[i].device, &rows, &n));
        QD_TRY(append_rows(&all, &total, rows, n, sizeof *rows));
    }
    *out = all;
    *count = total;
    return QD_OK;
error:
    free(all);
    return status;
}

/* Kernels are told apart by the number of their device. */
static qd_status split_profile(void *device, qd_profile_row **out, int *count) {
    split_device *d = device;
    qd_status status = QD_OK;
    void *all = NULL;
    int total = 0;
    for (int i = 0; i < d->n_parts; i++) {
        qd_profile_row *rows = NULL;
        int n = 0;
        if (d->parts[i].backend->profile) QD_TRY(d->parts[i].backend->profile(d->parts[i].device, &rows, &n));
        for (int k = 0; k < n; k++) {
            char name[sizeof rows[k].kernel];
            snprintf(name, sizeof name, "%d: %.*s", i, (int)sizeof name - 5, rows[k].kernel);
            memcpy(rows[k].kernel, name, sizeof name);
        }
        QD_TRY(append_rows(&all, &total, rows, n, sizeof *rows));
    }
    *out = all;
    *count = total;
    return QD_OK;
error:
    free(all);
    return status;
}

static qd_status split_trace(void *device, qd_trace_span **spans, int *count) {
    split_device *d = device;
    qd_status status = QD_OK;
    for (int i = 0; i < d->n_parts && !status; i++) {
        int at = *count;
        if (d->parts[i].backend->trace) status = d->parts[i].backend->trace(d->parts[i].device, spans, count);
        for (; at < *count; at++)
            (*spans)[at].device = i;
    }
    return status;
}

static void split_profile_reset(void *device) {
    split_device *d = device;
    for (int i = 0; i < d->n_parts; i++) {
        if (d->parts[i].backend->profile_reset) d->parts[i].backend->profile_reset(d->parts[i].device);
    }
}

#define SPLIT_BACKEND(NAME)                   \
    const qd_backend qd_backend_##NAME = {    \
        .name = #NAME,                        \
        .list = split_list,                   \
        .open = NAME##_open,                  \
        .close = split_close,                 \
        .alloc = split_alloc,                 \
        .release = split_release,             \
        .write = split_write,                 \
        .read = split_read,                   \
        .forget = split_forget,               \
        .refresh = split_refresh,             \
        .plan = split_plan,                   \
        .prepare = split_prepare,             \
        .retire = split_retire,               \
        .begin = split_begin,                 \
        .enqueue = split_enqueue,             \
        .submit = split_submit,               \
        .finish = split_finish,               \
        .memory = split_memory,               \
        .kernels = split_kernels,             \
        .profile = split_profile,             \
        .profile_reset = split_profile_reset, \
        .trace = split_trace,                 \
    };
SPLIT_BACKEND(layers)
SPLIT_BACKEND(rows)
