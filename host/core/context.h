/* Internals shared by the files of core/. */
#ifndef QDOT_CORE_CONTEXT_H
#define QDOT_CORE_CONTEXT_H

#include "core/status.h"
#include "qdot/qdot_backend.h"

struct qd_context {
    const qd_backend *backend;
    void *device; /* the backend's */
    qd_device_info info;
    qd_context_options options;
    int64_t fallbacks_logged; /* bit mask over operators: the fallback is reported once for each */
};

struct qd_plan {
    qd_context *context;
    qd_node node;
};

/** Tells the context's log, if it has one. */
void qd_log(const qd_context *c, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** A tensor without memory. */
qd_status qd_tensor_new(qd_context *c, const qd_tensor_desc *d, qd_tensor **out);

/** Where a constant, or a piece of a stack, has its bytes at `from`, it has those at `to` from now on, and so have the
 *  device's copies; other tensors stay as they are. `to` must live as long as the constant, or until it is replaced. */
qd_status qd_constant_replace(qd_tensor *t, const void *from, const void *to);

/** qd_tensor_window, also of a tensor inside a graph that has no memory yet. */
qd_status qd_window_of(qd_tensor *t, size_t offset, const qd_tensor_desc *d, const int64_t *steps, qd_tensor **out);

/** True when two tensors have bytes in common, where runs have up to `rows` rows. */
bool qd_tensor_overlap(const qd_tensor *a, const qd_tensor *b, int64_t rows);

/** Most rows of a graph's runs. */
int64_t qd_graph_rows(const qd_graph *g);
/** Fills and checks a node against its row of qdot_ops.def; see operands.c. `graph` is the one it belongs to, or NULL.
 */
qd_status qd_node_init(qd_node *n, qd_op op, const qd_attrs *attrs, qd_tensor *const in[], int n_in,
                       qd_tensor *const out[], int n_out, const qd_graph *graph);
/** A kernel may only meet operands that have bytes on its own device. The tensors of a qd_case belong to no context. */
qd_status qd_node_check_memory(const qd_context *c, const qd_node *n);
/** Chooses a kernel, or marks the node as a fallback. */
qd_status qd_node_prepare(qd_context *c, qd_node *n);
void qd_node_retire(qd_context *c, qd_node *n);
qd_status qd_node_enqueue(qd_context *c, qd_node *n, int64_t rows, qd_node *const wait[], int n_wait);

#endif
