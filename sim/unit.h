/* Cycles of the matmul unit of hls/rtl, by the rules of its README ("Cycles"), without simulating it: the moment of
 * every load, word and result follows from those before. tests/rtl holds it against the verilated unit, to the cycle.
 */
#ifndef QDOT_SIM_UNIT_H
#define QDOT_SIM_UNIT_H

#include <stdbool.h>
#include <stdint.h>

#include "qdot/qdot.h"

/* ---- The unit ----------------------------------------------------------------------------------------------- */

/** Parameters of qd_matmul.v, by its names in lower case. */
typedef struct qd_unit_shape {
    int rows, cols, lanes, quants;
    int pack;                 /* 1: two INT4 products in a multiplier; changes no cycle */
    int w_bytes, x_bytes;     /* of a beat of w, of x */
    int w_address, x_address; /* log2 of the words in a bank */
} qd_unit_shape;

/** QD_OK, or QD_ERR_ARGUMENT with a message that names the parameter which breaks a rule of hls/rtl/README.md. */
qd_status qd_unit_check(const qd_unit_shape *s);

/** Flags of a command that change its cycles: bits of the register COMMAND. */
enum {
    QD_UNIT_INT4 = 1,
    QD_UNIT_LOAD_W = 32,
    QD_UNIT_LOAD_X = 64,
    QD_UNIT_LOAD_C = 128,
    QD_UNIT_FIRST = 256,
    QD_UNIT_LAST = 512,
    QD_UNIT_STEP_W = 1024
};

/** The registers SIZE, TILE and COMMAND. Other flags are allowed and change nothing. */
typedef struct qd_unit_command {
    uint32_t words, groups;  /* words along K of a group; groups of `cols` columns */
    uint32_t channels, edge; /* rows of w; columns of the last group (STEP_W: of each) */
    uint32_t flags;
} qd_unit_command;

/* ---- What is around it -------------------------------------------------------------------------------------- */

typedef enum qd_unit_stream_name {
    QD_UNIT_W,   /* weights */
    QD_UNIT_X,   /* columns */
    QD_UNIT_C,   /* channels: bias, scale, zero point */
    QD_UNIT_Y,   /* results */
    QD_UNIT_BUS, /* registers: six accesses to a command */
    QD_UNIT_STREAMS
} qd_unit_stream_name;

/** What a stream can do. All zero: a beat in every cycle in which the unit takes one (y: is taken in the cycle in which
 *  it is offered; bus: an access in every cycle). Else one of
 *
 *    rate      memory or a DMA engine behind a FIFO: from cycle `latency` on `rate` beats a cycle come in (y: can go
 *              out), up to `depth` of which wait for the unit. `rate` = bytes/s / bytes of a beat / clock.
 *    stalled   a pattern: in cycles in which stalled(user, stream, cycle) is true no beat starts (y: is taken). A beat
 *              once offered stays. */
typedef struct qd_unit_stream {
    double rate;      /* at most 1 counts; 0: one in every cycle */
    uint32_t depth;   /* below 2: 2 */
    uint64_t latency; /* cycles before the first, after the first access on the bus */
    bool (*stalled)(const void *user, qd_unit_stream_name stream, uint64_t cycle);
    const void *user;
} qd_unit_stream;

typedef struct qd_unit_streams {
    qd_unit_stream stream[QD_UNIT_STREAMS];
    uint64_t cycle; /* number of the first cycle, as `stalled` is to see it */
} qd_unit_streams;

/* ---- Report ------------------------------------------------------------------------------------------------- */

/** What each cycle was spent on; exactly one for each. */
typedef enum qd_unit_cause {
    QD_UNIT_WORK,     /* a word issued: rows · cols · lanes products (INT4: twice) */
    QD_UNIT_WEIGHTS,  /* waiting for the bank of w */
    QD_UNIT_COLUMNS,  /* w is there; waiting for the bank of x */
    QD_UNIT_CHANNELS, /* both are there; waiting for the bank of c, and the cycle in which a command starts */
    QD_UNIT_DRAIN,    /* sums are shorter than what it takes to requantize and send the sums before */
    QD_UNIT_RESULTS,  /* the same because y is not taken fast enough; also at the end */
    QD_UNIT_QUEUE,    /* no command there: the bus */
    QD_UNIT_TAIL,     /* everything issued; the last results are under way */
    QD_UNIT_CAUSES
} qd_unit_cause;

/** "work", "weights", … */
const char *qd_unit_cause_name(qd_unit_cause c);

/** The unit's own counters (registers 40 … 5c). busy = the sum of the six after it; `tail` has the busy cycles without
 *  a command. */
typedef struct qd_unit_counters {
    uint64_t busy, issued, wait_w, wait_x, wait_c, wait_drain, tail, commands;
} qd_unit_counters;

typedef struct qd_unit_report {
    uint64_t cycles;                 /* from the first access on the bus to the one that finds the unit idle */
    uint64_t cause[QD_UNIT_CAUSES];  /* their sum is `cycles` */
    uint64_t beats[QD_UNIT_STREAMS]; /* bus: accesses before everything was given */
    uint64_t products;               /* of channels and columns that exist; those that only pad K count */
    qd_unit_counters counters;
} qd_unit_report;

/* ---- Running it --------------------------------------------------------------------------------------------- */

/** When a command did what: cycles since the first access on the bus, for a timeline. */
typedef struct qd_unit_times {
    uint64_t given;                     /* COMMAND taken */
    uint64_t w_load[2], x_load[2];      /* first and last beat's cycle, both 0 where nothing is loaded */
    uint64_t first_word, last_word;     /* issued */
    uint64_t first_result, last_result; /* taken at y; both 0 without LAST */
} qd_unit_times;

/** A unit that runs commands. Of fixed size whatever their number. */
typedef struct qd_unit qd_unit;

/** Errors: those of qd_unit_check; QD_ERR_ARGUMENT: a stream with a rate below 0 or not finite; QD_ERR_MEMORY. `shape`
 *  and `streams` (NULL: all at full speed) are copied. */
qd_status qd_unit_open(const qd_unit_shape *shape, const qd_unit_streams *streams, qd_unit **out);
const qd_unit_shape *qd_unit_shape_of(const qd_unit *u);
/** NULL is legal. */
void qd_unit_close(qd_unit *u);
/** The host gives one more command. `times` may be NULL. QD_ERR_UNSUPPORTED: the unit would refuse it; the message
 * names the limit, and nothing has changed. */
qd_status qd_unit_give(qd_unit *u, const qd_unit_command *c, qd_unit_times *times);
/** The host waits until the unit is idle, and goes on `cycles` later (queue), with streams that begin anew. The unit
 *  keeps what it has loaded. */
void qd_unit_wait(qd_unit *u, uint64_t cycles);
/** What it took until the unit is idle again. More commands may be given then: they go on as if this had not been
 *  asked. */
qd_unit_report qd_unit_report_of(const qd_unit *u);

/** Opens, gives `n` commands, reports, closes. */
qd_status qd_unit_cycles(const qd_unit_shape *shape, const qd_unit_command *commands, size_t n,
                         const qd_unit_streams *streams, qd_unit_report *report);

/* ---- Products of any size ----------------------------------------------------------------------------------- */

/** y[m][n] = Σ_k w[n][k] · x[m][k], as the device rtl cuts it (host/rtl/product.c). */
typedef struct qd_unit_product {
    int64_t m, n, k;
    int w_bits;   /* 8 or 4 */
    int64_t part; /* 0: one result. Else sums of so many codes each, a multiple of the lanes: block formats */
} qd_unit_product;

/** Gives the commands of a product. Errors: those of qd_unit_give; QD_ERR_ARGUMENT: a size below 1, other bits. `each`
 *  (may be NULL) is called after each command. */
qd_status qd_unit_give_product(qd_unit *u, const qd_unit_product *p,
                               void (*each)(void *user, const qd_unit_command *c, const qd_unit_times *t), void *user);

#endif
