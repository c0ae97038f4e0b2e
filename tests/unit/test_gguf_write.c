/* The GGUF writer: what it writes is what was given, and what goes wrong leaves the old file. */
#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/status.h"
#include "unit/gguf_image.h"

static char folder[] = "/tmp/qdot-write-XXXXXX", path[64];

static void setup(void) {
    strcpy(folder + sizeof folder - 7, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/file.gguf", folder);
}

static int files(void) {
    DIR *d = opendir(folder);
    int count = 0;
    ck_assert_ptr_nonnull(d);
    for (const struct dirent *e; (e = readdir(d));)
        count += e->d_name[0] != '.';
    closedir(d);
    return count;
}

static void teardown(void) {
    unlink(path);
    ck_assert_int_eq(rmdir(folder), 0); /* nothing else was left */
}

#define GOOD(call) ck_assert_msg((call) == QD_OK, "%s", qd_last_message())

/* A file of all values of `g`, a few more, and its known tensors. */
static void write_copy(const qd_gguf *g) {
    qd_gguf_writer *w = NULL;
    GOOD(qd_gguf_write_create(path, &w));
    for (uint64_t i = 0; i < qd_gguf_value_count(g); i++) {
        qd_gguf_value v;
        GOOD(qd_gguf_value_at(g, i, &v));
        GOOD(qd_gguf_write_value(w, g, &v));
    }
    GOOD(qd_gguf_write_u32(w, "more", 0xfedcba98));
    GOOD(qd_gguf_write_string(w, "text", "gr\xc3\xbcn"));
    for (int pass = 0; pass < 2; pass++) {
        for (uint64_t i = 0; i < qd_gguf_tensor_count(g); i++) {
            qd_gguf_tensor t;
            char name[32];
            GOOD(qd_gguf_tensor_at(g, i, &t));
            if (t.desc.format == QD_FORMAT_COUNT) continue;
            snprintf(name, sizeof name, "%.*s", (int)t.name.size, t.name.data);
            if (pass == 0) {
                GOOD(qd_gguf_write_tensor(w, name, &t.desc));
            } else {
                GOOD(qd_gguf_write_data(w, t.data, 5)); /* in two pieces */
                GOOD(qd_gguf_write_data(w, (const char *)t.data + 5, t.bytes - 5));
            }
        }
    }
    ck_assert_int_eq(files(), 0); /* nothing to be seen before the end */
    GOOD(qd_gguf_write_finish(w));
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq((uint64_t)st.st_size, qd_gguf_write_size(w));
    const mode_t mask = umask(0);
    umask(mask);
    ck_assert_uint_eq(st.st_mode & 0777, 0666 & ~mask);
    qd_gguf_writer_free(w);
}

/* Loop: alignments 0 (none is said), 8, 64, 8192. */
static const uint32_t alignments[] = {0, 8, 64, 8192};

START_TEST(copies) {
    const uint32_t alignment = alignments[_i];
    image m = {0};
    put_header(&m, 3, 4, VALUES + (alignment != 0));
    put_values(&m);
    if (alignment) put_u32_value(&m, "general.alignment", alignment);
    const uint64_t step = alignment > 32 ? alignment : 32;
    put_tensor(&m, "plain", 2, (uint64_t[]){2, 3}, TYPE_F32, 0);
    put_tensor(&m, "blocks", 2, (uint64_t[]){64, 2}, TYPE_Q4_1, step);
    put_tensor(&m, "strange", 3, (uint64_t[]){7, 5, 3}, TYPE_UNKNOWN, 2 * step);
    put_tensor(&m, "cube", 3, (uint64_t[]){3, 2, 5}, TYPE_F16, 2 * step);
    pad(&m, alignment ? alignment : 32);
    for (uint64_t i = 0; i < 2 * step + 60; i++)
        put(&m, i, 1);
    qd_gguf *g = expect_good(&m), *copy = NULL;
    write_copy(g);
    GOOD(qd_gguf_open(path, &copy));
    ck_assert_uint_eq(qd_gguf_version(copy), 3);
    ck_assert_uint_eq(qd_gguf_value_count(copy), qd_gguf_value_count(g) + 2);
    ck_assert_uint_eq(qd_gguf_file_bytes(copy) % (alignment ? alignment : 32), 0);
    for (uint64_t i = 0; i < qd_gguf_value_count(g); i++) {
        qd_gguf_value a, b;
        GOOD(qd_gguf_value_at(g, i, &a));
        GOOD(qd_gguf_value_at(copy, i, &b));
        ck_assert_uint_eq(a.key.size, b.key.size);
        ck_assert_mem_eq(a.key.data, b.key.data, a.key.size);
        ck_assert(a.type == b.type && a.item_type == b.item_type && a.count == b.count);
        if (i + 1 == qd_gguf_value_count(g)) break;
        qd_gguf_value next_a, next_b;
        GOOD(qd_gguf_value_at(g, i + 1, &next_a));
        GOOD(qd_gguf_value_at(copy, i + 1, &next_b));
        const size_t size = (size_t)(next_a.key.data - a.key.data);
        ck_assert_uint_eq(size, (size_t)(next_b.key.data - b.key.data));
        ck_assert_mem_eq(a.key.data, b.key.data, size);
    }
    qd_gguf_value v;
    int64_t more = 0;
    GOOD(qd_gguf_find(copy, "more", &v));
    GOOD(qd_gguf_get_int(copy, &v, 0, &more));
    ck_assert_int_eq(more, 0xfedcba98);
    ck_assert_uint_eq(qd_gguf_tensor_count(copy), 3);
    static const char *const names[] = {"plain", "blocks", "cube"};
    for (int i = 0; i < 3; i++) {
        qd_gguf_tensor a, b;
        GOOD(qd_gguf_tensor_find(g, names[i], &a));
        GOOD(qd_gguf_tensor_find(copy, names[i], &b));
        ck_assert_mem_eq(&a.desc, &b.desc, sizeof a.desc);
        ck_assert_mem_eq(a.data, b.data, a.bytes);
        ck_assert_uint_eq((uintptr_t)((const char *)b.data - (const char *)0) % 8, 0);
    }
    qd_gguf_free(copy);
    qd_gguf_free(g);
    image_free(&m);
}
END_TEST

START_TEST(coded) {
    enum { ROWS = 6, COLS = 96 };
    qd_coding c;
    GOOD(qd_coding_parse("nf4-g32-dq", &c));
    const size_t bytes = ROWS * qd_coding_row_bytes(&c, COLS);
    const size_t count = (size_t)qd_coding_side_count(&c, ROWS, COLS);
    float x[ROWS * COLS];
    unsigned char *data = malloc(bytes);
    float *side = malloc(count * sizeof *side);
    for (int i = 0; i < ROWS * COLS; i++)
        x[i] = (float)(i * 37 % 101) / 50 - 1;
    GOOD(qd_coding_quantize(&c, x, ROWS, COLS, NULL, data, side));
    qd_gguf_writer *w = NULL;
    GOOD(qd_gguf_write_create(path, &w));
    GOOD(qd_gguf_write_coded(w, "blk.0.w", &c, ROWS, COLS));
    GOOD(qd_gguf_write_data(w, data, bytes));
    GOOD(qd_gguf_write_data(w, side, count * sizeof *side));
    GOOD(qd_gguf_write_finish(w));
    qd_gguf_writer_free(w);
    qd_gguf *g = NULL;
    bool is_coded = false;
    qd_gguf_coded found;
    GOOD(qd_gguf_open(path, &g));
    GOOD(qd_gguf_find_coded(g, "blk.0.w", &is_coded, &found));
    ck_assert(is_coded && found.rows == ROWS && found.cols == COLS && (size_t)found.side_count == count);
    ck_assert_mem_eq(found.data, data, bytes);
    ck_assert_mem_eq(found.side, side, count * sizeof *side);
    qd_gguf_free(g);
    free(data);
    free(side);
}
END_TEST

/* Puts a file there that must stay. */
static void put_old(void) {
    FILE *f = fopen(path, "w");
    ck_assert(f && fputs("old", f) >= 0 && fclose(f) == 0);
}

static void expect_old(void) {
    char text[8] = "";
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fread(text, 1, sizeof text - 1, f), 3);
    fclose(f);
    ck_assert_str_eq(text, "old");
    ck_assert_int_eq(files(), 1);
}

static const qd_tensor_desc vector = {QD_FORMAT_F32, 1, {4}};

START_TEST(wrong_calls) {
    qd_gguf_writer *w = NULL;
    const float x[8] = {0};
    put_old();
    GOOD(qd_gguf_write_create(path, &w));
    EXPECT_STATUS(qd_gguf_write_data(w, x, 4), QD_ERR_ARGUMENT, "beyond the end");
    EXPECT_STATUS(qd_gguf_write_tensor(w, "a8", &(qd_tensor_desc){QD_FORMAT_A8, 1, {16}}), QD_ERR_ARGUMENT,
                  "a8 is no type");
    EXPECT_STATUS(qd_gguf_write_tensor(w, "q", &(qd_tensor_desc){QD_FORMAT_Q4_0, 2, {2, 33}}), QD_ERR_ARGUMENT,
                  "blocks of 32");
    char name[65];
    memset(name, 'n', 64);
    name[64] = 0;
    EXPECT_STATUS(qd_gguf_write_tensor(w, name, &vector), QD_ERR_ARGUMENT, "1 to 63 bytes");
    EXPECT_STATUS(qd_gguf_write_tensor(w, "", &vector), QD_ERR_ARGUMENT, "1 to 63 bytes");
    qd_coding c;
    GOOD(qd_coding_parse("pq4-d8", &c));
    EXPECT_STATUS(qd_gguf_write_coded(w, "w", &c, 4, 12), QD_ERR_ARGUMENT, "vectors of 8");
    name[60] = 0;
    EXPECT_STATUS(qd_gguf_write_coded(w, name, &c, 4, 16), QD_ERR_ARGUMENT, "more than 58 bytes");
    GOOD(qd_gguf_write_tensor(w, "v", &vector));
    EXPECT_STATUS(qd_gguf_write_finish(w), QD_ERR_ARGUMENT, "only 0 of 1 tensors");
    EXPECT_STATUS(qd_gguf_write_data(w, x, 20), QD_ERR_ARGUMENT, "beyond the end");
    GOOD(qd_gguf_write_data(w, x, 16));
    EXPECT_STATUS(qd_gguf_write_data(w, x, 4), QD_ERR_ARGUMENT, "beyond the end");
    EXPECT_STATUS(qd_gguf_write_tensor(w, "u", &vector), QD_ERR_ARGUMENT, "before the first data");
    EXPECT_STATUS(qd_gguf_write_u32(w, "u", 1), QD_ERR_ARGUMENT, "before the first data");
    EXPECT_STATUS(qd_gguf_write_create(NULL, &w), QD_ERR_ARGUMENT, "NULL");
    EXPECT_STATUS(qd_gguf_write_finish(NULL), QD_ERR_ARGUMENT, "NULL");
    expect_old();
    qd_gguf_writer_free(w);
    qd_gguf_writer_free(NULL);
    expect_old();
}
END_TEST

START_TEST(full_disk) {
    static const char zeros[100000];
    qd_gguf_writer *w = NULL;
    put_old();
    signal(SIGXFSZ, SIG_IGN);
    const struct rlimit before = {RLIM_INFINITY, RLIM_INFINITY}, small = {65536, RLIM_INFINITY};
    GOOD(qd_gguf_write_create(path, &w));
    GOOD(qd_gguf_write_tensor(w, "v", &(qd_tensor_desc){QD_FORMAT_F32, 1, {25000}}));
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    const qd_status status = qd_gguf_write_data(w, zeros, sizeof zeros);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &before), 0);
    EXPECT_STATUS(status, QD_ERR_IO, "make room");
    ck_assert(strstr(qd_last_message(), path));
    /* Nothing can come of it any more. */
    EXPECT_STATUS(qd_gguf_write_data(w, zeros, 1), QD_ERR_ARGUMENT, "start again");
    EXPECT_STATUS(qd_gguf_write_finish(w), QD_ERR_ARGUMENT, "start again");
    qd_gguf_writer_free(w);
    expect_old();
}
END_TEST

START_TEST(no_memory) {
    image m = sample(3);
    qd_gguf *g = expect_good(&m);
    qd_gguf_value v;
    GOOD(qd_gguf_find(g, "string", &v));
    put_old();
    int failures = 0;
    for (long n = 0;; n++) {
        qd_gguf_writer *w = NULL;
        qd_alloc_fail_after(n);
        qd_status status = qd_gguf_write_create(path, &w);
        if (!status) status = qd_gguf_write_value(w, g, &v);
        if (!status) status = qd_gguf_write_string(w, "key", "text");
        if (!status) status = qd_gguf_write_tensor(w, "v", &vector);
        if (!status) status = qd_gguf_write_data(w, (const float[]){1, 2, 3, 4}, 16);
        if (status) expect_old();
        if (!status) status = qd_gguf_write_finish(w);
        qd_alloc_fail_after(-1);
        qd_gguf_writer_free(w);
        ck_assert_int_eq(files(), 1);
        if (status == QD_OK) break;
        ck_assert_int_eq(status, QD_ERR_MEMORY);
        failures++;
    }
    ck_assert_int_gt(failures, 8);
    qd_gguf_free(g);
    image_free(&m);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("gguf_write");
    TCase *c = tcase_create("files");
    tcase_add_checked_fixture(c, setup, teardown);
    suite_add_tcase(suite, c);
    tcase_add_loop_test(c, copies, 0, sizeof alignments / sizeof alignments[0]);
    tcase_add_test(c, coded);
    tcase_add_test(c, wrong_calls);
    tcase_add_test(c, full_disk);
    tcase_add_test(c, no_memory);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
