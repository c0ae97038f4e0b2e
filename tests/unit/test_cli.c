/* The helpers of the sub-commands: what the shell tests cannot reach exactly. */
#include <check.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

typedef struct parsed {
    bool flag;
    const char *text, *first, *second;
    int64_t whole;
    double real;
    uint64_t bytes;
    int code;
    bool go_on;
} parsed;

/* Parses words (ended by NULL) after the name "test". */
static parsed parse(const char *const words[]) {
    enum { WORDS = 16 };
    static char copies[WORDS][64];
    char *argv[WORDS + 1] = {copies[0]};
    int argc = 1;
    strcpy(copies[0], "test");
    for (; words[argc - 1]; argc++) {
        ck_assert_int_lt(argc, WORDS);
        strcpy(copies[argc], words[argc - 1]);
        argv[argc] = copies[argc];
    }
    parsed p = {.whole = 7, .code = -1};
    const qd_cli_option options[] = {
        {"flag", 'f', QD_CLI_FLAG, &p.flag, 0, 0, NULL, ""},
        {"text", 't', QD_CLI_TEXT, &p.text, 0, 0, "T", ""},
        {"whole", 'w', QD_CLI_INT, &p.whole, -5, 10, "N", ""},
        {"real", 0, QD_CLI_REAL, &p.real, 0, 0, "X", ""},
        {"bytes", 0, QD_CLI_BYTES, &p.bytes, 0, 0, "B", ""},
        {.name = "first", .kind = QD_CLI_OPERAND, .value = &p.first},
        {.name = "second", .kind = QD_CLI_OPERAND, .value = &p.second},
        {.kind = QD_CLI_END},
    };
    optind = 0; /* getopt starts anew */
    p.go_on = qd_cli_parse(argc, argv, "test", "A test.", options, &p.code);
    return p;
}
#define PARSE(...) parse((const char *const[]){__VA_ARGS__, NULL})

START_TEST(test_options) {
    parsed p = PARSE("one", "-f", "-tx", "--whole=-5", "two", "--real", "2.5e-3", "--bytes", "3M");
    ck_assert(p.go_on && p.flag);
    ck_assert_str_eq(p.text, "x");
    ck_assert_str_eq(p.first, "one");
    ck_assert_str_eq(p.second, "two");
    ck_assert_int_eq(p.whole, -5);
    ck_assert_double_eq(p.real, 2.5e-3);
    ck_assert_uint_eq(p.bytes, 3u << 20);
    p = PARSE("-f");
    ck_assert(p.go_on && p.whole == 7 && !p.text && !p.first);
}
END_TEST

START_TEST(test_bad_options) {
    const char *const bad[][3] = {
        {"--whole", "11"}, {"--whole", "-6"}, {"--whole", "1x"},  {"--whole", ""},
        {"--real", "inf"}, {"--real", "1,5"}, {"--bytes", "-3"},  {"--bytes", "3MB"},
        {"--bytes", "3T"}, {"--bytes", "K"},  {"--nope", NULL},   {"-x", NULL},
        {"--text", NULL},  {"-w", NULL},      {"--flag=1", NULL}, {"--bytes", "20000000000G"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const parsed p = parse(bad[i]);
        ck_assert_msg(!p.go_on && p.code == QD_EXIT_FAILED, "%s %s was taken", bad[i][0], bad[i][1] ? bad[i][1] : "");
    }
    ck_assert(!PARSE("a", "b", "c").go_on);
}
END_TEST

START_TEST(test_token_list) {
    int32_t *tokens;
    size_t count;
    ck_assert(qd_cli_token_list("0,2147483647,5", &tokens, &count));
    ck_assert_uint_eq(count, 3);
    ck_assert(tokens[0] == 0 && tokens[1] == 2147483647 && tokens[2] == 5);
    free(tokens);
    ck_assert(!qd_cli_token_list("1,2147483648", &tokens, &count));
    ck_assert(!qd_cli_token_list("1,", &tokens, &count));
}
END_TEST

START_TEST(test_utf8_whole) {
    static const struct {
        const char *text;
        size_t whole;
    } cases[] = {
        {"", 0},
        {"abc", 3},
        {"\xc3\xa9", 2},
        {"a\xc3", 1},
        {"a\xe2\x82", 1},
        {"a\xe2\x82\xac", 4},
        {"\xf0\x9f\x98", 0},
        {"\xf0\x9f", 0},
        {"\xf0", 0},
        {"\xf0\x9f\x98\x80", 4},
        {"\xf0\x9f\x98\x80\xf0\x9f", 4},
        {"\x80\x80\x80\x80", 4}, /* no UTF-8: never held back */
        {"a\xff", 2},
        {"\xc3\xa9\xa9", 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t whole = qd_cli_utf8_whole(cases[i].text, strlen(cases[i].text));
        ck_assert_msg(whole == cases[i].whole, "case %zu: %zu", i, whole);
    }
}
END_TEST

START_TEST(test_json_text) {
    static const char bad[] =
        "a\xff\xc3\xa9\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80\xe2\x82"
        "b";
    static const char *const fffd = "\xef\xbf\xbd";
    char wanted[64] = "a";
    strcat(strcat(wanted, fffd), "\xc3\xa9");
    for (int i = 0; i < 2 + 3 + 4 + 2; i++)
        strcat(wanted, fffd);
    strcat(wanted, "b");
    cJSON *o = cJSON_CreateObject();
    qd_cli_json_text(o, "t", bad, sizeof bad - 1);
    ck_assert_str_eq(cJSON_GetObjectItem(o, "t")->valuestring, wanted);
    cJSON_Delete(o);
}
END_TEST

START_TEST(test_nll) {
    const float even[4] = {1000, 1000, 1000, 1000};
    ck_assert_double_eq_tol(qd_cli_nll(even, 4, 2), log(4), 1e-12);
    const float two[2] = {0, 1};
    ck_assert_double_eq_tol(qd_cli_nll(two, 2, 0), log(1 + exp(1)), 1e-12);
    ck_assert_double_eq_tol(qd_cli_nll(two, 2, 1), log(1 + exp(-1)), 1e-12);
}
END_TEST

START_TEST(test_digest) {
    /* The floats 0 … 2000, little-endian; digest made with sha256sum. */
    enum { COUNT = 2001 };
    float counts[COUNT];
    char text[QD_CLI_DIGEST_TEXT];
    for (int i = 0; i < COUNT; i++)
        counts[i] = (float)i;
    qd_cli_digest *d = qd_cli_digest_new();
    qd_cli_digest_add(d, counts, 1);
    qd_cli_digest_add(d, counts + 1, COUNT - 1);
    qd_cli_digest_end(d, text);
    ck_assert_str_eq(text, "10792df4b3496f96023bc0f45dd0608e47c55e6612b1cc3b0019e273fe97d623");
    qd_cli_digest_end(NULL, text);
}
END_TEST

START_TEST(test_size) {
    char b[24];
    ck_assert_str_eq(qd_cli_size(0, b), "0 bytes");
    ck_assert_str_eq(qd_cli_size(1023, b), "1023 bytes");
    ck_assert_str_eq(qd_cli_size(1536, b), "1.5 KiB");
    ck_assert_str_eq(qd_cli_size(UINT64_MAX, b), "16777216.0 TiB");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("cli");
    TCase *tests = tcase_create("helpers");
    tcase_add_test(tests, test_options);
    tcase_add_test(tests, test_bad_options);
    tcase_add_test(tests, test_token_list);
    tcase_add_test(tests, test_utf8_whole);
    tcase_add_test(tests, test_json_text);
    tcase_add_test(tests, test_nll);
    tcase_add_test(tests, test_digest);
    tcase_add_test(tests, test_size);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
