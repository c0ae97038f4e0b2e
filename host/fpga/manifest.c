/* Manifests: reading them with every field checked, and writing them. */
#include <cjson/cJSON.h>
#include <ctype.h>
#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/status.h"
#include "fpga/fpga.h"

/* ---- Fields ------------------------------------------------------------------------------------------------- */

/* Where a message is about: the file and the field. */
typedef struct place {
    const char *path;
    char field[96];
} place;

static qd_status wrong(const place *at, const char *why) {
    return qd_fail(QD_ERR_FILE, "%s: field \"%s\": %s", at->path, at->field, why);
}

/* A member of an object; the place becomes its own: "kernels[2].units". */
static const cJSON *member(const cJSON *object, const char *name, const place *of, place *at) {
    at->path = of->path;
    snprintf(at->field, sizeof at->field, "%.70s%s%.20s", of->field, of->field[0] ? "." : "", name);
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static qd_status read_text(const cJSON *object, const char *name, const place *of, char *out, size_t capacity) {
    place at;
    const cJSON *v = member(object, name, of, &at);
    if (!cJSON_IsString(v)) return wrong(&at, v ? "must be a text" : "is missing");
    if (strlen(v->valuestring) >= capacity) return wrong(&at, "is too long");
    snprintf(out, capacity, "%s", v->valuestring);
    return QD_OK;
}

static qd_status read_int(const cJSON *object, const char *name, const place *of, int least, int most, int *out) {
    place at;
    char why[80];
    const cJSON *v = member(object, name, of, &at);
    if (!cJSON_IsNumber(v)) return wrong(&at, v ? "must be a number" : "is missing");
    if (v->valuedouble != floor(v->valuedouble) || v->valuedouble < least || v->valuedouble > most) {
        snprintf(why, sizeof why, "must be a whole number from %d to %d", least, most);
        return wrong(&at, why);
    }
    *out = (int)v->valuedouble;
    return QD_OK;
}

/* Of two fields with one name only the first would be read. */
static qd_status only_once(const cJSON *object, const place *of) {
    for (const cJSON *v = object->child; v; v = v->next) {
        place at;
        if (member(object, v->string, of, &at) != v) return wrong(&at, "stands there twice");
    }
    return QD_OK;
}

/* A misspelt field would silently mean its default. */
static qd_status only_known(const cJSON *object, const char *const names[], const place *of) {
    for (const cJSON *v = object->child; v; v = v->next) {
        place at;
        int i = 0;
        while (names[i] && strcmp(names[i], v->string) != 0)
            i++;
        if (names[i]) continue;
        member(object, v->string, of, &at);
        return wrong(&at, "is not known");
    }
    return only_once(object, of);
}

/* ---- Kernels ------------------------------------------------------------------------------------------------ */

/* What lies in the arena of a graph. */
static bool in_arena(const char *operand) {
    return !strcmp(operand, "x") || !strcmp(operand, "y") || !strcmp(operand, "addend");
}

static qd_status read_banks(const cJSON *object, const place *of, const qd_fpga_variant *v, qd_fpga_manifest *m,
                            qd_fpga_kernel *k) {
    place at;
    const cJSON *banks = member(object, "banks", of, &at);
    if (!banks) return QD_OK;
    if (!cJSON_IsObject(banks)) return wrong(&at, "must be an object: operand to bank");
    const qd_status twice = only_once(banks, &at);
    if (twice) return twice;
    for (const cJSON *b = banks->child; b; b = b->next) {
        place here;
        member(banks, b->string, &at, &here);
        if (!qd_fpga_has_operand(v->name, b->string)) return wrong(&here, "the operator has no such operand");
        if (k->n_banks == QD_FPGA_BANKS) return wrong(&at, "names too many operands");
        int bank;
        const qd_status status = read_int(banks, b->string, &at, 0, 63, &bank);
        if (status) return status;
        if (in_arena(b->string)) {
            for (int i = 0; i <= m->n_kernels; i++) {
                for (int j = 0; j < m->kernels[i].n_banks; j++) {
                    const qd_fpga_bank *other = &m->kernels[i].banks[j];
                    if (in_arena(other->operand) && other->bank != bank)
                        return wrong(&here, "x, y and addend of all kernels lie in one arena, so in one bank");
                }
            }
        }
        qd_fpga_bank *mine = &k->banks[k->n_banks++];
        snprintf(mine->operand, sizeof mine->operand, "%s", b->string);
        mine->bank = bank;
    }
    return QD_OK;
}

/* The functions' names tell the array's shape: a manifest that says another one is wrong. */
static qd_status read_functions(const cJSON *object, const place *of, const qd_fpga_variant *v,
                                const qd_fpga_manifest *m, qd_fpga_kernel *k) {
    place at;
    char why[300];
    const cJSON *all = member(object, "functions", of, &at);
    if (!cJSON_IsArray(all)) return wrong(&at, all ? "must be a list with a list for each compute unit" : "is missing");
    k->units = cJSON_GetArraySize(all);
    if (k->units < 1 || k->units > QD_FPGA_UNITS) return wrong(&at, "1 to 8 compute units are possible");
    if (k->units > 1 && strncmp(v->op, "MATMUL", 6) != 0)
        return wrong(&at, "only matrix products are shared out to several compute units");
    qd_fpga_name_functions(m, k);
    for (int u = 0; u < k->units; u++) {
        const cJSON *unit = cJSON_GetArrayItem(all, u);
        if (!cJSON_IsArray(unit) || cJSON_GetArraySize(unit) != k->stages) {
            snprintf(why, sizeof why, "a compute unit of %s has %d", v->name, k->stages);
            return wrong(&at, why);
        }
        for (int s = 0; s < k->stages; s++) {
            const cJSON *name = cJSON_GetArrayItem(unit, s);
            const char *want = k->functions[u][s];
            if (cJSON_IsString(name) && !strcmp(name->valuestring, want)) continue;
            snprintf(why, sizeof why, "has \"%.80s\", where pe, vec and tokens ask for \"%s\"",
                     cJSON_IsString(name) ? name->valuestring : "", want);
            return wrong(&at, why);
        }
    }
    return QD_OK;
}

static qd_status read_kernel(const cJSON *object, const place *of, qd_fpga_manifest *m) {
    static const char *const known[] = {"variant", "functions", "banks", NULL};
    qd_fpga_kernel *k = &m->kernels[m->n_kernels];
    place at;
    if (!cJSON_IsObject(object)) return wrong(of, "must be an object");
    qd_status status = only_known(object, known, of);
    if (!status) status = read_text(object, "variant", of, k->variant, sizeof k->variant);
    if (status) return status;
    member(object, "variant", of, &at);
    const qd_fpga_variant *v = qd_fpga_variant_find(k->variant);
    if (!v) return wrong(&at, "no kernel for FPGAs has this name");
    if (qd_fpga_kernel_find(m, k->variant)) return wrong(&at, "stands there twice");
    if (v->channels && strcmp(m->vendor, "intel") != 0)
        return wrong(&at, "needs channels, which only Intel's cards have");
    status = read_functions(object, of, v, m, k);
    if (!status) status = read_banks(object, of, v, m, k);
    if (!status) m->n_kernels++;
    return status;
}

/* ---- The binary --------------------------------------------------------------------------------------------- */

static qd_status hash(const void *data, size_t bytes, char text[65]) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (!EVP_Digest(data, bytes, digest, &n, EVP_sha256(), NULL) || n != 32)
        return qd_fail(QD_ERR_MEMORY, "could not compute a hash");
    for (unsigned i = 0; i < n; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    return QD_OK;
}

/* .aocx files and what Intel's emulator gives are ELF; .xclbin begin with their own word, and have their length in
 * bytes 304 to 311 (struct axlf of AMD's runtime). */
static const char *kind_is_wrong(const qd_fpga_manifest *m, const unsigned char *data, size_t bytes) {
    enum { LENGTH_AT = 304 };
    if (!strcmp(m->vendor, "intel")) {
        return bytes < 64 || memcmp(data, "\177ELF", 4) != 0 ? "the file is no Intel binary (.aocx)" : NULL;
    }
    if (bytes < LENGTH_AT + 8 || memcmp(data, "xclbin2", 8) != 0) return "the file is no AMD binary (.xclbin)";
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | data[LENGTH_AT + i];
    return length != bytes ? "the file is not as long as its head says" : NULL;
}

static qd_status check_binary(const qd_fpga_manifest *m, const char *path, char sha256[65]) {
    char file[600];
    place at = {path, "binary"};
    unsigned char *data = NULL;
    size_t bytes = 0;
    qd_fpga_binary_path(m, path, file, sizeof file);
    qd_status status = qd_fpga_read_file(file, &data, &bytes);
    if (status == QD_ERR_IO) {
        char why[200];
        snprintf(why, sizeof why, "%.190s", qd_last_message());
        status = wrong(&at, why);
    }
    if (status) goto error;
    const char *why = kind_is_wrong(m, data, bytes);
    if (why) {
        status = wrong(&at, why);
        goto error;
    }
    QD_TRY(hash(data, bytes, sha256));
error:
    free(data);
    return status;
}

/* ---- Reading ------------------------------------------------------------------------------------------------ */

static qd_status read_head(const cJSON *root, const place *top, bool sealed, qd_fpga_manifest *m) {
    static const char *const known[] = {"format", "vendor",  "board",     "binary",        "sha256",  "pe",      "vec",
                                        "tokens", "packing", "clock_mhz", "channel_depth", "autorun", "kernels", NULL};
    static const char *const packings[] = {"none", "int8x2", "int4x4"};
    place at;
    int format;
    qd_status status = QD_OK;
    QD_TRY(only_known(root, known, top));
    QD_TRY(read_int(root, "format", top, 1, 1, &format));
    QD_TRY(read_text(root, "vendor", top, m->vendor, sizeof m->vendor));
    member(root, "vendor", top, &at);
    if (strcmp(m->vendor, "intel") != 0 && strcmp(m->vendor, "amd") != 0) return wrong(&at, "must be intel or amd");
    QD_TRY(read_text(root, "board", top, m->board, sizeof m->board));
    member(root, "board", top, &at);
    if (!m->board[0]) return wrong(&at, "must name a board");
    QD_TRY(read_text(root, "binary", top, m->binary, sizeof m->binary));
    member(root, "binary", top, &at);
    if (!m->binary[0] || strchr(m->binary, '/')) return wrong(&at, "must be the name of a file beside the manifest");
    QD_TRY(read_text(root, "sha256", top, m->sha256, sizeof m->sha256));
    member(root, "sha256", top, &at);
    if (!m->sha256[0] && sealed)
        return wrong(&at, "is empty: build the binary, then run `qdot fpga seal` on the manifest");
    if (m->sha256[0] && (strlen(m->sha256) != 64 || strspn(m->sha256, "0123456789abcdef") != 64)) {
        return wrong(&at, "must be 64 hexadecimal digits");
    }
    QD_TRY(read_int(root, "pe", top, 1, 64, &m->pe));
    QD_TRY(read_int(root, "vec", top, 16, 64, &m->vec));
    member(root, "vec", top, &at);
    if (m->vec != 16 && m->vec != 32 && m->vec != 64) return wrong(&at, "must be 16, 32 or 64");
    QD_TRY(read_int(root, "tokens", top, 1, 64, &m->tokens));
    QD_TRY(read_text(root, "packing", top, m->packing, sizeof m->packing));
    member(root, "packing", top, &at);
    bool packing = false;
    for (size_t i = 0; i < sizeof packings / sizeof packings[0]; i++)
        packing = packing || !strcmp(packings[i], m->packing);
    if (!packing) return wrong(&at, "must be none, int8x2 or int4x4");
    const cJSON *clock = member(root, "clock_mhz", top, &at);
    if (!cJSON_IsNumber(clock) || clock->valuedouble < 0 || clock->valuedouble > 10000) {
        return wrong(&at, "must be a number of MHz, 0 when it is not known");
    }
    m->clock_mhz = clock->valuedouble;
    QD_TRY(read_int(root, "channel_depth", top, 0, 1 << 20, &m->channel_depth));
    const cJSON *autorun = member(root, "autorun", top, &at);
    if (!cJSON_IsBool(autorun)) return wrong(&at, autorun ? "must be true or false" : "is missing");
    m->autorun = cJSON_IsTrue(autorun);
error:
    return status;
}

qd_status qd_fpga_parse(const char *path, const char *text, size_t bytes, bool sealed, qd_fpga_manifest *m) {
    place top = {path, ""}, at;
    qd_status status = QD_OK;
    const char *end = NULL;
    cJSON *root = cJSON_ParseWithLengthOpts(text, bytes, &end, false);
    memset(m, 0, sizeof *m);
    while (root && end < text + bytes && isspace((unsigned char)*end))
        end++;
    if (!cJSON_IsObject(root) || end < text + bytes) {
        status = qd_fail(QD_ERR_FILE, "%s is no manifest: it is not a JSON object (byte %zu)", path,
                         end ? (size_t)(end - text) : (size_t)0);
        goto error;
    }
    QD_TRY(read_head(root, &top, sealed, m));
    const cJSON *kernels = member(root, "kernels", &top, &at);
    if (!cJSON_IsArray(kernels) || !cJSON_GetArraySize(kernels) || cJSON_GetArraySize(kernels) > QD_FPGA_KERNELS) {
        status = wrong(&at, "must be a list of 1 to 32 kernels");
        goto error;
    }
    for (int i = 0; i < cJSON_GetArraySize(kernels); i++) {
        snprintf(at.field, sizeof at.field, "kernels[%d]", i);
        QD_TRY(read_kernel(cJSON_GetArrayItem(kernels, i), &at, m));
    }
error:
    cJSON_Delete(root);
    return status;
}

/* The manifest, and the hash of its binary as it is. `sealed`: the manifest's own hash must be there. */
static qd_status read_both(const char *path, bool sealed, qd_fpga_manifest *m, char sha256[65]) {
    unsigned char *text = NULL;
    size_t bytes = 0;
    qd_status status = qd_fpga_read_file(path, &text, &bytes);
    if (!status) status = qd_fpga_parse(path, (const char *)text, bytes, sealed, m);
    if (!status) status = check_binary(m, path, sha256);
    free(text);
    return status;
}

qd_status qd_fpga_read(const char *path, qd_fpga_manifest *out) {
    char sha256[65] = "";
    qd_fpga_manifest *m = qd_alloc(sizeof *m);
    qd_status status = m ? read_both(path, true, m, sha256) : QD_ERR_MEMORY;
    if (!status && strcmp(sha256, m->sha256) != 0) {
        const place at = {path, "sha256"};
        status = wrong(&at, "the binary has another hash: it was damaged, or built anew");
    }
    if (!status) *out = *m;
    free(m);
    return status;
}

/* ---- Writing ------------------------------------------------------------------------------------------------ */

static bool add_kernel(cJSON *list, const qd_fpga_kernel *k) {
    cJSON *o = cJSON_CreateObject(), *units = cJSON_CreateArray(), *banks = cJSON_CreateObject();
    bool ok = cJSON_AddItemToArray(list, o) && cJSON_AddStringToObject(o, "variant", k->variant) &&
              cJSON_AddItemToObject(o, "functions", units) && cJSON_AddItemToObject(o, "banks", banks);
    for (int u = 0; ok && u < k->units; u++) {
        cJSON *unit = cJSON_CreateArray();
        ok = cJSON_AddItemToArray(units, unit);
        for (int s = 0; ok && s < k->stages; s++)
            ok = cJSON_AddItemToArray(unit, cJSON_CreateString(k->functions[u][s]));
    }
    for (int i = 0; ok && i < k->n_banks; i++)
        ok = cJSON_AddNumberToObject(banks, k->banks[i].operand, k->banks[i].bank) != NULL;
    return ok;
}

qd_status qd_fpga_write(const qd_fpga_manifest *m, const char *path) {
    cJSON *o = cJSON_CreateObject();
    bool ok = cJSON_AddNumberToObject(o, "format", 1) && cJSON_AddStringToObject(o, "vendor", m->vendor) &&
              cJSON_AddStringToObject(o, "board", m->board) && cJSON_AddStringToObject(o, "binary", m->binary) &&
              cJSON_AddStringToObject(o, "sha256", m->sha256) && cJSON_AddNumberToObject(o, "pe", m->pe) &&
              cJSON_AddNumberToObject(o, "vec", m->vec) && cJSON_AddNumberToObject(o, "tokens", m->tokens) &&
              cJSON_AddStringToObject(o, "packing", m->packing) &&
              cJSON_AddNumberToObject(o, "clock_mhz", m->clock_mhz) &&
              cJSON_AddNumberToObject(o, "channel_depth", m->channel_depth) &&
              cJSON_AddBoolToObject(o, "autorun", m->autorun);
    cJSON *kernels = ok ? cJSON_AddArrayToObject(o, "kernels") : NULL;
    for (int i = 0; kernels && ok && i < m->n_kernels; i++)
        ok = add_kernel(kernels, &m->kernels[i]);
    char *text = ok && kernels ? cJSON_Print(o) : NULL;
    cJSON_Delete(o);
    if (!text) return qd_fail(QD_ERR_MEMORY, "out of memory while writing JSON");
    const qd_status status = qd_fpga_write_file(path, text, strlen(text));
    cJSON_free(text);
    return status;
}

qd_status qd_fpga_seal(const char *path, qd_fpga_manifest *out) {
    char sha256[65] = "";
    const qd_status status = read_both(path, false, out, sha256);
    if (status) return status;
    memcpy(out->sha256, sha256, sizeof sha256);
    return qd_fpga_write(out, path);
}
