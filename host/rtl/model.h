/* A verilated unit of hls/rtl: its pins. */
#ifndef QDOT_RTL_MODEL_H
#define QDOT_RTL_MODEL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The pins of qd_matmul.v. Data are borrowed while a call lasts; y_data lasts until the next call. */
typedef struct rtl_pins {
    /* In. */
    uint8_t rst, bus_valid, bus_write, bus_address, w_valid, x_valid, c_valid, y_ready;
    uint32_t bus_wdata;
    const void *w_data, *x_data, *c_data; /* a beat; NULL where nothing is valid */
    /* Out. */
    uint8_t bus_ready, w_ready, x_ready, c_ready, y_valid;
    uint32_t bus_rdata;
    const void *y_data;
} rtl_pins;

/** One shape of the unit; the table is made by model.cpp. */
typedef struct rtl_model {
    const char *name;
    int w_bytes, x_bytes, y_bytes;              /* of a beat */
    void *(*open)(void);                        /* NULL: out of memory */
    void (*close)(void *unit);                  /* NULL is legal */
    void (*settle)(void *unit, rtl_pins *pins); /* gives the inputs, gets the outputs of the same cycle */
    void (*clock)(void *unit);                  /* ends the cycle */
} rtl_model;

#ifdef __cplusplus
}
#endif

#endif
