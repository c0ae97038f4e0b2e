/* Times of ways of computing one class of problems. The way so far and a candidate run in turn, and the ratio of two
 * times that lie side by side counts: what else the machine does then slows both. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/tune.h"

/* Pairs of samples, seconds of one, and how much faster a candidate must be at least. */
enum { LEAST_ROUNDS = 7, MOST_ROUNDS = 401 };
static const double sample = 3e-4, least_gain = 0.02;
/* A candidate is measured anew from the best one's place as long as that gets better. */
enum { PASSES = 3, MOST_SEEN = 256 };

/* ---- One candidate ------------------------------------------------------------------------------------------ */

static qd_status make_plans(const qd_tune_problems *p, qd_bench_plans **out) {
    qd_bench_plans *plans = calloc(1, sizeof *plans);
    qd_status status = plans ? QD_OK : QD_ERR_MEMORY;
    while (!status && plans->count < p->count) {
        status = qd_tune_plan(p, plans->count, &plans->plans[plans->count]);
        plans->count += status == QD_OK;
    }
    if (!status) {
        *out = plans;
        return QD_OK;
    }
    if (plans) qd_bench_free_plans(plans);
    free(plans);
    return status;
}

static void drop_plans(qd_bench_plans *plans) {
    if (plans) qd_bench_free_plans(plans);
    free(plans);
}

static qd_status time_plans(const qd_tune_problems *p, qd_bench_plans *plans, int64_t calls, double *seconds) {
    const double start = qd_cli_clock(p->c);
    const qd_status status = qd_bench_run_plans(p->c, plans, calls);
    *seconds = (qd_cli_clock(p->c) - start) / (double)calls;
    return status;
}

/* The default and a candidate in turn, for so many seconds; who begins changes. Short samples, many of them: most lie
 * between the moments when the machine does something else. The bounds are those of the median's 95 % confidence
 * interval, by the sign test: n / 2 ± 0.98 √n in order, whatever the ratios' distribution. */
static qd_status compare(const qd_tune_problems *p, qd_bench_plans *was, qd_bench_plans *now, double seconds,
                         qd_tune_ratio *out) {
    double ratios[MOST_ROUNDS], before[MOST_ROUNDS], after[MOST_ROUNDS], once;
    qd_status status = qd_bench_run_plans(p->c, now, p->what->n_shapes);
    if (!status) status = time_plans(p, now, p->what->n_shapes, &once);
    if (status) return status;
    /* Neither finds in a cache what the other has just read. */
    now->next = (was->next + p->copies / 2 * p->what->n_shapes) % now->count;
    /* Whole turns through the shapes, so that each side has the same. */
    const double fit = sample / (once > 1e-7 ? once : 1e-7) / p->what->n_shapes;
    const int64_t calls = (fit < 1 ? 1 : (int64_t)fit) * p->what->n_shapes;
    const double until = qd_cli_seconds() + seconds;
    int n = 0;
    while (!status && n < MOST_ROUNDS && (n < LEAST_ROUNDS || qd_cli_seconds() < until) && !(n && qd_cli_stopped())) {
        qd_bench_plans *order[] = {n % 2 ? now : was, n % 2 ? was : now};
        double times[2] = {0, 0};
        for (int i = 0; i < 2 && !status; i++)
            status = time_plans(p, order[i], calls, &times[i]);
        before[n] = times[n % 2];
        after[n] = times[!(n % 2)];
        ratios[n] = after[n] > 0 ? before[n] / after[n] : 1;
        n++;
    }
    if (status) return status;
    const double side = (n - 1) / 2.0, off = 0.98 * sqrt(n);
    out->rounds = n;
    out->before = qd_bench_summarize(before, n).median;
    out->after = qd_bench_summarize(after, n).median;
    out->median = qd_bench_summarize(ratios, n).median; /* sorts them */
    out->low = ratios[off < side ? (int)(side - off) : 0];
    out->high = ratios[n - 1 - (off < side ? (int)(side - off) : 0)];
    return QD_OK;
}

/* Faster by more than the spread. */
static bool wins(const qd_tune_ratio *r) {
    return r->low > 1 && r->median > 1 + least_gain;
}

/* ---- The search --------------------------------------------------------------------------------------------- */

typedef struct search {
    qd_tune_problems p;
    qd_bench_plans *was; /* in the way without tuning */
    double until, each;  /* time for all, and for one candidate */
    void (*step)(void *user, const qd_tuning_way *way, const qd_tune_ratio *ratio);
    void *user;
    qd_tuning_way seen[MOST_SEEN];
    int n_seen;
    qd_tune_result *out;
} search;

static bool same_way(const qd_tuning_way *a, const qd_tuning_way *b) {
    return a->groups == b->groups && !strcmp(a->variant, b->variant) && !strcmp(a->options, b->options);
}

static bool seen_before(search *s, const qd_tuning_way *w) {
    for (int i = 0; i < s->n_seen; i++) {
        if (same_way(&s->seen[i], w)) return true;
    }
    if (s->n_seen == MOST_SEEN) return true;
    s->seen[s->n_seen++] = *w;
    return false;
}

/* Lets the context go this way and measures it; *refused: it may not be used. */
static qd_status try_way(search *s, const qd_tuning_way *w, double seconds, qd_tune_ratio *ratio, bool *refused) {
    qd_bench_plans *now = NULL;
    const double start = qd_cli_seconds();
    qd_status status = qd_plan_choose(s->was->plans[0], w);
    *refused = status == QD_ERR_UNSUPPORTED;
    if (*refused) return QD_OK;
    if (!status) status = make_plans(&s->p, &now);
    s->until += qd_cli_seconds() - start; /* builds do not count */
    if (!status) status = compare(&s->p, s->was, now, seconds, ratio);
    drop_plans(now);
    return status;
}

/* One pass over the ways that differ from `from`; *best is the one that wins most. */
static qd_status pass(search *s, const qd_tuning_way *from, qd_tuning_way *best, double *best_ratio) {
    qd_plan *plan = NULL;
    qd_tuning_way *ways = NULL;
    int count = 0;
    qd_status status = qd_plan_choose(s->was->plans[0], from);
    if (!status) status = qd_tune_plan(&s->p, 0, &plan);
    if (!status) status = qd_plan_ways(plan, &ways, &count);
    qd_plan_free(plan);
    for (int i = 0; i < count && !status && !qd_cli_stopped() && qd_cli_seconds() < s->until; i++) {
        qd_tune_ratio r;
        bool refused;
        if (seen_before(s, &ways[i])) continue;
        status = try_way(s, &ways[i], s->each, &r, &refused);
        if (status) break;
        s->out->tried += !refused;
        s->out->refused += refused;
        if (!refused && wins(&r) && r.median > *best_ratio) {
            *best_ratio = r.median;
            *best = ways[i];
        }
        s->step(s->user, &ways[i], refused ? NULL : &r);
    }
    qd_ways_free(ways);
    return status;
}

static qd_status find(search *s) {
    qd_tune_result *out = s->out;
    qd_tuning_way *ways = NULL, best;
    int count;
    double ratio = 1;
    bool refused = false;
    qd_plan *first = NULL;
    qd_status status = qd_tune_plan(&s->p, 0, &first);
    if (!status) status = qd_plan_choose(first, NULL);
    qd_plan_free(first);
    if (!status) status = make_plans(&s->p, &s->was);
    if (!status) status = qd_plan_ways(s->was->plans[0], &ways, &count);
    if (!status) {
        out->was = out->now = best = ways[0];
        seen_before(s, &ways[0]);
        qd_ways_free(ways);
        s->each /= 2 * count;
    }
    for (int i = 0; i < PASSES && !status; i++) {
        const qd_tuning_way from = best;
        status = pass(s, &from, &best, &ratio);
        if (same_way(&from, &best)) break;
    }
    /* The best of many was lucky, too: it must win once more. */
    if (!status && !same_way(&best, &out->was) && !qd_cli_stopped()) {
        status = try_way(s, &best, 3 * s->each, &out->ratio, &refused);
        if (!status && !refused) s->step(s->user, &best, &out->ratio);
        out->changed = !status && !refused && wins(&out->ratio);
    }
    if (out->changed) out->now = best;
    out->measured = !status && out->tried > 0;
    if (!status && !out->changed) status = qd_plan_choose(s->was->plans[0], NULL);
    return status;
}

bool qd_tune_search(qd_context *c, const qd_tune_class *what, double seconds,
                    void (*step)(void *user, const qd_tuning_way *way, const qd_tune_ratio *ratio), void *user,
                    qd_tune_result *out) {
    *out = (qd_tune_result){0};
    search *s = calloc(1, sizeof *s);
    if (!s) return qd_cli_fail("out of memory") == QD_EXIT_OK;
    *s = (search){.each = seconds, .step = step, .user = user, .out = out};
    s->until = qd_cli_seconds() + seconds;
    bool ok = qd_tune_make_problems(c, what, &s->p);
    if (ok && find(s) != QD_OK) ok = qd_cli_failed() == QD_EXIT_OK;
    drop_plans(s->was);
    qd_tune_free_problems(&s->p);
    free(s);
    return ok;
}
