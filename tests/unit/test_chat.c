/* Conversations in the forms of the models' templates. The expected texts are what the templates give when Jinja runs
 * them. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "unit/vocab_image.h"

/* Excerpts of published templates: what decides the form and the default system message. */
#define SMOLLM2                                                                                                     \
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\n" \
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\\n' }}{% endif %}"              \
    "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"          \
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
#define PLAIN_CHATML                                                                                  \
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + " \
    "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
#define QWEN2_5                                                                                                    \
    "{%- if tools %}{{- '<|im_start|>system\\n' }}{%- if messages[0]['role'] == 'system' %}"                       \
    "{{- messages[0]['content'] }}{%- else %}{{- 'You are Qwen.' }}{%- endif %}{{- \"\\n\\n# Tools<|im_end|>\" }}" \
    "{%- else %}{%- if messages[0]['role'] == 'system' %}"                                                         \
    "{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}{%- else %}"                         \
    "{{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}"
#define RAW_CHATML                                                                                         \
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nIt's \\n \"raw\".<|im_end|>\n{% endif %}" \
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
#define DOUBLE_QUOTED_CHATML "{{ \"<|im_start|>system\\nDon't \\\"panic\\\".<|im_end|>\\n\" }}"
#define LLAMA3                                                                                                    \
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | " \
    "trim + '<|eot_id|>' %}"
#define LLAMA2                                                                                     \
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}" \
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{{ ' ' + content.strip() + ' ' + eos_token }}"

typedef struct fixture {
    image m;
    qd_gguf *g;
    qd_tokenizer *t;
} fixture;

static fixture open_template(const char *template) {
    vocab v = vocab_spm();
    v.chat_template = template;
    fixture f = {.m = vocab_image(&v)};
    f.g = expect_good(&f.m);
    ck_assert_msg(qd_tokenizer_create(f.g, &f.t) == QD_OK, "%s", qd_last_message());
    return f;
}

static void close_template(fixture *f) {
    qd_tokenizer_free(f->t);
    qd_gguf_free(f->g);
    image_free(&f->m);
}

static const qd_message user[] = {{"user", "Hi"}};
static const qd_message with_system[] = {{"system", "Be brief."}, {"user", "Hi"}};
static const qd_message turns[] = {{"user", " Hi\n"}, {"assistant", "Hello. "}, {"user", "Bye"}};
static const qd_message all[] = {{"system", "S"}, {"user", "a"}, {"assistant", "b"}, {"user", "c"}};

static const struct {
    const char *template;
    const qd_message *messages;
    size_t count;
    const char *expected;
} forms[] = {
    {SMOLLM2, user, 1,
     "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
     "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"},
    {SMOLLM2, with_system, 2,
     "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"},
    {PLAIN_CHATML, user, 1, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"},
    {PLAIN_CHATML, turns, 3,
     "<|im_start|>user\n Hi\n<|im_end|>\n<|im_start|>assistant\nHello. <|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
     "<|im_start|>assistant\n"},
    {QWEN2_5, user, 1,
     "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
     "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"},
    {RAW_CHATML, user, 1,
     "<|im_start|>system\nIt's \\n \"raw\".<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"},
    {DOUBLE_QUOTED_CHATML, user, 1,
     "<|im_start|>system\nDon't \"panic\".<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"},
    {LLAMA3, with_system, 2,
     "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
     "Hi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"},
    {LLAMA3, turns, 1,
     "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"},
    {LLAMA2, user, 1, "[INST] Hi [/INST]"},
    {LLAMA2, turns, 3, "[INST] Hi [/INST] Hello. </s><s>[INST] Bye [/INST]"},
    {LLAMA2, all, 4, "[INST] <<SYS>>\nS\n<</SYS>>\n\na [/INST] b </s><s>[INST] c [/INST]"},
};

START_TEST(known_forms) {
    fixture f = open_template(forms[_i].template);
    char *text = NULL;
    ck_assert_msg(qd_chat_format(f.t, forms[_i].messages, forms[_i].count, &text) == QD_OK, "%s", qd_last_message());
    ck_assert_str_eq(text, forms[_i].expected);
    qd_text_free(text);
    close_template(&f);
}
END_TEST

static const char *const unknown[] = {NULL,
                                      "",
                                      "{{ message['content'] }}",
                                      "<|im_start|>",
                                      "<|im_start|>user<|im_sep|>Hi<|im_end|>",
                                      "{{ '[INST] ' + message['content'] + '[/INST]' }}"};

START_TEST(unknown_forms) {
    fixture f = open_template(unknown[_i]);
    char *text = NULL;
    EXPECT_STATUS(qd_chat_format(f.t, user, 1, &text), QD_ERR_UNSUPPORTED,
                  _i < 2 ? "no chat template" : "another form");
    ck_assert_ptr_null(text);
    close_template(&f);
}
END_TEST

static const struct {
    const char *template;
    qd_message messages[2];
    size_t count;
    const char *message;
} bad[] = {
    {SMOLLM2, {{0}}, 0, "at least one message"},
    {SMOLLM2, {{"user", NULL}}, 1, "message 0 has no role or no content"},
    {SMOLLM2, {{"user", "a"}, {NULL, "b"}}, 2, "message 1 has no role or no content"},
    {SMOLLM2, {{"tool", "a"}}, 1, "'tool'; known are system, user, assistant"},
    {SMOLLM2, {{"user", "a\xFF"}}, 1, "message 0 is not UTF-8: byte 0xFF at offset 1"},
    {LLAMA2, {{"user", "a"}, {"user", "b"}}, 2, "message 1 is of the role 'user'"},
    {LLAMA2, {{"assistant", "a"}}, 1, "message 0 is of the role 'assistant'"},
    {LLAMA2, {{"system", "a"}}, 1, "must be the user's"},
    {LLAMA2, {{"user", "a"}, {"assistant", "b"}}, 2, "must be the user's"},
};

START_TEST(bad_messages) {
    fixture f = open_template(bad[_i].template);
    char *text = NULL;
    EXPECT_STATUS(qd_chat_format(f.t, bad[_i].messages, bad[_i].count, &text), QD_ERR_ARGUMENT, bad[_i].message);
    ck_assert_ptr_null(text);
    ck_assert_int_eq(qd_chat_format(NULL, user, 1, &text), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_chat_format(f.t, NULL, 1, &text), QD_ERR_ARGUMENT);
    ck_assert_int_eq(qd_chat_format(f.t, user, 1, NULL), QD_ERR_ARGUMENT);
    close_template(&f);
}
END_TEST

/* The default system message of templates that are cut or odd: none, and no read beyond the template. */
static const char *const odd[] = {"<|im_end|><|im_start|>system",
                                  "<|im_end|><|im_start|>system\n",
                                  "<|im_end|>'<|im_start|>system\\",
                                  "<|im_end|>'<|im_start|>system\\nabc",
                                  "<|im_end|>'<|im_start|>system\\nabc<|im_end",
                                  "<|im_end|>'<|im_start|>system\\nabc'<|im_end|>",
                                  "'<|im_start|>system<|im_end|>",
                                  "'<|im_start|>systems\\nabc<|im_end|>",
                                  "<|im_start|>system\n{{ x }}<|im_end|>"};

START_TEST(odd_templates) {
    fixture f = open_template(odd[_i]);
    char *text = NULL;
    ck_assert_msg(qd_chat_format(f.t, user, 1, &text) == QD_OK, "%s", qd_last_message());
    ck_assert_str_eq(text, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    qd_text_free(text);
    close_template(&f);
}
END_TEST

START_TEST(running_out_of_memory) {
    static const char *const templates[] = {SMOLLM2, LLAMA3, LLAMA2};
    fixture f = open_template(templates[_i]);
    char content[5000];
    memset(content, 'x', sizeof content - 1);
    content[sizeof content - 1] = 0;
    const qd_message messages[] = {{"user", content}};
    char *text = NULL;
    qd_status s = QD_ERR_MEMORY;
    long n = 0;
    for (; s != QD_OK; n++) {
        ck_assert_int_lt(n, 100);
        qd_alloc_fail_after(n);
        s = qd_chat_format(f.t, messages, 1, &text);
        qd_alloc_fail_after(-1);
        ck_assert(s == QD_OK || (s == QD_ERR_MEMORY && !text));
    }
    ck_assert_int_gt(n, 1);
    ck_assert_ptr_nonnull(strstr(text, content));
    qd_text_free(text);
    close_template(&f);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("chat");
    TCase *cases = tcase_create("all");
    tcase_add_loop_test(cases, known_forms, 0, sizeof forms / sizeof *forms);
    tcase_add_loop_test(cases, unknown_forms, 0, sizeof unknown / sizeof *unknown);
    tcase_add_loop_test(cases, bad_messages, 0, sizeof bad / sizeof *bad);
    tcase_add_loop_test(cases, odd_templates, 0, sizeof odd / sizeof *odd);
    tcase_add_loop_test(cases, running_out_of_memory, 0, 3);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
