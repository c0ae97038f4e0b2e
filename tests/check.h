/* Check, but for what it does where an assertion holds: it writes the line to a file, to name it should the test crash.
 * Some tests have millions of assertions, and took most of their time for that. */
#ifndef QDOT_TEST_CHECK_H
#define QDOT_TEST_CHECK_H

#include_next <check.h>

#define _mark_point(file, line) ((void)0)

#endif
