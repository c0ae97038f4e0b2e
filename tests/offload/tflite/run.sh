#!/bin/sh
# The plug-in in LiteRT: `sh tests/offload/tflite/run.sh [--long]`, at the repository's root; the build folder is in
# QDOT_BUILD_DIR. --long: more random cases, damaged models, and a bound for the time that the plug-in adds.
set -eu
long=
case "${1:-}" in
--long) long=yes ;;
"") ;;
*)
    echo "usage: sh tests/offload/tflite/run.sh [--long]" >&2
    exit 2
    ;;
esac
here=tests/offload/tflite
venv=${XDG_CACHE_HOME:-$HOME/.cache}/qdot/offload/tflite/venv
if [ ! -f "$venv/complete" ]; then
    echo "LiteRT is not in $venv; \`sh host/offload/setup.sh tflite\` brings it"
    exit 77
fi
if [ ! -f "${QDOT_BUILD_DIR:?is not set}/libqdot_tflite.so" ]; then
    echo "libqdot_tflite.so is not in $QDOT_BUILD_DIR; configure with -DQDOT_OFFLOAD=ON and build"
    exit 77
fi
# Python is not built for the sanitizers: their library must be there first.
if ldd "$QDOT_BUILD_DIR/libqdot_tflite.so" | grep -q libasan; then
    echo "a sanitizer build cannot be loaded by Python"
    exit 77
fi
PYTHONPATH=$PWD/tests/offload
PYTHONDONTWRITEBYTECODE=1
export PYTHONPATH PYTHONDONTWRITEBYTECODE
failed=0

# try DEVICE program words…
try() {
    echo "== $*"
    device=$1
    program=$2
    shift 2
    QDOT_DEVICE=$device "$venv/bin/python" "$here/$program" "$@" || failed=$((failed + 1))
}

chosen=${QDOT_DEVICE:-opencl}
if [ "$long" ]; then
    try "$chosen" test_operators.py 1000
    try "$chosen" test_models.py
    try "$chosen" test_verify.py
    try "$chosen" test_bad.py
    try ref fuzz_models.py 2000
    try ref test_operators.py 50
    try ref test_models.py
    try "$chosen" bench.py 5
else
    try "$chosen" test_operators.py 20
    try "$chosen" test_models.py
    try "$chosen" test_verify.py
    try "$chosen" test_bad.py
    try ref fuzz_models.py 100
fi
[ "$failed" -eq 0 ]
