"""Sums of products over an index, as one batched matrix product; grouped heads are an axis split, never a repeat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np

from attnspec.harness.error_bounds import Array, Error, Units, exact, gamma, product_error, size, whole
from attnspec.harness.oracle.dual import Dual, Run, Slot, ordered


@dataclass(frozen=True, slots=True)
class Folding:
    """How a tensor becomes a stack of matrices and back: split axes, permute, merge."""

    shape: tuple[int, ...]
    split: tuple[int, ...]
    permutation: tuple[int, ...]
    permuted: tuple[int, ...]
    inverse: tuple[int, ...]
    matrix: tuple[int, ...]

    def fold(self, tensor: Array) -> Array:
        """The stack of matrices."""
        return tensor.reshape(self.split).transpose(self.permutation).reshape(self.matrix)

    def fold_error(self, error: Error) -> Error:
        """An error folded like its value; exact stays exact."""
        return error if isinstance(error, float) else self.fold(whole(error, self.shape))

    def unfold(self, matrices: Array) -> Array:
        """Back to the tensor."""
        return matrices.reshape(self.permuted).transpose(self.inverse).reshape(self.shape)


class Kept(NamedTuple):
    """Operands as stacks of matrices, with magnitudes and errors."""

    left: Array
    right: Array
    left_size: Array
    right_size: Array
    left_error: Error
    right_error: Error


@dataclass(frozen=True, slots=True)
class Product:
    """`sum(contracted, left * right)`.

    Rounding (Higham, section 3.1): gamma of the number of terms and 3 more, for a scalar factor that an implementation
    may fold into an operand; 2 `operand` for storing either the operands or the terms; `stored` for storing the result.
    `weighs` marks the second product, the one whose exact zeros may or may not hide NaN.
    """

    left: Folding
    right: Folding
    result: Folding
    units: Units
    operand: float
    stored: float
    weighs: bool = False
    number: int = -1

    def forward(self, inputs: Sequence[Dual], run: Run) -> tuple[tuple[Dual, ...], Kept]:
        left, right = self.left.fold(inputs[0].value), self.right.fold(inputs[1].value)
        spots = None
        if not run.finite:
            spots = ~np.isfinite(left), ~np.isfinite(right)
            left, right = np.where(spots[0], 0.0, left), np.where(spots[1], 0.0, right)
        errors = self.left.fold_error(inputs[0].error), self.right.fold_error(inputs[1].error)
        if not run.finite:
            errors = _cleaned(errors[0]), _cleaned(errors[1])
        # A NaN weight (an empty row) does reach the gradients of all values, and its row those of the projections behind it
        # (what is stored); a NaN key or value that nobody sees does not.
        weights = self.left.fold(inputs[0].value) if self.stored and spots is not None else left
        kept = Kept(weights, right, size(left), size(right), *errors)
        value = left @ right.swapaxes(1, 2)
        terms = left.shape[2]
        relative = gamma(terms + 3, self.units.combine if self.weighs else self.units.accumulate) + 2 * self.operand
        error = product_error(
            kept.left_size, kept.left_error, kept.right_size.swapaxes(1, 2), _turned(kept.right_error), relative
        )
        error += terms * self.units.eta
        if self.stored:
            error += self.stored * size(value)
        if spots is not None:
            value = self._spread(value, left, *spots, run)
        return (Dual(self.result.unfold(value), self.result.unfold(error)),), kept

    def _spread(self, value: Array, left: Array, left_spots: Array, right_spots: Array, run: Run) -> Array:
        """NaN where a non-finite operand takes part; loose where its partner is a weight of exactly zero."""
        turned = right_spots.swapaxes(1, 2).astype(np.float64)
        touched = np.broadcast_to(np.expand_dims(right_spots.any(axis=2), 1), value.shape)
        certain = left_spots.any(axis=2, keepdims=True) | ((left != 0).astype(np.float64) @ turned > 0)
        if not self.weighs:
            certain = certain | touched
        elif (touched & ~certain).any():
            run.loose[self.number] = self.result.unfold(touched & ~certain)
        return np.where(certain, np.nan, value)

    def backward(self, adjoints: Sequence[Dual | None], kept: Kept) -> tuple[Dual | None, ...]:
        (adjoint,) = adjoints
        assert adjoint is not None
        given = self.result.fold(adjoint.value)
        error = self.result.fold_error(adjoint.error)
        left = self._side(self.left, given, error, kept.right, kept.right_size, kept.right_error)
        turned = given.swapaxes(1, 2)
        right = self._side(self.right, turned, _turned(error), kept.left, kept.left_size, kept.left_error)
        return left, right

    def _side(self, folding: Folding, given: Array, error: Error, other: Array, other_size: Array, other_error: Error) -> Dual:
        """One operand's adjoint: numerics' dQ, dK and dV, each the product of an adjoint and the other operand."""
        terms = other.shape[1]
        value = given @ other
        magnitude = size(given)
        relative = gamma(terms + 3, self.units.combine if self.weighs else self.units.accumulate) + 2 * self.units.output
        bound = product_error(magnitude, error, other_size, other_error, relative)
        through = None
        if self.weighs:  # |dO| |V|^T, which the row sums of the softmax need
            through = bound / relative if exact(error) and exact(other_error) else magnitude @ other_size
        bound += self.units.output * size(value) + terms * self.units.eta
        return Dual(folding.unfold(value), folding.unfold(bound), None if through is None else folding.unfold(through))


def _cleaned(error: Error) -> Error:
    return error if exact(error) else np.nan_to_num(error)


def _turned(error: Error) -> Error:
    return error if isinstance(error, float) else error.swapaxes(1, 2)


def product(
    left: Slot,
    right: Slot,
    contracted: Sequence[str],
    grouped: Mapping[str, int],
    units: Units,
    *,
    operand: float,
    stored: float,
    weighs: bool,
    number: int,
) -> tuple[Product, tuple[str, ...], tuple[int, ...]]:
    """The step for two slots, with the letters and sizes of its result.

    `grouped` says which letters are split into (outer, inner) and the size of the inner part: where `key` is indexed by
    `n // G`, its axis is `n0`, and the other operand's `n` becomes `n0` and `n1`.
    """
    lefts, rights = _parts(left, grouped), _parts(right, grouped)
    sizes = dict(lefts) | dict(rights)
    batch = [x for x in sizes if x in dict(lefts) and x in dict(rights) and x not in contracted]
    only_left = [x for x, _ in lefts if x not in dict(rights) and x not in contracted]
    only_right = [x for x, _ in rights if x not in dict(lefts) and x not in contracted]
    outer = ordered([*batch, *only_left, *only_right])
    merged = ordered([x[0] for x in outer])
    shape = tuple(prod(sizes[x] for x in outer if x[0] == letter) for letter in merged)
    kwargs: dict[str, Any] = {"units": units, "operand": operand, "stored": stored, "weighs": weighs, "number": number}
    step = Product(
        _folding(lefts, left.shape, batch, only_left, list(contracted)),
        _folding(rights, right.shape, batch, only_right, list(contracted)),
        _folding([(x, sizes[x]) for x in outer], shape, batch, only_left, only_right),
        **kwargs,
    )
    return step, merged, shape


def _parts(slot: Slot, grouped: Mapping[str, int]) -> list[tuple[str, int]]:
    """The slot's letters and sizes, grouped letters split in two."""
    parts: list[tuple[str, int]] = []
    for letter, length in zip(slot.axes, slot.shape, strict=True):
        if letter in grouped:
            parts += [(letter + "0", length // grouped[letter]), (letter + "1", grouped[letter])]
        else:
            parts.append((letter, length))
    return parts


def _folding(
    parts: list[tuple[str, int]], shape: tuple[int, ...], first: list[str], second: list[str], third: list[str]
) -> Folding:
    sizes = dict(parts)
    position = {letter: axis for axis, (letter, _) in enumerate(parts)}
    groups = [[letter for letter in group if letter in sizes] for group in (first, second, third)]
    permutation = tuple(position[letter] for group in groups for letter in group)
    return Folding(
        shape,
        tuple(length for _, length in parts),
        permutation,
        tuple(parts[axis][1] for axis in permutation),
        tuple(permutation.index(axis) for axis in range(len(permutation))),
        tuple(prod(sizes[letter] for letter in group) for group in groups),
    )
