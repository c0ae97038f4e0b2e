/* What `qdot quantize` tells. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/quantize.h"

static double weights_of(const qd_cli_change *c) {
    double n = 1;
    if (c->src.rows) return (double)c->src.rows * (double)c->src.cols;
    for (int i = 0; i < c->tensor.desc.rank; i++)
        n *= (double)c->tensor.desc.shape[i];
    return n;
}

/* The format or coding that a tensor is in. */
static const char *name_of(const qd_cli_change *c, const qd_storage *s, char buffer[64]) {
    if (!c->src.rows) return qd_format_get(c->tensor.desc.format)->name; /* integers */
    qd_storage_name(s, buffer, 64);
    return buffer;
}

void qd_cli_report_fallbacks(const qd_cli_plan *p) {
    for (int64_t i = 0; i < p->count; i++) {
        const qd_cli_change *c = &p->changes[i];
        int64_t alike = 0;
        for (int64_t j = 0; c->instead && j < p->count; j++) {
            const qd_cli_change *d = &p->changes[j];
            if (!d->instead || d->src.cols != c->src.cols || !qd_storage_equal(&d->wanted, &c->wanted)) continue;
            if (j < i) break; /* told already */
            alike++;
        }
        if (!alike) continue;
        char wanted[64], got[64];
        qd_storage_name(&c->wanted, wanted, sizeof wanted);
        qd_storage_name(&c->to, got, sizeof got);
        fprintf(stderr, "note: rows of %lld weights cannot be %s: %lld tensor%s (%s%s) %s %s\n", (long long)c->src.cols,
                wanted, (long long)alike, alike > 1 ? "s" : "", c->name, alike > 1 ? " …" : "",
                alike > 1 ? "are" : "is", got);
    }
}

typedef struct sums {
    qd_loss loss; /* of what was quantized */
    double weights, bytes, quantized_bytes;
    int64_t quantized;
} sums;

static sums sum_up(const qd_cli_plan *p) {
    sums s = {.loss = {0}};
    for (int64_t i = 0; i < p->count; i++) {
        const qd_cli_change *c = &p->changes[i];
        s.weights += weights_of(c);
        s.bytes += (double)c->bytes;
        if (c->keep) continue;
        s.quantized++;
        s.quantized_bytes += (double)c->bytes;
        qd_loss_add(&s.loss, &c->loss);
    }
    return s;
}

/* ---- Text --------------------------------------------------------------------------------------------------- */

static void print_loss(const qd_loss *l, double bytes) {
    printf("%7.3f  %9.3g  %9.3g  ", 8 * bytes / l->count, l->absolute / l->count, l->largest);
    if (isnan(l->steps)) {
        printf("%8s", "-");
    } else {
        printf("%8.3f", l->steps);
    }
    printf("  %7.2f  %9.7f\n", qd_loss_snr(l), qd_loss_cosine(l));
}

void qd_cli_report_text(const qd_cli_plan *p, const qd_cli_outcome *o) {
    int width = 6;
    for (int64_t i = 0; i < p->count; i++) {
        if ((int)strlen(p->changes[i].name) > width) width = (int)strlen(p->changes[i].name);
    }
    printf("%-*s  %-10s  %-12s  %7s  %9s  %9s  %8s  %7s  %9s\n", width, "tensor", "from", "to", "bits", "mean", "max",
           "max/step", "SNR dB", "cosine");
    int64_t kept = 0;
    for (int64_t i = 0; i < p->count; i++) {
        const qd_cli_change *c = &p->changes[i];
        char from[64], to[64];
        kept += c->keep;
        if (c->keep) continue;
        printf("%-*s  %-10s  %-12s  ", width, c->name, name_of(c, &c->src.storage, from), name_of(c, &c->to, to));
        print_loss(&c->loss, (double)c->bytes);
    }
    const sums s = sum_up(p);
    char in[24], out[24];
    if (s.quantized) {
        printf("%-*s  %-10s  %-12s  ", width, "all of these", "", "");
        print_loss(&s.loss, s.quantized_bytes);
    }
    printf("\n%s: %s, was %s; %.3f bits per weight in all; %lld tensors quantized, %lld as they were; %.1f s\n",
           o->output, qd_cli_size(o->output_bytes, out), qd_cli_size(o->input_bytes, in),
           s.weights > 0 ? 8 * s.bytes / s.weights : 0, (long long)s.quantized, (long long)kept, o->seconds);
}

/* ---- JSON --------------------------------------------------------------------------------------------------- */

/* cJSON makes null of what is not finite. */
static void add_loss(cJSON *o, const qd_loss *l, double bytes) {
    cJSON_AddNumberToObject(o, "bits_per_weight", 8 * bytes / l->count);
    cJSON_AddNumberToObject(o, "mean_error", l->absolute / l->count);
    cJSON_AddNumberToObject(o, "max_error", l->largest);
    cJSON_AddNumberToObject(o, "max_error_steps", l->steps);
    cJSON_AddNumberToObject(o, "snr_db", qd_loss_snr(l));
    cJSON_AddNumberToObject(o, "cosine", qd_loss_cosine(l));
}

static void add_tensor(cJSON *list, const qd_cli_change *c) {
    char name[64];
    cJSON *o = cJSON_CreateObject();
    cJSON_AddItemToArray(list, o);
    qd_cli_json_text(o, "name", c->name, strlen(c->name));
    cJSON *shape = cJSON_AddArrayToObject(o, "shape");
    for (int i = 0; i < c->tensor.desc.rank; i++) {
        const bool last = i == c->tensor.desc.rank - 1;
        cJSON_AddItemToArray(shape,
                             cJSON_CreateNumber((double)(last && c->src.rows ? c->src.cols : c->tensor.desc.shape[i])));
    }
    cJSON_AddStringToObject(o, "from", name_of(c, &c->src.storage, name));
    cJSON_AddStringToObject(o, "to", name_of(c, &c->to, name));
    if (c->instead) {
        qd_storage_name(&c->wanted, name, sizeof name);
        cJSON_AddStringToObject(o, "instead_of", name);
    }
    cJSON_AddBoolToObject(o, "kept", c->keep);
    cJSON_AddNumberToObject(o, "bytes", (double)c->bytes);
    if (!c->keep) add_loss(o, &c->loss, (double)c->bytes);
}

int qd_cli_report_json(const qd_cli_plan *p, const qd_cli_outcome *o) {
    const sums s = sum_up(p);
    cJSON *root = cJSON_CreateObject();
    qd_cli_json_text(root, "input", o->input, strlen(o->input));
    qd_cli_json_text(root, "output", o->output, strlen(o->output));
    cJSON_AddNumberToObject(root, "input_bytes", (double)o->input_bytes);
    cJSON_AddNumberToObject(root, "bytes", (double)o->output_bytes);
    cJSON_AddNumberToObject(root, "seconds", o->seconds);
    cJSON_AddNumberToObject(root, "bits_per_weight", s.weights > 0 ? 8 * s.bytes / s.weights : 0);
    cJSON *list = cJSON_AddArrayToObject(root, "tensors");
    for (int64_t i = 0; i < p->count; i++)
        add_tensor(list, &p->changes[i]);
    cJSON *total = cJSON_AddObjectToObject(root, "quantized");
    cJSON_AddNumberToObject(total, "tensors", (double)s.quantized);
    cJSON_AddNumberToObject(total, "bytes", s.quantized_bytes);
    if (s.quantized) add_loss(total, &s.loss, s.quantized_bytes);
    return qd_cli_print_json(root);
}
