/* Chains: many nodes in one launch, for CPU devices of this machine. A launch and the end of the one before cost some
 * microseconds there, as much as a small operator; see kernels_cl/x86/chain.cl.
 *
 * A chain's program is linked of its kernel and of the variants that its nodes have, each compiled as a function. The
 * kernel finds memory by addresses, which it asks the device for once: on a CPU they are the process's own, and stay.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "opencl/cl_internal.h"

/* As in chain.cl. */
enum { HEAD = 4, WORDS = HEAD + CL_STEP_ARGS, LINE_BYTES = 64 };
/* Fewer nodes in a row are launched by themselves: a chain's program takes seconds to build. */
enum { LEAST_NODES = 32 };
/* Of more rows an operator takes long enough for its launch not to count. */
enum { MOST_ROWS = 16 };

/* A piece of a chain: steps first … first + steps - 1 in one launch, or a node by itself. */
typedef struct link {
    qd_node *node; /* NULL: steps */
    int first, steps;
} link;

struct cl_chain {
    qd_node **nodes;
    int n_nodes;
    link *links;
    int n_links;
    uint64_t *words; /* what `program` holds */
    int n_steps;
    cl_program code;
    cl_kernel kernel;
    cl_mem program, state;
    int *scratch;            /* of each step: the word that is the scratch's address; 0: none */
    unsigned scratch_number; /* of the one whose address they hold */
};

/* ---- Steps -------------------------------------------------------------------------------------------------- */

/* Operators that step.h knows, what it calls them, and into how many shares a row's work is worth cutting; 0: any. */
static bool find_op(const qd_node *n, qd_op op, const char **name, int64_t *shares) {
    enum { RUN = 512 }; /* QD_RUN in common.h */
#define OP(id, count)        \
    case QD_OP_##id:         \
        *name = #id;         \
        if (n) {             \
            *shares = count; \
        }                    \
        return true
    switch (op) {
        OP(GET_ROWS, 1);
        OP(RMS_NORM, 1);
        OP(LAYER_NORM, 1);
        OP(QUANTIZE, 1);
        OP(MATMUL, 0);
        OP(ROPE, 1);
        OP(KV_STORE, 1);
        OP(ATTENTION, n->attrs.attention.heads);
        OP(SWIGLU, (qd_columns(n->in[0]) + RUN - 1) / RUN);
        OP(ADD, 1);
        OP(MATMUL_INT, 0);
        OP(MATMUL_GROUP, 0);
        OP(MATMUL_CODED, 0);
        OP(GET_ROWS_CODED, 1);
        OP(CONV_INT, 0);
        OP(CONV_ADD_INT, 0);
        OP(REQUANTIZE, 0);
        OP(QUANTIZE_LINEAR, 0);
        OP(DEQUANTIZE_LINEAR, 0);
        OP(DYNAMIC_QUANTIZE, 0);
        OP(POOL, 0);
        OP(ADD_INT, 0);
        OP(MUL_INT, 0);
        OP(CONCAT, 0);
        OP(PAD, 0);
        OP(RESIZE, 0);
        OP(TABLE, 0);
        OP(SOFTMAX_INT, 0);
        OP(COPY, 0);
        OP(ELEMENTWISE, 0);
        OP(SET_ROWS, (qd_columns(n->in[0]) + RUN - 1) / RUN);
        OP(SOFTMAX, 0);
        OP(MATMUL_BATCH, 0);
        OP(ATTENTION_MASKED, 0);
        default:
            return false;
    }
#undef OP
}

bool cl_chain_takes(cl_device_state *d, int variant) {
    const cl_variant *v = &d->variants[variant];
    const char *text;
    return d->is_cpu && !d->out_of_order && !d->options.profile && !d->options.unproven && !d->binary &&
           cl_variant_home(v) == CL_HOME_ANY && find_op(NULL, v->op, &text, NULL) &&
           cl_device_has(d, CL_NEEDS_X86_AVX2, &text);
}

/* ---- Program ------------------------------------------------------------------------------------------------ */

#ifdef __linux__
#define SYSTEM "-DQD_LINUX"
#else
#define SYSTEM ""
#endif

static const cl_variant kernel_of_chains = {
    .name = "chain", .file = "x86/chain.cl", .options = SYSTEM, .needs = CL_NEEDS_X86_AVX2};

qd_status cl_chain_build(cl_device_state *d, const int functions[], int count, cl_program *out) {
    cl_program parts[CL_CHAIN_FUNCTIONS + 1];
    char options[128];
    int n = 0;
    cl_int e;
    qd_status status = QD_OK;
    for (; n < count && !status; n++) {
        const cl_variant *v = &d->variants[functions[n]];
        const char *name = "";
        find_op(NULL, v->op, &name, NULL);
        snprintf(options, sizeof options, "-DQD_STEP=step_%d -DQD_STEP_%s", n, name);
        status = cl_program_compile(d, v, options, "x86/step.h", &parts[n]);
        if (status) break;
    }
    snprintf(options, sizeof options, "-DQD_STEPS=%d", count);
    if (!status) status = cl_program_compile(d, &kernel_of_chains, options, NULL, &parts[n]);
    if (!status) {
        n++;
        *out = clLinkProgram(d->context, 1, &d->id, "", (cl_uint)n, parts, NULL, NULL, &e);
        if (e != CL_SUCCESS) {
            if (*out) clReleaseProgram(*out);
            *out = NULL;
            status = cl_fail(d, e, "linking a chain of kernels");
        }
    }
    for (int i = 0; i < n; i++)
        clReleaseProgram(parts[i]);
    return status;
}

qd_status cl_chain_key(cl_device_state *d, const int functions[], int count, char key[65]) {
    const cl_variant *parts[CL_CHAIN_FUNCTIONS + 1];
    for (int i = 0; i < count; i++)
        parts[i] = &d->variants[functions[i]];
    parts[count] = &kernel_of_chains;
    return cl_program_key_linked(d, parts, count + 1, "x86/step.h", key);
}

/* ---- Making ------------------------------------------------------------------------------------------------- */

/* Asks for the addresses of the buffers of these steps that are not known yet. */
static qd_status find_addresses(cl_device_state *d, cl_program code, const cl_step *steps, int count) {
    qd_status status = QD_OK;
    cl_kernel kernel = NULL;
    qd_buffer *result = NULL;
    cl_int e;
    QD_TRY(cl_buffer_take(d, sizeof(uint64_t), CL_ANY_BANK, &result));
    kernel = clCreateKernel(code, "address", &e);
    CL_TRY(d, e, "creating a kernel");
    for (int i = 0; i < count; i++) {
        for (int a = 0; a < steps[i].n; a++) {
            qd_buffer *b = steps[i].buffers[a];
            const size_t one = 1;
            if (!b || b->address) continue;
            CL_TRY(d, clSetKernelArg(kernel, 0, sizeof b->mem, &b->mem), "setting a kernel's arguments");
            CL_TRY(d, clSetKernelArg(kernel, 1, sizeof result->mem, &result->mem), "setting a kernel's arguments");
            d->in_flight++;
            CL_TRY(d, clEnqueueNDRangeKernel(d->queue, kernel, 1, NULL, &one, &one, 0, NULL, NULL),
                   "starting a kernel");
            QD_TRY(cl_buffer_read(d, result, 0, &b->address, sizeof b->address));
        }
    }
error:
    if (kernel) clReleaseKernel(kernel);
    cl_buffer_release(d, result);
    return status;
}

/* As many as a launch's work-items, but no more of a small product than are worth being begun one by one. */
static uint64_t most_shares(const cl_device_state *d, const qd_node *n, uint64_t items) {
    enum { PRODUCTS = 1 << 22 }; /* for a share */
    if ((n->op != QD_OP_MATMUL_INT && n->op != QD_OP_CONV_INT && n->op != QD_OP_CONV_ADD_INT) ||
        !qd_is_constant(n->in[0]))
        return items;
    const qd_tensor_desc *w = &n->in[0]->desc, *y = &n->out[0]->desc;
    double products = 1;
    for (int i = 0; i < y->rank; i++)
        products *= (double)(y->shape[i] == QD_ROWS ? n->max_rows : y->shape[i]);
    for (int i = 1; i < w->rank; i++)
        products *= (double)w->shape[i];
    const uint64_t units = (uint64_t)d->info.compute_units, wanted = (uint64_t)(products / PRODUCTS) / units * units;
    const uint64_t shares = wanted < units ? units : wanted;
    return shares < items ? shares : items;
}

/* Appends a node's launches. */
static qd_status add_steps(cl_device_state *d, cl_chain *c, const qd_node *n, int function) {
    int count, variant;
    size_t items;
    const char *name;
    int64_t shares = 0;
    const cl_step *steps = cl_node_steps(n, &count, &variant, &items);
    const qd_status status = find_addresses(d, c->code, steps, count);
    if (status) return status;
    find_op(n, n->op, &name, &shares);
    for (int i = 0; i < count; i++) {
        uint64_t *w = c->words + (size_t)c->n_steps * WORDS;
        w[0] = (uint64_t)function;
        w[1] = most_shares(d, n, items);
        w[2] = shares ? (uint64_t)shares : w[1];
        w[3] = n->dynamic ? 0 : (uint64_t)n->max_rows;
        for (int a = 0; a < steps[i].n; a++)
            w[HEAD + a] = steps[i].buffers[a] ? steps[i].buffers[a]->address : steps[i].words[a];
        c->scratch[c->n_steps++] = steps[i].scratch < 0 ? 0 : HEAD + steps[i].scratch;
    }
    return QD_OK;
}

/* The function of a node in the chain; -1: it goes by itself. */
static int function_of(const qd_node *n, const int functions[], int count) {
    int launches, variant;
    size_t items;
    const cl_step *steps = cl_node_steps(n, &launches, &variant, &items);
    if (!steps || steps[0].n > CL_STEP_ARGS) return -1;
    for (int i = 0; i < count; i++) {
        if (functions[i] == variant) return i;
    }
    return -1;
}

static qd_status set_program(cl_device_state *d, cl_chain *c) {
    qd_status status = QD_OK;
    CL_TRY(d,
           clEnqueueWriteBuffer(d->queue, c->program, CL_TRUE, 0, (size_t)c->n_steps * WORDS * sizeof *c->words,
                                c->words, 0, NULL, NULL),
           "writing a chain's program");
error:
    return status;
}

/* Links, words and scratch of a chain whose nodes are known. */
static qd_status make_links(cl_device_state *d, cl_chain *c, const int functions[], int count, int least) {
    for (int i = 0; i < c->n_nodes;) {
        int end = i;
        while (end < c->n_nodes && function_of(c->nodes[end], functions, count) >= 0)
            end++;
        if (end - i < least) {
            end = i + 1;
            c->links[c->n_links++] = (link){.node = c->nodes[i]};
        } else {
            const int first = c->n_steps;
            for (int k = i; k < end; k++) {
                const qd_status status = add_steps(d, c, c->nodes[k], function_of(c->nodes[k], functions, count));
                if (status) return status;
            }
            c->links[c->n_links++] = (link){.first = first, .steps = c->n_steps - first};
        }
        i = end;
    }
    return QD_OK;
}

qd_status cl_chain_make(cl_device_state *d, qd_node *const nodes[], int n, const int functions[], int count, int least,
                        cl_program code, cl_chain **out) {
    qd_status status = QD_OK;
    int steps = 0, variant;
    size_t items;
    cl_int e;
    cl_chain *c = qd_alloc_zero(1, sizeof *c);
    if (!c) return QD_ERR_MEMORY;
    for (int i = 0; i < n; i++) {
        int launches;
        cl_node_steps(nodes[i], &launches, &variant, &items);
        steps += launches;
    }
    c->code = code;
    clRetainProgram(code);
    c->n_nodes = n;
    c->nodes = qd_alloc((size_t)n * sizeof(qd_node *));
    c->links = qd_alloc((size_t)n * sizeof *c->links);
    c->words = qd_alloc_zero((size_t)steps * WORDS, sizeof *c->words);
    c->scratch = qd_alloc_zero((size_t)steps, sizeof *c->scratch);
    if (!c->nodes || !c->links || !c->words || !c->scratch) {
        status = QD_ERR_MEMORY;
        goto error;
    }
    memcpy(c->nodes, nodes, (size_t)n * sizeof(qd_node *));
    QD_TRY(make_links(d, c, functions, count, least));
    if (!c->n_steps) {
        status = QD_ERR_UNSUPPORTED;
        goto error;
    }
    const size_t state_bytes = (size_t)(c->n_steps + 1) * LINE_BYTES + d->info.compute_units * sizeof(cl_uint);
    c->program = clCreateBuffer(d->context, CL_MEM_READ_ONLY, (size_t)c->n_steps * WORDS * sizeof *c->words, NULL, &e);
    CL_TRY(d, e, "allocating a chain's program");
    void *zeros = qd_alloc_zero(1, state_bytes);
    if (!zeros) {
        status = QD_ERR_MEMORY;
        goto error;
    }
    c->state = clCreateBuffer(d->context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR, state_bytes, zeros, &e);
    free(zeros);
    CL_TRY(d, e, "allocating a chain's state");
    c->kernel = clCreateKernel(code, "chain", &e);
    CL_TRY(d, e, "creating a kernel");
    CL_TRY(d, clSetKernelArg(c->kernel, 0, sizeof c->program, &c->program), "setting a kernel's arguments");
    CL_TRY(d, clSetKernelArg(c->kernel, 1, sizeof c->state, &c->state), "setting a kernel's arguments");
    QD_TRY(set_program(d, c));
    *out = c;
    return QD_OK;
error:
    cl_chain_free(d, c);
    return status;
}

static int by_number(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

/* The variants of these nodes that may be steps, in their order in kernels.def, so that models of one kind share a
 * program. */
static int find_functions(qd_node *const nodes[], int n, int functions[CL_CHAIN_FUNCTIONS]) {
    int count = 0;
    for (int i = 0; i < n && count < CL_CHAIN_FUNCTIONS; i++) {
        int launches, variant;
        size_t items;
        const cl_step *steps = cl_node_steps(nodes[i], &launches, &variant, &items);
        if (!steps || steps[0].n > CL_STEP_ARGS || function_of(nodes[i], functions, count) >= 0) continue;
        functions[count++] = variant;
    }
    qsort(functions, (size_t)count, sizeof *functions, by_number);
    return count;
}

qd_status cl_chain_create(void *device, qd_node *const nodes[], int n, void **out, int *chained) {
    cl_device_state *d = device;
    int functions[CL_CHAIN_FUNCTIONS], run = 0;
    cl_program code = NULL;
    cl_chain *c = NULL;
    const int count = find_functions(nodes, n, functions);
    *chained = 0;
    for (int i = 0; i < n; i++) {
        run = function_of(nodes[i], functions, count) < 0 ? 0 : run + 1;
        if (run >= LEAST_NODES) *chained += run == LEAST_NODES ? LEAST_NODES : 1;
    }
    if (!*chained) return QD_ERR_UNSUPPORTED;
    qd_status status = cl_chain_prove(d, functions, count, &code);
    if (status) return status;
    status = cl_chain_make(d, nodes, n, functions, count, LEAST_NODES, code, &c);
    clReleaseProgram(code);
    *out = c;
    /* A chain is not worth a failure: without it the operators need no more than what they have. */
    return status == QD_ERR_DEVICE_MEMORY ? QD_ERR_UNSUPPORTED : status;
}

void cl_chain_free(void *device, void *chain) {
    cl_chain *c = chain;
    (void)device;
    if (!c) return;
    if (c->kernel) clReleaseKernel(c->kernel);
    if (c->program) clReleaseMemObject(c->program);
    if (c->state) clReleaseMemObject(c->state);
    if (c->code) clReleaseProgram(c->code);
    free(c->scratch);
    free(c->words);
    free(c->links);
    free(c->nodes);
    free(c);
}

/* ---- Running ------------------------------------------------------------------------------------------------ */

/* The device's scratch is elsewhere when it has grown. */
static qd_status use_scratch(cl_device_state *d, cl_chain *c) {
    qd_status status = QD_OK;
    if (c->scratch_number == d->scratch_number) return QD_OK;
    cl_step only = {.buffers = {d->scratch}, .n = 1};
    if (d->scratch) QD_TRY(find_addresses(d, c->code, &only, 1));
    for (int i = 0; i < c->n_steps; i++) {
        if (c->scratch[i]) c->words[(size_t)i * WORDS + (size_t)c->scratch[i]] = d->scratch->address;
    }
    QD_TRY(set_program(d, c));
    c->scratch_number = d->scratch_number;
error:
    return status;
}

static qd_status run_link(cl_device_state *d, const cl_chain *c, const link *l, int64_t rows) {
    const cl_int numbers[] = {l->first, l->steps, (cl_int)rows};
    const size_t global = d->info.compute_units, local = 1;
    qd_status status = QD_OK;
    for (cl_uint i = 0; i < 3; i++)
        CL_TRY(d, clSetKernelArg(c->kernel, 2 + i, sizeof numbers[i], &numbers[i]), "setting a kernel's arguments");
    CL_TRY(d, clEnqueueNDRangeKernel(d->queue, c->kernel, 1, NULL, &global, &local, 0, NULL, NULL), "starting a chain");
    d->chained = true;
    d->in_flight++;
error:
    return status;
}

static qd_status run_node(cl_device_state *d, qd_node *n, int64_t rows) {
    const int64_t r = n->dynamic ? rows : n->max_rows;
    return r ? cl_node_enqueue(d, n, r, NULL, 0) : QD_OK;
}

qd_status cl_chain_run(void *device, void *chain, int64_t rows) {
    cl_device_state *d = device;
    cl_chain *c = chain;
    qd_status status = QD_OK;
    QD_TRY(cl_alive(d));
    if (rows > MOST_ROWS) {
        for (int i = 0; i < c->n_nodes; i++)
            QD_TRY(run_node(d, c->nodes[i], rows));
        return QD_OK;
    }
    QD_TRY(use_scratch(d, c));
    for (int i = 0; i < c->n_links; i++)
        QD_TRY(c->links[i].node ? run_node(d, c->links[i].node, rows) : run_link(d, c, &c->links[i], rows));
error:
    return status;
}
