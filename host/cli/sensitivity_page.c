/* The page of `qdot sensitivity`: a chart for each format, a bar for each part in the order of the file. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/page.h"
#include "cli/sensitivity.h"

enum { WIDTH = 960, HEIGHT = 190, LEFT = 64, RIGHT = 8, TOP = 8, BOTTOM = 24, RANKED = 20 };

static const char style[] =
    "body{font:14px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1000px;padding:0 1em;color:#222}"
    "h1{font-size:1.5em;margin-bottom:.1em}h2{font-size:1.15em;margin-top:1.6em;margin-bottom:.2em}"
    "svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:#333}.axis{stroke:#333}.grid{stroke:#ddd}"
    ".layer{fill:#f4f4f4}.estimated{opacity:.5}"
    "table{border-collapse:collapse}th,td{padding:.2em .7em;text-align:right;border-bottom:1px solid #e5e5e5}"
    "th:first-child,td:first-child,td.text{text-align:left}.note{color:#666}"
    ".key span{margin-right:1em;white-space:nowrap}"
    ".key i{display:inline-block;width:.9em;height:.9em;margin-right:.35em;vertical-align:-.1em}";

/* Bars of one kind of matrix have one colour. */
static const struct {
    const char *part, *what, *colour;
} kinds[] = {{".attn_q.", "query", "#1b7837"},       {".attn_k.", "key", "#7fbf7b"},
             {".attn_v.", "value", "#00441b"},       {".attn_output.", "attention output", "#4393c3"},
             {".ffn_gate.", "gate", "#f4a582"},      {".ffn_up.", "up", "#d6604d"},
             {".ffn_down.", "down", "#b2182b"},      {"token_embd", "embedding", "#762a83"},
             {"output.weight", "output", "#333333"}, {"", "layer", "#4d7ea8"}};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static int kind_of(const char *name) {
    int k = 0;
    while (!strstr(name, kinds[k].part))
        k++;
    return k;
}

/* Every format that was measured anywhere, in the order in which they appear; at most `room` of them. */
static int formats_of(const qd_sensitivity *s, qd_storage *out, int room) {
    int n = 0;
    for (int i = 0; i < s->parts; i++) {
        for (int k = 0; k < s->part[i].results; k++) {
            bool known = n == room;
            for (int j = 0; j < n && !known; j++)
                known = qd_storage_equal(&out[j], &s->part[i].result[k].to);
            if (!known) out[n++] = s->part[i].result[k].to;
        }
    }
    return n;
}

/* The decades that hold all divergences; what is smaller than the least of them, 0 also, has no bar. */
static void scale_of(const qd_sensitivity *s, int *low, int *high) {
    double least = (double)INFINITY, most = 0;
    for (int i = 0; i < s->parts; i++) {
        for (int k = 0; k < s->part[i].results; k++) {
            const double d = s->part[i].result[k].divergence;
            most = fmax(most, d);
            if (d > 1e-9) least = fmin(least, d);
        }
    }
    *high = most > 1e-9 ? (int)ceil(log10(most)) : 0;
    *low = most > 1e-9 ? (int)floor(log10(least)) : -1;
    if (*low >= *high) *low = *high - 1;
}

static double y_of(double divergence, int low, int high) {
    const double share = divergence > 0 ? (log10(divergence) - low) / (high - low) : 0;
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - fmin(fmax(share, 0), 1));
}

/* The number of a layer's matrix; -1: it belongs to none. */
static int layer_of(const char *name) {
    return strncmp(name, "blk.", 4) == 0 ? atoi(name + 4) : -1;
}

/* A power of ten as it is written. */
static void put_power(FILE *f, int exponent) {
    if (exponent >= -2 && exponent <= 2) {
        fprintf(f, "%g", pow(10, exponent));
    } else {
        fprintf(f, "10<tspan dy=\"-4\" font-size=\"8\">%d</tspan>", exponent);
    }
}

/* Every other layer has a band; every fifth its number. */
static void draw_layers(FILE *f, const qd_sensitivity *s, double step) {
    for (int i = 0, end; i < s->parts; i = end) {
        const int layer = layer_of(s->part[i].name);
        for (end = i + 1; end < s->parts && layer_of(s->part[end].name) == layer; end++) {}
        if (layer % 2 == 1) {
            fprintf(f, "<rect class=\"layer\" x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"%d\"/>\n", LEFT + step * i,
                    TOP, step * (end - i), HEIGHT - TOP - BOTTOM);
        }
        if (layer >= 0 && layer % 5 == 0) {
            fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%d</text>\n", LEFT + step * (i + end) / 2,
                    HEIGHT - 8, layer);
        }
    }
}

static void draw_axes(FILE *f, const qd_sensitivity *s, double step, int low, int high) {
    draw_layers(f, s, step);
    for (int d = low; d <= high; d++) {
        const double y = y_of(pow(10, d), low, high);
        fprintf(f, "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT, WIDTH - RIGHT, y, y);
        fprintf(f, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", LEFT - 6, y + 4);
        put_power(f, d);
        fputs("</text>\n", f);
    }
    fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">layer</text>\n", LEFT - 6, HEIGHT - 8);
    fprintf(f, "<text transform=\"translate(12 %d) rotate(-90)\" text-anchor=\"middle\">KL, nats</text>\n",
            (HEIGHT - BOTTOM + TOP) / 2);
    fprintf(f, "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>\n", LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM,
            HEIGHT - BOTTOM);
}

static void draw_chart(FILE *f, const qd_sensitivity *s, const qd_storage *to, int low, int high) {
    const double step = (double)(WIDTH - LEFT - RIGHT) / s->parts;
    fprintf(f, "<svg viewBox=\"0 0 %d %d\" role=\"img\">\n", WIDTH, HEIGHT);
    draw_axes(f, s, step, low, high);
    for (int i = 0; i < s->parts; i++) {
        const qd_sensitivity_result *r = qd_sensitivity_find(&s->part[i], to);
        if (!r) continue;
        const double y = y_of(r->divergence, low, high);
        fprintf(f, "<rect class=\"%s\" x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" fill=\"%s\"><title>",
                r->estimated ? "estimated" : "measured", LEFT + step * (i + 0.1), y, fmax(0.8 * step, 0.5),
                HEIGHT - BOTTOM - y, kinds[kind_of(s->part[i].name)].colour);
        qd_cli_page_text(f, s->part[i].name);
        fprintf(f, ": %sKL %.3g ± %.1g, perplexity %+.4f, SNR %.1f dB</title></rect>\n",
                r->estimated ? "estimated " : "", r->divergence, r->divergence_error,
                qd_cli_perplexity_change(s, r->nll_change), qd_loss_snr(&r->loss));
    }
    fputs("</svg>\n", f);
}

/* ---- The tables --------------------------------------------------------------------------------------------- */

typedef struct ranked {
    const qd_sensitivity_part *part;
    const qd_sensitivity_result *result;
} ranked;

static int by_divergence(const void *a, const void *b) {
    const double x = ((const ranked *)a)->result->divergence, y = ((const ranked *)b)->result->divergence;
    return (x < y) - (x > y);
}

static bool write_ranking(FILE *f, const qd_sensitivity *s) {
    char name[64];
    int n = 0;
    for (int i = 0; i < s->parts; i++)
        n += s->part[i].results;
    ranked *all = malloc(((size_t)n + 1) * sizeof *all);
    if (!all) {
        qd_cli_fail("out of memory");
        return false;
    }
    n = 0;
    for (int i = 0; i < s->parts; i++) {
        for (int k = 0; k < s->part[i].results; k++) {
            if (!s->part[i].result[k].estimated) all[n++] = (ranked){&s->part[i], &s->part[i].result[k]};
        }
    }
    qsort(all, (size_t)n, sizeof *all, by_divergence);
    fputs(
        "<h2>The most sensitive, of what was "
        "measured</h2>\n<table><tr><th>part</th><th>format</th><th>bits</th><th>MiB saved</th>"
        "<th>SNR, dB</th><th>KL, nats</th><th>±</th><th>perplexity</th></tr>\n",
        f);
    for (int i = 0; i < n && i < RANKED; i++) {
        const qd_sensitivity_result *r = all[i].result;
        qd_storage_name(&r->to, name, sizeof name);
        fputs("<tr><td>", f);
        qd_cli_page_text(f, all[i].part->name);
        fprintf(
            f, "</td><td>%s</td><td>%.3f</td><td>%.2f</td><td>%.2f</td><td>%.3g</td><td>%.1g</td><td>%+.3f</td></tr>\n",
            name, 8 * r->bytes / qd_sensitivity_weights(all[i].part),
            (qd_cli_part_bytes(all[i].part) - r->bytes) / 1048576, qd_loss_snr(&r->loss), r->divergence,
            r->divergence_error, qd_cli_perplexity_change(s, r->nll_change));
    }
    fputs("</table>\n", f);
    free(all);
    return true;
}

/* What each format would make of all parts: costs are taken to add up. */
static void write_sums(FILE *f, const qd_sensitivity *s, const qd_storage *formats, int n) {
    char name[64];
    fputs(
        "<h2>All parts in one format</h2>\n<table><tr><th>format</th><th>parts</th><th>bits</th><th>MiB saved</th>"
        "<th>sum of KL, nats</th></tr>\n",
        f);
    for (int i = 0; i < n; i++) {
        double weights = 0, bytes = 0, saved = 0, divergence = 0;
        int parts = 0;
        bool estimated = false;
        for (int k = 0; k < s->parts; k++) {
            const qd_sensitivity_result *r = qd_sensitivity_find(&s->part[k], &formats[i]);
            if (!r) continue;
            parts++;
            weights += qd_sensitivity_weights(&s->part[k]);
            bytes += r->bytes;
            saved += qd_cli_part_bytes(&s->part[k]) - r->bytes;
            divergence += r->divergence;
            estimated |= r->estimated;
        }
        qd_storage_name(&formats[i], name, sizeof name);
        fprintf(f, "<tr><td>%s</td><td>%d</td><td>%.3f</td><td>%.1f</td><td>%s%.3g</td></tr>\n", name, parts,
                8 * bytes / weights, saved / 1048576, estimated ? "≈ " : "", divergence);
    }
    fputs("</table>\n", f);
}

/* ---- The page ----------------------------------------------------------------------------------------------- */

static bool any_estimated(const qd_sensitivity *s) {
    for (int i = 0; i < s->parts; i++) {
        for (int k = 0; k < s->part[i].results; k++) {
            if (s->part[i].result[k].estimated) return true;
        }
    }
    return false;
}

static void write_key(FILE *f, const qd_sensitivity *s) {
    bool used[KINDS] = {false};
    for (int i = 0; i < s->parts; i++)
        used[kind_of(s->part[i].name)] = true;
    fputs("<p class=\"key\">", f);
    for (int k = 0; k < KINDS; k++) {
        if (used[k]) fprintf(f, "<span><i style=\"background:%s\"></i>%s</span>\n", kinds[k].colour, kinds[k].what);
    }
    if (any_estimated(s)) fputs("<span>paler: estimated from another format</span>\n", f);
    fputs("</p>\n", f);
}

bool qd_cli_sensitivity_page(const qd_sensitivity *s, const char *model, const char *path) {
    enum { MOST = 64 };
    qd_storage formats[MOST];
    char name[64];
    int low, high;
    FILE *f = qd_cli_page_open(path);
    if (!f) return false;
    const int n = formats_of(s, formats, MOST);
    scale_of(s, &low, &high);
    fprintf(f,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>qdot sensitivity</title>\n"
            "<style>%s</style></head><body>\n<h1>Sensitivity</h1>\n<p class=\"note\">",
            style);
    qd_cli_page_text(f, model);
    fprintf(f,
            ": one %s at a time in another format, over %lld tokens. Perplexity as it is: %.4f. Bars are mean "
            "Kullback-Leibler divergences of the predictions from the model's own, in nats, on a logarithmic "
            "scale.</p>\n",
            s->by_layer ? "layer" : "tensor", (long long)s->tokens, qd_cli_base_perplexity(s));
    write_sums(f, s, formats, n);
    write_key(f, s);
    for (int i = 0; i < n; i++) {
        qd_storage_name(&formats[i], name, sizeof name);
        fprintf(f, "<h2>%s</h2>\n", name);
        draw_chart(f, s, &formats[i], low, high);
    }
    const bool right = write_ranking(f, s);
    fputs("</body></html>\n", f);
    return qd_cli_page_close(f, path) && right;
}
