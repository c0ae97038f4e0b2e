#include "formats/pack.h"

#include <string.h>

#include "qdot/qdot_blocks.h"

enum { MOST_NUMBERS = 16 };

/* What a block consists of: halves, numbers of a byte each in a tile, codes; see kernels_cl/x86/tile16.h. */
typedef struct block_parts {
    int half_at, halves, number_at, numbers, code_at, code_bytes;
    /* Takes the numbers, scales and then minima, out of the bytes that hold them; NULL: they are those bytes. */
    void (*take)(const unsigned char *in, unsigned char out[MOST_NUMBERS]);
    unsigned char flip; /* codes become unsigned by this */
    bool fifth;         /* the codes begin with 32 bits, the fifth one of each element */
} block_parts;

/* Four scales of six bits, then as many minima, likewise the other four scales and minima: see qd_block_q4_k. */
static void take_q4_k(const unsigned char *in, unsigned char *out) {
    for (int g = 0; g < 4; g++) {
        out[g] = in[g] & 63;
        out[g + 4] = (unsigned char)((in[g + 8] & 15) | in[g] >> 6 << 4);
        out[g + 8] = in[g + 4] & 63;
        out[g + 12] = (unsigned char)(in[g + 8] >> 4 | in[g + 4] >> 6 << 4);
    }
}

static void take_q3_k(const unsigned char *in, unsigned char *out) {
    for (int g = 0; g < 16; g++)
        out[g] = (unsigned char)(((in[g % 8] >> g / 8 * 4 & 15) | (in[8 + g % 4] >> g / 4 * 2 & 3) << 4) - 32);
}

static void take_iq4_xs(const unsigned char *in, unsigned char *out) {
    for (int g = 0; g < 8; g++)
        out[g] = (unsigned char)(((in[2 + g / 2] >> g % 2 * 4 & 15) | (in[g / 4] >> g % 4 * 2 & 3) << 4) - 32);
}

/* Formats that have tiles; of the others code_bytes is 0. */
static const block_parts parts_of[QD_FORMAT_COUNT] = {
    [QD_FORMAT_Q8_0] = {0, 1, 0, 0, 2, 32, .flip = 0x80},
    [QD_FORMAT_Q4_0] = {0, 1, 0, 0, 2, 16, .take = NULL},
    [QD_FORMAT_Q4_1] = {0, 2, 0, 0, 4, 16, .take = NULL},
    [QD_FORMAT_Q5_0] = {0, 1, 0, 0, 2, 20, .fifth = true},
    [QD_FORMAT_Q5_1] = {0, 2, 0, 0, 4, 20, .fifth = true},
    [QD_FORMAT_IQ4_NL] = {0, 1, 0, 0, 2, 16, .take = NULL},
    [QD_FORMAT_MXFP4] = {0, 0, 0, 1, 1, 16, .take = NULL},
    [QD_FORMAT_Q2_K] = {80, 2, 0, 16, 16, 64, .take = NULL},
    [QD_FORMAT_Q3_K] = {108, 1, 96, 16, 0, 96, .take = take_q3_k},
    [QD_FORMAT_Q4_K] = {0, 2, 4, 16, 16, 128, .take = take_q4_k},
    [QD_FORMAT_Q5_K] = {0, 2, 4, 16, 16, 160, .take = take_q4_k},
    [QD_FORMAT_Q6_K] = {208, 1, 192, 16, 0, 192, .take = NULL},
    [QD_FORMAT_IQ4_XS] = {0, 1, 2, 8, 8, 128, .take = take_iq4_xs},
    [QD_FORMAT_TQ2_0] = {64, 1, 0, 0, 0, 64, .take = NULL},
};

/* Bits of integer codes, which have no blocks and no scales, and any K; 0: the format is none of these. */
static int code_bits(qd_format f) {
    const qd_format_info *info = qd_format_get(f);
    const int bits = info->kind == QD_KIND_INTEGER ? 8 * info->bytes / info->block : 0;
    return bits <= 8 ? bits : 0;
}

int64_t qd_layout_rows(qd_layout layout) {
    return layout == QD_LAYOUT_TILE16 ? 16 : layout == QD_LAYOUT_WORDS4 ? 4 : 1;
}

size_t qd_layout_bytes(qd_layout layout, qd_format f, int64_t rows, int64_t K) {
    if (layout == QD_LAYOUT_ROWS) return (size_t)rows * qd_format_row_bytes(f, K);
    const block_parts *p = &parts_of[f];
    const int block = qd_format_get(f)->block;
    if (layout == QD_LAYOUT_WORDS4) { /* whole words of 16 bytes */
        if (block != 32 || p->numbers || p->code_bytes % 16) return 0;
        const size_t tile = 4 * (size_t)(K / 32) * (size_t)(p->code_bytes + 2 * p->halves);
        return (size_t)((rows + 3) / 4) * ((tile + 15) / 16 * 16);
    }
    const size_t tiles = (size_t)((rows + 15) / 16);
    if (code_bits(f)) return tiles * 64 * (size_t)((K * code_bits(f) + 31) / 32 + 1);
    return tiles * 16 * (size_t)(K / block) * (size_t)(2 * p->halves + p->numbers + p->code_bytes);
}

/* A tile of codes of 4 or 2 bits: words of a row's next codes, of 16 rows, the first four in the lowest bits of the
 * word's bytes; then the sum of each row. Codes become unsigned by `flip`; what fills up rows and words is 0. */
static void pack_words_of_codes(const unsigned char *src, int rows, int64_t K, int bits, unsigned char flip,
                                unsigned char *dst) {
    const int each = 8 / bits;
    const size_t row_bytes = (size_t)((K + each - 1) / each);
    int32_t sums[16] = {0};
    for (int64_t k = 0; k < K; k += 4 * each, dst += 64) {
        const int n = K - k < 4 * each ? (int)(K - k) : 4 * each;
        memset(dst, 0, 64);
        for (int r = 0; r < rows; r++) {
            for (int i = 0; i < n; i++) {
                const int byte = src[(size_t)r * row_bytes + (size_t)((k + i) / each)];
                const int code = (byte >> i % each * bits & ((1 << bits) - 1)) ^ flip;
                dst[4 * r + i % 4] |= (unsigned char)(code << i / 4 * bits);
                sums[r] += code;
            }
        }
    }
    memcpy(dst, sums, sizeof sums);
}

/* A tile of codes of 8 bits: groups of four of 16 rows, then the sum of each row. Codes become signed by `flip`; what
 * fills up rows and groups is 0. */
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

/* Exchanges the bits of x that `mask` selects with those `shift` above them. */
static uint32_t exchange(uint32_t x, uint32_t mask, int shift) {
    const uint32_t different = (x >> shift ^ x) & mask;
    return x ^ different ^ different << shift;
}

/* Bit 4j + i of 32 becomes bit j of byte i: of a bit's number, 4j + i, the two lowest binary digits become the two
 * highest, by four exchanges of digits. */
static void turn_bits(const unsigned char *in, unsigned char *out) {
    uint32_t x = in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
    x = exchange(x, 0x0000cccc, 14);
    x = exchange(x, 0x00aa00aa, 7);
    x = exchange(x, 0x0c0c0c0c, 2);
    x = exchange(x, 0x22222222, 1);
    for (int i = 0; i < 4; i++)
        out[i] = (unsigned char)(x >> 8 * i);
}

/* A tile: for each block each half of 16 rows, then each number, then their codes in groups of four bytes. */
static void pack_tile(qd_format f, const unsigned char *src, int rows, int64_t blocks, unsigned char *dst) {
    const block_parts *p = &parts_of[f];
    const size_t block_bytes = (size_t)qd_format_get(f)->bytes, row_bytes = (size_t)blocks * block_bytes;
    const size_t tile_bytes = 16 * (size_t)(2 * p->halves + p->numbers + p->code_bytes);
    memset(dst, 0, (size_t)blocks * tile_bytes);
    for (int64_t b = 0; b < blocks; b++, src += block_bytes) {
        for (int r = 0; r < rows; r++) {
            const unsigned char *block = src + (size_t)r * row_bytes;
            unsigned char *to = dst, numbers[MOST_NUMBERS];
            for (int h = 0; h < p->halves; h++, to += 32)
                memcpy(to + 2 * r, block + p->half_at + 2 * h, 2);
            if (p->take) {
                p->take(block + p->number_at, numbers);
            } else {
                memcpy(numbers, block + p->number_at, (size_t)p->numbers);
            }
            for (int g = 0; g < p->numbers; g++, to += 16)
                to[r] = numbers[g];
            if (p->fifth) turn_bits(block + p->code_at, to + 4 * r);
            for (int c = p->fifth ? 4 : 0; c < p->code_bytes; c += 4) {
                for (int i = 0; i < 4; i++)
                    to[16 * c + 4 * r + i] = block[p->code_at + c + i] ^ p->flip;
            }
        }
        dst += tile_bytes;
    }
}

/* A tile of words: the codes of 4 rows block by block, 16 bytes of each at a time, then their scales. */
static void pack_words(qd_format f, const unsigned char *src, int rows, int64_t blocks, unsigned char *dst,
                       size_t tile_bytes) {
    const block_parts *p = &parts_of[f];
    const int64_t bytes = qd_format_get(f)->bytes;
    const size_t row_bytes = (size_t)(blocks * bytes), scale_bytes = 2 * (size_t)p->halves;
    memset(dst, 0, tile_bytes);
    for (int at = 0; at < p->code_bytes; at += 16) {
        for (int64_t i = 0; i < 4 * blocks; i++, dst += 16) {
            if (i % 4 < rows) memcpy(dst, src + (size_t)(i % 4) * row_bytes + i / 4 * bytes + p->code_at + at, 16);
        }
    }
    for (int64_t i = 0; i < 4 * blocks; i++, dst += scale_bytes) {
        if (i % 4 < rows) memcpy(dst, src + (size_t)(i % 4) * row_bytes + i / 4 * bytes + p->half_at, scale_bytes);
    }
}

void qd_layout_pack(qd_layout layout, qd_format f, const void *src, int64_t rows, int64_t K, void *dst) {
    if (layout == QD_LAYOUT_ROWS) {
        memcpy(dst, src, qd_layout_bytes(layout, f, rows, K));
        return;
    }
    const int64_t together = qd_layout_rows(layout);
    const int bits = code_bits(f);
    const bool is_signed = f == QD_FORMAT_I8 || f == QD_FORMAT_I4 || f == QD_FORMAT_I2;
    const size_t tile_bytes = qd_layout_bytes(layout, f, together, K), row_bytes = qd_format_row_bytes(f, K);
    for (int64_t r = 0; r < rows; r += together) {
        const unsigned char *from = (const unsigned char *)src + (size_t)r * row_bytes;
        unsigned char *to = (unsigned char *)dst + (size_t)(r / together) * tile_bytes;
        const int n = (int)(rows - r < together ? rows - r : together);
        if (layout == QD_LAYOUT_WORDS4) {
            pack_words(f, from, n, K / 32, to, tile_bytes);
        } else if (bits == 8) {
            pack_codes(from, n, K, is_signed ? 0 : 0x80, to);
        } else if (bits) {
            pack_words_of_codes(from, n, K, bits, (unsigned char)(is_signed ? 1 << (bits - 1) : 0), to);
        } else {
            pack_tile(f, from, n, K / qd_format_get(f)->block, to);
        }
    }
}
