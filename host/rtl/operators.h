/* The operators that the unit of hls/rtl computes; all others are the reference's. */
#ifndef QDOT_RTL_OPERATORS_H
#define QDOT_RTL_OPERATORS_H

#include "qdot/qdot_backend.h"
#include "rtl/board.h"

/** QD_OK when rtl_compute can run the node on this unit, else QD_ERR_UNSUPPORTED with the reason. */
qd_status rtl_takes(const rtl_shape *s, const qd_node *n);
/** The same of MATMUL. */
qd_status rtl_takes_blocks(const rtl_shape *s, const qd_node *n);

/** Computes `rows` rows of a node that was taken, on host operands. */
qd_status rtl_compute(rtl_board *b, const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows);
qd_status rtl_compute_blocks(rtl_board *b, const qd_node *n, const qd_operand in[], const qd_operand out[],
                             int64_t rows);

#endif
