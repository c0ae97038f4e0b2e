// The commands, in a ring that four readers follow at their own pace: the loaders of w, x and c, and the issuer, which
// is never ahead of a loader, so that a place is free again when the issuer has taken it.
`include "qd_defs.vh"
module qd_queue #(
    parameter ADDRESS = 3  // 2^ADDRESS commands
) (
    input clk,
    input rst,
    output full,
    output empty,
    input put,
    input [`QD_COMMAND-1:0] put_command,
    output [3:0] valid,  // one bit for each reader; 3: the issuer
    input [3:0] take,
    output [4*`QD_COMMAND-1:0] commands
);
    reg [`QD_COMMAND-1:0] ring[0:(1 << ADDRESS) - 1];
    reg [ADDRESS:0] head;
    wire [4*(ADDRESS+1)-1:0] tails;
    wire [ADDRESS:0] used = head - tails[3*(ADDRESS+1)+:ADDRESS+1];

    assign full = used[ADDRESS];
    assign empty = used == 0;

    always @(posedge clk) begin
        if (put) ring[head[ADDRESS-1:0]] <= put_command;
        if (rst) head <= 0;
        else if (put) head <= head + 1'b1;
    end

    genvar i;
    generate
        for (i = 0; i < 4; i = i + 1) begin : reader
            reg [ADDRESS:0] tail;
            assign tails[i*(ADDRESS+1)+:ADDRESS+1] = tail;
            assign valid[i] = head != tail;
            assign commands[i*`QD_COMMAND+:`QD_COMMAND] = ring[tail[ADDRESS-1:0]];
            always @(posedge clk) begin
                if (rst) tail <= 0;
                else if (take[i]) tail <= tail + 1'b1;
            end
        end
    endgenerate
endmodule
