/* What is computed element by element. */
#include "emit.h"

const char *qg_add_refuse(const struct ggml_tensor *t) {
    int64_t rows, step;
    if (t->src[0]->type != GGML_TYPE_F32 || t->src[1]->type != GGML_TYPE_F32 || t->type != GGML_TYPE_F32)
        return "only f32";
    if (!ggml_are_same_shape(t->src[0], t->src[1])) return "repeats";
    if (!qg_uniform_rows(t, &rows, &step)) return "rows of the result that are not at one distance";
    return NULL;
}

qd_status qg_add_emit(qg_builder *b, const struct ggml_tensor *t) {
    qd_tensor *in[2], *y;
    qd_status status = qg_in_rows(b, t->src[0], QG_VALUE, &in[0]);
    if (!status) status = qg_in_rows(b, t->src[1], QG_VALUE, &in[1]);
    if (!status) status = qg_out_rows(b, t, &y);
    return status ? status : qg_add(b, QD_OP_ADD, NULL, in, 2, y);
}
