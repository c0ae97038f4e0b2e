#!/bin/sh
# Writes the generated parts of sim/MODEL.md, each between "<!-- begin COMMAND -->", which says what makes it, and
# "<!-- end -->": `sh sim/model.sh [--check]`. With --check nothing is written, and a difference is a failure.
# $QDOT_BUILD_DIR is the build folder (default: build).
set -eu
cd "$(dirname "$0")/.."
qdot=${QDOT_BUILD_DIR:-build}/qdot
file=sim/MODEL.md
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

skip=
while IFS= read -r line; do
    case $line in
    '<!-- end -->') skip= ;;
    esac
    [ -n "$skip" ] || printf '%s\n' "$line"
    case $line in
    '<!-- begin qdot '*)
        words=${line#<!-- begin qdot }
        # shellcheck disable=SC2086 # the words of a command
        "$qdot" ${words% -->}
        skip=yes
        ;;
    esac
done <"$file" >"$work/new"

if [ "${1:-}" = --check ]; then
    diff "$file" "$work/new"
else
    cat "$work/new" >"$file"
fi
