/* What each matrix, or each layer, costs in other formats: one at a time in a model that has all others as they are. */
#include <float.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "quant/calibration.h"
#include "quant/sensitivity.h"

/* ---- Comparing predictions ---------------------------------------------------------------------------------- */

double qd_logits_log_sum(const float *x, int64_t n) {
    double most = -(double)INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++)
        most = (double)x[i] > most ? (double)x[i] : most;
    for (int64_t i = 0; i < n; i++)
        sum += exp((double)x[i] - most);
    return most + log(sum);
}

static double divergence(const float *a, double za, const float *b, double zb, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const double log_p = (double)a[i] - za;
        sum += exp(log_p) * (log_p - ((double)b[i] - zb));
    }
    return sum > 0 ? sum : 0; /* rounding */
}

double qd_logits_divergence(const float *a, const float *b, int64_t vocab) {
    return divergence(a, qd_logits_log_sum(a, vocab), b, qd_logits_log_sum(b, vocab), vocab);
}

/* ---- Parts -------------------------------------------------------------------------------------------------- */

void qd_sensitivity_free(qd_sensitivity *s) {
    if (!s) return;
    for (int i = 0; s->part && i < s->parts; i++) {
        free(s->part[i].matrix);
        free(s->part[i].result);
    }
    free(s->part);
    free(s);
}

qd_status qd_sensitivity_add_part(qd_sensitivity *s, const char *name, qd_sensitivity_part **out) {
    qd_sensitivity_part *grown = qd_realloc(s->part, ((size_t)s->parts + 1) * sizeof *grown);
    if (!grown) return QD_ERR_MEMORY;
    s->part = grown;
    *out = &s->part[s->parts++];
    **out = (qd_sensitivity_part){0};
    snprintf((*out)->name, sizeof(*out)->name, "%s", name);
    return QD_OK;
}

qd_status qd_sensitivity_add_matrix(qd_sensitivity_part *p, const qd_sensitive_matrix *m) {
    qd_sensitive_matrix *grown = qd_realloc(p->matrix, ((size_t)p->matrices + 1) * sizeof *grown);
    if (!grown) return QD_ERR_MEMORY;
    p->matrix = grown;
    p->matrix[p->matrices++] = *m;
    return QD_OK;
}

qd_status qd_sensitivity_add_result(qd_sensitivity_part *p, const qd_sensitivity_result *r) {
    qd_sensitivity_result *grown = qd_realloc(p->result, ((size_t)p->results + 1) * sizeof *grown);
    if (!grown) return QD_ERR_MEMORY;
    p->result = grown;
    p->result[p->results++] = *r;
    return QD_OK;
}

/* "blk.3" of a layer's matrix where layers are asked for, else the matrix's own name. */
static void part_name(const char *matrix, bool by_layer, char *out, size_t capacity) {
    const char *dot = strncmp(matrix, "blk.", 4) == 0 ? strchr(matrix + 4, '.') : NULL;
    const int size = by_layer && dot ? (int)(dot - matrix) : (int)strlen(matrix);
    snprintf(out, capacity, "%.*s", size, matrix);
}

static qd_status add_tensor(qd_sensitivity *s, const qd_gguf_tensor *t, bool (*want)(void *, const char *),
                            void *user) {
    static const char tail[] = ".weight";
    qd_sensitive_matrix m = {.bytes = (double)t->bytes};
    char name[96];
    double weights = 1;
    for (int i = 0; i < t->desc.rank; i++)
        weights *= (double)t->desc.shape[i];
    const bool matrix = t->desc.rank == 2 && t->desc.shape[0] > 1 && t->name.size < sizeof m.name &&
                        t->name.size > sizeof tail && !memcmp(t->name.data + t->name.size - sizeof tail + 1, tail, 7);
    if (matrix) memcpy(m.name, t->name.data, t->name.size);
    if (!matrix || (want && !want(user, m.name))) {
        s->other_bytes += m.bytes;
        s->other_weights += weights;
        return QD_OK;
    }
    const qd_format f = t->desc.format;
    if (f != QD_FORMAT_F32 && f != QD_FORMAT_F16 && f != QD_FORMAT_BF16) {
        return qd_fail(QD_ERR_UNSUPPORTED,
                       "%s is %s; what quantizing costs is measured from floats: take the model in f16, bf16 or f32 "
                       "(qdot quantize IN OUT --format f16)",
                       m.name, f == QD_FORMAT_COUNT ? "of an unknown type" : qd_format_get(f)->name);
    }
    m.rows = t->desc.shape[0];
    m.cols = t->desc.shape[1];
    part_name(m.name, s->by_layer, name, sizeof name);
    for (int i = 0; i < s->parts; i++) {
        if (!strcmp(s->part[i].name, name)) return qd_sensitivity_add_matrix(&s->part[i], &m);
    }
    qd_sensitivity_part *p;
    const qd_status status = qd_sensitivity_add_part(s, name, &p);
    return status ? status : qd_sensitivity_add_matrix(p, &m);
}

/* The number of a layer's part; -1: it belongs to none. */
static int layer_of(const char *name) {
    return strncmp(name, "blk.", 4) == 0 ? atoi(name + 4) : -1;
}

/* By layer: files may have 1, 10, 11, 2. */
static void sort_parts(qd_sensitivity *s) {
    for (int i = 1; i < s->parts; i++) {
        const qd_sensitivity_part p = s->part[i];
        int k = i;
        for (; k > 0 && layer_of(s->part[k - 1].name) > layer_of(p.name); k--)
            s->part[k] = s->part[k - 1];
        s->part[k] = p;
    }
}

qd_status qd_sensitivity_create(const qd_gguf *g, bool by_layer, bool (*want)(void *user, const char *name), void *user,
                                qd_sensitivity **out) {
    if (!g || !out) return qd_fail(QD_ERR_ARGUMENT, "sensitivity: file and result must not be NULL");
    qd_status status = QD_OK;
    qd_sensitivity *s = qd_alloc_zero(1, sizeof *s);
    if (!s) return QD_ERR_MEMORY;
    s->by_layer = by_layer;
    QD_TRY(qd_calibration_mark(g, s->model));
    for (uint64_t i = 0; i < qd_gguf_tensor_count(g); i++) {
        qd_gguf_tensor t;
        QD_TRY(qd_gguf_tensor_at(g, i, &t));
        QD_TRY(add_tensor(s, &t, want, user));
    }
    if (!s->parts) {
        status = qd_fail(QD_ERR_ARGUMENT, "sensitivity: no matrix was chosen; `qdot inspect` lists their names");
        goto error;
    }
    sort_parts(s);
    *out = s;
    return QD_OK;
error:
    qd_sensitivity_free(s);
    return status;
}

static qd_sensitivity_result *find_result(const qd_sensitivity_part *p, const qd_storage *to) {
    for (int i = 0; i < p->results; i++) {
        if (qd_storage_equal(&p->result[i].to, to)) return &p->result[i];
    }
    return NULL;
}

const qd_sensitivity_result *qd_sensitivity_find(const qd_sensitivity_part *p, const qd_storage *to) {
    return find_result(p, to);
}

double qd_sensitivity_weights(const qd_sensitivity_part *p) {
    double weights = 0;
    for (int i = 0; i < p->matrices; i++)
        weights += (double)p->matrix[i].rows * (double)p->matrix[i].cols;
    return weights;
}

qd_status qd_sensitivity_check(const qd_sensitivity *s, const qd_gguf *g) {
    char mark[QD_MARK] = "";
    if (!s || !g) return qd_fail(QD_ERR_ARGUMENT, "sensitivity: no pointer may be NULL");
    const qd_status status = qd_calibration_mark(g, mark);
    if (status || !strcmp(mark, s->model)) return status;
    return qd_fail(QD_ERR_ARGUMENT,
                   "the sensitivity is that of another model (its norms have another digest): run `qdot sensitivity` "
                   "with this one");
}

/* ---- Measuring ---------------------------------------------------------------------------------------------- */

typedef struct meter {
    const qd_sensitivity_options *options;
    int64_t vocab;
    float *logits;   /* [count, vocab], of the model as it is */
    double *log_sum; /* [count] */
    bool reference;  /* they are just being filled */
    double nll;      /* sums over the positions so far */
    double divergence, squares;
} meter;

static bool take_position(void *user, int64_t position, const float *logits) {
    meter *m = user;
    const qd_sensitivity_options *o = m->options;
    const double log_sum = qd_logits_log_sum(logits, m->vocab);
    float *kept = m->logits + position * m->vocab;
    if (position + 1 < o->count) m->nll += log_sum - (double)logits[o->tokens[position + 1]];
    if (m->reference) {
        memcpy(kept, logits, (size_t)m->vocab * sizeof *kept);
        m->log_sum[position] = log_sum;
    } else {
        const double d = divergence(kept, m->log_sum[position], logits, log_sum, m->vocab);
        m->divergence += d;
        m->squares += d * d;
    }
    return !o->stopped || !o->stopped(o->user);
}

/* One pass over the tokens, of a model that differs from its file from `layer` on. */
static qd_status pass(meter *m, qd_model *model, int64_t layer) {
    m->nll = m->divergence = m->squares = 0;
    if (!m->reference && qd_model_describe(model)->keeps_layers)
        return qd_model_eval_again(model, layer, take_position, m);
    const qd_status status = qd_model_rewind(model, 0);
    return status ? status : qd_model_eval(model, m->options->tokens, m->options->count, true, take_position, m);
}

/* The first layer that a change of the part changes. */
static int64_t first_layer(const qd_sensitivity_part *p, const qd_model *model) {
    const int layer = layer_of(p->name);
    if (!strcmp(p->name, "output.weight")) return qd_model_describe(model)->layers;
    return layer > 0 ? layer : 0;
}

/* A matrix in a format; where there is a model, it gets what comes back from that. Adds to the loss and the bytes. */
static qd_status replace(const qd_sensitive_matrix *matrix, const qd_storage *to, qd_model *m, const qd_gguf *g,
                         const qd_sensitivity_options *o, qd_sensitivity_result *r) {
    static const qd_storage floats = {.format = QD_FORMAT_F32};
    const qd_quantize_options quantize = {.threads = o->threads};
    const size_t bytes = (size_t)matrix->rows * qd_storage_row_bytes(to, matrix->cols);
    const int64_t sides = qd_storage_side_count(to, matrix->rows, matrix->cols);
    qd_gguf_tensor t;
    qd_loss loss, none;
    qd_status status = QD_ERR_MEMORY;
    void *data = qd_alloc(bytes);
    float *side = qd_alloc((size_t)(sides ? sides : 1) * sizeof *side);
    float *values = m ? qd_alloc((size_t)matrix->rows * (size_t)matrix->cols * sizeof *values) : NULL;
    if (!data || !side || (m && !values)) goto error;
    QD_TRY(qd_gguf_tensor_find(g, matrix->name, &t));
    const qd_matrix own = {{.format = t.desc.format}, matrix->rows, matrix->cols, t.data, NULL};
    const qd_matrix stored = {*to, matrix->rows, matrix->cols, data, side};
    status = qd_matrix_quantize(&own, to, &quantize, data, side, &loss);
    if (status && status != QD_ERR_MEMORY) {
        char why[256];
        snprintf(why, sizeof why, "%s", qd_last_message());
        status = qd_fail(status, "%s: %s", matrix->name, why);
    }
    QD_TRY(status);
    if (m) {
        QD_TRY(qd_matrix_quantize(&stored, &floats, &quantize, values, NULL, &none));
        QD_TRY(qd_model_replace(m, matrix->name, values));
    }
    qd_loss_add(&r->loss, &loss);
    r->bytes += (double)bytes + 4 * (double)sides;
error:
    free(data);
    free(side);
    free(values);
    return status;
}

/* Asked for, and the rows are whole blocks. */
static bool applies(const qd_sensitivity_options *o, const qd_sensitivity_part *p, const qd_storage *to) {
    if (o->want && !o->want(o->user, p->name)) return false;
    for (int i = 0; i < p->matrices; i++) {
        if (!qd_storage_row_bytes(to, p->matrix[i].cols)) return false;
    }
    return true;
}

/* One part in one format. */
static qd_status measure_part(meter *m, double nll, qd_sensitivity_part *p, const qd_storage *to, qd_model *model,
                              const qd_gguf *g) {
    const double n = (double)m->options->count;
    qd_sensitivity_result r = {.to = *to};
    qd_status status = QD_OK, restored = QD_OK;
    for (int i = 0; i < p->matrices && !status; i++)
        status = replace(&p->matrix[i], to, model, g, m->options, &r);
    if (!status) status = pass(m, model, first_layer(p, model));
    for (int i = 0; i < p->matrices; i++) {
        const qd_status one = qd_model_replace(model, p->matrix[i].name, NULL);
        if (one) restored = one;
    }
    if (status || restored) return status ? status : restored;
    r.divergence = m->divergence / n;
    r.divergence_error = sqrt(fmax(0, (m->squares - n * r.divergence * r.divergence) / (n - 1)) / n);
    r.nll_change = m->nll / (n - 1) - nll;
    if (!isfinite(r.divergence) || !isfinite(r.nll_change))
        return qd_fail(QD_ERR_ARGUMENT, "%s: logits are not finite with it quantized", p->name);
    qd_sensitivity_result *before = find_result(p, to);
    if (!before) return qd_sensitivity_add_result(p, &r);
    *before = r; /* an estimate */
    return QD_OK;
}

/* What was measured with the error nearest to this one, as a ratio; NULL: nothing that shows how costs grow. */
static const qd_sensitivity_result *nearest(const qd_sensitivity_part *p, double squares) {
    const qd_sensitivity_result *best = NULL;
    for (int i = 0; i < p->results; i++) {
        const qd_sensitivity_result *r = &p->result[i];
        if (r->estimated || !(r->loss.squares > 0) || !(r->divergence > 0)) continue;
        if (!best || fabs(log(squares / r->loss.squares)) < fabs(log(squares / best->loss.squares))) best = r;
    }
    return best;
}

/* One part in one format, from what was measured of it. */
static qd_status estimate_part(qd_sensitivity_part *p, const qd_storage *to, const qd_gguf *g,
                               const qd_sensitivity_options *o) {
    qd_sensitivity_result r = {.to = *to, .estimated = true};
    qd_status status = QD_OK;
    if (!nearest(p, 1)) return QD_OK;
    for (int i = 0; i < p->matrices; i++)
        QD_TRY(replace(&p->matrix[i], to, NULL, g, o, &r));
    const qd_sensitivity_result *known = nearest(p, fmax(r.loss.squares, DBL_MIN));
    const double ratio = r.loss.squares / known->loss.squares;
    r.divergence = ratio * known->divergence;
    r.divergence_error = ratio * known->divergence_error;
    r.nll_change = ratio * known->nll_change;
    status = qd_sensitivity_add_result(p, &r);
error:
    return status;
}

static qd_status text_of(const qd_sensitivity_options *o, char text[QD_MARK]) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    if (EVP_Digest(o->tokens, (size_t)o->count * sizeof *o->tokens, digest, NULL, EVP_sha256(), NULL) != 1)
        return qd_fail(QD_ERR_MEMORY, "sensitivity: the digest of the tokens could not be made");
    for (int i = 0; i < QD_MARK / 2; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    return QD_OK;
}

static qd_status check(const qd_sensitivity *s, const qd_model *m, const qd_gguf *g, const qd_sensitivity_options *o) {
    char text[QD_MARK] = "";
    qd_status status = QD_OK;
    if (!s || !m || !g || !o || o->n_formats < 0 || o->n_estimates < 0 || o->n_formats + o->n_estimates < 1 ||
        (o->n_formats && !o->formats) || (o->n_estimates && !o->estimates) || !o->tokens)
        return qd_fail(QD_ERR_ARGUMENT, "sensitivity: a model, formats and tokens are needed");
    const int64_t room = qd_model_describe(m)->context;
    if (o->count < 2 || o->count > room) {
        return qd_fail(QD_ERR_ARGUMENT, "sensitivity: %lld tokens; from 2 to the model's context of %lld are possible",
                       (long long)o->count, (long long)room);
    }
    QD_TRY(qd_sensitivity_check(s, g));
    QD_TRY(text_of(o, text));
    if (s->tokens && (s->tokens != o->count || strcmp(s->text, text) != 0)) {
        return qd_fail(QD_ERR_ARGUMENT,
                       "sensitivity: the %lld tokens measured so far were others: go on with the same text, or start "
                       "anew",
                       (long long)s->tokens);
    }
error:
    return status;
}

/* A pair of a part and a format; those that are measured come first in the lists of both. */
static const qd_storage *format_at(const qd_sensitivity_options *o, int k) {
    return k < o->n_formats ? &o->formats[k] : &o->estimates[k - o->n_formats];
}

static bool is_missing(const qd_sensitivity_options *o, const qd_sensitivity_part *p, int k) {
    const qd_sensitivity_result *r = qd_sensitivity_find(p, format_at(o, k));
    return applies(o, p, format_at(o, k)) && (!r || (r->estimated && k < o->n_formats));
}

/* Those of the formats from `first` to `end` - 1 that are still to be measured or estimated. */
static int64_t missing(const qd_sensitivity *s, const qd_sensitivity_options *o, int first, int end) {
    int64_t count = 0;
    for (int i = 0; i < s->parts; i++) {
        for (int k = first; k < end; k++)
            count += is_missing(o, &s->part[i], k);
    }
    return count;
}

/* Whether any part has one of these formats, or could. */
static bool any_applies(const qd_sensitivity *s, const qd_sensitivity_options *o) {
    for (int i = 0; i < s->parts; i++) {
        for (int k = 0; k < o->n_formats + o->n_estimates; k++) {
            if (applies(o, &s->part[i], format_at(o, k))) return true;
        }
    }
    return false;
}

/* The model as it is, which all others are compared with. */
static qd_status measure_reference(meter *t, qd_sensitivity *s, qd_model *m, const qd_sensitivity_options *o) {
    qd_status status = QD_OK;
    t->vocab = qd_model_describe(m)->vocab;
    t->logits = qd_alloc((size_t)o->count * (size_t)t->vocab * sizeof *t->logits);
    t->log_sum = qd_alloc((size_t)o->count * sizeof *t->log_sum);
    if (!t->logits || !t->log_sum) return QD_ERR_MEMORY;
    QD_TRY(pass(t, m, 0));
    QD_TRY(text_of(o, s->text));
    t->reference = false;
    s->nll = t->nll / (double)(o->count - 1);
    s->tokens = o->count;
error:
    return status;
}

qd_status qd_sensitivity_measure(qd_sensitivity *s, qd_model *m, const qd_gguf *g, const qd_sensitivity_options *o) {
    meter t = {.options = o, .reference = true};
    qd_status status = check(s, m, g, o);
    if (status) return status;
    if (!any_applies(s, o))
        return qd_fail(QD_ERR_ARGUMENT,
                       "sensitivity: no part was chosen whose rows are whole blocks of one of these formats");
    const int all = o->n_formats + o->n_estimates;
    const int64_t total = missing(s, o, 0, all);
    int64_t done = 0;
    s->finished = false;
    if (missing(s, o, 0, o->n_formats)) QD_TRY(measure_reference(&t, s, m, o));
    for (int i = 0; i < s->parts; i++) {
        qd_sensitivity_part *p = &s->part[i];
        for (int k = 0; k < all; k++) {
            if (!is_missing(o, p, k)) continue;
            const qd_storage *to = format_at(o, k);
            if (o->progress && !o->progress(o->user, p, to, done++, total)) {
                status = qd_fail(QD_ERR_CANCELLED, "stopped on request");
                goto error;
            }
            if (k < o->n_formats) QD_TRY(measure_part(&t, s->nll, p, to, m, g));
            if (k >= o->n_formats) QD_TRY(estimate_part(p, to, g, o));
        }
    }
    s->finished = true;
error:
    free(t.logits);
    free(t.log_sum);
    return status;
}
