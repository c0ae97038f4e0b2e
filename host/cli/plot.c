#include "cli/plot.h"

#include <math.h>

double qd_cli_plot_x(const qd_cli_plot *p, double x) {
    return QD_CLI_PLOT_LEFT + QD_CLI_PLOT_WIDTH * log(x / p->x_low) / log(p->x_high / p->x_low);
}

double qd_cli_plot_y(const qd_cli_plot *p, double y) {
    return QD_CLI_PLOT_TOP + QD_CLI_PLOT_HEIGHT * (1 - log(y / p->y_low) / log(p->y_high / p->y_low));
}

double qd_cli_plot_decade(double x, bool up) {
    return pow(10, up ? ceil(log10(x)) : floor(log10(x)));
}

void qd_cli_plot_axes(FILE *f, const qd_cli_plot *p, double y_unit, const char *x_name, const char *y_name) {
    const int bottom = QD_CLI_PLOT_TOP + QD_CLI_PLOT_HEIGHT, right = QD_CLI_PLOT_LEFT + QD_CLI_PLOT_WIDTH;
    for (double x = p->x_low; x <= p->x_high * 1.001; x *= 10) {
        fprintf(f, "<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" class=\"grid\"/>", qd_cli_plot_x(p, x),
                QD_CLI_PLOT_TOP, qd_cli_plot_x(p, x), bottom);
        fprintf(f, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>\n", qd_cli_plot_x(p, x), bottom + 18, x);
    }
    for (double y = p->y_low; y <= p->y_high * 1.001; y *= 10) {
        fprintf(f, "<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" class=\"grid\"/>", QD_CLI_PLOT_LEFT,
                qd_cli_plot_y(p, y), right, qd_cli_plot_y(p, y));
        fprintf(f, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n", QD_CLI_PLOT_LEFT - 8,
                qd_cli_plot_y(p, y) + 4, y * y_unit);
    }
    fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", right, bottom + 36, x_name);
    fprintf(f, "<text x=\"4\" y=\"12\">%s</text>\n", y_name);
}

void qd_cli_plot_roof(FILE *f, const qd_cli_plot *p, double slope, double peak, const char *name) {
    const int right = QD_CLI_PLOT_LEFT + QD_CLI_PLOT_WIDTH;
    const double ridge = fmin(fmax(peak / slope, p->x_low), p->x_high), end = fmin(p->x_high * slope, peak);
    const double start = fmax(p->x_low, p->y_low / slope);
    fprintf(f, "<polyline points=\"%.1f,%.1f %.1f,%.1f %.1f,%.1f\" class=\"roof\"/>\n", qd_cli_plot_x(p, start),
            qd_cli_plot_y(p, fmin(start * slope, peak)), qd_cli_plot_x(p, ridge),
            qd_cli_plot_y(p, fmin(ridge * slope, peak)), qd_cli_plot_x(p, p->x_high), qd_cli_plot_y(p, end));
    fprintf(f, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", right - 6, qd_cli_plot_y(p, end) - 5, name);
}
