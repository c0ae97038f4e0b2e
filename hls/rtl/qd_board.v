// The unit behind two ports of 32 bits, for a chip with few pins: words for the registers and for the three streams come in
// by one, results leave by the other. Every pin but y's ready has a register beside it.
//   in_kind  0 register `in_address` (in_write: written, else read: the answer stands on `answer` when in_ready is up again
//              for two cycles), 1 w, 2 x, 3 c: the next 32 bits of a beat, the lowest first
`include "qd_defs.vh"
module qd_board #(
    parameter ROWS = 4,
    parameter COLS = 4,
    parameter LANES = 8,
    parameter PACK = 1,
    parameter W_BYTES = 8,
    parameter X_BYTES = 8,
    parameter W_ADDRESS = 9,
    parameter X_ADDRESS = 9
) (
    input clk,
    input rst,
    input in_valid,
    output in_ready,
    input [1:0] in_kind,
    input in_write,
    input [7:0] in_address,
    input [31:0] in_data,
    output reg [31:0] answer,
    output y_valid,
    input y_ready,
    output [31:0] y_data
);
    // The word at hand.
    reg held, write, reset;
    reg [1:0] kind;
    reg [7:0] address;
    reg [31:0] data;
    wire taken;
    assign in_ready = ~held;
    always @(posedge clk) begin
        reset <= rst;
        if (reset) held <= 1'b0;
        else if (~held) held <= in_valid;
        else if (taken) held <= 1'b0;
        if (~held) begin
            kind <= in_kind;
            write <= in_write;
            address <= in_address;
            data <= in_data;
        end
    end

    wire bus_ready, w_valid, w_ready, x_valid, x_ready, c_valid, c_ready;
    wire [3:0] ready;
    wire [31:0] rdata;
    wire [8*W_BYTES-1:0] w_data;
    wire [8*X_BYTES-1:0] x_data;
    wire [`QD_CHANNEL-1:0] c_data;
    assign ready[0] = bus_ready;
    assign taken = ready[kind];
    always @(posedge clk) if (held & kind == 0 & bus_ready) answer <= rdata;

    qd_widen #(
        .WORDS(W_BYTES / 4)
    ) widen_w (
        .clk(clk),
        .rst(reset),
        .in_valid(held & kind == 1),
        .in_ready(ready[1]),
        .in_data(data),
        .valid(w_valid),
        .ready(w_ready),
        .data(w_data)
    );
    qd_widen #(
        .WORDS(X_BYTES / 4)
    ) widen_x (
        .clk(clk),
        .rst(reset),
        .in_valid(held & kind == 2),
        .in_ready(ready[2]),
        .in_data(data),
        .valid(x_valid),
        .ready(x_ready),
        .data(x_data)
    );
    qd_widen #(
        .WORDS(`QD_CHANNEL / 32)
    ) widen_c (
        .clk(clk),
        .rst(reset),
        .in_valid(held & kind == 3),
        .in_ready(ready[3]),
        .in_data(data),
        .valid(c_valid),
        .ready(c_ready),
        .data(c_data)
    );
    qd_matmul #(
        .ROWS(ROWS),
        .COLS(COLS),
        .LANES(LANES),
        .QUANTS(1),
        .PACK(PACK),
        .W_BYTES(W_BYTES),
        .X_BYTES(X_BYTES),
        .W_ADDRESS(W_ADDRESS),
        .X_ADDRESS(X_ADDRESS)
    ) matmul (
        .clk(clk),
        .rst(reset),
        .bus_valid(held & kind == 0),
        .bus_ready(bus_ready),
        .bus_write(write),
        .bus_address(address),
        .bus_wdata(data),
        .bus_rdata(rdata),
        .w_valid(w_valid),
        .w_ready(w_ready),
        .w_data(w_data),
        .x_valid(x_valid),
        .x_ready(x_ready),
        .x_data(x_data),
        .c_valid(c_valid),
        .c_ready(c_ready),
        .c_data(c_data),
        .y_valid(y_valid),
        .y_ready(y_ready),
        .y_data(y_data)
    );
endmodule
