#!/bin/sh
# `qdot sim report` and the devices sim:BOARD as a user meets them. The page is looked at in Chromium where that is installed.
set -u
. tests/cli/commands.sh

# ---- Text ----
run 0 sim report --help
prints "--network"
run 0 sim report --board KV260 --network mobilenet_v2
prints "mobilenet_v2 on KV260"
prints "frames/s"
prints "uncalibrated"
prints "depthwise 3x3 32, 112x112"
run 0 sim report --board u250 --network cnv --design rows=8,cols=4,lanes=2
prints "8 x 4 x 2 at 300 MHz"

# ---- JSON: everything adds up ----
for board in ULX3S-85F KV260 U250 U280; do
    run 0 sim report --board $board --network resnet18 --json
    is_json
    json "sum(o['causes'].values()) == o['cycles'] == sum(l['cycles'] for l in o['layers'])"
    json "all(sum(l['causes'].values()) == l['cycles'] for l in o['layers'])"
    json "all(sum(l['causes'][c] for l in o['layers']) == n for c, n in o['causes'].items())"
    json "all(sum(l['bytes'][s] for l in o['layers']) == n for s, n in o['bytes'].items())"
    json "sum(o['channel_bytes']) == sum(o['bytes'].values())"
    json "abs(o['frames_per_s'] * o['seconds'] - 1) < 1e-9 and 0 < o['utilization'] <= 1"
    json "o['energy']['calibrated'] is False and 0 < o['energy']['least_joules'] < o['energy']['most_joules']"
done
json "len(o['channel_bytes']) == 32"

# ---- A page by itself ----
run 0 sim report --board U250 --network resnet50 --html "$work/page.html"
cat >"$work/check.py" <<'EOF'
import re, sys, xml.dom.minidom
text = open(sys.argv[1], encoding="utf-8").read()
page = xml.dom.minidom.parseString(text.split("\n", 1)[1])
svgs = {s.getAttribute("id"): s for s in page.getElementsByTagName("svg")}
assert set(svgs) == {"timeline", "roofline"}, svgs
assert len(svgs["timeline"].getElementsByTagName("rect")) > 100
assert len(svgs["roofline"].getElementsByTagName("circle")) > 10
assert not page.getElementsByTagName("script") and not re.search(r"(src|href)=|url\(|@import|nan|inf\b", text)
rows = page.getElementsByTagName("table")[0].getElementsByTagName("tr")
numbers = [int(r.getElementsByTagName("td")[1].firstChild.data) for r in rows[1:]]
assert sum(numbers[:-1]) == numbers[-1] > 0, numbers
for s in svgs.values():
    width, height = map(float, s.getAttribute("viewBox").split()[2:])
    for r in s.getElementsByTagName("rect"):
        x, y, w, h = (float(r.getAttribute(a)) for a in ("x", "y", "width", "height"))
        assert -0.1 <= x and x + w <= width + 0.1 and -0.1 <= y and y + h <= height + 0.1, r.toxml()
    for c in s.getElementsByTagName("circle"):
        assert 0 < float(c.getAttribute("cx")) < width and 0 < float(c.getAttribute("cy")) < height, c.toxml()
EOF
python3 "$work/check.py" "$work/page.html" >"$work/out" 2>"$work/err" || say_bad "the page"
if command -v chromium >/dev/null; then
    # The browser's own idea of the page: both charts are drawn, with a size, and nothing was complained about.
    chromium --headless --no-sandbox --disable-gpu --user-data-dir="$work/chromium" --window-size=1060,1400 \
        --screenshot="$work/page.png" "file://$work/page.html" >"$work/out" 2>"$work/err" || say_bad "Chromium shows the page"
    [ -s "$work/page.png" ] || say_bad "Chromium made no picture of the page"
    if grep -i "console" "$work/err" | grep -qi error; then say_bad "Chromium complains"; fi
    python3 - "$work/page.png" >"$work/out" 2>"$work/err" <<'EOF' || say_bad "the picture of the page is missing colours"
import struct, sys, zlib
data = open(sys.argv[1], "rb").read()
at, parts = 8, b""
while at < len(data):
    size, kind = struct.unpack(">I4s", data[at:at + 8])
    if kind == b"IHDR": width, height, depth, form = struct.unpack(">IIBB", data[at + 8:at + 18])
    if kind == b"IDAT": parts += data[at + 8:at + 8 + size]
    at += 12 + size
raw, n = zlib.decompress(parts), {2: 3, 6: 4}[form]
assert depth == 8 and width == 1060
last, seen = bytearray(width * n), set()
for y in range(height):
    kind, line = raw[y * (width * n + 1)], bytearray(raw[y * (width * n + 1) + 1:(y + 1) * (width * n + 1)])
    for i in range(len(line)):
        a, b, c = (line[i - n] if i >= n else 0), last[i], (last[i - n] if i >= n else 0)
        p = a + b - c
        paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
        line[i] = (line[i] + (0, a, b, (a + b) // 2, paeth)[kind]) & 255
    last = line
    seen.update(bytes(line[i:i + 3]) for i in range(0, len(line), n))
wanted = {"work": "1b7837", "drain": "4393c3", "roofline": "b2182b", "vector": "762a83"}
missing = [k for k, v in wanted.items() if bytes.fromhex(v) not in seen]
assert not missing, missing
EOF
else
    echo "(Chromium is not installed: the page was only parsed)"
fi

# ---- The device ----
run 0 devices --brief
prints "sim:BOARD"
prints "ULX3S-85F"
run 0 devices --brief --json
json "'KV260' in o['simulated_boards']"
run 0 verify --device sim:U50 --cases 1 --json
json "o['devices'][0]['different'] == 0 and o['devices'][0]['cases'] > 100"
json "{'matmul_hls', 'matmul_int_hls', 'conv_int_hls', 'table_hls'} <= {r['variant'] for r in o['devices'][0]['rows']}"

# ---- Its own clock: not this machine's, and the same every time ----
run 0 bench --device sim:KV260 --seconds 0.001 --runs 2 --json
json "all(p['kernel'] == 'matmul_hls' and p['seconds']['most'] < p['seconds']['least'] * (1 + 1e-6) for p in o['products'] if 'kernel' in p and p['weights'] in ('q4_0', 'q4_1', 'q8_0') and p['activations'] == 'a8')"
json "0 < o['roof']['memory_gb_per_s'] < 19.2"
cp "$work/out" "$work/before"
run 0 bench --device sim:KV260:dry --seconds 0.001 --runs 2 --json
cmp -s "$work/before" "$work/out" || say_bad "$what: another time"

# ---- What is refused, and which limit was met ----
fails "no board was given" sim report --network cnv
fails "Alveo-U280" sim report --board U251 --network cnv
fails "give a model" sim report --board KV260
fails "give a model" sim report --board KV260 --network cnv -m x.gguf
fails "mobilenet_v2" sim report --board KV260 --network alexnet
fails "'speed' is no part of a design" sim report --board KV260 --network cnv --design speed=3
fails "0 rows" sim report --board KV260 --network cnv --design rows=0
fails "lanes" sim report --board KV260 --network cnv --design lanes=3
fails "clock" sim report --board KV260 --network cnv --design clock_mhz=-5
fails "1248 DSP blocks" sim report --board KV260 --network cnv --design rows=64,cols=64
fails "144 RAM blocks" sim report --board KV260 --network cnv --design x_address=15
fails "$work/none.gguf" sim report --board KV260 -m "$work/none.gguf"
fails "$work/none/page.html" sim report --board KV260 --network cnv --html "$work/none/page.html"
fails "the model knows ULX3S-85F" verify --device sim
fails "no board \"KV261\"" verify --device sim:KV261

[ "$bad" -eq 0 ]
