/* The cycle model (sim/unit.h) against the verilated unit: the same commands, the same stalls; every counter and the
 * whole time must be equal to the cycle.
 *
 *   rtl_test_cycles [BOARDS [SHAPE [SEED]]]     boards of each shape, of five jobs each; default: 60
 *
 * QDOT_RTL_MODELS: a shared library with other models of the same names (mutants.py). */
#include <inttypes.h>

#include "rtl/bench.h"
#include "rtl/models.h"
#include "rtl/product.h"
#include "sim/unit.h"
#include "unit/devices.h"

static int64_t boards = 60;
static const char *only_shape;
static uint64_t first_seed = 1;
static uint64_t compared; /* jobs */

/* ---- What the bench's board is to the model ----------------------------------------------------------------- */

static qd_unit_shape shape_of(const rtl_board *b, const rtl_model *m) {
    const rtl_shape *s = rtl_board_shape(b);
    qd_unit_shape u = {.rows = s->rows,
                       .cols = s->cols,
                       .lanes = s->lanes,
                       .quants = s->quants,
                       .w_bytes = m->w_bytes,
                       .x_bytes = m->x_bytes};
    while (1 << u.w_address < s->w_words)
        u.w_address++;
    while (1 << u.x_address < s->x_words)
        u.x_address++;
    return u;
}

static bool stalled(const void *user, qd_unit_stream_name stream, uint64_t cycle) {
    const rtl_stream names[QD_UNIT_STREAMS] = {RTL_W, RTL_X, RTL_C, RTL_Y, RTL_BUS};
    return rtl_stall(user, names[stream], cycle);
}

/* The accesses around a job, of a cycle each: it starts by writing STATUS, and reads the counters at its end. */
enum { BEFORE = 1, AFTER = 8 };

typedef struct pair {
    rtl_board *board;
    qd_unit *unit;
    uint64_t opened; /* the first cycle that the model knows */
} pair;

static void open_pair(pair *p, const rtl_model *m, const rtl_stalls *stalls) {
    qd_unit_streams streams = {0};
    ck_ok(rtl_board_open(m, stalls, &p->board));
    const qd_unit_shape s = shape_of(p->board, m);
    for (int i = 0; i < QD_UNIT_STREAMS && stalls; i++)
        streams.stream[i] = (qd_unit_stream){.stalled = stalls->per_256[i] ? stalled : NULL, .user = stalls};
    streams.cycle = p->opened = rtl_board_cycles(p->board) + BEFORE;
    ck_ok(qd_unit_open(&s, &streams, &p->unit));
}

static void close_pair(pair *p) {
    rtl_board_close(p->board);
    qd_unit_close(p->unit);
}

static void same(const pair *p, const char *what) {
    const rtl_counters c = rtl_board_counters(p->board);
    const qd_unit_report r = qd_unit_report_of(p->unit);
    const uint64_t cycles = rtl_board_cycles(p->board) - p->opened - AFTER;
    const struct {
        const char *name;
        uint64_t model, unit;
    } all[] = {{"cycles", r.cycles, cycles},
               {"busy", r.counters.busy, c.busy},
               {"issued", r.counters.issued, c.issued},
               {"wait_w", r.counters.wait_w, c.wait_w},
               {"wait_x", r.counters.wait_x, c.wait_x},
               {"wait_c", r.counters.wait_c, c.wait_c},
               {"wait_drain", r.counters.wait_drain, c.wait_drain},
               {"tail", r.counters.tail, c.tail},
               {"commands", r.counters.commands, c.commands}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        ck_assert_msg(all[i].model == all[i].unit, "%s: %s: %" PRIu64 " in the model, %" PRIu64 " in the unit", what,
                      all[i].name, all[i].model, all[i].unit);
    uint64_t sum = 0;
    for (int i = 0; i < QD_UNIT_CAUSES; i++)
        sum += r.cause[i];
    ck_assert_uint_eq(sum, r.cycles);
    ck_assert_uint_eq(r.cause[QD_UNIT_WORK], c.issued);
    ck_assert_uint_eq(r.cause[QD_UNIT_WEIGHTS], c.wait_w);
    ck_assert_uint_eq(r.cause[QD_UNIT_COLUMNS], c.wait_x);
    ck_assert_uint_eq(r.cause[QD_UNIT_CHANNELS], c.wait_c);
    ck_assert_uint_ge(r.cause[QD_UNIT_DRAIN] + r.cause[QD_UNIT_RESULTS], c.wait_drain);
    ck_assert_uint_le(r.cause[QD_UNIT_DRAIN], c.wait_drain);
    compared++;
}

/* ---- Random jobs -------------------------------------------------------------------------------------------- */

static void give(qd_unit *u, const rtl_job *j) {
    const rtl_command *c = j->commands.data;
    for (size_t i = 0; i < j->commands.bytes / sizeof *c; i++) {
        const qd_unit_command command = {c[i].words, c[i].groups, c[i].channels, c[i].edge, c[i].flags};
        ck_ok(qd_unit_give(u, &command, NULL));
    }
}

/* Jobs one after the other: banks stay full from one to the next. */
static void check_jobs(const rtl_model *m, uint64_t seed) {
    enum { JOBS = 5 };
    bench_random r = {seed ^ 0xc1c1e5};
    const rtl_stalls stalls = bench_stalls(&r);
    char what[80];
    pair p;
    bench_unit u;
    uint64_t w = 0, x = 0, c = 0, y = 0;
    open_pair(&p, m, seed % 4 ? &stalls : NULL);
    bench_open(&u, rtl_board_shape(p.board));
    for (int i = 0; i < JOBS; i++) {
        rtl_job j = {0};
        rtl_list want = {0};
        const int64_t commands = bench_one_in(&r, 4) ? 1 : bench_between(&r, 1, 24);
        for (int64_t n = 0; n < commands; n++)
            bench_add(&u, &r, n + 1 == commands, &j, &want);
        if (i > 0) qd_unit_wait(p.unit, BEFORE + AFTER);
        give(p.unit, &j);
        ck_ok(rtl_board_run(p.board, &j));
        snprintf(what, sizeof what, "%s, seed %" PRIu64 ", job %d", m->name, seed, i);
        same(&p, what);
        w += j.w.bytes / (size_t)m->w_bytes;
        x += j.x.bytes / (size_t)m->x_bytes;
        c += j.c.bytes / 12;
        y += j.beats;
        rtl_job_free(&j);
        free(want.data);
    }
    const qd_unit_report report = qd_unit_report_of(p.unit);
    ck_assert_uint_eq(report.beats[QD_UNIT_W], w);
    ck_assert_uint_eq(report.beats[QD_UNIT_X], x);
    ck_assert_uint_eq(report.beats[QD_UNIT_C], c);
    ck_assert_uint_eq(report.beats[QD_UNIT_Y], y);
    bench_close(&u);
    close_pair(&p);
}

START_TEST(test_jobs) {
    const rtl_model *m = bench_model(_i, only_shape);
    for (int64_t i = 0; m && i < boards; i++)
        check_jobs(m, first_seed + (uint64_t)i);
    if (m) printf("%s: %" PRIu64 " jobs, each equal to the cycle\n", m->name, compared);
}
END_TEST

/* ---- Products ----------------------------------------------------------------------------------------------- */

/* A product of any size, cut as the device rtl cuts it. */
static void check_product(const rtl_model *m, uint64_t seed) {
    bench_random r = {seed ^ 0x9d0d};
    const rtl_stalls stalls = bench_stalls(&r);
    char what[120];
    pair p;
    open_pair(&p, m, seed % 2 ? &stalls : NULL);
    const rtl_shape *s = rtl_board_shape(p.board);
    qd_unit_product o = {.m = bench_between(&r, 1, bench_one_in(&r, 2) ? 4 : 40),
                         .n = bench_between(&r, 1, 30),
                         .k = bench_between(&r, 1, bench_one_in(&r, 4) ? 1000 : 60),
                         .w_bits = bench_one_in(&r, 2) ? 8 : 4};
    if (bench_one_in(&r, 3)) o.part = s->lanes * bench_between(&r, 1, 4);
    const size_t parts = (size_t)(o.part ? (o.k + o.part - 1) / o.part : 1);
    uint8_t *w = calloc((size_t)(o.n * o.k), 1), *x = calloc((size_t)(o.m * o.k), 1);
    rtl_channel *channels = calloc((size_t)o.n, sizeof *channels);
    int32_t *y = calloc((size_t)(o.m * o.n) * parts, sizeof *y);
    const rtl_product product = {.n = o.n,
                                 .m = o.m,
                                 .k = o.k,
                                 .w = {w, true},
                                 .x = {x, true},
                                 .w_bits = o.w_bits,
                                 .channels = channels,
                                 .flags = RTL_RAW,
                                 .part = o.part,
                                 .y = y};
    ck_ok(rtl_product_run(p.board, &product));
    ck_ok(qd_unit_give_product(p.unit, &o, NULL, NULL));
    snprintf(what, sizeof what, "%s, seed %" PRIu64 ", product", m->name, seed);
    same(&p, what);
    free(w);
    free(x);
    free(channels);
    free(y);
    close_pair(&p);
}

START_TEST(test_products) {
    const rtl_model *m = bench_model(_i, only_shape);
    for (int64_t i = 0; m && i < boards; i++)
        check_product(m, first_seed + (uint64_t)i);
}
END_TEST

/* ---- Refusals ----------------------------------------------------------------------------------------------- */

/* What the model refuses, the unit refuses; that it takes what the unit takes was seen above. */
START_TEST(test_refusals) {
    const rtl_model *m = bench_model(_i, only_shape);
    bench_random r = {5};
    for (int refused = 0; m && refused < 60;) {
        pair p;
        rtl_job j = {0};
        const rtl_channel channels[512] = {{0}};
        open_pair(&p, m, NULL);
        const rtl_shape *s = rtl_board_shape(p.board);
        rtl_command asked = {.words = (uint32_t)bench_between(&r, 0, s->w_words + 1),
                             .groups = (uint32_t)bench_between(&r, 0, bench_one_in(&r, 2) ? 2 : s->x_words + 1),
                             .channels = (uint32_t)bench_between(&r, 0, 2 * s->rows + 1),
                             .edge = (uint32_t)bench_between(&r, 0, s->cols + 1),
                             .flags = RTL_LOAD_W | RTL_LOAD_X | RTL_LOAD_C | RTL_FIRST | RTL_LAST |
                                      (bench_one_in(&r, 2) ? RTL_INT4 : 0) | (bench_one_in(&r, 2) ? RTL_STEP_W : 0)};
        if (bench_one_in(&r, 3)) asked.flags &= (uint32_t)bench_bits(&r);
        const qd_unit_command command = {asked.words, asked.groups, asked.channels, asked.edge, asked.flags};
        if (qd_unit_give(p.unit, &command, NULL)) {
            ck_ok(rtl_job_command(&j, s, &asked, channels));
            ck_fails(rtl_board_run(p.board, &j), QD_ERR_UNSUPPORTED, "refused");
            rtl_job_free(&j);
            refused++;
        }
        close_pair(&p);
    }
}
END_TEST

int main(int argc, char **argv) {
    if (argc > 1) boards = strtoll(argv[1], NULL, 10);
    if (argc > 2 && *argv[2]) only_shape = argv[2];
    if (argc > 3) first_seed = strtoull(argv[3], NULL, 10);
    TCase *tc = tcase_create("cycles");
    tcase_add_loop_test(tc, test_jobs, 0, BENCH_MODELS);
    tcase_add_loop_test(tc, test_products, 0, BENCH_MODELS);
    tcase_add_loop_test(tc, test_refusals, 0, BENCH_MODELS);
    return bench_run("cycles", tc);
}
