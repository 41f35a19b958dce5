"""Which keys a block of queries can see, derived from mask predicates.

A conjunct that is affine in s and t with coefficient +-1 for s, such as `s <= t + offset`, bounds s from one side. Over
the queries `start <= t < stop` the bound is loosest at one end of the block, and its value there is a formula. Any
other conjunct bounds nothing, which is safe: it is tested inside the block.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from attnspec.spec.expression import Binary, Expression, Name, Number, Unary

_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}


@dataclass(frozen=True, slots=True)
class Affine:
    """`constant + sum(coefficient * name)`."""

    terms: Mapping[str, int] = field(default_factory=dict)
    constant: int = 0

    def __add__(self, other: Affine) -> Affine:
        names = {*self.terms, *other.terms}
        terms = {name: self.terms.get(name, 0) + other.terms.get(name, 0) for name in names}
        return Affine({n: c for n, c in terms.items() if c}, self.constant + other.constant)

    def scaled(self, factor: int) -> Affine:
        return Affine({name: factor * c for name, c in self.terms.items()}, factor * self.constant)

    def replaced(self, name: str, by: Affine) -> Affine:
        rest = Affine({n: c for n, c in self.terms.items() if n != name}, self.constant)
        return rest + by.scaled(self.terms.get(name, 0))

    def text(self) -> str:
        """As Python, positive terms first: `stop - left`."""
        ordered = sorted(self.terms.items(), key=lambda term: (-term[1], term[0]))
        signed = [(c, name if abs(c) == 1 else f"{abs(c)} * {name}") for name, c in ordered]
        if self.constant or not signed:
            signed.append((self.constant, str(abs(self.constant))))
        (first, head), *rest = signed
        return ("-" if first < 0 else "") + head + "".join(f" {'-' if c < 0 else '+'} {text}" for c, text in rest)


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Keys `low <= s < high` for the queries `start <= t < stop`: the tightest of several bounds, before clipping to S."""

    lows: tuple[Affine, ...]
    highs: tuple[Affine, ...]

    def low_text(self) -> str:
        return f"max({', '.join(('0', *(low.text() for low in self.lows)))})" if self.lows else "0"

    def high_text(self, length: str) -> str:
        return f"min({', '.join((length, *(high.text() for high in self.highs)))})" if self.highs else length


def key_range(predicates: Iterable[Expression]) -> KeyRange:
    """The range of keys that satisfies all `predicates` for some query of the block (a superset of it)."""
    lows: list[Affine] = []
    highs: list[Affine] = []
    for conjunct in (c for predicate in predicates for c in _conjuncts(predicate)):
        bound = _bound(conjunct)
        if bound is None:
            continue
        side, limit = bound
        if side == "high":
            highs.append(_loosest(limit, upwards=True) + Affine(constant=1))
        else:
            lows.append(_loosest(limit, upwards=False))
    return KeyRange(tuple(_unique(lows)), tuple(_unique(highs)))


def _unique(bounds: list[Affine]) -> Iterator[Affine]:
    seen: set[str] = set()
    for bound in bounds:
        if bound.text() not in seen:
            seen.add(bound.text())
            yield bound


def _conjuncts(expression: Expression) -> Iterator[Expression]:
    if isinstance(expression, Binary) and expression.operator == "and":
        yield from _conjuncts(expression.left)
        yield from _conjuncts(expression.right)
    else:
        yield expression


def _bound(conjunct: Expression) -> tuple[str, Affine] | None:
    """(`high`, h) for s <= h, (`low`, l) for s >= l, or None where the conjunct is not such a comparison."""
    if not isinstance(conjunct, Binary) or conjunct.operator not in _FLIPPED:
        return None
    left, right = affine(conjunct.left), affine(conjunct.right)
    if left is None or right is None:
        return None
    difference, operator = left + right.scaled(-1), conjunct.operator
    if abs(difference.terms.get("s", 0)) != 1:
        return None
    if difference.terms["s"] < 0:
        difference, operator = difference.scaled(-1), _FLIPPED[operator]
    limit = difference.replaced("s", Affine()).scaled(-1)
    if operator in ("<", ">"):
        limit = limit + Affine(constant=-1 if operator == "<" else 1)
    return ("high" if operator in ("<", "<=") else "low"), limit


def _loosest(limit: Affine, upwards: bool) -> Affine:
    """The limit at the end of the block where it admits most keys."""
    rises = limit.terms.get("t", 0) > 0
    last = Affine({"stop": 1}, -1)
    return limit.replaced("t", last if rises == upwards else Affine({"start": 1}))


def affine(expression: Expression) -> Affine | None:
    """The affine form of an expression over integer names, or None."""
    match expression:
        case Number(int(value)):
            return Affine(constant=value)
        case Name(name):
            return Affine({name: 1})
        case Unary("-", operand):
            inner = affine(operand)
            return None if inner is None else inner.scaled(-1)
        case Binary("+" | "-" as operator, left, right):
            first, second = affine(left), affine(right)
            return None if first is None or second is None else first + second.scaled(1 if operator == "+" else -1)
        case Binary("*", Number(int(value)), other) | Binary("*", other, Number(int(value))):
            inner = affine(other)
            return None if inner is None else inner.scaled(value)
    return None
