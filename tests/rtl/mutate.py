#!/usr/bin/env python3
"""Seeded faults in the Verilog of hls/rtl.

mutate.py FOLDER                list: a line for each fault, "NUMBER FILE:LINE KIND was -> is"
mutate.py FOLDER NUMBER OUT     copies FOLDER to OUT with that fault in it

Kinds: an operator is another one; a register is never written; a constant, a bound or a bit index is off by one; a
condition is negated. Declarations of modules, instances and comments are left as they are."""
import os
import re
import shutil
import sys

OPERATORS = [
    (r"(?<![<>=!&|+~^])\+(?![:+])", "-"),
    (r"(?<![-<>])-(?![:>-])", "+"),
    (r"(?<![&])&(?![&])", "|"),
    (r"(?<![|])\|(?![|])", "&"),
    (r"==", "!="),
    (r"!=", "=="),
    (r">>>", ">>"),
    (r"<<(?![<=])", ">>"),
    (r"\^", "&"),
    (r"(?<=[\s(])\*(?=\s)", "+"),
    (r"(?<= )<(?= )", "<="),
    (r"(?<= )>(?= )", ">="),
    (r"~(?=[\w(])", ""),
]
SKIP = re.compile(
    r"^\s*(//|`|module\b|parameter\b|localparam\b|input\b|output\b|\.|\)|genvar\b|integer\b|for\b|if \(LEVELS|if \(PACK)"
)
ASSIGNMENT = re.compile(
    r"^(\s*)((?:always @\(posedge clk\) )?(?:if \([^;]*?\) |else |else if \([^;]*?\) )?)([\w\[\]:+*\- ]+?) <= (.*);$"
)
BASES = {"d": 10, "h": 16, "b": 2}
# Only the unit: these are for synthesis, and no test simulates them.
LEFT_OUT = ("qd_board.v", "qd_widen.v")


class Fault:
    def __init__(self, file, number, kind, line, what):
        self.file, self.number, self.kind, self.line, self.what = file, number, kind, line, what

    def __str__(self):
        return f"{self.file}:{self.number + 1} {self.kind}: {self.what}"


def replaced(line, match, text):
    return line[: match.start()] + text + line[match.end() :]


def repeated(before):
    """Whether a position is the count of {count{...}}: wider is cut to fit, the same circuit."""
    return re.search(r"\{$|\{\([^()]*$", before) is not None


def of_operators(line, body, start):
    indices = [m.span() for m in re.finditer(r"\[[^\]]*\]", body)]
    if "(*" in body:  # an attribute
        return
    for pattern, other in OPERATORS:
        for m in re.finditer(pattern, body):
            inside = any(a <= m.start() < b for a, b in indices)
            if m.start() >= start and not inside and not re.search(r"\{\([^()]*$", body[: m.start()]):
                yield "operator", replaced(line, m, other), f"{m.group()} -> {other or 'nothing'}"


def of_numbers(line, body, start):
    for m in re.finditer(r"(?<![\w'.`])(\d+)(?![\w'.])", body):
        before, after = body[: m.start()], body[m.end() :]
        if m.start() < start or "rst" in body or (repeated(before) and re.match(r"[^{}]*\{", after)):
            continue
        # The top of a slice that is cut to fit anyway.
        for step in (-1,) if before.endswith("[") and after.startswith(":0]") else (1, -1):
            value = int(m.group(1)) + step
            if value >= 0:
                yield "bound", replaced(line, m, str(value)), f"{m.group()} -> {value}"
    for m in re.finditer(r"(\d+)'([dhb])([0-9a-f]+)", body):
        if m.start() >= start:
            base = BASES[m.group(2)]
            value = int(m.group(3), base) ^ 1 if base == 2 else int(m.group(3), base) + 1
            text = format(value, {10: "d", 16: "x", 2: f"0{len(m.group(3))}b"}[base])
            yield "constant", replaced(line, m, f"{m.group(1)}'{m.group(2)}{text}"), f"{m.group()} -> {text}"


def of_line(line):
    """(kind, changed line, what) of each fault of a line."""
    body = line.split("//")[0]
    declares = re.match(r"^\s*(reg|wire)\b", body)
    if SKIP.match(line) or not body.strip() or (declares and "=" not in body):
        return
    start = body.index("=") if declares else 0  # left of it there are only widths
    yield from of_operators(line, body, start)
    m = ASSIGNMENT.match(body.rstrip())
    if m:
        yield "register dropped", m.group(1) + m.group(2) + ";\n", m.group(3).strip()
    yield from of_numbers(line, body, start)
    for m in re.finditer(r"if \(([^()]*)\)", body):
        yield "condition", replaced(line, m, f"if (!({m.group(1)}))"), f"not {m.group(1)}"


def all_faults(folder):
    for name in sorted(os.listdir(folder)):
        if not re.fullmatch(r"qd_\w+\.v", name) or name in LEFT_OUT:
            continue
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            for number, line in enumerate(f):
                for kind, changed, what in of_line(line):
                    yield Fault(name, number, kind, changed, what)


def write(folder, fault, out):
    """Copies the folder to `out` with the fault in it."""
    shutil.copytree(folder, out, dirs_exist_ok=True)
    path = os.path.join(out, fault.file)
    with open(path, encoding="utf-8") as f:
        lines = f.readlines()
    lines[fault.number] = fault.line.rstrip("\n") + "\n"
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(lines)


def main():
    faults = list(all_faults(sys.argv[1]))
    if len(sys.argv) == 2:
        for i, fault in enumerate(faults):
            print(i, fault)
    else:
        write(sys.argv[1], faults[int(sys.argv[2])], sys.argv[3])


if __name__ == "__main__":
    main()
