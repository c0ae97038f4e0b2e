/* A group of nodes that the plug-in got: a graph, made for the shapes of its inputs, and run. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tflite.h"

/* A tensor through which the group and the host meet. */
typedef struct port {
    int number;      /* of the host's tensor */
    tfl_shape shape; /* inputs: for which the graph was made */
} port;

typedef struct kernel {
    tfl_plugin *plugin;
    tfl_node *nodes;
    port *inputs, *outputs;
    int n_nodes, n_inputs, n_outputs;
    tfl_build build;
    bool built;
} kernel;

/* ---- Life --------------------------------------------------------------------------------------------------- */

static void drop_graph(kernel *k) {
    if (k->built) tfl_build_free(&k->build);
    k->built = false;
}

static void free_kernel(kernel *k) {
    tfl_plugin *p = k->plugin;
    pthread_mutex_lock(p->lock);
    drop_graph(k);
    pthread_mutex_unlock(p->lock);
    for (int i = 0; i < k->n_nodes; i++)
        tfl_node_free(&k->nodes[i]);
    free(k->nodes);
    free(k->inputs);
    free(k->outputs);
    free(k);
    tfl_plugin_release(p);
}

static port *make_ports(const TfLiteIntArray *list) {
    return calloc((size_t)(list->size ? list->size : 1), sizeof(port));
}

static void *kernel_init(TfLiteContext *host, const char *buffer, size_t length) {
    (void)length;
    const TfLiteDelegateParams *params = (const TfLiteDelegateParams *)(const void *)buffer;
    const TfLiteIntArray *nodes = params->nodes_to_replace;
    kernel *k = calloc(1, sizeof *k);
    if (!k) return NULL;
    k->plugin = params->delegate->data_;
    atomic_fetch_add(&k->plugin->users, 1);
    k->nodes = calloc((size_t)nodes->size, sizeof *k->nodes);
    k->inputs = make_ports(params->input_tensors);
    k->outputs = make_ports(params->output_tensors);
    bool complete = k->nodes && k->inputs && k->outputs;
    for (int i = 0; complete && i < nodes->size; i++) {
        complete = tfl_node_copy(host, nodes->data[i], &k->nodes[i]);
        k->n_nodes += complete;
    }
    if (!complete) {
        free_kernel(k);
        return NULL;
    }
    for (int i = 0; i < params->input_tensors->size; i++) {
        const int number = params->input_tensors->data[i];
        if (host->tensors[number].allocation_type != kTfLiteMmapRo) k->inputs[k->n_inputs++].number = number;
    }
    for (int i = 0; i < params->output_tensors->size; i++)
        k->outputs[k->n_outputs++].number = params->output_tensors->data[i];
    return k;
}

static void kernel_free(TfLiteContext *host, void *data) {
    (void)host;
    if (data) free_kernel(data);
}

/* ---- Building ----------------------------------------------------------------------------------------------- */

static void report(TfLiteContext *host, const tfl_node *n, const char *why) {
    if (!n) {
        host->ReportError(host, "qdot: %s", why);
        return;
    }
    const char *name = tfl_operator_name(n->builtin), *output = host->tensors[n->out[0]].name;
    host->ReportError(host, "qdot: node %d (%s, %s): %s", n->number, name ? name : "", output ? output : "", why);
}

/* The host's shape of a port; false where it has more dimensions than are known. */
static bool shape_of(TfLiteContext *host, int number, tfl_shape *s) {
    const TfLiteIntArray *dims = host->tensors[number].dims;
    memset(s, 0, sizeof *s);
    if (!dims || dims->size > TFL_MAX_RANK) return false;
    s->rank = dims->size;
    for (int i = 0; i < s->rank; i++)
        s->of[i] = dims->data[i];
    return true;
}

static bool shapes_changed(TfLiteContext *host, const kernel *k) {
    for (int i = 0; i < k->n_inputs; i++) {
        tfl_shape s;
        if (!shape_of(host, k->inputs[i].number, &s) || !tfl_same_shape(&s, &k->inputs[i].shape)) return true;
    }
    return false;
}

/* Which values need memory of their own. With `verify` all do: each node is a graph. */
static void mark_outside(kernel *k) {
    tfl_value *values = k->build.values;
    const bool alone = k->plugin->options.verify;
    for (int i = 0; i < k->n_outputs; i++)
        values[k->outputs[i].number].read_outside = true;
    for (int i = 0; i < k->n_nodes; i++) {
        const tfl_node *n = &k->nodes[i];
        for (int j = 0; j < n->n_in && tfl_operator_windows(n->builtin); j++) {
            if (n->in[j] >= 0) values[n->in[j]].read_outside = true;
        }
        for (int j = 0; j < n->n_out && alone; j++) {
            if (n->out[j] >= 0) values[n->out[j]].read_outside = true;
        }
    }
}

/* The node whose translation graph i is; NULL: all of them. */
static const tfl_node *node_of(const kernel *k, int i) {
    return k->plugin->options.verify ? &k->nodes[i] : NULL;
}

/* Makes the graphs. *at: where that failed; NULL: not at a node. */
static bool fill(kernel *k, const tfl_node **at) {
    tfl_build *b = &k->build;
    for (int i = 0; i < k->n_nodes; i++) {
        *at = &k->nodes[i];
        if (i && k->plugin->options.verify && !tfl_build_next(b)) return false;
        if (!tfl_build_node(b, *at)) return false;
    }
    for (int i = 0; i < b->n_graphs; i++) {
        *at = node_of(k, i);
        if (!tfl_ok(b, qd_graph_compile(b->graphs[i], NULL, NULL))) return false;
    }
    return true;
}

static TfLiteStatus build_graph(TfLiteContext *host, kernel *k) {
    tfl_build *b = &k->build;
    drop_graph(k);
    if (!tfl_build_start(b, host, k->plugin->context, false)) {
        report(host, NULL, b->why);
        tfl_build_free(b);
        return kTfLiteDelegateError;
    }
    k->built = true;
    for (int i = 0; i < k->n_inputs; i++)
        shape_of(host, k->inputs[i].number, &k->inputs[i].shape);
    mark_outside(k);
    const tfl_node *at;
    if (fill(k, &at)) return kTfLiteOk;
    report(host, at, b->why);
    drop_graph(k);
    return kTfLiteDelegateError;
}

/* Gives the host's outputs the shapes that the graph found. */
static TfLiteStatus resize_outputs(TfLiteContext *host, const kernel *k) {
    for (int i = 0; i < k->n_outputs; i++) {
        const int number = k->outputs[i].number;
        const tfl_shape *shape = &k->build.values[number].shape;
        TfLiteIntArray *dims = malloc(sizeof *dims + (size_t)shape->rank * sizeof(int)); /* the host frees it */
        if (!dims) return kTfLiteError;
        dims->size = shape->rank;
        for (int j = 0; j < shape->rank; j++)
            dims->data[j] = (int)shape->of[j];
        const TfLiteStatus status = host->ResizeTensor(host, &host->tensors[number], dims);
        if (status != kTfLiteOk) return status;
    }
    return kTfLiteOk;
}

static TfLiteStatus kernel_prepare(TfLiteContext *host, TfLiteNode *node) {
    kernel *k = node->user_data;
    if (!k) {
        host->ReportError(host, "qdot: out of memory when the nodes were claimed");
        return kTfLiteDelegateError;
    }
    pthread_mutex_lock(k->plugin->lock);
    TfLiteStatus status = kTfLiteOk;
    if (!k->built || shapes_changed(host, k)) status = build_graph(host, k);
    pthread_mutex_unlock(k->plugin->lock);
    return status == kTfLiteOk ? resize_outputs(host, k) : status;
}

/* ---- Running ------------------------------------------------------------------------------------------------ */

/* The bytes of a port; NULL where the host has no memory for as many. */
static void *port_bytes(TfLiteContext *host, tfl_build *b, const port *p, size_t *bytes) {
    const TfLiteTensor *t = &host->tensors[p->number];
    qd_tensor *own = b->values[p->number].tensor;
    *bytes = own ? qd_desc_bytes(qd_tensor_describe(own)) : 0;
    if (t->data.raw && t->bytes == *bytes) return t->data.raw;
    tfl_fail(b, "tensor %d (%s) has %zu bytes where the graph has %zu", p->number, t->name ? t->name : "",
             t->data.raw ? t->bytes : 0, *bytes);
    return NULL;
}

/* Brings the inputs, runs, fetches the outputs. *at: as in fill. */
static bool run(TfLiteContext *host, kernel *k, const tfl_node **at) {
    tfl_build *b = &k->build;
    size_t bytes;
    *at = NULL;
    for (int i = 0; i < k->n_inputs; i++) {
        const int number = k->inputs[i].number;
        if (!b->values[number].tensor) continue; /* only its shape was looked at */
        const void *from = port_bytes(host, b, &k->inputs[i], &bytes);
        if (!from || !tfl_ok(b, qd_tensor_write(b->values[number].tensor, 0, from, bytes))) return false;
    }
    for (int i = 0; i < b->n_graphs; i++) {
        *at = node_of(k, i);
        if (!tfl_ok(b, qd_graph_run(b->graphs[i], 1))) return false;
    }
    *at = NULL;
    for (int i = 0; i < k->n_outputs; i++) {
        const int number = k->outputs[i].number;
        void *to = port_bytes(host, b, &k->outputs[i], &bytes);
        if (!to || !tfl_ok(b, qd_tensor_read(b->values[number].tensor, 0, to, bytes))) return false;
    }
    return true;
}

static TfLiteStatus kernel_invoke(TfLiteContext *host, TfLiteNode *node) {
    kernel *k = node->user_data;
    if (!k || !k->built) {
        host->ReportError(host, "qdot: a group of nodes was not prepared");
        return kTfLiteDelegateError;
    }
    pthread_mutex_lock(k->plugin->lock);
    const tfl_node *at;
    const bool done = run(host, k, &at);
    pthread_mutex_unlock(k->plugin->lock);
    if (done) return kTfLiteOk;
    report(host, at, k->build.why);
    return kTfLiteDelegateError;
}

TfLiteRegistration tfl_kernel_registration(void) {
    return (TfLiteRegistration){.init = kernel_init,
                                .free = kernel_free,
                                .prepare = kernel_prepare,
                                .invoke = kernel_invoke,
                                .builtin_code = kTfLiteBuiltinDelegate,
                                .custom_name = "qdot",
                                .version = 1};
}
