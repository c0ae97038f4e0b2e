/* The machine in words, and how busy it is. Linux's files; elsewhere little is known. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/bench_peers.h"

/* The value of the first line "name : value" of /proc/cpuinfo, into `text`, which stays as it is where there is none.
 */
static void cpu_fact(const char *name, char *text, int size) {
    char line[4096];
    FILE *f = fopen("/proc/cpuinfo", "r");
    if (!f) return;
    while (fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        const size_t length = strlen(name);
        if (!colon || strncmp(line, name, length) != 0 || (line[length] != '\t' && line[length] != ' ')) continue;
        const char *value = colon + 1 + strspn(colon + 1, " ");
        snprintf(text, (size_t)size, "%.*s", (int)strcspn(value, "\n"), value);
        break;
    }
    fclose(f);
}

static bool has_word(const char *words, const char *word) {
    const size_t length = strlen(word);
    for (const char *p = words; (p = strstr(p, word)); p += length) {
        if ((p == words || p[-1] == ' ') && (p[length] == ' ' || p[length] == 0)) return true;
    }
    return false;
}

/* "L1 32K, L2 1024K, L3 32768K", of the first processor's data caches. */
static void describe_caches(char *out, size_t size) {
    size_t used = 0;
    *out = 0;
    for (int i = 0; i < 8; i++) {
        static const char *const names[] = {"type", "level", "size"};
        char value[3][24] = {"", "", ""};
        for (int k = 0; k < 3; k++) {
            char path[96];
            snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", i, names[k]);
            FILE *f = fopen(path, "r");
            if (!f) return;
            if (fgets(value[k], sizeof value[k], f)) value[k][strcspn(value[k], "\n")] = 0;
            fclose(f);
        }
        if (strcmp(value[0], "Instruction") == 0) continue;
        const int n = snprintf(out + used, size - used, "%sL%s %s", used ? ", " : "", value[1], value[2]);
        if (n < 0 || (size_t)n >= size - used) return;
        used += (size_t)n;
    }
}

void qd_bench_describe_machine(qd_bench_machine *out) {
    /* What makes kernels differ. Arm's names stand in the same file under "Features". */
    static const char *const wanted[] = {"sse4_1",   "avx",     "avx2",     "fma",         "f16c",
                                         "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16",
                                         "amx_int8", "asimd",   "asimddp",  "i8mm",        "sve"};
    char flags[4096] = "", family[12] = "";
    *out = (qd_bench_machine){.processors = sysconf(_SC_NPROCESSORS_ONLN)};
    snprintf(out->processor, sizeof out->processor, "unknown processor");
    cpu_fact("model name", out->processor, sizeof out->processor);
    cpu_fact("cpu family", family, sizeof family);
    if (*family) { /* a virtual machine's name may be that of several generations */
        const size_t n = strlen(out->processor);
        snprintf(out->processor + n, sizeof out->processor - n, " (family %s)", family);
    }
    cpu_fact("flags", flags, sizeof flags);
    if (!*flags) cpu_fact("Features", flags, sizeof flags);
    size_t used = 0;
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        if (!has_word(flags, wanted[i]) || used + strlen(wanted[i]) + 2 > sizeof out->features) continue;
        used += (size_t)snprintf(out->features + used, sizeof out->features - used, "%s%s", used ? " " : "", wanted[i]);
    }
    describe_caches(out->caches, sizeof out->caches);
}

double qd_bench_busy_seconds(void) {
    unsigned long long t[8];
    FILE *f = fopen("/proc/stat", "r");
    if (!f) return -1;
    /* user, nice, system, idle, iowait, irq, softirq, steal */
    const int n = fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &t[0], &t[1], &t[2], &t[3], &t[4], &t[5],
                         &t[6], &t[7]);
    fclose(f);
    if (n != 8) return -1;
    return (double)(t[0] + t[1] + t[2] + t[5] + t[6] + t[7]) / (double)sysconf(_SC_CLK_TCK);
}
