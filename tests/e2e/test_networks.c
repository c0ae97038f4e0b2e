/* A convolution network's worth of integer work, chained through the graph with requantization: every byte of the
 * result is the reference's, and the arena is nearly as small as the tensors that are alive together.
 *
 * QDOT_TEST_DEVICE chooses the device, QDOT_TEST_KERNELS the kernels: a word in the names of their variants. */
#include <stdio.h>
#include <time.h>

#include "e2e/networks.h"
#include "unit/devices.h"

static const struct {
    const char *name;
    void (*make)(network *n, qd_context *c);
    void (*make_apart)(network *n, qd_context *c);
    int ops, residuals; /* of the network fused by hand; sums that convolutions can do, too */
} networks[] = {{"MobileNet-v2", network_mobilenet_v2, network_mobilenet_v2_apart, 64, 10},
                {"ResNet-18", network_resnet18, network_resnet18_apart, 31, 8}};

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The kernels that were asked for have run, and no other convolution or product. */
static void check_kernels(qd_context *c, const char *word, bool fused) {
    qd_profile_row *rows;
    int count, found = 0;
    ck_ok(qd_context_profile(c, &rows, &count));
    for (int i = 0; i < count; i++) {
        const char *kernel = rows[i].kernel;
        if (strncmp(kernel, "conv_", 5) != 0 && strncmp(kernel, "matmul_int", 10) != 0) continue;
        ck_assert_msg(strstr(rows[i].kernel, word) != NULL, "%s ran", rows[i].kernel);
        found++;
    }
    ck_assert_int_eq(found, fused ? 3 : 2);
    qd_profile_free(rows);
}

/* Returns the number of its operators. */
static int run(int which, const char *device, int32_t result[NETWORK_CLASSES]) {
    qd_context *c;
    network n;
    qd_graph_info info;
    const char *word = strcmp(device, "ref") ? getenv("QDOT_TEST_KERNELS") : NULL;
    const qd_context_options o = {.kernels = word, .profile = word != NULL};
    ck_ok(qd_context_create(device, &o, &c));
    networks[which].make(&n, c);
    ck_ok(qd_graph_compile(n.graph, NULL, NULL));
    ck_ok(qd_graph_describe(n.graph, &info));
    const double before = seconds();
    ck_ok(qd_graph_run(n.graph, 1));
    ck_ok(qd_tensor_read(n.output, 0, result, NETWORK_CLASSES * sizeof *result));
    const double took = seconds() - before;
    if (word) check_kernels(c, word, info.fused > 0);
    const uint64_t live = network_live_bytes(&n);
    printf(
        "%s on %s: %d operators, %d on the reference, %.0f M products, %.3f s; arena %.0f KiB, %.0f alive together\n",
        networks[which].name, qd_context_device(c)->id, info.ops, info.fallbacks, n.macs * 1e-6, took,
        (double)info.arena_bytes / 1024, (double)live / 1024);
    ck_assert_int_eq(info.ops + info.fused, n.n_ops);
    ck_assert_int_eq(n.n_ops, networks[which].ops);
    ck_assert_msg(info.fused == networks[which].residuals || (!info.fused && strcmp(device, "ref") != 0), "%d fused",
                  info.fused);
    ck_assert_int_eq(info.fallbacks, 0);
    ck_assert_msg(info.arena_bytes * 10 <= live * 12, "arena %llu, alive %llu", (unsigned long long)info.arena_bytes,
                  (unsigned long long)live);
    network_free(&n);
    qd_context_free(c);
    return info.ops;
}

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The network in single operators, as it is and fused, in turns: the same results from fewer kernels. Prints how many
 * and how long: medians of runs after one to warm up, and the least. */
static void run_apart(int which, const char *device, int ops, const int32_t want[NETWORK_CLASSES]) {
    enum { FUSED, APART, WAYS, RUNS = 15 };
    qd_context *c[WAYS];
    network n[WAYS];
    qd_graph_info info[WAYS];
    double took[WAYS][RUNS];
    int32_t got[NETWORK_CLASSES];
    for (int w = 0; w < WAYS; w++) {
        const qd_context_options o = {.no_fuse = w == APART};
        ck_ok(qd_context_create(device, &o, &c[w]));
        networks[which].make_apart(&n[w], c[w]);
        ck_ok(qd_graph_compile(n[w].graph, NULL, NULL));
        ck_ok(qd_graph_describe(n[w].graph, &info[w]));
    }
    for (int r = -1; r < RUNS; r++) {
        for (int w = 0; w < WAYS; w++) {
            const double before = seconds();
            ck_ok(qd_graph_run(n[w].graph, 1));
            ck_ok(qd_tensor_read(n[w].output, 0, got, sizeof got));
            if (r >= 0) took[w][r] = seconds() - before;
            ck_assert_mem_eq(got, want, sizeof got);
        }
    }
    for (int w = 0; w < WAYS; w++)
        qsort(took[w], RUNS, sizeof took[w][0], by_size);
    for (int w = APART; w >= FUSED; w--) {
        printf("%s %s: %d kernels, %d of them in shared launches, %.1f ms (least %.1f), arena %.0f KiB\n",
               networks[which].name, w == APART ? "in single operators" : "fused", info[w].ops, info[w].chained,
               1e3 * took[w][RUNS / 2], 1e3 * took[w][0], (double)info[w].arena_bytes / 1024);
    }
    ck_assert_int_eq(info[APART].fused, 0);
    ck_assert_int_eq(info[FUSED].ops + info[FUSED].fused - info[FUSED].copies, info[APART].ops);
    ck_assert_int_eq(info[FUSED].ops, ops); /* those of the network that was fused by hand */
    ck_assert_uint_lt(info[FUSED].arena_bytes, info[APART].arena_bytes);
    for (int w = 0; w < WAYS; w++) {
        network_free(&n[w]);
        qd_context_free(c[w]);
    }
}

START_TEST(test_networks) {
    int32_t want[NETWORK_CLASSES], got[NETWORK_CLASSES];
    if (!have_opencl()) return;
    run(_i, "ref", want);
    /* The work must not have died out on the way. */
    int distinct = 0;
    for (int i = 1; i < NETWORK_CLASSES; i++)
        distinct += want[i] != want[i - 1];
    ck_assert_int_gt(distinct, NETWORK_CLASSES * 9 / 10);
    const char *device = getenv("QDOT_TEST_DEVICE");
    const int ops = run(_i, device ? device : "opencl", got);
    ck_assert_mem_eq(got, want, sizeof want);
    if (!getenv("QDOT_TEST_KERNELS")) run_apart(_i, device ? device : "opencl", ops, want);
}
END_TEST

int main(void) {
    Suite *s = suite_create("networks");
    TCase *t = tcase_create("networks");
    tcase_set_timeout(t, 600);
    tcase_add_loop_test(t, test_networks, 0, sizeof networks / sizeof networks[0]);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
