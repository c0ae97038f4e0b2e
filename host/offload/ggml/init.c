/* The entry point, and what must hold before anything of the host is touched: its structs have no version of their own,
 * and their layout changes between releases. */
#include <string.h>

#include "plugin.h"

/* Operators and types by name, so that another order of the host's enums is found. */
static bool enums_agree(void) {
    static const struct {
        enum ggml_op op;
        const char *name;
    } ops[] = {
        {GGML_OP_ADD, "ADD"},         {GGML_OP_MUL_MAT, "MUL_MAT"},   {GGML_OP_CONT, "CONT"},
        {GGML_OP_PERMUTE, "PERMUTE"}, {GGML_OP_SET_ROWS, "SET_ROWS"}, {GGML_OP_SOFT_MAX, "SOFT_MAX"},
        {GGML_OP_ROPE, "ROPE"},       {GGML_OP_UNARY, "UNARY"},       {GGML_OP_FLASH_ATTN_EXT, "FLASH_ATTN_EXT"},
        {GGML_OP_GLU, "GLU"},
    };
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        if (strcmp(ggml_op_name(ops[i].op), ops[i].name) != 0) return false;
    }
    return !strcmp(ggml_type_name(GGML_TYPE_Q4_1), "q4_1") && !strcmp(ggml_type_name(GGML_TYPE_BF16), "bf16");
}

static bool host_fits(void) {
    enum { OBJECT_HEADER = 32 }; /* what ggml puts before a tensor */
    if (!strcmp(ggml_version(), QG_GGML_VERSION) && enums_agree() &&
        ggml_tensor_overhead() == OBJECT_HEADER + sizeof(struct ggml_tensor)) {
        return true;
    }
    GGML_LOG_ERROR(
        "qdot: this backend was built for ggml %s (backend interface %d), but the program that loads it has ggml %s; "
        "build it with the headers of that version (-DQDOT_GGML_DIR=its ggml folder)\n",
        QG_GGML_VERSION, GGML_BACKEND_API_VERSION, ggml_version());
    return false;
}

__attribute__((visibility("default"))) ggml_backend_reg_t ggml_backend_init(void);

/* The host calls it twice: once to learn what there is, once to register it. */
ggml_backend_reg_t ggml_backend_init(void) {
    if (!host_fits()) return NULL;
    qg_device *d = qg_device_open();
    return d ? &d->reg : NULL;
}
