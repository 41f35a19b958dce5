"""Checks of arguments that every generated file may carry. The printer copies the functions that a file uses.

`_LayoutError` is defined by the file: the type that the documented API raises for shapes and dtypes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

_LayoutError = ValueError


def _bind(sizes: dict[str, Any], name: str, shape: Sequence[int], *layouts: str) -> None:
    """Bind the dims of the layout that fits the rank of `shape`; a dim has one size in a call. `X|1` may also be 1."""
    for layout in layouts:
        leading, axes = _axes(layout)
        rest = len(shape) - len(axes)
        if rest == 0 or (leading and rest > 0):
            for axis, size in zip(axes, shape[rest:], strict=True):
                _bind_axis(sizes, name, shape, layouts, axis, size)
            for axis in _axes(layouts[0])[1]:
                if axis not in axes and "|" not in axis:
                    sizes.setdefault(axis, (1, name))
            if leading:
                _bind_leading(sizes, name, tuple(shape[:rest]), grows="|" not in layout)
            return
    raise _misfit(name, shape, layouts)


def _misfit(name: str, shape: Sequence[int], layouts: Sequence[str], clash: str = "") -> Exception:
    return _LayoutError(f"`{name}` must have shape {_shapes(layouts)}, got {tuple(shape)}{clash}")


def _axes(layout: str) -> tuple[bool, list[str]]:
    axes = layout.split()
    return (True, axes[1:]) if axes[:1] == ["..."] else (False, axes)


def _shapes(layouts: Sequence[str]) -> str:
    return " or ".join(f"({', '.join(layout.split())})" for layout in layouts)


def _bind_axis(sizes: dict[str, Any], name: str, shape: Sequence[int], layouts: Sequence[str], axis: str, size: int) -> None:
    dim, _, one = axis.partition("|")
    bound, owner = sizes.setdefault(dim, (size, name))
    if size != bound and not (one and size == 1):
        raise _misfit(name, shape, layouts, f"; {dim} = {bound} is bound by `{owner}`")


def _bind_leading(sizes: dict[str, Any], name: str, leading: tuple[int, ...], grows: bool) -> None:
    """Broadcast the leading axes of all tensors together; a mask may not add to them."""
    bound, owner = sizes.setdefault("...", (leading if grows else (), name))
    rank = max(len(bound), len(leading))
    pairs = list(zip((1,) * (rank - len(bound)) + bound, (1,) * (rank - len(leading)) + leading, strict=True))
    joint = tuple(b if a == 1 else a for a, b in pairs)
    if any(b not in (1, c) for (_, b), c in zip(pairs, joint, strict=True)) or not (grows or joint == bound):
        raise _LayoutError(f"`{name}` has leading axes {leading}, which do not broadcast with {bound} of `{owner}`")
    sizes["..."] = (joint, owner)


def _lacks_leading_axis(rank: int, **tensors: Any) -> bool:
    """Whether the tensors come in their shortest layout, of `rank`: all of them, or none."""
    short = [name for name, tensor in tensors.items() if tensor.ndim == rank]
    if short and len(short) < len(tensors):
        others = ", ".join(f"`{name}`" for name in tensors if name not in short)
        raise _LayoutError(f"{', '.join(f'`{name}`' for name in short)} must have the leading axes of {others}")
    return bool(short)


def _lacks_it_too(lifted: bool, rank: int, **tensors: Any) -> None:
    """A tensor that may be None comes in its shortest layout, of `rank`, where the others do, and only there."""
    for name, tensor in tensors.items():
        if tensor is not None and (tensor.ndim == rank) != lifted:
            raise _LayoutError(f"`{name}` must {'lack' if lifted else 'have'} the leading axis, as the other tensors do")


def _pair(name: str, value: Any) -> tuple[Any, Any]:
    """The two sizes of `value`: an int means both, None means neither."""
    if value is None:
        return None, None
    pair = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, (tuple, list)) else ()
    if len(pair) != 2 or any(isinstance(size, bool) or not isinstance(size, int) for size in pair):
        raise TypeError(f"`{name}` must be an int or a pair of ints, got {value!r}")
    return pair[0], pair[1]


def _single(name: str, value: Any) -> Any:
    """The member of a sequence of one; of several axes nothing is known here."""
    if not isinstance(value, (tuple, list)):
        return value
    if len(value) != 1:
        raise NotImplementedError(f"`{name}` of {len(value)} axes is not covered, got {value!r}")
    return value[0]


def _choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value is not None and value not in choices:
        raise ValueError(f"`{name}` must be None or one of {', '.join(map(repr, choices))}, got {value!r}")


def _default_only(**given: tuple[Any, Any]) -> None:
    """Refuse what only the documented layer itself can do: an initialiser, a regulariser, a constraint of its framework."""
    for name, (value, default) in given.items():
        if value is not default and value != default:
            raise NotImplementedError(f"`{name}` must be {default!r} here, got {value!r}")


def _members(name: str, value: Any, least: int, most: int) -> list[Any]:
    """The members of a list input, absent ones as None."""
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise ValueError(f"`{name}` must be a list of {least} to {most} tensors, got {value!r:.80}")
    return [*value, *[None] * (most - len(value))]


_Range = tuple[int, int]
_Run = tuple[int, int, bool]


def _runs(length: int, seen: list[_Range], hidden: list[_Range]) -> list[_Run]:
    """The keys that are seen, as (low, high, tested) in order; a run is tested where some query does not see all of it."""
    edges = [edge for keys in (*seen, *hidden) for edge in keys]
    runs: list[_Run] = []
    low = 0
    while low < length:
        high = length  # the next edge; sizes that a tracer does not know can be compared, not sorted
        for edge in edges:
            if low < edge < high:
                high = edge
        if any(first <= low and high <= last for first, last in seen):
            tested = any(first <= low and high <= last for first, last in hidden)
            joins = bool(runs) and runs[-1][1:] == (low, tested)
            runs.append((runs.pop()[0] if joins else low, high, tested))
        low = high
    return runs


def _blocks(length: int, size: int, keys: _Range) -> Iterator[_Range]:
    """The blocks of keys that hold a range of them."""
    for low in range(max(0, keys[0]) // size * size, min(keys[1], length), size):
        yield low, min(low + size, length)


def _tested(runs: list[_Run]) -> Iterator[tuple[int, int, int]]:
    """The runs that need a test: the column that each begins at, and its keys."""
    column = 0
    for low, high, tested in runs:
        if tested:
            yield column, low, high
        column += high - low
