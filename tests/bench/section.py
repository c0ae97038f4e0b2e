"""Makes a section of RESULTS.md of what all.sh measured: section.py FOLDER [--write]."""
import datetime
import json
import os
import re
import statistics
import sys

folder, write = sys.argv[1], "--write" in sys.argv[2:]


def load(name):
    path = os.path.join(folder, name + ".json")
    return json.load(open(path)) if os.path.exists(path) and os.path.getsize(path) else None


works = load("works")
models = {name: load(name) for name in ("q4_1", "q4_1-512", "q4_0", "q4_0-512", "avx2-128", "avx2-512")}
first, share, host = load("first"), load("share"), load("host")
out = []


def parts(o, kind):
    return [w for w in o["works"] if w["kind"] == kind]


def summary(o, kind, peer):
    return next((s for s in o["summary"] if s["kind"] == kind and s["peer"] == peer), None)


def ratio(work, peer):
    p = next((p for p in work["peers"] if p["name"] == peer), {})
    if "ratio" not in p:
        return None
    r = p["ratio"]
    return f"{r['median']:.2f} ({r['least']:.2f} … {r['most']:.2f}){'*' if p['differs'] else ''}"


def least_ratio(work, peers):
    """To the fastest of some peers; None where none did the work."""
    return min((p["ratio"]["median"] for p in work["peers"] if p["name"] in peers and "ratio" in p), default=None)


def table(head, rows):
    out.append("")
    out.append("| " + " | ".join(head) + " |")
    out.append("|" + "|".join("---" if i == 0 else "---:" for i in range(len(head))) + "|")
    out.extend("| " + " | ".join(r) + " |" for r in rows)


def aims():
    rows = []
    for kind, peers, aim, words in (
            ("gemm", ("onnxruntime", "onednn"), "1.2, none below 0.8", "int8 GEMM, the better of ONNX Runtime and oneDNN"),
            ("conv", ("onnxruntime",), "1.0", "int8 conv2d, ONNX Runtime")):
        ratios = sorted((least, w["name"]) for w in parts(works, kind) if (least := least_ratio(w, peers)))
        if ratios:
            mean = statistics.geometric_mean(r for r, _ in ratios)
            below = sum(r < 0.8 for r, _ in ratios)
            text = f"{mean:.2f}, {below} of {len(ratios)} below 0.8, least {ratios[0][0]:.2f} ({ratios[0][1]})"
            rows.append((words, aim, text))
    gemv = parts(works, "gemv")
    if gemv:
        shares = [w["of_roof"] for w in gemv]
        rows.append(("GEMV, share of the read bandwidth", "95 %", f"{100 * min(shares):.0f} … {100 * max(shares):.0f} %"))
    either = "5 (VNNI), 2 (AVX2)"
    for name, kind, aim in (("q4_1", "generate", "2"), ("q4_0", "generate", "2"), ("q4_1", "prompt", either),
                            ("q4_1-512", "prompt", either), ("q4_0", "prompt", either), ("q4_0-512", "prompt", either),
                            ("avx2-128", "prompt", "2"), ("avx2-512", "prompt", "2")):
        for w in parts(models[name], kind) if models[name] else []:
            rate = w["tokens"] / w["seconds"]["median"]
            title = "Q4_1, both with AVX2 alone," if name.startswith("avx2") else name[:4].upper()
            rows.append((f"SmolLM2 {title} {w['name']}, llama.cpp", aim,
                         f"{ratio(w, 'llama.cpp') or 'no peer'}; {rate:.0f} tokens/s"))
    if first:
        rows.append((f"start to first token, prompt of {first['tokens']}", "0.4 s", f"{statistics.median(first['seconds']):.2f} s"))
    if share:
        rows.append(("of a generated token's time the host's thread is at work itself", "below 5 %",
                     f"{100 * statistics.median(share['shares']):.1f} %"))
    for o, kind, peer in ((works, "network", "onnxruntime+qdot"), (works, "network", "tflite+qdot"),
                          (models["q4_1"], "generate", "llama.cpp+qdot"), (models["q4_1"], "prompt", "llama.cpp+qdot")):
        s = summary(o, kind, peer) if o else None
        if s:
            rows.append((f"{kind} in {peer.split('+')[0]} by the plug-in, share of qdot's own speed", "95 %",
                         f"{100 / s['geometric_mean']:.0f} %"))
    s = summary(works, "sgemm", "clblast")
    if s:
        rows.append(("floats, CLBlast on the same device", "", f"{s['geometric_mean']:.2f}, least {s['least']:.2f}"))
    if host:
        rows.append(("instructions of the host for a token", "", f"{host['per_token']:,} ({host['words']})"))
    table(("work, next to", "aim", "reached: median (least … most)"), rows)


def all_works(kind):
    names = [p["name"] for p in works["peers"] if summary(works, kind, p["name"])]
    rows = []
    for w in parts(works, kind):
        s = w["seconds"]["median"]
        rows.append([w["name"].split(" ", 1)[1], f"{1e6 * s:.0f}", f"{1e-9 * w['operations'] / s:.0f}",
                     f"{100 * w['of_roof']:.0f} %"] + [ratio(w, n) or "-" for n in names])
    if rows:
        table([kind, "us", "GOP/s", "of roof"] + names, rows)


machine = works["machine"]
heading = f"## Peers: {machine['processor']}, {machine['processors']} processors"
out.append(heading)
out.append("")
peers = ", ".join(f"{p['name']} {p['version']}" + (" (gone)" if "gone" in p else "") for p in works["peers"])
everything = [w for o in [works] + list(models.values()) if o for w in o["works"]]
others = [w["others"] for w in everything if "others" in w]
date = datetime.date.fromtimestamp(os.path.getmtime(os.path.join(folder, "works.json"))).isoformat()
roof = works["roof"]
out.append(f"{machine['features']}; caches {machine['caches']}; device {works['name']}, {works['threads']} threads; {date}.")
out.append(f"Roofs of the run: {roof['memory_gb_per_s']:.1f} GB/s, {roof['codes_gop_per_s']:.0f} GOP/s ({roof['codes_by']}), "
           f"{roof['floats_gflop_per_s']:.0f} GFLOP/s ({roof['floats_by']}).")
out.append(f"Peers: {peers}." + (f" Absent: {works['absent']}." if works["absent"] else ""))
if others:
    out.append(f"Other programs used {100 * statistics.median(others):.0f} % of the cores, at most {100 * max(others):.0f} %."
               + (" **Not a quiet run: the ratios say little.**" if statistics.median(others) > 0.1 else ""))
aims()
for kind in ("gemm", "conv", "network", "gemv", "sgemm"):
    all_works(kind)
section = "\n".join(out) + "\n"
print(section)
if write:
    path = os.path.join(os.path.dirname(__file__), "RESULTS.md")
    text = open(path).read()
    old = re.search(re.escape(heading) + r"\n.*?(?=^## |\Z)", text, re.S | re.M)
    text = text.replace(old.group(0), section + "\n" if old.end() < len(text) else section) if old else text + "\n" + section
    open(path, "w").write(text)
