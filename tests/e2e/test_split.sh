#!/bin/sh
# A real model (QDOT_TEST_MODEL) on several devices: two of PoCL, and, where it is installed, PoCL beside Intel's CPU
# runtime. The text's logits are the reference's, by layers and by rows.
set -u
. tests/e2e/model.sh
eval "$(sh tests/opencl_runtimes.sh --installed)"
export POCL_DEVICES="pthread pthread"
pocl="opencl:Portable Computing Language"
intel=
"$qdot" devices --brief | grep -q '^opencl:Intel(R) OpenCL' && intel="opencl:Intel(R) OpenCL"

# try DEVICE: text there has the reference's logits, and every operator of the layers ran on a device.
try() {
    if ! "$qdot" run -m "$m" -d "$1" -p "Once upon a time" -n 6 --greedy --verify >"$work/out" 2>"$work/err" </dev/null ||
        ! grep -q "the C reference agrees" "$work/err" || ! grep -q "all of the layers' .* operators ran on the device" "$work/err"; then
        echo "FAILED: $1"
        tail -n 5 "$work/out" "$work/err"
        bad=$((bad + 1))
    fi
    [ -f "$work/text" ] || cp "$work/out" "$work/text"
    cmp -s "$work/text" "$work/out" || {
        echo "FAILED: $1: another text"
        bad=$((bad + 1))
    }
}

try "$pocl"
try "layers:$pocl:0,$pocl:1"
try "rows:$pocl:0=2,$pocl:1=1"
if [ -n "$intel" ]; then
    try "layers:$pocl:0,$intel"
    try "rows:$intel,$pocl:0"
else
    echo "ABSENT: Intel's CPU runtime (sh tests/opencl_runtimes.sh installs it)"
fi
exit $((bad > 0))
