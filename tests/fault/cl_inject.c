#define _GNU_SOURCE /* RTLD_NEXT */
#include "fault/cl_inject.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const cl_function_names[CL_FUNCTIONS] = {
#define CL_FUNCTION(name) #name,
#include "fault/cl_functions.def"
};

static struct {
    cl_function fn;
    long left;
    cl_int error;
    bool armed, forever, happened;
    const char *with, *from, *to;
    struct {
        cl_function fn;
        long left;
        void (*f)(void *user);
        void *user;
    } hook;
    const char *driver;
    bool card, gated;
    long gate; /* launches until the one that is to wait */
    unsigned delay, banks;
    long wrong_reads;
    long calls[CL_FUNCTIONS + 1];
    long alive, points;
} state;

/* What a kernel waits for; and how many kernels wait for nothing but time. */
static _Atomic(cl_event) gate;
static atomic_int late;
static atomic_uint dice;

void inject_failure(cl_function fn, long n, cl_int error, bool forever) {
    state.fn = fn;
    state.left = n;
    state.error = error;
    state.forever = forever;
    state.armed = true;
    state.happened = false;
}

void inject_source(const char *with, const char *from, const char *to) {
    state.with = with;
    state.from = from;
    state.to = to;
    state.happened = false;
}

void inject_hook(cl_function fn, long n, void (*f)(void *user), void *user) {
    state.hook.fn = fn;
    state.hook.left = n;
    state.hook.f = f;
    state.hook.user = user;
}

void inject_driver(const char *version) {
    state.driver = version;
}

void inject_card(bool card) {
    state.card = card;
}

void inject_gate(long n) {
    state.gate = n;
    state.gated = true;
}

void inject_delays(unsigned most) {
    state.delay = most;
}

void inject_wrong_reads(long n) {
    state.wrong_reads = n;
}

void inject_clear(void) {
    const long alive = state.alive;
    inject_open_gate();
    while (late)
        usleep(100);
    memset(&state, 0, sizeof state);
    state.alive = alive;
}

long inject_calls(cl_function fn) {
    return state.calls[fn];
}

bool inject_happened(void) {
    return state.happened;
}

unsigned inject_banks(void) {
    return state.banks;
}

long inject_points(void) {
    return state.points;
}

long inject_alive(void) {
    return state.alive;
}

static void sleep_a_little(void) {
    const unsigned number = (dice++ * 2654435761u) >> 8;
    if (state.delay) usleep(number % state.delay);
}

/* CL_SUCCESS, or what this call has to fail with. */
static cl_int fault(cl_function fn) {
    sleep_a_little();
    state.calls[fn]++;
    state.calls[CL_FUNCTIONS]++;
    if (state.hook.f && state.hook.fn == fn && state.hook.left-- == 0) state.hook.f(state.hook.user);
    if (!state.armed || (state.fn != fn && state.fn != CL_FUNCTIONS)) return CL_SUCCESS;
    if (state.left-- > 0) return CL_SUCCESS;
    state.armed = state.forever;
    state.left = 0;
    state.happened = true;
    return state.error;
}

static void *loader(const char *name) {
    void *f = dlsym(RTLD_NEXT, name);
    if (!f) {
        fprintf(stderr, "the OpenCL loader has no %s\n", name);
        abort();
    }
    return f;
}

#define NEXT(name) ((__typeof__(&name))loader(#name))

/* A function that returns its error. */
#define STATUS_FUNCTION(name, parameters, arguments)       \
    cl_int CL_API_CALL name parameters {                   \
        const cl_int injected = fault(FN_##name);          \
        return injected ? injected : NEXT(name) arguments; \
    }

/* A function that returns a new object, its error through a pointer. */
#define OBJECT_FUNCTION(type, name, parameters, arguments) \
    type CL_API_CALL name parameters {                     \
        const cl_int e = fault(FN_##name);                 \
        if (e) {                                           \
            if (error) *error = e;                         \
            return NULL;                                   \
        }                                                  \
        const type made = NEXT(name) arguments;            \
        state.alive += made != NULL;                       \
        return made;                                       \
    }

/* Enqueues: a caller that asks for an event gets an object. */
#define ENQUEUE_FUNCTION(name, parameters, arguments) \
    cl_int CL_API_CALL name parameters {              \
        cl_int e = fault(FN_##name);                  \
        if (e) return e;                              \
        e = NEXT(name) arguments;                     \
        state.alive += e == CL_SUCCESS && event;      \
        return e;                                     \
    }

#define RELEASE_FUNCTION(name, type, step) \
    cl_int CL_API_CALL name(type object) { \
        state.alive += (step);             \
        return NEXT(name)(object);         \
    }

STATUS_FUNCTION(clGetPlatformIDs, (cl_uint n, cl_platform_id *out, cl_uint *count), (n, out, count))
STATUS_FUNCTION(clGetDeviceIDs, (cl_platform_id p, cl_device_type t, cl_uint n, cl_device_id *out, cl_uint *count),
                (p, t, n, out, count))
STATUS_FUNCTION(clBuildProgram,
                (cl_program p, cl_uint n, const cl_device_id *d, const char *options,
                 void(CL_CALLBACK *f)(cl_program, void *), void *user),
                (p, n, d, options, f, user))
STATUS_FUNCTION(clGetProgramInfo, (cl_program p, cl_program_info what, size_t n, void *out, size_t *size),
                (p, what, n, out, size))
STATUS_FUNCTION(clGetProgramBuildInfo,
                (cl_program p, cl_device_id d, cl_program_build_info what, size_t n, void *out, size_t *size),
                (p, d, what, n, out, size))
STATUS_FUNCTION(clSetKernelArg, (cl_kernel k, cl_uint i, size_t n, const void *value), (k, i, n, value))
STATUS_FUNCTION(clCompileProgram,
                (cl_program p, cl_uint n, const cl_device_id *d, const char *options, cl_uint n_headers,
                 const cl_program *headers, const char **names, void(CL_CALLBACK *f)(cl_program, void *), void *user),
                (p, n, d, options, n_headers, headers, names, f, user))
STATUS_FUNCTION(clSetUserEventStatus, (cl_event e, cl_int state_of_it), (e, state_of_it))
STATUS_FUNCTION(clWaitForEvents, (cl_uint n, const cl_event *list), (n, list))
STATUS_FUNCTION(clFlush, (cl_command_queue q), (q))
STATUS_FUNCTION(clGetEventInfo, (cl_event e, cl_event_info what, size_t n, void *out, size_t *size),
                (e, what, n, out, size))
STATUS_FUNCTION(clGetEventProfilingInfo, (cl_event e, cl_profiling_info what, size_t n, void *out, size_t *size),
                (e, what, n, out, size))

OBJECT_FUNCTION(cl_context, clCreateContext,
                (const cl_context_properties *p, cl_uint n, const cl_device_id *d,
                 void(CL_CALLBACK *f)(const char *, const void *, size_t, void *), void *user, cl_int *error),
                (p, n, d, f, user, error))
OBJECT_FUNCTION(cl_command_queue, clCreateCommandQueue,
                (cl_context c, cl_device_id d, cl_command_queue_properties p, cl_int *error), (c, d, p, error))
OBJECT_FUNCTION(cl_program, clCreateProgramWithBinary,
                (cl_context c, cl_uint n, const cl_device_id *d, const size_t *sizes, const unsigned char **binaries,
                 cl_int *states, cl_int *error),
                (c, n, d, sizes, binaries, states, error))
OBJECT_FUNCTION(cl_program, clLinkProgram,
                (cl_context c, cl_uint n, const cl_device_id *d, const char *options, cl_uint n_parts,
                 const cl_program *parts, void(CL_CALLBACK *f)(cl_program, void *), void *user, cl_int *error),
                (c, n, d, options, n_parts, parts, f, user, error))
OBJECT_FUNCTION(cl_event, clCreateUserEvent, (cl_context c, cl_int *error), (c, error))
OBJECT_FUNCTION(cl_kernel, clCreateKernel, (cl_program p, const char *name, cl_int *error), (p, name, error))

ENQUEUE_FUNCTION(clEnqueueFillBuffer,
                 (cl_command_queue q, cl_mem m, const void *pattern, size_t size, size_t at, size_t bytes, cl_uint n,
                  const cl_event *list, cl_event *event),
                 (q, m, pattern, size, at, bytes, n, list, event))
ENQUEUE_FUNCTION(clEnqueueUnmapMemObject,
                 (cl_command_queue q, cl_mem m, void *mapped, cl_uint n, const cl_event *list, cl_event *event),
                 (q, m, mapped, n, list, event))
ENQUEUE_FUNCTION(clEnqueueBarrierWithWaitList, (cl_command_queue q, cl_uint n, const cl_event *list, cl_event *event),
                 (q, n, list, event))

ENQUEUE_FUNCTION(clEnqueueMarkerWithWaitList, (cl_command_queue q, cl_uint n, const cl_event *list, cl_event *event),
                 (q, n, list, event))

RELEASE_FUNCTION(clReleaseContext, cl_context, -1)
RELEASE_FUNCTION(clReleaseCommandQueue, cl_command_queue, -1)
RELEASE_FUNCTION(clReleaseMemObject, cl_mem, -1)
RELEASE_FUNCTION(clReleaseProgram, cl_program, -1)
RELEASE_FUNCTION(clReleaseKernel, cl_kernel, -1)
RELEASE_FUNCTION(clReleaseEvent, cl_event, -1)
RELEASE_FUNCTION(clRetainEvent, cl_event, 1)
RELEASE_FUNCTION(clRetainProgram, cl_program, 1)

/* ---- Those that do more ------------------------------------------------------------------------------------- */

static void open_event(cl_event e) {
    NEXT(clSetUserEventStatus)(e, CL_COMPLETE);
    NEXT(clReleaseEvent)(e);
}

bool inject_open_gate(void) {
    const cl_event e = atomic_exchange(&gate, NULL);
    if (e) open_event(e);
    return e != NULL;
}

static void *open_later(void *event) {
    sleep_a_little();
    open_event(event);
    late--;
    return NULL;
}

/* An event that a command has to wait for, to be released; it comes by itself, or, `at_gate`, with inject_open_gate. */
static cl_event new_delay(cl_command_queue q, bool at_gate) {
    cl_context c;
    cl_int e = clGetCommandQueueInfo(q, CL_QUEUE_CONTEXT, sizeof c, &c, NULL);
    const cl_event event = e ? NULL : NEXT(clCreateUserEvent)(c, &e);
    if (e || NEXT(clRetainEvent)(event)) abort(); /* whoever lets the command go may do so at once */
    if (at_gate) {
        state.gated = false;
        gate = event;
        return event;
    }
    pthread_t thread;
    late++;
    if (pthread_create(&thread, NULL, open_later, event) || pthread_detach(thread)) abort();
    return event;
}

/* The wait list of a command: its caller's, and a delay where there is to be one. */
typedef struct wait_list {
    cl_event all[65], delay;
    const cl_event *list;
    cl_uint n;
} wait_list;

static void begin_wait(wait_list *w, cl_command_queue q, bool at_gate, cl_uint n, const cl_event *list) {
    w->list = list;
    w->n = n;
    w->delay = n < 65 && (at_gate || state.delay) ? new_delay(q, at_gate) : NULL;
    if (!w->delay) return;
    if (n) memcpy(w->all, list, n * sizeof *list);
    w->all[w->n++] = w->delay;
    w->list = w->all;
}

static void end_wait(const wait_list *w, cl_int e, const cl_event *event) {
    if (w->delay) NEXT(clReleaseEvent)(w->delay);
    state.alive += e == CL_SUCCESS && event;
}

cl_int CL_API_CALL clEnqueueNDRangeKernel(cl_command_queue q, cl_kernel k, cl_uint dims, const size_t *offset,
                                          const size_t *global, const size_t *local, cl_uint n, const cl_event *list,
                                          cl_event *event) {
    wait_list w;
    cl_int e = fault(FN_clEnqueueNDRangeKernel);
    if (e) return e;
    begin_wait(&w, q, state.gated && state.gate-- == 0, n, list);
    e = NEXT(clEnqueueNDRangeKernel)(q, k, dims, offset, global, local, w.n, w.list, event);
    end_wait(&w, e, event);
    return e;
}

cl_int CL_API_CALL clEnqueueWriteBuffer(cl_command_queue q, cl_mem m, cl_bool wait, size_t at, size_t bytes,
                                        const void *src, cl_uint n, const cl_event *list, cl_event *event) {
    wait_list w;
    cl_int e = fault(FN_clEnqueueWriteBuffer);
    if (e) return e;
    begin_wait(&w, q, false, n, list);
    e = NEXT(clEnqueueWriteBuffer)(q, m, wait, at, bytes, src, w.n, w.list, event);
    end_wait(&w, e, event);
    return e;
}

/* Banks are asked for as Intel's and AMD's cards want it: cl_bank_buffer in opencl/cl_binary.c. */
cl_mem CL_API_CALL clCreateBuffer(cl_context c, cl_mem_flags f, size_t n, void *host, cl_int *error) {
    const cl_int e = fault(FN_clCreateBuffer);
    const unsigned intel = f >> 16 & 7, amd = f >> 31 & 1 ? *(const unsigned *)host & 0xffff : 0;
    if (e) {
        if (error) *error = e;
        return NULL;
    }
    if (intel) state.banks |= 1u << (intel - 1);
    if (f >> 31 & 1) state.banks |= 1u << amd;
    const cl_mem made = NEXT(clCreateBuffer)(c, f, n, host, error);
    state.alive += made != NULL;
    return made;
}

cl_int CL_API_CALL clGetDeviceInfo(cl_device_id d, cl_device_info what, size_t n, void *out, size_t *size) {
    if (what == CL_DEVICE_TYPE && state.card) {
        if (out) *(cl_device_type *)out = CL_DEVICE_TYPE_ACCELERATOR;
        if (size) *size = sizeof(cl_device_type);
        return CL_SUCCESS;
    }
    if (what != CL_DRIVER_VERSION || !state.driver) return NEXT(clGetDeviceInfo)(d, what, n, out, size);
    const size_t bytes = strlen(state.driver) + 1;
    if (out && n < bytes) return CL_INVALID_VALUE;
    if (out) memcpy(out, state.driver, bytes);
    if (size) *size = bytes;
    return CL_SUCCESS;
}

cl_int CL_API_CALL clCreateSubDevices(cl_device_id d, const cl_device_partition_property *how, cl_uint n,
                                      cl_device_id *out, cl_uint *count) {
    const cl_int e = fault(FN_clCreateSubDevices);
    if (e) return e;
    /* Not counted: they are kept for the next context. */
    return NEXT(clCreateSubDevices)(d, how, n, out, count);
}

/* The device must have finished even when it says that it failed: what waits for it frees memory. */
cl_int CL_API_CALL clFinish(cl_command_queue q) {
    const cl_int e = fault(FN_clFinish);
    const cl_int real = NEXT(clFinish)(q);
    return e ? e : real;
}

void *CL_API_CALL clEnqueueMapBuffer(cl_command_queue q, cl_mem m, cl_bool wait, cl_map_flags f, size_t at,
                                     size_t bytes, cl_uint n, const cl_event *list, cl_event *event, cl_int *error) {
    const cl_int e = fault(FN_clEnqueueMapBuffer);
    if (e) {
        if (error) *error = e;
        return NULL;
    }
    return NEXT(clEnqueueMapBuffer)(q, m, wait, f, at, bytes, n, list, event, error);
}

cl_int CL_API_CALL clEnqueueReadBuffer(cl_command_queue q, cl_mem m, cl_bool wait, size_t at, size_t bytes, void *dst,
                                       cl_uint n, const cl_event *list, cl_event *event) {
    wait_list w;
    cl_int e = fault(FN_clEnqueueReadBuffer);
    if (e) return e;
    begin_wait(&w, q, false, n, list);
    e = NEXT(clEnqueueReadBuffer)(q, m, wait, at, bytes, dst, w.n, w.list, event);
    end_wait(&w, e, event);
    if (e == CL_SUCCESS && state.wrong_reads > 0 && bytes) {
        state.wrong_reads--;
        state.happened = true;
        ((unsigned char *)dst)[bytes / 2] ^= 0x10;
    }
    return e;
}

/* `text` with every `from` replaced by `to`, to be freed. */
static char *replaced(const char *text, const char *from, const char *to) {
    size_t hits = 0;
    for (const char *p = text; (p = strstr(p, from)) != NULL; p += strlen(from))
        hits++;
    char *out = malloc(strlen(text) + hits * strlen(to) + 1), *at = out;
    if (!out) abort();
    for (const char *p; (p = strstr(text, from)) != NULL; text = p + strlen(from)) {
        memcpy(at, text, (size_t)(p - text));
        at += p - text;
        memcpy(at, to, strlen(to));
        at += strlen(to);
    }
    memcpy(at, text, strlen(text) + 1);
    state.happened = state.happened || hits > 0;
    return out;
}

cl_program CL_API_CALL clCreateProgramWithSource(cl_context c, cl_uint n, const char **sources, const size_t *sizes,
                                                 cl_int *error) {
    const cl_int e = fault(FN_clCreateProgramWithSource);
    if (e) {
        if (error) *error = e;
        return NULL;
    }
    char *changed = NULL;
    if (state.with && n == 1 && !sizes && strstr(sources[0], state.with))
        changed = replaced(sources[0], state.from, state.to);
    const char *text = changed;
    const cl_program p = NEXT(clCreateProgramWithSource)(c, n, changed ? &text : sources, sizes, error);
    free(changed);
    state.alive += p != NULL;
    return p;
}

/* ---- Those of an extension, which are asked for by name --------------------------------------------------------- */

static clCreateCommandBufferKHR_fn next_create;
static clCommandNDRangeKernelKHR_fn next_launch;
static clFinalizeCommandBufferKHR_fn next_finalize;
static clEnqueueCommandBufferKHR_fn next_enqueue;
static clReleaseCommandBufferKHR_fn next_release;

static cl_command_buffer_khr CL_API_CALL create_commands(cl_uint n, const cl_command_queue *queues,
                                                         const cl_command_buffer_properties_khr *p, cl_int *error) {
    const cl_int e = fault(FN_clCreateCommandBufferKHR);
    if (e) {
        *error = e;
        return NULL;
    }
    const cl_command_buffer_khr made = next_create(n, queues, p, error);
    state.alive += made != NULL;
    return made;
}

static cl_int CL_API_CALL launch_command(cl_command_buffer_khr b, cl_command_queue q,
                                         const cl_ndrange_kernel_command_properties_khr *p, cl_kernel k, cl_uint dims,
                                         const size_t *offset, const size_t *global, const size_t *local, cl_uint n,
                                         const cl_sync_point_khr *list, cl_sync_point_khr *point,
                                         cl_mutable_command_khr *handle) {
    const cl_int e = fault(FN_clCommandNDRangeKernelKHR);
    state.points += n;
    return e ? e : next_launch(b, q, p, k, dims, offset, global, local, n, list, point, handle);
}

static cl_int CL_API_CALL finalize_commands(cl_command_buffer_khr b) {
    const cl_int e = fault(FN_clFinalizeCommandBufferKHR);
    return e ? e : next_finalize(b);
}

static cl_int CL_API_CALL enqueue_commands(cl_uint n_queues, cl_command_queue *queues, cl_command_buffer_khr b,
                                           cl_uint n, const cl_event *list, cl_event *event) {
    cl_int e = fault(FN_clEnqueueCommandBufferKHR);
    if (!e) e = next_enqueue(n_queues, queues, b, n, list, event);
    state.alive += e == CL_SUCCESS && event;
    return e;
}

static cl_int CL_API_CALL release_commands(cl_command_buffer_khr b) {
    state.alive--;
    return next_release(b);
}

void *CL_API_CALL clGetExtensionFunctionAddressForPlatform(cl_platform_id p, const char *name) {
    const struct {
        const char *name;
        void **next;
        void (*ours)(void);
    } known[] = {
        {"clCreateCommandBufferKHR", (void **)&next_create, (void (*)(void))create_commands},
        {"clCommandNDRangeKernelKHR", (void **)&next_launch, (void (*)(void))launch_command},
        {"clFinalizeCommandBufferKHR", (void **)&next_finalize, (void (*)(void))finalize_commands},
        {"clEnqueueCommandBufferKHR", (void **)&next_enqueue, (void (*)(void))enqueue_commands},
        {"clReleaseCommandBufferKHR", (void **)&next_release, (void (*)(void))release_commands},
    };
    void *f = fault(FN_clGetExtensionFunctionAddressForPlatform)
                  ? NULL
                  : NEXT(clGetExtensionFunctionAddressForPlatform)(p, name);
    for (size_t i = 0; f && i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(known[i].name, name) != 0) continue;
        *known[i].next = f;
        memcpy(&f, &known[i].ours, sizeof f);
        break;
    }
    return f;
}
