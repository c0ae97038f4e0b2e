/* Features beyond OpenCL 1.2: a device has one when its driver reports it and gpu/probe.cl gives the right words there.
 *
 * Probed when a variant first asks, once for each context; what came out is kept on disk like a variant's verdict. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "opencl/cl_internal.h"
#include "qdot/qdot_num.h"

/* Of OpenCL 2.1, which CL_TARGET_OPENCL_VERSION leaves out. */
#define CL_DEVICE_MAX_NUM_SUB_GROUPS_2_1 0x105C

enum { ITEMS = 64, IN = 2 * ITEMS, OUT = 4 * ITEMS };

/* ---- What the driver reports -------------------------------------------------------------------------------- */

static bool has_word(const char *text, const char *word) {
    const size_t n = strlen(word);
    for (const char *p = text; (p = strstr(p, word)); p += n) {
        if ((p == text || p[-1] == ' ') && (p[n] == ' ' || !p[n])) return true;
    }
    return false;
}

unsigned cl_features_reported(cl_device_id id) {
    size_t bytes = 0;
    unsigned found = 0;
    if (clGetDeviceInfo(id, CL_DEVICE_EXTENSIONS, 0, NULL, &bytes) != CL_SUCCESS || !bytes) return 0;
    char *list = calloc(1, bytes + 1);
    if (list && clGetDeviceInfo(id, CL_DEVICE_EXTENSIONS, bytes, list, NULL) == CL_SUCCESS) {
        cl_uint groups = 0; /* stays 0 on devices older than the question */
        clGetDeviceInfo(id, CL_DEVICE_MAX_NUM_SUB_GROUPS_2_1, sizeof groups, &groups, NULL);
        if (has_word(list, "cl_intel_channels")) found |= 1u << CL_NEEDS_CHANNELS;
        if (has_word(list, "cl_khr_command_buffer")) found |= 1u << CL_NEEDS_COMMAND_BUFFERS;
        if (has_word(list, "cl_khr_fp16")) found |= 1u << CL_NEEDS_FP16;
        if (has_word(list, "cl_khr_integer_dot_product")) found |= 1u << CL_NEEDS_INTEGER_DOT;
        /* Only NVIDIA's compilers read PTX; another may end the process over it. */
        if (has_word(list, "cl_nv_device_attribute_query")) found |= 1u << CL_NEEDS_NV_DP4A;
        if (groups || has_word(list, "cl_khr_subgroups")) found |= 1u << CL_NEEDS_SUBGROUPS;
    }
    free(list);
    return found;
}

/* ---- The problem and its answers ---------------------------------------------------------------------------- */

/* Words whose bytes and halves are all kinds of numbers; no half in them is a NaN, whose bits a device may change. */
static void make_words(cl_uint x[IN]) {
    uint32_t state = 1;
    for (int i = 0; i < IN; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (state >> 16 | state << 16) & 0xfbfffbffu;
    }
    x[0] = 0x80008080u;
    x[1] = 0x7c00fc00u; /* infinities */
}

static cl_uint dot(cl_uint a, cl_uint b, bool a_signed, bool b_signed) {
    int32_t sum = 0;
    for (int i = 0; i < 32; i += 8) {
        const int32_t x = (int32_t)(a >> i & 255u), y = (int32_t)(b >> i & 255u);
        sum += (a_signed && x > 127 ? x - 256 : x) * (b_signed && y > 127 ? y - 256 : y);
    }
    return (cl_uint)sum;
}

static bool fp16_right(const cl_uint x[IN], const cl_uint y[OUT]) {
    for (int i = 0; i < OUT; i++) {
        if (y[i] != qd_as_u32(qd_half_to_float((qd_u16)(x[i / 2] >> i % 2 * 16)))) return false;
    }
    return true;
}

static bool integer_dot_right(const cl_uint x[IN], const cl_uint y[OUT]) {
    for (int i = 0; i < ITEMS; i++) {
        const cl_uint a = x[2 * i], b = x[2 * i + 1], *got = y + 4 * i;
        if (got[0] != dot(a, b, true, true) || got[1] != dot(a, b, false, false) || got[2] != dot(a, b, false, true) ||
            got[3] != dot(a, b, true, false)) {
            return false;
        }
    }
    return true;
}

/* y tells each work-item's sub-group and place in it: the places must be 0 … size-1, the sum and the last member's word
 * those of the members. */
static bool subgroups_right(const cl_uint x[IN], const cl_uint y[OUT]) {
    for (int i = 0; i < ITEMS; i++) {
        cl_uint size = 0, sum = 0, last = 0;
        uint64_t places = 0;
        for (int j = 0; j < ITEMS; j++) {
            if (y[4 * j] != y[4 * i]) continue;
            if (y[4 * j + 1] >= ITEMS) return false;
            places |= (uint64_t)1 << y[4 * j + 1];
            sum += x[2 * j];
            size++;
        }
        if (places != ~(uint64_t)0 >> (64 - size)) return false;
        for (int j = 0; j < ITEMS; j++) {
            if (y[4 * j] == y[4 * i] && y[4 * j + 1] == size - 1) last = x[2 * j + 1];
        }
        if (y[4 * i + 2] != sum || y[4 * i + 3] != last) return false;
    }
    return true;
}

/* Each of four launches makes 3 y + a of y, or 3 y + b. */
static bool commands_right(const cl_uint x[IN], const cl_uint y[OUT]) {
    for (int i = 0; i < OUT; i++) {
        const cl_uint a = x[i / 4 * 2], b = ~a;
        if (y[i] != 27 * a + 9 * b + 3 * a + b) return false;
    }
    return true;
}

/* ---- Probing ------------------------------------------------------------------------------------------------ */

#define PROBE(name, need, options)                                                                           \
    {                                                                                                        \
        name, QD_OP_COUNT, QD_FORMAT_COUNT, QD_FORMAT_COUNT, QD_FORMAT_COUNT, "gpu/probe.cl", options, need, \
            QD_LAYOUT_ROWS, 1                                                                                \
    }

static const struct feature {
    cl_needs need;
    const char *what;
    cl_variant program;
    bool (*right)(const cl_uint x[IN], const cl_uint y[OUT]);
    bool recorded; /* the kernel runs in a command buffer */
} features[] = {
    {CL_NEEDS_FP16, "halves", PROBE("probe_fp16", CL_NEEDS_FP16, "-DQD_PROBE_FP16"), fp16_right, false},
    {CL_NEEDS_SUBGROUPS, "sub-groups", PROBE("probe_subgroups", CL_NEEDS_SUBGROUPS, "-DQD_PROBE_SUBGROUPS"),
     subgroups_right, false},
    {CL_NEEDS_INTEGER_DOT, "the packed dot product",
     PROBE("probe_integer_dot", CL_NEEDS_INTEGER_DOT, "-DQD_PROBE_INTEGER_DOT -DQD_DOT_KHR"), integer_dot_right, false},
    {CL_NEEDS_NV_DP4A, "a device of NVIDIA, for inline PTX",
     PROBE("probe_nv_dp4a", CL_NEEDS_NV_DP4A, "-DQD_PROBE_INTEGER_DOT -DQD_DOT_PTX"), integer_dot_right, false},
    {CL_NEEDS_COMMAND_BUFFERS, "command buffers",
     PROBE("probe_command_buffers", CL_NEEDS_COMMAND_BUFFERS, "-DQD_PROBE_COMMAND_BUFFERS"), commands_right, true},
};

static qd_status run_probe(cl_device_state *d, const struct feature *f, cl_program program, const cl_uint x[IN],
                           cl_uint y[OUT]) {
    qd_status status = QD_OK;
    const size_t items = ITEMS;
    cl_int e;
    cl_mem out = NULL, in[2] = {NULL, NULL}; /* x, and its complement */
    cl_kernel kernels[2] = {NULL, NULL};
    for (int i = 0; i < 2; i++) {
        cl_uint words[IN];
        for (int k = 0; k < IN; k++)
            words[k] = i ? ~x[k] : x[k];
        in[i] = clCreateBuffer(d->context, CL_MEM_READ_ONLY, sizeof words, NULL, &e);
        CL_TRY(d, e, "allocating a buffer");
        CL_TRY(d, clEnqueueWriteBuffer(d->queue, in[i], CL_TRUE, 0, sizeof words, words, 0, NULL, NULL),
               "writing a buffer");
    }
    out = clCreateBuffer(d->context, CL_MEM_READ_WRITE, OUT * sizeof *y, NULL, &e);
    CL_TRY(d, e, "allocating a buffer");
    for (int i = 0; i < 2; i++) {
        kernels[i] = clCreateKernel(program, "probe", &e);
        CL_TRY(d, e, "creating a kernel");
        CL_TRY(d, clSetKernelArg(kernels[i], 0, sizeof in[i], &in[i]), "setting a kernel's arguments");
        CL_TRY(d, clSetKernelArg(kernels[i], 1, sizeof out, &out), "setting a kernel's arguments");
    }
    if (f->recorded) {
        CL_TRY(d, clEnqueueWriteBuffer(d->queue, out, CL_TRUE, 0, OUT * sizeof *y, y, 0, NULL, NULL),
               "writing a buffer");
        QD_TRY(cl_recording_probe(d, kernels));
    } else {
        CL_TRY(d, clEnqueueNDRangeKernel(d->queue, kernels[0], 1, NULL, &items, &items, 0, NULL, NULL),
               "starting a kernel");
        CL_TRY(d, clFinish(d->queue), "waiting for the device");
    }
    CL_TRY(d, clEnqueueReadBuffer(d->queue, out, CL_TRUE, 0, OUT * sizeof *y, y, 0, NULL, NULL), "reading a buffer");
error:
    if (out) clReleaseMemObject(out);
    for (int i = 0; i < 2; i++) {
        if (kernels[i]) clReleaseKernel(kernels[i]);
        if (in[i]) clReleaseMemObject(in[i]);
    }
    return status;
}

/* Builds and runs the program; the verdict and its reason go to *proof. A status is a failure of the device, not of the
 * feature. */
static qd_status try_feature(cl_device_state *d, const struct feature *f, const char *source, cl_proof *proof) {
    char why[160] = "";
    cl_uint x[IN], y[OUT] = {0};
    qd_status status = cl_program_build(d, &f->program, source, &proof->program, why, sizeof why);
    proof->verdict = CL_FAILED;
    if (status == QD_ERR_BUILD) {
        snprintf(proof->why, sizeof proof->why, "the driver reports %s, but does not build the probe: %s", f->what,
                 why);
        return QD_OK;
    }
    if (status) return status;
    make_words(x);
    status = run_probe(d, f, proof->program, x, y);
    if (status) return status;
    if (f->right(x, y)) {
        proof->verdict = CL_PASSED;
    } else {
        snprintf(proof->why, sizeof proof->why, "the driver reports %s, but the probe's results are wrong", f->what);
    }
    return QD_OK;
}

static qd_status probe(cl_device_state *d, const struct feature *f, cl_proof *proof) {
    char key[65];
    char *source = NULL;
    cl_verdict known = CL_UNTRIED;
    if (!(d->reported & 1u << f->need)) {
        proof->verdict = CL_FAILED;
        snprintf(proof->why, sizeof proof->why, "the driver does not report %s", f->what);
        return QD_OK;
    }
    qd_status status = cl_program_key(d, &f->program, key, &source);
    if (status) return status;
    if (cl_cache_load(d, key, &known, &proof->program, proof->why, sizeof proof->why)) {
        proof->verdict = known;
    } else {
        status = try_feature(d, f, source, proof);
        if (!status) cl_cache_store(d, key, proof->verdict, proof->program, proof->why);
    }
    free(source);
    if (proof->program) clReleaseProgram(proof->program);
    proof->program = NULL;
    return status;
}

bool cl_feature_has(cl_device_state *d, cl_needs need, const char **why) {
    cl_proof *proof = &d->features[need];
    for (size_t i = 0; proof->verdict == CL_UNTRIED && i < sizeof features / sizeof features[0]; i++) {
        if (features[i].need != need || probe(d, &features[i], proof) == QD_OK) continue;
        proof->verdict = CL_FAILED; /* for this context; nothing was kept on disk */
        snprintf(proof->why, sizeof proof->why, "could not be probed: %.220s", qd_last_message());
    }
    *why = proof->why;
    return proof->verdict == CL_PASSED;
}
