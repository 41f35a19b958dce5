"""Integer expressions as `constant + sum(coefficient * term)`; a term is a name, or whatever is not affine itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

from attnspec.spec.expression import Binary, Call, Expression, Number, Unary, to_text


@dataclass(frozen=True, slots=True)
class Affine:
    """Terms are sorted and have no coefficient 0, so equal forms are equal objects."""

    terms: tuple[tuple[Expression, int], ...] = ()
    constant: int = 0

    def __add__(self, other: Affine) -> Affine:
        return _affine([*self.terms, *other.terms], self.constant + other.constant)

    def __sub__(self, other: Affine) -> Affine:
        return self + other.scaled(-1)

    def scaled(self, factor: int) -> Affine:
        return _affine([(term, factor * c) for term, c in self.terms], factor * self.constant)

    def shifted(self, by: int) -> Affine:
        return Affine(self.terms, self.constant + by)

    def coefficient(self, term: Expression) -> int:
        return dict(self.terms).get(term, 0)

    def replaced(self, term: Expression, by: Affine) -> Affine:
        rest = Affine(tuple((t, c) for t, c in self.terms if t != term), self.constant)
        return rest + by.scaled(self.coefficient(term))

    def expression(self) -> Expression:
        """As an expression, positive terms first: `stop - left - 1`."""
        ordered = sorted(self.terms, key=lambda term: -term[1])
        signed = [(c, _times(abs(c), term)) for term, c in ordered]
        if self.constant or not signed:
            signed.append((self.constant, Number(abs(self.constant))))
        (first, head), *rest = signed
        start = head if first >= 0 else Unary("-", head)
        return reduce(lambda whole, part: Binary("-" if part[0] < 0 else "+", whole, part[1]), rest, start)

    def text(self) -> str:
        """As Python."""
        return to_text(self.expression())


def _affine(terms: Iterable[tuple[Expression, int]], constant: int) -> Affine:
    joined: dict[Expression, int] = {}
    for term, coefficient in terms:
        joined[term] = joined.get(term, 0) + coefficient
    kept = [(term, c) for term, c in joined.items() if c]
    return Affine(tuple(sorted(kept, key=lambda term: to_text(term[0]))), constant)


def _times(factor: int, term: Expression) -> Expression:
    return term if factor == 1 else Binary("*", Number(factor), term)


def number(value: int) -> Affine:
    """A constant."""
    return Affine(constant=value)


def single(term: Expression) -> Affine:
    """One term, once."""
    return Affine(((term, 1),))


def affine(expression: Expression) -> Affine:
    """The affine form of an integer expression; what is inside of other functions is put into one form too."""
    match expression:
        case Number(int(value)):
            return number(value)
        case Unary("-", operand):
            return affine(operand).scaled(-1)
        case Binary("+", left, right):
            return affine(left) + affine(right)
        case Binary("-", left, right):
            return affine(left) - affine(right)
        case Binary("*", left, right):
            return product(affine(left), affine(right))
        case Binary("//", left, right):
            return quotient(affine(left), affine(right))
        case Binary("%", left, right):
            return single(Binary("%", affine(left).expression(), affine(right).expression()))
        case Call("floor", (operand,)):
            return affine(operand)
        case Call("min" | "max" | "abs" as function, arguments):
            return single(Call(function, tuple(affine(a).expression() for a in arguments)))
    return single(expression)


def product(left: Affine, right: Affine) -> Affine:
    """The product: affine where one factor is a number."""
    if not left.terms:
        return right.scaled(left.constant)
    if not right.terms:
        return left.scaled(right.constant)
    return single(Binary("*", left.expression(), right.expression()))


def quotient(left: Affine, right: Affine) -> Affine:
    """The quotient, rounded down: affine where it is a division by 1 or by itself, or of numbers."""
    if right == number(1):
        return left
    if left == right and left.terms:
        return number(1)
    if not left.terms and not right.terms and right.constant:
        return number(left.constant // right.constant)
    return single(Binary("//", left.expression(), right.expression()))
