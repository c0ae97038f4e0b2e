/* Values by the functions of hls/, run as C. Each is compiled once for each of its weight formats, in a shape that a
 * processor likes (host/CMakeLists.txt); values do not depend on the shape (tests/hls). */
#include "parts.h"
#include "tops.h"

extern __typeof__(matmul_int) qd_hls_matmul_int;
extern __typeof__(conv_int) qd_hls_conv_int;
extern __typeof__(table) qd_hls_table;
extern __typeof__(matmul) qd_hls_matmul_q8_0, qd_hls_matmul_q4_0, qd_hls_matmul_q4_1;

_Static_assert(QD_HOST_BEAT == QD_BURST, "operands are made of whole beats");

/* MATMUL's, by the format of the weights; NULL: none. */
static __typeof__(matmul) *matmul_of(const qd_node *n) {
    if (n->in[1]->desc.format != QD_FORMAT_A8) return NULL;
    switch (n->in[0]->desc.format) {
        case QD_FORMAT_Q8_0:
            return qd_hls_matmul_q8_0;
        case QD_FORMAT_Q4_0:
            return qd_hls_matmul_q4_0;
        case QD_FORMAT_Q4_1:
            return qd_hls_matmul_q4_1;
        default:
            return NULL;
    }
}

const char *sim_function(const qd_node *n) {
    if (qd_host_takes_rows(n)) return NULL;
    switch (n->op) {
        case QD_OP_MATMUL:
            return matmul_of(n) ? "matmul_hls" : NULL;
        case QD_OP_MATMUL_INT:
            return "matmul_int_hls";
        case QD_OP_CONV_INT:
            return "conv_int_hls";
        case QD_OP_TABLE:
            return "table_hls";
        default:
            return NULL;
    }
}

#define OPERAND(o) (o).data, 0, (o).stride

void sim_compute(const qd_node *n, const qd_host_operands *o, int64_t rows) {
    const qd_operand *in = o->in, *out = o->out;
    qd_operand addend = in[2];
    switch (n->op) {
        case QD_OP_MATMUL:
            if (n->in[2] && n->in[2]->desc.rank == 1) addend.stride = 0; /* a bias: for all rows */
            matmul_of(n)(in[0].data, OPERAND(in[1]), OPERAND(addend), OPERAND(out[0]), n->in[2] != NULL, 0,
                         (int)n->in[0]->desc.shape[0], (int)qd_columns(n->in[0]), (int)rows);
            break;
        case QD_OP_MATMUL_INT:
            qd_hls_matmul_int(OPERAND(in[0]), OPERAND(in[1]), OPERAND(in[2]), OPERAND(in[3]), OPERAND(in[4]),
                              OPERAND(in[5]), OPERAND(out[0]), (const int *)&n->params.matmul_int, (int)rows);
            break;
        case QD_OP_CONV_INT:
            qd_hls_conv_int(OPERAND(in[0]), OPERAND(in[1]), OPERAND(in[2]), OPERAND(in[3]), OPERAND(in[4]),
                            OPERAND(in[5]), OPERAND(out[0]), (const int *)&n->params.conv_int, (int)rows);
            break;
        default:
            qd_hls_table(OPERAND(in[0]), OPERAND(in[1]), OPERAND(out[0]), (const int *)&n->params.table, (int)rows);
    }
}
