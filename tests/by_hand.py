"""Attention written by hand in float64, one einsum a line and heads repeated: what generated code is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Arrays = Mapping[str, np.ndarray]


def grid(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """(t, s): the position of every query as a column, of every key as a row."""
    return np.arange(rows)[:, None], np.arange(columns)[None, :]


def repeated(heads: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Key or value heads (axis 2), each as often as it serves a query head."""
    return np.repeat(heads, of.shape[2] // heads.shape[2], axis=2)


def dot_logits(query: np.ndarray, key: np.ndarray, scale: float | None = None) -> np.ndarray:
    """Scaled products, (B, N, T, S)."""
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    return np.asarray(np.einsum("btnh,bsnh->bnts", query, repeated(key, query)) * factor)


def softmax(logits: np.ndarray, empty: float = 0.0) -> np.ndarray:
    """Weights; rows that see nothing are filled with `empty`."""
    with np.errstate(invalid="ignore"):
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        weights = powers / powers.sum(axis=-1, keepdims=True)
    return np.where(np.isneginf(logits).all(axis=-1, keepdims=True), empty, weights)


def combine(weights: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Weighted values, (B, T, N, V)."""
    groups = weights.shape[1] // value.shape[2]
    return np.asarray(np.einsum("bnts,bsnv->btnv", weights, np.repeat(value, groups, axis=2)))


def hide(logits: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """-inf where a key is not visible."""
    return np.where(visible, logits, -np.inf)


def attention(query: np.ndarray, key: np.ndarray, value: np.ndarray, visible: np.ndarray | bool = True) -> np.ndarray:
    """Plain attention over the visible keys; a row that sees nothing is zero."""
    return combine(softmax(hide(dot_logits(query, key), np.asarray(visible))), value)


def central_differences(scalar: Callable[[Arrays], float], at: Arrays, step: float = 1e-5) -> dict[str, np.ndarray]:
    """The gradient of a scalar function of float64 arrays, entry by entry: (f(x + step) - f(x - step)) / (2 step)."""
    gradients = {name: np.zeros_like(array) for name, array in at.items()}
    for name, array in at.items():
        for index in np.ndindex(array.shape):
            ahead, behind = array.copy(), array.copy()
            ahead[index] += step
            behind[index] -= step
            difference = scalar({**at, name: ahead}) - scalar({**at, name: behind})
            gradients[name][index] = difference / (2 * step)
    return gradients


def random_arrays(seed: int, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Normal float64 arrays by name."""
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(shape) for name, shape in shapes.items()}
