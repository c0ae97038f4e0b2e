/* The functions that operators.def names: each checks b->node and translates it, or sets b->why and returns false. */
#ifndef QDOT_TFLITE_OPERATORS_H
#define QDOT_TFLITE_OPERATORS_H

#include "tflite.h"

#define TFL_OPERATOR(ID, name, version, params, kind, function) bool function(tfl_build *b);
#include "operators.def"

/** Refuses an x and a y of which elements cannot just be moved: of other types, or codes that mean something else. */
bool tfl_same_meaning(tfl_build *b, const tfl_operand *x, const tfl_operand *y);
/** Elements in another order: element [i, j, …] of the result is element offset + i · steps[0] + j · steps[1] + … of x.
 */
typedef struct tfl_order {
    tfl_shape shape; /* as many dimensions as steps, at most QD_MAX_RANK */
    int64_t offset, steps[QD_MAX_RANK];
} tfl_order;
/** Copies x in that order to y, which has the order's shape. x, no constant, has memory of its own: the operator's row
 * says TFL_WINDOWS. */
bool tfl_reorder(tfl_build *b, tfl_operand *x, const tfl_order *o, qd_tensor *y);
/** QUANTIZE from codes to codes. */
bool tfl_requantize(tfl_build *b);

#endif
