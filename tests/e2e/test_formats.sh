#!/bin/sh
# A real model (QDOT_TEST_MODEL) in formats of every kind: it is quantized, runs on OpenCL, and its logits have the
# reference's bytes. tests/bench/formats.sh measures all of them.
set -u
qdot=${QDOT_BUILD_DIR:?is the build folder}/qdot
if [ -z "${QDOT_TEST_MODEL:-}" ]; then
    echo "skipped: QDOT_TEST_MODEL names no model (sh host/fetch_model.sh)"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0

for format in int8 int4-g64-asym nf4-dq log4 pq6 q4_k mxfp4; do
    if ! "$qdot" quantize "$QDOT_TEST_MODEL" "$work/model.gguf" --format "$format" >"$work/out" 2>&1; then
        echo "FAILED: quantize --format $format"
        tail -n 3 "$work/out"
        bad=$((bad + 1))
        continue
    fi
    "$qdot" run -m "$work/model.gguf" -p "The" -n 2 --greedy --no-stop --verify --device opencl >"$work/text" 2>"$work/out"
    code=$?
    if [ "$code" -ne 0 ] || ! grep -q "the C reference agrees: 2 positions" "$work/out" ||
        ! grep -q "all of the layers' [0-9]* operators ran on the device" "$work/out"; then
        echo "FAILED: run with $format gave $code"
        tail -n 4 "$work/out"
        bad=$((bad + 1))
    else
        echo "ok: $format"
    fi
done
exit $((bad > 0))
