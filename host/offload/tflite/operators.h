/* The functions that operators.def names: each checks b->node and translates it, or sets b->why and returns false. */
#ifndef QDOT_TFLITE_OPERATORS_H
#define QDOT_TFLITE_OPERATORS_H

#include "tflite.h"

#define TFL_OPERATOR(ID, name, version, params, moves, function) bool function(tfl_build *b);
#include "operators.def"

/** Refuses an x and a y of which elements cannot just be moved: of other types, or codes that mean something else. */
bool tfl_same_meaning(tfl_build *b, const tfl_operand *x, const tfl_operand *y);
/** QUANTIZE from codes to codes. */
bool tfl_requantize(tfl_build *b);

#endif
