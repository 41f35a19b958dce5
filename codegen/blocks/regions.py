"""Where one conjunction can hold inside a block: the keys it leaves for a block of queries, and a test of a block of keys.

The atoms are sorted by what they bound: a direction is an affine form of what varies inside a block, such as s, `s - t` or
`t // width`. Bounds on s and on t clip the block, and those on `s - t` are then met by some pair of it exactly if the
clipped block reaches them. So regions of position masks and their conjunctions are exact; what has no bounds (a comparison
of floats) is left out, which makes a region larger, never smaller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from math import gcd

from attnspec.codegen.blocks.affine import Affine, affine, number, product, quotient, single
from attnspec.codegen.blocks.normal_form import Atom, Bound, Conjunction, Literal
from attnspec.codegen.blocks.ranges import Box, Range, between, exactly, range_of
from attnspec.codegen.blocks.vocabulary import HIGH, LOW, START, STOP, Vocabulary
from attnspec.spec.expression import Access, Binary, Call, Expression, Name, Unary, names, to_text

S, T = Name("s"), Name("t")
_KEYS, _QUERIES = between(LOW, HIGH), between(START, STOP)


class Impossible(Exception):
    """The conjunction holds nowhere."""


@dataclass(frozen=True, slots=True)
class Region:
    """Keys `max(lows) <= s < min(highs)` where `given` holds (of the queries); a block of keys is met where `meets` holds.

    `bounded`: whether the keys say all that `meets` says. If not, some of them are in blocks that are not met.
    """

    lows: tuple[Affine, ...]
    highs: tuple[Affine, ...]
    given: tuple[Expression, ...]
    meets: tuple[Expression, ...]
    bounded: bool


def region_of(conjunction: Conjunction, vocabulary: Vocabulary) -> Region | None:
    """The region of a conjunction; None where it holds nowhere."""
    try:
        atoms = _Atoms(vocabulary)
        for atom in conjunction:
            atoms.add(atom)
        keys, given, bounded = atoms.keys()
        return Region(keys.lows, tuple(high.shifted(1) for high in keys.highs), given, atoms.meets(), bounded)
    except Impossible:
        return None


@dataclass
class _Atoms:
    """The atoms of one conjunction, bounds sorted by direction."""

    vocabulary: Vocabulary
    own: dict[Affine, Range] = field(default_factory=dict)
    fixed: list[Affine] = field(default_factory=list)
    literals: list[Literal] = field(default_factory=list)

    def add(self, atom: Atom) -> None:
        if isinstance(atom, Literal):
            self.literals.append(atom)
            return
        direction, factor, rest = self.split(atom.value)
        if direction is None:
            self.fixed.append(rest.scaled(-1))
        elif factor > 0:
            self.bound(direction, Range((), (_floor(rest.scaled(-1), factor),)))
        else:
            self.bound(direction, Range((_ceiling(rest, -factor),)))

    def split(self, value: Affine) -> tuple[Affine | None, int, Affine]:
        """(direction, factor, rest): what varies, in lowest terms, key positions with a positive sign."""
        varying = tuple((term, c) for term, c in value.terms if self.vocabulary.varies(term))
        rest = value - Affine(varying)
        if not varying:
            return None, 0, rest
        _, first = min(varying, key=lambda term: ("s" not in names(term[0]), to_text(term[0])))
        factor = gcd(*(c for _, c in varying)) * (1 if first > 0 else -1)
        return Affine(tuple((term, c // factor) for term, c in varying)), factor, rest

    def bound(self, direction: Affine, limits: Range) -> None:
        """Note bounds of a direction; those of a quotient alone are bounds of what is divided."""
        match direction.terms:
            case ((Binary("//", left, right), 1),) if self.vocabulary.is_positive(right):
                inner = _dividend(limits, affine(right))
                for low in inner.lows:
                    self.add(Bound(low - affine(left)))
                for high in inner.highs:
                    self.add(Bound(affine(left) - high))
            case _:
                self.own[direction] = self.own.get(direction, Range()).clipped(limits).tightest(self.vocabulary)

    # -- a block of keys ------------------------------------------------------------------------------------------

    def meets(self) -> tuple[Expression, ...]:
        """Tests of the block `start, stop, low, high` that all hold wherever it has a pair of the conjunction."""
        box = self.clipped({"s": _KEYS, "t": _QUERIES, **self.batch()})
        tests = [*self.fixed, *self.left_over(box)]
        found: list[Expression] = []
        for direction in self.own:
            if not _is_index(direction):
                tests += self.crossings(direction, box)
                found += self.remainders(direction, box)
                found += _common(direction, self.own[direction])
        looked_up = (test for literal in self.literals for test in self.looked_up(literal))
        return tuple(dict.fromkeys((*self.needed(tests), *found, *looked_up)))

    def batch(self) -> Box:
        """The other indices that run inside a block."""
        sizes = {name: single(Name(name.upper())).shifted(-1) for name in sorted(self.vocabulary.within)}
        return {name: Range((number(0),), (last,)) for name, last in sizes.items()}

    def clipped(self, box: Box) -> Box:
        """The block where the bounds of single indices leave it."""
        own = {name: self.own.get(single(Name(name)), Range()) for name in box}
        return {name: limits.clipped(own[name]).tightest(self.vocabulary) for name, limits in box.items()}

    def left_over(self, box: Box) -> Iterator[Affine]:
        """What must be 0 or more for the bounds of single indices to leave something of the block."""
        return (value for name in box if single(Name(name)) in self.own for value in _gaps(box[name]))

    def narrowed(self, box: Box) -> Box:
        """The block where the bounds of `s - t` and its like leave it."""
        narrow = dict(box)
        for direction, limits in self.own.items():
            for name, (own, factor, other) in _sides(direction).items():
                if {name, other} <= box.keys():
                    narrow[name] = narrow[name].clipped((limits + box[other].scaled(-factor)).scaled(own))
        return narrow

    def crossings(self, direction: Affine, box: Box) -> Iterator[Affine]:
        """What must be 0 or more for the direction's range to reach its bounds."""
        box = box if _sides(direction) else self.narrowed(box)
        own, reach = self.own[direction], range_of(direction, box, self.vocabulary) or Range()
        for low in own.lows:
            yield from (high - low for high in (*own.highs, *reach.highs))
        for high in own.highs:
            yield from (high - low for low in reach.lows)

    def remainders(self, direction: Affine, box: Box) -> Iterator[Expression]:
        """Where `x % m` has bounds: whether some x of the block has such a remainder."""
        match direction.terms:
            case ((Binary("%", left, right), 1),) if self.vocabulary.is_positive(right):
                value = self.reach(affine(left), box)
                if value is not None:
                    divisor = affine(right)
                    wanted = self.own[direction].clipped(Range((number(0),), (divisor.shifted(-1),)))
                    yield from self.needed(_gaps(wanted))
                    yield _has_remainder(value, divisor, wanted.tightest(self.vocabulary))

    def reach(self, value: Affine, box: Box) -> Range | None:
        """The range of a form, also by what its direction is bound to."""
        direction, factor, rest = self.split(value)
        if direction is None:
            return None
        found = range_of(direction, self.narrowed(box) if _is_index(direction) else box, self.vocabulary)
        if found is None:
            return None
        limits = found.clipped(self.own.get(direction, Range())).scaled(factor)
        return Range(tuple(v + rest for v in limits.lows), tuple(v + rest for v in limits.highs)).tightest(self.vocabulary)

    def looked_up(self, literal: Literal) -> Iterator[Expression]:
        """A flag is asked itself, a tensor whether some of its entries in the block will do; nothing else is known."""
        test = literal.expression if literal.holds else Unary("not", literal.expression)
        if not self.vocabulary.varies(literal.expression):
            yield test
        elif isinstance(literal.expression, Access):
            yield Call("some", (test,))

    def needed(self, values: Iterable[Affine]) -> Iterator[Expression]:
        """`value >= 0` for each, without those that always hold. Raises Impossible where one never does."""
        for value in dict.fromkeys(values):
            if self.vocabulary.never_negative(value.scaled(-1).shifted(-1)):
                raise Impossible
            if not self.vocabulary.never_negative(value):
                yield not_negative(value)

    # -- all keys -------------------------------------------------------------------------------------------------

    def keys(self) -> tuple[Range, tuple[Expression, ...], bool]:
        """(range of s, what must hold of the queries for it, whether it says all)."""
        without_keys = replace(self, own={d: limits for d, limits in self.own.items() if "s" not in _names(d)})
        box = without_keys.clipped({"t": _QUERIES, **self.batch()})
        keys, bounded = Range(), True
        tests = [*self.fixed, *self.left_over(box)]
        given: list[Expression] = []
        for direction, limits in sorted(self.own.items(), key=lambda each: _is_entangled(each[0])):
            if "s" in _names(direction):
                solved = self.solved(direction, limits, box, keys)
                keys, bounded = keys.clipped(solved or Range()), bounded and solved is not None
                tests += [high - low for low in limits.lows for high in limits.highs]
            elif not _is_index(direction):
                tests += without_keys.crossings(direction, box)
                given += without_keys.remainders(direction, box)
        for literal in self.literals:
            looked_up = list(self.looked_up(literal))
            about_keys = "s" in names(literal.expression)
            given += [] if about_keys else looked_up
            bounded = bounded and bool(looked_up) and not about_keys
        return keys.tightest(self.vocabulary), (*self.needed(tests), *given), bounded

    def solved(self, direction: Affine, limits: Range, box: Box, keys: Range) -> Range | None:
        """The range of s that a direction's bounds leave over all queries of the box; None where they cannot be solved.

        What is looked up at s, besides s itself, lies between what it is at the ends of the keys that are left already.
        """
        about = [(term, c) for term, c in direction.terms if "s" in names(term)]
        if len(about) > 1:
            sign = -1 if direction.coefficient(S) < 0 else 1
            direction, limits = direction.scaled(sign), limits.scaled(sign)
            about = [(S, direction.coefficient(S))]
            box = {**box, "s": keys} if keys.lows and keys.highs else box
        ((term, factor),) = about
        rest = range_of(direction - Affine(tuple(about)), box, self.vocabulary)
        if rest is None or not factor:
            return None
        reach = limits + rest.scaled(-1)
        if term == S:
            return Range(
                tuple(_ceiling(low, factor) for low in reach.lows), tuple(_floor(high, factor) for high in reach.highs)
            )
        match term:
            case Binary("//", left, right) if factor == 1 and self.vocabulary.is_positive(right):
                shift = affine(left) - single(S)
                if self.vocabulary.varies(shift.expression()):
                    return None
                inner = _dividend(reach, affine(right))
                return Range(tuple(v - shift for v in inner.lows), tuple(v - shift for v in inner.highs))
            case Call("interval", (Name(bounds), position)) if factor == 1:
                shift = affine(position) - single(S)
                if self.vocabulary.varies(shift.expression()):
                    return None
                inner = _within_intervals(reach, bounds, self.vocabulary)
                return Range(tuple(v - shift for v in inner.lows), tuple(v - shift for v in inner.highs))
        return None


def not_negative(value: Affine) -> Expression:
    """`value >= 0` as a comparison without minus signs: `low < stop`."""
    left = Affine(tuple((term, -c) for term, c in value.terms if c < 0))
    right = Affine(tuple((term, c) for term, c in value.terms if c > 0))
    if value.constant < 0:
        return Binary("<", left.shifted(-1 - value.constant).expression(), right.expression())
    if not right.terms:
        return Binary("<", left.expression(), number(value.constant + 1).expression())
    return Binary("<=", left.expression(), right.shifted(value.constant).expression())


def _is_entangled(direction: Affine) -> bool:
    """Whether s is in several of its terms."""
    return sum("s" in names(term) for term, _ in direction.terms) > 1


def _is_index(direction: Affine) -> bool:
    """Whether it is s, t or another index alone: its bounds clip the block."""
    return len(direction.terms) == 1 and isinstance(direction.terms[0][0], Name)


def _names(direction: Affine) -> frozenset[str]:
    return frozenset().union(*(names(term) for term, _ in direction.terms))


def _gaps(limits: Range) -> Iterator[Affine]:
    """What must be 0 or more for the range not to be empty."""
    return (high - low for low in limits.lows for high in limits.highs)


def _floor(value: Affine, factor: int) -> Affine:
    """`value // factor`, exact where every coefficient is a multiple."""
    if all(c % factor == 0 for _, c in value.terms):
        return Affine(tuple((term, c // factor) for term, c in value.terms), value.constant // factor)
    return quotient(value, number(factor))


def _ceiling(value: Affine, factor: int) -> Affine:
    return _floor(value.scaled(-1), factor).scaled(-1)


def _dividend(quotients: Range, divisor: Affine) -> Range:
    """The range of x where `x // divisor` has the given one."""
    highs = tuple(product(high, divisor) + divisor.shifted(-1) for high in quotients.highs)
    return Range(tuple(product(low, divisor) for low in quotients.lows), highs)


def _within_intervals(numbers: Range, bounds: str, vocabulary: Vocabulary) -> Range:
    """The range of positions in the intervals of these numbers; the last entry begins one that never ends."""
    count = single(Name(vocabulary.tensors[bounds][0].upper()))
    last = count.shifted(-1)

    def is_entry(number_: Affine) -> bool:
        return any(vocabulary.never_negative(last - value) for value in _not_above(number_, last))

    def beginning(number_: Affine) -> Affine:
        there = number_.expression()
        return single(Access(bounds, (there if is_entry(number_) else Call("min", (there, last.expression())),)))

    def end(number_: Affine) -> Affine:
        stop = number_.shifted(1)
        if is_entry(stop):
            return beginning(stop)
        there = Binary("<", stop.expression(), count.expression())
        return single(Call("where", (there, beginning(stop).expression(), Name("S"))))

    return Range(tuple(map(beginning, numbers.lows)), tuple(end(high).shifted(-1) for high in numbers.highs))


def _not_above(value: Affine, last: Affine) -> Iterator[Affine]:
    """Values that this one does not exceed: itself, what is left of a `min` in it, and of an interval the last one."""
    yield value
    for term, coefficient in value.terms:
        match term:
            case Call("min", parts) if coefficient == 1:
                yield from (value.replaced(term, affine(part)) for part in parts)
            case Call("interval", _) if coefficient == 1:
                yield value.replaced(term, last)


def _sides(direction: Affine) -> dict[str, tuple[int, int, str]]:
    """Of `s - t` and its like each index: name -> (its coefficient, that of the other, the other)."""
    match direction.terms:
        case ((Name(one), 1 | -1 as a), (Name(two), 1 | -1 as b)):
            return {one: (a, b, two), two: (b, a, one)}
    return {}


def _common(direction: Affine, limits: Range) -> Iterator[Expression]:
    """Two looked-up values that must be equal: whether the block's queries and keys have one in common."""
    match direction.terms:
        case ((Access() as one, 1 | -1 as a), (Access() as other, 1 | -1 as b)) if a + b == 0 and limits == exactly(number(0)):
            yield Call("meet", (one, other))


def _has_remainder(value: Range, divisor: Affine, wanted: Range) -> Expression:
    """Whether some x of a range has a remainder of a range: its first x has, or a later x begins a new round."""
    first, last, least = affine(value.low), affine(value.high), affine(wanted.low)
    by = divisor.expression()
    rounds = [quotient(v - least, divisor).expression() for v in (last, first.shifted(-1))]
    begins = Binary(">", *rounds)
    span = affine(wanted.high) - least
    if span == number(0):
        return begins
    fits = Binary("<=", Binary("%", (first - least).expression(), by), span.expression())
    return Binary("or", fits, begins)


__all__ = ["Region", "not_negative", "region_of"]
