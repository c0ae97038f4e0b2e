#!/bin/sh
# A real model (QDOT_TEST_MODEL) on several devices: two of PoCL, and, where it is installed, PoCL beside Intel's CPU
# runtime. The text's logits are the reference's, by layers and by rows; both work at the same time.
set -u
. tests/e2e/model.sh
eval "$(sh tests/opencl_runtimes.sh --installed)"
export POCL_DEVICES="pthread pthread"
pocl="opencl:Portable Computing Language"
intel=
"$qdot" devices --brief | grep -q '^opencl:Intel(R) OpenCL' && intel="opencl:Intel(R) OpenCL"

# try DEVICE: text there has the reference's logits, and every operator of the layers ran on a device.
try() {
    if ! "$qdot" run -m "$m" -d "$1" -p "Once upon a time" -n 6 --greedy --verify >"$work/out" 2>"$work/err" </dev/null ||
        ! grep -q "the C reference agrees" "$work/err" || ! grep -q "all of the layers' .* operators ran on the device" "$work/err"; then
        echo "FAILED: $1"
        tail -n 5 "$work/out" "$work/err"
        bad=$((bad + 1))
    fi
    [ -f "$work/text" ] || cp "$work/out" "$work/text"
    cmp -s "$work/text" "$work/out" || {
        echo "FAILED: $1: another text"
        bad=$((bad + 1))
    }
}

# at_once DEVICE OPTION…: both parts work at the same time while they read a long prompt, on the trace's clock. The machine may keep
# one of them from work: the best of several tries counts.
at_once() {
    text=$(printf 'Once upon a time there was a fox. %.0s' $(seq 80))
    for _ in 1 2 3 4 5 6; do
        if "$qdot" run -m "$m" -d "$@" -p "$text" -n 1 --greedy --trace "$work/trace" >"$work/out" 2>"$work/err" </dev/null &&
            python3 - "$work/trace" <<'PYTHON'; then return; fi
import json, sys
spans = {1: [], 2: []}
for e in json.load(open(sys.argv[1]))["traceEvents"]:
    spans[e["pid"]].append((e["ts"], e["ts"] + e["dur"]))
a, b = (sorted(s) for s in spans.values())
both, i, k = 0, 0, 0
while i < len(a) and k < len(b):
    both += max(0, min(a[i][1], b[k][1]) - max(a[i][0], b[k][0]))
    if a[i][1] < b[k][1]:
        i += 1
    else:
        k += 1
less = min(sum(end - start for start, end in s) for s in (a, b))
print("both at work for %.0f %% of the time of one" % (100 * both / less))
sys.exit(both < 0.1 * less)
PYTHON
    done
    echo "FAILED: $1: its parts take turns"
    tail -n 5 "$work/out" "$work/err"
    bad=$((bad + 1))
}

try "$pocl"
try "layers:$pocl:0,$pocl:1"
try "rows:$pocl:0=2,$pocl:1=1"
if [ "$(nproc)" -gt 1 ]; then at_once "layers:$pocl:0,$pocl:1" --threads "$(($(nproc) / 2))"; fi
if [ -n "$intel" ]; then
    try "layers:$pocl:0,$intel"
    try "rows:$intel,$pocl:0"
else
    echo "ABSENT: Intel's CPU runtime (sh tests/opencl_runtimes.sh installs it)"
fi
exit $((bad > 0))
