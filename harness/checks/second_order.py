"""Second derivatives, where a framework offers them: the gradients' own derivative along the inputs themselves.

The function whose gradients these are is smooth, so that its second derivatives are symmetric: pulling the inputs back through
the gradients gives how the gradients change where the inputs grow by a factor. The oracle's gradients say how much that is, at
inputs that are a little larger and smaller.

Differences of two step sizes give the value. Where they are furthest apart in a tensor says how far off the smaller one is: in
single elements they may agree by chance. What rounding does to a subject's second derivatives is a few times what it does to
its first ones; the differences divide that bound by the step, and leave it a hundred times as much.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from attnspec.harness.arrays import arrays
from attnspec.harness.checks.arguments import Call
from attnspec.harness.checks.failure import Failure, Worst
from attnspec.harness.checks.setting import Given, Related, Setting
from attnspec.harness.lanes.call import COTANGENT
from attnspec.harness.lanes.messages import Array, Returned
from attnspec.harness.oracle import Gold, judge
from attnspec.harness.subjects import Subject
from attnspec.spec.model import Spec

NAME = "second-order"
LANES = ("torch", "jax", "tensorflow")
WIDE = ("float32", "float64")
STEP = 2.0**-8
EVERY = 5  # of the calls


def calls(setting: Setting, number: int) -> Iterator[Related]:
    """A call and its cotangents."""
    if setting.configuration.dtype in WIDE and number % EVERY == 0:
        made = arrays(setting.case, setting.spec)
        yield Related(NAME, setting.case, made, setting.configuration, made, gradient=True)


def check(spec: Spec, subject: Subject, call: Call, related: Related) -> Iterator[Failure]:
    """A failure for the first input along which the gradients' derivative is another one. What raises does not offer it."""
    if subject.lane not in LANES:
        return
    answer = call(related.changed, related.other, gradient=True, second=True)
    if not isinstance(answer, Returned):
        return
    for name, gold in _golds(spec, related).items():
        worst = _worst(name, answer.gradients[name].array.astype(np.float64), gold)
        if worst is not None:
            message = f"the second derivative by `{name}` is outside the bound"
            yield Failure(subject.name, "relations", NAME, "outside the bound", message, spec.name, related.case, worst)
            return


def _worst(name: str, got: Array, gold: Gold) -> Worst | None:
    """The element that is furthest outside its bound, if any. Another shape is a first derivative's matter, and so is NaN."""
    if got.shape != gold.value.shape or not got.size:
        return None
    over = np.where(np.isnan(got), np.inf, np.abs(got - gold.value) / gold.bound)
    over = np.where(np.isfinite(gold.value) & np.isfinite(gold.bound), over, 0.0)
    index = tuple(int(place) for place in np.unravel_index(int(np.argmax(over)), over.shape))
    if not over[index] > 1:
        return None
    return Worst(index, float(got[index]), float(gold.value[index]), float(gold.bound[index]), float(over[index]), name)


def _golds(spec: Spec, related: Related) -> Mapping[str, Gold]:
    """The change of each gradient where all inputs grow."""
    near, far = (_differences(spec, related, step) for step in (STEP, 2 * STEP))
    apart = {name: np.abs(gold.value - far[name].value).max(initial=0.0) for name, gold in near.items()}
    return {
        name: Gold((4 * gold.value - far[name].value) / 3, apart[name] + gold.bound, gold.dtype) for name, gold in near.items()
    }


def _differences(spec: Spec, related: Related, step: float) -> Mapping[str, Gold]:
    larger, smaller = (
        judge(spec, related.case, _grown(related.given, factor), True).gradients for factor in (1 + step, 1 - step)
    )
    return {
        name: Gold((gold.value - smaller[name].value) / (2 * step), (gold.bound + smaller[name].bound) / (2 * step), gold.dtype)
        for name, gold in larger.items()
    }


def _grown(given: Given, factor: float) -> Mapping[str, Array]:
    """All floating inputs times a factor, in float64; cotangents stay."""
    grow = {name for name, array in given.items() if array.dtype.kind == "f" and not name.startswith(COTANGENT)}
    return {name: factor * array.astype(np.float64) if name in grow else array for name, array in given.items()}
