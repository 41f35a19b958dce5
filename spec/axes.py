"""Axes that a call names (`role = "axes"`): which axes of its inputs are together one dim of a layout."""

from __future__ import annotations

from attnspec.spec.model import Default

PLAIN_RANK = 3
"""Axes of an input where each is a dim: the batch, the length, the features."""


def least_rank(axes: Default) -> int:
    """The fewest axes of an input that has these, all between its first and its last one; None names all there are."""
    named = axes if isinstance(axes, tuple) else (axes,) if isinstance(axes, int) else ()
    return max((PLAIN_RANK, *(axis + 2 if axis >= 0 else 1 - axis for axis in named)))
