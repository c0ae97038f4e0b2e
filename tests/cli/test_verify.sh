#!/bin/sh
# `qdot verify` as a user meets it: tables, random cases, one case again, all devices; and that `qdot devices` tells times.
# Bad input gives exit code 2 and one line on standard error; nothing on standard output.
set -u
. tests/cli/commands.sh

# ---- Random cases ----
run 0 verify --device ref --fuzz 60
prints "ref (C reference)"
prints "  60 cases, 0 different"
lacks "DIFFERENT"
lacks "operator"
run 0 verify --device ref --fuzz 64 --op pad --size 2 --coverage
prints "  64 cases, 0 different"
prints "value: cases"
for word in "formats                 i8 -> i8: 32; u8 -> u8: 32;" "mode  " "0: " "least: " "multiple of 16: "; do
    prints "$word"
done
grep -v '^  pad ' "$work/out" | grep -q ' [0-9]*: [0-9]*;' && say_bad "$what: not only the operator that was asked for"
run 0 verify --device ref --fuzz 64 --op pad --json
is_json
json 'set(o) == {"devices"} and len(o["devices"]) == 1'
json 'set(o["devices"][0]) == {"device", "name", "cases", "different"}'
json 'o["devices"][0]["device"] == "ref" and o["devices"][0]["cases"] == 64 and o["devices"][0]["different"] == 0'
run 0 verify --device ref --fuzz 64 --op pad --coverage --json
json 'all(set(r) == {"op", "choice", "value", "cases"} and r["op"] == "pad" for r in o["devices"][0]["coverage"])'
json 'sum(r["cases"] for r in o["devices"][0]["coverage"] if r["choice"] == "mode") == 64'
json 'sum(r["cases"] for r in o["devices"][0]["coverage"] if r["choice"] == "formats") == 64'
cp "$work/out" "$work/first"
run 0 verify --device ref --fuzz 64 --op pad --coverage --json
cmp -s "$work/out" "$work/first" || say_bad "$what: another run gives other cases"
run 0 verify --device ref --fuzz 64 --op pad --coverage --json --seed 77
cmp -s "$work/out" "$work/first" && say_bad "$what: another seed gives the same cases"
# Larger shapes have more rows to choose from.
run 0 verify --device ref --fuzz 200 --op dynamic_quantize --size 1 --coverage --json
json '{r["value"] for r in o["devices"][0]["coverage"] if r["choice"] == "R"} == set("123456")'
run 0 verify --device ref --fuzz 200 --op dynamic_quantize --size 10 --coverage --json
json '"other" in {r["value"] for r in o["devices"][0]["coverage"] if r["choice"] == "R"}'
fails "no operator \"nosuch\"" verify --device ref --fuzz 5 --op nosuch
fails "no operator \"nosuch\"" verify --device ref --fuzz 5 --op nosuch --json
fails "from 1 to" verify --fuzz 0
fails "from 1 to" verify --fuzz -3
fails "not 'many'" verify --fuzz many
fails "needs a value" verify --fuzz
fails "from 0 to 10" verify --fuzz 5 --size 11
fails "from 0 to 10" verify --fuzz 5 --size -1
fails "from 0 to" verify --fuzz 5 --seed -1
for word in "--op add" "--size 2" --coverage "--case add/0/1/1 --op add" "--case add/0/1/1 --coverage"; do
    # $word is a list of words.
    # shellcheck disable=SC2086
    fails "go with --fuzz" verify --device ref $word
done
fails "only one of" verify --device ref --fuzz 5 --case add/0/1/1
fails "only one of" verify --device ref --fuzz 5 --vectors tests/golden/vectors
fails "only one of" verify --device ref --case add/0/1/1 --vectors tests/golden/vectors
fails "not on all" verify --device all --vectors tests/golden/vectors

# ---- One case again ----
run 0 verify --device ref --case "add/0/5/1/R=3/C=20"
prints "ref (C reference)"
prints "  1 cases, 0 different"
run 0 verify --device ref --case "add/0/5/1/R=3/C=20" --json
json 'o["devices"][0]["cases"] == 1 and o["devices"][0]["different"] == 0'
for text in "" add add/0/5 add/0/5/11 "add/0/5/1/R=x" "add/0/5/1 "; do
    fails "describes no case" verify --device ref --case "$text"
done
fails "combinations" verify --device ref --case add/9/5/1
fails "no operator" verify --device ref --case subtract/0/5/1 --json
fails "no number" verify --device ref --case add/0/5/1/nosuch=1

# ---- Tables ----
run 0 verify --device ref --cases 1
prints "ref (C reference)"
for op in get_rows attention matmul_int softmax_int; do
    grep -q "^  $op  *.* reference  *1  *0 " "$work/out" || say_bad "$what: no row of $op"
done
rows=$(grep -c ' reference  *1  *0 ' "$work/out")
prints "  $rows cases, 0 different"

# ---- Devices ----
run 0 devices
prints "ref"
if grep -q '^opencl:' "$work/out"; then
    grep -q '^  time  *cache [0-9.]* s, compiling [0-9.]* s, canaries [0-9.]* s$' "$work/out" ||
        say_bad "$what: does not tell the times"
    # All of them, one after the other; the reference would be compared with itself.
    devices=$(grep -cE '^(opencl:|rtl$)' "$work/out")
    unusable=$(grep -c '^  not used ' "$work/out")
    run 0 verify --device all --fuzz 40 --op pad
    lacks "ref (C reference)"
    [ "$(grep -cE '^(opencl:|rtl )' "$work/out")" -eq $((devices - unusable)) ] || say_bad "$what: not all devices"
    [ "$(grep -c '^  40 cases, 0 different' "$work/out")" -eq $((devices - unusable)) ] || say_bad "$what: not 40 cases each"
    run 0 verify --device all --case "pad/0/5/1" --json
    json 'all(d["device"].startswith(("opencl:", "rtl")) and d["cases"] == 1 and d["different"] == 0 for d in o["devices"])'
    run 0 devices --json
    json 'all(k[t] >= 0 for d in o["devices"] for k in d["kernels"] for t in ("load_seconds", "build_seconds", "canary_seconds"))'
    json 'any(k["load_seconds"] > 0 for d in o["devices"] for k in d["kernels"])'
elif [ -z "${QDOT_TEST_NO_OPENCL:-}" ]; then
    say_bad "there is no OpenCL device (QDOT_TEST_NO_OPENCL: that is meant)"
else
    fails "no device to compare" verify --device all --fuzz 5
fi

[ "$bad" -eq 0 ]
