/* What the GGUF reader's files share: gguf_parse.c fills a qd_gguf, gguf.c answers questions about it. */
#ifndef QDOT_MODEL_GGUF_H
#define QDOT_MODEL_GGUF_H

#include "qdot/qdot.h"

/* In both entries the name comes first, so that a pointer to the name is a pointer to the entry: the sorted indexes
 * hold such pointers, and one sort and one search serve values and tensors. */

typedef struct gguf_value {
    qd_gguf_value v;      /* key first */
    const uint8_t *items; /* in the file, unaligned: the first item; for strings, its length field */
    uint64_t *offsets;    /* arrays of strings: bytes from `items` to each item's length field; else NULL */
} gguf_value;

typedef struct gguf_tensor {
    qd_gguf_tensor t; /* name first */
    uint64_t offset;  /* of the data, from the start of the data section */
} gguf_tensor;

struct qd_gguf {
    const uint8_t *data;
    size_t size;
    bool mapped; /* `data` is ours to unmap */
    uint32_t version;
    gguf_value *values; /* in file order */
    size_t value_count;
    gguf_tensor *tensors; /* in file order */
    size_t tensor_count;
    const qd_string **value_index; /* sorted by key */
    const qd_string **tensor_index;
};

/** Reads and checks everything in g->data[0 … g->size) and fills the other members. On failure g holds what was made so
 *  far, to be freed with qd_gguf_free. */
qd_status qd_gguf_read(qd_gguf *g);

/** Maps a whole regular file for reading. An empty one gives *data NULL and *bytes 0. `what`: what the path should be,
 *  for messages: "a .gguf model". QD_ERR_IO. */
qd_status qd_map_file(const char *path, const char *what, const void **data, size_t *bytes);
void qd_unmap_file(const void *data, size_t bytes);

/** Lets the pages of a mapped file leave memory; they come back when they are read. For who has copied what it needs.
 */
void qd_gguf_cool(const qd_gguf *g);

/* Names around a coded tensor NAME: FORMATS.md, "Coded tensors in GGUF files". */
#define QD_GGUF_CODING_PREFIX "qdot.coding."
#define QD_GGUF_COLUMNS_PREFIX "qdot.columns."
#define QD_GGUF_SIDE_SUFFIX ".side"
#define QD_GGUF_OUTLIER_COLUMNS_SUFFIX ".columns"
#define QD_GGUF_OUTLIERS_SUFFIX ".outliers"
#define QD_GGUF_INPUT_SCALE_PREFIX "qdot.input_scale."
#define QD_GGUF_INPUT_ZERO_PREFIX "qdot.input_zero."
enum { QD_GGUF_CODED_KEY = 160 };

/** Writes prefix and name; false when they are too long, as no coded tensor's are. */
bool qd_gguf_coded_key(const char *prefix, const char *name, char key[QD_GGUF_CODED_KEY]);

/** Finds a name in a sorted index; NULL when it is not there. */
const qd_string *qd_gguf_index_find(const qd_string *const *index, size_t count, qd_string name);

/** Bytes of one item of a type; 0 for strings and arrays. */
size_t qd_gguf_type_bytes(qd_gguf_type t);

/** Little-endian number of `bytes` (at most 8) bytes at any address. */
static inline uint64_t qd_gguf_little(const uint8_t *p, size_t bytes) {
    uint64_t x = 0;
    for (size_t i = 0; i < bytes; i++)
        x |= (uint64_t)p[i] << (8 * i);
    return x;
}

/** Bytes of a name to show in a message ("%.*s"): a long one is cut between characters. */
static inline int qd_gguf_shown(qd_string s) {
    size_t n = s.size;
    if (n > 80) {
        n = 80;
        while (n > 0 && ((unsigned char)s.data[n] & 0xC0) == 0x80)
            n--;
    }
    return (int)n;
}

#endif
