"""Sequences in shards over several devices: rules that count from where a shard begins.

`s <= t` becomes `s + first_key <= t + first_query`. Both come from a tensor of integers, `origin`, which has two for each
batch row; blocks, bounds and loads are those of any rule. A call whose sequence is in one place has no such tensor, and counts
from 0.
"""

from __future__ import annotations

from dataclasses import replace

from attnspec.codegen.kernels.language import Language
from attnspec.codegen.kernels.operands import FIRST, ORIGIN, is_looked_up, tensors_of
from attnspec.spec.expression import Binary, Call, Expression, Name, Unary, names
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
    stages = tuple(map(_in_whole, path.stages))
    return replace(
        spec,
        arguments=(*spec.arguments, _ORIGIN),
        tensors={**spec.tensors, ORIGIN: ("B", ORIGIN)},
        sizes={**spec.sizes, **{name: Name(name) for name in FIRST.values()}},  # whole numbers, and not negative
        paths=(replace(path, stages=stages),),
    )


def _in_whole(stage: Stage) -> Stage:
    """A stage whose t and s are positions in the whole sequence."""
    if stage.kind not in _RULES:
        return stage
    return replace(stage, expression=counted(stage.expression))


def counted(expression: Expression) -> Expression:
    """The expression with positions in the place of indices, but for those that say which entry of a shard is read."""
    match expression:
        case Name(name) if name in FIRST:
            return Binary("+", expression, Name(FIRST[name]))
        case Unary(operator, operand):
            return Unary(operator, counted(operand))
        case Binary(operator, left, right):
            return Binary(operator, counted(left), counted(right))
        case Call(function, arguments):
            return Call(function, tuple(map(counted, arguments)))
    return expression
