/* JSON output of the sub-commands. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

int qd_cli_print_json(cJSON *object) {
    char *text = object ? cJSON_Print(object) : NULL;
    cJSON_Delete(object);
    if (!text) return qd_cli_fail("out of memory while writing JSON");
    puts(text);
    cJSON_free(text);
    return QD_EXIT_OK;
}

/* Length of the UTF-8 sequence at p, 0 when it is none (RFC 3629: no overlong forms, no surrogates). */
static size_t sequence(const unsigned char *p, size_t left) {
    if (p[0] < 0x80) return p[0] ? 1 : 0;
    const size_t n = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || n > left) return 0;
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
    }
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f)) {
        return 0;
    }
    return n;
}

void qd_cli_json_text(cJSON *object, const char *name, const char *text, size_t size) {
    char *clean = malloc(3 * size + 1);
    if (!clean) return;
    size_t used = 0;
    for (size_t i = 0; i < size;) {
        const size_t n = sequence((const unsigned char *)text + i, size - i);
        memcpy(clean + used, n ? text + i : "\xef\xbf\xbd", n ? n : 3);
        used += n ? n : 3;
        i += n ? n : 1;
    }
    clean[used] = 0;
    cJSON_AddStringToObject(object, name, clean);
    free(clean);
}

void qd_cli_json_tokens(cJSON *object, const char *name, const int32_t *tokens, size_t count) {
    cJSON *array = cJSON_AddArrayToObject(object, name);
    for (size_t i = 0; i < count; i++)
        cJSON_AddItemToArray(array, cJSON_CreateNumber(tokens[i]));
}
