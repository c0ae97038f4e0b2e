/* Part of qdot.h, which includes it.
 *
 * Codings: weights in codes of 1 to 8 bits whose parameters are data. A matrix becomes rows of bytes and one row of
 * floats that all rows share, the operands w and side of the operators MATMUL_CODED and GET_ROWS_CODED. FORMATS.md is
 * the byte specification.
 *
 * A coding has a name, made of a row of qdot_codings.def and options:
 *   int4            its defaults: groups of 32 with half scales
 *   int4-g64        groups of 64;  -row, -tensor: one scale for each row, for the tensor
 *   int4-asym       unsigned codes with a zero point for each scale
 *   int4-narrow     codes -7 to 7; -full: -8 to 7
 *   int4-f32        how scales are stored: f32, f16, bf16, e4m3, e8m0
 *   nf4-dq          double quantization: scales in 8 bits, with a scale for each 256 of them
 *   kmeans4-row     a codebook for each row
 *   pq6-d4-s1       vectors of 4 weights, a codebook for each place; without: 2, and one for each 16 places
 */
#ifndef QDOT_CODING_H
#define QDOT_CODING_H

#ifndef QDOT_H
#error "include qdot/qdot.h"
#endif

/** What a code means, s being the scale of its group: see FORMATS.md. */
typedef enum qd_coding_kind {
    QD_CODING_UNIFORM, /* (code - zero) · s */
    QD_CODING_TABLE,   /* table[code] · s */
    QD_CODING_SHIFT,   /* ± 2^-e · s, or 0 */
    QD_CODING_PRODUCT, /* a vector of the codebook for its place · s */
} qd_coding_kind;

typedef enum qd_coding_scale {
    QD_SCALE_NONE, /* 1 */
    QD_SCALE_F32,
    QD_SCALE_F16,
    QD_SCALE_BF16,
    QD_SCALE_E4M3,
    QD_SCALE_E8M0,
} qd_coding_scale;

/** How a scale is found from a group's weights. */
typedef enum qd_coding_rule {
    QD_RULE_NONE,
    QD_RULE_LARGEST, /* the largest magnitude gets the largest value that there is */
    QD_RULE_EXTREME, /* the value of largest magnitude, with its sign, gets the lowest code */
    QD_RULE_RMS,     /* the root of the mean square */
    QD_RULE_FIT,     /* of least squares, found with the codes in turns */
} qd_coding_rule;

typedef struct qd_coding {
    int family; /* row of qdot_codings.def */
    qd_coding_kind kind;
    int bits;            /* 1 … 8 */
    int lowest, highest; /* UNIFORM: limits of the codes, zero point included */
    bool asymmetric;     /* UNIFORM: unsigned codes, a zero point with each scale */
    int64_t group;       /* weights that share a scale, a multiple of 16; 0: a row; -1: the tensor */
    qd_coding_scale scale;
    qd_coding_rule rule;
    bool nested;  /* scales are codes of 8 bits themselves */
    bool per_row; /* TABLE: each row has its own */
    int length;   /* PRODUCT: weights in a vector: 2, 4 or 8 */
    int share; /* PRODUCT: neighbouring places of a row that have one codebook, 1 … 1024; cut to a divisor of the places
                */
} qd_coding;

/** Reads a name, as above. QD_ERR_ARGUMENT says what is known. */
QD_API qd_status qd_coding_parse(const char *name, qd_coding *out);
/** Writes the shortest name of a coding, which qd_coding_parse reads; capacity: 64 will do. */
QD_API void qd_coding_name(const qd_coding *c, char *out, size_t capacity);
/** Family number i, from 0: its name and what it is; false when there is none. */
QD_API bool qd_coding_family(int i, const char **name, int *least_bits, int *most_bits, const char **what);

/** Bytes of a row of `cols` codes with what belongs to them; 0 when the coding cannot hold rows of this length
 *  (PRODUCT: a multiple of its vectors; all: at least 1). */
QD_API size_t qd_coding_row_bytes(const qd_coding *c, int64_t cols);
/** Floats in the row that all rows share; at least 1. */
QD_API int64_t qd_coding_side_count(const qd_coding *c, int64_t rows, int64_t cols);
/** Bits per weight of rows × cols, with all that is stored. */
QD_API double qd_coding_bits(const qd_coding *c, int64_t rows, int64_t cols);

/** Quantizes rows × cols floats. dst: rows × qd_coding_row_bytes; side: qd_coding_side_count floats. `importance`: of
 * each column, at least 0, or NULL; with it the scale of each group (but those with zero points) is the best of several
 * for the squared errors so weighed. QD_ERR_ARGUMENT: a weight is not finite (the message names its place), or the row
 *  length does not suit the coding. */
QD_API qd_status qd_coding_quantize(const qd_coding *c, const float *src, int64_t rows, int64_t cols,
                                    const float *importance, void *dst, float *side);
/** The inverse: rows first … first + count - 1 of a matrix, whose rows `src` begins with row `first`. Any bytes have a
 *  meaning. */
QD_API qd_status qd_coding_dequantize(const qd_coding *c, const void *src, const float *side, int64_t rows,
                                      int64_t cols, int64_t first, int64_t count, float *dst);

#endif
