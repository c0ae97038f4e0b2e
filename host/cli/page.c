#include "cli/page.h"

#include <errno.h>
#include <string.h>

#include "cli/cli.h"

FILE *qd_cli_page_open(const char *path) {
    FILE *f = fopen(path, "w");
    if (!f) qd_cli_fail("%s: %s", path, strerror(errno));
    return f;
}

bool qd_cli_page_close(FILE *f, const char *path) {
    const bool bad = ferror(f);
    if (fclose(f) == 0 && !bad) return true;
    qd_cli_fail("%s: could not be written: %s", path, strerror(errno));
    return false;
}

void qd_cli_page_text(FILE *f, const char *text) {
    for (; *text; text++) {
        switch (*text) {
            case '<':
                fputs("&lt;", f);
                break;
            case '>':
                fputs("&gt;", f);
                break;
            case '&':
                fputs("&amp;", f);
                break;
            case '"':
                fputs("&quot;", f);
                break;
            default:
                fputc((unsigned char)*text < 32 ? ' ' : *text, f);
        }
    }
}
