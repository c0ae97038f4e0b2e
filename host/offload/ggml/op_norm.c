/* RMS_NORM, with the weights that it is multiplied with next. */
#include <string.h>

#include "emit.h"

const char *qg_rms_norm_refuse(const struct ggml_tensor *t) {
    int64_t rows, step;
    float epsilon;
    memcpy(&epsilon, t->op_params, sizeof epsilon);
    if (t->src[0]->type != GGML_TYPE_F32) return "only f32";
    if (!(epsilon >= 0 && epsilon < 1)) return "an epsilon of 1 or more";
    if (!qg_uniform_rows(t, &rows, &step)) return "rows of the result that are not at one distance";
    return NULL;
}

/* The weights that the node after it multiplies with: [C]. */
static const struct ggml_tensor *find_weights(const qg_builder *b, const struct ggml_tensor *t,
                                              const struct ggml_tensor **product) {
    const struct ggml_tensor *n = qg_fusable(b, GGML_OP_MUL);
    int64_t rows, step;
    if (!n) return NULL;
    const struct ggml_tensor *w = n->src[n->src[0] == t];
    const bool fits = w->type == GGML_TYPE_F32 && w->ne[0] == t->ne[0] && ggml_nrows(w) == 1 &&
                      w->nb[0] == sizeof(float) && n->type == GGML_TYPE_F32 && qg_uniform_rows(n, &rows, &step);
    if (!fits) return NULL;
    *product = n;
    return w;
}

qd_status qg_rms_norm_emit(qg_builder *b, const struct ggml_tensor *t) {
    const struct ggml_tensor *result = t, *w = find_weights(b, t, &result);
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, t->ne[0], 0, 0, 0);
    qd_attrs attrs = {0};
    memcpy(&attrs.rms_norm.epsilon, t->op_params, sizeof(float));
    qd_tensor *in[2], *y;
    qd_status status = qg_in_rows(b, t->src[0], QG_VALUE, &in[0]);
    if (!status && w) status = qg_part_in(b, w, QG_WEIGHTS, 0, &d, NULL, &in[1]);
    if (!status) status = qg_direct(b, result, &y);
    if (!status && !y) status = qg_out_rows(b, result, &y);
    if (!status) status = qg_add(b, QD_OP_RMS_NORM, &attrs, in, w ? 2 : 1, y);
    if (!status && w) qg_fused(b);
    return status;
}
