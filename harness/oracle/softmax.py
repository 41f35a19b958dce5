"""The softmax over the keys a query attends to, with its rules for hidden keys and empty rows, and its gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from attnspec.harness.error_bounds import (
    Array,
    Error,
    Units,
    declared,
    exact,
    log_sum_exp_error,
    row_sum_error,
    size,
    softmax_error,
)
from attnspec.harness.oracle.dual import Dual, Run
from attnspec.harness.storage import stored
from attnspec.spec.model import Policy

FILLS = {
    "-inf": (-np.inf, -np.inf),
    "-0.7 * max(float32)": (-0.7 * float(np.finfo(np.float32).max),) * 2,
    "-1e9, in float16 -65504": (-1e9, -65504.0),
}
"""What each fill is, and what it is where logits are float16."""
HOPELESS = 1e4
"""An error of a logit after which a weight may be anything: it may also be -inf."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a hidden key's logit becomes, and what a row without any finite logit becomes.

    Where the fill is added, a row of NaN has NaN gradients at hidden keys too; a replaced logit passes none on. A finite fill
    that is added is rounded with the logit to `dtype`, that of the logits: what is left of them decides in an empty row.
    """

    fill: float
    empty: str
    adds: bool = False
    dtype: str = "float32"

    @classmethod
    def of(cls, policies: Mapping[str, Policy], dtype: str) -> Rule:
        """The rule of a path. What a finite fill makes of empty rows follows: a path that declares otherwise is wrong."""
        logits = declared(policies["logits.dtype"], dtype)
        fill = FILLS[policies["mask.fill"].detail or "-inf"][logits == "float16"]
        empty, adds = policies["empty_row"].value, policies["mask.fill"].value == "add"
        follows = ("rounded" if adds else "uniform",) if np.isfinite(fill) else ("zero", "uniform", "nan")
        if empty not in follows:
            raise ValueError(f"policies: mask.fill makes an empty row {' or '.join(follows)}, got empty_row = {empty!r}")
        return cls(fill, empty, adds, logits)

    @property
    def rounds(self) -> bool:
        """Whether a hidden logit is what rounding leaves of it."""
        return self.adds and bool(np.isfinite(self.fill))

    def added(self, logit: Array, error: Error, accumulate: float) -> tuple[Array, Array]:
        """logit + fill as `dtype` holds it, and how far an implementation may be from that.

        Rounding is monotone: for a logit within e of ours, the sum is between the rounded ends. To e comes the rounding of our
        own sum, and u_a |logit + fill| for half dtypes, whose sum may be formed in float32. Near the end of float16 one side
        may be -inf: then anything may be.
        """
        shifted = logit + self.fill
        first = accumulate if self.dtype in ("float16", "bfloat16") else float(np.finfo(logit.dtype).eps)
        reach = error + first * size(shifted)
        value, low, high = (stored(x, self.dtype).astype(logit.dtype) for x in (shifted, shifted - reach, shifted + reach))
        value = np.where(np.isneginf(value), high, value)
        apart = np.where(low == high, 0.0, np.maximum(high - value, value - low))
        return value, np.minimum(apart, HOPELESS).astype(np.float64)


class Kept(NamedTuple):
    """What the gradient needs: the weights and their error, where logits were replaced, the sink's share."""

    weight: Array
    error: Array
    visible: Array | None
    sink: bool


@dataclass(frozen=True, slots=True)
class Softmax:
    """Weights and log-sum-exp of a row. `visible` is fixed, a function of the case's arrays, or None: every key.

    A second input is the logit of a sink: one more key of every row, whose weight is dropped.
    """

    visible: Array | Callable[[Mapping[str, Array]], Array] | None
    rule: Rule
    units: Units
    wants_log_sum: bool = False

    def forward(self, inputs: Sequence[Dual], run: Run) -> tuple[tuple[Dual, ...], Kept]:
        visible = self.visible(run.arrays) if callable(self.visible) else self.visible
        logit, error, _ = inputs[0]
        magnitude = size(logit)
        if visible is not None and self.rule.rounds:
            logit, magnitude, error = self._with_added(logit, magnitude, error, visible)
        elif visible is not None:
            logit = np.where(visible, logit, self.rule.fill)
            magnitude = np.where(visible, magnitude, 0.0)
            error = np.where(visible, error, 0.0)
        if not run.finite:  # -inf from a bias: its weight is exactly 0, whatever the rounding
            error = np.where(np.isfinite(magnitude), error, 0.0)
            magnitude = np.where(np.isfinite(magnitude), magnitude, 0.0)
        sink = len(inputs) > 1
        if sink:
            logit, magnitude, error, visible = _with_sink(logit, magnitude, error, visible, inputs[1])
        weight, total, largest = self._weights(logit)
        bound, mean = softmax_error(size(weight), magnitude, error, self.units)
        kept = Kept(weight, bound, visible, sink)
        log_sum = (self._log_sum(total, largest, mean, logit.shape[-1]),) if self.wants_log_sum else ()
        if sink:
            weight, bound = weight[..., :-1], bound[..., :-1]
        return (Dual(weight, bound), *log_sum), kept

    def _with_added(self, logit: Array, magnitude: Array, error: Error, visible: Array) -> tuple[Array, Array, Array]:
        """Logits with the fill added where hidden, what of them the exponentials round, and their errors.

        In an empty row all have the fill in common: it cancels exactly as the largest is subtracted (Sterbenz), and what is
        left is rounded. In any other the weight of a hidden key is zero, whatever its logit.
        """
        shifted, moved = self.rule.added(logit, error, self.units.accumulate)
        empty = ~visible.any(axis=-1, keepdims=True)
        largest = np.where(empty, shifted, -np.inf).max(axis=-1, keepdims=True, initial=-np.inf)
        apart = np.where(empty & np.isfinite(shifted), size(shifted - largest), 0.0)
        hidden_error = np.where(empty, moved, 0.0)
        return np.where(visible, logit, shifted), np.where(visible, magnitude, apart), np.where(visible, error, hidden_error)

    def _weights(self, logit: Array) -> tuple[Array, Array, Array]:
        """Weights, sum of the shifted exponentials (0 in an empty row) and the shift, per row."""
        largest = logit.max(axis=-1, keepdims=True, initial=-np.inf)
        empty = largest == -np.inf
        some_empty = bool(empty.any())
        if some_empty:
            largest = np.where(empty, 0.0, largest)
        weight = np.exp(logit - largest)
        total = weight.sum(axis=-1, keepdims=True)
        if not some_empty:
            weight /= total
            return weight, total, largest
        weight /= np.where(empty, 1.0, total)
        return np.where(empty, self._empty_weight(logit.shape[-1]), weight), total, largest

    def _log_sum(self, total: Array, largest: Array, mean: Array, count: int) -> Dual:
        with np.errstate(divide="ignore"):
            value = np.log(total) + largest
        error = log_sum_exp_error(mean, largest, value, count, self.units)
        return Dual(value[..., 0], np.where(np.isfinite(value), error, 0.0)[..., 0])

    def _empty_weight(self, keys: int) -> float:
        if np.isfinite(self.rule.fill) or self.rule.empty == "nan":
            return np.nan  # only a bias of -inf empties a row under a finite fill
        return 0.0 if self.rule.empty == "zero" else 1.0 / max(keys, 1)

    def backward(self, adjoints: Sequence[Dual | None], kept: Kept) -> tuple[Dual | None, ...]:
        given, log_sum = adjoints[0], adjoints[1] if self.wants_log_sum else None
        if given is None and log_sum is None:
            return (None, None) if kept.sink else (None,)
        parts = []
        if given is not None:
            parts.append(self._through_weights(_padded(given) if kept.sink else given, kept))
        if log_sum is not None:
            parts.append(self._through_log_sum(log_sum, kept))
        value = sum((p[0] for p in parts[1:]), parts[0][0])
        bound = sum((p[1] for p in parts[1:]), parts[0][1])
        if kept.visible is not None and not self.rule.rounds:
            passes = kept.visible | np.isnan(kept.weight) if self.rule.adds else kept.visible
            value, bound = np.where(passes, value, 0.0), np.where(passes, bound, 0.0)
        if kept.sink:
            return Dual(value[..., :-1], bound[..., :-1]), Dual(value[..., -1:], bound[..., -1:])
        return (Dual(value, bound),)

    def _through_weights(self, given: Dual, kept: Kept) -> tuple[Array, Array]:
        """dS = P (dP - Delta), Delta = sum P dP.

        E = eP (|dP - Delta| + e_dP + d) + p (e_dP + d + 3u (|dP| + |Delta|)) + 2u |dS| + eta (1 + |dO||V|^T + |Delta|).
        """
        u, eta = self.units.softmax, self.units.eta
        weight, moved = size(kept.weight), kept.error
        delta = (kept.weight * given.value).sum(axis=-1, keepdims=True)
        apart = given.value - delta
        value = kept.weight * apart
        terms, delta_size = size(given.value), size(delta)
        magnitude = terms if given.magnitude is None else given.magnitude
        row = row_sum_error(weight, moved, terms, given.error, magnitude, self.units)
        inner = given.error + row
        bound = moved * (size(apart) + inner) + weight * (inner + 3 * u * (terms + delta_size))
        bound += 2 * u * size(value) + eta * (1.0 + magnitude + delta_size)
        return value, bound

    def _through_log_sum(self, given: Dual, kept: Kept) -> tuple[Array, Array]:
        """d lse / d s = P."""
        cotangent = given.value[..., None]
        value = kept.weight * cotangent
        error = given.error if exact(given.error) else np.asarray(given.error)[..., None]
        return value, kept.error * (size(cotangent) + error) + size(kept.weight) * error + 2 * self.units.softmax * size(value)


def _with_sink(
    logit: Array, magnitude: Array, error: Error, visible: Array | None, sink: Dual
) -> tuple[Array, Array, Array, Array | None]:
    """One more column: the sink's logit, always visible."""

    def join(row: Error, column: Error, dtype: type = np.float64) -> Array:
        full: Array = np.broadcast_to(column, (*logit.shape[:-1], 1)).astype(dtype)
        return np.concatenate([np.broadcast_to(row, logit.shape), full], axis=-1)

    seen = None if visible is None else join(visible, np.ones(1, bool), bool)
    return join(logit, sink.value, logit.dtype.type), join(magnitude, size(sink.value)), join(error, sink.error), seen


def _padded(given: Dual) -> Dual:
    """An adjoint of the weights with a zero for the sink's, which nothing reads."""

    def pad(array: Error) -> Error:
        if isinstance(array, float):
            return array
        return np.concatenate([array, np.zeros((*array.shape[:-1], 1), array.dtype)], axis=-1)

    magnitude = None if given.magnitude is None else np.asarray(pad(given.magnitude))
    return Dual(np.asarray(pad(given.value)), pad(given.error), magnitude)
