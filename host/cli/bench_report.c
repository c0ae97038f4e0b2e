/* What `qdot bench --peers` shows: text, JSON, and the roofline chart. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/bench_peers.h"
#include "cli/page.h"
#include "cli/plot.h"

static bool is_there(const qd_bench_comparison *x, int peer) {
    for (int i = 0; i < x->count; i++) {
        if (x->results[i].parts[peer].done) return true;
    }
    return false;
}

/* ---- Text --------------------------------------------------------------------------------------------------- */

static void print_head(const qd_bench_comparison *x, const qd_device_info *d) {
    const qd_bench_machine *m = &x->machine;
    printf("device         %s (%s), %u threads\n", d->id, d->name, x->threads);
    printf("machine        %s, %ld processors: %s; caches %s\n", m->processor, m->processors, m->features, m->caches);
    printf("memory roof    %8.2f GB/s, read by as many threads\n", 1e-9 * x->read_rate);
    printf("codes          %8.0f GOP/s in registers (%s)\n", 1e-9 * x->peak.codes, x->peak.codes_by);
    printf("floats         %8.0f GFLOP/s in registers (%s)\n", 1e-9 * x->peak.floats, x->peak.floats_by);
    for (int i = 0; i < x->peer_count; i++) {
        const qd_bench_peer *p = &x->peers[i];
        printf("peer           %s %s%s%s\n", p->name, p->version, p->pid == 0 ? ", gone: " : "",
               p->pid == 0 ? p->why : "");
    }
    if (*x->absent) printf("absent         %s (sh tests/bench/peers.sh brings peers)\n", x->absent);
    printf("%d rounds; each ratio is qdot's speed divided by the peer's, +- half of most minus least\n",
           x->effort.runs);
}

static void print_time(double seconds) {
    if (seconds < 1e-3) {
        printf(" %7.1f us", 1e6 * seconds);
    } else {
        printf(" %7.2f ms", 1e3 * seconds);
    }
}

static void print_row(const qd_bench_comparison *x, const qd_bench_result *r) {
    const qd_bench_work *w = r->work;
    const double s = r->seconds.median;
    printf("%-36s", w->name);
    print_time(s);
    printf(" %4.0f%%", qd_bench_percent(&r->seconds));
    if (w->tokens > 0) {
        printf(" %8.1f tokens/s", (double)w->tokens / s);
    } else {
        printf(" %8.1f %8.2f", 1e-9 * w->operations / s, 1e-9 * w->bytes / s);
    }
    printf(" %4.0f%%", 100 * qd_bench_of_roof(x, w, s));
    for (int i = 0; i < x->peer_count; i++) {
        const qd_bench_part *p = &r->parts[i];
        if (!is_there(x, i)) continue;
        if (p->done) {
            printf("  %6.2f +-%4.0f%%%s  ", p->ratio.median, qd_bench_percent(&p->ratio), p->differs ? "*" : " ");
        } else {
            printf("  %16s", "-");
        }
    }
    if (r->others >= 0) printf(" %5.0f%%", 100 * r->others);
    printf("  %s\n", r->kernel);
}

static void print_summary(const char *kind, const char *peer, const qd_bench_summary *s) {
    if (s->works == 0) return;
    printf("%-9s %-22s %3d works, geometric mean %5.2f, %2d below 0.8, least %.2f (%s)\n", kind, peer, s->works,
           s->mean, s->below, s->least, s->least_name);
}

void qd_bench_print_comparison(const qd_bench_comparison *x, const qd_device_info *d) {
    bool differs = false, busy = false;
    print_head(x, d);
    printf("\n%-36s %10s %5s %8s %8s %5s", "work", "time", "+-", "GOP/s", "GB/s", "roof");
    for (int i = 0; i < x->peer_count; i++) {
        if (is_there(x, i)) printf("  %-16.16s", x->peers[i].name);
    }
    printf(" %6s  %s\n", "others", "kernel");
    for (int i = 0; i < x->count; i++) {
        print_row(x, &x->results[i]);
        busy = busy || x->results[i].others > 0.1;
        for (int p = 0; p < x->peer_count; p++)
            differs = differs || x->results[i].parts[p].differs;
    }
    printf("\n");
    for (int kind = 0; kind < QD_BENCH_KINDS; kind++) {
        for (int i = -1; i < x->peer_count; i++) {
            const qd_bench_summary s = qd_bench_summarize_kind(x, (qd_bench_kind)kind, i);
            print_summary(qd_bench_kind_name((qd_bench_kind)kind), i < 0 ? "the fastest peer" : x->peers[i].name, &s);
        }
    }
    for (int i = 0; i < x->peer_count; i++) {
        const qd_bench_peer *p = &x->peers[i];
        for (int k = 0; k < x->count; k++) {
            const qd_bench_part *part = &x->results[k].parts[i];
            if (part->done || !*part->note || (k > 0 && strcmp(part->note, x->results[k - 1].parts[i].note) == 0))
                continue;
            printf("%s: from %s on: %s\n", p->name, x->results[k].work->name, part->note);
        }
    }
    if (differs) printf("* its results are others than qdot's\n");
    if (busy) printf("Other programs used more than a tenth of the cores: these ratios say little.\n");
}

/* ---- JSON --------------------------------------------------------------------------------------------------- */

static cJSON *add_object(cJSON *list) {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddItemToArray(list, o);
    return o;
}

static void add_result(const qd_bench_comparison *x, cJSON *list, const qd_bench_result *r) {
    const qd_bench_work *w = r->work;
    cJSON *o = add_object(list);
    cJSON_AddStringToObject(o, "name", w->name);
    cJSON_AddStringToObject(o, "kind", qd_bench_kind_name(w->kind));
    cJSON_AddNumberToObject(o, "operations", w->operations);
    cJSON_AddNumberToObject(o, "bytes", w->bytes);
    if (w->tokens > 0) cJSON_AddNumberToObject(o, "tokens", (double)w->tokens);
    cJSON_AddStringToObject(o, "kernel", r->kernel);
    qd_bench_add_spread(o, "seconds", &r->seconds);
    cJSON_AddNumberToObject(o, "of_roof", qd_bench_of_roof(x, w, r->seconds.median));
    if (r->others >= 0) cJSON_AddNumberToObject(o, "others", r->others);
    cJSON *parts = cJSON_AddArrayToObject(o, "peers");
    for (int i = 0; i < x->peer_count; i++) {
        const qd_bench_part *p = &r->parts[i];
        cJSON *part = add_object(parts);
        cJSON_AddStringToObject(part, "name", x->peers[i].name);
        if (!p->done) {
            cJSON_AddStringToObject(part, "why_not", p->note);
            continue;
        }
        qd_bench_add_spread(part, "seconds", &p->seconds);
        qd_bench_add_spread(part, "ratio", &p->ratio);
        cJSON_AddBoolToObject(part, "differs", p->differs);
    }
}

static void add_summary(cJSON *list, const char *kind, const char *peer, const qd_bench_summary *s) {
    if (s->works == 0) return;
    cJSON *o = add_object(list);
    cJSON_AddStringToObject(o, "kind", kind);
    cJSON_AddStringToObject(o, "peer", peer);
    cJSON_AddNumberToObject(o, "works", s->works);
    cJSON_AddNumberToObject(o, "geometric_mean", s->mean);
    cJSON_AddNumberToObject(o, "below_0.8", s->below);
    cJSON_AddNumberToObject(o, "least", s->least);
    cJSON_AddStringToObject(o, "least_name", s->least_name);
}

int qd_bench_print_comparison_json(const qd_bench_comparison *x, const qd_device_info *d) {
    cJSON *root = cJSON_CreateObject();
    cJSON_AddStringToObject(root, "version", qd_version());
    cJSON_AddStringToObject(root, "device", d->id);
    cJSON_AddStringToObject(root, "name", d->name);
    cJSON *machine = cJSON_AddObjectToObject(root, "machine");
    cJSON_AddStringToObject(machine, "processor", x->machine.processor);
    cJSON_AddNumberToObject(machine, "processors", (double)x->machine.processors);
    cJSON_AddStringToObject(machine, "features", x->machine.features);
    cJSON_AddStringToObject(machine, "caches", x->machine.caches);
    cJSON_AddNumberToObject(root, "threads", x->threads);
    cJSON *roof = cJSON_AddObjectToObject(root, "roof");
    cJSON_AddNumberToObject(roof, "memory_gb_per_s", 1e-9 * x->read_rate);
    cJSON_AddNumberToObject(roof, "codes_gop_per_s", 1e-9 * x->peak.codes);
    cJSON_AddStringToObject(roof, "codes_by", x->peak.codes_by);
    cJSON_AddNumberToObject(roof, "floats_gflop_per_s", 1e-9 * x->peak.floats);
    cJSON_AddStringToObject(roof, "floats_by", x->peak.floats_by);
    cJSON *peers = cJSON_AddArrayToObject(root, "peers");
    for (int i = 0; i < x->peer_count; i++) {
        cJSON *p = add_object(peers);
        cJSON_AddStringToObject(p, "name", x->peers[i].name);
        cJSON_AddStringToObject(p, "version", x->peers[i].version);
        if (x->peers[i].pid == 0) cJSON_AddStringToObject(p, "gone", x->peers[i].why);
    }
    cJSON_AddStringToObject(root, "absent", x->absent);
    cJSON *works = cJSON_AddArrayToObject(root, "works");
    for (int i = 0; i < x->count; i++)
        add_result(x, works, &x->results[i]);
    cJSON *summary = cJSON_AddArrayToObject(root, "summary");
    for (int kind = 0; kind < QD_BENCH_KINDS; kind++) {
        for (int i = -1; i < x->peer_count; i++) {
            const qd_bench_summary s = qd_bench_summarize_kind(x, (qd_bench_kind)kind, i);
            add_summary(summary, qd_bench_kind_name((qd_bench_kind)kind), i < 0 ? "fastest" : x->peers[i].name, &s);
        }
    }
    return qd_cli_print_json(root);
}

/* ---- Chart -------------------------------------------------------------------------------------------------- */

static const char *colour(int who) {
    static const char *const colours[] = {"#1b7837", "#d6604d", "#4393c3", "#762a83", "#f4a582",
                                          "#92c5de", "#c2a5cf", "#7a7a7a", "#b8b8b8"};
    return colours[who % (int)(sizeof colours / sizeof colours[0])];
}

static void draw_point(FILE *f, const qd_cli_plot *p, const qd_bench_work *w, const char *who, int number,
                       double seconds) {
    fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\" fill-opacity=\"0.6\"><title>",
            qd_cli_plot_x(p, w->operations / w->bytes), qd_cli_plot_y(p, w->operations / seconds), colour(number));
    qd_cli_page_text(f, who);
    fprintf(f, ", ");
    qd_cli_page_text(f, w->name);
    fprintf(f, ": %.1f GOP/s</title></circle>\n", 1e-9 * w->operations / seconds);
}

static void draw_roof(FILE *f, const qd_cli_plot *p, double rate, double peak, const char *by, const char *what) {
    char name[96];
    snprintf(name, sizeof name, "%s: %.0f GOP/s (%s), %.1f GB/s", what, 1e-9 * peak, by, 1e-9 * rate);
    qd_cli_plot_roof(f, p, rate, peak, name);
}

static void draw_legend(FILE *f, const char *who, int number, int *x) {
    const int y = QD_CLI_PLOT_TOP + QD_CLI_PLOT_HEIGHT + 36;
    fprintf(f, "<circle cx=\"%d\" cy=\"%d\" r=\"4\" fill=\"%s\"/><text x=\"%d\" y=\"%d\">", *x, y - 4, colour(number),
            *x + 8, y);
    qd_cli_page_text(f, who);
    fprintf(f, "</text>\n");
    *x += 28 + 7 * (int)strlen(who);
}

bool qd_bench_draw_comparison(const qd_bench_comparison *x, const char *path) {
    double x_low = 1, x_high = 10, y_low = 1e9;
    for (int i = 0; i < x->count; i++) {
        const qd_bench_work *w = x->results[i].work;
        double slowest = x->results[i].seconds.median;
        for (int p = 0; p < x->peer_count; p++)
            slowest = fmax(slowest, x->results[i].parts[p].seconds.median);
        x_low = fmin(x_low, w->operations / w->bytes);
        x_high = fmax(x_high, w->operations / w->bytes);
        y_low = fmin(y_low, w->operations / slowest);
    }
    const qd_cli_plot p = {qd_cli_plot_decade(x_low, false), qd_cli_plot_decade(x_high, true),
                           qd_cli_plot_decade(y_low, false),
                           qd_cli_plot_decade(1.5 * fmax(x->peak.codes, x->peak.floats), true)};
    FILE *f = qd_cli_page_open(path);
    if (!f) return false;
    fprintf(f,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 960 %d\" role=\"img\" aria-label=\"roofline\">\n"
            "<style>text{font:12px sans-serif}.grid{stroke:#ddd}.roof{fill:none;stroke:#333;stroke-width:2}</style>\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
            QD_CLI_PLOT_TOP + QD_CLI_PLOT_HEIGHT + 44);
    qd_cli_plot_axes(f, &p, 1e-9, "operations for each byte", "GOP/s");
    draw_roof(f, &p, x->read_rate, x->peak.codes, x->peak.codes_by, "codes");
    draw_roof(f, &p, x->read_rate, x->peak.floats, x->peak.floats_by, "floats");
    for (int i = 0; i < x->count; i++) {
        const qd_bench_result *r = &x->results[i];
        for (int k = 0; k < x->peer_count; k++) {
            if (r->parts[k].done) draw_point(f, &p, r->work, x->peers[k].name, k + 1, r->parts[k].seconds.median);
        }
        draw_point(f, &p, r->work, "qdot", 0, r->seconds.median);
    }
    int at = QD_CLI_PLOT_LEFT;
    draw_legend(f, "qdot", 0, &at);
    for (int k = 0; k < x->peer_count; k++) {
        if (is_there(x, k)) draw_legend(f, x->peers[k].name, k + 1, &at);
    }
    fprintf(f, "</svg>\n");
    return qd_cli_page_close(f, path);
}
