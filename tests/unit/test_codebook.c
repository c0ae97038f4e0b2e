/* Codebooks: their tables, the nearest value, blocks with scales, double quantization, the layouts of bitsandbytes. */
#include <float.h>
#include <math.h>

#include "qdot/qdot_codebook.h"
#include "qdot/qdot_num.h"
#include "unit/devices.h"

/* ---- Tables ------------------------------------------------------------------------------------------------- */

static const struct named {
    const char *name;
    int bits, count, choices;
    qd_codebook_scale scale;
    float peak;
} books[] = {
    {"nf4", 4, 16, 16, QD_SCALE_ABSMAX, 1},
    {"fp4", 4, 16, 15, QD_SCALE_ABSMAX, 1},
    {"fp4_e2m1", 4, 16, 15, QD_SCALE_ABSMAX, 6},
    {"fp4_e3m0", 4, 16, 15, QD_SCALE_ABSMAX, 16},
    {"fp8_e4m3", 8, 256, 253, QD_SCALE_ABSMAX, 448},
    {"fp8_e5m2", 8, 256, 247, QD_SCALE_ABSMAX, 57344},
    {"dynamic8", 8, 256, 256, QD_SCALE_ABSMAX, 1},
    {"int1", 1, 2, 2, QD_SCALE_FIT, 1},
    {"ternary", 2, 3, 3, QD_SCALE_FIT, 1},
    {"log3", 3, 8, 7, QD_SCALE_ABSMAX, 1},
    {"log8", 8, 256, 255, QD_SCALE_ABSMAX, 1},
    {"normal2", 2, 4, 4, QD_SCALE_RMS, 1.992464f},
    {"normal8", 8, 256, 256, QD_SCALE_RMS, 4.998066f},
};
enum { BOOKS = sizeof books / sizeof books[0] };

START_TEST(test_tables) {
    const struct named *n = &books[_i];
    qd_codebook b;
    ck_ok(qd_codebook_find(n->name, &b));
    ck_assert_int_eq(b.bits, n->bits);
    ck_assert_int_eq(b.count, n->count);
    ck_assert_int_eq(b.choices, n->choices);
    ck_assert_int_eq(b.scale, n->scale);
    ck_assert_msg(fabsf(b.peak - n->peak) <= 1e-6f * n->peak, "%s: peak %.9g", n->name, (double)b.peak);
    for (int i = 1; i < b.choices; i++)
        ck_assert(b.value[b.code[i - 1]] < b.value[b.code[i]]);
    /* Every value finds its own code, or that of an equal one. */
    for (int i = 0; i < b.count; i++) {
        if (isfinite(b.value[i])) ck_assert(b.value[qd_codebook_nearest(&b, b.value[i])] == b.value[i]);
    }
}
END_TEST

START_TEST(test_known_values) {
    qd_codebook b;
    ck_ok(qd_codebook_fixed(QD_CODEBOOK_FP4, &b));
    static const float twelfths[] = {0, 0.0625f, 8, 12, 4, 6, 2, 3};
    for (int i = 0; i < 8; i++) {
        ck_assert(b.value[i] == twelfths[i] / 12);
        ck_assert(b.value[8 + i] == -twelfths[i] / 12);
    }
    ck_ok(qd_codebook_fixed(QD_CODEBOOK_FP4_E3M0, &b));
    static const float powers[] = {0, 0.25f, 0.5f, 1, 2, 4, 8, 16};
    for (int i = 0; i < 8; i++)
        ck_assert(b.value[i] == powers[i] && b.value[8 + i] == -powers[i]);
    ck_ok(qd_codebook_fixed(QD_CODEBOOK_FP8_E4M3, &b));
    for (int i = 0; i < 256; i++) {
        const float v = qd_f8e4m3_to_float((uint8_t)i);
        ck_assert(isnan(v) ? isnan(b.value[i]) : b.value[i] == v);
    }
    ck_ok(qd_codebook_fixed(QD_CODEBOOK_FP8_E5M2, &b));
    for (int i = 0; i < 256; i++) {
        const float v = qd_f8e5m2_to_float((uint8_t)i);
        ck_assert(isnan(v) ? isnan(b.value[i]) : b.value[i] == v);
    }
    ck_ok(qd_codebook_log(3, &b));
    static const float log3[] = {0, 0.25f, 0.5f, 1, 0, -0.25f, -0.5f, -1};
    for (int i = 0; i < 8; i++)
        ck_assert(b.value[i] == log3[i]);
    /* As many normal values lie below √3 · level i as levels are below it, and half a one. */
    for (int bits = 2; bits <= 8; bits++) {
        ck_ok(qd_codebook_normal(bits, &b));
        for (int i = 0; i < b.count; i++) {
            const double below = 0.5 * erfc(-(double)b.value[i] / sqrt(6));
            ck_assert_double_eq_tol(below * b.count, i + 0.5, 1e-4);
            ck_assert(b.value[i] == -b.value[b.count - 1 - i]);
        }
    }
}
END_TEST

START_TEST(test_refused_books) {
    qd_codebook b;
    float v[257] = {0};
    ck_fails(qd_codebook_find("nf5", &b), QD_ERR_ARGUMENT, "nf4");
    ck_fails(qd_codebook_find("log2", &b), QD_ERR_ARGUMENT, "log3 ... log8");
    ck_fails(qd_codebook_find("normal9", &b), QD_ERR_ARGUMENT, "normal8");
    ck_fails(qd_codebook_find(NULL, &b), QD_ERR_ARGUMENT, "no codebook");
    ck_fails(qd_codebook_fixed(QD_CODEBOOK_COUNT, &b), QD_ERR_ARGUMENT, "does not exist");
    ck_fails(qd_codebook_fixed((qd_codebook_id)-1, &b), QD_ERR_ARGUMENT, "does not exist");
    ck_fails(qd_codebook_log(2, &b), QD_ERR_ARGUMENT, "3 to 8");
    ck_fails(qd_codebook_normal(1, &b), QD_ERR_ARGUMENT, "2 to 8");
    ck_fails(qd_codebook_make(0, v, 1, QD_SCALE_RMS, &b), QD_ERR_ARGUMENT, "1 to 8 bits");
    ck_fails(qd_codebook_make(9, v, 1, QD_SCALE_RMS, &b), QD_ERR_ARGUMENT, "1 to 8 bits");
    ck_fails(qd_codebook_make(2, v, 5, QD_SCALE_RMS, &b), QD_ERR_ARGUMENT, "5 values");
    ck_fails(qd_codebook_make(2, v, 0, QD_SCALE_RMS, &b), QD_ERR_ARGUMENT, "0 values");
    ck_fails(qd_codebook_make(2, NULL, 4, QD_SCALE_RMS, &b), QD_ERR_ARGUMENT, "codebook");
    ck_fails(qd_codebook_make(2, v, 4, (qd_codebook_scale)3, &b), QD_ERR_ARGUMENT, "codebook");
    v[0] = NAN;
    v[1] = INFINITY;
    ck_fails(qd_codebook_make(2, v, 2, QD_SCALE_RMS, &b), QD_ERR_ARGUMENT, "without a finite value");
}
END_TEST

/* ---- The nearest value -------------------------------------------------------------------------------------- */

/* Against a search through all values; exactly between two the lower one. */
START_TEST(test_nearest) {
    qd_codebook b;
    uint32_t rng = 5;
    ck_ok(qd_codebook_find(books[_i].name, &b));
    for (int round = 0; round < 4000; round++) {
        float x = ldexpf((float)random_between(&rng, -4096, 4096), (int)random_between(&rng, -24, -10)) * b.peak;
        if (round < b.choices - 1) x = b.midpoint[round];
        double least = INFINITY;
        float want = 0;
        for (int i = 0; i < b.choices; i++) { /* rising: an equal distance does not replace the lower one */
            const float v = b.value[b.code[i]];
            const double distance = fabs((double)v - (double)x);
            if (distance < least) {
                least = distance;
                want = v;
            }
        }
        const float got = b.value[qd_codebook_nearest(&b, x)];
        /* The f32 midpoint may be off by half a unit in its last place. */
        ck_assert_msg(got == want || fabs((double)got - (double)x) - least <= (double)fabsf(x) * 0x1p-23,
                      "%s: %.9g gives %.9g, not %.9g", books[_i].name, (double)x, (double)got, (double)want);
        uint8_t code;
        qd_codebook_encode(&b, &x, 1, 1, &code);
        ck_assert_int_eq(code, qd_codebook_nearest(&b, x));
    }
    ck_assert(b.value[qd_codebook_nearest(&b, FLT_MAX)] == b.value[b.code[b.choices - 1]]);
    ck_assert(b.value[qd_codebook_nearest(&b, -INFINITY)] == b.value[b.code[0]]);
    ck_assert(b.value[qd_codebook_nearest(&b, NAN)] == b.value[b.code[0]]);
}
END_TEST

START_TEST(test_ties_and_order) {
    static const float values[] = {4, 0, 2, 2, -8, NAN};
    qd_codebook b;
    ck_ok(qd_codebook_make(3, values, 6, QD_SCALE_ABSMAX, &b));
    ck_assert_int_eq(b.choices, 4); /* not NaN, and of equal ones the first */
    ck_assert_int_eq(qd_codebook_nearest(&b, 3), 2);
    ck_assert_int_eq(qd_codebook_nearest(&b, nextafterf(3, 4)), 0);
    ck_assert_int_eq(qd_codebook_nearest(&b, -4), 4);
    ck_assert_int_eq(qd_codebook_nearest(&b, nextafterf(-4, 0)), 1);
    static const uint8_t codes[] = {0, 3, 5, 6, 255};
    float y[5];
    qd_codebook_decode(&b, codes, 5, 0.5f, y);
    ck_assert(y[0] == 2 && y[1] == 1 && isnan(y[2]) && y[3] == 0 && y[4] == 0);
}
END_TEST

/* ---- Blocks ------------------------------------------------------------------------------------------------- */

START_TEST(test_block_rules) {
    qd_codebook b;
    uint8_t codes[6];
    float scales[3], y[6];
    /* Blocks of 4: the second is short. */
    static const float x[6] = {-2, 1, 0.1f, 0, 0.5f, -4};
    ck_ok(qd_codebook_fixed(QD_CODEBOOK_NF4, &b));
    ck_ok(qd_codebook_quantize(&b, 4, x, 6, codes, scales));
    ck_assert(scales[0] == 2 && scales[1] == 4);
    static const uint8_t want[] = {0, 12, 8, 7, 9, 0};
    ck_assert_mem_eq(codes, want, 6);
    ck_ok(qd_codebook_dequantize(&b, 4, codes, scales, 6, y));
    for (int i = 0; i < 6; i++)
        ck_assert(y[i] == b.value[codes[i]] * scales[i / 4]);
    /* A table whose largest value is 6: the scale is a sixth. */
    ck_ok(qd_codebook_fixed(QD_CODEBOOK_FP4_E2M1, &b));
    ck_ok(qd_codebook_quantize(&b, 0, x, 6, codes, scales));
    ck_assert(scales[0] == 4.0f / 6);
    /* One bit: the best scale is the mean magnitude. Ternary: the large ones count. */
    static const float z[4] = {-3, 1, 2, -2};
    ck_ok(qd_codebook_fixed(QD_CODEBOOK_INT1, &b));
    ck_ok(qd_codebook_quantize(&b, 0, z, 4, codes, scales));
    ck_assert(scales[0] == 2 && codes[0] == 0 && codes[1] == 1 && codes[2] == 1 && codes[3] == 0);
    static const float t[4] = {-3, 0.1f, 3.5f, -2.5f};
    ck_ok(qd_codebook_fixed(QD_CODEBOOK_TERNARY, &b));
    ck_ok(qd_codebook_quantize(&b, 0, t, 4, codes, scales));
    ck_assert(scales[0] == 3 && codes[0] == 0 && codes[1] == 1 && codes[2] == 2 && codes[3] == 0);
    /* The standard deviation. */
    static const float s[4] = {3, -3, 3, -3};
    ck_ok(qd_codebook_normal(2, &b));
    ck_ok(qd_codebook_quantize(&b, 0, s, 4, codes, scales));
    ck_assert(scales[0] == 3);
    /* Zeros, and values whose reciprocal overflows. */
    static const float small[4] = {0, -0.0f, 0x1p-140f, -0x1p-149f};
    ck_ok(qd_codebook_fixed(QD_CODEBOOK_NF4, &b));
    ck_ok(qd_codebook_quantize(&b, 2, small, 4, codes, scales));
    ck_assert(scales[0] == 0 && scales[1] == 0x1p-140f);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(codes[i], 7);
}
END_TEST

/* 0.75 · d times the reciprocal of d may be above 0.75, the midpoint; a short last block divides, which gives 0.75. */
START_TEST(test_reciprocal) {
    static const float values[] = {0.5f, 1};
    qd_codebook b;
    uint8_t codes[4];
    float scales[2];
    ck_ok(qd_codebook_make(1, values, 2, QD_SCALE_ABSMAX, &b));
    int differ = 0;
    for (int d = 3; d < 400; d += 2) {
        const float divisor = (float)d, x[] = {0.75f * divisor, divisor, 0.75f * divisor, divisor};
        ck_ok(qd_codebook_quantize(&b, 2, x, 4, codes, scales));
        ck_assert_int_eq(codes[0], 0.75f * divisor * (1 / divisor) > 0.75f);
        ck_assert_int_eq(codes[2], codes[0]);
        differ += codes[0];
        ck_ok(qd_codebook_quantize(&b, 3, x, 2, codes, scales));
        ck_assert_int_eq(codes[0], 0);
    }
    ck_assert_int_gt(differ, 0);
}
END_TEST

/* No other code of any block is nearer than the error says: at most half of the widest gap, in units of the scale. */
START_TEST(test_block_error) {
    enum { N = 1000 };
    static float x[N], y[N], scales[N];
    static uint8_t codes[N];
    uint32_t rng = 23;
    qd_codebook b;
    ck_ok(qd_codebook_find(books[_i].name, &b));
    float gap = 0;
    for (int i = 1; i < b.choices; i++)
        gap = fmaxf(gap, b.value[b.code[i]] - b.value[b.code[i - 1]]);
    for (int64_t block = 0; block < 300; block += 37) {
        random_floats(&rng, x, N);
        ck_ok(qd_codebook_quantize(&b, block, x, N, codes, scales));
        ck_ok(qd_codebook_dequantize(&b, block, codes, scales, N, y));
        for (int i = 0; i < N; i++) {
            const float s = scales[block ? i / block : 0];
            const float beyond = fmaxf(0, fabsf(x[i]) - b.peak * s); /* not of ABSMAX */
            ck_assert(fabsf(x[i] - y[i]) <= gap * s / 2 * 1.0001f + beyond);
            if (b.scale == QD_SCALE_ABSMAX) ck_assert(beyond <= 1e-6f * fabsf(x[i]));
        }
    }
}
END_TEST

START_TEST(test_refused_blocks) {
    qd_codebook b, none = {0};
    float x[4] = {1, 2, 3, 4}, scales[4], offset = 7;
    uint8_t codes[4], noise[16];
    memset(noise, 0x5a, sizeof noise);
    memcpy(codes, noise, sizeof codes);
    memcpy(scales, noise, sizeof scales);
    ck_ok(qd_codebook_fixed(QD_CODEBOOK_NF4, &b));
    ck_fails(qd_codebook_quantize(NULL, 2, x, 4, codes, scales), QD_ERR_ARGUMENT, "was not made");
    ck_fails(qd_codebook_quantize(&none, 2, x, 4, codes, scales), QD_ERR_ARGUMENT, "was not made");
    ck_fails(qd_codebook_quantize(&b, -1, x, 4, codes, scales), QD_ERR_ARGUMENT, "blocks of -1");
    ck_fails(qd_codebook_quantize(&b, 2, x, -4, codes, scales), QD_ERR_ARGUMENT, "-4 values");
    ck_fails(qd_codebook_quantize(&b, 2, NULL, 4, codes, scales), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_codebook_quantize(&b, 2, x, 4, NULL, scales), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_codebook_quantize(&b, 2, x, 4, codes, NULL), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_codebook_dequantize(&b, 2, codes, NULL, 4, x), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_scales_quantize(&b, 2, x, 4, NULL, codes, scales), QD_ERR_ARGUMENT, "NULL");
    static const float not_finite[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        x[3] = not_finite[i];
        ck_fails(qd_codebook_quantize(&b, 2, x, 4, codes, scales), QD_ERR_ARGUMENT, "value 3 is not finite");
        ck_fails(qd_scales_quantize(&b, 2, x, 4, &offset, codes, scales), QD_ERR_ARGUMENT, "value 3 is not finite");
        ck_fails(qd_quantize_4bit(&b, 32, x, 4, codes, scales), QD_ERR_ARGUMENT, "value 3 is not finite");
    }
    x[3] = 4;
    qd_alloc_fail_after(0);
    const qd_status status = qd_scales_quantize(&b, 2, x, 4, &offset, codes, scales),
                    packed = qd_quantize_4bit(&b, 32, x, 4, codes, scales);
    qd_alloc_fail_after(-1);
    ck_assert_int_eq(status, QD_ERR_MEMORY);
    ck_assert_int_eq(packed, QD_ERR_MEMORY);
    ck_assert_mem_eq(codes, noise, sizeof codes);
    ck_assert_mem_eq(scales, noise, sizeof scales);
    ck_assert(offset == 7);
    ck_ok(qd_codebook_quantize(&b, 2, NULL, 0, NULL, NULL));
    ck_assert_int_eq(qd_codebook_blocks(0, 4), 0);
    ck_assert_int_eq(qd_codebook_blocks(9, 4), 3);
    ck_assert_int_eq(qd_codebook_blocks(9, 0), 1);
    ck_assert_int_eq(qd_codebook_blocks(-9, 4), -1);
}
END_TEST

/* ---- Double quantization ------------------------------------------------------------------------------------ */

START_TEST(test_double_quantization) {
    enum { N = 700, BLOCK = 256, BLOCKS = 3 };
    float scales[N], back[N], scales2[BLOCKS], offset;
    uint8_t codes[N];
    uint32_t rng = 3;
    qd_codebook b;
    double sum = 0;
    for (int i = 0; i < N; i++) {
        scales[i] = 0.01f + (float)random_between(&rng, 0, 1000) * 1e-5f;
        sum += (double)scales[i];
    }
    ck_ok(qd_codebook_fixed(QD_CODEBOOK_DYNAMIC8, &b));
    ck_ok(qd_scales_quantize(&b, BLOCK, scales, N, &offset, codes, scales2));
    ck_assert(offset == (float)(sum / N));
    ck_ok(qd_scales_dequantize(&b, BLOCK, offset, codes, scales2, N, back));
    for (int i = 0; i < N; i++) {
        ck_assert(back[i] == b.value[codes[i]] * scales2[i / BLOCK] + offset);
        ck_assert(fabsf(back[i] - scales[i]) <= 0.0072f * scales2[i / BLOCK]); /* half of the widest gap */
    }
    /* Bits per weight of scales for blocks of 64: in 4096 of these, floats, or bytes and floats for 256 of them. */
    const double weights = 64.0 * 4096, plain = 32.0 * 4096 / weights,
                 twice = (8.0 * 4096 + 32.0 * (double)qd_codebook_blocks(4096, 256)) / weights;
    ck_assert_double_eq_tol(plain, 0.5, 1e-9);
    ck_assert_double_eq_tol(twice, 0.127, 1e-4);
}
END_TEST

/* ---- bitsandbytes ------------------------------------------------------------------------------------------- */

START_TEST(test_4bit) {
    static const float x[5] = {1, -1, 0, 0.5f, -0.25f};
    uint8_t packed[4];
    float absmax[1], y[5];
    qd_codebook b;
    ck_ok(qd_codebook_fixed(QD_CODEBOOK_FP4, &b));
    memset(packed, 0x5a, sizeof packed);
    ck_ok(qd_quantize_4bit(&b, 32, x, 5, packed, absmax));
    static const uint8_t want[] = {0x3b, 0x05, 0xf0, 0x5a};
    ck_assert_mem_eq(packed, want, 4);
    ck_ok(qd_dequantize_4bit(&b, 32, packed, absmax, 5, y));
    for (int i = 0; i < 5; i++)
        ck_assert(y[i] == x[i]);
    static const float example[] = {-2, 1, 0.1f, 0}; /* of FORMATS.md */
    static const uint8_t bytes[] = {0x0c, 0x87};
    qd_codebook nf4;
    ck_ok(qd_codebook_fixed(QD_CODEBOOK_NF4, &nf4));
    ck_ok(qd_quantize_4bit(&nf4, 64, example, 4, packed, absmax));
    ck_assert_mem_eq(packed, bytes, 2);
    ck_assert(absmax[0] == 2);
    static const int64_t blocks[] = {0, -64, 16, 48, 8192};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        ck_fails(qd_quantize_4bit(&b, blocks[i], x, 5, packed, absmax), QD_ERR_ARGUMENT, "powers of two");
        ck_fails(qd_dequantize_4bit(&b, blocks[i], packed, absmax, 5, y), QD_ERR_ARGUMENT, "powers of two");
    }
    ck_fails(qd_quantize_4bit(&b, 32, x, 5, NULL, absmax), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_quantize_4bit(&b, 32, x, -5, packed, absmax), QD_ERR_ARGUMENT, "-5 values");
    ck_ok(qd_codebook_log(3, &b));
    ck_fails(qd_quantize_4bit(&b, 32, x, 5, packed, absmax), QD_ERR_ARGUMENT, "4 bits");
}
END_TEST

START_TEST(test_rowwise) {
    /* 127 / 127: halves go to even; a row of zeros; one whose 127 / absmax overflows. */
    float x[12] = {127, -2.5f, 1.5f, 0.5f, 0, -0.0f, 0, 0, 0x1p-130f, 0, 0, 0};
    int8_t codes[12];
    float absmax[3];
    ck_ok(qd_quantize_rowwise(x, 3, 4, codes, absmax));
    static const int8_t want[12] = {127, -2, 2, 0};
    ck_assert_mem_eq(codes, want, 12);
    ck_assert(absmax[0] == 127 && absmax[1] == 0 && absmax[2] == 0x1p-130f);
    x[5] = INFINITY;
    ck_fails(qd_quantize_rowwise(x, 3, 4, codes, absmax), QD_ERR_ARGUMENT, "not finite");
    ck_fails(qd_quantize_rowwise(x, -3, 4, codes, absmax), QD_ERR_ARGUMENT, "-3 rows");
    ck_fails(qd_quantize_rowwise(x, INT64_MAX, 4, codes, absmax), QD_ERR_ARGUMENT, "rows of 4");
    ck_fails(qd_quantize_rowwise(NULL, 3, 4, codes, absmax), QD_ERR_ARGUMENT, "NULL");
    ck_ok(qd_quantize_rowwise(NULL, 0, 4, NULL, NULL));
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("codebook");
    tcase_add_loop_test(tc, test_tables, 0, BOOKS);
    tcase_add_test(tc, test_known_values);
    tcase_add_test(tc, test_refused_books);
    tcase_add_loop_test(tc, test_nearest, 0, BOOKS);
    tcase_add_test(tc, test_ties_and_order);
    tcase_add_test(tc, test_block_rules);
    tcase_add_test(tc, test_reciprocal);
    tcase_add_loop_test(tc, test_block_error, 0, BOOKS);
    tcase_add_test(tc, test_refused_blocks);
    tcase_add_test(tc, test_double_quantization);
    tcase_add_test(tc, test_4bit);
    tcase_add_test(tc, test_rowwise);
    return run_tests(tc, "codebooks");
}
