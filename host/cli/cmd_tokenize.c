/* qdot tokenize: what a model's tokenizer makes of a text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

typedef struct request {
    const char *model, *prompt, *file;
    bool json, no_special, bos;
} request;

/* Prints a token's bytes in quotes on one line. A token is a part of a valid text, so only its ends can stand in the
 * middle of a character; those bytes are escaped, too. */
static void print_quoted(const char *text, size_t size) {
    const size_t whole = qd_cli_utf8_whole(text, size);
    bool started = false;
    putchar('"');
    for (size_t i = 0; i < size; i++) {
        const unsigned char c = (unsigned char)text[i];
        started = started || (c & 0xC0) != 0x80;
        if (c == '"' || c == '\\') {
            printf("\\%c", c);
        } else if (c == '\n') {
            printf("\\n");
        } else if (c == '\t') {
            printf("\\t");
        } else if (c < 0x20 || c == 0x7F || !started || i >= whole) {
            printf("\\x%02X", c);
        } else {
            putchar(c);
        }
    }
    putchar('"');
}

static int print_tokens(const qd_tokenizer *t, const int32_t *tokens, size_t count) {
    char *text = NULL;
    size_t capacity = 0;
    for (size_t i = 0; i < count; i++) {
        int size = qd_token_text(t, tokens[i], true, text, capacity);
        if (size > 0 && (size_t)size > capacity) {
            capacity = 2 * (size_t)size;
            char *larger = realloc(text, capacity);
            if (!larger) {
                free(text);
                return qd_cli_fail("out of memory");
            }
            text = larger;
            qd_token_text(t, tokens[i], true, text, capacity);
        }
        printf("%7d  ", tokens[i]);
        print_quoted(text, (size_t)size);
        putchar('\n');
    }
    free(text);
    return QD_EXIT_OK;
}

static int print_json(const int32_t *tokens, size_t count) {
    cJSON *root = cJSON_CreateObject();
    if (root) qd_cli_json_tokens(root, "tokens", tokens, count);
    return qd_cli_print_json(root);
}

/* Prints the tokens of a text. With --bos the begin token stands first, whether the file asks for it or not. */
static int tokenize(const qd_gguf *g, const qd_tokenizer *t, const request *r, const char *text, size_t size) {
    int64_t bos = -1;
    qd_gguf_value v;
    if (r->bos &&
        (qd_gguf_find(g, "tokenizer.ggml.bos_token_id", &v) != QD_OK || qd_gguf_get_int(g, &v, 0, &bos) != QD_OK)) {
        return qd_cli_failed();
    }
    int32_t *tokens = NULL;
    size_t count = 0;
    if (qd_tokenize(t, text, size, !r->no_special, !r->bos, &tokens, &count) != QD_OK) return qd_cli_failed();
    int32_t *all = malloc((count + 1) * sizeof *all);
    int code = QD_EXIT_FAILED;
    if (!all) {
        qd_cli_fail("out of memory");
    } else {
        all[0] = (int32_t)bos;
        if (count > 0) memcpy(all + 1, tokens, count * sizeof *all);
        const int32_t *first = r->bos ? all : all + 1;
        const size_t n = count + r->bos;
        code = r->json ? print_json(first, n) : print_tokens(t, first, n);
    }
    free(all);
    qd_tokens_free(tokens);
    return code;
}

int qd_cmd_tokenize(int argc, char **argv) {
    request r = {0};
    const qd_cli_option options[] = {
        QD_CLI_MODEL_OPTION(r),
        {"prompt", 'p', QD_CLI_TEXT, &r.prompt, 0, 0, "TEXT", "the text, UTF-8"},
        {"file", 'f', QD_CLI_TEXT, &r.file, 0, 0, "TEXT", "a file with the text; - is standard input"},
        {"no-special", 0, QD_CLI_FLAG, &r.no_special, 0, 0, NULL,
         "names of control tokens such as <|im_end|> are plain text"},
        {"bos", 0, QD_CLI_FLAG, &r.bos, 0, 0, NULL, "begin token first, also where the file does not ask for it"},
        QD_CLI_JSON_OPTION(r),
        {.kind = QD_CLI_END},
    };
    int code;
    if (!qd_cli_parse(argc, argv, "tokenize -m FILE (-p TEXT | -f TEXT) [options]",
                      "Shows the tokens that the model's tokenizer makes of a text: one line with number and bytes for "
                      "each, or with\n"
                      "--json an object {\"tokens\": [...]}. Control tokens in the text count as themselves.\n"
                      "Example: qdot tokenize -m model.gguf -p 'Hello, world!'",
                      options, &code)) {
        return code;
    }
    if (!r.model) return qd_cli_fail("tokenize: no model was given: -m FILE");
    if (!r.prompt == !r.file) return qd_cli_fail("tokenize: give either -p TEXT or -f FILE");
    char *read = NULL;
    size_t size = r.prompt ? strlen(r.prompt) : 0;
    if (r.file && !qd_cli_read(r.file, &read, &size)) return QD_EXIT_FAILED;
    qd_gguf *g = NULL;
    qd_tokenizer *t = NULL;
    if (qd_gguf_open(r.model, &g) != QD_OK || qd_tokenizer_create(g, &t) != QD_OK) {
        code = qd_cli_failed();
    } else {
        code = tokenize(g, t, &r, r.prompt ? r.prompt : read, size);
    }
    qd_tokenizer_free(t);
    qd_gguf_free(g);
    free(read);
    return code;
}
