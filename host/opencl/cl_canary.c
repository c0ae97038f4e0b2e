/* Self-proving dispatch: a variant is trusted on a device when it gives the reference's bytes on small problems. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "opencl/cl_internal.h"

/* Problems for each variant; where it takes any formats, so many for each combination of them, and no fewer than MIXED:
 * such kernels also have more ways to go. One that takes any of a single combination has many functions instead. Seeds
 * are small, for anyone who reads the reason of a refusal. */
enum { CANARIES = 24, EACH_FORMAT = 8, MIXED = 128, FUNCTIONS = 256 };

/* Runs one problem. A status means that the device failed, not the variant. */
static qd_status run_canary(cl_device_state *d, int variant, qd_case *c, bool *different, char *why, size_t capacity) {
    qd_status status = QD_OK;
    QD_TRY(qd_case_upload(c, &qd_backend_opencl, d));
    QD_TRY(cl_node_create(d, &c->node, variant, d->variants[variant].groups, INT64_MAX));
    QD_TRY(qd_backend_opencl.begin(d));
    QD_TRY(cl_node_enqueue(d, &c->node, c->node.max_rows, NULL, 0));
    QD_TRY(qd_case_compare(c, &qd_backend_opencl, d, different, why, capacity));
error:
    cl_node_free(d, &c->node);
    qd_case_unload(c, &qd_backend_opencl, d);
    return status;
}

typedef struct combination {
    qd_format formats[QD_MAX_IN + QD_MAX_OUT];
} combination;

/* Problem i of a variant that takes n combinations of formats in turn, and the circumstances it runs in: plain ones, a
 * single work-item or group that does all the work in turn, weights in several parts, shapes larger than what a kernel
 * takes at once. Each combination meets all circumstances, one after the other. */
static qd_status make_canary(cl_device_state *d, const cl_variant *v, const combination *all, int n, int i,
                             qd_case *c) {
    enum { TRIES = 100, NEXT_SEED = 1000 };
    /* Kernels for GPUs, and by AMX, take many rows another way; those for codings long ones, of A8 and of floats. */
    const bool other_way = cl_variant_home(v) == CL_HOME_GPU || v->needs == CL_NEEDS_X86_AMX;
    const bool many = v->op == QD_OP_MATMUL_CODED
                          ? i < CANARIES && i % 4 >= 2
                          : other_way && i < 2 * CANARIES && i % 5 == 3; /* 5: of any combinations */
    const int size = i == 11 || many ? 6 : i == 10 ? 3 : i % 8 == 7 ? 2 : 1, circumstance = (i % n + i / n) % 4;
    for (int t = 0;; t++) {
        const qd_status status =
            qd_case_make(v->op, all[i % n].formats, (uint64_t)(i + 1 + t * NEXT_SEED), size, NULL, 0, c);
        if (status) return status;
        /* Other layouts than the file's are only for constants. */
        qd_tensor *w = &c->tensors[0];
        if (v->layout != QD_LAYOUT_ROWS && !w->constant) w->constant = c->data[0];
        if (cl_variant_fits(v, &c->node)) break;
        qd_case_free(c);
        if (t == TRIES) return qd_fail(QD_ERR_UNSUPPORTED, "%s: no random problem is one for it", v->name);
    }
    d->canary_single = circumstance == 0;
    d->canary_rows = circumstance == 1 || circumstance == 2 ? 5 : 0; /* odd: neighbouring rows change places, too */
    return QD_OK;
}

/* The combinations that a variant takes, to be freed. */
static qd_status find_combinations(const cl_variant *v, combination **out, int *count) {
    combination *all = NULL;
    int n = 0;
    combination next;
    for (int index = 0; qd_case_formats(v->op, index, next.formats); index++) {
        if (!cl_variant_takes(v, next.formats, next.formats[QD_MAX_IN])) continue;
        combination *grown = qd_realloc(all, (size_t)(n + 1) * sizeof *grown);
        if (!grown) {
            free(all);
            return QD_ERR_MEMORY;
        }
        all = grown;
        all[n++] = next;
    }
    *out = all;
    *count = n;
    return n ? QD_OK : qd_fail(QD_ERR_UNSUPPORTED, "%s: its formats are none that its operator takes", v->name);
}

/* Tries a variant whose program is built. *verdict is set when QD_OK is returned; *lasting: it may be kept on disk. */
static qd_status try_variant(cl_device_state *d, int variant, cl_verdict *verdict, bool *lasting) {
    const cl_variant *v = &d->variants[variant];
    cl_proof *proof = &d->proofs[variant];
    combination *all;
    int n;
    qd_status status = find_combinations(v, &all, &n);
    if (status) return status;
    const bool any = v->in0 == CL_TAKES_ANY;
    const int one = any ? FUNCTIONS : CANARIES, several = n * EACH_FORMAT > MIXED ? n * EACH_FORMAT : MIXED;
    const int problems = n == 1 ? one : several;
    bool different = false;
    for (int i = 0; i < problems && !different && !status; i++) {
        qd_case c;
        status = make_canary(d, v, all, n, i, &c);
        if (!status) {
            status = run_canary(d, variant, &c, &different, proof->why, sizeof proof->why);
            qd_case_free(&c);
        }
        d->canary_single = false;
        d->canary_rows = 0;
        if (status == QD_ERR_DEVICE) {
            /* The driver refused this kernel: not to be used now, but perhaps the driver was short of something. */
            snprintf(proof->why, sizeof proof->why, "%.250s", qd_last_message());
            *lasting = false;
            different = true;
            status = QD_OK;
        }
    }
    free(all);
    *verdict = different ? CL_FAILED : CL_PASSED;
    return status;
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

__attribute__((format(printf, 2, 3))) static void log_line(const cl_device_state *d, const char *format, ...) {
    char line[512];
    va_list args;
    if (!d->options.log) return;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    d->options.log(d->options.log_user, line);
}

static bool load(cl_device_state *d, const char *key, cl_proof *proof, cl_verdict *verdict) {
    const double start = seconds();
    const bool known = cl_cache_load(d, key, verdict, &proof->program, proof->why, sizeof proof->why);
    proof->load_seconds += seconds() - start;
    return known;
}

/* Of a kernel that a file brings: nothing is compiled, and no verdict is kept. */
static qd_status prove_binary(cl_device_state *d, int variant) {
    cl_proof *proof = &d->proofs[variant];
    cl_verdict verdict = CL_UNAVAILABLE;
    bool lasting;
    qd_status status = QD_OK;
    const bool taken = cl_binary_take(d, &d->variants[variant], proof);
    if (taken && d->options.unproven) {
        verdict = CL_PASSED;
    } else if (taken) {
        const double start = seconds();
        d->canary_depth++;
        status = try_variant(d, variant, &verdict, &lasting);
        d->canary_depth--;
        proof->canary_seconds = seconds() - start;
    }
    proof->verdict = status ? CL_UNTRIED : verdict;
    if (proof->verdict != CL_PASSED && proof->program) {
        clReleaseProgram(proof->program);
        proof->program = NULL;
    }
    return status;
}

qd_status cl_variant_prove(cl_device_state *d, int variant) {
    const cl_variant *v = &d->variants[variant];
    cl_proof *proof = &d->proofs[variant];
    if (proof->verdict != CL_UNTRIED) return QD_OK;
    qd_status status = cl_alive(d);
    if (status) return status;
    if (d->binary) return prove_binary(d, variant);
    const char *missing = NULL;
    if (!cl_device_has(d, v->needs, &missing)) {
        proof->verdict = CL_UNAVAILABLE;
        snprintf(proof->why, sizeof proof->why, "%s", missing);
        return QD_OK;
    }
    char key[65];
    char *source = NULL;
    status = cl_program_key(d, v, key, &source);
    if (status) return status;
    cl_verdict verdict = CL_UNTRIED;
    bool lasting = !d->options.unproven;
    if (lasting && load(d, key, proof, &verdict)) goto done;
    cl_attempt attempt;
    const int deaths = cl_attempt_begin(d, key, &attempt);
    if (lasting && load(d, key, proof, &verdict)) { /* by another process */
        cl_attempt_end(&attempt, false);
        goto done;
    }
    if (deaths >= CL_DEATHS) {
        verdict = CL_FAILED;
        snprintf(proof->why, sizeof proof->why,
                 "%d programs ended while it was compiled or proven; to try it again, remove %.160s", deaths,
                 attempt.path);
        cl_attempt_end(&attempt, true);
        goto done;
    }
    verdict = CL_UNTRIED;
    log_line(d, "building %s%s on %s%s%s", d->options.unproven ? "" : "and proving ", v->name, d->info.name,
             variant < cl_variant_count ? "" : " with ", variant < cl_variant_count ? "" : v->options);
    d->canary_depth++;
    double start = seconds();
    status = cl_program_build(d, v, source, &proof->program, proof->why, sizeof proof->why);
    proof->build_seconds = seconds() - start;
    if (status == QD_ERR_BUILD) {
        verdict = CL_FAILED;
        status = QD_OK;
    } else if (!status && d->options.unproven) {
        verdict = CL_PASSED;
    } else if (!status) {
        start = seconds();
        status = try_variant(d, variant, &verdict, &lasting);
        proof->canary_seconds = seconds() - start;
    }
    d->canary_depth--;
#ifdef __GLIBC__
    malloc_trim(0); /* what a compiler inside this process took */
#endif
    if (!status && lasting) cl_cache_store(d, key, verdict, proof->program, proof->why);
    cl_attempt_end(&attempt, status == QD_ERR_DEVICE_LOST); /* as bad as a death */
done:
    free(source);
    proof->verdict = status ? CL_UNTRIED : verdict;
    if (proof->verdict != CL_PASSED && proof->program) {
        clReleaseProgram(proof->program);
        proof->program = NULL;
    }
    if (!status && proof->verdict == CL_FAILED)
        log_line(d, "kernel %s is not used on %s: %s", v->name, d->info.name, proof->why);
    return status;
}

/* ---- Chains ------------------------------------------------------------------------------------------------- */

/* One problem of each variant, all in one launch. */
static qd_status run_round(cl_device_state *d, const int functions[], int count, int round, cl_program program,
                           bool *different, char *why, size_t capacity) {
    qd_status status = QD_OK;
    qd_case cases[CL_CHAIN_FUNCTIONS];
    qd_node *nodes[CL_CHAIN_FUNCTIONS] = {NULL};
    cl_chain *chain = NULL;
    int made = 0;
    for (int i = 0; i < count; i++) {
        const cl_variant *v = &d->variants[functions[i]];
        combination *all;
        int n;
        QD_TRY(find_combinations(v, &all, &n));
        status = make_canary(d, v, all, n, round, &cases[i]);
        d->canary_single = false; /* a chain has shares where a launch has groups */
        free(all);
        if (status) goto error;
        made++;
        nodes[i] = &cases[i].node;
        QD_TRY(qd_case_upload(&cases[i], &qd_backend_opencl, d));
        QD_TRY(cl_node_create(d, nodes[i], functions[i], v->groups, INT64_MAX));
    }
    QD_TRY(cl_chain_make(d, nodes, count, functions, count, 1, program, &chain));
    QD_TRY(cl_chain_run(d, chain, 1));
    for (int i = 0; i < count && !*different; i++)
        QD_TRY(qd_case_compare(&cases[i], &qd_backend_opencl, d, different, why, capacity));
error:
    d->canary_single = false;
    d->canary_rows = 0;
    cl_chain_free(d, chain);
    for (int i = 0; i < made; i++) {
        cl_node_free(d, &cases[i].node);
        qd_case_unload(&cases[i], &qd_backend_opencl, d);
        qd_case_free(&cases[i]);
    }
    return status;
}

static qd_status try_chain(cl_device_state *d, const int functions[], int count, cl_proof *proof, cl_verdict *verdict) {
    enum { ROUNDS = 12 };
    bool different = false;
    qd_status status = QD_OK;
    for (int i = 0; i < ROUNDS && !different && !status; i++)
        status = run_round(d, functions, count, i, proof->program, &different, proof->why, sizeof proof->why);
    *verdict = different ? CL_FAILED : CL_PASSED;
    return status;
}

/* Whether this context may have a chain of this kind, or has one already. */
static bool admit_chain(cl_device_state *d, const char key[65]) {
    for (int i = 0; i < d->n_chains; i++) {
        if (!strcmp(d->chains[i], key)) return true;
    }
    if (d->n_chains == CL_CHAIN_KINDS) return false;
    memcpy(d->chains[d->n_chains++], key, sizeof d->chains[0]);
    return true;
}

qd_status cl_chain_prove(cl_device_state *d, const int functions[], int count, cl_program *out) {
    cl_proof proof = {.verdict = CL_UNTRIED};
    cl_verdict verdict = CL_UNTRIED;
    cl_attempt attempt;
    char key[65];
    qd_status status = cl_chain_key(d, functions, count, key);
    if (status) return status;
    if (!admit_chain(d, key)) return qd_fail(QD_ERR_UNSUPPORTED, "the context has enough kinds of chains");
    if (!load(d, key, &proof, &verdict)) {
        const int deaths = cl_attempt_begin(d, key, &attempt);
        if (!load(d, key, &proof, &verdict)) {
            d->canary_depth++;
            verdict = CL_FAILED;
            if (deaths >= CL_DEATHS) {
                snprintf(proof.why, sizeof proof.why, "%d programs ended while they compiled or proved it", deaths);
            } else {
                log_line(d, "building and proving a chain of %d kernels on %s", count, d->info.name);
                status = cl_chain_build(d, functions, count, &proof.program);
                if (!status) status = try_chain(d, functions, count, &proof, &verdict);
                if (status == QD_ERR_BUILD || status == QD_ERR_DEVICE)
                    snprintf(proof.why, sizeof proof.why, "%.250s", qd_last_message());
                if (status == QD_ERR_BUILD) status = QD_OK;
                if (!status) cl_cache_store(d, key, verdict, proof.program, proof.why);
            }
            d->canary_depth--;
        }
        cl_attempt_end(&attempt, status == QD_ERR_DEVICE_LOST || deaths >= CL_DEATHS);
    }
    if (status == QD_ERR_DEVICE) { /* not to be used now, but perhaps the driver was short of something */
        verdict = CL_FAILED;
        status = QD_OK;
    }
    if (!status && verdict == CL_PASSED) {
        *out = proof.program;
        return QD_OK;
    }
    if (proof.program) clReleaseProgram(proof.program);
    if (status) return status;
    log_line(d, "operators are not chained on %s: %s", d->info.name, proof.why);
    return qd_fail(QD_ERR_UNSUPPORTED, "%s", proof.why);
}
