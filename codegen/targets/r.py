"""R: base R over arrays, in double precision. The table; what R has otherwise than Python is in `codegen/r/`."""

from __future__ import annotations

from attnspec.codegen.index_notation import LoweringError
from attnspec.codegen.printer import Printer, Target
from attnspec.codegen.program import Op, Ref
from attnspec.codegen.r.lines import axes, calling, string, with_axis


def _einsum(printer: Printer, op: Op) -> str:
    left, right = (set(argument.dims or ()) for argument in op.arguments)
    alone = (left ^ right) - set(op.dims or ())
    if alone:
        raise LoweringError(f"r: a sum over {', '.join(sorted(alone))}, which only one factor has, is not supported")
    return calling(".einsum", string(printer.einsum(op)[1:-1]), *(printer.node(argument)[0] for argument in op.arguments))


def _array(printer: Printer, op: Op) -> str:
    """Heads split into groups, or merged: an array of another shape."""
    return calling("array", printer.node(op.arguments[0])[0], printer.shape(op.dims))


def _aperm(printer: Printer, op: Op) -> str:
    source, dims = op.arguments[0].dims, op.dims
    assert source is not None and dims is not None
    return calling("aperm", printer.node(op.arguments[0])[0], calling("c", *(str(source.index(dim) + 1) for dim in dims)))


def _axis(printer: Printer, op: Op) -> str:
    """The axis that an op names, counted from 1."""
    return str(printer.axis(op.arguments[0].dims, op["dim"]) + 1)


def _align(printer: Printer, op: Op) -> str:
    """One axis of size 1 inserted."""
    inserted = op["inserted"]
    assert isinstance(inserted, tuple) and op.dims is not None
    if len(inserted) != 1:
        raise LoweringError(f"r: {len(inserted)} axes inserted at once have no form in R")
    return with_axis(printer.node(op.arguments[0])[0], op.dims.index(str(inserted[0])))


def _dropout(printer: Printer, op: Op) -> str:
    return calling(".dropout", *(printer.node(argument)[0] for argument in op.arguments))


def _sum(printer: Printer, op: Op) -> str:
    return calling(".sum_over", printer.node(op.arguments[0])[0], _axis(printer, op))


def _concat(printer: Printer, op: Op) -> str:
    assert op.dims is not None and isinstance(op["dim"], str)
    axis = op.dims.index(op["dim"]) + 1
    return calling(".concat", str(axis), *(printer.node(argument)[0] for argument in op.arguments))


def _regroup(printer: Printer, op: Op) -> str:
    """Axes that hold several dims taken apart; an axis of 1 that holds none goes."""
    held = (str(axis).split() for axis in op.arguments[0].dims or ())
    groups = (printer.shape(tuple(dims)) for dims in held if not dims[0].isdigit())
    return calling(".apart", printer.node(op.arguments[0])[0], *groups)


def _select(printer: Printer, op: Op) -> str:
    index = op["index"]
    assert isinstance(index, int)
    return calling(".first_at", printer.node(op.arguments[0])[0], str(index + 1))


def _zeros(printer: Printer, op: Op) -> str:
    return calling("array", "0", printer.shape(op["shape"]))


def _size(printer: Printer, op: Op) -> str:
    return f"dim({printer.node(op.arguments[0])[0]})[{_axis(printer, op)}]"


def _gather(printer: Printer, op: Op) -> str:
    table, index = op.arguments
    return calling(".gather_last", printer.node(table)[0], f"{printer.node(index)[0]} + 1")


def _interval(printer: Printer, op: Op) -> str:
    """Positions come in the shape of the logits, and are asked for here in their own."""
    bounds, position = op.arguments
    assert position.dims is not None
    own = f"seq_len({printer.shape(position.dims)}) - 1" if isinstance(position, Ref) else printer.node(position)[0]
    return calling(".interval", printer.node(bounds)[0], own)


def _broadcast(printer: Printer, op: Op) -> str:
    """A piece of a concatenation, repeated along the axes that it lacks."""
    inserted, shape = op.arguments[0], op["shape"]
    piece = inserted.arguments[0] if isinstance(inserted, Op) and inserted.name == "align" else inserted
    return _spread(printer, op, piece.dims, printer.node(piece)[0], printer.shape(shape))


def _broadcast_last(printer: Printer, op: Op) -> str:
    """One column, repeated for every row."""
    column = op.arguments[0]
    column = column.arguments[0] if isinstance(column, Op) and column.name == "align" else column
    assert op.dims is not None
    return _spread(printer, op, column.dims, printer.node(column)[0], printer.shape((*op.dims[:-1], "1")))


def _spread(printer: Printer, op: Op, dims: tuple[str, ...] | None, text: str, shape: str) -> str:
    assert op.dims is not None
    return calling(".spread", text, axes([op.dims.index(dim) + 1 for dim in dims or ()]), shape)


R = Target(
    name="r",
    ops={
        "where": "ifelse({0}, {1}, {2})",
        "min": "min({0}, {1})",
        "max": "max({0}, {1})",
        "floor": "floor({0})",
        "exp": "exp({0})",
        "log": "log({0})",
        "tanh": "tanh({0})",
        "sigmoid": ".sigmoid({0})",
        "abs": "abs({0})",
        "split": _array,
        "merge": _array,
        "transpose": _aperm,
        "einsum": _einsum,
        "sum": _sum,
        "concat": _concat,
        "gather": _gather,
        "interval": _interval,
        "select": _select,
        "regroup": _regroup,
        "zeros": _zeros,
        "pad_last": ".pad_last({0})",
        "softmax": ".softmax({0})",
        "logsumexp": ".logsumexp({0})",
        "dropout": _dropout,
        "align": _align,
        "is_empty": ".is_empty({0})",
        "broadcast": _broadcast,
        "broadcast_last": _broadcast_last,
        "drop_last": ".drop_last({0})",
        "first_of_last": ".any_of_last({0})",
        "size": _size,
        "added_fill": "-1e9",
    },
    guards={
        "is_boolean": "is.logical({0})",
        "is_floating": "is.double({0})",
        "rank": "length(dim({0}))",
        "given": "!is.null({0})",
        "folded": "!is.null(spans)",
    },
    infinity="-Inf",
    float32="",
    fill_max="3.4028234663852886e+38",
    array_type="array",
    imports=(),
)
