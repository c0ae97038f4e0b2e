/* Codings: names, the bytes of FORMATS.md, errors that a coding may make, and what is refused. */
#include <math.h>
#include <stdlib.h>

#include "unit/devices.h"

/* ---- Names -------------------------------------------------------------------------------------------------- */

static const struct name {
    const char *given, *shortest;
    double bits; /* of 256 × 1024 weights, without what all rows share */
} names[] = {
    {"int8", "int8", 8 + 32.0 / 1024},
    {"int8-row-f32-narrow", "int8", 8 + 32.0 / 1024},
    {"int8-full", "int8-full", 8 + 32.0 / 1024},
    {"int8-tensor", "int8-tensor", 8},
    {"int4", "int4", 4.5},
    {"int4-g32-f16-full", "int4", 4.5},
    {"int4-g64", "int4-g64", 4.25},
    {"int4-g128", "int4-g128", 4.125},
    {"int4-asym-g64", "int4-g64-asym", 4.25 + 4.0 / 64},
    {"int4-row", "int4-row", 4 + 16.0 / 1024},
    {"int4-e8m0", "int4-e8m0", 4.25},
    {"int4-bf16-narrow", "int4-narrow-bf16", 4.5},
    {"int5", "int5", 5.5},
    {"int3-g16", "int3-g16", 4},
    {"ternary", "ternary", 2.25},
    {"int1", "int1", 1.25},
    {"nf4", "nf4", 4.5},
    {"nf4-dq", "nf4-dq", 4.125},
    {"fp4-g256", "fp4-g256", 4.125},
    {"fp4_e2m1", "fp4_e2m1", 4.5},
    {"fp8_e4m3", "fp8_e4m3", 8 + 32.0 / 1024},
    {"log4", "log4", 4.25},
    {"normal3-f32", "normal3-f32", 3.5},
    {"kmeans4", "kmeans4", 4},
    {"kmeans4-row", "kmeans4-row", 4 + 16 * 32.0 / 1024},
    {"pq6", "pq6", 3 + 16.0 / 1024},
    {"pq8-d4", "pq8-d4", 2 + 16.0 / 1024},
    {"pq4-s1", "pq4-s1", 2 + 16.0 / 1024},
};
enum { NAMES = sizeof names / sizeof names[0] };

START_TEST(test_names) {
    const struct name *n = &names[_i];
    qd_coding c, again;
    char out[64];
    ck_ok(qd_coding_parse(n->given, &c));
    qd_coding_name(&c, out, sizeof out);
    ck_assert_str_eq(out, n->shortest);
    ck_ok(qd_coding_parse(out, &again));
    ck_assert_mem_eq(&c, &again, sizeof c);
    const double bits = 8.0 * (double)qd_coding_row_bytes(&c, 1024) / 1024;
    ck_assert_double_eq_tol(bits, n->bits, 1e-9);
}
END_TEST

START_TEST(test_unknown_names) {
    static const char *const wrong[] = {
        "",        "int",      "int9",     "int4-",       "int4-g",  "int4-g8",      "int4-g24",
        "int4-g0", "nf4-asym", "nf5",      "kmeans4-g32", "pq4-d3",  "pq4-g32",      "int4-tensor-dq",
        "int4 ",   "int44",    "int4-dq-", "log2",        "normal1", "ternary-full", "int4-g99999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        qd_coding c;
        ck_assert_msg(qd_coding_parse(wrong[i], &c) == QD_ERR_ARGUMENT, "%s", wrong[i]);
        ck_assert_ptr_nonnull(strstr(qd_last_message(), wrong[i]));
    }
    ck_assert_int_eq(qd_coding_parse(NULL, NULL), QD_ERR_ARGUMENT);
}
END_TEST

/* ---- Bytes -------------------------------------------------------------------------------------------------- */

/* One row by hand, from FORMATS.md. */
static const struct row {
    const char *coding;
    int n;
    float x[8];
    uint8_t bytes[16];
    float y[8]; /* what the bytes mean */
} rows[] = {
    {"int3", 4, {1, -2, 0.5f, 0.25f}, {0x00, 0x38, 0x62, 0x00}, {1, -2, 0.5f, 0}},
    {"int3-asym",
     4,
     {1, -2, 0.5f, 0.25f},
     {0xdb, 0x36, 0x05, 0x87, 0x0d},
     {2 * 0.428466796875f, -5 * 0.428466796875f, 0.428466796875f, 0.428466796875f}},
    {"int8", 2, {-127, 1.5f}, {0, 0, 0x80, 0x3f, 0x81, 2}, {-127, 2}},
    {"int8-full", 2, {-128, 2.5f}, {0, 0, 0x80, 0x3f, 0x80, 2}, {-128, 2}},
    {"int4", 3, {8, -8, 0.5f}, {0, 0x3c, 0x87, 0}, {7, -8, 0}},
    {"int4", 2, {8, -4}, {0, 0xbc, 0x48}, {8, -4}},
    {"int5-bf16", 3, {-16, 15, 1}, {0x80, 0x3f, 0xf0, 0x05}, {-16, 15, 1}},
    {"int2-e8m0", 3, {1, -1.5f, 0.25f}, {0x80, 0x0c}, {0, -2, 0}},
    {"ternary-f32", 4, {2, -2, 0.5f, 2}, {0, 0, 0, 0x40, 0x4d}, {2, -2, 0, 2}},
    {"nf4", 3, {-2, 2, 0.1f}, {0, 0, 0, 0x40, 0xf0, 0x08}, {-2, 2, 2 * 0.07958029955625534f}},
    {"fp4_e2m1", 4, {6, -3, 0.5f, 1.2f}, {0, 0x3c, 0xd7, 0x21}, {6, -3, 0.5f, 1}},
    {"fp8_e4m3", 2, {448, -1}, {0, 0, 0x80, 0x3f, 0x7e, 0xb8}, {448, -1}},
    {"log4-f32", 4, {1, -0.5f, 0.25f, 0}, {0, 0, 0x80, 0x3f, 0xe7, 0x05}, {1, -0.5f, 0.25f, 0}},
    {"log3-f32", 3, {-2, 0.9f, 0.1f}, {0, 0, 0, 0x40, 0x17, 0x00}, {-2, 1, 0}},
};
enum { ROWS = sizeof rows / sizeof rows[0] };

START_TEST(test_bytes) {
    const struct row *r = &rows[_i];
    qd_coding c;
    ck_ok(qd_coding_parse(r->coding, &c));
    const size_t n = qd_coding_row_bytes(&c, r->n);
    unsigned char bytes[16];
    float side[300], y[8];
    ck_assert_uint_le(n, sizeof bytes);
    ck_ok(qd_coding_quantize(&c, r->x, 1, r->n, NULL, bytes, side));
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(bytes[i] == r->bytes[i], "%s: byte %zu is %02x, not %02x", r->coding, i, bytes[i], r->bytes[i]);
    ck_ok(qd_coding_dequantize(&c, bytes, side, 1, r->n, 0, 1, y));
    for (int i = 0; i < r->n; i++)
        ck_assert_msg(y[i] == r->y[i], "%s: element %d is %.9g, not %.9g", r->coding, i, (double)y[i], (double)r->y[i]);
}
END_TEST

/* Double quantization: a half of a bit becomes 0.127. */
START_TEST(test_saving) {
    enum { ROWS_ = 256, COLS = 1024 };
    qd_coding plain, nested;
    ck_ok(qd_coding_parse("nf4", &plain));
    ck_ok(qd_coding_parse("nf4-dq", &nested));
    const double weights = (double)ROWS_ * COLS, shared = 32.0 * 16 / weights, map = 32.0 * (256 + 1) / weights;
    ck_assert_double_eq_tol(qd_coding_bits(&plain, ROWS_, COLS), 4 + 0.5 + shared, 1e-9);
    ck_assert_double_eq_tol(qd_coding_bits(&nested, ROWS_, COLS), 4 + 8.0 / 64 + 32.0 / (64 * 256) + shared + map,
                            1e-9);
}
END_TEST

/* ---- Errors that a coding makes ----------------------------------------------------------------------------- */

enum { N = 24, K = 208 };

static float *random_weights(void) {
    float *x = malloc(N * K * sizeof *x);
    uint64_t state = 7;
    for (int i = 0; x && i < N * K; i++) {
        double sum = -6;
        for (int k = 0; k < 12; k++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            sum += (double)(state >> 40) / (1 << 24);
        }
        x[i] = (float)(0.05 * sum);
    }
    return x;
}

/* Signal to noise in dB that each coding reaches at least on weights that are nearly normal. */
static const struct quality {
    const char *coding;
    double least;
} qualities[] = {{"int8", 42},      {"int8-asym", 42},   {"int8-tensor", 40}, {"int6", 33},        {"int4", 20.5},
                 {"int4-asym", 21}, {"int4-g64", 19.8},  {"int4-e4m3", 20.3}, {"int4-e8m0", 15.5}, {"int4-dq", 19.5},
                 {"int3", 14.5},    {"int2", 8},         {"ternary", 7},      {"int1", 4},         {"nf4", 20},
                 {"nf4-dq", 20},    {"fp4", 17.5},       {"fp4_e2m1", 19},    {"fp4_e3m0", 14},    {"fp8_e4m3", 31},
                 {"fp8_e5m2", 25},  {"log4", 14},        {"log8", 14},        {"normal4", 19},     {"normal8", 36},
                 {"kmeans4", 20},   {"kmeans4-row", 20}, {"kmeans8", 38},     {"pq6", 17},         {"pq8-d4", 10}};
enum { QUALITIES = sizeof qualities / sizeof qualities[0] };

/* A matrix of rows × cols, quantized and read back in two parts. */
static void there_and_back(const char *name, const float *x, int64_t height, int64_t cols, float *y) {
    qd_coding c;
    ck_ok(qd_coding_parse(name, &c));
    const size_t row = qd_coding_row_bytes(&c, cols);
    float *side = malloc((size_t)qd_coding_side_count(&c, height, cols) * sizeof *side);
    char *bytes = malloc((size_t)height * row);
    ck_assert(side && bytes);
    ck_ok(qd_coding_quantize(&c, x, height, cols, NULL, bytes, side));
    ck_ok(qd_coding_dequantize(&c, bytes, side, height, cols, 0, 2, y));
    ck_ok(qd_coding_dequantize(&c, bytes + 2 * row, side, height, cols, 2, height - 2, y + 2 * cols));
    free(side);
    free(bytes);
}

START_TEST(test_quality) {
    float *x = random_weights(), *y = malloc(N * K * sizeof *y);
    ck_assert(x && y);
    there_and_back(qualities[_i].coding, x, N, K, y);
    double signal = 0, noise = 0;
    for (int i = 0; i < N * K; i++) {
        signal += (double)x[i] * (double)x[i];
        noise += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
    }
    const double reached = 10 * log10(signal / noise);
    ck_assert_msg(reached >= qualities[_i].least, "%s: %.2f dB, not %.2f", qualities[_i].coding, reached,
                  qualities[_i].least);
    free(x);
    free(y);
}
END_TEST

START_TEST(test_zeros) {
    float x[3 * 32], y[3 * 32];
    for (int i = 0; i < 3 * 32; i++)
        x[i] = i < 64 ? 0.0f : -0.0f;
    there_and_back(qualities[_i].coding, x, 3, 32, y);
    for (int i = 0; i < 3 * 32; i++)
        ck_assert_msg(fabsf(y[i]) < 1e-30f, "%s: zero number %d is %g", qualities[_i].coding, i, (double)y[i]);
}
END_TEST

/* ---- What is refused ---------------------------------------------------------------------------------------- */

START_TEST(test_refused) {
    qd_coding c;
    float x[2 * 32] = {0}, side[512], y[2 * 32];
    unsigned char bytes[512];
    ck_ok(qd_coding_parse("int4", &c));
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    memset(bytes, 0x5a, sizeof bytes);
    for (int i = 0; i < 3; i++) {
        x[37] = bad[i];
        ck_fails(qd_coding_quantize(&c, x, 2, 32, NULL, bytes, side), QD_ERR_ARGUMENT, "row 1, column 5");
        ck_assert_uint_eq(bytes[0], 0x5a);
    }
    x[37] = 0;
    ck_fails(qd_coding_quantize(&c, NULL, 2, 32, NULL, bytes, side), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_coding_quantize(&c, x, 2, 32, NULL, NULL, side), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_coding_quantize(&c, x, 2, 32, NULL, bytes, NULL), QD_ERR_ARGUMENT, "NULL");
    ck_fails(qd_coding_quantize(NULL, x, 2, 32, NULL, bytes, side), QD_ERR_ARGUMENT, "qd_coding_parse");
    ck_fails(qd_coding_quantize(&c, x, 0, 32, NULL, bytes, side), QD_ERR_ARGUMENT, "0 × 32");
    ck_fails(qd_coding_quantize(&c, x, 2, -1, NULL, bytes, side), QD_ERR_ARGUMENT, "2 × -1");
    ck_fails(qd_coding_dequantize(&c, bytes, side, 2, 32, 1, 2, y), QD_ERR_ARGUMENT, "rows 1 to 3 of 2");
    ck_fails(qd_coding_dequantize(&c, bytes, side, 2, 32, -1, 1, y), QD_ERR_ARGUMENT, "rows -1");
    ck_fails(qd_coding_dequantize(&c, NULL, side, 2, 32, 0, 2, y), QD_ERR_ARGUMENT, "NULL");
    c.bits = 9;
    ck_fails(qd_coding_quantize(&c, x, 2, 32, NULL, bytes, side), QD_ERR_ARGUMENT, "qd_coding_parse");
    ck_assert_uint_eq(qd_coding_row_bytes(&c, 32), 0);
    ck_ok(qd_coding_parse("pq4-d4", &c));
    ck_fails(qd_coding_quantize(&c, x, 2, 30, NULL, bytes, side), QD_ERR_ARGUMENT, "-d2");
}
END_TEST

int main(void) {
    TCase *tc = tcase_create("coding");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, test_names, 0, NAMES);
    tcase_add_test(tc, test_unknown_names);
    tcase_add_loop_test(tc, test_bytes, 0, ROWS);
    tcase_add_test(tc, test_saving);
    tcase_add_loop_test(tc, test_quality, 0, QUALITIES);
    tcase_add_loop_test(tc, test_zeros, 0, QUALITIES);
    tcase_add_test(tc, test_refused);
    return run_tests(tc, "coding");
}
