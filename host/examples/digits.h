/* Images of digits, drawn: data for the examples. */
#ifndef QDOT_EXAMPLES_DIGITS_H
#define QDOT_EXAMPLES_DIGITS_H

#include <stddef.h>

enum { DIGIT_SIDE = 12, DIGIT_PIXELS = DIGIT_SIDE * DIGIT_SIDE };

/** Draws `count` images of DIGIT_PIXELS values from 0 to 1, and says which digit each one is. The same seed gives the
 *  same images. */
void digits_draw(unsigned seed, int count, float *images, int *labels);

#endif
