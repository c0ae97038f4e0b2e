/* What depends on what, in cycles (the numbers of the rules are those of hls/rtl/README.md):
 *
 *   bus ──1──► queue ──2──► loads of w, x, c ──3──► start ──3──► words ──4──► last words ──5──► steps ──6──► y
 *     ▲ eight commands      ▲ banks in turn          │  │                       ▲ one drain      ▲ 32 steps  │
 *     └─────────────────────┴────────────────────────┴──┘                       └──────┬─────────┴───────────┘
 *
 * Every moment is the latest of a few earlier ones (and the next beat of a stream), so that commands are worked off one
 * after the other: none depends on a later one. Nothing is stepped through cycle by cycle, but results and stalls where
 * their streams are not at full speed. */
#include "sim/unit.h"

#include <math.h>
#include <stdlib.h>

#include "core/status.h"

enum {
    QUEUE = 8,     /* commands */
    ROOM = 32,     /* steps on their way to y */
    LOOKED_AT = 3, /* cycles from COMMAND to the queue */
    TO_SUMS = 8,   /* from the last word to the first step, with one lane */
    TO_Y = 16,     /* from a step to y */
    ACCESSES = 6   /* of a command: four registers, COMMAND, STATUS */
};

#define ONE ((uint64_t)1 << 32) /* a beat, in fractions of which rates count */

/* A stream: when its next beat can pass. */
typedef struct flow {
    qd_unit_stream_name name;
    qd_unit_stream is;
    uint64_t rate, depth; /* in ONE */
    uint64_t from;        /* the first cycle after the last beat; rate: that for which `waiting` is */
    uint64_t waiting;     /* rate: in ONE */
} flow;

/* A loader of two banks. */
typedef struct loader {
    flow stream;
    uint64_t next;    /* the cycle in which it comes to the next command */
    uint64_t free[2]; /* from then on a bank can be filled again */
    uint64_t full;    /* from then on the bank filled last is full */
    uint64_t loads;   /* so far: the next goes to bank loads % 2 */
} loader;

struct qd_unit {
    qd_unit_shape shape;
    uint64_t levels, w_beats, x_beats;
    flow bus, y;
    loader load[3];             /* w, x, c */
    uint64_t starts[QUEUE];     /* of the last commands: their places in the queue are free in the cycle after */
    uint64_t begin, at;         /* the first cycle; the first one that has no cause yet */
    uint64_t issued;            /* the last word's cycle */
    uint64_t bus_free;          /* from then on the next access may begin, */
    uint64_t drain_free;        /* the drain take the next group, */
    uint64_t y_free;            /* y the next step */
    uint64_t late, y_late;      /* how much later these two are than with y at full speed */
    uint64_t bank_drained[2];   /* from then on no step reads a bank of c */
    uint64_t steps, pops[ROOM]; /* steps so far; the cycle after the last ones were taken */
    qd_unit_report report;      /* of the cycles before `at` */
};

static uint64_t latest(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* a - b, or 0. */
static uint64_t beyond(uint64_t a, uint64_t b) {
    return a > b ? a - b : 0;
}

/* ---- Streams ------------------------------------------------------------------------------------------------ */

static bool full_speed(const flow *f) {
    return f->rate == 0 && !f->is.stalled;
}

static qd_status open_flow(flow *f, qd_unit_stream_name name, const qd_unit_streams *streams) {
    static const char *const names[QD_UNIT_STREAMS] = {"w", "x", "c", "y", "bus"};
    *f = (flow){.name = name, .from = streams->cycle};
    f->is = streams->stream[name];
    if (!isfinite(f->is.rate) || f->is.rate < 0)
        return qd_fail(QD_ERR_ARGUMENT,
                       "stream %s: a rate of %g beats a cycle; it must be 0 (a beat in every cycle) or more",
                       names[name], f->is.rate);
    if (f->is.rate > 0) {
        f->rate = (uint64_t)fmax(1, fmin(f->is.rate, 1) * (double)ONE);
        f->depth = latest(f->is.depth, 2) * ONE;
        f->from += f->is.latency;
        f->waiting = f->rate;
    }
    return QD_OK;
}

static uint64_t next_allowed(const flow *f, uint64_t cycle) {
    while (f->is.stalled(f->is.user, f->name, cycle))
        cycle++;
    return cycle;
}

/* `beats` of a stream whose other end waits for them from `cycle` on, in the order in which all beats are asked for.
 * Returns the cycle of the last, and that of the first in *first. `sticks`: a beat is offered as soon as the stream
 * may, and stays; else both ends meet in the same cycle. */
static uint64_t pass(flow *f, uint64_t cycle, uint64_t beats, bool sticks, uint64_t *first) {
    uint64_t last = cycle + beats - 1;
    *first = cycle;
    if (f->is.stalled) {
        for (uint64_t i = 0; i < beats; i++, cycle = last + 1) {
            last = sticks ? latest(next_allowed(f, f->from), cycle) : next_allowed(f, latest(f->from, cycle));
            f->from = last + 1;
            if (i == 0) *first = last;
        }
    } else if (f->rate) {
        /* After k cycles the least of k and what came in until then has passed: what comes in is less than what may
         * pass, so that a beat that waits at the end waited from its coming in. */
        cycle = latest(cycle, f->from);
        const uint64_t idle = cycle - f->from, filled = (f->depth - f->waiting) / f->rate;
        const uint64_t waiting = idle > filled ? f->depth : f->waiting + idle * f->rate;
        const uint64_t lacking = beyond(beats * ONE, waiting), lacking_first = beyond(ONE, waiting);
        const uint64_t cycles = latest(beats, (lacking + f->rate - 1) / f->rate + 1);
        last = cycle + cycles - 1;
        *first = cycle + (lacking_first + f->rate - 1) / f->rate;
        f->waiting = waiting + cycles * f->rate - beats * ONE;
        f->from = last + 1;
    }
    return last;
}

/* ---- Opening ------------------------------------------------------------------------------------------------ */

static bool is_power(int n) {
    return n > 0 && (n & (n - 1)) == 0;
}

qd_status qd_unit_check(const qd_unit_shape *s) {
    if (s->rows < 1 || s->rows > 255 || s->cols < 1 || s->cols > 255)
        return qd_fail(QD_ERR_ARGUMENT, "a unit of %d rows, %d columns: both must be 1 to 255", s->rows, s->cols);
    if (!is_power(s->lanes) || s->lanes > 128)
        return qd_fail(QD_ERR_ARGUMENT, "a unit of %d lanes: they must be a power of two up to 128", s->lanes);
    if (!is_power(s->quants) || s->rows % s->quants != 0)
        return qd_fail(QD_ERR_ARGUMENT, "a unit of %d quants: they must be a power of two that divides the %d rows",
                       s->quants, s->rows);
    if (s->pack != 0 && s->pack != 1) return qd_fail(QD_ERR_ARGUMENT, "a unit's pack of %d: it is 0 or 1", s->pack);
    const int words[2] = {s->rows * s->lanes, s->cols * s->lanes}, bytes[2] = {s->w_bytes, s->x_bytes},
              address[2] = {s->w_address, s->x_address};
    for (int i = 0; i < 2; i++) {
        if (bytes[i] < 1 || words[i] % bytes[i] != 0 || words[i] / bytes[i] > 255)
            return qd_fail(QD_ERR_ARGUMENT,
                           "beats of %c of %d bytes: they must divide a word of %d bytes into 1 to 255 beats", "wx"[i],
                           bytes[i], words[i]);
        if (address[i] < 1 || address[i] > 15)
            return qd_fail(QD_ERR_ARGUMENT, "banks of %c of 2^%d words: 2^1 to 2^15 are possible", "wx"[i], address[i]);
    }
    return QD_OK;
}

qd_status qd_unit_open(const qd_unit_shape *shape, const qd_unit_streams *streams, qd_unit **out) {
    static const qd_unit_streams none;
    qd_status status = qd_unit_check(shape);
    if (status) return status;
    qd_unit *u = qd_alloc_zero(1, sizeof *u);
    if (!u) return QD_ERR_MEMORY;
    if (!streams) streams = &none;
    u->shape = *shape;
    while (1 << u->levels < shape->lanes)
        u->levels++;
    u->w_beats = (uint64_t)(shape->rows * shape->lanes / shape->w_bytes);
    u->x_beats = (uint64_t)(shape->cols * shape->lanes / shape->x_bytes);
    u->begin = u->at = u->bus_free = streams->cycle;
    for (int i = 0; i < 3; i++)
        QD_TRY(open_flow(&u->load[i].stream, (qd_unit_stream_name)i, streams));
    QD_TRY(open_flow(&u->y, QD_UNIT_Y, streams));
    QD_TRY(open_flow(&u->bus, QD_UNIT_BUS, streams));
    *out = u;
    return QD_OK;
error:
    qd_unit_close(u);
    return status;
}

const qd_unit_shape *qd_unit_shape_of(const qd_unit *u) {
    return &u->shape;
}

void qd_unit_close(qd_unit *u) {
    free(u);
}

/* ---- Commands ----------------------------------------------------------------------------------------------- */

static const uint32_t loads_of[3] = {QD_UNIT_LOAD_W, QD_UNIT_LOAD_X, QD_UNIT_LOAD_C};

/* The reasons of qd_registers.v, in its order. */
static qd_status check_command(const qd_unit *u, const qd_unit_command *c) {
    const qd_unit_shape *s = &u->shape;
    const uint64_t w = (uint64_t)c->words * (c->flags & QD_UNIT_STEP_W ? c->groups : 1),
                   x = (uint64_t)c->words * c->groups;
    const uint32_t most = (uint32_t)s->rows * (c->flags & QD_UNIT_INT4 ? 2 : 1);
    const uint32_t whole = QD_UNIT_FIRST | QD_UNIT_LAST;
    if (!c->words || !c->groups || !c->channels || !c->edge)
        return qd_fail(QD_ERR_UNSUPPORTED, "a command of %u words, %u groups, %u channels, %u columns: none may be 0",
                       c->words, c->groups, c->channels, c->edge);
    if (c->words > UINT16_MAX || c->groups > UINT16_MAX)
        return qd_fail(QD_ERR_UNSUPPORTED, "a command of %u words, %u groups: the register SIZE holds up to 65535",
                       c->words, c->groups);
    if (w > (uint64_t)1 << s->w_address)
        return qd_fail(QD_ERR_UNSUPPORTED, "%llu words of weights do not fit a bank of %d", (unsigned long long)w,
                       1 << s->w_address);
    if (x > (uint64_t)1 << s->x_address)
        return qd_fail(QD_ERR_UNSUPPORTED, "%llu words of columns do not fit a bank of %d", (unsigned long long)x,
                       1 << s->x_address);
    if (c->channels > most)
        return qd_fail(QD_ERR_UNSUPPORTED, "%u channels are more than the array's %u", c->channels, most);
    if (c->edge > (uint32_t)s->cols)
        return qd_fail(QD_ERR_UNSUPPORTED, "%u columns in a group are more than the array's %d", c->edge, s->cols);
    if ((c->flags & whole) != whole && c->groups != 1)
        return qd_fail(QD_ERR_UNSUPPORTED, "a part of K with %u groups: it must have one", c->groups);
    for (int i = 0; i < 3; i++) {
        if (!(c->flags & loads_of[i]) && u->load[i].loads == 0)
            return qd_fail(QD_ERR_UNSUPPORTED, "a command without %s, which was never loaded",
                           i == 0   ? "LOAD_W"
                           : i == 1 ? "LOAD_X"
                                    : "LOAD_C");
    }
    return QD_OK;
}

/* An access on the bus that the unit takes from `ready` on. */
static uint64_t use_bus(qd_unit *u, uint64_t ready) {
    uint64_t first;
    const uint64_t cycle = latest(pass(&u->bus, u->bus_free, 1, true, &first), ready);
    u->bus_free = cycle + 1;
    if (!u->bus.rate) u->bus.from = cycle + 1;
    return cycle;
}

/* Rule 2: command in the queue from `cycle` on, `beats` to load, 0: none. */
static void load(loader *l, uint64_t cycle, uint64_t beats, uint64_t when[2]) {
    cycle = latest(cycle, l->next);
    when[0] = when[1] = 0;
    if (beats) {
        when[1] = cycle = pass(&l->stream, latest(cycle, l->free[l->loads % 2]) + 1, beats, true, &when[0]);
        l->full = cycle + 1;
    }
    l->next = cycle + 1;
}

/* Rules 5 and 6: `steps` of a group whose last word is issued in u->issued. Returns when the first one is taken. */
static uint64_t drain(qd_unit *u, uint64_t steps) {
    const uint64_t begin = u->issued + TO_SUMS + u->levels, end = begin + steps;
    uint64_t first = begin + TO_Y, unused;
    if (full_speed(&u->y)) {
        u->drain_free = end;
        u->y_free = end + TO_Y;
    } else {
        for (uint64_t i = 0, step = begin; i < steps; i++, step = u->drain_free) {
            uint64_t *pop = &u->pops[u->steps++ % ROOM];
            step = latest(step, *pop);
            u->drain_free = step + 1;
            u->y_free = *pop = pass(&u->y, latest(step + TO_Y, u->y_free), 1, false, &unused) + 1;
            if (i == 0) first = *pop - 1;
        }
    }
    u->late = u->drain_free - end;
    u->y_late = u->y_free - (end + TO_Y);
    u->bank_drained[(u->load[QD_UNIT_C].loads + 1) % 2] = u->drain_free;
    return first;
}

static void spend(qd_unit *u, qd_unit_cause cause, uint64_t cycles) {
    u->report.cause[cause] += cycles;
    u->at += cycles;
}

/* Busy cycles without a command, from u->at to before `end`: those with results on their way, and those in which a
 * COMMAND taken in cycle `given` is looked at. */
static void count_tail(qd_unit *u, uint64_t end, uint64_t given) {
    u->report.counters.tail +=
        least(beyond(u->y_free, u->at), beyond(end, u->at)) + beyond(end, latest(latest(u->at, u->y_free), given + 1));
}

/* The cycles until a command starts, which is in the queue from `queued` on. */
static void wait_for_start(qd_unit *u, uint64_t queued, uint64_t start) {
    if (u->at < queued) {
        count_tail(u, queued, queued - LOOKED_AT);
        spend(u, QD_UNIT_QUEUE, queued - u->at);
    }
    const uint64_t w = least(beyond(u->load[QD_UNIT_W].full, u->at), beyond(start + 1, u->at));
    spend(u, QD_UNIT_WEIGHTS, w);
    const uint64_t x = least(beyond(u->load[QD_UNIT_X].full, u->at), beyond(start + 1, u->at));
    spend(u, QD_UNIT_COLUMNS, x);
    const uint64_t c = beyond(start + 1, u->at);
    spend(u, QD_UNIT_CHANNELS, c);
    u->report.counters.wait_w += w;
    u->report.counters.wait_x += x;
    u->report.counters.wait_c += c;
}

/* Rules 3 and 4, and the drain of each group. */
static void issue(qd_unit *u, const qd_unit_command *c, uint64_t start, qd_unit_times *t) {
    const qd_unit_shape *s = &u->shape;
    const uint64_t steps = (c->channels + (uint64_t)s->quants - 1) / (uint64_t)s->quants;
    t->first_word = start + 1;
    u->issued = start;
    for (uint32_t g = 0; g < c->groups; g++) {
        const bool edge = g + 1 == c->groups || c->flags & QD_UNIT_STEP_W;
        const uint64_t columns = edge ? c->edge : (uint64_t)s->cols;
        u->issued += c->words;
        spend(u, QD_UNIT_WORK, c->words);
        u->report.products += columns * c->channels * c->words * (uint64_t)s->lanes;
        if (!(c->flags & QD_UNIT_LAST)) continue;
        const uint64_t wait = beyond(u->drain_free, u->issued), held_up = least(wait, u->late);
        spend(u, QD_UNIT_RESULTS, held_up);
        spend(u, QD_UNIT_DRAIN, wait - held_up);
        u->report.counters.wait_drain += wait;
        u->issued += wait;
        const uint64_t first = drain(u, steps * columns);
        u->report.beats[QD_UNIT_Y] += steps * columns;
        if (g == 0) t->first_result = first;
        t->last_result = u->y_free - 1;
    }
    t->last_word = u->issued;
}

/* Loads what the command asks for; returns from when on all its banks are full. */
static uint64_t load_all(qd_unit *u, const qd_unit_command *c, uint64_t queued, qd_unit_times *t) {
    const uint64_t words = c->words, all = words * c->groups;
    const uint64_t beats[3] = {c->flags & QD_UNIT_LOAD_W ? (c->flags & QD_UNIT_STEP_W ? all : words) * u->w_beats : 0,
                               c->flags & QD_UNIT_LOAD_X ? all * u->x_beats : 0,
                               c->flags & QD_UNIT_LOAD_C ? c->channels : 0};
    uint64_t c_load[2], *const when[3] = {t->w_load, t->x_load, c_load}, full = 0;
    for (int i = 0; i < 3; i++) {
        load(&u->load[i], queued, beats[i], when[i]);
        u->report.beats[i] += beats[i];
        full = latest(full, u->load[i].full);
    }
    return full;
}

/* The banks that the command at `start` loaded are in use, those before them free; that of c when its channels were
 * read for the last time. */
static void switch_banks(qd_unit *u, uint32_t flags, uint64_t start) {
    for (int i = 0; i < 3; i++) {
        loader *l = &u->load[i];
        if (!(flags & loads_of[i]) || l->loads++ == 0) continue;
        uint64_t *free = &l->free[l->loads % 2];
        *free = start + 1;
        if (i == QD_UNIT_C) *free = latest(*free, u->bank_drained[l->loads % 2]);
    }
}

qd_status qd_unit_give(qd_unit *u, const qd_unit_command *c, qd_unit_times *times) {
    const qd_status status = check_command(u, c);
    if (status) return status;
    qd_unit_counters *n = &u->report.counters;
    qd_unit_times t = {0};
    uint64_t *place = &u->starts[n->commands % QUEUE];
    for (int i = 0; i < ACCESSES - 2; i++)
        use_bus(u, 0);
    t.given = use_bus(u, n->commands < QUEUE ? 0 : *place + 1);
    use_bus(u, t.given + LOOKED_AT);
    u->report.beats[QD_UNIT_BUS] += ACCESSES;

    const uint64_t queued = t.given + LOOKED_AT;
    const uint64_t start = *place = latest(latest(queued, u->issued), load_all(u, c, queued, &t));
    /* It may start in the last word's cycle of the one before. */
    if (start >= u->at) wait_for_start(u, queued, start);
    switch_banks(u, c->flags, start);
    n->commands++;
    n->issued += (uint64_t)c->words * c->groups;
    issue(u, c, start, &t);
    if (times) {
        uint64_t *all[] = {&t.given,      &t.w_load[0], &t.w_load[1],    &t.x_load[0],  &t.x_load[1],
                           &t.first_word, &t.last_word, &t.first_result, &t.last_result};
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
            *all[i] = beyond(*all[i], u->begin);
        *times = t;
    }
    return QD_OK;
}

void qd_unit_wait(qd_unit *u, uint64_t cycles) {
    if (u->report.counters.commands == 0) return;
    uint64_t first;
    const uint64_t idle = latest(u->at, u->y_free);
    count_tail(u, idle, idle);
    spend(u, QD_UNIT_RESULTS, least(idle - u->at, u->y_late));
    spend(u, QD_UNIT_TAIL, idle - u->at);
    const uint64_t end = pass(&u->bus, latest(u->bus_free, idle), 1, false, &first) + 1;
    spend(u, QD_UNIT_QUEUE, end + cycles - u->at);
    /* The streams begin anew. */
    flow *const flows[] = {&u->load[0].stream, &u->load[1].stream, &u->load[2].stream, &u->bus};
    for (int i = 0; i < 4; i++)
        if (!flows[i]->rate) flows[i]->from = u->at;
    u->bus_free = u->at;
}

qd_unit_report qd_unit_report_of(const qd_unit *u) {
    qd_unit copy = *u;
    qd_unit_wait(&copy, 0);
    qd_unit_counters *n = &copy.report.counters;
    n->busy = n->issued + n->wait_w + n->wait_x + n->wait_c + n->wait_drain + n->tail;
    copy.report.cycles = copy.at - copy.begin;
    return copy.report;
}

const char *qd_unit_cause_name(qd_unit_cause c) {
    static const char *const names[QD_UNIT_CAUSES] = {"work",  "weights", "columns", "channels",
                                                      "drain", "results", "queue",   "tail"};
    return names[c];
}

qd_status qd_unit_cycles(const qd_unit_shape *shape, const qd_unit_command *commands, size_t n,
                         const qd_unit_streams *streams, qd_unit_report *report) {
    qd_unit *u;
    qd_status status = qd_unit_open(shape, streams, &u);
    if (status) return status;
    for (size_t i = 0; i < n && !status; i++)
        status = qd_unit_give(u, &commands[i], NULL);
    if (!status) *report = qd_unit_report_of(u);
    qd_unit_close(u);
    return status;
}
