"""The scale of the logits taken to the queries, which are fewer: passes over the logits are what loops over rows wait for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from attnspec.codegen.program import Assign, Node, Op, Ref

_SCALE, _SCORE = "modifier.scale", "score.dot"


def scaled_queries(stages: Iterable[Assign]) -> list[Assign]:
    """The stages with `scaled_query_block` in the score, where it is a product that is scaled by a number right after."""
    found = list(stages)
    clauses = [stage.clause for stage in found]
    if _SCALE not in clauses or clauses[clauses.index(_SCALE) - 1] != _SCORE:
        return found
    at = clauses.index(_SCALE)
    query, scale = _query(found[at - 1].value), found[at].value
    assert isinstance(scale, Op)
    wide = Op("cast", (query,), query.dims, (("to", "compute"),))
    scaled = Ref("scaled_query_block", query.dims)
    product = Op("mul", tuple(wide if argument.dims else argument for argument in scale.arguments), query.dims)
    score = replace(found[at - 1], value=_with(found[at - 1].value, query, scaled))
    return [*found[: at - 1], replace(found[at], target=scaled, value=product), score, *found[at + 1 :]]


def _query(node: Node) -> Ref:
    """The queries of a product: what its first factor is made of."""
    while isinstance(node, Op):
        node = node.arguments[0]
    assert isinstance(node, Ref)
    return node


def _with(node: Node, old: Ref, new: Ref) -> Node:
    if node == old:
        return new
    if not isinstance(node, Op):
        return node
    return replace(node, arguments=tuple(_with(argument, old, new) for argument in node.arguments))
