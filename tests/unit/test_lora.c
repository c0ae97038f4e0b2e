/* LORA: values computed by numpy, the sums of MATMUL, a result in the place of y0, and what is refused. */
#include "qdot/qdot_num.h"
#include "unit/lora_values.h"
#include "unit/one_op.h"

#define F32(...) qd_desc(QD_FORMAT_F32, __VA_ARGS__)
#define BF16(...) qd_desc(QD_FORMAT_BF16, __VA_ARGS__)

/* Opens device _i, or ends the test where there is none. */
#define WITH_DEVICE(c)                     \
    qd_context *c = open_device(_i, NULL); \
    if (!c) return

static const one_op from_numpy = {
    .op = QD_OP_LORA,
    .in = {{QD_FORMAT_F32, 2, {LORA_R, LORA_K}},
           {QD_FORMAT_BF16, 2, {LORA_L, LORA_K}},
           {QD_FORMAT_BF16, 2, {LORA_N, LORA_L}},
           {QD_FORMAT_F32, 2, {LORA_R, LORA_N}}},
    .out = {QD_FORMAT_F32, 2, {LORA_R, LORA_N}},
    .data = {lora_x, lora_a, lora_b, lora_y0},
};

START_TEST(test_values) {
    WITH_DEVICE(c);
    one_op o = from_numpy;
    o.attrs.lora.scale = lora_scale;
    one_op_gives(c, &o, lora_y, "numpy's values");
    /* Nothing is added: every bit of y0 stays. */
    o.attrs.lora.scale = 0;
    one_op_gives(c, &o, lora_y0, "scale 0");
    qd_context_free(c);
}
END_TEST

START_TEST(test_in_place) {
    WITH_DEVICE(c);
    qd_tensor *t[4], *wide, *y;
    const int columns = LORA_N + 5;
    float *rows = calloc((size_t)(LORA_R * columns), sizeof *rows);
    ck_assert_ptr_nonnull(rows);
    for (int r = 0; r < LORA_R; r++)
        memcpy(rows + r * columns + 3, lora_y0 + r * LORA_N, LORA_N * sizeof *rows);
    for (int i = 0; i < 3; i++) {
        ck_ok(qd_tensor_create(c, &from_numpy.in[i], &t[i]));
        ck_ok(qd_tensor_write(t[i], 0, from_numpy.data[i], qd_desc_bytes(&from_numpy.in[i])));
    }
    const qd_tensor_desc d = F32(LORA_R, columns, 0, 0);
    ck_ok(qd_tensor_create(c, &d, &wide));
    ck_ok(qd_tensor_write(wide, 0, rows, qd_desc_bytes(&d)));
    ck_ok(qd_tensor_view(wide, 3, LORA_N, &y));
    t[3] = y;
    qd_plan *plan;
    ck_ok(qd_plan_create(c, QD_OP_LORA, &(qd_attrs){.lora = {lora_scale}}, t, 4, &y, 1, &plan));
    ck_ok(qd_plan_run(plan));
    ck_ok(qd_tensor_read(wide, 0, rows, qd_desc_bytes(&d)));
    for (int r = 0; r < LORA_R; r++) {
        ck_assert_mem_eq(rows + r * columns + 3, lora_y + r * LORA_N, LORA_N * sizeof *rows);
        for (int i = 0; i < columns; i++)
            if (i < 3 || i >= 3 + LORA_N) ck_assert(rows[r * columns + i] == 0);
    }
    qd_plan_free(plan);
    for (int i = 0; i < 4; i++)
        qd_tensor_free(t[i]);
    qd_tensor_free(wide);
    free(rows);
    qd_context_free(c);
}
END_TEST

/* Two products of MATMUL with bf16 weights, with roundings between them: the order of sums is that one. More columns
 * than a unit of work has, and a rank that fills several vectors. */
START_TEST(test_sums) {
    enum { R = 6, K = 301, L = 40, N = 330 };
    static float x[R * K], zeros[R * N], low[R * L], want[R * N], y[R * N];
    static uint16_t a[L * K], b[N * L];
    WITH_DEVICE(c);
    uint32_t rng = 5;
    for (int i = 0; i < R * K; i++)
        x[i] = qd_bf16_to_float(qd_float_to_bf16((float)random_between(&rng, -1000, 1000) * 0.0071f));
    for (int i = 0; i < L * K; i++)
        a[i] = qd_float_to_bf16((float)random_between(&rng, -1000, 1000) * 0.0013f);
    for (int i = 0; i < N * L; i++)
        b[i] = qd_float_to_bf16((float)random_between(&rng, -1000, 1000) * 0.0017f);
    const one_op down = {
        .op = QD_OP_MATMUL, .in = {BF16(L, K, 0, 0), F32(R, K, 0, 0)}, .out = F32(R, L, 0, 0), .data = {a, x}};
    ck_ok(one_op_run(c, &down, low));
    for (int i = 0; i < R * L; i++)
        low[i] = qd_bf16_to_float(qd_float_to_bf16(low[i]));
    const one_op up = {
        .op = QD_OP_MATMUL, .in = {BF16(N, L, 0, 0), F32(R, L, 0, 0)}, .out = F32(R, N, 0, 0), .data = {b, low}};
    ck_ok(one_op_run(c, &up, want));
    one_op o = {.op = QD_OP_LORA,
                .attrs = {.lora = {1}},
                .in = {F32(R, K, 0, 0), BF16(L, K, 0, 0), BF16(N, L, 0, 0), F32(R, N, 0, 0)},
                .out = F32(R, N, 0, 0),
                .data = {x, a, b, zeros}};
    ck_ok(one_op_run(c, &o, y));
    ck_assert_mem_eq(y, want, sizeof y);
    qd_context_free(c);
}
END_TEST

START_TEST(test_refused) {
    WITH_DEVICE(c);
    float y[LORA_R * LORA_N];
    one_op o = from_numpy;
    ck_ok(one_op_run(c, &o, y));
    o.attrs.lora.scale = NAN;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "scale must be finite");
    o.attrs.lora.scale = -INFINITY;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "scale must be finite");
    o = from_numpy, o.in[1].shape[1]--;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "dimension 1 of a");
    o = from_numpy, o.in[2].shape[1]--;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "dimension 1 of b");
    o = from_numpy, o.in[3].shape[1]--;
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "dimension 1 of y0");
    o = from_numpy, o.in[1].format = QD_FORMAT_F16;
    one_op_refused(c, &o, QD_ERR_UNSUPPORTED, "a cannot be f16");
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("lora");
    tcase_add_loop_test(tc, test_values, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_in_place, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_sums, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_refused, 0, TEST_DEVICES);
    return run_tests(tc, "lora");
}
