/* A part of a model at run time: programs for the shapes that have come, and the way of tensors in and out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ep.h"

/* Programs that are kept, the one used last in front. A model that runs with more shapes in turn builds them anew. */
enum { PROGRAMS = 8 };

typedef struct compute {
    OrtNodeComputeInfo base; /* first: the host passes it back */
    qep_ep *ep;
    qep_part part;
    size_t *input_index, *output_index; /* places in the host's node */
    qep_argument *arguments;
    int32_t *widened; /* room for codes that become i32 */
    size_t widened_room;
    qep_program *programs[PROGRAMS];
    char name[64];
} compute;

/* ---- Tensors in and out ------------------------------------------------------------------------------------- */

/* Input i of the part. */
static OrtStatus *read_argument(const compute *c, const OrtKernelContext *context, int i) {
    const qep_host *h = &c->ep->host;
    const qep_graph *g = c->part.graph;
    const char *name = g->values[c->part.inputs[i]].name, *first = g->nodes[0].label;
    qep_argument *a = &c->arguments[i];
    const OrtValue *value = NULL;
    OrtTensorTypeAndShapeInfo *info = NULL;
    size_t rank = 0;
    QEP_HOST(h->api->KernelContext_GetInput(context, c->input_index[i], &value));
    if (!value)
        return qep_error(h, ORT_INVALID_ARGUMENT, "node %s and what goes with it: the input '%s' is missing", first,
                         name);
    QEP_HOST(h->api->GetTensorTypeAndShape(value, &info));
    OrtStatus *status = NULL;
    QEP_TRY(h->api->GetDimensionsCount(info, &rank));
    if (rank > QEP_MAX_RANK) {
        QEP_TRY(
            qep_error(h, ORT_INVALID_ARGUMENT,
                      "node %s and what goes with it: the input '%s' has %zu dimensions, of which at most %d are done",
                      first, name, rank, QEP_MAX_RANK));
    }
    a->shape = (qep_shape){.rank = (int)rank};
    QEP_TRY(h->api->GetDimensions(info, a->shape.dims, rank));
    QEP_TRY(h->api->GetTensorData(value, &a->data));
error:
    h->api->ReleaseTensorTypeAndShapeInfo(info);
    return status;
}

/* Room for n numbers. */
static int32_t *widened(compute *c, size_t n) {
    if (n <= c->widened_room) return c->widened;
    int32_t *more = realloc(c->widened, n * sizeof *more);
    if (!more) return NULL;
    c->widened = more;
    c->widened_room = n;
    return more;
}

static qd_status feed(compute *c, const qep_feed *f) {
    for (int i = 0; i < c->part.n_inputs; i++) {
        if (c->part.inputs[i] != f->value) continue;
        const void *data = c->arguments[i].data;
        if (!f->as_i32) return qd_tensor_write(f->tensor, 0, data, f->bytes);
        const size_t n = f->bytes / sizeof(int32_t);
        int32_t *numbers = widened(c, n);
        if (!numbers) return QD_ERR_MEMORY;
        for (size_t k = 0; k < n; k++)
            numbers[k] = (int32_t)qep_number(c->part.graph->values[f->value].type, data, (int64_t)k);
        return qd_tensor_write(f->tensor, 0, numbers, f->bytes);
    }
    return QD_OK;
}

static OrtStatus *failed(const compute *c, const char *label) {
    return qep_error(&c->ep->host, ORT_EP_FAIL, "%s%s: %s", label ? "node " : "", label ? label : c->name,
                     qd_last_message());
}

static OrtStatus *deliver(compute *c, OrtKernelContext *context, size_t index, const qep_result *r) {
    const qep_host *h = &c->ep->host;
    OrtValue *value = NULL;
    void *data = NULL;
    QEP_HOST(h->api->KernelContext_GetOutput(context, index, r->shape.dims, (size_t)r->shape.rank, &value));
    if (!value || !r->tensor) return NULL;
    QEP_HOST(h->api->GetTensorMutableData(value, &data));
    if (!r->from_i32) return qd_tensor_read(r->tensor, 0, data, r->bytes) ? failed(c, NULL) : NULL;
    const size_t n = (size_t)qep_count(&r->shape); /* zero points: bytes on the host */
    int32_t *numbers = widened(c, n);
    if (!numbers) return qep_error(h, ORT_FAIL, "out of memory");
    if (qd_tensor_read(r->tensor, 0, numbers, n * sizeof *numbers)) return failed(c, NULL);
    for (size_t i = 0; i < n; i++)
        ((unsigned char *)data)[i] = (unsigned char)numbers[i];
    return NULL;
}

/* ---- Running ------------------------------------------------------------------------------------------------ */

static void log_program(const compute *c, const qep_program *p) {
    qd_graph_info one, all = {.ops = 0};
    for (int i = 0; i < p->n_steps && !qd_graph_describe(p->steps[i].graph, &one); i++) {
        all.ops += one.ops;
        all.chained += one.chained;
        all.copies += one.copies;
        all.fallbacks += one.fallbacks;
    }
    qep_log(&c->ep->host, ORT_LOGGING_LEVEL_INFO,
            "%s: %d operators, %d of them in chains, %d that turn images, %d on the reference", c->name, all.ops,
            all.chained, all.copies, all.fallbacks);
}

/* The program for the arguments, found or built; it moves to the front. */
static OrtStatus *find_program(compute *c, qep_program **out) {
    int at = 0;
    while (at < PROGRAMS && c->programs[at] && !qep_program_fits(&c->part, c->programs[at], c->arguments))
        at++;
    qep_program *found = at < PROGRAMS ? c->programs[at] : NULL;
    if (!found) {
        char message[512];
        if (qep_program_create(c->ep->context, &c->part, c->arguments, &found, message, sizeof message)) {
            return qep_error(&c->ep->host, ORT_EP_FAIL, "%s", message);
        }
        log_program(c, found);
        if (at == PROGRAMS) qep_program_free(c->programs[--at]);
    }
    memmove(c->programs + 1, c->programs, (size_t)at * sizeof *c->programs);
    *out = c->programs[0] = found;
    return NULL;
}

static OrtStatus *run(compute *c, OrtKernelContext *context) {
    qep_program *p = NULL;
    for (int i = 0; i < c->part.n_inputs; i++)
        QEP_HOST(read_argument(c, context, i));
    QEP_HOST(find_program(c, &p));
    for (int i = 0; i < p->n_feeds; i++) {
        if (feed(c, &p->feeds[i])) return failed(c, NULL);
    }
    for (int i = 0; i < p->n_steps; i++) {
        if (qd_graph_run(p->steps[i].graph, 1)) return failed(c, p->steps[i].label);
    }
    for (int i = 0; i < p->n_results; i++)
        QEP_HOST(deliver(c, context, c->output_index[i], &p->results[i]));
    return NULL;
}

static OrtStatus *ORT_API_CALL compute_run(OrtNodeComputeInfo *this_ptr, void *state, OrtKernelContext *context) {
    (void)state;
    compute *c = (compute *)this_ptr;
    pthread_mutex_lock(&c->ep->lock);
    OrtStatus *status = run(c, context);
    pthread_mutex_unlock(&c->ep->lock);
    return status;
}

/* All state is the part's own: a session makes one for each. */
static OrtStatus *ORT_API_CALL create_state(OrtNodeComputeInfo *this_ptr, OrtNodeComputeContext *context, void **out) {
    (void)context;
    *out = this_ptr;
    return NULL;
}

static void ORT_API_CALL release_state(OrtNodeComputeInfo *this_ptr, void *state) {
    (void)this_ptr, (void)state;
}

/* ---- Start and end ------------------------------------------------------------------------------------------ */

/* Inputs or outputs of the host's node that are values of the part; constants are not among the inputs. */
static OrtStatus *read_ports(compute *c, const OrtNode *fused, bool inputs) {
    const OrtApi *api = c->ep->host.api;
    OrtStatus *status = NULL;
    size_t n = 0;
    QEP_HOST(inputs ? api->Node_GetNumInputs(fused, &n) : api->Node_GetNumOutputs(fused, &n));
    const OrtValueInfo **list = calloc(n + 1, sizeof *list);
    int *values = calloc(n + 1, sizeof *values), count = 0;
    size_t *index = calloc(n + 1, sizeof *index);
    *(inputs ? &c->part.inputs : &c->part.outputs) = values;
    *(inputs ? &c->input_index : &c->output_index) = index;
    if (!list || !values || !index) QEP_TRY(qep_error(&c->ep->host, ORT_FAIL, "out of memory"));
    QEP_TRY(inputs ? api->Node_GetInputs(fused, list, n) : api->Node_GetOutputs(fused, list, n));
    for (size_t i = 0; i < n; i++) {
        const char *name = NULL;
        if (!list[i]) continue;
        QEP_TRY(api->GetValueInfoName(list[i], &name));
        const int v = qep_find_value(c->part.graph, name);
        if (v < 0 || (inputs && c->part.graph->values[v].data)) continue;
        values[count] = v;
        index[count++] = i;
    }
    *(inputs ? &c->part.n_inputs : &c->part.n_outputs) = count;
error:
    free(list);
    return status;
}

/* Every node must belong to a unit, as it did when it was claimed. */
static OrtStatus *check_units(const compute *c) {
    const qep_graph *g = c->part.graph;
    const qep_units *u = c->part.units;
    OrtStatus *status = NULL;
    bool *covered = calloc((size_t)g->n_nodes + 1, sizeof *covered);
    if (!covered) return qep_error(&c->ep->host, ORT_FAIL, "out of memory");
    for (int i = 0; i < u->count; i++) {
        for (int j = 0; j < u->list[i].n_members; j++)
            covered[u->list[i].members[j]] = true;
    }
    for (int i = 0; i < g->n_nodes && !status; i++) {
        if (covered[i]) continue;
        status = qep_error(&c->ep->host, ORT_EP_FAIL, "node %s was claimed but cannot be compiled: %s",
                           g->nodes[i].label, u->reason[i] ? u->reason[i] : "it is in no unit");
    }
    free(covered);
    return status;
}

OrtStatus *qep_compute_create(qep_ep *e, const OrtGraph *graph, const OrtNode *fused, OrtNodeComputeInfo **out) {
    compute *c = calloc(1, sizeof *c);
    OrtStatus *status = NULL;
    if (!c) return qep_error(&e->host, ORT_FAIL, "out of memory");
    c->ep = e;
    c->base = (OrtNodeComputeInfo){.ort_version_supported = QEP_API,
                                   .CreateState = create_state,
                                   .Compute = compute_run,
                                   .ReleaseState = release_state};
    snprintf(c->name, sizeof c->name, "part %d of the model", e->parts++);
    c->part.single = e->options.verify;
    QEP_TRY(qep_graph_read(&e->host, graph, true, &c->part.graph));
    QEP_TRY(read_ports(c, fused, true));
    QEP_TRY(read_ports(c, fused, false));
    c->arguments = calloc((size_t)c->part.n_inputs + 1, sizeof *c->arguments);
    if (!c->arguments) QEP_TRY(qep_error(&e->host, ORT_FAIL, "out of memory"));
    QEP_TRY(qep_units_find(&e->host, c->part.graph, &c->part.units));
    QEP_TRY(check_units(c));
    QEP_TRY(qep_part_prepare(&e->host, &c->part));
    *out = &c->base;
    c = NULL;
error:
    if (c) qep_compute_free(&c->base);
    return status;
}

void qep_compute_free(OrtNodeComputeInfo *info) {
    compute *c = (compute *)info;
    if (!c) return;
    for (int i = 0; i < PROGRAMS; i++)
        qep_program_free(c->programs[i]);
    qep_part_free(&c->part);
    free(c->input_index);
    free(c->output_index);
    free(c->arguments);
    free(c->widened);
    free(c);
}
