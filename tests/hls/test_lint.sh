#!/bin/sh
# hls/lint.sh passes what there is, and refuses each of a number of broken copies, with the reason.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
tried=0

if ! sh hls/lint.sh; then
    echo "hls/lint.sh complains about hls/ as it is"
    exit 1
fi

if command -v shellcheck >/dev/null && ! shellcheck hls/*.sh; then
    exit 1
fi

# broken REASON FILE SED-SCRIPT: the copy in which FILE is edited must be refused with REASON. One top stands for those that
# share its headers.
broken() {
    tried=$((tried + 1))
    rm -rf "$work/hls"
    mkdir "$work/hls"
    cp hls/*.h hls/matmul_int.c "$work/hls"
    sed "$3" "hls/$2" >"$work/hls/$2"
    if cmp -s "hls/$2" "$work/hls/$2"; then
        echo "nothing is broken by: $3"
        failed=$((failed + 1))
        return
    fi
    if sh hls/lint.sh "$work/hls" >"$work/said"; then
        echo "not refused: $3 in $2"
        failed=$((failed + 1))
    elif ! grep -qF "$1" "$work/said"; then
        echo "refused for another reason than \"$1\": $3 in $2"
        head -n 3 "$work/said"
        failed=$((failed + 1))
    fi
}

# Only lines of one dialect of hls.h.
bambu='/defined(__BAMBU__)/,/defined(__SYNTHESIS__)/'
vitis='/defined(__SYNTHESIS__)/,/^#else/'

broken 'a pragma outside hls.h' array.h 's/^    HLS_PIPELINE$/#pragma HLS pipeline II=1/; s/^        HLS_PIPELINE$/#pragma HLS pipeline II=1/'
broken 'a pragma outside hls.h' table.c 's/^    HLS_CONTROL$/    _Pragma("HLS dataflow")/'
broken 'no such class' hls.h "$vitis s/HLS pipeline/HLS pipelined/"
broken 'no such class' hls.h "$vitis s/array_partition/array_partiton/"
broken 'no such class' hls.h "$bambu s/HLS dataflow/HLS data_flow/"
broken 'not of HLS' hls.h "$vitis s/HLS unroll/HSL unroll/"
broken 'no such key, ii' hls.h "$vitis s/pipeline II=1/pipeline ii=1/"
broken 'no such key, num_read_outstandings' hls.h "$vitis s/num_read_outstanding=/num_read_outstandings=/"
broken 'no such key, rewind' hls.h "$bambu s/HLS dataflow/HLS pipeline rewind/"
broken 'for bambu: no such key, max_read_burst_length' hls.h "$bambu s/bundle=port_)/bundle=port_ max_read_burst_length=16)/"
broken 'for bambu: no such class' hls.h "$bambu s/define HLS_PARTITION(variable_, dim_)/& HLS_DO(HLS array_partition variable=variable_ dim=dim_)/"
broken 'for bambu: no such class' hls.h "$bambu s/define HLS_TRIPS(most)/& HLS_DO(HLS loop_tripcount min=1 max=most)/"
broken 'no such mode' hls.h "$bambu s/define HLS_SCALAR(port_)/& HLS_DO(HLS interface port=port_ mode=s_axilite)/"
broken 'for bambu: must be first in a function, not in a loop' hls.h "$bambu s/define HLS_PIPELINE/& HLS_DO(HLS pipeline II=1)/"
broken 'for bambu: II=2, only II=1' hls.h "$bambu s/define HLS_STAGE\$/& HLS_DO(HLS pipeline II=2)/"
broken 'for bambu: must be before a loop' hls.h "$bambu s/define HLS_UNROLL_INSIDE/& HLS_DO(HLS unroll)/"
broken 'for bambu: lacks mode' hls.h "$bambu s/ mode=m_axi offset=direct/ offset=direct/"
broken 'max_read_burst_length=(8+8), no number' hls.h "$vitis s/max_read_burst_length=beats/max_read_burst_length=(8+8)/"
broken 'no such mode' hls.h "$vitis s/mode=s_axilite/mode=s_axi_lite/"
broken 'type=full, no such type' hls.h "$vitis s/type=complete/type=full/"
broken 'for vitis: must be first in a loop' hls.h "$vitis s/define HLS_UNROLL_BEFORE/& HLS_DO(HLS unroll)/"
broken 'for vitis: must be first in a loop' hls.h "$vitis s/HLS inline off/HLS pipeline II=1/"
broken 'plain C must have none' hls.h "/^#else/,/^#endif/ s/define HLS_PIPELINE/& HLS_DO(HLS pipeline II=1)/"
broken 'no such parameter' pipeline.h 's/HLS_IN(bias, /HLS_IN(biases, /'
broken 'argument bias has no m_axi port' pipeline.h '/HLS_IN(bias, /d'
broken 'argument rows has no s_axilite port' pipeline.h '/HLS_SCALAR(rows)/d'
broken 'has no s_axilite port to start it' pipeline.h '/HLS_CONTROL/d'
broken 'bundle all has several ports' hls.h "$vitis s/bundle=port_ offset/bundle=all offset/"
broken 'no such variable' pipeline.h 's/HLS_PARTITION(columns, /HLS_PARTITION(colums, /'
broken 'must be first in a loop' array.h 's/^        HLS_TRIPS(256)$/        i += 0; HLS_TRIPS(256)/'
broken 'does not preprocess' matmul_int.c 's/#include "tops.h"/#include "top.h"/'
broken 'distance=far, no number' matmul.c 's/HLS_APART(partial, 4)/HLS_APART(partial, far)/'
broken 'bundle table has several ports' hls.h "$vitis s/bundle=port_ offset/bundle=table offset/"
broken 'has no function of that name' matmul_int.c 's/^void matmul_int(/void matmul_ints(/'

echo "$tried broken copies, $failed of them not refused as they should be"
[ "$failed" -eq 0 ]
