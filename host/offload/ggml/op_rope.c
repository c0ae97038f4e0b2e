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
    float *factors; /* [dims/2] or NULL */
    int64_t rows;
    float *angles; /* [rows][dims]: cosine and sine of each pair */
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
    for (int64_t at = 0; at < r->rows; at++) {
        float *pair_angles = r->angles + at * p->dims + 2 * pair;
        pair_angles[0] = (float)(cos((double)at * turned) * magnitude);
        pair_angles[1] = (float)(sin((double)at * turned) * magnitude);
    }
}

static qd_status fill_table(qg_device *d, qg_rope *r, int64_t rows) {
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

static int64_t last_position(const struct ggml_tensor *t) {
    const int32_t *position = t->src[1]->data; /* an input: the host's copy has what was set */
    int64_t last = 0;
    for (int64_t i = 0; i < t->src[1]->ne[0]; i++)
        last = position[i] > last ? position[i] : last;
    return last;
}

qd_status qg_rope_reserve(qg_device *d, const struct ggml_cgraph *graph) {
    const struct ggml_tensor *before = NULL;
    for (int i = 0; i < graph->n_nodes; i++) {
        const struct ggml_tensor *t = graph->nodes[i];
        if (t->op != GGML_OP_ROPE || !qg_buffer_of(t->src[1])) continue;
        /* All layers rotate alike. */
        if (before && before->src[1] == t->src[1] && before->src[2] == t->src[2] &&
            !memcmp(before->op_params, t->op_params, sizeof t->op_params)) {
            continue;
        }
        before = t;
        qg_rope *r = find_table(d, t);
        qd_status status = r ? QD_OK : new_table(d, t, &r);
        if (status) return status;
        const int64_t last = last_position(t);
        if (last < r->rows) continue;
        if (last >= MOST_ROWS) {
            GGML_LOG_ERROR("qdot: %s: position %lld is beyond the %d that are known\n", t->name, (long long)last,
                           MOST_ROWS);
            return QD_ERR_LIMIT;
        }
        int64_t larger = r->rows ? r->rows : FIRST_ROWS;
        while (larger <= last)
            larger *= 2;
        qg_programs_drop(d, NULL);
        status = fill_table(d, r, larger);
        if (status) return status;
    }
    return QD_OK;
}

/* ---- The operator ------------------------------------------------------------------------------------------- */

const char *qg_rope_refuse(const struct ggml_tensor *t) {
    const struct ggml_tensor *x = t->src[0];
    const int mode = t->op_params[2];
    if (x->type != GGML_TYPE_F32 || t->type != GGML_TYPE_F32) return "only f32";
    if (mode != GGML_ROPE_TYPE_NORMAL && mode != GGML_ROPE_TYPE_NEOX) return "positions in several dimensions";
    if (t->op_params[15]) return "rotation that begins inside of the heads";
    if (t->op_params[1] < 2 || x->ne[0] % 2) return "heads without pairs";
    if (!qg_is_leaf(t->src[1]) || t->src[1]->view_src) return "positions that are computed";
    if (t->src[2] && !qg_is_leaf(t->src[2])) return "frequency factors that are computed";
    if (t->nb[0] != sizeof(float) || t->nb[1] != (size_t)t->ne[0] * sizeof(float))
        return "heads of the result that lie apart";
    return NULL;
}

/* A sequence at a time: [T, heads * head_dim], whose positions are the same for all. */
static qd_status emit_sequence(qg_builder *b, const struct ggml_tensor *t, int64_t i3, qd_tensor *table,
                               qd_tensor *position) {
    const struct ggml_tensor *x = t->src[0];
    const qd_tensor_desc d = qd_desc(QD_FORMAT_F32, t->ne[2], t->ne[0] * t->ne[1], 0, 0);
    const qd_attrs attrs = {.rope = {.heads = (int)t->ne[1],
                                     .head_dim = (int)t->ne[0],
                                     .neox = t->op_params[2] == GGML_ROPE_TYPE_NEOX,
                                     .dims = t->op_params[1]}};
    qd_tensor *from, *y;
    qd_status status = qg_part(b, t, (size_t)i3 * t->nb[3], &d, (int64_t[]){(int64_t)t->nb[2], sizeof(float)}, &y);
    if (status) return status;
    if (x->nb[0] == sizeof(float) && (x->ne[1] == 1 || x->nb[1] == (size_t)x->ne[0] * sizeof(float))) {
        status = qg_part(b, x, (size_t)i3 * x->nb[3], &d, (int64_t[]){(int64_t)x->nb[2], sizeof(float)}, &from);
    } else { /* heads that lie apart */
        const qd_tensor_desc heads = qd_desc(QD_FORMAT_F32, x->ne[2], x->ne[1], x->ne[0], 0);
        const int64_t steps[] = {(int64_t)x->nb[2], (int64_t)x->nb[1], (int64_t)x->nb[0]};
        qd_tensor *apart, *copy;
        status = qg_part(b, x, (size_t)i3 * x->nb[3], &heads, steps, &apart);
        if (!status) status = qg_temporary(b, &heads, &copy);
        if (!status) status = qg_add(b, QD_OP_COPY, NULL, &apart, 1, copy);
        if (!status) status = qd_graph_reshape(b->program->graph, copy, &d, &from);
    }
    return status ? status : qg_add(b, QD_OP_ROPE, &attrs, (qd_tensor *[]){from, table, position}, 3, y);
}

qd_status qg_rope_emit(qg_builder *b, const struct ggml_tensor *t) {
    const qd_tensor_desc d = qd_desc(QD_FORMAT_I32, t->ne[2], 0, 0, 0);
    qd_tensor *position;
    qd_status status = qg_part(b, t->src[1], 0, &d, NULL, &position);
    qg_rope *r = find_table(b->device, t);
    for (int64_t i = 0; !status && i < t->ne[3]; i++)
        status = emit_sequence(b, t, i, r->table, position);
    return status;
}
