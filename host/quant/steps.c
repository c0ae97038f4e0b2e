/* The step of stored weights: the mean distance between neighbouring values that a block can hold. It is found through
 * the format's own decoder, so that no second place knows how scales are stored: the codes of a copy are set to the
 * lowest, then to the highest one. */
#include <math.h>
#include <string.h>

#include "formats/coding.h"
#include "quant/steps.h"

/* Where the codes of a block stand, and the bytes that hold its lowest and its highest ones. */
static const struct {
    const char *format;
    size_t first, end;
    unsigned char low, high;
    int levels;
} blocks[] = {
    {"q8_0", 2, 34, 0x81, 0x7f, 254}, {"q4_0", 2, 18, 0x00, 0xff, 15},   {"q4_1", 4, 20, 0x00, 0xff, 15},
    {"q5_0", 2, 22, 0x00, 0xff, 31},  {"q5_1", 4, 24, 0x00, 0xff, 31},   {"q2_k", 16, 80, 0x00, 0xff, 3},
    {"q3_k", 0, 96, 0x00, 0xff, 7},   {"q4_k", 16, 144, 0x00, 0xff, 15}, {"q5_k", 16, 176, 0x00, 0xff, 31},
    {"q6_k", 0, 192, 0x00, 0xff, 63}, {"iq4_nl", 2, 18, 0x00, 0xff, 15}, {"iq4_xs", 8, 136, 0x00, 0xff, 15},
    {"mxfp4", 1, 17, 0xff, 0x77, 14}, /* two codes are 0 */
};

static quant_steps steps_of_format(const qd_storage *s, int64_t cols) {
    quant_steps q = {.storage = *s, .cols = cols, .row_bytes = qd_format_row_bytes(s->format, cols)};
    const qd_format_info *f = qd_format_get(s->format);
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        if (strcmp(blocks[i].format, f->name)) continue;
        q.any = true;
        q.block_bytes = (size_t)f->bytes;
        q.first = blocks[i].first;
        q.end = blocks[i].end;
        q.bits = 8;
        q.lowest = blocks[i].low;
        q.highest = blocks[i].high;
        q.levels = blocks[i].levels;
    }
    return q;
}

/* Codes of the least and the greatest value of a table. */
static void table_ends(const float *table, int bits, int *lowest, int *highest) {
    *lowest = *highest = 0;
    for (int i = 1; i < 1 << bits; i++) {
        if (table[i] < table[*lowest]) *lowest = i;
        if (table[i] > table[*highest]) *highest = i;
    }
}

static quant_steps steps_of_coding(const qd_storage *s, int64_t rows, int64_t cols, const float *side) {
    quant_steps q = {.storage = *s, .cols = cols, .row_bytes = qd_coding_row_bytes(&s->coding, cols)};
    const qd_coding *c = &s->coding;
    qd_coded_params p;
    if (qd_coding_layout(c, rows, cols, &p) != QD_OK) return q;
    q.block_bytes = q.end = q.row_bytes;
    q.first = (size_t)p.codes_at;
    q.bits = c->bits;
    if (c->kind == QD_CODING_UNIFORM) {
        q.any = true;
        q.lowest = c->lowest;
        q.highest = c->highest;
        q.levels = c->highest - c->lowest;
    } else if (c->kind == QD_CODING_TABLE) {
        q.any = true;
        q.levels = (1 << c->bits) - 1;
        q.own_table = c->per_row;
        if (!q.own_table) table_ends(side + p.table_at, c->bits, &q.lowest, &q.highest);
    }
    return q;
}

quant_steps qd_steps_of(const qd_storage *s, int64_t rows, int64_t cols, const float *side) {
    return s->format == QD_FORMAT_COUNT ? steps_of_coding(s, rows, cols, side) : steps_of_format(s, cols);
}

qd_status qd_storage_decode(const qd_storage *s, const void *data, const float *side, int64_t rows, int64_t cols,
                            int64_t first, int64_t count, float *dst) {
    if (s->format == QD_FORMAT_COUNT)
        return qd_coding_dequantize(&s->coding, data, side, rows, cols, first, count, dst);
    return qd_dequantize(s->format, data, count, cols, dst);
}

/* Sets all codes of a row, the first in the low bits. Eight codes fill whole bytes. */
static void set_codes(const quant_steps *q, unsigned char *row, int code) {
    unsigned char pattern[8] = {0};
    for (int i = 0; i < 8; i++) {
        for (int b = 0; b < q->bits; b++) {
            const int at = i * q->bits + b;
            pattern[at / 8] = (unsigned char)(pattern[at / 8] | (code >> b & 1) << at % 8);
        }
    }
    for (size_t block = 0; block < q->row_bytes; block += q->block_bytes) {
        for (size_t i = q->first; i < q->end; i++)
            row[block + i] = pattern[(i - q->first) % (size_t)q->bits];
    }
}

/* Decodes rows with one and the same code: the highest, or the lowest. */
static qd_status decode_end(const quant_steps *q, bool high, const float *side, int64_t rows, int64_t first,
                            int64_t count, unsigned char *copy, float *dst) {
    for (int64_t r = 0; r < count; r++) {
        unsigned char *row = copy + (size_t)r * q->row_bytes;
        int lowest = q->lowest, highest = q->highest;
        if (q->own_table) {
            float table[256];
            memcpy(table, row, (size_t)4 << q->bits);
            table_ends(table, q->bits, &lowest, &highest);
        }
        set_codes(q, row, high ? highest : lowest);
    }
    return qd_storage_decode(&q->storage, copy, side, rows, q->cols, first, count, dst);
}

qd_status qd_steps_fill(const quant_steps *q, const void *data, const float *side, int64_t rows, int64_t first,
                        int64_t count, void *copy, float *low, float *steps) {
    memcpy(copy, data, (size_t)count * q->row_bytes);
    qd_status status = decode_end(q, false, side, rows, first, count, copy, low);
    if (status == QD_OK) status = decode_end(q, true, side, rows, first, count, copy, steps);
    for (int64_t i = 0; status == QD_OK && i < count * q->cols; i++)
        steps[i] = fabsf(steps[i] - low[i]) / (float)q->levels;
    return status;
}
