/* SOFTMAX: its definition in float64, answers by hand, in place, and what is refused. */
#include <math.h>

#include "unit/one_op.h"

#define F32(...) qd_desc(QD_FORMAT_F32, __VA_ARGS__)

/* Opens device _i, or ends the test where there is none. */
#define WITH_DEVICE(c)                     \
    qd_context *c = open_device(_i, NULL); \
    if (!c) return

enum { A = 2, H = 6, T = 5, C = 43 };

/* Mask of half as many heads, one for all of A, and two rows too many. */
enum { MASK_H = 3, MASK_T = 7 };

/* exp is good to 2^-22; arguments of up to 30 lose a few bits more. */
#define TOLERANCE 2e-6

START_TEST(test_definition) {
    WITH_DEVICE(c);
    static float x[A * H * T * C], mask[MASK_H * MASK_T * C], slopes[H], y[A * H * T * C];
    uint32_t rng = 3;
    random_floats(&rng, x, A * H * T * C);
    random_floats(&rng, mask, MASK_H * MASK_T * C);
    random_floats(&rng, slopes, H);
    for (int i = 0; i < MASK_H * MASK_T * C; i++)
        if (random_bits(&rng) % 4 == 0) mask[i] = -INFINITY;
    one_op o = {.op = QD_OP_SOFTMAX,
                .attrs = {.softmax = {.scale = 5.0f}},
                .in = {F32(A, H, T, C), F32(MASK_H, MASK_T, C, 0), F32(H, 0, 0, 0)},
                .out = F32(A, H, T, C),
                .data = {x, mask, slopes}};
    ck_ok(one_op_run(c, &o, y));
    for (int r = 0; r < A * H * T; r++) {
        double e[C], sum = 0;
        for (int i = 0; i < C; i++) {
            const double m = (double)mask[(r / T % H % MASK_H * MASK_T + r % T) * C + i];
            e[i] = isinf(m) ? 0 : exp(5 * (double)x[r * C + i] + (double)slopes[r / T % H] * m);
            sum += e[i];
        }
        for (int i = 0; i < C; i++)
            ck_assert_msg(fabs((double)y[r * C + i] - e[i] / sum) <= TOLERANCE * e[i] / sum,
                          "row %d, column %d: %.9g, not %.9g", r, i, (double)y[r * C + i], e[i] / sum);
    }
    qd_context_free(c);
}
END_TEST

/* Powers of two, which exp does not give exactly, but with one rounding each. */
static void ck_near(qd_context *c, const one_op *o, int n, const double *want, const char *what) {
    float y[16];
    ck_ok(one_op_run(c, o, y));
    for (int i = 0; i < n; i++)
        ck_assert_msg(fabs((double)y[i] - want[i]) < 1e-6, "%s: element %d is %.9g, not %.9g", what, i, (double)y[i],
                      want[i]);
}

START_TEST(test_by_hand) {
    WITH_DEVICE(c);
    const float ln2 = logf(2), out = -INFINITY;
    one_op o = {
        .op = QD_OP_SOFTMAX, .attrs = {.softmax = {.scale = 1}}, .in = {F32(3, 0, 0, 0)}, .out = F32(3, 0, 0, 0)};
    o.data[0] = (float[]){0, ln2, 0};
    ck_near(c, &o, 3, (double[]){0.25, 0.5, 0.25}, "a row");
    o.attrs.softmax.scale = -1;
    ck_near(c, &o, 3, (double[]){0.4, 0.2, 0.4}, "a negative scale");
    o.attrs.softmax.scale = 1;
    o.data[0] = (float[]){1e30f, -1e30f, 1e30f};
    one_op_gives(c, &o, (float[]){0.5f, 0, 0.5f}, "far apart");
    o.data[0] = (float[]){out, 7, out};
    one_op_gives(c, &o, (float[]){0, 1, 0}, "one is left");
    o.data[0] = (float[]){out, out, out};
    one_op_gives(c, &o, (float[]){0, 0, 0}, "none is left");
    o.data[0] = (float[]){1, NAN, out};
    const uint32_t nan = 0x7fc00000;
    one_op_gives(c, &o, (uint32_t[]){nan, nan, nan}, "NaN");
    o.in[1] = qd_desc(QD_FORMAT_F16, 3, 0, 0, 0);
    o.data[1] = (uint16_t[]){0, 0xfc00, 0};
    o.data[0] = (float[]){3, NAN, 3};
    one_op_gives(c, &o, (float[]){0.5f, 0, 0.5f}, "a mask of halves");
    /* Two heads of two rows: slopes 1 and -1 of the same mask row, which the rows of a head share. */
    o = (one_op){.op = QD_OP_SOFTMAX,
                 .attrs = {.softmax = {.scale = 1, .max_bias = 8}},
                 .in = {F32(2, 2, 2, 0), F32(1, 2, 0, 0), F32(2, 0, 0, 0)},
                 .out = F32(2, 2, 2, 0),
                 .data = {(float[8]){0}, (float[]){0, ln2}, (float[]){1, -1}}};
    ck_near(c, &o, 8, (double[]){1 / 3.0, 2 / 3.0, 1 / 3.0, 2 / 3.0, 2 / 3.0, 1 / 3.0, 2 / 3.0, 1 / 3.0}, "slopes");
    qd_context_free(c);
}
END_TEST

START_TEST(test_in_place) {
    WITH_DEVICE(c);
    enum { ROWS = 7, COLS = 50 };
    static float x[ROWS * COLS], want[ROWS * COLS];
    uint32_t rng = 5;
    random_floats(&rng, x, ROWS * COLS);
    one_op o = {.op = QD_OP_SOFTMAX,
                .attrs = {.softmax = {.scale = 2}},
                .in = {F32(ROWS, COLS, 0, 0)},
                .out = F32(ROWS, COLS, 0, 0),
                .data = {x}};
    ck_ok(one_op_run(c, &o, want));
    qd_tensor *t = tensor_with(c, o.out, x), *over;
    qd_plan *plan;
    ck_ok(qd_plan_create(c, o.op, &o.attrs, &t, 1, &t, 1, &plan));
    ck_ok(qd_plan_run(plan));
    ck_tensor(t, want, "in place");
    qd_plan_free(plan);
    /* Rows one further: what is read has been written. */
    const qd_tensor_desc less = F32(ROWS - 1, COLS, 0, 0);
    qd_tensor *first;
    ck_ok(qd_tensor_window(t, 0, &less, NULL, &first));
    ck_ok(qd_tensor_window(t, COLS * sizeof(float), &less, NULL, &over));
    ck_fails(qd_plan_create(c, o.op, &o.attrs, &first, 1, &over, 1, &plan), QD_ERR_ARGUMENT, "over an input");
    qd_tensor_free(first);
    qd_tensor_free(over);
    qd_tensor_free(t);
    qd_context_free(c);
}
END_TEST

START_TEST(test_refused) {
    WITH_DEVICE(c);
    const one_op good = {.op = QD_OP_SOFTMAX,
                         .attrs = {.softmax = {.scale = 1}},
                         .in = {F32(2, 4, 3, 5), F32(1, 2, 3, 5), F32(4, 0, 0, 0)},
                         .out = F32(2, 4, 3, 5)};
    float y[1000];
    ck_ok(one_op_run(c, &good, y));
    one_op o = good;
    o.out = F32(2, 4, 15, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "the same shape");
    static const qd_tensor_desc masks[] = {{QD_FORMAT_F32, 4, {1, 2, 3, 1}},
                                           {QD_FORMAT_F32, 4, {1, 2, 2, 5}},
                                           {QD_FORMAT_F32, 4, {1, 3, 3, 5}},
                                           {QD_FORMAT_F32, 4, {4, 2, 3, 5}},
                                           {QD_FORMAT_F32, 1, {6}}};
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        o = good, o.in[1] = masks[i];
        one_op_refused(c, &o, QD_ERR_ARGUMENT, "the mask must");
    }
    o = good, o.in[0] = o.out = F32(3, 5, 0, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "the mask must");
    o = good, o.in[2] = F32(2, 0, 0, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "2 slopes for 4 heads");
    o = good, o.in[2].rank = 0, o.attrs.softmax.max_bias = 8;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "without slopes");
    o = good, o.attrs.softmax.scale = INFINITY;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "must be finite");
    o = good, o.in[1].format = QD_FORMAT_BF16;
    one_op_refused(c, &o, QD_ERR_UNSUPPORTED, "mask cannot be bf16");
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("softmax");
    tcase_add_loop_test(tc, test_definition, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_by_hand, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_in_place, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_refused, 0, TEST_DEVICES);
    return run_tests(tc, "softmax");
}
