/* The execution provider of one session. */
#ifndef QDOT_ORT_EP_H
#define QDOT_ORT_EP_H

#include <pthread.h>

#include "build.h"
#include "options.h"

#define QEP_NAME "QdotExecutionProvider"

typedef struct qep_ep {
    OrtEp base; /* first: the host passes it back */
    qep_host host;
    qep_options options;
    qd_context *context;
    pthread_mutex_t lock; /* the context and all that is made of it belong to one thread at a time */
    int parts;            /* compiled so far */
} qep_ep;

/** Opens the device that the session asks for. */
OrtStatus *qep_ep_create(const qep_host *h, const OrtSessionOptions *options, OrtEp **out);
void qep_ep_free(qep_ep *e);

/** Takes a part of the model over; *out is the host's handle to it. */
OrtStatus *qep_compute_create(qep_ep *e, const OrtGraph *graph, const OrtNode *fused, OrtNodeComputeInfo **out);
void qep_compute_free(OrtNodeComputeInfo *info);

/** Says which nodes go together: for each node of the graph a number, or -1 for those that stay with the host. The
 *  nodes of one number are connected, and no path leaves them and comes back. `units` that would not do so, and groups
 *  without a unit of work, stay. *out has g->n_nodes elements and is to be freed. */
OrtStatus *qep_partition(const qep_host *h, const qep_graph *g, const qep_units *units, const bool *unit_ok, int **out,
                         int *groups);

#endif
