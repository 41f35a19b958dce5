"""Causes in half precision, by name: the oracle's plan of a call, with values rounded to the inputs' dtype on their way.

The rounding is done, not only allowed for: what fails a call is compared with the numbers that such an implementation has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attnspec.harness.causes.perturbations import Cause, other_dtype, with_empty_row
from attnspec.harness.causes.rewriting import WHOLE, with_path
from attnspec.harness.causes.softmax_slips import Planned
from attnspec.harness.configuration import Configuration
from attnspec.harness.error_bounds import Array, whole
from attnspec.harness.facts import facts
from attnspec.harness.oracle.dual import Dual, Node, Run, Step
from attnspec.harness.oracle.plan import Plan, plan_of
from attnspec.harness.oracle.product import Kept, Product
from attnspec.harness.storage import stored
from attnspec.spec.expression import Number, substitute
from attnspec.spec.model import Output, Path, Spec
from attnspec.spec.resolve import Attention, resolve

HALF = ("float16", "bfloat16")


def narrow_slips(spec: Spec, configuration: Configuration) -> Iterator[Planned]:
    """Every stage of a call that may be in half precision and is declared wider."""
    attention = resolve(spec, facts(spec, configuration))
    if configuration.dtype in HALF:
        yield from _logits(spec, configuration, attention)
        plan = plan_of(spec, configuration)
        for rounds_products in (False, True):
            cause = Cause("combine", "values are summed in half precision")
            yield cause, _with_sums(plan, configuration.dtype, rounds_products)


def _logits(spec: Spec, configuration: Configuration, attention: Attention) -> Iterator[Planned]:
    """Products held in half, all logits with the numbers that they meet, or only what the softmax takes; a fill may not fit."""
    clauses = [stage.clause for stage in attention.stages if stage.defines == "logit"]
    dtype, path = configuration.dtype, attention.path
    roundings = {"logits.dtype": (clauses[:1], clauses), "softmax.dtype": (clauses[-1:],)}
    for changed in (spec, *_with_rounded_scale(spec, attention, dtype)):
        own = resolve(changed, facts(changed, configuration)).path
        for each in (changed, *_with_infinite_fill(changed, own, dtype)):
            for policy, places in roundings.items():
                for rounded in places if path.policies[policy].value != "input" else ():
                    yield other_dtype(policy, path, "input"), _with_rounded(each, configuration, rounded)


def _with_rounded_scale(spec: Spec, attention: Attention, dtype: str) -> Iterator[Spec]:
    """The spec with the scale as half precision holds it, where that is another number."""
    scale = attention.scope.get("scale")
    if isinstance(scale, (int, float)) and (held := float(stored(np.asarray(scale), dtype))) != scale:
        stages = (
            replace(stage, expression=substitute(stage.expression, {"scale": Number(held)}))
            if stage.kind == "modifier"
            else stage
            for stage in attention.path.stages
        )
        yield with_path(spec, attention.path, replace(attention.path, stages=tuple(stages)))


def _with_infinite_fill(spec: Spec, path: Path, dtype: str) -> Iterator[Spec]:
    """A row without a key is NaN where the fill is finite and half precision does not hold it."""
    if dtype == "float16" and path.policies["mask.fill"].detail.startswith("-0.7"):
        yield with_empty_row(spec, path, "nan")


def _with_rounded(spec: Spec, configuration: Configuration, clauses: Sequence[str]) -> Plan:
    """The plan with logits rounded after some clauses."""
    taps = tuple(Output(clause, f"logit@{clause}", WHOLE) for clause in clauses)
    plan = plan_of(replace(spec, outputs=(*spec.outputs, *taps)), configuration)
    for result in (result for result in plan.results if result.output in taps):
        plan = _after(plan, result.slot.number, Rounded(configuration.dtype))
    return replace(plan, results=tuple(result for result in plan.results if result.output not in taps))


def _after(plan: Plan, slot: int, step: Step) -> Plan:
    """The plan with a step between a slot and all who read it."""
    place = next(number for number, node in enumerate(plan.nodes) if slot in node.outputs) + 1
    rest = (
        replace(node, inputs=tuple(plan.slots if number == slot else number for number in node.inputs))
        for node in plan.nodes[place:]
    )
    return replace(plan, nodes=(*plan.nodes[:place], Node(step, (slot,), (plan.slots,)), *rest), slots=plan.slots + 1)


def _with_sums(plan: Plan, dtype: str, rounds_products: bool) -> Plan:
    nodes = (
        replace(node, step=NarrowSum(node.step, dtype, rounds_products))
        if isinstance(node.step, Product) and node.step.weighs
        else node
        for node in plan.nodes
    )
    return replace(plan, nodes=tuple(nodes))


# -- steps --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rounded:
    """A value as a dtype holds it, infinite where it is too large.

    Rounding is monotone: for a value within e of ours, what is held is between the ends as they are held.
    """

    dtype: str

    def forward(self, inputs: Sequence[Dual], run: Run) -> tuple[tuple[Dual, ...], None]:
        value, error = inputs[0].value, whole(inputs[0].error, inputs[0].value.shape)
        held, low, high = (self._held(each) for each in (value, value - error, value + error))
        apart = np.where(low == high, 0.0, np.maximum(high - held, held - low))
        run.finite = run.finite and bool(np.isfinite(held).all())
        return (Dual(held, np.where(np.isnan(apart), np.inf, apart)),), None

    def backward(self, adjoints: Sequence[Dual | None], kept: None) -> tuple[Dual | None, ...]:
        return tuple(adjoints)

    def _held(self, value: Array) -> Array:
        return stored(value, self.dtype).astype(value.dtype)


@dataclass(frozen=True, slots=True)
class NarrowSum:
    """A sum of products, one key after the other, every sum rounded; perhaps every product before."""

    product: Product
    dtype: str
    rounds_products: bool

    def forward(self, inputs: Sequence[Dual], run: Run) -> tuple[tuple[Dual, ...], Kept]:
        (declared,), kept = self.product.forward(inputs, run)
        weight = stored(self.product.left.fold(inputs[0].value), self.dtype).astype(np.float64)
        value = self.product.right.fold(inputs[1].value)
        total = np.zeros((*weight.shape[:2], value.shape[1]))
        for key in range(weight.shape[2]):
            term = weight[:, :, key, None] * value[:, None, :, key]
            total = self._held(total + (self._held(term) if self.rounds_products else term))
        return (declared._replace(value=self.product.result.unfold(total)),), kept

    def _held(self, value: Array) -> Array:
        return stored(value, self.dtype).astype(np.float64)

    def backward(self, adjoints: Sequence[Dual | None], kept: Kept) -> tuple[Dual | None, ...]:
        return self.product.backward(adjoints, kept)
