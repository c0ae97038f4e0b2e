/* Numbers that random problems are made from: each is drawn from the seed and its own name, and can be fixed instead.
 */
#ifndef QDOT_CORE_CHOICES_H
#define QDOT_CORE_CHOICES_H

#include "qdot/qdot_backend.h"

/** Draws a number between low and high (both included) and remembers it. A name that was drawn before gives the same
 *  number. The low end is the simple one: shrinking moves towards it. */
int64_t qd_choose(qd_choices *c, const char *name, int64_t low, int64_t high);
/** A size between 1 and high: one time in four 1, one in four a multiple of 16, or beside one, where there is room; else
 *  any. */
int64_t qd_choose_size(qd_choices *c, const char *name, int64_t high);
/** A stream of random numbers of its own, for the values of an operand. */
uint64_t qd_stream(const qd_choices *c, const char *name);
/** Next number of a stream. */
uint64_t qd_next_random(uint64_t *stream);
int64_t qd_between(uint64_t *stream, int64_t low, int64_t high);

#endif
