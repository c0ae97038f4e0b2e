/* Recordings: the launches of a graph in a command buffer (cl_khr_command_buffer), which later runs give to the queue
 * by one call. For devices that have no chains, as GPUs: there the host's part of a small operator is the call that
 * launches it.
 *
 * The extension is provisional and young, so it is probed: launches one behind the other, twice. A launch ought to keep
 * the arguments that its kernel had when it was recorded; PoCL 3.1 takes those of later. So nothing depends on it: each
 * launch has a kernel of its own, and a recording is only used while these have the arguments that they were recorded
 * with (run_nodes in core/graph.c). Its functions are asked for by name; the header only gives their types. */
#include <stdlib.h>

#include "opencl/cl_internal.h"

struct cl_recording {
    cl_command_buffer_khr commands;
    int launches;
    unsigned scratch_number; /* of the device's scratch that its kernels use; 0: none */
    cl_event last; /* of the last time that it was given to the queue, or NULL: it cannot be twice at a time */
};

/* ---- The extension's functions ------------------------------------------------------------------------------ */

static bool find_functions(cl_device_state *d) {
    cl_command_functions *f = &d->commands;
#define FIND(member, name) \
    if (!(*(void **)&f->member = clGetExtensionFunctionAddressForPlatform(d->platform, #name))) return false
    FIND(create, clCreateCommandBufferKHR);
    FIND(launch, clCommandNDRangeKernelKHR);
    FIND(finalize, clFinalizeCommandBufferKHR);
    FIND(enqueue, clEnqueueCommandBufferKHR);
    FIND(release, clReleaseCommandBufferKHR);
#undef FIND
    return true;
}

static bool has_commands(cl_device_state *d) {
    const char *why;
    return cl_feature_has(d, CL_NEEDS_COMMAND_BUFFERS, &why) && (d->commands.create || find_functions(d));
}

/* ---- Probe -------------------------------------------------------------------------------------------------- */

qd_status cl_recording_probe(cl_device_state *d, const cl_kernel kernels[2]) {
    enum { ITEMS = 64, TIMES = 2 };
    const size_t items = ITEMS;
    cl_command_buffer_khr commands = NULL;
    cl_sync_point_khr point;
    cl_int e;
    qd_status status = QD_OK;
    if (!find_functions(d)) return qd_fail(QD_ERR_UNSUPPORTED, "the driver has not all functions of command buffers");
    commands = d->commands.create(1, &d->queue, NULL, &e);
    CL_TRY(d, e, "making a command buffer");
    for (int i = 0; i < 2; i++) {
        CL_TRY(d,
               d->commands.launch(commands, NULL, NULL, kernels[i], 1, NULL, &items, &items, i ? 1 : 0,
                                  i ? &point : NULL, &point, NULL),
               "recording a kernel");
    }
    CL_TRY(d, d->commands.finalize(commands), "ending a command buffer");
    for (int i = 0; i < TIMES; i++) {
        CL_TRY(d, d->commands.enqueue(0, NULL, commands, 0, NULL, NULL), "starting a command buffer");
        CL_TRY(d, clFinish(d->queue), "waiting for the device");
    }
error:
    if (commands) d->commands.release(commands);
    return status;
}

/* ---- Recording ---------------------------------------------------------------------------------------------- */

qd_status cl_record(void *device) {
    cl_device_state *d = device;
    cl_int e;
    /* CPUs have chains, but for queues that take work in any order; those of cards order transfers by events of
     * launches. */
    if ((d->is_cpu && !d->out_of_order) || d->transfers || d->binary || d->options.profile || d->options.unproven ||
        !has_commands(d)) {
        return QD_ERR_UNSUPPORTED;
    }
    cl_recording *r = qd_alloc_zero(1, sizeof *r);
    if (!r) return QD_ERR_MEMORY;
    r->commands = d->commands.create(1, &d->queue, NULL, &e);
    if (e != CL_SUCCESS) {
        free(r);
        return cl_fail(d, e, "making a command buffer");
    }
    d->recording = r;
    d->scratch_recorded = false;
    return QD_OK;
}

qd_status cl_recording_add(cl_device_state *d, cl_kernel kernel, size_t global, size_t local,
                           const cl_sync_point_khr points[], cl_uint n, cl_sync_point_khr *point) {
    cl_recording *r = d->recording;
    const cl_int e = d->commands.launch(r->commands, NULL, NULL, kernel, 1, NULL, &global, &local, n, n ? points : NULL,
                                        point, NULL);
    if (e != CL_SUCCESS) return cl_fail(d, e, "recording a kernel");
    r->launches++;
    return QD_OK;
}

void cl_recording_uses_scratch(cl_device_state *d) {
    d->recording->scratch_number = d->scratch_number;
}

qd_status cl_recorded(void *device, bool whole, void **out) {
    cl_device_state *d = device;
    cl_recording *r = d->recording;
    qd_status status = QD_OK;
    d->recording = NULL;
    *out = NULL;
    if (whole) CL_TRY(d, d->commands.finalize(r->commands), "ending a command buffer");
    if (whole) *out = r;
error:
    if (!*out) cl_recording_free(d, r);
    return status;
}

qd_status cl_replay(void *device, void *recording) {
    cl_device_state *d = device;
    cl_recording *r = recording;
    cl_event done;
    qd_status status = QD_OK;
    QD_TRY(cl_alive(d));
    if (r->scratch_number && r->scratch_number != d->scratch_number) return QD_ERR_UNSUPPORTED; /* it has grown since */
    if (r->last) {
        CL_TRY(d, clWaitForEvents(1, &r->last), "waiting for a command buffer");
        clReleaseEvent(r->last);
        r->last = NULL;
    }
    CL_TRY(d, d->commands.enqueue(0, NULL, r->commands, 0, NULL, &done), "starting a command buffer");
    r->last = done;
    d->in_flight += r->launches;
error:
    return status;
}

void cl_recording_free(void *device, void *recording) {
    cl_device_state *d = device;
    cl_recording *r = recording;
    if (!r) return;
    if (r->last) {
        if (!d->lost) clWaitForEvents(1, &r->last); /* a device that is gone would never end it */
        clReleaseEvent(r->last);
    }
    d->commands.release(r->commands);
    free(r);
}
