/* Runs a fuzz target on the files of a folder, once each: `replay FOLDER`. So the corpus is a test that needs no
 * fuzzer. */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Runs one file; false when it cannot be read. The target gets memory of just that size, so that the address sanitizer
 * sees a read beyond it. */
static bool replay(const char *path) {
    FILE *f = fopen(path, "rb");
    bool ok = f && fseek(f, 0, SEEK_END) == 0;
    const long size = ok ? ftell(f) : -1;
    uint8_t *data = size >= 0 ? malloc(size > 0 ? (size_t)size : 1) : NULL;
    ok = data && fseek(f, 0, SEEK_SET) == 0 && fread(data, 1, (size_t)size, f) == (size_t)size;
    if (ok) LLVMFuzzerTestOneInput(data, (size_t)size);
    free(data);
    if (f) fclose(f);
    return ok;
}

int main(int argc, char **argv) {
    DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
    if (!folder) {
        fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    int count = 0, bad = 0;
    for (const struct dirent *e; (e = readdir(folder));) {
        char path[4096];
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", argv[1], e->d_name);
        count++;
        if (!replay(path)) {
            fprintf(stderr, "cannot read %s\n", path);
            bad++;
        }
    }
    closedir(folder);
    printf("%d files\n", count);
    return bad || count == 0;
}
