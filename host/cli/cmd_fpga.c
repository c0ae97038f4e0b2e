/* qdot fpga: precompiled binaries. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli.h"
#include "qdot/qdot_fpga.h"

/* ---- What is shown ------------------------------------------------------------------------------------------ */

static int show(const qd_fpga_manifest *m, const char *path, bool json) {
    if (!json) {
        printf("%s: %s for %s, %s, %d kernels, %d channels x %d products x %d columns\n", path, m->binary, m->board,
               m->sha256[0] ? "sealed" : "not built yet", m->n_kernels, m->pe, m->vec, m->tokens);
        for (int i = 0; i < m->n_kernels; i++) {
            const qd_fpga_kernel *k = &m->kernels[i];
            printf("  %-26s %d compute unit%s", k->variant, k->units, k->units > 1 ? "s" : "");
            for (int b = 0; b < k->n_banks; b++)
                printf("%s%s in bank %d", b ? ", " : ": ", k->banks[b].operand, k->banks[b].bank);
            printf("\n");
        }
        return QD_EXIT_OK;
    }
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "manifest", path);
    cJSON_AddStringToObject(o, "vendor", m->vendor);
    cJSON_AddStringToObject(o, "board", m->board);
    cJSON_AddStringToObject(o, "binary", m->binary);
    cJSON_AddStringToObject(o, "sha256", m->sha256);
    cJSON *kernels = cJSON_AddArrayToObject(o, "kernels");
    for (int i = 0; i < m->n_kernels; i++)
        cJSON_AddItemToArray(kernels, cJSON_CreateString(m->kernels[i].variant));
    return qd_cli_print_json(o);
}

/* ---- The vendors' commands ---------------------------------------------------------------------------------- */

/* The file below hls/ that a variant's top is in, and its name there: "matmul_int_single" is matmul_int; and what
 * chooses its weights' format: of "matmul_q4_0_single" that is " -DQD_W_Q4_0". */
static void top_of(const char *variant, char name[48], char option[32]) {
    const char *end = strstr(variant, "_single"), *format = strstr(variant, "_q");
    snprintf(name, 48, "%.*s", (int)((format ? format : end) - variant), variant);
    option[0] = 0;
    if (format) snprintf(option, 32, " -DQD_W_Q%.*s", (int)(end - format) - 2, format + 2);
}

static void intel_commands(FILE *f, const qd_fpga_manifest *m, const char *const files[], char options[][256], int n) {
    for (int i = 0; i < n; i++)
        fprintf(f, "aoc -c -board=%s -cl-std=CL1.2 %s %s.cl -o %s.aoco\n", m->board, options[i], files[i], files[i]);
    fprintf(f, "aoc -board=%s", m->board);
    for (int i = 0; i < n; i++)
        fprintf(f, " %s.aoco", files[i]);
    fprintf(f, " -o %s\n", m->binary);
}

static void amd_commands(FILE *f, const qd_fpga_manifest *m, const char *hls, const char *const files[]) {
    int n = 0;
    for (int i = 0; i < m->n_kernels; i++) {
        const qd_fpga_kernel *k = &m->kernels[i];
        char top[48], format[32];
        top_of(k->variant, top, format);
        for (int u = 0; u < k->units; u++, n++) {
            fprintf(f,
                    "v++ -c -t hw --platform %s -k %s -D%s=%s%s -DQD_PE=%d -DQD_VEC=%d -DQD_TOKENS=%d -I '%s' -I "
                    "'%s/../host/include/qdot' '%s/%s.c' -o %s.xo\n",
                    m->board, files[n], top, files[n], format, m->pe, m->vec, m->tokens, hls, hls, hls, top, files[n]);
        }
    }
    fprintf(f, "v++ -l -t hw --platform %s", m->board);
    n = 0;
    for (int i = 0; i < m->n_kernels; i++) {
        const qd_fpga_kernel *k = &m->kernels[i];
        for (int u = 0; u < k->units; u++, n++) {
            for (int b = 0; b < k->n_banks; b++)
                fprintf(f, " --connectivity.sp %s_1.%s:DDR[%d]", files[n], k->banks[b].operand, k->banks[b].bank);
            fprintf(f, " %s.xo", files[n]);
        }
    }
    fprintf(f, " -o %s\n", m->binary);
}

/* What goes before "_read" in a compute unit's functions, or all of the name. */
static void unit_file(const qd_fpga_kernel *k, int unit, char name[64]) {
    snprintf(name, 64, "%s", k->functions[unit][0]);
    char *end = k->stages > 1 ? strstr(name, "_read") : NULL;
    if (end) *end = 0;
}

/* Writes the sources and build.sh into the folder. */
static bool write_build(const qd_fpga_manifest *m, const char *folder, const char *hls) {
    enum { MOST = QD_FPGA_KERNELS * QD_FPGA_UNITS };
    static char names[MOST][64], options[MOST][256];
    const char *files[MOST];
    char path[600];
    int n = 0;
    const bool intel = !strcmp(m->vendor, "intel");
    for (int i = 0; i < m->n_kernels; i++) {
        for (int u = 0; u < m->kernels[i].units; u++, n++) {
            unit_file(&m->kernels[i], u, names[n]);
            files[n] = names[n];
            snprintf(path, sizeof path, "%s/%s.cl", folder, names[n]);
            if (intel && qd_fpga_source(m, i, u, path, options[n]) != QD_OK) {
                qd_cli_failed();
                return false;
            }
        }
    }
    snprintf(path, sizeof path, "%s/build.sh", folder);
    FILE *f = fopen(path, "w");
    if (f) {
        fprintf(f, "#!/bin/sh\n# Builds %s for %s.\nset -eu\ncd \"$(dirname \"$0\")\"\n", m->binary, m->board);
        if (intel) {
            intel_commands(f, m, files, options, n);
        } else {
            amd_commands(f, m, hls, files);
        }
        fprintf(f, "qdot fpga seal qdot.json\n");
    }
    if (!f || ferror(f) || fclose(f)) {
        qd_cli_fail("%s could not be written: %s", path, strerror(errno));
        return false;
    }
    return true;
}

/* ---- Sub-commands ------------------------------------------------------------------------------------------- */

typedef struct build_options {
    qd_cli_common common;
    const char *vendor, *board, *out, *kernels, *banks, *hls;
    int64_t units, pe, lanes, tokens;
    bool autorun, run;
} build_options;

/* "w=1,x=0": of every kernel that has the operand. */
static bool read_banks(const char *text, qd_fpga_manifest *m) {
    for (const char *p = text; p && *p;) {
        char operand[24];
        int bank, used = 0;
        if (sscanf(p, "%23[a-z_]=%d%n", operand, &bank, &used) != 2 || (p[used] && p[used] != ',') || bank < 0) {
            qd_cli_fail("--banks %s: give operands and numbers, as in w=1,x=0,y=0", text);
            return false;
        }
        for (int i = 0; i < m->n_kernels; i++) {
            qd_fpga_kernel *k = &m->kernels[i];
            if (!qd_fpga_has_operand(k->variant, operand) || k->n_banks == QD_FPGA_BANKS) continue;
            qd_fpga_bank *b = &k->banks[k->n_banks++];
            snprintf(b->operand, sizeof b->operand, "%s", operand);
            b->bank = bank;
        }
        p += used + (p[used] == ',');
    }
    return true;
}

/* "a,b" as a list in place. */
static int split(char *text, const char *words[], int most) {
    int n = 0;
    for (char *p = text ? strtok(text, ",") : NULL; p && n < most; p = strtok(NULL, ","))
        words[n++] = p;
    return n;
}

/* The emulator's compiler is the OpenCL device itself. */
static int build_on_emulator(const build_options *o, const qd_fpga_manifest *m, const char *path) {
    qd_context_options options = qd_cli_context_options(&o->common);
    qd_context *context = NULL;
    options.binary = "";
    const char *device = o->common.device ? o->common.device : "opencl:FPGA Emulation";
    qd_status status = qd_context_create(device, &options, &context);
    if (status == QD_ERR_NO_DEVICE) {
        return qd_cli_fail(
            "Intel's FPGA emulator is not installed: `sh tests/opencl_runtimes.sh` brings it "
            "(%s)",
            qd_last_message());
    }
    if (!status) status = qd_fpga_build(context, m, path);
    const int code = status ? qd_cli_failed() : QD_EXIT_OK;
    qd_context_free(context);
    return code;
}

static int print_file(const char *path) {
    char *text;
    size_t size;
    if (!qd_cli_read(path, &text, &size)) return QD_EXIT_FAILED;
    fwrite(text, 1, size, stdout);
    free(text);
    return QD_EXIT_OK;
}

static int run_script(const qd_fpga_manifest *m, const char *folder) {
    char command[700];
    const char *tool = !strcmp(m->vendor, "intel") ? "aoc" : "v++";
    snprintf(command, sizeof command, "command -v %s >/dev/null", tool);
    if (system(command) != 0) {
        return qd_cli_fail("%s is not installed: run %s/build.sh where it is", tool, folder);
    }
    if (strchr(folder, '\'')) return qd_cli_fail("the folder's name must not hold a quote");
    snprintf(command, sizeof command, "sh '%s/build.sh'", folder);
    return system(command) == 0 ? QD_EXIT_OK : qd_cli_fail("%s/build.sh failed", folder);
}

static int build(const build_options *o) {
    static qd_fpga_manifest m;
    char list[512], path[600], script[600];
    const char *words[QD_FPGA_KERNELS];
    snprintf(list, sizeof list, "%s", o->kernels ? o->kernels : "");
    const int n = split(list, words, QD_FPGA_KERNELS);
    const qd_fpga_shape shape = {(int)o->units, (int)o->pe, (int)o->tokens, o->autorun, (int)o->lanes};
    if (!o->vendor) return qd_cli_fail("--vendor is needed: intel or amd");
    if (qd_fpga_plan(o->vendor, o->board, words, n, &shape, &m) != QD_OK) return qd_cli_failed();
    if (!read_banks(o->banks, &m)) return QD_EXIT_FAILED;
    if (mkdir(o->out, 0777) && errno != EEXIST) return qd_cli_fail("%s: %s", o->out, strerror(errno));
    snprintf(path, sizeof path, "%s/qdot.json", o->out);
    snprintf(script, sizeof script, "%s/build.sh", o->out);
    const bool emulator = !strcmp(m.board, "emulator") && !strcmp(m.vendor, "intel");
    if (emulator && o->run) {
        const int code = build_on_emulator(o, &m, path);
        if (code != QD_EXIT_OK) return code;
        return qd_fpga_read(path, &m) == QD_OK ? show(&m, path, o->common.json) : qd_cli_failed();
    }
    char hls[PATH_MAX] = ""; /* build.sh runs in another folder */
    if (!strcmp(m.vendor, "amd") && !realpath(o->hls, hls)) {
        return qd_cli_fail("--hls %s: %s; the sources' folder hls/ is needed", o->hls, strerror(errno));
    }
    if (!write_build(&m, o->out, hls)) return QD_EXIT_FAILED;
    if (qd_fpga_write(&m, path) != QD_OK) return qd_cli_failed();
    if (!o->run) return o->common.json ? show(&m, path, true) : print_file(script);
    const int code = run_script(&m, o->out);
    if (code != QD_EXIT_OK) return code;
    return qd_fpga_read(path, &m) == QD_OK ? show(&m, path, o->common.json) : qd_cli_failed();
}

static int with_file(int argc, char **argv, const char *usage, const char *about, bool seal) {
    static qd_fpga_manifest m;
    const char *path = NULL;
    bool json = false;
    const qd_cli_option options[] = {
        {"MANIFEST", 0, QD_CLI_OPERAND, &path, 0, 0, NULL, "the manifest"},
        {"json", 0, QD_CLI_FLAG, &json, 0, 0, NULL, "one JSON object on standard output"},
        {.kind = QD_CLI_END},
    };
    int code;
    if (!qd_cli_parse(argc, argv, usage, about, options, &code)) return code;
    if (!path) return qd_cli_fail("which manifest? (qdot %s)", usage);
    const qd_status status = seal ? qd_fpga_seal(path, &m) : qd_fpga_read(path, &m);
    return status ? qd_cli_failed() : show(&m, path, json);
}

static int cmd_build(int argc, char **argv) {
    build_options o = {.out = "fpga", .hls = "hls", .units = 1, .pe = 4, .lanes = 1, .tokens = 8};
    const qd_cli_option options[] = {
        {"vendor", 0, QD_CLI_TEXT, &o.vendor, 0, 0, "VENDOR", "intel (OpenCL C with channels) or amd (C99 of hls/)"},
        {"board", 0, QD_CLI_TEXT, &o.board, 0, 0, "BOARD",
         "as the vendor's compiler calls it, or emulator (with --run: built here)"},
        {"out", 'o', QD_CLI_TEXT, &o.out, 0, 0, "DIR", "where the files go (default fpga)"},
        {"kernels", 0, QD_CLI_TEXT, &o.kernels, 0, 0, "A,B,…",
         "variants, as in `qdot devices` (default: all for FPGAs)"},
        {"units", 0, QD_CLI_INT, &o.units, 1, QD_FPGA_UNITS, "N",
         "compute units of the matrix products (default 1): they share out the output channels"},
        {"pe", 0, QD_CLI_INT, &o.pe, 1, 64, "N", "output channels side by side in the array (default 4)"},
        {"lanes", 0, QD_CLI_INT, &o.lanes, 1, 4, "N",
         "16 products each of every channel in a cycle (1, 2 or 4; default 1)"},
        {"tokens", 0, QD_CLI_INT, &o.tokens, 1, 64, "N", "columns that share the weights of a turn (default 8)"},
        {"autorun", 0, QD_CLI_FLAG, &o.autorun, 0, 0, NULL,
         "intel: arrays start with the card and are never launched (an emulator spends a core on each)"},
        {"banks", 0, QD_CLI_TEXT, &o.banks, 0, 0, "w=1,x=0,…", "memory banks of the operands"},
        {"hls", 0, QD_CLI_TEXT, &o.hls, 0, 0, "DIR", "amd: where hls/ of the sources is (default hls)"},
        {"run", 0, QD_CLI_FLAG, &o.run, 0, 0, NULL, "run the commands, too, where the vendor's compiler is installed"},
        QD_CLI_DEVICE_OPTION(o.common),
        QD_CLI_JSON_OPTION(o.common),
        QD_CLI_VERBOSE_OPTION(o.common),
        {.kind = QD_CLI_END},
    };
    int code;
    if (!qd_cli_parse(
            argc, argv, "fpga build --vendor VENDOR --board BOARD [options]",
            "Writes the kernels' sources, a manifest (DIR/qdot.json) and the vendor's commands (DIR/build.sh), "
            "and prints those.\nThe last command, `qdot fpga seal`, puts the binary's hash into the manifest.",
            options, &code)) {
        return code;
    }
    return build(&o);
}

int qd_cmd_fpga(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "build")) return cmd_build(argc - 1, argv + 1);
    if (!strcmp(what, "seal")) {
        return with_file(argc - 1, argv + 1, "fpga seal MANIFEST",
                         "Puts the hash of a binary that was just built into its manifest.", true);
    }
    if (!strcmp(what, "check")) {
        return with_file(argc - 1, argv + 1, "fpga check MANIFEST",
                         "Checks a manifest and its binary as far as that can be done without the card, and names the "
                         "field that is wrong.\nTo use it: options.binary, or QDOT_FPGA_BINARY=MANIFEST.",
                         false);
    }
    if (*what && strcmp(what, "--help") != 0 && strcmp(what, "-h") != 0) {
        return qd_cli_fail("unexpected word '%s': qdot fpga takes build, seal or check (see: qdot fpga --help)", what);
    }
    fprintf(*what ? stdout : stderr,
            "usage: qdot fpga build|seal|check [options]\n\n"
            "  build   write sources, manifest and the vendor's commands; with --run run them\n"
            "  seal    put a new binary's hash into its manifest\n"
            "  check   validate a manifest and its binary\n\n"
            "`qdot fpga build --help` tells more. A binary is used with QDOT_FPGA_BINARY=MANIFEST.\n");
    return *what ? QD_EXIT_OK : QD_EXIT_FAILED;
}
