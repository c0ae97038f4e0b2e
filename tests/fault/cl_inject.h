/* Faults in OpenCL: the functions that the backend calls are defined in cl_inject.c, ahead of the loader's, and forward
 * to it unless a test asked for a failure. They also count the objects that are alive. */
#ifndef QDOT_TEST_CL_INJECT_H
#define QDOT_TEST_CL_INJECT_H

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <CL/cl_ext.h>
#include <stdbool.h>

/** Functions that can be made to fail. */
typedef enum cl_function {
#define CL_FUNCTION(name) FN_##name,
#include "fault/cl_functions.def"
    CL_FUNCTIONS
} cl_function;

extern const char *const cl_function_names[CL_FUNCTIONS];

/** Call number `n` of `fn` (0 is the next one; CL_FUNCTIONS: of any function) returns `error`; and all later ones when
 *  `forever`. Replaces what was asked for before. */
void inject_failure(cl_function fn, long n, cl_int error, bool forever);
/** Sources given to the compiler that contain `with` get every `from` in them replaced by `to`. */
void inject_source(const char *with, const char *from, const char *to);
/** Call number `n` of `fn` first calls `f(user)`, which may end the process, or wait. */
void inject_hook(cl_function fn, long n, void (*f)(void *user), void *user);
/** What devices say their driver's version is; NULL: the truth. */
void inject_driver(const char *version);
/** All devices say that they are accelerators: cards. */
void inject_card(bool card);
/** Call number `n` of clEnqueueNDRangeKernel succeeds, but the kernel does not start before inject_open_gate. */
void inject_gate(long n);
/** Lets it start. False: no kernel waits, or it was let go before. */
bool inject_open_gate(void);
/** From now on each kernel and transfer starts late, and each call takes longer: by up to so many microseconds, at
 * random. */
void inject_delays(unsigned most);
/** One bit of what each of the next `n` reads brings is wrong. */
void inject_wrong_reads(long n);
/** No more faults, no kernel waits; counts start at zero again. */
void inject_clear(void);

/** Calls since inject_clear; CL_FUNCTIONS: of all functions together. */
long inject_calls(cl_function fn);
/** True when a fault has been made since it was asked for. */
bool inject_happened(void);
/** Banks that buffers were asked for since inject_clear: 1 << bank each. */
unsigned inject_banks(void);
/** Launches that those recorded in command buffers since inject_clear wait for. */
long inject_points(void);
/** OpenCL objects that were created and not yet released. */
long inject_alive(void);

#endif
