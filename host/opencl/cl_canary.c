/* Self-proving dispatch: a variant is trusted on a device when it gives the reference's bytes on small problems. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "opencl/cl_internal.h"

/* Problems for each variant. Small seeds, found again by anyone who reads the reason of a refusal. */
enum { CANARIES = 8 };

/* Runs one problem. A status means that the device failed, not the variant. */
static qd_status run_canary(cl_device_state *d, int variant, qd_case *c, bool *different, char *why, size_t capacity) {
    qd_status status = QD_OK;
    QD_TRY(qd_case_upload(c, &qd_backend_opencl, d));
    QD_TRY(cl_node_create(d, &c->node, variant));
    QD_TRY(qd_backend_opencl.begin(d));
    QD_TRY(cl_node_enqueue(d, &c->node, c->node.max_rows, NULL, 0));
    QD_TRY(qd_case_compare(c, &qd_backend_opencl, d, different, why, capacity));
error:
    cl_node_free(d, &c->node);
    qd_case_unload(c, &qd_backend_opencl, d);
    return status;
}

static bool formats_match(const cl_variant *v, const qd_format formats[]) {
    const qd_format have[] = {formats[0], formats[1], formats[QD_MAX_IN]}, want[] = {v->in0, v->in1, v->out};
    for (int i = 0; i < 3; i++) {
        if (want[i] != QD_FORMAT_COUNT && want[i] != have[i]) return false;
    }
    return true;
}

/* The verdict of a variant whose program is built. */
static qd_status try_variant(cl_device_state *d, int variant) {
    const cl_variant *v = &cl_variants[variant];
    cl_proof *proof = &d->proofs[variant];
    qd_format formats[QD_MAX_IN + QD_MAX_OUT];
    int combination = 0;
    while (qd_case_formats(v->op, combination, formats) && !formats_match(v, formats))
        combination++;
    proof->verdict = CL_PASSED;
    for (uint64_t seed = 1; seed <= CANARIES && proof->verdict == CL_PASSED; seed++) {
        qd_case c;
        bool different = false;
        qd_status status = qd_case_make(v->op, formats, seed, seed == CANARIES ? 3 : 1, &c);
        if (status) return status;
        status = run_canary(d, variant, &c, &different, proof->why, sizeof proof->why);
        qd_case_free(&c);
        if (status == QD_ERR_DEVICE) {
            /* The driver refused this kernel: its fault, as a wrong byte would be. */
            snprintf(proof->why, sizeof proof->why, "%.250s", qd_last_message());
            different = true;
        } else if (status) {
            proof->verdict = CL_UNTRIED;
            return status;
        }
        if (different) proof->verdict = CL_FAILED;
    }
    return QD_OK;
}

qd_status cl_variant_prove(cl_device_state *d, int variant) {
    const cl_variant *v = &cl_variants[variant];
    cl_proof *proof = &d->proofs[variant];
    if (proof->verdict != CL_UNTRIED) return QD_OK;
    const char *missing = NULL;
    if (!cl_device_has(d, v->needs, &missing)) {
        proof->verdict = CL_UNAVAILABLE;
        snprintf(proof->why, sizeof proof->why, "%s", missing);
        return QD_OK;
    }
    char key[65];
    char *source = NULL;
    qd_status status = cl_program_key(d, v, key, &source);
    if (status) return status;
    if (cl_cache_load(d, key, &proof->verdict, &proof->program, proof->why, sizeof proof->why)) goto done;
    if (d->options.log) {
        char line[160];
        snprintf(line, sizeof line, "building and proving %s on %s", v->name, d->info.name);
        d->options.log(d->options.log_user, line);
    }
    d->canary_depth++;
    status = cl_program_build(d, v, source, &proof->program, proof->why, sizeof proof->why);
    if (status == QD_ERR_BUILD) {
        proof->verdict = CL_FAILED;
        status = QD_OK;
    } else if (!status) {
        status = try_variant(d, variant);
    }
    d->canary_depth--;
    if (!status) cl_cache_store(d, key, proof->verdict, proof->program, proof->why);
done:
    free(source);
    if (proof->verdict != CL_PASSED && proof->program) {
        clReleaseProgram(proof->program);
        proof->program = NULL;
    }
    if (!status && proof->verdict == CL_FAILED && d->options.log) {
        char line[512];
        snprintf(line, sizeof line, "kernel %s is not used on %s: %s", v->name, d->info.name, proof->why);
        d->options.log(d->options.log_user, line);
    }
    return status;
}
