"""Arithmetic on values with errors: one step per operation, its rounding rule and its derivative.

`u` is the unit roundoff of the dtype that the stage works in. Where an operand is smaller than the result it broadcasts, and
its adjoint is summed: numerics' "dbias: sum over the broadcast axes".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnspec.harness.error_bounds import UNIT, Array, Error, Units, exact, gamma, size, whole
from attnspec.harness.oracle.dual import Dual, Run

Condition = Array | Callable[[Mapping[str, Array]], Array]


@dataclass(frozen=True, slots=True)
class Spread:
    """How one operand lines up with the result: its shape with all axes, and which of them are summed on the way back."""

    own: tuple[int, ...]
    aligned: tuple[int, ...]
    summed: tuple[int, ...]
    count: int
    units: Units

    def out(self, dual: Dual) -> Dual:
        """The operand with all the result's axes, those it lacks of size 1."""
        if self.own == self.aligned:
            return dual
        error = dual.error if isinstance(dual.error, float) else whole(dual.error, self.own).reshape(self.aligned)
        return Dual(dual.value.reshape(self.aligned), error)

    def back(self, value: Array, error: Error) -> Dual:
        """The adjoint summed over the axes along which the operand was repeated.

        gamma_n for the sum, and a rounding to storage of each term, as an implementation may cast before it sums.
        """
        if not self.summed:
            return Dual(value.reshape(self.own), error if isinstance(error, float) else error.reshape(self.own))
        rounded = size(value) * (gamma(self.count, self.units.accumulate) + self.units.output)
        total = value.sum(axis=self.summed).reshape(self.own)
        return Dual(total, (rounded + error).sum(axis=self.summed).reshape(self.own))


@dataclass(frozen=True, slots=True)
class Affine:
    """`x * factor` for a constant array or number; `inexact` is its relative rounding."""

    factor: Any
    inexact: float
    spread: Spread
    unit: float

    def forward(self, inputs: Sequence[Dual], run: Run) -> tuple[tuple[Dual, ...], Any]:
        value, error = self._scaled(self.spread.out(inputs[0]))
        return (Dual(value, error),), None

    def _scaled(self, operand: Dual) -> tuple[Array, Array]:
        value = operand.value * self.factor
        error = size(value) * (self.unit + self.inexact)
        if not exact(operand.error):
            error += operand.error * np.abs(self.factor)
        return value, error

    def backward(self, adjoints: Sequence[Dual | None], kept: Any) -> tuple[Dual | None, ...]:
        assert adjoints[0] is not None
        return (self.spread.back(*self._scaled(adjoints[0])),)


@dataclass(frozen=True, slots=True)
class Add:
    """`x + y`, or `x - y`: u |x + y|, and 2u_a (|x| + |y|) as the sum may be formed inside the product that makes x."""

    sign: int
    left: Spread
    right: Spread
    unit: float
    accumulate: float

    def forward(self, inputs: Sequence[Dual], run: Run) -> tuple[tuple[Dual, ...], Any]:
        left, right = self.left.out(inputs[0]), self.right.out(inputs[1])
        value = left.value + right.value if self.sign > 0 else left.value - right.value
        error = (size(left.value) + size(right.value)) * (2 * self.accumulate) + size(value) * self.unit
        error += left.error
        error += right.error
        return (Dual(value, error),), None

    def backward(self, adjoints: Sequence[Dual | None], kept: Any) -> tuple[Dual | None, ...]:
        assert adjoints[0] is not None
        value, error, _ = adjoints[0]
        return self.left.back(value, error), self.right.back(value if self.sign > 0 else -value, error)


@dataclass(frozen=True, slots=True)
class Multiply:
    """`x * y`: |x| ey + |y| ex + ex ey + u |xy|."""

    left: Spread
    right: Spread
    unit: float

    def forward(self, inputs: Sequence[Dual], run: Run) -> tuple[tuple[Dual, ...], tuple[Dual, Dual]]:
        left, right = self.left.out(inputs[0]), self.right.out(inputs[1])
        return (_times(left, right, self.unit),), (left, right)

    def backward(self, adjoints: Sequence[Dual | None], kept: tuple[Dual, Dual]) -> tuple[Dual | None, ...]:
        assert adjoints[0] is not None
        left, right = kept
        to_left, to_right = _times(adjoints[0], right, self.unit), _times(adjoints[0], left, self.unit)
        return self.left.back(to_left.value, to_left.error), self.right.back(to_right.value, to_right.error)


@dataclass(frozen=True, slots=True)
class Divide:
    """`x / y`: (ex + |x/y| ey) / (|y| - ey) + u |x/y|."""

    left: Spread
    right: Spread
    unit: float

    def forward(self, inputs: Sequence[Dual], run: Run) -> tuple[tuple[Dual, ...], tuple[Dual, Dual]]:
        left, right = self.left.out(inputs[0]), self.right.out(inputs[1])
        quotient = quotient_of(left, right, self.unit)
        return (quotient,), (quotient, right)

    def backward(self, adjoints: Sequence[Dual | None], kept: tuple[Dual, Dual]) -> tuple[Dual | None, ...]:
        assert adjoints[0] is not None
        quotient, right = kept
        to_left = quotient_of(adjoints[0], right, self.unit)
        to_right = _times(to_left, quotient, self.unit)
        return self.left.back(to_left.value, to_left.error), self.right.back(-to_right.value, to_right.error)


def _times(left: Dual, right: Dual, unit: float) -> Dual:
    value = left.value * right.value
    error = unit * size(value) + size(left.value) * right.error + (size(right.value) + right.error) * left.error
    return Dual(value, error)


def quotient_of(left: Dual, right: Dual, unit: float) -> Dual:
    """`x / y` with its error, infinite where that of y leaves no bound."""
    value = left.value / right.value
    # An error as large as the divisor leaves no bound at all.
    room = np.maximum(size(right.value) - right.error, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = (left.error + size(value) * right.error) / room
    return Dual(value, np.where(room > 0, error, np.inf) + unit * size(value))


@dataclass(frozen=True, slots=True)
class Function:
    """A differentiable function of one operand.

    The computed slope is off by how far x may be off (the curvature) and by its own rounding.
    """

    name: str
    unit: float

    def forward(self, inputs: Sequence[Dual], run: Run) -> tuple[tuple[Dual, ...], Dual]:
        rule = FUNCTIONS[self.name]
        x, error, _ = inputs[0]
        y = rule.value(x)
        slope = rule.slope(y, x)
        error = whole(error, x.shape)
        curvature = rule.curvature(y, x, error)
        ulps = rule.ulps if rule.half is None or self.unit < UNIT["float16"] else rule.half
        moved = np.minimum((size(slope) + 0.5 * curvature * error) * error, rule.span) + ulps * self.unit * size(y)
        return (Dual(y, moved),), Dual(slope, curvature * error + rule.slope_rounding(y, x) * self.unit)

    def backward(self, adjoints: Sequence[Dual | None], kept: Dual) -> tuple[Dual | None, ...]:
        assert adjoints[0] is not None
        return (_times(adjoints[0], kept, self.unit),)


@dataclass(frozen=True, slots=True)
class Rule:
    """One function y = f(x): f, f', a bound of |f''| within e of x, and what rounding does to them.

    `ulps` is the rounding of f in u |f|: the most that any framework was measured at (benchmarks/elementary_functions.py),
    rounded up; `half` the same for half dtypes, where f is evaluated in float32 and rounded once. `slope_rounding` is that of
    f' in u, from how f' is computed. `span` is the most that two values can differ.
    """

    value: Callable[[Array], Array]
    slope: Callable[[Array, Array], Array]
    curvature: Callable[[Array, Array, Array], Array]
    ulps: float
    slope_rounding: Callable[[Array, Array], Array]
    span: float = np.inf
    half: float | None = None


def _sigmoid(x: Array) -> Array:
    tail: Array = np.exp(-np.abs(x))
    value: Array = np.where(x >= 0, 1.0, tail) / (1.0 + tail)
    return value


def _bent_tanh(y: Array, x: Array, error: Array) -> Array:
    """|tanh''| = 2 |t| (1 - t^2) <= min(0.77, 2 |t| (1 - t^2) + 2 e), as |tanh'''| <= 2."""
    bent: Array = np.minimum(2 * size(y) * (1 - size(y) ** 2) + 2 * error, 0.77)
    return bent


def _flat(y: Array, x: Array, error: Error = 0.0) -> Array:
    """No curvature, and no rounding."""
    return np.zeros_like(size(y))


def _rounded_tanh_slope(y: Array, x: Array) -> Array:
    """1 - t^2, or (1 + t)(1 - t): t is off by `ulps` u |t|, which moves it by 2 |t| times that; 4 u for its own operations.

    It matters where tanh saturates: the slope is tiny there, and what t's rounding does to it is not.
    """
    return 2 * FUNCTIONS["tanh"].ulps * y * y + 4


def _rounded_sigmoid_slope(y: Array, x: Array) -> Array:
    """y (1 - y): y is off by `ulps` u y, which moves it by |1 - 2y| times that; 3 u y for its own operations."""
    rounded: Array = y * (FUNCTIONS["sigmoid"].ulps * np.abs(1 - 2 * y) + 3)
    return rounded


# tanh: 7.2 u (TensorFlow; XLA 6.1 u), in half dtypes 0.99 u (of all their normal numbers, every framework).
# sigmoid: 8.3 u (TensorFlow). exp: 3.4 u, log: 4.5 u (NumPy, float32).
FUNCTIONS: Mapping[str, Rule] = {
    "tanh": Rule(np.tanh, lambda y, x: 1 - y * y, _bent_tanh, 8, _rounded_tanh_slope, 2.0, half=1.01),
    "sigmoid": Rule(
        _sigmoid, lambda y, x: y * (1 - y), lambda y, x, e: np.full_like(size(y), 0.1), 9, _rounded_sigmoid_slope, 1.0
    ),
    "exp": Rule(np.exp, lambda y, x: y, lambda y, x, e: size(y) * np.exp(np.minimum(e, 300.0)), 4, lambda y, x: 4 * size(y)),
    "log": Rule(
        np.log, lambda y, x: 1 / x, lambda y, x, e: 1 / np.maximum(size(x) - e, 1e-300) ** 2, 5, lambda y, x: 1 / size(x)
    ),
    "abs": Rule(np.abs, lambda y, x: np.sign(x), _flat, 0, _flat),
    "negative": Rule(np.negative, lambda y, x: -np.ones_like(y), _flat, 0, _flat),
}


@dataclass(frozen=True, slots=True)
class Choose:
    """`where(condition, x, y)`, and rows that fail their predicate (y = 0): exact, both ways."""

    condition: Condition
    left: Spread
    right: Spread

    def forward(self, inputs: Sequence[Dual], run: Run) -> tuple[tuple[Dual, ...], Array]:
        chosen = self.condition(run.arrays) if callable(self.condition) else self.condition
        left, right = self.left.out(inputs[0]), self.right.out(inputs[1])
        return (Dual(np.where(chosen, left.value, right.value), np.where(chosen, left.error, right.error)),), chosen

    def backward(self, adjoints: Sequence[Dual | None], kept: Array) -> tuple[Dual | None, ...]:
        assert adjoints[0] is not None
        value, error, _ = adjoints[0]
        to_left = self.left.back(np.where(kept, value, 0.0), np.where(kept, error, 0.0))
        return to_left, self.right.back(np.where(kept, 0.0, value), np.where(kept, 0.0, error))


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows where a predicate fails become zero. Whether 0 times NaN is NaN there is left open."""

    keeps: Condition
    number: int
    source: int

    def forward(self, inputs: Sequence[Dual], run: Run) -> tuple[tuple[Dual, ...], Array]:
        keeps = self.keeps(run.arrays) if callable(self.keeps) else self.keeps
        value, error, _ = inputs[0]
        if not (run.finite and np.isfinite(value).all()):
            loose = run.loose.get(self.source, np.zeros(value.shape, bool)) | (~keeps & ~np.isfinite(value))
            run.loose[self.number] = loose
        return (Dual(np.where(keeps, value, 0.0), np.where(keeps, error, 0.0)),), keeps

    def backward(self, adjoints: Sequence[Dual | None], kept: Array) -> tuple[Dual | None, ...]:
        assert adjoints[0] is not None
        value, error, _ = adjoints[0]
        return (Dual(np.where(kept, value, 0.0), error if exact(error) else np.where(kept, error, 0.0)),)
