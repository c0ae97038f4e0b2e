/* Casts to and from small floats, by the numbers of their row in qdot_minifloats.def. */
#include "qdot/qdot_minifloat.h"

#include <math.h>
#include <string.h>

#include "core/status.h"

static const qd_minifloat_info infos[QD_MINIFLOAT_COUNT] = {
#define QD_MINIFLOAT(ID, name, sign, exponent, mantissa, bias, specials) \
    {#name, sign, exponent, mantissa, bias, QD_MINIFLOAT_##specials, (sign) + (exponent) + (mantissa)},
#include "qdot/qdot_minifloats.def"
};

const qd_minifloat_info *qd_minifloat_get(qd_minifloat t) {
    return (unsigned)t < QD_MINIFLOAT_COUNT ? &infos[t] : NULL;
}

qd_status qd_minifloat_find(const char *name, qd_minifloat *out) {
    static const char names[] = ""
#define QD_MINIFLOAT(ID, name, sign, exponent, mantissa, bias, specials) " " #name
#include "qdot/qdot_minifloats.def"
        ;
    for (int i = 0; name && out && i < QD_MINIFLOAT_COUNT; i++) {
        if (strcmp(infos[i].name, name) != 0) continue;
        *out = (qd_minifloat)i;
        return QD_OK;
    }
    return qd_fail(QD_ERR_ARGUMENT, "no small float \"%.32s\"; there are%s", name ? name : "", names);
}

/* Magnitudes: exponent and mantissa as one number, which grows with the value. */
static unsigned all_ones(const qd_minifloat_info *t) {
    return (1u << (t->exponent + t->mantissa)) - 1;
}

static unsigned infinity(const qd_minifloat_info *t) {
    return ((1u << t->exponent) - 1) << t->mantissa;
}

static unsigned largest(const qd_minifloat_info *t) {
    return t->specials == QD_MINIFLOAT_IEEE ? infinity(t) - 1 : all_ones(t) - (t->specials == QD_MINIFLOAT_LAST);
}

static bool is_nan(const qd_minifloat_info *t, unsigned magnitude, bool negative) {
    switch (t->specials) {
        case QD_MINIFLOAT_IEEE:
            return magnitude > infinity(t);
        case QD_MINIFLOAT_LAST:
            return magnitude == all_ones(t);
        case QD_MINIFLOAT_ZERO:
            return negative && magnitude == 0;
        default:
            return false;
    }
}

static unsigned nan_code(const qd_minifloat_info *t, unsigned sign) {
    switch (t->specials) {
        case QD_MINIFLOAT_IEEE:
            return sign | infinity(t) | 1u << (t->mantissa - 1);
        case QD_MINIFLOAT_ZERO:
            return 1u << (t->exponent + t->mantissa);
        default: /* all ones: the largest value where there is no NaN */
            return sign | all_ones(t);
    }
}

float qd_minifloat_value(qd_minifloat type, uint16_t code) {
    const qd_minifloat_info *t = &infos[type];
    const unsigned magnitude = code & all_ones(t);
    const bool negative = t->sign && code >> (t->bits - 1) & 1;
    if (is_nan(t, magnitude, negative)) return NAN;
    if (t->specials == QD_MINIFLOAT_IEEE && magnitude == infinity(t)) return negative ? -INFINITY : INFINITY;
    const int exponent = (int)(magnitude >> t->mantissa), fraction = (int)(magnitude & ((1u << t->mantissa) - 1));
    const bool normal = exponent > 0 || !t->sign;
    const double value =
        ldexp(normal ? fraction + (1 << t->mantissa) : fraction, (normal ? exponent : 1) - t->bias - t->mantissa);
    return (float)(negative ? -value : value);
}

/* The magnitude of the nearest value with an unbounded exponent. a is finite and not negative. */
static double round_magnitude(const qd_minifloat_info *t, double a) {
    const int least = t->sign ? 1 - t->bias : -t->bias; /* exponent of the least normal value */
    const int own = a > 0 ? ilogb(a) : least;
    const int exponent = own > least ? own : least;
    /* In units of the last place, exactly; rint rounds halves to even, which is no rule between powers of two. */
    const double units = ldexp(a, t->mantissa - exponent), q = t->mantissa ? rint(units) : floor(units + 0.5);
    const double magnitude = ldexp(exponent - least, t->mantissa) + q;
    /* Without a sign there are no denormals, so that the least value has the code 0, and so has all below it. */
    return t->sign ? magnitude : fmax(magnitude - 1, 0);
}

uint16_t qd_minifloat_code(qd_minifloat type, bool saturate, float x) {
    const qd_minifloat_info *t = &infos[type];
    const unsigned sign = t->sign && signbit(x) ? 1u << (t->bits - 1) : 0;
    if (isnan(x) || (!t->sign && !(x > 0))) return (uint16_t)nan_code(t, sign);
    const double magnitude = isinf(x) ? INFINITY : round_magnitude(t, fabs((double)x));
    if (magnitude > (double)largest(t)) {
        if (saturate || t->specials == QD_MINIFLOAT_NONE) return (uint16_t)(sign | largest(t));
        return (uint16_t)(t->specials == QD_MINIFLOAT_IEEE ? sign | infinity(t) : nan_code(t, sign));
    }
    if (magnitude == 0 && t->specials == QD_MINIFLOAT_ZERO) return 0;
    return (uint16_t)(sign | (unsigned)magnitude);
}

static qd_status check(qd_minifloat t, int64_t n, const void *a, const void *b) {
    if ((unsigned)t >= QD_MINIFLOAT_COUNT) return qd_fail(QD_ERR_ARGUMENT, "small float %d does not exist", (int)t);
    if (n < 0 || (n > 0 && (!a || !b))) {
        return qd_fail(QD_ERR_ARGUMENT, "%lld values of %s: the number may not be negative, nor a pointer NULL",
                       (long long)n, infos[t].name);
    }
    return QD_OK;
}

qd_status qd_minifloat_encode(qd_minifloat t, bool saturate, const float *x, int64_t n, uint16_t *codes) {
    const qd_status status = check(t, n, x, codes);
    for (int64_t i = 0; status == QD_OK && i < n; i++)
        codes[i] = qd_minifloat_code(t, saturate, x[i]);
    return status;
}

qd_status qd_minifloat_decode(qd_minifloat t, const uint16_t *codes, int64_t n, float *x) {
    const qd_status status = check(t, n, codes, x);
    for (int64_t i = 0; status == QD_OK && i < n; i++)
        x[i] = qd_minifloat_value(t, codes[i]);
    return status;
}
