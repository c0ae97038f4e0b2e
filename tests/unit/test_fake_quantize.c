/* FAKE_QUANTIZE and FAKE_QUANTIZE_GRAD: numpy's answers (fake_quantize_golden.py), values that are no numbers, views,
 * runs of some rows, and what is refused. */
#include <math.h>

#include "unit/fake_quantize_golden.h"
#include "unit/one_op.h"

#define F32(...) qd_desc(QD_FORMAT_F32, __VA_ARGS__)
#define I32(...) qd_desc(QD_FORMAT_I32, __VA_ARGS__)
#define COUNT(a) (sizeof(a) / sizeof *(a))

/* Opens device _i, or ends the test where there is none. */
#define WITH_DEVICE(c)                     \
    qd_context *c = open_device(_i, NULL); \
    if (!c) return

/* As in the generator. */
static void numbers(float *x, int n, int64_t a, int64_t b, int64_t m, float step) {
    for (int i = 0; i < n; i++)
        x[i] = (float)((i * a + b) % m - m / 2) * step;
}

/* Operands of both operators; in[] and out[] as in qdot_ops.def. */
typedef struct operands {
    qd_tensor *in[4], *y, *out[3];
} operands;

static operands make(qd_context *c, qd_tensor_desc x, qd_tensor_desc scale, const float *xs, const float *dys,
                     const float *scales, const int32_t *zeros) {
    qd_tensor_desc zero = scale;
    zero.format = QD_FORMAT_I32;
    operands o = {.in = {tensor_with(c, x, xs), tensor_with(c, scale, scales), tensor_with(c, zero, zeros),
                         tensor_with(c, x, dys)}};
    ck_ok(qd_tensor_create(c, &x, &o.y));
    ck_ok(qd_tensor_create(c, &x, &o.out[0]));
    ck_ok(qd_tensor_create(c, &scale, &o.out[1]));
    ck_ok(qd_tensor_create(c, &scale, &o.out[2]));
    return o;
}

static void free_all(operands *o) {
    for (int i = 0; i < 4; i++)
        qd_tensor_free(o->in[i]);
    for (int i = 0; i < 3; i++)
        qd_tensor_free(o->out[i]);
    qd_tensor_free(o->y);
}

/* Runs one of them; a device must have a kernel of its own for it. */
static void run(qd_context *c, qd_op op, const qd_attrs *attrs, operands *o) {
    qd_plan *plan = NULL;
    const bool grad = op == QD_OP_FAKE_QUANTIZE_GRAD;
    ck_ok(qd_plan_create(c, op, attrs, o->in, grad ? 4 : 3, grad ? o->out : &o->y, grad ? 3 : 1, &plan));
    if (strcmp(qd_context_device(c)->id, "ref") != 0)
        ck_assert_str_eq(qd_plan_variant(plan), grad ? "fake_quantize_grad" : "fake_quantize");
    ck_ok(qd_plan_run(plan));
    qd_plan_free(plan);
}

static void run_both(qd_context *c, const qd_attrs *attrs, operands *o) {
    run(c, QD_OP_FAKE_QUANTIZE, attrs, o);
    run(c, QD_OP_FAKE_QUANTIZE_GRAD, attrs, o);
}

/* ---- Numpy's answers ---------------------------------------------------------------------------------------- */

START_TEST(test_channels) {
    WITH_DEVICE(c);
    static const float scales[] = {0.25f, 0.3f, 0.07f, 1.5f};
    static const int32_t zeros[] = {0, -3, 9, 7};
    float x[24], dy[24];
    numbers(x, 24, 7919, 13, 401, 1 / 64.0f);
    numbers(dy, 24, 104729, 5, 255, 1 / 32.0f);
    operands o = make(c, F32(2, 4, 3, 0), F32(4, 0, 0, 0), x, dy, scales, zeros);
    qd_attrs attrs = {.fake_quantize = {.axis = -2, .min = -8, .max = 7, .factor = 0.5f}};
    run_both(c, &attrs, &o);
    ck_tensor(o.y, small_y_0, "y");
    ck_tensor(o.out[0], small_dx_0, "dx");
    ck_tensor(o.out[1], small_dscale_0, "dscale");
    ck_tensor(o.out[2], small_dzero_0, "dzero");
    attrs.fake_quantize.clip = true;
    run_both(c, &attrs, &o);
    ck_tensor(o.y, small_y_1, "y, clipped");
    ck_tensor(o.out[0], small_dx_1, "dx, clipped");
    ck_tensor(o.out[1], small_dscale_1, "dscale, clipped");
    ck_tensor(o.out[2], small_dzero_1, "dzero, clipped");
    free_all(&o);
    qd_context_free(c);
}
END_TEST

/* Sums of several chunks; factor 0 is 1. */
START_TEST(test_sums) {
    WITH_DEVICE(c);
    static float x[4040], dy[4040], scales[40];
    static int32_t zeros[40];
    for (int i = 0; i < 40; i++) {
        scales[i] = 0.3f;
        zeros[i] = 1;
    }
    numbers(x, 4040, 7919, 13, 4001, 1 / 256.0f);
    numbers(dy, 4040, 104729, 5, 2047, 1 / 1024.0f);
    const qd_attrs attrs = {.fake_quantize = {.min = -8, .max = 7}};
    operands all = make(c, F32(2, 2020, 0, 0), F32(1, 0, 0, 0), x, dy, scales, zeros);
    run(c, QD_OP_FAKE_QUANTIZE_GRAD, &attrs, &all);
    ck_tensor(all.out[1], large_all_dscale, "dscale");
    ck_tensor(all.out[2], large_all_dzero, "dzero");
    operands rows = make(c, F32(2, 2020, 0, 0), F32(2, 1, 0, 0), x, dy, scales, zeros);
    run(c, QD_OP_FAKE_QUANTIZE_GRAD, &attrs, &rows);
    ck_tensor(rows.out[1], large_rows_dscale, "dscale of rows");
    ck_tensor(rows.out[2], large_rows_dzero, "dzero of rows");
    operands columns = make(c, F32(101, 40, 0, 0), F32(40, 0, 0, 0), x, dy, scales, zeros);
    run(c, QD_OP_FAKE_QUANTIZE_GRAD, &(qd_attrs){.fake_quantize = {.axis = 1, .min = -8, .max = 7}}, &columns);
    ck_tensor(columns.out[1], large_columns_dscale, "dscale of columns");
    ck_tensor(columns.out[2], large_columns_dzero, "dzero of columns");
    /* The same numbers as columns of a wider matrix. */
    const qd_tensor_desc wide = F32(101, 50, 0, 0);
    float spread[5050] = {0};
    for (int i = 0; i < 4040; i++)
        spread[i / 40 * 50 + 3 + i % 40] = x[i];
    operands view = make(c, F32(101, 40, 0, 0), F32(1, 0, 0, 0), x, dy, scales, zeros);
    qd_tensor *dense = view.in[0], *base = tensor_with(c, wide, spread);
    ck_ok(qd_tensor_view(base, 3, 40, &view.in[0]));
    run(c, QD_OP_FAKE_QUANTIZE_GRAD, &attrs, &view);
    ck_tensor(view.out[1], large_all_dscale, "dscale of a view");
    qd_tensor_free(dense);
    operands *const used[] = {&all, &rows, &columns, &view};
    for (size_t i = 0; i < COUNT(used); i++)
        free_all(used[i]);
    qd_tensor_free(base);
    qd_context_free(c);
}
END_TEST

/* PACT's own formulas: zero point 0, codes from 0, the bound a is scale · 15. */
START_TEST(test_pact) {
    WITH_DEVICE(c);
    const float scale = 1.75f / 15;
    const int32_t zero = 0;
    float x[64], dy[64], y[64], dscale;
    numbers(x, 64, 37, 3, 97, 1 / 16.0f);
    numbers(dy, 64, 11, 1, 31, 1 / 8.0f);
    operands o = make(c, F32(64, 0, 0, 0), F32(1, 0, 0, 0), x, dy, &scale, &zero);
    run_both(c, &(qd_attrs){.fake_quantize = {.max = 15, .clip = true}}, &o);
    ck_ok(qd_tensor_read(o.y, 0, y, sizeof y));
    for (int i = 0; i < 64; i++)
        ck_assert_msg(fabsf(y[i] - pact_y[i]) < 1e-6f, "y %d: %g, not %g", i, (double)y[i], (double)pact_y[i]);
    ck_tensor(o.out[0], pact_dx, "dx");
    ck_ok(qd_tensor_read(o.out[1], 0, &dscale, sizeof dscale));
    ck_assert_msg(dscale / 15 == pact_da[0], "da: %g, not %g", (double)dscale / 15, (double)pact_da[0]);
    free_all(&o);
    qd_context_free(c);
}
END_TEST

/* ---- Other values and shapes -------------------------------------------------------------------------------- */

/* Infinities are the ends; NaN stays one, has no dx, and spoils its scale's gradient only. Zero points that are no
 * codes count as the nearest. */
START_TEST(test_no_numbers) {
    WITH_DEVICE(c);
    const float x[] = {INFINITY, -INFINITY, 1, NAN, 1, 0, 8388609, -8388609, 0.5f},
                dy[] = {1, 2, 4, 8, 16, NAN, 1, 2, 4}, scales[] = {1, 1, 0.5f}, nan_bits[1] = {NAN};
    const int32_t zeros[] = {100, -100, 0};
    operands o = make(c, F32(3, 3, 0, 0), F32(3, 0, 0, 0), x, dy, scales, zeros);
    run_both(c, &(qd_attrs){.fake_quantize = {.min = -2, .max = 1}}, &o);
    /* zero 1: codes -2 … 1 are -3 … 0; zero -2: 0 … 3; zero 0, scale 0.5: -1 … 0.5 */
    ck_tensor(o.y, (float[]){0, -3, 0, nan_bits[0], 1, 0, 0.5f, -1, 0.5f}, "y");
    ck_tensor(o.out[0], (float[]){0, 0, 0, 0, 16, nan_bits[0], 0, 0, 4}, "dx");
    /* 1 · 0 + 2 · -3 + 4 · 0;  1 · 1 + 2 · -2 + 4 · 0 */
    ck_tensor(o.out[1], (float[]){-6, nan_bits[0], -3}, "dscale");
    ck_tensor(o.out[2], (float[]){-7, -8, -1.5f}, "dzero");
    free_all(&o);
    qd_context_free(c);
}
END_TEST

/* Columns of wider matrices, in and out. */
START_TEST(test_views) {
    WITH_DEVICE(c);
    const float x[] = {9, 1, 20, 3, 9, 9, -4, -5, -60, 9}, dy[] = {1, 2, 3, 4, 5, 6}, scale = 1;
    const int32_t zero = 0;
    operands o = make(c, F32(2, 3, 0, 0), F32(1, 0, 0, 0), dy, dy, &scale, &zero);
    qd_tensor *wide = tensor_with(c, F32(2, 5, 0, 0), x), *wide_dx = tensor_with(c, F32(2, 5, 0, 0), x), *whole[2];
    whole[0] = o.in[0];
    whole[1] = o.out[0];
    ck_ok(qd_tensor_view(wide, 1, 3, &o.in[0]));
    ck_ok(qd_tensor_view(wide_dx, 2, 3, &o.out[0]));
    const qd_attrs attrs = {.fake_quantize = {.min = -8, .max = 7}};
    run_both(c, &attrs, &o);
    ck_tensor(o.y, (float[]){1, 7, 3, -4, -5, -8}, "y");
    ck_tensor(wide_dx, (float[]){9, 1, 1, 0, 3, 9, -4, 4, 5, 0}, "dx");
    ck_tensor(o.out[1], (float[]){2 * 7 + 6 * -8}, "dscale");
    qd_tensor *column = NULL, *kept = o.in[1];
    qd_plan *plan = NULL;
    ck_ok(qd_tensor_view(wide, 0, 1, &column));
    o.in[1] = column;
    ck_fails(qd_plan_create(c, QD_OP_FAKE_QUANTIZE, &attrs, o.in, 3, &o.y, 1, &plan), QD_ERR_UNSUPPORTED, "view");
    o.in[1] = kept;
    free_all(&o);
    qd_tensor *rest[] = {column, wide, wide_dx, whole[0], whole[1]};
    for (size_t i = 0; i < COUNT(rest); i++)
        qd_tensor_free(rest[i]);
    qd_context_free(c);
}
END_TEST

/* A graph of four rows that runs with three: a scale for each row, and one for all. */
START_TEST(test_rows) {
    WITH_DEVICE(c);
    const float x[] = {1, 2, 30, 4, 5, 60, 7, 8}, ones[] = {1, 1, 1, 1};
    const int32_t zeros[4] = {0};
    const qd_attrs attrs = {.fake_quantize = {.min = 0, .max = 7}};
    operands each = make(c, F32(4, 2, 0, 0), F32(4, 0, 0, 0), x, x, ones, zeros),
             one = make(c, F32(4, 2, 0, 0), F32(1, 0, 0, 0), x, x, ones, zeros);
    const qd_tensor_desc inside = F32(QD_ROWS, 2, 0, 0);
    qd_graph *g = NULL;
    qd_tensor *y = NULL;
    ck_ok(qd_graph_create(c, 4, &g));
    ck_ok(qd_graph_tensor(g, &inside, &y));
    ck_ok(qd_graph_add(g, QD_OP_FAKE_QUANTIZE, &attrs, each.in, 3, &y, 1));
    qd_tensor *in[] = {y, each.in[1], each.in[2], each.in[3]};
    ck_ok(qd_graph_add(g, QD_OP_FAKE_QUANTIZE_GRAD, &attrs, in, 4, each.out, 3));
    in[1] = one.in[1];
    in[2] = one.in[2];
    in[0] = one.in[0];
    in[3] = y;
    ck_ok(qd_graph_add(g, QD_OP_FAKE_QUANTIZE_GRAD, &attrs, in, 4, one.out, 3));
    ck_ok(qd_graph_compile(g, NULL, NULL));
    ck_ok(qd_graph_run(g, 3));
    /* y: 1 2 | 7 4 | 5 7, all codes */
    ck_tensor(each.out[0], (float[]){1, 2, 30, 4, 5, 60, 0, 0}, "dx");
    ck_tensor(each.out[1], (float[]){0, 0, 0, 0}, "dscale of rows");
    /* 30 and 60 are beyond the end: 7 · 7 + 7 · 7 */
    ck_tensor(one.out[0], (float[]){1, 2, 0, 4, 5, 0, 0, 0}, "dx");
    ck_tensor(one.out[1], (float[]){98}, "dscale");
    ck_tensor(one.out[2], (float[]){-14}, "dzero");
    qd_graph_free(g);
    free_all(&each);
    free_all(&one);
    qd_context_free(c);
}
END_TEST

/* ---- Refused ------------------------------------------------------------------------------------------------ */

START_TEST(test_refused) {
    WITH_DEVICE(c);
    const float x[6] = {0};
    const int32_t zero[3] = {0};
    one_op o = {.op = QD_OP_FAKE_QUANTIZE,
                .attrs = {.fake_quantize = {.axis = 1, .min = -8, .max = 7}},
                .in = {F32(2, 3, 0, 0), F32(3, 0, 0, 0), I32(3, 0, 0, 0)},
                .out = F32(2, 3, 0, 0),
                .data = {x, (float[]){1, 1, 1}, zero}};
    const one_op good = o;
    one_op_gives(c, &o, x, "good");
    static const int32_t wrong[][2] = {{7, 7}, {8, 7}, {-16777217, 7}, {0, 16777217}, {0, 0}};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        o.attrs.fake_quantize.min = wrong[i][0];
        o.attrs.fake_quantize.max = wrong[i][1];
        one_op_refused(c, &o, QD_ERR_ARGUMENT, "min < max is needed");
    }
    o = good;
    o.attrs.fake_quantize.axis = 2;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "axis 2 of a tensor of rank 2");
    o.attrs.fake_quantize.axis = 0;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "shape of scale");
    o = good;
    o.in[2] = I32(1, 0, 0, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "zero must have the shape of scale");
    o = good;
    o.out = F32(3, 2, 0, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "same shape");
    qd_context_free(c);
}
END_TEST

START_TEST(test_gradient_refused) {
    WITH_DEVICE(c);
    const float x[6] = {0}, scales[] = {1, 1, 1};
    const int32_t zeros[3] = {0};
    operands o = make(c, F32(2, 3, 0, 0), F32(3, 0, 0, 0), x, x, scales, zeros), other = o;
    qd_tensor_desc two = F32(2, 0, 0, 0);
    qd_plan *plan = NULL;
    qd_attrs attrs = {.fake_quantize = {.axis = 1, .min = -8, .max = 7, .factor = INFINITY}};
    ck_fails(qd_plan_create(c, QD_OP_FAKE_QUANTIZE_GRAD, &attrs, o.in, 4, o.out, 3, &plan), QD_ERR_ARGUMENT, "factor");
    attrs.fake_quantize.factor = 1;
    other.in[3] = o.in[1];
    ck_fails(qd_plan_create(c, QD_OP_FAKE_QUANTIZE_GRAD, &attrs, other.in, 4, o.out, 3, &plan), QD_ERR_ARGUMENT,
             "x and dy must have the same shape");
    ck_ok(qd_tensor_create(c, &two, &other.out[2]));
    ck_fails(qd_plan_create(c, QD_OP_FAKE_QUANTIZE_GRAD, &attrs, o.in, 4, other.out, 3, &plan), QD_ERR_ARGUMENT,
             "the shape of scale");
    qd_tensor_free(other.out[2]);
    free_all(&o);
    qd_context_free(c);
}
END_TEST

/* Scales and zero points of constants are known before a run. */
START_TEST(test_constants) {
    WITH_DEVICE(c);
    static const struct {
        float scale;
        int32_t zero;
        const char *part; /* NULL: right */
    } cases[] = {{0.5f, 7, NULL},
                 {0, 0, "scale 1 is 0; it must be positive"},
                 {-1, 0, "scale 1 is -1"},
                 {NAN, 0, "scale 1 is "},
                 {INFINITY, 0, "scale 1 is inf"},
                 {0x1p-140f, 0, "finite reciprocal"},
                 {1, 8, "zero point 1 is 8, outside of -8 … 7"},
                 {1, -9, "zero point 1 is -9"}};
    const float x[] = {1, 2};
    const qd_tensor_desc d = F32(2, 0, 0, 0), z = I32(2, 0, 0, 0);
    const qd_attrs attrs = {.fake_quantize = {.min = -8, .max = 7}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        const float scales[] = {1, cases[i].scale};
        const int32_t zeros[] = {0, cases[i].zero};
        qd_tensor *in[3] = {tensor_with(c, d, x)}, *y = NULL;
        qd_plan *plan = NULL;
        ck_ok(qd_tensor_constant(c, &d, scales, &in[1]));
        ck_ok(qd_tensor_constant(c, &z, zeros, &in[2]));
        ck_ok(qd_tensor_create(c, &d, &y));
        if (cases[i].part) {
            ck_fails(qd_plan_create(c, QD_OP_FAKE_QUANTIZE, &attrs, in, 3, &y, 1, &plan), QD_ERR_ARGUMENT,
                     cases[i].part);
        } else {
            ck_ok(qd_plan_create(c, QD_OP_FAKE_QUANTIZE, &attrs, in, 3, &y, 1, &plan));
            ck_ok(qd_plan_run(plan));
            ck_tensor(y, (float[]){1, 0}, "y");
            qd_plan_free(plan);
        }
        for (int k = 0; k < 3; k++)
            qd_tensor_free(in[k]);
        qd_tensor_free(y);
    }
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("fake_quantize");
    tcase_add_loop_test(tc, test_channels, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_sums, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_pact, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_no_numbers, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_views, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_rows, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_refused, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_gradient_refused, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_constants, 0, TEST_DEVICES);
    return run_tests(tc, "fake_quantize");
}
