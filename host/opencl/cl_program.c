/* Programs: source, build, and the cache of binaries and verdicts on disk.
 *
 * An entry is one file named by its key, the SHA-256 of everything that the binary depends on: a header, the reason of
 * a refusal, the binary, each covered by a checksum. Entries are written beside and renamed; a damaged one counts as
 * none. */
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "opencl/cl_internal.h"

struct qd_kernel_source {
    const char *name;
    const char *text;
    size_t size;
};
extern const struct qd_kernel_source qd_kernel_sources[];
extern const size_t qd_kernel_source_count;
/* Of the host sources that a proof depends on: what sets arguments, packs weights, makes cases, and says what is right.
 */
extern const char qd_proof_hash[];

/* ---- Source ------------------------------------------------------------------------------------------------- */

typedef struct text_buffer {
    char *data;
    size_t size, capacity;
} text_buffer;

static qd_status append(text_buffer *b, const char *text, size_t n) {
    if (b->size + n + 1 > b->capacity) {
        const size_t larger = 2 * (b->size + n + 1);
        char *grown = qd_realloc(b->data, larger);
        if (!grown) return QD_ERR_MEMORY;
        b->data = grown;
        b->capacity = larger;
    }
    memcpy(b->data + b->size, text, n);
    b->size += n;
    b->data[b->size] = 0;
    return QD_OK;
}

static const struct qd_kernel_source *find_source(const char *name, size_t n) {
    for (size_t i = 0; i < qd_kernel_source_count; i++) {
        if (strlen(qd_kernel_sources[i].name) == n && !memcmp(qd_kernel_sources[i].name, name, n))
            return &qd_kernel_sources[i];
    }
    return NULL;
}

/* Appends a source with its #include "NAME" lines replaced by those files, each once (`seen`: one for each source), but
 * tables (.def) wherever they are named. */
static qd_status resolve(text_buffer *b, const char *name, size_t n, bool seen[]) {
    const struct qd_kernel_source *s = find_source(name, n);
    if (!s) return qd_fail(QD_ERR_BUILD, "kernel source \"%.*s\" is not in the library", (int)n, name);
    const bool table = n > 4 && !memcmp(name + n - 4, ".def", 4);
    if (seen[s - qd_kernel_sources] && !table) return QD_OK;
    seen[s - qd_kernel_sources] = true;
    static const char include[] = "#include \"";
    const char *end = s->text + s->size;
    for (const char *line = s->text; line < end;) {
        const char *next = memchr(line, '\n', (size_t)(end - line));
        next = next ? next + 1 : end;
        const char *file = line + sizeof include - 1;
        const char *quote = NULL;
        if ((size_t)(next - line) > sizeof include && !memcmp(line, include, sizeof include - 1)) {
            quote = memchr(file, '"', (size_t)(next - file));
        }
        const qd_status status =
            quote ? resolve(b, file, (size_t)(quote - file), seen) : append(b, line, (size_t)(next - line));
        if (status) return status;
        line = next;
    }
    return QD_OK;
}

/* The same with a second file behind it; may be NULL. */
static qd_status source_of_two(const char *file, const char *after, char **source) {
    text_buffer b = {NULL, 0, 0};
    bool *seen = qd_alloc_zero(qd_kernel_source_count, sizeof *seen);
    if (!seen) return QD_ERR_MEMORY;
    qd_status status = resolve(&b, file, strlen(file), seen);
    if (!status && after) status = resolve(&b, after, strlen(after), seen);
    free(seen);
    if (status) {
        free(b.data);
        return status;
    }
    *source = b.data;
    return QD_OK;
}

qd_status cl_program_source(const char *file, char **source) {
    return source_of_two(file, NULL, source);
}

/* The options of a variant's build. Probed features may be words of OpenCL C 3.0 only, as Intel's packed dot product.
 */
static void build_options(const cl_device_state *d, const cl_variant *v, char *text, size_t capacity) {
    const bool newer =
        v->needs >= CL_NEEDS_FP16 && v->needs != CL_NEEDS_CHANNELS && !strncmp(d->info.version, "OpenCL 3.", 9);
    char depth[32] = "";
    if (v->needs == CL_NEEDS_CHANNELS && d->deep_channels)
        snprintf(depth, sizeof depth, " -DQD_DEPTH=%d", CL_DEEP_CHANNEL);
    snprintf(text, capacity, "-cl-std=%s %s%s%s%s", newer ? "CL3.0" : "CL1.2", v->options,
             d->is_cpu ? " -DQD_CPU=1" : "", d->exact_division ? " -cl-fp32-correctly-rounded-divide-sqrt" : "", depth);
}

/* What the compiler may tune for, when the device is this machine's CPU: the same driver on another CPU is another key.
 * The words are those of CPUID's leaves 1, 7 and 13, which list the instructions and what the system enables. */
static void cpu_text(const cl_device_state *d, char *text, size_t capacity) {
    text[0] = 0;
#if defined(__x86_64__)
    static const unsigned leaves[] = {1, 7, 13};
    size_t n = 0;
    for (size_t i = 0; d->is_cpu && i < sizeof leaves / sizeof leaves[0]; i++) {
        unsigned a = 0, b = 0, c = 0, e = 0;
        if (!__get_cpuid_count(leaves[i], 0, &a, &b, &c, &e)) continue;
        if (leaves[i] == 1) b = 0; /* holds the number of the core that asks */
        n += (size_t)snprintf(text + n, capacity - n, "%x %x %x %x,", a, b, c, e);
    }
#else
    (void)d, (void)capacity;
#endif
}

/* The environment that changes what a driver makes of a source. PoCL's binaries have no work-group functions for the
 * sizes of launches where it says so, and a process that is not told would compile them, after the proof. */
static const char *driver_text(void) {
    const char *text = getenv("POCL_WORK_GROUP_SPECIALIZATION");
    return text ? text : "";
}

static qd_status hash_texts(const char *const texts[], size_t n, char key[65]) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned digest_bytes = 0;
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    bool ok = hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL);
    for (size_t i = 0; i < n; i++)
        ok = ok && EVP_DigestUpdate(hash, texts[i], strlen(texts[i]) + 1);
    ok = ok && EVP_DigestFinal_ex(hash, digest, &digest_bytes);
    EVP_MD_CTX_free(hash);
    if (!ok) return qd_fail(QD_ERR_MEMORY, "could not compute a hash");
    for (unsigned i = 0; i < 32; i++)
        snprintf(key + 2 * i, 3, "%02x", digest[i]);
    return QD_OK;
}

qd_status cl_device_key(const cl_device_state *d, bool whole, char key[65]) {
    char cpu_features[160];
    cpu_text(d, cpu_features, sizeof cpu_features);
    const char *const parts[] = {d->info.platform, d->info.name, d->info.driver,      d->info.version, cpu_features,
                                 d->info.features, qd_version(), d->platform_version, qd_proof_hash};
    enum { PARTS = sizeof parts / sizeof parts[0], NAMES = 2 };
    if (!whole) return hash_texts(parts, NAMES, key);
    const char **all = qd_alloc((PARTS + qd_kernel_source_count) * sizeof *all);
    if (!all) return QD_ERR_MEMORY;
    memcpy(all, parts, sizeof parts);
    for (size_t i = 0; i < qd_kernel_source_count; i++)
        all[PARTS + i] = qd_kernel_sources[i].text;
    const qd_status status = hash_texts(all, PARTS + qd_kernel_source_count, key);
    free(all);
    return status;
}

qd_status cl_program_key(const cl_device_state *d, const cl_variant *v, char key[65], char **source) {
    char *text = NULL;
    char options[256], cpu_features[160];
    qd_status status = cl_program_source(v->file, &text);
    if (status) return status;
    build_options(d, v, options, sizeof options);
    cpu_text(d, cpu_features, sizeof cpu_features);
    const char *const parts[] = {qd_version(),    qd_proof_hash,       v->name,      text,
                                 options,         d->info.platform,    d->info.name, d->info.driver,
                                 d->info.version, d->platform_version, cpu_features, d->info.features,
                                 driver_text()};
    status = hash_texts(parts, sizeof parts / sizeof parts[0], key);
    if (status) {
        free(text);
        return status;
    }
    *source = text;
    return QD_OK;
}

qd_status cl_program_key_linked(const cl_device_state *d, const cl_variant *const v[], int n, const char *after,
                                char key[65]) {
    enum { MOST = 32 };
    char keys[MOST][65];
    const char *texts[MOST + 1];
    char *source;
    qd_status status = n < MOST ? QD_OK : qd_fail(QD_ERR_ARGUMENT, "too many parts of a program");
    for (int i = 0; i < n && !status; i++) {
        status = cl_program_key(d, v[i], keys[i], &source);
        if (!status) free(source);
        texts[i] = keys[i];
    }
    if (!status) status = cl_program_source(after, &source);
    if (status) return status;
    texts[n] = source;
    status = hash_texts(texts, (size_t)n + 1, key);
    free(source);
    return status;
}

/* ---- Build -------------------------------------------------------------------------------------------------- */

/* The first line of the build log that says "error", or its first line. */
static void first_error(const cl_device_state *d, cl_program p, char *why, size_t capacity) {
    size_t bytes = 0;
    snprintf(why, capacity, "the compiler gave no reason");
    if (clGetProgramBuildInfo(p, d->id, CL_PROGRAM_BUILD_LOG, 0, NULL, &bytes) != CL_SUCCESS || bytes < 2) return;
    char *log = calloc(1, bytes + 1);
    if (log && clGetProgramBuildInfo(p, d->id, CL_PROGRAM_BUILD_LOG, bytes, log, NULL) == CL_SUCCESS) {
        const char *line = strstr(log, "error");
        while (line && line > log && line[-1] != '\n')
            line--;
        if (!line) line = log;
        snprintf(why, capacity, "%.*s", (int)strcspn(line, "\n"), line);
    }
    free(log);
}

qd_status cl_program_build(cl_device_state *d, const cl_variant *v, const char *source, cl_program *out, char *why,
                           size_t capacity) {
    char options[256];
    build_options(d, v, options, sizeof options);
    cl_int e;
    cl_program p = clCreateProgramWithSource(d->context, 1, &source, NULL, &e);
    if (e != CL_SUCCESS) return cl_fail(d, e, "creating a program");
    e = clBuildProgram(p, 1, &d->id, options, NULL, NULL);
    if (e == CL_SUCCESS) {
        *out = p;
        return QD_OK;
    }
    first_error(d, p, why, capacity);
    clReleaseProgram(p);
    if (e == CL_DEVICE_NOT_AVAILABLE || e == CL_OUT_OF_HOST_MEMORY) return cl_fail(d, e, "building a program");
    return qd_fail(QD_ERR_BUILD, "%s: %s does not build: %s", d->info.name, v->name, why);
}

qd_status cl_program_compile(cl_device_state *d, const cl_variant *v, const char *more, const char *after,
                             cl_program *out) {
    char options[256], all[600], why[200] = "";
    char *source;
    cl_int e;
    qd_status status = source_of_two(v->file, after, &source);
    if (status) return status;
    build_options(d, v, options, sizeof options);
    snprintf(all, sizeof all, "%s %s", options, more);
    const char *text = source;
    cl_program p = clCreateProgramWithSource(d->context, 1, &text, NULL, &e);
    free(source);
    if (e != CL_SUCCESS) return cl_fail(d, e, "creating a program");
    e = clCompileProgram(p, 1, &d->id, all, 0, NULL, NULL, NULL, NULL);
    if (e == CL_SUCCESS) {
        *out = p;
        return QD_OK;
    }
    first_error(d, p, why, sizeof why);
    clReleaseProgram(p);
    return qd_fail(QD_ERR_BUILD, "%s: %s does not compile: %s", d->info.name, v->name, why);
}

/* ---- Cache -------------------------------------------------------------------------------------------------- */

typedef struct cache_header {
    char magic[8];
    uint32_t verdict;
    uint32_t why_bytes;
    uint64_t binary_bytes;
    unsigned char sha256[32]; /* of the key, the header with this field zero, the reason and the binary */
} cache_header;

static const char cache_magic[8] = "QDOTCL1";

/* With the key, because a file that has got another's name holds another kernel. */
static bool checksum(const char *key, cache_header h, const void *payload, size_t bytes, unsigned char out[32]) {
    memset(h.sha256, 0, sizeof h.sha256);
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    const bool ok = hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) && EVP_DigestUpdate(hash, key, strlen(key)) &&
                    EVP_DigestUpdate(hash, &h, sizeof h) && EVP_DigestUpdate(hash, payload, bytes) &&
                    EVP_DigestFinal_ex(hash, out, NULL);
    EVP_MD_CTX_free(hash);
    return ok;
}

/* mkdir -p; false when the last folder is not there afterwards. */
static bool make_folders(const char *path) {
    char partial[512];
    snprintf(partial, sizeof partial, "%s", path);
    for (char *p = partial + 1; *p; p++) {
        if (*p != '/') continue;
        *p = 0;
        mkdir(partial, 0700);
        *p = '/';
    }
    mkdir(partial, 0700);
    return access(path, W_OK) == 0;
}

void cl_cache_open(const qd_context_options *o, char *dir, size_t capacity) {
    const char *environment = getenv("QDOT_CACHE_DIR"), *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n;
    if (o->cache_dir) {
        n = snprintf(dir, capacity, "%s", o->cache_dir);
    } else if (environment) {
        n = snprintf(dir, capacity, "%s", environment);
    } else if (xdg && *xdg) {
        n = snprintf(dir, capacity, "%s/qdot", xdg);
    } else {
        n = home ? snprintf(dir, capacity, "%s/.cache/qdot", home) : 0;
    }
    if (n <= 0 || (size_t)n >= capacity || !make_folders(dir)) dir[0] = 0;
}

static bool entry_path(const cl_device_state *d, const char *key, char *path, size_t capacity) {
    if (!d->cache_dir[0]) return false;
    const int n = snprintf(path, capacity, "%s/%s.bin", d->cache_dir, key);
    return n > 0 && (size_t)n < capacity;
}

/* A whole file; NULL when it is not there or not readable. */
static unsigned char *read_file(const char *path, size_t *bytes) {
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    unsigned char *data = NULL;
    struct stat st;
    if (fstat(fileno(f), &st) == 0 && st.st_size > 0) {
        *bytes = (size_t)st.st_size;
        data = malloc(*bytes);
        if (data && fread(data, 1, *bytes, f) != *bytes) {
            free(data);
            data = NULL;
        }
    }
    fclose(f);
    return data;
}

static bool entry_valid(const char *key, const unsigned char *data, size_t bytes, cache_header *h) {
    if (bytes < sizeof *h) return false;
    memcpy(h, data, sizeof *h);
    const uint64_t rest = bytes - sizeof *h;
    unsigned char sha256[32];
    return !memcmp(h->magic, cache_magic, sizeof cache_magic) && h->why_bytes <= rest &&
           h->binary_bytes == rest - h->why_bytes && (h->verdict == CL_PASSED || h->verdict == CL_FAILED) &&
           checksum(key, *h, data + sizeof *h, (size_t)rest, sha256) && !memcmp(sha256, h->sha256, sizeof sha256);
}

bool cl_cache_load(const cl_device_state *d, const char *key, cl_verdict *verdict, cl_program *out, char *why,
                   size_t capacity) {
    char path[640];
    size_t bytes = 0;
    if (!entry_path(d, key, path, sizeof path)) return false;
    unsigned char *data = read_file(path, &bytes);
    if (!data) return false;
    cache_header h;
    bool usable = entry_valid(key, data, bytes, &h);
    if (usable) {
        *verdict = (cl_verdict)h.verdict;
        snprintf(why, capacity, "%.*s", (int)h.why_bytes, (const char *)data + sizeof h);
    }
    if (usable && *verdict == CL_PASSED) {
        const unsigned char *binary = data + sizeof h + h.why_bytes;
        const size_t binary_bytes = (size_t)h.binary_bytes;
        cl_int e, binary_status;
        cl_program p = clCreateProgramWithBinary(d->context, 1, &d->id, &binary_bytes, &binary, &binary_status, &e);
        usable = e == CL_SUCCESS;
        if (usable && clBuildProgram(p, 1, &d->id, NULL, NULL, NULL) != CL_SUCCESS) {
            clReleaseProgram(p);
            usable = false;
        }
        if (usable) *out = p;
    }
    free(data);
    return usable;
}

unsigned char *cl_program_binary(cl_program p, size_t *bytes) {
    if (clGetProgramInfo(p, CL_PROGRAM_BINARY_SIZES, sizeof *bytes, bytes, NULL) != CL_SUCCESS || !*bytes) return NULL;
    unsigned char *binary = malloc(*bytes);
    if (binary && clGetProgramInfo(p, CL_PROGRAM_BINARIES, sizeof binary, &binary, NULL) != CL_SUCCESS) {
        free(binary);
        return NULL;
    }
    return binary;
}

bool cl_file_replace(const char *path, const void *a, size_t a_bytes, const void *b, size_t b_bytes) {
    char beside[700];
    const int n = snprintf(beside, sizeof beside, "%s.XXXXXX", path); /* other threads and machines may write it, too */
    const int file = n > 0 && (size_t)n < sizeof beside ? mkstemp(beside) : -1;
    FILE *f = file >= 0 ? fdopen(file, "wb") : NULL;
    if (!f) return false;
    bool ok = fwrite(a, 1, a_bytes, f) == a_bytes && (!b_bytes || fwrite(b, 1, b_bytes, f) == b_bytes);
    ok = fclose(f) == 0 && ok && rename(beside, path) == 0;
    if (!ok) remove(beside);
    return ok;
}

void cl_cache_store(const cl_device_state *d, const char *key, cl_verdict verdict, cl_program program,
                    const char *why) {
    char path[640];
    if (!entry_path(d, key, path, sizeof path)) return;
    size_t binary_bytes = 0;
    unsigned char *binary = NULL;
    if (verdict == CL_PASSED && !(binary = cl_program_binary(program, &binary_bytes))) return;
    cache_header h = {.verdict = (uint32_t)verdict, .why_bytes = (uint32_t)strlen(why), .binary_bytes = binary_bytes};
    memcpy(h.magic, cache_magic, sizeof cache_magic);
    const size_t bytes = h.why_bytes + binary_bytes;
    unsigned char *payload = malloc(bytes + 1);
    if (payload) {
        memcpy(payload, why, h.why_bytes);
        if (binary) memcpy(payload + h.why_bytes, binary, binary_bytes);
        if (checksum(key, h, payload, bytes, h.sha256)) cl_file_replace(path, &h, sizeof h, payload, bytes);
    }
    free(payload);
    free(binary);
}
