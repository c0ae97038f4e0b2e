/* The key of a compiled graph. Programs are found by comparing it whole: it is small beside the work. */
#include <stdlib.h>
#include <string.h>

#include "program.h"

typedef struct tensor_key {
    int64_t ne[GGML_MAX_DIMS];
    size_t nb[GGML_MAX_DIMS];
    const void *data, *root, *buffer;
    int64_t id; /* numbers tensors in the order of their first use, so that the same one twice is seen */
    int32_t type, op, flags, usage;
} tensor_key;

typedef struct node_key {
    int32_t op_params[GGML_MAX_OP_PARAMS / sizeof(int32_t)];
    int64_t uses, n_src;
} node_key;

/* Open addressing: pointer -> number. */
typedef struct numbering {
    const void **slot;
    int64_t *number, next;
    size_t mask;
} numbering;

static int64_t number_of(numbering *n, const void *p) {
    size_t i = ((uintptr_t)p >> 4) * 0x9E3779B97F4A7C15u >> 20 & n->mask;
    while (n->slot[i] && n->slot[i] != p)
        i = (i + 1) & n->mask;
    if (!n->slot[i]) {
        n->slot[i] = p;
        n->number[i] = n->next++;
    }
    return n->number[i];
}

static void put(char **at, const void *bytes, size_t n) {
    memcpy(*at, bytes, n);
    *at += n;
}

static void put_tensor(char **at, const struct ggml_tensor *t, numbering *n) {
    tensor_key k;
    memset(&k, 0, sizeof k);
    memcpy(k.ne, t->ne, sizeof k.ne);
    memcpy(k.nb, t->nb, sizeof k.nb);
    ggml_backend_buffer_t buffer = t->view_src ? t->view_src->buffer : t->buffer;
    k.data = t->data;
    k.root = t->view_src ? t->view_src->data : t->data;
    k.buffer = buffer;
    k.id = number_of(n, t);
    k.type = (int32_t)t->type;
    k.op = (int32_t)(t->view_src ? t->view_src->op : t->op);
    k.flags = t->flags;
    k.usage = buffer ? (int32_t)buffer->usage : 0;
    put(at, &k, sizeof k);
}

void *qg_key_make(const struct ggml_cgraph *graph, size_t *bytes) {
    size_t tensors = 0;
    for (int i = 0; i < graph->n_nodes; i++) {
        tensors++;
        for (int j = 0; j < GGML_MAX_SRC; j++)
            tensors += graph->nodes[i]->src[j] != NULL;
    }
    size_t slots = 64;
    while (slots < 2 * tensors)
        slots *= 2;
    numbering n = {calloc(slots, sizeof *n.slot), malloc(slots * sizeof *n.number), 0, slots - 1};
    char *key = malloc(tensors * sizeof(tensor_key) + (size_t)graph->n_nodes * sizeof(node_key) + 1);
    char *at = key;
    for (int i = 0; n.slot && n.number && key && i < graph->n_nodes; i++) {
        const struct ggml_tensor *t = graph->nodes[i];
        node_key k = {.uses = ggml_node_get_use_count(graph, i), .n_src = 0};
        memcpy(k.op_params, t->op_params, sizeof k.op_params);
        for (int j = 0; j < GGML_MAX_SRC; j++)
            k.n_src = k.n_src << 1 | (t->src[j] != NULL);
        put(&at, &k, sizeof k);
        put_tensor(&at, t, &n);
        for (int j = 0; j < GGML_MAX_SRC; j++) {
            if (t->src[j]) put_tensor(&at, t->src[j], &n);
        }
    }
    if (!n.slot || !n.number) {
        free(key);
        key = NULL;
    }
    free(n.slot);
    free(n.number);
    *bytes = (size_t)(at - key);
    return key;
}
