/* Sensitivity: what storing one matrix, or one layer, in another format costs the whole model; and mixed precision: a
 * format for each of them by these costs, under a limit. */
#ifndef QDOT_SENSITIVITY_H
#define QDOT_SENSITIVITY_H

#include "qdot.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Comparing predictions ---------------------------------------------------------------------------------- */

/** ln Σ exp(x), in double. */
QD_API double qd_logits_log_sum(const float *logits, int64_t vocab);
/** Kullback-Leibler divergence Σ p · ln(p / q) of the distributions p = softmax(a), q = softmax(b), in nats; at least
 *  0. */
QD_API double qd_logits_divergence(const float *a, const float *b, int64_t vocab);

/* ---- Sensitivity -------------------------------------------------------------------------------------------- */

typedef struct qd_sensitive_matrix {
    char name[96];
    int64_t rows, cols;
    double bytes; /* in the model's file */
} qd_sensitive_matrix;

/** One way of storing a part, all others as they are in the model. */
typedef struct qd_sensitivity_result {
    qd_storage to;
    double bytes;            /* that the part takes then */
    qd_loss loss;            /* of its weights */
    double divergence;       /* of the logits from the model's own, mean over the positions, nats */
    double divergence_error; /* standard error of this mean */
    double nll_change;       /* of the mean negative log-likelihood: perplexity becomes exp(this) times as large */
    bool estimated;          /* the last three were derived from those of another format */
} qd_sensitivity_result;

/** What is quantized at once: a matrix, or all matrices of a layer. Owned by the sensitivity. */
typedef struct qd_sensitivity_part {
    char name[96]; /* "blk.3.attn_q.weight", "blk.3" */
    qd_sensitive_matrix *matrix;
    int matrices;
    qd_sensitivity_result *result; /* as many formats as were measured */
    int results;
} qd_sensitivity_part;

/** All parts of a model: those of no layer first, then by layer, else in the order of the file. */
typedef struct qd_sensitivity {
    int parts;
    qd_sensitivity_part *part;
    bool by_layer;
    bool finished;                     /* all that the last qd_sensitivity_measure was to measure is there */
    double other_bytes, other_weights; /* tensors of the file that are in no part */
    int64_t tokens;                    /* of the text, in one window; 0: nothing was measured */
    double nll;                        /* mean negative log-likelihood of the model as it is */
    char model[65], text[65];          /* SHA-256: the model's mark (its vectors), the tokens */
} qd_sensitivity;

/** Lists the matrices of the model that `want` (NULL: all) takes by their names; *out is to be freed with
 *  qd_sensitivity_free. QD_ERR_ARGUMENT: it takes none. QD_ERR_UNSUPPORTED: one of them is in no format of floats. */
QD_API qd_status qd_sensitivity_create(const qd_gguf *g, bool by_layer, bool (*want)(void *user, const char *name),
                                       void *user, qd_sensitivity **out);
QD_API void qd_sensitivity_free(qd_sensitivity *s);

typedef struct qd_sensitivity_options {
    const qd_storage *formats;
    int n_formats;
    const qd_storage *estimates; /* formats whose cost is derived from what was measured; may be NULL */
    int n_estimates;
    const int32_t *tokens; /* at least 2, and no more than the model's context */
    int64_t count;
    int threads; /* that quantize; 0: as many as there are processors */
    /** Parts that are to be measured now, by their names; NULL: all. */
    bool (*want)(void *user, const char *name);
    /** Before each measurement; false cancels. May be NULL. */
    bool (*progress)(void *user, const qd_sensitivity_part *part, const qd_storage *to, int64_t done, int64_t total);
    /** Now and then while one goes on; true cancels. May be NULL. */
    bool (*stopped)(void *user);
    void *user;
} qd_sensitivity_options;

/** Measures every part in every format that its rows fit into, but for what was measured already. Then estimates, for
 *  each part of which something was measured: near the model's own weights the divergence grows as the squared error of
 *  the weights (its gradient is 0 there: LeCun et al., Optimal Brain Damage, 1990), so that of the measured format
 * whose error is nearest is scaled by the ratio of both; a part that lost nothing measurable has no estimates. The
 * model `m` of the file `g` has its own weights again afterwards. QD_ERR_ARGUMENT: too few tokens or too many, another
 * text or model than before, no format fits anything. QD_ERR_CANCELLED: progress or stopped said so; what was measured
 * stays, and the next call goes on there. The cost of each is a pass over the tokens; of a model loaded with
 * `keep_layers` only from the part's layer on, which gives the same figures. Logits are computed with float activations
 * where the model was loaded so. Sources: Cai et al., ZeroQ (2020) for the divergence as the measure; Dong et al., HAWQ
 * (2019) for one layer at a time. */
QD_API qd_status qd_sensitivity_measure(qd_sensitivity *s, qd_model *m, const qd_gguf *g,
                                        const qd_sensitivity_options *o);

/** Writes it as JSON; the file is there whole or not at all. */
QD_API qd_status qd_sensitivity_write(const qd_sensitivity *s, const char *path);
/** Reads it back. QD_ERR_IO; QD_ERR_FILE: the file is damaged, or something else. */
QD_API qd_status qd_sensitivity_read(const char *path, qd_sensitivity **out);
/** Refuses a model that it was not measured with: QD_ERR_ARGUMENT. The model's vectors, which no format changes, are
 *  its mark. */
QD_API qd_status qd_sensitivity_check(const qd_sensitivity *s, const qd_gguf *g);
/** What a part had in this format; NULL: it was not measured. */
QD_API const qd_sensitivity_result *qd_sensitivity_find(const qd_sensitivity_part *p, const qd_storage *to);
/** Weights of a part. */
QD_API double qd_sensitivity_weights(const qd_sensitivity_part *p);

/* ---- Mixed precision ---------------------------------------------------------------------------------------- */

/** One way of storing a part. */
typedef struct qd_mix_option {
    double bytes; /* a whole number, at least 0 */
    double cost;  /* finite */
} qd_mix_option;

/** Chooses one option of every part: option[i] has count[i] of them, chosen[i] becomes the index of one.
 *  The costs of parts are taken to add up: what one part costs does not depend on the others (Cai et al., ZeroQ, 2020).
 *  qd_mix_cheapest: the least cost with at most `most_bytes`; QD_ERR_LIMIT: even the smallest options are larger.
 *  qd_mix_smallest: the fewest bytes with a cost of at most `most_cost`; QD_ERR_LIMIT: even the best options cost more.
 *  Both by dynamic programming over sizes, which is exact while all sizes together are few multiples of their greatest
 *  common divisor (about 2^26 divided by the number of parts); else sizes are rounded up in it, the limit still holds,
 *  and what rounding left is filled up greedily. Source: Dudzinski, Walukiewicz, Exact methods for the knapsack problem
 *  and its generalizations (1987): the multiple-choice knapsack problem. At most 255 options each. */
QD_API qd_status qd_mix_cheapest(const qd_mix_option *const option[], const int count[], int parts, double most_bytes,
                                 int chosen[]);
QD_API qd_status qd_mix_smallest(const qd_mix_option *const option[], const int count[], int parts, double most_cost,
                                 int chosen[]);

#ifdef __cplusplus
}
#endif
#endif
