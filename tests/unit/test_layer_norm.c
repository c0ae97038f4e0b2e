/* LAYER_NORM: answers worked out by hand, the error that qdot_ops.def allows against float64, results that are A8 or
 * take the place of x, and many in one launch. */
#include <math.h>

#include "unit/graph_bed.h"
#include "unit/one_op.h"

#define F32(...) qd_desc(QD_FORMAT_F32, __VA_ARGS__)

/* Opens device _i, or ends the test where there is none. */
#define WITH_DEVICE(c)                     \
    qd_context *c = open_device(_i, NULL); \
    if (!c) return

static qd_attrs with_epsilon(float epsilon) {
    return (qd_attrs){.layer_norm = {.epsilon = epsilon}};
}

/* Means 7, 0 and 16777220, deviations 2, 1 and 4. Weights and bias, each by itself, both, none. */
START_TEST(test_by_hand) {
    WITH_DEVICE(c);
    const float x[] = {5, 5, 9, 9, -1, 1, -1, 1, 16777216, 16777216, 16777224, 16777224};
    const float weight[] = {1, 2, 3, 4}, bias[] = {10, 20, 30, 40};
    one_op o = {.op = QD_OP_LAYER_NORM, .attrs = with_epsilon(0), .in = {F32(3, 4, 0, 0)}, .data = {x, weight, bias}};
    o.out = o.in[0];
    one_op_gives(c, &o, (float[]){-1, -1, 1, 1, -1, 1, -1, 1, -1, -1, 1, 1}, "neither");
    o.in[1] = F32(4, 0, 0, 0);
    one_op_gives(c, &o, (float[]){-1, -2, 3, 4, -1, 2, -3, 4, -1, -2, 3, 4}, "weight");
    o.in[2] = o.in[1];
    one_op_gives(c, &o, (float[]){9, 18, 33, 44, 9, 22, 27, 44, 9, 18, 33, 44}, "weight and bias");
    o.in[1].rank = 0;
    one_op_gives(c, &o, (float[]){9, 19, 31, 41, 9, 21, 29, 41, 9, 19, 31, 41}, "bias");
    qd_context_free(c);
}
END_TEST

/* 0.75² + 0.4375 = 1; a row of one value, and one of one column. */
START_TEST(test_epsilon) {
    WITH_DEVICE(c);
    one_op o = {.op = QD_OP_LAYER_NORM, .attrs = with_epsilon(0.4375f), .in = {F32(2, 2, 0, 0)}};
    o.out = o.in[0];
    o.data[0] = (const float[]){1.25f, 2.75f, 7, 7};
    one_op_gives(c, &o, (float[]){-0.75f, 0.75f, 0, 0}, "two columns");
    o.in[0] = o.out = F32(2, 1, 0, 0);
    one_op_gives(c, &o, (float[]){0, 0}, "one column");
    qd_context_free(c);
}
END_TEST

/* 0 / 0, infinities and NaN of both signs: all become the one NaN, and other rows are as ever. */
START_TEST(test_nan) {
    WITH_DEVICE(c);
    const float x[] = {7, 7, -1, 1, INFINITY, 1, -INFINITY, 0, -NAN, 2};
    const uint32_t n = 0x7fc00000, one = 0x3f800000, minus_one = 0xbf800000;
    one_op o = {.op = QD_OP_LAYER_NORM, .attrs = with_epsilon(0), .in = {F32(5, 2, 0, 0)}, .data = {x}};
    o.out = o.in[0];
    one_op_gives(c, &o, (uint32_t[]){n, n, minus_one, one, n, n, n, n, n, n}, "NaN");
    qd_context_free(c);
}
END_TEST

/* The bound in qdot_ops.def, for sums of any length, with means beside which the deviation is small. */
START_TEST(test_accuracy) {
    enum { MOST = 5000 };
    static const int columns[] = {2, 15, 16, 17, 33, 384, MOST};
    static const float offsets[] = {0, 3, -1000};
    static float x[MOST], y[MOST];
    const int C = columns[_i];
    uint32_t state = 5;
    qd_context *c = open_device(0, NULL);
    for (size_t k = 0; k < sizeof offsets / sizeof offsets[0]; k++) {
        random_floats(&state, x, (size_t)C);
        double mean = 0, magnitude = 0, variance = 0;
        for (int i = 0; i < C; i++) {
            x[i] += offsets[k];
            mean += (double)x[i] / C;
            magnitude += fabs((double)x[i]) / C;
        }
        for (int i = 0; i < C; i++)
            variance += ((double)x[i] - mean) * ((double)x[i] - mean) / C;
        const double deviation = sqrt(variance + (double)1e-5f);
        one_op o = {.op = QD_OP_LAYER_NORM, .attrs = with_epsilon(1e-5f), .in = {F32(1, C, 0, 0)}, .data = {x}};
        o.out = o.in[0];
        ck_ok(one_op_run(c, &o, y));
        for (int i = 0; i < C; i++) {
            const double want = ((double)x[i] - mean) / deviation;
            const double limit = (C / 16.0 + 16) * 0x1p-24 * (magnitude / deviation + fabs(want));
            ck_assert_msg(fabs((double)y[i] - want) <= limit, "%d columns, offset %g: y[%d] is %.9g, not %.9g", C,
                          (double)offsets[k], i, (double)y[i], want);
        }
    }
    qd_context_free(c);
}
END_TEST

/* A8 is what QUANTIZE makes of the floats, and y in the place of x has the bytes that it has apart. */
START_TEST(test_results) {
    WITH_DEVICE(c);
    enum { ROWS = 3, COLS = 48 };
    static float x[ROWS * COLS], weight[COLS], bias[COLS], y[ROWS * COLS];
    uint32_t state = 3;
    random_floats(&state, x, ROWS * COLS);
    random_floats(&state, weight, COLS);
    random_floats(&state, bias, COLS);
    const qd_tensor_desc d = F32(ROWS, COLS, 0, 0), line = F32(COLS, 0, 0, 0);
    one_op o = {.op = QD_OP_LAYER_NORM, .attrs = with_epsilon(1e-5f), .in = {d, line, line}};
    o.out = d;
    o.data[0] = x, o.data[1] = weight, o.data[2] = bias;
    ck_ok(one_op_run(c, &o, y));
    o.out.format = QD_FORMAT_A8;
    void *codes = malloc(qd_desc_bytes(&o.out));
    ck_assert_ptr_nonnull(codes);
    ck_ok(qd_quantize(QD_FORMAT_A8, y, ROWS, COLS, codes));
    one_op_gives(c, &o, codes, "a8");
    free(codes);

    qd_tensor *in[] = {tensor_with(c, d, x), tensor_with(c, line, weight), tensor_with(c, line, bias)};
    qd_plan *plan;
    ck_ok(qd_plan_create(c, QD_OP_LAYER_NORM, &o.attrs, in, 3, &in[0], 1, &plan));
    ck_ok(qd_plan_run(plan));
    ck_tensor(in[0], y, "in place");
    qd_plan_free(plan);
    for (int i = 0; i < 3; i++)
        qd_tensor_free(in[i]);
    qd_context_free(c);
}
END_TEST

/* One after the other, with and without weights and bias. */
static graph_bed make_norms(qd_context *c, int count) {
    enum { ROWS = 3, COLS = 40 };
    const qd_tensor_desc d = F32(ROWS, COLS, 0, 0), line = F32(COLS, 0, 0, 0);
    const qd_attrs attrs = with_epsilon(1e-5f);
    graph_bed b;
    bed_open(&b, c, ROWS, 9);
    qd_tensor *x = bed_input(&b, d), *w = bed_weights(&b, line), *bias = bed_weights(&b, line);
    for (int i = 0; i < count; i++) {
        qd_tensor *in[] = {x, i & 1 ? w : NULL, i & 2 ? bias : NULL};
        x = i + 1 < count ? bed_inside(&b, d) : bed_output(&b, d);
        bed_add(&b, QD_OP_LAYER_NORM, &attrs, in, 3, x);
    }
    return b;
}

/* So many operators that a CPU through PoCL chains them (host/opencl/cl_chain.c), with the reference's bytes. */
START_TEST(test_chain) {
    enum { COUNT = 35 };
    if (!have_x86_pocl()) return;
    qd_context *c, *ref;
    ck_ok(qd_context_create("opencl:Portable Computing Language", NULL, &c));
    ck_ok(qd_context_create("ref", NULL, &ref));
    graph_bed got = make_norms(c, COUNT), want = make_norms(ref, COUNT);
    ck_assert_int_eq(bed_run(&got, 3).chained, COUNT);
    bed_run(&want, 3);
    bed_compare(&got, &want, "a chain");
    bed_close(&got);
    bed_close(&want);
    qd_context_free(c);
    qd_context_free(ref);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("layer_norm");
    tcase_add_loop_test(tc, test_by_hand, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_epsilon, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_nan, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_accuracy, 0, 7);
    tcase_add_loop_test(tc, test_results, 0, TEST_DEVICES);
    tcase_add_test(tc, test_chain);
    return run_tests(tc, "layer_norm");
}
