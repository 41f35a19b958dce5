"""What masks look up in tensors of integers, segment ids and lengths: their extremes, block by block, and their entries.

One loop serves every batch row, so that a block of queries sees a block of keys where it does in any row. Of the formulas those
of the least and the greatest entries are asked, and whether sets have an entry in common is not: a doubt costs a visit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attnspec.codegen.blocks.affine import Affine
from attnspec.codegen.blocks.analysis import Blocks, analyse
from attnspec.codegen.blocks.regions import Region
from attnspec.codegen.blocks.vocabulary import vocabulary_of
from attnspec.codegen.blockwise.coverage import lookups, masks
from attnspec.spec.expression import Access, Binary, Call, Expression, Name, Number, Unary
from attnspec.spec.model import Spec

EXTREMES = ("lowest", "highest")
_PLACES: dict[str, Expression] = {
    "T": Binary("//", Name("start"), Name("BLOCK")), "S": Binary("//", Name("low"), Name("BLOCK")), "": Number(0),
}  # fmt: skip


def blocks_of(spec: Spec) -> Blocks:
    """The regions of a spec's masks, over all batch rows; what they look up is found in lists of extremes."""
    found = analyse(masks(spec), vocabulary_of(spec).over("b" if lookups(spec) else ""))
    seen, hidden = (tuple(_with_extremes(region, spec) for region in regions) for regions in (found.seen, found.hidden))
    return Blocks(seen, hidden, found.vocabulary)


def extremes(name: str) -> list[str]:
    """The variables with the least and the greatest entry of every block of a tensor."""
    return [f"{extreme}_{name}" for extreme in EXTREMES]


def along(spec: Spec, name: str) -> str:
    """The dim along which a tensor is taken block by block; none where it has one entry for each batch row."""
    return next((dim for dim in spec.tensors[name] if dim in ("T", "S")), "")


def _with_extremes(region: Region, spec: Spec) -> Region:
    def formula(expression: Expression) -> Expression:
        return _found(expression, spec)

    def bound(value: Affine) -> Affine:
        return Affine(tuple((formula(term), factor) for term, factor in value.terms), value.constant)

    asked = tuple(formula(test) for test in region.meets if not (isinstance(test, Call) and test.function == "meet"))
    return replace(
        region,
        lows=tuple(map(bound, region.lows)),
        highs=tuple(map(bound, region.highs)),
        given=tuple(map(formula, region.given)),
        meets=asked,
    )


def _found(expression: Expression, spec: Spec) -> Expression:
    """`lowest(x[b, t])` as `lowest_x[start // BLOCK]`."""
    match expression:
        case Call(("lowest" | "highest") as extreme, (Access(name, _),)):
            return Access(f"{extreme}_{name}", (_PLACES[along(spec, name)],))
        case Unary(operator, operand):
            return Unary(operator, _found(operand, spec))
        case Binary(operator, left, right):
            return Binary(operator, _found(left, spec), _found(right, spec))
        case Call(function, arguments):
            return Call(function, tuple(_found(argument, spec) for argument in arguments))
    return expression


def calls(spec: Spec) -> Iterator[str]:
    """The lines that find the extremes."""
    for name in lookups(spec):
        given = f"{name}, BLOCK" if along(spec, name) else f"{name}[:, None], 1"
        yield f"{', '.join(extremes(name))} = _extremes({given})"
