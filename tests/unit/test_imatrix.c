/* Importance matrices in both forms of llama-imatrix, right and damaged. */
#include <check.h>
#include <math.h>

#include "unit/gguf_image.h"

#define GOOD(call) ck_assert_msg((call) == QD_OK, "%s", qd_last_message())

static void put_entry(image *m, const char *name, uint64_t calls, uint64_t count, float first) {
    put(m, strlen(name), 4);
    put_bytes(m, name, strlen(name));
    put(m, calls, 4);
    put(m, count, 4);
    for (uint64_t i = 0; i < count; i++)
        put_f32(m, first + (float)i);
}

static image old_form(void) {
    image m = {0};
    put(&m, 3, 4);
    put_entry(&m, "a", 4, 3, 8);
    put_entry(&m, "unused", 0, 2, 1);
    put_entry(&m, "b", 1, 1, 0);
    put(&m, 7, 4); /* the last call, and a text: not read */
    return m;
}

static image gguf_form(const char *type, uint32_t sums_type) {
    image m = {0};
    put_header(&m, 3, 4, 1);
    put_key(&m, "general.type", QD_GGUF_STRING), put_string(&m, type);
    put_tensor(&m, "a.in_sum2", 2, (uint64_t[]){3, 1}, sums_type, 0);
    put_tensor(&m, "a.counts", 2, (uint64_t[]){1, 1}, TYPE_F32, 32);
    put_tensor(&m, "b.in_sum2", 2, (uint64_t[]){1, 1}, TYPE_F32, 64);
    put_tensor(&m, "b.counts", 2, (uint64_t[]){1, 1}, TYPE_F32, 96);
    pad(&m, 32);
    put_f32(&m, 8), put_f32(&m, 9), put_f32(&m, 10), pad(&m, 32);
    put_f32(&m, 4), pad(&m, 32);
    put_f32(&m, 0), pad(&m, 32);
    put_f32(&m, 1), pad(&m, 32);
    return m;
}

START_TEST(both_forms) {
    image m = _i ? gguf_form("imatrix", TYPE_F32) : old_form();
    qd_imatrix *i = NULL;
    GOOD(qd_imatrix_parse(m.bytes, m.size, &i));
    ck_assert_int_eq(qd_imatrix_count(i), 2);
    const float *v = NULL;
    GOOD(qd_imatrix_find(i, "a", 3, &v));
    ck_assert(v && v[0] == 2 && v[1] == 2.25f && v[2] == 2.5f);
    GOOD(qd_imatrix_find(i, "b", 1, &v));
    ck_assert(v && v[0] == 0);
    GOOD(qd_imatrix_find(i, "unused", 2, &v));
    ck_assert_ptr_null(v);
    GOOD(qd_imatrix_find(i, "c", 5, &v));
    ck_assert_ptr_null(v);
    EXPECT_STATUS(qd_imatrix_find(i, "a", 4, &v), QD_ERR_FILE, "has 3 columns there, but 4 in the model");
    qd_imatrix_free(i);
    image_free(&m);
}
END_TEST

static void expect_bad(image *m, size_t size, const char *words) {
    /* A copy that ends where the file ends, for the sanitizer. */
    uint8_t *copy = malloc(size ? size : 1);
    qd_imatrix *i = NULL;
    if (size) memcpy(copy, m->bytes, size);
    EXPECT_STATUS(qd_imatrix_parse(copy, size, &i), QD_ERR_FILE, words);
    ck_assert_ptr_null(i);
    free(copy);
}

START_TEST(damaged) {
    image m = old_form();
    for (size_t size = 0; size < m.size - 4; size++)
        expect_bad(&m, size, size < 4 ? "the file has only" : "imatrix: ");
    image_free(&m);
    m = (image){0};
    put(&m, 0, 4);
    expect_bad(&m, m.size, "the number of matrices at byte 0");
    image_free(&m);
    put(&m, 1, 4), put_entry(&m, "a", 1, 2, -1);
    expect_bad(&m, m.size, "'a' has the value -1");
    image_free(&m);
    put(&m, 1, 4), put_entry(&m, "a", 1, 2, (float)INFINITY);
    expect_bad(&m, m.size, "'a' has the value inf");
    image_free(&m);
    put(&m, 1, 4), put_entry(&m, "a", UINT32_MAX, 2, 1);
    expect_bad(&m, m.size, "the number of calls at byte 9");
    image_free(&m);
    put(&m, 1, 4), put(&m, UINT32_MAX, 4), put(&m, 0, 8), put(&m, 0, 8);
    expect_bad(&m, m.size, "the length of a name at byte 4");
    image_free(&m);
    m = gguf_form("model", TYPE_F32);
    expect_bad(&m, m.size, "its general.type is not");
    expect_bad(&m, 60, "GGUF: ");
    image_free(&m);
    m = gguf_form("imatrix", TYPE_F16);
    expect_bad(&m, m.size, "'a' is not of the type f32");
    image_free(&m);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("imatrix");
    TCase *c = tcase_create("imatrix");
    suite_add_tcase(suite, c);
    tcase_add_loop_test(c, both_forms, 0, 2);
    tcase_add_test(c, damaged);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
