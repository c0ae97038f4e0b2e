#include <stdio.h>

#include "opencl/cl_internal.h"

const char *cl_error_name(cl_int e) {
    static const struct {
        cl_int code;
        const char *name;
    } names[] = {
        {CL_DEVICE_NOT_FOUND, "CL_DEVICE_NOT_FOUND"},
        {CL_DEVICE_NOT_AVAILABLE, "CL_DEVICE_NOT_AVAILABLE"},
        {CL_COMPILER_NOT_AVAILABLE, "CL_COMPILER_NOT_AVAILABLE"},
        {CL_MEM_OBJECT_ALLOCATION_FAILURE, "CL_MEM_OBJECT_ALLOCATION_FAILURE"},
        {CL_OUT_OF_RESOURCES, "CL_OUT_OF_RESOURCES"},
        {CL_OUT_OF_HOST_MEMORY, "CL_OUT_OF_HOST_MEMORY"},
        {CL_BUILD_PROGRAM_FAILURE, "CL_BUILD_PROGRAM_FAILURE"},
        {CL_INVALID_VALUE, "CL_INVALID_VALUE"},
        {CL_INVALID_BINARY, "CL_INVALID_BINARY"},
        {CL_INVALID_BUILD_OPTIONS, "CL_INVALID_BUILD_OPTIONS"},
        {CL_INVALID_KERNEL_NAME, "CL_INVALID_KERNEL_NAME"},
        {CL_INVALID_KERNEL_ARGS, "CL_INVALID_KERNEL_ARGS"},
        {CL_INVALID_ARG_SIZE, "CL_INVALID_ARG_SIZE"},
        {CL_INVALID_WORK_GROUP_SIZE, "CL_INVALID_WORK_GROUP_SIZE"},
        {CL_INVALID_BUFFER_SIZE, "CL_INVALID_BUFFER_SIZE"},
        {-1001, "CL_PLATFORM_NOT_FOUND_KHR"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].code == e) return names[i].name;
    }
    return "OpenCL error";
}

qd_status cl_fail(cl_device_state *d, cl_int e, const char *what) {
    const char *device = d->info.name[0] ? d->info.name : "OpenCL";
    switch (e) {
        case CL_MEM_OBJECT_ALLOCATION_FAILURE:
        case CL_INVALID_BUFFER_SIZE:
            return qd_fail(QD_ERR_DEVICE_MEMORY,
                           "%s: %s: the device refused memory (%s); use a smaller context or model, or another device",
                           device, what, cl_error_name(e));
        case CL_OUT_OF_HOST_MEMORY:
            return qd_fail(QD_ERR_MEMORY, "%s: %s: the host is out of memory", device, what);
        case CL_DEVICE_NOT_AVAILABLE:
        case CL_INVALID_DEVICE:
        case CL_INVALID_CONTEXT:
        case CL_INVALID_COMMAND_QUEUE: /* what drivers say of everything after a crash on the device */
            d->lost = true;
            return qd_fail(QD_ERR_DEVICE_LOST, "%s: %s: the device is gone; free the context and open another device",
                           device, what);
        default:
            return qd_fail(QD_ERR_DEVICE, "%s: %s failed: %s (%d)", device, what, cl_error_name(e), (int)e);
    }
}

qd_status cl_alive(const cl_device_state *d) {
    if (!d->lost) return QD_OK;
    return qd_fail(QD_ERR_DEVICE_LOST, "%s: the device was lost before; free the context and open another device",
                   d->info.name);
}
