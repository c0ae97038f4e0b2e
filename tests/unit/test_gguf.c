/* The GGUF reader on right files of both versions. Damaged ones: test_gguf_damaged.c.
 *
 *   test_gguf                      runs the tests
 *   test_gguf --write-seeds DIR    writes the fuzzer's seed files (committed in tests/fuzz/corpus/gguf) */
#include <check.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/status.h"
#include "unit/gguf_image.h"

static const char seeds_dir[] = "tests/fuzz/corpus/gguf";

static qd_gguf_value find(const qd_gguf *g, const char *key) {
    qd_gguf_value v = {0};
    ck_assert_msg(qd_gguf_find(g, key, &v) == QD_OK, "%s", qd_last_message());
    ck_assert_uint_eq(v.key.size, strlen(key));
    ck_assert_mem_eq(v.key.data, key, v.key.size);
    return v;
}

static int64_t get_int(const qd_gguf *g, const char *key, uint64_t item) {
    qd_gguf_value v = find(g, key);
    int64_t x = 0;
    ck_assert_msg(qd_gguf_get_int(g, &v, item, &x) == QD_OK, "%s", qd_last_message());
    return x;
}

static double get_double(const qd_gguf *g, const char *key, uint64_t item) {
    qd_gguf_value v = find(g, key);
    double x = 0;
    ck_assert_msg(qd_gguf_get_double(g, &v, item, &x) == QD_OK, "%s", qd_last_message());
    return x;
}

static void expect_string(const qd_gguf *g, const char *key, uint64_t item, const char *text, size_t size) {
    qd_gguf_value v = find(g, key);
    qd_string s = {0};
    ck_assert_msg(qd_gguf_get_string(g, &v, item, &s) == QD_OK, "%s", qd_last_message());
    ck_assert_uint_eq(s.size, size);
    ck_assert_mem_eq(s.data, text, size);
}

/* ---- Right files -------------------------------------------------------------------------------------------- */

START_TEST(values_of_every_type) {
    image m = sample((uint32_t)_i);
    qd_gguf *g = expect_good(&m);
    ck_assert_uint_eq(qd_gguf_version(g), (uint32_t)_i);
    ck_assert_uint_eq(qd_gguf_file_bytes(g), m.size);
    ck_assert_uint_eq(qd_gguf_value_count(g), VALUES);
    static const char *const names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "string", "array", "u64", "i64", "f64"};
    for (uint64_t i = 0; i <= QD_GGUF_F64; i++) {
        qd_gguf_value v, found = find(g, names[i]);
        ck_assert_int_eq(qd_gguf_value_at(g, i, &v), QD_OK);
        ck_assert_ptr_eq(v.key.data, found.key.data);
        ck_assert_uint_eq(v.type, i);
        ck_assert_uint_eq(v.item_type, i == QD_GGUF_ARRAY ? QD_GGUF_STRING : i);
        ck_assert_uint_eq(v.count, i == QD_GGUF_ARRAY ? 3 : 1);
    }
    ck_assert_int_eq(get_int(g, "u8", 0), 255);
    ck_assert_int_eq(get_int(g, "i8", 0), -128);
    ck_assert_int_eq(get_int(g, "u16", 0), 65535);
    ck_assert_int_eq(get_int(g, "i16", 0), -32768);
    ck_assert_int_eq(get_int(g, "u32", 0), UINT32_MAX);
    ck_assert_int_eq(get_int(g, "i32", 0), INT32_MIN);
    ck_assert_int_eq(get_int(g, "bool", 0), 1);
    ck_assert_int_eq(get_int(g, "u64", 0), INT64_MAX);
    ck_assert_int_eq(get_int(g, "i64", 0), INT64_MIN);
    ck_assert_double_eq(get_double(g, "f32", 0), -1.5);
    ck_assert_double_eq(get_double(g, "f64", 0), 1e-300);
    ck_assert_double_eq(get_double(g, "u32", 0), 4294967295.0);
    ck_assert_double_eq(get_double(g, "i64", 0), -9223372036854775808.0);
    expect_string(g, "string", 0, "gr\xc3\xbcn", 5);
    expect_string(g, "array", 0, "a", 1);
    expect_string(g, "array", 1, "", 0);
    expect_string(g, "array", 2, "b\0c\xff", 4);
    ck_assert_int_eq(get_int(g, "u8s", 0), 255);
    ck_assert_int_eq(get_int(g, "u8s", 2), 3);
    ck_assert_int_eq(get_int(g, "i8s", 0), -1);
    ck_assert_int_eq(get_int(g, "i8s", 2), 127);
    ck_assert_int_eq(get_int(g, "i16s", 0), 32767);
    ck_assert_int_eq(get_int(g, "i16s", 1), -2);
    ck_assert_int_eq(get_int(g, "i32s", 1), -1);
    ck_assert_double_eq(get_double(g, "f32s", 0), 0.25);
    ck_assert(isinf(get_double(g, "f32s", 1)));
    ck_assert_int_eq(get_int(g, "bools", 0), 1);
    ck_assert_int_eq(get_int(g, "bools", 1), 0);
    ck_assert_double_eq(get_double(g, "f64s", 0), 0.1);
    ck_assert_double_eq(get_double(g, "f64s", 1), -2);
    ck_assert_uint_eq(find(g, "none").count, 0);
    ck_assert_int_eq(find(g, "none").item_type, QD_GGUF_U64);
    qd_gguf_free(g);
    image_free(&m);
}
END_TEST

/* Checks one tensor of `sample`: its shape (ended by 0), and where its data begins, counted from the end of the file.
 */
static void expect_tensor(const qd_gguf *g, const image *m, uint64_t index, const char *name, qd_format f,
                          const int64_t *shape, size_t bytes, size_t from_end) {
    qd_gguf_tensor t, found;
    ck_assert_int_eq(qd_gguf_tensor_at(g, index, &t), QD_OK);
    ck_assert_msg(qd_gguf_tensor_find(g, name, &found) == QD_OK, "%s", qd_last_message());
    ck_assert_ptr_eq(t.name.data, found.name.data);
    ck_assert_uint_eq(t.name.size, strlen(name));
    ck_assert_mem_eq(t.name.data, name, t.name.size);
    ck_assert_int_eq(t.desc.format, f);
    for (int i = 0; i < t.desc.rank; i++)
        ck_assert_int_eq(t.desc.shape[i], shape[i]);
    ck_assert_int_eq(shape[t.desc.rank], 0);
    ck_assert_uint_eq(t.bytes, bytes);
    ck_assert_ptr_eq(t.data, from_end ? m->bytes + m->size - from_end : NULL);
}

START_TEST(tensors_with_shape_and_data) {
    image m = sample((uint32_t)_i);
    qd_gguf *g = expect_good(&m);
    ck_assert_uint_eq(qd_gguf_tensor_count(g), 4);
    expect_tensor(g, &m, 0, "plain", QD_FORMAT_F32, (int64_t[]){3, 2, 0}, 24, 112);
    expect_tensor(g, &m, 1, "blocks", QD_FORMAT_Q4_1, (int64_t[]){2, 64, 0}, 80, 80);
    expect_tensor(g, &m, 2, "shared", QD_FORMAT_F16, (int64_t[]){40, 0}, 80, 80);
    expect_tensor(g, &m, 3, "strange", QD_FORMAT_COUNT, (int64_t[]){3, 5, 7, 0}, 0, 0);
    qd_gguf_tensor t;
    ck_assert_int_eq(qd_gguf_tensor_at(g, 3, &t), QD_OK);
    ck_assert_uint_eq(t.gguf_type, TYPE_UNKNOWN);
    qd_gguf_free(g);
    image_free(&m);
}
END_TEST

START_TEST(scalar_and_four_dimensions) {
    image m = {0};
    put_header(&m, 3, 2, 0);
    put_tensor(&m, "scalar", 0, NULL, TYPE_F32, 0);
    put_tensor(&m, "four", 4, (uint64_t[]){2, 1, 3, 1}, TYPE_F32, 0);
    pad(&m, 32);
    put(&m, 0, 8), put(&m, 0, 8), put(&m, 0, 8);
    qd_gguf *g = expect_good(&m);
    expect_tensor(g, &m, 0, "scalar", QD_FORMAT_F32, (int64_t[]){1, 0}, 4, 24);
    qd_gguf_tensor t;
    ck_assert_int_eq(qd_gguf_tensor_find(g, "four", &t), QD_OK);
    ck_assert_int_eq(t.desc.rank, 4);
    ck_assert_mem_eq(t.desc.shape, ((int64_t[]){1, 3, 1, 2}), sizeof t.desc.shape);
    qd_gguf_free(g);
    image_free(&m);
}
END_TEST

START_TEST(no_tensors_needs_no_padding) {
    image m = {0};
    put_header(&m, 3, 0, 1);
    put_u32_value(&m, "k", 7);
    qd_gguf *g = expect_good(&m);
    ck_assert_uint_ne(m.size % 32, 0);
    ck_assert_uint_eq(qd_gguf_tensor_count(g), 0);
    ck_assert_int_eq(get_int(g, "k", 0), 7);
    qd_gguf_free(g);
    image_free(&m);
}
END_TEST

/* A search that takes time in proportion to the number of items runs into the time limit here. */
START_TEST(lookups_are_fast_and_right) {
    enum { NAMES = 3000, ITEMS = 300000 };
    image m = {0};
    put_header(&m, 3, NAMES, NAMES + 1);
    put_array(&m, "items", QD_GGUF_STRING, ITEMS);
    char text[32];
    for (int i = 0; i < ITEMS; i++)
        snprintf(text, sizeof text, "%d", i), put_string(&m, text);
    for (uint32_t i = 0; i < NAMES; i++)
        snprintf(text, sizeof text, "k%u", i * 7919 % NAMES), put_u32_value(&m, text, i);
    for (uint32_t i = 0; i < NAMES; i++) {
        snprintf(text, sizeof text, "t%u", i * 7919 % NAMES);
        put_tensor(&m, text, 1, (uint64_t[]){i + 1}, TYPE_UNKNOWN, 0);
    }
    qd_gguf *g = expect_good(&m);
    for (uint32_t i = 0; i < NAMES; i++) {
        qd_gguf_tensor t;
        snprintf(text, sizeof text, "k%u", i * 7919 % NAMES);
        ck_assert_int_eq(get_int(g, text, 0), i);
        snprintf(text, sizeof text, "t%u", i * 7919 % NAMES);
        ck_assert_int_eq(qd_gguf_tensor_find(g, text, &t), QD_OK);
        ck_assert_int_eq(t.desc.shape[0], i + 1);
    }
    qd_gguf_value v = find(g, "items");
    for (uint64_t i = 0; i < ITEMS; i++) {
        qd_string s;
        snprintf(text, sizeof text, "%" PRIu64, ITEMS - 1 - i);
        ck_assert_int_eq(qd_gguf_get_string(g, &v, ITEMS - 1 - i, &s), QD_OK);
        ck_assert(s.size == strlen(text) && memcmp(s.data, text, s.size) == 0);
    }
    qd_gguf_free(g);
    image_free(&m);
}
END_TEST

/* ---- Questions that have no answer -------------------------------------------------------------------------- */

START_TEST(conversions_that_do_not_fit) {
    image m = sample(3);
    image large = {0};
    put_header(&large, 3, 0, 1);
    put_key(&large, "large", QD_GGUF_U64), put(&large, UINT64_C(1) << 63, 8);
    qd_gguf *g = expect_good(&m), *h = expect_good(&large);
    int64_t n = 42;
    double x = 42;
    qd_string s = {"kept", 4};
    qd_gguf_value v = find(g, "f32");
    EXPECT_STATUS(qd_gguf_get_int(g, &v, 0, &n), QD_ERR_FILE, "'f32' is of the type f32, expected an integer");
    v = find(g, "f64");
    EXPECT_STATUS(qd_gguf_get_int(g, &v, 0, &n), QD_ERR_FILE, "type f64");
    v = find(g, "string");
    EXPECT_STATUS(qd_gguf_get_int(g, &v, 0, &n), QD_ERR_FILE, "type string");
    EXPECT_STATUS(qd_gguf_get_double(g, &v, 0, &x), QD_ERR_FILE, "'string' is of the type string, expected a number");
    EXPECT_STATUS(qd_gguf_get_string(g, &v, 1, &s), QD_ERR_FILE, "'string' has 1 items, item 1");
    v = find(g, "bool");
    EXPECT_STATUS(qd_gguf_get_double(g, &v, 0, &x), QD_ERR_FILE, "type bool");
    v = find(g, "u8s");
    EXPECT_STATUS(qd_gguf_get_string(g, &v, 0, &s), QD_ERR_FILE, "'u8s' is of the type u8, expected a string");
    EXPECT_STATUS(qd_gguf_get_int(g, &v, 3, &n), QD_ERR_FILE, "'u8s' has 3 items, item 3");
    EXPECT_STATUS(qd_gguf_get_double(g, &v, UINT64_MAX, &x), QD_ERR_FILE, "'u8s' has 3 items");
    v = find(g, "none");
    EXPECT_STATUS(qd_gguf_get_int(g, &v, 0, &n), QD_ERR_FILE, "'none' has 0 items");
    v = find(h, "large");
    EXPECT_STATUS(qd_gguf_get_int(h, &v, 0, &n), QD_ERR_FILE, "9223372036854775808, too large");
    EXPECT_STATUS(qd_gguf_get_int(g, &v, 0, &n), QD_ERR_ARGUMENT, "not one of this file's");
    ck_assert_int_eq(n, 42);
    ck_assert_double_eq(x, 42);
    ck_assert_str_eq(s.data, "kept");
    ck_assert_int_eq(qd_gguf_get_double(h, &v, 0, &x), QD_OK);
    ck_assert_double_eq(x, 9223372036854775808.0);
    /* Only the key of the caller's copy is believed. */
    v = find(g, "u8s");
    v.count = UINT64_MAX;
    v.item_type = QD_GGUF_STRING;
    EXPECT_STATUS(qd_gguf_get_string(g, &v, 0, &s), QD_ERR_FILE, "type u8");
    EXPECT_STATUS(qd_gguf_get_int(g, &v, 3, &n), QD_ERR_FILE, "has 3 items");
    qd_gguf_free(g);
    qd_gguf_free(h);
    image_free(&m);
    image_free(&large);
}
END_TEST

START_TEST(missing_names_and_arguments) {
    image m = sample(3);
    qd_gguf *g = expect_good(&m);
    qd_gguf_value v = {.count = 42};
    qd_gguf_tensor t = {.bytes = 42};
    int64_t n;
    EXPECT_STATUS(qd_gguf_find(g, "u9", &v), QD_ERR_FILE, "no key 'u9'");
    EXPECT_STATUS(qd_gguf_find(g, "u", &v), QD_ERR_FILE, "no key 'u'");
    EXPECT_STATUS(qd_gguf_find(g, "", &v), QD_ERR_FILE, "no key ''");
    EXPECT_STATUS(qd_gguf_tensor_find(g, "plai", &t), QD_ERR_FILE, "no tensor 'plai'");
    EXPECT_STATUS(qd_gguf_value_at(g, VALUES, &v), QD_ERR_ARGUMENT, "the file has 21");
    EXPECT_STATUS(qd_gguf_tensor_at(g, 4, &t), QD_ERR_ARGUMENT, "the file has 4");
    ck_assert_uint_eq(v.count, 42);
    ck_assert_uint_eq(t.bytes, 42);
    EXPECT_STATUS(qd_gguf_find(NULL, "a", &v), QD_ERR_ARGUMENT, "NULL");
    EXPECT_STATUS(qd_gguf_find(g, NULL, &v), QD_ERR_ARGUMENT, "NULL");
    EXPECT_STATUS(qd_gguf_find(g, "u8", NULL), QD_ERR_ARGUMENT, "NULL");
    EXPECT_STATUS(qd_gguf_tensor_find(g, NULL, &t), QD_ERR_ARGUMENT, "NULL");
    EXPECT_STATUS(qd_gguf_value_at(NULL, 0, &v), QD_ERR_ARGUMENT, "NULL");
    EXPECT_STATUS(qd_gguf_tensor_at(g, 0, NULL), QD_ERR_ARGUMENT, "NULL");
    EXPECT_STATUS(qd_gguf_get_int(g, NULL, 0, &n), QD_ERR_ARGUMENT, "NULL");
    EXPECT_STATUS(qd_gguf_parse(NULL, 1, &g), QD_ERR_ARGUMENT, "NULL");
    EXPECT_STATUS(qd_gguf_parse(m.bytes, m.size, NULL), QD_ERR_ARGUMENT, "NULL");
    EXPECT_STATUS(qd_gguf_open(NULL, &g), QD_ERR_ARGUMENT, "NULL");
    EXPECT_STATUS(qd_gguf_parse(m.bytes + 1, m.size - 1, &g), QD_ERR_ARGUMENT, "multiple of 8 bytes");
    ck_assert_uint_eq(qd_gguf_value_count(NULL) + qd_gguf_tensor_count(NULL) + qd_gguf_version(NULL), 0);
    ck_assert_uint_eq(qd_gguf_file_bytes(NULL), 0);
    qd_gguf_free(NULL);
    qd_gguf_free(g);
    image_free(&m);
}
END_TEST

/* ---- Memory and files --------------------------------------------------------------------------------------- */

START_TEST(allocations_that_fail) {
    image m = sample(3);
    for (long n = 0;; n++) {
        qd_gguf *g = NULL;
        qd_alloc_fail_after(n);
        qd_status s = qd_gguf_parse(m.bytes, m.size, &g);
        qd_alloc_fail_after(-1);
        if (s == QD_OK) {
            walk(g);
            qd_gguf_free(g);
            /* The object, the values' and tensors' growth, two indexes, one array of strings. */
            ck_assert_int_ge(n, 5);
            break;
        }
        ck_assert_int_eq(s, QD_ERR_MEMORY);
        ck_assert_ptr_null(g);
        ck_assert_ptr_nonnull(strstr(qd_last_message(), "out of memory"));
        ck_assert_int_lt(n, 100);
    }
    image_free(&m);
}
END_TEST

static void write_file(const char *path, const void *bytes, size_t size) {
    FILE *f = fopen(path, "wb");
    ck_assert_msg(f != NULL, "%s cannot be written", path);
    ck_assert_uint_eq(fwrite(bytes, 1, size, f), size);
    ck_assert_int_eq(fclose(f), 0);
}

/* True when the file is still mapped; false also where the system does not tell. */
static bool is_mapped(const char *path) {
    FILE *f = fopen("/proc/self/maps", "r");
    char line[PATH_MAX + 128];
    bool found = false;
    while (f && !found && fgets(line, sizeof line, f))
        found = strstr(line, path) != NULL;
    if (f) fclose(f);
    return found;
}

START_TEST(open_names_the_path) {
    char dir[PATH_MAX], path[PATH_MAX + 16];
    const char *base = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/qdot-gguf-XXXXXX", base ? base : P_tmpdir);
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/file.gguf", dir);
    qd_gguf *g = NULL;
    EXPECT_STATUS(qd_gguf_open(path, &g), QD_ERR_IO, "file.gguf: cannot be opened: No such file");
    EXPECT_STATUS(qd_gguf_open(dir, &g), QD_ERR_IO, "is a directory");
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    EXPECT_STATUS(qd_gguf_open(path, &g), QD_ERR_IO, "file.gguf: is a device or pipe");
    ck_assert_int_eq(unlink(path), 0);
    write_file(path, "", 0);
    EXPECT_STATUS(qd_gguf_open(path, &g), QD_ERR_FILE, "file.gguf: GGUF: the file is empty");
    write_file(path, "hello", 5);
    EXPECT_STATUS(qd_gguf_open(path, &g), QD_ERR_FILE, "file.gguf: GGUF: this is not a GGUF file");
    image m = sample(3);
    write_file(path, m.bytes, m.size - 1);
    EXPECT_STATUS(qd_gguf_open(path, &g), QD_ERR_FILE, "ends beyond the file (file truncated?");
    ck_assert_ptr_null(g);
    ck_assert(!is_mapped(path));
    write_file(path, m.bytes, m.size);
    for (long n = 0; n < 5; n++) {
        qd_alloc_fail_after(n);
        EXPECT_STATUS(qd_gguf_open(path, &g), QD_ERR_MEMORY, "file.gguf: out of memory");
        qd_alloc_fail_after(-1);
        ck_assert(!is_mapped(path));
    }
    ck_assert_int_eq(qd_gguf_open(path, &g), QD_OK);
    qd_gguf *same = expect_good(&m);
    ck_assert_uint_eq(walk(g), walk(same));
    ck_assert_uint_eq(qd_gguf_file_bytes(g), m.size);
    qd_gguf_free(g);
    ck_assert(!is_mapped(path));
    qd_gguf_free(same);
    image_free(&m);
    unlink(path);
    rmdir(dir);
}
END_TEST

/* ---- The fuzzer's seeds ------------------------------------------------------------------------------------- */

/* The smallest useful file: one value, one tensor. */
static image tiny(uint32_t version) {
    image m = {0};
    put_header(&m, version, 1, 1);
    put_u32_value(&m, "general.alignment", 8);
    put_tensor(&m, "t", 1, (uint64_t[]){2}, TYPE_F32, 0);
    pad(&m, 8);
    put_f32(&m, 1), put_f32(&m, 2);
    return m;
}

static image no_values(uint32_t version) {
    image m = {0};
    put_header(&m, version, 0, 0);
    return m;
}

static const struct {
    const char *name;
    image (*make)(uint32_t version);
    uint32_t version;
} seeds[] = {
    {"all-v2.gguf", sample, 2}, {"all-v3.gguf", sample, 3},     {"tiny-v2.gguf", tiny, 2},
    {"tiny-v3.gguf", tiny, 3},  {"none-v3.gguf", no_values, 3},
};
enum { SEEDS = sizeof seeds / sizeof seeds[0] };

START_TEST(seeds_are_what_the_builder_makes) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", seeds_dir, seeds[_i].name);
    image m = seeds[_i].make(seeds[_i].version);
    uint8_t bytes[2048];
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "%s is missing; tests/fuzz/README.md says how to write the seeds", path);
    ck_assert_uint_eq(fread(bytes, 1, sizeof bytes, f), m.size);
    ck_assert_mem_eq(bytes, m.bytes, m.size);
    fclose(f);
    qd_gguf_free(expect_good(&m));
    image_free(&m);
}
END_TEST

static int write_seeds(const char *dir) {
    for (int i = 0; i < SEEDS; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s/%s", dir, seeds[i].name);
        image m = seeds[i].make(seeds[i].version);
        FILE *f = fopen(path, "wb");
        if (!f || fwrite(m.bytes, 1, m.size, f) != m.size || fclose(f) != 0) {
            fprintf(stderr, "%s cannot be written\n", path);
            return EXIT_FAILURE;
        }
        image_free(&m);
    }
    return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--write-seeds") == 0) return write_seeds(argv[2]);
    Suite *suite = suite_create("gguf");
    TCase *right = tcase_create("right"), *asked = tcase_create("asked"), *outside = tcase_create("memory and files");
    tcase_add_loop_test(right, values_of_every_type, 2, 4);
    tcase_add_loop_test(right, tensors_with_shape_and_data, 2, 4);
    tcase_add_test(right, scalar_and_four_dimensions);
    tcase_add_test(right, no_tensors_needs_no_padding);
    tcase_add_test(right, lookups_are_fast_and_right);
    tcase_add_loop_test(right, seeds_are_what_the_builder_makes, 0, SEEDS);
    tcase_add_test(asked, conversions_that_do_not_fit);
    tcase_add_test(asked, missing_names_and_arguments);
    tcase_add_test(outside, allocations_that_fail);
    tcase_add_test(outside, open_names_the_path);
    tcase_set_timeout(right, 20);
    suite_add_tcase(suite, right);
    suite_add_tcase(suite, asked);
    suite_add_tcase(suite, outside);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
