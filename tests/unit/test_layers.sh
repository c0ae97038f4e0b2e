#!/bin/sh
# What the include roots of host/CMakeLists.txt cannot express: no way around them by "../", and kernels and the command
# line include only what they may. Also keeps machine paths and over-long files out.
set -u
bad=0

# none WHAT: standard input must be empty.
none() {
    found=$(cat)
    [ -z "$found" ] && return
    printf '%s:\n%s\n' "$1" "$found"
    bad=1
}

grep -rnE '#[[:space:]]*include[[:space:]]*"(\.\./|/)' host kernels_cl tests --include='*.[ch]' --include='*.cl' --include='*.def' |
    none "includes by a path out of the folder"
grep -rhE '#[[:space:]]*include[[:space:]]*[<"]' kernels_cl --include='*.cl' --include='*.h' |
    grep -vE '"(qdot_blocks\.h|qdot_num\.h|common\.h|decode\.h)"' | none "kernels include more than kernels_cl, qdot_blocks.h and qdot_num.h"
grep -rnE '#[[:space:]]*include[[:space:]]*"' host/cli | grep -vE '"(qdot/qdot\.h|cli/[a-z_]*\.h)"' |
    none "the command line includes more than qdot.h"
find host kernels_cl tests -name '*.[ch]' -o -name '*.cl' -o -name '*.sh' | while read -r f; do
    lines=$(wc -l <"$f")
    [ "$lines" -le 700 ] || echo "$f: $lines"
done | none "files of more than 700 lines"
if command -v shellcheck >/dev/null; then
    find host tests .ci -type f \( -name '*.sh' -o -path .ci/run \) -exec shellcheck {} + | none "shellcheck"
else
    echo "(shellcheck is not installed: scripts were not checked)"
fi
exit "$bad"
