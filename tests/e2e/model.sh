# shellcheck shell=sh disable=SC2034
# What tests of a real model (QDOT_TEST_MODEL) from the command line share. To be sourced; ends the test where there is none.
# Sets qdot, m (the model) and work (a folder that goes away at the end); bad counts what failed.
qdot=${QDOT_BUILD_DIR:?is the build folder}/qdot
if [ -z "${QDOT_TEST_MODEL:-}" ]; then
    echo "skipped: QDOT_TEST_MODEL names no model (sh host/fetch_model.sh)"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0

say_bad() {
    echo "FAILED: $1"
    head -n 5 "$work/out" "$work/err"
    bad=$((bad + 1))
}

# run CODE NAME qdot-words…: the output goes to NAME, too.
run() {
    wanted=$1
    name=$2
    shift 2
    "$qdot" "$@" >"$work/out" 2>"$work/err" </dev/null
    got=$?
    [ "$got" -eq "$wanted" ] || say_bad "qdot $*: exit code $got, not $wanted"
    cp "$work/out" "$work/$name"
}

# holds EXPRESSION NAME…: an expression over the JSON objects o[0], o[1]… in the named outputs.
holds() {
    expression=$1
    shift
    (cd "$work" && python3 -c "
import json, sys
o = [json.load(open(n)) for n in sys.argv[1:]]
sys.exit(not ($expression))" "$@") >/dev/null 2>&1 || say_bad "not true of $*: $expression"
}

m=$QDOT_TEST_MODEL
