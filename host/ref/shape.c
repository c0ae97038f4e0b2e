/* Operators that move codes. */
#include <string.h>

#include "ref/ref.h"

/* Number of elements of dimensions [from, to). */
static int64_t span(const qd_tensor_desc *d, int from, int to) {
    int64_t n = 1;
    for (int i = from; i < to; i++)
        n *= d->shape[i];
    return n;
}

/* Copies row after row of the last dimension. */
qd_status qd_ref_concat(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_tensor_desc *y = &n->out[0]->desc;
    const int asked = n->attrs.concat.axis, axis = asked < 0 ? asked + y->rank : asked;
    const bool last = axis == y->rank - 1;
    /* Rows of y for one index of the dimensions before the axis; where an input starts among them, and in one of them.
     */
    const int64_t y_lines = last ? 1 : span(y, axis, y->rank - 1);
    int64_t first_line = 0;
    size_t first_byte = 0;
    for (int i = 0; i < QD_MAX_IN && n->in[i]; i++) {
        const qd_tensor_desc *x = &n->in[i]->desc;
        const size_t bytes = qd_format_row_bytes(x->format, x->shape[x->rank - 1]);
        const int64_t lines = last ? 1 : span(x, axis, x->rank - 1);
        const int64_t total = x->rank == 1 ? 1 : (axis ? rows : x->shape[0]) * span(x, 1, x->rank - 1);
        for (int64_t l = 0; l < total; l++) {
            char *to = qd_row(out[0], l / lines * y_lines + first_line + l % lines);
            memcpy(to + first_byte, qd_row(in[i], l), bytes);
        }
        if (last) {
            first_byte += bytes;
        } else {
            first_line += lines;
        }
    }
    return QD_OK;
}

/* Which of `size` elements stands at index i, which may lie before or after them; -1: the constant. */
static int64_t padded(qd_pad_mode mode, int64_t i, int64_t size) {
    if (i >= 0 && i < size) return i;
    switch (mode) {
        case QD_PAD_CONSTANT:
            return -1;
        case QD_PAD_EDGE:
            return i < 0 ? 0 : size - 1;
        default:
            return i < 0 ? -i : 2 * (size - 1) - i;
    }
}

qd_status qd_ref_pad(const qd_node *n, const qd_operand in[], const qd_operand out[], int64_t rows) {
    const qd_tensor_desc *x = &n->in[0]->desc, *y = &n->out[0]->desc;
    const int32_t code = QD_CODE(8, x->format == QD_FORMAT_I8);
    for (int64_t e = 0; e < rows * span(y, 1, y->rank); e++) {
        int64_t rest = e, at = 0, step = 1;
        for (int i = y->rank - 1; i >= 0 && at >= 0; i--) {
            const int64_t index = i ? rest % y->shape[i] : rest;
            const int64_t size = x->shape[i] == QD_ROWS ? rows : x->shape[i];
            const int64_t from = padded(n->attrs.pad.mode, index - n->attrs.pad.before[i], size);
            rest = i ? rest / y->shape[i] : 0;
            at = from < 0 ? -1 : at + from * step;
            step *= size;
        }
        qd_ref_put_code(out[0].data, e, code, at < 0 ? n->attrs.pad.value : qd_ref_code(in[0].data, at, code));
    }
    return QD_OK;
}
