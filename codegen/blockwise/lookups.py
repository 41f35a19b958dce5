"""What masks look up in tensors of integers, segment ids and lengths: their extremes, block by block, and their entries.

One loop serves every batch row, so that a block of queries sees a block of keys where it does in any row. Of the formulas those
of the least and the greatest entries are asked, and whether sets have an entry in common is not: a doubt costs a visit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from attnspec.codegen.blocks.affine import Affine
from attnspec.codegen.blocks.analysis import Blocks, analyse
from attnspec.codegen.blocks.regions import Region
from attnspec.codegen.blocks.vocabulary import vocabulary_of
from attnspec.codegen.blockwise.coverage import lookups, masks, scalars
from attnspec.spec.expression import Access, Binary, Call, Expression, Name, Number, Unary
from attnspec.spec.model import Spec

EXTREMES = ("lowest", "highest")
_PLACES: dict[str, Expression] = {
    "T": Binary("//", Name("start"), Name("BLOCK")), "S": Binary("//", Name("low"), Name("BLOCK")), "": Number(0),
}  # fmt: skip


def blocks_of(spec: Spec, in_lists: bool = True) -> Blocks:
    """The regions of a spec's masks, over all batch rows; what they look up is found in lists, or arrays, of extremes."""
    found = analyse(masks(spec), vocabulary_of(spec).over("b" if lookups(spec) else ""))
    rename = _Extremes(spec, in_lists)
    seen, hidden = (tuple(map(rename.region, regions)) for regions in (found.seen, found.hidden))
    return Blocks(seen, hidden, found.vocabulary)


def extremes(name: str) -> list[str]:
    """The variables with the least and the greatest entry of every block of a tensor."""
    return [f"{extreme}_{name}" for extreme in EXTREMES]


def along(spec: Spec, name: str) -> str:
    """The dim along which a tensor is taken block by block; none where it has one entry for each batch row."""
    return next((dim for dim in spec.tensors[name] if dim in ("T", "S")), "")


@dataclass(frozen=True)
class _Extremes:
    """Formulas with the names of extremes: `lowest(x[b, t])` as `lowest_x[start // BLOCK]`, or `lowest_x` for all blocks."""

    spec: Spec
    in_lists: bool

    def region(self, region: Region) -> Region:
        asked = (test for test in region.meets if not (isinstance(test, Call) and test.function == "meet"))
        return replace(
            region,
            lows=tuple(map(self.bound, region.lows)),
            highs=tuple(map(self.bound, region.highs)),
            given=tuple(map(self.formula, region.given)),
            meets=tuple(map(self.formula, asked)),
        )

    def bound(self, value: Affine) -> Affine:
        return Affine(tuple((self.formula(term), factor) for term, factor in value.terms), value.constant)

    def formula(self, expression: Expression) -> Expression:
        match expression:
            case Call(("lowest" | "highest") as extreme, (Access(name, _),)):
                found = f"{extreme}_{name}"
                return Access(found, (_PLACES[along(self.spec, name)],)) if self.in_lists else Name(found)
            case Unary(operator, operand):
                return Unary(operator, self.formula(operand))
            case Binary(operator, left, right):
                return Binary(operator, self.formula(left), self.formula(right))
            case Call(function, arguments):
                return Call(function, tuple(map(self.formula, arguments)))
        return expression


_FOR_ALL = {
    "T": "{} = (each[:, None] for each in _extremes({}, rows))", "S": "{} = _extremes({}, columns)",
    "": "{} = _extremes({}[:, None], 1)",
}  # fmt: skip
"""How the least and the greatest of what masks look up is found, for all blocks of queries and of keys at once."""


def read_by_formulas(spec: Spec, read: Iterable[str]) -> list[str]:
    """The lines before formulas for all blocks: numbers that do not overflow, and extremes."""
    numbers = [f"{name} = _within_reach({name})" for name in read if name in scalars(spec) and _is_integer(spec, name)]
    found = ((along(spec, name), ", ".join(extremes(name)), name) for name in read if name in lookups(spec))
    return numbers + [_FOR_ALL[dim].format(both, name) for dim, both, name in found]


def _is_integer(spec: Spec, name: str) -> bool:
    return spec.argument(name).role == "integer"


def calls(spec: Spec) -> Iterator[str]:
    """The lines that find the extremes."""
    for name in lookups(spec):
        given = f"{name}, BLOCK" if along(spec, name) else f"{name}[:, None], 1"
        yield f"{', '.join(extremes(name))} = _extremes({given})"
