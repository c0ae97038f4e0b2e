// One sum to one result, 13 cycles, a sum in each: qd_requantize_fixed or qd_requantize_gemmlowp and qd_to_code of
// qdot_num.h. Both roundings are one:
//   FIXED     floor(x · a / 2^b + 1/2)                                          b outside 1 … 62: 0
//   GEMMLOWP  q = floor(x · 2^left · a / 2^31 + 1/2), the left shift wraps; then round(q / 2^right), halves away from zero
// (gemmlowp's doubling high multiply rounds negative products with another constant and then towards zero: that is the
// same floor.) b is the left shift, negative the right one. Between both stages int32 saturates.
`include "qd_defs.vh"
module qd_requant (
    input clk,
    input [`QD_OUTPUT_BITS-1:0] in_output,
    input [31:0] in_sum,
    input [31:0] bias,
    input [31:0] a,
    input [7:0] b,
    output reg [31:0] result
);
    // What is needed later travels along: the output until cycle 12, the numbers of both shifts to where they are used.
    reg [`QD_OUTPUT_BITS*12-1:0] out;
    always @(posedge clk) out <= {out[`QD_OUTPUT_BITS*11-1:0], in_output};
    wire gemmlowp_1 = out[28];
    wire [`QD_OUTPUT_BITS-1:0] out_11 = out[`QD_OUTPUT_BITS*10+:`QD_OUTPUT_BITS];
    wire [`QD_OUTPUT_BITS-1:0] out_12 = out[`QD_OUTPUT_BITS*11+:`QD_OUTPUT_BITS];

    // 1: the sum. 2: shifted to the left.
    reg [31:0] sum_1, a_1, x_2, a_2;
    reg [7:0] b_1;
    reg [5:0] shift_2;  // of the product, to the right
    reg [4:0] right_2;  // after it
    reg none_2;         // the result is 0
    wire negative_b = b_1[7];
    wire [7:0] minus_b = -b_1;
    always @(posedge clk) begin
        sum_1 <= in_sum + bias;
        a_1 <= a;
        b_1 <= b;
        x_2 <= gemmlowp_1 & ~negative_b ? sum_1 << b_1[4:0] : sum_1;
        a_2 <= a_1;
        shift_2 <= gemmlowp_1 ? 6'd31 : b_1[5:0];
        right_2 <= gemmlowp_1 & negative_b ? minus_b[4:0] : 5'd0;
        none_2 <= ~gemmlowp_1 & (negative_b | b_1 == 0 | b_1 > 62);
    end

    // 3: four products of halves. 4, 5: the product of 64 bits.
    reg signed [33:0] ll_3, lh_3, hl_3, hh_3;
    reg signed [63:0] outer_4;
    reg signed [34:0] middle_4;
    reg signed [63:0] product_5;
    wire signed [16:0] x_low = {1'b0, x_2[15:0]}, a_low = {1'b0, a_2[15:0]};
    wire signed [16:0] x_high = {x_2[31], x_2[31:16]}, a_high = {a_2[31], a_2[31:16]};
    always @(posedge clk) begin
        ll_3 <= x_low * a_low;
        lh_3 <= x_low * a_high;
        hl_3 <= x_high * a_low;
        hh_3 <= x_high * a_high;
        outer_4 <= {hh_3[31:0], ll_3[31:0]};
        middle_4 <= lh_3 + hl_3;
        product_5 <= outer_4 + {{13{middle_4[34]}}, middle_4, 16'd0};
    end

    // 6: a half is added. 7, 8: shifted to the right. 9: limited to int32.
    reg [11:0] shifts_3, shifts_4, shifts_5, shifts_6, shifts_7, shifts_8;  // {none, shift, right}
    reg [63:0] half_5;
    reg signed [63:0] nudged_6, coarse_7, fine_8;
    reg signed [31:0] q_9;
    reg [4:0] right_9;
    wire fits = &fine_8[63:31] | ~|fine_8[63:31];
    always @(posedge clk) begin
        shifts_3 <= {none_2, shift_2, right_2};
        shifts_4 <= shifts_3;
        shifts_5 <= shifts_4;
        shifts_6 <= shifts_5;
        shifts_7 <= shifts_6;
        shifts_8 <= shifts_7;
        half_5 <= 64'd1 << (shifts_4[10:5] - 6'd1);
        nudged_6 <= product_5 + half_5;
        coarse_7 <= nudged_6 >>> {shifts_6[10:8], 3'd0};
        fine_8 <= coarse_7 >>> shifts_7[7:5];
        q_9 <= shifts_8[11] ? 32'd0 : fits ? fine_8[31:0] : {fine_8[63], {31{~fine_8[63]}}};
        right_9 <= shifts_8[4:0];
    end

    // 10, 11: the second rounding. 12: the zero point. 13: the limits.
    reg signed [32:0] t_10;
    reg [4:0] right_10;
    reg signed [31:0] q_11;
    reg signed [32:0] y_12;
    wire [32:0] half_9 = right_9 == 0 ? 33'd0 : (33'd1 << (right_9 - 5'd1)) - {32'd0, q_9[31]};
    wire raw_11 = out_11[27], raw_12 = out_12[27];
    wire signed [32:0] t_11 = t_10 >>> right_10;
    wire [8:0] zero_11 = out_11[8:0];
    wire signed [32:0] min_12 = {{24{out_12[17]}}, out_12[17:9]}, max_12 = {{24{out_12[26]}}, out_12[26:18]};
    always @(posedge clk) begin
        t_10 <= {q_9[31], q_9} + half_9;
        right_10 <= right_9;
        q_11 <= t_11[31:0];
        y_12 <= {q_11[31], q_11} + (raw_11 ? 33'd0 : {{24{zero_11[8]}}, zero_11});
        result <= raw_12 ? y_12[31:0]
                : y_12 < min_12 ? min_12[31:0]
                : y_12 > max_12 ? max_12[31:0] : y_12[31:0];
    end
endmodule
