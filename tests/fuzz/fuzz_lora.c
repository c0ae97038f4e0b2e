/* Loads a tiny model with arbitrary bytes as its adapter and, where that succeeds, computes a token. See README.md
 * beside this file. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "qdot/qdot.h"

enum { WIDTH = 16, VOCAB = 3 };

static qd_gguf *model;
static qd_context *context;

static void require(int condition) {
    if (!condition) abort();
}

static void require_ok(qd_status s) {
    if (s != QD_OK) fprintf(stderr, "%s\n", qd_last_message());
    require(s == QD_OK);
}

/* One layer of matrices of 16 × 16, all of whose weights are 1/4. */
static void make_model(void) {
    static const char *const counts[] = {"block_count", "attention.head_count", "embedding_length",
                                         "feed_forward_length", "context_length"};
    static const struct {
        const char *name;
        int rows;
    } tensors[] = {
        {"token_embd.weight", VOCAB},        {"output_norm.weight", 0},       {"blk.0.attn_norm.weight", 0},
        {"blk.0.attn_q.weight", WIDTH},      {"blk.0.attn_k.weight", WIDTH},  {"blk.0.attn_v.weight", WIDTH},
        {"blk.0.attn_output.weight", WIDTH}, {"blk.0.ffn_norm.weight", 0},    {"blk.0.ffn_gate.weight", WIDTH},
        {"blk.0.ffn_up.weight", WIDTH},      {"blk.0.ffn_down.weight", WIDTH}};
    enum { TENSORS = sizeof tensors / sizeof tensors[0] };
    char folder[] = "/tmp/fuzz_lora_XXXXXX", path[64], key[64];
    float values[WIDTH * WIDTH];
    qd_gguf_writer *w;
    require(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/model.gguf", folder);
    require_ok(qd_gguf_write_create(path, &w));
    require_ok(qd_gguf_write_string(w, "general.architecture", "llama"));
    for (int i = 0; i < 5; i++) {
        snprintf(key, sizeof key, "llama.%s", counts[i]);
        require_ok(qd_gguf_write_u32(w, key, i < 2 ? 1 : WIDTH));
    }
    require_ok(qd_gguf_write_u32(w, "llama.attention.layer_norm_rms_epsilon", 0));
    for (int i = 0; i < TENSORS; i++) {
        const int64_t rows = tensors[i].rows;
        const qd_tensor_desc d =
            rows ? qd_desc(QD_FORMAT_F32, rows, WIDTH, 0, 0) : qd_desc(QD_FORMAT_F32, WIDTH, 0, 0, 0);
        require_ok(qd_gguf_write_tensor(w, tensors[i].name, &d));
    }
    for (int i = 0; i < WIDTH * WIDTH; i++)
        values[i] = 0.25f;
    for (int i = 0; i < TENSORS; i++)
        require_ok(
            qd_gguf_write_data(w, values, (size_t)(tensors[i].rows ? tensors[i].rows : 1) * WIDTH * sizeof(float)));
    require_ok(qd_gguf_write_finish(w));
    qd_gguf_writer_free(w);
    require_ok(qd_gguf_open(path, &model));
    unlink(path);
    rmdir(folder);
}

/* Finite factors may have a sum that is not: then a logit may be anything. */
static bool take(void *user, int64_t position, const float *logits) {
    (void)logits;
    *(int64_t *)user = position;
    return true;
}

static void free_all(void) {
    qd_context_free(context);
    qd_gguf_free(model);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!context) {
        make_model();
        require_ok(qd_context_create("ref", NULL, &context));
        atexit(free_all);
    }
    qd_gguf *file = NULL;
    if (qd_gguf_parse(data, size, &file) != QD_OK) return 0;
    const qd_adapter adapters[] = {{file, 1}, {file, -0.5f}};
    qd_model_options o = qd_model_defaults();
    o.adapters = adapters;
    o.adapter_count = 2;
    qd_model *m = NULL;
    const qd_status status = qd_model_load(context, model, &o, &m);
    qd_gguf_free(file);
    require((status == QD_OK) == (m != NULL) && (status == QD_OK || !strchr(qd_last_message(), '\n')));
    require(status == QD_OK || status == QD_ERR_FILE || status == QD_ERR_UNSUPPORTED || status == QD_ERR_MEMORY);
    if (m) {
        int64_t position = -1;
        require(qd_model_describe(m)->branches > 0);
        require_ok(qd_model_eval(m, (const int32_t[]){1}, 1, true, take, &position));
        require(position == 0);
    }
    qd_model_free(m);
    return 0;
}
