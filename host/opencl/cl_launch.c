/* Launches: a node's kernel objects with their arguments, set once, and their place in the queue. */
#include <stdlib.h>
#include <string.h>

#include "opencl/cl_internal.h"

/* What stands behind node->kernel: the way of runs with few rows first, then those of more. */
typedef struct cl_node {
    int variant, groups;
    int64_t most;         /* rows of a run */
    struct cl_node *more; /* for runs of more rows; NULL: there are none */
    struct cl_node *ran;  /* of the first: whose events those of the last run are */
    int n_launches;       /* for each part of the weights one, or as many as the variant has stages */
    cl_kernel *kernels;
    cl_mem *params; /* of each part, where they are in memory; else NULL */
    int n_params;
    cl_event *events;          /* of the last run; NULL entries where none was asked for */
    cl_sync_point_khr *points; /* of the last recording */
    cl_uint rows_index;        /* the kernels' last argument */
    int32_t rows;              /* its value */
    size_t global, local;
    size_t scratch_bytes;    /* of the device's scratch that the kernel uses; 0: none */
    unsigned scratch_number; /* of the one that its argument names; 0: none */
    cl_uint scratch_index;
    cl_step *steps; /* what each launch would be in a chain; NULL where it cannot be in one */
} cl_node;

/* ---- Arguments ---------------------------------------------------------------------------------------------- */

/* Sets the arguments of one kernel in order; remembers the first error. */
typedef struct arg_list {
    cl_kernel kernel;
    const cl_variant *variant;
    int input; /* that the next operand is; -1: an output */
    cl_uint next;
    cl_int error;
    cl_step *step; /* to write them down in, too; may be NULL */
} arg_list;

static void arg(arg_list *a, size_t bytes, const void *value) {
    const cl_int e = clSetKernelArg(a->kernel, a->next++, bytes, value);
    if (a->error == CL_SUCCESS) a->error = e;
}

/* The same argument of a step. */
static void note(arg_list *a, uint64_t word, qd_buffer *buffer) {
    cl_step *s = a->step;
    if (!s) return;
    if (s->n < CL_STEP_ARGS) {
        s->words[s->n] = word;
        s->buffers[s->n] = buffer;
    }
    s->n++;
}

static void arg_int(arg_list *a, int64_t value) {
    const cl_int v = (cl_int)value;
    arg(a, sizeof v, &v);
    note(a, (uint64_t)value, NULL);
}

static void arg_float(arg_list *a, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    arg(a, sizeof value, &value);
    note(a, bits, NULL);
}

/* Parameters: as many words as they fill, in a step. */
static void arg_params(arg_list *a, size_t bytes, const void *params) {
    arg(a, bytes, params);
    for (size_t at = 0; at < bytes; at += sizeof(uint64_t)) {
        uint64_t word = 0;
        memcpy(&word, (const char *)params + at, bytes - at < sizeof word ? bytes - at : sizeof word);
        note(a, word, NULL);
    }
}

static void arg_buffer(arg_list *a, qd_buffer *b) {
    arg(a, sizeof b->mem, &b->mem);
    note(a, 0, b);
}

static void arg_memory(arg_list *a, qd_buffer *b, size_t at, size_t stride) {
    const cl_ulong numbers[2] = {at, stride};
    arg_buffer(a, b);
    for (int i = 0; i < 2; i++) {
        arg(a, sizeof numbers[i], &numbers[i]);
        note(a, numbers[i], NULL);
    }
}

/* An operand: buffer, byte offset, bytes between rows. A constant is its copy in file order, the first input in the
 * variant's layout. */
static qd_status arg_strided(arg_list *a, cl_device_state *d, qd_tensor *t, size_t stride) {
    if (!qd_is_constant(t)) {
        arg_memory(a, t->buffer, t->offset, stride);
        return QD_OK;
    }
    const cl_weights *w;
    const int64_t cut = d->canary_rows; /* only weights are cut */
    const qd_layout layout = a->input == 0 ? a->variant->layout : QD_LAYOUT_ROWS;
    d->canary_rows = 0;
    const qd_status status = cl_weights_get(d, t, layout, cl_bank_of(d, a->variant, a->input), 1, &w);
    d->canary_rows = cut;
    if (status) return status;
    if (w->n_parts != 1) {
        return qd_fail(QD_ERR_UNSUPPORTED, "%s: a constant that must be in one piece exceeds the largest allocation",
                       d->info.name);
    }
    arg_memory(a, w->parts[0].buffer, 0, stride);
    return QD_OK;
}

static qd_status arg_operand(arg_list *a, cl_device_state *d, qd_tensor *t) {
    return arg_strided(a, d, t, t->stride);
}

static void arg_scratch(arg_list *a, const cl_device_state *d, const qd_node *n) {
    ((cl_node *)n->kernel)->scratch_index = a->next;
    if (a->step) a->step->scratch = a->step->n;
    arg(a, sizeof d->scratch->mem, &d->scratch->mem);
    note(a, 0, NULL); /* it may still grow */
}

/* True when the first input may be cut into parts of some output channels each. */
static bool has_parts(const qd_node *n) {
    switch (n->op) {
        case QD_OP_MATMUL:
        case QD_OP_GET_ROWS:
        case QD_OP_MATMUL_GROUP:
        case QD_OP_MATMUL_CODED:
        case QD_OP_GET_ROWS_CODED:
            return true;
        case QD_OP_MATMUL_INT:
            return !n->params.matmul_int.batched;
        default:
            return false;
    }
}

/* Operators with parameters: every operand of the row, in its place, then the parameters. */
static qd_status set_all_operands(cl_device_state *d, arg_list *a, const qd_node *n, const cl_part *part,
                                  int part_index) {
    const qd_op_info *info = qd_op_get(n->op);
    qd_status status = QD_OK;
    qd_params params = n->params;
    for (int i = 0; i < info->max_in; i++) {
        a->input = i;
        if (i == 0 && part->buffer) {
            arg_memory(a, part->buffer, qd_is_constant(n->in[0]) ? 0 : n->in[0]->offset, n->in[0]->stride);
        } else {
            QD_TRY(arg_operand(a, d, n->in[i] ? n->in[i] : n->out[0])); /* an absent one is not read */
        }
    }
    for (int i = 0; i < info->n_out; i++)
        QD_TRY(arg_operand(a, d, n->out[i]));
    if (n->op == QD_OP_MATMUL_INT && part->buffer) {
        params.matmul_int.first = (qd_i32)part->first;
        params.matmul_int.count = (qd_i32)part->count;
    }
    if (n->op == QD_OP_MATMUL_GROUP) {
        params.matmul_group.first = (qd_i32)part->first;
        params.matmul_group.count = (qd_i32)part->count;
    }
    if (n->op == QD_OP_MATMUL_CODED || n->op == QD_OP_GET_ROWS_CODED) {
        params.coded.first = (qd_i32)part->first;
        params.coded.count = (qd_i32)part->count;
    }
    cl_mem *memory = ((cl_node *)n->kernel)->params;
    if (!memory) {
        arg_params(a, n->params_bytes, &params);
    } else {
        cl_mem *mine = memory + part_index;
        cl_int e = CL_SUCCESS;
        if (!*mine) *mine = clCreateBuffer(d->context, CL_MEM_COPY_HOST_PTR, n->params_bytes, &params, &e);
        CL_TRY(d, e, "allocating a kernel's parameters");
        arg(a, sizeof *mine, mine);
    }
    if (n->op == QD_OP_ATTENTION_MASKED || n->op == QD_OP_LORA) arg_scratch(a, d, n);
    if (a->error != CL_SUCCESS) return cl_fail(d, a->error, "setting a kernel's arguments");
error:
    return status;
}

/* All arguments of one kernel, as the top of its .cl file lists them, but the rows, which come last and change. */
static qd_status set_arguments(cl_device_state *d, arg_list *a, const qd_node *n, const cl_part *part, int part_index) {
    qd_status status = QD_OK;
    qd_tensor *const *in = n->in, *const *out = n->out;
    const int max_in = qd_op_get(n->op)->max_in;
    if (n->params_bytes) return set_all_operands(d, a, n, part, part_index);
    switch (n->op) {
        case QD_OP_GET_ROWS:
            arg_memory(a, part->buffer, qd_is_constant(in[0]) ? 0 : in[0]->offset, in[0]->stride);
            QD_TRY(arg_operand(a, d, in[1]));
            QD_TRY(arg_operand(a, d, out[0]));
            arg_int(a, qd_columns(in[0]));
            arg_int(a, part->first);
            arg_int(a, part->count);
            break;
        case QD_OP_MATMUL: {
            qd_tensor *addend = in[2] ? in[2] : out[0];
            a->input = 2; /* the only other constant */
            arg_buffer(a, part->buffer);
            QD_TRY(arg_operand(a, d, in[1]));
            QD_TRY(arg_strided(a, d, addend, addend->desc.rank == 1 ? 0 : addend->stride)); /* a bias: for all rows */
            QD_TRY(arg_operand(a, d, out[0]));
            arg_int(a, in[2] != NULL);
            arg_int(a, part->first);
            arg_int(a, part->count);
            arg_int(a, qd_columns(in[0]));
            break;
        }
        case QD_OP_RMS_NORM:
        case QD_OP_LAYER_NORM:
            for (int i = 0; i < max_in; i++)
                QD_TRY(arg_operand(a, d, in[i] ? in[i] : out[0]));
            QD_TRY(arg_operand(a, d, out[0]));
            break;
        default:
            for (int i = 0; i < QD_MAX_IN; i++) {
                if (in[i]) QD_TRY(arg_operand(a, d, in[i]));
            }
            for (int i = 0; i < QD_MAX_OUT; i++) {
                if (out[i]) QD_TRY(arg_operand(a, d, out[i]));
            }
            break;
    }
    switch (n->op) {
        case QD_OP_RMS_NORM:
        case QD_OP_LAYER_NORM:
            arg_int(a, qd_columns(in[0]));
            arg_float(a, n->attrs.rms_norm.epsilon);
            for (int i = 1; i < max_in; i++)
                arg_int(a, in[i] != NULL);
            break;
        case QD_OP_ROPE:
            arg_int(a, n->attrs.rope.heads);
            arg_int(a, n->attrs.rope.head_dim);
            arg_int(a, n->attrs.rope.dims);
            arg_int(a, n->attrs.rope.neox);
            arg_int(a, in[1]->desc.shape[0]);
            arg_int(a, in[2]->desc.shape[0] != 1);
            break;
        case QD_OP_KV_STORE:
            arg_int(a, n->attrs.kv.heads);
            arg_int(a, n->attrs.kv.head_dim);
            arg_int(a, out[0]->desc.shape[1]);
            break;
        case QD_OP_ATTENTION:
            arg_scratch(a, d, n);
            arg_int(a, n->attrs.attention.heads);
            arg_int(a, n->attrs.attention.kv_heads);
            arg_int(a, n->attrs.attention.head_dim);
            arg_float(a, n->attrs.attention.scale);
            arg_int(a, in[1]->desc.shape[1]);
            break;
        case QD_OP_QUANTIZE:
        case QD_OP_SWIGLU:
        case QD_OP_ADD:
            arg_int(a, qd_columns(in[0]));
            break;
        default:
            break;
    }
    if (a->error != CL_SUCCESS) return cl_fail(d, a->error, "setting a kernel's arguments");
error:
    return status;
}

/* ---- Nodes -------------------------------------------------------------------------------------------------- */

/* The parts of the first input that the kernels run over. Operators without weights have one without a buffer. */
static qd_status find_parts(cl_device_state *d, const qd_node *n, cl_part *single, const cl_part **parts, int *count) {
    *parts = single;
    *count = 1;
    if (!has_parts(n)) return QD_OK;
    qd_tensor *w = n->in[0];
    if (qd_is_constant(w)) {
        const cl_weights *weights;
        const cl_variant *v = &d->variants[((cl_node *)n->kernel)->variant];
        const qd_status status = cl_weights_get(d, w, v->layout, cl_bank_of(d, v, 0), cl_variant_units(d, v), &weights);
        if (status) return status;
        *parts = weights->parts;
        *count = weights->n_parts;
        return QD_OK;
    }
    *single = (cl_part){w->buffer, 0, w->desc.shape[0] == QD_ROWS ? n->max_rows : w->desc.shape[0]};
    return QD_OK;
}

/* Bytes of scratch for each work-item, 0 when the operator needs none; *units is how many work-items there can be work
 * for. */
static size_t scratch_of(const cl_device_state *d, const qd_node *n, size_t *units) {
    const size_t team = d->is_cpu ? QD_ATTENTION_TEAM : 1;
    if (n->op == QD_OP_ATTENTION) {
        *units = (size_t)n->max_rows * (size_t)n->attrs.attention.heads;
        const size_t dim = (size_t)n->attrs.attention.head_dim, positions = (size_t)n->in[1]->desc.shape[1];
        return (dim + QD_ATTENTION_ROW(positions)) * team * sizeof(float);
    }
    if (n->op == QD_OP_ATTENTION_MASKED) {
        const qd_attention_masked_params *p = &n->params.attention_masked;
        const size_t positions = ((size_t)p->k.n[2] + 15) / 16 * 16;
        *units = (size_t)n->max_rows * (size_t)p->q.n[1] * (size_t)p->q.n[2];
        return (positions ? positions : 16) * team * sizeof(float);
    }
    if (n->op == QD_OP_LORA) {
        const qd_lora_params *p = &n->params.lora;
        *units = ((size_t)n->max_rows + 3) / 4 * (((size_t)p->n + (size_t)p->block - 1) / (size_t)p->block);
        return QD_LORA_SCRATCH((size_t)p->k, (size_t)p->rank) * sizeof(float);
    }
    *units = 0;
    return 0;
}

static void free_one(cl_device_state *d, cl_node *x) {
    if (x->scratch_number && --d->scratch_users == 0) {
        cl_buffer_release(d, d->scratch);
        d->scratch = NULL;
    }
    for (int i = 0; i < x->n_launches; i++) {
        if (x->events[i]) clReleaseEvent(x->events[i]);
        clReleaseKernel(x->kernels[i]);
    }
    for (int i = 0; i < x->n_params && x->params; i++) {
        if (x->params[i]) clReleaseMemObject(x->params[i]);
    }
    free(x->params);
    free(x->steps);
    free(x->kernels);
    free(x->events);
    free(x->points);
    free(x);
}

qd_status cl_node_create(cl_device_state *d, qd_node *n, int variant, int groups, int64_t most) {
    const cl_variant *v = &d->variants[variant];
    qd_status status = QD_OK;
    cl_node *x = qd_alloc_zero(1, sizeof *x), *more = n->kernel;
    if (!x) return QD_ERR_MEMORY;
    n->kernel = x;
    x->variant = variant;
    x->groups = groups;
    x->most = most;
    x->ran = x;
    const cl_home home = cl_variant_home(v);
    const int stages = cl_variant_stages(d, v), units = cl_variant_units(d, v);
    x->local = home == CL_HOME_FPGA || (d->is_cpu && home != CL_HOME_GPU) ? 1 : CL_GPU_LOCAL;
    x->global = d->canary_single || home == CL_HOME_FPGA ? x->local : d->info.compute_units * (size_t)groups * x->local;
    cl_part single = {NULL, 0, 0};
    const cl_part *parts;
    int n_parts;
    QD_TRY(find_parts(d, n, &single, &parts, &n_parts));
    size_t units_most;
    const size_t scratch = scratch_of(d, n, &units_most);
    if (scratch) {
        if (x->global > units_most) x->global = (units_most + x->local - 1) / x->local * x->local;
        while (x->global > x->local && x->global * scratch > d->max_alloc)
            x->global = (x->global / x->local + 1) / 2 * x->local;
        x->scratch_bytes = x->global * scratch;
        QD_TRY(cl_scratch_reserve(d, x->scratch_bytes));
        x->scratch_number = d->scratch_number;
        d->scratch_users++;
    }
    const size_t n_kernels = (size_t)(n_parts * stages);
    const bool in_memory = home == CL_HOME_FPGA && n->params_bytes;
    x->kernels = qd_alloc_zero(n_kernels, sizeof(cl_kernel));
    x->events = qd_alloc_zero(n_kernels, sizeof(cl_event));
    x->points = qd_alloc_zero(n_kernels, sizeof *x->points);
    if (in_memory) x->params = qd_alloc_zero((size_t)n_parts, sizeof(cl_mem));
    x->n_params = in_memory ? n_parts : 0;
    const bool may_chain = cl_chain_takes(d, variant);
    if (may_chain) x->steps = qd_alloc_zero(n_kernels, sizeof *x->steps);
    if (!x->kernels || !x->events || !x->points || (in_memory && !x->params) || (may_chain && !x->steps)) {
        status = QD_ERR_MEMORY;
        goto error;
    }
    for (int i = 0; i < n_parts * stages; i++) {
        cl_int e;
        char name[64];
        cl_stage_name(d, v, i / stages % units, i % stages, name);
        x->kernels[i] = clCreateKernel(d->proofs[variant].program, name, &e);
        CL_TRY(d, e, "creating a kernel");
        x->n_launches++;
        arg_list a = {x->kernels[i], v, -1, 0, CL_SUCCESS, x->steps ? &x->steps[i] : NULL};
        if (x->steps) x->steps[i].scratch = -1;
        QD_TRY(set_arguments(d, &a, n, &parts[i / stages], i / stages));
        x->rows_index = a.next;
    }
    x->rows = -1;
    x->more = more;
    if (!more) n->variant = v->name;
    return QD_OK;
error:
    free_one(d, x);
    n->kernel = more;
    return status;
}

void cl_node_way(const qd_node *n, int *variant, int *groups) {
    const cl_node *x = n->kernel;
    *variant = x->variant;
    *groups = x->groups;
}

void cl_node_free(void *device, qd_node *n) {
    for (cl_node *x = n->kernel, *more; x; x = more) {
        more = x->more;
        free_one(device, x);
    }
    n->kernel = NULL;
}

const cl_step *cl_node_steps(const qd_node *n, int *count, int *variant, size_t *items) {
    const cl_node *x = n->kernel;
    *count = x ? x->n_launches : 0;
    *variant = x ? x->variant : -1;
    *items = x ? x->global : 0;
    return x && x->n_launches ? x->steps : NULL;
}

/* Collects the events of earlier nodes; false when there are too many, and a barrier is simpler. */
static bool collect_events(qd_node *const wait[], int n_wait, cl_event list[], cl_uint capacity, cl_uint *count) {
    *count = 0;
    for (int i = 0; i < n_wait; i++) {
        const cl_node *w = ((const cl_node *)wait[i]->kernel)->ran;
        for (int j = 0; j < w->n_launches; j++) {
            if (!w->events[j]) continue;
            if (*count == capacity) return false;
            list[(*count)++] = w->events[j];
        }
    }
    return true;
}

/* Binds the device's scratch, which may have grown. */
static qd_status bind_scratch(cl_device_state *d, cl_node *x) {
    qd_status status = QD_OK;
    if (!x->scratch_bytes) return QD_OK;
    for (int i = 0; x->scratch_number != d->scratch_number && i < x->n_launches; i++) {
        CL_TRY(d, clSetKernelArg(x->kernels[i], x->scratch_index, sizeof d->scratch->mem, &d->scratch->mem),
               "setting a kernel's arguments");
    }
    x->scratch_number = d->scratch_number;
error:
    return status;
}

enum { MAX_WAIT = 32 };

/* Adds a node's launches to the device's recording, behind those of wait[]. */
static qd_status record_launches(cl_device_state *d, cl_node *x, qd_node *const wait[], int n_wait) {
    cl_sync_point_khr list[MAX_WAIT + 1];
    cl_uint n = 0;
    qd_status status = QD_OK;
    for (int i = 0; i < n_wait; i++) {
        const cl_node *w = ((const cl_node *)wait[i]->kernel)->ran;
        for (int j = 0; j < w->n_launches; j++) {
            if (n == MAX_WAIT) return qd_fail(QD_ERR_UNSUPPORTED, "an operator waits for too many others");
            list[n++] = w->points[j];
        }
    }
    if (x->scratch_bytes) {
        cl_recording_uses_scratch(d);
        if (d->scratch_recorded) list[n++] = d->scratch_point;
    }
    for (int i = 0; i < x->n_launches; i++)
        QD_TRY(cl_recording_add(d, x->kernels[i], x->global, x->local, list, n, &x->points[i]));
    if (x->scratch_bytes) {
        d->scratch_point = x->points[0];
        d->scratch_recorded = true;
    }
error:
    return status;
}

static void remember_use(cl_device_state *d, const qd_node *n, cl_event e) {
    for (int i = 0; i < QD_MAX_IN; i++) {
        if (n->in[i] && !qd_is_constant(n->in[i])) cl_buffer_used(d, n->in[i]->buffer, e);
    }
    for (int i = 0; i < QD_MAX_OUT; i++) {
        if (n->out[i]) cl_buffer_used(d, n->out[i]->buffer, e);
    }
}

static qd_status start_launches(cl_device_state *d, const qd_node *n, cl_node *x, int64_t rows, const cl_event list[],
                                cl_uint n_list) {
    const cl_variant *v = &d->variants[x->variant];
    const bool profile = d->options.profile && !d->canary_depth;
    const int stages = cl_variant_stages(d, v), units = cl_variant_units(d, v);
    cl_event done = NULL;
    qd_status status = QD_OK;
    d->in_flight += x->n_launches;
    if (stages > 1 || units > 1) {
        QD_TRY(cl_pipeline_enqueue(d, n, v, rows, x->kernels, x->n_launches, list, n_list, x->events, &done));
    } else {
        for (int i = 0; i < x->n_launches; i++) {
            cl_event *event = d->out_of_order || profile || d->transfers ? &x->events[i] : NULL;
            CL_TRY(d,
                   clEnqueueNDRangeKernel(d->queue, x->kernels[i], 1, NULL, &x->global, &x->local, n_list,
                                          n_list ? list : NULL, event),
                   "starting a kernel");
        }
    }
    for (int i = 0; profile && i < x->n_launches; i++) {
        clRetainEvent(x->events[i]);
        cl_profile_add(d, x->variant, i / stages % units, i % stages, n, rows, x->events[i]);
    }
    if (d->transfers) remember_use(d, n, done ? done : x->events[x->n_launches - 1]);
error:
    if (done) clReleaseEvent(done);
    return status;
}

qd_status cl_node_enqueue(void *device, qd_node *n, int64_t rows, qd_node *const wait[], int n_wait) {
    cl_device_state *d = device;
    cl_node *first = n->kernel, *x = first;
    while (rows > x->most)
        x = x->more;
    qd_status status = QD_OK;
    cl_event list[MAX_WAIT + 1]; /* and that of the scratch */
    cl_uint n_list = 0;
    QD_TRY(cl_alive(d));
    if (d->out_of_order && !d->recording && !collect_events(wait, n_wait, list, MAX_WAIT, &n_list)) {
        QD_TRY(cl_order(d));
        n_list = 0;
    }
    QD_TRY(bind_scratch(d, x));
    if (x->scratch_bytes && d->scratch_event) list[n_list++] = d->scratch_event;
    /* Until all launches have it: a failure in their middle must not leave some with the old number. */
    const bool same_rows = x->rows == rows;
    x->rows = -1;
    for (int i = 0; i < x->n_launches; i++) {
        if (!same_rows) {
            const cl_int r = (cl_int)rows;
            CL_TRY(d, clSetKernelArg(x->kernels[i], x->rows_index, sizeof r, &r), "setting a kernel's arguments");
        }
        if (x->events[i]) clReleaseEvent(x->events[i]);
        x->events[i] = NULL;
    }
    first->ran = x;
    QD_TRY(d->recording ? record_launches(d, x, wait, n_wait) : start_launches(d, n, x, rows, list, n_list));
    if (d->out_of_order && x->scratch_bytes && !d->recording) {
        if (d->scratch_event) clReleaseEvent(d->scratch_event);
        d->scratch_event = x->events[0];
        clRetainEvent(d->scratch_event);
    }
    x->rows = (int32_t)rows;
error:
    return status;
}
