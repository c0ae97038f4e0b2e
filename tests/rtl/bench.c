#include "rtl/bench.h"

#include <stdlib.h>
#include <string.h>

#include "qdot/qdot_num.h"
#include "unit/devices.h"

uint64_t bench_bits(bench_random *r) {
    uint64_t z = r->state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

int64_t bench_between(bench_random *r, int64_t low, int64_t high) {
    return low + (int64_t)(bench_bits(r) % (uint64_t)(high - low + 1));
}

bool bench_one_in(bench_random *r, int n) {
    return bench_bits(r) % (uint64_t)n == 0;
}

static void *zeros(int count, size_t bytes) {
    void *p = calloc((size_t)count, bytes);
    ck_assert_ptr_nonnull(p);
    return p;
}

void bench_open(bench_unit *u, const rtl_shape *s) {
    *u = (bench_unit){.shape = *s};
    u->w = zeros(s->w_words, (size_t)(s->rows * s->lanes));
    u->x = zeros(s->x_words, (size_t)(s->cols * s->lanes));
    u->channels = zeros(2 * s->rows, sizeof *u->channels);
    u->totals = zeros(2 * s->rows * s->cols, sizeof *u->totals);
}

void bench_close(bench_unit *u) {
    free(u->w);
    free(u->x);
    free(u->channels);
    free(u->totals);
}

/* ---- What is around the unit ------------------------------------------------------------------------------------- */

rtl_stalls bench_stalls(bench_random *r) {
    rtl_stalls s = {.seed = bench_bits(r), .burst = (int)bench_between(r, 0, 6)};
    for (int i = 0; i < RTL_STREAMS; i++)
        s.per_256[i] = bench_one_in(r, 3) ? 0 : (int)bench_between(r, 1, bench_one_in(r, 4) ? 250 : 128);
    return s;
}

/* ---- What the unit must do ---------------------------------------------------------------------------------- */

static int32_t code_of(uint8_t byte, int bits, bool high, bool is_signed) {
    const int32_t v = bits == 8 ? byte : high ? byte >> 4 : byte & 15;
    return is_signed && v >> (bits - 1) ? v - (1 << bits) : v;
}

static void add_products(bench_unit *u, const rtl_command *c, uint32_t group) {
    const rtl_shape *s = &u->shape;
    const bool int4 = c->flags & RTL_INT4;
    for (int column = 0; column < s->cols; column++) {
        for (uint32_t channel = 0; channel < c->channels; channel++) {
            uint32_t *total = &u->totals[column * 2 * s->rows + (int)channel];
            const int row = (int)channel % s->rows;
            if (group > 0 || c->flags & RTL_FIRST) *total = 0;
            for (uint32_t k = 0; k < c->words * (uint32_t)s->lanes; k++) {
                const size_t word = k / (uint32_t)s->lanes, lane = k % (uint32_t)s->lanes;
                const size_t w_word = word + (c->flags & RTL_STEP_W ? (size_t)group * c->words : 0);
                const size_t x_word = word + (size_t)group * c->words;
                const uint8_t w = u->w[(w_word * (size_t)s->rows + (size_t)row) * (size_t)s->lanes + lane];
                const uint8_t x = u->x[(x_word * (size_t)s->cols + (size_t)column) * (size_t)s->lanes + lane];
                const int32_t a = code_of(w, int4 ? 4 : 8, (int)channel >= s->rows, c->flags & RTL_W_SIGNED) -
                                  u->channels[channel].w_zero;
                *total += (uint32_t)(a * (code_of(x, 8, false, c->flags & RTL_X_SIGNED) - c->x_zero));
            }
        }
    }
}

static void add_results(const bench_unit *u, const rtl_command *c, int columns, rtl_list *want) {
    const rtl_shape *s = &u->shape;
    const int32_t mode = c->flags & RTL_GEMMLOWP ? QD_MODE_GEMMLOWP : QD_MODE_FIXED;
    for (int column = 0; column < columns; column++) {
        const int steps = ((int)c->channels + s->quants - 1) / s->quants;
        int64_t *y = (int64_t *)(void *)rtl_list_add(want, (size_t)(steps * s->quants) * sizeof *y);
        ck_assert_ptr_nonnull(y);
        for (uint32_t i = c->channels; i < (uint32_t)(steps * s->quants); i++)
            y[i] = BENCH_ANY;
        for (uint32_t i = 0; i < c->channels; i++) {
            const rtl_channel *ch = &u->channels[i];
            const int32_t sum = (int32_t)(u->totals[column * 2 * s->rows + (int)i] + (uint32_t)ch->bias);
            const int32_t q = qd_requantize(sum, mode, ch->a, ch->b);
            y[i] = c->flags & RTL_RAW ? q : qd_to_code(q, c->zero, c->min, c->max);
        }
    }
}

/* The unit's work for one command. */
static void expect(bench_unit *u, const rtl_command *c, rtl_list *want) {
    for (uint32_t g = 0; g < c->groups; g++) {
        add_products(u, c, g);
        const bool edge = g + 1 == c->groups || c->flags & RTL_STEP_W;
        if (c->flags & RTL_LAST) add_results(u, c, edge ? (int)c->edge : u->shape.cols, want);
    }
    u->open = !(c->flags & RTL_LAST);
}

/* ---- Random commands ---------------------------------------------------------------------------------------- */

/* Bytes of one kind: any, or the codes at the edges of their range. */
static void random_bytes(bench_random *r, uint8_t *to, size_t n) {
    static const uint8_t edges[] = {0x00, 0x80, 0x7f, 0xff, 0x88, 0x77, 0x08, 0xf0, 0x01};
    const int kind = (int)bench_between(r, 0, 3);
    const uint8_t same = edges[bench_between(r, 0, (int64_t)sizeof edges - 1)];
    for (size_t i = 0; i < n; i++) {
        to[i] = kind == 0   ? same
                : kind == 1 ? edges[bench_between(r, 0, (int64_t)sizeof edges - 1)]
                            : (uint8_t)bench_bits(r);
    }
}

/* A zero point of codes of so many bits. */
static int32_t random_zero(bench_random *r, int bits, bool is_signed) {
    const int32_t min = is_signed ? -(1 << (bits - 1)) : 0, max = min + (1 << bits) - 1;
    return bench_one_in(r, 4)   ? 0
           : bench_one_in(r, 3) ? (bench_one_in(r, 2) ? min : max)
                                : (int32_t)bench_between(r, min, max);
}

static int32_t random_i32(bench_random *r) {
    static const int32_t edges[] = {0, 1, -1, INT32_MAX, INT32_MIN, INT32_MIN + 1, 1 << 30, -(1 << 30), 0x8000, 0xffff};
    return bench_one_in(r, 3) ? edges[bench_between(r, 0, 9)] : (int32_t)bench_bits(r) >> bench_between(r, 0, 31);
}

static rtl_channel random_channel(bench_random *r, uint32_t flags) {
    rtl_channel c = {.bias = random_i32(r),
                     .w_zero = (int16_t)random_zero(r, flags & RTL_INT4 ? 4 : 8, flags & RTL_W_SIGNED)};
    if (bench_one_in(r, 3)) { /* so that results lie around the codes */
        c.bias >>= 12;
        c.a = (int32_t)bench_between(r, 1 << 30, INT32_MAX);
        c.b = (int8_t)(flags & RTL_GEMMLOWP ? bench_between(r, -14, 0) : bench_between(r, 31, 45));
    } else {
        c.a = bench_one_in(r, 2) ? (int32_t)bench_between(r, 1 << 30, INT32_MAX) : random_i32(r);
        c.b = (int8_t)(flags & RTL_GEMMLOWP ? bench_between(r, -31, 31)
                       : bench_one_in(r, 8) ? bench_between(r, -128, 127)
                                            : bench_between(r, 0, 64));
    }
    return c;
}

/* Draws what a command loads, and gives it to the job and to the unit's copy. */
static void add(bench_unit *u, bench_random *r, const rtl_command *c, rtl_job *j, rtl_list *want) {
    const rtl_shape *s = &u->shape;
    const size_t w_words = c->words * (c->flags & RTL_STEP_W ? c->groups : 1), x_words = (size_t)c->words * c->groups;
    if (c->flags & RTL_LOAD_W) {
        const size_t bytes = w_words * (size_t)(s->rows * s->lanes);
        uint8_t *to = rtl_list_add(&j->w, bytes);
        ck_assert_ptr_nonnull(to);
        random_bytes(r, to, bytes);
        memcpy(u->w, to, bytes);
        u->w_words = (int)w_words;
    }
    if (c->flags & RTL_LOAD_X) {
        const size_t bytes = x_words * (size_t)(s->cols * s->lanes);
        uint8_t *to = rtl_list_add(&j->x, bytes);
        ck_assert_ptr_nonnull(to);
        random_bytes(r, to, bytes);
        memcpy(u->x, to, bytes);
        u->x_words = (int)x_words;
    }
    if (c->flags & RTL_LOAD_C) {
        for (uint32_t i = 0; i < c->channels; i++)
            u->channels[i] = random_channel(r, c->flags);
        u->n_channels = (int)c->channels;
    }
    ck_ok(rtl_job_command(j, s, c, u->channels));
    expect(u, c, want);
}

/* 1 … most; both ends often. */
static uint32_t random_size(bench_random *r, int most) {
    return (uint32_t)(bench_one_in(r, 4) ? 1 : bench_one_in(r, 4) ? most : bench_between(r, 1, most));
}

void bench_add(bench_unit *u, bench_random *r, bool ending, rtl_job *j, rtl_list *want) {
    const rtl_shape *s = &u->shape;
    rtl_command c = {.flags = RTL_LAST};
    const bool load_c = !u->n_channels || (!u->open && bench_one_in(r, 2));
    const bool whole = !u->open && (ending || !bench_one_in(r, 4));
    if (load_c) {
        u->flags = (uint32_t)bench_bits(r) & (RTL_INT4 | RTL_W_SIGNED | RTL_GEMMLOWP);
        c.flags |= RTL_LOAD_C;
    }
    c.flags |= u->flags | ((uint32_t)bench_bits(r) & (RTL_X_SIGNED | RTL_LOAD_W | RTL_LOAD_X));
    if (!u->w_words) c.flags |= RTL_LOAD_W;
    if (!u->x_words) c.flags |= RTL_LOAD_X;
    if (!u->open) c.flags |= RTL_FIRST;
    if (!whole && !ending && bench_one_in(r, 2)) c.flags &= ~(uint32_t)RTL_LAST;
    if (bench_one_in(r, 8)) c.flags |= RTL_RAW;
    if (bench_one_in(r, 3)) c.flags |= RTL_STEP_W;
    /* Sizes: those that the buffers hold, or what was loaded before. */
    const int w_most = c.flags & RTL_LOAD_W ? s->w_words : u->w_words,
              x_most = c.flags & RTL_LOAD_X ? s->x_words : u->x_words;
    c.words = random_size(r, bench_one_in(r, 2) || w_most < 4 || x_most < 4 ? (w_most < x_most ? w_most : x_most) : 4);
    const int room = c.flags & RTL_STEP_W && w_most < x_most ? w_most : x_most;
    c.groups = (c.flags & (RTL_FIRST | RTL_LAST)) == (RTL_FIRST | RTL_LAST) ? random_size(r, room / (int)c.words) : 1;
    c.channels = random_size(r, c.flags & RTL_LOAD_C ? s->rows << (c.flags & RTL_INT4 ? 1 : 0) : u->n_channels);
    if (u->open) c.channels = (uint32_t)u->n_channels; /* of the whole sum */
    c.edge = random_size(r, s->cols);
    c.x_zero = random_zero(r, 8, c.flags & RTL_X_SIGNED);
    c.zero = (int32_t)bench_between(r, -256, 255);
    c.min = (int32_t)bench_between(r, -256, 0);
    c.max = (int32_t)bench_between(r, -1, 255);
    if (!(c.flags & RTL_LAST) && !load_c && u->n_channels) c.channels = (uint32_t)u->n_channels;
    add(u, r, &c, j, want);
}

void bench_add_tile(bench_unit *u, bench_random *r, const rtl_command *c, rtl_job *j, rtl_list *want) {
    u->flags = c->flags & (RTL_INT4 | RTL_W_SIGNED | RTL_GEMMLOWP);
    add(u, r, c, j, want);
}
