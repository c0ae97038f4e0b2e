/* The device, as ggml's registry, device and buffer type see it. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "buffer.h"
#include "plugin.h"
#include "program.h"

double qg_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void qg_lock(qg_device *d) {
    pthread_mutex_lock(&d->lock);
}

void qg_unlock(qg_device *d) {
    pthread_mutex_unlock(&d->lock);
}

/* ---- Registry ----------------------------------------------------------------------------------------------- */

static const char *reg_name(ggml_backend_reg_t reg) {
    (void)reg;
    return "QDOT";
}

static size_t reg_device_count(ggml_backend_reg_t reg) {
    (void)reg;
    return 1;
}

static ggml_backend_dev_t reg_device(ggml_backend_reg_t reg, size_t index) {
    qg_device *d = reg->context;
    return index == 0 ? &d->device : NULL;
}

/* ---- Opening ------------------------------------------------------------------------------------------------ */

static void on_log(void *user, const char *line) {
    (void)user;
    GGML_LOG_INFO("qdot: %s\n", line);
}

static qg_device the_device = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool open_context(qg_device *d) {
    if (!qg_options_read(&d->options)) return false;
    const qd_context_options o = {.profile = d->options.profile != NULL, .verify = d->options.verify, .log = on_log};
    const qd_status status = qd_context_create(d->options.device, &o, &d->context);
    if (status) {
        GGML_LOG_ERROR("qdot: cannot open device %s: %s\n", d->options.device, qd_last_message());
        return false;
    }
    d->info = qd_context_device(d->context);
    snprintf(d->description, sizeof d->description, "%s (%s)", d->info->name, d->info->platform);
    return true;
}

qg_device *qg_device_open(void) {
    static bool failed;
    qg_device *d = &the_device;
    qg_lock(d);
    if (!d->context && !failed) failed = !open_context(d);
    if (d->context && !d->device.reg) {
        d->reg = (struct ggml_backend_reg){
            .api_version = GGML_BACKEND_API_VERSION,
            .iface = {.get_name = reg_name, .get_device_count = reg_device_count, .get_device = reg_device},
            .context = d};
        d->device = (struct ggml_backend_device){qg_device_interface, &d->reg, d};
        d->buffer_type = (struct ggml_backend_buffer_type){qg_buffer_type_interface, &d->device, d};
    }
    qg_unlock(d);
    return d->context ? d : NULL;
}

/* ---- Report ------------------------------------------------------------------------------------------------- */

static void log_profile(qg_device *d) {
    qd_profile_row *rows;
    int n;
    if (qd_context_profile(d->context, &rows, &n)) {
        GGML_LOG_WARN("qdot: no profile: %s\n", qd_last_message());
        return;
    }
    GGML_LOG_INFO("qdot: %-40s %9s %10s %8s %8s\n", "kernel", "calls", "ms", "GB/s", "GOP/s");
    for (int i = 0; i < n; i++) {
        const qd_profile_row *r = &rows[i];
        const double scale = r->seconds > 0 ? 1e-9 / r->seconds : 0;
        GGML_LOG_INFO("qdot: %-40s %9llu %10.2f %8.2f %8.2f\n", r->kernel, (unsigned long long)r->calls,
                      1e3 * r->seconds, r->bytes * scale, r->operations * scale);
    }
    qd_profile_free(rows);
    if (!strcmp(d->options.profile, "table")) return;
    if (qd_context_trace(d->context, d->options.profile)) {
        GGML_LOG_WARN("qdot: no trace: %s\n", qd_last_message());
    } else {
        GGML_LOG_INFO("qdot: trace written to %s\n", d->options.profile);
    }
}

void qg_device_report(qg_device *d) {
    qg_lock(d);
    const qg_counts *c = &d->counts;
    if (c->graphs) {
        const double own = c->compute_seconds - c->library_seconds - c->compile_seconds;
        GGML_LOG_INFO(
            "qdot: %llu graphs (%llu compiled in %.3f s), %llu nodes, %llu operators, %llu of them in chains, %llu of "
            "them on the reference; %.3f s, of which %.2f%% in this backend\n",
            (unsigned long long)c->graphs, (unsigned long long)c->compiled, c->compile_seconds,
            (unsigned long long)c->nodes, (unsigned long long)c->operators, (unsigned long long)c->chained,
            (unsigned long long)c->fallbacks, c->compute_seconds - c->compile_seconds,
            100 * own / (c->compute_seconds - c->compile_seconds));
        if (d->options.profile) log_profile(d);
    }
    d->counts = (qg_counts){0};
    qg_unlock(d);
}

/* ---- Device ------------------------------------------------------------------------------------------------- */

static qg_device *of(ggml_backend_dev_t dev) {
    return dev->context;
}

static const char *device_name(ggml_backend_dev_t dev) {
    (void)dev;
    return "QDOT";
}

static const char *device_description(ggml_backend_dev_t dev) {
    return of(dev)->description;
}

static size_t used_memory(const qg_device *d) {
    qd_memory_info m = {0};
    qd_context_memory(d->context, &m);
    return m.used;
}

size_t qg_device_memory(const qg_device *d) {
    qd_memory_info m = {0};
    qd_context_memory(d->context, &m);
    return m.budget ? m.budget : d->info->memory_bytes;
}

static void device_memory(ggml_backend_dev_t dev, size_t *available, size_t *total) {
    qg_device *d = of(dev);
    qg_lock(d);
    const size_t used = used_memory(d);
    *total = qg_device_memory(d);
    *available = *total > used ? *total - used : 0;
    qg_unlock(d);
}

/* Whatever it runs on: only devices of the type GPU get layers. */
static enum ggml_backend_dev_type device_type(ggml_backend_dev_t dev) {
    (void)dev;
    return GGML_BACKEND_DEVICE_TYPE_GPU;
}

static void device_props(ggml_backend_dev_t dev, struct ggml_backend_dev_props *props) {
    *props = (struct ggml_backend_dev_props){.name = device_name(dev),
                                             .description = device_description(dev),
                                             .type = device_type(dev),
                                             .caps = {
                                                 .buffer_from_host_ptr = true,
#if GGML_BACKEND_API_VERSION >= 3
                                                 .mmap_support = true,
#endif
                                             }};
    device_memory(dev, &props->memory_free, &props->memory_total);
}

static ggml_backend_t device_stream(ggml_backend_dev_t dev, const char *params) {
    if (params && params[0]) {
        GGML_LOG_ERROR("qdot: unknown parameters \"%s\": options are environment variables\n", params);
        return NULL;
    }
    return qg_stream_create(of(dev));
}

static ggml_backend_buffer_type_t device_buffer_type(ggml_backend_dev_t dev) {
    return &of(dev)->buffer_type;
}

static ggml_backend_buffer_t device_borrow(ggml_backend_dev_t dev, void *memory, size_t size, size_t max_tensor_size) {
    (void)max_tensor_size;
    return qg_buffer_borrow(of(dev), memory, size);
}

/* Each reason is logged once: the host asks about every node of every graph. */
static void log_refusal(const struct ggml_tensor *op, const char *why) {
    enum { MOST = 256 };
    static struct {
        enum ggml_op op;
        const char *why;
    } told[MOST];
    static int n;
    for (int i = 0; i < n; i++) {
        if (told[i].op == op->op && told[i].why == why) return;
    }
    if (n == MOST) return;
    told[n].op = op->op;
    told[n++].why = why;
    GGML_LOG_DEBUG("qdot: %s %s stays with the host: %s\n", ggml_op_desc(op), op->name, why);
}

static bool device_supports_op(ggml_backend_dev_t dev, const struct ggml_tensor *op) {
    const char *why = qg_refuse(op);
    if (!why) return true;
    qg_lock(of(dev));
    log_refusal(op, why);
    qg_unlock(of(dev));
    return false;
}

static bool device_supports_buffer(ggml_backend_dev_t dev, ggml_backend_buffer_type_t type) {
    return type == &of(dev)->buffer_type;
}

const struct ggml_backend_device_i qg_device_interface = {
    .get_name = device_name,
    .get_description = device_description,
    .get_memory = device_memory,
    .get_type = device_type,
    .get_props = device_props,
    .init_backend = device_stream,
    .get_buffer_type = device_buffer_type,
    .buffer_from_host_ptr = device_borrow,
    .supports_op = device_supports_op,
    .supports_buft = device_supports_buffer,
};
