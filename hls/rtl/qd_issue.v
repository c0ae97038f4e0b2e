// Takes commands whose operands are there, and issues a word of weights and a word of columns in each cycle. The next
// command may start in the cycle of the last word of the one before. The last word of a group waits while the sums of
// the group before are still being drained.
`include "qd_defs.vh"
module qd_issue #(
    parameter COLS = 4,
    parameter W_ADDRESS = 4,
    parameter X_ADDRESS = 4
) (
    input clk,
    input rst,
    input command_valid,
    output command_take,
    input [`QD_COMMAND-1:0] command,
    input [1:0] w_full,
    input [1:0] x_full,
    input [1:0] c_full,
    output [1:0] w_release,
    output [1:0] x_release,
    output [1:0] c_release,
    // The word that is issued.
    output go,
    output go_first,  // of a sum
    output go_last,   // of a sum, which is then drained
    output [W_ADDRESS:0] w_read,
    output [X_ADDRESS:0] x_read,
    output reg c_bank,
    output reg int4,
    output reg w_signed,
    output reg x_signed,
    output reg [8:0] x_zero,
    // Goes with go_last: what is drained.
    input drain_busy,
    output [15:0] drain_channels,
    output [15:0] drain_columns,
    output [`QD_OUTPUT_BITS-1:0] drain_output,
    // Why nothing is issued in this cycle; one of them unless `go`.
    output run,
    output wait_w,
    output wait_x,
    output wait_c
);
    reg running, first, last, step, w_bank, x_bank;
    reg w_held, x_held, c_held;  // the bank was filled and is in use
    reg [15:0] words, words_left, groups_left, channels, edge_columns;
    reg [`QD_OUTPUT_BITS-1:0] out;
    reg [W_ADDRESS-1:0] w_word;
    reg [X_ADDRESS-1:0] x_word;
    reg group_start;

    // The banks that the command at hand would use.
    wire load_w = command[`QD_LOAD_W], load_x = command[`QD_LOAD_X], load_c = command[`QD_LOAD_C];
    wire w_next = w_bank ^ load_w, x_next = x_bank ^ load_x, c_next = c_bank ^ load_c;

    wire last_word = words_left == 1;
    wire last_group = groups_left == 1;
    assign go = running & ~(last_word & last & drain_busy);
    wire finish = go & last_word & last_group;
    wire may_start = (~running | finish) & command_valid;
    wire start = may_start & w_full[w_next] & x_full[x_next] & c_full[c_next];

    assign command_take = start;
    assign w_release = {2{start & load_w & w_held}} & {w_bank, ~w_bank};
    assign x_release = {2{start & load_x & x_held}} & {x_bank, ~x_bank};
    assign c_release = {2{start & load_c & c_held}} & {c_bank, ~c_bank};

    assign go_first = group_start & first;
    assign go_last = go & last_word & last;
    assign w_read = {w_bank, w_word};
    assign x_read = {x_bank, x_word};
    assign drain_channels = channels;
    assign drain_columns = last_group | step ? edge_columns : COLS;
    assign drain_output = out;

    assign run = running;
    assign wait_w = ~running & command_valid & ~w_full[w_next];
    assign wait_x = ~running & command_valid & w_full[w_next] & ~x_full[x_next];
    assign wait_c = ~running & command_valid & w_full[w_next] & x_full[x_next];

    always @(posedge clk) begin
        if (rst) begin
            running <= 1'b0;
            // The loaders fill bank 0 first.
            w_bank <= 1'b1;
            x_bank <= 1'b1;
            c_bank <= 1'b1;
            w_held <= 1'b0;
            x_held <= 1'b0;
            c_held <= 1'b0;
        end else begin
            if (start) begin
                running <= 1'b1;
                w_bank <= w_next;
                x_bank <= x_next;
                c_bank <= c_next;
                w_held <= 1'b1;
                x_held <= 1'b1;
                c_held <= 1'b1;
            end else if (finish) begin
                running <= 1'b0;
            end
        end
        if (start) begin
            words <= command[`QD_WORDS];
            words_left <= command[`QD_WORDS];
            groups_left <= command[`QD_GROUPS];
            channels <= command[`QD_CHANNELS];
            edge_columns <= command[`QD_EDGE];
            out <= command[`QD_OUTPUT];
            x_zero <= command[`QD_X_ZERO];
            int4 <= command[`QD_INT4];
            w_signed <= command[`QD_W_SIGNED];
            x_signed <= command[`QD_X_SIGNED];
            first <= command[`QD_FIRST];
            last <= command[`QD_LAST];
            step <= command[`QD_STEP_W];
            w_word <= 0;
            x_word <= 0;
            group_start <= 1'b1;
        end else if (go) begin
            group_start <= last_word;
            words_left <= last_word ? words : words_left - 1'b1;
            if (last_word) groups_left <= groups_left - 1'b1;
            w_word <= last_word & ~step ? 0 : w_word + 1'b1;
            x_word <= x_word + 1'b1;
        end
    end
endmodule
