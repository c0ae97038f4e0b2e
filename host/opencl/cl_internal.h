/* Internals of the OpenCL backend. One cl_device stands behind each context; nothing is shared between contexts. */
#ifndef QDOT_CL_INTERNAL_H
#define QDOT_CL_INTERNAL_H

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

#include "core/status.h"
#include "formats/pack.h"
#include "qdot/qdot_backend.h"

/* ---- Variants: the rows of kernels.def ---------------------------------------------------------------------- */

typedef enum cl_needs {
    CL_NEEDS_NONE,
    CL_NEEDS_X86_AVX2,
    CL_NEEDS_X86_AVX512_VNNI,
    CL_NEEDS_FP16, /* this and the following are probed, see cl_probe.c */
    CL_NEEDS_SUBGROUPS,
    CL_NEEDS_INTEGER_DOT,
    CL_NEEDS_COUNT
} cl_needs;

typedef struct cl_variant {
    const char *name;
    qd_op op;
    qd_format in0, in1, out; /* QD_FORMAT_COUNT: any */
    const char *file, *options;
    cl_needs needs;
    qd_layout layout;
    int groups;
} cl_variant;

extern const cl_variant cl_variants[];
extern const int cl_variant_count;

/** Work-items in a group of a variant from gpu/. */
enum { CL_GPU_LOCAL = 64 };
/** True for the variants of gpu/: groups of CL_GPU_LOCAL on every device. */
bool cl_variant_is_gpu(const cl_variant *v);

typedef enum cl_verdict { CL_UNTRIED, CL_PASSED, CL_FAILED, CL_UNAVAILABLE } cl_verdict;

/** What a device knows about a variant. */
typedef struct cl_proof {
    cl_verdict verdict;
    cl_program program;
    char why[256];
    double load_seconds, build_seconds, canary_seconds;
    /* Totals of the profile. */
    uint64_t calls;
    double seconds, bytes, operations;
} cl_proof;

/* ---- Device ------------------------------------------------------------------------------------------------- */

struct qd_buffer {
    cl_mem mem;
    size_t bytes;
    qd_buffer *next; /* in the pool */
};

/** Host memory or an event that is kept until the device has passed a command. */
typedef struct cl_pending {
    cl_event event;
    void *staging; /* freed with it; may be NULL */
} cl_pending;

typedef struct cl_trace_event {
    int variant;
    cl_event event; /* until its times are read */
    double bytes, operations;
    uint64_t queued, start, end; /* nanoseconds of the device's clock */
} cl_trace_event;

typedef struct cl_device {
    cl_platform_id platform;
    cl_device_id id;
    cl_context context;
    cl_command_queue queue;
    char platform_version[128];
    bool owns_id; /* a sub-device */
    bool lost;    /* the device is gone: see cl_alive */
    bool out_of_order, unified_memory, is_cpu, exact_division;
    qd_device_info info;
    qd_context_options options;
    char cache_dir[512]; /* empty: no cache */
    uint64_t max_alloc, budget, used, pooled, peak;
    qd_buffer *pool;
    cl_proof *proofs;                  /* one for each variant */
    unsigned reported;                 /* bit 1 << need: the driver says that it has this feature */
    cl_proof features[CL_NEEDS_COUNT]; /* of the probed needs; without their programs */
    char kernels[48];                  /* options.kernels; empty: no preference */
    cl_pending *pending;
    int n_pending, pending_cap;
    cl_trace_event *trace;
    int n_trace, trace_cap, trace_read;
    int in_flight;           /* out-of-order queues: commands since the last wait for all, at most */
    qd_buffer *scratch;      /* shared by all kernels that need some: they run one after the other */
    unsigned scratch_number; /* grows with each scratch */
    int scratch_users;
    cl_event scratch_event; /* out-of-order queues: the last of them */
    int canary_depth;       /* above 0: launches are not profiled */
    int64_t canary_rows;    /* above 0: weights are cut into parts of so many rows */
    bool canary_single;     /* one work-group only */
} cl_device_state;

/** Copies of a constant on the device, one for each layout in use. Cut so that no part exceeds the largest allocation.
 */
typedef struct cl_part {
    qd_buffer *buffer;
    int64_t first, count; /* rows */
} cl_part;

typedef struct cl_weights {
    qd_layout layout;
    int n_parts;
    cl_part *parts;
    struct cl_weights *next;
} cl_weights;

/* ---- cl_error.c --------------------------------------------------------------------------------------------- */

/** "CL_OUT_OF_RESOURCES (-5)". */
const char *cl_error_name(cl_int e);
/** Turns an OpenCL error into a status with a message "what: NAME". */
qd_status cl_fail(cl_device_state *d, cl_int e, const char *what);
/** QD_ERR_DEVICE_LOST once any call has said so: the driver is not asked again. */
qd_status cl_alive(const cl_device_state *d);
/** For calls that return cl_int. */
#define CL_TRY(d, call, what)                        \
    do {                                             \
        const cl_int cl_try_error = (call);          \
        if (cl_try_error != CL_SUCCESS) {            \
            status = cl_fail(d, cl_try_error, what); \
            goto error;                              \
        }                                            \
    } while (0)

/* ---- cl_devices.c ------------------------------------------------------------------------------------------- */

qd_status cl_devices_list(qd_device_info **devices, int *count);
/** Finds the device that `device` names, or the next best that it may mean (nth = 0, 1, …; QD_ERR_NO_DEVICE when there are
 *  no more); fills platform, id, info and the probed flags. */
qd_status cl_device_select(const char *device, int nth, cl_device_state *d);
/** True when the machine and device have what a variant needs; else *why says what is missing. */
bool cl_device_has(cl_device_state *d, cl_needs needs, const char **why);

/* ---- cl_probe.c --------------------------------------------------------------------------------------------- */

/** Bit 1 << need for each probed need that the driver reports. */
unsigned cl_features_reported(cl_device_id id);
/** True when the open device d has a probed need; runs its probe where that is not known. Else *why says what is wrong.
 */
bool cl_feature_has(cl_device_state *d, cl_needs need, const char **why);

/* ---- cl_memory.c -------------------------------------------------------------------------------------------- */

/** Orders what follows after everything given so far. Waits when very much is under way. */
qd_status cl_order(cl_device_state *d);
qd_status cl_buffer_alloc(void *device, size_t bytes, qd_buffer **out);
/** The same without the zeros: for memory that is filled at once. */
qd_status cl_buffer_take(cl_device_state *d, size_t bytes, qd_buffer **out);
void cl_buffer_release(void *device, qd_buffer *b);
qd_status cl_buffer_write(void *device, qd_buffer *b, size_t offset, const void *src, size_t bytes);
qd_status cl_buffer_read(void *device, qd_buffer *b, size_t offset, void *dst, size_t bytes);
/** Makes the device's scratch at least so large. */
qd_status cl_scratch_reserve(cl_device_state *d, size_t bytes);
/** The copies of constant t in a layout, made when they are not there yet. */
qd_status cl_weights_get(cl_device_state *d, qd_tensor *t, qd_layout layout, const cl_weights **out);
void cl_weights_forget(void *device, qd_tensor *t);
/** Frees staging memory whose commands have finished; all of it when `all`. */
void cl_pending_reap(cl_device_state *d, bool all);
/** Frees the pool's unused buffers. */
void cl_pool_trim(cl_device_state *d);

/* ---- cl_program.c ------------------------------------------------------------------------------------------- */

/** Hexadecimal SHA-256 of everything that a variant's binary and verdict depend on. */
qd_status cl_program_key(const cl_device_state *d, const cl_variant *v, char key[65], char **source);
/** Builds from source. On QD_ERR_BUILD `why` holds the build log's first error. */
qd_status cl_program_build(cl_device_state *d, const cl_variant *v, const char *source, cl_program *out, char *why,
                           size_t capacity);
/** Reads a verdict and, when it is CL_PASSED, the program from the cache. False: nothing usable there. */
bool cl_cache_load(const cl_device_state *d, const char *key, cl_verdict *verdict, cl_program *out, char *why,
                   size_t capacity);
/** Writes them; a failure only means that the next start is slower. */
void cl_cache_store(const cl_device_state *d, const char *key, cl_verdict verdict, cl_program program, const char *why);
/** Sets options' cache_dir or its default; creates it. Empty when there is none. */
void cl_cache_open(const qd_context_options *o, char *dir, size_t capacity);

/* ---- cl_attempt.c ------------------------------------------------------------------------------------------- */

/** So many processes may end while they try a variant before it is refused: once may be anything. */
enum { CL_DEATHS = 2 };

typedef struct cl_attempt {
    int file; /* -1: no mark */
    char path[640];
} cl_attempt;

/** Marks that the variant with this key is being tried, after any other process that does so has ended. Returns how
 * many processes ended while they tried it. Without a cache: 0. */
int cl_attempt_begin(const cl_device_state *d, const char *key, cl_attempt *a);
/** The attempt is over, however it ended; `keep`: the mark stays, for later processes to see. */
void cl_attempt_end(cl_attempt *a, bool keep);

/* ---- cl_launch.c -------------------------------------------------------------------------------------------- */

/** Makes the kernel objects of a node for a variant whose program is built. */
qd_status cl_node_create(cl_device_state *d, qd_node *n, int variant);
void cl_node_free(void *device, qd_node *n);
qd_status cl_node_enqueue(void *device, qd_node *n, int64_t rows, qd_node *const wait[], int n_wait);

/* ---- cl_canary.c -------------------------------------------------------------------------------------------- */

/** Makes sure that a variant is proven or refused; its verdict is in d->proofs. Fails only for reasons that are not the
 *  variant's, such as a lost device. */
qd_status cl_variant_prove(cl_device_state *d, int variant);

/* ---- cl_profile.c ------------------------------------------------------------------------------------------- */

/** Remembers a launch; takes over the event. */
void cl_profile_add(cl_device_state *d, int variant, const qd_node *n, int64_t rows, cl_event e);
qd_status cl_profile_report(void *device, qd_profile_row **out, int *count);
void cl_profile_reset(void *device);
qd_status cl_profile_trace(void *device, const char *path);
void cl_profile_free(cl_device_state *d);

#endif
