/* Builds GGUF images in memory, right or wrong ones (nothing is checked while building), and parses them in tests. */
#ifndef QDOT_TESTS_GGUF_IMAGE_H
#define QDOT_TESTS_GGUF_IMAGE_H

#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "qdot/qdot.h"

typedef struct image {
    uint8_t *bytes; /* malloc's; free with image_free */
    size_t size, capacity;
} image;

static inline void image_free(image *m) {
    free(m->bytes);
    *m = (image){0};
}

static inline void put_bytes(image *m, const void *bytes, size_t size) {
    if (m->size + size > m->capacity) {
        m->capacity = 2 * (m->size + size);
        m->bytes = realloc(m->bytes, m->capacity);
        if (!m->bytes) abort();
    }
    if (size) memcpy(m->bytes + m->size, bytes, size);
    m->size += size;
}

/* The low `bytes` bytes of x, little endian. */
static inline void put(image *m, uint64_t x, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        put_bytes(m, &(uint8_t){(uint8_t)(x >> (8 * i))}, 1);
}

static inline void put_f32(image *m, float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    put(m, bits, 4);
}

static inline void put_f64(image *m, double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    put(m, bits, 8);
}

static inline void put_sized(image *m, const char *text, size_t size) {
    put(m, size, 8);
    put_bytes(m, text, size);
}

static inline void put_string(image *m, const char *text) {
    put_sized(m, text, strlen(text));
}

static inline void put_header(image *m, uint32_t version, uint64_t tensors, uint64_t values) {
    put_bytes(m, "GGUF", 4);
    put(m, version, 4);
    put(m, tensors, 8);
    put(m, values, 8);
}

/* A key and its type; the value is to follow. */
static inline void put_key(image *m, const char *key, qd_gguf_type type) {
    put_string(m, key);
    put(m, type, 4);
}

/* A key and the head of its array; the items are to follow. */
static inline void put_array(image *m, const char *key, qd_gguf_type item_type, uint64_t count) {
    put_key(m, key, QD_GGUF_ARRAY);
    put(m, item_type, 4);
    put(m, count, 8);
}

static inline void put_u32_value(image *m, const char *key, uint32_t x) {
    put_key(m, key, QD_GGUF_U32);
    put(m, x, 4);
}

/* A tensor's entry; dimensions innermost first, as in the file. */
static inline void put_tensor(image *m, const char *name, uint32_t rank, const uint64_t *dims, uint32_t type,
                              uint64_t offset) {
    put_string(m, name);
    put(m, rank, 4);
    for (uint32_t i = 0; i < rank; i++)
        put(m, dims[i], 8);
    put(m, type, 4);
    put(m, offset, 8);
}

/* Zeros up to a multiple of `alignment`: the start of the data section. */
static inline void pad(image *m, size_t alignment) {
    while (m->size % alignment)
        put(m, 0, 1);
}

/* ---- Whole files -------------------------------------------------------------------------------------------- */

enum { TYPE_F32 = 0, TYPE_F16 = 1, TYPE_Q4_1 = 3, TYPE_UNKNOWN = 16 };

/* One value of every type and one array of every item type, in the order of the numbers of qd_gguf_type. */
static inline void put_values(image *m) {
    put_key(m, "u8", QD_GGUF_U8), put(m, 0xFF, 1);
    put_key(m, "i8", QD_GGUF_I8), put(m, 0x80, 1);
    put_key(m, "u16", QD_GGUF_U16), put(m, 0xFFFF, 2);
    put_key(m, "i16", QD_GGUF_I16), put(m, 0x8000, 2);
    put_key(m, "u32", QD_GGUF_U32), put(m, UINT32_MAX, 4);
    put_key(m, "i32", QD_GGUF_I32), put(m, UINT64_C(0x80000000), 4);
    put_key(m, "f32", QD_GGUF_F32), put_f32(m, -1.5f);
    put_key(m, "bool", QD_GGUF_BOOL), put(m, 1, 1);
    put_key(m, "string", QD_GGUF_STRING), put_string(m, "gr\xc3\xbcn");
    put_array(m, "array", QD_GGUF_STRING, 3), put_string(m, "a"), put_string(m, ""), put_sized(m, "b\0c\xff", 4);
    put_key(m, "u64", QD_GGUF_U64), put(m, INT64_MAX, 8);
    put_key(m, "i64", QD_GGUF_I64), put(m, UINT64_C(1) << 63, 8);
    put_key(m, "f64", QD_GGUF_F64), put_f64(m, 1e-300);
    put_array(m, "u8s", QD_GGUF_U8, 3), put(m, 0x0302FF, 3);
    put_array(m, "i8s", QD_GGUF_I8, 3), put(m, 0x7F02FF, 3);
    put_array(m, "i16s", QD_GGUF_I16, 2), put(m, 0x7FFF, 2), put(m, 0xFFFE, 2);
    put_array(m, "i32s", QD_GGUF_I32, 2), put(m, 5, 4), put(m, UINT32_MAX, 4);
    put_array(m, "f32s", QD_GGUF_F32, 2), put_f32(m, 0.25f), put_f32(m, (float)INFINITY);
    put_array(m, "bools", QD_GGUF_BOOL, 2), put(m, 0x0001, 2);
    put_array(m, "f64s", QD_GGUF_F64, 2), put_f64(m, 0.1), put_f64(m, -2);
    put_array(m, "none", QD_GGUF_U64, 0);
}
enum { VALUES = 21 };

/* Four tensors: f32 [3,2], q4_1 [2,64] sharing its bytes with f16 [40], and one of an unknown type. The image
 * ends with the last byte of known tensors, so that no prefix of it is a valid file. */
static inline image sample(uint32_t version) {
    image m = {0};
    put_header(&m, version, 4, VALUES);
    put_values(&m);
    put_tensor(&m, "plain", 2, (uint64_t[]){2, 3}, TYPE_F32, 0);
    put_tensor(&m, "blocks", 2, (uint64_t[]){64, 2}, TYPE_Q4_1, 32);
    put_tensor(&m, "shared", 1, (uint64_t[]){40}, TYPE_F16, 32);
    put_tensor(&m, "strange", 3, (uint64_t[]){7, 5, 3}, TYPE_UNKNOWN, 64);
    pad(&m, 32);
    for (int i = 0; i < 32 + 2 * 2 * 20; i++)
        put(&m, (uint64_t)i, 1);
    return m;
}

/* ---- Parsing in tests ---------------------------------------------------------------------------------------- */

#define EXPECT_STATUS(call, expected, text)                                                                     \
    do {                                                                                                        \
        ck_assert_int_eq((call), (expected));                                                                   \
        ck_assert_msg(strstr(qd_last_message(), (text)), "message '%s' lacks '%s'", qd_last_message(), (text)); \
    } while (0)

/* Parses a copy that ends exactly at its memory's end, so that a sanitizer sees every byte read beyond it. */
static inline qd_status parse_copy(const uint8_t *bytes, size_t size, uint8_t **copy, qd_gguf **g) {
    *copy = malloc(size ? size : 1);
    ck_assert_ptr_nonnull(*copy);
    if (size) memcpy(*copy, bytes, size);
    return qd_gguf_parse(*copy, size, g);
}

static inline qd_gguf *expect_good(const image *m) {
    qd_gguf *g = NULL;
    qd_status s = qd_gguf_parse(m->bytes, m->size, &g);
    ck_assert_msg(s == QD_OK, "%s", qd_last_message());
    return g;
}

/* Reads all that a file offers. */
static inline uint64_t walk(const qd_gguf *g) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < qd_gguf_value_count(g); i++) {
        qd_gguf_value v;
        ck_assert_int_eq(qd_gguf_value_at(g, i, &v), QD_OK);
        for (uint64_t item = 0; item < v.count; item++) {
            qd_string s;
            int64_t n = 0;
            double x = 0;
            if (qd_gguf_get_string(g, &v, item, &s) == QD_OK) {
                for (size_t k = 0; k < s.size; k++)
                    sum += (uint8_t)s.data[k];
            } else if (qd_gguf_get_int(g, &v, item, &n) == QD_OK) {
                sum += (uint64_t)n;
            } else {
                ck_assert(qd_gguf_get_double(g, &v, item, &x) == QD_OK || v.item_type == QD_GGUF_U64);
            }
        }
    }
    for (uint64_t i = 0; i < qd_gguf_tensor_count(g); i++) {
        qd_gguf_tensor t;
        ck_assert_int_eq(qd_gguf_tensor_at(g, i, &t), QD_OK);
        for (size_t k = 0; k < t.bytes; k++)
            sum += ((const uint8_t *)t.data)[k];
    }
    return sum;
}

#endif
