// Sends the sums of a group on to requantization, QUANTS a cycle: column by column, the channels of each in order. It has
// as many in flight as the FIFO behind has room for. Sums and channels of a cycle appear two cycles later.
`include "qd_defs.vh"
module qd_drain #(
    parameter ROWS = 4,
    parameter COLS = 4,
    parameter QUANTS = 1,
    parameter ROOM = 5  // 2^ROOM places in the FIFO
) (
    input clk,
    input rst,
    // The order, given with the last word of a group; the sums follow.
    input order,
    input [15:0] order_channels,
    input [15:0] order_columns,
    input order_bank,
    input [`QD_OUTPUT_BITS-1:0] order_output,
    output reg busy,
    output reg bank,
    input sums_new,
    input [64*ROWS*COLS-1:0] sums,
    output [`QD_INDEX(2*ROWS/QUANTS):0] channel_address,
    input popped,  // a place in the FIFO is free again
    output all_out,  // nothing is in flight
    output reg valid,
    output reg [`QD_OUTPUT_BITS-1:0] out,
    output reg [32*QUANTS-1:0] sum
);
    localparam STEPS = 2 * ROWS / QUANTS;
    localparam STEP = `QD_INDEX(STEPS);
    localparam COLUMN = `QD_INDEX(COLS);

    reg ready;  // the sums are there
    reg [15:0] channels, channels_left, columns_left;
    reg [STEP-1:0] step;
    reg [COLUMN-1:0] column;
    reg [ROOM:0] room;

    wire go = ready & (room != 0);
    wire last_step = channels_left <= QUANTS;
    wire finish = go & last_step & (columns_left == 1);

    assign channel_address = {bank, step};
    assign all_out = room == (1 << ROOM);

    always @(posedge clk) begin
        if (rst) begin
            busy <= 1'b0;
            ready <= 1'b0;
            room <= 1 << ROOM;
        end else begin
            room <= room - {{ROOM{1'b0}}, go} + {{ROOM{1'b0}}, popped};
            if (order) busy <= 1'b1;
            else if (finish) busy <= 1'b0;
            if (sums_new) ready <= 1'b1;
            else if (finish) ready <= 1'b0;
        end
        if (order) begin
            channels <= order_channels;
            channels_left <= order_channels;
            columns_left <= order_columns;
            bank <= order_bank;
            out_1 <= order_output;
            step <= 0;
            column <= 0;
        end else if (go) begin
            channels_left <= last_step ? channels : channels_left - QUANTS;
            step <= last_step ? 0 : step + 1'b1;
            if (last_step) begin
                column <= column + 1'b1;
                columns_left <= columns_left - 1'b1;
            end
        end
    end

    // First the step of every column, then the column.
    reg valid_1;
    reg [`QD_OUTPUT_BITS-1:0] out_1;
    reg [COLUMN-1:0] column_1;
    reg [32*QUANTS*COLS-1:0] sum_1;
    always @(posedge clk) begin
        valid_1 <= ~rst & go;
        valid <= ~rst & valid_1;
        column_1 <= column;
        out <= out_1;
        sum <= sum_1[32*QUANTS*column_1+:32*QUANTS];
    end
    genvar c;
    generate
        for (c = 0; c < COLS; c = c + 1) begin : select
            wire [64*ROWS-1:0] all = sums[64*ROWS*c+:64*ROWS];
            always @(posedge clk) sum_1[32*QUANTS*c+:32*QUANTS] <= all[32*QUANTS*step+:32*QUANTS];
        end
    endgenerate
endmodule
