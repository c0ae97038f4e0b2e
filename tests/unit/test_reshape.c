/* Other shapes of the same bytes: what operators see through them, inside graphs and outside. What a call refuses is in
 * test_tensor.c, too. */
#include "unit/devices.h"

/* ---- Plans -------------------------------------------------------------------------------------------------- */

static void run_plan(qd_context *c, qd_op op, const qd_attrs *attrs, qd_tensor *const in[], int n_in, qd_tensor *out) {
    qd_plan *plan;
    ck_ok(qd_plan_create(c, op, attrs, in, n_in, &out, 1, &plan));
    ck_ok(qd_plan_run(plan));
    qd_plan_free(plan);
}

static void free_all(qd_tensor *const t[], int n) {
    for (int i = 0; i < n; i++)
        qd_tensor_free(t[i]);
}

/* Packed codes stay in their places when rows of them are whole bytes: code i is i modulo 16, or 4, in every shape. */
START_TEST(test_packed) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    enum { COUNT = 48 };
    static const struct {
        qd_format format;
        qd_tensor_desc from, to;
    } cases[] = {
        {QD_FORMAT_U4, {QD_FORMAT_U4, 2, {6, 8}}, {QD_FORMAT_U4, 3, {4, 6, 2}}},
        {QD_FORMAT_U4, {QD_FORMAT_U4, 1, {48}}, {QD_FORMAT_U4, 4, {2, 2, 3, 4}}},
        {QD_FORMAT_U2, {QD_FORMAT_U2, 2, {6, 8}}, {QD_FORMAT_U2, 2, {12, 4}}},
        {QD_FORMAT_U2, {QD_FORMAT_U2, 3, {3, 4, 4}}, {QD_FORMAT_U2, 1, {48}}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int bits = cases[i].format == QD_FORMAT_U4 ? 4 : 2;
        unsigned char codes[COUNT / 2] = {0};
        float want[COUNT];
        for (int k = 0; k < COUNT; k++) {
            codes[k * bits / 8] |= (unsigned char)(k % (1 << bits) << k * bits % 8);
            want[k] = 0.5f * (float)(k % (1 << bits));
        }
        const qd_tensor_desc one = qd_desc(QD_FORMAT_F32, 1, 0, 0, 0);
        const float half = 0.5f;
        qd_tensor *t = tensor_with(c, cases[i].from, codes), *scale = tensor_with(c, one, &half), *shaped, *y;
        qd_tensor_desc dy = cases[i].to;
        dy.format = QD_FORMAT_F32;
        ck_ok(qd_tensor_create(c, &dy, &y));
        ck_ok(qd_tensor_reshape(t, &cases[i].to, &shaped));
        qd_tensor_free(t); /* its memory is the other's, too */
        const qd_attrs attrs = {0};
        run_plan(c, QD_OP_DEQUANTIZE_LINEAR, &attrs, (qd_tensor *[]){shaped, scale}, 2, y);
        ck_tensor(y, want, "packed codes");
        free_all((qd_tensor *[]){shaped, scale, y}, 3);
    }
    qd_memory_info m;
    ck_ok(qd_context_memory(c, &m));
    ck_assert_uint_eq(m.used, 0);
    qd_context_free(c);
}
END_TEST

/* Rows of packed codes with a byte that is not full may only be counted anew; blocks stay whole. */
START_TEST(test_rows_of_packed) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const struct {
        qd_tensor_desc from, to;
        bool fits;
    } cases[] = {
        {{QD_FORMAT_I4, 2, {6, 5}}, {QD_FORMAT_I4, 3, {2, 3, 5}}, true},
        {{QD_FORMAT_I4, 3, {1, 6, 5}}, {QD_FORMAT_I4, 2, {6, 5}}, true},
        {{QD_FORMAT_I4, 2, {6, 5}}, {QD_FORMAT_I4, 2, {5, 6}}, false},
        {{QD_FORMAT_I4, 2, {6, 5}}, {QD_FORMAT_I4, 2, {3, 10}}, false},
        {{QD_FORMAT_I4, 2, {6, 5}}, {QD_FORMAT_I4, 2, {6, 6}}, false}, /* as many bytes */
        {{QD_FORMAT_I4, 2, {6, 6}}, {QD_FORMAT_I4, 2, {6, 5}}, false},
        {{QD_FORMAT_I2, 2, {2, 12}}, {QD_FORMAT_I2, 2, {6, 4}}, true},
        {{QD_FORMAT_I2, 2, {2, 12}}, {QD_FORMAT_I2, 2, {4, 6}}, false},
        {{QD_FORMAT_U2, 2, {4, 6}}, {QD_FORMAT_U2, 2, {3, 8}}, false},
        {{QD_FORMAT_F4E2M1, 2, {2, 6}}, {QD_FORMAT_F4E2M1, 2, {6, 2}}, true},
        {{QD_FORMAT_F4E2M1, 2, {2, 3}}, {QD_FORMAT_F4E2M1, 2, {3, 2}}, false},
        {{QD_FORMAT_A8, 2, {2, 32}}, {QD_FORMAT_A8, 2, {4, 16}}, true},
        {{QD_FORMAT_A8, 2, {2, 32}}, {QD_FORMAT_A8, 2, {8, 8}}, false},
        {{QD_FORMAT_Q4_1, 2, {3, 64}}, {QD_FORMAT_Q4_1, 2, {2, 96}}, true},
        {{QD_FORMAT_U8, 2, {3, 5}}, {QD_FORMAT_I8, 2, {5, 3}}, false},
        {{QD_FORMAT_U8, 2, {3, 5}}, {QD_FORMAT_U8, 2, {5, 3}}, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        qd_tensor *t, *r = NULL;
        ck_ok(qd_tensor_create(c, &cases[i].from, &t));
        if (cases[i].fits) {
            ck_assert_msg(qd_tensor_reshape(t, &cases[i].to, &r) == QD_OK, "case %zu: %s", i, qd_last_message());
            ck_assert_mem_eq(qd_tensor_describe(r)->shape, cases[i].to.shape, sizeof cases[i].to.shape);
            ck_assert_int_eq(qd_tensor_describe(r)->rank, cases[i].to.rank);
        } else {
            ck_fails(qd_tensor_reshape(t, &cases[i].to, &r), QD_ERR_ARGUMENT, "reshape");
            ck_assert_ptr_null(r);
        }
        free_all((qd_tensor *[]){r, t}, 2);
    }
    qd_context_free(c);
}
END_TEST

/* Without rows, or without memory for the result. */
START_TEST(test_none) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const qd_tensor_desc from = {QD_FORMAT_I8, 3, {0, 4, 6}}, to = {QD_FORMAT_I8, 2, {0, 24}},
                                bad[] = {{QD_FORMAT_I8, 2, {0, 23}},
                                         {QD_FORMAT_I8, 2, {1, 24}},
                                         {QD_FORMAT_I8, 2, {24, 0}},
                                         {QD_FORMAT_I8, 1, {0}}};
    qd_tensor *t, *r = NULL, *full;
    ck_ok(qd_tensor_create(c, &from, &t));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_fails(qd_tensor_reshape(t, &bad[i], &r), QD_ERR_ARGUMENT, "reshape");
    static const qd_tensor_desc column = {QD_FORMAT_I8, 2, {0, 1}};
    qd_tensor *empty;
    ck_ok(qd_tensor_create(c, &column, &empty));
    ck_fails(qd_tensor_reshape(empty, &bad[3], &r), QD_ERR_ARGUMENT, "reshape"); /* one dimension is never 0 */
    qd_tensor_free(empty);
    const qd_tensor_desc some = qd_desc(QD_FORMAT_I8, 2, 12, 0, 0);
    ck_ok(qd_tensor_create(c, &some, &full));
    ck_fails(qd_tensor_reshape(full, &to, &r), QD_ERR_ARGUMENT, "reshape");
    qd_alloc_fail_after(0);
    const qd_status status = qd_tensor_reshape(t, &to, &r);
    qd_alloc_fail_after(-1);
    ck_assert_int_eq(status, QD_ERR_MEMORY);
    ck_assert_ptr_null(r);
    ck_ok(qd_tensor_reshape(t, &to, &r));
    ck_assert_int_eq(qd_tensor_describe(r)->shape[1], 24);
    free_all((qd_tensor *[]){r, t, full}, 3);
    qd_memory_info m;
    ck_ok(qd_context_memory(c, &m));
    ck_assert_uint_eq(m.used, 0);
    qd_context_free(c);
}
END_TEST

/* All shapes of one memory are one tensor to an operator that must not write over what it reads, columns of it, too. */
START_TEST(test_aliases) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const qd_tensor_desc wide = {QD_FORMAT_F32, 2, {4, 8}}, flat = {QD_FORMAT_F32, 2, {8, 4}},
                                half = {QD_FORMAT_F32, 2, {4, 4}}, cube = {QD_FORMAT_F32, 3, {1, 32, 16}},
                                row = {QD_FORMAT_F32, 2, {1, 16}}, one = {QD_FORMAT_I32, 1, {1}};
    qd_tensor *t, *r, *same, *right, *part, *k, *v, *both, *position;
    ck_ok(qd_tensor_create(c, &wide, &t));
    ck_ok(qd_tensor_create(c, &half, &part));
    ck_ok(qd_tensor_reshape(t, &flat, &r));
    ck_ok(qd_tensor_reshape(r, &wide, &same));
    ck_ok(qd_tensor_view(t, 4, 4, &right));
    qd_plan *plan = NULL;
    ck_fails(qd_plan_create(c, QD_OP_SWIGLU, NULL, (qd_tensor *[]){t, t}, 2, &same, 1, &plan), QD_ERR_ARGUMENT,
             "over an input");
    ck_fails(qd_plan_create(c, QD_OP_SWIGLU, NULL, (qd_tensor *[]){same, same}, 2, &t, 1, &plan), QD_ERR_ARGUMENT,
             "over an input");
    /* The last columns, and rows as wide as the first ones. */
    const qd_attrs first = {.concat = {.axis = 0}};
    ck_fails(qd_plan_create(c, QD_OP_CONCAT, &first, (qd_tensor *[]){right, part}, 2, &r, 1, &plan), QD_ERR_ARGUMENT,
             "over an input");
    ck_ok(qd_plan_create(c, QD_OP_CONCAT, &first, (qd_tensor *[]){part, part}, 2, &r, 1, &plan));
    qd_plan_free(plan);
    plan = NULL;
    /* Two results in one memory. */
    ck_ok(qd_tensor_create(c, &cube, &both));
    ck_ok(qd_tensor_reshape(both, &cube, &v));
    ck_ok(qd_tensor_create(c, &row, &k));
    ck_ok(qd_tensor_create(c, &one, &position));
    const qd_attrs kv = {.kv = {.heads = 1, .head_dim = 16}};
    ck_fails(
        qd_plan_create(c, QD_OP_KV_STORE, &kv, (qd_tensor *[]){k, k, position}, 3, (qd_tensor *[]){both, v}, 2, &plan),
        QD_ERR_ARGUMENT, "another result");
    ck_assert_ptr_null(plan);
    free_all((qd_tensor *[]){right, same, r, part, t, v, both, k, position}, 9);
    qd_context_free(c);
}
END_TEST

/* ---- Graphs ------------------------------------------------------------------------------------------------- */

static uint8_t nth_code(int64_t i) {
    return (uint8_t)(i * 37 + i / 7);
}

/* QD_ROWS stays the first dimension: images become rows, and rows images, whatever a run's number of them is. */
START_TEST(test_rows_of_a_run) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    enum { R = 5, COLS = 24 };
    static const qd_tensor_desc images = {QD_FORMAT_U8, 4, {QD_ROWS, 2, 3, 4}},
                                rows = {QD_FORMAT_U8, 2, {QD_ROWS, COLS}}, flat = {QD_FORMAT_U8, 2, {R, COLS}},
                                shaped = {QD_FORMAT_U8, 3, {R, 6, 4}}, codes = {QD_FORMAT_U8, 1, {256}},
                                bad[] = {
                                    {QD_FORMAT_U8, 2, {QD_ROWS, COLS - 1}}, {QD_FORMAT_U8, 2, {R, COLS}},
                                    {QD_FORMAT_U8, 2, {COLS, QD_ROWS}},     {QD_FORMAT_U8, 3, {2, QD_ROWS, COLS / 2}},
                                    {QD_FORMAT_I8, 2, {QD_ROWS, COLS}},     {QD_FORMAT_U8, 1, {QD_ROWS}},
                                    {QD_FORMAT_U8, 0, {QD_ROWS}},           {QD_FORMAT_U8, 5, {QD_ROWS, 2, 3, 4}}};
    uint8_t x[R * COLS], plus_one[256], want[R * COLS], zeros[R * COLS] = {0};
    for (int i = 0; i < R * COLS; i++)
        x[i] = nth_code(i);
    for (int i = 0; i < 256; i++)
        plus_one[i] = (uint8_t)(i + 1);
    qd_tensor *in = tensor_with(c, shaped, x), *out = tensor_with(c, flat, zeros),
              *table = tensor_with(c, codes, plus_one);
    qd_graph *g;
    qd_tensor *a, *a_rows, *b, *b_images, *in_rows, *none = NULL;
    ck_ok(qd_graph_create(c, R, &g));
    ck_ok(qd_graph_tensor(g, &rows, &a));
    ck_ok(qd_graph_tensor(g, &images, &b));
    ck_ok(qd_graph_reshape(g, in, &flat, &in_rows)); /* of a tensor outside */
    ck_ok(qd_graph_reshape(g, a, &images, &a_rows));
    ck_ok(qd_graph_reshape(g, b, &rows, &b_images));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_fails(qd_graph_reshape(g, b, &bad[i], &none), QD_ERR_ARGUMENT, "reshape");
    ck_fails(qd_graph_reshape(g, in, &rows, &none), QD_ERR_ARGUMENT, "reshape"); /* QD_ROWS is not made up */
    /* Codes of one row each are a byte each; in one dimension they share bytes. */
    static const qd_tensor_desc packed[] = {{QD_FORMAT_U4, 1, {QD_ROWS}}, {QD_FORMAT_U4, 2, {QD_ROWS, 1}}};
    for (int i = 0; i < 2; i++) {
        qd_tensor *t;
        ck_ok(qd_graph_tensor(g, &packed[i], &t));
        ck_fails(qd_graph_reshape(g, t, &packed[1 - i], &none), QD_ERR_ARGUMENT, "reshape");
    }
    ck_assert_ptr_null(none);
    ck_ok(qd_graph_add(g, QD_OP_TABLE, NULL, (qd_tensor *[]){in_rows, table}, 2, &a, 1));
    ck_ok(qd_graph_add(g, QD_OP_TABLE, NULL, (qd_tensor *[]){a_rows, table}, 2, &b, 1));
    ck_ok(qd_graph_add(g, QD_OP_TABLE, NULL, (qd_tensor *[]){b_images, table}, 2, &out, 1));
    ck_ok(qd_graph_compile(g, NULL, NULL));
    qd_graph_info info;
    ck_ok(qd_graph_describe(g, &info));
    ck_assert_int_eq(info.fallbacks, 0);
    ck_assert_uint_eq(info.tensor_bytes, 2 * 256); /* two tensors, whatever their shapes */
    for (int n = 1; n <= R; n++) {
        ck_ok(qd_tensor_write(out, 0, zeros, sizeof zeros));
        ck_ok(qd_graph_run(g, n));
        for (int i = 0; i < R * COLS; i++)
            want[i] = (uint8_t)(i < n * COLS ? x[i] + 3 : 0);
        ck_tensor(out, want, "rows of a run");
    }
    qd_graph_free(g);
    free_all((qd_tensor *[]){in, out, table}, 3);
    qd_context_free(c);
}
END_TEST

/* A column of ids becomes ids, also for an operator that runs on the reference: a table of columns has no kernel. */
START_TEST(test_one_dimension) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    enum { R = 4, V = 6, C = 8 };
    static const qd_tensor_desc column = {QD_FORMAT_I32, 2, {QD_ROWS, 1}}, line = {QD_FORMAT_I32, 1, {QD_ROWS}},
                                given = {QD_FORMAT_I32, 2, {R, 1}}, y = {QD_FORMAT_F32, 2, {R, C}},
                                wide = {QD_FORMAT_F32, 2, {V, C + 2}};
    static const int32_t ids[R] = {5, 0, 3, 2};
    float values[V * (C + 2)], want[R * C], zeros[R * C] = {0};
    for (int i = 0; i < V * (C + 2); i++)
        values[i] = (float)i;
    qd_tensor *in = tensor_with(c, given, ids), *table = tensor_with(c, wide, values), *columns, *out, *copy, *as_line,
              *back;
    ck_ok(qd_tensor_view(table, 2, C, &columns));
    ck_ok(qd_tensor_create(c, &y, &out));
    qd_graph *g;
    ck_ok(qd_graph_create(c, R, &g));
    ck_ok(qd_graph_tensor(g, &column, &copy));
    ck_ok(qd_graph_reshape(g, copy, &line, &as_line));
    ck_ok(qd_graph_reshape(g, as_line, &column, &back));
    ck_assert_int_eq(qd_tensor_describe(back)->rank, 2);
    const qd_attrs axis = {.concat = {.axis = -1}};
    ck_ok(qd_graph_add(g, QD_OP_CONCAT, &axis, &in, 1, &copy, 1));
    ck_ok(qd_graph_add(g, QD_OP_GET_ROWS, NULL, (qd_tensor *[]){columns, as_line}, 2, &out, 1));
    ck_ok(qd_graph_compile(g, NULL, NULL));
    for (int n = 1; n <= R; n++) {
        ck_ok(qd_tensor_write(out, 0, zeros, sizeof zeros));
        ck_ok(qd_graph_run(g, n));
        for (int i = 0; i < R * C; i++)
            want[i] = i < n * C ? values[ids[i / C] * (C + 2) + 2 + i % C] : 0;
        ck_tensor(out, want, "rows by ids");
    }
    qd_graph_free(g);
    free_all((qd_tensor *[]){in, columns, table, out}, 4);
    qd_context_free(c);
}
END_TEST

/* What is only read through another shape must not be given away before, and what is first written through one must
 * have its place by then. */
START_TEST(test_lifetimes) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    enum { R = 3, C = 64, LINKS = 6 };
    static const qd_tensor_desc rows = {QD_FORMAT_F32, 2, {QD_ROWS, C}},
                                cubes = {QD_FORMAT_F32, 3, {QD_ROWS, 4, C / 4}}, outside = {QD_FORMAT_F32, 2, {R, C}};
    float x[R * C], want[R * C];
    uint32_t rng = 3;
    random_floats(&rng, x, R * C);
    qd_tensor *in = tensor_with(c, outside, x), *out, *t, *early, *early_cubes, *early_rows, *late, *late_cubes,
              *late_rows;
    ck_ok(qd_tensor_create(c, &outside, &out));
    qd_graph *g;
    ck_ok(qd_graph_create(c, R, &g));
    ck_ok(qd_graph_tensor(g, &rows, &early));
    ck_ok(qd_graph_reshape(g, early, &cubes, &early_cubes));
    ck_ok(qd_graph_reshape(g, early_cubes, &rows, &early_rows));
    ck_ok(qd_graph_tensor(g, &cubes, &late));
    ck_ok(qd_graph_reshape(g, late, &rows, &late_rows));
    ck_ok(qd_graph_reshape(g, late_rows, &cubes, &late_cubes));
    /* early: written as itself, read as another at the end; late: written as another at the start, read so, too. */
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){in, in}, 2, &early, 1));
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){in, early}, 2, &late_rows, 1));
    t = in;
    for (int i = 0; i < LINKS; i++) {
        qd_tensor *next;
        ck_ok(qd_graph_tensor(g, &rows, &next));
        ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){t, t}, 2, &next, 1));
        t = next;
    }
    qd_tensor *sum, *copy;
    ck_ok(qd_graph_tensor(g, &rows, &sum));
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){t, early_rows}, 2, &sum, 1));
    const qd_attrs axis = {.concat = {.axis = -1}};
    qd_tensor *copy_rows;
    ck_ok(qd_graph_tensor(g, &cubes, &copy));
    ck_ok(qd_graph_reshape(g, copy, &rows, &copy_rows));
    ck_ok(qd_graph_add(g, QD_OP_CONCAT, &axis, &late_cubes, 1, &copy, 1));
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){sum, copy_rows}, 2, &out, 1));
    ck_ok(qd_graph_compile(g, NULL, NULL));
    qd_graph_info info;
    ck_ok(qd_graph_describe(g, &info));
    const size_t one = sizeof x;
    ck_assert_uint_eq(info.tensor_bytes, (LINKS + 4) * one);
    ck_assert_uint_eq(info.live_bytes, 4 * one); /* early, late, and two of the chain */
    ck_assert_uint_lt(info.arena_bytes, info.tensor_bytes);
    for (int n = R; n >= 1; n--) {
        ck_ok(qd_graph_run(g, n));
        for (int i = 0; i < R * C; i++)
            want[i] = (float)(1 << LINKS) * x[i] + 2 * x[i] + 3 * x[i]; /* exact: multiples of 2^-10 */
        ck_tensor(out, want, "after others");
    }
    qd_graph_free(g);
    free_all((qd_tensor *[]){in, out}, 2);
    qd_context_free(c);
}
END_TEST

/* Columns of a tensor and another shape of it have elements in common that no comparison of columns would find: slow
 * operators, and what must wait for them. */
START_TEST(test_order) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    enum { R = 64, C = 64, HALF = 32, K = 2048, THIN = 4 };
    static const qd_tensor_desc whole = {QD_FORMAT_F32, 2, {R, C}}, thin = {QD_FORMAT_F32, 2, {R * C / THIN, THIN}},
                                half = {QD_FORMAT_F32, 2, {R, HALF}}, long_rows = {QD_FORMAT_F32, 2, {R, K}},
                                weights = {QD_FORMAT_F32, 2, {HALF, K}}, back = {QD_FORMAT_F32, 2, {R, HALF}};
    static float ones[R * K], w[HALF * K], x[R * C], product[R * HALF], want[R * C];
    for (int i = 0; i < R * K; i++)
        ones[i] = 1;
    for (int i = 0; i < HALF * K; i++)
        w[i] = (float)(i / K + 1); /* the product's column n is K · (n + 1) */
    uint32_t rng = 8;
    random_floats(&rng, x, R * C);
    qd_tensor *in = tensor_with(c, whole, x), *in_thin, *a = tensor_with(c, long_rows, ones), *tw, *seen, *after;
    ck_ok(qd_tensor_constant(c, &weights, w, &tw));
    ck_ok(qd_tensor_create(c, &thin, &seen));
    ck_ok(qd_tensor_create(c, &back, &after));
    qd_graph *g;
    qd_tensor *t, *right, *t_thin;
    ck_ok(qd_graph_create(c, R, &g));
    ck_ok(qd_graph_tensor(g, &whole, &t));
    ck_ok(qd_graph_view(g, t, HALF, HALF, &right));
    ck_ok(qd_graph_reshape(g, t, &thin, &t_thin));
    ck_ok(qd_graph_reshape(g, in, &thin, &in_thin));
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){in, in}, 2, &t, 1));
    /* Columns are written slowly, then read in another shape. */
    ck_ok(qd_graph_add(g, QD_OP_MATMUL, NULL, (qd_tensor *[]){tw, a}, 2, &right, 1));
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){t_thin, in_thin}, 2, &seen, 1));
    /* They are read slowly, and then written over in another shape. */
    ck_ok(qd_graph_add(g, QD_OP_MATMUL, NULL, (qd_tensor *[]){tw, a, right}, 3, &after, 1));
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){in_thin, in_thin}, 2, &t_thin, 1));
    /* And that is seen as columns. */
    qd_tensor *last;
    ck_ok(qd_tensor_create(c, &half, &last));
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){right, right}, 2, &last, 1));
    ck_ok(qd_graph_compile(g, NULL, NULL));
    for (int round = 0; round < 5; round++) {
        ck_ok(qd_graph_run(g, R));
        for (int i = 0; i < R * C; i++)
            want[i] = (i % C < HALF ? 2 * x[i] : (float)(K * (i % C - HALF + 1))) + x[i];
        ck_tensor(seen, want, "columns in another shape");
        for (int i = 0; i < R * HALF; i++)
            product[i] = 2 * (float)(K * (i % HALF + 1));
        ck_tensor(after, product, "columns before they were written over");
        for (int i = 0; i < R * HALF; i++)
            product[i] = 4 * x[i / HALF * C + HALF + i % HALF];
        ck_tensor(last, product, "columns of what another shape wrote");
    }
    qd_graph_free(g);
    free_all((qd_tensor *[]){in, a, tw, seen, after, last}, 6);
    qd_context_free(c);
}
END_TEST

START_TEST(test_misuse) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const qd_tensor_desc d = {QD_FORMAT_F32, 2, {QD_ROWS, 8}}, to = {QD_FORMAT_F32, 3, {QD_ROWS, 2, 4}},
                                fixed = {QD_FORMAT_F32, 2, {2, 8}}, fixed_to = {QD_FORMAT_F32, 2, {4, 4}};
    static const float data[16] = {0};
    qd_graph *g, *other;
    qd_tensor *t, *view, *r = NULL, *constant, *outside, *loose, *sum;
    ck_ok(qd_graph_create(c, 2, &g));
    ck_ok(qd_graph_create(c, 2, &other));
    ck_ok(qd_graph_tensor(g, &d, &t));
    ck_ok(qd_graph_view(g, t, 0, 4, &view));
    ck_ok(qd_tensor_constant(c, &fixed, data, &constant));
    ck_ok(qd_tensor_create(c, &fixed, &outside));
    ck_fails(qd_graph_reshape(NULL, t, &to, &r), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_graph_reshape(g, NULL, &to, &r), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_graph_reshape(g, t, NULL, &r), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_graph_reshape(g, t, &to, NULL), QD_ERR_ARGUMENT, "result");
    ck_fails(qd_graph_reshape(other, t, &to, &r), QD_ERR_ARGUMENT, "another graph");
    ck_fails(qd_graph_reshape(g, view, &(qd_tensor_desc){QD_FORMAT_F32, 2, {QD_ROWS, 4}}, &r), QD_ERR_UNSUPPORTED,
             "view");
    ck_fails(qd_graph_reshape(g, constant, &fixed_to, &r), QD_ERR_UNSUPPORTED, "constant");
    for (long n = 0; n < 2; n++) { /* the tensor, and the graph's list of 32 */
        for (int i = 2; n && i < 32; i++)
            ck_ok(qd_graph_reshape(g, t, &to, &r));
        r = NULL;
        qd_alloc_fail_after(n);
        const qd_status status = qd_graph_reshape(g, t, &to, &r);
        qd_alloc_fail_after(-1);
        ck_assert_int_eq(status, QD_ERR_MEMORY);
        ck_assert_ptr_null(r);
    }
    /* One that the graph does not know has no memory in it. */
    ck_ok(qd_tensor_reshape(t, &d, &loose));
    ck_ok(qd_graph_tensor(g, &d, &sum));
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){outside, loose}, 2, &sum, 1));
    ck_fails(qd_graph_compile(g, NULL, NULL), QD_ERR_ARGUMENT, "no memory");
    ck_fails(qd_graph_reshape(g, t, &to, &r), QD_ERR_ARGUMENT, "compiled");
    qd_plan *plan = NULL;
    ck_fails(qd_plan_create(c, QD_OP_ADD, NULL, (qd_tensor *[]){loose, loose}, 2, &outside, 1, &plan), QD_ERR_ARGUMENT,
             "graph");
    ck_assert_ptr_null(plan);
    ck_fails(qd_tensor_write(loose, 0, data, 4), QD_ERR_UNSUPPORTED, "views");
    ck_ok(qd_tensor_reshape(outside, &fixed_to, &r));
    float got[16];
    ck_fails(qd_tensor_read(r, 0, got, sizeof got), QD_ERR_UNSUPPORTED, "views");
    qd_graph_free(g); /* before what shows its tensor */
    qd_graph_free(other);
    free_all((qd_tensor *[]){loose, r, outside, constant}, 4);
    qd_memory_info m;
    ck_ok(qd_context_memory(c, &m));
    ck_assert_uint_eq(m.used, 0);
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("reshape");
    tcase_add_loop_test(tc, test_packed, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_rows_of_packed, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_none, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_aliases, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_rows_of_a_run, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_one_dimension, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_lifetimes, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_order, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_misuse, 0, TEST_DEVICES);
    return run_tests(tc, "reshape");
}
