// The register map (README.md) on a bus of 32 bits: what is asked is done in the cycle in which valid and ready are up.
// The bus waits for the two cycles in which a command is looked at, and COMMAND while the queue is full. A command that
// cannot be run is refused; then all others are, until STATUS is written.
`include "qd_defs.vh"
module qd_registers #(
    parameter ROWS = 4,
    parameter COLS = 4,
    parameter LANES = 4,
    parameter QUANTS = 1,
    parameter W_ADDRESS = 4,
    parameter X_ADDRESS = 4,
    parameter W_BEATS = 1,
    parameter X_BEATS = 1
) (
    input clk,
    input rst,
    input bus_valid,
    output bus_ready,
    input bus_write,
    input [7:0] bus_address,
    input [31:0] bus_wdata,
    output reg [31:0] bus_rdata,
    input queue_full,
    output put,
    output [`QD_COMMAND-1:0] put_command,
    // What happens in this cycle.
    input unit_busy,
    input took,
    input go,
    input run,
    input wait_w,
    input wait_x,
    input wait_c
);
    localparam COUNTERS = 8;
    reg [31:0] size, tile, zeros, limits;
    reg [10:0] asked;     // command flags at hand
    reg [1:0] looking;    // cycles for which they are looked at: the products, then the verdict
    reg [2:0] refused;
    reg [2:0] loaded;     // c, x, w
    reg [31:0] x_words, w_words;
    reg [32*COUNTERS-1:0] counters;

    wire [15:0] words = size[15:0], groups = size[31:16], channels = tile[15:0], edge_columns = tile[31:16];
    wire int4 = asked[0], gemmlowp = asked[3], raw = asked[4];
    wire [2:0] load = asked[7:5];
    wire first = asked[8], last = asked[9], step = asked[10];

    wire to_command = bus_write & (bus_address == 8'h30);
    assign bus_ready = ~|looking & ~(to_command & queue_full);
    wire write = bus_valid & bus_ready & bus_write;

    // The first reason that applies.
    wire [2:0] reason =
        words == 0 | groups == 0 | channels == 0 | edge_columns == 0 ? `QD_REFUSED_ZERO
        : w_words > (1 << W_ADDRESS) ? `QD_REFUSED_W
        : x_words > (1 << X_ADDRESS) ? `QD_REFUSED_X
        : channels > (int4 ? 2 * ROWS : ROWS) ? `QD_REFUSED_CHANNELS
        : edge_columns > COLS ? `QD_REFUSED_EDGE
        : ~(first & last) & (groups != 1) ? `QD_REFUSED_SPLIT
        : ~&(loaded | load) ? `QD_REFUSED_EMPTY
        : 3'd0;
    assign put = looking[1] & (reason == 0) & (refused == 0);
    assign put_command = {step, last, first, load[2], load[1], load[0], asked[2], asked[1], int4, gemmlowp, raw,
                          limits[24:16], limits[8:0], zeros[24:16], zeros[8:0], edge_columns, channels, groups, words};

    wire busy = unit_busy | (|looking);
    // Each busy cycle counts once more, under what it was spent on.
    wire stopped = run & ~go;
    wire tail = busy & ~run & ~wait_w & ~wait_x & ~wait_c;
    wire [COUNTERS-1:0] events = {took, tail, stopped, wait_c, wait_x, wait_w, go, busy};

    integer i;
    always @(posedge clk) begin
        if (rst) begin
            looking <= 2'b00;
            refused <= 3'd0;
            loaded <= 3'b000;
            counters <= 0;
        end else begin
            looking <= {looking[0], write & to_command};
            if (looking[1] & (refused == 0)) refused <= reason;
            if (put) loaded <= loaded | load;
            for (i = 0; i < COUNTERS; i = i + 1) counters[32*i+:32] <= counters[32*i+:32] + {31'd0, events[i]};
            if (write & (bus_address == 8'h10)) begin
                refused <= 3'd0;
                counters <= 0;
            end
        end
        if (write) begin
            case (bus_address)
                8'h20: size <= bus_wdata;
                8'h24: tile <= bus_wdata;
                8'h28: zeros <= bus_wdata;
                8'h2c: limits <= bus_wdata;
                8'h30: asked <= bus_wdata[10:0];
                default: ;
            endcase
        end
        x_words <= words * groups;
        w_words <= step ? words * groups : {16'd0, words};
    end

    always @* begin
        case (bus_address)
            8'h00: bus_rdata = 32'h51444d32;  // "QDM2"
            8'h04: bus_rdata = {QUANTS[7:0], LANES[7:0], COLS[7:0], ROWS[7:0]};
            8'h08: bus_rdata = {X_BEATS[7:0], W_BEATS[7:0], X_ADDRESS[7:0], W_ADDRESS[7:0]};
            8'h10: bus_rdata = {busy, 28'd0, refused};
            8'h20: bus_rdata = size;
            8'h24: bus_rdata = tile;
            8'h28: bus_rdata = zeros;
            8'h2c: bus_rdata = limits;
            default: bus_rdata = bus_address[7:5] == 3'd2 ? counters[32*bus_address[4:2]+:32] : 32'd0;
        endcase
    end
endmodule
