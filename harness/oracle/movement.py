"""Steps that only move values: gathers, sums over an axis, pieces joined, axes repeated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnspec.harness.error_bounds import Array, Units, gamma, size, whole
from attnspec.harness.oracle.dual import Dual, Run


@dataclass(frozen=True, slots=True)
class Gather:
    """`x[i, j, ...]` by index arrays over the result's axes; its adjoint is a scatter that adds.

    `where` gives the index arrays in the order of the operand's axes, fixed or from the case's integer arrays.
    """

    where: Callable[[Mapping[str, Array]], tuple[Array, ...]]
    shape: tuple[int, ...]
    result: tuple[int, ...]
    units: Units

    def forward(self, inputs: Sequence[Dual], run: Run) -> tuple[tuple[Dual, ...], tuple[Array, ...]]:
        index = self.where(run.arrays)
        for positions, length in zip(index, self.shape, strict=True):
            if positions.size and (positions.min() < 0 or positions.max() >= length):
                raise ValueError(f"an index leaves its axis of size {length}")
        value = np.broadcast_to(inputs[0].value[index], self.result)
        error = inputs[0].error
        return (Dual(value, error if isinstance(error, float) else np.broadcast_to(error[index], self.result)),), index

    def backward(self, adjoints: Sequence[Dual | None], kept: tuple[Array, ...]) -> tuple[Dual | None, ...]:
        assert adjoints[0] is not None
        given, error, _ = adjoints[0]
        index = tuple(np.broadcast_to(positions, self.result) for positions in kept)
        value, moved = np.zeros(self.shape, given.dtype), np.zeros(self.shape)
        np.add.at(value, index, given)
        rounded = size(given) * (gamma(given.size, self.units.accumulate) + self.units.output)
        np.add.at(moved, index, rounded + whole(error, self.result))
        return (Dual(value, moved),)


@dataclass(frozen=True, slots=True)
class Total:
    """`sum(i, x)` over one axis: gamma_n sum |x|."""

    axis: int
    shape: tuple[int, ...]
    units: Units
    stored: float

    def forward(self, inputs: Sequence[Dual], run: Run) -> tuple[tuple[Dual, ...], Any]:
        value, error, _ = inputs[0]
        terms = size(value) * (gamma(self.shape[self.axis] + 2, self.units.accumulate) + 2 * self.stored) + error
        return (Dual(value.sum(axis=self.axis), terms.sum(axis=self.axis)),), None

    def backward(self, adjoints: Sequence[Dual | None], kept: Any) -> tuple[Dual | None, ...]:
        assert adjoints[0] is not None
        given, error, _ = adjoints[0]
        repeated = np.broadcast_to(np.expand_dims(given, self.axis), self.shape)
        if isinstance(error, float):
            return (Dual(repeated, error),)
        return (Dual(repeated, np.broadcast_to(np.expand_dims(error, self.axis), self.shape)),)


@dataclass(frozen=True, slots=True)
class Join:
    """`concat(i, a, b, ...)` of pieces that have all axes already: exact, both ways."""

    axis: int
    shapes: tuple[tuple[int, ...], ...]

    def forward(self, inputs: Sequence[Dual], run: Run) -> tuple[tuple[Dual, ...], Any]:
        value = np.concatenate([each.value for each in inputs], axis=self.axis)
        errors = [whole(each.error, shape) for each, shape in zip(inputs, self.shapes, strict=True)]
        return (Dual(value, np.concatenate(errors, axis=self.axis)),), None

    def backward(self, adjoints: Sequence[Dual | None], kept: Any) -> tuple[Dual | None, ...]:
        assert adjoints[0] is not None
        value, error, _ = adjoints[0]
        error = whole(error, value.shape)
        parts, start = [], 0
        for shape in self.shapes:
            own = (slice(None),) * self.axis + (slice(start, start + shape[self.axis]),)
            parts.append(Dual(value[own], error[own]))
            start += shape[self.axis]
        return tuple(parts)


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that no input changes, such as the zero key that some layers append."""

    value: Array

    def forward(self, inputs: Sequence[Dual], run: Run) -> tuple[tuple[Dual, ...], Any]:
        return (Dual(self.value, 0.0),), None

    def backward(self, adjoints: Sequence[Dual | None], kept: Any) -> tuple[Dual | None, ...]:
        return ()
