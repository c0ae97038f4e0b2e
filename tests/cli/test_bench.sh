#!/bin/sh
# qdot bench: its JSON has the keys that scripts use, and figures that fit together. Says nothing about speed.
set -u
qdot=${QDOT_BUILD_DIR:?is the build folder}/qdot
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0

say_bad() {
    echo "FAILED: $1"
    head -n 5 "$work/out" "$work/err"
    bad=$((bad + 1))
}

# run CODE qdot-words…
run() {
    wanted=$1
    shift
    "$qdot" "$@" >"$work/out" 2>"$work/err" </dev/null
    got=$?
    [ "$got" -eq "$wanted" ] || say_bad "qdot $*: exit code $got, not $wanted"
}

# holds EXPRESSION: over the last output's JSON object `o`.
holds() {
    python3 -c "
import json, math, sys
o = json.load(open(sys.argv[1]))
close = lambda a, b: math.isclose(a, b, rel_tol=1e-6)
spread = lambda s, n: 0 < s['least'] <= s['median'] <= s['most'] and s['runs'] == n
sys.exit(not ($1))" "$work/out" 2>/dev/null || say_bad "not true: $1"
}

run 2 bench --runs 0
run 2 bench --seconds 0
run 2 bench --device nosuch
run 2 bench -m "$work/none"

for device in ref opencl; do
    run 0 bench --json --runs 1 --seconds 0.001 --device "$device"
    [ ! -s "$work/err" ] || say_bad "bench wrote to standard error"
    holds 'o["roof"]["memory_gb_per_s"] > 0 and o["compute_units"] > 0 and o["device"].startswith("'"$device"'")'
    holds 'set(p["weights"] for p in o["products"]) == {"q4_0", "q4_1", "q8_0", "q4_k", "q6_k", "i8", "i4", "u4", "nf4", "int4-g64"}'
    holds 'set(p["m"] for p in o["products"]) == {1, 16, 128, 512} and "f32" in {p["activations"] for p in o["products"]}'
    # Everything is measured or left out; the smallest is never left out.
    holds 'all(("seconds" in p) != (p.get("left_out_expected_seconds", 0) > 0.004) for p in o["products"])'
    holds '"seconds" in o["products"][0]'
    # Rates follow from times, shares from the roofs.
    cat >"$work/check.py" <<'PYTHON'
def right(p):
    seconds, roof = p["seconds"]["median"], o["roof"]
    of_memory = p["gb_per_s"] / roof["memory_gb_per_s"]
    of_multiply = p["gop_per_s"] / roof["multiply_gop_per_s"]
    return (spread(p["seconds"], 1) and p["kernel"] and p["weight_copies"] > (p["m"] <= 16)
            and close(p["gop_per_s"] * seconds * 1e9, 2 * p["m"] * p["n"] * p["k"])
            and p["gb_per_s"] * seconds * 1e9 > p["n"] * p["k"] / 2
            and close(p["of_roof"], max(of_memory, of_multiply))
            and p["roof"] == ("memory" if of_memory > of_multiply else "multiply"))
PYTHON
    holds 'exec(open("'"$work"'/check.py").read(), globals()) or all(map(right, [p for p in o["products"] if "seconds" in p]))'
    holds 'close(max(p.get("gop_per_s", 0) for p in o["products"]), o["roof"]["multiply_gop_per_s"])'
done
if "$qdot" devices --brief | grep -q x86-avx2; then
    run 0 bench --json --runs 1 --seconds 0.001 --kernels avx2
    holds 'all("avx2" in p["kernel"] for p in o["products"] if p["weights"] in ("q4_0", "q4_1", "q4_k", "i8", "i4", "u4") and "kernel" in p)'
fi

if [ -n "${QDOT_TEST_MODEL:-}" ]; then
    run 0 bench -m "$QDOT_TEST_MODEL" --json --runs 2 --seconds 0.001 --prompt 3 --generate 2
    holds 'o["prompt_tokens_per_s"] == o["prompt"]["median"] and o["generate_tokens_per_s"] == o["generate"]["median"]'
    holds 'spread(o["prompt"], 2) and spread(o["generate"], 2) and (o["prompt_tokens"], o["generated_tokens"]) == (3, 2)'
    holds 'close(o["generate_gb_per_s"] * 1e9, o["generate_tokens_per_s"] * o["weight_bytes_per_token"])'
    holds 'close(o["generate_of_memory_roof"], o["generate_gb_per_s"] / o["roof"]["memory_gb_per_s"])'
    # The model's matrices are nearly all of its file.
    size=$(wc -c <"$QDOT_TEST_MODEL")
    holds "0.9 * $size < o['weight_bytes_per_token'] < $size"
    run 0 bench -m "$QDOT_TEST_MODEL" --runs 1 --seconds 0.001 --prompt 3 --generate 2
    grep -q 'generate .*tokens/s' "$work/out" || say_bad "no speed in the table"
fi

[ "$bad" -eq 0 ]
