/* How coded rows are laid out: what the codecs, the reference and the rules of the operators share. */
#ifndef QDOT_FORMATS_CODING_H
#define QDOT_FORMATS_CODING_H

#include "qdot/qdot.h"
#include "qdot/qdot_params.h"

/** The layout of an n × k matrix: all members of *out but first, count (all rows), a8 and addend (absent).
 *  QD_ERR_ARGUMENT: the coding is none, or does not suit k. */
qd_status qd_coding_layout(const qd_coding *c, int64_t n, int64_t k, qd_coded_params *out);

/** The table of a coding that has a fixed one: 2^bits values; false for the others, whose tables are learned. */
bool qd_coding_table(const qd_coding *c, float *values);

#endif
