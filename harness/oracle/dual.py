"""Values with their error bounds, and the steps that a compiled case is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from attnspec.harness.error_bounds import Array, Error, size


class Dual(NamedTuple):
    """A value and a bound on any correct implementation's distance from it; an error of 0.0 means exact.

    `magnitude`, where known, bounds the sum of the magnitudes of the terms that make up the value.
    """

    value: Array
    error: Error
    magnitude: Array | None = None


@dataclass(slots=True)
class Run:
    """One evaluation: the case's arrays, and whether some of them hold NaN or infinity.

    `loose` is set by the combining product: where a non-finite value that no query sees may or may not leak.
    """

    arrays: Mapping[str, Array]
    finite: bool = True
    loose: dict[int, Array] = field(default_factory=dict)


class Step(Protocol):
    """One operation of a compiled case: static, shared by all its runs; what a run must remember it returns."""

    def forward(self, inputs: Sequence[Dual], run: Run) -> tuple[tuple[Dual, ...], Any]:
        """The outputs, and what `backward` needs."""

    def backward(self, adjoints: Sequence[Dual | None], kept: Any) -> tuple[Dual | None, ...]:
        """An adjoint for each input, given one for each output (None: nothing depends on it)."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A floating value of a compiled case: its number, index letters in canonical order, sizes."""

    number: int
    axes: tuple[str, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """A step and the numbers of the slots that it reads and writes."""

    step: Step
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


ORDER = "bnktscphverabcdefgijlmoquwxyz"


def ordered(letters: Sequence[str]) -> tuple[str, ...]:
    """Index letters in the one order that all slots use; `n0` and `n1`, the halves of a grouped index, follow `n`."""
    return tuple(sorted(set(letters), key=lambda letter: (ORDER.index(letter[0]), letter)))


def add(left: Dual | None, right: Dual | None, unit: float) -> Dual | None:
    """The sum of two adjoints of one slot."""
    if left is None or right is None:
        return left if right is None else right
    value = left.value + right.value
    magnitude = None
    if left.magnitude is not None or right.magnitude is not None:
        one, other = (size(d.value) if d.magnitude is None else d.magnitude for d in (left, right))
        magnitude = one + other
    return Dual(value, left.error + right.error + unit * size(value), magnitude)
