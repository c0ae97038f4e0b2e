#include "core/context.h"
#include "qdot/qdot_fpga.h"
#include "qdot/qdot_sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const qd_backend *const backends[] = {
    &qd_backend_ref, &qd_backend_opencl, &qd_backend_sim, &qd_backend_layers, &qd_backend_rows,
#ifdef QDOT_HAVE_RTL
    &qd_backend_rtl,
#endif
};
enum { BACKENDS = sizeof backends / sizeof backends[0] };

void qd_log(const qd_context *c, const char *format, ...) {
    if (!c->options.log) return;
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    c->options.log(c->options.log_user, line);
}

qd_status qd_devices_list(qd_device_info **out, int *count) {
    qd_status status = QD_OK;
    if (!out || !count) return qd_fail(QD_ERR_ARGUMENT, "qd_devices_list: out and count must not be NULL");
    qd_device_info *devices = NULL;
    int n = 0;
    for (int i = 0; i < BACKENDS; i++) {
        QD_TRY(backends[i]->list(&devices, &n));
    }
    *out = devices;
    *count = n;
    return QD_OK;
error:
    free(devices);
    return status;
}

void qd_devices_free(qd_device_info *devices) {
    free(devices);
}

const qd_backend *qd_backend_find(const char *device) {
    for (int i = 0; i < BACKENDS; i++) {
        const size_t n = strlen(backends[i]->name);
        if (!strncmp(device, backends[i]->name, n) && (!device[n] || device[n] == ':')) return backends[i];
    }
    return NULL;
}

qd_status qd_context_create(const char *device, const qd_context_options *options, qd_context **out) {
    if (!out) return qd_fail(QD_ERR_ARGUMENT, "qd_context_create: out must not be NULL");
    const char *asked = device ? device : getenv("QDOT_DEVICE");
    if (asked && !*asked) asked = NULL;
    const char *name = asked ? asked : "opencl";
    const qd_backend *backend = qd_backend_find(name);
#ifndef QDOT_HAVE_RTL
    if (!strcmp(name, "rtl") || !strncmp(name, "rtl:", 4)) {
        return qd_fail(QD_ERR_NO_DEVICE,
                       "no device \"%s\": this build has no verilated unit; install Verilator and a C++ "
                       "compiler (sh host/setup.sh rtl) and build with -DQDOT_RTL=ON",
                       name);
    }
#endif
    if (!backend) {
        return qd_fail(
            QD_ERR_NO_DEVICE,
            "no device \"%s\": use ref, opencl, opencl:gpu, opencl:NAME[:INDEX], rtl, sim:BOARD, or several of them as "
            "layers:A,B or rows:A,B; \"qdot devices\" lists them",
            name);
    }
    qd_context *c = qd_alloc_zero(1, sizeof *c);
    if (!c) return QD_ERR_MEMORY;
    if (options) c->options = *options;
    c->backend = backend;
    qd_status status = backend->open(name, &c->options, &c->info, &c->device);
    if (status == QD_ERR_NO_DEVICE && !asked) {
        qd_log(c, "no OpenCL device: computing on the slow reference (%s)", qd_last_message());
        c->backend = &qd_backend_ref;
        status = c->backend->open("ref", &c->options, &c->info, &c->device);
    }
    if (status) {
        free(c);
        return status;
    }
    *out = c;
    return QD_OK;
}

void qd_context_free(qd_context *c) {
    if (!c) return;
    c->backend->close(c->device);
    free(c);
}

const qd_device_info *qd_context_device(const qd_context *c) {
    return &c->info;
}

qd_status qd_context_finish(qd_context *c) {
    if (!c) return qd_fail(QD_ERR_ARGUMENT, "qd_context_finish: the context is NULL");
    return c->backend->finish(c->device);
}

qd_status qd_context_memory(const qd_context *c, qd_memory_info *out) {
    if (!c || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_context_memory: context and out must not be NULL");
    memset(out, 0, sizeof *out);
    if (c->backend->memory) c->backend->memory(c->device, out);
    return QD_OK;
}

qd_status qd_context_kernels(qd_context *c, qd_kernel_info **out, int *count) {
    if (!c || !out || !count) return qd_fail(QD_ERR_ARGUMENT, "qd_context_kernels: no argument may be NULL");
    *out = NULL;
    *count = 0;
    return c->backend->kernels ? c->backend->kernels(c->device, out, count) : QD_OK;
}

void qd_kernels_free(qd_kernel_info *kernels) {
    free(kernels);
}

qd_status qd_context_profile(qd_context *c, qd_profile_row **out, int *count) {
    if (!c || !out || !count) return qd_fail(QD_ERR_ARGUMENT, "qd_context_profile: no argument may be NULL");
    if (!c->options.profile)
        return qd_fail(QD_ERR_ARGUMENT, "create the context with options.profile to get a profile");
    *out = NULL;
    *count = 0;
    return c->backend->profile ? c->backend->profile(c->device, out, count) : QD_OK;
}

void qd_profile_free(qd_profile_row *rows) {
    free(rows);
}

void qd_context_profile_reset(qd_context *c) {
    if (c && c->backend->profile_reset) c->backend->profile_reset(c->device);
}

qd_status qd_fpga_build(qd_context *c, const qd_fpga_manifest *m, const char *path) {
    if (!c || !m || !path) return qd_fail(QD_ERR_ARGUMENT, "qd_fpga_build: no argument may be NULL");
    if (!c->backend->build_binary) return qd_fail(QD_ERR_UNSUPPORTED, "device %s has no binaries", c->info.id);
    return c->backend->build_binary(c->device, m, path);
}

qd_status qd_sim_report_device(qd_context *c, qd_sim_report **out) {
    if (!c || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_sim_report_device: no argument may be NULL");
    if (!c->backend->sim_report)
        return qd_fail(QD_ERR_UNSUPPORTED, "device %s is no simulated board: open sim:BOARD", c->info.id);
    return c->backend->sim_report(c->device, out);
}

qd_status qd_sim_seconds(qd_context *c, double *out) {
    if (!c || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_sim_seconds: no argument may be NULL");
    if (!c->backend->sim_seconds)
        return qd_fail(QD_ERR_UNSUPPORTED, "device %s is no simulated board: open sim:BOARD", c->info.id);
    *out = c->backend->sim_seconds(c->device);
    return QD_OK;
}
