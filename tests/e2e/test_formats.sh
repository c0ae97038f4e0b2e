#!/bin/sh
# A real model (QDOT_TEST_MODEL) with layers in formats of every kind: it is quantized, runs on OpenCL, and its logits
# have the reference's bytes. tests/bench/formats.sh measures all of them.
set -u
. tests/e2e/model.sh
fail() {
    echo "FAILED: $1"
    tail -n 4 "$work/out"
    bad=$((bad + 1))
}

# Some layers in each format, and the embedding in a codebook's: all of them in one file, one run of the slow reference.
set -- --format nf4-dq
first=0
for format in int8 int4-g64-asym log4 pq6 q4_k mxfp4; do
    set -- "$@" --tensors "^blk\\.($(seq -s '|' $first $((first + 3))))\\.=$format"
    first=$((first + 4))
done
if ! "$qdot" quantize "$m" "$work/model.gguf" "$@" --json >"$work/json" 2>"$work/out"; then
    echo "FAILED: quantize $*"
    tail -n 3 "$work/out"
    exit 1
fi
for format in nf4-dq int8 int4-g64-asym log4 pq6 q4_k mxfp4; do
    grep -q "\"$format\"" "$work/json" || fail "no matrix is in $format"
done
"$qdot" run -m "$work/model.gguf" -p "The" -n 2 --greedy --no-stop --verify --device opencl >"$work/text" 2>"$work/out" ||
    fail "run"
grep -q "the C reference agrees: 2 positions" "$work/out" || fail "the reference has other logits"
grep -q "all of the layers' [0-9]* operators ran on the device" "$work/out" || fail "not all ran on the device"
exit $((bad > 0))
