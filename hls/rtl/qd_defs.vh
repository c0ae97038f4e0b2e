// What several modules share: a constant logarithm, the fields of a command, the reasons to refuse one.
`ifndef QD_DEFS_VH
`define QD_DEFS_VH

// ceil(log2(n)) of a constant, 1 <= n <= 65536, and the bits of an index below n, at least one.
`define QD_LOG2(n) ((n) <= 1 ? 0 : (n) <= 2 ? 1 : (n) <= 4 ? 2 : (n) <= 8 ? 3 : (n) <= 16 ? 4 : (n) <= 32 ? 5 : \
    (n) <= 64 ? 6 : (n) <= 128 ? 7 : (n) <= 256 ? 8 : (n) <= 512 ? 9 : (n) <= 1024 ? 10 : (n) <= 2048 ? 11 : \
    (n) <= 4096 ? 12 : (n) <= 8192 ? 13 : (n) <= 16384 ? 14 : (n) <= 32768 ? 15 : 16)
`define QD_INDEX(n) ((n) <= 2 ? 1 : `QD_LOG2(n))

// Where the fields of a command are, as it stands in the queue.
`define QD_WORDS 15:0
`define QD_GROUPS 31:16
`define QD_CHANNELS 47:32
`define QD_EDGE 63:48
`define QD_X_ZERO 72:64
`define QD_OUTPUT 101:73
`define QD_INT4 102
`define QD_W_SIGNED 103
`define QD_X_SIGNED 104
`define QD_LOAD_W 105
`define QD_LOAD_X 106
`define QD_LOAD_C 107
`define QD_FIRST 108
`define QD_LAST 109
`define QD_STEP_W 110
`define QD_COMMAND 111

// QD_OUTPUT goes along with results: {gemmlowp, raw, max[8:0], min[8:0], zero[8:0]}.
`define QD_OUTPUT_BITS 29

// One channel on the stream c: {0, w_zero[8:0], b[7:0], a[31:0], bias[31:0]}.
`define QD_CHANNEL 96

`define QD_REFUSED_ZERO 3'd1
`define QD_REFUSED_W 3'd2
`define QD_REFUSED_X 3'd3
`define QD_REFUSED_CHANNELS 3'd4
`define QD_REFUSED_EDGE 3'd5
`define QD_REFUSED_SPLIT 3'd6
`define QD_REFUSED_EMPTY 3'd7

`endif
