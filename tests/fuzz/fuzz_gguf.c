/* Parses arbitrary bytes as a GGUF file and, where that succeeds, reads everything in it: all items of all values, by
 * every getter, all tensors' data, and every name through the lookups. See README.md beside this file. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "qdot/qdot.h"

/* Where the bytes read go, so that the compiler keeps the reads. */
static volatile unsigned sink;

static void touch(const void *data, size_t size) {
    const unsigned char *p = data;
    unsigned sum = 0;
    for (size_t i = 0; i < size; i++)
        sum += p[i];
    sink = sum;
}

static void require(int condition) {
    if (!condition) abort();
}

static void walk_value(const qd_gguf *g, const qd_gguf_value *v) {
    /* Bounded, because three questions per item are slow under sanitizers; the last items are the risky ones. */
    for (uint64_t n = 0; n < 4096 && n < v->count; n++) {
        uint64_t item = n % 2 ? v->count - 1 - n / 2 : n / 2;
        int64_t whole;
        double x;
        qd_string s;
        int answers = 0;
        answers += qd_gguf_get_int(g, v, item, &whole) == QD_OK;
        answers += qd_gguf_get_double(g, v, item, &x) == QD_OK;
        if (qd_gguf_get_string(g, v, item, &s) == QD_OK) {
            touch(s.data, s.size);
            answers++;
        }
        require(answers > 0);
    }
    int64_t beyond;
    require(qd_gguf_get_int(g, v, v->count, &beyond) == QD_ERR_FILE);
}

/* The same name as a C string, for the lookups. Names have no zero bytes. */
static char *c_string(qd_string s) {
    char *text = malloc(s.size + 1);
    require(text != NULL);
    memcpy(text, s.data, s.size);
    text[s.size] = 0;
    require(strlen(text) == s.size);
    return text;
}

static void walk(const qd_gguf *g) {
    for (uint64_t i = 0; i < qd_gguf_value_count(g); i++) {
        qd_gguf_value v, found;
        require(qd_gguf_value_at(g, i, &v) == QD_OK);
        char *key = c_string(v.key);
        require(qd_gguf_find(g, key, &found) == QD_OK && found.key.data == v.key.data);
        free(key);
        walk_value(g, &v);
    }
    for (uint64_t i = 0; i < qd_gguf_tensor_count(g); i++) {
        qd_gguf_tensor t, found;
        require(qd_gguf_tensor_at(g, i, &t) == QD_OK);
        char *name = c_string(t.name);
        require(qd_gguf_tensor_find(g, name, &found) == QD_OK && found.name.data == t.name.data);
        free(name);
        require((t.data != NULL) == (t.desc.format != QD_FORMAT_COUNT));
        require((uintptr_t)t.data % 8 == 0);
        touch(t.data, t.bytes);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    qd_gguf *g = NULL;
    qd_status status = qd_gguf_parse(data, size, &g);
    if (status == QD_OK) {
        walk(g);
    } else {
        require(status == QD_ERR_FILE && g == NULL && strncmp(qd_last_message(), "GGUF: ", 6) == 0);
    }
    qd_gguf_free(g);
    return 0;
}
