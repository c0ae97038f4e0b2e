/* What --method does: GPTQ's Hessians part by part, matrices with their factors. */
#include "cli/quantize_method.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW = 512, TOKENS_PER_COLUMN = 4 };

static const char *const names[] = {"rtn", "gptq", "awq", "smoothquant"};
enum { METHODS = sizeof names / sizeof names[0] };

void qd_cli_method_take(qd_cli_method *m, const char **path) {
    if (!m->name || (strcmp(m->name, names[QD_CLI_AWQ]) != 0 && strcmp(m->name, names[QD_CLI_SMOOTHQUANT]) != 0))
        return;
    m->calibration = *path;
    *path = NULL;
}

static bool read_options(qd_cli_method *m) {
    int kind = 0;
    while (m->name && kind < METHODS && strcmp(names[kind], m->name) != 0)
        kind++;
    m->kind = (qd_cli_method_kind)kind;
    if (kind == METHODS) {
        qd_cli_fail("--method is rtn, gptq, awq or smoothquant, not '%s'", m->name);
    } else if (m->kind == QD_CLI_RTN && m->text) {
        qd_cli_fail("--file is for --method gptq, awq or smoothquant");
    } else if (m->kind != QD_CLI_GPTQ && m->act_order) {
        qd_cli_fail("--act-order is for --method gptq");
    } else if (m->imatrix && (m->kind == QD_CLI_GPTQ || m->kind == QD_CLI_AWQ)) {
        qd_cli_fail("--imatrix has no use with --method %s, which measures by itself what the columns read", m->name);
    } else if (m->kind == QD_CLI_GPTQ && !m->text) {
        qd_cli_fail(
            "--method gptq needs a text that the model reads: --file TEXT (the statistics of qdot calibrate do not "
            "tell how inputs correlate)");
    } else if (m->kind > QD_CLI_GPTQ && !m->text == !m->calibration) {
        qd_cli_fail("--method %s needs what the model reads: --file TEXT, or --calibration STATS of qdot calibrate",
                    m->name);
    } else {
        return true;
    }
    return false;
}

/* ---- GPTQ --------------------------------------------------------------------------------------------------- */

static bool is_float(const qd_storage *s) {
    return s->format != QD_FORMAT_COUNT && qd_format_get(s->format)->kind == QD_KIND_FLOAT;
}

/* The input that a matrix reads, where GPTQ is to round it; else -1. */
static int input_of(const qd_cli_method *m, const qd_cli_change *c) {
    if (c->keep || c->tensor.desc.rank != 2 || is_float(&c->to)) return -1;
    return qd_model_input_find(m->session.model, c->name);
}

static bool check_targets(const qd_cli_method *m) {
    for (int64_t i = 0; i < m->plan->count; i++) {
        const qd_cli_change *c = &m->plan->changes[i];
        char name[64];
        if (input_of(m, c) < 0 || qd_gptq_takes(&c->to)) continue;
        qd_storage_name(&c->to, name, sizeof name);
        qd_cli_fail("--method gptq cannot make %s of %s: it writes int2 … int8, ternary, q4_0, q4_1 and q8_0", name,
                    c->name);
        return false;
    }
    return true;
}

static void drop_hessians(qd_cli_method *m) {
    for (int i = 0; m->hessian && i < qd_model_input_count(m->session.model); i++) {
        free(m->hessian[i]);
        m->hessian[i] = NULL;
    }
}

static qd_status add_hessians(void *user, qd_model *model, int64_t rows) {
    qd_cli_method *m = user;
    qd_status status = QD_OK;
    for (int i = 0; i < qd_model_input_count(model) && !status; i++) {
        char name[64];
        const int64_t cols = qd_model_input_describe(model, i, name);
        if (!m->hessian[i]) continue;
        status = qd_model_input_read(model, i, rows, m->row);
        if (!status) status = qd_hessian_add(m->hessian[i], cols, m->row, rows, m->threads);
        if (!status) continue;
        qd_cli_fail("the input of %s: %s", name, qd_last_message());
        m->told = true;
    }
    return status;
}

/* Hessians of the inputs of this change and of those after it, as many as may be: the text is read once. */
static qd_status make_hessians(qd_cli_method *m, const qd_cli_change *first) {
    uint64_t bytes = 0;
    int count = 0;
    char what[96];
    drop_hessians(m);
    for (const qd_cli_change *c = first; c < m->plan->changes + m->plan->count; c++) {
        const int input = input_of(m, c);
        if (input < 0 || m->hessian[input]) continue;
        const size_t n = (size_t)qd_hessian_count(c->src.cols);
        bytes += n * sizeof(double);
        if (count && bytes > m->hessians) break;
        m->hessian[input] = calloc(n, sizeof(double));
        if (!m->hessian[input]) {
            qd_cli_fail("out of memory for Hessians; give them less with --hessians");
            m->told = true;
            return QD_ERR_MEMORY;
        }
        count++;
    }
    snprintf(what, sizeof what, "inputs of %.24s …", first->name);
    return qd_cli_observe(&m->session, what, m->text_tokens, m->token_count, WINDOW, add_hessians, m);
}

static qd_status gptq(qd_cli_method *m, qd_cli_change *c, int input, const qd_quantize_options *o, const float *w,
                      void *dst, float *side) {
    if (!m->hessian[input]) {
        const qd_status status = make_hessians(m, c);
        if (status) return status;
    }
    const qd_gptq_options options = {.act_order = m->act_order,
                                     .damping = m->damping,
                                     .threads = o->threads,
                                     .progress = o->progress,
                                     .user = o->user};
    return qd_gptq(w, c->src.rows, c->src.cols, m->hessian[input], &c->to, &options, dst, side, &c->loss);
}

/* ---- Reading the text --------------------------------------------------------------------------------------- */

static bool open_text(qd_cli_method *m, const char *input, const char *device) {
    const qd_cli_common common = {.model = input, .device = device, .threads = m->threads, .context = WINDOW};
    if (!qd_cli_open_observed(&common, QD_CLI_CHUNK, &m->session)) return false;
    return qd_cli_text_tokens(m->session.tokenizer, m->text, m->tokens, &m->text_tokens, &m->token_count);
}

static qd_status add_statistics(void *user, qd_model *model, int64_t rows) {
    return qd_calibration_add(user, model, rows);
}

static bool make_statistics(qd_cli_method *m) {
    qd_status status = qd_calibration_create(m->session.model, m->session.gguf, &m->stats);
    if (!status)
        status = qd_cli_observe(&m->session, "calibrating", m->text_tokens, m->token_count, WINDOW, add_statistics,
                                m->stats);
    if (!status) status = qd_calibration_finish(m->stats, QD_CLI_LEAST_TOKENS);
    if (status == QD_ERR_CANCELLED) qd_cli_fail("stopped; nothing was written");
    if (status && status != QD_ERR_CANCELLED) qd_cli_failed();
    return status == QD_OK;
}

static bool make_room(qd_cli_method *m) {
    const qd_model *model = m->session.model;
    const int inputs = qd_model_input_count(model);
    int64_t widest = 1;
    for (int i = 0; i < inputs; i++) {
        const int64_t cols = qd_model_input_describe(model, i, NULL);
        if (cols > widest) widest = cols;
    }
    if ((int64_t)m->token_count < TOKENS_PER_COLUMN * widest)
        fprintf(stderr,
                "note: %zu tokens are few for matrices of %lld columns: gptq fits what it reads; %lld are better\n",
                m->token_count, (long long)widest, (long long)(TOKENS_PER_COLUMN * widest));
    m->hessian = calloc((size_t)inputs + 1, sizeof *m->hessian);
    m->row = malloc((size_t)widest * QD_CLI_CHUNK * sizeof *m->row);
    if (!m->hessian || !m->row) qd_cli_fail("out of memory");
    return m->hessian && m->row;
}

bool qd_cli_method_begin(qd_cli_method *m, const char *input, const char *device, int threads, const qd_gguf *g,
                         qd_cli_plan *plan) {
    m->plan = plan;
    m->threads = threads;
    if (!read_options(m)) return false;
    if (m->kind == QD_CLI_RTN) return true;
    if (m->text && !open_text(m, input, device)) return false;
    if (m->kind == QD_CLI_GPTQ) return check_targets(m) && make_room(m);
    if (m->text && !make_statistics(m)) return false;
    qd_cli_close(&m->session);
    if (m->calibration && (qd_calibration_read(m->calibration, &m->stats) || qd_calibration_check(m->stats, g))) {
        qd_cli_failed();
        return false;
    }
    return qd_cli_fold(m, g);
}

void qd_cli_method_free(qd_cli_method *m) {
    drop_hessians(m);
    free(m->hessian);
    free(m->row);
    qd_tokens_free(m->text_tokens);
    qd_calibration_free(m->stats);
    qd_cli_close(&m->session);
}

/* ---- A matrix ----------------------------------------------------------------------------------------------- */

/* The weights in floats, with their factors. */
static qd_status decode(const qd_cli_change *c, const qd_quantize_options *o, float *w) {
    const qd_storage plain = {.format = QD_FORMAT_F32};
    const int64_t cols = c->src.cols;
    qd_loss none;
    const qd_status status =
        qd_matrix_quantize(&c->src, &plain, &(qd_quantize_options){.threads = o->threads}, w, NULL, &none);
    for (int64_t i = 0; !status && c->columns && i < c->src.rows * cols; i++)
        w[i] *= c->columns[i % cols];
    for (int64_t i = 0; !status && c->rows && i < c->src.rows * cols; i++)
        w[i] /= c->rows[i / cols];
    return status;
}

qd_status qd_cli_method_quantize(qd_cli_method *m, qd_cli_change *c, const qd_quantize_options *o, void *dst,
                                 float *side) {
    const int input = m->kind == QD_CLI_GPTQ ? input_of(m, c) : -1;
    if (input < 0 && !c->columns && !c->rows) return qd_matrix_quantize(&c->src, &c->to, o, dst, side, &c->loss);
    float *w = malloc((size_t)c->src.rows * (size_t)c->src.cols * sizeof *w);
    if (!w) {
        qd_cli_fail("out of memory for %s", c->name);
        m->told = true;
        return QD_ERR_MEMORY;
    }
    qd_status status = decode(c, o, w);
    const qd_matrix scaled = {{.format = QD_FORMAT_F32}, c->src.rows, c->src.cols, w, NULL};
    if (!status && input >= 0) status = gptq(m, c, input, o, w, dst, side);
    if (!status && input < 0) status = qd_matrix_quantize(&scaled, &c->to, o, dst, side, &c->loss);
    free(w);
    return status;
}
