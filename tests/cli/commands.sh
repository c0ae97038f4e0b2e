#!/bin/sh
# Read by the tests here: runs qdot and looks at what it gives. $bad counts what was not as it should be.
qdot=${QDOT_BUILD_DIR:?is the build folder}/qdot
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0

say_bad() {
    echo "FAILED: $1"
    sed 's/^/    stdout: /' "$work/out" | head -n 5
    sed 's/^/    stderr: /' "$work/err" | head -n 5
    bad=$((bad + 1))
}

# run CODE qdot-words…: runs and checks the exit code.
run() {
    wanted=$1
    shift
    "$qdot" "$@" >"$work/out" 2>"$work/err" </dev/null
    got=$?
    what="qdot $*"
    [ "$got" -eq "$wanted" ] || say_bad "$what: exit code $got, not $wanted"
}

# fails WORDS-IN-THE-MESSAGE qdot-words…: exit code 2, nothing on standard output, one "qdot: " line that has the words.
fails() {
    words=$1
    shift
    run 2 "$@"
    [ ! -s "$work/out" ] || say_bad "$what: wrote to standard output"
    [ "$(wc -l <"$work/err")" -eq 1 ] || say_bad "$what: not one line on standard error"
    grep -q '^qdot: ' "$work/err" || say_bad "$what: the message does not start with 'qdot: '"
    grep -qF -- "$words" "$work/err" || say_bad "$what: the message lacks '$words'"
}

# prints WORDS: the last standard output has them.
prints() {
    grep -qF -- "$1" "$work/out" || say_bad "$what: the output lacks '$1'"
}

# lacks WORDS: the last standard output does not have them.
lacks() {
    if grep -qF -- "$1" "$work/out"; then say_bad "$what: the output has '$1'"; fi
}

# is_json: the last standard output is one JSON object.
is_json() {
    python3 -c 'import json, sys; sys.exit(not isinstance(json.load(sys.stdin), dict))' <"$work/out" 2>/dev/null ||
        say_bad "$what: not one JSON object"
}

# json EXPRESSION: the expression over the last output's object `o` is true.
json() {
    python3 -c "import json, sys; o = json.load(sys.stdin); sys.exit(not ($1))" <"$work/out" 2>/dev/null ||
        say_bad "$what: not true: $1"
}
