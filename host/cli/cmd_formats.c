/* qdot formats: what numbers can be stored in. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const char about[] =
    "Lists what weights can be stored in. Formats are those of GGUF files, which other programs read, too; their "
    "blocks\n"
    "have a fixed size. Codings are qdot's own: a name is made of a family, its bits, and options:\n"
    "  -g16 -g64 …    weights with one scale; -row, -tensor: one scale for each row, for the tensor\n"
    "  -asym          a zero point with each scale; -narrow, -full: limits of the codes (integers)\n"
    "  -f32 -f16 -bf16 -e4m3 -e8m0   how scales are stored; -dq: double quantization\n"
    "  kmeans4-row    a codebook for each row; pq6-d4: vectors of 4 weights\n"
    "so int4-g64-asym, nf4-dq, fp8_e4m3-tensor. Bits are per weight, with scales; those of codings for a matrix of\n"
    "4096 × 4096. `qdot formats NAME` tells them for one name.\n\n"
    "  qdot formats\n"
    "  qdot formats int4-g128-asym --json";

enum { SIDE = 4096 };

typedef struct row {
    char name[64];
    double bits;
    int64_t block; /* weights with one scale; 0: a row, -1: the tensor */
    bool writable; /* by `qdot quantize` */
    const char *what;
} row;

/* What the formats of qdot_formats.def are, where their names do not tell. */
static const char *format_what(const char *name) {
    static const char *const texts[][2] = {
        {"f32", "floats"},
        {"f16", "halves (IEEE 754 binary16)"},
        {"bf16", "the upper half of a float"},
        {"q8_0", "8 bits, a half scale"},
        {"q4_0", "4 bits, a half scale"},
        {"q4_1", "4 bits, a half scale and minimum"},
        {"q5_0", "5 bits, a half scale"},
        {"q5_1", "5 bits, a half scale and minimum"},
        {"q2_k", "2 bits in 16 groups, whose scales and minima have 4 bits"},
        {"q3_k", "3 bits in 16 groups, whose scales have 6 bits"},
        {"q4_k", "4 bits in 8 groups, whose scales and minima have 6 bits"},
        {"q5_k", "5 bits in 8 groups, whose scales and minima have 6 bits"},
        {"q6_k", "6 bits in 16 groups, whose scales have 8 bits"},
        {"iq4_nl", "4 bits by a fixed table, a half scale"},
        {"nvfp4", "floats of 4 bits, a float of 8 bits as scale of each 16"},
        {"tq1_0", "-1, 0, 1 as digits of base three, a half scale"},
        {"tq2_0", "-1, 0, 1 in 2 bits, a half scale"},
        {"iq4_xs", "4 bits by a fixed table, in 8 groups, whose scales have 6 bits"},
        {"mxfp4", "floats of 4 bits, a power of two as scale (OCP)"},
        {"a8", "8 bits, a float scale: activations only"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (!strcmp(texts[i][0], name)) return texts[i][1];
    }
    return "";
}

static row format_row(const qd_format_info *f) {
    row r = {.bits = f->bits, .block = f->kind == QD_KIND_BLOCKED ? f->block : 1, .what = format_what(f->name)};
    qd_storage s;
    snprintf(r.name, sizeof r.name, "%s", f->name);
    r.writable = qd_storage_parse(f->name, &s) == QD_OK && s.format != QD_FORMAT_COUNT;
    return r;
}

static row coding_row(const qd_coding *c, const char *what) {
    row r = {.bits = qd_coding_bits(c, SIDE, SIDE), .block = c->group, .writable = true, .what = what};
    qd_coding_name(c, r.name, sizeof r.name);
    if (c->scale == QD_SCALE_NONE) r.block = c->per_row ? 0 : -1;
    return r;
}

static void print_row(const row *r) {
    char block[24];
    snprintf(block, sizeof block, r->block > 0 ? "%lld" : r->block ? "tensor" : "row", (long long)r->block);
    printf("  %-16s %7.3f  %7s  %s\n", r->name, r->bits, block, r->what);
}

static void add_row(cJSON *list, const row *r) {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddItemToArray(list, o);
    cJSON_AddStringToObject(o, "name", r->name);
    cJSON_AddNumberToObject(o, "bits_per_weight", r->bits);
    if (r->block > 0) {
        cJSON_AddNumberToObject(o, "block", (double)r->block);
    } else {
        cJSON_AddStringToObject(o, "block", r->block ? "tensor" : "row");
    }
    cJSON_AddBoolToObject(o, "quantize", r->writable);
    cJSON_AddStringToObject(o, "what", r->what);
}

/* Prints a row, or adds it to the list. */
static void tell(cJSON *list, const row *r) {
    if (list) {
        add_row(list, r);
    } else {
        print_row(r);
    }
}

static void list_formats(cJSON *list) {
    if (!list) printf("formats of GGUF files  (bits, block, what)\n");
    for (int f = 0; f < QD_FORMAT_COUNT; f++) {
        const row r = format_row(qd_format_get((qd_format)f));
        if (r.writable) tell(list, &r);
    }
}

static void list_codings(cJSON *list) {
    const char *name, *what;
    int least, most;
    if (!list) printf("\ncodings  (bits, weights with one scale, what)\n");
    for (int i = 0; qd_coding_family(i, &name, &least, &most, &what); i++) {
        for (int bits = least; bits <= most; bits++) {
            char text[32];
            qd_coding c;
            snprintf(text, sizeof text, least == most ? "%s" : "%s%d", name, bits);
            if (qd_coding_parse(text, &c) != QD_OK) continue;
            const row r = coding_row(&c, bits == least ? what : "");
            tell(list, &r);
        }
    }
}

static int tell_one(const char *name, bool json) {
    qd_storage s;
    if (qd_storage_parse(name, &s) != QD_OK) return qd_cli_failed();
    const char *family, *what = "";
    int least, most;
    if (s.format == QD_FORMAT_COUNT) qd_coding_family(s.coding.family, &family, &least, &most, &what);
    const row r = s.format == QD_FORMAT_COUNT ? coding_row(&s.coding, what) : format_row(qd_format_get(s.format));
    if (!json) {
        print_row(&r);
        return QD_EXIT_OK;
    }
    cJSON *list = cJSON_CreateArray();
    add_row(list, &r);
    cJSON *o = cJSON_DetachItemFromArray(list, 0);
    cJSON_Delete(list);
    return qd_cli_print_json(o);
}

int qd_cmd_formats(int argc, char **argv) {
    qd_cli_common c = {0};
    const char *name = NULL;
    const qd_cli_option options[] = {
        {.name = "NAME", .kind = QD_CLI_OPERAND, .value = &name}, QD_CLI_JSON_OPTION(c), {.kind = QD_CLI_END}};
    int code;
    if (!qd_cli_parse(argc, argv, "formats [NAME] [--json]", about, options, &code)) return code;
    if (name) return tell_one(name, c.json);
    cJSON *root = c.json ? cJSON_CreateObject() : NULL;
    if (c.json && !root) return qd_cli_fail("out of memory");
    list_formats(root ? cJSON_AddArrayToObject(root, "formats") : NULL);
    list_codings(root ? cJSON_AddArrayToObject(root, "codings") : NULL);
    return root ? qd_cli_print_json(root) : QD_EXIT_OK;
}
