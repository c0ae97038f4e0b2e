#!/bin/sh
# Every operator under Oclgrind, which interprets the kernels one instruction at a time: no data race, no access out of
# bounds, no misuse of the API. Races show best here, where work-groups have 64 work-items as on a GPU.
#
# First without the slow checks: builds and proves the kernels (minutes the first time; the verdicts stay in
# $QDOT_CACHE_DIR), with accesses out of bounds reported; then few cases with all checks.
#
# Not with --uninitialized: in Oclgrind 21.10 with LLVM 14 it reports values as uninitialised that are not, or crashes, as
# soon as parts of a vector are used: y[0] = p.x + p.y of a vload4 is enough.
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
# under CASES oclgrind-options…
under() {
    cases=$1
    shift
    code=0
    rm -f "$work/log"
    oclgrind "$@" --build-options -cl-opt-disable --log "$work/log" "$qdot" verify --device opencl:Oclgrind --seed 7 --cases "$cases" \
        >"$work/rows" 2>&1 || code=$?
    echo "oclgrind $*:$(tail -n 1 "$work/rows")"
    if [ "$code" -ne 0 ]; then
        cat "$work/rows"
        echo "FAILED: qdot verify gave $code"
        problems=1
    fi
    if [ -s "$work/log" ]; then
        head -n 60 "$work/log"
        echo "FAILED: Oclgrind has something to say ($(grep -c 'Kernel:' "$work/log" || true) times about kernels), above"
        problems=1
    fi
    if grep -E ' reference +[0-9]+ +[0-9]+ ' "$work/rows"; then
        echo "FAILED: these ran on the reference"
        problems=1
    fi
}
under 1
under 2 --data-races --check-api
[ "$problems" -eq 0 ]
