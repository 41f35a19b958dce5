"""Sizes from shapes: each tensor's shape is matched with its layouts, and every dim gets one size.

* A layout of the same rank is chosen; a batched one (`... N T H`) takes any further axes in front.
* Required tensors with the same number of layouts, none batched, use the same one: `query` without a batch axis wants
  `key` without it.
* `N|1` does not bind: its size is 1, or the one that another tensor bound.
* The axes in front of batched layouts broadcast; those of optional tensors must fit into what the required ones make.
  `B` is the product of the result.
* A dim that the chosen layouts lack (`T N H` has no B) has size 1.
* Where an API writes another letter than the operator (`B S K H` for value), both get the size: V = H.
* A tensor that is left out binds as the one that stands in for it.
* An integer of a constructor may tell the sizes of dims, before any shape, and with them what follows from told sizes alone.
* `1` binds nothing. A tensor whose first two axes change places unless a flag is set has its layouts as the call's flag says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

from attnspec.spec.layouts import paired_dims, swapped
from attnspec.spec.model import Axis, Default, Layout, Spec
from attnspec.spec.nodes import Name


class ShapeMismatch(ValueError):
    """Shapes that do not fit the layouts of a spec."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of a call. Each layout comes with the dims that the operator has for its own (value's H is also V).

    `swapped_unless` is the flag that keeps the first two axes in their order; `layouts` are those where it is set.
    """

    name: str
    layouts: tuple[Layout, ...]
    required: bool
    stands_in: str = ""
    renamed: tuple[tuple[str, str], ...] = ()
    swapped_unless: str = ""

    def under(self, values: Mapping[str, Default]) -> Tensor:
        """The tensor as the flags of a call order its axes."""
        if not self.swapped_unless or values.get(self.swapped_unless):
            return self
        return replace(self, layouts=swapped(self.layouts), swapped_unless="")

    @cached_property
    def aligned(self) -> bool:
        """Whether it uses the same entry of its layouts as the others: not where it may broadcast, or groups axes."""
        axes = (axis for layout in self.layouts for axis in layout.axes)
        return self.required or (not self.batched and all(len(axis.dims) == 1 and not axis.or_one for axis in axes))

    @cached_property
    def batched(self) -> bool:
        """Whether any of its layouts is."""
        return any(layout.batched for layout in self.layouts)

    def shapes(self) -> str:
        """The shapes it may have: `(B, T, N, H) or (T, N, H)`."""
        return " or ".join(_shape_text(layout) for layout in self.layouts)


def _shape_text(layout: Layout) -> str:
    axes = [(" * ".join(axis.dims) or "1") + (" or 1" if axis.or_one else "") for axis in layout.axes]
    texts = ["...", *axes] if layout.batched else axes
    return f"({texts[0]},)" if len(texts) == 1 else f"({', '.join(texts)})"


def tensors_of(spec: Spec) -> tuple[Tensor, ...]:
    """Every tensor that a call of the spec may have, required ones first: they decide on sizes."""
    found = []
    for argument in spec.tensor_arguments:
        canonical = spec.tensors.get(argument.feeds or argument.name, ())
        pairs = (pair for lay in argument.layouts for pair in zip(lay.dims, paired_dims(lay.dims, canonical), strict=True))
        renamed = tuple(dict.fromkeys(pair for pair in pairs if pair[0] != pair[1]))
        stands_in = argument.unset.name if isinstance(argument.unset, Name) else ""
        swap = argument.swapped_unless
        found.append(Tensor(argument.name, argument.layouts, not argument.optional, stands_in, renamed, swap))
    found += [Tensor(weight.name, (weight.layout,), weight.when is None) for weight in spec.weights]
    return tuple(sorted(found, key=lambda tensor: not tensor.required))


@dataclass
class Binder:
    """Binds the sizes of one call."""

    sizes: dict[str, int] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    batch: tuple[int, ...] = ()
    chosen: dict[int, int] = field(default_factory=dict)
    later: list[tuple[Tensor, Layout, tuple[int, ...], Axis, int]] = field(default_factory=list)

    def tell(self, name: str, dims: tuple[str, ...], value: object) -> None:
        """Bind dims to the integer of the argument `name`."""
        if isinstance(value, int):
            self.sizes |= dict.fromkeys(dims, value)
            self.owners |= dict.fromkeys(dims, name)

    def bind(self, tensors: tuple[Tensor, ...], shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Bind every given tensor. Raises ShapeMismatch."""
        lacking: list[str] = []
        renamed: list[tuple[str, str]] = []
        batched = False
        for tensor in tensors:
            shape = shapes.get(tensor.name, shapes.get(tensor.stands_in))
            if shape is not None:
                layout = self._layout(tensor, shape)
                self._tensor(tensor, layout, shape)
                batched = batched or layout.batched
                lacking += tensor.layouts[0].dims
                renamed += tensor.renamed
        for tensor, layout, shape, axis, size in self.later:
            self._deferred(tensor, layout, shape, axis, size)
        if batched:
            self.sizes["B"] = prod(self.batch)
        for dim in lacking:
            self.sizes.setdefault(dim, 1)
        for own, dim in renamed:
            self.sizes.setdefault(dim, self.sizes[own])

    def _layout(self, tensor: Tensor, shape: tuple[int, ...]) -> Layout:
        """The layout that a rank chooses; an exact one comes before a batched one."""
        rank = len(shape)
        exact = [n for n, layout in enumerate(tensor.layouts) if not layout.batched and len(layout.axes) == rank]
        open_ = [n for n, layout in enumerate(tensor.layouts) if layout.batched and len(layout.axes) <= rank]
        if not exact and not open_:
            raise self._mismatch(tensor, shape)
        number = (exact or open_)[0]
        if tensor.aligned and not tensor.batched and self.chosen.setdefault(len(tensor.layouts), number) != number:
            wanted = _shape_text(tensor.layouts[self.chosen[len(tensor.layouts)]])
            raise ShapeMismatch(f"`{tensor.name}` must have shape {wanted}, as the tensors before it, got {shape}")
        return tensor.layouts[number]

    def _tensor(self, tensor: Tensor, layout: Layout, shape: tuple[int, ...]) -> None:
        front = len(shape) - len(layout.axes)
        if layout.batched:
            self._broadcast(tensor, shape, shape[:front])
        for axis, size in zip(layout.axes, shape[front:], strict=True):
            if axis.or_one or len(axis.dims) != 1:
                self.later.append((tensor, layout, shape, axis, size))
            elif self.sizes.setdefault(axis.dims[0], size) == size:
                self.owners.setdefault(axis.dims[0], tensor.name)
            else:
                raise self._clash(tensor, layout, shape, axis.dims[0])

    def _broadcast(self, tensor: Tensor, shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
        joined = broadcast(self.batch, axes)
        if joined is None or (joined != self.batch and not tensor.required):
            raise ShapeMismatch(f"`{tensor.name}` must have batch axes that broadcast to {self.batch}, got shape {shape}")
        self.batch = joined

    def _deferred(self, tensor: Tensor, layout: Layout, shape: tuple[int, ...], axis: Axis, size: int) -> None:
        """Axes that do not bind by themselves: optional ones, and groups with at most one dim that nobody else tells."""
        if axis.or_one:
            if size not in (1, self.sizes.get(axis.dims[0], size)):
                raise self._clash(tensor, layout, shape, axis.dims[0])
            return
        unknown = [dim for dim in axis.dims if dim not in self.sizes]
        known = prod(self.sizes[dim] for dim in axis.dims if dim in self.sizes)
        if len(unknown) == 1 and known and size % known == 0:
            self.sizes[unknown[0]] = size // known
            self.owners[unknown[0]] = tensor.name
        elif unknown or size != known:
            raise self._mismatch(tensor, shape)

    def _clash(self, tensor: Tensor, layout: Layout, shape: tuple[int, ...], dim: str) -> ShapeMismatch:
        owner = f"; {dim} = {self.sizes[dim]} is bound by `{self.owners.get(dim, '')}`"
        return ShapeMismatch(f"`{tensor.name}` must have shape {_shape_text(layout)}, got {shape}{owner}")

    def _mismatch(self, tensor: Tensor, shape: tuple[int, ...]) -> ShapeMismatch:
        return ShapeMismatch(f"`{tensor.name}` must have shape {tensor.shapes()}, got {shape}")


def broadcast(one: tuple[int, ...], two: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape that two shapes broadcast to; None where they do not."""
    if one == two:
        return one
    length = max(len(one), len(two))
    pairs = zip((1,) * (length - len(one)) + one, (1,) * (length - len(two)) + two, strict=True)
    joined = [b if a == 1 else a if b in (1, a) else None for a, b in pairs]
    return None if None in joined else tuple(size for size in joined if size is not None)
