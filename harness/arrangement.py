"""Cases whose call names axes: a case has one axis for each dim, the subject gets tensors with more of them.

`attention_axes = (1, 3)` means inputs of five axes, of which the second and the fourth are together the length. What a case
calls T is then split over them, and B over the others before the last one; masks and weights have the axes of a dim in its
place. The oracle and every check stay with the case's own tensors: only what a subject gets and returns passes through here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from attnspec.harness.configuration import Configuration
from attnspec.harness.lanes.messages import Array, Tensor
from attnspec.spec.axes import least_rank
from attnspec.spec.model import Default, Layout, Spec


def split(size: int, count: int) -> tuple[int, ...]:
    """The sizes of so many axes that have `size` entries together: its smallest factors first, or else 1."""
    sizes: list[int] = []
    for _ in range(count - 1):
        sizes.append(next((factor for factor in range(2, size + 1) if size % factor == 0), 1))
        size //= sizes[-1]
    return (*sizes, size)


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How the axes of one configuration are spread.

    `counts` says how many axes a dim has where it has several, `sizes` of which sizes they are where the call says so; `order`
    has the places, in an input, of the axes of B and then of those of its length. `dims` are the sizes of the dims.
    """

    spec: Spec
    dims: Mapping[str, int]
    counts: Mapping[str, int]
    sizes: Mapping[str, tuple[int, ...]]
    order: tuple[int, ...]

    @classmethod
    def of(cls, spec: Spec, configuration: Configuration) -> Arrangement | None:
        """The arrangement of a call; None where every dim has one axis."""
        values = dict(configuration.values)
        several = {a.tells[0]: values.get(a.name) for a in spec.tellers if a.several}
        sizes = {dim: value for dim, value in several.items() if isinstance(value, tuple)}
        axes = next((values.get(a.name) for a in (*spec.constructor, *spec.arguments) if a.role == "axes"), None)
        order, length = _order(axes)
        if not sizes and len(order) == 2:
            return None
        counts = {"B": len(order) - length, "T": length, "S": length} | {dim: len(own) for dim, own in sizes.items()}
        return cls(spec, dict(configuration.sizes), counts, sizes, order)

    def configuration(self, configuration: Configuration) -> Configuration:
        """The configuration with the shapes that the subject gets."""
        plans = tuple((name, replace(plan, shape=self._shape(name, plan.shape))) for name, plan in configuration.tensors)
        return replace(configuration, tensors=plans)

    def apart(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """The case's arrays as the subject gets them, read-only like those."""
        spread = {name: self._apart(name, array).copy() for name, array in arrays.items()}
        for array in spread.values():
            array.flags.writeable = False
        return spread

    def together(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What the subject returned, with the case's axes; what has other axes stays as it is, which is a finding."""
        return {name: Tensor(self._together(name, tensor.array), tensor.dtype) for name, tensor in tensors.items()}

    def place(self, name: str, index: tuple[int, ...]) -> tuple[int, ...]:
        """Where an element of one of the case's tensors is in the subject's."""
        layout = next(each for each in self._layouts(name) if len(each.axes) == len(index))
        hot = np.zeros([self.dims[dim] for dim in layout.dims], bool)
        hot[index] = True
        return tuple(int(place) for place in np.argwhere(self._apart(name, hot))[0])

    def _shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._apart(name, np.broadcast_to(np.zeros(()), shape)).shape

    def _apart(self, name: str, array: Array) -> Array:
        layouts = self._layouts(name)
        layout = next((each for each in layouts if len(each.axes) == array.ndim), next(iter(layouts), None))
        extra = array.ndim - len(layout.axes) if layout else -1
        if layout is None or extra < 0:
            return array
        sizes = [self._split(dim, size) for dim, size in zip(layout.dims, array.shape[extra:], strict=True)]
        spread = array.reshape([*array.shape[:extra], *(size for each in sizes for size in each)])
        # An axis that no layout has, in a call that has to be refused, stays in front.
        return spread.transpose((*range(extra), *(extra + np.argsort(self._places(layout)))))

    def _together(self, name: str, array: Array) -> Array:
        layout = next((each for each in self._layouts(name) if self._rank(each) == array.ndim), None)
        if layout is None:
            return array
        moved, start, sizes = array.transpose(self._places(layout)), 0, []
        for dim in layout.dims:
            count = self.counts.get(dim, 1)
            sizes.append(prod(moved.shape[start : start + count]))
            start += count
        return moved.reshape(sizes)

    def _split(self, dim: str, size: int) -> tuple[int, ...]:
        own = self.sizes.get(dim, ())
        return own if own and prod(own) == size else split(size, self.counts.get(dim, 1))

    def _rank(self, layout: Layout) -> int:
        return sum(self.counts.get(dim, 1) for dim in layout.dims)

    def _places(self, layout: Layout) -> tuple[int, ...]:
        """The places of a tensor's axes, those of a dim beside each other: of inputs others than of pairs, and of weights."""
        rank = self._rank(layout)
        if "B" in layout.dims and len({"T", "S"} & {*layout.dims}) == 1:
            return (*self.order, *range(len(self.order), rank))
        return tuple(range(rank))

    def _layouts(self, name: str) -> tuple[Layout, ...]:
        name = name.removeprefix("d_")
        found = [a.layouts for a in self.spec.tensor_arguments if a.name == name]
        found += [(weight.layout,) for weight in self.spec.weights if weight.name == name]
        return next(iter([*found, *(output.layouts for output in self.spec.outputs if output.name == name)]), ())


def _order(axes: Default) -> tuple[tuple[int, ...], int]:
    """The places of the axes of B and then of the length, and how many the length has."""
    rank = least_rank(axes)
    named = axes if isinstance(axes, tuple) else (axes,) if isinstance(axes, int) else (1,)
    length = tuple(axis if axis >= 0 else axis + rank for axis in named)
    return (*(axis for axis in range(rank - 1) if axis not in length), *length), len(length)
