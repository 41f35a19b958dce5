"""Numbers, predicates and texts: an expression is one of them, and so is each of its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from attnspec.spec.nodes import Access, Binary, Call, Expression, ExpressionError, IsNone, Name, Text, Unary, children
from attnspec.spec.unparser import to_text

Sort = Literal["number", "predicate", "either", "text"]

_PREDICATES = ("is_boolean", "is_floating", "same", "given", "folded")
_COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")


@dataclass(frozen=True, slots=True)
class Sorts:
    """Tells the sort of an expression; `known` has the names that are not numbers."""

    known: Mapping[str, Sort]

    def require(self, expression: Expression, wanted: Sort) -> None:
        """Raise ExpressionError unless the expression, and every part of it, is of the sort that is needed there."""
        found = self.of(expression)
        if "either" not in (found, wanted) and found != wanted:
            raise ExpressionError(f"`{_short(expression)}` is a {found}, expected a {wanted}")

    def of(self, expression: Expression) -> Sort:
        """The sort of an expression."""
        match expression:
            case Name(name) | Access(name, _):
                self._numbers(expression)
                return self.known.get(name, "number")
            case Text():
                return "text"
            case IsNone():
                return "predicate"
            case Unary("not", operand):
                self.require(operand, "predicate")
                return "predicate"
            case Binary("and" | "or", left, right):
                self.require(left, "predicate")
                self.require(right, "predicate")
                return "predicate"
            case Binary("==" | "!=", left, right):
                self.require(right, self.of(left))
                return "predicate"
            case Call("where", (condition, one, other)):
                self.require(condition, "predicate")
                sort = self.of(one)  # once: asking again at every level would take 2 ** depth steps
                self.require(other, sort)
                return sort
            case Call(function, _) if function in _PREDICATES:
                return "predicate"
            case Call("rank", _):
                return "number"
        self._numbers(expression)
        return "predicate" if isinstance(expression, Binary) and expression.operator in _COMPARISONS else "number"

    def _numbers(self, expression: Expression) -> None:
        for part in children(expression):
            self.require(part, "number")


def _short(expression: Expression) -> str:
    text = to_text(expression)
    return text if len(text) <= 60 else f"{text[:57]}..."
