/* qdot sim search: shapes of the unit for a model or a network on a board. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/page.h"
#include "cli/sim.h"

/* ---- Parameters for the tools ------------------------------------------------------------------------------- */

/* The largest power of two up to `most`, and up to `x`. */
static int power_below(int x, int most) {
    int p = 1;
    while (2 * p <= x && 2 * p <= most)
        p *= 2;
    return p;
}

static int limited(int x, int least, int most) {
    return x < least ? least : x > most ? most : x;
}

/* The same number of products for the C units, whose columns come one after the other: more codes side by side in
 * their place. Two products share a DSP block where its port has 27 bits. */
static void write_hls(FILE *f, const qd_cli_sim_found *found, const qd_sim_candidate *c) {
    enum { BURST = 64, CHUNK = 4096 };
    const qd_sim_design *d = &c->design;
    const int vec = power_below(d->lanes * d->cols, BURST);
    const int chunk = limited((d->lanes << d->w_address) / BURST * BURST, BURST, CHUNK);
    fprintf(f, "/* %s on %s: -include this file when a unit of hls/ is compiled. */\n", found->what,
            found->search->board);
    fprintf(f, "#define QD_PE %d\n#define QD_VEC %d\n#define QD_TOKENS %d\n#define QD_BURST %d\n#define QD_CHUNK %d\n",
            d->rows, vec, d->cols, BURST, chunk);
    fprintf(f, "#define QD_PACK %d\n", found->wide_multipliers && d->rows % 2 == 0 ? 2 : 1);
}

static const char *const ports[] = {
    "input clk",
    "input rst",
    "input bus_valid",
    "output bus_ready",
    "input bus_write",
    "input [7:0] bus_address",
    "input [31:0] bus_wdata",
    "output [31:0] bus_rdata",
    "input w_valid",
    "output w_ready",
    "input x_valid",
    "output x_ready",
    "input c_valid",
    "output c_ready",
    "input [95:0] c_data",
    "output y_valid",
    "input y_ready",
};

/* A module around qd_matmul with the parameters set. */
static void write_rtl(FILE *f, const qd_cli_sim_found *found, const qd_sim_candidate *c) {
    const qd_sim_design *d = &c->design;
    fprintf(f, "// %s on %s at %g MHz: the unit of hls/rtl in that shape.\nmodule qd_unit (\n", found->what,
            found->search->board, d->clock_mhz);
    for (size_t i = 0; i < sizeof ports / sizeof ports[0]; i++)
        fprintf(f, "    %s,\n", ports[i]);
    fprintf(f, "    input [%d:0] w_data,\n    input [%d:0] x_data,\n    output [%d:0] y_data\n);\n", 8 * d->w_bytes - 1,
            8 * d->x_bytes - 1, 32 * d->quants - 1);
    fprintf(f,
            "    qd_matmul #(\n        .ROWS(%d), .COLS(%d), .LANES(%d), .QUANTS(%d), .PACK(%d),\n"
            "        .W_BYTES(%d), .X_BYTES(%d), .W_ADDRESS(%d), .X_ADDRESS(%d)\n    ) matmul (\n",
            d->rows, d->cols, d->lanes, d->quants, d->pack, d->w_bytes, d->x_bytes, d->w_address, d->x_address);
    for (size_t i = 0; i < sizeof ports / sizeof ports[0]; i++) {
        const char *name = strrchr(ports[i], ' ') + 1;
        fprintf(f, "        .%s(%s),\n", name, name);
    }
    fprintf(f, "        .w_data(w_data),\n        .x_data(x_data),\n        .y_data(y_data)\n    );\nendmodule\n");
}

/* Writes the parameters of a design for hls/ and hls/rtl to a folder, which is made. Prints a message and returns false
 * on failure. */
static bool emit(const char *folder, const qd_cli_sim_found *found, const qd_sim_candidate *c) {
    static const struct {
        const char *name;
        void (*write)(FILE *f, const qd_cli_sim_found *found, const qd_sim_candidate *c);
    } files[] = {{"hls_shape.h", write_hls}, {"qd_unit.v", write_rtl}};
    if (mkdir(folder, 0777) != 0 && errno != EEXIST) {
        qd_cli_fail("%s: %s", folder, strerror(errno));
        return false;
    }
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[1024];
        if (snprintf(path, sizeof path, "%s/%s", folder, files[i].name) >= (int)sizeof path) {
            qd_cli_fail("%s: the name is too long", folder);
            return false;
        }
        FILE *f = qd_cli_page_open(path);
        if (!f) return false;
        files[i].write(f, found, c);
        if (!qd_cli_page_close(f, path)) return false;
    }
    return true;
}

/* ---- What was found ----------------------------------------------------------------------------------------- */

static int print_text(const qd_cli_sim_found *found) {
    const qd_sim_search *s = found->search;
    char design[160];
    printf("%s on %s: %lld shapes, %lld of them break a limit of the unit or of the board; the cycle model ran %d\n\n",
           found->what, s->board, (long long)s->considered, (long long)s->refused, s->count);
    printf("%10s %6s %9s %7s %7s  design, the front of speed against resources\n", found->unit, "share", "LUTs", "DSPs",
           "RAMs");
    for (int i = 0; i < s->count; i++) {
        const qd_sim_candidate *c = &s->candidate[i];
        if (!c->front) continue;
        qd_cli_sim_design_text(&c->design, design, sizeof design);
        printf("%8.2f/s %5.1f%% %9lld %7lld %7lld  %s\n", found->count / c->seconds, 100 * c->share,
               (long long)c->resources.luts, (long long)c->resources.dsps, (long long)c->resources.brams, design);
    }
    qd_cli_sim_design_text(&s->candidate[s->best].design, design, sizeof design);
    printf("\nbest: %.2f %s/s with %s\n", found->count / s->candidate[s->best].seconds, found->unit, design);
    return QD_EXIT_OK;
}

static cJSON *candidate_json(const qd_cli_sim_found *found, const qd_sim_candidate *c) {
    char rate[32];
    cJSON *o = cJSON_CreateObject();
    cJSON_AddItemToObject(o, "design", qd_cli_sim_design_json(&c->design));
    cJSON_AddItemToObject(o, "resources", qd_cli_sim_resources_json(&c->resources));
    cJSON_AddNumberToObject(o, "share", c->share);
    snprintf(rate, sizeof rate, "%s_per_s", found->unit);
    cJSON_AddNumberToObject(o, rate, found->count / c->seconds);
    cJSON_AddBoolToObject(o, "front", c->front);
    return o;
}

static int print_json(const qd_cli_sim_found *found) {
    const qd_sim_search *s = found->search;
    cJSON *o = cJSON_CreateObject();
    qd_cli_json_text(o, "work", found->what, strlen(found->what));
    cJSON_AddStringToObject(o, "board", s->board);
    cJSON_AddNumberToObject(o, "considered", (double)s->considered);
    cJSON_AddNumberToObject(o, "refused", (double)s->refused);
    cJSON_AddItemToObject(o, "best", candidate_json(found, &s->candidate[s->best]));
    cJSON *list = cJSON_AddArrayToObject(o, "candidates");
    for (int i = 0; i < s->count; i++)
        cJSON_AddItemToArray(list, candidate_json(found, &s->candidate[i]));
    return qd_cli_print_json(o);
}

static bool write_svg(const char *path, const qd_cli_sim_found *found) {
    FILE *f = qd_cli_page_open(path);
    if (!f) return false;
    qd_cli_svg_front(f, found, true);
    return qd_cli_page_close(f, path);
}

/* ---- The command -------------------------------------------------------------------------------------------- */

static bool show_progress(void *unused, int done, int total) {
    (void)unused;
    qd_cli_progress("shapes", done, total);
    return !qd_cli_stopped();
}

int qd_cmd_sim_search(int argc, char **argv) {
    qd_cli_sim_ask ask = {0};
    const char *page = NULL, *svg = NULL, *folder = NULL;
    const qd_cli_option options[] = {
        QD_CLI_SIM_ASK_OPTIONS(ask),
        {"svg", 0, QD_CLI_TEXT, &svg, 0, 0, "FILE", "the front of speed against resources, as a chart"},
        {"html", 0, QD_CLI_TEXT, &page, 0, 0, "FILE", "the same in a page, with the designs"},
        {"emit", 0, QD_CLI_TEXT, &folder, 0, 0, "DIR",
         "writes the fastest design's parameters there: hls_shape.h for hls/, qd_unit.v for hls/rtl"},
        QD_CLI_JSON_OPTION(ask.common),
        {.kind = QD_CLI_END},
    };
    int code;
    if (!qd_cli_parse(
            argc, argv, "sim search --board B (-m MODEL | --network NAME) [options]",
            "Finds the array, the results a cycle and the depths of the buffers with which the unit of hls/rtl "
            "is fastest at a\nmodel's token or a network's image, within the board's LUTs, DSP blocks and RAM "
            "blocks.",
            options, &code)) {
        return code;
    }
    qd_sim_report *r;
    qd_sim_search *s;
    if (!qd_cli_sim_report_of(&ask, &r)) return QD_EXIT_FAILED;
    qd_cli_catch_interrupt();
    const qd_status status = qd_sim_search_run(r, show_progress, NULL, &s);
    qd_cli_progress("shapes", 1, 1);
    const bool wide = r->wide_multipliers;
    qd_sim_report_free(r);
    if (status) return qd_cli_failed();
    const qd_cli_sim_found found = {qd_cli_sim_name(&ask), ask.network ? "frames" : "tokens", 1, wide, s};
    code = (svg && !write_svg(svg, &found)) || (page && !qd_cli_sim_write_front(page, &found)) ||
                   (folder && !emit(folder, &found, &s->candidate[s->best]))
               ? QD_EXIT_FAILED
               : QD_EXIT_OK;
    if (code == QD_EXIT_OK) code = ask.common.json ? print_json(&found) : print_text(&found);
    qd_sim_search_free(s);
    return code;
}
