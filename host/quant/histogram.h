/* Counts of values in bins that widen with them. */
#ifndef QDOT_QUANT_HISTOGRAM_H
#define QDOT_QUANT_HISTOGRAM_H

#include "qdot/qdot_quant.h"

/** Bin i counts the values in [(first + i) · width, (first + i + 1) · width); width is a power of two. */
typedef struct qd_histogram {
    int bins;
    double width;
    int64_t first;
    double *count; /* bins; owned */
    double total;
} qd_histogram;

qd_status qd_histogram_init(qd_histogram *h, int bins);
void qd_histogram_release(qd_histogram *h);
/** Counts n finite values between min and max. Cannot fail. */
void qd_histogram_add(qd_histogram *h, const float *x, int64_t n, float min, float max);

/** The value below which a part of all lies, from 0 to 1: between the ends of its bin in proportion. */
double qd_histogram_quantile(const qd_histogram *h, double part);
/** Mean squared error when values, equally likely everywhere in a bin, are given codes of this scale and zero point. */
double qd_histogram_error(const qd_histogram *h, const qd_code_range *codes, double scale, int32_t zero_point);
/** Kullback-Leibler divergence, in nats, of what the codes tell of the distribution from what it is within the range of
 *  the codes. Values beyond it count in its outermost bins; the values of a code are taken as equally likely in all of
 *  its bins that have any. Infinite when a bin that has values gets none. */
double qd_histogram_divergence(const qd_histogram *h, const qd_code_range *codes, double scale, int32_t zero_point);

#endif
