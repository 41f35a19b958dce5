"""The nodes of an expression, and what can be done with any tree of them: walk it, rename in it, list its names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


class ExpressionError(ValueError):
    """An expression that is not of the language. `column` counts from 1 in the expression's own text."""

    def __init__(self, message: str, column: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.column = column


@dataclass(frozen=True, slots=True)
class Number:
    """A literal of 0 or more; a negative one is a `Unary`."""

    value: int | float


@dataclass(frozen=True, slots=True)
class Name:
    """An index letter, a size, a parameter, an argument; `None` and `True` never appear here."""

    name: str


@dataclass(frozen=True, slots=True)
class Text:
    """`"dot"`: one of an argument's choices; a guard compares the argument with it."""

    value: str


@dataclass(frozen=True, slots=True)
class Access:
    """`tensor[index, ...]`; an index is any integer expression, so `table[n, s - t + R]` is a gather."""

    tensor: str
    indices: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Unary:
    """`-x` or `not x`."""

    operator: str
    operand: Expression


@dataclass(frozen=True, slots=True)
class Binary:
    """`+ - * / // % ** < <= > >= == != and or`. A chain `a <= x <= b` is `(a <= x) and (x <= b)`."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True)
class Call:
    """`function(arguments)`, one of `FUNCTIONS` except `sum` and `concat`."""

    function: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Sum:
    """`sum(h, body)`: contraction over one index."""

    index: str
    body: Expression


@dataclass(frozen=True, slots=True)
class Concat:
    """`concat(s, a, b, ...)`: pieces joined along the dim of one index; a piece without that dim adds length 1.

    The piece `0` is zeros, or False where the others are bool."""

    index: str
    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class IsNone:
    """`x is None`; `x is not None` is `not (x is None)`."""

    name: str


Expression = Number | Text | Name | Access | Unary | Binary | Call | Sum | Concat | IsNone


def children(expression: Expression) -> tuple[Expression, ...]:
    """The direct parts of an expression, in the order of its text."""
    match expression:
        case Access(_, parts) | Call(_, parts) | Concat(_, parts):
            return parts
        case Unary(_, operand):
            return (operand,)
        case Binary(_, left, right):
            return (left, right)
        case Sum(_, body):
            return (body,)
    return ()


def walk(expression: Expression) -> Iterator[Expression]:
    """The expression and everything in it, outermost first."""
    waiting = [expression]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(reversed(children(node)))


def depth(expression: Expression) -> int:
    """How many nodes lie on the longest way from the expression to a leaf."""
    deepest, waiting = 0, [(expression, 1)]
    while waiting:
        node, level = waiting.pop()
        deepest = max(deepest, level)
        waiting.extend((part, level + 1) for part in children(node))
    return deepest


def names(expression: Expression) -> frozenset[str]:
    """Every name that is free in the expression: the index of a `sum` is not, and neither is that of a `concat`."""
    match expression:
        case Name(name) | IsNone(name):
            return frozenset({name})
        case Access(tensor, indices):
            return frozenset({tensor}).union(*map(names, indices))
        case Sum(index, body):
            return names(body) - {index}
    return frozenset().union(*map(names, children(expression)))


def substitute(expression: Expression, mapping: Mapping[str, Expression]) -> Expression:
    """The expression with names replaced; `x[...]` and `x is None` are renamed, so `x` must map to a name there.

    Raises ExpressionError where that is not possible, or where a replacement names the index of a `sum` around it.
    """
    match expression:
        case Name(name):
            return mapping.get(name, expression)
        case Access(tensor, indices):
            return Access(_renamed(tensor, mapping), tuple(substitute(i, mapping) for i in indices))
        case IsNone(name):
            return IsNone(_renamed(name, mapping))
        case Unary(operator, operand):
            return Unary(operator, substitute(operand, mapping))
        case Binary(operator, left, right):
            return Binary(operator, substitute(left, mapping), substitute(right, mapping))
        case Call(function, arguments):
            return Call(function, tuple(substitute(a, mapping) for a in arguments))
        case Concat(index, parts):
            return Concat(index, tuple(substitute(p, mapping) for p in parts))
        case Sum(index, body):
            return Sum(index, substitute(body, _outside(index, body, mapping)))
    return expression


def fold(expression: Expression) -> Expression:
    """The expression without `+ 0`, `- 0` and `* 1`, which bound parameters leave behind."""
    match expression:
        case Unary(operator, operand):
            return Unary(operator, fold(operand))
        case Binary(operator, left, right):
            left, right = fold(left), fold(right)
            if operator in "+-" and right == Number(0):
                return left
            if operator == "+" and left == Number(0):
                return right
            return left if operator == "*" and right == Number(1) else Binary(operator, left, right)
        case Call(function, arguments):
            return Call(function, tuple(fold(a) for a in arguments))
        case Access(tensor, indices):
            return Access(tensor, tuple(fold(i) for i in indices))
        case Sum(index, body):
            return Sum(index, fold(body))
    return expression


def _renamed(name: str, mapping: Mapping[str, Expression]) -> str:
    new = mapping.get(name, Name(name))
    if not isinstance(new, Name):
        raise ExpressionError(f"`{name}` can only be replaced by a name here")
    return new.name


def _outside(index: str, body: Expression, mapping: Mapping[str, Expression]) -> Mapping[str, Expression]:
    inner = {name: new for name, new in mapping.items() if name != index}
    for name in names(body) & inner.keys():
        if index in names(inner[name]):
            raise ExpressionError(f"the replacement of `{name}` names `{index}`, which `sum` already runs over")
    return inner
