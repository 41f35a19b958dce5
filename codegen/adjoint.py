"""Derivatives of the ops: for every array that an expression reads, its gradient as an expression."""

from __future__ import annotations

from collections.abc import Iterator

from attnspec.codegen.index_notation import LoweringError, transpose
from attnspec.codegen.program import ELEMENTWISE, Assign, Const, Node, Op, Ref

_NO_GRADIENT = frozenset(
    {
        "arange",
        "interval",
        "zeros",
        "floor",
        "is_empty",
        "size",
        "dtype_of",
        "at_least_float32",
        "stop_gradient",
        "lt",
        "le",
        "gt",
        "ge",
        "eq",
        "ne",
    }
)

SELF = "<self>"
"""Stands for the value of the node itself, which a rule may use instead of computing it again."""

Leaf = tuple[Ref, Node]


def adjoint(node: Node, upstream: Node, statement: Assign | None) -> Iterator[Leaf]:
    """(leaf, its gradient) for every array leaf that `node` reads, given the gradient of `node`.

    Through elementwise ops the gradient keeps the dims of the result; it is summed over what was broadcast where it
    leaves them.
    """
    if node.dims is None or (isinstance(node, Op) and node.name in _NO_GRADIENT):
        return
    if isinstance(node, Ref):
        yield node, _summed(upstream, node)
    elif isinstance(node, Op):
        gradient = upstream if node.name in {*ELEMENTWISE, "align"} else _summed(upstream, node)
        for argument, part in _rule(node, gradient, statement):
            yield from adjoint(argument, part, statement)


def _summed(gradient: Node, like: Node) -> Node:
    """The gradient summed over the dims that `like` lacks."""
    while isinstance(like, Op) and like.name == "cast":
        like = like.arguments[0]
    return gradient if gradient.dims == like.dims else Op("sum_to", (gradient, like), like.dims)


def _negative(node: Node) -> Node:
    return node.arguments[0] if isinstance(node, Op) and node.name == "neg" else Op("neg", (node,), node.dims)


def _cancelled(product: Node, factor: Node) -> Node | None:
    """`product / factor` where a scalar factor cancels, as in the soft cap's derivative; None where it does not."""
    if not isinstance(product, Op) or product.name != "mul" or factor.dims is not None:
        return None
    left, right = product.arguments
    if factor in (left, right):
        return right if left == factor else left
    inner = _cancelled(left, factor)
    return None if inner is None else Op("mul", (inner, right), product.dims)


def _rule(op: Op, up: Node, statement: Assign | None) -> Iterator[tuple[Node, Node]]:
    """(argument, gradient) pairs of one op."""
    args, dims = op.arguments, up.dims or ()

    def make(name: str, *operands: Node) -> Op:
        return Op(name, operands, dims)

    match op.name:
        case "add":
            yield from ((a, up) for a in args)
        case "sub":
            yield args[0], up
            yield args[1], _negative(up)
        case "neg":
            yield args[0], _negative(up)
        case "mul":
            yield args[0], make("mul", up, args[1])
            yield args[1], make("mul", up, args[0])
        case "div":
            yield args[0], _cancelled(up, args[1]) or make("div", up, args[1])
            yield args[1], _negative(make("div", make("mul", up, op), args[1]))
        case "tanh":
            yield args[0], make("mul", up, make("sub", Const(1), make("pow", op, Const(2))))
        case "exp":
            yield args[0], make("mul", up, op)
        case "log":
            yield args[0], make("div", up, args[0])
        case "sigmoid":
            yield args[0], make("mul", make("mul", up, op), make("sub", Const(1), op))
        case "abs":
            yield args[0], make("where", make("lt", args[0], Const(0)), _negative(up), up)
        case "pow" if isinstance(args[1], Const) and not isinstance(args[1].value, str):
            lower = make("pow", args[0], Const(args[1].value - 1))
            yield args[0], make("mul", make("mul", up, args[1]), lower)
        case "where":
            yield args[1], make("where", args[0], up, Const(0))
            yield args[2], make("where", args[0], Const(0), up)
        case "min" | "max":
            first = make("le" if op.name == "min" else "ge", *args)
            yield args[0], make("where", first, up, Const(0))
            yield args[1], make("where", first, Const(0), up)
        case "cast" | "stop_gradient":
            yield args[0], up
        case "align":
            yield args[0], Op("reshape_like", (Op("sum_to", (up, op), op.dims), args[0]), args[0].dims)
        case "transpose":
            yield args[0], transpose(up, args[0].dims or ())
        case "split":
            yield args[0], Op("merge", (up,), args[0].dims, op.attributes)
        case "merge":
            yield args[0], Op("split", (up,), args[0].dims, op.attributes)
        case "einsum":
            yield args[0], Op("einsum", (up, args[1]), args[0].dims)
            yield args[1], Op("einsum", (args[0], up), args[1].dims)
        case "sum":
            spread = Op("align", (up,), args[0].dims, (("inserted", (str(op["dim"]),)),))
            yield args[0], Op("broadcast_like", (spread, args[0]), args[0].dims)
        case "concat":
            at = dims.index(str(op["dim"]))
            for index, part in enumerate(args):
                own = (part.dims or dims)[at]
                yield part, Op("part", (up, *args), part.dims, (("dim", own), ("index", index)))
        case "broadcast":
            yield args[0], Op("sum_to", (up, args[0]), args[0].dims)
        case "broadcast_last":
            yield args[0], Op("sum_to", (up, args[0]), args[0].dims)
        case "drop_last":
            yield args[0], Op("pad_last", (up,), dims)
        case "select":
            yield args[0], Op("placed", (up, *args), args[0].dims, op.attributes)
        case "pad_last":
            yield args[0], Op("drop_last", (up,), dims)
        case "gather":
            yield args[0], Op("scatter_last", (up, *args), args[0].dims)
        case "softmax":
            yield args[0], make("softmax_vjp", Ref(SELF, dims), up)
        case "logsumexp":
            yield args[0], Op("logsumexp_vjp", (args[0], up), args[0].dims)
        case "dropout":  # linear, and with the same seed the same mask
            yield args[0], Op("dropout", (up, *args[1:]), dims)
        case _:
            raise LoweringError(f"{statement.clause if statement else 'output'}: `{op.name}` has no derivative")
