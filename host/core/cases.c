/* Random problems made from the operand column of qdot_ops.def, answered by the reference. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "core/rules/rules.h"
#include "formats/formats.h"
#include "qdot/qdot_num.h"

/* Bytes behind each operand that must stay as they are. */
enum { GUARD = 128 };

/* ---- Format combinations ------------------------------------------------------------------------------------ */

static qd_format nth_format(uint64_t mask, int n) {
    for (int f = 0; f < QD_FORMAT_COUNT; f++) {
        if (mask >> f & 1 && n-- == 0) return (qd_format)f;
    }
    return QD_FORMAT_COUNT;
}

bool qd_case_formats(qd_op op, int index, qd_format formats[QD_OPERANDS]) {
    const qd_op_rules *rules = qd_rules_of(op);
    qd_op_spec spec;
    qd_op_spec_read(op, &spec);
    int total = 1;
    for (int i = 0; i < QD_OPERANDS; i++) {
        const qd_operand_spec *o = qd_operand_at(&spec, i);
        if (o && !o->same_format) total *= __builtin_popcountll(o->formats);
    }
    for (int code = 0; code < total; code++) {
        int rest = code;
        for (int i = 0; i < QD_OPERANDS; i++) {
            const qd_operand_spec *o = qd_operand_at(&spec, i);
            formats[i] = QD_FORMAT_COUNT;
            if (!o) continue;
            if (o->same_format) {
                formats[i] = formats[0];
                continue;
            }
            formats[i] = nth_format(o->formats, rest % __builtin_popcountll(o->formats));
            rest /= __builtin_popcountll(o->formats);
        }
        if (rules->formats && rules->formats(op, formats, formats + QD_MAX_IN) != QD_OK) continue;
        if (index-- == 0) return true;
    }
    return false;
}

/* ---- Values ------------------------------------------------------------------------------------------------- */

/* Floats of a kind that `style` names: plain ones, or those at which kernels go wrong. */
static float random_float(uint64_t *rng, int style) {
    const float u = (float)qd_between(rng, -1000000, 1000000) * 1e-6f;
    switch (style) {
        case 0:
            return qd_between(rng, 0, 3) ? u : 0.0f; /* sparse */
        case 1:
            return u * qd_as_f32((qd_u32)qd_between(rng, 117, 137) << 23); /* 2^-10 … 2^10 */
        case 4: /* denormals, zeros of both signs, and the least maxima of A8 blocks */
            return qd_as_f32((qd_as_u32(u) & 0x80000000u) |
                             (qd_u32)(qd_between(rng, 0, 1) ? qd_next_random(rng) % 0x900000u : 0)) *
                   (qd_between(rng, 0, 1) ? 1.0f : 1e8f);
        case 2:
            return (float)qd_between(rng, -4, 4) * 0.5f; /* ties when rounded */
        default:
            return u * 2.0f;
    }
}

/* Styles of bytes: mostly any, for all of them alike hide what is read from the wrong place. */
enum { BYTE_STYLES = 10 };

/* Any bytes, or bytes of few kinds: zeros, ones, and those between which signs and carries change. */
static void fill_bytes(uint64_t *rng, int style, unsigned char *p, size_t n) {
    static const unsigned char edges[] = {0x00, 0x80, 0x7f, 0xff, 0x01, 0x81, 0x0f, 0xf0, 0x88, 0x77};
    for (size_t i = 0; i < n; i++) {
        const uint64_t r = qd_next_random(rng);
        p[i] = (unsigned char)(style < 4   ? r
                               : style < 7 ? edges[r % sizeof edges]
                               : style < 8 ? 0x7f /* sums as large as they can be */
                               : style < 9 ? 0x80
                                           : 0xff);
    }
}

/* Formats of which any bytes will do. */
static bool holds_bytes(const qd_format_info *info) {
    return info->kind == QD_KIND_INTEGER || info->bytes * info->block < 2;
}

/* Any codes under any scales that do not make sums infinite: a quantizer makes only some of these blocks. */
static void random_block(qd_format f, uint64_t *rng, unsigned char *p) {
    const qd_format_info *info = qd_format_get(f);
    union {
        uint64_t align;
        unsigned char bytes[256];
    } block;
    bool fits;
    do {
        for (int i = 0; i < info->bytes; i++)
            block.bytes[i] = (unsigned char)qd_next_random(rng);
        fits = true;
        for (int i = 0; i < info->block / 16; i++) {
            qd_sixteen s;
            qd_codec_get(f)->sixteen(block.bytes, i, &s);
            fits = fits && fabsf(s.scale) < 1e9f && fabsf(s.offset) < 1e9f; /* so that NaN does not fit */
        }
    } while (!fits);
    memcpy(p, block.bytes, (size_t)info->bytes);
}

static qd_status fill_row(qd_format f, uint64_t *rng, int style, float *scratch, int64_t cols, void *row) {
    const qd_format_info *info = qd_format_get(f);
    const size_t bytes = qd_format_row_bytes(f, cols);
    if (holds_bytes(info)) {
        fill_bytes(rng, style, row, bytes);
        return QD_OK;
    }
    for (int64_t i = 0; i < cols; i++)
        scratch[i] = random_float(rng, style);
    const qd_status status = qd_quantize(f, scratch, 1, cols, row);
    if (status || style != 1 || f == QD_FORMAT_A8 || info->kind != QD_KIND_BLOCKED) return status;
    for (size_t i = 0; i < bytes; i += (size_t)info->bytes)
        random_block(f, rng, (unsigned char *)row + i);
    return QD_OK;
}

/* Puts dense rows where the tensor has its elements. */
static void spread(const qd_tensor *t, const unsigned char *dense, unsigned char *data) {
    const int64_t cols = qd_columns(t), rows = qd_span(&t->desc, 0, t->desc.rank - 1);
    const size_t row = qd_format_row_bytes(t->desc.format, cols);
    const qd_format_info *f = qd_format_get(t->desc.format);
    for (int64_t r = 0; r < rows; r++) {
        size_t at = t->offset + (size_t)r * t->stride;
        if (t->strided) {
            at = t->offset;
            int64_t rest = r;
            for (int k = t->desc.rank - 2; k >= 0; k--) {
                at += (size_t)(rest % t->desc.shape[k] * t->step[k]);
                rest /= t->desc.shape[k];
            }
        }
        const bool apart = t->strided && t->step[t->desc.rank - 1] != f->bytes;
        if (!apart) memcpy(data + at, dense + (size_t)r * row, row);
        for (int64_t i = 0; apart && i < cols; i++) {
            memcpy(data + at + (size_t)(i * t->step[t->desc.rank - 1]),
                   dense + (size_t)r * row + (size_t)(i * f->bytes), (size_t)f->bytes);
        }
    }
}

/* Dense rows of the operand's values. */
static qd_status fill_dense(qd_choices *c, const qd_problem *p, int i, const qd_tensor *t, unsigned char *dense) {
    const char *name = qd_operand_at(p->spec, i)->name;
    const int64_t cols = qd_columns(t), rows = qd_span(&t->desc, 0, t->desc.rank - 1);
    const size_t row = qd_format_row_bytes(t->desc.format, cols);
    const qd_op_rules *rules = qd_rules_of(p->op);
    qd_status status = QD_OK;
    char style_name[24];
    snprintf(style_name, sizeof style_name, "%s values", name);
    if (rules->fill && rules->fill(c, p, i, dense)) return QD_OK;
    float *scratch = qd_alloc((size_t)cols * sizeof *scratch + 1);
    if (!scratch) return QD_ERR_MEMORY;
    const int style =
        (int)qd_choose(c, style_name, 0, holds_bytes(qd_format_get(t->desc.format)) ? BYTE_STYLES - 1 : 4);
    uint64_t stream = qd_stream(c, name);
    for (int64_t r = 0; r < rows && !status; r++)
        status = fill_row(t->desc.format, &stream, style, scratch, cols, dense + (size_t)r * row);
    free(scratch);
    return status;
}

static qd_status fill_operand(qd_choices *c, const qd_problem *p, int i, const qd_tensor *t, unsigned char *data) {
    const size_t rows = (size_t)qd_span(&t->desc, 0, t->desc.rank - 1);
    unsigned char *dense = qd_alloc(rows * qd_format_row_bytes(t->desc.format, qd_columns(t)) + 1);
    if (!dense) return QD_ERR_MEMORY;
    const qd_status status = fill_dense(c, p, i, t, dense);
    if (!status) spread(t, dense, data);
    free(dense);
    return status;
}

/* ---- The problem -------------------------------------------------------------------------------------------- */

/* The shape that the row of the operator gives, from the symbols. */
static void shape_from_symbols(qd_choices *c, qd_problem *p, const qd_operand_spec *o, qd_tensor_desc *d) {
    char name[24];
    for (int i = 0; i < o->rank; i++) {
        const qd_dim_spec dim = o->dim[i];
        int64_t value = qd_dim_value(dim, &p->s);
        if (dim.may_lack) {
            /* A size that all operands share is left out by all of them; the rows by each on its own. */
            snprintf(name, sizeof name, "%.12s lacks %c", dim.a == 'R' ? o->name : "", dim.a);
            if ((dim.a == 'R' || value == 1) && qd_choose(c, name, 0, 1)) continue;
        }
        if (dim.may_be_one) {
            snprintf(name, sizeof name, "one %.12s", o->name);
            if (qd_choose(c, name, 0, 1)) value = 1;
        }
        d->shape[d->rank++] = value;
    }
}

/* Any order of the dimensions in memory, with gaps. Blocks and packed codes stay together. */
static void choose_steps(qd_choices *c, const char *operand, qd_tensor *t) {
    const qd_format_info *f = qd_format_get(t->desc.format);
    const int rank = t->desc.rank;
    char name[24];
    int order[QD_MAX_RANK]; /* the outermost in memory first */
    for (int k = 0; k < rank; k++)
        order[k] = k;
    snprintf(name, sizeof name, "%.12s strides", operand);
    if (!qd_choose(c, name, 0, 1)) return;
    const int moved = f->block > 1 ? rank - 1 : rank;
    snprintf(name, sizeof name, "%.12s order", operand); /* a stream apart from the choice's, or matrices never turn */
    uint64_t stream = qd_stream(c, name);
    for (int k = moved - 1; k > 0; k--) {
        const int other = (int)qd_between(&stream, 0, k), kept = order[k];
        order[k] = order[other];
        order[other] = kept;
    }
    int64_t step = f->bytes;
    for (int k = rank - 1; k >= 0; k--) {
        t->step[order[k]] = step;
        step = f->block > 1 && k == rank - 1 ? (int64_t)t->stride : step * t->desc.shape[order[k]];
        step += qd_between(&stream, 0, 2) * f->bytes;
    }
    t->strided = true;
    t->offset = (size_t)(qd_between(&stream, 0, 5) * f->bytes);
    t->extent = (size_t)step;
}

static qd_status make_operand(qd_case *c, qd_problem *p, int i, const qd_operand_spec *o) {
    qd_tensor *t = &c->tensors[i];
    qd_choices *choices = &c->choices;
    qd_tensor_desc *d = &p->desc[i];
    char name[24];
    if (!d->rank) shape_from_symbols(choices, p, o, d);
    d->format = p->formats[i];
    t->desc = *d;
    t->references = 1;
    const int64_t rows = qd_span(d, 0, d->rank - 1);
    const size_t row = qd_format_row_bytes(d->format, qd_columns(t));
    t->stride = row;
    /* Weights are constants mostly; tables, gains and biases now and then. What has a row for each row never is. */
    const bool weights = i == 0 && (__builtin_popcountll(o->formats) > 2 && !o->any_shape ? true : o->name[0] == 'w');
    const bool fixed = i < QD_MAX_IN && !weights && !o->any_shape && d->rank < 3 && o->dim[0].a != 'R';
    bool constant = false;
    snprintf(name, sizeof name, "%.12s constant", o->name);
    if (weights) constant = qd_choose(choices, name, 0, 3) != 0;
    if (fixed) constant = qd_choose(choices, name, 0, 1) != 0;
    if (d->format == QD_FORMAT_F32 && d->rank == 2 && !constant && !weights && !o->any_shape) {
        snprintf(name, sizeof name, "%.12s view", o->name);
        if (qd_choose(choices, name, 0, 1)) { /* of wider rows */
            uint64_t stream = qd_stream(choices, name);
            t->offset = (size_t)qd_between(&stream, 0, 5) * sizeof(float);
            t->stride = row + t->offset + (size_t)qd_between(&stream, 0, 5) * sizeof(float);
        }
    }
    if (qd_rules_of(p->op)->strided && !constant) choose_steps(choices, o->name, t);
    c->bytes[i] = t->offset + (t->strided ? t->extent : t->stride * (size_t)rows) + (constant ? 0 : GUARD);
    c->data[i] = qd_alloc(c->bytes[i] + 1);
    if (!c->data[i]) return QD_ERR_MEMORY;
    memset(c->data[i], 0x5a, c->bytes[i]);
    if (constant) t->constant = c->data[i];
    /* Outputs start as noise too, except that caches must hold numbers. */
    if (i < QD_MAX_IN || (o->rank == 3 && d->format == QD_FORMAT_F32)) {
        return fill_operand(choices, p, i, t, c->data[i]);
    }
    return QD_OK;
}

static qd_status expect(qd_case *c) {
    qd_operand operands[QD_OPERANDS] = {{0}};
    for (int i = 0; i < QD_OPERANDS; i++) {
        if (!c->data[i]) continue;
        void *data = c->data[i];
        if (i >= QD_MAX_IN) {
            void **want = &c->want[i - QD_MAX_IN];
            *want = qd_alloc(c->bytes[i]);
            if (!*want) return QD_ERR_MEMORY;
            memcpy(*want, data, c->bytes[i]);
            data = *want;
        }
        operands[i] = (qd_operand){(char *)data + c->tensors[i].offset, c->tensors[i].stride};
    }
    return qd_backend_ref.compute(&c->node, operands, operands + QD_MAX_IN, c->node.max_rows);
}

static void describe(qd_case *c, const qd_op_spec *spec) {
    size_t n = (size_t)snprintf(c->text, sizeof c->text, "seed %llu size %d:", (unsigned long long)c->choices.seed,
                                c->choices.size);
    for (int i = 0; i < QD_OPERANDS; i++) {
        if (!c->data[i]) continue;
        const qd_tensor_desc *d = &c->tensors[i].desc;
        for (int k = -1; k <= d->rank && n < sizeof c->text; k++) {
            char *to = c->text + n;
            const size_t room = sizeof c->text - n;
            n += (size_t)(k < 0          ? snprintf(to, room, " %s[", qd_operand_at(spec, i)->name)
                          : k == d->rank ? snprintf(to, room, "]")
                                         : snprintf(to, room, "%s%lld", k ? "," : "", (long long)d->shape[k]));
        }
    }
}

qd_status qd_case_make(qd_op op, const qd_format formats[], uint64_t seed, int size, const qd_choice fixed[], int n,
                       qd_case *c) {
    memset(c, 0, sizeof *c);
    c->choices = (qd_choices){.seed = seed, .size = size, .fixed = fixed, .n_fixed = n};
    qd_op_spec spec;
    qd_op_spec_read(op, &spec);
    qd_problem p = {.op = op, .spec = &spec, .formats = formats};
    qd_symbols_clear(&p.s);
    for (int i = 0; i < QD_OPERANDS; i++)
        p.present[i] = -1;
    qd_rules_of(op)->choose(&c->choices, &p);
    qd_status status = QD_OK;
    qd_tensor *operands[QD_OPERANDS] = {0};
    for (int i = 0; i < QD_OPERANDS; i++) {
        const qd_operand_spec *o = qd_operand_at(&spec, i);
        if (!o) continue;
        char name[24];
        snprintf(name, sizeof name, "with %s", o->name);
        if (o->optional && !(p.present[i] < 0 ? qd_choose(&c->choices, name, 0, 1) : p.present[i])) continue;
        QD_TRY(make_operand(c, &p, i, o));
        operands[i] = &c->tensors[i];
    }
    QD_TRY(qd_node_init(&c->node, op, &p.attrs, operands, spec.n_in, operands + QD_MAX_IN, spec.n_out, NULL));
    QD_TRY(expect(c));
    describe(c, &spec);
    c->choices.fixed = NULL; /* the caller's */
    return QD_OK;
error:
    qd_case_free(c);
    return status;
}

void qd_case_free(qd_case *c) {
    for (int i = 0; i < QD_OPERANDS; i++)
        free(c->data[i]);
    for (int i = 0; i < QD_MAX_OUT; i++)
        free(c->want[i]);
    memset(c, 0, sizeof *c);
}

qd_status qd_case_upload(qd_case *c, const qd_backend *b, void *device) {
    qd_status status = QD_OK;
    for (int i = 0; i < QD_OPERANDS; i++) {
        qd_tensor *t = &c->tensors[i];
        if (!c->data[i] || t->constant) continue;
        QD_TRY(b->alloc(device, c->bytes[i], &t->buffer));
        QD_TRY(b->write(device, t->buffer, 0, c->data[i], c->bytes[i]));
    }
    return QD_OK;
error:
    qd_case_unload(c, b, device);
    return status;
}

qd_status qd_case_compare(qd_case *c, const qd_backend *b, void *device, bool *different, char *first,
                          size_t capacity) {
    *different = false;
    for (int i = 0; i < QD_OPERANDS; i++) {
        const qd_tensor *t = &c->tensors[i];
        if (!c->data[i] || t->constant) continue;
        unsigned char *got = qd_alloc(c->bytes[i]);
        if (!got) return QD_ERR_MEMORY;
        const qd_status status = b->read(device, t->buffer, 0, got, c->bytes[i]);
        const unsigned char *want = i < QD_MAX_IN ? c->data[i] : c->want[i - QD_MAX_IN];
        size_t at = 0;
        while (!status && at < c->bytes[i] && got[at] == want[at])
            at++;
        if (!status && at < c->bytes[i]) {
            const size_t inside = at >= t->offset ? at - t->offset : 0;
            *different = true;
            snprintf(first, capacity, "%s %d, row %zu, byte %zu: %02x where the reference has %02x; %s",
                     i < QD_MAX_IN ? "input" : "output", i % QD_MAX_IN, inside / t->stride, inside % t->stride, got[at],
                     want[at], c->text);
        }
        free(got);
        if (status || *different) return status;
    }
    return QD_OK;
}

void qd_case_unload(qd_case *c, const qd_backend *b, void *device) {
    for (int i = 0; i < QD_OPERANDS; i++) {
        qd_tensor *t = &c->tensors[i];
        if (t->constant && b->forget) b->forget(device, t);
        if (t->buffer) b->release(device, t->buffer);
        t->buffer = NULL;
    }
}
