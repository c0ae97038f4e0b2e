/* A report of a simulated board, as text and as JSON. */
#include <stdlib.h>
#include <string.h>

#include "cli/sim.h"

/* ---- Groups ------------------------------------------------------------------------------------------------- */

static double step_bytes(const qd_sim_step *s) {
    double all = 0;
    for (int i = 0; i < QD_SIM_TRAFFIC; i++)
        all += (double)s->bytes[i];
    return all;
}

qd_cli_sim_group *qd_cli_sim_groups(const qd_sim_report *r, int *count) {
    qd_cli_sim_group *groups = calloc((size_t)r->count + 1, sizeof *groups);
    if (!groups) {
        qd_cli_fail("out of memory");
        return NULL;
    }
    *count = 0;
    for (int i = 0; i < r->count; i++) {
        const qd_sim_step *s = &r->step[i];
        int g = 0;
        while (g < *count && strcmp(groups[g].first->task.name, s->task.name) != 0)
            g++;
        if (g == *count) groups[(*count)++].first = s;
        groups[g].count++;
        groups[g].cycles += (double)s->cycles;
        groups[g].macs += s->task.macs;
        groups[g].bytes += step_bytes(s);
        groups[g].could += (double)s->products;
        for (int c = 0; c < QD_SIM_CAUSES; c++)
            groups[g].cause[c] += (double)s->cause[c];
    }
    return groups;
}

double qd_cli_sim_utilization(const qd_sim_report *r, const qd_cli_sim_group *g) {
    const double array = (double)r->design.rows * r->design.cols * r->design.lanes;
    const double precision = g->first->task.w_bits == 4 ? 2 : 1;
    if (g->first->task.place != QD_SIM_UNIT || g->cycles <= 0) return 0;
    return g->macs / (g->cycles * array * precision);
}

/* ---- Text --------------------------------------------------------------------------------------------------- */

void qd_cli_sim_design_text(const qd_sim_design *d, char *text, size_t size) {
    snprintf(text, size,
             "%d x %d x %d at %g MHz, %d results a cycle, banks of 2^%d and 2^%d words, beats of %d and %d bytes%s",
             d->rows, d->cols, d->lanes, d->clock_mhz, d->quants, d->w_address, d->x_address, d->w_bytes, d->x_bytes,
             d->pack ? ", int4 packed" : "");
}

static void print_channels(const qd_sim_report *r) {
    printf("bytes by channel:");
    for (int i = 0; i < r->channels; i++)
        printf(" %.2f", 1e-6 * (double)r->channel_bytes[i]);
    printf(" MB\n");
}

static void print_groups(const qd_sim_report *r, const qd_cli_sim_group *groups, int count) {
    printf("\n%-36s %5s %12s %6s %6s %9s  %s\n", "operator", "times", "cycles", "share", "array", "MB",
           "cycles by cause");
    for (int g = 0; g < count; g++) {
        const qd_cli_sim_group *x = &groups[g];
        printf("%-36.36s %5d %12.0f %5.1f%% %5.1f%% %9.3f ", x->first->task.name, x->count, x->cycles,
               100 * x->cycles / (double)r->cycles, 100 * qd_cli_sim_utilization(r, x), 1e-6 * x->bytes);
        for (int c = 0; c < QD_SIM_CAUSES; c++) {
            if (x->cause[c] > 0)
                printf(" %s %.0f%%", qd_sim_cause_name((qd_sim_cause)c), 100 * x->cause[c] / x->cycles);
        }
        printf("\n");
    }
}

int qd_cli_sim_print_text(const qd_cli_sim_work *w) {
    const qd_sim_report *r = w->report;
    const qd_sim_resources *s = &r->resources;
    char design[160];
    int count;
    qd_cli_sim_group *groups = qd_cli_sim_groups(r, &count);
    if (!groups) return QD_EXIT_FAILED;
    qd_cli_sim_design_text(&r->design, design, sizeof design);
    printf("%s on %s\n", w->what, r->board);
    printf("design     %s\n", design);
    printf("resources  %lld of %lld LUTs, %lld of %lld DSP blocks, %lld of %lld RAM blocks\n", (long long)s->luts,
           (long long)s->has_luts, (long long)s->dsps, (long long)s->has_dsps, (long long)s->brams,
           (long long)s->has_brams);
    printf("speed      %.2f %s/s: %.3f ms, %llu cycles\n", qd_cli_sim_rate(w), w->unit, 1e3 * r->seconds,
           (unsigned long long)r->cycles);
    printf("array      %.1f%% of its products used, %.2f GMAC/s of %.2f (int8) or %.2f (int4)\n", 100 * r->utilization,
           1e-9 * r->unit_macs / r->seconds, 1e-9 * r->peak_macs, 1e-9 * r->peak_macs_int4);
    double all = 0;
    for (int i = 0; i < QD_SIM_TRAFFIC; i++)
        all += (double)r->bytes[i];
    printf("memory     %.2f GB/s of %.2f:", 1e-9 * all / r->seconds, 1e-9 * r->memory_rate);
    for (int i = 0; i < QD_SIM_TRAFFIC; i++)
        printf(" %s %.2f MB", qd_sim_traffic_name((qd_sim_traffic)i), 1e-6 * (double)r->bytes[i]);
    printf("\nenergy     %.3g to %.3g J, uncalibrated: arithmetic and memory alone, to the board's greatest power\n",
           r->joules_least, r->joules_most);
    printf("\n%-10s %14s %7s\n", "cycles", "", "share");
    for (int c = 0; c < QD_SIM_CAUSES; c++) {
        if (!r->cause[c]) continue;
        printf("%-10s %14llu %6.2f%%  %s\n", qd_sim_cause_name((qd_sim_cause)c), (unsigned long long)r->cause[c],
               100 * (double)r->cause[c] / (double)r->cycles, qd_sim_cause_text((qd_sim_cause)c));
    }
    printf("%-10s %14llu\n\n", "all", (unsigned long long)r->cycles);
    print_channels(r);
    print_groups(r, groups, count);
    free(groups);
    return QD_EXIT_OK;
}

/* ---- JSON --------------------------------------------------------------------------------------------------- */

cJSON *qd_cli_sim_design_json(const qd_sim_design *d) {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "clock_mhz", d->clock_mhz);
    cJSON_AddNumberToObject(o, "rows", d->rows);
    cJSON_AddNumberToObject(o, "cols", d->cols);
    cJSON_AddNumberToObject(o, "lanes", d->lanes);
    cJSON_AddNumberToObject(o, "quants", d->quants);
    cJSON_AddNumberToObject(o, "pack", d->pack);
    cJSON_AddNumberToObject(o, "w_bytes", d->w_bytes);
    cJSON_AddNumberToObject(o, "x_bytes", d->x_bytes);
    cJSON_AddNumberToObject(o, "w_address", d->w_address);
    cJSON_AddNumberToObject(o, "x_address", d->x_address);
    return o;
}

cJSON *qd_cli_sim_resources_json(const qd_sim_resources *r) {
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "luts", (double)r->luts);
    cJSON_AddNumberToObject(o, "dsps", (double)r->dsps);
    cJSON_AddNumberToObject(o, "brams", (double)r->brams);
    cJSON_AddNumberToObject(o, "has_luts", (double)r->has_luts);
    cJSON_AddNumberToObject(o, "has_dsps", (double)r->has_dsps);
    cJSON_AddNumberToObject(o, "has_brams", (double)r->has_brams);
    return o;
}

static cJSON *causes_json(const uint64_t cause[QD_SIM_CAUSES]) {
    cJSON *o = cJSON_CreateObject();
    for (int c = 0; c < QD_SIM_CAUSES; c++)
        cJSON_AddNumberToObject(o, qd_sim_cause_name((qd_sim_cause)c), (double)cause[c]);
    return o;
}

static cJSON *traffic_json(const uint64_t bytes[QD_SIM_TRAFFIC]) {
    cJSON *o = cJSON_CreateObject();
    for (int i = 0; i < QD_SIM_TRAFFIC; i++)
        cJSON_AddNumberToObject(o, qd_sim_traffic_name((qd_sim_traffic)i), (double)bytes[i]);
    return o;
}

static cJSON *step_json(const qd_sim_report *r, const qd_sim_step *s) {
    static const char *const places[] = {"unit", "vector", "host"};
    qd_cli_sim_group alone = {.first = s, .count = 1, .cycles = (double)s->cycles, .macs = s->task.macs};
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "name", s->task.name);
    cJSON_AddStringToObject(o, "place", places[s->task.place]);
    cJSON_AddNumberToObject(o, "start", (double)s->start);
    cJSON_AddNumberToObject(o, "cycles", (double)s->cycles);
    cJSON_AddItemToObject(o, "causes", causes_json(s->cause));
    cJSON_AddItemToObject(o, "bytes", traffic_json(s->bytes));
    cJSON_AddNumberToObject(o, "macs", s->task.macs);
    cJSON_AddNumberToObject(o, "utilization", qd_cli_sim_utilization(r, &alone));
    return o;
}

cJSON *qd_cli_sim_json(const qd_cli_sim_work *w) {
    const qd_sim_report *r = w->report;
    char rate[32];
    cJSON *o = cJSON_CreateObject();
    qd_cli_json_text(o, "work", w->what, strlen(w->what));
    cJSON_AddStringToObject(o, "board", r->board);
    cJSON_AddItemToObject(o, "design", qd_cli_sim_design_json(&r->design));
    cJSON_AddItemToObject(o, "resources", qd_cli_sim_resources_json(&r->resources));
    snprintf(rate, sizeof rate, "%s_per_s", w->unit);
    cJSON_AddNumberToObject(o, rate, qd_cli_sim_rate(w));
    cJSON_AddNumberToObject(o, "seconds", r->seconds);
    cJSON_AddNumberToObject(o, "cycles", (double)r->cycles);
    cJSON_AddItemToObject(o, "causes", causes_json(r->cause));
    cJSON_AddItemToObject(o, "bytes", traffic_json(r->bytes));
    cJSON *channels = cJSON_AddArrayToObject(o, "channel_bytes");
    for (int i = 0; i < r->channels; i++)
        cJSON_AddItemToArray(channels, cJSON_CreateNumber((double)r->channel_bytes[i]));
    cJSON_AddNumberToObject(o, "macs", r->macs);
    cJSON_AddNumberToObject(o, "unit_macs", r->unit_macs);
    cJSON_AddNumberToObject(o, "utilization", r->utilization);
    cJSON_AddNumberToObject(o, "peak_macs_per_s", r->peak_macs);
    cJSON_AddNumberToObject(o, "memory_bytes_per_s", r->memory_rate);
    cJSON *energy = cJSON_AddObjectToObject(o, "energy");
    cJSON_AddBoolToObject(energy, "calibrated", false);
    cJSON_AddNumberToObject(energy, "least_joules", r->joules_least);
    cJSON_AddNumberToObject(energy, "most_joules", r->joules_most);
    cJSON *layers = cJSON_AddArrayToObject(o, "layers");
    for (int i = 0; i < r->count; i++)
        cJSON_AddItemToArray(layers, step_json(r, &r->step[i]));
    return o;
}
