// Follows the commands and fills the two banks of a memory in turn from a stream: `beats` beats to a word, `words`
// words to a group. It waits for a bank that is free, and skips commands that load nothing.
`include "qd_defs.vh"
module qd_loader #(
    parameter ADDRESS = 4,
    parameter BEATS = 1
) (
    input clk,
    input rst,
    // The command of this loader.
    input command_valid,
    output command_take,
    input load,
    input [15:0] words,
    input [15:0] groups,
    // The stream.
    input valid,
    output ready,
    // Where the beat of this cycle goes.
    output write,
    output [ADDRESS:0] write_address,  // bank, word
    output reg [`QD_INDEX(BEATS)-1:0] beat,
    // Banks.
    output reg [1:0] full,
    input [1:0] release_bank,  // a pulse: the bank was used for the last time
    input [1:0] hold           // a bank may not be filled yet, although it is not full
);
    reg busy, bank;
    reg [ADDRESS-1:0] address;
    reg [15:0] words_left, groups_left;

    wire last_beat = beat == BEATS - 1;
    wire last_word = words_left == 1;
    wire finish = write & last_beat & last_word & (groups_left == 1);

    assign ready = busy;
    assign write = busy & valid;
    assign write_address = {bank, address};
    assign command_take = finish | (command_valid & ~load);

    always @(posedge clk) begin
        if (rst) begin
            busy <= 1'b0;
            bank <= 1'b0;
            full <= 2'b00;
        end else begin
            full <= full & ~release_bank;
            if (~busy) begin
                address <= 0;
                beat <= 0;
                words_left <= words;
                groups_left <= groups;
                busy <= command_valid & load & ~full[bank] & ~hold[bank];
            end else if (valid) begin
                beat <= last_beat ? 0 : beat + 1'b1;
                if (last_beat) begin
                    address <= address + 1'b1;
                    words_left <= last_word ? words : words_left - 1'b1;
                    if (last_word) groups_left <= groups_left - 1'b1;
                end
                if (finish) begin
                    busy <= 1'b0;
                    full[bank] <= 1'b1;
                    bank <= ~bank;
                end
            end
        end
    end
endmodule
