/* Part of qdot.h, which includes it: language models, from text to tokens to logits to the next token. */
#ifndef QDOT_PUBLIC_MODEL_H
#define QDOT_PUBLIC_MODEL_H

#ifndef QDOT_H
#error "include qdot/qdot.h"
#endif

/* ---- Tokenizer ---------------------------------------------------------------------------------------------- */

typedef struct qd_tokenizer qd_tokenizer;

/** Builds the tokenizer that the file describes (gpt2: byte-level BPE; llama: SentencePiece-style with byte fallback).
 *  The file must outlive it. QD_ERR_FILE: vocabulary missing or damaged; QD_ERR_UNSUPPORTED: another kind. */
QD_API qd_status qd_tokenizer_create(const qd_gguf *g, qd_tokenizer **out);
QD_API void qd_tokenizer_free(qd_tokenizer *t);
QD_API int32_t qd_tokenizer_vocab(const qd_tokenizer *t);
/** Turns text into tokens. `special`: write out control tokens such as <|im_start|> as themselves, not as text.
 *  `bos`: put the begin token first where the file asks for it. *tokens is to be freed with qd_tokens_free.
 *  QD_ERR_ARGUMENT names the byte offset of invalid UTF-8. */
QD_API qd_status qd_tokenize(const qd_tokenizer *t, const char *text, size_t size, bool special, bool bos,
                             int32_t **tokens, size_t *count);
QD_API void qd_tokens_free(int32_t *tokens);
/** Bytes of one token as they appear in text (control tokens: empty unless `special`). Copies up to `capacity` bytes,
 *  returns the full length; -1 for a token that is none. */
QD_API int qd_token_text(const qd_tokenizer *t, int32_t token, bool special, char *buffer, size_t capacity);
/** True for tokens that end a generation (end of text, end of turn). */
QD_API bool qd_token_ends(const qd_tokenizer *t, int32_t token);

typedef struct qd_message {
    const char *role;    /* "system", "user", "assistant" */
    const char *content; /* UTF-8, ended by a zero */
} qd_message;
/** Writes messages in the chat form of the file's model (ChatML or Llama 2/3), with the start of the assistant's turn.
 *  *text is to be freed with qd_text_free. QD_ERR_UNSUPPORTED: the file has no template that is known. */
QD_API qd_status qd_chat_format(const qd_tokenizer *t, const qd_message *messages, size_t count, char **text);
QD_API void qd_text_free(char *text);

/* ---- Sampler ------------------------------------------------------------------------------------------------ */

typedef struct qd_sampler qd_sampler;

typedef struct qd_sampler_options {
    float temperature;        /* <= 0: greedy */
    int top_k;                /* 0: off */
    float top_p;              /* 1: off */
    float min_p;              /* 0: off */
    float repetition_penalty; /* 1: off */
    int penalty_window;       /* last tokens that are penalized; 0: off */
    uint64_t seed;
} qd_sampler_options;

/** temperature 0.8, top_k 40, top_p 0.95, min_p 0.05, penalty off over 64 tokens, seed 0. */
QD_API qd_sampler_options qd_sampler_defaults(void);
QD_API qd_status qd_sampler_create(const qd_sampler_options *o, int32_t vocab, qd_sampler **out);
QD_API void qd_sampler_free(qd_sampler *s);
/** Chooses a token from `vocab` logits and remembers it for the penalty. Ties go to the lower token. */
QD_API qd_status qd_sampler_next(qd_sampler *s, const float *logits, int32_t *token);
/** Tells the sampler about a token that it did not choose (the prompt's). */
QD_API void qd_sampler_accept(qd_sampler *s, int32_t token);

/* ---- Models ------------------------------------------------------------------------------------------------- */

typedef struct qd_model qd_model;

/** Low-rank branches beside the matrices of a model (LoRA: Hu et al. 2021; beside quantized ones QLoRA: Dettmers et al.
 * 2023): y = x · wᵀ + scale · (alpha / rank) · (x · aᵀ) · bᵀ, see LORA in qdot_ops.def. */
typedef struct qd_adapter {
    const qd_gguf *file; /* an adapter as llama.cpp reads it: general.type "adapter", adapter.type "lora",
                            adapter.lora.alpha, and MATRIX.lora_a [rank, columns], MATRIX.lora_b [rows, rank] in any
                            format of weights. Needed while the model is loaded */
    float scale;         /* 1: as it was trained */
} qd_adapter;

typedef struct qd_model_options {
    int64_t context; /* tokens that fit; 0: the model's own, at most 4096, rounded up to 16 */
    int64_t chunk;   /* tokens computed at once in a prompt; 0: 128 */
    /** What the matrices of layers read. QD_FORMAT_A8: int8 in blocks of 16; QD_FORMAT_F32; QD_FORMAT_I8: matrices in
     * the coding int8 read int8 with one scale for each token, or with `calibrated` one for all, which the file has
     * (others read A8). */
    qd_format activations;
    bool calibrated;
    /** Of keys and values: QD_FORMAT_F32 or, about a quarter as large, QD_FORMAT_I8: see KV_STORE. */
    qd_format cache;
    bool observe;               /* keep what matrices read: see qd_model_input_find; activations are f32 then */
    bool keep_layers;           /* keep what layers read: see qd_model_eval_again */
    const qd_adapter *adapters; /* their branches are added one after the other; may be NULL */
    int adapter_count;
    bool (*progress)(void *user, int done, int total); /* while loading; may be NULL; false cancels */
    void *progress_user;
} qd_model_options;

typedef struct qd_model_info {
    char architecture[32];
    char name[128];
    int64_t layers, width, heads, kv_heads, head_dim, feed_forward, vocab, trained_context;
    int64_t context;
    qd_format cache;      /* of keys and values, */
    uint64_t cache_bytes; /* and what it takes for the whole context */
    double parameters;    /* without adapters */
    int64_t branches;     /* of adapters */
    bool keeps_layers;
    qd_graph_info graph; /* of the layers */
} qd_model_info;

/** Options as the program uses them: context 0, chunk 0, A8, a cache of floats. */
QD_API qd_model_options qd_model_defaults(void);
/** Loads a llama-type model. The file must outlive it; `options` may be NULL. An adapter that does not fit is refused:
 *  QD_ERR_FILE names the key, or the tensor that belongs to no matrix; QD_ERR_UNSUPPORTED a tensor of the embedding. */
QD_API qd_status qd_model_load(qd_context *c, const qd_gguf *g, const qd_model_options *options, qd_model **out);
QD_API void qd_model_free(qd_model *m);
QD_API const qd_model_info *qd_model_describe(const qd_model *m);
/** Position of the next token, which is the number of tokens in the cache. */
QD_API int64_t qd_model_position(const qd_model *m);
/** Forgets all tokens from `position` on. */
QD_API qd_status qd_model_rewind(qd_model *m, int64_t position);
/** Called with the logits of one position: `vocab` floats, valid during the call. Returns false to cancel. */
typedef bool (*qd_logits_fn)(void *user, int64_t position, const float *logits);
/** Appends tokens. With `all`, fn gets the logits of every token, else those of the last; fn may be NULL (nothing then
 *  waits for the device). On failure, also QD_ERR_LIMIT when the
 *  context is full, nothing was appended. */
QD_API qd_status qd_model_eval(qd_model *m, const int32_t *tokens, int64_t count, bool all, qd_logits_fn fn,
                               void *user);

/** Of a model loaded with `keep_layers`: the layers from `layer` on once more, for all tokens in the context; what came
 *  before `layer` is as it was when qd_model_eval appended them. With all layers (0) the embedding is read anew, too;
 *  with none (their number) it is the output matrix alone. fn gets the logits of every token. For who asks what a
 *  change of one layer does, again and again: see qd_model_replace. The cache has what the layers computed now. */
QD_API qd_status qd_model_eval_again(qd_model *m, int64_t layer, qd_logits_fn fn, void *user);

/* Of a model loaded with `observe`: the inputs of its layers' matrices, four in a layer; matrices side by side read
 * one. */

/** Number of inputs; 0 without `observe`. */
QD_API int qd_model_input_count(const qd_model *m);
/** The input that a matrix reads ("blk.3.attn_v.weight"), its number from 0; -1: none is kept. */
QD_API int qd_model_input_find(const qd_model *m, const char *matrix);
/** Its width; name (at least 64 bytes, or NULL) becomes that of the first matrix that reads it. 0 when there is none.
 */
QD_API int64_t qd_model_input_describe(const qd_model *m, int input, char *name);
/** Copies rows × width floats: those of the tokens of the last qd_model_eval, which has had `rows` of them, at most a
 *  chunk. */
QD_API qd_status qd_model_input_read(const qd_model *m, int input, int64_t rows, float *dst);

/** Gives a matrix of the model other values, rows × cols floats, rounded to its format; NULL: those of the file again.
 *  What is evaluated from now on has them; what is in the cache stays. QD_ERR_ARGUMENT: there is no such matrix;
 *  QD_ERR_UNSUPPORTED: it is stored in no format of floats. After another failure its values are not known. */
QD_API qd_status qd_model_replace(qd_model *m, const char *matrix, const float *values);

#endif
