#include <stddef.h>
#include <string.h>

#include "formats/formats.h"
#include "qdot/qdot_blocks.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "packed blocks are little-endian; this machine needs byte swaps in host/formats"
#endif

/* The row's size is that of the struct which the codecs copy. */
#define ASSERT_FLOAT(name, bytes)
#define ASSERT_INTEGER(name, bytes)
#define ASSERT_BLOCKED(name, bytes) _Static_assert(sizeof(qd_block_##name) == (bytes), #name ": size of a block");
#define QD_FORMAT(ID, name, block, bytes, gguf, kind) ASSERT_##kind(name, bytes)
#include "qdot/qdot_formats.def"

/* ---- Rows of blocks ------------------------------------------------------------------------------------------ */

/* A block that is aligned for any of them: rows in a file are not. */
typedef union any_block {
#define BLOCK_FLOAT(name)
#define BLOCK_INTEGER(name)
#define BLOCK_BLOCKED(name) qd_block_##name name;
#define QD_FORMAT(ID, name, block, bytes, gguf, kind) BLOCK_##kind(name)
#include "qdot/qdot_formats.def"
} any_block;

static void put_blocks(const float *x, const float *importance, void *dst, int64_t n, int block, int bytes,
                       qd_quantize_block_fn *quantize) {
    unsigned char *out = dst;
    for (int64_t i = 0; i < n; i += block, out += bytes) {
        any_block b;
        quantize(x + i, importance ? importance + i : NULL, &b);
        memcpy(out, &b, (size_t)bytes);
    }
}

static void take_blocks(const void *src, float *x, int64_t n, int block, int bytes, qd_sixteen_fn *sixteen) {
    const unsigned char *in = src;
    for (int64_t i = 0; i < n; i += block, in += bytes) {
        any_block b;
        memcpy(&b, in, (size_t)bytes);
        for (int k = 0; k < block; k += 16) {
            qd_sixteen s;
            sixteen(&b, k / 16, &s);
            for (int j = 0; j < 16; j++) {
                const float product = s.scale * (float)s.code[j];
                x[i + k + j] = s.has_offset ? product + s.offset : product;
            }
        }
    }
}

#define ROWS_INTEGER(name, block, bytes)
#define ROWS_FLOAT(name, block, bytes)                                                               \
    static void quantize_row_##name(const float *x, const float *importance, void *dst, int64_t n) { \
        (void)importance;                                                                            \
        qd_quantize_row_##name(x, dst, n);                                                           \
    }
#define ROWS_BLOCKED(name, block, bytes)                                                             \
    static void quantize_row_##name(const float *x, const float *importance, void *dst, int64_t n) { \
        put_blocks(x, importance, dst, n, block, bytes, qd_quantize_block_##name);                   \
    }                                                                                                \
    static void dequantize_row_##name(const void *src, float *x, int64_t n) {                        \
        take_blocks(src, x, n, block, bytes, qd_sixteen_##name);                                     \
    }
#define QD_FORMAT(ID, name, block, bytes, gguf, kind) ROWS_##kind(name, block, bytes)
#include "qdot/qdot_formats.def"

/* ---- The table ----------------------------------------------------------------------------------------------- */

#define CODEC_FLOAT(name) \
    { quantize_row_##name, qd_dequantize_row_##name, NULL }
#define CODEC_BLOCKED(name) \
    { quantize_row_##name, dequantize_row_##name, qd_sixteen_##name }
#define CODEC_INTEGER(name) \
    { NULL, NULL, NULL }

static const qd_codec codecs[] = {
#define QD_FORMAT(ID, name, block, bytes, gguf, kind) CODEC_##kind(name),
#include "qdot/qdot_formats.def"
};

const qd_codec *qd_codec_get(qd_format f) {
    if ((unsigned)f >= QD_FORMAT_COUNT || !codecs[f].quantize_row) return NULL;
    return &codecs[f];
}
