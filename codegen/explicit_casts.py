"""Casts written out, for targets whose operators refuse operands of two dtypes.

Every value has a kind: `bool`, `int` (indices, sizes, integer tensors), `number` (a Python number, which takes the dtype of
what it meets) or the text of a floating dtype: `dtype` of the inputs, `compute` of the logits, `bias.dtype` of an argument
with a dtype of its own. Where kinds meet, the others are cast to the one that the operator computes in.

What is repeated along an axis is repeated in `compute`, for its gradient is a sum, and TensorFlow sums float16 in float16.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from attnspec.codegen.program import ELEMENTWISE, Assign, Const, If, Node, Op, Program, Ref, Statement, nodes
from attnspec.spec.expression import Name
from attnspec.spec.model import Spec

BOOL, INT, NUMBER, COMPUTE = "bool", "int", "number", "compute"
_KINDS = {"bool": BOOL, "bool or number": BOOL, "integer": INT}
_PRECEDENCE = ("dtype", "float32", COMPUTE)
"""Floating kinds that win over those before them, and all of them over an argument's own."""

_MOVES = frozenset({"align", "transpose", "split", "gather", "broadcast", "broadcast_last"})
"""Ops that move or repeat their first operand: it is cast before, so that a gradient is summed in the dtype it is cast to."""

_REPEATS = frozenset({"broadcast", "broadcast_last"})
_LOGIC = frozenset({"and", "or", "not"})
_COMPARISONS = frozenset({"lt", "le", "gt", "ge", "eq", "ne"})
_INTEGERS = frozenset({"arange", "size", "interval"})


_NOTHING: Mapping[str, str] = MappingProxyType({})


def explicit_casts(spec: Spec, program: Program, known: Mapping[str, str] = _NOTHING) -> Program:
    """The program with every cast that its elementwise operators and concatenations need, and none that changes nothing.

    `known` are the kinds of variables that it reads and does not assign.
    """
    return program.with_body(tuple(_Casts(spec, _kinds(spec) | {**known}).block(program.body)))


def _kinds(spec: Spec) -> dict[str, str]:
    """The kinds of arguments and weights."""
    kinds = {argument.name: NUMBER for argument in (*spec.constructor, *spec.arguments) if argument.role == "number"}
    for argument in spec.tensor_arguments:
        shared = argument.dtype == "floating" and (not argument.optional or isinstance(argument.unset, Name))
        own = f"{argument.name}.dtype"
        kinds[argument.name] = "dtype" if shared else _KINDS.get(argument.dtype, own)
    return kinds | {weight.name: f"{weight.name}.dtype" for weight in spec.weights}


@dataclass
class _Casts:
    """One walk down a block; `kinds` are those of the variables so far. What is not in it is a size or an integer."""

    spec: Spec
    kinds: dict[str, str]

    def block(self, body: tuple[Statement, ...]) -> Iterator[Statement]:
        for position, statement in enumerate(body):
            match statement:
                case Assign(Ref("compute")):
                    yield statement
                    yield from self.numbers(body[position:])
                case Assign(target, value):
                    assigned = self.assign(statement)
                    if assigned.value != target or value == target:  # not a cast to what it is already
                        yield assigned
                case If(_, inner, orelse):
                    body, other = self.branches(inner, orelse)
                    yield replace(statement, body=body, orelse=other)
                case _:
                    yield statement

    def numbers(self, body: tuple[Statement, ...]) -> Iterator[Assign]:
        """Numbers that arrays meet may come as tensors, of whatever dtype."""
        read = {argument.name for node in nodes(body) if isinstance(node, Op) for argument in _met(node)}
        for name in (name for name, kind in self.kinds.items() if kind == NUMBER and name in read):
            yield Assign(Ref(name), _cast(Ref(name), COMPUTE))

    def branches(self, *bodies: tuple[Statement, ...]) -> list[tuple[Statement, ...]]:
        """Blocks after which every variable has the kind that it had before; new ones have one from then on."""
        walks = [_Branch(self.spec, dict(self.kinds), frozenset(self.kinds)) for _ in bodies]
        blocks = [tuple(walk.block(body)) for walk, body in zip(walks, bodies, strict=True)]
        for walk in walks:
            self.kinds = walk.kinds | self.kinds
        return blocks

    def assign(self, statement: Assign) -> Assign:
        value, kind = self.node(statement.value)
        self.kinds[statement.target.name] = kind
        return replace(statement, value=value)

    def node(self, node: Node) -> tuple[Node, str]:
        """The node with casts where its operands need them, and its kind."""
        match node:
            case Const(value):
                return node, INT if isinstance(value, int) else NUMBER
            case Ref(name):
                return node, self.kinds.get(name, INT)
        arguments, kinds = zip(*map(self.node, node.arguments), strict=True) if node.arguments else ((), ())
        if node.name == "cast":
            to = str(node["to"])
            return (arguments[0], to) if kinds[0] == to else (replace(node, arguments=arguments), to)
        if node.name in ELEMENTWISE or node.name == "concat":
            return self.joined(node, arguments, kinds)
        kind = _result(node, kinds)
        made = replace(node, arguments=arguments)
        return (_back(_cast(made, COMPUTE), kind) if node.name in _REPEATS and _is_narrow(kind) else made), kind

    def joined(self, node: Op, arguments: tuple[Node, ...], kinds: tuple[str, ...]) -> tuple[Node, str]:
        """An op whose operands (for `where`: whose branches) must be of one kind."""
        if node.name in _LOGIC:
            return replace(node, arguments=arguments), BOOL
        free = 1 if node.name == "where" else 0
        to = _common(kinds[free:], divides=node.name == "div")
        if node.name in ELEMENTWISE and _is_narrow(to) and any(_is_repeated(argument, node) for argument in arguments[free:]):
            to = COMPUTE
        cast = [_as(argument, kind, to) for argument, kind in zip(arguments[free:], kinds[free:], strict=True)]
        if node.name == "where" and arguments[1].dims is None and arguments[2].dims is not None:
            cast[0] = Op("cast", (arguments[1],), None, (("to", to), ("tensor", True)))  # the first branch decides the dtype
        joined = replace(node, arguments=(*arguments[:free], *cast))
        return joined, BOOL if node.name in _COMPARISONS else to


class _Branch(_Casts):
    """A block under a guard; `before` are the variables that there are without it."""

    def __init__(self, spec: Spec, kinds: dict[str, str], before: frozenset[str]) -> None:
        super().__init__(spec, kinds)
        self.before = before

    def assign(self, statement: Assign) -> Assign:
        name, kept = statement.target.name, self.kinds.get(statement.target.name, "")
        assigned = super().assign(statement)
        if name not in self.before or self.kinds[name] == kept:
            return assigned
        self.kinds[name] = kept
        return replace(assigned, value=_cast(assigned.value, kept))


def _met(op: Op) -> Iterator[Ref]:
    """The scalars that an op computes with; a dropout rate only decides."""
    if op.name != "dropout":
        yield from (argument for argument in op.arguments if isinstance(argument, Ref) and argument.dims is None)


def _common(kinds: Iterable[str], divides: bool) -> str:
    """What operands of those kinds are computed in; numbers follow arrays, integers follow floats."""
    present = set(kinds)
    floating = present - {BOOL, INT, NUMBER}
    if floating:
        return max(sorted(floating), key=lambda kind: _PRECEDENCE.index(kind) if kind in _PRECEDENCE else -1)
    if INT in present and (divides or NUMBER in present):
        return COMPUTE
    return next((kind for kind in (INT, BOOL) if kind in present), NUMBER)


def _as(node: Node, kind: str, to: str) -> Node:
    """The node in kind `to`; a number is of any floating kind by itself, and so is an integer that is written out."""
    fits = kind in (to, NUMBER) or isinstance(node, Const)
    return node if fits else _cast(node, to)


def _cast(node: Node, to: str) -> Op:
    """The node in kind `to`, by one cast, as near to its operands as it can be."""
    if isinstance(node, Op):
        if node.name in _MOVES:
            return replace(node, arguments=(_cast(node.arguments[0], to), *node.arguments[1:]))
        if ("back", True) in node.attributes:
            return _cast(node.arguments[0], to)
        if node.name == "cast" and node["to"] == to:
            return node
    return Op("cast", (node,), node.dims, (("to", to),))


def _back(node: Node, kind: str) -> Op:
    """The node in the narrower kind that its operands had: nothing is rounded, so that a cast of it may forget this one."""
    return Op("cast", (node,), node.dims, (("to", kind), ("back", True)))


def _is_narrow(kind: str) -> bool:
    """Whether it is a floating kind that may be narrower than `compute`."""
    return kind not in (BOOL, INT, NUMBER, COMPUTE, "float32")


def _is_repeated(operand: Node, op: Op) -> bool:
    """Whether an elementwise op repeats an operand along some axis."""
    plain = operand.arguments[0] if isinstance(operand, Op) and operand.name == "align" else operand
    return plain.dims is not None and set(plain.dims) < set(op.dims or ())


def _result(op: Op, kinds: tuple[str, ...]) -> str:
    """The kind of an op that does not compute elementwise."""
    if op.name == "einsum":
        return COMPUTE
    if op.name == "is_empty":
        return BOOL
    if op.name == "added_fill":
        return NUMBER
    return INT if op.name in _INTEGERS else kinds[0]
