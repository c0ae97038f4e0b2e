#!/bin/sh
# hls/rtl/synth.sh: the smallest unit on the smallest family; unknown families, bad shapes, a tool that is missing.
set -eu
cd "$(dirname "$0")/../.."
if ! command -v yosys >/dev/null; then
    echo "no yosys: run sh host/setup.sh rtl"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export QDOT_BUILD_DIR="$work"

fail() {
    echo "$1"
    cat "$work/log"
    exit 1
}

# refuses STATUS WORDS COMMAND…
refuses() {
    status=0
    want=$1 words=$2
    shift 2
    "$@" >"$work/log" 2>&1 || status=$?
    [ "$status" -eq "$want" ] || fail "$* gave $status, not $want"
    grep -q "$words" "$work/log" || fail "$* does not say '$words'"
}

shape="ROWS=1 COLS=1 LANES=1 QUANTS=1 PACK=1 W_BYTES=1 X_BYTES=1 W_ADDRESS=4 X_ADDRESS=4"
refuses 2 "unknown family 'virtex'" sh hls/rtl/synth.sh -n ecp5 virtex
refuses 1 "yosys failed on ecp5" env QDOT_RTL_SHAPE="ROWZ=1" sh hls/rtl/synth.sh -n ecp5
# Only what the script needs before it looks for tools.
mkdir "$work/bin"
for tool in sh mkdir dirname sed; do
    ln -s "$(command -v $tool)" "$work/bin/$tool"
done
refuses 1 "yosys is missing: sh host/setup.sh rtl installs it" env PATH="$work/bin" sh hls/rtl/synth.sh -n ecp5
ln -s "$(command -v yosys)" "$work/bin/yosys"
refuses 1 "nextpnr-ecp5 is missing: sh host/setup.sh synth installs it" env PATH="$work/bin" HOME="$work" sh hls/rtl/synth.sh -n bitstream

QDOT_RTL_SHAPE=$shape sh hls/rtl/synth.sh -n ecp5 >"$work/log" 2>&1 || fail "the smallest unit was not synthesized"
# Multipliers: of its lane, four of the requantization, one of the register map; both operands' buffers lie in small memories.
grep -Eq "^\| ecp5 \| $shape \| [1-9][0-9]+ \| [1-9][0-9]* \| [1-9][0-9]+ \| 6 \| 0 \| [1-9][0-9]* \|$" "$work/log" ||
    fail "not the expected resources"
