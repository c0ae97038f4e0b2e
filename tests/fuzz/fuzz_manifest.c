/* Reads arbitrary bytes as the manifest of an FPGA binary and, where that succeeds, uses everything in it. See
 * README.md beside this file. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fpga/fpga.h"

static void require(int condition) {
    if (!condition) abort();
}

/* A text that ends within its array. */
#define TEXT(array) require(memchr((array), 0, sizeof(array)) != NULL)

static void walk_kernel(const qd_fpga_manifest *m, const qd_fpga_kernel *k) {
    TEXT(k->variant);
    require(qd_fpga_kernel_find(m, k->variant) == k); /* none stands there twice */
    require(qd_fpga_variant_find(k->variant) != NULL);
    require(k->units >= 1 && k->units <= QD_FPGA_UNITS);
    require(k->stages == 1 || k->stages == QD_FPGA_STAGES);
    for (int u = 0; u < k->units; u++) {
        for (int s = 0; s < k->stages; s++) {
            TEXT(k->functions[u][s]);
            require(k->functions[u][s][0] != 0);
        }
    }
    require(k->n_banks >= 0 && k->n_banks <= QD_FPGA_BANKS);
    for (int i = 0; i < k->n_banks; i++) {
        const qd_fpga_bank *b = &k->banks[i];
        TEXT(b->operand);
        require(b->bank >= 0 && b->bank < 64);
        require(qd_fpga_has_operand(k->variant, b->operand));
        require(qd_fpga_bank_of(k, b->operand) == b->bank);
        if (!strcmp(b->operand, "y")) require(qd_fpga_arena_bank(m) == b->bank);
    }
    for (int i = 0; i < QD_MAX_IN; i++)
        require(qd_fpga_bank_of_input(k, i) >= -1);
}

static void walk(const qd_fpga_manifest *m, bool sealed) {
    char path[600];
    TEXT(m->vendor);
    TEXT(m->board);
    TEXT(m->binary);
    TEXT(m->sha256);
    TEXT(m->packing);
    require(!sealed || strlen(m->sha256) == 64);
    require(m->pe >= 1 && m->pe <= 64 && m->vec == 16 && m->tokens >= 1 && m->tokens <= 64);
    require(m->clock_mhz >= 0 && m->clock_mhz <= 10000);
    require(m->n_kernels >= 1 && m->n_kernels <= QD_FPGA_KERNELS);
    qd_fpga_binary_path(m, "folder/manifest", path, sizeof path);
    require(strncmp(path, "folder/", 7) == 0 && !strchr(path + 7, '/') && path[7]);
    for (int i = 0; i < m->n_kernels; i++)
        walk_kernel(m, &m->kernels[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static qd_fpga_manifest m;
    for (int sealed = 0; sealed < 2; sealed++) {
        const qd_status status = qd_fpga_parse("manifest", (const char *)data, size, sealed, &m);
        if (status == QD_OK) {
            walk(&m, sealed);
        } else {
            require(status == QD_ERR_FILE && !strncmp(qd_last_message(), "manifest", 8));
            require(!strchr(qd_last_message(), '\n'));
        }
    }
    return 0;
}
