"""A skeleton's definitions: what of them a generated file has, with a spec's own in their holes.

A skeleton is a real module, linted as any other; it is read as text and never imported.
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files

from attnspec.codegen.kernels.holes import Holes
from attnspec.codegen.printer import indent

_CALL = re.compile(r"^(?P<margin> *)(?P<head>[\w, +]+= _\w+|return _\w+)\((?P<arguments>.*)\)$", re.MULTILINE)
_OPERAND = re.compile("operand")
_WIDTH = 124


@cache
def definitions(package: str, stand_ins: Collection[str], module: str = "skeleton") -> dict[str, str]:
    """The definitions of a package's skeleton, decorators and all, by name; but for what only lets it be linted."""
    source = (files(package) / f"{module}.py").read_text(encoding="utf-8")
    lines = source.split("\n")
    found = {}
    for node in ast.parse(source).body:
        decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
        first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
        text = "\n".join(lines[first - 1 : node.end_lineno])
        match node:
            case ast.FunctionDef(name="_"):  # one of several: its decorator tells them apart
                found[text.splitlines()[0]] = text
            case ast.FunctionDef(name=name):
                found[name] = text
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)) if name not in stand_ins:
                found[name] = text
            case ast.Assign(targets=[ast.Tuple()]) | ast.Expr(ast.Call()):
                found[text] = text
    return found


def filled(name: str, text: str, holes: Holes) -> str:
    """A definition with what a spec puts in."""
    text = settled(text, holes.flags)
    if name in holes.bodies:
        head = text[: text.index('"""', text.index('"""') + 3) + 3]
        text = f"{head}\n{indent(holes.bodies[name])}"
    if not holes.derived:
        text = re.sub(r"\n *d_product = _d_product\(.*\)(?=\n)", "", text)
        text = re.sub(r"\bd_product\b", "d_logits", text)
    text = text.replace(" * FACTOR", f" * {holes.factor}" if holes.factor else "")
    listed = textwrap.fill("".join(f"{each}, " for each in holes.placeholders.get("parameters", ())), _WIDTH - 4)
    text = re.sub(r"\n    parameters,(?=\n)", f"\n{indent(listed)}" if listed else "", text)
    for placeholder, own in holes.placeholders.items():
        text = re.sub(rf", {placeholder}\b", "".join(f", {each}" for each in own), text)
    return _CALL.sub(_broken, text)


def per_operand(name: str, text: str, operands: Sequence[str]) -> Iterator[tuple[str, str]]:
    """A definition; once for each operand, under its name, where it is about one."""
    if _OPERAND.search(name):
        yield from ((_OPERAND.sub(operand, name), _OPERAND.sub(operand, text)) for operand in operands)
    else:
        yield name, text


def used(parts: Mapping[str, str], public: str) -> Iterable[str]:
    """The definitions without helpers that nothing calls."""
    helpers = {name for name, text in parts.items() if _may_be_unused(name, text)}
    words = {name: set(re.findall(r"\w+", text)) for name, text in {**parts, "": public}.items()}
    unused: set[str] = set()
    while found := {name for name in helpers - unused if not _is_called(name, words, unused)}:
        unused |= found
    return (text for name, text in parts.items() if name not in unused)


def _may_be_unused(name: str, text: str) -> bool:
    """Whether it is a helper or a constant: there for those that name it."""
    return name.isupper() or (name.startswith("_") and text.startswith(("@triton.jit", "def ")))


def _is_called(name: str, words: Mapping[str, set[str]], unused: set[str]) -> bool:
    """Whether some definition that stays, other than its own, names it."""
    return any(name in own for other, own in words.items() if other not in {name, *unused})


def _broken(call: re.Match[str]) -> str:
    """A call of a hole function whose arguments take more than a line, not one line for each of them."""
    margin = " " * (len(call["margin"]) + 4)
    if len(margin + call["arguments"]) <= _WIDTH:
        return call[0]
    arguments = textwrap.fill(f"{call['arguments']},", _WIDTH, initial_indent=margin, subsequent_indent=margin)
    return f"{call['margin']}{call['head']}(\n{arguments}\n{call['margin']})  # fmt: skip"


def settled(text: str, flags: Mapping[str, bool]) -> str:
    """A definition without its `if FLAG:` and their `else:`: what is under them is there, or it is not."""
    lines: list[str] = []
    open_at: list[tuple[int, bool]] = []  # of every `if` that a line is under, how far it is indented and whether it holds
    for line in text.split("\n"):
        depth = len(line) - len(line.lstrip())
        closed = (depth + 1, True)
        while line.strip() and open_at and depth <= open_at[-1][0]:
            closed = open_at.pop()
        flag = re.fullmatch(r" *if (\w+):(?: *#.*)?", line)
        if flag and flag[1] in flags:
            open_at.append((depth, flags[flag[1]]))
        elif line.strip() == "else:" and closed[0] == depth:
            open_at.append((depth, not closed[1]))
        elif all(holds for _, holds in open_at):
            lines.append(line[4 * len(open_at) :])
    return "\n".join(lines)
