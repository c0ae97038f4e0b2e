/* qd_matrix_quantize: rows in pieces that several threads take in turn. Where a target has tables or scales that all
 * rows share, the whole matrix is quantized at once, and only reading and measuring is shared out. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/status.h"
#include "formats/coding.h"
#include "quant/steps.h"

/* Elements of a piece: small enough for a processor's cache, large enough for the lock not to matter. */
enum { PIECE = 65536, MAX_THREADS = 256 };

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

    pthread_mutex_t lock;
    int64_t next, end; /* pieces that are still to be taken: next … end - 1 */
    int64_t done;
    qd_status status; /* of the first piece that failed, which is piece `end` then */
    char message[1024];
} job;

/* Memory of one thread. */
typedef struct room {
    float *x, *y, *low, *steps, *side;
    unsigned char *copy;
} room;

/* True where each row is quantized by itself, and `side` does not depend on the weights. */
static bool rows_are_apart(const qd_storage *s) {
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

static qd_status do_piece(job *j, int64_t piece, const room *m) {
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

static void room_free(room *m) {
    free(m->x);
    free(m->y);
    free(m->low);
    free(m->steps);
    free(m->side);
    free(m->copy);
}

static qd_status room_make(const job *j, room *m) {
    const size_t n = (size_t)(j->rows_each * j->src->cols);
    const int64_t side = qd_storage_side_count(j->to, j->src->rows, j->src->cols);
    *m = (room){0};
    m->y = qd_alloc(n * sizeof *m->y);
    m->low = qd_alloc(n * sizeof *m->low);
    m->steps = qd_alloc(n * sizeof *m->steps);
    m->copy = qd_alloc((size_t)j->rows_each * j->dst_row);
    if (!j->whole) {
        m->x = qd_alloc(n * sizeof *m->x);
        m->side = qd_alloc((size_t)(side ? side : 1) * sizeof *m->side);
    }
    const bool ok = m->y && m->low && m->steps && m->copy && (j->whole || (m->x && m->side));
    if (!ok) room_free(m);
    return ok ? QD_OK : QD_ERR_MEMORY;
}

/* Notes a failure; that of the earliest piece stays. */
static void note(job *j, int64_t piece, qd_status status) {
    pthread_mutex_lock(&j->lock);
    if (j->status == QD_OK || piece < j->end) {
        j->status = status;
        j->end = piece;
        snprintf(j->message, sizeof j->message, "%s", qd_last_message());
    }
    pthread_mutex_unlock(&j->lock);
}

/* Parts of the work that are in the time before the measuring, as progress tells it. */
static double share_done(const job *j) {
    const double part = (double)j->done / (double)j->pieces;
    if (!j->whole) return part;
    return j->phase == READ ? 0.1 * part : 0.8 + 0.2 * part;
}

/* Takes pieces until there are none. Only the calling thread may tell about progress. */
static void work(job *j, bool caller) {
    room m;
    const qd_status made = room_make(j, &m);
    if (made != QD_OK) {
        note(j, -1, made);
        return;
    }
    for (;;) {
        pthread_mutex_lock(&j->lock);
        const int64_t piece = j->next < j->end ? j->next++ : -1;
        const double share = share_done(j);
        pthread_mutex_unlock(&j->lock);
        if (piece < 0) break;
        if (caller && j->options->progress && !j->options->progress(j->options->user, share)) {
            note(j, -1, qd_fail(QD_ERR_CANCELLED, "stopped"));
            break;
        }
        const qd_status status = do_piece(j, piece, &m);
        if (status != QD_OK) note(j, piece, status);
        pthread_mutex_lock(&j->lock);
        j->done++;
        pthread_mutex_unlock(&j->lock);
    }
    room_free(&m);
}

static void *work_beside(void *user) {
    work(user, false);
    return NULL;
}

static int count_threads(const job *j) {
    long n = j->options->threads > 0 ? j->options->threads : sysconf(_SC_NPROCESSORS_ONLN);
    if (n > MAX_THREADS) n = MAX_THREADS;
    if (n > j->pieces) n = (long)j->pieces;
    return n > 1 ? (int)n : 1;
}

static qd_status run_phase(job *j, phase p) {
    pthread_t threads[MAX_THREADS];
    const int wanted = count_threads(j);
    int started = 0;
    j->phase = p;
    j->next = j->done = 0;
    j->end = j->pieces;
    /* Where no thread can be had, the calling one does all. */
    while (started < wanted - 1 && pthread_create(&threads[started], NULL, work_beside, j) == 0)
        started++;
    work(j, true);
    for (int i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    return j->status == QD_OK ? QD_OK : qd_fail(j->status, "%s", j->message);
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

qd_status qd_matrix_quantize(const qd_matrix *src, const qd_storage *to, const qd_quantize_options *options, void *dst,
                             float *side, qd_loss *loss) {
    static const qd_quantize_options defaults;
    if (!src || !src->data || !to || !dst || !loss || (to->format == QD_FORMAT_COUNT && !side)) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_matrix_quantize: the matrix, the target and the results must not be NULL");
    }
    qd_status status;
    job j = {.src = src, .to = to, .options = options ? options : &defaults, .dst = dst, .side = side};
    QD_TRY(check(src, to));
    j.src_row = qd_storage_row_bytes(&src->storage, src->cols);
    j.dst_row = qd_storage_row_bytes(to, src->cols);
    j.rows_each = src->cols < PIECE ? PIECE / src->cols : 1;
    if (j.rows_each > src->rows) j.rows_each = src->rows;
    j.pieces = (src->rows + j.rows_each - 1) / j.rows_each;
    status = QD_ERR_MEMORY;
    j.losses = qd_alloc_zero((size_t)j.pieces, sizeof *j.losses);
    if (!j.losses) goto error;
    if (pthread_mutex_init(&j.lock, NULL) != 0) {
        status = qd_fail(QD_ERR_MEMORY, "quantize: no lock could be made");
        goto error;
    }
    status = rows_are_apart(to) ? quantize_apart(&j) : quantize_whole(&j);
    pthread_mutex_destroy(&j.lock);
    if (status != QD_OK) goto error;
    qd_loss sum = {0};
    for (int64_t i = 0; i < j.pieces; i++)
        qd_loss_add(&sum, &j.losses[i]);
    *loss = sum;
error:
    free(j.losses);
    return status;
}
