/* The inside of a graph: what graph.c, which compiles and runs it, shares with fuse.c, which rewrites it before. */
#ifndef QDOT_CORE_GRAPH_H
#define QDOT_CORE_GRAPH_H

#include "core/context.h"

typedef struct graph_node {
    qd_node node;
    int *wait; /* earlier nodes that must finish first, transitive ones left out */
    int n_wait;
} graph_node;

typedef struct graph_tensor {
    qd_tensor *tensor;
    int first, last; /* nodes between which the bytes must be kept; first > last: never used */
    size_t bytes;
} graph_tensor;

struct qd_graph {
    qd_context *context;
    int64_t max_rows;
    bool compiled;
    graph_node *nodes;
    int n_nodes, nodes_cap;
    graph_tensor *tensors;
    int n_tensors, tensors_cap;
    qd_buffer *arena;
    qd_node **wait_list; /* room for the longest wait list */
    void *chain;         /* the backend's, of all nodes; NULL: they go one by one */
    void *recording;     /* the backend's, of a run with so many rows; NULL: none */
    int64_t recorded_rows, last_rows;
    bool unrecorded; /* no recording can be made */
    qd_graph_info info;
};

/** Makes room for one more element of a growing array. */
qd_status qd_grow(void **array, int used, int *capacity, size_t element);
/** Takes ownership of t, also when it fails. */
qd_status qd_graph_adopt(qd_graph *g, qd_tensor *t, qd_tensor **out);

/** Where the device wants that, convolutions whose channels stand before the image, and what follows them, get channels
 *  last, with copies where such images begin and end: info.copies. After fusion. On failure the graph can still be
 * freed. */
qd_status qd_graph_channels_last(qd_graph *g);

/** Nobody can see the bytes of t but the operators that have t itself as operand. */
bool qd_is_private(const qd_graph *g, const qd_tensor *t);

/** Puts operators into others that can do their work too, with the same results, before memory is planned and kernels
 *  are chosen. Adds the number of those that are gone to info.fused. On failure the graph can still be freed. */
qd_status qd_graph_fuse(qd_graph *g);

#endif
