/* MATMUL_BATCH: its definition in float64, matrices in any memory, and what is refused. */
#include <math.h>

#include "unit/one_op.h"

#define F32(...) qd_desc(QD_FORMAT_F32, __VA_ARGS__)

/* Opens device _i, or ends the test where there is none. */
#define WITH_DEVICE(c)                     \
    qd_context *c = open_device(_i, NULL); \
    if (!c) return

enum { A = 2, MORE_A = 2, B = 3, MORE_B = 2, M = 5, N = 21, K = 37 };
enum { AX = A * MORE_A, BX = B * MORE_B };

/* Small whole numbers: sums are exact in any order. */
static void whole_numbers(uint32_t *rng, float *x, int count) {
    for (int i = 0; i < count; i++)
        x[i] = (float)random_between(rng, -9, 9);
}

START_TEST(test_definition) {
    static const qd_format formats[] = {QD_FORMAT_F32, QD_FORMAT_F16, QD_FORMAT_BF16};
    WITH_DEVICE(c);
    static float w[A * B * N * K], x[AX * BX * M * K], want[AX * BX * M * N];
    uint32_t rng = 11;
    whole_numbers(&rng, w, A * B * N * K);
    whole_numbers(&rng, x, AX * BX * M * K);
    for (int i = 0; i < AX * BX * M * N; i++) {
        const int n = i % N, m = i / N % M, b = i / N / M % BX, a = i / N / M / BX;
        want[i] = 0;
        for (int k = 0; k < K; k++)
            want[i] += w[((a / MORE_A * B + b / MORE_B) * N + n) * K + k] * x[((a * BX + b) * M + m) * K + k];
    }
    for (int f = 0; f < 3; f++) {
        uint8_t bytes[sizeof w];
        ck_ok(qd_quantize(formats[f], w, A * B * N, K, bytes));
        one_op o = {.op = QD_OP_MATMUL_BATCH,
                    .in = {qd_desc(formats[f], A, B, N, K), F32(AX, BX, M, K)},
                    .out = F32(AX, BX, M, N),
                    .data = {bytes, x}};
        one_op_gives(c, &o, want, qd_format_get(formats[f])->name);
        /* The first matrices alone, without the dimensions that are 1. */
        o.in[0] = qd_desc(formats[f], N, K, 0, 0), o.in[1] = F32(M, K, 0, 0), o.out = F32(M, N, 0, 0);
        one_op_gives(c, &o, want, "rank 2");
        o.in[1] = F32(MORE_B, M, K, 0), o.out = F32(MORE_B, M, N, 0);
        one_op_gives(c, &o, want, "rank 3, w of rank 2");
        o.in[0] = qd_desc(formats[f], B, N, K, 0), o.in[1] = F32(BX, M, K, 0), o.out = F32(BX, M, N, 0);
        one_op_gives(c, &o, want, "rank 3");
    }
    qd_context_free(c);
}
END_TEST

/* Sums are those of MATMUL, byte for byte. */
START_TEST(test_as_matmul) {
    WITH_DEVICE(c);
    static float w[70 * 130], x[9 * 130], want[9 * 70];
    uint32_t rng = 12;
    random_floats(&rng, w, 70 * 130);
    random_floats(&rng, x, 9 * 130);
    for (int i = 0; i < 9 * 130; i++)
        x[i] *= 1.1f; /* so that sums depend on their order */
    one_op o = {
        .op = QD_OP_MATMUL, .in = {F32(70, 130, 0, 0), F32(9, 130, 0, 0)}, .out = F32(9, 70, 0, 0), .data = {w, x}};
    ck_ok(one_op_run(c, &o, want));
    o.op = QD_OP_MATMUL_BATCH;
    one_op_gives(c, &o, want, "as MATMUL");
    qd_context_free(c);
}
END_TEST

/* All operands with their dimensions in another order in memory. */
START_TEST(test_windows) {
    WITH_DEVICE(c);
    static float w[K * B * N], x[M * K * BX], want[BX * M * N], y[N * BX * M], got[N * BX * M];
    uint32_t rng = 13;
    whole_numbers(&rng, w, K * B * N);
    whole_numbers(&rng, x, M * K * BX);
    for (int i = 0; i < BX * M * N; i++) { /* w is [K,B,N], x [M,K,BX], y [N,BX,M] */
        const int n = i % N, m = i / N % M, b = i / N / M;
        want[i] = 0;
        for (int k = 0; k < K; k++)
            want[i] += w[(k * B + b / MORE_B) * N + n] * x[(m * K + k) * BX + b];
        y[(n * BX + b) * M + m] = want[i];
    }
    const int64_t f = sizeof(float);
    const qd_tensor_desc dw = F32(B, N, K, 0), dx = F32(BX, M, K, 0), dy = F32(BX, M, N, 0);
    qd_tensor *tw = tensor_with(c, F32(K, B, N, 0), w), *tx = tensor_with(c, F32(M, K, BX, 0), x), *ty, *in[2], *out;
    ck_ok(qd_tensor_create(c, &(qd_tensor_desc){QD_FORMAT_F32, 3, {N, BX, M}}, &ty));
    ck_ok(qd_tensor_window(tw, 0, &dw, (int64_t[]){N * f, f, B * N * f}, &in[0]));
    ck_ok(qd_tensor_window(tx, 0, &dx, (int64_t[]){f, K * BX * f, BX * f}, &in[1]));
    ck_ok(qd_tensor_window(ty, 0, &dy, (int64_t[]){M * f, f, BX * M * f}, &out));
    qd_plan *plan;
    ck_ok(qd_plan_create(c, QD_OP_MATMUL_BATCH, NULL, in, 2, &out, 1, &plan));
    ck_ok(qd_plan_run(plan));
    ck_ok(qd_tensor_read(ty, 0, got, sizeof got));
    for (int i = 0; i < N * BX * M; i++)
        ck_assert_msg(got[i] == y[i], "element %d is %g, not %g", i, (double)got[i], (double)y[i]);
    qd_plan_free(plan);
    qd_tensor_free(in[0]);
    qd_tensor_free(in[1]);
    qd_tensor_free(out);
    qd_tensor_free(tw);
    qd_tensor_free(tx);
    qd_tensor_free(ty);
    qd_context_free(c);
}
END_TEST

START_TEST(test_refused) {
    WITH_DEVICE(c);
    const one_op good = {.op = QD_OP_MATMUL_BATCH, .in = {F32(2, 2, 3, 5), F32(4, 4, 6, 5)}, .out = F32(4, 4, 6, 3)};
    float y[1000];
    ck_ok(one_op_run(c, &good, y));
    static const struct {
        qd_tensor_desc w, x, y;
        const char *part;
    } bad[] = {
        {{QD_FORMAT_F32, 1, {5}}, {QD_FORMAT_F32, 2, {6, 5}}, {QD_FORMAT_F32, 2, {6, 1}}, "ranks 1, 2, 2"},
        {{QD_FORMAT_F32, 3, {1, 3, 5}}, {QD_FORMAT_F32, 2, {6, 5}}, {QD_FORMAT_F32, 2, {6, 3}}, "ranks 3, 2, 2"},
        {{QD_FORMAT_F32, 2, {3, 5}}, {QD_FORMAT_F32, 2, {6, 5}}, {QD_FORMAT_F32, 3, {1, 6, 3}}, "ranks 2, 2, 3"},
        {{QD_FORMAT_F32, 2, {3, 4}}, {QD_FORMAT_F32, 2, {6, 5}}, {QD_FORMAT_F32, 2, {6, 3}}, "y must be"},
        {{QD_FORMAT_F32, 2, {3, 5}}, {QD_FORMAT_F32, 2, {6, 5}}, {QD_FORMAT_F32, 2, {6, 4}}, "y must be"},
        {{QD_FORMAT_F32, 2, {3, 5}}, {QD_FORMAT_F32, 2, {6, 5}}, {QD_FORMAT_F32, 2, {5, 3}}, "y must be"},
        {{QD_FORMAT_F32, 2, {3, 5}}, {QD_FORMAT_F32, 3, {2, 6, 5}}, {QD_FORMAT_F32, 3, {1, 6, 3}}, "y must be"},
        {{QD_FORMAT_F32, 3, {4, 3, 5}}, {QD_FORMAT_F32, 3, {6, 6, 5}}, {QD_FORMAT_F32, 3, {6, 6, 3}}, "no multiple"},
        {{QD_FORMAT_F32, 4, {2, 1, 3, 5}},
         {QD_FORMAT_F32, 4, {3, 1, 6, 5}},
         {QD_FORMAT_F32, 4, {3, 1, 6, 3}},
         "no multiple"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const one_op o = {.op = QD_OP_MATMUL_BATCH, .in = {bad[i].w, bad[i].x}, .out = bad[i].y};
        one_op_refused(c, &o, QD_ERR_ARGUMENT, bad[i].part);
    }
    one_op o = good;
    o.in[1].format = QD_FORMAT_F16;
    one_op_refused(c, &o, QD_ERR_UNSUPPORTED, "x cannot be f16");
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("matmul_batch");
    tcase_add_loop_test(tc, test_definition, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_as_matmul, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_windows, 0, TEST_DEVICES);
    tcase_add_loop_test(tc, test_refused, 0, TEST_DEVICES);
    return run_tests(tc, "matmul_batch");
}
