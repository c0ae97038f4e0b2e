/* Several devices as one: the bytes of one device, by layers and by rows; each does its share; bad names are refused.
 */
#include <stdlib.h>
#include <string.h>

#include "unit/graph_bed.h"
#include "unit/model_image.h"

enum { TOKENS = 20, CHUNK = 8, MOST_VOCAB = 128 };

static const char *const devices[] = {"layers:ref,ref",     "layers:ref=1,ref=3", "rows:ref,ref",
                                      "rows:ref,ref=2,ref", "layers:opencl,ref",  "rows:ref,opencl"};
enum { DEVICES = sizeof devices / sizeof devices[0] };

/* NULL: there is no OpenCL device. */
static qd_context *open_several(const char *device, const qd_context_options *o) {
    if (strstr(device, "opencl") && !have_opencl()) return NULL;
    return model_context(device, o);
}

/* Wide enough for rows to be shared by three. */
static model_spec wide(qd_format f) {
    model_spec s = model_small(f);
    s.layers = 4;
    s.width = 256;
    s.heads = 4;
    s.kv_heads = 2;
    s.head_dim = 64;
    s.ff = 320;
    return s;
}

static void logits_of(qd_context *c, model_parts *parts, qd_format activations, const char *replaced, float *logits) {
    int32_t tokens[TOKENS];
    model_tokens(3, parts->spec.vocab, tokens, TOKENS);
    const qd_model_options o = model_options(CHUNK, activations);
    model_bed b = model_open(parts, c, &o);
    model_eval(b.model, tokens, TOKENS, logits);
    if (replaced) { /* the first run gave all devices the old values */
        const model_tensor *t = model_find_tensor(parts, replaced);
        float *values = calloc((size_t)(t->rows * t->cols), sizeof *values);
        ck_assert_ptr_nonnull(values);
        for (int64_t i = 0; i < t->rows * t->cols; i++)
            values[i] = (float)(i % 7 - 3) / 64;
        ck_ok(qd_model_replace(b.model, replaced, values));
        ck_ok(qd_model_rewind(b.model, 0));
        model_eval(b.model, tokens, TOKENS, logits);
        free(values);
    }
    model_close(&b);
}

START_TEST(test_model) {
    static float want[TOKENS * MOST_VOCAB], got[TOKENS * MOST_VOCAB];
    static const struct {
        qd_format weights, activations;
        const char *replaced;
    } cases[] = {{QD_FORMAT_Q4_1, QD_FORMAT_A8, NULL},
                 {QD_FORMAT_F16, QD_FORMAT_F32, NULL},
                 {QD_FORMAT_F32, QD_FORMAT_F32, "blk.3.attn_q.weight"},
                 {QD_FORMAT_F32, QD_FORMAT_F32, "blk.0.ffn_down.weight"}};
    qd_context *several = open_several(devices[_i], NULL), *ref = model_context("ref", NULL);
    for (size_t i = 0; several && i < sizeof cases / sizeof cases[0]; i++) {
        const model_spec s = wide(cases[i].weights);
        model_parts parts = model_make(&s, 1);
        logits_of(ref, &parts, cases[i].activations, cases[i].replaced, want);
        logits_of(several, &parts, cases[i].activations, cases[i].replaced, got);
        ck_assert_msg(memcmp(got, want, (size_t)TOKENS * (size_t)s.vocab * sizeof(float)) == 0,
                      "%s: case %zu: other logits than the reference's", devices[_i], i);
        model_parts_free(&parts);
    }
    qd_context_free(several);
    qd_context_free(ref);
}
END_TEST

START_TEST(test_fuzz) {
    const bool compiles = strstr(devices[_i], "opencl") != NULL; /* products only, for the time that it takes */
    qd_context *c = open_several(devices[_i], NULL);
    const qd_fuzz_options all = {.seed = 4, .cases = 600},
                          products = {.seed = 5, .cases = 100, .op = "matmul", .formats = "q8_0 a8", .size = 6};
    for (int i = compiles; c && i < 2; i++) {
        qd_fuzz_result r;
        ck_ok(qd_fuzz(c, i ? &products : &all, &r));
        ck_assert_msg(!r.different, "%s: %s %s: %s; %s", devices[_i], r.op, r.formats, r.first, r.repeat);
        qd_fuzz_result_free(&r);
    }
    qd_context_free(c);
}
END_TEST

/* Calls of matrix products on each device. */
static void count_products(qd_context *c, uint64_t calls[2]) {
    qd_profile_row *rows;
    int n;
    ck_ok(qd_context_profile(c, &rows, &n));
    calls[0] = calls[1] = 0;
    for (int i = 0; i < n; i++) {
        const int device = rows[i].kernel[0] - '0';
        ck_assert(device >= 0 && device < 2 && rows[i].kernel[1] == ':');
        if (strstr(rows[i].kernel, "matmul")) calls[device] += rows[i].calls;
    }
    qd_profile_free(rows);
}

START_TEST(test_shares) {
    static const struct {
        const char *device;
        double least, most; /* of the first one's part of the calls */
    } shares[] = {{"layers:opencl,opencl", 0.35, 0.65},
                  {"layers:opencl=3,opencl=1", 0.6, 0.9},
                  {"layers:opencl=1,opencl=3", 0.1, 0.4},
                  {"rows:opencl,opencl", 0.5, 0.65}}; /* the output matrix of few rows is the first one's */
    static float logits[TOKENS * MOST_VOCAB];
    const qd_context_options o = {.profile = true};
    qd_context *c = open_several(shares[_i].device, &o);
    if (!c) return;
    const model_spec s = wide(QD_FORMAT_Q8_0);
    model_parts parts = model_make(&s, 1);
    uint64_t calls[2];
    logits_of(c, &parts, QD_FORMAT_A8, NULL, logits);
    count_products(c, calls);
    const double part = (double)calls[0] / (double)(calls[0] + calls[1]);
    ck_assert_msg(part > shares[_i].least && part < shares[_i].most, "%s: the first has %llu products, the second %llu",
                  shares[_i].device, (unsigned long long)calls[0], (unsigned long long)calls[1]);
    qd_context_profile_reset(c);
    count_products(c, calls);
    ck_assert_uint_eq(calls[0] + calls[1], 0);
    model_parts_free(&parts);
    qd_kernel_info *kernels;
    int n;
    ck_ok(qd_context_kernels(c, &kernels, &n));
    ck_assert(n > 2 && n % 2 == 0 && strcmp(kernels[0].variant, kernels[n / 2].variant) == 0);
    qd_kernels_free(kernels);
    qd_context_free(c);
}
END_TEST

/* Rows of a tensor of the graph, of which another device wrote the other ones before; both devices write it in turns.
 */
static void make_rows(graph_bed *b, qd_context *c) {
    enum { V = 8, C = 64, FEW = 2 };
    const int32_t ids[FEW] = {6, 1};
    const qd_tensor_desc f = qd_desc(QD_FORMAT_F32, V, C, 0, 0), w = qd_desc(QD_FORMAT_F32, C, C, 0, 0);
    bed_open(b, c, V, 7);
    qd_tensor *all = bed_inside(b, f), *y = bed_inside(b, f), *x = bed_input(b, f);
    qd_tensor *rows[] = {bed_input(b, qd_desc(QD_FORMAT_F32, FEW, C, 0, 0)),
                         bed_keep(b, tensor_with(c, qd_desc(QD_FORMAT_I32, FEW, 0, 0, 0), ids))};
    bed_add(b, QD_OP_MATMUL, NULL, (qd_tensor *[]){bed_weights(b, w), x}, 2, all);
    bed_add(b, QD_OP_MATMUL, NULL, (qd_tensor *[]){bed_weights(b, w), x}, 2, y);
    bed_add(b, QD_OP_SET_ROWS, NULL, rows, 2, all);
    bed_add(b, QD_OP_ADD, NULL, (qd_tensor *[]){all, y}, 2, bed_output(b, f));
    bed_run(b, V);
    ck_ok(qd_graph_run(b->g, V));
}

START_TEST(test_rows_left) {
    graph_bed want, got;
    const qd_context_options o = {.no_fuse = true};
    qd_context *ref = model_context("ref", &o), *several = model_context("layers:ref,ref", &o);
    make_rows(&want, ref);
    make_rows(&got, several);
    bed_compare(&got, &want, "rows that set_rows leaves");
    bed_close(&got);
    bed_close(&want);
    qd_context_free(several);
    qd_context_free(ref);
}
END_TEST

/* A budget is each device's own; what does not fit is told, and nothing is lost. */
START_TEST(test_budget) {
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 64, 64, 0, 0);
    const qd_context_options o = {.memory_budget = 40000};
    qd_context *c = model_context("layers:ref,ref", &o);
    qd_tensor *t[4];
    qd_plan *plans[2], *unset = NULL;
    qd_memory_info m;
    for (int i = 0; i < 4; i++)
        ck_ok(qd_tensor_create(c, &d, &t[i])); /* no memory before it is used */
    for (int i = 0; i < 2; i++)                /* one for each device: an operand and its result */
        ck_ok(qd_plan_create(c, QD_OP_ADD, NULL, (qd_tensor *[]){t[i], t[i]}, 2, &t[2 + i], 1, &plans[i]));
    ck_ok(qd_context_memory(c, &m));
    ck_assert_uint_eq(m.budget, 80000);
    ck_assert_uint_eq(m.used, 4 * 64 * 64 * sizeof(float));
    ck_fails(qd_plan_create(c, QD_OP_ADD, NULL, (qd_tensor *[]){t[1], t[1]}, 2, &t[2], 1, &unset), QD_ERR_DEVICE_MEMORY,
             "budget");
    ck_assert_ptr_null(unset);
    ck_ok(qd_plan_run(plans[0]));
    for (int i = 0; i < 2; i++)
        qd_plan_free(plans[i]);
    for (int i = 0; i < 4; i++)
        qd_tensor_free(t[i]);
    ck_ok(qd_context_memory(c, &m));
    ck_assert_uint_eq(m.used, 0);
    qd_context_free(c);
}
END_TEST

START_TEST(test_names) {
    static const struct {
        const char *device, *part;
    } bad[] = {{"layers", "two devices or more"},
               {"layers:", "two devices or more"},
               {"rows:ref", "two devices or more"},
               {"layers:ref,nothing", "\"nothing\" is no device"},
               {"layers:ref,rows:ref", "\"rows:ref\" is no device"},
               {"layers:ref,ref=0", "\"0\" is no share"},
               {"layers:ref,ref=", "\"\" is no share"},
               {"layers:ref=many,ref", "\"many\" is no share"},
               {"layers:ref,ref=-1", "is no share"},
               {"layers:ref,sim:nowhere", "nowhere"},
               {"rows:ref,ref,ref,ref,ref,ref,ref,ref,ref", "more than 8 devices"}};
    qd_context *c = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_fails(qd_context_create(bad[i].device, NULL, &c), QD_ERR_NO_DEVICE, bad[i].part);
        ck_assert_ptr_null(c);
    }
    c = model_context("layers:ref,ref=2.5,sim:KV260", NULL);
    const qd_device_info *info = qd_context_device(c);
    ck_assert_str_eq(info->id, "layers:ref,ref=2.5,sim:KV260");
    ck_assert_ptr_nonnull(strstr(info->name, "C reference + C reference + KV260"));
    ck_assert(info->usable);
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("split");
    tcase_set_timeout(tc, 300);
    tcase_add_loop_test(tc, test_model, 0, DEVICES);
    tcase_add_loop_test(tc, test_fuzz, 0, DEVICES);
    tcase_add_loop_test(tc, test_shares, 0, 4);
    tcase_add_test(tc, test_rows_left);
    tcase_add_test(tc, test_budget);
    tcase_add_test(tc, test_names);
    return run_tests(tc, "split");
}
