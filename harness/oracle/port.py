"""Documented layouts to the oracle's own axes and back: `B T N H`, `... N T H`, `B T (N H)`, broadcast axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np

from attnspec.harness.error_bounds import Array, Units, gamma, size, whole
from attnspec.harness.oracle.dual import Dual, ordered
from attnspec.spec.model import Layout


@dataclass(frozen=True, slots=True)
class Port:
    """One tensor's way in and out.

    `documented` is its shape in the call, `full` the same with its batch axes broadcast to the call's, `split` with one
    batch axis and groups taken apart; then permuted, and given the canonical axes that the layout lacks, of size 1.
    """

    axes: tuple[str, ...]
    documented: tuple[int, ...]
    full: tuple[int, ...]
    split: tuple[int, ...]
    permutation: tuple[int, ...]
    permuted: tuple[int, ...]
    inverse: tuple[int, ...]
    shape: tuple[int, ...]

    def into(self, tensor: Array) -> Array:
        """The tensor on canonical axes, a view where possible."""
        if self.full != self.documented:
            tensor = np.broadcast_to(tensor, self.full)
        return tensor.reshape(self.split).transpose(self.permutation).reshape(self.shape)

    def out(self, tensor: Array) -> Array:
        """Canonical axes back to the layout, batch axes still broadcast."""
        return tensor.reshape(self.permuted).transpose(self.inverse).reshape(self.full)

    def gradient(self, dual: Dual, units: Units) -> tuple[Array, Array]:
        """An adjoint as the caller gets it: batch axes summed, rounded to storage (u_o |g| + eta)."""
        value = self.out(dual.value)
        error = self.out(whole(dual.error, self.shape))
        if self.full != self.documented:
            lead = len(self.full) - len(self.documented)
            own = (1,) * lead + self.documented
            summed = tuple(a for a, (one, all_) in enumerate(zip(own, self.full, strict=True)) if one != all_)
            error = error + (gamma(prod(self.full), units.accumulate) + units.output) * size(value)
            value = value.sum(axis=summed).reshape(self.documented)
            error = error.sum(axis=summed).reshape(self.documented)
        return value, error + units.output * size(value) + units.eta


def port(
    layout: Layout, canonical: tuple[str, ...], shape: tuple[int, ...], sizes: Mapping[str, int], batch: tuple[int, ...]
) -> Port:
    """The port of a tensor of `shape`; `layout` is in the operator's letters, `sizes` by letter."""
    front = len(shape) - len(layout.axes)
    own, rest = shape[:front], shape[front:]
    dims: list[tuple[str, int]] = []
    full = shape
    if layout.batched:
        spread = prod(own) > 1 or (batch and prod(batch) == 1)
        used = batch if spread else own
        full = (*used, *rest)
        dims.append(("B", prod(used)))
    for axis, length in zip(layout.axes, rest, strict=True):
        single = len(axis.dims) == 1
        dims += [(dim, length if single else sizes[dim]) for dim in axis.dims]
    letters = [dim.lower() for dim, _ in dims]
    axes = ordered([*letters, *(dim.lower() for dim in canonical)])
    lengths = dict(zip(letters, (length for _, length in dims), strict=True))
    permutation = tuple(letters.index(letter) for letter in axes if letter in lengths)
    return Port(
        axes=axes,
        documented=shape,
        full=full,
        split=tuple(length for _, length in dims),
        permutation=permutation,
        permuted=tuple(dims[axis][1] for axis in permutation),
        inverse=tuple(permutation.index(axis) for axis in range(len(permutation))),
        shape=tuple(lengths.get(letter, 1) for letter in axes),
    )
