"""One generated file: the documented function, the skeleton with its holes filled, and what the checks of arguments need."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files

from attnspec.codegen.module import assemble, signature_text
from attnspec.codegen.printer import Printer, indent
from attnspec.codegen.program import Dims, If, Line, Program, Ref, Return, Statement
from attnspec.codegen.prologue import canonical_dims, lacking_axis, lift_names, prologue
from attnspec.codegen.targets.torch import TORCH
from attnspec.codegen.triton.coverage import LAYOUTS, SINK, require
from attnspec.codegen.triton.holes import SEED, Holes, holes_of, parameters_of
from attnspec.codegen.triton.operands import differentiable, dims_of, is_looked_up
from attnspec.spec.expression import IsNone, Unary, names
from attnspec.spec.model import Argument, Axis, Layout, Output, Spec

_AROUND = replace(TORCH, imports=("import torch", "import triton", "import triton.language as tl", "from torch import Tensor"))
"""What is around the kernels is torch's, checks of arguments and all."""
_TYPES = {"integer": "int", "sizes": "int", "flag": "bool", "tensor": "Tensor"}
_KERNELS = {name: tuple(dims) for name, dims in (*LAYOUTS.items(), ("output", "BTNV"))}
"""The layouts of the kernels."""
_ORDER = "layout"
"""The clause of what brings tensors into them, and back."""
_SHARES = re.compile(r", (shares(: Tensor)?|Shares)\b")
_OPERAND = re.compile("operand")
_CALL = re.compile(r"^(?P<margin> *)(?P<head>[\w, +]+= _\w+)\((?P<arguments>.*)\)$", re.MULTILINE)
_WIDTH = 124
_STAND_INS = ("FACTOR", "OPERAND_PLACES", "SINK_PLACE", "Shares", "operand")
"""What the skeleton defines so that it can be linted."""


def module_text(spec: Spec) -> str:
    """The source of a spec's kernels, before formatting. Raises LoweringError."""
    require(spec)
    title = f"`{spec.name}` as Triton kernels, forward and backward.\n\n{spec.summary}\n"
    public = _public(spec)
    imports = ("import math", "from typing import Any")
    return assemble(spec, _AROUND, title, [public, *_kernels(spec, holes_of(spec), public)], imports)


def _public(spec: Spec) -> str:
    """The documented function: the checks of any torch function, then the kernels."""
    program = Program(spec.function_name, (*prologue(spec), *_countable(spec), *_seeded(spec), *_called(spec)), batched=False)
    body = Printer(_AROUND, batched=False).function_body(program)
    return f"{signature_text(spec, _AROUND)}\n{indent(body)}"


def _countable(spec: Spec) -> Iterator[Line]:
    """Integers that the kernels can count with."""
    for each in parameters_of(spec):
        if each.argument.role in ("integer", "sizes"):
            line = f'{each.name} = _countable("{each.argument.name}", {each.name})'
            yield Line(f"if {each.name} is not None:\n    {line}" if each.argument.optional else line)


def _seeded(spec: Spec) -> Iterator[Line]:
    """A number that decides what dropout draws, forward and backward, on the device: no call waits for it."""
    for stage in spec.paths[0].stages:
        if stage.kind == "dropout":
            guard = "" if stage.when is None else f" if {Printer(_AROUND, batched=False).guard(stage.when)[0]} else None"
            yield Line(f"{SEED} = torch.randint(2**31, (1,), device=query.device){guard}", stage.clause)


def _called(spec: Spec) -> Iterator[Statement]:
    """The tensors as the kernels have them, the kernels, and the outputs as the spec has them."""
    for name in ("query", "key", "value"):
        yield from _canonical(spec.argument(name))
    for argument in (each.argument for each in parameters_of(spec) if each.is_tensor):
        brought = tuple(_broadcast(spec, argument))
        given = Unary("not", IsNone(argument.name))
        yield from (If(given, brought, (), _ORDER),) if argument.optional and brought else brought
    names = ", ".join(["query", "key", "value", *(each.name for each in parameters_of(spec))])
    output, *others = spec.outputs
    call, back = f"_forward({names})", tuple(_documented(output))
    if not (others or back or lift_names(spec)):
        yield Line(f"return {call}[0]")
        return
    yield Line(f"output, *rows = {call}" if others else f"output = {call}[0]")
    yield from back
    lifted = tuple(lacking_axis(each.layouts) for each in spec.outputs) if lift_names(spec) else ()
    for other in others:
        assert other.when is not None
        body = (_residual(other), Return((Ref("output"), Ref(other.name)), lifted))
        yield If(other.when, body, (), f"returns.{other.name}")
    yield Return((Ref("output"),), lifted[:1])


def _canonical(argument: Argument) -> Iterator[Line]:
    """A tensor in the kernels' layout: its leading axes as one, its axes in their order."""
    layout, wanted = argument.layouts[0], _KERNELS[argument.name]
    if layout.batched:
        yield Line(f"{argument.name} = _with_one_batch_axis({argument.name}, _leading(sizes))", _ORDER)
    yield from _permuted(argument.name, canonical_dims(layout, wanted), wanted)


def _documented(output: Output) -> Iterator[Line]:
    """The output in its documented layout."""
    layout, have = output.layouts[0], _KERNELS["output"]
    yield from _permuted("output", have, canonical_dims(layout, have))
    if layout.batched:
        yield Line("output = output.reshape(*_leading(sizes), *output.shape[1:])", _ORDER)


def _permuted(name: str, have: Dims, wanted: Dims) -> Iterator[Line]:
    """A tensor with its axes in another order."""
    if have != wanted:
        yield Line(f"{name} = {name}.permute({', '.join(str(have.index(dim)) for dim in wanted)})", _ORDER)


def _broadcast(spec: Spec, argument: Argument) -> Iterator[Line]:
    """What pairs of query and key read, as (B|1, N|1, T|1, S|1)."""
    if is_looked_up(argument) or argument.layouts == (Layout(tuple(Axis((dim,)) for dim in "BNTS")),):
        return
    if dims_of(spec, argument) == ("N",):
        yield Line(f"{argument.name} = {argument.name}[None, :, None, None]", _ORDER)
    else:
        leading = "_leading(sizes)" if argument.layouts[0].batched else "(B,)"
        yield Line(f"{argument.name} = _with_four_axes({argument.name}, {leading})", _ORDER)


def _residual(output: Output) -> Line:
    """The log-sum-exp of the logits: the kernels have it over log(2), and inf in rows that see nothing."""
    order = ("B", "N", "T")
    axes = ", ".join(str(order.index(dim)) for dim in canonical_dims(output.layouts[0], order))
    return Line(f"{output.name} = _log_sum_exp(*rows).permute({axes}).to(query.dtype)", f"returns.{output.name}")


def _kernels(spec: Spec, holes: Holes, public: str) -> Iterator[str]:
    """The skeleton's definitions in their order, those that this spec does not need left out."""
    operands = differentiable(spec)
    parts = dict(part for name, text in _skeleton().items() for part in _filled(name, text, spec, holes, operands))
    if not holes.derived:
        del parts["_d_product"]
    own, other = ("LAUNCHES_WITH_OPERANDS", "LAUNCHES") if operands else ("LAUNCHES", "LAUNCHES_WITH_OPERANDS")
    parts[own] = parts[own].replace(own, "LAUNCHES", 1)
    del parts[other]
    kernels = {name for name, text in parts.items() if _may_be_unused(name, text)}
    unused: set[str] = set()
    while found := {name for name in kernels - unused if not _is_called(name, {**parts, "": public}, unused)}:
        unused |= found
    yield from (text for name, text in parts.items() if name not in unused)


def _may_be_unused(name: str, text: str) -> bool:
    """Whether it is a helper: there for those that call it."""
    return name.startswith("_") and text.startswith(("@triton.jit", "def "))


def _is_called(name: str, parts: dict[str, str], unused: set[str]) -> bool:
    """Whether some definition that stays, other than its own, names it."""
    return any(re.search(rf"\b{name}\b", text) for other, text in parts.items() if other not in {name, *unused})


def _filled(name: str, text: str, spec: Spec, holes: Holes, operands: list[str]) -> Iterator[tuple[str, str]]:
    """A definition of the skeleton with what this spec puts in; once for each operand where it is about one."""
    if _OPERAND.search(name):
        for operand in operands:
            own, its_text = (_OPERAND.sub(operand, each) for each in (name, text))
            yield own, _with_holes(own, its_text, spec, holes, operands)
    else:
        yield name, _with_holes(name, text, spec, holes, operands)


def _with_holes(name: str, text: str, spec: Spec, holes: Holes, operands: list[str]) -> str:
    text = settled(text, holes.flags)
    if name in holes.bodies:
        head = text[: text.index('"""', text.index('"""') + 3) + 3]
        text = f"{head}\n{indent(holes.bodies[name])}"
    if not holes.derived:
        text = re.sub(r"\n *d_product = _d_product\(.*\)(?=\n)", "", text)
        text = re.sub(r"\bd_product\b", "d_logits", text)
    text = text.replace(" * FACTOR", f" * {holes.factor}" if holes.factor else "")
    text = text.replace("OPERAND_PLACES", f"{{{', '.join(_places(spec, operands))}}}")
    text = text.replace("SINK_PLACE", str(_place_of_sink(spec)))
    text = text.replace("Shares", "Tensor") if holes.flags["UNIFORM"] else _SHARES.sub("", text)
    typed = "".join(f", {each}" for each in _typed(spec))
    text = text.replace(", given: Any", typed)
    listed = textwrap.fill("".join(f"{each}, " for each in holes.placeholders["parameters"]), _WIDTH - 4)
    text = re.sub(r"\n    parameters,(?=\n)", f"\n{indent(listed)}" if listed else "", text)
    for placeholder, own in holes.placeholders.items():
        text = re.sub(rf", {placeholder}\b", "".join(f", {each}" for each in own), text)
    return _CALL.sub(_broken, text)


def _broken(call: re.Match[str]) -> str:
    """A call of a hole function whose arguments take more than a line, not one line for each of them."""
    margin = " " * (len(call["margin"]) + 4)
    if len(margin + call["arguments"]) <= _WIDTH:
        return call[0]
    arguments = textwrap.fill(f"{call['arguments']},", _WIDTH, initial_indent=margin, subsequent_indent=margin)
    return f"{call['margin']}{call['head']}(\n{arguments}\n{call['margin']})  # fmt: skip"


def _places(spec: Spec, operands: list[str]) -> Iterator[str]:
    """`3: _bias_gradient`: which of what is given has a gradient, besides query, key and value."""
    names = ["query", "key", "value", *(each.name for each in parameters_of(spec))]
    return (f"{names.index(operand)}: _{operand}_gradient" for operand in operands)


def _place_of_sink(spec: Spec) -> int | None:
    """Which of what is given is a logit that holds no value."""
    read = {name for stage in spec.paths[0].stages if stage.clause == SINK for name in names(stage.expression)}
    every = ["query", "key", "value", *(each.name for each in parameters_of(spec))]
    return next((place for place, name in enumerate(every) if name in read), None)


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


def _typed(spec: Spec) -> Iterator[str]:
    """`scale: float, left: int, lengths: Tensor`."""
    for each in parameters_of(spec):
        none = " | None" if each.argument.optional and each.argument.unset is None else ""
        yield f"{each.name}: {_TYPES.get(each.argument.role, 'float')}{none}"


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
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)) if name not in _STAND_INS:
                found[name] = text
            case ast.Assign(targets=[ast.Tuple()]) | ast.Expr(ast.Call()):
                found[text] = text
    return found
