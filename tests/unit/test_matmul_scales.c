/* Products with blocks whose scale is at an end of what halves can be: infinite, no number, the largest, the smallest,
 * zero of either sign. Kernels that fold the scale into other numbers must not lose what IEEE 754 says of d · code. */
#include <math.h>

#include "qdot/qdot_blocks.h"
#include "unit/devices.h"

enum { N = 21, K = 96, BLOCKS = K / 32, ROWS = 9 };

/* A row of w: one scale, as the bits of a half, and one code for all of it. The results are exact. */
static const struct {
    uint16_t d;
    int8_t code;
    double want; /* d · code · K */
} rows[] = {
    {0x7c00, 1, INFINITY},
    {0x7c00, -1, -INFINITY},
    {0x7c00, 0, NAN},
    {0xfc00, 2, -INFINITY},
    {0x7e00, 1, NAN},
    {0x7bff, -128, -65504.0 * 128 * K},
    {0xfbff, 127, -65504.0 * 127 * K},
    {0x0001, 127, 127.0 * K / (1 << 24)},
    {0x8001, -128, 128.0 * K / (1 << 24)},
    {0x03ff, 1, 1023.0 * K / (1 << 24)},
    {0x0000, 5, 0},
    {0x8000, 5, 0},
    {0x3c00, 0, 0},
};
enum { SPECIAL = sizeof rows / sizeof rows[0] };

static void ck_products(qd_context *c, int count, const char *what) {
    static qd_block_q8_0 w[N][BLOCKS];
    float x[ROWS][K], got[ROWS][N];
    const qd_tensor_desc dw = qd_desc(QD_FORMAT_Q8_0, N, K, 0, 0), dx = qd_desc(QD_FORMAT_F32, count, K, 0, 0),
                         dy = qd_desc(QD_FORMAT_F32, count, N, 0, 0);
    double want[N];
    qd_tensor *tw, *tx, *ty;
    qd_plan *p;
    for (int n = 0; n < N; n++) {
        const int code = n < SPECIAL ? rows[n].code : n - 15;
        want[n] = n < SPECIAL ? rows[n].want : (double)code * K;
        for (int b = 0; b < BLOCKS; b++) {
            w[n][b].d = n < SPECIAL ? rows[n].d : 0x3c00;
            memset(w[n][b].q, code, sizeof w[n][b].q);
        }
    }
    for (int i = 0; i < ROWS * K; i++)
        x[i / K][i % K] = 1;
    ck_ok(qd_tensor_constant(c, &dw, w, &tw));
    tx = tensor_with(c, dx, x);
    ck_ok(qd_tensor_create(c, &dy, &ty));
    ck_ok(qd_plan_create(c, QD_OP_MATMUL, NULL, (qd_tensor *[]){tw, tx}, 2, &ty, 1, &p));
    ck_ok(qd_plan_run(p));
    ck_ok(qd_tensor_read(ty, 0, got, (size_t)count * sizeof got[0]));
    for (int i = 0; i < count * N; i++) {
        const double y = (double)got[i / N][i % N];
        ck_assert_msg(isnan(want[i % N]) ? isnan(y) : y == want[i % N], "%s %s: row %d of %d, column %d is %g, not %g",
                      what, qd_plan_variant(p), i / N, count, i % N, y, want[i % N]);
    }
    qd_plan_free(p);
    qd_tensor_free(tw);
    qd_tensor_free(tx);
    qd_tensor_free(ty);
}

static const char *const kernels[] = {NULL, "avx2"};
enum { KERNELS = sizeof kernels / sizeof kernels[0] };

START_TEST(test_scales) {
    const qd_context_options o = {.kernels = kernels[_i / TEST_DEVICES]};
    qd_context *c = open_device(_i % TEST_DEVICES, &o);
    if (!c) return;
    ck_products(c, 1, "one row");
    ck_products(c, ROWS, "rows");
    qd_context_free(c);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("matmul_scales");
    tcase_add_loop_test(tc, test_scales, 0, KERNELS * TEST_DEVICES);
    return run_tests(tc, "matmul_scales");
}
