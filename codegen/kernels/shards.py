"""Sequences in shards over several devices: rules that count from where a shard begins.

`s <= t` becomes `s + first_key <= t + first_query`. Both come from a tensor of integers, `origin`, which has two for each
batch row; blocks, bounds and loads are those of any rule. A call whose sequence is in one place has no such tensor, and counts
from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from attnspec.codegen.kernels.language import Language
from attnspec.codegen.kernels.operands import FIRST, ORIGIN, is_looked_up, tensors_of
from attnspec.spec.expression import Access, Binary, Call, Expression, Name, Unary, names
from attnspec.spec.model import Argument, Spec, Stage

_RULES = ("modifier", "mask", "rows")
_ORIGIN = Argument(ORIGIN, "tensor", required=False, dtype="integer")


def is_sharded(spec: Spec, language: Language) -> bool:
    """Whether a language has a spec in shards: no rule needs a length or a head, no call a tensor that has to be cut up."""
    read = frozenset[str]().union(*(names(stage.expression) for stage in spec.paths[0].stages if stage.kind in _RULES))
    needed = [each for each in tensors_of(spec) if each.required and not is_looked_up(each)]
    return bool(language.first) and not read & {"T", "S"} and not needed


def in_shards(spec: Spec) -> Spec:
    """The spec with rules that count from where a shard begins."""
    path = spec.paths[0]
    stages = tuple(map(_counted, path.stages))
    return replace(
        spec,
        arguments=(*spec.arguments, _ORIGIN),
        tensors={**spec.tensors, ORIGIN: ("B", ORIGIN)},
        sizes={**spec.sizes, **{name: Name(name) for name in FIRST.values()}},  # whole numbers, and not negative
        paths=(replace(path, stages=stages),),
    )


def _counted(stage: Stage) -> Stage:
    """A stage whose t and s are positions in the whole sequence."""
    if stage.kind not in _RULES:
        return stage
    places: Mapping[str, Expression] = {index: Binary("+", Name(index), Name(first)) for index, first in FIRST.items()}
    return replace(stage, expression=_outside_of_entries(stage.expression, places))


def _outside_of_entries(expression: Expression, places: Mapping[str, Expression]) -> Expression:
    """The expression with positions in the place of indices, but for those that say which entry of a shard is read."""
    match expression:
        case Access():
            return expression
        case Name(name):
            return places.get(name, expression)
        case Unary(operator, operand):
            return Unary(operator, _outside_of_entries(operand, places))
        case Binary(operator, left, right):
            return Binary(operator, _outside_of_entries(left, places), _outside_of_entries(right, places))
        case Call(function, arguments):
            return Call(function, tuple(_outside_of_entries(each, places) for each in arguments))
    return expression
