// A FIFO of 2^ADDRESS words. The writer counts the free places: `put` when it is full is lost.
module qd_fifo #(
    parameter WIDTH = 32,
    parameter ADDRESS = 5
) (
    input clk,
    input rst,
    input put,
    input [WIDTH-1:0] put_data,
    output valid,
    input ready,
    output [WIDTH-1:0] data
);
    reg [WIDTH-1:0] memory[0:(1 << ADDRESS) - 1];
    reg [ADDRESS:0] head, tail;

    assign valid = head != tail;
    assign data = memory[tail[ADDRESS-1:0]];

    always @(posedge clk) begin
        if (put) memory[head[ADDRESS-1:0]] <= put_data;
        if (rst) begin
            head <= 0;
            tail <= 0;
        end else begin
            if (put) head <= head + 1'b1;
            if (valid & ready) tail <= tail + 1'b1;
        end
    end
endmodule
