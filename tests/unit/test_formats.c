/* Number formats: the table, the arguments of qd_quantize and qd_dequantize, the examples of FORMATS.md, and A8. That
 * the GGUF formats have the right bytes is shown by tests/golden. */
#include <check.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/format.h"
#include "formats/formats.h"
#include "qdot/qdot_blocks.h"
#include "qdot/qdot_num.h"

/* The largest block of any format. */
#define MOST 256

static bool blocked_in_files(qd_format f) {
    return qd_format_get(f)->kind == QD_KIND_BLOCKED && qd_format_get(f)->gguf_type >= 0;
}

static uint32_t random_state;

static uint32_t random_bits(void) {
    random_state = random_state * 1664525u + 1013904223u;
    return random_state ^ (random_state >> 16);
}

/* Uniform in [-1, 1). */
static float random_unit(void) {
    return (float)(int32_t)random_bits() * 0x1p-31f;
}

/* ---- The table ---------------------------------------------------------------------------------------------- */

START_TEST(test_table) {
    for (int f = 0; f < QD_FORMAT_COUNT; f++) {
        const qd_format_info *info = qd_format_get((qd_format)f);
        qd_format found = QD_FORMAT_COUNT;
        ck_assert_ptr_nonnull(info);
        ck_assert_int_eq(qd_format_find(info->name, &found), QD_OK);
        ck_assert_int_eq((int)found, f);
        ck_assert_double_eq(info->bits, 8.0 * info->bytes / info->block);
        ck_assert_uint_eq(qd_format_row_bytes((qd_format)f, 3 * info->block), 3 * (size_t)info->bytes);
        ck_assert_int_eq(qd_codec_get((qd_format)f) == NULL, info->kind == QD_KIND_INTEGER);
        if (info->gguf_type >= 0) ck_assert_int_eq((int)qd_format_from_gguf((uint32_t)info->gguf_type), f);
    }
    const qd_format_info *q4_1 = qd_format_get(QD_FORMAT_Q4_1);
    ck_assert_str_eq(q4_1->name, "q4_1");
    ck_assert_int_eq(q4_1->gguf_type, 3);
    ck_assert_int_eq(q4_1->kind, QD_KIND_BLOCKED);
    ck_assert_double_eq(q4_1->bits, 5.0);
}
END_TEST

START_TEST(test_unknown_formats) {
    qd_format f = QD_FORMAT_A8;
    ck_assert_ptr_null(qd_format_get(QD_FORMAT_COUNT));
    ck_assert_ptr_null(qd_format_get((qd_format)-1));
    ck_assert_ptr_null(qd_codec_get(QD_FORMAT_COUNT));
    ck_assert_ptr_null(qd_codec_get((qd_format)-1));
    ck_assert_int_eq((int)qd_format_from_gguf(9999), QD_FORMAT_COUNT);
    ck_assert_int_eq((int)qd_format_from_gguf(0xffffffffu), QD_FORMAT_COUNT); /* A8 has -1, which no file may name */
    ck_assert_int_eq(qd_format_find("q4", &f), QD_ERR_ARGUMENT);
    ck_assert_int_eq((int)f, QD_FORMAT_A8);
    ck_assert_ptr_nonnull(strstr(qd_last_message(), "\"q4\""));
    for (int i = 0; i < QD_FORMAT_COUNT; i++) {
        ck_assert_ptr_nonnull(strstr(qd_last_message(), qd_format_get((qd_format)i)->name));
    }
    ck_assert_int_eq(qd_format_find("Q4_1", &f), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_format_find("", &f), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_format_find(NULL, &f), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_format_find("f32", NULL), QD_ERR_ARGUMENT);
}
END_TEST

START_TEST(test_row_bytes) {
    ck_assert_uint_eq(qd_format_row_bytes(QD_FORMAT_F32, 7), 28);
    ck_assert_uint_eq(qd_format_row_bytes(QD_FORMAT_Q4_1, 64), 40);
    ck_assert_uint_eq(qd_format_row_bytes(QD_FORMAT_A8, 0), 0);
    ck_assert_uint_eq(qd_format_row_bytes(QD_FORMAT_Q4_1, 33), 0);
    static const struct {
        qd_format format;
        int64_t cols;
        size_t bytes;
    } packed[] = {
        {QD_FORMAT_I4, 0, 0},  {QD_FORMAT_I4, 1, 1},
        {QD_FORMAT_U4, 2, 1},  {QD_FORMAT_U4, 3, 2},
        {QD_FORMAT_U2, 1, 1},  {QD_FORMAT_U2, 4, 1},
        {QD_FORMAT_I2, 5, 2},  {QD_FORMAT_F4E2M1, 7, 4},
        {QD_FORMAT_I4, -1, 0}, {QD_FORMAT_I4, INT64_MAX, (size_t)INT64_MAX / 2 + 1},
        {QD_FORMAT_I2, -4, 0}, {QD_FORMAT_I2, INT64_MAX, (size_t)INT64_MAX / 4 + 1},
        {QD_FORMAT_U16, 3, 6},
    };
    for (size_t i = 0; i < sizeof packed / sizeof packed[0]; i++)
        ck_assert_uint_eq(qd_format_row_bytes(packed[i].format, packed[i].cols), packed[i].bytes);
    ck_assert_uint_eq(qd_format_row_bytes(QD_FORMAT_Q4_1, -32), 0);
    ck_assert_uint_eq(qd_format_row_bytes(QD_FORMAT_F32, INT64_MIN), 0);
    ck_assert_uint_eq(qd_format_row_bytes(QD_FORMAT_COUNT, 32), 0);
    ck_assert_uint_eq(qd_format_row_bytes((qd_format)-1, 32), 0);
    ck_assert_uint_eq(qd_format_row_bytes(QD_FORMAT_F32, INT64_MAX), 0);
    ck_assert_uint_eq(qd_format_row_bytes(QD_FORMAT_A8, INT64_MAX - 31), (size_t)(INT64_MAX / 16 - 1) * 24);
}
END_TEST

/* ---- Arguments ---------------------------------------------------------------------------------------------- */

static const struct {
    int format;
    int64_t rows, cols;
    bool null_src, null_dst;
    qd_status status;
    const char *says;
} calls[] = {
    {QD_FORMAT_COUNT, 1, 32, false, false, QD_ERR_ARGUMENT, "no format"},
    {-1, 1, 32, false, false, QD_ERR_ARGUMENT, "no format"},
    {QD_FORMAT_I32, 1, 32, false, false, QD_ERR_UNSUPPORTED, "i32"},
    {QD_FORMAT_Q4_1, -1, 32, false, false, QD_ERR_ARGUMENT, "-1 rows"},
    {QD_FORMAT_Q4_1, 1, -32, false, false, QD_ERR_ARGUMENT, "-32 columns"},
    {QD_FORMAT_Q4_1, 1, 31, false, false, QD_ERR_ARGUMENT, "multiple of 32"},
    {QD_FORMAT_Q8_0, 0, 33, false, false, QD_ERR_ARGUMENT, "multiple of 32"},
    {QD_FORMAT_Q4_1, 1, 32, true, false, QD_ERR_ARGUMENT, "src is NULL"},
    {QD_FORMAT_Q4_1, 1, 32, false, true, QD_ERR_ARGUMENT, "dst is NULL"},
    {QD_FORMAT_F32, INT64_MAX, INT64_MAX, false, false, QD_ERR_ARGUMENT, "more bytes"},
    {QD_FORMAT_F32, (int64_t)1 << 61, 1, false, false, QD_ERR_ARGUMENT, "more bytes"},
    {QD_FORMAT_F32, 1, (int64_t)1 << 61, false, false, QD_ERR_ARGUMENT, "more bytes"},
    {QD_FORMAT_Q4_0, (int64_t)1 << 57, 32, false, false, QD_ERR_ARGUMENT, "more bytes"}, /* only the floats are */
    {QD_FORMAT_A8, (int64_t)1 << 32, (int64_t)1 << 32, false, false, QD_ERR_ARGUMENT, "more bytes"},
    {QD_FORMAT_Q4_1, 0, 32, true, true, QD_OK, ""},
    {QD_FORMAT_Q4_1, INT64_MAX, 0, true, true, QD_OK, ""},
};
#define CALL_COUNT (int)(sizeof calls / sizeof calls[0])

START_TEST(test_arguments) {
    float x[32] = {0}, y[32];
    unsigned char data[160], fresh[160];
    memset(data, 0x5a, sizeof data);
    memset(fresh, 0x5a, sizeof fresh);
    memset(y, 0x5a, sizeof y);
    const qd_format f = (qd_format)calls[_i].format;
    ck_assert_int_eq(
        qd_quantize(f, calls[_i].null_src ? NULL : x, calls[_i].rows, calls[_i].cols, calls[_i].null_dst ? NULL : data),
        calls[_i].status);
    if (calls[_i].status) {
        ck_assert_msg(strstr(qd_last_message(), calls[_i].says) != NULL, "%s", qd_last_message());
        ck_assert_int_eq(strncmp(qd_last_message(), "quantize: ", 10), 0);
    }
    ck_assert_int_eq(qd_dequantize(f, calls[_i].null_src ? NULL : data, calls[_i].rows, calls[_i].cols,
                                   calls[_i].null_dst ? NULL : y),
                     calls[_i].status);
    if (calls[_i].status) {
        ck_assert_msg(strstr(qd_last_message(), calls[_i].says) != NULL, "%s", qd_last_message());
        ck_assert_int_eq(strncmp(qd_last_message(), "dequantize: ", 12), 0);
    }
    ck_assert_mem_eq(data, fresh, sizeof data);
    ck_assert_mem_eq(y, fresh, sizeof y);
}
END_TEST

START_TEST(test_not_finite) {
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int f = 0; f < QD_FORMAT_COUNT; f++) {
        for (int b = 0; b < 3 && blocked_in_files((qd_format)f); b++) {
            float x[3 * 2 * MOST] = {0};
            unsigned char data[3 * 512], fresh[3 * 512];
            const int cols = 2 * qd_format_get((qd_format)f)->block;
            memset(data, 0x5a, sizeof data);
            memset(fresh, 0x5a, sizeof fresh);
            x[2 * cols + 37] = bad[b];
            ck_assert_int_eq(qd_quantize((qd_format)f, x, 3, cols, data), QD_ERR_ARGUMENT);
            ck_assert_ptr_nonnull(strstr(qd_last_message(), "row 2, column 37"));
            ck_assert_ptr_nonnull(strstr(qd_last_message(), b ? "infinity" : "NaN"));
            ck_assert_ptr_nonnull(strstr(qd_last_message(), qd_format_get((qd_format)f)->name));
            ck_assert_mem_eq(data, fresh, sizeof data);
        }
    }
    static const qd_format plain[] = {QD_FORMAT_F32, QD_FORMAT_TF32, QD_FORMAT_F16, QD_FORMAT_BF16};
    for (int k = 0; k < 4; k++) {
        unsigned char data[12];
        float y[3];
        ck_assert_int_eq(qd_quantize(plain[k], bad, 1, 3, data), QD_OK);
        ck_assert_int_eq(qd_dequantize(plain[k], data, 1, 3, y), QD_OK);
        ck_assert(isnan(y[0]) && y[1] == INFINITY && y[2] == -INFINITY);
    }
}
END_TEST

/* Half of the widest step of a format's codes for values up to 1. */
static float coarsest_of(qd_format f) {
    switch (f) {
        case QD_FORMAT_TQ1_0:
        case QD_FORMAT_TQ2_0:
            return 0.501f;
        case QD_FORMAT_Q2_K: /* scales that fit most of a group leave a few values far off */
        case QD_FORMAT_Q3_K:
            return 0.4f;
        case QD_FORMAT_IQ4_NL:
        case QD_FORMAT_IQ4_XS:
            return 0.16f;
        case QD_FORMAT_F4E2M1:
        case QD_FORMAT_MXFP4:
        case QD_FORMAT_NVFP4:
            return 0.251f;
        default:
            return 0.13f;
    }
}

/* Rows stand one after the other, and the packed side may lie anywhere. */
START_TEST(test_rows_and_alignment) {
    for (int f = 0; f < QD_FORMAT_COUNT; f++) {
        const qd_format_info *info = qd_format_get((qd_format)f);
        const qd_codec *codec = qd_codec_get((qd_format)f);
        enum { ROWS = 5 };
        const float coarsest = coarsest_of((qd_format)f);
        float x[ROWS * 2 * MOST], y[ROWS * 2 * MOST], again[2 * MOST];
        unsigned char data[ROWS * 512 + 1], row[512 + 1];
        if (!codec) continue;
        const int cols = 2 * info->block + (info->kind != QD_KIND_BLOCKED); /* packed codes end inside a byte */
        const size_t bytes = qd_format_row_bytes((qd_format)f, cols);
        for (int i = 0; i < ROWS * cols; i++) {
            x[i] = random_unit();
        }
        ck_assert_int_eq(qd_quantize((qd_format)f, x, ROWS, cols, data + 1), QD_OK);
        ck_assert_int_eq(qd_dequantize((qd_format)f, data + 1, ROWS, cols, y), QD_OK);
        for (int r = 0; r < ROWS; r++) {
            codec->quantize_row(x + r * cols, NULL, row + 1, cols);
            codec->dequantize_row(row + 1, again, cols);
            ck_assert_mem_eq(row + 1, data + 1 + (size_t)r * bytes, bytes);
            ck_assert_mem_eq(again, y + r * cols, (size_t)cols * sizeof(float));
            for (int i = 0; i < cols; i++) {
                ck_assert_float_le(fabsf(again[i] - x[r * cols + i]), coarsest);
            }
        }
    }
}
END_TEST

/* ---- Corners of the GGUF formats ---------------------------------------------------------------------------- */

/* Where 1 / d or max - min overflows, the reference leaves the codes to the machine. Ours are those of FORMATS.md. */
START_TEST(test_overflowing_inverse) {
    float x[32] = {1e-39f, -5e-40f};
    qd_block_q8_0 q8_0;
    qd_block_q4_0 q4_0;
    qd_block_q4_1 q4_1;
    ck_assert_int_eq(qd_quantize(QD_FORMAT_Q8_0, x, 1, 32, &q8_0), QD_OK);
    ck_assert_int_eq(qd_quantize(QD_FORMAT_Q4_0, x, 1, 32, &q4_0), QD_OK);
    ck_assert_int_eq(qd_quantize(QD_FORMAT_Q4_1, x, 1, 32, &q4_1), QD_OK);
    ck_assert_uint_eq(q8_0.d, 0);
    ck_assert_uint_eq(q4_0.d, 0x8000);
    ck_assert_uint_eq(q4_1.d, 0);
    ck_assert_uint_eq(q4_1.m, 0x8000);
    for (int j = 0; j < 32; j++) {
        ck_assert_int_eq(q8_0.q[j], 0);
        ck_assert_uint_eq(q4_0.q[j / 2], 0x88);
        ck_assert_uint_eq(q4_1.q[j / 2], 0);
    }
    /* The least scale whose inverse is finite. */
    const float least = nextafterf(0x1p-128f, 1.0f);
    for (int j = 0; j < 32; j++) {
        x[j] = -8.0f * least;
    }
    ck_assert_int_eq(qd_quantize(QD_FORMAT_Q4_0, x, 1, 32, &q4_0), QD_OK);
    ck_assert_uint_eq(q4_0.q[0], 0x00);
    x[0] = FLT_MAX;
    x[1] = -FLT_MAX;
    ck_assert_int_eq(qd_quantize(QD_FORMAT_Q4_1, x, 1, 32, &q4_1), QD_OK);
    ck_assert_uint_eq(q4_1.d, 0x7c00);
    ck_assert_uint_eq(q4_1.m, 0xfc00);
    for (int j = 0; j < 16; j++) {
        ck_assert_uint_eq(q4_1.q[j], 0);
    }
}
END_TEST

/* Values near a tie, where dividing by d, contracting, or another kind of rounding would give the other code. The codes
 * are those of gguf-py. */
START_TEST(test_rounding_of_codes) {
    static const struct {
        qd_format format;
        float first, second, x; /* a block of these and zeros */
        int code;               /* of x */
    } cases[] = {
        {QD_FORMAT_Q4_1, 7.5f, -9.25f, -0.875f, 7},     {QD_FORMAT_Q4_0, -7.5f, 0.0f, -5.15625f, 2},
        {QD_FORMAT_Q4_0, -7.5f, 0.0f, -4.21875f, 4},    {QD_FORMAT_Q4_0, -8.0f, 8.0f, -6.5f, 2},
        {QD_FORMAT_Q8_0, 7.5f, 0.0f, 3.75f, 63},        {QD_FORMAT_Q8_0, 7.25f, 0.0f, -3.625f, -64},
        {QD_FORMAT_Q8_0, 127.0f, 0.0f, 2.5f, 3},        {QD_FORMAT_Q8_0, 127.0f, 0.0f, -2.5f, -3},
        {QD_FORMAT_Q8_0, 127.0f, 0.0f, 0.49999997f, 0},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const float x[32] = {cases[k].first, cases[k].second, cases[k].x};
        union {
            qd_block_q8_0 q8_0;
            qd_block_q4_0 q4_0;
            qd_block_q4_1 q4_1;
        } b;
        int code = 0;
        ck_assert_int_eq(qd_quantize(cases[k].format, x, 1, 32, &b), QD_OK);
        if (cases[k].format == QD_FORMAT_Q8_0) code = b.q8_0.q[2];
        if (cases[k].format == QD_FORMAT_Q4_0) code = b.q4_0.q[2] & 15;
        if (cases[k].format == QD_FORMAT_Q4_1) code = b.q4_1.q[2] & 15;
        ck_assert_msg(code == cases[k].code, "case %zu: code %d, not %d", k, code, cases[k].code);
    }
}
END_TEST

START_TEST(test_signs_of_zero) {
    float x[32];
    qd_block_q4_0 q4_0;
    qd_block_q4_1 q4_1;
    for (int sign = 0; sign < 2; sign++) {
        for (int j = 0; j < 32; j++) {
            x[j] = (j == 0) == (sign == 1) ? -0.0f : 0.0f; /* the first one differs from the others */
        }
        ck_assert_int_eq(qd_quantize(QD_FORMAT_Q4_0, x, 1, 32, &q4_0), QD_OK);
        ck_assert_int_eq(qd_quantize(QD_FORMAT_Q4_1, x, 1, 32, &q4_1), QD_OK);
        ck_assert_uint_eq(q4_0.d, sign ? 0x0000 : 0x8000);
        ck_assert_uint_eq(q4_0.q[0], 0x88);
        ck_assert_uint_eq(q4_1.m, sign ? 0x8000 : 0x0000);
    }
}
END_TEST

/* Any bytes may stand in a file: every pair of scale and code must dequantize by the formula, without a trap. */
START_TEST(test_dequantize_any_bytes) {
    int wrong = 0;
    for (uint32_t h = 0; h < 65536; h += 7) {
        qd_block_q4_1 b = {.d = (qd_u16)h, .m = (qd_u16)(h * 40503u)};
        float y[32];
        for (int j = 0; j < 16; j++) {
            b.q[j] = (qd_u8)(j | (15 - j) << 4);
        }
        wrong += qd_dequantize(QD_FORMAT_Q4_1, &b, 1, 32, y) != QD_OK;
        const float d = qd_half_to_float(b.d), m = qd_half_to_float(b.m);
        for (int j = 0; j < 32; j++) {
            const volatile float product = d * (float)(j < 16 ? j : 31 - j);
            const float want = product + m;
            wrong += !(y[j] == want || (isnan(y[j]) && isnan(want)));
        }
    }
    ck_assert_int_eq(wrong, 0);
}
END_TEST

/* ---- Scales by search ------------------------------------------------------------------------------------------ */

static double weighted_error(const float *x, const float *y, const float *importance, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
        const double e = (double)x[i] - (double)y[i];
        sum += (double)importance[i] * e * e;
    }
    return sum;
}

/* Columns that count more have less error, in every format that searches. */
START_TEST(test_importance) {
    enum { COLS = 2 * MOST, ROWS = 8 };
    static const qd_format searched[] = {QD_FORMAT_Q4_0, QD_FORMAT_Q4_1,   QD_FORMAT_Q5_0,   QD_FORMAT_Q5_1,
                                         QD_FORMAT_Q2_K, QD_FORMAT_Q3_K,   QD_FORMAT_Q4_K,   QD_FORMAT_Q5_K,
                                         QD_FORMAT_Q6_K, QD_FORMAT_IQ4_NL, QD_FORMAT_IQ4_XS, QD_FORMAT_NVFP4};
    static float x[ROWS * COLS], y[ROWS * COLS], importance[COLS];
    static unsigned char data[ROWS * 1024];
    random_state = 7;
    for (int i = 0; i < COLS; i++)
        importance[i] = random_bits() % 8 ? 0.01f : 3.0f;
    for (int i = 0; i < ROWS * COLS; i++)
        x[i] = random_unit() * random_unit() * 0.1f;
    for (size_t k = 0; k < sizeof searched / sizeof searched[0]; k++) {
        double plain = 0, weighted = 0;
        ck_assert_int_eq(qd_quantize(searched[k], x, ROWS, COLS, data), QD_OK);
        ck_assert_int_eq(qd_dequantize(searched[k], data, ROWS, COLS, y), QD_OK);
        for (int r = 0; r < ROWS; r++)
            plain += weighted_error(x + r * COLS, y + r * COLS, importance, COLS);
        ck_assert_int_eq(qd_quantize_weighted(searched[k], x, ROWS, COLS, importance, data), QD_OK);
        ck_assert_int_eq(qd_dequantize(searched[k], data, ROWS, COLS, y), QD_OK);
        for (int r = 0; r < ROWS; r++)
            weighted += weighted_error(x + r * COLS, y + r * COLS, importance, COLS);
        ck_assert_msg(weighted < 0.9 * plain, "%s: %g, without importances %g", qd_format_get(searched[k])->name,
                      weighted, plain);
    }
    static const float bad[] = {NAN, INFINITY, -1.0f};
    for (int k = 0; k < 3; k++) {
        importance[41] = bad[k];
        ck_assert_int_eq(qd_quantize_weighted(QD_FORMAT_Q4_K, x, ROWS, COLS, importance, data), QD_ERR_ARGUMENT);
        ck_assert_ptr_nonnull(strstr(qd_last_message(), "column 41"));
    }
    memset(importance, 0, sizeof importance); /* nothing counts: as if all did */
    static unsigned char same[ROWS * 1024];
    ck_assert_int_eq(qd_quantize_weighted(QD_FORMAT_Q4_K, x, ROWS, COLS, importance, data), QD_OK);
    ck_assert_int_eq(qd_quantize(QD_FORMAT_Q4_K, x, ROWS, COLS, same), QD_OK);
    ck_assert_mem_eq(data, same, (size_t)ROWS * qd_format_row_bytes(QD_FORMAT_Q4_K, COLS));
}
END_TEST

/* Values of any size: what comes back is finite, and where halves can hold the scale, near. */
START_TEST(test_any_magnitude) {
    for (int f = 0; f < QD_FORMAT_COUNT; f++) {
        const qd_format_info *info = qd_format_get((qd_format)f);
        if (!blocked_in_files((qd_format)f) || info->block < 256 || f == QD_FORMAT_TQ1_0 || f == QD_FORMAT_TQ2_0)
            continue;
        for (int exponent = -149; exponent < 128; exponent++) {
            float x[MOST], y[MOST], error = 0;
            unsigned char data[256];
            for (int i = 0; i < MOST; i++)
                x[i] = ldexpf(random_unit(), exponent);
            ck_assert_int_eq(qd_quantize((qd_format)f, x, 1, MOST, data), QD_OK);
            ck_assert_int_eq(qd_dequantize((qd_format)f, data, 1, MOST, y), QD_OK);
            for (int i = 0; i < MOST; i++) {
                ck_assert_msg(isfinite(y[i]), "%s at 2^%d: %g", info->name, exponent, (double)y[i]);
                error = fmaxf(error, fabsf(y[i] - x[i]));
            }
            if (exponent >= -5 && exponent <= 15)
                ck_assert_float_le(error, ldexpf(coarsest_of((qd_format)f), exponent));
            if (exponent < -40) ck_assert_float_le(error, ldexpf(1, exponent));
        }
    }
}
END_TEST

/* ---- Examples of FORMATS.md --------------------------------------------------------------------------------- */

/* Reads numbers "1 -2 0*26" into floats; returns how many. */
static int read_values(char *line, float *out, int capacity) {
    int n = 0;
    for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n")) {
        char *end;
        const float x = strtof(word, &end);
        const long times = *end == '*' ? strtol(end + 1, &end, 10) : 1;
        ck_assert_msg(*end == '\0', "not a number: %s", word);
        for (long i = 0; i < times; i++) {
            ck_assert_int_lt(n, capacity);
            out[n++] = x;
        }
    }
    return n;
}

/* Reads bytes "0a 00*26" likewise. */
static int read_bytes(char *line, unsigned char *out, int capacity) {
    int n = 0;
    for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n")) {
        char *end;
        const long byte = strtol(word, &end, 16);
        const long times = *end == '*' ? strtol(end + 1, &end, 10) : 1;
        ck_assert_msg(*end == '\0' && byte >= 0 && byte < 256, "not a byte: %s", word);
        for (long i = 0; i < times; i++) {
            ck_assert_int_lt(n, capacity);
            out[n++] = (unsigned char)byte;
        }
    }
    return n;
}

/* The next line, without its label. */
static char *labelled(FILE *file, const char *label, char *line, int size) {
    ck_assert_ptr_nonnull(fgets(line, size, file));
    ck_assert_msg(strncmp(line, label, strlen(label)) == 0, "expected \"%s\": %s", label, line);
    return line + strlen(label);
}

START_TEST(test_examples) {
    bool shown[QD_FORMAT_COUNT] = {false};
    char line[2048], name[32];
    FILE *file = fopen("host/formats/FORMATS.md", "r");
    ck_assert_msg(file != NULL, "run this test in the repository's root");
    while (fgets(line, sizeof line, file)) {
        float x[MOST], want[MOST], y[MOST];
        unsigned char bytes[256], got[256];
        qd_format f;
        if (sscanf(line, "```example %31s", name) != 1) continue;
        ck_assert_int_eq(qd_format_find(name, &f), QD_OK);
        const int n = read_values(labelled(file, "x ", line, sizeof line), x, MOST);
        const int n_bytes = read_bytes(labelled(file, "bytes ", line, sizeof line), bytes, 256);
        ck_assert_int_eq(read_values(labelled(file, "y ", line, sizeof line), want, MOST), n);
        ck_assert_uint_eq(qd_format_row_bytes(f, n), (size_t)n_bytes);
        ck_assert_int_eq(qd_quantize(f, x, 1, n, got), QD_OK);
        for (int i = 0; i < n_bytes; i++) {
            ck_assert_msg(got[i] == bytes[i], "%s: byte %d is %02x, not %02x", name, i, got[i], bytes[i]);
        }
        ck_assert_int_eq(qd_dequantize(f, bytes, 1, n, y), QD_OK);
        for (int i = 0; i < n; i++) {
            ck_assert_msg(y[i] == want[i], "%s: y[%d] is %.17g, not %.17g", name, i, (double)y[i], (double)want[i]);
        }
        shown[f] = true;
    }
    fclose(file);
    for (int f = 0; f < QD_FORMAT_COUNT; f++) {
        ck_assert_msg(shown[f] || !qd_codec_get((qd_format)f), "FORMATS.md has no example of %s",
                      qd_format_get((qd_format)f)->name);
    }
}
END_TEST

/* ---- A8 ----------------------------------------------------------------------------------------------------- */

/* Checks a block against the words of FORMATS.md; the codes against a division in double. One assertion for all,
 * because assertions are slow. */
static void check_a8(const float x[16]) {
    qd_block_a8 b;
    float y[16], max = 0;
    int sum = 0, wrong = 0;
    ck_assert_int_eq(qd_quantize(QD_FORMAT_A8, x, 1, 16, &b), QD_OK);
    ck_assert_int_eq(qd_dequantize(QD_FORMAT_A8, &b, 1, 16, y), QD_OK);
    for (int j = 0; j < 16; j++) {
        max = fmaxf(max, fabsf(x[j]));
        sum += b.q[j];
    }
    for (int j = 0; j < 16; j++) {
        const double exact = max > 1e-30f ? (double)x[j] * 127.0 / (double)max : 0.0;
        wrong += b.q[j] == -128 || y[j] != b.d * (float)b.q[j] || fabs(exact - b.q[j]) > 0.50002;
        if (max > 1e-30f && fabsf(x[j]) == max) wrong += b.q[j] != (x[j] < 0 ? -127 : 127);
    }
    ck_assert_msg(b.sum == (float)sum && b.d == (max > 1e-30f ? max / 127.0f : 0.0f) && !wrong,
                  "maximum %g: d %g, sum %g, %d wrong codes", (double)max, (double)b.d, (double)b.sum, wrong);
}

START_TEST(test_a8_blocks) {
    float x[16];
    random_state = 1;
    for (int block = 0; block < 20000; block++) {
        const int exponent = (int)(random_bits() % 276) - 149;
        for (int j = 0; j < 16; j++) {
            x[j] = ldexpf(random_unit(), exponent - (block % 3 == 0 ? (int)(random_bits() % 12) : 0));
        }
        check_a8(x);
    }
    for (int k = 0; k < 6; k++) {
        static const float extreme[] = {FLT_MAX, -FLT_MAX, FLT_MIN, 0x1p-149f, 1e-30f, 1.0000001e-30f};
        for (int j = 0; j < 16; j++) {
            x[j] = j % 2 ? extreme[k] : -extreme[k] / (float)(j + 1);
        }
        check_a8(x);
        for (int j = 0; j < 16; j++) {
            x[j] = extreme[k];
        }
        check_a8(x); /* the sum has its largest magnitude, 16 · 127 */
    }
}
END_TEST

START_TEST(test_a8_not_finite) {
    float x[16] = {1.0f, NAN, -0.5f};
    qd_block_a8 b;
    ck_assert_int_eq(qd_quantize(QD_FORMAT_A8, x, 1, 16, &b), QD_OK);
    ck_assert(b.d == 1.0f / 127.0f && b.q[0] == 127 && b.q[1] == -127 && b.q[2] == -64 && b.q[3] == 0);
    ck_assert(b.sum == -64.0f);
    x[1] = INFINITY;
    ck_assert_int_eq(qd_quantize(QD_FORMAT_A8, x, 1, 16, &b), QD_OK);
    ck_assert(b.d == INFINITY && b.q[0] == 0 && b.q[1] == -127 && b.q[2] == 0 && b.sum == -127.0f);
}
END_TEST

/* Ties go to the even code: with a maximum of 127 the codes are the rounded values. */
START_TEST(test_a8_ties) {
    float x[16] = {127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 126.5f, 0.49999997f, -126.5f, 63.5f};
    static const int want[11] = {127, 0, 2, 2, 0, -2, -2, 126, 0, -126, 64};
    qd_block_a8 b;
    ck_assert_int_eq(qd_quantize(QD_FORMAT_A8, x, 1, 16, &b), QD_OK);
    ck_assert(b.d == 1.0f);
    for (int j = 0; j < 11; j++) {
        ck_assert_int_eq(b.q[j], want[j]);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("formats");
    TCase *tc = tcase_create("formats");
    tcase_add_test(tc, test_table);
    tcase_add_test(tc, test_unknown_formats);
    tcase_add_test(tc, test_row_bytes);
    tcase_add_loop_test(tc, test_arguments, 0, CALL_COUNT);
    tcase_add_test(tc, test_not_finite);
    tcase_add_test(tc, test_rows_and_alignment);
    tcase_add_test(tc, test_overflowing_inverse);
    tcase_add_test(tc, test_rounding_of_codes);
    tcase_add_test(tc, test_signs_of_zero);
    tcase_add_test(tc, test_dequantize_any_bytes);
    tcase_add_test(tc, test_importance);
    tcase_add_test(tc, test_any_magnitude);
    tcase_add_test(tc, test_examples);
    tcase_add_test(tc, test_a8_blocks);
    tcase_add_test(tc, test_a8_not_finite);
    tcase_add_test(tc, test_a8_ties);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
