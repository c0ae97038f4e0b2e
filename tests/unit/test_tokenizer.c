/* The tokenizers on small vocabularies whose answers can be worked out by hand; every pre-tokenizer; bad texts; running
 * out of memory; speed. Damaged vocabularies are in test_tokenizer_damaged.c, a real one in test_tokenizer_model.c. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/status.h"
#include "unit/vocab_image.h"

static const char *const pretokenizers[] = {
#define QD_PRETOKENIZER(name, ...) name,
#include "model/pretokenizer.def"
};
enum { PRETOKENIZERS = sizeof pretokenizers / sizeof *pretokenizers };

/* ---- Helpers ------------------------------------------------------------------------------------------------ */

typedef struct fixture {
    image m;
    qd_gguf *g;
    qd_tokenizer *t;
} fixture;

static fixture open_vocab(const vocab *v) {
    fixture f = {.m = vocab_image(v)};
    f.g = expect_good(&f.m);
    const qd_status s = qd_tokenizer_create(f.g, &f.t);
    ck_assert_msg(s == QD_OK, "%s", qd_last_message());
    return f;
}

static void close_vocab(fixture *f) {
    qd_tokenizer_free(f->t);
    qd_gguf_free(f->g);
    image_free(&f->m);
}

/* The tokens' texts in the writing of the vocabulary's lists, "|" between them. */
static const char *pieces(const qd_tokenizer *t, const char *text, size_t size, bool special, bool bos) {
    static char out[4096];
    int32_t *tokens;
    size_t count, n = 0;
    const qd_status s = qd_tokenize(t, text, size, special, bos, &tokens, &count);
    ck_assert_msg(s == QD_OK, "%s", qd_last_message());
    for (size_t i = 0; i < count; i++) {
        if (i > 0) out[n++] = '|';
        const int length = qd_token_text(t, tokens[i], true, out + n, sizeof out - n - 2);
        ck_assert_int_ge(length, 0);
        n += (size_t)length;
        ck_assert_uint_lt(n, sizeof out - 2);
    }
    out[n] = 0;
    qd_tokens_free(tokens);
    return out;
}

#define EXPECT_PIECES(t, text, special, expected) \
    ck_assert_str_eq(pieces(t, text, strlen(text), special, false), expected)

/* The bytes of the tokens together; free() the result. */
static char *joined(const qd_tokenizer *t, const int32_t *tokens, size_t count, size_t *size) {
    *size = 0;
    for (size_t i = 0; i < count; i++)
        *size += (size_t)qd_token_text(t, tokens[i], true, NULL, 0);
    char *text = malloc(*size + 1);
    ck_assert_ptr_nonnull(text);
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += (size_t)qd_token_text(t, tokens[i], true, text + n, *size - n);
    return text;
}

static void expect_round_trip(const qd_tokenizer *t, const char *text, size_t size, bool special) {
    int32_t *tokens;
    size_t count, back;
    ck_assert_msg(qd_tokenize(t, text, size, special, false, &tokens, &count) == QD_OK, "%s", qd_last_message());
    char *again = joined(t, tokens, count, &back);
    ck_assert_uint_eq(back, size);
    ck_assert_mem_eq(again, text, size);
    free(again);
    qd_tokens_free(tokens);
}

/* ---- Byte-level BPE ----------------------------------------------------------------------------------------- */

START_TEST(merges_follow_their_ranks) {
    vocab v = vocab_bpe("gpt-2");
    fixture f = open_vocab(&v);
    EXPECT_PIECES(f.t, "hello world", false, "hello| world");
    EXPECT_PIECES(f.t, "hellllo", false, "hell|ll|o");
    EXPECT_PIECES(f.t, "abc", false, "a|bc"); /* b c has the lesser rank */
    EXPECT_PIECES(f.t, "aaa", false, "aa|a"); /* of equal ranks the leftmost */
    EXPECT_PIECES(f.t, "aaaab", false, "aa|a|ab");
    EXPECT_PIECES(f.t, "\xC3\xA9", false, "\xC3\xA9");
    EXPECT_PIECES(f.t, "\xC3\xAA", false, "\xC3|\xAA");
    ck_assert_int_eq(qd_tokenizer_vocab(f.t), v.count);
    close_vocab(&f);
}
END_TEST

START_TEST(special_tokens_come_first) {
    vocab v = vocab_bpe("gpt-2");
    fixture f = open_vocab(&v);
    EXPECT_PIECES(f.t, "a<|im_end|>a", true, "a|<|im_end|>|a");
    EXPECT_PIECES(f.t, "a<|im_end|>a", false, "a|<|||i|m|_|e|n|d|||>|a");
    EXPECT_PIECES(f.t, "<|im_start|", true, "<|||i|m|_|s|t|a|r|t||");
    EXPECT_PIECES(f.t, "<<|im_start|>>", true, "<|<|im_start|>|>");
    /* User-defined tokens are text for nobody; the longest match counts. */
    EXPECT_PIECES(f.t, "<tool>a", false, "<tool>|a");
    EXPECT_PIECES(f.t, "<tool>sa", false, "<tool>s|a");
    EXPECT_PIECES(f.t, "<tool><tool>s<tool", false, "<tool>|<tool>s|<|t|o|o|l");
    /* No merging across special tokens. */
    EXPECT_PIECES(f.t, "he<|im_end|>llo", true, "he|<|im_end|>|ll|o");
    close_vocab(&f);
}
END_TEST

START_TEST(begin_tokens_stand_where_the_file_asks) {
    vocab v = vocab_bpe("gpt-2");
    fixture f = open_vocab(&v);
    ck_assert_str_eq(pieces(f.t, "a", 1, false, true), "a");
    close_vocab(&f);
    v.add_bos = 1;
    f = open_vocab(&v);
    ck_assert_str_eq(pieces(f.t, "a", 1, false, true), "<|im_start|>|a");
    ck_assert_str_eq(pieces(f.t, "a", 1, false, false), "a");
    ck_assert_str_eq(pieces(f.t, "", 0, false, true), "<|im_start|>");
    ck_assert_str_eq(pieces(f.t, NULL, 0, false, false), "");
    close_vocab(&f);
    v = vocab_bpe("llama-bpe"); /* asks for it when the file does not say */
    f = open_vocab(&v);
    ck_assert_str_eq(pieces(f.t, "a", 1, false, true), "<|im_start|>|a");
    close_vocab(&f);
    v.add_bos = 0;
    f = open_vocab(&v);
    ck_assert_str_eq(pieces(f.t, "a", 1, false, true), "a");
    close_vocab(&f);
}
END_TEST

/* How the patterns cut shows in which merges can happen. */
static const struct {
    const char *pre, *text, *expected;
} cuts[] = {
    {"gpt-2", "1234", "1234"},
    {"gpt-2", "a1234", "a|1234"},
    {"smollm", "1234", "1|2|3|4"},
    {"starcoder", "1234", "1|2|3|4"},
    {"qwen2", "1234", "1|2|3|4"},
    {"tekken", "1234", "1|2|3|4"},
    {"llama-bpe", "1234", "123|4"},
    {"gpt-4o", "1234", "123|4"},
    {"minicpm5", "1234", "123|4"},
    {"deepseek-v3", "1234", "123|4"},
    {"falcon", "1234", "123|4"},
    {"default", "1234", "123|4"},
    {"gpt-2", "b  a", "b| | a"}, /* of a run of spaces the last goes with the word */
    {"smollm", "b   a", "b|  | a"},
    {"llama-bpe", "b   a", "b|  | a"},
    {"gpt-2", "b  ", "b|  "},
    {"gpt-2", "a's", "a|'s"},
    {"gpt-2", "a'S", "a|'|S"},    /* contractions in lower case only … */
    {"llama-bpe", "a'S", "a|'S"}, /* … or in any case */
    {"gpt-2", "a\n\na", "a|\n|\n|a"},
    {"llama-bpe", "a\n\na", "a|\n\n|a"}, /* line ends go together */
    {"llama-bpe", "a.\na", "a|.\n|a"},   /* … and with punctuation before them */
    {"gpt-2", "a.\na", "a|.|\n|a"},
    {"gpt-2", ".a", ".|a"},
    {"llama-bpe", ".a", ".a"}, /* one sign goes with the letters after it */
    {"qwen2", "xB", "xB"},
    {"gpt-4o", "xB", "x|B"}, /* lower case to upper case is a border */
    {"tekken", "xB", "x|B"},
    {"bloom", ".a", ".|a"},
    {"viking", "1234", "1|2|3|4"},
    {"deepseek-coder", "a\n\na", "a|\n|\n|a"},
    /* U+180E is no white space (PCRE2's \s has it), so it goes with the space before it, which then does not stand in
     * the run with the other. */
    {"gpt-2", "b  \xE1\xA0\x8E", "b| | |\xE1|\xA0|\x8E"},
    {"gpt-2", "  \xE2\x80\x83", "  |\xE2|\x80|\x83"},
};

START_TEST(pretokenizers_cut) {
    const char *pre = cuts[_i].pre;
    vocab v = vocab_bpe(pre);
    fixture f = open_vocab(&v);
    const char *got = pieces(f.t, cuts[_i].text, strlen(cuts[_i].text), false, false);
    ck_assert_msg(strcmp(got, cuts[_i].expected) == 0, "%s on '%s': %s, expected %s", pre, cuts[_i].text, got,
                  cuts[_i].expected);
    close_vocab(&f);
}
END_TEST

START_TEST(every_pretokenizer_keeps_the_text) {
    static const char *const texts[] = {
        "Hello, World! I'm DON'T 12345 x\n\n\r\n \t  end  ",
        "na\xC3\xAFve \xE4\xB8\xAD\xE6\x96\x87\xE3\x80\x82\xED\x95\x9C\xEA\xB8\x80 \xF0\x9F\xA6\x99 e\xCC\x81 \xC2\xA0 "
        "\xE0\xA4\xB9\xE0\xA4\xBF \xD9\xA3 \xC2\xBD",
        "   \n",
        "''''",
        "a",
        " ",
        "<|im_end|>",
        "\xC7\x85\xC2\xAA"
        "Bb\xE1\xA0\x8E(x|y),z...",
        ""};
    vocab v = vocab_bpe(pretokenizers[_i]);
    fixture f = open_vocab(&v);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        expect_round_trip(f.t, texts[i], strlen(texts[i]), false);
        expect_round_trip(f.t, texts[i], strlen(texts[i]), true);
    }
    expect_round_trip(f.t, "nul\0\x01\x1F\x7F", 7, false);
    close_vocab(&f);
}
END_TEST

START_TEST(whole_words_win_where_merges_are_ignored) {
    vocab v = vocab_bpe("llama-bpe");
    vocab_add(&v, "xyz", NORMAL, 0); /* no merge makes it */
    vocab_add(&v, "\xC4\xA0xyz", NORMAL, 0);
    vocab_add(&v, "qqq", CONTROL, 0);
    fixture f = open_vocab(&v);
    EXPECT_PIECES(f.t, "xyz xyz xyzz", false, "xyz| xyz| |x|y|z|z");
    EXPECT_PIECES(f.t, "qqq", false, "q|q|q"); /* control tokens are no text */
    close_vocab(&f);
    v.pre = "qwen2";
    f = open_vocab(&v);
    EXPECT_PIECES(f.t, "xyz", false, "x|y|z");
    close_vocab(&f);
}
END_TEST

START_TEST(missing_bytes_are_refused) {
    vocab v = vocab_bpe("gpt-2");
    strcpy(v.text[5 + 4], "gone"); /* the token of byte 4 */
    fixture f = open_vocab(&v);
    int32_t *tokens = (int32_t *)1;
    size_t count = 77;
    EXPECT_STATUS(qd_tokenize(f.t, "ab\x04", 3, false, false, &tokens, &count), QD_ERR_ARGUMENT, "0x04 at offset 2");
    ck_assert_ptr_eq(tokens, (int32_t *)1);
    ck_assert_uint_eq(count, 77);
    close_vocab(&f);
}
END_TEST

/* ---- SentencePiece style ------------------------------------------------------------------------------------ */

START_TEST(scores_order_the_merges) {
    vocab v = vocab_spm();
    v.add_space_prefix = 0;
    fixture f = open_vocab(&v);
    EXPECT_PIECES(f.t, "abc", false, "abc"); /* b c, then a bc */
    EXPECT_PIECES(f.t, "ab", false, "ab");
    EXPECT_PIECES(f.t, "aaab", false, "aa|ab");
    EXPECT_PIECES(f.t, "aaa", false, "aa|a");
    EXPECT_PIECES(f.t, "  a", false, " | a"); /* the mark with a scores higher than two marks */
    EXPECT_PIECES(f.t, "\xC3\xA9", false, "\xC3\xA9");
    EXPECT_PIECES(f.t, "\xC3\xAA\xF0\x9F\xA6\x99", false, "\xC3|\xAA|\xF0|\x9F|\xA6|\x99"); /* bytes */
    EXPECT_PIECES(f.t, "<s>", false, "<s|>"); /* plain text never makes a control token */
    EXPECT_PIECES(f.t, "<s>", true, "<s>");
    EXPECT_PIECES(f.t, "<sep>a", false, "<sep>|a");
    close_vocab(&f);
}
END_TEST

START_TEST(texts_get_a_space_in_front) {
    vocab v = vocab_spm();
    fixture f = open_vocab(&v);
    EXPECT_PIECES(f.t, "a", false, " a");
    EXPECT_PIECES(f.t, "", false, "");
    EXPECT_PIECES(f.t, "a</s>a", true, " a|</s>| a");
    ck_assert_str_eq(pieces(f.t, "a", 1, false, true), "<s>| a");
    ck_assert_str_eq(pieces(f.t, "", 0, false, true), "<s>");
    close_vocab(&f);
}
END_TEST

START_TEST(unknown_stands_for_missing_bytes) {
    vocab v = vocab_spm();
    strcpy(v.text[3 + 0xAA], "<gone>");
    fixture f = open_vocab(&v);
    int32_t *tokens;
    size_t count;
    ck_assert_int_eq(qd_tokenize(f.t, "\xC3\xAA\xC3\xAB", 4, false, false, &tokens, &count), QD_OK);
    ck_assert_uint_eq(count, 4);
    const int32_t expected[] = {259, 0, 3 + 0xC3, 3 + 0xAB};
    ck_assert_mem_eq(tokens, expected, sizeof expected);
    qd_tokens_free(tokens);
    close_vocab(&f);
}
END_TEST

/* ---- Texts of tokens ---------------------------------------------------------------------------------------- */

START_TEST(token_texts) {
    vocab v = vocab_bpe("gpt-2");
    fixture f = open_vocab(&v);
    char buffer[8] = "???????";
    ck_assert_int_eq(qd_token_text(f.t, 2, true, buffer, 4), 10);
    ck_assert_mem_eq(buffer, "<|im???", 7);
    ck_assert_int_eq(qd_token_text(f.t, 2, false, buffer, 4), 0);
    ck_assert_int_eq(qd_token_text(f.t, 3, false, NULL, 0), 6);
    ck_assert_int_eq(qd_token_text(f.t, 5 + 0xAD, false, buffer, 8), 1);
    ck_assert_int_eq((unsigned char)buffer[0], 0xAD);
    EXPECT_STATUS(qd_token_text(f.t, v.count, false, buffer, 8), -1, "none of this vocabulary");
    ck_assert_int_eq(qd_token_text(f.t, -1, false, buffer, 8), -1);
    ck_assert_int_eq(qd_token_text(NULL, 0, false, buffer, 8), -1);
    close_vocab(&f);
}
END_TEST

START_TEST(ending_tokens) {
    vocab v = vocab_bpe("gpt-2");
    const int tool = vocab_add(&v, "<end_of_turn>", USER_DEFINED, 0); /* by name, but no control token */
    const int end = vocab_add(&v, "</s>", CONTROL, 0);
    v.eot = 9;
    fixture f = open_vocab(&v);
    for (int i = -1; i <= v.count; i++) {
        ck_assert_msg(qd_token_ends(f.t, i) == (i == 0 || i == 2 || i == 9 || i == end), "token %d", i);
    }
    ck_assert(!qd_token_ends(f.t, tool));
    ck_assert(!qd_token_ends(NULL, 0));
    close_vocab(&f);
}
END_TEST

/* ---- Bad texts ---------------------------------------------------------------------------------------------- */

static const struct {
    const char *text;
    size_t size;
    const char *message; /* NULL: valid */
} encodings[] = {
    {"ab\xFF", 3, "0xFF at offset 2"},
    {"\x80", 1, "offset 0"},
    {"a\xC3", 2, "offset 1"},
    {"a\xC0\x80", 3, "offset 1"},
    {"\xC1\xBF", 2, "offset 0"},
    {"\xE0\x9F\xBF", 3, "offset 0"},
    {"\xF0\x8F\xBF\xBF", 4, "offset 0"},
    {"x\xED\xA0\x80", 4, "offset 1"},
    {"\xF4\x90\x80\x80", 4, "offset 0"},
    {"\xF5\x80\x80\x80", 4, "offset 0"},
    {"\xE4\xB8\xAD\xE4\xB8", 5, "offset 3"},
    {"\xC2\x80\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", 19, NULL},
};

START_TEST(texts_must_be_utf8) {
    vocab kinds[] = {vocab_bpe("gpt-2"), vocab_spm()};
    for (int k = 0; k < 2; k++) {
        fixture f = open_vocab(&kinds[k]);
        int32_t *tokens;
        size_t count;
        if (encodings[_i].message) {
            EXPECT_STATUS(qd_tokenize(f.t, encodings[_i].text, encodings[_i].size, true, true, &tokens, &count),
                          QD_ERR_ARGUMENT, encodings[_i].message);
        } else {
            ck_assert_int_eq(qd_tokenize(f.t, encodings[_i].text, encodings[_i].size, true, true, &tokens, &count),
                             QD_OK);
            qd_tokens_free(tokens);
        }
        close_vocab(&f);
    }
}
END_TEST

START_TEST(null_arguments) {
    vocab v = vocab_bpe("gpt-2");
    fixture f = open_vocab(&v);
    int32_t *tokens;
    size_t count;
    qd_tokenizer *t;
    ck_assert_int_eq(qd_tokenizer_create(NULL, &t), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_tokenizer_create(f.g, NULL), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_tokenize(NULL, "a", 1, false, false, &tokens, &count), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_tokenize(f.t, NULL, 1, false, false, &tokens, &count), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_tokenize(f.t, "a", 1, false, false, NULL, &count), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_tokenize(f.t, "a", 1, false, false, &tokens, NULL), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_tokenizer_vocab(NULL), 0);
    qd_tokenizer_free(NULL);
    qd_tokens_free(NULL);
    close_vocab(&f);
}
END_TEST

/* ---- Memory and speed --------------------------------------------------------------------------------------- */

START_TEST(running_out_of_memory) {
    vocab kinds[] = {vocab_bpe("llama-bpe"), vocab_spm()};
    image m = vocab_image(&kinds[_i]);
    qd_gguf *g = expect_good(&m);
    qd_tokenizer *t = NULL;
    qd_status s = QD_ERR_MEMORY;
    long n = 0;
    for (; s != QD_OK; n++) {
        ck_assert_int_lt(n, 1000);
        qd_alloc_fail_after(n);
        s = qd_tokenizer_create(g, &t);
        qd_alloc_fail_after(-1);
        ck_assert_msg(s == QD_OK || s == QD_ERR_MEMORY, "after %ld allocations: %s", n, qd_last_message());
        ck_assert(s == QD_OK || (!t && strstr(qd_last_message(), "out of memory")));
    }
    ck_assert_int_gt(n, 4);
    char text[600];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = "a bc 12 \n"[i % 9];
    int32_t *tokens = NULL;
    size_t count = 0;
    s = QD_ERR_MEMORY;
    for (n = 0; s != QD_OK; n++) {
        ck_assert_int_lt(n, 10000);
        qd_alloc_fail_after(n);
        s = qd_tokenize(t, text, sizeof text, true, true, &tokens, &count);
        qd_alloc_fail_after(-1);
        ck_assert_msg(s == QD_OK || s == QD_ERR_MEMORY, "after %ld allocations: %s", n, qd_last_message());
        ck_assert(s == QD_OK || (!tokens && count == 0));
    }
    ck_assert_int_gt(n, 4);
    ck_assert_uint_gt(count, 100);
    qd_tokens_free(tokens);
    qd_tokenizer_free(t);
    qd_gguf_free(g);
    image_free(&m);
}
END_TEST

/* A megabyte of anything takes less than this; it is a fraction of a second without sanitizers. */
enum { MEGABYTE = 1 << 20, SECONDS = 20 };

static const char *const long_texts[] = {
    "a",  "hello", " ", "\n",    "1",          "'",        "hello world 1234 x's.\n", "\xE4\xB8\xAD",
    "aB", " .",    "<", "<tool", "<|im_end|>", "\xCC\x81", "a\xCC\x81 \xC2\xA0"};

START_TEST(long_texts_are_fast) {
    static const char *const kinds[] = {NULL,        "gpt-2",  "smollm",      "default",
                                        "llama-bpe", "gpt-4o", "deepseek-v3", "bloom"};
    char *text = malloc(MEGABYTE);
    ck_assert_ptr_nonnull(text);
    const size_t length = strlen(long_texts[_i]), size = MEGABYTE / length * length;
    for (size_t i = 0; i < size; i++)
        text[i] = long_texts[_i][i % length];
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        vocab v = kinds[k] ? vocab_bpe(kinds[k]) : vocab_spm();
        fixture f = open_vocab(&v);
        int32_t *tokens;
        size_t count;
        const clock_t start = clock();
        ck_assert_msg(qd_tokenize(f.t, text, size, true, false, &tokens, &count) == QD_OK, "%s", qd_last_message());
        const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
        ck_assert_msg(seconds < SECONDS, "%s on '%s' takes %.1f s", kinds[k] ? kinds[k] : "llama", long_texts[_i],
                      seconds);
        qd_tokens_free(tokens);
        close_vocab(&f);
    }
    free(text);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("tokenizer");
    TCase *bpe = tcase_create("bpe");
    tcase_add_test(bpe, merges_follow_their_ranks);
    tcase_add_test(bpe, special_tokens_come_first);
    tcase_add_test(bpe, begin_tokens_stand_where_the_file_asks);
    tcase_add_loop_test(bpe, pretokenizers_cut, 0, sizeof cuts / sizeof *cuts);
    tcase_add_loop_test(bpe, every_pretokenizer_keeps_the_text, 0, PRETOKENIZERS);
    tcase_add_test(bpe, whole_words_win_where_merges_are_ignored);
    tcase_add_test(bpe, missing_bytes_are_refused);
    suite_add_tcase(suite, bpe);
    TCase *spm = tcase_create("spm");
    tcase_add_test(spm, scores_order_the_merges);
    tcase_add_test(spm, texts_get_a_space_in_front);
    tcase_add_test(spm, unknown_stands_for_missing_bytes);
    suite_add_tcase(suite, spm);
    TCase *calls = tcase_create("calls");
    tcase_add_test(calls, token_texts);
    tcase_add_test(calls, ending_tokens);
    tcase_add_loop_test(calls, texts_must_be_utf8, 0, sizeof encodings / sizeof *encodings);
    tcase_add_test(calls, null_arguments);
    tcase_add_loop_test(calls, running_out_of_memory, 0, 2);
    suite_add_tcase(suite, calls);
    TCase *speed = tcase_create("speed");
    tcase_set_timeout(speed, 300);
    tcase_add_loop_test(speed, long_texts_are_fast, 0, sizeof long_texts / sizeof *long_texts);
    suite_add_tcase(suite, speed);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
