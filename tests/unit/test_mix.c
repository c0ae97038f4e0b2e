/* The choice of formats against plain enumeration of all choices. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "qdot/qdot_sensitivity.h"
#include "unit/devices.h"

enum { PARTS = 6, OPTIONS = 4, CASES = 1500 };

typedef struct problem {
    int parts;
    qd_mix_option list[PARTS][OPTIONS];
    const qd_mix_option *option[PARTS];
    int count[PARTS];
} problem;

/* Sizes are multiples of `unit`; costs can be negative where `gains`. */
static void make(problem *p, uint32_t *state, double unit, bool gains) {
    p->parts = (int)random_between(state, 1, PARTS);
    for (int i = 0; i < p->parts; i++) {
        p->option[i] = p->list[i];
        p->count[i] = (int)random_between(state, 1, OPTIONS);
        for (int k = 0; k < p->count[i]; k++) {
            p->list[i][k].bytes = unit * (double)random_between(state, 0, 40);
            p->list[i][k].cost = 0.001 * (double)random_between(state, gains ? -300 : 0, 1000);
        }
    }
}

static void add_up(const problem *p, const int *chosen, double *bytes, double *cost) {
    *bytes = *cost = 0;
    for (int i = 0; i < p->parts; i++) {
        ck_assert(chosen[i] >= 0 && chosen[i] < p->count[i]);
        *bytes += p->list[i][chosen[i]].bytes;
        *cost += p->list[i][chosen[i]].cost;
    }
}

/* The least cost of at most `most_bytes`, and the least size of at most `most_cost`; infinite where there is none. */
static void enumerate(const problem *p, double most_bytes, double most_cost, double *least_cost, double *least_bytes) {
    int chosen[PARTS] = {0};
    *least_cost = *least_bytes = (double)INFINITY;
    for (int i = 0; i < p->parts;) {
        double bytes, cost;
        add_up(p, chosen, &bytes, &cost);
        if (bytes <= most_bytes) *least_cost = fmin(*least_cost, cost);
        if (cost <= most_cost + 1e-12) *least_bytes = fmin(*least_bytes, bytes);
        for (i = 0; i < p->parts && ++chosen[i] == p->count[i]; i++)
            chosen[i] = 0;
    }
}

START_TEST(test_enumeration) {
    uint32_t state = 17;
    int met = 0, unmet = 0;
    for (int n = 0; n < CASES; n++) {
        /* A unit of 1 and one that is no power of two. */
        const double unit = n % 2 ? 1 : 4410;
        problem p;
        make(&p, &state, unit, n % 3 == 0);
        const double most_bytes = unit * (double)random_between(&state, 0, 40 * p.parts) + (n % 5 ? 0 : 0.5);
        const double most_cost = 0.001 * (double)random_between(&state, -200, 1000 * p.parts) + 0.0005;
        double least_cost, least_bytes, bytes, cost;
        int chosen[PARTS];
        enumerate(&p, most_bytes, most_cost, &least_cost, &least_bytes);
        if (isinf(least_cost)) {
            unmet++;
            ck_fails(qd_mix_cheapest(p.option, p.count, p.parts, most_bytes, chosen), QD_ERR_LIMIT, "smallest");
        } else {
            met++;
            ck_ok(qd_mix_cheapest(p.option, p.count, p.parts, most_bytes, chosen));
            add_up(&p, chosen, &bytes, &cost);
            ck_assert_double_le(bytes, most_bytes);
            ck_assert_double_eq_tol(cost, least_cost, 1e-9);
        }
        if (isinf(least_bytes)) {
            unmet++;
            ck_fails(qd_mix_smallest(p.option, p.count, p.parts, most_cost, chosen), QD_ERR_LIMIT, "costs");
        } else {
            met++;
            ck_ok(qd_mix_smallest(p.option, p.count, p.parts, most_cost, chosen));
            add_up(&p, chosen, &bytes, &cost);
            ck_assert_double_le(cost, most_cost + 1e-9);
            ck_assert_double_eq(bytes, least_bytes);
        }
    }
    ck_assert(met > CASES / 2 && unmet > 4);
}
END_TEST

/* One part is so large that the table has fewer cells than there are sizes, and the others are about as small as a
 * cell. */
static void make_rounded(problem *p, uint32_t *state, double huge, double unit) {
    p->parts = PARTS;
    for (int i = 0; i < PARTS; i++) {
        p->option[i] = p->list[i];
        p->count[i] = i ? 3 : 2;
        for (int k = 0; k < p->count[i]; k++) {
            p->list[i][k].bytes = i ? floor(unit * (double)random_between(state, 0, 20000) / 1000) : k * huge;
            p->list[i][k].cost = i ? 0.001 * (double)random_between(state, 0, 1000) : 10 - 10 * k;
        }
    }
}

/* No other option of one part costs less in what is left. */
static void ck_filled(const problem *p, double left, const int *chosen) {
    for (int i = 0; i < p->parts; i++) {
        const qd_mix_option *now = &p->list[i][chosen[i]];
        for (int k = 0; k < p->count[i]; k++)
            ck_assert(p->list[i][k].cost >= now->cost || p->list[i][k].bytes - now->bytes > left);
    }
}

/* Sizes are rounded up: the limit holds, the result is as good as any that is a cell smaller for each part, and nothing
 * that would still fit was left. */
START_TEST(test_rounded) {
    const double huge = 1e15, unit = huge * PARTS / 0x1p26;
    uint32_t state = 18;
    int rounded = 0;
    for (int n = 0; n < 8; n++) {
        problem p;
        int chosen[PARTS] = {0};
        double bytes, cost, reachable, least_cost, unused;
        make_rounded(&p, &state, huge, unit);
        /* Exactly what one choice needs, so that no cell more is there than in it. */
        chosen[0] = 1;
        for (int i = 1; i < PARTS; i++)
            chosen[i] = (int)random_between(&state, 0, 2);
        double most;
        add_up(&p, chosen, &most, &cost);
        enumerate(&p, most, 1e9, &least_cost, &unused);
        enumerate(&p, most - (PARTS + 1) * unit, 1e9, &reachable, &unused);
        ck_ok(qd_mix_cheapest(p.option, p.count, p.parts, most, chosen));
        add_up(&p, chosen, &bytes, &cost);
        ck_assert_double_le(bytes, most);
        ck_assert_double_ge(cost, least_cost - 1e-9);
        ck_assert_double_le(cost, reachable + 1e-9);
        ck_filled(&p, most - bytes, chosen);
        rounded += reachable > least_cost + 0.01;
    }
    ck_assert_int_ge(rounded, 4);
}
END_TEST

START_TEST(test_refusals) {
    const qd_mix_option bad[] = {{1.5, 0}, {-1, 0}, {1, (double)NAN}, {(double)INFINITY, 0}};
    int chosen[1];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const qd_mix_option *one = &bad[i];
        ck_fails(qd_mix_cheapest(&one, (int[]){1}, 1, 10, chosen), QD_ERR_ARGUMENT, "option 0 of part 0");
    }
    const qd_mix_option *one = bad;
    ck_fails(qd_mix_cheapest(&one, (int[]){0}, 1, 10, chosen), QD_ERR_ARGUMENT, "options");
    ck_fails(qd_mix_smallest(&one, (int[]){1}, 0, 10, chosen), QD_ERR_ARGUMENT, "nothing");
    const qd_mix_option fine = {4, 1};
    one = &fine;
    ck_fails(qd_mix_cheapest(&one, (int[]){1}, 1, (double)NAN, chosen), QD_ERR_LIMIT, "smallest");
    qd_alloc_fail_after(0);
    const qd_status status = qd_mix_cheapest(&one, (int[]){1}, 1, 10, chosen);
    qd_alloc_fail_after(-1);
    ck_assert_int_eq(status, QD_ERR_MEMORY);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("mix");
    tcase_add_test(tc, test_enumeration);
    tcase_add_test(tc, test_rounded);
    tcase_add_test(tc, test_refusals);
    return run_tests(tc, "mix");
}
