#!/usr/bin/env python3
"""Faults in the Verilog of hls/rtl (mutate.py), of which the test bench must find 95 in 100.

mutants.py COUNT [SEED]    COUNT of them at random, the same ones for the same seed (default: 1); 0: all
mutants.py --at N...       those with these numbers (mutate.py lists them)

Each is verilated in the shape `narrow` of shapes.def, if that misses it in `wide`, and put before rtl_test_unit and
rtl_test_cycles of the build in QDOT_BUILD_DIR (default: build). One that does not compile, or changes nothing (the rules
of equivalent.txt, each with its argument), does not count. Needs Verilator and a C++ compiler; exit status 77 without."""
import concurrent.futures
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import mutate  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
RTL = os.path.join(ROOT, "hls", "rtl")
BUILD = os.path.abspath(os.environ.get("QDOT_BUILD_DIR", os.path.join(ROOT, "build")))
# Few enough to be quick, enough for every part of the unit to work under stalls.
TESTS = [["rtl_test_cycles", "6"], ["rtl_test_unit", "120"]]
SHAPES = ["narrow", "wide"]
JOBS = 2


class Broken(Exception):
    """A fault that no tool compiles."""


def limit():
    """A unit that never ends is stopped, by its own time, so that a busy machine makes no fault look found."""
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))


def run(command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def compile_all(command):
    done = run(command)
    if done.returncode:
        raise Broken(done.stdout + done.stderr)


class Bench:
    """What all faults share: flags, the compiled runtime of Verilator, the parameters of shapes."""

    def __init__(self, work):
        self.work = work
        include = run(["verilator", "--getenv", "VERILATOR_ROOT"]).stdout.strip() or "/usr/share/verilator"
        include = os.path.join(include, "include")
        self.flags = ["-std=c++17", "-O1", "-fPIC", "-w", f"-I{include}", f"-I{include}/vltstd", "-Ihost"]
        self.runtime = []
        for name in ("verilated", "verilated_threads"):
            self.runtime.append(os.path.join(work, name + ".o"))
            compile_all(["c++", *self.flags, "-c", os.path.join(include, name + ".cpp"), "-o", self.runtime[-1]])
        with open(os.path.join(HERE, "shapes.def"), encoding="utf-8") as f:
            self.shapes = dict(re.findall(r'^QD_SHAPE\((\w+), "(.*)"\)$', f.read(), re.M))

    def library(self, rtl, shape, out):
        """Verilates a shape of the Verilog in folder `rtl`, in folder `out`; the path of a shared library with it."""
        name = "Vrtl_" + shape
        parameters = ["-G" + p for p in self.shapes[shape].split()]
        compile_all(["verilator", "--cc", "-O3", "--x-assign", "unique", "--x-initial", "unique", "-Wno-lint", *parameters,
                     "--prefix", name, "--top-module", "qd_matmul", "--Mdir", out, "-I" + rtl, rtl + "/qd_matmul.v"])
        sources = sorted(f for f in os.listdir(out) if f.endswith(".cpp"))
        with open(os.path.join(out, "all.cc"), "w", encoding="utf-8") as f:
            f.writelines(f'#include "{s}"\n' for s in sources)
            f.write(f'#define RTL_CLASS {name}\n#define RTL_MODEL rtl_{shape}\n#include "rtl/model.cpp"\n')
        library = out + ".so"
        compile_all(["c++", *self.flags, f"-I{out}", "-shared", out + "/all.cc", *self.runtime, "-o", library, "-lpthread",
                     "-latomic"])
        return library

    def finds(self, rtl):
        """What the test bench says of the Verilog in a folder: the first failure, or None."""
        for shape in SHAPES:
            library = self.library(rtl, shape, os.path.join(os.path.dirname(rtl), shape))
            for program, amount in TESTS:
                done = subprocess.run([os.path.join(BUILD, "tests", "rtl", program), amount], cwd=ROOT, check=False,
                                      capture_output=True, text=True, preexec_fn=limit,
                                      env={**os.environ, "QDOT_RTL_MODELS": library})
                if done.returncode:
                    failures = [line for line in done.stdout.splitlines() if ":F:" in line or ":E:" in line]
                    return f"{program}: {failures[0] if failures else 'crashed, or no end'}"
        return None

    def verdict(self, number, fault):
        """None: the fault cannot be compiled. Else what found it, or ''."""
        folder = os.path.join(self.work, str(number))
        mutate.write(RTL, fault, os.path.join(folder, "rtl"))
        try:
            return self.finds(os.path.join(folder, "rtl")) or ""
        except Broken:
            return None
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def equivalents():
    """[(file, pattern of the changed line, argument)] of equivalent.txt."""
    rules, argument = [], []
    with open(os.path.join(HERE, "equivalent.txt"), encoding="utf-8") as f:
        for line in f.read().splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line.startswith(" "):
                argument.append(line.strip())
            else:
                argument = []
                rules.append((*line.split(None, 1), argument))
    return [(name, line.strip(), " ".join(words)) for name, line, words in rules]


def choose(args, count):
    if args and args[0] == "--at":
        return [int(n) for n in args[1:]]
    wanted = int(args[0]) if args else 100
    seed = int(args[1]) if len(args) > 1 else 1
    return list(range(count)) if wanted == 0 else random.Random(seed).sample(range(count), min(wanted, count))


def cannot_run():
    """Why nothing can be verilated and tested here, or None."""
    if not shutil.which("verilator") or not shutil.which("c++"):
        return "no Verilator or no C++ compiler: run sh host/setup.sh rtl"
    for program, _ in TESTS:
        if not os.path.exists(os.path.join(BUILD, "tests", "rtl", program)):
            return f"no {program} in {BUILD}: build with -DQDOT_RTL=ON, or set QDOT_BUILD_DIR"
    return None


def main():
    reason = cannot_run()
    if reason:
        print(reason)
        return 77
    faults = list(mutate.all_faults(RTL))
    changed = {(f.file, f.line.strip()) for f in faults}
    rules = equivalents()
    stale = [f"{name} {line}" for name, line, _ in rules if (name, line) not in changed]
    if stale:
        print("equivalent.txt has what mutate.py does not make: " + "; ".join(stale))
        return 1
    arguments = {(name, line): why for name, line, why in rules}
    found, missed, same, broken = 0, [], 0, 0
    with tempfile.TemporaryDirectory() as work, concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        bench = Bench(work)
        what = bench.finds(shutil.copytree(RTL, os.path.join(work, "right", "rtl")))
        if what:
            print("The unit without faults does not pass: " + what)
            return 1

        def judge(n):
            fault = faults[n]
            if (fault.file, fault.line.strip()) in arguments:
                return n, "same"
            return n, bench.verdict(n, fault)

        for n, what in pool.map(judge, choose(sys.argv[1:], len(faults))):
            fault = faults[n]
            if what is None:
                broken += 1
            elif what == "same":
                same += 1
                print(f"{n} {fault}: changes nothing: {arguments[(fault.file, fault.line.strip())]}")
            elif what:
                found += 1
            else:
                missed.append(n)
                print(f"{n} {fault}: MISSED: {fault.line.strip()}")
            if (found + len(missed)) % 20 == 0:
                print(f"... {found} found, {len(missed)} missed", flush=True)
    judged = found + len(missed)
    print(f"{found} of {judged} faults found ({len(faults)} possible; {same} change nothing, {broken} do not compile)")
    return 0 if judged and found * 100 >= judged * 95 else 1


if __name__ == "__main__":
    sys.exit(main())
