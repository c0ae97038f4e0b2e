#include "formats/search.h"

#include <math.h>
#include <string.h>

#include "qdot/qdot_num.h"

/* Sums are made in so many lanes, which compilers make vectors of. */
enum { LANES = 8 };

static float lanes_sum(const float v[LANES]) {
    return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}

/* Below this largest magnitude, halves that are scales are 0. */
static const float tiny = 0x1p-40f;

void qd_search_begin(qd_search *s, const float *x, const float *importance, int n) {
    float max = 0.0f, most = 0.0f, square = 0.0f;
    s->n = n;
    for (int i = 0; i < n; i++)
        max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    int exponent = 0;
    if (max >= tiny) frexpf(max, &exponent);
    s->unit = max >= tiny ? ldexpf(1.0f, exponent - 1) : 0.0f;
    for (int i = 0; i < n; i++) {
        s->x[i] = max >= tiny ? x[i] / s->unit : 0.0f;
        square += s->x[i] * s->x[i] / (float)n;
    }
    for (int i = 0; importance && i < n; i++)
        most = importance[i] > most ? importance[i] : most;
    for (int i = 0; i < n; i++)
        s->weight[i] = (most > 0.0f ? importance[i] / most : 1.0f) * sqrtf(square + s->x[i] * s->x[i]);
}

qd_u16 qd_search_half(const qd_search *s, float scale, float *rounded) {
    enum { LARGEST_HALF = 0x7bff };
    const float value = scale * s->unit;
    qd_u16 half = qd_float_to_half(value);
    if ((half & 0x7fff) > LARGEST_HALF) half = (qd_u16)((half & 0x8000) | LARGEST_HALF);
    *rounded = s->unit > 0.0f ? qd_half_to_float(half) / s->unit : 0.0f;
    return half;
}

/* ---- Levels -------------------------------------------------------------------------------------------------- */

/* The level nearest to each of some numbers. */
static inline void nearest(const float v[LANES], qd_levels l, float out[LANES]) {
    if (!l.table) {
        const float low = (float)l.low, high = (float)l.high;
        for (int j = 0; j < LANES; j++) {
            const float clamped = v[j] < low ? low : v[j] > high ? high : v[j];
            out[j] = qd_round_even(clamped);
        }
        return;
    }
    for (int j = 0; j < LANES; j++)
        out[j] = (float)l.table[0];
    for (int k = 1; k < 16; k++) {
        const float value = (float)l.table[k], middle = 0.5f * (float)(l.table[k - 1] + l.table[k]);
        for (int j = 0; j < LANES; j++)
            out[j] = v[j] > middle ? value : out[j];
    }
}

static float inverse_of(float scale) {
    const float inverse = scale != 0.0f ? 1.0f / scale : 0.0f;
    return isfinite(inverse) ? inverse : 0.0f;
}

void qd_search_codes(const qd_search *s, int first, int n, float scale, float offset, qd_levels levels, int8_t *code) {
    const float inverse = inverse_of(scale);
    for (int i = 0; i < n; i += LANES) {
        float v[LANES], level[LANES];
        for (int j = 0; j < LANES; j++)
            v[j] = (s->x[first + i + j] - offset) * inverse;
        nearest(v, levels, level);
        for (int j = 0; j < LANES; j++) {
            int value = (int)level[j];
            for (int k = 0; levels.table && k < 16; k++) {
                if (levels.table[k] == (int)level[j]) value = k;
            }
            code[i + j] = (int8_t)value;
        }
    }
}

/* Weighted squared error of x ≈ scale · level + offset with the best levels. */
static inline float error_of(const qd_search *s, int first, int n, float scale, float offset, qd_levels levels) {
    const float inverse = inverse_of(scale);
    float sum[LANES] = {0};
    for (int i = first; i < first + n; i += LANES) {
        float v[LANES], level[LANES];
        for (int j = 0; j < LANES; j++)
            v[j] = (s->x[i + j] - offset) * inverse;
        nearest(v, levels, level);
        for (int j = 0; j < LANES; j++) {
            const float e = s->x[i + j] - (scale * level[j] + offset);
            sum[j] += s->weight[i + j] * e * e;
        }
    }
    return lanes_sum(sum);
}

/* ---- One scale ----------------------------------------------------------------------------------------------- */

/* Σ weight · x · level and Σ weight · level², with the levels of an inverse scale. Their quotient is the best scale for
 * these levels; the first squared by the second is what that takes off the error. */
static inline void scale_sums(const qd_search *s, int first, int n, float inverse, qd_levels levels, float *xl,
                              float *ll) {
    float a[LANES] = {0}, b[LANES] = {0};
    for (int i = first; i < first + n; i += LANES) {
        float v[LANES], level[LANES];
        for (int j = 0; j < LANES; j++)
            v[j] = s->x[i + j] * inverse;
        nearest(v, levels, level);
        for (int j = 0; j < LANES; j++) {
            const float wl = s->weight[i + j] * level[j];
            a[j] += wl * s->x[i + j];
            b[j] += wl * level[j];
        }
    }
    *xl = lanes_sum(a);
    *ll = lanes_sum(b);
}

typedef struct found {
    float scale, gain;
} found;

static inline void try_scale(const qd_search *s, int first, int n, float inverse, qd_levels levels, found *best) {
    float xl, ll;
    scale_sums(s, first, n, inverse, levels, &xl, &ll);
    if (ll > 0.0f && xl * xl > best->gain * ll) *best = (found){xl / ll, xl * xl / ll};
}

static inline float search_scale(const qd_search *s, int first, int n, qd_levels levels) {
    enum { STEPS = 8, AGAIN = 3 };
    float extreme = s->x[first];
    for (int i = first; i < first + n; i++)
        extreme = fabsf(s->x[i]) > fabsf(extreme) ? s->x[i] : extreme;
    found best = {0.0f, 0.0f};
    if (fabsf(extreme) < tiny) return 0.0f;
    /* The value of largest magnitude near the lowest level, which has no positive counterpart; and near that. */
    const float low = levels.table ? (float)levels.table[0] : (float)levels.low, step = levels.table ? 1.0f : 0.1f;
    for (int i = -STEPS; i <= STEPS; i++) {
        const float target = low + step * (float)i;
        try_scale(s, first, n, target / extreme, levels, &best);
        try_scale(s, first, n, -target / extreme, levels, &best);
    }
    for (int i = 0; i < AGAIN; i++)
        try_scale(s, first, n, inverse_of(best.scale), levels, &best);
    return best.scale;
}

float qd_search_scale(const qd_search *s, int first, int n, qd_levels levels) {
    if (levels.table) return search_scale(s, first, n, levels);
    return search_scale(s, first, n, (qd_levels){levels.low, levels.high, NULL}); /* a copy without tables */
}

/* ---- A scale and an offset ------------------------------------------------------------------------------------ */

typedef struct line {
    float scale, offset, error;
} line;

/* The best line for the codes that a line gives; kept where its error is less. */
static inline void try_line(const qd_search *s, int first, int n, float inverse, float offset, int high, bool below,
                            line *best) {
    float w[LANES] = {0}, l[LANES] = {0}, ll[LANES] = {0}, x[LANES] = {0}, xl[LANES] = {0}, xx[LANES] = {0};
    const qd_levels levels = {0, high, NULL};
    for (int i = first; i < first + n; i += LANES) {
        float v[LANES], level[LANES];
        for (int j = 0; j < LANES; j++)
            v[j] = (s->x[i + j] - offset) * inverse;
        nearest(v, levels, level);
        for (int j = 0; j < LANES; j++) {
            const float weight = s->weight[i + j], wl = weight * level[j], wx = weight * s->x[i + j];
            w[j] += weight, l[j] += wl, ll[j] += wl * level[j];
            x[j] += wx, xl[j] += wl * s->x[i + j], xx[j] += wx * s->x[i + j];
        }
    }
    const double sw = (double)lanes_sum(w), sl = (double)lanes_sum(l), sll = (double)lanes_sum(ll);
    const double sx = (double)lanes_sum(x), sxl = (double)lanes_sum(xl), sxx = (double)lanes_sum(xx);
    const double determinant = sw * sll - sl * sl;
    double scale, shift;
    if (determinant > 0.0) {
        scale = (sw * sxl - sx * sl) / determinant;
        shift = (sll * sx - sl * sxl) / determinant;
    } else { /* all codes are equal */
        scale = 0.0;
        shift = sw > 0.0 ? sx / sw : 0.0;
    }
    if (below && shift > 0.0) {
        shift = 0.0;
        scale = sll > 0.0 ? sxl / sll : 0.0;
    }
    const double error =
        sxx + scale * (scale * sll - 2.0 * sxl) + shift * (shift * sw - 2.0 * sx) + 2.0 * scale * shift * sl;
    /* Less by more than what the sums are rounded by: of equal lines the first one stays. */
    if (scale >= 0.0 && error < (double)best->error - 1e-7 * sxx)
        *best = (line){(float)scale, (float)shift, (float)error};
}

float qd_search_affine(const qd_search *s, int first, int n, int high, bool below, float *offset) {
    enum { STEPS = 10, AGAIN = 3 };
    float min = s->x[first], max = min;
    for (int i = first; i < first + n; i++) {
        min = s->x[i] < min ? s->x[i] : min;
        max = s->x[i] > max ? s->x[i] : max;
    }
    if (below && min > 0.0f) min = 0.0f;
    line best = {0.0f, min, INFINITY};
    try_line(s, first, n, 0.0f, min, high, below, &best);
    for (int i = 0; i <= 2 * STEPS && max > min; i++) { /* from the middle on: 0, 1, -1, 2, -2 … */
        const float target = (float)high + 0.08f * (float)(i % 2 ? (i + 1) / 2 : -i / 2);
        try_line(s, first, n, target / (max - min), min, high, below, &best);
    }
    for (int i = 0; i < AGAIN; i++)
        try_line(s, first, n, inverse_of(best.scale), best.offset, high, below, &best);
    *offset = best.offset;
    return best.scale;
}

/* ---- Scales of scales ------------------------------------------------------------------------------------------ */

static int limited(float v, int low, int high) {
    const float rounded = qd_round_even(v < (float)low ? (float)low : v > (float)high ? (float)high : v);
    return (int)rounded;
}

/* Σ weight · x · t and Σ weight · t² of what the groups are multiples of, t = scale · level: their quotient is the best
 * d for the scales and codes that d gives. */
static float refit(const qd_search *s, int n, const int scale[], int groups, float d, qd_levels levels) {
    double xt = 0.0, tt = 0.0;
    for (int g = 0; g < groups; g++) {
        float xl, ll;
        scale_sums(s, g * n, n, inverse_of(d * (float)scale[g]), levels, &xl, &ll);
        xt += (double)xl * scale[g];
        tt += (double)ll * scale[g] * scale[g];
    }
    return tt > 0.0 ? (float)(xt / tt) : d;
}

/* The integer scale, among those next to the wanted one, with the least error, which is added to *sum. */
static int choose_scale(const qd_search *s, int first, int n, float want, float d, int low, int high, qd_levels levels,
                        float *sum) {
    const int middle = limited(want * inverse_of(d), low, high);
    int best = middle;
    float least = INFINITY;
    for (int i = 0; i < 3; i++) {
        const int scale = middle + (i + 1) % 3 - 1; /* the middle first */
        if (scale < low || scale > high) continue;
        const float error = error_of(s, first, n, d * (float)scale, 0.0f, levels);
        if (error < least) least = error, best = scale;
    }
    *sum += least;
    return best;
}

qd_u16 qd_search_scales(const qd_search *s, int groups, int low, int high, qd_levels levels, int scale[],
                        int8_t *code) {
    const int n = s->n / groups;
    float want[QD_SEARCH_GROUPS] = {0}, extreme = 0.0f, least = 0.0f;
    for (int g = 0; g < groups; g++) {
        want[g] = qd_search_scale(s, g * n, n, levels);
        if (fabsf(want[g]) > fabsf(extreme)) extreme = want[g];
    }
    float d, better_d;
    qd_u16 half = qd_search_half(s, extreme / (float)low, &d);
    for (int g = 0; g < groups; g++)
        scale[g] = choose_scale(s, g * n, n, want[g], d, low, high, levels, &least);
    /* Once more with the d that fits these scales and codes best. */
    int other[QD_SEARCH_GROUPS];
    float error = 0.0f;
    const qd_u16 better = qd_search_half(s, refit(s, n, scale, groups, d, levels), &better_d);
    for (int g = 0; g < groups; g++)
        other[g] = choose_scale(s, g * n, n, want[g], better_d, low, high, levels, &error);
    if (error < least) {
        half = better, d = better_d;
        memcpy(scale, other, (size_t)groups * sizeof *scale);
    }
    for (int g = 0; g < groups; g++)
        qd_search_codes(s, g * n, n, d * (float)scale[g], 0.0f, levels, code + g * n);
    return half;
}

/* ---- Scales and minima of groups -------------------------------------------------------------------------------- */

/* What a block of groups is made of: x ≈ (d · scale[g]) · code - (dmin · min[g]). */
typedef struct grouped {
    qd_u16 half, half_min; /* d and dmin as they are stored */
    float d, dmin;
    int scale[QD_SEARCH_GROUPS], min[QD_SEARCH_GROUPS];
    float error;
} grouped;

/* The d and dmin that fit scales, minima and codes best; *d and *dmin stay where there are none. */
static void refit_both(const qd_search *s, int n, int groups, const grouped *b, int high, float *d, float *dmin) {
    double tt = 0.0, tm = 0.0, mm = 0.0, xt = 0.0, xm = 0.0;
    const qd_levels levels = {0, high, NULL};
    for (int g = 0; g < groups; g++) {
        const float inverse = inverse_of(b->d * (float)b->scale[g]), offset = -(b->dmin * (float)b->min[g]);
        float w[LANES] = {0}, l[LANES] = {0}, ll[LANES] = {0}, x[LANES] = {0}, xl[LANES] = {0};
        for (int i = g * n; i < g * n + n; i += LANES) {
            float v[LANES], level[LANES];
            for (int j = 0; j < LANES; j++)
                v[j] = (s->x[i + j] - offset) * inverse;
            nearest(v, levels, level);
            for (int j = 0; j < LANES; j++) {
                const float weight = s->weight[i + j], wl = weight * level[j];
                w[j] += weight, l[j] += wl, ll[j] += wl * level[j];
                x[j] += weight * s->x[i + j], xl[j] += wl * s->x[i + j];
            }
        }
        const double scale = b->scale[g], min = b->min[g];
        tt += (double)lanes_sum(ll) * scale * scale;
        tm += (double)lanes_sum(l) * scale * min;
        mm += (double)lanes_sum(w) * min * min;
        xt += (double)lanes_sum(xl) * scale;
        xm += (double)lanes_sum(x) * min;
    }
    /* x ≈ d · t - dmin · m */
    const double determinant = tt * mm - tm * tm;
    if (!(determinant > 1e-9 * tt * mm)) return;
    const double new_d = (xt * mm - xm * tm) / determinant, new_dmin = (xt * tm - xm * tt) / determinant;
    if (new_d > 0.0 && new_dmin >= 0.0) *d = (float)new_d, *dmin = (float)new_dmin;
}

/* Scales and minima, those next to the wanted ones with the least error, for what d and dmin are as halves. */
static void choose_both(const qd_search *s, int n, int groups, const float want[], const float want_min[], float d,
                        float dmin, int most, int high, grouped *b) {
    const qd_levels levels = {0, high, NULL};
    b->half = qd_search_half(s, d, &b->d);
    b->half_min = qd_search_half(s, dmin, &b->dmin);
    b->error = 0.0f;
    for (int g = 0; g < groups; g++) {
        const int middle = limited(want[g] * inverse_of(b->d), 0, most);
        const int middle_min = limited(want_min[g] * inverse_of(b->dmin), 0, most);
        float least = INFINITY;
        for (int k = 0; k < 9; k++) {
            const int scale = middle + (k + 1) % 3 - 1, min = middle_min + (k / 3 + 1) % 3 - 1; /* the middle first */
            if (scale < 0 || scale > most || min < 0 || min > most) continue;
            const float error = error_of(s, g * n, n, b->d * (float)scale, -(b->dmin * (float)min), levels);
            if (error < least) least = error, b->scale[g] = scale, b->min[g] = min;
        }
        b->error += least;
    }
}

void qd_search_scales_mins(const qd_search *s, int groups, int most, int high, qd_u16 *d, qd_u16 *dmin, int scale[],
                           int min[], int8_t *code) {
    const int n = s->n / groups;
    float want[QD_SEARCH_GROUPS] = {0}, want_min[QD_SEARCH_GROUPS] = {0}, largest = 0.0f, largest_min = 0.0f;
    for (int g = 0; g < groups; g++) {
        float offset;
        want[g] = qd_search_affine(s, g * n, n, high, true, &offset);
        want_min[g] = -offset;
        largest = want[g] > largest ? want[g] : largest;
        largest_min = want_min[g] > largest_min ? want_min[g] : largest_min;
    }
    grouped first, again;
    choose_both(s, n, groups, want, want_min, largest / (float)most, largest_min / (float)most, most, high, &first);
    float fitted = first.d, fitted_min = first.dmin;
    refit_both(s, n, groups, &first, high, &fitted, &fitted_min);
    choose_both(s, n, groups, want, want_min, fitted, fitted_min, most, high, &again);
    const grouped *best = again.error < first.error ? &again : &first;
    *d = best->half;
    *dmin = best->half_min;
    for (int g = 0; g < groups; g++) {
        scale[g] = best->scale[g];
        min[g] = best->min[g];
        qd_search_codes(s, g * n, n, best->d * (float)scale[g], -(best->dmin * (float)min[g]),
                        (qd_levels){0, high, NULL}, code + g * n);
    }
}
