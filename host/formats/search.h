/* Scales by search: of a block's values, the scale and the codes that leave the least weighted squared error.
 *
 * Rounding to the nearest code after dividing by max / largest code is seldom the best: a somewhat smaller or larger
 * scale often fits most values better. So inverse scales around that one are tried; for the codes that each gives,
 * least squares says the best scale (and minimum), and the codes are made again. Blocks of blocks then round these
 * scales to integers, try their neighbours, and fit the scale of scales by least squares, too.
 *
 * All sums have a fixed order, so that every machine makes the same bytes. */
#ifndef QDOT_FORMATS_SEARCH_H
#define QDOT_FORMATS_SEARCH_H

#include "formats/formats.h"
#include "qdot/qdot_blocks.h"

enum { QD_SEARCH_MOST = 256, QD_SEARCH_GROUPS = 16 };

/** The values that are quantized, divided by a power of two that makes the largest magnitude 1 … 2, and how much the
 *  error of each counts. n is a multiple of 16, as all sizes here. */
typedef struct qd_search {
    float x[QD_SEARCH_MOST], weight[QD_SEARCH_MOST];
    float unit; /* what the values were divided by; 0: all are as good as zero */
    int n;
} qd_search;

/** An element counts importance · √(mean square + its square): large values, which carry most of what a product sums,
 *  more than others, but not as much as their square alone would have it. importance may be NULL: the same for all. */
void qd_search_begin(qd_search *s, const float *x, const float *importance, int n);

/** What codes stand for: low … high, or the 16 values of a table in rising order. */
typedef struct qd_levels {
    int low, high;
    const int8_t *table;
} qd_levels;

/** x ≈ scale · level over elements first … first+n-1. Returns the scale, of either sign. */
float qd_search_scale(const qd_search *s, int first, int n, qd_levels levels);

/** x ≈ scale · code + offset, codes 0 … high; `below`: the offset must not be positive. Returns the scale. */
float qd_search_affine(const qd_search *s, int first, int n, int high, bool below, float *offset);

/** Codes of the nearest values: levels, or indices into the table. */
void qd_search_codes(const qd_search *s, int first, int n, float scale, float offset, qd_levels levels, int8_t *code);

/** A scale as a half, in the unit of the caller's values; finite. *rounded: what it stands for among s->x. */
qd_u16 qd_search_half(const qd_search *s, float scale, float *rounded);

/** A block of `groups` groups, each with an integer scale in low … high: x ≈ (d · scale[g]) · level. Returns d. */
qd_u16 qd_search_scales(const qd_search *s, int groups, int low, int high, qd_levels levels, int scale[], int8_t *code);

/** Likewise with minima: x ≈ (d · scale[g]) · code - (dmin · min[g]), scales and minima 0 … most, codes 0 … high. */
void qd_search_scales_mins(const qd_search *s, int groups, int most, int high, qd_u16 *d, qd_u16 *dmin, int scale[],
                           int min[], int8_t *code);

#endif
