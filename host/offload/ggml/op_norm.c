/* RMS_NORM and NORM, with the weights that they are multiplied with next; NORM also with the bias that is added then.
 */
#include <string.h>

#include "emit.h"

const char *qg_norm_refuse(const struct ggml_tensor *t) {
    int64_t rows, step;
    float epsilon;
    memcpy(&epsilon, t->op_params, sizeof epsilon);
    if (t->src[0]->type != GGML_TYPE_F32) return "only f32";
    if (!(epsilon >= 0 && epsilon < 1)) return "an epsilon of 1 or more";
    if (!qg_uniform_rows(t, &rows, &step)) return "rows of the result that are not at one distance";
    return NULL;
}

const char *qg_rms_norm_refuse(const struct ggml_tensor *t) {
    return qg_norm_refuse(t);
}

/* What the node after *last multiplies it with, or adds to it: [C]. That node becomes *last. */
static const struct ggml_tensor *find_line(const qg_builder *b, enum ggml_op op, const struct ggml_tensor **last) {
    const struct ggml_tensor *n = qg_fusable(b, *last, op);
    int64_t rows, step;
    if (!n) return NULL;
    const struct ggml_tensor *line = n->src[n->src[0] == *last];
    const bool fits = line->type == GGML_TYPE_F32 && line->ne[0] == n->ne[0] && ggml_nrows(line) == 1 &&
                      line->nb[0] == sizeof(float) && n->type == GGML_TYPE_F32 && qg_uniform_rows(n, &rows, &step);
    if (!fits) return NULL;
    *last = n;
    return line;
}

static qd_status emit(qg_builder *b, const struct ggml_tensor *t, qd_op op, const enum ggml_op next[], int n_next) {
    const struct ggml_tensor *last = t;
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, t->ne[0], 0, 0, 0);
    qd_attrs attrs = {0};
    memcpy(&attrs.rms_norm.epsilon, t->op_params, sizeof(float));
    qd_tensor *in[3] = {NULL}, *y;
    qd_status status = qg_in_rows(b, t->src[0], QG_VALUE, &in[0]);
    for (int i = 0; i < n_next && !status; i++) {
        const struct ggml_tensor *line = find_line(b, next[i], &last);
        if (!line) continue;
        status = qg_part_in(b, line, QG_WEIGHTS, 0, &d, NULL, &in[1 + i]);
        qg_fused(b, last);
    }
    if (!status) status = qg_direct(b, last, &y);
    if (!status && !y) status = qg_out_rows(b, last, &y);
    return status ? status : qg_add(b, op, &attrs, in, 1 + n_next, y);
}

qd_status qg_norm_emit(qg_builder *b, const struct ggml_tensor *t) {
    static const enum ggml_op next[] = {GGML_OP_MUL, GGML_OP_ADD};
    return emit(b, t, QD_OP_LAYER_NORM, next, 2);
}

qd_status qg_rms_norm_emit(qg_builder *b, const struct ggml_tensor *t) {
    static const enum ggml_op next[] = {GGML_OP_MUL};
    return emit(b, t, QD_OP_RMS_NORM, next, 1);
}
