/* Statistics of what matrices read. */
#include "quant/calibration.h"

#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"

static const qd_code_range int8_codes = {-128, 127, false};

qd_status qd_calibration_new(int inputs, qd_calibration **out) {
    qd_calibration *c = qd_alloc_zero(1, sizeof *c);
    if (c) c->input = qd_alloc_zero((size_t)inputs, sizeof *c->input);
    if (!c || !c->input) {
        qd_calibration_free(c);
        return QD_ERR_MEMORY;
    }
    c->inputs = inputs;
    *out = c;
    return QD_OK;
}

qd_status qd_calibration_size(qd_calibration *c, int i, int64_t cols) {
    qd_input_stats *s = &c->input[i].stats;
    s->cols = cols;
    s->absmax = qd_alloc_zero((size_t)cols, sizeof *s->absmax);
    s->mean_abs = qd_alloc_zero((size_t)cols, sizeof *s->mean_abs);
    s->mean_square = qd_alloc_zero((size_t)cols, sizeof *s->mean_square);
    return s->absmax && s->mean_abs && s->mean_square ? QD_OK : QD_ERR_MEMORY;
}

void qd_calibration_free(qd_calibration *c) {
    if (!c) return;
    for (int i = 0; c->input && i < c->inputs; i++) {
        for (int k = 0; k < OBSERVERS; k++)
            qd_observer_free(c->input[i].observer[k]);
        free(c->input[i].stats.absmax);
        free(c->input[i].stats.mean_abs);
        free(c->input[i].stats.mean_square);
    }
    free(c->input);
    free(c->row);
    free(c);
}

/* ---- The model's mark --------------------------------------------------------------------------------------- */

qd_status qd_calibration_mark(const qd_gguf *g, char mark[QD_MARK]) {
    EVP_MD_CTX *state = EVP_MD_CTX_new();
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    bool right = state && EVP_DigestInit_ex(state, EVP_sha256(), NULL) == 1;
    for (uint64_t i = 0; right && i < qd_gguf_tensor_count(g); i++) {
        qd_gguf_tensor t;
        right = qd_gguf_tensor_at(g, i, &t) == QD_OK;
        const bool side = t.name.size > 5 && !memcmp(t.name.data + t.name.size - 5, ".side", 5);
        if (!right || t.desc.rank != 1 || t.desc.format != QD_FORMAT_F32 || side) continue;
        right = EVP_DigestUpdate(state, t.name.data, t.name.size) == 1 &&
                EVP_DigestUpdate(state, t.data, (size_t)t.desc.shape[0] * 4) == 1;
    }
    right = right && EVP_DigestFinal_ex(state, digest, &size) == 1;
    EVP_MD_CTX_free(state);
    if (!right) return qd_fail(QD_ERR_MEMORY, "calibration: the digest of the model could not be made");
    for (int i = 0; i < QD_MARK / 2; i++)
        snprintf(mark + 2 * i, 3, "%02x", digest[i]);
    return QD_OK;
}

qd_status qd_calibration_check(const qd_calibration *c, const qd_gguf *g) {
    char mark[QD_MARK] = "";
    if (!c || !g) return qd_fail(QD_ERR_ARGUMENT, "calibration: no pointer may be NULL");
    const qd_status status = qd_calibration_mark(g, mark);
    if (status) return status;
    if (!strcmp(mark, c->mark)) return QD_OK;
    return qd_fail(QD_ERR_ARGUMENT,
                   "the statistics are those of another model (its norms have another digest): run `qdot calibrate` "
                   "with this one");
}

/* ---- Collecting --------------------------------------------------------------------------------------------- */

qd_status qd_calibration_create(const qd_model *m, const qd_gguf *g, qd_calibration **out) {
    static const qd_observe kinds[OBSERVERS] = {QD_OBSERVE_MINMAX, QD_OBSERVE_AVERAGE, QD_OBSERVE_PERCENTILE,
                                                QD_OBSERVE_ERROR, QD_OBSERVE_ENTROPY};
    qd_calibration *c = NULL;
    qd_status status = QD_OK;
    if (!m || !g || !out) return qd_fail(QD_ERR_ARGUMENT, "calibration: no pointer may be NULL");
    const int inputs = qd_model_input_count(m);
    if (!inputs) return qd_fail(QD_ERR_ARGUMENT, "calibration: the model keeps no inputs; load it with `observe`");
    QD_TRY(qd_calibration_new(inputs, &c));
    QD_TRY(qd_calibration_mark(g, c->mark));
    for (int i = 0; i < inputs; i++) {
        QD_TRY(qd_calibration_size(c, i, qd_model_input_describe(m, i, c->input[i].stats.name)));
        for (int k = 0; k < OBSERVERS; k++)
            QD_TRY(qd_observer_create(&(qd_observer_options){.kind = kinds[k]}, &c->input[i].observer[k]));
    }
    *out = c;
    return QD_OK;
error:
    qd_calibration_free(c);
    return status;
}

static void add_columns(qd_input_stats *s, const float *x, int64_t rows) {
    for (int64_t r = 0; r < rows; r++, x += s->cols) {
        for (int64_t k = 0; k < s->cols; k++) {
            s->absmax[k] = fmaxf(s->absmax[k], fabsf(x[k]));
            s->mean_abs[k] += fabs((double)x[k]); /* the sums, until qd_calibration_finish */
            s->mean_square[k] += (double)x[k] * (double)x[k];
        }
    }
    s->rows += rows;
}

qd_status qd_calibration_add(qd_calibration *c, qd_model *m, int64_t rows) {
    qd_status status = QD_OK;
    if (!c || !m || rows < 1 || c->inputs != qd_model_input_count(m) || c->finished)
        return qd_fail(QD_ERR_ARGUMENT, "calibration: %lld rows of a model; it must be the one that it was made for",
                       (long long)rows);
    for (int i = 0; i < c->inputs; i++) {
        qd_input_stats *s = &c->input[i].stats;
        if (rows * s->cols > c->room) {
            float *larger = qd_realloc(c->row, (size_t)(rows * s->cols) * sizeof *larger);
            if (!larger) return QD_ERR_MEMORY;
            c->row = larger;
            c->room = rows * s->cols;
        }
        QD_TRY(qd_model_input_read(m, i, rows, c->row));
        for (int k = 0; k < OBSERVERS; k++) {
            status = qd_observer_update(c->input[i].observer[k], c->row, rows, s->cols);
            if (!status) continue;
            char why[256];
            snprintf(why, sizeof why, "%s", qd_last_message());
            return qd_fail(status, "calibration: the input of %s: %s", s->name, why);
        }
        add_columns(s, c->row, rows);
    }
    c->tokens += rows;
error:
    return status;
}

int64_t qd_calibration_tokens(const qd_calibration *c) {
    return c->tokens;
}

qd_status qd_calibration_finish(qd_calibration *c, int64_t least) {
    qd_status status = QD_OK;
    if (c->tokens < least || c->tokens < 1) {
        return qd_fail(QD_ERR_ARGUMENT,
                       "calibration: %lld tokens are too few; at least %lld are needed: give a longer text",
                       (long long)c->tokens, (long long)(least > 1 ? least : 1));
    }
    for (int i = 0; i < c->inputs && !c->finished; i++) {
        qd_input_stats *s = &c->input[i].stats;
        float *const ranges[OBSERVERS][2] = {{&s->min, &s->max},
                                             {&s->average_min, &s->average_max},
                                             {&s->percentile_min, &s->percentile_max},
                                             {&s->error_min, &s->error_max},
                                             {&s->entropy_min, &s->entropy_max}};
        for (int k = 0; k < OBSERVERS; k++) {
            float scale;
            int32_t zero;
            QD_TRY(qd_observer_scale(c->input[i].observer[k], &int8_codes, &scale, &zero, ranges[k][0], ranges[k][1]));
        }
        for (int64_t k = 0; k < s->cols; k++) {
            s->mean_abs[k] /= (double)s->rows;
            s->mean_square[k] /= (double)s->rows;
        }
    }
    c->finished = true;
error:
    return status;
}

/* ---- Looking up --------------------------------------------------------------------------------------------- */

const qd_input_stats *qd_calibration_input(const qd_calibration *c, int i) {
    return c && i >= 0 && i < c->inputs ? &c->input[i].stats : NULL;
}

/* The matrix that names what another one reads, too. */
static const char *const sharing[][2] = {
    {".attn_k.", ".attn_q."}, {".attn_v.", ".attn_q."}, {".ffn_up.", ".ffn_gate."}};

const qd_input_stats *qd_calibration_find(const qd_calibration *c, const char *matrix) {
    char name[96];
    if (!c || !matrix || strlen(matrix) >= 64) return NULL;
    snprintf(name, sizeof name, "%s", matrix);
    for (size_t i = 0; i < sizeof sharing / sizeof sharing[0]; i++) {
        const char *at = strstr(matrix, sharing[i][0]);
        if (at)
            snprintf(name, sizeof name, "%.*s%s%s", (int)(at - matrix), matrix, sharing[i][1],
                     at + strlen(sharing[i][0]));
    }
    for (int i = 0; i < c->inputs; i++) {
        if (!strcmp(c->input[i].stats.name, name)) return &c->input[i].stats;
    }
    return NULL;
}

qd_status qd_calibration_scale(const qd_input_stats *s, qd_observe range, bool asymmetric, float *scale,
                               int32_t *zero_point) {
    static const qd_code_range symmetric_codes = {-127, 127, true};
    if (!s || (unsigned)range >= OBSERVERS) return qd_fail(QD_ERR_ARGUMENT, "calibration: no input, or no such range");
    const struct {
        float min, max;
    } ranges[OBSERVERS] = {[QD_OBSERVE_MINMAX] = {s->min, s->max},
                           [QD_OBSERVE_AVERAGE] = {s->average_min, s->average_max},
                           [QD_OBSERVE_PERCENTILE] = {s->percentile_min, s->percentile_max},
                           [QD_OBSERVE_ERROR] = {s->error_min, s->error_max},
                           [QD_OBSERVE_ENTROPY] = {s->entropy_min, s->entropy_max}};
    return qd_range_scale(asymmetric ? &int8_codes : &symmetric_codes, ranges[range].min, ranges[range].max, scale,
                          zero_point);
}
