/* The GGUF reader on every way of damage that the builder can make. */
#include <check.h>
#include <stdio.h>

#include "unit/gguf_image.h"

/* Expects failure with a message that contains `text`, and nothing written to the result. */
static void expect_damage(const image *m, const char *text) {
    uint8_t *copy;
    qd_gguf *g = (qd_gguf *)(void *)&copy;
    qd_status s = parse_copy(m->bytes, m->size, &copy, &g);
    ck_assert_msg(s == QD_ERR_FILE, "%s instead of QD_ERR_FILE with '%s'", qd_status_name(s), text);
    ck_assert_msg(strstr(qd_last_message(), text), "message '%s' lacks '%s'", qd_last_message(), text);
    ck_assert_int_eq(strncmp(qd_last_message(), "GGUF: ", 6), 0);
    ck_assert_ptr_eq(g, (qd_gguf *)(void *)&copy);
    free(copy);
}

/* As expect_damage, and frees the image. */
static void expect_damage_once(image m, const char *text) {
    expect_damage(&m, text);
    image_free(&m);
}

static void expect_good_once(image m) {
    qd_gguf_free(expect_good(&m));
    image_free(&m);
}

START_TEST(headers_that_are_none) {
    static const struct {
        const char *bytes;
        size_t size;
        const char *message;
    } cases[] = {
        {"", 0, "the file is empty"},
        {"GG", 2, "header at byte 0 ends beyond the file (file truncated? fetch it again)"},
        {"GGUF\3\0\0\0", 8, "header at byte 0 ends beyond the file"},
        {"GGXF\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24, "not a GGUF file"},
        {"version https://git-lfs.github.com/spec/v1\n", 43, "Git LFS pointer"},
        {"<!DOCTYPE html>", 15, "web page"},
        {"PK\3\4", 4, "zip archive"},
        {"tjgg\3\0\0\0", 8, "ggjt"},
        {"GGUF\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24, "version 1 is not read"},
        {"GGUF\0\0\0\3\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24, "big endian"},
        {"GGUF\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24, "version 0 at byte 4"},
        {"GGUF\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 24, "version 4 at byte 4"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        image m = {0};
        put_bytes(&m, cases[i].bytes, cases[i].size);
        expect_damage_once(m, cases[i].message);
    }
    qd_gguf *g;
    EXPECT_STATUS(qd_gguf_parse(NULL, 0, &g), QD_ERR_FILE, "the file is empty");
}
END_TEST

START_TEST(absurd_counts_fail_at_once) {
    static const uint64_t absurd[] = {UINT64_MAX, UINT64_C(1) << 63, UINT64_C(1) << 61, UINT64_C(1) << 32, 100};
    for (size_t i = 0; i < sizeof absurd / sizeof absurd[0]; i++) {
        /* Nothing may be allocated on the word of such a count beyond the bookkeeping of the file itself. */
        image m = {0};
        put_header(&m, 3, 0, absurd[i]), put_u32_value(&m, "k", 1);
        expect_damage_once(m, "values, but only 17 bytes follow");
        m = (image){0};
        put_header(&m, 3, absurd[i], 0), put_tensor(&m, "t", 1, (uint64_t[]){1}, TYPE_F32, 0);
        expect_damage_once(m, "tensors, but only 33 bytes follow");
        for (int type = QD_GGUF_U8; type <= QD_GGUF_F64; type++) {
            if (type == QD_GGUF_ARRAY) continue;
            m = (image){0};
            put_header(&m, 3, 0, 1), put_array(&m, "k", (qd_gguf_type)type, absurd[i]), put(&m, 0, 8);
            expect_damage_once(m, type == QD_GGUF_STRING ? "array of strings at byte 49 ends beyond the file"
                                                         : "array at byte 49 ends beyond the file");
        }
        m = (image){0};
        put_header(&m, 3, 0, 1), put_key(&m, "k", QD_GGUF_STRING), put(&m, absurd[i], 8), put_bytes(&m, "text", 4);
        expect_damage_once(m, "string at byte 37 ends beyond the file (file truncated? fetch it again)");
        m = (image){0};
        put_header(&m, 3, 0, 1), put(&m, absurd[i], 8), put_bytes(&m, "text text", 9);
        expect_damage_once(m, "key at byte 24 ends beyond the file");
    }
}
END_TEST

/* Counts that are refused by their own check, before anything is read or allocated for them. */
START_TEST(counts_just_too_large) {
    image m = {0};
    put_header(&m, 3, 0, 2), put_u32_value(&m, "k", 1);
    expect_damage_once(m, "values, but only 17 bytes follow");
    m = (image){0};
    put_header(&m, 3, 2, 0), put_tensor(&m, "t", 1, (uint64_t[]){1}, TYPE_F32, 0);
    expect_damage_once(m, "tensors, but only 33 bytes follow");
    m = (image){0};
    put_header(&m, 3, 0, 1), put_array(&m, "k", QD_GGUF_STRING, 2), put(&m, 0, 8), put(&m, 0, 7);
    expect_damage_once(m, "array of strings at byte 49 ends beyond the file");
    m = (image){0};
    put_header(&m, 3, 0, 1), put_array(&m, "k", QD_GGUF_U16, 2), put(&m, 0, 3);
    expect_damage_once(m, "array at byte 49 ends beyond the file");
}
END_TEST

START_TEST(bad_values) {
    image m = {0};
    put_header(&m, 3, 0, 1), put_key(&m, "k", (qd_gguf_type)13), put(&m, 0, 8);
    expect_damage_once(m, "key 'k' has the unknown value type 13 at byte 33");
    m = (image){0};
    put_header(&m, 3, 0, 1), put_array(&m, "k", (qd_gguf_type)13, 0);
    expect_damage_once(m, "key 'k' has the unknown value type 13 at byte 37");
    m = (image){0};
    put_header(&m, 3, 0, 1), put_array(&m, "k", QD_GGUF_ARRAY, 1), put(&m, QD_GGUF_U8, 4), put(&m, 0, 8);
    expect_damage_once(m, "key 'k' is an array of arrays at byte 37");
    m = (image){0};
    put_header(&m, 3, 0, 1), put_key(&m, "k", QD_GGUF_BOOL), put(&m, 2, 1);
    expect_damage_once(m, "key 'k' has the bool 2 at byte 37");
    m = (image){0};
    put_header(&m, 3, 0, 1), put_array(&m, "k", QD_GGUF_BOOL, 3), put(&m, 0xFF0001, 3);
    expect_damage_once(m, "key 'k' has the bool 255 at byte 51");
}
END_TEST

START_TEST(names_are_text) {
    static const struct {
        const char *name;
        size_t size, bad; /* bad == size: a good name */
    } cases[] = {
        {"\xc3\xa9", 2, 2},
        {"\xe2\x82\xac", 3, 3},
        {"\xf0\x9f\x8c\x8d", 4, 4},
        {"\xf4\x8f\xbf\xbf", 4, 4},
        {"\xed\x9f\xbf", 3, 3},
        {"\xee\x80\x80", 3, 3},
        {"a\xff", 2, 1},    /* no lead byte */
        {"a\x80", 2, 1},    /* continuation alone */
        {"ab\xc3", 3, 2},   /* cut */
        {"\xe2\x82", 2, 0}, /* cut */
        {"\xc3(", 2, 0},    /* no continuation */
        {"\xf0\x9f\x8c(", 4, 0},
        {"\xc0\xaf", 2, 0}, /* overlong */
        {"\xe0\x9f\xbf", 3, 0},
        {"\xf0\x8f\xbf\xbf", 4, 0},
        {"\xed\xa0\x80", 3, 0}, /* surrogates */
        {"\xed\xbf\xbf", 3, 0},
        {"\xf4\x90\x80\x80", 4, 0},     /* above U+10FFFF */
        {"\xf8\x88\x80\x80\x80", 5, 0}, /* lead byte of five */
        {"\xf9\x80\x80\x80", 4, 0},
        {"a\0b", 3, 1},
        {"a\nb", 3, 1},
        {"a\x1b[", 3, 1},
        {"a\x7f", 2, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        image key = {0}, tensor = {0};
        put_header(&key, 3, 0, 1), put_sized(&key, cases[i].name, cases[i].size), put(&key, QD_GGUF_U8, 4);
        put(&key, 0, 1);
        put_header(&tensor, 3, 1, 0), put_sized(&tensor, cases[i].name, cases[i].size), put(&tensor, 0, 4);
        put(&tensor, TYPE_UNKNOWN, 4), put(&tensor, 0, 8);
        if (cases[i].bad == cases[i].size) {
            expect_good_once(key);
            expect_good_once(tensor);
            continue;
        }
        char text[64];
        snprintf(text, sizeof text, "at byte 24 is not UTF-8 text: byte %zu is 0x%02x", 32 + cases[i].bad,
                 (unsigned char)cases[i].name[cases[i].bad]);
        expect_damage_once(key, text);
        expect_damage_once(tensor, text);
    }
    /* The byte after a cut name would complete it. */
    image m = {0};
    put_header(&m, 3, 0, 1), put_key(&m, "ab\xc3", (qd_gguf_type)0x80), put(&m, 0, 8);
    expect_damage_once(m, "key at byte 24 is not UTF-8 text: byte 34 is 0xc3");
    m = (image){0};
    put_header(&m, 3, 0, 1), put_u32_value(&m, "", 1), put(&m, 0, 8);
    expect_damage_once(m, "key at byte 24 has 0 bytes");
    char *longest = malloc(65537);
    ck_assert_ptr_nonnull(longest);
    memset(longest, 'x', 65536), longest[65536] = 0;
    m = (image){0};
    put_header(&m, 3, 0, 1), put_u32_value(&m, longest + 1, 1);
    expect_good_once(m);
    m = (image){0};
    put_header(&m, 3, 0, 1), put_u32_value(&m, longest, 1);
    expect_damage_once(m, "key at byte 24 has 65536 bytes, expected 1 to 65535");
    free(longest);
}
END_TEST

START_TEST(duplicate_names) {
    image m = {0};
    put_header(&m, 3, 0, 3), put_u32_value(&m, "b", 1), put_u32_value(&m, "a", 1), put_u32_value(&m, "b", 1);
    expect_damage_once(m, "key 'b' appears twice, at bytes 24 and 58");
    m = (image){0};
    put_header(&m, 3, 2, 0);
    put_tensor(&m, "t", 1, (uint64_t[]){1}, TYPE_UNKNOWN, 0);
    put_tensor(&m, "t", 1, (uint64_t[]){2}, TYPE_UNKNOWN, 0);
    expect_damage_once(m, "tensor 't' appears twice, at bytes 24 and 57");
}
END_TEST

/* A file with general.alignment x and a tensor whose data lies `at` bytes after the data section's start. */
static image aligned(uint32_t x, size_t padding, uint64_t offset) {
    image m = {0};
    put_header(&m, 3, 1, 1);
    put_u32_value(&m, "general.alignment", x);
    put_tensor(&m, "t", 1, (uint64_t[]){1}, TYPE_F32, offset);
    pad(&m, padding);
    for (uint64_t i = 0; i < offset; i++)
        put(&m, 0, 1);
    put_f32(&m, 1.25f);
    return m;
}

START_TEST(alignment) {
    static const uint32_t good[] = {8, 16, 64, 4096}, bad[] = {0, 1, 4, 24, 33, UINT32_MAX};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        for (uint64_t offset = 0; offset <= 2 * good[i]; offset += good[i]) {
            image m = aligned(good[i], good[i], offset);
            qd_gguf *g = expect_good(&m);
            qd_gguf_tensor t;
            ck_assert_int_eq(qd_gguf_tensor_find(g, "t", &t), QD_OK);
            ck_assert_ptr_eq(t.data, m.bytes + m.size - 4);
            qd_gguf_free(g);
            image_free(&m);
        }
        expect_damage_once(aligned(good[i], good[i], 4),
                           "tensor 't' (entry at byte 57) has the data offset 4, no multiple");
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        expect_damage_once(aligned(bad[i], 32, 0), "general.alignment at byte 53 is");
    }
    /* The padding alone ends beyond the file. */
    expect_damage_once(aligned(UINT32_C(1) << 31, 8, 0), "data of tensor 't' (4 bytes");
    image m = {0};
    put_header(&m, 3, 0, 1), put_key(&m, "general.alignment", QD_GGUF_U64), put(&m, 32, 8);
    expect_damage_once(m, "general.alignment at byte 53 is not of the type u32");
}
END_TEST

/* A file with one tensor and 64 bytes of data. */
static image with_tensor(uint32_t rank, const uint64_t *dims, uint32_t type, uint64_t offset) {
    image m = {0};
    put_header(&m, 3, 1, 0);
    put_tensor(&m, "t", rank, dims, type, offset);
    pad(&m, 32);
    for (int i = 0; i < 8; i++)
        put(&m, 0, 8);
    return m;
}

START_TEST(bad_tensors) {
    const uint64_t big = UINT64_C(1) << 62, top = UINT64_C(1) << 63;
    expect_good_once(with_tensor(1, (uint64_t[]){16}, TYPE_F32, 0));
    expect_damage_once(with_tensor(5, (uint64_t[]){1, 1, 1, 1, 1}, TYPE_F32, 0),
                       "'t' (entry at byte 24) has 5 dimensions");
    expect_damage_once(with_tensor(2, (uint64_t[]){4, 0}, TYPE_F32, 0), "has the dimension 0: no elements");
    expect_damage_once(with_tensor(1, (uint64_t[]){top}, TYPE_UNKNOWN, 0), "too many elements");
    expect_damage_once(with_tensor(2, (uint64_t[]){big, 2}, TYPE_UNKNOWN, 0), "the dimension 2: too many elements");
    expect_damage_once(with_tensor(4, (uint64_t[]){1 << 16, 1 << 16, 1 << 16, 1 << 16}, TYPE_UNKNOWN, 0),
                       "too many elements");
    /* The number of elements fits, the number of bytes does not: in a row, and in all rows. */
    expect_damage_once(with_tensor(1, (uint64_t[]){big}, TYPE_F32, 0), "too many to address");
    expect_damage_once(with_tensor(2, (uint64_t[]){1, big}, TYPE_F32, 0), "too many to address");
    expect_damage_once(with_tensor(2, (uint64_t[]){33, 1}, TYPE_Q4_1, 0),
                       "tensor 't' (entry at byte 24) has rows of 33 elements, no whole number of q4_1 blocks of 32");
    expect_damage_once(with_tensor(2, (uint64_t[]){16, 2}, TYPE_Q4_1, 0), "no whole number of q4_1 blocks");
    expect_damage_once(
        with_tensor(1, (uint64_t[]){17}, TYPE_F32, 0),
        "data of tensor 't' (68 bytes, 0 after byte 64) ends beyond the file (file truncated? fetch it again)");
    expect_good_once(with_tensor(1, (uint64_t[]){8}, TYPE_F32, 32));
    expect_damage_once(with_tensor(1, (uint64_t[]){9}, TYPE_F32, 32), "data of tensor 't'");
    expect_damage_once(with_tensor(1, (uint64_t[]){1}, TYPE_F32, 96), "data of tensor 't'");
    expect_damage_once(with_tensor(1, (uint64_t[]){1}, TYPE_F32, UINT64_MAX - 31), "data of tensor 't'");
    expect_damage_once(with_tensor(1, (uint64_t[]){1}, TYPE_F32, 31),
                       "the data offset 31, no multiple of the alignment 32");
    expect_good_once(with_tensor(1, (uint64_t[]){INT64_MAX}, TYPE_UNKNOWN, 64));
    expect_damage_once(with_tensor(1, (uint64_t[]){1}, TYPE_UNKNOWN, 96), "data of tensor 't'");
}
END_TEST

START_TEST(types_without_a_format) {
    static const uint32_t types[] = {4, 5, TYPE_UNKNOWN, 255, INT32_MAX, UINT32_C(1) << 31, UINT32_MAX};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        image m = with_tensor(1, (uint64_t[]){33}, types[i], 0);
        qd_gguf *g = expect_good(&m);
        qd_gguf_tensor t;
        ck_assert_int_eq(qd_gguf_tensor_at(g, 0, &t), QD_OK);
        ck_assert_int_eq(t.desc.format, QD_FORMAT_COUNT);
        ck_assert_uint_eq(t.gguf_type, types[i]);
        ck_assert_int_eq(t.desc.shape[0], 33);
        ck_assert_uint_eq(t.bytes, 0);
        ck_assert_ptr_null(t.data);
        qd_gguf_free(g);
        image_free(&m);
    }
}
END_TEST

START_TEST(truncated_at_every_byte) {
    image m = sample((uint32_t)_i);
    for (size_t size = 0; size < m.size; size++) {
        image cut = {m.bytes, size, size};
        expect_damage(&cut, "GGUF: ");
        ck_assert_msg(strstr(qd_last_message(), "fetch it again"), "%zu bytes: %s", size, qd_last_message());
    }
    image_free(&m);
}
END_TEST

START_TEST(every_bit_flipped) {
    image m = sample((uint32_t)_i);
    int good = 0, bad = 0;
    for (size_t bit = 0; bit < 8 * m.size; bit++) {
        uint8_t *copy;
        qd_gguf *g = NULL;
        m.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        qd_status s = parse_copy(m.bytes, m.size, &copy, &g);
        m.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        if (s == QD_OK) {
            walk(g);
            good++;
        } else {
            ck_assert_int_eq(s, QD_ERR_FILE);
            ck_assert_int_eq(strncmp(qd_last_message(), "GGUF: ", 6), 0);
            ck_assert_ptr_null(g);
            bad++;
        }
        qd_gguf_free(g);
        free(copy);
    }
    ck_assert_int_gt(good, 1000);
    ck_assert_int_gt(bad, 1000);
    image_free(&m);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("gguf damaged");
    TCase *damaged = tcase_create("damaged");
    tcase_add_test(damaged, headers_that_are_none);
    tcase_add_test(damaged, absurd_counts_fail_at_once);
    tcase_add_test(damaged, counts_just_too_large);
    tcase_add_test(damaged, bad_values);
    tcase_add_test(damaged, names_are_text);
    tcase_add_test(damaged, duplicate_names);
    tcase_add_test(damaged, alignment);
    tcase_add_test(damaged, bad_tensors);
    tcase_add_test(damaged, types_without_a_format);
    tcase_add_loop_test(damaged, truncated_at_every_byte, 2, 4);
    tcase_add_loop_test(damaged, every_bit_flipped, 2, 4);
    tcase_set_timeout(damaged, 60);
    suite_add_tcase(suite, damaged);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
