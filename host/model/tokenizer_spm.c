/* SentencePiece-style tokens, the kind that GGUF calls "llama" (Kudo & Richardson 2018, its BPE model).
 *
 * Spaces are written U+2581. Neighbouring characters merge when together they are a token, the highest score first;
 * a character that is no token becomes its bytes, <0x00> … <0xFF>. */
#include <string.h>

#include "core/status.h"
#include "model/tokenizer.h"
#include "model/utf8.h"

#define SPACE_MARK "\xE2\x96\x81"
#define SPACE_MARK_BYTES 3

int qd_byte_of(qd_string token) {
    static const char digits[] = "0123456789ABCDEF";
    if (token.size != 6 || memcmp(token.data, "<0x", 3) != 0 || token.data[5] != '>') return -1;
    const char *high = memchr(digits, token.data[3], 16), *low = memchr(digits, token.data[4], 16);
    return high && low ? (int)((high - digits) * 16 + (low - digits)) : -1;
}

qd_status qd_spm_create(qd_tokenizer *t) {
    for (int i = 0; i < 256; i++)
        t->byte_token[i] = -1;
    int found = 0;
    for (int32_t i = 0; i < t->vocab; i++) {
        const int byte = t->tokens[i].type == QD_TOKEN_BYTE ? qd_byte_of(t->tokens[i].text) : -1;
        if (byte < 0) continue;
        found += t->byte_token[byte] < 0;
        t->byte_token[byte] = i;
    }
    if (found < 256 && t->unknown < 0) {
        return qd_fail(QD_ERR_FILE,
                       "the vocabulary has %d of the 256 byte tokens <0x00> to <0xFF> and no unknown token; the file "
                       "is damaged",
                       found);
    }
    return QD_OK;
}

void qd_spm_text(qd_string token, qd_text_out *o) {
    for (size_t i = 0; i < token.size;) {
        if (token.size - i >= SPACE_MARK_BYTES && memcmp(token.data + i, SPACE_MARK, SPACE_MARK_BYTES) == 0) {
            qd_text_put(o, " ", 1);
            i += SPACE_MARK_BYTES;
        } else {
            qd_text_put(o, token.data + i++, 1);
        }
    }
}

/* The token that a piece of text may become. Control, unknown and byte tokens are no text. */
static int32_t find_piece(const qd_tokenizer *t, const char *text, size_t size) {
    if (size > t->longest) return -1;
    const int32_t token = qd_vocab_find(t, text, size);
    if (token < 0) return -1;
    const uint8_t type = t->tokens[token].type;
    return type == QD_TOKEN_CONTROL || type == QD_TOKEN_UNKNOWN || type == QD_TOKEN_BYTE ? -1 : token;
}

static bool find_merge(const qd_tokenizer *t, const char *text, const qd_symbol *left, const qd_symbol *right,
                       double *order, int32_t *token) {
    *token = find_piece(t, text + left->start, (size_t)left->size + (size_t)right->size);
    if (*token < 0) return false;
    *order = -t->tokens[*token].score;
    return true;
}

/* A character that is no token: its bytes, or the unknown token. */
static qd_status push_bytes(const qd_tokenizer *t, qd_token_list *out, const char *text, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (t->byte_token[(unsigned char)text[i]] < 0) return qd_token_list_push(out, t->unknown);
    }
    for (size_t i = 0; i < size; i++) {
        qd_status status = qd_token_list_push(out, t->byte_token[(unsigned char)text[i]]);
        if (status != QD_OK) return status;
    }
    return QD_OK;
}

qd_status qd_spm_tokenize(const qd_tokenizer *t, qd_token_run *run, const char *text, size_t size, bool prefix) {
    qd_status status;
    size_t spaces = prefix, characters = prefix;
    for (size_t i = 0; i < size; i++) {
        spaces += text[i] == ' ';
        characters += ((unsigned char)text[i] & 0xC0) != 0x80;
    }
    QD_TRY(qd_run_buffer(run, size + spaces * SPACE_MARK_BYTES));
    size_t n = 0;
    if (prefix) {
        memcpy(run->buffer, SPACE_MARK, SPACE_MARK_BYTES);
        n = SPACE_MARK_BYTES;
    }
    for (size_t i = 0; i < size; i++) {
        if (text[i] == ' ') {
            memcpy(run->buffer + n, SPACE_MARK, SPACE_MARK_BYTES);
            n += SPACE_MARK_BYTES;
        } else {
            run->buffer[n++] = text[i];
        }
    }
    if (n > INT32_MAX) return qd_fail(QD_ERR_LIMIT, "the text is larger than 2 GiB; give it in parts");
    QD_TRY(qd_merger_begin(&run->merger, characters));
    for (size_t i = 0, length; i < n; i += length) {
        qd_utf8_decode(run->buffer + i, n - i, &length);
        qd_merger_add(&run->merger, length, find_piece(t, run->buffer + i, length));
    }
    qd_merger_run(&run->merger, t, run->buffer, find_merge);
    const qd_symbol *symbols = run->merger.symbols;
    for (int32_t i = 0; i >= 0; i = symbols[i].next) {
        if (symbols[i].token >= 0) {
            QD_TRY(qd_token_list_push(&run->out, symbols[i].token));
        } else {
            QD_TRY(push_bytes(t, &run->out, run->buffer + symbols[i].start, (size_t)symbols[i].size));
        }
    }
error:
    return status;
}
