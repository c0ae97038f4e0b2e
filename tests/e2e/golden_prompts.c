#include "e2e/golden_prompts.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char path[] = "tests/golden/smollm2-135m-instruct-q4_1.json";

/* Appends an array's numbers at out[*count]; false when it is none or too long. */
static bool append(const cJSON *prompt, const char *name, double *out, int *count) {
    const cJSON *array = cJSON_GetObjectItem(prompt, name), *item;
    if (!cJSON_IsArray(array) || *count + cJSON_GetArraySize(array) > GOLDEN_TOKENS) return false;
    cJSON_ArrayForEach(item, array) {
        if (!cJSON_IsNumber(item)) return false;
        out[(*count)++] = item->valuedouble;
    }
    return true;
}

static bool read_prompt(const cJSON *json, golden_prompt *p) {
    const cJSON *text = cJSON_GetObjectItem(json, "prompt");
    double tokens[GOLDEN_TOKENS];
    int all = 0, n_nll = 1, n_gap;
    if (!cJSON_IsString(text) || strlen(text->valuestring) >= sizeof p->text) return false;
    strcpy(p->text, text->valuestring);
    if (!append(json, "tokens", tokens, &all)) return false;
    p->count = n_gap = all;
    if (!append(json, "greedy", tokens, &all)) return false;
    p->continued = all - p->count;
    for (int i = 0; i < all; i++)
        p->tokens[i] = (int32_t)tokens[i];
    return append(json, "nll", p->nll, &n_nll) && append(json, "greedy_gap", p->gap, &n_gap) && n_nll == p->count &&
           n_gap == all && p->count > 0 && p->continued > 0;
}

bool golden_read(golden_prompt out[GOLDEN_PROMPTS]) {
    static char text[1 << 17];
    FILE *f = fopen(path, "rb");
    const size_t size = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    text[size] = 0;
    cJSON *json = cJSON_Parse(text);
    bool good = cJSON_IsArray(json) && cJSON_GetArraySize(json) == GOLDEN_PROMPTS;
    for (int i = 0; good && i < GOLDEN_PROMPTS; i++)
        good = read_prompt(cJSON_GetArrayItem(json, i), &out[i]);
    cJSON_Delete(json);
    if (!good) printf("%s is not what it should be\n", path);
    return good;
}

const char *golden_model(void) {
    const char *model = getenv("QDOT_TEST_MODEL");
    if (model && *model) return model;
    printf("skipped: QDOT_TEST_MODEL names no model (sh host/fetch_model.sh)\n");
    return NULL;
}
