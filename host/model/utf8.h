/* UTF-8 as the tokenizers need it. */
#ifndef QDOT_MODEL_UTF8_H
#define QDOT_MODEL_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** What qd_utf8_decode returns for bytes that are no character. */
#define QD_UTF8_INVALID UINT32_MAX

/** The character at text[0 … size), size at least 1; *length becomes its bytes. Bytes that begin no character (overlong
 *  forms, surrogates and cut characters included) give QD_UTF8_INVALID and a *length of 1. Source: RFC 3629. */
uint32_t qd_utf8_decode(const char *text, size_t size, size_t *length);

/** Writes a character below 0x110000 to out[0 … 4), returns its bytes. */
size_t qd_utf8_encode(uint32_t character, char *out);

/** Whether the whole text is UTF-8; if not, *offset is where the first invalid byte stands. */
bool qd_utf8_valid(const char *text, size_t size, size_t *offset);

#endif
