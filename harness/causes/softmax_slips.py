"""Causes in the softmax, by name: the oracle's plan of a call, with a step that errs in the place of its softmax.

Kernels forget the peak of a row, sum along another axis, let hidden keys take part, or pass gradients to them. None of it is a
choice that a spec has. Every step here holds the softmax as declared, and with it what bounds its rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attnspec.harness.causes.perturbations import Cause, replaced_fill
from attnspec.harness.causes.rewriting import with_stage
from attnspec.harness.configuration import Configuration
from attnspec.harness.error_bounds import ETA, UNIT, Array, declared, gamma, size, whole
from attnspec.harness.facts import facts
from attnspec.harness.oracle.dual import Dual, Run, Step
from attnspec.harness.oracle.elementwise import quotient_of
from attnspec.harness.oracle.plan import Plan, plan_of
from attnspec.harness.oracle.softmax import Kept, Softmax
from attnspec.harness.storage import stored
from attnspec.spec.expression import parse
from attnspec.spec.model import Spec
from attnspec.spec.resolve import Attention, resolve

AXES = {"queries": -2, "heads": -3}
CUTS = {"float16": 11.0, "float32": 88.0}
"""The largest whole number whose exponential each dtype holds."""
FILLS = {"-1e4": -1e4, "-1e9": -1e9}
LOGIT, SOFT_CAP = parse("logit"), parse("cap * tanh(logit / cap)")

Planned = tuple[Cause, Plan]


def softmax_slips(spec: Spec, configuration: Configuration) -> Iterator[Planned]:
    """Every slip of a softmax that applies to a call."""
    plan, attention = plan_of(spec, configuration), resolve(spec, facts(spec, configuration))
    softmax = _softmax(plan)
    if any(stage.kind == "softmax" and stage.expression != LOGIT for stage in attention.stages):
        return  # a sink is one more column
    for word, axis in AXES.items():
        yield Cause("softmax", f"the softmax is over {word}, declared over keys"), _with(plan, Along(softmax, axis))
        yield Cause("softmax", f"the softmax's sum is over {word}, declared over keys"), _with(plan, SummedAlong(softmax, axis))
    for text, step in _without_peak(softmax, attention, configuration.dtype):
        yield Cause("softmax", f"the softmax {text}"), _with(plan, step)
    if softmax.visible is not None and not softmax.rule.rounds:
        yield Cause("mask.gradient", "gradients reach hidden logits"), _with(plan, Leaking(softmax))
        yield from _fills(spec, configuration, attention)


def _softmax(plan: Plan) -> Softmax:
    return next(node.step for node in plan.nodes if isinstance(node.step, Softmax))


def _with(plan: Plan, step: Step) -> Plan:
    """The plan with another step for its softmax."""
    nodes = (replace(node, step=step) if isinstance(node.step, Softmax) else node for node in plan.nodes)
    return replace(plan, nodes=tuple(nodes))


def _without_peak(softmax: Softmax, attention: Attention, dtype: str) -> Iterator[tuple[str, Step]]:
    """Exponentials of the logits as they are, in a dtype that may not hold them, or of logits that are cut for it."""
    usual = declared(attention.path.policies["softmax.dtype"], dtype)
    for held in dict.fromkeys((usual, dtype)):
        kept = "" if held == usual else ", and holds exponentials in the dtype of the inputs"
        yield f"does not subtract the peak of a row{kept}", Unshifted(softmax, held)
    for narrow, most in CUTS.items():
        held = dtype if narrow == "float16" else usual
        yield f"cuts logits at {most:g}, where {narrow} ends, and subtracts no peak", Unshifted(softmax, held, most)


def _fills(spec: Spec, configuration: Configuration, attention: Attention) -> Iterator[Planned]:
    """Hidden logits that are a number where a row has others, and empty rows as declared; a soft cap makes it of -inf."""
    fill, cap = attention.path.policies["mask.fill"], attention.scope.get("cap")
    capped = {"-cap": -float(cap)} if isinstance(cap, (int, float)) else {}
    plan = plan_of(spec, configuration)
    for name, value in (FILLS | capped).items():
        yield replaced_fill(fill, name), _with(plan, Filled(_softmax(plan), value))
    for stage in (stage for stage in attention.stages if capped and stage.expression == SOFT_CAP):
        twice = plan_of(with_stage(spec, attention.path, stage, parse("cap * tanh(tanh(logit / cap))")), configuration)
        cause = Cause(stage.clause, f"`{stage.clause}` is applied once more, to hidden logits too")
        yield cause, _with(twice, Filled(_softmax(twice), capped["-cap"]))


# -- steps --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Along:
    """The softmax over another axis of the logits. The log-sum-exp stays that of the keys."""

    softmax: Softmax
    axis: int

    def forward(self, inputs: Sequence[Dual], run: Run) -> tuple[tuple[Dual, ...], Kept]:
        (_, *log_sum), _ = self.softmax.forward(inputs, run)
        visible = _visible(self.softmax, run)
        turned = replace(self._inner, visible=None if visible is None else self._swapped(visible))
        (weight,), kept = turned.forward([self._turned(inputs[0])], run)
        return (self._turned(weight), *log_sum), kept

    def backward(self, adjoints: Sequence[Dual | None], kept: Kept) -> tuple[Dual | None, ...]:
        given = adjoints[0]
        (found,) = self._inner.backward([None if given is None else self._turned(given)], kept)
        return (None if found is None else self._turned(found),)

    @property
    def _inner(self) -> Softmax:
        return replace(self.softmax, wants_log_sum=False)

    def _turned(self, dual: Dual) -> Dual:
        return Dual(self._swapped(dual.value), self._swapped(whole(dual.error, dual.value.shape)))

    def _swapped(self, array: Array) -> Array:
        return np.swapaxes(array, self.axis, -1)


@dataclass(frozen=True, slots=True)
class SummedAlong:
    """Exponentials less the peak of their row of keys, divided by their sum over another axis.

    A weight over the largest of its row is such an exponential. The gradient takes the result for a softmax.
    """

    softmax: Softmax
    axis: int

    def forward(self, inputs: Sequence[Dual], run: Run) -> tuple[tuple[Dual, ...], Kept]:
        (weight, *log_sum), kept = self.softmax.forward(inputs, run)
        unit = self.softmax.units.softmax
        largest = Dual(*(each.max(axis=-1, keepdims=True, initial=0.0) for each in (weight.value, np.asarray(weight.error))))
        term = quotient_of(weight, largest, unit)
        error = np.asarray(term.error).sum(axis=self.axis, keepdims=True)
        total = term.value.sum(axis=self.axis, keepdims=True)
        found = quotient_of(term, Dual(total, error + gamma(weight.value.shape[self.axis], unit) * total), unit)
        return _instead(found, kept, log_sum)

    def backward(self, adjoints: Sequence[Dual | None], kept: Kept) -> tuple[Dual | None, ...]:
        return self.softmax.backward(adjoints, kept)


@dataclass(frozen=True, slots=True)
class Unshifted:
    """Exponentials of the logits as they are, or cut at `most`, held in a dtype, whose range they may leave.

    Where they do, infinity by infinity is NaN, and a number by an infinite sum is zero. What each loses that is nearly zero is
    compared with a sum that may be small too.
    """

    softmax: Softmax
    dtype: str
    most: float = np.inf

    def forward(self, inputs: Sequence[Dual], run: Run) -> tuple[tuple[Dual, ...], Kept]:
        logit = inputs[0]._replace(value=np.minimum(inputs[0].value, self.most))
        (_, *log_sum), _ = self.softmax.forward(inputs, run)
        (weight, *_), kept = self.softmax.forward([logit], run)
        held = stored(self._exponentials(logit.value, run), self.dtype).astype(np.float64)
        total = stored(held.sum(axis=-1, keepdims=True), self.dtype).astype(np.float64)
        value = np.where(np.isinf(total), 0.0, weight.value)
        value = np.where(np.isinf(held) | (total == 0), np.nan, value)
        lost = ETA[self.dtype] * (1 + weight.value * weight.value.shape[-1]) / total
        error = weight.error + 4 * UNIT[self.dtype] * size(weight.value) + lost
        return _instead(Dual(value, np.where(np.isinf(total), 0.0, error)), kept, log_sum)

    def _exponentials(self, logit: Array, run: Run) -> Array:
        visible = _visible(self.softmax, run)
        found: Array = np.exp(logit if visible is None else np.where(visible, logit, -np.inf))
        return found

    def backward(self, adjoints: Sequence[Dual | None], kept: Kept) -> tuple[Dual | None, ...]:
        return self.softmax.backward(adjoints, kept)


@dataclass(frozen=True, slots=True)
class Filled:
    """Another fill, where a row sees some key; a row that sees none is as declared."""

    softmax: Softmax
    fill: float

    def forward(self, inputs: Sequence[Dual], run: Run) -> tuple[tuple[Dual, ...], Kept]:
        visible = _visible(self.softmax, run)
        (weight, *log_sum), kept = self.softmax.forward(inputs, run)
        if visible is None:
            return (weight, *log_sum), kept
        filled = Dual(np.where(visible, inputs[0].value, self.fill), np.where(visible, inputs[0].error, 0.0))
        others, _ = replace(self.softmax, visible=None).forward([filled], run)
        empty: Array = np.asarray(~visible.any(axis=-1, keepdims=True))
        found = _chosen(empty, weight, others[0])
        rows = (_chosen(empty[..., 0], one, other) for one, other in zip(log_sum, others[1:], strict=True))
        return _instead(found, kept, tuple(rows))

    def backward(self, adjoints: Sequence[Dual | None], kept: Kept) -> tuple[Dual | None, ...]:
        return self.softmax.backward(adjoints, kept)


@dataclass(frozen=True, slots=True)
class Leaking:
    """The softmax whose gradient reaches hidden logits too. It shows where these have a weight: in rows that see no key."""

    softmax: Softmax

    def forward(self, inputs: Sequence[Dual], run: Run) -> tuple[tuple[Dual, ...], Kept]:
        return self.softmax.forward(inputs, run)

    def backward(self, adjoints: Sequence[Dual | None], kept: Kept) -> tuple[Dual | None, ...]:
        return self.softmax.backward(adjoints, kept._replace(visible=None))


def _visible(softmax: Softmax, run: Run) -> Array | None:
    """Which keys each query may attend to."""
    return softmax.visible(run.arrays) if callable(softmax.visible) else softmax.visible


def _instead(weight: Dual, kept: Kept, log_sum: Sequence[Dual]) -> tuple[tuple[Dual, ...], Kept]:
    """Other weights, which the gradient takes for those of a softmax. NaN is exact: it must not leave anything open."""
    error = np.where(np.isnan(weight.value), 0.0, weight.error)
    return (Dual(weight.value, error), *log_sum), kept._replace(weight=weight.value, error=error)


def _chosen(condition: Array, one: Dual, other: Dual) -> Dual:
    return Dual(*(np.where(condition, *pair) for pair in zip(one[:2], other[:2], strict=True)))
