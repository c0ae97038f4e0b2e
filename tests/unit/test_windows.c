/* Windows: other tensors in a tensor's memory; what operators see through them, what they order, what is refused. */
#include <math.h>

#include "unit/devices.h"

enum { FLOATS = 96 };

/* FLOATS floats, element i being i, as bytes that windows divide. */
static qd_tensor *memory_with_counts(qd_context *c) {
    float values[FLOATS];
    for (int i = 0; i < FLOATS; i++)
        values[i] = (float)i;
    return tensor_with(c, qd_desc(QD_FORMAT_I8, 1, sizeof values, 0, 0), values);
}

static qd_tensor *window(qd_tensor *t, size_t offset, qd_tensor_desc d, const int64_t *steps) {
    qd_tensor *w;
    ck_ok(qd_tensor_window(t, offset, &d, steps, &w));
    return w;
}

static void run_plan(qd_context *c, qd_op op, const qd_attrs *attrs, qd_tensor *const in[], int n_in, qd_tensor *out) {
    qd_plan *plan;
    ck_ok(qd_plan_create(c, op, attrs, in, n_in, &out, 1, &plan));
    ck_ok(qd_plan_run(plan));
    qd_plan_free(plan);
}

static float number_at(qd_tensor *t, int i) {
    float x;
    ck_ok(qd_tensor_read(t, (size_t)i * sizeof x, &x, sizeof x));
    return x;
}

/* ---- What operators see ------------------------------------------------------------------------------------- */

/* Rows apart on both sides, and what lies between them stays. */
START_TEST(test_rows_apart) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    qd_tensor *m = memory_with_counts(c);
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 3, 4, 0, 0);
    const int64_t five[] = {20, 4}, seven[] = {28, 4};
    qd_tensor *a = window(m, 0, d, five), *b = window(m, 4, d, five), *y = window(m, 160, d, seven);
    run_plan(c, QD_OP_ADD, NULL, (qd_tensor *[]){a, b}, 2, y);
    for (int r = 0; r < 3; r++) {
        for (int i = 0; i < 7; i++) {
            const int at = 40 + 7 * r + i;
            if (at >= 40 + 2 * 7 + 4) break;
            ck_assert_float_eq(number_at(m, at), i < 4 ? (float)(2 * (5 * r + i) + 1) : (float)at);
        }
    }
    ck_assert_float_eq(number_at(m, 39), 39);
    ck_assert_float_eq(number_at(m, 58), 58);
    qd_tensor_free(m); /* its memory is the windows', too */
    run_plan(c, QD_OP_ADD, NULL, (qd_tensor *[]){a, a}, 2, a);
    qd_tensor_free(a);
    qd_tensor_free(b);
    qd_tensor_free(y);
    qd_context_free(c);
}
END_TEST

/* Columns side by side have no bytes in common, though their rows lie between each other's. */
START_TEST(test_columns) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    qd_tensor *m = memory_with_counts(c);
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 3, 4, 0, 0);
    const int64_t twelve[] = {48, 4};
    qd_tensor *a = window(m, 0, d, twelve), *b = window(m, 16, d, twelve), *y = window(m, 32, d, twelve),
              *near = window(m, 28, d, twelve);
    run_plan(c, QD_OP_ADD, NULL, (qd_tensor *[]){a, b}, 2, y);
    for (int i = 0; i < 36; i++) {
        const int r = i / 12, k = i % 12 - 8;
        ck_assert_float_eq(number_at(m, i), k < 0 ? (float)i : (float)(2 * (12 * r + k) + 4));
    }
    qd_plan *p;
    ck_fails(qd_plan_create(c, QD_OP_ADD, NULL, (qd_tensor *[]){a, b}, 2, &near, 1, &p), QD_ERR_ARGUMENT,
             "written over an input");
    qd_tensor *all[] = {a, b, y, near, m};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        qd_tensor_free(all[i]);
    qd_context_free(c);
}
END_TEST

/* Another format over the same bytes, and dimensions of size 1 with any step. */
START_TEST(test_formats) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    qd_tensor *m = memory_with_counts(c);
    const int32_t ids[] = {2, 0};
    ck_ok(qd_tensor_write(m, 320, ids, sizeof ids));
    const int64_t steps[] = {40, 4};
    qd_tensor *table = window(m, 0, qd_desc(QD_FORMAT_F32, 3, 8, 0, 0), steps);
    qd_tensor *at = window(m, 320, qd_desc(QD_FORMAT_I32, 2, 0, 0, 0), NULL);
    qd_tensor *y = window(m, 160, qd_desc(QD_FORMAT_F32, 2, 8, 0, 0), NULL);
    run_plan(c, QD_OP_GET_ROWS, NULL, (qd_tensor *[]){table, at}, 2, y);
    for (int i = 0; i < 16; i++)
        ck_assert_float_eq(number_at(m, 40 + i), (float)(i < 8 ? 20 + i : i - 8));
    qd_tensor_free(table);
    qd_tensor_free(at);
    qd_tensor_free(y);
    /* [2,1,8]: rows are 48 bytes apart, whatever the middle step says. */
    const int64_t odd[] = {48, 12, 4};
    qd_tensor *x = window(m, 0, qd_desc(QD_FORMAT_F32, 2, 1, 8, 0), odd);
    qd_tensor *z = window(m, 160, qd_desc(QD_FORMAT_F32, 2, 1, 8, 0), NULL);
    run_plan(c, QD_OP_CONCAT, &(qd_attrs){.concat = {0}}, &x, 1, z);
    for (int i = 0; i < 16; i++)
        ck_assert_float_eq(number_at(m, 40 + i), (float)(i < 8 ? i : 12 + i - 8));
    qd_tensor_free(x);
    qd_tensor_free(z);
    qd_tensor_free(m);
    qd_context_free(c);
}
END_TEST

/* Operators of a graph that meet only in the bytes of one memory run in their order: each adds what the one before
 * made, also on a queue that may change it. */
START_TEST(test_graph_order) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    enum { STEPS = 24 };
    qd_tensor *m = memory_with_counts(c), *w[3];
    for (int i = 0; i < 3; i++)
        w[i] = window(m, (size_t)i * 16, qd_desc(QD_FORMAT_F32, 1, 8, 0, 0), NULL); /* each meets its neighbours */
    qd_tensor *y = window(m, 192, qd_desc(QD_FORMAT_F32, 1, 8, 0, 0), NULL);
    qd_graph *g;
    ck_ok(qd_graph_create(c, 1, &g));
    float want[FLOATS];
    for (int i = 0; i < FLOATS; i++)
        want[i] = (float)i;
    for (int s = 0; s < STEPS; s++) {
        qd_tensor *x = w[s % 3];
        ck_ok(qd_graph_add(g, QD_OP_ADD, NULL, (qd_tensor *[]){x, y}, 2, &x, 1)); /* in place */
        ck_ok(qd_graph_add(g, QD_OP_RMS_NORM, &(qd_attrs){.rms_norm = {1e-5f}}, &x, 1, &y, 1));
        float sum[16] = {0};
        float *v = want + s % 3 * 4, *n = want + 48;
        for (int i = 0; i < 8; i++) {
            v[i] += n[i];
            sum[i] = v[i] * v[i];
        }
        for (int half = 8; half; half /= 2) {
            for (int i = 0; i < half; i++)
                sum[i] += sum[i + half];
        }
        const float scale = 1.0f / sqrtf(sum[0] / 8.0f + 1e-5f);
        for (int i = 0; i < 8; i++)
            n[i] = v[i] * scale;
    }
    ck_ok(qd_graph_compile(g, NULL, NULL));
    ck_ok(qd_graph_run(g, 1));
    ck_tensor(m, want, "the memory after all steps");
    qd_graph_free(g);
    for (int i = 0; i < 3; i++)
        qd_tensor_free(w[i]);
    qd_tensor_free(y);
    qd_tensor_free(m);
    qd_context_free(c);
}
END_TEST

/* ---- What is refused ---------------------------------------------------------------------------------------- */

START_TEST(test_refused) {
    qd_context *c = open_device(0, NULL);
    qd_tensor *m = memory_with_counts(c), *w = NULL, *constant;
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 3, 4, 0, 0), blocks = qd_desc(QD_FORMAT_Q8_0, 1, 64, 0, 0);
    static const float data[12];
    ck_ok(qd_tensor_constant(c, &d, data, &constant));
    ck_fails(qd_tensor_window(NULL, 0, &d, NULL, &w), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_tensor_window(m, 0, NULL, NULL, &w), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_tensor_window(m, 0, &d, NULL, NULL), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_tensor_window(constant, 0, &d, NULL, &w), QD_ERR_UNSUPPORTED, "no bytes of their own");
    ck_fails(qd_tensor_window(m, 0, &(qd_tensor_desc){QD_FORMAT_F32, 2, {0, 4}}, NULL, &w), QD_ERR_ARGUMENT, "shape");
    ck_fails(qd_tensor_window(m, 340, &d, NULL, &w), QD_ERR_ARGUMENT, "not inside");
    ck_fails(qd_tensor_window(m, SIZE_MAX - 3, &d, NULL, &w), QD_ERR_ARGUMENT, "not inside");
    ck_fails(qd_tensor_window(m, 2, &d, NULL, &w), QD_ERR_ARGUMENT, "multiples of the 4 bytes");
    ck_fails(qd_tensor_window(m, 0, &d, (int64_t[]){18, 4}, &w), QD_ERR_ARGUMENT, "multiples of the 4 bytes");
    ck_fails(qd_tensor_window(m, 0, &d, (int64_t[]){-16, 4}, &w), QD_ERR_ARGUMENT, "negative");
    ck_fails(qd_tensor_window(m, 0, &d, (int64_t[]){INT64_MAX / 4 * 4, 4}, &w), QD_ERR_ARGUMENT, "too far");
    ck_fails(qd_tensor_window(m, 0, &d, (int64_t[]){200, 4}, &w), QD_ERR_ARGUMENT, "not inside");
    ck_fails(qd_tensor_window(m, 0, &blocks, (int64_t[]){68, 36}, &w), QD_ERR_ARGUMENT, "34 bytes of its blocks");
    ck_assert_ptr_null(w);
    ck_ok(qd_tensor_window(m, 0, &d, NULL, &w));
    char byte;
    ck_fails(qd_tensor_read(w, 0, &byte, 1), QD_ERR_UNSUPPORTED, "no bytes of their own");
    qd_tensor *v;
    ck_fails(qd_tensor_window(w, 0, &d, NULL, &v), QD_ERR_UNSUPPORTED, "no bytes of their own");
    ck_fails(qd_tensor_view(w, 0, 1, &v), QD_ERR_UNSUPPORTED, "view needs");
    /* The last whole row that fits, and not a byte more. */
    qd_tensor *last;
    ck_ok(qd_tensor_window(m, 336, &d, NULL, &last));
    qd_tensor_free(last);
    qd_tensor_free(w);
    qd_tensor_free(constant);
    qd_tensor_free(m);
    qd_context_free(c);
}
END_TEST

/* Operators that know only rows refuse other orders; none takes a result whose elements share bytes. */
START_TEST(test_refused_by_operators) {
    qd_context *c = open_device(0, NULL);
    qd_tensor *m = memory_with_counts(c);
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 3, 4, 0, 0), deep = qd_desc(QD_FORMAT_F32, 2, 2, 4, 0);
    qd_tensor *turned = window(m, 0, d, (int64_t[]){4, 12}), *same = window(m, 0, d, (int64_t[]){0, 4}),
              *x = window(m, 128, d, NULL), *y = window(m, 192, d, NULL),
              *uneven = window(m, 0, deep, (int64_t[]){48, 16, 4}), *even = window(m, 192, deep, NULL);
    qd_plan *p;
    ck_fails(qd_plan_create(c, QD_OP_ADD, NULL, (qd_tensor *[]){turned, x}, 2, &y, 1, &p), QD_ERR_UNSUPPORTED,
             "COPY them to a dense tensor");
    ck_fails(qd_plan_create(c, QD_OP_ADD, NULL, (qd_tensor *[]){x, x}, 2, &turned, 1, &p), QD_ERR_UNSUPPORTED,
             "COPY them to a dense tensor");
    ck_fails(qd_plan_create(c, QD_OP_CONCAT, &(qd_attrs){.concat = {0}}, &uneven, 1, &even, 1, &p), QD_ERR_UNSUPPORTED,
             "COPY them to a dense tensor");
    ck_fails(qd_plan_create(c, QD_OP_ADD, NULL, (qd_tensor *[]){x, x}, 2, &same, 1, &p), QD_ERR_ARGUMENT,
             "share their memory");
    /* An input's place may be taken as a whole; bytes in common otherwise are refused. */
    qd_tensor *near = window(m, 144, d, NULL);
    ck_fails(qd_plan_create(c, QD_OP_ADD, NULL, (qd_tensor *[]){x, y}, 2, &near, 1, &p), QD_ERR_ARGUMENT,
             "written over an input");
    run_plan(c, QD_OP_ADD, NULL, (qd_tensor *[]){same, x}, 2, y); /* one row again and again: an input may */
    for (int i = 0; i < 12; i++)
        ck_assert_float_eq(number_at(m, 48 + i), (float)(i % 4 + 32 + i));
    qd_tensor *all[] = {turned, same, x, y, uneven, even, near, m};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        qd_tensor_free(all[i]);
    qd_context_free(c);
}
END_TEST

/* ---- Rope and norm ------------------------------------------------------------------------------------------ */

/* Zero points of rows of w, of which each row has one, in a column of wider rows. */
START_TEST(test_zero_points_apart) {
    enum { N = 40, K = 8, WIDE = 3 };
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    const int64_t steps[] = {WIDE * sizeof(int32_t), sizeof(int32_t)};
    const qd_tensor_desc dw = qd_desc(QD_FORMAT_I8, N, K, 0, 0), ds = qd_desc(QD_FORMAT_F32, 1, 1, 0, 0),
                         dx = qd_desc(QD_FORMAT_U8, 1, K, 0, 0), dy = qd_desc(QD_FORMAT_F32, 1, N, 0, 0);
    static int8_t w[N][K]; /* zeros */
    static const uint8_t x[K] = {1, 2, 3, 4, 5, 6, 7, 8};
    const float one = 1;
    int32_t zeros[N][WIDE];
    for (int i = 0; i < N * WIDE; i++)
        zeros[i / WIDE][i % WIDE] = i - 60;
    qd_tensor *tw, *ts, *y, *tx = tensor_with(c, dx, x);
    qd_tensor *all = tensor_with(c, qd_desc(QD_FORMAT_I32, N, WIDE, 0, 0), zeros);
    qd_tensor *zero = window(all, 0, qd_desc(QD_FORMAT_I32, N, 1, 0, 0), steps);
    ck_ok(qd_tensor_constant(c, &dw, w, &tw));
    ck_ok(qd_tensor_constant(c, &ds, &one, &ts));
    ck_ok(qd_tensor_create(c, &dy, &y));
    run_plan(c, QD_OP_MATMUL_GROUP, &(qd_attrs){0}, (qd_tensor *[]){tw, ts, tx, zero}, 4, y);
    for (int i = 0; i < N; i++)
        ck_assert_float_eq(number_at(y, i), (float)(-36 * zeros[i][0]));
    qd_tensor *made[] = {tw, ts, y, tx, all, zero};
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++)
        qd_tensor_free(made[i]);
    qd_context_free(c);
}
END_TEST

/* Rows of numbers that kernels read one behind the other may not be apart. */
START_TEST(test_rows_that_must_be_dense) {
    enum { N = 3, K = 8 };
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    static const int32_t numbers[N][4] = {{1}};
    static const uint8_t codes[N][K] = {{1}};
    const int64_t steps[] = {4 * sizeof(int32_t), sizeof(int32_t)};
    qd_tensor *all = tensor_with(c, qd_desc(QD_FORMAT_I32, N, 4, 0, 0), numbers), *y, *sums;
    qd_tensor *requant = window(all, 0, qd_desc(QD_FORMAT_I32, N, 2, 0, 0), steps);
    qd_tensor *w = tensor_with(c, qd_desc(QD_FORMAT_U8, N, K, 0, 0), codes);
    qd_tensor *x = tensor_with(c, qd_desc(QD_FORMAT_U8, N, K, 0, 0), codes);
    const qd_tensor_desc dy = qd_desc(QD_FORMAT_U8, N, N, 0, 0), ds = qd_desc(QD_FORMAT_I32, N, N, 0, 0);
    ck_ok(qd_tensor_create(c, &dy, &y));
    ck_ok(qd_tensor_create(c, &ds, &sums));
    qd_plan *p;
    const qd_attrs attrs = {.matmul_int = {.y = {.max = 255}}};
    ck_fails(
        qd_plan_create(c, QD_OP_MATMUL_INT, &attrs, (qd_tensor *[]){w, x, NULL, NULL, NULL, requant}, 6, &y, 1, &p),
        QD_ERR_UNSUPPORTED, "requant must lie one behind the other; COPY");
    ck_fails(qd_plan_create(c, QD_OP_REQUANTIZE, &attrs, (qd_tensor *[]){sums, requant}, 2, &y, 1, &p),
             QD_ERR_UNSUPPORTED, "requant must lie one behind the other; COPY");
    qd_tensor *made[] = {all, requant, w, x, y, sums};
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++)
        qd_tensor_free(made[i]);
    qd_context_free(c);
}
END_TEST

/* A position for each row; only the first elements of each head turned. cos and sin of position p are p and 1. */
START_TEST(test_rope_positions) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    const float x[] = {1, 2, 3, 4, 5, 6, 7, 8}, table[] = {0, 1, 1, 1, 2, 1};
    const int32_t positions[] = {2, 0};
    const float want[] = {1 * 2 - 2 * 1, 1 * 1 + 2 * 2, 3, 4, -6, 5, 7, 8};
    qd_tensor *tx = tensor_with(c, qd_desc(QD_FORMAT_F32, 2, 4, 0, 0), x),
              *tt = tensor_with(c, qd_desc(QD_FORMAT_F32, 3, 2, 0, 0), table),
              *tp = tensor_with(c, qd_desc(QD_FORMAT_I32, 2, 0, 0, 0), positions);
    const qd_attrs attrs = {.rope = {.heads = 1, .head_dim = 4, .dims = 2}};
    run_plan(c, QD_OP_ROPE, &attrs, (qd_tensor *[]){tx, tt, tp}, 3, tx);
    ck_tensor(tx, want, "turned in place");
    qd_plan *p;
    const qd_attrs odd = {.rope = {.heads = 1, .head_dim = 4, .dims = 3}},
                   wide = {.rope = {.heads = 1, .head_dim = 4, .dims = 6}};
    ck_fails(qd_plan_create(c, QD_OP_ROPE, &odd, (qd_tensor *[]){tx, tt, tp}, 3, &tx, 1, &p), QD_ERR_ARGUMENT, "2");
    ck_fails(qd_plan_create(c, QD_OP_ROPE, &wide, (qd_tensor *[]){tx, tt, tp}, 3, &tx, 1, &p), QD_ERR_ARGUMENT, "6");
    qd_tensor_free(tx);
    qd_tensor_free(tt);
    qd_tensor_free(tp);
    qd_context_free(c);
}
END_TEST

/* Without weights: those of ones. */
START_TEST(test_norm_without_weight) {
    qd_context *c = open_device(_i, NULL);
    if (!c) return;
    enum { COLS = 37 };
    float x[2 * COLS], ones[COLS];
    uint32_t seed = 3;
    for (int i = 0; i < 2 * COLS; i++)
        x[i] = (float)random_bits(&seed) * 1e-6f - 8;
    for (int i = 0; i < COLS; i++)
        ones[i] = 1;
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, 2, COLS, 0, 0);
    qd_tensor *tx = tensor_with(c, d, x), *tw = tensor_with(c, qd_desc(QD_FORMAT_F32, COLS, 0, 0, 0), ones), *y;
    const qd_attrs attrs = {.rms_norm = {1e-5f}};
    ck_ok(qd_tensor_create(c, &d, &y));
    run_plan(c, QD_OP_RMS_NORM, &attrs, (qd_tensor *[]){tx, tw}, 2, y);
    float want[2 * COLS];
    ck_ok(qd_tensor_read(y, 0, want, sizeof want));
    run_plan(c, QD_OP_RMS_NORM, &attrs, &tx, 1, tx);
    ck_tensor(tx, want, "in place, without weight");
    ck_assert_float_ne(want[0], x[0]);
    qd_tensor_free(tx);
    qd_tensor_free(tw);
    qd_tensor_free(y);
    qd_context_free(c);
}
END_TEST

int main(void) {
    Suite *s = suite_create("windows");
    TCase *t = tcase_create("windows");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, test_rows_apart, 0, TEST_DEVICES);
    tcase_add_loop_test(t, test_columns, 0, TEST_DEVICES);
    tcase_add_loop_test(t, test_formats, 0, TEST_DEVICES);
    tcase_add_loop_test(t, test_graph_order, 0, TEST_DEVICES);
    tcase_add_test(t, test_refused);
    tcase_add_test(t, test_refused_by_operators);
    tcase_add_loop_test(t, test_zero_points_apart, 0, TEST_DEVICES);
    tcase_add_loop_test(t, test_rows_that_must_be_dense, 0, TEST_DEVICES);
    tcase_add_loop_test(t, test_rope_positions, 0, TEST_DEVICES);
    tcase_add_loop_test(t, test_norm_without_weight, 0, TEST_DEVICES);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
