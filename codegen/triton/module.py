"""One generated file: the documented function, the skeleton with its holes filled, and what the checks of arguments need."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib.resources import files

from attnspec.codegen.module import assemble, signature_text
from attnspec.codegen.printer import Printer, indent
from attnspec.codegen.program import Line, Program
from attnspec.codegen.prologue import prologue
from attnspec.codegen.targets.torch import TORCH
from attnspec.codegen.triton.coverage import require
from attnspec.codegen.triton.holes import Holes, holes_of
from attnspec.spec.model import Spec

_AROUND = replace(TORCH, imports=("import torch", "import triton", "import triton.language as tl", "from torch import Tensor"))
"""What is around the kernels is torch's, checks of arguments and all."""
_TYPES = {"integer": "int", "flag": "bool", "tensor": "Tensor"}


def module_text(spec: Spec) -> str:
    """The source of a spec's kernels, before formatting. Raises LoweringError."""
    require(spec)
    title = f"`{spec.name}` as Triton kernels, forward and backward.\n\n{spec.summary}\n"
    return assemble(spec, _AROUND, title, [_public(spec), *_kernels(spec, holes_of(spec))], ("from typing import Any",))


def _public(spec: Spec) -> str:
    """The documented function: the checks of any torch function, then the kernels."""
    call = Line(f"return _forward({', '.join(argument.name for argument in spec.arguments)})[0]")
    integers = (a.name for a in spec.arguments if a.role == "integer")
    counted = (Line(f'{name} = _countable("{name}", {name})') for name in integers)
    program = Program(spec.function_name, (*prologue(spec), *counted, call), batched=False)
    body = Printer(_AROUND, batched=False).function_body(program)
    return f"{signature_text(spec, _AROUND)}\n{indent(body)}"


def _kernels(spec: Spec, holes: Holes) -> Iterator[str]:
    """The skeleton's definitions in their order, those that this spec does not need left out."""
    parts = dict(_filled(name, text, spec, holes) for name, text in _skeleton().items())
    if not holes.derived:
        del parts["_d_product"]
    kernels = {name for name, text in parts.items() if name.startswith("_") and "@triton.jit" in text}
    unused: set[str] = set()
    while found := {name for name in kernels - unused if not _is_called(name, parts, unused)}:
        unused |= found
    yield from (text for name, text in parts.items() if name not in unused)


def _is_called(name: str, parts: dict[str, str], unused: set[str]) -> bool:
    """Whether some definition that stays, other than its own, names it."""
    return any(re.search(rf"\b{name}\b", text) for other, text in parts.items() if other not in {name, *unused})


def _filled(name: str, text: str, spec: Spec, holes: Holes) -> tuple[str, str]:
    """A definition of the skeleton with what this spec puts in."""
    if name in holes.bodies:
        head = text[: text.index('"""', text.index('"""') + 3) + 3]
        text = f"{head}\n{indent(holes.bodies[name])}"
    if not holes.derived:
        text = re.sub(r"\n *d_product = _d_product\(.*\)(?=\n)", "", text)
        text = re.sub(r"\bd_product\b", "d_logits", text)
    text = text.replace(" * FACTOR", f" * {holes.factor}" if holes.factor else "")
    text = text.replace("given: Any", ", ".join(_typed(spec)))
    for placeholder, names in holes.placeholders.items():
        text = re.sub(rf", {placeholder}\b", "".join(f", {name}" for name in names), text)
    return name, text


def _typed(spec: Spec) -> Iterator[str]:
    """`scale: float, left: int, lengths: Tensor`."""
    rest = (argument for argument in spec.arguments if argument.name not in ("query", "key", "value"))
    return (f"{argument.name}: {_TYPES.get(argument.role, 'float')}" for argument in rest)


@cache
def _skeleton() -> dict[str, str]:
    """The skeleton's definitions, decorators and all, by name."""
    source = (files("attnspec.codegen.triton") / "skeleton.py").read_text(encoding="utf-8")
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
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)) if name != "FACTOR":
                found[name] = text
            case ast.Assign(targets=[ast.Tuple()]) | ast.Expr(ast.Call()):
                found[text] = text
    return found
