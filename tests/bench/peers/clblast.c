/* CLBlast as a peer of `qdot bench --peers` (README.md has the protocol): products of floats on PoCL, else on the first
 * device that there is. */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <clblast_c.h>

#include "peer.h"

enum { MOST_COPIES = 1024, MOST_PLATFORMS = 16 };

static struct {
    cl_context context;
    cl_command_queue queue;
    cl_mem w[MOST_COPIES], x, y;
    int copies;
    size_t m, n, k;
} peer;

static void drop(cl_mem *b) {
    if (*b) clReleaseMemObject(*b);
    *b = NULL;
}

static void clear(void) {
    for (int i = 0; i < MOST_COPIES; i++)
        drop(&peer.w[i]);
    drop(&peer.x);
    drop(&peer.y);
}

static cl_mem make_buffer(size_t count, uint32_t seed) {
    float *data = malloc(count * sizeof *data);
    if (!data) return NULL;
    for (size_t i = 0; i < count; i++)
        data[i] = (float)(peer_code((uint32_t)i, seed) - PEER_ZERO) / PEER_ZERO;
    cl_mem b = clCreateBuffer(peer.context, CL_MEM_COPY_HOST_PTR, count * sizeof *data, data, NULL);
    free(data);
    return b;
}

static int multiply(cl_mem w) {
    return CLBlastSgemm(CLBlastLayoutRowMajor, CLBlastTransposeNo, CLBlastTransposeYes, peer.m, peer.n, peer.k, 1,
                        peer.x, 0, peer.k, w, 0, peer.k, 0, peer.y, 0, peer.n, &peer.queue, NULL) == CLBlastSuccess;
}

const char *peer_prepare(const char *words, int threads) {
    (void)threads; /* POCL_MAX_PTHREAD_COUNT, see main */
    clear();
    if (!peer_is(words, "sgemm")) return "";
    peer.m = (size_t)peer_number(words, "m");
    peer.n = (size_t)peer_number(words, "n");
    peer.k = (size_t)peer_number(words, "k");
    peer.copies = (int)peer_number(words, "copies");
    if (peer.copies < 1 || peer.copies > MOST_COPIES) return "too many copies";
    peer.x = make_buffer(peer.m * peer.k, 1);
    peer.y = make_buffer(peer.m * peer.n, 1);
    for (int i = 0; i < peer.copies; i++) {
        peer.w[i] = make_buffer(peer.n * peer.k, 2);
        if (!peer.w[i]) return "out of memory";
    }
    if (!peer.x || !peer.y) return "out of memory";
    return multiply(peer.w[0]) ? NULL : "the library refused";
}

void peer_run(int64_t passes) {
    for (int64_t i = 0; i < passes; i++) {
        for (int c = 0; c < peer.copies; c++) {
            if (!multiply(peer.w[c])) exit(3);
        }
        clFinish(peer.queue);
    }
}

size_t peer_results(void) {
    return peer.m * peer.n;
}

double peer_value(size_t i) {
    float value = 0;
    clEnqueueReadBuffer(peer.queue, peer.y, CL_TRUE, i * sizeof value, sizeof value, &value, 0, NULL, NULL);
    return (double)value;
}

static int open_device(void) {
    cl_platform_id platforms[MOST_PLATFORMS], platform;
    cl_device_id device;
    cl_uint count = 0;
    char name[128];
    if (clGetPlatformIDs(MOST_PLATFORMS, platforms, &count) != CL_SUCCESS || count == 0) return 0;
    platform = platforms[0];
    for (cl_uint i = 0; i < count && i < MOST_PLATFORMS; i++) {
        if (clGetPlatformInfo(platforms[i], CL_PLATFORM_NAME, sizeof name, name, NULL) == CL_SUCCESS &&
            strstr(name, "Portable"))
            platform = platforms[i];
    }
    if (clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, NULL) != CL_SUCCESS) return 0;
    peer.context = clCreateContext(NULL, 1, &device, NULL, NULL, NULL);
    if (!peer.context) return 0;
    peer.queue = clCreateCommandQueue(peer.context, device, 0, NULL);
    return peer.queue != NULL;
}

int main(int argc, char **argv) {
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", CLBLAST_VERSION_MAJOR, CLBLAST_VERSION_MINOR, CLBLAST_VERSION_PATCH);
    if (argc > 1) setenv("POCL_MAX_PTHREAD_COUNT", argv[1], 1);
    if (!open_device()) {
        fprintf(stderr, "no OpenCL device\n");
        return 2;
    }
    return peer_main(argc, argv, "clblast", version);
}
