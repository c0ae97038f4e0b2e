/* Sums, products and tables of codes: answers worked out by hand, and what is refused. */
#include <limits.h>
#include <math.h>

#include "unit/one_op.h"

static qd_tensor_desc i8(int64_t d0, int64_t d1, int64_t d2, int64_t d3) {
    return qd_desc(QD_FORMAT_I8, d0, d1, d2, d3);
}

static qd_tensor_desc u8(int64_t d0, int64_t d1, int64_t d2, int64_t d3) {
    return qd_desc(QD_FORMAT_U8, d0, d1, d2, d3);
}

/* ---- ADD_INT and MUL_INT ------------------------------------------------------------------------------------ */

static const char *const rounding_names[] = {"FIXED", "GEMMLOWP", "AWAY", "FLOAT"};

/* Sums of 0, ±1/2, ±1 1/2, 2 1/2, and far more than a code holds, in units of y: every mode has its own ties. */
START_TEST(test_add_rounding) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    /* a = (code - 1) / 2, b = (code + 2) / 4, y = code - 3 */
    static const int8_t a[] = {1, 2, 4, 0, -2, 5, 127, -128}, b[] = {-2, -2, -2, -2, -2, 0, 127, -128};
    static const int8_t fixed[] = {3, 4, 5, 3, 2, 6, 98, -93}, gemmlowp[] = {3, 4, 5, 2, 1, 6, 98, -93},
                        to_even[] = {3, 3, 5, 3, 1, 5, 98, -93};
    static const int8_t *const want[] = {fixed, gemmlowp, NULL, to_even};
    one_op x = {.op = QD_OP_ADD_INT, .in = {i8(8, 0, 0, 0), i8(8, 0, 0, 0)}, .out = i8(8, 0, 0, 0), .data = {a, b}};
    x.attrs.binary.a = (qd_quant){0.5f, 1};
    x.attrs.binary.b = (qd_quant){0.25f, -2};
    x.attrs.binary.y = (qd_quant){1.0f, 3};
    for (int mode = QD_ROUND_FIXED; mode <= QD_ROUND_FLOAT; mode++) {
        if (mode == QD_ROUND_AWAY) continue;
        x.attrs.binary.rounding = (qd_rounding)mode;
        one_op_gives(c, &x, want[mode], rounding_names[mode]);
    }
    /* Quarters: 95.25 and -96 have no codes. */
    x.attrs.binary.y.scale = 0.25f;
    x.attrs.binary.rounding = QD_ROUND_FIXED;
    static const int8_t large[] = {3, 5, 9, 1, -3, 13, 127, -128};
    one_op_gives(c, &x, large, "saturated");
    x.attrs.binary.min = -1;
    x.attrs.binary.max = 5;
    static const int8_t limited[] = {3, 5, 5, 1, -1, 5, 5, -1};
    one_op_gives(c, &x, limited, "limited");
    qd_context_free(c);
}
END_TEST

/* (code - 1) / 2 - (code + 2) / 4: ties of both signs. In GEMMLOWP b is rounded before it is subtracted. */
START_TEST(test_subtract) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const int8_t a[] = {1, 2, 4, 0, -2, 1, 127, -128}, b[] = {-2, -2, -2, -2, -2, 4, -128, 127};
    static const int8_t fixed[] = {3, 4, 5, 3, 2, 2, 98, -94}, gemmlowp[] = {3, 4, 5, 2, 1, 1, 98, -94},
                        to_even[] = {3, 3, 5, 3, 1, 1, 97, -94};
    static const int8_t *const want[] = {fixed, gemmlowp, NULL, to_even};
    one_op x = {.op = QD_OP_ADD_INT, .in = {i8(8, 0, 0, 0), i8(8, 0, 0, 0)}, .out = i8(8, 0, 0, 0), .data = {a, b}};
    x.attrs.binary.a = (qd_quant){0.5f, 1};
    x.attrs.binary.b = (qd_quant){0.25f, -2};
    x.attrs.binary.y = (qd_quant){1.0f, 3};
    x.attrs.binary.subtract = true;
    for (int mode = QD_ROUND_FIXED; mode <= QD_ROUND_FLOAT; mode++) {
        if (mode == QD_ROUND_AWAY) continue;
        x.attrs.binary.rounding = (qd_rounding)mode;
        one_op_gives(c, &x, want[mode], rounding_names[mode]);
    }
    x.op = QD_OP_MUL_INT;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "subtract belongs to add_int");
    qd_context_free(c);
}
END_TEST

/* Products of 2, 6, 10, -2, -6 quarters: ties; and the greatest ones. */
START_TEST(test_mul_rounding) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const uint8_t a[] = {12, 16, 20, 8, 4, 255, 0};
    static const int8_t b[] = {-2, -2, -2, -2, -2, 127, 127};
    /* 245 · 130 / 4 and -10 · 130 / 4 = -325 */
    static const uint8_t fixed[] = {101, 102, 103, 100, 99, 255, 0}, away[] = {101, 102, 103, 99, 98, 255, 0},
                         to_even[] = {100, 102, 102, 100, 98, 255, 0};
    static const uint8_t *const want[] = {fixed, away, away, to_even};
    one_op x = {.op = QD_OP_MUL_INT, .in = {u8(7, 0, 0, 0), i8(7, 0, 0, 0)}, .out = u8(7, 0, 0, 0), .data = {a, b}};
    x.attrs.binary.a = (qd_quant){0.5f, 10};
    x.attrs.binary.b = (qd_quant){0.5f, -3};
    x.attrs.binary.y = (qd_quant){1.0f, 100};
    for (int mode = QD_ROUND_FIXED; mode <= QD_ROUND_FLOAT; mode++) {
        x.attrs.binary.rounding = (qd_rounding)mode;
        one_op_gives(c, &x, want[mode], rounding_names[mode]);
    }
    qd_context_free(c);
}
END_TEST

/* Halves are rounded after y's zero point was added: an odd one makes them go the other way. */
START_TEST(test_zero_first) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    /* (code - 1) / 2 ± (code + 2) / 4 + 3 */
    static const int8_t a[] = {1, 2, 4, 0, -2, 5, 127, -128}, b[] = {-2, -2, -2, -2, -2, 0, 127, -128};
    static const int8_t sums[] = {3, 4, 4, 2, 2, 6, 98, -93}, differences[] = {3, 4, 4, 2, 2, 4, 34, -30};
    one_op x = {.op = QD_OP_ADD_INT, .in = {i8(8, 0, 0, 0), i8(8, 0, 0, 0)}, .out = i8(8, 0, 0, 0), .data = {a, b}};
    x.attrs.binary.rounding = QD_ROUND_FLOAT;
    x.attrs.binary.zero_first = true;
    x.attrs.binary.a = (qd_quant){0.5f, 1};
    x.attrs.binary.b = (qd_quant){0.25f, -2};
    x.attrs.binary.y = (qd_quant){1.0f, 3};
    one_op_gives(c, &x, sums, "sums");
    x.attrs.binary.subtract = true;
    one_op_gives(c, &x, differences, "differences");
    /* 2, 6, 10, -2, -6 quarters + 101, and far more */
    static const uint8_t p[] = {12, 16, 20, 8, 4, 255, 0}, products[] = {102, 102, 104, 100, 100, 255, 0};
    static const int8_t q[] = {-2, -2, -2, -2, -2, 127, 127};
    x = (one_op){.op = QD_OP_MUL_INT, .in = {u8(7, 0, 0, 0), i8(7, 0, 0, 0)}, .out = u8(7, 0, 0, 0), .data = {p, q}};
    x.attrs.binary.rounding = QD_ROUND_FLOAT;
    x.attrs.binary.zero_first = true;
    x.attrs.binary.a = (qd_quant){0.5f, 10};
    x.attrs.binary.b = (qd_quant){0.5f, -3};
    x.attrs.binary.y = (qd_quant){1.0f, 101};
    one_op_gives(c, &x, products, "products");
    qd_context_free(c);
}
END_TEST

/* Halves but for what 0.1 and 0.7 are as floats. 0.1 · a is added to what 0.1 · b was rounded to: two roundings would
 * give 1 and -1, and the sum from a on 1 and 0, … Products are rounded, then 3 is taken away. */
START_TEST(test_zero_first_order) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const int8_t a[] = {12, -12, -7, 7}, b[] = {-7, 7, 12, -12}, tenths[] = {0, 0, 1, -1};
    static const int8_t a7[] = {6, 1, 4, -1}, b7[] = {-1, -6, -9, 6}, of_seven[] = {4, -3, -3, 3};
    static const int8_t five[] = {5, 5, -5, 7}, seven[] = {7, -7, -7, 5}, products[] = {0, -6, 0, 0};
    one_op x = {.op = QD_OP_ADD_INT, .in = {i8(4, 0, 0, 0), i8(4, 0, 0, 0)}, .out = i8(4, 0, 0, 0), .data = {a, b}};
    x.attrs.binary.rounding = QD_ROUND_FLOAT;
    x.attrs.binary.zero_first = true;
    x.attrs.binary.a.scale = x.attrs.binary.b.scale = 0.1f;
    x.attrs.binary.y.scale = 1.0f;
    one_op_gives(c, &x, tenths, "sums of tenths");
    x.op = QD_OP_MUL_INT;
    x.attrs.binary.b.scale = 1.0f;
    x.attrs.binary.y.zero_point = -3;
    x.data[0] = five, x.data[1] = seven;
    one_op_gives(c, &x, products, "products of tenths");
    x.op = QD_OP_ADD_INT;
    x.attrs.binary.a.scale = x.attrs.binary.b.scale = 0.7f;
    x.attrs.binary.y.zero_point = 0;
    x.data[0] = a7, x.data[1] = b7;
    one_op_gives(c, &x, of_seven, "sums of multiples of 0.7");
    qd_context_free(c);
}
END_TEST

/* A small term beside a large one: FIXED keeps it, for both multipliers have the same shift. Scales 1 and 2^-24: in
 * units of y = 2^-8, 127 · 2^-24 is 2^-9.01 of one, and 1 · 2^-9 · 256 = 1/2. */
START_TEST(test_add_far_apart) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const int8_t a[] = {0, 1, 0, -1}, b[] = {127, 127, -128, -128};
    one_op x = {.op = QD_OP_ADD_INT, .in = {i8(4, 0, 0, 0), i8(4, 0, 0, 0)}, .out = i8(4, 0, 0, 0), .data = {a, b}};
    x.attrs.binary.a.scale = 0x1p-9f;
    x.attrs.binary.b.scale = 0x1p-33f;
    x.attrs.binary.y.scale = 0x1p-8f;
    /* 1/2 and a bit; -1/2 and a bit less. */
    static const int8_t want[] = {0, 1, 0, -1};
    one_op_gives(c, &x, want, "b is small");
    const qd_quant swap = x.attrs.binary.a;
    x.attrs.binary.a = x.attrs.binary.b;
    x.attrs.binary.b = swap;
    x.data[0] = b;
    x.data[1] = a;
    one_op_gives(c, &x, want, "a is small");
    /* Nothing of it is left in a y of 2^80. */
    x.attrs.binary.y.scale = 0x1p80f;
    static const int8_t none[4] = {0};
    one_op_gives(c, &x, none, "nothing left");
    qd_context_free(c);
}
END_TEST

/* Infinities and their difference, which is no number, become codes like anything else. */
START_TEST(test_add_overflow) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const int8_t a[] = {100, 100, -100, 1}, b[] = {100, -100, -100, 1};
    one_op x = {.op = QD_OP_ADD_INT, .in = {i8(4, 0, 0, 0), i8(4, 0, 0, 0)}, .out = i8(4, 0, 0, 0), .data = {a, b}};
    x.attrs.binary.rounding = QD_ROUND_FLOAT;
    x.attrs.binary.a.scale = x.attrs.binary.b.scale = 0x1p126f;
    x.attrs.binary.y = (qd_quant){0x1p126f, 7};
    static const int8_t want[] = {127, 7, -128, 9};
    one_op_gives(c, &x, want, "overflow");
    qd_context_free(c);
}
END_TEST

/* Sums 100 a + 10 b + … of small numbers tell which elements met. */
START_TEST(test_broadcast) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    one_op x = {.op = QD_OP_ADD_INT};
    x.attrs.binary.a.scale = x.attrs.binary.b.scale = x.attrs.binary.y.scale = 1.0f;
    static const uint8_t tens[] = {10, 20, 30, 40, 50, 60}, ones[] = {1, 2, 3, 4};
    uint8_t want[24];
    x.data[0] = tens;
    x.data[1] = ones;

    static const uint8_t outer[] = {11, 12, 13, 21, 22, 23};
    x.in[0] = u8(2, 1, 0, 0), x.in[1] = u8(3, 0, 0, 0), x.out = u8(2, 3, 0, 0);
    one_op_gives(c, &x, outer, "[2,1] + [3]");
    static const uint8_t inner[] = {11, 21, 31, 12, 22, 32};
    x.in[0] = u8(1, 3, 0, 0), x.in[1] = u8(2, 1, 0, 0), x.out = u8(2, 3, 0, 0);
    one_op_gives(c, &x, inner, "[1,3] + [2,1]");
    static const uint8_t one[] = {11, 21, 31, 41, 51, 61};
    x.in[0] = u8(3, 2, 0, 0), x.in[1] = u8(1, 0, 0, 0), x.out = u8(3, 2, 0, 0);
    one_op_gives(c, &x, one, "[3,2] + [1]");
    x.in[0] = u8(1, 0, 0, 0), x.in[1] = u8(1, 1, 4, 1), x.out = u8(1, 1, 4, 1);
    static const uint8_t four[] = {11, 12, 13, 14};
    one_op_gives(c, &x, four, "[1] + [1,1,4,1]");

    /* a[i][·][k][·] and b[j][·][l] */
    x.in[0] = u8(2, 1, 2, 1), x.in[1] = u8(2, 1, 2, 0), x.out = u8(2, 2, 2, 2);
    for (int e = 0; e < 16; e++) {
        const int i = e / 8, j = e / 4 % 2, k = e / 2 % 2, l = e % 2;
        want[e] = (uint8_t)(tens[2 * i + k] + ones[2 * j + l]);
    }
    one_op_gives(c, &x, want, "[2,1,2,1] + [2,1,2]");
    /* a[i][j][·][l] and b[·][·][k][·] */
    x.in[0] = u8(2, 1, 1, 3), x.in[1] = u8(1, 1, 4, 1), x.out = u8(2, 1, 4, 3);
    for (int e = 0; e < 24; e++)
        want[e] = (uint8_t)(tens[e / 12 * 3 + e % 3] + ones[e / 3 % 4]);
    one_op_gives(c, &x, want, "[2,1,1,3] + [1,1,4,1]");
    qd_context_free(c);
}
END_TEST

/* Both inputs in a graph: one with the rows of the run, one without; a run of fewer rows leaves the others alone. */
START_TEST(test_rows) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    enum { R = 5, C = 3 };
    static const int8_t a[R * C] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, b[C] = {10, 20, 30};
    const qd_tensor_desc fixed = i8(R, C, 0, 0), rows = i8(QD_ROWS, C, 0, 0), bias = i8(1, C, 0, 0),
                         table_desc = i8(256, 0, 0, 0);
    int8_t negated[256], start[R * C];
    for (int i = 0; i < 256; i++)
        negated[i] = (int8_t)(i == 0 ? 127 : 128 - i);
    memset(start, 0x5a, sizeof start);
    qd_tensor *in[2] = {tensor_with(c, fixed, a), tensor_with(c, bias, b)}, *y = tensor_with(c, fixed, start);
    qd_tensor *table = tensor_with(c, table_desc, negated), *sum = NULL, *wrong = NULL;
    qd_graph *g = NULL;
    ck_ok(qd_graph_create(c, R, &g));
    ck_ok(qd_graph_tensor(g, &rows, &sum));
    qd_attrs attrs = {.binary = {.a = {1, 0}, .b = {1, 0}, .y = {1, 0}}};
    ck_ok(qd_graph_add(g, QD_OP_ADD_INT, &attrs, in, 2, &sum, 1));
    ck_ok(qd_graph_add(g, QD_OP_TABLE, NULL, (qd_tensor *[]){sum, table}, 2, &y, 1));

    /* The rows of the run are no other dimension of y. */
    const qd_tensor_desc two = i8(2, R, C, 0);
    qd_tensor *larger = NULL;
    ck_ok(qd_tensor_create(c, &two, &larger));
    ck_fails(qd_graph_add(g, QD_OP_ADD_INT, &attrs, (qd_tensor *[]){sum, larger}, 2, &larger, 1), QD_ERR_ARGUMENT,
             "written over");
    ck_ok(qd_tensor_create(c, &two, &wrong));
    ck_fails(qd_graph_add(g, QD_OP_ADD_INT, &attrs, (qd_tensor *[]){sum, larger}, 2, &wrong, 1), QD_ERR_ARGUMENT,
             "the shape of y");

    const qd_tensor_desc cube = i8(R, R, C, 0);
    qd_tensor *cubes[2] = {0};
    for (int i = 0; i < 2; i++)
        ck_ok(qd_tensor_create(c, &cube, &cubes[i]));
    ck_fails(qd_graph_add(g, QD_OP_ADD_INT, &attrs, (qd_tensor *[]){sum, cubes[0]}, 2, &cubes[1], 1), QD_ERR_ARGUMENT,
             "must be the first dimension of y");

    ck_ok(qd_graph_compile(g, NULL, NULL));
    ck_ok(qd_graph_run(g, 2));
    int8_t want[R * C] = {-11, -22, -33, -14, -25, -36};
    memset(want + 6, 0x5a, sizeof want - 6);
    ck_tensor(y, want, "two rows");
    ck_ok(qd_graph_run(g, R));
    for (int i = 0; i < R * C; i++)
        want[i] = (int8_t) - (a[i] + b[i % C]);
    ck_tensor(y, want, "all rows");
    qd_graph_free(g);
    qd_tensor *all[] = {in[0], in[1], y, table, larger, wrong, cubes[0], cubes[1]};
    for (int i = 0; i < 8; i++)
        qd_tensor_free(all[i]);
    qd_context_free(c);
}
END_TEST

/* No rows: nothing is computed, and no kernel stumbles. */
START_TEST(test_no_rows) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    const qd_tensor_desc none = {QD_FORMAT_I8, 2, {0, 3}};
    char result[1];
    one_op x = {.op = QD_OP_ADD_INT, .in = {none, i8(3, 0, 0, 0)}, .out = none};
    x.attrs.binary.a.scale = x.attrs.binary.b.scale = x.attrs.binary.y.scale = 1.0f;
    ck_ok(one_op_run(c, &x, result));
    one_op softmax = {.op = QD_OP_SOFTMAX_INT, .in = {none}, .out = none};
    softmax.attrs.softmax_int.x_scale = softmax.attrs.softmax_int.y.scale = 1.0f;
    ck_ok(one_op_run(c, &softmax, result));
    one_op table = {.op = QD_OP_TABLE, .in = {none, i8(256, 0, 0, 0)}, .out = none};
    ck_ok(one_op_run(c, &table, result));
    qd_context_free(c);
}
END_TEST

START_TEST(test_binary_refused) {
    qd_context *c = NULL;
    ck_ok(qd_context_create("ref", NULL, &c));
    one_op good = {.op = QD_OP_MUL_INT, .in = {u8(2, 3, 0, 0), i8(3, 0, 0, 0)}, .out = u8(2, 3, 0, 0)};
    good.attrs.binary.a.scale = good.attrs.binary.b.scale = good.attrs.binary.y.scale = 1.0f;
    one_op x = good;
    char result[16];
    ck_ok(one_op_run(c, &x, result));

    const qd_tensor_desc shapes[][3] = {
        {u8(2, 3, 0, 0), i8(2, 0, 0, 0), u8(2, 3, 0, 0)}, {u8(2, 3, 0, 0), i8(3, 0, 0, 0), u8(2, 3, 1, 0)},
        {u8(1, 3, 0, 0), i8(3, 0, 0, 0), u8(2, 3, 0, 0)}, {u8(2, 3, 0, 0), i8(3, 0, 0, 0), u8(3, 0, 0, 0)},
        {u8(2, 3, 0, 0), i8(2, 3, 1, 0), u8(2, 3, 0, 0)}, {u8(2, 1, 0, 0), i8(1, 0, 0, 0), u8(2, 3, 0, 0)}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        x = good;
        x.in[0] = shapes[i][0], x.in[1] = shapes[i][1], x.out = shapes[i][2];
        one_op_refused(c, &x, QD_ERR_ARGUMENT, "the shape of y must be that of a and b");
    }
    static const float bad[] = {0.0f, -1.0f, INFINITY, NAN};
    for (int i = 0; i < 4; i++) {
        x = good, x.attrs.binary.a.scale = bad[i];
        one_op_refused(c, &x, QD_ERR_ARGUMENT, "the scale of a");
        x = good, x.attrs.binary.b.scale = bad[i];
        one_op_refused(c, &x, QD_ERR_ARGUMENT, "the scale of b");
        x = good, x.attrs.binary.y.scale = bad[i];
        one_op_refused(c, &x, QD_ERR_ARGUMENT, "the scale of y");
    }
    x = good, x.attrs.binary.a.zero_point = -1;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "the zero point of a is -1, which is no u8");
    x = good, x.attrs.binary.b.zero_point = 128;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "the zero point of b is 128, which is no i8");
    x = good, x.attrs.binary.y.zero_point = 256;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "the zero point of y");
    x = good, x.attrs.binary.min = 5, x.attrs.binary.max = 4;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "limits");
    x = good, x.attrs.binary.max = 256;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "limits");
    x = good, x.attrs.binary.rounding = (qd_rounding)4;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "4 is no rounding");
    x = good, x.attrs.binary.y.scale = 0x1p-31f;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "mul_int: the scale of y, 4.65661e-10, is too small");

    x = good, x.attrs.binary.zero_first = true;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "mul_int: zero_first belongs to the rounding FLOAT");
    x.attrs.binary.rounding = QD_ROUND_FLOAT, x.attrs.binary.a.scale = x.attrs.binary.b.scale = 1e20f;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "mul_int: the scale of y, 1, is too small");
    x.attrs.binary.zero_first = false; /* floats may be infinite */
    ck_ok(one_op_run(c, &x, result));
    x.op = QD_OP_ADD_INT, x.attrs.binary.zero_first = true, x.attrs.binary.y.scale = 1e-20f;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "add_int: the scale of y, 1e-20, is too small for those of a and b, 1e+20");

    x = good, x.op = QD_OP_ADD_INT, x.attrs.binary.rounding = QD_ROUND_AWAY;
    one_op_refused(c, &x, QD_ERR_UNSUPPORTED, "no rounding AWAY");
    x = good, x.op = QD_OP_ADD_INT, x.attrs.binary.y.scale = 0x1p-31f;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "add_int: the scale of y");
    x.attrs.binary.rounding = QD_ROUND_GEMMLOWP, x.attrs.binary.y.scale = 0x1p-19f;
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "it must exceed 2^-19 of 1");
    x.attrs.binary.y.scale = 0x1.000002p-19f;
    ck_ok(one_op_run(c, &x, result));
    qd_context_free(c);
}
END_TEST

/* ---- TABLE -------------------------------------------------------------------------------------------------- */

START_TEST(test_table) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    uint8_t entries[256];
    for (int i = 0; i < 256; i++)
        entries[i] = (uint8_t)(255 - i);
    static const int8_t x_signed[] = {-128, -1, 0, 127};
    static const uint8_t of_signed[] = {255, 128, 127, 0}, x_unsigned[] = {0, 1, 128, 255};
    static const uint8_t of_unsigned[] = {255, 254, 127, 0};
    one_op x = {.op = QD_OP_TABLE,
                .in = {i8(2, 2, 0, 0), u8(256, 0, 0, 0)},
                .out = u8(2, 2, 0, 0),
                .data = {x_signed, entries}};
    one_op_gives(c, &x, of_signed, "i8");
    x.in[0] = u8(2, 2, 0, 0);
    x.data[0] = x_unsigned;
    one_op_gives(c, &x, of_unsigned, "u8");

    x.out = i8(2, 2, 0, 0);
    one_op_refused(c, &x, QD_ERR_UNSUPPORTED, "codes of y's format");
    x.out = u8(4, 0, 0, 0);
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "the same shape");
    x.out = u8(2, 2, 0, 0);
    x.in[1] = u8(255, 0, 0, 0);
    one_op_refused(c, &x, QD_ERR_ARGUMENT, "255 where 256 is needed");
    qd_context_free(c);
}
END_TEST

/* One code of a table, for x = code · x_scale and y = code · y_scale in i8. */
static int entry(qd_function f, double alpha, float x_scale, int code, float y_scale) {
    int8_t table[256];
    ck_ok(qd_table_fill(f, alpha, QD_FORMAT_I8, (qd_quant){x_scale, 0}, QD_FORMAT_I8, (qd_quant){y_scale, 0}, table));
    return table[code + 128];
}

/* Values to seven places, so that each lies well inside of the code that is wanted. */
START_TEST(test_functions) {
    static const struct {
        qd_function f;
        double alpha;
        float x_scale;
        int x;
        float y_scale;
        int want;
    } cases[] = {
        {QD_FUNCTION_IDENTITY, 0, 1, 1, 2, 0}, /* ties to even */
        {QD_FUNCTION_IDENTITY, 0, 1, 3, 2, 2},
        {QD_FUNCTION_IDENTITY, 0, 1, 5, 2, 2},
        {QD_FUNCTION_IDENTITY, 0, 1, -3, 2, -2},
        {QD_FUNCTION_IDENTITY, 0, 1, 100, 0.5f, 127},
        {QD_FUNCTION_IDENTITY, 0, 1, -100, 0.5f, -128},
        {QD_FUNCTION_RELU, 0, 1, -5, 1, 0},
        {QD_FUNCTION_RELU, 0, 1, 5, 1, 5},
        {QD_FUNCTION_RELU6, 0, 1, 7, 0.1f, 60},
        {QD_FUNCTION_RELU6, 0, 1, -1, 0.1f, 0},
        {QD_FUNCTION_LEAKY_RELU, 0.25, 1, -8, 1, -2},
        {QD_FUNCTION_LEAKY_RELU, 0.25, 1, 8, 1, 8},
        {QD_FUNCTION_ELU, 2, 1, -1, 0.02f, -63}, /* -1.2642411 */
        {QD_FUNCTION_ELU, 2, 10, -128, 1, -2},
        {QD_FUNCTION_ELU, 2, 10, 12, 1, 120},
        {QD_FUNCTION_SIGMOID, 0, 1, 1, 0.01f, 73}, /* 0.7310586 */
        {QD_FUNCTION_SIGMOID, 0, 100, -128, 0.01f, 0},
        {QD_FUNCTION_SIGMOID, 0, 100, 127, 0.01f, 100},
        {QD_FUNCTION_HARD_SIGMOID, 0.2, 1, 1, 0.01f, 70},
        {QD_FUNCTION_HARD_SIGMOID, 0.2, 1, -3, 0.01f, 0},
        {QD_FUNCTION_HARD_SIGMOID, 0.2, 1, 3, 0.01f, 100},
        {QD_FUNCTION_TANH, 0, 1, -1, 0.01f, -76},             /* -0.7615942 */
        {QD_FUNCTION_GELU, 0, 1, -2, 0.00045224f, -101},      /* -0.0455003: 100.61 */
        {QD_FUNCTION_GELU_TANH, 0, 1, -2, 0.00045224f, -100}, /* -0.0454023: 100.39 */
        {QD_FUNCTION_GELU, 0, 1, 1, 0.01f, 84},
        {QD_FUNCTION_GELU_TANH, 0, 1, 1, 0.01f, 84},
        {QD_FUNCTION_GELU, 0, 1e30f, -128, 1, 0},
        {QD_FUNCTION_GELU_TANH, 0, 1e30f, -128, 1, 0},
        {QD_FUNCTION_SILU, 0, 1, -1, 0.01f, -27}, /* -0.2689414 */
        {QD_FUNCTION_SILU, 0, 1e38f, -128, 1, 0},
        {QD_FUNCTION_SILU, 0, 1e38f, 127, 1, 127},
        {QD_FUNCTION_HARD_SWISH, 0, 1, 1, 0.01f, 67},
        {QD_FUNCTION_HARD_SWISH, 0, 1, -3, 0.01f, 0},
        {QD_FUNCTION_HARD_SWISH, 0, 1, 4, 0.04f, 100},
        {QD_FUNCTION_EXP, 0, 1, 1, 0.1f, 27}, /* 2.7182818 */
        {QD_FUNCTION_EXP, 0, 10, 127, 1e38f, 127},
        {QD_FUNCTION_EXP, 0, 10, -128, 1e-38f, 0},
    };
    unsigned seen = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int got = entry(cases[i].f, cases[i].alpha, cases[i].x_scale, cases[i].x, cases[i].y_scale);
        ck_assert_msg(got == cases[i].want, "case %zu: %d, not %d", i, got, cases[i].want);
        seen |= 1u << cases[i].f;
    }
    ck_assert_uint_eq(seen, (1u << QD_FUNCTION_COUNT) - 1u);
}
END_TEST

/* Formats and zero points: x = u8 - 200, y = (i8 + 100) / 2. */
START_TEST(test_table_zeros) {
    int8_t table[256];
    ck_ok(qd_table_fill(QD_FUNCTION_IDENTITY, 0, QD_FORMAT_U8, (qd_quant){1, 200}, QD_FORMAT_I8, (qd_quant){0.5f, -100},
                        table));
    ck_assert_int_eq(table[200], -100);
    ck_assert_int_eq(table[201], -98);
    ck_assert_int_eq(table[186], -128);
    ck_assert_int_eq(table[0], -128);
    ck_assert_int_eq(table[255], 10);
    uint8_t other[256];
    ck_ok(
        qd_table_fill(QD_FUNCTION_RELU, 0, QD_FORMAT_I8, (qd_quant){1, -128}, QD_FORMAT_U8, (qd_quant){2, 250}, other));
    ck_assert_int_eq(other[0], 250);
    ck_assert_int_eq(other[3], 252);
    ck_assert_int_eq(other[255], 255);
}
END_TEST

START_TEST(test_table_fill_refused) {
    const qd_quant q = {1, 0};
    char table[256], before[256];
    memset(table, 0x5a, sizeof table);
    memcpy(before, table, sizeof before);
    ck_fails(qd_table_fill(QD_FUNCTION_COUNT, 0, QD_FORMAT_I8, q, QD_FORMAT_I8, q, table), QD_ERR_ARGUMENT,
             "a function");
    ck_fails(qd_table_fill((qd_function)-1, 0, QD_FORMAT_I8, q, QD_FORMAT_I8, q, table), QD_ERR_ARGUMENT, "a function");
    ck_fails(qd_table_fill(QD_FUNCTION_RELU, 0, QD_FORMAT_I8, q, QD_FORMAT_I8, q, NULL), QD_ERR_ARGUMENT, "256 codes");
    ck_fails(qd_table_fill(QD_FUNCTION_ELU, NAN, QD_FORMAT_I8, q, QD_FORMAT_I8, q, table), QD_ERR_ARGUMENT, "alpha");
    ck_fails(qd_table_fill(QD_FUNCTION_LEAKY_RELU, INFINITY, QD_FORMAT_I8, q, QD_FORMAT_I8, q, table), QD_ERR_ARGUMENT,
             "alpha is inf");
    ck_fails(qd_table_fill(QD_FUNCTION_RELU, 0, QD_FORMAT_I16, q, QD_FORMAT_I8, q, table), QD_ERR_ARGUMENT,
             "x must be i8 or u8");
    ck_fails(qd_table_fill(QD_FUNCTION_RELU, 0, QD_FORMAT_I8, q, QD_FORMAT_F32, q, table), QD_ERR_ARGUMENT,
             "y must be i8 or u8");
    static const float bad[] = {0.0f, -1.0f, INFINITY, NAN};
    for (int i = 0; i < 4; i++) {
        const qd_quant wrong = {bad[i], 0};
        ck_fails(qd_table_fill(QD_FUNCTION_RELU, 0, QD_FORMAT_I8, wrong, QD_FORMAT_I8, q, table), QD_ERR_ARGUMENT,
                 "the scale of x");
        ck_fails(qd_table_fill(QD_FUNCTION_RELU, 0, QD_FORMAT_I8, q, QD_FORMAT_I8, wrong, table), QD_ERR_ARGUMENT,
                 "the scale of y");
    }
    ck_fails(qd_table_fill(QD_FUNCTION_RELU, 0, QD_FORMAT_I8, (qd_quant){1, 128}, QD_FORMAT_I8, q, table),
             QD_ERR_ARGUMENT, "the zero point of x");
    ck_fails(qd_table_fill(QD_FUNCTION_RELU, 0, QD_FORMAT_I8, q, QD_FORMAT_U8, (qd_quant){1, -1}, table),
             QD_ERR_ARGUMENT, "the zero point of y");
    ck_assert_mem_eq(table, before, sizeof table);
    /* Where alpha is not read, it may be anything. */
    ck_ok(qd_table_fill(QD_FUNCTION_RELU, NAN, QD_FORMAT_I8, q, QD_FORMAT_I8, q, table));
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("elementwise");
    tcase_add_loop_test(tc, test_add_rounding, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_subtract, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_mul_rounding, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_zero_first, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_zero_first_order, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_add_far_apart, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_add_overflow, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_broadcast, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_rows, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_no_rows, 0, TEST_DEVICES);
    tcase_add_test(tc, test_binary_refused);
    tcase_add_loop_test(tc, test_table, 0, TEST_DEVICES);
    tcase_add_test(tc, test_functions);
    tcase_add_test(tc, test_table_zeros);
    tcase_add_test(tc, test_table_fill_refused);
    return run_tests(tc, "elementwise");
}
