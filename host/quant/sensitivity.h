/* A sensitivity from inside. */
#ifndef QDOT_QUANT_SENSITIVITY_H
#define QDOT_QUANT_SENSITIVITY_H

#include "qdot/qdot_sensitivity.h"

/** Appends; what is pointed to moves when more is added. */
qd_status qd_sensitivity_add_part(qd_sensitivity *s, const char *name, qd_sensitivity_part **out);
qd_status qd_sensitivity_add_matrix(qd_sensitivity_part *p, const qd_sensitive_matrix *m);
qd_status qd_sensitivity_add_result(qd_sensitivity_part *p, const qd_sensitivity_result *r);

#endif
