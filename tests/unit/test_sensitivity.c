/* Sensitivity of a tiny model: each figure against a model whose file has the weights that come back from the format,
 * the file there and back, what is refused, stopping and going on. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "qdot/qdot_sensitivity.h"
#include "unit/devices.h"
#include "unit/model_image.h"

enum { TOKENS = 24, MOST_VOCAB = 128 };

static char path[] = "/tmp/qdot-sensitivity-XXXXXX";

typedef struct bed {
    qd_context *context;
    model_parts parts;
    model_bed model;
    int32_t tokens[TOKENS];
    qd_storage formats[2];
    qd_sensitivity_options options;
    int stop_after; /* measurements; negative: never */
} bed;

static bool go_on(void *user, const qd_sensitivity_part *part, const qd_storage *to, int64_t done, int64_t total) {
    const bed *b = user;
    ck_assert(part && to && done < total);
    return b->stop_after < 0 || done < b->stop_after;
}

static void open_bed(bed *b, bool keep) {
    model_spec s = model_small(QD_FORMAT_F32);
    qd_model_options o = model_options(8, QD_FORMAT_F32);
    o.keep_layers = keep;
    s.tied = !keep;
    ck_assert_int_le(s.vocab, MOST_VOCAB);
    b->context = open_device(0, NULL);
    b->parts = model_make(&s, 11);
    b->model = model_open(&b->parts, b->context, &o);
    b->stop_after = -1;
    model_tokens(12, s.vocab, b->tokens, TOKENS);
    ck_ok(qd_storage_parse("q4_0", &b->formats[0]));
    ck_ok(qd_storage_parse("int3-g16", &b->formats[1]));
    b->options = (qd_sensitivity_options){.formats = b->formats,
                                          .n_formats = 2,
                                          .tokens = b->tokens,
                                          .count = TOKENS,
                                          .threads = 1,
                                          .progress = go_on,
                                          .user = b};
}

static void close_bed(bed *b) {
    model_close(&b->model);
    model_parts_free(&b->parts);
    qd_context_free(b->context);
}

static double log_softmax(const float *logits, int vocab, int token) {
    double sum = 0;
    for (int i = 0; i < vocab; i++)
        sum += exp((double)logits[i]);
    return (double)logits[token] - log(sum);
}

/* The weights as they come back from Q4_0, in place. */
static void round_trip(model_tensor *t) {
    void *data = malloc((size_t)t->rows * qd_format_row_bytes(QD_FORMAT_Q4_0, t->cols));
    ck_assert_ptr_nonnull(data);
    ck_ok(qd_quantize(QD_FORMAT_Q4_0, t->bytes, t->rows, t->cols, data));
    ck_ok(qd_dequantize(QD_FORMAT_Q4_0, data, t->rows, t->cols, t->bytes));
    free(data);
}

/* Q4_0 of the matrices whose names begin so, by a changed file. */
static void by_file(bed *b, const char *begin, double *divergence, double *nll_change) {
    static float before[TOKENS * MOST_VOCAB], after[TOKENS * MOST_VOCAB];
    const int vocab = b->parts.spec.vocab;
    const qd_model_options o = model_options(8, QD_FORMAT_F32);
    model_parts changed = model_make(&b->parts.spec, 11);
    for (int i = 0; i < changed.n_tensors; i++) {
        if (changed.tensors[i].rank == 2 && !strncmp(changed.tensors[i].name, begin, strlen(begin)))
            round_trip(&changed.tensors[i]);
    }
    model_bed c = model_open(&changed, b->context, &o);
    ck_ok(qd_model_rewind(b->model.model, 0));
    model_eval(b->model.model, b->tokens, TOKENS, before);
    model_eval(c.model, b->tokens, TOKENS, after);
    *divergence = *nll_change = 0;
    for (int t = 0; t < TOKENS; t++) {
        const float *p = before + t * vocab, *q = after + t * vocab;
        for (int i = 0; i < vocab; i++) {
            const double log_p = log_softmax(p, vocab, i);
            *divergence += exp(log_p) * (log_p - log_softmax(q, vocab, i)) / TOKENS;
        }
        if (t + 1 == TOKENS) continue;
        const int next = b->tokens[t + 1];
        *nll_change += (log_softmax(p, vocab, next) - log_softmax(q, vocab, next)) / (TOKENS - 1);
    }
    model_close(&c);
    model_parts_free(&changed);
}

static qd_sensitivity *measured(bed *b, bool by_layer) {
    qd_sensitivity *s = NULL;
    ck_ok(qd_sensitivity_create(b->model.gguf, by_layer, NULL, NULL, &s));
    ck_ok(qd_sensitivity_measure(s, b->model.model, b->model.gguf, &b->options));
    return s;
}

START_TEST(test_figures) {
    bed b;
    open_bed(&b, _i >= 2);
    qd_sensitivity *s = measured(&b, _i % 2);
    ck_assert(s->finished && s->tokens == TOKENS && s->parts == (_i % 2 ? 3 : 15) + (_i >= 2));
    ck_assert_str_eq(s->part[0].name, "token_embd.weight");
    for (int i = 0; i < s->parts; i++) {
        const qd_sensitivity_part *p = &s->part[i];
        const qd_sensitivity_result *r = qd_sensitivity_find(p, &b.formats[0]);
        double divergence, nll_change;
        ck_assert(p->results == 2 && r);
        by_file(&b, p->name, &divergence, &nll_change);
        ck_assert_msg(divergence > 1e-7, "%s: the case shows nothing", p->name);
        ck_assert_double_eq_tol(r->divergence, divergence, 1e-9 + 1e-5 * divergence);
        ck_assert_double_eq_tol(r->nll_change, nll_change, 1e-9 + 1e-5 * fabs(nll_change));
        ck_assert_double_eq(r->bytes, qd_sensitivity_weights(p) * 18 / 32);
        ck_assert_double_eq(r->loss.count, qd_sensitivity_weights(p));
        ck_assert(qd_loss_snr(&r->loss) > 12 && qd_loss_snr(&r->loss) < 30);
    }
    qd_sensitivity_free(s);
    close_bed(&b);
}
END_TEST

/* There and back through JSON the last bit may differ. */
static void ck_near(double a, double b) {
    ck_assert_double_eq_tol(a, b, 4e-16 * fabs(b));
}

static void ck_same(const qd_sensitivity *a, const qd_sensitivity *b) {
    ck_assert(a->parts == b->parts && a->finished == b->finished && a->tokens == b->tokens && a->nll == b->nll);
    ck_assert(a->other_bytes == b->other_bytes && a->other_weights == b->other_weights && a->by_layer == b->by_layer);
    ck_assert(!strcmp(a->model, b->model) && !strcmp(a->text, b->text));
    for (int i = 0; i < a->parts; i++) {
        const qd_sensitivity_part *p = &a->part[i], *q = &b->part[i];
        ck_assert(!strcmp(p->name, q->name) && p->matrices == q->matrices && p->results == q->results);
        for (int k = 0; k < p->results; k++) {
            const qd_sensitivity_result *r = qd_sensitivity_find(q, &p->result[k].to);
            ck_assert(r && r->estimated == p->result[k].estimated && r->bytes == p->result[k].bytes);
            ck_near(r->divergence, p->result[k].divergence);
            ck_near(r->nll_change, p->result[k].nll_change);
            ck_near(r->loss.squares, p->result[k].loss.squares);
        }
    }
}

/* Squared error of a matrix in a format. */
static double squares_of(const model_tensor *t, qd_format f) {
    void *data = malloc((size_t)t->rows * qd_format_row_bytes(f, t->cols));
    float *back = malloc((size_t)(t->rows * t->cols) * sizeof *back);
    double sum = 0;
    ck_assert(data && back);
    ck_ok(qd_quantize(f, t->bytes, t->rows, t->cols, data));
    ck_ok(qd_dequantize(f, data, t->rows, t->cols, back));
    for (int64_t i = 0; i < t->rows * t->cols; i++)
        sum += pow((double)back[i] - (double)((const float *)t->bytes)[i], 2);
    free(data);
    free(back);
    return sum;
}

/* Of two measured formats the one with the nearer error counts; a measurement takes the place of an estimate. */
START_TEST(test_estimates) {
    bed b;
    open_bed(&b, true);
    qd_storage wanted[2];
    ck_ok(qd_storage_parse("q8_0", &wanted[0]));
    ck_ok(qd_storage_parse("q5_0", &wanted[1]));
    b.options.estimates = wanted;
    b.options.n_estimates = 2;
    qd_sensitivity *s = measured(&b, false), *again = NULL;
    int alike = 0;
    for (int i = 0; i < s->parts; i++) {
        const qd_sensitivity_part *p = &s->part[i];
        const model_tensor *t = model_find_tensor(&b.parts, p->name);
        const qd_sensitivity_result *r = qd_sensitivity_find(p, &wanted[1]),
                                    *q4 = qd_sensitivity_find(p, &b.formats[0]);
        ck_assert(p->results == 4 && r && r->estimated && !q4->estimated);
        const double ratio = squares_of(t, QD_FORMAT_Q5_0) / squares_of(t, QD_FORMAT_Q4_0);
        ck_assert_double_eq_tol(r->divergence, ratio * q4->divergence, 1e-6 * r->divergence);
        ck_assert_double_eq_tol(r->nll_change, ratio * q4->nll_change, 1e-6 * fabs(r->nll_change));
        ck_assert_double_eq(r->bytes, qd_sensitivity_weights(p) * 22 / 32);
    }
    ck_ok(qd_sensitivity_write(s, path));
    ck_ok(qd_sensitivity_read(path, &again));
    ck_same(s, again);
    b.options.formats = &wanted[1];
    b.options.n_formats = 1;
    ck_ok(qd_sensitivity_measure(again, b.model.model, b.model.gguf, &b.options));
    for (int i = 0; i < s->parts; i++) {
        const qd_sensitivity_result *guess = qd_sensitivity_find(&s->part[i], &wanted[1]);
        const qd_sensitivity_result *r = qd_sensitivity_find(&again->part[i], &wanted[1]);
        ck_assert(again->part[i].results == 4 && !r->estimated && r->divergence != guess->divergence);
        alike += fabs(log(guess->divergence / r->divergence)) < log(2);
    }
    ck_assert_msg(alike * 4 >= s->parts * 3, "%d of %d estimates within a factor of 2", alike, s->parts);
    qd_sensitivity_free(s);
    qd_sensitivity_free(again);
    close_bed(&b);
}
END_TEST

/* Stopped, written, read and gone on with, it is what it is at once; the model has its own weights again. */
START_TEST(test_going_on) {
    bed b;
    open_bed(&b, true);
    static float before[TOKENS * MOST_VOCAB], after[TOKENS * MOST_VOCAB];
    model_eval(b.model.model, b.tokens, TOKENS, before);
    qd_sensitivity *at_once = measured(&b, false), *s = NULL, *again = NULL;
    ck_ok(qd_sensitivity_create(b.model.gguf, false, NULL, NULL, &s));
    b.stop_after = 5;
    ck_fails(qd_sensitivity_measure(s, b.model.model, b.model.gguf, &b.options), QD_ERR_CANCELLED, "stopped");
    ck_assert(!s->finished && s->part[1].results == 2 && s->part[2].results == 1 && s->part[3].results == 0);
    ck_ok(qd_sensitivity_write(s, path));
    ck_ok(qd_sensitivity_read(path, &again));
    ck_same(s, again);
    ck_ok(qd_sensitivity_check(again, b.model.gguf));
    b.stop_after = -1;
    b.options.count--;
    ck_fails(qd_sensitivity_measure(again, b.model.model, b.model.gguf, &b.options), QD_ERR_ARGUMENT, "same text");
    b.options.count++;
    ck_ok(qd_sensitivity_measure(again, b.model.model, b.model.gguf, &b.options));
    ck_same(at_once, again);
    ck_ok(qd_model_rewind(b.model.model, 0));
    model_eval(b.model.model, b.tokens, TOKENS, after);
    ck_assert(memcmp(before, after, (size_t)TOKENS * (size_t)b.parts.spec.vocab * sizeof(float)) == 0);
    qd_sensitivity_free(at_once);
    qd_sensitivity_free(s);
    qd_sensitivity_free(again);
    close_bed(&b);
}
END_TEST

/* Whatever is missing or cut off is refused, and never crashes. */
START_TEST(test_damaged) {
    bed b;
    open_bed(&b, false);
    b.stop_after = 3;
    qd_sensitivity *s = NULL, *unused = NULL;
    ck_ok(qd_sensitivity_create(b.model.gguf, false, NULL, NULL, &s));
    ck_fails(qd_sensitivity_measure(s, b.model.model, b.model.gguf, &b.options), QD_ERR_CANCELLED, "");
    ck_ok(qd_sensitivity_write(s, path));
    static char text[65536], changed[65536];
    FILE *f = fopen(path, "rb");
    const size_t size = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    static const char *const words[] = {"qdot_sensitivity", "\"model\"",  "finished",        "by_layer", "\"nll\"",
                                        "other_bytes",      "parts",      "matrices",        "rows",     "results",
                                        "\"format\"",       "nll_change", "kl_divergence\"", "squares",  "\"q4_0\""};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        memcpy(changed, text, size + 1);
        char *at = strstr(changed, words[i]);
        ck_assert_msg(at != NULL, "%s", words[i]);
        at[2] = '~';
        f = fopen(path, "wb");
        fwrite(changed, 1, size, f);
        fclose(f);
        ck_fails(qd_sensitivity_read(path, &unused), QD_ERR_FILE, "qdot sensitivity");
    }
    for (size_t cut = 0; cut < size; cut += 97) {
        f = fopen(path, "wb");
        fwrite(text, 1, cut, f);
        fclose(f);
        ck_fails(qd_sensitivity_read(path, &unused), QD_ERR_FILE, "not JSON");
    }
    ck_fails(qd_sensitivity_read("/nowhere", &unused), QD_ERR_IO, "/nowhere");
    qd_sensitivity_free(s);
    close_bed(&b);
}
END_TEST

static bool none(void *unused, const char *name) {
    (void)unused, (void)name;
    return false;
}

START_TEST(test_refusals) {
    bed b;
    open_bed(&b, false);
    qd_sensitivity *s = NULL;
    ck_fails(qd_sensitivity_create(b.model.gguf, false, none, NULL, &s), QD_ERR_ARGUMENT, "no matrix");
    model_spec other = b.parts.spec;
    other.format[W_UP] = QD_FORMAT_Q8_0;
    model_parts parts = model_make(&other, 13);
    model_bed m = model_open(&parts, b.context, NULL);
    ck_fails(qd_sensitivity_create(m.gguf, false, NULL, NULL, &s), QD_ERR_UNSUPPORTED, "ffn_up.weight is q8_0");
    ck_ok(qd_sensitivity_create(b.model.gguf, false, NULL, NULL, &s));
    ck_fails(qd_sensitivity_check(s, m.gguf), QD_ERR_ARGUMENT, "another model");
    b.options.count = 1;
    ck_fails(qd_sensitivity_measure(s, b.model.model, b.model.gguf, &b.options), QD_ERR_ARGUMENT, "from 2 to");
    b.options.count = TOKENS;
    ck_ok(qd_storage_parse("q4_k", &b.formats[0])); /* blocks of 256, and no row is so long */
    b.options.n_formats = 1;
    ck_fails(qd_sensitivity_measure(s, b.model.model, b.model.gguf, &b.options), QD_ERR_ARGUMENT, "whole blocks");
    qd_sensitivity_free(s);
    model_close(&m);
    model_parts_free(&parts);
    close_bed(&b);
}
END_TEST

int main(void) {
    const int file = mkstemp(path);
    if (file < 0) return 1;
    close(file);
    TCase *tc = tcase_create("sensitivity");
    tcase_add_loop_test(tc, test_figures, 0, 4);
    tcase_add_test(tc, test_estimates);
    tcase_add_test(tc, test_going_on);
    tcase_add_test(tc, test_damaged);
    tcase_add_test(tc, test_refusals);
    const int code = run_tests(tc, "sensitivity");
    unlink(path);
    return code;
}
