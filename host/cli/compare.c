/* Figures of two models side by side, as text and as a page. */
#include "cli/compare.h"

#include <math.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/page.h"

int64_t qd_compare_top(const float *logits, int64_t vocab) {
    int64_t top = 0;
    for (int64_t i = 1; i < vocab; i++)
        top = logits[i] > logits[top] ? i : top;
    return top;
}

/* Standard error of the mean of n numbers. */
static double mean_error(double sum, double squares, size_t count) {
    const double n = (double)count, mean = sum / n;
    return count < 2 ? 0 : sqrt(fmax(0, (squares - n * mean * mean) / (n - 1)) / n);
}

double qd_compare_perplexity(const qd_compare_report *r, int i) {
    return exp(r->model[i].nll / (double)r->scored);
}

double qd_compare_perplexity_error(const qd_compare_report *r, int i) {
    return qd_compare_perplexity(r, i) * mean_error(r->model[i].nll, r->model[i].squares, r->scored);
}

double qd_compare_divergence_error(const qd_compare_report *r) {
    return mean_error(r->divergence, r->divergence_squares, r->positions);
}

/* ---- Rows --------------------------------------------------------------------------------------------------- */

typedef struct figure {
    const char *name, *unit;
    double value[2];
    const char *format;
} figure;

enum { FIGURES = 6 };

static void figures_of(const qd_compare_report *r, figure out[FIGURES]) {
    const qd_compare_model *a = &r->model[0], *b = &r->model[1];
    const double mib = 1024.0 * 1024.0;
    const figure all[FIGURES] = {
        {"file", "MiB", {a->bytes / mib, b->bytes / mib}, "%.1f"},
        {"device memory", "MiB", {a->device_bytes / mib, b->device_bytes / mib}, "%.1f"},
        {"load time", "s", {a->load_seconds, b->load_seconds}, "%.2f"},
        {"prompt", "tokens/s", {a->prompt_rate, b->prompt_rate}, "%.1f"},
        {"generation", "tokens/s", {a->generate_rate, b->generate_rate}, "%.1f"},
        {"perplexity", "", {qd_compare_perplexity(r, 0), qd_compare_perplexity(r, 1)}, "%.4f"},
    };
    memcpy(out, all, sizeof all);
}

void qd_compare_print(const qd_compare_report *r) {
    figure f[FIGURES];
    figures_of(r, f);
    printf("A  %s (%s)\nB  %s (%s)\n\n%-24s %12s %12s %10s\n", r->model[0].path, r->model[0].name, r->model[1].path,
           r->model[1].name, "", "A", "B", "B / A");
    for (int i = 0; i < FIGURES; i++) {
        char name[40], cell[2][32];
        snprintf(name, sizeof name, "%s%s%s", f[i].name, *f[i].unit ? ", " : "", f[i].unit);
        for (int k = 0; k < 2; k++)
            snprintf(cell[k], sizeof cell[k], f[i].format, f[i].value[k]);
        printf("%-24s %12s %12s %10.3f\n", name, cell[0], cell[1], f[i].value[1] / f[i].value[0]);
    }
    printf("%-24s %12.4f %12.4f\n", "  standard error", qd_compare_perplexity_error(r, 0),
           qd_compare_perplexity_error(r, 1));
    printf("\nKL divergence of B from A: mean %.6f ± %.6f nats, most %.4f\n", r->divergence / (double)r->positions,
           qd_compare_divergence_error(r), r->divergence_most);
    printf("the same likeliest token: %.2f %% of %zu positions\n", 100.0 * (double)r->agreed / (double)r->positions,
           r->positions);
    printf("the likeliest %lld tokens after the text's first, B's against A's: ROUGE-L %.4f, BLEU %.4f\n",
           (long long)r->generated, r->rouge_l, r->bleu);
    printf("%zu tokens of %s in windows of %lld, on %s\n", r->tokens, r->text, (long long)r->window, r->device);
}

void qd_compare_html(const qd_compare_report *r, FILE *f) {
    enum { WIDE = 260, BAR = 14 };
    figure all[FIGURES];
    figures_of(r, all);
    fputs(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>qdot "
        "compare</title>\n<style>body{font:15px "
        "sans-serif;margin:2em;max-width:60em}td,th{padding:.3em "
        ".8em;text-align:right}td:first-child,th:first-child{text-align:left}"
        ".a{fill:#3b6ea5}.b{fill:#d08a2e}</style></head><body>\n<h1>Two models</h1>\n",
        f);
    for (int i = 0; i < 2; i++) {
        fprintf(f, "<p><svg width=\"12\" height=\"12\"><rect class=\"%c\" width=\"12\" height=\"12\"/></svg> %c: ",
                "ab"[i], "AB"[i]);
        qd_cli_page_text(f, r->model[i].path);
        fputs(" (", f);
        qd_cli_page_text(f, r->model[i].name);
        fputs(")</p>\n", f);
    }
    fputs("<table><tr><th></th><th>A</th><th>B</th><th>B / A</th><th></th></tr>\n", f);
    for (int i = 0; i < FIGURES; i++) {
        const double most = fmax(all[i].value[0], all[i].value[1]);
        fprintf(f, "<tr><td>%s%s%s</td>", all[i].name, *all[i].unit ? ", " : "", all[i].unit);
        for (int k = 0; k < 2; k++) {
            fputs("<td>", f);
            fprintf(f, all[i].format, all[i].value[k]);
            fputs("</td>", f);
        }
        fprintf(f, "<td>%.3f</td><td><svg width=\"%d\" height=\"%d\">", all[i].value[1] / all[i].value[0], WIDE,
                2 * BAR + 2);
        for (int k = 0; k < 2; k++) {
            fprintf(f, "<rect class=\"%c\" y=\"%d\" width=\"%.1f\" height=\"%d\"/>", "ab"[k], k * (BAR + 2),
                    most > 0 ? WIDE * all[i].value[k] / most : 0, BAR);
        }
        fputs("</svg></td></tr>\n", f);
    }
    fprintf(
        f,
        "</table>\n<p>Perplexity ± %.4f and ± %.4f. KL divergence of B from A: mean %.6f ± %.6f nats, most %.4f. "
        "The same "
        "likeliest token at %.2f %% of %zu positions.</p>\n<p>The likeliest %lld tokens after the text's first, B's "
        "against A's: ROUGE-L %.4f, BLEU %.4f.</p>\n<p>%zu tokens of ",
        qd_compare_perplexity_error(r, 0), qd_compare_perplexity_error(r, 1), r->divergence / (double)r->positions,
        qd_compare_divergence_error(r), r->divergence_most, 100.0 * (double)r->agreed / (double)r->positions,
        r->positions, (long long)r->generated, r->rouge_l, r->bleu, r->tokens);
    qd_cli_page_text(f, r->text);
    fprintf(f, " in windows of %lld, on ", (long long)r->window);
    qd_cli_page_text(f, r->device);
    fputs(".</p>\n</body></html>\n", f);
}
