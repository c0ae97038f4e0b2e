/* Vocabularies of GGUF files: reading and checking them, splitting special tokens out of a text, and the text of
 * tokens. */
#include "model/tokenizer.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "model/utf8.h"

/* A token's text is a word or a few; a longer one is a sign of damage. */
#define MAX_TOKEN_BYTES 65536

/* ---- Small parts -------------------------------------------------------------------------------------------- */

static qd_string string_of(const char *s) {
    return (qd_string){s, strlen(s)};
}

static bool equal(qd_string a, qd_string b) {
    return a.size == b.size && memcmp(a.data, b.data, a.size) == 0;
}

qd_status qd_token_list_push(qd_token_list *list, int32_t token) {
    if (list->count == list->capacity) {
        const size_t capacity = list->capacity ? 2 * list->capacity : 64;
        int32_t *items = qd_realloc(list->items, capacity * sizeof *items);
        if (!items) return QD_ERR_MEMORY;
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = token;
    return QD_OK;
}

qd_status qd_run_buffer(qd_token_run *run, size_t size) {
    if (size <= run->buffer_size) return QD_OK;
    char *buffer = qd_realloc(run->buffer, size);
    if (!buffer) return QD_ERR_MEMORY;
    run->buffer = buffer;
    run->buffer_size = size;
    return QD_OK;
}

void qd_text_put(qd_text_out *o, const char *data, size_t size) {
    if (o->size < o->capacity) {
        const size_t room = o->capacity - o->size;
        memcpy(o->data + o->size, data, size < room ? size : room);
    }
    o->size += size;
}

/* ---- Tokens by text ----------------------------------------------------------------------------------------- */

/* The slot of a text: where it stands, or the empty one where it would. FNV-1a. */
static int32_t *slot_of(const qd_tokenizer *t, const char *text, size_t size) {
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < size; i++)
        h = (h ^ (unsigned char)text[i]) * UINT64_C(0x100000001B3);
    for (size_t i = (size_t)(h ^ h >> 32);; i++) {
        int32_t *slot = &t->slots[i & t->slot_mask];
        if (*slot < 0 || equal(t->tokens[*slot].text, (qd_string){text, size})) return slot;
    }
}

int32_t qd_vocab_find(const qd_tokenizer *t, const char *text, size_t size) {
    return size > 0 ? *slot_of(t, text, size) : -1;
}

/* Of equal texts the last token is the one that is found, as in llama.cpp. */
static qd_status index_texts(qd_tokenizer *t) {
    size_t slots = 16;
    while (slots < 2 * (size_t)t->vocab)
        slots *= 2;
    t->slots = qd_alloc(slots * sizeof *t->slots);
    if (!t->slots) return QD_ERR_MEMORY;
    t->slot_mask = slots - 1;
    for (size_t i = 0; i < slots; i++)
        t->slots[i] = -1;
    for (int32_t i = 0; i < t->vocab; i++) {
        const qd_string text = t->tokens[i].text;
        if (text.size > t->longest) t->longest = text.size;
        *slot_of(t, text.data, text.size) = i;
    }
    return QD_OK;
}

/* ---- Reading the file --------------------------------------------------------------------------------------- */

/* Reads an optional integer or boolean of the file: `fallback` when the key is missing, QD_ERR_FILE when it is outside
 * [0, limit). */
static qd_status read_int(const qd_gguf *g, const char *key, int64_t limit, int64_t fallback, int64_t *out) {
    qd_gguf_value v;
    *out = fallback;
    if (qd_gguf_find(g, key, &v) != QD_OK) return QD_OK;
    qd_status status = qd_gguf_get_int(g, &v, 0, out);
    if (status != QD_OK) return status;
    if (*out >= 0 && *out < limit) return QD_OK;
    return qd_fail(QD_ERR_FILE, "%s is %lld, expected 0 to %lld; the file is damaged", key, (long long)*out,
                   (long long)(limit - 1));
}

/* A list with one item for each token. */
static qd_status find_list(const qd_gguf *g, const char *key, uint64_t count, qd_gguf_value *v) {
    qd_status status = qd_gguf_find(g, key, v);
    if (status != QD_OK) return status;
    if (v->type == QD_GGUF_ARRAY && v->count == count) return QD_OK;
    return qd_fail(QD_ERR_FILE, "%s must be a list of %llu items, one for each token; it has %llu; the file is damaged",
                   key, (unsigned long long)count, (unsigned long long)(v->type == QD_GGUF_ARRAY ? v->count : 1));
}

static qd_status read_tokens(qd_tokenizer *t, const qd_gguf *g, bool scores) {
    qd_status status;
    qd_gguf_value texts, types, score_list;
    QD_TRY(qd_gguf_find(g, "tokenizer.ggml.tokens", &texts));
    if (texts.type != QD_GGUF_ARRAY || texts.count == 0 || texts.count > INT32_MAX / 2) {
        return qd_fail(QD_ERR_FILE, "tokenizer.ggml.tokens is not a list of tokens; the file is damaged");
    }
    QD_TRY(find_list(g, "tokenizer.ggml.token_type", texts.count, &types));
    if (scores) QD_TRY(find_list(g, "tokenizer.ggml.scores", texts.count, &score_list));
    t->tokens = qd_alloc_zero((size_t)texts.count, sizeof *t->tokens);
    if (!t->tokens) return QD_ERR_MEMORY;
    t->vocab = (int32_t)texts.count;
    for (int32_t i = 0; i < t->vocab; i++) {
        qd_vocab_token *token = &t->tokens[i];
        int64_t type;
        double score = 0;
        QD_TRY(qd_gguf_get_string(g, &texts, (uint64_t)i, &token->text));
        QD_TRY(qd_gguf_get_int(g, &types, (uint64_t)i, &type));
        if (scores) QD_TRY(qd_gguf_get_double(g, &score_list, (uint64_t)i, &score));
        if (token->text.size > MAX_TOKEN_BYTES || type < QD_TOKEN_UNDEFINED || type > QD_TOKEN_BYTE || isnan(score)) {
            return qd_fail(QD_ERR_FILE,
                           "token %d has %zu bytes, type %lld and score %g, which cannot be; the file is "
                           "damaged",
                           i, token->text.size, (long long)type, score);
        }
        token->type = (uint8_t)type;
        token->score = score;
    }
error:
    return status;
}

/* Tokens that end a turn or a text although the file need not say so, in the models that have them. */
static const char *const ending_names[] = {"<|im_end|>", "<|endoftext|>",   "<|eot_id|>", "<|eom_id|>", "<end_of_turn>",
                                           "</s>",       "<|end_of_text|>", "<|end|>",    "<eos>",      "<EOT>"};

static qd_status read_special_ids(qd_tokenizer *t, const qd_gguf *g, bool llama, bool add_bos) {
    static const char *const ending_keys[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                              "tokenizer.ggml.eom_token_id"};
    qd_status status;
    int64_t id;
    /* Files of the llama kind may leave out ids that SentencePiece always has: 0 unknown, 1 begin, 2 end. */
    const bool usual = llama && t->vocab > 2;
    QD_TRY(read_int(g, "tokenizer.ggml.bos_token_id", t->vocab, usual ? 1 : -1, &id));
    t->bos = (int32_t)id;
    QD_TRY(read_int(g, "tokenizer.ggml.unknown_token_id", t->vocab, usual ? 0 : -1, &id));
    t->unknown = (int32_t)id;
    t->eos = -1;
    for (size_t i = 0; i < sizeof ending_keys / sizeof *ending_keys; i++) {
        QD_TRY(read_int(g, ending_keys[i], t->vocab, i == 0 && usual ? 2 : -1, &id));
        if (id < 0) continue;
        t->tokens[id].ends = true;
        if (i == 0) t->eos = (int32_t)id;
    }
    for (size_t i = 0; i < sizeof ending_names / sizeof *ending_names; i++) {
        id = qd_vocab_find(t, ending_names[i], strlen(ending_names[i]));
        if (id >= 0 && t->tokens[id].type == QD_TOKEN_CONTROL) t->tokens[id].ends = true;
    }
    QD_TRY(read_int(g, "tokenizer.ggml.add_bos_token", 2, add_bos && t->bos >= 0, &id));
    t->add_bos = id != 0;
    QD_TRY(read_int(g, "tokenizer.ggml.add_space_prefix", 2, llama, &id));
    t->add_space_prefix = llama && id != 0;
    if (t->add_bos && t->bos < 0) {
        return qd_fail(QD_ERR_FILE, "the file asks for a begin token but names none (tokenizer.ggml.bos_token_id)");
    }
error:
    return status;
}

/* ---- Special tokens ----------------------------------------------------------------------------------------- */

/* User-defined tokens are always split out, the others only on request: they are commands, not text. */
static bool is_command(const qd_vocab_token *t) {
    return t->type == QD_TOKEN_CONTROL || t->type == QD_TOKEN_UNKNOWN;
}

static int compare_texts(const void *a, const void *b) {
    const qd_string *x = &(*(const qd_vocab_token *const *)a)->text, *y = &(*(const qd_vocab_token *const *)b)->text;
    const int order = memcmp(x->data, y->data, x->size < y->size ? x->size : y->size);
    return order ? order : (x->size > y->size) - (x->size < y->size);
}

static qd_status list_special(qd_tokenizer *t) {
    const qd_vocab_token **sorted = qd_alloc((size_t)t->vocab * sizeof *sorted);
    if (!sorted) return QD_ERR_MEMORY;
    for (int32_t i = 0; i < t->vocab; i++) {
        const qd_vocab_token *token = &t->tokens[i];
        if (!is_command(token) && token->type != QD_TOKEN_USER_DEFINED) continue;
        if (qd_vocab_find(t, token->text.data, token->text.size) != i) continue; /* empty, or written twice */
        sorted[t->special_count++] = token;
        t->special_first[(unsigned char)token->text.data[0]] = true;
    }
    qsort(sorted, t->special_count, sizeof *sorted, compare_texts);
    t->special = qd_alloc(t->special_count * sizeof *t->special);
    for (size_t i = 0; t->special && i < t->special_count; i++)
        t->special[i] = (int32_t)(sorted[i] - t->tokens);
    free(sorted);
    return t->special ? QD_OK : QD_ERR_MEMORY;
}

/* The first index in [low, high) of t->special whose text has a byte of at least `byte` at `depth`. */
static size_t first_at_least(const qd_tokenizer *t, size_t low, size_t high, size_t depth, unsigned byte) {
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if ((unsigned char)t->tokens[t->special[middle]].text.data[depth] < byte) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The longest special token that the text begins with; -1: none. The sorted list is walked as a trie: [low, high) are
 * the tokens that agree with the text so far. */
static int32_t match_special(const qd_tokenizer *t, const char *text, size_t size, bool special) {
    if (!t->special_first[(unsigned char)text[0]]) return -1;
    int32_t found = -1;
    size_t low = 0, high = t->special_count;
    for (size_t depth = 0; depth < size; depth++) {
        const unsigned byte = (unsigned char)text[depth];
        low = first_at_least(t, low, high, depth, byte);
        high = first_at_least(t, low, high, depth, byte + 1);
        if (low == high) break;
        const qd_vocab_token *token = &t->tokens[t->special[low]];
        if (token->text.size == depth + 1) {
            if (special || !is_command(token)) found = t->special[low];
            low++;
        }
    }
    return found;
}

/* ---- Public calls ------------------------------------------------------------------------------------------- */

qd_status qd_tokenizer_create(const qd_gguf *g, qd_tokenizer **out) {
    if (!g || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_tokenizer_create: file and out must not be NULL");
    qd_status status;
    qd_gguf_value v;
    qd_string kind;
    qd_tokenizer *t = qd_alloc_zero(1, sizeof *t);
    if (!t) return QD_ERR_MEMORY;
    QD_TRY(qd_gguf_find(g, "tokenizer.ggml.model", &v));
    QD_TRY(qd_gguf_get_string(g, &v, 0, &kind));
    const bool llama = equal(kind, string_of("llama"));
    if (!llama && !equal(kind, string_of("gpt2"))) {
        QD_TRY(qd_fail(QD_ERR_UNSUPPORTED,
                       "the file's tokenizer is of the kind '%.*s'; known are gpt2 (byte-level BPE) and llama "
                       "(SentencePiece)",
                       (int)(kind.size < 40 ? kind.size : 40), kind.data));
    }
    QD_TRY(read_tokens(t, g, llama));
    QD_TRY(index_texts(t));
    bool add_bos = llama;
    if (!llama) QD_TRY(qd_bpe_create(t, g, &add_bos));
    QD_TRY(read_special_ids(t, g, llama, add_bos));
    if (llama) QD_TRY(qd_spm_create(t));
    QD_TRY(list_special(t));
    if (qd_gguf_find(g, "tokenizer.chat_template", &v) == QD_OK) {
        QD_TRY(qd_gguf_get_string(g, &v, 0, &t->chat_template));
    }
    *out = t;
    return QD_OK;
error:
    qd_tokenizer_free(t);
    return status;
}

void qd_tokenizer_free(qd_tokenizer *t) {
    if (!t) return;
    qd_bpe_free(t->bpe);
    free(t->special);
    free(t->slots);
    free(t->tokens);
    free(t);
}

int32_t qd_tokenizer_vocab(const qd_tokenizer *t) {
    return t ? t->vocab : 0;
}

/* Tokens of a whole text that is known to be UTF-8. */
static qd_status tokenize(const qd_tokenizer *t, qd_token_run *run, size_t size, bool special) {
    qd_status status = QD_OK;
    size_t begin = 0; /* of the text that has no tokens yet */
    for (size_t at = 0; at <= size;) {
        const int32_t token = at < size ? match_special(t, run->text + at, size - at, special) : -1;
        if (token < 0 && at < size) {
            at++;
            continue;
        }
        if (at > begin) {
            QD_TRY(t->bpe ? qd_bpe_tokenize(t, run, run->text + begin, at - begin)
                          : qd_spm_tokenize(t, run, run->text + begin, at - begin, t->add_space_prefix));
        }
        if (token < 0) break;
        QD_TRY(qd_token_list_push(&run->out, token));
        at += t->tokens[token].text.size;
        begin = at;
    }
error:
    return status;
}

qd_status qd_tokenize(const qd_tokenizer *t, const char *text, size_t size, bool special, bool bos, int32_t **tokens,
                      size_t *count) {
    if (!t || (!text && size) || !tokens || !count) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_tokenize: tokenizer, text, tokens and count must not be NULL");
    }
    if (size > INT32_MAX) return qd_fail(QD_ERR_LIMIT, "the text is larger than 2 GiB; give it in parts");
    size_t bad;
    if (!qd_utf8_valid(text, size, &bad)) {
        return qd_fail(QD_ERR_ARGUMENT, "the text is not UTF-8: byte 0x%02X at offset %zu; convert it to UTF-8",
                       (unsigned char)text[bad], bad);
    }
    qd_status status = QD_OK;
    qd_token_run run = {.text = text};
    if (bos && t->add_bos) QD_TRY(qd_token_list_push(&run.out, t->bos));
    QD_TRY(tokenize(t, &run, size, special));
    *tokens = run.out.items;
    *count = run.out.count;
    run.out.items = NULL;
error:
    free(run.out.items);
    free(run.buffer);
    qd_merger_free(&run.merger);
    qd_bpe_run_free(&run);
    return status;
}

void qd_tokens_free(int32_t *tokens) {
    free(tokens);
}

int qd_token_text(const qd_tokenizer *t, int32_t token, bool special, char *buffer, size_t capacity) {
    if (!t || token < 0 || token >= t->vocab) {
        qd_fail(QD_ERR_ARGUMENT, "token %d is none of this vocabulary, which has 0 to %d", token,
                t ? t->vocab - 1 : -1);
        return -1;
    }
    const qd_vocab_token *v = &t->tokens[token];
    qd_text_out o = {buffer, buffer ? capacity : 0, 0};
    const int byte = v->type == QD_TOKEN_BYTE ? qd_byte_of(v->text) : -1;
    if (byte >= 0) {
        const char c = (char)byte;
        qd_text_put(&o, &c, 1);
    } else if (is_command(v)) {
        if (special) qd_text_put(&o, v->text.data, v->text.size);
    } else if (v->type == QD_TOKEN_USER_DEFINED) {
        qd_text_put(&o, v->text.data, v->text.size);
    } else if (t->bpe) {
        qd_bpe_text(v->text, &o);
    } else {
        qd_spm_text(v->text, &o);
    }
    return (int)o.size;
}

bool qd_token_ends(const qd_tokenizer *t, int32_t token) {
    return t && token >= 0 && token < t->vocab && t->tokens[token].ends;
}
