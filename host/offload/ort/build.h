/* From units to a graph of the library, for the shapes of one run. */
#ifndef QDOT_ORT_BUILD_H
#define QDOT_ORT_BUILD_H

#include "match.h"

/* ---- For lower functions ------------------------------------------------------------------------------------ */

/** The graph that is being built for. */
const qep_graph *qep_of(const qep_build *b);
const qep_node *qep_node_of(const qep_build *b, const qep_unit *u);
/** Records a message and returns QD_ERR_UNSUPPORTED. */
qd_status qep_fail(qep_build *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** Shape of a value in this run. */
const qep_shape *qep_shape_of(const qep_build *b, int value);
/** Format of its elements on the device. */
qd_format qep_format_of(const qep_build *b, int value);

/** A tensor of the library of up to QD_MAX_RANK dimensions. */
qd_tensor_desc qep_desc(qd_format f, int rank, const int64_t *dims);
/** The tensor that holds a value, seen with `rank` dimensions; constants too. */
qd_status qep_input(qep_build *b, int value, int rank, const int64_t *dims, qd_tensor **out);
/** Makes the tensor of a result. `shape` is the host's; rank and dims are how the operator sees it. */
qd_status qep_output(qep_build *b, int value, const qep_shape *shape, qd_format f, int rank, const int64_t *dims,
                     qd_tensor **out);
/** A tensor between two operators of one unit. */
qd_status qep_between(qep_build *b, qd_format f, int rank, const int64_t *dims, qd_tensor **out);
/** The same bytes in another shape. */
qd_status qep_view(qep_build *b, qd_tensor *t, int rank, const int64_t *dims, qd_tensor **out);
/** Value `to` has the bytes of `from`, in another shape. */
qd_status qep_alias(qep_build *b, int to, int from, const qep_shape *shape);
/** A window onto the tensor that holds a value (unit.windows says so beforehand); steps in bytes. */
qd_status qep_window(qep_build *b, int value, const qd_tensor_desc *d, const int64_t *steps, qd_tensor **out);
/** Zero points as i32, [n] or as many dimensions as asked; NULL when the value is -1, or constants that are all 0. */
qd_status qep_zero(qep_build *b, const qep_unit *u, int slot, int value, int rank, const int64_t *dims,
                   qd_tensor **out);
/** Appends an operator. */
qd_status qep_add(qep_build *b, qd_op op, const qd_attrs *attrs, qd_tensor *const in[], int n_in, qd_tensor *out);
qd_status qep_add3(qep_build *b, qd_op op, const qd_attrs *attrs, qd_tensor *const in[], int n_in,
                   qd_tensor *const out[], int n_out);

/** A constant that a unit makes: number `slot` (0 … QEP_SLOTS - 1) of those of the unit. Unless *data is NULL then, the
 *  caller fills it, qd_desc_bytes(d) zero bytes; else it is there already from an earlier run (or not looked at). */
enum { QEP_SLOTS = 16 };
qd_status qep_make(qep_build *b, const qep_unit *u, int slot, const qd_tensor_desc *d, void **data, qd_tensor **out);
/** A constant of the host, as it is: its bytes are not copied. */
qd_status qep_borrow(qep_build *b, const qep_unit *u, int slot, const qd_tensor_desc *d, const void *data,
                     qd_tensor **out);

/** Known values on the host. In a trial, those that are no constants are ones. NULL (after a message): no memory. Valid
 * as long as the builder. */
const float *qep_floats(qep_build *b, int value);
const int32_t *qep_ints(qep_build *b, int value);
/** Its bytes as the host has them; NULL, without a message, in a trial when the value is no constant. */
const void *qep_bytes(qep_build *b, int value);
/** Number i of a known value; `otherwise` when the value is -1. */
double qep_number_of(qep_build *b, int value, int64_t i, double otherwise);
/** What the codes of an operand mean, with one scale for all. */
qd_quant qep_quant(qep_build *b, const qep_operand *o);
/** Limits and zero point of the unit's result in codes of format f. */
qd_requant qep_requant(qep_build *b, const qep_unit *u, qd_format f);

/* ---- For the plug-in ---------------------------------------------------------------------------------------- */

/** What is made once for a part of a model: constants of its units. */
typedef struct qep_constants qep_constants;
qep_constants *qep_constants_create(int units);
void qep_constants_free(qep_constants *c);

/** A tensor that a run fills from an input of the host. */
typedef struct qep_feed {
    int value;
    bool as_i32; /* codes become i32 */
    qd_tensor *tensor;
    size_t bytes; /* on the device */
} qep_feed;

/** A result that a run hands to the host. */
typedef struct qep_result {
    int value;
    qep_shape shape;
    qd_tensor *tensor; /* NULL: no elements */
    size_t bytes;
    bool from_i32; /* codes that stand in i32 on the device */
} qep_result;

/** A known value that is no constant, as it was when the program was built. */
typedef struct qep_held {
    int value;
    size_t bytes;
    void *data;
} qep_held;

typedef struct qep_step {
    qd_graph *graph;
    const char *label; /* of the node, where a step is one; else NULL */
} qep_step;

/** Graphs of the library for one set of shapes, to be run in turn. */
typedef struct qep_program {
    qep_step *steps;
    int n_steps;
    qd_tensor **owned; /* tensors with memory of their own */
    int n_owned;
    qep_feed *feeds;
    int n_feeds;
    qep_result *results;
    int n_results;
    qep_held *held;
    int n_held;
    qep_shape *inputs; /* shapes that it was built for, in the order of the part's inputs */
    qep_arena arena;
    qep_constants *own; /* constants that hold for this program only */
} qep_program;

/** What a run brings: shape and bytes of an input. */
typedef struct qep_argument {
    qep_shape shape;
    const void *data;
} qep_argument;

/** A part of a model that the plug-in has taken. */
typedef struct qep_part {
    qep_graph *graph;
    qep_units *units;
    int *order; /* units in the order of their last node */
    int n_units;
    bool *own_memory; /* for each value: results, and what windows look at */
    int *inputs;      /* values that the host passes */
    int n_inputs;
    int *outputs;
    int n_outputs;
    qep_constants *constants;
    bool single; /* each unit is a step of its own, so that a failure can name its node */
} qep_part;

/** Orders the units of a part and finds what needs memory of its own. inputs and outputs are set already. */
OrtStatus *qep_part_prepare(const qep_host *h, qep_part *p);
void qep_part_free(qep_part *p);
/** Builds the program for a run's inputs; `arguments` in the order of part.inputs. The message names the node. */
qd_status qep_program_create(qd_context *c, qep_part *p, const qep_argument *arguments, qep_program **out,
                             char *message, size_t capacity);
void qep_program_free(qep_program *p);
/** Whether a program fits a run: the shapes, and known values that are no constants. */
bool qep_program_fits(const qep_part *p, const qep_program *g, const qep_argument *arguments);

/** Lowers one unit for the shapes that the model states, without keeping anything. QD_OK, too, when some are not known.
 *  The caller gives a context that is used for nothing else at the time. */
qd_status qep_try(qd_context *c, const qep_graph *g, const qep_unit *u, char *message, size_t capacity);

#endif
