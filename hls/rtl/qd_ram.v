// A memory with a port to write and a port to read, one cycle each: block RAM. The unit never reads a word in the cycle
// in which it is written.
module qd_ram #(
    parameter WIDTH = 8,
    parameter ADDRESS = 4
) (
    input clk,
    input write,
    input [ADDRESS-1:0] write_address,
    input [WIDTH-1:0] write_data,
    input [ADDRESS-1:0] read_address,
    output reg [WIDTH-1:0] read_data
);
    (* no_rw_check *) reg [WIDTH-1:0] memory[0:(1 << ADDRESS) - 1];

    always @(posedge clk) begin
        if (write) memory[write_address] <= write_data;
        read_data <= memory[read_address];
    end
endmodule
