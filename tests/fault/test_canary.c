/* Drivers that miscompile: a kernel that gives wrong bytes is refused before its first use, the next variant or the
 * reference takes its place, and the verdict lasts. */
#include <sys/stat.h>

#include "fault/cache_folder.h"

/* One operator on small tensors: what ran, and that its values are the reference's. */
typedef struct outcome {
    char variant[48];
    log_text log;
    int built, refused;
} outcome;

static int count_lines(const char *text, const char *word) {
    int n = 0;
    for (const char *p = text; (p = strstr(p, word)) != NULL; p++)
        n++;
    return n;
}

static outcome run_op(qd_op op, qd_format weights) {
    enum { R = 3, C = 64, N = 20 };
    outcome o = {.variant = ""};
    qd_context_options options = {.cache_dir = cache, .log = collect_log, .log_user = &o.log};
    uint32_t rng = 21;
    const qd_attrs attrs = {.rms_norm = {.epsilon = 1e-5f}};
    const qd_tensor_desc dx = qd_desc(QD_FORMAT_F32, R, C, 0, 0), dq = qd_desc(QD_FORMAT_A8, R, C, 0, 0),
                         dw = op == QD_OP_MATMUL ? qd_desc(weights, N, C, 0, 0) : qd_desc(QD_FORMAT_F32, C, 0, 0, 0);
    void *x = random_data(&rng, &dx), *q = random_data(&rng, &dq), *w = random_data(&rng, &dw), *bytes[2];
    const qd_tensor_desc dy = op == QD_OP_MATMUL ? qd_desc(QD_FORMAT_F32, R, N, 0, 0) : op == QD_OP_QUANTIZE ? dq : dx;
    for (int device = 0; device < 2; device++) {
        qd_context *c;
        ck_ok(qd_context_create(device ? "opencl" : "ref", device ? &options : NULL, &c));
        qd_tensor *tx = tensor_with(c, dx, x), *tq = tensor_with(c, dq, q), *tw, *y;
        ck_ok(qd_tensor_constant(c, &dw, w, &tw));
        ck_ok(qd_tensor_create(c, &dy, &y));
        qd_plan *p;
        qd_tensor *const matmul[] = {tw, tq}, *const norm[] = {tx, tw}, *const add[] = {tx, tx};
        ck_ok(qd_plan_create(c, op, &attrs,
                             op == QD_OP_MATMUL     ? matmul
                             : op == QD_OP_RMS_NORM ? norm
                                                    : add,
                             op == QD_OP_QUANTIZE ? 1 : 2, &y, 1, &p));
        if (device) snprintf(o.variant, sizeof o.variant, "%s", qd_plan_variant(p));
        if (device) inject_wrong_reads(0); /* the values themselves are read rightly */
        ck_ok(qd_plan_run(p));
        bytes[device] = malloc(qd_desc_bytes(&dy));
        ck_assert_ptr_nonnull(bytes[device]);
        ck_ok(qd_tensor_read(y, 0, bytes[device], qd_desc_bytes(&dy)));
        qd_plan_free(p);
        qd_tensor *const all[] = {tx, tq, tw, y};
        for (int i = 0; i < 4; i++)
            qd_tensor_free(all[i]);
        qd_context_free(c);
    }
    ck_assert_msg(!memcmp(bytes[0], bytes[1], qd_desc_bytes(&dy)), "%s gave wrong values; log: %s", o.variant,
                  o.log.text);
    ck_assert_int_eq(inject_alive(), 0);
    void *const all[] = {x, q, w, bytes[0], bytes[1]};
    for (int i = 0; i < 5; i++)
        free(all[i]);
    o.built = count_lines(o.log.text, "building and proving");
    o.refused = count_lines(o.log.text, "is not used on");
    return o;
}

/* ---- Wrong kernels ------------------------------------------------------------------------------------------ */

/* What a broken compiler might make of a kernel. `from` is changed in programs that contain `with`. */
static const struct mistake {
    const char *what;
    qd_op op;
    qd_format weights;
    const char *with, *from, *to;
} mistakes[] = {
    {"another operation", QD_OP_ADD, QD_FORMAT_F32, "__kernel void add", "qd_load16(left + c, n) + ",
     "qd_load16(left + c, n) - "},
    {"a last vector that is lost", QD_OP_ADD, QD_FORMAT_F32, "__kernel void add", "c < end; c += 16",
     "c + 16 <= end; c += 16"},
    {"a result that is not written", QD_OP_ADD, QD_FORMAT_F32, "__kernel void add", "qd_store16(qd_load16",
     "if (c < 0) qd_store16(qd_load16"},
    {"one element too many", QD_OP_ADD, QD_FORMAT_F32, "__kernel void add", "const int n = end - c;",
     "const int n = end - c + 1;"},
    {"an input that is written", QD_OP_ADD, QD_FORMAT_F32, "__kernel void add", "out + c, n);",
     "out + c, n); if (right != out) ((__global float *)right)[c] = 7.0f;"},
    {"a float behind the result", QD_OP_ADD, QD_FORMAT_F32, "__kernel void add", "out + c, n);",
     "out + c, n); if (r == rows - 1 && c + 16 >= cols && y_stride == 4 * (ulong)cols) out[cols] = 7.0f;"},
    {"work of the first work-items only", QD_OP_ADD, QD_FORMAT_F32, "__kernel void add", "u += QD_ITEMS",
     "u += (ulong)1 << 40"},
    {"does not compile", QD_OP_ADD, QD_FORMAT_F32, "__kernel void add", "__kernel void add",
     "no_such_type x; __kernel void add"},
    {"a function that is not there", QD_OP_ADD, QD_FORMAT_F32, "__kernel void add", "__kernel void add",
     "__kernel void other"},
    {"the last bit of a norm", QD_OP_RMS_NORM, QD_FORMAT_F32, "__kernel void rms_norm", "1.0f / ", "0.99999994f / "},
    {"rounding", QD_OP_QUANTIZE, QD_FORMAT_F32, "__kernel void quantize", "(clamped + 12582912.0f) - 12582912.0f",
     "floor(clamped + 0.5f)"},
};
enum { MISTAKES = sizeof mistakes / sizeof mistakes[0] };

static const char *verdict_of(const outcome *o) {
    return strcmp(o->variant, "reference") ? "used" : "refused";
}

START_TEST(test_mistakes) {
    const struct mistake *m = &mistakes[_i];
    if (!have_opencl()) return;
    inject_clear();
    inject_source(m->with, m->from, m->to);
    outcome o = run_op(m->op, m->weights);
    ck_assert_msg(inject_happened(), "%s: the source has no \"%s\" any more; mend this test", m->what, m->from);
    ck_assert_msg(!strcmp(verdict_of(&o), "refused"), "%s: not found", m->what);
    ck_assert_int_eq(o.built, 1);
    ck_assert_int_eq(o.refused, 1);
    ck_assert_msg(strstr(o.log.text, "runs on the reference") != NULL, "%s: %s", m->what, o.log.text);
    inject_clear();
    /* The next start believes the verdict, and says so. A driver's refusal may have been for the moment: tried again.
     */
    const bool lasts = strcmp(m->what, "a function that is not there") != 0;
    o = run_op(m->op, m->weights);
    ck_assert_int_eq(o.built, (lasts ? 0 : 1));
    ck_assert_int_eq(o.refused, (lasts ? 1 : 0));
    ck_assert_str_eq(verdict_of(&o), lasts ? "refused" : "used");
    /* Another cache knows nothing of it. */
    remove_cache();
    make_cache();
    o = run_op(m->op, m->weights);
    ck_assert_str_eq(verdict_of(&o), "used");
    ck_assert_int_eq(o.refused, 0);
}
END_TEST

/* The reason of a refusal says where the bytes differ and how to make the problem again. */
START_TEST(test_reason) {
    if (!have_opencl()) return;
    inject_clear();
    inject_source(mistakes[0].with, mistakes[0].from, mistakes[0].to);
    qd_context_options o = {.cache_dir = cache};
    for (int round = 0; round < 2; round++) {
        qd_context *c;
        qd_kernel_info *k;
        int count, failed = 0;
        ck_ok(qd_context_create("opencl", &o, &c));
        if (round == 0) {
            /* Only this kernel: all of them are for the conformance test. */
            const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 2, 8, 0, 0);
            qd_tensor *t, *y;
            qd_plan *p;
            ck_ok(qd_tensor_create(c, &d, &t));
            ck_ok(qd_tensor_create(c, &d, &y));
            ck_ok(qd_plan_create(c, QD_OP_ADD, NULL, (qd_tensor *[]){t, t}, 2, &y, 1, &p));
            ck_assert_str_eq(qd_plan_variant(p), "reference");
            qd_plan_free(p);
            qd_tensor_free(t);
            qd_tensor_free(y);
        } else {
            /* The others are not built here: only what is on disk counts. */
            inject_failure(FN_clBuildProgram, 0, CL_BUILD_PROGRAM_FAILURE, true);
            ck_ok(qd_context_kernels(c, &k, &count));
            for (int i = 0; i < count; i++) {
                if (strcmp(k[i].op, "add")) continue;
                failed++;
                ck_assert_str_eq(k[i].verdict, "failed");
                ck_assert_msg(strstr(k[i].why, "where the reference has") && strstr(k[i].why, "seed"), "%s", k[i].why);
            }
            qd_kernels_free(k);
            ck_assert_int_eq(failed, 1);
        }
        qd_context_free(c);
    }
}
END_TEST

/* ---- The next variant --------------------------------------------------------------------------------------- */

/* The variants of a matmul here, the most preferred first. */
static int matmul_variants(char names[][48], int capacity) {
    qd_context *c;
    qd_kernel_info *k;
    int count, n = 0;
    qd_context_options o = {.cache_dir = cache};
    ck_ok(qd_context_create("opencl", &o, &c));
    inject_clear();
    inject_failure(FN_clBuildProgram, 0, CL_BUILD_PROGRAM_FAILURE, true); /* names are all that is wanted */
    ck_ok(qd_context_kernels(c, &k, &count));
    for (int i = 0; i < count && n < capacity; i++) {
        if (!strcmp(k[i].op, "matmul") && !strncmp(k[i].formats, "q8_0 a8 ", 8) && strcmp(k[i].verdict, "unavailable"))
            snprintf(names[n++], 48, "%s", k[i].variant);
    }
    qd_kernels_free(k);
    qd_context_free(c);
    inject_clear();
    remove_cache();
    make_cache();
    return n;
}

/* When variants do not build, the next one is taken, in the end the reference. */
START_TEST(test_next_variant) {
    if (!have_opencl()) return;
    char names[8][48];
    const int n = matmul_variants(names, 8);
    ck_assert_int_ge(n, 1);
    /* All builds fail from the first on. */
    inject_failure(FN_clBuildProgram, 0, CL_BUILD_PROGRAM_FAILURE, true);
    outcome o = run_op(QD_OP_MATMUL, QD_FORMAT_Q8_0);
    ck_assert_str_eq(o.variant, "reference");
    ck_assert_int_eq(o.built, n);
    ck_assert_int_eq(o.refused, n);
    ck_assert_int_eq(count_lines(o.log.text, "runs on the reference"), 1);
    inject_clear();
    /* Without a cache of these failures, and with one failure only: the next variant. */
    remove_cache();
    make_cache();
    inject_failure(FN_clBuildProgram, 0, CL_BUILD_PROGRAM_FAILURE, false);
    o = run_op(QD_OP_MATMUL, QD_FORMAT_Q8_0);
    ck_assert_str_eq(o.variant, n > 1 ? names[1] : "reference");
    ck_assert_int_eq(o.refused, 1);
    inject_clear();
    remove_cache();
    make_cache();
    o = run_op(QD_OP_MATMUL, QD_FORMAT_Q8_0);
    ck_assert_str_eq(o.variant, names[0]);
    ck_assert_int_eq(o.refused, 0);
}
END_TEST

/* The device's values are right, but what comes back during the canaries is not: the first variant falls. */
START_TEST(test_wrong_reads) {
    if (!have_opencl()) return;
    char names[8][48];
    const int n = matmul_variants(names, 8);
    inject_clear();
    inject_wrong_reads(1);
    const outcome o = run_op(QD_OP_MATMUL, QD_FORMAT_Q8_0);
    ck_assert_int_eq(o.refused, 1);
    ck_assert_str_eq(o.variant, n > 1 ? names[1] : "reference");
    inject_clear();
    const outcome again = run_op(QD_OP_MATMUL, QD_FORMAT_Q8_0);
    ck_assert_int_eq(again.built, 0);
    ck_assert_int_eq(again.refused, 1);
    ck_assert_str_eq(again.variant, o.variant);
}
END_TEST

/* ---- The comparison that qd_verify makes -------------------------------------------------------------------- */

static bool keep_first_row(void *user, const qd_verify_row *r) {
    *(qd_verify_row *)user = *r;
    return false;
}

/* One bit in one read: one case differs, and the row says where. Without it none does. */
START_TEST(test_verify_sees) {
    if (!have_opencl()) return;
    qd_context_options o = {.cache_dir = cache};
    qd_context *c;
    ck_ok(qd_context_create("opencl", &o, &c));
    for (long wrong = 0; wrong < 3; wrong++) {
        qd_verify_row row;
        int different = -1;
        if (wrong) inject_wrong_reads(wrong); /* the first round has proven the kernel */
        ck_assert_int_eq(qd_verify(c, 11, 6, keep_first_row, &row, &different), QD_ERR_CANCELLED);
        inject_clear();
        ck_assert_str_ne(row.variant, "reference");
        ck_assert_int_eq(row.cases, 6);
        ck_assert_int_eq(row.different, (int)wrong);
        ck_assert_int_eq(strstr(row.first, "where the reference has") != NULL, wrong > 0);
    }
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("canary");
    tcase_add_checked_fixture(tc, make_cache, remove_cache);
    tcase_add_loop_test(tc, test_mistakes, 0, MISTAKES);
    tcase_add_test(tc, test_reason);
    tcase_add_test(tc, test_next_variant);
    tcase_add_test(tc, test_wrong_reads);
    tcase_add_test(tc, test_verify_sees);
    return run_tests(tc, "canary");
}
