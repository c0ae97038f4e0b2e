/* Small floats, one code in a number of 16 bits: exact decoding, and casts with one rounding. */
#ifndef QDOT_MINIFLOAT_H
#define QDOT_MINIFLOAT_H

#include "qdot.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum qd_minifloat {
#define QD_MINIFLOAT(ID, name, sign, exponent, mantissa, bias, specials) QD_MINIFLOAT_##ID,
#include "qdot_minifloats.def"
    QD_MINIFLOAT_COUNT
} qd_minifloat;

typedef enum qd_minifloat_specials {
    QD_MINIFLOAT_IEEE,
    QD_MINIFLOAT_LAST,
    QD_MINIFLOAT_ZERO,
    QD_MINIFLOAT_NONE
} qd_minifloat_specials;

typedef struct qd_minifloat_info {
    const char *name;             /* "f8e4m3fn" */
    int sign, exponent, mantissa; /* bits */
    int bias;
    qd_minifloat_specials specials; /* see qdot_minifloats.def */
    int bits;                       /* of a code */
} qd_minifloat_info;

/** Facts about a type; NULL when `t` is none. */
QD_API const qd_minifloat_info *qd_minifloat_get(qd_minifloat t);
/** Finds a type by its name. QD_ERR_ARGUMENT lists the names. */
QD_API qd_status qd_minifloat_find(const char *name, qd_minifloat *out);

/** The value of a code, exact; bits above the type's are ignored. Any NaN code gives the positive quiet NaN. `t` must
 * be a type. */
QD_API float qd_minifloat_value(qd_minifloat t, uint16_t code);
/** The code of the nearest value, ties to the even mantissa, or up where there is none. What is not positive is a NaN
 * to types without a sign. What rounds beyond the largest finite value, infinity too, becomes that with `saturate`,
 * else infinity, or NaN where there is no infinity, or the largest where there is neither. A NaN stays one; of a type
 *  without it becomes the largest value. `t` must be a type. */
QD_API uint16_t qd_minifloat_code(qd_minifloat t, bool saturate, float x);

/** The same for n values. Errors: QD_ERR_ARGUMENT: `t` is no type, n is negative, or a pointer is NULL. */
QD_API qd_status qd_minifloat_encode(qd_minifloat t, bool saturate, const float *x, int64_t n, uint16_t *codes);
QD_API qd_status qd_minifloat_decode(qd_minifloat t, const uint16_t *codes, int64_t n, float *x);

#ifdef __cplusplus
}
#endif
#endif
