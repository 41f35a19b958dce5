"""Dropout: with values that are the identity, what it did to every weight is to be seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import sqrt

import numpy as np

from attnspec.harness.arrays import arrays
from attnspec.harness.checks.arguments import STEP, Call
from attnspec.harness.checks.drawn import dropping, drops, is_rate
from attnspec.harness.checks.failure import Failure, Worst
from attnspec.harness.checks.setting import Related, Setting, setting_of
from attnspec.harness.checks.variation import is_valid, offered, with_values
from attnspec.harness.lanes.call import COTANGENT, cotangents, inputs
from attnspec.harness.lanes.messages import Array, Returned
from attnspec.harness.oracle import judge
from attnspec.harness.subjects import Subject
from attnspec.spec.model import Spec

RATE, SIGMAS = 0.5, 6.0  # a right share is further away than that once in 500 million runs
NEITHER = "neither dropped nor scaled"
MASK, SEED, SEEDED = "dropout-mask", 1, "dropout-seed"


def calls(setting: Setting) -> Iterator[Related]:
    """The values are the identity: the output is then the weights. A mask would leave fewer of them."""
    spec, sizes, value = setting.spec, setting.sizes, setting.given.get("value")
    rate = next((each.name for each in spec.arguments if is_rate(spec, each)), None)
    kinds = {stage.kind for stage in setting.attention.stages}
    if rate is None or value is None or kinds & {"mask", "project", "dropout"} or rate in dict(setting.configuration.values):
        return
    letters, lengths = setting.apart("value", value.shape)
    if "S" not in letters or letters[-1] != "V" or letters[-2] == "V" or len(letters) != value.ndim:
        return
    keys, axis = sizes["S"], letters.index("S")
    plans = dict(setting.configuration.tensors)
    plans["value"] = replace(plans["value"], shape=(*lengths[:-1], keys))
    plain = replace(setting.configuration, tensors=tuple(plans.items()), sizes=tuple((sizes | {"V": keys}).items()))
    if not is_valid(spec, plain):
        return
    case = replace(setting.case, configuration=plain)
    given = inputs(arrays(case, spec))
    identity = np.eye(keys).reshape([keys if place in (axis, value.ndim - 1) else 1 for place in range(value.ndim)])
    given["value"] = np.broadcast_to(identity, given["value"].shape).astype(value.dtype)
    changed = replace(plain, values=(*plain.values, (rate, RATE)))
    names = tuple(output.name for output in setting.attention.outputs if output.tensor == "output")
    yield Related("dropout", case, given, changed, given, outputs=names, rate=RATE)
    if sizes.get("G", 1) == 1:
        ones = {f"{COTANGENT}{name}": np.ones_like(array) for name, array in cotangents(arrays(case, spec)).items()}
        both = {**given, **ones}
        yield Related(MASK, case, both, changed, both, outputs=names, rate=RATE, gradient=True)


def seeded(setting: Setting) -> Iterator[Related]:
    """The plainest call, with a seed of its own."""
    spec, case = setting.spec, setting.case
    changed = with_values(spec, case.configuration, dropping(spec))
    if case.seed == STEP and any(each.role == "seed" for each in offered(spec)) and drops(spec, changed):
        yield Related(SEEDED, case, setting.given, changed, setting.given, rate=RATE)


def check_seed(spec: Spec, subject: Subject, call: Call, related: Related) -> Iterator[Failure]:
    """The same seed drops the same again. The framework's generator stands as it did, for some draw from both (Keras 2).

    That another seed drops something else is asked by `arguments`.
    """
    one, again = (call(related.changed, related.other, seed=SEED) for _ in range(2))
    if not isinstance(one, Returned) or not isinstance(again, Returned):
        return
    for name, tensor in one.outputs.items():
        if name in again.outputs and not np.array_equal(tensor.array, again.outputs[name].array, equal_nan=True):
            message = f"`{name}` is not the same again, of the same seed: {SEEDED}"
            yield Failure(subject.name, "relations", SEEDED, "not the same", message, spec.name, related.case)
            return


def check(spec: Spec, subject: Subject, related: Related, name: str, plain: Array, got: Array) -> Iterator[Failure]:
    """Weights that are neither zero nor scaled, or a share of them that has no chance."""
    bound = allowance(spec, related, name)
    if plain.shape != got.shape:
        return
    weights, found = plain.astype(np.float64) / (1 - related.rate), got.astype(np.float64)
    wrong = int(np.count_nonzero(~((found == 0) | (np.abs(found - weights) <= bound))))
    telling = weights > 2 * bound
    count, kept = int(telling.sum()), int((telling & (found != 0)).sum())
    expected, spread = count * (1 - related.rate), SIGMAS * sqrt(count * related.rate * (1 - related.rate))
    if wrong:
        seen, message = NEITHER, f"`{name}`: {wrong} weights are neither zero nor 1 / (1 - rate) times themselves"
    elif abs(kept - expected) > spread:
        seen, message = "another share is kept", f"`{name}`: {kept} of {count} weights are kept, at a rate of {related.rate}"
    else:
        return
    yield Failure(subject.name, "relations", related.relation, seen, f"{message}: dropout", spec.name, related.case)


def check_mask(spec: Spec, subject: Subject, call: Call, related: Related) -> Iterator[Failure]:
    """With cotangents of 1, the gradient of value is the sum of the weights over queries, as the output shows them.

    Nothing is said where the same seed draws another mask: what a subject draws from is not the framework's generator.
    """
    one, again = (call(related.changed, related.other, gradient=True, seed=SEED) for _ in range(2))
    if not isinstance(one, Returned) or not isinstance(again, Returned) or "value" not in one.gradients:
        return
    (name,) = related.outputs
    weights, gradient = one.outputs[name].array.astype(np.float64), one.gradients["value"].array.astype(np.float64)
    if not np.array_equal(weights, again.outputs[name].array.astype(np.float64)):
        return
    want, bound = summed(spec, related, weights), mask_allowance(spec, related)
    over = np.abs(gradient - want) / bound
    index = tuple(int(place) for place in np.unravel_index(int(np.argmax(over)), over.shape))
    if not over[index] <= 1:
        got, right, limit, times = (float(array[index]) for array in (gradient, want, bound, over))
        worst = Worst(index, got, right, limit, times, "value")
        message = f"the gradient of `value` is that of other weights than the output's: {MASK}"
        yield Failure(subject.name, "relations", MASK, "another mask", message, spec.name, related.case, worst)


def summed(spec: Spec, related: Related, weights: Array) -> Array:
    """The weights that an output shows, summed over queries, as the gradient of value has them for every column."""
    setting = setting_of(spec, related)
    (name,), shape = related.outputs, related.given["value"].shape
    into, (*out, _) = (_letters(setting, each, size) for each, size in ((name, weights.shape), ("value", shape)))
    numbers = {letter: number for number, letter in enumerate(dict.fromkeys(into))}
    columns = np.einsum(weights, [numbers[letter] for letter in into], [numbers[letter] for letter in out])
    return np.broadcast_to(columns[..., None], shape)


def _letters(setting: Setting, name: str, shape: tuple[int, ...]) -> list[str]:
    """The dims of a tensor where values are the identity and every head has its own key: V is S, and K is N."""
    letters, _ = setting.apart(name, shape)
    return [{"V": "S", "H": "S", "K": "N"}.get(letter, letter) or f"batch {place}" for place, letter in enumerate(letters)]


def column(setting: Setting, name: str, shape: tuple[int, ...], index: tuple[int, ...]) -> list[int | None]:
    """Where an output has the weights whose sum is that element of value's gradient; None for every query."""
    at = dict(zip(_letters(setting, "value", setting.given["value"].shape)[:-1], index, strict=False))
    return [at.get(letter) for letter in _letters(setting, name, shape)]


def mask_allowance(spec: Spec, related: Related) -> Array:
    """How far the gradient may be from that sum.

    Weights and cotangents are at least 0: every term of the bound of the gradient without dropout holds the one with it,
    scaled. The sum is one of observed weights, each off by its bound, scaled, and by the rounding of the scaled weight.
    """
    verdict = judge(spec, related.case, related.given, True)
    weights = summed(spec, related, verdict.outputs[related.outputs[0]].bound)
    return np.asarray((verdict.gradients["value"].bound + 2 * weights) / (1 - related.rate))


def allowance(spec: Spec, related: Related, name: str) -> float:
    """How far a kept weight may be from 1 / (1 - rate) times that of the other call.

    Three bounds of the weights themselves, scaled as they are: each of the two calls is off by one, and the third holds the
    rounding of the scaled weight, for a bound is never less than that of its own element (2 u |w|).
    """
    bound = judge(spec, related.case, related.given, False).outputs[name].bound.max()
    return 3 * float(bound) / (1 - related.rate)
