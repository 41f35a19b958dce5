"""Layouts as the spec files write them: `B T N H`, `... N|1 T S`, `B T (N H)`, `1 N`; text to `Layout` and back."""

from __future__ import annotations

import re

from attnspec.spec.model import Axis, Layout

MAX_AXES = 12
MAX_LENGTH = 200

_AXIS = re.compile(r"(?P<one>[A-Z])(?P<or_one>\|1)?|\((?P<group>[A-Z](?: [A-Z])+)\)|(?P<single>1)")


class LayoutError(ValueError):
    """A text that is no layout."""


def parse_layout(text: str) -> Layout:
    """The layout that `text` writes. Raises LayoutError."""
    if len(text) > MAX_LENGTH:
        raise LayoutError(f"expected at most {MAX_LENGTH} characters, got {len(text)}")
    words = re.findall(r"\([^()]*\)|\S+", text)
    batched = words[:1] == ["..."]
    axes = tuple(_axis(word) for word in words[batched:])
    layout = Layout(axes, batched)
    if not axes or len(layout.dims) > MAX_AXES:
        raise LayoutError(f"expected 1 to {MAX_AXES} axes, got {len(layout.dims)}")
    if len(set(layout.dims)) != len(layout.dims):
        raise LayoutError(f'expected every dim once, got "{text}"')
    return layout


def _axis(word: str) -> Axis:
    match = _AXIS.fullmatch(word)
    if match is None:
        raise LayoutError(f'expected an axis such as "N", "N|1", "(N H)", "1" or a leading "...", got "{word[:40]}"')
    if match["single"]:
        return Axis(())
    if match["group"]:
        return Axis(tuple(match["group"].split()))
    return Axis((match["one"],), or_one=match["or_one"] is not None)


def layout_text(layout: Layout) -> str:
    """The text that parses back to the layout."""
    return " ".join((*(["..."] if layout.batched else []), *map(_axis_text, layout.axes)))


def _axis_text(axis: Axis) -> str:
    if not axis.dims:
        return "1"
    text = axis.dims[0] if len(axis.dims) == 1 else f"({' '.join(axis.dims)})"
    return f"{text}|1" if axis.or_one else text


def swapped(layouts: tuple[Layout, ...]) -> tuple[Layout, ...]:
    """The layouts with the first two axes of the first one in the other order."""
    first, *others = layouts
    one, two, *rest = first.axes
    return (Layout((two, one, *rest), first.batched), *others)


def paired_dims(dims: tuple[str, ...], canonical: tuple[str, ...]) -> tuple[str, ...]:
    """A layout's dims in the operator's letters: where an API says `B S K H` for value, its last axis is `V`."""
    foreign = [dim for dim in dims if dim not in canonical]
    spare = [dim for dim in canonical if dim not in dims]
    named = dict(zip(reversed(foreign), reversed(spare), strict=False))  # from the right: a layout may lack leading dims
    return tuple(named.get(dim, dim) for dim in dims)
