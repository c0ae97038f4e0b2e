/* A part of a model: what is known of it beforehand, and programs for shapes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "builder.h"

/* ---- Preparing a part --------------------------------------------------------------------------------------- */

static int last_member(const qep_unit *u) {
    int last = 0;
    for (int i = 0; i < u->n_members; i++)
        last = u->members[i] > last ? u->members[i] : last;
    return last;
}

typedef struct position {
    int unit, last;
} position;

static int by_last(const void *a, const void *b) {
    const position *x = a, *y = b;
    return x->last != y->last ? x->last - y->last : x->unit - y->unit;
}

static void need(bool *needed, int value) {
    if (value >= 0) needed[value] = true;
}

/* Leaves out units whose results only patterns look behind; finds what needs memory of its own. */
static void walk_back(qep_part *p, position *order, bool *needed) {
    int kept = p->units->count;
    for (int i = p->units->count; i-- > 0;) {
        const qep_unit *u = &p->units->list[order[i].unit];
        bool used = needed[u->y.value];
        for (int j = 0; j < QEP_UNIT_OUTPUTS - 1; j++)
            used |= u->more[j] >= 0 && needed[u->more[j]];
        if (!used) continue;
        order[--kept] = order[i];
        for (int j = 0; j < u->n_in; j++) {
            need(needed, u->in[j].value);
            need(needed, u->in[j].scale);
            need(needed, u->in[j].zero);
        }
        if (p->single) need(p->own_memory, u->y.value);
        for (int j = 0; j < QEP_UNIT_OUTPUTS - 1 && p->single; j++)
            need(p->own_memory, u->more[j]);
        for (int j = 0; j < u->n_in; j++) {
            const bool alias = j == 0 && u->alias && p->own_memory[u->y.value];
            if (alias || u->windows >> j & 1) need(p->own_memory, u->in[j].value);
        }
    }
    p->n_units = p->units->count - kept;
    for (int i = 0; i < p->n_units; i++)
        p->order[i] = order[kept + i].unit;
}

OrtStatus *qep_part_prepare(const qep_host *h, qep_part *p) {
    const int n = p->units->count;
    position *order = calloc((size_t)n + 1, sizeof *order);
    bool *needed = calloc((size_t)p->graph->n_values + 1, sizeof *needed);
    p->order = calloc((size_t)n + 1, sizeof *p->order);
    p->own_memory = calloc((size_t)p->graph->n_values + 1, sizeof *p->own_memory);
    p->constants = qep_constants_create(n);
    OrtStatus *status = NULL;
    if (!order || !needed || !p->order || !p->own_memory || !p->constants) {
        QEP_TRY(qep_error(h, ORT_FAIL, "out of memory"));
    }
    for (int i = 0; i < n; i++)
        order[i] = (position){i, last_member(&p->units->list[i])};
    qsort(order, (size_t)n, sizeof *order, by_last);
    for (int i = 0; i < p->n_outputs; i++)
        needed[p->outputs[i]] = p->own_memory[p->outputs[i]] = true;
    walk_back(p, order, needed);
error:
    free(order);
    free(needed);
    return status;
}

void qep_part_free(qep_part *p) {
    qep_constants_free(p->constants);
    free(p->order);
    free(p->own_memory);
    free(p->inputs);
    free(p->outputs);
    qep_units_free(p->units);
    qep_graph_free(p->graph);
}

/* ---- Building ----------------------------------------------------------------------------------------------- */

qd_status qep_own(qep_build *b, qd_tensor *t) {
    qep_program *p = b->program;
    if (p->n_owned == b->max_owned) {
        const int larger = b->max_owned ? 2 * b->max_owned : 32;
        qd_tensor **more = realloc(p->owned, (size_t)larger * sizeof *more);
        if (!more) {
            qd_tensor_free(t);
            qep_fail(b, "out of memory");
            return QD_ERR_MEMORY;
        }
        p->owned = more;
        b->max_owned = larger;
    }
    p->owned[p->n_owned++] = t;
    return QD_OK;
}

qd_status qep_feed_add(qep_build *b, int value, bool as_i32, qd_tensor **out) {
    qep_program *p = b->program;
    for (int i = 0; i < p->n_feeds; i++) {
        *out = p->feeds[i].tensor;
        if (p->feeds[i].value == value && p->feeds[i].as_i32 == as_i32) return QD_OK;
    }
    if (p->n_feeds == b->max_feeds) return qep_fail(b, "'%.80s' is no input", b->g->values[value].name);
    const qep_shape *s = qep_shape_of(b, value);
    const int64_t count = qep_count(s);
    const bool fits = s->rank <= QD_MAX_RANK;
    const qd_format f = as_i32 ? QD_FORMAT_I32 : qep_format(b->g->values[value].type);
    qd_tensor_desc d = qep_desc(f, fits ? s->rank : 1, fits ? s->dims : &count);
    /* The host packs codes over the ends of rows; rows of one line have none. */
    if (qd_desc_bytes(&d) != qep_type_bytes(b->g->values[value].type, count) && !as_i32) d = qep_desc(f, 1, &count);
    qd_status status = b->part ? qd_tensor_create(b->context, &d, out) : qd_graph_tensor(b->graph, &d, out);
    if (!status && b->part) status = qep_own(b, *out);
    if (status) return status;
    p->feeds[p->n_feeds++] = (qep_feed){.value = value, .as_i32 = as_i32, .tensor = *out, .bytes = qd_desc_bytes(&d)};
    return QD_OK;
}

/* Room for the lists of a program of `values` values. */
static qd_status make_lists(qep_build *b, int inputs, int outputs) {
    qep_program *p = b->program;
    const size_t values = (size_t)b->g->n_values;
    b->max_feeds = 2 * inputs;
    b->max_held = inputs;
    b->slots = calloc(values + 1, sizeof *b->slots);
    b->given = calloc(values + 1, sizeof *b->given);
    p->feeds = qep_take(&p->arena, (size_t)b->max_feeds, sizeof *p->feeds);
    p->held = qep_take(&p->arena, (size_t)b->max_held, sizeof *p->held);
    p->inputs = qep_take(&p->arena, (size_t)inputs, sizeof *p->inputs);
    p->results = qep_take(&p->arena, (size_t)outputs, sizeof *p->results);
    return b->slots && b->given && p->feeds && p->held && p->inputs && p->results ? QD_OK : QD_ERR_MEMORY;
}

static qd_status add_results(qep_build *b, const qep_part *part) {
    qep_program *p = b->program;
    for (int i = 0; i < part->n_outputs; i++) {
        const int value = part->outputs[i];
        const qep_slot *s = &b->slots[value];
        if (!s->known) return qep_fail(b, "the result '%.80s' was not computed", b->g->values[value].name);
        const ONNXTensorElementDataType type = b->g->values[value].type;
        p->results[p->n_results++] =
            (qep_result){.value = value,
                         .shape = s->shape,
                         .tensor = s->tensor,
                         .bytes = qep_type_bytes(type, qep_count(&s->shape)),
                         .from_i32 = s->format == QD_FORMAT_I32 && type != ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32};
    }
    return QD_OK;
}

/* One unit; the message says why it failed. */
static qd_status lower(qep_build *b, const qep_unit *u) {
    b->message[0] = 0;
    const qd_status status = u->op->lower(b, u);
    if (status && !b->message[0]) snprintf(b->message, sizeof b->message, "%s", qd_last_message());
    /* Some helpers return a value, and leave a message where they have none. */
    return b->message[0] && !status ? QD_ERR_UNSUPPORTED : status;
}

/* What follows goes into another graph. */
static qd_status next_step(qep_build *b, const char *label) {
    qd_status status = qd_graph_create(b->context, 1, &b->graph);
    if (!status) b->program->steps[b->program->n_steps++] = (qep_step){b->graph, b->part->single ? label : NULL};
    return status;
}

qd_status qep_program_create(qd_context *c, qep_part *part, const qep_argument *arguments, qep_program **out,
                             char *message, size_t capacity) {
    const qep_graph *g = part->graph;
    qep_build b = {.context = c, .g = g, .part = part};
    qd_status status = QD_ERR_MEMORY;
    const char *label = NULL;
    snprintf(b.message, sizeof b.message, "out of memory");
    b.program = calloc(1, sizeof *b.program);
    if (!b.program) goto error;
    b.program->own = qep_constants_create(part->units->count);
    if (!b.program->own) goto error;
    QD_TRY(make_lists(&b, part->n_inputs, part->n_outputs));
    b.program->steps = qep_take(&b.program->arena, (size_t)part->n_units, sizeof *b.program->steps);
    if (!b.program->steps) goto error;
    for (int i = 0; i < part->n_inputs; i++) {
        b.slots[part->inputs[i]] = (qep_slot){.shape = arguments[i].shape, .known = true, .is_input = true};
        b.given[part->inputs[i]] = arguments[i].data;
        b.program->inputs[i] = arguments[i].shape;
    }
    b.message[0] = 0;
    for (int i = 0; i < part->n_units; i++) {
        const qep_unit *u = &part->units->list[part->order[i]];
        label = g->nodes[u->node].label;
        if (!i || part->single) QD_TRY(next_step(&b, label));
        QD_TRY(lower(&b, u));
    }
    label = NULL;
    QD_TRY(add_results(&b, part));
    for (int i = 0; i < b.program->n_steps; i++)
        QD_TRY(qd_graph_compile(b.program->steps[i].graph, NULL, NULL));
    *out = b.program;
    b.program = NULL;
error:
    if (status) {
        snprintf(message, capacity, "%s%s: %s", label ? "node " : "", label ? label : "the part of the model",
                 b.message[0] ? b.message : qd_last_message());
    }
    free(b.slots);
    free(b.given);
    qep_program_free(b.program);
    return status;
}

void qep_program_free(qep_program *p) {
    if (!p) return;
    for (int i = 0; i < p->n_steps; i++)
        qd_graph_free(p->steps[i].graph);
    for (int i = p->n_owned; i-- > 0;)
        qd_tensor_free(p->owned[i]);
    free(p->owned);
    qep_constants_free(p->own);
    qep_arena_free(&p->arena);
    free(p);
}

static bool same_shape(const qep_shape *a, const qep_shape *b) {
    return a->rank == b->rank && !memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims);
}

bool qep_program_fits(const qep_part *part, const qep_program *p, const qep_argument *arguments) {
    for (int i = 0; i < part->n_inputs; i++) {
        if (!same_shape(&p->inputs[i], &arguments[i].shape)) return false;
    }
    for (int i = 0; i < p->n_held; i++) {
        for (int j = 0; j < part->n_inputs; j++) {
            if (part->inputs[j] != p->held[i].value) continue;
            if (p->held[i].bytes && memcmp(p->held[i].data, arguments[j].data, p->held[i].bytes) != 0) return false;
        }
    }
    return true;
}

/* ---- Trials ------------------------------------------------------------------------------------------------- */

/* Gives a value that the unit reads the shape that the model states. False when it states none. */
static bool state(qep_build *b, int value) {
    if (value < 0 || b->g->values[value].data) return true;
    const qep_value *v = &b->g->values[value];
    if (v->shape.rank < 0 || qep_elements(b->g, value) < 0) return false;
    /* Shapes that a run brings cannot be tried. */
    if (v->type == ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64) return false;
    /* Rank 0 may mean unknown, but for parameters, which operators ask to be known, or find by this operator. */
    if (v->shape.rank == 0 && v->producer >= 0 && !qep_is(b->g, v->producer, "DynamicQuantizeLinear")) return false;
    b->slots[value] = (qep_slot){.shape = v->shape, .known = true, .is_input = true};
    return true;
}

qd_status qep_try(qd_context *c, const qep_graph *g, const qep_unit *u, char *message, size_t capacity) {
    qep_build b = {.context = c, .g = g};
    qd_status status = QD_ERR_MEMORY;
    snprintf(b.message, sizeof b.message, "out of memory");
    b.program = calloc(1, sizeof *b.program);
    if (!b.program) goto error;
    QD_TRY(make_lists(&b, 3 * u->n_in, 0));
    for (int i = 0; i < u->n_in; i++) { /* shapes that are not known cannot be tried */
        if (!state(&b, u->in[i].value) || !state(&b, u->in[i].scale) || !state(&b, u->in[i].zero)) goto error;
    }
    QD_TRY(qd_graph_create(c, 1, &b.graph));
    QD_TRY(lower(&b, u));
error:
    if (status) snprintf(message, capacity, "%s", b.message[0] ? b.message : qd_last_message());
    free(b.slots);
    free(b.given);
    qd_graph_free(b.graph);
    qep_program_free(b.program);
    return status;
}
