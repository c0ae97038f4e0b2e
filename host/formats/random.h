/* Numbers that look random, and are the same on every machine. */
#ifndef QDOT_FORMATS_RANDOM_H
#define QDOT_FORMATS_RANDOM_H

#include <stdint.h>

/** From 0 to 1, without 1: a multiple of 2^-53. Any state is a good one. Source: Steele et al., Fast Splittable
 *  Pseudorandom Number Generators (2014). */
static inline double qd_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

#endif
