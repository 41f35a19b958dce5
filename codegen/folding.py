"""Axes that a call names, or that one dim has several of: put together before the stages, taken apart after them.

An argument of role `axes` says which axes of the inputs are together T (of a query) or S (of a key); all others but the last
are B. One that is `several` tells a dim that may be the last axes of what has it. In between nothing knows of either: a call
whose tensors have one axis for each dim passes through as it is.
"""

from __future__ import annotations

from collections.abc import Iterator

from attnspec.codegen.program import Line
from attnspec.spec.model import Argument, Layout, Spec

SPANS = "spans"
"""The variable that knows how axes are put together."""


def axes_argument(spec: Spec) -> Argument | None:
    """The argument that names axes."""
    return next((argument for argument in (*spec.constructor, *spec.arguments) if argument.role == "axes"), None)


def spans_line(spec: Spec) -> Iterator[Line]:
    """How the axes of this call are put together."""
    axes = axes_argument(spec)
    if axes is not None:
        first = {dim: next(a for a in spec.tensor_arguments if dim in a.layouts[0].dims) for dim in "TS"}
        sizes = ", ".join(f"_sizes_of({first[dim].name})" for dim in "TS")
        yield Line(f'{SPANS} = _spans("{axes.name}", {axes.name}, {sizes})')


def several(spec: Spec, layout: Layout) -> Argument | None:
    """The argument that may tell several axes for the last dim of a layout."""
    last = layout.dims[-1:]
    return next((a for a in spec.tellers if a.several and {*last} & {*a.tells}), None)


def folded(spec: Spec, name: str, layout: Layout, text: str) -> str:
    """The text of a tensor with one axis for each dim; `name` is what errors call it."""
    last = several(spec, layout)
    if last is not None:
        text = f'_fold_last("{name}", {text}, {last.axes_name})'
    if axes_argument(spec) is None:
        return text
    if _is_pairs(layout):
        return f'_fold_pairs("{name}", {text}, {SPANS})'
    return f'_fold("{name}", {text}, "{_length(layout)}", {SPANS})' if _length(layout) else text


def unfolded(spec: Spec, layout: Layout, text: str) -> str:
    """The inverse of `folded`."""
    last = several(spec, layout)
    if axes_argument(spec) is not None:
        if _is_pairs(layout):
            text = f"_unfold_pairs({text}, {SPANS})"
        elif _length(layout):
            text = f'_unfold({text}, "{_length(layout)}", {SPANS})'
    return text if last is None else f"_unfold_last({text}, {last.axes_name})"


def unfolding(spec: Spec, name: str, layout: Layout) -> Iterator[Line]:
    """The statement that gives an output its axes."""
    text = unfolded(spec, layout, name)
    if text != name:
        yield Line(f"{name} = {text}")


def _is_pairs(layout: Layout) -> bool:
    """Whether a tensor is about pairs of a query and a key."""
    return {"T", "S"} <= {*layout.dims}


def _length(layout: Layout) -> str:
    """The dim of a length, where a layout has one."""
    return next((dim for dim in layout.dims if dim in ("T", "S")), "")
