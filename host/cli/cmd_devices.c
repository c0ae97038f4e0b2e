/* qdot devices: what there is, what was probed, and which kernels passed. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "qdot/qdot_sim.h"
#include "qdot/qdot_tuning.h"

static cJSON *device_json(const qd_device_info *d) {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "id", d->id);
    cJSON_AddStringToObject(o, "kind", d->kind);
    cJSON_AddBoolToObject(o, "usable", d->usable);
    cJSON_AddStringToObject(o, "why", d->why);
    cJSON_AddStringToObject(o, "platform", d->platform);
    cJSON_AddStringToObject(o, "name", d->name);
    cJSON_AddStringToObject(o, "driver", d->driver);
    cJSON_AddStringToObject(o, "version", d->version);
    cJSON_AddStringToObject(o, "features", d->features);
    cJSON_AddNumberToObject(o, "compute_units", d->compute_units);
    cJSON_AddNumberToObject(o, "memory_bytes", (double)d->memory_bytes);
    cJSON_AddNumberToObject(o, "max_alloc_bytes", (double)d->max_alloc_bytes);
    cJSON_AddNumberToObject(o, "local_bytes", (double)d->local_bytes);
    return o;
}

static void print_line(const char *what, const char *value) {
    if (value[0]) printf("  %-10s %s\n", what, value);
}

static void print_device(const qd_device_info *d) {
    char a[24], b[24], c[24];
    printf("%s\n", d->id);
    if (!d->usable) printf("  not used   %s\n", d->why);
    print_line("kind", d->kind);
    print_line("name", d->name);
    print_line("platform", d->platform);
    print_line("driver", d->driver);
    print_line("version", d->version);
    print_line("features", d->features);
    if (d->compute_units) printf("  %-10s %u compute units\n", "size", d->compute_units);
    if (d->memory_bytes) {
        printf("  %-10s %s, at most %s at once, %s local\n", "memory", qd_cli_size(d->memory_bytes, a),
               qd_cli_size(d->max_alloc_bytes, b), qd_cli_size(d->local_bytes, c));
    }
}

/* What is being built, in one line of a terminal that the next one takes over. */
static void show_step(void *unused, const char *line) {
    (void)unused;
    fprintf(stderr, "\r\033[K%.78s", line);
}

static void print_times(const qd_kernel_info *kernels, int count) {
    double load = 0, build = 0, canary = 0;
    for (int i = 0; i < count; i++) {
        load += kernels[i].load_seconds;
        build += kernels[i].build_seconds;
        canary += kernels[i].canary_seconds;
    }
    printf("  %-10s cache %.3f s, compiling %.3f s, canaries %.3f s\n", "time", load, build, canary);
}

/* The file that contexts of a device are tuned by, where there is one. */
static void show_tuning(qd_context *context, cJSON *json) {
    qd_tuning_info info;
    if (qd_context_tuning(context, &info) != QD_OK || (!info.classes && !info.why[0])) return;
    if (json) {
        cJSON *o = cJSON_AddObjectToObject(json, "tuning");
        cJSON_AddStringToObject(o, "file", info.path);
        cJSON_AddNumberToObject(o, "classes", info.classes);
        cJSON_AddStringToObject(o, "why", info.why);
    } else if (info.why[0]) {
        printf("  %-10s %s is not used: %s\n", "tuning", info.path, info.why);
    } else {
        printf("  %-10s %d classes by %s\n", "tuning", info.classes, info.path);
    }
}

/* Shows what a device that can be opened is tuned by. */
static void show_opened(const char *id, cJSON *json) {
    qd_context *context = NULL;
    if (qd_context_create(id, NULL, &context) == QD_OK) show_tuning(context, json);
    qd_context_free(context);
}

/* Proves the kernels of one device and shows the verdicts; adds them to `json` when that is not NULL. */
static bool show_kernels(const qd_cli_common *common, const char *id, cJSON *json) {
    qd_context_options options = qd_cli_context_options(common);
    const bool steps = !options.log && isatty(STDERR_FILENO);
    if (steps) options.log = show_step;
    qd_context *context = NULL;
    qd_kernel_info *kernels = NULL;
    int count = 0;
    const bool ok =
        qd_context_create(id, &options, &context) == QD_OK && qd_context_kernels(context, &kernels, &count) == QD_OK;
    if (steps) fprintf(stderr, "\r\033[K");
    if (!ok) qd_cli_failed();
    if (context) show_tuning(context, json);
    cJSON *rows = json ? cJSON_AddArrayToObject(json, "kernels") : NULL;
    if (!json && count > 0)
        printf("  %-18s %-22s %-22s %-11s %s\n", "operator", "variant", "formats", "verdict", "why");
    for (int i = 0; i < count; i++) {
        const qd_kernel_info *k = &kernels[i];
        if (!json) {
            printf("  %-18s %-22s %-22s %-11s %s\n", k->op, k->variant, k->formats, k->verdict, k->why);
            continue;
        }
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "op", k->op);
        cJSON_AddStringToObject(o, "variant", k->variant);
        cJSON_AddStringToObject(o, "formats", k->formats);
        cJSON_AddStringToObject(o, "verdict", k->verdict);
        cJSON_AddStringToObject(o, "why", k->why);
        cJSON_AddNumberToObject(o, "load_seconds", k->load_seconds);
        cJSON_AddNumberToObject(o, "build_seconds", k->build_seconds);
        cJSON_AddNumberToObject(o, "canary_seconds", k->canary_seconds);
        cJSON_AddItemToArray(rows, o);
    }
    if (!json && count > 0) print_times(kernels, count);
    qd_kernels_free(kernels);
    qd_context_free(context);
    return ok;
}

int qd_cmd_devices(int argc, char **argv) {
    qd_cli_common common = {0};
    bool brief = false;
    const qd_cli_option options[] = {
        {"brief", 'b', QD_CLI_FLAG, &brief, 0, 0, NULL,
         "leave the kernels out: building and proving all of them takes a while on a new device"},
        QD_CLI_JSON_OPTION(common),
        QD_CLI_VERBOSE_OPTION(common),
        {.kind = QD_CLI_END},
    };
    int code;
    if (!qd_cli_parse(argc, argv, "devices [options]",
                      "Lists every device of every backend: what it is called, what was probed, why it is not used; "
                      "and for each kernel\n"
                      "variant whether it gave the reference's bytes, or why it is not used.",
                      options, &code)) {
        return code;
    }
    qd_device_info *devices;
    int count;
    if (qd_devices_list(&devices, &count) != QD_OK) return qd_cli_failed();
    cJSON *root = common.json ? cJSON_CreateObject() : NULL;
    cJSON *array = common.json ? cJSON_AddArrayToObject(root, "devices") : NULL;
    code = QD_EXIT_OK;
    for (int i = 0; i < count; i++) {
        cJSON *json = common.json ? device_json(&devices[i]) : NULL;
        if (common.json) {
            cJSON_AddItemToArray(array, json);
        } else {
            print_device(&devices[i]);
        }
        if (brief && devices[i].usable) show_opened(devices[i].id, json);
        if (!brief && devices[i].usable && !show_kernels(&common, devices[i].id, json)) code = QD_EXIT_FAILED;
    }
    qd_devices_free(devices);
    if (!common.json) {
        printf("sim:BOARD\n");
        print_line("kind", "simulated boards, each opened by its name");
        print_line("boards", qd_sim_board_names());
        return code;
    }
    cJSON *boards = cJSON_AddArrayToObject(root, "simulated_boards");
    for (int i = 0; qd_sim_board_name(i); i++)
        cJSON_AddItemToArray(boards, cJSON_CreateString(qd_sim_board_name(i)));
    const int printed = qd_cli_print_json(root);
    return printed == QD_EXIT_OK ? code : printed;
}
