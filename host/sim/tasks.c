/* An operator as work for a board. */
#include <stdio.h>
#include <string.h>

#include "parts.h"

enum { RUN = 16 }; /* codes of a block of activations: of a sum */

/* ---- The unit ----------------------------------------------------------------------------------------------- */

static bool unit_matmul(const qd_node *n, int64_t rows, int lanes, qd_sim_task *t) {
    const qd_format w = n->in[0]->desc.format;
    if (n->in[1]->desc.format != QD_FORMAT_A8 || RUN % lanes) return false;
    if (w != QD_FORMAT_Q8_0 && w != QD_FORMAT_Q4_0 && w != QD_FORMAT_Q4_1) return false;
    const double codes = w == QD_FORMAT_Q8_0 ? 1 : 0.5; /* bytes of one in the stream */
    t->n = n->in[0]->desc.shape[0];
    t->m = rows;
    t->k = qd_columns(n->in[0]);
    t->times = 1;
    t->w_bits = w == QD_FORMAT_Q8_0 ? 8 : 4;
    t->part = RUN;
    t->w_memory = (double)qd_format_row_bytes(w, 32) / (32 * codes);
    t->x_memory = (double)qd_format_row_bytes(QD_FORMAT_A8, RUN) / RUN;
    t->y_memory = sizeof(float);
    return true;
}

static bool unit_matmul_int(const qd_node *n, int64_t rows, qd_sim_task *t) {
    const qd_matmul_int_params *p = &n->params.matmul_int;
    if (p->wide) return false;
    t->n = p->n;
    t->m = p->batched ? p->m : rows * p->m;
    t->k = p->k;
    t->times = p->batched ? rows : 1;
    t->w_bits = QD_CODE_BITS(p->w_code);
    t->w_memory = t->x_memory = 1;
    t->y_memory = QD_CODE_BITS(p->y.code) / 8.0;
    return true;
}

/* Bytes of x that lie side by side for a window: of all its channels those in a line of it, where channels are the last
 * dimension; else, and where a window has some channels only, a line of the image. */
static int64_t run_of(const qd_conv_int_params *p) {
    const qd_window_params *v = &p->window;
    const bool point = v->kernel_h * v->kernel_w == 1 && v->stride_h * v->stride_w == 1;
    if (p->groups > 1 || v->x_channel != 1) return point ? 0 : v->out_w;
    return point ? 0 : (int64_t)v->channels * (v->dilation_w == 1 ? v->kernel_w : 1);
}

static bool unit_conv_int(const qd_node *n, int64_t rows, qd_sim_task *t) {
    const qd_conv_int_params *p = &n->params.conv_int;
    t->n = p->window.out_channels / p->groups;
    t->m = (int64_t)p->window.out_h * p->window.out_w;
    t->k = p->w_row;
    t->times = p->groups * rows;
    t->w_bits = QD_CODE_BITS(p->w_code);
    t->w_memory = t->x_memory = 1;
    t->y_memory = QD_CODE_BITS(p->y.code) / 8.0;
    t->run = run_of(p);
    return true;
}

static bool on_unit(const qd_node *n, int64_t rows, int lanes, qd_sim_task *t) {
    if (qd_host_takes_rows(n)) return false;
    switch (n->op) {
        case QD_OP_MATMUL:
            return unit_matmul(n, rows, lanes, t);
        case QD_OP_MATMUL_INT:
            return unit_matmul_int(n, rows, t);
        case QD_OP_CONV_INT:
            return unit_conv_int(n, rows, t);
        default:
            return false;
    }
}

/* ---- The vector unit ---------------------------------------------------------------------------------------- */

static double elements_of(const qd_tensor *t, int64_t rows) {
    double all = 1;
    for (int i = 0; i < t->desc.rank; i++)
        all *= (double)(t->desc.shape[i] == QD_ROWS ? rows : t->desc.shape[i]);
    return all;
}

/* The position of the first row, from a tensor of one. */
static qd_status position_of(qd_host *h, qd_tensor *t, int64_t *out) {
    int32_t position = 0;
    const void *constant;
    qd_status status;
    if (qd_is_constant(t)) {
        status = qd_constant_bytes(t, &constant);
        if (!status) memcpy(&position, constant, sizeof position);
    } else {
        status = qd_host_read(h, t->buffer, t->offset, &position, sizeof position);
    }
    *out = position;
    return status;
}

/* Operators that touch a part of a table or cache only. */
static qd_status touch_parts(qd_host *h, const qd_node *n, int64_t rows, qd_sim_task *t) {
    int64_t position;
    switch (n->op) {
        case QD_OP_GET_ROWS:
            t->reads = (double)rows * (double)n->in[0]->stride;
            return QD_OK;
        case QD_OP_ROPE:
            t->reads -= (double)qd_host_extent(n->in[1], rows);
            t->reads += (double)rows * (double)n->in[1]->stride;
            return QD_OK;
        case QD_OP_KV_STORE:
            t->elements = elements_of(n->in[0], rows) + elements_of(n->in[1], rows);
            t->writes = n->out[0]->desc.format == QD_FORMAT_F32
                            ? t->reads
                            : (double)(qd_host_extent(n->out[0], rows) + qd_host_extent(n->out[1], rows)) *
                                  (double)rows / (double)n->out[0]->desc.shape[1];
            return QD_OK;
        case QD_OP_SET_ROWS:
            t->writes = (double)qd_host_extent(n->in[0], rows);
            t->elements = elements_of(n->in[0], rows);
            return QD_OK;
        case QD_OP_MATMUL_EXPERTS:
            t->reads -= (double)qd_host_extent(n->in[0], rows);
            t->reads +=
                elements_of(n->in[2], rows) * (double)qd_host_extent(n->in[0], rows) / (double)n->in[0]->desc.shape[0];
            return QD_OK;
        case QD_OP_ATTENTION: {
            const qd_status status = position_of(h, n->in[3], &position);
            if (status) return status;
            const int64_t cache = n->in[1]->desc.shape[1];
            int64_t seen = position + rows < cache ? position + rows : cache;
            if (seen < 1) seen = 1;
            const double part = (double)seen / (double)cache;
            const double both = (double)(qd_host_extent(n->in[1], rows) + qd_host_extent(n->in[2], rows));
            t->reads += both * (part - 1);
            t->macs = 2 * elements_of(n->in[0], rows) * (double)seen;
            return QD_OK;
        }
        default:
            return QD_OK;
    }
}

/* Bits of an element without the scales of its block, as they go through a beat: at least 8. */
static int element_bits(const qd_tensor *t) {
    const qd_format_info *f = qd_format_get(t->desc.format);
    const int64_t bits = f->bytes * 8 / f->block;
    return bits < 8 ? 8 : (int)bits;
}

static qd_status on_vector(qd_host *h, const qd_node *n, int64_t rows, qd_sim_task *t) {
    t->place = QD_SIM_VECTOR;
    if (n->in[0]) t->element_bits = element_bits(n->in[0]);
    for (int i = 0; i < QD_MAX_IN; i++) {
        if (!n->in[i]) continue;
        t->reads += (double)qd_host_extent(n->in[i], rows);
        if (i == 0 && n->op != QD_OP_GET_ROWS && n->macs == 0) t->elements = elements_of(n->in[i], rows);
    }
    for (int i = 0; i < QD_MAX_OUT; i++) {
        if (!n->out[i]) continue;
        t->writes += (double)qd_host_extent(n->out[i], rows);
        if (elements_of(n->out[i], rows) > t->elements) t->elements = elements_of(n->out[i], rows);
    }
    return touch_parts(h, n, rows, t);
}

/* ---- Any ---------------------------------------------------------------------------------------------------- */

qd_status sim_task_of(qd_host *h, const qd_node *n, int64_t rows, int lanes, qd_sim_task *out) {
    const char *name = qd_op_get(n->op)->name, *format = n->in[0] ? qd_format_get(n->in[0]->desc.format)->name : "";
    qd_status status = QD_OK;
    memset(out, 0, sizeof *out);
    out->macs = n->macs * (double)rows;
    if (on_unit(n, rows, lanes, out)) {
        out->place = QD_SIM_UNIT;
        snprintf(out->name, sizeof out->name, "%s %s %lld x %lld x %lld", name, format, (long long)out->n,
                 (long long)out->m, (long long)out->k);
    } else {
        status = on_vector(h, n, rows, out);
        if (out->macs > 0) {
            snprintf(out->name, sizeof out->name, "%s %s x %s, %lld", name, format,
                     n->in[1] ? qd_format_get(n->in[1]->desc.format)->name : "", (long long)qd_columns(n->out[0]));
        } else {
            snprintf(out->name, sizeof out->name, "%s", name);
        }
    }
    return status;
}
