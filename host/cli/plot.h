/* Charts with logarithmic axes, and rooflines in them (Williams, Waterman, Patterson 2009). Lengths are pixels. */
#ifndef QDOT_CLI_PLOT_H
#define QDOT_CLI_PLOT_H

#include <stdbool.h>
#include <stdio.h>

/** Where the chart's area lies in a picture, below which labels have 44 more. */
enum { QD_CLI_PLOT_LEFT = 80, QD_CLI_PLOT_TOP = 20, QD_CLI_PLOT_WIDTH = 860, QD_CLI_PLOT_HEIGHT = 340 };

/** Both axes' ends: powers of ten. */
typedef struct qd_cli_plot {
    double x_low, x_high, y_low, y_high;
} qd_cli_plot;

double qd_cli_plot_x(const qd_cli_plot *p, double x);
double qd_cli_plot_y(const qd_cli_plot *p, double y);
/** The power of ten that is not larger, or with `up` not smaller. */
double qd_cli_plot_decade(double x, bool up);
/** A line at each power of ten, its number (times y_unit) beside it, and names of the axes. */
void qd_cli_plot_axes(FILE *f, const qd_cli_plot *p, double y_unit, const char *x_name, const char *y_name);
/** A slope up to a peak, then level, with its name at the right end. */
void qd_cli_plot_roof(FILE *f, const qd_cli_plot *p, double slope, double peak, const char *name);

#endif
