"""Causes in a backward pass whose forward pass is right, by name: a factor, a term or a part of a sum that its gradients lack.

None of it is a choice of a spec. A cause is what it makes of a failing call: the declared verdict with other gradients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from math import prod

import numpy as np

from attnspec.harness.causes.perturbations import Cause, other_heads, with_empty_row
from attnspec.harness.causes.rewriting import WHOLE, with_path
from attnspec.harness.configuration import Case, TensorPlan
from attnspec.harness.error_bounds import Array
from attnspec.harness.facts import facts
from attnspec.harness.oracle import Gold, Verdict, judge
from attnspec.harness.oracle.plan import Plan, plan_of
from attnspec.spec.binding import ShapeMismatch
from attnspec.spec.expression import parse
from attnspec.spec.model import Argument, Output, Spec, Stage
from attnspec.spec.resolve import Attention, EvaluationError, resolve

FACTORS = {"is zero": 0.0, "is negated": -1.0, "is added twice": 2.0}
CUTS = (0.5, 1.0)  # usual limits of clipped gradients; the cases' cotangents are 3 at most
SUMMED = {"b": "batch row", "n": "head", "t": "query"}

Judged = tuple[Cause, Verdict]


def gradient_slips(spec: Spec, case: Case, given: Mapping[str, Array], verdict: Verdict) -> Iterator[Judged]:
    """Faults of a backward pass whose forward pass is right, most of them in one gradient."""
    scope = facts(spec, case.configuration).scope
    scale = scope.get("scale")
    for name, gold in verdict.gradients.items():
        for text, factor in FACTORS.items():
            yield Cause(f"d_{name}", f"the gradient of `{name}` {text}"), _scaled(verdict, name, gold, factor)
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
    yield from _cut_cotangents(spec, case, given)
    yield from _through_outputs(spec, case, given)
    yield from _parts_of_a_sum(spec, case, given, verdict)
    with suppress(ShapeMismatch, EvaluationError, ValueError):  # where logits cannot be told from what is around them
        yield from _other_heads(spec, case, given, verdict)


def _mean_of_groups(spec: Spec, case: Case, verdict: Verdict) -> Iterator[Judged]:
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


def _heads_of_a_group(spec: Spec, case: Case, given: Mapping[str, Array], verdict: Verdict) -> Iterator[Judged]:
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


def _nan_of_empty_rows(spec: Spec, case: Case, given: Mapping[str, Array], verdict: Verdict) -> Judged:
    """A softmax that divides zero by zero and is covered up afterwards: the logits' side of the gradient keeps the NaN."""
    path = resolve(spec, facts(spec, case.configuration)).path
    nan = judge(with_empty_row(spec, path, "nan"), case, given, True).gradients
    changed = {name: gold if name == "value" else nan[name] for name, gold in verdict.gradients.items()}
    return Cause("empty_row", "the gradient of an empty row is NaN"), replace(verdict, gradients=changed)


def _without_delta(spec: Spec, case: Case, given: Mapping[str, Array], verdict: Verdict) -> Iterator[Judged]:
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


# -- products and sums --------------------------------------------------------------------------------------------


def _cut_cotangents(spec: Spec, case: Case, given: Mapping[str, Array]) -> Iterator[Judged]:
    """Gradients that are clipped on their way in."""
    for most in CUTS:
        cut = {name: np.clip(array, -most, most) for name, array in given.items() if name.startswith("d_")}
        yield Cause("cotangent", f"cotangents are cut at {most:g}"), judge(spec, case, {**given, **cut}, True)


def _through_outputs(spec: Spec, case: Case, given: Mapping[str, Array]) -> Iterator[Judged]:
    """An output that passes gradients on where it should not; lanes give it a cotangent of ones (`call.detached`)."""
    for result in plan_of(spec, case.configuration).results:
        if result.output.stop_gradient:
            outputs = tuple(replace(each, stop_gradient=each.stop_gradient and each != result.output) for each in spec.outputs)
            name, ones = result.output.name, np.ones(result.port.documented)
            cause = Cause(name, f"gradients pass through `{name}`, declared to stop there")
            yield cause, judge(replace(spec, outputs=outputs), case, {**given, "d_" + name: ones}, True)


def _parts_of_a_sum(spec: Spec, case: Case, given: Mapping[str, Array], verdict: Verdict) -> Iterator[Judged]:
    """The gradient of what broadcasts, of one batch row, head or query alone: as if all others had no cotangent."""
    plan = plan_of(spec, case.configuration)
    for letter, word in SUMMED.items():
        spread = [name for name in verdict.gradients if _broadcasts(plan, name, letter)]
        if not spread or any(letter not in result.slot.axes for result in plan.results):
            continue
        for which, place in (("first", 0), ("last", -1)):
            alone = judge(spec, case, {**given, **_cotangents_at(plan, given, letter, place)}, True).gradients
            for name in spread:
                text = f"the gradient of `{name}` is that of the {which} {word}, declared the sum"
                yield Cause(f"d_{name}", text), _with_gradient(verdict, name, alone[name])


def _broadcasts(plan: Plan, name: str, letter: str) -> bool:
    """Whether an input is the same for all indices of a letter, of which there are several."""
    slot, port = plan.inputs[name]
    count = dict(zip("bnts", plan.logits, strict=True))[letter]
    own = dict(zip(slot.axes, slot.shape, strict=True)).get(letter, count)
    return count > 1 and (own == 1 or (letter == "b" and port.full != port.documented))


def _cotangents_at(plan: Plan, given: Mapping[str, Array], letter: str, place: int) -> dict[str, Array]:
    """Cotangents that are zero but at one index of a letter."""
    found = {}
    for result in (result for result in plan.results if "d_" + result.output.name in given):
        name, axis = "d_" + result.output.name, result.slot.axes.index(letter)
        whole = result.port.into(given[name])
        alone = np.zeros_like(whole)
        index = (slice(None),) * axis + (place,)
        alone[index] = whole[index]
        found[name] = result.port.out(alone)
    return found


def _other_heads(spec: Spec, case: Case, given: Mapping[str, Array], verdict: Verdict) -> Iterator[Judged]:
    """The product that makes a gradient takes another head than the call did; the gradient of the logits is right."""
    attention = resolve(spec, facts(spec, case.configuration))
    if any(stage.kind in ("project", "assemble") for stage in attention.stages):
        return
    changed = list(other_heads(spec, attention))
    if changed:
        d_scores = _gradient_of_scores(spec, attention, case, given)
    for text, other in changed:
        gradients = _through_scores(other, attention, case, given, d_scores)
        for name in ("query", "key"):
            if name in verdict.gradients:
                cause = Cause(f"d_{name}", f"in the gradient of `{name}` key/value heads {text}")
                yield cause, _with_gradient(verdict, name, gradients[name])


def _gradient_of_scores(spec: Spec, attention: Attention, case: Case, given: Mapping[str, Array]) -> Gold:
    """That of the products of query and key: of what is added to them, and is zero."""
    score = next(stage for stage in attention.stages if stage.kind == "score")
    place = attention.path.stages.index(score) + 1
    added = Stage("modifier.probe", "modifier", "logit", parse("logit + probe"))
    path = replace(attention.path, stages=(*attention.path.stages[:place], added, *attention.path.stages[place:]))
    probe = Argument("probe", "tensor", required=False, layouts=WHOLE)
    tensors = {**spec.tensors, "probe": ("B", "N", "T", "S")}
    probed = replace(with_path(spec, attention.path, path), arguments=(*spec.arguments, probe), tensors=tensors)
    shape = plan_of(spec, case.configuration).logits
    plans = (*case.configuration.tensors, ("probe", TensorPlan(shape, case.configuration.dtype)))
    call = Case(replace(case.configuration, tensors=plans), case.seed)
    return judge(probed, call, {**given, "probe": np.zeros(shape)}, True).gradients["probe"]


def _through_scores(
    spec: Spec, attention: Attention, case: Case, given: Mapping[str, Array], d_scores: Gold
) -> Mapping[str, Gold]:
    """The gradients of what makes the scores, from theirs; what is uncertain about these goes through magnitudes."""
    score = next(stage for stage in attention.stages if stage.kind == "score")
    scored = replace(spec, outputs=(Output("scores", f"logit@{score.clause}", WHOLE),))
    sizes = {name: np.abs(given[name]) for name in ("query", "key")}
    found = judge(scored, case, {**given, "d_scores": d_scores.value}, True).gradients
    uncertain = judge(scored, case, {**given, **sizes, "d_scores": d_scores.bound}, True).gradients
    return {name: replace(gold, bound=gold.bound + uncertain[name].value) for name, gold in found.items()}
