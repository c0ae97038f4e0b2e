/* Tiny llama-type models as GGUF files in memory, right or wrong ones, and what such a model computes by definition. */
#ifndef QDOT_TESTS_MODEL_IMAGE_H
#define QDOT_TESTS_MODEL_IMAGE_H

#include "unit/gguf_image.h"

/* Kinds of matrices, each of which may have a format of its own. */
enum { W_EMBED, W_Q, W_K, W_V, W_O, W_GATE, W_UP, W_DOWN, W_OUTPUT, MODEL_WEIGHTS };

typedef struct model_spec {
    int layers, width, heads, kv_heads, head_dim, ff, vocab, context;
    bool tied;               /* no output.weight */
    bool rope_factors;       /* rope_freqs.weight */
    double rope_scale;       /* 0: not in the file */
    const char *rope_type;   /* of scaling; NULL: not in the file */
    const char *rope_factor; /* the key that holds rope_scale; NULL: llama.rope.scaling.factor */
    qd_format format[MODEL_WEIGHTS];
} model_spec;

/* Two layers of width 64 in one format: 4 heads of 16, 2 of them for keys and values. Rows of the down projection are
 * five blocks, one more than there are partial sums. */
model_spec model_small(qd_format f);

typedef struct model_key {
    const char *name;
    qd_gguf_type type;
    bool array;       /* `items` copies of the value */
    uint64_t items;   /* of an array */
    double number;    /* all types but strings */
    const char *text; /* strings */
} model_key;

typedef struct model_tensor {
    char name[40];
    int rank;
    int64_t shape[QD_MAX_RANK]; /* outermost first */
    uint32_t gguf_type;
    qd_format format; /* of the bytes */
    int64_t rows, cols;
    void *bytes;
    size_t size;
} model_tensor;

/* The parts of a file, which a test may change before they are written. */
typedef struct model_parts {
    model_spec spec;
    model_key keys[24];
    int n_keys;
    model_tensor tensors[40];
    int n_tensors;
} model_parts;

/* Random weights from a seed, of a size that keeps values near 1. Free with model_parts_free. */
model_parts model_make(const model_spec *s, uint64_t seed);
void model_parts_free(model_parts *p);
/* A part by its name, which must be there. */
model_key *model_find_key(model_parts *p, const char *name);
model_tensor *model_find_tensor(model_parts *p, const char *name);
void model_drop_key(model_parts *p, const char *name);
void model_drop_tensor(model_parts *p, const char *name);
/* Sets a number of whatever type the key has; adds the key as `type` when it is not there. */
void model_set_number(model_parts *p, const char *name, qd_gguf_type type, double number);
/* The file's bytes; free with image_free. */
image model_write(const model_parts *p);

/* Logits of `count` tokens, [count, vocab], computed in double from the file's (dequantized) weights as the papers
 * define them: RMSNorm (Zhang & Sennrich), rotary positions on pairs (2i, 2i+1) (Su et al.), causal attention with
 * grouped heads (Ainslie et al.), SwiGLU (Shazeer), residuals. */
void model_define(model_parts *p, const int32_t *tokens, int count, double *logits);

/* ---- Running ------------------------------------------------------------------------------------------------- */

/* A loaded model and what it stands on, except the context. */
typedef struct model_bed {
    image file;
    qd_gguf *gguf;
    qd_model *model;
} model_bed;

/* Writes, parses and loads; on failure only the model is missing. Close in any case. */
qd_status model_try(const model_parts *p, qd_context *c, const qd_model_options *o, model_bed *out);
/* The same where it must succeed. */
model_bed model_open(const model_parts *p, qd_context *c, const qd_model_options *o);
void model_close(model_bed *b);
qd_model_options model_options(int64_t chunk, qd_format activations);
/* Appends tokens; logits gets those of every token, [count, vocab]. */
void model_eval(qd_model *m, const int32_t *tokens, int count, float *logits);
/* A context that must open. */
qd_context *model_context(const char *device, const qd_context_options *o);
/* Device strings of all devices that can be used, the reference first. Returns their number. */
int model_devices(char (*ids)[96], int capacity);

/* Random numbers: splitmix64 (Steele et al.). */
uint64_t model_random(uint64_t *state);
/* `count` tokens below `vocab`. */
void model_tokens(uint64_t seed, int vocab, int32_t *tokens, int count);

#endif
