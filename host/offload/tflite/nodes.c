/* Nodes: copies of them, and the table of operators. */
#include <stdlib.h>
#include <string.h>

#include "operators.h"

typedef struct operator_row {
    int32_t builtin;
    const char *name;
    int version;
    bool params;
    int kind;
    bool (*function)(tfl_build *b);
} operator_row;

static const operator_row *find(int32_t builtin) {
    static const operator_row rows[] = {
#define TFL_OPERATOR(ID, name, version, params, kind, function) \
    {kTfLiteBuiltin##ID, name, version, params, kind, function},
#include "operators.def"
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].builtin == builtin) return &rows[i];
    }
    return NULL;
}

const char *tfl_operator_name(int32_t builtin) {
    const operator_row *row = find(builtin);
    return row ? row->name : NULL;
}

bool tfl_operator_moves(int32_t builtin) {
    const operator_row *row = find(builtin);
    return row && row->kind & TFL_MOVES;
}

bool tfl_operator_windows(int32_t builtin) {
    const operator_row *row = find(builtin);
    return row && row->kind & TFL_WINDOWS;
}

bool tfl_build_node(tfl_build *b, const tfl_node *n) {
    const operator_row *row = find(n->builtin);
    b->node = n;
    if (!row) return tfl_fail(b, "the operator is not known");
    if (n->version > row->version)
        return tfl_fail(b, "version %d of the operator; %d is the newest that is known", n->version, row->version);
    if (!n->params && row->params) return tfl_fail(b, "the node has no parameters");
    return row->function(b);
}

/* ---- Copies ------------------------------------------------------------------------------------------------- */

static int *copy_list(const TfLiteIntArray *list, int *n) {
    *n = list ? list->size : 0;
    int *copy = malloc((size_t)(*n ? *n : 1) * sizeof *copy);
    if (copy && *n) memcpy(copy, list->data, (size_t)*n * sizeof *copy);
    return copy;
}

bool tfl_node_copy(TfLiteContext *host, int number, tfl_node *out) {
    TfLiteNode *node;
    TfLiteRegistration *registration;
    memset(out, 0, sizeof *out);
    if (host->GetNodeAndRegistration(host, number, &node, &registration) != kTfLiteOk) return false;
    out->number = number;
    out->builtin = registration->builtin_code;
    out->version = registration->version;
    out->params = node->builtin_data;
    out->in = copy_list(node->inputs, &out->n_in);
    out->out = copy_list(node->outputs, &out->n_out);
    if (out->in && out->out) return true;
    tfl_node_free(out);
    return false;
}

void tfl_node_free(tfl_node *n) {
    free(n->in);
    free(n->out);
    memset(n, 0, sizeof *n);
}
