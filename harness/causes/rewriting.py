"""Specs with one thing changed: another path, another rule for a stage, an expression rewritten everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from attnspec.spec.expression import Access, Binary, Call, Expression, Name, Number, Sum, Unary
from attnspec.spec.model import Axis, Layout, Path, Spec, Stage

WHOLE = (Layout(tuple(Axis((letter,)) for letter in "BNTS")),)
"""The layout of what pairs of query and key have, for outputs and arguments that a changed spec has for itself."""


def with_path(spec: Spec, path: Path, changed: Path) -> Spec:
    """The spec with another path in the place of one."""
    return replace(spec, paths=tuple(changed if each is path else each for each in spec.paths))


def with_stage(spec: Spec, path: Path, stage: Stage, expression: Expression) -> Spec:
    """The spec with another rule for one stage."""
    stages = tuple(replace(each, expression=expression) if each is stage else each for each in path.stages)
    return with_path(spec, path, replace(path, stages=stages))


def without(path: Path, stage: Stage) -> Path:
    """The path without one stage."""
    return replace(path, stages=tuple(each for each in path.stages if each is not stage))


def before_softmax(path: Path, mask: Stage) -> tuple[Stage, ...]:
    """The stages with a further mask."""
    place = next(number for number, stage in enumerate(path.stages) if stage.kind == "softmax")
    return (*path.stages[:place], mask, *path.stages[place:])


def tiled(expression: Expression) -> Expression:
    """Query head n reads key/value head n % K instead of n // G."""
    match expression:
        case Binary("//", Name("n"), Name("G")):
            return Binary("%", Name("n"), Name("K"))
    return expression


def ones(tensor: str) -> Callable[[Expression], Expression]:
    """1 in the place of a tensor."""
    return lambda expression: Number(1) if isinstance(expression, Access) and expression.tensor == tensor else expression


def backwards(expression: Expression) -> Expression:
    """Query head n reads the key/value heads from the other end."""
    match expression:
        case Binary("//", Name("n"), Name("G")):
            return Binary("-", Binary("-", Name("K"), Number(1)), expression)
    return expression


def rewritten(expression: Expression, rule: Callable[[Expression], Expression]) -> Expression:
    """The expression with `rule` applied everywhere, innermost first."""
    match expression:
        case Access(tensor, indices):
            expression = Access(tensor, tuple(rewritten(index, rule) for index in indices))
        case Unary(operator, operand):
            expression = Unary(operator, rewritten(operand, rule))
        case Binary(operator, left, right):
            expression = Binary(operator, rewritten(left, rule), rewritten(right, rule))
        case Call(function, arguments):
            expression = Call(function, tuple(rewritten(argument, rule) for argument in arguments))
        case Sum(index, body):
            expression = Sum(index, rewritten(body, rule))
    return rule(expression)
