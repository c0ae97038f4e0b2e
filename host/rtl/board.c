#include "rtl/board.h"

#include <stdlib.h>
#include <string.h>

struct rtl_board {
    const rtl_model *model;
    void *unit;
    rtl_stalls stalls;
    rtl_shape shape;
    rtl_counters counters;
    uint64_t cycle;
    rtl_pins pins;
};

/* ---- Lists -------------------------------------------------------------------------------------------------- */

uint8_t *rtl_list_add(rtl_list *l, size_t bytes) {
    if (bytes > l->capacity - l->bytes) {
        const size_t capacity = (l->bytes + bytes) * 2;
        void *grown = qd_realloc(l->data, capacity);
        if (!grown) return NULL;
        l->data = grown;
        l->capacity = capacity;
    }
    uint8_t *at = (uint8_t *)l->data + l->bytes;
    memset(at, 0, bytes);
    l->bytes += bytes;
    return at;
}

void rtl_job_free(rtl_job *j) {
    rtl_list *lists[] = {&j->commands, &j->w, &j->x, &j->c, &j->y};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        free(lists[i]->data);
    memset(j, 0, sizeof *j);
}

/* Bytes of a channel on the stream c: {0, w_zero, b, a, bias}. */
enum { CHANNEL_BYTES = 12 };

qd_status rtl_job_command(rtl_job *j, const rtl_shape *s, const rtl_command *c, const rtl_channel *channels) {
    uint8_t *at = rtl_list_add(&j->commands, sizeof *c);
    if (!at) return QD_ERR_MEMORY;
    memcpy(at, c, sizeof *c);
    for (uint32_t i = 0; c->flags & RTL_LOAD_C && i < c->channels; i++) {
        const uint16_t w_zero = (uint16_t)(channels[i].w_zero & 0x1ff);
        if (!(at = rtl_list_add(&j->c, CHANNEL_BYTES))) return QD_ERR_MEMORY;
        memcpy(at, &channels[i].bias, 4);
        memcpy(at + 4, &channels[i].a, 4);
        memcpy(at + 8, &channels[i].b, 1);
        memcpy(at + 9, &w_zero, 2);
    }
    if (c->flags & RTL_LAST) {
        const size_t steps = (c->channels + (size_t)s->quants - 1) / (size_t)s->quants;
        j->beats += steps * ((size_t)(c->groups - 1) * (c->flags & RTL_STEP_W ? c->edge : (size_t)s->cols) + c->edge);
    }
    return QD_OK;
}

/* ---- Cycles ------------------------------------------------------------------------------------------------- */

bool rtl_stall(const rtl_stalls *s, rtl_stream stream, uint64_t cycle) {
    /* splitmix64 of what names the moment (Steele, Lea and Flood 2014) */
    uint64_t z = s->seed + ((cycle >> s->burst) * RTL_STREAMS + (uint64_t)stream + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (int)((z ^ (z >> 31)) >> 56) < s->per_256[stream];
}

static bool may(const rtl_board *b, rtl_stream stream) {
    return !rtl_stall(&b->stalls, stream, b->cycle);
}

static void end_cycle(rtl_board *b) {
    b->model->clock(b->unit);
    b->cycle++;
}

static void reset(rtl_board *b) {
    memset(&b->pins, 0, sizeof b->pins);
    b->pins.rst = 1;
    for (int i = 0; i < 4; i++) {
        b->model->settle(b->unit, &b->pins);
        end_cycle(b);
    }
    b->pins.rst = 0;
}

/* One access while no stream runs; waits for `ready` for a few cycles. */
static uint32_t access_register(rtl_board *b, bool write, uint8_t address, uint32_t value) {
    b->pins.bus_valid = 1;
    b->pins.bus_write = write;
    b->pins.bus_address = address;
    b->pins.bus_wdata = value;
    for (int ready = 0, i = 0; !ready && i < 16; i++) {
        b->model->settle(b->unit, &b->pins);
        ready = b->pins.bus_ready;
        end_cycle(b);
    }
    b->pins.bus_valid = 0;
    return b->pins.bus_rdata;
}

qd_status rtl_board_open(const rtl_model *m, const rtl_stalls *stalls, rtl_board **out) {
    rtl_board *b = qd_alloc_zero(1, sizeof *b);
    if (!b) return QD_ERR_MEMORY;
    b->model = m;
    if (stalls) b->stalls = *stalls;
    b->unit = m->open();
    if (!b->unit) {
        free(b);
        return qd_fail(QD_ERR_MEMORY, "out of memory: could not make the verilated unit");
    }
    reset(b);
    const uint32_t id = access_register(b, false, RTL_ID, 0), shape = access_register(b, false, RTL_SHAPE, 0),
                   limits = access_register(b, false, RTL_LIMITS, 0);
    b->shape = (rtl_shape){.rows = (int)(shape & 255),
                           .cols = (int)(shape >> 8 & 255),
                           .lanes = (int)(shape >> 16 & 255),
                           .quants = (int)(shape >> 24),
                           .w_words = 1 << (limits & 31),
                           .x_words = 1 << (limits >> 8 & 31),
                           .w_beats = (int)(limits >> 16 & 255),
                           .x_beats = (int)(limits >> 24)};
    if (id != RTL_ID_VALUE) {
        rtl_board_close(b);
        return qd_fail(QD_ERR_DEVICE, "the register ID of the unit is %08x, not %08x: this is another unit", id,
                       RTL_ID_VALUE);
    }
    if (m->w_bytes * b->shape.w_beats != b->shape.rows * b->shape.lanes ||
        m->x_bytes * b->shape.x_beats != b->shape.cols * b->shape.lanes) {
        rtl_board_close(b);
        return qd_fail(QD_ERR_DEVICE, "beats of the unit's streams must be of 1, 2, 4, or a multiple of 4 bytes");
    }
    *out = b;
    return QD_OK;
}

void rtl_board_close(rtl_board *b) {
    if (!b) return;
    b->model->close(b->unit);
    free(b);
}

const rtl_shape *rtl_board_shape(const rtl_board *b) {
    return &b->shape;
}

rtl_counters rtl_board_counters(const rtl_board *b) {
    return b->counters;
}

uint64_t rtl_board_cycles(const rtl_board *b) {
    return b->cycle;
}

/* ---- Runs --------------------------------------------------------------------------------------------------- */

/* The accesses that a command needs: its registers, then a look at what the unit says of it. */
enum { ACCESSES = 6 };

static void next_access(rtl_pins *p, const rtl_command *c, int step) {
    static const uint8_t addresses[ACCESSES] = {RTL_SIZE, RTL_TILE, RTL_ZEROS, RTL_CODES, RTL_COMMAND, RTL_STATUS};
    const uint32_t values[ACCESSES] = {
        c->words | c->groups << 16,
        c->channels | c->edge << 16,
        ((uint32_t)c->x_zero & 0x1ff) | ((uint32_t)c->zero & 0x1ff) << 16,
        ((uint32_t)c->min & 0x1ff) | ((uint32_t)c->max & 0x1ff) << 16,
        c->flags,
        0,
    };
    p->bus_address = addresses[step];
    p->bus_wdata = values[step];
    p->bus_write = addresses[step] != RTL_STATUS;
}

static qd_status refused(const rtl_shape *s, uint32_t reason) {
    static const char *const reasons[8] = {
        "nothing",
        "words, groups, channels or columns are 0",
        "weights beyond a bank of the weight buffer",
        "columns beyond a bank of the column buffer",
        "more channels than the array has rows",
        "more columns in a group than the array has",
        "a part of K with several groups",
        "an operand that was never loaded",
    };
    return qd_fail(QD_ERR_UNSUPPORTED,
                   "the unit of %d rows, %d columns, %d lanes and buffers of %d and %d words refused a command: %s",
                   s->rows, s->cols, s->lanes, s->w_words, s->x_words, reasons[reason & 7]);
}

/* A stream into the unit. */
typedef struct feed {
    rtl_stream stream;
    const rtl_list *list;
    size_t at, beat;
    bool offered;
} feed;

static const void *offer(const rtl_board *b, feed *f, uint8_t *valid) {
    f->offered = f->at < f->list->bytes && (f->offered || may(b, f->stream));
    *valid = f->offered;
    return f->offered ? (const uint8_t *)f->list->data + f->at : NULL;
}

static bool taken(feed *f, uint8_t ready) {
    if (!f->offered || !ready) return false;
    f->at += f->beat;
    f->offered = false;
    return true;
}

static bool all_given(const feed f[3]) {
    return f[0].at == f[0].list->bytes && f[1].at == f[1].list->bytes && f[2].at == f[2].list->bytes;
}

static void add_counters(rtl_board *b) {
    uint64_t *to[] = {&b->counters.busy,   &b->counters.issued,     &b->counters.wait_w, &b->counters.wait_x,
                      &b->counters.wait_c, &b->counters.wait_drain, &b->counters.tail,   &b->counters.commands};
    for (size_t i = 0; i < sizeof to / sizeof to[0]; i++)
        *to[i] += access_register(b, false, (uint8_t)(RTL_COUNTERS + 4 * i), 0);
}

static qd_status run(rtl_board *b, rtl_job *j) {
    const rtl_command *commands = j->commands.data;
    const size_t n = j->commands.bytes / sizeof *commands, y_bytes = (size_t)b->model->y_bytes;
    /* Nothing moves for so long only when something is wrong: all of a command, in cycles, times the longest stalls. */
    const uint64_t patience = ((uint64_t)b->shape.w_words + (uint64_t)b->shape.x_words +
                               2 * (uint64_t)b->shape.rows * (uint64_t)b->shape.cols + 1000)
                              << (b->stalls.burst + 4);
    rtl_pins *p = &b->pins;
    feed feeds[3] = {{RTL_W, &j->w, 0, (size_t)b->model->w_bytes, false},
                     {RTL_X, &j->x, 0, (size_t)b->model->x_bytes, false},
                     {RTL_C, &j->c, 0, CHANNEL_BYTES, false}};
    size_t command = 0, received = 0;
    uint64_t moved = b->cycle;
    bool busy = true;
    access_register(b, true, RTL_STATUS, 0);
    for (int step = 0; command < n || !all_given(feeds) || received < j->beats || busy;) {
        const bool asking = command == n; /* is it over? */
        p->w_data = offer(b, &feeds[0], &p->w_valid);
        p->x_data = offer(b, &feeds[1], &p->x_valid);
        p->c_data = offer(b, &feeds[2], &p->c_valid);
        p->y_ready = may(b, RTL_Y);
        p->bus_valid = p->bus_valid || may(b, RTL_BUS);
        next_access(p, &commands[asking ? 0 : command], asking ? ACCESSES - 1 : step);
        b->model->settle(b->unit, p);
        bool any = taken(&feeds[0], p->w_ready);
        any = taken(&feeds[1], p->x_ready) || any;
        any = taken(&feeds[2], p->c_ready) || any;
        if (p->y_ready && p->y_valid) {
            uint8_t *to = received < j->beats ? rtl_list_add(&j->y, y_bytes) : NULL;
            if (!to && received < j->beats) return QD_ERR_MEMORY;
            if (!to) return qd_fail(QD_ERR_DEVICE, "the unit gave more results than the %zu asked for", j->beats);
            memcpy(to, p->y_data, y_bytes);
            received++;
            any = true;
        }
        if (p->bus_valid && p->bus_ready) {
            const uint32_t reason = p->bus_address == RTL_STATUS ? p->bus_rdata & 7 : 0;
            if (reason) return refused(&b->shape, reason);
            busy = !asking || p->bus_rdata >> 31;
            any = any || !asking;
            step = (step + 1) % ACCESSES;
            command += !asking && step == 0;
            p->bus_valid = 0;
            if (asking) step = 0;
        }
        end_cycle(b);
        if (any) moved = b->cycle;
        if (b->cycle - moved > patience) {
            return qd_fail(QD_ERR_DEVICE,
                           "the unit hangs: %zu of %zu commands, %zu of %zu bytes of w, %zu of %zu of x, %zu of %zu "
                           "beats of y after %llu cycles",
                           command, n, feeds[0].at, j->w.bytes, feeds[1].at, j->x.bytes, received, j->beats,
                           (unsigned long long)b->cycle);
        }
    }
    p->w_valid = p->x_valid = p->c_valid = p->y_ready = p->bus_valid = 0;
    add_counters(b);
    return QD_OK;
}

qd_status rtl_board_run(rtl_board *b, rtl_job *j) {
    j->y.bytes = 0;
    const qd_status status = j->commands.bytes ? run(b, j) : QD_OK;
    if (status) reset(b);
    return status;
}
