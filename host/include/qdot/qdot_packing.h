/* Bit orders: codes of less than a byte, one in a byte on one side, packed on the other. */
#ifndef QDOT_PACKING_H
#define QDOT_PACKING_H

#include "qdot.h"

#ifdef __cplusplus
extern "C" {
#endif

/** X(ID, name, bits): the orders, and for which numbers of bits they exist, as a mask (bit b: codes of b bits).
 *  LOW_FIRST: a stream of bits, each byte's lowest first, hence dense also for 3 bits. ONNX, TensorFlow Lite; in 32-bit
 *             words GPTQ and compressed-tensors, because words are little-endian.
 *  HIGH_FIRST: the first code in the highest bits of its byte. bitsandbytes.
 *  HALVES:    blocks of 32 codes: byte j holds the low four bits of code j in its low, of code j + 16 in its high half;
 *             of 5 bits, the fifth ones come first, bit i of four bytes for code i. ggml's Q4_0 and Q5_0.
 *  AWQ:       words of 8 codes: from the lowest bits on codes 0 2 4 6 1 3 5 7. AutoAWQ. */
#define QD_PACKINGS(X)                 \
    X(LOW_FIRST, "low-first", 0x1fe)   \
    X(HIGH_FIRST, "high-first", 0x116) \
    X(HALVES, "halves", 0x30)          \
    X(AWQ, "awq", 0x10)

typedef enum qd_packing {
#define QD_PACKING_ENUM(ID, name, bits) QD_PACKING_##ID,
    QD_PACKINGS(QD_PACKING_ENUM)
#undef QD_PACKING_ENUM
        QD_PACKING_COUNT
} qd_packing;

/** Its name; NULL when `p` is none. */
QD_API const char *qd_packing_name(qd_packing p);
/** Finds an order by its name, or by that of a program that has it: "onnx", "gptq", "bitsandbytes", "ggml".
 *  QD_ERR_ARGUMENT lists the names. */
QD_API qd_status qd_packing_find(const char *name, qd_packing *out);

/** Bytes of n packed codes; 0 when the order does not exist for `bits`, n is no whole number of its blocks (HALVES: 32
 *  codes, AWQ: 8), is not positive, or too large. */
QD_API size_t qd_packed_bytes(qd_packing p, int bits, int64_t n);
/** Packs n codes into qd_packed_bytes() bytes; unused bits are 0. Bits of codes above `bits` are ignored: signed codes
 *  may be given as they are. dst and codes do not overlap. Errors: QD_ERR_ARGUMENT, as for qd_packed_bytes. */
QD_API qd_status qd_pack(qd_packing p, int bits, const uint8_t *codes, int64_t n, void *dst);
/** The inverse: codes from 0 to 2^bits - 1. */
QD_API qd_status qd_unpack(qd_packing p, int bits, const void *src, int64_t n, uint8_t *codes);
/** From one order to another. src and dst do not overlap. */
QD_API qd_status qd_repack(qd_packing from, qd_packing to, int bits, const void *src, int64_t n, void *dst);

/** Packs a rows × cols matrix of codes into 32-bit words along an axis: axis 0 gives [ceil(rows · bits / 32)][cols]
 *  words (GPTQ's weights), axis 1 [rows][ceil(cols · bits / 32)] (its zero points; AWQ's weights and zero points).
 *  p: LOW_FIRST or AWQ. Errors: QD_ERR_ARGUMENT, QD_ERR_MEMORY. */
QD_API qd_status qd_pack_words(qd_packing p, int bits, int axis, const uint8_t *codes, int64_t rows, int64_t cols,
                               uint32_t *words);
/** The inverse: rows × cols codes. */
QD_API qd_status qd_unpack_words(qd_packing p, int bits, int axis, const uint32_t *words, int64_t rows, int64_t cols,
                                 uint8_t *codes);

/** GPTQ's tensors, as AutoGPTQ stores them. codes: [rows][cols], rows being the inputs of the layer (K), cols its
 *  outputs; zeros: [groups][cols], 0 … 2^bits - 1. qweight: qd_pack_words of codes along axis 0; qzeros: of
 *  (zero - 1) mod 2^bits along axis 1. bits: 2, 3, 4 or 8; rows · bits and cols · bits are multiples of 32.
 *  Errors: QD_ERR_ARGUMENT; QD_ERR_MEMORY, after which either output may be written. */
QD_API qd_status qd_gptq_pack(int bits, const uint8_t *codes, const uint8_t *zeros, int64_t rows, int64_t cols,
                              int64_t groups, uint32_t *qweight, uint32_t *qzeros);
/** The inverse. */
QD_API qd_status qd_gptq_unpack(int bits, const uint32_t *qweight, const uint32_t *qzeros, int64_t rows, int64_t cols,
                                int64_t groups, uint8_t *codes, uint8_t *zeros);
/** w[k][n] = f32(scales[g][n] · (codes[k][n] - zeros[g][n])), g = group_of[k] (GPTQ's g_idx, for act-order), or k /
 * group when group_of is NULL. Groups are of `group` rows (0: all are one), the last may be short; scales, zeros:
 *  [ceil(rows / group)][cols]. Errors: QD_ERR_ARGUMENT: sizes, NULL, a group that is not there. */
QD_API qd_status qd_grouped_dequantize(const uint8_t *codes, const uint8_t *zeros, const float *scales,
                                       const int32_t *group_of, int64_t rows, int64_t cols, int64_t group, float *w);

#ifdef __cplusplus
}
#endif
#endif
