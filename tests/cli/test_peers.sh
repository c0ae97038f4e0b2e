#!/bin/sh
# qdot bench --peers: the protocol, with peers of this test's own; good ones are measured and compared, bad ones are told
# and left out. Says nothing about speed.
set -u
qdot=${QDOT_BUILD_DIR:?is the build folder}/qdot
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export STUB_PIDS="$work/pids"
mkdir "$STUB_PIDS"
bad=0

say_bad() {
    echo "FAILED: $1"
    head -n 3 "$work/out" "$work/err"
    bad=$((bad + 1))
}

# peers BEHAVIOUR…: a folder with just these.
peers() {
    rm -rf "$work/peers"
    mkdir "$work/peers"
    echo "no program" >"$work/peers/README"
    for behaviour; do
        # shellcheck disable=SC2016
        printf '#!/bin/sh\nexec python3 "%s/stub_peer.py" %s "$1"\n' "$here" "$behaviour" >"$work/peers/$behaviour"
        chmod 755 "$work/peers/$behaviour"
    done
}

# run CODE words…
run() {
    wanted=$1
    shift
    "$qdot" bench --peers-dir "$work/peers" --runs 3 --seconds 0.003 --peers "$@" >"$work/out" 2>"$work/err" </dev/null
    got=$?
    [ "$got" -eq "$wanted" ] || say_bad "qdot bench --peers $*: exit code $got, not $wanted"
}

# holds EXPRESSION: over the last output's JSON object `o`, its first work `w`, and that work's peers by name, `p`.
holds() {
    python3 -c "
import json, math, sys
o = json.load(open(sys.argv[1]))
w = o['works'][0]
p = {x['name']: x for x in w['peers']}
close = lambda a, b: math.isclose(a, b, rel_tol=1e-6)
spread = lambda s, n: 0 < s['least'] <= s['median'] <= s['most'] and s['runs'] == n
sys.exit(not ($1))" "$work/out" 2>/dev/null || say_bad "not true: $1"
}

gone() { # BEHAVIOUR PART-OF-REASON
    holds "'$2' in [x for x in o['peers'] if x['name'] == '$1'][0]['gone']"
    holds "'seconds' not in p['$1'] and all(x['peer'] != '$1' for x in o['summary'])"
}

conv='^conv MobileNet-v2 dw3x3/2 576-576 @14$'

peers good differs cannot dies_at_work dies_at_run crashes_at_run babbles_at_work babbles_at_run lies greets_wrongly \
    greets_longer greets_without_end
run 0 --json --works "$conv" --svg "$work/chart.svg"
[ ! -s "$work/err" ] || say_bad "something on standard error"
holds 'len(o["works"]) == 1 and w["kind"] == "conv" and w["operations"] == 2 * 7 * 7 * 576 * 9 and w["kernel"]'
holds 'w["bytes"] == 576 * 9 + 14 * 14 * 576 + 7 * 7 * 576 and spread(w["seconds"], 3)'
holds 'o["roof"]["memory_gb_per_s"] > 0 and o["roof"]["codes_gop_per_s"] > o["roof"]["floats_gflop_per_s"] / 4 > 0'
holds 'o["machine"]["processors"] >= 1 and "onednn" in o["absent"] and "good" not in o["absent"]'
holds '[x["version"] for x in o["peers"] if x["name"] == "good"] == ["1.0-%d" % o["threads"]]'
# These two say a millionth of a second for a pass, which is 32 operators: times and ratios follow.
for peer in good differs; do
    holds "close(p['$peer']['seconds']['median'], 1e-6 / 32) and spread(p['$peer']['ratio'], 3)"
    holds "close(p['$peer']['ratio']['median'], 1e-6 / 32 / w['seconds']['median'])"
    holds "close(p['$peer']['ratio']['least'], 1e-6 / 32 / w['seconds']['most'])"
done
holds 'p["good"]["differs"] is False and p["differs"]["differs"] is True'
holds '{x["peer"] for x in o["summary"]} == {"good", "differs", "fastest"}'
holds 'all(close(x["geometric_mean"], p["good"]["ratio"]["median"]) and x["below_0.8"] == x["works"] == 1 for x in o["summary"])'
holds '"seconds" not in p["cannot"] and p["cannot"]["why_not"] == "do that"'
holds '"gone" not in [x for x in o["peers"] if x["name"] == "cannot"][0]'
gone dies_at_work "exit code 7"
gone dies_at_run "exit code 7"
gone crashes_at_run "signal 6"
gone babbles_at_work "?[31mwhat?"
gone babbles_at_run "?[31mwhat?"
gone lies "1000 seconds"
gone greets_wrongly "hello"
gone greets_longer "a b c"
gone greets_without_end "lines"
python3 - "$work/chart.svg" <<'PYTHON' || say_bad "the chart is wrong"
import sys
import xml.etree.ElementTree as tree
circles = [e for e in tree.parse(sys.argv[1]).iter("{http://www.w3.org/2000/svg}circle")]
points = [c[0].text.split(",")[0] for c in circles if len(c)]
sys.exit(sorted(points) != ["differs", "good", "qdot"] or not all(0 < float(c.get("cy")) < 404 for c in circles))
PYTHON

peers good hangs_at_once hangs_at_work hangs_at_run
run 0 --json --works "$conv" --peer-timeout 1.5
for when in once work run; do gone hangs_at_$when "did not answer within"; done
holds '"ratio" in p["good"] and {x["peer"] for x in o["summary"]} == {"good", "fastest"}'

# Ctrl-C, while a peer keeps it waiting.
rm -f "$STUB_PIDS/child-hangs_at_work"
peers hangs_at_work
"$qdot" bench --peers --peers-dir "$work/peers" --seconds 0.003 --works "$conv" >"$work/out" 2>"$work/err" </dev/null &
pid=$!
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    [ -s "$STUB_PIDS/child-hangs_at_work" ] || sleep 0.5
done
kill -INT "$pid"
wait "$pid"
[ $? -eq 2 ] || say_bad "stopped, but not with exit code 2"
[ "$(cat "$work/err")" = "qdot: stopped" ] || say_bad "no word about the stop"

# Nobody is left of all these, nor a child of theirs.
for file in "$STUB_PIDS"/*; do
    # A process that has been killed may take a moment, or wait for its parent to notice.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        state=$(sed -n 's/^State:[[:space:]]*//p' "/proc/$(cat "$file")/status" 2>/dev/null)
        case $state in '' | Z*) break ;; esac
        sleep 0.2
    done
    case $state in '' | Z*) ;; *) say_bad "$(basename "$file") still runs" ;; esac
done
for when in at_once at_work at_run; do
    [ -s "$STUB_PIDS/child-hangs_$when" ] || say_bad "the peer that hangs $when had no child"
done

# As text, without any peer; and what is no work.
peers
run 0 --works "$conv"
grep -q '^conv MobileNet-v2 dw3x3/2 576-576 @14 ' "$work/out" || say_bad "no row"
grep -q '^absent .*onnxruntime, onednn' "$work/out" || say_bad "absent peers are not told"
run 2 --works nosuch
grep -q "no work's name has 'nosuch'" "$work/err" || say_bad "no word about the pattern"
run 2 --works '('

[ "$bad" -eq 0 ]
