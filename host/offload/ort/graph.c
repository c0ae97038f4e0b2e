#include "graph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* While a graph is read. */
typedef struct reader {
    const qep_host *h;
    qep_graph *g;
    bool keep;
    int values_cap;
    int *table; /* hash table of value indices, -1: free */
    size_t table_size;
} reader;

static OrtStatus *no_memory(const qep_host *h) {
    return qep_error(h, ORT_FAIL, "out of memory while reading the model");
}

static const char *copy_text(qep_arena *a, const char *text) {
    const size_t n = strlen(text) + 1;
    char *copy = qep_take(a, n, 1);
    return copy ? memcpy(copy, text, n) : NULL;
}

/* ---- Values ------------------------------------------------------------------------------------------------- */

static size_t hash(const char *name) {
    size_t h = 14695981039346656037u; /* FNV-1a */
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 1099511628211u;
    return h;
}

/* Place of a name in the table: its own, or the free one where it belongs. */
static size_t place_of(const reader *r, const char *name) {
    size_t at = hash(name) & (r->table_size - 1);
    while (r->table[at] >= 0 && strcmp(r->g->values[r->table[at]].name, name) != 0)
        at = (at + 1) & (r->table_size - 1);
    return at;
}

static OrtStatus *read_type(const reader *r, const OrtValueInfo *info, qep_value *v) {
    const OrtApi *api = r->h->api;
    const OrtTypeInfo *type = NULL;
    const OrtTensorTypeAndShapeInfo *tensor = NULL;
    size_t rank = 0;
    v->type = ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
    /* Values of later kinds may have no type that this API knows. */
    if (!qep_ok(r->h, api->GetValueInfoTypeInfo(info, &type)) || !type) return NULL;
    QEP_HOST(api->CastTypeInfoToTensorInfo(type, &tensor));
    if (!tensor) return NULL;
    QEP_HOST(api->GetTensorElementType(tensor, &v->type));
    QEP_HOST(api->GetDimensionsCount(tensor, &rank));
    if (rank > QEP_MAX_RANK) {
        v->shape.rank = -1;
        return NULL;
    }
    v->shape.rank = (int)rank;
    return api->GetDimensions(tensor, v->shape.dims, rank);
}

static OrtStatus *read_constant(const reader *r, const OrtValueInfo *info, qep_value *v) {
    const OrtApi *api = r->h->api;
    bool constant = false;
    const OrtValue *value = NULL;
    QEP_HOST(api->ValueInfo_IsConstantInitializer(info, &constant));
    if (!constant || v->type == ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED ||
        v->type == ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING || v->shape.rank < 0)
        return NULL;
    QEP_HOST(api->ValueInfo_GetInitializerValue(info, &value));
    if (!value) return NULL;
    QEP_HOST(api->GetTensorData(value, &v->data));
    v->bytes = qep_type_bytes(v->type, qep_count(&v->shape));
    const bool empty = qep_count(&v->shape) == 0;
    if (!v->bytes && !empty) v->data = NULL; /* of a type that is not known */
    if (empty && !v->data) v->data = "";
    if (!v->data || !r->keep) return NULL;
    void *copy = malloc(empty ? 1 : v->bytes);
    if (copy && !empty) memcpy(copy, v->data, v->bytes);
    v->data = copy;
    return copy ? NULL : no_memory(r->h);
}

/* Index of the value that `info` tells of, which is added when it is new; -1 for one without a name. */
static OrtStatus *value_index(reader *r, const OrtValueInfo *info, int *out) {
    const char *name = NULL;
    *out = -1;
    if (!info) return NULL;
    QEP_HOST(r->h->api->GetValueInfoName(info, &name));
    if (!name || !*name) return NULL;
    const size_t at = place_of(r, name);
    if (r->table[at] >= 0) {
        *out = r->table[at];
        return NULL;
    }
    qep_graph *g = r->g;
    if (g->n_values == r->values_cap) return qep_error(r->h, ORT_FAIL, "the model's nodes changed while it was read");
    qep_value *v = &g->values[g->n_values];
    *v = (qep_value){.name = copy_text(&g->arena, name), .producer = -1, .reader = -1};
    if (!v->name) return no_memory(r->h);
    *out = r->table[at] = g->n_values++;
    QEP_HOST(read_type(r, info, v));
    return read_constant(r, info, v);
}

/* ---- Nodes -------------------------------------------------------------------------------------------------- */

static OrtStatus *read_attribute(const reader *r, const OrtOpAttr *from, qep_attribute *a) {
    const OrtApi *api = r->h->api;
    const char *name;
    QEP_HOST(api->OpAttr_GetName(from, &name));
    a->name = copy_text(&r->g->arena, name);
    if (!a->name) return no_memory(r->h);
    QEP_HOST(api->OpAttr_GetType(from, &a->type));
    size_t element;
    switch (a->type) {
        case ORT_OP_ATTR_INT:
        case ORT_OP_ATTR_INTS:
            element = sizeof(int64_t);
            break;
        case ORT_OP_ATTR_FLOAT:
        case ORT_OP_ATTR_FLOATS:
            element = sizeof(float);
            break;
        case ORT_OP_ATTR_STRING:
            element = 1;
            break;
        default: /* not read by any operator here */
            return NULL;
    }
    /* Too little room: the host says how many bytes it needs, and fails. */
    size_t bytes = 0, got = 0;
    int64_t single;
    const bool small = qep_ok(r->h, api->ReadOpAttr(from, a->type, &single, sizeof single, &bytes));
    char *data = qep_take(&r->g->arena, bytes + 1, 1);
    if (!data) return no_memory(r->h);
    if (small) {
        memcpy(data, &single, bytes);
    } else {
        QEP_HOST(api->ReadOpAttr(from, a->type, data, bytes, &got));
    }
    a->count = bytes / element;
    a->text = data;
    return NULL;
}

static OrtStatus *read_attributes(const reader *r, const OrtNode *from, qep_node *n) {
    size_t count = 0;
    OrtStatus *status = NULL;
    const OrtOpAttr **list = NULL;
    QEP_HOST(r->h->api->Node_GetNumAttributes(from, &count));
    n->attributes = qep_take(&r->g->arena, count, sizeof *n->attributes);
    list = calloc(count ? count : 1, sizeof *list);
    if (!n->attributes || !list) {
        free(list);
        return no_memory(r->h);
    }
    QEP_TRY(r->h->api->Node_GetAttributes(from, list, count));
    for (size_t i = 0; i < count; i++) {
        if (list[i]) QEP_TRY(read_attribute(r, list[i], &n->attributes[n->n_attributes++]));
    }
error:
    free(list);
    return status;
}

/* How many inputs or outputs a node has: *n, and *hidden more that only its sub-graphs read. */
static OrtStatus *count_ports(const OrtApi *api, const OrtNode *node, bool inputs, size_t *n, size_t *hidden) {
    *hidden = 0;
    if (!inputs) return api->Node_GetNumOutputs(node, n);
    QEP_HOST(api->Node_GetNumInputs(node, n));
    return api->Node_GetNumImplicitInputs(node, hidden);
}

/* Inputs or outputs of a node as indices of values. */
static OrtStatus *read_ports(reader *r, const OrtNode *from, bool inputs, int **out, int *count) {
    const OrtApi *api = r->h->api;
    size_t named = 0, hidden = 0;
    OrtStatus *status = NULL;
    const OrtValueInfo **list = NULL;
    QEP_HOST(count_ports(api, from, inputs, &named, &hidden));
    const size_t n = named + hidden;
    *out = qep_take(&r->g->arena, n, sizeof **out);
    list = calloc(n ? n : 1, sizeof *list);
    if (!*out || !list) {
        free(list);
        return no_memory(r->h);
    }
    QEP_TRY(inputs ? api->Node_GetInputs(from, list, named) : api->Node_GetOutputs(from, list, named));
    if (hidden) QEP_TRY(api->Node_GetImplicitInputs(from, list + named, hidden));
    for (size_t i = 0; i < n; i++)
        QEP_TRY(value_index(r, list[i], &(*out)[i]));
    *count = (int)n;
error:
    free(list);
    return status;
}

static OrtStatus *read_label(const reader *r, const OrtNode *from, qep_node *n) {
    const char *name = NULL;
    char label[256];
    QEP_HOST(r->h->api->Node_GetName(from, &name));
    if (name && *name) {
        snprintf(label, sizeof label, "'%.180s' (%.60s)", name, n->op);
    } else {
        const int y = n->n_out ? n->out[0] : -1;
        snprintf(label, sizeof label, "%.60s that makes '%.180s'", n->op, y >= 0 ? r->g->values[y].name : "");
    }
    n->label = copy_text(&r->g->arena, label);
    return n->label ? NULL : no_memory(r->h);
}

static OrtStatus *read_node(reader *r, const OrtNode *from, qep_node *n) {
    const OrtApi *api = r->h->api;
    const char *op = NULL, *domain = NULL;
    n->host = from;
    QEP_HOST(api->Node_GetOperatorType(from, &op));
    QEP_HOST(api->Node_GetDomain(from, &domain));
    QEP_HOST(api->Node_GetSinceVersion(from, &n->version));
    n->op = copy_text(&r->g->arena, op);
    /* The standard domain has two names. */
    n->domain = copy_text(&r->g->arena, domain && strcmp(domain, "ai.onnx") != 0 ? domain : "");
    if (!n->op || !n->domain) return no_memory(r->h);
    QEP_HOST(read_ports(r, from, true, &n->in, &n->n_in));
    QEP_HOST(read_ports(r, from, false, &n->out, &n->n_out));
    QEP_HOST(read_label(r, from, n));
    return read_attributes(r, from, n);
}

static void connect(qep_graph *g) {
    for (int i = 0; i < g->n_nodes; i++) {
        const qep_node *n = &g->nodes[i];
        for (int j = 0; j < n->n_out; j++) {
            if (n->out[j] >= 0) g->values[n->out[j]].producer = i;
        }
        for (int j = 0; j < n->n_in; j++) {
            if (n->in[j] < 0) continue;
            g->values[n->in[j]].uses++;
            g->values[n->in[j]].reader = i;
        }
    }
}

/* ---- The graph ---------------------------------------------------------------------------------------------- */

/* Room for all values: as many as the nodes have inputs and outputs, and the graph has outputs. */
static OrtStatus *make_room(reader *r, const OrtNode *const *nodes, size_t n_nodes, size_t n_outputs) {
    const OrtApi *api = r->h->api;
    size_t values = n_outputs;
    for (size_t i = 0; i < n_nodes; i++) {
        size_t in = 0, out = 0, hidden = 0;
        QEP_HOST(count_ports(api, nodes[i], false, &out, &hidden));
        QEP_HOST(count_ports(api, nodes[i], true, &in, &hidden));
        values += in + hidden + out;
    }
    for (r->table_size = 64; r->table_size < 2 * values; r->table_size *= 2)
        ;
    r->values_cap = (int)values;
    r->g->values = qep_take(&r->g->arena, values, sizeof *r->g->values);
    r->g->nodes = qep_take(&r->g->arena, n_nodes, sizeof *r->g->nodes);
    r->table = malloc(r->table_size * sizeof *r->table);
    if (!r->g->values || !r->g->nodes || !r->table) return no_memory(r->h);
    memset(r->table, -1, r->table_size * sizeof *r->table);
    return NULL;
}

OrtStatus *qep_graph_read(const qep_host *h, const OrtGraph *from, bool keep, qep_graph **out) {
    const OrtApi *api = h->api;
    reader r = {.h = h, .keep = keep};
    size_t n_nodes = 0, n_outputs = 0;
    const OrtNode **nodes = NULL;
    const OrtValueInfo **outputs = NULL;
    OrtStatus *status = NULL;
    r.g = calloc(1, sizeof *r.g);
    if (!r.g) return no_memory(h);
    r.g->kept = keep;
    r.g->host_version = h->version;
    QEP_TRY(api->Graph_GetNumNodes(from, &n_nodes));
    QEP_TRY(api->Graph_GetNumOutputs(from, &n_outputs));
    nodes = calloc(n_nodes + 1, sizeof *nodes);
    outputs = calloc(n_outputs + 1, sizeof *outputs);
    if (!nodes || !outputs) QEP_TRY(no_memory(h));
    QEP_TRY(api->Graph_GetNodes(from, nodes, n_nodes));
    QEP_TRY(api->Graph_GetOutputs(from, outputs, n_outputs));
    QEP_TRY(make_room(&r, nodes, n_nodes, n_outputs));
    for (size_t i = 0; i < n_nodes; i++) {
        r.g->n_nodes = (int)i + 1;
        QEP_TRY(read_node(&r, nodes[i], &r.g->nodes[i]));
    }
    for (size_t i = 0; i < n_outputs; i++) {
        int v;
        QEP_TRY(value_index(&r, outputs[i], &v));
        if (v >= 0) r.g->values[v].is_output = true;
    }
    connect(r.g);
    *out = r.g;
    r.g = NULL;
error:
    free(nodes);
    free(outputs);
    free(r.table);
    qep_graph_free(r.g);
    return status;
}

void qep_graph_free(qep_graph *g) {
    if (!g) return;
    for (int i = 0; i < g->n_values && g->kept; i++)
        free((void *)(uintptr_t)g->values[i].data);
    qep_arena_free(&g->arena);
    free(g);
}

int qep_find_value(const qep_graph *g, const char *name) {
    for (int i = 0; i < g->n_values; i++) {
        if (strcmp(g->values[i].name, name) == 0) return i;
    }
    return -1;
}

/* ---- Reading it --------------------------------------------------------------------------------------------- */

int64_t qep_span(const qep_shape *s, int from, int to) {
    int64_t n = 1;
    for (int i = from; i < to; i++)
        n *= s->dims[i];
    return n;
}

int64_t qep_count(const qep_shape *s) {
    return qep_span(s, 0, s->rank);
}

int qep_in(const qep_node *n, int i) {
    return i < n->n_in ? n->in[i] : -1;
}

const qep_attribute *qep_attr(const qep_node *n, const char *name) {
    for (int i = 0; i < n->n_attributes; i++) {
        if (strcmp(n->attributes[i].name, name) == 0) return &n->attributes[i];
    }
    return NULL;
}

int64_t qep_attr_int(const qep_node *n, const char *name, int64_t otherwise) {
    const qep_attribute *a = qep_attr(n, name);
    return a && a->type == ORT_OP_ATTR_INT && a->count ? a->ints[0] : otherwise;
}

float qep_attr_float(const qep_node *n, const char *name, float otherwise) {
    const qep_attribute *a = qep_attr(n, name);
    return a && a->type == ORT_OP_ATTR_FLOAT && a->count ? a->floats[0] : otherwise;
}

const char *qep_attr_text(const qep_node *n, const char *name, const char *otherwise) {
    const qep_attribute *a = qep_attr(n, name);
    return a && a->type == ORT_OP_ATTR_STRING ? a->text : otherwise;
}
