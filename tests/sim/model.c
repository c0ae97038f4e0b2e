/* See model.h. */
#include "sim/model.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char model_reason[QD_SIM_REASON];

double model_of(const char *columns, const qd_sim_params *p) {
    char text[1200];
    qd_sim_case *rows;
    double value;
    int count;
    const int size = snprintf(text, sizeof text - 1, HEADER "X,here,%s,1,note\n", columns);
    const qd_status status = qd_sim_read("row", text, (size_t)size, &rows, &count);
    ck_assert_msg(status == QD_OK, "%s: %s", columns, qd_last_message());
    ck_assert_int_eq(count, 1);
    const bool known = qd_sim_predict(&rows[0], p, &value, model_reason);
    free(rows);
    ck_assert_msg(known == !*model_reason, "%s: '%s'", columns, model_reason);
    return known ? value : 0;
}

qd_sim_params model_round(void) {
    return (qd_sim_params){.ddr_share = 0.5,
                           .hbm_share = 0.5,
                           .read_latency = 100,
                           .write_latency = 200,
                           .write_gap = 4,
                           .hbm_activate = 10,
                           .link_share = 0.8,
                           .xdma_read = 5,
                           .bsp_dma = 2,
                           .buffer_call = 10,
                           .bridge_trip = 1,
                           .host_cache = 1,
                           .host_memory = 6.3,
                           .launch = 100,
                           .library_call = 1000,
                           .fp64_row = 16,
                           .stream_start = 100,
                           .acp_bytes = 4,
                           .acp_latency = 50,
                           .vta_bias = 10,
                           .vta_call = 100,
                           .dpu_port = 0.25,
                           .dpu_memory = 0.5,
                           .dpu_layer = 10,
                           .dpu_frame = 2,
                           .finn_batch = 100};
}

char *model_file(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "%s is not there: run the tests in the repository's root", path);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    char *text = malloc(*size + 1);
    ck_assert_ptr_nonnull(text);
    ck_assert_uint_eq(fread(text, 1, *size, f), *size);
    fclose(f);
    return text;
}

int model_rows(qd_sim_case **rows, char **text) {
    size_t size;
    int count;
    *text = model_file(MEASUREMENTS, &size);
    ck_assert_msg(qd_sim_read(MEASUREMENTS, *text, size, rows, &count) == QD_OK, "%s", qd_last_message());
    return count;
}
