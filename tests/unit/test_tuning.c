/* Tuning: the file's text, damaged in every way; ways of a plan, chosen, written, read again; the rows that ship; runs
 * of few and of many rows that go different ways; always the reference's bytes. */
#include <unistd.h>

#include "opencl/cl_tuning.h"
#include "unit/devices.h"

/* ---- The file ----------------------------------------------------------------------------------------------- */

static const char key[] = "00000000000000000000000000000000000000000000000000000000000000aa";
#define HEAD "qdot-tuning 1\ndevice any\nkey 00000000000000000000000000000000000000000000000000000000000000aa\n"
static const char good[] = HEAD
    "# a comment\n"
    "matmul q4_0 a8 1 small matmul_q4_0_avx2 16 QD_TOKENS=6 QD_PREFETCH=512\n"
    "matmul_int i8 u8 128 large matmul_int 8\n"
    "end 2\n";

START_TEST(test_good) {
    cl_choice *c = NULL;
    int n = 0;
    ck_ok(cl_tuning_parse(good, strlen(good), key, &c, &n));
    ck_assert_int_eq(n, 2);
    ck_assert(c[0].of.op == QD_OP_MATMUL && c[0].of.in0 == QD_FORMAT_Q4_0 && c[0].of.in1 == QD_FORMAT_A8);
    ck_assert(c[0].of.rows == 0 && !c[0].of.large && c[0].groups == 16);
    ck_assert_str_eq(cl_variants[c[0].base].name, "matmul_q4_0_avx2");
    ck_assert_str_eq(c[0].options, "QD_TOKENS=6 QD_PREFETCH=512");
    ck_assert(c[1].of.op == QD_OP_MATMUL_INT && c[1].of.rows == 3 && c[1].of.large && c[1].groups == 8);
    ck_assert_str_eq(c[1].options, "");
    free(c);
}
END_TEST

static const struct {
    const char *text, *part;
} damaged[] = {
    {"", "line 1: the end is missing"},
    {"qdot-tuning 2\nend 0\n", "line 1: not the first line"},
    {"\x7f"
     "ELF\x02\x01",
     "line 1: not the first line"},
    {HEAD, "line 4: the end is missing"},
    {HEAD "end 1\n", "line 4: not the number"},
    {HEAD "end 0\nend 0\n", "line 5: text behind the end"},
    {"qdot-tuning 1\nmatmul_int i8 u8 1 large matmul_int 8\nend 1\n", "line 2: a choice before"},
    {"qdot-tuning 1\nkey 00\nend 0\n", "another device"},
    {HEAD "matmal q4_0 a8 1 small matmul_q4_0 8\nend 1\n", "line 4: no such operator"},
    {HEAD "matmul q4_9 a8 1 small matmul_q4_0 8\nend 1\n", "no such format"},
    {HEAD "matmul q4_0 a9 1 small matmul_q4_0 8\nend 1\n", "no such format"},
    {HEAD "matmul q4_0 a8 3 small matmul_q4_0 8\nend 1\n", "rows are not"},
    {HEAD "matmul q4_0 a8 -1 small matmul_q4_0 8\nend 1\n", "rows are not"},
    {HEAD "matmul q4_0 a8 1 tiny matmul_q4_0 8\nend 1\n", "neither small nor large"},
    {HEAD "matmul q4_0 a8 1 small matmul_q4 8\nend 1\n", "no such kernel"},
    {HEAD "matmul q4_0 a8 1 small matmul_int 8\nend 1\n", "no such kernel"},
    {HEAD "matmul q4_0 a8 1 small matmul_q4_0 0\nend 1\n", "work-groups"},
    {HEAD "matmul q4_0 a8 1 small matmul_q4_0 257\nend 1\n", "work-groups"},
    {HEAD "matmul q4_0 a8 1 small matmul_q4_0 99999999999999999999\nend 1\n", "work-groups"},
    {HEAD "matmul q4_0 a8 1 small matmul_q4_0\nend 1\n", "work-groups"},
    {HEAD "matmul q4_0 a8 1 small matmul_q4_0 8 QD_TOKENS=5\nend 1\n", "options"},
    {HEAD "matmul q4_0 a8 1 small matmul_q4_0 8 QD_TOKENS=80\nend 1\n", "options"},
    {HEAD "matmul q4_0 a8 1 small matmul_q4_0 8 QD_TOKENS=8 QD_TOKENS=4\nend 1\n", "options"},
    {HEAD "matmul q4_0 a8 1 small matmul_q4_0 8 QD_PREFETCH=512\nend 1\n", "options"},
    {HEAD "matmul q4_0 a8 1 small matmul_q4_0 8 -DQD_TOKENS=8\nend 1\n", "options"},
    {HEAD "matmul q4_0 a8 1 small matmul_q4_0 8 QD_TOKENS=8 \nend 1\n", "options"},
    {HEAD "matmul q4_0 a8 1 small matmul_q4_0 8  QD_TOKENS=8\nend 1\n", "options"},
};

START_TEST(test_damaged) {
    cl_choice *c = NULL;
    int n = 0;
    ck_fails(cl_tuning_parse(damaged[_i].text, strlen(damaged[_i].text), key, &c, &n), QD_ERR_FILE, damaged[_i].part);
    ck_assert_ptr_null(c);
}
END_TEST

/* Cut short anywhere, it is refused; but for the last line's end, which changes nothing. */
START_TEST(test_cut) {
    for (size_t size = 0; size + 1 < strlen(good); size++) {
        cl_choice *c = NULL;
        int n = 0;
        ck_fails(cl_tuning_parse(good, size, key, &c, &n), QD_ERR_FILE, "");
    }
    char zero[sizeof good];
    cl_choice *c = NULL;
    int n = 0;
    memcpy(zero, good, sizeof good);
    zero[30] = 0;
    ck_fails(cl_tuning_parse(zero, strlen(good), key, &c, &n), QD_ERR_FILE, "no text");
    memset(zero, 'x', sizeof zero);
    ck_fails(cl_tuning_parse(zero, sizeof zero, key, &c, &n), QD_ERR_FILE, "line 1");
}
END_TEST

START_TEST(test_rows) {
    static const int64_t rows[] = {1, 2, 15, 16, 127, 128, 1 << 20};
    static const int classes[] = {0, 1, 1, 2, 2, 3, 3};
    for (int i = 0; i < 7; i++)
        ck_assert_int_eq(qd_tuning_rows_class(rows[i]), classes[i]);
    for (int i = 0; i < QD_TUNING_ROWS; i++)
        ck_assert_int_eq(qd_tuning_rows_class(qd_tuning_least_rows(i)), i);
}
END_TEST

/* ---- Ways --------------------------------------------------------------------------------------------------- */

enum { N = 70, K = 96, MOST_M = 140 };

/* One product, and what the reference makes of it. */
typedef struct bed {
    void *w, *x;
    float want[MOST_M * N];
} bed;

static qd_plan *make_plan(qd_context *c, const bed *b, int64_t m, qd_tensor *t[3]) {
    const qd_tensor_desc dw = qd_desc(QD_FORMAT_Q4_0, N, K, 0, 0), dx = qd_desc(QD_FORMAT_A8, m, K, 0, 0),
                         dy = qd_desc(QD_FORMAT_F32, m, N, 0, 0);
    qd_plan *p;
    ck_ok(qd_tensor_constant(c, &dw, b->w, &t[0]));
    t[1] = tensor_with(c, dx, b->x);
    ck_ok(qd_tensor_create(c, &dy, &t[2]));
    ck_ok(qd_plan_create(c, QD_OP_MATMUL, NULL, t, 2, &t[2], 1, &p));
    return p;
}

static void free_plan(qd_plan *p, qd_tensor *t[3]) {
    qd_plan_free(p);
    for (int i = 0; i < 3; i++)
        qd_tensor_free(t[i]);
}

static void make_bed(bed *b) {
    const qd_tensor_desc dw = qd_desc(QD_FORMAT_Q4_0, N, K, 0, 0), dx = qd_desc(QD_FORMAT_A8, MOST_M, K, 0, 0);
    uint32_t rng = 5;
    qd_context *ref;
    qd_tensor *t[3];
    b->w = random_data(&rng, &dw);
    b->x = random_data(&rng, &dx);
    ck_ok(qd_context_create("ref", NULL, &ref));
    qd_plan *p = make_plan(ref, b, MOST_M, t);
    qd_tuning_way *ways;
    int count;
    ck_fails(qd_plan_ways(p, &ways, &count), QD_ERR_UNSUPPORTED, "nothing to tune");
    ck_fails(qd_plan_choose(p, NULL), QD_ERR_UNSUPPORTED, "nothing to tune");
    ck_fails(qd_context_tuning_write(ref, "/tmp/none"), QD_ERR_UNSUPPORTED, "nothing to tune");
    ck_ok(qd_plan_run(p));
    ck_ok(qd_tensor_read(t[2], 0, b->want, sizeof b->want));
    free_plan(p, t);
    qd_context_free(ref);
}

static void free_bed(bed *b) {
    free(b->w);
    free(b->x);
}

/* The way that a new plan has, which must give the reference's bytes. */
static qd_tuning_way way_now(qd_context *c, const bed *b, int64_t m) {
    qd_tensor *t[3];
    qd_tuning_way *ways, first;
    int count;
    qd_plan *p = make_plan(c, b, m, t);
    ck_ok(qd_plan_ways(p, &ways, &count));
    first = ways[0];
    qd_ways_free(ways);
    ck_ok(qd_plan_run(p));
    float got[MOST_M * N];
    ck_ok(qd_tensor_read(t[2], 0, got, (size_t)(m * N) * sizeof(float)));
    ck_assert_msg(!memcmp(got, b->want, (size_t)(m * N) * sizeof(float)), "%s %s gives other bytes", first.variant,
                  first.options);
    free_plan(p, t);
    return first;
}

static bool same_way(const qd_tuning_way *a, const qd_tuning_way *b) {
    return a->groups == b->groups && !strcmp(a->variant, b->variant) && !strcmp(a->options, b->options);
}

/* A way of the list with one value of a tunable, and 5 groups, which no default has. */
static qd_tuning_way other_way(const qd_tuning_way *ways, int count) {
    qd_tuning_way w = {.groups = 0};
    for (int i = 0; i < count && !w.groups; i++) {
        if (!strcmp(ways[i].options, "QD_TOKENS=2")) w = ways[i];
    }
    ck_assert_int_ne(w.groups, 0);
    w.groups = 5;
    return w;
}

/* A plan of 20 rows on a device without a tuning file, and its ways. */
static qd_plan *plan_with_ways(const bed *b, qd_context **c, qd_tensor *t[3], qd_tuning_way **ways, int *count) {
    const qd_context_options o = {.tuning = ""};
    ck_ok(qd_context_create("opencl", &o, c));
    qd_plan *p = make_plan(*c, b, 20, t);
    ck_ok(qd_plan_ways(p, ways, count));
    return p;
}

START_TEST(test_ways) {
    if (!have_opencl()) return;
    static bed b;
    make_bed(&b);
    qd_context *c;
    qd_tensor *t[3];
    qd_tuning_way *ways;
    int count;
    qd_plan *p = plan_with_ways(&b, &c, t, &ways, &count);
    ck_assert_int_ge(count, 5);
    for (int i = 1; i < count; i++) { /* one difference; another variant comes as its row has it */
        const bool variant = strcmp(ways[i].variant, ways[0].variant) != 0, groups = ways[i].groups != ways[0].groups,
                   options = strcmp(ways[i].options, ways[0].options) != 0;
        ck_assert_msg(variant || groups != options, "way %d", i);
        for (int k = 0; k < i; k++)
            ck_assert_msg(!same_way(&ways[i], &ways[k]), "ways %d and %d", k, i);
    }
    const qd_tuning_way other = other_way(ways, count), first = ways[0];
    ck_ok(qd_plan_choose(p, &other));
    const qd_tuning_way now = way_now(c, &b, 20), fewer = way_now(c, &b, 3), more = way_now(c, &b, 130);
    ck_assert_msg(same_way(&now, &other), "%s x%d %s", now.variant, now.groups, now.options);
    ck_assert(!same_way(&fewer, &other) && !same_way(&more, &other)); /* of other classes */
    ck_ok(qd_plan_choose(p, NULL));
    const qd_tuning_way again = way_now(c, &b, 20);
    ck_assert(same_way(&again, &first));
    qd_tuning_way wrong = other;
    snprintf(wrong.variant, sizeof wrong.variant, "matmul_int");
    ck_fails(qd_plan_choose(p, &wrong), QD_ERR_ARGUMENT, "matmul_int");
    wrong = other;
    wrong.groups = 0;
    ck_fails(qd_plan_choose(p, &wrong), QD_ERR_ARGUMENT, "work-groups");
    wrong = other;
    snprintf(wrong.options, sizeof wrong.options, "QD_TOKENS=1000");
    ck_fails(qd_plan_choose(p, &wrong), QD_ERR_ARGUMENT, "QD_TOKENS=1000");
    qd_ways_free(ways);
    free_plan(p, t);
    qd_context_free(c);
    free_bed(&b);
}
END_TEST

/* ---- There and back ----------------------------------------------------------------------------------------- */

static char *whole_file(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    char *text = calloc(1, 1 << 16);
    ck_assert(f && text);
    *size = fread(text, 1, (1 << 16) - 1, f);
    fclose(f);
    return text;
}

static void put_file(const char *path, const char *text) {
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(text, 1, strlen(text), f), strlen(text));
    ck_assert_int_eq(fclose(f), 0);
}

/* The way of 20 rows, and how many classes are tuned, in a context with this file. */
static qd_tuning_way way_with(const char *path, const bed *b, int classes, log_text *log) {
    qd_context *c;
    qd_tuning_info info;
    *log = (log_text){.used = 0};
    const qd_context_options o = {.tuning = path, .log = collect_log, .log_user = log};
    ck_ok(qd_context_create("opencl", &o, &c));
    ck_ok(qd_context_tuning(c, &info));
    ck_assert_str_eq(info.path, path);
    ck_assert_int_eq(info.classes, classes);
    ck_assert_int_eq(info.why[0] == 0, classes > 0);
    const qd_tuning_way w = way_now(c, b, 20);
    qd_context_free(c);
    return w;
}

START_TEST(test_file) {
    if (!have_opencl()) return;
    static bed b;
    make_bed(&b);
    char path[] = "/tmp/qdot-tuning-XXXXXX";
    const int file = mkstemp(path);
    ck_assert_int_ge(file, 0);
    close(file);
    qd_context *c;
    qd_tensor *t[3];
    qd_tuning_way *ways;
    int count;
    qd_plan *p = plan_with_ways(&b, &c, t, &ways, &count);
    const qd_tuning_way other = other_way(ways, count), first = ways[0];
    ck_ok(qd_plan_choose(p, &other));
    ck_ok(qd_context_tuning_write(c, path));
    ck_fails(qd_context_tuning_write(c, "/nowhere/at/all"), QD_ERR_IO, "/nowhere/at/all");
    qd_ways_free(ways);
    free_plan(p, t);
    qd_context_free(c);

    log_text log;
    qd_tuning_way w = way_with(path, &b, 1, &log);
    ck_assert_msg(same_way(&w, &other), "%s x%d %s", w.variant, w.groups, w.options);
    /* Of another build: the key's first digit is another. */
    size_t size;
    char *text = whole_file(path, &size), *digit = strstr(text, "\nkey ") + 5;
    *digit = *digit == '0' ? '1' : '0';
    put_file(path, text);
    w = way_with(path, &b, 0, &log);
    ck_assert(same_way(&w, &first));
    ck_assert_ptr_nonnull(strstr(log.text, "is not used: it is of another device, driver or build"));
    put_file(path, "nonsense\n");
    w = way_with(path, &b, 0, &log);
    ck_assert(same_way(&w, &first));
    ck_assert_ptr_nonnull(strstr(log.text, "is not used: line 1: not the first line"));
    remove(path);
    w = way_with(path, &b, 0, &log);
    ck_assert_ptr_nonnull(strstr(log.text, "is not used: No such file"));
    free(text);
    free_bed(&b);
}
END_TEST

/* ---- The rows that ship -------------------------------------------------------------------------------------- */

/* Each names a kernel, a class and options that exist: the host does not check them. */
START_TEST(test_shipped) {
    for (const cl_tuned_row *r = cl_tuned_rows; r->variant; r++) {
        int i = 0;
        while (i < cl_variant_count && strcmp(cl_variants[i].name, r->variant) != 0)
            i++;
        ck_assert_msg(i < cl_variant_count, "no kernel %s", r->variant);
        ck_assert_msg(r->rows == qd_tuning_least_rows(qd_tuning_rows_class(r->rows)), "%s: %d rows", r->variant,
                      r->rows);
        ck_assert(r->groups >= 1 && r->groups <= CL_MOST_GROUPS);
        ck_assert_msg(cl_options_valid(cl_variants[i].file, r->options), "%s: %s", r->variant, r->options);
        for (const cl_tuned_row *other = cl_tuned_rows; other < r; other++) {
            ck_assert_msg(strcmp(other->variant, r->variant) != 0 || other->rows != r->rows ||
                              (other->weights != r->weights && other->weights != CL_TUNED_ANY),
                          "%s, %d rows: an earlier row goes before", r->variant, r->rows);
        }
    }
}
END_TEST

/* Rows for the kernel that the device uses: its classes go their ways, other ones as before, and what a file or the
 * caller chose goes before. A row whose options do not build is as if it were not there. */
START_TEST(test_rows_used) {
    if (!have_opencl()) return;
    static bed b;
    make_bed(&b);
    const cl_tuned_row *const shipped = cl_tuned_rows;
    const qd_context_options o = {.tuning = ""};
    qd_context *c;
    qd_tensor *t[3];
    qd_tuning_way *ways;
    int count;
    qd_plan *p = plan_with_ways(&b, &c, t, &ways, &count);
    const qd_tuning_way plain = ways[0];
    free_plan(p, t);
    qd_context_free(c);
    const cl_tuned_row rows[] = {{"matmul_int", 16, CL_TUNED_ANY, 7, "QD_TOKENS=4"}, /* another kernel's */
                                 {plain.variant, 16, CL_TUNED_LARGE, 6, ""},
                                 {plain.variant, 16, CL_TUNED_SMALL, 5, "QD_TOKENS=2"},
                                 {plain.variant, 128, CL_TUNED_ANY, plain.groups + 1, ""},
                                 {plain.variant, 2, CL_TUNED_ANY, 9, "QD_TOKENS=0.5"},
                                 {.variant = NULL}};
    cl_tuned_rows = rows;
    ck_ok(qd_context_create("opencl", &o, &c));
    const qd_tuning_way some = way_now(c, &b, 20), many = way_now(c, &b, 130), one = way_now(c, &b, 1),
                        few = way_now(c, &b, 3);
    ck_assert_msg(some.groups == 5 && !strcmp(some.options, "QD_TOKENS=2"), "x%d %s", some.groups, some.options);
    ck_assert_str_eq(some.variant, plain.variant);
    ck_assert(many.groups == plain.groups + 1 && !many.options[0]);
    ck_assert(same_way(&one, &plain) && same_way(&few, &plain));
    p = make_plan(c, &b, 20, t);
    ck_ok(qd_plan_choose(p, &plain));
    const qd_tuning_way chosen = way_now(c, &b, 20);
    ck_assert(same_way(&chosen, &plain));
    ck_ok(qd_plan_choose(p, NULL));
    const qd_tuning_way again = way_now(c, &b, 20);
    ck_assert(same_way(&again, &some));
    cl_tuned_rows = shipped;
    qd_ways_free(ways);
    free_plan(p, t);
    qd_context_free(c);
    free_bed(&b);
}
END_TEST

/* ---- Runs of any number of rows ------------------------------------------------------------------------------ */

/* Each class goes another way; a graph's runs take theirs, in any order, and the results stay the same. */
START_TEST(test_graph) {
    if (!have_opencl()) return;
    static bed b;
    make_bed(&b);
    static const int64_t rows[] = {1, 140, 9, 1, 20, 127, 128, 2, 15, 16};
    static const int classes[] = {0, 3, 1, 0, 2, 2, 3, 1, 1, 2};
    static const char *const options[QD_TUNING_ROWS] = {"", "QD_TOKENS=2", "QD_TOKENS=8", "QD_TOKENS=4"};
    const qd_context_options o = {.tuning = "", .out_of_order = _i == 1, .no_fuse = true, .profile = true};
    qd_context *c;
    qd_graph *g;
    ck_ok(qd_context_create("opencl", &o, &c));
    for (int i = 0; i < QD_TUNING_ROWS; i++) {
        qd_tensor *t[3];
        qd_tuning_way *ways;
        int count;
        qd_plan *p = make_plan(c, &b, qd_tuning_least_rows(i), t);
        ck_ok(qd_plan_ways(p, &ways, &count));
        qd_tuning_way w = ways[0];
        snprintf(w.options, sizeof w.options, "%s", options[i]);
        w.groups = i + 1;
        ck_ok(qd_plan_choose(p, &w));
        qd_ways_free(ways);
        free_plan(p, t);
    }
    qd_tensor *t[4];
    const qd_tensor_desc dw = qd_desc(QD_FORMAT_Q4_0, N, K, 0, 0), dx = qd_desc(QD_FORMAT_A8, MOST_M, K, 0, 0),
                         dy = qd_desc(QD_FORMAT_F32, MOST_M, N, 0, 0),
                         inside = qd_desc(QD_FORMAT_F32, QD_ROWS, N, 0, 0);
    ck_ok(qd_graph_create(c, MOST_M, &g));
    ck_ok(qd_tensor_constant(c, &dw, b.w, &t[0]));
    t[1] = tensor_with(c, dx, b.x);
    ck_ok(qd_tensor_create(c, &dy, &t[2]));
    ck_ok(qd_graph_tensor(g, &inside, &t[3]));
    ck_ok(qd_graph_add(g, QD_OP_MATMUL, NULL, t, 2, &t[3], 1));
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){t[3], t[3]}, 2, &t[2], 1));
    ck_ok(qd_graph_compile(g, NULL, NULL));
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        static float got[MOST_M * N], zero[MOST_M * N];
        qd_profile_row *profile;
        int n, ran = 0;
        ck_ok(qd_tensor_write(t[2], 0, zero, sizeof zero));
        qd_context_profile_reset(c);
        ck_ok(qd_graph_run(g, rows[r]));
        ck_ok(qd_tensor_read(t[2], 0, got, sizeof got));
        for (int64_t i = 0; i < MOST_M * N; i++) {
            const float want = i < rows[r] * N ? b.want[i] + b.want[i] : 0;
            ck_assert_msg(!memcmp(&got[i], &want, sizeof want), "%lld rows: element %lld is %g, not %g",
                          (long long)rows[r], (long long)i, (double)got[i], (double)want);
        }
        ck_ok(qd_context_profile(c, &profile, &n));
        for (int i = 0; i < n; i++) {
            if (strncmp(profile[i].kernel, "matmul", 6) != 0) continue;
            const char *has = strchr(profile[i].kernel, ' ');
            ck_assert_msg(!strcmp(has ? has + 1 : "", options[classes[r]]), "%lld rows: %s", (long long)rows[r],
                          profile[i].kernel);
            ran++;
        }
        ck_assert_int_eq(ran, 1);
        qd_profile_free(profile);
    }
    qd_graph_free(g);
    for (int i = 0; i < 3; i++)
        qd_tensor_free(t[i]);
    qd_context_free(c);
    free_bed(&b);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("tuning");
    tcase_add_test(tc, test_good);
    tcase_add_loop_test(tc, test_damaged, 0, sizeof damaged / sizeof damaged[0]);
    tcase_add_test(tc, test_cut);
    tcase_add_test(tc, test_rows);
    tcase_add_test(tc, test_ways);
    tcase_add_test(tc, test_file);
    tcase_add_test(tc, test_shipped);
    tcase_add_test(tc, test_rows_used);
    tcase_add_loop_test(tc, test_graph, 0, 2);
    return run_tests(tc, "tuning");
}
