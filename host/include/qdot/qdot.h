/* qdot: quantized neural-network arithmetic on OpenCL devices.
 *
 * This header is all that a program needs. Conventions:
 *   - Every call that can fail returns a qd_status; qd_last_message() then says what went wrong and what to do.
 *   - Outputs are written on success only. Every *_free takes NULL.
 *   - Shapes are outermost first; the last dimension is contiguous in memory.
 *   - A context, and everything made from it, belongs to one thread at a time. Different contexts are independent.
 *   - Sizes are in bytes where the name says bytes, in elements otherwise.
 */
#ifndef QDOT_H
#define QDOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(QDOT_BUILD)
#define QD_API __attribute__((visibility("default")))
#else
#define QD_API
#endif

#define QDOT_VERSION_MAJOR 0
#define QDOT_VERSION_MINOR 1
#define QDOT_VERSION_PATCH 0

/** "major.minor.patch" of the library that is loaded. */
QD_API const char *qd_version(void);

/* ---- Status ------------------------------------------------------------------------------------------------- */

typedef enum qd_status {
#define QD_STATUS(ID, number, meaning) QD_##ID = number,
#include "qdot_status.def"
} qd_status;

/** Name of a status, for example "QD_ERR_IO"; "QD_ERR_?" for a number that is none. */
QD_API const char *qd_status_name(qd_status s);
/** The meaning of a status in a few words. */
QD_API const char *qd_status_meaning(qd_status s);
/** One line about the calling thread's last failure, and what to do about it. Never NULL; valid until its next failure.
 */
QD_API const char *qd_last_message(void);

/* ---- Formats ------------------------------------------------------------------------------------------------ */

typedef enum qd_format {
#define QD_FORMAT(ID, name, block, bytes, gguf, kind) QD_FORMAT_##ID,
#include "qdot_formats.def"
    QD_FORMAT_COUNT
} qd_format;

typedef enum qd_format_kind { QD_KIND_FLOAT, QD_KIND_INTEGER, QD_KIND_BLOCKED } qd_format_kind;

typedef struct qd_format_info {
    const char *name; /* "q4_1" */
    int block;        /* elements per block */
    int bytes;        /* bytes per block */
    int gguf_type;    /* number in GGUF files, -1 if none */
    qd_format_kind kind;
    double bits; /* bits per element, scales included */
} qd_format_info;

/** Facts about a format; NULL when `f` is none. */
QD_API const qd_format_info *qd_format_get(qd_format f);
/** Finds a format by its lower-case name. QD_ERR_ARGUMENT lists the known names. */
QD_API qd_status qd_format_find(const char *name, qd_format *out);
/** Bytes of one row of `cols` elements; 0 when `cols` is not a whole number of blocks (packed codes, such as i4, round
 * up to bytes instead) or does not fit. */
QD_API size_t qd_format_row_bytes(qd_format f, int64_t cols);

/** Quantizes rows × cols floats (row-major) to `f`. dst holds rows × qd_format_row_bytes(f, cols) bytes.
 *  GGUF block formats follow gguf-py byte for byte; A8 is qdot's activation format (see FORMATS.md). */
QD_API qd_status qd_quantize(qd_format f, const float *src, int64_t rows, int64_t cols, void *dst);
/** The same, but the squared error of column c counts importance[c] times, finite and not negative (an "importance
 *  matrix" has the mean square of each activation there). NULL: as qd_quantize. Formats whose scales are not searched
 * for (see FORMATS.md) take no notice. */
QD_API qd_status qd_quantize_weighted(qd_format f, const float *src, int64_t rows, int64_t cols,
                                      const float *importance, void *dst);
/** Dequantizes rows × cols elements of `f` to floats, the products in the order of the format's formula. */
QD_API qd_status qd_dequantize(qd_format f, const void *src, int64_t rows, int64_t cols, float *dst);

/** Quantizes rows × cols floats in groups of `group` (0: the whole row) along each row, the last of which may be short,
 * to codes with a scale and a zero point for each group: the w, w_scale and w_zero operands of MATMUL_GROUP. f is U2,
 * U4 or U8; the rule is that of ONNX Runtime's MatMulNBits quantizer. Symmetric: scale = m / -2^(bits-1), where m is
 * the value of largest magnitude (the negative one of two), zero point 2^(bits-1). Else scale = (max - min) / (2^bits -
 * 1) of a range with 0 in it, zero point round(-min / scale). code = round(x · f32(1 / scale) + zero point); both round
 * halves away from zero. dst: rows × qd_format_row_bytes(f, cols); scales, zeros: [rows][groups]. Non-finite values are
 * refused. */
QD_API qd_status qd_quantize_groups(qd_format f, bool symmetric, int64_t group, const float *src, int64_t rows,
                                    int64_t cols, void *dst, float *scales, int32_t *zeros);

#include "qdot_coding.h"
#include "qdot_quantize.h"

/* ---- Devices ------------------------------------------------------------------------------------------------ */

/* A device string is "ref", "opencl" (the best device), "opencl:gpu", "opencl:cpu", "opencl:accelerator",
 * "opencl:SUBSTRING[:INDEX]" where SUBSTRING is part of the platform's or device's name, case ignored; "rtl"; or
 * "sim:BOARD" (qdot_sim.h). Several are one as "layers:A=3,B=1", which gives A three quarters of a graph's operators,
 * by their weights, or "rows:A=3,B=1", output channels of products; budgets and threads are each one's (host/split). */

typedef struct qd_device_info {
    char id[96]; /* device string that selects exactly this device */
    char platform[128];
    char name[128];
    char driver[128];
    char version[128];
    char kind[16];      /* "cpu", "gpu", "accelerator", "reference" */
    char features[512]; /* space-separated: what was probed and works here */
    unsigned compute_units;
    uint64_t memory_bytes;
    uint64_t max_alloc_bytes;
    uint64_t local_bytes;
    bool usable;
    char why[256]; /* when not usable: the reason */
} qd_device_info;

/** Lists every device of every backend, the reference first. *out is an array of *count to be freed with
 * qd_devices_free. */
QD_API qd_status qd_devices_list(qd_device_info **out, int *count);
QD_API void qd_devices_free(qd_device_info *devices);

/* ---- Context ------------------------------------------------------------------------------------------------ */

typedef struct qd_context qd_context;

typedef struct qd_context_options {
    uint64_t memory_budget; /* bytes of device memory that may be used; 0: what the device has */
    uint64_t max_alloc;     /* upper bound of one allocation in bytes; 0: the device's own limit */
    int threads;            /* CPU devices: compute threads; 0: all */
    bool in_order;          /* use an in-order queue even where an out-of-order one pays */
    bool out_of_order;      /* use an out-of-order queue even where it does not pay: on CPU devices */
    bool profile;           /* record device time of every kernel */
    bool verify;            /* compute every operator by the reference, too, and compare: slow. A run that differs fails
                               with QD_ERR_DIFFERENT, which names the operator and the place */
    bool no_fuse;           /* graphs run every operator by itself: see qd_graph_compile */
    bool unproven;          /* kernels run without having been tried on small problems first, and no verdict is read or
                               kept: for looking for what is wrong with a kernel that is refused otherwise, see qd_fuzz */
    const char
        *cache_dir;      /* programs and verdicts; NULL: $QDOT_CACHE_DIR, else $XDG_CACHE_HOME/qdot, else ~/.cache/qdot;
                            "" switches the cache off */
    const char *kernels; /* use only kernel variants whose name contains this word, where an operator has one; NULL: no
                            preference; for kernel developers and tests */
    const char
        *tuning; /* file of `qdot tune`: see qdot_tuning.h; NULL: $QDOT_TUNING, else the device's own in the cache;
                    "": none, only what ships with the library */
    const char *binary; /* manifest of a precompiled binary (qdot_fpga.h), for accelerators: all kernels come from it;
                           NULL: $QDOT_FPGA_BINARY, else they are compiled */
    void (*log)(void *user,
                const char *line); /* progress and warnings, one line each, on the calling thread; may be NULL */
    void *log_user;
} qd_context_options;

/** Opens a device. `device` NULL means $QDOT_DEVICE, else "opencl" with "ref" when there is no OpenCL device at all.
 *  `options` may be NULL. Errors: QD_ERR_NO_DEVICE names the devices that exist. */
QD_API qd_status qd_context_create(const char *device, const qd_context_options *options, qd_context **out);
/** Everything made from the context (models, graphs, plans, tensors) must be freed before it. */
QD_API void qd_context_free(qd_context *c);
/** What the context runs on. Valid as long as the context. */
QD_API const qd_device_info *qd_context_device(const qd_context *c);
/** Waits until the device has finished everything given to it. */
QD_API qd_status qd_context_finish(qd_context *c);

typedef struct qd_memory_info {
    uint64_t used;   /* bytes in buffers that are in use */
    uint64_t pooled; /* bytes kept for reuse */
    uint64_t peak;   /* largest used + pooled so far */
    uint64_t budget;
} qd_memory_info;
QD_API qd_status qd_context_memory(const qd_context *c, qd_memory_info *out);

typedef struct qd_kernel_info {
    char op[24];
    char variant[48];
    char formats[48]; /* "q4_1 a8 -> f32" */
    char verdict[16]; /* "passed", "failed", "unavailable", "untried", "unproven" */
    char why[256];    /* for failed and unavailable */
    /* Time spent in this context: reading it from the cache, or else compiling and proving it. */
    double load_seconds, build_seconds, canary_seconds;
} qd_kernel_info;

/** Builds and proves every kernel variant the device may use, and tells the verdicts. Free *out with qd_kernels_free.
 */
QD_API qd_status qd_context_kernels(qd_context *c, qd_kernel_info **out, int *count);
QD_API void qd_kernels_free(qd_kernel_info *kernels);

typedef struct qd_profile_row {
    char kernel[64]; /* operator and variant, and what it was tuned to */
    uint64_t calls;
    double seconds;    /* device time */
    double bytes;      /* moved, by the operator's definition */
    double operations; /* multiplications and additions, by the operator's definition */
} qd_profile_row;

/** Totals since the context was created or reset, largest time first. Needs options.profile. Free with qd_profile_free.
 */
QD_API qd_status qd_context_profile(qd_context *c, qd_profile_row **out, int *count);
QD_API void qd_profile_free(qd_profile_row *rows);
QD_API void qd_context_profile_reset(qd_context *c);
/** Writes the recorded kernels as a Chrome trace (chrome://tracing, Perfetto). Needs options.profile. */
QD_API qd_status qd_context_trace(qd_context *c, const char *path);

/* ---- Tensors ------------------------------------------------------------------------------------------------ */

#define QD_MAX_RANK 4
/** As the first dimension of a graph's tensor: as many rows as the run has. */
#define QD_ROWS (-1)

typedef struct qd_tensor qd_tensor;

typedef struct qd_tensor_desc {
    qd_format format;
    int rank;                   /* 1 … QD_MAX_RANK */
    int64_t shape[QD_MAX_RANK]; /* outermost first */
} qd_tensor_desc;

/** Makes a desc; rank is the number of dimensions before the first that is 0. */
QD_API qd_tensor_desc qd_desc(qd_format f, int64_t d0, int64_t d1, int64_t d2, int64_t d3);
/** Bytes of a dense tensor; 0 if the desc is invalid or too large, and for a tensor without rows (shape[0] = 0, which
 * is valid: qd_desc cannot express it, a desc filled by hand can). */
QD_API size_t qd_desc_bytes(const qd_tensor_desc *d);

/** A tensor on the context's device, its bytes zero. */
QD_API qd_status qd_tensor_create(qd_context *c, const qd_tensor_desc *d, qd_tensor **out);
/** A constant (weights). `data` is borrowed, not copied, and must outlive the tensor: it is moved to the device, in the
 *  layout that a kernel wants, when an operator that uses it is created. */
QD_API qd_status qd_tensor_constant(qd_context *c, const qd_tensor_desc *d, const void *data, qd_tensor **out);
/** One constant whose rows are those of `n` two-dimensional constants in turn (same format and columns), so that one
 *  operator does the work of several. Borrows their data, not the tensors, which may be freed. */
QD_API qd_status qd_tensor_stack(qd_context *c, qd_tensor *const parts[], int n, qd_tensor **out);
/** Columns [first, first + count) of a two-dimensional F32 tensor; shares its memory and keeps it alive. */
QD_API qd_status qd_tensor_view(qd_tensor *t, int64_t first, int64_t count, qd_tensor **out);
/** The same bytes in another shape (same format, same number of elements; QD_ROWS stays the first dimension); shares
 * the memory of a dense tensor and keeps it alive. Rows must be whole bytes. */
QD_API qd_status qd_tensor_reshape(qd_tensor *t, const qd_tensor_desc *d, qd_tensor **out);
/** A part of t's memory seen as another tensor: `d` begins at byte `offset`, and index i of its dimension k is
 * i · steps[k] bytes further (NULL: dense; else one for each dimension, that of the last of a format with blocks being
 * the bytes of a block). Any format and any order of the dimensions; a step of 0 repeats, which only inputs may. Shares
 * t's memory and keeps it alive; t is a tensor of qd_tensor_create. Every operator takes a window of which only the
 * rows are apart; those marked "any strides" in qdot_ops.def take all. */
QD_API qd_status qd_tensor_window(qd_tensor *t, size_t offset, const qd_tensor_desc *d, const int64_t *steps,
                                  qd_tensor **out);
/** A tensor must outlive the plans and graphs that use it; its memory stays as long as its views. */
QD_API void qd_tensor_free(qd_tensor *t);
QD_API const qd_tensor_desc *qd_tensor_describe(const qd_tensor *t);
/** Copies bytes to a dense tensor, ordered after the work given so far; `src` may be reused at once. */
QD_API qd_status qd_tensor_write(qd_tensor *t, size_t offset, const void *src, size_t bytes);
/** Copies bytes from a dense tensor, after the work given so far; waits. */
QD_API qd_status qd_tensor_read(qd_tensor *t, size_t offset, void *dst, size_t bytes);

/* ---- Operators ---------------------------------------------------------------------------------------------- */

typedef enum qd_op {
#define QD_OP(ID, name, min_in, max_in, n_out, rules, operands) QD_OP_##ID,
#include "qdot_ops.def"
    QD_OP_COUNT
} qd_op;

#define QD_MAX_IN 8
#define QD_MAX_OUT 3

typedef struct qd_op_info {
    const char *name;
    int min_in, max_in, n_out;
    const char *operands; /* shapes in words, see qdot_ops.def */
} qd_op_info;
/** Facts about an operator; NULL when `op` is none. */
QD_API const qd_op_info *qd_op_get(qd_op op);

/** How a real scale times an integer becomes an integer. Frameworks differ in where they round and what they do at
 * ties; each of these is the same bit for bit on every device (qdot_num.h). */
typedef enum qd_rounding {
    QD_ROUND_FIXED,    /* 31-bit multiplier, one rounding, ties upward: what hardware takes; qdot's own */
    QD_ROUND_GEMMLOWP, /* doubling high multiply, then a rounding shift, ties away from zero: TensorFlow Lite's
                          convolutions */
    QD_ROUND_AWAY,     /* float64 product, ties away from zero: TensorFlow Lite's fully connected layers */
    QD_ROUND_FLOAT     /* float32 product, ties to even: ONNX Runtime */
} qd_rounding;

/** What codes mean: scale · (code - zero_point). */
typedef struct qd_quant {
    float scale;
    int32_t zero_point;
} qd_quant;

/** The end of an operator with integer sums: rounding, zero point of the result, and the activation as limits of its
 * codes (min = max = 0: the whole range of the format). Unused where the result is i32 without a requant operand. */
typedef struct qd_requant {
    qd_rounding rounding;
    int32_t zero_point, min, max;
} qd_requant;

/** A window that moves over an image. [0] is the height, [1] the width; one-dimensional images use [1] only. */
typedef struct qd_window {
    int kernel[2];   /* pooling; a convolution's are those of its weights */
    int stride[2];   /* 0: 1 */
    int dilation[2]; /* 0: 1 */
    int before[2];   /* padding above and to the left */
    int after[2];    /* below and to the right */
    bool nchw;       /* channels before the image, else after it */
} qd_window;

typedef enum qd_pad_mode { QD_PAD_CONSTANT, QD_PAD_EDGE, QD_PAD_REFLECT } qd_pad_mode;

/** Where element o of n results lies among m inputs: o·m/n, (o + 1/2)·m/n - 1/2, or o·(m - 1)/(n - 1). */
typedef enum qd_resize_coordinates {
    QD_RESIZE_ASYMMETRIC,
    QD_RESIZE_HALF_PIXEL,
    QD_RESIZE_ALIGN_CORNERS
} qd_resize_coordinates;
/** Which input is the nearest: the one below, above, or the closer one, with halves down or up. */
typedef enum qd_nearest { QD_NEAREST_FLOOR, QD_NEAREST_CEIL, QD_NEAREST_HALF_DOWN, QD_NEAREST_HALF_UP } qd_nearest;

/** Functions of floats: formulas and accuracy are in qdot_unary.def. */
typedef enum qd_unary {
#define QD_UNARY(ID, name, alpha, formula) QD_UNARY_##ID,
#include "qdot_unary.def"
    QD_UNARY_COUNT
} qd_unary;

/** How ELEMENTWISE puts u and b together: u + b, u - b, u · b, u / b. */
typedef enum qd_combine { QD_COMBINE_ADD, QD_COMBINE_SUB, QD_COMBINE_MUL, QD_COMBINE_DIV } qd_combine;

/** What an operator needs beyond its tensors. Only the member named in qdot_ops.def is read. */
typedef union qd_attrs {
    struct {
        float epsilon;
    } rms_norm, layer_norm;
    struct {
        float scale;
    } lora;
    struct {
        int heads, head_dim;
        bool neox; /* pairs (i, i+E/2); else pairs (2i, 2i+1) */
        int dims;  /* E, elements of each head that are turned, the first ones; 0: all */
    } rope;
    struct {
        int heads, head_dim;
    } kv; /* key/value heads */
    struct {
        int heads, kv_heads, head_dim;
        float scale;
    } attention;
    struct {
        qd_unary function;
        float alpha;         /* see qdot_unary.def */
        float scale, offset; /* of a, before the function; 1 and 0: none */
        qd_combine combine;  /* unused without b */
    } elementwise;
    struct {
        qd_requant y;
        bool wide; /* 64-bit sums, limited to int32 at the end */
    } matmul_int;
    struct {
        int64_t group; /* codes along K that share a scale; 0: the whole row */
    } matmul_group;
    struct {
        qd_coding coding;
        int64_t cols; /* K */
    } coded;
    struct {
        qd_window window;
        int groups; /* 0: 1 */
        qd_requant y;
    } conv_int;
    struct {
        int32_t x_zero;
        qd_requant y;
    } requantize;
    struct {
        int axis;        /* of the scales, when there are several; negative counts from the end */
        int64_t block;   /* indices of the axis that share a scale; 0: one scale for each index */
        bool reciprocal; /* multiply by f32(1 / scale), as PyTorch does, instead of dividing, as ONNX does */
        bool
            overflow; /* f8: what is too large becomes NaN (f8e4m3) or infinity (f8e5m2) instead of the largest value */
        bool away;    /* halves away from zero, as TensorFlow Lite does; else to even */
        bool zero_first;  /* add the zero point before rounding */
        int32_t min, max; /* limits of the codes; both 0: the format's range */
    } quantize_linear;    /* DEQUANTIZE_LINEAR reads axis and block */
    struct {
        int axis;         /* of the scales, when there are several; negative counts from the end */
        int32_t min, max; /* of the codes: min < max, at most 2^24 in magnitude */
        bool clip;        /* FAKE_QUANTIZE_GRAD: bounds of the values, as in PACT, not of the codes */
        float factor;     /* FAKE_QUANTIZE_GRAD: of dscale and dzero; 0: 1 */
    } fake_quantize;
    struct {
        bool symmetric; /* i8: scale = largest magnitude / 127, zero point 0; else (max - min) / 255 */
    } dynamic_quantize;
    struct {
        bool average;       /* else the maximum */
        bool global;        /* the window is the image */
        bool count_padding; /* average: padding counts as zeros, else not at all */
        qd_window window;
        qd_rounding rounding; /* average: FLOAT takes any x and y; the others need x and y to mean the same */
        bool float_sum;       /* average, FLOAT: adds x's numbers as floats, and y's zero point before it rounds */
        qd_quant x, y;
        int32_t min, max; /* as in qd_requant */
    } pool;
    struct qd_binary {
        qd_quant a, b, y;
        qd_rounding rounding; /* ADD_INT has no AWAY */
        bool zero_first;      /* FLOAT: adds y's zero point before rounding, as ONNX Runtime does */
        bool subtract;        /* ADD_INT: a - b */
        int32_t min, max;     /* as in qd_requant */
    } binary;
    struct {
        qd_window window; /* window … y are those of CONV_INT, y its requantization to codes of the result's format */
        int groups;
        qd_requant y;
        struct qd_binary add; /* of a, the convolution's codes, and b, the residual; y: the result */
        bool residual_first;  /* the residual is a, and the convolution b */
    } conv_add_int;
    struct {
        int axis; /* negative counts from the end */
    } concat;
    struct {
        qd_pad_mode mode;
        int32_t value; /* the constant code */
        int64_t before[QD_MAX_RANK], after[QD_MAX_RANK];
    } pad;
    struct {
        bool nchw;
        qd_resize_coordinates coordinates;
        qd_nearest nearest;
    } resize;
    struct {
        float x_scale; /* not read when there are weights */
        qd_quant y;
        bool wrap; /* with weights in floats: codes of i8 above 127 keep their low 8 bits, those above 255 are -1 */
    } softmax_int;
    struct {
        float scale;
        float softcap; /* 0: none */
    } attention_masked;
    struct {
        float scale;
        float max_bias; /* not 0: the slopes, made from it, must be there when a mask is */
    } softmax;
} qd_attrs;

/** Fills the requant operand: for each of n channels the multiplier x_scale · w_scale[c] / y_scale, as `rounding` takes
 *  it, in two int32 (see qdot_num.h). table: [n][2]. QD_ERR_ARGUMENT names a scale that is not positive and finite, or
 * a channel whose ratio a rounding cannot hold. */
QD_API qd_status qd_requantize_table(qd_rounding rounding, float x_scale, const float *w_scale, int64_t n,
                                     float y_scale, int32_t *table);

/** Fills the weights operand of SOFTMAX_INT: weights[i] = exp(-scale · i) in 31 bits, as TensorFlow Lite's reference
 * computes it (gemmlowp's fixed-point exp), 0 where it takes none. scale: that of x, times beta. weights: [256]. */
QD_API qd_status qd_softmax_weights(double scale, int32_t *weights);
/** The same in floats, as ONNX Runtime's QLinearSoftmax has them: weights[i] = exp((shift - i) · scale), shift · scale
 * = max(0, log(FLT_MAX / cols) - 5), so that no sum of cols of them leaves the range. scale: that of x; cols: 1 … 2^22.
 * weights: [256]. The C library's exp (float64) and log (float32) are used. */
QD_API qd_status qd_softmax_float_weights(float scale, int64_t cols, float *weights);

typedef enum qd_function {
#define QD_FUNCTION(ID, name, alpha, formula) QD_FUNCTION_##ID,
#include "qdot_functions.def"
    QD_FUNCTION_COUNT
} qd_function;

/** Fills TABLE's table of 256 codes: y's code, rounded half to even, of function(value of x's code). Formats are I8 or
 * U8. IDENTITY is a change of scale. `alpha`: see qdot_functions.def. The float64 functions of the C library are used.
 */
QD_API qd_status qd_table_fill(qd_function f, double alpha, qd_format x_format, qd_quant x, qd_format y_format,
                               qd_quant y, void *table);

typedef struct qd_plan qd_plan;

/** One operator bound to its tensors: checks shapes, chooses and proves a kernel, packs constants. `attrs` may be NULL
 *  where the operator has none. The tensors must outlive the plan. */
QD_API qd_status qd_plan_create(qd_context *c, qd_op op, const qd_attrs *attrs, qd_tensor *const in[], int n_in,
                                qd_tensor *const out[], int n_out, qd_plan **result);
/** Enqueues the operator; does not wait. */
QD_API qd_status qd_plan_run(qd_plan *p);
QD_API void qd_plan_free(qd_plan *p);
/** The variant that runs: a kernel's name, or "reference" for the fallback. */
QD_API const char *qd_plan_variant(const qd_plan *p);

/* ---- Graphs ------------------------------------------------------------------------------------------------- */

typedef struct qd_graph qd_graph;

/** An empty graph whose runs have 1 … max_rows rows. */
QD_API qd_status qd_graph_create(qd_context *c, int64_t max_rows, qd_graph **out);
/** A tensor that lives inside the graph: no memory until compile, which places it in a shared arena. Owned by the
 * graph. */
QD_API qd_status qd_graph_tensor(qd_graph *g, const qd_tensor_desc *d, qd_tensor **out);
/** As qd_tensor_view, owned by the graph. */
QD_API qd_status qd_graph_view(qd_graph *g, qd_tensor *t, int64_t first, int64_t count, qd_tensor **out);
/** As qd_tensor_reshape, owned by the graph. */
QD_API qd_status qd_graph_reshape(qd_graph *g, qd_tensor *t, const qd_tensor_desc *d, qd_tensor **out);
/** Appends an operator. Its order among the others is its program order; independent ones may overlap. */
QD_API qd_status qd_graph_add(qd_graph *g, qd_op op, const qd_attrs *attrs, qd_tensor *const in[], int n_in,
                              qd_tensor *const out[], int n_out);
/** Fuses operators, places the arena, chooses kernels, packs weights. `progress` (may be NULL) is told done and total
 *  operators; it returns false to cancel. Needed once.
 *
 *  Fusing puts an operator into the one before it, or after it, where one can do the work of both and gives the same
 *  bytes (two NaN that are added aside: either may be passed on): see host/core/README.md for the list. Only where the
 *  tensor between them is one of qd_graph_tensor that nothing else reads, writes or has a view of. */
QD_API qd_status qd_graph_compile(qd_graph *g, bool (*progress)(void *user, int done, int total), void *user);
/** Enqueues every operator for `rows` rows (0: nothing to do); does not wait. */
QD_API qd_status qd_graph_run(qd_graph *g, int64_t rows);
QD_API void qd_graph_free(qd_graph *g);

typedef struct qd_graph_info {
    int ops;               /* operators */
    int fallbacks;         /* of them on the reference, because the device has no proven kernel */
    int fused;             /* operators that are done by others: ops + fused - copies were added */
    int copies;            /* operators that bring images into another layout: see host/core/README.md */
    int chained;           /* operators that share launches: long graphs on CPU devices, see host/core/README.md */
    int recorded;          /* operators in the command buffer of the last runs; 0: they are launched one by one */
    uint64_t arena_bytes;  /* shared memory of the tensors inside */
    uint64_t live_bytes;   /* largest sum of the tensors that are alive at one time: no arena can be smaller */
    uint64_t tensor_bytes; /* what they would take without sharing */
} qd_graph_info;
QD_API qd_status qd_graph_describe(const qd_graph *g, qd_graph_info *out);

/* ---- Verification ------------------------------------------------------------------------------------------- */

typedef struct qd_verify_row {
    const char *op;
    char formats[48];
    char variant[48];
    int cases, different;
    char first[256]; /* the first difference, in words */
} qd_verify_row;

/** Runs every operator × format on random and nasty shapes, on the context's device and on the reference, and compares
 *  bytes. `row` is called once for each; it returns false to stop. *different is the number of cases that differed. */
QD_API qd_status qd_verify(qd_context *c, uint64_t seed, int cases, bool (*row)(void *user, const qd_verify_row *r),
                           void *user, int *different);

typedef struct qd_fuzz_options {
    uint64_t seed;
    int64_t cases;       /* in all, spread over operators and formats */
    const char *op;      /* only this operator; NULL: all */
    const char *formats; /* only where the operands' formats, as in qd_verify_row, begin so: "q4_0 a8"; NULL: all */
    int size;            /* of the shapes: 1 (small) … 10; 0: mostly 1, some larger */
    bool (*progress)(void *user, int64_t done, int64_t total); /* now and then; may be NULL; false stops */
    void *user;
} qd_fuzz_options;

/** How often one of the numbers that make a case had one of its values: `value` itself, or for numbers with many values
 *  their least, their greatest, the multiples of 16, or the others. */
typedef struct qd_coverage {
    const char *op;
    char choice[24]; /* "rounding", "K", … */
    char value[32];  /* "2"; "least", "greatest", "multiple of 16", "other" */
    int64_t count;
} qd_coverage;

typedef struct qd_fuzz_result {
    int64_t cases;  /* that were run */
    bool different; /* the last one differed; what follows tells about the smallest case that was found then */
    char op[24], formats[64], variant[64];
    char first[400];       /* the first difference, in words */
    char repeat[1024];     /* for qd_fuzz_repeat */
    qd_coverage *coverage; /* in order of operators; free with qd_fuzz_result_free */
    int n_coverage;
} qd_fuzz_result;

/** Runs random cases on the context's device and on the reference until one differs, then makes that one as small as it
 *  can. QD_OK also when one differed. QD_ERR_CANCELLED: progress said so; *out then tells about the cases so far. */
QD_API qd_status qd_fuzz(qd_context *c, const qd_fuzz_options *o, qd_fuzz_result *out);
/** Runs the one case that `text`, a result's `repeat`, describes. */
QD_API qd_status qd_fuzz_repeat(qd_context *c, const char *text, qd_fuzz_result *out);
QD_API void qd_fuzz_result_free(qd_fuzz_result *r);

#include "qdot_gguf.h"

#include "qdot_model.h"

#ifdef __cplusplus
}
#endif
#endif
