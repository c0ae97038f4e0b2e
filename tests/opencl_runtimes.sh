#!/bin/sh
# Installs Intel's OpenCL runtimes from PyPI, beside PoCL, and prints what makes them visible:
#
#   eval "$(sh tests/opencl_runtimes.sh)"
#
# --installed: installs nothing, prints what is there already. Standard output is for the shell, messages go to standard
# error. What cannot be had (another machine than x86-64, no network) is named and left out; the exit status is still 0.
# Folder: $XDG_CACHE_HOME/qdot/opencl, else ~/.cache/qdot/opencl (1.9 GB). Deleting it removes everything.
#
# Two folders because the FPGA emulator ends with version 2025.0.5 and a newer CPU runtime is the one to test. They work
# in one process: PoCL, the CPU runtime 2026.1.2 and the emulator 2025.0.5 are verified in turn by one `qdot verify
# --device all`. Their compilers have different sonames; libtbb.so.12 is loaded only once and should be the newer one,
# hence the order in LD_LIBRARY_PATH. Without LD_LIBRARY_PATH the loader shows neither.
#
# Not 2026.2.0, the newest CPU runtime: for processors with AVX-512 it compiles matmul_int to an instruction that none
# knows (a vpcmpeqd in EVEX form with a vector register as its result, SIGILL; with CL_CONFIG_CPU_TARGET_ARCH=core-avx2
# it does not). 2025.0.5, 2025.3.3 and 2026.1.2 compile it rightly.
set -eu

install=yes
case ${1:-} in
'') ;;
--installed) install= ;;
*)
    echo "usage: eval \"\$(sh tests/opencl_runtimes.sh [--installed])\"" >&2
    exit 2
    ;;
esac

root=${XDG_CACHE_HOME:-$HOME/.cache}/qdot/opencl
icds=
libraries=

# fetch FOLDER packages…: a new virtual environment with these packages. The mark is written last; a folder without it was
# broken off, and pip may take half an installation for a whole one, so it is made anew (from what pip has downloaded).
fetch() {
    folder=$1
    shift
    rm -rf "$folder"
    python3 -m venv --without-pip "$folder" || return 1
    python3 -m pip --python "$folder/bin/python" install -q --disable-pip-version-check --no-compile --retries 2 \
        --only-binary :all: "$@" >&2 || return 1
    echo "$@" >"$folder/installed"
}

# runtime NAME FOLDER LIBRARY packages…
runtime() {
    name=$1
    folder=$root/$2
    library=$folder/lib/$3
    shift 3
    if ! [ -f "$folder/installed" ] || [ "$(cat "$folder/installed")" != "$*" ]; then
        if [ -z "$install" ]; then
            echo "opencl_runtimes.sh: $name is not installed (sh tests/opencl_runtimes.sh installs it)" >&2
            return
        fi
        echo "Installing $name into $folder (about 1 GB there)" >&2
        if ! fetch "$folder" "$@"; then
            echo "opencl_runtimes.sh: $name is absent: pip could not install $*" >&2
            return
        fi
    fi
    if ! [ -f "$library" ]; then
        echo "opencl_runtimes.sh: $name is absent: its packages hold no $library" >&2
        return
    fi
    icds=${icds:+$icds:}$library
    libraries=${libraries:+$libraries:}$folder/lib
}

if [ "$(uname -m)" != x86_64 ] || [ "$(uname -s)" != Linux ]; then
    echo "opencl_runtimes.sh: Intel's runtimes are absent: they are made for Linux on x86-64" >&2
    exit 0
fi

if [ -n "$install" ]; then
    mkdir -p "$root"
    if command -v flock >/dev/null; then # two calls at once must not install into one folder
        exec 9>"$root/lock"
        flock 9
    fi
fi

runtime "Intel's CPU runtime" cpu-2026.1.2 libintelocl.so \
    intel-opencl-rt==2026.1.2 intel-cmplr-lib-rt==2026.1.2
runtime "Intel's FPGA emulator" fpga-emulator-2025.0.5 libintelocl_emu.so \
    intel-opencl-fpga-emu-rt==2025.0.5 intel-opencl-rt==2025.0.5 intel-cmplr-lib-rt==2025.0.5

# quoted TEXT: as one word of the shell.
quoted() {
    printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"
}

if [ -n "$icds" ]; then
    echo "export OCL_ICD_FILENAMES=$(quoted "$icds")"
    echo "export LD_LIBRARY_PATH=$(quoted "$libraries")\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
fi
