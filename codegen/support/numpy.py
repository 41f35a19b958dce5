"""Helpers that generated NumPy files carry."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from attnspec.codegen.support.common import _bind, _LayoutError, _Run

_KINDS = {"floating": "f", "bool": "b", "integer": "iu", "bool or floating": "bf"}


def _tensor(sizes: dict[str, Any], name: str, value: Any, dtype: str, *layouts: str) -> np.ndarray:
    """`value` as an array of that kind of dtype and one of those layouts."""
    array = np.asarray(value)
    if array.dtype.kind not in _KINDS[dtype]:
        raise _LayoutError(f"`{name}` must be {dtype}, got dtype {array.dtype}")
    _bind(sizes, name, array.shape, *layouts)
    return array


def _truth(mask: Any) -> np.ndarray:
    """A mask of numbers as one of bools: True unless 0."""
    array = np.asarray(mask)
    return array != 0 if array.dtype.kind in "iuf" else array


def _sizes_of(array: Any) -> Any:
    return np.shape(array)


def _reshaped(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    return np.reshape(array, tuple(shape))


def _transposed(array: np.ndarray, order: Sequence[int]) -> np.ndarray:
    return np.transpose(array, order)


def _spread(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    return np.broadcast_to(array, tuple(shape))


def _same_dtype(**arrays: np.ndarray) -> None:
    (first, reference), *others = arrays.items()
    for name, array in others:
        if array.dtype != reference.dtype:
            raise _LayoutError(f"`{name}` must have the dtype of `{first}`, {reference.dtype}, got {array.dtype}")


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"`{name}` must be a number, got {value!r}")
    return float(value)


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"`{name}` must be an integer, got {value!r}")
    return int(value)


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the last axis, shifted by its maximum so that exp cannot overflow."""
    shifted: np.ndarray = np.exp(logits - logits.max(axis=-1, keepdims=True, initial=-np.inf))
    shifted /= shifted.sum(axis=-1, keepdims=True)
    return shifted


def _logsumexp(logits: np.ndarray) -> np.ndarray:
    """Logarithm of the sum of exponentials over the last axis; -inf where nothing is visible."""
    peak = logits.max(axis=-1, keepdims=True, initial=-np.inf)
    peak = np.where(np.isneginf(peak), 0, peak)
    with np.errstate(divide="ignore"):
        total: np.ndarray = np.log(np.exp(logits - peak).sum(axis=-1, keepdims=True)) + peak
    return total[..., 0]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * x))


def _keys(array: np.ndarray, axis: int, low: int, high: int) -> np.ndarray:
    """A view of some of the keys."""
    view: np.ndarray = array[(*[slice(None)] * axis, slice(low, high))]
    return view


def _taken(array: np.ndarray, axis: int, runs: list[_Run]) -> np.ndarray:
    """The part of an array at the keys of the runs; a view where one follows on the other."""
    if all(one[1] == other[0] for one, other in itertools.pairwise(runs)):
        return _keys(array, axis, *((runs[0][0], runs[-1][1]) if runs else (0, 0)))
    return np.concatenate([_keys(array, axis, low, high) for low, high, _ in runs], axis)


def _extremes(entries: np.ndarray, size: int) -> tuple[list[int], list[int]]:
    """The least and the greatest entry of every block of the last axis, over all rows; 0 where there is none."""
    if entries.shape[0] == 0:
        entries = np.zeros((1, entries.shape[1]), int)
    blocks = [entries[:, start : start + size] for start in range(0, entries.shape[1], size)]
    return [int(block.min()) for block in blocks], [int(block.max()) for block in blocks]


def _add(total: np.ndarray, axis: int, runs: list[_Run], part: np.ndarray) -> None:
    """Add the columns of the runs to where they were taken from."""
    column = 0
    for low, high, _ in runs:
        _keys(total, axis, low, high)[...] += _keys(part, axis, column, column + high - low)
        column += high - low


def _dropout(weights: np.ndarray, rate: float, seed: int | None = None) -> np.ndarray:
    """Zero a share of the weights and rescale the rest; the same for the same seed, else from NumPy's global generator."""
    if rate == 1:
        return np.zeros_like(weights)
    drawn = np.random.random_sample(weights.shape) if seed is None else np.random.default_rng(seed).random(weights.shape)
    return np.where(drawn >= rate, weights / (1 - rate), 0).astype(weights.dtype)


def _sum_to(gradient: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Sum a gradient over the axes along which an operand of `shape` was broadcast."""
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    axes = tuple(i for i, size in enumerate(shape) if size == 1 and gradient.shape[i] != 1)
    summed: np.ndarray = gradient.sum(axis=axes, keepdims=True)
    return summed


def _part(gradient: np.ndarray, axis: int, index: int, parts: Sequence[np.ndarray]) -> np.ndarray:
    """The slice of a concatenation's gradient that belongs to one of its parts."""
    start = sum(part.shape[axis] for part in parts[:index])
    return gradient.take(range(start, start + parts[index].shape[axis]), axis=axis)


def _interval(bounds: np.ndarray, position: np.ndarray) -> np.ndarray:
    """The number of the interval that a position lies in: `bounds[i] <= position < bounds[i + 1]`."""
    return np.searchsorted(bounds, position, side="right") - 1


def _pad_last(array: np.ndarray) -> np.ndarray:
    """The array with a zero (False) appended to its last axis."""
    return np.concatenate((array, np.zeros_like(array, shape=(*array.shape[:-1], 1))), axis=-1)


def _placed(gradient: np.ndarray, shape: Sequence[int], index: int) -> np.ndarray:
    """Zeros of `shape` with the gradient at one index of the first axis."""
    whole = np.zeros(shape, gradient.dtype)
    whole[index] = gradient
    return whole


def _scatter_last(gradient: np.ndarray, shape: Sequence[int], index: np.ndarray) -> np.ndarray:
    """The gradient of `table[..., index]`: every entry gets the sum over the places that read it."""
    table = np.zeros(shape, dtype=gradient.dtype)
    np.add.at(table, (Ellipsis, index), gradient)  # type: ignore[arg-type]
    return table


def _softmax_vjp(weights: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Gradient of the logits: every row's gradient less its mean under the weights."""
    centred: np.ndarray = gradient - (gradient * weights).sum(axis=-1, keepdims=True)
    centred *= weights
    return centred


def _logsumexp_vjp(logits: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """The log-sum-exp's derivative is the softmax; rows that see nothing get zero."""
    empty = np.isneginf(logits).all(axis=-1, keepdims=True)
    return np.where(empty, 0, _softmax(np.where(empty, 0, logits)) * gradient[..., None])


def _glorot_normal(rng: np.random.Generator, shape: Sequence[int], fan_in: int, fan_out: int) -> np.ndarray:
    return rng.normal(0, (2 / (fan_in + fan_out)) ** 0.5, shape)


def _linear_uniform(rng: np.random.Generator, shape: Sequence[int], fan_in: int, fan_out: int) -> np.ndarray:
    return rng.uniform(-(fan_in**-0.5), fan_in**-0.5, shape)


def _glorot_uniform(rng: np.random.Generator, shape: Sequence[int], fan_in: int, fan_out: int) -> np.ndarray:
    limit = (6 / (fan_in + fan_out)) ** 0.5
    return rng.uniform(-limit, limit, shape)
