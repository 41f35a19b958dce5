"""What has a blockwise form, and what all of its printers ask of a spec."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

from attnspec.codegen.index_notation import LoweringError
from attnspec.codegen.prologue import canonical_dims
from attnspec.spec.expression import Access, Binary, Expression, Name, fold, names, to_text, walk
from attnspec.spec.model import Argument, Spec

BLOCK_LENGTH = 128
BLOCKED = {"query": "T", "key": "S", "value": "S"}
"""The tensors that are taken block by block, and along which dim."""
_LOOKED_UP = (("B",), ("B", "T"), ("B", "S"))
_KINDS = {"score.dot", "modifier.scale", "modifier.softcap", "softmax.plain", "combine.weighted"}


def supports_blockwise(spec: Spec) -> bool:
    """Whether every stage is unconditional, the masks ask for what loops know, and hidden keys leave no trace."""
    return not any(reasons(spec))


def require(spec: Spec) -> None:
    """LoweringError, with every reason, where a spec has no blockwise form."""
    found = list(reasons(spec))
    if found:
        raise LoweringError(f"{spec.name}: blockwise: {'; '.join(found)}")


def reasons(spec: Spec) -> Iterator[str]:
    """Why a spec has no blockwise form."""
    if spec.form != "function":
        yield "layers are not supported"
    if len(spec.paths) != 1:
        yield "several paths are not supported"
    if len(spec.outputs) != 1:
        yield "several outputs are not supported"
    known = lookups(spec) if len(spec.paths) == 1 else []
    yield from _of_arguments(spec, known)
    if len(spec.paths) == 1:
        yield from _of_stages(spec, known)


def lookups(spec: Spec) -> list[str]:
    """The tensors of integers that masks look up: one entry for a batch row, a query or a key."""
    read = {entry for mask in masks(spec) for entry in walk(mask) if isinstance(entry, Access)}
    return [a.name for a in spec.tensor_arguments if a.dtype == "integer" and not a.optional and _is_looked_up(a, spec, read)]


def _is_looked_up(argument: Argument, spec: Spec, read: set[Access]) -> bool:
    """Whether a tensor is read at the positions of batch row, query and key alone, and comes as it is."""
    axes = spec.tensors.get(argument.name, ())
    plain = Access(argument.name, tuple(Name(dim.lower()) for dim in axes))
    found = [entry for entry in read if entry.tensor == argument.name]
    return axes in _LOOKED_UP and found == [plain] and argument.feeds in ("", argument.name) and _is_plain(argument, axes)


def _of_arguments(spec: Spec, known: list[str]) -> Iterator[str]:
    """Query, key and value under these names with all their axes, in one layout each; beside them numbers and flags."""
    for argument in spec.arguments:
        if argument.role == "tensor" and argument.name in BLOCKED:
            if argument.feeds not in ("", argument.name) or not _is_plain(argument, spec.tensors[argument.name]):
                yield f"`{argument.name}` must have one layout, with a batch axis and one of heads"
        elif argument.role not in ("number", "integer", "flag") and argument.name not in known:
            yield f"`{argument.name}` is not supported"
    yield from (f"there must be a `{name}`" for name in BLOCKED if name not in {a.name for a in spec.arguments})


def _is_plain(argument: Argument, axes: tuple[str, ...]) -> bool:
    """Whether it has one layout, in which every axis has its place."""
    if len(argument.layouts) != 1 or argument.layouts[0].batched:
        return False
    return {*canonical_dims(argument.layouts[0], axes)} == {*axes}


def _of_stages(spec: Spec, known: list[str]) -> Iterator[str]:
    """Stages that the loops know, under no guard; masks over positions and what is known; hidden keys that leave no trace."""
    positions, policies = {"t", "s", "T", "S", *(["b"] if known else []), *known, *scalars(spec)}, spec.paths[0].policies
    for stage in spec.paths[0].stages:
        if stage.clause not in _KINDS and stage.kind != "mask":
            yield f"{stage.clause} is not supported"
        elif stage.kind == "mask" and not names(stage.expression) <= positions:
            others = ", ".join(f"`{name}`" for name in sorted(names(stage.expression) - positions))
            yield f"{stage.clause} asks for {others}, and masks may ask for positions alone"
        if stage.when is not None:
            yield f"{stage.clause} is under a guard"
    if not masks(spec):
        yield "without a mask there is nothing to leave out"
    elif policies["mask.fill"].detail != "-inf" or policies["empty_row"].value != "zero":
        yield "hidden keys must leave no trace: the fill -inf, and empty rows of zero"


def scalars(spec: Spec) -> list[str]:
    """The arguments that are no tensors."""
    return [argument.name for argument in spec.arguments if argument.role != "tensor"]


def masks(spec: Spec) -> list[Expression]:
    """The predicates of the masks, which all have to hold."""
    return [stage.expression for stage in spec.paths[0].stages if stage.kind == "mask"]


def rule_of_masks(spec: Spec) -> str:
    """The masks as one predicate, for a comment."""
    return to_text(fold(reduce(lambda one, other: Binary("and", one, other), masks(spec))))
