"""What has a blockwise form, and what all of its printers ask of a spec."""

from __future__ import annotations

from functools import reduce

from attnspec.codegen.prologue import canonical_dims
from attnspec.spec.expression import Binary, Expression, fold, names, to_text
from attnspec.spec.model import Spec

BLOCK_LENGTH = 128
BLOCKED = {"query": "T", "key": "S", "value": "S"}
"""The tensors that are taken block by block, and along which dim."""
_KINDS = {"score.dot", "modifier.scale", "modifier.softcap", "softmax.plain", "combine.weighted"}


def supports_blockwise(spec: Spec) -> bool:
    """Whether every stage is unconditional, the masks ask for positions alone, and hidden keys leave no trace."""
    if spec.form != "function" or len(spec.paths) != 1 or len(spec.outputs) != 1 or not _plain_inputs(spec):
        return False
    stages, policies = spec.paths[0].stages, spec.paths[0].policies
    known = all(stage.clause in _KINDS or stage.kind == "mask" for stage in stages)
    masked = any(stage.kind == "mask" for stage in stages)
    traceless = policies["mask.fill"].detail == "-inf" and policies["empty_row"].value == "zero"
    positions = {"t", "s", "T", "S", *scalars(spec)}
    by_position = all(names(rule) <= positions for rule in masks(spec))
    return known and masked and traceless and by_position and all(stage.when is None for stage in stages)


def _plain_inputs(spec: Spec) -> bool:
    """Query, key and value under these names with all their axes, in one layout each; beside them numbers and flags."""
    given = spec.tensor_arguments
    plain = all(a.feeds in ("", a.name) and len(a.layouts) == 1 and not a.layouts[0].batched for a in given)
    roles = {a.role for a in spec.arguments}
    if not plain or {a.name for a in given} != BLOCKED.keys() or not roles <= {"tensor", "number", "integer", "flag"}:
        return False
    return all({*canonical_dims(a.layouts[0], spec.tensors[a.name])} == {*spec.tensors[a.name]} for a in given)


def scalars(spec: Spec) -> list[str]:
    """The arguments that are no tensors."""
    return [argument.name for argument in spec.arguments if argument.role != "tensor"]


def masks(spec: Spec) -> list[Expression]:
    """The predicates of the masks, which all have to hold."""
    return [stage.expression for stage in spec.paths[0].stages if stage.kind == "mask"]


def rule_of_masks(spec: Spec) -> str:
    """The masks as one predicate, for a comment."""
    return to_text(fold(reduce(lambda one, other: Binary("and", one, other), masks(spec))))
