"""What a mask's predicate says of blocks: which keys some of a block's queries see, and which are hidden from some of them.

Both are unions of regions, one per conjunction of the predicate and of its negation. A block of keys that no region of
`seen` meets is not visible, one that no region of `hidden` meets is visible in full, and any other is tested inside. So
nothing is ever skipped or left untested by mistake: a region that is too large only costs a test.

Formulas are about the queries `start <= t < stop` and the keys `low <= s < high`. `lowest(x[b, t])` and `highest` are the
least and the greatest entry that a block looks up, `some(x[...])` asks whether one of them is true, and `meet(x[b, t],
y[b, s])` whether queries and keys have a value in common.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

from attnspec.codegen.blocks.affine import Affine
from attnspec.codegen.blocks.normal_form import Disjunction, conjunction_of
from attnspec.codegen.blocks.regions import Region, region_of
from attnspec.codegen.blocks.vocabulary import Vocabulary
from attnspec.spec.expression import Binary, Expression


@dataclass(frozen=True, slots=True)
class Blocks:
    """The regions of a predicate and of its negation."""

    seen: tuple[Region, ...]
    hidden: tuple[Region, ...]
    vocabulary: Vocabulary

    @property
    def needs_table(self) -> bool:
        """Whether ranges of keys alone would visit blocks that can be skipped: then each block is looked up."""
        return not all(region.bounded for region in self.seen)


def analyse(predicates: Iterable[Expression], vocabulary: Vocabulary) -> Blocks:
    """The blocks of a conjunction of masks."""
    masks = tuple(predicates)
    seen, hidden = (tuple(_regions(conjunction_of(masks, holds, vocabulary), vocabulary)) for holds in (True, False))
    return Blocks(seen, hidden, vocabulary)


def _regions(conjunctions: Disjunction, vocabulary: Vocabulary) -> Iterable[Region]:
    """The regions of all conjunctions, each once."""
    found = (region_of(conjunction, vocabulary) for conjunction in conjunctions)
    return dict.fromkeys(region for region in found if region is not None)


def all_of(tests: Iterable[Expression]) -> Expression | None:
    """Their conjunction; None where there is nothing to test."""
    found = tuple(tests)
    return reduce(lambda one, other: Binary("and", one, other), found) if found else None


def low_text(region: Region) -> str:
    """The first key, before it is clipped to the sequence: `start - left`."""
    return _text("max", region.lows, "0")


def high_text(region: Region) -> str:
    """The key after the last one: `min(stop, S)`."""
    return _text("min", region.highs, "S")


def _text(function: str, bounds: tuple[Affine, ...], otherwise: str) -> str:
    texts = [bound.text() for bound in bounds] or [otherwise]
    return texts[0] if len(texts) == 1 else f"{function}({', '.join(texts)})"
