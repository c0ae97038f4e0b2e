/* A graph: operators in program order, compiled once into a static arena and a list of dependencies. */
#include <stdlib.h>
#include <string.h>

#include "core/graph.h"

/* Tensors start at multiples of this, so that kernels may use aligned vectors. */
#define ARENA_ALIGN 256

int64_t qd_graph_rows(const qd_graph *g) {
    return g->max_rows;
}

qd_status qd_grow(void **array, int used, int *capacity, size_t element) {
    if (used < *capacity) return QD_OK;
    const int larger = *capacity ? 2 * *capacity : 32;
    void *p = qd_realloc(*array, (size_t)larger * element);
    if (!p) return QD_ERR_MEMORY;
    *array = p;
    *capacity = larger;
    return QD_OK;
}

qd_status qd_graph_create(qd_context *c, int64_t max_rows, qd_graph **out) {
    if (!c || !out || max_rows < 1) return qd_fail(QD_ERR_ARGUMENT, "a graph needs a context and at least one row");
    qd_graph *g = qd_alloc_zero(1, sizeof *g);
    if (!g) return QD_ERR_MEMORY;
    g->context = c;
    g->max_rows = max_rows;
    *out = g;
    return QD_OK;
}

qd_status qd_graph_adopt(qd_graph *g, qd_tensor *t, qd_tensor **out) {
    if (qd_grow((void **)&g->tensors, g->n_tensors, &g->tensors_cap, sizeof *g->tensors)) {
        qd_tensor_free(t);
        return QD_ERR_MEMORY;
    }
    t->graph = g;
    g->tensors[g->n_tensors++] = (graph_tensor){.tensor = t, .first = 1, .last = 0, .bytes = 0};
    *out = t;
    return QD_OK;
}

static qd_status check_open(const qd_graph *g, const char *call) {
    if (!g) return qd_fail(QD_ERR_ARGUMENT, "%s: the graph is NULL", call);
    if (g->compiled) return qd_fail(QD_ERR_ARGUMENT, "%s: the graph is compiled already", call);
    return QD_OK;
}

qd_status qd_graph_tensor(qd_graph *g, const qd_tensor_desc *d, qd_tensor **out) {
    qd_status status = check_open(g, "qd_graph_tensor");
    if (status) return status;
    if (!out) return qd_fail(QD_ERR_ARGUMENT, "qd_graph_tensor: a place for the result is missing");
    qd_tensor *t;
    status = qd_tensor_new(g->context, d, &t);
    return status ? status : qd_graph_adopt(g, t, out);
}

qd_status qd_graph_view(qd_graph *g, qd_tensor *t, int64_t first, int64_t count, qd_tensor **out) {
    qd_status status = check_open(g, "qd_graph_view");
    if (status) return status;
    if (!out) return qd_fail(QD_ERR_ARGUMENT, "qd_graph_view: a place for the result is missing");
    qd_tensor *v;
    const qd_tensor *owner = t && t->base ? t->base : t;
    if (owner && owner->graph && owner->graph != g) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_graph_view: the tensor belongs to another graph");
    }
    status = qd_tensor_view(t, first, count, &v);
    return status ? status : qd_graph_adopt(g, v, out);
}

qd_status qd_graph_reshape(qd_graph *g, qd_tensor *t, const qd_tensor_desc *d, qd_tensor **out) {
    qd_status status = check_open(g, "qd_graph_reshape");
    if (status) return status;
    if (!out) return qd_fail(QD_ERR_ARGUMENT, "qd_graph_reshape: a place for the result is missing");
    qd_tensor *v;
    const qd_tensor *owner = t && t->base ? t->base : t;
    if (owner && owner->graph && owner->graph != g) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_graph_reshape: the tensor belongs to another graph");
    }
    status = qd_tensor_reshape(t, d, &v);
    return status ? status : qd_graph_adopt(g, v, out);
}

qd_status qd_graph_add(qd_graph *g, qd_op op, const qd_attrs *attrs, qd_tensor *const in[], int n_in,
                       qd_tensor *const out[], int n_out) {
    qd_status status = check_open(g, "qd_graph_add");
    if (status) return status;
    status = qd_grow((void **)&g->nodes, g->n_nodes, &g->nodes_cap, sizeof *g->nodes);
    if (status) return status;
    graph_node *n = &g->nodes[g->n_nodes];
    memset(n, 0, sizeof *n);
    status = qd_node_init(&n->node, op, attrs, in, n_in, out, n_out, g);
    if (!status) g->n_nodes++;
    return status;
}

/* ---- Arena -------------------------------------------------------------------------------------------------- */

static void note_use(qd_graph *g, const qd_tensor *t, int node) {
    if (!t) return;
    const qd_tensor *owner = t->base ? t->base : t;
    if (!owner->graph) return;
    for (int i = 0; i < g->n_tensors; i++) {
        graph_tensor *x = &g->tensors[i];
        if (x->tensor != owner) continue;
        if (x->first > x->last) x->first = node;
        x->last = node;
        return;
    }
}

static int larger_first(const void *a, const void *b) {
    const graph_tensor *x = *(graph_tensor *const *)a, *y = *(graph_tensor *const *)b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->first - y->first;
}

/* Places the largest tensors first, each at the lowest offset that is free for as long as it lives. */
static size_t place(graph_tensor **order, int n) {
    size_t end = 0;
    for (int i = 0; i < n; i++) {
        graph_tensor *x = order[i];
        size_t at = 0;
        for (bool moved = true; moved;) {
            moved = false;
            for (int j = 0; j < i; j++) {
                const graph_tensor *y = order[j];
                const bool together = x->first <= y->last && y->first <= x->last;
                if (!together || at + x->bytes <= y->tensor->offset || y->tensor->offset + y->bytes <= at) continue;
                at = y->tensor->offset + y->bytes;
                moved = true;
            }
        }
        x->tensor->offset = at;
        if (at + x->bytes > end) end = at + x->bytes;
    }
    return end;
}

/* The most bytes that are alive at one node. */
static size_t largest_live(const qd_graph *g, graph_tensor *const order[], int n) {
    size_t most = 0;
    for (int node = 0; node < g->n_nodes; node++) {
        size_t sum = 0;
        for (int i = 0; i < n; i++) {
            if (order[i]->first <= node && node <= order[i]->last) sum += order[i]->bytes;
        }
        if (sum > most) most = sum;
    }
    return most;
}

static qd_status build_arena(qd_graph *g) {
    for (int i = 0; i < g->n_nodes; i++) {
        for (int j = 0; j < QD_MAX_IN; j++)
            note_use(g, g->nodes[i].node.in[j], i);
        for (int j = 0; j < QD_MAX_OUT; j++)
            note_use(g, g->nodes[i].node.out[j], i);
    }
    graph_tensor **order = qd_alloc((size_t)g->n_tensors * sizeof *order);
    if (!order) return QD_ERR_MEMORY;
    int n = 0;
    for (int i = 0; i < g->n_tensors; i++) {
        graph_tensor *x = &g->tensors[i];
        if (x->tensor->base || x->first > x->last) continue;
        qd_tensor_desc d = x->tensor->desc;
        if (d.shape[0] == QD_ROWS) d.shape[0] = g->max_rows;
        const bool empty = d.shape[0] == 0;
        x->bytes = (qd_desc_bytes(&d) + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
        if (!x->bytes && !empty) {
            free(order);
            return qd_fail(QD_ERR_ARGUMENT, "graph: a tensor is too large");
        }
        g->info.tensor_bytes += x->bytes;
        order[n++] = x;
    }
    qsort(order, (size_t)n, sizeof *order, larger_first);
    g->info.live_bytes = largest_live(g, order, n);
    g->info.arena_bytes = place(order, n);
    free(order);
    if (!g->info.arena_bytes) return QD_OK;
    const qd_status status = g->context->backend->alloc(g->context->device, g->info.arena_bytes, &g->arena);
    if (status) return status;
    for (int i = 0; i < g->n_tensors; i++) {
        qd_tensor *t = g->tensors[i].tensor;
        if (t->base && !t->base->graph) continue;
        t->buffer = g->arena;
        if (t->base) t->offset = t->base->offset + t->first_byte;
    }
    return QD_OK;
}

/* ---- Dependencies ------------------------------------------------------------------------------------------- */

static bool overlap(const qd_graph *g, const qd_tensor *a, const qd_tensor *b) {
    return a && b && qd_tensor_overlap(a, b, g->max_rows);
}

/* True when `late` must wait for `early`: one of them writes what the other reads or writes. */
static bool depends(const qd_graph *g, const qd_node *late, const qd_node *early) {
    for (int o = 0; o < QD_MAX_OUT; o++) {
        for (int i = 0; i < QD_MAX_IN; i++) {
            if (overlap(g, early->out[o], late->in[i]) || overlap(g, late->out[o], early->in[i])) return true;
        }
        for (int p = 0; p < QD_MAX_OUT; p++) {
            if (overlap(g, early->out[o], late->out[p])) return true;
        }
    }
    return false;
}

static qd_status build_waits(qd_graph *g) {
    const qd_backend *b = g->context->backend;
    if (!b->in_order || b->in_order(g->context->device)) return QD_OK;
    const size_t n = (size_t)g->n_nodes;
    qd_status status = QD_ERR_MEMORY;
    /* reached[i][j]: node i already waits for j, directly or through another. */
    bool *reached = qd_alloc_zero(n * n, sizeof *reached);
    int *found = qd_alloc(n * sizeof *found);
    g->wait_list = qd_alloc((n ? n : 1) * sizeof(qd_node *));
    if (!reached || !found || !g->wait_list) goto error;
    for (size_t i = 0; i < n; i++) {
        graph_node *x = &g->nodes[i];
        int count = 0;
        for (size_t j = i; j-- > 0;) {
            if (reached[i * n + j] || !depends(g, &x->node, &g->nodes[j].node)) continue;
            found[count++] = (int)j;
            for (size_t k = 0; k < j; k++)
                reached[i * n + k] |= reached[j * n + k];
            reached[i * n + j] = true;
        }
        if (!count) continue;
        x->wait = qd_alloc((size_t)count * sizeof *x->wait);
        if (!x->wait) goto error;
        memcpy(x->wait, found, (size_t)count * sizeof *found);
        x->n_wait = count;
    }
    status = QD_OK;
error:
    free(reached);
    free(found);
    return status;
}

/* Tells the backend about all operators at once. */
static qd_status plan_nodes(qd_graph *g) {
    const qd_backend *b = g->context->backend;
    if (!b->plan) return QD_OK;
    qd_node **nodes = qd_alloc((size_t)(g->n_nodes ? g->n_nodes : 1) * sizeof(qd_node *));
    if (!nodes) return QD_ERR_MEMORY;
    qd_status status = QD_OK;
    for (int i = 0; i < g->n_nodes && !status; i++) {
        nodes[i] = &g->nodes[i].node;
        status = qd_node_check_memory(g->context, nodes[i]);
    }
    if (!status) status = b->plan(g->context->device, nodes, g->n_nodes);
    free(nodes);
    return status;
}

/* ---- Chain ---------------------------------------------------------------------------------------------------- */

static qd_status build_chain(qd_graph *g) {
    const qd_backend *b = g->context->backend;
    const qd_context_options *o = &g->context->options;
    if (!b->chain || o->no_fuse || o->verify || g->info.fallbacks || !g->n_nodes) return QD_OK;
    qd_node **nodes = qd_alloc((size_t)g->n_nodes * sizeof(qd_node *));
    if (!nodes) return QD_ERR_MEMORY;
    for (int i = 0; i < g->n_nodes; i++)
        nodes[i] = &g->nodes[i].node;
    int chained = 0;
    const qd_status status = b->chain(g->context->device, nodes, g->n_nodes, &g->chain, &chained);
    free(nodes);
    g->info.chained = g->chain ? chained : 0;
    return status == QD_ERR_UNSUPPORTED ? QD_OK : status;
}

/* ---- Compile and run ---------------------------------------------------------------------------------------- */

qd_status qd_graph_compile(qd_graph *g, bool (*progress)(void *user, int done, int total), void *user) {
    qd_status status = check_open(g, "qd_graph_compile");
    if (status) return status;
    /* A failed compile leaves a graph that can only be freed. */
    g->compiled = true;
    g->info = (qd_graph_info){.ops = -1};
    if (!g->context->options.no_fuse) {
        QD_TRY(qd_graph_fuse(g));
        QD_TRY(qd_graph_channels_last(g));
    }
    QD_TRY(build_arena(g));
    QD_TRY(plan_nodes(g));
    for (int i = 0; i < g->n_nodes; i++) {
        if (progress && !progress(user, i, g->n_nodes)) return qd_fail(QD_ERR_CANCELLED, "stopped on request");
        QD_TRY(qd_node_prepare(g->context, &g->nodes[i].node));
        if (g->nodes[i].node.fallback) g->info.fallbacks++;
    }
    QD_TRY(build_waits(g));
    QD_TRY(build_chain(g));
    g->info.ops = g->n_nodes;
error:
    return status;
}

static qd_status enqueue_nodes(qd_graph *g, int64_t rows) {
    for (int i = 0; i < g->n_nodes; i++) {
        graph_node *x = &g->nodes[i];
        int n = 0;
        for (int j = 0; j < x->n_wait; j++) {
            qd_node *w = &g->nodes[x->wait[j]].node;
            /* A fallback has finished already; what has no rows never starts. */
            if (!w->fallback && w->max_rows) g->wait_list[n++] = w;
        }
        const qd_status status = qd_node_enqueue(g->context, &x->node, rows, g->wait_list, n);
        if (status) return status;
    }
    return QD_OK;
}

static void forget_recording(qd_graph *g) {
    if (g->recording) g->context->backend->recording_free(g->context->device, g->recording);
    g->recording = NULL;
    g->info.recorded = 0;
}

/* Records a run with so many rows. What fails is no loss: the operators are launched one by one then. */
static void record(qd_graph *g, int64_t rows) {
    const qd_backend *b = g->context->backend;
    void *device = g->context->device;
    g->unrecorded = true;
    if (b->record(device) != QD_OK) return;
    const qd_status status = enqueue_nodes(g, rows);
    if (b->recorded(device, status == QD_OK, &g->recording) != QD_OK || status) return;
    g->unrecorded = false;
    g->recorded_rows = rows;
    g->info.recorded = g->n_nodes;
}

/* A number of rows that comes twice in a row will come again: the second run is recorded, which then serves all of them
 * until the number changes. When it comes back, a run that goes one by one gives the kernels their arguments again. */
static qd_status run_nodes(qd_graph *g, int64_t rows) {
    const qd_backend *b = g->context->backend;
    const bool records = b->record && !g->unrecorded && !g->info.fallbacks && !g->context->options.verify;
    for (int i = 0; i < 2 && records && rows == g->last_rows && !g->unrecorded; i++) {
        if (!g->recording || g->recorded_rows != rows) {
            forget_recording(g);
            record(g, rows);
            if (!g->recording) break;
        }
        const qd_status status = b->replay(g->context->device, g->recording);
        if (status != QD_ERR_UNSUPPORTED) return status;
        forget_recording(g);
    }
    const qd_status status = enqueue_nodes(g, rows);
    g->last_rows = status ? 0 : rows;
    return status;
}

qd_status qd_graph_run(qd_graph *g, int64_t rows) {
    if (!g || g->info.ops != g->n_nodes || !g->compiled) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_graph_run: compile the graph first");
    }
    if (rows < 0 || rows > g->max_rows) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_graph_run: %lld rows; the graph was made for up to %lld", (long long)rows,
                       (long long)g->max_rows);
    }
    if (!rows) return QD_OK;
    const qd_backend *b = g->context->backend;
    void *device = g->context->device;
    qd_status status = QD_OK;
    if (b->begin) QD_TRY(b->begin(device));
    QD_TRY(g->chain ? b->chain_run(device, g->chain, rows) : run_nodes(g, rows));
    if (b->submit) QD_TRY(b->submit(device));
error:
    return status;
}

void qd_graph_free(qd_graph *g) {
    if (!g) return;
    if (g->chain) g->context->backend->chain_free(g->context->device, g->chain);
    forget_recording(g);
    for (int i = 0; i < g->n_nodes; i++) {
        qd_node_retire(g->context, &g->nodes[i].node);
        free(g->nodes[i].wait);
    }
    /* Views were made after what they show: free them first. */
    for (int i = g->n_tensors; i-- > 0;)
        qd_tensor_free(g->tensors[i].tensor);
    if (g->arena) g->context->backend->release(g->context->device, g->arena);
    free(g->nodes);
    free(g->tensors);
    free(g->wait_list);
    free(g);
}

qd_status qd_graph_describe(const qd_graph *g, qd_graph_info *out) {
    if (!g || !out || !g->compiled || g->info.ops != g->n_nodes) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_graph_describe: compile the graph first");
    }
    *out = g->info;
    return QD_OK;
}
