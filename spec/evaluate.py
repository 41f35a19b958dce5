"""Scalar expressions to values: sizes, parameters and guards, compiled once to closures because every case asks them.

Everything is total: what has no value raises EvaluationError, and integers stay inside 64 bits.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from attnspec.spec.model import Default
from attnspec.spec.nodes import Binary, Call, Expression, IsNone, Name, Number, Text, Unary
from attnspec.spec.unparser import to_text

Scalar = bool | int | float | str | None
Evaluator = Callable[[Mapping[str, "Scalar"], "Facts"], "Scalar"]

_LARGEST = 2**63 - 1


class EvaluationError(ValueError):
    """An expression that has no value: a name without one, a division by zero, a function of arrays."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one call before its arrays are looked into.

    `values` are the Python values of scalar arguments (defaults filled in), `shapes` and `dtypes` those of the tensors that
    are given, `sizes` the dims they bind and what derives from these, `batch` the broadcast leading axes of batched
    layouts (`B` is their product), `same` the pairs of arguments that are one object, `scope` every scalar by name:
    sizes, arguments with `unset` filled in, the members of pairs. `folded` says that inputs have more axes than their
    layouts: `shapes` are those with the axes of a dim together.
    """

    values: Mapping[str, Default]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    sizes: Mapping[str, int]
    batch: tuple[int, ...] = ()
    same: frozenset[frozenset[str]] = frozenset()
    scope: Mapping[str, Scalar] = field(default_factory=dict)
    folded: bool = False


NO_FACTS = Facts({}, {}, {}, {})


def evaluate(expression: Expression, scope: Mapping[str, Scalar], facts: Facts = NO_FACTS) -> bool | int | float:
    """The value of a scalar expression; `facts` answers `x is None`, `rank(x)` and their like. Raises EvaluationError."""
    value = evaluator(expression)(scope, facts)
    if not isinstance(value, (bool, int, float)):
        raise EvaluationError(f"`{to_text(expression)}` is {value!r}, which is no number")
    return value


@lru_cache(maxsize=4096)
def evaluator(expression: Expression) -> Evaluator:
    """A function of (scope, facts) that gives the expression's value."""
    match expression:
        case Number(value):
            return lambda scope, facts: value
        case Name(name):
            return _name(name)
        case IsNone(name):
            return lambda scope, facts: not _given(name, scope, facts)
        case Unary(sign, operand):
            return _unary(sign, evaluator(operand))
        case Binary("and" | "or" as word, left, right):
            return _lazy(word, evaluator(left), evaluator(right))
        case Binary("==" | "!=" as sign, left, Text(value)):
            return _compared(evaluator(left), sign, value)
        case Binary(sign, left, right):
            return _binary(expression, evaluator(left), evaluator(right))
        case Call(function, arguments) if function in _GUARDS:
            return _guard(function, tuple(a.name for a in arguments if isinstance(a, Name)))
        case Call(function, arguments) if function in _FUNCTIONS:
            return _call(function, tuple(map(evaluator, arguments)))
    raise EvaluationError(f"`{to_text(expression)}` is no scalar")


def _name(name: str) -> Evaluator:
    def value(scope: Mapping[str, Scalar], facts: Facts) -> Scalar:
        try:
            return scope[name]
        except KeyError:
            raise EvaluationError(f"`{name}` has no value here") from None

    return value


def _given(name: str, scope: Mapping[str, Scalar], facts: Facts) -> bool:
    """Whether an argument is not None: as it was passed, so before `unset` stands in."""
    if name in facts.shapes:
        return True
    values = facts.values if name in facts.values else scope
    return values.get(name) is not None


def _unary(sign: str, operand: Evaluator) -> Evaluator:
    if sign == "not":
        return lambda scope, facts: not operand(scope, facts)
    return lambda scope, facts: -_number(operand(scope, facts))


def _lazy(word: str, left: Evaluator, right: Evaluator) -> Evaluator:
    """`and`, `or`: the right side is not asked where the left one decides, so `x is not None and x > 0` has a value."""
    if word == "and":
        return lambda scope, facts: bool(left(scope, facts)) and bool(right(scope, facts))
    return lambda scope, facts: bool(left(scope, facts)) or bool(right(scope, facts))


def _compared(left: Evaluator, sign: str, text: str) -> Evaluator:
    """A choice that is, or is not, one text."""
    return lambda scope, facts: (left(scope, facts) == text) == (sign == "==")


def _number(value: Scalar) -> int | float:
    if isinstance(value, (int, float)):
        return value
    raise EvaluationError(f"{value!r} is no number")


def _binary(expression: Binary, left: Evaluator, right: Evaluator) -> Evaluator:
    apply = _OPERATORS[expression.operator]

    def value(scope: Mapping[str, Scalar], facts: Facts) -> Scalar:
        try:
            result = apply(_number(left(scope, facts)), _number(right(scope, facts)))
        except (ZeroDivisionError, OverflowError) as error:
            raise EvaluationError(f"`{to_text(expression)}`: {error}") from None
        if (isinstance(result, int) and abs(result) > _LARGEST) or isinstance(result, complex):
            raise EvaluationError(f"`{to_text(expression)}` is out of range")
        return result

    return value


_OPERATORS: dict[str, Callable[[int | float, int | float], bool | int | float]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod, "**": operator.pow, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


def _guard(function: str, names: tuple[str, ...]) -> Evaluator:
    ask = _GUARDS[function]
    return lambda scope, facts: ask(scope, facts, *names)


def _rank(scope: Mapping[str, Scalar], facts: Facts, name: str) -> int:
    if name not in facts.shapes:
        raise EvaluationError(f"`rank({name})`: `{name}` is not given")
    return len(facts.shapes[name])


def _is_boolean(scope: Mapping[str, Scalar], facts: Facts, name: str) -> bool:
    return facts.dtypes.get(name) == "bool"


def _is_floating(scope: Mapping[str, Scalar], facts: Facts, name: str) -> bool:
    return facts.dtypes.get(name, "").startswith(("float", "bfloat"))


def _same(scope: Mapping[str, Scalar], facts: Facts, one: str, two: str) -> bool:
    return one == two or frozenset((one, two)) in facts.same


_GUARDS: dict[str, Callable[..., Scalar]] = {
    "rank": _rank,
    "is_boolean": _is_boolean,
    "is_floating": _is_floating,
    "same": _same,
    "given": lambda scope, facts, name: _given(name, scope, facts),
    "folded": lambda scope, facts, name: facts.folded,
}


def _call(function: str, arguments: tuple[Evaluator, ...]) -> Evaluator:
    apply = _FUNCTIONS[function]

    def value(scope: Mapping[str, Scalar], facts: Facts) -> Scalar:
        try:
            return apply(*(_number(argument(scope, facts)) for argument in arguments))
        except (OverflowError, ValueError) as error:
            raise EvaluationError(f"`{function}`: {error}") from None

    return value


def _sigmoid(x: float) -> float:
    return 0.5 * (1.0 + math.tanh(0.5 * x))


_FUNCTIONS: dict[str, Callable[..., int | float]] = {
    "floor": math.floor,
    "min": min,
    "max": max,
    "exp": math.exp,
    "log": math.log,
    "tanh": math.tanh,
    "sigmoid": _sigmoid,
    "where": lambda condition, one, other: one if condition else other,
    "abs": abs,
}
