#!/bin/sh
# The FPGA kernels on random cases against the reference: on PoCL without channels; on Intel's FPGA emulator with channels
# and without.
#
#   sh tests/conformance/fpga.sh          2000 cases each
#   sh tests/conformance/fpga.sh --long   100000 each; and a few under Oclgrind, and on the emulator with channels no deeper
#                                         than in the source, where the stages run side by side
#
# A kernel that its canary refuses is replaced by the reference, which differs in nothing. So each run starts without a
# cache, and its log must say that the kernel was built (and proven), and nothing of another one in its place.
set -eu
qdot=${QDOT_BUILD_DIR:?is the build folder}/qdot
long=${1:+yes}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
problems=0
unproven=
problem() {
    echo "FAILED: $*"
    problems=$((problems + 1))
}

# The variant of operator $1, with weights in format $3 or "", that has $2 in its name; TABLE has one in any case.
variant() {
    case $1 in
    table) echo table_single ;;
    *) echo "$1${3:+_$3}_$2" ;;
    esac
}

# used OP WORD FORMAT: the log of the last run says that this kernel ran, and no other in its place.
used() {
    grep -Eq "building (and proving )?$(variant "$@") on" "$work/log" || problem "$what: $(variant "$@") was not even proven"
    if grep -E 'kernel [a-z0-9_]*_(channels|single) is not used|runs on the reference' "$work/log"; then
        problem "$what: another kernel took its place"
    fi
}

# fuzz NAME DEVICE WORD OP[:FORMAT] CASES command…: FORMAT of weights that meet A8
fuzz() {
    what="$1, $3, $4"
    device=$2 word=$3 op=${4%%:*} count=$5 format=
    [ "$op" = "$4" ] || format=${4#*:}
    shift 5
    code=0
    rm -rf "$work/cache"
    mkdir "$work/cache"
    before=$(date +%s)
    QDOT_CACHE_DIR=$work/cache "$@" "$qdot" verify -v --device "opencl:$device" --op "$op" ${format:+--formats "$format a8"} \
        ${unproven:+"$unproven"} --fuzz "$count" --seed 11 --kernels "$word" >"$work/out" 2>"$work/log" || code=$?
    echo "$what: $(grep ' cases, ' "$work/out" || true), $(($(date +%s) - before)) s"
    if [ "$code" -ne 0 ]; then
        cat "$work/log"
        problem "$what: qdot verify gave $code"
    fi
    used "$op" "$word" "$format"
}

# all NAME DEVICE WORD CASES: the operators share out the cases.
all() {
    fuzz "$1" "$2" "$3" matmul_int $(($4 * 4 / 10))
    fuzz "$1" "$2" "$3" conv_int $(($4 * 4 / 10))
    for format in q4_0 q4_1 q8_0; do
        fuzz "$1" "$2" "$3" matmul:$format $(($4 * 5 / 100))
    done
    fuzz "$1" "$2" "$3" table $(($4 * 5 / 100))
}

cases=2000
[ -z "$long" ] || cases=100000

all PoCL "Portable Computing Language" single "$cases"
if [ -n "$long" ] && command -v oclgrind >/dev/null; then
    # One work-item has nobody to race with: looking for races would take all memory. As Oclgrind also keeps a value of
    # each instruction until its work-item ends, large problems are none for it; so no canaries.
    unproven=--unproven
    for op in matmul_int conv_int matmul:q4_0 matmul:q4_1 matmul:q8_0 table; do
        few=100
        [ "$op" != conv_int ] || few=12
        fuzz Oclgrind Oclgrind single "$op" "$few" oclgrind --check-api --build-options -cl-opt-disable \
            --log "$work/reports"
        if [ -s "$work/reports" ]; then
            head -n 60 "$work/reports"
            problem "$what: Oclgrind has something to say, above"
        fi
    done
    unproven=
fi

eval "$(sh tests/opencl_runtimes.sh --installed)"
if ! "$qdot" devices --brief | grep -qF 'opencl:Intel(R) FPGA Emulation'; then
    echo "ABSENT: Intel's FPGA emulator (sh tests/opencl_runtimes.sh installs it)"
    [ "$problems" -eq 0 ] || exit 1
    exit 77
fi
all emulator "FPGA Emulation" channels "$cases"
all emulator "FPGA Emulation" single "$cases"
if [ -n "$long" ]; then
    # A case a second.
    unproven=--unproven
    for op in matmul_int conv_int matmul:q4_0 matmul:q4_1 matmul:q8_0; do
        fuzz "emulator, depths as in the source" "FPGA Emulation" channels "$op" 50 \
            env CL_CONFIG_CHANNEL_DEPTH_EMULATION_MODE=strict
    done
fi
[ "$problems" -eq 0 ]
