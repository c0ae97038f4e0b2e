/* The tensors of GPTQ and AWQ in safetensors files. K are the inputs of a layer, N its outputs.
 *
 *            GPTQ (AutoGPTQ)                        AWQ (AutoAWQ), 4 bits
 *   qweight  [K · bits / 32][N] words along K       [K][N / 8] words along N, in AWQ's order
 *   qzeros   [groups][N · bits / 32], zero - 1      [groups][N / 8], zero, in AWQ's order
 *   scales   [groups][N]                            the same
 *   g_idx    [K]: the group of each input           none
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "qdot/qdot_num.h"
#include "qdot/qdot_packing.h"
#include "quant/grouped.h"

enum { NAME = 300 };

typedef struct layer {
    const qd_safetensor *qweight, *qzeros, *scales, *g_idx;
} layer;

static qd_status damaged(const char *base, const char *what) {
    return qd_fail(QD_ERR_FILE, "safetensors: layer '%.80s': %s", base, what);
}

static const qd_safetensor *find(const qd_safetensors *s, const char *base, const char *part) {
    char name[NAME];
    if (snprintf(name, sizeof name, "%s.%s", base, part) >= NAME) return NULL;
    return qd_safetensors_find(s, name);
}

static bool is_words(const qd_safetensor *t, int rank) {
    return t && t->rank == rank && (!strcmp(t->type, "I32") || !strcmp(t->type, "U32"));
}

static qd_status find_layer(const qd_safetensors *s, const char *base, layer *l) {
    *l = (layer){find(s, base, "qweight"), find(s, base, "qzeros"), find(s, base, "scales"), find(s, base, "g_idx")};
    if (!is_words(l->qweight, 2)) return damaged(base, "there is no matrix qweight of the type I32");
    if (!is_words(l->qzeros, 2)) return damaged(base, "there is no matrix qzeros of the type I32");
    if (!l->scales || l->scales->rank != 2 ||
        (strcmp(l->scales->type, "F16") && strcmp(l->scales->type, "BF16") && strcmp(l->scales->type, "F32")))
        return damaged(base, "there is no matrix scales of the type F16, BF16 or F32");
    if (l->g_idx && !is_words(l->g_idx, 1)) return damaged(base, "g_idx is no list of the type I32");
    return QD_OK;
}

static int32_t word_at(const qd_safetensor *t, int64_t i) {
    int32_t word;
    memcpy(&word, (const char *)t->data + 4 * i, sizeof word);
    return word;
}

/* Finds the size of groups, and keeps the list where they are not in order. */
static qd_status read_groups(const char *base, const layer *l, qd_grouped *g) {
    g->group = (g->cols + g->groups - 1) / g->groups;
    if (!l->g_idx) return QD_OK;
    if (l->g_idx->shape[0] != g->cols) return damaged(base, "g_idx does not have one number for each input");
    int64_t first = 0;
    while (first < g->cols && word_at(l->g_idx, first) == 0)
        first++;
    const int64_t group = first ? first : 1;
    bool in_order = (g->cols + group - 1) / group == g->groups;
    for (int64_t k = 0; k < g->cols; k++) {
        const int32_t at = word_at(l->g_idx, k);
        if (at < 0 || at >= g->groups) return damaged(base, "g_idx names a group that is not there");
        in_order = in_order && at == k / group;
    }
    if (in_order) {
        g->group = group;
        return QD_OK;
    }
    g->group_of = qd_alloc((size_t)g->cols * sizeof *g->group_of);
    if (!g->group_of) return QD_ERR_MEMORY;
    memcpy(g->group_of, l->g_idx->data, (size_t)g->cols * sizeof *g->group_of);
    return QD_OK;
}

static qd_status measure(const char *base, const layer *l, qd_grouped *g, qd_grouped_layout *layout) {
    const int64_t *weight = l->qweight->shape, *zero = l->qzeros->shape;
    *g = (qd_grouped){.rows = l->scales->shape[1], .groups = l->scales->shape[0]};
    g->half_scales = !strcmp(l->scales->type, "F16");
    if (g->rows < 1 || g->groups < 1 || zero[0] != g->groups || zero[1] < 1 || zero[1] > INT32_MAX || weight[0] < 1 ||
        weight[0] > INT32_MAX || zero[1] * 32 % g->rows)
        return damaged(base, "the shapes of qweight, qzeros and scales do not agree");
    const int64_t bits = zero[1] * 32 / g->rows;
    if (bits != 2 && bits != 3 && bits != 4 && bits != 8) return damaged(base, "codes do not have 2, 3, 4 or 8 bits");
    g->bits = (int)bits;
    *layout = weight[1] == g->rows ? QD_LAYOUT_GPTQ : QD_LAYOUT_AWQ;
    g->cols = *layout == QD_LAYOUT_GPTQ ? weight[0] * 32 / bits : weight[0];
    if ((*layout == QD_LAYOUT_GPTQ && weight[0] * 32 % bits) ||
        (*layout == QD_LAYOUT_AWQ && (bits != 4 || weight[1] != zero[1] || l->g_idx)))
        return damaged(base, "the shapes of qweight, qzeros and scales are neither GPTQ's nor AWQ's");
    if (g->groups > g->cols) return damaged(base, "there are more groups than inputs");
    return read_groups(base, l, g);
}

qd_status qd_grouped_measure(const qd_safetensors *s, const char *base, qd_grouped *out, qd_grouped_layout *layout) {
    if (!s || !base || !out || !layout) return qd_fail(QD_ERR_ARGUMENT, "qd_grouped_measure: nothing may be NULL");
    layer l;
    qd_grouped g = {0};
    qd_status status;
    QD_TRY(find_layer(s, base, &l));
    QD_TRY(measure(base, &l, &g, layout));
    *out = g;
    return QD_OK;
error:
    qd_grouped_free(&g);
    return status;
}

/* to[i][j] = from[j][i]: from has `rows` rows. */
static void transpose(const uint8_t *from, int64_t rows, int64_t cols, uint8_t *to) {
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j++)
            to[j * rows + i] = from[i * cols + j];
    }
}

static float scale_at(const qd_safetensor *t, int64_t i) {
    uint16_t half;
    float f;
    if (!strcmp(t->type, "F32")) {
        memcpy(&f, (const char *)t->data + 4 * i, sizeof f);
        return f;
    }
    memcpy(&half, (const char *)t->data + 2 * i, sizeof half);
    return !strcmp(t->type, "F16") ? qd_half_to_float(half) : qd_bf16_to_float(half);
}

/* The file's words, where 4 bytes may be read at once. */
static uint32_t *copy_words(const qd_safetensor *t) {
    uint32_t *words = qd_alloc(t->bytes ? t->bytes : 1);
    if (words) memcpy(words, t->data, t->bytes);
    return words;
}

static qd_status read_codes(const layer *l, qd_grouped_layout layout, qd_grouped *g) {
    const int64_t n = g->rows, k = g->cols;
    uint32_t *weight = copy_words(l->qweight), *zero = copy_words(l->qzeros);
    uint8_t *codes = qd_alloc((size_t)(n * k)), *zeros = qd_alloc((size_t)(n * g->groups));
    qd_status status = QD_ERR_MEMORY;
    if (!weight || !zero || !codes || !zeros) goto error;
    if (layout == QD_LAYOUT_GPTQ) {
        QD_TRY(qd_gptq_unpack(g->bits, weight, zero, k, n, g->groups, codes, zeros));
    } else {
        QD_TRY(qd_unpack_words(QD_PACKING_AWQ, 4, 1, weight, k, n, codes));
        QD_TRY(qd_unpack_words(QD_PACKING_AWQ, 4, 1, zero, g->groups, n, zeros));
    }
    transpose(codes, k, n, g->codes);
    transpose(zeros, g->groups, n, g->zeros);
error:
    free(weight);
    free(zero);
    free(codes);
    free(zeros);
    return status;
}

qd_status qd_grouped_read(const qd_safetensors *s, const char *base, qd_grouped *out, qd_grouped_layout *layout) {
    if (!s || !base || !out || !layout) return qd_fail(QD_ERR_ARGUMENT, "qd_grouped_read: nothing may be NULL");
    layer l;
    qd_grouped g = {0};
    qd_status status;
    QD_TRY(find_layer(s, base, &l));
    QD_TRY(measure(base, &l, &g, layout));
    QD_TRY(qd_grouped_room(&g));
    QD_TRY(read_codes(&l, *layout, &g));
    for (int64_t i = 0; i < g.groups; i++) {
        for (int64_t n = 0; n < g.rows; n++)
            g.scales[n * g.groups + i] = scale_at(l.scales, i * g.rows + n);
    }
    *out = g;
    return QD_OK;
error:
    qd_grouped_free(&g);
    return status;
}

/* ---- Writing ------------------------------------------------------------------------------------------------ */

static qd_status check(const char *base, const qd_grouped *g, qd_grouped_layout layout) {
    const char *why = NULL;
    if (layout == QD_LAYOUT_AWQ) {
        if (g->bits != 4) why = "AWQ has codes of 4 bits";
        if (g->rows % 8) why = "AWQ needs a multiple of 8 rows";
        if (g->group_of || g->cols % g->group) why = "AWQ needs whole groups in their order";
    } else if (g->rows * g->bits % 32 || g->cols * g->bits % 32) {
        why = "GPTQ needs whole words of 32 bits in rows and columns";
    }
    if (!why) return QD_OK;
    return qd_fail(QD_ERR_UNSUPPORTED, "layer '%.80s' of %" PRId64 " × %" PRId64 ", groups of %" PRId64 ": %s", base,
                   g->rows, g->cols, g->group, why);
}

static qd_status add(qd_safetensors_writer *w, const char *base, const char *part, const char *type, int64_t rows,
                     int64_t cols) {
    char name[NAME];
    if (snprintf(name, sizeof name, "%s.%s", base, part) >= NAME)
        return qd_fail(QD_ERR_ARGUMENT, "safetensors: the name '%.80s…' is too long", base);
    const qd_safetensor t = {.name = name, .type = type, .rank = cols ? 2 : 1, .shape = {rows, cols}};
    return qd_safetensors_add(w, &t);
}

qd_status qd_grouped_add(qd_safetensors_writer *w, const char *base, const qd_grouped *g, qd_grouped_layout layout) {
    if (!w || !base || !g) return qd_fail(QD_ERR_ARGUMENT, "qd_grouped_add: nothing may be NULL");
    const bool gptq = layout == QD_LAYOUT_GPTQ;
    qd_status status;
    QD_TRY(check(base, g, layout));
    QD_TRY(gptq ? add(w, base, "qweight", "I32", g->cols * g->bits / 32, g->rows)
                : add(w, base, "qweight", "I32", g->cols, g->rows / 8));
    QD_TRY(add(w, base, "qzeros", "I32", g->groups, g->rows * g->bits / 32));
    if (gptq) QD_TRY(add(w, base, "g_idx", "I32", g->cols, 0));
    QD_TRY(add(w, base, "scales", g->half_scales ? "F16" : "F32", g->groups, g->rows));
error:
    return status;
}

static qd_status write_codes(qd_safetensors_writer *w, const qd_grouped *g, bool gptq) {
    const int64_t n = g->rows, k = g->cols;
    const size_t weight_bytes = (size_t)(k * g->bits / 8 * n), zero_bytes = (size_t)(g->groups * (n * g->bits / 8));
    uint32_t *weight = qd_alloc(weight_bytes), *zero = qd_alloc(zero_bytes);
    uint8_t *codes = qd_alloc((size_t)(n * k)), *zeros = qd_alloc((size_t)(n * g->groups));
    qd_status status = QD_ERR_MEMORY;
    if (!weight || !zero || !codes || !zeros) goto error;
    transpose(g->codes, n, k, codes);
    transpose(g->zeros, n, g->groups, zeros);
    if (gptq) {
        QD_TRY(qd_gptq_pack(g->bits, codes, zeros, k, n, g->groups, weight, zero));
    } else {
        QD_TRY(qd_pack_words(QD_PACKING_AWQ, 4, 1, codes, k, n, weight));
        QD_TRY(qd_pack_words(QD_PACKING_AWQ, 4, 1, zeros, g->groups, n, zero));
    }
    QD_TRY(qd_safetensors_write(w, weight, weight_bytes));
    QD_TRY(qd_safetensors_write(w, zero, zero_bytes));
error:
    free(weight);
    free(zero);
    free(codes);
    free(zeros);
    return status;
}

/* The group of each input, and the scales: of one size at most, so one buffer serves both. */
static qd_status write_rest(qd_safetensors_writer *w, const qd_grouped *g, bool gptq) {
    const int64_t scales = g->rows * g->groups, most = scales > g->cols ? scales : g->cols;
    uint8_t *buffer = qd_alloc((size_t)most * 4);
    qd_status status = buffer ? QD_OK : QD_ERR_MEMORY;
    for (int64_t k = 0; status == QD_OK && gptq && k < g->cols; k++) {
        const int32_t at = g->group_of ? g->group_of[k] : (int32_t)(k / g->group);
        memcpy(buffer + 4 * k, &at, sizeof at);
    }
    if (status == QD_OK && gptq) status = qd_safetensors_write(w, buffer, (size_t)g->cols * 4);
    const size_t bytes = g->half_scales ? 2 : 4;
    for (int64_t i = 0; status == QD_OK && i < scales; i++) {
        const float s = g->scales[i % g->rows * g->groups + i / g->rows];
        const uint16_t half = qd_float_to_half(s);
        if (g->half_scales) {
            memcpy(buffer + 2 * i, &half, sizeof half);
        } else {
            memcpy(buffer + 4 * i, &s, sizeof s);
        }
    }
    if (status == QD_OK) status = qd_safetensors_write(w, buffer, (size_t)scales * bytes);
    free(buffer);
    return status;
}

qd_status qd_grouped_write(qd_safetensors_writer *w, const qd_grouped *g, qd_grouped_layout layout) {
    if (!w || !g || !g->codes) return qd_fail(QD_ERR_ARGUMENT, "qd_grouped_write: nothing may be NULL");
    const bool gptq = layout == QD_LAYOUT_GPTQ;
    const qd_status status = write_codes(w, g, gptq);
    return status == QD_OK ? write_rest(w, g, gptq) : status;
}
