/* The design search: what it gives fits the board, its front is one, its times are the report's, and no design drawn at
 * random is faster. */
#include <math.h>

#include "qdot/qdot_sim.h"
#include "unit/devices.h"

static const struct {
    const char *board, *network;
} searches[] = {{"ULX3S-85F", "cnv"}, {"KV260", "mobilenet_v2"}, {"U250", "resnet18"}, {"U280", "squeezenet"}};
enum { SEARCHES = sizeof searches / sizeof searches[0] };

static void describe(const qd_sim_design *d, char *text, size_t size) {
    snprintf(text, size, "rows=%d,cols=%d,lanes=%d,quants=%d,w_bytes=%d,x_bytes=%d,w_address=%d,x_address=%d", d->rows,
             d->cols, d->lanes, d->quants, d->w_bytes, d->x_bytes, d->w_address, d->x_address);
}

static double seconds_of(const char *board, const char *design, const char *network) {
    qd_sim_report *r = NULL;
    if (qd_sim_report_network(board, design, network, &r) != QD_OK) return INFINITY;
    const double seconds = r->seconds;
    qd_sim_report_free(r);
    return seconds;
}

static qd_sim_search *search(int which) {
    qd_sim_report *r = NULL;
    qd_sim_search *s = NULL;
    ck_ok(qd_sim_report_network(searches[which].board, NULL, searches[which].network, &r));
    ck_ok(qd_sim_search_run(r, NULL, NULL, &s));
    qd_sim_report_free(r);
    return s;
}

START_TEST(test_found) {
    qd_sim_search *s = search(_i);
    double fastest = INFINITY, share = 0;
    int fronts = 0;
    ck_assert_int_gt(s->count, 100);
    for (int i = 0; i < s->count; i++) {
        const qd_sim_candidate *c = &s->candidate[i];
        qd_sim_resources r;
        qd_sim_design d;
        char text[160];
        describe(&c->design, text, sizeof text);
        ck_ok(qd_sim_design_of(searches[_i].board, text, &d, &r));
        ck_assert(r.luts == c->resources.luts && r.dsps == c->resources.dsps && r.brams == c->resources.brams);
        ck_assert(c->share > 0 && c->share <= 1 && c->share >= share);
        share = c->share;
        ck_assert(c->front == (c->seconds < fastest * (1 - 1e-6)));
        if (c->front) fastest = c->seconds;
        fronts += c->front;
        /* The time is that of a report of the same design. */
        if (i % 40 == 0 || i == s->best) {
            const double seconds = seconds_of(searches[_i].board, text, searches[_i].network);
            ck_assert_msg(fabs(seconds / c->seconds - 1) < 1e-9, "%s: %g s, the report says %g", text, c->seconds,
                          seconds);
        }
    }
    ck_assert_int_ge(fronts, 5);
    ck_assert(s->candidate[s->best].seconds == fastest);
    /* The board's own design is no better. */
    const double own = seconds_of(searches[_i].board, NULL, searches[_i].network);
    ck_assert_msg(fastest <= own, "%g s, the board's own design %g", fastest, own);
    qd_sim_search_free(s);
}
END_TEST

START_TEST(test_no_better) {
    qd_sim_search *s = search(_i);
    const double best = s->candidate[s->best].seconds;
    uint32_t random = 12345;
    int tried = 0;
    for (int n = 0; n < 20000 && tried < 120; n++) {
        int draw[6];
        char text[160];
        for (int k = 0; k < 6; k++)
            draw[k] = (int)((random = random * 1664525u + 1013904223u) >> 16);
        const int rows = 1 + draw[0] % 64, lanes = 1 << draw[2] % 5;
        int quants = 1 << draw[3] % 6;
        while (rows % quants)
            quants /= 2;
        snprintf(text, sizeof text, "rows=%d,cols=%d,lanes=%d,quants=%d,w_address=%d,x_address=%d", rows,
                 1 + draw[1] % 64, lanes, quants, 7 + draw[4] % 4, 7 + draw[5] % 5);
        const double seconds = seconds_of(searches[_i].board, text, searches[_i].network);
        tried += isfinite(seconds);
        ck_assert_msg(seconds > best * 0.97, "%s takes %g s, the best that was found %g", text, seconds, best);
    }
    ck_assert_int_eq(tried, 120);
    qd_sim_search_free(s);
}
END_TEST

static bool stop_at_once(void *user, int done, int total) {
    (void)user, (void)done, (void)total;
    return false;
}

START_TEST(test_refused) {
    qd_sim_report *r = NULL;
    qd_sim_search *s = NULL;
    ck_ok(qd_sim_report_network("ULX3S-85F", NULL, "cnv", &r));
    ck_fails(qd_sim_search_run(r, stop_at_once, NULL, &s), QD_ERR_CANCELLED, "stopped");
    ck_fails(qd_sim_search_run(NULL, NULL, NULL, &s), QD_ERR_ARGUMENT, "NULL");
    r->count = 0;
    ck_fails(qd_sim_search_run(r, NULL, NULL, &s), QD_ERR_ARGUMENT, "nothing of this work is for the unit");
    ck_assert_ptr_null(s);
    qd_sim_report_free(r);
    qd_sim_search_free(NULL);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("search");
    tcase_add_loop_test(tc, test_found, 0, SEARCHES);
    tcase_add_loop_test(tc, test_no_better, 0, SEARCHES);
    tcase_add_test(tc, test_refused);
    tcase_set_timeout(tc, 1200);
    Suite *suite = suite_create("search");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
