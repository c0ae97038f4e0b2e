/* The public face of tuning: backends know their ways, and what they were told. */
#include <stdlib.h>
#include <string.h>

#include "core/context.h"
#include "qdot/qdot_tuning.h"

static qd_status unsupported(const qd_context *c) {
    return qd_fail(QD_ERR_UNSUPPORTED, "device %s has nothing to tune: open an OpenCL device that compiles its kernels",
                   c->info.id);
}

qd_status qd_plan_ways(const qd_plan *p, qd_tuning_way **out, int *count) {
    if (!p || !out || !count) return qd_fail(QD_ERR_ARGUMENT, "qd_plan_ways: no argument may be NULL");
    const qd_context *c = p->context;
    if (!c->backend->ways) return unsupported(c);
    if (p->node.fallback || !p->node.kernel)
        return qd_fail(QD_ERR_UNSUPPORTED, "%s does not run on the device", qd_op_get(p->node.op)->name);
    return c->backend->ways(c->device, &p->node, out, count);
}

void qd_ways_free(qd_tuning_way *ways) {
    free(ways);
}

qd_status qd_plan_choose(const qd_plan *p, const qd_tuning_way *way) {
    if (!p) return qd_fail(QD_ERR_ARGUMENT, "qd_plan_choose: the plan is NULL");
    const qd_context *c = p->context;
    return c->backend->choose ? c->backend->choose(c->device, &p->node, way) : unsupported(c);
}

qd_status qd_context_tuning_write(qd_context *c, const char *path) {
    if (!c) return qd_fail(QD_ERR_ARGUMENT, "qd_context_tuning_write: the context is NULL");
    return c->backend->tuning_write ? c->backend->tuning_write(c->device, path) : unsupported(c);
}

qd_status qd_context_tuning(qd_context *c, qd_tuning_info *out) {
    if (!c || !out) return qd_fail(QD_ERR_ARGUMENT, "qd_context_tuning: no argument may be NULL");
    memset(out, 0, sizeof *out);
    if (c->backend->tuning) c->backend->tuning(c->device, out);
    return QD_OK;
}
