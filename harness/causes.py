"""The cause of a finding by name: the perturbations of the spec that a subject equals, wherever it is wrong.

A failing call is judged again under every single-field perturbation (`perturbations.py`) and under a few faults that no
field of a spec has: gradients that lack a term, outputs in another dtype. What explains every failing call is the cause.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import log, prod

import numpy as np

from attnspec.harness.arrays import arrays
from attnspec.harness.checks.agreement import compare
from attnspec.harness.checks.evidence import Part
from attnspec.harness.configuration import Case, TensorPlan
from attnspec.harness.error_bounds import LARGEST, UNIT, Array
from attnspec.harness.facts import facts
from attnspec.harness.lanes.messages import Returned
from attnspec.harness.oracle import Gold, Verdict, judge
from attnspec.harness.oracle.plan import plan_of
from attnspec.harness.perturbations import Cause, added_fill, other_dtype, perturbations, with_empty_row
from attnspec.harness.rewriting import with_path
from attnspec.harness.slips import slips
from attnspec.spec.binding import ShapeMismatch
from attnspec.spec.expression import parse
from attnspec.spec.model import Axis, Layout, Output, Policy, Spec, Stage
from attnspec.spec.resolve import EvaluationError, resolve

HIDDEN = 1e30  # a log-sum-exp beyond it is a fill's
WHOLE = (Layout(tuple(Axis((letter,)) for letter in "BNTS")),)
STORAGE = ("float16", "bfloat16", "float32", "float64")


@dataclass(frozen=True, eq=False)
class Witness:
    """A call at which a subject is wrong, and in which part of its answer; `given` where the case's seed did not make it."""

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
def explain(spec: Spec, witnesses: Sequence[Witness]) -> Explanation:
    """The causes that every witness agrees with, or those that most of them do, at least half; otherwise none."""
    agreeing = Counter[Cause]()
    for witness in witnesses:
        agreeing.update(list(dict.fromkeys(c for c, verdict in _verdicts(spec, witness) if _agrees(witness, verdict))))
    most = max(agreeing.values(), default=0)
    if 2 * most < len(witnesses) or most < min(len(witnesses), 2):
        return Explanation((), 0)
    return Explanation(tuple(cause for cause, count in agreeing.items() if count == most), most)


def _agrees(witness: Witness, verdict: Verdict) -> bool:
    """Whether the answer is right under a changed spec."""
    golds = verdict.outputs if witness.part == "outputs" else verdict.gradients
    tensors = witness.answer.outputs if witness.part == "outputs" else witness.answer.gradients
    if tensors.keys() != golds.keys():
        return False
    return all(compare(tensors[name], gold).agrees for name, gold in golds.items())


def _verdicts(spec: Spec, witness: Witness) -> Iterator[tuple[Cause, Verdict]]:
    """What each cause would give at the witness's call."""
    case, gradients = witness.case, witness.part == "gradients"
    given = arrays(case, spec) if witness.given is None else witness.given
    verdict = judge(spec, case, given, gradients)
    for cause, changed in chain(perturbations(spec, case.configuration), slips(spec, case.configuration)):
        try:
            other = judge(changed, case, given, gradients)
        except (ShapeMismatch, EvaluationError, ValueError, IndexError):  # the change makes the call invalid
            continue
        yield cause, _at_bounds_of(verdict, other) if other.ill_conditioned else other
    yield from _as_other_dtypes(spec, case, given, gradients)
    yield from _leaks(spec, case, given, verdict)
    yield from _overflow(spec, case, given, verdict)
    yield from _outputs(spec, case, given, verdict)
    if gradients:
        yield from _gradients(spec, case, given, verdict)


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


def _overflow(spec: Spec, case: Case, given: Mapping[str, Array], verdict: Verdict) -> Iterator[tuple[Cause, Verdict]]:
    """Logits in float16: a row that sees a product over its range is NaN."""
    plan = plan_of(spec, case.configuration)
    if case.configuration.dtype != "float16" or "query" not in plan.inputs or "n" not in plan.inputs["query"][0].axes:
        return  # of a layer it is not the query that meets the keys
    score = next(stage for stage in resolve(spec, facts(spec, case.configuration)).stages if stage.kind == "score")
    taps = (Output("raw", f"logit@{score.clause}", WHOLE), Output("weights", "weight", WHOLE))
    tapped = judge(replace(spec, outputs=taps), case, given, False).outputs
    too_large = (tapped["raw"].value > LARGEST["float16"]) & (tapped["weights"].value > 0)
    slot, port = plan.inputs["query"]
    rows = np.broadcast_to(too_large.any(-1, keepdims=True), slot.shape)
    query: Array = np.where(port.out(rows), np.nan, given["query"]).astype(given["query"].dtype)
    path = resolve(spec, facts(spec, case.configuration)).path
    narrow = with_path(spec, path, replace(path, policies={**path.policies, "logits.dtype": Policy("input", "ruled")}))
    nan = judge(narrow, case, {**given, "query": query}, False)
    yield other_dtype("logits.dtype", path, "input"), _with_nan(judge(narrow, case, given, False), nan)


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


# -- gradients ----------------------------------------------------------------------------------------------------


def _gradients(spec: Spec, case: Case, given: Mapping[str, Array], verdict: Verdict) -> Iterator[tuple[Cause, Verdict]]:
    """Faults of a backward pass whose forward pass is right, in one gradient each."""
    scope = facts(spec, case.configuration).scope
    scale = scope.get("scale")
    for name, gold in verdict.gradients.items():
        if isinstance(scale, (int, float)) and scale not in (0, 1):
            yield Cause(f"d_{name}", f"the gradient of `{name}` lacks the scale"), _scaled(verdict, name, gold, 1 / scale)
            yield Cause(f"d_{name}", f"the gradient of `{name}` is scaled once more"), _scaled(verdict, name, gold, scale)
        for word, count in _summed(spec, case, name, given[name].shape):
            yield (
                Cause(f"d_{name}", f"the gradient of `{name}` is the mean over {word}, declared the sum"),
                _scaled(verdict, name, gold, 1 / count),
            )
    yield from _mean_of_groups(spec, case, verdict)
    yield from _heads_of_a_group(spec, case, given, verdict)
    yield _nan_of_empty_rows(spec, case, given, verdict)
    yield from _without_delta(spec, case, given, verdict)


def _mean_of_groups(spec: Spec, case: Case, verdict: Verdict) -> Iterator[tuple[Cause, Verdict]]:
    """All gradients of grouped heads at once: what sums them up is one function."""
    grouped = [name for name in verdict.gradients if _axis_of_heads(spec, case, name) is not None]
    count = dict(case.configuration.sizes).get("G", 1)
    if len(grouped) > 1 and count > 1:
        changed = verdict
        for name in grouped:
            changed = _scaled(changed, name, verdict.gradients[name], 1 / count)
        yield Cause("heads", "the gradients of grouped heads are the mean of a group, declared the sum"), changed


def _scaled(verdict: Verdict, name: str, gold: Gold, factor: float) -> Verdict:
    return _with_gradient(verdict, name, replace(gold, value=gold.value * factor, bound=gold.bound * abs(factor)))


def _with_gradient(verdict: Verdict, name: str, gold: Gold) -> Verdict:
    return replace(verdict, gradients={**verdict.gradients, name: gold})


def _summed(spec: Spec, case: Case, name: str, shape: tuple[int, ...]) -> Iterator[tuple[str, int]]:
    """What a gradient sums over: the axes that broadcast, the query heads of a group."""
    sizes = dict(case.configuration.sizes)
    argument = next((each for each in spec.tensor_arguments if each.name == name), None)
    if argument is None:
        return
    operator = argument.feeds or argument.name
    dims = spec.tensors.get(operator, ())
    full, own = prod([sizes.get(dim, 1) for dim in dims]), prod(list(shape))
    if full > own > 0:
        yield "the axes that it broadcasts along", full // own
    if "K" in dims and sizes.get("G", 1) > 1:
        yield "the heads of a group", sizes["G"]


def _heads_of_a_group(spec: Spec, case: Case, given: Mapping[str, Array], verdict: Verdict) -> Iterator[tuple[Cause, Verdict]]:
    """The gradient of a key/value head asks one query head of its group instead of all."""
    sizes = dict(case.configuration.sizes)
    axes = {name: axis for name in verdict.gradients if (axis := _axis_of_heads(spec, case, name)) is not None}
    if sizes.get("G", 1) == 1 or not axes:
        return
    repeated = {name: np.repeat(array, sizes["G"], axes[name]) if name in axes else array for name, array in given.items()}
    plans = tuple((name, TensorPlan(repeated[name].shape, plan.dtype)) for name, plan in case.configuration.tensors)
    whole = tuple((letter, size) for letter, size in (sizes | {"K": sizes["N"], "G": 1}).items())
    full = judge(spec, Case(replace(case.configuration, sizes=whole, tensors=plans), case.seed), repeated, True)
    for name, axis in axes.items():
        for word, first in (("first", 0), ("last", sizes["G"] - 1)):
            heads = range(first, sizes["N"], sizes["G"])
            text = f"the gradient of `{name}` is that of the {word} query head of a group, declared the sum"
            yield Cause(f"d_{name}", text), _with_gradient(verdict, name, _picked(full.gradients[name], heads, axis))


def _picked(gold: Gold, places: Sequence[int], axis: int) -> Gold:
    value, bound = (np.take(array, places, axis) for array in (gold.value, gold.bound))
    return replace(gold, value=value, bound=bound, loose=None if gold.loose is None else np.take(gold.loose, places, axis))


def _axis_of_heads(spec: Spec, case: Case, name: str) -> int | None:
    """Where a tensor has the axis K, counted from the end."""
    plan = dict(case.configuration.tensors)[name]
    for layout in next((a.layouts for a in spec.tensor_arguments if a.name == name), ()):
        letters = [axis.dims for axis in layout.axes]
        if ("K",) in letters and (len(letters) == len(plan.shape) or layout.batched):
            return letters.index(("K",)) - len(letters)
    return None


def _nan_of_empty_rows(spec: Spec, case: Case, given: Mapping[str, Array], verdict: Verdict) -> tuple[Cause, Verdict]:
    """A softmax that divides zero by zero and is covered up afterwards: the logits' side of the gradient keeps the NaN."""
    path = resolve(spec, facts(spec, case.configuration)).path
    nan = judge(with_empty_row(spec, path, "nan"), case, given, True).gradients
    changed = {name: gold if name == "value" else nan[name] for name, gold in verdict.gradients.items()}
    return Cause("empty_row", "the gradient of an empty row is NaN"), replace(verdict, gradients=changed)


def _without_delta(spec: Spec, case: Case, given: Mapping[str, Array], verdict: Verdict) -> Iterator[tuple[Cause, Verdict]]:
    """The softmax's gradient without its row sums: what is missing is the product of row sums and an attention of keys.

    With delta = sum(dO * O) per row, dQ lacks scale * delta * (P K) and dK lacks scale * P^T (delta Q). Both are
    attentions of the same weights: one forward with K for V, one backward with delta * Q for dO.
    """
    scale = facts(spec, case.configuration).scope.get("scale")
    output, shapes = verdict.outputs.get("output"), {name: array.shape for name, array in given.items()}
    if output is None or not {"query", "key", "value"} <= verdict.gradients.keys() or shapes["key"] != shapes["value"]:
        return
    if not isinstance(scale, (int, float)) or any(stage.clause == "modifier.softcap" for p in spec.paths for stage in p.stages):
        return
    cotangent = np.asarray(given["d_output"], np.float64)
    delta = (cotangent * output.value).sum(-1, keepdims=True)
    uncertain = (np.abs(cotangent) * output.bound).sum(-1, keepdims=True)
    hidden = with_empty_row(spec, resolve(spec, facts(spec, case.configuration)).path, "zero")
    attended = judge(hidden, case, {**given, "value": given["key"]}, False).outputs["output"]
    asked = judge(hidden, case, {**given, "d_output": delta * np.asarray(given["query"], np.float64)}, True).gradients["value"]
    d_query, d_key = verdict.gradients["query"], verdict.gradients["key"]
    if attended.value.shape != d_query.value.shape:
        return
    changed = {
        "query": _plus(d_query, scale * delta * attended.value, abs(scale) * uncertain * np.abs(attended.value)),
        "key": _plus(d_key, scale * asked.value, abs(scale) * asked.bound),
        **dict(_bias_without_delta(hidden, case, given, verdict)),
    }
    yield (
        Cause("softmax", "the softmax's gradient lacks its row sums (delta)"),
        replace(verdict, gradients={**verdict.gradients, **changed}),
    )


def _bias_without_delta(hidden: Spec, case: Case, given: Mapping[str, Array], verdict: Verdict) -> Iterator[tuple[str, Gold]]:
    """What is added to the logits lacks P delta, summed over the axes along which it broadcasts."""
    plan = plan_of(hidden, case.configuration)
    weights = judge(replace(hidden, outputs=(Output("weights", "weight", WHOLE),)), case, given, False).outputs["weights"]
    result = next(each for each in plan.results if each.output.name == "output")
    rows = result.port.into(np.asarray(given["d_output"], np.float64)) * result.port.into(verdict.outputs["output"].value)
    term = weights.value * rows.sum(-1, keepdims=True)
    for argument in hidden.tensor_arguments:
        dims = hidden.tensors.get(argument.feeds or argument.name, ())
        if argument.name in verdict.gradients and dims == ("B", "N", "T", "S"):
            slot, port = plan.inputs[argument.name]
            sizes = dict(zip(slot.axes, slot.shape, strict=True))
            summed = term.sum(tuple(place for place, axis in enumerate("bnts") if sizes.get(axis, 1) == 1), keepdims=True)
            missing = port.out(summed.reshape(slot.shape))
            yield argument.name, _plus(verdict.gradients[argument.name], missing, verdict.gradients[argument.name].bound)


def _plus(gold: Gold, term: Array, uncertain: Array) -> Gold:
    """A gold with a further term. The bound is doubled: it was that of the smaller sum."""
    return replace(gold, value=gold.value + term, bound=2 * (gold.bound + uncertain))
