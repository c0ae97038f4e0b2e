/* A copy of what the plug-in needs of a graph of the host: nodes, values, attributes, constants. */
#ifndef QDOT_ORT_GRAPH_H
#define QDOT_ORT_GRAPH_H

#include "host.h"

enum { QEP_MAX_RANK = 8 };

/** Element types newer than the header. */
enum { QEP_TYPE_FLOAT4E2M1 = 23, QEP_TYPE_UINT2 = 24, QEP_TYPE_INT2 = 25 };

/** Memory that is freed as a whole. */
typedef struct qep_arena {
    struct qep_chunk *chunks;
} qep_arena;
/** Zeroed bytes, aligned for any type; NULL when there is no memory. */
void *qep_take(qep_arena *a, size_t count, size_t bytes);
void qep_arena_free(qep_arena *a);

typedef struct qep_shape {
    int rank;
    int64_t dims[QEP_MAX_RANK];
} qep_shape;
/** Product of dimensions [from, to). */
int64_t qep_span(const qep_shape *s, int from, int to);
/** Number of elements. */
int64_t qep_count(const qep_shape *s);

typedef struct qep_value {
    const char *name;
    ONNXTensorElementDataType type; /* UNDEFINED: no tensor */
    qep_shape shape;                /* dims -1: unknown; rank 0: a single number, or an unknown rank; rank -1: more than
                                       QEP_MAX_RANK */
    int producer;                   /* node; -1: an input or constant of the graph */
    int uses;                       /* how many inputs of nodes it is */
    int reader;                     /* a node that reads it; the only one when uses is 1 */
    bool is_output;
    const void *data; /* of a constant; borrowed from the host, or else owned by the graph */
    size_t bytes;
} qep_value;

typedef struct qep_attribute {
    const char *name;
    OrtOpAttrType type;
    size_t count; /* of numbers, or characters */
    union {
        const int64_t *ints; /* INT, INTS */
        const float *floats; /* FLOAT, FLOATS */
        const char *text;    /* STRING, ended by a zero */
    };
} qep_attribute;

typedef struct qep_node {
    const OrtNode *host; /* valid during the host's call */
    const char *label;   /* its name and operator, for messages */
    const char *op, *domain;
    int version; /* of the operator set that defined the operator */
    int *in, *out;
    int n_in, n_out; /* in[i] is -1 for an input that is left out; what sub-graphs read stands at the end */
    qep_attribute *attributes;
    int n_attributes;
} qep_node;

typedef struct qep_graph {
    qep_arena arena;
    qep_value *values;
    int n_values;
    qep_node *nodes; /* in topological order */
    int n_nodes;
    bool kept;        /* bytes of constants are the graph's own */
    int host_version; /* see qep_host */
} qep_graph;

/** Reads a graph. With `keep`, bytes of constants are copied; else they belong to the host. *out is to be freed with
 *  qep_graph_free. */
OrtStatus *qep_graph_read(const qep_host *h, const OrtGraph *from, bool keep, qep_graph **out);
void qep_graph_free(qep_graph *g);
/** Value by name; -1 when there is none. */
int qep_find_value(const qep_graph *g, const char *name);

/** Input i of a node; -1 when it is left out. */
int qep_in(const qep_node *n, int i);
const qep_attribute *qep_attr(const qep_node *n, const char *name);
int64_t qep_attr_int(const qep_node *n, const char *name, int64_t otherwise);
float qep_attr_float(const qep_node *n, const char *name, float otherwise);
const char *qep_attr_text(const qep_node *n, const char *name, const char *otherwise);

/** The library's format for an element type; QD_FORMAT_COUNT when it has none. */
qd_format qep_format(ONNXTensorElementDataType t);
/** Name of an element type as ONNX writes it. */
const char *qep_type_name(ONNXTensorElementDataType t);
/** Element i of `data` as a number; 0 for types without numbers. */
double qep_number(ONNXTensorElementDataType t, const void *data, int64_t i);
/** Bytes of so many elements as the host stores them. */
size_t qep_type_bytes(ONNXTensorElementDataType t, int64_t count);

#endif
