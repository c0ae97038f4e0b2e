/* Grouped weights and matrices: the same codes, stored in another way. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "formats/coding.h"
#include "qdot/qdot_blocks.h"
#include "qdot/qdot_num.h"
#include "qdot/qdot_packing.h"
#include "quant/grouped.h"

enum { BLOCK = 32 /* of Q4_0 and Q4_1 */ };

void qd_grouped_free(qd_grouped *g) {
    free(g->group_of);
    free(g->codes);
    free(g->zeros);
    free(g->scales);
    *g = (qd_grouped){0};
}

qd_status qd_grouped_room(qd_grouped *g) {
    g->codes = qd_alloc((size_t)(g->rows * g->cols));
    g->zeros = qd_alloc((size_t)(g->rows * g->groups));
    g->scales = qd_alloc((size_t)(g->rows * g->groups) * sizeof *g->scales);
    return g->codes && g->zeros && g->scales ? QD_OK : QD_ERR_MEMORY;
}

void qd_grouped_values(const qd_grouped *g, float *out) {
    for (int64_t n = 0; n < g->rows; n++) {
        for (int64_t k = 0; k < g->cols; k++) {
            const int64_t at = n * g->groups + (g->group_of ? g->group_of[k] : k / g->group);
            out[n * g->cols + k] = g->scales[at] * (float)(g->codes[n * g->cols + k] - g->zeros[at]);
        }
    }
}

/* ---- From a matrix ------------------------------------------------------------------------------------------ */

static qd_status not_taken(const qd_storage *s) {
    char name[64];
    qd_storage_name(s, name, sizeof name);
    return qd_fail(QD_ERR_UNSUPPORTED,
                   "%s has no codes with a scale and a zero point for each group; quantize to one such as "
                   "int4-g128-asym",
                   name);
}

qd_status qd_grouped_shape(const qd_storage *s, int64_t rows, int64_t cols, qd_grouped *out) {
    qd_grouped g = {.rows = rows, .cols = cols};
    if (s->format == QD_FORMAT_Q4_0 && cols % BLOCK == 0) {
        g.bits = 4;
        g.group = BLOCK;
        g.half_scales = true;
    } else {
        const qd_coding *c = &s->coding;
        qd_coded_params p;
        if (s->format != QD_FORMAT_COUNT || c->kind != QD_CODING_UNIFORM ||
            (c->bits != 2 && c->bits != 3 && c->bits != 4 && c->bits != 8))
            return not_taken(s);
        const qd_status status = qd_coding_layout(c, rows, cols, &p);
        if (status != QD_OK) return status;
        g.bits = c->bits;
        g.group = p.group;
        g.half_scales = p.scale == QD_SCALE_AS_F16;
    }
    g.groups = (cols + g.group - 1) / g.group;
    *out = g;
    return QD_OK;
}

static void take_q4_0(const qd_matrix *m, qd_grouped *g) {
    const unsigned char *src = m->data;
    for (int64_t b = 0; b < g->rows * g->groups; b++, src += sizeof(qd_block_q4_0)) {
        qd_block_q4_0 block;
        memcpy(&block, src, sizeof block);
        g->scales[b] = qd_half_to_float(block.d);
        g->zeros[b] = 8;
        for (int j = 0; j < BLOCK / 2; j++) {
            g->codes[b * BLOCK + j] = block.q[j] & 15;
            g->codes[b * BLOCK + j + BLOCK / 2] = block.q[j] >> 4;
        }
    }
}

static void take_coded(const qd_matrix *m, const qd_coded_params *p, qd_grouped *g) {
    const size_t row_bytes = qd_coding_row_bytes(&m->storage.coding, m->cols);
    const int32_t middle = p->is_signed ? 1 << (p->bits - 1) : 0;
    for (int64_t n = 0; n < g->rows; n++) {
        const qd_coded_row row = {p, (const uint8_t *)m->data + (size_t)n * row_bytes, m->side, n};
        for (int64_t i = 0; i < g->groups; i++) {
            g->scales[n * g->groups + i] = qd_coded_scale(&row, i);
            g->zeros[n * g->groups + i] = (uint8_t)(qd_coded_zero(&row, i) + middle);
        }
        for (int64_t k = 0; k < g->cols; k++)
            g->codes[n * g->cols + k] = (uint8_t)(qd_coded_code(&row, k) + middle);
    }
}

qd_status qd_grouped_from_matrix(const qd_matrix *m, qd_grouped *out) {
    if (!m || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_grouped_from_matrix: nothing may be NULL");
    qd_grouped g = {0};
    qd_coded_params p;
    qd_status status;
    QD_TRY(qd_grouped_shape(&m->storage, m->rows, m->cols, &g));
    QD_TRY(qd_grouped_room(&g));
    if (m->storage.format == QD_FORMAT_Q4_0) {
        take_q4_0(m, &g);
    } else {
        QD_TRY(qd_coding_layout(&m->storage.coding, m->rows, m->cols, &p));
        take_coded(m, &p, &g);
    }
    *out = g;
    return QD_OK;
error:
    qd_grouped_free(&g);
    return status;
}

/* ---- To a matrix -------------------------------------------------------------------------------------------- */

static qd_status again(const qd_storage *to, const char *why) {
    char name[64];
    qd_storage_name(to, name, sizeof name);
    return qd_fail(QD_ERR_UNSUPPORTED, "%s does not hold these weights as they are: %s", name, why);
}

static bool zeros_in_the_middle(const qd_grouped *g) {
    for (int64_t i = 0; i < g->rows * g->groups; i++) {
        if (g->zeros[i] != 1 << (g->bits - 1)) return false;
    }
    return true;
}

static bool halves_hold(const qd_grouped *g) {
    for (int64_t i = 0; i < g->rows * g->groups; i++) {
        if (qd_half_to_float(qd_float_to_half(g->scales[i])) != g->scales[i]) return false;
    }
    return true;
}

static qd_status to_blocks(const qd_grouped *g, const qd_storage *to, unsigned char *dst) {
    const bool minimum = to->format == QD_FORMAT_Q4_1;
    if (g->bits != 4) return again(to, "their codes do not have 4 bits");
    if (g->cols % BLOCK || (g->groups > 1 && g->group % BLOCK))
        return again(to, "their groups are no whole blocks of 32");
    if (!halves_hold(g)) return again(to, "their scales are no halves");
    if (!minimum && !zeros_in_the_middle(g)) return again(to, "their zero points are not all 8");
    for (int64_t n = 0; n < g->rows; n++) {
        for (int64_t k = 0; k < g->cols; k += BLOCK) {
            const int64_t at = n * g->groups + k / g->group;
            const uint8_t *codes = g->codes + n * g->cols + k;
            const qd_u16 d = qd_float_to_half(g->scales[at]);
            const qd_u16 m = qd_float_to_half(-g->scales[at] * (float)g->zeros[at]);
            memcpy(dst, &d, sizeof d);
            dst += sizeof d;
            if (minimum) {
                memcpy(dst, &m, sizeof m);
                dst += sizeof m;
            }
            for (int j = 0; j < BLOCK / 2; j++)
                *dst++ = (unsigned char)(codes[j] | codes[j + BLOCK / 2] << 4);
        }
    }
    return QD_OK;
}

/* Scales as the coding stores them; false when it cannot exactly. */
static bool put_scales(const float *scales, int64_t count, int kind, uint8_t *at) {
    for (int64_t i = 0; i < count; i++) {
        const float s = scales[i];
        if (kind == QD_SCALE_AS_F32) {
            memcpy(at + 4 * i, &s, sizeof s);
            continue;
        }
        const qd_u16 half = kind == QD_SCALE_AS_F16 ? qd_float_to_half(s) : qd_float_to_bf16(s);
        if ((kind == QD_SCALE_AS_F16 ? qd_half_to_float(half) : qd_bf16_to_float(half)) != s) return false;
        memcpy(at + 2 * i, &half, sizeof half);
    }
    return true;
}

static qd_status to_coding(const qd_grouped *g, const qd_storage *to, uint8_t *dst, float *side) {
    const qd_coding *c = &to->coding;
    const int64_t group = c->group > 0 && c->group < g->cols ? c->group : g->cols;
    qd_coded_params p;
    qd_status status = qd_coding_layout(c, g->rows, g->cols, &p);
    if (status != QD_OK) return status;
    if (c->kind != QD_CODING_UNIFORM || c->bits != g->bits) return again(to, "their codes have other bits");
    if (c->group == -1 || group != g->group) return again(to, "their groups are others");
    if (p.scale != QD_SCALE_AS_F32 && p.scale != QD_SCALE_AS_F16 && p.scale != QD_SCALE_AS_BF16)
        return again(to, "its scales are of another kind");
    if (!c->asymmetric && !zeros_in_the_middle(g)) return again(to, "their zero points are not all in the middle");
    const size_t row_bytes = qd_coding_row_bytes(c, g->cols);
    const int middle = p.is_signed ? 1 << (g->bits - 1) : 0;
    uint8_t *codes = qd_alloc((size_t)g->cols);
    if (!codes) return QD_ERR_MEMORY;
    for (int64_t n = 0; n < g->rows; n++, dst += row_bytes) {
        if (!put_scales(g->scales + n * g->groups, g->groups, p.scale, dst + p.scales_at)) {
            status = again(to, "it cannot hold their scales exactly; add -f32");
            goto error;
        }
        for (int64_t k = 0; k < g->cols; k++)
            codes[k] = (uint8_t)(g->codes[n * g->cols + k] - middle);
        if (p.zeros_at != QD_ABSENT)
            QD_TRY(qd_pack(QD_PACKING_LOW_FIRST, g->bits, g->zeros + n * g->groups, g->groups, dst + p.zeros_at));
        QD_TRY(qd_pack(QD_PACKING_LOW_FIRST, g->bits, codes, g->cols, dst + p.codes_at));
    }
    memset(side, 0, (size_t)qd_coding_side_count(c, g->rows, g->cols) * sizeof *side);
    free(codes);
    return QD_OK;
error:
    free(codes);
    return status;
}

qd_status qd_grouped_to_matrix(const qd_grouped *g, const qd_storage *to, void *dst, float *side) {
    if (!g || !g->codes || !to || !dst || (to->format == QD_FORMAT_COUNT && !side)) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_grouped_to_matrix: nothing may be NULL");
    }
    if (g->group_of) return again(to, "their groups are not in order (act-order)");
    if (to->format == QD_FORMAT_COUNT) return to_coding(g, to, dst, side);
    if (to->format == QD_FORMAT_Q4_0 || to->format == QD_FORMAT_Q4_1) return to_blocks(g, to, dst);
    return again(to, "it has no such codes");
}
