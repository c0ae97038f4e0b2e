/* MATMUL_EXPERTS: its definition, ids of no expert, and what is refused. */
#include "unit/one_op.h"

#define F32(...) qd_desc(QD_FORMAT_F32, __VA_ARGS__)
#define I32(...) qd_desc(QD_FORMAT_I32, __VA_ARGS__)

/* Opens device _i, or ends the test where there is none. */
#define WITH_DEVICE(c)                     \
    qd_context *c = open_device(_i, NULL); \
    if (!c) return

enum { E = 3, N = 21, K = 64, R = 7, U = 4 };

/* Whole numbers with which q4_0 and q4_1 are exact. */
static void weights(uint32_t *rng, float *w) {
    for (int i = 0; i < E * N * K; i++)
        w[i] = i % 32 == 0 ? -8.0f : i % 32 == 1 ? 7.0f : (float)random_between(rng, -8, 7);
}

START_TEST(test_definition) {
    static const qd_format formats[] = {QD_FORMAT_F32,  QD_FORMAT_F16,  QD_FORMAT_BF16,
                                        QD_FORMAT_Q8_0, QD_FORMAT_Q4_0, QD_FORMAT_Q4_1};
    static const int rows_of_x[] = {1, 2, U};
    WITH_DEVICE(c);
    static float w[E * N * K], x[R * U * K], want[R * U * N];
    int32_t ids[R * U];
    uint32_t rng = 21;
    weights(&rng, w);
    for (int i = 0; i < R * U * K; i++)
        x[i] = (float)random_between(&rng, -9, 9);
    for (int i = 0; i < R * U; i++)
        ids[i] = (int32_t)random_between(&rng, 0, E - 1);
    ids[5] = -1, ids[6] = E, ids[15] = INT32_MIN, ids[16] = INT32_MAX;
    for (int f = 0; f < 6; f++) {
        uint8_t bytes[sizeof w];
        float values[E * N * K]; /* what the format made of w: q8_0 rounds */
        ck_ok(qd_quantize(formats[f], w, E * N, K, bytes));
        ck_ok(qd_dequantize(formats[f], bytes, E * N, K, values));
        for (int s = 0; s < 3; s++) {
            const int S = rows_of_x[s];
            one_op o = {.op = QD_OP_MATMUL_EXPERTS,
                        .in = {qd_desc(formats[f], E, N, K, 0), F32(R, S, K, 0), I32(R, U, 0, 0)},
                        .out = F32(R, U, N, 0),
                        .data = {bytes, x, ids}};
            float y[R * U * N];
            ck_ok(one_op_run(c, &o, y));
            for (int i = 0; i < R * U * N; i++) {
                const int at = i / N, id = ids[at];
                double sum = 0;
                for (int k = 0; k < K && id >= 0 && id < E; k++)
                    sum += (double)values[(id * N + i % N) * K + k] * (double)x[(at / U * S + at % U % S) * K + k];
                /* 64 products of up to 72. */
                ck_assert_msg((double)y[i] - sum < 1e-3 && sum - (double)y[i] < 1e-3,
                              "%s, S %d: element %d is %.9g, not %.9g", qd_format_get(formats[f])->name, S, i,
                              (double)y[i], sum);
                want[i] = y[i];
            }
        }
        /* Byte for byte MATMUL's sums: the rows of one expert. */
        one_op matmul = {.op = QD_OP_MATMUL,
                         .in = {qd_desc(formats[f], N, K, 0, 0), F32(R * U, K, 0, 0)},
                         .out = F32(R * U, N, 0, 0),
                         .data = {bytes, x}};
        float y[R * U * N];
        ck_ok(one_op_run(c, &matmul, y));
        for (int i = 0; i < R * U; i++)
            if (ids[i] == 0) ck_assert_mem_eq(y + i * N, want + i * N, N * sizeof *y);
    }
    qd_context_free(c);
}
END_TEST

START_TEST(test_refused) {
    WITH_DEVICE(c);
    const one_op good = {
        .op = QD_OP_MATMUL_EXPERTS, .in = {F32(3, 5, 7, 0), F32(2, 2, 7, 0), I32(2, 4, 0, 0)}, .out = F32(2, 4, 5, 0)};
    float y[100];
    ck_ok(one_op_run(c, &good, y));
    one_op o = good;
    o.in[1] = F32(2, 3, 7, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "3 rows of x for 4 ids");
    o.in[1] = F32(2, 8, 7, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "8 rows of x for 4 ids");
    o = good, o.in[1] = F32(2, 2, 6, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "dimension 2 of x");
    o = good, o.out = F32(2, 4, 6, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "dimension 2 of y");
    o = good, o.in[2] = I32(3, 4, 0, 0);
    one_op_refused(c, &o, QD_ERR_ARGUMENT, "dimension 0 of ids");
    o = good, o.in[1].format = QD_FORMAT_F16;
    one_op_refused(c, &o, QD_ERR_UNSUPPORTED, "x cannot be f16");
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("matmul_experts");
    tcase_add_loop_test(tc, test_definition, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_refused, 0, TEST_DEVICES);
    return run_tests(tc, "matmul_experts");
}
