/* A report as one page that needs nothing else: no script, no font, no picture from anywhere. */
#include <stdlib.h>
#include <string.h>

#include "cli/page.h"
#include "cli/sim.h"

static const char style[] =
    "body{font:14px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1000px;padding:0 "
    "1em;color:#222;background:#fff}"
    "h1{font-size:1.5em;margin-bottom:.1em}h2{font-size:1.15em;margin-top:1.8em}svg{width:100%;height:auto}"
    "svg text{font:12px system-ui,sans-serif;fill:#333}.bins "
    "rect{shape-rendering:crispEdges}.axis{stroke:#333}.grid{stroke:#ddd}"
    ".front{fill:none;stroke:#b2182b;stroke-width:2}.roof{fill:none;stroke:#b2182b;stroke-width:2}"
    ".facts{display:flex;flex-wrap:wrap;gap:.8em;padding:0;margin:1em 0}"
    ".facts li{list-style:none;background:#f3f4f6;border-radius:6px;padding:.5em .9em}"
    ".facts b{display:block;font-size:1.25em}"
    "table{border-collapse:collapse;width:100%}th,td{padding:.25em .5em;text-align:right;border-bottom:1px solid "
    "#e5e5e5}"
    "th:first-child,td:first-child,td.text{text-align:left}"
    ".key span,.bar i{display:inline-block}.key span{margin-right:1em;white-space:nowrap}"
    ".key i{display:inline-block;width:.9em;height:.9em;margin-right:.35em;vertical-align:-.1em}"
    ".bar{display:flex;height:.9em;min-width:140px;background:#eee}.bar i{height:100%}.note{color:#666}";

static void fact(FILE *f, const char *what, const char *format, double value) {
    fprintf(f, "<li><b>");
    fprintf(f, format, value); /* a literal of this file */
    fprintf(f, "</b>%s</li>\n", what);
}

static void write_facts(FILE *f, const qd_cli_sim_work *w) {
    const qd_sim_report *r = w->report;
    double all = 0;
    for (int i = 0; i < QD_SIM_TRAFFIC; i++)
        all += (double)r->bytes[i];
    fprintf(f, "<ul class=\"facts\">\n");
    fact(f, w->unit, "%.2f/s", qd_cli_sim_rate(w));
    fact(f, "in all", "%.3f ms", 1e3 * r->seconds);
    fact(f, "cycles", "%.0f", (double)r->cycles);
    fact(f, "of the array's products", "%.1f %%", 100 * r->utilization);
    fact(f, "through memory", "%.2f GB/s", 1e-9 * all / r->seconds);
    fact(f, "that memory can do", "%.2f GB/s", 1e-9 * r->memory_rate);
    fprintf(f, "</ul>\n");
}

static void write_key(FILE *f, const qd_sim_report *r) {
    fprintf(f, "<p class=\"key\">\n");
    for (int c = 0; c < QD_SIM_CAUSES; c++) {
        if (r->cause[c])
            fprintf(f, "<span><i style=\"background:%s\"></i>%s</span>\n", qd_cli_sim_colour((qd_sim_cause)c),
                    qd_sim_cause_name((qd_sim_cause)c));
    }
    fprintf(f, "</p>\n");
}

static void write_causes(FILE *f, const qd_sim_report *r) {
    fprintf(f, "<table id=\"causes\"><tr><th>cause</th><th>cycles</th><th>share</th><th></th></tr>\n");
    for (int c = 0; c < QD_SIM_CAUSES; c++) {
        if (!r->cause[c]) continue;
        fprintf(f, "<tr><td>%s</td><td>%llu</td><td>%.2f %%</td><td class=\"text\">%s</td></tr>\n",
                qd_sim_cause_name((qd_sim_cause)c), (unsigned long long)r->cause[c],
                100 * (double)r->cause[c] / (double)r->cycles, qd_sim_cause_text((qd_sim_cause)c));
    }
    fprintf(f, "<tr><td>all</td><td>%llu</td><td>100 %%</td><td></td></tr></table>\n", (unsigned long long)r->cycles);
}

static void write_memory(FILE *f, const qd_sim_report *r) {
    fprintf(f, "<table id=\"traffic\"><tr><th>stream</th><th>bytes</th></tr>\n");
    for (int i = 0; i < QD_SIM_TRAFFIC; i++)
        fprintf(f, "<tr><td>%s</td><td>%llu</td></tr>\n", qd_sim_traffic_name((qd_sim_traffic)i),
                (unsigned long long)r->bytes[i]);
    fprintf(f, "</table>\n<p>By channel:");
    for (int i = 0; i < r->channels; i++)
        fprintf(f, " %llu", (unsigned long long)r->channel_bytes[i]);
    fprintf(f, "</p>\n");
}

static void write_groups(FILE *f, const qd_sim_report *r, const qd_cli_sim_group *groups, int count) {
    fprintf(f,
            "<table id=\"layers\"><tr><th>operator</th><th>times</th><th>cycles</th><th>share</th><th>array</th>"
            "<th>bytes</th><th>cycles by cause</th></tr>\n");
    for (int g = 0; g < count; g++) {
        const qd_cli_sim_group *x = &groups[g];
        fprintf(f, "<tr><td>");
        qd_cli_page_text(f, x->first->task.name);
        fprintf(f, "</td><td>%d</td><td>%.0f</td><td>%.1f %%</td><td>%.1f %%</td><td>%.0f</td><td><div class=\"bar\">",
                x->count, x->cycles, 100 * x->cycles / (double)r->cycles, 100 * qd_cli_sim_utilization(r, x), x->bytes);
        for (int c = 0; c < QD_SIM_CAUSES; c++) {
            const double part = 100 * x->cause[c] / x->cycles;
            if (part > 0)
                fprintf(f, "<i style=\"width:%.2f%%;background:%s\" title=\"%s %.1f %%\"></i>", part,
                        qd_cli_sim_colour((qd_sim_cause)c), qd_sim_cause_name((qd_sim_cause)c), part);
        }
        fprintf(f, "</div></td></tr>\n");
    }
    fprintf(f, "</table>\n");
}

static void write_head(FILE *f, const char *what, const char *title, const char *board) {
    fprintf(f, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><title>");
    qd_cli_page_text(f, what);
    fprintf(f, "%s %s</title><style>%s</style></head>\n<body><h1>", title, board, style);
    qd_cli_page_text(f, what);
    fprintf(f, "%s %s</h1>\n", title, board);
}

static void write_page(FILE *f, const qd_cli_sim_work *w, const qd_cli_sim_group *groups, int count) {
    const qd_sim_report *r = w->report;
    const qd_sim_resources *s = &r->resources;
    char design[160];
    qd_cli_sim_design_text(&r->design, design, sizeof design);
    write_head(f, w->what, " on", r->board);
    fprintf(f, "<p>%s. %lld of %lld LUTs, %lld of %lld DSP blocks, %lld of %lld RAM blocks.</p>\n", design,
            (long long)s->luts, (long long)s->has_luts, (long long)s->dsps, (long long)s->has_dsps, (long long)s->brams,
            (long long)s->has_brams);
    write_facts(f, w);
    fprintf(f, "<h2>Timeline</h2>\n");
    write_key(f, r);
    qd_cli_svg_timeline(f, r);
    fprintf(f,
            "<h2>Roofline</h2>\n<p class=\"note\">Each point is an operator, as large as its part of the time; the "
            "lines are what memory and the array allow.</p>\n");
    qd_cli_svg_roofline(f, r, groups, count);
    fprintf(f, "<h2>Cycles</h2>\n");
    write_causes(f, r);
    fprintf(f, "<h2>Memory</h2>\n");
    write_memory(f, r);
    fprintf(f,
            "<h2>Energy</h2>\n<p>%.3g to %.3g J. <b>Uncalibrated</b>: the first is arithmetic and memory alone, by "
            "published energies of their technologies; the second is the board's greatest power for as long.</p>\n",
            r->joules_least, r->joules_most);
    fprintf(f, "<h2>Operators</h2>\n");
    write_groups(f, r, groups, count);
    fprintf(f,
            "<p class=\"note\">qdot %s. Time is that of a model: see sim/MODEL.md for its error.</p>\n</body></html>\n",
            qd_version());
}

bool qd_cli_sim_write_front(const char *path, const qd_cli_sim_found *found) {
    const qd_sim_search *s = found->search;
    FILE *f = qd_cli_page_open(path);
    if (!f) return false;
    write_head(f, found->what, ": shapes for", s->board);
    fprintf(
        f,
        "<p>%lld shapes, of which %lld do not fit the board; the cycle model ran %d. The line is the front: nothing as "
        "small is faster.</p>\n",
        (long long)s->considered, (long long)s->refused, s->count);
    qd_cli_svg_front(f, found, false);
    fprintf(f, "<table><tr><th>design</th><th>%s/s</th><th>LUTs</th><th>DSP blocks</th><th>RAM blocks</th></tr>\n",
            found->unit);
    for (int i = 0; i < s->count; i++) {
        const qd_sim_candidate *c = &s->candidate[i];
        char design[160];
        if (!c->front) continue;
        qd_cli_sim_design_text(&c->design, design, sizeof design);
        fprintf(f, "<tr><td>%s</td><td>%.3f</td><td>%lld</td><td>%lld</td><td>%lld</td></tr>\n", design,
                found->count / c->seconds, (long long)c->resources.luts, (long long)c->resources.dsps,
                (long long)c->resources.brams);
    }
    fprintf(f, "</table>\n</body></html>\n");
    return qd_cli_page_close(f, path);
}

bool qd_cli_sim_write_page(const char *path, const qd_cli_sim_work *w) {
    int count;
    qd_cli_sim_group *groups = qd_cli_sim_groups(w->report, &count);
    FILE *f = groups ? qd_cli_page_open(path) : NULL;
    if (f) write_page(f, w, groups, count);
    free(groups);
    return f && qd_cli_page_close(f, path);
}
