/* Programs: graphs of ggml translated to graphs of the library, compiled, and kept for when they come again. */
#ifndef QDOT_OFFLOAD_GGML_PROGRAM_H
#define QDOT_OFFLOAD_GGML_PROGRAM_H

#include "buffer.h"
#include "plugin.h"

/** Bytes of a buffer that a program touches. */
typedef struct qg_range {
    qg_buffer *buffer;
    size_t from, to;
} qg_range;

/** A tensor that a program made, and what it shows; `range.buffer` is NULL for what stands between its steps. */
typedef struct qg_operand {
    qd_tensor *tensor;
    qg_range range;
} qg_operand;

/** Positions of a ROPE some of which are negative, as rows of its table: source[i] + before. */
typedef struct qg_positions {
    const int32_t *source;
    int64_t n;
    int32_t before;
    qd_tensor *tensor;
} qg_positions;

/** What runs at once: a whole program, or with verify each node of it, so that a difference can be said of the node. */
typedef struct qg_step {
    qd_graph *graph;
    char node[GGML_MAX_NAME]; /* empty: all */
    const char *op;           /* of ggml */
} qg_step;

struct qg_program {
    qg_step *steps;
    int n_steps, steps_cap;
    qd_graph *graph;     /* that is being filled: the last step's */
    qg_operand *windows; /* owned */
    int n_windows, windows_cap;
    qg_range *written; /* merged, in order */
    int n_written, written_cap;
    void **memory; /* owned: what constants of its own borrow */
    qd_tensor **constants;
    int n_constants, constants_cap;
    qg_positions *positions;
    int n_positions;
    void *key;
    size_t key_bytes;
    uint64_t uid;  /* the host's number of the graph; 0: it gave none */
    uint64_t used; /* the device's clock at the last run */
    int nodes;     /* of ggml */
};

/** Activations in A8, made from `source`; NULL: it has been overwritten since. */
typedef struct qg_quantized {
    const struct ggml_tensor *source;
    qd_tensor *tensor;
    qg_range range; /* of the source */
} qg_quantized;

/** The result of a node that stands inside the graph only, as [rows, columns] of f32. */
typedef struct qg_inner {
    const struct ggml_tensor *tensor;
    qd_tensor *columns;
} qg_inner;

/** Addresses of bytes that nodes of the graph write. */
typedef struct qg_span {
    const char *from, *to;
} qg_span;

/** What a node's translation works on. */
typedef struct qg_builder {
    qg_device *device;
    qg_program *program;
    const struct ggml_cgraph *graph;
    int at;     /* the node that is translated */
    bool *done; /* nodes that were translated with an earlier one */
    qg_quantized *quantized;
    int n_quantized, quantized_cap;
    qg_inner *inner;
    int n_inner, inner_cap;
    qg_span *results; /* of all nodes, where constants may lie, too: by address, apart from each other */
    int n_results, results_cap;
} qg_builder;

/** Frees the compiled graphs that touch a buffer (NULL: all). */
void qg_programs_drop(qg_device *d, const qg_buffer *b);

/** Computes a graph, compiling it when it is new. Holds the lock. */
qd_status qg_compute(qg_device *d, const struct ggml_cgraph *graph);

/** Everything of a graph that its translation depends on, as bytes to be freed; NULL when memory is short. */
void *qg_key_make(const struct ggml_cgraph *graph, size_t *bytes);

/** True for nodes that are to be computed and change bytes. */
bool qg_is_computed(const struct ggml_tensor *t);

/** Translates a whole graph into an empty program. */
qd_status qg_translate(qg_device *d, const struct ggml_cgraph *graph, qg_program *p);

#endif
