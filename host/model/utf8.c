#include "model/utf8.h"

uint32_t qd_utf8_decode(const char *text, size_t size, size_t *length) {
    const unsigned char *p = (const unsigned char *)text;
    *length = 1;
    if (p[0] < 0x80) return p[0];
    if (p[0] < 0xC2 || p[0] > 0xF4) return QD_UTF8_INVALID;
    const size_t n = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    if (size < n) return QD_UTF8_INVALID;
    uint32_t character = p[0] & (0xFFu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80) return QD_UTF8_INVALID;
        character = character << 6 | (p[i] & 0x3Fu);
    }
    const uint32_t least = n == 2 ? 0x80 : n == 3 ? 0x800 : 0x10000;
    if (character < least || character > 0x10FFFF || (character >= 0xD800 && character < 0xE000)) {
        return QD_UTF8_INVALID;
    }
    *length = n;
    return character;
}

size_t qd_utf8_encode(uint32_t character, char *out) {
    if (character < 0x80) {
        out[0] = (char)character;
        return 1;
    }
    const size_t n = character < 0x800 ? 2 : character < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (character & 0x3F));
        character >>= 6;
    }
    out[0] = (char)((0xF00u >> n & 0xF0u) | character);
    return n;
}

bool qd_utf8_valid(const char *text, size_t size, size_t *offset) {
    for (size_t i = 0, length; i < size; i += length) {
        if (qd_utf8_decode(text + i, size - i, &length) == QD_UTF8_INVALID) {
            *offset = i;
            return false;
        }
    }
    return true;
}
