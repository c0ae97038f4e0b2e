#!/bin/sh
# What the include roots of host/CMakeLists.txt cannot express: no way around them by "../", and kernels and the command
# line include only what they may. Also keeps over-long files and unclean scripts out.
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: >"$work/bad"

# none WHAT: standard input must be empty.
none() {
    found=$(cat)
    [ -z "$found" ] || printf '%s:\n%s\n' "$1" "$found" >>"$work/bad"
}

grep -rnE '#[[:space:]]*include[[:space:]]*"(\.\./|/)' hls host kernels_cl sim tests --include='*.[ch]' --include='*.cl' --include='*.def' |
    none "includes by a path out of the folder"
grep -rhoE '#[[:space:]]*include[[:space:]]*[<"][^>"]*' kernels_cl --include='*.cl' --include='*.h' | sed 's/.*[<"]//' | sort -u |
    while read -r header; do
        [ -f "kernels_cl/$header" ] && continue
        case $header in qdot_blocks.h | qdot_num.h | qdot_params.h | qdot_unary.def) ;; *) echo "$header" ;; esac
    done | none "kernels include more than kernels_cl, qdot_blocks.h, qdot_num.h, qdot_params.h and qdot_unary.def"
grep -rnE '#[[:space:]]*include[[:space:]]*"' host/cli | grep -vE '"(qdot/qdot(_calibration|_codebook|_fpga|_methods|_minifloat|_packing|_quant|_safetensors|_sensitivity|_sim|_tuning)?\.h|cli/[a-z_]*\.(h|def))"' |
    none "the command line includes more than the public headers"
grep -rnE '#[[:space:]]*include[[:space:]]*"' host/examples | grep -vE '"(qdot/qdot(_quant)?\.h|[a-z_]*\.h)"' |
    none "an example includes more than the public headers"
find hls host kernels_cl sim tests \( -name '*.[ch]' -o -name '*.cl' -o -name '*.sh' \) -exec wc -l {} + | awk '$2 != "total" && $1 > 700' |
    none "files of more than 700 lines"
if command -v shellcheck >/dev/null; then
    find hls host sim tests .ci \( -name '*.sh' -o -path .ci/run \) -exec shellcheck {} + | none "shellcheck"
else
    echo "(shellcheck is not installed: scripts were not checked)"
fi
cat "$work/bad"
[ ! -s "$work/bad" ]
