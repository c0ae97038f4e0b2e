/* Prompts with what another implementation computed for them, and the model that they belong to. */
#ifndef QDOT_TESTS_GOLDEN_PROMPTS_H
#define QDOT_TESTS_GOLDEN_PROMPTS_H

#include <stdbool.h>
#include <stdint.h>

#include "qdot/qdot.h"

enum { GOLDEN_PROMPTS = 5, GOLDEN_TOKENS = 64, GOLDEN_SKIP = 77 };

typedef struct golden_prompt {
    char text[256];
    int count, continued;          /* tokens of the prompt, and greedy ones after it */
    int32_t tokens[GOLDEN_TOKENS]; /* both, in turn */
    double nll[GOLDEN_TOKENS];     /* nll[i] of tokens[i] after those before it, 1 <= i < count */
    double gap[GOLDEN_TOKENS];     /* gap[i], i >= count: by how much tokens[i] was the most likely (logits) */
} golden_prompt;

/** Reads tests/golden/smollm2-135m-instruct-q4_1.json (the working directory is the repository's root). On failure says
 *  why and returns false. */
bool golden_read(golden_prompt out[GOLDEN_PROMPTS]);

/** Path of the model, or NULL after saying that the test is skipped. */
const char *golden_model(void);

#endif
