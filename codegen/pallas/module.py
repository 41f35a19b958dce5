"""One generated file: the documented function, the skeleton with its holes filled, and what the checks of arguments need."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from attnspec.codegen.kernels.coverage import SINK, require
from attnspec.codegen.kernels.filling import definitions, filled, per_operand, used
from attnspec.codegen.kernels.holes import DRAWN, Holes, compiled, holes_of, parameters_of
from attnspec.codegen.kernels.language import Language
from attnspec.codegen.kernels.operands import ORIGIN, differentiable, dims_of, is_looked_up, tensors_of
from attnspec.codegen.kernels.public import public_function
from attnspec.codegen.module import assemble, rules_of
from attnspec.codegen.pallas.language import LANGUAGE
from attnspec.spec.expression import names
from attnspec.spec.model import Spec

_TYPES = {"integer": "int", "sizes": "int", "flag": "bool", "tensor": "Array"}
_SHARES = re.compile(r", (_own\(shares\)|_full\(shares, 0\.0\)|_rows\(shares, N // K\)|(?:of_)?shares\b|Shares\b)")
_SHARED = re.compile(r"\n *\*_shared\(\w+, [^,]*\),(?=\n)")
_STAND_INS = ("FACTOR", "NUMBERS", "RING_NUMBERS", "Shares", "operand", "tensors")
"""What the skeleton defines so that it can be linted."""
_IMPORTS = (
    "import functools",
    "import math",
    "import os",
    "from collections.abc import Callable, Iterator",
    "from typing import Any",
)


def module_text(spec: Spec) -> str:
    """The source of a spec's kernels, before formatting. Raises LoweringError."""
    return text_in(LANGUAGE, "attnspec.codegen.pallas", spec, "Pallas kernels")


def text_in(
    language: Language, package: str, spec: Spec, kind: str, more: Callable[[Spec, Holes], Holes] = lambda _, holes: holes
) -> str:
    """The same by any skeleton in Pallas, that of a package, which may have more holes."""
    require(spec, language)
    title = f"`{spec.name}` as {kind}, forward and backward.\n\n{spec.summary}\n"
    public = public_function(spec, language)
    parts = [public, *used(_kernels(language, package, spec, more), public)]
    text = assemble(spec, language.around, title, parts, _IMPORTS)
    return text.replace('"pallas: ', f'"{language.name}: ')


def _kernels(language: Language, package: str, spec: Spec, more: Callable[[Spec, Holes], Holes]) -> dict[str, str]:
    """The skeleton's definitions in their order, filled, by name."""
    rules, spec = rules_of(spec), compiled(spec, language)
    operands, holes = differentiable(spec), more(spec, holes_of(spec, language, rules))
    placeholders = {"tensor_gradients": tuple(_gradients(spec, operands)), **_in_shards(spec), **holes.placeholders}
    holes = replace(holes, placeholders=placeholders, flags={**holes.flags, "PAIRS": bool(_pairs(spec))})
    skeleton = definitions(package, _STAND_INS)
    if ORIGIN in holes.placeholders["tensors"]:
        skeleton = skeleton | definitions(__package__, _STAND_INS, "ring")
    parts = {
        own: filled(own, _placed(its_text, spec, holes), holes)
        for name, text in skeleton.items()
        for own, its_text in per_operand(name, text, operands)
    }
    if not holes.derived:
        del parts["_d_product"]
    return parts if holes.placeholders["tensors"] else {name: _SHARED.sub("", text) for name, text in parts.items()}


def _gradients(spec: Spec, operands: list[str]) -> Iterator[str]:
    """What makes the gradient of each tensor of a call besides query, key and value."""
    sinks = {name for stage in spec.paths[0].stages if stage.clause == SINK for name in names(stage.expression)}
    given = ", ".join(each.name for each in LANGUAGE.ordered(parameters_of(spec)))
    for each in parameters_of(spec):
        if each.name in operands:
            yield f"_{each.name}_gradient(query, key, value, output, lse, d_output, {given})"
        elif each.is_tensor:
            yield f"_sink_gradient({each.name}, output, lse, d_output)" if each.name in sinks else "None"


def _in_shards(spec: Spec) -> dict[str, tuple[str, ...]]:
    """What of a call goes round with the keys of a shard, and how many tensors have no gradient there."""
    tensors = [each for each in parameters_of(spec) if each.is_tensor]
    travelling = tuple(e.name for e in tensors if e is not DRAWN and dims_of(spec, e.argument) == ("B", "S"))
    return {"travelling": travelling, "no_gradients": ("None",) * len(tensors)}


def _pairs(spec: Spec) -> list[str]:
    """The tensors that pairs of query and key read."""
    return [each.name for each in tensors_of(spec) if not is_looked_up(each)]


def _placed(text: str, spec: Spec, holes: Holes) -> str:
    """A definition with what is Pallas's own: types of what is given, and which of it are numbers."""
    parameters = LANGUAGE.ordered(parameters_of(spec))
    numbers = [str(3 + place) for place, each in enumerate(parameters) if not each.is_tensor]
    text = text.replace("RING_NUMBERS", _tuple([*numbers, str(3 + len(parameters))])).replace("NUMBERS", _tuple(numbers))
    text = text.replace("pairs=pairs", ", ".join(f"{name}={name}" for name in _pairs(spec)))
    text = text.replace("FUNCTION", spec.function_name)
    text = text.replace("Shares", "Array") if holes.flags["UNIFORM"] else _SHARES.sub("", text)
    text = text.replace(", given: Any", "".join(f", {each}" for each in _typed(spec)))
    text = text.replace("(numbers, ", "".join(["(", *(f"{each.name}, " for each in parameters if not each.is_tensor)]))
    return text.replace("numbers: Any, ", "".join(f"{each}, " for each in _typed(spec, tensors=False)))


def _tuple(parts: list[str]) -> str:
    return f"({', '.join(parts)}{',' * (len(parts) == 1)})"


def _typed(spec: Spec, tensors: bool = True) -> Iterator[str]:
    """`lengths: Array, scale: float, left: int`."""
    for each in LANGUAGE.ordered(parameters_of(spec)):
        none = " | None" if each.argument.optional and each.argument.unset is None else ""
        if tensors or not each.is_tensor:
            yield f"{each.name}: {_TYPES.get(each.argument.role, 'float')}{none}"
