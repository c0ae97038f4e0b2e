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

/* Integer codes, which have no blocks and no scales; any K. */
static bool is_codes(qd_format f) {
    return f == QD_FORMAT_I8 || f == QD_FORMAT_U8;
}

int64_t qd_layout_rows(qd_layout layout) {
    return layout == QD_LAYOUT_TILE16 ? 16 : layout == QD_LAYOUT_WORDS4 ? 4 : 1;
}

size_t qd_layout_bytes(qd_layout layout, qd_format f, int64_t rows, int64_t K) {
    if (layout == QD_LAYOUT_ROWS) return (size_t)rows * qd_format_row_bytes(f, K);
    const block_parts p = parts_of(f);
    if (layout == QD_LAYOUT_WORDS4) { /* whole words of 16 bytes */
        const size_t tile = 4 * (size_t)(K / 32) * (size_t)(p.code_bytes + 2 * p.scales);
        return (size_t)((rows + 3) / 4) * ((tile + 15) / 16 * 16);
    }
    const size_t tiles = (size_t)((rows + 15) / 16);
    if (is_codes(f)) return tiles * 64 * (size_t)((K + 3) / 4 + 1);
    return tiles * 16 * (size_t)(K / 32) * (size_t)(p.code_bytes + 2 * p.scales);
}

/* A tile of codes: groups of four of 16 rows, then the sum of each row. Codes become signed by `flip`; what fills up
 * rows and groups is 0. */
static void pack_codes(const unsigned char *src, int rows, int64_t K, unsigned char flip, unsigned char *dst) {
    int32_t sums[16] = {0};
    for (int64_t k = 0; k < K; k += 4) {
        const int n = K - k < 4 ? (int)(K - k) : 4;
        memset(dst, 0, 64);
        for (int r = 0; r < rows; r++) {
            for (int i = 0; i < n; i++) {
                const unsigned char code = src[(size_t)r * (size_t)K + (size_t)(k + i)] ^ flip;
                dst[4 * r + i] = code;
                sums[r] += (signed char)code;
            }
        }
        dst += 64;
    }
    memcpy(dst, sums, sizeof sums);
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

/* A tile of words: the codes of 4 rows block by block, 16 bytes of each at a time, then their scales. */
static void pack_words(const block_parts *p, const unsigned char *src, int rows, int64_t blocks, unsigned char *dst,
                       size_t tile_bytes) {
    const size_t row_bytes = (size_t)blocks * (size_t)p->bytes, scale_bytes = 2 * (size_t)p->scales;
    memset(dst, 0, tile_bytes);
    for (int at = 0; at < p->code_bytes; at += 16) {
        for (int64_t i = 0; i < 4 * blocks; i++, dst += 16) {
            if (i % 4 < rows) memcpy(dst, src + (size_t)(i % 4) * row_bytes + i / 4 * p->bytes + p->code_at + at, 16);
        }
    }
    for (int64_t i = 0; i < 4 * blocks; i++, dst += scale_bytes) {
        if (i % 4 < rows) memcpy(dst, src + (size_t)(i % 4) * row_bytes + i / 4 * p->bytes + p->scale_at, scale_bytes);
    }
}

void qd_layout_pack(qd_layout layout, qd_format f, const void *src, int64_t rows, int64_t K, void *dst) {
    if (layout == QD_LAYOUT_ROWS) {
        memcpy(dst, src, qd_layout_bytes(layout, f, rows, K));
        return;
    }
    const block_parts p = parts_of(f);
    const int64_t together = qd_layout_rows(layout);
    const size_t tile_bytes = qd_layout_bytes(layout, f, together, K), row_bytes = qd_format_row_bytes(f, K);
    for (int64_t r = 0; r < rows; r += together) {
        const unsigned char *from = (const unsigned char *)src + (size_t)r * row_bytes;
        unsigned char *to = (unsigned char *)dst + (size_t)(r / together) * tile_bytes;
        const int n = (int)(rows - r < together ? rows - r : together);
        if (layout == QD_LAYOUT_WORDS4) {
            pack_words(&p, from, n, K / 32, to, tile_bytes);
        } else if (is_codes(f)) {
            pack_codes(from, n, K, f == QD_FORMAT_I8 ? 0 : 0x80, to);
        } else {
            pack_tile(&p, from, n, K / 32, to);
        }
    }
}
