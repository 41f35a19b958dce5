"""The cause of a finding by name: the perturbations of the spec that a subject equals, wherever it is wrong.

A failing call is judged again under every single-field perturbation (`perturbations.py`) and under faults that no field of a
spec has: slips of axes and blocks (`slips.py`), of a softmax (`softmax_slips.py`), of half precision (`narrow_slips.py`), of
a backward pass (`gradient_slips.py`), and outputs in another dtype, which are here. What explains every failing call is the
cause; of several, what passing calls do not rule out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import log
from typing import TypeVar

import numpy as np

from attnspec.harness.arrays import arrays
from attnspec.harness.causes.gradient_slips import gradient_slips
from attnspec.harness.causes.narrow_slips import narrow_slips
from attnspec.harness.causes.perturbations import Cause, added_fill, perturbations
from attnspec.harness.causes.rewriting import with_path
from attnspec.harness.causes.slips import slips
from attnspec.harness.causes.softmax_slips import softmax_slips
from attnspec.harness.checks.agreement import compare, error_over_bound
from attnspec.harness.checks.evidence import Part
from attnspec.harness.configuration import Case, TensorPlan
from attnspec.harness.error_bounds import UNIT, Array
from attnspec.harness.facts import facts
from attnspec.harness.lanes.messages import Returned
from attnspec.harness.oracle import Gold, Verdict, judge, judged
from attnspec.spec.binding import ShapeMismatch
from attnspec.spec.expression import parse
from attnspec.spec.model import Spec, Stage
from attnspec.spec.resolve import EvaluationError, resolve

T = TypeVar("T")
HIDDEN = 1e30  # a log-sum-exp beyond it is a fill's
STORAGE = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True, eq=False)
class Witness:
    """A call with a subject's answer, of which one part is looked at; `given` where the case's seed did not make it."""

    case: Case
    answer: Returned
    part: Part
    given: Mapping[str, Array] | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """The causes that explain `cases` of the failing calls: of all of them, or else of as many as one change explains."""

    causes: tuple[Cause, ...]
    cases: int


@np.errstate(all="ignore")
def explain(spec: Spec, failed: Sequence[Witness], passed: Sequence[Witness] = ()) -> Explanation:
    """The causes that every failing call agrees with, or those that most of them do, at least half; otherwise none.

    A cause that moves no value out of its bound says only how far rounding may go, which a small fault of any kind fits: it is
    named where nothing else is, and where it fits everywhere.

    A call that passed rules out a cause that would have made it fail. What explains a part of the failing calls is then named
    no more, what explains all of them only where all that do are ruled out: the fault has a condition of its own.
    """
    agreeing, moving = Counter[Cause](), Counter[Cause]()
    for witness in failed:
        found = dict(sorted(_agreeing(spec, witness), key=lambda each: each[1]))  # of one name, what moves values counts
        agreeing.update(found.keys())
        moving.update(cause for cause, moves in found.items() if moves)
    everywhere = [cause for cause, count in agreeing.items() if count == len(failed)]
    if everywhere:
        named = [cause for cause in everywhere if moving[cause] == len(failed)] or everywhere
        left = named if len(named) == 1 else _not_ruled_out(spec, named, passed)
        return Explanation(tuple(left or named), len(failed))
    likely = [cause for cause, count in moving.items() if 2 * count >= len(failed) and count == agreeing[cause] > 1]
    left = _not_ruled_out(spec, likely, passed)
    most = max((agreeing[cause] for cause in left), default=0)
    return Explanation(tuple(cause for cause in left if agreeing[cause] == most), most)


def _not_ruled_out(spec: Spec, causes: Sequence[Cause], passed: Sequence[Witness]) -> list[Cause]:
    """The causes under which the answers to calls that passed are right too, as far as they apply there."""
    left = list(causes)
    for witness in passed:
        if left:
            fits = _fits(spec, witness, left)
            left = [cause for cause in left if fits.get(cause, True)]
    return left


def _fits(spec: Spec, witness: Witness, causes: Collection[Cause]) -> dict[Cause, bool]:
    """Whether a call's answer is right under each of the causes that apply to it: where a bound says nothing, it may be."""
    fits: dict[Cause, bool] = {}
    for cause, verdict in _verdicts(spec, witness, *_judged(spec, witness), causes):
        fits[cause] = fits.get(cause, False) or verdict.ill_conditioned or _agrees(witness, verdict)
    return fits


def _judged(spec: Spec, witness: Witness) -> tuple[Mapping[str, Array], Verdict]:
    """The arrays of a call, and what is right there."""
    given = arrays(witness.case, spec) if witness.given is None else witness.given
    return given, judge(spec, witness.case, given, witness.part == "gradients")


def _agreeing(spec: Spec, witness: Witness) -> Iterator[tuple[Cause, bool]]:
    """The causes under which an answer is right, and whether they make it another one."""
    given, declared = _judged(spec, witness)
    for cause, verdict in _verdicts(spec, witness, given, declared):
        if _agrees(witness, verdict):
            yield cause, _moves(_of(declared, witness.part), _of(verdict, witness.part))


def _moves(declared: Mapping[str, Gold], changed: Mapping[str, Gold]) -> bool:
    """Whether what a cause gives is itself wrong, not only allowed to be."""
    return any(_is_wrong(declared.get(name), gold) for name, gold in changed.items())


def _is_wrong(declared: Gold | None, other: Gold) -> bool:
    if declared is None or declared.dtype != other.dtype or declared.value.shape != other.value.shape:
        return True
    return bool((error_over_bound(other.value, declared) > 1).any())


def _of(verdict: Verdict, part: Part) -> Mapping[str, Gold]:
    return verdict.outputs if part == "outputs" else verdict.gradients


def _agrees(witness: Witness, verdict: Verdict) -> bool:
    """Whether the answer is right under a changed spec."""
    golds = _of(verdict, witness.part)
    tensors = witness.answer.outputs if witness.part == "outputs" else witness.answer.gradients
    if tensors.keys() != golds.keys():
        return False
    return all(compare(tensors[name], gold).agrees for name, gold in golds.items())


def _verdicts(
    spec: Spec,
    witness: Witness,
    given: Mapping[str, Array],
    verdict: Verdict,
    causes: Collection[Cause] | None = None,
) -> Iterator[tuple[Cause, Verdict]]:
    """What each cause, or each of `causes`, would give at the witness's call, where `verdict` is declared."""
    case, gradients = witness.case, witness.part == "gradients"
    for cause, changed in _among(causes, perturbations(spec, case.configuration), slips(spec, case.configuration)):
        try:
            other = judge(changed, case, given, gradients)
        except (ShapeMismatch, EvaluationError, ValueError, IndexError):  # the change makes the call invalid
            continue
        yield cause, _at_bounds_of(verdict, other) if other.ill_conditioned else other
    for cause, plan in _among(causes, softmax_slips(spec, case.configuration), narrow_slips(spec, case.configuration)):
        other = judged(plan, given, gradients)
        yield cause, _at_bounds_of(verdict, other) if other.ill_conditioned else other
    backward = gradient_slips(spec, case, given, verdict) if gradients else ()
    others = _as_other_dtypes(spec, case, given, gradients), _leaks(spec, case, given, verdict), backward
    yield from _among(causes, *others, _outputs(spec, case, given, verdict))


def _among(causes: Collection[Cause] | None, *found: Iterable[tuple[Cause, T]]) -> Iterator[tuple[Cause, T]]:
    return (each for each in chain(*found) if causes is None or each[0] in causes)


def _at_bounds_of(verdict: Verdict, other: Verdict) -> Verdict:
    """Another verdict at the declared one's bounds: its own say nothing, as where a fill is added that absorbs the logits."""

    def bounded(golds: Mapping[str, Gold], declared: Mapping[str, Gold]) -> dict[str, Gold]:
        alike = {name: gold for name, gold in golds.items() if name in declared}
        return {name: replace(gold, bound=declared[name].bound, loose=declared[name].loose) for name, gold in alike.items()}

    return replace(
        other, outputs=bounded(other.outputs, verdict.outputs), gradients=bounded(other.gradients, verdict.gradients)
    )


def _as_other_dtypes(spec: Spec, case: Case, given: Mapping[str, Array], gradients: bool) -> Iterator[tuple[Cause, Verdict]]:
    """A float mask read as a boolean one or the other way round, a wide call computed in float32."""
    plans = dict(case.configuration.tensors)
    for argument in spec.tensor_arguments:
        if argument.dtype == "bool or floating" and argument.name in plans:
            is_bool = plans[argument.name].dtype == "bool"
            dtype = case.configuration.dtype if is_bool else "bool"
            array = given[argument.name].astype(given["query"].dtype) if is_bool else given[argument.name] > 0
            changed = plans | {argument.name: TensorPlan(array.shape, dtype)}
            other = Case(replace(case.configuration, tensors=tuple(changed.items())), case.seed)
            text = f"a {'boolean' if is_bool else 'floating'} `{argument.name}` is {'added' if is_bool else 'read as boolean'}"
            yield Cause(argument.name, text), judge(spec, other, {**given, argument.name: array}, gradients)
            if not is_bool:
                hiding = np.where(array, given[argument.name], -np.inf).astype(given[argument.name].dtype)
                text = f"a floating `{argument.name}` is added, and read as boolean too"
                yield Cause(argument.name, text), judge(spec, case, {**given, argument.name: hiding}, gradients)
    if case.configuration.dtype == "float64":
        yield Cause("dtype", "float64 is computed in float32"), _narrow(spec, case, given, gradients)


def _narrow(spec: Spec, case: Case, given: Mapping[str, Array], gradients: bool) -> Verdict:
    """What a float64 call gives in float32, under the names of float64."""
    verdict = judge(spec, *_in_float32(case, given), gradients)

    def widened(golds: Mapping[str, Gold]) -> dict[str, Gold]:
        return {name: replace(gold, dtype="float64") for name, gold in golds.items()}

    return replace(verdict, outputs=widened(verdict.outputs), gradients=widened(verdict.gradients))


def _in_float32(case: Case, given: Mapping[str, Array]) -> tuple[Case, dict[str, Array]]:
    """The call with float32 in the place of its dtype."""
    arrays_ = {name: array.astype(np.float32) if array.dtype.kind == "f" else array for name, array in given.items()}
    plans = tuple((name, TensorPlan(plan.shape, str(arrays_[name].dtype))) for name, plan in case.configuration.tensors)
    return Case(replace(case.configuration, dtype="float32", tensors=plans), case.seed), arrays_


def _leaks(spec: Spec, case: Case, given: Mapping[str, Array], verdict: Verdict) -> Iterator[tuple[Cause, Verdict]]:
    """A fill that is added: every row of a head that meets a NaN key is NaN, hidden or not."""
    path = resolve(spec, facts(spec, case.configuration)).path
    declared = path.policies["mask.fill"]
    if declared.value == "replace" and "key" in given and np.isnan(given["key"]).any():
        seen = with_path(spec, path, replace(path, stages=tuple(stage for stage in path.stages if stage.kind != "mask")))
        yield added_fill(declared, declared.detail), _with_nan(verdict, judge(seen, case, given, False))


def _with_nan(verdict: Verdict, other: Verdict) -> Verdict:
    """The verdict with NaN wherever another one has it."""
    nan: dict[str, Array] = {name: np.asarray(np.isnan(gold.value)) for name, gold in other.outputs.items()}
    golds = {name: replace(gold, value=np.where(nan[name], np.nan, gold.value)) for name, gold in verdict.outputs.items()}
    return replace(verdict, outputs=golds)


def _outputs(spec: Spec, case: Case, given: Mapping[str, Array], verdict: Verdict) -> Iterator[tuple[Cause, Verdict]]:
    """An output in another dtype, zeroed, or a logarithm to another base."""
    tensors = {output.name: output.tensor for output in spec.outputs}
    for name, gold in verdict.outputs.items():
        for dtype in STORAGE:
            if dtype != gold.dtype:
                yield Cause(name, f"`{name}` is left in {dtype}"), _with_output(verdict, name, replace(gold, dtype=dtype))
        yield from _swapped(spec, verdict, name, gold)
        if tensors[name] == "logsumexp":
            peaks = _peaks(spec, case, given, name)
            peak_less = replace(gold, value=gold.value - peaks, bound=gold.bound + 2 * UNIT[gold.dtype] * np.abs(peaks))
            yield Cause(name, f"`{name}` lacks the peak of its row"), _with_output(verdict, name, peak_less)
            for what, start in (("is", 0.0), ("adds to the peak", peaks)):
                value = start + (gold.value - start) / log(2)
                bound = gold.bound / log(2) + 2 * UNIT[gold.dtype] * np.abs(value)  # rounded once more, at its own size
                base_2 = replace(gold, value=np.where(np.isfinite(value), value, gold.value), bound=bound)
                yield Cause(name, f"`{name}` {what} a logarithm to base 2"), _with_output(verdict, name, base_2)


def _swapped(spec: Spec, verdict: Verdict, name: str, gold: Gold) -> Iterator[tuple[Cause, Verdict]]:
    """An output that was written as (B, N, T, V) and is returned as (B, T, N, V)."""
    axes = next((o.layouts[0].axes for o in spec.outputs if o.name == name and len(o.layouts[0].axes) == gold.value.ndim), ())
    letters = [axis.dims for axis in axes]
    if ("T",) in letters and ("N",) in letters:
        first, second = letters.index(("T",)), letters.index(("N",))
        value, bound = (np.swapaxes(each, first, second).reshape(gold.value.shape) for each in (gold.value, gold.bound))
        cause = Cause(name, f"`{name}` has its queries and heads swapped")
        yield cause, _with_output(verdict, name, replace(gold, value=value, bound=bound, loose=None))


def _peaks(spec: Spec, case: Case, given: Mapping[str, Array], name: str) -> Array:
    """The largest logit of each row: the log-sum-exp of logits a billion times as large, a billion times smaller."""
    path = resolve(spec, facts(spec, case.configuration)).path
    place = next(number for number, stage in enumerate(path.stages) if stage.kind == "softmax")
    hot = Stage("modifier.hot", "modifier", "logit", parse("logit * 1e9"))
    heated = with_path(spec, path, replace(path, stages=(*path.stages[:place], hot, *path.stages[place:])))
    found = judge(heated, *_in_float32(case, given), False).outputs[name].value
    peaks: Array = np.where(np.abs(found) > HIDDEN, found, found / 1e9)
    return peaks


def _with_output(verdict: Verdict, name: str, gold: Gold) -> Verdict:
    return replace(verdict, outputs={**verdict.outputs, name: gold})
