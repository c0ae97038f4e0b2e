/* Times of ways of computing one class of problems. The way so far and a candidate run in turn, and the ratio of two
 * times that lie side by side counts: what else the machine does then slows both. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/tune.h"

/* For fewer rows the weights' way from memory matters, as in bench_matmul.c. */
enum { ROTATED_ROWS = 16 };
/* Pairs of samples, seconds of one, and how much faster a candidate must be at least. */
enum { LEAST_ROUNDS = 7, MOST_ROUNDS = 401 };
static const double sample = 3e-4, least_gain = 0.02;
/* A candidate is measured anew from the best one's place as long as that gets better. */
enum { PASSES = 3, MOST_SEEN = 256 };

/* ---- Operands ----------------------------------------------------------------------------------------------- */

typedef struct problem {
    qd_context *c;
    const qd_tune_class *what;
    unsigned char *data[QD_TUNE_SHAPES];
    qd_tensor *x[QD_TUNE_SHAPES], *y[QD_TUNE_SHAPES], **w;
    int copies; /* w[copy * n_shapes + shape] */
} problem;

static qd_status make_plan(const problem *p, int i, qd_plan **out) {
    static const qd_attrs attrs = {0};
    const int s = i % p->what->n_shapes;
    return qd_plan_create(p->c, p->what->op, &attrs, (qd_tensor *[]){p->w[i], p->x[s]}, 2, &p->y[s], 1, out);
}

static void free_problem(problem *p) {
    for (int i = 0; p->w && i < p->copies * p->what->n_shapes; i++)
        qd_tensor_free(p->w[i]);
    free(p->w);
    for (int s = 0; s < QD_TUNE_SHAPES; s++) {
        qd_tensor_free(p->x[s]);
        qd_tensor_free(p->y[s]);
        free(p->data[s]);
    }
}

/* Copies of the weights that together no cache holds; one where many rows share them. */
static int copies_of(const qd_tune_class *t) {
    enum { LEAST = 32 << 20, MOST = 128 << 20 };
    size_t bytes = 0, wanted = qd_bench_cache_bytes() * 3 / 2;
    for (int s = 0; s < t->n_shapes; s++)
        bytes += (size_t)t->shapes[s].n * qd_format_row_bytes(t->weights, t->shapes[s].k);
    if (qd_tuning_least_rows(t->rows_class) >= ROTATED_ROWS) return 1;
    wanted = wanted < LEAST ? LEAST : wanted > MOST ? MOST : wanted;
    const size_t n = (wanted + bytes - 1) / bytes, most = (size_t)(QD_BENCH_MAX_COPIES / t->n_shapes);
    return (int)(n < most ? n : most);
}

static bool make_problem(problem *p) {
    const qd_tune_class *t = p->what;
    p->copies = copies_of(t);
    p->w = calloc((size_t)(p->copies * t->n_shapes), sizeof(qd_tensor *));
    if (!p->w) return qd_cli_fail("out of memory") == QD_EXIT_OK;
    for (int s = 0; s < t->n_shapes; s++) {
        const int64_t m = t->shapes[s].m, n = t->shapes[s].n, k = t->shapes[s].k;
        const qd_tensor_desc w = qd_desc(t->weights, n, k, 0, 0);
        const qd_tensor_desc y = qd_desc(t->op == QD_OP_MATMUL ? QD_FORMAT_F32 : QD_FORMAT_I32, m, n, 0, 0);
        p->data[s] = malloc(qd_desc_bytes(&w));
        if (!p->data[s]) return qd_cli_fail("out of memory") == QD_EXIT_OK;
        if (qd_format_get(t->weights)->kind == QD_KIND_BLOCKED) {
            qd_bench_random_weights(t->weights, n, k, p->data[s]);
        } else { /* codes or floats of any small values: 1.19 in each byte of a float's */
            memset(p->data[s], 0x3f, qd_desc_bytes(&w));
        }
        if (t->x == QD_FORMAT_U8) {
            const qd_tensor_desc x = qd_desc(t->x, m, k, 0, 0);
            if (qd_tensor_create(p->c, &x, &p->x[s]) != QD_OK) return qd_cli_failed() == QD_EXIT_OK;
        } else if (!qd_bench_random_activations(p->c, t->x, m, k, &p->x[s])) {
            return false;
        }
        if (qd_tensor_create(p->c, &y, &p->y[s]) != QD_OK) return qd_cli_failed() == QD_EXIT_OK;
        for (int i = s; i < p->copies * t->n_shapes; i += t->n_shapes) {
            if (qd_tensor_constant(p->c, &w, p->data[s], &p->w[i]) != QD_OK) return qd_cli_failed() == QD_EXIT_OK;
        }
    }
    return true;
}

/* ---- One candidate ------------------------------------------------------------------------------------------ */

static qd_status make_plans(const problem *p, qd_bench_plans **out) {
    qd_bench_plans *plans = calloc(1, sizeof *plans);
    qd_status status = plans ? QD_OK : QD_ERR_MEMORY;
    while (!status && plans->count < p->copies * p->what->n_shapes) {
        status = make_plan(p, plans->count, &plans->plans[plans->count]);
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

static qd_status time_plans(const problem *p, qd_bench_plans *plans, int64_t calls, double *seconds) {
    const double start = qd_cli_clock(p->c);
    const qd_status status = qd_bench_run_plans(p->c, plans, calls);
    *seconds = (qd_cli_clock(p->c) - start) / (double)calls;
    return status;
}

/* The default and a candidate in turn, for so many seconds; who begins changes. Short samples, many of them: most lie
 * between the moments when the machine does something else. The bounds are those of the median's 95 % confidence
 * interval, by the sign test: n / 2 ± 0.98 √n in order, whatever the ratios' distribution. */
static qd_status compare(const problem *p, qd_bench_plans *was, qd_bench_plans *now, double seconds,
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
    problem p;
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
    if (!status) status = make_plan(&s->p, 0, &plan);
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
    qd_status status = make_plan(&s->p, 0, &first);
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
    *s = (search){.p = {.c = c, .what = what}, .each = seconds, .step = step, .user = user, .out = out};
    s->until = qd_cli_seconds() + seconds;
    bool ok = make_problem(&s->p);
    if (ok && find(s) != QD_OK) ok = qd_cli_failed() == QD_EXIT_OK;
    drop_plans(s->was);
    free_problem(&s->p);
    free(s);
    return ok;
}
