/* Discovery: every device of every platform, what it can do, and which one a device string means. */
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "opencl/cl_internal.h"

static void device_text(cl_device_id id, cl_device_info what, char *text, size_t capacity) {
    text[0] = 0;
    clGetDeviceInfo(id, what, capacity, text, NULL);
    text[capacity - 1] = 0;
}

static cl_ulong device_number(cl_device_id id, cl_device_info what, size_t bytes) {
    cl_ulong value = 0; /* little-endian: smaller types fill its low bytes */
    return clGetDeviceInfo(id, what, bytes, &value, NULL) == CL_SUCCESS ? value : 0;
}

static void platform_text(cl_platform_id id, cl_platform_info what, char *text, size_t capacity) {
    text[0] = 0;
    clGetPlatformInfo(id, what, capacity, text, NULL);
    text[capacity - 1] = 0;
}

/* ---- Features ----------------------------------------------------------------------------------------------- */

static bool is_pocl(const cl_device_state *d) {
    return !strncmp(d->info.platform, "Portable Computing Language", 27);
}

#if defined(__x86_64__)
/* Clang 14 does not know this one by name in __builtin_cpu_supports. */
static bool cpu_has_f16c(void) {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

#if defined(__x86_64__)
/* Tiles are a process's only when it has asked for them, which makes its signals' frames larger: a context asks, a list
 * of devices only looks whether the system and the CPU have them. With them come, in all CPUs so far, their products of
 * bytes. */
static bool may_use_amx(bool ask) {
#ifdef __linux__
    enum { ARCH_GET_XCOMP_SUPP = 0x1021, ARCH_REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18 };
    unsigned long long has = 0;
    if (syscall(SYS_arch_prctl, ARCH_GET_XCOMP_SUPP, &has) || !(has >> XTILEDATA & 1)) return false;
    return !ask || syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0;
#else
    (void)ask;
    return false;
#endif
}
#endif

/* Intel's FPGA emulator runs kernels on this machine's CPU, though it calls itself an accelerator. */
bool cl_is_emulator(const cl_device_state *d) {
    return strstr(d->info.platform, "FPGA Emulation") != NULL;
}

/* PoCL's CPU device is this machine, and takes x86 inline assembly; other CPU runtimes refuse it. */
bool cl_device_has(cl_device_state *d, cl_needs needs, const char **why) {
    if (needs == CL_NEEDS_NONE) return true;
    if (needs == CL_NEEDS_CHANNELS) {
        *why = "the driver does not report cl_intel_channels";
        return d->reported & 1u << CL_NEEDS_CHANNELS;
    }
    if (needs == CL_NEEDS_SUBGROUPS_DOT)
        return cl_feature_has(d, CL_NEEDS_SUBGROUPS, why) && cl_feature_has(d, CL_NEEDS_INTEGER_DOT, why);
    if (needs == CL_NEEDS_VECTORS) {
        *why = "needs a CPU device with vectors of 8 ints that takes no inline assembly (Intel's)";
        return d->is_cpu && !cl_is_emulator(d) && !is_pocl(d) &&
               device_number(d->id, CL_DEVICE_NATIVE_VECTOR_WIDTH_INT, sizeof(cl_uint)) >= 8;
    }
    if (needs >= CL_NEEDS_FP16) return cl_feature_has(d, needs, why);
#if defined(__x86_64__)
    if (!d->is_cpu || !is_pocl(d)) {
        *why = "needs a CPU device that takes x86 inline assembly (PoCL)";
        return false;
    }
    const bool avx2 = __builtin_cpu_supports("avx2") && cpu_has_f16c();
    const bool vnni = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
    if (needs == CL_NEEDS_X86_AVX2) {
        *why = "this CPU has no AVX2";
        return avx2;
    }
    *why = "this CPU has no AVX512-VNNI";
    if (!vnni || needs == CL_NEEDS_X86_AVX512_VNNI) return vnni;
    *why =
        "this CPU has no AMX, or the system gives no leave to use it (Linux does since 5.16, to programs with large "
        "enough signal stacks)";
    return may_use_amx(d->context != NULL);
#else
    (void)d;
    *why = "needs an x86-64 CPU";
#endif
    return false;
}

static void add_feature(qd_device_info *info, bool present, const char *name) {
    const size_t n = strlen(info->features);
    if (present) snprintf(info->features + n, sizeof info->features - n, "%s%s", n ? " " : "", name);
}

static void probe(cl_device_state *d, cl_device_type type) {
    qd_device_info *info = &d->info;
    platform_text(d->platform, CL_PLATFORM_NAME, info->platform, sizeof info->platform);
    platform_text(d->platform, CL_PLATFORM_VERSION, d->platform_version, sizeof d->platform_version);
    device_text(d->id, CL_DEVICE_NAME, info->name, sizeof info->name);
    device_text(d->id, CL_DRIVER_VERSION, info->driver, sizeof info->driver);
    device_text(d->id, CL_DEVICE_VERSION, info->version, sizeof info->version);
    /* A device that claims several types is a simulator. */
    type &= CL_DEVICE_TYPE_GPU | CL_DEVICE_TYPE_CPU | CL_DEVICE_TYPE_ACCELERATOR;
    const char *kind = type == CL_DEVICE_TYPE_GPU ? "gpu" : type == CL_DEVICE_TYPE_CPU ? "cpu" : "accelerator";
    snprintf(info->kind, sizeof info->kind, "%s", kind);
    info->compute_units = (unsigned)device_number(d->id, CL_DEVICE_MAX_COMPUTE_UNITS, sizeof(cl_uint));
    info->memory_bytes = device_number(d->id, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof(cl_ulong));
    info->max_alloc_bytes = device_number(d->id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof(cl_ulong));
    info->local_bytes = device_number(d->id, CL_DEVICE_LOCAL_MEM_SIZE, sizeof(cl_ulong));
    const cl_ulong fp = device_number(d->id, CL_DEVICE_SINGLE_FP_CONFIG, sizeof(cl_device_fp_config));
    d->is_cpu = type == CL_DEVICE_TYPE_CPU || cl_is_emulator(d);
    d->exact_division = (fp & CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT) != 0;
    d->unified_memory = device_number(d->id, CL_DEVICE_HOST_UNIFIED_MEMORY, sizeof(cl_bool)) != 0;
    d->out_of_order = (device_number(d->id, CL_DEVICE_QUEUE_PROPERTIES, sizeof(cl_command_queue_properties)) &
                       CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE) != 0;
    const char *why, *depths = getenv("CL_CONFIG_CHANNEL_DEPTH_EMULATION_MODE");
    d->deep_channels = cl_is_emulator(d) && !(depths && !strcmp(depths, "strict"));
    info->features[0] = 0;
    add_feature(info, d->out_of_order, "out-of-order");
    add_feature(info, d->unified_memory, "unified-memory");
    add_feature(info, d->exact_division, "exact-division");
    add_feature(info, (fp & CL_FP_DENORM) != 0, "denormals");
    add_feature(info, cl_device_has(d, CL_NEEDS_X86_AVX2, &why), "x86-avx2");
    add_feature(info, cl_device_has(d, CL_NEEDS_X86_AVX512_VNNI, &why), "x86-avx512-vnni");
    add_feature(info, cl_device_has(d, CL_NEEDS_X86_AMX, &why), "x86-amx");
    add_feature(info, cl_device_has(d, CL_NEEDS_VECTORS, &why), "vectors");
    /* Opening every device to probe these would take long: the verdicts on the kernels that need them tell. */
    d->reported = cl_features_reported(d->id);
    add_feature(info, (d->reported & 1u << CL_NEEDS_FP16) != 0, "fp16(reported)");
    add_feature(info, (d->reported & 1u << CL_NEEDS_SUBGROUPS) != 0, "subgroups(reported)");
    add_feature(info, (d->reported & 1u << CL_NEEDS_INTEGER_DOT) != 0, "integer-dot(reported)");
    add_feature(info, (d->reported & 1u << CL_NEEDS_NV_DP4A) != 0, "nvidia(reported)");
    add_feature(info, (d->reported & 1u << CL_NEEDS_COMMAND_BUFFERS) != 0, "command-buffers(reported)");
    add_feature(info, (d->reported & 1u << CL_NEEDS_CHANNELS) != 0, "channels(reported)");

    info->usable = true;
    const bool compiler = device_number(d->id, CL_DEVICE_COMPILER_AVAILABLE, sizeof(cl_bool)) != 0;
    const bool available = device_number(d->id, CL_DEVICE_AVAILABLE, sizeof(cl_bool)) != 0;
    const bool little = device_number(d->id, CL_DEVICE_ENDIAN_LITTLE, sizeof(cl_bool)) != 0;
    if (!available || !compiler || !little) {
        info->usable = false;
        snprintf(info->why, sizeof info->why, "%s",
                 !available  ? "the driver says that the device is not available"
                 : !compiler ? "the driver has no compiler for it"
                             : "it is big-endian");
    }
}

/* ---- Listing ------------------------------------------------------------------------------------------------ */

/* Every device, in the platforms' order. *out is to be freed. No platform at all is no error: *count is 0. */
static qd_status find_all(cl_device_state **out, int *count) {
    enum { MAX_PLATFORMS = 32, MAX_DEVICES = 64 };
    cl_platform_id platforms[MAX_PLATFORMS];
    cl_uint n_platforms = 0;
    cl_device_state *all = NULL;
    int n = 0;
    *out = NULL;
    *count = 0;
    if (clGetPlatformIDs(MAX_PLATFORMS, platforms, &n_platforms) != CL_SUCCESS) return QD_OK;
    for (cl_uint p = 0; p < n_platforms && p < MAX_PLATFORMS; p++) {
        cl_device_id ids[MAX_DEVICES];
        cl_uint n_ids = 0;
        if (clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, MAX_DEVICES, ids, &n_ids) != CL_SUCCESS) continue;
        if (n_ids > MAX_DEVICES) n_ids = MAX_DEVICES;
        cl_device_state *grown = qd_realloc(all, ((size_t)n + n_ids) * sizeof *grown);
        if (!grown) {
            free(all);
            return QD_ERR_MEMORY;
        }
        all = grown;
        for (cl_uint i = 0; i < n_ids; i++, n++) {
            cl_device_state *d = &all[n];
            memset(d, 0, sizeof *d);
            d->platform = platforms[p];
            d->id = ids[i];
            probe(d, (cl_device_type)device_number(ids[i], CL_DEVICE_TYPE, sizeof(cl_device_type)));
            snprintf(d->info.id, sizeof d->info.id, "opencl:%.80s:%u", d->info.platform, i);
        }
    }
    *out = all;
    *count = n;
    return QD_OK;
}

qd_status cl_devices_list(qd_device_info **devices, int *count) {
    cl_device_state *all;
    int n;
    const qd_status status = find_all(&all, &n);
    if (status) return status;
    qd_device_info *grown = qd_realloc(*devices, (size_t)(*count + n) * sizeof *grown);
    if (!grown) {
        free(all);
        return QD_ERR_MEMORY;
    }
    for (int i = 0; i < n; i++)
        grown[*count + i] = all[i].info;
    free(all);
    *devices = grown;
    *count += n;
    return QD_OK;
}

/* ---- Selection ---------------------------------------------------------------------------------------------- */

static bool matches(const qd_device_info *info, const char *what, size_t n) {
    if (n == 0) return true;
    if (strlen(info->kind) == n && !strncasecmp(info->kind, what, n)) return true;
    const char *names[] = {info->platform, info->name};
    for (int i = 0; i < 2; i++) {
        for (const char *p = names[i]; strlen(p) >= n; p++) {
            if (!strncasecmp(p, what, n)) return true;
        }
    }
    return false;
}

/* GPUs first, then CPUs, PoCL before others since it takes inline assembly, then accelerators, which may be emulators.
 */
static int rank(const cl_device_state *d) {
    if (!strcmp(d->info.kind, "gpu")) return 4;
    if (!strcmp(d->info.kind, "cpu")) return is_pocl(d) ? 3 : 2;
    return 1;
}

/* What a device string asks for: part of a name, or a kind, and which of those that match; -1: any. */
typedef struct wish {
    const char *device, *what;
    size_t length;
    long index;
} wish;

static wish read_wish(const char *device) {
    const char *what = device + strlen("opencl");
    if (*what == ':') what++;
    wish w = {device, what, strlen(what), -1};
    const char *colon = strrchr(what, ':');
    if (colon && colon[1] && strspn(colon + 1, "0123456789") == strlen(colon + 1)) {
        w.index = strtol(colon + 1, NULL, 10);
        w.length = (size_t)(colon - what);
    }
    return w;
}

/* Marks in fits[] the devices that are meant. */
static void find_meant(const wish *w, const cl_device_state *all, int n, bool fits[]) {
    long seen = 0;
    int exact = -1;
    for (int i = 0; i < n; i++) {
        fits[i] = matches(&all[i].info, w->what, w->length) && (w->index < 0 || seen++ == w->index);
        if (!strcmp(all[i].info.id, w->device)) exact = i;
    }
    for (int i = 0; exact >= 0 && i < n; i++)
        fits[i] = i == exact;
}

qd_status cl_device_select(const char *device, int nth, cl_device_state *d) {
    const wish w = read_wish(device);
    cl_device_state *all;
    int n;
    const qd_status status = find_all(&all, &n);
    if (status) return status;
    bool *fits = qd_alloc((size_t)n + 1);
    if (!fits) {
        free(all);
        return QD_ERR_MEMORY;
    }
    find_meant(&w, all, n, fits);
    const cl_device_state *chosen = NULL, *refused = NULL;
    for (int i = 0; i < n; i++) {
        if (!fits[i]) continue;
        if (!all[i].info.usable) {
            refused = &all[i];
            continue;
        }
        int better = 0;
        for (int j = 0; j < n; j++) {
            const int by = rank(&all[j]) - rank(&all[i]);
            better += fits[j] && all[j].info.usable && (by > 0 || (by == 0 && j < i));
        }
        if (better == nth) chosen = &all[i];
    }
    free(fits);
    qd_status result = QD_OK;
    if (chosen) {
        *d = *chosen;
    } else if (n == 0) {
        result = qd_fail(
            QD_ERR_NO_DEVICE,
            "no OpenCL device: install a driver (on Debian, pocl-opencl-icd runs on the CPU) or use --device ref");
    } else if (refused) {
        result = qd_fail(QD_ERR_NO_DEVICE, "device %s cannot be used: %s", refused->info.id, refused->info.why);
    } else {
        result =
            qd_fail(QD_ERR_NO_DEVICE, "no device matches \"%s\": \"qdot devices\" lists the %d that exist", device, n);
    }
    free(all);
    return result;
}
