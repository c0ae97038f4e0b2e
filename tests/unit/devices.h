/* What tests that need a device share: opening one, its log, random values, tensors with known bytes. */
#ifndef QDOT_TEST_DEVICES_H
#define QDOT_TEST_DEVICES_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "qdot/qdot.h"

/** Fails the test with the library's message. */
#define ck_ok(call)                                                                                                 \
    do {                                                                                                            \
        const qd_status ck_ok_status = (call);                                                                      \
        ck_assert_msg(ck_ok_status == QD_OK, "%s: %s: %s", #call, qd_status_name(ck_ok_status), qd_last_message()); \
    } while (0)

/** The call must fail with `want` and a message that contains `part`. */
#define ck_fails(call, want, part)                                                                                 \
    do {                                                                                                           \
        qd_fail(QD_OK, "no message");                                                                              \
        const qd_status ck_fails_status = (call);                                                                  \
        ck_assert_msg(ck_fails_status == (want), "%s gave %s, not %s: %s", #call, qd_status_name(ck_fails_status), \
                      qd_status_name(want), qd_last_message());                                                    \
        ck_assert_msg(strstr(qd_last_message(), (part)) != NULL, "%s: \"%s\" does not say \"%s\"", #call,          \
                      qd_last_message(), (part));                                                                  \
    } while (0)

/* ---- Devices ------------------------------------------------------------------------------------------------ */

/** True when there is an OpenCL device. None at all is a failure, unless QDOT_TEST_NO_OPENCL says that it is meant. */
static inline bool have_opencl(void) {
    qd_device_info *devices;
    int count;
    ck_ok(qd_devices_list(&devices, &count));
    int usable = 0;
    for (int i = 0; i < count; i++)
        usable += strncmp(devices[i].id, "opencl", 6) == 0 && devices[i].usable;
    qd_devices_free(devices);
    if (usable) return true;
    ck_assert_msg(getenv("QDOT_TEST_NO_OPENCL") != NULL,
                  "no OpenCL device: install pocl-opencl-icd, or set QDOT_TEST_NO_OPENCL to test without one");
    return false;
}

/** True when PoCL runs on an x86 CPU with AVX2, which chains and the memory of weights need; says so where it does not.
 */
static inline bool have_x86_pocl(void) {
    qd_device_info *devices;
    int count, found = 0;
    ck_ok(qd_devices_list(&devices, &count));
    for (int i = 0; i < count; i++)
        found += devices[i].usable && strstr(devices[i].id, "Portable") && strstr(devices[i].features, "x86-avx2");
    qd_devices_free(devices);
    if (!found) puts("skipped: no PoCL on an x86 CPU with AVX2");
    return found;
}

/** For looped tests: device 0 is the reference, 1 is OpenCL, 2 is OpenCL with an out-of-order queue. NULL when there is
 * none. `options` may be NULL. */
enum { TEST_DEVICES = 3 };
static inline qd_context *open_device(int index, const qd_context_options *options) {
    qd_context_options o = {0};
    if (options) o = *options;
    if (index > 0 && !have_opencl()) return NULL;
    if (index == 1) o.in_order = true;
    if (index == 2) o.out_of_order = true;
    qd_context *c = NULL;
    ck_ok(qd_context_create(index ? "opencl" : "ref", &o, &c));
    return c;
}

/** Collects a context's log; `text` is one line after the other. */
typedef struct log_text {
    char text[16384];
    size_t used;
} log_text;

static inline void collect_log(void *user, const char *line) {
    log_text *l = user;
    const int n = snprintf(l->text + l->used, sizeof l->text - l->used, "%s\n", line);
    if (n > 0 && (size_t)n < sizeof l->text - l->used) l->used += (size_t)n;
}

/* ---- Values ------------------------------------------------------------------------------------------------- */

static inline uint32_t random_bits(uint32_t *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/** low … high */
static inline int64_t random_between(uint32_t *state, int64_t low, int64_t high) {
    return low + (int64_t)(random_bits(state) % (uint32_t)(high - low + 1));
}

/** Multiples of 2^-10 in [-2, 2). */
static inline void random_floats(uint32_t *state, float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((int32_t)(random_bits(state) % 4096u) - 2048) * 0x1p-10f;
}

/** Random bytes of a desc, to be freed: quantized random floats, or zeros for I32. */
static inline void *random_data(uint32_t *state, const qd_tensor_desc *d) {
    const size_t bytes = qd_desc_bytes(d);
    ck_assert_uint_gt(bytes, 0);
    void *data = calloc(1, bytes);
    ck_assert_ptr_nonnull(data);
    if (d->format == QD_FORMAT_I32) return data;
    int64_t rows = 1;
    for (int i = 0; i + 1 < d->rank; i++)
        rows *= d->shape[i];
    const int64_t cols = d->shape[d->rank - 1];
    float *x = malloc((size_t)(rows * cols) * sizeof *x);
    ck_assert_ptr_nonnull(x);
    random_floats(state, x, (size_t)(rows * cols));
    ck_ok(qd_quantize(d->format, x, rows, cols, data));
    free(x);
    return data;
}

/** A tensor on the device with these bytes. */
static inline qd_tensor *tensor_with(qd_context *c, qd_tensor_desc d, const void *data) {
    qd_tensor *t = NULL;
    ck_ok(qd_tensor_create(c, &d, &t));
    ck_ok(qd_tensor_write(t, 0, data, qd_desc_bytes(&d)));
    return t;
}

/** The device's bytes of a tensor must be these. */
static inline void ck_tensor(qd_tensor *t, const void *want, const char *what) {
    const size_t bytes = qd_desc_bytes(qd_tensor_describe(t));
    unsigned char *got = malloc(bytes);
    ck_assert_ptr_nonnull(got);
    ck_ok(qd_tensor_read(t, 0, got, bytes));
    size_t at = 0;
    while (at < bytes && got[at] == ((const unsigned char *)want)[at])
        at++;
    free(got);
    ck_assert_msg(at == bytes, "%s: byte %zu of %zu differs", what, at, bytes);
}

/** Runs a suite of one case; the result is for main to return. */
static inline int run_tests(TCase *tc, const char *name) {
    Suite *suite = suite_create(name);
    tcase_set_timeout(tc, 240);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}

#endif
