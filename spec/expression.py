"""The expression language of the spec files: a small, closed subset of Python's syntax, parsed with `ast`, never run.

    sum(h, query[b,t,n,h] * key[b,s,n//G,h])        index notation, one lower-case letter per dim
    cap * tanh(logit / cap)                         a bare tensor name stands for its canonical indices
    -left <= s - (t + offset) <= right              predicates
    bias is not None and rank(query) == 4           guards, over arguments

Vocabulary: names, numbers, `+ - * / // % **`, comparisons, `and or not`, `is None`, `is not None`, subscripts, and the
functions of `FUNCTIONS`. Everything else is an `ExpressionError` that names the column.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

MAX_LENGTH = 2_000
MAX_DEPTH = 40
MAX_INTEGER = 2**31 - 1

ELEMENTWISE = ("floor", "min", "max", "exp", "log", "tanh", "sigmoid", "where", "abs")
GUARD_FUNCTIONS = ("rank", "is_boolean", "is_floating", "same", "given")
FUNCTIONS = (*ELEMENTWISE, *GUARD_FUNCTIONS, "sum", "concat")


class ExpressionError(ValueError):
    """An expression that is not of the language. `column` counts from 1 in the expression's own text."""

    def __init__(self, message: str, column: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.column = column


@dataclass(frozen=True, slots=True)
class Number:
    value: int | float


@dataclass(frozen=True, slots=True)
class Name:
    """An index letter, a size, a parameter, an argument; `None` and `True` never appear here."""

    name: str


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
    function: str
    arguments: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Sum:
    """`sum(h, body)`: contraction over one index."""

    index: str
    body: Expression


@dataclass(frozen=True, slots=True)
class Concat:
    """`concat(s, a, b, ...)`: pieces joined along the dim of one index; a piece without that dim adds length 1."""

    index: str
    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class IsNone:
    """`x is None`; `x is not None` is `not (x is None)`."""

    name: str


Expression = Number | Name | Access | Unary | Binary | Call | Sum | Concat | IsNone
