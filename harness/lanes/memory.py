"""The same array elsewhere in memory: what a function must not notice.

transposed   the last two axes the other way round
sliced       inside a larger buffer whose other elements are poison: NaN, true, the largest integer
offset       behind another element of its buffer
expanded     its first axis with stride 0, where all its entries are equal
reversed     every axis with a negative stride

Arrays of jax, TensorFlow and R have no strides that a function could see; torch's have none that are negative.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from attnspec.harness.lanes.messages import Array

KINDS = ("transposed", "sliced", "offset", "expanded", "reversed")
OFFERED: Mapping[str, tuple[str, ...]] = {"numpy": KINDS, "torch": KINDS[:-1], "keras-torch": KINDS[:-1]}


def laid_out(array: Array, kind: str) -> Array:
    """The array in that layout, in memory of its own; as it is where it has too few axes, or the layout has no name."""
    return _LAYOUTS[kind](array) if kind and array.ndim and array.size else array


def can_expand(array: Array) -> bool:
    """Whether the entries of the first axis are several, and equal."""
    whole = np.broadcast_to(array[:1], array.shape)
    return array.shape[0] > 1 and bool(np.array_equal(array, whole, equal_nan=array.dtype.kind == "f"))


def poison(dtype: np.dtype[Any]) -> float | bool | int:
    """What stands around an array."""
    return float("nan") if dtype.kind == "f" else True if dtype.kind == "b" else int(np.iinfo(dtype).max)


def _transposed(array: Array) -> Array:
    return array.mT.copy().mT if array.ndim > 1 else array


def _sliced(array: Array) -> Array:
    return np.pad(array, 1, constant_values=poison(array.dtype))[(slice(1, -1),) * array.ndim]


def _offset(array: Array) -> Array:
    buffer = np.empty(array.size + 1, array.dtype)
    buffer[0], buffer[1:] = poison(array.dtype), array.ravel()
    return buffer[1:].reshape(array.shape)


def _expanded(array: Array) -> Array:
    if not can_expand(array):
        return array
    first = array[:1].copy()
    return np.lib.stride_tricks.as_strided(first, array.shape, (0, *first.strides[1:]))


def _reversed(array: Array) -> Array:
    return np.flip(np.flip(array).copy())


_LAYOUTS: Mapping[str, Callable[[Array], Array]] = {
    "transposed": _transposed,
    "sliced": _sliced,
    "offset": _offset,
    "expanded": _expanded,
    "reversed": _reversed,
}
