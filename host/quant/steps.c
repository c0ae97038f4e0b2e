/* The step of stored weights: the mean distance between neighbouring values that a block can hold. That of a format is
 * found through its own decoder, so that no second place knows how scales are stored: the codes of a copy are set to
 * the lowest, then to the highest one. */
#include <math.h>
#include <string.h>

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
        q.low = blocks[i].low;
        q.high = blocks[i].high;
        q.levels = blocks[i].levels;
    }
    return q;
}

/* Codes of the least and the greatest value of a row's table. */
static void table_ends(const qd_coded_row *row, int *lowest, int *highest) {
    *lowest = *highest = 0;
    for (int i = 1; i < 1 << row->p->bits; i++) {
        const float v = qd_coded_value(row, i, 0);
        if (v < qd_coded_value(row, *lowest, 0)) *lowest = i;
        if (v > qd_coded_value(row, *highest, 0)) *highest = i;
    }
}

static quant_steps steps_of_coding(const qd_storage *s, int64_t rows, int64_t cols, const float *side) {
    quant_steps q = {.storage = *s, .cols = cols, .row_bytes = qd_coding_row_bytes(&s->coding, cols)};
    const qd_coding *c = &s->coding;
    if (qd_coding_layout(c, rows, cols, &q.params) != QD_OK) return q;
    q.any = c->kind == QD_CODING_UNIFORM || c->kind == QD_CODING_TABLE;
    q.lowest = c->lowest;
    q.highest = c->highest;
    q.levels = c->highest - c->lowest;
    if (c->kind != QD_CODING_TABLE) return q;
    q.levels = (1 << c->bits) - 1;
    if (!c->per_row) table_ends(&(qd_coded_row){&q.params, NULL, side, 0}, &q.lowest, &q.highest);
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

/* All weights of a group have one step. */
static void fill_coded_row(const quant_steps *q, const qd_coded_row *row, float *steps) {
    const int64_t group = q->params.group;
    int lowest = q->lowest, highest = q->highest;
    if (q->storage.coding.per_row) table_ends(row, &lowest, &highest);
    const float span = qd_coded_value(row, highest, 0) - qd_coded_value(row, lowest, 0);
    for (int64_t g = 0; g < q->params.groups; g++) {
        const float step = fabsf(qd_coded_scale(row, g) * span) / (float)q->levels;
        for (int64_t k = g * group; k < (g + 1) * group && k < q->cols; k++)
            steps[k] = step;
    }
}

/* Decodes rows of a format with one and the same code everywhere. */
static qd_status decode_all(const quant_steps *q, unsigned char code, int64_t count, unsigned char *copy, float *dst) {
    for (size_t block = 0; block < (size_t)count * q->row_bytes; block += q->block_bytes)
        memset(copy + block + q->first, code, q->end - q->first);
    return qd_dequantize(q->storage.format, copy, count, q->cols, dst);
}

qd_status qd_steps_fill(const quant_steps *q, const void *data, const float *side, int64_t first, int64_t count,
                        void *copy, float *low, float *steps) {
    if (q->storage.format == QD_FORMAT_COUNT) {
        for (int64_t r = 0; r < count; r++) {
            const uint8_t *bytes = (const uint8_t *)data + (size_t)r * q->row_bytes;
            fill_coded_row(q, &(qd_coded_row){&q->params, bytes, side, first + r}, steps + r * q->cols);
        }
        return QD_OK;
    }
    memcpy(copy, data, (size_t)count * q->row_bytes);
    qd_status status = decode_all(q, q->low, count, copy, low);
    if (status == QD_OK) status = decode_all(q, q->high, count, copy, steps);
    for (int64_t i = 0; status == QD_OK && i < count * q->cols; i++)
        steps[i] = fabsf(steps[i] - low[i]) / (float)q->levels;
    return status;
}
