/* Safetensors files, right and damaged ones, and the layers in them.
 *
 *   test_safetensors                      runs the tests
 *   test_safetensors --write-seeds DIR    writes the fuzzer's seeds (committed in tests/fuzz/corpus/safetensors) */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/status.h"
#include "qdot/qdot_safetensors.h"
#include "unit/gguf_image.h"

#define GOOD(call) ck_assert_msg((call) == QD_OK, "%s", qd_last_message())

/* A header and `bytes` bytes of data: 0, 1, 2 … */
static image file_of(const char *header, size_t bytes) {
    image m = {0};
    put_string(&m, header);
    for (size_t i = 0; i < bytes; i++)
        put(&m, i, 1);
    return m;
}

static const char plain[] =
    "{\"__metadata__\":{\"format\":\"pt\"},"
    "\"b\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[4,16]},"
    "\"a\":{\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[0,4]},"
    "\"none\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[16,16]}}  ";

START_TEST(right_file) {
    image m = file_of(plain, 16);
    qd_safetensors *s = NULL;
    GOOD(qd_safetensors_parse(m.bytes, m.size, &s));
    ck_assert_int_eq(qd_safetensors_count(s), 3);
    static const char *const names[] = {"a", "b", "none"};
    for (int i = 0; i < 3; i++) {
        const qd_safetensor *t = qd_safetensors_at(s, i);
        ck_assert_str_eq(t->name, names[i]);
        ck_assert_ptr_eq(qd_safetensors_find(s, names[i]), t);
    }
    const qd_safetensor *b = qd_safetensors_find(s, "b");
    ck_assert_str_eq(b->type, "F16");
    ck_assert(b->rank == 2 && b->shape[0] == 2 && b->shape[1] == 3 && b->bytes == 12);
    ck_assert_uint_eq(*(const uint8_t *)b->data, 4);
    ck_assert(qd_safetensors_find(s, "a")->rank == 0 && qd_safetensors_find(s, "a")->bytes == 4);
    ck_assert_ptr_null(qd_safetensors_find(s, "c"));
    ck_assert_ptr_null(qd_safetensors_at(s, 3));
    ck_assert_ptr_null(qd_safetensors_at(s, -1));
    qd_safetensors_free(s);
    image_free(&m);
}
END_TEST

static void expect_bad(const void *bytes, size_t size, const char *words) {
    uint8_t *copy = malloc(size ? size : 1);
    qd_safetensors *s = NULL;
    if (size) memcpy(copy, bytes, size);
    EXPECT_STATUS(qd_safetensors_parse(copy, size, &s), QD_ERR_FILE, words);
    ck_assert_ptr_null(s);
    free(copy);
}

static void expect_bad_header(const char *header, size_t bytes, const char *words) {
    image m = file_of(header, bytes);
    expect_bad(m.bytes, m.size, words);
    image_free(&m);
}

#define T(name, dtype, shape, offsets) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

START_TEST(damaged) {
    image m = file_of(plain, 16);
    for (size_t size = 0; size < m.size; size++)
        expect_bad(m.bytes, size, "safetensors: ");
    m.bytes[7] = 1;
    expect_bad(m.bytes, m.size, "the header is said to have");
    image_free(&m);
    expect_bad_header("[]", 0, "no JSON object");
    expect_bad_header("{\"a\":1,}", 0, "no JSON object, from byte");
    expect_bad_header("{} x", 0, "goes on behind");
    expect_bad_header("{\"a\":1}", 0, "'a' is of the type ''");
    expect_bad_header("{" T("a", "F12", "[1]", "[0,4]") "}", 4, "'a' is of the type 'F12'");
    expect_bad_header("{" T("a", "F32", "7", "[0,4]") "}", 4, "has no shape");
    expect_bad_header("{" T("a", "F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]") "}", 4, "has 9 dimensions");
    expect_bad_header("{" T("a", "F32", "[-1]", "[0,4]") "}", 4, "no size");
    expect_bad_header("{" T("a", "F32", "[1.5]", "[0,4]") "}", 4, "no size");
    expect_bad_header("{" T("a", "F32", "[\"1\"]", "[0,4]") "}", 4, "no size");
    expect_bad_header("{" T("a", "F32", "[1e15,1e15]", "[0,4]") "}", 4, "no size");
    expect_bad_header("{" T("a", "F32", "[4e9,4e9]", "[0,4]") "}", 4, "not those of its shape");
    expect_bad_header("{" T("a", "F32", "[1]", "[0]") "}", 4, "no pair of data_offsets");
    expect_bad_header("{" T("a", "F32", "[1]", "{\"x\":0,\"y\":4}") "}", 4, "no pair of data_offsets");
    expect_bad_header("{" T("a", "F32", "[1]", "[4,0]") "}", 4, "end beyond");
    expect_bad_header("{" T("a", "F32", "[2]", "[0,8]") "}", 4, "end beyond the 4 bytes");
    expect_bad_header("{" T("a", "F32", "[2]", "[0,4]") "}", 4, "not those of its shape");
    expect_bad_header("{" T("a", "F32", "[1]", "[0,4]") "," T("b", "F32", "[1]", "[2,6]") "}", 6, "overlap");
    expect_bad_header("{" T("a", "F32", "[1]", "[0,4]") "," T("b", "F32", "[1]", "[6,10]") "}", 10, "after a hole");
    expect_bad_header("{" T("a", "F32", "[1]", "[0,4]") "}", 5, "1 bytes at the end belong to no tensor");
    expect_bad_header("{" T("a", "F32", "[1]", "[0,4]") "," T("a", "F32", "[1]", "[4,8]") "}", 8, "appears twice");
}
END_TEST

/* ---- Layers ------------------------------------------------------------------------------------------------- */

enum { ROWS = 32, COLS = 64 };

static qd_grouped layer_of(int bits, int64_t group) {
    qd_grouped g = {
        .bits = bits, .rows = ROWS, .cols = COLS, .group = group, .groups = COLS / group, .half_scales = true};
    g.codes = malloc(ROWS * COLS);
    g.zeros = malloc((size_t)(ROWS * g.groups));
    g.scales = malloc((size_t)(ROWS * g.groups) * sizeof *g.scales);
    for (int i = 0; i < ROWS * COLS; i++)
        g.codes[i] = (uint8_t)((unsigned)i * 2654435761u >> 20 & ((1u << bits) - 1));
    for (int i = 0; i < ROWS * g.groups; i++) {
        g.zeros[i] = (uint8_t)((unsigned)i * 40503u >> 7 & ((1u << bits) - 1));
        g.scales[i] = (float)(i % 19 + 1) / 64;
    }
    return g;
}

static void expect_same(const qd_grouped *a, const qd_grouped *b) {
    float *x = malloc(sizeof *x * ROWS * COLS), *y = malloc(sizeof *y * ROWS * COLS);
    ck_assert(a->rows == b->rows && a->cols == b->cols && a->bits == b->bits && a->group == b->group);
    qd_grouped_values(a, x);
    qd_grouped_values(b, y);
    ck_assert_mem_eq(x, y, sizeof *x * ROWS * COLS);
    free(x);
    free(y);
}

static const struct {
    int bits;
    int64_t group;
    qd_grouped_layout layout;
} layers[] = {{4, 32, QD_LAYOUT_GPTQ}, {4, 16, QD_LAYOUT_AWQ},  {2, 16, QD_LAYOUT_GPTQ},
              {3, 64, QD_LAYOUT_GPTQ}, {8, 32, QD_LAYOUT_GPTQ}, {4, 64, QD_LAYOUT_AWQ}};

/* Without Check, which only works while tests run. */
static qd_status write_layer(const char *path, const qd_grouped *g, qd_grouped_layout layout) {
    qd_safetensors_writer *w = NULL;
    qd_status status = qd_safetensors_create(path, &w);
    if (status == QD_OK) status = qd_grouped_add(w, "l", g, layout);
    if (status == QD_OK) status = qd_grouped_write(w, g, layout);
    if (status == QD_OK) status = qd_safetensors_finish(w);
    qd_safetensors_writer_free(w);
    return status;
}

START_TEST(layers_and_matrices) {
    char path[] = "/tmp/qdot-layer-XXXXXX";
    close(mkstemp(path));
    qd_grouped g = layer_of(layers[_i].bits, layers[_i].group), back = {0}, shape = {0};
    qd_grouped_layout layout;
    qd_safetensors *s = NULL;
    GOOD(write_layer(path, &g, layers[_i].layout));
    GOOD(qd_safetensors_open(path, &s));
    GOOD(qd_grouped_read(s, "l", &back, &layout));
    ck_assert_int_eq(layout, layers[_i].layout);
    ck_assert(back.half_scales && !back.group_of);
    expect_same(&g, &back);
    GOOD(qd_grouped_measure(s, "l", &shape, &layout));
    ck_assert(shape.group == g.group && shape.bits == g.bits && shape.rows == ROWS && shape.cols == COLS);
    qd_grouped_free(&back);

    /* The same codes in a coding, and back. */
    char name[64];
    qd_storage to;
    snprintf(name, sizeof name, "int%d-g%d-asym-f16", g.bits, (int)g.group);
    GOOD(qd_storage_parse(name, &to));
    void *data = malloc(ROWS * qd_storage_row_bytes(&to, COLS));
    float side[4], *x = malloc(sizeof *x * ROWS * COLS), *y = malloc(sizeof *y * ROWS * COLS);
    GOOD(qd_grouped_to_matrix(&g, &to, data, side));
    GOOD(qd_coding_dequantize(&to.coding, data, side, ROWS, COLS, 0, ROWS, x));
    qd_grouped_values(&g, y);
    ck_assert_mem_eq(x, y, sizeof *x * ROWS * COLS);
    GOOD(qd_grouped_from_matrix(&(qd_matrix){to, ROWS, COLS, data, side}, &back));
    expect_same(&g, &back);
    qd_grouped_free(&back);
    free(data);

    if (g.bits == 4 && g.group % 32 == 0) {
        /* Q4_1 has the same codes, Q4_0 too once the zero points are 8. */
        to = (qd_storage){.format = QD_FORMAT_Q4_1};
        data = malloc(ROWS * COLS);
        GOOD(qd_grouped_to_matrix(&g, &to, data, NULL));
        GOOD(qd_dequantize(QD_FORMAT_Q4_1, data, ROWS, COLS, x));
        for (int i = 0; i < ROWS * COLS; i++)
            ck_assert_float_eq_tol(x[i], y[i], 0.003f);
        to.format = QD_FORMAT_Q4_0;
        EXPECT_STATUS(qd_grouped_to_matrix(&g, &to, data, NULL), QD_ERR_UNSUPPORTED, "not all 8");
        memset(g.zeros, 8, (size_t)(ROWS * g.groups));
        GOOD(qd_grouped_to_matrix(&g, &to, data, NULL));
        GOOD(qd_dequantize(QD_FORMAT_Q4_0, data, ROWS, COLS, x));
        qd_grouped_values(&g, y);
        ck_assert_mem_eq(x, y, sizeof *x * ROWS * COLS);
        GOOD(qd_grouped_from_matrix(&(qd_matrix){to, ROWS, COLS, data, NULL}, &back));
        ck_assert_int_eq(back.group, 32);
        float *z = malloc(sizeof *z * ROWS * COLS);
        qd_grouped_values(&back, z);
        ck_assert_mem_eq(z, y, sizeof *z * ROWS * COLS);
        qd_grouped_free(&back);
        free(z);
        free(data);
    }
    qd_safetensors_free(s);
    qd_grouped_free(&g);
    free(x);
    free(y);
    unlink(path);
}
END_TEST

START_TEST(refused) {
    qd_grouped g = layer_of(4, 32);
    qd_storage to;
    char data[ROWS * COLS];
    float side[4];
    static const char *const pairs[][2] = {
        {"int3-g32-asym", "other bits"},           {"int4-g16-asym", "groups are others"},
        {"int4-g32", "not all in the middle"},     {"nf4", "other bits"},
        {"int4-g32-asym-e8m0", "of another kind"}, {"f16", "no such codes"}};
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        GOOD(qd_storage_parse(pairs[i][0], &to));
        EXPECT_STATUS(qd_grouped_to_matrix(&g, &to, data, side), QD_ERR_UNSUPPORTED, pairs[i][1]);
    }
    g.scales[5] = 0.1f;
    GOOD(qd_storage_parse("int4-g32-asym", &to));
    EXPECT_STATUS(qd_grouped_to_matrix(&g, &to, data, side), QD_ERR_UNSUPPORTED, "add -f32");
    qd_grouped shape;
    GOOD(qd_storage_parse("nf4", &to));
    EXPECT_STATUS(qd_grouped_shape(&to, ROWS, COLS, &shape), QD_ERR_UNSUPPORTED, "nf4 has no codes with");
    qd_safetensors_writer *w = NULL;
    char path[] = "/tmp/qdot-layer-XXXXXX";
    close(mkstemp(path));
    GOOD(qd_safetensors_create(path, &w));
    g.rows = 12;
    EXPECT_STATUS(qd_grouped_add(w, "l", &g, QD_LAYOUT_AWQ), QD_ERR_UNSUPPORTED, "multiple of 8 rows");
    EXPECT_STATUS(qd_grouped_add(w, "l", &g, QD_LAYOUT_GPTQ), QD_ERR_UNSUPPORTED, "whole words of 32 bits");
    g.rows = ROWS;
    GOOD(qd_grouped_add(w, "l", &g, QD_LAYOUT_GPTQ));
    EXPECT_STATUS(qd_grouped_add(w, "l", &g, QD_LAYOUT_GPTQ), QD_ERR_ARGUMENT, "was added already");
    EXPECT_STATUS(qd_safetensors_finish(w), QD_ERR_ARGUMENT, "bytes of data were given");
    EXPECT_STATUS(qd_safetensors_add(w, &(qd_safetensor){.name = "x", .type = "F12"}), QD_ERR_ARGUMENT, "no type");
    GOOD(qd_grouped_write(w, &g, QD_LAYOUT_GPTQ));
    EXPECT_STATUS(qd_safetensors_write(w, "", 1), QD_ERR_ARGUMENT, "more data");
    EXPECT_STATUS(qd_safetensors_add(w, &(qd_safetensor){.name = "x", .type = "F32"}), QD_ERR_ARGUMENT, "before");
    qd_safetensors_writer_free(w);
    unlink(path);
    qd_grouped_free(&g);
}
END_TEST

/* Layers whose tensors do not agree. */
START_TEST(damaged_layers) {
    static const struct {
        const char *header, *words;
        size_t bytes;
    } cases[] = {
        {"{" T("l.qweight", "F32", "[1,1]", "[0,4]") "}", "no matrix qweight", 4},
        {"{" T("l.qweight", "I32", "[8]", "[0,32]") "}", "no matrix qweight", 32},
        {"{" T("l.qweight", "I32", "[1,8]", "[0,32]") "}", "no matrix qzeros", 32},
        {"{" T("l.qweight", "I32", "[1,8]", "[0,32]") "," T("l.qzeros", "I32", "[1,1]", "[32,36]") "}",
         "no matrix scales", 36},
        {"{" T("l.qweight", "I32", "[1,8]", "[0,32]") "," T("l.qzeros", "I32", "[1,1]", "[32,36]") "," T(
             "l.scales", "F16", "[2,8]", "[36,68]") "}",
         "do not agree", 68},
        {"{" T("l.qweight", "I32", "[1,8]", "[0,32]") "," T("l.qzeros", "I32", "[1,5]", "[32,52]") "," T(
             "l.scales", "F16", "[1,8]", "[52,68]") "}",
         "2, 3, 4 or 8 bits", 68},
        {"{" T("l.qweight", "I32", "[2,4]", "[0,32]") "," T("l.qzeros", "I32", "[1,1]", "[32,36]") "," T(
             "l.scales", "F16", "[1,8]", "[36,52]") "}",
         "neither GPTQ's nor AWQ's", 52},
        {"{" T("l.qweight", "I32", "[1,8]", "[0,32]") "," T("l.qzeros", "I32", "[1,1]", "[32,36]") "," T(
             "l.scales", "F16", "[1,8]", "[36,52]") "," T("l.g_idx", "I32", "[7]", "[52,80]") "}",
         "one number for each input", 80},
        {"{" T("l.qweight", "I32", "[1,8]", "[0,32]") "," T("l.qzeros", "I32", "[1,1]", "[32,36]") "," T(
             "l.scales", "F16", "[1,8]", "[36,52]") "," T("l.g_idx", "I32", "[8]", "[52,84]") "}",
         "a group that is not there", 84},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        image m = file_of(cases[i].header, cases[i].bytes);
        qd_safetensors *s = NULL;
        qd_grouped g = {0};
        qd_grouped_layout layout;
        GOOD(qd_safetensors_parse(m.bytes, m.size, &s));
        EXPECT_STATUS(qd_grouped_read(s, "l", &g, &layout), QD_ERR_FILE, cases[i].words);
        ck_assert(!g.codes && !g.group_of);
        qd_safetensors_free(s);
        image_free(&m);
    }
}
END_TEST

static int write_seeds(const char *folder) {
    char path[256];
    image m = file_of(plain, 16);
    snprintf(path, sizeof path, "%s/plain", folder);
    FILE *f = fopen(path, "wb");
    bool ok = f && fwrite(m.bytes, 1, m.size, f) == m.size;
    if (f) fclose(f);
    image_free(&m);
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        qd_grouped g = layer_of(layers[i].bits, layers[i].group);
        snprintf(path, sizeof path, "%s/layer%zu", folder, i);
        ok = ok && write_layer(path, &g, layers[i].layout) == QD_OK;
        qd_grouped_free(&g);
    }
    return !ok;
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "--write-seeds")) return write_seeds(argv[2]);
    Suite *suite = suite_create("safetensors");
    TCase *c = tcase_create("safetensors");
    suite_add_tcase(suite, c);
    tcase_add_test(c, right_file);
    tcase_add_test(c, damaged);
    tcase_add_loop_test(c, layers_and_matrices, 0, sizeof layers / sizeof layers[0]);
    tcase_add_test(c, refused);
    tcase_add_test(c, damaged_layers);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
