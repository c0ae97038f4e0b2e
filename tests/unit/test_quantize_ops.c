/* Floats to codes and back, and products with a scale for each group of codes: answers worked out by hand from the
 * definitions, and what is refused. */
#include <limits.h>
#include <math.h>

#include "unit/one_op.h"

#define F32(...) qd_desc(QD_FORMAT_F32, __VA_ARGS__)
#define I32(...) qd_desc(QD_FORMAT_I32, __VA_ARGS__)

/* Opens device _i, or ends the test where there is none. */
#define WITH_DEVICE(c)                     \
    qd_context *c = open_device(_i, NULL); \
    if (!c) return

static one_op quantize(qd_tensor_desc x, const void *values, qd_tensor_desc scale, const void *scales, qd_format y) {
    one_op o = {.op = QD_OP_QUANTIZE_LINEAR, .in = {x, scale}, .out = x, .data = {values, scales}};
    o.out.format = y;
    return o;
}

static void with_zero(one_op *o, const int32_t *zero) {
    o->in[2] = o->in[1];
    o->in[2].format = QD_FORMAT_I32;
    o->data[2] = zero;
}

static const float one = 1.0f;

/* ---- QUANTIZE_LINEAR ---------------------------------------------------------------------------------------- */

/* Halves to even before the zero point is added, or after; NaN is the zero point; infinities are the ends. */
START_TEST(test_quantize_rounding) {
    WITH_DEVICE(c);
    const float x[] = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 0.49999997f, NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 300};
    const int32_t three = 3;
    one_op o = quantize(F32(12, 0, 0, 0), x, F32(1, 0, 0, 0), &one, QD_FORMAT_U8);
    with_zero(&o, &three);
    one_op_gives(c, &o, (uint8_t[]){3, 5, 5, 3, 1, 3, 3, 255, 0, 255, 0, 255}, "rounded, then moved");
    o.attrs.quantize_linear.zero_first = true;
    /* 3.5 4.5 5.5 2.5 1.5 3.5 (3.49999997 is no float): NaN + 3 is NaN, code 0 */
    one_op_gives(c, &o, (uint8_t[]){4, 4, 6, 2, 2, 4, 0, 255, 0, 255, 0, 255}, "moved, then rounded");
    o.attrs.quantize_linear.zero_first = false;
    o.attrs.quantize_linear.min = 2;
    o.attrs.quantize_linear.max = 4;
    one_op_gives(c, &o, (uint8_t[]){3, 4, 4, 3, 2, 3, 3, 4, 2, 4, 2, 4}, "limited");
    qd_context_free(c);
}
END_TEST

/* The same with halves away from zero: codes of 8 bits, and of 32, which are found in another way. */
START_TEST(test_quantize_away) {
    WITH_DEVICE(c);
    const float x[] = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 0.49999997f, NAN, INFINITY, -INFINITY, 8388607.5f, -2.5f, 300};
    const int32_t three = 3;
    one_op o = quantize(F32(12, 0, 0, 0), x, F32(1, 0, 0, 0), &one, QD_FORMAT_U8);
    with_zero(&o, &three);
    o.attrs.quantize_linear.away = true;
    one_op_gives(c, &o, (uint8_t[]){4, 5, 6, 2, 1, 3, 3, 255, 0, 255, 0, 255}, "u8");
    o.attrs.quantize_linear.zero_first = true;
    one_op_gives(c, &o, (uint8_t[]){4, 5, 6, 3, 2, 4, 0, 255, 0, 255, 1, 255}, "moved, then rounded");
    o = quantize(F32(12, 0, 0, 0), x, F32(1, 0, 0, 0), &one, QD_FORMAT_I32);
    o.attrs.quantize_linear.away = true;
    one_op_gives(c, &o, (int32_t[]){1, 2, 3, -1, -2, 0, 0, INT32_MAX, INT32_MIN, 8388608, -3, 300}, "i32");
    o = quantize(F32(12, 0, 0, 0), x, F32(1, 0, 0, 0), &one, QD_FORMAT_F8E4M3);
    o.attrs.quantize_linear.away = true;
    one_op_refused(c, &o, QD_ERR_UNSUPPORTED, "halves away from zero");
    qd_context_free(c);
}
END_TEST

/* 45.5 / 7 = 6.5, but 45.5 · f32(1 / 7) is above; 287 / 82 = 3.5, but 287 · f32(1 / 82) is below. */
START_TEST(test_quantize_reciprocal) {
    WITH_DEVICE(c);
    const float x[] = {45.5f, 287, 45.5f, 287}, scale[] = {7, 82};
    one_op o = quantize(F32(2, 2, 0, 0), x, F32(2, 0, 0, 0), scale, QD_FORMAT_I8);
    o.attrs.quantize_linear.axis = -1;
    one_op_gives(c, &o, (int8_t[]){6, 4, 6, 4}, "divided");
    o.attrs.quantize_linear.reciprocal = true;
    one_op_gives(c, &o, (int8_t[]){7, 3, 7, 3}, "multiplied");
    qd_context_free(c);
}
END_TEST

/* Scales that are no scales: 0 / 0, x / NaN and infinity / infinity are NaN; 1 / 0 is infinite. */
START_TEST(test_quantize_wild_scales) {
    WITH_DEVICE(c);
    const float x[] = {0, 1, -1, 0, 1, INFINITY, 5, -5, INFINITY, 1, -1, NAN}, scale[] = {0, -0.0f, INFINITY, NAN};
    const int32_t zero[] = {7, 7, 7, 7};
    one_op o = quantize(F32(4, 3, 0, 0), x, F32(4, 0, 0, 0), scale, QD_FORMAT_I8);
    with_zero(&o, zero);
    one_op_gives(c, &o, (int8_t[]){7, 127, -128, 7, -128, -128, 7, 7, 7, 7, 7, 7}, "i8");
    o.in[2].rank = 0;
    o.out.format = QD_FORMAT_F8E4M3; /* NaN has the positive sign, whatever the machine's has */
    one_op_gives(c, &o, (uint8_t[]){0x7f, 0x7e, 0xfe, 0x7f, 0xfe, 0xfe, 0, 0x80, 0x7f, 0x7f, 0x7f, 0x7f}, "f8e4m3");
    qd_context_free(c);
}
END_TEST

/* Rows of packed codes start at a byte, the first code in the low bits; what is left of the last byte is zero. */
START_TEST(test_quantize_packed) {
    WITH_DEVICE(c);
    const float x[] = {1, -2, 3, -8, 7, -9, 1, 0, -1, -2};
    one_op o = quantize(F32(2, 5, 0, 0), x, F32(1, 0, 0, 0), &one, QD_FORMAT_I4);
    one_op_gives(c, &o, (uint8_t[]){0xe1, 0x83, 0x07, 0x18, 0xf0, 0x0e}, "i4");
    o.out.format = QD_FORMAT_U4;
    one_op_gives(c, &o, (uint8_t[]){0x01, 0x03, 0x07, 0x10, 0x00, 0x00}, "u4");
    o.out.format = QD_FORMAT_I2; /* 1 -2 1 -2 | 1, -2 1 0 -1 | -2 */
    one_op_gives(c, &o, (uint8_t[]){0x99, 0x01, 0xc6, 0x02}, "i2");
    o.out.format = QD_FORMAT_U2; /* 1 0 3 0 | 3, 0 1 0 0 | 0 */
    one_op_gives(c, &o, (uint8_t[]){0x31, 0x03, 0x04, 0x00}, "u2");
    o.out.format = QD_FORMAT_F4E2M1; /* 1 -2 3 -6 6 | -6 1 0 -1 -2 */
    one_op_gives(c, &o, (uint8_t[]){0xc2, 0xf5, 0x07, 0x2f, 0xa0, 0x0c}, "f4e2m1");
    qd_context_free(c);
}
END_TEST

/* One scale for each index of every axis, and for blocks of two of them, the last one short. x is 12 everywhere, scales
 * are 1, 2, 3, …: the codes tell which one was used. */
START_TEST(test_quantize_axes) {
    WITH_DEVICE(c);
    float x[12], scale[12];
    for (int i = 0; i < 12; i++) {
        x[i] = 1000;
        scale[i] = 1000 / (float)(i + 1);
    }
    static const struct {
        int axis;
        int64_t block;
        int64_t shape[3];
        int8_t want[12];
    } cases[] = {
        {0, 0, {2}, {1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2}},
        {1, 0, {3}, {1, 1, 2, 2, 3, 3, 1, 1, 2, 2, 3, 3}},
        {-1, 0, {2}, {1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2}},
        {1, 2, {2, 2, 2}, {1, 2, 1, 2, 3, 4, 5, 6, 5, 6, 7, 8}},
        {-3, 2, {1, 3, 2}, {1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6}},
        {2, 2, {2, 3, 1}, {1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6}},
        {2, 1, {2, 3, 2}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}},
        {1, INT64_MAX, {2, 1, 2}, {1, 2, 1, 2, 1, 2, 3, 4, 3, 4, 3, 4}},
        {77, 5, {1, 1, 1}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}}, /* one scale has no axis */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char what[32];
        snprintf(what, sizeof what, "case %zu", i);
        const qd_tensor_desc s = F32(cases[i].shape[0], cases[i].shape[1], cases[i].shape[2], 0);
        one_op o = quantize(F32(2, 3, 2, 0), x, s, scale, QD_FORMAT_I8);
        o.attrs.quantize_linear.axis = cases[i].axis;
        o.attrs.quantize_linear.block = cases[i].block;
        one_op_gives(c, &o, cases[i].want, what);
        /* Back again: f32 of the product. */
        one_op back = {.op = QD_OP_DEQUANTIZE_LINEAR, .attrs = o.attrs, .in = {o.out, s}, .out = o.in[0]};
        float want[12];
        for (int k = 0; k < 12; k++)
            want[k] = (float)cases[i].want[k] * scale[cases[i].want[k] - 1];
        back.data[0] = cases[i].want;
        back.data[1] = scale;
        one_op_gives(c, &back, want, what);
    }
    qd_context_free(c);
}
END_TEST

START_TEST(test_quantize_formats) {
    WITH_DEVICE(c);
    const float x[] = {-3e9f, 3e9f, 32767.5f, 65534.5f, -1.5f, 8388609, 4194303.5f, NAN};
    const int32_t zero = -2;
    one_op o = quantize(F32(8, 0, 0, 0), x, F32(1, 0, 0, 0), &one, QD_FORMAT_I32);
    with_zero(&o, &zero);
    const int32_t i32[] = {INT32_MIN, INT32_MAX - 2, 32766, 65532, -4, 8388607, 4194302, -2};
    one_op_gives(c, &o, i32, "i32");
    o.out.format = QD_FORMAT_I16;
    one_op_gives(c, &o, (int16_t[]){INT16_MIN, 32767, 32766, 32767, -4, 32767, 32767, -2}, "i16");
    o.out.format = QD_FORMAT_U16; /* the zero point counts as 0 */
    one_op_gives(c, &o, (uint16_t[]){0, 65535, 32768, 65534, 0, 65535, 65535, 0}, "u16");
    const uint16_t half[] = {0x3c00, 0x3e00, 0x4100, 0xfbff, 0x7c00, 0x7e00, 0x0001, 0x8000}; /* 1 1.5 2.5 -65504 … */
    o.in[0].format = QD_FORMAT_F16;
    o.data[0] = half;
    one_op_gives(c, &o, (uint16_t[]){1, 2, 2, 0, 65535, 0, 0, 0}, "u16 of f16");
    qd_context_free(c);
}
END_TEST

/* Columns 1 … 3 of a matrix with 5. */
START_TEST(test_quantize_view) {
    WITH_DEVICE(c);
    const float x[] = {9, 1, 2, 3, 9, 9, 4, 5, 6, 9};
    qd_tensor_desc dx = F32(2, 5, 0, 0), ds = F32(1, 0, 0, 0), dy = qd_desc(QD_FORMAT_I8, 2, 3, 0, 0);
    qd_tensor *base = tensor_with(c, dx, x), *scale = tensor_with(c, ds, &one), *back = tensor_with(c, dx, x),
              *y = NULL, *view = NULL, *back_view = NULL, *scale_view = NULL;
    qd_plan *plan = NULL, *second = NULL;
    const qd_attrs attrs = {0};
    ck_ok(qd_tensor_create(c, &dy, &y));
    ck_ok(qd_tensor_view(base, 1, 3, &view));
    ck_ok(qd_tensor_view(back, 2, 3, &back_view));
    ck_ok(qd_plan_create(c, QD_OP_QUANTIZE_LINEAR, &attrs, (qd_tensor *[]){view, scale}, 2, &y, 1, &plan));
    ck_ok(qd_plan_create(c, QD_OP_DEQUANTIZE_LINEAR, &attrs, (qd_tensor *[]){y, scale}, 2, &back_view, 1, &second));
    ck_ok(qd_plan_run(plan));
    ck_ok(qd_plan_run(second));
    ck_tensor(y, (int8_t[]){1, 2, 3, 4, 5, 6}, "y");
    ck_tensor(back, (float[]){9, 1, 1, 2, 3, 9, 4, 4, 5, 6}, "back");
    qd_plan_free(plan);
    qd_plan_free(second);
    plan = NULL;
    ck_ok(qd_tensor_view(back, 0, 1, &scale_view));
    const qd_attrs rows = {.quantize_linear = {.axis = 0}};
    ck_fails(qd_plan_create(c, QD_OP_QUANTIZE_LINEAR, &rows, (qd_tensor *[]){view, scale_view}, 2, &y, 1, &plan),
             QD_ERR_UNSUPPORTED, "cannot be a view");
    qd_tensor *all[] = {scale_view, back_view, view, back, scale, base, y};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        qd_tensor_free(all[i]);
    qd_context_free(c);
}
END_TEST

/* Runs of three rows in a graph of four: a scale for each row, and for each two; a packed vector of the rows. */
START_TEST(test_quantize_rows) {
    WITH_DEVICE(c);
    const float x[] = {2, 3, 4, 5, 6, 7, 8, 9}, scale[] = {1, 2, 3, 4}, line[] = {1, 2, 3, 4};
    const qd_tensor_desc whole = F32(4, 2, 0, 0), four = F32(4, 0, 0, 0), pair = F32(2, 1, 0, 0);
    const qd_tensor_desc codes = qd_desc(QD_FORMAT_I8, QD_ROWS, 2, 0, 0),
                         packed = qd_desc(QD_FORMAT_U4, QD_ROWS, 0, 0, 0), eight = F32(8, 0, 0, 0),
                         row_scales = F32(QD_ROWS, 0, 0, 0);
    qd_tensor *tx = tensor_with(c, whole, x), *ts = tensor_with(c, four, scale), *t2 = tensor_with(c, pair, scale),
              *tl = tensor_with(c, four, line), *t8 = tensor_with(c, eight, x), *ty = NULL, *back = NULL, *q = NULL,
              *p = NULL, *s = NULL;
    ck_ok(qd_tensor_create(c, &whole, &ty));
    ck_ok(qd_tensor_create(c, &four, &back));
    qd_graph *g = NULL;
    ck_ok(qd_graph_create(c, 4, &g));
    ck_ok(qd_graph_tensor(g, &codes, &q));
    ck_ok(qd_graph_tensor(g, &packed, &p));
    ck_ok(qd_graph_tensor(g, &row_scales, &s));
    const qd_attrs rows = {.quantize_linear = {.axis = 0}}, twos = {.quantize_linear = {.axis = 0, .block = 2}};
    ck_ok(qd_graph_add(g, QD_OP_QUANTIZE_LINEAR, &rows, (qd_tensor *[]){tx, ts}, 2, &q, 1));
    ck_ok(qd_graph_add(g, QD_OP_DEQUANTIZE_LINEAR, &rows, (qd_tensor *[]){q, ts}, 2, &ty, 1));
    ck_ok(qd_graph_add(g, QD_OP_QUANTIZE_LINEAR, &rows, (qd_tensor *[]){tl, ts}, 2, &p, 1));
    ck_ok(qd_graph_add(g, QD_OP_DEQUANTIZE_LINEAR, &rows, (qd_tensor *[]){p, ts}, 2, &back, 1));
    ck_fails(qd_graph_add(g, QD_OP_QUANTIZE_LINEAR, &twos, (qd_tensor *[]){tx, t2}, 2, &q, 1), QD_ERR_ARGUMENT,
             "shape of scale"); /* [2, 2] */
    qd_tensor *t8y = NULL;
    qd_tensor_desc eight_codes = eight;
    eight_codes.format = QD_FORMAT_I8;
    ck_ok(qd_tensor_create(c, &eight_codes, &t8y));
    ck_fails(qd_graph_add(g, QD_OP_QUANTIZE_LINEAR, &rows, (qd_tensor *[]){t8, s}, 2, &t8y, 1), QD_ERR_ARGUMENT,
             "must be that of the run");
    ck_ok(qd_graph_compile(g, NULL, NULL));
    ck_ok(qd_graph_run(g, 3));
    /* 2 3 | 4 5 | 6 7: codes 2 3 | 2 2 | 2 2 */
    ck_tensor(ty, (float[]){2, 3, 4, 4, 6, 6, 0, 0}, "three rows");
    ck_tensor(back, (float[]){1, 2, 3, 0}, "a vector of three");
    qd_graph_free(g);
    qd_tensor *all[] = {tx, ts, t2, tl, t8, ty, back, t8y};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        qd_tensor_free(all[i]);
    qd_context_free(c);
}
END_TEST

START_TEST(test_quantize_refused) {
    WITH_DEVICE(c);
    const float x[12] = {0}, scale[12] = {1};
    const one_op good = quantize(F32(2, 3, 2, 0), x, F32(3, 0, 0, 0), scale, QD_FORMAT_I8);
    one_op o = good;
    o.attrs.quantize_linear.axis = 1;
    one_op_gives(c, &o, (int8_t[12]){0}, "good");
    o.attrs.quantize_linear.axis = 3;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "axis 3 of a tensor of rank 3; it must be -3 … 2");
    o.attrs.quantize_linear.axis = INT_MIN;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "axis");
    o.attrs.quantize_linear.axis = 0;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "shape of scale");
    o.attrs.quantize_linear.axis = 1;
    o.attrs.quantize_linear.block = 2;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "shape of scale");
    o.attrs.quantize_linear.block = -1;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "block of -1");
    o = good;
    o.attrs.quantize_linear.axis = 1;
    with_zero(&o, (const int32_t[12]){0});
    o.in[2].shape[0] = 1;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "zero must have the shape of scale");
    o = good;
    o.attrs.quantize_linear.axis = 1;
    o.out.shape[2] = 3;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "same shape");
    o = good;
    o.attrs.quantize_linear.axis = 1;
    o.attrs.quantize_linear.max = 128;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "limits 0 … 128 are no range of i8");
    o.attrs.quantize_linear.max = -2;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "limits");
    o.attrs.quantize_linear.max = 1;
    o.out.format = QD_FORMAT_F8E5M2;
    one_op_refused(c, &o, QD_ERR_UNSUPPORTED, "no zero point and no limits");
    o.out.format = QD_FORMAT_BF16;
    one_op_refused(c, &o, QD_ERR_UNSUPPORTED, "bf16");
    qd_context_free(c);
}
END_TEST

/* ---- DEQUANTIZE_LINEAR -------------------------------------------------------------------------------------- */

START_TEST(test_dequantize) {
    WITH_DEVICE(c);
    const float tenth = 0.1f, huge = 3e38f;
    const int32_t ends[] = {INT32_MIN, INT32_MAX, 16777217, -5}, zero = INT32_MAX;
    one_op o = {.op = QD_OP_DEQUANTIZE_LINEAR, .in = {I32(4, 0, 0, 0), F32(1, 0, 0, 0)}, .out = F32(4, 0, 0, 0)};
    o.data[0] = ends;
    o.data[1] = &one;
    one_op_gives(c, &o, (float[]){-0x1p31f, 0x1p31f, 16777216, -5}, "i32");
    with_zero(&o, &zero); /* differences of 33 bits, rounded once */
    one_op_gives(c, &o, (float[]){-0x1p32f, 0, -2130706432, -0x1p31f}, "i32 with a zero point");
    const uint8_t u8[] = {0, 3, 255, 128};
    const int32_t wild = 1000; /* counts as 255 */
    o.in[0].format = QD_FORMAT_U8;
    o.data[0] = u8;
    o.data[1] = &tenth;
    o.data[2] = &wild;
    one_op_gives(c, &o, (float[]){-255 * tenth, -252 * tenth, 0, -127 * tenth}, "u8");
    o.data[1] = &huge;
    one_op_gives(c, &o, (float[]){-INFINITY, -INFINITY, 0, -INFINITY}, "u8, too large");
    o.data[1] = (const float[]){NAN};
    const uint32_t nan = 0x7fc00000;
    one_op_gives(c, &o, (uint32_t[]){nan, nan, nan, nan}, "one NaN");
    o.data[1] = &one;
    o.in[2].rank = 0;
    const uint8_t f8[] = {0x38, 0xff, 0x7e, 0x81}; /* 1, NaN, 448, -2^-9 */
    o.in[0].format = QD_FORMAT_F8E4M3;
    o.data[0] = f8;
    const float small[] = {1, 0, 448, -0x1p-9f};
    uint32_t want[4];
    memcpy(want, small, sizeof want);
    want[1] = nan;
    one_op_gives(c, &o, want, "f8e4m3");
    o.out.format = QD_FORMAT_F16;
    one_op_gives(c, &o, (uint16_t[]){0x3c00, 0x7e00, 0x5f00, 0x9800}, "f8e4m3 to f16");
    o.data[1] = &huge;
    o.data[0] = (const uint8_t[]){0x38, 0x00, 0xb8, 0x80};
    one_op_gives(c, &o, (uint16_t[]){0x7c00, 0, 0xfc00, 0x8000}, "f16, too large");
    with_zero(&o, &zero);
    one_op_refused(c, &o, QD_ERR_UNSUPPORTED, "no zero point");
    qd_context_free(c);
}
END_TEST

/* ---- DYNAMIC_QUANTIZE --------------------------------------------------------------------------------------- */

/* Runs it on x [rows, cols] with `scales` scales; codes as bytes. */
static qd_status dynamic(qd_context *c, const float *x, int64_t rows, int64_t cols, qd_format format, bool symmetric,
                         int64_t scales, uint8_t *codes, float *scale, int32_t *zero) {
    const qd_attrs attrs = {.dynamic_quantize = {.symmetric = symmetric}};
    const qd_tensor_desc desc[] = {qd_desc(format, rows, cols, 0, 0), F32(scales, 0, 0, 0), I32(scales, 0, 0, 0)};
    qd_tensor *in = tensor_with(c, F32(rows, cols, 0, 0), x), *out[3] = {0};
    for (int i = 0; i < 3; i++)
        ck_ok(qd_tensor_create(c, &desc[i], &out[i]));
    qd_plan *plan = NULL;
    const qd_status status = qd_plan_create(c, QD_OP_DYNAMIC_QUANTIZE, &attrs, &in, 1, out, 3, &plan);
    if (!status) {
        ck_ok(qd_plan_run(plan));
        ck_ok(qd_tensor_read(out[0], 0, codes, (size_t)(rows * cols)));
        ck_ok(qd_tensor_read(out[1], 0, scale, (size_t)scales * sizeof *scale));
        ck_ok(qd_tensor_read(out[2], 0, zero, (size_t)scales * sizeof *zero));
    }
    qd_plan_free(plan);
    for (int i = 0; i < 3; i++)
        qd_tensor_free(out[i]);
    qd_tensor_free(in);
    return status;
}

static void ck_codes(const uint8_t *got, const uint8_t *want, int n, const char *what) {
    for (int i = 0; i < n; i++)
        ck_assert_msg(got[i] == want[i], "%s: code %d is %d, not %d", what, i, got[i], want[i]);
}

/* The example of ONNX's specification of DynamicQuantizeLinear, and the same as i8. */
START_TEST(test_dynamic_onnx) {
    WITH_DEVICE(c);
    const float x[] = {0, 2, -3, -2.5f, 1.34f, 0.5f};
    uint8_t codes[6];
    float scale;
    int32_t zero;
    ck_ok(dynamic(c, x, 1, 6, QD_FORMAT_U8, false, 1, codes, &scale, &zero));
    ck_assert(scale == 0.0196078438f && zero == 153);
    ck_codes(codes, (uint8_t[]){153, 255, 0, 26, 221, 179}, 6, "u8");
    ck_ok(dynamic(c, x, 2, 3, QD_FORMAT_I8, false, 1, codes, &scale, &zero));
    ck_assert(scale == 0.0196078438f && zero == 25);
    ck_codes(codes, (uint8_t[]){25, 127, 0x80, 0x9a, 93, 51}, 6, "i8");
    ck_ok(dynamic(c, x, 2, 3, QD_FORMAT_I8, true, 1, codes, &scale, &zero));
    ck_assert(scale == 3.0f / 127 && zero == 0);
    ck_codes(codes, (uint8_t[]){0, 85, 0x81, 0x96, 57, 21}, 6, "symmetric");
    /* Denormals: 190 / 127 of the least float is rounded to it; -190 is no code then, nor is -128 a symmetric one. */
    const float tiny[] = {-190 * 0x1p-149f, 0x1p-149f};
    ck_ok(dynamic(c, tiny, 1, 2, QD_FORMAT_I8, true, 1, codes, &scale, &zero));
    ck_assert(scale == 0x1p-149f && zero == 0);
    ck_codes(codes, (uint8_t[]){0x81, 1}, 2, "symmetric denormals");
    qd_context_free(c);
}
END_TEST

/* Rows of their own: positive, negative, zeros, with a NaN, with infinities, too small for a scale, ties. */
START_TEST(test_dynamic_rows) {
    WITH_DEVICE(c);
    const float x[7][3] = {{51, 255, 102},           {-51, -255, -102},   {0, -0.0f, 0},     {NAN, 255, 0.5f},
                           {INFINITY, -INFINITY, 1}, {1e-44f, 1e-44f, 0}, {-1.5f, 253.5f, 1}};
    uint8_t codes[21];
    float scale[7];
    int32_t zero[7];
    ck_ok(dynamic(c, x[0], 7, 3, QD_FORMAT_U8, false, 7, codes, scale, zero));
    for (int r = 0; r < 7; r++) {
        ck_assert_msg(r == 4 ? isinf(scale[r]) : scale[r] == 1, "row %d: scale %g", r, (double)scale[r]);
        ck_assert_msg(zero[r] == (r == 1 ? 255 : r == 6 ? 2 : 0), "row %d: zero point %d", r, zero[r]);
    }
    static const uint8_t want[21] = {51, 255, 102, 204, 0, 153, 0, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 0, 0, 255, 3};
    ck_codes(codes, want, 21, "rows");
    ck_fails(dynamic(c, x[0], 7, 3, QD_FORMAT_U8, true, 7, codes, scale, zero), QD_ERR_UNSUPPORTED, "symmetric");
    ck_fails(dynamic(c, x[0], 7, 3, QD_FORMAT_U8, false, 3, codes, scale, zero), QD_ERR_ARGUMENT, "where 7 is needed");
    qd_context_free(c);
}
END_TEST

/* ---- MATMUL_GROUP ------------------------------------------------------------------------------------------- */

/* Integer x: (w - w_zero) · (x - x_zero) in each group. */
START_TEST(test_group_codes) {
    WITH_DEVICE(c);
    /* u4 rows 1 2 3 4 5 | 15 0 15 0 15 (5 codes in 3 bytes, the last half of which is noise); groups of 2, 2, 1 */
    const uint8_t w[] = {0x21, 0x43, 0xa5, 0x0f, 0x0f, 0x7f};
    const int8_t x[] = {1, 2, 3, 4, 5, -128, 127, -1, 0, 1};
    const float w_scale[] = {1, 10, 100, 0.5f, 2, -1}, x_scale[] = {1, 0.5f}, bias[] = {0.25f, 1000};
    const int32_t w_zero[] = {1, 2, 3, 8, 99, 0}, x_zero[] = {1, -1}; /* 99 counts as 15 */
    one_op o = {.op = QD_OP_MATMUL_GROUP,
                .attrs = {.matmul_group = {.group = 2}},
                .in = {qd_desc(QD_FORMAT_U4, 2, 5, 0, 0), F32(2, 3, 0, 0), qd_desc(QD_FORMAT_I8, 2, 5, 0, 0)},
                .out = F32(2, 2, 0, 0),
                .data = {w, w_scale, x}};
    /* row 0: 1·1 + 2·2 = 5, 3·3 + 4·4 = 25, 5·5 = 25: 5 + 250 + 2500; 15, 45, 75: 7.5 + 90 - 75
     * row 1: -128 + 254 = 126, -3, 5: 126 - 30 + 500; -1920, -15, 15: -960 - 30 - 15 */
    one_op_gives(c, &o, (float[]){2755, 22.5f, 596, -1005}, "no zero points");
    o.in[3] = I32(2, 3, 0, 0);
    o.in[4] = F32(2, 0, 0, 0);
    o.in[5] = I32(2, 0, 0, 0);
    o.in[6] = F32(2, 0, 0, 0);
    o.data[3] = w_zero;
    o.data[4] = x_scale;
    o.data[5] = x_zero;
    o.data[6] = bias;
    /* w: 0 1 | 1 2 | 2; 7 -8 | 0 -15 | 15.  x: 0 1 2 3 4; -127 128 0 1 2
     * row 0: 1 + 10·8 + 100·8 = 881; -8/2 + 2·-45 - 60 = -154; row 1: 128 + 10·2 + 100·4 = 548, halved 274;
     * (-889 - 1024)/2 + 2·-15 - 30 = -1016.5, halved -508.25 */
    one_op_gives(c, &o, (float[]){881.25f, 846, 274.25f, 491.75f}, "all operands");
    qd_context_free(c);
}
END_TEST

/* Five groups, whose sums are 1: parts 0 … 3 take them in turn, then (p0 + p1) + (p2 + p3). One after the other they
 * would give 2. */
START_TEST(test_group_order) {
    WITH_DEVICE(c);
    const int8_t w[] = {1, 1, 1, 1, 1}, x[] = {1, 1, 1, 1, 1};
    const float w_scale[] = {16777216, 1, -16777216, 1, 1};
    one_op o = {.op = QD_OP_MATMUL_GROUP,
                .attrs = {.matmul_group = {.group = 1}},
                .in = {qd_desc(QD_FORMAT_I8, 1, 5, 0, 0), F32(1, 5, 0, 0), qd_desc(QD_FORMAT_I8, 1, 5, 0, 0)},
                .out = F32(1, 1, 0, 0),
                .data = {w, w_scale, x}};
    one_op_gives(c, &o, &one, "parts");
    /* f32 x: 16 lanes over all of K, then lane i with lane i + 8, 4, 2, 1: (s0 + s4) + s2, then s1 + s3, then both. */
    const float xf[] = {1, 1, 1, 1, 1}, lanes = 2;
    o.in[2] = F32(1, 5, 0, 0);
    o.data[2] = xf;
    one_op_gives(c, &o, &lanes, "lanes");
    qd_context_free(c);
}
END_TEST

/* f32 x: (w - zero) · scale, for zero points of both kinds; groups that end inside of 16. */
START_TEST(test_group_floats) {
    WITH_DEVICE(c);
    int8_t w[20];
    float x[20], want_i = 0, want_f = 0;
    const float w_scale[] = {0.5f, 2, -1}, zero_f[] = {0.5f, -0.25f, 1.5f};
    const int32_t zero_i[] = {3, -200, 7}; /* -200 counts as -128 */
    for (int k = 0; k < 20; k++) {         /* small numbers of halves: every order of the sum is exact */
        w[k] = (int8_t)(k - 8);
        x[k] = (float)(k % 5) - 2;
        const int g = k / 9, z = g == 1 ? -128 : zero_i[g];
        want_i += (float)(w[k] - z) * w_scale[g] * x[k];
        want_f += ((float)w[k] - zero_f[g]) * w_scale[g] * x[k];
    }
    one_op o = {.op = QD_OP_MATMUL_GROUP,
                .attrs = {.matmul_group = {.group = 9}},
                .in = {qd_desc(QD_FORMAT_I8, 1, 20, 0, 0), F32(1, 3, 0, 0), F32(1, 20, 0, 0), I32(1, 3, 0, 0)},
                .out = F32(1, 1, 0, 0),
                .data = {w, w_scale, x, zero_i}};
    one_op_gives(c, &o, &want_i, "i32 zero points");
    o.in[3].format = QD_FORMAT_F32;
    o.data[3] = zero_f;
    one_op_gives(c, &o, &want_f, "f32 zero points");
    o.data[1] = (const float[]){INFINITY, -INFINITY, 1};
    one_op_gives(c, &o, (uint32_t[]){0x7fc00000}, "one NaN");
    qd_context_free(c);
}
END_TEST

START_TEST(test_group_refused) {
    WITH_DEVICE(c);
    const one_op good = {
        .op = QD_OP_MATMUL_GROUP,
        .attrs = {.matmul_group = {.group = 4}},
        .in = {qd_desc(QD_FORMAT_I4, 3, 10, 0, 0), F32(3, 3, 0, 0), qd_desc(QD_FORMAT_U8, 2, 10, 0, 0)},
        .out = F32(2, 3, 0, 0)};
    one_op o = good;
    one_op_gives(c, &o, (float[6]){0}, "good");
    o.attrs.matmul_group.group = 5;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "3 scales in a row where 10 codes in groups of 5 need 2");
    o.attrs.matmul_group.group = -4;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "a group of -4 codes");
    o = good;
    o.attrs.matmul_group.group = INT64_MAX; /* the whole row: as 0 */
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "need 1");
    o.in[1] = F32(1, 1, 0, 0);
    one_op_gives(c, &o, (float[6]){0}, "one scale for all");
    o = good;
    o.in[3] = F32(3, 3, 0, 0);
    one_op_refused(c, &o, QD_ERR_UNSUPPORTED, "need x to be f32");
    o.in[2].format = QD_FORMAT_F32;
    one_op_gives(c, &o, (float[6]){0}, "f32 zero points");
    o.in[4] = F32(1, 0, 0, 0);
    one_op_refused(c, &o, QD_ERR_UNSUPPORTED, "neither a scale nor a zero point");
    o = good;
    o.in[0] = qd_desc(QD_FORMAT_U8, 1, 40000, 0, 0);
    o.in[1] = F32(1, 1, 0, 0);
    o.in[2] = qd_desc(QD_FORMAT_U8, 2, 40000, 0, 0);
    o.out = F32(2, 1, 0, 0);
    o.attrs.matmul_group.group = 0;
    one_op_refused(c, &o, QD_ERR_UNSUPPORTED, "may not fit 32 bits");
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("quantize_ops");
    tcase_add_loop_test(tc, test_quantize_rounding, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_quantize_away, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_quantize_reciprocal, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_quantize_wild_scales, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_quantize_packed, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_quantize_axes, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_quantize_formats, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_quantize_view, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_quantize_rows, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_quantize_refused, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_dequantize, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_dynamic_onnx, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_dynamic_rows, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_group_codes, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_group_order, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_group_floats, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_group_refused, 0, TEST_DEVICES);
    return run_tests(tc, "quantize_ops");
}
