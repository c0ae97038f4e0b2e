/* Vocabularies that a tokenizer must refuse, each with the message that says why, and odd ones that it must take. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "unit/vocab_image.h"

enum change {
    NOTHING,
    NO_MODEL,
    OTHER_MODEL,
    OTHER_PRE,
    NO_TOKENS,
    NO_TYPES,
    FEWER_TYPES,
    MORE_TYPES,
    NO_SCORES,
    FEWER_SCORES,
    NAN_SCORE,
    BAD_TYPE,
    NEGATIVE_TYPE,
    NO_MERGES,
    NOT_A_PAIR,
    LEFT_MISSING,
    RIGHT_MISSING,
    RESULT_MISSING,
    LONG_MERGE,
    EMPTY_HALF,
    BOS_OUTSIDE,
    EOS_OUTSIDE,
    EOT_OUTSIDE,
    BOS_NOT_NAMED,
    ADD_BOS_2,
    NO_BYTES,
    /* Odd but valid. */
    NO_PRE,
    REPEATED_TEXTS,
    EMPTY_TEXTS,
    REPEATED_MERGES,
    INFINITE_SCORES,
    INVALID_UTF8
};

static void apply(vocab *v, enum change c) {
    switch (c) {
        case NOTHING:
            break;
        case NO_MODEL:
            v->model = NULL;
            break;
        case OTHER_MODEL:
            v->model = "bert";
            break;
        case OTHER_PRE:
            v->pre = "mystery";
            break;
        case NO_TOKENS:
            v->count = VOCAB_ABSENT;
            break;
        case NO_TYPES:
            v->types = VOCAB_ABSENT;
            break;
        case FEWER_TYPES:
            v->types--;
            break;
        case MORE_TYPES:
            v->types++;
            break;
        case NO_SCORES:
            v->scores = VOCAB_ABSENT;
            break;
        case FEWER_SCORES:
            v->scores = 1;
            break;
        case NAN_SCORE:
            v->score[7] = (float)NAN;
            break;
        case BAD_TYPE:
            v->type[7] = 7;
            break;
        case NEGATIVE_TYPE:
            v->type[7] = -1;
            break;
        case NO_MERGES:
            v->merges = VOCAB_ABSENT;
            break;
        case NOT_A_PAIR:
            strcpy(v->merge[3], "hello");
            break;
        case LEFT_MISSING:
            strcpy(v->merge[3], "zz a");
            break;
        case RIGHT_MISSING:
            strcpy(v->merge[3], "a zz");
            break;
        case RESULT_MISSING:
            strcpy(v->merge[3], "q z");
            break;
        case LONG_MERGE:
            strcpy(v->merge[3], "<|endoftext|> <|endoftext|>");
            break;
        case EMPTY_HALF:
            strcpy(v->merge[3], "a ");
            break;
        case BOS_OUTSIDE:
            v->bos = v->count;
            break;
        case EOS_OUTSIDE:
            v->eos = 1000000;
            break;
        case EOT_OUTSIDE:
            v->eot = 0xFFFFFFFF;
            break;
        case BOS_NOT_NAMED:
            v->bos = VOCAB_ABSENT, v->add_bos = 1;
            break;
        case ADD_BOS_2:
            v->add_bos = 2;
            break;
        case NO_BYTES:
            v->count = v->types = v->scores = 2;
            break;
        case NO_PRE:
            v->pre = NULL;
            break;
        case REPEATED_TEXTS:
            strcpy(v->text[1], v->text[2]), strcpy(v->text[4], v->text[9]);
            break;
        case EMPTY_TEXTS:
            strcpy(v->text[0], ""), strcpy(v->text[3], ""), v->type[3] = NORMAL;
            break;
        case REPEATED_MERGES:
            strcpy(v->merge[3], v->merge[0]);
            break;
        case INFINITE_SCORES:
            v->score[260] = (float)INFINITY, v->score[261] = -(float)INFINITY;
            break;
        case INVALID_UTF8:
            strcpy(v->text[5 + 'q'], "\xFF\xC3");
            break;
    }
}

static const struct {
    bool llama;
    enum change change;
    qd_status status;
    const char *message;
} cases[] = {
    {false, NOTHING, QD_OK, ""},
    {true, NOTHING, QD_OK, ""},
    {false, NO_MODEL, QD_ERR_FILE, "tokenizer.ggml.model"},
    {false, OTHER_MODEL, QD_ERR_UNSUPPORTED, "'bert'; known are gpt2"},
    {false, OTHER_PRE, QD_ERR_UNSUPPORTED, "'mystery' is not known; known are: default gpt-2"},
    {false, NO_TOKENS, QD_ERR_FILE, "tokenizer.ggml.tokens"},
    {true, NO_TOKENS, QD_ERR_FILE, "tokenizer.ggml.tokens"},
    {false, NO_TYPES, QD_ERR_FILE, "tokenizer.ggml.token_type"},
    {true, NO_TYPES, QD_ERR_FILE, "tokenizer.ggml.token_type"},
    {false, FEWER_TYPES, QD_ERR_FILE, "one for each token"},
    {false, MORE_TYPES, QD_ERR_FILE, "one for each token"},
    {true, NO_SCORES, QD_ERR_FILE, "tokenizer.ggml.scores"},
    {true, FEWER_SCORES, QD_ERR_FILE, "it has 1;"},
    {true, NAN_SCORE, QD_ERR_FILE, "token 7 "},
    {false, BAD_TYPE, QD_ERR_FILE, "token 7 "},
    {false, NEGATIVE_TYPE, QD_ERR_FILE, "token 7 "},
    {false, NO_MERGES, QD_ERR_FILE, "tokenizer.ggml.merges"},
    {false, NOT_A_PAIR, QD_ERR_FILE, "merge 3 of the vocabulary is not two tokens"},
    {false, LEFT_MISSING, QD_ERR_FILE, "merge 3 needs 'zz'"},
    {false, RIGHT_MISSING, QD_ERR_FILE, "merge 3 needs 'zz'"},
    {false, RESULT_MISSING, QD_ERR_FILE, "merge 3 needs 'q z'"},
    {false, LONG_MERGE, QD_ERR_FILE, "merge 3 needs '<|endoftext|> <|endoftext|>'"},
    {false, EMPTY_HALF, QD_ERR_FILE, "merge 3 needs ''"},
    {false, BOS_OUTSIDE, QD_ERR_FILE, "tokenizer.ggml.bos_token_id"},
    {true, BOS_OUTSIDE, QD_ERR_FILE, "tokenizer.ggml.bos_token_id"},
    {false, EOS_OUTSIDE, QD_ERR_FILE, "tokenizer.ggml.eos_token_id is 1000000"},
    {false, EOT_OUTSIDE, QD_ERR_FILE, "tokenizer.ggml.eot_token_id"},
    {false, BOS_NOT_NAMED, QD_ERR_FILE, "asks for a begin token"},
    {false, ADD_BOS_2, QD_ERR_FILE, "tokenizer.ggml.add_bos_token is 2, expected 0 to 1"},
    {true, NO_BYTES, QD_ERR_FILE, "has 0 of the 256 byte tokens"},
    {false, NO_PRE, QD_OK, ""},
    {false, REPEATED_TEXTS, QD_OK, ""},
    {true, REPEATED_TEXTS, QD_OK, ""},
    {false, EMPTY_TEXTS, QD_OK, ""},
    {true, EMPTY_TEXTS, QD_OK, ""},
    {false, REPEATED_MERGES, QD_OK, ""},
    {true, INFINITE_SCORES, QD_OK, ""},
    {true, INVALID_UTF8, QD_OK, ""},
};

START_TEST(vocabularies_are_checked) {
    vocab v = cases[_i].llama ? vocab_spm() : vocab_bpe("smollm");
    apply(&v, cases[_i].change);
    image m = vocab_image(&v);
    qd_gguf *g = expect_good(&m);
    qd_tokenizer *t = NULL;
    const qd_status s = qd_tokenizer_create(g, &t);
    ck_assert_msg(s == cases[_i].status, "status %d: %s", (int)s, qd_last_message());
    if (s == QD_OK) {
        static const char text[] = "Hello abc <|im_end|><s> \xC3\xA9 1234";
        int32_t *tokens;
        size_t count;
        ck_assert_msg(qd_tokenize(t, text, strlen(text), true, true, &tokens, &count) == QD_OK, "%s",
                      qd_last_message());
        ck_assert_uint_gt(count, 3);
        for (size_t i = 0; i < count; i++)
            ck_assert(tokens[i] >= 0 && tokens[i] < v.count);
        qd_tokens_free(tokens);
    } else {
        ck_assert_ptr_null(t);
        ck_assert_msg(strstr(qd_last_message(), cases[_i].message), "message '%s' lacks '%s'", qd_last_message(),
                      cases[_i].message);
    }
    qd_tokenizer_free(t);
    qd_gguf_free(g);
    image_free(&m);
}
END_TEST

/* Lists of the wrong type: `type` and the bytes of an item. */
START_TEST(lists_of_other_types) {
    static const char *const keys[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.scores",
                                       "tokenizer.ggml.model"};
    image m = {0};
    put_header(&m, 3, 0, 4);
    for (int i = 0; i < 4; i++) {
        /* A string where numbers belong, and numbers where strings belong. */
        const bool text = (i == 0 || i == 3) != (i == _i);
        if (i == 3) {
            put_key(&m, keys[i], text ? QD_GGUF_STRING : QD_GGUF_U32);
        } else {
            put_array(&m, keys[i], text ? QD_GGUF_STRING : QD_GGUF_F32, 1);
            if (i == 1 && !text) m.bytes[m.size - 12] = QD_GGUF_I32;
        }
        if (text) {
            put_string(&m, i == 3 ? "llama" : "a");
        } else {
            put(&m, 1, 4);
        }
    }
    qd_gguf *g = expect_good(&m);
    qd_tokenizer *t = NULL;
    EXPECT_STATUS(qd_tokenizer_create(g, &t), QD_ERR_FILE, _i < 4 ? keys[_i] : "has 0 of the 256 byte tokens");
    qd_gguf_free(g);
    image_free(&m);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("damaged vocabularies");
    TCase *all = tcase_create("all");
    tcase_add_loop_test(all, vocabularies_are_checked, 0, sizeof cases / sizeof *cases);
    tcase_add_loop_test(all, lists_of_other_types, 0, 5);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
