// One weight times one column, two cycles: the product, then its parts. INT4: two products.
//   PACK=1  one multiplier of 18 · 9 bits. P = (high · 2^13 + low) · x; the low product lies in 13 bits, |15 · 255| < 2^12,
//           and what it borrowed from the high one is given back.
//   PACK=0  two multipliers, of 9 · 9 and 5 · 9 bits: for devices whose multipliers have 16 bits.
module qd_lane #(
    parameter PACK = 1
) (
    input clk,
    input int4,  // of the product, a cycle after w and x
    input [17:0] w,
    input [8:0] x,
    output reg [17:0] low,
    output reg [12:0] high
);
    generate
        if (PACK != 0) begin : packed_products
            reg signed [26:0] product;
            always @(posedge clk) begin
                product <= $signed(w) * $signed(x);
                low <= int4 ? {{5{product[12]}}, product[12:0]} : product[17:0];
                high <= product[25:13] + {12'd0, product[12]};
            end
        end else begin : two_products
            reg signed [17:0] product;
            reg signed [13:0] second;
            always @(posedge clk) begin
                product <= $signed(w[8:0]) * $signed(x);
                second <= $signed(w[17:13]) * $signed(x);
                low <= product;
                high <= second[12:0];
            end
        end
    endgenerate
endmodule
