/* Classes of problems and their ways. A way with options of its own is one more variant of the device: it has a binary,
 * a key, and a proof like any row of kernels.def. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "opencl/cl_tuning.h"

/* ---- Tables ------------------------------------------------------------------------------------------------- */

enum { MOST_VALUES = 8 };
static const struct {
    const char *file, *name;
    int count, values[MOST_VALUES];
} tunables[] = {
#define QD_TUNABLE(file, name, ...) {file, name, sizeof((int[]){__VA_ARGS__}) / sizeof(int), {__VA_ARGS__}},
#include "kernels_cl/tunables.def"
};
enum { TUNABLES = sizeof tunables / sizeof tunables[0] };

static const cl_tuned_row tuned[] = {
#define QD_TUNED(variant, rows, weights, groups, options) {#variant, rows, CL_TUNED_##weights, groups, options},
#include "kernels_cl/tuned.def"
    {.variant = NULL}};
const cl_tuned_row *cl_tuned_rows = tuned;

/* ---- Classes ------------------------------------------------------------------------------------------------ */

cl_class cl_class_of(const qd_node *n, int64_t rows) {
    const qd_tensor *w = n->in[0];
    return (cl_class){.op = n->op,
                      .in0 = w ? w->desc.format : QD_FORMAT_COUNT,
                      .in1 = n->in[1] ? n->in[1]->desc.format : QD_FORMAT_COUNT,
                      .rows = qd_tuning_rows_class(rows),
                      .large = w && qd_is_constant(w) && qd_desc_bytes(&w->desc) >= QD_TUNING_LARGE};
}

static bool same_class(const cl_class *a, const cl_class *b) {
    return a->op == b->op && a->in0 == b->in0 && a->in1 == b->in1 && a->rows == b->rows && a->large == b->large;
}

cl_choice *cl_choice_find(cl_device_state *d, const cl_class *of) {
    for (int i = 0; i < d->n_choices; i++) {
        if (same_class(&d->choices[i].of, of)) return &d->choices[i];
    }
    return NULL;
}

/* Adds it, or puts it in place of the class's. */
static qd_status set_choice(cl_device_state *d, const cl_choice *choice) {
    cl_choice *c = cl_choice_find(d, &choice->of);
    if (!c && d->n_choices == CL_MOST_CHOICES)
        return qd_fail(QD_ERR_UNSUPPORTED, "%d classes have ways of their own: no more", CL_MOST_CHOICES);
    if (!c) {
        cl_choice *grown = qd_realloc(d->choices, ((size_t)d->n_choices + 1) * sizeof *grown);
        if (!grown) return QD_ERR_MEMORY;
        d->choices = grown;
        c = &grown[d->n_choices++];
    }
    *c = *choice;
    return QD_OK;
}

/* ---- Options ------------------------------------------------------------------------------------------------ */

/* The row of a word "NAME=VALUE" of n bytes that `file` has; -1: none. */
static int find_tunable(const char *file, const char *word, size_t n) {
    for (int i = 0; i < TUNABLES; i++) {
        const size_t name = strlen(tunables[i].name);
        if (strcmp(tunables[i].file, file) != 0 || n <= name || strncmp(word, tunables[i].name, name) != 0) continue;
        for (int k = 0; k < tunables[i].count; k++) {
            char value[16];
            const int digits = snprintf(value, sizeof value, "=%d", tunables[i].values[k]);
            if (n == name + (size_t)digits && !strncmp(word + name, value, (size_t)digits)) return i;
        }
    }
    return -1;
}

bool cl_options_valid(const char *file, const char *options) {
    bool seen[TUNABLES] = {false};
    for (const char *p = options; *p;) {
        const size_t n = strcspn(p, " ");
        const int i = find_tunable(file, p, n);
        if (i < 0 || seen[i] || (p[n] && !p[n + 1])) return false;
        seen[i] = true;
        p += n + (p[n] != 0);
    }
    return true;
}

/* `options` with tunable i of value k in place of what it has, in the order of tunables.def. */
static void options_with(const char *options, int i, int k, char *out, size_t capacity) {
    size_t used = 0;
    out[0] = 0;
    for (int j = 0; j < TUNABLES; j++) {
        if (strcmp(tunables[j].file, tunables[i].file) != 0) continue;
        char word[48] = "";
        if (j == i) {
            snprintf(word, sizeof word, "%s=%d", tunables[i].name, tunables[i].values[k]);
        } else {
            for (const char *p = options; *p; p += strcspn(p, " ") + (strchr(p, ' ') != NULL)) {
                const size_t n = strcspn(p, " ");
                if (find_tunable(tunables[j].file, p, n) == j) snprintf(word, sizeof word, "%.*s", (int)n, p);
            }
        }
        if (word[0]) used += (size_t)snprintf(out + used, capacity - used, "%s%s", used ? " " : "", word);
    }
}

qd_status cl_variant_with(cl_device_state *d, int base, const char *options, int *out) {
    if (!*options) {
        *out = base;
        return QD_OK;
    }
    char all[256];
    size_t used = (size_t)snprintf(all, sizeof all, "%s", d->variants[base].options);
    for (const char *p = options; *p && used < sizeof all;) {
        const size_t n = strcspn(p, " ");
        used += (size_t)snprintf(all + used, sizeof all - used, "%s-D%.*s", used ? " " : "", (int)n, p);
        p += n + (p[n] != 0);
    }
    for (int i = cl_variant_count; i < d->n_variants; i++) {
        if (!strcmp(d->variants[i].name, d->variants[base].name) && !strcmp(d->variants[i].options, all)) {
            *out = i;
            return QD_OK;
        }
    }
    cl_variant *variants = qd_realloc(d->variants, ((size_t)d->n_variants + 1) * sizeof *variants);
    if (variants) d->variants = variants;
    cl_proof *proofs = qd_realloc(d->proofs, ((size_t)d->n_variants + 1) * sizeof *proofs);
    if (proofs) d->proofs = proofs;
    char *text = variants && proofs ? qd_alloc(strlen(all) + 1) : NULL;
    if (!text) return QD_ERR_MEMORY;
    memcpy(text, all, strlen(all) + 1);
    variants[d->n_variants] = variants[base];
    variants[d->n_variants].options = text;
    memset(&proofs[d->n_variants], 0, sizeof *proofs);
    *out = d->n_variants++;
    return QD_OK;
}

void cl_tuning_close(cl_device_state *d) {
    for (int i = cl_variant_count; i < d->n_variants; i++)
        free((char *)d->variants[i].options);
    free(d->variants);
    free(d->choices);
}

qd_status cl_tuned(cl_device_state *d, int base, const cl_class *of, int *variant, int *groups) {
    *variant = base;
    *groups = d->variants[base].groups;
    for (const cl_tuned_row *row = cl_tuned_rows; row->variant; row++) {
        if (strcmp(row->variant, d->variants[base].name) != 0 || qd_tuning_rows_class(row->rows) != of->rows) continue;
        if (row->weights != CL_TUNED_ANY && (row->weights == CL_TUNED_LARGE) != of->large) continue;
        *groups = row->groups;
        return cl_variant_with(d, base, row->options, variant);
    }
    return QD_OK;
}

/* ---- Ways --------------------------------------------------------------------------------------------------- */

/* The row of kernels.def that a variant of the device comes from. */
static int base_of(const cl_device_state *d, int variant) {
    int i = 0;
    while (strcmp(d->variants[i].name, d->variants[variant].name) != 0)
        i++;
    return i;
}

void cl_own_options(const cl_device_state *d, int variant, char *out, size_t capacity) {
    const int base = base_of(d, variant);
    const char *p = d->variants[variant].options + (variant == base ? 0 : strlen(d->variants[base].options));
    size_t used = 0;
    out[0] = 0;
    if (variant == base) return;
    while ((p = strstr(p, "-D")) != NULL) {
        p += 2;
        used += (size_t)snprintf(out + used, capacity - used, "%s%.*s", used ? " " : "", (int)strcspn(p, " "), p);
    }
}

typedef struct way_list {
    qd_tuning_way *ways;
    int count;
} way_list;

static qd_status add_way(way_list *l, const char *variant, const char *options, int groups) {
    qd_tuning_way *grown = qd_realloc(l->ways, ((size_t)l->count + 1) * sizeof *grown);
    if (!grown) return QD_ERR_MEMORY;
    l->ways = grown;
    qd_tuning_way *w = &grown[l->count++];
    *w = (qd_tuning_way){.groups = groups};
    snprintf(w->variant, sizeof w->variant, "%s", variant);
    snprintf(w->options, sizeof w->options, "%s", options);
    return QD_OK;
}

qd_status cl_ways(void *device, const qd_node *n, qd_tuning_way **out, int *count) {
    static const int group_counts[] = {1, 2, 4, 8, 16, 32};
    cl_device_state *d = device;
    qd_status status = QD_OK;
    int variant, groups;
    char options[96], other[96];
    way_list l = {NULL, 0};
    if (d->binary) return qd_fail(QD_ERR_UNSUPPORTED, "%s runs a binary, which has nothing to tune", d->info.name);
    cl_node_way(n, &variant, &groups);
    const int base = base_of(d, variant);
    const char *name = d->variants[base].name, *missing;
    cl_own_options(d, variant, options, sizeof options);
    QD_TRY(add_way(&l, name, options, groups));
    for (int i = 0; i < cl_variant_count; i++) {
        const cl_variant *v = &d->variants[i];
        if (i == base || !cl_variant_fits(v, n) || !cl_variant_at_home(d, v) || !cl_device_has(d, v->needs, &missing))
            continue;
        QD_TRY(add_way(&l, v->name, "", v->groups));
    }
    for (size_t i = 0; i < sizeof group_counts / sizeof group_counts[0]; i++) {
        if (group_counts[i] != groups && cl_variant_home(&d->variants[base]) != CL_HOME_FPGA)
            QD_TRY(add_way(&l, name, options, group_counts[i]));
    }
    for (int i = 0; i < TUNABLES; i++) {
        for (int k = 0; k < tunables[i].count; k++) {
            if (strcmp(tunables[i].file, d->variants[base].file) != 0) break;
            options_with(options, i, k, other, sizeof other);
            if (strcmp(other, options) != 0) QD_TRY(add_way(&l, name, other, groups));
        }
    }
    *out = l.ways;
    *count = l.count;
    return QD_OK;
error:
    free(l.ways);
    return status;
}

qd_status cl_choose(void *device, const qd_node *n, const qd_tuning_way *way) {
    cl_device_state *d = device;
    cl_choice choice = {.of = cl_class_of(n, n->max_rows), .variant = -1};
    if (!way) {
        cl_choice *old = cl_choice_find(d, &choice.of);
        if (old) *old = d->choices[--d->n_choices];
        return QD_OK;
    }
    while (choice.base < cl_variant_count && strcmp(d->variants[choice.base].name, way->variant) != 0)
        choice.base++;
    if (choice.base == cl_variant_count || !cl_variant_fits(&d->variants[choice.base], n))
        return qd_fail(QD_ERR_ARGUMENT, "no kernel \"%.47s\" does what this plan does", way->variant);
    if (way->groups < 1 || way->groups > CL_MOST_GROUPS)
        return qd_fail(QD_ERR_ARGUMENT, "%d work-groups for each unit: choose 1 … %d", way->groups, CL_MOST_GROUPS);
    if (!memchr(way->options, 0, sizeof way->options) || !cl_options_valid(d->variants[choice.base].file, way->options))
        return qd_fail(QD_ERR_ARGUMENT, "options \"%.95s\": not values of tunables.def for %s", way->options,
                       d->variants[choice.base].file);
    choice.groups = way->groups;
    snprintf(choice.options, sizeof choice.options, "%s", way->options);
    qd_status status = cl_variant_with(d, choice.base, choice.options, &choice.variant);
    if (!status) status = cl_variant_prove(d, choice.variant);
    if (status) return status;
    if (d->proofs[choice.variant].verdict != CL_PASSED)
        return qd_fail(QD_ERR_UNSUPPORTED, "%s %s: %.200s", way->variant, way->options, d->proofs[choice.variant].why);
    return set_choice(d, &choice);
}
