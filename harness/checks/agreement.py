"""Is an array what the oracle says? |x - gold| <= bound everywhere, equal NaN and infinity patterns, equal shape and dtype.

Nothing here averages: no norm, no cosine, no share of the elements, which all let wrong gradients pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnspec.harness.checks.failure import Worst
from attnspec.harness.lanes.messages import Tensor
from attnspec.harness.oracle import Gold

INSIDE = "inside the bound"
OUTSIDE = "outside the bound"
NAN = "NaN"
NOT_NAN = "a number where NaN belongs"
WRONG_SHAPE = "wrong shape"
WRONG_DTYPE = "wrong dtype"


@dataclass(frozen=True, slots=True)
class Comparison:
    """`seen` is INSIDE or what is wrong; `ratio` is the largest error over bound; `worst` where it is outside."""

    seen: str
    ratio: float
    message: str = ""
    worst: Worst | None = None

    @property
    def agrees(self) -> bool:
        return self.seen == INSIDE


def compare(tensor: Tensor, gold: Gold) -> Comparison:
    """`tensor` against what the oracle says."""
    if tensor.array.shape != gold.value.shape:
        return Comparison(WRONG_SHAPE, np.inf, f"shape {tensor.array.shape}, expected {gold.value.shape}")
    if tensor.dtype != gold.dtype:
        return Comparison(WRONG_DTYPE, np.inf, f"dtype {tensor.dtype}, expected {gold.dtype}")
    if gold.value.size == 0:
        return Comparison(INSIDE, 0.0)
    over = error_over_bound(tensor.array.astype(gold.value.dtype, copy=False), gold)
    ratio = float(over.max())
    if ratio <= 1.0:
        return Comparison(INSIDE, ratio)
    return _outside(tensor, gold, over)


def error_over_bound(values: NDArray[Any], gold: Gold) -> NDArray[Any]:
    """Error over bound of each element: infinite where NaN or infinity disagree, 0 for a NaN where one may be."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        over: NDArray[Any] = np.abs(values - gold.value) / gold.bound
    usual = np.isfinite(over)
    if not usual.all():
        same = (values == gold.value) | (np.isnan(values) & np.isnan(gold.value))
        unbounded = np.isinf(gold.bound) & np.isfinite(values)
        over = np.where(same | unbounded, 0.0, np.where(usual, over, np.inf))
        if gold.loose is not None:
            over = np.where(gold.loose & (np.isnan(values) | np.isnan(gold.value)), 0.0, over)
    return over


def _outside(tensor: Tensor, gold: Gold, over: NDArray[Any]) -> Comparison:
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(over)), over.shape))
    got, want, bound = float(tensor.array[index]), float(gold.value[index]), float(gold.bound[index])
    seen = OUTSIDE
    if np.isnan(got) and not np.isnan(want):
        seen = NAN
    elif np.isnan(want) and not np.isnan(got):
        seen = NOT_NAN
    ratio = float(over[index])
    return Comparison(seen, ratio, seen, Worst(index, got, want, bound, ratio))
