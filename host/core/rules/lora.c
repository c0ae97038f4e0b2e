/* The low-rank branch of an adapter. */
#include <math.h>
#include <string.h>

#include "core/rules/rules.h"
#include "qdot/qdot_num.h"

/* Columns of y in one unit of work: as many as make its second product no smaller than its first. */
enum { LEAST_BLOCK = 256 };

static qd_status check(qd_node *n, const qd_symbols *s) {
    const int64_t K = s->of['K' - 'A'], N = s->of['N' - 'A'], L = s->of['L' - 'A'];
    const float scale = n->attrs.lora.scale;
    qd_status status = QD_OK;
    if (!isfinite(scale)) return qd_fail(QD_ERR_ARGUMENT, "lora: the scale must be finite");
    const int64_t block = K > LEAST_BLOCK ? (K + 15) / 16 * 16 : LEAST_BLOCK;
    QD_TRY(qd_count_check("lora", N + block));
    QD_TRY(qd_count_check("lora", QD_LORA_SCRATCH(K, L)));
    n->macs = (double)L * ((double)K + (double)N);
    n->params_bytes = sizeof n->params.lora;
    n->params.lora =
        (qd_lora_params){.n = (qd_i32)N, .k = (qd_i32)K, .rank = (qd_i32)L, .block = (qd_i32)block, .scale = scale};
error:
    return status;
}

/* Bound of size number i of four: one of them grows with the problem's size. */
static int64_t large(qd_choices *c, int i, int64_t bound) {
    return c->size > 1 && qd_choose(c, "large", 0, 3) == i ? bound * c->size : bound;
}

static void choose(qd_choices *c, qd_problem *p) {
    int64_t *of = p->s.of;
    of['R' - 'A'] = qd_choose_size(c, "R", large(c, 0, 9));
    of['K' - 'A'] = qd_choose_size(c, "K", large(c, 1, 70));
    of['L' - 'A'] = qd_choose_size(c, "L", large(c, 2, 40));
    of['N' - 'A'] = qd_choose_size(c, "N", large(c, 3, 70));
    /* More columns than a unit has. */
    if (qd_choose(c, "wide", 0, 5) == 5) of['N' - 'A'] += LEAST_BLOCK * qd_choose(c, "blocks", 1, 2);
    p->attrs.lora.scale =
        qd_choose(c, "negative", 0, 3) == 3 ? -qd_choose_scale(c, "scale") : qd_choose_scale(c, "scale");
}

/* Now and then x of any floats, NaN too, or halfway between two numbers of bf16. */
static bool fill(qd_choices *c, const qd_problem *p, int i, void *data) {
    const int kind = (int)qd_choose(c, "x kind", 0, 5);
    if (i != 0 || kind < 4) return false;
    uint64_t stream = qd_stream(c, "x kind");
    for (int64_t at = 0; at < qd_span(&p->desc[i], 0, 2); at++) {
        const uint32_t sign_and_code = (uint32_t)qd_next_random(&stream) & 0x80ff0000u;
        const uint32_t tie = sign_and_code | (uint32_t)qd_between(&stream, 124, 128) << 23 | 0x8000u;
        ((float *)data)[at] = qd_as_f32(kind == 4 ? tie : qd_random_float_bits(&stream));
    }
    return true;
}

const qd_op_rules qd_rules_lora = {.attrs = true, .in_place = 1 << 3, .check = check, .choose = choose, .fill = fill};
