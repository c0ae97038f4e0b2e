/* Coded rows, element by element: what the codecs and the reference share. The layout is in qdot_params.h. */
#ifndef QDOT_FORMATS_CODING_H
#define QDOT_FORMATS_CODING_H

#include "qdot/qdot.h"
#include "qdot/qdot_params.h"

/** The layout of an n × k matrix: all members of *out but first, count (all rows), a8 and addend (absent).
 *  QD_ERR_ARGUMENT: the coding is none, or does not suit k. */
qd_status qd_coding_layout(const qd_coding *c, int64_t n, int64_t k, qd_coded_params *out);

/** One row of a coded matrix. */
typedef struct qd_coded_row {
    const qd_coded_params *p;
    const uint8_t *bytes;
    const float *side;
    int64_t index; /* in the matrix */
} qd_coded_row;

/** Code i; of PRODUCT, that of vector i. */
int32_t qd_coded_code(const qd_coded_row *r, int64_t i);
/** Scale and zero point of group g. */
float qd_coded_scale(const qd_coded_row *r, int64_t g);
int32_t qd_coded_zero(const qd_coded_row *r, int64_t g);
/** What code stands for, before the scale: element `i` of PRODUCT's vector in its place, else i counts for nothing. */
float qd_coded_value(const qd_coded_row *r, int32_t code, int64_t i);
/** Writes codes first … first + n - 1 of `bits` bits, of which the lower ones count; their neighbours stay. */
void qd_coded_put(uint8_t *packed, int64_t first, const uint8_t *codes, int64_t n, int bits);
/** Weights 0 … k-1. */
void qd_coded_values(const qd_coded_row *r, float *out);

#endif
