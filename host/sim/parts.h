/* The parts of the device sim:BOARD: values by the functions of hls/, and what an operator is as work for a board. */
#ifndef QDOT_SIM_PARTS_H
#define QDOT_SIM_PARTS_H

#include "qdot/qdot_backend.h"
#include "ref/host.h"
#include "sim/log.h"

/** Name of the function of hls/ that computes a node, with "_hls"; NULL: there is none, the reference does. */
const char *sim_function(const qd_node *n);
/** Computes a node that has one. Operands as qd_host_take makes them with `beats`. */
void sim_compute(const qd_node *n, const qd_host_operands *o, int64_t rows);

/** A node with `rows` rows as a task for a unit with so many lanes. `h`: where positions are looked up. */
qd_status sim_task_of(qd_host *h, const qd_node *n, int64_t rows, int lanes, qd_sim_task *out);

#endif
