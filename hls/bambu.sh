#!/bin/sh
# One unit through PandA-Bambu: `sh hls/bambu.sh [--run] TOP [DEVICE [CLOCK_NS [OPTION…]]]`, in the repository's root. Prints
# the two commands, or runs them.
#   TOP     a file of hls/ without .c: its function has the same name
#   DEVICE  default xc7z020-1clg484-VVD;  CLOCK_NS  default 5
#   OPTION  shape of the unit, as QD_PE=8 QD_VEC=32 (array.h)
# The source is preprocessed first: Bambu ties a pragma to the function that ends after it in the same file, which it cannot
# tell of pragmas that macros made.
set -eu
cd "$(dirname "$0")/.."
run="echo"
if [ "${1:-}" = --run ]; then
    command -v bambu >/dev/null || {
        echo "bambu.sh: bambu is not on the PATH; install PandA-Bambu, or leave out --run to see the commands" >&2
        exit 1
    }
    run=
    shift
fi
if [ $# -lt 1 ] || [ ! -f "hls/$1.c" ]; then
    echo "usage: sh hls/bambu.sh [--run] TOP [DEVICE [CLOCK_NS [OPTION...]]], TOP being the name of a file hls/TOP.c" >&2
    exit 2
fi
top=$1
device=${2:-xc7z020-1clg484-VVD}
clock=${3:-5}
shift $(($# > 3 ? 3 : $#))
options=
for option; do
    options="$options -D$option"
done
out=build/bambu_$top
$run mkdir -p "$out"
# $options is a list of words.
# shellcheck disable=SC2086
$run cc -std=c99 -E -P -D__BAMBU__ $options -Ihls -Ihost/include/qdot "hls/$top.c" -o "$out/$top.c"
[ -n "$run" ] || cd "$out"
[ -z "$run" ] || echo cd "$out"
$run bambu --std=c99 --top-fname="$top" --generate-interface=INFER --device-name="$device" --clock-period="$clock" -O2 "$top.c"
