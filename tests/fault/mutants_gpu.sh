#!/bin/sh
# The mutants of kernels for GPUs, a skipped barrier among them, on Intel's CPU runtime, which has what they need; and of the x86
# kernels without inline assembly, which it prefers.
set -eu
eval "$(sh tests/opencl_runtimes.sh --newest --installed)"
mutants=${QDOT_BUILD_DIR:?is the build folder}/tests/fault_test_mutants
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
code=0
"$mutants" QD_FEATURES_H >"$work/rows" 2>&1 || code=$?
"$mutants" plain: >>"$work/rows" 2>&1 || code=$?
# Work-items that are lanes of one vector are in step without a barrier. One by one they are not.
CL_CONFIG_CPU_VECTORIZER_MODE=1 "$mutants" QD_ROWS_OF_W >>"$work/rows" 2>&1 || code=$?
cat "$work/rows"
if [ "$code" -eq 0 ] && ! grep -q '^refused' "$work/rows"; then
    echo "ABSENT: no device here takes any of these kernels"
    exit 77
fi
exit "$code"
