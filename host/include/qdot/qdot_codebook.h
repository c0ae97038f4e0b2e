/* Codebooks: codes of 1 to 8 bits that stand for values of a table, with a scale for each block; FORMATS.md has their
 * tables. Codes are one in a byte here: qdot_packing.h packs them.
 *
 * Functions that take pointers refuse NULL where there is something to read or write, and values that are not finite
 * (QD_ERR_ARGUMENT, which names the place). Nothing is written unless all is. */
#ifndef QDOT_CODEBOOK_H
#define QDOT_CODEBOOK_H

#include "qdot.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum qd_codebook_id {
#define QD_CODEBOOK(ID, name, bits, scale, values) QD_CODEBOOK_##ID,
#include "qdot_codebooks.def"
    QD_CODEBOOK_COUNT
} qd_codebook_id;

/** How the scale of a block is found; see qd_codebook_quantize. */
typedef enum qd_codebook_scale {
    QD_SCALE_ABSMAX, /* the largest magnitude gets the largest value */
    QD_SCALE_RMS,    /* the standard deviation: of values whose mean is taken as 0 */
    QD_SCALE_FIT     /* of least squares, found with the codes in turns */
} qd_codebook_scale;

enum { QD_CODEBOOK_MOST = 256 };

/** A codebook, by value: it owns nothing. Made by the functions below only; `value` may be read. */
typedef struct qd_codebook {
    int bits;  /* of a code: 1 … 8 */
    int count; /* codes that stand for a value: 1 … 2^bits */
    qd_codebook_scale scale;
    float peak;                       /* largest finite magnitude in `value` */
    float value[QD_CODEBOOK_MOST];    /* by code; of FP8 also infinities and NaN; 0 from `count` on */
    int choices;                      /* codes that quantizing may choose: finite values, the first of equal ones */
    uint8_t code[QD_CODEBOOK_MOST];   /* them, by rising value */
    float midpoint[QD_CODEBOOK_MOST]; /* f32((a + b) / 2) of neighbours; infinity from choices - 1 on */
} qd_codebook;

/* ---- Making ------------------------------------------------------------------------------------------------- */

/** A row of qdot_codebooks.def. Errors: QD_ERR_ARGUMENT when `id` is none. */
QD_API qd_status qd_codebook_fixed(qd_codebook_id id, qd_codebook *out);
/** By name: that of a row, "log3" … "log8", "normal2" … "normal8". Errors: QD_ERR_ARGUMENT lists the names. */
QD_API qd_status qd_codebook_find(const char *name, qd_codebook *out);
/** Any table: values[i] is what code i stands for, in any order. count: 1 … 2^bits, bits 1 … 8. At least one value is
 *  finite; others are only dequantized. Errors: QD_ERR_ARGUMENT. */
QD_API qd_status qd_codebook_make(int bits, const float *values, int count, qd_codebook_scale scale, qd_codebook *out);
/** Powers of two, 3 … 8 bits: the highest bit is the sign, the others are e; e = 0 stands for 0, else for
 *  2^(e - 2^(bits-1) + 1), so that the largest is 1. Source: Miyashita et al., Convolutional Neural Networks using
 *  Logarithmic Data Representation (2016). */
QD_API qd_status qd_codebook_log(int bits, qd_codebook *out);
/** Quantiles of a normal distribution, 2 … 8 bits, in units of the standard deviation, which is the scale:
 *  value[i] = f32(√3 · Φ⁻¹((i + ½) / 2^bits)). Levels as dense as the cube root of the density have the least mean
 *  squared error, and the cube root of a normal density is a normal density that is √3 times as wide. Source: Panter
 *  and Dite, Quantization Distortion in Pulse-Count Modulation with Nonuniform Spacing of Levels (1951). */
QD_API qd_status qd_codebook_normal(int bits, qd_codebook *out);

/* ---- Values ------------------------------------------------------------------------------------------------- */

/** The code of the nearest value; exactly between two (f32 midpoint) the lower value. Cannot fail: NaN gets the lowest
 *  value. */
QD_API uint8_t qd_codebook_nearest(const qd_codebook *book, float x);
/** The same for n values: codes[i] = nearest(x[i] · factor). */
QD_API void qd_codebook_encode(const qd_codebook *book, const float *x, int64_t n, float factor, uint8_t *codes);
/** y[i] = f32(value[codes[i]] · scale). Codes beyond the table stand for 0. */
QD_API void qd_codebook_decode(const qd_codebook *book, const uint8_t *codes, int64_t n, float scale, float *y);

/* ---- Blocks ------------------------------------------------------------------------------------------------- */

/** Number of scales of n values in blocks of `block` (0: all are one block); the last block may be short. -1 when
 * either is negative. */
QD_API int64_t qd_codebook_blocks(int64_t n, int64_t block);

/** Quantizes n values in blocks to codes[n] and scales[qd_codebook_blocks(n, block)].
 *  ABSMAX: scale = f32(max|x| / peak). RMS: scale = sqrt(mean x²). FIT: the scale of least squares for the codes, and
 *  the codes for the scale, in turns from the RMS on until nothing changes, at most 16 times.
 *  code = nearest(f32(x · f32(1 / max(scale, 1e-38)))), but f32(x / max(scale, 1e-38)) in a short last block.
 *  With tables whose peak is 1 this is the rule of bitsandbytes on CPUs (FP4, NF4, dynamic map), blocks running over
 *  the rows of a matrix. A matrix that wants blocks of its own in every row calls this for each row. */
QD_API qd_status qd_codebook_quantize(const qd_codebook *book, int64_t block, const float *x, int64_t n, uint8_t *codes,
                                      float *scales);
/** The inverse: y[i] = f32(value[codes[i]] · scales[i / block]). Any scales are taken. */
QD_API qd_status qd_codebook_dequantize(const qd_codebook *book, int64_t block, const uint8_t *codes,
                                        const float *scales, int64_t n, float *y);

/** Double quantization (QLoRA, 2023): n scales, less their mean, in blocks by `book` (the reference: DYNAMIC8, 256).
 *  *offset = mean (a double sum, rounded once); codes[n] and scales2[qd_codebook_blocks(n, block)] as above.
 *  With blocks of 64 and 256: 8/64 + 32/(64·256) = 0.127 bits per weight instead of 0.5. */
QD_API qd_status qd_scales_quantize(const qd_codebook *book, int64_t block, const float *scales, int64_t n,
                                    float *offset, uint8_t *codes, float *scales2);
/** scales[i] = f32(f32(value[codes[i]] · scales2[i / block]) + offset). */
QD_API qd_status qd_scales_dequantize(const qd_codebook *book, int64_t block, float offset, const uint8_t *codes,
                                      const float *scales2, int64_t n, float *scales);

/* ---- The layouts of bitsandbytes ------------------------------------------------------------------------------ */

/** qd_codebook_quantize as bitsandbytes stores it: codes of 4 bits, the first in the high half of its byte, (n + 1) / 2
 *  bytes. `block` is a power of two from 32 to 4096. Byte-compatible with its CPU code for QD_CODEBOOK_NF4 and
 *  QD_CODEBOOK_FP4, but for zeros in FP4, which have two codes. Errors: QD_ERR_ARGUMENT, QD_ERR_MEMORY. */
QD_API qd_status qd_quantize_4bit(const qd_codebook *book, int64_t block, const float *x, int64_t n, uint8_t *packed,
                                  float *absmax);
/** The inverse. */
QD_API qd_status qd_dequantize_4bit(const qd_codebook *book, int64_t block, const uint8_t *packed, const float *absmax,
                                    int64_t n, float *y);

/** Rows × cols values to int8 with a scale for each row (LLM.int8(), 2022): absmax[r] = max|x|,
 *  codes = round(f32(x · f32(127 / absmax[r]))), halves to even; y = codes · absmax / 127. A row of zeros has codes 0;
 *  rows with a largest magnitude of which 127 / absmax overflows (below 2^-121) count as zeros. */
QD_API qd_status qd_quantize_rowwise(const float *x, int64_t rows, int64_t cols, int8_t *codes, float *absmax);

/* ---- Learning ----------------------------------------------------------------------------------------------- */

/** The k values that n values are replaced with at the least mean squared error: 1 … 256 of them, rising, the number in
 *  *found, which is less than k when there are fewer different values; the rest of centroids[k] repeats the last one.
 *  Exact for up to 16·k (at least 256, at most 4096) different values: dynamic programming over the sorted values; else
 *  that of as many parts of them, improved by Lloyd's method on all values. Of more than 2^20 values as many are taken,
 *  one at random from each part of them, and the two outermost. The same on every machine. Time: n at a few ns to sort,
 * k times the number of parts. Source: Lloyd, Least Squares Quantization in PCM (1957); Grønlund et al., Fast Exact
 *  k-Means in 1D (2017).
 *  Errors: QD_ERR_ARGUMENT: n < 1, k, NULL, a value that is not finite; QD_ERR_MEMORY. */
QD_API qd_status qd_kmeans(const float *x, int64_t n, int k, float *centroids, int *found);

typedef struct qd_kmeans_options {
    int iterations; /* most turns of Lloyd's method, which ends when one gains less than 0.1 %; 0: 25 */
    int restarts;   /* the best of so many starts; 0: 1 */
    int sample;     /* points for each centroid that are looked at while it learns, at random; 0: 64; -1: all */
    uint64_t seed;
} qd_kmeans_options;

/** The same for n vectors of dim values, by Lloyd's method from starting points that are drawn with a probability that
 *  grows with the squared distance, the best of a few (greedy k-means++). centroids: [k][dim], k 1 … 256; codes[n] (or
 *  NULL): the nearest centroid of each vector, the first of equally near ones; *error (or NULL): the sum of squared
 *  distances. A centroid without vectors takes the place of the vector that is farthest from its own. When there are
 *  fewer different vectors than k, some centroids are equal. `options` may be NULL. Deterministic. Source: Arthur and
 *  Vassilvitskii, k-means++ (2007). Errors: as qd_kmeans. */
QD_API qd_status qd_kmeans_vectors(const float *x, int64_t n, int dim, int k, const qd_kmeans_options *options,
                                   float *centroids, uint8_t *codes, double *error);

/** Product quantization of a rows × cols matrix: a row is cut into cols / dim sub-vectors, and each becomes the number
 *  of the nearest of 2^bits centroids. `share` neighbouring sub-vectors of a row use one codebook: 1: each place has
 * its own; 0: one for all. bits: 1 … 8; bits per weight: bits / dim, and the codebooks. Source: Jégou et al., Product
 *  Quantization for Nearest Neighbor Search (2011). */
typedef struct qd_product {
    int dim, bits, share;
} qd_product;

/** Number of codebooks for rows of `cols` values; 0 when the numbers do not fit: cols is a whole number of sub-vectors,
 *  and these of shares. */
QD_API int64_t qd_product_codebooks(const qd_product *p, int64_t cols);
/** Learns the codebooks, centroids: [qd_product_codebooks()][2^bits][dim], and gives codes: [rows][cols / dim].
 *  Errors: as qd_kmeans. */
QD_API qd_status qd_product_train(const qd_product *p, const float *x, int64_t rows, int64_t cols,
                                  const qd_kmeans_options *options, float *centroids, uint8_t *codes);
/** Codes of other rows, or for centroids that were rounded. Errors: QD_ERR_ARGUMENT. */
QD_API qd_status qd_product_encode(const qd_product *p, const float *centroids, const float *x, int64_t rows,
                                   int64_t cols, uint8_t *codes);
/** The inverse: each sub-vector is its centroid. */
QD_API qd_status qd_product_decode(const qd_product *p, const float *centroids, const uint8_t *codes, int64_t rows,
                                   int64_t cols, float *y);

#ifdef __cplusplus
}
#endif
#endif
