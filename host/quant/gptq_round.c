/* GPTQ (Frantar et al., 2022). Rows do not depend on each other: several threads take a few rows each. Within them, the
 * columns are rounded one after the other; what the rounding of a column costs is spread at once over the rest of its
 * block of 128, and over the columns behind the block when that is done. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "qdot/qdot_methods.h"
#include "qdot/qdot_num.h"
#include "quant/hessian.h"
#include "quant/matrix.h"
#include "quant/pieces.h"
#include "quant/uniform.h"

enum { BLOCK = 128, ROWS = 16, TILE = 256 };

typedef struct job {
    const float *w; /* columns without an input are 0 */
    const float *u; /* factor of the inverse Hessian, in the order of the columns */
    int64_t *order; /* the column of each place in turn */
    quant_uniform to;
    bool refresh; /* scales are chosen in turn */
    const qd_gptq_options *options;
} job;

/* Memory of one thread, for ROWS rows. */
typedef struct room {
    float *x;           /* [row][place]: the weights that are aimed at */
    float *error;       /* [row][place in the block], over the diagonal of the factor */
    uint8_t *codes;     /* [row][column] */
    quant_group *group; /* [row][group] */
} room;

static void room_free(void *memory) {
    room *m = memory;
    free(m->x);
    free(m->error);
    free(m->codes);
    free(m->group);
    free(m);
}

static qd_status room_make(void *user, void **memory) {
    const job *j = user;
    room *m = qd_alloc_zero(1, sizeof *m);
    if (!m) return QD_ERR_MEMORY;
    m->x = qd_alloc((size_t)(ROWS * j->to.cols) * sizeof *m->x);
    m->error = qd_alloc(ROWS * BLOCK * sizeof *m->error);
    m->codes = qd_alloc((size_t)(ROWS * j->to.cols));
    m->group = qd_alloc((size_t)(ROWS * j->to.groups) * sizeof *m->group);
    const bool ok = m->x && m->error && m->codes && m->group;
    if (!ok) {
        room_free(m);
        return QD_ERR_MEMORY;
    }
    *memory = m;
    return QD_OK;
}

/* y -= factor · u over n columns. */
QD_WIDE_LOOPS static void spread(float *y, float factor, const float *u, int64_t n) {
    for (int64_t k = 0; k < n; k++)
        y[k] -= factor * u[k];
}

/* Rounds the weight at a place of a row, and spreads the error up to place `end`. Returns the error over the factor's
 * diagonal. */
static float round_one(const job *j, float *x, const quant_group *group, int64_t place, int64_t end, uint8_t *codes) {
    const int64_t column = j->order[place];
    const quant_group *g = &group[column / j->to.group];
    const float *u = j->u + place * j->to.cols;
    const int32_t code =
        qd_to_code(qd_round_even_i32((x[place] - g->offset) * g->inverse), g->zero, j->to.lowest, j->to.highest);
    const float error = (x[place] - ((float)(code - g->zero) * g->scale + g->offset)) / u[place];
    codes[column] = (uint8_t)code;
    spread(x + place + 1, error, u + place + 1, end - place - 1);
    return error;
}

/* The end of the block that begins at a place: no group begins within it whose end lies behind it, because a group's
 * scale is chosen for weights that know of all errors before it. */
static int64_t block_end(const job *j, int64_t place) {
    const int64_t cols = j->to.cols, group = j->to.group;
    int64_t end = place + BLOCK;
    if (j->refresh && group < BLOCK) end = place + BLOCK / group * group;
    if (j->refresh && group > BLOCK && end > (place / group + 1) * group) end = (place / group + 1) * group;
    return end < cols ? end : cols;
}

static qd_status round_rows(void *user, int64_t piece, void *memory) {
    const job *j = user;
    const room *m = memory;
    const int64_t cols = j->to.cols, groups = j->to.groups, first = piece * ROWS;
    const int64_t rows = j->to.rows - first < ROWS ? j->to.rows - first : ROWS;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t p = 0; p < cols; p++)
            m->x[r * cols + p] = j->w[(first + r) * cols + j->order[p]];
        for (int64_t g = 0; g < groups; g++)
            m->group[r * groups + g] = qd_uniform_group(&j->to, first + r, g);
    }
    for (int64_t begin = 0, end; begin < cols; begin = end) {
        end = block_end(j, begin);
        for (int64_t r = 0; r < rows; r++) {
            float *x = m->x + r * cols;
            quant_group *group = m->group + r * groups;
            for (int64_t p = begin; p < end; p++) {
                if (j->refresh && p % j->to.group == 0) {
                    const qd_status status = qd_uniform_choose(&j->to, first + r, p / j->to.group, x + p);
                    if (status) return status;
                    group[p / j->to.group] = qd_uniform_group(&j->to, first + r, p / j->to.group);
                }
                m->error[r * BLOCK + p - begin] = round_one(j, x, group, p, end, m->codes + r * cols);
            }
        }
        for (int64_t tile = end; tile < cols; tile += TILE) {
            const int64_t n = cols - tile < TILE ? cols - tile : TILE;
            for (int64_t p = begin; p < end; p++) {
                for (int64_t r = 0; r < rows; r++)
                    spread(m->x + r * cols + tile, m->error[r * BLOCK + p - begin], j->u + p * cols + tile, n);
            }
        }
    }
    for (int64_t r = 0; r < rows; r++)
        qd_uniform_put(&j->to, first + r, m->codes + r * cols);
    return QD_OK;
}

static bool tell(void *user, double done) {
    const job *j = user;
    return !j->options->progress || j->options->progress(j->options->user, done);
}

typedef struct ranked {
    double size;
    int64_t column;
} ranked;

static int descending(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->size != y->size) return x->size < y->size ? 1 : -1;
    return x->column < y->column ? -1 : 1;
}

/* The columns by descending diagonal, or as they are. */
static qd_status make_order(const double *hessian, int64_t cols, bool act_order, int64_t *order) {
    ranked *list = qd_alloc((size_t)cols * sizeof *list);
    if (!list) return QD_ERR_MEMORY;
    for (int64_t k = 0; k < cols; k++)
        list[k] = (ranked){qd_hessian_at(hessian, cols, k, k), k};
    if (act_order) qsort(list, (size_t)cols, sizeof *list, descending);
    for (int64_t k = 0; k < cols; k++)
        order[k] = list[k].column;
    free(list);
    return QD_OK;
}

qd_status qd_gptq(const float *w, int64_t rows, int64_t cols, const double *hessian, const qd_storage *to,
                  const qd_gptq_options *options, void *dst, float *side, qd_loss *loss) {
    static const qd_gptq_options defaults = {.damping = 0.01};
    const qd_gptq_options *o = options ? options : &defaults;
    if (!w || !hessian || !to || !dst || !loss || (to->format == QD_FORMAT_COUNT && !side) || rows < 1 ||
        !qd_hessian_count(cols) || !(o->damping >= 0 && o->damping < 1e6)) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_gptq: a matrix of %lld × %lld, damping %g, or a pointer that is NULL",
                       (long long)rows, (long long)cols, o->damping);
    }
    qd_status status = QD_ERR_MEMORY;
    float *copy = NULL, *u = NULL;
    job j = {.options = o};
    QD_TRY(qd_uniform_open(to, rows, cols, dst, side, &j.to));
    status = QD_ERR_MEMORY;
    copy = qd_alloc((size_t)(rows * cols) * sizeof *copy);
    u = qd_alloc((size_t)(cols * cols) * sizeof *u);
    j.order = qd_alloc((size_t)cols * sizeof *j.order);
    if (!copy || !u || !j.order) goto error;
    memcpy(copy, w, (size_t)(rows * cols) * sizeof *copy);
    for (int64_t k = 0; k < cols; k++) {
        for (int64_t r = 0; qd_hessian_at(hessian, cols, k, k) == 0 && r < rows; r++)
            copy[r * cols + k] = isfinite(w[r * cols + k]) ? 0 : w[r * cols + k];
    }
    j.w = copy;
    j.u = u;
    j.refresh = j.to.apart && !o->act_order;
    QD_TRY(make_order(hessian, cols, o->act_order, j.order));
    QD_TRY(qd_hessian_factor(hessian, cols, j.order, o->damping, u));
    /* Scales as they are without GPTQ; it also finds what cannot be quantized. */
    const qd_matrix plain = {{.format = QD_FORMAT_F32}, rows, cols, copy, NULL};
    QD_TRY(qd_matrix_quantize(&plain, to, &(qd_quantize_options){.threads = o->threads}, dst, side, loss));
    QD_TRY(qd_pieces_run(&(quant_pieces){.count = (rows + ROWS - 1) / ROWS,
                                         .threads = o->threads,
                                         .run = round_rows,
                                         .room_make = room_make,
                                         .room_free = room_free,
                                         .progress = tell,
                                         .user = &j}));
    QD_TRY(qd_matrix_loss(w, rows, cols, to, dst, side, o->threads, loss));
error:
    free(copy);
    free(u);
    free(j.order);
    return status;
}
