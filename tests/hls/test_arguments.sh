#!/bin/sh
# One host path serves the cards of both vendors: each top of hls/ has the arguments of the kernel in kernels_cl/fpga, in
# the same order and under the same names, and so has each stage of that kernel.
set -eu
failed=0

# arguments FUNCTION: of its definition, one a line, in the preprocessed source on standard input. A buffer is "NAME*".
arguments() {
    tr '\n' ' ' | sed -n "s/.*void $1 *(\\([^()]*\\)).*/\\1/p" | tr ',' '\n' |
        sed 's/ *$//; s/.*\* *\(restrict  *\)\{0,1\}\([A-Za-z_0-9]*\)$/\2*/; s/.* //'
}

# same TOP FILE OPTIONS: hls/TOP.c against FILE
same() {
    # The options are a list of words.
    # shellcheck disable=SC2086
    want=$(cc -E -P -std=c99 $3 -Ihls -Ihost/include/qdot "hls/$1.c" | arguments "$1")
    count=$(echo "$want" | wc -l)
    if [ "$count" -lt 9 ]; then
        echo "hls/$1.c: $count arguments were found"
        failed=1
    fi
    for stage in "" _read _array _finish _write; do
        [ "$1" != table ] || [ -z "$stage" ] || continue
        # shellcheck disable=SC2086
        got=$(cc -E -P -x c $3 ${stage:+-DQD_CHANNELS} -DQD_UNIT="$1" -Ikernels_cl -Ihost/include/qdot "$2" |
            arguments "$1$stage")
        if [ "$got" != "$want" ]; then
            echo "$2, $1$stage: other arguments than hls/$1.c:"
            echo "$got" | tr '\n' ' '
            echo
            echo "$want" | tr '\n' ' '
            echo
            failed=1
        fi
    done
    echo "$1: $count arguments"
}

same matmul_int kernels_cl/fpga/matmul_int.cl ""
same conv_int kernels_cl/fpga/conv_int.cl ""
for format in Q8_0 Q4_0 Q4_1; do
    same matmul kernels_cl/fpga/matmul_blocks.cl "-DQD_W_$format"
done
same table kernels_cl/fpga/table.cl ""
[ "$failed" -eq 0 ]
