/* Weights of a file as constants of a model, and the operators that read them, whatever their format or coding. */
#ifndef QDOT_MODEL_WEIGHTS_H
#define QDOT_MODEL_WEIGHTS_H

#include "model/int8.h"
#include "model/model.h"

typedef struct qd_weight {
    qd_tensor *t;     /* of a format; of a coding, its rows */
    qd_tensor *side;  /* of a coding, else NULL */
    qd_coding coding; /* where there is a side */
    qd_int8 int8;     /* its codes are there: as such, and not as the above */
    int64_t rows, cols;
    const qd_branch *branches; /* of adapters */
    int n_branches;
} qd_weight;

/** Makes the model the owner of a constant; on failure it is freed. */
qd_status qd_model_keep(qd_model *m, qd_tensor *t);
/** A tensor of the file of the shape [rows, cols], or [cols] when rows is 0. The model owns its constants. */
qd_status qd_weight_find(qd_model *m, const char *name, int64_t rows, int64_t cols, qd_weight *out);
/** The same for a matrix of a layer: one that can read int8 activations becomes one that does, where the model's are.
 */
qd_status qd_weight_find_layer(qd_model *m, const char *name, int64_t rows, int64_t cols, qd_weight *out);
/** What n matrices want to read: A8 when integers were asked for and all of them have block formats or codings; int8
 *  matrices read floats, which they quantize. */
qd_format qd_weights_want(const qd_model *m, const qd_weight w[], int n);
/** What is to be made for n matrices to read: what they want, but floats where an adapter has branches beside them. */
qd_format qd_weights_input(const qd_model *m, const qd_weight w[], int n);
/** y[r] = row ids[r]. */
qd_status qd_weight_rows(qd_graph *g, const qd_weight *w, qd_tensor *ids, qd_tensor *y);
/** y = x · wᵀ (+ addend, which may be NULL). */
qd_status qd_weight_multiply(qd_graph *g, const qd_weight *w, qd_tensor *x, qd_tensor *addend, qd_tensor *y);
/** y = x · wᵀ (+ addend, NULL where there are several), side by side in the columns of y, with the branches of
 * adapters. Floats are quantized where the matrices want that. */
qd_status qd_weights_apply(qd_model *m, qd_graph *g, const qd_weight w[], int n, qd_tensor *x, qd_tensor *addend,
                           qd_tensor *y);

#endif
