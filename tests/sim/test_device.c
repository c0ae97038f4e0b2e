/* The device sim:BOARD: every operator and format, a small network and a layer of SmolLM2's size give the reference's
 * bytes on real boards; a report's parts add up; what it says when it cannot.
 *
 *   sim_test_device [CASES]      of each operator and combination of formats; default: 4 */
#include <math.h>

#include "core/verify.h"
#include "e2e/networks.h"
#include "qdot/qdot_sim.h"
#include "sim/log.h"
#include "unit/devices.h"
#include "unit/model_image.h"

/* An ECP5 board, a board with a processor, a card with DDR4, one with HBM; and a shape with no number alike. */
static const char *const devices[] = {"sim:ULX3S-85F", "sim:KV260", "sim:U250", "sim:U280",
                                      "sim:ZCU102:rows=6,cols=5,lanes=4,quants=2,w_address=6,x_address=7"};
enum { DEVICES = sizeof devices / sizeof devices[0] };
static int cases = 4;

/* ---- Reports ------------------------------------------------------------------------------------------------ */

static void close_to(double a, double b) {
    ck_assert_msg(fabs(a - b) <= 1e-9 * fabs(b), "%.17g is not %.17g", a, b);
}

/* Every sum of a report is that of its parts, exactly. */
static void check_report(const qd_sim_report *r) {
    uint64_t cycles = 0, cause[QD_SIM_CAUSES] = {0}, bytes[QD_SIM_TRAFFIC] = {0}, all = 0, channels = 0;
    for (int i = 0; i < r->count; i++) {
        const qd_sim_step *s = &r->step[i];
        uint64_t parts = 0;
        ck_assert_uint_eq(s->start, cycles);
        ck_assert_uint_gt(s->cycles, 0);
        cycles += s->cycles;
        for (int c = 0; c < QD_SIM_CAUSES; c++) {
            parts += s->cause[c];
            cause[c] += s->cause[c];
        }
        ck_assert_msg(parts == s->cycles, "%s: causes of %llu cycles add up to %llu", s->task.name,
                      (unsigned long long)s->cycles, (unsigned long long)parts);
        for (int t = 0; t < QD_SIM_TRAFFIC; t++) {
            bytes[t] += s->bytes[t];
            all += s->bytes[t];
        }
        /* The array cannot have made more than it could. */
        if (s->task.place == QD_SIM_UNIT) ck_assert(s->task.macs <= (double)s->products);
        ck_assert_uint_eq(s->task.place != QD_SIM_UNIT, s->products == 0);
    }
    ck_assert_uint_eq(cycles, r->cycles);
    for (int c = 0; c < QD_SIM_CAUSES; c++)
        ck_assert_uint_eq(cause[c], r->cause[c]);
    for (int t = 0; t < QD_SIM_TRAFFIC; t++)
        ck_assert_uint_eq(bytes[t], r->bytes[t]);
    for (int c = 0; c < QD_SIM_MOST_CHANNELS; c++) {
        ck_assert(c < r->channels || r->channel_bytes[c] == 0);
        channels += r->channel_bytes[c];
    }
    ck_assert_uint_eq(channels, all);
    close_to(r->seconds, (double)r->cycles / (1e6 * r->design.clock_mhz));
    ck_assert(r->utilization > 0 && r->utilization <= 1);
    ck_assert(r->joules_least > 0 && r->joules_least < r->joules_most);
    /* Memory gives no more than it has. */
    ck_assert_msg((double)all / r->seconds <= r->memory_rate, "%g of %g bytes/s", (double)all / r->seconds,
                  r->memory_rate);
}

static void check_device(qd_context *c, int runs) {
    qd_sim_report *r = NULL;
    double seconds;
    ck_ok(qd_sim_report_device(c, &r));
    ck_ok(qd_sim_seconds(c, &seconds));
    check_report(r);
    close_to(seconds, r->seconds);
    ck_assert_int_eq(r->runs, runs);
    printf("%s: %d steps, %.3f ms, %.1f %% of the array\n", r->board, r->count, 1e3 * r->seconds, 100 * r->utilization);
    qd_sim_report_free(r);
    qd_context_profile_reset(c);
    ck_ok(qd_sim_report_device(c, &r));
    ck_assert_int_eq(r->count, 0);
    ck_assert_uint_eq(r->cycles, 0);
    qd_sim_report_free(r);
}

/* ---- Operators ---------------------------------------------------------------------------------------------- */

typedef struct tally {
    int by_hls;
    char first[400];
} tally;

static bool count_row(void *user, const qd_verify_row *r) {
    tally *t = user;
    t->by_hls += strstr(r->variant, "_hls") != NULL;
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
    /* MATMUL_INT, CONV_INT, TABLE; MATMUL with q8_0, q4_0 and q4_1. */
    ck_assert_int_ge(t.by_hls, 27);
    qd_context_free(c);
}
END_TEST

/* ---- Networks ----------------------------------------------------------------------------------------------- */

/* Classes of the small network; to be freed. */
static void *run_network(const char *device) {
    const size_t bytes = NETWORK_CLASSES * sizeof(int32_t);
    const qd_context_options o = {.profile = true};
    qd_context *c;
    network n;
    qd_graph_info info;
    void *y = malloc(bytes);
    ck_assert_ptr_nonnull(y);
    ck_ok(qd_context_create(device, &o, &c));
    network_small(&n, c, QD_ROUND_FIXED);
    ck_ok(qd_graph_compile(n.graph, NULL, NULL));
    ck_ok(qd_graph_describe(n.graph, &info));
    ck_ok(qd_graph_run(n.graph, 1));
    ck_ok(qd_tensor_read(n.output, 0, y, bytes));
    if (strcmp(device, "ref") != 0) {
        ck_assert_int_eq(info.fallbacks, 0);
        check_device(c, 1);
    }
    network_free(&n);
    qd_context_free(c);
    return y;
}

START_TEST(test_network) {
    void *want = run_network("ref"), *got = run_network(devices[_i]);
    ck_assert(!memcmp(want, got, NETWORK_CLASSES * sizeof(int32_t)));
    free(want);
    free(got);
}
END_TEST

/* The same network without values takes as long. */
START_TEST(test_dry) {
    double seconds[2];
    for (int dry = 0; dry < 2; dry++) {
        qd_context *c;
        network n;
        ck_ok(qd_context_create(dry ? "sim:kv260:dry" : "sim:kv260", NULL, &c));
        network_small(&n, c, QD_ROUND_FIXED);
        ck_ok(qd_graph_compile(n.graph, NULL, NULL));
        ck_ok(qd_graph_run(n.graph, 1));
        ck_ok(qd_context_finish(c));
        ck_ok(qd_sim_seconds(c, &seconds[dry]));
        network_free(&n);
        qd_context_free(c);
    }
    ck_assert(seconds[0] > 0 && seconds[0] == seconds[1]);
}
END_TEST

/* ---- A layer of a language model ---------------------------------------------------------------------------- */

enum { TOKENS = 3, VOCABULARY = 64 };

static void run_layer(const char *device, const model_parts *parts, float *logits) {
    qd_context *c = model_context(device, NULL);
    const qd_model_options o = model_options(2, QD_FORMAT_A8);
    model_bed b = model_open(parts, c, &o);
    int32_t tokens[TOKENS];
    model_tokens(5, VOCABULARY, tokens, TOKENS);
    model_eval(b.model, tokens, TOKENS, logits);
    if (strcmp(device, "ref") != 0) check_device(c, 2);
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

/* ---- Networks that are known by their layers ---------------------------------------------------------------- */

START_TEST(test_known_networks) {
    for (int i = 0; qd_sim_network_name(i); i++) {
        qd_sim_report *r = NULL;
        const char *name = qd_sim_network_name(i), *board = _i ? "KV260" : "U280";
        if (strncmp(name, "resnet1", 7) == 0 && strcmp(name, "resnet18") != 0) continue; /* more of the same */
        ck_ok(qd_sim_report_network(board, NULL, name, &r));
        check_report(r);
        ck_assert_msg(r->unit_macs == r->macs && r->macs > 1e6, "%s: %g products", name, r->macs);
        qd_sim_report_free(r);
    }
}
END_TEST

/* More of anything does no harm: rows, columns, clock, memory. */
START_TEST(test_more_is_faster) {
    static const char *const changes[] = {"rows=4,cols=4,lanes=8", "rows=8,cols=4,lanes=8", "rows=8,cols=8,lanes=8",
                                          "rows=8,cols=8,lanes=8,clock_mhz=400"};
    double before = INFINITY;
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        qd_sim_report *r = NULL;
        ck_ok(qd_sim_report_network("KV260", changes[i], "resnet18", &r));
        ck_assert_msg(r->seconds < before, "%s takes %g s, the one before %g", changes[i], r->seconds, before);
        before = r->seconds;
        qd_sim_report_free(r);
    }
}
END_TEST

/* Where memory is slow, a task takes as long as its bytes do; all streams share the channel. */
START_TEST(test_memory_bound) {
    qd_sim_machine m;
    ck_ok(qd_sim_machine_open("U250", NULL, &m));
    for (int channels = 1; channels <= 4; channels *= 2) {
        qd_sim_board slow = *m.board;
        qd_sim_step s;
        const qd_sim_task t = {.place = QD_SIM_UNIT,
                               .n = 512,
                               .m = 512,
                               .k = 512,
                               .times = 4,
                               .w_bits = 8,
                               .w_memory = 1,
                               .x_memory = 1,
                               .y_memory = 1};
        slow.channels = channels;
        slow.channel_gbps = 0.2;
        const qd_sim_machine on = {&slow, m.params, m.design};
        ck_ok(qd_sim_task_run(&on, &t, &s));
        double bytes = 0;
        for (int i = 0; i < QD_SIM_TRAFFIC; i++)
            bytes += (double)s.bytes[i];
        const double rate = channels * qd_sim_channel_rate(&slow, &m.params);
        const double share = bytes / rate / ((double)s.cycles / (1e6 * m.design.clock_mhz));
        ck_assert_msg(share > 0.85 && share <= 1, "%d channels: %.3f of the memory's rate", channels, share);
    }
}
END_TEST

/* ---- What is refused ---------------------------------------------------------------------------------------- */

START_TEST(test_refused) {
    qd_context *c = NULL;
    qd_sim_report *r = NULL;
    qd_sim_design d;
    double seconds;
    ck_fails(qd_context_create("sim", NULL, &c), QD_ERR_NO_DEVICE, "ULX3S-85F, Pynq-Z1, ");
    ck_fails(qd_context_create("sim:", NULL, &c), QD_ERR_NO_DEVICE, "Alveo-U280");
    ck_fails(qd_context_create("sim:U251", NULL, &c), QD_ERR_NO_DEVICE, "no board \"U251\"");
    ck_fails(qd_context_create("sim:KV260:fast", NULL, &c), QD_ERR_NO_DEVICE, "'fast' is no part of a design");
    ck_fails(qd_context_create("sim:KV260:rows", NULL, &c), QD_ERR_NO_DEVICE, "KEY=NUMBER");
    ck_fails(qd_context_create("sim:KV260:rows=x", NULL, &c), QD_ERR_NO_DEVICE, "'rows=x'");
    ck_fails(qd_context_create("sim:KV260:rows=0", NULL, &c), QD_ERR_NO_DEVICE, "rows");
    ck_fails(qd_context_create("sim:KV260:lanes=3", NULL, &c), QD_ERR_NO_DEVICE, "lanes");
    ck_fails(qd_context_create("sim:KV260:clock_mhz=0", NULL, &c), QD_ERR_NO_DEVICE, "clock");
    ck_fails(qd_context_create("sim:KV260:rows=64", NULL, &c), QD_ERR_NO_DEVICE, "1248 DSP blocks");
    ck_fails(qd_context_create("sim:KV260:x_address=15", NULL, &c), QD_ERR_NO_DEVICE, "144 RAM blocks");
    ck_fails(qd_context_create("sim:KV260:rows=32,cols=32,lanes=1", NULL, &c), QD_ERR_NO_DEVICE, "117120 LUTs");
    ck_fails(qd_sim_design_of("KV261", NULL, &d, NULL), QD_ERR_NO_DEVICE, "KV260");
    ck_fails(qd_sim_report_network("KV260", NULL, "mobilenet_v9", &r), QD_ERR_ARGUMENT, "mobilenet_v2");
    ck_fails(qd_sim_report_network("KV260", "cols=0", "cnv", &r), QD_ERR_ARGUMENT, "0 columns");
    ck_ok(qd_context_create("ref", NULL, &c));
    ck_fails(qd_sim_report_device(c, &r), QD_ERR_UNSUPPORTED, "no simulated board");
    ck_fails(qd_sim_seconds(c, &seconds), QD_ERR_UNSUPPORTED, "no simulated board");
    qd_context_free(c);
    qd_sim_report_free(NULL);
}
END_TEST

/* Memory that runs out, at every place. */
START_TEST(test_memory) {
    for (long n = 0;; n++) {
        qd_sim_report *r = NULL;
        qd_alloc_fail_after(n);
        const qd_status status = qd_sim_report_network("KV260", NULL, "cnv", &r);
        qd_alloc_fail_after(-1);
        if (!status) {
            qd_sim_report_free(r);
            ck_assert_int_gt(n, 3);
            break;
        }
        ck_assert_int_eq(status, QD_ERR_MEMORY);
        ck_assert_ptr_null(r);
    }
}
END_TEST

/* Every board has a design that fits it, and the counts of yosys 0.23 for whole units agree with the formulas. */
START_TEST(test_resources) {
    static const struct {
        const char *board, *changes;
        int luts, dsps, brams;
    } counted[] = {
#define SHAPE(rows, cols, lanes, quants, pack, w, x)                                \
    "rows=" #rows ",cols=" #cols ",lanes=" #lanes ",quants=" #quants ",pack=" #pack \
    ",w_address=9,x_address=9,w_bytes=" #w ",x_bytes=" #x
        {"KV260", SHAPE(4, 4, 4, 1, 1, 16, 16), 8023, 69, 8},
        {"KV260", SHAPE(8, 4, 4, 1, 1, 16, 16), 13830, 133, 12},
        {"KV260", SHAPE(4, 8, 4, 2, 1, 16, 16), 13623, 137, 12},
        {"KV260", SHAPE(8, 8, 8, 4, 1, 64, 64), 36886, 529, 30},
        {"KV260", SHAPE(4, 4, 2, 1, 0, 8, 8), 6283, 69, 4},
        {"KV260", SHAPE(4, 4, 8, 1, 1, 8, 8), 10250, 133, 16},
        {"ULX3S-85F", SHAPE(4, 4, 4, 1, 1, 16, 16), 11807, 70, 16},
        {"ULX3S-85F", SHAPE(8, 4, 4, 1, 1, 16, 16), 19501, 134, 24},
        {"ULX3S-85F", SHAPE(4, 8, 4, 2, 1, 16, 16), 19756, 138, 24},
        {"ULX3S-85F", SHAPE(4, 4, 2, 1, 0, 8, 8), 9051, 70, 8},
        {"ULX3S-85F", SHAPE(4, 4, 8, 1, 1, 8, 8), 5895 + 2 * 4440, 134, 32},
#undef SHAPE
    };
    for (size_t i = 0; i < sizeof counted / sizeof counted[0]; i++) {
        qd_sim_design d;
        qd_sim_resources r;
        ck_ok(qd_sim_design_of(counted[i].board, counted[i].changes, &d, &r));
        ck_assert_int_eq(r.dsps, counted[i].dsps);
        ck_assert_int_eq(r.brams, counted[i].brams);
        ck_assert_msg(fabs((double)r.luts / counted[i].luts - 1) < 0.1, "%s %s: %lld LUTs, yosys: %d", counted[i].board,
                      counted[i].changes, (long long)r.luts, counted[i].luts);
    }
    for (int i = 0; qd_sim_board_name(i); i++) {
        qd_sim_design d;
        qd_sim_resources r;
        ck_ok(qd_sim_design_of(qd_sim_board_name(i), NULL, &d, &r));
        ck_assert(r.luts <= r.has_luts && r.dsps <= r.has_dsps && r.brams <= r.has_brams);
        ck_assert(16 % d.lanes == 0); /* or blocks of 16 codes would not go through it */
    }
}
END_TEST

int main(int argc, char **argv) {
    if (argc > 1) cases = atoi(argv[1]);
    TCase *tc = tcase_create("device");
    tcase_add_loop_test(tc, test_operators, 0, DEVICES);
    tcase_add_loop_test(tc, test_network, 0, DEVICES);
    tcase_add_test(tc, test_dry);
    tcase_add_loop_test(tc, test_layer, 0, DEVICES);
    tcase_add_loop_test(tc, test_known_networks, 0, 2);
    tcase_add_test(tc, test_more_is_faster);
    tcase_add_test(tc, test_memory_bound);
    tcase_add_test(tc, test_refused);
    tcase_add_test(tc, test_memory);
    tcase_add_test(tc, test_resources);
    tcase_set_timeout(tc, 1200);
    Suite *suite = suite_create("device");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
