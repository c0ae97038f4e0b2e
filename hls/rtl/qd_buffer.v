// A double buffer for one operand: a loader, and memories that are as wide as a beat, side by side.
// A word is read two cycles after its address was given.
`include "qd_defs.vh"
module qd_buffer #(
    parameter BYTES = 8,    // of a word
    parameter BEATS = 1,    // of the stream to a word; divides BYTES
    parameter ADDRESS = 4   // 2^ADDRESS words in each bank
) (
    input clk,
    input rst,
    input command_valid,
    output command_take,
    input load,
    input [15:0] words,
    input [15:0] groups,
    input valid,
    output ready,
    input [8*BYTES/BEATS-1:0] data,
    output [1:0] full,
    input [1:0] release_bank,
    input [ADDRESS:0] read_address,
    output reg [8*BYTES-1:0] word
);
    localparam WIDTH = 8 * BYTES / BEATS;

    wire write;
    wire [ADDRESS:0] write_address;
    wire [`QD_INDEX(BEATS)-1:0] beat;
    wire [8*BYTES-1:0] read_data;

    qd_loader #(
        .ADDRESS(ADDRESS),
        .BEATS(BEATS)
    ) loader (
        .clk(clk),
        .rst(rst),
        .command_valid(command_valid),
        .command_take(command_take),
        .load(load),
        .words(words),
        .groups(groups),
        .valid(valid),
        .ready(ready),
        .write(write),
        .write_address(write_address),
        .beat(beat),
        .full(full),
        .release_bank(release_bank),
        .hold(2'b00)
    );

    genvar i;
    generate
        for (i = 0; i < BEATS; i = i + 1) begin : slice
            qd_ram #(
                .WIDTH(WIDTH),
                .ADDRESS(ADDRESS + 1)
            ) ram (
                .clk(clk),
                .write(write & (beat == i)),
                .write_address(write_address),
                .write_data(data),
                .read_address(read_address),
                .read_data(read_data[i*WIDTH+:WIDTH])
            );
        end
    endgenerate

    // Block RAM is slow to give its data: nothing else happens in that cycle.
    always @(posedge clk) word <= read_data;
endmodule
