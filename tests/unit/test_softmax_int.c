/* Softmax of codes, with its own weights and with those of TensorFlow Lite and ONNX Runtime: answers worked out by
 * hand, and what is refused. */
#include <float.h>
#include <math.h>

#include "unit/one_op.h"

static qd_tensor_desc i8(int64_t d0, int64_t d1, int64_t d2, int64_t d3) {
    return qd_desc(QD_FORMAT_I8, d0, d1, d2, d3);
}

static qd_tensor_desc u8(int64_t d0, int64_t d1, int64_t d2, int64_t d3) {
    return qd_desc(QD_FORMAT_U8, d0, d1, d2, d3);
}

START_TEST(test_softmax) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    /* Halves with each step: 1/2 1/4 1/8 1/8, in units of 1/256, as TensorFlow Lite has them. */
    static const int8_t steps[] = {3, 2, 1, 1, -128, -127, -128, -126}, halves[] = {0, -64, -96, -96, -96, -64, -96, 0};
    one_op x = {.op = QD_OP_SOFTMAX_INT, .in = {i8(2, 4, 0, 0)}, .out = i8(2, 4, 0, 0), .data = {steps}};
    x.attrs.softmax_int.x_scale = 0.69314718f;
    x.attrs.softmax_int.y = (qd_quant){1.0f / 256.0f, -128};
    one_op_gives(c, &x, halves, "halves");
    x.in[0] = x.out = i8(8, 0, 0, 0);
    static const int8_t one_row[] = {0, -64, -96, -96, -128, -128, -128, -128};
    one_op_gives(c, &x, one_row, "one dimension");

    /* Equal shares of 1/4 in units of 1/2: a tie, upward. */
    static const uint8_t equal[4] = {9, 9, 9, 9}, up[4] = {1, 1, 1, 1};
    x.in[0] = x.out = u8(1, 4, 0, 0);
    x.data[0] = equal;
    x.attrs.softmax_int.y = (qd_quant){0.5f, 0};
    one_op_gives(c, &x, up, "tie");
    /* All or nothing: nothing is 100 away; all is 256, one too many for a code. */
    static const uint8_t far[4] = {255, 254, 0, 1}, all[4] = {255, 0, 0, 0};
    x.data[0] = far;
    x.attrs.softmax_int.x_scale = 100.0f;
    x.attrs.softmax_int.y = (qd_quant){1.0f / 256.0f, 0};
    one_op_gives(c, &x, all, "far apart");
    x.attrs.softmax_int.x_scale = 3e38f;
    one_op_gives(c, &x, all, "as far as floats go");
    qd_context_free(c);
}
END_TEST

/* Weights are exponentials to six places; 0 from where the definition takes none: 31 halved as often as scale · 2^26
 * is. */
START_TEST(test_softmax_weights) {
    int32_t w[256];
    static const double scales[] = {1, 0.25, 1.0 / 3, 0.01, 7, 0x1p-20};
    for (int s = 0; s < 6; s++) {
        ck_ok(qd_softmax_weights(scales[s], w));
        ck_assert_int_eq(w[0], INT32_MAX);
        for (int i = 1; i < 256; i++) {
            const double error = (double)w[i] * 0x1p-31 - exp(-scales[s] * i);
            ck_assert_msg(fabs(error) < 1e-6, "scale %g, distance %d: wrong by %g", scales[s], i, error);
        }
    }
    ck_ok(qd_softmax_weights(1, w));
    ck_assert(w[15] > 0 && w[16] == 0);
    /* Larger scales than 2^5 are all the same, infinity is none. */
    ck_ok(qd_softmax_weights(1e30, w));
    ck_assert(w[0] == INT32_MAX && w[1] == 0);
    ck_fails(qd_softmax_weights(0, w), QD_ERR_ARGUMENT, "the scale is 0");
    ck_fails(qd_softmax_weights(0x1p-26, w), QD_ERR_ARGUMENT, "exceed 2^-26");
    ck_fails(qd_softmax_weights(NAN, w), QD_ERR_ARGUMENT, "nan");
    ck_fails(qd_softmax_weights(INFINITY, w), QD_ERR_ARGUMENT, "inf");
    ck_fails(qd_softmax_weights(1, NULL), QD_ERR_ARGUMENT, "room for 256");
}
END_TEST

/* Equal shares; shares of 3 to 1; all for one; more columns than 2^9, whose shares are less than half a code. */
START_TEST(test_softmax_weighted) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    int32_t w[256];
    ck_ok(qd_softmax_weights(log(3.0), w));
    static const int8_t x[] = {5, 5, 5, 5, 7, 6, 6, 6, 100, -100, 99, 100};
    /* 256/4; 3/6 and 1/6 of 256; 3 : 1 : 3 */
    static const int8_t want[] = {-64, -64, -64, -64, 0, -85, -85, -85, -18, -128, -91, -18};
    one_op o = {.op = QD_OP_SOFTMAX_INT,
                .in = {i8(3, 4, 0, 0), qd_desc(QD_FORMAT_I32, 256, 0, 0, 0)},
                .out = i8(3, 4, 0, 0),
                .data = {x, w}};
    o.attrs.softmax_int.y = (qd_quant){1.0f / 256.0f, -128};
    one_op_gives(c, &o, want, "shares");
    o.out = u8(3, 4, 0, 0);
    o.attrs.softmax_int.y.zero_point = 0;
    static const uint8_t of_u8[] = {64, 64, 64, 64, 128, 43, 43, 43, 110, 0, 37, 110};
    one_op_gives(c, &o, of_u8, "shares, u8");
    o.in[0] = i8(1, 1, 0, 0);
    o.out = u8(1, 1, 0, 0);
    one_op_gives(c, &o, (uint8_t[]){255}, "one column");
    static const int8_t zeros[1025];
    static const uint8_t none[1025];
    o.data[0] = zeros;
    o.in[0] = i8(1, 1025, 0, 0);
    o.out = u8(1, 1025, 0, 0);
    one_op_gives(c, &o, none, "many columns");

    o.attrs.softmax_int.y.scale = 1.0f / 128.0f;
    one_op_refused(c, &o, QD_ERR_UNSUPPORTED, "the scale 1/256");
    o.attrs.softmax_int.y = (qd_quant){1.0f / 256.0f, 1};
    one_op_refused(c, &o, QD_ERR_UNSUPPORTED, "the zero point 0");
    o.attrs.softmax_int.y.zero_point = 0;
    o.in[0] = i8(1, 4096, 0, 0);
    o.data[0] = NULL;
    o.out = u8(1, 4096, 0, 0);
    one_op_refused(c, &o, QD_ERR_UNSUPPORTED, "with weights at most 4095");
    qd_context_free(c);
}
END_TEST

START_TEST(test_softmax_float_weights) {
    float w[256];
    static const float scales[] = {1.0f, 0.01f, 1.0f / 255.0f, 1e-30f};
    for (int s = 0; s < 4; s++) {
        ck_ok(qd_softmax_float_weights(scales[s], 10, w));
        /* Ten of them are e^5 times smaller than the largest float. */
        ck_assert_double_eq_tol((double)w[0] * 10 * exp(5) / (double)FLT_MAX, 1, 1e-5);
        for (int i = 0; i < 256; i++)
            ck_assert_double_eq_tol((double)w[i] / (double)w[0], exp(-(double)scales[s] * i), 1e-6);
    }
    /* The logarithm of FLT_MAX / 4 is a float32, not a float64. */
    ck_ok(qd_softmax_float_weights(1, 4, w));
    ck_assert_float_eq(w[0], (float)exp((double)logf(FLT_MAX / 4) - 5));
    ck_fails(qd_softmax_float_weights(0, 1, w), QD_ERR_ARGUMENT, "the scale is 0");
    ck_fails(qd_softmax_float_weights(-1, 1, w), QD_ERR_ARGUMENT, "the scale is -1");
    ck_fails(qd_softmax_float_weights(NAN, 1, w), QD_ERR_ARGUMENT, "nan");
    ck_fails(qd_softmax_float_weights(INFINITY, 1, w), QD_ERR_ARGUMENT, "inf");
    ck_fails(qd_softmax_float_weights(1, 0, w), QD_ERR_ARGUMENT, "0 columns");
    ck_fails(qd_softmax_float_weights(1, (1 << 22) + 1, w), QD_ERR_ARGUMENT, "4194305 columns");
    ck_fails(qd_softmax_float_weights(1, 1, NULL), QD_ERR_ARGUMENT, "room for 256");
}
END_TEST

/* Ties, the order of the sum, and codes beyond the last one, in floats as ONNX Runtime computes them. */
START_TEST(test_softmax_floats) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    float w[256] = {1};
    static const uint8_t equal[4] = {9, 9, 9, 9};
    one_op o = {.op = QD_OP_SOFTMAX_INT,
                .in = {u8(1, 4, 0, 0), qd_desc(QD_FORMAT_F32, 256, 0, 0, 0)},
                .out = u8(1, 4, 0, 0),
                .data = {equal, w}};
    o.attrs.softmax_int.y = (qd_quant){0.1f, 7};
    one_op_gives(c, &o, (uint8_t[]){9, 9, 9, 9}, "10/4, half to even, plus 7");
    /* 1 / 0.285 is cut to 3. */
    o.attrs.softmax_int.y = (qd_quant){0.285f, 0};
    one_op_gives(c, &o, (uint8_t[]){1, 1, 1, 1}, "3/4");
    o.attrs.softmax_int.y = (qd_quant){1.5f, 7};
    one_op_gives(c, &o, (uint8_t[]){7, 7, 7, 7}, "0/4");

    /* 2^24 + 2^24 swallows ones that come later, one by one, but not four that came before: 1.5, or a little less. */
    w[0] = 0x1p24f, w[1] = 1;
    static const uint8_t rows[12] = {4, 4, 3, 3, 3, 3, 3, 3, 3, 3, 4, 4};
    o.data[0] = rows;
    o.in[0] = o.out = u8(2, 6, 0, 0);
    o.attrs.softmax_int.y = (qd_quant){1.0f / 3.0f, 0};
    one_op_gives(c, &o, (uint8_t[]){2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1}, "the order of the sum");

    /* All for one: 256 or 512, which is limited or wraps. */
    static const int8_t far[4] = {5, 4, 5 - 128, 3};
    w[1] = 0;
    o.data[0] = far;
    o.in[0] = o.out = i8(1, 4, 0, 0);
    for (int wrap = 0; wrap < 2; wrap++) {
        o.attrs.softmax_int.wrap = wrap;
        o.attrs.softmax_int.y = (qd_quant){1.0f / 256.0f, -128};
        one_op_gives(c, &o, (int8_t[]){wrap ? -128 : 127, -128, -128, -128}, "256 - 128");
        o.attrs.softmax_int.y = (qd_quant){1.0f / 512.0f, 0};
        one_op_gives(c, &o, (int8_t[]){wrap ? -1 : 127, 0, 0, 0}, "512");
    }
    o.out = u8(1, 4, 0, 0);
    one_op_gives(c, &o, (uint8_t[]){255, 0, 0, 0}, "512, u8");

    /* Twice the largest float: -2^31, which a negative zero point turns around; 0 in u8. */
    static const struct { int zero, wrap, want; } beyond[] = {{3, 0, -128}, {-3, 0, 127}, {3, 1, 3}, {-3, 1, -1}};
    w[0] = FLT_MAX;
    o.in[0] = i8(1, 1, 0, 0);
    o.out = u8(1, 1, 0, 0);
    o.attrs.softmax_int.y = (qd_quant){0.5f, 200};
    one_op_gives(c, &o, (uint8_t[]){200}, "too large, u8");
    o.out = i8(1, 1, 0, 0);
    for (int i = 0; i < 4; i++) {
        o.attrs.softmax_int.wrap = beyond[i].wrap;
        o.attrs.softmax_int.y.zero_point = beyond[i].zero;
        one_op_gives(c, &o, (int8_t[]){(int8_t)beyond[i].want}, "too large");
    }
    qd_context_free(c);
}
END_TEST

START_TEST(test_softmax_refused) {
    qd_context *c = NULL;
    ck_ok(qd_context_create("ref", NULL, &c));
    one_op good = {.op = QD_OP_SOFTMAX_INT, .in = {i8(2, 4, 0, 0)}, .out = i8(2, 4, 0, 0)};
    good.attrs.softmax_int.x_scale = good.attrs.softmax_int.y.scale = 1.0f;
    static const float bad[] = {0.0f, -1.0f, INFINITY, NAN};
    one_op x = good;
    for (int i = 0; i < 4; i++) {
        x = good, x.attrs.softmax_int.x_scale = bad[i];
        one_op_refused(c, &x, QD_ERR_ARGUMENT, "the scale of x");
        x = good, x.attrs.softmax_int.y.scale = bad[i];
        one_op_refused(c, &x, QD_ERR_ARGUMENT, "the scale of y");
    }
    x = good, x.attrs.softmax_int.y.scale = 0x1.fp-15f;
    one_op_refused(c, &x, QD_ERR_UNSUPPORTED, "between 2^-14 and 2^16");
    x = good, x.attrs.softmax_int.y.scale = 0x1.02p16f;
    one_op_refused(c, &x, QD_ERR_UNSUPPORTED, "between 2^-14 and 2^16");
    x = good, x.attrs.softmax_int.y.zero_point = -129;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "the zero point of y");
    x = good, x.attrs.softmax_int.wrap = true;
    one_op_refused(c, &x, QD_ERR_UNSUPPORTED, "with weights in f32 only");
    x = good, x.out = i8(4, 2, 0, 0);
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "the same shape");
    x = good, x.in[0] = x.out = i8(1, (1 << 22) + 1, 0, 0);
    one_op_refused(c, &x, QD_ERR_UNSUPPORTED, "4194305 columns");
    qd_graph *g = NULL;
    qd_tensor *t[2] = {0};
    const qd_tensor_desc rows = i8(QD_ROWS, 0, 0, 0);
    ck_ok(qd_graph_create(c, 4, &g));
    for (int i = 0; i < 2; i++)
        ck_ok(qd_graph_tensor(g, &rows, &t[i]));
    ck_fails(qd_graph_add(g, QD_OP_SOFTMAX_INT, &good.attrs, &t[0], 1, &t[1], 1), QD_ERR_UNSUPPORTED,
             "the rows of a run");
    qd_graph_free(g);
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("softmax_int");
    tcase_add_loop_test(tc, test_softmax, 0, TEST_DEVICES);
    tcase_add_test(tc, test_softmax_weights);
    tcase_add_loop_test(tc, test_softmax_weighted, 0, TEST_DEVICES);
    tcase_add_test(tc, test_softmax_float_weights);
    tcase_add_loop_test(tc, test_softmax_floats, 0, TEST_DEVICES);
    tcase_add_test(tc, test_softmax_refused);
    return run_tests(tc, "softmax_int");
}
