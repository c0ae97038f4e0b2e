/* The board model: what a design on an FPGA board takes, and how far that is from published measurements; what the unit
 * of hls/rtl takes on a board for a plan or a network; which shapes of it suit a board best. */
#ifndef QDOT_SIM_H
#define QDOT_SIM_H

#include "qdot/qdot.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A measurement beside the model's answer. Texts live as long as the calibration. */
typedef struct qd_sim_row {
    const char *id, *source, *device, *kind, *metric;
    double measured, predicted; /* in the row's metric; predicted is 0 where there is none */
    double error;               /* |predicted / measured - 1| */
    const char *reason;         /* why the model cannot express the row; NULL: it can */
} qd_sim_row;

/** Median, ninth decile (nearest rank) and maximum are over the rows that the model can express. */
typedef struct qd_sim_calibration {
    double median, p90, most;
    int rows, predicted;
    const qd_sim_row *row;
} qd_sim_calibration;

/** A fitted parameter. */
typedef struct qd_sim_parameter {
    const char *name, *unit, *what;
    double start, value; /* before and after the fit */
} qd_sim_parameter;

/** With which parameters a row is predicted. */
typedef enum qd_sim_parameters {
    QD_SIM_PUBLISHED,      /* those of sim/params.def */
    QD_SIM_WITHOUT_SOURCE, /* fitted to the rows of all other sources */
    QD_SIM_WITHOUT_DEVICE, /* fitted to the rows of all other devices */
    QD_SIM_WITHOUT_FIFTH,  /* fitted to four fifths of the rows, without the fifth that it is in (every fifth row) */
    QD_SIM_UNFITTED        /* the start values */
} qd_sim_parameters;

/** Compares the model with a file of measurements.
 *  name: the file's name, for messages; text, size: its contents (columns id, source, device, clock_mhz, kind, dtype,
 * shape, config, metric, value, unit_note). *out is to be freed with qd_sim_calibration_free. QD_ERR_FILE: the file is
 * no such table; the message names the line. */
QD_API qd_status qd_sim_calibrate(const char *name, const char *text, size_t size, qd_sim_parameters with,
                                  qd_sim_calibration **out);
QD_API void qd_sim_calibration_free(qd_sim_calibration *c);

/** Fits the parameters to a file of measurements: least mean |ln(predicted / measured)|, with the start values as
 * further evidence. `most` entries fit into `out`; *count is how many there are. */
QD_API qd_status qd_sim_fit(const char *name, const char *text, size_t size, qd_sim_parameter *out, int most,
                            int *count);

/** Name of board `i` of sim/boards.def; NULL after the last. */
QD_API const char *qd_sim_board_name(int i);
/** All their names, "A, B, C". */
QD_API const char *qd_sim_board_names(void);
/** Name of network `i` of sim/networks.c; NULL after the last. */
QD_API const char *qd_sim_network_name(int i);

/* ---- The unit on a board ------------------------------------------------------------------------------------ */

/** Parameters of hls/rtl/qd_matmul.v (its names in lower case), and the clock. */
typedef struct qd_sim_design {
    double clock_mhz;
    int rows, cols, lanes;    /* products a cycle; twice as many of INT4 */
    int quants;               /* results a cycle */
    int pack;                 /* 1: two INT4 products in a multiplier */
    int w_bytes, x_bytes;     /* of a beat of the streams of weights and of columns */
    int w_address, x_address; /* log2 of the words in each bank of weights, of columns */
} qd_sim_design;

/** What a design takes of a device, and what the device has. */
typedef struct qd_sim_resources {
    int64_t luts, dsps, brams;
    int64_t has_luts, has_dsps, has_brams;
} qd_sim_resources;

/** The design that boards.def names for a board, or the part "KEY=VALUE,…" of it replaced (NULL: nothing). Errors:
 *  QD_ERR_NO_DEVICE: an unknown board (the message names those that there are); QD_ERR_ARGUMENT: an unknown key, or a
 *  design that the unit or the board cannot have; the message names the limit. `resources` may be NULL. */
QD_API qd_status qd_sim_design_of(const char *board, const char *changes, qd_sim_design *out,
                                  qd_sim_resources *resources);

/** What a cycle was spent on: QD_SIM_CAUSE(ID, name, what). */
#define QD_SIM_CAUSE_LIST(QD_SIM_CAUSE)                                                  \
    QD_SIM_CAUSE(WORK, "work", "the array takes a word")                                 \
    QD_SIM_CAUSE(WEIGHTS, "weights", "waiting for weights")                              \
    QD_SIM_CAUSE(COLUMNS, "columns", "waiting for columns of x")                         \
    QD_SIM_CAUSE(CHANNELS, "channels", "waiting for bias and scales; a command starts")  \
    QD_SIM_CAUSE(DRAIN, "drain", "results leave more slowly than sums come")             \
    QD_SIM_CAUSE(RESULTS, "results", "the memory does not take the results fast enough") \
    QD_SIM_CAUSE(QUEUE, "queue", "waiting for a command")                                \
    QD_SIM_CAUSE(TAIL, "tail", "the last results are under way")                         \
    QD_SIM_CAUSE(VECTOR, "vector", "the vector unit works")                              \
    QD_SIM_CAUSE(MEMORY, "memory", "the vector unit waits for memory")                   \
    QD_SIM_CAUSE(LAUNCH, "launch", "from the host's call to the start, and back")
typedef enum qd_sim_cause {
#define QD_SIM_CAUSE(ID, name, what) QD_SIM_CAUSE_##ID,
    QD_SIM_CAUSE_LIST(QD_SIM_CAUSE)
#undef QD_SIM_CAUSE
        QD_SIM_CAUSES
} qd_sim_cause;
QD_API const char *qd_sim_cause_name(qd_sim_cause c);
QD_API const char *qd_sim_cause_text(qd_sim_cause c);

/** Bytes between memory and: */
typedef enum qd_sim_traffic {
    QD_SIM_BYTES_W,
    QD_SIM_BYTES_X,
    QD_SIM_BYTES_C,
    QD_SIM_BYTES_Y,
    QD_SIM_TRAFFIC
} qd_sim_traffic;
QD_API const char *qd_sim_traffic_name(qd_sim_traffic t);

typedef enum qd_sim_place {
    QD_SIM_UNIT,   /* the unit of hls/rtl */
    QD_SIM_VECTOR, /* other operators: a beat of a memory port in a cycle */
    QD_SIM_HOST    /* the call itself */
} qd_sim_place;

/** Work for a board. Of the unit: `times` products y[m][n] = Σ_k w[n][k] · x[m][k]. */
typedef struct qd_sim_task {
    char name[64];
    qd_sim_place place;
    int64_t n, m, k, times;
    int w_bits;           /* 8 or 4 */
    int64_t part;         /* 0; else codes of a block: a sum for each */
    double w_memory;      /* bytes in memory of a byte of the stream w: more than 1 where blocks have scales */
    double x_memory;      /* bytes in memory of a code of x */
    double y_memory;      /* bytes in memory of a result */
    int64_t run;          /* bytes of x that lie side by side in memory; 0: any number */
    double macs;          /* products of the operator, of all places */
    double reads, writes; /* VECTOR: bytes */
    double elements;      /* VECTOR: operations, at least */
    int element_bits;     /* VECTOR: of its first operand; 0: 32 */
} qd_sim_task;

/** A task as it ran. */
typedef struct qd_sim_step {
    qd_sim_task task;
    uint64_t start, cycles;        /* cycles before it; of it */
    uint64_t cause[QD_SIM_CAUSES]; /* their sum is `cycles` */
    uint64_t bytes[QD_SIM_TRAFFIC];
    uint64_t products; /* that the array could have made in its cycles of work */
} qd_sim_step;

enum { QD_SIM_MOST_CHANNELS = 64 };

typedef struct qd_sim_report {
    const char *board;
    qd_sim_design design;
    qd_sim_resources resources;
    bool wide_multipliers;            /* of 27 bits or more: two int8 products fit one (hls/pack.h) */
    double peak_macs, peak_macs_int4; /* of the array, a second */
    double memory_rate;               /* bytes/s of all channels, as the model has them */
    int channels;
    uint64_t channel_bytes[QD_SIM_MOST_CHANNELS]; /* their sum is that of `bytes` */
    uint64_t cycles, cause[QD_SIM_CAUSES], bytes[QD_SIM_TRAFFIC];
    double macs, unit_macs; /* all; on the unit */
    double utilization; /* unit_macs of what the array could have made in all cycles, at the precision of each task */
    double seconds;
    double joules_least; /* arithmetic and memory alone, by published energies of their technologies */
    double joules_most;  /* the board's greatest power for as long */
    int runs;            /* calls: tokens, frames */
    int count;
    qd_sim_step *step;
} qd_sim_report;

/** The report of a network of sim/networks.c, one image. `changes` as in qd_sim_design_of. *out is to be freed with
 *  qd_sim_report_free. Errors: those of qd_sim_design_of; QD_ERR_ARGUMENT: an unknown network. */
QD_API qd_status qd_sim_report_network(const char *board, const char *changes, const char *network,
                                       qd_sim_report **out);
/** The report of what ran on a device "sim:…" since it was opened, or since qd_context_profile_reset. */
QD_API qd_status qd_sim_report_device(qd_context *c, qd_sim_report **out);
QD_API void qd_sim_report_free(qd_sim_report *r);
/** Seconds that a device "sim:…" has worked, by its model. QD_ERR_UNSUPPORTED: another device. */
QD_API qd_status qd_sim_seconds(qd_context *c, double *out);

/* ---- Design search ------------------------------------------------------------------------------------------ */

typedef struct qd_sim_candidate {
    qd_sim_design design;
    qd_sim_resources resources;
    double share;   /* of the board's scarcest resource: the largest of the three shares */
    double seconds; /* for the work */
    bool front;     /* nothing that takes as little is faster */
} qd_sim_candidate;

typedef struct qd_sim_search {
    const char *board;
    int64_t considered, refused; /* shapes; those that break a limit of the unit or of the board */
    int count, best;             /* the fastest, and among equals the smallest */
    qd_sim_candidate *candidate; /* those that the cycle model was asked for, by share */
} qd_sim_search;

/** Finds shapes of the unit for the work of a report, on the report's board. *out is to be freed with
 *  qd_sim_search_free. `progress` (may be NULL) is called by the caller's thread and returns false to stop, which gives
 *  QD_ERR_CANCELLED. QD_ERR_ARGUMENT: the report has nothing for the unit. */
QD_API qd_status qd_sim_search_run(const qd_sim_report *work, bool (*progress)(void *user, int done, int total),
                                   void *user, qd_sim_search **out);
QD_API void qd_sim_search_free(qd_sim_search *s);

#ifdef __cplusplus
}
#endif

#endif
