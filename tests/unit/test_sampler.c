/* The sampler: its filters one by one, its generator against published numbers, what it refuses. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "qdot/qdot_num.h"

#define EXPECT_STATUS(call, expected, text)                                                                     \
    do {                                                                                                        \
        ck_assert_int_eq((call), (expected));                                                                   \
        ck_assert_msg(strstr(qd_last_message(), (text)), "message '%s' lacks '%s'", qd_last_message(), (text)); \
    } while (0)

/* Nothing but temperature 1. */
static qd_sampler_options plain(void) {
    qd_sampler_options o = qd_sampler_defaults();
    o.temperature = 1;
    o.top_k = 0;
    o.top_p = 1;
    o.min_p = 0;
    return o;
}

static qd_sampler *create(qd_sampler_options o, int32_t vocab) {
    qd_sampler *s = NULL;
    ck_assert_msg(qd_sampler_create(&o, vocab, &s) == QD_OK, "%s", qd_last_message());
    return s;
}

static int32_t next(qd_sampler *s, const float *logits) {
    int32_t token = -1;
    ck_assert_msg(qd_sampler_next(s, logits, &token) == QD_OK, "%s", qd_last_message());
    return token;
}

/* Draws 20000 tokens and counts them. */
enum { DRAWS = 20000, MOST = 16 };
static void draw(qd_sampler_options o, const float *logits, int32_t vocab, int counts[MOST]) {
    qd_sampler *s = create(o, vocab);
    memset(counts, 0, MOST * sizeof *counts);
    for (int i = 0; i < DRAWS; i++)
        counts[next(s, logits)]++;
    qd_sampler_free(s);
}

START_TEST(defaults) {
    const qd_sampler_options o = qd_sampler_defaults();
    ck_assert(o.temperature == 0.8f && o.top_k == 40 && o.top_p == 0.95f && o.min_p == 0.05f);
    ck_assert(o.repetition_penalty == 1 && o.penalty_window == 64 && o.seed == 0);
}
END_TEST

START_TEST(greedy) {
    qd_sampler_options o = qd_sampler_defaults();
    o.temperature = 0;
    qd_sampler *s = create(o, 5);
    ck_assert_int_eq(next(s, (const float[]){1, 3, 2, 3, -1}), 1); /* ties go to the lower token */
    ck_assert_int_eq(next(s, (const float[]){-5, -INFINITY, -4, -6, -INFINITY}), 2);
    qd_sampler_free(s);
    o.temperature = -1;
    s = create(o, 1);
    ck_assert_int_eq(next(s, (const float[]){-7}), 0);
    qd_sampler_free(s);
}
END_TEST

/* The likeliest of vocabularies of many sizes, wherever it is and with others like it: the first that nothing exceeds.
 * A penalty of a token that is not there takes another way to the same one. */
START_TEST(greedy_sizes) {
    static const int32_t sizes[] = {1, 2, 15, 16, 17, 31, 33, 1023, 1024, 1025, 1040, 1055, 3000, 49152};
    enum { LARGEST = 49152 };
    static float logits[LARGEST];
    uint32_t rng = 9;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        const int32_t n = sizes[k];
        qd_sampler_options o = qd_sampler_defaults();
        o.temperature = 0;
        qd_sampler *plain_one = create(o, n);
        o.repetition_penalty = 1.5f;
        for (int turn = 0; turn < 60; turn++) {
            const uint32_t kinds = turn % 3 == 0 ? 3 : 100000; /* few kinds: many are equal, zeros of both signs too */
            for (int32_t i = 0; i < n; i++) {
                rng = rng * 1664525u + 1013904223u;
                logits[i] = -(float)((rng >> 8) % kinds) * (turn % 2 ? 1.0f : -1.0f);
            }
            if (turn % 5 == 4) logits[rng % (uint32_t)n] = logits[(rng >> 9) % (uint32_t)n] = 200000;
            if (turn % 7 == 6) logits[n - 1] = -INFINITY;
            int32_t want = 0;
            for (int32_t i = 1; i < n; i++) {
                if (logits[i] > logits[want]) want = i;
            }
            if (isinf(logits[want])) continue;
            ck_assert_int_eq(next(plain_one, logits), want);
            qd_sampler *other = create(o, n);
            qd_sampler_accept(other, (want + n - 1) % n); /* what is lowered was not above it */
            ck_assert_int_eq(next(other, logits), want);
            qd_sampler_free(other);
            const int32_t bad = (int32_t)((rng >> 4) % (uint32_t)n);
            const float before = logits[bad];
            int32_t token = 77;
            logits[bad] = turn % 2 ? NAN : -NAN;
            EXPECT_STATUS(qd_sampler_next(plain_one, logits, &token), QD_ERR_ARGUMENT, "no number for token");
            logits[bad] = INFINITY;
            EXPECT_STATUS(qd_sampler_next(plain_one, logits, &token), QD_ERR_ARGUMENT, "infinite");
            ck_assert_int_eq(token, 77);
            logits[bad] = before;
        }
        qd_sampler_free(plain_one);
    }
}
END_TEST

/* Equal logits turn the generator's numbers into tokens. The numbers are SplitMix64's for the seed 1234567, as
 * published (Rosetta Code): 6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431,
 * 16408922859458223821; as parts of 2^64: 0.35008, 0.17364, 0.53221, 0.24901, 0.88953. */
START_TEST(generator) {
    static const int32_t expected[] = {350, 173, 532, 249, 889};
    static float logits[1000];
    qd_sampler_options o = plain();
    o.seed = 1234567;
    for (int pass = 0; pass < 2; pass++) {
        qd_sampler *s = create(o, 1000);
        for (int i = 0; i < 5; i++)
            ck_assert_int_eq(next(s, logits), expected[i]);
        qd_sampler_free(s);
    }
}
END_TEST

/* With all filters, on fixed logits: these tokens must come out on every machine. They were worked out by a second
 * implementation (Python, double precision). */
START_TEST(same_tokens_everywhere) {
    static const int32_t expected[] = {2674, 2682, 3219, 1420, 429,  3449, 3266, 3377, 3767, 778,  1359, 2469,
                                       2624, 634,  1171, 3706, 1334, 2826, 1453, 1564, 2674, 1536, 1456, 1611};
    static float logits[4096];
    qd_sampler_options o = qd_sampler_defaults();
    o.repetition_penalty = 1.3f;
    o.penalty_window = 8;
    o.seed = 42;
    qd_sampler *s = create(o, 4096);
    for (int step = 0; step < 24; step++) {
        for (int i = 0; i < 4096; i++)
            logits[i] = (float)((i * 7919 + step * 104729) % 4099) / 512.0f;
        const int32_t token = next(s, logits);
        ck_assert_msg(token == expected[step], "step %d: %d", step, token);
    }
    qd_sampler_free(s);
}
END_TEST

/* The definition, in the plainest way: all is sorted, sums are in the order of the ranking, or, of all tokens, of their
 * numbers. */
static const float *ranked_logits;

static int likelier_first(const void *a, const void *b) {
    const int32_t i = *(const int32_t *)a, k = *(const int32_t *)b;
    const float x = ranked_logits[i], y = ranked_logits[k];
    return x > y ? -1 : x < y ? 1 : i < k ? -1 : 1;
}

static double uniform(uint64_t *state) { /* SplitMix64 */
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static int32_t defined_next(const qd_sampler_options *o, uint64_t *state, const float *logits, int32_t n,
                            int32_t *order) {
    const int32_t limit = o->top_k > 0 && o->top_k < n ? o->top_k : n;
    double total = 0, sum = 0;
    int32_t kept = 0;
    for (int32_t i = 0; i < n; i++)
        order[i] = i;
    ranked_logits = logits;
    qsort(order, (size_t)n, sizeof *order, likelier_first);
    const float max = logits[order[0]];
    for (int32_t i = 0; i < limit; i++)
        total += (double)qd_exp(logits[limit < n ? order[i] : i] - max);
    for (; kept < limit; kept++) {
        const double w = (double)qd_exp(logits[order[kept]] - max);
        if (kept && (w < (double)o->min_p || (o->top_p < 1 && sum >= (double)o->top_p * total))) break;
        sum += w;
    }
    total = sum = 0;
    for (int32_t i = 0; i < kept; i++)
        total += (double)qd_exp((logits[order[i]] - max) / o->temperature);
    const double target = uniform(state) * total;
    for (int32_t i = 0; i < kept; i++) {
        sum += (double)qd_exp((logits[order[i]] - max) / o->temperature);
        if (sum > target) return order[i];
    }
    return order[kept - 1];
}

/* Vocabularies of many sizes; logits that are alike, far apart, of a few kinds, neighbours, or left out; every set of
 * filters. */
START_TEST(as_defined) {
    static const int32_t sizes[] = {1, 2, 63, 64, 65, 300, 20000};
    static const int top_k[] = {0, 1, 40, 1000, 19999};
    static const float top_p[] = {1, 0.95f, 0.3f, 0.9999f}, min_p[] = {0, 0.05f, 1e-7f}, penalties[] = {1, 1.3f, 0.5f};
    static const float spreads[] = {0.01f, 1, 30, 1e30f};
    enum { WINDOW = 8, LARGEST = 20000 };
    static float logits[LARGEST], penalized[LARGEST];
    static int32_t order[LARGEST];
    uint32_t rng = 21;
    for (int turn = 0; turn < 1000; turn++) {
        qd_sampler_options o = plain();
        rng = rng * 1664525u + 1013904223u;
        const uint32_t r = rng >> 8;
        const int32_t n = sizes[r % 7];
        const float spread = spreads[r / 7 % 4];
        o.top_k = top_k[r / 28 % 5];
        o.top_p = top_p[r / 140 % 4];
        o.min_p = min_p[r / 560 % 3];
        o.repetition_penalty = penalties[r / 1680 % 3];
        o.temperature = turn % 2 ? 0.8f : 3.0f;
        o.penalty_window = WINDOW;
        o.seed = rng;
        qd_sampler *s = create(o, n);
        uint64_t state = rng;
        int32_t window[WINDOW];
        for (int step = 0; step < 3; step++) {
            for (int32_t i = 0; i < n; i++) {
                rng = rng * 1664525u + 1013904223u;
                const float x = (float)(int32_t)rng * 0x1p-31f;
                logits[i] = spread * (turn % 5 == 0 ? copysignf((float)(int)(4 * fabsf(x)), x) : x);
                if (turn % 7 == 0) logits[i] = 1 + (float)(int)(8 * x) * 0x1p-23f; /* neighbours */
                if (turn % 3 == 0 && i % 4 == 1) logits[i] = -INFINITY;
            }
            memcpy(penalized, logits, sizeof logits);
            for (int i = 0; i < step; i++) {
                const float x = logits[window[i]];
                penalized[window[i]] = x > 0 ? x / o.repetition_penalty : x * o.repetition_penalty;
            }
            window[step] = defined_next(&o, &state, penalized, n, order);
            const int32_t token = next(s, logits);
            ck_assert_msg(token == window[step], "turn %d, step %d of %d tokens: %d, not %d", turn, step, n, token,
                          window[step]);
        }
        qd_sampler_free(s);
    }
}
END_TEST

START_TEST(probabilities) {
    /* Logits 0, ln 2, ln 4 at temperature 1: 1/7, 2/7, 4/7; at temperature 2: 1, √2, 2 parts of 4.414. */
    const float logits[] = {0, 0.69314718f, 1.38629436f, -INFINITY};
    int counts[MOST];
    qd_sampler_options o = plain();
    draw(o, logits, 4, counts);
    ck_assert_int_lt(abs(counts[0] - DRAWS / 7), 300);
    ck_assert_int_lt(abs(counts[1] - DRAWS * 2 / 7), 300);
    ck_assert_int_lt(abs(counts[2] - DRAWS * 4 / 7), 300);
    ck_assert_int_eq(counts[3], 0);
    o.temperature = 2;
    o.seed = 9;
    draw(o, logits, 4, counts);
    ck_assert_int_lt(abs(counts[0] - (int)(DRAWS / 4.41421)), 300);
    ck_assert_int_lt(abs(counts[2] - (int)(DRAWS * 2 / 4.41421)), 300);
    o.temperature = 1e-30f;
    draw(o, logits, 4, counts);
    ck_assert_int_eq(counts[2], DRAWS);
}
END_TEST

/* Probabilities 0.5, 0.25, 0.125, 0.125 in another order. Which tokens a filter leaves. */
static const struct {
    int top_k;
    float top_p, min_p, temperature;
    const char *kept; /* per token: can it be drawn */
} filters[] = {
    {0, 1, 0, 1, "1111"},      {1, 1, 0, 1, "0010"},      {2, 1, 0, 1, "1010"},
    {3, 1, 0, 1, "1110"}, /* of equal ones the lower token */
    {4, 1, 0, 1, "1111"},      {9, 1, 0, 1, "1111"},      {0, 0.4f, 0, 1, "0010"},
    {0, 0.6f, 0, 1, "1010"},   {0, 0.8f, 0, 1, "1110"},   {0, 0.9f, 0, 1, "1111"},
    {0, 1e-6f, 0, 1, "0010"},  {2, 0.6f, 0, 1, "0010"}, /* of the two, the first has 0.667 */
    {0, 1, 0.2f, 1, "1111"},   {0, 1, 0.24f, 1, "1111"},  {0, 1, 0.26f, 1, "1010"},
    {0, 0.74f, 0, 1, "1010"},  {0, 0.76f, 0, 1, "1110"},  {0, 1, 0.6f, 1, "0010"},
    {0, 1, 1, 1, "0010"},      {0, 0.6f, 0, 100, "1010"}, /* the temperature comes last */
    {0, 1, 0.3f, 100, "1010"},
};

START_TEST(filters_keep) {
    const float logits[] = {1.38629436f, 0.69314718f, 2.07944154f, 0.69314718f};
    qd_sampler_options o = plain();
    o.top_k = filters[_i].top_k;
    o.top_p = filters[_i].top_p;
    o.min_p = filters[_i].min_p;
    o.temperature = filters[_i].temperature;
    int counts[MOST];
    draw(o, logits, 4, counts);
    char kept[5] = "0000";
    for (int i = 0; i < 4; i++)
        kept[i] = counts[i] > 0 ? '1' : '0';
    ck_assert_str_eq(kept, filters[_i].kept);
}
END_TEST

START_TEST(penalty) {
    qd_sampler_options o = plain();
    o.temperature = 0;
    o.repetition_penalty = 2;
    o.penalty_window = 2;
    qd_sampler *s = create(o, 4);
    const float logits[] = {4, 3, 2.5f, -1};
    ck_assert_int_eq(next(s, logits), 0);
    ck_assert_int_eq(next(s, logits), 1); /* 0 counts 2 */
    ck_assert_int_eq(next(s, logits), 2); /* 1 counts 1.5 */
    ck_assert_int_eq(next(s, logits), 0); /* left the window */
    /* Seen twice is penalized once; negative logits are multiplied. */
    qd_sampler_accept(s, 3);
    qd_sampler_accept(s, 3);
    ck_assert_int_eq(next(s, (const float[]){-2.5f, -3, -3, -1}), 3);
    ck_assert_int_eq(next(s, (const float[]){-2.5f, -3, -3, -1.5f}), 0);
    qd_sampler_accept(s, -1); /* no tokens: nothing is remembered */
    qd_sampler_accept(s, 4);
    qd_sampler_accept(NULL, 0);
    ck_assert_int_eq(next(s, (const float[]){4, 3, 2.5f, 3.5f}), 1); /* 3 and 0 are in the window */
    qd_sampler_free(s);
    o.penalty_window = 0;
    s = create(o, 4);
    ck_assert_int_eq(next(s, logits), 0);
    ck_assert_int_eq(next(s, logits), 0);
    qd_sampler_free(s);
}
END_TEST

static const struct {
    float logits[3];
    const char *message;
} bad_logits[] = {{{1, NAN, 2}, "no number for token 1"},
                  {{1, 2, -NAN}, "no number for token 2"},
                  {{1, INFINITY, 2}, "infinite"},
                  {{-INFINITY, -INFINITY, -INFINITY}, "infinite"}};

START_TEST(logits_must_be_numbers) {
    for (int mode = 0; mode < 2; mode++) {
        qd_sampler_options o = plain();
        o.temperature = (float)mode;
        o.repetition_penalty = 2;
        qd_sampler *s = create(o, 3);
        int32_t token = 77;
        EXPECT_STATUS(qd_sampler_next(s, bad_logits[_i].logits, &token), QD_ERR_ARGUMENT, bad_logits[_i].message);
        ck_assert_int_eq(token, 77);
        qd_sampler_free(s);
    }
}
END_TEST

START_TEST(options_are_checked) {
    static const struct {
        size_t member;
        double value;
        const char *message;
    } cases[] = {
        {offsetof(qd_sampler_options, temperature), NAN, "temperature"},
        {offsetof(qd_sampler_options, temperature), INFINITY, "temperature"},
        {offsetof(qd_sampler_options, top_k), -1, "top_k is -1"},
        {offsetof(qd_sampler_options, top_p), 0, "top_p is 0"},
        {offsetof(qd_sampler_options, top_p), 1.01, "top_p"},
        {offsetof(qd_sampler_options, top_p), NAN, "top_p"},
        {offsetof(qd_sampler_options, min_p), -0.1, "min_p"},
        {offsetof(qd_sampler_options, min_p), 1.01, "min_p"},
        {offsetof(qd_sampler_options, min_p), NAN, "min_p"},
        {offsetof(qd_sampler_options, repetition_penalty), 0, "repetition penalty"},
        {offsetof(qd_sampler_options, repetition_penalty), INFINITY, "repetition penalty"},
        {offsetof(qd_sampler_options, penalty_window), -1, "penalty window is -1"},
        {offsetof(qd_sampler_options, penalty_window), INT32_MAX, "penalty window"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qd_sampler_options o = plain();
        const bool whole = cases[i].member == offsetof(qd_sampler_options, top_k) ||
                           cases[i].member == offsetof(qd_sampler_options, penalty_window);
        const int n = whole ? (int)cases[i].value : 0;
        const float x = (float)cases[i].value;
        memcpy((char *)&o + cases[i].member, whole ? (const void *)&n : (const void *)&x, 4);
        qd_sampler *s = NULL;
        EXPECT_STATUS(qd_sampler_create(&o, 3, &s), QD_ERR_ARGUMENT, cases[i].message);
        ck_assert_ptr_null(s);
    }
    const qd_sampler_options o = plain();
    qd_sampler *s = NULL;
    EXPECT_STATUS(qd_sampler_create(&o, 0, &s), QD_ERR_ARGUMENT, "vocabulary");
    ck_assert_int_eq(qd_sampler_create(NULL, 3, &s), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_sampler_create(&o, 3, NULL), QD_ERR_ARGUMENT);
    const float logits[3] = {0};
    int32_t token;
    s = create(o, 3);
    ck_assert_int_eq(qd_sampler_next(NULL, logits, &token), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_sampler_next(s, NULL, &token), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_sampler_next(s, logits, NULL), QD_ERR_ARGUMENT);
    qd_sampler_free(s);
    qd_sampler_free(NULL);
}
END_TEST

START_TEST(running_out_of_memory) {
    const qd_sampler_options o = plain();
    for (long n = 0; n < 7; n++) {
        qd_sampler *s = NULL;
        qd_alloc_fail_after(n);
        const qd_status status = qd_sampler_create(&o, 100, &s);
        qd_alloc_fail_after(-1);
        ck_assert_int_eq(status, QD_ERR_MEMORY);
        ck_assert_ptr_null(s);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sampler");
    TCase *all = tcase_create("all");
    tcase_set_timeout(all, 60);
    tcase_add_test(all, defaults);
    tcase_add_test(all, greedy);
    tcase_add_test(all, greedy_sizes);
    tcase_add_test(all, generator);
    tcase_add_test(all, same_tokens_everywhere);
    tcase_add_test(all, as_defined);
    tcase_add_test(all, probabilities);
    tcase_add_loop_test(all, filters_keep, 0, sizeof filters / sizeof *filters);
    tcase_add_test(all, penalty);
    tcase_add_loop_test(all, logits_must_be_numbers, 0, sizeof bad_logits / sizeof *bad_logits);
    tcase_add_test(all, options_are_checked);
    tcase_add_test(all, running_out_of_memory);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
