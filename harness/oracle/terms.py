"""What an expression compiles to: a fixed array, an exact function of the case's integer arrays, or a slot with errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from attnspec.harness.error_bounds import Array
from attnspec.harness.oracle.dual import Slot, ordered

OPERATORS: Mapping[str, Callable[..., Any]] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.true_divide, "//": np.floor_divide, "%": np.mod,
    "**": np.power, "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "==": np.equal,
    "!=": np.not_equal, "and": np.logical_and, "or": np.logical_or, "not": np.logical_not,
}  # fmt: skip
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "floor": np.floor,
    "min": lambda *xs: reduce(np.minimum, xs),
    "max": lambda *xs: reduce(np.maximum, xs),
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "sigmoid": lambda x: 0.5 * (1.0 + np.tanh(0.5 * x)),
    "where": np.where,
    "abs": np.abs,
}


@dataclass(frozen=True, slots=True)
class Fixed:
    """Known when a configuration is compiled: index grids, sizes, scalars and what is made of them."""

    axes: tuple[str, ...]
    value: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's."""
        return self.value.shape


@dataclass(frozen=True, slots=True)
class Exact:
    """A function of a case's integer and boolean arrays: masks, lengths, segments."""

    axes: tuple[str, ...]
    shape: tuple[int, ...]
    value: Callable[[Mapping[str, Array]], Array]


Term = Fixed | Exact | Slot


def letters_of(terms: Sequence[Term]) -> tuple[str, ...]:
    """All index letters of several terms, in canonical order."""
    return ordered([letter for term in terms for letter in term.axes])


def aligned_shape(term: Term, axes: tuple[str, ...]) -> tuple[int, ...]:
    """The term's shape with every one of `axes`, those it lacks of size 1."""
    own = dict(zip(term.axes, term.shape, strict=True))
    return tuple(own.get(letter, 1) for letter in axes)


def apply(function: Callable[..., Any], terms: Sequence[Fixed | Exact]) -> Fixed | Exact:
    """A NumPy function of aligned terms; worked out at once where all are fixed."""
    axes = letters_of(terms)
    shapes = [aligned_shape(term, axes) for term in terms]
    shape = np.broadcast_shapes(*shapes)
    fixed = [term.value.reshape(own) if isinstance(term, Fixed) else None for term, own in zip(terms, shapes, strict=True)]
    if all(value is not None for value in fixed):
        return Fixed(axes, np.broadcast_to(np.asarray(function(*fixed)), shape))
    parts = [_part(term, own) for term, own in zip(terms, shapes, strict=True)]
    if len(parts) == 2:
        one, two = parts
        return Exact(axes, shape, lambda arrays: function(one(arrays), two(arrays)))
    return Exact(axes, shape, lambda arrays: function(*(part(arrays) for part in parts)))


def _part(term: Fixed | Exact, shape: tuple[int, ...]) -> Callable[[Mapping[str, Array]], Array]:
    if isinstance(term, Fixed):
        value = term.value.reshape(shape)
        return lambda arrays: value
    function = term.value
    if term.shape == shape:
        return function
    return lambda arrays: function(arrays).reshape(shape)


def on_axes(term: Fixed | Exact, axes: tuple[str, ...]) -> Array | Callable[[Mapping[str, Array]], Array]:
    """The term as an array, or a function that gives one, with exactly `axes`."""
    extra = set(term.axes) - set(axes)
    if extra:
        raise ValueError(f"unknown index {', '.join(sorted(extra))}")
    shape = aligned_shape(term, axes)
    return term.value.reshape(shape) if isinstance(term, Fixed) else _part(term, shape)
