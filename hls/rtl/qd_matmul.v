// The matmul unit: y = requantize((w - w_zero) · (x - x_zero) + bias). README.md has the picture, the register map, the
// streams and the cycles.
`include "qd_defs.vh"
module qd_matmul #(
    parameter ROWS = 4,       // output channels side by side; with INT4 twice as many
    parameter COLS = 4,       // columns (rows of x) side by side
    parameter LANES = 4,      // codes along K side by side: a power of two
    parameter QUANTS = 1,     // results a cycle: a power of two, divides ROWS
    parameter PACK = 1,       // INT4: two products in one multiplier
    parameter W_BYTES = 16,   // of a beat of the stream w: divides ROWS · LANES
    parameter X_BYTES = 16,   // of a beat of the stream x: divides COLS · LANES
    parameter W_ADDRESS = 6,  // 2^W_ADDRESS words in each bank of weights
    parameter X_ADDRESS = 6   // the same of columns
) (
    input clk,
    input rst,
    input bus_valid,
    output bus_ready,
    input bus_write,
    input [7:0] bus_address,
    input [31:0] bus_wdata,
    output [31:0] bus_rdata,
    input w_valid,
    output w_ready,
    input [8*W_BYTES-1:0] w_data,
    input x_valid,
    output x_ready,
    input [8*X_BYTES-1:0] x_data,
    input c_valid,
    output c_ready,
    input [`QD_CHANNEL-1:0] c_data,
    output y_valid,
    input y_ready,
    output [32*QUANTS-1:0] y_data
);
    localparam W_BEATS = ROWS * LANES / W_BYTES;
    localparam X_BEATS = COLS * LANES / X_BYTES;
    localparam ROOM = 5;      // 2^ROOM results wait at y; the stages before them are fewer
    localparam REQUANT = 13;  // cycles of qd_requant

    wire put, full, empty;
    wire [`QD_COMMAND-1:0] put_command;
    wire [3:0] take, valid;
    wire [4*`QD_COMMAND-1:0] commands;
    wire [`QD_COMMAND-1:0] w_command = commands[0*`QD_COMMAND+:`QD_COMMAND];
    wire [`QD_COMMAND-1:0] x_command = commands[1*`QD_COMMAND+:`QD_COMMAND];
    wire [`QD_COMMAND-1:0] c_command = commands[2*`QD_COMMAND+:`QD_COMMAND];
    wire [`QD_COMMAND-1:0] command = commands[3*`QD_COMMAND+:`QD_COMMAND];

    wire go, go_first, go_last, run, wait_w, wait_x, wait_c, drain_busy, drain_bank, all_out;
    wire [1:0] w_full, x_full, c_full, w_release, x_release, c_release;
    wire [W_ADDRESS:0] w_read;
    wire [X_ADDRESS:0] x_read;
    wire c_bank, int4, w_signed, x_signed;
    wire [8:0] x_zero;
    wire [15:0] drain_channels, drain_columns;
    wire [`QD_OUTPUT_BITS-1:0] drain_output;

    wire unit_busy = ~empty | run | drain_busy | ~all_out;
    qd_registers #(
        .ROWS(ROWS),
        .COLS(COLS),
        .LANES(LANES),
        .QUANTS(QUANTS),
        .W_ADDRESS(W_ADDRESS),
        .X_ADDRESS(X_ADDRESS),
        .W_BEATS(W_BEATS),
        .X_BEATS(X_BEATS)
    ) registers (
        .clk(clk),
        .rst(rst),
        .bus_valid(bus_valid),
        .bus_ready(bus_ready),
        .bus_write(bus_write),
        .bus_address(bus_address),
        .bus_wdata(bus_wdata),
        .bus_rdata(bus_rdata),
        .queue_full(full),
        .put(put),
        .put_command(put_command),
        .unit_busy(unit_busy),
        .took(take[3]),
        .go(go),
        .run(run),
        .wait_w(wait_w),
        .wait_x(wait_x),
        .wait_c(wait_c)
    );
    qd_queue queue (
        .clk(clk),
        .rst(rst),
        .full(full),
        .empty(empty),
        .put(put),
        .put_command(put_command),
        .valid(valid),
        .take(take),
        .commands(commands)
    );

    // Operands.
    wire [8*ROWS*LANES-1:0] w_word;
    wire [8*COLS*LANES-1:0] x_word;
    wire [18*ROWS-1:0] w_zeros;
    wire [`QD_INDEX(2*ROWS/QUANTS):0] channel_address;
    wire [72*QUANTS-1:0] channel_data;
    qd_buffer #(
        .BYTES(ROWS * LANES),
        .BEATS(W_BEATS),
        .ADDRESS(W_ADDRESS)
    ) weights (
        .clk(clk),
        .rst(rst),
        .command_valid(valid[0]),
        .command_take(take[0]),
        .load(w_command[`QD_LOAD_W]),
        .words(w_command[`QD_WORDS]),
        .groups(w_command[`QD_STEP_W] ? w_command[`QD_GROUPS] : 16'd1),
        .valid(w_valid),
        .ready(w_ready),
        .data(w_data),
        .full(w_full),
        .release_bank(w_release),
        .read_address(w_read),
        .word(w_word)
    );
    qd_buffer #(
        .BYTES(COLS * LANES),
        .BEATS(X_BEATS),
        .ADDRESS(X_ADDRESS)
    ) columns (
        .clk(clk),
        .rst(rst),
        .command_valid(valid[1]),
        .command_take(take[1]),
        .load(x_command[`QD_LOAD_X]),
        .words(x_command[`QD_WORDS]),
        .groups(x_command[`QD_GROUPS]),
        .valid(x_valid),
        .ready(x_ready),
        .data(x_data),
        .full(x_full),
        .release_bank(x_release),
        .read_address(x_read),
        .word(x_word)
    );
    qd_channels #(
        .CHANNELS(2 * ROWS),
        .QUANTS(QUANTS)
    ) per_channel (
        .clk(clk),
        .rst(rst),
        .command_valid(valid[2]),
        .command_take(take[2]),
        .load(c_command[`QD_LOAD_C]),
        .channels(c_command[`QD_CHANNELS]),
        .valid(c_valid),
        .ready(c_ready),
        .data(c_data),
        .full(c_full),
        .release_bank(c_release),
        .hold({2{drain_busy}} & {drain_bank, ~drain_bank}),
        .zeros_bank(c_bank),
        .zeros(w_zeros),
        .read_address(channel_address),
        .read_data(channel_data)
    );

    // Products and sums.
    wire sums_new;
    wire [64*ROWS*COLS-1:0] sums;
    qd_issue #(
        .COLS(COLS),
        .W_ADDRESS(W_ADDRESS),
        .X_ADDRESS(X_ADDRESS)
    ) issue (
        .clk(clk),
        .rst(rst),
        .command_valid(valid[3]),
        .command_take(take[3]),
        .command(command),
        .w_full(w_full),
        .x_full(x_full),
        .c_full(c_full),
        .w_release(w_release),
        .x_release(x_release),
        .c_release(c_release),
        .go(go),
        .go_first(go_first),
        .go_last(go_last),
        .w_read(w_read),
        .x_read(x_read),
        .c_bank(c_bank),
        .int4(int4),
        .w_signed(w_signed),
        .x_signed(x_signed),
        .x_zero(x_zero),
        .drain_busy(drain_busy),
        .drain_channels(drain_channels),
        .drain_columns(drain_columns),
        .drain_output(drain_output),
        .run(run),
        .wait_w(wait_w),
        .wait_x(wait_x),
        .wait_c(wait_c)
    );
    qd_array #(
        .ROWS(ROWS),
        .COLS(COLS),
        .LANES(LANES),
        .PACK(PACK)
    ) array (
        .clk(clk),
        .rst(rst),
        .go(go),
        .go_first(go_first),
        .go_last(go_last),
        .int4(int4),
        .w_signed(w_signed),
        .x_signed(x_signed),
        .x_zero(x_zero),
        .w_zeros(w_zeros),
        .w_word(w_word),
        .x_word(x_word),
        .sums_new(sums_new),
        .sums(sums)
    );

    // Results.
    wire drain_valid, popped;
    wire [`QD_OUTPUT_BITS-1:0] drain_out;
    wire [32*QUANTS-1:0] drain_sum, results;
    reg [72*QUANTS-1:0] drain_channel;
    reg [REQUANT-1:0] result_valid;
    qd_drain #(
        .ROWS(ROWS),
        .COLS(COLS),
        .QUANTS(QUANTS),
        .ROOM(ROOM)
    ) drain (
        .clk(clk),
        .rst(rst),
        .order(go_last),
        .order_channels(drain_channels),
        .order_columns(drain_columns),
        .order_bank(c_bank),
        .order_output(drain_output),
        .busy(drain_busy),
        .bank(drain_bank),
        .sums_new(sums_new),
        .sums(sums),
        .channel_address(channel_address),
        .popped(popped),
        .all_out(all_out),
        .valid(drain_valid),
        .out(drain_out),
        .sum(drain_sum)
    );
    always @(posedge clk) begin
        drain_channel <= channel_data;
        result_valid <= {result_valid[REQUANT-2:0] & {(REQUANT - 1) {~rst}}, drain_valid & ~rst};
    end

    genvar i;
    generate
        for (i = 0; i < QUANTS; i = i + 1) begin : quant
            qd_requant requant (
                .clk(clk),
                .in_output(drain_out),
                .in_sum(drain_sum[32*i+:32]),
                .bias(drain_channel[72*i+:32]),
                .a(drain_channel[72*i+32+:32]),
                .b(drain_channel[72*i+64+:8]),
                .result(results[32*i+:32])
            );
        end
    endgenerate

    assign popped = y_valid & y_ready;
    qd_fifo #(
        .WIDTH(32 * QUANTS),
        .ADDRESS(ROOM)
    ) fifo (
        .clk(clk),
        .rst(rst),
        .put(result_valid[REQUANT-1]),
        .put_data(results),
        .valid(y_valid),
        .ready(y_ready),
        .data(y_data)
    );
endmodule
