"""One generated file: the documented function, the skeleton with its holes filled, and what the checks of arguments need."""

from __future__ import annotations

import re
from collections.abc import Iterator

from attnspec.codegen.kernels.coverage import SINK, require
from attnspec.codegen.kernels.filling import definitions, filled, per_operand, used
from attnspec.codegen.kernels.holes import Holes, holes_of, parameters_of
from attnspec.codegen.kernels.language import is_table
from attnspec.codegen.kernels.operands import differentiable, dims_of, tensors_of
from attnspec.codegen.kernels.public import public_function
from attnspec.codegen.module import assemble
from attnspec.codegen.triton.language import LANGUAGE
from attnspec.spec.expression import names
from attnspec.spec.model import Spec

_TYPES = {"integer": "int", "sizes": "int", "flag": "bool", "tensor": "Tensor"}
_SHARES = re.compile(r", (shares(: Tensor)?|Shares)\b")
_STAND_INS = ("FACTOR", "OPERAND_PLACES", "SINK_PLACE", "Shares", "operand")
"""What the skeleton defines so that it can be linted."""


def module_text(spec: Spec) -> str:
    """The source of a spec's kernels, before formatting. Raises LoweringError."""
    require(spec, LANGUAGE)
    title = f"`{spec.name}` as Triton kernels, forward and backward.\n\n{spec.summary}\n"
    public = public_function(spec, LANGUAGE)
    parts = [public, *used(_kernels(spec, holes_of(spec, LANGUAGE)), public)]
    return assemble(spec, LANGUAGE.around, title, parts, ("import math", "from typing import Any"))


def _kernels(spec: Spec, holes: Holes) -> dict[str, str]:
    """The skeleton's definitions in their order, filled, by name."""
    operands = differentiable(spec)
    parts = {
        own: filled(own, _placed(its_text, spec, holes, operands), holes)
        for name, text in definitions("attnspec.codegen.triton", _STAND_INS).items()
        for own, its_text in per_operand(name, text, operands)
    }
    if not holes.derived:
        del parts["_d_product"]
    axes = {len(dims_of(spec, table)) for table in tensors_of(spec) if is_table(table)}
    launches = {"OPERANDS": bool(operands), "BOUNDS": bool(axes), "LAYOUTS": max(axes, default=0) > 1}
    for name, holds in {**launches, "DROPOUT": holes.flags["DROPOUT"]}.items():
        name = f"LAUNCHES_WITH_{name}"
        own = parts.pop(name)
        if holds:
            parts["LAUNCHES"] = own.replace(name, "LAUNCHES", 1)
    return parts


def _placed(text: str, spec: Spec, holes: Holes, operands: list[str]) -> str:
    """A definition with what is Triton's own: which arguments have gradients, and types of what is given."""
    text = text.replace("OPERAND_PLACES", f"{{{', '.join(_places(spec, operands))}}}")
    text = text.replace("SINK_PLACE", str(_place_of_sink(spec)))
    text = text.replace("Shares", "Tensor") if holes.flags["UNIFORM"] else _SHARES.sub("", text)
    return text.replace(", given: Any", "".join(f", {each}" for each in _typed(spec)))


def _places(spec: Spec, operands: list[str]) -> Iterator[str]:
    """`3: _bias_gradient`: which of what is given has a gradient, besides query, key and value."""
    names = ["query", "key", "value", *(each.name for each in parameters_of(spec))]
    return (f"{names.index(operand)}: _{operand}_gradient" for operand in operands)


def _place_of_sink(spec: Spec) -> int | None:
    """Which of what is given is a logit that holds no value."""
    read = {name for stage in spec.paths[0].stages if stage.clause == SINK for name in names(stage.expression)}
    every = ["query", "key", "value", *(each.name for each in parameters_of(spec))]
    return next((place for place, name in enumerate(every) if name in read), None)


def _typed(spec: Spec) -> Iterator[str]:
    """`scale: float, left: int, lengths: Tensor`."""
    for each in parameters_of(spec):
        none = " | None" if each.argument.optional and each.argument.unset is None else ""
        yield f"{each.name}: {_TYPES.get(each.argument.role, 'float')}{none}"
