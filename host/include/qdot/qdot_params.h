/* What an operator's kernels need beyond its operands: one struct of numbers for each family of operators, made
 * once by core/rules/ and passed by value, the same to the reference, to OpenCL C and to HLS C. */
#ifndef QDOT_PARAMS_H
#define QDOT_PARAMS_H

#include "qdot_blocks.h"

/** Integer codes: bits and sign in one number. Codes of less than a byte are packed, the first in the low bits. */
#define QD_CODE(bits, is_signed) ((bits)*2 + (is_signed))
#define QD_CODE_BITS(code) ((code) >> 1)
#define QD_CODE_SIGNED(code) ((code)&1)
#define QD_CODE_I32 QD_CODE(32, 1)

/** How an operand of one row or of a row for each channel is read: absent, index 0, or the channel's index. */
#define QD_ABSENT (-1)
#define QD_SHARED 0
#define QD_EACH 1

/** Where the elements of an operand are that may have any strides: four dimensions, filled up with 1 in front. */
typedef struct qd_strides {
    qd_i32 n[4];    /* indices of each dimension; of one with a block format, blocks of the last */
    qd_i64 step[4]; /* bytes from one to the next */
} qd_strides;

/* ---- Operators on any strides: loops over the dimensions of one tensor, the last one innermost. The rows of the run
 * multiply n[rows_at] of that tensor. Of the others n is 0 where they go along, else the index is taken modulo n; a
 * step of 0 repeats one element. Dimensions that go on where the next one ends, in all tensors, are merged. */

typedef struct qd_copy_params {
    qd_strides x, y; /* the loops are y's */
    qd_i32 rows_at;
    qd_i32 conversion; /* QD_COPY_… */
    qd_i32 tile;       /* lines that lie side by side in x and are copied together, along dimension 2; else 1 */
} qd_copy_params;
/* The same format: bytes of an element. */
#define QD_COPY_1 0
#define QD_COPY_2 1
#define QD_COPY_4 2
#define QD_COPY_F32_TO_F16 3
#define QD_COPY_F32_TO_BF16 4
#define QD_COPY_F16_TO_F32 5
#define QD_COPY_F16_TO_BF16 6
#define QD_COPY_BF16_TO_F32 7
#define QD_COPY_BF16_TO_F16 8
#define QD_COPY_I32_TO_F32 9
#define QD_COPY_I8_TO_F32 10
#define QD_COPY_U8_TO_F32 11

/** Nothing is merged. The last dimension of ids goes along with the rows of x, dimension 2, the others with those
 * before.
 */
typedef struct qd_set_rows_params {
    qd_strides x, ids, y; /* the loops are x's */
    qd_i32 rows_at;
    qd_i32 count;  /* rows of y that ids may name */
    qd_i32 format; /* QD_SET_ROWS_… */
} qd_set_rows_params;
#define QD_SET_ROWS_F32 0
#define QD_SET_ROWS_F16 1
#define QD_SET_ROWS_BF16 2
#define QD_SET_ROWS_Q8_0 3
#define QD_SET_ROWS_Q4_0 4
#define QD_SET_ROWS_Q4_1 5

typedef struct qd_elementwise_params {
    qd_strides a, b, y; /* the loops are y's */
    qd_i32 rows_at;
    qd_i32 function, combine; /* qd_unary; qd_combine, or QD_ABSENT */
    qd_f32 alpha, scale, offset;
} qd_elementwise_params;

/** The end of integer operators. */
typedef struct qd_output {
    qd_i32 requant;    /* QD_ABSENT: y is the sum */
    qd_i32 mode;       /* QD_MODE_… of qdot_num.h */
    qd_i32 zero_point; /* of y */
    qd_i32 min, max;   /* codes */
    qd_i32 code;       /* of y */
} qd_output;

typedef struct qd_matmul_int_params {
    qd_i32 first, count; /* output channels of this launch: w starts at the first */
    qd_i32 n, k;
    qd_i32 m;       /* rows of x in one batch */
    qd_i32 batched; /* each batch has its own w */
    qd_i32 w_code, x_code;
    qd_i32 w_zero, x_zero; /* QD_ABSENT, QD_SHARED, QD_EACH (x: one for each row) */
    qd_i32 bias;           /* QD_ABSENT or QD_EACH */
    qd_i32 wide;           /* sums in 64 bits */
    qd_output y;
} qd_matmul_int_params;

typedef struct qd_matmul_group_params {
    qd_i32 first, count; /* as in qd_matmul_int_params */
    qd_i32 n, k;
    qd_i32 group, groups; /* codes in a group; groups in a row */
    qd_i32 w_code;
    qd_i32 x_code;                  /* 0: x is f32 */
    qd_i32 w_scale;                 /* QD_SHARED: one row of scales for all of w's, QD_EACH */
    qd_i32 w_zero, w_zero_is_float; /* QD_ABSENT, QD_SHARED, QD_EACH */
    qd_i32 x_scale, x_zero, bias;   /* QD_ABSENT, QD_SHARED, QD_EACH */
} qd_matmul_group_params;

typedef struct qd_lora_params {
    qd_i32 n, k, rank;
    qd_i32 block; /* columns of y in one unit of work, each of which makes x · aᵀ anew */
    qd_f32 scale;
} qd_lora_params;

/** Floats that a unit of LORA keeps: four rows of x and of x · aᵀ, filled up to whole vectors, and 16 sums for each. */
#define QD_LORA_SCRATCH(k, rank) (4 * (((k) + 15) / 16 * 16 + ((rank) + 15) / 16 * 16 + 16))

/** Rows of coded weights (qdot_coding.h). A row holds, in this order: a table of floats where it has its own; its
 * scales; its zero points, packed like the codes; its codes, the first in the low bits. `side` holds what all rows
 * share. */
typedef struct qd_coded_params {
    qd_i32 first, count; /* rows of this launch: w starts at the first */
    qd_i32 n, k;
    qd_i32 kind; /* QD_CODED_… */
    qd_i32 bits, is_signed;
    qd_i32 group, groups;                 /* codes with one scale; scales in a row */
    qd_i32 scale;                         /* QD_SCALE_AS_… */
    qd_i32 scales_at, zeros_at, codes_at; /* bytes in a row; zeros_at: QD_ABSENT: 0 */
    qd_i32 table_at;                      /* float of the table in side; QD_ABSENT: the row begins with it */
    qd_i32 nested_at;     /* nested scales: float in side of: 256 values, offset, a scale for each 256 */
    qd_i32 tensor_at;     /* float in side: the tensor's scale (E4M3: a factor of all scales), its zero point */
    qd_i32 length, share; /* PRODUCT: weights in a vector; places of a row that have one codebook */
    qd_i32 a8, addend;    /* x is A8, else f32; QD_ABSENT, QD_SHARED (a bias), QD_EACH */
} qd_coded_params;
#define QD_CODED_UNIFORM 0
#define QD_CODED_TABLE 1
#define QD_CODED_SHIFT 2
#define QD_CODED_PRODUCT 3
#define QD_SCALE_AS_ONE 0
#define QD_SCALE_AS_F32 1
#define QD_SCALE_AS_F16 2
#define QD_SCALE_AS_BF16 3
#define QD_SCALE_AS_E4M3 4
#define QD_SCALE_AS_E8M0 5
#define QD_SCALE_AS_NESTED 6
#define QD_SCALE_AS_TENSOR 7

/** A window over an image, in elements of the tensors: NHWC and NCHW differ only in these strides. */
typedef struct qd_window_params {
    qd_i32 channels, in_h, in_w; /* of x */
    qd_i32 out_channels, out_h, out_w;
    qd_i32 kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, top, left;
    qd_i32 x_channel, x_h, x_w; /* elements from one channel, line, column of x to the next */
    qd_i32 y_channel, y_h, y_w;
} qd_window_params;

typedef struct qd_conv_int_params {
    qd_window_params window;
    qd_i32 groups;
    /* Codes of w from one channel, line, column, output channel to the next. Its lines (last dimension) begin at a
     * byte: of packed codes the last may only fill one up. */
    qd_i32 w_channel, w_h, w_w, w_row;
    qd_i32 w_code, x_code;
    qd_i32 w_zero, x_zero, bias;
    qd_output y;
} qd_conv_int_params;

/** Of windows that kernels for x86 CPUs take where groups = channels: columns, times lines / 4. */
#define QD_DEPTHWISE_COLUMNS 32

typedef struct qd_requantize_params {
    qd_i32 size;     /* elements in one row of the run */
    qd_i32 channels; /* element e has channel e modulo channels */
    qd_i32 x_code, x_zero;
    qd_output y;
} qd_requantize_params;

/** A tensor as [outer, axis, inner]: element e has the outer index e / inner / axis, a = e / inner % axis and the inner
 * index e % inner, and the scale outer · scale_outer + a / block · scale_axis + inner · scale_inner. */
typedef struct qd_quantize_linear_params {
    qd_i32 size; /* elements in one row of the run */
    qd_i32 cols; /* elements of the last dimension: packed rows start at a byte; 0: the run's rows */
    qd_i32 axis, inner, block;
    qd_i32 scale_outer, scale_axis, scale_inner; /* 0: shared */
    qd_i32 zero;                                 /* QD_ABSENT or QD_EACH: as the scales */
    qd_i32 code;                                 /* x (dequantize) or y (quantize); small floats: unsigned */
    qd_i32 small;                                /* QD_SMALL_… for small floats, 0: integers */
    qd_i32 is_f16;                               /* the other side is f16, not f32 */
    qd_i32 reciprocal, away, zero_first, min, max;
} qd_quantize_linear_params;
#define QD_SMALL_F8E4M3 1
#define QD_SMALL_F8E5M2 2
#define QD_SMALL_F4E2M1 3
/* Quantizing only: too large values overflow. */
#define QD_SMALL_F8E4M3_OVERFLOW 4
#define QD_SMALL_F8E5M2_OVERFLOW 5

/** Scales without blocks. Element k of a scale, in order of memory, is (k / inner · scales + the scale) · inner +
 * k % inner. */
typedef struct qd_fake_quantize_params {
    qd_quantize_linear_params place; /* code: 32 bits; min and max are the codes' */
    qd_i32 clip;
    qd_f32 factor;
} qd_fake_quantize_params;
/** Elements of a scale whose gradients are summed before the others'. */
#define QD_FAKE_CHUNK 1024

typedef struct qd_dynamic_quantize_params {
    qd_i32 cols;
    qd_i32 per_row, symmetric;
    qd_i32 code;
} qd_dynamic_quantize_params;

typedef struct qd_pool_params {
    qd_window_params window;
    qd_i32 padded_h, padded_w; /* lines and columns of x with the padding after them */
    qd_i32 average, count_padding;
    qd_i32 mode;
    qd_i32 x_code, x_zero, y_zero, min, max;
    qd_i32 float_sum;
    qd_f32 x_scale, y_scale; /* FLOAT */
} qd_pool_params;

/** Elements are counted along y; the dimensions between the rows of the run and the last are filled up with 1 in front.
 */
typedef struct qd_binary_params {
    qd_i32 shape[4];             /* of y; [0], the rows of the run, is not read */
    qd_i32 a_step[4], b_step[4]; /* elements to the next index; 0: broadcast; [3]: 0 or 1 */
    qd_i32 flat;                 /* [3] goes on over all rows of the run */
    qd_i32 a_code, b_code, a_zero, b_zero;
    qd_f32 a_scale, b_scale, y_scale; /* FLOAT; b's is negative when b is subtracted */
    qd_i32 a_multiplier, a_shift;     /* ADD: GEMMLOWP; of FIXED the multipliers, whose shift is y_shift */
    qd_i32 b_multiplier, b_shift;     /* FIXED: negative when b is subtracted */
    qd_i32 b_sign;                    /* ADD, GEMMLOWP: 1 or -1 */
    qd_i32 y_multiplier, y_shift;     /* MUL: the numbers a and b of its mode; ADD: of the sum */
    qd_f32 offset; /* ZERO_FIRST: the zero points' part of every result. ADD: a_scale and b_scale are divided by y's */
    qd_output y;   /* ZERO_FIRST: without a zero point */
} qd_binary_params;
typedef struct qd_conv_add_int_params {
    qd_conv_int_params conv; /* y: the convolution's codes */
    qd_binary_params add;    /* shapes and steps are not read: all are y's */
    qd_i32 residual_first;
} qd_conv_add_int_params;
/** FLOAT with zero_first. */
#define QD_MODE_ZERO_FIRST 4
/** GEMMLOWP: how far ADD shifts its inputs to the left before they are scaled. */
#define QD_ADD_LEFT_SHIFT 20

/** Each input is `runs` runs of consecutive bytes. Rows here are those of the last dimension: an operand's stride. */
typedef struct qd_concat_params {
    qd_i32 count;     /* inputs */
    qd_i32 per_row;   /* runs are those of one row of the run */
    qd_i32 y_step;    /* rows of y from one run to the next */
    qd_i32 runs[8];   /* of each input */
    qd_i32 bytes[8];  /* of each of its runs */
    qd_i32 x_step[8]; /* rows of the input from one run to the next */
    qd_i32 y_row[8];  /* where its first run is in y */
    qd_i32 y_byte[8];
} qd_concat_params;

typedef struct qd_pad_params {
    qd_i32 in[4], out[4], before[4]; /* the rows of the run, then the others filled up with 1 in front */
    qd_i32 mode, value;
} qd_pad_params;
#define QD_PAD_MODE_CONSTANT 0
#define QD_PAD_MODE_EDGE 1
#define QD_PAD_MODE_REFLECT 2

typedef struct qd_resize_params {
    qd_window_params window;
    qd_i32 coordinates, nearest;
} qd_resize_params;

typedef struct qd_table_params {
    qd_i32 size; /* elements in one row of the run */
    qd_i32 x_signed;
} qd_table_params;

/** Where SOFTMAX_INT's weights come from: made of x's scale, or the operand, in gemmlowp's fixed point or in floats. */
#define QD_WEIGHTS_OWN 0
#define QD_WEIGHTS_FIXED 1
#define QD_WEIGHTS_FLOAT 2

typedef struct qd_softmax_int_params {
    qd_i32 cols;
    qd_i32 rows; /* of the last dimension in one row of the run; 0: x has no other dimension */
    qd_i32 x_code, y_code, y_zero;
    qd_i32 y_inverse; /* round(2^16 / y's scale); with weights in floats floor(1 / y's scale) */
    qd_f32 x_scale;
    qd_i32 weights; /* QD_WEIGHTS_… */
    qd_i32 wrap;
} qd_softmax_int_params;

/** Formats of numbers that kernels tell apart when they run (values.h). */
#define QD_NUMBERS_F32 0
#define QD_NUMBERS_F16 1
#define QD_NUMBERS_BF16 2
#define QD_NUMBERS_Q8_0 3

/** Most elements of a head of ATTENTION_MASKED. */
#define QD_ATTENTION_MOST 576
/** Queries of it, and of ATTENTION, that share what they read, on CPUs. */
#define QD_ATTENTION_TEAM 8
/** Floats from the scores of a query of ATTENTION to the next one's: positions are often a power of two, and rows so far
 * apart would displace each other from a cache. */
#define QD_ATTENTION_ROW(positions) ((positions) + 16)

typedef struct qd_attention_masked_params {
    qd_strides q, k, v, mask, y; /* the mask's: of 1 where there is none */
    qd_i64 slopes_step;          /* bytes from one head's to the next */
    qd_i32 kv_repeat;            /* indices of q's first dimension that one of k's and v's serves */
    qd_i32 k_format, v_format;   /* QD_NUMBERS_… */
    qd_i32 mask_format;          /* or QD_ABSENT */
    qd_i32 slopes;               /* there are some */
    qd_f32 scale;                /* with a cap, divided by it */
    qd_f32 softcap;              /* 0: none */
} qd_attention_masked_params;

typedef struct qd_softmax_params {
    qd_strides x, mask, y; /* the mask's: of 1 where there is none */
    qd_i64 slopes_step;    /* bytes from one head's to the next */
    qd_i32 rows;           /* of the last dimension in one row of the run; 0: x has no other dimension */
    qd_i32 mask_format;    /* QD_NUMBERS_… or QD_ABSENT */
    qd_i32 slopes;         /* there are some */
    qd_f32 scale;
} qd_softmax_params;

typedef struct qd_matmul_batch_params {
    qd_strides w, x, y;
    qd_i32 repeat_a, repeat_b; /* matrices of x, along the first two dimensions, that one of w meets */
    qd_i32 w_format;           /* QD_NUMBERS_… */
    qd_i32 rows_at;            /* dimension of x and y whose size is that of the run */
} qd_matmul_batch_params;

typedef struct qd_matmul_experts_params {
    qd_i32 experts, n, k;
    qd_i32 s, u; /* rows of x and ids in one row of the run */
} qd_matmul_experts_params;

#endif
