/* Runs the golden vectors of the number formats. Cases of formats that the library does not have are skipped and
 * counted aloud; a case that runs must pass its own tolerance, without what it relaxes for other implementations. */
#include <check.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qdot/qdot.h"
#include "vectors.h"

#define MAX_SKIPPED 64

/* The least number of cases that must run. Raise it when a format is added. */
static const struct {
    const char *name;
    int least;
} groups[] = {{"gguf_dequantize", 24}, {"gguf_quantize", 48}, {"half_bf16", 13}};
#define GROUP_COUNT (int)(sizeof groups / sizeof groups[0])

typedef struct tally {
    int ran, failed, skipped;
    struct {
        char format[24];
        int cases;
    } by_format[MAX_SKIPPED];
    int formats;
} tally;

/* Buffers are followed by bytes that nothing may write. */
#define GUARD 64
#define GUARD_BYTE 0xa5

static unsigned char *guarded(size_t bytes) {
    unsigned char *p = malloc(bytes + GUARD);
    ck_assert_ptr_nonnull(p);
    memset(p, GUARD_BYTE, bytes + GUARD);
    return p;
}

/* True when bytes [from, to) are as guarded() left them. */
static bool untouched(const unsigned char *p, size_t from, size_t to) {
    for (size_t i = from; i < to; i++) {
        if (p[i] != GUARD_BYTE) return false;
    }
    return true;
}

static void skip(tally *t, const char *format) {
    int i = 0;
    while (i < t->formats && strcmp(t->by_format[i].format, format) != 0) {
        i++;
    }
    ck_assert_int_lt(i, MAX_SKIPPED);
    if (i == t->formats) snprintf(t->by_format[t->formats++].format, sizeof t->by_format[i].format, "%s", format);
    t->by_format[i].cases++;
    t->skipped++;
}

/* Finds a format by its name in a manifest, where it stands in capitals. */
static bool find_format(const char *name, qd_format *f) {
    char lower[24] = "";
    for (size_t i = 0; name[i] && i < sizeof lower - 1; i++) {
        lower[i] = (char)tolower((unsigned char)name[i]);
    }
    return qd_format_find(lower, f) == QD_OK;
}

/* Rows and columns of a tensor: the last dimension is the columns. */
static void rows_and_columns(const qd_vec_tensor *t, int64_t *rows, int64_t *cols) {
    *cols = t->rank ? t->shape[t->rank - 1] : 1;
    *rows = *cols ? t->count / *cols : 0;
}

/* Judges one output; prints why when it fails. */
static bool accept(const qd_vec_case *c, const qd_vec_tensor *want, const void *got, size_t bytes) {
    qd_vec_result r;
    ck_assert_ptr_nonnull(want);
    if (qd_vec_compare(c, want, got, bytes, NULL, &r) != QD_OK) {
        fprintf(stderr, "  %s: %s\n", c->name, qd_last_message());
        return false;
    }
    if (r.verdict == QD_VEC_PASS) return true;
    fprintf(stderr, "  %s: %lld different: %s\n", c->name, (long long)r.different, r.first);
    return false;
}

/* Floats to format f; compares the bytes with output `packed`, and what they give back with output "dequantized". */
static bool run_quantize(const qd_vec_case *c, qd_format f, const char *packed) {
    const qd_vec_tensor *x = qd_vec_input(c, "x"), *y = qd_vec_output(c, "dequantized");
    int64_t rows, cols;
    ck_assert(x && x->dtype == QD_VEC_F32);
    rows_and_columns(x, &rows, &cols);
    const qd_format_info *info = qd_format_get(f);
    const size_t bytes = (size_t)(rows * (cols / info->block + 1)) * (size_t)info->bytes; /* enough for any remainder */
    unsigned char *data = guarded(bytes);
    const qd_status status = qd_quantize(f, x->data, rows, cols, data);
    bool good;
    if (c->must_fail) {
        good = status == QD_ERR_ARGUMENT && untouched(data, 0, bytes + GUARD);
        if (!good) fprintf(stderr, "  %s: no clean failure (%s)\n", c->name, c->error);
    } else {
        const size_t used = (size_t)rows * qd_format_row_bytes(f, cols);
        good = status == QD_OK && untouched(data, used, bytes + GUARD);
        if (!good) fprintf(stderr, "  %s: %s\n", c->name, status ? qd_last_message() : "wrote too much");
        good = good && accept(c, qd_vec_output(c, packed), data, used);
        if (good && y) {
            unsigned char *back = guarded(x->bytes);
            good = qd_dequantize(f, data, rows, cols, (float *)(void *)back) == QD_OK && accept(c, y, back, x->bytes) &&
                   untouched(back, x->bytes, x->bytes + GUARD);
            free(back);
        }
    }
    free(data);
    return good;
}

/* Format f to floats; compares with output "y". `row_bytes` of the input are a row. */
static bool run_dequantize(const qd_vec_case *c, qd_format f, const qd_vec_tensor *data, int64_t rows,
                           int64_t row_bytes) {
    const qd_format_info *info = qd_format_get(f);
    /* The bytes of a part of a block stand for at least one element. */
    const int64_t cols = row_bytes / info->bytes * info->block + (row_bytes % info->bytes != 0);
    const size_t bytes = (size_t)(rows * cols) * sizeof(float);
    unsigned char *y = guarded(bytes);
    const qd_status status = qd_dequantize(f, data->data, rows, cols, (float *)(void *)y);
    bool good;
    if (c->must_fail) {
        good = status == QD_ERR_ARGUMENT && untouched(y, 0, bytes + GUARD);
        if (!good) fprintf(stderr, "  %s: no clean failure (%s)\n", c->name, c->error);
    } else {
        good = status == QD_OK && untouched(y, bytes, bytes + GUARD);
        if (!good) fprintf(stderr, "  %s: %s\n", c->name, status ? qd_last_message() : "wrote too much");
        good = good && accept(c, qd_vec_output(c, "y"), y, bytes);
    }
    free(y);
    return good;
}

static const char *attribute(const qd_vec_case *c, const char *key) {
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(c->attrs, key));
    ck_assert_msg(text != NULL, "%s lacks the attribute %s", c->name, key);
    return text;
}

static void run_case(const qd_vec_case *c, tally *t) {
    qd_format f;
    bool good = false;
    if (strcmp(c->op, "cast") == 0) {
        const char *from = attribute(c, "from"), *to = attribute(c, "to");
        const bool encodes = strcmp(from, "f32") == 0;
        if (!find_format(encodes ? to : from, &f)) {
            skip(t, encodes ? to : from);
            return;
        }
        const qd_vec_tensor *x = qd_vec_input(c, "x");
        ck_assert_ptr_nonnull(x);
        good = encodes ? run_quantize(c, f, "y") : run_dequantize(c, f, x, 1, (int64_t)x->bytes);
    } else {
        ck_assert_msg(c->format != NULL, "%s names no format", c->name);
        if (!find_format(c->format, &f)) {
            skip(t, c->format);
            return;
        }
        if (strcmp(c->op, "quantize") == 0) {
            good = run_quantize(c, f, qd_vec_output(c, "y") ? "y" : "data");
        } else if (strcmp(c->op, "dequantize") == 0) {
            const qd_vec_tensor *data = qd_vec_input(c, "data");
            int64_t rows, row_bytes;
            ck_assert(data && data->dtype == QD_VEC_U8);
            rows_and_columns(data, &rows, &row_bytes);
            good = run_dequantize(c, f, data, rows, row_bytes);
        } else {
            fprintf(stderr, "  %s: unknown operation %s\n", c->name, c->op);
        }
    }
    t->ran++;
    t->failed += !good;
}

START_TEST(test_group) {
    char folder[128];
    qd_vectors *v = NULL;
    tally t = {0};
    snprintf(folder, sizeof folder, "tests/golden/vectors/%s", groups[_i].name);
    const qd_status status = qd_vectors_open(folder, &v);
    ck_assert_msg(status == QD_OK, "%s", qd_last_message());
    for (int i = 0; i < v->case_count; i++) {
        run_case(&v->cases[i], &t);
    }
    printf("%s: %d ran, %d failed, %d skipped", v->group, t.ran, t.failed, t.skipped);
    for (int i = 0; i < t.formats; i++) {
        printf("%s %s %d", i ? "," : ":", t.by_format[i].format, t.by_format[i].cases);
    }
    printf("\n");
    fflush(stdout);
    ck_assert_int_eq(t.ran + t.skipped, v->case_count);
    qd_vectors_free(v);
    ck_assert_int_eq(t.failed, 0);
    ck_assert_msg(t.ran >= groups[_i].least, "only %d of at least %d cases ran", t.ran, groups[_i].least);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("golden vectors");
    TCase *tc = tcase_create("groups");
    tcase_add_loop_test(tc, test_group, 0, GROUP_COUNT);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
