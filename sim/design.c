/* Designs: the one that boards.def names, and changes to it. */
#include "sim/log.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/status.h"

/* The largest power of two that divides `n` and is at most `most`. */
static int even_part(int n, int most) {
    int p = 1;
    while (n % (2 * p) == 0 && 2 * p <= most)
        p *= 2;
    return p;
}

/* The largest divisor of `n` that is at most `most`. */
static int part_of(int n, int most) {
    int p = n < most ? n : most;
    while (p > 1 && n % p)
        p--;
    return p;
}

void qd_sim_design_beats(const qd_sim_board *b, qd_sim_design *d) {
    const int port = b->port_bits / 8 * b->channels;
    d->w_bytes = part_of(d->rows * d->lanes, port * qd_sim_ports(b, true));
    d->x_bytes = part_of(d->cols * d->lanes, port);
}

qd_unit_shape qd_sim_unit_shape(const qd_sim_design *d) {
    return (qd_unit_shape){.rows = d->rows,
                           .cols = d->cols,
                           .lanes = d->lanes,
                           .quants = d->quants,
                           .pack = d->pack,
                           .w_bytes = d->w_bytes,
                           .x_bytes = d->x_bytes,
                           .w_address = d->w_address,
                           .x_address = d->x_address};
}

/* ---- Limits ------------------------------------------------------------------------------------------------- */

static qd_status too_many(const qd_sim_board *b, const char *what, int64_t needs, int64_t has, const qd_sim_design *d) {
    return qd_fail(QD_ERR_ARGUMENT,
                   "board %s has %lld %s; the array of %d x %d x %d with buffers of 2^%d and 2^%d words needs %lld",
                   b->name, (long long)has, what, d->rows, d->cols, d->lanes, d->w_address, d->x_address,
                   (long long)needs);
}

qd_status qd_sim_design_check(const qd_sim_board *b, const qd_sim_design *d) {
    const qd_unit_shape s = qd_sim_unit_shape(d);
    if (!(d->clock_mhz > 0 && d->clock_mhz <= 2000))
        return qd_fail(QD_ERR_ARGUMENT, "board %s: a clock of %g MHz; it must be above 0 and at most 2000", b->name,
                       d->clock_mhz);
    const qd_status status = qd_unit_check(&s);
    if (status) return status;
    const qd_sim_resources r = qd_sim_resources_of(b, d);
    if (r.dsps > r.has_dsps) return too_many(b, "DSP blocks", r.dsps, r.has_dsps, d);
    if (r.brams > r.has_brams) return too_many(b, "RAM blocks", r.brams, r.has_brams, d);
    if (r.luts > r.has_luts) return too_many(b, "LUTs", r.luts, r.has_luts, d);
    return QD_OK;
}

/* ---- The board's own ---------------------------------------------------------------------------------------- */

/* Beats as wide as all ports together, results as many as the array makes of a sum of 64 words, banks that block RAM is
 * deep for; less where the board has not enough. */
static qd_sim_design design_of(const qd_sim_board *b) {
    enum { MOST_QUANTS = 16 };
    qd_sim_design d = {.clock_mhz = b->clock_mhz,
                       .rows = b->rows,
                       .cols = b->cols,
                       .lanes = b->lanes,
                       .quants = even_part(b->rows, MOST_QUANTS),
                       .pack = 1,
                       .w_address = 9,
                       .x_address = 10};
    qd_sim_design_beats(b, &d);
    for (qd_sim_resources r; r = qd_sim_resources_of(b, &d), d.quants > 1 && r.dsps > r.has_dsps;)
        d.quants /= 2;
    for (qd_sim_resources r; r = qd_sim_resources_of(b, &d), d.x_address > 6 && r.brams > r.has_brams;)
        d.w_address = --d.x_address - 1;
    return d;
}

/* ---- Changes ------------------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    size_t at;
} keys[] = {
#define KEY(name) \
    { #name, offsetof(qd_sim_design, name) }
    KEY(rows),    KEY(cols),    KEY(lanes),     KEY(quants),    KEY(pack),
    KEY(w_bytes), KEY(x_bytes), KEY(w_address), KEY(x_address),
#undef KEY
};
enum { KEYS = sizeof keys / sizeof keys[0] };

static int *key_of(qd_sim_design *d, const char *name, size_t length) {
    for (int i = 0; i < KEYS; i++) {
        if (strlen(keys[i].name) == length && strncmp(keys[i].name, name, length) == 0)
            return (int *)(void *)((char *)d + keys[i].at);
    }
    return NULL;
}

/* Applies "KEY=VALUE,…". Beats and results a cycle follow the array where they are not given. */
static qd_status change(const qd_sim_board *b, const char *changes, qd_sim_design *d) {
    bool shape = false, w_beat = false, x_beat = false, results = false;
    for (const char *p = changes; *p;) {
        const size_t length = strcspn(p, "=,");
        int *to = key_of(d, p, length);
        char *end = NULL;
        const double value = p[length] == '=' ? strtod(p + length + 1, &end) : NAN;
        const bool is_clock = length == 9 && strncmp(p, "clock_mhz", length) == 0;
        if (!to && !is_clock)
            return qd_fail(QD_ERR_ARGUMENT,
                           "'%.*s' is no part of a design: rows, cols, lanes, quants, pack, w_bytes, x_bytes, "
                           "w_address, x_address, clock_mhz",
                           (int)length, p);
        if (!end || end == p + length + 1 || (*end && *end != ',') ||
            !(is_clock ? isfinite(value) : value >= 0 && value <= 65536 && value == floor(value)))
            return qd_fail(QD_ERR_ARGUMENT, "'%.*s' of a design: it is KEY=NUMBER, a whole number up to 65536",
                           (int)strcspn(p, ","), p);
        if (is_clock) {
            d->clock_mhz = value;
        } else {
            *to = (int)value;
        }
        shape |= to == &d->rows || to == &d->cols || to == &d->lanes;
        w_beat |= to == &d->w_bytes;
        x_beat |= to == &d->x_bytes;
        results |= to == &d->quants;
        p = *end ? end + 1 : end;
    }
    if (shape && d->rows > 0 && d->cols > 0 && d->lanes > 0) {
        qd_sim_design beats = *d;
        qd_sim_design_beats(b, &beats);
        if (!w_beat) d->w_bytes = beats.w_bytes;
        if (!x_beat) d->x_bytes = beats.x_bytes;
        if (!results) d->quants = even_part(d->rows, d->quants);
    }
    return QD_OK;
}

qd_status qd_sim_machine_open(const char *board, const char *changes, qd_sim_machine *out) {
    const qd_sim_board *b = qd_sim_board_find(board);
    if (!b) return qd_fail(QD_ERR_NO_DEVICE, "no board \"%s\": the model knows %s", board, qd_sim_board_names());
    qd_sim_machine m = {b, qd_sim_params_value(), design_of(b)};
    qd_status status = qd_sim_board_check(b);
    if (!status && changes) status = change(b, changes, &m.design);
    if (!status) status = qd_sim_design_check(b, &m.design);
    if (!status) *out = m;
    return status;
}

qd_status qd_sim_design_of(const char *board, const char *changes, qd_sim_design *out, qd_sim_resources *resources) {
    qd_sim_machine m;
    if (!board || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_sim_design_of: board and out must not be NULL");
    const qd_status status = qd_sim_machine_open(board, changes, &m);
    if (status) return status;
    *out = m.design;
    if (resources) *resources = qd_sim_resources_of(m.board, &m.design);
    return QD_OK;
}
