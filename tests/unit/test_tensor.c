/* Tensors: descs, memory, transfers, views and stacks, on each kind of device. */
#include <inttypes.h>

#include "qdot/qdot_backend.h"
#include "unit/devices.h"

/* An allocation that is too large is NULL under the address sanitizer, too. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void) {
    return "allocator_may_return_null=1";
}

/* ---- Descs -------------------------------------------------------------------------------------------------- */

START_TEST(test_desc) {
    ck_assert_int_eq(qd_desc(QD_FORMAT_F32, 0, 0, 0, 0).rank, 0);
    ck_assert_int_eq(qd_desc(QD_FORMAT_F32, 3, 0, 0, 0).rank, 1);
    ck_assert_int_eq(qd_desc(QD_FORMAT_F32, 3, 0, 5, 0).rank, 1);
    ck_assert_int_eq(qd_desc(QD_FORMAT_F32, 1, 2, 3, 4).rank, 4);
    ck_assert_int_eq(qd_desc(QD_FORMAT_F32, QD_ROWS, 2, 0, 0).rank, 2);
    const qd_tensor_desc d = qd_desc(QD_FORMAT_Q4_1, 2, 3, 64, 0);
    ck_assert_int_eq(d.format, QD_FORMAT_Q4_1);
    ck_assert_int_eq(d.shape[2], 64);
    ck_assert_uint_eq(qd_desc_bytes(&d), 2 * 3 * 2 * 20);
}
END_TEST

START_TEST(test_desc_bytes) {
    static const struct {
        qd_tensor_desc desc;
        size_t bytes;
    } cases[] = {
        {{QD_FORMAT_F32, 1, {7}}, 28},
        {{QD_FORMAT_F16, 2, {7, 3}}, 42},
        {{QD_FORMAT_F32, 4, {2, 3, 4, 5}}, 480},
        {{QD_FORMAT_F32, 1, {0}}, 0},
        {{QD_FORMAT_F32, 1, {-5}}, 0},
        {{QD_FORMAT_F32, 2, {QD_ROWS, 4}}, 0},
        {{QD_FORMAT_F32, 2, {0, 4}}, 0},
        {{QD_FORMAT_F32, 0, {1}}, 0},
        {{QD_FORMAT_F32, QD_MAX_RANK + 1, {1, 1, 1, 1}}, 0},
        {{QD_FORMAT_F32, -1, {1}}, 0},
        {{QD_FORMAT_COUNT, 1, {1}}, 0},
        {{(qd_format)-1, 1, {1}}, 0},
        {{QD_FORMAT_Q8_0, 2, {2, 33}}, 0},
        {{QD_FORMAT_F32, 1, {INT64_MAX}}, 0},
        {{QD_FORMAT_F16, 2, {INT64_C(1) << 61, 1}}, (size_t)1 << 62},
        {{QD_FORMAT_F16, 2, {INT64_C(1) << 62, 1}}, 0},
        {{QD_FORMAT_F32, 3, {INT64_C(1) << 32, INT64_C(1) << 32, 1}}, 0},
        {{QD_FORMAT_F32, 4, {INT64_C(1) << 31, INT64_C(1) << 31, INT64_C(1) << 31, 4}}, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        ck_assert_msg(qd_desc_bytes(&cases[i].desc) == cases[i].bytes, "desc %zu: %zu bytes", i,
                      qd_desc_bytes(&cases[i].desc));
    ck_assert_uint_eq(qd_desc_bytes(NULL), 0);
}
END_TEST

/* ---- Memory and transfers ----------------------------------------------------------------------------------- */

/* A device's second tensor of a size is one that the first left behind, full of its bytes. */
START_TEST(test_zeros) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 30, 40, 0, 0);
    unsigned char noise[4800], zeros[4800] = {0};
    memset(noise, 0xa5, sizeof noise);
    for (int i = 0; i < 3; i++) {
        qd_tensor *t;
        ck_ok(qd_tensor_create(c, &d, &t));
        ck_tensor(t, zeros, "a new tensor");
        ck_ok(qd_tensor_write(t, 0, noise, sizeof noise));
        ck_tensor(t, noise, "written");
        qd_tensor_free(t);
    }
    qd_context_free(c);
}
END_TEST

/* Many writes of all sizes at all offsets, none of which waits for `src`; the last one wins. */
START_TEST(test_transfers) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    enum { BYTES = 200000 };
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F16, BYTES / 2, 0, 0, 0);
    unsigned char *want = calloc(1, BYTES), *src = malloc(BYTES), *got = malloc(BYTES);
    ck_assert(want && src && got);
    qd_tensor *t;
    ck_ok(qd_tensor_create(c, &d, &t));
    uint32_t rng = 1;
    for (int round = 0; round < 200; round++) {
        const size_t limit = round % 20 == 0 ? BYTES : 3000;
        const size_t bytes = (size_t)random_between(&rng, 0, (int64_t)limit);
        const size_t at = (size_t)random_between(&rng, 0, (int64_t)(BYTES - bytes));
        memset(src, round + 1, BYTES);
        ck_ok(qd_tensor_write(t, at, src, bytes));
        memset(src, 0xee, BYTES); /* may be reused at once */
        memset(want + at, round + 1, bytes);
        if (round % 10) continue;
        const size_t from = (size_t)random_between(&rng, 0, BYTES);
        memset(got, 0x77, BYTES);
        ck_ok(qd_tensor_read(t, from, got, BYTES - from));
        ck_assert_mem_eq(got, want + from, BYTES - from);
        size_t untouched = 0;
        while (untouched < from && got[BYTES - from + untouched] == 0x77)
            untouched++;
        ck_assert_uint_eq(untouched, from);
    }
    ck_tensor(t, want, "after all writes");
    ck_ok(qd_context_finish(c));
    qd_tensor_free(t);
    free(want);
    free(src);
    free(got);
    qd_context_free(c);
}
END_TEST

START_TEST(test_bad_transfers) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 4, 4, 0, 0);
    qd_tensor *t, *constant, *view;
    unsigned char bytes[64], before[64];
    memset(bytes, 1, sizeof bytes);
    memcpy(before, bytes, sizeof before);
    ck_ok(qd_tensor_create(c, &d, &t));
    ck_ok(qd_tensor_constant(c, &d, bytes, &constant));
    ck_ok(qd_tensor_view(t, 1, 2, &view));
    static const struct {
        size_t offset, bytes;
    } bad[] = {{0, 65}, {64, 1}, {65, 0}, {SIZE_MAX, 1}, {1, SIZE_MAX}, {SIZE_MAX, SIZE_MAX}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_fails(qd_tensor_write(t, bad[i].offset, bytes, bad[i].bytes), QD_ERR_ARGUMENT, "outside");
        ck_fails(qd_tensor_read(t, bad[i].offset, bytes, bad[i].bytes), QD_ERR_ARGUMENT, "outside");
    }
    ck_fails(qd_tensor_write(t, 0, NULL, 1), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_tensor_read(t, 0, NULL, 1), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_tensor_write(NULL, 0, bytes, 1), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_tensor_read(NULL, 0, bytes, 1), QD_ERR_ARGUMENT, "NULL");
    ck_ok(qd_tensor_write(t, 64, NULL, 0));
    ck_ok(qd_tensor_read(t, 64, NULL, 0));
    ck_fails(qd_tensor_write(constant, 0, bytes, 1), QD_ERR_UNSUPPORTED, "constants");
    ck_fails(qd_tensor_read(constant, 0, bytes, 1), QD_ERR_UNSUPPORTED, "constants");
    ck_fails(qd_tensor_write(view, 0, bytes, 1), QD_ERR_UNSUPPORTED, "views");
    ck_fails(qd_tensor_read(view, 0, bytes, 1), QD_ERR_UNSUPPORTED, "views");
    ck_assert_mem_eq(bytes, before, sizeof bytes);
    qd_tensor_free(view);
    qd_tensor_free(constant);
    qd_tensor_free(t);
    qd_context_free(c);
}
END_TEST

/* Tensors inside a graph share memory: before compile and after it, nobody outside may look or write. */
START_TEST(test_graph_tensor_is_private) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 2, 4, 0, 0);
    qd_graph *g;
    qd_tensor *a, *inside, *out;
    float x[8] = {0};
    ck_ok(qd_tensor_create(c, &d, &a));
    ck_ok(qd_tensor_create(c, &d, &out));
    ck_ok(qd_graph_create(c, 2, &g));
    ck_ok(qd_graph_tensor(g, &d, &inside));
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){a, a}, 2, &inside, 1));
    ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){inside, a}, 2, &out, 1));
    for (int compiled = 0; compiled < 2; compiled++) {
        ck_fails(qd_tensor_read(inside, 0, x, sizeof x), QD_ERR_UNSUPPORTED, "inside a graph");
        ck_fails(qd_tensor_write(inside, 0, x, sizeof x), QD_ERR_UNSUPPORTED, "inside a graph");
        if (!compiled) ck_ok(qd_graph_compile(g, NULL, NULL));
    }
    qd_graph_free(g);
    qd_tensor_free(a);
    qd_tensor_free(out);
    qd_context_free(c);
}
END_TEST

START_TEST(test_bad_creation) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    qd_tensor *const unset = (qd_tensor *)&c;
    qd_tensor *t = unset;
    static const float data[64] = {0};
    static const qd_tensor_desc bad[] = {
        {QD_FORMAT_F32, 0, {0}},       {QD_FORMAT_F32, 5, {1, 1, 1, 1}}, {QD_FORMAT_F32, 2, {4, 0}},
        {QD_FORMAT_F32, 2, {-2, 4}},   {QD_FORMAT_Q4_1, 2, {4, 48}},     {QD_FORMAT_F32, 2, {4, QD_ROWS}},
        {QD_FORMAT_COUNT, 2, {4, 32}}, {QD_FORMAT_F32, 2, {QD_ROWS, 4}}, {QD_FORMAT_F32, 1, {INT64_MAX}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_fails(qd_tensor_create(c, &bad[i], &t), QD_ERR_ARGUMENT, "");
        ck_fails(qd_tensor_constant(c, &bad[i], data, &t), QD_ERR_ARGUMENT, "");
        ck_assert_ptr_eq(t, unset);
    }
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 4, 4, 0, 0);
    ck_fails(qd_tensor_create(c, NULL, &t), QD_ERR_ARGUMENT, "desc");
    ck_fails(qd_tensor_create(NULL, &d, &t), QD_ERR_ARGUMENT, "context");
    ck_fails(qd_tensor_create(c, &d, NULL), QD_ERR_ARGUMENT, "result");
    ck_fails(qd_tensor_constant(c, &d, NULL, &t), QD_ERR_ARGUMENT, "data");
    ck_fails(qd_tensor_constant(c, NULL, data, &t), QD_ERR_ARGUMENT, "desc");
    ck_fails(qd_tensor_constant(NULL, &d, data, &t), QD_ERR_ARGUMENT, "context");
    ck_fails(qd_tensor_constant(c, &d, data, NULL), QD_ERR_ARGUMENT, "result");
    ck_assert_ptr_eq(t, unset);
    /* More than any device or host has: a status, not a crash. */
    const qd_tensor_desc huge = qd_desc(QD_FORMAT_F32, INT64_C(1) << 40, 1 << 18, 0, 0);
    const qd_status s = qd_tensor_create(c, &huge, &t);
    ck_assert_msg(s == QD_ERR_DEVICE_MEMORY || s == QD_ERR_MEMORY, "%s", qd_status_name(s));
    ck_assert_ptr_eq(t, unset);
    qd_tensor_free(NULL);
    qd_context_free(c);
}
END_TEST

/* No rows are legal, but not of a constant, and not of a tensor of one dimension: its elements are one row. */
START_TEST(test_no_rows) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const qd_tensor_desc empty[] = {{QD_FORMAT_F32, 2, {0, 5}},
                                           {QD_FORMAT_Q4_1, 2, {0, 64}},
                                           {QD_FORMAT_I4, 3, {0, 3, 5}},
                                           {QD_FORMAT_A8, 4, {0, 1, 2, 32}}};
    static const qd_tensor_desc bad[] = {{QD_FORMAT_F32, 1, {0}},
                                         {QD_FORMAT_F32, 2, {0, 0}},
                                         {QD_FORMAT_F32, 3, {2, 0, 4}},
                                         {QD_FORMAT_F32, 3, {0, 0, 4}},
                                         {QD_FORMAT_Q4_1, 2, {0, 33}}};
    const float data[64] = {0};
    float byte = 7;
    qd_tensor *t, *v;
    qd_tensor *const unset = (qd_tensor *)&c;
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) {
        ck_assert_uint_eq(qd_desc_bytes(&empty[i]), 0);
        ck_ok(qd_tensor_create(c, &empty[i], &t));
        ck_assert_int_eq(qd_tensor_describe(t)->shape[0], 0);
        ck_ok(qd_tensor_write(t, 0, NULL, 0));
        ck_ok(qd_tensor_read(t, 0, NULL, 0));
        ck_fails(qd_tensor_write(t, 0, data, 1), QD_ERR_ARGUMENT, "outside");
        ck_fails(qd_tensor_read(t, 0, &byte, 1), QD_ERR_ARGUMENT, "outside");
        qd_tensor_free(t);
        t = unset;
        ck_fails(qd_tensor_constant(c, &empty[i], data, &t), QD_ERR_ARGUMENT, "constant");
        ck_assert_ptr_eq(t, unset);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_fails(qd_tensor_create(c, &bad[i], &t), QD_ERR_ARGUMENT, "shape");
        ck_assert_ptr_eq(t, unset);
    }
    ck_ok(qd_tensor_create(c, &empty[0], &t));
    ck_ok(qd_tensor_view(t, 1, 3, &v));
    qd_tensor_free(t);
    qd_tensor_free(v);
    ck_assert(byte == 7);
    qd_memory_info m;
    ck_ok(qd_context_memory(c, &m));
    ck_assert_uint_eq(m.used, 0);
    qd_context_free(c);
}
END_TEST

/* ---- Views -------------------------------------------------------------------------------------------------- */

START_TEST(test_view) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    enum { ROWS = 5, COLS = 70 };
    uint32_t rng = 3;
    float x[ROWS * COLS], want[ROWS * COLS];
    random_floats(&rng, x, ROWS * COLS);
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, ROWS, COLS, 0, 0);
    qd_tensor *t = tensor_with(c, d, x), *left, *right, *inner, *out;
    ck_ok(qd_tensor_view(t, 0, 40, &left));
    ck_ok(qd_tensor_view(t, 30, 40, &right));
    ck_ok(qd_tensor_view(right, 7, 33, &inner)); /* columns 37 … 69 of t */
    ck_assert_int_eq(qd_tensor_describe(inner)->shape[0], ROWS);
    ck_assert_int_eq(qd_tensor_describe(inner)->shape[1], 33);
    ck_assert_int_eq(qd_tensor_describe(t)->shape[1], COLS);
    const qd_tensor_desc small = qd_desc(QD_FORMAT_F32, ROWS, 33, 0, 0);
    ck_ok(qd_tensor_create(c, &small, &out));
    /* Into a view from views of the same tensor; and out of a view. */
    qd_tensor *l33;
    ck_ok(qd_tensor_view(left, 0, 33, &l33));
    qd_plan *into, *from;
    ck_ok(qd_plan_create(c, QD_OP_ADD, NULL, (qd_tensor *[]){inner, l33}, 2, &inner, 1, &into));
    ck_ok(qd_plan_create(c, QD_OP_ADD, NULL, (qd_tensor *[]){inner, inner}, 2, &out, 1, &from));
    ck_ok(qd_plan_run(into));
    ck_ok(qd_plan_run(from));
    memcpy(want, x, sizeof want);
    float doubled[ROWS * 33];
    for (int r = 0; r < ROWS; r++) {
        for (int i = 0; i < 33; i++) {
            want[r * COLS + 37 + i] += x[r * COLS + i];
            doubled[r * 33 + i] = 2 * want[r * COLS + 37 + i];
        }
    }
    ck_tensor(t, want, "the base");
    ck_tensor(out, doubled, "the sum of a view");
    qd_plan_free(into);
    qd_plan_free(from);
    /* The base lives on in its views, whatever the order. */
    qd_tensor_free(t);
    qd_tensor_free(right);
    qd_plan *late;
    ck_ok(qd_plan_create(c, QD_OP_ADD, NULL, (qd_tensor *[]){inner, inner}, 2, &out, 1, &late));
    ck_ok(qd_tensor_write(out, 0, x, 33 * 4));
    ck_ok(qd_plan_run(late));
    ck_tensor(out, doubled, "after the base was freed");
    qd_plan_free(late);
    qd_tensor_free(l33);
    qd_tensor_free(left);
    qd_tensor_free(inner);
    qd_tensor_free(out);
    qd_memory_info m;
    ck_ok(qd_context_memory(c, &m));
    ck_assert_uint_eq(m.used, 0);
    qd_context_free(c);
}
END_TEST

START_TEST(test_bad_views) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const float data[64] = {0};
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 4, 16, 0, 0), flat = qd_desc(QD_FORMAT_F32, 16, 0, 0, 0),
                         half = qd_desc(QD_FORMAT_F16, 4, 16, 0, 0);
    qd_tensor *t, *line, *halves, *constant;
    qd_tensor *const unset = (qd_tensor *)&c;
    qd_tensor *v = unset;
    ck_ok(qd_tensor_create(c, &d, &t));
    ck_ok(qd_tensor_create(c, &flat, &line));
    ck_ok(qd_tensor_create(c, &half, &halves));
    ck_ok(qd_tensor_constant(c, &d, data, &constant));
    static const int64_t bad[][2] = {{-1, 4}, {0, 0},  {0, -1},        {0, 17},
                                     {16, 1}, {15, 2}, {1, INT64_MAX}, {INT64_MAX, 1}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_fails(qd_tensor_view(t, bad[i][0], bad[i][1], &v), QD_ERR_ARGUMENT, "columns");
    ck_fails(qd_tensor_view(line, 0, 4, &v), QD_ERR_UNSUPPORTED, "two-dimensional");
    ck_fails(qd_tensor_view(halves, 0, 4, &v), QD_ERR_UNSUPPORTED, "f32");
    ck_fails(qd_tensor_view(constant, 0, 4, &v), QD_ERR_UNSUPPORTED, "constant");
    ck_fails(qd_tensor_view(NULL, 0, 4, &v), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_tensor_view(t, 0, 4, NULL), QD_ERR_ARGUMENT, "NULL");
    ck_assert_ptr_eq(v, unset);
    qd_tensor_free(t);
    qd_tensor_free(line);
    qd_tensor_free(halves);
    qd_tensor_free(constant);
    qd_context_free(c);
}
END_TEST

/* ---- Other shapes ------------------------------------------------------------------------------------------- */

/* The same bytes, whatever the shape; the memory stays as long as one of them. */
START_TEST(test_reshape) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    enum { COUNT = 48 };
    uint32_t rng = 11;
    float x[COUNT], doubled[COUNT];
    random_floats(&rng, x, COUNT);
    for (int i = 0; i < COUNT; i++)
        doubled[i] = 2 * x[i];
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 2, 3, 8, 0), flat = qd_desc(QD_FORMAT_F32, 4, 12, 0, 0),
                         line = qd_desc(QD_FORMAT_F32, 48, 0, 0, 0);
    qd_tensor *t = tensor_with(c, d, x), *rows, *again, *y, *y_rows;
    ck_ok(qd_tensor_create(c, &line, &y));
    ck_ok(qd_tensor_reshape(t, &flat, &rows));
    ck_ok(qd_tensor_reshape(rows, &flat, &again)); /* of one that is reshaped already */
    ck_ok(qd_tensor_reshape(y, &flat, &y_rows));
    ck_assert_mem_eq(qd_tensor_describe(rows)->shape, flat.shape, sizeof flat.shape);
    ck_assert_int_eq(qd_tensor_describe(rows)->rank, 2);
    qd_plan *plan, *late;
    ck_ok(qd_plan_create(c, QD_OP_ADD, NULL, (qd_tensor *[]){rows, again}, 2, &y_rows, 1, &plan));
    ck_ok(qd_plan_run(plan));
    ck_tensor(y, doubled, "through other shapes");
    qd_plan_free(plan);
    /* Two shapes of one memory: a result over an input, unless it is in place. */
    qd_plan *bad = NULL;
    ck_fails(qd_plan_create(c, QD_OP_SWIGLU, NULL, (qd_tensor *[]){rows, rows}, 2, &again, 1, &bad), QD_ERR_ARGUMENT,
             "over an input");
    ck_assert_ptr_null(bad);
    qd_tensor_free(t);
    qd_tensor_free(rows);
    ck_ok(qd_plan_create(c, QD_OP_ADD, NULL, (qd_tensor *[]){again, again}, 2, &again, 1, &late));
    ck_ok(qd_plan_run(late));
    ck_ok(qd_plan_create(c, QD_OP_ADD, NULL, (qd_tensor *[]){again, again}, 2, &y_rows, 1, &plan));
    ck_ok(qd_plan_run(plan));
    for (int i = 0; i < COUNT; i++)
        doubled[i] = 4 * x[i];
    ck_tensor(y, doubled, "after the first owner went");
    qd_plan_free(plan);
    qd_plan_free(late);
    qd_tensor *const all[] = {again, y_rows, y};
    for (int i = 0; i < 3; i++)
        qd_tensor_free(all[i]);
    qd_memory_info m;
    ck_ok(qd_context_memory(c, &m));
    ck_assert_uint_eq(m.used, 0);
    qd_context_free(c);
}
END_TEST

START_TEST(test_bad_reshapes) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const float data[64] = {0};
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 4, 12, 0, 0), codes = qd_desc(QD_FORMAT_I4, 4, 6, 0, 0),
                         same = qd_desc(QD_FORMAT_F32, 6, 8, 0, 0);
    qd_tensor *t, *packed, *constant, *view;
    qd_tensor *const unset = (qd_tensor *)&c;
    qd_tensor *r = unset;
    ck_ok(qd_tensor_create(c, &d, &t));
    ck_ok(qd_tensor_create(c, &codes, &packed));
    ck_ok(qd_tensor_constant(c, &d, data, &constant));
    ck_ok(qd_tensor_view(t, 0, 6, &view));
    static const qd_tensor_desc bad[] = {
        {QD_FORMAT_F32, 2, {4, 11}},       {QD_FORMAT_F32, 2, {5, 12}}, {QD_FORMAT_I32, 2, {4, 12}},
        {QD_FORMAT_F32, 0, {48}},          {QD_FORMAT_F32, 5, {48}},    {QD_FORMAT_F32, 2, {-4, -12}},
        {QD_FORMAT_F32, 2, {QD_ROWS, 12}}, {QD_FORMAT_F32, 2, {48, 0}}, {QD_FORMAT_F32, 3, {INT64_MAX, 4, 12}},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_fails(qd_tensor_reshape(t, &bad[i], &r), QD_ERR_ARGUMENT, "reshape");
    /* Rows of packed codes begin at bytes. */
    const qd_tensor_desc odd = qd_desc(QD_FORMAT_I4, 8, 3, 0, 0), even = qd_desc(QD_FORMAT_I4, 6, 4, 0, 0),
                         more = qd_desc(QD_FORMAT_I4, 4, 5, 0, 0);
    ck_fails(qd_tensor_reshape(packed, &odd, &r), QD_ERR_ARGUMENT, "reshape");
    ck_fails(qd_tensor_reshape(packed, &more, &r), QD_ERR_ARGUMENT, "reshape"); /* as many bytes, but not codes */
    ck_fails(qd_tensor_reshape(constant, &same, &r), QD_ERR_UNSUPPORTED, "constant");
    ck_fails(qd_tensor_reshape(view, &same, &r), QD_ERR_UNSUPPORTED, "view");
    ck_fails(qd_tensor_reshape(NULL, &same, &r), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_tensor_reshape(t, NULL, &r), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_tensor_reshape(t, &same, NULL), QD_ERR_ARGUMENT, "NULL");
    ck_assert_ptr_eq(r, unset);
    ck_ok(qd_tensor_reshape(packed, &even, &r));
    qd_tensor_free(r);
    ck_ok(qd_tensor_reshape(t, &same, &r));
    qd_tensor *v = unset;
    ck_fails(qd_tensor_view(r, 0, 4, &v), QD_ERR_UNSUPPORTED, "reshaped");
    ck_assert_ptr_eq(v, unset);
    qd_tensor *const all[] = {r, view, constant, packed, t};
    for (int i = 0; i < 5; i++)
        qd_tensor_free(all[i]);
    qd_context_free(c);
}
END_TEST

/* ---- Stacks ------------------------------------------------------------------------------------------------- */

/* A stack's matmul is that of one constant with the same rows, wherever the seams are, and whichever layout is used. */
START_TEST(test_stack) {
    enum { R = 3, K = 64, MAX_PARTS = 5 };
    static const int64_t rows[][MAX_PARTS] = {{16, 32, 16}, {48},     {1, 1, 1, 1, 1}, {16, 7, 32},
                                              {5, 16, 16},  {17, 15}, {16, 16, 3},     {33, 40, 2}};
    static const qd_format formats[] = {QD_FORMAT_Q4_1, QD_FORMAT_Q4_0, QD_FORMAT_Q8_0, QD_FORMAT_F16};
    for (int max_alloc = 0; max_alloc < 2; max_alloc++) {
        qd_context_options o = {.max_alloc = max_alloc ? 65536 : 0};
        qd_context *c = open_device(_i, &o);
        if (!c) return;
        uint32_t rng = 5;
        float x[R * K];
        random_floats(&rng, x, R * K);
        const qd_tensor_desc dx = qd_desc(QD_FORMAT_F32, R, K, 0, 0), dq = qd_desc(QD_FORMAT_A8, R, K, 0, 0);
        unsigned char quantized[R * K * 4];
        ck_ok(qd_quantize(QD_FORMAT_A8, x, R, K, quantized));
        qd_tensor *tx = tensor_with(c, dx, x), *tq = tensor_with(c, dq, quantized);
        for (size_t s = 0; s < sizeof rows / sizeof rows[0]; s++) {
            const qd_format f = formats[s % (sizeof formats / sizeof formats[0])];
            int n = 0;
            int64_t N = 0;
            while (n < MAX_PARTS && rows[s][n])
                N += rows[s][n++];
            const qd_tensor_desc dw = qd_desc(f, N, K, 0, 0), dy = qd_desc(QD_FORMAT_F32, R, N, 0, 0);
            unsigned char *w = random_data(&rng, &dw);
            /* The parts are apart in memory, and not in order. */
            void *copy[MAX_PARTS];
            qd_tensor *part[MAX_PARTS], *stack, *whole, *y, *z;
            size_t at = 0;
            for (int i = 0; i < n; i++) {
                const qd_tensor_desc dp = qd_desc(f, rows[s][i], K, 0, 0);
                copy[i] = malloc(qd_desc_bytes(&dp));
                ck_assert_ptr_nonnull(copy[i]);
                memcpy(copy[i], w + at, qd_desc_bytes(&dp));
                at += qd_desc_bytes(&dp);
                ck_ok(qd_tensor_constant(c, &dp, copy[i], &part[i]));
            }
            ck_ok(qd_tensor_stack(c, part, n, &stack));
            for (int i = 0; i < n; i++)
                qd_tensor_free(part[i]); /* only their data is borrowed */
            ck_assert_int_eq(qd_tensor_describe(stack)->shape[0], N);
            ck_ok(qd_tensor_constant(c, &dw, w, &whole));
            ck_ok(qd_tensor_create(c, &dy, &y));
            ck_ok(qd_tensor_create(c, &dy, &z));
            float *want = malloc(qd_desc_bytes(&dy));
            ck_assert_ptr_nonnull(want);
            for (int activations = f == QD_FORMAT_F16; activations < 2; activations++) {
                qd_tensor *in = activations ? tx : tq;
                qd_plan *p, *q;
                ck_ok(qd_plan_create(c, QD_OP_MATMUL, NULL, (qd_tensor *[]){stack, in}, 2, &y, 1, &p));
                ck_ok(qd_plan_create(c, QD_OP_MATMUL, NULL, (qd_tensor *[]){whole, in}, 2, &z, 1, &q));
                ck_ok(qd_plan_run(p));
                ck_ok(qd_plan_run(q));
                ck_ok(qd_tensor_read(z, 0, want, qd_desc_bytes(&dy)));
                ck_tensor(y, want, "a stack");
                qd_plan_free(p);
                qd_plan_free(q);
            }
            qd_tensor *rest[] = {stack, whole, y, z};
            for (int i = 0; i < 4; i++)
                qd_tensor_free(rest[i]);
            for (int i = 0; i < n; i++)
                free(copy[i]);
            free(want);
            free(w);
        }
        qd_tensor_free(tx);
        qd_tensor_free(tq);
        qd_context_free(c);
    }
}
END_TEST

START_TEST(test_bad_stacks) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const unsigned char data[4096] = {0};
    const qd_tensor_desc d = qd_desc(QD_FORMAT_Q8_0, 4, 32, 0, 0), wide = qd_desc(QD_FORMAT_Q8_0, 4, 64, 0, 0),
                         other = qd_desc(QD_FORMAT_Q4_1, 4, 32, 0, 0), flat = qd_desc(QD_FORMAT_Q8_0, 32, 0, 0, 0),
                         plain = qd_desc(QD_FORMAT_F32, 4, 32, 0, 0),
                         huge = qd_desc(QD_FORMAT_F16, INT64_C(1) << 61, 1, 0, 0);
    qd_tensor *w, *w_wide, *w_other, *w_flat, *memory, *w_huge, *stack;
    qd_tensor *const unset = (qd_tensor *)&c;
    qd_tensor *t = unset;
    ck_ok(qd_tensor_constant(c, &d, data, &w));
    ck_ok(qd_tensor_constant(c, &wide, data, &w_wide));
    ck_ok(qd_tensor_constant(c, &other, data, &w_other));
    ck_ok(qd_tensor_constant(c, &flat, data, &w_flat));
    ck_ok(qd_tensor_constant(c, &huge, data, &w_huge));
    ck_ok(qd_tensor_create(c, &plain, &memory));
    ck_ok(qd_tensor_stack(c, &w, 1, &stack));
    qd_tensor *const bad[] = {w_wide, w_other, w_flat, memory, stack, NULL};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_fails(qd_tensor_stack(c, (qd_tensor *[]){w, w, bad[i]}, 3, &t), QD_ERR_ARGUMENT, "part 2");
    ck_fails(qd_tensor_stack(c, &w, 0, &t), QD_ERR_ARGUMENT, "at least one");
    ck_fails(qd_tensor_stack(c, &w, -1, &t), QD_ERR_ARGUMENT, "at least one");
    ck_fails(qd_tensor_stack(c, NULL, 1, &t), QD_ERR_ARGUMENT, "at least one");
    ck_fails(qd_tensor_stack(NULL, &w, 1, &t), QD_ERR_ARGUMENT, "context");
    ck_fails(qd_tensor_stack(c, &w, 1, NULL), QD_ERR_ARGUMENT, "result");
    /* Rows whose sum is no int64: whoever adds them up must notice. */
    ck_fails(qd_tensor_stack(c, (qd_tensor *[]){w_huge, w_huge, w_huge, w_huge, w_huge}, 5, &t), QD_ERR_ARGUMENT, "");
    ck_assert_ptr_eq(t, unset);
    qd_tensor *const all[] = {w, w_wide, w_other, w_flat, memory, w_huge, stack};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        qd_tensor_free(all[i]);
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("tensor");
    tcase_add_test(tc, test_desc);
    tcase_add_test(tc, test_desc_bytes);
    tcase_add_loop_test(tc, test_zeros, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_transfers, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_bad_transfers, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_graph_tensor_is_private, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_bad_creation, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_no_rows, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_reshape, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_bad_reshapes, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_view, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_bad_views, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_stack, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_bad_stacks, 0, TEST_DEVICES);
    return run_tests(tc, "tensor");
}
