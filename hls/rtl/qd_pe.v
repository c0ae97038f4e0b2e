// One row of weights times one column: LANES products a cycle, added up and accumulated in 32 bits; INT4: the same for a
// second channel. A finished sum is moved aside, where it stays until the next one is finished.
module qd_pe #(
    parameter LEVELS = 2,  // 2^LEVELS lanes
    parameter PACK = 1
) (
    input clk,
    input int4,        // of the products
    input accumulate,  // the trees' sums belong to a word
    input first,       // of a sum
    input finished,    // the sums are complete
    input [(18<<LEVELS)-1:0] w,
    input [(9<<LEVELS)-1:0] x,
    output reg [31:0] low,
    output reg [31:0] high
);
    wire [(18<<LEVELS)-1:0] low_terms;
    wire [(13<<LEVELS)-1:0] high_terms;
    wire signed [17+LEVELS:0] low_sum;
    wire signed [12+LEVELS:0] high_sum;
    reg signed [31:0] low_total, high_total;

    genvar i;
    generate
        for (i = 0; i < (1 << LEVELS); i = i + 1) begin : lane
            qd_lane #(
                .PACK(PACK)
            ) lane_product (
                .clk(clk),
                .int4(int4),
                .w(w[18*i+:18]),
                .x(x[9*i+:9]),
                .low(low_terms[18*i+:18]),
                .high(high_terms[13*i+:13])
            );
        end
    endgenerate
    qd_tree #(
        .WIDTH(18),
        .LEVELS(LEVELS)
    ) low_tree (
        .clk(clk),
        .terms(low_terms),
        .sum(low_sum)
    );
    qd_tree #(
        .WIDTH(13),
        .LEVELS(LEVELS)
    ) high_tree (
        .clk(clk),
        .terms(high_terms),
        .sum(high_sum)
    );

    always @(posedge clk) begin
        if (accumulate) begin
            low_total <= (first ? 0 : low_total) + {{14-LEVELS{low_sum[17+LEVELS]}}, low_sum};
            high_total <= (first ? 0 : high_total) + {{19-LEVELS{high_sum[12+LEVELS]}}, high_sum};
        end
        if (finished) begin
            low <= low_total;
            high <= high_total;
        end
    end
endmodule
