#!/bin/sh
# Every operator against the reference on every OpenCL implementation of this machine, all in one process; with kernels
# for GPUs forced where a CPU has what they need. Only this test and its like see Intel's runtimes. Says what was absent.
set -eu
qdot=${QDOT_BUILD_DIR:?is the build folder}/qdot
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
eval "$(sh tests/opencl_runtimes.sh --installed)"

problems=0
problem() {
    echo "FAILED: $*"
    problems=$((problems + 1))
}

"$qdot" devices --brief >"$work/devices"
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
implementation "PoCL" "Portable Computing Language" ""
implementation "Intel's CPU runtime" "Intel(R) OpenCL:" libintelocl.so
implementation "Intel's FPGA emulator" "Intel(R) FPGA Emulation Platform" libintelocl_emu.so
if ! grep -q '^opencl:' "$work/devices"; then
    echo "there is no OpenCL implementation at all"
    exit 77
fi

# verify WORDS…: all devices; each row's variant is in the third column from the formats' end, see check_rows.
verify() {
    code=0
    "$qdot" verify --device all --seed 7 "$@" >"$work/rows" 2>&1 || code=$?
    if [ "$code" -ne 0 ]; then
        grep -E '^opencl|^qdot|[1-9][0-9]*  [a-z]' "$work/rows" || true
        problem "qdot verify $* gave $code"
    fi
}

# No operator may fall back to the reference on an implementation that can build the portable kernels.
verify --cases 4
grep -E '^opencl|cases,' "$work/rows"
grep -E ' reference +[0-9]+ +[0-9]+ ' "$work/rows" && problem "these ran on the reference"

# The probed features, on the device that has them all.
if grep -qF "opencl:Intel(R) OpenCL:" "$work/devices"; then
    for word in dot subgroup half; do
        verify --cases 4 --kernels "$word"
        sed -n '/^opencl:Intel(R) OpenCL:/,/cases,/p' "$work/rows" >"$work/cpu"
        echo "$word: $(grep -c "_$word " "$work/cpu") rows"
        grep -q "_$word " "$work/cpu" || problem "no kernel with $word in its name ran on Intel's CPU runtime"
        grep -E ' reference +[0-9]+ +[0-9]+ ' "$work/cpu" && problem "these ran on the reference"
    done
fi

# Also the variants that are not chosen must be right, or for another device.
"$qdot" devices >"$work/verdicts" 2>&1 || problem "qdot devices failed"
grep -E '^opencl|^qdot:| failed  ' "$work/verdicts"
grep -q ' failed  ' "$work/verdicts" && problem "these kernels gave wrong results or did not build"

[ "$problems" -eq 0 ]
