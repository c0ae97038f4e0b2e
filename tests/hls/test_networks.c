/* Real networks, layer by layer: every convolution and product of MobileNet-v2 and ResNet-18 goes through the units of
 * hls/, as they are and packed, and gives the reference's bytes. The other layers are the reference's.
 *
 *   hls_test_networks [NETWORK]      0: MobileNet-v2, 1: ResNet-18; default: both */
#include "core/context.h"
#include "core/rules/rules.h"
#include "e2e/networks.h"
#include "hls/csim.h"
#include "unit/devices.h"

static const char *const shapes[] = {"plain", "pack2"};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

static int layers;
static const char *shape;

/* Bytes of a tensor from its first element on. */
static size_t bytes_of(const qd_tensor *t) {
    return t->stride * (size_t)qd_span(&t->desc, 0, t->desc.rank - 1);
}

static csim_operand upload(void *device, const qd_tensor *t, uint64_t salt) {
    if (!t) return csim_upload(NULL, 0, 0, 0, 1, 0);
    const size_t bytes = bytes_of(t), size = (size_t)qd_format_get(t->desc.format)->bytes;
    if (t->constant) return csim_upload(t->constant, bytes, 0, t->stride, size, salt);
    void *data = malloc(bytes);
    ck_assert_ptr_nonnull(data);
    ck_ok(qd_backend_ref.read(device, t->buffer, t->offset, data, bytes));
    const csim_operand o = csim_upload(data, bytes, 0, t->stride, size, salt);
    free(data);
    return o;
}

/* The reference computes; then the unit must give the same. */
static qd_status enqueue(void *device, qd_node *n, int64_t rows, qd_node *const wait[], int n_wait) {
    const csim_unit *u = csim_find(qd_op_get(n->op)->name, shape);
    csim_operand in[QD_MAX_IN], out[QD_MAX_OUT];
    const bool is_unit = n->op == QD_OP_CONV_INT || n->op == QD_OP_MATMUL_INT;
    if (!is_unit) return qd_backend_ref.enqueue(device, n, rows, wait, n_wait);
    ck_assert_ptr_nonnull(u);
    for (int i = 0; i < QD_MAX_IN; i++)
        in[i] = upload(device, n->in[i], (uint64_t)(layers * 4 + i * 20));
    out[0] = upload(device, n->out[0], (uint64_t)(layers * 12)); /* its bytes before the run */
    const qd_status status = qd_backend_ref.enqueue(device, n, rows, wait, n_wait);
    csim_run(u, n, in, out, rows, 0);
    const size_t bytes = bytes_of(n->out[0]);
    unsigned char *want = malloc(bytes);
    const unsigned char *got = (const unsigned char *)out[0].memory + out[0].at;
    ck_assert_ptr_nonnull(want);
    ck_ok(qd_backend_ref.read(device, n->out[0]->buffer, n->out[0]->offset, want, bytes));
    size_t different = 0;
    for (size_t i = 0; i < bytes; i++)
        different += got[i] != want[i];
    ck_assert_msg(different == 0, "layer %d (%s), %zu of %zu bytes differ", layers, u->top, different, bytes);
    free(want);
    free(out[0].memory);
    for (int i = 0; i < QD_MAX_IN; i++)
        free(in[i].memory);
    layers++;
    return status;
}

static const struct {
    const char *name;
    void (*make)(network *n, qd_context *c);
    int layers;
} networks[] = {{"MobileNet-v2", network_mobilenet_v2, 53}, {"ResNet-18", network_resnet18, 21}};
static int only = -1;

START_TEST(test_layers) {
    const int which = _i / SHAPES;
    if (only >= 0 && which != only) return;
    qd_backend csim = qd_backend_ref;
    csim.enqueue = enqueue;
    shape = shapes[_i % SHAPES];
    layers = 0;
    qd_context *c;
    network n;
    /* Apart from the sums of residuals, which the units do not do. */
    ck_ok(qd_context_create("ref", &(qd_context_options){.no_fuse = true}, &c));
    networks[which].make(&n, c);
    ck_ok(qd_graph_compile(n.graph, NULL, NULL));
    c->backend = &csim;
    ck_ok(qd_graph_run(n.graph, 1));
    c->backend = &qd_backend_ref;
    printf("%s, units in shape %s: %d layers, %.0f M products\n", networks[which].name, shape, layers, n.macs * 1e-6);
    ck_assert_int_eq(layers, networks[which].layers);
    network_free(&n);
    qd_context_free(c);
}
END_TEST

int main(int argc, char **argv) {
    if (argc > 1) only = atoi(argv[1]);
    TCase *tc = tcase_create("networks");
    tcase_add_loop_test(tc, test_layers, 0, SHAPES * (int)(sizeof networks / sizeof networks[0]));
    tcase_set_timeout(tc, 3000);
    Suite *suite = suite_create("networks");
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
