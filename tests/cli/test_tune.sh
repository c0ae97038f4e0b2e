#!/bin/sh
# qdot tune: writes a file that later contexts use, with the same bytes; files that are nonsense, of another build or
# interrupted. Says nothing about speed.
set -u
. tests/cli/commands.sh

"$qdot" devices --brief --json >"$work/out" 2>"$work/err"
if ! json 'any(d["id"].startswith("opencl") and d["usable"] for d in o["devices"])'; then
    [ -n "${QDOT_TEST_NO_OPENCL:-}" ] || exit 1
    exit 0
fi
tuned="$work/tuned.txt"

# with FILE CODE qdot-words…: run, tuned by a file.
with() {
    QDOT_TUNING=$1
    export QDOT_TUNING
    shift
    run "$@"
    unset QDOT_TUNING
}

run 0 tune --help
prints "QDOT_TUNING="
fails "--op dot" tune --op dot
fails "q4_9" tune --format q4_9
fails "nothing to tune" tune --op matmul_int --format q4_0
fails "nothing to tune" tune -d ref --format q4_0 -o "$tuned"
fails "/nowhere/at/all" tune --format tq1_0 -s 0.001 -o /nowhere/at/all
[ ! -e "$tuned" ] || say_bad "a failure left a file"

# A quick one: little is measured, so that any way may win or none.
run 0 tune --format tq1_0 --seconds 0.05 --json -o "$tuned"
is_json
json 'o["file"].endswith("tuned.txt") and len(o["classes"]) == 8'
json 'all(c["weights"] == "tq1_0" and c["before"]["variant"] for c in o["classes"])'
json 'o["changed"] == sum(c["changed"] for c in o["classes"])'
json 'all(c["changed"] == (c["before"] != c["after"]) for c in o["classes"])'
json 'all(c["faster"] > 1 and c["faster_low"] <= c["faster"] <= c["faster_high"] for c in o["classes"] if c["changed"])'
changed=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["changed"])' <"$work/out")
head -n 1 "$tuned" | grep -qx 'qdot-tuning 1' || say_bad "the file's first line"
tail -n 1 "$tuned" | grep -qx "end $changed" || say_bad "the file's last line"

# The other operators: classes of their sizes, each by plans of that operator.
for pair in matmul_int:8 matmul_group:8 conv_int:2 attention:4; do
    op=${pair%:*}
    run 0 tune --op "$op" --seconds 0.01 --json -o "$work/others.txt"
    json 'len(o["classes"]) == '"${pair#*:}"
    json 'all(c["op"] == "'"$op"'" and c["before"]["variant"].startswith("'"$op"'") for c in o["classes"])'
done

# The next program uses a file with a choice of its own, and the results are those of the reference.
{
    sed '/^end/d; /^matmul/d' "$tuned"
    echo "matmul tq1_0 a8 1 small matmul_tq1_0 3 QD_TOKENS=2"
    echo "matmul tq1_0 a8 2 small matmul_tq1_0 5 QD_TOKENS=8"
    echo "end 2"
} >"$work/mine.txt"
with "$work/mine.txt" 0 verify --fuzz 200 --op matmul --formats "tq1_0 a8" -v
if grep -q "is not used" "$work/err"; then say_bad "a good file was not used"; fi
prints " 0 different"
with "$work/mine.txt" 0 devices --brief
prints "2 classes by $work/mine.txt"
with "$work/mine.txt" 0 devices --brief --json
json 'any(d["tuning"]["classes"] == 2 and not d["tuning"]["why"] for d in o["devices"] if d["id"].startswith("opencl"))'
with '' 0 devices --brief
lacks "$work/mine.txt"

# Nonsense, and another build's: told, and not used.
echo nonsense >"$work/nonsense.txt"
with "$work/nonsense.txt" 0 verify --fuzz 20 --op matmul --formats "tq1_0 a8" -v
grep -q "nonsense.txt is not used: line 1" "$work/err" || say_bad "nonsense was not told"
with "$work/nonsense.txt" 0 devices --brief
prints "not used: line 1"
sed 's/^key .*/key 0000/' "$work/mine.txt" >"$work/other.txt"
with "$work/other.txt" 0 verify --fuzz 20 --op matmul --formats "tq1_0 a8" -v
grep -q "other.txt is not used: it is of another device, driver or build" "$work/err" || say_bad "another build was not told"

# Ctrl-C: the old file stays as it is.
cp "$work/mine.txt" "$work/kept.txt"
"$qdot" tune --format tq1_0 --seconds 600 -o "$work/kept.txt" >"$work/out" 2>"$work/err" </dev/null &
pid=$!
sleep 2
kill -INT "$pid"
wait "$pid"
[ $? -eq 2 ] || say_bad "interrupted: not exit code 2"
grep -q '^qdot: stopped; nothing was written$' "$work/err" || say_bad "interrupted: no word of it"
cmp -s "$work/mine.txt" "$work/kept.txt" || say_bad "interrupted: the old file is another"

[ "$bad" -eq 0 ]
