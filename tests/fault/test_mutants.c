/* Each row of mutants.def: a kernel that is wrong in one place is refused before its first use, for a reason that names
 * the difference; a right one takes its place, and every result has the reference's bytes.
 *
 * fault_test_mutants [PART/PARTS | WORD]: only that part of the rows, or those that WORD is in. */
#include "core/context.h"
#include "core/verify.h"
#include "fault/cache_folder.h"
#include "opencl/cl_internal.h"

static const struct mutant {
    const char *what;
    qd_op op;
    const char *formats, *variant, *with, *from, *to;
} mutants[] = {
#define MUTANT(what, op, formats, variant, with, from, to) {what, QD_OP_##op, formats, variant, with, from, to},
#include "fault/mutants.def"
};
enum {
    MUTANTS = sizeof mutants / sizeof mutants[0],
    TOGETHER = 8,    /* rows in one process */
    CASES = 6,       /* random problems that must be right whatever the kernel is */
    MORE_CASES = 300 /* to tell whether a mutant that was not refused is wrong at all */
};

static int selected[MUTANTS], n_selected;

/* ---- Devices ------------------------------------------------------------------------------------------------ */

static qd_device_info *devices;
static int n_devices;

static bool is_opencl(const qd_device_info *info) {
    return info->usable && !strncmp(info->id, "opencl", 6);
}

/* A context on each device, open beside those of the mutants: PoCL keeps its library of built-in functions as long as
 * it has one, and to read that library is half of what a build takes. */
static qd_context **keep_open(void) {
    qd_context **kept = calloc((size_t)n_devices + 1, sizeof *kept);
    ck_assert_ptr_nonnull(kept);
    for (int i = 0; i < n_devices; i++) {
        if (is_opencl(&devices[i])) ck_ok(qd_context_create(devices[i].id, NULL, &kept[i]));
    }
    return kept;
}

static int find_variant(const char *name) {
    for (int i = 0; i < cl_variant_count; i++) {
        if (!strcmp(cl_variants[i].name, name)) return i;
    }
    ck_abort_msg("kernels.def has no %s any more", name);
}

/* ---- Problems ----------------------------------------------------------------------------------------------- */

/* Combination `index`, modulo their number, of those whose description begins with the row's formats. */
static void nth_formats(const struct mutant *m, int index, qd_format formats[QD_MAX_IN + QD_MAX_OUT]) {
    int n = 0;
    for (int turn = 0; turn < 2; turn++) {
        const int wanted = turn ? index % n : -1;
        n = 0;
        for (int i = 0; qd_case_formats(m->op, i, formats); i++) {
            char text[128];
            qd_formats_describe(formats, text, sizeof text);
            if (strncmp(text, m->formats, strlen(m->formats)) != 0) continue;
            if (n++ == wanted) return;
        }
        ck_assert_msg(n > 0, "%s: the operator has no formats \"%s\" any more", m->what, m->formats);
    }
}

/* Runs a number of problems; returns how many differ. `first` says where; the mutated variant may run only where
 * `allowed`. */
static int run_cases(qd_context *c, const struct mutant *m, int count, bool allowed, char first[300]) {
    int different = 0;
    first[0] = 0;
    for (int i = 0; i < count; i++) {
        qd_format formats[QD_MAX_IN + QD_MAX_OUT];
        char variant[64], why[300] = "";
        bool differs;
        qd_case x;
        nth_formats(m, 7 * i, formats);
        ck_ok(qd_case_make(m->op, formats, 1000 + (uint64_t)i, i % 8 == 7 ? 6 : i % 8 == 5 ? 3 : 1, NULL, 0, &x));
        ck_ok(qd_case_run(c, &x, variant, sizeof variant, &differs, why, sizeof why));
        qd_case_free(&x);
        if (differs && !different++) memcpy(first, why, sizeof why);
        ck_assert_msg(allowed || strcmp(variant, m->variant) != 0, "%s: %s ran", m->what, variant);
    }
    return different;
}

/* ---- One row ------------------------------------------------------------------------------------------------ */

/* The row on one device. False: its variant needs what this device lacks. Problems are printed and counted. */
static bool try_mutant(const struct mutant *m, const char *device, bool again, int *problems) {
    log_text log = {.used = 0};
    const qd_context_options options = {.cache_dir = cache, .log = collect_log, .log_user = &log};
    const int variant = find_variant(m->variant);
    const char *op = qd_op_get(m->op)->name;
    qd_context *c;
    char first[300];
    const long alive = inject_alive();
    inject_clear();
    inject_source(m->with, m->from, m->to);
    ck_ok(qd_context_create(device, &options, &c));
    cl_device_state *d = c->device;
    const char *missing = NULL;
    if (!cl_device_has(d, cl_variants[variant].needs, &missing)) {
        qd_context_free(c);
        return false;
    }
    ck_ok(cl_variant_prove(d, variant));
    const cl_proof *proof = &d->proofs[variant];
    if (!inject_happened()) {
        printf("FAILED  %s: %s: no program has \"%s\" any more; mend mutants.def\n", op, m->what, m->from);
        ++*problems;
    } else if (proof->verdict == CL_PASSED) {
        const int different = run_cases(c, m, MORE_CASES, true, first);
        printf("FAILED  %s: %s: not refused; %d of %d other problems differ: %s\n", op, m->what, different, MORE_CASES,
               first);
        ++*problems;
    } else if (!strstr(proof->why, "where the reference has")) {
        printf("FAILED  %s: %s: refused for another reason: %s\n", op, m->what, proof->why);
        ++*problems;
    } else {
        printf("refused %s: %s: %s\n", op, m->what, proof->why);
        const int different = run_cases(c, m, CASES, false, first);
        if (different) printf("FAILED  %s: %s: results differ: %s\n", op, m->what, first);
        *problems += different > 0;
    }
    const bool refused = proof->verdict == CL_FAILED;
    qd_context_free(c);
    ck_assert_int_eq(inject_alive(), alive);
    inject_clear();
    if (!again || !refused) return true;
    /* The verdict lasts, although the driver is right by now. */
    log.used = 0;
    log.text[0] = 0;
    ck_ok(qd_context_create(device, &options, &c));
    d = c->device;
    ck_ok(cl_variant_prove(d, variant));
    ck_assert_int_eq(d->proofs[variant].verdict, CL_FAILED);
    ck_assert_ptr_null(strstr(log.text, "building and proving"));
    ck_assert_int_eq(run_cases(c, m, CASES, false, first), 0);
    qd_context_free(c);
    return true;
}

START_TEST(test_mutants) {
    int problems = 0;
    if (!have_opencl()) return;
    ck_ok(qd_devices_list(&devices, &n_devices));
    qd_context **kept = keep_open();
    for (int i = _i * TOGETHER; i < n_selected && i < (_i + 1) * TOGETHER; i++) {
        const struct mutant *m = &mutants[selected[i]];
        bool tried = false;
        for (int k = 0; k < n_devices && !tried; k++) {
            if (!is_opencl(&devices[k])) continue;
            make_cache();
            tried = try_mutant(m, devices[k].id, selected[i] % 16 == 0, &problems);
            remove_cache();
        }
        if (!tried)
            printf("skipped %s: %s: no device here has what %s needs\n", qd_op_get(m->op)->name, m->what, m->variant);
        fflush(stdout);
    }
    for (int k = 0; k < n_devices; k++)
        qd_context_free(kept[k]);
    free(kept);
    qd_devices_free(devices);
    ck_assert_msg(problems == 0, "%d problems, see above", problems);
}
END_TEST

static void select_rows(const char *word) {
    int part, parts;
    const bool by_part = word && sscanf(word, "%d/%d", &part, &parts) == 2;
    for (int i = 0; i < MUTANTS; i++) {
        const struct mutant *m = &mutants[i];
        const char *const texts[] = {m->what, m->variant, m->with, qd_op_get(m->op)->name};
        bool wanted = !word;
        if (by_part) wanted = i / TOGETHER % parts == part;
        for (int k = 0; word && !by_part && k < 4; k++)
            wanted = wanted || strstr(texts[k], word);
        if (wanted) selected[n_selected++] = i;
    }
}

int main(int argc, char **argv) {
    select_rows(argc > 1 ? argv[1] : NULL);
    printf("%d of %d mutants\n", n_selected, MUTANTS);
    fflush(stdout);
    TCase *tc = tcase_create("mutants");
    tcase_add_loop_test(tc, test_mutants, 0, (n_selected + TOGETHER - 1) / TOGETHER);
    return run_tests(tc, "mutants");
}
