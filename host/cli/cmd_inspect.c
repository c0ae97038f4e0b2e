/* `qdot inspect`: what is in a model file. One JSON document is made of the file; the text is a view of it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static const char about[] =
    "Shows what a GGUF file holds: its metadata, its tensors, and how many bytes each number format takes. Nothing is\n"
    "computed and no device is needed. Shapes are written outermost first: [rows,columns], the columns contiguous.\n"
    "Long texts and lists are cut; their full length stands behind them. A tensor of a type that this program does\n"
    "not know is listed as type:NUMBER, without bytes. Codings (see: qdot formats) stand with their names, the shape\n"
    "of their weights, and the bytes of all that belongs to them.\n\n"
    "  qdot inspect model.gguf\n"
    "  qdot inspect model.gguf --json | jq '.metadata[\"general.architecture\"].value'";

/* How much of a long value is shown. */
typedef struct limits {
    size_t text_bytes; /* of a string */
    uint64_t items;    /* of an array */
} limits;

static const limits text_limits = {72, 6};
static const limits json_limits = {1000, 16};

static const char *const type_names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                         "bool", "string", "array", "u64", "i64", "f64"};

/* ---- The document ------------------------------------------------------------------------------------------- */

/* Takes over `item` (NULL: memory ran out): it becomes a member of an object, or with name NULL the last of an array.
 */
static bool add(cJSON *parent, const char *name, cJSON *item) {
    if (name ? cJSON_AddItemToObject(parent, name, item) : cJSON_AddItemToArray(parent, item)) return true;
    cJSON_Delete(item);
    return false;
}

/* Exact, where a cJSON number would be a double. */
static bool add_unsigned(cJSON *o, const char *name, uint64_t x) {
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, x);
    return cJSON_AddRawToObject(o, name, text) != NULL;
}

/* The shortest decimal that reads back as the same float. JSON has no infinities: they become null, as in cJSON. */
static cJSON *make_f32(double x) {
    char text[32];
    if (x - x != 0) return cJSON_CreateNull();
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtof(text, NULL) == (float)x) break;
    }
    return cJSON_CreateRaw(text);
}

/* Makes a JSON string of bytes, of which at most `limit` are taken. */
static cJSON *make_string(qd_string s, size_t limit) {
    cJSON *holder = cJSON_CreateObject();
    size_t size = s.size <= limit ? s.size : qd_cli_utf8_whole(s.data, limit);
    if (holder) qd_cli_json_text(holder, "", s.data, size);
    cJSON *string = cJSON_DetachItemFromObjectCaseSensitive(holder, "");
    cJSON_Delete(holder);
    return string;
}

/* Makes one item of a value; NULL when memory ran out. */
static cJSON *make_item(const qd_gguf *g, const qd_gguf_value *v, uint64_t item, const limits *l) {
    qd_string s;
    int64_t n;
    double x;
    char text[24];
    if (v->item_type == QD_GGUF_STRING) {
        return qd_gguf_get_string(g, v, item, &s) == QD_OK ? make_string(s, l->text_bytes) : NULL;
    }
    if (qd_gguf_get_int(g, v, item, &n) == QD_OK) {
        if (v->item_type == QD_GGUF_BOOL) return cJSON_CreateBool(n != 0);
        snprintf(text, sizeof text, "%" PRId64, n);
        return cJSON_CreateRaw(text);
    }
    if (qd_gguf_get_double(g, v, item, &x) != QD_OK) return NULL;
    if (v->item_type == QD_GGUF_F32) return make_f32(x);
    if (v->item_type == QD_GGUF_F64) return cJSON_CreateNumber(x);
    /* A u64 above INT64_MAX: as near as a double comes. */
    snprintf(text, sizeof text, "%.0f", x);
    return cJSON_CreateRaw(text);
}

static bool add_value(cJSON *metadata, const qd_gguf *g, const qd_gguf_value *v, const limits *l) {
    cJSON *key = make_string(v->key, v->key.size), *entry = key ? cJSON_CreateObject() : NULL;
    bool ok = key && add(metadata, key->valuestring, entry);
    cJSON_Delete(key);
    if (!ok) return false;
    ok = cJSON_AddStringToObject(entry, "type", type_names[v->item_type]) != NULL;
    if (v->type != QD_GGUF_ARRAY) {
        qd_string s;
        if (v->type == QD_GGUF_STRING && qd_gguf_get_string(g, v, 0, &s) == QD_OK && s.size > l->text_bytes) {
            ok = ok && add_unsigned(entry, "full_bytes", s.size);
        }
        return ok && add(entry, "value", make_item(g, v, 0, l));
    }
    ok = ok && add_unsigned(entry, "count", v->count);
    cJSON *items = cJSON_AddArrayToObject(entry, "value");
    ok = ok && items;
    for (uint64_t i = 0; ok && i < v->count && i < l->items; i++) {
        ok = add(items, NULL, make_item(g, v, i, l));
    }
    return ok;
}

/* The format's name, or type:NUMBER for one that is not known. */
static const char *format_name(const qd_gguf_tensor *t, char buffer[24]) {
    const qd_format_info *f = qd_format_get(t->desc.format);
    if (f) return f->name;
    snprintf(buffer, 24, "type:%" PRIu32, t->gguf_type);
    return buffer;
}

/* A tensor as it is told about: a coded matrix with its coding, its columns, and the bytes of its side row. */
typedef struct shown {
    qd_gguf_tensor t;
    char format[64]; /* or coding */
    bool coded;
    char problem[256]; /* of a coding that is damaged */
    uint64_t bytes;
} shown;

/* Tells about tensor `index`. */
static bool show_tensor(const qd_gguf *g, uint64_t index, shown *out) {
    char buffer[24], name[160];
    if (qd_gguf_tensor_at(g, index, &out->t) != QD_OK) return false;
    qd_gguf_tensor *t = &out->t;
    out->coded = false;
    out->problem[0] = 0;
    out->bytes = t->bytes;
    snprintf(out->format, sizeof out->format, "%s", format_name(t, buffer));
    if (t->name.size >= sizeof name) return true;
    snprintf(name, sizeof name, "%.*s", (int)t->name.size, t->name.data);
    qd_gguf_coded c;
    if (qd_gguf_find_coded(g, name, &out->coded, &c) != QD_OK) {
        snprintf(out->problem, sizeof out->problem, "%s", qd_last_message());
    } else if (out->coded) {
        qd_coding_name(&c.coding, out->format, sizeof out->format);
        t->desc.shape[1] = c.cols;
        out->bytes += 4 * (uint64_t)c.side_count;
    }
    return true;
}

static bool add_tensor(cJSON *tensors, const shown *s) {
    const qd_gguf_tensor *t = &s->t;
    cJSON *entry = cJSON_CreateObject();
    if (!add(tensors, NULL, entry)) return false;
    bool ok = add(entry, "name", make_string(t->name, t->name.size));
    ok = ok && cJSON_AddStringToObject(entry, "format", s->format);
    if (s->coded) ok = ok && cJSON_AddBoolToObject(entry, "coding", true);
    if (s->problem[0])
        ok = ok && add(entry, "problem", make_string((qd_string){s->problem, strlen(s->problem)}, SIZE_MAX));
    cJSON *shape = cJSON_AddArrayToObject(entry, "shape");
    ok = ok && shape;
    for (int i = 0; ok && i < t->desc.rank; i++) {
        char text[24];
        snprintf(text, sizeof text, "%" PRId64, t->desc.shape[i]);
        ok = add(shape, NULL, cJSON_CreateRaw(text));
    }
    if (t->desc.format == QD_FORMAT_COUNT) return ok && cJSON_AddNullToObject(entry, "bytes");
    return ok && add_unsigned(entry, "bytes", s->bytes);
}

/* What the tensors of one format or coding take. Elements are counted in double: a damaged file may claim 2^63 of them.
 */
typedef struct total {
    char name[64];
    uint64_t tensors, bytes;
    double elements;
} total;

static void count_tensor(total *sum, const shown *s) {
    double elements = 1;
    for (int i = 0; i < s->t.desc.rank; i++)
        elements *= (double)s->t.desc.shape[i];
    sum->tensors++;
    sum->bytes += s->bytes;
    sum->elements += elements;
}

static bool add_total(cJSON *o, const char *name, const total *sum) {
    cJSON *entry = cJSON_AddObjectToObject(o, name);
    return entry && add_unsigned(entry, "tensors", sum->tensors) &&
           cJSON_AddNumberToObject(entry, "elements", sum->elements) && add_unsigned(entry, "bytes", sum->bytes) &&
           cJSON_AddNumberToObject(entry, "bits_per_weight", 8 * (double)sum->bytes / sum->elements);
}

/* The sum of a coding; the last one, of all the others, when there are too many. */
static total *find_coding(total *codings, int most, const char *name) {
    int i = 0;
    while (i < most - 1 && codings[i].tensors && strcmp(codings[i].name, name))
        i++;
    snprintf(codings[i].name, sizeof codings[i].name, "%s", i < most - 1 ? name : "other codings");
    return &codings[i];
}

/* Adds all tensors; then totals of each format and coding that occurs, of all known ones, and the tensors of unknown
 * types. */
static bool add_tensors(cJSON *document, const qd_gguf *g) {
    enum { CODINGS = 32 };
    total formats[QD_FORMAT_COUNT + 1], codings[CODINGS], known;
    memset(formats, 0, sizeof formats);
    memset(codings, 0, sizeof codings);
    memset(&known, 0, sizeof known);
    cJSON *tensors = cJSON_AddArrayToObject(document, "tensors");
    bool ok = tensors != NULL;
    for (uint64_t i = 0; ok && i < qd_gguf_tensor_count(g); i++) {
        shown s;
        ok = show_tensor(g, i, &s);
        if (!ok || qd_cli_is_side(g, s.t.name)) continue;
        ok = add_tensor(tensors, &s);
        count_tensor(s.coded ? find_coding(codings, CODINGS, s.format) : &formats[s.t.desc.format], &s);
        if (s.t.desc.format != QD_FORMAT_COUNT) count_tensor(&known, &s);
    }
    cJSON *o = cJSON_AddObjectToObject(document, "formats");
    ok = ok && o != NULL;
    for (int f = 0; ok && f < QD_FORMAT_COUNT; f++) {
        if (formats[f].tensors) ok = add_total(o, qd_format_get((qd_format)f)->name, &formats[f]);
    }
    for (int i = 0; ok && i < CODINGS && codings[i].tensors; i++)
        ok = add_total(o, codings[i].name, &codings[i]);
    ok = ok && (known.tensors == 0 || add_total(document, "total", &known));
    return ok && add_unsigned(document, "unknown_tensors", formats[QD_FORMAT_COUNT].tensors);
}

/* NULL when memory ran out. */
static cJSON *make_document(const qd_gguf *g, const char *path, const limits *l) {
    cJSON *document = cJSON_CreateObject();
    bool ok = document && add(document, "file", make_string((qd_string){path, strlen(path)}, SIZE_MAX));
    ok = ok && add_unsigned(document, "bytes", qd_gguf_file_bytes(g));
    ok = ok && add_unsigned(document, "version", qd_gguf_version(g));
    cJSON *metadata = cJSON_AddObjectToObject(document, "metadata");
    ok = ok && metadata;
    for (uint64_t i = 0; ok && i < qd_gguf_value_count(g); i++) {
        qd_gguf_value v;
        ok = qd_gguf_value_at(g, i, &v) == QD_OK && add_value(metadata, g, &v, l);
    }
    if (ok && add_tensors(document, g)) return document;
    cJSON_Delete(document);
    return NULL;
}

/* ---- The text ----------------------------------------------------------------------------------------------- */

/* Prints UTF-8 text of the file, with what a terminal could take as a command written as \u00XX. Pads to `width`. */
static void print_safe(const char *text, int width) {
    int columns = 0;
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p < 0x20 || *p == 0x7F) {
            columns += printf("\\u%04x", *p);
        } else if (*p == 0xC2 && p[1] < 0xA0) {
            columns += printf("\\u%04x", *++p);
        } else {
            putchar(*p);
            columns += (*p & 0xC0) != 0x80;
        }
    }
    printf("%*s", columns < width ? width - columns : 0, "");
}

static const cJSON *member(const cJSON *o, const char *name) {
    return cJSON_GetObjectItemCaseSensitive(o, name);
}

/* Text of a member that is a string or a raw number. */
static const char *text_of(const cJSON *o, const char *name) {
    const char *text =
        cJSON_IsRaw(member(o, name)) ? member(o, name)->valuestring : cJSON_GetStringValue(member(o, name));
    return text ? text : "";
}

/* Prints any member as one line of JSON, padded to `width`. False: no memory. */
static bool print_member(const cJSON *o, const char *name, int width) {
    char *text = cJSON_PrintUnformatted(member(o, name));
    if (!text) return false;
    print_safe(text, width);
    cJSON_free(text);
    return true;
}

/* Of the members' names, or of this text in each item. */
static int longest_text(const cJSON *list, const char *text) {
    size_t longest = 0;
    const cJSON *e;
    cJSON_ArrayForEach(e, list) {
        const char *name = e->string ? e->string : text_of(e, text);
        if (strlen(name) > longest) longest = strlen(name);
    }
    return longest < 48 ? (int)longest : 48;
}

static bool print_metadata(const cJSON *metadata) {
    const int width = longest_text(metadata, NULL);
    const cJSON *e;
    cJSON_ArrayForEach(e, metadata) {
        char type[40];
        const bool array = member(e, "count") != NULL;
        snprintf(type, sizeof type, array ? "%s[%s]" : "%s%s", text_of(e, "type"), text_of(e, "count"));
        printf("  ");
        print_safe(e->string, width);
        printf("  %-14s  ", type);
        if (!print_member(e, "value", 0)) return false;
        if (array && strtoull(text_of(e, "count"), NULL, 10) > (unsigned)cJSON_GetArraySize(member(e, "value"))) {
            printf(" … of %s", text_of(e, "count"));
        }
        if (member(e, "full_bytes")) printf(" … of %s bytes", text_of(e, "full_bytes"));
        putchar('\n');
    }
    return true;
}

static bool print_tensors(const cJSON *tensors) {
    const int width = longest_text(tensors, "name"), formats = longest_text(tensors, "format");
    const cJSON *e;
    cJSON_ArrayForEach(e, tensors) {
        printf("  ");
        print_safe(text_of(e, "name"), width);
        printf("  %-*s  ", formats > 8 ? formats : 8, text_of(e, "format"));
        if (!print_member(e, "shape", 16)) return false;
        if (member(e, "bytes") && !cJSON_IsNull(member(e, "bytes"))) printf("  %12s bytes", text_of(e, "bytes"));
        if (member(e, "problem")) printf("  ! %s", text_of(e, "problem"));
        putchar('\n');
    }
    return true;
}

static void print_total(const char *name, int width, const cJSON *e) {
    char size[24];
    printf("  %-*s  %5s tensors  %10.2f M elements  %10s  %6.3f bits per weight\n", width, name, text_of(e, "tensors"),
           member(e, "elements")->valuedouble / 1e6, qd_cli_size(strtoull(text_of(e, "bytes"), NULL, 10), size),
           member(e, "bits_per_weight")->valuedouble);
}

static bool print_text(const cJSON *d) {
    char size[24];
    print_safe(text_of(d, "file"), 0);
    printf(": GGUF version %s, %s (%s bytes)\n\nmetadata: %d values\n", text_of(d, "version"),
           qd_cli_size(strtoull(text_of(d, "bytes"), NULL, 10), size), text_of(d, "bytes"),
           cJSON_GetArraySize(member(d, "metadata")));
    if (!print_metadata(member(d, "metadata"))) return false;
    printf("\ntensors: %d\n", cJSON_GetArraySize(member(d, "tensors")));
    if (!print_tensors(member(d, "tensors"))) return false;
    if (cJSON_GetArraySize(member(d, "tensors")) == 0) return true;
    printf("\nformats\n");
    const cJSON *e;
    const int width = longest_text(member(d, "formats"), NULL) > 6 ? longest_text(member(d, "formats"), NULL) : 6;
    cJSON_ArrayForEach(e, member(d, "formats")) print_total(e->string, width, e);
    if (member(d, "total")) print_total("total", width, member(d, "total"));
    if (strcmp(text_of(d, "unknown_tensors"), "0") != 0) {
        printf("  not counted: %s tensors of types that this program does not know\n", text_of(d, "unknown_tensors"));
    }
    return true;
}

int qd_cmd_inspect(int argc, char **argv) {
    qd_cli_common c = {0};
    const char *path = NULL;
    const qd_cli_option options[] = {{.name = "FILE", .kind = QD_CLI_OPERAND, .value = &path},
                                     QD_CLI_MODEL_OPTION(c),
                                     QD_CLI_JSON_OPTION(c),
                                     {.kind = QD_CLI_END}};
    int code;
    if (!qd_cli_parse(argc, argv, "inspect FILE.gguf [--json]", about, options, &code)) return code;
    if (path && c.model) return qd_cli_fail("inspect: give one file, not both '%s' and --model", path);
    if (!path) path = c.model;
    if (!path) return qd_cli_fail("inspect: a file is needed: qdot inspect FILE.gguf (see: qdot help inspect)");

    qd_gguf *g;
    if (qd_gguf_open(path, &g) != QD_OK) return qd_cli_failed();
    cJSON *document = make_document(g, path, c.json ? &json_limits : &text_limits);
    qd_gguf_free(g);
    if (c.json) return qd_cli_print_json(document);
    const bool ok = document && print_text(document);
    cJSON_Delete(document);
    return ok ? QD_EXIT_OK : qd_cli_fail("out of memory");
}
