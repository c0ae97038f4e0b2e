/* Operators without a kernel, because none can be built: the reference computes them on copies of what the device has.
 */
#include "fault/cl_inject.h"
#include "unit/devices.h"

/* A column of ids that becomes ids: a tensor of the run's rows alone, made by another shape. */
START_TEST(test_one_dimension) {
    if (!have_opencl()) return;
    enum { R = 4, V = 6, C = 8 };
    static const qd_tensor_desc column = {QD_FORMAT_I32, 2, {QD_ROWS, 1}}, line = {QD_FORMAT_I32, 1, {QD_ROWS}},
                                given = {QD_FORMAT_I32, 2, {R, 1}}, y = {QD_FORMAT_F32, 2, {R, C}},
                                table = {QD_FORMAT_F32, 2, {V, C}};
    static const int32_t ids[R] = {5, 0, 3, 2};
    float values[V * C], want[R * C], zeros[R * C] = {0};
    for (int i = 0; i < V * C; i++)
        values[i] = (float)i;
    const qd_context_options o = {.cache_dir = ""};
    qd_context *c;
    ck_ok(qd_context_create("opencl", &o, &c));
    inject_failure(FN_clBuildProgram, 0, CL_BUILD_PROGRAM_FAILURE, true);
    qd_tensor *in = tensor_with(c, given, ids), *rows, *out, *copy, *as_line;
    ck_ok(qd_tensor_constant(c, &table, values, &rows));
    ck_ok(qd_tensor_create(c, &y, &out));
    qd_graph *g;
    const qd_attrs axis = {.concat = {.axis = -1}};
    ck_ok(qd_graph_create(c, R, &g));
    ck_ok(qd_graph_tensor(g, &column, &copy));
    ck_ok(qd_graph_reshape(g, copy, &line, &as_line));
    ck_ok(qd_graph_add(g, QD_OP_CONCAT, &axis, &in, 1, &copy, 1));
    ck_ok(qd_graph_add(g, QD_OP_GET_ROWS, NULL, (qd_tensor *[]){rows, as_line}, 2, &out, 1));
    ck_ok(qd_graph_compile(g, NULL, NULL));
    qd_graph_info info;
    ck_ok(qd_graph_describe(g, &info));
    ck_assert_int_eq(info.fallbacks, 2);
    for (int n = 1; n <= R; n++) {
        ck_ok(qd_tensor_write(out, 0, zeros, sizeof zeros));
        ck_ok(qd_graph_run(g, n));
        for (int i = 0; i < R * C; i++)
            want[i] = i < n * C ? values[ids[i / C] * C + i % C] : 0;
        ck_tensor(out, want, "rows by ids");
    }
    qd_graph_free(g);
    qd_tensor *const all[] = {in, rows, out};
    for (int i = 0; i < 3; i++)
        qd_tensor_free(all[i]);
    qd_context_free(c);
    ck_assert_int_eq(inject_alive(), 0);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("fallback");
    tcase_add_checked_fixture(tc, NULL, inject_clear);
    tcase_add_test(tc, test_one_dimension);
    return run_tests(tc, "fallback");
}
