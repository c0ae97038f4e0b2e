/* Inside of the builder: build.c and program.c only. */
#ifndef QDOT_ORT_BUILDER_H
#define QDOT_ORT_BUILDER_H

#include "build.h"

/** Where a value stands while a program is built. */
typedef struct qep_slot {
    qep_shape shape;
    bool known;        /* the shape is */
    bool is_input;     /* a run passes it */
    qd_tensor *tensor; /* NULL: none yet, or no elements */
    qd_format format;  /* of the tensor */
} qep_slot;

struct qep_constants {
    int units;
    struct {
        qd_tensor *tensor;
        void *data; /* NULL: borrowed */
    } * slots;      /* [units][QEP_SLOTS] */
};

struct qep_build {
    qd_context *context;
    const qep_graph *g;
    qep_part *part; /* NULL in a trial */
    qep_program *program;
    qd_graph *graph;    /* that is being added to */
    qep_slot *slots;    /* for each value */
    const void **given; /* for each value: bytes of an input */
    int max_owned, max_feeds, max_held;
    char message[320];
};

qd_status qep_own(qep_build *b, qd_tensor *t);
qd_status qep_feed_add(qep_build *b, int value, bool as_i32, qd_tensor **out);

#endif
