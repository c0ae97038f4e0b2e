/* Internals of the OpenCL backend. One cl_device stands behind each context; nothing is shared between contexts. */
#ifndef QDOT_CL_INTERNAL_H
#define QDOT_CL_INTERNAL_H

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <CL/cl_ext.h>

#include "core/status.h"
#include "formats/pack.h"
#include "fpga/fpga.h"
#include "qdot/qdot_backend.h"

/* ---- Variants: the rows of kernels.def ---------------------------------------------------------------------- */

typedef enum cl_needs {
    CL_NEEDS_NONE,
    CL_NEEDS_X86_AVX2,
    CL_NEEDS_X86_AVX512_VNNI,
    CL_NEEDS_X86_AMX,
    CL_NEEDS_VECTORS,
    CL_NEEDS_FP16, /* this and the following are probed, see cl_probe.c */
    CL_NEEDS_SUBGROUPS,
    CL_NEEDS_INTEGER_DOT,
    CL_NEEDS_NV_DP4A,
    CL_NEEDS_SUBGROUPS_DOT, /* SUBGROUPS and INTEGER_DOT */
    CL_NEEDS_COMMAND_BUFFERS,
    CL_NEEDS_CHANNELS, /* reported; the canaries prove them */
    CL_NEEDS_COUNT
} cl_needs;

/** Beside a format a variant may take, of an operand: any, or integer codes of so many bits, signed or not. */
enum {
    CL_TAKES_ANY = QD_FORMAT_COUNT,
    CL_TAKES_CODES2 = CL_TAKES_ANY + 2,
    CL_TAKES_CODES4 = CL_TAKES_ANY + 4,
    CL_TAKES_CODES8 = CL_TAKES_ANY + 8
};

typedef struct cl_variant {
    const char *name;
    qd_op op;
    int in0, in1, out; /* a format, or CL_TAKES_… */
    const char *file, *options;
    cl_needs needs;
    qd_layout layout;
    int groups;
} cl_variant;

extern const cl_variant cl_variants[];
extern const int cl_variant_count;

/** Work-items in a group of a variant from gpu/. */
enum { CL_GPU_LOCAL = 64 };
/** The devices that a variant was written for, by its folder: those try it before all others, the rest after them. */
typedef enum cl_home {
    CL_HOME_ANY,
    CL_HOME_GPU, /* gpu/: groups of CL_GPU_LOCAL on every device */
    CL_HOME_FPGA /* fpga/: one work-item; parameters in memory, see cl_pipeline.c */
} cl_home;
cl_home cl_variant_home(const cl_variant *v);
/** True when a variant's kernel can do a node's work, by its formats, and by how its weights lie. */
bool cl_variant_fits(const cl_variant *v, const qd_node *n);
/** Whether a variant takes such operands: formats of the inputs, and of the output; absent ones are QD_FORMAT_COUNT. */
bool cl_variant_takes(const cl_variant *v, const qd_format in[], qd_format out);
/** What it takes, as "u8 any -> f32". */
void cl_variant_formats(const cl_variant *v, char *text, size_t capacity);

enum { CL_STAGES = QD_FPGA_STAGES, CL_UNITS = QD_FPGA_UNITS };

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

/* Building a chain takes seconds. Who has more kinds of graphs in one context does not run one of them often. */
enum { CL_CHAIN_KINDS = 4 };

/* Where a buffer for weights is: see cl_slab.c. */
typedef struct cl_slab cl_slab;
typedef struct cl_piece {
    cl_slab *slab; /* NULL: the driver's memory */
    size_t at, bytes;
} cl_piece;

struct qd_buffer {
    cl_mem mem;
    size_t bytes;
    int bank;         /* of a card's memory; CL_ANY_BANK: the driver's choice */
    uint64_t address; /* on the device, as its kernels see it; 0: not asked yet */
    cl_event last;    /* devices that overlap transfers: the last command that uses it, or NULL */
    qd_buffer *next;  /* in the pool */
    cl_piece piece;
};
enum { CL_ANY_BANK = -1 };

/** Host memory or an event that is kept until the device has passed a command. */
typedef struct cl_pending {
    cl_event event;
    void *staging; /* freed with it; may be NULL */
} cl_pending;

enum { CL_TRACE_WRITE = -2, CL_TRACE_READ = -1 };
typedef struct cl_trace_event {
    int variant, unit, stage; /* variant below 0: a transfer */
    cl_event event;           /* until its times are read */
    double bytes, operations;
    uint64_t queued, start, end; /* nanoseconds of the device's clock */
    uint64_t given;              /* of the host's, when its call had returned */
} cl_trace_event;

/** Functions of cl_khr_command_buffer; NULL: not asked for yet. */
typedef struct cl_command_functions {
    clCreateCommandBufferKHR_fn create;
    clCommandNDRangeKernelKHR_fn launch;
    clFinalizeCommandBufferKHR_fn finalize;
    clEnqueueCommandBufferKHR_fn enqueue;
    clReleaseCommandBufferKHR_fn release;
} cl_command_functions;

typedef struct cl_device {
    cl_platform_id platform;
    cl_device_id id;
    cl_context context;
    cl_command_queue queue;
    cl_command_queue stage_queues[CL_UNITS][CL_STAGES]; /* the first is not used; others NULL until one is needed */
    cl_command_queue transfers;                         /* NULL: they do not overlap with kernels */
    char platform_version[128];
    bool lost; /* the device is gone: see cl_alive */
    bool out_of_order, unified_memory, is_cpu, exact_division;
    char chains[CL_CHAIN_KINDS][65]; /* keys of those that graphs have had so far */
    int n_chains;
    bool deep_channels;       /* see cl_pipeline.c */
    struct cl_binary *binary; /* NULL: kernels are compiled */
    qd_device_info info;
    qd_context_options options;
    char cache_dir[512]; /* empty: no cache */
    uint64_t max_alloc, budget, used, pooled, peak;
    qd_buffer *pool;
    cl_slab *slab;        /* that weights are put into, or NULL */
    cl_variant *variants; /* the rows of kernels.def, then those with options of their own: see cl_tuning.h */
    int n_variants;
    struct cl_choice *choices; /* what classes of problems were told to use */
    int n_choices;
    char tuning_path[512], tuning_why[256];
    cl_proof *proofs;                  /* one for each variant */
    unsigned reported;                 /* bit 1 << need: the driver says that it has this feature */
    cl_proof features[CL_NEEDS_COUNT]; /* of the probed needs; without their programs */
    char kernels[48];                  /* options.kernels; empty: no preference */
    cl_pending *pending;
    int n_pending, pending_cap;
    cl_trace_event *trace;
    int n_trace, trace_cap, trace_read;
    int in_flight;           /* commands since the last wait for all, at most; 0: none is under way */
    qd_buffer *scratch;      /* shared by all kernels that need some: they run one after the other */
    unsigned scratch_number; /* grows with each scratch */
    int scratch_users;
    cl_event scratch_event; /* out-of-order queues: the last of them */
    cl_command_functions commands;
    struct cl_recording *recording;  /* that launches are added to in place of the queue, or NULL */
    cl_sync_point_khr scratch_point; /* of the last of them that uses the scratch, where scratch_recorded */
    bool scratch_recorded;
    bool chained;        /* a chain may be under way: the driver does not know what memory it uses */
    int canary_depth;    /* above 0: launches are not profiled */
    int64_t canary_rows; /* above 0: weights are cut into parts of so many rows */
    bool canary_single;  /* one work-group only */
} cl_device_state;

/** Copies of a constant on the device, one for each layout in use. Cut so that no part exceeds the largest allocation.
 */
typedef struct cl_part {
    qd_buffer *buffer;
    int64_t first, count; /* rows */
} cl_part;

typedef struct cl_weights {
    qd_layout layout;
    int bank;
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
/** Finds the device that `device` names, or the next best that it may mean (nth = 0, 1, …; QD_ERR_NO_DEVICE when there
 * are no more); fills platform, id, info and the probed flags. */
qd_status cl_device_select(const char *device, int nth, cl_device_state *d);
/** Intel's FPGA emulator. */
bool cl_is_emulator(const cl_device_state *d);
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
qd_status cl_buffer_take(cl_device_state *d, size_t bytes, int bank, qd_buffer **out);
void cl_buffer_release(void *device, qd_buffer *b);
qd_status cl_buffer_write(void *device, qd_buffer *b, size_t offset, const void *src, size_t bytes);
qd_status cl_buffer_read(void *device, qd_buffer *b, size_t offset, void *dst, size_t bytes);
/** Makes the device's scratch at least so large. */
qd_status cl_scratch_reserve(cl_device_state *d, size_t bytes);
/** Remembers the last command that uses a buffer, for transfers. */
void cl_buffer_used(cl_device_state *d, qd_buffer *b, cl_event e);
/** The copies of constant t in a layout and bank, made when they are not there yet: then in at least `pieces` parts. */
qd_status cl_weights_get(cl_device_state *d, qd_tensor *t, qd_layout layout, int bank, int pieces,
                         const cl_weights **out);
void cl_weights_forget(void *device, qd_tensor *t);
qd_status cl_weights_refresh(void *device, qd_tensor *t);
/** Frees staging memory whose commands have finished; all of it when `all`. */
void cl_pending_reap(cl_device_state *d, bool all);
/** Frees the pool's unused buffers. */
void cl_pool_trim(cl_device_state *d);

/* ---- cl_slab.c ---------------------------------------------------------------------------------------------- */

/** A buffer for weights on a CPU device through PoCL, in memory that is fast to stream; *piece: to be freed after it.
 * NULL: there is none, for whatever reason; the driver's memory does as well. */
cl_mem cl_slab_buffer(cl_device_state *d, size_t bytes, cl_piece *piece);
/** `idle`: no command is under way that may still use it. */
void cl_slab_free(cl_piece *piece, bool idle);
/** The device cuts no more buffers. */
void cl_slab_close(cl_device_state *d);

/* ---- cl_program.c ------------------------------------------------------------------------------------------- */

/** Hexadecimal SHA-256 of the device's name; `whole`: also of its driver, the CPU's features, and all kernels. */
qd_status cl_device_key(const cl_device_state *d, bool whole, char key[65]);
/** Puts two pieces of bytes, one behind the other, into a file in place of an old one, or leaves that as it is. */
bool cl_file_replace(const char *path, const void *a, size_t a_bytes, const void *b, size_t b_bytes);
/** Hexadecimal SHA-256 of everything that a variant's binary and verdict depend on. */
qd_status cl_program_key(const cl_device_state *d, const cl_variant *v, char key[65], char **source);
/** That of n variants, each with the kernel file `after` behind it, linked to one program. */
qd_status cl_program_key_linked(const cl_device_state *d, const cl_variant *const v[], int n, const char *after,
                                char key[65]);
/** A kernel file with all that it includes, to be freed. */
qd_status cl_program_source(const char *file, char **source);
/** Compiles, for linking, with more options than the variant's own; `after`, a kernel file or NULL, stands behind its
 * own. */
qd_status cl_program_compile(cl_device_state *d, const cl_variant *v, const char *more, const char *after,
                             cl_program *out);
/** The device's binary of a program, to be freed; NULL when the driver gives none. */
unsigned char *cl_program_binary(cl_program p, size_t *bytes);
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

/* ---- cl_pipeline.c ------------------------------------------------------------------------------------------ */

/** Starts all launches of a node whose stages or compute units run at the same time, after the events in list[] and
 * what was given so far on a queue in order; what follows on the device's queue waits for them. Launch i is stage i %
 * stages of compute unit i / stages % units. All of them start, or none. events[]: one for each, to be released; *done:
 * of all of them, likewise. */
qd_status cl_pipeline_enqueue(cl_device_state *d, const qd_node *n, const cl_variant *v, int64_t rows,
                              const cl_kernel kernels[], int n_kernels, const cl_event list[], cl_uint n_list,
                              cl_event events[], cl_event *done);
void cl_pipeline_close(cl_device_state *d);
/** Words that a channel holds when it is to hold all that a stage puts into it (deep_channels). */
enum { CL_DEEP_CHANNEL = 1 << 17 };

/* ---- cl_binary.c -------------------------------------------------------------------------------------------- */

/** A binary that takes the compiler's place. */
typedef struct cl_binary {
    qd_fpga_manifest manifest;
    cl_program program;
} cl_binary;

/** Reads a manifest and loads its binary; nothing is given to the device before all that can be checked is right. */
qd_status cl_binary_open(cl_device_state *d, const char *path);
void cl_binary_close(cl_device_state *d);
/** Sets the proof's program to the binary's; false, with the reason, where the variant is not in it. */
bool cl_binary_take(cl_device_state *d, const cl_variant *v, cl_proof *proof);
/** Kernels of a variant that are launched to run at the same time: CL_STAGES for one with channels, else 1; a binary
 * may have an array that runs by itself. */
int cl_variant_stages(const cl_device_state *d, const cl_variant *v);
/** Compute units that a variant has: 1 but in a binary. */
int cl_variant_units(const cl_device_state *d, const cl_variant *v);
/** What the function of a stage (of cl_variant_stages) is called: "NAME", or "NAME_read" … "NAME_write". */
void cl_stage_name(const cl_device_state *d, const cl_variant *v, int unit, int stage, char name[64]);
/** Bank of input i of a variant's operator, and of the arena; CL_ANY_BANK: the manifest names none. */
int cl_bank_of(const cl_device_state *d, const cl_variant *v, int input);
int cl_arena_bank(const cl_device_state *d);
/** clCreateBuffer in a bank, the way the card's vendor wants it. */
cl_mem cl_bank_buffer(const cl_device_state *d, int bank, size_t bytes, cl_int *e);
/** Builds the binary of a manifest, writes it and the manifest, sealed, to `path`. */
qd_status cl_binary_build(void *device, const qd_fpga_manifest *m, const char *path);

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

/** Makes the kernel objects of a node for a variant whose program is built, with `groups` work-groups for each compute
 *  unit. For a node that has some already: for runs of at most `most` rows, which must be fewer than theirs. */
qd_status cl_node_create(cl_device_state *d, qd_node *n, int variant, int groups, int64_t most);
/** What the runs with fewest rows use. */
void cl_node_way(const qd_node *n, int *variant, int *groups);
void cl_node_free(void *device, qd_node *n);
qd_status cl_node_enqueue(void *device, qd_node *n, int64_t rows, qd_node *const wait[], int n_wait);

/** A launch as a step of a chain: its kernel's arguments but for the rows. */
enum { CL_STEP_ARGS = 60 };
typedef struct cl_step {
    uint64_t words[CL_STEP_ARGS];
    qd_buffer *buffers[CL_STEP_ARGS]; /* NULL where the argument is a number */
    int n;                            /* more than CL_STEP_ARGS: too many for a step */
    int scratch;                      /* which of them is the device's scratch; -1: none */
} cl_step;
/** What a node's launches would be in a chain (*count of them; NULL: it cannot be in one, or has nothing to do), its
 * variant, and the work-items of a launch. */
const cl_step *cl_node_steps(const qd_node *n, int *count, int *variant, size_t *items);

/* ---- cl_recording.c ------------------------------------------------------------------------------------------ */

/** Launches of a graph, to be given to the queue as a whole. */
typedef struct cl_recording cl_recording;
/** The backend's `record`, `recorded`, `replay` and `recording_free`. */
qd_status cl_record(void *device);
qd_status cl_recorded(void *device, bool whole, void **out);
qd_status cl_replay(void *device, void *recording);
void cl_recording_free(void *device, void *recording);
/** Adds a launch to d->recording, after those whose n points are given. */
qd_status cl_recording_add(cl_device_state *d, cl_kernel kernel, size_t global, size_t local,
                           const cl_sync_point_khr points[], cl_uint n, cl_sync_point_khr *point);
/** Its kernels use the device's scratch, as it is now. */
void cl_recording_uses_scratch(cl_device_state *d);
/** Runs the kernels, one after the other, in a command buffer, and that again. Waits. */
qd_status cl_recording_probe(cl_device_state *d, const cl_kernel kernels[2]);

/* ---- cl_chain.c --------------------------------------------------------------------------------------------- */

/** Many nodes in one launch: see kernels_cl/x86/chain.cl. */
typedef struct cl_chain cl_chain;
/** Functions that one chain may have. */
enum { CL_CHAIN_FUNCTIONS = 12 };
/** True when the variant's nodes may be steps of a chain on this device. */
bool cl_chain_takes(cl_device_state *d, int variant);
/** The backend's `chain`, `chain_run` and `chain_free`. */
qd_status cl_chain_create(void *device, qd_node *const nodes[], int n, void **out, int *chained);
qd_status cl_chain_run(void *device, void *chain, int64_t rows);
void cl_chain_free(void *device, void *chain);
/** A chain of nodes whose variants are functions[0 … count-1] of a program that cl_chain_build built; fewer than
 * `least` in a row go one by one. */
qd_status cl_chain_make(cl_device_state *d, qd_node *const nodes[], int n, const int functions[], int count, int least,
                        cl_program code, cl_chain **out);
/** Builds the program of a chain of these variants. */
qd_status cl_chain_build(cl_device_state *d, const int functions[], int count, cl_program *out);
/** The cache's key of that program and its verdict. */
qd_status cl_chain_key(cl_device_state *d, const int functions[], int count, char key[65]);

/* ---- cl_canary.c -------------------------------------------------------------------------------------------- */

/** Makes sure that a variant is proven or refused; its verdict is in d->proofs. Fails only for reasons that are not the
 *  variant's, such as a lost device. */
qd_status cl_variant_prove(cl_device_state *d, int variant);
/** The program of a chain of these variants, proven: random problems of each, all in one launch, have the reference's
 * bytes. QD_ERR_UNSUPPORTED, with a message: it is refused. */
qd_status cl_chain_prove(cl_device_state *d, const int functions[], int count, cl_program *out);

/* ---- cl_profile.c ------------------------------------------------------------------------------------------- */

/** Remembers a launch; takes over the event. */
void cl_profile_add(cl_device_state *d, int variant, int unit, int stage, const qd_node *n, int64_t rows, cl_event e);
/** Remembers a card's transfer; takes over the event. */
void cl_profile_add_transfer(cl_device_state *d, bool write, size_t bytes, cl_event e);
qd_status cl_profile_report(void *device, qd_profile_row **out, int *count);
void cl_profile_reset(void *device);
qd_status cl_profile_trace(void *device, qd_trace_span **spans, int *count);
void cl_profile_free(cl_device_state *d);

#endif
