/* What the tests here share: rows written as text, and the copy of the measurements. */
#ifndef QDOT_TESTS_SIM_MODEL_H
#define QDOT_TESTS_SIM_MODEL_H

#include "sim/sim.h"

#define HEADER "id,source,device,clock_mhz,kind,dtype,shape,config,metric,value,unit_note\n"
#define MEASUREMENTS "tests/sim/data/fpga_calibration.csv"

/** A row's prediction with parameters `p`, or 0 with the reason in model_reason. `columns`:
 * "DEVICE,MHZ,KIND,DTYPE,SHAPE,CONFIG,METRIC". */
double model_of(const char *columns, const qd_sim_params *p);
extern char model_reason[QD_SIM_REASON];

/** Round numbers, unlike the model's own, from which results are worked out by hand. */
qd_sim_params model_round(void);

/** The rows of MEASUREMENTS; free both with free(). Ends the test when it cannot be read. */
int model_rows(qd_sim_case **rows, char **text);
/** A file's contents, with room for a byte more. */
char *model_file(const char *path, size_t *size);

#endif
