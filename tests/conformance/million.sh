#!/bin/sh
# Random cases in great numbers against the reference, on every OpenCL implementation of this machine:
#
#   sh tests/conformance/million.sh [CASES [SEED]]
#
# CASES (default 1000000) on PoCL and on Intel's CPU runtimes, a tenth of them on the FPGA emulator, a thousandth under
# Oclgrind (unoptimized, with its checks for races, bounds and misuse of the API). Prints what
# the cases tried, and fails when a value was never tried, or a byte differed. Takes half an hour on two cores.
set -eu
cd "$(dirname "$0")/../.."
qdot=${QDOT_BUILD_DIR:-build}/qdot
cases=${1:-1000000}
seed=${2:-1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
problems=0
problem() {
    echo "FAILED: $*"
    problems=$((problems + 1))
}

# fuzz NAME DEVICE CASES command…: one device; its coverage goes to $work/NAME.
fuzz() {
    name=$1
    device=$2
    count=$3
    shift 3
    if ! "$qdot" devices --brief | grep -qF "opencl:$device"; then
        [ "$name" = oclgrind ] || {
            echo "ABSENT: $name"
            return
        }
    fi
    before=$(date +%s)
    if "$@" "$qdot" verify --device "opencl:$device" --fuzz "$count" --seed "$seed" --coverage >"$work/$name" 2>&1; then
        echo "$name: $(tail -n 1 "$work/$name"), $(($(date +%s) - before)) s"
    else
        tail -n 5 "$work/$name"
        problem "$name"
    fi
}

fuzz pocl "Portable Computing Language" "$cases"
(
    eval "$(sh tests/opencl_runtimes.sh --installed)"
    fuzz intel-cpu "Intel(R) OpenCL" "$cases"
    fuzz fpga-emulator "Intel(R) FPGA Emulation" $((cases / 10))
    [ "$problems" -eq 0 ]
) || problem "Intel's runtimes"
(
    eval "$(sh tests/opencl_runtimes.sh --newest --installed)"
    fuzz intel-cpu-newest "Intel(R) OpenCL" $((cases / 10))
    [ "$problems" -eq 0 ]
) || problem "Intel's newest CPU runtime"
if command -v oclgrind >/dev/null; then
    QDOT_CACHE_DIR=${QDOT_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/qdot}/oclgrind
    export QDOT_CACHE_DIR
    fuzz oclgrind Oclgrind $((cases / 1000)) oclgrind --data-races --check-api --build-options -cl-opt-disable \
        --log "$work/log"
    [ ! -s "$work/log" ] || {
        head -n 40 "$work/log"
        problem "Oclgrind has something to say, above"
    }
else
    echo "ABSENT: oclgrind"
fi

[ ! -f "$work/pocl" ] || cat "$work/pocl"
for name in pocl intel-cpu; do
    [ -f "$work/$name" ] || continue
    # The ends of wide ranges are met too seldom to ask for them.
    ! sed 's/multiple of 16: //' "$work/$name" | grep -E ' -?[0-9]+: 0;' || problem "$name: values that no case tried, above"
done
[ "$problems" -eq 0 ]
