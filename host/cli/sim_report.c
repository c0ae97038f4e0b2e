/* qdot sim report: what a model or a network takes on a board. */
#include <string.h>

#include "cli/sim.h"

/* ---- A model ------------------------------------------------------------------------------------------------ */

static bool take_logits(void *user, int64_t position, const float *logits) {
    (void)user, (void)position, (void)logits;
    return !qd_cli_stopped();
}

/* Runs one token after `position` others, without values, and takes the report. */
static bool report_token(const qd_cli_session *s, int64_t position, qd_sim_report **out) {
    enum { PIECE = 256 };
    const int32_t tokens[PIECE] = {0};
    qd_status status = QD_OK;
    for (int64_t at = 0; at < position && !status;) {
        const int64_t n = position - at < PIECE ? position - at : PIECE;
        status = qd_model_eval(s->model, tokens, n, false, NULL, NULL);
        at += n;
    }
    if (!status) status = qd_context_finish(s->context);
    qd_context_profile_reset(s->context);
    if (!status) status = qd_model_eval(s->model, tokens, 1, false, take_logits, NULL);
    if (!status) status = qd_context_finish(s->context);
    if (!status) status = qd_sim_report_device(s->context, out);
    if (status) qd_cli_failed();
    return !status;
}

bool qd_cli_sim_report_of(const qd_cli_sim_ask *a, qd_sim_report **out) {
    char device[320];
    qd_sim_design d;
    qd_cli_common common = a->common;
    *out = NULL;
    if (!a->board) {
        qd_cli_fail("no board was given: --board B; there are %s", qd_sim_board_names());
        return false;
    }
    if (!a->common.model == !a->network) {
        qd_cli_fail("give a model, -m FILE, or a network, --network NAME");
        return false;
    }
    if (a->network) {
        if (qd_sim_report_network(a->board, a->design, a->network, out) != QD_OK) qd_cli_failed();
        return *out != NULL;
    }
    /* A wrong board is found before a large model is read. */
    if (qd_sim_design_of(a->board, a->design, &d, NULL) != QD_OK) {
        qd_cli_failed();
        return false;
    }
    if (snprintf(device, sizeof device, "sim:%s:%s%sdry", a->board, a->design ? a->design : "", a->design ? "," : "") >=
        (int)sizeof device) {
        qd_cli_fail("--design is longer than can be read");
        return false;
    }
    qd_cli_session session;
    common.device = device;
    const bool ok = qd_cli_open(&common, 0, false, &session) && report_token(&session, a->position, out);
    qd_cli_close(&session);
    return ok;
}

const char *qd_cli_sim_name(const qd_cli_sim_ask *a) {
    const char *slash = a->common.model ? strrchr(a->common.model, '/') : NULL;
    return a->network ? a->network : slash ? slash + 1 : a->common.model;
}

/* ---- The command -------------------------------------------------------------------------------------------- */

int qd_cmd_sim_report(int argc, char **argv) {
    qd_cli_sim_ask ask = {0};
    const char *page = NULL;
    const qd_cli_option options[] = {
        QD_CLI_SIM_ASK_OPTIONS(ask),
        {"html", 0, QD_CLI_TEXT, &page, 0, 0, "FILE", "a page with a timeline and a roofline, that needs nothing else"},
        QD_CLI_JSON_OPTION(ask.common),
        {.kind = QD_CLI_END},
    };
    int code;
    if (!qd_cli_parse(
            argc, argv, "sim report --board B (-m MODEL | --network NAME) [options]",
            "What one token of a model, or one image of a network, takes on a board: cycles by what they were "
            "spent on, bytes\nby memory channel, and how much of the array was used, for each operator. Time "
            "is the model's; nothing is computed.",
            options, &code)) {
        return code;
    }
    qd_sim_report *r;
    if (!qd_cli_sim_report_of(&ask, &r)) return QD_EXIT_FAILED;
    const qd_cli_sim_work w = {qd_cli_sim_name(&ask), ask.network ? "frames" : "tokens", 1, r};
    code = page && !qd_cli_sim_write_page(page, &w) ? QD_EXIT_FAILED : QD_EXIT_OK;
    if (code == QD_EXIT_OK) code = ask.common.json ? qd_cli_print_json(qd_cli_sim_json(&w)) : qd_cli_sim_print_text(&w);
    qd_sim_report_free(r);
    return code;
}
