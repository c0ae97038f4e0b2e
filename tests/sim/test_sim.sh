#!/bin/sh
# `qdot sim` as a user meets it, and sim/MODEL.md in step with what it prints.
set -u
. tests/cli/commands.sh
data=tests/sim/data/fpga_calibration.csv

run 0 sim --help
prints "calibrate"
fails "which part" sim
fails "unexpected word 'simulate'" sim simulate
fails "unexpected option '--all'" sim --all
fails "no measurements" sim calibrate
fails "no measurements" sim fit
fails "$work/none.csv" sim calibrate --data "$work/none.csv"
fails "not 'colour'" sim calibrate --data $data --without colour

run 0 sim boards
for board in ULX3S-85F KV260 Alveo-U250 Alveo-U280; do prints "$board"; done

# ---- JSON: these keys and no others; what is promised ----
run 0 sim calibrate --data $data --json
is_json
json "set(o) == {'median_error', 'p90_error', 'max_error', 'rows', 'unsupported'}"
json "0 < o['median_error'] <= 0.1 and o['median_error'] <= o['p90_error'] <= 0.3 and o['p90_error'] <= o['max_error']"
json "o['rows'] == 157 and all(r['row'] and r['reason'] for r in o['unsupported'])"

# ---- A table with a line for every row ----
run 0 sim calibrate --data $data
cut -d, -f1 $data | tail -n +2 | while read -r id; do grep -q "^| $id |" "$work/out" || echo "$id"; done >"$work/missing"
[ ! -s "$work/missing" ] || say_bad "$what: rows are missing: $(tr '\n' ' ' <"$work/missing")"
prints "BLG-002"
prints "not expressed: a cold first call"
run 0 sim calibrate --data $data --summary
[ "$(wc -l <"$work/out")" -eq 1 ] || say_bad "$what: not one line"

# ---- Rows that nobody knows, and files that are none ----
header=$(head -n 1 $data)
printf '%s\nA,s,Nowhere,,network,int8,x,,fps,1,\n' "$header" >"$work/foreign.csv"
run 0 sim calibrate --data "$work/foreign.csv" --json
json "o['median_error'] is None and o['rows'] == 1 and o['unsupported'][0]['row'] == 'A' and 'Nowhere' in o['unsupported'][0]['reason']"
printf '%s\nA,s,d,1,k,t,s,c,m,much,\n' "$header" >"$work/bad.csv"
fails "bad.csv:2: value 'much'" sim calibrate --data "$work/bad.csv" --json
fails "bad.csv:2: value 'much'" sim fit --data "$work/bad.csv"
: >"$work/empty.csv"
fails "is missing" sim calibrate --data "$work/empty.csv"

# ---- MODEL.md ----
sh sim/model.sh --check >"$work/out" 2>"$work/err" || say_bad "sim/MODEL.md is not what sim/model.sh writes"

[ "$bad" -eq 0 ]
