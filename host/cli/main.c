/* qdot: the program. One table of sub-commands. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static const struct {
    const char *name;
    int (*run)(int, char **);
    const char *help;
} commands[] = {
    {"devices", qd_cmd_devices, "list devices, what they can do, and why some are not used"},
    {"fpga", qd_cmd_fpga, "build and check precompiled binaries for FPGA cards"},
    {"inspect", qd_cmd_inspect, "show what is in a model file"},
    {"formats", qd_cmd_formats, "list number formats and codings"},
    {"quantize", qd_cmd_quantize, "store a model's weights in another format, and tell what that costs"},
    {"convert", qd_cmd_convert, "packed weights of GPTQ and AWQ, to and from GGUF; orders of packed codes"},
    {"tokenize", qd_cmd_tokenize, "turn text into tokens and back"},
    {"run", qd_cmd_run, "generate text with a model"},
    {"logits", qd_cmd_logits, "give a model's exact answer to a prompt, for comparing"},
    {"perplexity", qd_cmd_perplexity, "measure how well a model predicts a text"},
    {"calibrate", qd_cmd_calibrate, "let a model read a text, and write what its matrices read"},
    {"sensitivity", qd_cmd_sensitivity, "measure what each matrix or layer costs in other formats"},
    {"plan", qd_cmd_plan, "choose a format for each tensor by that, under a limit of size or perplexity"},
    {"compare", qd_cmd_compare, "set two models side by side: size, speed, and what they predict"},
    {"bench", qd_cmd_bench, "measure speeds, next to what the machine could do"},
    {"tune", qd_cmd_tune, "find the fastest ways a device has, for every later program"},
    {"sim", qd_cmd_sim, "simulated FPGA boards: reports, the search for designs, the model's error"},
    {"verify", qd_cmd_verify, "compare a device with the C reference, byte for byte"},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(FILE *out) {
    fprintf(out,
            "usage: qdot COMMAND [options]\n\n"
            "Quantized neural-network arithmetic on OpenCL devices.\n\ncommands:\n");
    for (int i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].help);
    fprintf(out,
            "  %-12s %s\n\n`qdot help COMMAND` tells its options. Exit codes: 0 success, 1 a difference was found, 2 "
            "failure.\n",
            "help", "tell how to use a command");
}

/* Levenshtein distance; words longer than 31 bytes are cut. */
static int distance(const char *a, const char *b) {
    int row[33];
    const int m = (int)strnlen(a, 31), n = (int)strnlen(b, 31);
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 1; i <= m; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            const int change = diagonal + (a[i - 1] != b[j - 1]);
            const int step = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = change < step ? change : step;
        }
    }
    return row[n];
}

static int find_command(const char *name) {
    for (int i = 0; i < COMMANDS; i++) {
        if (strcmp(name, commands[i].name) == 0) return i;
    }
    return -1;
}

static int unknown_command(const char *name) {
    int best = 0;
    for (int i = 1; i < COMMANDS; i++) {
        if (distance(name, commands[i].name) < distance(name, commands[best].name)) best = i;
    }
    return qd_cli_fail("unknown command '%s'; did you mean '%s'? (`qdot help` lists all)", name, commands[best].name);
}

static int dispatch(int argc, char **argv) {
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(argc < 2 ? stderr : stdout);
        return argc < 2 ? QD_EXIT_FAILED : QD_EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("qdot %s\n", qd_version());
        return QD_EXIT_OK;
    }
    if (strcmp(argv[1], "help") == 0) {
        if (argc == 2) {
            print_help(stdout);
            return QD_EXIT_OK;
        }
        const int i = find_command(argv[2]);
        char help[] = "--help";
        char *words[] = {argv[2], help, NULL};
        return i < 0 ? unknown_command(argv[2]) : commands[i].run(2, words);
    }
    const int i = find_command(argv[1]);
    return i < 0 ? unknown_command(argv[1]) : commands[i].run(argc - 1, argv + 1);
}

int main(int argc, char **argv) {
    const int code = dispatch(argc, argv);
    /* A full disk or a closed pipe is a failure, too. */
    if (fflush(stdout) != 0 || ferror(stdout)) return qd_cli_fail("standard output could not be written");
    return code;
}
