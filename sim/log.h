/* Work on a board: tasks one after the other, and what each takes. */
#ifndef QDOT_SIM_LOG_H
#define QDOT_SIM_LOG_H

#include "sim/sim.h"
#include "sim/unit.h"

/** A board with a design on it. */
typedef struct qd_sim_machine {
    const qd_sim_board *board;
    qd_sim_params params;
    qd_sim_design design;
} qd_sim_machine;

/** QD_OK, or QD_ERR_ARGUMENT with a message that names the limit of the unit or of the board which the design breaks.
 */
qd_status qd_sim_design_check(const qd_sim_board *b, const qd_sim_design *d);
/** Sets the beats of both streams: as wide as their ports, as far as that divides a word. */
void qd_sim_design_beats(const qd_sim_board *b, qd_sim_design *d);
/** What the design takes, by the formulas of resources.c. */
qd_sim_resources qd_sim_resources_of(const qd_sim_board *b, const qd_sim_design *d);
/** As qd_sim_design_of. */
qd_status qd_sim_machine_open(const char *board, const char *changes, qd_sim_machine *out);
/** Ports to a channel that a stream has: w those that the others, of which each has one, leave. */
static inline int qd_sim_ports(const qd_sim_board *b, bool is_w) {
    return is_w && b->ports > 3 ? b->ports - 2 : 1;
}
qd_unit_shape qd_sim_unit_shape(const qd_sim_design *d);

/** Fills all of *out but `start`. Errors: those of qd_unit_give_product. */
qd_status qd_sim_task_run(const qd_sim_machine *m, const qd_sim_task *t, qd_sim_step *out);
/** Whether both take the same: everything but the name. */
bool qd_sim_task_same(const qd_sim_task *a, const qd_sim_task *b);

/** Steps in order. Equal tasks are run once. */
typedef struct qd_sim_log qd_sim_log;
qd_status qd_sim_log_open(const qd_sim_machine *m, qd_sim_log **out);
/** NULL is legal. */
void qd_sim_log_close(qd_sim_log *l);
/** Adds a task; its step is *added (valid until the next call; may be NULL). Of more than 65536 only the time is
 *  known. */
qd_status qd_sim_log_add(qd_sim_log *l, const qd_sim_task *t, const qd_sim_step **added);
/** Adds what a call of the host costs, where the board is behind PCIe: the host waits for the work so far. */
qd_status qd_sim_log_call(qd_sim_log *l);
void qd_sim_log_clear(qd_sim_log *l);
/** Of all tasks since it was opened or cleared. */
double qd_sim_log_seconds(const qd_sim_log *l);
const qd_sim_machine *qd_sim_log_machine(const qd_sim_log *l);
/** A copy of what there is, to be freed with qd_sim_report_free. */
qd_status qd_sim_log_report(const qd_sim_log *l, qd_sim_report **out);

#endif
