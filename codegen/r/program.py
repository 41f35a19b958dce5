"""A program as R runs it: one precision, column-major arrays, any batch axes as a single one, flags that are checked.

R has no numbers but doubles, so casts go. The first axis of its arrays runs fastest: where `n` is split into (k, g), g runs
fastest, so G comes before K. What numpy broadcasts by itself is spread by hand, for which one batch axis is simpler than any
number of them: leading axes become B after the checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from attnspec.codegen.program import Assign, Dims, If, Line, Node, Op, Program, Ref, Sizes, Statement, walk
from attnspec.codegen.prologue import prologue
from attnspec.spec.model import Spec

_SAME = frozenset({"cast", "stop_gradient"})
_UNREAD = frozenset({"dtype", "compute"})


def in_r(spec: Spec, program: Program) -> Program:
    """The program for R."""
    checks = len(tuple(prologue(spec)))
    head, stages = program.body[:checks], program.body[checks:]
    return replace(program, body=(*_flags(spec), *map(_with_batch, head), *_batch(spec), *_block(stages)), batched=False)


def _flags(spec: Spec) -> Iterator[Statement]:
    """`if (NA)` is an error that names nothing, and `if (NULL)` another: an absent flag is FALSE."""
    for argument in (*spec.constructor, *spec.arguments):
        if argument.role in ("flag", "training"):
            check = "_optional_flag" if argument.optional else "_flag"
            yield Line(f'{argument.name} = {check}("{argument.name}", {argument.name})')


def _with_batch(statement: Statement) -> Statement:
    """The sizes with B among them, which stands for all leading axes."""
    return Sizes(tuple(sorted({"B", *statement.names}))) if isinstance(statement, Sizes) else statement


def _batch(spec: Spec) -> Iterator[Statement]:
    for argument in spec.tensor_arguments:
        ranks = [len(layout.axes) for layout in argument.layouts if layout.batched]
        if ranks:
            line = f"{argument.name} = _one_batch_axis(sizes, {argument.name}, {ranks[0]})"
            yield Line(f"if {argument.name} is not None:\n    {line}" if argument.optional else line)


def _block(body: tuple[Statement, ...]) -> tuple[Statement, ...]:
    return tuple(made for statement in body for made in _statement(statement))


def _statement(statement: Statement) -> Iterator[Statement]:
    match statement:
        case Assign(target, value):
            value = _node(value)
            assert isinstance(target, Ref)
            target = replace(target, dims=_dims(target.dims))
            if target.name not in _UNREAD and value != target:
                found: dict[Ref, Node] = {}
                value = _with_indices(value, found)
                yield from (Assign(index, computed, statement.clause) for index, computed in found.items())
                yield replace(statement, target=target, value=value)
        case If(_, body, orelse):
            yield replace(statement, body=_block(body), orelse=_block(orelse))
        case _:
            yield statement


def _node(node: Node) -> Node:
    match node:
        case Op(name, (argument,)) if name in _SAME:
            return _node(argument)
        case Op(_, arguments, dims, attributes):
            attributes = tuple((key, _swapped(value) if key == "parts" else value) for key, value in attributes)
            return replace(node, arguments=tuple(map(_node, arguments)), dims=_dims(dims), attributes=attributes)
        case Ref(_, dims):
            return replace(node, dims=_dims(dims))
    return node


def _with_indices(node: Node, found: dict[Ref, Node]) -> Node:
    """The node with every computed index, and all but the last read, as a variable of its own to be assigned before it."""
    if not isinstance(node, Op):
        return node
    node = replace(node, arguments=tuple(_with_indices(argument, found) for argument in node.arguments))
    if node.name != "gather" or not isinstance(node.arguments[1], Op):
        return node
    table, computed = node.arguments
    if any(isinstance(inner, Op) and inner.name == "gather" for inner in walk(table)):
        table = _named(table, "rows", found)
    return replace(node, arguments=(table, _named(computed, "index", found, of=table)))


def _named(node: Node, what: str, found: dict[Ref, Node], of: Node | None = None) -> Ref:
    """A variable for `node`, called after the tensor that is read: `table_index`, `table_index_2`."""
    origin = next(inner.name for inner in walk(of or node) if isinstance(inner, Ref)).partition("_rows")[0]
    before = sum(ref.name.startswith(f"{origin}_{what}") for ref in found)
    ref = Ref(f"{origin}_{what}{f'_{before + 1}' if before else ''}", node.dims)
    found[ref] = node
    return ref


def _swapped(parts: object) -> tuple[str, ...]:
    assert isinstance(parts, tuple)
    return tuple(reversed(parts))


def _dims(dims: Dims | None) -> Dims | None:
    """G before K, wherever heads are split."""
    if dims is None or not {"K", "G"} <= set(dims):
        return dims
    return tuple({"K": "G", "G": "K"}.get(dim, dim) for dim in dims)
