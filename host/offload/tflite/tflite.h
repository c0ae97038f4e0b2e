/* The TensorFlow Lite plug-in: what its files share.
 *
 * The host gives nodes, tensors and shapes. A tfl_build translates nodes, one after the other, into operators of a
 * qd_graph. It is used twice: when the host asks which nodes the plug-in takes (a node is taken if its translation
 * works; that graph is thrown away), and for each group of nodes that the plug-in got. With `verify` each node of a
 * group gets a graph of its own, so that a difference can be said of the node.
 */
#ifndef QDOT_TFLITE_H
#define QDOT_TFLITE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "qdot/qdot.h"
#include "tensorflow/lite/builtin_ops.h"
#include "tensorflow/lite/core/c/builtin_op_data.h"
#include "tensorflow/lite/core/c/common.h"

/* ---- Plug-in ------------------------------------------------------------------------------------------------ */

/** What the user asked for. Strings are owned. */
typedef struct tfl_options {
    char *device;  /* NULL: $QDOT_DEVICE, else opencl */
    char *profile; /* NULL: off; "": print a table at the end; else a path, to which a Chrome trace is written */
    bool verify;   /* every operator is also computed by the reference, and compared */
    bool verbose;  /* tell on stderr which nodes are taken, and why others are not */
} tfl_options;

/** One delegate of the host. Python may free it before the interpreters that use it, at its end, so they count. */
typedef struct tfl_plugin {
    TfLiteDelegate delegate; /* first, so that the host's pointer is ours */
    tfl_options options;
    qd_context *context;
    void *lock;       /* a pthread_mutex_t: a context belongs to one thread at a time, hosts may call from several */
    atomic_int users; /* the host, and each kernel */
    char why[700];    /* it cannot be used for this reason; else empty */
} tfl_plugin;

/** Ends a use. The last one frees the plug-in. */
void tfl_plugin_release(tfl_plugin *p);

/** Reads the host's options. On failure writes a line to `why` that lists the known ones, and leaves *out empty. */
bool tfl_options_read(char **keys, char **values, size_t count, tfl_options *out, char *why, size_t why_bytes);
void tfl_options_free(tfl_options *o);
/** Claims nodes: TfLiteDelegate.Prepare. */
TfLiteStatus tfl_claim(TfLiteContext *host, TfLiteDelegate *delegate);
/** What runs a group of claimed nodes. */
TfLiteRegistration tfl_kernel_registration(void);
/** A line on stderr in the form of the host's own notes, where the host has no other place for them. */
void tfl_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- Building ----------------------------------------------------------------------------------------------- */

#define TFL_MAX_RANK 8

typedef struct tfl_shape {
    int rank; /* 0: one element */
    int64_t of[TFL_MAX_RANK];
} tfl_shape;

/** A node of the host, copied, because the host moves its own. */
typedef struct tfl_node {
    int number; /* in the host's plan */
    int32_t builtin;
    int version;
    const void *params; /* of the type that belongs to the operator; the host's, as long as the model lives */
    int n_in, n_out;
    int *in, *out; /* numbers of tensors; -1: absent */
} tfl_node;

/** A tensor of the host during a build. `tensor` may have another shape of as many elements. */
typedef struct tfl_value {
    qd_tensor *tensor; /* NULL: not made so far */
    tfl_shape shape;
    bool read_outside; /* it needs memory of its own: the host reads it, or windows of it are read */
} tfl_value;

typedef struct tfl_build {
    TfLiteContext *host;
    qd_context *context;
    qd_graph *graph;   /* that is being filled: the last of graphs */
    qd_graph **graphs; /* in the order in which they run, owned */
    int n_graphs, graphs_cap;
    bool trial;        /* the graph will not run: no memory is needed */
    tfl_value *values; /* for each tensor of the host */
    size_t n_values;
    const tfl_node *node; /* that is being translated */
    qd_tensor **tensors;  /* outside the graph, owned */
    int n_tensors, tensors_cap;
    void **blocks; /* memory that constants borrow, owned */
    int n_blocks, blocks_cap;
    char why[400]; /* the reason of a failure */
} tfl_build;

/** Starts an empty graph. False: b->why says why. tfl_build_free is legal in either case. */
bool tfl_build_start(tfl_build *b, TfLiteContext *host, qd_context *context, bool trial);
void tfl_build_free(tfl_build *b);
/** What follows goes into a graph of its own. Tensors between graphs must be read_outside. */
bool tfl_build_next(tfl_build *b);
/** Translates one node. False: b->why; the graph may then hold operators of it, and must not run. */
bool tfl_build_node(tfl_build *b, const tfl_node *n);
/** Name of a node's operator as in the host's schema, "CONV_2D"; NULL when the plug-in does not know it. */
const char *tfl_operator_name(int32_t builtin);
/** What a row of operators.def says about an operator. */
#define TFL_MOVES 1
#define TFL_WINDOWS 2
/** Whether the operator only moves elements: alone it is not worth a way to the device and back. */
bool tfl_operator_moves(int32_t builtin);
/** Whether it reads windows of its inputs, which must then have memory of their own: read_outside. */
bool tfl_operator_windows(int32_t builtin);

bool tfl_node_copy(TfLiteContext *host, int number, tfl_node *out);
void tfl_node_free(tfl_node *n);

/* ---- What the operators' files use (build.c) ---------------------------------------------------------------- */

/** Sets b->why and returns false. */
bool tfl_fail(tfl_build *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** True when s is QD_OK; else the library's message becomes b->why. */
bool tfl_ok(tfl_build *b, qd_status s);

/** Input or output of the node. */
typedef struct tfl_operand {
    int number; /* of the host's tensor */
    const TfLiteTensor *host;
    tfl_shape shape;   /* not set for outputs */
    qd_format format;  /* QD_FORMAT_COUNT: a type that the plug-in does not know */
    const void *bytes; /* of a constant; else NULL */
    qd_tensor *tensor; /* only after tfl_tensor */
} tfl_operand;

/** Input i, which must be there. */
bool tfl_input(tfl_build *b, int i, tfl_operand *x);
/** Input i, or x->host NULL where it is absent. */
bool tfl_input_optional(tfl_build *b, int i, tfl_operand *x);
bool tfl_output(tfl_build *b, int i, tfl_operand *y);
/** Refuses a node with more inputs or outputs than that. */
bool tfl_counts(tfl_build *b, int least_in, int most_in, int out);

/** Sets x->tensor, in its host's shape (or in one dimension, where it has too many). Constants become constants. */
bool tfl_tensor(tfl_build *b, tfl_operand *x);
/** x's tensor seen with the shape of d. */
bool tfl_view(tfl_build *b, tfl_operand *x, const qd_tensor_desc *d, qd_tensor **out);
/** Gives output y its shape, and a tensor with the desc d, which has as many elements. */
bool tfl_result(tfl_build *b, tfl_operand *y, const tfl_shape *shape, const qd_tensor_desc *d);
/** Output y is what x is, in another shape. */
bool tfl_alias(tfl_build *b, tfl_operand *x, tfl_operand *y, const tfl_shape *shape);
/** A tensor between two operators of one node. */
bool tfl_inner(tfl_build *b, const qd_tensor_desc *d, qd_tensor **out);
/** A constant from memory that outlives the build: the host's, or that of tfl_memory. */
bool tfl_constant(tfl_build *b, const qd_tensor_desc *d, const void *bytes, qd_tensor **out);
/** As qd_tensor_window, of a tensor outside the graph. */
bool tfl_window_of(tfl_build *b, qd_tensor *t, size_t offset, const qd_tensor_desc *d, const int64_t *steps,
                   qd_tensor **out);
/** n · size bytes that live as long as the build; false when there are none. */
bool tfl_memory(tfl_build *b, int64_t n, size_t size, void *out);
/** Appends an operator with one result. */
bool tfl_op(tfl_build *b, qd_op op, const qd_attrs *attrs, qd_tensor *const in[], int n_in, qd_tensor *out);

qd_tensor_desc tfl_desc(qd_format f, const tfl_shape *s);
int64_t tfl_elements(const tfl_shape *s);
bool tfl_same_shape(const tfl_shape *a, const tfl_shape *b);
/** Refuses another rank than `rank`. */
bool tfl_rank(tfl_build *b, const tfl_operand *x, int rank);
/** An axis that may count from the end, as a number from 0. */
bool tfl_axis(tfl_build *b, int axis, int rank, int *out);
/** The elements of a small constant of integers (i32 or i64). False where it is none, or has more than `most`. */
bool tfl_integers(tfl_build *b, const tfl_operand *x, int most, int64_t *out, int *count);

/* ---- Quantization (quant.c) --------------------------------------------------------------------------------- */

/** Checks that x has codes of 8 bits, and one scale and zero point that make sense. */
bool tfl_quant(tfl_build *b, const tfl_operand *x, qd_quant *q);
/** The scales of weights: one, or one for each index of dimension `axis`, of which there are `channels`. `zeros` is
 * NULL when all are 0. The arrays are the host's. */
typedef struct tfl_scales {
    const float *scale;
    int64_t count;
    const int32_t *zeros;
} tfl_scales;
bool tfl_weight_scales(tfl_build *b, const tfl_operand *w, int axis, int64_t channels, tfl_scales *s);
/** Refuses x and y whose codes mean different things. */
bool tfl_same_quant(tfl_build *b, const tfl_operand *x, const tfl_operand *y);
/** Limits of y's codes for a fused activation, as the host computes them. *whole: it limits nothing. */
bool tfl_activation(tfl_build *b, TfLiteFusedActivation a, qd_format f, qd_quant y, int32_t *min, int32_t *max,
                    bool *whole);
/** Refuses limits that the library takes for none: 0 … 0. */
bool tfl_limits(tfl_build *b, int32_t min, int32_t max);
/** The activation as the end of an operator with integer sums. */
bool tfl_requant(tfl_build *b, TfLiteFusedActivation a, qd_format f, qd_quant y, qd_rounding rounding, qd_requant *r);
/** The requant operand: multipliers x_scale · w[i] / y_scale. */
bool tfl_requant_table(tfl_build *b, qd_rounding rounding, float x_scale, const float *w, int64_t n, float y_scale,
                       qd_tensor **out);
/** y = table[x]: an operator of its own behind x, for functions of one code. `table` has 256 codes of y's format, the
 * first for x's least code, and must be of tfl_memory. */
bool tfl_table(tfl_build *b, qd_tensor *x, const void *table, qd_tensor *y);

#endif
