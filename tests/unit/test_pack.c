/* Device layouts of weights: where each byte of a matrix must lie in WORDS4, by the index map of
 * kernels_cl/gpu/words4.h.
 */
#include "formats/pack.h"
#include "unit/devices.h"

typedef struct parts {
    qd_format format;
    size_t block, code_at, codes, scale_at, scales; /* bytes: of a block, where its codes and scales begin, how many */
} parts;

static const parts formats[] = {
    {QD_FORMAT_Q4_0, 18, 2, 16, 0, 2}, {QD_FORMAT_Q4_1, 20, 4, 16, 0, 4}, {QD_FORMAT_Q8_0, 34, 2, 32, 0, 2}};
enum { FORMATS = sizeof formats / sizeof formats[0], MOST_ROWS = 9, MOST_BLOCKS = 5, MOST = MOST_ROWS * MOST_BLOCKS };

/* Byte `at` of block b in row r, in the packed matrix. */
static size_t place_of(const parts *f, size_t tile_bytes, size_t blocks, size_t r, size_t b, size_t at) {
    const size_t tile = r / 4 * tile_bytes, word = 4 * b + r % 4;
    if (at < f->code_at) return tile + 4 * blocks * f->codes + word * f->scales + (at - f->scale_at);
    const size_t half = (at - f->code_at) / 16;
    return tile + (half * 4 * blocks + word) * 16 + (at - f->code_at) % 16;
}

START_TEST(test_words4) {
    static unsigned char src[MOST * 34], dst[MOST * 34 * 4 + 64], want[sizeof dst];
    const parts *f = &formats[_i];
    uint32_t rng = 17;
    for (size_t rows = 1; rows <= MOST_ROWS; rows++) {
        for (size_t blocks = 1; blocks <= MOST_BLOCKS; blocks++) {
            const size_t used = 4 * blocks * (f->codes + f->scales), tile_bytes = (used + 15) / 16 * 16;
            const size_t bytes = (rows + 3) / 4 * tile_bytes;
            memset(want, 0, bytes);
            memset(want + bytes, 0x5a, 64);
            memset(dst, 0x5a, bytes + 64);
            for (size_t i = 0; i < rows * blocks * f->block; i++) {
                src[i] = (unsigned char)random_between(&rng, 1, 255);
                const size_t block = i / f->block;
                want[place_of(f, tile_bytes, blocks, block / blocks, block % blocks, i % f->block)] = src[i];
            }
            ck_assert_uint_eq(qd_layout_bytes(QD_LAYOUT_WORDS4, f->format, (int64_t)rows, (int64_t)blocks * 32), bytes);
            qd_layout_pack(QD_LAYOUT_WORDS4, f->format, src, (int64_t)rows, (int64_t)blocks * 32, dst);
            ck_assert_mem_eq(dst, want, bytes + 64);
        }
    }
}
END_TEST

START_TEST(test_what_it_takes) {
    ck_assert_int_eq(qd_layout_rows(QD_LAYOUT_WORDS4), 4);
    ck_assert_uint_eq(qd_layout_bytes(QD_LAYOUT_WORDS4, QD_FORMAT_I8, 4, 64), 0);
    ck_assert_uint_eq(qd_layout_bytes(QD_LAYOUT_WORDS4, QD_FORMAT_Q5_0, 4, 64), 0);
    ck_assert_uint_eq(qd_layout_bytes(QD_LAYOUT_WORDS4, QD_FORMAT_Q4_0, 0, 64), 0);
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("pack");
    tcase_add_loop_test(tc, test_words4, 0, FORMATS);
    tcase_add_test(tc, test_what_it_takes);
    return run_tests(tc, "device layouts");
}
