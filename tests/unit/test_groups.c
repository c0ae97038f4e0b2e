/* Codes in groups: qd_quantize_groups against answers by hand, and what it refuses. */
#include <float.h>
#include <math.h>

#include "unit/devices.h"

/* ---- Answers by hand ---------------------------------------------------------------------------------------- */

enum { MOST = 8 };

/* One row of `n` values in groups of `group`. */
static const struct answer {
    const char *what;
    qd_format format;
    bool symmetric;
    int64_t group, n;
    float x[MOST], scales[MOST];
    int32_t zeros[MOST];
    uint8_t codes[MOST]; /* one in each */
} answers[] = {
    /* Zero point 6.5, codes 0.5, 6.5, 7.5, 15.5: halves go away from zero, not to even numbers. */
    {"halves", QD_FORMAT_U4, false, 0, 4, {-6.5f, -0.5f, 0.5f, 8.5f}, {1}, {7}, {1, 7, 8, 15}},
    {"halves of 2 bits", QD_FORMAT_U2, false, 0, 4, {-0.5f, 0.5f, 1, 2.5f}, {1}, {1}, {1, 2, 2, 3}},
    {"halves of 8 bits", QD_FORMAT_U8, false, 0, 4, {-2.5f, -1.5f, 9.5f, 252.5f}, {1}, {3}, {1, 2, 13, 255}},
    {"halves below zero", QD_FORMAT_U4, false, 0, 3, {-15, -14.5f, -0.5f}, {1}, {15}, {0, 1, 15}},
    /* The range has zero in it. */
    {"above zero", QD_FORMAT_U4, false, 0, 3, {30, 4, 3}, {2}, {0}, {15, 2, 2}},
    {"below zero", QD_FORMAT_U4, false, 0, 3, {-30, -4, -3}, {2}, {15}, {0, 13, 14}},
    {"one value", QD_FORMAT_U8, false, 0, 1, {510}, {2}, {0}, {255}},
    {"zeros", QD_FORMAT_U4, false, 0, 3, {0, -0.0f, 0}, {0}, {0}, {0, 0, 0}},
    /* 20.5 / 41 is a half; 20.5 times the reciprocal of 41 is a little less. */
    {"the reciprocal", QD_FORMAT_U4, false, 0, 3, {0, 615, 20.5f}, {41}, {0}, {0, 15, 0}},

    /* The value of largest magnitude is code 0, whatever its sign; of two the negative one, as ONNX Runtime has it. */
    {"a negative one", QD_FORMAT_U4, true, 0, 4, {-8, 4, 0.5f, -1.5f}, {1}, {8}, {0, 12, 9, 7}},
    {"a positive one", QD_FORMAT_U4, true, 0, 4, {8, -4, 0.5f, -7.5f}, {-1}, {8}, {0, 12, 8, 15}},
    {"equal magnitudes", QD_FORMAT_U4, true, 0, 2, {-8, 8}, {1}, {8}, {0, 15}},
    {"and the other way round", QD_FORMAT_U4, true, 0, 2, {8, -8}, {1}, {8}, {15, 0}},
    {"2 bits", QD_FORMAT_U2, true, 0, 4, {-4, 4, 2, -1}, {2}, {2}, {0, 3, 3, 2}},
    {"8 bits", QD_FORMAT_U8, true, 0, 3, {-256, 2, 255}, {2}, {128}, {0, 129, 255}},
    {"all negative", QD_FORMAT_U4, true, 0, 2, {-16, -1}, {2}, {8}, {0, 8}}, /* 7.5 */
    {"symmetric zeros", QD_FORMAT_U4, true, 0, 2, {0, 0}, {0}, {8}, {8, 8}},

    /* Groups: each for itself, the last one short; more than there are columns is the whole row. */
    {"groups", QD_FORMAT_U4, false, 2, 5, {15, 1, 0, 0, -30}, {1, 0, 2}, {0, 0, 15}, {15, 1, 0, 0, 0}},
    {"symmetric groups", QD_FORMAT_U4, true, 3, 5, {-8, 0, 4, 16, 2}, {1, -2}, {8, 8}, {0, 8, 12, 0, 7}},
    {"groups of one", QD_FORMAT_U2, false, 1, 3, {3, -3, 0}, {1, 1, 0}, {0, 3, 0}, {3, 0, 0}},
    {"a group that fits", QD_FORMAT_U8, false, 3, 3, {255, 1, 2}, {1}, {0}, {255, 1, 2}},
    {"a group too long", QD_FORMAT_U8, false, 100, 3, {255, 1, 2}, {1}, {0}, {255, 1, 2}},
    {"a group far too long", QD_FORMAT_U8, true, INT64_MAX, 2, {-128, 1}, {1}, {128}, {0, 129}},

    /* Ends of what floats hold. The range of the second one, 6e38, is no float. */
    {"a scale of 0", QD_FORMAT_U4, false, 0, 2, {0x1p-149f, 0}, {0}, {0}, {0, 0}},
    {"no reciprocal", QD_FORMAT_U4, false, 0, 3, {15 * 0x1p-140f, 0, 0x1p-140f}, {0x1p-140f}, {0}, {0, 0, 0}},
    {"symmetric without", QD_FORMAT_U4, true, 0, 3, {-0x1p-137f, 0, 0x1p-140f}, {0x1p-140f}, {8}, {8, 8, 8}},
    {"a wide range", QD_FORMAT_U4, false, 0, 3, {-7.5f * 0x1p125f, 0, 7.5f * 0x1p125f}, {0x1p125f}, {8}, {1, 8, 15}},
    {"large ones", QD_FORMAT_U4, true, 0, 3, {-0x1p127f, 0, 0x1p126f}, {0x1p124f}, {8}, {0, 8, 12}},
};
enum { ANSWERS = sizeof answers / sizeof answers[0] };

static int bits_of(qd_format f) {
    return f == QD_FORMAT_U2 ? 2 : f == QD_FORMAT_U4 ? 4 : 8;
}

/* Three equal rows: packed codes of a row start at a byte, the first in the low bits, and unused bits are 0. */
START_TEST(test_answers) {
    enum { ROWS = 3, NOISE = 0x5a };
    const struct answer *a = &answers[_i];
    const int bits = bits_of(a->format);
    const size_t row = ((size_t)a->n * (size_t)bits + 7) / 8;
    const int64_t each = a->group && a->group < a->n ? a->group : a->n, groups = (a->n + each - 1) / each;
    float x[ROWS * MOST], scales[ROWS * MOST + 1];
    int32_t zeros[ROWS * MOST + 1];
    unsigned char codes[ROWS * MOST + 1];
    memset(scales, NOISE, sizeof scales);
    memset(zeros, NOISE, sizeof zeros);
    memset(codes, NOISE, sizeof codes);
    for (int64_t i = 0; i < ROWS * a->n; i++)
        x[i] = a->x[i % a->n];
    ck_ok(qd_quantize_groups(a->format, a->symmetric, a->group, x, ROWS, a->n, codes, scales, zeros));
    for (int64_t r = 0; r < ROWS; r++) {
        for (int64_t g = 0; g < groups; g++) {
            const int64_t at = r * groups + g;
            ck_assert_msg(scales[at] == a->scales[g], "%s: scale %d is %g", a->what, (int)g, (double)scales[at]);
            ck_assert_msg(zeros[at] == a->zeros[g], "%s: zero point %d is %d", a->what, (int)g, zeros[at]);
        }
        unsigned char want[MOST] = {0};
        for (int64_t i = 0; i < a->n; i++)
            want[i * bits / 8] |= (unsigned char)(a->codes[i] << i * bits % 8);
        for (size_t i = 0; i < row; i++) {
            const unsigned char got = codes[(size_t)r * row + i];
            ck_assert_msg(got == want[i], "%s: row %d, byte %zu is %02x, not %02x", a->what, (int)r, i, got, want[i]);
        }
    }
    unsigned char noise[sizeof scales];
    memset(noise, NOISE, sizeof noise);
    ck_assert_mem_eq(codes + ROWS * row, noise, sizeof codes - ROWS * row);
    ck_assert_mem_eq(scales + ROWS * groups, noise, sizeof scales - (size_t)(ROWS * groups) * sizeof *scales);
    ck_assert_mem_eq(zeros + ROWS * groups, noise, sizeof zeros - (size_t)(ROWS * groups) * sizeof *zeros);
}
END_TEST

/* Scale · (code - zero point) is at most half a step away, also at both ends of the range. */
START_TEST(test_error) {
    enum { COLS = 103, GROUP = 16, GROUPS = (COLS + GROUP - 1) / GROUP };
    static const qd_format formats[] = {QD_FORMAT_U2, QD_FORMAT_U4, QD_FORMAT_U8};
    uint32_t rng = 17;
    for (int round = 0; round < 300; round++) {
        const qd_format f = formats[round % 3];
        const int bits = bits_of(f);
        float x[COLS], scales[GROUPS], worst = 0;
        int32_t zeros[GROUPS];
        unsigned char codes[COLS];
        random_floats(&rng, x, COLS);
        const float factor = ldexpf((float)random_between(&rng, 1, 999), (int)random_between(&rng, -100, 90));
        for (int i = 0; i < COLS; i++)
            x[i] *= factor;
        ck_ok(qd_quantize_groups(f, false, GROUP, x, 1, COLS, codes, scales, zeros));
        for (int i = 0; i < COLS; i++) {
            const int code = codes[i * bits / 8] >> i * bits % 8 & ((1 << bits) - 1);
            const float scale = scales[i / GROUP], y = scale * (float)(code - zeros[i / GROUP]);
            worst = fmaxf(worst, fabsf(x[i] - y) / scale);
        }
        ck_assert_msg(worst < 0.5001f && worst > 0.1f, "round %d: %g steps", round, (double)worst);
    }
}
END_TEST

/* ---- What is refused ---------------------------------------------------------------------------------------- */

START_TEST(test_refused) {
    float x[4] = {1, 2, 3, 4}, scales[4];
    int32_t zeros[4];
    unsigned char codes[4], noise[16];
    memset(noise, 0x5a, sizeof noise);
    memcpy(scales, noise, sizeof scales);
    memcpy(zeros, noise, sizeof zeros);
    memcpy(codes, noise, sizeof codes);
    static const qd_format formats[] = {QD_FORMAT_I8,  QD_FORMAT_I4,   QD_FORMAT_I2,    QD_FORMAT_U16,
                                        QD_FORMAT_F32, QD_FORMAT_Q4_0, QD_FORMAT_COUNT, (qd_format)-1};
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        ck_fails(qd_quantize_groups(formats[i], false, 2, x, 2, 2, codes, scales, zeros), QD_ERR_UNSUPPORTED,
                 "u2, u4 or u8");
    static const int64_t sizes[][3] = {{-1, 2, 2},        {2, -2, 2},        {2, 0, 2},
                                       {0, 0, 2},         {2, 2, -1},        {2, 2, INT64_MIN},
                                       {INT64_MAX, 2, 2}, {2, INT64_MAX, 2}, {INT64_MAX / 8, 3, 2}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        ck_fails(
            qd_quantize_groups(QD_FORMAT_U4, false, sizes[i][2], x, sizes[i][0], sizes[i][1], codes, scales, zeros),
            QD_ERR_ARGUMENT, "rows of");
    ck_fails(qd_quantize_groups(QD_FORMAT_U4, false, 2, NULL, 2, 2, codes, scales, zeros), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_quantize_groups(QD_FORMAT_U4, false, 2, x, 2, 2, NULL, scales, zeros), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_quantize_groups(QD_FORMAT_U4, false, 2, x, 2, 2, codes, NULL, zeros), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_quantize_groups(QD_FORMAT_U4, false, 2, x, 2, 2, codes, scales, NULL), QD_ERR_ARGUMENT, "NULL");
    static const float not_finite[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        x[3] = not_finite[i];
        ck_fails(qd_quantize_groups(QD_FORMAT_U4, i == 1, 2, x, 2, 2, codes, scales, zeros), QD_ERR_ARGUMENT,
                 "row 1, column 1 is not finite");
    }
    ck_assert_mem_eq(scales, noise, sizeof scales);
    ck_assert_mem_eq(zeros, noise, sizeof zeros);
    ck_assert_mem_eq(codes, noise, sizeof codes);
    ck_ok(qd_quantize_groups(QD_FORMAT_U4, false, 2, NULL, 0, 2, NULL, NULL, NULL)); /* no rows, no memory */
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("groups");
    tcase_add_loop_test(tc, test_answers, 0, ANSWERS);
    tcase_add_test(tc, test_error);
    tcase_add_test(tc, test_refused);
    return run_tests(tc, "groups");
}
