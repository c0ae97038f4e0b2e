/* The reader of golden vectors: every comparison rule must accept what it should and refuse the next thing, and a
 * damaged manifest must be named, not believed. */
#define _XOPEN_SOURCE 700
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/vectors.h"

static char folder[128];

static void make_folder(void) {
    const char *parent = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.96s/qdot-vectors-XXXXXX", parent ? parent : P_tmpdir);
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void write_file(const char *name, const void *data, size_t bytes) {
    char path[160];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(data, 1, bytes, f), bytes);
    fclose(f);
}

static void remove_folder(void) {
    char path[160];
    snprintf(path, sizeof path, "%s/cases.json", folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/data.bin", folder);
    unlink(path);
    rmdir(folder);
}

/* Opens a group of one case. `members` go into the case, `output` into its output, which is `shape` of `dtype`. The
 * output's data is followed by a table of 16 floats (input "table") and one of 256 (input "wide"). */
static qd_vectors *open_case(const char *dtype, const char *shape, const char *output, const char *members,
                             const void *want, size_t bytes) {
    char text[2048];
    unsigned char data[64 + 64 + 1024] = {0};
    float narrow[16], wide[256];
    qd_vectors *v = NULL;
    for (int i = 0; i < 16; i++) {
        narrow[i] = (float)(i * 5 % 16); /* not in the order of the codes */
    }
    for (int i = 0; i < 256; i++) {
        wide[i] = (float)i;
    }
    ck_assert_uint_le(bytes, 64);
    memcpy(data, want, bytes);
    memcpy(data + 64, narrow, sizeof narrow);
    memcpy(data + 128, wide, sizeof wide);
    snprintf(
        text, sizeof text,
        "{\"format_version\": 1, \"group\": \"g\", \"case_count\": 1, \"cases\": [{\"name\": \"c\", \"op\": \"o\", "
        "\"expect\": \"ok\", \"attrs\": {}, %s \"inputs\": ["
        "{\"name\": \"table\", \"file\": \"data.bin\", \"offset\": 64, \"nbytes\": 64, \"dtype\": \"f32\", "
        "\"shape\": [16], \"endian\": \"little\"},"
        "{\"name\": \"wide\", \"file\": \"data.bin\", \"offset\": 128, \"nbytes\": 1024, \"dtype\": \"f32\", "
        "\"shape\": [256], \"endian\": \"little\"}], \"outputs\": ["
        "{\"name\": \"y\", \"file\": \"data.bin\", \"offset\": 0, \"nbytes\": %zu, \"dtype\": \"%s\", "
        "\"shape\": %s, \"endian\": \"little\", %s}]}]}",
        members, bytes, dtype, shape, output);
    make_folder();
    write_file("cases.json", text, strlen(text));
    write_file("data.bin", data, sizeof data);
    const qd_status status = qd_vectors_open(folder, &v);
    remove_folder();
    ck_assert_msg(status == QD_OK, "%s", qd_vec_message());
    return v;
}

#define EXACT "\"tolerance\": \"exact\""
#define TOLERANCE(rule) "\"tolerance\": {" rule "}"
#define RELAXED(rule) EXACT ", \"relaxed\": {" rule "}"
#define HIGH_FIRST(codes) EXACT ", \"padding\": {\"bits\": 4, \"high_first\": true, \"valid_row_codes\": " codes "}"
#define LOW_FIRST(codes) EXACT ", \"padding\": {\"bits\": 4, \"high_first\": false, \"valid_row_codes\": " codes "}"
#define F32(x)       \
    {                \
        .f32 = { x } \
    }
#define F64(x)       \
    {                \
        .f64 = { x } \
    }
#define U32(x)       \
    {                \
        .u32 = { x } \
    }
#define U16(x)       \
    {                \
        .u16 = { x } \
    }
#define U8(...)               \
    {                         \
        .u8 = { __VA_ARGS__ } \
    }

typedef union bytes {
    unsigned char u8[8];
    uint16_t u16[4];
    uint32_t u32[2];
    float f32[2];
    double f64[1];
} bytes;

static const struct {
    const char *dtype, *shape;
    size_t size;
    const char *output;
    bytes want, got;
    qd_vec_verdict verdict;
} rules[] = {
    /* Exact: any NaN is any NaN, the sign of zero counts. */
    {"f32", "[]", 4, EXACT, F32(1.5f), F32(1.5f), QD_VEC_PASS},
    {"f32", "[]", 4, EXACT, U32(0x3f800000), U32(0x3f800001), QD_VEC_FAIL},
    {"f32", "[]", 4, EXACT, F32(0.0f), F32(-0.0f), QD_VEC_FAIL},
    {"f32", "[]", 4, EXACT, U32(0x7fc00000), U32(0xff800001), QD_VEC_PASS},
    {"f32", "[]", 4, EXACT, U32(0x7fc00000), U32(0x7f800000), QD_VEC_FAIL},
    {"f64", "[]", 8, EXACT, F64(NAN), F64(-NAN), QD_VEC_PASS},
    {"f64", "[]", 8, EXACT, F64(0.1), F64(0.1 + 0x1p-55), QD_VEC_FAIL},
    {"f16", "[1]", 2, EXACT, U16(0x7e00), U16(0xfc01), QD_VEC_PASS},
    {"f16", "[1]", 2, EXACT, U16(0x7e00), U16(0x7c00), QD_VEC_FAIL},
    {"bf16", "[1]", 2, EXACT, U16(0x7fc0), U16(0xffff), QD_VEC_PASS},
    {"bf16", "[1]", 2, EXACT, U16(0x7c00), U16(0x7c01), QD_VEC_FAIL},
    {"u8", "[1]", 1, EXACT, U8(0x7f), U8(0xff), QD_VEC_FAIL},
    {"u8", "[1]", 1, EXACT ", \"logical\": \"f8e4m3fn\"", U8(0x7f), U8(0xff), QD_VEC_PASS},
    {"u8", "[1]", 1, EXACT ", \"logical\": \"f8e4m3fn\"", U8(0x7f), U8(0x7e), QD_VEC_FAIL},
    {"u8", "[1]", 1, EXACT ", \"logical\": \"f8e5m2\"", U8(0x7d), U8(0xfe), QD_VEC_PASS},
    {"u8", "[1]", 1, EXACT ", \"logical\": \"f8e5m2\"", U8(0x7d), U8(0x7c), QD_VEC_FAIL},
    {"u8", "[1]", 1, EXACT ", \"logical\": \"f8e4m3fnuz\"", U8(0x80), U8(0x00), QD_VEC_FAIL},
    {"u8", "[1]", 1, EXACT ", \"logical\": \"f8e8m0fnu\"", U8(0xff), U8(0x7f), QD_VEC_FAIL},
    {"u8", "[1]", 1, EXACT ", \"logical\": \"f4e2m1fn\"", U8(0x07), U8(0x0f), QD_VEC_FAIL},
    /* Bounds, just inside and just outside. */
    {"f32", "[]", 4, TOLERANCE("\"max_abs\": 0.0"), F32(0.0f), F32(-0.0f), QD_VEC_PASS},
    {"f32", "[]", 4, TOLERANCE("\"max_abs\": 0.5"), F32(1.0f), F32(1.5f), QD_VEC_PASS},
    {"f32", "[]", 4, TOLERANCE("\"max_abs\": 0.5"), F32(1.0f), F32(1.5000002f), QD_VEC_FAIL},
    {"f32", "[]", 4, TOLERANCE("\"max_abs\": 0.5"), F32(1.0f), F32(NAN), QD_VEC_FAIL},
    {"f32", "[]", 4, TOLERANCE("\"max_abs\": 0.5"), F32(NAN), F32(1.0f), QD_VEC_FAIL},
    {"f32", "[]", 4, TOLERANCE("\"max_abs\": 0.5"), F32(INFINITY), F32(INFINITY), QD_VEC_PASS},
    {"f32", "[]", 4, TOLERANCE("\"max_rel\": 1.0"), F32(INFINITY), F32(3e38f), QD_VEC_FAIL},
    {"i8", "[1]", 1, TOLERANCE("\"max_abs\": 1"), U8(0x80), U8(0x81), QD_VEC_PASS},
    {"i8", "[1]", 1, TOLERANCE("\"max_abs\": 1"), U8(0x80), U8(0x82), QD_VEC_FAIL},
    {"i8", "[1]", 1, TOLERANCE("\"max_abs\": 1"), U8(0xff), U8(0x00), QD_VEC_PASS},
    {"u8", "[1]", 1, TOLERANCE("\"max_abs\": 1"), U8(0xff), U8(0x00), QD_VEC_FAIL},
    {"i16", "[1]", 2, TOLERANCE("\"max_abs\": 1"), U16(0xffff), U16(0), QD_VEC_PASS},
    {"u16", "[1]", 2, TOLERANCE("\"max_abs\": 1"), U16(0xffff), U16(0), QD_VEC_FAIL},
    {"i32", "[1]", 4, TOLERANCE("\"max_abs\": 1"), U32(0xffffffff), U32(0), QD_VEC_PASS},
    {"u32", "[1]", 4, TOLERANCE("\"max_abs\": 1"), U32(0xffffffff), U32(0), QD_VEC_FAIL},
    {"f32", "[]", 4, TOLERANCE("\"max_rel\": 0.125"), F32(-8.0f), F32(-9.0f), QD_VEC_PASS},
    {"f32", "[]", 4, TOLERANCE("\"max_rel\": 0.125"), F32(-8.0f), F32(-9.000001f), QD_VEC_FAIL},
    {"f32", "[]", 4, TOLERANCE("\"max_ulp\": 2"), U32(0x3f800000), U32(0x3f800002), QD_VEC_PASS},
    {"f32", "[]", 4, TOLERANCE("\"max_ulp\": 2"), U32(0x3f800000), U32(0x3f800003), QD_VEC_FAIL},
    {"f32", "[]", 4, TOLERANCE("\"max_ulp\": 2"), U32(0), U32(0x80000002), QD_VEC_PASS},
    {"f32", "[]", 4, TOLERANCE("\"max_ulp\": 2"), U32(0), U32(3), QD_VEC_FAIL},
    {"f16", "[]", 2, TOLERANCE("\"max_ulp\": 1"), U16(0x3c00), U16(0x3c01), QD_VEC_PASS},
    {"f16", "[]", 2, TOLERANCE("\"max_ulp\": 1"), U16(0x3c00), U16(0x3c02), QD_VEC_FAIL},
    {"bf16", "[]", 2, TOLERANCE("\"max_ulp\": 1"), U16(0x3f80), U16(0x3f81), QD_VEC_PASS},
    {"bf16", "[]", 2, TOLERANCE("\"max_ulp\": 1"), U16(0x3f80), U16(0x3f82), QD_VEC_FAIL},
    {"f64", "[]", 8, TOLERANCE("\"max_ulp\": 1"), F64(1.0), F64(1.0 + 0x1p-52), QD_VEC_PASS},
    {"f64", "[]", 8, TOLERANCE("\"max_ulp\": 1"), F64(1.0), F64(1.0 + 0x1p-51), QD_VEC_FAIL},
    {"u8", "[1]", 1, TOLERANCE("\"informative\": \"x\""), U8(1), U8(9), QD_VEC_INFORMATIVE},
    {"u8", "[1]", 1, RELAXED("\"max_abs\": 1"), U8(3), U8(3), QD_VEC_PASS},
    {"u8", "[1]", 1, RELAXED("\"max_abs\": 1"), U8(3), U8(4), QD_VEC_RELAXED},
    {"u8", "[1]", 1, RELAXED("\"max_abs\": 1"), U8(3), U8(5), QD_VEC_FAIL},
    /* Packed codes. */
    {"u8", "[2]", 2, EXACT ", \"equivalent_nibbles\": [[0, 8]]", U8(0x01, 0x28), U8(0x81, 0x20), QD_VEC_PASS},
    {"u8", "[2]", 2, EXACT ", \"equivalent_nibbles\": [[0, 8]]", U8(0x01, 0x28), U8(0x81, 0x29), QD_VEC_FAIL},
    {"u8", "[1]", 1, EXACT ", \"equivalent_nibbles\": []", U8(0x01), U8(0x81), QD_VEC_FAIL},
    {"u8", "[2, 2]", 4, HIGH_FIRST("3"), U8(0x12, 0x3f, 0x45, 0x60), U8(0x12, 0x30, 0x45, 0x6f), QD_VEC_PASS},
    {"u8", "[2, 2]", 4, HIGH_FIRST("3"), U8(0x12, 0x3f, 0x45, 0x60), U8(0x12, 0x30, 0x45, 0x7f), QD_VEC_FAIL},
    {"u8", "[1, 2]", 2, LOW_FIRST("3"), U8(0x21, 0xf3), U8(0x21, 0x03), QD_VEC_PASS},
    {"u8", "[1, 2]", 2, LOW_FIRST("3"), U8(0x21, 0xf3), U8(0x21, 0xf2), QD_VEC_FAIL},
    {"u8", "[2]", 2, HIGH_FIRST("3"), U8(0x12, 0x3f), U8(0x12, 0x30), QD_VEC_PASS},
    {"u8", "[2]", 2, HIGH_FIRST("3"), U8(0x12, 0x3f), U8(0x12, 0x40), QD_VEC_FAIL},
    /* In the table of 16, code 13 is the neighbour of code 0, and code 1 is not. */
    {"u8", "[1]", 1, RELAXED("\"adjacent_codes\": true"), U8(0x00), U8(0x0d), QD_VEC_RELAXED},
    {"u8", "[1]", 1, RELAXED("\"adjacent_codes\": true"), U8(0x00), U8(0x01), QD_VEC_FAIL},
};
#define RULE_COUNT (int)(sizeof rules / sizeof rules[0])

START_TEST(test_rule) {
    qd_vec_result r;
    qd_vectors *v = open_case(rules[_i].dtype, rules[_i].shape, rules[_i].output, "", &rules[_i].want, rules[_i].size);
    const qd_vec_case *c = &v->cases[0];
    const qd_status status = qd_vec_compare(c, qd_vec_output(c, "y"), &rules[_i].got, rules[_i].size, NULL, &r);
    ck_assert_msg(status == QD_OK, "%s", qd_vec_message());
    ck_assert_msg(r.verdict == rules[_i].verdict, "%s %s: verdict %d, %s", rules[_i].dtype, rules[_i].output,
                  (int)r.verdict, r.first);
    if (r.verdict == QD_VEC_FAIL || r.verdict == QD_VEC_RELAXED) {
        ck_assert_int_eq(r.different, 1);
        ck_assert_ptr_nonnull(strstr(r.first, "y"));
    }
    qd_vectors_free(v);
}
END_TEST

START_TEST(test_excess) {
    static const unsigned char want[3] = {10, 20, 30}, tie[3] = {10, 21, 30}, off[3] = {10, 22, 30};
    static const double value[3] = {10.25, 20.5, 29.75};
    const qd_vec_options options = {.value = value};
    qd_vec_result r;
    qd_vectors *v = open_case("u8", "[3]", TOLERANCE("\"max_excess\": 0.01, \"table\": \"wide\""), "", want, 3);
    const qd_vec_case *c = &v->cases[0];
    ck_assert_int_eq(qd_vec_compare(c, &c->outputs[0], want, 3, &options, &r), QD_OK);
    ck_assert_int_eq(r.verdict, QD_VEC_PASS);
    ck_assert_int_eq(qd_vec_compare(c, &c->outputs[0], tie, 3, &options, &r), QD_OK);
    ck_assert_int_eq(r.verdict, QD_VEC_PASS);
    ck_assert_int_eq(qd_vec_compare(c, &c->outputs[0], off, 3, &options, &r), QD_OK);
    ck_assert_int_eq(r.verdict, QD_VEC_FAIL);
    ck_assert_int_eq(qd_vec_compare(c, &c->outputs[0], want, 3, NULL, &r), QD_ERR_ARGUMENT);
    qd_vectors_free(v);
}
END_TEST

/* A device that flushes denormals may do so in tagged cases only, and only to zero. */
START_TEST(test_flush) {
    static const float want[2] = {1e-40f, 1.0f}, zero[2] = {-0.0f, 1.0f}, other[2] = {2e-40f, 1.0f},
                       normal[2] = {1e-40f, 0};
    const qd_vec_options flushes = {.flushes_denormals = true};
    qd_vec_result r;
    for (int tagged = 0; tagged < 2; tagged++) {
        qd_vectors *v = open_case("f32", "[2]", EXACT, tagged ? "\"tags\": [\"zero\", \"denormal\"]," : "", want, 8);
        const qd_vec_case *c = &v->cases[0];
        ck_assert_int_eq(qd_vec_tagged(c, "denormal"), tagged);
        ck_assert_int_eq(qd_vec_compare(c, &c->outputs[0], zero, 8, &flushes, &r), QD_OK);
        ck_assert_int_eq(r.verdict, tagged ? QD_VEC_PASS : QD_VEC_FAIL);
        ck_assert_int_eq(qd_vec_compare(c, &c->outputs[0], zero, 8, NULL, &r), QD_OK);
        ck_assert_int_eq(r.verdict, QD_VEC_FAIL);
        ck_assert_int_eq(qd_vec_compare(c, &c->outputs[0], other, 8, &flushes, &r), QD_OK);
        ck_assert_int_eq(r.verdict, QD_VEC_FAIL);
        ck_assert_int_eq(qd_vec_compare(c, &c->outputs[0], normal, 8, &flushes, &r), QD_OK);
        ck_assert_int_eq(r.verdict, QD_VEC_FAIL);
        qd_vectors_free(v);
    }
}
END_TEST

START_TEST(test_size_and_unknown_rules) {
    static const unsigned char want[2] = {1, 2};
    static const char *const unknown[] = {
        "\"tolerance\": \"close\"",
        TOLERANCE("\"max_foo\": 1"),
        "\"note\": 0",
        TOLERANCE("\"max_excess\": 1, \"table\": \"none\""),
        EXACT ", \"padding\": {\"bits\": 3, \"high_first\": true, \"valid_row_codes\": 1}",
        HIGH_FIRST("5"),
    };
    qd_vec_result r;
    const qd_vec_options options = {.value = (const double[]){0, 0}};
    qd_vectors *v = open_case("u8", "[2]", EXACT, "", want, 2);
    ck_assert_int_eq(qd_vec_compare(&v->cases[0], &v->cases[0].outputs[0], want, 1, NULL, &r), QD_OK);
    ck_assert_int_eq(r.verdict, QD_VEC_FAIL);
    qd_vectors_free(v);
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        v = open_case("u8", "[2]", unknown[i], "", want, 2);
        ck_assert_msg(qd_vec_compare(&v->cases[0], &v->cases[0].outputs[0], want, 2, &options, &r) == QD_ERR_FILE, "%s",
                      unknown[i]);
        qd_vectors_free(v);
    }
}
END_TEST

START_TEST(test_quality) {
    static const unsigned char want[1] = {0};
    double limit = 0;
    qd_vectors *v = open_case("u8", "[1]", TOLERANCE("\"informative\": \"see quality\""),
                              "\"quality\": {\"rmse\": 2.0, \"max_ratio\": 1.5, \"floor\": 0.25},", want, 1);
    ck_assert_int_eq(qd_vec_quality_limit(&v->cases[0], &limit), QD_OK);
    ck_assert_double_eq(limit, 3.25);
    qd_vectors_free(v);
    v = open_case("u8", "[1]", EXACT, "", want, 1);
    ck_assert_int_eq(qd_vec_quality_limit(&v->cases[0], &limit), QD_ERR_FILE);
    qd_vectors_free(v);
}
END_TEST

static const char good_manifest[] =
    "{\"format_version\": 1, \"group\": \"g\", \"case_count\": 1, \"cases\": [{\"name\": \"c\", \"op\": \"o\", "
    "\"expect\": \"ok\", \"attrs\": {}, \"inputs\": [], \"outputs\": [{\"name\": \"y\", \"file\": \"data.bin\", "
    "\"offset\": 16, \"nbytes\": 16, \"dtype\": \"f32\", \"shape\": [4], \"endian\": \"little\"}]}]}";
static const float good_data[8];

/* Each line is a good manifest with one thing changed. */
START_TEST(test_damaged_manifests) {
    static const struct {
        const char *from, *to;
        qd_status status;
    } damages[] = {
        {"\"o\"", "\"o\"", QD_OK},
        {"{\"format", "{\"format\"", QD_ERR_FILE},
        {"\"format_version\": 1", "\"format_version\": 2", QD_ERR_FILE},
        {"\"case_count\": 1", "\"case_count\": 2", QD_ERR_FILE},
        {"\"cases\": [", "\"other\": [", QD_ERR_FILE},
        {"\"expect\": \"ok\"", "\"expect\": \"maybe\"", QD_ERR_FILE},
        {"\"attrs\": {}", "\"attrs\": []", QD_ERR_FILE},
        {"\"inputs\": []", "\"inputs\": [3]", QD_ERR_FILE},
        {"\"inputs\": []", "\"inputs\": {\"a\": 3}", QD_ERR_FILE},
        {"\"offset\": 16", "\"offset\": 8", QD_ERR_FILE},
        {"\"offset\": 16", "\"offset\": 32", QD_ERR_FILE},
        {"\"offset\": 16", "\"offset\": -16", QD_ERR_FILE},
        {"\"offset\": 16", "\"offset\": 16.5", QD_ERR_FILE},
        {"\"offset\": 16", "\"offset\": 1e300", QD_ERR_FILE},
        {"\"g\"", "\"../g\"", QD_ERR_FILE},
        {"\"g\"", "\"\"", QD_ERR_FILE},
        {"\"c\"", "\"c\\u001b\"", QD_ERR_FILE},
        {"\"o\"", "\"o\\n\"", QD_ERR_FILE},
        {"\"y\"", "\"y\\u007f\"", QD_ERR_FILE},
        {"\"nbytes\": 16", "\"nbytes\": 12", QD_ERR_FILE},
        {"\"shape\": [4]", "\"shape\": [5]", QD_ERR_FILE},
        {"\"shape\": [4]", "\"shape\": [-4]", QD_ERR_FILE},
        {"\"shape\": [4]", "\"shape\": [2.5]", QD_ERR_FILE},
        {"\"shape\": [4]", "\"shape\": [4294967296, 4294967296, 4]", QD_ERR_FILE},
        {"\"shape\": [4]", "\"shape\": [1, 1, 1, 1, 1, 1, 1, 1, 4]", QD_ERR_FILE},
        {"\"dtype\": \"f32\"", "\"dtype\": \"f33\"", QD_ERR_FILE},
        {"\"little\"", "\"big\"", QD_ERR_FILE},
        {"\"data.bin\"", "\"../data.bin\"", QD_ERR_FILE},
        {"\"data.bin\"", "\"none.bin\"", QD_ERR_IO},
        {"\"data.bin\"", "\"..\"", QD_ERR_IO},
    };
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        char text[1024];
        qd_vectors *v = NULL;
        const char *at = strstr(good_manifest, damages[i].from);
        ck_assert_ptr_nonnull(at);
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good_manifest), good_manifest, damages[i].to,
                 at + strlen(damages[i].from));
        make_folder();
        write_file("cases.json", text, strlen(text));
        write_file("data.bin", good_data, sizeof good_data);
        const qd_status status = qd_vectors_open(folder, &v);
        remove_folder();
        ck_assert_msg(status == damages[i].status, "%s: status %d, %s", damages[i].to, (int)status, qd_vec_message());
        ck_assert_int_eq(v == NULL, status != QD_OK);
        qd_vectors_free(v);
    }
    qd_vectors *v = NULL;
    ck_assert_int_eq(qd_vectors_open("no-such-folder", &v), QD_ERR_IO);
    ck_assert_ptr_null(v);
}
END_TEST

static long allocations_left;

static void *failing_malloc(size_t size) {
    return allocations_left-- > 0 ? malloc(size) : NULL;
}

/* Each allocation fails in turn. */
START_TEST(test_out_of_memory) {
    cJSON_Hooks hooks = {failing_malloc, free};
    long n = 0;
    qd_status status = QD_ERR_MEMORY;
    make_folder();
    write_file("cases.json", good_manifest, strlen(good_manifest));
    write_file("data.bin", good_data, sizeof good_data);
    cJSON_InitHooks(&hooks);
    for (; status != QD_OK && n < 200; n++) {
        qd_vectors *v = NULL;
        allocations_left = n;
        status = qd_vectors_open(folder, &v);
        ck_assert_int_eq(v == NULL, status != QD_OK);
        qd_vectors_free(v);
    }
    cJSON_InitHooks(NULL);
    remove_folder();
    ck_assert_int_eq(status, QD_OK);
    ck_assert_int_gt(n, 20);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("reader of golden vectors");
    TCase *tc = tcase_create("rules");
    tcase_add_loop_test(tc, test_rule, 0, RULE_COUNT);
    tcase_add_test(tc, test_excess);
    tcase_add_test(tc, test_flush);
    tcase_add_test(tc, test_size_and_unknown_rules);
    tcase_add_test(tc, test_quality);
    tcase_add_test(tc, test_damaged_manifests);
    tcase_add_test(tc, test_out_of_memory);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
