"""llama.cpp as a peer of `qdot bench --peers` (README.md has the protocol): llama.py THREADS VERSION LLAMA_BENCH [PLUGIN].

Each turn is a run of llama-bench with as many repetitions; the seconds are those that it tells, without loading. With a
plug-in (libggml-qdot.so), qdot computes instead of ggml's own kernels.
"""
import json
import os
import subprocess
import sys


def main():
    threads, version, program, *plugin = sys.argv[1:]
    environment = dict(os.environ)
    command = [program, "-o", "json"]
    if plugin:
        # The host looks up a token's embedding, no more: threads of its own would only wait, in loops, on qdot's cores.
        environment["GGML_BACKEND_PATH"] = plugin[0]
        command += ["-ngl", "99", "-t", "1"]
    else:
        command += ["-t", threads]
    print(f"qdot-peer 1 llama.cpp{'+qdot' if plugin else ''} {version}", flush=True)
    work = None
    for line in sys.stdin:
        what, *words = line.split()
        if what == "work":
            work = None
            kind, options = words[0], dict(w.split("=", 1) for w in line.split("model=")[0].split() if "=" in w)
            if kind not in ("prompt", "generate"):
                print("cannot", flush=True)
                continue
            n = options["tokens"]
            work = ["-m", line.rstrip("\n").split("model=", 1)[1]]
            work += ["-p", n, "-n", "0"] if kind == "prompt" else ["-p", "0", "-n", n]
            print("ready", flush=True)
        elif what == "run" and work:
            done = subprocess.run(command + work + ["-r", words[0]], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  stdin=subprocess.DEVNULL, text=True, env=environment, check=False)
            if done.returncode:
                sys.stderr.write(done.stderr[-2000:])
                sys.exit(3)
            seconds = sum(json.loads(done.stdout)[0]["samples_ns"]) * 1e-9
            print(f"seconds {seconds:.9f}", flush=True)
        else:
            print("error unknown request", flush=True)


main()
