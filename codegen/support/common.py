"""Checks of arguments that every generated file may carry. The printer copies the functions that a file uses.

`_LayoutError` is defined by the file: the type that the documented API raises for shapes and dtypes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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


def _several(name: str, value: Any, default: Any) -> tuple[Any, ...]:
    """The sizes of the axes that one dim has: an int is that of a single one, None means the default."""
    sizes = (default,) if value is None else tuple(value) if isinstance(value, (tuple, list)) else (value,)
    if value is not None and (not sizes or any(isinstance(size, bool) or not isinstance(size, int) for size in sizes)):
        raise TypeError(f"`{name}` must be an int or a sequence of ints, got {value!r}")
    return sizes


def _product(sizes: Sequence[Any]) -> Any:
    """How many entries axes of these sizes have together."""
    total: Any = 1
    for size in sizes:
        total = total * size
    return total


def _as_tuple(value: Any) -> tuple[Any, ...] | None:
    """A number as a sequence of one."""
    return None if value is None else tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _spans(name: str, axes: Any, query: Sequence[Any], value: Sequence[Any]) -> dict[str, Any]:
    """The sizes of the axes that are together one dim, for inputs that have more axes than dims, and the order of them all.

    Those that `axes` names are T of a query and S of a value; all others before the last one are B.
    """
    length = _places(name, axes, len(query))
    if len(query) < 4:
        return {}
    if len(value) != len(query):
        raise _LayoutError(f"`value` must have as many axes as `query`, {len(query)}, got {len(value)}")
    others = [axis for axis in range(len(query) - 1) if axis not in length]
    sizes = {
        "B": [query[axis] for axis in others],
        "T": [query[axis] for axis in length],
        "S": [value[axis] for axis in length],
    }
    return {**sizes, "order": (*others, *length)}


def _places(name: str, axes: Any, rank: int) -> list[int]:
    """The places of the axes that are named, counted from the front; None names all but the first and the last."""
    inner = range(1, rank - 1)
    named = inner if axes is None else axes if isinstance(axes, (tuple, list)) else (axes,)
    if any(isinstance(axis, bool) or not isinstance(axis, int) for axis in named):
        raise TypeError(f"`{name}` must be an int or a sequence of ints, got {axes!r}")
    places = [axis + rank if axis < 0 else axis for axis in named]
    if rank > 2 and (not places or len({*places}) < len(places) or not {*places} <= {*inner}):
        raise _LayoutError(f"`{name}` must name axes between the first and the last of {rank}, each once, got {axes!r}")
    return places


def _attended(spans: dict[str, Any]) -> int:
    """How many axes are together the length."""
    return len(spans["T"]) if spans else 1


def _fit_sizes(name: str, shape: Sequence[Any], found: Sequence[Any], wanted: Sequence[Any]) -> None:
    """Sizes are those of other tensors; what is not known yet fits."""
    known = [(a, b) for a, b in zip(found, wanted, strict=False) if isinstance(a, int) and isinstance(b, int)]
    if len(found) != len(wanted) or any(a != b for a, b in known):
        raise _LayoutError(f"`{name}` must have axes of the sizes {(*wanted,)} for a dim, got {(*found,)} in {(*shape,)}")


def _fold(name: str, tensor: Any, dim: str, spans: dict[str, Any]) -> Any:
    """A tensor with the axes of B together in front, then those of `dim`, then its own last ones."""
    if not spans:
        return tensor
    shape, sizes, rank = _sizes_of(tensor), [*spans["B"], *spans[dim]], len(spans["order"])
    _fit_sizes(name, shape, [shape[axis] for axis in spans["order"] if axis < len(shape)], sizes)
    moved = _transposed(tensor, (*spans["order"], *range(rank, len(shape))))
    return _reshaped(moved, (_product(spans["B"]), _product(spans[dim]), *shape[rank:]))


def _unfold(tensor: Any, dim: str, spans: dict[str, Any]) -> Any:
    """The inverse of `_fold`."""
    if not spans:
        return tensor
    rest, rank = _sizes_of(tensor)[2:], len(spans["order"])
    apart = _reshaped(tensor, (*spans["B"], *spans[dim], *rest))
    return _transposed(apart, (*map(spans["order"].index, range(rank)), *range(rank, rank + len(rest))))


def _fold_pairs(name: str, tensor: Any, spans: dict[str, Any]) -> Any:
    """A mask or weights: axes of B, perhaps one of heads, those of T and S. Later ones of B may be lacking, all may be 1."""
    if not spans:
        return tensor
    shape, width = _sizes_of(tensor), len(spans["T"])
    front = shape[: max(len(shape) - 2 * width, 0)]
    batch, heads = front[: len(spans["B"])], front[len(spans["B"]) :]
    if len(shape) < 2 * width or len(heads) > 1:
        raise _LayoutError(
            f"`{name}` must have {2 * width} axes of queries and keys, and before them those of the batch, got {shape}"
        )
    batch = (*batch, *(1,) * (len(spans["B"]) - len(batch)))
    last = shape[len(front) :]
    groups = [(batch, spans["B"]), (heads, heads), (last[:width], spans["T"]), (last[width:], spans["S"])]
    whole: list[Any] = []
    joint: list[Any] = []
    for number, (found, wanted) in enumerate(groups):
        ones = all(isinstance(size, int) and size == 1 for size in found)
        _fit_sizes(name, shape, [b if isinstance(a, int) and a == 1 else a for a, b in zip(found, wanted, strict=True)], wanted)
        whole += found if ones else wanted
        joint += found if number == 1 else [1 if ones else _product(wanted)]
    return _reshaped(_spread(_reshaped(tensor, (*batch, *heads, *last)), whole), joint)


def _unfold_pairs(tensor: Any, spans: dict[str, Any]) -> Any:
    """Weights (B, N, T, S) with every axis of B, T and S."""
    return _reshaped(tensor, (*spans["B"], _sizes_of(tensor)[1], *spans["T"], *spans["S"])) if spans else tensor


def _fold_last(name: str, tensor: Any, sizes: Sequence[Any]) -> Any:
    """A tensor with its last axes together, which have these sizes."""
    if len(sizes) == 1:
        return tensor
    shape = _sizes_of(tensor)
    _fit_sizes(name, shape, shape[-len(sizes) :], sizes)
    return _reshaped(tensor, (*shape[: -len(sizes)], _product(sizes)))


def _unfold_last(tensor: Any, sizes: Sequence[Any]) -> Any:
    """The inverse of `_fold_last`."""
    return tensor if len(sizes) == 1 else _reshaped(tensor, (*_sizes_of(tensor)[:-1], *sizes))


def _sizes_of(tensor: Any) -> Any:
    """The sizes of the axes; with the next three, what a framework says in its own words."""
    return tensor.shape


def _reshaped(tensor: Any, shape: Sequence[Any]) -> Any:
    return tensor.reshape(tuple(shape))


def _transposed(tensor: Any, order: Sequence[int]) -> Any:
    return tensor.transpose(tuple(order))


def _spread(tensor: Any, shape: Sequence[Any]) -> Any:
    return tensor.broadcast_to(tuple(shape))


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


def _seamless(ranges: Iterable[_Range]) -> Iterator[_Range]:
    """The ranges, in order; those that follow on each other as one."""
    low = high = -1
    for first, last in ranges:
        if first != high:
            yield from [(low, high)] if low < high else []
            low = first
        high = last
    yield from [(low, high)] if low < high else []


def _tested(runs: list[_Run]) -> Iterator[tuple[int, int, int]]:
    """The runs that need a test: the column that each begins at, and its keys."""
    column = 0
    for low, high, tested in runs:
        if tested:
            yield column, low, high
        column += high - low
