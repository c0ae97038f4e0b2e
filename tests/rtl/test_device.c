/* The device rtl: every operator and format, a small network, a layer of the size of SmolLM2's, with and without
 * streams that stall: the reference's bytes; and what it says when it cannot.
 *
 *   rtl_test_device [CASES]      of each operator and combination of formats; default: 6 */
#include "core/verify.h"
#include "e2e/networks.h"
#include "unit/devices.h"
#include "unit/model_image.h"

static const char *const devices[] = {"rtl", "rtl:stalls:3"};
enum { DEVICES = sizeof devices / sizeof devices[0] };
static int cases = 6;

/* ---- Operators ---------------------------------------------------------------------------------------------- */

typedef struct tally {
    int on_unit;
    char first[400];
} tally;

static bool count_row(void *user, const qd_verify_row *r) {
    tally *t = user;
    t->on_unit += strstr(r->variant, "_rtl") != NULL;
    if (r->different && !t->first[0]) snprintf(t->first, sizeof t->first, "%s %s: %s", r->op, r->formats, r->first);
    return true;
}

START_TEST(test_operators) {
    qd_context *c;
    tally t = {0};
    int different = -1;
    ck_ok(qd_context_create(devices[_i], NULL, &c));
    ck_ok(qd_verify(c, 11, cases, count_row, &t, &different));
    ck_assert_msg(different == 0, "%s: %d cases differ; %s", devices[_i], different, t.first);
    /* MATMUL_INT and CONV_INT, but where the last case asks for sums of 64 bits; MATMUL with q8_0, q4_0 and q4_1. */
    ck_assert_int_ge(t.on_unit, 27);
    qd_context_free(c);
}
END_TEST

/* ---- Networks ----------------------------------------------------------------------------------------------- */

/* Classes of the small network; to be freed. */
static void *run_network(const char *device, qd_rounding rounding) {
    const size_t bytes = NETWORK_CLASSES * sizeof(int32_t);
    const qd_context_options o = {.profile = strcmp(device, "ref") != 0};
    qd_context *c;
    network n;
    qd_graph_info info;
    void *y = malloc(bytes);
    ck_assert_ptr_nonnull(y);
    ck_ok(qd_context_create(device, &o, &c));
    network_small(&n, c, rounding);
    ck_ok(qd_graph_compile(n.graph, NULL, NULL));
    ck_ok(qd_graph_describe(n.graph, &info));
    ck_ok(qd_graph_run(n.graph, 1));
    ck_ok(qd_tensor_read(n.output, 0, y, bytes));
    if (strcmp(device, "ref") != 0) {
        qd_profile_row *rows;
        int count;
        ck_ok(qd_context_profile(c, &rows, &count));
        ck_assert_int_eq(count, 2);
        for (int i = 0; i < count; i++) {
            printf("%s: %s, %llu calls\n", device, rows[i].kernel, (unsigned long long)rows[i].calls);
            ck_assert(rows[i].seconds > 0);
        }
        qd_profile_free(rows);
        /* The unit's own: convolutions, and the classes. */
        ck_assert_int_eq(info.fallbacks, n.n_ops - 11 - 1);
    }
    network_free(&n);
    qd_context_free(c);
    return y;
}

START_TEST(test_network) {
    static const qd_rounding roundings[] = {QD_ROUND_FIXED, QD_ROUND_GEMMLOWP, QD_ROUND_FLOAT};
    const qd_rounding rounding = roundings[_i / DEVICES];
    void *want = run_network("ref", rounding), *got = run_network(devices[_i % DEVICES], rounding);
    ck_assert(!memcmp(want, got, NETWORK_CLASSES * sizeof(int32_t)));
    free(want);
    free(got);
}
END_TEST

/* ---- A layer of a language model ---------------------------------------------------------------------------- */

enum { TOKENS = 3, VOCABULARY = 64 };

static void run_layer(const char *device, const model_parts *parts, float *logits) {
    const qd_context_options with = {.profile = strcmp(device, "ref") != 0};
    qd_context *c = model_context(device, &with);
    const qd_model_options o = model_options(2, QD_FORMAT_A8);
    model_bed b = model_open(parts, c, &o);
    int32_t tokens[TOKENS];
    model_tokens(5, VOCABULARY, tokens, TOKENS);
    model_eval(b.model, tokens, TOKENS, logits);
    if (strcmp(device, "ref") != 0) {
        qd_profile_row *rows;
        int count;
        ck_ok(qd_context_profile(c, &rows, &count));
        ck_assert_int_eq(count, 1);
        printf("%s: %s, %llu calls\n", device, rows[0].kernel, (unsigned long long)rows[0].calls);
        qd_profile_free(rows);
    }
    model_close(&b);
    qd_context_free(c);
}

/* One layer of SmolLM2-135M's size: two tokens at once, then one. */
START_TEST(test_layer) {
    model_spec s = model_small(QD_FORMAT_Q4_1);
    s.layers = 1;
    s.width = 576;
    s.heads = 9;
    s.kv_heads = 3;
    s.head_dim = 64;
    s.ff = 1536;
    s.vocab = VOCABULARY;
    model_parts parts = model_make(&s, 4);
    static float want[TOKENS * VOCABULARY], got[TOKENS * VOCABULARY];
    run_layer("ref", &parts, want);
    run_layer(devices[_i], &parts, got);
    ck_assert(!memcmp(want, got, sizeof want));
    model_parts_free(&parts);
}
END_TEST

/* ---- The device string -------------------------------------------------------------------------------------- */

START_TEST(test_names) {
    qd_context *c = NULL;
    ck_ok(qd_context_create("rtl:stalls", NULL, &c));
    ck_assert_str_eq(qd_context_device(c)->id, "rtl");
    qd_context_free(c);
    ck_fails(qd_context_create("rtl:fast", NULL, &c), QD_ERR_NO_DEVICE, "rtl:stalls");
    ck_fails(qd_context_create("rtl:stalls:", NULL, &c), QD_ERR_NO_DEVICE, "rtl:stalls");
    ck_fails(qd_context_create("rtl:stalls:x", NULL, &c), QD_ERR_NO_DEVICE, "rtl:stalls");
}
END_TEST

int main(int argc, char **argv) {
    if (argc > 1) cases = atoi(argv[1]);
    TCase *tc = tcase_create("device");
    tcase_add_loop_test(tc, test_operators, 0, DEVICES);
    tcase_add_loop_test(tc, test_network, 0, DEVICES * 3);
    tcase_add_loop_test(tc, test_layer, 0, DEVICES);
    tcase_add_test(tc, test_names);
    tcase_set_timeout(tc, 7000);
    Suite *suite = suite_create("device");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
