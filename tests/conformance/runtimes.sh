#!/bin/sh
# Every operator against the reference on the OpenCL implementations of this machine, Intel's included, which prefer the x86 kernels
# without inline assembly, and the GPU kernels where a CPU has what they need. Only this test makes Intel's runtimes visible. Says
# what was absent.
#
#   sh tests/conformance/runtimes.sh          of the GPU kernels the most preferred ones; of Intel's CPU runtimes the newer one
#   sh tests/conformance/runtimes.sh --long   all of them
set -eu
words="half words_teams int_tile_khr"
devices="opencl:Intel(R) FPGA Emulation Platform for OpenCL(TM):0"
if [ -n "${1:-}" ]; then
    words="$words dot subgroup words_khr words_plain int_tile_plain"
    devices=all
fi
qdot=${QDOT_BUILD_DIR:?is the build folder}/qdot
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

problems=0
problem() {
    echo "FAILED: $*"
    problems=$((problems + 1))
}

# The rows of OpenCL devices in $work/rows that ran on the reference; all operators have kernels that every implementation
# must build.
no_fallback() {
    if awk '/^[a-z]/ { opencl = /^opencl/ } opencl && / reference +[0-9]+ +[0-9]+ /' "$work/rows" | grep .; then
        problem "these ran on the reference"
    fi
}

# verify WORDS…: in one process; the rows go to $work/rows.
verify() {
    code=0
    "$qdot" verify --seed 7 --cases 4 "$@" >"$work/rows" 2>&1 || code=$?
    grep -E '^opencl|cases,' "$work/rows" || true
    if [ "$code" -ne 0 ]; then
        grep -E '^qdot|[1-9][0-9]*  [a-z]' "$work/rows" || true
        problem "qdot verify $* gave $code"
    fi
}

# implementation NAME ID LIBRARY: LIBRARY is the loader's file, when that is known.
implementation() {
    if grep -qF "opencl:$2" "$work/devices"; then
        echo "present: $1"
    elif [ -n "$3" ] && expr " ${OCL_ICD_FILENAMES:-}" : ".*/$3" >/dev/null; then
        problem "$1 is installed, but \`qdot devices\` does not show it"
    else
        echo "ABSENT: $1"
    fi
}

# All that are installed are loaded in one process.
eval "$(sh tests/opencl_runtimes.sh --installed)"
"$qdot" devices --brief >"$work/devices"
implementation "PoCL" "Portable Computing Language" ""
implementation "Intel's CPU runtime" "Intel(R) OpenCL:" libintelocl.so
implementation "Intel's FPGA emulator" "Intel(R) FPGA Emulation Platform" libintelocl_emu.so
if [ "$devices" = all ] || grep -qF "$devices" "$work/devices"; then
    verify --device "$devices" --cases 2
    no_fallback
fi

# The newer CPU runtime, which has all probed features.
unset OCL_ICD_FILENAMES
eval "$(sh tests/opencl_runtimes.sh --newest --installed)"
"$qdot" devices --brief >"$work/devices"
implementation "Intel's newer CPU runtime" "Intel(R) OpenCL:" libintelocl.so
if [ -n "${OCL_ICD_FILENAMES:-}" ]; then
    device="opencl:Intel(R) OpenCL:0"
    verify --device "$device"
    no_fallback
    grep -q "_vectors " "$work/rows" || problem "no x86 kernel without inline assembly ran"
    for word in $words; do
        verify --device "$device" --kernels "$word"
        no_fallback
        echo "  $word: $(grep -c "_$word " "$work/rows") rows"
        grep -q "_$word " "$work/rows" || problem "no kernel with $word in its name ran"
    done
fi

[ "$problems" -eq 0 ]
