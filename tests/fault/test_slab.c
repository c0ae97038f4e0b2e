/* Weights in memory of our own (opencl/cl_slab.c): the values are the same whatever fails on the way there, nothing
 * stays mapped, and what is freed goes back to the system while others stay. */
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fault/cl_inject.h"
#include "unit/devices.h"

#define POCL "opencl:Portable Computing Language"

/* ---- What is mapped ------------------------------------------------------------------------------------------ */

typedef struct huge {
    long mappings, resident; /* bytes */
} huge;

/* Of the memory for which huge pages were asked. */
static huge find_huge(void) {
    huge h = {0, 0};
    long kib = 0;
    char line[512];
    FILE *f = fopen("/proc/self/smaps", "r");
    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f)) {
        sscanf(line, "Rss: %ld kB", &kib);
        if (strncmp(line, "VmFlags:", 8) || !strstr(line, " hg")) continue;
        h.mappings++;
        h.resident += kib * 1024;
    }
    fclose(f);
    return h;
}

/* Their pages can be seen where Linux has huge ones. */
static bool have_slabs(void) {
    if (!have_x86_pocl()) return false;
    const bool pages = !access("/sys/kernel/mm/transparent_hugepage/enabled", R_OK);
    if (!pages) puts("skipped: no huge pages");
    return pages;
}

/* ---- Work ---------------------------------------------------------------------------------------------------- */

enum { C = 1024, MIB = 1 << 20 };

/* A table of halves, of which some rows are looked up. */
typedef struct table {
    int64_t rows;
    uint16_t *halves;
    qd_tensor *t, *ids, *y;
    qd_plan *plan;
} table;

/* Small whole numbers are halves of their own. */
static float value_at(int64_t row, int64_t column) {
    return (float)((row * 31 + column * 7) % 2001 - 1000);
}

static void fill_table(table *t, size_t bytes) {
    float line[C];
    memset(t, 0, sizeof *t);
    t->rows = (int64_t)(bytes / (C * sizeof(uint16_t)));
    t->halves = malloc(bytes);
    ck_assert_ptr_nonnull(t->halves);
    for (int64_t r = 0; r < t->rows; r++) {
        for (int64_t c = 0; c < C; c++)
            line[c] = value_at(r, c);
        ck_ok(qd_quantize(QD_FORMAT_F16, line, 1, C, t->halves + r * C));
    }
}

enum { LOOKED_UP = 5 };

static qd_status open_table(qd_context *c, table *t) {
    const qd_tensor_desc dt = qd_desc(QD_FORMAT_F16, t->rows, C, 0, 0), di = qd_desc(QD_FORMAT_I32, LOOKED_UP, 0, 0, 0),
                         dy = qd_desc(QD_FORMAT_F32, LOOKED_UP, C, 0, 0);
    qd_status status = QD_OK;
    QD_TRY(qd_tensor_constant(c, &dt, t->halves, &t->t));
    QD_TRY(qd_tensor_create(c, &di, &t->ids));
    QD_TRY(qd_tensor_create(c, &dy, &t->y));
    QD_TRY(qd_plan_create(c, QD_OP_GET_ROWS, NULL, (qd_tensor *[]){t->t, t->ids}, 2, &t->y, 1, &t->plan));
error:
    return status;
}

/* Rows from the first to the last are as they should be. */
static qd_status use_table(const table *t, const char *what) {
    static float got[LOOKED_UP * C];
    int32_t ids[LOOKED_UP];
    qd_status status = QD_OK;
    for (int i = 0; i < LOOKED_UP; i++)
        ids[i] = (int32_t)((t->rows - 1) * i / (LOOKED_UP - 1));
    QD_TRY(qd_tensor_write(t->ids, 0, ids, sizeof ids));
    QD_TRY(qd_plan_run(t->plan));
    QD_TRY(qd_tensor_read(t->y, 0, got, sizeof got));
    for (int i = 0; i < LOOKED_UP * C; i++) {
        const float want = value_at(ids[i / C], i % C);
        ck_assert_msg(got[i] == want, "%s: row %d, column %d is %g, not %g", what, ids[i / C], i % C, (double)got[i],
                      (double)want);
    }
error:
    return status;
}

static void close_table(table *t) {
    qd_plan_free(t->plan);
    qd_tensor_free(t->t);
    qd_tensor_free(t->ids);
    qd_tensor_free(t->y);
    t->plan = NULL;
    t->t = t->ids = t->y = NULL;
}

static qd_context *open_pocl(const qd_context_options *o) {
    qd_context *c;
    ck_ok(qd_context_create(POCL, o, &c));
    return c;
}

static void ck_nothing_left(const char *what) {
    ck_assert_msg(inject_alive() == 0, "%s: %ld OpenCL objects are left", what, inject_alive());
    const huge h = find_huge();
    ck_assert_msg(h.mappings == 0, "%s: %ld mappings are left", what, h.mappings);
}

/* ---- Right ways ---------------------------------------------------------------------------------------------- */

static const struct {
    const char *what;
    size_t bytes[4]; /* of tables, 0: no more */
    long mappings;   /* with all of them */
    qd_context_options options;
} ways[] = {
    {"less than a page", {2048}, 0, {0}},
    {"in one slab", {8192, 40960, 3 * MIB, 30720}, 1, {0}},
    {"larger than a slab", {40960, 33 * MIB, 40960}, 2, {0}},
    {"full slabs", {20 * MIB, 20 * MIB, 20 * MIB}, 3, {0}},
    {"in parts", {3 * MIB}, 1, {.max_alloc = 65536}},
    {"out of order", {3 * MIB}, 1, {.out_of_order = true}},
    {"profile", {3 * MIB}, 1, {.profile = true}},
    {"one thread", {3 * MIB}, 1, {.threads = 1}},
};

START_TEST(test_ways) {
    enum { MOST = 4 };
    const char *what = ways[_i].what;
    table t[MOST];
    int n = 0;
    if (!have_slabs()) return;
    qd_context *c = open_pocl(&ways[_i].options);
    fill_table(&t[0], 2048); /* proves the kernel, with weights of its own */
    ck_ok(open_table(c, &t[0]));
    close_table(&t[0]);
    free(t[0].halves);
    qd_context_free(c);
    c = open_pocl(&ways[_i].options);
    for (; n < MOST && ways[_i].bytes[n]; n++) {
        fill_table(&t[n], ways[_i].bytes[n]);
        ck_ok(open_table(c, &t[n]));
        ck_ok(use_table(&t[n], what));
    }
    ck_assert_msg(find_huge().mappings == ways[_i].mappings, "%s: %ld mappings", what, find_huge().mappings);
    for (int i = 0; i < n; i++) /* the later ones left them alone */
        ck_ok(use_table(&t[i], what));
    for (int i = 0; i < n; i++) {
        close_table(&t[i]);
        free(t[i].halves);
    }
    qd_context_free(c);
    ck_nothing_left(what);
}
END_TEST

/* A context's slabs are its own. */
START_TEST(test_two_contexts) {
    table a, b;
    if (!have_slabs()) return;
    fill_table(&a, 3 * MIB);
    b = a;
    qd_context *first = open_pocl(NULL), *second = open_pocl(NULL);
    ck_ok(open_table(first, &a));
    ck_ok(open_table(second, &b));
    ck_assert_int_eq(find_huge().mappings, 2);
    close_table(&a);
    qd_context_free(first);
    ck_assert_int_eq(find_huge().mappings, 1);
    ck_ok(use_table(&b, "the other context is closed"));
    close_table(&b);
    qd_context_free(second);
    free(a.halves);
    ck_nothing_left("two contexts");
}
END_TEST

/* Under a budget, the pages of a table that went away are the system's again, though its neighbours stay. */
START_TEST(test_pages_go_back) {
    enum { LARGE = 8 * MIB, SPARE = 3 * MIB };
    const qd_context_options o = {.memory_budget = 3 * LARGE + SPARE};
    table t[3], last;
    if (!have_slabs()) return;
    qd_context *c = open_pocl(&o);
    for (int i = 0; i < 3; i++) {
        fill_table(&t[i], LARGE);
        ck_ok(open_table(c, &t[i]));
        ck_ok(use_table(&t[i], "before"));
    }
    ck_assert_int_ge(find_huge().resident, 3L * LARGE);
    close_table(&t[1]); /* to the pool, which goes when something else needs the budget */
    ck_assert_int_ge(find_huge().resident, 3L * LARGE);
    fill_table(&last, LARGE / 2);
    ck_ok(open_table(c, &last));
    ck_assert_int_lt(find_huge().resident, 3L * LARGE);
    ck_assert_int_ge(find_huge().resident, 2L * LARGE + LARGE / 2);
    const table *const left[] = {&t[0], &t[2], &last};
    for (int i = 0; i < 3; i++)
        ck_ok(use_table(left[i], "after"));
    close_table(&last);
    close_table(&t[0]);
    close_table(&t[2]);
    free(last.halves);
    for (int i = 0; i < 3; i++)
        free(t[i].halves);
    qd_context_free(c);
    ck_nothing_left("pages");
}
END_TEST

/* ---- Failures ------------------------------------------------------------------------------------------------ */

/* Without room for a mapping, the driver's memory does. */
START_TEST(test_no_mapping) {
    enum { ROOM = 24 * MIB };
    long pages;
    struct rlimit before, less;
    table t;
    if (!have_slabs()) return;
    fill_table(&t, 3 * MIB);
    qd_context *c = open_pocl(NULL);
    ck_ok(open_table(c, &t)); /* kernels are there, and threads have their memory */
    ck_ok(use_table(&t, "before"));
    close_table(&t);
    qd_context_free(c);
    c = open_pocl(NULL);
    FILE *f = fopen("/proc/self/statm", "r");
    ck_assert(f && fscanf(f, "%ld", &pages) == 1);
    fclose(f);
    ck_assert_int_eq(getrlimit(RLIMIT_AS, &before), 0);
    less = before;
    less.rlim_cur = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + ROOM;
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &less), 0);
    const qd_status status = open_table(c, &t);
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &before), 0);
    ck_ok(status);
    ck_assert_int_eq(find_huge().mappings, 0);
    ck_ok(use_table(&t, "no mapping"));
    close_table(&t);
    qd_context_free(c);
    free(t.halves);
    ck_nothing_left("no mapping");
}
END_TEST

/* Each call of OpenCL fails once: an error, or right values; then everything works. What the device might still use,
 * since waiting for it failed, stays mapped. */
START_TEST(test_each_call) {
    static const cl_int errors[] = {CL_OUT_OF_RESOURCES, CL_MEM_OBJECT_ALLOCATION_FAILURE, CL_DEVICE_NOT_AVAILABLE};
    table t;
    int happened = 0, fell_back = 0;
    if (!have_slabs()) return;
    fill_table(&t, 40960);
    for (int e = 0; e < 3; e++) {
        for (int fn = 0; fn < CL_FUNCTIONS; fn++) {
            for (long n = 0; n < 4; n++) {
                const long kept = find_huge().mappings;
                qd_context *c = open_pocl(NULL);
                inject_clear();
                inject_failure((cl_function)fn, n, errors[e], false);
                qd_status status = open_table(c, &t);
                if (!status) status = use_table(&t, cl_function_names[fn]);
                const bool now = inject_happened();
                happened += now;
                fell_back += now && !status && fn == FN_clCreateBuffer;
                close_table(&t);
                ck_assert_msg(now || !status, "%s: %s", cl_function_names[fn], qd_last_message());
                if (status != QD_ERR_DEVICE_LOST) {
                    inject_clear();
                    ck_ok(open_table(c, &t));
                    ck_ok(use_table(&t, cl_function_names[fn]));
                    close_table(&t);
                }
                qd_context_free(c);
                ck_assert_int_eq(inject_alive(), 0);
                ck_assert_msg(find_huge().mappings == kept, "%s: a mapping is left", cl_function_names[fn]);
                if (!now) break; /* it is not called so often */
            }
        }
    }
    ck_assert_int_gt(happened, 10);
    ck_assert_int_gt(fell_back, 0);
    free(t.halves);
}
END_TEST

/* Waiting for the device fails as the context ends. */
START_TEST(test_not_idle) {
    table t;
    if (!have_slabs()) return;
    fill_table(&t, 40960);
    qd_context *c = open_pocl(NULL);
    ck_ok(open_table(c, &t));
    ck_ok(use_table(&t, "before"));
    close_table(&t);
    inject_clear();
    inject_failure(FN_clFinish, 0, CL_OUT_OF_RESOURCES, true);
    qd_context_free(c);
    ck_assert(inject_happened());
    inject_clear();
    ck_assert_int_eq(inject_alive(), 0);
    ck_assert_int_eq(find_huge().mappings, 1);
    free(t.halves);
}
END_TEST

/* Each allocation of ours fails, and all after it. */
START_TEST(test_each_allocation) {
    table t;
    long n = 0;
    if (!have_slabs()) return;
    fill_table(&t, 40960);
    for (qd_status status = QD_ERR_MEMORY; status; n++) {
        qd_context *c = open_pocl(NULL);
        qd_alloc_fail_after(n);
        status = open_table(c, &t);
        if (!status) status = use_table(&t, "without memory");
        qd_alloc_fail_after(-1);
        ck_assert_msg(status == QD_OK || status == QD_ERR_MEMORY, "allocation %ld: %s", n, qd_last_message());
        close_table(&t);
        qd_context_free(c);
        ck_nothing_left("an allocation failed");
        ck_assert_int_lt(n, 5000);
    }
    ck_assert_int_gt(n, 10);
    free(t.halves);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("slab");
    tcase_add_loop_test(tc, test_ways, 0, sizeof ways / sizeof ways[0]);
    tcase_add_test(tc, test_two_contexts);
    tcase_add_test(tc, test_pages_go_back);
    tcase_add_test(tc, test_no_mapping);
    tcase_add_test(tc, test_each_call);
    tcase_add_test(tc, test_not_idle);
    tcase_add_test(tc, test_each_allocation);
    return run_tests(tc, "slab");
}
