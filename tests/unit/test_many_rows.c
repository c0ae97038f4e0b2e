/* Products of very many rows of very few codes, of which kernels take large blocks: their indices must not overflow. */
#include "unit/devices.h"

enum { ROWS = 100000, N = 3, K = 4 };

static const char *const kernels[] = {NULL, "avx2"};
enum { KERNELS = sizeof kernels / sizeof kernels[0] };

START_TEST(test_many_rows) {
    const qd_context_options o = {.kernels = kernels[_i / TEST_DEVICES]};
    static const int8_t w[N][K] = {{1, 2, 3, 4}, {-128, 127, 0, -1}, {5, -6, 7, -8}};
    static uint8_t x[ROWS][K];
    static int32_t got[ROWS][N];
    const qd_tensor_desc dw = qd_desc(QD_FORMAT_I8, N, K, 0, 0), dx = qd_desc(QD_FORMAT_U8, ROWS, K, 0, 0),
                         dy = qd_desc(QD_FORMAT_I32, ROWS, N, 0, 0);
    const qd_attrs attrs = {.matmul_int = {.wide = 0}};
    qd_tensor *tw, *tx, *ty;
    qd_plan *p;
    qd_context *c = open_device(_i % TEST_DEVICES, &o);
    if (!c) return;
    for (int i = 0; i < ROWS * K; i++)
        x[i / K][i % K] = (uint8_t)((uint32_t)i * 2654435761u >> 24);
    ck_ok(qd_tensor_constant(c, &dw, w, &tw));
    tx = tensor_with(c, dx, x);
    ck_ok(qd_tensor_create(c, &dy, &ty));
    ck_ok(qd_plan_create(c, QD_OP_MATMUL_INT, &attrs, (qd_tensor *[]){tw, tx}, 2, &ty, 1, &p));
    ck_ok(qd_plan_run(p));
    ck_ok(qd_tensor_read(ty, 0, got, sizeof got));
    for (int i = 0; i < ROWS * N; i++) {
        int32_t want = 0;
        for (int k = 0; k < K; k++)
            want += w[i % N][k] * x[i / N][k];
        ck_assert_msg(got[i / N][i % N] == want, "%s: row %d, column %d is %d, not %d", qd_plan_variant(p), i / N,
                      i % N, (int)got[i / N][i % N], (int)want);
    }
    qd_plan_free(p);
    qd_tensor_free(tw);
    qd_tensor_free(tx);
    qd_tensor_free(ty);
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("many_rows");
    tcase_add_loop_test(tc, test_many_rows, 0, KERNELS * TEST_DEVICES);
    return run_tests(tc, "many_rows");
}
