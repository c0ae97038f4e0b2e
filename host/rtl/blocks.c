/* MATMUL of block formats with int8 activations: the unit gives the sum of each run of 16 codes, as long as a block of
 * activations; the host scales and adds them in the reference's order. Sums this short leave the unit more often than
 * they use it: correct, not fast. */
#include <stdlib.h>
#include <string.h>

#include "qdot/qdot_num.h"
#include "ref/ref.h"
#include "rtl/operators.h"
#include "rtl/product.h"

enum { RUN = 16 };

/* Sums of a piece of the rows at most. */
enum { SUMS = 1 << 24 };

qd_status rtl_takes_blocks(const rtl_shape *s, const qd_node *n) {
    const qd_format w = n->in[0]->desc.format;
    if (n->in[1]->desc.format != QD_FORMAT_A8 || (w != QD_FORMAT_Q4_0 && w != QD_FORMAT_Q4_1 && w != QD_FORMAT_Q8_0))
        return qd_fail(QD_ERR_UNSUPPORTED,
                       "matmul: the unit multiplies q4_0, q4_1 and q8_0 with int8 activations only");
    if (RUN % s->lanes != 0)
        return qd_fail(QD_ERR_UNSUPPORTED, "matmul: %d lanes do not divide blocks of %d codes", s->lanes, RUN);
    return QD_OK;
}

/* Codes of a row, a byte each, unsigned where they have 4 bits; those of Q4_0 have the zero point 8. */
static void copy_row(qd_format f, const void *row, int64_t blocks, uint8_t *to) {
    const qd_block_q8_0 *q8_0 = row;
    const qd_block_q4_0 *q4_0 = row;
    const qd_block_q4_1 *q4_1 = row;
    for (int64_t b = 0; b < blocks; b++, to += 2 * RUN) {
        if (f == QD_FORMAT_Q8_0) {
            memcpy(to, q8_0[b].q, 2 * RUN);
            continue;
        }
        const uint8_t *q = f == QD_FORMAT_Q4_0 ? q4_0[b].q : q4_1[b].q;
        for (int i = 0; i < RUN; i++) {
            to[i] = q[i] & 15;
            to[i + RUN] = q[i] >> 4;
        }
    }
}

static float scale_of(qd_format f, const void *row, int64_t b) {
    return qd_half_to_float(f == QD_FORMAT_Q8_0   ? ((const qd_block_q8_0 *)row)[b].d
                            : f == QD_FORMAT_Q4_0 ? ((const qd_block_q4_0 *)row)[b].d
                                                  : ((const qd_block_q4_1 *)row)[b].d);
}

/* One result, as the reference adds it up: four interleaved partial sums. */
static float add_blocks(qd_format f, const void *w, const qd_block_a8 *x, const int32_t *sums, int64_t blocks) {
    float p[QD_BLOCK_LANES] = {0};
    for (int64_t b = 0; b < blocks; b++) {
        const qd_block_a8 *lo = &x[2 * b], *hi = lo + 1;
        float t = scale_of(f, w, b) * (lo->d * (float)sums[2 * b] + hi->d * (float)sums[2 * b + 1]);
        if (f == QD_FORMAT_Q4_1)
            t += qd_half_to_float(((const qd_block_q4_1 *)w)[b].m) * (lo->d * lo->sum + hi->d * hi->sum);
        p[b % QD_BLOCK_LANES] += t;
    }
    return (p[0] + p[1]) + (p[2] + p[3]);
}

/* Rows first … first + p->m - 1. */
static qd_status run_rows(rtl_board *b, rtl_product *p, uint8_t *x, const qd_node *n, const qd_operand in[],
                          const qd_operand out[], int64_t first) {
    const qd_format f = n->in[0]->desc.format;
    const bool bias = n->in[2] && n->in[2]->desc.rank == 1;
    for (int64_t r = 0; r < p->m; r++) {
        const qd_block_a8 *from = qd_row(in[1], first + r);
        for (int64_t k = 0; k < p->k; k += RUN)
            memcpy(x + r * p->k + k, from[k / RUN].q, RUN);
    }
    const qd_status status = rtl_product_run(b, p);
    for (int64_t r = 0; r < p->m && !status; r++) {
        for (int64_t i = 0; i < p->n; i++) {
            const int32_t *sums = p->y + (r * p->n + i) * (p->k / RUN);
            float y = add_blocks(f, qd_row(in[0], i), qd_row(in[1], first + r), sums, p->k / 32);
            if (n->in[2]) y += ((const float *)qd_row(in[2], bias ? 0 : first + r))[i];
            ((float *)qd_row(out[0], first + r))[i] = y;
        }
    }
    return status;
}

qd_status rtl_compute_blocks(rtl_board *b, const qd_node *n, const qd_operand in[], const qd_operand out[],
                             int64_t rows) {
    const qd_format f = n->in[0]->desc.format;
    const int64_t k = qd_columns(n->in[0]), N = n->in[0]->desc.shape[0], fit = SUMS / (N * (k / RUN)),
                  most = fit < 1      ? 1
                         : fit < rows ? fit
                                      : rows;
    qd_status status = QD_ERR_MEMORY;
    uint8_t *w = qd_alloc((size_t)(N * k)), *x = qd_alloc((size_t)(most * k));
    rtl_channel *channels = qd_alloc((size_t)N * sizeof *channels);
    int32_t *y = qd_alloc((size_t)(most * N * (k / RUN)) * sizeof *y);
    if (!w || !x || !channels || !y) goto error;
    for (int64_t i = 0; i < N; i++) {
        copy_row(f, qd_row(in[0], i), k / 32, w + i * k);
        channels[i] = (rtl_channel){.a = 2, .b = 1, .w_zero = f == QD_FORMAT_Q4_0 ? 8 : 0};
    }
    status = QD_OK;
    for (int64_t first = 0; first < rows; first += most) {
        rtl_product p = {.n = N,
                         .m = rows - first < most ? rows - first : most,
                         .k = k,
                         .w = {w, f == QD_FORMAT_Q8_0},
                         .x = {x, true},
                         .w_bits = f == QD_FORMAT_Q8_0 ? 8 : 4,
                         .channels = channels,
                         .flags = RTL_RAW,
                         .part = RUN,
                         .y = y};
        QD_TRY(run_rows(b, &p, x, n, in, out, first));
    }
error:
    free(w);
    free(x);
    free(channels);
    free(y);
    return status;
}
