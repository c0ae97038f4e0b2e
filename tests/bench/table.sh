# shellcheck shell=sh
# What the scripts share that compare ways of storing a model and put a table into the top README. To be sourced by
# `. tests/bench/table.sh` in the repository's root, with the script's words as arguments: [--write] MODEL.gguf.
#
# Sets model, qdot (of QDOT_BUILD_DIR, default build), work (a folder that goes away at the end), keep (of KEEP, default
# work) and write (empty, or yes).
# shellcheck disable=SC2034 # others use them
qdot=${QDOT_BUILD_DIR:-build}/qdot
write=
[ "${1:-}" != --write ] || {
    write=yes
    shift
}
if [ $# -ne 1 ] || [ ! -f "$1" ]; then
    echo "usage: sh $0 [--write] MODEL.gguf" >&2
    exit 2
fi
model=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
keep=${KEEP:-$work}

# number FILE EXPRESSION: of the JSON object o in a file.
number() {
    python3 -c 'import json, sys; o = json.load(open(sys.argv[1])); print(eval(sys.argv[2]))' "$1" "$2"
}

# into FILE COMMAND…: its output becomes the file when it succeeds; its standard error is only shown where it fails.
into() {
    target=$1
    shift
    "$@" >"$work/output" 2>"$work/log" || {
        cat "$work/log" >&2
        exit 1
    }
    mv "$work/output" "$target"
}

# take_texts BYTES: sets text, which models are judged by (of TEXT, default: so many bytes of licenses that every Debian has), and
# calibration, which is not among them (of CALIBRATION, default: the topics of Python's help), and their names.
take_texts() {
    text=${TEXT:-$work/text}
    text_name=${TEXT:-"GPL-3 and the beginning of GFDL-1.3 (/usr/share/common-licenses), $1 bytes"}
    [ -n "${TEXT:-}" ] || (cd /usr/share/common-licenses && cat GPL-3 GFDL-1.3) | head -c "$1" >"$text"
    calibration=${CALIBRATION:-$work/calibration}
    calibration_name=${CALIBRATION:-"the topics of Python's help (pydoc_data.topics)"}
    [ -n "${CALIBRATION:-}" ] ||
        python3 -c 'import pydoc_data.topics as t; print("\n".join(t.topics[k] for k in sorted(t.topics)))' >"$calibration"
}

# put_table NAME: prints $work/table; with --write it takes the place of what stands between the marks NAME in the README.
put_table() {
    cat "$work/table"
    [ -z "$write" ] || {
        awk -v table="$work/table" -v name="$1" '
            $0 == "<!-- " name " end -->" { skip = 0 }
            !skip { print }
            $0 == "<!-- " name " begin -->" { while ((getline line <table) > 0) print line; skip = 1 }' \
            README.md >"$work/README.md"
        cp "$work/README.md" README.md
    }
}
