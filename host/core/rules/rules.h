/* What the operand column of qdot_ops.def cannot say about an operator: one qd_op_rules for each word in its column
 * `rules`. */
#ifndef QDOT_CORE_RULES_H
#define QDOT_CORE_RULES_H

#include "core/choices.h"
#include "core/operands.h"
#include "core/status.h"
#include "qdot/qdot_backend.h"

/** A random problem while it is being made. Operands are numbered as in qd_operand_at. */
typedef struct qd_problem {
    qd_op op;
    const qd_op_spec *spec;
    const qd_format *formats;
    qd_attrs attrs;
    qd_symbols s;
    int64_t position; /* of the first row, for operators of language models */
    /* Whether an optional operand is present: -1: to be drawn. */
    int present[QD_OPERANDS];
    /* Shapes; filled by `choose` where the column says [...], else from the symbols (rank 0: not yet). */
    qd_tensor_desc desc[QD_OPERANDS];
} qd_problem;

typedef struct qd_op_rules {
    bool attrs;        /* attributes must be given */
    bool strided;      /* operands may have any strides: see qd_strides_of */
    unsigned in_place; /* bit i: the first result may take the place of input i */
    /** Refuses formats that do not go together (QD_FORMAT_COUNT where an operand is absent). NULL: all do. */
    qd_status (*formats)(qd_op op, const qd_format in[], const qd_format out[]);
    /** Sets the symbols that the attributes fix. May be NULL. */
    void (*symbols)(const qd_attrs *a, qd_symbols *s);
    /** Checks attributes, and shapes where the column says [...]; sets n->params. n->max_rows, in[], out[] and attrs
     * are set; see qd_sized for the shapes. May be NULL. */
    qd_status (*check)(qd_node *n, const qd_symbols *s);
    /** Draws attributes, symbols that the row uses, and shapes of [...] operands. */
    void (*choose)(qd_choices *c, qd_problem *p);
    /** Fills operand i, whose desc is p->desc[i], with values that make sense for it (dense rows); false: the usual
     * ones of its format will do. May be NULL. */
    bool (*fill)(qd_choices *c, const qd_problem *p, int i, void *data);
} qd_op_rules;

/** The rules of an operator. */
const qd_op_rules *qd_rules_of(qd_op op);

/** A tensor's desc with the rows of a run in numbers: QD_ROWS becomes n->max_rows. */
qd_tensor_desc qd_sized(const qd_node *n, const qd_tensor *t);
/** Where an operand's elements are. QD_ROWS count as n->max_rows. */
void qd_strides_of(const qd_node *n, const qd_tensor *t, qd_strides *out);
/** Number of elements of dimensions [from, to) of a desc. */
int64_t qd_span(const qd_tensor_desc *d, int from, int to);

/* ---- Parts that several operators share (common.c) ---------------------------------------------------------- */

/** QD_CODE of an integer format; 0 for others. */
int32_t qd_code_of(qd_format f);
/** QD_NUMBERS_… of a format that is one of them. */
int32_t qd_numbers_of(qd_format f);
/** Least and greatest code of an integer format. */
void qd_code_range(qd_format f, int64_t *min, int64_t *max);
/** Greatest magnitude of a code, or, with a zero point, of code - zero point. */
int64_t qd_code_reach(qd_format f, bool with_zero);
/** Checks the end of an integer operator (see qd_requant) and puts it into *out. `requant`: its operand, or NULL; one
 * row, or one for each channel. */
qd_status qd_output_check(const char *op, const qd_requant *y, qd_format format, const qd_tensor *requant,
                          qd_output *out);
/** QD_ABSENT, QD_SHARED (its first dimension is 1) or QD_EACH. */
int32_t qd_share(const qd_tensor *t);
/** Refuses a scale that is not positive and finite. */
qd_status qd_scale_check(const char *op, const char *name, float scale);
/** Refuses a zero point that is no code of the format. */
qd_status qd_zero_check(const char *op, const char *name, int32_t zero_point, qd_format f);
/** Refuses an x and a y of different shapes: the first input and the first output. */
qd_status qd_same_shape_check(const char *op, const qd_node *n);
/** Fails when a dimension or product of them does not fit the 32 bits that kernels count with. */
qd_status qd_count_check(const char *op, int64_t count);

/** Draws a qd_requant for a result format. */
qd_requant qd_choose_requant(qd_choices *c, qd_format y);
/** Draws a scale between 2^-10 and 2^2, one in three a power of two. */
float qd_choose_scale(qd_choices *c, const char *name);
/** Draws a code of the format: often its least, its greatest, or 0. */
int32_t qd_choose_code(qd_choices *c, const char *name, qd_format f);
/** Fills a requant operand of n rows with multipliers, of which many give ties or leave the range of the codes. */
void qd_fill_requant(qd_choices *c, qd_rounding rounding, int64_t n, int32_t *table);
/** Fills n zero points for a format, in int32: codes, and now and then what is none. */
void qd_fill_zeros(qd_choices *c, const char *name, qd_format f, int64_t n, int32_t *zeros);
/** Bits of any float, NaN too; half of them in the range of halves and somewhat beyond, half of them next to a tie
 * between two halves. */
uint32_t qd_random_float_bits(uint64_t *stream);
/** Fills n biases, small ones or any. */
void qd_fill_bias(qd_choices *c, int64_t n, int32_t *bias);

#endif
