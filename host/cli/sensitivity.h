/* What `qdot sensitivity` and `qdot plan` share. */
#ifndef QDOT_CLI_SENSITIVITY_H
#define QDOT_CLI_SENSITIVITY_H

#include "cli/cli.h"
#include "qdot/qdot_sensitivity.h"

/** Perplexity of the model as it is, and what `nll_change` adds to it. */
double qd_cli_base_perplexity(const qd_sensitivity *s);
double qd_cli_perplexity_change(const qd_sensitivity *s, double nll_change);
/** Bytes of a part in the model's file. */
double qd_cli_part_bytes(const qd_sensitivity_part *p);

/** Writes a self-contained page with a chart for each format; prints a message and returns false on failure. */
bool qd_cli_sensitivity_page(const qd_sensitivity *s, const char *model, const char *path);

#endif
