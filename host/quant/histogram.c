#include "quant/histogram.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"

/* A bin's number stays far within 2^53: widths are at least this part of the largest magnitude. */
#define LEAST_WIDTH_BITS 40

qd_status qd_histogram_init(qd_histogram *h, int bins) {
    *h = (qd_histogram){.bins = bins};
    h->count = qd_alloc_zero((size_t)bins, sizeof *h->count);
    return h->count ? QD_OK : QD_ERR_MEMORY;
}

void qd_histogram_release(qd_histogram *h) {
    free(h->count);
}

static int64_t bin_of(const qd_histogram *h, double x) {
    return (int64_t)floor(x / h->width);
}

/* Two bins become one. */
static void widen(qd_histogram *h) {
    const int64_t first = h->first >> 1; /* rounds down */
    for (int i = 0; i < h->bins; i++) {
        const int64_t to = ((h->first + i) >> 1) - first;
        const double moved = h->count[i];
        h->count[i] = 0;
        h->count[to] += moved;
    }
    h->first = first;
    h->width *= 2;
}

/* The highest bin with a count, counted from the first. */
static int last_used(const qd_histogram *h) {
    int last = h->bins - 1;
    while (last > 0 && h->count[last] == 0)
        last--;
    return last;
}

/* Makes room for values from min to max. */
static void make_room(qd_histogram *h, double min, double max) {
    if (h->total == 0) {
        const double largest = fmax(fabs(min), fabs(max)), span = (max - min) / (h->bins - 1);
        const int by_size = largest > 0 ? ilogb(largest) - LEAST_WIDTH_BITS : -LEAST_WIDTH_BITS;
        const int by_span = span > 0 ? ilogb(span) : by_size;
        h->width = ldexp(1, by_span > by_size ? by_span : by_size);
        h->first = bin_of(h, min);
    }
    while (fmax(fabs(min), fabs(max)) / h->width > ldexp(1, LEAST_WIDTH_BITS + 2))
        widen(h);
    int64_t low, high;
    for (;; widen(h)) {
        low = bin_of(h, min);
        high = bin_of(h, max);
        if (h->total > 0) {
            low = low < h->first ? low : h->first;
            high = high > h->first + last_used(h) ? high : h->first + last_used(h);
        }
        if (high - low < h->bins) break;
    }
    const int64_t shift = h->first - low;
    if (shift > 0 && h->total > 0) {
        memmove(h->count + shift, h->count, (size_t)(h->bins - shift) * sizeof *h->count);
        memset(h->count, 0, (size_t)shift * sizeof *h->count);
    }
    h->first = low;
}

void qd_histogram_add(qd_histogram *h, const float *x, int64_t n, float min, float max) {
    if (n < 1) return;
    make_room(h, (double)min, (double)max);
    for (int64_t i = 0; i < n; i++)
        h->count[bin_of(h, (double)x[i]) - h->first]++;
    h->total += (double)n;
}

double qd_histogram_quantile(const qd_histogram *h, double part) {
    double left = part * h->total;
    int i = 0;
    for (; i + 1 < h->bins && (left > h->count[i] || h->count[i] == 0); i++)
        left -= h->count[i];
    const double within = h->count[i] > 0 ? fmin(left / h->count[i], 1) : 0;
    return ((double)(h->first + i) + within) * h->width;
}

/* Integral of the squared error from 0 to u, in steps of the scale, when codes low … high are there: every whole step
 * has 1/12, and around a code the error grows with the distance. */
static double error_up_to(double u, double low, double high) {
    const double rounded = rint(u), k = rounded < low ? low : rounded > high ? high : rounded;
    return k / 12 + (u - k) * (u - k) * (u - k) / 3;
}

double qd_histogram_error(const qd_histogram *h, const qd_code_range *codes, double scale, int32_t zero_point) {
    const double low = codes->qmin - zero_point, high = codes->qmax - zero_point, step = h->width / scale;
    double sum = 0;
    for (int i = 0; i < h->bins; i++) {
        if (h->count[i] == 0) continue;
        const double u = (double)(h->first + i) * step;
        sum += h->count[i] * (error_up_to(u + step, low, high) - error_up_to(u, low, high)) / step;
    }
    return sum * scale * scale / h->total;
}

/* The code of a bin's middle, before it is limited. */
static double code_of(const qd_histogram *h, int i, double scale, int32_t zero_point) {
    return rint(((double)(h->first + i) + 0.5) * h->width / scale) + zero_point;
}

double qd_histogram_divergence(const qd_histogram *h, const qd_code_range *codes, double scale, int32_t zero_point) {
    int low = 0, high = h->bins - 1;
    while (low < high && code_of(h, low, scale, zero_point) < codes->qmin)
        low++;
    while (high > low && code_of(h, high, scale, zero_point) > codes->qmax)
        high--;
    double below = 0, above = 0, inside = 0, sum = 0;
    for (int i = 0; i < h->bins; i++)
        *(i < low ? &below : i > high ? &above : &inside) += h->count[i];
    if (inside == 0) return INFINITY;
    for (int i = low, end; i <= high; i = end) {
        const double code = code_of(h, i, scale, zero_point);
        double mass = 0;
        int used = 0;
        for (end = i; end <= high && code_of(h, end, scale, zero_point) == code; end++) {
            mass += h->count[end];
            used += h->count[end] > 0;
        }
        for (int k = i; k < end; k++) {
            const double p = (h->count[k] + (k == low ? below : 0) + (k == high ? above : 0)) / h->total;
            if (p == 0) continue;
            if (h->count[k] == 0) return INFINITY;
            sum += p * log(p / (mass / used / inside));
        }
    }
    return sum > 0 ? sum : 0; /* rounding */
}
