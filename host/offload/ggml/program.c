/* Compiled graphs: finding, making, running and dropping them. */
#include "program.h"

#include <stdlib.h>
#include <string.h>

#include "rope.h"

static void program_free(qg_program *p) {
    if (!p) return;
    for (int i = 0; i < p->n_steps; i++)
        qd_graph_free(p->steps[i].graph);
    for (int i = p->n_windows; i-- > 0;)
        qd_tensor_free(p->windows[i].tensor);
    for (int i = 0; i < p->n_constants; i++) {
        qd_tensor_free(p->constants[i]);
        free(p->memory[i]);
    }
    for (int i = 0; i < p->n_positions; i++)
        qd_tensor_free(p->positions[i].tensor);
    free(p->positions);
    free(p->steps);
    free(p->windows);
    free(p->written);
    free(p->memory);
    free(p->constants);
    free(p->key);
    free(p);
}

static bool touches(const qg_program *p, const qg_buffer *b) {
    for (int i = 0; i < p->n_windows; i++) {
        if (p->windows[i].range.buffer == b) return true;
    }
    return false;
}

void qg_programs_drop(qg_device *d, const qg_buffer *b) {
    for (int i = 0; i < QG_PROGRAMS; i++) {
        if (!d->programs[i] || (b && !touches(d->programs[i], b))) continue;
        program_free(d->programs[i]);
        d->programs[i] = NULL;
    }
}

/* ---- Finding ------------------------------------------------------------------------------------------------ */

static qg_program *find_uid(qg_device *d, uint64_t uid) {
    for (int i = 0; uid && i < QG_PROGRAMS; i++) {
        if (d->programs[i] && d->programs[i]->uid == uid) return d->programs[i];
    }
    return NULL;
}

static qg_program *find_key(qg_device *d, const void *key, size_t bytes) {
    for (int i = 0; i < QG_PROGRAMS; i++) {
        qg_program *p = d->programs[i];
        if (p && p->key_bytes == bytes && !memcmp(p->key, key, bytes)) return p;
    }
    return NULL;
}

/* A free place for one more program; those that were used longest ago make room. */
static qg_program **make_room(qg_device *d) {
    for (;;) {
        qg_program **spare = NULL, **oldest = NULL;
        int nodes = 0;
        for (int i = 0; i < QG_PROGRAMS; i++) {
            qg_program **p = &d->programs[i];
            if (!*p) {
                spare = p;
                continue;
            }
            nodes += (*p)->nodes;
            if (!oldest || (*p)->used < (*oldest)->used) oldest = p;
        }
        if (spare && nodes < QG_NODES) return spare;
        program_free(*oldest);
        *oldest = NULL;
    }
}

/* ---- Making ------------------------------------------------------------------------------------------------- */

static void log_failure(const char *doing, const qg_step *s) {
    if (s->node[0]) {
        GGML_LOG_ERROR("qdot: %s %s (%s): %s\n", doing, s->node, s->op, qd_last_message());
    } else {
        GGML_LOG_ERROR("qdot: %s a graph: %s\n", doing, qd_last_message());
    }
}

/* Takes the key over. */
static qd_status compile(qg_device *d, const struct ggml_cgraph *graph, void *key, size_t key_bytes, qg_program **out) {
    const double start = qg_seconds();
    qg_program *p = calloc(1, sizeof *p);
    if (!p) {
        free(key);
        return QD_ERR_MEMORY;
    }
    p->key = key;
    p->key_bytes = key_bytes;
    qd_status status = qg_translate(d, graph, p);
    for (int i = 0; !status && i < p->n_steps; i++) {
        status = qd_graph_compile(p->steps[i].graph, NULL, NULL);
        if (status) log_failure("compiling", &p->steps[i]);
    }
    if (status) {
        program_free(p);
        return status;
    }
    *make_room(d) = p;
    *out = p;
    d->counts.compiled++;
    d->counts.compile_seconds += qg_seconds() - start;
    return QD_OK;
}

static qd_status find_or_compile(qg_device *d, const struct ggml_cgraph *graph, qg_program **out) {
    const uint64_t uid = graph->uid;
    *out = find_uid(d, uid);
    if (*out) return QD_OK;
    size_t bytes;
    void *key = qg_key_make(graph, &bytes);
    if (!key) return QD_ERR_MEMORY;
    *out = find_key(d, key, bytes);
    qd_status status = QD_OK;
    if (*out) {
        free(key);
    } else {
        status = compile(d, graph, key, bytes, out);
    }
    if (!status) (*out)->uid = uid;
    return status;
}

/* ---- Running ------------------------------------------------------------------------------------------------ */

static qd_status run(qg_device *d, qg_program *p) {
    static const qg_step feeding = {.node = ""};
    const qg_step *at = &feeding;
    qd_graph_info info, all = {.ops = 0};
    const double start = qg_seconds();
    qd_status status = qg_rope_feed(p);
    for (int i = 0; !status && i < p->n_steps; i++) {
        at = &p->steps[i];
        status = qd_graph_describe(at->graph, &info);
        if (!status) status = qd_graph_run(at->graph, 1);
        all.ops += info.ops;
        all.chained += info.chained;
        all.fallbacks += info.fallbacks;
    }
    if (!status) status = qd_context_finish(d->context);
    if (status) {
        log_failure("running", at);
        return status;
    }
    d->counts.library_seconds += qg_seconds() - start;
    d->counts.graphs++;
    d->counts.nodes += (uint64_t)p->nodes;
    d->counts.operators += (uint64_t)all.ops;
    d->counts.chained += (uint64_t)all.chained;
    d->counts.fallbacks += (uint64_t)all.fallbacks;
    return QD_OK;
}

/* Constants over which the program wrote. May free the program. */
static void drop_overwritten(const qg_program *p) {
    for (int i = 0; i < p->n_written; i++) {
        if (!p->written[i].buffer->n_constants) continue;
        const int n = p->n_written;
        qg_range *ranges = malloc((size_t)n * sizeof *ranges);
        if (!ranges) return;
        memcpy(ranges, p->written, (size_t)n * sizeof *ranges);
        for (int j = 0; j < n; j++)
            qg_buffer_written(ranges[j].buffer, ranges[j].from, ranges[j].to);
        free(ranges);
        return;
    }
}

static qd_status compute(qg_device *d, const struct ggml_cgraph *graph) {
    qg_program *p;
    d->clock++;
    qd_status status = qg_rope_reserve(d, graph);
    if (!status) status = find_or_compile(d, graph, &p);
    if (!status) {
        p->used = d->clock;
        status = run(d, p);
    }
    if (!status) {
        qg_rope_written(d, p);
        drop_overwritten(p);
    }
    return status;
}

qd_status qg_compute(qg_device *d, const struct ggml_cgraph *graph) {
    const double start = qg_seconds();
    qd_status status;
    int first = 0;
    qg_lock(d);
    do {
        const bool known = find_uid(d, graph->uid) != NULL; /* parts have no number */
        const int end = known ? graph->n_nodes : qg_rope_until(graph, first);
        struct ggml_cgraph part = *graph;
        part.nodes += first;
        part.n_nodes = end - first;
        if (part.n_nodes < graph->n_nodes) part.uid = 0;
        status = compute(d, &part);
        first = end;
    } while (!status && first < graph->n_nodes);
    d->counts.compute_seconds += qg_seconds() - start;
    qg_unlock(d);
    return status;
}
