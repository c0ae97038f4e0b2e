/* Operators that work row by row: embedding rows, norms, activation quantizing, SwiGLU, add. */
#include <stdlib.h>
#include <string.h>

#include "ref/ref.h"

float qd_ref_tree(float p[QD_LANES]) {
    for (int step = QD_LANES / 2; step > 0; step /= 2) {
        for (int i = 0; i < step; i++)
            p[i] += p[i + step];
    }
    return p[0];
}

qd_status qd_ref_put_row(const qd_tensor *t, const float *row, void *dst) {
    return qd_quantize(t->desc.format, row, 1, qd_columns(t), dst);
}

qd_status qd_ref_get_rows(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_tensor *table = n->in[0];
    for (int64_t r = 0; r < rows; r++) {
        const int32_t id = ((const int32_t *)in[1].data)[r];
        if (id < 0 || (table->desc.shape[0] != QD_ROWS && id >= table->desc.shape[0])) continue;
        const qd_status s =
            qd_dequantize(table->desc.format, qd_row(in[0], id), 1, qd_columns(table), qd_row(out[0], r));
        if (s) return s;
    }
    return QD_OK;
}

qd_status qd_ref_rms_norm(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const int64_t cols = qd_columns(n->in[0]);
    const float *weight = in[1].data;
    float *y = qd_alloc((size_t)cols * sizeof *y);
    qd_status status = y ? QD_OK : QD_ERR_MEMORY;
    for (int64_t r = 0; r < rows && !status; r++) {
        const float *x = qd_row(in[0], r);
        float p[QD_LANES] = {0};
        for (int64_t c = 0; c < cols; c++)
            p[c % QD_LANES] += x[c] * x[c];
        const float scale = 1.0f / qd_sqrt(qd_ref_tree(p) / (float)cols + n->attrs.rms_norm.epsilon);
        for (int64_t c = 0; c < cols; c++)
            y[c] = weight ? (x[c] * scale) * weight[c] : x[c] * scale;
        status = qd_ref_put_row(n->out[0], y, qd_row(out[0], r));
    }
    free(y);
    return status;
}

qd_status qd_ref_layer_norm(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const int64_t cols = qd_columns(n->in[0]);
    const float *weight = in[1].data, *bias = in[2].data;
    float *y = qd_alloc((size_t)cols * sizeof *y);
    qd_status status = y ? QD_OK : QD_ERR_MEMORY;
    for (int64_t r = 0; r < rows && !status; r++) {
        const float *x = qd_row(in[0], r);
        float p[QD_LANES] = {0}, q[QD_LANES] = {0};
        for (int64_t c = 0; c < cols; c++)
            p[c % QD_LANES] += x[c];
        const float mean = qd_ref_tree(p) / (float)cols;
        for (int64_t c = 0; c < cols; c++)
            q[c % QD_LANES] += (x[c] - mean) * (x[c] - mean);
        const float scale = 1.0f / qd_sqrt(qd_ref_tree(q) / (float)cols + n->attrs.layer_norm.epsilon);
        for (int64_t c = 0; c < cols; c++) {
            y[c] = (x[c] - mean) * scale;
            if (weight) y[c] *= weight[c];
            if (bias) y[c] += bias[c];
            y[c] = qd_one_nan(y[c]);
        }
        status = qd_ref_put_row(n->out[0], y, qd_row(out[0], r));
    }
    free(y);
    return status;
}

qd_status qd_ref_quantize(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    for (int64_t r = 0; r < rows; r++) {
        const qd_status s = qd_ref_put_row(n->out[0], qd_row(in[0], r), qd_row(out[0], r));
        if (s) return s;
    }
    return QD_OK;
}

qd_status qd_ref_swiglu(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const int64_t cols = qd_columns(n->in[0]);
    float *y = qd_alloc((size_t)cols * sizeof *y);
    qd_status status = y ? QD_OK : QD_ERR_MEMORY;
    for (int64_t r = 0; r < rows && !status; r++) {
        const float *gate = qd_row(in[0], r), *up = qd_row(in[1], r);
        for (int64_t c = 0; c < cols; c++)
            y[c] = qd_silu(gate[c]) * up[c];
        status = qd_ref_put_row(n->out[0], y, qd_row(out[0], r));
    }
    free(y);
    return status;
}

qd_status qd_ref_add(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    for (int64_t r = 0; r < rows; r++) {
        const float *a = qd_row(in[0], r), *b = qd_row(in[1], r);
        float *y = qd_row(out[0], r);
        for (int64_t c = 0; c < qd_columns(n->in[0]); c++)
            y[c] = a[c] + b[c];
    }
    return QD_OK;
}
