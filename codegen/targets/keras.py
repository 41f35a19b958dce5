"""Keras: functions of `keras.ops`, one file for all backends, eager, traced or called on symbolic tensors."""

from __future__ import annotations

from collections.abc import Callable

from attnspec.codegen.printer import Printer, Target
from attnspec.codegen.program import Node, Op, Ref
from attnspec.codegen.targets.numpy import NUMPY

_DTYPES = {"float32": '"float32"', "int": "_INTEGER"}


def _cast(printer: Printer, op: Op) -> str:
    (node,), to = op.arguments, str(op["to"])
    if ("tensor", True) in op.attributes:
        return printer.node(node)[0]  # `ops.where` gives a number the dtype of the other branch
    return f"{'_scalar' if node.dims is None else 'ops.cast'}({printer.node(node)[0]}, {_DTYPES.get(to, to)})"


def _einsum(printer: Printer, op: Op) -> str:
    a, b = (f"ops.cast({printer.node(argument)[0]}, compute)" for argument in op.arguments)
    return f"ops.einsum({printer.einsum(op)}, {a}, {b})"


def _reshape(printer: Printer, op: Op) -> str:
    node = op.arguments[0]
    assert op.dims is not None and node.dims is not None
    named = printer.shape(op.dims)
    if printer.batched and op.dims[0] == "B":
        named = f"*{_leading(printer, node)}, {printer.shape(op.dims[1:])}"
    return f"ops.reshape({printer.node(node)[0]}, ({named}))"


def _leading(printer: Printer, node: Node) -> str:
    """The sizes of a tensor's leading axes, any number of them."""
    assert node.dims is not None
    return f"_shape({node.name})[: -{len(node.dims) - 1}]" if isinstance(node, Ref) else 'sizes["..."][0]'


def _over(function: str, dim: str = "dim") -> Callable[[Printer, Op], str]:
    """An op along the axis of a dim of its first argument."""

    def printed(printer: Printer, op: Op) -> str:
        node = op.arguments[0]
        return f"{function}({printer.node(node)[0]}, axis={printer.axis(node.dims, op[dim])})"

    return printed


def _concat(printer: Printer, op: Op) -> str:
    parts = ", ".join(printer.node(argument)[0] for argument in op.arguments)
    axis = printer.axis(op.dims, op["dim"]) if op.dims and op["dim"] != op.dims[-1] else -1
    return f"ops.concatenate(({parts}), axis={axis})"


def _broadcast(printer: Printer, op: Op) -> str:
    return f"ops.broadcast_to({printer.node(op.arguments[0])[0]}, ({printer.shape(op['shape'])}))"


def _zeros(printer: Printer, op: Op) -> str:
    return f"ops.zeros(({printer.shape(op['shape'])}), {printer.node(op.arguments[0])[0]}.dtype)"


def _size(printer: Printer, op: Op) -> str:
    return f"_shape({printer.node(op.arguments[0])[0]})[{printer.axis(op.arguments[0].dims, op['dim'])}]"


def _transpose(printer: Printer, op: Op) -> str:
    return f"ops.transpose({printer.node(op.arguments[0])[0]}, ({printer.permutation(op)}))"


KERAS = Target(
    name="keras",
    ops={
        "not": "~{0}",
        "where": "ops.where({0}, {1}, {2})",
        "min": "ops.minimum({0}, {1})",
        "max": "ops.maximum({0}, {1})",
        "floor": "ops.floor({0})",
        "exp": "ops.exp({0})",
        "log": "ops.log({0})",
        "tanh": "ops.tanh({0})",
        "sigmoid": "ops.sigmoid({0})",
        "abs": "ops.absolute({0})",
        "arange": "ops.arange({0}, dtype=_INTEGER)",
        "align": Printer.aligned,
        "split": _reshape,
        "merge": _reshape,
        "transpose": _transpose,
        "einsum": _einsum,
        "sum": _over("ops.sum"),
        "concat": _concat,
        "gather": "ops.take({0}, {1}, axis=-1)",
        "interval": "_interval({0}, {1})",
        "select": Printer.selected,
        "regroup": _reshape,
        "zeros": _zeros,
        "pad_last": "_pad_last({0})",
        "cast": _cast,
        "at_least_float32": '"float64" if _dtype({0}) == "float64" else "float32"',
        "dtype_of": "{0}.dtype",
        "added_fill": '-65504.0 if _dtype({0}) == "float16" else -1e9',
        "softmax": "_softmax({0})",
        "logsumexp": "ops.logsumexp({0}, axis=-1)",
        "stop_gradient": "ops.stop_gradient({0})",
        "dropout": NUMPY.ops["dropout"],
        "is_empty": "ops.all(ops.isneginf({0}), axis=-1, keepdims=True)",
        "broadcast": _broadcast,
        "broadcast_last": "ops.broadcast_to({0}, (*_shape({1})[:-1], 1))",
        "drop_last": Printer.without_last,
        "first_of_last": "{0}[..., 0]",
        "size": _size,
    },
    guards={
        "is_boolean": '_dtype({0}) == "bool"',
        "is_floating": '_dtype({0}) != "bool"',
        "rank": "{0}.ndim",
        "given": "{0} is not None",
        "folded": "spans",
        "is_integer": "isinstance({0}, int)",
    },
    infinity='float("-inf")',
    float32='"float32"',
    fill_max="3.4028234663852886e38",
    array_type="Tensor",
    imports=("import keras", "from keras import backend, ops"),
    decorator="_operation",
    concrete="_concrete({0})",
    unknown_size="_float({0})",
    explicit_casts=True,
    borrows=("keras_blocks",),
)
