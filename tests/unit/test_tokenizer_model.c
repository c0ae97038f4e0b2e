/* SmolLM2's own vocabulary (QDOT_TEST_MODEL) against tokens that another implementation made, its chat form, speed. */
#include <check.h>
#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "qdot/qdot.h"

static qd_gguf *file;
static qd_tokenizer *tokenizer;

static cJSON *read_json(const char *path) {
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "%s cannot be opened", path);
    static char text[1 << 20];
    const size_t size = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[size] = 0;
    cJSON *json = cJSON_Parse(text);
    ck_assert_msg(json != NULL, "%s is no JSON", path);
    return json;
}

static void expect_tokens(const char *text, bool special, const cJSON *expected) {
    int32_t *tokens;
    size_t count;
    const size_t size = strlen(text);
    ck_assert_msg(qd_tokenize(tokenizer, text, size, special, true, &tokens, &count) == QD_OK, "%s: %s", text,
                  qd_last_message());
    ck_assert_int_eq((int)count, cJSON_GetArraySize(expected));
    size_t i = 0, n = 0;
    const cJSON *token;
    char *back = malloc(size + 256);
    ck_assert_ptr_nonnull(back);
    cJSON_ArrayForEach(token, expected) {
        ck_assert_msg(tokens[i] == token->valueint, "'%s': token %zu is %d, expected %d", text, i, tokens[i],
                      token->valueint);
        n += (size_t)qd_token_text(tokenizer, tokens[i++], true, back + n, size + 256 - n);
        ck_assert_uint_le(n, size);
    }
    ck_assert_uint_eq(n, size);
    ck_assert_mem_eq(back, text, size);
    free(back);
    qd_tokens_free(tokens);
}

START_TEST(tokens_as_others_make_them) {
    cJSON *json = read_json("tests/golden/tokenizer_smollm2.json");
    const cJSON *cases = cJSON_GetObjectItem(json, "cases"), *c;
    ck_assert_int_gt(cJSON_GetArraySize(cases), 300);
    cJSON_ArrayForEach(c, cases) {
        const char *text = cJSON_GetObjectItem(c, "text")->valuestring;
        const cJSON *tokens = cJSON_GetObjectItem(c, "tokens"), *plain = cJSON_GetObjectItem(c, "plain_tokens");
        expect_tokens(text, true, tokens);
        expect_tokens(text, false, plain ? plain : tokens);
    }
    cJSON_Delete(json);
}
END_TEST

START_TEST(tokens_of_the_golden_prompts) {
    cJSON *json = read_json("tests/golden/smollm2-135m-instruct-q4_1.json");
    const cJSON *c;
    ck_assert_int_gt(cJSON_GetArraySize(json), 0);
    cJSON_ArrayForEach(c, json) {
        expect_tokens(cJSON_GetObjectItem(c, "prompt")->valuestring, true, cJSON_GetObjectItem(c, "tokens"));
    }
    cJSON_Delete(json);
}
END_TEST

START_TEST(special_tokens_and_chat) {
    ck_assert_int_eq(qd_tokenizer_vocab(tokenizer), 49152);
    ck_assert(qd_token_ends(tokenizer, 2) && qd_token_ends(tokenizer, 0) && !qd_token_ends(tokenizer, 1));
    const qd_message messages[] = {{"user", "Hi"}};
    char *text;
    ck_assert_int_eq(qd_chat_format(tokenizer, messages, 1, &text), QD_OK);
    ck_assert_str_eq(
        text,
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    qd_text_free(text);
}
END_TEST

/* Prose, of the kind that is tokenized in practice; a fraction of a second without sanitizers. */
START_TEST(a_megabyte_is_fast) {
    static const char prose[] =
        "It was the best of times, it was the worst of times; in 1859 nobody couldn't say which. Gr\xC3\xBC\xC3\x9F"
        "e!\n\n    for (int i = 0; i < n; i++)\n        sum += a[i];\n";
    const size_t length = sizeof prose - 1, size = (1 << 20) / length * length;
    char *text = malloc(size);
    ck_assert_ptr_nonnull(text);
    for (size_t i = 0; i < size; i++)
        text[i] = prose[i % length];
    int32_t *tokens;
    size_t count;
    const clock_t start = clock();
    ck_assert_msg(qd_tokenize(tokenizer, text, size, true, true, &tokens, &count) == QD_OK, "%s", qd_last_message());
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    printf("1 MiB of prose: %zu tokens in %.3f s\n", count, seconds);
    ck_assert(seconds < 20);
    qd_tokens_free(tokens);
    free(text);
}
END_TEST

static void open_model(void) {
    ck_assert_msg(qd_gguf_open(getenv("QDOT_TEST_MODEL"), &file) == QD_OK, "%s", qd_last_message());
    ck_assert_msg(qd_tokenizer_create(file, &tokenizer) == QD_OK, "%s", qd_last_message());
}

static void close_model(void) {
    qd_tokenizer_free(tokenizer);
    qd_gguf_free(file);
}

int main(void) {
    if (!getenv("QDOT_TEST_MODEL")) {
        printf("skipped: QDOT_TEST_MODEL names no model (sh host/fetch_model.sh)\n");
        return 77;
    }
    Suite *suite = suite_create("tokenizer of a model");
    TCase *all = tcase_create("all");
    tcase_add_checked_fixture(all, open_model, close_model);
    tcase_set_timeout(all, 120);
    tcase_add_test(all, tokens_as_others_make_them);
    tcase_add_test(all, tokens_of_the_golden_prompts);
    tcase_add_test(all, special_tokens_and_chat);
    tcase_add_test(all, a_megabyte_is_fast);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
