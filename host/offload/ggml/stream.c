/* A stream of graphs, which ggml calls a backend. Every graph is waited for: the host reads its results next. */
#include <stdlib.h>

#include "plugin.h"
#include "program.h"

static qg_device *of(ggml_backend_t stream) {
    return stream->context;
}

static const char *stream_name(ggml_backend_t stream) {
    (void)stream;
    return "QDOT";
}

static void stream_free(ggml_backend_t stream) {
    qg_device_report(of(stream));
    free(stream);
}

static enum ggml_status stream_compute(ggml_backend_t stream, struct ggml_cgraph *graph) {
    switch (qg_compute(of(stream), graph)) {
        case QD_OK:
            return GGML_STATUS_SUCCESS;
        case QD_ERR_MEMORY:
        case QD_ERR_DEVICE_MEMORY:
            return GGML_STATUS_ALLOC_FAILED;
        default:
            return GGML_STATUS_FAILED;
    }
}

ggml_backend_t qg_stream_create(qg_device *d) {
    static ggml_guid guid = {0x71, 0x64, 0x6f, 0x74, 0x2d, 0x67, 0x67, 0x6d,
                             0x6c, 0x2d, 0x73, 0x74, 0x72, 0x65, 0x61, 0x6d};
    struct ggml_backend *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->guid = &guid;
    s->iface = (struct ggml_backend_i){.get_name = stream_name, .free = stream_free, .graph_compute = stream_compute};
    s->device = &d->device;
    s->context = d;
    return s;
}
