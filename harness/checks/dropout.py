"""Dropout: with values that are the identity, what it did to every weight is to be seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import sqrt

import numpy as np

from attnspec.harness.arrays import arrays
from attnspec.harness.checks.arguments import is_dropout, is_valid
from attnspec.harness.checks.failure import Failure
from attnspec.harness.checks.setting import Related, Setting
from attnspec.harness.lanes.call import inputs
from attnspec.harness.lanes.messages import Array
from attnspec.harness.oracle import judge
from attnspec.harness.subjects import Subject
from attnspec.spec.model import Spec

RATE, SIGMAS = 0.5, 6.0  # a right share is further away than that once in 500 million runs
NEITHER = "neither dropped nor scaled"


def calls(setting: Setting) -> Iterator[Related]:
    """The values are the identity: the output is then the weights. A mask would leave fewer of them."""
    spec, sizes, value = setting.spec, setting.sizes, setting.given.get("value")
    rate = next((each.name for each in spec.arguments if is_dropout(spec, each)), None)
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


def allowance(spec: Spec, related: Related, name: str) -> float:
    """How far a kept weight may be from 1 / (1 - rate) times that of the other call.

    Three bounds of the weights themselves, scaled as they are: each of the two calls is off by one, and the third holds the
    rounding of the scaled weight, for a bound is never less than that of its own element (2 u |w|).
    """
    bound = judge(spec, related.case, related.given, False).outputs[name].bound.max()
    return 3 * float(bound) / (1 - related.rate)
