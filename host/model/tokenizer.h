/* What the tokenizer's files share: tokenizer.c reads the vocabulary and splits out special tokens, tokenizer_bpe.c and
 * tokenizer_spm.c turn the text between them into tokens, tokenizer_merge.c is the merging that both do, chat.c writes
 * conversations. */
#ifndef QDOT_MODEL_TOKENIZER_H
#define QDOT_MODEL_TOKENIZER_H

#include "qdot/qdot.h"

/** Types of tokens in GGUF files (tokenizer.ggml.token_type). */
typedef enum qd_token_type {
    QD_TOKEN_UNDEFINED,
    QD_TOKEN_NORMAL,
    QD_TOKEN_UNKNOWN,
    QD_TOKEN_CONTROL,
    QD_TOKEN_USER_DEFINED,
    QD_TOKEN_UNUSED,
    QD_TOKEN_BYTE
} qd_token_type;

typedef struct qd_vocab_token {
    qd_string text; /* in the file, as written there: byte-level vocabularies write bytes as characters */
    double score;   /* llama kind: the higher, the earlier it is merged */
    uint8_t type;   /* qd_token_type */
    bool ends;      /* ends a generation */
} qd_vocab_token;

typedef struct qd_bpe qd_bpe;

struct qd_tokenizer {
    qd_bpe *bpe; /* NULL: llama kind */
    int32_t vocab;
    qd_vocab_token *tokens;
    int32_t *slots; /* open-addressing table of tokens by text; -1: empty */
    size_t slot_mask;
    size_t longest;   /* bytes of the longest text */
    int32_t *special; /* tokens that are split out of the text before anything else, sorted by text */
    size_t special_count;
    bool special_first[256];        /* bytes that special tokens begin with */
    int32_t byte_token[256];        /* the token of one byte; -1: none */
    int32_t bos, eos, unknown;      /* -1: none */
    bool add_bos, add_space_prefix; /* the prefix: llama kind only */
    qd_string chat_template;        /* in the file; size 0: none */
};

/** The token whose text in the file is `text`; -1 when there is none. */
int32_t qd_vocab_find(const qd_tokenizer *t, const char *text, size_t size);

/** A growing list of tokens. */
typedef struct qd_token_list {
    int32_t *items;
    size_t count, capacity;
} qd_token_list;
qd_status qd_token_list_push(qd_token_list *list, int32_t token);

/* ---- Merging ------------------------------------------------------------------------------------------------ */

/** A piece of the text that is being merged. */
typedef struct qd_symbol {
    int32_t start, size; /* bytes; size 0: it was merged into its left neighbour */
    int32_t prev, next;  /* indexes, -1 at the ends */
    int32_t token;       /* -1: no token has this text */
} qd_symbol;

typedef struct qd_merge_candidate {
    double order;
    int32_t left, right, size, token;
} qd_merge_candidate;

/** The symbols of one word, and room to merge them. Zero it before the first use; kept from word to word. */
typedef struct qd_merger {
    qd_symbol *symbols;
    size_t count, capacity;
    qd_merge_candidate *heap; /* 2 · capacity: every merge takes one candidate and adds at most two */
    size_t heap_count;
} qd_merger;

/** Says whether two neighbours merge; then *order ranks the merge (the least first) and *token is what it gives. */
typedef bool (*qd_merge_fn)(const qd_tokenizer *t, const char *text, const qd_symbol *left, const qd_symbol *right,
                            double *order, int32_t *token);

/** Empties the merger and makes room for that many symbols. */
qd_status qd_merger_begin(qd_merger *m, size_t symbols);
/** Appends a symbol of `size` bytes to the word; there must be room. */
void qd_merger_add(qd_merger *m, size_t size, int32_t token);
/** Merges until no neighbours merge: the least order first, of equal ones the leftmost. Takes O(n log n) for n symbols.
 *  The result is the list that begins at symbol 0. */
void qd_merger_run(qd_merger *m, const qd_tokenizer *t, const char *text, qd_merge_fn find);
void qd_merger_free(qd_merger *m);

/* ---- The two kinds ------------------------------------------------------------------------------------------ */

/** Reads merges and pre-tokenizer into t->bpe and fills t->byte_token; *add_bos tells what the kind of pre-tokenizer
 * does when the file does not say. What was made on failure is freed by qd_bpe_free. */
qd_status qd_bpe_create(qd_tokenizer *t, const qd_gguf *g, bool *add_bos);
void qd_bpe_free(qd_bpe *b);
/** Fills t->byte_token; QD_ERR_FILE when neither bytes nor an unknown token can stand for rare characters. */
qd_status qd_spm_create(qd_tokenizer *t);

/** What one qd_tokenize call needs between fragments. Zero it, then qd_run_free. */
typedef struct qd_token_run {
    const char *text; /* the whole text, for offsets in messages */
    qd_token_list out;
    qd_merger merger;
    char *buffer; /* the fragment or word as the vocabulary writes it */
    size_t buffer_size;
    void *match, *match_context; /* PCRE2's */
} qd_token_run;

/** Appends the tokens of a fragment without special tokens. */
qd_status qd_bpe_tokenize(const qd_tokenizer *t, qd_token_run *run, const char *text, size_t size);
/** The same; `prefix`: a space goes first. */
qd_status qd_spm_tokenize(const qd_tokenizer *t, qd_token_run *run, const char *text, size_t size, bool prefix);
/** Frees what qd_bpe_tokenize keeps in the run. */
void qd_bpe_run_free(qd_token_run *run);
/** Makes run->buffer at least `size` bytes. */
qd_status qd_run_buffer(qd_token_run *run, size_t size);

/** Copies bytes to a buffer as far as it goes and counts them all. */
typedef struct qd_text_out {
    char *data;
    size_t capacity, size;
} qd_text_out;
void qd_text_put(qd_text_out *o, const char *data, size_t size);

/** The bytes that a normal token stands for. */
void qd_bpe_text(qd_string token, qd_text_out *o);
void qd_spm_text(qd_string token, qd_text_out *o);
/** The byte of a token that is written <0xXX>; -1 when it is none. */
int qd_byte_of(qd_string token);

#endif
