/* To be preloaded: PoCL compiles for a processor with AVX2 and without AVX-512, whatever this one has, so that its
 * speed there can be told. (qdot's own kernels are chosen with --kernels avx2.) PoCL asks LLVM for the processor's name
 * and features, by two functions of llvm/Support/Host.h, which the names below are, mangled. */
#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define CPU_NAME "_ZN4llvm3sys14getHostCPUNameEv"
#define CPU_FEATURES "_ZN4llvm3sys18getHostCPUFeaturesERNS_9StringMapIbNS_15MallocAllocatorEEE"

typedef struct string_ref { /* llvm::StringRef */
    const char *data;
    size_t size;
} string_ref;

typedef struct feature { /* llvm::StringMapEntry<bool>; the name follows */
    size_t length;
    bool present;
} feature;

typedef struct features { /* llvm::StringMap<bool> of LLVM 15 */
    feature **buckets;    /* NULL: empty; -8 in the upper bits: erased, which a new map has none of */
    unsigned bucket_count;
} features;

string_ref cpu_name(void) __asm__(CPU_NAME);
bool cpu_features(features *f) __asm__(CPU_FEATURES);

string_ref cpu_name(void) {
    return (string_ref){"haswell", 7};
}

bool cpu_features(features *f) {
    static const char *const newer[] = {"avx512", "avxvnni", "amx", "vaes", "vpclmulqdq", "gfni"};
    bool (*real)(features *);
    /* PoCL's own, which nobody else sees: the ICD loader opens it with RTLD_LOCAL. */
    void *llvm = dlopen("libLLVM-15.so.1", RTLD_LAZY | RTLD_NOLOAD);
    *(void **)&real = llvm ? dlsym(llvm, CPU_FEATURES) : NULL;
    if (!real || !real(f)) abort();
    for (unsigned i = 0; i < f->bucket_count; i++) {
        const char *name = (const char *)(f->buckets[i] + 1);
        for (size_t k = 0; f->buckets[i] && k < sizeof newer / sizeof *newer; k++) {
            if (!strncmp(name, newer[k], strlen(newer[k]))) f->buckets[i]->present = false;
        }
    }
    return true;
}
