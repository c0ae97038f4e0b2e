/* ROPE: rotary positions (Su et al. 2021), with the frequency corrections of YaRN (Peng et al. 2023). The angles are
 * made here, once, and stand in a constant that grows with the positions that come. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "emit.h"
#include "rope.h"

/* The parameters of ggml's operator. */
typedef struct rope_params {
    int dims, context;
    float base, scale, extrapolation, attention, fast, slow;
} rope_params;

struct qg_rope {
    qg_rope *next;
    rope_params p;
    float *factors;       /* [dims/2] or NULL */
    int64_t rows, before; /* row r has the angles of position r - before */
    float *angles;        /* [rows][dims]: cosine and sine of each pair */
    qd_tensor *table;
};

enum { FIRST_ROWS = 512, MOST_ROWS = 1 << 22 };

static rope_params params_of(const struct ggml_tensor *t) {
    rope_params p;
    memset(&p, 0, sizeof p);
    p.dims = t->op_params[1];
    p.context = t->op_params[4];
    memcpy(&p.base, t->op_params + 5, sizeof(float));
    memcpy(&p.scale, t->op_params + 6, sizeof(float));
    memcpy(&p.extrapolation, t->op_params + 7, sizeof(float));
    memcpy(&p.attention, t->op_params + 8, sizeof(float));
    memcpy(&p.fast, t->op_params + 9, sizeof(float));
    memcpy(&p.slow, t->op_params + 10, sizeof(float));
    return p;
}

/* ---- Tables ------------------------------------------------------------------------------------------------- */

/* The pair that turns `turns` times over the trained context. */
static double pair_of(const rope_params *p, double turns) {
    return p->dims * log(p->context / (turns * 2 * M_PI)) / (2 * log((double)p->base));
}

/* YaRN: pairs that turn often are extrapolated, those that turn rarely interpolated, a ramp between. */
static void fill_pair(const qg_rope *r, int pair) {
    const rope_params *p = &r->p;
    const double frequency = pow((double)p->base, -2.0 * pair / p->dims) / (r->factors ? (double)r->factors[pair] : 1);
    double share = 0, magnitude = (double)p->attention;
    if (p->extrapolation != 0) {
        const double low = fmax(0, floor(pair_of(p, (double)p->fast)));
        const double high = fmin(p->dims - 1, ceil(pair_of(p, (double)p->slow)));
        const double ramp = (pair - low) / fmax(0.001, high - low);
        share = (1 - fmin(1, fmax(0, ramp))) * (double)p->extrapolation;
        magnitude *= 1 + 0.1 * log(1 / (double)p->scale);
    }
    const double turned = frequency * ((double)p->scale * (1 - share) + share);
    for (int64_t row = 0; row < r->rows; row++) {
        const double angle = (double)(row - r->before) * turned;
        float *pair_angles = r->angles + row * p->dims + 2 * pair;
        pair_angles[0] = (float)(cos(angle) * magnitude);
        pair_angles[1] = (float)(sin(angle) * magnitude);
    }
}

/* For positions -before … rows - before - 1. */
static qd_status fill_table(qg_device *d, qg_rope *r, int64_t rows, int64_t before) {
    float *angles = malloc((size_t)rows * (size_t)r->p.dims * sizeof *angles);
    if (!angles) return QD_ERR_MEMORY;
    qd_tensor *table;
    const qd_tensor_desc desc = qd_desc(QD_FORMAT_F32, rows, r->p.dims, 0, 0);
    const qd_status status = qd_tensor_constant(d->context, &desc, angles, &table);
    if (status) {
        free(angles);
        return status;
    }
    qd_tensor_free(r->table);
    free(r->angles);
    r->table = table;
    r->angles = angles;
    r->rows = rows;
    r->before = before;
    for (int i = 0; i < r->p.dims / 2; i++)
        fill_pair(r, i);
    return QD_OK;
}

static bool same_factors(const qg_rope *r, const float *factors) {
    if (!r->factors || !factors) return !r->factors && !factors;
    return !memcmp(r->factors, factors, (size_t)(r->p.dims / 2) * sizeof *factors);
}

/* The host's copy of the factors, which are weights; NULL when there are none. */
static const float *factors_of(const struct ggml_tensor *t) {
    return t->src[2] ? t->src[2]->data : NULL;
}

static qg_rope *find_table(qg_device *d, const struct ggml_tensor *t) {
    const rope_params p = params_of(t);
    for (qg_rope *r = d->ropes; r; r = r->next) {
        if (!memcmp(&r->p, &p, sizeof p) && same_factors(r, factors_of(t))) return r;
    }
    return NULL;
}

static qd_status new_table(qg_device *d, const struct ggml_tensor *t, qg_rope **out) {
    qg_rope *r = calloc(1, sizeof *r);
    if (!r) return QD_ERR_MEMORY;
    r->p = params_of(t);
    if (factors_of(t)) {
        const size_t bytes = (size_t)(r->p.dims / 2) * sizeof *r->factors;
        r->factors = malloc(bytes);
        if (!r->factors) {
            free(r);
            return QD_ERR_MEMORY;
        }
        memcpy(r->factors, factors_of(t), bytes);
    }
    r->next = d->ropes;
    d->ropes = *out = r;
    return QD_OK;
}

static qg_positions_read *find_read(qg_device *d, const char *from, const char *to) {
    for (int i = 0; i < QG_POSITIONS; i++) {
        if (d->positions[i].from == from && d->positions[i].to == to) return &d->positions[i];
    }
    qg_positions_read *r = &d->positions[d->next_positions++ % QG_POSITIONS];
    *r = (qg_positions_read){from, to, true};
    return r;
}

/* Brings the host's copy of the positions up to date where an operator may have written them since it was. */
static qd_status fetch_positions(qg_device *d, const struct ggml_tensor *position) {
    const char *from = position->data;
    const qg_buffer *buffer = qg_buffer_of(position);
    qg_positions_read *r = find_read(d, from, from + ggml_nbytes(position));
    qd_status status = QD_OK;
    if (r->stale && buffer->memory && !buffer->borrowed)
        status = qd_tensor_read(buffer->memory, (size_t)(from - buffer->base), position->data, ggml_nbytes(position));
    r->stale = status != QD_OK;
    return status;
}

void qg_rope_written(qg_device *d, const qg_program *p) {
    for (int i = 0; i < QG_POSITIONS; i++) {
        qg_positions_read *r = &d->positions[i];
        for (int j = 0; r->from && !r->stale && j < p->n_written; j++) {
            const char *base = p->written[j].buffer->base;
            r->stale = base + p->written[j].from < r->to && r->from < base + p->written[j].to;
        }
    }
}

/* The least and the greatest position, and 0. */
static void position_range(const struct ggml_tensor *t, int64_t *low, int64_t *high) {
    const int32_t *position = t->src[1]->data;
    *low = *high = 0;
    for (int64_t i = 0; i < t->src[1]->ne[0]; i++) {
        if (position[i] < *low) *low = position[i];
        if (position[i] > *high) *high = position[i];
    }
}

static int64_t at_least(int64_t have, int64_t need) {
    while (have < need)
        have *= 2;
    return have;
}

/* Sees to it that the table of one node reaches its positions. */
static qd_status reserve(qg_device *d, const struct ggml_tensor *t) {
    qg_rope *r = find_table(d, t);
    qd_status status = r ? QD_OK : new_table(d, t, &r);
    if (!status) status = fetch_positions(d, t->src[1]);
    if (status) return status;
    int64_t low, high;
    position_range(t, &low, &high);
    const int64_t after = r->rows - r->before;
    if (high < after && -low <= r->before) return QD_OK;
    if (high >= MOST_ROWS || low <= -MOST_ROWS) {
        GGML_LOG_ERROR("qdot: %s: positions %lld … %lld, where %d is the most that is known\n", t->name, (long long)low,
                       (long long)high, MOST_ROWS);
        return QD_ERR_LIMIT;
    }
    /* Only a shift of the cache turns back. */
    const int64_t before = low < 0 ? at_least(r->before ? r->before : FIRST_ROWS, -low) : r->before;
    qg_programs_drop(d, NULL);
    return fill_table(d, r, at_least(after ? after : FIRST_ROWS, high + 1) + before, before);
}

/* All layers rotate alike. */
static bool rotate_alike(const struct ggml_tensor *x, const struct ggml_tensor *y) {
    return x->src[1] == y->src[1] && x->src[2] == y->src[2] && !memcmp(x->op_params, y->op_params, sizeof x->op_params);
}

/* A graph that comes again, as for every token, is not searched again. */
qd_status qg_rope_reserve(qg_device *d, const struct ggml_cgraph *graph) {
    const struct ggml_tensor *before = NULL;
    qg_rope_nodes found = {.uid = graph->uid};
    qd_status status = QD_OK;
    if (graph->uid && d->rope_nodes.uid == graph->uid) {
        for (int i = 0; i < d->rope_nodes.count && !status; i++)
            status = reserve(d, graph->nodes[d->rope_nodes.nodes[i]]);
        return status;
    }
    for (int i = 0; i < graph->n_nodes; i++) {
        const struct ggml_tensor *t = graph->nodes[i];
        if (t->op != GGML_OP_ROPE || !qg_buffer_of(t->src[1]) || (before && rotate_alike(before, t))) continue;
        status = reserve(d, t);
        if (status) return status;
        before = t;
        if (found.count < QG_ROPES) found.nodes[found.count] = i;
        found.count++;
    }
    if (found.count > QG_ROPES) found.uid = 0;
    d->rope_nodes = found;
    return QD_OK;
}

int qg_rope_until(const struct ggml_cgraph *graph, int first) {
    const struct ggml_tensor *position = NULL;
    int looked = first; /* nodes before it do not write the positions */
    for (int i = first; i < graph->n_nodes; i++) {
        const struct ggml_tensor *t = graph->nodes[i];
        if (t->op != GGML_OP_ROPE) continue;
        if (t->src[1] != position) looked = first;
        position = t->src[1];
        const char *from = position->data, *to = from + ggml_nbytes(position);
        for (; looked < i; looked++) {
            const struct ggml_tensor *n = graph->nodes[looked];
            const char *data = n->data;
            if (qg_is_computed(n) && data < to && from < data + ggml_nbytes(n)) return i;
        }
    }
    return graph->n_nodes;
}

/* ---- Positions ---------------------------------------------------------------------------------------------- */

qd_status qg_rope_feed(const qg_program *p) {
    qd_status status = QD_OK;
    for (int i = 0; !status && i < p->n_positions; i++) {
        const qg_positions *x = &p->positions[i];
        int32_t *rows = malloc((size_t)x->n * sizeof *rows);
        if (!rows) return QD_ERR_MEMORY;
        for (int64_t k = 0; k < x->n; k++)
            rows[k] = x->source[k] + x->before;
        status = qd_tensor_write(x->tensor, 0, rows, (size_t)x->n * sizeof *rows);
        free(rows);
    }
    return status;
}

/* The table's rows of the positions: these themselves, or a tensor that is set before each run. */
static qd_status read_rows(qg_builder *b, const struct ggml_tensor *t, const qg_rope *r, qd_tensor **out) {
    const struct ggml_tensor *position = t->src[1];
    const qd_tensor_desc d = qd_desc(QD_FORMAT_I32, position->ne[0], 0, 0, 0);
    if (!r->before) return qg_part(b, position, 0, &d, NULL, out);
    qg_program *p = b->program;
    for (int i = 0; i < p->n_positions; i++) {
        *out = p->positions[i].tensor;
        if (p->positions[i].source == position->data && p->positions[i].before == r->before) return QD_OK;
    }
    qg_positions *grown = realloc(p->positions, (size_t)(p->n_positions + 1) * sizeof *grown);
    if (!grown) return QD_ERR_MEMORY;
    p->positions = grown;
    const qd_status status = qd_tensor_create(b->device->context, &d, out);
    if (!status) {
        grown[p->n_positions++] = (qg_positions){
            .source = position->data, .n = position->ne[0], .before = (int32_t)r->before, .tensor = *out};
    }
    return status;
}

/* ---- The operator ------------------------------------------------------------------------------------------- */

const char *qg_rope_refuse(const struct ggml_tensor *t) {
    const struct ggml_tensor *x = t->src[0];
    const int mode = t->op_params[2];
    if ((x->type != GGML_TYPE_F32 && x->type != GGML_TYPE_F16) || t->type != x->type) return "only f32 and f16";
    if (mode != GGML_ROPE_TYPE_NORMAL && mode != GGML_ROPE_TYPE_NEOX) return "positions in several dimensions";
    if (t->op_params[15]) return "rotation that begins inside of the heads";
    if (t->op_params[1] < 2 || x->ne[0] % 2) return "heads without pairs";
    if (!qg_is_leaf(t->src[1]) || t->src[1]->view_src) return "positions that are computed";
    if (t->src[2] && !qg_is_leaf(t->src[2])) return "frequency factors that are computed";
    return NULL;
}

/* Sequence i3 of a tensor as heads, [T, H, D]. */
static qd_status heads_of(qg_builder *b, const struct ggml_tensor *t, int64_t i3, qd_tensor **out) {
    const qd_tensor_desc d = qd_desc(qg_format(t->type), t->ne[2], t->ne[1], t->ne[0], 0);
    const int64_t steps[] = {(int64_t)t->nb[2], (int64_t)t->nb[1], (int64_t)t->nb[0]};
    return qg_part(b, t, (size_t)i3 * t->nb[3], &d, steps, out);
}

/* Sequence i3 as rows of f32, [T, H * D]; *out is NULL when it is none. */
static qd_status rows_of(qg_builder *b, const struct ggml_tensor *t, int64_t i3, qd_tensor **out) {
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, t->ne[2], t->ne[0] * t->ne[1], 0, 0);
    *out = qg_columns(b, t);
    if (*out || t->type != GGML_TYPE_F32 || t->nb[0] != sizeof(float)) return QD_OK;
    if (t->ne[1] > 1 && t->nb[1] != (size_t)t->ne[0] * sizeof(float)) return QD_OK;
    return qg_part(b, t, (size_t)i3 * t->nb[3], &d, (int64_t[]){(int64_t)t->nb[2], sizeof(float)}, out);
}

/* A tensor inside the graph, as heads and as rows. */
static qd_status temporary(qg_builder *b, const struct ggml_tensor *t, qd_tensor **heads, qd_tensor **rows) {
    const qd_tensor_desc as_heads = qd_desc(QD_FORMAT_F32, t->ne[2], t->ne[1], t->ne[0], 0);
    const qd_tensor_desc as_rows = qd_desc(QD_FORMAT_F32, t->ne[2], t->ne[0] * t->ne[1], 0, 0);
    const qd_status status = qg_temporary(b, &as_heads, heads);
    return status ? status : qg_reshape(b, *heads, &as_rows, rows);
}

/* A sequence at a time: their positions are the same. Heads that lie apart, or are halves, go by way of a temporary. */
static qd_status emit_sequence(qg_builder *b, const struct ggml_tensor *t, int64_t i3, qd_tensor *table,
                               qd_tensor *position) {
    const qd_attrs attrs = {.rope = {.heads = (int)t->ne[1],
                                     .head_dim = (int)t->ne[0],
                                     .neox = t->op_params[2] == GGML_ROPE_TYPE_NEOX,
                                     .dims = t->op_params[1]}};
    qd_tensor *x, *y, *from, *heads, *to = NULL;
    qd_status status = rows_of(b, t->src[0], i3, &x);
    if (!status && !x) {
        status = heads_of(b, t->src[0], i3, &from);
        if (!status) status = temporary(b, t, &heads, &x);
        if (!status) status = qg_add(b, QD_OP_COPY, NULL, &from, 1, heads);
    }
    if (!status) status = rows_of(b, t, i3, &y);
    if (!status && !y) {
        status = heads_of(b, t, i3, &to);
        if (!status) status = temporary(b, t, &heads, &y);
    }
    if (!status) status = qg_add(b, QD_OP_ROPE, &attrs, (qd_tensor *[]){x, table, position}, 3, y);
    return status || !to ? status : qg_add(b, QD_OP_COPY, NULL, &heads, 1, to);
}

qd_status qg_rope_emit(qg_builder *b, const struct ggml_tensor *t) {
    const qg_rope *r = find_table(b->device, t);
    qd_tensor *position;
    qd_status status = read_rows(b, t, r, &position);
    for (int64_t i = 0; !status && i < t->ne[3]; i++)
        status = emit_sequence(b, t, i, r->table, position);
    return status;
}
