/* qdot convert: packed weights of other programs, and the orders of their codes. */
#include <math.h>
#include <regex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/convert.h"

static const char about[] =
    "Converts quantized weights between files of other programs; what is in a file is told by its name's end.\n\n"
    "  qdot convert gptq.safetensors out.gguf                  layers of GPTQ or AWQ (qweight, qzeros, scales, g_idx)\n"
    "                                                          become codings that hold them as they are: "
    "int4-g128-asym\n"
    "  qdot convert gptq.safetensors out.gguf --format q4_1    or another format: q4_0, q4_1, f16, …\n"
    "  qdot convert in.gguf out.safetensors --to awq           q4_0 and codings of integers become layers\n"
    "  qdot convert in.gguf out.safetensors --to gptq --format int4-g128-asym    other formats, too, quantized to "
    "that\n"
    "  qdot convert gptq.safetensors awq.safetensors --to awq\n"
    "  qdot convert a.safetensors b.safetensors --order bitsandbytes:onnx --bits 4 --tensors 'weight$'\n\n"
    "Layers keep their codes wherever the target has room for them, and the report then says so; else they are "
    "quantized\n"
    "again, and it tells the error. GPTQ layers whose inputs are out of order (act-order) become f16. In files that "
    "are\n"
    "made from GGUF, embeddings, outputs and norms stay floats. Tensors keep their names: a GGUF file that comes from\n"
    "safetensors has weights, but no model's description. Orders: low-first (onnx, gptq), high-first (bitsandbytes),\n"
    "halves (ggml), awq; they change the order of codes in the bytes of tensors, and nothing else.";

bool qd_cli_layer_name(const qd_safetensor *t, char base[256]) {
    static const char end[] = ".qweight";
    const size_t size = strlen(t->name), tail = sizeof end - 1;
    if (size <= tail || size - tail >= 256 || strcmp(t->name + size - tail, end)) return false;
    memcpy(base, t->name, size - tail);
    base[size - tail] = 0;
    return true;
}

bool qd_cli_layer_part(const qd_safetensors *s, const qd_safetensor *t) {
    static const char *const parts[] = {".qweight", ".qzeros", ".scales", ".g_idx"};
    char name[300];
    const size_t size = strlen(t->name);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        const size_t tail = strlen(parts[i]);
        if (size <= tail || size > 256 || strcmp(t->name + size - tail, parts[i])) continue;
        snprintf(name, sizeof name, "%.*s.qweight", (int)(size - tail), t->name);
        return qd_safetensors_find(s, name) != NULL;
    }
    return false;
}

void qd_cli_convert_tell(qd_cli_convert *c, const char *name, const char *was, const char *is, const qd_loss *loss) {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddItemToArray(c->report, o);
    qd_cli_json_text(o, "name", name, strlen(name));
    cJSON_AddStringToObject(o, "from", was);
    if (is) {
        cJSON_AddStringToObject(o, "to", is);
    } else {
        cJSON_AddNullToObject(o, "to");
    }
    cJSON_AddBoolToObject(o, "exact", is && (!loss || loss->squares == 0));
    if (!loss) return;
    cJSON_AddNumberToObject(o, "mean_error", loss->absolute / loss->count);
    cJSON_AddNumberToObject(o, "max_error", loss->largest);
    cJSON_AddNumberToObject(o, "snr_db", qd_loss_snr(loss));
}

/* ---- Safetensors to safetensors ------------------------------------------------------------------------------- */

/* Entry or data of one layer in the layout asked for. */
static bool put_layer(qd_cli_convert *c, const qd_safetensors *s, const char *base, qd_safetensors_writer *w,
                      bool data) {
    qd_grouped g = {0};
    qd_grouped_layout was;
    qd_status status = data ? qd_grouped_read(s, base, &g, &was) : qd_grouped_measure(s, base, &g, &was);
    if (status == QD_OK) {
        status = data ? qd_grouped_write(w, &g, c->layout) : qd_grouped_add(w, base, &g, c->layout);
        if (status == QD_OK && data) {
            qd_cli_convert_tell(c, base, was == QD_LAYOUT_AWQ ? "awq" : "gptq",
                                c->layout == QD_LAYOUT_AWQ ? "awq" : "gptq", NULL);
        }
    }
    qd_grouped_free(&g);
    if (status != QD_OK) qd_cli_failed();
    return status == QD_OK;
}

/* The bytes of a tensor, with its codes in another order. */
static bool write_reordered(qd_cli_convert *c, const qd_safetensor *t, qd_safetensors_writer *w) {
    void *bytes = malloc(t->bytes ? t->bytes : 1);
    if (!bytes) {
        qd_cli_fail("out of memory");
        return false;
    }
    const int64_t codes = (int64_t)(t->bytes * 8 / (size_t)c->bits);
    bool ok =
        qd_packed_bytes(c->from, c->bits, codes) == t->bytes && qd_packed_bytes(c->to, c->bits, codes) == t->bytes;
    if (!ok) {
        qd_cli_fail("tensor '%s': its %zu bytes are no whole number of %d-bit codes in the order %s or %s", t->name,
                    t->bytes, c->bits, qd_packing_name(c->from), qd_packing_name(c->to));
    } else if (qd_repack(c->from, c->to, c->bits, t->data, codes, bytes) != QD_OK ||
               qd_safetensors_write(w, bytes, t->bytes) != QD_OK) {
        qd_cli_failed();
        ok = false;
    } else {
        qd_cli_convert_tell(c, t->name, qd_packing_name(c->from), qd_packing_name(c->to), NULL);
    }
    free(bytes);
    return ok;
}

static bool put_tensor(qd_cli_convert *c, const qd_safetensors *s, const qd_safetensor *t, const regex_t *regex,
                       qd_safetensors_writer *w, bool data) {
    char base[256];
    if (c->has_layout && qd_cli_layer_name(t, base)) return put_layer(c, s, base, w, data);
    if (c->has_layout && qd_cli_layer_part(s, t)) return true;
    if (data && c->has_order && regexec(regex, t->name, 0, NULL, 0) == 0) return write_reordered(c, t, w);
    if (data) qd_cli_convert_tell(c, t->name, t->type, t->type, NULL);
    if ((data ? qd_safetensors_write(w, t->data, t->bytes) : qd_safetensors_add(w, t)) == QD_OK) return true;
    qd_cli_failed();
    return false;
}

/* Elements of a tensor in bytes: wide ones come first in the file, so that all are aligned. */
static int width(const qd_cli_convert *c, const qd_safetensor *t) {
    char base[256];
    if (c->has_layout && qd_cli_layer_name(t, base)) return 4;
    return strstr(t->type, "64") ? 8 : strstr(t->type, "32") ? 4 : strstr(t->type, "16") ? 2 : 1;
}

bool qd_cli_convert_packed(qd_cli_convert *c) {
    qd_safetensors *s = NULL;
    qd_safetensors_writer *w = NULL;
    regex_t regex;
    if (!qd_cli_regex(c->pattern, &regex)) return false;
    bool ok = qd_safetensors_open(c->input, &s) == QD_OK && qd_safetensors_create(c->output, &w) == QD_OK;
    if (!ok) qd_cli_failed();
    for (int pass = 0; pass < 8; pass++) { /* entries, then data, each from the widest on */
        for (int64_t i = 0; ok && i < qd_safetensors_count(s); i++) {
            const qd_safetensor *t = qd_safetensors_at(s, i);
            if (width(c, t) == 8 >> pass % 4) ok = put_tensor(c, s, t, &regex, w, pass >= 4);
        }
    }
    if (ok && qd_safetensors_finish(w) != QD_OK) {
        qd_cli_failed();
        ok = false;
    }
    qd_safetensors_writer_free(w);
    qd_safetensors_free(s);
    regfree(&regex);
    return ok;
}

/* ---- The command -------------------------------------------------------------------------------------------- */

static bool ends(const char *path, const char *end) {
    const size_t size = strlen(path), tail = strlen(end);
    return size > tail && !strcmp(path + size - tail, end);
}

static bool read_order(const char *text, qd_cli_convert *c) {
    char from[32];
    const char *sign = strchr(text, ':');
    if (!sign || sign - text >= (long)sizeof from) {
        qd_cli_fail("--order needs FROM:TO, as bitsandbytes:onnx, not '%.60s'", text);
        return false;
    }
    snprintf(from, sizeof from, "%.*s", (int)(sign - text), text);
    c->has_order = true;
    if (qd_packing_find(from, &c->from) == QD_OK && qd_packing_find(sign + 1, &c->to) == QD_OK) return true;
    qd_cli_failed();
    return false;
}

/* What the words ask for; prints a message and returns false when it is nothing. */
static bool read_words(const char *format, const char *layout, const char *order, qd_cli_convert *c) {
    if (layout && strcmp(layout, "gptq") && strcmp(layout, "awq")) {
        qd_cli_fail("--to is gptq or awq, not '%s'", layout);
        return false;
    }
    c->has_layout = layout != NULL;
    c->layout = layout && !strcmp(layout, "awq") ? QD_LAYOUT_AWQ : QD_LAYOUT_GPTQ;
    c->has_format = format != NULL;
    if (format && qd_storage_parse(format, &c->format) != QD_OK) {
        qd_cli_failed();
        return false;
    }
    return !order || read_order(order, c);
}

static void print_report(const qd_cli_convert *c) {
    const cJSON *o;
    cJSON_ArrayForEach(o, c->report) {
        const char *to = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "to"));
        printf("%-48s  %-16s  %-20s  ", cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "name")),
               cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "from")), to ? to : "-");
        if (!to) {
            printf("left out: GGUF has no such type\n");
        } else if (cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "exact"))) {
            printf("the same\n");
        } else {
            printf("max error %.3g, SNR %.2f dB\n", cJSON_GetObjectItemCaseSensitive(o, "max_error")->valuedouble,
                   cJSON_GetObjectItemCaseSensitive(o, "snr_db")->valuedouble);
        }
    }
}

static bool convert(qd_cli_convert *c) {
    const bool from_gguf = ends(c->input, ".gguf"), to_gguf = ends(c->output, ".gguf");
    if ((!from_gguf && !ends(c->input, ".safetensors")) || (!to_gguf && !ends(c->output, ".safetensors"))) {
        qd_cli_fail("convert: names must end in .gguf or .safetensors, which tells what is in them");
        return false;
    }
    if (from_gguf && to_gguf) {
        qd_cli_fail("convert: from GGUF to GGUF is `qdot quantize`");
        return false;
    }
    if (c->has_order && (from_gguf || to_gguf)) {
        qd_cli_fail("convert: --order is for safetensors files");
        return false;
    }
    if (to_gguf && c->has_layout) {
        qd_cli_fail("convert: --to is for safetensors files that are written");
        return false;
    }
    if (to_gguf) return qd_cli_convert_to_gguf(c);
    if (from_gguf) return qd_cli_convert_from_gguf(c);
    if (c->has_format || c->has_order == c->has_layout) {
        qd_cli_fail("convert: between safetensors files give --to gptq, --to awq or --order FROM:TO");
        return false;
    }
    return qd_cli_convert_packed(c);
}

int qd_cmd_convert(int argc, char **argv) {
    qd_cli_common common = {0};
    qd_cli_convert c = {.pattern = ""};
    const char *format = NULL, *layout = NULL, *order = NULL;
    int64_t bits = 4;
    const qd_cli_option options[] = {
        {.name = "IN", .kind = QD_CLI_OPERAND, .value = &c.input},
        {.name = "OUT", .kind = QD_CLI_OPERAND, .value = &c.output},
        {"format", 'f', QD_CLI_TEXT, &format, 0, 0, "FORMAT",
         "of the matrices in a GGUF file that is written, or on the way to a layer"},
        {"to", 0, QD_CLI_TEXT, &layout, 0, 0, "LAYOUT",
         "gptq or awq: layout of the layers that are written (default: gptq)"},
        {"order", 0, QD_CLI_TEXT, &order, 0, 0, "FROM:TO", "change the order of codes in their bytes"},
        {"bits", 0, QD_CLI_INT, &bits, 1, 8, "N", "of a code, for --order (default: 4)"},
        {"tensors", 0, QD_CLI_TEXT, &c.pattern, 0, 0, "REGEX", "whose codes get another order (default: all)"},
        {"threads", 't', QD_CLI_INT, &common.threads, 0, 256, "N", "0: all processors"},
        QD_CLI_JSON_OPTION(common),
        {.kind = QD_CLI_END}};
    int code;
    if (!qd_cli_parse(argc, argv, "convert IN OUT [options]", about, options, &code)) return code;
    if (!c.input || !c.output) return qd_cli_fail("convert: two files are needed (see: qdot help convert)");
    if (qd_cli_same_file(c.input, c.output)) {
        return qd_cli_fail("convert: '%s' and '%s' are the same file; write to another one", c.input, c.output);
    }
    signal(SIGXFSZ, SIG_IGN); /* a limit of file sizes is a failed write, not the end */
    qd_cli_catch_interrupt();
    c.threads = (int)common.threads;
    c.bits = (int)bits;
    cJSON *root = cJSON_CreateObject();
    c.report = cJSON_AddArrayToObject(root, "tensors");
    const bool ok = c.report ? read_words(format, layout, order, &c) && convert(&c) : qd_cli_fail("out of memory") == 0;
    if (ok && common.json) return qd_cli_print_json(root);
    if (ok) print_report(&c);
    cJSON_Delete(root);
    return ok ? QD_EXIT_OK : QD_EXIT_FAILED;
}
