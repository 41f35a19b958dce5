"""The block table of a predicate in NumPy: the formulas of `analysis` at the sizes and operands of one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnspec.codegen.blocks.affine import affine, number
from attnspec.codegen.blocks.analysis import Blocks
from attnspec.codegen.blocks.ranges import Range, between, range_of
from attnspec.codegen.blocks.regions import Region
from attnspec.codegen.blocks.vocabulary import HIGH, LOW, START, STOP, Vocabulary
from attnspec.spec.expression import Access, Binary, Call, Expression, Name, Number, Unary, names, to_text

Array = NDArray[Any]
SKIP, TEST, FULL = range(3)
"""No pair of the block is visible; some may be, or some may be hidden; every pair is."""
_AXES = ("b", "n", "t", "s")
_WORDS = 4  # sets of segment ids are told apart by 256 bits, a few ids to each where there are more


@dataclass(frozen=True)
class Run:
    """Neighbouring blocks of keys of one kind: `low <= s < high`."""

    low: int
    high: int
    state: int


def block_table(blocks: Blocks, scope: Mapping[str, Any], block: tuple[int, int]) -> NDArray[np.int8]:
    """SKIP, TEST or FULL for every (batch row, head, block of queries, block of keys).

    `scope` has sizes, scalars and the operands of the masks by name, operands with their canonical axes; an axis of the
    table has size 1 where nothing depends on it.
    """
    grid = _Grid.of(scope, block, blocks.vocabulary)
    if 0 in grid.counts:
        return np.zeros((1, 1, *grid.counts), np.int8)
    seen, hidden = (grid.union(regions) for regions in (blocks.seen, blocks.hidden))
    table = np.where(seen, np.where(hidden, np.int8(TEST), np.int8(FULL)), np.int8(SKIP)).astype(np.int8)
    return np.broadcast_to(table, (*table.shape[:2], *grid.counts))


def runs(row: NDArray[np.int8], length: int, block: int) -> Iterator[Run]:
    """The runs of one block of queries, without those that are skipped."""
    edges = np.flatnonzero(np.diff(row)) + 1
    for first, last in zip((0, *edges), (*edges, len(row)), strict=True):
        if first < last and row[first] != SKIP:
            yield Run(int(first) * block, min(int(last) * block, length), int(row[first]))


def share(table: NDArray[np.int8], state: int) -> float:
    """The share of blocks of a kind."""
    return float(np.mean(table == state)) if table.size else 0.0


@dataclass
class _Grid:
    """All blocks at once: every value is an array over (b, n, block of queries, block of keys), of size 1 where it is one."""

    scope: Mapping[str, Any]
    counts: tuple[int, int]
    vocabulary: Vocabulary
    cache: dict[Expression, Array]

    @staticmethod
    def of(scope: Mapping[str, Any], block: tuple[int, int], vocabulary: Vocabulary) -> _Grid:
        edges: dict[str, Array] = {}
        counts = []
        for axis, dim, size, (first, last) in zip((2, 3), "TS", block, ((START, STOP), (LOW, HIGH)), strict=True):
            starts = np.arange(0, scope[dim], size, dtype=np.int64)
            counts.append(len(starts))
            edges[first.name] = _along(starts, axis)
            edges[last.name] = _along(np.minimum(starts + size, scope[dim]), axis)
        for axis, letter in enumerate("bn"):
            if letter.upper() in scope:
                edges[letter] = _along(np.arange(scope[letter.upper()]), axis)
        return _Grid({**scope, **edges}, (counts[0], counts[1]), vocabulary, {})

    def union(self, regions: tuple[Region, ...]) -> Array:
        """Whether a block meets any of the regions."""
        met = (self.met(region) for region in regions)
        return reduce(np.logical_or, met, np.zeros((1, 1, 1, 1), np.bool_))

    def met(self, region: Region) -> Array:
        return reduce(np.logical_and, map(self.value, region.meets), np.ones((1, 1, 1, 1), np.bool_))

    def value(self, expression: Expression) -> Array:
        """The value of a formula for every block; what several formulas share is worked out once."""
        if expression not in self.cache:
            self.cache[expression] = self.computed(expression)
        return self.cache[expression]

    def computed(self, expression: Expression) -> Array:
        match expression:
            case Number(value):
                return np.asarray(value)
            case Name(name):
                return np.asarray(self.scope[name])
            case Unary(operator, operand):
                return np.logical_not(self.value(operand)) if operator == "not" else -self.value(operand)
            case Binary(operator, left, right):
                return np.asarray(_OPERATORS[operator](self.value(left), self.value(right)))
            case Call("lowest" | "highest" | "some" as how, (looked_up,)):
                return self.reduced(looked_up, _REDUCTIONS[how])
            case Call("meet", (one, other)):
                return reduce(np.logical_or, (self.shared(one, other, word) for word in range(_WORDS)))
            case Call("interval", (Name(bounds), position)):
                return np.asarray(np.searchsorted(np.asarray(self.scope[bounds]), self.value(position), side="right") - 1)
            case Call("where", (condition, one, other)):
                return np.where(self.value(condition), self.value(one), self.value(other))
            case Call(function, arguments):
                values = list(map(self.value, arguments))
                return np.asarray(_FUNCTIONS[function](values[0]) if len(values) == 1 else reduce(_FUNCTIONS[function], values))
            case Access(tensor, indices):
                return self.entry(np.asarray(self.scope[tensor]), indices)
        raise TypeError(f"no formula of a block: `{to_text(expression)}`")

    def entry(self, entries: Array, indices: tuple[Expression, ...]) -> Array:
        """What is looked up alike by every pair of a block; an axis of size 1 broadcasts."""
        places = (np.minimum(self.value(index), length - 1) for index, length in zip(indices, entries.shape, strict=True))
        return np.asarray(entries[tuple(places)])

    def shared(self, one: Expression, other: Expression, word: int) -> Array:
        """Whether two looked-up sets may have a value in common, by one word of their bits."""
        bits = [self.reduced(side, np.bitwise_or, lambda entries: _bits(entries, word)) for side in (one, other)]
        return np.not_equal(bits[0] & bits[1], 0)

    def reduced(self, looked_up: Expression, how: np.ufunc, each: Callable[[Array], Array] = np.asarray) -> Array:
        """`how` over the entries that a block looks up, or over more of them: over a whole axis where no range is known."""
        if isinstance(looked_up, Unary):
            return self.reduced(looked_up.operand, how, np.logical_not)
        assert isinstance(looked_up, Access)
        entries, shape = each(np.asarray(self.scope[looked_up.tensor])), [1, 1, 1, 1]
        order: list[int] = []
        for axis, index in enumerate(looked_up.indices):
            (*moving,) = (place for place, letter in enumerate(_AXES) if letter in names(index))
            place = moving[0] if moving else 0
            if len(moving) > 1 or place in order or entries.shape[axis] == 1:  # no axis of the grid for it: all of its own
                entries = how.reduce(entries, axis=axis, keepdims=True)
            else:
                entries = self.over_axis(entries, axis, index, how)
                shape[place] = entries.shape[axis]
            order.append(place)
        return entries.transpose(sorted(range(len(order)), key=order.__getitem__)).reshape(shape)

    def over_axis(self, entries: Array, axis: int, index: Expression, how: np.ufunc) -> Array:
        """The axis reduced to what each block of the grid's axis looks up."""
        box = {"t": between(START, STOP), "s": between(LOW, HIGH)}
        box |= {letter: Range((number(0),), (number(entries.shape[axis] - 1),)) for letter in self.vocabulary.within}
        found = range_of(affine(index), box, self.vocabulary)
        if found is None:
            return np.asarray(how.reduce(entries, axis=axis, keepdims=True))
        ends = np.broadcast_arrays(self.value(found.low), self.value(found.high))
        first, last = (np.clip(end.ravel(), 0, entries.shape[axis] - 1) for end in ends)
        return reduce_ranges(entries, axis, first, last + 1, how)


def reduce_ranges(entries: Array, axis: int, starts: Array, stops: Array, how: np.ufunc) -> Array:
    """`how` over `starts[i] <= place < stops[i]` of an axis, for every i."""
    if len(starts) and np.array_equal(starts[1:], stops[:-1]):
        within = np.take(entries, range(int(stops[-1])), axis)
        return np.asarray(how.reduceat(within, starts, axis=axis))
    parts = [
        how.reduce(np.take(entries, range(a, b), axis), axis=axis, keepdims=True) for a, b in zip(starts, stops, strict=True)
    ]
    return np.concatenate(parts, axis) if parts else np.take(entries, [], axis)


def _along(values: Array, axis: int) -> Array:
    return values.reshape([-1 if place == axis else 1 for place in range(4)])


def _bits(entries: Array, word: int) -> Array:
    """Each value as one of 64 bits, if it belongs to the word: different bits mean different values."""
    place = entries.astype(np.int64) % (64 * _WORDS) - 64 * word
    return np.where((place >= 0) & (place < 64), np.left_shift(np.uint64(1), (place % 64).astype(np.uint64)), np.uint64(0))


_REDUCTIONS = {"lowest": np.minimum, "highest": np.maximum, "some": np.logical_or}
_OPERATORS: dict[str, Callable[[Array, Array], Any]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "//": np.floor_divide, "%": np.remainder, "/": np.divide,
    "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal, "!=": np.not_equal,
    "and": np.logical_and, "or": np.logical_or,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., Any]] = {"min": np.minimum, "max": np.maximum, "abs": np.abs, "floor": np.floor}
