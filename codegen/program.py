"""The array IR between a spec and its printed code: expression trees over named dims, and a few statements.

Every array node carries its dims, in the order in which the array is laid out. A dim is a size letter of the spec; the
dim `B` stands for any number of leading axes in a batched program (`...`). An axis of size 1 broadcasts where the
spec's layout says `X|1`, so dims are names up to broadcasting. Python scalars (sizes, flags, parameters) have no dims.

A target prints each op by one entry of its table; `OPS` is the closed list of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from attnspec.spec.expression import Expression

Dims = tuple[str, ...]
Attribute = str | int | float | bool | None | tuple[str, ...] | tuple[int, ...]

ELEMENTWISE = frozenset(
    [
        "add",
        "sub",
        "mul",
        "div",
        "floordiv",
        "mod",
        "pow",
        "neg",
        "lt",
        "le",
        "gt",
        "ge",
        "eq",
        "ne",
        "and",
        "or",
        "not",
        "where",
        "min",
        "max",
        "floor",
        "exp",
        "log",
        "tanh",
        "sigmoid",
        "abs",
    ]
)
STRUCTURAL = frozenset(
    [
        "arange",
        "align",
        "split",
        "merge",
        "transpose",
        "einsum",
        "sum",
        "concat",
        "gather",
        "interval",
        "select",
        "regroup",
        "zeros",
        "cast",
        "at_least_float32",
        "dtype_of",
        "added_fill",
        "size",
        "softmax",
        "logsumexp",
        "stop_gradient",
        "dropout",
        "is_empty",
        "broadcast",
        "broadcast_last",
        "drop_last",
        "first_of_last",
        "zeros_like",
        "sum_to",
        "reshape_like",
        "broadcast_like",
        "part",
        "placed",
        "pad_last",
        "scatter_last",
        "softmax_vjp",
        "logsumexp_vjp",
    ]
)
OPS = ELEMENTWISE | STRUCTURAL


@dataclass(frozen=True, slots=True)
class Ref:
    """A variable. `dims` is None for Python scalars."""

    name: str
    dims: Dims | None = None


@dataclass(frozen=True, slots=True)
class Const:
    """A number, or a named fill such as `-inf`."""

    value: int | float | str
    dims: None = None


@dataclass(frozen=True, slots=True)
class Op:
    """One operation; `attributes` are static facts the printer needs (an einsum's subscripts, an axis)."""

    name: str
    arguments: tuple[Node, ...]
    dims: Dims | None
    attributes: tuple[tuple[str, Attribute], ...] = ()

    def __getitem__(self, attribute: str) -> Attribute:
        return dict(self.attributes)[attribute]


Node = Ref | Const | Op


@dataclass(frozen=True, slots=True)
class Assign:
    """`target = value`; `clause` names the stage that owns it."""

    target: Ref
    value: Node
    clause: str = ""


@dataclass(frozen=True, slots=True)
class If:
    """Statements that run where the guard `test` holds; `clause` names the stage that owns the choice."""

    test: Expression
    body: tuple[Statement, ...]
    orelse: tuple[Statement, ...] = ()
    clause: str = ""


@dataclass(frozen=True, slots=True)
class For:
    """One loop over the blocks of a block list: the body sees `start` and `stop` of the block as Python ints."""

    variables: tuple[str, ...]
    over: str
    body: tuple[Statement, ...]
    clause: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A statement about Python values (arguments, sizes, checks) that every target prints alike."""

    text: str
    clause: str = ""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Python ints for the dims that the checks have bound; only those that the rest of the function reads are unpacked."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Derived:
    """A size computed from others (`G = N // K`); printed only where something reads it."""

    name: str
    rule: Expression


@dataclass(frozen=True, slots=True)
class Default:
    """A number argument: `rule` over sizes where it is None, and a checked number otherwise."""

    name: str
    rule: Expression


@dataclass(frozen=True, slots=True)
class Check:
    """Raise the documented error where a precondition fails. `message` is a format string over sizes and arguments.

    `numbers` are the arguments in `fails` that a target may be given as traced values, `sizes` the dims that it may not
    know yet: then there is nothing to check.
    """

    fails: Expression
    raises: str
    message: str
    clause: str
    numbers: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Return:
    """The returned variables, in documented order. `lifted`: the axis of each that goes where the call came without it."""

    values: tuple[Ref, ...]
    lifted: tuple[int, ...] = ()


Statement = Assign | If | For | Line | Sizes | Derived | Default | Check | Return


@dataclass(frozen=True, slots=True)
class Program:
    """One function: its name, its body and the helpers that the printed file needs."""

    name: str
    body: tuple[Statement, ...]
    batched: bool

    def with_body(self, body: tuple[Statement, ...]) -> Program:
        return replace(self, body=body)


def walk(node: Node) -> Iterator[Node]:
    """The node and everything below it."""
    yield node
    if isinstance(node, Op):
        for argument in node.arguments:
            yield from walk(argument)


def statements(body: tuple[Statement, ...]) -> Iterator[Statement]:
    """Every statement, those inside branches and loops too."""
    for statement in body:
        yield statement
        if isinstance(statement, If):
            yield from statements(statement.body)
            yield from statements(statement.orelse)
        elif isinstance(statement, For):
            yield from statements(statement.body)


def nodes(body: tuple[Statement, ...]) -> Iterator[Node]:
    """Every node of every statement."""
    for statement in statements(body):
        if isinstance(statement, Assign):
            yield from walk(statement.value)
        elif isinstance(statement, Return):
            for value in statement.values:
                yield from walk(value)


def reads(body: tuple[Statement, ...]) -> set[str]:
    """Names of the variables that some node reads."""
    return {node.name for node in nodes(body) if isinstance(node, Ref)}
