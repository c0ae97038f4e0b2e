#!/bin/sh
# The ONNX Runtime plug-in with the real hosts: `sh tests/offload/ort/run.sh [--long]`, from the root of the repository.
# Uses the build folder $QDOT_BUILD_DIR (default: build). Exit status 77: cannot run here.
set -eu
cd "$(dirname "$0")/../../.."

long=
case ${1:-} in
--long) long=yes ;;
"") ;;
*)
    echo "usage: sh tests/offload/ort/run.sh [--long]" >&2
    exit 2
    ;;
esac

QDOT_BUILD_DIR=${QDOT_BUILD_DIR:-build}
case $QDOT_BUILD_DIR in
/*) ;;
*) QDOT_BUILD_DIR=$PWD/$QDOT_BUILD_DIR ;;
esac
export QDOT_BUILD_DIR
if [ ! -f "$QDOT_BUILD_DIR/libqdot_ort_ep.so" ]; then
    echo "libqdot_ort_ep.so is not in $QDOT_BUILD_DIR: configure with -DQDOT_OFFLOAD=ON and build"
    exit 77
fi
sh host/offload/setup.sh ort || {
    echo "The hosts of the tests could not be fetched"
    exit 77
}
place=${XDG_CACHE_HOME:-$HOME/.cache}/qdot/offload/ort
PYTHONPATH=$PWD/tests/offload/ort:$PWD/tests/offload
PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH PYTHONDONTWRITEBYTECODE

failures=0
# run VERSION MODULE words…
run() {
    version=$1
    shift
    echo "== ONNX Runtime $version: $*"
    "$place/host-$version/bin/python" -W ignore -m "$@" || failures=$((failures + 1))
}

for version in 1.23.2 1.31.1; do
    run $version behaviour
    run $version edges
    run $version node_tests
    run $version verify
    if [ -n "$long" ]; then
        run $version single_ops 300 1
        run $version minilm "$place/models"
        run $version ocr "$place/models"
        run $version overhead "$QDOT_BUILD_DIR"
    else
        run $version single_ops 8 1
    fi
done
# One network of each kind in the short suite, too.
if [ -z "$long" ]; then
    run 1.31.1 minilm "$place/models"
    run 1.23.2 ocr "$place/models" det QOperator rec QDQ
fi
echo "$failures of the programs failed"
[ "$failures" -eq 0 ]
