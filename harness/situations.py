"""Small calls at which APIs are known to part, built for any spec that can express them, by every path that it has.

A situation is stated in the operator's own terms (q, k and v in B T N H with one batch row and one head, a mask over T S) and
laid out as the API documents it. Layers get projections that change nothing, so every API gets the same call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from attnspec.harness.configuration import Configuration
from attnspec.harness.facts import facts
from attnspec.harness.lanes.messages import Array
from attnspec.harness.pool import Choice, Factors, Form, configuration
from attnspec.spec.expression import IsNone, Name, Unary, walk
from attnspec.spec.model import Argument, Spec, Stage
from attnspec.spec.resolve import resolve

INPUTS = ("query", "key", "value")


@dataclass(frozen=True, slots=True)
class Situation:
    """Tensors of one head over (T, H) and (S, H), the clause that makes the situation, and the policies that explain it.

    `mask` says what a boolean mask over (T, S) means; where it is `literal`, every API gets the same array, whatever it means
    there. `number` is what the argument is given that turns the clause on.
    """

    story: str
    query: Array
    key: Array
    value: Array
    clause: str
    mask: Array | None = None
    literal: bool = False
    number: int | None = None
    policies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Way:
    """A call on one path of an API: `said` is the flag that leads there, nothing where no flag does."""

    path: str
    said: str
    configuration: Configuration
    arrays: Mapping[str, Array]


class NotExpressible(ValueError):
    """The spec has no argument for what the situation needs."""


def empty_row() -> Situation:
    """Query 1 may attend to no key."""
    value = np.array([[1, 10], [2, 20], [6, 60]], np.float32)
    key = np.array([[0, 0], [1, 0], [0, 1]], np.float32)
    query = np.array([[2, 0], [2, 0]], np.float32)
    mask = np.array([[True, True, False], [False, False, False]])
    story = "query 0 may attend to keys 0 and 1, query 1 to no key at all"
    return Situation(story, query, key, value, "mask", mask, policies=("empty_row", "mask.fill"))


def nan_in_a_hidden_key() -> Situation:
    """A mask that adds lets NaN through, one that replaces does not."""
    value = np.array([[1, 10], [2, 20], [6, 60]], np.float32)
    key = np.array([[0, 0], [1, 0], [np.nan, 0]], np.float32)
    mask = np.array([[True, True, False], [True, True, True]])
    story = "key 2 is NaN, and hidden from query 0"
    return Situation(story, np.ones((2, 2), np.float32), key, value, "mask", mask, policies=("mask.fill",))


def mask_polarity() -> Situation:
    """The same boolean array for everybody."""
    mask = np.array([[True, False, False], [True, True, False]])
    story = "mask = [[True False False] [True True False]]; " + SEES
    return Situation(story, *_uniform(2, 3), "mask", mask, literal=True)


def causal_lengths() -> Situation:
    """More keys than queries, and a causal mask: which keys does the first query see?"""
    return Situation("2 queries, 4 keys, causal; " + SEES, *_uniform(2, 4), "mask.causal")


def window() -> Situation:
    """A window of 1: the neighbours too, or the query's own position alone?"""
    return Situation("3 queries, 3 keys, a window of 1; " + SEES, *_uniform(3, 3), "mask.window", number=1)


SEES = "logits are 0 and value is the identity, so a row shows the keys it sees"
SITUATIONS: Mapping[str, Callable[[], Situation]] = {
    "empty-row": empty_row,
    "mask-polarity": mask_polarity,
    "causal-lengths": causal_lengths,
    "window": window,
    "nan-in-a-hidden-key": nan_in_a_hidden_key,
}


def _uniform(queries: int, keys: int) -> tuple[Array, Array, Array]:
    return np.zeros((queries, keys), np.float32), np.zeros((keys, keys), np.float32), np.eye(keys, dtype=np.float32)


def ways_of(spec: Spec, situation: Situation) -> tuple[Way, ...]:
    """The situation as calls of `spec`: as it is called by default, and by every other path that one flag leads to.

    Raises NotExpressible.
    """
    clause = clause_of(spec, situation)
    factors = Factors.of(spec, "float32")
    choice: dict[str, object] = {**factors.simplest(), **_turned_on(spec, situation, clause)}
    if choice.get("key", "") is None:
        choice["key"] = Form(0, (False,) * len(spec.argument("key").layouts[0].axes), "full", "float32")
    found: dict[str, Way] = {}
    for flag, value in _flags(spec, choice):
        made = configuration(factors, _sizes(factors, situation), {**choice, **({flag: value} if flag else {})})
        if made is not None:
            path = resolve(spec, facts(spec, made)).path.name
            arrays = _arrays(spec, situation, clause, made)
            found.setdefault(path, Way(path, f"{flag}={value}" if flag else "", made, arrays))
    if not found:
        raise NotExpressible(f"{spec.name} has no valid call with `{clause.clause}` and nothing else")
    return tuple(found.values())


def clause_of(spec: Spec, situation: Situation) -> Stage:
    """The stage that makes the situation: a named one, or the first that is a mask over queries and keys."""
    for stage in (stage for path in spec.paths for stage in path.stages):
        if stage.clause == situation.clause or (situation.clause == "mask" and _mask_of(spec, stage) is not None):
            return stage
    what = "mask over queries and keys" if situation.clause == "mask" else f"`{situation.clause}`"
    raise NotExpressible(f"{spec.name} has no {what}")


def _mask_of(spec: Spec, stage: Stage) -> Argument | None:
    """The argument of a stage that is nothing but a mask over queries and keys, or its opposite."""
    rule = stage.expression.operand if isinstance(stage.expression, Unary) else stage.expression
    if stage.kind != "mask" or not isinstance(rule, Name):
        return None
    argument = spec.argument(rule.name)
    return argument if _by_pairs(argument) else None


def _by_pairs(argument: Argument) -> list[int]:
    """The layouts that have queries and keys, by number."""
    return [number for number, layout in enumerate(argument.layouts) if {"T", "S"} <= set(layout.dims)]


def _turned_on(spec: Spec, situation: Situation, clause: Stage) -> dict[str, object]:
    """The options that bring the clause about: a mask in its place, a flag set, a number."""
    mask = _mask_of(spec, clause)
    if mask is not None:
        place = _by_pairs(mask)[0]
        return {mask.name: Form(place, (False,) * len(mask.layouts[place].axes), "full", "bool")}
    guard = list(walk(clause.when)) if clause.when is not None else []
    if situation.number is None:
        return {part.name: True for part in guard if isinstance(part, Name) and spec.argument(part.name).role == "flag"}
    asked: dict[str, object] = dict.fromkeys((part.name for part in guard if isinstance(part, IsNone)), situation.number)
    if not asked:
        raise NotExpressible(f"{spec.name} has no argument for its `{clause.clause}`")
    return asked


def _flags(spec: Spec, choice: Choice) -> Iterator[tuple[str, bool]]:
    """No flag, and each flag that guards of paths ask for at its other value."""
    yield "", False
    for guard in (path.when for path in spec.paths if path.when is not None):
        for name in sorted({part.name for part in walk(guard) if isinstance(part, Name)}):
            if isinstance(choice.get(name), bool):
                yield name, not choice[name]


def _sizes(factors: Factors, situation: Situation) -> dict[str, int]:
    """One batch row, one head, and one width for all features."""
    (queries, width), keys = situation.query.shape, len(situation.key)
    dims = {dim for tensor in factors.tensors for layout in tensor.layouts for dim in layout.dims}
    return {**dict.fromkeys((*dims, "E", "H", "V"), width), "B": 1, "N": 1, "K": 1, "G": 1, "J": 3, "T": queries, "S": keys}


def _arrays(spec: Spec, situation: Situation, clause: Stage, made: Configuration) -> dict[str, Array]:
    """The call's tensors. All that has one batch row and one head is laid out in any order alike."""
    mask = _mask_of(spec, clause)
    found: dict[str, Array] = {}
    for name, plan in made.tensors:
        if name in INPUTS:
            found[name] = np.ascontiguousarray(getattr(situation, name).reshape(plan.shape))
        elif mask is not None and name == mask.name and situation.mask is not None:
            hides = isinstance(clause.expression, Unary) and not situation.literal
            found[name] = (~situation.mask if hides else situation.mask).reshape(plan.shape)
        elif plan.dtype == "float32":
            found[name] = _changing_nothing(spec, name, plan.shape, situation.query.shape[1])
        else:
            raise NotExpressible(f"{spec.name} has to be given `{name}`, of which the situation says nothing")
    return found


def _changing_nothing(spec: Spec, name: str, shape: tuple[int, ...], width: int) -> Array:
    """A projection that is the identity, also where several are stacked; a bias of 0; a scale of 1."""
    weight = next((weight for weight in spec.weights if weight.name == name), None)
    layout = weight.layout if weight else spec.argument(name).layouts[0]
    features = [dim for dim in layout.dims if dim not in ("J", "N", "K")]  # J counts the projections of a stack
    if len(features) == 2:
        return np.tile(np.eye(width, dtype=np.float32), (int(np.prod(shape)) // width**2, 1)).reshape(shape)
    is_bias = weight is None or weight.initializer == "zeros"
    return np.zeros(shape, np.float32) if is_bias else np.ones(shape, np.float32)
