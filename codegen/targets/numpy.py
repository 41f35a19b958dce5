"""NumPy: plain functions, each with an explicit `vjp` beside it."""

from __future__ import annotations

from attnspec.codegen.printer import ATOM, Printer, Target
from attnspec.codegen.program import Op


def _cast(printer: Printer, op: Op) -> str:
    to = op["to"]
    return f"{printer.operand(op.arguments[0], ATOM)}.astype({'np.float32' if to == 'float32' else to})"


def _einsum(printer: Printer, op: Op) -> str:
    a, b = (printer.node(argument)[0] for argument in op.arguments)
    return f"np.einsum({printer.einsum(op)}, {a}, {b}, dtype=compute)"


def _concat(printer: Printer, op: Op) -> str:
    parts = ", ".join(printer.node(argument)[0] for argument in op.arguments)
    axis = printer.axis(op.dims, op["dim"]) if op.dims and op["dim"] != op.dims[-1] else -1
    return f"np.concatenate(({parts}), axis={axis})"


def _broadcast(printer: Printer, op: Op) -> str:
    shape = printer.shape(op["shape"])
    return f"np.broadcast_to({printer.node(op.arguments[0])[0]}, ({shape}))"


def _broadcast_last(printer: Printer, op: Op) -> str:
    column, like = (printer.operand(argument, ATOM) for argument in op.arguments)
    return f"np.broadcast_to({column}, (*{like}.shape[:-1], 1))"


def _zeros(printer: Printer, op: Op) -> str:
    return f"np.zeros(({printer.shape(op['shape'])}), {printer.operand(op.arguments[0], ATOM)}.dtype)"


def _placed(printer: Printer, op: Op) -> str:
    """The gradient of one entry of an array's first axis."""
    gradient, whole = (printer.node(argument)[0] for argument in op.arguments)
    return f"_placed({gradient}, {whole}.shape, {op['index']})"


def _part(printer: Printer, op: Op) -> str:
    """The gradient of one piece of a concatenation."""
    gradient, *parts = (printer.node(argument)[0] for argument in op.arguments)
    return f"_part({gradient}, {printer.axis(op.dims, op['dim'])}, {op['index']}, ({', '.join(parts)}))"


def _dropout(printer: Printer, op: Op) -> str:
    return f"_dropout({', '.join(printer.node(argument)[0] for argument in op.arguments)})"


def _arange(printer: Printer, op: Op) -> str:
    return f"np.arange({', '.join(printer.node(bound)[0] for bound in op.arguments)})"


def _transpose(printer: Printer, op: Op) -> str:
    return f"{printer.operand(op.arguments[0], ATOM)}.transpose({printer.permutation(op)})"


NUMPY = Target(
    name="numpy",
    ops={
        "not": "~{0}",
        "where": "np.where({0}, {1}, {2})",
        "min": "np.minimum({0}, {1})",
        "max": "np.maximum({0}, {1})",
        "floor": "np.floor({0})",
        "exp": "np.exp({0})",
        "log": "np.log({0})",
        "tanh": "np.tanh({0})",
        "sigmoid": "_sigmoid({0})",
        "abs": "np.abs({0})",
        "arange": _arange,
        "align": Printer.aligned,
        "split": Printer.reshaped,
        "merge": Printer.reshaped,
        "transpose": _transpose,
        "einsum": _einsum,
        "sum": Printer.summed,
        "concat": _concat,
        "gather": Printer.gathered,
        "interval": "_interval({0}, {1})",
        "select": Printer.selected,
        "regroup": Printer.reshaped,
        "zeros": _zeros,
        "cast": _cast,
        "at_least_float32": "np.promote_types({0}.dtype, np.float32)",
        "dtype_of": "{0}.dtype",
        "added_fill": "-65504.0 if {0}.dtype == np.float16 else -1e9",
        "softmax": "_softmax({0})",
        "logsumexp": "_logsumexp({0})",
        "stop_gradient": "{0}",
        "dropout": _dropout,
        "is_empty": "np.isneginf({0}).all(axis=-1, keepdims=True)",
        "broadcast": _broadcast,
        "broadcast_last": _broadcast_last,
        "drop_last": Printer.without_last,
        "first_of_last": "{0}[..., 0]",
        "size": Printer.size,
        "zeros_like": "np.zeros_like({0}, dtype=compute)",
        "sum_to": "_sum_to({0}, {1}.shape)",
        "reshape_like": "{0}.reshape({1}.shape)",
        "broadcast_like": "np.broadcast_to({0}, {1}.shape)",
        "part": _part,
        "placed": _placed,
        "pad_last": "_pad_last({0})",
        "scatter_last": "_scatter_last({0}, {1}.shape, {2})",
        "softmax_vjp": "_softmax_vjp({0}, {1})",
        "logsumexp_vjp": "_logsumexp_vjp({0}, {1})",
    },
    guards={
        "is_boolean": "{0}.dtype == bool",
        "is_floating": "{0}.dtype != bool",
        "rank": "{0}.ndim",
        "given": "{0} is not None",
        "folded": "spans",
    },
    infinity="-np.inf",
    float32="np.float32",
    fill_max="np.finfo(np.float32).max",
    array_type="np.ndarray",
    imports=("import numpy as np",),
)
