/* Parses arbitrary bytes as a safetensors file and, where that succeeds, reads all tensors' data, and every layer of
 * GPTQ or AWQ. See README.md beside this file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qdot/qdot_safetensors.h"

static volatile unsigned sink;

static void require(int condition) {
    if (!condition) abort();
}

static void touch(const qd_safetensor *t) {
    unsigned sum = 0;
    for (size_t i = 0; i < t->bytes; i++)
        sum += ((const unsigned char *)t->data)[i];
    sink = sum;
}

static void read_layer(const qd_safetensors *s, const char *name) {
    char base[256];
    const size_t size = strlen(name);
    if (size < 9 || size > 255 || strcmp(name + size - 8, ".qweight") != 0) return;
    snprintf(base, sizeof base, "%.*s", (int)(size - 8), name);
    qd_grouped g = {0}, shape = {0};
    qd_grouped_layout layout;
    const qd_status measured = qd_grouped_measure(s, base, &shape, &layout);
    const qd_status status = qd_grouped_read(s, base, &g, &layout);
    require(status == QD_ERR_MEMORY || (status == QD_OK) == (measured == QD_OK) || status == QD_ERR_ARGUMENT);
    if (status == QD_OK) {
        float *values = malloc((size_t)(g.rows * g.cols) * sizeof *values);
        require(values != NULL && g.rows == shape.rows && g.cols == shape.cols && g.group == shape.group);
        qd_grouped_values(&g, values);
        free(values);
    }
    qd_grouped_free(&g);
    qd_grouped_free(&shape);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    qd_safetensors *s = NULL;
    const qd_status status = qd_safetensors_parse(data, size, &s);
    if (status != QD_OK) {
        require((status == QD_ERR_FILE || status == QD_ERR_MEMORY) && s == NULL);
        return 0;
    }
    for (int64_t i = 0; i < qd_safetensors_count(s); i++) {
        const qd_safetensor *t = qd_safetensors_at(s, i);
        require(t && qd_safetensors_find(s, t->name) == t);
        touch(t);
        read_layer(s, t->name);
    }
    require(qd_safetensors_at(s, qd_safetensors_count(s)) == NULL);
    qd_safetensors_free(s);
    return 0;
}
