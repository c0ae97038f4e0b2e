/* Random problems made from the operand column of qdot_ops.def, answered by the reference. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "core/operands.h"
#include "qdot/qdot_num.h"

/* Bytes behind each operand that must stay as they are. */
enum { OPERANDS = QD_MAX_IN + QD_MAX_OUT, GUARD = 128 };

/* SplitMix64 (Steele, Lea, Flood 2014). */
static uint64_t next_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static int64_t between(uint64_t *state, int64_t low, int64_t high) {
    return low + (int64_t)(next_random(state) % (uint64_t)(high - low + 1));
}

/* ---- Format combinations ------------------------------------------------------------------------------------ */

static const qd_operand_spec *operand_spec(const qd_op_spec *spec, int i) {
    if (i < QD_MAX_IN) return i < spec->n_in ? &spec->in[i] : NULL;
    return i - QD_MAX_IN < spec->n_out ? &spec->out[i - QD_MAX_IN] : NULL;
}

static qd_format nth_format(uint32_t mask, int n) {
    for (int f = 0; f < QD_FORMAT_COUNT; f++) {
        if (mask >> f & 1 && n-- == 0) return (qd_format)f;
    }
    return QD_FORMAT_COUNT;
}

bool qd_case_formats(qd_op op, int index, qd_format formats[OPERANDS]) {
    qd_op_spec spec;
    qd_op_spec_read(op, &spec);
    qd_attrs attrs;
    memset(&attrs, 0, sizeof attrs);
    attrs.attention.heads = attrs.attention.kv_heads = 1;
    qd_symbols s;
    for (int i = 0; i < 26; i++)
        s.of[i] = 64; /* a value that every check of multiples allows */
    int total = 1;
    for (int i = 0; i < OPERANDS; i++) {
        const qd_operand_spec *o = operand_spec(&spec, i);
        if (o) total *= __builtin_popcount(o->formats);
    }
    for (int code = 0; code < total; code++) {
        int rest = code;
        for (int i = 0; i < OPERANDS; i++) {
            const qd_operand_spec *o = operand_spec(&spec, i);
            formats[i] = QD_FORMAT_COUNT;
            if (!o) continue;
            formats[i] = nth_format(o->formats, rest % __builtin_popcount(o->formats));
            rest /= __builtin_popcount(o->formats);
        }
        if (op == QD_OP_RMS_NORM) attrs.rms_norm.epsilon = 0;
        if (qd_op_check(op, &attrs, &s, formats, formats + QD_MAX_IN) == QD_OK && index-- == 0) return true;
    }
    return false;
}

/* ---- Shapes ------------------------------------------------------------------------------------------------- */

/* The symbols of the problem. A last dimension is a multiple of every block that is cut along it. */
static void choose_symbols(const qd_op_spec *spec, const qd_format formats[], uint64_t *rng, int size, qd_symbols *s,
                           int64_t *position) {
    static const int64_t dims[] = {64, 32, 96, 128, 16, 80} /* the first four are whole blocks */;
    const bool blocked_out = formats[QD_MAX_IN] == QD_FORMAT_A8;
    memset(s, 0, sizeof *s);
    s->of['R' - 'A'] = between(rng, 0, 2) ? between(rng, 1, 5 * size) : between(rng, 1, 17 * size);
    s->of['G' - 'A'] = between(rng, 1, 3);
    s->of['H' - 'A'] = s->of['G' - 'A'] * between(rng, 1, 4);
    s->of['D' - 'A'] = dims[between(rng, 0, blocked_out ? 3 : 5)];
    for (const char *letter = "CKNV"; *letter; letter++) {
        int64_t unit = 1;
        for (int i = 0; i < OPERANDS; i++) {
            const qd_operand_spec *o = operand_spec(spec, i);
            if (o && o->dim[o->rank - 1].a == *letter) {
                const int64_t block = qd_format_get(formats[i])->block;
                if (block > unit) unit = block;
            }
        }
        s->of[*letter - 'A'] = unit * between(rng, 1, unit > 1 ? 7 * size : 75 * size);
    }
    const int64_t room = s->of['R' - 'A'] + between(rng, 0, 1) * between(rng, 0, 60 * size);
    s->of['P' - 'A'] = (room + 15) / 16 * 16;
    *position = between(rng, 0, s->of['P' - 'A'] - s->of['R' - 'A']);
}

static qd_attrs choose_attrs(qd_op op, const qd_symbols *s, uint64_t *rng) {
    const int H = (int)s->of['H' - 'A'], G = (int)s->of['G' - 'A'], D = (int)s->of['D' - 'A'];
    qd_attrs a;
    memset(&a, 0, sizeof a);
    if (op == QD_OP_RMS_NORM) a.rms_norm.epsilon = between(rng, 0, 1) ? 1e-5f : 1e-6f;
    if (op == QD_OP_ROPE) {
        a.rope.heads = H;
        a.rope.head_dim = D;
        a.rope.neox = between(rng, 0, 1);
    }
    if (op == QD_OP_KV_STORE) {
        a.kv.heads = G;
        a.kv.head_dim = D;
    }
    if (op == QD_OP_ATTENTION) {
        a.attention.heads = H;
        a.attention.kv_heads = G;
        a.attention.head_dim = D;
        a.attention.scale = 0.125f;
    }
    return a;
}

/* ---- Values ------------------------------------------------------------------------------------------------- */

/* Floats of a kind that `style` names: plain ones, or those at which kernels go wrong. */
static float random_float(uint64_t *rng, int style) {
    const float u = (float)between(rng, -1000000, 1000000) * 1e-6f;
    switch (style) {
        case 0:
            return between(rng, 0, 3) ? u : 0.0f; /* sparse */
        case 1:
            return u * qd_as_f32((qd_u32)between(rng, 117, 137) << 23); /* 2^-10 … 2^10 */
        case 4: /* denormals, zeros of both signs, and the least maxima of A8 blocks */
            return qd_as_f32((qd_as_u32(u) & 0x80000000u) |
                             (qd_u32)(between(rng, 0, 1) ? next_random(rng) % 0x900000u : 0)) *
                   (between(rng, 0, 1) ? 1.0f : 1e8f);
        case 2:
            return (float)between(rng, -4, 4) * 0.5f; /* ties when rounded */
        default:
            return u * 2.0f;
    }
}

static qd_status fill_row(qd_format f, uint64_t *rng, int style, float *scratch, int64_t cols, void *row) {
    for (int64_t i = 0; i < cols; i++)
        scratch[i] = random_float(rng, style);
    const qd_status status = qd_quantize(f, scratch, 1, cols, row);
    if (status || style != 1 || f == QD_FORMAT_A8 || qd_format_get(f)->kind != QD_KIND_BLOCKED) return status;
    /* Any codes under scales of either sign that are not infinite: a quantizer makes only some of these blocks. */
    const int bytes = qd_format_get(f)->bytes;
    unsigned char *p = row;
    for (int64_t i = 0; i < cols / qd_format_get(f)->block * bytes; i++)
        p[i] = (unsigned char)next_random(rng);
    for (int64_t b = 0; b < cols / qd_format_get(f)->block; b++) {
        p[b * bytes + 1] &= 0xbb;
        if (f == QD_FORMAT_Q4_1) p[b * bytes + 3] &= 0xbb;
    }
    return QD_OK;
}

static qd_status fill(const qd_operand_spec *o, const qd_tensor *t, uint64_t *rng, int64_t position, int64_t vocabulary,
                      unsigned char *data) {
    qd_status status = QD_OK;
    const int64_t cols = qd_columns(t);
    if (t->desc.format == QD_FORMAT_I32) {
        const bool ids = !strcmp(o->name, "ids");
        for (int64_t i = 0; i < cols; i++) {
            const int32_t v = (int32_t)(ids ? between(rng, 0, vocabulary - 1) : position);
            memcpy(data + 4 * i, &v, sizeof v);
        }
        return QD_OK;
    }
    int64_t rows = 1;
    for (int i = 0; i + 1 < t->desc.rank; i++)
        rows *= t->desc.shape[i];
    float *scratch = qd_alloc((size_t)cols * sizeof *scratch);
    if (!scratch) return QD_ERR_MEMORY;
    const int style = (int)between(rng, 0, 4);
    for (int64_t r = 0; r < rows && !status; r++) {
        status = fill_row(t->desc.format, rng, style, scratch, cols, data + t->offset + (size_t)r * t->stride);
    }
    free(scratch);
    return status;
}

/* ---- The problem -------------------------------------------------------------------------------------------- */

static qd_status make_operand(qd_case *c, int i, const qd_operand_spec *o, qd_format format, const qd_symbols *s,
                              uint64_t *rng, int64_t position) {
    qd_tensor *t = &c->tensors[i];
    t->desc.format = format;
    const int skip = o->optional && between(rng, 0, 1) ? 1 : 0; /* the same row for all */
    t->desc.rank = o->rank - skip;
    t->references = 1;
    int64_t rows = 1;
    for (int d = 0; d < t->desc.rank; d++) {
        t->desc.shape[d] = qd_dim_value(o->dim[d + skip], s);
        if (d + 1 < t->desc.rank) rows *= t->desc.shape[d];
    }
    const size_t row = qd_format_row_bytes(format, qd_columns(t));
    t->stride = row;
    /* Weights are constants mostly; tables, gains and biases now and then. What has a row for each row never is. */
    const bool weights = i < QD_MAX_IN && __builtin_popcount(o->formats) > 2;
    const bool fixed = i < QD_MAX_IN && format == QD_FORMAT_F32 && (skip || o->dim[0].a != 'R') && o->rank < 3;
    const bool constant = (weights && between(rng, 0, 3)) || (fixed && !weights && between(rng, 0, 1));
    if (format == QD_FORMAT_F32 && t->desc.rank == 2 && !constant && !weights && between(rng, 0, 1)) {
        /* As a view of wider rows. */
        t->offset = (size_t)between(rng, 0, 5) * sizeof(float);
        t->stride = row + t->offset + (size_t)between(rng, 0, 5) * sizeof(float);
    }
    c->bytes[i] = t->offset + t->stride * (size_t)rows + (constant ? 0 : GUARD);
    c->data[i] = qd_alloc(c->bytes[i]);
    if (!c->data[i]) return QD_ERR_MEMORY;
    memset(c->data[i], 0x5a, c->bytes[i]);
    if (constant) t->constant = c->data[i];
    /* Outputs start as noise too, except that caches must hold numbers. */
    if (i < QD_MAX_IN || o->rank == 3) return fill(o, t, rng, position, s->of['V' - 'A'], c->data[i]);
    return QD_OK;
}

static qd_status expect(qd_case *c) {
    qd_operand operands[OPERANDS] = {{0}};
    for (int i = 0; i < OPERANDS; i++) {
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

qd_status qd_case_make(qd_op op, const qd_format formats[], uint64_t seed, int size, qd_case *c) {
    memset(c, 0, sizeof *c);
    uint64_t rng = seed;
    qd_op_spec spec;
    qd_op_spec_read(op, &spec);
    qd_symbols s;
    int64_t position;
    choose_symbols(&spec, formats, &rng, size, &s, &position);
    const qd_attrs attrs = choose_attrs(op, &s, &rng);
    qd_symbols_from_attrs(op, &attrs, &s);
    qd_status status = QD_OK;
    qd_tensor *operands[OPERANDS] = {0};
    for (int i = 0; i < OPERANDS; i++) {
        const qd_operand_spec *o = operand_spec(&spec, i);
        if (!o || (o->optional && between(&rng, 0, 1))) continue;
        QD_TRY(make_operand(c, i, o, formats[i], &s, &rng, position));
        operands[i] = &c->tensors[i];
    }
    QD_TRY(qd_node_init(&c->node, op, &attrs, operands, spec.n_in, operands + QD_MAX_IN, spec.n_out, NULL));
    QD_TRY(expect(c));
    int n = snprintf(c->text, sizeof c->text, "seed %llu size %d:", (unsigned long long)seed, size);
    for (int i = 0; i < OPERANDS && n < (int)sizeof c->text; i++) {
        if (!operands[i]) continue;
        const qd_operand_spec *o = operand_spec(&spec, i);
        n += snprintf(c->text + n, sizeof c->text - (size_t)n, " %s[", o->name);
        for (int d = 0; d < operands[i]->desc.rank && n < (int)sizeof c->text; d++) {
            n += snprintf(c->text + n, sizeof c->text - (size_t)n, "%s%lld", d ? "," : "",
                          (long long)operands[i]->desc.shape[d]);
        }
        if (n < (int)sizeof c->text) n += snprintf(c->text + n, sizeof c->text - (size_t)n, "]");
    }
    return QD_OK;
error:
    qd_case_free(c);
    return status;
}

void qd_case_free(qd_case *c) {
    for (int i = 0; i < OPERANDS; i++)
        free(c->data[i]);
    for (int i = 0; i < QD_MAX_OUT; i++)
        free(c->want[i]);
    memset(c, 0, sizeof *c);
}

qd_status qd_case_upload(qd_case *c, const qd_backend *b, void *device) {
    qd_status status = QD_OK;
    for (int i = 0; i < OPERANDS; i++) {
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
    for (int i = 0; i < OPERANDS; i++) {
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
    for (int i = 0; i < OPERANDS; i++) {
        qd_tensor *t = &c->tensors[i];
        if (t->constant && b->forget) b->forget(device, t);
        if (t->buffer) b->release(device, t->buffer);
        t->buffer = NULL;
    }
}
