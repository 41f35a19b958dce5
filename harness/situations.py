"""Small calls at which APIs are known to part, built for any spec that can express them.

A situation is stated in the operator's own terms (q, k and v in B T N H, a mask over B N T S) and then laid out as the
API documents it, so that every API gets the same call.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from attnspec.harness.cases import Configuration, TensorPlan
from attnspec.harness.lanes.messages import Array
from attnspec.spec.expression import Name
from attnspec.spec.model import Argument, Default, Spec

TENSORS = {"query": "BTNH", "key": "BSKH", "value": "BSKV"}


@dataclass(frozen=True, slots=True)
class Situation:
    """Tensors in canonical layout, the clause that makes the situation, and the policies that explain what comes out."""

    name: str
    story: str
    query: Array
    key: Array
    value: Array
    clause: str
    mask: Array | None = None
    policies: tuple[str, ...] = ()


class NotExpressible(ValueError):
    """The spec has no argument for what the situation needs."""


def empty_row() -> Situation:
    """Query 1 may attend to no key."""
    value = np.array([[1, 10], [2, 20], [6, 60]], np.float32)
    key = np.array([[0, 0], [1, 0], [0, 1]], np.float32)
    query = np.array([[2, 0], [2, 0]], np.float32)
    mask = np.array([[True, True, False], [False, False, False]])
    story = "query 0 may attend to keys 0 and 1, query 1 to no key at all"
    tensors = (query[None, :, None], key[None, :, None], value[None, :, None])
    return Situation("empty-row", story, *tensors, "mask.explicit", mask[None, None], ("empty_row", "mask.fill"))


def causal_lengths() -> Situation:
    """More keys than queries, and a causal mask: which keys does the first query see?"""
    value = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32)
    zeros = np.zeros((1, 2, 1, 4), np.float32)
    story = "2 queries, 4 keys, causal; logits are 0 and value is the identity, so a row shows the keys it sees"
    return Situation("causal-lengths", story, zeros, np.zeros((1, 4, 1, 4), np.float32), value[None, :, None], "mask.causal")


SITUATIONS: Mapping[str, Callable[[], Situation]] = {"empty-row": empty_row, "causal-lengths": causal_lengths}


def call_of(spec: Spec, situation: Situation) -> tuple[Configuration, dict[str, Array]]:
    """The situation as a call of `spec`. Raises NotExpressible."""
    if spec.form != "function":
        raise NotExpressible(f"{spec.name} is a {spec.form}: only functions can be compared, for a layer projects its inputs")
    if spec.projects:
        raise NotExpressible(f"{spec.name} projects its inputs: only functions of queries, keys and values can be compared")
    given = {name: _laid_out(getattr(situation, name), dims, spec.argument(name)) for name, dims in TENSORS.items()}
    values: dict[str, Default] = {}
    clause = next((stage for path in spec.paths for stage in path.stages if stage.clause == situation.clause), None)
    if clause is None:
        raise NotExpressible(f"{spec.name} has no `{situation.clause}`")
    if situation.mask is not None and isinstance(clause.expression, Name):
        argument = spec.argument(clause.expression.name)
        given[argument.name] = _laid_out(situation.mask, "BNTS", argument)
    elif isinstance(clause.when, Name):
        values[clause.when.name] = True
    plans = {name: TensorPlan(array.shape, array.dtype.name) for name, array in given.items()}
    return Configuration(spec.name, "float32", (), tuple(values.items()), tuple(plans.items())), given


def _laid_out(array: Array, dims: str, argument: Argument) -> Array:
    """The array with its axes in the order of the argument's first layout; a batched layout keeps B in front."""
    wanted = [dim for dim in argument.layouts[0].dims if dim in dims or dim == "H"]
    order = [dims.index(dim if dim in dims else "V") for dim in wanted]
    return np.ascontiguousarray(array.transpose(order))
