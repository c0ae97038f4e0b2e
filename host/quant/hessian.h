/* Hessians of the squared error of a matrix's outputs: packed upper triangles, see qdot_methods.h. */
#ifndef QDOT_QUANT_HESSIAN_H
#define QDOT_QUANT_HESSIAN_H

#include "qdot/qdot.h"

/** The factor of the inverse that GPTQ goes by: u, n × n and upper triangular, with uᵀ·u = (H + damping · I)⁻¹, where
 *  rows and columns are taken in an order (of the columns, n numbers), and the damping is in units of H's mean
 * diagonal. Diagonal elements that are 0 count as 1. The lower triangle of u is not written. QD_ERR_ARGUMENT: H is not
 * finite, or is singular still. */
qd_status qd_hessian_factor(const double *hessian, int64_t n, const int64_t *order, double damping, float *u);

/** Element (i, j) of a packed Hessian. */
static inline double qd_hessian_at(const double *hessian, int64_t n, int64_t i, int64_t j) {
    const int64_t a = i < j ? i : j, b = i < j ? j : i;
    return hessian[a * n - a * (a - 1) / 2 + (b - a)];
}

#endif
