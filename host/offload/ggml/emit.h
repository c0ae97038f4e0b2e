/* What the translation of a node is made of. Tensors are those of the program, which frees them. */
#ifndef QDOT_OFFLOAD_GGML_EMIT_H
#define QDOT_OFFLOAD_GGML_EMIT_H

#include "program.h"

/** The library's format of a type; QD_FORMAT_COUNT: it has none. */
qd_format qg_format(enum ggml_type type);
/** True for formats of blocks with a scale each. */
bool qg_is_blocked(enum ggml_type type);
/** True when the rows of a tensor (its first dimension is one) lie at one distance: *rows of them, *step bytes apart.
 */
bool qg_uniform_rows(const struct ggml_tensor *t, int64_t *rows, int64_t *step);
/** True for tensors that no operator computes, and their views. */
bool qg_is_leaf(const struct ggml_tensor *t);

typedef enum qg_use {
    QG_VALUE,  /* changes from run to run, unless it lies among the weights */
    QG_WEIGHTS /* stays the same, unless it is an input or computed: worth a constant */
} qg_use;

/** An input in its own shape, the last dimension of ggml first, with any strides. */
qd_status qg_in(qg_builder *b, const struct ggml_tensor *t, qg_use use, qd_tensor **out);
/** An input as f32 [rows, cols]; one whose rows are not at one distance is copied. */
qd_status qg_in_rows(qg_builder *b, const struct ggml_tensor *t, qg_use use, qd_tensor **out);
/** [rows, cols] of f32 of an input, at `offset` bytes from its data; copied where the columns lie apart. */
qd_status qg_rows_at(qg_builder *b, const struct ggml_tensor *t, size_t offset, const qd_tensor_desc *rows,
                     qd_tensor **out);
/** A part of an input or result: `desc` at `offset` bytes from its data, with `steps` (NULL: dense). */
qd_status qg_part(qg_builder *b, const struct ggml_tensor *t, size_t offset, const qd_tensor_desc *desc,
                  const int64_t *steps, qd_tensor **out);
/** The same of what may be a constant; `steps` must then be those of a dense tensor. */
qd_status qg_part_in(qg_builder *b, const struct ggml_tensor *t, qg_use use, size_t offset, const qd_tensor_desc *desc,
                     const int64_t *steps, qd_tensor **out);
/** The result in its own shape, and as [rows, cols]. */
qd_status qg_out(qg_builder *b, const struct ggml_tensor *t, qd_tensor **out);
qd_status qg_out_rows(qg_builder *b, const struct ggml_tensor *t, qd_tensor **out);
/** True when the input is to be a constant. What a node of the graph writes never is. */
bool qg_is_constant(const qg_builder *b, const struct ggml_tensor *t, qg_use use);

/** A tensor inside the graph. */
qd_status qg_temporary(qg_builder *b, const qd_tensor_desc *desc, qd_tensor **out);
/** One that is inside the graph in another shape, and some of its columns (f32 [rows, cols]). */
qd_status qg_reshape(qg_builder *b, qd_tensor *t, const qd_tensor_desc *desc, qd_tensor **out);
qd_status qg_columns_of(qg_builder *b, qd_tensor *t, int64_t first, int64_t count, qd_tensor **out);
/** A constant of the program's own: a copy of `bytes` bytes at `data`. */
qd_status qg_own_constant(qg_builder *b, const qd_tensor_desc *desc, const void *data, size_t bytes, qd_tensor **out);

/** Appends an operator with one result. A result that may not lie over an input goes there by way of a temporary. */
qd_status qg_add(qg_builder *b, qd_op op, const qd_attrs *attrs, qd_tensor *const in[], int n_in, qd_tensor *out);

/** The activations x as [rows, cols] in A8, quantized once for all that read them. */
qd_status qg_quantize(qg_builder *b, const struct ggml_tensor *x, qd_tensor **out);
/** Where an operator may write its result quantized instead of as floats: *out is NULL when somebody reads the floats.
 */
qd_status qg_direct(qg_builder *b, const struct ggml_tensor *result, qd_tensor **out);

/** Computes a MUL_MAT together with later ones that read the same activations, when all that read their results take
 * them from qg_columns. *done: it is computed, now or earlier. */
qd_status qg_stack(qg_builder *b, const struct ggml_tensor *t, bool *done);
/** The result of a node, in whatever shape, as rows of its columns when it stands inside the graph only; else NULL. */
qd_tensor *qg_columns(const qg_builder *b, const struct ggml_tensor *t);

/** The node after t, which is the current one or fused with it, when both can be one: it is `op`, reads t, and nobody
 *  else does. */
const struct ggml_tensor *qg_fusable(const qg_builder *b, const struct ggml_tensor *t, enum ggml_op op);
/** Takes that node as translated. */
void qg_fused(qg_builder *b, const struct ggml_tensor *node);

/** True for a MUL_MAT of one matrix in a block format that takes its activations in A8. */
bool qg_reads_a8(const qg_builder *b, const struct ggml_tensor *mul_mat);

/* ---- Operators: why one is refused (NULL: it is not), and its translation ------------------------------------ */

#define QG_OP(OP, name)                                          \
    const char *qg_##name##_refuse(const struct ggml_tensor *t); \
    qd_status qg_##name##_emit(qg_builder *b, const struct ggml_tensor *t);
#include "ops.def"

#endif
