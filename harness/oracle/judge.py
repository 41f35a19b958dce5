"""Runs a compiled configuration on the arrays of one case, forward and in reverse, and reads the verdict off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnspec.harness.configuration import Case
from attnspec.harness.error_bounds import LARGEST, Array, size, whole
from attnspec.harness.oracle.dual import Dual, Run, add
from attnspec.harness.oracle.plan import Plan, Result, plan_of
from attnspec.spec.model import Spec


@dataclass(frozen=True, slots=True)
class Gold:
    """The right value, how far a correct implementation may be from it, and the dtype that it has to have.

    `loose` marks elements that may also be NaN: where a NaN that no query attends to meets a weight of zero.
    """

    value: Array
    bound: Array
    dtype: str
    loose: Array | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one case must give: outputs and gradients by name. An ill-conditioned case judges nobody: its bound says nothing."""

    outputs: Mapping[str, Gold]
    gradients: Mapping[str, Gold]
    ill_conditioned: bool


def judge(spec: Spec, case: Case, arrays: Mapping[str, Array], gradients: bool) -> Verdict:
    """The verdict on `case`. ValueError where the call is invalid."""
    return judged(plan_of(spec, case.configuration), arrays, gradients)


def judged(plan: Plan, arrays: Mapping[str, Array], gradients: bool) -> Verdict:
    """What a plan makes of the arrays."""
    run = Run(arrays)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        values, kept = _forward(plan, run)
        outputs = {result.output.name: _output(plan, result, values, run) for result in plan.results}
        wanted = _backward(plan, arrays, kept) if gradients else {}
        found = {name: _gradient(plan, name, adjoint, run) for name, adjoint in wanted.items()}
        return Verdict(outputs, found, _ill_conditioned(plan, values, run))


def _forward(plan: Plan, run: Run) -> tuple[list[Dual | None], list[Any]]:
    """Every slot's value, and what each node remembers."""
    values: list[Dual | None] = [None] * plan.slots
    for name, (slot, port) in plan.inputs.items():
        value = port.into(run.arrays[name]).astype(plan.gold)
        # A sum of squares is finite only if every element is: one call, and float32's squares fit into float64.
        if run.finite and not np.isfinite(np.vdot(value, value)):
            run.finite = False
        values[slot.number] = Dual(value, 0.0)
    kept: list[Any] = []
    for node in plan.nodes:
        inputs: Any = [values[number] for number in node.inputs]
        outputs, memory = node.step.forward(inputs, run)
        kept.append(memory)
        for number, output in zip(node.outputs, outputs, strict=True):
            values[number] = output
    return values, kept


def _backward(plan: Plan, arrays: Mapping[str, Array], kept: list[Any]) -> dict[str, Dual | None]:
    """The adjoint of every floating input, from the cotangents `d_<output>`."""
    adjoints: list[Dual | None] = [None] * plan.slots
    for result in plan.results:
        cotangent = arrays.get("d_" + result.output.name)
        if cotangent is not None and not result.output.stop_gradient:
            seed = Dual(result.port.into(cotangent).astype(plan.gold), 0.0)
            adjoints[result.slot.number] = add(adjoints[result.slot.number], seed, plan.units.output)
    for node, memory in zip(reversed(plan.nodes), reversed(kept), strict=True):
        given = [adjoints[number] for number in node.outputs]
        if all(each is None for each in given):
            continue
        for number, adjoint in zip(node.inputs, node.step.backward(given, memory), strict=True):
            adjoints[number] = add(adjoints[number], adjoint, plan.units.output)
    return {name: adjoints[slot.number] for name, (slot, _) in plan.inputs.items()}


def _output(plan: Plan, result: Result, values: list[Dual | None], run: Run) -> Gold:
    """One returned tensor in its documented layout; what the storage dtype cannot hold is infinite."""
    dual = values[result.slot.number]
    assert dual is not None
    value = result.port.out(dual.value)
    bound = result.port.out(whole(dual.error, dual.value.shape))
    if result.output.tensor != "output":
        bound = bound + 2 * plan.units.output * size(value)
    loose = run.loose.get(result.slot.number)
    return _gold(plan, value, bound, None if loose is None else result.port.out(loose))


def _gradient(plan: Plan, name: str, adjoint: Dual | None, run: Run) -> Gold:
    """One input's gradient in its documented layout. Behind a NaN in a hidden key or value only value's side is judged."""
    port = plan.inputs[name][1]
    if adjoint is None:
        shape = port.documented
        return Gold(np.zeros(shape, plan.gold), np.zeros(shape), plan.dtype)
    value, bound = port.gradient(adjoint, plan.units)
    loose = None
    if not run.finite and name not in plan.value_side and _holds_nan(plan, run):
        loose = np.ones(value.shape, bool)
    return _gold(plan, value, bound, loose)


def _holds_nan(plan: Plan, run: Run) -> bool:
    """Whether an input holds NaN: -inf alone (a bias that hides keys) has ordinary gradients."""
    return any(bool(np.isnan(run.arrays[name]).any()) for name in plan.inputs)


def _gold(plan: Plan, value: Array, bound: Array, loose: Array | None) -> Gold:
    if plan.dtype == "float16":  # the one dtype whose range sums of ordinary products, and the fill of a mask, leave
        too_large = np.abs(value) > LARGEST[plan.dtype]
        if too_large.any():
            value = np.where(too_large, np.copysign(np.inf, value), value)
    return Gold(value, bound, plan.dtype, loose)


def _ill_conditioned(plan: Plan, values: list[Dual | None], run: Run) -> bool:
    """Whether the bound says nothing: |logit| u >= 1, or the weighted sum is uncertain by half of the largest value."""
    logit, value, combined = values[plan.logit], values[plan.value], values[plan.combined]
    assert logit is not None and value is not None and combined is not None
    if combined.value.size == 0:
        return False
    largest, most, bound = np.abs(logit.value).max(initial=0.0), np.abs(value.value).max(initial=0.0), np.max(combined.error)
    if not run.finite or np.isnan(bound):  # a row of NaN says nothing about the others
        largest, most = _finite_max(logit.value), _finite_max(value.value)
        bound = _finite_max(np.where(np.isfinite(combined.value), combined.error, 0.0))
    return bool(largest * plan.units.logit >= 1.0 or bound >= 0.5 * most > 0.0)


def _finite_max(values: Array) -> float:
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))
