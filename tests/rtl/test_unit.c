/* The verilated unit of hls/rtl against plain sums and qdot_num.h: random jobs, half of them with streams that stop now
 * and then; what the unit refuses; its counters and cycles.
 *
 *   rtl_test_unit [JOBS [SHAPE [SEED]]]     jobs of each shape; default: 150
 *
 * QDOT_RTL_MODELS: a shared library with other models of the same names (mutants.py). */
#include "rtl/bench.h"
#include "rtl/models.h"
#include "unit/devices.h"

static int64_t jobs = 150;
static const char *only_shape;
static uint64_t first_seed = 1;

static void same_results(const rtl_job *j, const rtl_list *want, const char *what, uint64_t seed) {
    const int32_t *got = j->y.data;
    const int64_t *should = want->data;
    const size_t n = j->y.bytes / sizeof *got, wanted = want->bytes / sizeof *should;
    ck_assert_msg(n == wanted, "%s, seed %llu: %zu results, not %zu", what, (unsigned long long)seed, n, wanted);
    for (size_t i = 0; i < n; i++) {
        ck_assert_msg(should[i] == BENCH_ANY || got[i] == should[i], "%s, seed %llu: result %zu is %d, not %lld", what,
                      (unsigned long long)seed, i, got[i], (long long)should[i]);
    }
}

/* Busy cycles are each counted under one cause. */
static void add_up(const rtl_counters *c) {
    ck_assert_uint_eq(c->busy, c->issued + c->wait_w + c->wait_x + c->wait_c + c->wait_drain + c->tail);
}

/* ---- Random jobs -------------------------------------------------------------------------------------------- */

/* A board that runs several jobs, one after the other: what is left in the unit by one is there for the next. */
static void check_jobs(const rtl_model *m, uint64_t seed, int64_t count) {
    bench_random r = {seed};
    const rtl_stalls stalls = bench_stalls(&r);
    rtl_board *b;
    bench_unit u;
    uint64_t words = 0;
    ck_ok(rtl_board_open(m, seed % 2 ? &stalls : NULL, &b));
    bench_open(&u, rtl_board_shape(b));
    for (int64_t i = 0; i < count; i++) {
        rtl_job j = {0};
        rtl_list want = {0};
        const int64_t commands = bench_one_in(&r, 4) ? 1 : bench_between(&r, 1, 14);
        for (int64_t n = 0; n < commands; n++)
            bench_add(&u, &r, n + 1 == commands, &j, &want);
        for (size_t n = 0; n < j.commands.bytes / sizeof(rtl_command); n++) {
            const rtl_command *c = (const rtl_command *)j.commands.data + n;
            words += (uint64_t)c->words * c->groups;
        }
        ck_ok(rtl_board_run(b, &j));
        same_results(&j, &want, m->name, seed);
        rtl_job_free(&j);
        free(want.data);
    }
    const rtl_counters c = rtl_board_counters(b);
    add_up(&c);
    ck_assert_uint_eq(c.issued, words);
    bench_close(&u);
    rtl_board_close(b);
}

START_TEST(test_jobs) {
    enum { PER_BOARD = 5 };
    const rtl_model *m = bench_model(_i, only_shape);
    if (!m) return;
    for (int64_t done = 0; done < jobs; done += PER_BOARD)
        check_jobs(m, first_seed + (uint64_t)(done / PER_BOARD), PER_BOARD);
}
END_TEST

/* ---- Speed -------------------------------------------------------------------------------------------------- */

static uint64_t larger(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* log2(lanes) */
static uint64_t levels_of(const rtl_shape *s) {
    uint64_t levels = 0;
    while (1 << levels < s->lanes)
        levels++;
    return levels;
}

/* The cycles of one command, as hls/rtl/README.md has them, whatever its size. */
static void check_cycles(const rtl_model *m, uint64_t seed) {
    bench_random r = {seed};
    rtl_board *b;
    bench_unit u;
    rtl_job j = {0};
    rtl_list want = {0};
    ck_ok(rtl_board_open(m, NULL, &b));
    const rtl_shape *s = rtl_board_shape(b);
    bench_open(&u, s);
    bench_add(&u, &r, true, &j, &want);
    const rtl_command *c = j.commands.data;
    ck_ok(rtl_board_run(b, &j));
    const uint64_t levels = levels_of(s), steps = (c->channels + (uint64_t)s->quants - 1) / (uint64_t)s->quants,
                   w = (uint64_t)c->words * (uint64_t)s->w_beats * (c->flags & RTL_STEP_W ? c->groups : 1),
                   x = (uint64_t)c->words * c->groups * (uint64_t)s->x_beats,
                   columns = c->flags & RTL_STEP_W ? c->edge : (uint64_t)s->cols,
                   group = larger(c->words, steps * columns + levels + 8);
    const uint64_t busy =
        larger(larger(w, x), c->channels) + c->words + (c->groups - 1) * group + steps * c->edge + levels + 27;
    const rtl_counters counters = rtl_board_counters(b);
    add_up(&counters);
    ck_assert_msg(counters.busy == busy,
                  "%s, seed %llu: %llu cycles, not %llu; %u words, %u groups, %u channels, %u columns", m->name,
                  (unsigned long long)seed, (unsigned long long)counters.busy, (unsigned long long)busy, c->words,
                  c->groups, c->channels, c->edge);
    ck_assert_uint_eq(counters.issued, (uint64_t)c->words * c->groups);
    ck_assert_uint_eq(counters.wait_drain, (c->groups - 1) * (group - c->words));
    ck_assert_uint_eq(counters.commands, 1);
    rtl_job_free(&j);
    free(want.data);
    bench_close(&u);
    rtl_board_close(b);
}

START_TEST(test_cycles) {
    const rtl_model *m = bench_model(_i, only_shape);
    for (uint64_t seed = 1; m && seed <= 40; seed++)
        check_cycles(m, seed);
}
END_TEST

/* Large tiles: the columns of a bank, against many tiles of weights. At least 95 cycles in 100 issue a word, unless the
 * streams of w or c, a beat a cycle, or the drain need longer for a tile than its products. */
START_TEST(test_utilization) {
    const rtl_model *m = bench_model(_i, only_shape);
    if (!m) return;
    bench_random r = {7};
    rtl_board *b;
    bench_unit u;
    rtl_job j = {0};
    rtl_list want = {0};
    uint64_t issue = 0, least = 0; /* cycles of a tile */
    ck_ok(rtl_board_open(m, NULL, &b));
    const rtl_shape *s = rtl_board_shape(b);
    bench_open(&u, s);
    for (int tile = 0; tile < 300; tile++) {
        /* Whole sums, each of which takes longer than the one before takes to leave. */
        rtl_command c = {.words = (uint32_t)(s->w_words < s->x_words ? s->w_words : s->x_words),
                         .channels = (uint32_t)s->rows,
                         .edge = (uint32_t)s->cols,
                         .min = -128,
                         .max = 127,
                         .flags = RTL_W_SIGNED | RTL_X_SIGNED | RTL_LOAD_W | RTL_LOAD_C | RTL_FIRST | RTL_LAST};
        c.groups = (uint32_t)s->x_words / c.words;
        issue = larger(issue, (uint64_t)c.words * c.groups);
        const uint64_t drain = (uint64_t)(s->rows / s->quants * s->cols) + levels_of(s) + 8;
        least =
            larger(c.groups * larger(c.words, drain), larger((uint64_t)c.words * (uint64_t)s->w_beats, c.channels) + 2);
        if (tile == 0) c.flags |= RTL_LOAD_X;
        bench_add_tile(&u, &r, &c, &j, &want);
    }
    ck_ok(rtl_board_run(b, &j));
    same_results(&j, &want, m->name, 7);
    const rtl_counters c = rtl_board_counters(b);
    add_up(&c);
    ck_assert_uint_ge(c.issued * 100 * least, 95 * c.busy * issue);
    if (!strcmp(m->name, "rtl_plain")) ck_assert_uint_eq(least, issue);
    printf("%s: %llu of %llu cycles issue a word; waiting for w %llu, x %llu, c %llu, the drain %llu; tail %llu\n",
           m->name, (unsigned long long)c.issued, (unsigned long long)c.busy, (unsigned long long)c.wait_w,
           (unsigned long long)c.wait_x, (unsigned long long)c.wait_c, (unsigned long long)c.wait_drain,
           (unsigned long long)c.tail);
    rtl_job_free(&j);
    free(want.data);
    bench_close(&u);
    rtl_board_close(b);
}
END_TEST

/* ---- Registers ---------------------------------------------------------------------------------------------- */

static uint32_t access_register(const rtl_model *m, void *unit, bool write, uint32_t address, uint32_t value) {
    rtl_pins p = {.bus_valid = 1, .bus_write = write, .bus_address = (uint8_t)address, .bus_wdata = value};
    for (int i = 0; !p.bus_ready; i++) {
        ck_assert_int_lt(i, 3); /* it waits for two cycles after COMMAND */
        m->settle(unit, &p);
        m->clock(unit);
    }
    return p.bus_rdata;
}

static uint32_t read_register(const rtl_model *m, void *unit, uint32_t address) {
    return access_register(m, unit, false, address, 0);
}

static void *open_reset(const rtl_model *m) {
    void *unit = m->open();
    ck_assert_ptr_nonnull(unit);
    rtl_pins reset = {.rst = 1};
    for (int i = 0; i < 4; i++) {
        m->settle(unit, &reset);
        m->clock(unit);
    }
    return unit;
}

static void check_registers(const rtl_model *m, void *unit, const uint32_t is[64], uint32_t written) {
    for (uint32_t i = 0; i < 64; i++) {
        const uint32_t got = read_register(m, unit, 4 * i);
        ck_assert_msg(got == is[i], "%s: %02x is %08x, not %08x, after %02x was written", m->name, 4 * i, got, is[i],
                      written);
    }
}

/* Every address that is a multiple of 4: four registers keep what is written, the others are what they are. */
START_TEST(test_registers) {
    const rtl_model *m = bench_model(_i, only_shape);
    if (!m) return;
    void *unit = open_reset(m);
    uint32_t is[64] = {[RTL_ID / 4] = RTL_ID_VALUE};
    is[RTL_SHAPE / 4] = read_register(m, unit, RTL_SHAPE);
    is[RTL_LIMITS / 4] = read_register(m, unit, RTL_LIMITS);
    for (uint32_t address = RTL_SIZE; address <= RTL_CODES; address += 4)
        access_register(m, unit, true, address, 0);
    check_registers(m, unit, is, RTL_CODES);
    /* A command without words: counters that are not 0. */
    access_register(m, unit, true, RTL_COMMAND, RTL_FIRST | RTL_LAST);
    is[RTL_STATUS / 4] = 1;
    is[RTL_COUNTERS / 4] = is[RTL_COUNTERS / 4 + 6] = 2; /* busy, without a command */
    check_registers(m, unit, is, RTL_COMMAND);
    bench_random r = {11};
    for (uint32_t i = 0; i < 64; i++) {
        const uint32_t address = 4 * i, value = (uint32_t)bench_bits(&r);
        if (address == RTL_COMMAND) continue;
        access_register(m, unit, true, address, value);
        if (address >= RTL_SIZE && address <= RTL_CODES) is[i] = value;
        if (address == RTL_STATUS) is[i] = is[RTL_COUNTERS / 4] = is[RTL_COUNTERS / 4 + 6] = 0;
        check_registers(m, unit, is, address);
    }
    m->close(unit);
}
END_TEST

/* The first reason stays, and no command is taken, until STATUS is written; that also clears the counters. */
START_TEST(test_status) {
    const rtl_model *m = bench_model(_i, only_shape);
    if (!m) return;
    const uint32_t ends = RTL_FIRST | RTL_LAST, all = RTL_LOAD_W | RTL_LOAD_X | RTL_LOAD_C | ends;
    void *unit = open_reset(m);
    for (int i = 0; i < 3; i++) {
        access_register(m, unit, true, RTL_SIZE, 0x10000);
        access_register(m, unit, true, RTL_TILE, 0x10001);
        access_register(m, unit, true, RTL_COMMAND, all);
        ck_assert_uint_eq(read_register(m, unit, RTL_STATUS), 1); /* no words */
        access_register(m, unit, true, RTL_SIZE, 0x10001);
        access_register(m, unit, true, RTL_COMMAND, ends);
        ck_assert_uint_eq(read_register(m, unit, RTL_STATUS), 1);
        access_register(m, unit, true, RTL_COMMAND, all);
        ck_assert_uint_eq(read_register(m, unit, RTL_STATUS), 1); /* and not busy */
        ck_assert_uint_eq(read_register(m, unit, RTL_COUNTERS), 6);
        access_register(m, unit, true, RTL_STATUS, 0);
        ck_assert_uint_eq(read_register(m, unit, RTL_STATUS), 0);
        ck_assert_uint_eq(read_register(m, unit, RTL_COUNTERS), 0);
        access_register(m, unit, true, RTL_COMMAND, ends);
        ck_assert_uint_eq(read_register(m, unit, RTL_STATUS), 7); /* nothing of all this was loaded */
        access_register(m, unit, true, RTL_STATUS, 0);
    }
    access_register(m, unit, true, RTL_COMMAND, all);
    ck_assert_uint_eq(read_register(m, unit, RTL_STATUS), 0x80000000u);
    m->close(unit);
}
END_TEST

/* ---- Refusals ----------------------------------------------------------------------------------------------- */

static const rtl_command good = {.words = 1,
                                 .groups = 1,
                                 .channels = 1,
                                 .edge = 1,
                                 .max = 127,
                                 .flags = RTL_LOAD_W | RTL_LOAD_X | RTL_LOAD_C | RTL_FIRST | RTL_LAST};

static void refuses(const rtl_model *m, rtl_command c, const char *why) {
    rtl_board *b;
    rtl_job j = {0};
    const rtl_channel channels[256] = {{0}};
    ck_ok(rtl_board_open(m, NULL, &b));
    const rtl_shape *s = rtl_board_shape(b);
    ck_ok(rtl_job_command(&j, s, &c, channels));
    ck_fails(rtl_board_run(b, &j), QD_ERR_UNSUPPORTED, why);
    rtl_job_free(&j);
    /* The unit goes on: largest sizes that are allowed. */
    bench_random r = {3};
    bench_unit u;
    rtl_list want = {0};
    bench_open(&u, s);
    bench_add(&u, &r, true, &j, &want);
    ck_ok(rtl_board_run(b, &j));
    same_results(&j, &want, m->name, 3);
    rtl_job_free(&j);
    free(want.data);
    bench_close(&u);
    rtl_board_close(b);
}

START_TEST(test_refusals) {
    const rtl_model *m = bench_model(_i, only_shape);
    if (!m) return;
    rtl_board *b;
    ck_ok(rtl_board_open(m, NULL, &b));
    const rtl_shape s = *rtl_board_shape(b);
    rtl_board_close(b);
    rtl_command c;
#define REFUSES(why, ...)   \
    do {                    \
        c = good;           \
        __VA_ARGS__;        \
        refuses(m, c, why); \
    } while (0)
    REFUSES("are 0", c.words = 0);
    REFUSES("are 0", c.groups = 0);
    REFUSES("are 0", c.channels = 0);
    REFUSES("are 0", c.edge = 0);
    REFUSES("weight buffer", c.words = (uint32_t)s.w_words + 1);
    REFUSES("column buffer", c.groups = (uint32_t)s.x_words + 1);
    REFUSES("more channels", c.channels = (uint32_t)s.rows + 1);
    REFUSES("more channels", c.channels = 2 * (uint32_t)s.rows + 1, c.flags |= RTL_INT4);
    REFUSES("more columns", c.edge = (uint32_t)s.cols + 1);
    REFUSES("part of K", c.groups = 2, c.flags &= ~(uint32_t)RTL_FIRST);
    REFUSES("part of K", c.groups = 2, c.flags &= ~(uint32_t)RTL_LAST);
    REFUSES("never loaded", c.flags &= ~(uint32_t)RTL_LOAD_W);
    REFUSES("never loaded", c.flags &= ~(uint32_t)RTL_LOAD_X);
    REFUSES("never loaded", c.flags &= ~(uint32_t)RTL_LOAD_C);
    /* Fields are of 16 bits. */
    REFUSES("weight buffer", c.words = 0x8001);
    REFUSES("column buffer", c.groups = 0x8001);
    REFUSES("more channels", c.channels = 0x8001, c.flags &= ~(uint32_t)RTL_LOAD_C);
    REFUSES("more columns", c.edge = 0x8001);
    if (s.x_words > s.w_words) REFUSES("weight buffer", c.groups = (uint32_t)s.w_words + 1, c.flags |= RTL_STEP_W);
}
END_TEST

int main(int argc, char **argv) {
    if (argc > 1) jobs = strtoll(argv[1], NULL, 10);
    if (argc > 2 && *argv[2]) only_shape = argv[2];
    if (argc > 3) first_seed = strtoull(argv[3], NULL, 10);
    TCase *tc = tcase_create("unit");
    tcase_add_loop_test(tc, test_jobs, 0, BENCH_MODELS);
    tcase_add_loop_test(tc, test_cycles, 0, BENCH_MODELS);
    tcase_add_loop_test(tc, test_utilization, 0, BENCH_MODELS);
    tcase_add_loop_test(tc, test_registers, 0, BENCH_MODELS);
    tcase_add_loop_test(tc, test_status, 0, BENCH_MODELS);
    tcase_add_loop_test(tc, test_refusals, 0, BENCH_MODELS);
    return bench_run("rtl", tc);
}
