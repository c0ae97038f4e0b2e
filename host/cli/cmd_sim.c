/* qdot sim: the model of FPGA boards. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/sim.h"

enum { MOST_PARAMETERS = 64 };

/* ---- What is shown ------------------------------------------------------------------------------------------ */

static int show_json(const qd_sim_calibration *c) {
    cJSON *o = cJSON_CreateObject();
    const char *const names[] = {"median_error", "p90_error", "max_error"};
    const double errors[] = {c->median, c->p90, c->most};
    for (int i = 0; i < 3; i++) {
        if (c->predicted > 0) {
            cJSON_AddNumberToObject(o, names[i], errors[i]);
        } else {
            cJSON_AddNullToObject(o, names[i]);
        }
    }
    cJSON_AddNumberToObject(o, "rows", c->rows);
    cJSON *unsupported = cJSON_AddArrayToObject(o, "unsupported");
    for (int i = 0; i < c->rows; i++) {
        const qd_sim_row *r = &c->row[i];
        if (!r->reason) continue;
        cJSON *row = cJSON_CreateObject();
        qd_cli_json_text(row, "row", r->id, strlen(r->id));
        qd_cli_json_text(row, "reason", r->reason, strlen(r->reason));
        cJSON_AddItemToArray(unsupported, row);
    }
    return qd_cli_print_json(o);
}

/* A Markdown table, and the figures below it. */
static int show_rows(const qd_sim_calibration *c, bool summary) {
    if (!summary) printf("| row | device | kind | measured | model | | error |\n|---|---|---|---|---|---|---|\n");
    for (int i = 0; i < c->rows && !summary; i++) {
        const qd_sim_row *r = &c->row[i];
        printf("| %s | %s | %s | %.4g | ", r->id, r->device, r->kind, r->measured);
        if (r->reason) {
            printf("not expressed: %s | %s | |\n", r->reason, r->metric);
        } else {
            printf("%.4g | %s | %+.1f %% |\n", r->predicted, r->metric, 100 * (r->predicted / r->measured - 1));
        }
    }
    if (!summary) printf("\n");
    if (c->predicted > 0) {
        printf("median error %.1f %%, nine rows in ten within %.1f %%, maximum %.1f %%, ", 100 * c->median,
               100 * c->p90, 100 * c->most);
    }
    printf("%d rows, %d of them not expressed\n", c->rows, c->rows - c->predicted);
    return QD_EXIT_OK;
}

/* ---- Sub-commands ------------------------------------------------------------------------------------------- */

/* Reads --data; prints a message and returns false on failure. */
static bool read_data(const char *path, char **text, size_t *size) {
    if (path) return qd_cli_read(path, text, size);
    qd_cli_fail("no measurements were given: --data FILE.csv");
    return false;
}

/* Which parameters "--without X" asks for. */
static bool parameters_of(const char *word, qd_sim_parameters *with) {
    static const struct {
        const char *word;
        qd_sim_parameters with;
    } words[] = {{"nothing", QD_SIM_PUBLISHED},
                 {"source", QD_SIM_WITHOUT_SOURCE},
                 {"device", QD_SIM_WITHOUT_DEVICE},
                 {"fifth", QD_SIM_WITHOUT_FIFTH},
                 {"fit", QD_SIM_UNFITTED}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(word, words[i].word) == 0) {
            *with = words[i].with;
            return true;
        }
    }
    qd_cli_fail("--without is source, device, fifth or fit, not '%s'", word);
    return false;
}

static int calibrate(int argc, char **argv) {
    const char *path = NULL, *without = "nothing";
    bool json = false, summary = false;
    const qd_cli_option options[] = {
        {"data", 0, QD_CLI_TEXT, &path, 0, 0, "FILE.csv",
         "the measurements (tests/sim/data/NOTES.md tells the columns)"},
        {"without", 0, QD_CLI_TEXT, &without, 0, 0, "WHAT",
         "predict each row with parameters fitted without the rows of its source, its device or its fifth of the file; "
         "fit: "
         "with unfitted parameters"},
        {"summary", 0, QD_CLI_FLAG, &summary, 0, 0, NULL, "only the last line"},
        {"json", 0, QD_CLI_FLAG, &json, 0, 0, NULL, "one JSON object on standard output"},
        {.kind = QD_CLI_END},
    };
    qd_sim_parameters with;
    qd_sim_calibration *c;
    char *text;
    size_t size;
    int code;
    if (!qd_cli_parse(argc, argv, "sim calibrate --data FILE.csv [options]",
                      "Compares the board model with measurements: the error of each row, their median, ninth decile "
                      "and maximum.\n"
                      "Rows that the model cannot express are listed with the reason.",
                      options, &code)) {
        return code;
    }
    if (!parameters_of(without, &with) || !read_data(path, &text, &size)) return QD_EXIT_FAILED;
    const qd_status status = qd_sim_calibrate(path, text, size, with, &c);
    free(text);
    if (status) return qd_cli_failed();
    code = json ? show_json(c) : show_rows(c, summary);
    qd_sim_calibration_free(c);
    return code;
}

static int fit(int argc, char **argv) {
    const char *path = NULL;
    qd_sim_parameter p[MOST_PARAMETERS];
    const qd_cli_option options[] = {
        {"data", 0, QD_CLI_TEXT, &path, 0, 0, "FILE.csv", "the measurements"},
        {.kind = QD_CLI_END},
    };
    char *text;
    size_t size;
    int code, count;
    if (!qd_cli_parse(argc, argv, "sim fit --data FILE.csv",
                      "Fits the model's parameters to measurements and prints them; sim/params.def holds those in use.",
                      options, &code)) {
        return code;
    }
    if (!read_data(path, &text, &size)) return QD_EXIT_FAILED;
    const qd_status status = qd_sim_fit(path, text, size, p, MOST_PARAMETERS, &count);
    free(text);
    if (status) return qd_cli_failed();
    printf("| parameter | start | fitted | unit | what it is |\n|---|---|---|---|---|\n");
    for (int i = 0; i < count && i < MOST_PARAMETERS; i++)
        printf("| `%s` | %.3g | %.3g | %s | %s |\n", p[i].name, p[i].start, p[i].value, p[i].unit, p[i].what);
    return QD_EXIT_OK;
}

static int boards(int argc, char **argv) {
    const qd_cli_option options[] = {{.kind = QD_CLI_END}};
    int code;
    if (!qd_cli_parse(argc, argv, "sim boards", "Lists the boards that the model knows (sim/boards.def).", options,
                      &code))
        return code;
    for (int i = 0; qd_sim_board_name(i); i++)
        printf("%s\n", qd_sim_board_name(i));
    return QD_EXIT_OK;
}

int qd_cmd_sim(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "calibrate")) return calibrate(argc - 1, argv + 1);
    if (!strcmp(what, "fit")) return fit(argc - 1, argv + 1);
    if (!strcmp(what, "boards")) return boards(argc - 1, argv + 1);
    if (!strcmp(what, "report")) return qd_cmd_sim_report(argc - 1, argv + 1);
    if (!strcmp(what, "search")) return qd_cmd_sim_search(argc - 1, argv + 1);
    if (strcmp(what, "--help") != 0 && strcmp(what, "-h") != 0) {
        if (!*what) return qd_cli_fail("which part? qdot sim report, search, calibrate, fit or boards");
        return qd_cli_fail("unexpected %s '%s': it is qdot sim report, search, calibrate, fit or boards",
                           *what == '-' ? "option" : "word", what);
    }
    printf(
        "usage: qdot sim report|search|calibrate|fit|boards [options]\n\n"
        "  report      what a model or a network takes on a board\n"
        "  search      find shapes of the unit for them\n"
        "  calibrate   compare the model with measurements\n"
        "  fit         fit the model's parameters to measurements\n"
        "  boards      list the boards that the model knows\n\n"
        "`qdot sim report --help` tells more.\n");
    return QD_EXIT_OK;
}
