/* Which function runs which operation, and how a case ends. */
#include <stdio.h>
#include <string.h>

#include "cli/vectors_run.h"

typedef qd_status (*run_function)(qd_vec_run *r);

/* The names of operations are plain words in the groups of number formats, hence the group: NULL is any. */
static const struct {
    const char *group, *op;
    run_function run;
} operations[] = {
    {"gguf_quantize", "quantize", qd_vec_gguf_quantize},
    {"gguf_dequantize", "dequantize", qd_vec_gguf_dequantize},
    {"ggml_c_quantize", "quantize", qd_vec_bounded_quantize},
    {"half_bf16", "cast", qd_vec_cast},
    {"half_bf16", "quantize", qd_vec_gguf_quantize},
    {NULL, "QuantizeLinear", qd_vec_quantize_linear},
    {NULL, "DequantizeLinear", qd_vec_dequantize_linear},
    {NULL, "DynamicQuantizeLinear", qd_vec_dynamic_quantize},
    {NULL, "MatMulInteger", qd_vec_matmul_integer},
    {NULL, "QLinearMatMul", qd_vec_qlinear_matmul},
    {NULL, "ConvInteger", qd_vec_conv_integer},
    {NULL, "QLinearConv", qd_vec_qlinear_conv},
    {NULL, "QLinearAdd", qd_vec_binary},
    {NULL, "QLinearMul", qd_vec_binary},
    {NULL, "QLinearSigmoid", qd_vec_function},
    {NULL, "QLinearLeakyRelu", qd_vec_function},
    {NULL, "QLinearConcat", qd_vec_qlinear_concat},
    {NULL, "QLinearSoftmax", qd_vec_qlinear_softmax},
    {NULL, "LayerNormalization", qd_vec_layer_norm},
    {NULL, "QLinearAveragePool", qd_vec_qlinear_pool},
    {NULL, "QLinearGlobalAveragePool", qd_vec_qlinear_pool},
    {NULL, "MatMulNBits", qd_vec_matmul_nbits},
    {NULL, "QuantizeMatMulNBits", qd_vec_quantize_nbits},
    {"torch_quantize", "quantize_per_tensor", qd_vec_torch_quantize},
    {"torch_quantize", "quantize_per_channel", qd_vec_torch_quantize},
    {"torch_quantize", "quantize_per_channel_group", qd_vec_torch_quantize},
    {"torch_quantize", "quantize_per_token", qd_vec_torch_quantize},
    {"torch_fake_quantize", "fake_quantize", qd_vec_fake_quantize},
    {"torch_fake_quantize", "fake_quantize_learnable", qd_vec_fake_quantize_learn},
    {"torch_observers", "observer", qd_vec_observer},
    {"bnb_4bit", "quantize", qd_vec_quantize_4bit},
    {"bnb_4bit", "dequantize", qd_vec_dequantize_4bit},
    {"bnb_4bit", "quantize_nested", qd_vec_quantize_nested},
    {"bnb_4bit", "dequantize_nested", qd_vec_dequantize_nested},
    {"bnb_8bit", "table", qd_vec_dynamic_table},
    {"bnb_8bit", "quantize", qd_vec_quantize_8bit},
    {"bnb_8bit", "dequantize", qd_vec_dequantize_8bit},
    {"bnb_8bit", "quantize_rowwise", qd_vec_quantize_rowwise},
    {"kmeans_bound", "kmeans_codebook", qd_vec_kmeans},
    {"minifloat", "cast", qd_vec_minifloat},
    {"packing", "pack", qd_vec_pack},
    {"packing", "pack_int32", qd_vec_pack_words},
    {"packing", "pack_gptq", qd_vec_pack_gptq},
    {"tflite_requantize", "requantize", qd_vec_requantize},
    {"tflite_requantize", "multiply_by_quantized_multiplier", qd_vec_multiply},
    {NULL, "FULLY_CONNECTED", qd_vec_fully_connected},
    {NULL, "CONV_2D", qd_vec_tflite_conv},
    {NULL, "DEPTHWISE_CONV_2D", qd_vec_tflite_conv},
    {NULL, "ADD", qd_vec_binary},
    {NULL, "MUL", qd_vec_binary},
    {NULL, "AVERAGE_POOL_2D", qd_vec_tflite_pool},
};

static bool same_text(const char *a, const char *b) {
    return strcmp(a, b) == 0;
}

static run_function find_operation(const char *group, const char *op) {
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
        if (operations[i].group && !same_text(operations[i].group, group)) continue;
        if (same_text(operations[i].op, op)) return operations[i].run;
    }
    return NULL;
}

static qd_status run(qd_vec_run *r, const char *group) {
    const run_function function = find_operation(group, r->c->op);
    if (!function) return qd_vec_skip(r, r->c->op, "no operation %.64s yet", r->c->op);
    for (int i = 0; i < r->c->input_count + r->c->output_count; i++) {
        const qd_vec_tensor *t = i < r->c->input_count ? &r->c->inputs[i] : &r->c->outputs[i - r->c->input_count];
        if (t->count == 0) return qd_vec_skip(r, "empty", "no tensors without elements yet");
    }
    QD_VEC_TRY(function(r));
    for (int i = 0; i < r->c->output_count; i++) {
        if (i >= QD_VEC_OUTPUTS || !r->compared[i]) {
            return qd_vec_bad(r, "nothing computed the output %.32s", r->c->outputs[i].name);
        }
    }
    return QD_OK;
}

/* A device without the feature may flush denormals. The reference is the host's C, which does not. */
static bool flushes_denormals(qd_context *c) {
    const qd_device_info *info = qd_context_device(c);
    return !same_text(info->kind, "reference") && !strstr(info->features, "denormals");
}

/* Manifests may ask for a failure for a reason that is not true: of a row that is a whole number of blocks. */
static bool contradicts_itself(const qd_vec_case *c) {
    long long k, block;
    return c->error && sscanf(c->error, "K=%lld is not a multiple of the block size %lld", &k, &block) == 2 &&
           block > 0 && k % block == 0;
}

qd_vec_outcome qd_vec_run_case(qd_context *c, const char *group, const qd_vec_case *vector, qd_vec_report *report) {
    qd_vec_run r = {.context = c, .c = vector, .options = {.flushes_denormals = flushes_denormals(c)}};
    const qd_status status = run(&r, group);
    qd_vec_release(&r);
    qd_vec_outcome outcome = r.relaxed ? QD_VEC_PASSED_RELAXED : QD_VEC_PASSED;
    if (r.skipped) {
        outcome = QD_VEC_SKIPPED;
    } else if (vector->must_fail) {
        if (!r.refused) outcome = QD_VEC_FAILED;
        if (status == QD_OK && contradicts_itself(vector)) {
            outcome = QD_VEC_PASSED_RELAXED;
            snprintf(r.text, sizeof r.text, "accepted: it is not true that %.200s", vector->error);
        } else if (status == QD_OK) {
            snprintf(r.text, sizeof r.text, "no failure, although %.200s",
                     vector->error ? vector->error : "one was due");
        }
    } else if (status != QD_OK || r.different) {
        outcome = QD_VEC_FAILED;
    }
    if (outcome == QD_VEC_PASSED) r.text[0] = 0;
    *report = (qd_vec_report){.ops = r.ops, .fallbacks = r.fallbacks};
    memcpy(report->part, r.part, sizeof r.part);
    memcpy(report->text, r.text, sizeof r.text);
    return outcome;
}
