/* COPY, SET_ROWS and ELEMENTWISE: answers worked out by hand from the definitions, functions against the C library's in
 * float64, and what is refused. */
#include <math.h>

#include "unit/one_op.h"

#define F32(...) qd_desc(QD_FORMAT_F32, __VA_ARGS__)
#define I32(...) qd_desc(QD_FORMAT_I32, __VA_ARGS__)

/* Opens device _i, or ends the test where there is none. */
#define WITH_DEVICE(c)                     \
    qd_context *c = open_device(_i, NULL); \
    if (!c) return

/* ---- COPY --------------------------------------------------------------------------------------------------- */

START_TEST(test_copy_formats) {
    WITH_DEVICE(c);
    /* A tie to the even half below and above, the largest half and what rounds beyond, a denormal half, -0, infinity.
     */
    const float x[] = {1.00048828125f, 1.00146484375f, 65519.996f, 65520, 0x1.8p-24f, -0.0f, -INFINITY, 0x1p-25f};
    const qd_tensor_desc f32 = F32(8, 0, 0, 0), f16 = qd_desc(QD_FORMAT_F16, 8, 0, 0, 0),
                         bf16 = qd_desc(QD_FORMAT_BF16, 8, 0, 0, 0), i32 = I32(4, 0, 0, 0), four = F32(4, 0, 0, 0);
    const uint16_t half[] = {0x3c00, 0x3c02, 0x7bff, 0x7c00, 2, 0x8000, 0xfc00, 0};
    one_op o = {.op = QD_OP_COPY, .in = {f32}, .out = f16, .data = {x}};
    one_op_gives(c, &o, half, "f32 to f16");
    o.out = bf16;
    one_op_gives(c, &o, (uint16_t[]){0x3f80, 0x3f80, 0x4780, 0x4780, 0x33c0, 0x8000, 0xff80, 0x3300}, "f32 to bf16");
    o = (one_op){.op = QD_OP_COPY, .in = {f16}, .out = f32, .data = {half}};
    one_op_gives(c, &o, (float[]){1, 1.001953125f, 65504, INFINITY, 0x1p-23f, -0.0f, -INFINITY, 0}, "f16 to f32");
    o.out = bf16;
    one_op_gives(c, &o, (uint16_t[]){0x3f80, 0x3f80, 0x4780, 0x7f80, 0x3400, 0x8000, 0xff80, 0}, "f16 to bf16");
    o = (one_op){.op = QD_OP_COPY, .in = {bf16}, .out = f16};
    o.data[0] = (const uint16_t[]){0x3f80, 0x4780, 0x3300, 0x3301, 0x7fc0, 0x8000, 0xff80, 0x4049};
    one_op_gives(c, &o, (uint16_t[]){0x3c00, 0x7c00, 0, 1, 0x7e00, 0x8000, 0xfc00, 0x4248}, "bf16 to f16");
    o = (one_op){
        .op = QD_OP_COPY, .in = {i32}, .out = four, .data = {(const int32_t[]){-1, 16777217, 16777219, INT32_MIN}}};
    one_op_gives(c, &o, (float[]){-1, 16777216, 16777220, -0x1p31f}, "i32 to f32");
    o.in[0].format = QD_FORMAT_I8;
    o.data[0] = (const int8_t[]){-128, -1, 0, 127};
    one_op_gives(c, &o, (float[]){-128, -1, 0, 127}, "i8 to f32");
    o.in[0].format = QD_FORMAT_U8;
    one_op_gives(c, &o, (float[]){128, 255, 0, 127}, "u8 to f32");
    o.out.format = QD_FORMAT_U8;
    one_op_gives(c, &o, (uint8_t[]){128, 255, 0, 127}, "u8");
    o.in[0].format = o.out.format = QD_FORMAT_F32; /* a NaN that signals stays as it is */
    o.data[0] = (const uint32_t[]){0x7f800001, 0xffffffff, 1, 0x80000000};
    one_op_gives(c, &o, o.data[0], "the same bytes");
    qd_context_free(c);
}
END_TEST

/* Sizes of x divide those of y; sizes missing in front count as 1. */
START_TEST(test_copy_repeats) {
    WITH_DEVICE(c);
    const int32_t x[8] = {1, 2, 3, 4};
    one_op o = {.op = QD_OP_COPY, .in = {I32(2, 2, 0, 0)}, .out = I32(4, 4, 0, 0), .data = {x}};
    one_op_gives(c, &o, (int32_t[]){1, 2, 1, 2, 3, 4, 3, 4, 1, 2, 1, 2, 3, 4, 3, 4}, "both dimensions");
    o.in[0] = I32(4, 0, 0, 0);
    one_op_gives(c, &o, (int32_t[]){1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4}, "rows");
    o.in[0] = I32(4, 1, 0, 0);
    one_op_gives(c, &o, (int32_t[]){1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4}, "columns");
    o.in[0] = I32(2, 1, 2, 0);
    o.out = I32(2, 2, 4, 0);
    one_op_gives(c, &o, (int32_t[]){1, 2, 1, 2, 1, 2, 1, 2, 3, 4, 3, 4, 3, 4, 3, 4}, "in the middle");
    o.in[0] = I32(1, 1, 1, 4);
    o.out = I32(4, 0, 0, 0);
    one_op_gives(c, &o, x, "sizes of 1 in front");
    o.in[0] = I32(3, 0, 0, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "copy: dimension 0 of x is 3, which does not divide the 4 of y");
    o.in[0] = I32(2, 4, 0, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "does not divide");
    o.in[0] = I32(4, 0, 0, 0);
    o.out = F32(4, 0, 0, 0);
    one_op_gives(c, &o, (float[]){1, 2, 3, 4}, "i32 to f32");
    o.out = qd_desc(QD_FORMAT_F16, 4, 0, 0, 0);
    one_op_refused(c, &o, QD_ERR_UNSUPPORTED, "copy: i32 does not become f16");
    o.out = qd_desc(QD_FORMAT_U8, 4, 0, 0, 0);
    one_op_refused(c, &o, QD_ERR_UNSUPPORTED, "copy: i32 does not become u8");
    qd_context_free(c);
}
END_TEST

/* [3, 20, 18] to [18, 3, 20] and back, into the middle of something larger: the dimensions change places. */
START_TEST(test_copy_turned) {
    WITH_DEVICE(c);
    enum { A = 3, B = 20, C = 18, MORE = 7 };
    static float x[A * B * C], turned[C * A * (B + MORE)], back[A * B * C];
    for (int i = 0; i < A * B * C; i++)
        x[i] = (float)i;
    const qd_tensor_desc dx = F32(A, B, C, 0), dt = F32(C, A, B + MORE, 0), dw = F32(C, A, B, 0);
    qd_tensor *tx = tensor_with(c, dx, x), *tt = tensor_with(c, dt, turned), *ty = tensor_with(c, dx, back), *as_turned,
              *part, *as_back;
    ck_ok(qd_tensor_window(tx, 0, &dw, (const int64_t[]){4, B * C * 4, C * 4}, &as_turned));
    ck_ok(qd_tensor_window(tt, 8, &dw, (const int64_t[]){A * (B + MORE) * 4, (B + MORE) * 4, 4}, &part));
    ck_ok(qd_tensor_window(tt, 8, &dx, (const int64_t[]){(B + MORE) * 4, 4, A * (B + MORE) * 4}, &as_back));
    qd_plan *there = NULL, *again = NULL;
    ck_ok(qd_plan_create(c, QD_OP_COPY, NULL, &as_turned, 1, &part, 1, &there));
    ck_ok(qd_plan_create(c, QD_OP_COPY, NULL, &as_back, 1, &ty, 1, &again));
    if (_i) ck_assert_str_eq(qd_plan_variant(there), "copy");
    ck_ok(qd_plan_run(there));
    ck_ok(qd_plan_run(again));
    for (int i = 0; i < A; i++) {
        for (int k = 0; k < B; k++) {
            for (int l = 0; l < C; l++)
                turned[(l * A + i) * (B + MORE) + k + 2] = x[(i * B + k) * C + l];
        }
    }
    ck_tensor(tt, turned, "turned");
    ck_tensor(ty, x, "turned back");
    qd_plan_free(there);
    qd_plan_free(again);
    qd_tensor *all[] = {as_turned, part, as_back, tx, tt, ty};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        qd_tensor_free(all[i]);
    qd_context_free(c);
}
END_TEST

/* ---- SET_ROWS ----------------------------------------------------------------------------------------------- */

START_TEST(test_set_rows) {
    WITH_DEVICE(c);
    const float x[] = {1, 2, 3, 4, 5, 6, 7, 8};
    const uint32_t old = 0x5a5a5a5a;
    float was;
    memcpy(&was, &old, sizeof was);
    one_op o = {.op = QD_OP_SET_ROWS, .in = {F32(4, 2, 0, 0), I32(4, 0, 0, 0)}, .out = F32(3, 2, 0, 0), .data = {x}};
    o.data[1] = (const int32_t[]){2, -1, 0, 3};
    one_op_gives(c, &o, (float[]){5, 6, was, was, 1, 2}, "ids outside store nothing");
    o.out.format = QD_FORMAT_F16;
    one_op_gives(c, &o, (uint16_t[]){0x4500, 0x4600, 0x5a5a, 0x5a5a, 0x3c00, 0x4000}, "f16");
    o.out.format = QD_FORMAT_BF16;
    one_op_gives(c, &o, (uint16_t[]){0x40a0, 0x40c0, 0x5a5a, 0x5a5a, 0x3f80, 0x4000}, "bf16");
    /* Two heads with ids of their own, then with the same ones. */
    o.in[0] = F32(2, 2, 2, 0);
    o.in[1] = I32(2, 2, 0, 0);
    o.out = F32(2, 3, 2, 0);
    o.data[1] = (const int32_t[]){2, 0, 1, 2};
    one_op_gives(c, &o, (float[]){3, 4, was, was, 1, 2, was, was, 5, 6, 7, 8}, "ids of each head");
    o.in[1] = I32(1, 2, 0, 0);
    one_op_gives(c, &o, (float[]){3, 4, was, was, 1, 2, 7, 8, was, was, 5, 6}, "ids of all heads");
    qd_context_free(c);
}
END_TEST

/* The blocks of qd_quantize, whose bytes are tested against other programs; and those that it refuses. */
START_TEST(test_set_rows_blocks) {
    WITH_DEVICE(c);
    static const qd_format formats[] = {QD_FORMAT_Q8_0, QD_FORMAT_Q4_0, QD_FORMAT_Q4_1};
    enum { R = 9, COLS = 64 };
    float x[R * COLS];
    const int32_t ids[] = {8, 7, 6, 5, 4, 3, 2, 1, 0};
    uint32_t state = 1;
    random_floats(&state, x, R * COLS);
    for (int i = 0; i < COLS; i++) {
        x[i] = 0;
        x[COLS + i] = i % 2 ? -0.0f : 0.0f;
        x[2 * COLS + i] = (float)(i % 9 - 4) * (i % 2 ? 0.5f : -0.5f); /* both signs of the largest */
        x[3 * COLS + i] = 1e-40f * (float)i;
        x[4 * COLS + i] = i % 32 == 5 ? 127.0f : (float)(i - 32) * 0.5f; /* q8_0: ties */
    }
    for (int f = 0; f < 3; f++) {
        unsigned char want[R * COLS * 2], turned[R * COLS * 2];
        const size_t row = qd_format_row_bytes(formats[f], COLS);
        ck_ok(qd_quantize(formats[f], x, R, COLS, want));
        for (int r = 0; r < R; r++)
            memcpy(turned + (size_t)ids[r] * row, want + (size_t)r * row, row);
        one_op o = {.op = QD_OP_SET_ROWS, .in = {F32(R, COLS, 0, 0), I32(R, 0, 0, 0)}, .data = {x, ids}};
        o.out = qd_desc(formats[f], R, COLS, 0, 0);
        one_op_gives(c, &o, turned, qd_format_get(formats[f])->name);
    }
    /* An infinite value: an infinite scale, the codes of 0. A NaN: code 0, and in front it takes the whole block. */
    float wild[96];
    for (int i = 0; i < 96; i++)
        wild[i] = 1;
    wild[3] = -INFINITY;
    wild[32 + 3] = NAN;
    wild[64] = -NAN;
    unsigned char q8_0[3 * 34] = {0, 0x7c}, q4_0[3 * 18] = {0, 0x7c}, q4_1[3 * 20] = {0, 0x7c, 0, 0xfc};
    const float seventh = 1.0f / 127;
    ck_ok(qd_quantize(QD_FORMAT_F16, &seventh, 1, 1, q8_0 + 34));
    ck_ok(qd_quantize(QD_FORMAT_F16, &seventh, 1, 1, q8_0 + 68));
    memset(q8_0 + 36, 127, 32);
    memset(q8_0 + 70, 127, 32);
    q8_0[36 + 3] = q8_0[70] = 0;
    memset(q4_0 + 2, 0x88, 16);
    q4_0[2 + 3] = 0x80;
    q4_0[18 + 1] = 0xb0; /* -1/8 */
    memset(q4_0 + 20, 0, 16);
    q4_0[36 + 1] = 0x7e;
    q4_1[20 + 3] = 0x3c; /* minimum 1, all codes 0 */
    q4_1[40 + 1] = q4_1[40 + 3] = 0x7e;
    one_op o = {.op = QD_OP_SET_ROWS, .in = {F32(1, 96, 0, 0), I32(1, 0, 0, 0)}, .data = {wild}};
    o.out = qd_desc(QD_FORMAT_Q8_0, 1, 96, 0, 0);
    one_op_gives(c, &o, q8_0, "q8_0, not finite");
    o.out.format = QD_FORMAT_Q4_0;
    one_op_gives(c, &o, q4_0, "q4_0, not finite");
    o.out.format = QD_FORMAT_Q4_1;
    one_op_gives(c, &o, q4_1, "q4_1, not finite");
    qd_context_free(c);
}
END_TEST

/* A cache [positions, heads, 2] seen as [heads, positions, 2], and one [heads, 2, positions]: rows are columns there.
 */
START_TEST(test_set_rows_turned) {
    WITH_DEVICE(c);
    const float x[] = {1, 2, 3, 4, 5, 6, 7, 8};
    const int32_t ids[] = {2, 0};
    const qd_tensor_desc dx = F32(2, 2, 2, 0), di = I32(1, 2, 0, 0), dc = qd_desc(QD_FORMAT_F16, 3, 2, 2, 0),
                         dw = qd_desc(QD_FORMAT_F16, 2, 3, 2, 0);
    const uint16_t zeros[12] = {0};
    qd_tensor *tx = tensor_with(c, dx, x), *ti = tensor_with(c, di, ids), *cache = tensor_with(c, dc, zeros),
              *other = tensor_with(c, dc, zeros), *rows, *columns;
    ck_ok(qd_tensor_window(cache, 0, &dw, (const int64_t[]){4, 8, 2}, &rows));
    ck_ok(qd_tensor_window(other, 0, &dw, (const int64_t[]){12, 2, 6}, &columns));
    qd_plan *p = NULL, *q = NULL;
    ck_ok(qd_plan_create(c, QD_OP_SET_ROWS, NULL, (qd_tensor *[]){tx, ti}, 2, &rows, 1, &p));
    ck_ok(qd_plan_create(c, QD_OP_SET_ROWS, NULL, (qd_tensor *[]){tx, ti}, 2, &columns, 1, &q));
    ck_ok(qd_plan_run(p));
    ck_ok(qd_plan_run(q));
    const uint16_t n[] = {0, 0x3c00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600, 0x4700, 0x4800};
    ck_tensor(cache, (uint16_t[]){n[3], n[4], n[7], n[8], 0, 0, 0, 0, n[1], n[2], n[5], n[6]}, "rows");
    ck_tensor(other, (uint16_t[]){n[3], 0, n[1], n[4], 0, n[2], n[7], 0, n[5], n[8], 0, n[6]}, "columns");
    qd_plan_free(p);
    qd_plan_free(q);
    qd_tensor *all[] = {rows, columns, tx, ti, cache, other};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        qd_tensor_free(all[i]);
    qd_context_free(c);
}
END_TEST

/* A graph's cache of six rows: runs of two rows, then of one. */
START_TEST(test_set_rows_graph) {
    WITH_DEVICE(c);
    const qd_tensor_desc run = F32(QD_ROWS, 2, 0, 0), run_ids = I32(QD_ROWS, 0, 0, 0), table = F32(3, 2, 0, 0),
                         positions = I32(3, 0, 0, 0), cache = F32(6, 2, 0, 0);
    qd_tensor *values = tensor_with(c, table, (const float[]){1, 2, 3, 4, 5, 6}),
              *ids = tensor_with(c, positions, (const int32_t[]){5, 1, 2}),
              *y = tensor_with(c, cache, (const float[12]){0}), *x, *at;
    qd_graph *g;
    ck_ok(qd_graph_create(c, 3, &g));
    ck_ok(qd_graph_tensor(g, &run, &x));
    ck_ok(qd_graph_tensor(g, &run_ids, &at));
    ck_ok(qd_graph_add(g, QD_OP_COPY, NULL, &values, 1, &x, 1));
    ck_ok(qd_graph_add(g, QD_OP_COPY, NULL, &ids, 1, &at, 1));
    ck_ok(qd_graph_add(g, QD_OP_SET_ROWS, NULL, (qd_tensor *[]){x, at}, 2, &y, 1));
    ck_fails(qd_graph_add(g, QD_OP_SET_ROWS, NULL, (qd_tensor *[]){values, at}, 2, &y, 1), QD_ERR_ARGUMENT, "rows");
    ck_fails(qd_graph_add(g, QD_OP_SET_ROWS, NULL, (qd_tensor *[]){values, ids}, 2, &x, 1), QD_ERR_ARGUMENT, "rows");
    ck_ok(qd_graph_compile(g, NULL, NULL));
    ck_ok(qd_graph_run(g, 1));
    ck_tensor(y, (float[12]){[10] = 1, [11] = 2}, "one row");
    ck_ok(qd_graph_run(g, 2));
    ck_tensor(y, (float[12]){[2] = 3, [3] = 4, [10] = 1, [11] = 2}, "two rows");
    qd_graph_free(g);
    qd_tensor_free(values);
    qd_tensor_free(ids);
    qd_tensor_free(y);
    qd_context_free(c);
}
END_TEST

START_TEST(test_set_rows_refused) {
    WITH_DEVICE(c);
    const one_op good = {.op = QD_OP_SET_ROWS, .in = {F32(4, 3, 32, 0), I32(2, 3, 0, 0)}, .out = F32(4, 5, 32, 0)};
    float zeros[4 * 5 * 32];
    one_op o = good;
    ck_ok(one_op_run(c, &o, zeros));
    o.in[1] = I32(3, 3, 0, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "set_rows: dimension 0 of ids is 3, which does not fit the 4 of x");
    o.in[1] = I32(2, 1, 0, 0); /* one id for all rows would be several rows for one id */
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "dimension 1 of ids is 1");
    o.in[1] = I32(2, 3, 1, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "ids one less; these are 3, 3 and 3");
    o = good;
    o.out = F32(2, 5, 32, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "same sizes");
    o.out = F32(4, 5, 31, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "same sizes");
    o.out = F32(4, 5, 0, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "rank 2 to 4");
    qd_context_free(c);
}
END_TEST

/* ---- ELEMENTWISE -------------------------------------------------------------------------------------------- */

static qd_attrs function_of(qd_unary f, float alpha) {
    return (qd_attrs){.elementwise = {.function = f, .alpha = alpha, .scale = 1}};
}

/* Values at which a function has an exact answer, or ends. */
START_TEST(test_functions) {
    WITH_DEVICE(c);
    const float x[] = {0, 1, -1, 2.5f, -2.5f, 7, -7, INFINITY, -INFINITY, 100, -100};
    static const struct {
        qd_unary f;
        float alpha, want[11];
    } cases[] = {
        {QD_UNARY_IDENTITY, 0, {0, 1, -1, 2.5f, -2.5f, 7, -7, INFINITY, -INFINITY, 100, -100}},
        {QD_UNARY_RELU, 0, {0, 1, 0, 2.5f, 0, 7, 0, INFINITY, 0, 100, 0}},
        {QD_UNARY_RELU6, 0, {0, 1, 0, 2.5f, 0, 6, 0, 6, 0, 6, 0}},
        {QD_UNARY_LEAKY_RELU, 0.5f, {0, 1, -0.5f, 2.5f, -1.25f, 7, -3.5f, INFINITY, -INFINITY, 100, -50}},
        {QD_UNARY_HARD_SIGMOID, 0.25f, {0.5f, 0.75f, 0.25f, 1, 0, 1, 0, 1, 0, 1, 0}},
        {QD_UNARY_NEG, 0, {-0.0f, -1, 1, -2.5f, 2.5f, -7, 7, -INFINITY, INFINITY, -100, 100}},
        {QD_UNARY_ABS, 0, {0, 1, 1, 2.5f, 2.5f, 7, 7, INFINITY, INFINITY, 100, 100}},
        {QD_UNARY_SQR, 0, {0, 1, 1, 6.25f, 6.25f, 49, 49, INFINITY, INFINITY, 10000, 10000}},
        {QD_UNARY_RECIPROCAL, 0, {INFINITY, 1, -1, 0.4f, -0.4f, 1.0f / 7, -1.0f / 7, 0, -0.0f, 0.01f, -0.01f}},
        {QD_UNARY_SIGN, 0, {0, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1}},
        {QD_UNARY_STEP, 0, {0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0}},
        {QD_UNARY_ROUND, 0, {0, 1, -1, 2, -2, 7, -7, INFINITY, -INFINITY, 100, -100}},
        {QD_UNARY_FLOOR, 0, {0, 1, -1, 2, -3, 7, -7, INFINITY, -INFINITY, 100, -100}},
        {QD_UNARY_CEIL, 0, {0, 1, -1, 3, -2, 7, -7, INFINITY, -INFINITY, 100, -100}},
        {QD_UNARY_CLAMP_MIN, -2, {0, 1, -1, 2.5f, -2, 7, -2, INFINITY, -2, 100, -2}},
        {QD_UNARY_CLAMP_MAX, 3, {0, 1, -1, 2.5f, -2.5f, 3, -7, 3, -INFINITY, 3, -100}},
    };
    one_op o = {.op = QD_OP_ELEMENTWISE, .in = {F32(11, 0, 0, 0)}, .out = F32(11, 0, 0, 0), .data = {x}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        o.attrs = function_of(cases[i].f, cases[i].alpha);
        char what[16];
        snprintf(what, sizeof what, "function %d", (int)cases[i].f);
        one_op_gives(c, &o, cases[i].want, what);
    }
    /* The ends of the others: at -inf, -100, 100, inf. */
    static const struct {
        qd_unary f;
        float want[4];
    } ends[] = {
        {QD_UNARY_SILU, {0, 0, 100, INFINITY}},
        {QD_UNARY_GELU, {0, 0, 100, INFINITY}},
        {QD_UNARY_GELU_ERF, {0, 0, 100, INFINITY}},
        {QD_UNARY_GELU_QUICK, {0, 0, 100, INFINITY}},
        {QD_UNARY_HARD_SWISH, {0, 0, 100, INFINITY}},
        {QD_UNARY_SIGMOID, {0, 0, 1, 1}},
        {QD_UNARY_TANH, {-1, -1, 1, 1}},
        {QD_UNARY_ERF, {-1, -1, 1, 1}},
        {QD_UNARY_EXP, {0, 0, INFINITY, INFINITY}},
        {QD_UNARY_EXPM1, {-1, -1, INFINITY, INFINITY}},
        {QD_UNARY_ELU, {-0.5f, -0.5f, 100, INFINITY}},
    };
    o.in[0] = o.out = F32(4, 0, 0, 0);
    o.data[0] = (const float[]){-INFINITY, -100, 100, INFINITY};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        o.attrs = function_of(ends[i].f, 0.5f);
        char what[16];
        snprintf(what, sizeof what, "ends of %d", (int)ends[i].f);
        one_op_gives(c, &o, ends[i].want, what);
    }
    /* Every NaN becomes the same one, in every function. */
    const uint32_t nans[] = {0x7fc00000, 0xffc00000, 0x7f800001, 0xffffffff},
                   one[] = {nans[0], nans[0], nans[0], nans[0]};
    o.data[0] = nans;
    for (int f = 0; f < QD_UNARY_COUNT; f++) {
        o.attrs = function_of((qd_unary)f, 1);
        one_op_gives(c, &o, one, "NaN");
    }
    o.data[0] = (const float[]){-1, -4, -INFINITY, -1e-40f};
    o.attrs = function_of(QD_UNARY_SQRT, 0);
    one_op_gives(c, &o, one, "roots of negative numbers");
    qd_context_free(c);
}
END_TEST

/* Rounded numbers at which the trick with 2^23 ends. */
START_TEST(test_whole_numbers) {
    WITH_DEVICE(c);
    const float x[] = {0.5f, 1.5f, -0.5f, -1.5f, 0.49999997f, 8388607.5f, 8388606.5f, -8388607.5f, 8388608, 1e30f};
    one_op o = {.op = QD_OP_ELEMENTWISE, .in = {F32(10, 0, 0, 0)}, .out = F32(10, 0, 0, 0), .data = {x}};
    o.attrs = function_of(QD_UNARY_ROUND, 0);
    one_op_gives(c, &o, (float[]){0, 2, -0.0f, -2, 0, 8388608, 8388606, -8388608, 8388608, 1e30f}, "round");
    o.attrs = function_of(QD_UNARY_FLOOR, 0);
    one_op_gives(c, &o, (float[]){0, 1, -1, -2, 0, 8388607, 8388606, -8388608, 8388608, 1e30f}, "floor");
    o.attrs = function_of(QD_UNARY_CEIL, 0);
    one_op_gives(c, &o, (float[]){1, 2, -0.0f, -1, 1, 8388608, 8388607, -8388607, 8388608, 1e30f}, "ceil");
    qd_context_free(c);
}
END_TEST

/* What the function's row says, in float64. */
static double truth(qd_unary f, double x, double alpha) {
    switch (f) {
        case QD_UNARY_LEAKY_RELU:
            return x >= 0 ? x : alpha * x;
        case QD_UNARY_ELU:
            return x >= 0 ? x : alpha * expm1(x);
        case QD_UNARY_SILU:
            return x / (1 + exp(-x));
        case QD_UNARY_GELU:
            return x / (1 + exp(-1.5957691216057307 * (x + 0.044715 * x * x * x)));
        case QD_UNARY_GELU_ERF:
            return 0.5 * x * erfc(-x * 0.70710678118654752440);
        case QD_UNARY_GELU_QUICK:
            return x / (1 + exp(-1.702 * x));
        case QD_UNARY_SIGMOID:
            return 1 / (1 + exp(-x));
        case QD_UNARY_HARD_SWISH:
            return x * fmax(0, fmin(6, x + 3)) / 6;
        case QD_UNARY_TANH:
            return tanh(x);
        case QD_UNARY_ERF:
            return erf(x);
        case QD_UNARY_EXP:
            return exp(x);
        case QD_UNARY_EXPM1:
            return expm1(x);
        case QD_UNARY_SQR:
            return x * x;
        case QD_UNARY_SQRT:
            return sqrt(x);
        case QD_UNARY_RECIPROCAL:
            return 1 / x;
        default:
            return NAN; /* exact ones: test_functions */
    }
}

/* How far off the result may be, as a part of it: see qdot_unary.def. */
static double bound(qd_unary f, double x) {
    const bool gelu = f == QD_UNARY_GELU || f == QD_UNARY_GELU_ERF || f == QD_UNARY_GELU_QUICK;
    if (gelu && x < -1) return (1 + x * x) * 0x1p-21;
    return f == QD_UNARY_SQR || f == QD_UNARY_SQRT || f == QD_UNARY_RECIPROCAL ? 0x1p-24 : 0x1p-21;
}

/* Floats of every exponent, and the range in which functions are curved. */
START_TEST(test_accuracy) {
    enum { N = 1 << 17 };
    const qd_unary f = (qd_unary)_i;
    const float alpha = 0.3f;
    if (isnan(truth(f, 1, 1))) return;
    float *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
    ck_assert(x && y);
    for (uint32_t i = 0; i < N; i++) {
        const uint32_t bits = i * 65537u; /* odd: all different */
        memcpy(&x[i], &bits, sizeof bits);
        if (i % 2) x[i] = ((float)i - N / 2) * (200.0f / N) * (i % 4 == 1 ? 0.1f : 1.0f);
    }
    qd_context *c = open_device(0, NULL);
    one_op o = {.op = QD_OP_ELEMENTWISE, .in = {F32(N, 0, 0, 0)}, .out = F32(N, 0, 0, 0), .data = {x}};
    o.attrs = function_of(f, alpha);
    ck_ok(one_op_run(c, &o, y));
    int wrong = 0, tried = 0;
    double worst = 0, at = 0;
    for (int i = 0; i < N; i++) {
        const double want = truth(f, (double)x[i], (double)alpha), error = fabs((double)y[i] - want);
        if (!isfinite(x[i]) || isnan(want)) continue;
        tried++;
        if ((double)y[i] == want || (fabs(want) > 3.4028235e38 && isinf(y[i]))) continue;
        if (fabs(want) < 0x1p-120 && fabs((double)y[i]) < 0x1p-120) continue;
        if (error / fabs(want) / bound(f, (double)x[i]) > worst) {
            worst = error / fabs(want) / bound(f, (double)x[i]);
            at = (double)x[i];
        }
        wrong += !(error <= fabs(want) * bound(f, (double)x[i]));
    }
    ck_assert_int_gt(tried, N / 4);
    ck_assert_msg(wrong == 0, "function %d: %d of %d too far off, most at %.9g: %.3g times what it may be", _i, wrong,
                  tried, at, worst);
    free(x);
    free(y);
    qd_context_free(c);
}
END_TEST

START_TEST(test_combine) {
    WITH_DEVICE(c);
    const float a[] = {1, -2, 3, 4}, b[] = {2, 8, -4, 0};
    one_op o = {
        .op = QD_OP_ELEMENTWISE, .in = {F32(2, 2, 0, 0), F32(2, 2, 0, 0)}, .out = F32(2, 2, 0, 0), .data = {a, b}};
    o.attrs = function_of(QD_UNARY_RELU, 0);
    static const float want[4][4] = {{3, 8, -1, 4}, {-1, -8, 7, 4}, {2, 0, -12, 0}, {0.5f, 0, -0.75f, INFINITY}};
    for (int i = QD_COMBINE_ADD; i <= QD_COMBINE_DIV; i++) {
        o.attrs.elementwise.combine = (qd_combine)i;
        one_op_gives(c, &o, want[i], "combined");
    }
    /* relu(a · 2 - 3) · b */
    o.attrs.elementwise.scale = 2;
    o.attrs.elementwise.offset = -3;
    o.attrs.elementwise.combine = QD_COMBINE_MUL;
    one_op_gives(c, &o, (float[]){0, 0, -12, 0}, "scaled and moved");
    /* a row, a column, and a run of b */
    o.attrs = function_of(QD_UNARY_IDENTITY, 0);
    o.in[1] = F32(2, 0, 0, 0);
    one_op_gives(c, &o, (float[]){3, 6, 5, 12}, "b: a row");
    o.in[1] = F32(2, 1, 0, 0);
    one_op_gives(c, &o, (float[]){3, 0, 11, 12}, "b: a column");
    o.out = F32(2, 4, 0, 0);
    one_op_gives(c, &o, (float[]){3, 0, 3, 0, 11, 12, 11, 12}, "a: a run twice");
    qd_context_free(c);
}
END_TEST

/* SWIGLU is silu(a) · b, bit for bit. */
START_TEST(test_swiglu) {
    WITH_DEVICE(c);
    enum { N = 3000 };
    static float gate[N], up[N], want[N];
    uint32_t state = 7;
    random_floats(&state, gate, N);
    random_floats(&state, up, N);
    for (int i = 0; i < N; i++)
        gate[i] *= 60;
    one_op o = {.op = QD_OP_SWIGLU, .in = {F32(3, N / 3, 0, 0), F32(3, N / 3, 0, 0)}, .data = {gate, up}};
    o.out = o.in[0];
    ck_ok(one_op_run(c, &o, want));
    o.op = QD_OP_ELEMENTWISE;
    o.attrs = function_of(QD_UNARY_SILU, 0);
    o.attrs.elementwise.combine = QD_COMBINE_MUL;
    one_op_gives(c, &o, want, "silu");
    qd_context_free(c);
}
END_TEST

/* y over a, over b, and over every second column of a. */
START_TEST(test_in_place) {
    WITH_DEVICE(c);
    const qd_tensor_desc d = F32(3, 20, 0, 0), half = F32(3, 10, 0, 0), row = F32(20, 0, 0, 0);
    const int64_t steps[] = {80, 8};
    float a[60], b[60], want_a[60], want_b[60];
    for (int i = 0; i < 60; i++) {
        a[i] = (float)(i - 30);
        b[i] = (float)(i * i);
        want_a[i] = fabsf(a[i]) - b[i];
        want_b[i] = fabsf(want_a[i]) - b[i];
        if (i % 2 == 0) want_a[i] = fabsf(want_a[i]);
    }
    qd_tensor *ta = tensor_with(c, d, a), *tb = tensor_with(c, d, b), *tr = tensor_with(c, row, a), *second;
    ck_ok(qd_tensor_window(ta, 0, &half, steps, &second));
    qd_attrs attrs = function_of(QD_UNARY_ABS, 0);
    attrs.elementwise.combine = QD_COMBINE_SUB;
    qd_tensor *in[] = {ta, tb}, *repeated[] = {ta, tr};
    qd_plan *over_a = NULL, *over_b = NULL, *over_second = NULL, *none = NULL;
    ck_ok(qd_plan_create(c, QD_OP_ELEMENTWISE, &attrs, in, 2, &ta, 1, &over_a));
    ck_ok(qd_plan_create(c, QD_OP_ELEMENTWISE, &attrs, in, 2, &tb, 1, &over_b));
    ck_ok(qd_plan_create(c, QD_OP_ELEMENTWISE, &attrs, &second, 1, &second, 1, &over_second));
    ck_ok(qd_plan_run(over_a));
    ck_ok(qd_plan_run(over_b));
    ck_ok(qd_plan_run(over_second));
    ck_tensor(ta, want_a, "over a");
    ck_tensor(tb, want_b, "over b");
    ck_fails(qd_plan_create(c, QD_OP_ELEMENTWISE, &attrs, repeated, 2, &tr, 1, &none), QD_ERR_ARGUMENT, "");
    ck_fails(qd_plan_create(c, QD_OP_ELEMENTWISE, &attrs, &ta, 1, &second, 1, &none), QD_ERR_ARGUMENT, "over an input");
    ck_fails(qd_plan_create(c, QD_OP_COPY, NULL, &ta, 1, &ta, 1, &none), QD_ERR_ARGUMENT, "over an input");
    qd_plan_free(over_a);
    qd_plan_free(over_b);
    qd_plan_free(over_second);
    qd_tensor *all[] = {second, ta, tb, tr};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        qd_tensor_free(all[i]);
    qd_context_free(c);
}
END_TEST

START_TEST(test_refused) {
    WITH_DEVICE(c);
    const float x[12] = {0};
    const one_op good = {.op = QD_OP_ELEMENTWISE,
                         .attrs = function_of(QD_UNARY_ABS, 0),
                         .in = {F32(2, 3, 0, 0), F32(3, 0, 0, 0)},
                         .out = F32(2, 3, 0, 0),
                         .data = {x, x}};
    one_op o = good;
    one_op_gives(c, &o, (float[6]){0}, "good");
    o.attrs.elementwise.function = QD_UNARY_COUNT;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "is no function");
    o.attrs.elementwise.function = (qd_unary)-1;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "elementwise: -1 is no function");
    o = good;
    o.attrs.elementwise.combine = (qd_combine)4;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "4 is no way to combine u and b");
    o.in[1].rank = 0; /* without b it is not read */
    one_op_gives(c, &o, (float[6]){0}, "no b");
    float *const numbers[] = {&o.attrs.elementwise.alpha, &o.attrs.elementwise.scale, &o.attrs.elementwise.offset};
    for (int i = 0; i < 3; i++) {
        o = good;
        *numbers[i] = NAN;
        one_op_refused(c, &o, QD_ERR_ARGUMENT, "must not be NaN");
    }
    o = good;
    o.in[1] = F32(2, 0, 0, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "elementwise: dimension 0 of b is 2, which does not divide the 3 of y");
    o.in[1] = F32(4, 3, 0, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "dimension 0 of b is 4, which does not divide the 2 of y");
    o = good;
    o.in[0] = F32(2, 2, 3, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "dimension 0 of a is 2, which does not divide the 1 of y");
    o = good;
    o.out.format = QD_FORMAT_F16;
    one_op_refused(c, &o, QD_ERR_UNSUPPORTED, "f16");
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("float operators");
    tcase_add_loop_test(tc, test_copy_formats, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_copy_repeats, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_copy_turned, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_set_rows, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_set_rows_blocks, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_set_rows_turned, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_set_rows_graph, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_set_rows_refused, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_functions, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_whole_numbers, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_accuracy, 0, QD_UNARY_COUNT);
    tcase_add_loop_test(tc, test_combine, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_swiglu, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_in_place, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_refused, 0, TEST_DEVICES);
    return run_tests(tc, "float operators");
}
