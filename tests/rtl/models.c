#include "rtl/models.h"

#include <dlfcn.h>

#include "unit/devices.h"

#define QD_SHAPE(name, parameters) extern const rtl_model rtl_##name;
#include "rtl/shapes.def"
#undef QD_SHAPE
static const rtl_model *const models[BENCH_MODELS] = {
#define QD_SHAPE(name, parameters) &rtl_##name,
#include "rtl/shapes.def"
#undef QD_SHAPE
};

const rtl_model *bench_model(int i, const char *only) {
    const char *other = getenv("QDOT_RTL_MODELS"), *name = models[i]->name;
    if (only && strcmp(only, name + strlen("rtl_")) != 0) return NULL;
    if (!other) return models[i];
    void *library = dlopen(other, RTLD_NOW | RTLD_LOCAL);
    ck_assert_msg(library != NULL, "%s", dlerror());
    return dlsym(library, name);
}

int bench_run(const char *name, TCase *tc) {
    tcase_set_timeout(tc, 7000);
    Suite *suite = suite_create(name);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
