/* Element types of the host and formats of the library. */
#include <string.h>

#include "graph.h"

typedef struct type_row {
    int type;
    const char *name;
    int bits;
    qd_format format;
} type_row;

static const type_row types[] = {
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, "float32", 32, QD_FORMAT_F32},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16, "float16", 16, QD_FORMAT_F16},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16, "bfloat16", 16, QD_FORMAT_BF16},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E4M3FN, "float8e4m3fn", 8, QD_FORMAT_F8E4M3},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT8E5M2, "float8e5m2", 8, QD_FORMAT_F8E5M2},
    {QEP_TYPE_FLOAT4E2M1, "float4e2m1", 4, QD_FORMAT_F4E2M1},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32, "int32", 32, QD_FORMAT_I32},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16, "int16", 16, QD_FORMAT_I16},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16, "uint16", 16, QD_FORMAT_U16},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8, "int8", 8, QD_FORMAT_I8},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, "uint8", 8, QD_FORMAT_U8},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT4, "int4", 4, QD_FORMAT_I4},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT4, "uint4", 4, QD_FORMAT_U4},
    {QEP_TYPE_INT2, "int2", 2, QD_FORMAT_I2},
    {QEP_TYPE_UINT2, "uint2", 2, QD_FORMAT_U2},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, "int64", 64, QD_FORMAT_COUNT},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64, "uint64", 64, QD_FORMAT_COUNT},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32, "uint32", 32, QD_FORMAT_COUNT},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE, "float64", 64, QD_FORMAT_COUNT},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL, "bool", 8, QD_FORMAT_COUNT},
    {ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING, "string", 0, QD_FORMAT_COUNT},
};

static const type_row *find(ONNXTensorElementDataType t) {
    static const type_row none = {0, "a type that the plug-in does not know", 0, QD_FORMAT_COUNT};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (types[i].type == (int)t) return &types[i];
    }
    return &none;
}

qd_format qep_format(ONNXTensorElementDataType t) {
    return find(t)->format;
}

const char *qep_type_name(ONNXTensorElementDataType t) {
    return find(t)->name;
}

size_t qep_type_bytes(ONNXTensorElementDataType t, int64_t count) {
    const int bits = find(t)->bits;
    int64_t all;
    if (!bits || count <= 0 || __builtin_mul_overflow(count, bits, &all) || all > INT64_MAX - 7) return 0;
    return (size_t)((all + 7) / 8);
}

double qep_number(ONNXTensorElementDataType t, const void *data, int64_t i) {
    const type_row *row = find(t);
    const unsigned char *bytes = data;
    int64_t wide = 0;
    if (row->bits < 8) { /* packed, the first in the low bits, over the ends of rows */
        wide = bytes[i * row->bits / 8] >> (i * row->bits % 8) & ((1 << row->bits) - 1);
        const bool negative = wide >> (row->bits - 1);
        if ((int)t == QEP_TYPE_FLOAT4E2M1) {
            static const float values[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
            return (double)values[wide & 7] * (negative ? -1 : 1);
        }
        const bool has_sign = row->format == QD_FORMAT_I4 || row->format == QD_FORMAT_I2;
        return (double)(has_sign && negative ? wide - (1 << row->bits) : wide);
    }
    if (row->format != QD_FORMAT_COUNT && qd_format_get(row->format)->kind == QD_KIND_FLOAT) {
        float value = 0;
        qd_dequantize(row->format, bytes + i * row->bits / 8, 1, 1, &value);
        return (double)value;
    }
    memcpy(&wide, bytes + i * row->bits / 8, (size_t)row->bits / 8); /* little-endian, as all of ONNX */
    switch (t) {
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8:
            return (double)(int8_t)wide;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16:
            return (double)(int16_t)wide;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32:
            return (double)(int32_t)wide;
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8:
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16:
        case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
            return (double)wide;
        default:
            return 0;
    }
}
