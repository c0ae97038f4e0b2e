/* Stands after a variant's source, and makes a step of a chain of it: the function QD_STEP, which takes its operator's
 * arguments, in their order, from 64-bit words. -DQD_STEP_<OPERATOR>. */
#define QD_ADDRESS(i) ((__global uchar *)args[i])
#define QD_OPERAND(i) QD_ADDRESS(i), args[(i) + 1], args[(i) + 2]
#define QD_INT(i) (int)args[i]
#define QD_FLOAT(i) as_float((uint)args[i])

void QD_STEP(__global const ulong *args, const int rows, const ulong item, const ulong items) {
#if defined(QD_STEP_GET_ROWS)
    get_rows(QD_OPERAND(0), QD_OPERAND(3), QD_OPERAND(6), QD_INT(9), QD_INT(10), QD_INT(11), rows, item, items);
#elif defined(QD_STEP_RMS_NORM)
    rms_norm(QD_OPERAND(0), QD_OPERAND(3), QD_OPERAND(6), QD_INT(9), QD_FLOAT(10), QD_INT(11), rows, item, items);
#elif defined(QD_STEP_QUANTIZE)
    quantize(QD_OPERAND(0), QD_OPERAND(3), QD_INT(6), rows, item, items);
#elif defined(QD_STEP_MATMUL)
    matmul(QD_ADDRESS(0), QD_OPERAND(1), QD_OPERAND(4), QD_OPERAND(7), QD_INT(10), QD_INT(11), QD_INT(12), QD_INT(13),
           rows, item, items);
#elif defined(QD_STEP_ROPE)
    rope(QD_OPERAND(0), QD_OPERAND(3), QD_OPERAND(6), QD_OPERAND(9), QD_INT(12), QD_INT(13), QD_INT(14), QD_INT(15),
         QD_INT(16), QD_INT(17), rows, item, items);
#elif defined(QD_STEP_KV_STORE)
    kv_store(QD_OPERAND(0), QD_OPERAND(3), QD_OPERAND(6), QD_OPERAND(9), QD_OPERAND(12), QD_INT(15), QD_INT(16),
             QD_INT(17), rows, item, items);
#elif defined(QD_STEP_ATTENTION)
    attention(QD_OPERAND(0), QD_OPERAND(3), QD_OPERAND(6), QD_OPERAND(9), QD_OPERAND(12), QD_ADDRESS(15), QD_INT(16),
              QD_INT(17), QD_INT(18), QD_FLOAT(19), QD_INT(20), rows, item, items);
#elif defined(QD_STEP_SWIGLU)
    swiglu(QD_OPERAND(0), QD_OPERAND(3), QD_OPERAND(6), QD_INT(9), rows, item, items);
#elif defined(QD_STEP_ADD)
    add(QD_OPERAND(0), QD_OPERAND(3), QD_OPERAND(6), QD_INT(9), rows, item, items);
#else
#error "x86/step.h: define QD_STEP_<OPERATOR>"
#endif
}
