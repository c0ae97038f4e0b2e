#!/bin/sh
# Runs a test on Intel's FPGA emulator, which it makes visible to nothing else: sh tests/conformance/emulator.sh command…
set -eu
eval "$(sh tests/opencl_runtimes.sh --installed)"
if ! "${QDOT_BUILD_DIR:?is the build folder}/qdot" devices --brief | grep -qF 'opencl:Intel(R) FPGA Emulation'; then
    echo "ABSENT: Intel's FPGA emulator (sh tests/opencl_runtimes.sh installs it)"
    exit 77
fi
QDOT_TEST_DEVICE='opencl:Intel(R) FPGA Emulation' exec "$@"
