/* Stands after a variant's source, and makes a step of a chain of it: the function QD_STEP, which takes its operator's
 * arguments, in their order, from 64-bit words. -DQD_STEP_<OPERATOR>. */
#define QD_ADDRESS(i) ((__global uchar *)args[i])
#define QD_OPERAND(i) QD_ADDRESS(i), args[(i) + 1], args[(i) + 2]
#define QD_INT(i) (int)args[i]
#define QD_FLOAT(i) as_float((uint)args[i])
#define QD_OPERANDS_2 QD_OPERAND(0), QD_OPERAND(3)
#define QD_OPERANDS_3 QD_OPERANDS_2, QD_OPERAND(6)
#define QD_OPERANDS_4 QD_OPERANDS_3, QD_OPERAND(9)
#define QD_OPERANDS_5 QD_OPERANDS_4, QD_OPERAND(12)
#define QD_OPERANDS_6 QD_OPERANDS_5, QD_OPERAND(15)
#define QD_OPERANDS_7 QD_OPERANDS_6, QD_OPERAND(18)
#define QD_OPERANDS_8 QD_OPERANDS_7, QD_OPERAND(21)
#define QD_OPERANDS_9 QD_OPERANDS_8, QD_OPERAND(24)
/* An operator with n operands and parameters, which stand behind these; and one with scratch behind those. */
#define QD_PARAMS(n, params) *(__global const params *)(args + 3 * n)
#define QD_CALL(op, n, params) op(QD_OPERANDS_##n, QD_PARAMS(n, params), rows, item, items)
#define QD_CALL_SCRATCH(op, n, params) \
    op(QD_OPERANDS_##n, QD_PARAMS(n, params), QD_ADDRESS(3 * n + (sizeof(params) + 7) / 8), rows, item, items)

void QD_STEP(__global const ulong *args, const int rows, const ulong item, const ulong items) {
#if defined(QD_STEP_GET_ROWS)
    get_rows(QD_OPERAND(0), QD_OPERAND(3), QD_OPERAND(6), QD_INT(9), QD_INT(10), QD_INT(11), rows, item, items);
#elif defined(QD_STEP_RMS_NORM)
    rms_norm(QD_OPERAND(0), QD_OPERAND(3), QD_OPERAND(6), QD_INT(9), QD_FLOAT(10), QD_INT(11), rows, item, items);
#elif defined(QD_STEP_LAYER_NORM)
    layer_norm(QD_OPERANDS_4, QD_INT(12), QD_FLOAT(13), QD_INT(14), QD_INT(15), rows, item, items);
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
#elif defined(QD_STEP_MATMUL_INT)
    QD_CALL(matmul_int, 7, qd_matmul_int_params);
#elif defined(QD_STEP_MATMUL_GROUP)
    QD_CALL(matmul_group, 8, qd_matmul_group_params);
#elif defined(QD_STEP_MATMUL_CODED)
    QD_CALL(matmul_coded, 5, qd_coded_params);
#elif defined(QD_STEP_GET_ROWS_CODED)
    QD_CALL(get_rows_coded, 4, qd_coded_params);
#elif defined(QD_STEP_CONV_INT)
    QD_CALL(conv_int, 7, qd_conv_int_params);
#elif defined(QD_STEP_CONV_ADD_INT)
    QD_CALL(conv_add_int, 8, qd_conv_add_int_params);
#elif defined(QD_STEP_REQUANTIZE)
    QD_CALL(requantize, 3, qd_requantize_params);
#elif defined(QD_STEP_QUANTIZE_LINEAR)
    QD_CALL(quantize_linear, 4, qd_quantize_linear_params);
#elif defined(QD_STEP_DEQUANTIZE_LINEAR)
    QD_CALL(dequantize_linear, 4, qd_quantize_linear_params);
#elif defined(QD_STEP_DYNAMIC_QUANTIZE)
    QD_CALL(dynamic_quantize, 4, qd_dynamic_quantize_params);
#elif defined(QD_STEP_POOL)
    QD_CALL(pool, 2, qd_pool_params);
#elif defined(QD_STEP_ADD_INT)
    QD_CALL(add_int, 3, qd_binary_params);
#elif defined(QD_STEP_MUL_INT)
    QD_CALL(mul_int, 3, qd_binary_params);
#elif defined(QD_STEP_CONCAT)
    QD_CALL(concat, 9, qd_concat_params);
#elif defined(QD_STEP_PAD)
    QD_CALL(pad, 2, qd_pad_params);
#elif defined(QD_STEP_RESIZE)
    QD_CALL(resize, 2, qd_resize_params);
#elif defined(QD_STEP_TABLE)
    QD_CALL(table, 3, qd_table_params);
#elif defined(QD_STEP_SOFTMAX_INT)
    QD_CALL(softmax_int, 3, qd_softmax_int_params);
#elif defined(QD_STEP_COPY)
    QD_CALL(copy, 2, qd_copy_params);
#elif defined(QD_STEP_ELEMENTWISE)
    QD_CALL(elementwise, 3, qd_elementwise_params);
#elif defined(QD_STEP_SET_ROWS)
    QD_CALL(set_rows, 3, qd_set_rows_params);
#elif defined(QD_STEP_SOFTMAX)
    QD_CALL(softmax, 4, qd_softmax_params);
#elif defined(QD_STEP_MATMUL_BATCH)
    QD_CALL(matmul_batch, 3, qd_matmul_batch_params);
#elif defined(QD_STEP_ATTENTION_MASKED)
    QD_CALL_SCRATCH(attention_masked, 6, qd_attention_masked_params);
#else
#error "x86/step.h: define QD_STEP_<OPERATOR>"
#endif
}
