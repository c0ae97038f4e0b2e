/* Tiles of 16 rows of blocked weights: read by what x86/tile16.h says of them, they have the codes and scales that
 * dequantizing has, of every format that has tiles; rows that are not there are zeros. And tiles of integer codes: see
 * x86/gemm_int.h. */
#include <math.h>

#include "formats/formats.h"
#include "formats/pack.h"
#include "qdot/qdot_blocks.h"
#include "qdot/qdot_num.h"
#include "unit/devices.h"

enum { ROWS = 21, K = 512 };

static const struct tile_format {
    qd_format format;
    int halves, numbers, groups, offset;
} tile_formats[] = {
    {QD_FORMAT_Q8_0, 1, 0, 8, 128},  {QD_FORMAT_Q4_0, 1, 0, 4, 8},   {QD_FORMAT_Q4_1, 2, 0, 4, 0},
    {QD_FORMAT_Q5_0, 1, 0, 5, 16},   {QD_FORMAT_Q5_1, 2, 0, 5, 0},   {QD_FORMAT_IQ4_NL, 1, 0, 4, 0},
    {QD_FORMAT_MXFP4, 0, 1, 4, 0},   {QD_FORMAT_Q2_K, 2, 16, 16, 0}, {QD_FORMAT_Q3_K, 1, 16, 24, 4},
    {QD_FORMAT_Q4_K, 2, 16, 32, 0},  {QD_FORMAT_Q5_K, 2, 16, 40, 0}, {QD_FORMAT_Q6_K, 1, 16, 48, 32},
    {QD_FORMAT_IQ4_XS, 1, 8, 32, 0}, {QD_FORMAT_TQ2_0, 1, 0, 16, 1},
};
enum { TILE_FORMATS = sizeof tile_formats / sizeof tile_formats[0] };

/* A row of a block in a tile. */
typedef struct tile_row {
    const unsigned char *halves, *numbers, *codes;
} tile_row;

static float half_of(const tile_row *t, int h) {
    return qd_half_to_float((qd_u16)(t->halves[32 * h] | t->halves[32 * h + 1] << 8));
}

static int bits_of(const tile_row *t, int group, int i, int shift, int bits) {
    return t->codes[64 * group + i] >> shift & ((1 << bits) - 1);
}

/* Code of element e of a block, before the offset is taken. */
static int code_of(qd_format f, const tile_row *t, int e) {
    static const int iq4[] = {QD_IQ4_VALUES}, e2m1[] = {QD_E2M1_DOUBLED};
    const int i = e % 4, u = e / 32, j = e % 32 / 4, half = e % 32 / 16;
    const int nibble = bits_of(t, j % 4 + (f == QD_FORMAT_IQ4_XS ? 4 * u : 0), i, 4 * half, 4);
    switch (f) {
        case QD_FORMAT_Q8_0:
            return bits_of(t, j, i, 0, 8);
        case QD_FORMAT_Q5_0:
        case QD_FORMAT_Q5_1:
            return bits_of(t, 1 + j % 4, i, 4 * half, 4) + 16 * bits_of(t, 0, i, j, 1);
        case QD_FORMAT_IQ4_NL:
        case QD_FORMAT_IQ4_XS:
            return iq4[nibble];
        case QD_FORMAT_MXFP4:
            return e2m1[nibble];
        case QD_FORMAT_Q2_K:
        case QD_FORMAT_TQ2_0:
            return bits_of(t, u / 4 * 8 + j, i, u % 4 * 2, 2);
        case QD_FORMAT_Q3_K:
            return bits_of(t, 8 + u / 4 * 8 + j, i, u % 4 * 2, 2) + 4 * bits_of(t, j, i, u, 1);
        case QD_FORMAT_Q4_K:
            return bits_of(t, u / 2 * 8 + j, i, u % 2 * 4, 4);
        case QD_FORMAT_Q5_K:
            return bits_of(t, 8 + u / 2 * 8 + j, i, u % 2 * 4, 4) + 16 * bits_of(t, j, i, u, 1);
        case QD_FORMAT_Q6_K:
            return bits_of(t, u / 4 * 16 + u % 2 * 8 + j, i, u % 4 / 2 * 4, 4) +
                   16 * bits_of(t, 32 + u / 4 * 8 + j, i, u % 4 * 2, 2);
        default:
            return nibble;
    }
}

/* Scale and offset of sixteen elements, g being their number in the block. */
static void scales_of(qd_format f, const tile_row *t, int g, float *scale, float *offset) {
    const unsigned char *n = t->numbers;
    *scale = f == QD_FORMAT_MXFP4 ? ldexpf(1.0f, n[0] - 128) : half_of(t, 0);
    *offset = 0;
    switch (f) {
        case QD_FORMAT_Q4_1:
        case QD_FORMAT_Q5_1:
            *offset = half_of(t, 1);
            break;
        case QD_FORMAT_Q2_K:
            *scale *= (float)(n[16 * g] & 15);
            *offset = -(half_of(t, 1) * (float)(n[16 * g] >> 4));
            break;
        case QD_FORMAT_Q3_K:
        case QD_FORMAT_Q6_K:
            *scale *= (float)(signed char)n[16 * g];
            break;
        case QD_FORMAT_Q4_K:
        case QD_FORMAT_Q5_K:
            *scale *= (float)n[16 * (g / 2)];
            *offset = -(half_of(t, 1) * (float)n[16 * (8 + g / 2)]);
            break;
        case QD_FORMAT_IQ4_XS:
            *scale *= (float)(signed char)n[16 * (g / 2)];
            break;
        default:
            break;
    }
}

START_TEST(test_tiles) {
    const struct tile_format *x = &tile_formats[_i];
    const qd_format_info *info = qd_format_get(x->format);
    const int blocks = K / info->block;
    const size_t row_bytes = qd_format_row_bytes(x->format, K);
    const size_t numbers_at = 32 * (size_t)x->halves, codes_at = numbers_at + 16 * (size_t)x->numbers;
    const size_t block_bytes = codes_at + 64 * (size_t)x->groups, tile_bytes = block_bytes * (size_t)blocks;
    unsigned char *file = malloc(ROWS * row_bytes), *tiles = malloc(2 * tile_bytes + 1);
    ck_assert(file && tiles);
    ck_assert_uint_eq(qd_layout_bytes(QD_LAYOUT_TILE16, x->format, ROWS, K), 2 * tile_bytes);
    uint32_t rng = 7;
    for (size_t i = 0; i < ROWS * row_bytes; i++)
        file[i] = (unsigned char)random_between(&rng, 0, 255);
    tiles[2 * tile_bytes] = 0x5a;
    qd_layout_pack(QD_LAYOUT_TILE16, x->format, file, ROWS, K, tiles);
    ck_assert_uint_eq(tiles[2 * tile_bytes], 0x5a);
    for (int r = 0; r < 32; r++) {
        for (int b = 0; b < blocks; b++) {
            const unsigned char *at = tiles + (size_t)(r / 16) * tile_bytes + (size_t)b * block_bytes;
            const tile_row t = {at + r % 16 * 2, at + numbers_at + r % 16, at + codes_at + r % 16 * 4};
            for (int c = 0; c < 64 * x->groups && r >= ROWS; c += c % 4 == 3 ? 61 : 1)
                ck_assert_uint_eq(t.codes[c], 0);
            for (int g = 0; g < info->block / 16; g++) {
                union {
                    qd_block_q6_k aligned;
                    unsigned char bytes[210];
                } block = {.bytes = {0}};
                float scale, offset;
                qd_sixteen want;
                if (r < ROWS)
                    memcpy(block.bytes, file + (size_t)r * row_bytes + (size_t)(b * info->bytes), (size_t)info->bytes);
                scales_of(x->format, &t, g, &scale, &offset);
                if (r >= ROWS) {
                    ck_assert(x->halves == 0 || (scale == 0 && offset == 0));
                    continue;
                }
                qd_codec_get(x->format)->sixteen(block.bytes, g, &want);
                /* NaN, too, has the same bytes. */
                ck_assert_msg(!memcmp(&scale, &want.scale, sizeof scale), "%s: scale %d of row %d", info->name, g, r);
                ck_assert_msg(!want.has_offset || !memcmp(&offset, &want.offset, sizeof offset),
                              "%s: offset %d of row %d", info->name, g, r);
                for (int e = 0; e < 16; e++)
                    ck_assert_msg(code_of(x->format, &t, 16 * g + e) - x->offset == want.code[e],
                                  "%s: code %d of row %d", info->name, 16 * g + e, r);
            }
        }
    }
    free(file);
    free(tiles);
}
END_TEST

/* Integer codes, of 37 in a row: words hold a row's next codes, the first four in the lowest bits of their bytes, and
 * behind them is the sum of what is stored. Codes of 8 bits are stored signed, others unsigned, half their range more
 * where they are signed; what fills up is 0. */
static const struct {
    qd_format format;
    int bits, least;
} code_formats[] = {{QD_FORMAT_I8, 8, -128}, {QD_FORMAT_U8, 8, 0},  {QD_FORMAT_I4, 4, -8},
                    {QD_FORMAT_U4, 4, 0},    {QD_FORMAT_I2, 2, -2}, {QD_FORMAT_U2, 2, 0}};
enum { CODE_FORMATS = sizeof code_formats / sizeof code_formats[0] };

START_TEST(test_codes) {
    enum { CODES = 37 };
    const int bits = code_formats[_i].bits, each = 32 / bits, words = (CODES + each - 1) / each;
    const int levels = 1 << bits, least = code_formats[_i].least;
    const size_t row_bytes = qd_format_row_bytes(code_formats[_i].format, CODES), tile_bytes = 64 * ((size_t)words + 1);
    unsigned char *file = calloc(ROWS, row_bytes), *tiles = malloc(2 * tile_bytes + 1);
    int codes[32][CODES] = {{0}};
    uint32_t rng = 7;
    ck_assert(file && tiles);
    ck_assert_uint_eq(qd_layout_bytes(QD_LAYOUT_TILE16, code_formats[_i].format, ROWS, CODES), 2 * tile_bytes);
    for (int r = 0; r < ROWS; r++) {
        for (int k = 0; k < CODES; k++) {
            codes[r][k] = (int)random_between(&rng, least, least + levels - 1);
            file[(size_t)r * row_bytes + (size_t)(k * bits / 8)] |=
                (unsigned char)((codes[r][k] & (levels - 1)) << k * bits % 8);
        }
    }
    tiles[2 * tile_bytes] = 0x5a;
    qd_layout_pack(QD_LAYOUT_TILE16, code_formats[_i].format, file, ROWS, CODES, tiles);
    ck_assert_uint_eq(tiles[2 * tile_bytes], 0x5a);
    for (int r = 0; r < 32; r++) {
        const unsigned char *row = tiles + (size_t)(r / 16) * tile_bytes + r % 16 * 4;
        int32_t sum, want_sum = 0;
        for (int k = 0; k < words * each; k++) {
            const int in_word = k % each,
                      stored = row[64 * (k / each) + in_word % 4] >> in_word / 4 * bits & (levels - 1);
            const int there = r < ROWS && k < CODES ? codes[r][k] - least - (bits == 8 ? 128 : 0) : 0;
            ck_assert_msg(stored == (there & (levels - 1)), "%d bits: code %d of row %d", bits, k, r);
            want_sum += there;
        }
        memcpy(&sum, row + 64 * words, sizeof sum);
        ck_assert_int_eq(sum, want_sum);
    }
    free(file);
    free(tiles);
}
END_TEST

/* Others have none. */
START_TEST(test_no_tiles) {
    ck_assert_uint_eq(qd_layout_bytes(QD_LAYOUT_TILE16, QD_FORMAT_F16, 16, 256), 0);
    ck_assert_uint_eq(qd_layout_bytes(QD_LAYOUT_TILE16, QD_FORMAT_TQ1_0, 16, 256), 0);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("tiles");
    tcase_add_loop_test(tc, test_tiles, 0, TILE_FORMATS);
    tcase_add_loop_test(tc, test_codes, 0, CODE_FORMATS);
    tcase_add_test(tc, test_no_tiles);
    return run_tests(tc, "tiles");
}
