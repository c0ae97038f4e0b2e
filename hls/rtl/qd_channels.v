// What belongs to output channels: zero points of w, all of them at once for the operands; bias and requantization for
// QUANTS channels at a time, read one cycle after their address was given. Two banks, filled by the stream c.
`include "qd_defs.vh"
module qd_channels #(
    parameter CHANNELS = 8,  // at most, in a command
    parameter QUANTS = 1     // a power of two, divides CHANNELS
) (
    input clk,
    input rst,
    input command_valid,
    output command_take,
    input load,
    input [15:0] channels,
    input valid,
    output ready,
    input [`QD_CHANNEL-1:0] data,
    output [1:0] full,
    input [1:0] release_bank,
    input [1:0] hold,
    input zeros_bank,
    output reg [9*CHANNELS-1:0] zeros,  // a cycle after zeros_bank
    input [`QD_INDEX(CHANNELS/QUANTS):0] read_address,  // bank, channels / QUANTS
    output [72*QUANTS-1:0] read_data                    // {b, a, bias} of each
);
    localparam ADDRESS = `QD_INDEX(CHANNELS / QUANTS);
    localparam INDEX = `QD_INDEX(CHANNELS);

    wire write;
    wire [INDEX:0] write_address;
    wire unused_beat;
    wire write_bank = write_address[INDEX];
    wire [INDEX-1:0] channel = write_address[INDEX-1:0];
    reg [9*CHANNELS-1:0] zeros_0, zeros_1;

    qd_loader #(
        .ADDRESS(INDEX),
        .BEATS(1)
    ) loader (
        .clk(clk),
        .rst(rst),
        .command_valid(command_valid),
        .command_take(command_take),
        .load(load),
        .words(channels),
        .groups(16'd1),
        .valid(valid),
        .ready(ready),
        .write(write),
        .write_address(write_address),
        .beat(unused_beat),
        .full(full),
        .release_bank(release_bank),
        .hold(hold)
    );

    always @(posedge clk) begin
        if (write & ~write_bank) zeros_0[9*channel+:9] <= data[80:72];
        if (write & write_bank) zeros_1[9*channel+:9] <= data[80:72];
        zeros <= zeros_bank ? zeros_1 : zeros_0;
    end

    genvar i;
    generate
        for (i = 0; i < QUANTS; i = i + 1) begin : slice
            wire [INDEX-1:0] row = channel / QUANTS;
            qd_ram #(
                .WIDTH(72),
                .ADDRESS(ADDRESS + 1)
            ) ram (
                .clk(clk),
                .write(write & (channel % QUANTS == i)),
                .write_address({write_bank, row[ADDRESS-1:0]}),
                .write_data(data[71:0]),
                .read_address(read_address),
                .read_data(read_data[72*i+:72])
            );
        end
    endgenerate
endmodule
