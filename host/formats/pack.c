#include "formats/pack.h"

#include <string.h>

#include "qdot/qdot_blocks.h"

/* Where a block's codes and half-precision scales stand. */
typedef struct block_parts {
    int bytes, code_at, code_bytes, scale_at, scales;
    unsigned char flip; /* codes become unsigned by this */
} block_parts;

static block_parts parts_of(qd_format f) {
    switch (f) {
        case QD_FORMAT_Q8_0:
            return (block_parts){34, 2, 32, 0, 1, 0x80};
        case QD_FORMAT_Q4_0:
            return (block_parts){18, 2, 16, 0, 1, 0};
        case QD_FORMAT_Q4_1:
            return (block_parts){20, 4, 16, 0, 2, 0};
        default:
            return (block_parts){0};
    }
}

int64_t qd_layout_rows(qd_layout layout) {
    return layout == QD_LAYOUT_TILE16 ? 16 : 1;
}

size_t qd_layout_bytes(qd_layout layout, qd_format f, int64_t rows, int64_t K) {
    if (layout == QD_LAYOUT_ROWS) return (size_t)rows * qd_format_row_bytes(f, K);
    const block_parts p = parts_of(f);
    return (size_t)((rows + 15) / 16 * 16) * (size_t)(K / 32) * (size_t)(p.code_bytes + 2 * p.scales);
}

/* A tile: for each block, the codes of 16 rows in groups of four bytes, then each scale of 16 rows. */
static void pack_tile(const block_parts *p, const unsigned char *src, int rows, int64_t blocks, unsigned char *dst) {
    const size_t row_bytes = (size_t)blocks * (size_t)p->bytes;
    for (int64_t b = 0; b < blocks; b++) {
        const unsigned char *block = src + b * p->bytes; /* of the first row */
        for (int group = 0; group < p->code_bytes / 4; group++) {
            for (int r = 0; r < 16; r++, dst += 4) {
                if (r >= rows) {
                    memset(dst, 0, 4);
                    continue;
                }
                const unsigned char *code = block + (size_t)r * row_bytes + p->code_at + 4 * group;
                for (int i = 0; i < 4; i++)
                    dst[i] = code[i] ^ p->flip;
            }
        }
        for (int scale = 0; scale < p->scales; scale++) {
            for (int r = 0; r < 16; r++, dst += 2) {
                if (r < rows) {
                    memcpy(dst, block + (size_t)r * row_bytes + p->scale_at + 2 * scale, 2);
                } else {
                    memset(dst, 0, 2);
                }
            }
        }
    }
}

void qd_layout_pack(qd_layout layout, qd_format f, const void *src, int64_t rows, int64_t K, void *dst) {
    if (layout == QD_LAYOUT_ROWS) {
        memcpy(dst, src, qd_layout_bytes(layout, f, rows, K));
        return;
    }
    const block_parts p = parts_of(f);
    const size_t tile_bytes = qd_layout_bytes(layout, f, 16, K);
    for (int64_t r = 0; r < rows; r += 16) {
        pack_tile(&p, (const unsigned char *)src + (size_t)r * (size_t)(K / 32) * (size_t)p.bytes,
                  rows - r < 16 ? (int)(rows - r) : 16, K / 32, (unsigned char *)dst + (size_t)(r / 16) * tile_bytes);
    }
}
