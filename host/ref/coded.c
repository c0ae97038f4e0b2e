/* Products with coded weights, and rows of them. */
#include <stdlib.h>

#include "formats/coding.h"
#include "ref/ref.h"

/* What stands for the codes of 16 weights. */
typedef struct codes16 {
    float scale;
    float value[16];
    int32_t whole[16]; /* UNIFORM: code - zero; SHIFT: ± 2^(e - 1) */
} codes16;

static void read_codes(const qd_coded_row *r, int64_t k, codes16 *out) {
    const int32_t top = 1 << (r->p->bits - 1);
    const int64_t g = k / r->p->group;
    const int32_t zero = qd_coded_zero(r, g);
    out->scale = qd_coded_scale(r, g);
    for (int i = 0; i < 16; i++) {
        const int32_t code = qd_coded_code(r, k + i) - zero, e = code & (top - 1);
        out->value[i] = qd_coded_value(r, code, k + i);
        out->whole[i] = code;
        if (r->p->kind == QD_CODED_SHIFT && r->p->bits <= 5) {
            const int32_t power = e ? 1 << (e - 1) : 0;
            out->whole[i] = code & top ? -power : power;
        }
    }
}

/* 16 weights meet a block of activations. */
static float dot16(const qd_coded_params *p, const codes16 *w, const qd_block_a8 *x) {
    float sum;
    if (p->kind == QD_CODED_UNIFORM || (p->kind == QD_CODED_SHIFT && p->bits <= 5)) {
        int32_t whole = 0;
        for (int i = 0; i < 16; i++)
            whole += w->whole[i] * x->q[i];
        sum = (float)whole;
        if (p->kind == QD_CODED_SHIFT) sum /= (float)(1 << ((1 << (p->bits - 1)) - 2));
    } else {
        float part[QD_LANES];
        for (int i = 0; i < 16; i++)
            part[i] = w->value[i] * (float)x->q[i];
        sum = qd_ref_tree(part);
    }
    return w->scale * (x->d * sum);
}

static float dot_blocks(const qd_coded_params *p, const codes16 *w, const qd_block_a8 *x) {
    float part[QD_BLOCK_LANES] = {0};
    for (int64_t b = 0; b < p->k / 16; b++)
        part[b % QD_BLOCK_LANES] += dot16(p, &w[b], &x[b]);
    return (part[0] + part[1]) + (part[2] + part[3]);
}

static float dot_floats(const float *w, const float *x, int64_t count) {
    float part[QD_LANES] = {0};
    for (int64_t k = 0; k < count; k++)
        part[k % QD_LANES] += w[k] * x[k];
    return qd_ref_tree(part);
}

static float dot_vectors(const qd_coded_row *r, const void *x) {
    const qd_coded_params *p = r->p;
    const qd_block_a8 *block = x;
    float part[QD_LANES] = {0};
    for (int64_t j = 0; j < p->k / p->length; j++) {
        const int32_t code = qd_coded_code(r, j);
        float sum = 0;
        for (int64_t k = j * p->length; k < (j + 1) * p->length; k++) {
            const float v = p->a8 ? block[k / 16].d * (float)block[k / 16].q[k % 16] : ((const float *)x)[k];
            const float product = qd_coded_value(r, code, k) * v;
            sum = k == j * p->length ? product : sum + product;
        }
        part[j % QD_LANES] += sum;
    }
    return qd_coded_scale(r, 0) * qd_ref_tree(part);
}

qd_status qd_ref_matmul_coded(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_coded_params *p = &n->params.coded;
    float *values = qd_alloc((size_t)p->k * sizeof *values);
    codes16 *codes = qd_alloc((size_t)(p->k / 16 + 1) * sizeof *codes);
    const qd_status status = values && codes ? QD_OK : QD_ERR_MEMORY;
    for (int64_t i = 0; !status && i < p->n; i++) {
        const qd_coded_row row = {p, qd_row(in[0], i), in[1].data, i};
        if (p->kind == QD_CODED_PRODUCT) {
        } else if (p->a8) {
            for (int64_t b = 0; b < p->k / 16; b++)
                read_codes(&row, 16 * b, &codes[b]);
        } else {
            qd_coded_values(&row, values);
        }
        for (int64_t r = 0; r < rows; r++) {
            const void *x = qd_row(in[2], r);
            float y = p->kind == QD_CODED_PRODUCT ? dot_vectors(&row, x)
                      : p->a8                     ? dot_blocks(p, codes, x)
                                                  : dot_floats(values, x, p->k);
            if (p->addend != QD_ABSENT) y += ((const float *)qd_row(in[3], p->addend == QD_SHARED ? 0 : r))[i];
            ((float *)qd_row(out[0], r))[i] = qd_one_nan(y);
        }
    }
    free(values);
    free(codes);
    return status;
}

qd_status qd_ref_get_rows_coded(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_coded_params *p = &n->params.coded;
    for (int64_t r = 0; r < rows; r++) {
        const int32_t id = ((const int32_t *)in[2].data)[r];
        if (id < 0 || id >= p->n) continue;
        const qd_coded_row row = {p, qd_row(in[0], id), in[1].data, id};
        float *y = qd_row(out[0], r);
        qd_coded_values(&row, y);
        for (int64_t c = 0; c < p->k; c++)
            y[c] = qd_one_nan(y[c]);
    }
    return QD_OK;
}
