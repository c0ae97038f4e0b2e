#!/bin/sh
# `qdot sim search` as a user meets it; what it emits goes through the tools that are there.
set -u
. tests/cli/commands.sh

run 0 sim search --board KV260 --network cnv --emit "$work/design" --svg "$work/front.svg" --html "$work/front.html"
prints "cnv on KV260"
prints "best: "
for file in front.svg front.html; do
    sed 1,1s/'<!DOCTYPE html>'// "$work/$file" >"$work/xml"
    python3 - "$work/xml" >"$work/out" 2>"$work/err" <<'EOF' || say_bad "$file"
import sys, xml.dom.minidom
text = open(sys.argv[1], encoding="utf-8").read().strip()
svg = xml.dom.minidom.parseString(text).getElementsByTagName("svg")[0]
width, height = map(float, svg.getAttribute("viewBox").split()[2:])
circles = svg.getElementsByTagName("circle")
assert len(circles) > 100 and len(svg.getElementsByTagName("polyline")[0].getAttribute("points").split()) >= 5
for c in circles:
    assert 0 < float(c.getAttribute("cx")) < width and 0 < float(c.getAttribute("cy")) < height, c.toxml()
EOF
done

# ---- What is emitted is what the tools take ----
for unit in matmul_int conv_int; do
    cc -std=c99 -w -fsyntax-only -include "$work/design/hls_shape.h" -Ihls -Ihost/include/qdot "hls/$unit.c" >"$work/out" 2>"$work/err" ||
        say_bad "hls/$unit.c in the shape that was found"
done
if command -v verilator >/dev/null; then
    verilator --lint-only -Wno-lint -Ihls/rtl --top-module qd_unit "$work/design/qd_unit.v" >"$work/out" 2>"$work/err" ||
        say_bad "qd_unit.v: verilator refuses it"
else
    echo "(Verilator is not installed: qd_unit.v was not read)"
fi

run 0 sim search --board U50 --network cnv --json
is_json
json "o['considered'] > o['refused'] > 0 and len(o['candidates']) > 100"
json "all(c['resources'][r] <= c['resources']['has_' + r] for c in o['candidates'] for r in ('luts', 'dsps', 'brams'))"
json "o['best']['frames_per_s'] == max(c['frames_per_s'] for c in o['candidates'] if c['front'])"

fails "no board was given" sim search --network cnv
fails "no board \"Z9\"" sim search --board Z9 --network cnv
fails "$work/a/b" sim search --board ULX3S-85F --network cnv --emit "$work/a/b"
fails "$work/a/b.svg" sim search --board ULX3S-85F --network cnv --svg "$work/a/b.svg"

[ "$bad" -eq 0 ]
