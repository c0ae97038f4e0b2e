/* Which nodes of the host the plug-in takes. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "tflite.h"

/* A host whose tensors are laid out in another way than in the headers that we were built with. */
static bool known_layout(TfLiteContext *host) {
    if (host->tensors_size < 2) return true;
    if (!host->GetTensor) return true;
    const char *first = (const char *)host->GetTensor(host, 0), *second = (const char *)host->GetTensor(host, 1);
    const long bytes = first && second ? (long)(second - first) : (long)sizeof(TfLiteTensor);
    if (bytes == (long)sizeof(TfLiteTensor)) return true;
    host->ReportError(
        host,
        "qdot: this version of the host has tensors of %ld bytes, and the plug-in was built for %d: build "
        "it with the host's headers. All nodes stay with the host.",
        bytes, (int)sizeof(TfLiteTensor));
    return false;
}

/* A node in words, for messages: its number, operator and first output. */
static void tell_refusal(TfLiteContext *host, const tfl_node *n, const char *why) {
    const char *name = tfl_operator_name(n->builtin);
    const char *output = n->n_out && n->out[0] >= 0 ? host->tensors[n->out[0]].name : NULL;
    if (name) {
        tfl_note("node %d (%s, %s) stays with the host: %s", n->number, name, output ? output : "", why);
    } else {
        tfl_note("node %d (operator %d, %s) stays with the host: %s", n->number, (int)n->builtin, output ? output : "",
                 why);
    }
}

static TfLiteIntArray *new_list(int n) {
    return calloc(1, sizeof(TfLiteIntArray) + (size_t)n * sizeof(int));
}

/* The nodes of the plan whose translation works. */
static void try_nodes(tfl_plugin *p, TfLiteContext *host, tfl_build *b, const TfLiteIntArray *plan,
                      TfLiteIntArray *taken) {
    for (int i = 0; i < plan->size; i++) {
        tfl_node n;
        if (!tfl_node_copy(host, plan->data[i], &n)) continue;
        if (tfl_build_node(b, &n)) {
            taken->data[taken->size++] = n.number;
        } else if (p->options.verbose) {
            tell_refusal(host, &n, b->why);
        }
        tfl_node_free(&n);
    }
}

/* Leaves out groups in which nothing is computed. *groups: those that remain. */
static TfLiteStatus drop_moves(tfl_plugin *p, TfLiteContext *host, TfLiteIntArray *taken, int *groups) {
    TfLiteDelegateParams *parts;
    int n;
    *groups = 0;
    if (!taken->size) return kTfLiteOk;
    const TfLiteStatus status = host->PreviewDelegatePartitioning(host, taken, &parts, &n);
    if (status != kTfLiteOk) return status;
    TfLiteIntArray *kept = new_list(taken->size);
    if (!kept) return kTfLiteError;
    for (int i = 0; i < n; i++) {
        const TfLiteIntArray *part = parts[i].nodes_to_replace;
        bool computes = false;
        for (int j = 0; j < part->size; j++) {
            TfLiteNode *node;
            TfLiteRegistration *registration;
            if (host->GetNodeAndRegistration(host, part->data[j], &node, &registration) != kTfLiteOk) continue;
            computes = computes || !tfl_operator_moves(registration->builtin_code);
        }
        if (!computes && p->options.verbose)
            tfl_note("%d nodes from node %d on stay with the host: they only move elements", part->size, part->data[0]);
        if (!computes) continue;
        ++*groups;
        memcpy(kept->data + kept->size, part->data, (size_t)part->size * sizeof(int));
        kept->size += part->size;
    }
    memcpy(taken->data, kept->data, (size_t)kept->size * sizeof(int));
    taken->size = kept->size;
    free(kept);
    return kTfLiteOk;
}

TfLiteStatus tfl_claim(TfLiteContext *host, TfLiteDelegate *delegate) {
    tfl_plugin *p = delegate->data_;
    TfLiteIntArray *plan, *taken;
    int groups;
    if (p->why[0]) {
        host->ReportError(host, "%s", p->why);
        return kTfLiteDelegateError;
    }
    if (!known_layout(host)) return kTfLiteOk;
    TfLiteStatus status = host->GetExecutionPlan(host, &plan);
    if (status != kTfLiteOk) return status;
    const int nodes = plan->size;
    taken = new_list(nodes);
    if (!taken) return kTfLiteError;
    tfl_build b;
    pthread_mutex_lock(p->lock);
    if (tfl_build_start(&b, host, p->context, true)) {
        try_nodes(p, host, &b, plan, taken);
    } else {
        host->ReportError(host, "qdot: %s", b.why);
        status = kTfLiteDelegateError;
    }
    tfl_build_free(&b);
    pthread_mutex_unlock(p->lock);
    if (status == kTfLiteOk) status = drop_moves(p, host, taken, &groups);
    if (status == kTfLiteOk && p->options.verbose)
        tfl_note("%d of %d nodes in %d groups run on %s", taken->size, nodes, groups,
                 qd_context_device(p->context)->id);
    if (status == kTfLiteOk && taken->size)
        status = host->ReplaceNodeSubsetsWithDelegateKernels(host, tfl_kernel_registration(), taken, delegate);
    free(taken);
    return status;
}
