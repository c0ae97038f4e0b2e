/* What a backend fills, and the internals it sees. Not installed.
 *
 * A backend is one constant table. An empty slot means "not offered": the core then uses the fallback named beside it.
 */
#ifndef QDOT_BACKEND_H
#define QDOT_BACKEND_H

#include "qdot/qdot.h"
#include "qdot/qdot_params.h"

/** Memory of a device; each backend defines its own. */
typedef struct qd_buffer qd_buffer;

/** Some consecutive rows of a constant in host memory. */
typedef struct qd_piece {
    const void *data;
    int64_t rows;
} qd_piece;

/** A tensor. Rows are runs of the last dimension. */
struct qd_tensor {
    qd_context *context;
    qd_tensor_desc desc;  /* shape[0] may be QD_ROWS inside a graph */
    const void *constant; /* host bytes of a constant, else NULL; of a stack: see qd_constant_bytes */
    bool owned;           /* they are its own; else borrowed */
    qd_piece *pieces;     /* of a stack: where its rows are; else NULL */
    int n_pieces;
    qd_buffer *buffer;         /* NULL for constants, and for a graph's tensors until compile */
    size_t offset;             /* bytes from the buffer's start to the first element */
    size_t stride;             /* bytes between rows */
    qd_tensor *base;           /* of a view: the tensor whose memory it shares, else NULL */
    size_t first_byte;         /* of a view: where its columns start in a row of the base */
    bool reshaped;             /* of a view: all of the base in another shape, not some of its columns */
    bool window;               /* of a view: made by qd_tensor_window */
    bool strided;              /* rows are not `stride` apart, or not dense: only step tells where elements are */
    bool repeats;              /* of a window: several of its elements share bytes */
    int64_t step[QD_MAX_RANK]; /* of a window: bytes from one index of a dimension to the next */
    size_t extent;             /* of a window: bytes from its first element to the end of its last */
    int references;            /* its owner and its views */
    const qd_graph *graph;     /* that owns it, else NULL */
    void *resident;            /* of a constant: the backend's copies on the device */
};

/** The parameters of a node's operator; which member is in use follows from the operator (see core/rules/). */
typedef union qd_params {
    qd_matmul_int_params matmul_int;
    qd_matmul_group_params matmul_group;
    qd_conv_int_params conv_int;
    qd_conv_add_int_params conv_add_int; /* begins as conv_int */
    qd_requantize_params requantize;
    qd_quantize_linear_params quantize_linear;
    qd_fake_quantize_params fake_quantize;
    qd_dynamic_quantize_params dynamic_quantize;
    qd_pool_params pool;
    qd_binary_params binary;
    qd_concat_params concat;
    qd_pad_params pad;
    qd_resize_params resize;
    qd_table_params table;
    qd_softmax_int_params softmax_int;
    qd_attention_masked_params attention_masked;
    qd_copy_params copy;
    qd_set_rows_params set_rows;
    qd_elementwise_params elementwise;
    qd_softmax_params softmax;
    qd_matmul_batch_params matmul_batch;
    qd_matmul_experts_params matmul_experts;
    qd_coded_params coded;
    qd_lora_params lora;
} qd_params;

/** One operator bound to its tensors. in[] holds NULL for an optional operand that is absent. */
typedef struct qd_node {
    qd_op op;
    qd_attrs attrs;
    qd_params params;    /* made from attributes and shapes */
    size_t params_bytes; /* of the member in use; 0: the operator has none */
    double macs;         /* products and sums that one row of a run needs, for reports; 0: not counted so */
    qd_tensor *in[QD_MAX_IN];
    qd_tensor *out[QD_MAX_OUT];
    int64_t max_rows;    /* rows that a run has at most */
    bool dynamic;        /* rows are those of the run; else max_rows always */
    void *kernel;        /* the backend's, between prepare and retire */
    const char *variant; /* name of the kernel that runs it */
    bool fallback;       /* the device has no kernel for it: the reference computes it on the host */
} qd_node;

/** Host memory of an operand: `data` is its first element, `stride` the bytes between rows. */
typedef struct qd_operand {
    void *data;
    size_t stride;
} qd_operand;

/** Something that a device did, for a trace. Times are nanoseconds of the host's monotonic clock. */
typedef struct qd_trace_span {
    const char *name, *part, *category; /* name and part make one word; they live as long as the device */
    int device, line;                   /* of several devices; spans of a line are one after the other */
    uint64_t queued, start, end;
    double bytes;
} qd_trace_span;

struct qd_fpga_manifest;
struct qd_sim_report;
struct qd_tuning_way;
struct qd_tuning_info;

/** Threads: all slots but `list` are called by the one thread that uses the context. No locks are held. */
typedef struct qd_backend {
    const char *name; /* first word of its device strings */

    /** Appends the backend's devices to an array grown with realloc. */
    qd_status (*list)(qd_device_info **devices, int *count);
    /** Opens `device` (the whole device string); fills *info. */
    qd_status (*open)(const char *device, const qd_context_options *options, qd_device_info *info, void **out);
    void (*close)(void *device);

    /** Memory, its bytes zero. */
    qd_status (*alloc)(void *device, size_t bytes, qd_buffer **out);
    void (*release)(void *device, qd_buffer *b);
    /** Ordered after the work given so far; `src` may be reused on return. */
    qd_status (*write)(void *device, qd_buffer *b, size_t offset, const void *src, size_t bytes);
    /** After the work given so far; waits. */
    qd_status (*read)(void *device, qd_buffer *b, size_t offset, void *dst, size_t bytes);
    /** Frees the device's copies of a constant. */
    void (*forget)(void *device, qd_tensor *t);
    /** Fills them anew from the host's bytes, which have changed, after the work given so far. NULL: there are none. */
    qd_status (*refresh)(void *device, qd_tensor *t);

    /** All operators of a graph, in their order, before the first of them is prepared; may set node->kernel, which then
     *  is retired also where no prepare follows. NULL: not asked for. */
    qd_status (*plan)(void *device, qd_node *const nodes[], int n);
    /** Chooses and proves a kernel, packs constants; sets node->kernel and node->variant.
     *  QD_ERR_UNSUPPORTED: no kernel; the reference then computes this node. */
    qd_status (*prepare)(void *device, qd_node *n);
    void (*retire)(void *device, qd_node *n);
    /** Whether the device has kernels of its own for an operator that fusion may make of two others. NULL: it has not.
     */
    bool (*offers)(void *device, qd_op op);
    /** Starts a run: what follows is ordered after everything given so far. May be NULL. */
    qd_status (*begin)(void *device);
    /** Enqueues a prepared node, after the nodes in wait[], which belong to the same run. Does not wait. */
    qd_status (*enqueue)(void *device, qd_node *n, int64_t rows, qd_node *const wait[], int n_wait);
    /** Ends a run: makes sure that the device starts. May be NULL. */
    qd_status (*submit)(void *device);
    /** True when enqueue needs no wait[]: what is given runs one after the other. NULL: so it is. */
    bool (*in_order)(void *device);
    /** True when convolutions are so much faster with channels last that graphs are worth rewriting. NULL: they are
     * not. */
    bool (*channels_last)(void *device);
    /** Recordings. After `record`, what `enqueue` is given is kept instead of started, until `recorded` makes *out of
     * it; not `whole`: something failed meanwhile, and *out is NULL, as after a failure. `replay` starts it, in place
     * of `enqueue`, after everything given so far; QD_ERR_UNSUPPORTED: it must be made anew. The nodes must outlive it.
     *  NULL, or QD_ERR_UNSUPPORTED from `record`: the device gains nothing by it, or cannot. */
    qd_status (*record)(void *device);
    qd_status (*recorded)(void *device, bool whole, void **out);
    qd_status (*replay)(void *device, void *recording);
    void (*recording_free)(void *device, void *recording);
    /** Makes one piece of work of prepared nodes without fallbacks, which does them one after the other, *chained of
     * them in launches that they share. NULL, or QD_ERR_UNSUPPORTED: they go one by one. The nodes must outlive it. */
    qd_status (*chain)(void *device, qd_node *const nodes[], int n, void **chain, int *chained);
    /** Enqueues it, in place of all its nodes. */
    qd_status (*chain_run)(void *device, void *chain, int64_t rows);
    void (*chain_free)(void *device, void *chain);
    qd_status (*finish)(void *device);

    /** Computes a node on host operands, at once. Only the reference has it. */
    qd_status (*compute)(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows);

    /* Reports; NULL: nothing to report. */
    void (*memory)(void *device, qd_memory_info *out);
    qd_status (*kernels)(void *device, qd_kernel_info **out, int *count);
    qd_status (*profile)(void *device, qd_profile_row **out, int *count);
    void (*profile_reset)(void *device);
    /** Appends what was recorded to an array grown with realloc. */
    qd_status (*trace)(void *device, qd_trace_span **spans, int *count);
    /** Builds a binary, see qd_fpga_build. */
    qd_status (*build_binary)(void *device, const struct qd_fpga_manifest *m, const char *path);
    /** Of boards that are simulated: see qd_sim_report_device and qd_sim_seconds. */
    qd_status (*sim_report)(void *device, struct qd_sim_report **out);
    double (*sim_seconds)(void *device);
    /** Of devices that can do an operator in several ways (qdot_tuning.h): those of a prepared node; what nodes of its
     *  class that are prepared from now on use; the file of what was chosen; what the device was tuned by. */
    qd_status (*ways)(void *device, const qd_node *n, struct qd_tuning_way **out, int *count);
    qd_status (*choose)(void *device, const qd_node *n, const struct qd_tuning_way *way);
    qd_status (*tuning_write)(void *device, const char *path);
    void (*tuning)(void *device, struct qd_tuning_info *out);
} qd_backend;

extern const qd_backend qd_backend_ref;
extern const qd_backend qd_backend_opencl;
extern const qd_backend qd_backend_sim;
extern const qd_backend qd_backend_rtl; /* only where Verilator was (QDOT_HAVE_RTL) */
extern const qd_backend qd_backend_layers, qd_backend_rows;

/** The backend that a device string asks for; NULL: none. */
const qd_backend *qd_backend_find(const char *device);

/** True for weights: what a backend may reorder and keep. */
static inline bool qd_is_constant(const qd_tensor *t) {
    return t->constant || t->pieces;
}
/** All rows of a constant, one after the other: for who cannot work with pieces. A stack is copied together at the
 * first call. */
qd_status qd_constant_bytes(qd_tensor *t, const void **out);

/* ---- Problems with known answers: what verify and a backend's canaries run ---------------------------------- */

/** A number that was drawn to make a problem. Each has a name of its own and does not depend on the others, so that a
 *  failing problem can be made smaller one number at a time. */
typedef struct qd_choice {
    char name[24];
    int64_t value, low, high;
} qd_choice;

enum { QD_MAX_CHOICES = 64 };

/** The choices of one problem: drawn from the seed, but for those that are fixed. */
typedef struct qd_choices {
    uint64_t seed;
    int size; /* shapes grow with it; 1 is small: a canary */
    const qd_choice *fixed;
    int n_fixed;
    qd_choice made[QD_MAX_CHOICES];
    int n;
} qd_choices;

/** A random problem for one operator with the reference's answer. */
typedef struct qd_case {
    qd_node node;                              /* points at tensors[] */
    qd_choices choices;                        /* what it was made from */
    qd_tensor tensors[QD_MAX_IN + QD_MAX_OUT]; /* inputs, then outputs */
    void *data[QD_MAX_IN + QD_MAX_OUT];        /* host bytes before the run, rows apart by the tensor's stride */
    void *want[QD_MAX_OUT];                    /* bytes of the outputs after it; gaps between rows stay as they were */
    size_t bytes[QD_MAX_IN + QD_MAX_OUT];
    char text[256]; /* shapes in words */
} qd_case;

/** Formats of the operands of an operator: inputs, then outputs. Combination `index` of those that its row in
 *  qdot_ops.def allows; false when there are no more. Absent operands are QD_FORMAT_COUNT. */
bool qd_case_formats(qd_op op, int index, qd_format formats[QD_MAX_IN + QD_MAX_OUT]);
/** Makes the problem that `seed` stands for. `fixed` (n of them, may be NULL) overrules choices by name. */
qd_status qd_case_make(qd_op op, const qd_format formats[], uint64_t seed, int size, const qd_choice fixed[], int n,
                       qd_case *c);
void qd_case_free(qd_case *c);
/** Gives the tensors memory on a device and fills it. Constants stay on the host, for the backend to move. */
qd_status qd_case_upload(qd_case *c, const qd_backend *b, void *device);
/** Reads the outputs back and compares bytes. *different is set, and `first` says where, when they differ. */
qd_status qd_case_compare(qd_case *c, const qd_backend *b, void *device, bool *different, char *first, size_t capacity);
void qd_case_unload(qd_case *c, const qd_backend *b, void *device);

/** Columns of a tensor: its last dimension. */
static inline int64_t qd_columns(const qd_tensor *t) {
    return t->desc.shape[t->desc.rank - 1];
}

#endif
