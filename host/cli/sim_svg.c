/* Charts of a simulated board. Lengths are pixels; colours, fonts and axes are the page's (sim_html.c). */
#include <math.h>
#include <stdlib.h>

#include "cli/page.h"
#include "cli/plot.h"
#include "cli/sim.h"

const char *qd_cli_sim_colour(qd_sim_cause c) {
    static const char *const colours[QD_SIM_CAUSES] = {
        [QD_SIM_CAUSE_WORK] = "#1b7837",     [QD_SIM_CAUSE_WEIGHTS] = "#d6604d", [QD_SIM_CAUSE_COLUMNS] = "#f4a582",
        [QD_SIM_CAUSE_CHANNELS] = "#e7d4a0", [QD_SIM_CAUSE_DRAIN] = "#4393c3",   [QD_SIM_CAUSE_RESULTS] = "#92c5de",
        [QD_SIM_CAUSE_QUEUE] = "#b8b8b8",    [QD_SIM_CAUSE_TAIL] = "#7a7a7a",    [QD_SIM_CAUSE_VECTOR] = "#762a83",
        [QD_SIM_CAUSE_MEMORY] = "#c2a5cf",   [QD_SIM_CAUSE_LAUNCH] = "#333333",
    };
    return (unsigned)c < QD_SIM_CAUSES ? colours[c] : "none";
}

/* ---- Timeline ----------------------------------------------------------------------------------------------- */

enum { WIDTH = 960, LEFT = 70, TOP = 10, ROW = 26, STACK = 150, BINS = 420 };

static double x_of(const qd_sim_report *r, double cycle) {
    return LEFT + (WIDTH - LEFT - 10) * cycle / (double)r->cycles;
}

/* Where each step ran. Steps too short to be seen are left out. */
static void draw_steps(FILE *f, const qd_sim_report *r) {
    static const char *const colours[] = {"#1b7837", "#762a83", "#333333"};
    static const char *const rows[] = {"unit", "vector", "host"};
    for (int p = 0; p < 3; p++)
        fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", LEFT - 8, TOP + ROW * p + 15, rows[p]);
    for (int i = 0; i < r->count; i++) {
        const qd_sim_step *s = &r->step[i];
        const double x = x_of(r, (double)s->start), width = x_of(r, (double)(s->start + s->cycles)) - x;
        if (width < 0.05) continue;
        fprintf(f, "<rect x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"%d\" fill=\"%s\"><title>", x,
                TOP + ROW * (int)s->task.place, fmax(width - 0.3, 0.2), ROW - 6, colours[s->task.place]);
        qd_cli_page_text(f, s->task.name);
        fprintf(f, ": %llu cycles</title></rect>\n", (unsigned long long)s->cycles);
    }
}

/* What the cycles went to, in as many bins as can be seen. A step's causes are spread over all of it. */
static bool draw_causes(FILE *f, const qd_sim_report *r, int top) {
    double(*bins)[QD_SIM_CAUSES] = calloc(BINS, sizeof *bins);
    if (!bins) return false;
    const double bin = (double)r->cycles / BINS;
    for (int i = 0; i < r->count; i++) {
        const qd_sim_step *s = &r->step[i];
        const double start = (double)s->start, end = start + (double)s->cycles;
        for (int b = (int)(start / bin); b < BINS && b * bin < end; b++) {
            const double part = fmin(end, (b + 1) * bin) - fmax(start, b * bin);
            for (int c = 0; c < QD_SIM_CAUSES && part > 0; c++)
                bins[b][c] += part * (double)s->cause[c] / (double)s->cycles;
        }
    }
    const double width = (double)(WIDTH - LEFT - 10) / BINS;
    fprintf(f, "<g class=\"bins\">\n");
    for (int b = 0; b < BINS; b++) {
        double y = top + STACK;
        for (int c = 0; c < QD_SIM_CAUSES; c++) {
            const double height = STACK * bins[b][c] / bin;
            if (height < 0.05) continue;
            y -= height;
            fprintf(f, "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" fill=\"%s\"/>\n", LEFT + b * width,
                    y, width + 0.05, height, qd_cli_sim_colour((qd_sim_cause)c));
        }
    }
    fprintf(f, "</g>\n");
    free(bins);
    return true;
}

/* A step of 1, 2 or 5 times a power of ten, of which `all` has four to ten. */
static double tick_of(double all) {
    const double power = pow(10, floor(log10(all / 4)));
    const double rest = all / 4 / power;
    return power * (rest < 2 ? 1 : rest < 5 ? 2 : 5);
}

void qd_cli_svg_timeline(FILE *f, const qd_sim_report *r) {
    const int top = TOP + 3 * ROW + 6, bottom = top + STACK;
    const double ms = 1e3 * r->seconds, tick = tick_of(ms);
    fprintf(f, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"timeline\" id=\"timeline\">\n", WIDTH,
            bottom + 40);
    draw_steps(f, r);
    if (!draw_causes(f, r, top)) fprintf(f, "<text x=\"%d\" y=\"%d\">out of memory</text>\n", LEFT, top + 20);
    fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">cycles</text>\n", LEFT - 8, top + STACK / 2);
    for (double t = 0; t <= ms * 1.0001; t += tick) {
        const double x = LEFT + (WIDTH - LEFT - 10) * t / ms;
        fprintf(f, "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" class=\"axis\"/>", x, bottom, x, bottom + 5);
        fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>\n", x, bottom + 18, t);
    }
    fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">ms</text>\n</svg>\n", WIDTH - 10, bottom + 34);
}

/* ---- Roofline ----------------------------------------------------------------------------------------------- */

void qd_cli_svg_roofline(FILE *f, const qd_sim_report *r, const qd_cli_sim_group *groups, int count) {
    const double hertz = 1e6 * r->design.clock_mhz;
    qd_cli_plot p = {0.1, 100, r->peak_macs * 1e-3, r->peak_macs_int4 * 1.5};
    for (int g = 0; g < count; g++) {
        const qd_cli_sim_group *x = &groups[g];
        if (x->macs <= 0 || x->bytes <= 0) continue;
        p.x_low = fmin(p.x_low, x->macs / x->bytes);
        p.x_high = fmax(p.x_high, x->macs / x->bytes);
        p.y_low = fmin(p.y_low, x->macs / x->cycles * hertz);
    }
    p = (qd_cli_plot){qd_cli_plot_decade(p.x_low, false), qd_cli_plot_decade(p.x_high, true),
                      qd_cli_plot_decade(p.y_low, false), qd_cli_plot_decade(p.y_high, true)};
    fprintf(f, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"roofline\" id=\"roofline\">\n", WIDTH,
            QD_CLI_PLOT_TOP + QD_CLI_PLOT_HEIGHT + 44);
    qd_cli_plot_axes(f, &p, 1e-9, "products for each byte of memory", "GMAC/s");
    qd_cli_plot_roof(f, &p, r->memory_rate, r->peak_macs_int4, "int4");
    qd_cli_plot_roof(f, &p, r->memory_rate, r->peak_macs, "int8");
    for (int g = 0; g < count; g++) {
        const qd_cli_sim_group *x = &groups[g];
        if (x->macs <= 0 || x->bytes <= 0) continue;
        fprintf(f, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" fill=\"%s\" fill-opacity=\"0.7\"><title>",
                qd_cli_plot_x(&p, x->macs / x->bytes), qd_cli_plot_y(&p, x->macs / x->cycles * hertz),
                3 + 14 * sqrt(x->cycles / (double)r->cycles),
                x->first->task.place == QD_SIM_UNIT ? "#1b7837" : "#762a83");
        qd_cli_page_text(f, x->first->task.name);
        fprintf(f, ": %.2f GMAC/s, %.1f %% of the time</title></circle>\n", 1e-9 * x->macs / x->cycles * hertz,
                100 * x->cycles / (double)r->cycles);
    }
    fprintf(f, "</svg>\n");
}

/* ---- Speed against resources -------------------------------------------------------------------------------- */

void qd_cli_svg_front(FILE *f, const qd_cli_sim_found *found, bool alone) {
    const qd_sim_search *s = found->search;
    double low = INFINITY, high = 0;
    for (int i = 0; i < s->count; i++) {
        const double rate = found->count / s->candidate[i].seconds;
        if (!(rate > 0)) continue;
        low = fmin(low, rate);
        high = fmax(high, rate);
    }
    const qd_cli_plot p = {0.001, 1, qd_cli_plot_decade(low, false), qd_cli_plot_decade(high * 1.0001, true)};
    fprintf(f, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"front\" id=\"front\"%s>\n", WIDTH,
            QD_CLI_PLOT_TOP + QD_CLI_PLOT_HEIGHT + 44, alone ? " xmlns=\"http://www.w3.org/2000/svg\"" : "");
    if (alone)
        fprintf(f,
                "<style>text{font:12px sans-serif}.grid{stroke:#ddd}.front{fill:none;stroke:#b2182b;stroke-width:2}"
                "</style>\n<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n");
    for (double x = p.x_low; x <= p.x_high * 1.001; x *= 10) {
        fprintf(f, "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" class=\"grid\"/>", qd_cli_plot_x(&p, x),
                QD_CLI_PLOT_TOP, qd_cli_plot_x(&p, x), QD_CLI_PLOT_TOP + QD_CLI_PLOT_HEIGHT);
        fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g %%</text>\n", qd_cli_plot_x(&p, x),
                QD_CLI_PLOT_TOP + QD_CLI_PLOT_HEIGHT + 18, 100 * x);
    }
    for (double y = p.y_low; y <= p.y_high * 1.001; y *= 10) {
        fprintf(f, "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" class=\"grid\"/>", QD_CLI_PLOT_LEFT,
                qd_cli_plot_y(&p, y), QD_CLI_PLOT_LEFT + QD_CLI_PLOT_WIDTH, qd_cli_plot_y(&p, y));
        fprintf(f, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", QD_CLI_PLOT_LEFT - 8,
                qd_cli_plot_y(&p, y) + 4, y);
    }
    fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">of %s's scarcest resource</text>\n",
            QD_CLI_PLOT_LEFT + QD_CLI_PLOT_WIDTH, QD_CLI_PLOT_TOP + QD_CLI_PLOT_HEIGHT + 36, s->board);
    fprintf(f, "<text x=\"4\" y=\"12\">%s/s</text>\n<polyline class=\"front\" points=\"", found->unit);
    for (int i = 0; i < s->count; i++) {
        if (s->candidate[i].front)
            fprintf(f, "%.1f,%.1f ", qd_cli_plot_x(&p, fmax(s->candidate[i].share, p.x_low)),
                    qd_cli_plot_y(&p, found->count / s->candidate[i].seconds));
    }
    fprintf(f, "\"/>\n");
    for (int i = 0; i < s->count; i++) {
        const qd_sim_candidate *c = &s->candidate[i];
        const double rate = found->count / c->seconds;
        if (!(rate > 0)) continue;
        fprintf(f,
                "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%d\" fill=\"%s\"><title>%d x %d x %d, %d results a cycle, "
                "2^%d and 2^%d words: %.3g %s/s, %lld LUTs, %lld DSP blocks, %lld RAM blocks</title></circle>\n",
                qd_cli_plot_x(&p, fmax(c->share, p.x_low)), qd_cli_plot_y(&p, rate),
                i == s->best ? 7
                : c->front   ? 5
                             : 3,
                i == s->best ? "#1b7837"
                : c->front   ? "#b2182b"
                             : "#999",
                c->design.rows, c->design.cols, c->design.lanes, c->design.quants, c->design.w_address,
                c->design.x_address, rate, found->unit, (long long)c->resources.luts, (long long)c->resources.dsps,
                (long long)c->resources.brams);
    }
    fprintf(f, "</svg>\n");
}
