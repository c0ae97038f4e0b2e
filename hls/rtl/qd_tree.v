// The sum of 2^LEVELS signed numbers, a cycle for each level.
module qd_tree #(
    parameter WIDTH = 18,
    parameter LEVELS = 2
) (
    input clk,
    input [(WIDTH<<LEVELS)-1:0] terms,
    output [WIDTH+LEVELS-1:0] sum
);
    generate
        if (LEVELS == 0) begin : leaf
            assign sum = terms;
        end else begin : node
            localparam HALF = WIDTH + LEVELS - 1;
            wire signed [HALF-1:0] a, b;
            reg signed [HALF:0] total;
            qd_tree #(
                .WIDTH(WIDTH),
                .LEVELS(LEVELS - 1)
            ) tree_a (
                .clk(clk),
                .terms(terms[0+:(WIDTH<<(LEVELS-1))]),
                .sum(a)
            );
            qd_tree #(
                .WIDTH(WIDTH),
                .LEVELS(LEVELS - 1)
            ) tree_b (
                .clk(clk),
                .terms(terms[(WIDTH<<(LEVELS-1))+:(WIDTH<<(LEVELS-1))]),
                .sum(b)
            );
            always @(posedge clk) total <= a + b;
            assign sum = total;
        end
    endgenerate
endmodule
