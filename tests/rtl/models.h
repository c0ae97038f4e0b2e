/* The verilated units of shapes.def, and how a test of all of them is run. */
#ifndef QDOT_TEST_RTL_MODELS_H
#define QDOT_TEST_RTL_MODELS_H

#include <check.h>

#include "rtl/model.h"

#define QD_SHAPE(name, parameters) BENCH_MODEL_##name,
enum {
#include "rtl/shapes.def"
    BENCH_MODELS
};
#undef QD_SHAPE

/** Model `i`, or NULL: it is not the one called `only`, or the shared library that the environment variable
 *  QDOT_RTL_MODELS names, whose models are taken instead, lacks it. */
const rtl_model *bench_model(int i, const char *only);

/** Runs a test case; what main returns. */
int bench_run(const char *name, TCase *tc);

#endif
