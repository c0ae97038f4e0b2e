/* Which nodes the plug-in can do, alone or as a pattern of several: units. */
#ifndef QDOT_ORT_MATCH_H
#define QDOT_ORT_MATCH_H

#include "graph.h"

/** A tensor with what its codes mean. Values by index, -1: absent. */
typedef struct qep_operand {
    int value;
    int scale, zero; /* of codes that mean numbers */
    int64_t axis;    /* of the scales, where there are several */
    int64_t block;   /* indices of the axis that share a scale; 0: one scale for each index */
} qep_operand;

typedef struct qep_unit qep_unit;
typedef struct qep_match qep_match;
typedef struct qep_build qep_build;

typedef enum qep_kind {
    QEP_WORK, /* worth going to the device for */
    QEP_MOVE  /* only done between others */
} qep_kind;

/** A row of ops.def. */
typedef struct qep_op {
    const char *domain, *name;
    int first, last; /* versions of the operator set that it is known in */
    qep_kind kind;
    /* Fills the unit, or returns false after qep_refuse. Types, ranks, attributes and constants decide; nothing that
     * only a run shows. */
    bool (*match)(qep_match *m, int node, qep_unit *u);
    /* Appends the operators for the shapes of one run. Messages of failures need not name the node. */
    qd_status (*lower)(qep_build *b, const qep_unit *u);
} qep_op;

enum { QEP_UNIT_OUTPUTS = 3 };

struct qep_unit {
    const qep_op *op;
    int node;     /* that the operator stands for */
    int *members; /* all nodes, in no order */
    int n_members;
    qep_operand *in;
    int n_in;
    qep_operand y; /* the first result; y.scale -1: it is not quantized by the unit */
    int more[QEP_UNIT_OUTPUTS - 1];
    bool limited; /* real results are limited to low … high */
    float low, high;
    bool alias;       /* the result has the bytes of in[0] */
    unsigned windows; /* bit i: in[i] is read through a window, for which it needs memory of its own */
    bool varies;      /* a parameter is no constant: what is made of it holds for one run */
};

struct qep_match {
    const qep_graph *g;
    qep_arena *arena;
    int *unit_of; /* for each node: a unit that it is part of, -1: none */
    char reason[320];
    bool broken; /* the reason is a damaged model, not a missing feature */
};

typedef struct qep_units {
    qep_arena arena;
    qep_unit *list;
    int count;
    int *unit_of;        /* for each node, -1: none */
    const char **reason; /* for each node that is in no unit */
    bool *broken;        /* for each node: the reason is a damaged model */
} qep_units;

/** Finds the units of a graph. *out is to be freed with qep_units_free. */
OrtStatus *qep_units_find(const qep_host *h, const qep_graph *g, qep_units **out);
void qep_units_free(qep_units *u);

/* ---- For match functions: all return false after having written the reason ----------------------------------- */

bool qep_refuse(qep_match *m, const char *format, ...) __attribute__((format(printf, 2, 3)));
/** The model itself is damaged. */
bool qep_broken(qep_match *m, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** Room for n operands, all absent. */
bool qep_operands(qep_match *m, qep_unit *u, int n);
/** Makes a node part of the unit. */
bool qep_include(qep_match *m, qep_unit *u, int node);

enum {
    QEP_U8 = 1,
    QEP_I8 = 2,
    QEP_I32 = 4,
    QEP_F32 = 8,
    QEP_F16 = 16,
    QEP_I64 = 32,
    QEP_4BIT = 64,
    QEP_16BIT = 128,
    QEP_SMALL = 256, /* small floats */
    QEP_2BIT = 512,
    QEP_CODES8 = QEP_U8 | QEP_I8
};
/** Refuses a value whose type is none of the mask. */
bool qep_types(qep_match *m, int value, const char *what, unsigned mask);
/** True for a constant, or a parameter that the caller of the model passes. */
bool qep_known(const qep_graph *g, int value);
bool qep_constant(const qep_graph *g, int value);
/** A known value of one element, or (any > 1) of so many. any < 0: of any number. Absent ones pass. */
bool qep_parameter(qep_match *m, qep_unit *u, int value, const char *what, int64_t any);
/** A known scale (positive and finite) and zero point (of the type of the codes) of one element, or `any`. */
bool qep_quantization(qep_match *m, qep_unit *u, const qep_operand *o, const char *what, int64_t any);
/** Number of elements of a value; -1 when a dimension is unknown. */
int64_t qep_elements(const qep_graph *g, int value);
/** The rank of a value where the host knows it (at least 1). */
bool qep_rank(qep_match *m, int value, const char *what, int least, int most);

/** The tensor of codes behind a float value, when a DequantizeLinear with a scale for all makes it; the node joins the
 * unit. */
bool qep_look_behind(qep_match *m, qep_unit *u, int value, const char *what, qep_operand *o);
/** The same with scales for an axis or blocks. */
bool qep_look_behind_any(qep_match *m, qep_unit *u, int value, const char *what, qep_operand *o);
/** The codes that a QuantizeLinear makes of float value y, and nothing else reads; Relu and Clip before it become
 * limits. The nodes join the unit. */
bool qep_look_ahead(qep_match *m, qep_unit *u, int y);
/** Code of a real limit, as quantizing gives it. */
int32_t qep_limit_code(float limit, qd_quant y, qd_format f);
/** Refuses limits of a unit whose results are codes that leave only the code 0: the library takes them for none. */
bool qep_check_limits(qep_match *m, const qep_unit *u);
/** The only node that reads a value which is no output of the graph; -1 else. */
int qep_only_reader(const qep_graph *g, int value);
/** Limits of a Relu or Clip; false when the node is another, or they are no constants. */
bool qep_limits(const qep_graph *g, int node, float *low, float *high);
/** Whether a node (-1: none) is that operator of the standard domain. */
bool qep_is(const qep_graph *g, int node, const char *op);
/** The same for one with rows in ops.def: of a domain and a version that a row has. */
bool qep_has_row(const qep_graph *g, int node, const char *op);

#endif
