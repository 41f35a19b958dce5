"""torch: functions over tensors that autograd, compile, export and vmap see through; layers are `nn.Module`s."""

from __future__ import annotations

from collections.abc import Callable

from attnspec.codegen.printer import ATOM, Printer, Target
from attnspec.codegen.program import Op


def _cast(printer: Printer, op: Op) -> str:
    to = op["to"]
    return f"{printer.operand(op.arguments[0], ATOM)}.to({'torch.float32' if to == 'float32' else to})"


def _einsum(printer: Printer, op: Op) -> str:
    a, b = (f"{printer.operand(argument, ATOM)}.to(compute)" for argument in op.arguments)
    return f"torch.einsum({printer.einsum(op)}, {a}, {b})"


def _bounded(bound: str, elementwise: str) -> Callable[[Printer, Op], str]:
    """min and max: `clamp` against a Python scalar, an elementwise op between tensors."""

    def printed(printer: Printer, op: Op) -> str:
        left, right = op.arguments if op.arguments[0].dims is not None else reversed(op.arguments)
        if right.dims is None:
            return f"{printer.operand(left, ATOM)}.clamp({bound}={printer.node(right)[0]})"
        return f"torch.{elementwise}({printer.node(left)[0]}, {printer.node(right)[0]})"

    return printed


def _arange(printer: Printer, op: Op) -> str:
    return f"torch.arange({', '.join(printer.node(bound)[0] for bound in op.arguments)}, device={op['like']}.device)"


def _split(printer: Printer, op: Op) -> str:
    (node,) = op.arguments
    parts = op["parts"]
    assert isinstance(parts, tuple)
    axis = printer.axis(node.dims, op["dim"])
    return f"{printer.operand(node, ATOM)}.unflatten({axis}, ({', '.join(map(str, parts))}))"


def _merge(printer: Printer, op: Op) -> str:
    (node,) = op.arguments
    parts = op["parts"]
    assert isinstance(parts, tuple)
    axis = printer.axis(node.dims, parts[0])
    return f"{printer.operand(node, ATOM)}.flatten({axis}, {axis + 1})"


def _concat(printer: Printer, op: Op) -> str:
    parts = ", ".join(printer.node(argument)[0] for argument in op.arguments)
    axis = printer.axis(op.dims, op["dim"]) if op.dims and op["dim"] != op.dims[-1] else -1
    return f"torch.cat(({parts}), dim={axis})"


def _zeros(printer: Printer, op: Op) -> str:
    return f"{printer.operand(op.arguments[0], ATOM)}.new_zeros(({printer.shape(op['shape'])}))"


def _broadcast(printer: Printer, op: Op) -> str:
    shape = printer.shape(op["shape"])
    return f"{printer.operand(op.arguments[0], ATOM)}.expand({shape})"


def _broadcast_last(printer: Printer, op: Op) -> str:
    column, like = (printer.operand(argument, ATOM) for argument in op.arguments)
    return f"{column}.expand(*{like}.shape[:-1], 1)"


def _dropout(printer: Printer, op: Op) -> str:
    weights, rate, *seed = (printer.node(argument)[0] for argument in op.arguments)
    return f"_dropout({weights}, {rate}, {seed[0]})" if seed else f"torch.dropout({weights}, {rate}, train=True)"


def _transpose(printer: Printer, op: Op) -> str:
    return f"{printer.operand(op.arguments[0], ATOM)}.permute({printer.permutation(op)})"


TORCH = Target(
    name="torch",
    ops={
        "not": "~{0}",
        "where": "torch.where({0}, {1}, {2})",
        "min": _bounded("max", "minimum"),
        "max": _bounded("min", "maximum"),
        "floor": "torch.floor({0})",
        "exp": "torch.exp({0})",
        "log": "torch.log({0})",
        "tanh": "torch.tanh({0})",
        "sigmoid": "torch.sigmoid({0})",
        "abs": "torch.abs({0})",
        "arange": _arange,
        "align": Printer.aligned,
        "split": _split,
        "merge": _merge,
        "transpose": _transpose,
        "einsum": _einsum,
        "sum": Printer.summed,
        "concat": _concat,
        "gather": Printer.gathered,
        "interval": "_interval({0}, {1})",
        "select": Printer.selected,
        "regroup": Printer.reshaped,
        "zeros": _zeros,
        "pad_last": "_pad_last({0})",
        "cast": _cast,
        "at_least_float32": "torch.promote_types({0}.dtype, torch.float32)",
        "dtype_of": "{0}.dtype",
        "added_fill": "-65504.0 if {0}.dtype == torch.float16 else -1e9",
        "softmax": "torch.softmax({0}, dim=-1)",
        "logsumexp": "torch.logsumexp({0}, dim=-1)",
        "stop_gradient": "{0}.detach()",
        "dropout": _dropout,
        "is_empty": "torch.isneginf({0}).all(dim=-1, keepdim=True)",
        "broadcast": _broadcast,
        "broadcast_last": _broadcast_last,
        "drop_last": Printer.without_last,
        "first_of_last": "{0}[..., 0]",
        "size": Printer.size,
        "sum_to": "_sum_to({0}, {1}.shape)",
        "softmax_vjp": "_softmax_vjp({0}, {1})",
    },
    guards={
        "is_boolean": "{0}.dtype == torch.bool",
        "is_floating": "{0}.dtype != torch.bool",
        "rank": "{0}.ndim",
        "given": "{0} is not None",
        "folded": "spans",
    },
    infinity='float("-inf")',
    float32="torch.float32",
    fill_max="torch.finfo(torch.float32).max",
    array_type="Tensor",
    imports=(
        "import torch",
        "from torch import Tensor, nn",
        "from torch.nn.modules.linear import NonDynamicallyQuantizableLinear",
    ),
    decorator="_autocast",
)
