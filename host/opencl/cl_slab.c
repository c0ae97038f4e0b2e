/* Memory of weights on CPU devices: huge pages of the system. A token reads all weights once, and with pages of 4 KiB
 * the processor walks its page tables for every one: two threads of a virtual machine read 27 GB/s so, and 35 GB/s
 * from pages of 2 MiB (Zen 4).
 *
 * A slab is one mapping, which buffers are cut from, one behind the other. The memory of a buffer that is destroyed
 * goes back to the system at once, the mapping with the last of them. */
#define _DEFAULT_SOURCE /* madvise */
#include <stdlib.h>
#include <sys/mman.h>

#include "opencl/cl_internal.h"

/* A buffer begins at a page; smaller ones are left to the driver. */
enum { HUGE_PAGE = 2 << 20, SLAB_BYTES = 16 * HUGE_PAGE, PAGE = 4096 };

struct cl_slab {
    char *start; /* a multiple of HUGE_PAGE */
    size_t bytes, used;
    void *mapping; /* start is in it */
    size_t mapped;
    int users; /* buffers, and the device or whoever cuts from it */
    bool kept; /* the device may still use it: the mapping stays for ever */
};

static cl_slab *slab_create(size_t bytes) {
    cl_slab *s = qd_alloc_zero(1, sizeof *s);
    if (!s) return NULL;
    s->bytes = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    s->mapped = s->bytes + HUGE_PAGE;
    s->mapping = mmap(NULL, s->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (s->mapping == MAP_FAILED) {
        free(s);
        return NULL;
    }
    s->start = (char *)s->mapping + (HUGE_PAGE - (uintptr_t)s->mapping % HUGE_PAGE) % HUGE_PAGE;
#ifdef MADV_HUGEPAGE
    madvise(s->start, s->bytes, MADV_HUGEPAGE); /* where the system has none, pages are just small */
#endif
    s->users = 1;
    return s;
}

static size_t left_in(const cl_slab *s) {
    return s ? s->bytes - s->used : 0;
}

static void slab_release(cl_slab *s) {
    if (!s || --s->users) return;
    if (!s->kept) munmap(s->mapping, s->mapped);
    free(s);
}

cl_mem cl_slab_buffer(cl_device_state *d, size_t bytes, cl_piece *piece) {
    const size_t need = (bytes + PAGE - 1) / PAGE * PAGE;
    const char *why;
    cl_int e;
    /* PoCL takes host memory as it is; of other drivers that is not known. */
    if (bytes < PAGE || !d->unified_memory || !cl_device_has(d, CL_NEEDS_X86_AVX2, &why)) return NULL;
    cl_slab *s = d->slab;
    if (left_in(s) < need) s = slab_create(need > SLAB_BYTES ? need : SLAB_BYTES);
    if (!s) return NULL;
    const cl_mem mem =
        clCreateBuffer(d->context, CL_MEM_READ_WRITE | CL_MEM_USE_HOST_PTR, bytes, s->start + s->used, &e);
    if (e == CL_SUCCESS) {
        *piece = (cl_piece){s, s->used, need};
        s->used += need;
        s->users++;
    }
    /* Of two slabs, the device goes on with the one that has more room. */
    if (s != d->slab) {
        const bool better = left_in(s) > left_in(d->slab);
        slab_release(better ? d->slab : s);
        if (better) d->slab = s;
    }
    return e == CL_SUCCESS ? mem : NULL;
}

void cl_slab_free(cl_piece *piece, bool idle) {
    cl_slab *s = piece->slab;
    if (!s) return;
    s->kept = s->kept || !idle;
    if (idle) madvise(s->start + piece->at, piece->bytes, MADV_DONTNEED);
    slab_release(s);
}

void cl_slab_close(cl_device_state *d) {
    slab_release(d->slab);
    d->slab = NULL;
}
