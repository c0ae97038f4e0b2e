/* Concatenation and padding: answers worked out by hand, and what is refused. */
#include <limits.h>

#include "unit/one_op.h"

static qd_tensor_desc i8(int64_t d0, int64_t d1, int64_t d2, int64_t d3) {
    return qd_desc(QD_FORMAT_I8, d0, d1, d2, d3);
}

static qd_tensor_desc u8(int64_t d0, int64_t d1, int64_t d2, int64_t d3) {
    return qd_desc(QD_FORMAT_U8, d0, d1, d2, d3);
}

/* ---- CONCAT ------------------------------------------------------------------------------------------------- */

static const uint8_t x0[] = {1, 2, 3, 4, 5, 6, 7, 8}, x1[] = {11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22};

START_TEST(test_concat_axes) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    one_op x = {.op = QD_OP_CONCAT, .data = {x0, x1}};
    x.in[0] = u8(2, 2, 2, 0), x.in[1] = u8(3, 2, 2, 0), x.out = u8(5, 2, 2, 0);
    static const uint8_t first[] = {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22};
    one_op_gives(c, &x, first, "axis 0");
    x.attrs.concat.axis = -3;
    one_op_gives(c, &x, first, "axis -3");
    x.attrs.concat.axis = 1;
    x.in[1] = u8(2, 3, 2, 0), x.out = u8(2, 5, 2, 0);
    static const uint8_t middle[] = {1, 2, 3, 4, 11, 12, 13, 14, 15, 16, 5, 6, 7, 8, 17, 18, 19, 20, 21, 22};
    one_op_gives(c, &x, middle, "axis 1");
    x.attrs.concat.axis = -1;
    x.in[1] = u8(2, 2, 3, 0), x.out = u8(2, 2, 5, 0);
    static const uint8_t last[] = {1, 2, 11, 12, 13, 3, 4, 14, 15, 16, 5, 6, 17, 18, 19, 7, 8, 20, 21, 22};
    one_op_gives(c, &x, last, "axis -1");
    x.attrs.concat.axis = 0;
    x.in[0] = u8(3, 0, 0, 0), x.in[1] = u8(2, 0, 0, 0), x.out = u8(5, 0, 0, 0);
    static const uint8_t single[] = {1, 2, 3, 11, 12};
    one_op_gives(c, &x, single, "rank 1");
    qd_context_free(c);
}
END_TEST

/* Eight inputs in their order, and one alone; elements of four bytes. */
START_TEST(test_concat_count) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const int32_t codes[] = {-1, 2, -3, 4, 500000, 6, 7, INT32_MIN};
    one_op x = {.op = QD_OP_CONCAT, .out = qd_desc(QD_FORMAT_I32, 1, 8, 0, 0)};
    x.attrs.concat.axis = 1;
    for (int i = 0; i < 8; i++) {
        x.in[i] = qd_desc(QD_FORMAT_I32, 1, 1, 0, 0);
        x.data[i] = &codes[i];
    }
    one_op_gives(c, &x, codes, "eight");
    one_op one = {.op = QD_OP_CONCAT, .in = {x.out}, .out = x.out, .data = {codes}};
    one_op_gives(c, &one, codes, "one");
    qd_context_free(c);
}
END_TEST

/* Views of columns, whose rows lie apart: as inputs and as the result, along both axes. */
START_TEST(test_concat_views) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const float wide[] = {1, 2, 3, 4, 5, 6, 7, 8};
    const qd_tensor_desc four = qd_desc(QD_FORMAT_F32, 2, 4, 0, 0), tall = qd_desc(QD_FORMAT_F32, 4, 3, 0, 0);
    qd_tensor *t = tensor_with(c, four, wide), *in[2] = {0}, *base = NULL, *y = NULL, *base_tall = NULL, *y_tall = NULL;
    qd_plan *plan = NULL;
    qd_attrs attrs = {.concat = {.axis = 1}};
    ck_ok(qd_tensor_view(t, 2, 2, &in[0])); /* 3 4 / 7 8 */
    ck_ok(qd_tensor_view(t, 0, 1, &in[1])); /* 1 / 5 */
    ck_ok(qd_tensor_create(c, &four, &base));
    ck_ok(qd_tensor_view(base, 1, 3, &y));
    ck_ok(qd_plan_create(c, QD_OP_CONCAT, &attrs, in, 2, &y, 1, &plan));
    ck_ok(qd_plan_run(plan));
    static const float want[] = {0, 3, 4, 1, 0, 7, 8, 5};
    ck_tensor(base, want, "axis 1");
    qd_plan_free(plan);
    qd_tensor_free(in[1]);

    attrs.concat.axis = 0;
    ck_ok(qd_tensor_view(t, 1, 2, &in[1])); /* 2 3 / 6 7 */
    ck_ok(qd_tensor_create(c, &tall, &base_tall));
    ck_ok(qd_tensor_view(base_tall, 1, 2, &y_tall));
    ck_ok(qd_plan_create(c, QD_OP_CONCAT, &attrs, in, 2, &y_tall, 1, &plan));
    ck_ok(qd_plan_run(plan));
    static const float want_tall[] = {0, 3, 4, 0, 7, 8, 0, 2, 3, 0, 6, 7};
    ck_tensor(base_tall, want_tall, "axis 0");
    qd_plan_free(plan);
    qd_tensor *all[] = {in[0], in[1], t, y, base, y_tall, base_tall};
    for (int i = 0; i < 7; i++)
        qd_tensor_free(all[i]);
    qd_context_free(c);
}
END_TEST

/* Runs of fewer rows than the graph has; the rows themselves cannot be the axis. */
START_TEST(test_rows) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    enum { R = 4 };
    static const uint8_t a[R * 2] = {1, 2, 3, 4, 5, 6, 7, 8}, b[R * 2] = {11, 12, 13, 14, 15, 16, 17, 18};
    const qd_tensor_desc fixed = u8(R, 2, 1, 0), joined = u8(QD_ROWS, 4, 1, 0), rows = u8(QD_ROWS, 2, 1, 0);
    const qd_tensor_desc padded = u8(R, 4, 2, 0);
    uint8_t want[R * 8];
    memset(want, 0x5a, sizeof want);
    qd_tensor *in[2] = {tensor_with(c, fixed, a), tensor_with(c, fixed, b)}, *y = tensor_with(c, padded, want);
    qd_tensor *both = NULL, *inside = NULL, *more = NULL;
    qd_graph *g = NULL;
    ck_ok(qd_graph_create(c, R, &g));
    ck_ok(qd_graph_tensor(g, &joined, &both));
    qd_attrs attrs = {.concat = {.axis = 1}};
    ck_ok(qd_graph_add(g, QD_OP_CONCAT, &attrs, in, 2, &both, 1));
    qd_attrs pad = {.pad = {.mode = QD_PAD_CONSTANT, .value = 9, .after = {0, 0, 1}}};
    ck_ok(qd_graph_add(g, QD_OP_PAD, &pad, &both, 1, &y, 1));

    ck_ok(qd_graph_tensor(g, &rows, &inside));
    ck_ok(qd_graph_tensor(g, &joined, &more));
    attrs.concat.axis = 0;
    ck_fails(qd_graph_add(g, QD_OP_CONCAT, &attrs, (qd_tensor *[]){both, more}, 2, &inside, 1), QD_ERR_UNSUPPORTED,
             "the rows of a run cannot be the axis");
    pad.pad.after[2] = 0;
    pad.pad.before[0] = 1;
    ck_fails(qd_graph_add(g, QD_OP_PAD, &pad, &both, 1, &more, 1), QD_ERR_UNSUPPORTED,
             "the rows of a run cannot be padded");

    ck_ok(qd_graph_compile(g, NULL, NULL));
    ck_ok(qd_graph_run(g, 3));
    for (int r = 0; r < 3; r++) {
        for (int i = 0; i < 4; i++) {
            want[8 * r + 2 * i] = i < 2 ? a[2 * r + i] : b[2 * r + i - 2];
            want[8 * r + 2 * i + 1] = 9;
        }
    }
    ck_tensor(y, want, "three rows");
    qd_graph_free(g);
    qd_tensor_free(in[0]);
    qd_tensor_free(in[1]);
    qd_tensor_free(y);
    qd_context_free(c);
}
END_TEST

START_TEST(test_no_rows) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    const qd_tensor_desc none = {QD_FORMAT_U8, 2, {0, 2}};
    char result[1];
    one_op x = {.op = QD_OP_CONCAT, .in = {none, none}, .out = none};
    ck_ok(one_op_run(c, &x, result));
    /* An input without rows among others. */
    one_op some = {.op = QD_OP_CONCAT, .in = {u8(1, 2, 0, 0), none, u8(2, 2, 0, 0)}, .out = u8(3, 2, 0, 0)};
    static const uint8_t six[] = {1, 2, 11, 12, 13, 14};
    some.data[0] = x0;
    some.data[2] = x1;
    one_op_gives(c, &some, six, "an empty input");
    /* A constant around nothing; edges of nothing there are none. */
    one_op pad = {.op = QD_OP_PAD, .in = {none}, .out = u8(2, 2, 0, 0)};
    pad.attrs.pad.value = 5;
    pad.attrs.pad.before[0] = pad.attrs.pad.after[0] = 1;
    static const uint8_t fives[] = {5, 5, 5, 5};
    one_op_gives(c, &pad, fives, "around nothing");
    pad.attrs.pad.mode = QD_PAD_EDGE;
    one_op_refused(c, &pad, QD_ERR_ARGUMENT, "no elements whose edge");
    pad.attrs.pad.mode = QD_PAD_REFLECT;
    one_op_refused(c, &pad, QD_ERR_ARGUMENT, "cannot mirror 1");
    qd_context_free(c);
}
END_TEST

START_TEST(test_concat_refused) {
    qd_context *c = NULL;
    ck_ok(qd_context_create("ref", NULL, &c));
    one_op good = {.op = QD_OP_CONCAT, .in = {i8(2, 3, 0, 0), i8(2, 4, 0, 0)}, .out = i8(2, 7, 0, 0)};
    good.attrs.concat.axis = 1;
    one_op x = good;
    char result[16];
    ck_ok(one_op_run(c, &x, result));
    static const int axes[] = {2, -3, INT_MAX, INT_MIN};
    for (int i = 0; i < 4; i++) {
        x = good, x.attrs.concat.axis = axes[i];
        one_op_refused(c, &x, QD_ERR_ARGUMENT, "there is no axis");
    }
    x = good, x.attrs.concat.axis = 0;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "dimension 1 of x0 is 3 where y has 7");
    x = good, x.in[1] = i8(3, 4, 0, 0);
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "dimension 0 of x1 is 3 where y has 2");
    x = good, x.in[1] = i8(2, 4, 1, 0);
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "x1 has rank 3");
    x = good, x.in[1] = i8(2, 5, 0, 0);
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "more than the 7 of y");
    x = good, x.in[1] = i8(2, 3, 0, 0);
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "have 6 along axis 1 where y has 7");
    x = good, x.in[2] = x.in[1], x.in[1].rank = 0;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "x1 is missing before x2");
    x = good, x.in[1].format = QD_FORMAT_U8;
    one_op_refused(c, &x, QD_ERR_UNSUPPORTED, "x1 cannot be u8");
    qd_context_free(c);
}
END_TEST

/* ---- PAD ---------------------------------------------------------------------------------------------------- */

static const int8_t image[] = {1, 2, 3, 4, 5, 6};

/* [2,3] with 1 above, 2 below, 2 to the left, 1 to the right. */
START_TEST(test_pad_modes) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    one_op x = {.op = QD_OP_PAD, .in = {i8(2, 3, 0, 0)}, .out = i8(5, 6, 0, 0), .data = {image}};
    x.attrs.pad.before[0] = 1, x.attrs.pad.after[0] = 2, x.attrs.pad.before[1] = 2, x.attrs.pad.after[1] = 1;
    x.attrs.pad.value = -7;
    static const int8_t constant[] = {-7, -7, -7, -7, -7, -7, -7, -7, 1,  2,  3,  -7, -7, -7, 4,
                                      5,  6,  -7, -7, -7, -7, -7, -7, -7, -7, -7, -7, -7, -7, -7};
    one_op_gives(c, &x, constant, "constant");
    x.attrs.pad.mode = QD_PAD_EDGE;
    static const int8_t edge[] = {1, 1, 1, 2, 3, 3, 1, 1, 1, 2, 3, 3, 4, 4, 4,
                                  5, 6, 6, 4, 4, 4, 5, 6, 6, 4, 4, 4, 5, 6, 6};
    one_op_gives(c, &x, edge, "edge");
    /* Rows that mirror: 1 above, 1 below; two more columns than that are all there are. */
    x.attrs.pad.mode = QD_PAD_REFLECT;
    x.attrs.pad.after[0] = 1;
    x.out = i8(4, 6, 0, 0);
    static const int8_t reflect[] = {6, 5, 4, 5, 6, 5, 3, 2, 1, 2, 3, 2, 6, 5, 4, 5, 6, 5, 3, 2, 1, 2, 3, 2};
    one_op_gives(c, &x, reflect, "reflect");
    qd_context_free(c);
}
END_TEST

/* Each of four dimensions alone, before and after: where the others must not move. */
START_TEST(test_pad_dimensions) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const uint8_t x_codes[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    for (int d = 0; d < 4; d++) {
        const int inner = 8 >> d; /* elements of one index of d */
        one_op x = {.op = QD_OP_PAD, .in = {u8(2, 2, 2, 2)}, .out = u8(2, 2, 2, 2), .data = {x_codes}};
        x.attrs.pad.before[d] = 1;
        x.attrs.pad.after[d] = 2;
        x.attrs.pad.value = 99;
        x.out.shape[d] = 5;
        uint8_t want[40];
        for (int e = 0; e < 40; e++) {
            const int outer = e / inner / 5, index = e / inner % 5 - 1;
            want[e] = index < 0 || index > 1 ? 99 : x_codes[(outer * 2 + index) * inner + e % inner];
        }
        one_op_gives(c, &x, want, "one dimension");
    }
    static const uint8_t line[] = {3, 2, 1, 2, 3, 4, 3};
    one_op x = {.op = QD_OP_PAD, .in = {u8(4, 0, 0, 0)}, .out = u8(7, 0, 0, 0), .data = {x_codes}};
    x.attrs.pad.mode = QD_PAD_REFLECT;
    x.attrs.pad.before[0] = 2;
    x.attrs.pad.after[0] = 1;
    one_op_gives(c, &x, line, "rank 1");
    qd_context_free(c);
}
END_TEST

START_TEST(test_pad_refused) {
    qd_context *c = NULL;
    ck_ok(qd_context_create("ref", NULL, &c));
    one_op good = {.op = QD_OP_PAD, .in = {i8(2, 3, 0, 0)}, .out = i8(2, 6, 0, 0), .data = {image}};
    good.attrs.pad.before[1] = 2;
    good.attrs.pad.after[1] = 1;
    one_op x = good;
    char result[16];
    ck_ok(one_op_run(c, &x, result));
    x = good, x.attrs.pad.mode = (qd_pad_mode)3;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "3 is no mode");
    x = good, x.attrs.pad.value = 128;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "the padding is 128, which is no i8");
    x.attrs.pad.mode = QD_PAD_EDGE; /* which does not read it */
    ck_ok(one_op_run(c, &x, result));
    x = good, x.attrs.pad.before[1] = -1, x.attrs.pad.after[1] = 4;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "neither can be negative");
    x = good, x.attrs.pad.after[1] = INT64_MIN;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "neither can be negative");
    x = good, x.attrs.pad.before[1] = INT64_MAX, x.attrs.pad.after[1] = INT64_MAX;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "dimension 1 of y is 6");
    x = good, x.attrs.pad.before[0] = 1;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "dimension 0 of y is 2 where 1 + 2 + 0 are needed");
    x = good, x.attrs.pad.before[2] = 1;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "no dimension 2");
    x = good, x.out = i8(2, 6, 1, 0);
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "rank 2 where y has 3");
    x = good, x.attrs.pad.mode = QD_PAD_REFLECT, x.attrs.pad.before[1] = 3, x.attrs.pad.after[1] = 0;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "dimension 1 has 3 elements; that many cannot mirror 3");
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("shape_ops");
    tcase_add_loop_test(tc, test_concat_axes, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_concat_count, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_concat_views, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_rows, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_no_rows, 0, TEST_DEVICES);
    tcase_add_test(tc, test_concat_refused);
    tcase_add_loop_test(tc, test_pad_modes, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_pad_dimensions, 0, TEST_DEVICES);
    tcase_add_test(tc, test_pad_refused);
    return run_tests(tc, "shape_ops");
}
