/* Builds GGUF images of small vocabularies, right or wrong ones, for the tests and the fuzz target of the tokenizer. */
#ifndef QDOT_TESTS_VOCAB_IMAGE_H
#define QDOT_TESTS_VOCAB_IMAGE_H

#include <stdio.h>

#include "unit/gguf_image.h"

enum { VOCAB_MOST = 512, VOCAB_ABSENT = -1 };
enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6 };

typedef struct vocab {
    const char *model, *pre, *chat_template; /* NULL: the key is absent */
    char text[VOCAB_MOST][48];
    int type[VOCAB_MOST];
    float score[VOCAB_MOST];
    int count, types, scores; /* lengths of the three lists; VOCAB_ABSENT: no list */
    char merge[VOCAB_MOST][48];
    int merges;                                             /* VOCAB_ABSENT: no list */
    long bos, eos, eot, unknown, add_bos, add_space_prefix; /* VOCAB_ABSENT: no key */
} vocab;

static inline int vocab_add(vocab *v, const char *text, int type, float score) {
    if (v->count == VOCAB_MOST) abort();
    snprintf(v->text[v->count], sizeof v->text[0], "%s", text);
    v->type[v->count] = type;
    v->score[v->count] = score;
    v->types = v->scores = v->count + 1;
    return v->count++;
}

static inline void vocab_merge(vocab *v, const char *left, const char *right) {
    if (v->merges == VOCAB_MOST) abort();
    snprintf(v->merge[v->merges++], sizeof v->merge[0], "%s %s", left, right);
}

/* Merges two tokens and adds what they make, unless it is there. */
static inline void vocab_join(vocab *v, const char *left, const char *right) {
    char both[48];
    snprintf(both, sizeof both, "%s%s", left, right);
    vocab_merge(v, left, right);
    for (int i = 0; i < v->count; i++) {
        if (strcmp(v->text[i], both) == 0) return;
    }
    vocab_add(v, both, NORMAL, 0);
}

static inline vocab vocab_empty(const char *model, const char *pre) {
    return (vocab){.model = model,
                   .pre = pre,
                   .types = VOCAB_ABSENT,
                   .scores = VOCAB_ABSENT,
                   .bos = VOCAB_ABSENT,
                   .eos = VOCAB_ABSENT,
                   .eot = VOCAB_ABSENT,
                   .unknown = VOCAB_ABSENT,
                   .add_bos = VOCAB_ABSENT,
                   .add_space_prefix = VOCAB_ABSENT};
}

/* The tokens of the 256 bytes as byte-level vocabularies write them: printable Latin-1 characters stand for themselves,
 * the other bytes in their order for U+0100 and on. */
static inline void vocab_add_bytes(vocab *v) {
    unsigned next = 256;
    for (unsigned b = 0; b < 256; b++) {
        const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
        const unsigned c = printable ? b : next++;
        char text[3] = {(char)c, 0, 0};
        if (c >= 0x80) text[0] = (char)(0xC0 | c >> 6), text[1] = (char)(0x80 | (c & 0x3F));
        vocab_add(v, text, NORMAL, 0);
    }
}

/* The tokens <0x00> to <0xFF>. */
static inline void vocab_add_byte_names(vocab *v) {
    for (unsigned b = 0; b < 256; b++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", b);
        vocab_add(v, text, BYTE, 0);
    }
}

static inline void vocab_put_number(image *m, const char *key, long x) {
    if (x != VOCAB_ABSENT) put_u32_value(m, key, (uint32_t)x);
}

static inline image vocab_image(const vocab *v) {
    const bool lists[] = {v->count != VOCAB_ABSENT, v->types != VOCAB_ABSENT, v->scores != VOCAB_ABSENT,
                          v->merges != VOCAB_ABSENT};
    const long numbers[] = {v->bos, v->eos, v->eot, v->unknown, v->add_bos, v->add_space_prefix};
    uint64_t values = (uint64_t) !!v->model + (uint64_t) !!v->pre + (uint64_t) !!v->chat_template;
    for (int i = 0; i < 4; i++)
        values += lists[i];
    for (int i = 0; i < 6; i++)
        values += numbers[i] != VOCAB_ABSENT;
    image m = {0};
    put_header(&m, 3, 0, values);
    if (v->model) put_key(&m, "tokenizer.ggml.model", QD_GGUF_STRING), put_string(&m, v->model);
    if (v->pre) put_key(&m, "tokenizer.ggml.pre", QD_GGUF_STRING), put_string(&m, v->pre);
    if (lists[0]) put_array(&m, "tokenizer.ggml.tokens", QD_GGUF_STRING, (uint64_t)v->count);
    for (int i = 0; i < v->count; i++)
        put_string(&m, v->text[i]);
    if (lists[1]) put_array(&m, "tokenizer.ggml.token_type", QD_GGUF_I32, (uint64_t)v->types);
    for (int i = 0; i < v->types; i++)
        put(&m, (uint64_t)v->type[i], 4);
    if (lists[2]) put_array(&m, "tokenizer.ggml.scores", QD_GGUF_F32, (uint64_t)v->scores);
    for (int i = 0; i < v->scores; i++)
        put_f32(&m, v->score[i]);
    if (lists[3]) put_array(&m, "tokenizer.ggml.merges", QD_GGUF_STRING, (uint64_t)v->merges);
    for (int i = 0; i < v->merges; i++)
        put_string(&m, v->merge[i]);
    vocab_put_number(&m, "tokenizer.ggml.bos_token_id", v->bos);
    vocab_put_number(&m, "tokenizer.ggml.eos_token_id", v->eos);
    vocab_put_number(&m, "tokenizer.ggml.eot_token_id", v->eot);
    vocab_put_number(&m, "tokenizer.ggml.unknown_token_id", v->unknown);
    vocab_put_number(&m, "tokenizer.ggml.add_bos_token", v->add_bos);
    vocab_put_number(&m, "tokenizer.ggml.add_space_prefix", v->add_space_prefix);
    if (v->chat_template) {
        put_key(&m, "tokenizer.chat_template", QD_GGUF_STRING), put_string(&m, v->chat_template);
    }
    return m;
}

/* A small byte-level vocabulary. Tokens 0 to 4 are special, 5 to 260 the bytes, then what merges make. */
static inline vocab vocab_bpe(const char *pre) {
    vocab v = vocab_empty("gpt2", pre);
    vocab_add(&v, "<|endoftext|>", CONTROL, 0);
    vocab_add(&v, "<|im_start|>", CONTROL, 0);
    vocab_add(&v, "<|im_end|>", CONTROL, 0);
    vocab_add(&v, "<tool>", USER_DEFINED, 0);
    vocab_add(&v, "<tool>s", USER_DEFINED, 0);
    vocab_add_bytes(&v);
    static const char *const joins[][2] = {
        {"h", "e"},
        {"l", "l"},
        {"he", "ll"},
        {"hell", "o"},
        {"b", "c"},
        {"a", "b"},
        {"a", "a"},
        {"o", "r"},
        {"\xC4\xA0", "w"},
        {"l", "d"},
        {"or", "ld"},
        {"\xC4\xA0w", "orld"},
        {"1", "2"},
        {"3", "4"},
        {"12", "34"},
        {"12", "3"},
        {"\xC4\xA0", "\xC4\xA0"},
        {"\xC4\xA0", "a"},
        {"'", "S"},
        {"'", "s"},
        {"\xC3\x83", "\xC2\xA9"},
        {"\xC4\x8A", "\xC4\x8A"},
        {".", "\xC4\x8A"},
        {"x", "B"},
        {".", "a"},
    };
    for (size_t i = 0; i < sizeof joins / sizeof *joins; i++)
        vocab_join(&v, joins[i][0], joins[i][1]);
    v.bos = 1;
    v.eos = 2;
    return v;
}

/* A small SentencePiece-style vocabulary: <unk> <s> </s>, the bytes as 3 to 258, then pieces. */
static inline vocab vocab_spm(void) {
    vocab v = vocab_empty("llama", NULL);
    v.merges = VOCAB_ABSENT;
    vocab_add(&v, "<unk>", UNKNOWN, 0);
    vocab_add(&v, "<s>", CONTROL, 0);
    vocab_add(&v, "</s>", CONTROL, 0);
    vocab_add_byte_names(&v);
    static const struct {
        const char *text;
        float score;
    } pieces[] = {{"\xE2\x96\x81", -9},
                  {"a", -10},
                  {"b", -11},
                  {"c", -12},
                  {"ab", -2},
                  {"bc", -1},
                  {"abc", -3},
                  {"<", -13},
                  {"s", -14},
                  {">", -15},
                  {"<s", -4},
                  {"\xC3\xA9", -16},
                  {"\xE2\x96\x81"
                   "a",
                   -5},
                  {"aa", -6},
                  {"\xE2\x96\x81\xE2\x96\x81", -7}};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        vocab_add(&v, pieces[i].text, NORMAL, pieces[i].score);
    vocab_add(&v, "<sep>", USER_DEFINED, 0);
    return v;
}

#endif
