#!/bin/sh
# Every operator under Oclgrind, which interprets the kernels one instruction at a time: no data race, no access out of
# bounds, no value that was never written, no misuse of the API. Races show best here, where work-groups have 64
# work-items as on a GPU.
#
# First without the slow checks: builds and proves the kernels (minutes the first time; the verdicts stay in
# $QDOT_CACHE_DIR), with accesses out of bounds reported. Then all checks, with seeds of small problems: every operator
# and format, more convolutions, and attention by itself.
#
# What --uninitialized of Oclgrind 21.10 with LLVM 14 takes for uninitialised, and is not:
#   lane 11 of a shuffle; it crashes at undefined lanes: kernels_cl/lanes.h
#   what a kernel wrote to a global buffer that the host had cleared, or written in part; or to a buffer in the place of
#   a released, smaller one. Only attention, with a mask or not, reads what it wrote, its scratch. In a process of its
#   own that has no such history, so there it counts, and among other operators it does not.
set -eu
qdot=${QDOT_BUILD_DIR:?is the build folder}/qdot
if ! command -v oclgrind >/dev/null; then
    echo "ABSENT: Oclgrind (sh host/setup.sh tests installs it)"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Unoptimized: LLVM makes operations (saturating ones) that this Oclgrind does not know, and may optimize a fault away.
# A cache of its own, because the options are not in the keys.
QDOT_CACHE_DIR=${QDOT_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/qdot}/oclgrind
export QDOT_CACHE_DIR

problems=0
# under "oclgrind-options…" "qdot-verify-options…"; $false_reports: an awk condition for reports that do not count.
under() {
    code=0
    rm -f "$work/log"
    # shellcheck disable=SC2086 # lists of options
    oclgrind $1 --max-errors 1000000 --build-options -cl-opt-disable --log "$work/log" "$qdot" verify --device opencl:Oclgrind $2 \
        >"$work/rows" 2>&1 || code=$?
    echo "oclgrind $1: qdot verify $2:$(tail -n 1 "$work/rows")"
    if [ "$code" -ne 0 ]; then
        cat "$work/rows"
        echo "FAILED: qdot verify gave $code"
        problems=1
    fi
    awk -v RS= -v ORS='\n\n' "!($false_reports)" "$work/log" >"$work/reports"
    if [ -s "$work/reports" ]; then
        head -n 60 "$work/reports"
        echo "FAILED: Oclgrind has something to say ($(grep -c 'Kernel:' "$work/reports" || true) times about kernels), above"
        problems=1
    fi
    if grep -E ' reference +[0-9]+ +[0-9]+ ' "$work/rows"; then
        echo "FAILED: these ran on the reference"
        problems=1
    fi
}

all="--data-races --check-api --uninitialized"
false_reports='/ninitialized/ && /Kernel: attention(_masked)?\n/'
under "" "--seed 8 --cases 1"
under "$all" "--seed 8 --cases 2"
under "$all" "--seed 4 --fuzz 8 --size 1 --op conv_int"
false_reports=0
for seed in 1 2 3 4 5 6 7 8; do
    under "$all" "--seed $seed --fuzz 1 --size 1 --op attention"
    under "$all" "--seed $seed --fuzz 1 --size 1 --op attention_masked"
done
[ "$problems" -eq 0 ]
