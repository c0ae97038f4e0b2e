/* Conversations in the form that a model was trained on.
 *
 * Files carry that form as a Jinja program (tokenizer.chat_template). It is not run: its text says which of three
 * well-known forms it writes. Sources: ChatML (OpenAI, 2023), the model cards of Llama 2 and Llama 3. Additions that
 * some templates make (tools, dates, marks of reasoning) are left out. */
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "model/tokenizer.h"
#include "model/utf8.h"

/* ---- A growing text ----------------------------------------------------------------------------------------- */

typedef struct text {
    char *data;
    size_t size, capacity;
    bool failed; /* memory ran out; later appends do nothing */
} text;

static void append(text *t, qd_string s) {
    if (t->failed) return;
    if (s.size + 1 > t->capacity - t->size) {
        size_t capacity = t->capacity ? 2 * t->capacity : 256;
        while (capacity - t->size < s.size + 1)
            capacity *= 2;
        char *data = qd_realloc(t->data, capacity);
        if (!data) {
            t->failed = true;
            return;
        }
        t->data = data;
        t->capacity = capacity;
    }
    if (s.size > 0) memcpy(t->data + t->size, s.data, s.size);
    t->size += s.size;
    t->data[t->size] = '\0';
}

static void append_text(text *t, const char *s) {
    append(t, (qd_string){s, strlen(s)});
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The content without white space at its ends, as the Llama templates write it. */
static qd_string trimmed(const char *content) {
    qd_string s = {content, strlen(content)};
    while (s.size > 0 && is_space(s.data[0]))
        s = (qd_string){s.data + 1, s.size - 1};
    while (s.size > 0 && is_space(s.data[s.size - 1]))
        s.size--;
    return s;
}

/* ---- What a template says ----------------------------------------------------------------------------------- */

/* The first place of `needle` at or after `from`; s.size when there is none. */
static size_t find(qd_string s, size_t from, const char *needle) {
    const size_t n = strlen(needle);
    for (size_t i = from; i + n <= s.size; i++) {
        if (memcmp(s.data + i, needle, n) == 0) return i;
    }
    return s.size;
}

static bool has(qd_string s, const char *needle) {
    return find(s, 0, needle) < s.size;
}

static bool starts(qd_string s, size_t at, const char *needle) {
    const size_t n = strlen(needle);
    return at + n <= s.size && memcmp(s.data + at, needle, n) == 0;
}

/* Reads a literal message from a template, from `at` (after the role) to <|im_end|>, and appends it to `out`. False,
 * with `out` as it was, when something else than plain text stands there. `quote` is the quote that opened the literal,
 * or 0 for text outside of Jinja's braces, where nothing is escaped. */
static bool read_literal(qd_string s, size_t at, char quote, text *out) {
    const size_t before = out->size;
    size_t i = at;
    while (i < s.size && !starts(s, i, "<|im_end|>")) {
        const char c = s.data[i];
        if (quote ? c == quote : c == '{') break;
        char plain = c;
        if (quote && c == '\\' && i + 1 < s.size) {
            i++;
            plain = s.data[i] == 'n' ? '\n' : s.data[i] == 't' ? '\t' : s.data[i];
        }
        append(out, (qd_string){&plain, 1});
        i++;
    }
    if (starts(s, i, "<|im_end|>") && out->size > before && out->data[before] == '\n') return true;
    if (!out->failed) out->size = before;
    return false;
}

/* Appends the system message that a ChatML template writes when the conversation has none: the first literal one. */
static void append_default_system(qd_string template, text *out) {
    static const char start[] = "<|im_start|>system";
    for (size_t at = find(template, 0, start); at < template.size; at = find(template, at + 1, start)) {
        const char previous = at > 0 ? template.data[at - 1] : '\0';
        const size_t before = out->size;
        append_text(out, start);
        if (read_literal(template, at + strlen(start), previous == '\'' || previous == '"' ? previous : '\0', out)) {
            append_text(out, "<|im_end|>\n");
            return;
        }
        if (!out->failed) out->size = before;
    }
}

/* ---- The forms ---------------------------------------------------------------------------------------------- */

static void write_chatml(qd_string template, const qd_message *m, size_t count, text *out) {
    if (strcmp(m[0].role, "system") != 0) append_default_system(template, out);
    for (size_t i = 0; i < count; i++) {
        append_text(out, "<|im_start|>");
        append_text(out, m[i].role);
        append_text(out, "\n");
        append_text(out, m[i].content);
        append_text(out, "<|im_end|>\n");
    }
    append_text(out, "<|im_start|>assistant\n");
}

static void write_llama3(const qd_message *m, size_t count, text *out) {
    for (size_t i = 0; i < count; i++) {
        append_text(out, "<|start_header_id|>");
        append_text(out, m[i].role);
        append_text(out, "<|end_header_id|>\n\n");
        append(out, trimmed(m[i].content));
        append_text(out, "<|eot_id|>");
    }
    append_text(out, "<|start_header_id|>assistant<|end_header_id|>\n\n");
}

/* Every user message begins a text of its own; the first one's begin token is the tokenizer's to add. */
static qd_status write_llama2(const qd_tokenizer *t, const qd_message *m, size_t count, text *out) {
    const qd_string none = {"", 0};
    const qd_string bos = t->bos < 0 ? none : t->tokens[t->bos].text;
    const qd_string eos = t->eos < 0 ? none : t->tokens[t->eos].text;
    const size_t first = strcmp(m[0].role, "system") == 0;
    for (size_t i = first; i < count; i++) {
        const bool user = (i - first) % 2 == 0;
        if (strcmp(m[i].role, user ? "user" : "assistant") != 0) {
            return qd_fail(QD_ERR_ARGUMENT,
                           "message %zu is of the role '%.20s', but this model's chat form needs user and assistant in "
                           "turns, after at most one system message",
                           i, m[i].role);
        }
        if (user) {
            if (i > first) append(out, bos);
            append_text(out, "[INST] ");
            if (i == 1 && first == 1) {
                append_text(out, "<<SYS>>\n");
                append_text(out, m[0].content);
                append_text(out, "\n<</SYS>>\n\n");
            }
        } else {
            append_text(out, " ");
        }
        append(out, trimmed(m[i].content));
        append_text(out, user ? " [/INST]" : " ");
        if (!user) append(out, eos);
    }
    if ((count - first) % 2 == 0) {
        return qd_fail(QD_ERR_ARGUMENT, "the last message must be the user's in this model's chat form");
    }
    return QD_OK;
}

static qd_status check_messages(const qd_message *messages, size_t count) {
    static const char *const roles[] = {"system", "user", "assistant"};
    if (!messages || count == 0) return qd_fail(QD_ERR_ARGUMENT, "a conversation needs at least one message");
    for (size_t i = 0; i < count; i++) {
        const char *role = messages[i].role, *content = messages[i].content;
        if (!role || !content) return qd_fail(QD_ERR_ARGUMENT, "message %zu has no role or no content", i);
        bool known = false;
        for (size_t r = 0; r < sizeof roles / sizeof *roles; r++)
            known = known || strcmp(role, roles[r]) == 0;
        if (!known) {
            return qd_fail(QD_ERR_ARGUMENT, "message %zu is of the role '%.20s'; known are system, user, assistant", i,
                           role);
        }
        size_t bad;
        if (!qd_utf8_valid(content, strlen(content), &bad)) {
            return qd_fail(QD_ERR_ARGUMENT, "message %zu is not UTF-8: byte 0x%02X at offset %zu", i,
                           (unsigned char)content[bad], bad);
        }
    }
    return QD_OK;
}

qd_status qd_chat_format(const qd_tokenizer *t, const qd_message *messages, size_t count, char **out) {
    if (!t || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_chat_format: tokenizer and text must not be NULL");
    qd_status status;
    text result = {0};
    const qd_string template = t->chat_template;
    QD_TRY(check_messages(messages, count));
    /* Phi-4 and Mistral use a part of the marks in another form. */
    if (has(template, "<|im_start|>") && has(template, "<|im_end|>") && !has(template, "<|im_sep|>")) {
        write_chatml(template, messages, count, &result);
    } else if (has(template, "<|start_header_id|>") && has(template, "<|eot_id|>")) {
        write_llama3(messages, count, &result);
    } else if (has(template, "[INST]") && has(template, "<<SYS>>")) {
        QD_TRY(write_llama2(t, messages, count, &result));
    } else {
        QD_TRY(qd_fail(QD_ERR_UNSUPPORTED,
                       "%s; known are ChatML, Llama 2 and Llama 3; give the model a plain prompt instead",
                       template.size > 0 ? "the file's chat template is of another form"
                                         : "the file has no chat template (tokenizer.chat_template)"));
    }
    if (result.failed) {
        QD_TRY(QD_ERR_MEMORY);
    }
    *out = result.data;
    return QD_OK;
error:
    free(result.data);
    return status;
}

void qd_text_free(char *t) {
    free(t);
}
