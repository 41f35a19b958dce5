"""What an expression can be inside a block: `max(lows) <= value <= min(highs)`, every bound an affine formula."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from itertools import product as pairs

from attnspec.codegen.blocks.affine import Affine, affine, number, product, quotient, single
from attnspec.codegen.blocks.vocabulary import Vocabulary
from attnspec.spec.expression import Access, Binary, Call, Expression, Name, Number, walk

MAX_BOUNDS = 8
MAX_NODES = 200


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of one value; none at all on a side that is open."""

    lows: tuple[Affine, ...] = ()
    highs: tuple[Affine, ...] = ()

    def __add__(self, other: Range) -> Range:
        lows = tuple(dict.fromkeys(a + b for a, b in pairs(self.lows, other.lows)))
        return Range(lows, tuple(dict.fromkeys(a + b for a, b in pairs(self.highs, other.highs))))

    def scaled(self, factor: int) -> Range:
        lows, highs = (tuple(bound.scaled(factor) for bound in side) for side in (self.lows, self.highs))
        return Range(lows, highs) if factor > 0 else Range(highs, lows)

    def clipped(self, other: Range) -> Range:
        """Both ranges at once."""
        return Range(tuple(dict.fromkeys((*self.lows, *other.lows))), tuple(dict.fromkeys((*self.highs, *other.highs))))

    def tightest(self, vocabulary: Vocabulary) -> Range:
        """Without the bounds that another one implies."""
        lows = _kept(self.lows, lambda one, other: vocabulary.never_negative(other - one))
        return Range(lows, _kept(self.highs, lambda one, other: vocabulary.never_negative(one - other)))

    def fewest(self) -> Range:
        """With no more bounds than formulas can carry: any of them is one."""
        return Range(self.lows[:MAX_BOUNDS], self.highs[:MAX_BOUNDS])

    def is_small(self) -> bool:
        """Whether its formulas are of a size that someone may print: those of `abs` and products double with every level."""
        sizes = (1 for bound in (*self.lows, *self.highs) for term, _ in bound.terms for _ in walk(term))
        return sum(islice(sizes, MAX_NODES + 1)) <= MAX_NODES

    @property
    def low(self) -> Expression:
        return _joined("max", self.lows)

    @property
    def high(self) -> Expression:
        return _joined("min", self.highs)


def exactly(value: Affine) -> Range:
    """The range of one value."""
    return Range((value,), (value,))


def between(first: Name, stop: Name) -> Range:
    """`first <= value < stop`."""
    return Range((single(first),), (single(stop).shifted(-1),))


Box = Mapping[str, Range]
"""The ranges of the indices."""


def range_of(value: Affine, box: Box, vocabulary: Vocabulary) -> Range | None:
    """The range of an affine form; None where some term has no bounds."""
    found = exactly(number(value.constant))
    for term, coefficient in value.terms:
        part = _term(term, box, vocabulary)
        if part is None or not part.is_small():
            return None
        found = (found + part.scaled(coefficient)).fewest()
    return found.tightest(vocabulary)


def _term(term: Expression, box: Box, vocabulary: Vocabulary) -> Range | None:
    if not vocabulary.varies(term):
        return exactly(single(term))
    match term:
        case Name(name):
            return box.get(name)
        case Call("interval", (bounds, position)):
            inner = range_of(affine(position), box, vocabulary)
            return None if inner is None else _intervals(inner, bounds)
        case Access(tensor, (index,)) if tensor in vocabulary.ordered:
            inner = range_of(affine(index), box, vocabulary)
            entry = partial(_entry, tensor)
            return None if inner is None else _mapped(inner, entry, entry)
        case Access(tensor, _) if tensor in vocabulary.integers:
            return Range((single(Call("lowest", (term,))),), (single(Call("highest", (term,))),))
        case Binary("//" | "%", left, right) if vocabulary.is_positive(right):
            inner = range_of(affine(left), box, vocabulary)
            return None if inner is None else _divided(term.operator, inner, affine(right))
        case Binary("*", left, right):
            sides = [range_of(affine(side), box, vocabulary) for side in (left, right)]
            return None if None in sides else _multiplied(*(side for side in sides if side is not None))
        case Call("min" | "max" | "abs" | "where" as function, arguments):
            numbers = arguments[1:] if function == "where" else arguments
            ranges = [range_of(affine(a), box, vocabulary) for a in numbers]
            return None if None in ranges else _called(function, [r for r in ranges if r is not None])
    return None


def _intervals(positions: Range, bounds: Expression) -> Range:
    """The numbers of the intervals that positions lie in."""

    def first(position: Expression) -> Expression:
        match position:
            case Call("max", parts):
                return Call("max", tuple(map(first, parts)))
            case Access(tensor, (number_,)) if Name(tensor) == bounds:
                return number_  # or one after it, where the interval is empty
        return Call("interval", (bounds, position))

    def last(position: Expression) -> Expression:
        match position:
            case Call("min", parts):
                return Call("min", tuple(map(last, parts)))
            case Binary("-", Access(tensor, (stop,)), Number(1)) if Name(tensor) == bounds:
                return affine(stop).shifted(-1).expression()
            case Binary("-", Call("where", (Binary("<", stop, _), Access(tensor, _), _)), Number(1)) if Name(tensor) == bounds:
                return affine(stop).shifted(-1).expression()
        return Call("interval", (bounds, position))

    return _mapped(positions, first, last)


def _entry(tensor: str, index: Expression) -> Access:
    return Access(tensor, (index,))


def _mapped(inner: Range, first: Callable[[Expression], Expression], last: Callable[[Expression], Expression]) -> Range:
    """What a function that never falls makes of a range: of several bounds the tightest, as others may be out of reach."""
    lows = (affine(first(inner.low)),) if inner.lows else ()
    return Range(lows, (affine(last(inner.high)),) if inner.highs else ())


def _divided(operator: str, value: Range, divisor: Affine) -> Range:
    """Division by something positive: quotients keep the order, remainders are less than the divisor."""
    if operator == "%":
        return Range((number(0),), (divisor.shifted(-1),))
    lows, highs = (tuple(quotient(bound, divisor) for bound in side) for side in (value.lows, value.highs))
    return Range(lows, highs)


def _multiplied(left: Range, right: Range) -> Range:
    """The least and the greatest product of the ends."""
    ends = [product(a, b) for a in (*left.lows, *left.highs) for b in (*right.lows, *right.highs)]
    return Range((affine(_joined("min", tuple(ends))),), (affine(_joined("max", tuple(ends))),))


def _called(function: str, ranges: list[Range]) -> Range:
    lows = tuple(bound for each in ranges for bound in each.lows)
    highs = tuple(bound for each in ranges for bound in each.highs)
    if function == "max":
        return Range(lows, (affine(_nested("max", [r.high for r in ranges])),))
    if function == "min":
        return Range((affine(_nested("min", [r.low for r in ranges])),), highs)
    if function == "abs":
        away = (number(0), *lows, *(high.scaled(-1) for high in highs))
        return Range(away, (affine(_nested("max", [ranges[0].high, ranges[0].scaled(-1).high])),))
    ends = (_nested("min", [r.low for r in ranges]), _nested("max", [r.high for r in ranges]))
    return Range((affine(ends[0]),), (affine(ends[1]),))


def _kept(bounds: tuple[Affine, ...], implied: Callable[[Affine, Affine], bool]) -> tuple[Affine, ...]:
    """The bounds that no other one implies; of two that say the same the first."""
    kept: list[Affine] = []
    for number_, one in enumerate(bounds):
        others = (*kept, *bounds[number_ + 1 :])
        if not any(implied(one, other) for other in others):
            kept.append(one)
    return tuple(kept)


def _joined(function: str, bounds: tuple[Affine, ...]) -> Expression:
    return _nested(function, [bound.expression() for bound in bounds])


def _nested(function: str, parts: list[Expression]) -> Expression:
    unique = tuple(dict.fromkeys(parts))
    return unique[0] if len(unique) == 1 else Call(function, unique)
