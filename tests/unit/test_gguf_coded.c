/* Coded tensors in GGUF files: right ones, and each thing that may be wrong with them. */
#include <check.h>

#include "unit/gguf_image.h"

enum { TYPE_I8 = 24, ROWS = 5, COLS = 40 };

/* A file with one coded matrix "w" of ROWS × COLS. Tests change a member and see what is said. */
typedef struct coded_spec {
    const char *coding;
    bool has_columns, has_side;
    uint64_t columns, row_bytes, rows, side_count;
    uint32_t type, side_type, side_rank;
} coded_spec;

static coded_spec right(const char *coding) {
    qd_coding c;
    ck_assert_int_eq(qd_coding_parse(coding, &c), QD_OK);
    return (coded_spec){.coding = coding,
                        .has_columns = true,
                        .has_side = true,
                        .columns = COLS,
                        .row_bytes = qd_coding_row_bytes(&c, COLS),
                        .rows = ROWS,
                        .side_count = (uint64_t)qd_coding_side_count(&c, ROWS, COLS),
                        .type = TYPE_I8,
                        .side_type = TYPE_F32,
                        .side_rank = 1};
}

static image write_spec(const coded_spec *s) {
    image m = {0};
    put_header(&m, 3, s->has_side ? 3 : 2, s->has_columns ? 2 : 1);
    put_key(&m, "qdot.coding.w", QD_GGUF_STRING), put_string(&m, s->coding);
    if (s->has_columns) put_key(&m, "qdot.columns.w", QD_GGUF_U64), put(&m, s->columns, 8);
    const uint64_t bytes = (s->rows * s->row_bytes + 31) / 32 * 32;
    put_tensor(&m, "w", 2, (uint64_t[]){s->row_bytes, s->rows}, s->type, 0);
    if (s->has_side) put_tensor(&m, "w.side", s->side_rank, (uint64_t[]){s->side_count, 1}, s->side_type, bytes);
    put_tensor(&m, "plain", 1, (uint64_t[]){8}, TYPE_F32, 0);
    pad(&m, 32);
    /* Room for whatever type the tensors have. */
    for (uint64_t i = 0; i < 4 * bytes + 4 * s->side_count + 64; i++)
        put(&m, i, 1);
    return m;
}

static const char *const codings[] = {"int4-g16",    "int4-asym", "int8", "nf4-dq",     "kmeans4",
                                      "kmeans3-row", "pq6-d4",        "log4", "int8-tensor"};

START_TEST(right_files) {
    const coded_spec s = right(codings[_i]);
    image m = write_spec(&s);
    qd_gguf *g = expect_good(&m);
    bool coded = false;
    qd_gguf_coded c;
    ck_assert_msg(qd_gguf_find_coded(g, "w", &coded, &c) == QD_OK, "%s", qd_last_message());
    ck_assert(coded);
    char name[64];
    qd_coding_name(&c.coding, name, sizeof name);
    ck_assert_str_eq(name, codings[_i]);
    ck_assert_int_eq(c.rows, ROWS);
    ck_assert_int_eq(c.cols, COLS);
    ck_assert_uint_eq((uint64_t)c.side_count, s.side_count);
    qd_gguf_tensor data, side;
    ck_assert_int_eq(qd_gguf_tensor_find(g, "w", &data), QD_OK);
    ck_assert_int_eq(qd_gguf_tensor_find(g, "w.side", &side), QD_OK);
    ck_assert_ptr_eq(c.data, data.data);
    ck_assert_ptr_eq(c.side, side.data);

    ck_assert_int_eq(qd_gguf_find_coded(g, "plain", &coded, &c), QD_OK);
    ck_assert(!coded);
    ck_assert_int_eq(c.rows, ROWS); /* untouched */
    EXPECT_STATUS(qd_gguf_find_coded(g, "absent", &coded, &c), QD_ERR_FILE, "'absent'");
    EXPECT_STATUS(qd_gguf_find_coded(NULL, "w", &coded, &c), QD_ERR_ARGUMENT, "must not be NULL");
    EXPECT_STATUS(qd_gguf_find_coded(g, "w", NULL, &c), QD_ERR_ARGUMENT, "must not be NULL");
    qd_gguf_free(g);
    image_free(&m);
}
END_TEST

static void expect_damaged(const coded_spec *s, const char *words) {
    image m = write_spec(s);
    qd_gguf *g = expect_good(&m);
    bool coded = false;
    qd_gguf_coded c = {.rows = -7};
    EXPECT_STATUS(qd_gguf_find_coded(g, "w", &coded, &c), QD_ERR_FILE, words);
    ck_assert(!coded && c.rows == -7);
    qd_gguf_free(g);
    image_free(&m);
}

START_TEST(damaged_files) {
    const coded_spec good = right("nf4-dq");
    coded_spec s = good;
    s.coding = "nf5";
    expect_damaged(&s, "unknown coding \"nf5\"");
    s.coding = "nf4-dq-g7";
    expect_damaged(&s, "\"g7\" is not known");
    s.coding = "nf4-g16-g16-g16-g16-g16-g16-g16-g16-g16-g16-g16-g16-g16-g16-g16-g16-g16-g16-g16-g16-g16-g16-g16";
    expect_damaged(&s, "the name of its coding has 95 bytes");
    s = good;
    s.has_columns = false;
    expect_damaged(&s, "there is no key qdot.columns.w");
    s = good;
    s.columns = 0;
    expect_damaged(&s, "with 0 columns");
    s.columns = UINT64_MAX;
    expect_damaged(&s, "too large");
    s.columns = INT64_MAX;
    expect_damaged(&s, "tensor 'w'");
    s.columns = COLS + 2;
    expect_damaged(&s, "of 42 such weights");
    s = good;
    s.row_bytes--;
    expect_damaged(&s, "its rows have");
    s = good;
    s.type = TYPE_F32;
    expect_damaged(&s, "no matrix of i8");
    s = good;
    s.has_side = false;
    expect_damaged(&s, "no tensor 'w.side'");
    s = good;
    s.side_count++;
    expect_damaged(&s, "'w.side' is not of the type f32 with");
    s = good;
    s.side_type = TYPE_I8;
    expect_damaged(&s, "'w.side' is not of the type f32");
    s = good;
    s.side_rank = 2;
    expect_damaged(&s, "'w.side' is not of the type f32");
    s = right("pq6-d4");
    s.columns = 41;
    expect_damaged(&s, "vectors of 4");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("gguf_coded");
    TCase *c = tcase_create("coded");
    suite_add_tcase(suite, c);
    tcase_add_loop_test(c, right_files, 0, sizeof codings / sizeof codings[0]);
    tcase_add_test(c, damaged_files);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
