/* Tokenizes arbitrary bytes with small vocabularies of both kinds and every pre-tokenizer, reads damaged vocabularies
 * and arbitrary chat templates. The input: byte 0 chooses what is done, byte 1 the vocabulary, byte 2 the flags; what
 * follows is the text (or the template); for a damaged vocabulary, changes of its image first. See README.md beside
 * this file. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "qdot/qdot.h"
#include "unit/vocab_image.h"

static const char *const pretokenizers[] = {
#define QD_PRETOKENIZER(name, ...) name,
#include "model/pretokenizer.def"
};
enum { PRETOKENIZERS = sizeof pretokenizers / sizeof *pretokenizers };

static void require(int condition) {
    if (!condition) abort();
}

/* Kind 0 is the llama kind, the others byte-level BPE. */
static vocab vocab_of(unsigned kind) {
    return kind == 0 ? vocab_spm() : vocab_bpe(pretokenizers[kind - 1]);
}

/* Tokenizers are made once: compiling patterns takes longer than using them. */
static const qd_tokenizer *tokenizer_of(unsigned kind) {
    static qd_tokenizer *made[PRETOKENIZERS + 1];
    static qd_gguf *files[PRETOKENIZERS + 1];
    static image images[PRETOKENIZERS + 1];
    if (!made[kind]) {
        const vocab v = vocab_of(kind);
        images[kind] = vocab_image(&v);
        require(qd_gguf_parse(images[kind].bytes, images[kind].size, &files[kind]) == QD_OK);
        require(qd_tokenizer_create(files[kind], &made[kind]) == QD_OK);
    }
    return made[kind];
}

/* Written apart from the library's: the state machine of table 3-7 in the Unicode standard. */
static bool is_utf8(const uint8_t *p, size_t size) {
    for (size_t i = 0; i < size;) {
        const uint8_t a = p[i++];
        if (a < 0x80) continue;
        if (a < 0xC2 || a > 0xF4) return false;
        const size_t more = a < 0xE0 ? 1 : a < 0xF0 ? 2 : 3;
        if (size - i < more) return false;
        const uint8_t least = a == 0xE0   ? 0xA0
                              : a == 0xF0 ? 0x90
                                          : 0x80,
                      most = a == 0xED   ? 0x9F
                             : a == 0xF4 ? 0x8F
                                         : 0xBF;
        if (p[i] < least || p[i] > most) return false;
        for (size_t k = 1; k < more; k++) {
            if (p[i + k] < 0x80 || p[i + k] > 0xBF) return false;
        }
        i += more;
    }
    return true;
}

/* The bytes of the tokens together; free() them. */
static char *join(const qd_tokenizer *t, const int32_t *tokens, size_t count, size_t *size) {
    *size = 0;
    for (size_t i = 0; i < count; i++) {
        const int length = qd_token_text(t, tokens[i], true, NULL, 0);
        require(length >= 0);
        *size += (size_t)length;
    }
    char *text = malloc(*size + 1);
    require(text != NULL);
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += (size_t)qd_token_text(t, tokens[i], true, text + n, *size - n);
    require(n == *size);
    return text;
}

/* What the llama kind gives back: a space first, and spaces for U+2581. */
static size_t as_spm(const uint8_t *text, size_t size, char *out) {
    size_t n = 0;
    if (size > 0) out[n++] = ' ';
    for (size_t i = 0; i < size; i++) {
        if (size - i >= 3 && memcmp(text + i, "\xE2\x96\x81", 3) == 0) {
            out[n++] = ' ';
            i += 2;
        } else {
            out[n++] = (char)text[i];
        }
    }
    return n;
}

static void fuzz_text(unsigned kind, unsigned flags, const uint8_t *text, size_t size) {
    const qd_tokenizer *t = tokenizer_of(kind);
    int32_t *tokens = NULL;
    size_t count = 0, back;
    const qd_status s = qd_tokenize(t, (const char *)text, size, flags & 1, false, &tokens, &count);
    if (!is_utf8(text, size)) {
        require(s == QD_ERR_ARGUMENT && !tokens && strlen(qd_last_message()) > 0);
        return;
    }
    require(s == QD_OK);
    char *joined = join(t, tokens, count, &back);
    if (kind > 0) {
        require(back == size && (size == 0 || memcmp(joined, text, size) == 0));
    } else if (!memchr(text, '<', size)) { /* special tokens begin with <; each is followed by another space */
        char *expected = malloc(size + 1);
        require(expected != NULL);
        require(back == as_spm(text, size, expected) && memcmp(joined, expected, back) == 0);
        free(expected);
    }
    free(joined);
    qd_tokens_free(tokens);
}

static void fuzz_chat(const qd_tokenizer *t) {
    static const qd_message messages[] = {{"system", "S"}, {"user", " a "}, {"assistant", "b"}, {"user", "c"}};
    for (size_t first = 0; first < 2; first++) {
        char *text = NULL;
        const qd_status s = qd_chat_format(t, messages + first, 4 - first, &text);
        require(s == QD_OK ? text && strstr(text, "c") : s == QD_ERR_UNSUPPORTED && !text);
        qd_text_free(text);
    }
}

/* Each change is three bytes: a place (two bytes) and a value that is added there; a place beyond the image ends them.
 */
static void fuzz_damaged(unsigned kind, unsigned flags, const uint8_t *data, size_t size) {
    const vocab v = vocab_of(kind);
    image m = vocab_image(&v);
    for (; size >= 3; data += 3, size -= 3) {
        const size_t place = (size_t)data[0] << 8 | data[1];
        if (place >= m.size) break;
        m.bytes[place] = (uint8_t)(m.bytes[place] + data[2]);
    }
    qd_gguf *g = NULL;
    qd_tokenizer *t = NULL;
    if (qd_gguf_parse(m.bytes, m.size, &g) == QD_OK) {
        const qd_status s = qd_tokenizer_create(g, &t);
        require(s == QD_OK ? t != NULL : !t && (s == QD_ERR_FILE || s == QD_ERR_UNSUPPORTED));
    }
    if (t) {
        int32_t *tokens = NULL;
        size_t count = 0, back;
        for (int32_t i = -1; i <= qd_tokenizer_vocab(t); i++)
            require((qd_token_text(t, i, true, NULL, 0) < 0) == (i < 0 || i == qd_tokenizer_vocab(t)));
        const qd_status s = qd_tokenize(t, (const char *)data, size, flags & 1, flags & 2, &tokens, &count);
        require(s == QD_OK || s == QD_ERR_ARGUMENT);
        free(join(t, tokens, count, &back));
        qd_tokens_free(tokens);
        fuzz_chat(t);
    }
    qd_tokenizer_free(t);
    qd_gguf_free(g);
    image_free(&m);
}

static void fuzz_template(const uint8_t *data, size_t size) {
    char *template = malloc(size + 1);
    require(template != NULL);
    memcpy(template, data, size);
    template[size] = 0;
    vocab v = vocab_spm();
    v.chat_template = template;
    image m = vocab_image(&v);
    qd_gguf *g = NULL;
    qd_tokenizer *t = NULL;
    require(qd_gguf_parse(m.bytes, m.size, &g) == QD_OK && qd_tokenizer_create(g, &t) == QD_OK);
    fuzz_chat(t);
    qd_tokenizer_free(t);
    qd_gguf_free(g);
    image_free(&m);
    free(template);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 3) return 0;
    const unsigned kind = data[1] % (PRETOKENIZERS + 1), flags = data[2];
    switch (data[0] % 3) {
        case 0:
            fuzz_text(kind, flags, data + 3, size - 3);
            break;
        case 1:
            fuzz_damaged(kind, flags, data + 3, size - 3);
            break;
        default:
            fuzz_template(data + 3, size - 3);
            break;
    }
    return 0;
}
