/* The pragmas of the tools, in three dialects: PandA-Bambu (__BAMBU__), Vitis HLS (__SYNTHESIS__) and plain C, where
 * all of them are empty. No other file has a pragma; lint.sh sees to that, and checks what these become.
 *
 * The tools disagree: Vitis pipelines loops, Bambu only functions; Vitis wants `unroll` first in a loop's body, Bambu
 * before the loop; Bambu takes no array_partition, stream, loop_tripcount, s_axilite. Hence pairs of macros of which
 * each tool sees one.
 *
 * Place: the macros of ports first in a top's body; HLS_PIPELINE first in a loop's body; HLS_UNROLL_BEFORE directly
 * before a loop whose body starts with HLS_UNROLL_INSIDE; those about a variable after its declaration. */
#ifndef QD_HLS_H
#define QD_HLS_H

#define HLS_DO(x) _Pragma(#x)

/* It would put spaces around each =. */
/* clang-format off */

#if defined(__BAMBU__)

/* A tensor that is read, in bursts of `beats` beats with `flight` of them on their way: Bambu has no words for these. */
#define HLS_READS(port_, beats, flight) HLS_DO(HLS interface port=port_ mode=m_axi offset=direct bundle=port_)
#define HLS_WRITES(port_, beats, flight) \
    HLS_DO(HLS interface port=port_ mode=m_axi offset=direct bundle=port_ num_write_outstanding=flight)
#define HLS_SCALAR(port_)
#define HLS_CONTROL
#define HLS_STAGES HLS_DO(HLS dataflow)
#define HLS_OVERLAP
#define HLS_STAGE
#define HLS_PIPELINE
#define HLS_UNROLL_BEFORE HLS_DO(HLS unroll)
#define HLS_UNROLL_INSIDE
#define HLS_PARTITION(variable_, dim_)
#define HLS_FIFO(variable_, depth_)
#define HLS_TRIPS(most)
#define HLS_APART(variable_, turns)

#elif defined(__SYNTHESIS__)

/* A tensor is a bundle of its own, so that no two wait for each other; 512 bits wide where its element is narrower, too.
 * `latency` is what the scheduler assumes of memory, in cycles. */
#define HLS_READS(port_, beats, flight) \
    HLS_DO(HLS interface mode=m_axi port=port_ bundle=port_ offset=slave latency=64 max_widen_bitwidth=512 \
           max_read_burst_length=beats num_read_outstanding=flight) \
    HLS_SCALAR(port_)
#define HLS_WRITES(port_, beats, flight) \
    HLS_DO(HLS interface mode=m_axi port=port_ bundle=port_ offset=slave latency=64 max_widen_bitwidth=512 \
           max_write_burst_length=beats num_write_outstanding=flight) \
    HLS_SCALAR(port_)
#define HLS_SCALAR(port_) HLS_DO(HLS interface mode=s_axilite port=port_ bundle=control)
#define HLS_CONTROL HLS_SCALAR(return)
/* HLS_STAGES: a function whose calls are stages (Bambu); it is called in a loop whose turns overlap, HLS_OVERLAP (Vitis:
 * the function becomes the loop's body). HLS_STAGE: such a stage. */
#define HLS_STAGES HLS_DO(HLS inline)
#define HLS_OVERLAP HLS_DO(HLS dataflow)
#define HLS_STAGE HLS_DO(HLS inline off)
#define HLS_PIPELINE HLS_DO(HLS pipeline II=1)
#define HLS_UNROLL_BEFORE
#define HLS_UNROLL_INSIDE HLS_DO(HLS unroll)
#define HLS_PARTITION(variable_, dim_) HLS_DO(HLS array_partition variable=variable_ type=complete dim=dim_)
/* An array whose elements are written and read once, in order. */
#define HLS_FIFO(variable_, depth_) HLS_DO(HLS stream variable=variable_ type=fifo depth=depth_)
#define HLS_TRIPS(most) HLS_DO(HLS loop_tripcount min=1 max=most)
/* What a turn of the loop writes is read again so many turns later, not before. */
#define HLS_APART(variable_, turns) \
    HLS_DO(HLS dependence variable=variable_ type=inter direction=RAW distance=turns dependent=true)

#else

#define HLS_READS(port_, beats, flight)
#define HLS_WRITES(port_, beats, flight)
#define HLS_SCALAR(port_)
#define HLS_CONTROL
#define HLS_STAGES
#define HLS_OVERLAP
#define HLS_STAGE
#define HLS_PIPELINE
#define HLS_UNROLL_BEFORE
#define HLS_UNROLL_INSIDE
#define HLS_PARTITION(variable_, dim_)
#define HLS_FIFO(variable_, depth_)
#define HLS_TRIPS(most)
#define HLS_APART(variable_, turns)

#endif
/* clang-format on */

/* A tensor's three arguments, and those that only have numbers. */
#define HLS_IN(name, beats, flight) HLS_READS(name, beats, flight) HLS_SCALAR(name##_at) HLS_SCALAR(name##_stride)
#define HLS_OUT(name, beats, flight) HLS_WRITES(name, beats, flight) HLS_SCALAR(name##_at) HLS_SCALAR(name##_stride)

#endif
