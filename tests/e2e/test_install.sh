#!/bin/sh
# An installed qdot from outside: headers, pkg-config, the CMake package, the soname, and that only qd_ names are exported.
set -eu
build=${QDOT_BUILD_DIR:?is the build folder}
if nm -D "$build/host/libqdot.so" | grep -q __asan_init; then
    echo "skipped: a library with sanitizers is not for other programs"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
prefix=$work/prefix
cmake --install "$build" --prefix "$prefix" >"$work/log"
# pkg-config tells the prefix of the build; moved elsewhere, it is told the new one.
pc=$(find "$prefix" -name qdot.pc)
lib=$(dirname "$(dirname "$pc")")

cat >"$work/user.c" <<'C'
#include <qdot/qdot.h>
#include <stdio.h>
int main(void) {
    qd_context *c;
    if (qd_context_create("ref", NULL, &c) != QD_OK) return 1;
    puts(qd_context_device(c)->id);
    qd_context_free(c);
    return 0;
}
C
flags=$(PKG_CONFIG_PATH=$(dirname "$pc") pkg-config --define-variable=prefix="$prefix" --cflags --libs qdot)
# $flags is a list of words.
# shellcheck disable=SC2086
cc -std=c11 -Wall -Wextra -pedantic -Werror -o "$work/user" "$work/user.c" $flags
[ "$(LD_LIBRARY_PATH=$lib "$work/user")" = ref ]
"$prefix"/bin/qdot --version | grep -qx "qdot $(PKG_CONFIG_PATH=$(dirname "$pc") pkg-config --modversion qdot)"

mkdir "$work/cmake"
cp "$work/user.c" "$work/cmake"
cat >"$work/cmake/CMakeLists.txt" <<'C'
cmake_minimum_required(VERSION 3.22)
project(user C)
find_package(qdot 0.1 REQUIRED)
add_executable(shared user.c)
target_link_libraries(shared PRIVATE qdot::qdot)
add_executable(static user.c)
target_link_libraries(static PRIVATE qdot::qdot-static)
C
if ! { cmake -S "$work/cmake" -B "$work/cmake/build" -DCMAKE_PREFIX_PATH="$prefix" &&
    cmake --build "$work/cmake/build"; } >>"$work/log" 2>&1; then
    cat "$work/log"
    exit 1
fi
[ "$("$work/cmake/build/shared")" = ref ]
[ "$("$work/cmake/build/static")" = ref ]

so=$(find "$lib" -name 'libqdot.so.*.*.*')
objdump -p "$so" | grep -q 'SONAME *libqdot\.so\.[0-9]*$' || { echo "the soname is wrong" && exit 1; }
other=$(nm -D --defined-only "$so" | awk '$2 != "A" && $3 !~ /^qd_/ {print $3}')
[ -z "$other" ] || { echo "exported, but not ours: $other" && exit 1; }

# The public header alone is a C++ header, too.
if command -v c++ >/dev/null; then
    printf '#include <qdot/qdot.h>\nint main() { return qd_version() == nullptr; }\n' >"$work/user.cc"
    # shellcheck disable=SC2086
    c++ -Wall -Wextra -Werror -fsyntax-only "$work/user.cc" $flags
fi
