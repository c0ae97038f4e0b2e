#!/bin/sh
# Builds qdot, fetches a language model, lets it write, and proves every logit against the C reference:
# `sh host/demo.sh [PROMPT]`. The second run starts at once.
set -eu
cd "$(dirname "$0")/.."
prompt=${1:-Explain in two sentences why the sky is blue.}

sh host/setup.sh
mkdir -p build
[ -x build/qdot ] || echo "Building qdot, once" >&2
# Quiet unless it fails. The tests need packages that a demo does not; a folder that has them keeps them.
tests=-DQDOT_TESTS=OFF
[ ! -f build/CMakeCache.txt ] || tests=
if ! cmake -S . -B build $tests >build/demo.log 2>&1 ||
    ! cmake --build build --target qdot -j "$(nproc)" >>build/demo.log 2>&1; then
    cat build/demo.log >&2
    echo "demo.sh: the build failed (its words stand above)" >&2
    exit 1
fi
model=$(sh host/fetch_model.sh)

printf 'Prompt: %s\n\n' "$prompt"
exec build/qdot run -m "$model" -p "$prompt" --chat --greedy -n 96 --verify
