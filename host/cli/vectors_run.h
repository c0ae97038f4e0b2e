/* What the files vectors_OPERATION.c share: a case while it runs, and the steps that a run is made of. Functions return
 * a status that only says whether to go on: why they failed is in the run. */
#ifndef QDOT_CLI_VECTORS_RUN_H
#define QDOT_CLI_VECTORS_RUN_H

#include "cli/vectors.h"

enum { QD_VEC_OUTPUTS = 16 };

/** A case while it runs. It owns what the functions below make, until it ends. */
typedef struct qd_vec_run {
    qd_context *context;
    const qd_vec_case *c;
    qd_vec_options options;
    bool refused;            /* a library call failed with QD_ERR_ARGUMENT, which is what an error case asks for */
    bool skipped;            /* qdot does not do this yet */
    bool relaxed, different; /* of the outputs compared so far */
    int ops, fallbacks;      /* operators that ran, and those of them that the device left to the reference */
    char part[64];           /* what of the group is skipped */
    char text[QD_VEC_TEXT];  /* why it failed, is skipped, or passed only with relaxed rules */
    bool compared[QD_VEC_OUTPUTS]; /* by output */
    struct qd_vec_owned *owned;
} qd_vec_run;

/** Frees what the run owns. */
void qd_vec_release(qd_vec_run *r);

/** Leaves the function when a step has failed. */
#define QD_VEC_TRY(call)                      \
    do {                                      \
        const qd_status status_ = (call);     \
        if (status_ != QD_OK) return status_; \
    } while (0)

/* ---- How a case ends ---------------------------------------------------------------------------------------- */

/** qdot does not do this yet: the case counts as skipped, under "group/part", or the group's name when `part` is empty.
 *  The rest is printf-style. Returns a status that is not QD_OK. */
qd_status qd_vec_skip(qd_vec_run *r, const char *part, const char *format, ...) __attribute__((format(printf, 3, 4)));
/** The manifest lacks something: the case fails, also when it asks for an error. Returns a status that is not QD_OK. */
qd_status qd_vec_bad(qd_vec_run *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** Keeps the outcome of a call of the library, and returns it. */
qd_status qd_vec_library(qd_vec_run *r, qd_status s);

/* ---- Inputs and attributes: checked ------------------------------------------------------------------------- */

/** The input of that name, which must be there. */
qd_status qd_vec_need(qd_vec_run *r, const char *name, const qd_vec_tensor **out);
/** The same as f32: nothing is copied. */
qd_status qd_vec_need_f32(qd_vec_run *r, const char *name, const qd_vec_tensor **t, const float **values);
/** An attribute: a number or a boolean as integer between least and most, `otherwise` where it is absent. */
qd_status qd_vec_attr(qd_vec_run *r, const char *key, int64_t otherwise, int64_t least, int64_t most, int64_t *out);
/** An attribute that must be there. */
qd_status qd_vec_attr_needed(qd_vec_run *r, const char *key, int64_t least, int64_t most, int64_t *out);
/** A list of exactly n integers from 0 to 2^30, each `otherwise` where it is absent. */
qd_status qd_vec_attr_list(qd_vec_run *r, const char *key, int n, int64_t otherwise, int64_t *out);
/** A string, `otherwise` where it is absent. */
const char *qd_vec_attr_text(const qd_vec_run *r, const char *key, const char *otherwise);
/** Memory that the run frees. */
qd_status qd_vec_alloc(qd_vec_run *r, int64_t count, size_t bytes, void *out);
/** All values of a tensor of floats as f32, or of integers as i32. A scalar is one value. */
qd_status qd_vec_floats(qd_vec_run *r, const qd_vec_tensor *t, float **out);
qd_status qd_vec_ints(qd_vec_run *r, const qd_vec_tensor *t, int32_t **out);
/** The single value of input `name`: it must be there, or is 0. */
qd_status qd_vec_scale(qd_vec_run *r, const char *name, float *out);
qd_status qd_vec_zero(qd_vec_run *r, const char *name, int32_t *out);
/** scale and zero_point of "NAME_scale", "NAME_zero_point". */
qd_status qd_vec_quant(qd_vec_run *r, const char *name, qd_quant *out);

/* ---- Tensors and operators ---------------------------------------------------------------------------------- */

/** Formats of the library for a tensor's codes; skips the case when there is none. */
qd_status qd_vec_format(qd_vec_run *r, const qd_vec_tensor *t, qd_format *out);
/** The shape of a tensor, a scalar as [1]. */
qd_tensor_desc qd_vec_desc(qd_format f, const qd_vec_tensor *t);
/** A desc of `rank` dimensions. */
qd_tensor_desc qd_vec_shape(qd_format f, int rank, const int64_t *shape);
/** A tensor of the library with a tensor's values in another shape of as many elements. `constant`: as weights. */
qd_status qd_vec_load(qd_vec_run *r, const qd_vec_tensor *t, const qd_tensor_desc *d, bool constant, qd_tensor **out);
/** The same with bytes in the library's layout, which must live as long as the run. */
qd_status qd_vec_put(qd_vec_run *r, const qd_tensor_desc *d, const void *bytes, bool constant, qd_tensor **out);
/** i32 or f32 values in one dimension, or in [n, 2] for rows of requant. */
qd_status qd_vec_put_ints(qd_vec_run *r, const int32_t *values, int64_t n, qd_tensor **out);
qd_status qd_vec_put_floats(qd_vec_run *r, const float *values, int64_t n, qd_tensor **out);
qd_status qd_vec_put_requant(qd_vec_run *r, const int32_t *table, int64_t n, qd_tensor **out);
/** Input `name` as i32 in one dimension; NULL when it is absent. */
qd_status qd_vec_load_ints(qd_vec_run *r, const char *name, qd_tensor **out);
/** A tensor for a result. */
qd_status qd_vec_make(qd_vec_run *r, const qd_tensor_desc *d, qd_tensor **out);
/** Creates a plan, runs it, and frees it. */
qd_status qd_vec_op(qd_vec_run *r, qd_op op, const qd_attrs *attrs, qd_tensor *const in[], int n_in,
                    qd_tensor *const out[], int n_out);
/** The requant operand: x_scale · w_scale[c] / y_scale. */
qd_status qd_vec_requant(qd_vec_run *r, qd_rounding rounding, float x_scale, const float *w_scale, int64_t n,
                         float y_scale, qd_tensor **out);

/* ---- Outputs ------------------------------------------------------------------------------------------------ */

/** The output of that name; an error case has none, and NULL is right then. */
qd_status qd_vec_want(qd_vec_run *r, const char *name, const qd_vec_tensor **out);
/** Values of a tensor of the library as `dtype` elements, one for each code, to be compared or used again. */
qd_status qd_vec_values(qd_vec_run *r, qd_tensor *t, qd_vec_dtype dtype, void **values);
/** Compares values in the layout of output `want`. */
qd_status qd_vec_judge(qd_vec_run *r, const qd_vec_tensor *want, const void *values, size_t bytes);
/** An error that was measured, against the bound of a case whose outputs are examples: judges all of these. */
qd_status qd_vec_quality(qd_vec_run *r, double measured);
/** Reads a result and compares it with output `want`. */
qd_status qd_vec_check(qd_vec_run *r, const qd_vec_tensor *want, qd_tensor *t);

/* ---- Operations, by file ------------------------------------------------------------------------------------ */

qd_status qd_vec_gguf_quantize(qd_vec_run *r);
qd_status qd_vec_gguf_dequantize(qd_vec_run *r);
qd_status qd_vec_bounded_quantize(qd_vec_run *r);
qd_status qd_vec_cast(qd_vec_run *r);

qd_status qd_vec_quantize_4bit(qd_vec_run *r);
qd_status qd_vec_dequantize_4bit(qd_vec_run *r);
qd_status qd_vec_quantize_nested(qd_vec_run *r);
qd_status qd_vec_dequantize_nested(qd_vec_run *r);
qd_status qd_vec_dynamic_table(qd_vec_run *r);
qd_status qd_vec_quantize_8bit(qd_vec_run *r);
qd_status qd_vec_dequantize_8bit(qd_vec_run *r);
qd_status qd_vec_quantize_rowwise(qd_vec_run *r);
qd_status qd_vec_kmeans(qd_vec_run *r);

qd_status qd_vec_minifloat(qd_vec_run *r);
qd_status qd_vec_pack(qd_vec_run *r);
qd_status qd_vec_pack_words(qd_vec_run *r);
qd_status qd_vec_pack_gptq(qd_vec_run *r);

qd_status qd_vec_fake_quantize(qd_vec_run *r);
qd_status qd_vec_fake_quantize_learn(qd_vec_run *r);
qd_status qd_vec_observer(qd_vec_run *r);

qd_status qd_vec_quantize_linear(qd_vec_run *r);
qd_status qd_vec_dequantize_linear(qd_vec_run *r);
qd_status qd_vec_dynamic_quantize(qd_vec_run *r);
qd_status qd_vec_torch_quantize(qd_vec_run *r);

qd_status qd_vec_matmul_integer(qd_vec_run *r);
qd_status qd_vec_qlinear_matmul(qd_vec_run *r);
qd_status qd_vec_fully_connected(qd_vec_run *r);
qd_status qd_vec_matmul_nbits(qd_vec_run *r);
qd_status qd_vec_quantize_nbits(qd_vec_run *r);

qd_status qd_vec_conv_integer(qd_vec_run *r);
qd_status qd_vec_qlinear_conv(qd_vec_run *r);
qd_status qd_vec_tflite_conv(qd_vec_run *r);
qd_status qd_vec_qlinear_pool(qd_vec_run *r);
qd_status qd_vec_tflite_pool(qd_vec_run *r);

qd_status qd_vec_binary(qd_vec_run *r);
qd_status qd_vec_function(qd_vec_run *r);
qd_status qd_vec_qlinear_concat(qd_vec_run *r);
qd_status qd_vec_qlinear_softmax(qd_vec_run *r);
qd_status qd_vec_layer_norm(qd_vec_run *r);
qd_status qd_vec_requantize(qd_vec_run *r);
qd_status qd_vec_multiply(qd_vec_run *r);

#endif
