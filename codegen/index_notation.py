"""Index notation to array nodes: `sum(h, query[b,t,n,h] * key[b,s,n//G,h])` becomes an einsum over grouped heads.

A subexpression becomes a node whose dims are the indices it depends on, in one given order; operands are aligned by
inserting axes, so nothing is repeated in memory. `n//G` never gathers: N is split into (K, G) on every operand that
has it, and merged again on the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attnspec.codegen.program import ELEMENTWISE, Const, Dims, Node, Op, Ref
from attnspec.codegen.program import walk as below
from attnspec.spec.expression import Access, Binary, Call, Expression, Name, Number, Sum, Unary, fold, to_text, walk

_BINARY = {
    "+": "add", "-": "sub", "*": "mul", "/": "div", "//": "floordiv", "%": "mod", "**": "pow", "<": "lt", "<=": "le",
    ">": "gt", ">=": "ge", "==": "eq", "!=": "ne", "and": "and", "or": "or",
}  # fmt: skip
_SMOOTH = frozenset({"exp", "log", "tanh", "sigmoid"})
_ELEMENTWISE_CALLS = frozenset({"floor", "min", "max", "exp", "log", "tanh", "sigmoid", "where", "abs"})


class LoweringError(ValueError):
    """A clause that this compiler cannot turn into a program; names the clause and what could not be resolved."""


@dataclass
class Scope:
    """What names mean while one program is lowered: tensors, their canonical dims, and what of indices was used.

    `integers` are the variables that hold integers, `used_intervals` the tensors and indices of which `interval` was asked.
    """

    tensors: Mapping[str, Ref]
    canonical: Mapping[str, Dims]
    indices: Mapping[str, str]
    used_indices: set[str] = field(default_factory=set)
    integers: frozenset[str] = frozenset()
    used_intervals: dict[str, tuple[str, str]] = field(default_factory=dict)


@dataclass
class _Lowering:
    scope: Scope
    order: Dims
    clause: str
    grouped: bool

    def fail(self, expression: Expression, why: str) -> LoweringError:
        return LoweringError(f"{self.clause}: `{to_text(expression)}`: {why}")

    def node(self, expression: Expression) -> Node:
        match expression:
            case Number(value):
                return Const(value)
            case Name(name):
                return self.name(name)
            case Access():
                return self.access(expression)
            case Unary(operator, operand):
                return elementwise("neg" if operator == "-" else "not", (self.node(operand),), self.order)
            case Binary(operator, left, right):
                operands = self.node(left), self.node(right)
                return elementwise(_BINARY[operator], self.same_kind(operator, *operands), self.order)
            case Call(function, arguments) if function in _ELEMENTWISE_CALLS:
                nodes = tuple(self.node(a) for a in arguments)
                return elementwise(function, tuple(map(self.as_floats, nodes)) if function in _SMOOTH else nodes, self.order)
            case Call("interval", (Name(tensor), position)):
                return self.interval(tensor, position)
            case Sum(index, body):
                return self.sum(index, body)
        raise self.fail(expression, "not part of index notation")

    def name(self, name: str) -> Node:
        if name in self.scope.tensors:
            canonical = self.scope.canonical[name]
            if not canonical:  # a single number
                return self.scope.tensors[name]
            return self.access(Access(name, tuple(Name(dim.lower()) for dim in canonical)))
        if name in self.scope.indices:
            return self.index(name)
        return Ref(name)

    def index(self, letter: str) -> Node:
        self.scope.used_indices.add(letter)
        ref = Ref(letter, (self.scope.indices[letter],))
        return split(ref, "N", ("K", "G")) if self.grouped and letter == "n" else ref

    def interval(self, tensor: str, position: Expression) -> Node:
        """Between which two entries of a tensor a position lies; that of an index is a variable of its own."""
        bounds, node = self.scope.tensors[tensor], self.node(position)
        if not isinstance(node, Ref):
            return Op("interval", (bounds, node), node.dims)
        name = f"{bounds.name}_interval_of_{node.name}"
        self.scope.used_intervals[name] = (bounds.name, node.name)
        return Ref(name, node.dims)

    def access(self, access: Access) -> Node:
        tensor = self.scope.tensors.get(access.tensor)
        if tensor is None or tensor.dims is None:
            raise self.fail(access, "no such tensor here")
        canonical = self.scope.canonical[access.tensor]
        plain = [self.plain_index(index) for index in access.indices]
        if isinstance(access.indices[0], Number) and None not in plain[1:] and tensor.dims == canonical:
            dims = tuple(str(dim) for dim in plain[1:])
            return Op("select", (Ref(tensor.name, tensor.dims),), dims, (("index", int(access.indices[0].value)),))
        if None in plain:
            return self.gather(access, tensor, plain)
        renamed = dict(zip(canonical, plain, strict=True))
        node: Node = Ref(tensor.name, tuple(str(renamed[dim]) for dim in tensor.dims))
        return split(node, "N", ("K", "G")) if self.grouped and "N" in (node.dims or ()) else node

    def plain_index(self, index: Expression) -> str | None:
        """The dim that an index runs over, or None for a computed index."""
        match index:
            case Name(letter) if letter in self.scope.indices:
                return self.scope.indices[letter]
            case Binary("//", Name("n"), Name("G")):
                return "K"
        return None

    def gather(self, access: Access, tensor: Ref, plain: list[str | None]) -> Node:
        """The last axes at computed indices, one axis after another: each index makes axes of its own."""
        kept = tuple(dim for dim in plain[: plain.index(None)] if dim)
        if any(plain[len(kept) :]) or tensor.dims != self.scope.canonical[access.tensor]:
            raise self.fail(access, "only the last axes may be indexed by computed indices")
        node: Node = Ref(tensor.name, (*kept, *tensor.dims[len(kept) :]))
        for index, axis in zip(map(self.node, access.indices[len(kept) :]), tensor.dims[len(kept) :], strict=True):
            rest = tuple(dim for dim in node.dims or () if dim != axis)
            if set(rest) & set(index.dims or ()):
                raise self.fail(access, "computed indices must not depend on each other's indices, or on those of other axes")
            node = Op("gather", (transpose(node, (*rest, axis)), index), (*rest, *(index.dims or ())))
        return transpose(node, tuple(dim for dim in self.order if dim in (node.dims or ())))

    def sum(self, index: str, body: Expression) -> Node:
        """A contraction: an einsum where it is a product of two tensors, else a reduction of broadcast operands."""
        summed = [self.scope.indices[index]]
        while isinstance(body, Sum):
            summed.append(self.scope.indices[body.index])
            body = body.body
        factors = product(body)
        inner = _Lowering(self.scope, (*self.order, *summed), self.clause, self.grouped)
        if len(factors) == 2 and all(isinstance(factor, Access) for factor in factors):
            operands = tuple(inner.node(factor) for factor in factors)
            present = {d for operand in operands for d in operand.dims or ()} - set(summed)
            return Op("einsum", operands, tuple(d for d in self.order if d in present))
        node = inner.node(body)
        for dim in summed:
            if dim not in (node.dims or ()):
                raise self.fail(body, f"does not depend on the summed index `{dim.lower()}`")
            node = Op("sum", (node,), tuple(d for d in node.dims or () if d != dim), (("dim", dim),))
        return node

    def same_kind(self, operator: str, left: Node, right: Node) -> tuple[Node, Node]:
        """Index arithmetic that meets floats is cast first: integer arrays would widen them. So is what `/` makes floats of."""
        arrays = left.dims is not None and right.dims is not None
        meets_floats = arrays and self.is_integer(left) != self.is_integer(right)
        if operator == "/" or (operator in "+-*" and meets_floats):
            left, right = self.as_floats(left), self.as_floats(right)
        return left, right

    def is_integer(self, node: Node) -> bool:
        """Whether the node is an array made of indices and tensors of integers alone."""
        return node.dims is not None and all(n.dims is None or self.keeps_integers(n) for n in below(node))

    def keeps_integers(self, node: Node) -> bool:
        """An index grid, `t` over dim `T`, a tensor of integers, or any operation but a cast."""
        if isinstance(node, Op):
            return node.name != "cast"
        assert isinstance(node, Ref)
        return node.dims == (node.name.upper(),) or node.name in self.scope.integers | self.scope.used_intervals.keys()

    def as_floats(self, node: Node) -> Node:
        """The node, cast where it is an array of integers: frameworks disagree on the precision of what they make of those."""
        return Op("cast", (node,), node.dims, (("to", "compute"),)) if self.is_integer(node) else node


def lower(expression: Expression, order: Dims, scope: Scope, clause: str) -> Node:
    """The node of `expression`, with dims a subsequence of `order`. Raises LoweringError."""
    grouped = any(e == Binary("//", Name("n"), Name("G")) for e in walk(expression))
    inner = tuple(d for dim in order for d in (("K", "G") if grouped and dim == "N" else (dim,)))
    node = _Lowering(scope, inner, clause, grouped).node(fold(expression))
    return merge(node, ("K", "G"), "N") if grouped and {"K", "G"} <= set(node.dims or ()) else node


def product(expression: Expression) -> list[Expression]:
    """The factors of a product."""
    if isinstance(expression, Binary) and expression.operator == "*":
        return product(expression.left) + product(expression.right)
    return [expression]


def elementwise(name: str, arguments: tuple[Node, ...], order: Dims) -> Node:
    """An elementwise op over operands that are aligned to their joint dims."""
    present = {dim for argument in arguments for dim in argument.dims or ()}
    if not present:
        return Op(name, arguments, None if all(argument.dims is None for argument in arguments) else ())
    dims = tuple(dim for dim in order if dim in present)
    return Op(name, tuple(align(argument, dims) for argument in arguments), dims)


def align(node: Node, dims: Dims) -> Node:
    """The node with axes inserted so that it broadcasts against `dims`; scalars and trailing dims need none.

    Axes are inserted at the leaves: `t[:, None] < lengths[:, None, None]` rather than `(t < lengths)[:, None]`.
    """
    if node.dims is None:
        return node
    if isinstance(node, Op) and node.name == "align":
        return align(node.arguments[0], dims)
    if isinstance(node, Op) and node.name in ELEMENTWISE:
        if dims[-len(node.dims) :] == node.dims:
            return node
        kept = dims[min(dims.index(dim) for dim in node.dims) :]
        return Op(node.name, tuple(align(argument, kept) for argument in node.arguments), kept)
    node = transpose(node, tuple(dim for dim in dims if dim in node.dims))
    assert node.dims is not None
    if not node.dims or dims[-len(node.dims) :] == node.dims:
        return node
    missing = tuple(dim for dim in dims[dims.index(node.dims[0]) :] if dim not in node.dims)
    kept = dims[dims.index(node.dims[0]) :]
    return Op("align", (node,), kept, (("inserted", missing),))


def transpose(node: Node, dims: Dims) -> Node:
    """The node with its axes in the order of `dims`."""
    if node.dims is None or node.dims == dims:
        return node
    return Op("transpose", (node,), dims)


def split(node: Node, dim: str, parts: tuple[str, str]) -> Node:
    """The node with axis `dim` split into two adjacent axes."""
    assert node.dims is not None
    at = node.dims.index(dim)
    return Op("split", (node,), (*node.dims[:at], *parts, *node.dims[at + 1 :]), (("dim", dim), ("parts", parts)))


def merge(node: Node, parts: tuple[str, str], dim: str) -> Node:
    """The node with two adjacent axes merged into `dim`."""
    assert node.dims is not None
    at = node.dims.index(parts[0])
    if node.dims[at : at + 2] != parts:
        raise LoweringError(f"dims {parts} are not adjacent in {node.dims}")
    return Op("merge", (node,), (*node.dims[:at], dim, *node.dims[at + 2 :]), (("dim", dim), ("parts", parts)))
