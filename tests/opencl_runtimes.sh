#!/bin/sh
# Installs Intel's OpenCL runtimes from PyPI, beside PoCL, and prints what makes them visible:
#
#   eval "$(sh tests/opencl_runtimes.sh)"             the FPGA emulator and the CPU runtime of the same version, 2025.0.5
#   eval "$(sh tests/opencl_runtimes.sh --newest)"    a newer CPU runtime alone: it has the packed dot product
#
# --installed: installs nothing, prints what is there already. Standard output is for the shell, messages go to standard
# error. What cannot be had (another machine than x86-64, no network) is named and left out; the exit status is still 0.
# Folder: $XDG_CACHE_HOME/qdot/opencl, else ~/.cache/qdot/opencl (1.9 GB). Deleting it removes everything.
#
# Why two: the emulator ends with 2025.0.5. All three of PoCL, the CPU runtime 2026.1.2 and that emulator can be opened in
# one process (libtbb.so.12 is then loaded once), but both of Intel's compilers move integer divisions out of their
# conditions and count on their own handler of SIGFPE, and the handler of the version that is opened later stops the
# process over the divisions of the other. Of one version they work together, in any order. Without LD_LIBRARY_PATH
# the loader shows none of them.
#
# Not 2026.2.0: for processors with AVX-512 it compiles matmul_int to an instruction that none of them knows (a vpcmpeqd in
# EVEX form with a vector register as its result: SIGILL; not so with CL_CONFIG_CPU_TARGET_ARCH=core-avx2). 2025.0.5,
# 2025.3.3 and 2026.1.2 compile it rightly.
#
# 2025.0.5 takes CPUs newer than itself ("Unknown host CPU") for ones without AVX, and its compiler then ends the process over
# conversions of 16 floats to bytes ("Do not know how to split the result of this operator!", on Zen 5). Where there is
# AVX-512 it is told so.
set -eu

install=yes
newest=
for word; do
    case $word in
    --installed) install= ;;
    --newest) newest=yes ;;
    *)
        echo "usage: eval \"\$(sh tests/opencl_runtimes.sh [--newest] [--installed])\"" >&2
        exit 2
        ;;
    esac
done

root=${XDG_CACHE_HOME:-$HOME/.cache}/qdot/opencl

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

# runtime NAME FOLDER packages…: installs; false when it is absent.
runtime() {
    name=$1
    folder=$root/$2
    shift 2
    if [ -f "$folder/installed" ] && [ "$(cat "$folder/installed")" = "$*" ]; then
        return 0
    elif [ -z "$install" ]; then
        echo "opencl_runtimes.sh: $name is not installed (sh tests/opencl_runtimes.sh installs it)" >&2
        return 1
    fi
    echo "Installing $name into $folder (about 1 GB there)" >&2
    fetch "$folder" "$@" && return 0
    echo "opencl_runtimes.sh: $name is absent: pip could not install $*" >&2
    return 1
}

# quoted TEXT: as one word of the shell.
quoted() {
    printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"
}

# show FOLDER LIBRARIES…: for the shell.
show() {
    lib=$root/$1/lib
    shift
    icds=
    for library; do
        icds=${icds:+$icds:}$lib/$library
    done
    echo "export OCL_ICD_FILENAMES=$(quoted "$icds")"
    echo "export LD_LIBRARY_PATH=$(quoted "$lib")\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
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

emulator() {
    runtime "Intel's FPGA emulator with its CPU runtime" fpga-emulator-2025.0.5 \
        intel-opencl-fpga-emu-rt==2025.0.5 intel-opencl-rt==2025.0.5 intel-cmplr-lib-rt==2025.0.5
}
cpu() {
    runtime "Intel's newer CPU runtime" cpu-2026.1.2 intel-opencl-rt==2026.1.2 intel-cmplr-lib-rt==2026.1.2
}

have_emulator=
have_cpu=
if [ -n "$install" ] || [ -z "$newest" ]; then emulator && have_emulator=yes; fi
if [ -n "$install" ] || [ -n "$newest" ]; then cpu && have_cpu=yes; fi
if [ -n "$newest" ]; then
    [ -z "$have_cpu" ] || show cpu-2026.1.2 libintelocl.so
else
    if [ -n "$have_emulator" ]; then
        show fpga-emulator-2025.0.5 libintelocl.so libintelocl_emu.so
        ! grep -qw avx512vl /proc/cpuinfo || echo "export CL_CONFIG_CPU_TARGET_ARCH=skx"
    fi
fi
