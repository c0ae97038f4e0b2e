/* Which tensor becomes what. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/quantize.h"

/* ---- Rules -------------------------------------------------------------------------------------------------- */

static bool read_storage(const char *word, int64_t group, qd_storage *out) {
    char name[128];
    if (qd_storage_parse(word, out) != QD_OK) {
        qd_cli_failed();
        return false;
    }
    if (!group) return true;
    if (out->format != QD_FORMAT_COUNT) {
        qd_cli_fail("%s has blocks of %d; --group is for codings such as int4 (see: qdot formats)", word,
                    qd_format_get(out->format)->block);
        return false;
    }
    snprintf(name, sizeof name, "%.64s-g%lld", word, (long long)group);
    if (qd_storage_parse(name, out) == QD_OK) return true;
    qd_cli_fail("--group is a multiple of 16, and not for %s: %s", word, qd_last_message());
    return false;
}

/* REGEX=FORMAT, split at the last "=". */
static bool read_rule(const char *text, qd_cli_rule *out) {
    const char *sign = strrchr(text, '=');
    if (!sign || sign == text) {
        qd_cli_fail("--tensors needs REGEX=FORMAT, as 'ffn_down=q6_k', not '%s'", text);
        return false;
    }
    out->keep = !strcmp(sign + 1, "keep");
    if (!out->keep && !read_storage(sign + 1, 0, &out->to)) return false;
    char *pattern = malloc((size_t)(sign - text) + 1);
    if (!pattern) {
        qd_cli_fail("out of memory");
        return false;
    }
    memcpy(pattern, text, (size_t)(sign - text));
    pattern[sign - text] = 0;
    const bool right = qd_cli_regex(pattern, &out->regex);
    free(pattern);
    return right;
}

bool qd_cli_rules_read(const char *format, int64_t group, const qd_cli_list *tensors, const char *plan,
                       qd_cli_rules *out) {
    *out = (qd_cli_rules){.has_default = format != NULL};
    if (plan && !qd_cli_planned_read(plan, out)) return false;
    if (!format && !tensors->count && !plan) {
        qd_cli_fail("quantize: a format is needed: --format q4_0 (see: qdot formats)");
        return false;
    }
    if (!format && group) {
        qd_cli_fail("quantize: --group belongs to --format");
        return false;
    }
    if (format && !read_storage(format, group, &out->to)) return false;
    for (int i = 0; i < tensors->count; i++) {
        if (!read_rule(tensors->items[i], &out->list[i])) return false;
        out->count++;
    }
    return true;
}

void qd_cli_rules_free(qd_cli_rules *r) {
    for (int i = 0; i < r->count; i++)
        regfree(&r->list[i].regex);
    free(r->planned);
    *r = (qd_cli_rules){.count = 0};
}

/* ---- Tensors ------------------------------------------------------------------------------------------------ */

/* Matrices that a model multiplies with. Gates that choose experts, positions and the like are small, and spoil much:
 * llama.cpp leaves the same ones. */
static bool is_weight(const char *name, const qd_tensor_desc *d) {
    static const char *const others[] = {"_norm", "ffn_gate_inp", "position_embd", "token_types", "ssm_conv1d"};
    const size_t size = strlen(name);
    if (d->rank < 2 || d->shape[0] == 1 || size < 7 || strcmp(name + size - 7, ".weight")) return false;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (strstr(name, others[i])) return false;
    }
    return true;
}

static bool fits(const qd_storage *s, const qd_cli_change *c) {
    if (s->format == QD_FORMAT_COUNT && c->tensor.desc.rank > 2) return false; /* codings hold matrices */
    return qd_storage_row_bytes(s, c->src.cols) > 0;
}

/* What takes the place of a format that has no rows of this length: one that loses less, as in llama.cpp. */
static void choose_instead(qd_cli_change *c) {
    static const char *const pairs[][2] = {{"q2_k", "iq4_nl"}, {"q3_k", "iq4_nl"}, {"iq4_xs", "iq4_nl"},
                                           {"q4_k", "q5_0"},   {"q5_k", "q5_1"},   {"q6_k", "q8_0"}};
    char name[64];
    if (fits(&c->to, c)) return;
    c->instead = true;
    c->wanted = c->to;
    qd_storage_name(&c->wanted, name, sizeof name);
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        if (!strcmp(pairs[i][0], name) && qd_storage_parse(pairs[i][1], &c->to) == QD_OK && fits(&c->to, c)) return;
    }
    c->to = (qd_storage){.format = QD_FORMAT_F16};
}

/* Fills what is known about a tensor as it stands; false: a message was printed. */
static bool describe(const qd_gguf *g, qd_cli_change *c) {
    const qd_gguf_tensor *t = &c->tensor;
    if (t->desc.format == QD_FORMAT_COUNT) {
        qd_cli_fail("tensor '%s' is of the type %u, which this program does not know, and cannot be copied", c->name,
                    (unsigned)t->gguf_type);
        return false;
    }
    qd_gguf_coded coded;
    bool is_coded = false;
    if (qd_gguf_find_coded(g, c->name, &is_coded, &coded) != QD_OK) {
        qd_cli_failed();
        return false;
    }
    c->bytes = t->bytes;
    if (is_coded) {
        c->src = (qd_matrix){{QD_FORMAT_COUNT, coded.coding}, coded.rows, coded.cols, coded.data, coded.side};
        c->bytes += 4 * (uint64_t)coded.side_count;
    } else if (qd_format_get(t->desc.format)->kind != QD_KIND_INTEGER) {
        const int last = t->desc.rank - 1;
        c->src = (qd_matrix){{.format = t->desc.format}, 1, t->desc.shape[last], t->data, NULL};
        for (int i = 0; i < last; i++)
            c->src.rows *= t->desc.shape[i];
    }
    return true;
}

static void decide(const qd_cli_rules *rules, qd_cli_change *c) {
    const qd_cli_planned *planned = qd_cli_planned_find(rules, c->name);
    const qd_cli_rule *rule = NULL;
    for (int i = 0; !rule && i < rules->count; i++) {
        if (regexec(&rules->list[i].regex, c->name, 0, NULL, 0) == 0) rule = &rules->list[i];
    }
    c->keep = planned ? planned->keep : rule ? rule->keep : !rules->has_default || !is_weight(c->name, &c->tensor.desc);
    if (c->src.rows == 0 || c->tensor.desc.rank < 2) c->keep = true;
    if (!c->keep) {
        c->to = planned ? planned->to : rule ? rule->to : rules->to;
        choose_instead(c);
        c->keep = qd_storage_equal(&c->to, &c->src.storage);
    }
    if (c->keep) {
        c->to = c->src.storage;
        c->instead = false;
        return;
    }
    c->bytes = (uint64_t)c->src.rows * qd_storage_row_bytes(&c->to, c->src.cols) +
               4 * (uint64_t)qd_storage_side_count(&c->to, c->src.rows, c->src.cols);
}

bool qd_cli_plan_make(const qd_gguf *g, const qd_cli_rules *rules, qd_cli_plan *out) {
    const uint64_t tensors = qd_gguf_tensor_count(g);
    *out = (qd_cli_plan){.changes = calloc((size_t)tensors + 1, sizeof *out->changes)};
    if (!out->changes) {
        qd_cli_fail("out of memory");
        return false;
    }
    for (uint64_t i = 0; i < tensors; i++) {
        qd_cli_change *c = &out->changes[out->count];
        *c = (qd_cli_change){0};
        if (qd_gguf_tensor_at(g, i, &c->tensor) != QD_OK) {
            qd_cli_failed();
            return false;
        }
        if (c->tensor.name.size >= sizeof c->name) {
            qd_cli_fail("the tensor name '%.80s…' is too long (damaged file?)", c->tensor.name.data);
            return false;
        }
        memcpy(c->name, c->tensor.name.data, c->tensor.name.size);
        if (qd_cli_is_side(g, c->tensor.name)) continue;
        if (!describe(g, c)) return false;
        decide(rules, c);
        out->count++;
        if (!c->keep) out->weights += (double)c->src.rows * (double)c->src.cols;
    }
    return qd_cli_planned_check(rules, out);
}

void qd_cli_plan_free(qd_cli_plan *p) {
    for (int64_t i = 0; i < p->count; i++) {
        free(p->changes[i].columns);
        free(p->changes[i].rows);
        free(p->changes[i].importance);
        free(p->changes[i].outlier_columns);
    }
    free(p->changes);
    *p = (qd_cli_plan){0};
}
