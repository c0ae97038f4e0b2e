#!/bin/sh
# Brings what the TensorFlow Lite plug-in is built and tested with, from packages: the C headers of Debian's
# libtensorflow-lite-dev (sid has it: an apt state directory of our own is pointed at the mirror that this machine uses)
# into include/, and LiteRT for Python into venv/.
set -eu
litert=2.3.0
package=libtensorflow-lite-dev
suite=sid
there=${XDG_CACHE_HOME:-$HOME/.cache}/qdot/offload/tflite
mkdir -p "$there"

say() {
    echo "tflite/setup.sh: $*" >&2
}

work=
clean() {
    [ -z "$work" ] || rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM HUP

# The address of a Debian mirror, and the keyring that its packages are checked with: of the machine's own sources.
mirror() {
    cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
        sed -n 's/^deb  *\(\[[^]]*\] *\)\{0,1\}\([^ ]*\/debian\)\/\{0,1\} .*/\2/p'
    cat /etc/apt/sources.list.d/*.sources 2>/dev/null | sed -n 's/^URIs: *\([^ ]*\/debian\)\/\{0,1\} *$/\1/p'
}

headers() {
    if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
        say "needs apt-get and dpkg; elsewhere put TensorFlow Lite's headers (tensorflow/lite/...) into $there/include"
        exit 1
    fi
    url=$(mirror | head -n 1)
    if [ -z "$url" ]; then
        say "no Debian mirror among this machine's apt sources; put TensorFlow Lite's headers into $there/include"
        exit 1
    fi
    say "fetching the headers of $package from Debian $suite"
    work=$(mktemp -d "$there/new.XXXXXX")
    mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial" "$work/include"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $url $suite main" >"$work/sources.list"
    : >"$work/status"
    cat >"$work/apt.conf" <<END
Dir::State "$work/state";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Sandbox::User "";
Acquire::Languages "none";
END
    if ! (cd "$work" && export APT_CONFIG="$work/apt.conf" && apt-get update -q && apt-get download -q "$package") \
        >"$work/log" 2>&1 || ! dpkg -x "$work/$package"_*.deb "$work/all" 2>>"$work/log"; then
        cat "$work/log" >&2
        say "apt could not bring $package of Debian $suite (its words stand above): check the network, then repeat"
        exit 1
    fi
    # Only the C headers; their own includes are relative to include/.
    (cd "$work/all/usr/include" && tar -cf - tensorflow/lite/builtin_ops.h tensorflow/lite/c/*.h \
        tensorflow/lite/core/c/*.h tensorflow/lite/core/async/c/*.h) | tar -xf - -C "$work/include"
    rm -rf "$there/include"
    mv "$work/include" "$there/include"
    rm -rf "$work"
    work=
}

host() {
    say "installing ai-edge-litert $litert into $there/venv"
    rm -rf "$there/venv"
    # A virtual environment cannot be moved, so the mark is what says that it is complete.
    if ! { python3 -m venv "$there/venv" && "$there/venv/bin/pip" install "ai-edge-litert==$litert" numpy flatbuffers; } \
        >"$there/pip.log" 2>&1; then
        cat "$there/pip.log" >&2
        say "pip could not install ai-edge-litert $litert (its words stand above); it needs Python 3.10 or newer with venv"
        exit 1
    fi
    rm -f "$there/pip.log"
    echo "$litert" >"$there/venv/complete"
}

[ -f "$there/include/tensorflow/lite/core/c/common.h" ] || headers
[ "$(cat "$there/venv/complete" 2>/dev/null)" = "$litert" ] || host
