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

qd_status cl_pipeline_enqueue(cl_device_state *d, const qd_node *n, const cl_variant *v, int64_t rows,
                              const cl_kernel kernels[], int n_kernels, const cl_event list[], cl_uint n_list,
                              cl_event events[], cl_event *done) {
    const int stages = cl_variant_stages(d, v), units = cl_variant_units(d, v);
    const bool in_turn = stages == 1 || (d->deep_channels && most_words(n, rows) < CL_DEEP_CHANNEL);
    const size_t one = 1;
    cl_command_queue queues[CL_UNITS][CL_STAGES];
    cl_event wait[2] = {NULL, NULL}, start = NULL;
    cl_int e = CL_SUCCESS;
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
    for (int i = 0; i < n_kernels; i++) {
        const bool after_last = in_turn && i % stages;
        CL_TRY(d,
               clEnqueueNDRangeKernel(queues[i / stages % units][i % stages], kernels[i], 1, NULL, &one, &one,
                                      after_last ? 1 : 2, after_last ? &events[i - 1] : wait, &events[i]),
               "starting a stage");
    }
    CL_TRY(d, clEnqueueMarkerWithWaitList(d->queue, (cl_uint)n_kernels, events, done), "ordering queues");
    CL_TRY(d, clSetUserEventStatus(start, CL_COMPLETE), "starting a pipeline");
    start = NULL;
    for (int u = 0; u < units; u++) {
        for (int s = 0; s < stages; s++)
            CL_TRY(d, clFlush(queues[u][s]), "submitting work");
    }
error:
    if (status && start) clSetUserEventStatus(start, -1); /* those that were enqueued end with an error */
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
