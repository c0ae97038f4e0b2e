// Codes to operands, one cycle: of each weight and each column the code minus its zero point.
//   column  code - x_zero, 9 bits
//   weight  {high[4:0], low[12:0]}: low = code - w_zero. With INT4 a byte holds codes of two channels, row r in the low
//           bits and row ROWS + r in the high ones; high then is the second one. PACK makes of both a single number,
//           high · 2^13 + low, hence the borrow.
module qd_operands #(
    parameter ROWS = 4,
    parameter COLS = 4,
    parameter LANES = 4,
    parameter PACK = 1
) (
    input clk,
    input int4,
    input w_signed,
    input x_signed,
    input [8:0] x_zero,
    input [18*ROWS-1:0] w_zeros,  // 9 bits of each channel
    input [8*ROWS*LANES-1:0] w_word,
    input [8*COLS*LANES-1:0] x_word,
    output reg [18*ROWS*LANES-1:0] w,
    output reg [9*COLS*LANES-1:0] x
);
    genvar i;
    generate
        for (i = 0; i < ROWS * LANES; i = i + 1) begin : weight
            localparam ROW = i / LANES;
            wire [7:0] code = w_word[8*i+:8];
            wire [8:0] low_code = int4 ? {{5{w_signed & code[3]}}, code[3:0]} : {w_signed & code[7], code};
            wire [8:0] low = low_code - w_zeros[9*ROW+:9];
            wire [4:0] high = {w_signed & code[7], code[7:4]} - w_zeros[9*(ROWS+ROW)+:5];
            wire borrow = low[8] & (PACK != 0);
            always @(posedge clk) w[18*i+:18] <= {(int4 ? high : 5'd0) - {4'd0, borrow}, {4{low[8]}}, low};
        end
        for (i = 0; i < COLS * LANES; i = i + 1) begin : column
            wire [7:0] code = x_word[8*i+:8];
            always @(posedge clk) x[9*i+:9] <= {x_signed & code[7], code} - x_zero;
        end
    endgenerate
endmodule
