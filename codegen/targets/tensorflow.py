"""TensorFlow: functions over tensors, eager or traced with sizes that are not known yet; layers are `tf.Module`s."""

from __future__ import annotations

from collections.abc import Callable

from attnspec.codegen.printer import Printer, Target
from attnspec.codegen.program import Const, Node, Op, Ref
from attnspec.codegen.targets.numpy import NUMPY

_DTYPES = {"float32": "tf.float32", "int": "tf.int64"}


def _cast(printer: Printer, op: Op) -> str:
    (node,), to = op.arguments, str(op["to"])
    function = "tf.cast" if node.dims is not None else "_scalar"
    if ("tensor", True) in op.attributes:
        function = "tf.constant" if isinstance(node, Const) else "tf.convert_to_tensor"
    return f"{function}({printer.node(node)[0]}, {_DTYPES.get(to, to)})"


def _einsum(printer: Printer, op: Op) -> str:
    a, b = (f"tf.cast({printer.node(argument)[0]}, compute)" for argument in op.arguments)
    return f"tf.einsum({printer.einsum(op)}, {a}, {b})"


def _bounded(function: str) -> Callable[[Printer, Op], str]:
    """min and max: the tensor comes first, for the first operand decides the dtype."""

    def printed(printer: Printer, op: Op) -> str:
        left, right = op.arguments if op.arguments[0].dims is not None else reversed(op.arguments)
        return f"tf.{function}({printer.node(left)[0]}, {printer.node(right)[0]})"

    return printed


def _reshape(printer: Printer, op: Op) -> str:
    node = op.arguments[0]
    assert op.dims is not None and node.dims is not None
    named = printer.shape(op.dims)
    if printer.batched and op.dims[0] == "B":
        named = f"*{_leading(printer, node)}, {printer.shape(op.dims[1:])}"
    return f"tf.reshape({printer.node(node)[0]}, ({named}))"


def _leading(printer: Printer, node: Node) -> str:
    """The sizes of a tensor's leading axes, any number of them."""
    assert node.dims is not None
    return f"_shape({node.name})[: -{len(node.dims) - 1}]" if isinstance(node, Ref) else 'sizes["..."][0]'


def _sum(printer: Printer, op: Op) -> str:
    return f"tf.reduce_sum({printer.node(op.arguments[0])[0]}, axis={printer.axis(op.arguments[0].dims, op['dim'])})"


def _concat(printer: Printer, op: Op) -> str:
    parts = ", ".join(printer.node(argument)[0] for argument in op.arguments)
    axis = printer.axis(op.dims, op["dim"]) if op.dims and op["dim"] != op.dims[-1] else -1
    return f"tf.concat(({parts}), axis={axis})"


def _broadcast(printer: Printer, op: Op) -> str:
    return f"tf.broadcast_to({printer.node(op.arguments[0])[0]}, ({printer.shape(op['shape'])}))"


def _zeros(printer: Printer, op: Op) -> str:
    return f"tf.zeros(({printer.shape(op['shape'])}), {printer.node(op.arguments[0])[0]}.dtype)"


def _size(printer: Printer, op: Op) -> str:
    return f"_shape({printer.node(op.arguments[0])[0]})[{printer.axis(op.arguments[0].dims, op['dim'])}]"


def _transpose(printer: Printer, op: Op) -> str:
    return f"tf.transpose({printer.node(op.arguments[0])[0]}, ({printer.permutation(op)}))"


TENSORFLOW = Target(
    name="tensorflow",
    ops={
        "not": "~{0}",
        "where": "tf.where({0}, {1}, {2})",
        "min": _bounded("minimum"),
        "max": _bounded("maximum"),
        "floor": "tf.floor({0})",
        "exp": "tf.exp({0})",
        "log": "tf.math.log({0})",
        "tanh": "tf.tanh({0})",
        "sigmoid": "tf.sigmoid({0})",
        "abs": "tf.abs({0})",
        "arange": "tf.range({0}, dtype=tf.int64)",
        "align": Printer.aligned,
        "split": _reshape,
        "merge": _reshape,
        "transpose": _transpose,
        "einsum": _einsum,
        "sum": _sum,
        "concat": _concat,
        "gather": "tf.gather({0}, {1}, axis=-1)",
        "interval": "_interval({0}, {1})",
        "select": Printer.selected,
        "regroup": _reshape,
        "zeros": _zeros,
        "pad_last": "_pad_last({0})",
        "cast": _cast,
        "at_least_float32": "tf.float64 if {0}.dtype == tf.float64 else tf.float32",
        "dtype_of": "{0}.dtype",
        "added_fill": "-65504.0 if {0}.dtype == tf.float16 else -1e9",
        "softmax": "tf.nn.softmax({0}, axis=-1)",
        "logsumexp": "tf.reduce_logsumexp({0}, axis=-1)",
        "stop_gradient": "tf.stop_gradient({0})",
        "dropout": NUMPY.ops["dropout"],
        "is_empty": 'tf.reduce_all(tf.equal({0}, float("-inf")), axis=-1, keepdims=True)',
        "broadcast": _broadcast,
        "broadcast_last": "tf.broadcast_to({0}, (*_shape({1})[:-1], 1))",
        "drop_last": Printer.without_last,
        "first_of_last": "{0}[..., 0]",
        "size": _size,
    },
    guards={
        "is_boolean": "{0}.dtype == tf.bool",
        "is_floating": "{0}.dtype != tf.bool",
        "rank": "{0}.shape.rank",
        "given": "{0} is not None",
        "folded": "spans",
    },
    infinity='float("-inf")',
    float32="tf.float32",
    fill_max="float(tf.float32.max)",
    array_type="tf.Tensor",
    imports=("import tensorflow as tf",),
    decorator="tf.autograph.experimental.do_not_convert",
    concrete="_concrete({0})",
    unknown_size="_float({0})",
    explicit_casts=True,
)
