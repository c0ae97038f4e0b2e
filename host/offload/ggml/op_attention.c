/* SOFT_MAX and FLASH_ATTN_EXT. */
#include <math.h>
#include <string.h>

#include "emit.h"

enum { MOST_HEADS = 1024 };

/* ALiBi's slopes (Press et al. 2022), one for each head; *out is NULL when there are none. */
static qd_status read_slopes(qg_builder *b, float max_bias, int64_t heads, qd_tensor **out) {
    *out = NULL;
    if (max_bias == 0) return QD_OK;
    float slope[MOST_HEADS];
    const int power = 1 << (int)floor(log2((double)heads));
    const float m0 = powf(2, -max_bias / (float)power), m1 = powf(2, -(max_bias / 2) / (float)power);
    for (int h = 0; h < heads; h++)
        slope[h] = h < power ? powf(m0, (float)(h + 1)) : powf(m1, (float)(2 * (h - power) + 1));
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, heads, 0, 0, 0);
    return qg_own_constant(b, &d, slope, (size_t)heads * sizeof *slope, out);
}

static float parameter(const struct ggml_tensor *t, int i) {
    float value;
    memcpy(&value, t->op_params + i, sizeof value);
    return value;
}

/* ---- SOFT_MAX ----------------------------------------------------------------------------------------------- */

const char *qg_soft_max_refuse(const struct ggml_tensor *t) {
    if (t->src[0]->type != GGML_TYPE_F32 || t->type != GGML_TYPE_F32) return "only f32";
    if (t->src[2]) return "attention sinks";
    if (t->ne[2] > MOST_HEADS) return "more heads than are known";
    return NULL;
}

qd_status qg_soft_max_emit(qg_builder *b, const struct ggml_tensor *t) {
    const qd_attrs attrs = {.softmax = {.scale = parameter(t, 0), .max_bias = parameter(t, 1)}};
    qd_tensor *in[3] = {NULL}, *y;
    qd_status status = qg_in(b, t->src[0], QG_VALUE, &in[0]);
    if (!status && t->src[1]) status = qg_in(b, t->src[1], QG_VALUE, &in[1]);
    if (!status && t->src[1]) status = read_slopes(b, parameter(t, 1), t->ne[2], &in[2]);
    if (!status) status = qg_out(b, t, &y);
    return status ? status : qg_add(b, QD_OP_SOFTMAX, &attrs, in, 3, y);
}

/* ---- FLASH_ATTN_EXT ----------------------------------------------------------------------------------------- */

static bool is_cache(enum ggml_type type) {
    return type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16 || type == GGML_TYPE_Q8_0;
}

const char *qg_flash_attn_ext_refuse(const struct ggml_tensor *t) {
    const struct ggml_tensor *q = t->src[0], *k = t->src[1], *v = t->src[2], *mask = t->src[3];
    enum { MOST_DIM = 576 };
    if (q->type != GGML_TYPE_F32 || !is_cache(k->type) || !is_cache(v->type)) return "formats of the caches";
    if (t->src[4]) return "attention sinks";
    if (q->ne[0] > MOST_DIM || v->ne[0] > MOST_DIM) return "heads that are larger than known";
    if (q->ne[2] > MOST_HEADS || q->ne[2] % k->ne[2] || k->ne[2] != v->ne[2]) return "a number of heads";
    if (mask && mask->type != GGML_TYPE_F16 && mask->type != GGML_TYPE_F32) return "the mask's type";
    if (k->nb[0] != ggml_type_size(k->type) || v->nb[0] != ggml_type_size(v->type)) return "caches that are not dense";
    return NULL;
}

qd_status qg_flash_attn_ext_emit(qg_builder *b, const struct ggml_tensor *t) {
    const qd_attrs attrs = {.attention_masked = {.scale = parameter(t, 0), .softcap = parameter(t, 2)}};
    qd_tensor *in[5] = {NULL}, *y;
    qd_status status = QD_OK;
    for (int i = 0; !status && i < 4; i++) {
        if (t->src[i]) status = qg_in(b, t->src[i], QG_VALUE, &in[i]);
    }
    if (!status && t->src[3]) status = read_slopes(b, parameter(t, 1), t->src[0]->ne[2], &in[4]);
    if (!status) status = qg_out(b, t, &y);
    return status ? status : qg_add(b, QD_OP_ATTENTION_MASKED, &attrs, in, 5, y);
}
