#include <stddef.h>

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

#define CODEC_FLOAT(name) \
    { qd_quantize_row_##name, qd_dequantize_row_##name }
#define CODEC_BLOCKED(name) CODEC_FLOAT(name)
#define CODEC_INTEGER(name) \
    { NULL, NULL }

static const qd_codec codecs[] = {
#define QD_FORMAT(ID, name, block, bytes, gguf, kind) CODEC_##kind(name),
#include "qdot/qdot_formats.def"
};

const qd_codec *qd_codec_get(qd_format f) {
    if ((unsigned)f >= QD_FORMAT_COUNT || !codecs[f].quantize_row) return NULL;
    return &codecs[f];
}
