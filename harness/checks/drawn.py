"""Variations of calls with dropout, which no oracle judges: its rate, its flag, its seed, and all else while it drops.

What is asked is only whether two calls differ. Where the framework's generator stands alike before both, calls that are the
same to a subject give the same bits; calls that differ do not, for so many weights are drawn that chance is no excuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from attnspec.harness.checks.setting import Setting
from attnspec.harness.checks.variation import Variation, alike, is_valid, offered, path_of, with_values
from attnspec.harness.configuration import Case, Configuration
from attnspec.harness.facts import facts
from attnspec.harness.lanes.messages import Array
from attnspec.harness.oracle import judge
from attnspec.spec.expression import names
from attnspec.spec.model import Argument, Default, Spec, Stage
from attnspec.spec.resolve import EvaluationError, ShapeMismatch, evaluate, resolve

WIDE = ("float32", "float64")  # dtypes whose bounds are far below what dropping changes; in half they are as wide as that
RATE, SEED = 0.5, 1  # some cannot drop without a seed
ENOUGH_WEIGHTS = 64  # that all of them are spared, or the same ones twice, has no chance: 0.5 ** 64
ENOUGH_ROWS = 24  # that none of them keeps a weight which is another one in the second call happens once in 10 million times


def dropped(spec: Spec, case: Case, argument: Argument, given: Mapping[str, Array]) -> Iterator[Variation]:
    """Dropout is random, and no oracle judges it: but it changes something, and does so where all that it takes is given."""
    on = dropping(spec)
    off = {argument.name: 0.0 if argument.role == "number" else False}
    before = with_values(spec, case.configuration, {**on, **off})
    changed = with_values(spec, case.configuration, on)
    if is_valid(spec, before) and _draws_enough(spec, case, changed, given):
        plain, one_path = replace(case, configuration=before), path_of(spec, before) == path_of(spec, changed)
        if one_path:  # what drops nothing then does the same: the same bits
            apart: dict[str, Array] = {}
        elif before.dtype in WIDE:
            apart = {name: 2 * each.bound for name, each in judge(spec, plain, given, False).outputs.items()}
        else:
            return
        yield Variation(argument.name, plain, given, changed, given, apart, singular=True)


def reseeded(spec: Spec, case: Case, argument: Argument, given: Mapping[str, Array]) -> Iterator[Variation]:
    """Another seed, where the framework's own generator stands as it did: something else is dropped."""
    before = with_values(spec, case.configuration, dropping(spec))
    if _draws_enough(spec, case, before, given):
        changed = with_values(spec, before, {argument.name: SEED + 1})
        plain = replace(case, configuration=before)
        yield Variation(argument.name, plain, given, changed, given, {}, singular=True, seed=SEED)


def under_dropout(spec: Spec, found: Iterable[Variation]) -> Iterator[Variation]:
    """Variations of calls that drop the same weights in both: what is ignored there gives the same bits. Once on each path."""
    seen = set()
    for each in found:
        drawing = [
            with_values(spec, configuration, dropping(spec)) for configuration in (each.case.configuration, each.changed)
        ]
        key = each.argument, path_of(spec, drawing[0])
        if key not in seen and not each.singular and each.apart is not None and _shows(spec, each, drawing[0]):
            seen.add(key)
            plain = replace(each.case, configuration=drawing[0])
            yield replace(each, case=plain, changed=drawing[1], apart={}, singular=True, seed=SEED)


def _shows(spec: Spec, variation: Variation, drawing: Configuration) -> bool:
    """Whether the variation is certain to show where weights are dropped."""
    if not _draws_enough(spec, variation.case, drawing, variation.given):
        return False
    one, other = (
        judge(spec, Case(configuration, variation.case.seed), given, False).outputs[spec.outputs[0].name]
        for configuration, given in ((variation.case.configuration, variation.given), (variation.changed, variation.other))
    )
    if not alike(one, other):
        return False
    with np.errstate(invalid="ignore"):
        apart = np.abs(one.value - other.value) > one.bound + other.bound
    return int(np.count_nonzero(apart.any(axis=-1))) >= ENOUGH_ROWS


def quiet(spec: Spec, case: Case) -> Case:
    """The call without dropout, which the oracle can judge."""
    if not drops(spec, case.configuration):
        return case
    rates = (each.name for each in offered(spec) if is_rate(spec, each))
    return replace(case, configuration=with_values(spec, case.configuration, dict.fromkeys(rates, 0.0)))


def dropping(spec: Spec) -> dict[str, Default]:
    """The values with which dropout draws, from a seed where it takes one."""
    seeds: dict[str, Default] = {each.name: SEED for each in (*spec.constructor, *spec.arguments) if each.role == "seed"}
    takes = (each for each in offered(spec) if is_dropout(spec, each))
    return seeds | {each.name: RATE if each.role == "number" else True for each in takes}


def _draws_enough(spec: Spec, case: Case, drawing: Configuration, given: Mapping[str, Array]) -> bool:
    """Whether a call draws what it drops, and so often that it is certain to drop some and to keep some."""
    if not drops(spec, drawing):
        return False
    seen = Setting(spec, case, given, resolve(spec, facts(spec, case.configuration))).visible()
    return int(seen.sum()) >= ENOUGH_WEIGHTS


def drops(spec: Spec, configuration: Configuration) -> bool:
    """Whether a call draws what it drops."""
    try:
        known = facts(spec, configuration)
        stages = resolve(spec, known).stages
        return any(s.kind == "dropout" and evaluate(s.expression, known.scope, known) != 0 for s in stages)
    except (ShapeMismatch, EvaluationError):
        return False


def is_rate(spec: Spec, argument: Argument) -> bool:
    """Whether an argument is the rate of dropout."""
    return any(argument.name in names(stage.expression) for stage in _dropouts(spec))


def is_dropout(spec: Spec, argument: Argument) -> bool:
    """Whether dropout hangs on an argument: its rate, or a flag."""
    asked = (stage.when for stage in _dropouts(spec) if stage.when is not None)
    return is_rate(spec, argument) or any(argument.name in names(when) for when in asked)


def _dropouts(spec: Spec) -> Iterator[Stage]:
    return (stage for path in spec.paths for stage in path.stages if stage.kind == "dropout")
