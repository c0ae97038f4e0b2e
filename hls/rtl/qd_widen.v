// Words of 32 bits to beats of WORDS of them, the first lowest.
`include "qd_defs.vh"
module qd_widen #(
    parameter WORDS = 2
) (
    input clk,
    input rst,
    input in_valid,
    output in_ready,
    input [31:0] in_data,
    output valid,
    input ready,
    output reg [32*WORDS-1:0] data
);
    reg [`QD_INDEX(WORDS + 1)-1:0] count;
    assign valid = count == WORDS;
    assign in_ready = ~valid;
    always @(posedge clk) begin
        if (rst) count <= 0;
        else if (valid & ready) count <= 0;
        else if (in_valid & in_ready) count <= count + 1'b1;
        if (in_valid & in_ready) data[32*count+:32] <= in_data;
    end
endmodule
