/* The OpenCL backend's table. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "opencl/cl_tuning.h"

/* Parts of CPU devices with so many compute units each. They live as long as the process: PoCL's threads may still be
 * in their last command's event when the last context is closed, and would use a released one. */
static pthread_mutex_t parts_lock = PTHREAD_MUTEX_INITIALIZER;
static struct part {
    cl_device_id whole, part;
    int first, threads, users; /* cores [first, first + threads) */
} * parts;
static int part_count;

/* Cuts the first parts out of a device of `units`: more contexts than these share them. */
static cl_int make_parts(cl_device_id whole, int threads, int units) {
    enum { MOST = 8 };
    cl_device_partition_property how[MOST + 3] = {CL_DEVICE_PARTITION_BY_COUNTS};
    cl_device_id made[MOST];
    cl_uint n = 0;
    while (n < (cl_uint)(units / threads) && n < MOST)
        how[++n] = threads;
    how[n + 1] = CL_DEVICE_PARTITION_BY_COUNTS_LIST_END;
    struct part *grown = qd_realloc(parts, ((size_t)part_count + n) * sizeof *grown);
    if (!grown) return CL_OUT_OF_HOST_MEMORY;
    parts = grown;
    const cl_int e = clCreateSubDevices(whole, how, n, made, NULL);
    for (cl_uint i = 0; i < n && e == CL_SUCCESS; i++) {
        parts[part_count++] =
            (struct part){.whole = whole, .part = made[i], .first = (int)i * threads, .threads = threads};
    }
    return e;
}

/* Contexts on a part's cores: on any device, for PoCL may have several on the same ones. */
static int part_load(int part) {
    const int first = parts[part].first, end = first + parts[part].threads;
    int load = 0;
    for (int i = 0; i < part_count; i++)
        load += parts[i].first < end && first < parts[i].first + parts[i].threads ? parts[i].users : 0;
    return load;
}

/* The part with fewest contexts, so that they have cores of their own as long as there are enough. */
static cl_int take_part(cl_device_id whole, int threads, int units, cl_device_id *out) {
    cl_int e = CL_SUCCESS;
    int best = -1;
    pthread_mutex_lock(&parts_lock);
    for (int turn = 0; turn < 2 && best < 0 && e == CL_SUCCESS; turn++) {
        if (turn) e = make_parts(whole, threads, units);
        for (int i = 0; i < part_count; i++) {
            if (parts[i].whole == whole && parts[i].threads == threads && (best < 0 || part_load(i) < part_load(best)))
                best = i;
        }
    }
    if (best >= 0) {
        parts[best].users++;
        *out = parts[best].part;
    }
    pthread_mutex_unlock(&parts_lock);
    return e;
}

/* Any device: those that are no parts are left alone. */
static void leave_part(cl_device_id part) {
    pthread_mutex_lock(&parts_lock);
    for (int i = 0; i < part_count; i++)
        parts[i].users -= parts[i].part == part;
    pthread_mutex_unlock(&parts_lock);
}

static void cl_close(void *device) {
    cl_device_state *d = device;
    if (d->queue) clFinish(d->queue);
    if (d->scratch_event) clReleaseEvent(d->scratch_event);
    cl_buffer_release(d, d->scratch);
    cl_pending_reap(d, true);
    free(d->pending);
    cl_profile_free(d);
    for (int i = 0; d->proofs && i < d->n_variants; i++) {
        if (d->proofs[i].program) clReleaseProgram(d->proofs[i].program);
    }
    free(d->proofs);
    cl_tuning_close(d);
    cl_pool_trim(d);
    cl_slab_close(d);
    cl_pipeline_close(d);
    cl_binary_close(d);
    if (d->queue) clReleaseCommandQueue(d->queue);
    if (d->context) clReleaseContext(d->context);
    leave_part(d->id);
    free(d);
}

/* Replaces a CPU device by a part of it with `threads` compute units. */
static qd_status limit_threads(cl_device_state *d, int threads) {
    if (threads <= 0 || (unsigned)threads >= d->info.compute_units) return QD_OK;
    if (!d->is_cpu) return qd_fail(QD_ERR_UNSUPPORTED, "%s: threads can only be chosen on CPU devices", d->info.name);
    const cl_int e = take_part(d->id, threads, (int)d->info.compute_units, &d->id);
    if (e != CL_SUCCESS) return cl_fail(d, e, "limiting the threads");
    d->info.compute_units = (unsigned)threads;
    return QD_OK;
}

/* Opens the nth best of the devices that are meant. */
static qd_status open_nth(const char *device, int nth, const qd_context_options *options, qd_device_info *info,
                          void **out) {
    cl_device_state *d = qd_alloc_zero(1, sizeof *d);
    if (!d) return QD_ERR_MEMORY;
    qd_status status = QD_OK;
    cl_int e;
    QD_TRY(cl_device_select(device, nth, d));
    QD_TRY(limit_threads(d, options->threads));
    d->options = *options;
    if (options->kernels) snprintf(d->kernels, sizeof d->kernels, "%s", options->kernels);
    d->max_alloc = d->info.max_alloc_bytes;
    if (options->max_alloc && options->max_alloc < d->max_alloc) d->max_alloc = options->max_alloc;
    d->budget = options->memory_budget ? options->memory_budget : d->info.memory_bytes;
    /* On a CPU every kernel takes all cores: nothing to overlap, and the events cost time. */
    const bool accelerator = !strcmp(d->info.kind, "accelerator");
    if (options->in_order || ((d->is_cpu || accelerator) && !options->out_of_order)) d->out_of_order = false;
    cl_cache_open(options, d->cache_dir, sizeof d->cache_dir);
    d->proofs = qd_alloc_zero((size_t)cl_variant_count, sizeof *d->proofs);
    d->variants = qd_alloc((size_t)cl_variant_count * sizeof *d->variants);
    if (!d->proofs || !d->variants) {
        status = QD_ERR_MEMORY;
        goto error;
    }
    memcpy(d->variants, cl_variants, (size_t)cl_variant_count * sizeof *d->variants);
    d->n_variants = cl_variant_count;
    const cl_context_properties on[] = {CL_CONTEXT_PLATFORM, (cl_context_properties)d->platform, 0};
    d->context = clCreateContext(on, 1, &d->id, NULL, NULL, &e);
    CL_TRY(d, e, "opening the device");
    const cl_command_queue_properties properties = (d->out_of_order ? CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE : 0u) |
                                                   (options->profile ? CL_QUEUE_PROFILING_ENABLE : 0u);
    d->queue = clCreateCommandQueue(d->context, d->id, properties, &e);
    CL_TRY(d, e, "creating a queue");
    if (accelerator && !d->out_of_order) d->transfers = clCreateCommandQueue(d->context, d->id, properties, &e);
    CL_TRY(d, e, "creating a queue");
    const char *binary = options->binary ? options->binary : accelerator ? getenv("QDOT_FPGA_BINARY") : NULL;
    if (binary && *binary) QD_TRY(cl_binary_open(d, binary));
    QD_TRY(cl_tuning_open(d));
    *info = d->info;
    *out = d;
    return QD_OK;
error:
    cl_close(d);
    return status;
}

/* The best device that can be opened, or why the best one could not. */
static qd_status cl_open(const char *device, const qd_context_options *options, qd_device_info *info, void **out) {
    char why[512] = "";
    qd_status first = QD_OK;
    for (int nth = 0;; nth++) {
        const qd_status status = open_nth(device, nth, options, info, out);
        if (nth && status == QD_ERR_NO_DEVICE) return qd_fail(first, "%s", why);
        /* Only what is a device's own fault may be better elsewhere. */
        if (status != QD_ERR_DEVICE && status != QD_ERR_DEVICE_LOST && status != QD_ERR_DEVICE_MEMORY) return status;
        if (!nth) {
            first = status;
            snprintf(why, sizeof why, "%s", qd_last_message());
        }
        if (options->log) {
            char line[600];
            snprintf(line, sizeof line, "trying the next device: %.500s", qd_last_message());
            options->log(options->log_user, line);
        }
    }
}

/* Tiles are of output channels that all positions of x meet, or of channels with windows of their own; their sums are
 * of all of K, or of groups that end where words of codes do; 8 bits have no place for zero points of groups. */
static bool tiles_fit(const qd_node *n) {
    if (n->op == QD_OP_MATMUL_GROUP) {
        const qd_matmul_group_params *p = &n->params.matmul_group;
        const bool no_zeros = QD_CODE_BITS(p->w_code) < 8 || (QD_CODE_SIGNED(p->w_code) && p->w_zero == QD_ABSENT);
        return p->groups == 1 || (p->x_code ? p->group % 8 == 0 && no_zeros : p->group % 16 == 0);
    }
    if (n->op == QD_OP_MATMUL_INT) return !n->params.matmul_int.batched;
    if (n->op == QD_OP_CONV_INT || n->op == QD_OP_CONV_ADD_INT) {
        const qd_conv_int_params *p = &n->params.conv_int;
        const qd_window_params *v = &p->window;
        const bool own = p->groups == v->channels && v->channels == v->out_channels &&
                         v->kernel_w * ((v->kernel_h + 3) / 4) <= QD_DEPTHWISE_COLUMNS;
        return (p->groups == 1 || own) && v->x_channel == 1 && v->y_channel == 1 && p->w_channel == 1;
    }
    return true;
}

bool cl_variant_fits(const cl_variant *v, const qd_node *n) {
    qd_format in[QD_MAX_IN];
    if (v->op != n->op) return false;
    for (int i = 0; i < QD_MAX_IN; i++)
        in[i] = n->in[i] ? n->in[i]->desc.format : QD_FORMAT_COUNT;
    if (!cl_variant_takes(v, in, n->out[0] ? n->out[0]->desc.format : QD_FORMAT_COUNT)) return false;
    /* Weights that a caller may still change stay as they are; and a kernel takes them from the start of a buffer, row
     * after row. */
    const qd_tensor *w = n->in[0];
    if (v->layout != QD_LAYOUT_ROWS && (!qd_is_constant(w) || !tiles_fit(n))) return false;
    return n->op != QD_OP_MATMUL || qd_is_constant(w) ||
           (w->offset == 0 && w->stride == qd_format_row_bytes(w->desc.format, qd_columns(w)));
}

/* Whether the caller's word for the kernels to use decides about this node. */
static bool word_decides(const cl_device_state *d, const qd_node *n) {
    for (int i = 0; d->kernels[0] && i < cl_variant_count; i++) {
        if (cl_variant_fits(&d->variants[i], n) && strstr(d->variants[i].name, d->kernels)) return true;
    }
    return false;
}

static cl_home home_of(const cl_device_state *d) {
    return !strcmp(d->info.kind, "gpu")           ? CL_HOME_GPU
           : !strcmp(d->info.kind, "accelerator") ? CL_HOME_FPGA
                                                  : CL_HOME_ANY;
}

/* Variants written for this kind of device, for any, and for other kinds. */
enum { TURNS = 3 };
static int variant_turn(const cl_variant *v, cl_home home) {
    const cl_home written_for = cl_variant_home(v);
    return written_for == CL_HOME_ANY ? 1 : written_for == home ? 0 : 2;
}

bool cl_variant_at_home(const cl_device_state *d, const cl_variant *v) {
    return variant_turn(v, home_of(d)) < TURNS - 1;
}

/* What is not written for accelerators would be slower there than the parts that are; and where the caller asks for
 * kernels that the parts have, and the whole has not, it would not be what was asked for. */
static bool cl_offers(void *device, qd_op op) {
    const cl_device_state *d = device;
    if (home_of(d) == CL_HOME_FPGA || d->binary) return false;
    for (int i = 0; i < cl_variant_count; i++) {
        if (d->variants[i].op == op && strstr(d->variants[i].name, d->kernels)) return true;
    }
    return false;
}

/* Lets runs of at most `most` rows go this way, if the variant is proven. QD_ERR_UNSUPPORTED, with the reason: not so.
 */
static qd_status try_way(cl_device_state *d, qd_node *n, int variant, int groups, int64_t most) {
    const char *name = d->variants[variant].name;
    qd_status status = cl_variant_prove(d, variant);
    if (status) return status;
    if (d->proofs[variant].verdict != CL_PASSED)
        return qd_fail(QD_ERR_UNSUPPORTED, "%s: %.240s", name, d->proofs[variant].why);
    if (n->kernel) {
        int has, has_groups;
        cl_node_way(n, &has, &has_groups);
        if (has == variant && has_groups == groups) return QD_OK;
    }
    status = cl_node_create(d, n, variant, groups, most);
    if (status != QD_ERR_DEVICE) return status;
    char why[256];
    snprintf(why, sizeof why, "%.250s", qd_last_message());
    return qd_fail(QD_ERR_UNSUPPORTED, "%s: %s", name, why);
}

/* The way of runs with some number of rows, which are at most `most`: what their class was told to use, else variants
 * by their turns, and in each in the order of kernels.def. */
static qd_status prepare_rows(cl_device_state *d, qd_node *n, int64_t rows, int64_t most) {
    const bool by_word = word_decides(d, n);
    const cl_home home = home_of(d);
    const cl_class of = cl_class_of(n, rows);
    cl_choice *told = cl_choice_find(d, &of);
    int variant, groups;
    qd_status status = QD_OK;
    if (told && cl_variant_fits(&d->variants[told->base], n) &&
        (!by_word || strstr(d->variants[told->base].name, d->kernels))) {
        status = cl_variant_with(d, told->base, told->options, &told->variant);
        if (!status) status = try_way(d, n, told->variant, told->groups, most);
        if (status != QD_ERR_UNSUPPORTED) return status;
    }
    qd_fail(QD_ERR_UNSUPPORTED, "no kernel takes these formats, or weights that lie so");
    for (int k = 0; k < TURNS * cl_variant_count; k++) {
        const int i = k % cl_variant_count;
        if (variant_turn(&d->variants[i], home) != k / cl_variant_count || !cl_variant_fits(&d->variants[i], n))
            continue;
        if (by_word && !strstr(d->variants[i].name, d->kernels)) continue;
        status = cl_tuned(d, i, &of, &variant, &groups);
        if (!status) status = try_way(d, n, variant, groups, most);
        if (status == QD_ERR_UNSUPPORTED && variant != i) status = try_way(d, n, i, d->variants[i].groups, most);
        if (status != QD_ERR_UNSUPPORTED) return status;
    }
    return QD_ERR_UNSUPPORTED;
}

/* A node whose runs may have any number of rows gets a way for each class of them. */
static qd_status cl_prepare(void *device, qd_node *n) {
    cl_device_state *d = device;
    qd_status status = cl_alive(d);
    if (!status) status = prepare_rows(d, n, n->max_rows, INT64_MAX);
    for (int c = qd_tuning_rows_class(n->max_rows); n->dynamic && c > 0 && !status; c--) {
        status = prepare_rows(d, n, qd_tuning_least_rows(c - 1), qd_tuning_least_rows(c) - 1);
        /* The way of more rows does them, too. */
        if (status == QD_ERR_UNSUPPORTED || status == QD_ERR_DEVICE_MEMORY) status = QD_OK;
    }
    if (status) cl_node_free(d, n);
    return status;
}

static qd_status cl_begin(void *device) {
    return cl_order(device);
}

static qd_status cl_submit(void *device) {
    cl_device_state *d = device;
    qd_status status = QD_OK;
    QD_TRY(cl_alive(d));
    CL_TRY(d, clFlush(d->queue), "submitting work");
error:
    return status;
}

static qd_status cl_finish(void *device) {
    cl_device_state *d = device;
    qd_status status = QD_OK;
    QD_TRY(cl_alive(d));
    CL_TRY(d, clFinish(d->queue), "waiting for the device");
    d->in_flight = 0;
    cl_pending_reap(d, true);
error:
    return status;
}

static void cl_memory(void *device, qd_memory_info *out) {
    const cl_device_state *d = device;
    *out = (qd_memory_info){.used = d->used, .pooled = d->pooled, .peak = d->peak, .budget = d->budget};
}

static qd_status cl_kernels(void *device, qd_kernel_info **out, int *count) {
    static const char *const verdicts[] = {"untried", "passed", "failed", "unavailable"};
    cl_device_state *d = device;
    qd_kernel_info *k = qd_alloc_zero((size_t)cl_variant_count, sizeof *k);
    if (!k) return QD_ERR_MEMORY;
    for (int i = 0; i < cl_variant_count; i++) {
        const cl_variant *v = &d->variants[i];
        const qd_status status = cl_variant_prove(d, i);
        if (status) {
            free(k);
            return status;
        }
        snprintf(k[i].op, sizeof k[i].op, "%s", qd_op_get(v->op)->name);
        snprintf(k[i].variant, sizeof k[i].variant, "%s", v->name);
        cl_variant_formats(v, k[i].formats, sizeof k[i].formats);
        const bool trusted = d->options.unproven && d->proofs[i].verdict == CL_PASSED;
        snprintf(k[i].verdict, sizeof k[i].verdict, "%s", trusted ? "unproven" : verdicts[d->proofs[i].verdict]);
        snprintf(k[i].why, sizeof k[i].why, "%s", d->proofs[i].why);
        k[i].load_seconds = d->proofs[i].load_seconds;
        k[i].build_seconds = d->proofs[i].build_seconds;
        k[i].canary_seconds = d->proofs[i].canary_seconds;
    }
    *out = k;
    *count = cl_variant_count;
    return QD_OK;
}

static bool cl_in_order(void *device) {
    return !((const cl_device_state *)device)->out_of_order;
}

/* So are those for vector instructions. */
static bool cl_channels_last(void *device) {
    const char *why;
    return cl_device_has(device, CL_NEEDS_X86_AVX2, &why) || cl_device_has(device, CL_NEEDS_VECTORS, &why);
}

const qd_backend qd_backend_opencl = {
    .name = "opencl",
    .list = cl_devices_list,
    .open = cl_open,
    .close = cl_close,
    .alloc = cl_buffer_alloc,
    .release = cl_buffer_release,
    .write = cl_buffer_write,
    .read = cl_buffer_read,
    .forget = cl_weights_forget,
    .refresh = cl_weights_refresh,
    .prepare = cl_prepare,
    .retire = cl_node_free,
    .offers = cl_offers,
    .begin = cl_begin,
    .enqueue = cl_node_enqueue,
    .submit = cl_submit,
    .in_order = cl_in_order,
    .channels_last = cl_channels_last,
    .record = cl_record,
    .recorded = cl_recorded,
    .replay = cl_replay,
    .recording_free = cl_recording_free,
    .chain = cl_chain_create,
    .chain_run = cl_chain_run,
    .chain_free = cl_chain_free,
    .finish = cl_finish,
    .memory = cl_memory,
    .kernels = cl_kernels,
    .profile = cl_profile_report,
    .profile_reset = cl_profile_reset,
    .trace = cl_profile_trace,
    .build_binary = cl_binary_build,
    .ways = cl_ways,
    .choose = cl_choose,
    .tuning_write = cl_tuning_write,
    .tuning = cl_tuning_describe,
};
