/* What `qdot compare` measures of two models. */
#ifndef QDOT_CLI_COMPARE_H
#define QDOT_CLI_COMPARE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/** The first of the largest. */
int64_t qd_compare_top(const float *logits, int64_t vocab);

typedef struct qd_compare_model {
    const char *path, *name;
    double bytes, device_bytes, load_seconds;
    double prompt_rate, generate_rate; /* tokens per second */
    double nll, squares;               /* sums over the scored tokens */
} qd_compare_model;

typedef struct qd_compare_report {
    qd_compare_model model[2];
    const char *text, *device;
    int64_t window;
    size_t tokens, scored;    /* of the text; with a token before them in their window */
    size_t positions, agreed; /* of logits; with the same likeliest token */
    double divergence, divergence_squares, divergence_most;
    int64_t generated;    /* tokens that each went on with, the likeliest ones, after the text's first 128 */
    double rouge_l, bleu; /* of B's against A's: see text_scores.h */
} qd_compare_report;

double qd_compare_perplexity(const qd_compare_report *r, int i);
/** Standard error of the perplexity, and of the mean divergence. */
double qd_compare_perplexity_error(const qd_compare_report *r, int i);
double qd_compare_divergence_error(const qd_compare_report *r);

void qd_compare_print(const qd_compare_report *r);
/** One self-contained page. */
void qd_compare_html(const qd_compare_report *r, FILE *f);

#endif
