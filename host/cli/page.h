/* Pages and charts: what the files that write HTML and SVG share. */
#ifndef QDOT_CLI_PAGE_H
#define QDOT_CLI_PAGE_H

#include <stdbool.h>
#include <stdio.h>

/** Opens a file for writing; prints a message and returns NULL on failure. */
FILE *qd_cli_page_open(const char *path);
/** Closes it; prints a message and returns false when it could not be written. */
bool qd_cli_page_close(FILE *f, const char *path);
/** Text of a page, its special characters escaped. */
void qd_cli_page_text(FILE *f, const char *text);

#endif
