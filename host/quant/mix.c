/* Mixed precision: the multiple-choice knapsack problem by dynamic programming over sizes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "qdot/qdot_sensitivity.h"

/* Cells of the table of choices, a byte each. */
enum { CELLS = 1 << 26, MOST_OPTIONS = 255 };

typedef struct problem {
    const qd_mix_option *const *option;
    const int *count;
    int parts;
    double least;          /* bytes of all smallest options, from which sizes are counted */
    double unit;           /* bytes */
    int64_t room;          /* units above the least */
    double *best;          /* [room + 1]: least cost of the parts so far in at most so many units */
    unsigned char *choice; /* [parts][room + 1] */
} problem;

static double least_bytes(const problem *p, int i) {
    double least = p->option[i][0].bytes;
    for (int k = 1; k < p->count[i]; k++)
        least = fmin(least, p->option[i][k].bytes);
    return least;
}

static qd_status check(const problem *p, const int *chosen) {
    if (!p->option || !p->count || !chosen || p->parts < 1)
        return qd_fail(QD_ERR_ARGUMENT, "mixed precision: nothing to choose from");
    for (int i = 0; i < p->parts; i++) {
        if (p->count[i] < 1 || p->count[i] > MOST_OPTIONS)
            return qd_fail(QD_ERR_ARGUMENT, "mixed precision: part %d has %d options, not 1 … %d", i, p->count[i],
                           (int)MOST_OPTIONS);
        for (int k = 0; k < p->count[i]; k++) {
            const qd_mix_option *o = &p->option[i][k];
            if (!isfinite(o->cost) || !(o->bytes >= 0 && o->bytes < 0x1p52) || floor(o->bytes) != o->bytes)
                return qd_fail(QD_ERR_ARGUMENT, "mixed precision: option %d of part %d has no whole size or no cost", k,
                               i);
        }
    }
    return QD_OK;
}

static double gcd(double a, double b) {
    while (b != 0) {
        const double rest = fmod(a, b);
        a = b;
        b = rest;
    }
    return a;
}

/* Fixes the unit, and how many of them there is room for below `most` bytes. */
static void measure(problem *p, double most) {
    double common = 0, largest = 0;
    p->least = 0;
    for (int i = 0; i < p->parts; i++) {
        const double least = least_bytes(p, i);
        double top = 0;
        for (int k = 0; k < p->count[i]; k++) {
            common = gcd(p->option[i][k].bytes - least, common);
            top = fmax(top, p->option[i][k].bytes - least);
        }
        p->least += least;
        largest += top;
    }
    const double room = most - p->least, cells = (double)CELLS / p->parts;
    p->unit = common > 0 ? common : 1;
    if (fmin(room, largest) / p->unit > cells) p->unit = ceil(fmin(room, largest) / cells);
    /* Rounded up, all parts together can be larger than `largest` by a unit for each. */
    p->room = (int64_t)(fmin(room, largest + p->parts * p->unit) / p->unit);
}

static int64_t units(const problem *p, const qd_mix_option *o, double least) {
    return (int64_t)ceil((o->bytes - least) / p->unit);
}

/* best of parts 0 … i from that of 0 … i - 1, largest sizes first, in place. */
static void add_part(problem *p, int i) {
    const double least = least_bytes(p, i);
    int64_t size[MOST_OPTIONS];
    unsigned char *choice = p->choice + (size_t)i * ((size_t)p->room + 1);
    for (int k = 0; k < p->count[i]; k++)
        size[k] = units(p, &p->option[i][k], least);
    for (int64_t w = p->room; w >= 0; w--) {
        double best = INFINITY;
        for (int k = 0; k < p->count[i]; k++) {
            if (size[k] > w) continue;
            const double cost = p->best[w - size[k]] + p->option[i][k].cost;
            if (cost < best) {
                best = cost;
                choice[w] = (unsigned char)k;
            }
        }
        p->best[w] = best;
    }
}

static qd_status solve(problem *p) {
    p->best = qd_alloc_zero((size_t)p->room + 1, sizeof *p->best);
    p->choice = qd_alloc((size_t)p->parts * ((size_t)p->room + 1));
    if (!p->best || !p->choice) return QD_ERR_MEMORY;
    for (int i = 0; i < p->parts; i++)
        add_part(p, i);
    return QD_OK;
}

/* The options behind best[w]. */
static void trace(const problem *p, int64_t w, int chosen[]) {
    for (int i = p->parts - 1; i >= 0; i--) {
        chosen[i] = p->choice[(size_t)i * ((size_t)p->room + 1) + (size_t)w];
        w -= units(p, &p->option[i][chosen[i]], least_bytes(p, i));
    }
}

/* Takes what rounding left: the change that gains most per byte, again and again. */
static void fill(const problem *p, double most, int chosen[]) {
    double left = most;
    for (int i = 0; i < p->parts; i++)
        left -= p->option[i][chosen[i]].bytes;
    for (;;) {
        double best = 0;
        int part = -1, option = 0;
        for (int i = 0; i < p->parts; i++) {
            const qd_mix_option *now = &p->option[i][chosen[i]];
            for (int k = 0; k < p->count[i]; k++) {
                const double more = p->option[i][k].bytes - now->bytes, gain = now->cost - p->option[i][k].cost;
                if (more > left || gain <= 0 || gain / fmax(more, 1) <= best) continue;
                best = gain / fmax(more, 1);
                part = i;
                option = k;
            }
        }
        if (part < 0) return;
        left -= p->option[part][option].bytes - p->option[part][chosen[part]].bytes;
        chosen[part] = option;
    }
}

qd_status qd_mix_cheapest(const qd_mix_option *const option[], const int count[], int parts, double most_bytes,
                          int chosen[]) {
    problem p = {.option = option, .count = count, .parts = parts};
    qd_status status = check(&p, chosen);
    if (status) return status;
    measure(&p, most_bytes);
    if (!(p.least <= most_bytes)) {
        return qd_fail(QD_ERR_LIMIT, "no choice has at most %.0f bytes; the smallest has %.0f", most_bytes, p.least);
    }
    status = solve(&p);
    if (!status) {
        trace(&p, p.room, chosen);
        fill(&p, most_bytes, chosen);
    }
    free(p.best);
    free(p.choice);
    return status;
}

qd_status qd_mix_smallest(const qd_mix_option *const option[], const int count[], int parts, double most_cost,
                          int chosen[]) {
    problem p = {.option = option, .count = count, .parts = parts};
    qd_status status = check(&p, chosen);
    if (status) return status;
    measure(&p, INFINITY);
    status = solve(&p);
    if (!status && !(p.best[p.room] <= most_cost)) {
        status = qd_fail(QD_ERR_LIMIT, "no choice costs at most %g; the best costs %g", most_cost, p.best[p.room]);
    }
    if (!status) {
        int64_t w = 0;
        while (p.best[w] > most_cost)
            w++;
        trace(&p, w, chosen);
    }
    free(p.best);
    free(p.choice);
    return status;
}
