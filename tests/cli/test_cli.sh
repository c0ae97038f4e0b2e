#!/bin/sh
# The command line as a user meets it: help, bad input, exit codes, messages, JSON. Bad input gives exit code 2 and one
# line on standard error; nothing on standard output.
set -u
. tests/cli/commands.sh

# ---- Help ----
run 0 --help
prints "usage: qdot COMMAND"
commands=$(sed -n '/^commands:/,/^$/s/^  \([a-z]*\) .*/\1/p' "$work/out" | grep -v '^help$')
for known in devices inspect tokenize run logits perplexity calibrate compare verify bench; do
    echo "$commands" | grep -qx "$known" || say_bad "qdot --help does not list $known"
done
for command in $commands; do
    run 0 "$command" --help
    prints "usage: qdot $command"
    prints "--help"
    cp "$work/out" "$work/help"
    run 0 help "$command"
    cmp -s "$work/out" "$work/help" || say_bad "qdot help $command and qdot $command --help differ"
    fails "--no-such-option" "$command" --no-such-option
    fails "unexpected word" "$command" a b c d
done
run 0 --version
prints "qdot "
run 2
grep -q "usage: qdot COMMAND" "$work/err" || say_bad "qdot without words tells no usage"

# ---- Commands and options ----
fails "did you mean 'devices'" devcies
fails "did you mean 'run'" rum
fails "did you mean 'verify'" help verfy
fails "-Z" run -Z
fails "needs a value" run -m
fails "needs a value" run --prompt
fails "no model was given" run -p x
fails "no model was given" logits --tokens 1
fails "from 0 to" run -n -1
fails "not 'many'" run -n many
fails "not '1e999'" run --temp 1e999
fails "not 'nan'" run --temp nan
fails "not '12Q'" run --memory 12Q
fails "not '-1'" run --memory -1
fails "not '99999999999999999999G'" run --memory 99999999999999999999G
fails "a8" run --activations int3
fails "either -p or -f" run -p x -f y
fails "--chat" run -p x --system y
fails "need -p or -f" run --json
fails "either -p TEXT or --tokens" logits
fails "either -p TEXT or --tokens" logits -p x --tokens 1
for list in '1,' ',1' '1,,2' x 1.5 -1 99999999999 '1;2' ''; do
    fails "looks like 1,2,3" logits --tokens "$list"
done
fails "no text was given" perplexity
fails "from 2 to" perplexity --ctx 1
fails "from 1 to" verify --cases 0

# ---- Files that are no models ----
: >"$work/empty"
head -c 4096 "$qdot" >"$work/foreign"
printf 'GGUF\003\000\000\000' >"$work/short"
mkdir "$work/folder"
for command in "run -p x" "logits --tokens 1" "inspect" "tokenize -p x"; do
    for file in "$work/none" "$work/empty" "$work/foreign" "$work/short" "$work/folder"; do
        # $command is a list of words.
        # shellcheck disable=SC2086
        fails "$file" $command -m "$file"
    done
done
fails "$work/none" run -m x -f "$work/none"
fails "$work/none" perplexity -m x -f "$work/none"
fails "$work/folder" perplexity -m x -f "$work/folder"

# ---- Devices ----
run 0 devices --brief
prints "ref"
run 0 devices --json
is_json
json 'all(k["verdict"] in ("passed", "unavailable") for d in o["devices"] for k in d["kernels"])'
json 'all(d["kernels"] for d in o["devices"] if d["usable"] and d["id"] != "ref")'
json 'o["devices"][0]["id"] == "ref" and o["devices"][0]["usable"]'
json 'all(d["usable"] or d["why"] for d in o["devices"])'
fails "nosuch" verify --device nosuch
fails "nosuch" verify --device opencl:nosuch
run 0 verify --device ref --cases 2 --json
is_json
json 'o["devices"][0]["different"] == 0 and o["devices"][0]["cases"] > 0'

# A full disk is a failure.
if [ -w /dev/full ]; then
    "$qdot" devices --brief >/dev/full 2>"$work/err"
    [ $? -eq 2 ] || say_bad "qdot devices >/dev/full succeeded"
fi

[ "$bad" -eq 0 ]
