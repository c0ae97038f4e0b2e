/* What the parts of `qdot sim` share. */
#ifndef QDOT_CLI_SIM_H
#define QDOT_CLI_SIM_H

#include <stdio.h>

#include "cli/cli.h"
#include "qdot/qdot_sim.h"

/** What a report is about. */
typedef struct qd_cli_sim_work {
    const char *what; /* a network's name, or a model's file name */
    const char *unit; /* "frames", "tokens" */
    double count;     /* how many of them */
    const qd_sim_report *report;
} qd_cli_sim_work;

/** Frames or tokens a second. */
static inline double qd_cli_sim_rate(const qd_cli_sim_work *w) {
    return w->report->seconds > 0 ? w->count / w->report->seconds : 0;
}

/** Steps that are alike, together. */
typedef struct qd_cli_sim_group {
    const qd_sim_step *first;
    int count;
    double cycles, macs, bytes, cause[QD_SIM_CAUSES], could; /* could: products in the cycles of work */
} qd_cli_sim_group;

/** What a search found. */
typedef struct qd_cli_sim_found {
    const char *what, *unit; /* as above */
    double count;
    bool wide_multipliers;
    const qd_sim_search *search;
} qd_cli_sim_found;

/** Groups by name, in the order of their first steps; to be freed. NULL: out of memory, a message was printed. */
qd_cli_sim_group *qd_cli_sim_groups(const qd_sim_report *r, int *count);
/** Share of the array's time that a group's products would need at the least. */
double qd_cli_sim_utilization(const qd_sim_report *r, const qd_cli_sim_group *g);

/* ---- Reports ------------------------------------------------------------------------------------------------ */

int qd_cli_sim_print_text(const qd_cli_sim_work *w);
cJSON *qd_cli_sim_json(const qd_cli_sim_work *w);
cJSON *qd_cli_sim_design_json(const qd_sim_design *d);
cJSON *qd_cli_sim_resources_json(const qd_sim_resources *r);
/** "16 x 8 x 8, 8 results a cycle, …" */
void qd_cli_sim_design_text(const qd_sim_design *d, char *text, size_t size);

/* ---- Charts: SVG, inside a page or alone -------------------------------------------------------------------- */

const char *qd_cli_sim_colour(qd_sim_cause c);
void qd_cli_svg_timeline(FILE *f, const qd_sim_report *r);
void qd_cli_svg_roofline(FILE *f, const qd_sim_report *r, const qd_cli_sim_group *groups, int count);

/** Speed against resources; by itself with `alone`, else in a page. */
void qd_cli_svg_front(FILE *f, const qd_cli_sim_found *found, bool alone);

/** Writes a self-contained page. Prints a message and returns false on failure. */
bool qd_cli_sim_write_page(const char *path, const qd_cli_sim_work *w);
bool qd_cli_sim_write_front(const char *path, const qd_cli_sim_found *found);

/* ---- What is asked ------------------------------------------------------------------------------------------ */

typedef struct qd_cli_sim_ask {
    qd_cli_common common; /* model */
    const char *board, *network, *design;
    int64_t position; /* of the token */
} qd_cli_sim_ask;

#define QD_CLI_SIM_ASK_OPTIONS(a)                                                                                    \
    {"board", 'b', QD_CLI_TEXT, &(a).board, 0, 0, "B", "the board (`qdot sim boards` lists them)"},                  \
        QD_CLI_MODEL_OPTION((a).common),                                                                             \
        {"network", 'n', QD_CLI_TEXT, &(a).network, 0, 0, "NAME", "instead: a network that is known by its layers"}, \
        {"design",                                                                                                   \
         0,                                                                                                          \
         QD_CLI_TEXT,                                                                                                \
         &(a).design,                                                                                                \
         0,                                                                                                          \
         0,                                                                                                          \
         "KEY=N,...",                                                                                                \
         "changes to the board's design: rows, cols, lanes, quants, pack, w_bytes, x_bytes, w_address, x_address, "  \
         "clock_mhz"},                                                                                               \
    {                                                                                                                \
        "position", 0, QD_CLI_INT, &(a).position, 0, 1000000, "P", "of the token: so many are in the context (0)"    \
    }

/** Makes the report; prints a message and returns false on failure. */
bool qd_cli_sim_report_of(const qd_cli_sim_ask *a, qd_sim_report **out);
/** What it is about, in a word. */
const char *qd_cli_sim_name(const qd_cli_sim_ask *a);

/* ---- Sub-commands ------------------------------------------------------------------------------------------- */

int qd_cmd_sim_report(int argc, char **argv);
int qd_cmd_sim_search(int argc, char **argv);

#endif
