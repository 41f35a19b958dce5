"""What common.py checks, where a size may be unknown while a graph is traced: it fits any size, and gives way to a known one.

A target that has such sizes brings `_concrete` and `_maximum`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attnspec.codegen.support.common import _LayoutError, _shapes


def _concrete(*values: Any) -> bool:
    raise NotImplementedError


def _maximum(size: Any, other: Any) -> Any:
    raise NotImplementedError


def _misfit(name: str, shape: Sequence[Any], layouts: Sequence[str], clash: str = "") -> Exception:
    return _LayoutError(f"`{name}` must have shape {_shapes(layouts)}, got {_known(shape)}{clash}")


def _known(shape: Sequence[Any]) -> tuple[int | None, ...]:
    return tuple(size if _concrete(size) else None for size in shape)


def _bind_axis(sizes: dict[str, Any], name: str, shape: Sequence[Any], layouts: Sequence[str], axis: str, size: Any) -> None:
    dim, _, one = axis.partition("|")
    bound, owner = sizes.setdefault(dim, (size, name))
    if not _concrete(bound):
        sizes[dim] = (bound, owner) if one else (size, name)
    elif _concrete(size) and size != bound and not (one and size == 1):
        raise _misfit(name, shape, layouts, f"; {dim} = {bound} is bound by `{owner}`")


def _bind_leading(sizes: dict[str, Any], name: str, leading: tuple[Any, ...], grows: bool) -> None:
    """Broadcast the leading axes of all tensors together; a mask may not add to them."""
    bound, owner = sizes.setdefault("...", (leading if grows else (), name))
    rank = max(len(bound), len(leading))
    pairs = list(zip((1,) * (rank - len(bound)) + bound, (1,) * (rank - len(leading)) + leading, strict=True))
    if (len(leading) > len(bound) and not grows) or not all(_broadcasts(a, b, grows) for a, b in pairs):
        clash = f"which do not broadcast with {_known(bound)} of `{owner}`"
        raise _LayoutError(f"`{name}` has leading axes {_known(leading)}, {clash}")
    sizes["..."] = (tuple(_joint(a, b) for a, b in pairs), owner)


def _broadcasts(bound: Any, size: Any, grows: bool) -> bool:
    return not _concrete(bound, size) or size in (1, bound) or (grows and bound == 1)


def _joint(bound: Any, size: Any) -> Any:
    """The size of two axes that broadcast together."""
    if _concrete(bound, size):
        return size if bound == 1 else bound
    known = [each for each in (bound, size) if _concrete(each) and each != 1]
    return known[0] if known else _maximum(bound, size)
