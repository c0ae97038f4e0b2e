/* What the host finds in the library: CreateEpFactories and ReleaseEpFactory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ep.h"

#define EXPORT __attribute__((visibility("default")))

typedef struct factory {
    OrtEpFactory base; /* first: the host passes it back */
    qep_host host;
} factory;

static const char *ORT_API_CALL get_name(const OrtEpFactory *this_ptr) {
    (void)this_ptr;
    return QEP_NAME;
}

static const char *ORT_API_CALL get_vendor(const OrtEpFactory *this_ptr) {
    (void)this_ptr;
    return "qdot";
}

static uint32_t ORT_API_CALL get_vendor_id(const OrtEpFactory *this_ptr) {
    (void)this_ptr;
    return 0; /* a number of the PCI register, which software has not */
}

static const char *ORT_API_CALL get_version(const OrtEpFactory *this_ptr) {
    (void)this_ptr;
    return qd_version();
}

/* CPUs and GPUs: which of the OpenCL devices works is the option `device`. */
static OrtStatus *ORT_API_CALL get_devices(OrtEpFactory *this_ptr, const OrtHardwareDevice *const *devices,
                                           size_t n_devices, OrtEpDevice **out, size_t max, size_t *count) {
    factory *f = (factory *)this_ptr;
    *count = 0;
    for (size_t i = 0; i < n_devices && *count < max; i++) {
        const OrtHardwareDeviceType type = f->host.api->HardwareDevice_Type(devices[i]);
        if (type != OrtHardwareDeviceType_CPU && type != OrtHardwareDeviceType_GPU) continue;
        QEP_HOST(f->host.ep->CreateEpDevice(this_ptr, devices[i], NULL, NULL, &out[*count]));
        (*count)++;
    }
    return NULL;
}

static OrtStatus *ORT_API_CALL create_ep(OrtEpFactory *this_ptr, const OrtHardwareDevice *const *devices,
                                         const OrtKeyValuePairs *const *metadata, size_t n_devices,
                                         const OrtSessionOptions *options, const OrtLogger *logger, OrtEp **out) {
    (void)devices, (void)metadata, (void)n_devices;
    qep_host host = ((factory *)this_ptr)->host;
    *out = NULL;
    host.logger = logger;
    return qep_ep_create(&host, options, out);
}

static void ORT_API_CALL release_ep(OrtEpFactory *this_ptr, OrtEp *ep) {
    (void)this_ptr;
    qep_ep_free((qep_ep *)ep);
}

static OrtStatus *ORT_API_CALL validate_compiled(OrtEpFactory *this_ptr, const OrtHardwareDevice *const *devices,
                                                 size_t n_devices, const char *info,
                                                 OrtCompiledModelCompatibility *out) {
    (void)this_ptr, (void)devices, (void)n_devices, (void)info;
    *out = OrtCompiledModelCompatibility_EP_NOT_APPLICABLE;
    return NULL;
}

/* Tensors stay in the host's memory between parts. */
static OrtStatus *ORT_API_CALL create_allocator(OrtEpFactory *this_ptr, const OrtMemoryInfo *memory,
                                                const OrtKeyValuePairs *options, OrtAllocator **out) {
    (void)this_ptr, (void)memory, (void)options;
    *out = NULL;
    return NULL;
}

static void ORT_API_CALL release_allocator(OrtEpFactory *this_ptr, OrtAllocator *allocator) {
    (void)this_ptr, (void)allocator;
}

static OrtStatus *ORT_API_CALL create_transfer(OrtEpFactory *this_ptr, OrtDataTransferImpl **out) {
    (void)this_ptr;
    *out = NULL;
    return NULL;
}

static bool ORT_API_CALL is_stream_aware(const OrtEpFactory *this_ptr) {
    (void)this_ptr;
    return false;
}

/* The API of this plug-in's version; where the host is older, a status by the part that all versions share, or
 * nothing where it has not even that. */
static OrtStatus *find_api(const OrtApiBase *base, qep_host *h) {
    h->api = base->GetApi(QEP_API);
    if (h->api) {
        int major, minor;
        h->ep = h->api->GetEpApi();
        if (sscanf(base->GetVersionString(), "%d.%d", &major, &minor) == 2) h->version = 1000 * major + minor;
        return NULL;
    }
    const qep_host old = {.api = base->GetApi(1)};
    if (!old.api) return NULL; /* not a host at all: it promises version 1 for ever */
    return qep_error(&old, ORT_NOT_IMPLEMENTED,
                     "this plug-in needs ONNX Runtime 1.%d or later; the one that runs is %s: upgrade it", QEP_API,
                     base->GetVersionString());
}

EXPORT OrtStatus *CreateEpFactories(const char *registered_name, const OrtApiBase *ort_api_base,
                                    const OrtLogger *default_logger, OrtEpFactory **factories, size_t max_factories,
                                    size_t *num_factories);
EXPORT OrtStatus *CreateEpFactories(const char *registered_name, const OrtApiBase *ort_api_base,
                                    const OrtLogger *default_logger, OrtEpFactory **factories, size_t max_factories,
                                    size_t *num_factories) {
    (void)registered_name;
    *num_factories = 0;
    qep_host host = {.logger = default_logger};
    QEP_HOST(find_api(ort_api_base, &host));
    if (!host.api) return NULL;
    if (max_factories < 1) return qep_error(&host, ORT_INVALID_ARGUMENT, "no room for a factory");
    factory *f = calloc(1, sizeof *f);
    if (!f) return qep_error(&host, ORT_FAIL, "out of memory");
    f->host = host;
    f->base = (OrtEpFactory){.ort_version_supported = QEP_API,
                             .GetName = get_name,
                             .GetVendor = get_vendor,
                             .GetVendorId = get_vendor_id,
                             .GetVersion = get_version,
                             .GetSupportedDevices = get_devices,
                             .CreateEp = create_ep,
                             .ReleaseEp = release_ep,
                             .ValidateCompiledModelCompatibilityInfo = validate_compiled,
                             .CreateAllocator = create_allocator,
                             .ReleaseAllocator = release_allocator,
                             .CreateDataTransfer = create_transfer,
                             .IsStreamAware = is_stream_aware};
    factories[0] = &f->base;
    *num_factories = 1;
    return NULL;
}

EXPORT OrtStatus *ReleaseEpFactory(OrtEpFactory *f);
EXPORT OrtStatus *ReleaseEpFactory(OrtEpFactory *f) {
    free(f);
    return NULL;
}
