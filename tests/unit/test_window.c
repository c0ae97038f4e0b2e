/* Convolution, pooling and nearest neighbours: answers worked out by hand, and what is refused. */
#include <limits.h>
#include <math.h>

#include "unit/devices.h"

enum { MOST = 64 };

/* One call: operands by number, present where their rank is not 0. */
typedef struct call {
    qd_op op;
    qd_attrs attrs;
    qd_tensor_desc in[6], out;
    const void *data[6];
} call;

static qd_tensor_desc i8(int64_t d0, int64_t d1, int64_t d2, int64_t d3) {
    return qd_desc(QD_FORMAT_I8, d0, d1, d2, d3);
}

static qd_tensor_desc u8(int64_t d0, int64_t d1, int64_t d2, int64_t d3) {
    return qd_desc(QD_FORMAT_U8, d0, d1, d2, d3);
}

static qd_tensor_desc i32(int64_t d0, int64_t d1, int64_t d2, int64_t d3) {
    return qd_desc(QD_FORMAT_I32, d0, d1, d2, d3);
}

/* Makes the plan and runs it on an output of bytes 0x5a; reads the output back whatever happened. */
static qd_status run(qd_context *c, const call *x, void *result) {
    qd_tensor *in[6] = {0}, *out = NULL;
    const qd_op_info *info = qd_op_get(x->op);
    for (int i = 0; i < info->max_in; i++) {
        if (!x->in[i].rank) continue;
        if (x->data[i]) {
            in[i] = tensor_with(c, x->in[i], x->data[i]);
        } else {
            ck_ok(qd_tensor_create(c, &x->in[i], &in[i]));
        }
    }
    const size_t bytes = qd_desc_bytes(&x->out);
    memset(result, 0x5a, bytes);
    out = tensor_with(c, x->out, result);
    qd_plan *plan = NULL;
    qd_status status = qd_plan_create(c, x->op, &x->attrs, in, info->max_in, &out, 1, &plan);
    if (!status) ck_ok(qd_plan_run(plan));
    ck_ok(qd_tensor_read(out, 0, result, bytes));
    qd_plan_free(plan);
    for (int i = 0; i < 6; i++)
        qd_tensor_free(in[i]);
    qd_tensor_free(out);
    return status;
}

static void ck_gives(qd_context *c, const call *x, const void *want, const char *what) {
    unsigned char got[4 * MOST];
    const size_t bytes = qd_desc_bytes(&x->out);
    ck_assert_uint_le(bytes, sizeof got);
    ck_ok(run(c, x, got));
    for (size_t i = 0; i < bytes; i++)
        ck_assert_msg(got[i] == ((const unsigned char *)want)[i], "%s: byte %zu is %d, not %d", what, i, got[i],
                      ((const unsigned char *)want)[i]);
}

/* Refused with a message that says `part`; the output keeps its bytes. */
static void ck_refused(qd_context *c, const call *x, qd_status want, const char *part) {
    unsigned char got[4 * MOST];
    ck_assert_uint_le(qd_desc_bytes(&x->out), sizeof got);
    ck_fails(run(c, x, got), want, part);
    for (size_t i = 0; i < qd_desc_bytes(&x->out); i++)
        ck_assert_int_eq(got[i], 0x5a);
}

/* ---- CONV_INT ----------------------------------------------------------------------------------------------- */

static const int8_t image_3x3[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};

/* A 2 × 2 kernel on a 3 × 3 image, padded above and to the left only: which side is which, and which way the kernel
 * lies. */
START_TEST(test_conv_padding) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const int8_t w[] = {1, 10, 100, -1};
    call x = {
        .op = QD_OP_CONV_INT, .in = {i8(1, 2, 2, 1), i8(1, 3, 3, 1)}, .out = i32(1, 3, 2, 1), .data = {w, image_3x3}};
    x.attrs.conv_int.window.before[0] = 1;
    /* a + 10·b + 100·c - d of each 2 × 2 square; a and b are 0 in the first line. */
    const int32_t above[] = {100 - 2, 200 - 3, 1 + 20 + 400 - 5, 2 + 30 + 500 - 6, 4 + 50 + 700 - 8, 5 + 60 + 800 - 9};
    ck_gives(c, &x, above, "padded above");
    x.attrs.conv_int.window = (qd_window){.before = {0, 1}};
    x.out = i32(1, 2, 3, 1);
    const int32_t left[] = {10 - 4, 1 + 20 + 400 - 5, 2 + 30 + 500 - 6, 40 - 7, 4 + 50 + 700 - 8, 5 + 60 + 800 - 9};
    ck_gives(c, &x, left, "padded to the left");
    x.attrs.conv_int.window = (qd_window){.after = {1, 0}, .stride = {2, 1}};
    const int32_t below[] = {1 + 20 + 400 - 5, 2 + 30 + 500 - 6, 7 + 80, 8 + 90};
    x.out = i32(1, 2, 2, 1);
    ck_gives(c, &x, below, "padded below");
    x.attrs.conv_int.window = (qd_window){.dilation = {2, 2}};
    const int32_t corners[] = {1 + 30 + 700 - 9};
    x.out = i32(1, 1, 1, 1);
    ck_gives(c, &x, corners, "dilated");
    qd_context_free(c);
}
END_TEST

/* Two images, two input channels, three output channels, zero points, bias: the same numbers in both layouts. */
START_TEST(test_conv_layouts) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const uint8_t nhwc[] = {10, 1, 20, 2, 30, 3, 12, 5, 10, 1, 10, 1}; /* [2,1,3,2] */
    static const uint8_t nchw[] = {10, 20, 30, 1, 2, 3, 12, 10, 10, 5, 1, 1}; /* [2,2,1,3] */
    static const int8_t w_nhwc[] = {1, 2, 3, 4, 0, 0, 1, 0, -1, 0, 0, -1};    /* [3,1,2,2] */
    static const int8_t w_nchw[] = {1, 3, 2, 4, 0, 1, 0, 0, -1, 0, 0, -1};    /* [3,2,1,2] */
    static const int32_t w_zero[] = {1, 0, 0}, x_zero[] = {10}, bias[] = {0, 1000, INT32_MIN};
    /* Channel 0 of w, its zero point taken off: 0 1 | 2 3; x - 10: 0 -9, 10 -8, 20 -7 and 2 -5, 0 -9, 0 -9. */
    static const int32_t want_nhwc[] = {
        -9 + 20 - 24, 1010, (int32_t)0x80000008, -8 + 40 - 21, 1020, (int32_t)0x7ffffffd,
        -5 - 27,      1000, (int32_t)0x80000007, -9 - 27,      1000, (int32_t)0x80000009};
    static const int32_t want_nchw[] = {-13, 11,  1010, 1020, (int32_t)0x80000008, (int32_t)0x7ffffffd,
                                        -32, -36, 1000, 1000, (int32_t)0x80000007, (int32_t)0x80000009};
    call x = {.op = QD_OP_CONV_INT,
              .in = {i8(3, 1, 2, 2), u8(2, 1, 3, 2), i32(3, 0, 0, 0), i32(1, 0, 0, 0), i32(3, 0, 0, 0)},
              .out = i32(2, 1, 2, 3),
              .data = {w_nhwc, nhwc, w_zero, x_zero, bias}};
    ck_gives(c, &x, want_nhwc, "NHWC");
    x.in[0] = i8(3, 2, 2, 0);
    x.in[1] = u8(2, 3, 2, 0);
    x.out = i32(2, 2, 3, 0);
    x.attrs.conv_int.window = (qd_window){.stride = {9, 0}, .before = {9, 0}, .dilation = {-1, 0}}; /* of no height */
    ck_gives(c, &x, want_nhwc, "NWC");
    x.attrs.conv_int.window = (qd_window){.nchw = true};
    x.in[0] = i8(3, 2, 1, 2);
    x.in[1] = u8(2, 2, 1, 3);
    x.out = i32(2, 3, 1, 2);
    x.data[0] = w_nchw;
    x.data[1] = nchw;
    ck_gives(c, &x, want_nchw, "NCHW");
    x.in[0] = i8(3, 2, 2, 0);
    x.in[1] = u8(2, 2, 3, 0);
    x.out = i32(2, 3, 2, 0);
    ck_gives(c, &x, want_nchw, "NCW");
    qd_context_free(c);
}
END_TEST

/* Depthwise with two results for each channel, and two groups of two channels; padding is the zero point. */
START_TEST(test_conv_groups) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const int8_t image[] = {3, 5, 4, 7}; /* one line, two columns, two channels; zero point 3 */
    static const int8_t w[] = {1, 2, 3, 4, 5, 6, 7, 8};
    static const int32_t zero[] = {3};
    call x = {.op = QD_OP_CONV_INT,
              .in = {i8(4, 2, 1, 0), i8(1, 2, 2, 0), {.rank = 0}, i32(1, 0, 0, 0)},
              .out = i32(1, 3, 4, 0),
              .data = {w, image, NULL, zero}};
    x.attrs.conv_int.groups = 2;
    x.attrs.conv_int.window = (qd_window){.before = {0, 1}, .after = {0, 1}};
    /* x - 3: (0, 2), (1, 4) */
    static const int32_t depthwise[] = {0, 0, 12, 16, 2, 4, 10 + 24, 14 + 32, 1, 3, 20, 28};
    ck_gives(c, &x, depthwise, "depthwise");
    /* One column of four channels. */
    x.in[0] = i8(2, 1, 2, 0);
    x.in[1] = i8(1, 1, 4, 0);
    x.out = i32(1, 1, 2, 0);
    x.attrs.conv_int.window = (qd_window){.nchw = false};
    static const int32_t two[] = {0 + 2 * 2, 3 * 1 + 4 * 4};
    ck_gives(c, &x, two, "two groups");
    qd_context_free(c);
}
END_TEST

/* A rounding, a zero point and limits for each channel. */
START_TEST(test_conv_requant) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const int8_t w[] = {1, -1, 100}, image[] = {5, -5, 127};
    static const float scale[] = {0.5f, 0.5f, 1.0f};
    int32_t table[6];
    call x = {.op = QD_OP_CONV_INT,
              .in = {i8(3, 1, 1, 1), i8(3, 1, 1, 1), [5] = i32(3, 2, 0, 0)},
              .out = i8(3, 1, 1, 3),
              .data = {w, image, [5] = table}};
    static const int8_t want[4][9] = {{4, -1, 40, -1, 4, -40, 40, -40, 40},  /* FIXED: 2.5 → 3, -2.5 → -2 */
                                      {4, -1, 40, -1, 4, -40, 40, -40, 40},  /* GEMMLOWP: its product too */
                                      {4, -2, 40, -2, 4, -40, 40, -40, 40},  /* AWAY */
                                      {3, -1, 40, -1, 3, -40, 40, -40, 40}}; /* FLOAT: to even */
    for (int mode = QD_ROUND_FIXED; mode <= QD_ROUND_FLOAT; mode++) {
        ck_ok(qd_requantize_table((qd_rounding)mode, 1.0f, scale, 3, 1.0f, table));
        x.attrs.conv_int.y = (qd_requant){(qd_rounding)mode, 1, -40, 40};
        ck_gives(c, &x, want[mode], "rounding");
    }
    qd_context_free(c);
}
END_TEST

START_TEST(test_conv_refused) {
    qd_context *c = open_device(0, NULL);
    static const int32_t table[12] = {0};
    const call good = {.op = QD_OP_CONV_INT,
                       .in = {i8(4, 3, 3, 2), i8(1, 5, 5, 4), [5] = i32(1, 2, 0, 0)},
                       .out = i8(1, 3, 3, 4),
                       .attrs.conv_int.groups = 2,
                       .data = {[5] = table}};
    unsigned char ignored[MOST];
    ck_ok(run(c, &good, ignored));
    call x = good;
    x.attrs.conv_int.groups = 3;
    ck_refused(c, &x, QD_ERR_ARGUMENT, "3 groups; they must divide");
    x.attrs.conv_int.groups = -2;
    ck_refused(c, &x, QD_ERR_ARGUMENT, "-2 groups");
    x.attrs.conv_int.groups = INT_MIN;
    ck_refused(c, &x, QD_ERR_ARGUMENT, "groups");
    x.attrs.conv_int.groups = 1;
    ck_refused(c, &x, QD_ERR_ARGUMENT, "made of 4 in 1 group");
    x = good;
    x.in[0] = i8(2, 3, 3, 2);
    ck_refused(c, &x, QD_ERR_ARGUMENT, "w is for 2 channels");
    x = good;
    x.in[0] = i8(4, 3, 2, 0);
    ck_refused(c, &x, QD_ERR_ARGUMENT, "w has rank 3; it needs that of x, 4");
    x = good;
    x.in[1] = i8(5, 4, 0, 0);
    ck_refused(c, &x, QD_ERR_ARGUMENT, "x has rank 2 and y 4");
    x.out = i8(1, 4, 0, 0);
    ck_refused(c, &x, QD_ERR_ARGUMENT, "x has rank 2 and y 2; both need 4, [R,H,W,C], or 3");
    x = good;
    x.out = i8(2, 3, 3, 4);
    ck_refused(c, &x, QD_ERR_ARGUMENT, "x has 1 images and y has 2");
    x = good;
    x.in[2] = i32(3, 0, 0, 0);
    ck_refused(c, &x, QD_ERR_ARGUMENT, "for 3 channels where w has 4");
    x = good;
    x.in[5] = i32(2, 2, 0, 0);
    ck_refused(c, &x, QD_ERR_ARGUMENT, "for 2 channels where w has 4");
    x = good;
    x.in[5].rank = 0;
    ck_refused(c, &x, QD_ERR_ARGUMENT, "needs a requant operand");
    x = good;
    x.attrs.conv_int.y.zero_point = 128;
    ck_refused(c, &x, QD_ERR_ARGUMENT, "zero point of y");
    x = good;
    x.out = i8(1, 3, 2, 4);
    ck_refused(c, &x, QD_ERR_ARGUMENT, "y's width is 2 where 3 is needed");
    x.attrs.conv_int.window.stride[1] = 3; /* no window over the end for convolutions */
    ck_refused(c, &x, QD_ERR_ARGUMENT, "y's width is 2 where 1 is needed");
    x = good;
    x.attrs.conv_int.window.dilation[0] = 3;
    ck_refused(c, &x, QD_ERR_ARGUMENT, "the window's height is 7, more than the 5");
    const struct {
        size_t at;
        const char *part;
    } fields[] = {{offsetof(qd_window, stride), "stride is"},
                  {offsetof(qd_window, dilation), "dilation is"},
                  {offsetof(qd_window, before), "padding before is"},
                  {offsetof(qd_window, after), "padding after is"}};
    static const int bad[] = {-1, INT_MIN, (1 << 20) + 1, INT_MAX};
    for (int i = 0; i < 16; i++) {
        for (int side = 0; side < 2; side++) {
            x = good;
            int *field = (int *)((char *)&x.attrs.conv_int.window + fields[i / 4].at);
            field[side] = bad[i % 4];
            ck_refused(c, &x, QD_ERR_ARGUMENT, fields[i / 4].part);
        }
    }
    /* 131071 products of 128 · 128 fit, 33025 of 255 · 255. */
    x = good;
    x.attrs.conv_int.groups = 1;
    x.in[0] = i8(1, 1, 131071, 0);
    x.in[1] = i8(1, 1, 131071, 0);
    x.out = i8(1, 1, 1, 0);
    ck_ok(run(c, &x, ignored));
    x.in[0] = i8(1, 1, 131072, 0);
    x.in[1] = i8(1, 1, 131072, 0);
    ck_refused(c, &x, QD_ERR_UNSUPPORTED, "sums of 131072 products of up to 16384 may not fit");
    x.in[0] = i8(1, 1, 33026, 0);
    x.in[1] = u8(1, 1, 33026, 0);
    x.in[2] = x.in[3] = i32(1, 0, 0, 0);
    ck_refused(c, &x, QD_ERR_UNSUPPORTED, "(33025 do)");
    qd_context_free(c);
}
END_TEST

/* ---- POOL --------------------------------------------------------------------------------------------------- */

/* One line of u8 with a window of two columns. */
static call line_pool(int64_t columns, int64_t results, const void *data) {
    call x = {.op = QD_OP_POOL, .in = {u8(1, columns, 1, 0)}, .out = u8(1, results, 1, 0), .data = {data}};
    x.attrs.pool.window.kernel[1] = 2;
    x.attrs.pool.x = x.attrs.pool.y = (qd_quant){1.0f, 0};
    x.attrs.pool.rounding = QD_ROUND_FLOAT;
    return x;
}

START_TEST(test_pool_max) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    /* The padding never wins, not even over the least code. */
    static const int8_t low[] = {-128, -128, -5, -7};
    call x = {.op = QD_OP_POOL, .in = {i8(1, 2, 2, 1)}, .out = i8(1, 3, 3, 1), .data = {low}};
    x.attrs.pool.window = (qd_window){.kernel = {2, 2}, .before = {1, 1}, .after = {1, 1}};
    static const int8_t want[] = {-128, -128, -128, -5, -5, -7, -5, -5, -7};
    ck_gives(c, &x, want, "maximum");
    static const int8_t limited[] = {-100, -100, -100, -6, -6, -7, -6, -6, -7};
    x.attrs.pool.min = -100;
    x.attrs.pool.max = -6;
    ck_gives(c, &x, limited, "limited");
    x.attrs.pool.window.nchw = true;
    x.in[0] = i8(1, 1, 2, 2);
    x.out = i8(1, 1, 3, 3);
    ck_gives(c, &x, limited, "limited, NCHW");
    /* Channels apart from each other, in both layouts; the quantization is not looked at. */
    static const uint8_t nhwc[] = {1, 200, 3, 100, 2, 50}, nchw[] = {1, 3, 2, 200, 100, 50}, both[] = {3, 200};
    x = (call){.op = QD_OP_POOL, .in = {u8(1, 3, 1, 2)}, .out = u8(1, 1, 1, 2), .data = {nhwc}};
    x.attrs.pool.global = true;
    x.attrs.pool.x.scale = NAN;
    ck_gives(c, &x, both, "global NHWC");
    x.attrs.pool.window.nchw = true;
    x.in[0] = u8(1, 2, 3, 1);
    x.out = u8(1, 2, 1, 1);
    x.data[0] = nchw;
    ck_gives(c, &x, both, "global NCHW");
    x.in[0] = u8(1, 2, 3, 0);
    x.out = u8(1, 2, 1, 0);
    ck_gives(c, &x, both, "global NCW");
    qd_context_free(c);
}
END_TEST

/* The means 2.5 and 3.5 of codes, and -2.5 and -3.5: each rounding has its own ties. */
START_TEST(test_pool_ties) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const int8_t codes[] = {2, 3, 4, -2, -3, -4}; /* means 2.5 3.5 1 -2.5 -3.5 */
    static const int8_t want[4][5] = {{3, 4, 1, -2, -3}, {3, 4, 1, -3, -4}, {3, 4, 1, -3, -4}, {2, 4, 1, -2, -4}};
    call x = line_pool(6, 5, codes);
    x.in[0].format = x.out.format = QD_FORMAT_I8;
    x.attrs.pool.average = true;
    for (int mode = QD_ROUND_FIXED; mode <= QD_ROUND_FLOAT; mode++) {
        x.attrs.pool.rounding = (qd_rounding)mode;
        ck_gives(c, &x, want[mode], "ties");
    }
    /* With a zero point of 5: distances -3 -2 … have means -2.5 and so on; the codes' own decide away from zero. */
    x.attrs.pool.x.zero_point = x.attrs.pool.y.zero_point = 5;
    static const int8_t shifted[4][5] = {{3, 4, 1, -2, -3}, {3, 4, 1, -3, -4}, {3, 4, 1, -3, -4}, {3, 3, 1, -3, -3}};
    for (int mode = QD_ROUND_FIXED; mode <= QD_ROUND_FLOAT; mode++) {
        x.attrs.pool.rounding = (qd_rounding)mode;
        ck_gives(c, &x, shifted[mode], "ties around a zero point");
    }
    qd_context_free(c);
}
END_TEST

/* Means of floats: ties after y's zero point was added. */
START_TEST(test_pool_float_sum) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const int8_t codes[] = {2, 3, 4, -2, -3, -4}, want[] = {2, 4, 1, -2, -4};
    call x = line_pool(6, 5, codes);
    x.in[0].format = x.out.format = QD_FORMAT_I8;
    x.attrs.pool.average = x.attrs.pool.float_sum = true;
    x.attrs.pool.x.zero_point = x.attrs.pool.y.zero_point = 5;
    ck_gives(c, &x, want, "ties around a zero point");
    /* Halves: (-9 + 4) + 6 and (-9 + 1) + 9 tenths are a bit more than one in floats, 4 + 6 and 1 + 9 first would not
     * be. */
    static const int8_t tenths[] = {-9, 4, 6, -9, 1, 9}, above[] = {1, 1};
    call y = line_pool(6, 2, tenths);
    y.in[0].format = y.out.format = QD_FORMAT_I8;
    y.attrs.pool.average = y.attrs.pool.float_sum = true;
    y.attrs.pool.window.kernel[1] = y.attrs.pool.window.stride[1] = 3;
    y.attrs.pool.x.scale = 0.1f;
    y.attrs.pool.y.scale = 0.2f / 3.0f;
    ck_gives(c, &y, above, "the order of the sum");
    x.attrs.pool.rounding = QD_ROUND_FIXED;
    ck_refused(c, &x, QD_ERR_ARGUMENT, "float_sum belongs to the rounding FLOAT");
    qd_context_free(c);
}
END_TEST

/* What counts, and what the zero points and scales do. */
START_TEST(test_pool_average) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const uint8_t codes[] = {100, 110, 130};
    call x = line_pool(3, 4, codes);
    x.attrs.pool.average = true;
    x.attrs.pool.window.before[1] = x.attrs.pool.window.after[1] = 1;
    x.attrs.pool.x.zero_point = 10;
    x.attrs.pool.y = (qd_quant){2.0f, 7};
    static const uint8_t inside[] = {7 + 45, 7 + 48, 7 + 55, 7 + 60}; /* 95/2 = 47.5 → 48 */
    ck_gives(c, &x, inside, "without the padding");
    x.attrs.pool.count_padding = true;
    static const uint8_t all[] = {7 + 22, 7 + 48, 7 + 55, 7 + 30}; /* 22.5 → 22 */
    ck_gives(c, &x, all, "with the padding");
    for (int mode = QD_ROUND_FIXED; mode < QD_ROUND_FLOAT; mode++) {
        x.attrs.pool.rounding = (qd_rounding)mode;
        x.attrs.pool.y = x.attrs.pool.x;
        static const uint8_t same[] = {55, 105, 120, 70};
        ck_gives(c, &x, same, "with the padding, the same meaning");
    }
    x = line_pool(3, 4, codes);
    x.attrs.pool.window.before[1] = x.attrs.pool.window.after[1] = 1;
    x.attrs.pool.average = true;
    x.attrs.pool.x.scale = 1e30f; /* out of range: the limits */
    static const uint8_t limit[] = {255, 255, 255, 255};
    ck_gives(c, &x, limit, "far too large");
    qd_context_free(c);
}
END_TEST

/* A last window that reaches over the padding's end: only what is inside counts. */
START_TEST(test_pool_hanging) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const uint8_t codes[] = {10, 20, 30, 40};
    call x = line_pool(4, 2, codes);
    x.attrs.pool.window = (qd_window){.kernel = {0, 3}, .stride = {0, 2}};
    static const uint8_t most[] = {30, 40}, mean[] = {20, 35};
    ck_gives(c, &x, most, "maximum");
    x.attrs.pool.average = true;
    ck_gives(c, &x, mean, "mean");
    x.attrs.pool.count_padding = true;
    ck_gives(c, &x, mean, "nothing is padded");
    x.attrs.pool.window = (qd_window){.kernel = {0, 3}, .stride = {0, 3}, .before = {0, 2}, .after = {0, 1}};
    x.out = u8(1, 3, 1, 0);
    /* Positions -2 … 4: windows -2 -1 0, 1 2 3, and 4 of the padding alone, which counts as one zero. */
    static const uint8_t want[] = {3, 30, 0};
    ck_gives(c, &x, want, "the padding's end");
    qd_context_free(c);
}
END_TEST

START_TEST(test_pool_refused) {
    qd_context *c = open_device(0, NULL);
    call good = line_pool(3, 2, NULL), x;
    good.attrs.pool.average = true;
    unsigned char ignored[MOST];
    ck_ok(run(c, &good, ignored));
    static const float bad_scales[] = {0.0f, -1.0f, NAN, INFINITY};
    for (int i = 0; i < 8; i++) {
        x = good;
        (i % 2 ? &x.attrs.pool.x : &x.attrs.pool.y)->scale = bad_scales[i / 2];
        ck_refused(c, &x, QD_ERR_ARGUMENT, i % 2 ? "scale of x" : "scale of y");
    }
    x = good;
    x.attrs.pool.x.scale = 1e30f;
    x.attrs.pool.y.scale = 1e-30f;
    ck_refused(c, &x, QD_ERR_ARGUMENT, "too large");
    for (int mode = QD_ROUND_FIXED; mode < QD_ROUND_FLOAT; mode++) {
        x = good;
        x.attrs.pool.rounding = (qd_rounding)mode;
        ck_ok(run(c, &x, ignored));
        x.attrs.pool.y.scale = 0.5f;
        ck_refused(c, &x, QD_ERR_UNSUPPORTED, "use QD_ROUND_FLOAT");
        x.attrs.pool.y = (qd_quant){1.0f, 1};
        ck_refused(c, &x, QD_ERR_UNSUPPORTED, "use QD_ROUND_FLOAT");
    }
    x = good;
    x.attrs.pool.rounding = (qd_rounding)4;
    ck_refused(c, &x, QD_ERR_ARGUMENT, "no rounding");
    x = good;
    x.attrs.pool.x.zero_point = 256;
    ck_refused(c, &x, QD_ERR_ARGUMENT, "zero point of x");
    x = good;
    x.attrs.pool.y.zero_point = -1;
    ck_refused(c, &x, QD_ERR_ARGUMENT, "zero point of y");
    x = good;
    x.attrs.pool.window.kernel[1] = 0;
    ck_refused(c, &x, QD_ERR_ARGUMENT, "kernel is 0");
    x = good;
    x.out = u8(1, 2, 3, 0);
    ck_refused(c, &x, QD_ERR_ARGUMENT, "x has 1 channels and y has 3");
    x = good;
    x.out = u8(1, 3, 1, 0);
    ck_refused(c, &x, QD_ERR_ARGUMENT, "y's width is 3 where 2 is needed");
    x = good;
    x.attrs.pool.window.stride[1] = 2;
    x.in[0] = u8(1, 4, 1, 0);
    x.out = u8(1, 3, 1, 0);
    ck_refused(c, &x, QD_ERR_ARGUMENT, "y's width is 3 where 2 is needed");
    x.in[0] = u8(1, 5, 1, 0);
    x.out = u8(1, 4, 1, 0);
    ck_refused(c, &x, QD_ERR_ARGUMENT, "y's width is 4 where 2, or one more, is needed");
    x = good;
    x.attrs.pool.global = true;
    ck_refused(c, &x, QD_ERR_ARGUMENT, "one line and one column");
    /* Windows without a code: at the start, at the end, and on both sides of an image. */
    x = good;
    x.attrs.pool.window.before[1] = 2;
    x.out = u8(1, 4, 1, 0);
    ck_refused(c, &x, QD_ERR_ARGUMENT, "wholly in the padding");
    x.attrs.pool.average = false;
    ck_refused(c, &x, QD_ERR_ARGUMENT, "wholly in the padding");
    x.attrs.pool.window.before[1] = 0;
    x.attrs.pool.window.after[1] = 2;
    ck_refused(c, &x, QD_ERR_ARGUMENT, "wholly in the padding");
    x.in[0] = u8(1, 2, 1, 0);
    x.out = u8(1, 1, 1, 0);
    x.attrs.pool.window = (qd_window){.kernel = {0, 2}, .dilation = {0, 3}, .before = {0, 1}, .after = {0, 1}};
    ck_refused(c, &x, QD_ERR_ARGUMENT, "wholly in the padding");
    x.attrs.pool.count_padding = true; /* of averages */
    ck_refused(c, &x, QD_ERR_ARGUMENT, "wholly in the padding");
    x.attrs.pool.average = true;
    ck_ok(run(c, &x, ignored));
    /* One window more would start beyond the end. */
    x.out = u8(1, 2, 1, 0);
    x.attrs.pool.window = (qd_window){.kernel = {0, 1}, .stride = {0, 3}};
    ck_refused(c, &x, QD_ERR_ARGUMENT, "y's width is 2 where 1 is needed");
    x = good;
    x.in[0] = u8(1, 1, 1, 1);
    x.out = u8(1, 1, 1, 1);
    x.attrs.pool.average = false;
    x.attrs.pool.window = (qd_window){.kernel = {4096, 4096}, .before = {4095, 4095}};
    ck_refused(c, &x, QD_ERR_UNSUPPORTED, "a window of 16777216 positions");
    qd_context_free(c);
}
END_TEST

/* ---- RESIZE ------------------------------------------------------------------------------------------------- */

/* Every way to choose, from ONNX's definition of Resize: indices among the inputs 0, 1, 2, … */
START_TEST(test_resize) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const uint8_t inputs[] = {0, 1, 2, 3, 4, 5, 6, 7};
    const struct {
        qd_resize_coordinates coordinates;
        qd_nearest nearest;
        int in, out;
        uint8_t want[8];
    } rows[] = {
        /* 2 → 4, asymmetric: 0 0.5 1 1.5 */
        {QD_RESIZE_ASYMMETRIC, QD_NEAREST_FLOOR, 2, 4, {0, 0, 1, 1}},
        {QD_RESIZE_ASYMMETRIC, QD_NEAREST_CEIL, 2, 4, {0, 1, 1, 1}},
        {QD_RESIZE_ASYMMETRIC, QD_NEAREST_HALF_DOWN, 2, 4, {0, 0, 1, 1}},
        {QD_RESIZE_ASYMMETRIC, QD_NEAREST_HALF_UP, 2, 4, {0, 1, 1, 1}},
        /* 5 → 2, half pixel: 0.75 3.25 */
        {QD_RESIZE_HALF_PIXEL, QD_NEAREST_FLOOR, 5, 2, {0, 3}},
        {QD_RESIZE_HALF_PIXEL, QD_NEAREST_CEIL, 5, 2, {1, 4}},
        {QD_RESIZE_HALF_PIXEL, QD_NEAREST_HALF_DOWN, 5, 2, {1, 3}},
        {QD_RESIZE_HALF_PIXEL, QD_NEAREST_HALF_UP, 5, 2, {1, 3}},
        /* 4 → 2, half pixel: 0.5 2.5 */
        {QD_RESIZE_HALF_PIXEL, QD_NEAREST_HALF_DOWN, 4, 2, {0, 2}},
        {QD_RESIZE_HALF_PIXEL, QD_NEAREST_HALF_UP, 4, 2, {1, 3}},
        /* 2 → 4, half pixel: -0.25 0.25 0.75 1.25; and 1 → 3: -1/3 0 1/3 */
        {QD_RESIZE_HALF_PIXEL, QD_NEAREST_FLOOR, 2, 4, {0, 0, 0, 1}},
        {QD_RESIZE_HALF_PIXEL, QD_NEAREST_CEIL, 2, 4, {0, 1, 1, 1}},
        {QD_RESIZE_HALF_PIXEL, QD_NEAREST_CEIL, 1, 3, {0, 0, 0}},
        /* 3 → 5, corners: 0 0.5 1 1.5 2; 4 → 3: 0 1.5 3; one result: the first */
        {QD_RESIZE_ALIGN_CORNERS, QD_NEAREST_FLOOR, 3, 5, {0, 0, 1, 1, 2}},
        {QD_RESIZE_ALIGN_CORNERS, QD_NEAREST_CEIL, 3, 5, {0, 1, 1, 2, 2}},
        {QD_RESIZE_ALIGN_CORNERS, QD_NEAREST_HALF_DOWN, 3, 5, {0, 0, 1, 1, 2}},
        {QD_RESIZE_ALIGN_CORNERS, QD_NEAREST_HALF_UP, 3, 5, {0, 1, 1, 2, 2}},
        {QD_RESIZE_ALIGN_CORNERS, QD_NEAREST_HALF_UP, 4, 3, {0, 2, 3}},
        {QD_RESIZE_ALIGN_CORNERS, QD_NEAREST_HALF_UP, 8, 1, {0}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char what[64];
        snprintf(what, sizeof what, "row %zu", i);
        call x = {.op = QD_OP_RESIZE, .data = {inputs}};
        x.attrs.resize.coordinates = rows[i].coordinates;
        x.attrs.resize.nearest = rows[i].nearest;
        for (int shape = 0; shape < 4; shape++) { /* columns and lines, in both layouts */
            const int lines = shape & 1;
            x.attrs.resize.nchw = shape & 2;
            x.in[0] = shape & 2 ? u8(1, 1, lines ? rows[i].in : 1, lines ? 1 : rows[i].in)
                                : u8(1, lines ? rows[i].in : 1, lines ? 1 : rows[i].in, 1);
            x.out = shape & 2 ? u8(1, 1, lines ? rows[i].out : 1, lines ? 1 : rows[i].out)
                              : u8(1, lines ? rows[i].out : 1, lines ? 1 : rows[i].out, 1);
            ck_gives(c, &x, rows[i].want, what);
        }
    }
    /* Two images of two channels. */
    static const uint8_t nhwc[] = {1, 2, 3, 4, 5, 6, 7, 8}, wide[] = {1, 2, 1, 2, 3, 4, 3, 4, 5, 6, 5, 6, 7, 8, 7, 8};
    call x = {.op = QD_OP_RESIZE, .in = {u8(2, 2, 2, 0)}, .out = u8(2, 4, 2, 0), .data = {nhwc}};
    ck_gives(c, &x, wide, "NWC");
    static const uint8_t nchw[] = {1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8};
    x.attrs.resize.nchw = true;
    x.out = u8(2, 2, 4, 0);
    ck_gives(c, &x, nchw, "NCW");
    qd_context_free(c);
}
END_TEST

/* More columns than float32 can place: fractions are exact. */
START_TEST(test_resize_exact) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    enum { IN = 3 * 1000003, OUT = 7 * 1000003 };
    uint8_t *data = malloc(IN), *want = malloc(OUT);
    ck_assert(data && want);
    uint32_t rng = 5;
    for (int i = 0; i < IN; i++)
        data[i] = (uint8_t)random_bits(&rng);
    for (int i = 0; i < OUT; i++)
        want[i] = data[(int64_t)i * 3 / 7];
    const qd_tensor_desc in = u8(1, IN, 1, 0), out = u8(1, OUT, 1, 0);
    qd_tensor *x = tensor_with(c, in, data), *y;
    ck_ok(qd_tensor_create(c, &out, &y));
    const qd_attrs attrs = {.resize = {false, QD_RESIZE_ASYMMETRIC, QD_NEAREST_FLOOR}};
    qd_plan *plan;
    ck_ok(qd_plan_create(c, QD_OP_RESIZE, &attrs, &x, 1, &y, 1, &plan));
    ck_ok(qd_plan_run(plan));
    ck_tensor(y, want, "3 → 7");
    qd_plan_free(plan);
    qd_tensor_free(x);
    qd_tensor_free(y);
    free(data);
    free(want);
    qd_context_free(c);
}
END_TEST

START_TEST(test_resize_refused) {
    qd_context *c = open_device(0, NULL);
    const call good = {.op = QD_OP_RESIZE, .in = {u8(1, 2, 2, 3)}, .out = u8(1, 4, 1, 3)};
    unsigned char ignored[MOST];
    ck_ok(run(c, &good, ignored));
    call x = good;
    x.out = u8(1, 4, 1, 2);
    ck_refused(c, &x, QD_ERR_ARGUMENT, "x has 3 channels and y has 2");
    x = good;
    x.attrs.resize.nchw = true; /* the channels are elsewhere now */
    ck_refused(c, &x, QD_ERR_ARGUMENT, "x has 2 channels and y has 4");
    x = good;
    x.attrs.resize.coordinates = (qd_resize_coordinates)3;
    ck_refused(c, &x, QD_ERR_ARGUMENT, "3 is no qd_resize_coordinates");
    x = good;
    x.attrs.resize.nearest = (qd_nearest)-1;
    ck_refused(c, &x, QD_ERR_ARGUMENT, "-1 no qd_nearest");
    x = good;
    x.out = u8(2, 4, 1, 3);
    ck_refused(c, &x, QD_ERR_ARGUMENT, "x has 1 images and y has 2");
    x = good;
    x.out = u8(1, 4, 3, 0);
    ck_refused(c, &x, QD_ERR_ARGUMENT, "x has rank 4 and y 3");
    x = good;
    x.out = i8(1, 4, 1, 3);
    ck_refused(c, &x, QD_ERR_UNSUPPORTED, "y cannot be i8");
    qd_context_free(c);
}
END_TEST

/* ---- Rows of a run ------------------------------------------------------------------------------------------ */

/* In a graph, images are the rows of a run: a run with fewer leaves the others alone, one with none does nothing. */
START_TEST(test_rows) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    enum { ROWS = 3, IN = 4, OUT = 2 };
    qd_graph *g;
    ck_ok(qd_graph_create(c, ROWS, &g));
    uint8_t codes[ROWS * IN], before[ROWS * OUT], want[ROWS * OUT];
    for (int i = 0; i < ROWS * IN; i++)
        codes[i] = (uint8_t)(i * 7 % 20);
    memset(before, 0x5a, sizeof before);
    qd_tensor *x = tensor_with(c, u8(ROWS, IN, 1, 0), codes), *y = tensor_with(c, u8(ROWS, OUT, 1, 0), before), *inside;
    const qd_tensor_desc middle = u8(QD_ROWS, OUT, 1, 0);
    ck_ok(qd_graph_tensor(g, &middle, &inside));
    qd_attrs pool = {0}, resize = {0};
    pool.pool.window = (qd_window){.kernel = {0, 2}, .stride = {0, 2}};
    ck_ok(qd_graph_add(g, QD_OP_POOL, &pool, &x, 1, &inside, 1));
    ck_ok(qd_graph_add(g, QD_OP_RESIZE, &resize, &inside, 1, &y, 1));
    ck_ok(qd_graph_compile(g, NULL, NULL));
    for (int rows = 0; rows <= ROWS; rows++) {
        memcpy(want, before, sizeof want);
        for (int i = 0; i < rows * OUT; i++)
            want[i] = codes[2 * i] > codes[2 * i + 1] ? codes[2 * i] : codes[2 * i + 1];
        ck_ok(qd_tensor_write(y, 0, before, sizeof before));
        ck_ok(qd_graph_run(g, rows));
        ck_tensor(y, want, "rows of the run");
    }
    qd_graph_free(g);
    qd_tensor_free(x);
    qd_tensor_free(y);
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("window");
    tcase_add_loop_test(tc, test_conv_padding, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_conv_layouts, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_conv_groups, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_conv_requant, 0, TEST_DEVICES);
    tcase_add_test(tc, test_conv_refused);
    tcase_add_loop_test(tc, test_pool_max, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_pool_ties, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_pool_float_sum, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_pool_average, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_pool_hanging, 0, TEST_DEVICES);
    tcase_add_test(tc, test_pool_refused);
    tcase_add_loop_test(tc, test_resize, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_resize_exact, 0, TEST_DEVICES);
    tcase_add_test(tc, test_resize_refused);
    tcase_add_loop_test(tc, test_rows, 0, TEST_DEVICES);
    return run_tests(tc, "window");
}
