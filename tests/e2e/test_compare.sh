#!/bin/sh
# `qdot compare` with a real model (QDOT_TEST_MODEL): a model and itself, and the same figures as `qdot perplexity`.
set -u
qdot=${QDOT_BUILD_DIR:?is the build folder}/qdot
if [ -z "${QDOT_TEST_MODEL:-}" ]; then
    echo "skipped: QDOT_TEST_MODEL names no model (sh host/fetch_model.sh)"
    exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
head -c 700 /usr/share/common-licenses/GPL-3 >"$work/text"

"$qdot" quantize "$QDOT_TEST_MODEL" "$work/q8_0.gguf" --format q8_0 >/dev/null 2>&1 || echo "FAILED: quantize"
for b in "$QDOT_TEST_MODEL" "$work/q8_0.gguf"; do
    "$qdot" compare "$QDOT_TEST_MODEL" "$b" -f "$work/text" --ctx 64 --json --html "$work/page.html" >>"$work/both" || exit 1
    "$qdot" perplexity -m "$b" -f "$work/text" --ctx 64 --json >>"$work/both" || exit 1
    head -c 1 "$work/page.html" >/dev/null || exit 1
done
"$qdot" compare "$QDOT_TEST_MODEL" "$QDOT_TEST_MODEL" -f "$work/text" --ctx 64 --activations-a f32 --json >>"$work/both" || exit 1
python3 - "$work" <<'END'
import html.parser, json, sys

class Page(html.parser.HTMLParser):
    open = []
    def handle_starttag(self, tag, attrs):
        if tag != "meta":
            self.open.append(tag)
    def handle_startendtag(self, tag, attrs):
        pass
    def handle_endtag(self, tag):
        if self.open.pop() != tag:
            sys.exit(f"FAILED: the page closes {tag} where something else is open")

text, found, decoder = open(sys.argv[1] + "/both").read(), [], json.JSONDecoder()
while text.strip():
    value, at = decoder.raw_decode(text.lstrip())
    found.append(value)
    text = text.lstrip()[at:]
same, same_alone, other, other_alone, floats = found
for c, alone in ((same, same_alone), (other, other_alone)):
    assert c["b"]["perplexity"] == alone["perplexity"] and c["b"]["standard_error"] == alone["standard_error"], (c, alone)
    assert c["scored_tokens"] == alone["scored_tokens"] and c["a"]["perplexity"] == same_alone["perplexity"]
    assert c["b"]["generated_tokens_per_second"] > 0 and c["b"]["prompt_tokens_per_second"] > 0
assert same["kl_divergence"] == 0 and same["top1_agreement"] == 1
assert same["rouge_l"] == 1 and same["bleu"] == 1 and same["generated_tokens"] == 32, same
assert 0 <= other["bleu"] <= 1 and 0 < other["rouge_l"] <= 1, other
assert 1e-6 < other["kl_divergence"] < 0.05 and 0.8 < other["top1_agreement"] <= 1, other
assert other["b"]["bytes"] > 1.3 * other["a"]["bytes"] and other["b"]["device_bytes"] > other["a"]["device_bytes"]
assert floats["b"]["perplexity"] == same_alone["perplexity"] != floats["a"]["perplexity"] and floats["kl_divergence"] > 0, floats
page = Page()
page.feed(open(sys.argv[1] + "/page.html").read())
assert not page.open, page.open
END
