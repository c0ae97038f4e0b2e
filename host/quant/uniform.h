/* Stored weights whose codes stand evenly spaced, code by code: what GPTQ writes. */
#ifndef QDOT_QUANT_UNIFORM_H
#define QDOT_QUANT_UNIFORM_H

#include "formats/coding.h"

typedef struct quant_uniform {
    const qd_storage *to;
    int64_t rows, cols, group, groups; /* groups: of a row; the last may be short */
    int lowest, highest;               /* codes */
    bool apart;                        /* the scale of a group depends on its own weights alone */
    unsigned char *dst;
    float *side;
    size_t row_bytes;
    qd_coded_params params; /* codings */
    int block;              /* formats: which one, in uniform.c */
} quant_uniform;

/** What the codes of a group mean: (code - zero) · scale + offset. */
typedef struct quant_group {
    float scale, offset, inverse; /* inverse: of the scale, 0 where there is none */
    int32_t zero;
} quant_group;

/** Stored weights in dst and side, which are borrowed. QD_ERR_UNSUPPORTED: `to` has other codes. */
qd_status qd_uniform_open(const qd_storage *to, int64_t rows, int64_t cols, void *dst, float *side, quant_uniform *out);
/** What the codes of group g of a row mean now. */
quant_group qd_uniform_group(const quant_uniform *u, int64_t row, int64_t g);
/** Chooses scale and zero point of group g anew, for the weights x of the group; its codes are spoilt. u->apart. */
qd_status qd_uniform_choose(const quant_uniform *u, int64_t row, int64_t g, const float *x);
/** Writes all codes of a row. */
void qd_uniform_put(const quant_uniform *u, int64_t row, const uint8_t *codes);

#endif
