/* oneDNN 3 as a peer of `qdot bench --peers` (README.md has the protocol): matrix products and convolutions of codes,
 * the result in codes, too; weights in the layout that the library chooses. */
#include <oneapi/dnnl/dnnl.h>
#include <unistd.h>

#include "peer.h"

enum { MOST_COPIES = 1024 };

static struct {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_t primitive;
    dnnl_memory_t w[MOST_COPIES], x, y, x_scale, w_scale, y_scale, zero;
    int copies;
} peer;

static const char *const failed = "the library refused";
/* Within a function that returns a reason. */
#define TRY(call) \
    if ((call) != dnnl_success) return failed

static void drop(dnnl_memory_t *m) {
    if (*m) dnnl_memory_destroy(*m);
    *m = NULL;
}

static void clear(void) {
    if (peer.primitive) dnnl_primitive_destroy(peer.primitive);
    peer.primitive = NULL;
    for (int i = 0; i < MOST_COPIES; i++)
        drop(&peer.w[i]);
    drop(&peer.x);
    drop(&peer.y);
    drop(&peer.x_scale);
    drop(&peer.w_scale);
    drop(&peer.y_scale);
    drop(&peer.zero);
}

static const char *make_memory(const_dnnl_memory_desc_t d, dnnl_memory_t *out) {
    TRY(dnnl_memory_create(out, d, peer.engine, DNNL_MEMORY_ALLOCATE));
    return NULL;
}

/* A vector of `count` values of 4 bytes each. */
static const char *make_vector(dnnl_data_type_t type, int64_t count, const void *values, dnnl_memory_t *out) {
    dnnl_memory_desc_t d;
    void *data;
    TRY(dnnl_memory_desc_create_with_tag(&d, 1, (dnnl_dims_t){count}, type, dnnl_a));
    const char *why = make_memory(d, out);
    dnnl_memory_desc_destroy(d);
    if (why) return why;
    TRY(dnnl_memory_get_data_handle(*out, &data));
    memcpy(data, values, (size_t)count * 4);
    return NULL;
}

/* Scales: one for x and y, one for each of the n channels of the weights, whose dimensions `mask` names. */
static const char *make_attributes(int64_t n, int mask, float y_scale, dnnl_primitive_attr_t *out) {
    const float x_scale = 0x1p-6f;
    const int32_t zero = PEER_ZERO;
    float *scales = malloc((size_t)n * sizeof *scales);
    if (!scales) return "out of memory";
    for (int64_t i = 0; i < n; i++)
        scales[i] = peer_scale(i);
    const char *why = make_vector(dnnl_f32, n, scales, &peer.w_scale);
    free(scales);
    if (!why) why = make_vector(dnnl_f32, 1, &x_scale, &peer.x_scale);
    if (!why) why = make_vector(dnnl_f32, 1, &y_scale, &peer.y_scale);
    if (!why) why = make_vector(dnnl_s32, 1, &zero, &peer.zero);
    if (why) return why;
    TRY(dnnl_primitive_attr_create(out));
    TRY(dnnl_primitive_attr_set_scales_mask(*out, DNNL_ARG_SRC, 0));
    TRY(dnnl_primitive_attr_set_scales_mask(*out, DNNL_ARG_WEIGHTS, mask));
    TRY(dnnl_primitive_attr_set_scales_mask(*out, DNNL_ARG_DST, 0));
    TRY(dnnl_primitive_attr_set_zero_points_mask(*out, DNNL_ARG_SRC, 0));
    TRY(dnnl_primitive_attr_set_zero_points_mask(*out, DNNL_ARG_DST, 0));
    return NULL;
}

/* Copies of the weights, from the order [n][k] of all peers (described by `plain`) to the primitive's. */
static const char *make_weights(const_dnnl_primitive_desc_t d, const_dnnl_memory_desc_t plain) {
    const const_dnnl_memory_desc_t own = dnnl_primitive_desc_query_md(d, dnnl_query_weights_md, 0);
    dnnl_memory_t source = NULL;
    dnnl_primitive_desc_t order;
    dnnl_primitive_t reorder;
    void *data;
    const char *why = make_memory(plain, &source);
    if (why) return why;
    TRY(dnnl_memory_get_data_handle(source, &data));
    for (size_t i = 0; i < dnnl_memory_desc_get_size(plain); i++)
        ((int8_t *)data)[i] = peer_weight((uint32_t)i);
    TRY(dnnl_reorder_primitive_desc_create(&order, plain, peer.engine, own, peer.engine, NULL));
    TRY(dnnl_primitive_create(&reorder, order));
    for (int i = 0; i < peer.copies && !why; i++) {
        why = make_memory(own, &peer.w[i]);
        const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, peer.w[i]}};
        if (!why && dnnl_primitive_execute(reorder, peer.stream, 2, args) != dnnl_success) why = failed;
    }
    dnnl_stream_wait(peer.stream);
    dnnl_primitive_destroy(reorder);
    dnnl_primitive_desc_destroy(order);
    dnnl_memory_destroy(source);
    return why;
}

/* A primitive's description. */
typedef struct layer {
    dnnl_primitive_attr_t attributes;
    dnnl_memory_desc_t x, w, y, plain; /* plain: the weights as all peers have them */
    dnnl_primitive_desc_t d;
} layer;

static const char *describe_gemm(const char *words, layer *l) {
    const int64_t m = (int64_t)peer_number(words, "m"), n = (int64_t)peer_number(words, "n");
    const int64_t k = (int64_t)peer_number(words, "k");
    const char *why = make_attributes(n, 1 << 1, (float)peer_number(words, "y_scale"), &l->attributes);
    if (why) return why;
    TRY(dnnl_memory_desc_create_with_tag(&l->x, 2, (dnnl_dims_t){m, k}, dnnl_u8, dnnl_ab));
    TRY(dnnl_memory_desc_create_with_tag(&l->w, 2, (dnnl_dims_t){k, n}, dnnl_s8, dnnl_format_tag_any));
    TRY(dnnl_memory_desc_create_with_tag(&l->plain, 2, (dnnl_dims_t){k, n}, dnnl_s8, dnnl_ba));
    TRY(dnnl_memory_desc_create_with_tag(&l->y, 2, (dnnl_dims_t){m, n}, dnnl_u8, dnnl_ab));
    TRY(dnnl_matmul_primitive_desc_create(&l->d, peer.engine, l->x, l->w, NULL, l->y, l->attributes));
    return NULL;
}

/* Images in NHWC, and weights [n][kernel][kernel][channels of a group]. */
static const char *describe_conv(const char *words, layer *l) {
    const int64_t image = (int64_t)peer_number(words, "image"), channels = (int64_t)peer_number(words, "channels");
    const int64_t n = (int64_t)peer_number(words, "outputs"), kernel = (int64_t)peer_number(words, "kernel");
    const int64_t stride = (int64_t)peer_number(words, "stride"), pad = (int64_t)peer_number(words, "pad");
    const int64_t groups = (int64_t)peer_number(words, "groups");
    const int64_t side = (image + 2 * pad - kernel) / stride + 1, part = channels / groups;
    const int grouped = groups > 1, rank = grouped ? 5 : 4;
    const dnnl_dims_t plain_dims = {n, part, kernel, kernel}, group_dims = {groups, n / groups, part, kernel, kernel};
    const dnnl_dims_t pads = {pad, pad}, strides = {stride, stride}, dilations = {0, 0};
    const int64_t *dims = grouped ? group_dims : plain_dims;
    const char *why = make_attributes(n, grouped ? 3 : 1, (float)peer_number(words, "y_scale"), &l->attributes);
    if (why) return why;
    TRY(dnnl_memory_desc_create_with_tag(&l->x, 4, (dnnl_dims_t){1, channels, image, image}, dnnl_u8, dnnl_nhwc));
    TRY(dnnl_memory_desc_create_with_tag(&l->w, rank, dims, dnnl_s8, dnnl_format_tag_any));
    TRY(dnnl_memory_desc_create_with_tag(&l->plain, rank, dims, dnnl_s8, grouped ? dnnl_abdec : dnnl_acdb));
    TRY(dnnl_memory_desc_create_with_tag(&l->y, 4, (dnnl_dims_t){1, n, side, side}, dnnl_u8, dnnl_nhwc));
    TRY(dnnl_convolution_forward_primitive_desc_create(&l->d, peer.engine, dnnl_forward_inference,
                                                       dnnl_convolution_direct, l->x, l->w, NULL, l->y, strides,
                                                       dilations, pads, pads, l->attributes));
    return NULL;
}

/* The primitive and its operands. */
static const char *make_layer(const layer *l) {
    void *data;
    const const_dnnl_memory_desc_t x = dnnl_primitive_desc_query_md(l->d, dnnl_query_src_md, 0);
    TRY(dnnl_primitive_create(&peer.primitive, l->d));
    const char *why = make_weights(l->d, l->plain);
    if (!why) why = make_memory(x, &peer.x);
    if (!why) why = make_memory(dnnl_primitive_desc_query_md(l->d, dnnl_query_dst_md, 0), &peer.y);
    if (why) return why;
    TRY(dnnl_memory_get_data_handle(peer.x, &data));
    for (size_t i = 0; i < dnnl_memory_desc_get_size(x); i++)
        ((uint8_t *)data)[i] = peer_code((uint32_t)i, 1);
    return NULL;
}

static const char *prepare(const char *words, const char *(*describe)(const char *words, layer *l)) {
    layer l = {0};
    const char *why = describe(words, &l);
    if (!why) why = make_layer(&l);
    if (l.d) dnnl_primitive_desc_destroy(l.d);
    if (l.x) dnnl_memory_desc_destroy(l.x);
    if (l.w) dnnl_memory_desc_destroy(l.w);
    if (l.y) dnnl_memory_desc_destroy(l.y);
    if (l.plain) dnnl_memory_desc_destroy(l.plain);
    if (l.attributes) dnnl_primitive_attr_destroy(l.attributes);
    return why;
}

const char *peer_prepare(const char *words, int threads) {
    (void)threads; /* see main */
    clear();
    const int is_gemm = peer_is(words, "gemm");
    if (!is_gemm && !peer_is(words, "conv")) return "";
    peer.copies = (int)peer_number(words, "copies");
    if (peer.copies < 1 || peer.copies > MOST_COPIES) return "too many copies";
    return prepare(words, is_gemm ? describe_gemm : describe_conv);
}

void peer_run(int64_t passes) {
    const dnnl_exec_arg_t rest[] = {{DNNL_ARG_SRC, peer.x},
                                    {DNNL_ARG_DST, peer.y},
                                    {DNNL_ARG_ATTR_SCALES | DNNL_ARG_SRC, peer.x_scale},
                                    {DNNL_ARG_ATTR_SCALES | DNNL_ARG_WEIGHTS, peer.w_scale},
                                    {DNNL_ARG_ATTR_SCALES | DNNL_ARG_DST, peer.y_scale},
                                    {DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_SRC, peer.zero},
                                    {DNNL_ARG_ATTR_ZERO_POINTS | DNNL_ARG_DST, peer.zero}};
    enum { REST = sizeof rest / sizeof rest[0] };
    dnnl_exec_arg_t args[REST + 1];
    memcpy(args, rest, sizeof rest);
    for (int64_t i = 0; i < passes; i++) {
        for (int c = 0; c < peer.copies; c++) {
            args[REST] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, peer.w[c]};
            if (dnnl_primitive_execute(peer.primitive, peer.stream, REST + 1, args) != dnnl_success) exit(3);
        }
    }
    dnnl_stream_wait(peer.stream);
}

size_t peer_results(void) {
    const_dnnl_memory_desc_t d;
    dnnl_memory_get_memory_desc(peer.y, &d);
    return dnnl_memory_desc_get_size(d);
}

double peer_value(size_t i) {
    void *data;
    dnnl_memory_get_data_handle(peer.y, &data);
    return ((const uint8_t *)data)[i];
}

int main(int argc, char **argv) {
    char version[48];
    const dnnl_version_t *v = dnnl_version();
    snprintf(version, sizeof version, "%d.%d.%d", v->major, v->minor, v->patch);
    /* The number of threads is read before main begins: hence a second start. */
    const char *threads = getenv("OMP_NUM_THREADS");
    if (argc > 1 && (!threads || strcmp(threads, argv[1]) != 0)) {
        setenv("OMP_NUM_THREADS", argv[1], 1);
        execv("/proc/self/exe", argv);
        return 2;
    }
    if (dnnl_engine_create(&peer.engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&peer.stream, peer.engine, dnnl_stream_default_flags) != dnnl_success) {
        fprintf(stderr, "oneDNN has no CPU engine here\n");
        return 2;
    }
    return peer_main(argc, argv, "onednn", version);
}
