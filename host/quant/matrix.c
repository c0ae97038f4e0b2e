/* qd_matrix_quantize: rows in pieces that several threads take in turn. Where a target has tables or scales that all
 * rows share, the whole matrix is quantized at once, and only reading and measuring is shared out. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "formats/coding.h"
#include "quant/matrix.h"
#include "quant/pieces.h"
#include "quant/steps.h"

/* Elements of a piece: small enough for a processor's cache, large enough for the lock not to matter. */
enum { PIECE = 65536 };

typedef enum phase { READ, QUANTIZE, MEASURE } phase;

typedef struct job {
    const qd_matrix *src;
    const qd_storage *to;
    const qd_quantize_options *options;
    unsigned char *dst;
    float *side;
    float *whole; /* all weights of src; NULL: each piece is quantized by itself */
    quant_steps steps;
    phase phase;
    size_t src_row, dst_row;
    int64_t rows_each, pieces;
    qd_loss *losses; /* of each piece: added in order, so that the sum does not depend on the threads */
} job;

/* Memory of one thread. */
typedef struct room {
    float *x, *y, *low, *steps, *side;
    unsigned char *copy;
} room;

bool qd_rows_are_apart(const qd_storage *s) {
    const qd_coding *c = &s->coding;
    if (s->format != QD_FORMAT_COUNT) return true;
    /* Scales in E4M3 are relative to one of the tensor. */
    if (c->group == -1 || c->nested || c->scale == QD_SCALE_E4M3 || c->kind == QD_CODING_PRODUCT) return false;
    return c->scale != QD_SCALE_NONE || c->per_row;
}

static qd_status refuse(const job *j, int64_t row, const float *x, const float *y, int64_t cols) {
    for (int64_t i = 0;; i++) {
        const long long r = (long long)(row + i / cols), c = (long long)(i % cols);
        if (!isfinite(x[i])) {
            return qd_fail(QD_ERR_ARGUMENT,
                           "row %lld, column %lld is %s, which cannot be quantized; repair the weights", r, c,
                           isnan(x[i]) ? "NaN" : "infinite");
        }
        if (y && !isfinite(y[i])) {
            char name[64];
            qd_storage_name(j->to, name, sizeof name);
            return qd_fail(QD_ERR_ARGUMENT, "row %lld, column %lld is %g, which is too large for %s; use bf16 or f32",
                           r, c, (double)x[i], name);
        }
    }
}

static bool all_finite(const float *x, int64_t n) {
    /* x - x is 0, or NaN. */
    float sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += x[i] - x[i];
    return sum == 0;
}

static qd_status quantize_piece(const job *j, int64_t first, int64_t count, const float *x, float *side) {
    const int64_t cols = j->src->cols;
    unsigned char *dst = j->dst + (size_t)first * j->dst_row;
    const float *importance = j->options->importance;
    if (j->to->format != QD_FORMAT_COUNT) return qd_quantize_weighted(j->to->format, x, count, cols, importance, dst);
    return qd_coding_quantize(&j->to->coding, x, count, cols, importance, dst, side);
}

static void add_losses(const float *x, const float *y, const float *steps, int64_t n, qd_loss *out) {
    qd_loss l = {.count = (double)n, .steps = steps ? 0 : (double)NAN};
    for (int64_t i = 0; i < n; i++) {
        const double a = (double)x[i], b = (double)y[i], e = fabs(a - b);
        l.absolute += e;
        if (e > l.largest) l.largest = e;
        l.xx += a * a;
        l.yy += b * b;
        l.xy += a * b;
        l.squares += e * e;
    }
    for (int64_t i = 0; steps && i < n; i++) {
        const double e = fabs((double)x[i] - (double)y[i]) / (double)steps[i];
        if (steps[i] > 0 && e > l.steps) l.steps = e;
    }
    *out = l;
}

static qd_status measure_piece(const job *j, int64_t first, int64_t count, const float *x, const room *m,
                               qd_loss *out) {
    const int64_t rows = j->src->rows, cols = j->src->cols;
    const unsigned char *dst = j->dst + (size_t)first * j->dst_row;
    qd_status status;
    QD_TRY(qd_storage_decode(j->to, dst, j->side, rows, cols, first, count, m->y));
    if (!all_finite(m->y, count * cols)) return refuse(j, first, x, m->y, cols);
    if (j->steps.any) QD_TRY(qd_steps_fill(&j->steps, dst, j->side, first, count, m->copy, m->low, m->steps));
    add_losses(x, m->y, j->steps.any ? m->steps : NULL, count * cols, out);
error:
    return status;
}

static qd_status do_piece(void *user, int64_t piece, void *memory) {
    job *j = user;
    const room *m = memory;
    const int64_t rows = j->src->rows, cols = j->src->cols, first = piece * j->rows_each;
    const int64_t count = rows - first < j->rows_each ? rows - first : j->rows_each;
    float *x = j->whole ? j->whole + first * cols : m->x;
    qd_status status = QD_OK;
    if (j->phase != MEASURE) {
        const unsigned char *src = (const unsigned char *)j->src->data + (size_t)first * j->src_row;
        QD_TRY(qd_storage_decode(&j->src->storage, src, j->src->side, rows, cols, first, count, x));
        if (!all_finite(x, count * cols)) return refuse(j, first, x, NULL, cols);
    }
    if (j->phase == QUANTIZE) {
        /* Every piece makes the same side row; the first one's is kept, from before the threads on. */
        QD_TRY(quantize_piece(j, first, count, x, m->side));
    }
    if (j->phase != READ) QD_TRY(measure_piece(j, first, count, x, m, &j->losses[piece]));
error:
    return status;
}

static void room_free(void *memory) {
    room *m = memory;
    free(m->x);
    free(m->y);
    free(m->low);
    free(m->steps);
    free(m->side);
    free(m->copy);
    free(m);
}

static qd_status room_make(void *user, void **memory) {
    const job *j = user;
    const size_t n = (size_t)(j->rows_each * j->src->cols);
    const int64_t side = qd_storage_side_count(j->to, j->src->rows, j->src->cols);
    room *m = qd_alloc_zero(1, sizeof *m);
    if (!m) return QD_ERR_MEMORY;
    m->y = qd_alloc(n * sizeof *m->y);
    m->low = qd_alloc(n * sizeof *m->low);
    m->steps = qd_alloc(n * sizeof *m->steps);
    m->copy = qd_alloc((size_t)j->rows_each * j->dst_row);
    if (!j->whole) {
        m->x = qd_alloc(n * sizeof *m->x);
        m->side = qd_alloc((size_t)(side ? side : 1) * sizeof *m->side);
    }
    const bool ok = m->y && m->low && m->steps && m->copy && (j->whole || (m->x && m->side));
    if (!ok) {
        room_free(m);
        return QD_ERR_MEMORY;
    }
    *memory = m;
    return QD_OK;
}

/* Parts of the work that are in the time before the measuring, as progress tells it. */
static bool tell(void *user, double part) {
    const job *j = user;
    if (!j->options->progress) return true;
    if (j->whole) part = j->phase == READ ? 0.1 * part : 0.8 + 0.2 * part;
    return j->options->progress(j->options->user, part);
}

static qd_status run_phase(job *j, phase p) {
    j->phase = p;
    return qd_pieces_run(&(quant_pieces){.count = j->pieces,
                                         .threads = j->options->threads,
                                         .run = do_piece,
                                         .room_make = room_make,
                                         .room_free = room_free,
                                         .progress = tell,
                                         .user = j});
}

static qd_status quantize_apart(job *j) {
    /* What all rows share does not depend on them: the first row makes it. */
    qd_status status = QD_OK;
    float *row = NULL;
    unsigned char *bytes = NULL;
    if (j->to->format == QD_FORMAT_COUNT) {
        row = qd_alloc_zero((size_t)j->src->cols, sizeof *row);
        bytes = qd_alloc(j->dst_row);
        status = QD_ERR_MEMORY;
        if (!row || !bytes) goto error;
        QD_TRY(qd_coding_quantize(&j->to->coding, row, 1, j->src->cols, NULL, bytes, j->side));
    }
    j->steps = qd_steps_of(j->to, j->src->rows, j->src->cols, j->side);
    QD_TRY(run_phase(j, QUANTIZE));
error:
    free(row);
    free(bytes);
    return status;
}

static qd_status quantize_whole(job *j) {
    const int64_t rows = j->src->rows, cols = j->src->cols;
    qd_status status = QD_ERR_MEMORY;
    j->whole = qd_alloc((size_t)(rows * cols) * sizeof *j->whole);
    if (!j->whole) goto error;
    QD_TRY(run_phase(j, READ));
    QD_TRY(qd_coding_quantize(&j->to->coding, j->whole, rows, cols, j->options->importance, j->dst, j->side));
    j->steps = qd_steps_of(j->to, rows, cols, j->side);
    QD_TRY(run_phase(j, MEASURE));
error:
    free(j->whole);
    return status;
}

/* The target can hold rows of this length. */
static qd_status check(const qd_matrix *src, const qd_storage *to) {
    char name[64];
    if (src->rows < 1 || src->cols < 1 || src->rows > INT64_MAX / 16 / src->cols) {
        return qd_fail(QD_ERR_ARGUMENT, "quantize: a matrix of %lld × %lld", (long long)src->rows,
                       (long long)src->cols);
    }
    for (int i = 0; i < 2; i++) {
        const qd_storage *s = i ? to : &src->storage;
        if (s->format == QD_FORMAT_COUNT) {
            qd_coded_params p;
            const qd_status status = qd_coding_layout(&s->coding, src->rows, src->cols, &p);
            if (status != QD_OK) return status;
        } else if (!qd_storage_row_bytes(s, src->cols)) {
            qd_storage_name(s, name, sizeof name);
            return qd_fail(QD_ERR_ARGUMENT, "rows of %lld weights are no whole number of %s blocks of %d",
                           (long long)src->cols, name, qd_format_get(s->format)->block);
        }
    }
    return QD_OK;
}

/* Sizes of the pieces; on success j->losses is to be freed. */
static qd_status cut(job *j) {
    j->src_row = qd_storage_row_bytes(&j->src->storage, j->src->cols);
    j->dst_row = qd_storage_row_bytes(j->to, j->src->cols);
    j->rows_each = j->src->cols < PIECE ? PIECE / j->src->cols : 1;
    if (j->rows_each > j->src->rows) j->rows_each = j->src->rows;
    j->pieces = (j->src->rows + j->rows_each - 1) / j->rows_each;
    j->losses = qd_alloc_zero((size_t)j->pieces, sizeof *j->losses);
    return j->losses ? QD_OK : QD_ERR_MEMORY;
}

static qd_loss sum_up(const job *j) {
    qd_loss sum = {0};
    for (int64_t i = 0; i < j->pieces; i++)
        qd_loss_add(&sum, &j->losses[i]);
    return sum;
}

qd_status qd_matrix_quantize(const qd_matrix *src, const qd_storage *to, const qd_quantize_options *options, void *dst,
                             float *side, qd_loss *loss) {
    static const qd_quantize_options defaults;
    if (!src || !src->data || !to || !dst || !loss || (to->format == QD_FORMAT_COUNT && !side)) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_matrix_quantize: the matrix, the target and the results must not be NULL");
    }
    qd_status status;
    job j = {.src = src, .to = to, .options = options ? options : &defaults, .dst = dst, .side = side};
    QD_TRY(check(src, to));
    QD_TRY(cut(&j));
    QD_TRY(qd_rows_are_apart(to) ? quantize_apart(&j) : quantize_whole(&j));
    *loss = sum_up(&j);
error:
    free(j.losses);
    return status;
}

qd_status qd_matrix_loss(const float *x, int64_t rows, int64_t cols, const qd_storage *to, void *dst, float *side,
                         int threads, qd_loss *loss) {
    const qd_quantize_options options = {.threads = threads};
    const qd_matrix src = {.storage = {.format = QD_FORMAT_F32}, .rows = rows, .cols = cols, .data = x};
    qd_status status;
    job j = {.src = &src, .to = to, .options = &options, .dst = dst, .side = side, .whole = (float *)x};
    QD_TRY(cut(&j));
    j.steps = qd_steps_of(to, rows, cols, side);
    QD_TRY(run_phase(&j, MEASURE));
    *loss = sum_up(&j);
error:
    free(j.losses);
    return status;
}
