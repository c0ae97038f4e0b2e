#!/bin/sh
# The example of training with quantization: it gets back half of what rounding took, for 4 and for 2 bits (its status), and
# says the same on the reference and on OpenCL.
set -u
example=${QDOT_BUILD_DIR:?is the build folder}/example_qat
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0

for device in ref opencl; do
    if [ "$device" = opencl ] && [ -n "${QDOT_TEST_NO_OPENCL:-}" ]; then continue; fi
    if ! "$example" "$device" >"$work/$device" 2>"$work/log"; then
        echo "FAILED: example_qat $device"
        bad=1
    fi
    cat "$work/$device" "$work/log"
    if [ "$(grep -c "^int[42]  in integers" "$work/$device")" -ne 2 ] || ! cmp -s "$work/ref" "$work/$device"; then
        echo "FAILED: the table on $device is not that of the reference"
        bad=1
    fi
done
if "$example" nonsense >"$work/out" 2>&1 || ! grep -q nonsense "$work/out"; then
    echo "FAILED: a device that is none"
    bad=1
fi
exit $bad
