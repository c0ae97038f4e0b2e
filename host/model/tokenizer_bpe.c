/* Byte-level byte-pair encoding, the kind that GGUF calls "gpt2".
 *
 * A text is cut into words by regular expressions; in a word, the neighbours whose merge has the least rank are merged
 * until none has one. Vocabulary and merges write each byte as a visible character (the byte-to-unicode map of GPT-2,
 * Radford et al. 2019); here only file texts are in that writing, the text itself is merged as bytes. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "model/tokenizer.h"
#include "model/utf8.h"

#define MAX_PATTERNS 5

typedef struct pretokenizer {
    const char *name;
    bool whole_words, add_bos;
    const char *patterns[MAX_PATTERNS]; /* NULL after the last */
} pretokenizer;

static const pretokenizer pretokenizers[] = {
#define QD_PRETOKENIZER(name, whole_words, add_bos, ...) {name, whole_words, add_bos, {__VA_ARGS__}},
#include "model/pretokenizer.def"
};
#define PRETOKENIZERS (sizeof pretokenizers / sizeof *pretokenizers)

typedef struct merge_rule {
    int32_t left, right; /* left -1: the slot is empty */
    int32_t rank, token;
} merge_rule;

struct qd_bpe {
    merge_rule *rules; /* open-addressing table by (left, right) */
    size_t rule_mask;
    bool whole_words;
    pcre2_general_context *memory;
    pcre2_code *patterns[MAX_PATTERNS];
    int pattern_count;
};

/* ---- Bytes as characters ------------------------------------------------------------------------------------ */

/* Bytes that are printable in Latin-1 are written as themselves, the others as U+0100 onwards in their order. */
static uint32_t byte_to_character(unsigned b) {
    if (b <= 32) return 256 + b;
    if (b >= 127 && b <= 160) return 256 + 33 + (b - 127);
    return b == 173 ? 256 + 33 + 34 : b;
}

static int character_to_byte(uint32_t c) {
    if (c == 256 + 33 + 34) return 173;
    if (c >= 256 + 33 && c < 256 + 33 + 34) return (int)(c - 256 - 33 + 127);
    if (c >= 256 && c < 256 + 33) return (int)(c - 256);
    return c < 256 && byte_to_character(c) == c ? (int)c : -1;
}

void qd_bpe_text(qd_string token, qd_text_out *o) {
    for (size_t i = 0, length; i < token.size; i += length) {
        const int byte = character_to_byte(qd_utf8_decode(token.data + i, token.size - i, &length));
        const char c = (char)byte;
        qd_text_put(o, byte < 0 ? token.data + i : &c, byte < 0 ? length : 1);
    }
}

/* ---- Merges ------------------------------------------------------------------------------------------------- */

static merge_rule *rule_slot(const qd_bpe *b, int32_t left, int32_t right) {
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * UINT64_C(0x9E3779B97F4A7C15);
    for (size_t i = (size_t)(h >> 32);; i++) {
        merge_rule *r = &b->rules[i & b->rule_mask];
        if (r->left < 0 || (r->left == left && r->right == right)) return r;
    }
}

static bool find_merge(const qd_tokenizer *t, const char *text, const qd_symbol *left, const qd_symbol *right,
                       double *order, int32_t *token) {
    (void)text;
    const merge_rule *r = rule_slot(t->bpe, left->token, right->token);
    if (r->left < 0) return false;
    *order = r->rank;
    *token = r->token;
    return true;
}

/* One merge of the file, "left right": all of left, right and leftright are tokens. `joined` has room for t->longest.
 */
static qd_status add_merge(qd_tokenizer *t, qd_string merge, uint64_t rank, char *joined) {
    const char *space = merge.size > 1 ? memchr(merge.data + 1, ' ', merge.size - 1) : NULL;
    if (!space) {
        return qd_fail(QD_ERR_FILE, "merge %llu of the vocabulary is not two tokens; the file is damaged",
                       (unsigned long long)rank);
    }
    const size_t n_left = (size_t)(space - merge.data), n_right = merge.size - n_left - 1;
    const int32_t left = qd_vocab_find(t, merge.data, n_left);
    const int32_t right = qd_vocab_find(t, space + 1, n_right);
    int32_t token = -1;
    if (n_left + n_right <= t->longest) {
        memcpy(joined, merge.data, n_left);
        memcpy(joined + n_left, space + 1, n_right);
        token = qd_vocab_find(t, joined, n_left + n_right);
    }
    if (left < 0 || right < 0 || token < 0) {
        const qd_string missing = left < 0    ? (qd_string){merge.data, n_left}
                                  : right < 0 ? (qd_string){space + 1, n_right}
                                              : merge;
        return qd_fail(QD_ERR_FILE, "merge %llu needs '%.*s', which is no token of the vocabulary; the file is damaged",
                       (unsigned long long)rank, (int)(missing.size < 80 ? missing.size : 80), missing.data);
    }
    merge_rule *r = rule_slot(t->bpe, left, right);
    if (r->left < 0) *r = (merge_rule){left, right, (int32_t)rank, token};
    return QD_OK;
}

static qd_status read_merges(qd_tokenizer *t, const qd_gguf *g) {
    qd_status status;
    qd_gguf_value v;
    char *joined = NULL;
    QD_TRY(qd_gguf_find(g, "tokenizer.ggml.merges", &v));
    if (v.type != QD_GGUF_ARRAY || v.count > INT32_MAX / 2) {
        return qd_fail(QD_ERR_FILE, "tokenizer.ggml.merges is not a list of merges; the file is damaged");
    }
    size_t slots = 16;
    while (slots < 2 * v.count)
        slots *= 2;
    t->bpe->rule_mask = slots - 1;
    t->bpe->rules = qd_alloc(slots * sizeof *t->bpe->rules);
    joined = qd_alloc(t->longest);
    if (!t->bpe->rules || !joined) {
        QD_TRY(QD_ERR_MEMORY);
    }
    for (size_t i = 0; i < slots; i++)
        t->bpe->rules[i].left = -1;
    for (uint64_t i = 0; i < v.count; i++) {
        qd_string merge;
        QD_TRY(qd_gguf_get_string(g, &v, i, &merge));
        QD_TRY(add_merge(t, merge, i, joined));
    }
error:
    free(joined);
    return status;
}

/* ---- Pre-tokenizer ------------------------------------------------------------------------------------------ */

static void *pcre2_allocate(PCRE2_SIZE bytes, void *user) {
    (void)user;
    return qd_alloc(bytes);
}

static void pcre2_release(void *p, void *user) {
    (void)user;
    free(p);
}

static qd_status unknown_pretokenizer(qd_string name) {
    char known[400] = "";
    size_t n = 0;
    for (size_t i = 0; i < PRETOKENIZERS; i++) {
        const size_t length = strlen(pretokenizers[i].name);
        if (n + length + 6 > sizeof known) {
            memcpy(known + n, " …", sizeof " …");
            break;
        }
        if (n > 0) known[n++] = ' ';
        memcpy(known + n, pretokenizers[i].name, length + 1);
        n += length;
    }
    return qd_fail(QD_ERR_UNSUPPORTED, "the tokenizer's pre-tokenizer '%.*s' is not known; known are: %s",
                   (int)(name.size < 40 ? name.size : 40), name.data, known);
}

static qd_status compile(qd_bpe *b, const char *const *patterns) {
    qd_status status = QD_OK;
    pcre2_compile_context *context = pcre2_compile_context_create(b->memory);
    if (!context) return QD_ERR_MEMORY;
    for (; b->pattern_count < MAX_PATTERNS && patterns[b->pattern_count]; b->pattern_count++) {
        int code = 0;
        size_t offset = 0;
        pcre2_code *p = pcre2_compile((PCRE2_SPTR)patterns[b->pattern_count], PCRE2_ZERO_TERMINATED,
                                      PCRE2_UTF | PCRE2_UCP, &code, &offset, context);
        if (!p) {
            char message[120];
            pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
            status = code == PCRE2_ERROR_NOMEMORY || code == PCRE2_ERROR_HEAP_FAILED
                         ? QD_ERR_MEMORY
                         : qd_fail(QD_ERR_UNSUPPORTED,
                                   "this PCRE2 library does not take a pre-tokenizer's pattern (%s, at %zu); it must "
                                   "be version 10.30 or newer with Unicode",
                                   message, offset);
            break;
        }
        /* Without a compiler for this machine the pattern is interpreted: slower, the same matches. */
        pcre2_jit_compile(p, PCRE2_JIT_COMPLETE);
        b->patterns[b->pattern_count] = p;
    }
    pcre2_compile_context_free(context);
    return status;
}

static qd_status read_pretokenizer(qd_bpe *b, const qd_gguf *g, bool *add_bos) {
    qd_status status;
    qd_gguf_value v;
    qd_string name = {"default", 7};
    if (qd_gguf_find(g, "tokenizer.ggml.pre", &v) == QD_OK) {
        QD_TRY(qd_gguf_get_string(g, &v, 0, &name));
    }
    for (size_t i = 0; i < PRETOKENIZERS; i++) {
        const pretokenizer *p = &pretokenizers[i];
        if (strlen(p->name) != name.size || memcmp(p->name, name.data, name.size) != 0) continue;
        b->whole_words = p->whole_words;
        *add_bos = p->add_bos;
        return compile(b, p->patterns);
    }
    status = unknown_pretokenizer(name);
error:
    return status;
}

qd_status qd_bpe_create(qd_tokenizer *t, const qd_gguf *g, bool *add_bos) {
    qd_status status;
    qd_bpe *b = qd_alloc_zero(1, sizeof *b);
    if (!b) return QD_ERR_MEMORY;
    t->bpe = b;
    b->memory = pcre2_general_context_create(pcre2_allocate, pcre2_release, NULL);
    if (!b->memory) return QD_ERR_MEMORY;
    QD_TRY(read_pretokenizer(b, g, add_bos));
    QD_TRY(read_merges(t, g));
    for (unsigned i = 0; i < 256; i++) {
        char character[4];
        t->byte_token[i] = qd_vocab_find(t, character, qd_utf8_encode(byte_to_character(i), character));
    }
error:
    return status;
}

void qd_bpe_free(qd_bpe *b) {
    if (!b) return;
    for (int i = 0; i < b->pattern_count; i++)
        pcre2_code_free(b->patterns[i]);
    pcre2_general_context_free(b->memory);
    free(b->rules);
    free(b);
}

/* ---- Tokenizing --------------------------------------------------------------------------------------------- */

/* A word that is a token as a whole; -1: it is none. Control tokens are no text. */
static qd_status whole_word(const qd_tokenizer *t, qd_token_run *run, const char *text, size_t size, int32_t *token) {
    *token = -1;
    if (size > t->longest) return QD_OK;
    qd_status status = qd_run_buffer(run, 2 * size);
    if (status != QD_OK) return status;
    size_t n = 0;
    for (size_t i = 0; i < size; i++)
        n += qd_utf8_encode(byte_to_character((unsigned char)text[i]), run->buffer + n);
    const int32_t found = qd_vocab_find(t, run->buffer, n);
    if (found >= 0 && t->tokens[found].type == QD_TOKEN_NORMAL) *token = found;
    return QD_OK;
}

static qd_status tokenize_word(const qd_tokenizer *t, qd_token_run *run, const char *text, size_t size) {
    qd_status status;
    if (t->bpe->whole_words) {
        int32_t token;
        QD_TRY(whole_word(t, run, text, size, &token));
        if (token >= 0) return qd_token_list_push(&run->out, token);
    }
    qd_merger *m = &run->merger;
    QD_TRY(qd_merger_begin(m, size));
    for (size_t i = 0; i < size; i++) {
        const unsigned char byte = (unsigned char)text[i];
        if (t->byte_token[byte] < 0) {
            /* Leaving the byte out would change the text without a word. */
            return qd_fail(QD_ERR_ARGUMENT,
                           "byte 0x%02X at offset %zu of the text has no token in this model's vocabulary; take the "
                           "character out",
                           byte, (size_t)(text + i - run->text));
        }
        qd_merger_add(m, 1, t->byte_token[byte]);
    }
    qd_merger_run(m, t, text, find_merge);
    for (int32_t i = 0; i >= 0; i = m->symbols[i].next)
        QD_TRY(qd_token_list_push(&run->out, m->symbols[i].token));
error:
    return status;
}

/* The next match of a pattern at or after `from`; *end 0: there is none. */
static qd_status next_match(const pcre2_code *pattern, qd_token_run *run, const char *text, size_t size, size_t from,
                            size_t *start, size_t *end) {
    const uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
    int rc = pcre2_match(pattern, (PCRE2_SPTR)text, size, from, options, run->match, run->match_context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) { /* the interpreter keeps its stack on the heap */
        rc = pcre2_match(pattern, (PCRE2_SPTR)text, size, from, options | PCRE2_NO_JIT, run->match, run->match_context);
    }
    *end = 0;
    if (rc == PCRE2_ERROR_NOMATCH) return QD_OK;
    if (rc == PCRE2_ERROR_NOMEMORY) return qd_fail(QD_ERR_MEMORY, "out of memory while cutting the text into words");
    if (rc < 0) {
        char message[120];
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)message, sizeof message);
        return qd_fail(QD_ERR_LIMIT, "the text could not be cut into words at byte %zu (%s); give it in smaller parts",
                       (size_t)(text + from - run->text), message);
    }
    const size_t *range = pcre2_get_ovector_pointer(run->match);
    *start = range[0];
    *end = range[1];
    return QD_OK;
}

/* Cuts a piece by the patterns from `level` on. Recursion is as deep as there are patterns. */
static qd_status tokenize_piece(const qd_tokenizer *t, qd_token_run *run, int level, const char *text, size_t size) {
    if (level == MAX_PATTERNS || level == t->bpe->pattern_count) return tokenize_word(t, run, text, size);
    qd_status status = QD_OK;
    size_t at = 0;
    while (at < size) {
        size_t start, end;
        QD_TRY(next_match(t->bpe->patterns[level], run, text, size, at, &start, &end));
        if (end == 0) break;
        if (start > at) QD_TRY(tokenize_piece(t, run, level + 1, text + at, start - at));
        QD_TRY(tokenize_piece(t, run, level + 1, text + start, end - start));
        at = end;
    }
    if (at < size) QD_TRY(tokenize_piece(t, run, level + 1, text + at, size - at));
error:
    return status;
}

qd_status qd_bpe_tokenize(const qd_tokenizer *t, qd_token_run *run, const char *text, size_t size) {
    if (!run->match) {
        run->match = pcre2_match_data_create(1, t->bpe->memory);
        run->match_context = pcre2_match_context_create(t->bpe->memory);
        if (!run->match || !run->match_context) return QD_ERR_MEMORY;
        /* The patterns need a few steps for each byte; the limits are there for what nobody thought of. */
        pcre2_set_match_limit(run->match_context, UINT32_C(1) << 30);
        pcre2_set_heap_limit(run->match_context, UINT32_C(1) << 20); /* KiB */
    }
    return tokenize_piece(t, run, 0, text, size);
}

void qd_bpe_run_free(qd_token_run *run) {
    pcre2_match_data_free(run->match);
    pcre2_match_context_free(run->match_context);
}
