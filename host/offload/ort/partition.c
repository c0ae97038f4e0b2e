/* Groups of nodes that the host may replace by one: connected, and without a path that leaves and comes back. */
#include <stdlib.h>
#include <string.h>

#include "ep.h"

typedef struct partition {
    const qep_graph *g;
    const qep_units *units;
    bool *ok;                    /* units that are still wanted */
    bool *claimed;               /* nodes */
    int *first_reader, *readers; /* nodes that read node i: readers[first_reader[i] … first_reader[i + 1]) */
    int *parent;                 /* of a node in its group's tree */
    int *next, *tail;            /* the members of a group, as a list from its root on */
    int *visited;                /* of a root: the last search that came by */
    int search;
    int *stack;
} partition;

static void partition_free(partition *p) {
    void *const all[] = {p->ok,   p->claimed, p->first_reader, p->readers, p->parent,
                         p->next, p->tail,    p->visited,      p->stack};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]);
}

static bool partition_init(partition *p) {
    const size_t n = (size_t)p->g->n_nodes + 1;
    size_t edges = 1;
    for (int i = 0; i < p->g->n_nodes; i++)
        edges += (size_t)p->g->nodes[i].n_in;
    p->ok = calloc((size_t)p->units->count + 1, sizeof *p->ok);
    p->claimed = calloc(n, sizeof *p->claimed);
    p->first_reader = calloc(n + 1, sizeof *p->first_reader);
    p->readers = calloc(edges, sizeof *p->readers);
    p->parent = calloc(n, sizeof *p->parent);
    p->next = calloc(n, sizeof *p->next);
    p->tail = calloc(n, sizeof *p->tail);
    p->visited = calloc(n, sizeof *p->visited);
    p->stack = calloc(n, sizeof *p->stack);
    return p->ok && p->claimed && p->first_reader && p->readers && p->parent && p->next && p->tail && p->visited &&
           p->stack;
}

/* The node that makes input j of a node; -1: none. */
static int producer(const qep_graph *g, int node, int j) {
    const int v = g->nodes[node].in[j];
    return v >= 0 ? g->values[v].producer : -1;
}

static void list_readers(partition *p) {
    const qep_graph *g = p->g;
    for (int i = 0; i < g->n_nodes; i++) {
        for (int j = 0; j < g->nodes[i].n_in; j++) {
            const int from = producer(g, i, j);
            if (from >= 0) p->first_reader[from + 1]++;
        }
    }
    for (int i = 0; i < g->n_nodes; i++)
        p->first_reader[i + 1] += p->first_reader[i];
    int *at = p->stack; /* free as yet */
    for (int i = 0; i < g->n_nodes; i++)
        at[i] = p->first_reader[i];
    for (int i = 0; i < g->n_nodes; i++) {
        for (int j = 0; j < g->nodes[i].n_in; j++) {
            const int from = producer(g, i, j);
            if (from >= 0) p->readers[at[from]++] = i;
        }
    }
}

/* ---- Groups ------------------------------------------------------------------------------------------------- */

static int root_of(partition *p, int node) {
    while (p->parent[node] != node) {
        p->parent[node] = p->parent[p->parent[node]];
        node = p->parent[node];
    }
    return node;
}

static void merge(partition *p, int a, int b) {
    a = root_of(p, a);
    b = root_of(p, b);
    if (a == b) return;
    p->parent[b] = a;
    p->next[p->tail[a]] = b;
    p->tail[a] = p->tail[b];
}

/* Puts the groups that read group `root`, apart from it and `but`, onto the stack. True when one of them is `goal`. */
static bool push_readers(partition *p, int root, int but, int goal, int *depth) {
    for (int node = root; node >= 0; node = p->next[node]) {
        for (int k = p->first_reader[node]; k < p->first_reader[node + 1]; k++) {
            const int r = root_of(p, p->readers[k]);
            if (r == root || r == but) continue;
            if (r == goal) return true;
            if (p->visited[r] == p->search) continue;
            p->visited[r] = p->search;
            p->stack[(*depth)++] = r;
        }
    }
    return false;
}

/* Whether a path leads from group a to group b through others. With a == b: out of the group and back. */
static bool path_outside(partition *p, int a, int b) {
    int depth = 0;
    p->search++;
    push_readers(p, a, b, -1, &depth);
    while (depth) {
        const int root = p->stack[--depth];
        if (push_readers(p, root, a == b ? -1 : a, b, &depth)) return true;
    }
    return false;
}

/* ---- Units -------------------------------------------------------------------------------------------------- */

/* A DequantizeLinear that patterns look behind must also be able to give its floats to others. */
static bool can_look_behind(const partition *p, const qep_unit *u) {
    for (int i = 0; i < u->n_members; i++) {
        const int node = u->members[i], own = p->units->unit_of[node];
        if (node == u->node || !qep_has_row(p->g, node, "DequantizeLinear")) continue;
        if (own >= 0 && p->ok[own]) continue;
        if (qep_only_reader(p->g, p->g->nodes[node].out[0]) < 0) return false;
    }
    return true;
}

static void start_groups(partition *p) {
    memset(p->claimed, 0, (size_t)p->g->n_nodes * sizeof *p->claimed);
    for (int i = 0; i < p->g->n_nodes; i++) {
        p->parent[i] = p->tail[i] = i;
        p->next[i] = -1;
    }
    for (int i = 0; i < p->units->count; i++) {
        const qep_unit *u = &p->units->list[i];
        for (int j = 0; j < u->n_members && p->ok[i]; j++) {
            p->claimed[u->members[j]] = true;
            merge(p, u->members[0], u->members[j]);
        }
    }
}

/* Patterns that share nodes may be connected by a path through others, and cannot go together then. */
static bool drop_crossed(partition *p) {
    bool dropped = false;
    for (int i = 0; i < p->units->count; i++) {
        const qep_unit *u = &p->units->list[i];
        if (!p->ok[i] || u->n_members == 1) continue;
        const int root = root_of(p, u->node);
        if (!path_outside(p, root, root)) continue;
        p->ok[i] = false;
        dropped = true;
    }
    return dropped;
}

/* Whether a unit is worth a part of its own. What has only constants is none: others read them from it. */
static bool works(const qep_graph *g, const qep_unit *u) {
    if (u->op->kind != QEP_WORK) return false;
    for (int i = 0; i < u->n_in; i++) {
        if (u->in[i].value >= 0 && !qep_constant(g, u->in[i].value)) return true;
    }
    return false;
}

/* ---- All of it ---------------------------------------------------------------------------------------------- */

static void number_groups(partition *p, int *out, int *groups) {
    for (int i = 0; i < p->g->n_nodes; i++)
        p->visited[i] = -2; /* of a root: no unit of work yet */
    for (int i = 0; i < p->units->count; i++) {
        if (p->ok[i] && works(p->g, &p->units->list[i])) p->visited[root_of(p, p->units->list[i].node)] = -1;
    }
    for (int i = 0; i < p->g->n_nodes; i++) {
        const int root = root_of(p, i);
        out[i] = -1;
        if (!p->claimed[i] || p->visited[root] == -2) continue;
        if (p->visited[root] == -1) p->visited[root] = (*groups)++;
        out[i] = p->visited[root];
    }
}

OrtStatus *qep_partition(const qep_host *h, const qep_graph *g, const qep_units *units, const bool *unit_ok, int **out,
                         int *groups) {
    partition p = {.g = g, .units = units};
    *groups = 0;
    *out = calloc((size_t)g->n_nodes + 1, sizeof **out);
    if (!*out || !partition_init(&p)) {
        partition_free(&p);
        return qep_error(h, ORT_FAIL, "out of memory");
    }
    list_readers(&p);
    for (int i = 0; i < units->count; i++)
        p.ok[i] = unit_ok[i];
    for (int i = 0; i < units->count; i++)
        p.ok[i] = p.ok[i] && can_look_behind(&p, &units->list[i]);
    do {
        start_groups(&p);
    } while (drop_crossed(&p));
    for (int i = 0; i < g->n_nodes; i++) {
        for (int j = 0; j < g->nodes[i].n_in && p.claimed[i]; j++) {
            const int from = producer(g, i, j);
            if (from < 0 || !p.claimed[from]) continue;
            const int a = root_of(&p, from), b = root_of(&p, i);
            if (a != b && !path_outside(&p, a, b)) merge(&p, a, b);
        }
    }
    number_groups(&p, *out, groups);
    partition_free(&p);
    return NULL;
}
