#!/usr/bin/env python3
"""Writes text_scores.def: what rouge-score and sacrebleu say about pairs of texts, for test_text_scores.c; nltk's BLEU
must agree with sacrebleu's.

    python3 -m venv v && v/bin/pip install rouge-score==0.1.2 sacrebleu==2.6.0 nltk==3.10.4
    v/bin/python tests/unit/text_scores.py >tests/unit/text_scores.def
"""
import importlib.metadata
import random
import warnings

import sacrebleu
from nltk.translate.bleu_score import sentence_bleu
from rouge_score import rouge_scorer


class Words:
    def tokenize(self, text):
        return text.split()


def pairs():
    yield "the cat sat on the mat", "the cat sat on the mat"
    yield "the cat is on the mat", "the the the the the the the"
    yield "It is a guide to action that ensures that the military will forever heed Party commands", \
        "It is a guide to action which ensures that the military always obeys the commands of the party"
    yield "police killed the gunman yesterday in the town", "police kill the gunman yesterday in the town"
    yield "a b c d e f g h", "a b c d e f"
    yield "a b c d e f", "a b c d e f g h"
    yield "one two three four five", "five four three two one"
    yield "a b c", "a b c"
    yield "a b c d", ""
    yield "", "a b c d"
    yield "  spaces\tand\n\nlines  do not count ", "spaces and lines do not count"
    yield "Case counts, and so. do marks!", "case counts and so do marks"
    state = random.Random(5)
    for length in (30, 60, 200):
        reference = [state.choice("red green blue one two three of and the".split()) for _ in range(length)]
        candidate = [w if state.random() < 0.8 else state.choice("red blue of".split()) for w in reference]
        del candidate[length // 3:length // 2]
        yield " ".join(reference), " ".join(candidate)


def quoted(text):
    return '"' + text.replace("\t", "\\t").replace("\n", "\\n") + '"'


scorer = rouge_scorer.RougeScorer(["rougeL"], tokenizer=Words())
warnings.simplefilter("ignore")
versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in ("rouge-score", "sacrebleu", "nltk"))
print(f"/* Made by text_scores.py with {versions}: reference, candidate, ROUGE-L (F1), BLEU. */")
for reference, candidate in pairs():
    rouge = scorer.score(reference, candidate)["rougeL"].fmeasure
    bleu = sacrebleu.sentence_bleu(candidate, [reference], smooth_method="none", tokenize="none",
                                   use_effective_order=False).score / 100
    other = sentence_bleu([reference.split()], candidate.split()) if candidate else 0
    assert abs(bleu - other) < 1e-9 or (bleu == 0 and other < 1e-60), (reference, candidate, bleu, other)
    print(f"SCORES({quoted(reference)}, {quoted(candidate)}, {rouge:.12g}, {bleu:.12g})")
