/* Blocks of GGUF and codings of integers, as codes and what they mean. Only the places of scales and codes are known
 * here: what a scale should be is asked of the formats' own quantizers. */
#include "quant/uniform.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "qdot/qdot_blocks.h"
#include "qdot/qdot_methods.h"
#include "qdot/qdot_num.h"
#include "quant/matrix.h"

/* Formats of blocks of 32: a half scale, perhaps a half offset, then the codes. */
static const struct {
    qd_format format;
    int lowest, highest, zero;
    bool has_offset;
} blocks[] = {
    {QD_FORMAT_Q8_0, -127, 127, 0, false}, {QD_FORMAT_Q4_0, 0, 15, 8, false}, {QD_FORMAT_Q4_1, 0, 15, 0, true}};
enum { BLOCKS = sizeof blocks / sizeof blocks[0], BLOCK = 32 };

static int find_block(qd_format f) {
    int i = 0;
    while (i < BLOCKS && blocks[i].format != f)
        i++;
    return i;
}

bool qd_gptq_takes(const qd_storage *to) {
    if (to->format != QD_FORMAT_COUNT) return find_block(to->format) < BLOCKS;
    return to->coding.kind == QD_CODING_UNIFORM;
}

qd_status qd_uniform_open(const qd_storage *to, int64_t rows, int64_t cols, void *dst, float *side,
                          quant_uniform *out) {
    quant_uniform u = {.to = to, .rows = rows, .cols = cols, .dst = dst, .side = side};
    if (!qd_gptq_takes(to)) {
        char name[64];
        qd_storage_name(to, name, sizeof name);
        return qd_fail(QD_ERR_UNSUPPORTED,
                       "GPTQ writes codes that stand evenly spaced: int2 … int8, ternary, q4_0, q4_1 and q8_0, not %s",
                       name);
    }
    u.row_bytes = qd_storage_row_bytes(to, cols);
    u.apart = qd_rows_are_apart(to);
    if (to->format == QD_FORMAT_COUNT) {
        const qd_status status = qd_coding_layout(&to->coding, rows, cols, &u.params);
        if (status) return status;
        u.group = u.params.group;
        u.groups = u.params.groups;
        if (u.params.scale == QD_SCALE_AS_TENSOR) u.group = cols;
        u.lowest = to->coding.lowest;
        u.highest = to->coding.highest;
    } else {
        u.block = find_block(to->format);
        u.group = BLOCK;
        u.groups = cols / BLOCK;
        u.lowest = blocks[u.block].lowest;
        u.highest = blocks[u.block].highest;
    }
    *out = u;
    return QD_OK;
}

static unsigned char *block_at(const quant_uniform *u, int64_t row, int64_t g) {
    return u->dst + (size_t)row * u->row_bytes + (size_t)g * (u->row_bytes / (size_t)u->groups);
}

static float half_at(const unsigned char *p) {
    return qd_half_to_float((uint16_t)(p[0] | p[1] << 8));
}

quant_group qd_uniform_group(const quant_uniform *u, int64_t row, int64_t g) {
    quant_group q = {.offset = 0};
    if (u->to->format == QD_FORMAT_COUNT) {
        const qd_coded_row r = {&u->params, u->dst + (size_t)row * u->row_bytes, u->side, row};
        q.scale = qd_coded_scale(&r, g);
        q.zero = qd_coded_zero(&r, g);
    } else {
        const unsigned char *block = block_at(u, row, g);
        q.scale = half_at(block);
        q.zero = blocks[u->block].zero;
        if (blocks[u->block].has_offset) q.offset = half_at(block + 2);
    }
    q.inverse = 1 / q.scale;
    if (!isfinite(q.inverse)) q.inverse = 0;
    return q;
}

/* The group alone is quantized as a row, and what stands for its scale is copied. */
static qd_status choose_coded(const quant_uniform *u, int64_t row, int64_t g, const float *x, int64_t n) {
    static const size_t sizes[] = {
        [QD_SCALE_AS_F32] = 4, [QD_SCALE_AS_F16] = 2, [QD_SCALE_AS_BF16] = 2, [QD_SCALE_AS_E8M0] = 1};
    const qd_coding *c = &u->to->coding;
    const size_t size = sizes[u->params.scale];
    qd_coded_params p;
    qd_status status;
    uint8_t *bytes = qd_alloc(qd_coding_row_bytes(c, n));
    float *side = qd_alloc((size_t)qd_coding_side_count(c, 1, n) * sizeof *side);
    if (!bytes || !side) {
        status = QD_ERR_MEMORY;
        goto error;
    }
    QD_TRY(qd_coding_layout(c, 1, n, &p));
    QD_TRY(qd_coding_quantize(c, x, 1, n, NULL, bytes, side));
    uint8_t *to = u->dst + (size_t)row * u->row_bytes;
    memcpy(to + u->params.scales_at + (size_t)g * size, bytes + p.scales_at, size);
    if (p.zeros_at != QD_ABSENT) {
        const uint8_t zero = (uint8_t)qd_coded_zero(&(qd_coded_row){&p, bytes, side, 0}, 0);
        qd_coded_put(to + u->params.zeros_at, g, &zero, 1, p.bits);
    }
error:
    free(bytes);
    free(side);
    return status;
}

qd_status qd_uniform_choose(const quant_uniform *u, int64_t row, int64_t g, const float *x) {
    const int64_t first = g * u->group, n = u->cols - first < u->group ? u->cols - first : u->group;
    if (u->to->format == QD_FORMAT_COUNT) return choose_coded(u, row, g, x, n);
    return qd_quantize(u->to->format, x, 1, n, block_at(u, row, g));
}

void qd_uniform_put(const quant_uniform *u, int64_t row, const uint8_t *codes) {
    if (u->to->format == QD_FORMAT_COUNT) {
        qd_coded_put(u->dst + (size_t)row * u->row_bytes + u->params.codes_at, 0, codes, u->cols, u->params.bits);
        return;
    }
    for (int64_t g = 0; g < u->groups; g++, codes += BLOCK) {
        unsigned char *to = block_at(u, row, g) + (blocks[u->block].has_offset ? 4 : 2);
        if (u->to->format == QD_FORMAT_Q8_0) {
            memcpy(to, codes, BLOCK);
            continue;
        }
        for (int j = 0; j < BLOCK / 2; j++)
            to[j] = (unsigned char)((codes[j] & 15) | codes[j + BLOCK / 2] << 4);
    }
}
