/* Columns in the outer loop, tiles of channels in the inner one: a bank of columns stays while the weights pass.
 *
 *   sums that fit a bank    a command is a tile of channels × as many groups of columns as a bank holds
 *   longer sums             a command for each part of K, one group of columns
 *   sums of parts           a command is a tile of channels × one group of columns × as many parts as fit: STEP_W, the
 *                           parts are the unit's groups */
#include "rtl/product.h"

#include <stdlib.h>
#include <string.h>

/* Where the results of a command go. */
typedef struct place {
    int64_t channel, column, part, channels, columns, parts;
} place;

typedef struct work {
    rtl_board *board;
    const rtl_product *p;
    const rtl_shape *s;
    rtl_job job;
    rtl_list places;
    int64_t tile;  /* channels of a command */
    int64_t words; /* of all K, or of a part */
} work;

/* Streams of a job: more would only cost memory. */
enum { JOB_BYTES = 1 << 24 };

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static int64_t round_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

/* ---- Streams ------------------------------------------------------------------------------------------------ */

/* Words first … first + words - 1 along K of the channels of a tile. */
static qd_status add_weights(work *t, int64_t channel, int64_t channels, int64_t first, int64_t words) {
    const rtl_product *p = t->p;
    const int64_t rows = t->s->rows, lanes = t->s->lanes;
    uint8_t *to = rtl_list_add(&t->job.w, (size_t)(words * rows * lanes));
    if (!to) return QD_ERR_MEMORY;
    for (int64_t i = 0; i < channels; i++) {
        const uint8_t *from = p->w.data + (channel + i) * p->k;
        for (int64_t k = first * lanes; k < least((first + words) * lanes, p->k); k++) {
            uint8_t *byte = to + ((k / lanes - first) * rows + i % rows) * lanes + k % lanes;
            *byte = (uint8_t)(*byte | (p->w_bits == 8 ? from[k] : (from[k] & 15) << (i < rows ? 0 : 4)));
        }
    }
    return QD_OK;
}

/* The same of a group of columns. Behind K there are zero points, so that the products are 0. */
static qd_status add_columns(work *t, int64_t column, int64_t first, int64_t words) {
    const rtl_product *p = t->p;
    const int64_t cols = t->s->cols, lanes = t->s->lanes;
    uint8_t *to = rtl_list_add(&t->job.x, (size_t)(words * cols * lanes));
    if (!to) return QD_ERR_MEMORY;
    memset(to, (uint8_t)p->x_zero, (size_t)(words * cols * lanes));
    for (int64_t c = 0; c < least(cols, p->m - column); c++) {
        const uint8_t *from = p->x.data + (column + c) * p->k;
        for (int64_t k = first * lanes; k < least((first + words) * lanes, p->k); k++)
            to[((k / lanes - first) * cols + c) * lanes + k % lanes] = from[k];
    }
    return QD_OK;
}

/* ---- Results ------------------------------------------------------------------------------------------------ */

static void take_results(work *t) {
    const rtl_product *p = t->p;
    const int64_t quants = t->s->quants, parts = p->part ? round_up(p->k, p->part) : 1;
    const int32_t *from = t->job.y.data;
    const place *at = t->places.data;
    for (size_t i = 0; i < t->places.bytes / sizeof *at; i++, at++) {
        for (int64_t part = 0; part < at->parts; part++) {
            for (int64_t c = 0; c < at->columns; c++, from += round_up(at->channels, quants) * quants) {
                for (int64_t n = 0; n < at->channels; n++)
                    p->y[((at->column + c) * p->n + at->channel + n) * parts + at->part + part] = from[n];
            }
        }
    }
}

/* Runs what has been collected. The unit keeps what it has loaded. */
static qd_status flush(work *t) {
    const qd_status status = rtl_board_run(t->board, &t->job);
    if (!status) take_results(t);
    t->job.commands.bytes = t->job.w.bytes = t->job.x.bytes = t->job.c.bytes = t->job.beats = 0;
    t->places.bytes = 0;
    return status;
}

static qd_status add_command(work *t, rtl_command c, const place *at) {
    const rtl_product *p = t->p;
    c.channels = (uint32_t)at->channels;
    c.x_zero = p->x_zero;
    c.zero = p->zero;
    c.min = p->min;
    c.max = p->max;
    c.flags |= p->flags | (p->w_bits == 4 ? RTL_INT4 : 0) | (p->w.is_signed ? RTL_W_SIGNED : 0) |
               (p->x.is_signed ? RTL_X_SIGNED : 0);
    qd_status status = rtl_job_command(&t->job, t->s, &c, p->channels + at->channel);
    if (status) return status;
    if (c.flags & RTL_LAST) {
        uint8_t *to = rtl_list_add(&t->places, sizeof *at);
        if (!to) return QD_ERR_MEMORY;
        memcpy(to, at, sizeof *at);
    }
    if (t->job.w.bytes + t->job.x.bytes > JOB_BYTES) status = flush(t);
    return status;
}

/* ---- The three kinds ---------------------------------------------------------------------------------------- */

/* Sums that fit a bank: columns column … column + columns - 1 with all channels. */
static qd_status add_whole(work *t, int64_t column, int64_t columns) {
    const int64_t cols = t->s->cols, groups = round_up(columns, cols);
    qd_status status = QD_OK;
    for (int64_t channel = 0; channel < t->p->n && !status; channel += t->tile) {
        const place at = {channel, column, 0, least(t->tile, t->p->n - channel), columns, 1};
        /* Weights that fit one tile stay, too. */
        const bool loads_w = column == 0 || t->p->n > t->tile, loads_x = channel == 0;
        const rtl_command c = {
            .words = (uint32_t)t->words,
            .groups = (uint32_t)groups,
            .edge = (uint32_t)(columns - (groups - 1) * cols),
            .flags = RTL_FIRST | RTL_LAST | (loads_w ? RTL_LOAD_W | RTL_LOAD_C : 0u) | (loads_x ? RTL_LOAD_X : 0u)};
        if (loads_w) status = add_weights(t, channel, at.channels, 0, t->words);
        for (int64_t g = 0; g < groups && loads_x && !status; g++)
            status = add_columns(t, column + g * cols, 0, t->words);
        if (!status) status = add_command(t, c, &at);
    }
    return status;
}

/* A tile of channels × a group of columns, cut along K: in pieces of one sum, or in parts of which each is a sum. */
static qd_status add_cut(work *t, int64_t channel, int64_t column) {
    const int64_t part = t->p->part, most = least(t->s->w_words, t->s->x_words);
    const int64_t all = part ? round_up(t->p->k, part) : t->words; /* parts, or words */
    const int64_t piece = part ? most / t->words : most;           /* in one command */
    qd_status status = QD_OK;
    for (int64_t first = 0; first < all && !status; first += piece) {
        const int64_t count = least(piece, all - first), words = part ? t->words * count : count,
                      word = part ? first * t->words : first;
        const place at = {channel,
                          column,
                          part ? first : 0,
                          least(t->tile, t->p->n - channel),
                          least(t->s->cols, t->p->m - column),
                          part ? count : 1};
        const rtl_command c = {.words = (uint32_t)(part ? t->words : count),
                               .groups = (uint32_t)(part ? count : 1),
                               .edge = (uint32_t)at.columns,
                               .flags = RTL_LOAD_W | RTL_LOAD_X | RTL_LOAD_C | (part ? RTL_STEP_W : 0u) |
                                        (part || first == 0 ? RTL_FIRST : 0u) |
                                        (part || first + count == all ? RTL_LAST : 0u)};
        status = add_weights(t, channel, at.channels, word, words);
        if (!status) status = add_columns(t, column, word, words);
        if (!status) status = add_command(t, c, &at);
    }
    return status;
}

qd_status rtl_product_run(rtl_board *b, const rtl_product *p) {
    const rtl_shape *s = rtl_board_shape(b);
    work t = {.board = b, .p = p, .s = s, .tile = s->rows * (p->w_bits == 4 ? 2 : 1)};
    t.words = round_up(p->part ? p->part : p->k, s->lanes);
    const int64_t most = least(s->w_words, s->x_words);
    qd_status status = QD_OK;
    if (!p->part && t.words <= most) {
        const int64_t columns = s->x_words / t.words * s->cols;
        for (int64_t column = 0; column < p->m && !status; column += columns)
            status = add_whole(&t, column, least(columns, p->m - column));
    } else if (p->part && t.words > most) {
        status = qd_fail(QD_ERR_UNSUPPORTED, "sums of %lld codes do not fit the unit's banks of %lld words",
                         (long long)p->part, (long long)most);
    } else {
        for (int64_t column = 0; column < p->m && !status; column += s->cols) {
            for (int64_t channel = 0; channel < p->n && !status; channel += t.tile)
                status = add_cut(&t, channel, column);
        }
    }
    if (!status) status = flush(&t);
    rtl_job_free(&t.job);
    free(t.places.data);
    return status;
}
