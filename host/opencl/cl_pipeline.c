/* Pipelines: kernels joined by channels. On a device they run at the same time, each from a queue of its own.
 *
 * Intel's emulator has a thread for each kernel, which spins while its channel is empty or full: with fewer cores than
 * kernels, each change of turns costs a time slice. So there channels are made deep, and where they hold all that a
 * stage puts into them, the stages run one after the other. The vendor's own switch,
 * CL_CONFIG_CHANNEL_DEPTH_EMULATION_MODE=strict, asks for the depths in the source, and stages side by side. */
#include "opencl/cl_internal.h"

/* Codes of a word: QD_VEC of fpga/turns.h. */
enum { CL_WORD = 16 };

/* The queue of a stage of a compute unit: the first of all is the device's own. */
static cl_command_queue queue_of(cl_device_state *d, int unit, int stage, cl_int *e) {
    cl_command_queue *q = &d->stage_queues[unit][stage];
    *e = CL_SUCCESS;
    if (!unit && !stage) return d->queue;
    if (!*q) *q = clCreateCommandQueue(d->context, d->id, d->options.profile ? CL_QUEUE_PROFILING_ENABLE : 0u, e);
    return *q;
}

/* No channel carries more words than one for each 16 codes of each element of y (fpga/turns.h). */
static double most_words(const qd_node *n, int64_t rows) {
    double codes;
    switch (n->op) {
        case QD_OP_MATMUL_INT:
            codes = n->params.matmul_int.k;
            break;
        case QD_OP_CONV_INT: {
            const qd_window_params *v = &n->params.conv_int.window;
            codes = (double)v->kernel_h * v->kernel_w * (v->channels / n->params.conv_int.groups + CL_WORD - 1);
            break;
        }
        default:
            codes = (double)n->in[1]->desc.shape[1];
            break;
    }
    double elements = (double)rows;
    for (int i = 1; i < n->out[0]->desc.rank; i++)
        elements *= (double)n->out[0]->desc.shape[i];
    return elements * (codes + CL_WORD) / CL_WORD;
}

/* After a failure that left stages in queues, which `status` says. When all of them are there they run, so that no
 * channel keeps a word, and are over on return, since nobody will wait for them. When some are not, in spite of a
 * second attempt, those that are must never run: the device is of no use any more. (That such an end be the rule,
 * Intel's emulator does not allow: it keeps for ever what waits for an event that failed because of another.) `start`:
 * NULL when they run already. Returns what the caller has to. */
static qd_status abandon(cl_device_state *d, cl_event start, cl_command_queue queues[CL_UNITS][CL_STAGES], int units,
                         int stages, const cl_event events[], int given, int n_kernels, qd_status status) {
    bool runs = given == n_kernels;
    if (runs && start) runs = clSetUserEventStatus(start, CL_COMPLETE) == CL_SUCCESS;
    for (int u = 0; runs && u < units; u++) {
        for (int s = 0; s < stages; s++)
            clFlush(queues[u][s]);
    }
    if (runs) {
        clWaitForEvents((cl_uint)n_kernels, events);
        return status;
    }
    clSetUserEventStatus(start, -1);
    return cl_fail(d, CL_DEVICE_NOT_AVAILABLE, "starting a part of a pipeline only");
}

qd_status cl_pipeline_enqueue(cl_device_state *d, const qd_node *n, const cl_variant *v, int64_t rows,
                              const cl_kernel kernels[], int n_kernels, const cl_event list[], cl_uint n_list,
                              cl_event events[], cl_event *done) {
    const int stages = cl_variant_stages(d, v), units = cl_variant_units(d, v);
    const bool in_turn = stages == 1 || (d->deep_channels && most_words(n, rows) < CL_DEEP_CHANNEL);
    const size_t one = 1;
    cl_command_queue queues[CL_UNITS][CL_STAGES];
    cl_event wait[2] = {NULL, NULL}, start = NULL;
    cl_int e = CL_SUCCESS;
    int given = 0; /* stages that are enqueued */
    qd_status status = QD_OK;
    for (int u = 0; u < units; u++) {
        for (int s = 0; s < stages; s++) {
            queues[u][s] = queue_of(d, u, in_turn ? 0 : s, &e);
            CL_TRY(d, e, "creating a queue");
        }
    }
    /* A stage whose neighbour never starts would wait for ever, or leave words in a channel: none starts before all are
     * there. */
    start = wait[0] = clCreateUserEvent(d->context, &e);
    CL_TRY(d, e, "creating an event");
    /* The other queues do not know what comes before on the device's own. */
    CL_TRY(d, clEnqueueMarkerWithWaitList(d->queue, n_list, n_list ? list : NULL, &wait[1]), "ordering queues");
    for (; given < n_kernels; given++) {
        const bool after_last = in_turn && given % stages;
        for (int attempt = 0; attempt < (given ? 2 : 1); attempt++) {
            e = clEnqueueNDRangeKernel(queues[given / stages % units][given % stages], kernels[given], 1, NULL, &one,
                                       &one, after_last ? 1 : 2, after_last ? &events[given - 1] : wait,
                                       &events[given]);
            if (e == CL_SUCCESS) break;
            status = cl_fail(d, e, "starting a stage");
        }
        if (e != CL_SUCCESS) goto error;
    }
    if (status) goto error;
    CL_TRY(d, clEnqueueMarkerWithWaitList(d->queue, (cl_uint)n_kernels, events, done), "ordering queues");
    CL_TRY(d, clSetUserEventStatus(start, CL_COMPLETE), "starting a pipeline");
    start = NULL;
    for (int u = 0; u < units; u++) {
        for (int s = 0; s < stages; s++)
            CL_TRY(d, clFlush(queues[u][s]), "submitting work");
    }
error:
    if (status && given) status = abandon(d, start, queues, units, stages, events, given, n_kernels, status);
    for (int i = 0; i < 2; i++) {
        if (wait[i]) clReleaseEvent(wait[i]);
    }
    return status;
}

void cl_pipeline_close(cl_device_state *d) {
    for (int i = 1; i < CL_UNITS * CL_STAGES; i++) {
        const cl_command_queue q = d->stage_queues[i / CL_STAGES][i % CL_STAGES];
        if (q) clReleaseCommandQueue(q);
    }
    if (d->transfers) clReleaseCommandQueue(d->transfers);
}
