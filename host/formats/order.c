/* Bit orders: each is a place in the packed bits for every code. */
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "qdot/qdot_packing.h"

static const struct {
    const char *name;
    unsigned bits; /* mask of the numbers of bits */
} orders[QD_PACKING_COUNT] = {
#define ORDER(ID, name, bits) {name, bits},
    QD_PACKINGS(ORDER)
#undef ORDER
};

const char *qd_packing_name(qd_packing p) {
    return (unsigned)p < QD_PACKING_COUNT ? orders[p].name : NULL;
}

qd_status qd_packing_find(const char *name, qd_packing *out) {
    static const struct {
        const char *name;
        qd_packing packing;
    } others[] = {{"onnx", QD_PACKING_LOW_FIRST},
                  {"gptq", QD_PACKING_LOW_FIRST},
                  {"bitsandbytes", QD_PACKING_HIGH_FIRST},
                  {"ggml", QD_PACKING_HALVES}};
    static const char names[] = ""
#define ORDER(ID, name, bits) name " "
        QD_PACKINGS(ORDER)
#undef ORDER
            "onnx gptq bitsandbytes ggml";
    for (int i = 0; name && out && i < QD_PACKING_COUNT; i++) {
        if (strcmp(orders[i].name, name) != 0) continue;
        *out = (qd_packing)i;
        return QD_OK;
    }
    for (size_t i = 0; name && out && i < sizeof others / sizeof others[0]; i++) {
        if (strcmp(others[i].name, name) != 0) continue;
        *out = others[i].packing;
        return QD_OK;
    }
    return qd_fail(QD_ERR_ARGUMENT, "no bit order \"%.32s\"; there are %s", name ? name : "", names);
}

/* ---- Streams ------------------------------------------------------------------------------------------------ */

/* The lowest bit of code i in the packed bits. Of HALVES that of its low four bits. */
static inline int64_t place(qd_packing p, int bits, int64_t i) {
    const int64_t bit = i * bits;
    switch (p) {
        case QD_PACKING_HIGH_FIRST:
            return bit / 8 * 8 + 8 - bits - bit % 8;
        case QD_PACKING_HALVES:
            return i / 32 * 32 * bits + (bits - 4) * 32 + i % 16 * 8 + i % 32 / 16 * 4;
        case QD_PACKING_AWQ:
            return i / 8 * 32 + (i % 2 * 4 + i % 8 / 2) * 4;
        default:
            return bit;
    }
}

/* The bit that holds a code's highest one apart from the others: HALVES of 5 bits. */
static inline int64_t fifth_bit(int64_t i) {
    return i / 32 * 160 + i % 32;
}

static inline void put(uint8_t *p, int64_t bit, int bits, unsigned code) {
    const unsigned both = code << bit % 8;
    p[bit / 8] |= (uint8_t)both;
    if (bit % 8 + bits > 8) p[bit / 8 + 1] |= (uint8_t)(both >> 8);
}

static inline unsigned get(const uint8_t *p, int64_t bit, int bits) {
    unsigned both = p[bit / 8];
    if (bit % 8 + bits > 8) both |= (unsigned)p[bit / 8 + 1] << 8;
    return both >> bit % 8 & ((1u << bits) - 1);
}

size_t qd_packed_bytes(qd_packing p, int bits, int64_t n) {
    if ((unsigned)p >= QD_PACKING_COUNT || bits < 1 || bits > 8 || !(orders[p].bits >> bits & 1)) return 0;
    const int64_t block = p == QD_PACKING_HALVES ? 32 : p == QD_PACKING_AWQ ? 8 : 1;
    if (n < 1 || n > INT64_MAX / 8 || n % block) return 0;
    return (size_t)((n * bits + 7) / 8);
}

/* The bytes of n codes, which must be there. */
static qd_status check(const char *what, qd_packing p, int bits, int64_t n, bool pointers, size_t *bytes) {
    *bytes = qd_packed_bytes(p, bits, n);
    if (!*bytes) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: %lld codes of %d bits do not exist in the order %s", what, (long long)n,
                       bits, qd_packing_name(p) ? qd_packing_name(p) : "?");
    }
    return pointers ? QD_OK : qd_fail(QD_ERR_ARGUMENT, "%s: no pointer may be NULL", what);
}

static void pack(qd_packing p, int bits, const uint8_t *codes, int64_t n, uint8_t *dst) {
    const bool apart = p == QD_PACKING_HALVES && bits == 5;
    const int together = apart ? 4 : bits;
    for (int64_t i = 0; i < n; i++) {
        put(dst, place(p, bits, i), together, codes[i] & ((1u << together) - 1));
        if (apart) put(dst, fifth_bit(i), 1, codes[i] >> 4 & 1);
    }
}

static void unpack(qd_packing p, int bits, const uint8_t *src, int64_t n, uint8_t *codes) {
    const bool apart = p == QD_PACKING_HALVES && bits == 5;
    const int together = apart ? 4 : bits;
    for (int64_t i = 0; i < n; i++) {
        codes[i] = (uint8_t)get(src, place(p, bits, i), together);
        if (apart) codes[i] |= (uint8_t)(get(src, fifth_bit(i), 1) << 4);
    }
}

qd_status qd_pack(qd_packing p, int bits, const uint8_t *codes, int64_t n, void *dst) {
    size_t bytes;
    const qd_status status = check("qd_pack", p, bits, n, codes && dst, &bytes);
    if (status != QD_OK) return status;
    memset(dst, 0, bytes);
    pack(p, bits, codes, n, dst);
    return QD_OK;
}

qd_status qd_unpack(qd_packing p, int bits, const void *src, int64_t n, uint8_t *codes) {
    size_t bytes;
    const qd_status status = check("qd_unpack", p, bits, n, src && codes, &bytes);
    if (status == QD_OK) unpack(p, bits, src, n, codes);
    return status;
}

qd_status qd_repack(qd_packing from, qd_packing to, int bits, const void *src, int64_t n, void *dst) {
    enum { PART = 1024 }; /* codes: whole blocks and whole bytes of every order */
    size_t bytes;
    qd_status status = check("qd_repack", from, bits, n, src && dst, &bytes);
    if (status == QD_OK) status = check("qd_repack", to, bits, n, true, &bytes);
    if (status != QD_OK) return status;
    memset(dst, 0, bytes);
    for (int64_t i = 0; i < n; i += PART) {
        uint8_t codes[PART];
        const int64_t here = n - i < PART ? n - i : PART, at = i * bits / 8;
        unpack(from, bits, (const uint8_t *)src + at, here, codes);
        pack(to, bits, codes, here, (uint8_t *)dst + at);
    }
    return QD_OK;
}

/* ---- Words -------------------------------------------------------------------------------------------------- */

static uint32_t word_at(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* A line of codes along the packed axis, and its words: where they lie in their matrices. */
typedef struct lines {
    int64_t count, codes, words;               /* lines, codes and words of one */
    int64_t line, code_step, first, word_step; /* first elements of lines are `line` or `first` apart */
    uint8_t *code, *bytes;                     /* of one line: memory of the caller */
} lines;

static qd_status find_lines(const char *what, qd_packing p, int bits, int axis, int64_t rows, int64_t cols,
                            bool pointers, lines *l) {
    int64_t count;
    size_t bytes;
    if ((axis != 0 && axis != 1) || rows < 1 || cols < 1 || __builtin_mul_overflow(rows, cols, &count) ||
        (p != QD_PACKING_LOW_FIRST && p != QD_PACKING_AWQ)) {
        return qd_fail(QD_ERR_ARGUMENT, "%s: %lld rows of %lld columns along axis %d in the order %s", what,
                       (long long)rows, (long long)cols, axis, qd_packing_name(p) ? qd_packing_name(p) : "?");
    }
    const qd_status status = check(what, p, bits, axis == 0 ? rows : cols, pointers, &bytes);
    if (status != QD_OK) return status;
    l->codes = axis == 0 ? rows : cols;
    l->count = axis == 0 ? cols : rows;
    l->words = (int64_t)(bytes + 3) / 4;
    l->line = axis == 0 ? 1 : cols;
    l->code_step = axis == 0 ? cols : 1;
    l->first = axis == 0 ? 1 : l->words;
    l->word_step = axis == 0 ? cols : 1;
    l->code = qd_alloc((size_t)(l->codes + 4 * l->words));
    if (!l->code) return QD_ERR_MEMORY;
    l->bytes = l->code + l->codes;
    return QD_OK;
}

qd_status qd_pack_words(qd_packing p, int bits, int axis, const uint8_t *codes, int64_t rows, int64_t cols,
                        uint32_t *words) {
    lines l;
    const qd_status status = find_lines("qd_pack_words", p, bits, axis, rows, cols, codes && words, &l);
    if (status != QD_OK) return status;
    for (int64_t i = 0; i < l.count; i++) {
        for (int64_t j = 0; j < l.codes; j++)
            l.code[j] = codes[i * l.line + j * l.code_step];
        memset(l.bytes, 0, (size_t)(4 * l.words));
        pack(p, bits, l.code, l.codes, l.bytes);
        for (int64_t j = 0; j < l.words; j++)
            words[i * l.first + j * l.word_step] = word_at(l.bytes + 4 * j);
    }
    free(l.code);
    return QD_OK;
}

qd_status qd_unpack_words(qd_packing p, int bits, int axis, const uint32_t *words, int64_t rows, int64_t cols,
                          uint8_t *codes) {
    lines l;
    const qd_status status = find_lines("qd_unpack_words", p, bits, axis, rows, cols, codes && words, &l);
    if (status != QD_OK) return status;
    for (int64_t i = 0; i < l.count; i++) {
        for (int64_t j = 0; j < 4 * l.words; j++)
            l.bytes[j] = (uint8_t)(words[i * l.first + j / 4 * l.word_step] >> j % 4 * 8);
        unpack(p, bits, l.bytes, l.codes, l.code);
        for (int64_t j = 0; j < l.codes; j++)
            codes[i * l.line + j * l.code_step] = l.code[j];
    }
    free(l.code);
    return QD_OK;
}
