#include "ep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *ORT_API_CALL get_name(const OrtEp *this_ptr) {
    (void)this_ptr;
    return QEP_NAME;
}

/* ---- Which nodes -------------------------------------------------------------------------------------------- */

/* Tries each unit for the shapes that the model states. */
static void try_units(qep_ep *e, const qep_graph *g, qep_units *units, bool *ok) {
    char message[320];
    pthread_mutex_lock(&e->lock);
    for (int i = 0; i < units->count; i++) {
        const qep_unit *u = &units->list[i];
        ok[i] = qep_try(e->context, g, u, message, sizeof message) == QD_OK;
        if (!ok[i]) {
            qep_log(&e->host, ORT_LOGGING_LEVEL_VERBOSE, "node %s stays with the host: %s", g->nodes[u->node].label,
                    message);
        }
    }
    pthread_mutex_unlock(&e->lock);
}

static void log_reasons(const qep_ep *e, const qep_graph *g, const qep_units *units) {
    for (int i = 0; i < g->n_nodes; i++) {
        if (units->reason[i] && units->unit_of[i] < 0) {
            qep_log(&e->host, units->broken[i] ? ORT_LOGGING_LEVEL_WARNING : ORT_LOGGING_LEVEL_VERBOSE,
                    "node %s stays with the host: %s", g->nodes[i].label, units->reason[i]);
        }
    }
}

static OrtStatus *claim(const qep_ep *e, const qep_graph *g, const int *group, int groups,
                        OrtEpGraphSupportInfo *info) {
    const OrtNode **nodes = calloc((size_t)g->n_nodes + 1, sizeof *nodes);
    OrtStatus *status = NULL;
    if (!nodes) return qep_error(&e->host, ORT_FAIL, "out of memory");
    int claimed = 0;
    for (int k = 0; k < groups; k++) {
        size_t n = 0;
        for (int i = 0; i < g->n_nodes; i++) {
            if (group[i] != k) continue;
            nodes[n++] = g->nodes[i].host;
            qep_log(&e->host, ORT_LOGGING_LEVEL_VERBOSE, "node %s goes to the device, part %d", g->nodes[i].label, k);
        }
        const OrtNodeFusionOptions options = {.ort_version_supported = QEP_API, .drop_constant_initializers = true};
        QEP_TRY(e->host.ep->EpGraphSupportInfo_AddNodesToFuse(info, nodes, n, &options));
        claimed += (int)n;
    }
    qep_log(&e->host, ORT_LOGGING_LEVEL_INFO, "%d of %d nodes go to %s, in %d part%s", claimed, g->n_nodes,
            qd_context_device(e->context)->id, groups, groups == 1 ? "" : "s");
error:
    free(nodes);
    return status;
}

static OrtStatus *ORT_API_CALL get_capability(OrtEp *this_ptr, const OrtGraph *graph, OrtEpGraphSupportInfo *info) {
    qep_ep *e = (qep_ep *)this_ptr;
    qep_graph *g = NULL;
    qep_units *units = NULL;
    bool *ok = NULL;
    int *group = NULL, groups = 0;
    OrtStatus *status = NULL;
    QEP_TRY(qep_graph_read(&e->host, graph, false, &g));
    QEP_TRY(qep_units_find(&e->host, g, &units));
    ok = calloc((size_t)units->count + 1, sizeof *ok);
    if (!ok) QEP_TRY(qep_error(&e->host, ORT_FAIL, "out of memory"));
    log_reasons(e, g, units);
    try_units(e, g, units, ok);
    QEP_TRY(qep_partition(&e->host, g, units, ok, &group, &groups));
    QEP_TRY(claim(e, g, group, groups, info));
error:
    free(group);
    free(ok);
    qep_units_free(units);
    qep_graph_free(g);
    return status;
}

/* ---- Taking them over --------------------------------------------------------------------------------------- */

static void ORT_API_CALL release_infos(OrtEp *this_ptr, OrtNodeComputeInfo **infos, size_t count) {
    (void)this_ptr;
    for (size_t i = 0; i < count; i++)
        qep_compute_free(infos[i]);
}

static OrtStatus *ORT_API_CALL compile(OrtEp *this_ptr, const OrtGraph **graphs, const OrtNode **fused, size_t count,
                                       OrtNodeComputeInfo **infos, OrtNode **context_nodes) {
    qep_ep *e = (qep_ep *)this_ptr;
    (void)context_nodes; /* stay NULL: there is no compiled form that could be stored */
    for (size_t i = 0; i < count; i++) {
        OrtStatus *status = qep_compute_create(e, graphs[i], fused[i], &infos[i]);
        if (!status) continue;
        release_infos(this_ptr, infos, i);
        for (size_t j = 0; j < i; j++)
            infos[j] = NULL;
        return status;
    }
    return NULL;
}

/* ---- A session's start and end ------------------------------------------------------------------------------ */

static void log_line(void *user, const char *line) {
    const qep_host *h = user;
    qep_log(h, ORT_LOGGING_LEVEL_INFO, "%s", line);
}

OrtStatus *qep_ep_create(const qep_host *h, const OrtSessionOptions *options, OrtEp **out) {
    qep_ep *e = calloc(1, sizeof *e);
    OrtStatus *status = NULL;
    if (!e) return qep_error(h, ORT_FAIL, "out of memory");
    e->host = *h;
    pthread_mutex_init(&e->lock, NULL);
    e->base = (OrtEp){.ort_version_supported = QEP_API,
                      .GetName = get_name,
                      .GetCapability = get_capability,
                      .Compile = compile,
                      .ReleaseNodeComputeInfos = release_infos};
    QEP_TRY(qep_options_read(h, QEP_NAME, options, &e->options));
    const qd_context_options o = {
        .profile = e->options.profile != NULL, .verify = e->options.verify, .log = log_line, .log_user = &e->host};
    if (qd_context_create(e->options.device, &o, &e->context)) {
        QEP_TRY(qep_error(h, ORT_EP_FAIL, "the device '%s' cannot be used: %s",
                          e->options.device ? e->options.device : "of the environment", qd_last_message()));
    }
    *out = &e->base;
    e = NULL;
error:
    qep_ep_free(e);
    return status;
}

static void print_profile(const qep_ep *e) {
    qd_profile_row *rows;
    int count;
    if (qd_context_profile(e->context, &rows, &count)) {
        qep_log(&e->host, ORT_LOGGING_LEVEL_WARNING, "no profile: %s", qd_last_message());
        return;
    }
    fprintf(stderr, "%-48s %8s %12s %9s %9s\n", "kernel", "calls", "seconds", "GB/s", "GOP/s");
    for (int i = 0; i < count; i++) {
        const double seconds = rows[i].seconds > 0 ? rows[i].seconds : 1e-9;
        fprintf(stderr, "%-48s %8llu %12.6f %9.2f %9.2f\n", rows[i].kernel, (unsigned long long)rows[i].calls,
                rows[i].seconds, rows[i].bytes / seconds * 1e-9, rows[i].operations / seconds * 1e-9);
    }
    qd_profile_free(rows);
}

static void write_profile(const qep_ep *e) {
    if (!*e->options.profile) {
        print_profile(e);
    } else if (qd_context_trace(e->context, e->options.profile)) {
        qep_log(&e->host, ORT_LOGGING_LEVEL_WARNING, "no trace: %s", qd_last_message());
    }
}

void qep_ep_free(qep_ep *e) {
    if (!e) return;
    if (e->context && e->options.profile) write_profile(e);
    qd_context_free(e->context);
    pthread_mutex_destroy(&e->lock);
    qep_options_free(&e->options);
    free(e);
}
