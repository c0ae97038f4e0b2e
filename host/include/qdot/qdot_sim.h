/* The board model: what a design on an FPGA board takes, and how far that is from published measurements. */
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

#ifdef __cplusplus
}
#endif

#endif
