/* Internals shared by the files of the ggml backend. Names of ours begin with qg_.
 *
 * One device (the one that QDOT_DEVICE names) has one context and one lock; streams ("backends" in ggml's words),
 * buffers and compiled graphs belong to it. Whoever calls the library holds the lock. */
#ifndef QDOT_OFFLOAD_GGML_PLUGIN_H
#define QDOT_OFFLOAD_GGML_PLUGIN_H

#include <pthread.h>

#include "ggml-backend-impl.h"
#include "ggml-impl.h"
#include "qdot/qdot.h"

typedef struct qg_program qg_program;
typedef struct qg_rope qg_rope;
typedef struct qg_buffer qg_buffer;

/** What the environment asks for; the strings are its own. */
typedef struct qg_options {
    const char *device;  /* QDOT_DEVICE */
    const char *profile; /* QDOT_PROFILE: "table", or the path of a trace; NULL: none */
    bool verify;         /* QDOT_VERIFY */
    bool floats;         /* QDOT_ACTIVATIONS: not A8 */
} qg_options;

/** Reads the options. False: one is wrong, and has been logged with those that are known. */
bool qg_options_read(qg_options *out);

/** What happened on the device, for the log. */
typedef struct qg_counts {
    uint64_t graphs, compiled; /* graphs computed, and those of them that had to be compiled */
    uint64_t nodes;            /* of ggml, views left out */
    uint64_t operators;        /* of the library */
    uint64_t chained;          /* of them in chains: many in one launch */
    uint64_t fallbacks;        /* of them on the reference */
    double compute_seconds;    /* in graph_compute, compiling included */
    double compile_seconds;
    double library_seconds; /* of it enqueueing and waiting */
} qg_counts;

/* Compiled graphs that are kept, and of how many nodes in all: a graph of which the host computes parts comes in many
 * pieces. */
enum { QG_PROGRAMS = 512, QG_NODES = 16384 };

/* Positions of ROPEs whose host copies are looked at before each graph. */
enum { QG_POSITIONS = 16 };

typedef struct qg_positions_read {
    const char *from, *to; /* of the host's copy */
    bool stale;            /* an operator may have written them since the copy was made */
} qg_positions_read;

/* Nodes of the last graph with a number that are ROPEs, without those that are like the one before. */
enum { QG_ROPES = 16 };

typedef struct qg_rope_nodes {
    uint64_t uid; /* the graph's number; 0: none */
    int count, nodes[QG_ROPES];
} qg_rope_nodes;

typedef struct qg_device {
    pthread_mutex_t lock;
    qg_options options;
    qd_context *context;
    const qd_device_info *info;
    char description[300];
    qg_buffer *buffers;
    qg_program *programs[QG_PROGRAMS];
    uint64_t clock; /* counts graphs, for the least recently used program */
    qg_rope *ropes;
    qg_rope_nodes rope_nodes;
    qg_positions_read positions[QG_POSITIONS];
    unsigned next_positions;
    qg_counts counts;
    struct ggml_backend_reg reg;
    struct ggml_backend_device device;
    struct ggml_backend_buffer_type buffer_type;
} qg_device;

/** Opens the device, once. NULL: it has been logged why. */
qg_device *qg_device_open(void);
/** Bytes of its memory that may be used; 0: unknown. */
size_t qg_device_memory(const qg_device *d);
/** Logs what the device did since the last report, and writes the profile where one was asked for. Takes the lock. */
void qg_device_report(qg_device *d);

void qg_lock(qg_device *d);
void qg_unlock(qg_device *d);

/** Monotonic seconds. */
double qg_seconds(void);

/** ggml's device, for its stream and buffers. */
extern const struct ggml_backend_device_i qg_device_interface;
extern const struct ggml_backend_buffer_type_i qg_buffer_type_interface;
/** A stream on the device; NULL when memory is short. */
ggml_backend_t qg_stream_create(qg_device *d);
/** A buffer over memory of the host's (a mapped file), which is read only. */
ggml_backend_buffer_t qg_buffer_borrow(qg_device *d, void *memory, size_t size);

/** Why the device does not take this operator; NULL: it does. A static string. */
const char *qg_refuse(const struct ggml_tensor *op);

#endif
