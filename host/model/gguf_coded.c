/* Coded tensors: matrices whose type GGUF does not have, described by keys. See FORMATS.md, "Coded tensors in GGUF
 * files". */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/status.h"
#include "formats/coding.h"
#include "model/gguf.h"

/* Fails with a message about the tensor `name`. */
#define CODED_FAIL(name, text, ...) \
    qd_fail(QD_ERR_FILE, "GGUF: tensor '%.80s' is coded, but " text " (damaged file?)", name, __VA_ARGS__)

bool qd_gguf_coded_key(const char *prefix, const char *name, char key[QD_GGUF_CODED_KEY]) {
    return snprintf(key, QD_GGUF_CODED_KEY, "%s%s", prefix, name) < QD_GGUF_CODED_KEY;
}

/* The value of a key that begins with a prefix; NULL when the file has none. */
static const qd_gguf_value *find_key(const qd_gguf *g, const char *prefix, const char *name) {
    char key[QD_GGUF_CODED_KEY];
    if (!qd_gguf_coded_key(prefix, name, key)) return NULL;
    const qd_string *found = qd_gguf_index_find(g->value_index, g->value_count, (qd_string){key, strlen(key)});
    return found ? &((const gguf_value *)(const void *)found)->v : NULL;
}

static qd_status read_coding(const qd_gguf *g, const qd_gguf_value *v, const char *name, qd_coding *out) {
    qd_string text;
    char word[80] = "";
    qd_status status = qd_gguf_get_string(g, v, 0, &text);
    if (status != QD_OK) return status;
    if (text.size >= sizeof word || memchr(text.data, 0, text.size)) {
        return CODED_FAIL(name, "the name of its coding has %zu bytes or a zero in it", text.size);
    }
    memcpy(word, text.data, text.size);
    if (qd_coding_parse(word, out) == QD_OK) return QD_OK;
    return qd_fail(QD_ERR_FILE, "GGUF: tensor '%.80s': %s", name, qd_last_message());
}

static qd_status read_columns(const qd_gguf *g, const char *name, int64_t *out) {
    const qd_gguf_value *v = find_key(g, QD_GGUF_COLUMNS_PREFIX, name);
    if (!v) return CODED_FAIL(name, "there is no key %s%.80s", QD_GGUF_COLUMNS_PREFIX, name);
    const qd_status status = qd_gguf_get_int(g, v, 0, out);
    return status == QD_OK && *out < 1 ? CODED_FAIL(name, "with %" PRId64 " columns", *out) : status;
}

/* The coding can hold a matrix of this size. */
static qd_status check_size(const char *name, const qd_gguf_coded *c) {
    qd_coded_params unused;
    if (qd_coding_layout(&c->coding, c->rows, c->cols, &unused) == QD_OK) return QD_OK;
    return qd_fail(QD_ERR_FILE, "GGUF: tensor '%.80s': %s (damaged file?)", name, qd_last_message());
}

static qd_status find_side(const qd_gguf *g, const char *name, qd_gguf_coded *c) {
    char side_name[QD_GGUF_CODED_KEY];
    snprintf(side_name, sizeof side_name, "%s" QD_GGUF_SIDE_SUFFIX, name);
    qd_gguf_tensor side;
    if (qd_gguf_tensor_find(g, side_name, &side) != QD_OK) {
        return CODED_FAIL(name, "there is no tensor '%.90s'", side_name);
    }
    c->side_count = qd_coding_side_count(&c->coding, c->rows, c->cols);
    if (side.desc.format != QD_FORMAT_F32 || side.desc.rank != 1 || side.desc.shape[0] != c->side_count) {
        return CODED_FAIL(name, "'%.90s' is not of the type f32 with %" PRId64 " elements", side_name, c->side_count);
    }
    c->side = side.data;
    return QD_OK;
}

qd_status qd_gguf_find_coded(const qd_gguf *g, const char *name, bool *coded, qd_gguf_coded *out) {
    if (!g || !name || !coded || !out) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_gguf_find_coded: file, name and the results must not be NULL");
    }
    qd_gguf_coded c;
    qd_gguf_tensor t;
    qd_status status;
    QD_TRY(qd_gguf_tensor_find(g, name, &t));
    const qd_gguf_value *v = find_key(g, QD_GGUF_CODING_PREFIX, name);
    if (!v) {
        *coded = false;
        return QD_OK;
    }
    QD_TRY(read_coding(g, v, name, &c.coding));
    QD_TRY(read_columns(g, name, &c.cols));
    if (t.desc.format != QD_FORMAT_I8 || t.desc.rank != 2) return CODED_FAIL(name, "%s", "it is no matrix of i8");
    c.rows = t.desc.shape[0];
    c.data = t.data;
    QD_TRY(check_size(name, &c));
    const size_t row_bytes = qd_coding_row_bytes(&c.coding, c.cols);
    if ((uint64_t)t.desc.shape[1] != row_bytes) {
        return CODED_FAIL(name, "its rows have %" PRId64 " bytes, not the %zu of %" PRId64 " such weights",
                          t.desc.shape[1], row_bytes, c.cols);
    }
    QD_TRY(find_side(g, name, &c));
    *coded = true;
    *out = c;
error:
    return status;
}

qd_status qd_gguf_find_input(const qd_gguf *g, const char *name, bool *found, float *scale, int32_t *zero_point) {
    if (!g || !name || !found || !scale || !zero_point) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_gguf_find_input: file, name and the results must not be NULL");
    }
    const qd_gguf_value *s = find_key(g, QD_GGUF_INPUT_SCALE_PREFIX, name);
    const qd_gguf_value *z = find_key(g, QD_GGUF_INPUT_ZERO_PREFIX, name);
    double number;
    int64_t zero;
    qd_status status = QD_OK;
    if (!s && !z) {
        *found = false;
        return QD_OK;
    }
    if (!s || !z) {
        return qd_fail(QD_ERR_FILE, "GGUF: of the scale and the zero point of what '%.80s' reads, one is missing",
                       name);
    }
    QD_TRY(qd_gguf_get_double(g, s, 0, &number));
    QD_TRY(qd_gguf_get_int(g, z, 0, &zero));
    if (!isfinite(number) || !((float)number > 0) || zero < INT8_MIN || zero > INT8_MAX) {
        return qd_fail(QD_ERR_FILE,
                       "GGUF: what '%.80s' reads has the scale %g and the zero point %" PRId64
                       "; a positive number and one of -128 … 127 are needed (damaged file?)",
                       name, number, zero);
    }
    *found = true;
    *scale = (float)number;
    *zero_point = (int32_t)zero;
error:
    return status;
}

/* True when the file has the tensor NAME + suffix. */
static bool find_part(const qd_gguf *g, const char *name, const char *suffix, qd_gguf_tensor *out) {
    char part[QD_GGUF_CODED_KEY];
    return snprintf(part, sizeof part, "%s%s", name, suffix) < (int)sizeof part &&
           qd_gguf_tensor_find(g, part, out) == QD_OK;
}

qd_status qd_gguf_find_outliers(const qd_gguf *g, const char *name, int64_t rows, int64_t cols, qd_gguf_outliers *out) {
    if (!g || !name || !out) {
        return qd_fail(QD_ERR_ARGUMENT, "qd_gguf_find_outliers: file, name and the result must not be NULL");
    }
    qd_gguf_tensor columns, weights;
    const bool has_columns = find_part(g, name, QD_GGUF_OUTLIER_COLUMNS_SUFFIX, &columns);
    const bool has_weights = find_part(g, name, QD_GGUF_OUTLIERS_SUFFIX, &weights);
    *out = (qd_gguf_outliers){0};
    if (!has_columns && !has_weights) return QD_OK;
    bool right = has_columns && has_weights && columns.desc.format == QD_FORMAT_I32 && columns.desc.rank == 1 &&
                 weights.desc.format == QD_FORMAT_F16 && weights.desc.rank == 2 && weights.desc.shape[0] == rows &&
                 weights.desc.shape[1] == columns.desc.shape[0];
    const int32_t *c = columns.data;
    for (int64_t i = 0; right && i < columns.desc.shape[0]; i++)
        right = c[i] >= 0 && c[i] < cols && (i == 0 || c[i] > c[i - 1]);
    if (!right) {
        return qd_fail(QD_ERR_FILE,
                       "GGUF: the outlier columns of '%.80s' are not ascending i32 with as many columns of f16 weights "
                       "(damaged file?)",
                       name);
    }
    *out = (qd_gguf_outliers){columns.desc.shape[0], c, weights.data};
    return QD_OK;
}
