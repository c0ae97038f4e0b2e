/* What the files of the board model share: boards, parameters, rows of measurements, and the predictors of each kind.
 */
#ifndef QDOT_SIM_SIM_H
#define QDOT_SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>

#include "qdot/qdot_sim.h"

/* ---- Parameters --------------------------------------------------------------------------------------------- */

/** The fitted numbers, in the units of params.def. */
typedef struct qd_sim_params {
#define QD_SIM_PARAM(name, start, value, unit, what) double name;
#include "sim/params.def"
#undef QD_SIM_PARAM
} qd_sim_params;

enum { QD_SIM_PARAMS = sizeof(qd_sim_params) / sizeof(double) };

typedef struct qd_sim_param_info {
    const char *name;
    double start, value;
    const char *unit, *what;
} qd_sim_param_info;

extern const qd_sim_param_info qd_sim_param_table[QD_SIM_PARAMS];
/** Parameter `i` of the table. */
double *qd_sim_param(qd_sim_params *p, int i);
qd_sim_params qd_sim_params_start(void), qd_sim_params_value(void);

/* ---- Boards ------------------------------------------------------------------------------------------------- */

typedef enum qd_sim_memory { QD_SIM_DDR, QD_SIM_HBM } qd_sim_memory;
typedef enum qd_sim_family { QD_SIM_ECP5, QD_SIM_XC7, QD_SIM_XCUP, QD_SIM_STRATIX10 } qd_sim_family;

/** A row of boards.def. */
typedef struct qd_sim_board {
    const char *name;
    qd_sim_family family;
    double clock_mhz;
    int rows, cols, lanes;
    int luts, dsps, brams; /* brams: blocks of 36 Kbit (Xilinx), 18 Kbit (ECP5), 20 Kbit (Intel) */
    qd_sim_memory memory;
    int channels;
    double channel_gbps;
    int port_bits, ports, burst, outstanding;
    double latency_ns, pcie_gbps, watts;
} qd_sim_board;

/** The board of that name, in any case of letters and with or without its maker ("U250" is Alveo-U250), or NULL. */
const qd_sim_board *qd_sim_board_find(const char *name);
/** Board `i`, or NULL after the last. */
const qd_sim_board *qd_sim_board_at(int i);
/** QD_OK, or QD_ERR_ARGUMENT with a message that names the limit which a board's numbers break. */
qd_status qd_sim_board_check(const qd_sim_board *b);

/* ---- Rows --------------------------------------------------------------------------------------------------- */

enum { QD_SIM_COLUMNS = 11 };
typedef enum qd_sim_column {
    QD_SIM_ID,
    QD_SIM_SOURCE,
    QD_SIM_DEVICE,
    QD_SIM_CLOCK,
    QD_SIM_KIND,
    QD_SIM_DTYPE,
    QD_SIM_SHAPE,
    QD_SIM_CONFIG,
    QD_SIM_METRIC,
    QD_SIM_VALUE,
    QD_SIM_NOTE
} qd_sim_column;

/** A measurement. Texts point into the file's buffer. */
typedef struct qd_sim_case {
    const char *text[QD_SIM_COLUMNS];
    double clock; /* Hz; 0: not stated */
    double value;
    int line;
} qd_sim_case;

/** Reads a CSV file: RFC 4180 quotes, a header line with the columns' names in any order. Changes `text`, into which
 * the rows point and which has room for a byte more; *cases is to be freed with free(). A damaged file gives
 * QD_ERR_FILE and "NAME:LINE: …". */
qd_status qd_sim_read(const char *name, char *text, size_t size, qd_sim_case **cases, int *count);

/** Number of `key` in a list "a=1;b=2", or `otherwise` when it is absent or no number. */
double qd_sim_number(const char *list, const char *key, double otherwise);
/** Copies the text of `key` to `out` and returns true, or writes "" and returns false. */
bool qd_sim_text(const char *list, const char *key, char *out, size_t size);
/** Whether the list has `key=value`. */
bool qd_sim_is(const char *list, const char *key, const char *value);
/** Numbers of "a;b;c", "a,b", "axb" or "x=a;y=b", each at least 1; returns how many were read, at most `most`, or 0
 * when something is no such number. */
int qd_sim_numbers(const char *text, char separator, double *out, int most);
/** Bytes of an element of "fp32", "int8", "w4", …, or 0 for an unknown type. */
double qd_sim_element(const char *dtype);

/* ---- Memory ------------------------------------------------------------------------------------------------- */

/** A port of a kernel to a memory channel. */
typedef struct qd_sim_port {
    double clock;       /* Hz */
    double width;       /* bytes a cycle */
    double burst;       /* beats */
    double outstanding; /* bursts */
    double latency;     /* seconds */
    double gap;         /* cycles between bursts */
    double channel;     /* bytes/s that the channel gives */
    bool stores;        /* a burst is stored whole before it is sent */
} qd_sim_port;

/** Bytes/s in the steady state: the least of what the port, the requests under way (Little's law) and the channel
 * allow. */
double qd_sim_port_rate(const qd_sim_port *p);
/** Seconds from a port's read request to its first data: the board's own where it is known. */
double qd_sim_read_latency(const qd_sim_board *b, const qd_sim_params *p);
/** Bytes/s of a board's memory channel. */
double qd_sim_channel_rate(const qd_sim_board *b, const qd_sim_params *p);

/* ---- Predictors --------------------------------------------------------------------------------------------- */

/** What is known where a row is predicted. */
typedef struct qd_sim_ask {
    const qd_sim_case *row;
    const qd_sim_board *board;
    const qd_sim_params *p;
    char *reason; /* QD_SIM_REASON bytes */
} qd_sim_ask;

enum { QD_SIM_REASON = 200 };

/** A predicted run. */
typedef struct qd_sim_time {
    double seconds;
    double bytes; /* that the row's rate counts; 0 where none is */
} qd_sim_time;

/** Writes the reason and returns false. */
bool qd_sim_cannot(const qd_sim_ask *a, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Each gives the time, or false with a reason why the model cannot express the row. */
bool qd_sim_axi(const qd_sim_ask *a, qd_sim_time *out);
bool qd_sim_hbm(const qd_sim_ask *a, qd_sim_time *out);
bool qd_sim_pcie(const qd_sim_ask *a, qd_sim_time *out);
bool qd_sim_gemm(const qd_sim_ask *a, qd_sim_time *out);
bool qd_sim_gemv(const qd_sim_ask *a, qd_sim_time *out);
bool qd_sim_conv(const qd_sim_ask *a, qd_sim_time *out);
bool qd_sim_network(const qd_sim_ask *a, qd_sim_time *out);

/** Seconds that a DMA engine takes to bring bytes in `buffers` buffers to the card, or from it. */
double qd_sim_dma(const qd_sim_ask *a, double bytes, double buffers, bool to_card);

/** Predicts the row's value in its own metric; false with a reason in `reason` where the model cannot. */
bool qd_sim_predict(const qd_sim_case *row, const qd_sim_params *p, double *value, char reason[QD_SIM_REASON]);

/** Fits the parameters to the rows whose keep[i] is true, from their start values. */
qd_sim_params qd_sim_fit_rows(const qd_sim_case *rows, const bool *keep, int count);

/* ---- Networks ----------------------------------------------------------------------------------------------- */

typedef enum qd_sim_layer_kind {
    QD_SIM_CONV,  /* and matrix products: 1 x 1 */
    QD_SIM_DEPTH, /* a window for every channel by itself */
    QD_SIM_POOL,
    QD_SIM_ADD /* the sum of two equal images */
} qd_sim_layer_kind;

/** A layer of a network. */
typedef struct qd_sim_layer {
    qd_sim_layer_kind kind;
    int out, in_channels, channels; /* out x out x channels is its output */
    int kernel_h, kernel_w, stride;
    int times; /* this layer so many times */
} qd_sim_layer;

typedef struct qd_sim_network_info {
    const char *name;
    int input; /* input x input x 3 */
    const qd_sim_layer *layers;
    int count;
} qd_sim_network_info;

/** Multiply-accumulates of a layer, once. */
double qd_sim_layer_macs(const qd_sim_layer *l);
/** The network of that name, or NULL. */
const qd_sim_network_info *qd_sim_network_find(const char *name);

#endif
