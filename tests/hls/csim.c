#include "hls/csim.h"

#include "tops.h"
#include "unit/devices.h"

/* ---- Calls ------------------------------------------------------------------------------------------------------ */

#define OPERAND(o) (o).memory, (o).at, (o).stride

typedef __typeof__(matmul_int) matmul_int_top;

static void run_matmul_int(const csim_unit *u, const qd_node *n, const csim_operand in[], const csim_operand out[],
                           int64_t rows, int64_t cut) {
    matmul_int_top *top = (matmul_int_top *)u->function;
    qd_matmul_int_params p = n->params.matmul_int;
    const bool cuts = cut > 0 && cut < p.n && !p.batched;
    for (int part = 0; part < (cuts ? 2 : 1); part++) {
        csim_operand w = in[0];
        p.first = part ? (qd_i32)cut : 0;
        p.count = cuts && !part ? (qd_i32)cut : p.n - p.first;
        w.at += (uint64_t)p.first * w.stride;
        top(OPERAND(w), OPERAND(in[1]), OPERAND(in[2]), OPERAND(in[3]), OPERAND(in[4]), OPERAND(in[5]), OPERAND(out[0]),
            (const int *)&p, (int)rows);
    }
}

static void run_conv_int(const csim_unit *u, const qd_node *n, const csim_operand in[], const csim_operand out[],
                         int64_t rows, int64_t cut) {
    (void)cut;
    ((__typeof__(conv_int) *)u->function)(OPERAND(in[0]), OPERAND(in[1]), OPERAND(in[2]), OPERAND(in[3]),
                                          OPERAND(in[4]), OPERAND(in[5]), OPERAND(out[0]),
                                          (const int *)&n->params.conv_int, (int)rows);
}

/* The first byte of w has no offset: a part of the weights is a buffer of its own. */
static void run_matmul(const csim_unit *u, const qd_node *n, const csim_operand in[], const csim_operand out[],
                       int64_t rows, int64_t cut) {
    const int64_t N = n->in[0]->desc.shape[0], K = qd_columns(n->in[0]);
    const bool cuts = cut > 0 && cut < N;
    csim_operand addend = in[2];
    if (n->in[2] && n->in[2]->desc.rank == 1) addend.stride = 0; /* a bias: for all rows */
    for (int part = 0; part < (cuts ? 2 : 1); part++) {
        const int64_t first = part ? cut : 0, count = cuts && !part ? cut : N - first;
        csim_operand w = csim_upload((const char *)in[0].memory + in[0].at + (size_t)first * in[0].stride,
                                     (size_t)count * in[0].stride, 0, in[0].stride, 1, 0);
        ((__typeof__(matmul) *)u->function)(w.memory, OPERAND(in[1]), OPERAND(addend), OPERAND(out[0]),
                                            n->in[2] != NULL, (int)first, (int)count, (int)K, (int)rows);
        free(w.memory);
    }
}

static void run_table(const csim_unit *u, const qd_node *n, const csim_operand in[], const csim_operand out[],
                      int64_t rows, int64_t cut) {
    (void)cut;
    ((__typeof__(table) *)u->function)(OPERAND(in[0]), OPERAND(in[1]), OPERAND(out[0]), (const int *)&n->params.table,
                                       (int)rows);
}

/* ---- Units ------------------------------------------------------------------------------------------------------ */

#define QD_SHAPE(top, shape, options) extern __typeof__(top) top##_##shape;
#include "hls/shapes.def"

const csim_unit csim_units[] = {
#define QD_SHAPE(top, shape, options) {#top, #shape, options, (void (*)(void))top##_##shape, run_##top},
#include "hls/shapes.def"
};
const int csim_unit_count = (int)(sizeof csim_units / sizeof csim_units[0]);

const csim_unit *csim_find(const char *top, const char *shape) {
    for (int i = 0; i < csim_unit_count; i++) {
        if (!strcmp(csim_units[i].top, top) && !strcmp(csim_units[i].shape, shape)) return &csim_units[i];
    }
    return NULL;
}

qd_op csim_op(const csim_unit *u) {
    int op = 0;
    while (op < QD_OP_COUNT && strcmp(qd_op_get((qd_op)op)->name, u->top) != 0)
        op++;
    ck_assert_msg(op < QD_OP_COUNT, "shapes.def: no operator is called %s", u->top);
    return (qd_op)op;
}

bool csim_takes(const csim_unit *u, const qd_format formats[]) {
    const qd_format w = formats[0];
    if (strstr(u->options, "QD_CODEBOOK")) return false;
    if (csim_op(u) == QD_OP_MATMUL) {
        return formats[1] == QD_FORMAT_A8 && ((w == QD_FORMAT_Q8_0 && strstr(u->options, "QD_W_Q8_0")) ||
                                              (w == QD_FORMAT_Q4_0 && strstr(u->options, "QD_W_Q4_0")) ||
                                              (w == QD_FORMAT_Q4_1 && strstr(u->options, "QD_W_Q4_1")));
    }
    return !strstr(u->options, "QD_W_BITS=4") || w == QD_FORMAT_I4 || w == QD_FORMAT_U4;
}

/* ---- Memory ----------------------------------------------------------------------------------------------------- */

csim_operand csim_upload(const void *data, size_t bytes, size_t first, size_t stride, size_t size, uint64_t salt) {
    if (!data) return (csim_operand){NULL, 0, 0};
    const size_t before = (size_t)(salt % 64) / size * size, whole = (before + bytes + 63) / 64 * 64;
    char *memory = aligned_alloc(64, whole);
    ck_assert_ptr_nonnull(memory);
    memset(memory, 0x33, whole);
    memcpy(memory + before, data, bytes);
    return (csim_operand){memory, before + first, stride};
}
