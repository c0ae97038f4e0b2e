/* MUL_MAT_ID: rows of activations, each multiplied with the matrices of some
 * experts. */
#include "emit.h"

const char *qg_mul_mat_id_refuse(const struct ggml_tensor *t) {
    const struct ggml_tensor *w = t->src[0], *x = t->src[1], *ids = t->src[2];
    int64_t rows, step;
    if (qg_format(w->type) == QD_FORMAT_COUNT || w->type == GGML_TYPE_I32)
        return "weights in a format that is not known";
    if (x->type != GGML_TYPE_F32) return "activations that are not f32";
    if (!qg_is_leaf(w) || !ggml_is_contiguous(w)) return "weights that are computed or permuted";
    if (ids->nb[0] != sizeof(int32_t)) return "ids that lie apart";
    return qg_uniform_rows(x, &rows, &step) ? NULL : "activations whose rows are not at one distance";
}

qd_status qg_mul_mat_id_emit(qg_builder *b, const struct ggml_tensor *t) {
    const struct ggml_tensor *w = t->src[0], *x = t->src[1], *ids = t->src[2];
    const qd_tensor_desc wd = qd_desc(qg_format(w->type), w->ne[2], w->ne[1], w->ne[0], 0);
    const qd_tensor_desc xd = qd_desc(QD_FORMAT_F32, x->ne[2], x->ne[1], x->ne[0], 0);
    const qd_tensor_desc id = qd_desc(QD_FORMAT_I32, ids->ne[1], ids->ne[0], 0, 0);
    const qd_tensor_desc yd = qd_desc(QD_FORMAT_F32, t->ne[2], t->ne[1], t->ne[0], 0);
    int64_t rows, step;
    qg_uniform_rows(x, &rows, &step);
    qd_tensor *in[3], *y;
    qd_status status = qg_part_in(b, w, QG_WEIGHTS, 0, &wd, NULL, &in[0]);
    if (!status) {
        status = qg_part(b, x, 0, &xd, (int64_t[]){x->ne[1] * step, step, sizeof(float)}, &in[1]);
    }
    if (!status) status = qg_part(b, ids, 0, &id, (int64_t[]){(int64_t)ids->nb[1], sizeof(int32_t)}, &in[2]);
    if (!status) status = qg_part(b, t, 0, &yd, NULL, &y);
    return status ? status : qg_add(b, QD_OP_MATMUL_EXPERTS, NULL, in, 3, y);
}
