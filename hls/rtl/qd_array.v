// ROWS · COLS · LANES products a cycle, and the delays that keep what is said of a word beside it.
//   cycle 0  the word is issued                4      products
//         1  memories answer                   5      their parts
//         2  the word in registers             5 + L  their sum (L = log2(LANES))
//         3  operands, zero points taken off   6 + L  accumulated
//                                              7 + L  moved aside: `sums_new` is up
`include "qd_defs.vh"
module qd_array #(
    parameter ROWS = 4,
    parameter COLS = 4,
    parameter LANES = 4,
    parameter PACK = 1
) (
    input clk,
    input rst,
    input go,  // of the issuer
    input go_first,
    input go_last,
    input int4,
    input w_signed,
    input x_signed,
    input [8:0] x_zero,
    input [18*ROWS-1:0] w_zeros,  // a cycle after `go`
    input [8*ROWS*LANES-1:0] w_word,  // two cycles after it
    input [8*COLS*LANES-1:0] x_word,
    output sums_new,
    output [64*ROWS*COLS-1:0] sums  // column by column, the channels of a column in order
);
    localparam LEVELS = `QD_LOG2(LANES);
    localparam SUM = 5 + LEVELS;  // the cycle when the trees' sums are there

    reg [SUM+1:1] valid, last;
    reg [SUM:1] first;
    reg [11:0] modes_1, modes_2;  // {int4, w_signed, x_signed, x_zero}
    reg [1:0] int4_later;
    reg [18*ROWS-1:0] w_zeros_2;
    wire [18*ROWS*LANES-1:0] w;
    wire [9*COLS*LANES-1:0] x;

    always @(posedge clk) begin
        valid <= {valid[SUM:1] & {SUM{~rst}}, go & ~rst};
        last <= {last[SUM:1] & {SUM{~rst}}, go_last & ~rst};
        first <= {first[SUM-1:1], go_first};
        modes_1 <= {int4, w_signed, x_signed, x_zero};
        modes_2 <= modes_1;
        int4_later <= {int4_later[0], modes_2[11]};
        w_zeros_2 <= w_zeros;
    end

    qd_operands #(
        .ROWS(ROWS),
        .COLS(COLS),
        .LANES(LANES),
        .PACK(PACK)
    ) operands (
        .clk(clk),
        .int4(modes_2[11]),
        .w_signed(modes_2[10]),
        .x_signed(modes_2[9]),
        .x_zero(modes_2[8:0]),
        .w_zeros(w_zeros_2),
        .w_word(w_word),
        .x_word(x_word),
        .w(w),
        .x(x)
    );

    genvar r, c;
    generate
        for (c = 0; c < COLS; c = c + 1) begin : column
            for (r = 0; r < ROWS; r = r + 1) begin : row
                qd_pe #(
                    .LEVELS(LEVELS),
                    .PACK(PACK)
                ) pe (
                    .clk(clk),
                    .int4(int4_later[1]),
                    .accumulate(valid[SUM]),
                    .first(first[SUM]),
                    .finished(last[SUM+1]),
                    .w(w[18*LANES*r+:18*LANES]),
                    .x(x[9*LANES*c+:9*LANES]),
                    .low(sums[32*(2*ROWS*c+r)+:32]),
                    .high(sums[32*(2*ROWS*c+ROWS+r)+:32])
                );
            end
        end
    endgenerate

    reg aside;
    always @(posedge clk) aside <= ~rst & last[SUM+1];
    assign sums_new = aside;
endmodule
