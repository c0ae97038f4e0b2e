/* The cycle model of the unit without the unit (tests/rtl has that): streams with a rate, causes, bad input, speed. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sim/unit.h"

enum { ALL = QD_UNIT_LOAD_W | QD_UNIT_LOAD_X | QD_UNIT_LOAD_C | QD_UNIT_FIRST | QD_UNIT_LAST };

static const qd_unit_shape shape = {.rows = 8,
                                    .cols = 8,
                                    .lanes = 8,
                                    .quants = 4,
                                    .pack = 1,
                                    .w_bytes = 16,
                                    .x_bytes = 16,
                                    .w_address = 9,
                                    .x_address = 9};

static uint64_t sum_of(const qd_unit_report *r) {
    uint64_t sum = 0;
    for (int i = 0; i < QD_UNIT_CAUSES; i++)
        sum += r->cause[i];
    return sum;
}

/* ---- Rates -------------------------------------------------------------------------------------------------- */

/* A stream with a rate, a cycle at a time. */
typedef struct bucket {
    uint64_t cycle, tokens, rate, depth, latency;
} bucket;

/* `beats` from cycle `ready` on; the cycle of the last. */
static uint64_t step_through(bucket *b, uint64_t ready, uint64_t beats, uint64_t *first) {
    const uint64_t one = (uint64_t)1 << 32;
    *first = 0;
    for (;; b->cycle++) {
        if (b->cycle < b->latency) continue;
        b->tokens += b->rate;
        if (b->tokens > b->depth) b->tokens = b->depth;
        if (b->cycle < ready || b->tokens < one) continue;
        b->tokens -= one;
        if (!*first) *first = b->cycle;
        if (--beats == 0) return b->cycle++;
    }
}

/* Loads of weights by memory of many rates, held against one that is stepped through. */
START_TEST(test_rates) {
    static const double rates[] = {0.01, 0.2, 0.333, 0.5, 0.75, 0.99, 1.0, 3.0};
    const double rate = rates[_i];
    for (uint32_t depth = 0; depth < 200; depth = depth * 3 + 1) {
        const uint64_t latency = depth * 7;
        qd_unit_streams streams = {0};
        streams.stream[QD_UNIT_W] = (qd_unit_stream){.rate = rate, .depth = depth, .latency = latency};
        bucket b = {.rate = (uint64_t)(fmin(rate, 1) * 4294967296.0),
                    .depth = (uint64_t)(depth > 2 ? depth : 2) << 32,
                    .latency = latency};
        qd_unit *u;
        ck_assert_int_eq(qd_unit_open(&shape, &streams, &u), QD_OK);
        uint64_t next = 0, start = 0; /* when the loader came to its next command; when the last one started */
        for (uint32_t i = 0; i < 30; i++) {
            /* From short to long sums: now the weights are late, now the array. */
            const qd_unit_command c = {1 + i * 5 % 40, 1 + i % 3 * 5, 8, 8, ALL};
            qd_unit_times t;
            ck_assert_int_eq(qd_unit_give(u, &c, &t), QD_OK);
            const uint64_t queued = t.given + 3, free = i < 2 ? 0 : start + 1;
            uint64_t ready = queued > next ? queued : next, first;
            if (free > ready) ready = free;
            const uint64_t last = step_through(&b, ready + 1, (uint64_t)c.words * 4, &first);
            ck_assert_uint_eq(t.w_load[0], first);
            ck_assert_uint_eq(t.w_load[1], last);
            ck_assert_uint_gt(t.first_word, last);
            next = last + 1;
            start = t.first_word - 1;
        }
        const qd_unit_report r = qd_unit_report_of(u);
        ck_assert_uint_eq(sum_of(&r), r.cycles);
        qd_unit_close(u);
    }
}
END_TEST

/* In the end the slowest stream sets the pace, and its wait is named. */
START_TEST(test_slow_streams) {
    static const qd_unit_cause causes[] = {QD_UNIT_WEIGHTS, QD_UNIT_COLUMNS, QD_UNIT_CHANNELS, QD_UNIT_RESULTS,
                                           QD_UNIT_QUEUE};
    static const double rates[] = {0.25, 0.25, 0.01, 0.02, 0.002};
    for (int s = 0; s < QD_UNIT_STREAMS; s++) {
        qd_unit_streams streams = {0};
        streams.stream[s].rate = rates[s];
        qd_unit *u;
        ck_assert_int_eq(qd_unit_open(&shape, &streams, &u), QD_OK);
        const qd_unit_command c = {100, 1, 8, 8, ALL};
        for (int i = 0; i < 200; i++)
            ck_assert_int_eq(qd_unit_give(u, &c, NULL), QD_OK);
        const qd_unit_report r = qd_unit_report_of(u);
        ck_assert_uint_eq(sum_of(&r), r.cycles);
        const double expected = (double)r.beats[s] / rates[s];
        ck_assert_double_ge((double)r.cycles, expected - 10);
        ck_assert_double_le((double)r.cycles, expected * 1.03 + 500);
        for (int i = 1; i < QD_UNIT_CAUSES; i++)
            ck_assert(i == (int)causes[s] || r.cause[i] < r.cause[causes[s]]);
        qd_unit_close(u);
    }
}
END_TEST

/* ---- Products ----------------------------------------------------------------------------------------------- */

static void count(void *user, const qd_unit_command *c, const qd_unit_times *t) {
    uint64_t *last = user;
    ck_assert_uint_ge(t->first_word, *last); /* commands follow each other */
    *last = t->last_word;
    ck_assert_uint_ge(c->words, 1);
}

/* Every product is worked on once; a large one uses the array nearly always. */
START_TEST(test_products) {
    static const qd_unit_product products[] = {{1, 1, 1, 8, 0},      {100, 33, 77, 8, 0},  {3, 100, 9000, 8, 0},
                                               {40, 24, 640, 4, 16}, {64, 48, 4096, 4, 0}, {512, 512, 512, 8, 0}};
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++) {
        const qd_unit_product *p = &products[i];
        qd_unit *u;
        uint64_t last = 0;
        ck_assert_int_eq(qd_unit_open(&shape, NULL, &u), QD_OK);
        ck_assert_int_eq(qd_unit_give_product(u, p, count, &last), QD_OK);
        const qd_unit_report r = qd_unit_report_of(u);
        const int64_t part = p->part ? p->part : p->k, k = (part + 7) / 8 * 8 * ((p->k + part - 1) / part);
        ck_assert_uint_eq(sum_of(&r), r.cycles);
        ck_assert_uint_eq(r.products, (uint64_t)(p->m * p->n * k));
        if (i == 5) ck_assert_double_ge((double)r.products / (8.0 * 8 * 8), 0.9 * (double)r.cycles);
        qd_unit_close(u);
    }
}
END_TEST

/* A product with a vector of a large model takes the model milliseconds, not minutes. */
START_TEST(test_speed) {
    qd_unit *u;
    qd_unit_streams streams = {0};
    streams.stream[QD_UNIT_W] = (qd_unit_stream){.rate = 0.6, .depth = 64, .latency = 100};
    ck_assert_int_eq(qd_unit_open(&shape, &streams, &u), QD_OK);
    const qd_unit_product p = {1, 1000000, 4096, 8, 0};
    ck_assert_int_eq(qd_unit_give_product(u, &p, NULL, NULL), QD_OK);
    const qd_unit_report r = qd_unit_report_of(u);
    ck_assert_uint_ge(r.cycles, 1000000ull * 4096 / 16);
    qd_unit_close(u);
}
END_TEST

/* ---- Bad input ---------------------------------------------------------------------------------------------- */

static void refuses(qd_status status, qd_status want, const char *part) {
    ck_assert_int_eq(status, want);
    ck_assert_msg(strstr(qd_last_message(), part) != NULL, "\"%s\" does not say \"%s\"", qd_last_message(), part);
}

START_TEST(test_bad_input) {
    qd_unit *u = NULL;
    qd_unit_report r;
    qd_unit_shape s;
#define BAD(part, change)                                           \
    do {                                                            \
        s = shape;                                                  \
        s.change;                                                   \
        refuses(qd_unit_open(&s, NULL, &u), QD_ERR_ARGUMENT, part); \
    } while (0)
    BAD("rows", rows = 0);
    BAD("columns", cols = 256);
    BAD("lanes", lanes = 6);
    BAD("quants", quants = 3);
    BAD("quants", quants = 16);
    BAD("pack", pack = 2);
    BAD("beats of w", w_bytes = 7);
    BAD("beats of x", x_bytes = 0);
    BAD("banks of w", w_address = 0);
    BAD("banks of x", x_address = 16);
    qd_unit_streams streams = {0};
    streams.stream[QD_UNIT_Y].rate = -1;
    refuses(qd_unit_open(&shape, &streams, &u), QD_ERR_ARGUMENT, "stream y");
    streams.stream[QD_UNIT_Y].rate = NAN;
    refuses(qd_unit_open(&shape, &streams, &u), QD_ERR_ARGUMENT, "stream y");
    const qd_unit_command good = {1, 1, 1, 1, ALL}, commands[] = {good, {513, 1, 1, 1, ALL}};
    refuses(qd_unit_cycles(&shape, commands, 2, NULL, &r), QD_ERR_UNSUPPORTED, "513 words of weights");
    ck_assert_int_eq(qd_unit_open(&shape, NULL, &u), QD_OK);
    const qd_unit_product products[] = {{0, 1, 1, 8, 0}, {1, 1, 1, 5, 0}, {1, 1, 64, 4, 12}, {1, 1, 8192, 4, 8192}};
    refuses(qd_unit_give_product(u, &products[0], NULL, NULL), QD_ERR_ARGUMENT, "1 or more");
    refuses(qd_unit_give_product(u, &products[1], NULL, NULL), QD_ERR_ARGUMENT, "5 bits");
    refuses(qd_unit_give_product(u, &products[2], NULL, NULL), QD_ERR_ARGUMENT, "8 lanes");
    refuses(qd_unit_give_product(u, &products[3], NULL, NULL), QD_ERR_UNSUPPORTED, "512 words");
    /* Nothing was given. */
    ck_assert_uint_eq(qd_unit_report_of(u).cycles, 0);
    qd_unit_close(u);
    qd_unit_close(NULL);
    for (int i = 0; i < QD_UNIT_CAUSES; i++)
        ck_assert_str_ne(qd_unit_cause_name((qd_unit_cause)i), "");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("unit");
    TCase *tc = tcase_create("unit");
    tcase_add_loop_test(tc, test_rates, 0, 8);
    tcase_add_test(tc, test_slow_streams);
    tcase_add_test(tc, test_products);
    tcase_add_test(tc, test_speed);
    tcase_add_test(tc, test_bad_input);
    tcase_set_timeout(tc, 120);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
