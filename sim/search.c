/* Shapes of the unit for given work, in three steps: all that fit the board, by a formula; of those the front and the
 * fastest, by the cycle model; then other depths of buffers and results a cycle around the fastest. */
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "sim/log.h"

/* A kind of task, and how often it is there. */
typedef struct kind {
    qd_sim_task task;
    double times;
} kind;

typedef struct search {
    qd_sim_machine machine;
    kind *kinds;
    int n_kinds;
    double fixed; /* seconds that no shape changes */
    qd_sim_candidate *all;
    int count, capacity;
    int64_t considered, refused;
} search;

enum { FASTEST = 100, FRONT = 60, AROUND = 6, THREADS = 2 };

/* ---- The formula -------------------------------------------------------------------------------------------- */

/* Cycles of a product by the rules of hls/rtl/README.md for long sequences of tiles, or of its bytes through memory, if
 * those take longer. */
static double estimate(const qd_sim_machine *m, const qd_sim_task *t) {
    const qd_sim_design *d = &m->design;
    const double lanes = d->lanes, tile = d->rows * (t->w_bits == 4 ? 2 : 1), tiles = ceil((double)t->n / tile);
    const double groups = ceil((double)t->m / d->cols), parts = t->part ? ceil((double)t->k / (double)t->part) : 1;
    const double words = ceil((double)(t->part ? t->part : t->k) / lanes);
    const double columns = fmin((double)t->m, d->cols), channels = fmin((double)t->n, tile);
    const double drain = columns * ceil(channels / d->quants) + log2(lanes) + 8;
    const double work = tiles * groups * parts * fmax(words, drain);
    const double bank = floor(pow(2, d->x_address) / words); /* groups that stay while the weights pass */
    const double passes = t->part || bank < 1 ? groups : tiles > 1 ? ceil(groups / bank) : 1;
    const double w_beats = tiles * passes * parts * words * d->rows * lanes / d->w_bytes;
    const double x_beats = groups * (t->part || bank < 1 ? tiles : 1) * parts * words * d->cols * lanes / d->x_bytes;
    const double bytes = w_beats * d->w_bytes * t->w_memory + x_beats * d->x_bytes * t->x_memory * columns / d->cols +
                         (double)t->m * (double)t->n * t->y_memory;
    const double rate = m->board->channels * qd_sim_channel_rate(m->board, &m->params) / (d->clock_mhz * 1e6);
    return (double)t->times * fmax(fmax(work, bytes / rate), fmax(w_beats, x_beats));
}

static double estimate_all(const search *s, const qd_sim_design *d) {
    qd_sim_machine m = s->machine;
    double cycles = 0;
    m.design = *d;
    for (int i = 0; i < s->n_kinds; i++)
        cycles += s->kinds[i].times * estimate(&m, &s->kinds[i].task);
    return s->fixed + cycles / (d->clock_mhz * 1e6);
}

/* ---- The cycle model ---------------------------------------------------------------------------------------- */

static qd_status measure(const search *s, qd_sim_candidate *c) {
    qd_sim_machine m = s->machine;
    double cycles = 0;
    m.design = c->design;
    for (int i = 0; i < s->n_kinds; i++) {
        qd_sim_step step;
        const qd_status status = qd_sim_task_run(&m, &s->kinds[i].task, &step);
        if (status) return status;
        cycles += s->kinds[i].times * (double)step.cycles;
    }
    c->seconds = s->fixed + cycles / (c->design.clock_mhz * 1e6);
    return QD_OK;
}

/* Candidates from `first` on, shared out among threads. */
typedef struct crew {
    const search *s;
    pthread_mutex_t lock;
    int next, done;
    bool stop;
    qd_status status;
    char message[256];
} crew;

static bool take(crew *w, int *index) {
    pthread_mutex_lock(&w->lock);
    const bool more = !w->stop && w->next < w->s->count;
    if (more) *index = w->next++;
    pthread_mutex_unlock(&w->lock);
    return more;
}

/* A design that a task does not fit (blocks that are longer than a bank) is none: it takes forever. */
static void finish(crew *w, qd_sim_candidate *c, qd_status status) {
    if (status == QD_ERR_UNSUPPORTED) c->seconds = INFINITY;
    pthread_mutex_lock(&w->lock);
    w->done++;
    if (status && status != QD_ERR_UNSUPPORTED && !w->status) {
        w->status = status;
        w->stop = true;
        strncpy(w->message, qd_last_message(), sizeof w->message - 1);
    }
    pthread_mutex_unlock(&w->lock);
}

static void *work(void *user) {
    crew *w = user;
    int i = 0;
    while (take(w, &i))
        finish(w, &w->s->all[i], measure(w->s, &w->s->all[i]));
    return NULL;
}

static qd_status measure_from(search *s, int first, bool (*progress)(void *, int, int), void *user, int total) {
    crew w = {.s = s, .next = first};
    pthread_t threads[THREADS - 1];
    int started = 0, i = 0;
    pthread_mutex_init(&w.lock, NULL);
    while (started < THREADS - 1 && pthread_create(&threads[started], NULL, work, &w) == 0)
        started++;
    while (take(&w, &i)) {
        finish(&w, &s->all[i], measure(s, &s->all[i]));
        if (progress && !progress(user, i, total)) {
            pthread_mutex_lock(&w.lock);
            w.stop = true;
            if (!w.status) w.status = QD_ERR_CANCELLED;
            pthread_mutex_unlock(&w.lock);
        }
    }
    while (started > 0)
        pthread_join(threads[--started], NULL);
    pthread_mutex_destroy(&w.lock);
    if (w.status == QD_ERR_CANCELLED) return qd_fail(w.status, "the search was stopped");
    return w.status ? qd_fail(w.status, "%s", w.message) : QD_OK;
}

/* ---- Candidates --------------------------------------------------------------------------------------------- */

static double share_of(const qd_sim_resources *r) {
    return fmax((double)r->luts / (double)r->has_luts,
                fmax((double)r->dsps / (double)r->has_dsps, (double)r->brams / (double)r->has_brams));
}

static bool same_design(const qd_sim_design *a, const qd_sim_design *b) {
    return a->rows == b->rows && a->cols == b->cols && a->lanes == b->lanes && a->quants == b->quants &&
           a->w_address == b->w_address && a->x_address == b->x_address;
}

/* Adds a design if the board can have it, with the formula's time. */
static qd_status add(search *s, const qd_sim_design *d) {
    s->considered++;
    if (qd_sim_design_check(s->machine.board, d)) {
        s->refused++;
        return QD_OK;
    }
    if (s->count == s->capacity) {
        const int more = s->capacity ? 2 * s->capacity : 1024;
        qd_sim_candidate *grown = qd_realloc(s->all, (size_t)more * sizeof *grown);
        if (!grown) return QD_ERR_MEMORY;
        s->all = grown;
        s->capacity = more;
    }
    qd_sim_candidate *c = &s->all[s->count++];
    memset(c, 0, sizeof *c);
    c->design = *d;
    c->resources = qd_sim_resources_of(s->machine.board, d);
    c->share = share_of(&c->resources);
    c->seconds = estimate_all(s, d);
    return QD_OK;
}

static qd_status add_new(search *s, const qd_sim_design *d) {
    for (int i = 0; i < s->count; i++) {
        if (same_design(&s->all[i].design, d)) return QD_OK;
    }
    return add(s, d);
}

/* The design of that array: streams as wide as the ports, the deepest usual buffers that fit. */
static qd_sim_design design_of(const search *s, int rows, int cols, int lanes, int quants) {
    const qd_sim_board *b = s->machine.board;
    qd_sim_design d = s->machine.design;
    d.rows = rows;
    d.cols = cols;
    d.lanes = lanes;
    d.quants = quants;
    d.pack = 1; /* the same products in half of the multipliers */
    qd_sim_design_beats(b, &d);
    d.w_address = 9;
    d.x_address = 10;
    for (qd_sim_resources r; r = qd_sim_resources_of(b, &d), d.x_address > 6 && r.brams > r.has_brams;)
        d.w_address = --d.x_address - 1;
    return d;
}

static qd_status add_arrays(search *s) {
    static const int sides[] = {1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128};
    enum { SIDES = sizeof sides / sizeof sides[0] };
    qd_status status = QD_OK;
    for (int r = 0; r < SIDES; r++) {
        for (int c = 0; c < SIDES; c++) {
            for (int lanes = 1; lanes <= 16; lanes *= 2) {
                for (int quants = 1; sides[r] % quants == 0 && quants <= 64 && !status; quants *= 2) {
                    const qd_sim_design d = design_of(s, sides[r], sides[c], lanes, quants);
                    status = add(s, &d);
                }
            }
        }
    }
    return status;
}

static int by_share(const void *a, const void *b) {
    const qd_sim_candidate *x = a, *y = b;
    if (x->share != y->share) return x->share < y->share ? -1 : 1;
    return x->seconds < y->seconds ? -1 : x->seconds > y->seconds;
}

static int by_seconds(const void *a, const void *b) {
    const qd_sim_candidate *x = a, *y = b;
    if (x->seconds != y->seconds) return x->seconds < y->seconds ? -1 : 1;
    return x->share < y->share ? -1 : x->share > y->share;
}

/* Marks those which nothing of the same share beats; the list is by share. */
static void mark_front(search *s) {
    double best = INFINITY;
    for (int i = 0; i < s->count; i++) {
        s->all[i].front = s->all[i].seconds < best * (1 - 1e-6);
        if (s->all[i].front) best = s->all[i].seconds;
    }
}

/* Keeps the fastest, and as many of the front, evenly. */
static void keep_best(search *s) {
    int kept = 0, fronts = 0, seen = 0;
    qsort(s->all, (size_t)s->count, sizeof *s->all, by_share);
    mark_front(s);
    for (int i = 0; i < s->count; i++)
        fronts += s->all[i].front;
    for (int i = 0; i < s->count; i++) {
        qd_sim_candidate *c = &s->all[i];
        if (c->front && fronts > FRONT) c->front = seen * FRONT / fronts != (seen + 1) * FRONT / fronts;
        seen += c->front || fronts > FRONT;
    }
    qsort(s->all, (size_t)s->count, sizeof *s->all, by_seconds);
    for (int i = 0; i < s->count; i++) {
        if (i < FASTEST || s->all[i].front) s->all[kept++] = s->all[i];
    }
    s->count = kept;
}

/* Other depths, and other numbers of results a cycle. */
static qd_status add_around(search *s, const qd_sim_design *at) {
    qd_status status = QD_OK;
    for (int w = 7; w <= 11 && !status; w++) {
        for (int x = 7; x <= 12 && !status; x++) {
            for (int quants = at->quants; quants <= 2 * at->quants && at->rows % quants == 0 && !status; quants *= 2) {
                qd_sim_design d = *at;
                d.w_address = w;
                d.x_address = x;
                d.quants = quants;
                status = add_new(s, &d);
            }
        }
    }
    return status;
}

/* ---- The search --------------------------------------------------------------------------------------------- */

/* Takes what the unit has to do from a report. */
static qd_status open_search(const qd_sim_report *r, search *s) {
    const qd_status status = qd_sim_machine_open(r->board, NULL, &s->machine);
    if (status) return status;
    s->machine.design.clock_mhz = r->design.clock_mhz;
    s->kinds = qd_alloc_zero((size_t)r->count + 1, sizeof *s->kinds);
    if (!s->kinds) return QD_ERR_MEMORY;
    for (int i = 0; i < r->count; i++) {
        const qd_sim_step *step = &r->step[i];
        int k = 0;
        if (step->task.place != QD_SIM_UNIT) {
            s->fixed += (double)step->cycles / (r->design.clock_mhz * 1e6);
            continue;
        }
        while (k < s->n_kinds && !qd_sim_task_same(&s->kinds[k].task, &step->task))
            k++;
        if (k == s->n_kinds) s->kinds[s->n_kinds++].task = step->task;
        s->kinds[k].times++;
    }
    return s->n_kinds ? QD_OK
                      : qd_fail(QD_ERR_ARGUMENT, "nothing of this work is for the unit: there is no shape to find");
}

static qd_status run_search(search *s, bool (*progress)(void *, int, int), void *user) {
    qd_status status = add_arrays(s);
    if (status) return status;
    keep_best(s);
    status = add_new(s, &s->machine.design); /* the board's own, to be compared with */
    if (status) return status;
    const int first = s->count, total = first + AROUND * 60;
    status = measure_from(s, 0, progress, user, total);
    if (status) return status;
    qsort(s->all, (size_t)s->count, sizeof *s->all, by_seconds);
    for (int i = 0; i < AROUND && i < first && !status; i++) {
        const qd_sim_design d = s->all[i].design;
        status = add_around(s, &d);
    }
    if (!status) status = measure_from(s, first, progress, user, s->count);
    return status;
}

qd_status qd_sim_search_run(const qd_sim_report *report, bool (*progress)(void *user, int done, int total), void *user,
                            qd_sim_search **out) {
    if (!report || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_sim_search_run: work and out must not be NULL");
    search s = {.count = 0};
    qd_sim_search *found = NULL;
    qd_status status;
    QD_TRY(open_search(report, &s));
    QD_TRY(run_search(&s, progress, user));
    if (s.count == 0) {
        status = qd_fail(QD_ERR_ARGUMENT, "board %s: no shape of the unit fits it", report->board);
        goto error;
    }
    found = qd_alloc_zero(1, sizeof *found);
    if (!found) {
        status = QD_ERR_MEMORY;
        goto error;
    }
    qsort(s.all, (size_t)s.count, sizeof *s.all, by_share);
    mark_front(&s);
    *found = (qd_sim_search){report->board, s.considered, s.refused, s.count, 0, s.all};
    for (int i = 0; i < s.count; i++) {
        if (s.all[i].front) found->best = i; /* the last of the front is the fastest */
    }
    s.all = NULL;
    *out = found;
error:
    free(s.kinds);
    free(s.all);
    return status;
}

void qd_sim_search_free(qd_sim_search *s) {
    if (!s) return;
    free(s->candidate);
    free(s);
}
