"""Every argument acts, or is refused, or is declared inert: on no path is it silently ignored.

A call is made twice, the second time with other values in one tensor, with one value back at its default or, of a required
one, at the plainest that is tried, or with a size that no tensor has, which must raise. Where the spec says that the results
differ, the subject's own two results are compared: no value of the oracle's is asked for, only how far apart two right answers
may be. Every argument is given alone and beside every other one, so that one that is dropped only on one path, or only where
another is given, shows too, and in the lane's other mode: eager or compiled. What is varied about dropout, and under it, is in
`drawn.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, count
from math import prod
from typing import Literal, Protocol

import numpy as np

from attnspec.harness.arrays import arrays
from attnspec.harness.checks.drawn import dropped, drops, is_dropout, quiet, reseeded, under_dropout
from attnspec.harness.checks.failure import Failure
from attnspec.harness.checks.signature import NOT_OFFERED
from attnspec.harness.checks.variation import Variation, alike, is_valid, offered, path_of, with_values
from attnspec.harness.configuration import Case, Configuration, TensorPlan
from attnspec.harness.facts import facts
from attnspec.harness.findings import size_of
from attnspec.harness.lanes.call import inputs
from attnspec.harness.lanes.framework import MODES
from attnspec.harness.lanes.messages import Answer, Array, Raised, Returned
from attnspec.harness.oracle import Gold, judge
from attnspec.harness.pool import Choice, Factors, configuration
from attnspec.harness.profiles import seed_for
from attnspec.harness.sizes import sizes_for
from attnspec.harness.subjects import Subject
from attnspec.spec.model import Argument, Spec
from attnspec.spec.resolve import ShapeMismatch, holds

Status = Literal["honoured", "refused", "ignored"]


class Call(Protocol):
    """One call of a subject, which a lane may make on arrays that lie otherwise in memory (lanes/memory.py)."""

    def __call__(
        self,
        configuration: Configuration,
        given: Mapping[str, Array],
        layout: str = "",
        gradient: bool = False,
        seed: int = 0,
        turned: bool = False,
        second: bool = False,
    ) -> Answer:
        """The answer."""


Modes = tuple[str, str] | None
RANKED: tuple[Status, ...] = ("refused", "honoured", "ignored")  # a run reports the last one that it saw
PLACES = (7, 3, 4)  # in sizes.py: grouped heads and T under S, then equal heads, then T over S
STEP = seed_for("plain", "half", 1)  # further on, the distributions are the same
EMPTY = seed_for("plain", "half, empty rows")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an argument in one call, which may have been turned."""

    argument: str
    case: Case
    status: Status
    turned: bool = False


_made: dict[tuple[int, str], tuple[Spec, tuple[list[Case], list[Case]]]] = {}


def cases(spec: Spec, dtype: str) -> tuple[list[Case], list[Case]]:
    """The calls to vary: those in which one argument is given, and those in which two are. Plain values hide nothing."""
    found = _made.get((id(spec), dtype))
    if found is None:
        if len(_made) >= 64:
            _made.clear()
        found = _made[id(spec), dtype] = (spec, _made_cases(Factors.of(spec, dtype)))
    return found[1]


def _made_cases(factors: Factors) -> tuple[list[Case], list[Case]]:
    """Two arguments that are a call only beside a third (a hint that needs its mask) come last, with the first such third."""
    alone = factors.alone()
    both = [{**one, **other} for one, other in combinations(alone, 2) if one.keys() != other.keys()]
    pairs = [_first(factors, [choice]) for choice in both]
    lacking = (choice for choice, found in zip(both, pairs, strict=True) if found is None)
    pairs += [_first(factors, ({**each, **choice} for each in alone if each.keys().isdisjoint(choice))) for choice in lacking]
    seeds = count(STEP, 2 * STEP)
    singles = [_first(factors, [choice]) for choice in [{}, *alone]]
    return list(_cases(singles, seeds)), list(_cases(pairs, seeds))


def _first(factors: Factors, choices: Iterable[Choice]) -> Configuration | None:
    """The first choice that is a call, at the first sizes that it allows."""
    tried = (
        configuration(factors, sizes_for(place), {**factors.simplest(), **choice}) for choice in choices for place in PLACES
    )
    return next((each for each in tried if each is not None), None)


def _cases(made: Iterable[Configuration | None], seeds: Iterator[int]) -> Iterator[Case]:
    return (Case(each, next(seeds)) for each in made if each is not None)


def variations(spec: Spec, case: Case) -> Iterator[Variation]:
    """Every argument of a call that can be given in another way which has to show.

    No oracle judges a call that drops weights: its variations are those of the call without dropout, made under it.
    """
    if drops(spec, case.configuration):
        found = list(variations(spec, quiet(spec, case)))
        yield from (each for each in (*found, *under_dropout(spec, found)) if each.case == case)
        return
    given = inputs(arrays(case, spec))
    redrawn = inputs(arrays(replace(case, seed=case.seed + STEP), spec))
    gold = judge(spec, case, given, False).outputs
    for argument in offered(spec):
        if argument.name in given:
            other = {**given, argument.name: redrawn[argument.name]}
            without = None if argument.required else _without(case.configuration, argument.name)
            yield from _varied(spec, case, argument, given, case.configuration, other, gold, without)
        elif argument.name not in dict(case.configuration.values) or (argument.required and argument.role == "tensor"):
            pass
        elif argument.tells:
            yield from _mistold(spec, case, argument, given)
        else:
            yield from _reset(spec, case, argument, given, gold)
        if is_dropout(spec, argument):
            yield from dropped(spec, case, argument, given)
        if argument.role == "seed":
            yield from reseeded(spec, case, argument, given)


def _varied(
    spec: Spec,
    case: Case,
    argument: Argument,
    given: Mapping[str, Array],
    changed: Configuration,
    other: Mapping[str, Array],
    gold: Mapping[str, Gold],
    without: Configuration | None = None,
) -> Iterator[Variation]:
    """The variation, if the spec says that it shows: as another result, or as an invalid call. What drops proves nothing."""
    apart: Mapping[str, Array] | None = None
    if drops(spec, changed) or (changed == case.configuration and other is given):
        return
    if is_valid(spec, changed):
        others = judge(spec, Case(changed, case.seed), other, False).outputs
        if not must_differ(gold, others):
            return
        apart = {name: each.bound + others[name].bound for name, each in gold.items() if alike(each, others.get(name))}
    yield Variation(argument.name, case, given, changed, other, apart, without)


def _reset(
    spec: Spec, case: Case, argument: Argument, given: Mapping[str, Array], gold: Mapping[str, Gold]
) -> Iterator[Variation]:
    """A value back at its default. Where plain arrays do not show it, others may: a fill shows in empty rows alone."""
    changed = _with_weights(spec, at_plain(spec, case.configuration, argument))
    found = list(_varied(spec, case, argument, given, changed, _fitting(spec, case, changed, given), gold))
    if not found:
        case = replace(case, seed=EMPTY)
        given = inputs(arrays(case, spec))
        gold = judge(spec, case, given, False).outputs
        found = list(_varied(spec, case, argument, given, changed, _fitting(spec, case, changed, given), gold))
    yield from found


def _mistold(spec: Spec, case: Case, argument: Argument, given: Mapping[str, Array]) -> Iterator[Variation]:
    """A size that no tensor of the call has, where that makes the call an invalid one."""
    larger = sum(size for _, size in case.configuration.sizes)
    changed = with_values(spec, case.configuration, {argument.name: larger})
    if not is_valid(spec, changed):
        yield Variation(argument.name, case, given, changed, given, None, singular=True)


def turned(spec: Spec, subject: Subject, found: Iterable[Variation]) -> Iterator[Variation]:
    """The first variation of each argument on each path once more, in the lane's other mode."""
    seen = set()
    for each in found if spec.form == "function" and subject.lane in MODES else ():
        key = each.argument, path_of(spec, each.case.configuration)
        if key not in seen and not each.singular and each.apart is not None:
            seen.add(key)
            yield replace(each, turned=True)


def spared(spec: Spec, found: Iterable[Variation], compiles: bool) -> Iterator[Variation]:
    """The variations without most singular ones: the first of each argument on each path, and none that has to be compiled."""
    seen = set()
    for each in found:
        if each.singular:
            key = each.argument, path_of(spec, each.case.configuration)
            if key in seen or (compiles and each.apart is not None):
                continue
            seen.add(key)
        yield each


def at_plain(spec: Spec, configuration: Configuration, argument: Argument) -> Configuration:
    """The call with an argument at its default; at the first of the values that are tried, where it has none."""
    if not argument.required:
        return _without(configuration, argument.name)
    first = Factors.of(spec, configuration.dtype).options[argument.name][0]
    return replace(configuration, values=tuple((n, first if n == argument.name else v) for n, v in configuration.values))  # type: ignore[misc]


def _without(configuration: Configuration, name: str) -> Configuration:
    """The call with an argument at its default, or without a tensor."""
    values = tuple(pair for pair in configuration.values if pair[0] != name)
    return replace(configuration, values=values, tensors=tuple(pair for pair in configuration.tensors if pair[0] != name))


def _with_weights(spec: Spec, configuration: Configuration) -> Configuration:
    """The call with exactly the weights that its constructor's arguments ask for; as it is where its tensors do not fit."""
    try:
        known, sizes = facts(spec, configuration), dict(configuration.sizes)
    except ShapeMismatch:
        return configuration
    plans = dict(configuration.tensors)
    for weight in spec.weights:
        shape = tuple(prod(sizes[dim] for dim in axis.dims) for axis in weight.layout.axes)
        plan = TensorPlan(shape, configuration.dtype)
        if holds(weight.when, known):
            plans.setdefault(weight.name, plan)
        else:
            plans.pop(weight.name, None)
    return replace(configuration, tensors=tuple(plans.items()))


def _fitting(spec: Spec, case: Case, changed: Configuration, given: Mapping[str, Array]) -> Mapping[str, Array]:
    """The tensors of a changed call: those of the call before, and new ones for weights that only the changed one has."""
    wanted = dict(changed.tensors)
    drawn = given if wanted.keys() <= given.keys() else inputs(arrays(replace(case, configuration=changed), spec))
    return {name: given.get(name, drawn[name]) for name in wanted}


def must_differ(one: Mapping[str, Gold], other: Mapping[str, Gold]) -> bool:
    """Whether right answers to two calls are certain to differ by more than the sum of their bounds."""
    if not all(alike(gold, other.get(name)) for name, gold in one.items()) or one.keys() != other.keys():
        return True
    return any(_far(gold, other[name]) for name, gold in one.items())


def _far(gold: Gold, other: Gold) -> bool:
    """Twice the sum: each answer may be off by its own bound."""
    with np.errstate(invalid="ignore"):
        apart = np.abs(gold.value - other.value) > 2 * (gold.bound + other.bound)
    apart |= np.isfinite(gold.value) != np.isfinite(other.value)
    for loose in (gold.loose, other.loose):
        if loose is not None:
            apart &= ~loose
    return bool(apart.any())


# -- what a subject does ------------------------------------------------------------------------------------------


def outcomes(call: Call, found: Iterable[Variation]) -> Iterator[Outcome]:
    """What becomes of each argument. Nothing is said where the subject fails for another reason."""
    answered: dict[tuple[Case, int, bool], Answer] = {}
    for variation in found:
        key = variation.case, variation.seed, variation.turned
        if key not in answered:
            answered[key] = _asked(call, variation, variation.case.configuration, variation.given)
        status = _status(call, variation, answered[key])
        if status is not None:
            yield Outcome(variation.argument, variation.case, status, variation.turned)


def _asked(call: Call, variation: Variation, configuration: Configuration, given: Mapping[str, Array]) -> Answer:
    return call(configuration, given, seed=variation.seed, turned=variation.turned)


def _status(call: Call, variation: Variation, before: Answer) -> Status | None:
    if isinstance(before, Raised):
        return "refused" if _is_refused(call, variation) else None
    after = _asked(call, variation, variation.changed, variation.other)
    if not isinstance(before, Returned) or not isinstance(after, Returned | Raised):
        return None
    if isinstance(after, Raised):
        if variation.apart is None:
            return "honoured"
        return "refused" if variation.argument in dict(variation.changed.values) else None
    if variation.apart is None:
        return "ignored" if _same_shapes(before, after) else "honoured"
    return "ignored" if _same(before, after, variation.apart) else "honoured"


def _is_refused(call: Call, variation: Variation) -> bool:
    """Whether the call is answered without the argument."""
    absent = variation.without or (variation.changed if variation.changed != variation.case.configuration else None)
    if absent is None:
        return False
    kept = dict(absent.tensors)
    given = {name: array for name, array in variation.given.items() if name in kept}
    return isinstance(_asked(call, variation, absent, given), Returned)


def _same_shapes(before: Returned, after: Returned) -> bool:
    return [t.array.shape for t in before.outputs.values()] == [t.array.shape for t in after.outputs.values()]


def _same(before: Returned, after: Returned, apart: Mapping[str, Array]) -> bool:
    """Whether two answers are one and the same thing, up to rounding."""
    if not _same_shapes(before, after) or before.outputs.keys() != after.outputs.keys():
        return False
    for name, tensor in before.outputs.items():
        one, other = tensor.array.astype(np.float64), after.outputs[name].array.astype(np.float64)
        with np.errstate(invalid="ignore"):
            near = np.abs(one - other) <= apart.get(name, 0.0)
        if not bool((near | (one == other) | (np.isnan(one) & np.isnan(other))).all()):
            return False
    return True


# -- what is reported ---------------------------------------------------------------------------------------------


def check(spec: Spec, subject: Subject, found: Sequence[Outcome]) -> Iterator[Failure]:
    """One failure per argument that is ignored somewhere, at the smallest call, with what those calls have in common."""
    for argument in dict.fromkeys(each.argument for each in found):
        mine = [each for each in found if each.argument == argument]
        ignored = [each for each in mine if each.status == "ignored"]
        honoured = [each for each in mine if each.status == "honoured"]
        where = _where(spec, MODES.get(subject.lane), ignored, honoured) if ignored else None
        if where is not None:
            message = f"`{argument}` is silently ignored {where}"
            smallest = min((each.case for each in ignored), key=size_of)
            yield Failure(subject.name, "arguments", argument, "silently ignored", message, spec.name, smallest)


def worst_status(spec: Spec, found: Iterable[Outcome], known: dict[str, str]) -> None:
    """Add to `known` what became of each argument, the worst of it where calls differ."""
    for argument in (*spec.constructor, *spec.arguments):
        if argument.inert:
            known[argument.name] = "refused" if argument.inert == NOT_OFFERED else "inert"
    for outcome in found:
        now = known.get(outcome.argument, RANKED[0])
        known[outcome.argument] = max(now, outcome.status, key=list[str](RANKED).index)
    for name in [member.name for a in (*spec.constructor, *spec.arguments) for member in a.elements or (a,)]:
        if name in known:
            known[name] = known.pop(name)  # in the order of the signature


def _where(spec: Spec, modes: Modes, ignored: Sequence[Outcome], honoured: Sequence[Outcome]) -> str | None:
    """What all calls that ignore it share and no call that honours it has.

    A single call that nothing sets apart is another fault's doing: a mask that hides too much leaves no key to tell apart.
    """
    if not honoured:
        return "in every call"
    others = {feature for each in honoured for feature in _features(spec, modes, each)}
    shared = [set(_features(spec, modes, each)) for each in ignored]
    for feature in _features(spec, modes, ignored[0]):
        if feature not in others and all(feature in each for each in shared):
            return feature
    return f"in {len(ignored)} of {len(ignored) + len(honoured)} calls" if len(ignored) > 1 else None


def _features(spec: Spec, modes: Modes, outcome: Outcome) -> Iterator[str]:
    """What may decide on a path, the plainest first."""
    configuration = outcome.case.configuration
    if modes:
        yield _in_mode(modes[outcome.turned])
    tensors = [(name, plan) for name, plan in configuration.tensors if name in {a.name for a in spec.tensor_arguments}]
    if len(spec.paths) > 1:
        yield f"on the path `{path_of(spec, configuration)}`"
    yield from (f"beside `{name}`" for name, _ in configuration.values)
    yield from (f"beside `{name}`" for name, _ in tensors if not spec.argument(name).required)
    yield from (f"beside a {plan.dtype} `{name}`" for name, plan in tensors if not spec.argument(name).required)
    yield from (f"for `{name}` of rank {len(plan.shape)}" for name, plan in tensors)
    yield f"in {configuration.dtype}"


def _in_mode(mode: str) -> str:
    return f"where it is {mode}"


def is_turned(failure: Failure, lane: str) -> bool:
    """Whether an argument is ignored in the lane's other mode alone."""
    return lane in MODES and failure.message.endswith(_in_mode(MODES[lane][1]))
