"""Two calls that must give the same, whatever it is: no value of the oracle's is asked for, only how far rounding may go.

twice              the same call gives the same bits again
hidden-keys        a key that a row may not see does not matter to it: future tokens, padding, other documents
permuted-keys      the order of the keys does not matter where nothing depends on their positions
permuted-batch     rows of a batch do not see each other
permuted-heads     groups of heads do not see each other
repeated-heads     grouped heads are those of keys and values repeated for each query head
shifted-logits     a constant that is added to all logits of a row changes nothing
explicit-mask      a mask given by a flag or a size is the boolean mask that it stands for
single-batch       a row of the batch alone gives what it gives beside others
last-query         the last query alone, as in decoding, gives what it gives after others
doubled-values     twice the values give twice the output
linear-values      3 V1 - 2 V2 give 3 times the output of V1 less 2 times that of V2
linear-cotangents  3 dO1 - 2 dO2 give 3 times the gradients of dO1 less 2 times those of dO2
split-keys         halves of the keys, each half weighed by its log-sum-exp, give what all of them give
dropout            with it a weight is zero or 1 / (1 - rate) times itself, in the share that the rate says
dropout-seed       the same seed drops the same weights again
dropout-mask       what the output drops has no gradient either, and what it scales a scaled one: one mask, both ways
second-order       the gradients change along the inputs as the oracle's do
appended-key       a further key that the mask hides changes nothing
memory-KIND        the same arrays elsewhere in memory: transposed, sliced, offset, expanded, reversed (lanes/memory.py)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from attnspec.harness.checks import dropout, second_order
from attnspec.harness.checks.arguments import Call
from attnspec.harness.checks.failure import Failure, Worst
from attnspec.harness.checks.setting import Given, Related, setting_of
from attnspec.harness.configuration import Configuration
from attnspec.harness.lanes.framework import FORWARD_ONLY
from attnspec.harness.lanes.memory import OFFERED
from attnspec.harness.lanes.messages import Array, Returned
from attnspec.harness.subjects import Subject
from attnspec.spec.model import Spec

OWN = {dropout.MASK: dropout.check_mask, dropout.SEEDED: dropout.check_seed, second_order.NAME: second_order.check}


@dataclass
class First:
    """The first call of a pair. Those of one case begin with the same call, which is made once."""

    call: Call
    _made: dict[bool, tuple[Given, Mapping[str, Array]]] = field(default_factory=dict)

    def answer(self, related: Related) -> Mapping[str, Array]:
        """What is said to it."""
        given, answer = self._made.get(related.gradient, (None, {}))
        if given is not related.given:
            answer = _asked(self.call, related.gradient, related.case.configuration, related.given)
            self._made[related.gradient] = related.given, answer
        return answer


def check(spec: Spec, subject: Subject, call: Call, related: Related, first: First | None = None) -> Iterator[Failure]:
    """A failure where the two calls differ by more than rounding. What is not answered is another check's."""
    if related.layout and related.layout not in OFFERED.get(subject.lane, ()):
        return
    if related.gradient and subject.lane in FORWARD_ONLY:
        return
    if related.relation in OWN:
        yield from OWN[related.relation](spec, subject, call, related)
        return
    before = (first or First(call)).answer(related)
    after = _asked(call, related.gradient, related.changed, related.other, layout=related.layout)
    for name in (name for name in before if name in after and (not related.outputs or name in related.outputs)):
        if related.rate:
            yield from dropout.check(spec, subject, related, name, before[name], after[name])
            continue
        worst = _worst(spec, related, name, related.expected(name, before), after[name])
        if worst is not None:
            message = f"`{name}` is not the same: {related.relation}"
            where = worst if worst.index else None
            yield Failure(subject.name, "relations", related.relation, "not the same", message, spec.name, related.case, where)
            return


def _asked(call: Call, gradient: bool, configuration: Configuration, given: Given, layout: str = "") -> Mapping[str, Array]:
    """Outputs or gradients; none of a call that is not answered. In float64, in which sums of a few of them are exact."""
    answer = call(configuration, given, layout=layout, gradient=gradient)
    if not isinstance(answer, Returned):
        return {}
    tensors = answer.gradients if gradient else answer.outputs
    return {name: tensor.array.astype(np.float64) for name, tensor in tensors.items()}


def _worst(spec: Spec, related: Related, name: str, expected: Array, got: Array) -> Worst | None:
    """The element at which the two calls are furthest apart, where that is more than rounding; no index for other shapes."""
    if expected.shape != got.shape:
        return Worst((), np.nan, np.nan, 0.0, np.inf, name)
    one, other = expected.astype(np.float64), got.astype(np.float64)
    if np.array_equal(one, other, equal_nan=True):
        return None
    bound = np.zeros(()) if related.exact else related.apart(spec, name)
    if bound.shape not in ((), one.shape):
        return None  # both have a shape that is wrong, which is another check's
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.abs(one - other)
        same = (apart <= bound) | (one == other) | (np.isnan(one) & np.isnan(other))
        over = np.where(same, 0.0, np.where(np.isfinite(apart), apart / bound, np.inf))
    axis = _compared_axis(spec, related, name, over.shape)
    if axis is not None:
        rows = np.arange(over.shape[axis]) == related.row
        over = np.where(rows.reshape(-1, *(1,) * (-axis - 1)), over, 0.0)
    if not over.any():
        return None
    index = tuple(int(place) for place in np.unravel_index(int(np.argmax(over)), over.shape))
    limit = float(np.broadcast_to(bound, over.shape)[index])
    return Worst(index, float(other[index]), float(one[index]), limit, float(over[index]), name)


def _compared_axis(spec: Spec, related: Related, name: str, shape: tuple[int, ...]) -> int | None:
    """The queries' axis, counted from the end, where one query alone is compared."""
    if related.row is None:
        return None
    return setting_of(spec, related).axis(name, "T", shape)
