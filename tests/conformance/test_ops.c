/* Every operator and format on every device of this machine against the C reference, byte for byte: what `qdot verify`
 * does, with other options, and the kernels that it does not choose. */
#include "core/operands.h"
#include "core/verify.h"
#include "unit/devices.h"

typedef struct tally {
    const char *device;
    int rows, fallbacks;
    char fallback[128], first[400];
} tally;

static bool count_row(void *user, const qd_verify_row *r) {
    tally *t = user;
    t->rows++;
    if (!strcmp(r->variant, "reference")) {
        if (!t->fallbacks++) snprintf(t->fallback, sizeof t->fallback, "%s %s", r->op, r->formats);
    }
    if (r->different && !t->first[0]) {
        snprintf(t->first, sizeof t->first, "%s %s (%s), %d of %d cases: %s", r->op, r->formats, r->variant,
                 r->different, r->cases, r->first);
    }
    return true;
}

/* Number of combinations of operators and formats. */
static int count_combinations(void) {
    int n = 0;
    for (int op = 0; op < QD_OP_COUNT; op++) {
        qd_format formats[QD_MAX_IN + QD_MAX_OUT];
        for (int i = 0; qd_case_formats((qd_op)op, i, formats); i++)
            n++;
    }
    return n;
}

static bool is_pocl_cpu(const qd_device_info *info) {
    return !strcmp(info->kind, "cpu") && !strncmp(info->platform, "Portable Computing Language", 27);
}

/* All rows must agree. On a PoCL CPU device, which develops and tests the portable kernels, none may be a fallback. */
static void verify(const char *device, const qd_context_options *options, uint64_t seed, int cases) {
    qd_context *c;
    ck_ok(qd_context_create(device, options, &c));
    tally t = {.device = device};
    int different = -1;
    ck_ok(qd_verify(c, seed, cases, count_row, &t, &different));
    ck_assert_msg(different == 0, "%s, seed %d: %d cases differ; %s", device, (int)seed, different, t.first);
    ck_assert_str_eq(t.first, "");
    ck_assert_int_eq(t.rows, count_combinations());
    if (is_pocl_cpu(qd_context_device(c))) {
        ck_assert_msg(t.fallbacks == 0, "%s: %d rows ran on the reference, first %s", device, t.fallbacks, t.fallback);
    }
    qd_context_free(c);
}

/* Calls `check` for each OpenCL device. */
static void for_devices(void (*check)(const qd_device_info *device)) {
    qd_device_info *devices;
    int count;
    if (!have_opencl()) return;
    ck_ok(qd_devices_list(&devices, &count));
    for (int i = 0; i < count; i++) {
        if (strncmp(devices[i].id, "opencl", 6)) continue;
        if (devices[i].usable) {
            check(&devices[i]);
        } else {
            printf("not tested: %s: %s\n", devices[i].id, devices[i].why);
        }
    }
    qd_devices_free(devices);
}

/* ---- Operators ---------------------------------------------------------------------------------------------- */

START_TEST(test_reference) {
    verify("ref", NULL, 1, 4);
}
END_TEST

static void check_seeds(const qd_device_info *device) {
    static const uint64_t seeds[] = {1, UINT64_MAX - 7};
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++)
        verify(device->id, NULL, seeds[i], i ? 4 : 8);
}

START_TEST(test_devices) {
    for_devices(check_seeds);
}
END_TEST

static void check_options(const qd_device_info *device) {
    const qd_context_options in_order = {.in_order = true}, out_of_order = {.out_of_order = true},
                             one_thread = {.threads = 1}, profiled = {.profile = true};
    verify(device->id, &in_order, 51, 2);
    verify(device->id, &out_of_order, 52, 2);
    verify(device->id, &profiled, 53, 2);
    if (!strcmp(device->kind, "cpu")) verify(device->id, &one_thread, 55, 2);
}

START_TEST(test_options) {
    for_devices(check_options);
}
END_TEST

/* ---- Lesser instructions ------------------------------------------------------------------------------------ */

/* Whether one of the kernels is this one; it is marked. */
static bool mark(const qd_kernel_info *kernels, int count, const char *variant, bool *ran) {
    for (int i = 0; i < count; i++) {
        if (strcmp(kernels[i].variant, variant) != 0) continue;
        ran[i] = true;
        return true;
    }
    return false;
}

static bool has_kernel(const qd_kernel_info *kernels, int count, const char *op, const char *word) {
    for (int i = 0; i < count; i++) {
        if (!strcmp(kernels[i].op, op) && strstr(kernels[i].variant, word)) return true;
    }
    return false;
}

/* Where a CPU has more than AVX2, nothing else chooses the kernels for it: each must run, with the reference's bytes.
 */
static void check_avx2(const qd_device_info *device) {
    enum { CASES = 16 };
    static const char word[] = "avx2";
    const qd_context_options o = {.kernels = word};
    qd_context *c;
    qd_kernel_info *k;
    int count;
    uint64_t seed = 56;
    if (!strstr(device->features, "x86-avx2")) return;
    ck_ok(qd_context_create(device->id, &o, &c));
    ck_ok(qd_context_kernels(c, &k, &count));
    bool *ran = calloc((size_t)count, sizeof *ran);
    ck_assert_ptr_nonnull(ran);
    for (int op = 0; op < QD_OP_COUNT; op++) {
        const char *name = qd_op_get((qd_op)op)->name;
        qd_format formats[QD_OPERANDS];
        if (!has_kernel(k, count, name, word)) continue;
        for (int i = 0; qd_case_formats((qd_op)op, i, formats); i++) {
            for (int n = 0; n < CASES; n++, seed++) {
                qd_case x;
                char variant[48], first[256] = "";
                bool different = false;
                ck_ok(qd_case_make((qd_op)op, formats, seed, n % 4 == 3 ? 6 : 1, NULL, 0, &x));
                ck_ok(qd_case_run(c, &x, variant, sizeof variant, &different, first, sizeof first));
                ck_assert_msg(!different, "%s: %s %s: %s", device->id, name, variant, first);
                ck_assert_msg(mark(k, count, variant, ran), "%s: %s ran as %s", device->id, name, variant);
                qd_case_free(&x);
            }
        }
    }
    for (int i = 0; i < count; i++)
        ck_assert_msg(ran[i] || !strstr(k[i].variant, word), "%s: %s did not run", device->id, k[i].variant);
    free(ran);
    qd_kernels_free(k);
    qd_context_free(c);
}

START_TEST(test_avx2) {
    for_devices(check_avx2);
}
END_TEST

/* ---- Small allocations -------------------------------------------------------------------------------------- */

/* Bytes of the weights of a case, which may be cut; those of a batch, or of a convolution, are not. */
static size_t weights_bytes(const qd_case *x) {
    return x->tensors[0].constant && x->tensors[0].desc.rank == 2 ? x->bytes[0] : 0;
}

/* Bytes of the largest of the other operands. */
static size_t largest_operand(const qd_case *x) {
    size_t most = 0;
    for (int i = weights_bytes(x) ? 1 : 0; i < QD_OPERANDS; i++) {
        if (x->data[i] && x->bytes[i] > most) most = x->bytes[i];
    }
    return most;
}

/* Room for the operands of these cases, but not always for all of their weights in one part. */
static void check_small(const qd_device_info *device) {
    const qd_context_options o = {.max_alloc = 1 << 17};
    qd_context *c;
    int cut = 0, whole = 0;
    uint64_t seed = 54;
    ck_ok(qd_context_create(device->id, &o, &c));
    for (int op = 0; op < QD_OP_COUNT; op++) {
        qd_format formats[QD_OPERANDS];
        for (int i = 0; qd_case_formats((qd_op)op, i, formats); i++) {
            for (int n = 0; n < 3; n++, seed++) {
                qd_case x;
                char variant[48], first[256] = "";
                bool different = false;
                ck_ok(qd_case_make((qd_op)op, formats, seed, 6, NULL, 0, &x));
                if (largest_operand(&x) < o.max_alloc) {
                    cut += weights_bytes(&x) > o.max_alloc;
                    whole += weights_bytes(&x) <= o.max_alloc;
                    const qd_status status =
                        qd_case_run(c, &x, variant, sizeof variant, &different, first, sizeof first);
                    ck_assert_msg(status == QD_OK, "%s %s: %s", qd_op_get((qd_op)op)->name, x.text, qd_last_message());
                    if (is_pocl_cpu(device)) ck_assert_str_ne(variant, "reference");
                    ck_assert_msg(!different, "%s: %s %s: %s", device->id, qd_op_get((qd_op)op)->name, variant, first);
                }
                qd_case_free(&x);
            }
        }
    }
    ck_assert_msg(cut >= 3 && whole > 100, "%d cases with cut weights, %d others", cut, whole);
    qd_context_free(c);
}

START_TEST(test_small_allocations) {
    for_devices(check_small);
}
END_TEST

/* ---- Weights in parts --------------------------------------------------------------------------------------- */

/* One operator with a constant of [rows, K] on a context; the result's bytes, to be freed. *used: what the constant
 * takes on the device. */
static void *run_weights(qd_context *c, qd_op op, const qd_tensor_desc *dw, const void *w, qd_format activations,
                         uint64_t *used) {
    enum { R = 6 };
    uint32_t rng = 99;
    const int64_t rows = dw->shape[0], K = dw->shape[1];
    const qd_tensor_desc dx =
                             op == QD_OP_MATMUL ? qd_desc(activations, R, K, 0, 0) : qd_desc(QD_FORMAT_I32, R, 0, 0, 0),
                         dy = qd_desc(QD_FORMAT_F32, R, op == QD_OP_MATMUL ? rows : K, 0, 0);
    void *x = random_data(&rng, &dx);
    if (op == QD_OP_GET_ROWS) {
        /* The first and last rows, and a seam. */
        const int32_t ids[R] = {0, (int32_t)rows - 1, (int32_t)rows / 2, 15, 16, (int32_t)rows / 3};
        memcpy(x, ids, sizeof ids);
    }
    qd_tensor *tx = tensor_with(c, dx, x), *tw, *ty;
    ck_ok(qd_tensor_constant(c, dw, w, &tw));
    ck_ok(qd_tensor_create(c, &dy, &ty));
    qd_memory_info before, after;
    ck_ok(qd_context_memory(c, &before));
    qd_plan *plan;
    ck_ok(qd_plan_create(c, op, NULL, (qd_tensor *[]){tw, tx}, 2, &ty, 1, &plan));
    ck_ok(qd_context_memory(c, &after));
    *used = after.used - before.used;
    ck_ok(qd_plan_run(plan));
    void *y = malloc(qd_desc_bytes(&dy));
    ck_assert_ptr_nonnull(y);
    ck_ok(qd_tensor_read(ty, 0, y, qd_desc_bytes(&dy)));
    qd_plan_free(plan);
    qd_tensor *all[] = {tx, tw, ty};
    for (int i = 0; i < 3; i++)
        qd_tensor_free(all[i]);
    free(x);
    return y;
}

static void check_parts(const qd_device_info *device) {
    enum { ROWS = 640, K = 1024 }; /* so that a fifth of the smallest format's weights is more than x and y */
    qd_context *ref, *whole, *cut;
    ck_ok(qd_context_create("ref", NULL, &ref));
    ck_ok(qd_context_create(device->id, NULL, &whole));
    uint32_t rng = 15;
    for (int op = 0; op < QD_OP_COUNT; op++) {
        qd_format formats[QD_MAX_IN + QD_MAX_OUT];
        for (int i = 0; (op == QD_OP_MATMUL || op == QD_OP_GET_ROWS) && qd_case_formats((qd_op)op, i, formats); i++) {
            const qd_tensor_desc dw = qd_desc(formats[0], ROWS, K, 0, 0);
            const size_t bytes = qd_desc_bytes(&dw);
            void *w = random_data(&rng, &dw);
            uint64_t used;
            void *want = run_weights(ref, (qd_op)op, &dw, w, formats[1], &used);
            void *plain = run_weights(whole, (qd_op)op, &dw, w, formats[1], &used); /* and proves the kernel */
            /* A fifth of the weights at most in one part, but room for the operands: at least five parts. */
            const qd_context_options o = {.max_alloc = bytes / 5};
            ck_ok(qd_context_create(device->id, &o, &cut));
            void *parts = run_weights(cut, (qd_op)op, &dw, w, formats[1], &used);
            const size_t size = 6 * sizeof(float) * (op == QD_OP_MATMUL ? ROWS : K);
            const char *name = qd_op_get((qd_op)op)->name, *format = qd_format_get(formats[0])->name;
            ck_assert_msg(!memcmp(want, plain, size), "%s %s in one part", name, format);
            ck_assert_msg(!memcmp(want, parts, size), "%s %s in parts", name, format);
            ck_assert_uint_ge(used, bytes);
            qd_context_free(cut);
            free(want);
            free(plain);
            free(parts);
            free(w);
        }
    }
    qd_context_free(whole);
    qd_context_free(ref);
}

START_TEST(test_parts) {
    for_devices(check_parts);
}
END_TEST

/* ---- Variants ----------------------------------------------------------------------------------------------- */

/* Each row of kernels.def has been built and has given the reference's bytes on its canaries, also those that are less
 * preferred here; "unavailable" is for what this machine does not have. */
static void check_variants(const qd_device_info *device) {
    qd_context *c;
    qd_kernel_info *k;
    int count, passed = 0;
    ck_ok(qd_context_create(device->id, NULL, &c));
    ck_ok(qd_context_kernels(c, &k, &count));
    ck_assert_int_gt(count, 0);
    bool pocl = is_pocl_cpu(device);
    for (int i = 0; i < count; i++) {
        const bool ok = !strcmp(k[i].verdict, "passed"), away = !strcmp(k[i].verdict, "unavailable");
        passed += ok;
        ck_assert_msg(ok || away || !pocl, "%s on %s %s: %s", k[i].variant, device->id, k[i].verdict, k[i].why);
        if (!ok) printf("%s: %s is %s: %s\n", device->id, k[i].variant, k[i].verdict, k[i].why);
        ck_assert(ok || k[i].why[0]);
    }
    printf("%s: %d of %d kernels proven\n", device->id, passed, count);
    if (pocl) ck_assert_int_gt(passed, 0);
    qd_kernels_free(k);
    qd_context_free(c);
}

START_TEST(test_variants) {
    for_devices(check_variants);
}
END_TEST

/* ---- The comparison itself ---------------------------------------------------------------------------------- */

typedef struct stopping {
    int calls, stop_at;
} stopping;

static bool stop_row(void *user, const qd_verify_row *r) {
    stopping *s = user;
    ck_assert_str_ne(r->op, "");
    return ++s->calls < s->stop_at;
}

START_TEST(test_verify_arguments) {
    qd_context *c;
    stopping s = {0, 3};
    int different = -1;
    ck_ok(qd_context_create("ref", NULL, &c));
    ck_fails(qd_verify(c, 1, 1, stop_row, &s, &different), QD_ERR_CANCELLED, "stopped");
    ck_assert_int_eq(s.calls, 3);
    ck_assert_int_eq(different, -1);
    ck_fails(qd_verify(c, 1, 0, stop_row, &s, &different), QD_ERR_ARGUMENT, "case");
    ck_fails(qd_verify(NULL, 1, 1, stop_row, &s, &different), QD_ERR_ARGUMENT, "context");
    ck_fails(qd_verify(c, 1, 1, NULL, &s, &different), QD_ERR_ARGUMENT, "row");
    ck_fails(qd_verify(c, 1, 1, stop_row, &s, NULL), QD_ERR_ARGUMENT, "result");
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("ops");
    tcase_add_test(tc, test_verify_arguments);
    tcase_add_test(tc, test_reference);
    tcase_add_test(tc, test_variants);
    tcase_add_test(tc, test_devices);
    tcase_add_test(tc, test_options);
    tcase_add_test(tc, test_avx2);
    tcase_add_test(tc, test_small_allocations);
    tcase_add_test(tc, test_parts);
    return run_tests(tc, "ops");
}
