/* qdot quantize: a model's weights in another format. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/quantize_method.h"

static const char about[] =
    "Reads a GGUF model, stores its matrices in another number format, and tells what that costs: the error of every\n"
    "matrix against the input, and bits per weight. `qdot formats` lists the formats. Files in GGUF's own formats\n"
    "(q4_0, q8_0, …) can be read by llama.cpp, too; codings (int4-g64, nf4-dq, …) only by qdot.\n\n"
    "  qdot quantize model-f16.gguf small.gguf --format q4_0\n"
    "  qdot quantize model-f16.gguf small.gguf --format nf4-dq --tensors token_embd=q8_0 --tensors 'ffn_down=int8'\n"
    "  qdot quantize small.gguf back.gguf --format f32\n"
    "  qdot quantize model-f16.gguf int8.gguf --format int8 --calibration stats.json\n\n"
    "--method weighs what rounding costs by a text that the model reads, of some thousand tokens: gptq makes good "
    "what\n"
    "rounding a column costs by the columns after it; awq and smoothquant scale columns, and fold the factors into "
    "what\n"
    "comes before, so that the file has no operator more. Matrices whose inputs are not kept (the embedding) are "
    "rounded.\n"
    "  qdot quantize model-f16.gguf small.gguf --format int4-g128 --method gptq --file text.txt --tokens 8192\n"
    "  qdot calibrate -m model-f16.gguf -f text.txt -o stats.json\n"
    "  qdot quantize model-f16.gguf small.gguf --format int4-g128 --method awq --calibration stats.json\n\n"
    "Norms and other vectors stay as they are. A matrix whose rows are no whole number of a format's blocks gets "
    "another\n"
    "one, and a message says so. Where a weight is NaN or infinite, nothing is written: the message names tensor, row\n"
    "and column. The new file takes its place at the very end; until then, and after Ctrl-C or a full disk, an old "
    "file\n"
    "of that name stays as it was. A model that is quantized already can be the input; errors then come on top.\n\n"
    "max/step is the largest error in units of the step, the mean distance between neighbouring values of its block:\n"
    "0.5 where every weight got the nearest value. SNR is 10·log10 of the squares of weights over those of errors.";

typedef struct progress {
    const char *name;
    double before, now, total, start; /* in weights; seconds */
} progress;

static bool show(void *user, double done) {
    const progress *p = user;
    const double weights = p->before + done * p->now, spent = qd_cli_seconds() - p->start;
    char text[80];
    if (weights > 0 && spent > 0.5) {
        snprintf(text, sizeof text, "%-28.28s %5.0f s left", p->name, spent * (p->total / weights - 1));
    } else {
        snprintf(text, sizeof text, "%-28.28s %12s", p->name, "");
    }
    /* At the end the bar goes away, which is for the caller to do. */
    qd_cli_progress(text, weights < p->total ? weights : 0.999 * p->total, p->total);
    return !qd_cli_stopped();
}

static bool begins(qd_string key, const char *prefix) {
    return key.size >= strlen(prefix) && !memcmp(key.data, prefix, strlen(prefix));
}

/* Numbers of llama.cpp for files that are mostly of one format; -1: none. */
static int file_type(const qd_storage *s) {
    static const struct {
        const char *name;
        int number;
    } types[] = {{"f32", 0},     {"f16", 1},     {"q4_0", 2},  {"q4_1", 3},   {"q8_0", 7},   {"q5_0", 8},
                 {"q5_1", 9},    {"q2_k", 10},   {"q3_k", 11}, {"q4_k", 14},  {"q5_k", 16},  {"q6_k", 18},
                 {"iq4_nl", 25}, {"iq4_xs", 30}, {"bf16", 32}, {"tq1_0", 36}, {"tq2_0", 37}, {"mxfp4", 38}};
    for (size_t i = 0; s->format != QD_FORMAT_COUNT && i < sizeof types / sizeof types[0]; i++) {
        if (!strcmp(qd_format_get(s->format)->name, types[i].name)) return types[i].number;
    }
    return -1;
}

/* The values of the input, but for those about its formats. */
static qd_status write_values(qd_gguf_writer *w, const qd_gguf *g, const qd_cli_rules *rules) {
    static const char *const ours[] = {"general.file_type", "general.quantization_version", "qdot.coding.",
                                       "qdot.columns.", "qdot.input_"};
    enum { QUANTIZATION_VERSION = 2 }; /* of ggml's blocks */
    const bool anew = rules->has_default || rules->n_planned;
    qd_status status = QD_OK;
    for (uint64_t i = 0; status == QD_OK && i < qd_gguf_value_count(g); i++) {
        qd_gguf_value v;
        bool copy = true;
        status = qd_gguf_value_at(g, i, &v);
        for (size_t k = 0; status == QD_OK && k < sizeof ours / sizeof ours[0]; k++)
            copy = copy && !begins(v.key, ours[k]);
        if (!anew && !begins(v.key, "qdot.")) copy = true;
        if (status == QD_OK && copy) status = qd_gguf_write_value(w, g, &v);
    }
    if (!anew) return status;
    const int type = rules->has_default ? file_type(&rules->to) : -1;
    if (status == QD_OK && type >= 0) status = qd_gguf_write_u32(w, "general.file_type", (uint32_t)type);
    if (status == QD_OK) status = qd_gguf_write_u32(w, "general.quantization_version", QUANTIZATION_VERSION);
    return status;
}

static qd_status write_entries(qd_gguf_writer *w, const qd_cli_plan *plan) {
    qd_status status = QD_OK;
    for (int64_t i = 0; status == QD_OK && i < plan->count; i++) {
        const qd_cli_change *c = &plan->changes[i];
        qd_tensor_desc d = c->tensor.desc;
        if (c->src.rows && c->to.format == QD_FORMAT_COUNT) {
            status = qd_gguf_write_coded(w, c->name, &c->to.coding, c->src.rows, c->src.cols);
            if (status == QD_OK && c->outliers.count) {
                status = qd_gguf_write_outliers(w, c->name, c->src.rows, c->outliers.count);
            }
            continue;
        }
        if (!c->keep) {
            d.format = c->to.format;
            d.shape[d.rank - 1] = c->src.cols;
        }
        status = qd_gguf_write_tensor(w, c->name, &d);
    }
    return status;
}

static qd_status copy_tensor(qd_gguf_writer *w, const qd_cli_change *c) {
    const bool coded = c->src.rows && c->src.storage.format == QD_FORMAT_COUNT;
    qd_status status = qd_gguf_write_data(w, c->tensor.data, c->tensor.bytes);
    if (status != QD_OK || !coded) return status;
    return qd_gguf_write_data(w, c->src.side,
                              4 * (size_t)qd_storage_side_count(&c->src.storage, c->src.rows, c->src.cols));
}

static qd_status quantize_tensor(qd_gguf_writer *w, qd_cli_change *c, qd_cli_method *m, const qd_quantize_options *o) {
    const size_t data_bytes = (size_t)c->src.rows * qd_storage_row_bytes(&c->to, c->src.cols);
    const size_t side_count = (size_t)qd_storage_side_count(&c->to, c->src.rows, c->src.cols);
    void *data = malloc(data_bytes);
    float *side = malloc((side_count ? side_count : 1) * sizeof *side);
    qd_status status = QD_ERR_MEMORY;
    if (!data || !side) {
        qd_cli_fail("tensor '%s': out of memory", c->name);
    } else {
        status = qd_cli_method_quantize(m, c, o, data, side);
        if (status == QD_ERR_CANCELLED) {
            qd_cli_fail("stopped; nothing was written");
        } else if (status != QD_OK && !m->told) {
            qd_cli_fail("tensor '%s': %s", c->name, qd_last_message());
        } else if (status == QD_OK) {
            status = qd_gguf_write_data(w, data, data_bytes);
            if (status == QD_OK && side_count) status = qd_gguf_write_data(w, side, side_count * sizeof *side);
            if (status != QD_OK) qd_cli_failed();
        }
    }
    free(data);
    free(side);
    return status;
}

/* The importance matrix was made from a model of this shape; else a message is printed. */
static bool suits(const qd_imatrix *imatrix, const qd_cli_plan *plan) {
    const float *unused;
    for (int64_t i = 0; imatrix && i < plan->count; i++) {
        const qd_cli_change *c = &plan->changes[i];
        if (c->tensor.desc.rank != 2 || qd_imatrix_find(imatrix, c->name, c->src.cols, &unused) == QD_OK) continue;
        qd_cli_failed();
        return false;
    }
    return true;
}

/* NULL where there is none; experts, which have more than two dimensions, are quantized without. */
static const float *importance_of(const qd_imatrix *imatrix, const qd_cli_change *c) {
    const float *values = NULL;
    if (c->importance) return c->importance;
    if (!imatrix || c->tensor.desc.rank != 2) return NULL;
    return qd_imatrix_find(imatrix, c->name, c->src.cols, &values) == QD_OK ? values : NULL;
}

/* Prints its messages itself. */
static bool write_tensors(qd_gguf_writer *w, qd_cli_plan *plan, const qd_imatrix *imatrix, qd_cli_method *method,
                          int threads, double start) {
    progress p = {.total = plan->weights, .start = start};
    bool ok = true;
    for (int64_t i = 0; ok && i < plan->count; i++) {
        qd_cli_change *c = &plan->changes[i];
        qd_quantize_options o = {.threads = threads, .progress = show, .user = &p};
        p.name = c->name;
        p.now = c->keep ? 0 : (double)c->src.rows * (double)c->src.cols;
        if (c->keep) {
            ok = copy_tensor(w, c) == QD_OK && qd_cli_outliers_write(w, c) == QD_OK;
            if (!ok) qd_cli_failed();
            continue;
        }
        o.importance = importance_of(imatrix, c);
        ok = quantize_tensor(w, c, method, &o) == QD_OK;
        if (ok && qd_cli_outliers_write(w, c) != QD_OK) {
            ok = false;
            qd_cli_failed();
        }
        p.before += p.now;
    }
    qd_cli_progress("", 1, 1);
    return ok;
}

static bool write_file(const qd_gguf *g, const qd_cli_rules *rules, qd_cli_plan *plan, const qd_imatrix *imatrix,
                       const qd_cli_inputs *inputs, qd_cli_method *method, int threads, qd_cli_outcome *outcome) {
    const double start = qd_cli_seconds();
    qd_gguf_writer *w = NULL;
    bool ok = qd_gguf_write_create(outcome->output, &w) == QD_OK && write_values(w, g, rules) == QD_OK &&
              write_entries(w, plan) == QD_OK;
    if (!ok) qd_cli_failed();
    ok = ok && qd_cli_inputs_write(w, g, plan, inputs) && write_tensors(w, plan, imatrix, method, threads, start);
    if (ok && qd_gguf_write_finish(w) != QD_OK) {
        qd_cli_failed();
        ok = false;
    }
    outcome->output_bytes = qd_gguf_write_size(w);
    outcome->seconds = qd_cli_seconds() - start;
    qd_gguf_writer_free(w);
    return ok;
}

/* Parts of a model would each be a file that no program takes. */
static bool is_part(const qd_gguf *g) {
    qd_gguf_value v;
    int64_t parts = 1;
    return qd_gguf_find(g, "split.count", &v) == QD_OK && qd_gguf_get_int(g, &v, 0, &parts) == QD_OK && parts > 1;
}

int qd_cmd_quantize(int argc, char **argv) {
    qd_cli_common c = {0};
    const char *input = NULL, *output = NULL, *format = NULL, *imatrix_path = NULL, *planned = NULL;
    int64_t group = 0;
    qd_cli_inputs inputs = {0};
    qd_cli_list tensors = {.count = 0};
    qd_cli_method method = QD_CLI_METHOD_DEFAULTS;
    const qd_cli_option options[] = {
        {.name = "IN", .kind = QD_CLI_OPERAND, .value = &input},
        {.name = "OUT", .kind = QD_CLI_OPERAND, .value = &output},
        {"format", 'f', QD_CLI_TEXT, &format, 0, 0, "FORMAT", "a format or coding: q4_0, int4-g64, nf4-dq, f16 …"},
        {"tensors", 0, QD_CLI_LIST, &tensors, 0, 0, "REGEX=FORMAT",
         "another one where the name matches (extended regular expression; the first that matches counts; may be "
         "given again); keep: as it is"},
        {"group", 'g', QD_CLI_INT, &group, 16, 1 << 24, "N", "weights with one scale: --format int4 -g 64 is int4-g64"},
        {"plan", 0, QD_CLI_TEXT, &planned, 0, 0, "FILE",
         "a format for each tensor, from `qdot plan`; comes before --tensors"},
        {"imatrix", 0, QD_CLI_TEXT, &imatrix_path, 0, 0, "FILE", "importance of columns, from llama-imatrix"},
        {"calibration", 0, QD_CLI_TEXT, &inputs.path, 0, 0, "STATS",
         "statistics of `qdot calibrate`: for --method awq or smoothquant; else int8 matrices get a static scale for "
         "what they read"},
        {"range", 0, QD_CLI_TEXT, &inputs.range, 0, 0, "R",
         "of that scale: mse (the default), minmax, average, percentile or entropy"},
        {"range-asymmetric", 0, QD_CLI_FLAG, &inputs.asymmetric, 0, 0, NULL, "with a zero point"},
        {"outliers", 0, QD_CLI_TEXT, &inputs.outliers, 0, 0, "T",
         "columns that read magnitudes of T and more stay in f16 beside int8, for --activations row (LLM.int8(): 6; "
         "4x: four times the middle column's, for models whose activations are of another size)"},
        QD_CLI_METHOD_OPTIONS(method),
        QD_CLI_DEVICE_OPTION(c),
        {"threads", 't', QD_CLI_INT, &c.threads, 0, 256, "N", "0: all processors"},
        QD_CLI_JSON_OPTION(c),
        {.kind = QD_CLI_END}};
    int code;
    if (!qd_cli_parse(argc, argv, "quantize IN.gguf OUT.gguf --format FORMAT [options]", about, options, &code)) {
        return code;
    }
    if (!input || !output) {
        return qd_cli_fail("quantize: two files are needed: qdot quantize IN.gguf OUT.gguf --format q4_0");
    }
    if (qd_cli_same_file(input, output)) {
        return qd_cli_fail("quantize: '%s' and '%s' are the same file; write to another one", input, output);
    }
    signal(SIGXFSZ, SIG_IGN); /* a limit of file sizes is a failed write, not the end */
    qd_cli_catch_interrupt();

    qd_cli_rules rules;
    qd_cli_plan plan = {0};
    qd_imatrix *imatrix = NULL;
    qd_gguf *g = NULL;
    qd_cli_outcome outcome = {.input = input, .output = output};
    qd_cli_method_take(&method, &inputs.path);
    bool ok = qd_cli_rules_read(format, group, &tensors, planned, &rules);
    if (ok && imatrix_path && qd_imatrix_open(imatrix_path, &imatrix) != QD_OK) {
        ok = false;
        qd_cli_failed();
    }
    if (ok && qd_gguf_open(input, &g) != QD_OK) {
        ok = false;
        qd_cli_failed();
    }
    if (ok && is_part(g)) {
        ok = false;
        qd_cli_fail("'%s' is one part of a model in several files; join them first (llama-gguf-split --merge)", input);
    }
    outcome.input_bytes = qd_gguf_file_bytes(g);
    ok = ok && qd_cli_plan_make(g, &rules, &plan);
    method.imatrix = imatrix != NULL;
    ok = ok && suits(imatrix, &plan) && qd_cli_inputs_read(g, &inputs) && qd_cli_outliers_choose(g, &plan, &inputs);
    ok = ok && qd_cli_method_begin(&method, input, c.device, (int)c.threads, g, &plan);
    ok = ok && write_file(g, &rules, &plan, imatrix, &inputs, &method, (int)c.threads, &outcome);
    code = ok ? QD_EXIT_OK : QD_EXIT_FAILED;
    if (ok) qd_cli_report_fallbacks(&plan);
    if (ok && c.json) code = qd_cli_report_json(&plan, &outcome);
    if (ok && !c.json) qd_cli_report_text(&plan, &outcome);
    qd_cli_method_free(&method);
    qd_cli_plan_free(&plan);
    qd_cli_rules_free(&rules);
    qd_cli_inputs_free(&inputs);
    qd_imatrix_free(imatrix);
    qd_gguf_free(g);
    return code;
}
