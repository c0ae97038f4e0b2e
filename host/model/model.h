/* Internals of the model layer: what llama.c builds and model.c runs. */
#ifndef QDOT_MODEL_H
#define QDOT_MODEL_H

#include "qdot/qdot.h"

/** Rows of logits computed at once when all are wanted. */
enum { QD_HEAD_ROWS = 16 };
/** What the matrices of a layer read: one for each place below. */
enum { QD_READ_QKV, QD_READ_OUTPUT, QD_READ_GATE_UP, QD_READ_DOWN, QD_LAYER_INPUTS };

typedef struct qd_llama {
    int layers, heads, kv_heads, head_dim;
    int64_t width, feed_forward, vocab, trained_context;
    float epsilon, rope_base, rope_factor;
} qd_llama;

typedef struct qd_lora qd_lora;
typedef struct qd_branch qd_branch;

struct qd_model {
    qd_context *context;
    const qd_gguf *file;
    qd_llama shape;
    qd_model_info info;
    int64_t positions; /* room in the cache, a multiple of 16 */
    int64_t chunk;     /* tokens at once */
    int64_t position;  /* of the next token */
    qd_format activations, cache;
    bool calibrated;   /* int8 activations: with the scales of the file */
    int int8_matrices; /* that read them */
    int known_tensors; /* of the file, that became part of the model */
    bool (*progress)(void *user, int done, int total);
    void *progress_user;
    float *rope; /* [positions, head_dim]: cos and sin of each pair in turn */

    /* Outside the graphs: what the host writes and reads, what passes between them, and the cache. */
    qd_tensor *tokens;                 /* i32 [chunk] */
    qd_tensor *start;                  /* i32 [1]: position of the first row */
    qd_tensor *selected;               /* i32 [QD_HEAD_ROWS]: rows of hidden that want logits */
    int32_t in_selected[QD_HEAD_ROWS]; /* what it holds; it begins with zeros */
    qd_tensor *hidden;                 /* f32 [chunk, width] */
    qd_tensor *logits;                 /* f32 [QD_HEAD_ROWS, vocab] */
    qd_tensor **keys, **values;        /* one of each for every layer */
    bool observe;
    int64_t evaluated;     /* tokens of the last evaluation */
    float *kept;           /* [layers][positions][width]: what each layer left in the last qd_model_eval, or NULL */
    int32_t *kept_tokens;  /* [positions] */
    qd_tensor **inputs;    /* f32 [chunk, …], QD_LAYER_INPUTS for every layer; NULL unless they are observed */
    qd_tensor **constants; /* weights; owned */
    int n_constants, constants_cap;
    struct qd_replaced *replaced; /* matrices that have other values than in the file: see replace.c */
    qd_lora *lora;                /* adapters; NULL: none */
    qd_graph **body;              /* tokens → hidden: one graph, or where layers are kept one for each */
    qd_tensor **left;             /* f32 [chunk, width]: what each of them leaves; the last one is hidden */
    int bodies;
    int compiled;   /* how many of them, while loading */
    qd_graph *head; /* selected rows of hidden → logits */
    float *logits_host;
    struct qd_block *blocks; /* memory that constants borrow */
};

/** Frees the values that matrices have in place of the file's. */
void qd_model_drop_replaced(qd_model *m);
/** Memory that lives as long as the model; NULL when there is none. */
void *qd_model_alloc(qd_model *m, size_t bytes);

/** Reads and checks the hyperparameters of a llama-type model. */
qd_status qd_llama_read(const qd_gguf *g, qd_llama *out);
/** Makes the tensors and both graphs of m, whose shape and options are set. What was made stays in m on failure. */
qd_status qd_llama_build(qd_model *m);

#endif
