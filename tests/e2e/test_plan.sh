#!/bin/sh
# `qdot sensitivity`, `qdot plan` and `qdot quantize --plan` with a few tensors of a real model (QDOT_TEST_MODEL): the
# figures agree with those of a model that is quantized so, Ctrl-C and --continue, the budget, and bad input.
set -u
. tests/e2e/model.sh
python3 -c "import pydoc_data.topics as t; print(t.topics['assignment'][:700])" >"$work/text"
tensors='^blk\.0\.(attn_v|ffn_down)\.'

fail() {
    echo "FAILED: $1"
    exit 1
}

# refused WORDS qdot-words…: exit code 2, one line that has the words.
refused() {
    words=$1
    shift
    "$qdot" "$@" >"$work/out" 2>"$work/err"
    [ $? -eq 2 ] || fail "qdot $*: did not fail"
    grep -q -e "$words" "$work/err" || fail "qdot $*: $(cat "$work/err") does not say $words"
}

"$qdot" quantize "$m" "$work/f16.gguf" --format f16 >/dev/null || fail "quantize"
measure() {
    "$qdot" sensitivity -m "$work/f16.gguf" -f "$work/text" --tokens 24 -o "$work/s.json" "$@"
}

# Ctrl-C while the second of sixty is measured, at the sight of the time that is left: the first is in the file, whole, and
# is gone on with.
python3 - "$qdot" "$work" <<'END' || exit 1
import json, os, pty, re, signal, subprocess, sys
qdot, work = sys.argv[1:]
terminal, inside = pty.openpty()
words = [qdot, "sensitivity", "-m", work + "/f16.gguf", "-f", work + "/text", "--tokens", "24", "-o", work + "/s.json",
         "--tensors", r"\.(attn_v|ffn_down)\.", "--format", "q4_0"]
run = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=inside)
os.close(inside)
told, sent = b"", False
while True:
    try:
        piece = os.read(terminal, 4096)
    except OSError: # it has ended
        break
    if not piece:
        break
    told += piece
    if not sent and re.search(rb"blk\.0\.[a-z_.]* +q4_0 +[0-9]+:[0-9][0-9] left", told):
        run.send_signal(signal.SIGINT)
        sent = True
code = run.wait()
if not sent or code != 2 or b"--continue goes on there" not in told:
    sys.exit(f"FAILED: Ctrl-C {'sent' if sent else 'not sent'}, code {code}: {told[-300:]}")
kept = json.load(open(work + "/s.json"))
count = sum(len(p["results"]) for p in kept["parts"])
if kept["finished"] or not 1 <= count < 60 or len(kept["parts"]) != 60:
    sys.exit(f"FAILED: Ctrl-C left {count} results of {len(kept['parts'])} parts")
if sorted(os.listdir(work)) != ["f16.gguf", "s.json", "text"]:
    sys.exit(f"FAILED: Ctrl-C left {os.listdir(work)}")
END
cp "$work/s.json" "$work/stopped.json"
measure --continue --tensors "$tensors" --format q4_0,q2_k --estimate q8_0,q5_0 --html "$work/page.html" --json >"$work/told" ||
    fail "sensitivity --continue"

"$qdot" plan -s "$work/s.json" --budget 15.95 -o "$work/plan.txt" --json >"$work/planned" || fail "plan"
"$qdot" quantize "$work/f16.gguf" "$work/mixed.gguf" --plan "$work/plan.txt" --json >"$work/made" || fail "quantize --plan"
python3 - "$work" <<'END' || exit 1
import html.parser, json, sys
work = sys.argv[1]
told, planned, made, stopped = (json.load(open(f"{work}/{n}")) for n in ("told", "planned", "made", "stopped.json"))
parts = {p["name"]: {r["format"]: r for r in p["results"]} for p in told["parts"]}
value, down = parts["blk.0.attn_v.weight"], parts["blk.0.ffn_down.weight"]
assert sorted(value) == ["q4_0", "q5_0", "q8_0"] and sorted(down) == ["q2_k", "q4_0", "q5_0", "q8_0"], parts # rows of 576 are not q2_k
assert 0 < down["q8_0"]["kl_divergence"] < down["q5_0"]["kl_divergence"] < down["q4_0"]["kl_divergence"] < down["q2_k"]["kl_divergence"]
assert down["q5_0"]["estimated"] and not down["q2_k"]["estimated"] and told["finished"]
assert down["q4_0"]["bytes_saved"] == 576 * 1536 * (16 - 4.5) / 8
for p in stopped["parts"]: # what was there before Ctrl-C is still there
    for r in p["results"]:
        assert parts[p["name"]][r["format"]]["kl_divergence"] == r["kl_divergence"], p
assert planned["bits_per_weight"] <= 15.95
# What was planned is what the file has.
assert made["bits_per_weight"] == planned["bits_per_weight"], (made["bits_per_weight"], planned["bits_per_weight"])
formats = {t["name"]: t["to"] for t in made["tensors"]}
for p in planned["parts"]:
    assert formats[p["name"]] == ("f16" if p["format"] == "keep" else p["format"]), p

class Page(html.parser.HTMLParser):
    open, bars = [], 0
    def handle_starttag(self, tag, attrs):
        self.bars += tag == "rect" and ("class", "layer") not in attrs
        if tag not in ("meta", "line"):
            self.open.append(tag)
    def handle_startendtag(self, tag, attrs):
        pass
    def handle_endtag(self, tag):
        if self.open.pop() != tag:
            sys.exit(f"FAILED: the page closes {tag} where something else is open")
page = Page()
page.feed(open(work + "/page.html").read())
assert not page.open and page.bars == sum(map(len, parts.values())), (page.open, page.bars)
END

refused "the smallest possible has 1[0-9]\." plan -s "$work/s.json" --budget 3
refused "no plan has a perplexity" plan -s "$work/s.json" --max-ppl 1
refused "qdot sensitivity" plan -s "$work/plan.txt" --budget 4
refused "one of --budget" plan -s "$work/s.json"
refused "same text" sensitivity -m "$work/f16.gguf" -f "$work/plan.txt" --tokens 24 -o "$work/s.json" --continue
refused "from floats" sensitivity -m "$m" -f "$work/text" -o "$work/none.json"
[ ! -e "$work/none.json" ] || fail "a file was written"
for line in 'blk.99.attn_v.weight q4_0:another model' 'blk.0.attn_v.weight q2_k:does not fit' 'a b c:not two words' \
    'blk.0.attn_v.weight q9_9:unknown format' '# nothing:no tensor'; do
    echo "${line%:*}" >"$work/bad.txt"
    refused "${line#*:}" quantize "$work/f16.gguf" "$work/none.gguf" --plan "$work/bad.txt"
    [ ! -e "$work/none.gguf" ] || fail "a file was written"
done
